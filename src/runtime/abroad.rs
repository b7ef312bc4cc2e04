//! A mount that is taken out of another mount namespace.
//!
//! What it does: a container that joins another's IPC namespace shares its `/dev/shm` too, and
//! that is a tmpfs which exists in the other's mount namespace alone. `open_tree` copies only what
//! lies in the caller's own namespace, so the caller goes there for that one call and takes the
//! copy home, attached to nothing yet.
//!
//! Who runs here: init, which has a mount namespace of its own already, and which owns the other
//! one too (root, or root of the user namespace that both live in).
//!
//! What it implements: setns(2) with `CLONE_NEWNS`, which also moves the caller's root and working
//! directory: both are put back. Interface: [`open_tree`], [`calls`]. Read next: `mount.rs`.

use crate::error::{Context, Result};
use crate::journal::Planned;
use crate::sys::{self, fs::CWD, mount, namespace};
use std::os::fd::OwnedFd;
use std::path::Path;

const OWN: &str = "/proc/self/ns/mnt";

/// What [`open_tree`] will call, `open` being the call that is made there.
pub fn calls(file: &Path, open: Planned) -> Vec<Planned> {
    let enter = |file: &Path| Planned::new("setns", format!("{}, CLONE_NEWNS", file.display()));
    vec![
        enter(file),
        open,
        enter(Path::new(OWN)),
        Planned::new("fchdir", "the root as it was"),
        Planned::new("chroot", "\".\""),
        Planned::new("fchdir", "the working directory as it was"),
    ]
}

/// `open_tree(source, OPEN_TREE_CLONE)` in the mount namespace of `file`. Errors: its owner has
/// ended meanwhile, or the namespace belongs to somebody else.
pub fn open_tree(file: &Path, source: &Path, flags: u32) -> Result<OwnedFd> {
    let what = || format!("cannot take {} out of {}", source.display(), file.display());
    let there = namespace::open_ns(file).with_context(what)?;
    let own = namespace::open_ns(Path::new(OWN)).with_context(what)?;
    let directory = |path: &str| sys::fs::open(path, libc::O_PATH | libc::O_DIRECTORY, 0);
    let (root, cwd) = (
        directory("/").with_context(what)?,
        directory(".").with_context(what)?,
    );
    namespace::setns(&there, libc::CLONE_NEWNS as u64).with_context(what)?;
    let tree = mount::open_tree(CWD, source, flags);
    // Back in any case: nothing else may happen over there.
    namespace::setns(&own, libc::CLONE_NEWNS as u64).with_context(what)?;
    sys::fs::fchdir(&root).with_context(what)?;
    mount::chroot(Path::new(".")).with_context(what)?;
    sys::fs::fchdir(&cwd).with_context(what)?;
    tree.with_context(what)
}
