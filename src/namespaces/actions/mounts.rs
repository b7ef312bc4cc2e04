//! A mount namespace of its own: propagation, a new root, a fresh /proc.
//!
//! What it does: cuts the copied mounts off from the host's, makes a directory the root, and
//! mounts a /proc that shows the new pid namespace.
//!
//! What it implements: mount_namespaces(7) (shared subtrees), pivot_root(2), proc(5). Three orders
//! matter. Propagation first, or what follows would appear on the host, which systemd makes
//! shared. /proc before pivot_root: in a user namespace the kernel allows a new procfs only while
//! an old one is fully visible (`mount_too_revealing` in fs/namespace.c), and pivot_root takes the
//! old one away. And the old root is unmounted only after the working directory has left it.
//!
//! Interface: [`Propagate`], [`BindRootOntoItself`], [`MountProc`], [`PivotRoot`].
//! Read next: `program.rs`.

use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, fs, mount};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How mounts made here and there follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// The host's appear here, ours do not appear there.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and it cannot be bind-mounted.
    Unbindable,
    /// As it was copied.
    Unchanged,
}

impl Propagation {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::Slave => "slave",
            Propagation::Shared => "shared",
            Propagation::Unbindable => "unbindable",
            Propagation::Unchanged => "unchanged",
        }
    }
    /// Its flag of mount(2), with `MS_REC`; 0 for unchanged.
    pub fn flag(self) -> u64 {
        libc::MS_REC
            | match self {
                Propagation::Private => libc::MS_PRIVATE,
                Propagation::Slave => libc::MS_SLAVE,
                Propagation::Shared => libc::MS_SHARED,
                Propagation::Unbindable => libc::MS_UNBINDABLE,
                Propagation::Unchanged => return 0,
            }
    }
}

impl FromStr for Propagation {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [
            Propagation::Private,
            Propagation::Slave,
            Propagation::Shared,
            Propagation::Unbindable,
            Propagation::Unchanged,
        ]
        .into_iter()
        .find(|p| p.name() == text || text.strip_prefix('r') == Some(p.name()))
        .ok_or_else(|| {
            Error::kind(
                ErrorKind::Usage,
                format!("{text:?} is no mount propagation"),
            )
            .hint("private, slave, shared, unbindable or unchanged")
            .topic("mount-namespaces")
        })
    }
}

/// Sets the propagation of every mount in the caller's mount namespace.
#[derive(Debug)]
pub struct Propagate {
    /// To what.
    pub propagation: Propagation,
}

