//! `glassbox ns ls`. What it does is in its help. The work is
//! [`crate::namespaces::survey::Survey`]'s. Read next: `tree.rs`.

use super::target::resolve;
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::namespaces::survey::{Namespace, Survey};
use crate::namespaces::{Kind, Target};
use crate::ui::{self, Table};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// List namespaces: who is in each, who owns it, and why it exists.
///
/// Also those that no process is in: bind mounts in any mount namespace, open descriptors,
/// threads, sockets and namespaces below keep a namespace alive, and the last column says which.
/// As an ordinary user, only what may be read is listed; the rest is counted on stderr.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  glassbox ns ls                       all of this host
  glassbox ns ls --type net            only network namespaces
  glassbox ns ls --unpeopled           only those that no process is in
  glassbox ns ls 4211                  those of process 4211
  glassbox ns ls --format '{{.type}} {{.id}} {{len .processes}}'
  glassbox ns ls --json | jq '.namespaces[] | select(.processes == [])'")]
pub struct Args {
    /// Only this type: user, mnt, uts, ipc, pid, net, cgroup or time. Repeatable.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kinds: Vec<Kind>,
    /// Only those that no process is in.
    #[arg(long)]
    unpeopled: bool,
    /// Print JSON: {"namespaces": […], "unread": […]}.
    #[arg(long)]
    json: bool,
    /// Print the ids alone.
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
    /// A template for each line, in docker's language.
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<String>,
    /// Do not shorten commands and reasons.
    #[arg(long)]
    no_trunc: bool,
    /// Where glassbox keeps its state, to find a container by.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Only the namespaces of this process or container, or the one behind this file.
    target: Option<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let target = args
        .target
        .as_deref()
        .map(|t| resolve(t, args.root.as_deref()))
        .transpose()?;
    let mut survey = Survey::of_host()?;
    let kinds: BTreeSet<Kind> = args.kinds.iter().copied().collect();
    survey.namespaces.retain(|n| {
        (kinds.is_empty() || kinds.contains(&n.kind)) && (!args.unpeopled || n.is_unpeopled())
    });
    match &target {
        Some(Target::Process(pid)) => {
            survey.namespaces.retain(|n| n.processes.contains(pid));
            if survey.namespaces.is_empty() && !args.unpeopled {
                return Err(Error::new(format!("cannot read the namespaces of process {pid}"))
                    .hint("it has ended, or reading them needs root (ptrace(2))"));
            }
        }
        Some(Target::File(path)) => {
            let id = std::fs::metadata(path).map(|m| m.ino());
            let id = id.map_err(|e| {
                Error::kind(ErrorKind::NotFound, format!("cannot look at {}", path.display()))
                    .caused_by(e)
            })?;
            survey.namespaces.retain(|n| n.id == id);
            if survey.namespaces.is_empty() {
                let message = format!("{} is not a namespace file", path.display());
                return Err(Error::kind(ErrorKind::Usage, message).topic("namespaces"));
            }
        }
        None => {}
    }
    if args.json {
        ui::print_json(&survey);
    } else if args.quiet {
        let ids: BTreeSet<u64> = survey.namespaces.iter().map(|n| n.id).collect();
        for id in ids {
            ui::out(id);
        }
    } else {
        match &args.format {
            Some(template) => {
                let rows = survey.namespaces.iter().map(serde_json::to_value);
                let rows: Vec<_> = rows.collect::<std::result::Result<_, _>>()
                    .context("cannot write JSON")?;
                let rows = ui::template::rows(template, &rows, &[])?;
                if !rows.is_empty() {
                    ui::out(rows);
                }
            }
            None => ui::out(table(&survey.namespaces, args.no_trunc)),
        }
        for unread in &survey.unread {
            ui::warn(unread);
        }
    }
    Ok(0)
}

fn table(namespaces: &[Namespace], whole: bool) -> Table {
    let mut table = Table::new(&["id", "type", "procs", "pid", "command", "owner", "why it exists"]);
    for n in namespaces {
        let pid = n.oldest.as_ref().map_or("-".into(), |p| p.pid.to_string());
        let command = n.oldest.as_ref().map_or("-", |p| p.command.as_str());
        let owner = match (n.owner, &n.owner_unread) {
            (Some(id), _) => id.to_string(),
            (None, Some(_)) => "?".into(),
            (None, None) => "-".into(),
        };
        let mark = if n.ours { "*" } else { "" };
        table.row([
            format!("{}{mark}", n.id),
            n.kind.to_string(),
            n.processes.len().to_string(),
            pid,
            shorten(command, if whole { usize::MAX } else { 28 }),
            owner,
            shorten(&n.why_alive(), if whole { usize::MAX } else { 72 }),
        ]);
    }
    table
}

/// At most `most` characters, the last one an ellipsis where something is left out.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}
