//! `glassbox rm`: remove containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{lifecycle, store::Store};
use crate::error::{Kind, Result};
use crate::ui;
use std::collections::BTreeMap;
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
    let finder = store.finder(args.containers.len())?;
    let mut ending = BTreeMap::new();
    // All are killed before the first is waited for.
    for name in args.containers.iter().filter(|_| args.force && args.containers.len() > 1) {
        if let Ok(container) = finder.find(name)
            && !ending.contains_key(container.id())
        {
            let begun = lifecycle::begin_stop(&container, Some(0), Some(libc::SIGKILL));
            ending.insert(container.record.id, begun);
        }
    }
    super::each(&args.containers, |name| {
        match finder.find(name) {
            Err(e) if args.force && e.get_kind() == Kind::NotFound => ui::note(format!("error: {e}")),
            found => {
                let container = found?;
                if let Some(begun) = ending.remove(container.id())
                    && let Some(stopping) = begun?
                {
                    stopping.finish()?;
                }
                lifecycle::remove(&container, args.force, args.volumes)?;
                ui::out(name);
            }
        }
        Ok(())
    })
}
