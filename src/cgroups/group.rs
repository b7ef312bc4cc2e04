//! Where a group lies: one directory on v2, one in each tree on v1 and hybrid hosts.
//!
//! What it does: turns a group's path into directories, and finds out in which of them this caller
//! may make groups and which controllers it may hand to them. On v2 that is delegation: a
//! controller reaches a group only if every group above it has written its name into
//! `cgroup.subtree_control`.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Organizing Processes and
//! Threads", "Controlling Controllers", "Delegation"); cgroups(7).
//! Interface: [`CgroupPath`], [`Group`], [`GroupDir`]. Read next: `plan.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::host::cgroup_layout::{Hierarchy, parse_proc_cgroup};
use crate::host::{CgroupLayout, Host, LayoutKind, read_text};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A group's path from the root of its tree: `/`, `/glassbox/web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Checks and normalises a path; one without a leading slash is below the root. Errors: `..`,
    /// a name that is a control file's (`cgroup.procs`, `memory.max`, `tasks`), a line break, or
    /// too long.
    pub fn parse(text: &str) -> Result<CgroupPath> {
        let bad = |why: &str| {
            Err(
                Error::kind(Kind::Usage, format!("{text:?} is no path of a cgroup"))
                    .hint(why.to_string())
                    .topic("cgroups"),
            )
        };
        let mut path = String::new();
        for name in text.split('/').filter(|n| !n.is_empty() && *n != ".") {
            if name == ".." {
                return bad("it must not contain `..`");
            }
            if name.contains(['\n', '\0']) {
                return bad("the kernel allows no line break in a group's name");
            }
            if name.len() > 255 {
                return bad("a name is 255 bytes long at most");
            }
            let prefix = name.split_once('.').map_or("", |(p, _)| p);
            if name == "tasks" || ["cgroup", "memory", "cpu", "pids", "io"].contains(&prefix) {
                return bad("the name is, or could become, that of a control file");
            }
            path = path + "/" + name;
        }
        if path.is_empty() {
            path.push('/');
        }
        Ok(CgroupPath(path))
    }
    /// A path that the kernel has shown, taken as it is.
    pub fn from_kernel(path: &str) -> CgroupPath {
        CgroupPath(path.to_string())
    }
    /// The root group.
    pub fn root() -> CgroupPath {
        CgroupPath("/".into())
    }
    /// A group below this one. Errors: as [`CgroupPath::parse`].
    pub fn join(&self, name: &str) -> Result<CgroupPath> {
        CgroupPath::parse(&format!("{}/{name}", self.0.trim_end_matches('/')))
    }
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// True for `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A group in one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupDir {
    /// The tree's name: `memory`, `cpu,cpuacct`, `name=systemd`, `cgroup2`.
    pub hierarchy: String,
    /// True in the v2 tree.
    pub v2: bool,
    /// The tree's mount point.
    pub mount: PathBuf,
    /// The group's path in this tree.
    pub path: String,
    /// The group's directory.
    pub dir: PathBuf,
    /// Controllers that the group has or can be given.
    pub available: Vec<String>,
    /// Controllers of this tree that it cannot be given, because this group above it does not pass
    /// them on and the caller may not change that.
    pub withheld: Option<(Vec<String>, String)>,
    /// Directories that have to be made, outermost first; empty when the group exists.
    pub missing: Vec<PathBuf>,
    /// Why this caller may not make or change groups here, if so.
    pub denied: Option<String>,
}

/// A group in all the trees that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its path; of a process whose groups differ from tree to tree, that of the first.
    pub path: CgroupPath,
    /// Where.
    pub dirs: Vec<GroupDir>,
    /// The kind of host.
    pub kind: LayoutKind,
    /// Every mounted controller, and others that the kernel knows (with whether it is enabled):
    /// for errors that say why one is missing.
    pub unmounted: Vec<(String, bool)>,
}