impl Action for Propagate {
    fn calls(&self) -> Vec<Planned> {
        match self.propagation.flag() {
            0 => Vec::new(),
            flag => vec![Planned::new(
                "mount",
                format!(
                    "NULL, \"/\", NULL, {}, NULL",
                    sys::flag_names(flag, mount::MS_FLAGS)
                ),
            )],
        }
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        match self.propagation.flag() {
            0 => Ok(()),
            flag => mount::mount(None, Path::new("/"), None, flag, None)
                .context("cannot set the propagation of the mounts")
                .map_err(|e| match e.errno() {
                    Some(libc::EINVAL) => e.hint(
                        "/ is no mount point, as in a plain chroot: bind-mount the directory onto \
                         itself before chroot(1)",
                    ),
                    _ => e,
                })
                .map_err(|e| e.topic("mount-namespaces")),
        }
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let text = std::fs::read_to_string("/proc/self/mountinfo");
        vec![Fact {
            what: "propagation of /".into(),
            value: text
                .map(|t| root_propagation(&t).unwrap_or("unknown").to_string())
                .map_err(|e| e.to_string()),
            source: "/proc/self/mountinfo".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        match self.propagation {
            Propagation::Unchanged => None,
            // A private mount made a slave stays private, and a slave may be shared further.
            Propagation::Slave => None,
            other => Some(other.name().into()),
        }
    }
}

/// The propagation of the mount on `/` out of the optional fields of mountinfo (proc(5)); of
/// several mounts there, the last is the visible one.
fn root_propagation(mountinfo: &str) -> Option<&'static str> {
    let line = mountinfo
        .lines()
        .rfind(|l| l.split(' ').nth(4) == Some("/"))?;
    let optional = line.split(" - ").next()?;
    let has = |tag: &str| optional.split(' ').skip(6).any(|f| f.starts_with(tag));
    Some(match (has("shared:"), has("master:")) {
        (true, true) => "shared, slave",
        (true, false) => "shared",
        (false, true) => "slave",
        (false, false) => "private",
    })
}

/// Bind-mounts the new root onto itself, for pivot_root(2) wants a mount point.
#[derive(Debug)]
pub struct BindRoot {
    /// The directory that becomes the root.
    pub path: PathBuf,
    /// Cut off from the mounts above it; else it stays what the bind mount made it.
    pub private: bool,
}

impl Action for BindRoot {
    fn calls(&self) -> Vec<Planned> {
        let path = &self.path;
        let bind = format!("{path:?}, {path:?}, NULL, MS_BIND|MS_REC, NULL");
        let mut calls = vec![Planned::new("mount", bind)];
        if self.private {
            let args = format!("NULL, {path:?}, NULL, MS_PRIVATE, NULL");
            calls.push(Planned::new("mount", args));
        }
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let what = || format!("cannot make {} a mount point", self.path.display());
        // MS_REC: in a user namespace the mounts below are locked to it, and a bind mount without
        // them would be refused (mount_namespaces(7), "Restrictions on mount namespaces").
        let flags = libc::MS_BIND | libc::MS_REC;
        mount::mount(Some(&self.path), &self.path, None, flags, None)
            .with_context(what)
            .map_err(|e| match e.errno() {
                Some(libc::ENOENT) => e.hint("the root (--root, or root.path of config.json) must be a directory that exists"),
                _ => e,
            })
            .map_err(|e| e.topic("pivot_root"))?;
        match self.private {
            true => mount::mount(None, &self.path, None, libc::MS_PRIVATE, None).with_context(what),
            false => Ok(()),
        }
    }
}

/// Makes `root` the root of the mount namespace and lets go of the old one.
#[derive(Debug)]
pub struct PivotRoot {
    /// The new root; it must be a mount point ([`BindRoot`], or an overlay).
    pub root: PathBuf,
}

/// The calls of [`pivot`] into a root that is called `name`.
pub fn pivot_calls(name: &str) -> Vec<Planned> {
    vec![
        Planned::new("fchdir", name.to_string()),
        Planned::new("pivot_root", "\".\", \".\""),
        Planned::new("umount2", "\".\", MNT_DETACH"),
        Planned::new("chdir", "\"/\""),
    ]
}

/// Swaps the roots and lets go of the old one, which holds every mount of the host.
///
/// `pivot_root(".", ".")` puts the old root on top of the new one, at the same place, so that no
/// directory for it is needed in the new root, and a read-only root works too: the trick of
/// pivot_root(2)'s notes.
pub fn pivot(root: impl AsFd) -> Result<()> {
    fs::fchdir(root).context("cannot enter the new root")?;
    // ANCHOR: pivot-root
    let here = Path::new(".");
    mount::pivot_root(here, here).map_err(|e| {
        let hint = match e.errno {
            sys::Errno::EINVAL => Some(
                "the current root may be the initramfs, which cannot be pivoted away from, or \
                 its mount may be shared: use a mount namespace with private propagation",
            ),
            sys::Errno::EBUSY => Some("the new root must be a mount point other than /"),
            _ => None,
        };
        let error = Error::new("cannot make the new root /")
            .caused_by(e)
            .topic("pivot_root");
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })?;
    // The old root now covers the new one at "/". Lazily, for its own mounts are below it.
    mount::umount2(here, libc::MNT_DETACH).context("cannot let go of the old root")?;
    fs::chdir("/").context("cannot enter the new root")
    // ANCHOR_END: pivot-root
}

impl Action for PivotRoot {
    fn calls(&self) -> Vec<Planned> {
        pivot_calls(&self.root.display().to_string())
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let new = fs::open(&self.root, libc::O_PATH | libc::O_DIRECTORY, 0)
            .with_context(|| format!("cannot open the new root {}", self.root.display()))?;
        pivot(new)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        use std::os::unix::fs::MetadataExt;
        vec![Fact {
            what: "root directory".into(),
            value: std::fs::metadata("/")
                .map(|m| format!("inode {} on device {:#x}", m.ino(), m.dev()))
                .map_err(|e| e.to_string()),
            source: "stat(\"/\")".into(),
        }]
    }
}

/// Mounts a procfs, which shows the pid namespace of the process that mounts it.
#[derive(Debug)]
pub struct MountProc {
    /// The new root in which to mount it, before [`PivotRoot`]; without one on /proc itself.
    pub root: Option<PathBuf>,
}

/// Nothing in /proc is a device, a program or a set-user-id file, and nothing shall be.
const PROC_FLAGS: u64 = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

impl MountProc {
    fn planned_target(&self) -> String {
        match &self.root {
            Some(root) => format!("{}", root.join("proc").display()),
            None => "/proc".into(),
        }
    }
}

impl Action for MountProc {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = Vec::new();
        let target = match &self.root {
            Some(_) => {
                calls.push(Planned::new("fchdir", self.planned_target()));
                "."
            }
            None => "/proc",
        };
        calls.push(Planned::new(
            "mount",
            format!(
                "\"proc\", {target:?}, \"proc\", {}, NULL",
                sys::flag_names(PROC_FLAGS, mount::MS_FLAGS)
            ),
        ));
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let target = match &self.root {
            None => Path::new("/proc"),
            Some(root) => {
                // The root's content may be hostile: its `proc` may be a link to anywhere. So it
                // is resolved inside the root, and mounted on by where we stand, not by name.
                let fd = fs::open(root, libc::O_PATH | libc::O_DIRECTORY, 0)
                    .with_context(|| format!("cannot open {}", root.display()))?;
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                let proc = fs::openat2(&fd, "proc", flags, 0, libc::RESOLVE_IN_ROOT)
                    .with_context(|| format!("cannot open {}", self.planned_target()))
                    .map_err(|e| match e.errno() {
                        Some(libc::ENOENT) => e.hint(format!(
                            "a root file system needs an empty directory proc: mkdir {}",
                            self.planned_target()
                        )),
                        _ => e,
                    })?;
                fs::fchdir(&proc).context("cannot enter the new /proc")?;
                Path::new(".")
            }
        };
        mount::mount(Some(Path::new("proc")), target, Some("proc"), PROC_FLAGS, None).map_err(|e| {
            let refused = e.errno == sys::Errno::EPERM;
            let error = Error::new("cannot mount a fresh /proc")
                .caused_by(e)
                .topic("pid-namespaces");
            if refused {
                error.hint(
                    "in a user namespace this needs a new pid namespace (--pid) and an outer /proc \
                     with nothing mounted over parts of it (a docker container masks parts of its own)",
                )
            } else {
                error
            }
        })
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let link = format!("{}/self", self.planned_target());
        vec![Fact::from_link(
            format!("process id in {}", self.planned_target()),
            link,
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_is_read_from_the_optional_fields() {
        let info =
            |optional: &str| format!("21 1 8:1 / / rw,relatime {optional}- ext4 /dev/sda1 rw\n");
        assert_eq!(root_propagation(&info("")), Some("private"));
        assert_eq!(root_propagation(&info("shared:1 ")), Some("shared"));
        assert_eq!(root_propagation(&info("master:1 ")), Some("slave"));
        assert_eq!(
            root_propagation(&info("shared:2 master:1 ")),
            Some("shared, slave")
        );
        assert_eq!(root_propagation(""), None);
    }

    #[test]
    fn words_of_propagation() {
        assert_eq!("rslave".parse::<Propagation>().unwrap(), Propagation::Slave);
        assert!("privat".parse::<Propagation>().is_err());
    }
}
