//! Small set-up of init itself: its session, its protection, kernel parameters.
//!
//! What it implements: runtime-spec "Sysctl"; setsid(2), prctl(2) `PR_SET_DUMPABLE`.
//! Interface: the actions [`NotDumpable`], [`Dumpable`], [`NewSession`], [`Sysctl`], [`NotTheHosts`],
//! [`NewCgroupNamespace`]. Read next: `program.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::host::procfs;
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

/// Takes [`NotDumpable`] back, in the parent, when its child has inherited it.
#[derive(Debug)]
pub struct Dumpable;

impl Action for Dumpable {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("prctl", "PR_SET_DUMPABLE, 1")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::process::prctl("PR_SET_DUMPABLE, 1", libc::PR_SET_DUMPABLE, 1, 0)
            .map(drop)
            .context("cannot become dumpable again")
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

/// Makes sure that a namespace which init is going to join, and in which kernel parameters will be
/// set, is not the one that the runtime is in. Taken before it joins.
#[derive(Debug)]
pub struct NotTheHosts {
    /// Its type.
    pub kind: crate::namespaces::Kind,
    /// Its file.
    pub path: std::path::PathBuf,
}

impl Action for NotTheHosts {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let own = format!("/proc/self/ns/{}", self.kind);
        let id = |path: &std::path::Path| {
            let meta = std::fs::metadata(path);
            meta.map(|m| (m.dev(), m.ino()))
                .with_context(|| format!("cannot read the namespace {}", path.display()))
        };
        if id(&self.path)? != id(own.as_ref())? {
            return Ok(());
        }
        Err(Error::kind(
            Kind::Usage,
            format!(
                "linux.sysctl cannot be set: the {} namespace {} is the host's",
                self.kind,
                self.path.display()
            ),
        ))
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
    /// The parts of a parameter's name, by sysctl(8)'s rule: the first separator decides whether
    /// dots or slashes separate, and the other of the two stands for a dot in a part
    /// (`net.ipv4.conf.eth0/1.forwarding`, `net/ipv4/conf/eth0.1/forwarding`).
    fn parts(key: &str) -> Vec<String> {
        match key.find(['.', '/']).map(|at| &key[at..=at]) {
            Some("/") => key.split('/').map(str::to_string).collect(),
            _ => key.split('.').map(|part| part.replace('/', ".")).collect(),
        }
    }

    /// The type of the namespaces that a parameter belongs to. Errors: it belongs to none of the
    /// container's own: writing it would change the host.
    pub fn check(key: &str, own: impl Fn(u64) -> bool) -> Result<u64> {
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
        let parts = Sysctl::parts(key);
        if parts.iter().any(|p| matches!(p.as_str(), "" | "." | "..")) {
            let what = format!("{key:?} is no name of a kernel parameter");
            return Err(Error::kind(Kind::Usage, what));
        }
        let key = parts.join(".");
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
            return Ok(needs.1);
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
        format!("/proc/sys/{}", Sysctl::parts(&self.key).join("/"))
    }
}

/// The scene's name for the root of a procfs.
const PROCFS: &str = "procfs";

impl Action for Sysctl {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{} ← {}", self.path(), self.value),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot set the kernel parameter {}", self.key);
        let path = self.path();
        // Not by that path: /proc is the container's by now, whatever it holds. One procfs is enough
        // for all parameters; it closes with the rest when the program begins.
        let below = path.trim_start_matches("/proc/");
        let root = match scene.take_fd(PROCFS) {
            Some(root) => root,
            None => procfs::root()
                .context("cannot reach a procfs")
                .with_context(what)?,
        };
        let written = procfs::write_below(&root, below, &self.value).with_context(what);
        scene.put_fd(PROCFS, root);
        written
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let path = self.path();
        let read = || -> Result<String> {
            let file = procfs::open(path.trim_start_matches("/proc/"), libc::O_RDONLY)?;
            let text = std::io::read_to_string(std::fs::File::from(file));
            Ok(text.context("cannot read it")?.trim_end().to_string())
        };
        vec![Fact {
            what: self.key.clone(),
            value: read().map_err(|e| format!("{e:#}")),
            source: path.clone(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some(self.value.replace(' ', "\t"))
    }
}