impl Group {
    /// The group with this path in every tree, as if nothing existed yet and everything were
    /// allowed. Pure, for tests of plans.
    pub fn imagine(host: &Host, path: &CgroupPath) -> Group {
        Self::build(&host.cgroups, |h| {
            let (path, dir) = h.place(path.as_str());
            let missing = steps_from(&h.mount, &dir);
            Some((path, dir, missing, h.controllers.clone(), None, None))
        })
    }

    /// The group with this path in every tree, whether it exists already or not; finds out what
    /// this caller may do there. Errors: no cgroup file system is mounted.
    pub fn locate(layout: &CgroupLayout, path: &CgroupPath) -> Result<Group> {
        let group = Self::build(layout, |h| {
            let (path, dir) = h.place(path.as_str());
            if let Some(missing) = quick_look(h, &dir) {
                return Some((path, dir, missing, h.controllers.clone(), None, None));
            }
            let look = || {
                let mut missing = steps_from(&h.mount, &dir);
                missing.retain(|d| !d.exists());
                let nearest = match missing.first() {
                    Some(first) => first.parent().unwrap_or(&h.mount).to_path_buf(),
                    None => dir.clone(),
                };
                let before = identity(&nearest);
                let denied = denial(h, &nearest);
                // What an existing group has, or what the nearest existing ancestor can pass on.
                let (available, withheld) = match h.v2 {
                    false => (h.controllers.clone(), None),
                    true => {
                        let from = match missing.first() {
                            Some(_) => &nearest,
                            None if dir == h.mount => &h.mount,
                            None => dir.parent().unwrap_or(&h.mount),
                        };
                        delegated(h, from, &dir)
                    }
                };
                let same = before.is_some() && before == identity(&nearest);
                ((missing, available, withheld, denied), same)
            };
            // Another container's end may remove the empty group above between two of these looks.
            // What is not there cannot be written to, and a tree that cannot be written to would be
            // left out, with its limits: so a look is good only when the group stayed for all of it.
            let mut seen = look();
            for _ in 0..100 {
                if seen.1 {
                    break;
                }
                seen = look();
            }
            let (missing, available, withheld, denied) = seen.0;
            Some((path, dir, missing, available, withheld, denied))
        });
        if group.dirs.is_empty() {
            return Err(not_mounted(layout));
        }
        Ok(group)
    }

    /// The group with this path in the trees where it exists. Errors: it exists in none.
    pub fn existing(layout: &CgroupLayout, path: &CgroupPath) -> Result<Group> {
        let mut group = Self::locate(layout, path)?;
        group.dirs.retain(|d| d.missing.is_empty());
        if group.dirs.is_empty() {
            return Err(
                Error::kind(Kind::NotFound, format!("there is no cgroup {path}"))
                    .hint("`glassbox cgroup ls` lists the groups of this host")
                    .topic("cgroups"),
            );
        }
        Ok(group)
    }

