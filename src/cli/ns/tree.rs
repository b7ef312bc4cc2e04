//! `glassbox ns tree`. What it does is in its help. The work is
//! [`crate::namespaces::survey::Trees`]'. Read next: `ls.rs`.

use super::ls::shorten;
use crate::error::Result;
use crate::namespaces::Kind;
use crate::namespaces::survey::{Namespace, Node, Survey, Trees};
use crate::ui::{self, Style, styled};

/// Show who owns which namespace, and how pid namespaces nest.
///
/// Capabilities are held in a user namespace, and reach what it owns and everything below it; so
/// the first tree is the one that decides who may do what. A process is seen in its own pid
/// namespace and in all above it; that is the second tree.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  glassbox ns tree
  glassbox ns tree --pid               only the pid namespaces
  glassbox ns tree --json | jq '.owners[0].below[].type'")]
pub struct Args {
    /// Only the tree of owners.
    #[arg(long, conflicts_with = "pid")]
    owner: bool,
    /// Only the tree of pid namespaces.
    #[arg(long)]
    pid: bool,
    /// Print JSON: {"owners": […], "pids": […]}; a node is a namespace with "below".
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let survey = Survey::of_host()?;
    let mut trees = Trees::of(&survey);
    if args.owner {
        trees.pids.clear();
    }
    if args.pid {
        trees.owners.clear();
    }
    if args.json {
        ui::print_json(&trees);
        return Ok(0);
    }
    let colour = ui::colour_stdout();
    let mut lines = Vec::new();
    for (nodes, heading) in [
        (&trees.owners, "user namespaces and what they own"),
        (&trees.pids, "pid namespaces"),
    ] {
        if nodes.is_empty() {
            continue;
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(styled(heading, Style::Strong, colour));
        let last = nodes.len() - 1;
        for (i, node) in nodes.iter().enumerate() {
            draw(node, "", i == last, colour, &mut lines);
        }
    }
    ui::out(lines.join("\n"));
    for unread in &survey.unread {
        ui::warn(unread);
    }
    Ok(0)
}

fn draw(node: &Node, indent: &str, is_last: bool, colour: bool, lines: &mut Vec<String>) {
    let branch = if is_last { "└─ " } else { "├─ " };
    lines.push(format!("{indent}{branch}{}", line(node.namespace, colour)));
    let indent = format!("{indent}{}", if is_last { "   " } else { "│  " });
    for (i, below) in node.below.iter().enumerate() {
        draw(below, &indent, i + 1 == node.below.len(), colour, lines);
    }
}

fn line(n: &Namespace, colour: bool) -> String {
    let mut text = format!("{} {}", styled(n.kind, Style::Name, colour), n.id);
    if n.ours {
        text += &styled(" (ours)", Style::Good, colour);
    }
    if let (Kind::User, Some(uid)) = (n.kind, n.owner_uid) {
        text += &format!("  made by uid {uid}");
    }
    match &n.oldest {
        Some(oldest) => {
            let count = n.processes.len();
            let plural = if count == 1 { "" } else { "es" };
            text += &format!(
                "  {count} process{plural}, first {} {}",
                oldest.pid,
                shorten(&oldest.command, 40)
            );
        }
        None => text += &format!("  {}", styled(n.why_alive(), Style::Dim, colour)),
    }
    if let Some(why) = &n.owner_unread {
        text += &styled(format!("  (owner unknown: {why})"), Style::Dim, colour);
    }
    text
}
