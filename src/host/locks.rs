//! The locks on whole files that live processes hold.
//!
//! What it does: the kernel has a list of all locks. Who asks after hundreds of them reads it once,
//! where one would have to open each file and try. It is a quick look only: what is not in the list
//! may be held all the same, by a process outside the reader's pid namespace, or on a file system
//! whose files have other device numbers than it has itself.
//!
//! What it implements: proc_locks(5), flock(2). Interface: [`Held`].
//! Read next: [`crate::containers::reconcile`].

use procfs::{Current, LockKind, LockType};
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The exclusive locks of flock(2) at one moment, by device and inode.
#[derive(Debug, Default)]
pub struct Held(HashSet<(u64, u64)>);

impl Held {
    /// Reads the list; an empty one where it cannot be read.
    pub fn read() -> Held {
        let all = procfs::Locks::current().map_or(Vec::new(), |all| all.0);
        let ours = all
            .iter()
            .filter(|l| matches!((&l.lock_type, &l.kind), (LockType::FLock, LockKind::Write)));
        Held(
            ours.map(|l| (libc::makedev(l.devmaj, l.devmin), l.inode))
                .collect(),
        )
    }

    /// Whether this file is surely locked.
    pub fn has(&self, path: &Path) -> bool {
        !self.0.is_empty()
            && std::fs::metadata(path).is_ok_and(|m| self.0.contains(&(m.dev(), m.ino())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_while_it_is_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!Held::read().has(file.path()));
        file.as_file().lock_shared().unwrap();
        assert!(
            !Held::read().has(file.path()),
            "a shared lock is only asked"
        );
        file.as_file().unlock().unwrap();
        file.as_file().lock().unwrap();
        assert!(Held::read().has(file.path()));
        drop(file);
        assert!(!Held::read().has(Path::new("/nonexistent")));
    }
}
