//! `glassbox wait`: block until containers end (or run, or are healthy), and print their exit
//! statuses.
//!
//! Read next: [`crate::containers::wait`].

use crate::containers::store::Store;
use crate::containers::wait::{self, Condition};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// Wait until one or more containers end, and print their exit statuses
///
/// One after the other; -1 is printed for a container that has not ended.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox wait web
  glassbox wait --condition healthy db && glassbox start web")]
pub struct Args {
    /// Wait for this instead
    #[arg(long, value_name = "CONDITION", default_value = "not-running")]
    condition: Condition,
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
        ui::out(wait::wait(&store.find(name)?, args.condition)?);
        Ok(())
    })
}
