//! `glassbox rename`: another name for a container.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{lifecycle, store::Store};
use crate::error::Result;
use std::path::PathBuf;

/// Give a container another name
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox rename web www")]
pub struct Args {
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
    /// The new name
    new_name: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    lifecycle::rename(&store, &store.find(&args.container)?, &args.new_name)?;
    Ok(0)
}
