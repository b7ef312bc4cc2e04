//! Probes: overlayfs, the mount API, id-mapped mounts, safe path resolution.
//!
//! Each makes a tmpfs over some directory inside a mount namespace of its own, in a child, and
//! works in there; the namespace and all of it go with the child.
//!
//! What it implements: mount(2), fsopen(2), mount_setattr(2), open_tree(2), statmount(2),
//! openat2(2), the kernel's filesystems/overlayfs.rst.
//! Read next: `process.rs`.

use super::{Ability, Probe, has_capability, in_child, setting, since};
use crate::sys::{self, Errno, SysError, SysResult, fs::CWD};
use std::path::{Path, PathBuf};

const NEWNS: u64 = libc::CLONE_NEWNS as u64;
const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "file systems",
        name: "overlayfs",
        what_for: "stacking an image's layers under one writable directory",
        source: "mount(overlay) in a child's mount namespace",
        check: || {
            overlay(NEWNS, false, |e| {
                if e == Errno::EPERM {
                    "root, or the next line's user namespace"
                } else {
                    "modprobe overlay"
                }
            })
        },
    },
    Probe {
        group: "file systems",
        name: "overlayfs in a user namespace",
        what_for: "layers for rootless containers without copying or FUSE",
        source: "mount(overlay, userxattr) in a child's user and mount namespace",
        check: || overlay(NEWNS | NEWUSER, true, |_| "Linux 5.11, and user namespaces"),
    },
    Probe {
        group: "file systems",
        name: "overlayfs lowerdir+",
        what_for: "layers one at a time, free of the one-page limit of mount(2)'s options",
        source: "fsconfig(lowerdir+) in a child's mount namespace",
        check: || private(lowerdir_plus, since("6.5")),
    },
    Probe {
        group: "file systems",
        name: "tmpfs",
        what_for: "--tmpfs, /dev and /dev/shm",
        source: "mount(tmpfs) in a child's mount namespace",
        check: || {
            private(
                |_| Ok(String::new()),
                |_| "a kernel built with CONFIG_TMPFS".into(),
            )
        },
    },
    Probe {
        group: "file systems",
        name: "id-mapped mounts",
        what_for: "sharing one unpacked layer between containers with different id maps",
        source: "mount_setattr(MOUNT_ATTR_IDMAP) on copies of / and of a tmpfs in a child's mount namespace",
        check: || {
            private_as_root(id_mapped, |e| match e {
                Errno::EINVAL => "Linux 5.12 or later, and a file system that supports it".into(),
                _ => since("5.12")(e),
            })
        },
    },
    Probe {
        group: "mount API",
        name: "fsopen",
        what_for: "making file systems option by option, with the kernel's own error text",
        source: "fsopen(2), fsconfig(2), fsmount(2) in a child's mount namespace",
        check: || private(fs_context, since("5.2")),
    },
    Probe {
        group: "mount API",
        name: "open_tree and move_mount",
        what_for: "bind mounts that are built detached and attached when complete",
        source: "open_tree(OPEN_TREE_CLONE), move_mount(2) in a child's mount namespace",
        check: || private(detached, since("5.2")),
    },
    Probe {
        group: "mount API",
        name: "mount_setattr",
        what_for: "read-only and nosuid for a whole tree of mounts at once",
        source: "mount_setattr(AT_RECURSIVE) in a child's mount namespace",
        check: || {
            private(
                |dir| {
                    let attribute = libc::MOUNT_ATTR_RDONLY;
                    sys::mount::mount_setattr(CWD, dir, true, attribute, 0, 0, None)?;
                    Ok(String::new())
                },
                since("5.12"),
            )
        },
    },
    Probe {
        group: "mount API",
        name: "pivot_root",
        what_for: "making a mounted tree the root, which no process can leave as it can a chroot",
        source: "pivot_root(2) in a child's mount namespace",
        check: || {
            private(
                |dir| {
                    // The root of the child alone: its mount namespace is its own.
                    sys::fs::chdir(dir)?;
                    sys::mount::pivot_root(Path::new("."), Path::new("."))?;
                    Ok(String::new())
                },
                |e| match e {
                    Errno::EINVAL => "the root is the initramfs: switch_root to a real one".into(),
                    other => since("2.4")(other),
                },
            )
        },
    },
    Probe {
        group: "mount API",
        name: "statmount and listmount",
        what_for: "reading another namespace's mounts without entering it",
        source: "listmount(2), statmount(2)",
        check: || {
            let first = sys::statmount::listmount(0);
            let read = first.and_then(|ids| match ids.first() {
                Some(id) => sys::statmount::statmount(0, *id).map(|_| ids.len()),
                None => Ok(0),
            });
            match read {
                Ok(n) => Ability::Yes(format!("{n} mounts here")),
                Err(e) => Ability::of(Err::<(), _>(e), since("6.8")),
            }
        },
    },
    Probe {
        group: "mount API",
        name: "openat2",
        what_for: "paths that cannot lead out of a container's root (RESOLVE_IN_ROOT)",
        source: "openat2(2)",
        check: || {
            let resolve = libc::RESOLVE_IN_ROOT;
            let opened = sys::fs::openat2(CWD, ".", libc::O_PATH, 0, resolve);
            Ability::of(opened, since("5.6"))
        },
    },
    Probe {
        group: "mount API",
        name: "watching mounts (fanotify)",
        what_for: "telling what is mounted and unmounted in a namespace, live",
        source: "fanotify_init(FAN_REPORT_MNT)",
        check: || Ability::of(sys::ask::fanotify_mounts(), since("6.15")),
    },
];