    /// The groups of a process, which on v1 may have a different path in each tree. Errors: there
    /// is no such process.
    pub fn of_pid(layout: &CgroupLayout, pid: i32) -> Result<Group> {
        let file = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::kind(Kind::NotFound, format!("there is no process {pid}"))
            }
            _ => Error::new(format!("cannot read {file}")).caused_by(e),
        })?;
        let memberships = parse_proc_cgroup(&text);
        let mut group = Self::build(layout, |h| {
            let path = memberships
                .iter()
                .find(|m| {
                    if h.v2 {
                        m.controllers.is_empty()
                    } else {
                        m.controllers == h.controllers
                    }
                })?
                .path
                .clone();
            let dir = h.dir(&path).filter(|d| d.is_dir())?;
            let denied = denial(h, &dir);
            let (available, withheld) = match h.v2 {
                true => delegated(h, dir.parent().unwrap_or(&h.mount), &dir),
                false => (h.controllers.clone(), None),
            };
            Some((path, dir, Vec::new(), available, withheld, denied))
        });
        // The most telling path names the group: v2's where all is there, else any but the root.
        let named = group
            .dirs
            .iter()
            .filter(|d| layout.kind == LayoutKind::Unified || !d.v2);
        if let Some(dir) = named.max_by_key(|d| d.path.len()) {
            group.path = CgroupPath::from_kernel(&dir.path);
        }
        if group.dirs.is_empty() {
            return Err(not_mounted(layout));
        }
        Ok(group)
    }

    #[allow(clippy::type_complexity)]
    fn build(
        layout: &CgroupLayout,
        place: impl Fn(
            &Hierarchy,
        ) -> Option<(
            String,
            PathBuf,
            Vec<PathBuf>,
            Vec<String>,
            Option<(Vec<String>, String)>,
            Option<String>,
        )>,
    ) -> Group {
        let dirs: Vec<GroupDir> = layout
            .hierarchies
            .iter()
            .filter_map(|h| {
                let (path, dir, missing, available, withheld, denied) = place(h)?;
                Some(GroupDir {
                    hierarchy: h.name(),
                    v2: h.v2,
                    mount: h.mount.clone(),
                    path,
                    dir,
                    available,
                    withheld,
                    missing,
                    denied,
                })
            })
            .collect();
        Group {
            path: CgroupPath::from_kernel(dirs.first().map_or("/", |d| &d.path)),
            dirs,
            kind: layout.kind,
            unmounted: layout
                .kernel
                .iter()
                .filter(|(name, _)| layout.of(name).is_none())
                .map(|(name, enabled)| (name.clone(), *enabled))
                .collect(),
        }
    }

    /// The directory in the v2 tree, if the group is there.
    pub fn unified(&self) -> Option<&GroupDir> {
        self.dirs.iter().find(|d| d.v2)
    }

    /// The directory in the tree that has this controller; no delegation is asked for.
    pub fn dir_of(&self, controller: &str) -> Option<&GroupDir> {
        self.dirs.iter().find(|d| {
            d.available.iter().any(|c| c == controller)
                || matches!(&d.withheld, Some((names, _)) if names.iter().any(|c| c == controller))
        })
    }

    /// The trees in which this caller may make groups.
    pub fn usable(&self) -> impl Iterator<Item = &GroupDir> {
        self.dirs.iter().filter(|d| d.denied.is_none())
    }

    /// True when the group exists in every tree where this caller may use it.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|d| d.missing.is_empty())
    }

    /// Fails when this caller may make groups in no tree at all, saying why and what to do.
    pub fn require_usable(&self) -> Result<()> {
        match self.usable().next() {
            Some(_) => Ok(()),
            None => Err(self.denied_error(self.dirs.first())),
        }
    }

    /// The error for a tree that the caller may not use.
    pub fn denied_error(&self, dir: Option<&GroupDir>) -> Error {
        let why = dir
            .and_then(|d| d.denied.clone())
            .unwrap_or_else(|| "no cgroup file system is mounted".into());
        Error::kind(
            Kind::Unsupported,
            format!("this user may not make the cgroup {}", self.path),
        )
        .caused_by(Error::new(why))
        .hint(how_to_delegate(self.kind, dir))
        .topic("cgroups")
    }
}

/// How an ordinary user gets a group to work in.
pub fn how_to_delegate(kind: LayoutKind, dir: Option<&GroupDir>) -> String {
    let own = |place: &Path| {
        format!(
            "as root: mkdir -p {0} && chown -R USER {0}",
            place.display()
        )
    };
    match kind {
        LayoutKind::Unified => format!(
            "run inside a delegated group: systemd-run --user --scope -p Delegate=yes -- glassbox …; \
             without systemd, {}",
            dir.map_or_else(String::new, |d| own(d.missing.first().unwrap_or(&d.dir)))
        ),
        _ => format!(
            "cgroup v1 trees cannot be delegated safely by systemd; boot with \
             systemd.unified_cgroup_hierarchy=1 (cgroup v2) and use systemd-run --user --scope \
             -p Delegate=yes -- glassbox …; or, in the tree of each controller that is wanted, {}, \
             and name the groups below it: /mine/NAME",
            dir.map_or_else(String::new, |d| own(&d.mount.join("mine")))
        ),
    }
}

