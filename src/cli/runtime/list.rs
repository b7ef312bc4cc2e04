//! `glassbox runtime list` and `ps`: the containers, and the processes of one.
//!
//! Read next: [`crate::runtime::store`].

use super::Common;
use super::act::FullState;
use crate::cgroups::lifecycle;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::ui::{self, Table};
use std::collections::BTreeSet;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}

#[derive(clap::Args)]
pub(super) struct ListArgs {
    /// How
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

#[derive(clap::Args)]
pub(super) struct PsArgs {
    /// A table by ps(1), or the process ids as JSON
    #[arg(short, long, value_enum, default_value = "table")]
    format: Format,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Options for ps(1)
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(super) fn list(args: &ListArgs, common: &Common) -> Result<u8> {
    let host = Host::detect()?;
    let containers = common.root.list()?;
    if args.quiet {
        containers.iter().for_each(|c| ui::out(&c.record.id));
        return Ok(0);
    }
    // One that is deleted meanwhile is left out.
    let all: Vec<FullState> = containers.iter().filter_map(|c| FullState::of(c, &host).ok()).collect();
    if args.format == Format::Json {
        ui::print_json(&all);
        return Ok(0);
    }
    let mut table = Table::new(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for c in &all {
        let state = c.state();
        table.row([
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            c.created().to_string(),
            c.owner().to_string(),
        ]);
    }
    ui::out(table);
    Ok(0)
}

pub(super) fn ps(args: &PsArgs, common: &Common) -> Result<u8> {
    let container = common.root.find(&args.id)?;
    let host = Host::detect()?;
    let pids: BTreeSet<i32> = match container.group(&host)? {
        Some(group) => lifecycle::all_pids(&group),
        None if container.is_alive() => [container.record.pid].into(),
        None => BTreeSet::new(),
    };
    if args.format == Format::Json {
        ui::print_json(&pids);
        return Ok(0);
    }
    let options = match args.options.is_empty() {
        true => vec!["-ef".to_string()],
        false => args.options.clone(),
    };
    let output = Command::new("ps")
        .args(&options)
        .output()
        .context("cannot run ps(1)")
        .map_err(|e| e.hint("--format json needs no ps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("ps failed: {}", said.trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_whitespace()
        .position(|c| c == "PID")
        .ok_or_else(|| Error::kind(Kind::Usage, "the output of ps has no column PID"))?;
    ui::out(heading);
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|p| p.parse().ok());
        if pid.is_some_and(|p: i32| pids.contains(&p)) {
            ui::out(line);
        }
    }
    Ok(0)
}
