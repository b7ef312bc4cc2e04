//! `glassbox kill`: send a signal to the first process of containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use super::targets::Targets;
use crate::containers::{flags, lifecycle};
use crate::error::Result;

/// Kill one or more running containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox kill web
  glassbox kill -s HUP web")]
pub struct Args {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    #[command(flatten)]
    targets: Targets,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let signal = flags::signal(&args.signal)?;
    args.targets.each(|_, container| lifecycle::kill(container, signal))
}
