//! The root file system: prepared in init's mount namespace, then made `/`.
//!
//! What it does: the actions that turn a directory into a root. Who runs here: init, inside its
//! new mount namespace, so nothing of this is ever seen on the host.
//!
//! What it implements: runtime-spec "Root", "Rootfs Mount Propagation", "Masked Paths",
//! "Readonly Paths"; pivot_root(2), mount_namespaces(7).
//! Interface: the actions [`OpenRoot`], [`Pivot`], [`MoveRoot`], [`ChangeRoot`],
//! [`ReadOnlyMount`], [`Mask`], [`ReadOnly`], [`RootPropagation`]. Read next: `devices.rs`.

use super::mount::{ROOT, open_in_root};
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::namespaces::actions::{self, Propagation};
use crate::sys::{self, mount as m};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The scene's name for the host's /dev/null, opened and checked before the root changes.
const NULL: &str = "null";

/// Gives the new root its propagation (`linux.rootfsPropagation`).
#[derive(Debug)]
pub struct RootPropagation {
    /// What it becomes.
    pub propagation: Propagation,
    /// With every mount below it.
    pub recursive: bool,
}

impl RootPropagation {
    fn flag(&self) -> u64 {
        match self.recursive {
            true => self.propagation.flag(),
            false => self.propagation.flag() & !libc::MS_REC,
        }
    }
}

impl Action for RootPropagation {
    fn calls(&self) -> Vec<Planned> {
        let flag = sys::flag_names(self.flag(), m::MS_FLAGS);
        vec![Planned::new("mount", format!("NULL, \"/\", NULL, {flag}"))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        m::mount(None, Path::new("/"), None, self.flag(), None)
            .context("cannot set the propagation of the root")
    }
}

/// Opens the root, so that all that follows is relative to it, and /dev/null of the host, which
/// will cover what is masked.
#[derive(Debug)]
pub struct OpenRoot {
    /// The root directory.
    pub path: PathBuf,
}

impl Action for OpenRoot {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let root = sys::fs::open(&self.path, flags, 0)
            .with_context(|| format!("cannot open the root {}", self.path.display()))?;
        scene.put_fd(ROOT, root);
        let null = sys::fs::open("/dev/null", libc::O_PATH, 0).context("cannot open /dev/null")?;
        // Whoever could put another file there could have us mount it over a masked path.
        let stat = nix::sys::stat::fstat(&null).map_err(|errno| sys::SysError {
            call: "fstat",
            args: "/dev/null".into(),
            errno,
        })?;
        if stat.st_rdev != sys::fs::makedev(1, 3) {
            return Err(Error::new(
                "the host's /dev/null is not the null device (1:3)",
            ));
        }
        // A copy of that one mount, which stays usable when the host's tree is gone.
        let flags = m::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
        let null = m::open_tree(&null, Path::new(""), flags).context("cannot copy /dev/null")?;
        scene.put_fd(NULL, null);
        Ok(())
    }
}

/// Swaps the roots and lets go of the old one ([`actions::pivot`]).
#[derive(Debug)]
pub struct Pivot;

impl Action for Pivot {
    fn calls(&self) -> Vec<Planned> {
        actions::pivot_calls("new root")
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        actions::pivot(scene.fd(ROOT)?)?;
        let root = sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0)
            .context("cannot open the new root")?;
        scene.put_fd(ROOT, root);
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = std::fs::read_to_string("/proc/self/mountinfo")
            .map(|t| format!("{} mounts", t.lines().count()))
            .map_err(|e| e.to_string());
        vec![Fact {
            what: "mounts in this namespace".into(),
            value,
            source: "/proc/self/mountinfo".into(),
        }]
    }
}

/// Moves the root over the old one and changes into it, for hosts whose own root is a ramfs, which
/// pivot_root cannot leave (`--no-pivot`).
#[derive(Debug)]
pub struct MoveRoot;

impl Action for MoveRoot {
    fn calls(&self) -> Vec<Planned> {
        vec![
            Planned::new("fchdir", "new root"),
            Planned::new("mount", "\".\", \"/\", NULL, MS_MOVE"),
            Planned::new("chroot", "\".\""),
            Planned::new("chdir", "\"/\""),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = "cannot move the new root to /";
        sys::fs::fchdir(scene.fd(ROOT)?).context(what)?;
        let here = Path::new(".");
        m::mount(Some(here), Path::new("/"), None, libc::MS_MOVE, None).context(what)?;
        m::chroot(here).context(what)?;
        sys::fs::chdir("/").context(what)?;
        let root = sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0).context(what)?;
        scene.put_fd(ROOT, root);
        Ok(())
    }
}

/// Changes into the root, and leaves the mount namespace as it is: for one that others live in.
#[derive(Debug)]
pub struct ChangeRoot;