/// The namespaces in which this user may mount: root needs no user namespace.
fn flags() -> u64 {
    if has_capability(21) {
        NEWNS
    } else {
        NEWNS | NEWUSER
    }
}

/// A tmpfs in a mount namespace of the child's own, and `f` in it.
fn private(f: fn(&Path) -> SysResult<String>, how: impl FnOnce(Errno) -> String) -> Ability {
    answer(in_child(flags(), || f(&scratch()?)), how)
}

/// The same, always in the user namespace of the caller.
fn private_as_root(
    f: fn(&Path) -> SysResult<String>,
    how: impl FnOnce(Errno) -> String,
) -> Ability {
    answer(in_child(NEWNS, || f(&scratch()?)), how)
}

fn answer(result: Result<String, SysError>, how: impl FnOnce(Errno) -> String) -> Ability {
    match result {
        Ok(text) => Ability::Yes(text),
        Err(e) => Ability::no(e.to_string(), how(e.errno)),
    }
}

/// Mounts a tmpfs over the first directory that exists. Only the child's namespace sees it.
fn scratch() -> SysResult<PathBuf> {
    let places = ["/tmp", "/mnt", "/run", "/dev", "/proc"].map(PathBuf::from);
    let place = places
        .into_iter()
        .find(|p| p.is_dir())
        .unwrap_or_else(|| "/".into());
    sys::mount::mount(
        Some(Path::new("probe")),
        &place,
        Some("tmpfs"),
        0,
        Some("size=64k"),
    )?;
    Ok(place)
}

fn overlay(flags: u64, userxattr: bool, how: fn(Errno) -> &'static str) -> Ability {
    let result = in_child(flags, || {
        let dir = scratch()?;
        for name in ["lower", "upper", "work", "merged"] {
            sys::fs::mkdirat(CWD, dir.join(name), 0o755)?;
        }
        let d = dir.display();
        let mut options = format!("lowerdir={d}/lower,upperdir={d}/upper,workdir={d}/work");
        if userxattr {
            options += ",userxattr";
        }
        let merged = dir.join("merged");
        sys::mount::mount(
            Some(Path::new("overlay")),
            &merged,
            Some("overlay"),
            0,
            Some(&options),
        )?;
        // A mount alone proves little: a file must be writable through it and land in upper.
        sys::fs::mkdirat(CWD, merged.join("made"), 0o755)?;
        sys::fs::openat(CWD, dir.join("upper/made"), libc::O_PATH, 0)?;
        Ok(String::new())
    });
    let known = setting("/proc/filesystems").unwrap_or_default();
    match result {
        Ok(_) => Ability::yes(),
        Err(e) if e.errno == Errno::ENODEV || !known.contains("overlay") => {
            Ability::no(e.to_string(), "modprobe overlay, or CONFIG_OVERLAY_FS")
        }
        Err(e) => Ability::no(e.to_string(), how(e.errno)),
    }
}

