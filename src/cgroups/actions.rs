//! The steps of a set-up that concern groups: create, limit, open, enter.
//!
//! What it does: each struct is one step; its fields are the step's arguments. All of them run in
//! the parent, with the caller's privileges in the host's cgroup tree: inside, the tree is
//! read-only or not there at all.
//! What it implements: [`Action`] over cgroupfs: mkdir(2), rmdir(2), write(2).
//! Interface: [`CreateGroup`], [`Evacuate`], [`WriteLimit`], [`OpenGroup`], [`Attach`],
//! [`Freeze`]. Read next: `lifecycle.rs`, then `devices.rs`.

use super::group::{Group, GroupDir};
use super::lifecycle;
use super::plan::LimitWrite;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, Errno, fs::CWD};
use std::path::{Path, PathBuf};

/// The leaf that [`Evacuate`] moves a group's processes to.
pub const LEAF: &str = "glassbox-leaf";

/// Makes the group in every tree that this caller may use, and on v2 enables controllers for it in
/// every group above.
#[derive(Debug, Clone)]
pub struct CreateGroup {
    /// The group's path, for messages.
    pub path: String,
    /// Where to make it.
    pub dirs: Vec<GroupDir>,
    /// Controllers that must be enabled on v2; the others that can be are, so that their use is
    /// counted, but may fail to.
    pub required: Vec<String>,
    /// A group that exists already is an error, not adopted.
    pub exclusive: bool,
}

impl CreateGroup {
    /// In all usable trees of `group`.
    pub fn new(group: &Group, required: Vec<String>) -> CreateGroup {
        CreateGroup {
            path: group.path.to_string(),
            dirs: group.usable().cloned().collect(),
            required,
            exclusive: true,
        }
    }

    fn key(&self) -> String {
        format!("cgroup.created {}", self.path)
    }

    fn make(&self, dir: &GroupDir, scene: &mut Scene) -> Result<()> {
        let mut steps: Vec<&Path> = dir
            .dir
            .ancestors()
            .take_while(|a| *a != dir.mount)
            .collect();
        steps.reverse();
        for (i, step) in steps.iter().enumerate() {
            let above = step.parent().unwrap_or(&dir.mount);
            let last = i + 1 == steps.len();
            if dir.v2 {
                self.enable(above, &dir.available)?;
            }
            // A group above that somebody else removes right now is made again.
            if !last && step.is_dir() {
                continue;
            }
            match sys::fs::mkdirat(CWD, step, 0o755) {
                Ok(()) => {
                    let key = self.key();
                    let list = scene.get(&key).unwrap_or_default().to_string();
                    scene.put(key, format!("{list}{}\n", step.display()));
                }
                Err(e) if e.errno == Errno::EEXIST && (!last || !self.exclusive) => {}
                Err(e) if e.errno == Errno::EEXIST => {
                    return Err(Error::kind(
                        Kind::Conflict,
                        format!("the cgroup {} exists already", self.path),
                    )
                    .caused_by(e)
                    .hint(format!("remove it with `glassbox cgroup rm {}`", self.path)));
                }
                Err(e) => return Err(self.explain_mkdir(e, above)),
            }
            if dir.available.iter().any(|c| c == "cpuset") && !dir.v2 {
                inherit_cpuset(above, step)?;
            }
        }
        Ok(())
    }

    fn explain_mkdir(&self, e: sys::SysError, above: &Path) -> Error {
        let hint = match e.errno {
            Errno::EAGAIN => format!(
                "a group above allows no more groups or levels: see cgroup.max.descendants and \
                 cgroup.max.depth from {} up",
                above.display()
            ),
            Errno::EACCES | Errno::EPERM => {
                format!("{} is not delegated to this user", above.display())
            }
            Errno::EROFS => "the cgroup file system is mounted read-only".to_string(),
            Errno::ENOENT => "somebody removed a group above meanwhile: try again".to_string(),
            _ => return Error::from(e).context(format!("cannot make the cgroup {}", self.path)),
        };
        Error::new(format!("cannot make the cgroup {}", self.path))
            .caused_by(e)
            .hint(hint)
            .topic("cgroups")
    }

