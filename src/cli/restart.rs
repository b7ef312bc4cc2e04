//! `glassbox restart`: stop containers and start them again.
//!
//! Read next: `targets.rs` (the flags), [`crate::containers::lifecycle`].

use super::targets::StopFlags;
use crate::containers::{attach::Wants, events};
use crate::error::Result;

/// Stop one or more containers and start them again
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox restart web")]
pub struct Args {
    #[command(flatten)]
    flags: StopFlags,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    args.flags.stop(|store, container| {
        super::start::begin(store, container, Wants::default(), Default::default())?;
        events::of(container, "restart", &[]);
        Ok(())
    })
}
