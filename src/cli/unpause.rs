//! `glassbox unpause`: let frozen containers go on.
//!
//! Read next: [`crate::containers::lifecycle`].

use super::targets::Targets;
use crate::containers::lifecycle;
use crate::error::Result;

/// Let the processes of one or more paused containers go on
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox unpause web")]
pub struct Args {
    #[command(flatten)]
    targets: Targets,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    args.targets.each(|_, container| lifecycle::unpause(container))
}
