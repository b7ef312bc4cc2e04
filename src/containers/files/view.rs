//! A container's root, opened from outside.
//!
//! What it does: the root of one that runs is behind `/proc/PID/root`, with all that is mounted in
//! it; or, for its root file system alone, a copy of that one mount. One that does not run has no
//! root, only layers and an upper directory: they are stacked again in a mount namespace that this
//! process makes for itself, so nobody else sees the mount and it goes with the process. The
//! container's lock is held meanwhile, for overlayfs does not allow one upper directory to two.
//!
//! Who runs here: the command, with the caller's privileges. After [`View::open`] of a stopped
//! container the calling thread is in a mount namespace of its own for good: a program that lives
//! on must give it a thread.
//!
//! What it implements: proc_pid_root(5), unshare(2), open_tree(2). Interface: [`View`].
//! Read next: `copy.rs`.

use super::super::actions::make_all;
use super::super::state::{Phase, Status};
use super::super::store::{Container, Store};
use super::super::{image, lifecycle, reconcile, volumes};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Plan, Scene};
use crate::layers::overlay::MountOverlay;
use crate::runtime::abroad;
use crate::runtime::mount::{Mount, ROOT};
use crate::runtime::options::MountOptions;
use crate::sys::{self, mount as m};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The opened root of a container.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    running: bool,
    _lock: Option<File>,
}

impl View {
    /// Opens it; with `mounts`, its volumes are in their places. Errors: it is between two starts;
    /// a stopped one of an ordinary user.
    pub fn open(store: &Store, container: &Container, mounts: bool) -> Result<View> {
        let mut status = reconcile::settled(container)?;
        // It may end, or start, between two looks at it; whoever does that all the time is told.
        for _ in 0..4 {
            let opened = Self::of(store, container, &status, mounts);
            if opened.is_ok() {
                return opened;
            }
            let ran = matches!(status.phase, Phase::Running | Phase::Paused);
            let next = match ran && lifecycle::has_ended(container, &status) {
                true => reconcile::after(container, &status)?, // its monitor says so in a moment
                false => reconcile::settled(container)?,
            };
            if (next.phase, next.pid) == (status.phase, status.pid) {
                return opened;
            }
            status = next;
        }
        Self::of(store, container, &status, mounts)
    }

    fn of(store: &Store, container: &Container, status: &Status, mounts: bool) -> Result<View> {
        let what = || format!("cannot open the root of container {}", container.name());
        match status.phase {
            Phase::Running | Phase::Paused => {
                let pidfd = lifecycle::init(container, status)?;
                let proc = PathBuf::from(format!("/proc/{}", status.pid));
                let root = match mounts {
                    true => {
                        let flags = libc::O_PATH | libc::O_DIRECTORY;
                        sys::fs::open(proc.join("root"), flags, 0).with_context(what)?
                    }
                    false => {
                        must_be_root(container)?;
                        let flags = m::OPEN_TREE_CLONE;
                        abroad::open_tree(&proc.join("ns/mnt"), Path::new("/"), flags)
                            .with_context(what)?
                    }
                };
                // The number was its own until now, or the root is another's.
                sys::process::pidfd_send_signal(&pidfd, 0).with_context(what)?;
                Ok(View {
                    root,
                    running: true,
                    _lock: None,
                })
            }
            Phase::Restarting => Err(Error::kind(
                Kind::Conflict,
                format!(
                    "container {} is restarting, wait until the container is running",
                    container.name()
                ),
            )),
            _ => Self::stopped(store, container, mounts).with_context(what),
        }
    }

    fn stopped(store: &Store, container: &Container, mounts: bool) -> Result<View> {
        must_be_root(container)?;
        let lock = container.lock()?;
        if reconcile::repair(container)?.phase.is_live() {
            return Err(Error::kind(Kind::Conflict, "it has just been started"));
        }
        let image = image::of_record(store.paths(), &container.record)?;
        let mut plan = Plan::default();
        let bindings = match mounts {
            true => volumes::bindings(store, container, &mut plan).unwrap_or_default(),
            false => Vec::new(),
        };
        let place = |name: &str| container.dir.join(name);
        for (name, mode) in [("upper", 0o755), ("work", 0o700), ("rootfs", 0o755)] {
            make_all(&place(name), mode)?;
        }
        sys::namespace::unshare(libc::CLONE_NEWNS as u64)?;
        m::mount(
            None,
            Path::new("/"),
            None,
            libc::MS_REC | libc::MS_PRIVATE,
            None,
        )?;
        let overlay = MountOverlay {
            lowers: image.lowers.iter().rev().cloned().collect(),
            upper: Some(place("upper")),
            work: Some(place("work")),
            target: place("rootfs"),
            ..MountOverlay::default()
        };
        overlay.mount()?;
        let open = || sys::fs::open(place("rootfs"), libc::O_PATH | libc::O_DIRECTORY, 0);
        let mut scene = Scene::new();
        scene.put_fd(ROOT, open()?);
        for binding in bindings.into_iter().filter(|b| b.source.exists()) {
            let access = if binding.read_only { "ro" } else { "rw" };
            let mut words = vec!["rbind".to_string(), access.into()];
            words.extend(binding.subpath.map(|path| format!("subpath={path}")));
            let mount = Mount {
                destination: binding.destination.into(),
                fstype: String::new(),
                source: binding.source,
                options: MountOptions::parse(&words)?,
                tree: None,
            };
            mount.apply(&mut scene)?;
        }
        Ok(View {
            root: open()?,
            running: false,
            _lock: Some(lock),
        })
    }

    /// The root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
    /// A path of this process's that leads there.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }
    /// The container runs: what it may not write to, its mounts say.
    pub fn is_live(&self) -> bool {
        self.running
    }
}

fn must_be_root(container: &Container) -> Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::kind(
            Kind::Unsupported,
            "this needs root, or (for cp) a container that runs: its layers would have to be mounted",
        )
        .hint(format!("`glassbox start {}` first, and copy while it runs", container.name()))
        .topic("mount-namespaces")),
    }
}
