//! A procfs that is one: reached without a path that somebody else can change.
//!
//! Init sets kernel parameters when its root is the container's already. What is called /proc there
//! is the image's and the mounts' to say: a directory with files of its own, a tmpfs, a bind mount
//! of another file of the real /proc, so that what is written to one lands in the other
//! (CVE-2019-16884, CVE-2025-52881). And what is called /proc outside is that of whoever called us:
//! the files that decide who a process is and when it is killed are not looked for there either.
//!
//! What it does: mounts a procfs that is attached nowhere, for this process alone, and walks from its
//! root along names that may be neither links nor mount points. Where a new one is not allowed (a
//! user namespace without a whole /proc in view) it is /proc, copied without what lies over it and
//! checked to be a procfs.
//!
//! What it implements: proc(5), fsopen(2), open_tree(2), openat2(2).
//! Interface: [`open`], [`open_own`], [`write`], [`write_own`]; [`root`], [`write_below`]. Read next: `process.rs`.

use crate::error::{Context, Error, Result};
use crate::sys::{self, fs::CWD, mount as m};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens `path`, relative to the root of a procfs, with `flags` of open(2).
pub fn open(path: &str, flags: i32) -> Result<OwnedFd> {
    let root = root().context("cannot reach a procfs")?;
    open_below(root, path, flags)
}

/// The same of a file of this process: `oom_score_adj`. A procfs may be another pid namespace's, so
/// it is asked who this process is there.
pub fn open_own(file: &str, flags: i32) -> Result<OwnedFd> {
    let root = root().context("cannot reach a procfs")?;
    let own = nix::fcntl::readlinkat(&root, "self").map_err(|errno| sys::SysError {
        call: "readlinkat",
        args: "/proc/self".into(),
        errno,
    })?;
    open_below(root, &format!("{}/{file}", own.display()), flags)
}

/// Writes `text` to the file at `path`, relative to the root of a procfs.
pub fn write(path: &str, text: &str) -> Result<()> {
    write_below(&root().context("cannot reach a procfs")?, path, text)
}

/// The same below the `root` of a procfs that is at hand: for who writes several files.
pub fn write_below(root: impl AsFd, path: &str, text: &str) -> Result<()> {
    let file = open_below(root, path, libc::O_WRONLY)?;
    Ok(sys::fs::write(&file, &Path::new("/proc").join(path), text)?)
}

/// Writes `text` to a file of this process.
pub fn write_own(file: &str, text: &str) -> Result<()> {
    let opened = open_own(file, libc::O_WRONLY)?;
    let name = Path::new("/proc/self").join(file);
    Ok(sys::fs::write(&opened, &name, text)?)
}

fn open_below(root: impl AsFd, path: &str, flags: i32) -> Result<OwnedFd> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS;
    Ok(sys::fs::openat2(&root, path, flags, 0, resolve)?)
}

/// The root of one. Errors: neither a new one nor that of /proc is to be had.
pub fn root() -> Result<OwnedFd> {
    let fresh = || -> sys::SysResult<OwnedFd> {
        let context = m::fsopen("proc")?;
        m::fsconfig_create(&context)?;
        m::fsmount(&context, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)
    };
    if let Ok(root) = fresh() {
        return Ok(root);
    }
    let proc = Path::new("/proc");
    let root = m::open_tree(CWD, proc, m::OPEN_TREE_CLONE)
        .or_else(|_| sys::fs::open(proc, libc::O_PATH | libc::O_DIRECTORY, 0))?;
    let failed = |call, errno| sys::SysError {
        call,
        args: "/proc".into(),
        errno,
    };
    let system = nix::sys::statfs::fstatfs(&root).map_err(|e| failed("fstatfs", e))?;
    let stat = nix::sys::stat::fstat(&root).map_err(|e| failed("fstat", e))?;
    // The root of every procfs has this number; a directory below it has another.
    const PROC_ROOT_INO: u64 = 1;
    if system.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC
        || stat.st_ino != PROC_ROOT_INO
    {
        return Err(Error::new("the container's /proc is not a procfs")
            .hint("mount one at /proc: {\"destination\": \"/proc\", \"type\": \"proc\"}"));
    }
    Ok(root)
}
