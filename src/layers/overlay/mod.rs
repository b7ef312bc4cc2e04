//! The overlay mount: a stack of read-only directories and one writable directory, seen as one.
//!
//! What it does: mounts it as a step of a plan, by the mount API of file descriptors where the
//! kernel takes layers one at a time (`lowerdir+`), else by mount(2). Works as root and inside a
//! user namespace.
//! What it implements: the kernel's filesystems/overlayfs document: the order of `lowerdir`
//! (top first), `upperdir` and `workdir` (two directories of one file system), `userxattr`, the
//! limit of 500 lower directories.
//!
//! ```text
//!   target      a  b' c        what the container sees
//!   upper          b'          its changes: b was copied up
//!   lowers[0]      b  c        the top layer of the image
//!   lowers[1]   a  b           the layer below
//! ```
//!
//! Interface: [`MountOverlay`], [`Unmount`]. Read next: `names.rs`, then [`super::whiteout`].

mod mountinfo;
mod names;

pub use mountinfo::{MountLine, find_mount, mounted_at};

use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, Errno, SysError, SysResult, fs, mount};
use names::{Names, escape, is_awkward, split_list, unescape};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The most lower directories that the kernel stacks (`OVL_MAX_STACK`).
pub const MAX_LOWERS: usize = 500;
/// The longest string that fsconfig(2) takes.
const FSCONFIG_MAX: usize = 255;
/// The most bytes of options that mount(2) takes: one page, with its NUL and one to spare.
const MOUNT_DATA_MAX: usize = 4094;

/// Mounts a stack of directories. With one lower and no upper there is nothing to overlay, and the
/// kernel refuses; then it is a read-only bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOverlay {
    /// The read-only directories, the top one first.
    pub lowers: Vec<PathBuf>,
    /// Takes the changes; without one the mount is read-only.
    pub upper: Option<PathBuf>,
    /// Scratch space of the kernel's, on the file system of `upper`, empty before the mount.
    pub work: Option<PathBuf>,
    /// Where to mount.
    pub target: PathBuf,
    /// Mounts read-only although there is an upper directory.
    pub read_only: bool,
    /// Further options: overlayfs's own (`volatile`, `index=off`) and a mount's (`nosuid`, `nodev`).
    pub options: Vec<String>,
}

impl MountOverlay {
    /// Reads the options of an OCI mount entry or of mount(8): `lowerdir=a:b`, `upperdir=…`,
    /// `workdir=…`, `ro`, and others. `\:` in a path is a colon. Errors: no `lowerdir`, an upper
    /// without a work directory, too many lowers.
    pub fn from_options(target: impl Into<PathBuf>, options: &[String]) -> Result<MountOverlay> {
        let mut found = MountOverlay {
            target: target.into(),
            ..Default::default()
        };
        for option in options {
            match option.split_once('=') {
                Some(("lowerdir", list)) => found.lowers.extend(split_list(list)),
                Some(("lowerdir+", one)) => found.lowers.push(one.into()),
                Some(("upperdir", path)) => found.upper = Some(unescape(path).into()),
                Some(("workdir", path)) => found.work = Some(unescape(path).into()),
                _ if option == "ro" => found.read_only = true,
                _ if option == "rw" => found.read_only = false,
                _ => found.options.push(option.clone()),
            }
        }
        found.check()?;
        Ok(found)
    }

