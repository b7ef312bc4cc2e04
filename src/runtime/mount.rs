//! Mounting one entry of config.json inside the new root.
//!
//! What it does: makes a mount that is nowhere yet (a file system context, or a copy of an
//! existing tree), gives it its attributes, and only then attaches it to a directory that was
//! opened inside the root. Nothing is ever visible half-configured, and no path is resolved
//! twice, so an image cannot swap a symbolic link in between.
//!
//! What it implements: runtime-spec "Mounts"; fsopen(2), open_tree(2), mount_setattr(2),
//! move_mount(2), openat2(2) with `RESOLVE_IN_ROOT`.
//! Interface: [`Mount`] (an action), [`target`]. Read next: `rootfs.rs`.

use super::abroad;
use super::copy_up::{copy_up, fill};
use super::options::MountOptions;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, fs::CWD, mount as m};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// The scene's name for the new root, opened `O_PATH`.
pub const ROOT: &str = "root";

/// Mounts `source` at `destination` inside the root.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Where, as an absolute path inside the container.
    pub destination: PathBuf,
    /// The file system's type; ignored for a bind.
    pub fstype: String,
    /// Device, path or name.
    pub source: PathBuf,
    /// The parsed options.
    pub options: MountOptions,
    /// The scene's name of the copy of `source` that the parent has made (see `tree.rs`).
    pub tree: Option<String>,
}

impl Action for Mount {
    fn calls(&self) -> Vec<Planned> {
        let to = self.destination.display();
        let o = &self.options;
        let mut calls = Vec::new();
        if self.tree.is_some() {
            // Copied by an earlier step.
        } else if o.bind {
            let recursive = if o.recursive { "|AT_RECURSIVE" } else { "" };
            let open = Planned::new(
                "open_tree",
                format!("{:?}, OPEN_TREE_CLONE{recursive}", self.source),
            );
            match (&o.namespace, &o.subpath) {
                (Some(file), _) => calls.extend(abroad::calls(file, open)),
                (None, Some(path)) => {
                    calls.push(Planned::new(
                        "openat2",
                        format!("{path:?} below {:?}, RESOLVE_IN_ROOT", self.source),
                    ));
                    calls.push(open);
                }
                (None, None) => calls.push(open),
            }
        } else {
            calls.push(Planned::new("fsopen", format!("{:?}", self.fstype)));
            for option in self.fs_options() {
                calls.push(Planned::new("fsconfig", option));
            }
            calls.push(Planned::new("fsconfig", "FSCONFIG_CMD_CREATE"));
            calls.push(Planned::new("fsmount", o.names()));
        }
        for change in self.changes() {
            calls.push(Planned::new(
                "mount_setattr",
                format!(
                    "set {}, clear {}{}{}",
                    sys::flag_names(change.set, m::MOUNT_ATTRS),
                    sys::flag_names(change.clear, m::MOUNT_ATTRS),
                    if change.propagation != 0 { ", " } else { "" },
                    if change.propagation != 0 {
                        sys::flag_names(change.propagation, m::MS_FLAGS)
                    } else {
                        String::new()
                    }
                ),
            ));
        }
        calls.push(Planned::new("move_mount", format!("→ {to}")));
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot mount {} at {}",
                self.describe(),
                self.destination.display()
            )
        };
        if self.options.copy_up && self.fills_a_directory() {
            fill(scene.fd(ROOT)?, &self.destination, &self.source).with_context(what)?;
        }
        let mount = match &self.tree {
            Some(name) => scene
                .take_fd(name)
                .context("no earlier step has copied it (a fault in the plan)")
                .with_context(what)?,
            None => self.detached().with_context(what)?,
        };
        let root = scene.fd(ROOT)?;
        if self.options.copy_up {
            // Before the mount is read-only, and before it covers what is copied.
            copy_up(root, &self.destination, mount.as_fd(), &self.options.data)
                .with_context(what)?;
        }
        for change in self.changes() {
            m::mount_setattr(
                &mount,
                Path::new(""),
                change.below,
                change.set,
                change.clear,
                change.propagation,
                None,
            )
            .with_context(what)
            .map_err(|e| advise(e, self))?;
        }
        let directory = is_directory(mount.as_fd()).with_context(what)?;
        let place = match self.must_be_real() {
            true => plain_target(root, &self.destination, directory),
            false => target(root, &self.destination, directory),
        };
        let place = place.with_context(what)?;
        // The kernel has one errno for this and for ten other faults (EINVAL), so we look first.
        let onto_directory = is_directory(place.as_fd()).with_context(what)?;
        m::move_mount(
            &mount,
            Path::new(""),
            &place,
            Path::new(""),
            m::MOVE_MOUNT_F_EMPTY_PATH | m::MOVE_MOUNT_T_EMPTY_PATH,
        )
        .with_context(what)
        .map_err(|e| match directory == onto_directory {
            true => advise(e, self),
            false => e.hint(self.unlike(directory)),
        })
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        vec![mounted_at(scene, &self.destination)]
    }
}

