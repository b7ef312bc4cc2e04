//! `glassbox diff`: what a container has changed.
//!
//! Read next: [`crate::containers::files::changes`].

use crate::containers::{files::changes, store::Store};
use crate::error::Result;
use crate::ui;
use std::path::PathBuf;

/// List what a container has changed in its root file system
///
/// A: added, C: changed, D: deleted. What is mounted in it is no part of it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox diff web
  glassbox diff --json web | jq '.[] | select(.kind == \"A\")'")]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let list = changes::changes(&store, &store.find(&args.container)?)?;
    if args.json {
        ui::print_json(&list);
        return Ok(0);
    }
    for change in list {
        ui::out(format_args!("{} {}", change.kind.letter(), change.path.display()));
    }
    Ok(0)
}
