//! Who owns a namespace, and what is above it: the questions that a namespace itself answers.
//!
//! What it does: opens each namespace that was found, asks for its owner and parent, and takes up
//! those that were not known yet: a user namespace with no process in it lives as long as one
//! below it.
//! What it implements: ioctl_nsfs(2). Interface: [`follow`] (of this folder only).
//! Read next: `tree.rs`.

use super::Keeper;
use super::scan::{Scan, inode};
use crate::namespaces::Kind;
use crate::sys::{
    self, Errno,
    namespace::{NS_GET_PARENT, NS_GET_USERNS, ns_get_fd, ns_get_owner_uid, open_ns},
};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Fills in the relations, adds the namespaces found by them, and the keepers that they are.
pub(super) fn follow(scan: &mut Scan) {
    let mut queue: Vec<((Kind, u64), OwnedFd)> = Vec::new();
    for (key, seen) in &mut scan.found {
        let opened = match (&seen.path, seen.socket) {
            (Some(path), _) => Some(open_ns(path)),
            (None, Some((pid, fd))) => open_by_socket(pid, fd).transpose(),
            (None, None) => None,
        };
        match opened {
            Some(Ok(fd)) if inode(&fd) == Some(key.1) => queue.push((*key, fd)),
            Some(Ok(_)) => seen.owner_unread = Some("it went away meanwhile".into()),
            Some(Err(e)) => seen.owner_unread = Some(sys::describe_errno(e.errno)),
            None => {
                seen.owner_unread = Some("it is only mounted where no process is".into());
            }
        }
    }
    let mut asked: BTreeSet<(Kind, u64)> = queue.iter().map(|(key, _)| *key).collect();
    while let Some((key, fd)) = queue.pop() {
        let mut found_above = Vec::new();
        let owner = ask(&fd, NS_GET_USERNS);
        let parent = key.0.is_hierarchical().then(|| ask(&fd, NS_GET_PARENT));
        let seen = scan.found.entry(key).or_default();
        match owner {
            Ok((id, above)) => {
                seen.owner = Some(id);
                found_above.push(((Kind::User, id), above));
            }
            // Of the user namespace in which we are, and of the initial one, nobody is told.
            Err(Errno::EPERM) => {
                seen.owner_unread = (key.0 != Kind::User)
                    .then(|| "EPERM: it lies outside our own user namespace".into());
            }
            Err(e) => seen.owner_unread = Some(sys::describe_errno(e)),
        }
        if let Some(Ok((id, above))) = parent {
            seen.parent = Some(id);
            found_above.push(((key.0, id), above));
        }
        if key.0 == Kind::User {
            seen.owner_uid = ns_get_owner_uid(&fd).ok();
        }
        for (key, fd) in found_above {
            if asked.insert(key) {
                queue.push((key, fd));
            }
        }
    }
    keepers(scan);
}

/// The network namespace of a process's socket; none when it has been closed.
fn open_by_socket(pid: i32, fd: i32) -> sys::SysResult<Option<OwnedFd>> {
    sys::namespace::socket_namespace(sys::process::pidfd_open(pid)?, fd)
}

/// Asks for the namespace above: its id and a descriptor.
fn ask(fd: &OwnedFd, request: libc::c_ulong) -> Result<(u64, OwnedFd), Errno> {
    let above = ns_get_fd(fd, request).map_err(|e| e.errno)?;
    let id = inode(&above).ok_or(Errno::EIO)?;
    Ok((id, above))
}

/// Whatever is below keeps what is above.
fn keepers(scan: &mut Scan) {
    let mut children: BTreeMap<(Kind, u64), Vec<u64>> = BTreeMap::new();
    let mut owned: BTreeMap<u64, usize> = BTreeMap::new();
    for ((kind, id), seen) in &scan.found {
        if let Some(parent) = seen.parent {
            children.entry((*kind, parent)).or_default().push(*id);
        }
        if let Some(owner) = seen.owner
            && *kind != Kind::User
        {
            *owned.entry(owner).or_default() += 1;
        }
    }
    for (key, ids) in children {
        let seen = scan.found.entry(key).or_default();
        seen.keepers.push(Keeper::Children { ids });
    }
    for (id, count) in owned {
        let seen = scan.found.entry((Kind::User, id)).or_default();
        seen.keepers.push(Keeper::Owned { count });
    }
}
