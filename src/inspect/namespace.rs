//! A namespace by its file, its link text or its number: whose it is, who owns it, who is in it
//! and what keeps it alive.
//!
//! What it does: words what [`crate::namespaces::survey`] finds on the whole host in the model's
//! keys; so a namespace that no process holds (a bind mount, a descriptor) is found as well.
//! What it implements: namespaces(7), ioctl_nsfs(2), user_namespaces(7).
//! Interface: [`namespace`]. Read next: [`crate::namespaces::survey`].

use super::fact::Fact;
use super::model::Namespace;
use super::process::relation;
use super::tree;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::namespaces::Kind;
use crate::namespaces::survey::{self, Survey};
use crate::sys;
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
    let survey = Survey::of_host()?;
    let found = find(target, &survey)?;
    let (kind, id) = (found.kind, found.id);
    let members = tree::tree_of_namespace(&tree::all(), kind.name(), id, 0);
    let is_host = relation(kind, Some(id)).map(|r| r == "host");
    let owner = match (found.owner, &found.owner_unread) {
        (Some(owner), _) => Fact::new("ioctl(NS_GET_USERNS)", owner),
        (None, Some(why)) => Fact::unread("ioctl(NS_GET_USERNS)", why),
        (None, None) => Fact::unread(
            "ioctl(NS_GET_USERNS)",
            "the first user namespace has no owner",
        ),
    };
    let parent = match (kind.is_hierarchical(), found.parent, is_host.get()) {
        (true, None, Some(false)) => Fact::unread(
            "ioctl(NS_GET_PARENT)",
            "it lies outside of the reader's own namespace",
        ),
        (_, parent, _) => Fact::new("ioctl(NS_GET_PARENT)", parent),
    };
    Ok(Namespace {
        kind: kind.name().into(),
        id,
        is_host,
        isolates: kind.isolates().into(),
        owner,
        parent,
        owner_uid: Fact::new("ioctl(NS_GET_OWNER_UID)", found.owner_uid),
        kept_by: Fact::new(
            "/proc/*/ns, /proc/*/task/*/ns, /proc/*/fd, mountinfo of every mount namespace",
            found.kept_by.iter().map(ToString::to_string).collect(),
        ),
        processes: Fact::new("readlink(/proc/*/ns)", members),
    })
}

/// Finds it: a path is opened and asked for its number; a number is looked for in the survey.
fn find<'a>(target: &str, survey: &'a Survey) -> Result<&'a survey::Namespace> {
    let (wanted, id) = if target.starts_with(['/', '.']) {
        let fd = sys::namespace::open_ns(target)
            .map_err(|e| Error::new(format!("cannot open {target}")).caused_by(e))?;
        let flag = sys::namespace::ns_get_nstype(&fd).map_err(|e| {
            Error::kind(ErrorKind::Usage, format!("{target} is no namespace")).caused_by(e)
        })?;
        (Kind::from_flag(flag), sys::ask::inode(&fd)?)
    } else if let Some((kind, id)) = Kind::parse_link(target) {
        (Some(kind), id)
    } else {
        let id = target.parse().map_err(|_| {
            Error::kind(ErrorKind::Usage, format!("{target:?} names no namespace"))
                .hint("for example 4026531840, net:[4026531840] or /proc/PID/ns/net")
        })?;
        (None, id)
    };
    let fits = |n: &&survey::Namespace| n.id == id && wanted.is_none_or(|kind| kind == n.kind);
    survey.namespaces.iter().find(fits).ok_or_else(|| {
        let error = Error::kind(
            ErrorKind::NotFound,
            format!("nothing that this user may see is in the namespace {target}"),
        );
        match survey.unread.first() {
            Some(unread) => error.hint(format!(
                "not everything could be looked at: {}, {} of them: {}",
                unread.what, unread.count, unread.why
            )),
            None => error.hint("`glassbox ns ls` lists all namespaces"),
        }
    })
}
