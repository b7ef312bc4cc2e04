//! The containers that a command is about, and how it is about to end them.
//!
//! What it does: `stop`, `restart`, `kill`, `pause` and `unpause` take the same words and do one
//! thing to each container; here they are once.
//! Interface: [`Targets`], [`StopFlags`]. Read next: `stop.rs`.

use crate::containers::{Container, flags, lifecycle, store::Store};
use crate::error::Result;
use crate::ui;
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
        super::each(&self.containers, |name| {
            act(&store, &store.find(name)?)?;
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
    /// Stops each, and then does `act` to it.
    pub fn stop(&self, mut act: impl FnMut(&Store, &Container) -> Result<()>) -> Result<u8> {
        let signal = self.signal.as_deref().map(flags::signal).transpose()?;
        self.targets.each(|store, container| {
            lifecycle::stop(container, self.time, signal)?;
            act(store, container)
        })
    }
}
