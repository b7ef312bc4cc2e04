//! The scene: what steps hand on to later steps.
//!
//! What it does: holds the descriptors that one step opens and another uses (the cgroup directory,
//! the root file system, the terminal), and the child that `clone3` made. Each process has its own
//! copy after the split, so what a step puts here afterwards is only seen on its own side.
//! Interface: [`Scene`]. Read next: `execute.rs`.

use super::Actor;
use crate::error::{Context, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The process that `clone3` split off, seen from the parent.
#[derive(Debug)]
pub struct Child {
    /// Its id in the parent's pid namespace.
    pub pid: i32,
    /// Refers to it safely.
    pub pidfd: OwnedFd,
}

/// What the steps of one plan share.
#[derive(Debug)]
pub struct Scene {
    /// Which process this is. The clone step sets it to `Init` in the child.
    pub role: Actor,
    /// The child, once it exists (in the parent only).
    pub child: Option<Child>,
    fds: BTreeMap<Cow<'static, str>, OwnedFd>,
    values: BTreeMap<Cow<'static, str>, String>,
}

impl Default for Scene {
    fn default() -> Self {
        Scene {
            role: Actor::Parent,
            child: None,
            fds: BTreeMap::new(),
            values: BTreeMap::new(),
        }
    }
}

impl Scene {
    /// An empty scene, in the parent.
    pub fn new() -> Self {
        Self::default()
    }
    /// Keeps a descriptor for later steps under a name.
    pub fn put_fd(&mut self, name: impl Into<Cow<'static, str>>, fd: OwnedFd) {
        self.fds.insert(name.into(), fd);
    }
    /// A descriptor of an earlier step. Errors when that step did not run (a plan out of order).
    pub fn fd(&self, name: &str) -> Result<BorrowedFd<'_>> {
        self.fds
            .get(name)
            .map(|fd| fd.as_fd())
            .with_context(|| format!("no earlier step opened {name:?} (a fault in the plan)"))
    }
    /// Takes a descriptor out (to close it, or to hand it to somebody).
    pub fn take_fd(&mut self, name: &str) -> Option<OwnedFd> {
        self.fds.remove(name)
    }
    /// Takes every descriptor out whose name begins so.
    pub fn take_all(&mut self, prefix: &str) -> Vec<OwnedFd> {
        let names: Vec<_> = self.fds.keys().cloned().collect();
        let names = names.iter().filter(|name| name.starts_with(prefix));
        names.filter_map(|name| self.fds.remove(name)).collect()
    }
    /// Closes every descriptor that earlier steps left but those with these names, and returns
    /// those.
    pub fn keep_only(&mut self, names: &[&str]) -> Vec<BorrowedFd<'_>> {
        self.fds.retain(|name, _| names.contains(&&**name));
        self.fds.values().map(AsFd::as_fd).collect()
    }
    /// Keeps a value for later steps under a name.
    pub fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }
    /// A value of an earlier step.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
    /// The child's process id. Errors when it has not been made yet.
    pub fn child_pid(&self) -> Result<i32> {
        self.child
            .as_ref()
            .map(|c| c.pid)
            .context("the step needs init, which does not exist yet (a fault in the plan)")
    }
}