    /// Lets the groups below `above` have controllers: `+memory +pids` into its
    /// cgroup.subtree_control.
    fn enable(&self, above: &Path, wanted: &[String]) -> Result<()> {
        let control = above.join("cgroup.subtree_control");
        let words = |file: &str| {
            std::fs::read_to_string(above.join(file))
                .unwrap_or_default()
                .split_whitespace()
                .map(str::to_string)
                .collect::<Vec<_>>()
        };
        let (have, on) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        let off: Vec<&String> = wanted
            .iter()
            .filter(|c| have.contains(c) && !on.contains(c))
            .collect();
        if off.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = off.iter().map(|c| format!("+{c}")).collect();
        if sys::fs::write_file(&control, &all.join(" ")).is_ok() {
            return Ok(());
        }
        // Together they take effect or fail as one; alone it shows which cannot be had.
        for name in off {
            match sys::fs::write_file(&control, &format!("+{name}")) {
                Err(e) if self.required.contains(name) => return Err(not_enabled(e, name, above)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn not_enabled(e: sys::SysError, controller: &str, above: &Path) -> Error {
    let hint = match e.errno {
        Errno::EBUSY => format!(
            "{} holds processes itself, and such a group cannot pass controllers on: move them \
             into a group below it",
            above.display()
        ),
        Errno::EACCES | Errno::EPERM => format!(
            "as root: echo +{controller} > {}/cgroup.subtree_control",
            above.display()
        ),
        Errno::EINVAL if controller == "cpu" => {
            "realtime processes outside the root group keep the cpu controller off".to_string()
        }
        _ => format!("see {}/cgroup.controllers", above.display()),
    };
    Error::kind(
        Kind::Unsupported,
        format!(
            "cannot enable the {controller} controller below {}",
            above.display()
        ),
    )
    .caused_by(e)
    .hint(hint)
    .topic("cgroups")
}

/// v1: a new cpuset group is empty, and no process can enter it before it has processors and
/// memory nodes.
fn inherit_cpuset(above: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let of = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
        if of(group).trim().is_empty() {
            let parents = of(above);
            sys::fs::write_file(group.join(file), parents.trim())
                .with_context(|| format!("cannot give {} the {file} above it", group.display()))?;
        }
    }
    Ok(())
}

impl Action for CreateGroup {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = Vec::new();
        for dir in &self.dirs {
            for step in &dir.missing {
                if dir.v2 && !dir.available.is_empty() {
                    let above = step.parent().unwrap_or(&dir.mount);
                    let on: Vec<String> = dir.available.iter().map(|c| format!("+{c}")).collect();
                    calls.push(Planned::new(
                        "write",
                        format!(
                            "{}/cgroup.subtree_control ← {}",
                            above.display(),
                            on.join(" ")
                        ),
                    ));
                }
                calls.push(Planned::new("mkdirat", format!("{step:?}, 0755")));
            }
        }
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        for dir in &self.dirs {
            self.make(dir, scene)?;
        }
        Ok(())
    }

    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let there: Vec<&str> = self
            .dirs
            .iter()
            .filter(|d| d.dir.is_dir())
            .map(|d| d.hierarchy.as_str())
            .collect();
        let mut facts = vec![Fact {
            what: format!("trees that have {}", self.path),
            value: Ok(there.join(" ")),
            source: self
                .dirs
                .first()
                .map_or(String::new(), |d| d.dir.display().to_string()),
        }];
        if let Some(dir) = self.dirs.iter().find(|d| d.v2 && d.dir.is_dir()) {
            facts.push(Fact::from_file(
                "cgroup.controllers",
                dir.dir.join("cgroup.controllers"),
            ));
        }
        facts
    }

    fn expected(&self) -> Option<String> {
        let names: Vec<&str> = self.dirs.iter().map(|d| d.hierarchy.as_str()).collect();
        Some(names.join(" "))
    }

    fn undo(&self, scene: &mut Scene) -> Result<()> {
        let created: Vec<PathBuf> = scene
            .get(&self.key())
            .unwrap_or_default()
            .lines()
            .map(PathBuf::from)
            .collect();
        scene.put(self.key(), "");
        let mut failures = Vec::new();
        for dir in created.iter().rev() {
            let whole = self.dirs.iter().any(|d| d.dir == *dir);
            let result = if whole {
                lifecycle::kill_dir(dir).and_then(|()| lifecycle::remove_dir(dir))
            } else {
                // A group on the way may hold somebody else's by now.
                match sys::fs::unlinkat(CWD, dir, libc::AT_REMOVEDIR) {
                    Err(e)
                        if !matches!(e.errno, Errno::EBUSY | Errno::ENOENT | Errno::ENOTEMPTY) =>
                    {
                        Err(e.into())
                    }
                    _ => Ok(()),
                }
            };
            failures.extend(result.err());
        }
        Error::join(format!("cannot remove the cgroup {}", self.path), failures)
    }
}

/// v2: moves all processes of a group into a leaf below it. A group that holds processes cannot
/// pass controllers on ("no internal process constraint"), and a delegated scope begins with the
/// caller's own processes in it.
#[derive(Debug, Clone)]
pub struct Evacuate {
    /// The group's directory.
    pub from: PathBuf,
}

impl Evacuate {
    /// Needed when the new group lies right in the caller's own group, which holds the caller and
    /// is not the root.
    pub fn if_needed(group: &Group) -> Option<Evacuate> {
        let dir = group.usable().find(|d| d.v2)?;
        let above = dir.missing.first()?.parent()?;
        let inner = above.join("cgroup.type").exists();
        let busy = inner
            && std::fs::read_to_string(above.join("cgroup.procs")).is_ok_and(|t| {
                let me = std::process::id();
                t.lines().any(|l| l.parse() == Ok(me))
            });
        busy.then(|| Evacuate {
            from: above.to_path_buf(),
        })
    }

    fn move_all(from: &Path, to: &Path) -> Result<()> {
        // A process may fork meanwhile: again until none is left.
        for _ in 0..16 {
            let pids = lifecycle::pids(from)?;
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                match sys::fs::write_file(to.join("cgroup.procs"), &pid.to_string()) {
                    Err(e) if e.errno == Errno::ESRCH => {}
                    result => result.with_context(|| {
                        format!("cannot move process {pid} to {}", to.display())
                    })?,
                }
            }
        }
        Ok(())
    }
}

impl Action for Evacuate {
    fn calls(&self) -> Vec<Planned> {
        let leaf = self.from.join(LEAF);
        vec![
            Planned::new("mkdirat", format!("{leaf:?}, 0755")),
            Planned::new(
                "write",
                format!("{}/cgroup.procs ← each process", leaf.display()),
            ),
        ]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let leaf = self.from.join(LEAF);
        match sys::fs::mkdirat(CWD, &leaf, 0o755) {
            Err(e) if e.errno == Errno::EEXIST => {}
            result => result.with_context(|| format!("cannot make {}", leaf.display()))?,
        }
        Self::move_all(&self.from, &leaf)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let file = self.from.join("cgroup.procs");
        vec![Fact {
            what: "processes in the group itself".into(),
            value: lifecycle::pids(&self.from)
                .map(|p| p.len().to_string())
                .map_err(|e| format!("{e:#}")),
            source: file.display().to_string(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("0".into())
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        let leaf = self.from.join(LEAF);
        if !leaf.is_dir() {
            return Ok(());
        }
        // Processes may come back only once no controllers are passed on.
        let on = std::fs::read_to_string(self.from.join("cgroup.subtree_control"));
        let off: Vec<String> = on
            .unwrap_or_default()
            .split_whitespace()
            .map(|c| format!("-{c}"))
            .collect();
        if !off.is_empty() {
            sys::fs::write_file(self.from.join("cgroup.subtree_control"), &off.join(" "))
                .context("another group still uses the controllers")?;
        }
        Self::move_all(&leaf, &self.from)?;
        lifecycle::remove_dir(&leaf)
    }
}

/// Writes one limit into one kernel file.
#[derive(Debug, Clone)]
pub struct WriteLimit {
    /// The file.
    pub path: PathBuf,
    /// What to write.
    pub value: String,
    /// What reads back.
    pub expected: Option<String>,
    /// Another file and value, when the kernel does not have the first.
    pub fallback: Option<(PathBuf, String)>,
    /// Undo writes the old value back: for a group that existed before.
    pub restore: bool,
}

impl WriteLimit {
    /// Out of a planned write; `restore` for a group that is not removed when the plan is undone.
    pub fn new(write: &LimitWrite, restore: bool) -> WriteLimit {
        WriteLimit {
            path: write.path.clone(),
            value: write.value.clone(),
            expected: write.expected.clone(),
            fallback: write.fallback.clone(),
            restore,
        }
    }
    fn key(&self) -> String {
        format!("cgroup.old {}", self.path.display())
    }
    fn explain(&self, e: sys::SysError) -> Error {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let hint = match e.errno {
            Errno::ENOENT if file.contains("memsw") || file.contains("swap") => {
                "this kernel does not count swap: boot with swapaccount=1".to_string()
            }
            Errno::ENOENT if file.contains("weight") => {
                "the kernel shares disks by weight only with the BFQ scheduler or the io.cost model"
                    .to_string()
            }
            Errno::ENOENT => format!(
                "this kernel has no {file}, or the group's controllers do not include it"
            ),
            Errno::EBUSY if file.starts_with("memory.") => {
                "the group uses more than that already and it cannot be reclaimed".to_string()
            }
            Errno::EINVAL if file == "memory.limit_in_bytes" => {
                "v1 keeps memory.memsw.limit_in_bytes (memory plus swap) at or above it: raise that \
                 as well with --memory-swap"
                    .to_string()
            }
            Errno::EINVAL if file.contains("memsw") => {
                "it must not be below memory.limit_in_bytes".to_string()
            }
            Errno::EINVAL if file.starts_with("cpu.cfs") => {
                "no group may have more time than the one above it".to_string()
            }
            Errno::EINVAL | Errno::EACCES | Errno::ENOSPC if file.starts_with("cpuset.") => {
                format!(
                    "it must lie within {file} of the group above, and not be empty while it holds \
                     processes"
                )
            }
            Errno::ENODEV | Errno::ENXIO => "there is no such block device".to_string(),
            _ => return Error::from(e).context(format!("cannot set {file} to {:?}", self.value)),
        };
        Error::new(format!("cannot set {file} to {:?}", self.value))
            .caused_by(e)
            .hint(hint)
            .topic("cgroups")
    }
}

impl Action for WriteLimit {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{} ← {}", self.path.display(), self.value),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        if self.restore
            && let Ok(old) = std::fs::read_to_string(&self.path)
        {
            scene.put(self.key(), old.trim_end());
        }
        match (sys::fs::write_file(&self.path, &self.value), &self.fallback) {
            (Ok(()), _) => Ok(()),
            (Err(e), Some((path, value))) if e.errno == Errno::ENOENT && path.exists() => {
                sys::fs::write_file(path, value).map_err(|e| self.explain(e))
            }
            (Err(e), _) => Err(self.explain(e)),
        }
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        vec![Fact::from_file(name, &self.path)]
    }
    fn expected(&self) -> Option<String> {
        self.expected.clone()
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        let Some(old) = scene.get(&self.key()).map(str::to_string) else {
            return Ok(());
        };
        // Files of several lines are keyed by device and have no one old value to write.
        if old.is_empty() || old.contains('\n') {
            return Ok(());
        }
        sys::fs::write_file(&self.path, &old)
            .with_context(|| format!("cannot set {} back to {old:?}", self.path.display()))
    }
}

/// Opens the group's directory in the v2 tree and keeps it in the scene as `cgroup`, for
/// `CLONE_INTO_CGROUP`.
#[derive(Debug, Clone)]
pub struct OpenGroup {
    /// The directory.
    pub dir: PathBuf,
}

impl Action for OpenGroup {
    fn calls(&self) -> Vec<Planned> {
        // Opening for reading changes nothing, so it is no call of the journal's.
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let fd = sys::fs::open(&self.dir, flags, 0).context("cannot open the cgroup")?;
        scene.put_fd("cgroup", fd);
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_file("cgroup.type", self.dir.join("cgroup.type"))]
    }
    fn expected(&self) -> Option<String> {
        Some("domain".into())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        drop(scene.take_fd("cgroup"));
        Ok(())
    }
}

/// Which process enters a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The child that the clone step made.
    Child,
    /// The caller itself.
    Myself,
    /// This process.
    Pid(i32),
}

/// Moves a process into the group, in each tree.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The group's directories.
    pub dirs: Vec<PathBuf>,
    /// Which process.
    pub who: Who,
}