fn not_mounted(layout: &CgroupLayout) -> Error {
    let kernel = if layout.kernel.is_empty() {
        "this kernel was built without cgroups"
    } else {
        "mount it: mount -t cgroup2 none /sys/fs/cgroup"
    };
    Error::kind(Kind::Unsupported, "no cgroup file system is mounted here")
        .hint(kernel)
        .topic("cgroups")
}

/// Every directory below `mount` on the way to `dir`, `dir` included.
fn steps_from(mount: &Path, dir: &Path) -> Vec<PathBuf> {
    let mut steps: Vec<PathBuf> = dir
        .ancestors()
        .take_while(|a| *a != mount)
        .map(Path::to_path_buf)
        .collect();
    steps.reverse();
    steps
}

/// What is missing of a group, where one question or two tell all: it, or the group above, is there
/// and may be written to, in a tree that passes all of its controllers on.
fn quick_look(h: &Hierarchy, dir: &Path) -> Option<Vec<PathBuf>> {
    if h.v2 || h.read_only {
        return None;
    }
    if may_write(dir) {
        return Some(Vec::new());
    }
    let above = dir.parent().filter(|_| dir != h.mount)?;
    // In this order: a group that is there and is not the caller's must not count as missing.
    (is_absent(dir) && may_write(above)).then(|| vec![dir.to_path_buf()])
}

fn is_absent(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// What tells a directory from another one that was made in its place.
fn identity(dir: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(dir).ok().map(|m| m.ino())
}

fn may_write(path: &Path) -> bool {
    use nix::unistd::{AccessFlags, faccessat};
    let how = nix::fcntl::AtFlags::AT_EACCESS;
    faccessat(crate::sys::fs::CWD, path, AccessFlags::W_OK, how).is_ok()
}

/// Why groups cannot be made in `dir`, if they cannot.
fn denial(h: &Hierarchy, dir: &Path) -> Option<String> {
    if h.read_only {
        return Some(format!("{} is mounted read-only", h.mount.display()));
    }
    (!may_write(dir)).then(|| {
        format!(
            "{} belongs to another user (uid {})",
            dir.display(),
            std::os::unix::fs::MetadataExt::uid(
                &std::fs::metadata(dir).unwrap_or_else(|_| std::fs::metadata("/").expect("/"))
            )
        )
    })
}

/// Which controllers of the v2 tree a group below `from` can have: all of `from`'s when the caller
/// may write its `cgroup.subtree_control`, else those that it passes on already.
fn delegated(
    h: &Hierarchy,
    from: &Path,
    dir: &Path,
) -> (Vec<String>, Option<(Vec<String>, String)>) {
    let words = |dir: &Path, file: &str| -> Vec<String> {
        std::fs::read_to_string(dir.join(file))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_string)
            .collect()
    };
    if dir == h.mount {
        return (h.controllers.clone(), None);
    }
    let available = if may_write(&from.join("cgroup.subtree_control")) {
        words(from, "cgroup.controllers")
    } else {
        words(from, "cgroup.subtree_control")
    };
    let rest: Vec<String> = h
        .controllers
        .iter()
        .filter(|c| !available.contains(c))
        .cloned()
        .collect();
    if rest.is_empty() {
        return (available, None);
    }
    // The first group from the top that does not pass one of them on is the one to change.
    let mut by = h.mount.clone();
    for step in std::iter::once(h.mount.clone()).chain(steps_from(&h.mount, from)) {
        let passed = words(&step, "cgroup.subtree_control");
        if rest.iter().any(|c| !passed.contains(c)) {
            by = step;
            break;
        }
    }
    (available, Some((rest, by.display().to_string())))
}

