//! Pinning: keeping a namespace alive without a process.
//!
//! What it does: bind-mounts a namespace file onto an ordinary file, as `ip netns` does: a mount
//! holds a reference, so the namespace lives until it is unmounted. Unpinning unmounts, and
//! removes the file if it is empty.
//!
//! What it implements: "Namespace lifetime" of namespaces(7), mount(2). Two rules of the kernel:
//! a mount namespace can only be mounted into one that is older (or it could hold itself, a
//! cycle), and not onto a shared mount below itself.
//!
//! Interface: [`pin`], [`unpin`]. Read next: `survey/mod.rs`, which finds what is pinned.

use super::Kind;
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::sys::{self, Errno, fs, mount};
use std::path::Path;

/// Mounts the namespace behind `source` (such as /proc/4211/ns/net) onto `file`, which is made if
/// it does not exist. Errors: not a namespace, no right to mount, or something is mounted there
/// already; a file that was made is then removed again.
pub fn pin(source: &Path, file: &Path) -> Result<Kind> {
    let what = || format!("cannot pin {} on {}", source.display(), file.display());
    let opened = sys::namespace::open_ns(source).with_context(what)?;
    let kind = sys::namespace::ns_get_nstype(&opened)
        .ok()
        .and_then(Kind::from_flag)
        .ok_or_else(|| {
            Error::kind(
                ErrorKind::Usage,
                format!("{} is not a namespace file", source.display()),
            )
            .topic("namespaces")
        })?;
    if let Some(id) = mounted_namespace(file) {
        return Err(Error::kind(ErrorKind::Conflict, what())
            .caused_by(Error::new(format!("{id} is pinned there already")))
            .hint(format!("glassbox ns unpin {}", file.display())));
    }
    // O_EXCL tells us whether the file is ours to remove when the mount fails.
    let made = match fs::open(file, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o444) {
        Ok(_) => true,
        Err(e) if e.errno == Errno::EEXIST => false,
        Err(e) => {
            let missing = e.errno == Errno::ENOENT;
            let error = Error::new(what()).caused_by(e);
            return Err(match file.parent().filter(|_| missing) {
                Some(dir) => error.hint(format!(
                    "make its directory first: mkdir -p {}",
                    dir.display()
                )),
                None => error,
            });
        }
    };
    let result = mount::mount(Some(source), file, None, libc::MS_BIND, None);
    if let Err(e) = result {
        if made {
            let _ = fs::unlinkat(fs::CWD, file, 0); // the mount's failure is what matters
        }
        let hint = match (e.errno, kind) {
            (Errno::EINVAL, Kind::Mnt) => Some(
                "a mount namespace can only be pinned in an older one, on a mount that does not \
                 propagate into it: mount --bind DIR DIR && mount --make-private DIR first",
            ),
            (Errno::EPERM, _) => Some("mounting needs CAP_SYS_ADMIN over the mount namespace"),
            _ => None,
        };
        let error = Error::new(what()).caused_by(e).topic("namespaces");
        return Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    Ok(kind)
}

/// Unmounts a namespace from `file` and removes the file where it is empty. Errors: no namespace
/// is mounted there.
pub fn unpin(file: &Path) -> Result<()> {
    let what = || format!("cannot unpin {}", file.display());
    if !file.exists() {
        return Err(
            Error::kind(ErrorKind::NotFound, what()).caused_by(Error::new("there is no such file"))
        );
    }
    if mounted_namespace(file).is_none() {
        return Err(Error::kind(ErrorKind::Usage, what())
            .caused_by(Error::new("no namespace is mounted on it"))
            .hint("`glassbox ns ls` shows what is pinned where")
            .topic("namespaces"));
    }
    mount::umount2(file, libc::UMOUNT_NOFOLLOW).with_context(what)?;
    let empty = std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.len() == 0);
    if empty && mounted_namespace(file).is_none() {
        fs::unlinkat(fs::CWD, file, 0).with_context(what)?;
    }
    Ok(())
}

/// Which namespace is mounted on this very path: `net:[4026532277]`.
fn mounted_namespace(file: &Path) -> Option<String> {
    let real = std::fs::canonicalize(file).ok()?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    super::survey::parse::nsfs_mounts(&text)
        .into_iter()
        .rfind(|(_, _, path)| Path::new(path) == real)
        .map(|(kind, id, _)| format!("{kind}:[{id}]"))
}
