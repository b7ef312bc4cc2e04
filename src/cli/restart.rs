//! `glassbox restart`: stop containers and start them again.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{attach::Wants, flags, lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// Stop one or more containers and start them again
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox restart web")]
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
        let container = store.find(name)?;
        lifecycle::stop(&container, args.time, signal)?;
        super::start::begin(&store, &container, Wants::default(), Default::default())?;
        ui::out(name);
        Ok(())
    })
}
