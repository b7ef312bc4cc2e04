//! A root in a mount namespace that others live in, and what takes it back.
//!
//! What it does: a container may be placed in a mount namespace that exists. What it mounts there
//! does not go away with its last process, as in a namespace of its own, so somebody has to take it
//! away: when the creation fails, and when the container is deleted. All of it hangs below one
//! mount, the root. The parent copies that one, attached to nothing, and so knows its mount id
//! before it is anywhere; init attaches it; whoever takes it back detaches the mount that has this
//! id, with all below it, and nothing that somebody else has mounted at that place since.
//!
//! And who is executed in such a container later changes its root too, for the namespace's root is
//! not the container's.
//!
//! Who runs here: the parent, and a child of its own for what is done over there: setns(2) to a
//! mount namespace changes root and working directory, and nobody has to come back.
//!
//! What it implements: runtime-spec "Namespaces" (`path`), "Delete"; setns(2), statx(2)
//! `stx_mnt_id`, umount2(2) `MNT_DETACH`.
//! Interface: the actions [`CopyRoot`], [`AttachRoot`], [`OpenRootOf`], [`EnterRootOf`];
//! [`take_back`]. Read next: `rootfs.rs`.

use super::abroad;
use crate::error::{Context, Error, Result};
use crate::host::procfs;
use crate::journal::{Action, Planned, Scene};
use crate::sys::{self, fs::CWD, mount as m, namespace};
use std::path::{Path, PathBuf};

/// The scene's name for the mount id of the copy.
pub const MOUNT_ID: &str = "root-mount";
const TREE: &str = "root-tree";
const INITS_ROOT: &str = "inits-root";

/// Copies the root directory out of the mount namespace that the container will be in.
#[derive(Debug)]
pub struct CopyRoot {
    /// The mount namespace's file.
    pub namespace: PathBuf,
    /// The root directory there.
    pub path: PathBuf,
    /// Cut off from the mounts it is a copy of; else it stays their slave.
    pub private: bool,
}

impl Action for CopyRoot {
    fn calls(&self) -> Vec<Planned> {
        let args = format!("{:?}, OPEN_TREE_CLONE|AT_RECURSIVE", self.path);
        let mut calls = abroad::calls(&self.namespace, Planned::new("open_tree", args));
        if self.private {
            calls.push(Planned::new("mount_setattr", "MS_PRIVATE"));
        }
        calls
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot copy the root {}", self.path.display());
        let flags = m::OPEN_TREE_CLONE | libc::AT_RECURSIVE as u32;
        let tree = abroad::open_tree(&self.namespace, &self.path, flags).with_context(what)?;
        if self.private {
            m::mount_setattr(&tree, Path::new(""), false, 0, 0, libc::MS_PRIVATE, None)
                .with_context(what)?;
        }
        let id = sys::ask::mount_id(&tree).with_context(what)?;
        scene.put(MOUNT_ID, id.to_string());
        scene.put_fd(TREE, tree);
        Ok(())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        match scene.get(MOUNT_ID).and_then(|id| id.parse().ok()) {
            // This process is where that namespace's owner is already.
            Some(id) => take_back(None, &self.namespace, &self.path, id),
            None => Ok(()),
        }
    }
}

/// Attaches that copy where it was copied from.
#[derive(Debug)]
pub struct AttachRoot {
    /// The root directory.
    pub path: PathBuf,
}

impl Action for AttachRoot {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("move_mount", format!("→ {:?}", self.path))]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot mount the root at {}", self.path.display());
        let tree = scene
            .take_fd(TREE)
            .context("no earlier step has copied it (a fault in the plan)")
            .with_context(what)?;
        let nowhere = Path::new("");
        m::move_mount(&tree, nowhere, CWD, &self.path, m::MOVE_MOUNT_F_EMPTY_PATH)
            .with_context(what)
    }
}

/// Detaches the mount with this id, and all below it, from `path` in the mount namespace of
/// `namespace`, whose owner is `user` where that is another user namespace than ours. Where it is
/// not, nothing is done.
///
/// The process must be single-threaded. Errors: nobody may unmount anything there but its owner.
pub fn take_back(user: Option<&Path>, namespace: &Path, path: &Path, id: u64) -> Result<()> {
    let what = || {
        format!(
            "cannot take the container's mounts out of {}",
            namespace.display()
        )
    };
    let open = |file: &Path| match namespace::open_ns(file) {
        Err(e) if matches!(e.errno, sys::Errno::ENOENT | sys::Errno::ESRCH) => Ok(None),
        other => other.map(Some),
    };
    // Nobody lives there any more: it went with its mounts.
    let Some(there) = open(namespace).with_context(what)? else {
        return Ok(());
    };
    let user = user.map(open).transpose().with_context(what)?.flatten();
    let over_there = || -> sys::SysResult<()> {
        if let Some(user) = &user {
            namespace::setns(user, libc::CLONE_NEWUSER as u64)?;
        }
        namespace::setns(&there, libc::CLONE_NEWNS as u64)?;
        let root = match sys::fs::open(path, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Err(e) if e.errno == sys::Errno::ENOENT => return Ok(()),
            other => other?,
        };
        if sys::ask::mount_id(&root)? != id {
            return Ok(());
        }
        // By the descriptor: the path may be another mount's by now.
        sys::fs::fchdir(&root)?;
        m::umount2(Path::new("."), libc::MNT_DETACH)
    };
    match namespace::clone3(0, None).with_context(what)? {
        namespace::Cloned::Child => {
            let errno = over_there().err().map_or(0, |e| e.errno as i32);
            sys::process::exit_now(errno)
        }
        namespace::Cloned::Parent { pidfd, .. } => {
            let end = sys::process::waitid(&pidfd, 0).with_context(what)?;
            match end.map_or(0, sys::process::Exit::code) {
                0 => Ok(()),
                errno => Err(Error::from(sys::SysError {
                    call: "umount2",
                    args: format!("{}, MNT_DETACH", path.display()),
                    errno: sys::Errno::from_raw(errno),
                })
                .context(what())),
            }
        }
    }
}

/// Opens the root of the container's init, by the parent, as long as that can be seen.
#[derive(Debug)]
pub struct OpenRootOf {
    /// Init's process id.
    pub pid: i32,
    /// The scene's name for its pidfd.
    pub pidfd: &'static str,
}

impl Action for OpenRootOf {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = "cannot open the root of the container's init";
        let process = procfs::open(&self.pid.to_string(), libc::O_PATH).context(what)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let root = sys::fs::openat(&process, "root", flags, 0).context(what)?;
        // It was that process's, if that process is still there.
        sys::process::pidfd_send_signal(scene.fd(self.pidfd)?, 0).context(what)?;
        scene.put_fd(INITS_ROOT, root);
        Ok(())
    }
}

/// Makes that directory this process's root.
#[derive(Debug)]
pub struct EnterRootOf;

impl Action for EnterRootOf {
    fn calls(&self) -> Vec<Planned> {
        vec![
            Planned::new("fchdir", "init's root"),
            Planned::new("chroot", "\".\""),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = "cannot change to the container's root";
        let root = scene.take_fd(INITS_ROOT).context(what)?;
        sys::fs::fchdir(&root).context(what)?;
        m::chroot(Path::new(".")).context(what)
    }
}