    /// The reverse of [`from_options`](Self::from_options).
    pub fn to_options(&self) -> Vec<String> {
        let lowers: Vec<String> = self.lowers.iter().map(|p| escape(p)).collect();
        let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
        options.extend(self.upper.iter().map(|p| format!("upperdir={}", escape(p))));
        options.extend(self.work.iter().map(|p| format!("workdir={}", escape(p))));
        options.extend(self.read_only.then(|| "ro".to_string()));
        options.extend(self.options.iter().cloned());
        options
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::kind(Kind::Usage, what).topic("overlay"));
        if self.lowers.is_empty() {
            return wrong("an overlay needs at least one lower directory".into());
        }
        if self.lowers.len() > MAX_LOWERS {
            return wrong(format!(
                "{} lower directories are more than overlayfs stacks ({MAX_LOWERS})",
                self.lowers.len()
            ));
        }
        if self.upper.is_some() != self.work.is_some() {
            return wrong("an upper directory needs a work directory, and the reverse".into());
        }
        Ok(())
    }

    /// True where the kernel has no overlay to make: one directory, never written.
    fn is_bind(&self) -> bool {
        self.lowers.len() == 1 && self.upper.is_none()
    }

    /// Splits the further options into those of the mount (attributes) and of the file system.
    fn attributes(&self) -> (u64, u64, Vec<&str>) {
        let (mut attrs, mut flags, mut rest) = (0, 0, Vec::new());
        if self.read_only || self.upper.is_none() {
            attrs |= libc::MOUNT_ATTR_RDONLY;
            flags |= libc::MS_RDONLY;
        }
        for option in &self.options {
            match MOUNT_OPTIONS.iter().find(|(name, ..)| name == option) {
                Some((_, attr, flag)) => {
                    attrs |= attr;
                    flags |= flag;
                }
                None => rest.push(option.as_str()),
            }
        }
        (attrs, flags, rest)
    }

    /// Mounts. Outside a plan's [`Action::apply`] for callers that have no scene.
    ///
    /// Errors: as mount(2), with the kernel's own message where it gives one. When it fails,
    /// nothing is mounted.
    pub fn mount(&self) -> Result<()> {
        self.check()?;
        if self.is_bind() {
            return self.bind();
        }
        let mut options = self.own_options();
        if in_user_namespace() && !options.iter().any(|o| o == "userxattr") {
            // trusted.* attributes belong to the host's root; a user namespace's overlay keeps its
            // marks in user.overlay.* instead.
            options.push("userxattr".into());
        }
        let (attrs, flags, _) = self.attributes();
        let mut said = Vec::new();
        match self.mount_by_descriptors(attrs, &options, &mut said) {
            Ok(()) => Ok(()),
            // Kernels before `lowerdir+` say EINVAL, at the option or when the superblock is made.
            Err(e) if matches!(e.errno, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                self.mount_by_string(flags, &options)
            }
            Err(e) => Err(e),
        }
        .map_err(|e| self.explain(e, &said))
    }

    /// The file system's options: the caller's, and what keeps the upper directory readable as a
    /// layer on hosts whose defaults differ.
    fn own_options(&self) -> Vec<String> {
        let mut options: Vec<String> = self
            .attributes()
            .2
            .into_iter()
            .map(str::to_string)
            .collect();
        for feature in ["redirect_dir", "metacopy"] {
            let default =
                std::fs::read_to_string(format!("/sys/module/overlay/parameters/{feature}"));
            let set = options.iter().any(|o| o.starts_with(feature));
            if !set && default.is_ok_and(|d| d.starts_with('Y')) {
                options.push(format!("{feature}=off"));
            }
        }
        options
    }

    fn bind(&self) -> Result<()> {
        let (_, flags, rest) = self.attributes();
        if let Some(option) = rest.first() {
            return Err(Error::kind(
                Kind::Usage,
                format!("the option {option:?} has no meaning for one directory without an upper"),
            )
            .topic("overlay"));
        }
        let lower = &self.lowers[0];
        let bind = libc::MS_BIND | libc::MS_REC;
        mount::mount(Some(lower), &self.target, None, bind, None)
            .map_err(|e| self.explain(e, &[]))?;
        let again = libc::MS_BIND | libc::MS_REMOUNT | flags;
        mount::mount(None, &self.target, None, again, None).map_err(|e| {
            let _ = mount::umount2(&self.target, libc::MNT_DETACH);
            self.explain(e, &[])
        })
    }

    /// fsopen, one fsconfig a layer, fsmount, move_mount: no limit on the length of all names.
    fn mount_by_descriptors(
        &self,
        attrs: u64,
        options: &[String],
        said: &mut Vec<String>,
    ) -> SysResult<()> {
        let context = mount::fsopen("overlay")?;
        let set = |key: &str, value: &str| mount::fsconfig_set_string(&context, key, value);
        let names = Names::new(self, |paths| {
            paths
                .iter()
                .all(|p| p.as_os_str().len() <= FSCONFIG_MAX && !is_awkward(p))
        })?;
        let result = (|| {
            for lower in &names.lowers {
                set("lowerdir+", lower)?;
            }
            if let (Some(upper), Some(work)) = (&names.upper, &names.work) {
                set("upperdir", upper)?;
                set("workdir", work)?;
            }
            for option in options {
                match option.split_once('=') {
                    Some((key, value)) => set(key, value)?,
                    None => mount::fsconfig_set_flag(&context, option)?,
                }
            }
            set("source", "overlay")?;
            mount::fsconfig_create(&context)
        })();
        *said = mount::fs_messages(&context);
        names.leave()?;
        result?;
        let detached = mount::fsmount(&context, attrs)?;
        mount::move_mount(
            &detached,
            Path::new(""),
            fs::CWD,
            &self.target,
            mount::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    /// mount(2): all names in one page of text, so long ones are shortened to descriptor numbers.
    fn mount_by_string(&self, flags: u64, options: &[String]) -> SysResult<()> {
        let text = |names: &Names| {
            let mut data = format!("lowerdir={}", names.lowers.join(":"));
            if let (Some(upper), Some(work)) = (&names.upper, &names.work) {
                data += &format!(",upperdir={upper},workdir={work}");
            }
            for option in options {
                data += &format!(",{option}");
            }
            data
        };
        let names = Names::new(self, |paths| {
            let names = Names::as_they_are(self);
            !paths.iter().any(|p| is_awkward(p)) && text(&names).len() <= MOUNT_DATA_MAX
        })?;
        // The working directory may have become /proc/self/fd, so the target must not depend on it.
        let target = names.target.as_ref().map_or(self.target.clone(), |fd| {
            PathBuf::from(fd.as_raw_fd().to_string())
        });
        let source = Some(Path::new("overlay"));
        let result = mount::mount(source, &target, Some("overlay"), flags, Some(&text(&names)));
        names.leave()?;
        result
    }

    fn explain(&self, e: SysError, said: &[String]) -> Error {
        let errno = e.errno;
        let layers = match self.lowers.len() + usize::from(self.upper.is_some()) {
            1 => "1 layer".to_string(),
            n => format!("{n} layers"),
        };
        let error = Error::new(format!(
            "cannot mount {layers} on {}",
            self.target.display()
        ))
        .caused_by(e)
        .topic("overlay");
        if let Some(missing) = self.first_missing() {
            return error.hint(format!("{} is not a directory", missing.display()));
        }
        let said: Vec<&str> = said.iter().map(|s| s.trim_start_matches("e ")).collect();
        match errno {
            _ if !said.is_empty() => error.hint(format!("the kernel says: {}", said.join("; "))),
            Errno::ENODEV => error.hint("this kernel has no overlay file system (modprobe overlay)"),
            Errno::EPERM => error.hint("mounting needs CAP_SYS_ADMIN in the owner of the mount namespace: an ordinary user has it inside `glassbox ns run --user --map-root-user --mount` (an overlay there needs Linux 5.11)"),
            Errno::EINVAL => error.hint("upper and work directory must be two directories on one file system that is not itself an overlay and has extended attributes; the kernel log says which rule was broken"),
            Errno::EBUSY => error.hint("another overlay mount uses the same upper or work directory"),
            Errno::ESTALE => error.hint("the upper directory was used with other lower directories"),
            _ => error,
        }
    }

    fn first_missing(&self) -> Option<&Path> {
        let all = self
            .lowers
            .iter()
            .chain(&self.upper)
            .chain(&self.work)
            .chain([&self.target]);
        all.map(PathBuf::as_path).find(|p| !p.is_dir())
    }
}

impl Action for MountOverlay {
    fn calls(&self) -> Vec<Planned> {
        if self.is_bind() {
            let text = format!("{:?}, {:?}, MS_BIND|MS_REC", self.lowers[0], self.target);
            return vec![Planned::new("mount", text)];
        }
        let set = |key: &str, path: &Path| {
            Planned::new("fsconfig", format!("{key} ← {}", path.display()))
        };
        let mut calls = vec![Planned::new("fsopen", "\"overlay\"")];
        calls.extend(self.lowers.iter().map(|p| set("lowerdir+", p)));
        calls.extend(self.upper.iter().map(|p| set("upperdir", p)));
        calls.extend(self.work.iter().map(|p| set("workdir", p)));
        let (attrs, _, rest) = self.attributes();
        calls.extend(rest.iter().map(|o| Planned::new("fsconfig", *o)));
        calls.push(Planned::new("fsconfig", "FSCONFIG_CMD_CREATE"));
        calls.push(Planned::new(
            "fsmount",
            sys::flag_names(attrs, mount::MOUNT_ATTRS),
        ));
        calls.push(Planned::new("move_mount", format!("{:?}", self.target)));
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        self.mount()?;
        scene.put(self.mark(), "mounted");
        Ok(())
    }

    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![mounted_at(&self.target)]
    }

    fn undo(&self, scene: &mut Scene) -> Result<()> {
        match scene.get(&self.mark()) {
            Some("mounted") => unmount(&self.target),
            _ => Ok(()), // it failed before anything was mounted
        }
    }
}

