//! Small set-up of init itself: its session, its protection, kernel parameters.
//!
//! What it implements: runtime-spec "Sysctl"; setsid(2), prctl(2) `PR_SET_DUMPABLE`.
//! Interface: the actions [`NotDumpable`], [`NewSession`], [`Sysctl`],
//! [`NewCgroupNamespace`]. Read next: `program.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys;

/// Shields init from the container's processes until it becomes the program.
#[derive(Debug)]
pub struct NotDumpable;

impl Action for NotDumpable {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("prctl", "PR_SET_DUMPABLE, 0")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::process::prctl("PR_SET_DUMPABLE, 0", libc::PR_SET_DUMPABLE, 0, 0)
            .map(drop)
            .context("cannot make init undumpable")
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: "dumpable".into(),
            value: sys::process::prctl_get("PR_GET_DUMPABLE", libc::PR_GET_DUMPABLE, 0)
                .map(|n| n.to_string())
                .map_err(|e| e.to_string()),
            source: "prctl(PR_GET_DUMPABLE)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("0".into())
    }
}

/// A session of its own, so that no terminal of the host's is its controlling one.
#[derive(Debug)]
pub struct NewSession;

impl Action for NewSession {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("setsid", "")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::process::setsid()
            .map(drop)
            .context("cannot begin a session")
    }
}

/// A cgroup namespace, made when this process already is in its cgroup, which becomes the root of
/// what it sees.
#[derive(Debug)]
pub struct NewCgroupNamespace;

impl Action for NewCgroupNamespace {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("unshare", "CLONE_NEWCGROUP")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::namespace::unshare(libc::CLONE_NEWCGROUP as u64)
            .context("cannot create a cgroup namespace")
            .map_err(|e| e.topic("cgroup-namespace"))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_link("cgroup namespace", "/proc/self/ns/cgroup")]
    }
}

/// Writes one kernel parameter of the container's namespaces.
#[derive(Debug)]
pub struct Sysctl {
    /// `net.ipv4.ip_forward`
    pub key: String,
    /// What to write.
    pub value: String,
}

impl Sysctl {
    /// The parameter's file under /proc/sys. Errors: it is not one that belongs to a namespace:
    /// writing it would change the host.
    pub fn check(key: &str, own: impl Fn(u64) -> bool) -> Result<()> {
        const IPC: &[&str] = &[
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ];
        let key = key.replace('/', ".");
        let needs = if key.starts_with("net.") {
            ("network", libc::CLONE_NEWNET as u64)
        } else if key.starts_with("fs.mqueue.") || IPC.contains(&key.as_str()) {
            ("ipc", libc::CLONE_NEWIPC as u64)
        } else if key == "kernel.domainname" || key == "kernel.hostname" {
            ("uts", libc::CLONE_NEWUTS as u64)
        } else {
            return Err(Error::kind(
                Kind::Usage,
                format!("the kernel parameter {key:?} belongs to no namespace: it would change the host"),
            )
            .hint("net.*, fs.mqueue.* and the kernel.msg*, kernel.sem and kernel.shm* ones can be set"));
        };
        if own(needs.1) {
            return Ok(());
        }
        Err(Error::kind(
            Kind::Usage,
            format!(
                "the kernel parameter {key:?} cannot be set: the {} namespace is not the container's own",
                needs.0
            ),
        ))
    }

    fn path(&self) -> String {
        format!("/proc/sys/{}", self.key.replace('.', "/"))
    }
}

impl Action for Sysctl {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{} ← {}", self.path(), self.value),
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::fs::write_file(self.path(), &self.value)
            .with_context(|| format!("cannot set the kernel parameter {}", self.key))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_file(self.key.clone(), self.path())]
    }
    fn expected(&self) -> Option<String> {
        Some(self.value.replace(' ', "\t"))
    }
}
