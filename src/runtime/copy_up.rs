//! `tmpcopyup`: a tmpfs that begins with what the image has at its place.
//!
//! What it does: copies directories, files, symbolic links and FIFOs with their modes and owners
//! into a fresh tmpfs that is attached to nothing yet. Sockets and device nodes are left out: the
//! one has nobody behind it, the other is `linux.devices`' to make.
//!
//! What it implements: runtime-spec "Mounts", the option `tmpcopyup`.
//! Interface: [`copy_up`]. Read next: `mount.rs`.

use crate::error::{Context, Result};
use crate::sys;
use std::fs::Metadata;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Copies the content of the directory `from` into the mount `to`, and the directory's own mode and
/// owner, unless `options` (of the tmpfs) give others.
pub fn copy_up(from: &OwnedFd, to: BorrowedFd<'_>, options: &[String]) -> Result<()> {
    let from = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    let meta = std::fs::metadata(&from).context("cannot read the directory")?;
    let given = |key: &str| options.iter().any(|o| o.starts_with(key));
    if !given("uid=") && !given("gid=") {
        sys::fs::fchownat(to, ".", meta.uid(), meta.gid(), 0)?;
    }
    if !given("mode=") {
        sys::fs::fchmodat(to, ".", meta.mode() & 0o7777)?;
    }
    copy_tree(&from, to)
}

fn copy_tree(from: &Path, to: BorrowedFd<'_>) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| format!("cannot read {from:?}"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {from:?}"))?;
        copy_entry(&entry.path(), to).with_context(|| format!("cannot copy {:?}", entry.path()))?;
    }
    Ok(())
}

fn copy_entry(path: &Path, to: BorrowedFd<'_>) -> Result<()> {
    let meta: Metadata = std::fs::symlink_metadata(path).context("cannot read it")?;
    let name = path.file_name().context("it has no name")?;
    let mode = meta.mode() & 0o7777;
    let kind = meta.file_type();
    if kind.is_symlink() {
        let link = std::fs::read_link(path).context("cannot read the link")?;
        sys::fs::symlinkat(&link, to, name)?;
    } else if kind.is_dir() {
        sys::fs::mkdirat(to, name, mode)?;
        let below = sys::fs::openat(to, name, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        copy_tree(path, below.as_fd())?;
    } else if kind.is_fifo() {
        sys::fs::mknodat(to, name, libc::S_IFIFO | mode, 0)?;
    } else if kind.is_file() {
        let source = sys::fs::open(path, libc::O_RDONLY | libc::O_NOFOLLOW, 0)?;
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
        let file = sys::fs::openat(to, name, flags, mode)?;
        while sys::fs::sendfile(&file, &source, path)? > 0 {}
    } else {
        return Ok(());
    }
    sys::fs::fchownat(to, name, meta.uid(), meta.gid(), libc::AT_SYMLINK_NOFOLLOW)?;
    if kind.is_symlink() {
        return Ok(());
    }
    // Last: the umask cut the mode, and a new owner takes set-user-id bits away.
    Ok(sys::fs::fchmodat(to, name, mode)?)
}