fn lowerdir_plus(dir: &Path) -> SysResult<String> {
    for name in ["a", "b"] {
        sys::fs::mkdirat(CWD, dir.join(name), 0o755)?;
    }
    let fs = sys::mount::fsopen("overlay")?;
    for name in ["a", "b"] {
        let path = dir.join(name);
        sys::mount::fsconfig_set_string(&fs, "lowerdir+", &path.to_string_lossy())?;
    }
    sys::mount::fsconfig_create(&fs)?;
    sys::mount::fsmount(&fs, 0)?;
    Ok(String::new())
}

fn fs_context(_: &Path) -> SysResult<String> {
    let fs = sys::mount::fsopen("tmpfs")?;
    sys::mount::fsconfig_set_string(&fs, "size", "64k")?;
    sys::mount::fsconfig_create(&fs)?;
    sys::mount::fsmount(&fs, 0)?;
    Ok(String::new())
}

fn detached(dir: &Path) -> SysResult<String> {
    let (from, to) = (dir.join("from"), dir.join("to"));
    sys::fs::mkdirat(CWD, &from, 0o755)?;
    sys::fs::mkdirat(CWD, &to, 0o755)?;
    let tree = sys::mount::open_tree(CWD, &from, sys::mount::OPEN_TREE_CLONE)?;
    let flags = sys::mount::MOVE_MOUNT_F_EMPTY_PATH;
    sys::mount::move_mount(&tree, Path::new(""), CWD, &to, flags)?;
    Ok(String::new())
}

/// Maps a detached tmpfs through the user namespace of a grandchild.
fn id_mapped(dir: &Path) -> SysResult<String> {
    let (ours, theirs) = sys::socket::socketpair()?;
    match sys::namespace::clone3(NEWUSER, None)? {
        sys::namespace::Cloned::Child => {
            // Only lives so that its user namespace does, until the other end is closed.
            drop(ours);
            let _ = sys::socket::recv(&theirs);
            sys::process::exit_now(0)
        }
        sys::namespace::Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let result = (|| {
                sys::fs::write_file(format!("/proc/{pid}/uid_map"), "0 100000 10\n")?;
                sys::fs::write_file(format!("/proc/{pid}/gid_map"), "0 100000 10\n")?;
                let userns = sys::namespace::open_ns(format!("/proc/{pid}/ns/user"))?;
                let map = |place: &Path| {
                    // A detached copy: nothing that anybody can see is mapped.
                    let tree = sys::mount::open_tree(CWD, place, sys::mount::OPEN_TREE_CLONE)?;
                    let (empty, attribute) = (Path::new(""), libc::MOUNT_ATTR_IDMAP);
                    sys::mount::mount_setattr(&tree, empty, false, attribute, 0, 0, Some(&userns))
                };
                // Each file system needs support of its own.
                match (map(Path::new("/")), map(dir)) {
                    (Ok(()), Ok(())) => Ok("the root's file system, tmpfs".to_string()),
                    (Ok(()), Err(_)) => Ok("the root's file system; not tmpfs".to_string()),
                    (Err(_), Ok(())) => Ok("tmpfs; not the root's file system".to_string()),
                    (Err(e), Err(_)) => Err(e),
                }
            })();
            drop(ours);
            let _ = sys::process::waitid(&pidfd, 0);
            result
        }
    }
}