impl MountOverlay {
    fn mark(&self) -> String {
        format!("overlay {}", self.target.display())
    }
}

/// Unmounts what is on top at a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmount {
    /// The mount point.
    pub target: PathBuf,
}

impl Action for Unmount {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("umount2", format!("{:?}, 0", self.target))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        unmount(&self.target)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![mounted_at(&self.target)]
    }
}

/// Unmounts `target`. Errors: `EBUSY` with who to look for, `EINVAL` when nothing is mounted there.
pub fn unmount(target: &Path) -> Result<()> {
    mount::umount2(target, libc::UMOUNT_NOFOLLOW).map_err(|e| {
        let errno = e.errno;
        let error = Error::new(format!("cannot unmount {}", target.display()))
            .caused_by(e)
            .topic("overlay");
        match errno {
            Errno::EINVAL => error.hint("nothing is mounted there"),
            Errno::EBUSY => error.hint("a process has its working directory or an open file there"),
            _ => error,
        }
    })
}

const MOUNT_OPTIONS: &[(&str, u64, u64)] = &[
    ("nosuid", libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
    ("noatime", libc::MOUNT_ATTR_NOATIME, libc::MS_NOATIME),
    (
        "nodiratime",
        libc::MOUNT_ATTR_NODIRATIME,
        libc::MS_NODIRATIME,
    ),
    ("relatime", 0, libc::MS_RELATIME),
];

/// True in every user namespace but the first, whose map is the identity of all ids.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

/// Makes the directory of a mount where it is missing. Errors as mkdir(2).
pub fn ensure_directory(path: &Path) -> Result<()> {
    match fs::mkdirat(fs::CWD, path, 0o755) {
        Ok(()) => Ok(()),
        Err(e) if e.errno == Errno::EEXIST => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot make {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_written() {
        let options: Vec<String> = [
            "lowerdir=/a\\:b:/c",
            "upperdir=/u",
            "workdir=/w",
            "volatile",
            "ro",
        ]
        .map(String::from)
        .into();
        let m = MountOverlay::from_options("/t", &options).unwrap();
        assert_eq!(m.lowers, [Path::new("/a:b"), Path::new("/c")]);
        assert_eq!(m.upper.as_deref(), Some(Path::new("/u")));
        assert!(m.read_only);
        assert_eq!(m.options, ["volatile"]);
        assert_eq!(
            MountOverlay::from_options("/t", &m.to_options()).unwrap(),
            m
        );
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_before() {
        let from = |o: &[&str]| {
            MountOverlay::from_options("/t", &o.iter().map(|s| s.to_string()).collect::<Vec<_>>())
        };
        assert!(from(&[]).is_err());
        assert!(from(&["lowerdir=/a", "upperdir=/u"]).is_err());
        let many = vec!["/a"; MAX_LOWERS + 1].join(":");
        assert!(from(&[&format!("lowerdir={many}")]).is_err());
    }
}
