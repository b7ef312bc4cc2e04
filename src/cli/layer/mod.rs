//! `glassbox layer`: stage 3, layers.
//!
//! Read next: `archive.rs`; the module behind it is [`crate::layers`].

use crate::error::Result;

/// Layers.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: Args) -> Result<u8> {
    Ok(0)
}
