//! The containers that a command is about, and how it is about to end them.
//!
//! What it does: `stop`, `restart`, `kill`, `pause` and `unpause` take the same words and do one
//! thing to each container; here they are once.
//! Interface: [`Targets`], [`StopFlags`]. Read next: `stop.rs`.

use crate::containers::{Container, flags, lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One or more containers.
#[derive(clap::Args)]
pub struct Targets {
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Targets {
    /// Does `act` to each and prints its name; a failure is printed and the others go on.
    pub fn each(&self, mut act: impl FnMut(&Store, &Container) -> Result<()>) -> Result<u8> {
        let store = Store::open(self.root.as_deref())?;
        let finder = store.finder(self.containers.len())?;
        super::each(&self.containers, |name| {
            act(&store, &finder.find(name)?)?;
            ui::out(name);
            Ok(())
        })
    }
}

/// How containers are asked to end.
#[derive(clap::Args)]
pub struct StopFlags {
    /// Seconds to wait before it is killed (-1: for ever)
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// Signal to send first
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    #[command(flatten)]
    targets: Targets,
}

impl StopFlags {
    /// Stops all side by side, and then does `act` to each.
    pub fn stop(&self, mut act: impl FnMut(&Store, &Container) -> Result<()>) -> Result<u8> {
        let signal = self.signal.as_deref().map(flags::signal).transpose()?;
        let store = Store::open(self.targets.root.as_deref())?;
        let finder = store.finder(self.targets.containers.len())?;
        let mut begun: BTreeMap<&str, (Container, Result<_>)> = BTreeMap::new();
        for name in &self.targets.containers {
            // One that is not there is said in its turn.
            if let Ok(container) = finder.find(name)
                && !begun.values().any(|(c, _)| c.id() == container.id())
            {
                let stopping = lifecycle::begin_stop(&container, self.time, signal);
                begun.insert(name, (container, stopping));
            }
        }
        super::each(&self.targets.containers, |name| {
            // Not looked for again: with --rm it may be gone by now.
            let container = match begun.remove(name) {
                Some((container, stopping)) => {
                    if let Some(stopping) = stopping? {
                        stopping.finish()?;
                    }
                    container
                }
                None => {
                    let container = finder.find(name)?;
                    lifecycle::stop(&container, self.time, signal)?;
                    container
                }
            };
            act(&store, &container)?;
            ui::out(name);
            Ok(())
        })
    }
}