/// What is mounted at a place below the container's root.
pub(super) fn mounted_at(scene: &Scene, destination: &Path) -> Fact {
    let value = scene
        .fd(ROOT)
        .and_then(|root| open_in_root(root, destination, libc::O_PATH))
        .and_then(|fd| describe_mount(fd.as_fd()))
        .map_err(|e| format!("{e:#}"));
    Fact {
        what: format!("mount at {}", destination.display()),
        value,
        source: "statfs(2)".into(),
    }
}

/// One `mount_setattr` to make.
struct Change {
    set: u64,
    clear: u64,
    propagation: u64,
    below: bool,
}

impl Mount {
    /// What is masked and locked later is masked under the names /proc and /sys. Were one of them a
    /// symbolic link, a volume could show the file system at a second place, where nothing is
    /// (CVE-2023-27561).
    fn must_be_real(&self) -> bool {
        !self.options.bind && matches!(self.fstype.as_str(), "proc" | "sysfs")
    }

    /// A directory and a file cannot cover each other.
    fn unlike(&self, directory: bool) -> String {
        let kind = |directory| if directory { "a directory" } else { "a file" };
        let mut hint = format!(
            "{} is {} and {} in the container is {}: mount a file on a file, a directory on a \
             directory",
            self.describe(),
            kind(directory),
            self.destination.display(),
            kind(!directory)
        );
        if self.options.bind && directory {
            hint += "; `-v` makes a missing source, and always a directory";
        }
        hint
    }

    fn describe(&self) -> String {
        if self.options.bind {
            self.source.display().to_string()
        } else {
            self.fstype.clone()
        }
    }

    /// What mount(8) would put in the data string.
    fn fs_options(&self) -> Vec<String> {
        let mut all = vec![format!("source={}", self.source.display())];
        all.extend(self.options.data.iter().cloned());
        all
    }

    /// The attribute changes, in order: a fresh file system already has its own from fsmount.
    fn changes(&self) -> Vec<Change> {
        let o = &self.options;
        let mut changes = Vec::new();
        if o.bind && (o.set != 0 || o.clear != 0) {
            changes.push(Change {
                set: o.set,
                clear: o.clear,
                propagation: 0,
                below: false,
            });
        }
        if o.set_below != 0 || o.clear_below != 0 {
            changes.push(Change {
                set: o.set_below,
                clear: o.clear_below,
                propagation: 0,
                below: true,
            });
        }
        // A bind mount of a shared tree would stay in its peer group and carry the container's
        // own mounts back to the host: without other orders it becomes private.
        let (propagation, below) = match (o.propagation, o.bind) {
            (0, true) => (libc::MS_PRIVATE, true),
            (0, false) => return changes,
            (flag, _) => (flag, o.propagation_below),
        };
        // One mount, with none below it: both in one call.
        if !o.recursive
            && let [only] = &mut changes[..]
        {
            only.propagation = propagation;
            return changes;
        }
        changes.push(Change {
            set: 0,
            clear: 0,
            propagation,
            below,
        });
        changes
    }

    /// Whether what is mounted is a directory of the host's that this process can replace.
    fn fills_a_directory(&self) -> bool {
        self.options.bind && self.options.namespace.is_none() && self.tree.is_none()
    }

    /// A copy of what lies at `path` below the source. Whoever writes there may have put links on
    /// the way: they lead nowhere else.
    fn below_the_source(&self, path: &Path, flags: u32) -> Result<OwnedFd> {
        let what = || {
            format!(
                "cannot access path {} of {}",
                path.display(),
                self.source.display()
            )
        };
        let root =
            sys::fs::open(&self.source, libc::O_PATH | libc::O_DIRECTORY, 0).with_context(what)?;
        let place = open_in_root(root.as_fd(), path, libc::O_PATH)
            .with_context(what)
            .map_err(|e| {
                e.hint("a subpath must exist in the volume before the container starts")
            })?;
        Ok(m::open_tree(
            &place,
            Path::new(""),
            flags | libc::AT_EMPTY_PATH as u32,
        )?)
    }

    /// The mount, attached to nothing yet.
    fn detached(&self) -> Result<OwnedFd> {
        if self.options.bind {
            let flags = m::OPEN_TREE_CLONE
                | if self.options.recursive {
                    libc::AT_RECURSIVE as u32
                } else {
                    0
                };
            if let Some(file) = &self.options.namespace {
                return abroad::open_tree(file, &self.source, flags);
            }
            if let Some(path) = &self.options.subpath {
                return self.below_the_source(path, flags);
            }
            return m::open_tree(CWD, &self.source, flags).map_err(|e| {
                let missing = e.errno == sys::Errno::ENOENT;
                let e = Error::from(e);
                if missing {
                    e.hint("the source of a bind mount must exist on the host")
                } else {
                    e
                }
            });
        }
        let context = m::fsopen(&self.fstype).map_err(|e| {
            let unknown = e.errno == sys::Errno::ENODEV;
            let e = Error::from(e);
            if unknown {
                e.hint("this kernel does not have that file system: see /proc/filesystems")
            } else {
                e
            }
        })?;
        let set = || -> sys::SysResult<()> {
            for option in self.fs_options() {
                match option.split_once('=') {
                    Some((key, value)) => m::fsconfig_set_string(&context, key, value)?,
                    None => m::fsconfig_set_flag(&context, &option)?,
                }
            }
            m::fsconfig_create(&context)
        };
        set().map_err(|e| {
            let said = m::fs_messages(&context);
            let e = Error::from(e);
            if said.is_empty() {
                e
            } else {
                // Each message has its level before it: `e` an error, `w` a warning, `i` a note.
                let said: Vec<&str> = said
                    .iter()
                    .map(|s| {
                        s.split_once(' ')
                            .filter(|(l, _)| l.len() == 1)
                            .map_or(s.as_str(), |(_, m)| m)
                    })
                    .collect();
                e.hint(format!("the kernel says: {}", said.join("; ")))
            }
        })?;
        Ok(m::fsmount(&context, self.options.set)?)
    }
}

