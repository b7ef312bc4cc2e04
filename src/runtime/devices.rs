//! Device nodes and the links of /dev.
//!
//! What it does: makes the nodes that a program expects, inside the container's own /dev. In a
//! user namespace the kernel allows no mknod of devices (a device number means the real device,
//! whoever made the node), so there each node is a bind mount of the host's.
//!
//! What it implements: runtime-spec "Default Devices", "Devices", "Dev symbolic links"; mknod(2).
//! Interface: [`Node`], [`MakeNode`], [`Link`]. Read next: `terminal.rs`.

use super::mount::{ROOT, open_in_root, target};
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, fs::CWD, mount as m};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path in the container.
    pub path: PathBuf,
    /// `c`, `b` or `p`, as in mknod(1).
    pub kind: char,
    /// The driver's number.
    pub major: u32,
    /// The driver's number for this device.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Node {
    /// Whether what was opened is this device.
    fn is_like(&self, opened: impl AsFd) -> Result<bool> {
        let fd = opened.as_fd();
        let stat = nix::sys::stat::fstat(fd).map_err(|errno| sys::SysError {
            call: "fstat",
            args: fd.as_raw_fd().to_string(),
            errno,
        })?;
        let number = sys::fs::makedev(self.major, self.minor);
        let same = self.kind == 'p' || stat.st_rdev == number;
        Ok(stat.st_mode & libc::S_IFMT == self.format() && same)
    }

    /// The type bits of its mode.
    fn format(&self) -> u32 {
        match self.kind {
            'b' => libc::S_IFBLK,
            'p' => libc::S_IFIFO,
            _ => libc::S_IFCHR,
        }
    }
}

/// Makes one node: by mknod, or (in a user namespace) by a bind mount of the host's node.
#[derive(Debug)]
pub struct MakeNode {
    /// What to make.
    pub node: Node,
    /// Bind the host's node of the same path instead of making one.
    pub bind: bool,
}

impl Action for MakeNode {
    fn calls(&self) -> Vec<Planned> {
        let n = &self.node;
        let path = n.path.display();
        if self.bind {
            return vec![
                Planned::new("open_tree", format!("{path:?}, OPEN_TREE_CLONE")),
                Planned::new("move_mount", format!("→ {path}")),
            ];
        }
        let mut calls = vec![
            Planned::new(
                "mknodat",
                format!("{path}, {} {}:{}", n.kind, n.major, n.minor),
            ),
            Planned::new("fchmodat", format!("{path}, {:#05o}", n.mode)),
        ];
        if (n.uid, n.gid) != (0, 0) {
            calls.push(Planned::new(
                "fchownat",
                format!("{path}, {}, {}", n.uid, n.gid),
            ));
        }
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let n = &self.node;
        let what = || format!("cannot make the device {}", n.path.display());
        let root = scene.fd(ROOT)?;
        if self.bind {
            let mount = m::open_tree(CWD, &n.path, m::OPEN_TREE_CLONE).with_context(what)?;
            if !n.is_like(&mount).with_context(what)? {
                return Err(Error::new(what())
                    .caused_by(Error::new(format!(
                        "the host's {} is not {} {}:{}",
                        n.path.display(),
                        n.kind,
                        n.major,
                        n.minor
                    )))
                    .hint("in a user namespace a device is the host's node of the same path"));
            }
            let place = target(root, &n.path, false).with_context(what)?;
            let flags = m::MOVE_MOUNT_F_EMPTY_PATH | m::MOVE_MOUNT_T_EMPTY_PATH;
            return m::move_mount(&mount, Path::new(""), &place, Path::new(""), flags)
                .with_context(what);
        }
        let (parent, name) = match (n.path.parent(), n.path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(Error::new(format!("{:?} is no path for a device", n.path))),
        };
        let parent = target(root, parent, true).with_context(what)?;
        let number = if n.kind == 'p' {
            0
        } else {
            sys::fs::makedev(n.major, n.minor)
        };
        match sys::fs::mknodat(&parent, name, n.format() | n.mode, number) {
            // The image (or the host's /dev) brings it: then it stays as it is, but it has to be it.
            Err(e) if e.errno == sys::Errno::EEXIST => {
                let flags = libc::O_PATH | libc::O_NOFOLLOW;
                let there = sys::fs::openat(&parent, name, flags, 0).with_context(what)?;
                return match n.is_like(&there).with_context(what)? {
                    true => Ok(()),
                    false => Err(Error::new(what()).caused_by(Error::new(format!(
                        "there is something else at {} already",
                        n.path.display()
                    )))),
                };
            }
            other => other.with_context(what)?,
        }
        // mknod's mode is cut by the umask, and the owner is whoever calls.
        // By a descriptor: on a volume that somebody else writes to, the name may be a link by now.
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let node = sys::fs::openat(&parent, name, flags, 0).with_context(what)?;
        if !n.is_like(&node).with_context(what)? {
            let why = "something else was put in its place while it was made";
            return Err(Error::new(what()).caused_by(Error::new(why)));
        }
        let by_descriptor = format!("/proc/self/fd/{}", node.as_raw_fd());
        sys::fs::fchmodat(CWD, &by_descriptor, n.mode).with_context(what)?;
        let now = nix::sys::stat::fstat(&node).map_err(|errno| sys::SysError {
            call: "fstat",
            args: n.path.display().to_string(),
            errno,
        });
        let now = now.with_context(what)?;
        if (now.st_uid, now.st_gid) == (n.uid, n.gid) {
            return Ok(()); // who makes it is who shall own it
        }
        sys::fs::fchownat(&node, "", n.uid, n.gid, libc::AT_EMPTY_PATH).with_context(what)
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let value = scene
            .fd(ROOT)
            .and_then(|root| open_in_root(root, &self.node.path, libc::O_PATH))
            .map_err(|e| format!("{e:#}"))
            .and_then(|fd| nix::sys::stat::fstat(&fd).map_err(|e| e.desc().to_string()))
            .map(|s| format!("{}:{}", libc::major(s.st_rdev), libc::minor(s.st_rdev)));
        vec![Fact {
            what: self.node.path.display().to_string(),
            value,
            source: "fstat(2) st_rdev".into(),
        }]
    }

    fn expected(&self) -> Option<String> {
        (self.node.kind != 'p').then(|| format!("{}:{}", self.node.major, self.node.minor))
    }
}

/// Makes symbolic links inside the root; one that exists stays as it is.
#[derive(Debug)]
pub struct Link {
    /// (target, path in the container)
    pub links: Vec<(String, String)>,
}

impl Action for Link {
    fn calls(&self) -> Vec<Planned> {
        self.links
            .iter()
            .map(|(to, path)| Planned::new("symlinkat", format!("{to:?}, {path:?}")))
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        for (to, path) in &self.links {
            let what = || format!("cannot link {path} to {to}");
            let path = Path::new(path);
            let root = scene.fd(ROOT)?;
            let parent =
                target(root, path.parent().unwrap_or(Path::new("/")), true).with_context(what)?;
            let name = path.file_name().with_context(what)?;
            match sys::fs::symlinkat(Path::new(to), &parent, name) {
                Err(e) if e.errno == sys::Errno::EEXIST => {}
                other => other.with_context(what)?,
            }
        }
        Ok(())
    }
}
