//! What lies in the image at a mount's place, copied into what is mounted there.
//!
//! What it does: a new volume begins with the image's content of the directory that it is mounted
//! on, and so does a tmpfs with `tmpcopyup`. The copy is written as a layer and applied, so it has
//! everything that a layer has: owners, modes, times, links, attributes, and those of the
//! directory itself.
//!
//! Who runs here: init, before the mount is attached: what it covers can still be seen, and owners
//! are those that the container knows.
//!
//! A volume is filled beside its place and put there by one rename(2): killed at any moment, it is
//! empty still, and the next first start fills it.
//!
//! Interface: [`copy_up`], [`fill`]. Read next: [`crate::layers`].

use super::mount::open_in_root;
use crate::error::{Context, Result};
use crate::layers::{apply, create};
use crate::sys::{self, Errno};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// So many files have a record of each call; the calls of more would crowd the rest out of it.
const RECORDED: usize = 200;

/// Fills the empty directory `source` of the host with the directory `place` of the root, wholly
/// or not at all. Nothing to do when there is no such place, or when `source` has content. It has
/// another inode afterwards. Errors: as [`copy_up`].
pub fn fill(root: BorrowedFd<'_>, place: &Path, source: &Path) -> Result<()> {
    let what = || format!("cannot fill {}", source.display());
    let empty = || -> std::io::Result<bool> { Ok(std::fs::read_dir(source)?.next().is_none()) };
    if !empty().with_context(what)? || open_in_root(root, place, libc::O_PATH).is_err() {
        return Ok(());
    }
    // In the volume's own directory, where its data has the one name _data.
    let mut beside = source.as_os_str().to_owned();
    beside.push("-filling-");
    let beside = PathBuf::from(beside);
    // Two containers may start at once: one fills, the other waits, for the kernel lets the lock of
    // one that was killed go.
    let _lock = loop {
        match sys::fs::mkdirat(sys::fs::CWD, &beside, 0o755) {
            Err(e) if e.errno != Errno::EEXIST => return Err(e).with_context(what),
            _ => {}
        }
        let Ok(directory) = File::open(&beside) else {
            continue; // the other has just put it in its place
        };
        directory.lock().with_context(what)?;
        let inode = |m: std::fs::Metadata| m.ino();
        let mine = directory.metadata().with_context(what)?.ino();
        if std::fs::symlink_metadata(&beside).map(inode).ok() == Some(mine) {
            break directory;
        }
    };
    if !empty().with_context(what)? {
        return std::fs::remove_dir_all(&beside).with_context(what);
    }
    // What a copy that was cut off has left.
    for entry in std::fs::read_dir(&beside).with_context(what)?.flatten() {
        match entry.file_type().is_ok_and(|t| t.is_dir()) {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::remove_file(entry.path()),
        }
        .with_context(what)?;
    }
    let directory = sys::fs::open(&beside, libc::O_RDONLY | libc::O_DIRECTORY, 0);
    copy_up(root, place, directory.with_context(what)?.as_fd(), &[])?;
    match sys::fs::renameat2(sys::fs::CWD, &beside, sys::fs::CWD, source, 0) {
        // A mount point, which nothing replaces (EBUSY), or somebody was faster (ENOTEMPTY).
        Err(e) if matches!(e.errno, Errno::EBUSY | Errno::ENOTEMPTY | Errno::EXDEV) => {
            std::fs::remove_dir_all(&beside).with_context(what)
        }
        other => other.with_context(what),
    }
}

/// Copies the directory `place` of the root into `mount`. Nothing to do when there is no such
/// directory, or when the mount has content of its own. The mount's own mode and owner stay as the
/// options of its file system (`options`) have them, where they say so. Errors: the disk is full, a
/// file cannot be read.
pub fn copy_up(
    root: BorrowedFd<'_>,
    place: &Path,
    mount: BorrowedFd<'_>,
    options: &[String],
) -> Result<()> {
    let what = || format!("cannot copy the image's {} into it", place.display());
    let by_descriptor = |fd: i32| PathBuf::from(format!("/proc/self/fd/{fd}"));
    let Ok(place) = open_in_root(root, place, libc::O_RDONLY | libc::O_DIRECTORY) else {
        return Ok(());
    };
    let (from, to) = (
        by_descriptor(place.as_raw_fd()),
        by_descriptor(mount.as_raw_fd()),
    );
    let mut content = std::fs::read_dir(&to).with_context(what)?;
    if content.any(|entry| entry.is_ok_and(|e| e.file_name() != "lost+found")) {
        return Ok(());
    }
    // Nameless, and beside the result: not in memory, which the container's limit counts.
    let spool = sys::fs::open(&to, libc::O_TMPFILE | libc::O_RDWR, 0o600).with_context(what)?;
    let mut spool = File::from(spool);
    let mut out = BufWriter::new(&mut spool);
    create::create(&from, apply::Target::Plain, &mut out).with_context(what)?;
    out.flush().with_context(what)?;
    drop(out);
    spool.rewind().with_context(what)?;
    let before = std::fs::metadata(&to).with_context(what)?;
    let recorder = sys::record::current();
    if count(&from) > RECORDED {
        sys::record::install(None);
    }
    let applied = apply::apply(BufReader::new(spool), &to, apply::Target::Plain);
    sys::record::install(recorder);
    applied.with_context(what)?;
    let given = |key: &str| options.iter().any(|o| o.starts_with(key));
    if given("uid=") || given("gid=") {
        sys::fs::fchownat(mount, ".", before.uid(), before.gid(), 0).with_context(what)?;
    }
    if given("mode=") {
        sys::fs::fchmodat(mount, ".", before.mode() & 0o7777).with_context(what)?;
    }
    Ok(())
}

/// The number of files below `directory`, counted no further than is of interest.
fn count(directory: &Path) -> usize {
    let mut waiting = vec![directory.to_path_buf()];
    let mut number = 0;
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            number += 1;
            if number > RECORDED {
                return number;
            }
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_that_was_cut_off_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in [
            "root/place/below",
            "volume/_data",
            "volume/_data-filling-/half",
        ] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("root/place/below/file"), "x").unwrap();
        let root = File::open(path("root")).unwrap();
        let go = || fill(root.as_fd(), Path::new("/place"), &path("volume/_data"));
        go().unwrap();
        assert!(path("volume/_data/below/file").exists());
        assert!(!path("volume/_data/half").exists());
        assert_eq!(std::fs::read_dir(path("volume")).unwrap().count(), 1);
        // What has content is the user's.
        std::fs::rename(path("volume/_data/below"), path("volume/_data/mine")).unwrap();
        go().unwrap();
        assert!(!path("volume/_data/below").exists());
        assert_eq!(std::fs::read_dir(path("volume")).unwrap().count(), 1);
    }
}
