//! The locks on whole files that live processes hold.
//!
//! What it does: the kernel has a list of all locks. Who asks after hundreds of them reads it once,
//! where one would have to open each file and try. It is a quick look only: what is not in the list
//! may be held all the same, by a process outside the reader's pid namespace, or on a file system
//! whose files have other device numbers than it has itself.
//!
//! What it implements: proc_locks(5), flock(2). Interface: [`Held`], [`Identity`].
//! Read next: [`crate::containers::survey`].

use nix::fcntl::AtFlags;
use procfs::{Current, LockKind, LockType};
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::Path;

/// The exclusive locks of flock(2) at one moment, by device and inode.
#[derive(Debug, Default)]
pub struct Held(HashSet<Identity>);

impl Held {
    /// Reads the list; an empty one where it cannot be read.
    pub fn read() -> Held {
        let all = procfs::Locks::current().map_or(Vec::new(), |all| all.0);
        let ours = all
            .iter()
            .filter(|l| matches!((&l.lock_type, &l.kind), (LockType::FLock, LockKind::Write)));
        Held(
            ours.map(|l| Identity(libc::makedev(l.devmaj, l.devmin), l.inode))
                .collect(),
        )
    }

    /// Whether this file is surely locked.
    pub fn has(&self, file: Identity) -> bool {
        self.0.contains(&file)
    }
}

/// Which file it is, by whatever name: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(u64, u64);

impl Identity {
    /// Of the file at `path`, relative to `dir`. `None` when there is none.
    pub fn of(dir: impl AsFd, path: &Path) -> Option<Identity> {
        let stat = nix::sys::stat::fstatat(dir, path, AtFlags::empty()).ok()?;
        Some(Identity(stat.st_dev, stat.st_ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::CWD;

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let it = Identity::of(CWD, file.path()).unwrap();
        assert!(!Held::read().has(it));
        file.as_file().lock_shared().unwrap();
        assert!(!Held::read().has(it), "a shared lock is only asked");
        file.as_file().unlock().unwrap();
        file.as_file().lock().unwrap();
        assert!(Held::read().has(it));
        drop(file);
        assert_eq!(Identity::of(CWD, Path::new("/nonexistent")), None);
    }
}
