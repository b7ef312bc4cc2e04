//! `glassbox stop`: ask containers to end, and kill those that do not.
//!
//! Read next: `targets.rs` (the flags), [`crate::containers::lifecycle`].

use super::targets::StopFlags;
use crate::error::Result;

/// Stop one or more running containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox stop web
  glassbox stop -t 2 web db")]
pub struct Args {
    #[command(flatten)]
    flags: StopFlags,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    args.flags.stop(|_, _| Ok(()))
}
