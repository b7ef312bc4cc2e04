//! `glassbox pause`: freeze all processes of containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use super::targets::Targets;
use crate::containers::lifecycle;
use crate::error::Result;

/// Freeze all processes of one or more containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox pause web")]
pub struct Args {
    #[command(flatten)]
    targets: Targets,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    args.targets.each(|_, container| lifecycle::pause(container))
}