impl Action for ChangeRoot {
    fn calls(&self) -> Vec<Planned> {
        vec![
            Planned::new("fchdir", "new root"),
            Planned::new("chroot", "\".\""),
            Planned::new("chdir", "\"/\""),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = "cannot change the root";
        sys::fs::fchdir(scene.fd(ROOT)?).context(what)?;
        m::chroot(Path::new(".")).context(what)?;
        sys::fs::chdir("/").context(what)
    }
}

/// Makes one mount read-only, after everything that had to be written in it.
#[derive(Debug)]
pub struct ReadOnlyMount {
    /// Its place in the container.
    pub path: PathBuf,
}

impl Action for ReadOnlyMount {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "mount_setattr",
            format!("{:?}, set MOUNT_ATTR_RDONLY", self.path),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot make {} read-only", self.path.display());
        let place = open_in_root(scene.fd(ROOT)?, &self.path, libc::O_PATH).with_context(what)?;
        let empty = Path::new("");
        m::mount_setattr(&place, empty, false, libc::MOUNT_ATTR_RDONLY, 0, 0, None)
            .with_context(what)
    }
}

/// Covers paths that would show the host: a file by /dev/null, a directory by an empty read-only
/// tmpfs. What does not exist needs no cover.
#[derive(Debug)]
pub struct Mask {
    /// Absolute paths in the container.
    pub paths: Vec<String>,
}

impl Action for Mask {
    fn calls(&self) -> Vec<Planned> {
        self.paths
            .iter()
            .map(|p| Planned::new("move_mount", format!("/dev/null or an empty tmpfs → {p:?}")))
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let mut null_is_attached = false;
        for path in &self.paths {
            let what = || format!("cannot mask {path}");
            let root = scene.fd(ROOT)?;
            let Some(place) =
                existing(open_in_root(root, Path::new(path), libc::O_PATH)).with_context(what)?
            else {
                continue;
            };
            let cover = match place.directory {
                true => empty_tmpfs().with_context(what)?,
                // The copy itself covers the first file. Attached, it is a mount of this
                // namespace, of which the kernel makes further copies.
                false if !null_is_attached => {
                    null_is_attached = true;
                    attach(scene.fd(NULL)?, &place.fd).with_context(what)?;
                    continue;
                }
                false => m::open_tree(
                    scene.fd(NULL)?,
                    Path::new(""),
                    m::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32,
                )
                .with_context(what)?,
            };
            attach(&cover, &place.fd).with_context(what)?;
        }
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let covered = self.paths.iter().filter(|p| {
            scene.fd(ROOT).is_ok_and(|root| {
                open_in_root(root, Path::new(p), libc::O_PATH).is_ok_and(|fd| is_covered(&fd))
            })
        });
        vec![Fact {
            what: "masked paths".into(),
            value: Ok(covered.count().to_string()),
            source: "fstat(2): the null device, or an empty tmpfs".into(),
        }]
    }
}

fn is_covered(fd: &OwnedFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|s| {
        s.st_rdev == sys::fs::makedev(1, 3)
            || (s.st_mode & libc::S_IFMT == libc::S_IFDIR
                && nix::sys::statfs::fstatfs(fd)
                    .is_ok_and(|f| f.filesystem_type().0 == 0x0102_1994))
    })
}

/// Makes paths read-only that must be seen but not changed, by a bind mount onto themselves.
#[derive(Debug)]
pub struct ReadOnly {
    /// Absolute paths in the container.
    pub paths: Vec<String>,
}

impl Action for ReadOnly {
    fn calls(&self) -> Vec<Planned> {
        self.paths
            .iter()
            .flat_map(|p| {
                [
                    Planned::new("open_tree", format!("{p:?}, OPEN_TREE_CLONE|AT_RECURSIVE")),
                    Planned::new("mount_setattr", "set MOUNT_ATTR_RDONLY"),
                    Planned::new("move_mount", format!("→ {p:?}")),
                ]
            })
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        for path in &self.paths {
            let what = || format!("cannot make {path} read-only");
            let root = scene.fd(ROOT)?;
            let Some(place) =
                existing(open_in_root(root, Path::new(path), libc::O_PATH)).with_context(what)?
            else {
                continue;
            };
            let flags = m::OPEN_TREE_CLONE | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32;
            let copy = m::open_tree(&place.fd, Path::new(""), flags).with_context(what)?;
            m::mount_setattr(
                &copy,
                Path::new(""),
                true,
                libc::MOUNT_ATTR_RDONLY,
                0,
                0,
                None,
            )
            .with_context(what)?;
            attach(&copy, &place.fd).with_context(what)?;
        }
        Ok(())
    }
}

struct Place {
    fd: OwnedFd,
    directory: bool,
}

/// What was opened, or `None` when it does not exist (or leads through something that is no
/// directory).
fn existing(opened: Result<OwnedFd>) -> Result<Option<Place>> {
    match opened {
        Ok(fd) => {
            let stat = nix::sys::stat::fstat(&fd).map_err(|errno| sys::SysError {
                call: "fstat",
                args: fd.as_raw_fd().to_string(),
                errno,
            })?;
            Ok(Some(Place {
                fd,
                directory: stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
            }))
        }
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn empty_tmpfs() -> Result<OwnedFd> {
    let context = m::fsopen("tmpfs")?;
    m::fsconfig_set_string(&context, "nr_inodes", "1")?;
    m::fsconfig_set_flag(&context, "ro")?;
    m::fsconfig_create(&context)?;
    Ok(m::fsmount(&context, libc::MOUNT_ATTR_RDONLY)?)
}

fn attach(mount: impl AsFd, place: impl AsFd) -> Result<()> {
    let flags = m::MOVE_MOUNT_F_EMPTY_PATH | m::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(m::move_mount(
        mount,
        Path::new(""),
        place,
        Path::new(""),
        flags,
    )?)
}
