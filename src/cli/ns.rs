//! `glassbox ns` (being written).

use crate::error::Result;

/// Namespaces.
#[derive(clap::Args)]
pub struct Args {}

/// Runs it.
pub fn run(_: Args) -> Result<u8> {
    Ok(0)
}
