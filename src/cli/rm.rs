//! `glassbox rm`: remove containers.
//!
//! Read next: [`crate::containers::lifecycle`].

use crate::containers::{Container, lifecycle, store::Store};
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
    let mut begun: BTreeMap<&str, (Container, Result<_>)> = BTreeMap::new();
    // All are killed before the first is waited for.
    for name in args.containers.iter().filter(|_| args.force && args.containers.len() > 1) {
        if let Ok(container) = finder.find(name)
            && !begun.values().any(|(c, _)| c.id() == container.id())
        {
            let ending = lifecycle::begin_stop(&container, Some(0), Some(libc::SIGKILL));
            begun.insert(name, (container, ending));
        }
    }
    super::each(&args.containers, |name| {
        let container = match begun.remove(name) {
            // Not looked for again: with --rm it may be gone by now.
            Some((container, ending)) => {
                if let Some(ending) = ending? {
                    ending.finish()?;
                }
                container
            }
            None => match finder.find(name) {
                Err(e) if args.force && e.get_kind() == Kind::NotFound => {
                    ui::note(format!("error: {e}"));
                    return Ok(());
                }
                found => found?,
            },
        };
        lifecycle::remove(&container, args.force, args.volumes)?;
        ui::out(name);
        Ok(())
    })
}
