//! `glassbox top`: the processes of a container, as the host sees them.
//!
//! Read next: [`crate::containers::processes`].

use crate::containers::{processes, reconcile, store::Store};
use crate::error::Result;
use crate::ui::{self, Table};
use std::path::PathBuf;

/// List the processes of a running container
///
/// PID and PPID are the host's numbers; INSIDE is the number in the container's own pid namespace.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox top web
  glassbox top web -o pid,comm,wchan
  glassbox top --json web")]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
    /// Options of the host's ps: its columns then, in place of ours
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let container = Store::open(args.root.as_deref())?.find(&args.container)?;
    let status = reconcile::status(&container)?;
    if status.phase != crate::containers::Phase::Paused {
        container.must_run(&status)?;
    }
    let list = processes::of(&container, &status)?;
    if !args.options.is_empty() {
        ui::out(processes::by_ps(&list, &args.options)?);
        return Ok(0);
    }
    if args.json {
        ui::print_json(&list);
        return Ok(0);
    }
    let mut table = Table::new(&["uid", "pid", "ppid", "inside", "state", "rss", "time", "cmd"]);
    for p in list {
        table.row([
            p.user,
            p.pid.to_string(),
            p.parent.to_string(),
            p.inside.map_or("-".into(), |n| n.to_string()),
            p.state,
            format!("{}K", p.rss_kib),
            format!("{:02}:{:02}:{:02}", p.cpu_seconds / 3600, p.cpu_seconds / 60 % 60, p.cpu_seconds % 60),
            p.command,
        ]);
    }
    ui::out(table);
    Ok(0)
}