impl Attach {
    /// Into all usable trees of `group`; `cloned_into` leaves out the v2 tree, which the clone
    /// step has dealt with.
    pub fn new(group: &Group, who: Who, cloned_into: bool) -> Attach {
        Attach {
            dirs: group
                .usable()
                .filter(|d| !(d.v2 && cloned_into))
                .map(|d| d.dir.clone())
                .collect(),
            who,
        }
    }
}

impl Action for Attach {
    fn calls(&self) -> Vec<Planned> {
        let who = match self.who {
            Who::Child => "init's pid".to_string(),
            Who::Myself => "0".to_string(),
            Who::Pid(pid) => pid.to_string(),
        };
        self.dirs
            .iter()
            .map(|d| Planned::new("write", format!("{}/cgroup.procs ← {who}", d.display())))
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let pid = match self.who {
            Who::Child => scene.child_pid()?,
            Who::Myself => 0, // the kernel reads 0 as the writer
            Who::Pid(pid) => pid,
        };
        for dir in &self.dirs {
            lifecycle::attach_dir(dir, pid)?;
        }
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let pid = match self.who {
            Who::Child => match scene.child_pid() {
                Ok(pid) => pid.to_string(),
                Err(_) => return Vec::new(),
            },
            Who::Myself => "self".to_string(),
            Who::Pid(pid) => pid.to_string(),
        };
        let file = format!("/proc/{pid}/cgroup");
        vec![Fact {
            what: "groups of the process".into(),
            value: std::fs::read_to_string(&file)
                .map(|t| t.trim_end().replace('\n', " "))
                .map_err(|e| e.to_string()),
            source: file,
        }]
    }
}

/// Stops all processes of the group where they are, until it is thawed.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// The group.
    pub group: Group,
}

impl Action for Freeze {
    fn calls(&self) -> Vec<Planned> {
        match lifecycle::freezer(&self.group) {
            Some((path, freeze, _)) => {
                vec![Planned::new(
                    "write",
                    format!("{} ← {freeze}", path.display()),
                )]
            }
            None => Vec::new(),
        }
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        lifecycle::freeze(&self.group)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        match lifecycle::freezer(&self.group) {
            Some((path, ..)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                vec![Fact::from_file(name, &path)]
            }
            None => Vec::new(),
        }
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        lifecycle::thaw(&self.group)
    }
}
