//! Where the program starts, and whether it is there.
//!
//! What it does: the working directory, and a first look for the program before the container waits
//! to be started. The last action of every plan, [`Exec`], is the one of `ns run`: the search happens
//! inside the container's root, as the container's user.
//!
//! What it implements: runtime-spec `process.args`, `cwd`, `env`.
//! Interface: [`ChangeDirectory`], [`MakeWorkingDirectory`], [`LookUp`], [`execute`]. Read next:
//! `namespaces/actions/search.rs`, then `reaper.rs`.

use super::mount::target;
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Planned, Scene};
use crate::namespaces::actions::{Exec, Signals, diagnose, find};
use crate::spec::runtime::Process;
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Changes to the working directory.
#[derive(Debug)]
pub struct ChangeDirectory {
    /// Absolute path in the container.
    pub path: PathBuf,
    /// Makes it when it is missing: so for a container's own program, as docker does, and not for
    /// one that joins it.
    pub make: bool,
}

impl Action for ChangeDirectory {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("fchdir", format!("{:?}", self.path))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot change to the working directory {}",
                self.path.display()
            )
        };
        let directory = match self.make {
            true => inside(&self.path),
            false => existing(&self.path),
        };
        let directory = directory.with_context(what)?;
        sys::fs::fchdir(&directory).with_context(what)?;
        // However it came to be: below a directory of the host every `..` leads further out.
        let here = sys::fs::getcwd().with_context(what)?;
        if !here.is_absolute() {
            return Err(Error::new(what())
                .caused_by(Error::new(format!(
                    "it lies outside of the container's root: getcwd(2) says {}",
                    here.display()
                )))
                .hint("a directory of the host was left open, or joined from outside"));
        }
        Ok(())
    }
}

/// Makes the working directory while the root file system can still be written.
#[derive(Debug)]
pub struct MakeWorkingDirectory {
    /// Absolute path in the container.
    pub path: PathBuf,
}

impl Action for MakeWorkingDirectory {
    fn calls(&self) -> Vec<Planned> {
        let args = format!("{:?}, 0755 (where it does not exist)", self.path);
        vec![Planned::new("mkdirat", args)]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        inside(&self.path)
            .map(drop)
            .with_context(|| format!("cannot make the working directory {}", self.path.display()))
    }
}

/// Opens a directory below the root that this process has, making what is missing. No magic link is
/// followed: `/proc/self/fd/7` would lead to whatever that descriptor is, and a directory of the
/// host's is the way out of every wall (CVE-2024-21626).
fn inside(path: &Path) -> Result<OwnedFd> {
    let root = sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    target(root.as_fd(), path, true).map_err(no_magic)
}

/// The same of one that is there.
fn existing(path: &Path) -> Result<OwnedFd> {
    let root = sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    sys::fs::openat2(root.as_fd(), path, flags, 0, resolve).map_err(|e| no_magic(e.into()))
}

fn no_magic(error: Error) -> Error {
    match error.errno() {
        Some(libc::ELOOP) => error.hint(
            "it leads through a magic link of /proc (fd, cwd, root), or through a loop of links; \
             a working directory is a path of the container's own",
        ),
        _ => error,
    }
}

/// Looks for the program before the container waits to be started: engines tell "not found" from
/// what `create` says, and `podman run` and `ctr run` clear away only what could not be created.
/// The search is made again, as the container's user, when it is executed.
#[derive(Debug)]
pub struct LookUp {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
}

impl Action for LookUp {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let name = self.args.first().map_or("", String::as_str);
        let path = find(name.as_ref(), &self.env)?;
        // What stat(2) shows is what execve(2) would say; whatever else it says, it says itself.
        let errno = match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() || meta.mode() & 0o111 == 0 => libc::EACCES,
            Ok(_) => return Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(errno @ (libc::ENOENT | libc::ENOTDIR)) => errno,
                _ => return Ok(()),
            },
        };
        let error = sys::SysError {
            call: "stat",
            args: format!("{path:?}"),
            errno: Errno::from_raw(errno),
        };
        Err(diagnose(&path, error))
    }
}

/// Becomes the program of `process`, with so many of the caller's descriptors from 3 on.
pub fn execute(process: &Process, preserve_fds: u32) -> Exec {
    Exec {
        argv: process.args.iter().map(Into::into).collect(),
        env: process.env.iter().map(Into::into).collect(),
        signals: Signals::Reset,
        // Nothing of ours may leak into the container: not the journal, not the barrier, not a
        // directory of the host (CVE-2024-21626 was one such descriptor).
        close_from: Some(3 + preserve_fds),
    }
}
