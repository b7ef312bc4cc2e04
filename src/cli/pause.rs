//! `glassbox pause`: freeze all processes of containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// Freeze all processes of one or more containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox pause web")]
pub struct Args {
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
    super::each(&args.containers, |name| {
        lifecycle::pause(&store.find(name)?)?;
        ui::out(name);
        Ok(())
    })
}
