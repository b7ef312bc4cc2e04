//! Removing a container's directories.
//!
//! What it does: deletes a tree that a container may have filled: nothing in it is followed, every
//! name is removed relative to an open directory, and what is already gone is no error, so a
//! removal that was cut off can be repeated. `container.json` goes first: without it the directory
//! is no container any more, and the next command sweeps what is left. Volumes that go with it are
//! written down before that, so that a removal that was cut off is finished with them.
//!
//! Who runs here: an ordinary user has no power over what programs of other ids in its containers
//! have made. Root of the containers' user namespace has; so what cannot be removed otherwise is
//! removed by a process of ours in one with the same maps (`inside.rs`).
//!
//! Interface: [`remove_tree`], [`remove_directories`], [`sweep`], [`COMMAND`].
//! Read next: `reconcile.rs`.

use super::store::{Container, Store};
use super::{events, inside, state, volumes};
use crate::error::{Context, Error, Result};
use crate::sys::{self, Errno};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The hidden first word that makes our binary remove a directory and nothing else.
pub const COMMAND: &str = "remove-tree";

/// Names the volumes that go with a container, in its directory.
const GOING: &str = "volumes-going.json";

/// Removes what a container has on disk, and with `with_volumes` its volumes without a name that
/// no other container uses. Call it with the container's lock held, when none of its processes
/// runs; it takes the names' lock for the volumes, so nobody may take the two the other way round.
pub fn remove_directories(container: &Container, with_volumes: bool) -> Result<()> {
    let store = Store::of(container);
    let going = match with_volumes {
        true => anonymous_volumes(&store, container),
        false => Vec::new(),
    };
    if !going.is_empty() {
        let text = state::to_json(&going)?;
        state::write_atomically(&container.dir.join(GOING), &text, 0o600, false)?;
    }
    let record = container.dir.join("container.json");
    match sys::fs::unlinkat(sys::fs::CWD, &record, 0) {
        Err(e) if e.errno != Errno::ENOENT => {
            return Err(e).with_context(|| format!("cannot remove container {}", container.name()));
        }
        _ => {}
    }
    events::of(container, "destroy", &[]);
    if !going.is_empty() {
        let _names = store.lock_names()?;
        volumes::remove_unused(&store, &going)?;
    }
    remove_tree(&container.run)?;
    remove_tree(&container.dir)
}

fn anonymous_volumes(store: &Store, container: &Container) -> Vec<String> {
    let points = container.record.mount_points.iter();
    let names = points.filter(|p| p.typ == "volume").map(|p| &p.name);
    let anonymous =
        |name: &&String| volumes::find(store, name).is_ok_and(|(volume, _)| volume.is_anonymous());
    names.filter(anonymous).cloned().collect()
}

/// Finishes the removal of a container whose `container.json` is gone. Call it with the names' lock
/// held.
pub fn sweep(store: &Store, dir: &Path, run: &Path) -> Result<()> {
    // A list that was cut off while it was written means that the container was still whole.
    let going: Option<Vec<String>> = state::read_json(&dir.join(GOING)).unwrap_or_default();
    volumes::remove_unused(store, &going.unwrap_or_default())?;
    remove_tree(dir)?;
    remove_tree(run)
}

/// Removes the directory `path` and all below it. Errors: the first thing that cannot be removed
/// (the rest is tried all the same).
pub fn remove_tree(path: &Path) -> Result<()> {
    match remove_from_here(path) {
        Err(e)
            if matches!(e.errno(), Some(libc::EPERM | libc::EACCES))
                && !nix::unistd::geteuid().is_root() =>
        {
            remove_from_inside(path)?;
            remove_from_here(path) // says what could not be removed there either
        }
        done => done,
    }
}

/// Has root of a user namespace with the containers' id maps remove it.
fn remove_from_inside(path: &Path) -> Result<()> {
    let mut command = Command::new(inside::OURS);
    command
        .args(inside::words(&[COMMAND]))
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = sys::process::spawn(&mut command)
        .context("cannot remove it as root of a user namespace")?;
    let _ = child.wait(); // a monitor has reaped it already; what counts is what is left
    Ok(())
}

/// The whole life of that process: the directory. Prints nothing.
pub fn remove_named(args: &[OsString]) -> Result<u8> {
    let [path] = args else {
        return Err(Error::new("this word is for our own processes"));
    };
    remove_from_here(Path::new(path)).map(|()| 0)
}

fn remove_from_here(path: &Path) -> Result<()> {
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
    for _ in 0..10 {
        match remove_at(&parent, Path::new(name)) {
            // Who wanted the lock when it went makes the file anew, and sees then that all has gone.
            Err(e) if e.errno == Errno::ENOTEMPTY => std::thread::sleep(Duration::from_millis(5)),
            other => return other.with_context(what),
        }
    }
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
