//! `glassbox kill`: send a signal to the first process of containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{flags, lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// Kill one or more running containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox kill web
  glassbox kill -s HUP web")]
pub struct Args {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
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
    let signal = flags::signal(&args.signal)?;
    super::each(&args.containers, |name| {
        lifecycle::kill(&store.find(name)?, signal)?;
        ui::out(name);
        Ok(())
    })
}