/// The group under which a name without a slash is made: the root for those who may write there.
///
/// For an ordinary user it is where a delegation is: the caller's own group when systemd marked it
/// as delegated (`Delegate=yes` sets the xattr `user.delegate`); else the group above, if that is
/// the user's too and holds no processes, for then none has to move; else the own group.
pub fn base(layout: &CgroupLayout) -> Result<CgroupPath> {
    let root_is_ours = layout
        .hierarchies
        .iter()
        .any(|h| !h.read_only && may_write(&h.place("/").1));
    let Some(h) = layout.unified().filter(|_| !root_is_ours) else {
        return Ok(CgroupPath::root());
    };
    // Our own leaf, after an evacuation, is inside the delegated group.
    let leaf = format!("/{}", super::actions::LEAF);
    let own = h.own.strip_suffix(&leaf).unwrap_or(&h.own);
    if let (Some(dir), Some((above, _))) = (h.dir(own), own.rsplit_once('/'))
        && let Some(above_dir) = h.dir(above).filter(|_| !above.is_empty())
    {
        let mark = sys::xattr::lgetxattr(&dir, b"user.delegate");
        let marked = mark.is_ok_and(|v| v.as_deref() == Some(b"1"));
        let free = may_write(&above_dir)
            && may_write(&above_dir.join("cgroup.subtree_control"))
            && read_file(&above_dir, "cgroup.procs").is_ok_and(|t| t.is_empty());
        if free && !marked {
            return Ok(CgroupPath::from_kernel(above));
        }
    }
    Ok(CgroupPath::from_kernel(own))
}

/// Reads a file of a group, trimmed. Errors: the file does not exist (the controller is not
/// enabled there) or may not be read.
pub fn read_file(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    read_text(&path)
        .map(|t| t.trim_end().to_string())
        .with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked_and_normalised() {
        let text = |t: &str| CgroupPath::parse(t).map(|p| p.0);
        assert_eq!(text("a").unwrap(), "/a");
        assert_eq!(text("//a/./b/").unwrap(), "/a/b");
        assert_eq!(text("").unwrap(), "/");
        for wrong in [
            "a/../b",
            "..",
            "a\nb",
            "cgroup.procs",
            "a/memory.max",
            "tasks",
        ] {
            assert!(text(wrong).is_err(), "{wrong:?}");
        }
        assert!(text(&"x".repeat(256)).is_err());
        assert_eq!(CgroupPath::root().join("x").unwrap().as_str(), "/x");
    }

    #[test]
    fn a_group_has_a_directory_in_each_tree() {
        let path = CgroupPath::parse("glassbox/web").unwrap();
        let group = Group::imagine(&Host::example_v2(), &path);
        assert_eq!(group.dirs.len(), 1);
        assert_eq!(
            group.dirs[0].missing,
            ["/sys/fs/cgroup/glassbox", "/sys/fs/cgroup/glassbox/web"].map(PathBuf::from)
        );
        let group = Group::imagine(&Host::example_hybrid(), &path);
        assert_eq!(group.dirs.len(), 10);
        assert_eq!(
            group.dir_of("pids").unwrap().dir,
            Path::new("/sys/fs/cgroup/pids/glassbox/web")
        );
        assert_eq!(
            group.dir_of("hugetlb").unwrap().dir,
            Path::new("/sys/fs/cgroup/unified/glassbox/web")
        );
        assert!(group.dir_of("io").is_none());
        assert_eq!(group.unmounted, [("net_cls".to_string(), true)]);
    }

    #[test]
    fn groups_of_a_process_are_found() {
        let layout = CgroupLayout::detect().unwrap();
        if layout.kind == LayoutKind::None {
            eprintln!("SKIPPED: no cgroup file system is mounted");
            return;
        }
        let group = Group::of_pid(&layout, std::process::id() as i32).unwrap();
        assert!(group.dirs.iter().all(|d| d.dir.is_dir()));
        assert!(Group::of_pid(&layout, i32::MAX).is_err());
    }
}