/// What errno alone does not say.
fn advise(error: Error, mount: &Mount) -> Error {
    match error.errno() {
        Some(libc::ENOSPC) => {
            error.hint("the limit of mounts a namespace: /proc/sys/fs/mount-max")
        }
        Some(libc::EPERM) if mount.options.bind => error.hint(
            "an attribute of this mount is locked: a user namespace may not loosen what the host set",
        ),
        _ => error,
    }
}

/// Opens `path` with the root as the end of all ways: `..`, absolute symbolic links and magic
/// links cannot leave it.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: i32) -> Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    Ok(sys::fs::openat2(
        root,
        relative,
        flags,
        0,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    )?)
}

/// [`target`], no part of whose path may be a symbolic link.
pub fn plain_target(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    let open = || sys::fs::openat2(root, relative, libc::O_PATH, 0, resolve);
    let opened = match open() {
        Err(e) if e.errno == sys::Errno::ENOENT => {
            drop(target(root, path, directory)?);
            open()
        }
        other => other,
    };
    opened.map_err(|e| {
        let link = e.errno == sys::Errno::ELOOP;
        let e = Error::from(e);
        match link {
            true => e.hint(format!(
                "{} is or leads through a symbolic link in the container; there must be a real \
                 {} there, for what is masked and locked below it is found by its name",
                path.display(),
                if directory { "directory" } else { "file" },
            )),
            false => e,
        }
    })
}

/// Opens (`O_PATH`) the place for a mount inside the root, making what is missing: directories
/// with mode 0755, and for a file an empty file.
pub fn target(root: BorrowedFd<'_>, path: &Path, directory: bool) -> Result<OwnedFd> {
    match open_in_root(root, path, libc::O_PATH) {
        Ok(fd) => return Ok(fd),
        Err(e) if e.errno() != Some(libc::ENOENT) => return Err(e),
        Err(_) => {}
    }
    let up = path.components().any(|c| c == Component::ParentDir);
    let (Some(above), Some(name), false) = (path.parent(), path.file_name(), up) else {
        return Err(Error::kind(
            Kind::Usage,
            format!("{} must not contain \"..\"", path.display()),
        ));
    };
    // The one above is there as a rule; if not, it is made in the same way.
    let parent = target(root, above, true)?;
    let made = match directory {
        true => sys::fs::mkdirat(&parent, name, 0o755),
        false => {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;
            sys::fs::openat(&parent, name, flags, 0o644).map(drop)
        }
    };
    match made {
        // Another container with the same root has just made it; or it is a link to nothing.
        Err(e) if e.errno == sys::Errno::EEXIST => {
            open_in_root(root, path, libc::O_PATH).map_err(|_| e.into())
        }
        made => {
            made?;
            open_in_root(root, path, libc::O_PATH)
        }
    }
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    use std::os::fd::AsRawFd;
    let stat = nix::sys::stat::fstat(fd).map_err(|errno| sys::SysError {
        call: "fstat",
        args: fd.as_raw_fd().to_string(),
        errno,
    })?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// The type and flags of the file system at a descriptor.
pub fn describe_mount(fd: BorrowedFd<'_>) -> Result<String> {
    use std::os::fd::AsRawFd;
    let stat = nix::sys::statfs::fstatfs(fd).map_err(|errno| sys::SysError {
        call: "fstatfs",
        args: fd.as_raw_fd().to_string(),
        errno,
    })?;
    let magic = stat.filesystem_type().0 as u64;
    let name = MAGICS.iter().find(|(m, _)| *m == magic).map_or_else(
        || format!("file system {magic:#x}"),
        |(_, name)| (*name).to_string(),
    );
    Ok(format!("{name} ({:?})", stat.flags()).replace("FsFlags", ""))
}

/// `statfs.f_type` of the file systems that containers are made of (statfs(2)).
const MAGICS: &[(u64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0102_1994, "tmpfs"),
    (0x1cd1, "devpts"),
    (0x1980_0202, "mqueue"),
    (0x794c_7630, "overlay"),
    (0x27_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0xef53, "ext4"),
    (0x9123_683e, "btrfs"),
    (0x5846_5342, "xfs"),
];
