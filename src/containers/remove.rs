//! Removing a container's directories.
//!
//! What it does: deletes a tree that a container may have filled: nothing in it is followed, every
//! name is removed relative to an open directory, and what is already gone is no error, so a
//! removal that was cut off can be repeated. `container.json` goes first: without it the directory
//! is no container any more, and the next command sweeps what is left.
//! Interface: [`remove_tree`], [`remove_directories`]. Read next: `reconcile.rs`.

use super::store::Container;
use crate::error::{Context, Result};
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Removes what a container has on disk. Call it with the container's lock held, when none of its
/// processes runs.
pub fn remove_directories(container: &Container) -> Result<()> {
    let record = container.dir.join("container.json");
    match sys::fs::unlinkat(sys::fs::CWD, &record, 0) {
        Err(e) if e.errno != Errno::ENOENT => {
            return Err(e).with_context(|| format!("cannot remove container {}", container.name()));
        }
        _ => {}
    }
    remove_tree(&container.run)?;
    remove_tree(&container.dir)
}

/// Removes the directory `path` and all below it. Errors: the first thing that cannot be removed
/// (the rest is tried all the same).
pub fn remove_tree(path: &Path) -> Result<()> {
    let what = || format!("cannot remove {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let parent = match sys::fs::open(parent, flags, 0) {
        Ok(fd) => fd,
        Err(e) if e.errno == Errno::ENOENT => return Ok(()),
        Err(e) => return Err(e).with_context(what),
    };
    remove_at(&parent, Path::new(name)).with_context(what)
}

fn remove_at(parent: &OwnedFd, name: &Path) -> sys::SysResult<()> {
    match sys::fs::unlinkat(parent, name, 0) {
        Ok(()) => return Ok(()),
        Err(e) if e.errno == Errno::ENOENT => return Ok(()),
        Err(e) if e.errno != Errno::EISDIR && e.errno != Errno::EPERM => return Err(e),
        Err(_) => {}
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dir = match sys::fs::openat(parent, name, flags, 0) {
        Ok(dir) => dir,
        // Overlay's work directory has mode 000, which stops an ordinary owner.
        Err(e) if e.errno == Errno::EACCES => {
            sys::fs::fchmodat(parent, name, 0o700)?;
            sys::fs::openat(parent, name, flags, 0)?
        }
        Err(e) if e.errno == Errno::ENOENT => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut failure = None;
    // Through /proc the listing is of the very directory that is open, wherever its name leads.
    let listing = std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    for entry in listing.into_iter().flatten().flatten() {
        if let Err(e) = remove_at(&dir, Path::new(&entry.file_name())) {
            failure.get_or_insert(e);
        }
    }
    match failure {
        Some(e) => Err(e),
        None => match sys::fs::unlinkat(parent, name, libc::AT_REMOVEDIR) {
            Err(e) if e.errno == Errno::ENOENT => Ok(()),
            other => other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_and_what_it_points_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::write(&kept, "x").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), tree.join("a/b/up")).unwrap();
        std::fs::write(tree.join("file"), "").unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.exists());
        remove_tree(&tree).unwrap();
    }
}
