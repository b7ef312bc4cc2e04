//! Into new namespaces, and into existing ones: clone3, unshare, setns.
//!
//! What it does: [`Clone`] splits off the process that becomes the container, straight into new
//! namespaces; [`Unshare`] moves the caller itself into new ones; [`SetNs`] moves it into those
//! of somebody else.
//!
//! What it implements: clone(2) (`clone3`), unshare(2), setns(2). Two kinds are different. A
//! process never changes its own pid namespace: unshare and setns set where its next children
//! will be. And a time namespace takes its offsets only while no process is in it, so it cannot
//! come from clone3's flags when there are offsets: see [`super::TimeOffsets`].
//!
//! Interface: [`Clone`], [`Unshare`], [`SetNs`], [`Join`]. Read next: `idmaps.rs`.

use crate::error::{Context, Result};
use crate::journal::{Action, Actor, Child, Fact, Planned, Scene};
use crate::namespaces::{Kind, refusal::refused};
use crate::sys::namespace::{self as sys, Cloned, clone_flag_names};

/// Splits off init: `clone3`. The step after which there are two processes.
///
/// In the parent it fills `scene.child`. In the child it sets `scene.role`, and its calls are
/// recorded from then on under the id that the *parent* sees (the wrapper sees to that), for in a
/// new pid namespace getpid(2) answers 1.
///
/// The child gets no parent-death signal here: a container has to outlive the process that
/// started it. Until the set-up is complete it cannot be orphaned either, for it waits on the
/// barrier socket and ends when that closes. A foreground `ns run` adds [`super::DieWithParent`].
#[derive(Debug)]
pub struct Clone {
    /// `CLONE_NEW*` flags; 0 is a plain fork.
    pub flags: u64,
    /// The name under which an earlier step put a cgroup v2 directory into the scene: the child
    /// starts in it (`CLONE_INTO_CGROUP`), so that no moment of its life is unlimited.
    pub into_cgroup: Option<&'static str>,
}

impl Action for Clone {
    fn calls(&self) -> Vec<Planned> {
        let cgroup = self.into_cgroup.map_or(0, |_| sys::CLONE_INTO_CGROUP);
        let flags = self.flags | libc::CLONE_PIDFD as u64 | cgroup;
        vec![Planned::new("clone3", clone_flag_names(flags))]
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let cgroup = match self.into_cgroup {
            Some(name) => Some(
                scene
                    .fd(name)?
                    .try_clone_to_owned()
                    .context("cannot copy the cgroup's descriptor")?,
            ),
            None => None,
        };
        // ANCHOR: clone-apply
        let cloned = sys::clone3(self.flags, cgroup.as_ref())
            .map_err(|e| refused("create", self.flags, e))?;
        match cloned {
            Cloned::Child => scene.role = Actor::Init,
            Cloned::Parent { pid, pidfd } => scene.child = Some(Child { pid, pidfd }),
        }
        Ok(())
        // ANCHOR_END: clone-apply
    }

    /// Before: the parent's namespaces, which the child would have inherited. After: the child's.
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let whose = match &scene.child {
            Some(child) => child.pid.to_string(),
            None => "self".into(),
        };
        namespace_facts(self.flags, &whose)
    }
}

/// A fact a kind: which namespace of that kind the process `whose` (an id or `self`) is in.
fn namespace_facts(flags: u64, whose: &str) -> Vec<Fact> {
    Kind::in_flags(flags)
        .map(|kind| {
            Fact::from_link(
                format!("{kind} namespace"),
                format!("/proc/{whose}/ns/{kind}"),
            )
        })
        .collect()
}

/// Moves the caller into new namespaces: `unshare`.
///
/// With `CLONE_NEWPID` and `CLONE_NEWTIME` it is the next child that moves.
#[derive(Debug)]
pub struct Unshare {
    /// `CLONE_NEW*` flags.
    pub flags: u64,
}

impl Action for Unshare {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("unshare", clone_flag_names(self.flags))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::unshare(self.flags).map_err(|e| refused("create", self.flags, e))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        Kind::in_flags(self.flags)
            .map(|kind| {
                let file = match kind {
                    Kind::Pid => "pid_for_children",
                    Kind::Time => "time_for_children",
                    other => other.name(),
                };
                Fact::from_link(format!("{kind} namespace"), format!("/proc/self/ns/{file}"))
            })
            .collect()
    }
}

/// What a [`SetNs`] joins by.
#[derive(Debug, PartialEq, Eq)]
pub enum Join {
    /// A descriptor in the scene: a pidfd (then `flags` chooses among its namespaces), or an open
    /// namespace file.
    Fd {
        /// The name under which an earlier step, or the caller, put it there.
        name: &'static str,
        /// What it is, for the dry run: `pidfd of 4211`, `/run/netns/blue`.
        what: String,
    },
    /// A namespace file, opened when the step is taken: an OCI config's `namespaces[].path`.
    Path(std::path::PathBuf),
}

/// Moves the caller into existing namespaces: `setns`.
#[derive(Debug)]
pub struct SetNs {
    /// By what.
    pub join: Join,
    /// Which: one `CLONE_NEW*` flag for a namespace file, any set of them for a pidfd.
    pub flags: u64,
}

impl Action for SetNs {
    fn calls(&self) -> Vec<Planned> {
        let what = match &self.join {
            Join::Fd { what, .. } => what.clone(),
            Join::Path(path) => path.display().to_string(),
        };
        let args = format!("{what}, {}", clone_flag_names(self.flags));
        vec![Planned::new("setns", args)]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let result = match &self.join {
            Join::Fd { name, .. } => sys::setns(scene.fd(name)?, self.flags),
            Join::Path(path) => {
                let file = sys::open_ns(path).with_context(|| {
                    format!("cannot open the namespace file {}", path.display())
                })?;
                sys::setns(file, self.flags)
            }
        };
        result.map_err(|e| {
            let other = e.errno == crate::sys::Errno::EINVAL;
            let error = refused("enter", self.flags, e);
            match (&self.join, Kind::in_flags(self.flags).next()) {
                (Join::Path(path), Some(kind)) if other && error.get_hint().is_none() => {
                    error.hint(format!("{} is no {kind} namespace", path.display()))
                }
                _ => error,
            }
        })
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        // pid_for_children, as in Unshare: the caller itself stays where it is.
        Kind::in_flags(self.flags)
            .map(|kind| {
                let file = if kind == Kind::Pid {
                    "pid_for_children"
                } else {
                    kind.name()
                };
                Fact::from_link(format!("{kind} namespace"), format!("/proc/self/ns/{file}"))
            })
            .collect()
    }
}
