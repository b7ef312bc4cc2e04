//! `glassbox rm`: remove containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{lifecycle, store::Store};
use crate::error::{Kind, Result};
use crate::ui;
use std::path::PathBuf;

/// Remove one or more containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox rm web
  glassbox rm -f $(glassbox ps -aq)")]
pub struct Args {
    /// Kill it first if it runs; one that does not exist is no error
    #[arg(short, long)]
    force: bool,
    /// Remove its volumes without a name too, unless another container uses them
    #[arg(short, long)]
    volumes: bool,
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
        match store.find(name) {
            Err(e) if args.force && e.get_kind() == Kind::NotFound => ui::note(format!("error: {e}")),
            found => {
                lifecycle::remove(&found?, args.force, args.volumes)?;
                ui::out(name);
            }
        }
        Ok(())
    })
}
