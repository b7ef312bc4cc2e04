//! Making a group: a directory in each tree, and on v2 the controllers that reach it.
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Enabling and Disabling", "Top-down
//! Constraint", "No Internal Process Constraint"), cgroup-v1/cpusets.rst (a new group is empty).
//! Interface: [`CreateGroup`], [`Evacuate`]. Read next: `../lifecycle.rs`.

use crate::cgroups::group::{Group, GroupDir};
use crate::cgroups::lifecycle;
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
    /// What happens where it exists already.
    pub existing: Existing,
}

/// What becomes of a group that is there before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// It is taken over as long as nobody is in it or below it, as other OCI runtimes do: an engine
    /// may have made it. One with processes is another container's.
    AdoptEmpty,
    /// It is used as it is.
    Use,
}

impl CreateGroup {
    /// In all usable trees of `group`.
    pub fn new(group: &Group, required: Vec<String>) -> CreateGroup {
        CreateGroup {
            path: group.path.to_string(),
            dirs: group.usable().cloned().collect(),
            required,
            existing: Existing::Refuse,
        }
    }

    fn key(&self) -> String {
        format!("cgroup.created {}", self.path)
    }

    fn make(&self, dir: &GroupDir, scene: &mut Scene) -> Result<()> {
        // A group above that somebody else just removed, because it was empty, is made again.
        for _ in 0..8 {
            if self.make_once(dir, scene)? {
                return Ok(());
            }
        }
        Err(Error::new(format!(
            "cannot make the cgroup {}: a group above keeps disappearing",
            self.path
        )))
    }

    /// False when a group above has gone meanwhile.
    fn make_once(&self, dir: &GroupDir, scene: &mut Scene) -> Result<bool> {
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
            if step.is_dir() && !(last && self.existing == Existing::Refuse) {
                if last && self.existing == Existing::AdoptEmpty {
                    self.require_idle(step)?;
                }
                continue;
            }
            match sys::fs::mkdirat(CWD, step, 0o755) {
                Ok(()) => {
                    let key = self.key();
                    let list = scene.get(&key).unwrap_or_default().to_string();
                    scene.put(key, format!("{list}{}\n", step.display()));
                }
                Err(e) if e.errno == Errno::EEXIST && !last => {}
                Err(e) if e.errno == Errno::EEXIST && self.existing == Existing::Use => {}
                // Somebody else has just made it, for a container of his own.
                Err(e) if e.errno == Errno::ENOENT && i > 0 => return Ok(false),
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
        Ok(true)
    }

    /// Nobody is in it or below it, and it is not frozen: init would never begin there.
    fn require_idle(&self, dir: &Path) -> Result<()> {
        let taken = |what: String| {
            Error::kind(
                Kind::Conflict,
                format!("the cgroup {} exists already, and {what}", self.path),
            )
            .hint("it is another container's: linux.cgroupsPath must be this one's own")
            .topic("cgroups")
        };
        let groups = lifecycle::tree_of(dir);
        let pids: Vec<i32> = groups
            .iter()
            .flat_map(|d| lifecycle::pids(d).unwrap_or_default())
            .collect();
        if !pids.is_empty() {
            return Err(taken(format!("holds processes: {pids:?}")));
        }
        let is = |file: &str, word: &str| {
            std::fs::read_to_string(dir.join(file)).is_ok_and(|text| text.trim() == word)
        };
        match is("freezer.state", "FROZEN") || is("cgroup.freeze", "1") {
            true => Err(taken("is frozen".into())),
            false => Ok(()),
        }
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
            _ => {
                return Error::new(format!("cannot make the cgroup {}", self.path)).caused_by(e);
            }
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
        for _ in 0..4 {
            match sys::fs::write_file(&control, &all.join(" ")) {
                Ok(()) => return Ok(()),
                // The end of another command of ours may have moved its processes back to the
                // group that we are about to use: they move out once more.
                Err(e) if e.errno == Errno::EBUSY && Evacuate::is_ours(above) => {
                    let from = above.to_path_buf();
                    Evacuate { from }.evacuate()?;
                }
                Err(_) => break,
            }
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
            let mut parents = of(above);
            // Somebody else has made the group above this very moment and not filled it yet.
            if parents.trim().is_empty()
                && let Some(higher) = above.parent().filter(|h| h.join(file).exists())
            {
                inherit_cpuset(higher, above)?;
                parents = of(above);
            }
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
        Self::holds_me(above).then(|| Evacuate {
            from: above.to_path_buf(),
        })
    }

    /// The group holds the caller itself, and is not the root, which may pass controllers on
    /// whatever it holds.
    fn holds_me(dir: &Path) -> bool {
        let me = std::process::id() as i32;
        dir.join("cgroup.type").exists() && lifecycle::pids(dir).is_ok_and(|p| p.contains(&me))
    }

    /// It is the caller's own group, or one that we have evacuated before.
    fn is_ours(dir: &Path) -> bool {
        Self::holds_me(dir) || dir.join(LEAF).is_dir()
    }

    fn evacuate(&self) -> Result<()> {
        let leaf = self.from.join(LEAF);
        match sys::fs::mkdirat(CWD, &leaf, 0o755) {
            Err(e) if e.errno == Errno::EEXIST => {}
            result => result.with_context(|| format!("cannot make {}", leaf.display()))?,
        }
        Self::move_all(&self.from, &leaf)
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
        self.evacuate()
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
            let control = self.from.join("cgroup.subtree_control");
            match sys::fs::write_file(&control, &off.join(" ")) {
                // Another group below still uses them: the leaf has to stay for its sake.
                Err(e) if e.errno == Errno::EBUSY => return Ok(()),
                result => result.with_context(|| format!("cannot write {}", control.display()))?,
            }
        }
        // Another command of ours may use the group again by now; then it needs the leaf too.
        let back = Self::move_all(&leaf, &self.from);
        let on = std::fs::read_to_string(self.from.join("cgroup.subtree_control"));
        if back.is_err() && on.is_ok_and(|t| !t.trim().is_empty()) {
            return Ok(());
        }
        back?;
        match sys::fs::unlinkat(CWD, &leaf, libc::AT_REMOVEDIR) {
            Err(e) if !matches!(e.errno, Errno::EBUSY | Errno::ENOENT) => Err(e.into()),
            _ => Ok(()),
        }
    }
}
