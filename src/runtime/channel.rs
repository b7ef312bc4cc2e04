//! A socket pair between the parent and init, over which init hands descriptors out.
//!
//! What it does: what init makes inside its namespaces (a terminal, a socket) often has to be held
//! outside. The pair is made before the split, so both processes have it.
//!
//! What it implements: socketpair(2); unix(7) (`SCM_RIGHTS`).
//! Interface: the action [`Channel`]. Read next: `terminal.rs`, `name_server.rs`.

use crate::error::{Context, Result};
use crate::journal::{Action, Planned, Scene};
use crate::sys;

/// Parent, before the split: the pair, under two names of the scene.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    /// The parent's end.
    pub outer: &'static str,
    /// Init's end.
    pub inner: &'static str,
}

impl Action for Channel {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let (outer, inner) = sys::socket::socketpair().context("cannot make a socket pair")?;
        scene.put_fd(self.outer, outer);
        scene.put_fd(self.inner, inner);
        Ok(())
    }
}
