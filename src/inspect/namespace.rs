//! A namespace by its file, its link text or its number: whose it is, who owns it, who is in it
//! and what keeps it alive.
//!
//! What it implements: namespaces(7), ioctl_nsfs(2), user_namespaces(7).
//! Interface: [`namespace`]. Read next: [`crate::namespaces`].

use super::fact::Fact;
use super::model::Namespace;
use super::process::{explain_owner, namespace_id, relation};
use super::tree;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::namespaces::Kind;
use crate::sys::{self, Errno};
use std::os::fd::OwnedFd;
use std::path::Path;

/// True for a file of nsfs, such as /proc/PID/ns/net or where one is bind-mounted.
pub fn is_namespace_file(path: &Path) -> bool {
    let is_file = std::fs::metadata(path).is_ok_and(|m| m.is_file());
    is_file
        && sys::namespace::open_ns(path)
            .and_then(|fd| sys::namespace::ns_get_nstype(&fd))
            .is_ok()
}

/// Errors: [`ErrorKind::NotFound`] when nothing that the reader may see has this namespace.
pub fn namespace(target: &str) -> Result<Namespace> {
    let all = tree::all();
    let (kind, id, fd) = open(target, &all)?;
    let owner = sys::namespace::ns_get_fd(&fd, sys::namespace::NS_GET_USERNS)
        .and_then(|owner| sys::ask::inode(&owner))
        .map_err(|e| explain_owner(&e));
    let parent = match kind.is_hierarchical() {
        false => Ok(None),
        true => match sys::namespace::ns_get_fd(&fd, sys::namespace::NS_GET_PARENT) {
            Ok(parent) => sys::ask::inode(&parent)
                .map(Some)
                .map_err(|e| e.to_string()),
            // Nothing lies above the first namespace, nor above the reader's own as it sees it.
            Err(e)
                if e.errno == Errno::EPERM
                    && relation(kind, Some(id)).get().is_some_and(|r| r == "host") =>
            {
                Ok(None)
            }
            Err(e) => Err(explain_owner(&e)),
        },
    };
    let owner_uid = match kind {
        Kind::User => sys::namespace::ns_get_owner_uid(&fd).map(Some),
        _ => Ok(None),
    };
    let host_path = format!("/proc/1/ns/{}", kind.name());
    let found = tree::tree_of_namespace(&all, kind.name(), id, 0);
    Ok(Namespace {
        kind: kind.name().into(),
        id,
        is_host: relation(kind, Some(id)).map(|r| r == "host"),
        isolates: kind.isolates().into(),
        owner: Fact::of("ioctl(NS_GET_USERNS)", owner),
        parent: Fact::of("ioctl(NS_GET_PARENT)", parent),
        owner_uid: Fact::of("ioctl(NS_GET_OWNER_UID)", owner_uid),
        kept_by: kept_by(kind, id, found.len(), &host_path),
        processes: Fact::new("readlink(/proc/*/ns)", found),
    })
}

fn kept_by(_kind: Kind, _id: u64, processes: usize, _host: &str) -> Fact<Vec<String>> {
    let list = match processes {
        0 => Vec::new(),
        1 => vec!["1 process".to_string()],
        n => vec![format!("{n} processes")],
    };
    Fact::new("/proc/*/ns", list)
}

/// Finds it: a path is opened; a number is looked for among all processes.
fn open(target: &str, all: &[tree::Seen]) -> Result<(Kind, u64, OwnedFd)> {
    if target.starts_with(['/', '.']) {
        let fd = sys::namespace::open_ns(target)
            .map_err(|e| Error::new(format!("cannot open {target}")).caused_by(e))?;
        let flag = sys::namespace::ns_get_nstype(&fd).map_err(|e| {
            Error::kind(ErrorKind::Usage, format!("{target} is no namespace")).caused_by(e)
        })?;
        let kind = Kind::from_flag(flag)
            .ok_or_else(|| Error::new(format!("a namespace of an unknown type, {flag:#x}")))?;
        return Ok((kind, sys::ask::inode(&fd)?, fd));
    }
    let (wanted, id) = match Kind::parse_link(target) {
        Some((kind, id)) => (Some(kind), id),
        None => (
            None,
            target.parse().map_err(|_| {
                Error::kind(ErrorKind::Usage, format!("{target:?} names no namespace"))
                    .hint("for example 4026531840, net:[4026531840] or /proc/PID/ns/net")
            })?,
        ),
    };
    let holder = all.iter().find_map(|seen| {
        let (name, _) = seen
            .namespaces
            .iter()
            .find(|(name, found)| **found == id && wanted.is_none_or(|w| w.name() == **name))?;
        Some((seen.pid, *name))
    });
    let (pid, name) = holder.ok_or_else(|| {
        Error::kind(
            ErrorKind::NotFound,
            format!("no process is in a namespace {target}"),
        )
        .hint("`glassbox ns ls` also finds those that only a file keeps; give its path")
    })?;
    let path = format!("/proc/{pid}/ns/{name}");
    let fd = sys::namespace::open_ns(&path)
        .map_err(|e| Error::new(format!("cannot open {path}")).caused_by(e))?;
    let kind = name.parse::<Kind>()?;
    // The process may have moved on meanwhile.
    if namespace_id(&path) != Ok(id) {
        return Err(Error::kind(
            ErrorKind::NotFound,
            format!("the namespace {target} has gone"),
        ));
    }
    Ok((kind, id, fd))
}
