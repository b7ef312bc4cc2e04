//! `glassbox stop`: ask containers to end, and kill those that do not.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{flags, lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// Stop one or more running containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox stop web
  glassbox stop -t 2 web db")]
pub struct Args {
    /// Seconds to wait before it is killed (-1: for ever)
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Signal to send first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let signal = args.signal.as_deref().map(flags::signal).transpose()?;
    super::each(&args.containers, |name| {
        lifecycle::stop(&store.find(name)?, args.time, signal)?;
        ui::out(name);
        Ok(())
    })
}
