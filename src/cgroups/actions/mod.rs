//! The steps of a set-up that concern groups: create, limit, open, enter.
//!
//! What it does: each struct is one step; its fields are the step's arguments. All of them run in
//! the parent, with the caller's privileges in the host's cgroup tree: inside, the tree is
//! read-only or not there at all.
//! What it implements: [`Action`] over cgroupfs: mkdir(2), rmdir(2), write(2).
//! Interface: [`CreateGroup`], [`Evacuate`], [`WriteLimit`], [`OpenGroup`], [`Attach`],
//! [`Freeze`]. Read next: `create.rs`, `lifecycle.rs`, then `devices.rs`.

mod create;

pub use create::{CreateGroup, Evacuate, Existing, LEAF};

use super::effective::hugetlb_sizes;
use super::group::Group;
use super::lifecycle;
use super::plan::LimitWrite;
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, Errno};
use std::path::PathBuf;

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
    fn explain(&self, e: sys::SysError) -> Error {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let hint = match e.errno {
            Errno::ENOENT if file.contains("zswap") => {
                "this kernel has no compressed swap for groups: it needs CONFIG_ZSWAP".to_string()
            }
            Errno::ENOENT if file.contains("memsw") || file.contains("swap") => {
                "this kernel does not count swap: boot with swapaccount=1".to_string()
            }
            Errno::ENOENT if file.contains("weight") => {
                "the kernel shares disks by weight only with the BFQ scheduler or the io.cost model"
                    .to_string()
            }
            Errno::ENOENT if file.starts_with("hugetlb.") => {
                let dir = self.path.parent().unwrap_or(&self.path);
                match hugetlb_sizes(dir)[..] {
                    [] => "this kernel has no huge pages, or does not count them".to_string(),
                    ref sizes => format!("the sizes of huge pages here are {}", sizes.join(", ")),
                }
            }
            Errno::ENOENT => format!(
                "this kernel has no {file}, or the group's controllers do not include it"
            ),
            Errno::EBUSY if file.starts_with("memory.") => {
                "the group uses more than that already and it cannot be reclaimed".to_string()
            }
            Errno::EBUSY if file.starts_with("cpuset.") => format!(
                "a group below uses what the new list leaves out: change its {file} first"
            ),
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
            Errno::EINVAL if file.starts_with("cpu.rt_") => {
                "realtime is handed down from group to group: the one above it must have as much in \
                 its own cpu.rt_runtime_us"
                    .to_string()
            }
            Errno::EINVAL | Errno::EACCES | Errno::ENOSPC | Errno::ERANGE
                if file.starts_with("cpuset.") => {
                format!(
                    "it must lie within {file} of the group above, and not be empty while it holds \
                     processes"
                )
            }
            Errno::ENODEV | Errno::ENXIO => "there is no such block device".to_string(),
            _ => {
                return Error::new(format!("cannot set {file} to {:?}", self.value)).caused_by(e);
            }
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
        let remember = |scene: &mut Scene, path: &PathBuf| {
            if let Ok(old) = std::fs::read_to_string(path) {
                scene.put(format!("cgroup.old {}", path.display()), old.trim_end());
            }
        };
        if self.restore {
            remember(scene, &self.path);
            self.fallback
                .iter()
                .for_each(|(path, _)| remember(scene, path));
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
        let mut places = vec![(&self.path, &self.value)];
        places.extend(self.fallback.iter().map(|(path, value)| (path, value)));
        for (path, value) in places {
            let key = format!("cgroup.old {}", path.display());
            let Some(old) = scene.get(&key).and_then(|old| former(path, old, value)) else {
                continue;
            };
            sys::fs::write_file(path, &old)
                .with_context(|| format!("cannot set {} back to {old:?}", path.display()))?;
        }
        Ok(())
    }
}

/// What to write so that a file says again what it said before `value` was written. Some files
/// hold a line for each device, and a write changes one of them.
fn former(path: &std::path::Path, old: &str, value: &str) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let device = value.split_once(' ').map(|(key, _)| key);
    let device = device.filter(|d| d.contains(':') || file.starts_with("rdma."));
    let line = |key: &str| {
        let found = old.lines().find(|l| l.split(' ').next() == Some(key));
        found.map(str::to_string)
    };
    match (device, file) {
        (Some(device), _) => Some(line(device).unwrap_or_else(|| match file {
            "io.max" => format!("{device} rbps=max wbps=max riops=max wiops=max"),
            "rdma.max" => format!("{device} hca_handle=max hca_object=max"),
            _ if file.starts_with("io.") => format!("{device} default"),
            _ => format!("{device} 0"),
        })),
        (None, "memory.oom_control") => line("oom_kill_disable")?
            .split(' ')
            .nth(1)
            .map(str::to_string),
        (None, "io.weight" | "io.bfq.weight") => line("default"),
        // Of the first, an empty list means that the group above decides.
        (None, _) if old.is_empty() && file.starts_with("cpuset.") => Some("\n".into()),
        (None, _) if old.is_empty() || old.contains('\n') => None,
        (None, _) => Some(old.to_string()),
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
    /// The child that the clone step made; the parent moves it.
    Child,
    /// Init itself, while it has one thread: on v1 it moves by `tasks` and not `cgroup.procs`.
    /// Moving a whole process makes the kernel hold every fork and exit on the machine until all
    /// processors have passed a quiet point, some milliseconds a tree; a thread that moves itself
    /// needs none of that (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
    Init,
    /// The caller itself.
    Myself,
    /// This process.
    Pid(i32),
}

/// Moves a process into the group, in each tree.
#[derive(Debug, Clone)]
pub struct Attach {
    /// The file of each of the group's directories to write the process id to.
    pub files: Vec<PathBuf>,
    /// Which process.
    pub who: Who,
}

impl Attach {
    /// Into all usable trees of `group`; `cloned_into` leaves out the v2 tree, which the clone
    /// step has dealt with.
    pub fn new(group: &Group, who: Who, cloned_into: bool) -> Attach {
        Attach {
            files: group
                .usable()
                .filter(|d| !(d.v2 && cloned_into))
                .map(|d| match who {
                    Who::Init if !d.v2 => d.dir.join("tasks"),
                    _ => d.dir.join("cgroup.procs"),
                })
                .collect(),
            who,
        }
    }
}

impl Action for Attach {
    fn calls(&self) -> Vec<Planned> {
        let who = match self.who {
            Who::Child => "init's pid".to_string(),
            Who::Myself | Who::Init => "0".to_string(),
            Who::Pid(pid) => pid.to_string(),
        };
        self.files
            .iter()
            .map(|f| Planned::new("write", format!("{} ← {who}", f.display())))
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let pid = match self.who {
            Who::Child => scene.child_pid()?,
            Who::Myself | Who::Init => 0, // the kernel reads 0 as the writer
            Who::Pid(pid) => pid,
        };
        for file in &self.files {
            lifecycle::attach_by(file, pid)?;
        }
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let pid = match self.who {
            Who::Child => match scene.child_pid() {
                Ok(pid) => pid.to_string(),
                Err(_) => return Vec::new(),
            },
            Who::Myself | Who::Init => "self".to_string(),
            Who::Pid(pid) => pid.to_string(),
        };
        let file = format!("/proc/{pid}/cgroup");
        vec![Fact {
            what: "groups of the process".into(),
            value: std::fs::read_to_string(&file)
                .map(|t| summary(&t))
                .map_err(|e| e.to_string()),
            source: file,
        }]
    }
}

/// /proc/PID/cgroup in one line: the path that most trees share, then those that differ.
fn summary(text: &str) -> String {
    let all = crate::host::cgroup_layout::parse_proc_cgroup(text);
    let count = |path: &str| all.iter().filter(|m| m.path == path).count();
    let Some(common) = all.iter().map(|m| &m.path).max_by_key(|p| count(p)) else {
        return String::new();
    };
    let mut line = common.clone();
    for other in all.iter().filter(|m| m.path != *common) {
        let tree = match other.controllers.is_empty() {
            true => "cgroup2".into(),
            false => other.controllers.join(","),
        };
        line += &format!(", {tree}: {}", other.path);
    }
    line
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

#[cfg(test)]
mod tests {
    use super::former;
    use std::path::Path;

    #[test]
    fn a_write_to_one_line_of_a_file_is_taken_back_there() {
        let of = |file: &str, old: &str, value: &str| former(Path::new(file), old, value);
        let io =
            "8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=max riops=max wiops=max";
        let back = of("io.max", io, "8:16 rbps=5").unwrap();
        assert_eq!(back, "8:16 rbps=2 wbps=max riops=max wiops=max");
        let none = of("io.max", "", "8:0 rbps=5").unwrap();
        assert_eq!(none, "8:0 rbps=max wbps=max riops=max wiops=max");
        let v1 = of("blkio.throttle.read_bps_device", "", "8:0 5");
        assert_eq!(v1.as_deref(), Some("8:0 0"));
        let oom = of("memory.oom_control", "oom_kill_disable 0\nunder_oom 0", "1");
        assert_eq!(oom.as_deref(), Some("0"));
        assert_eq!(
            of("cpu.max", "max 100000", "5 10").as_deref(),
            Some("max 100000")
        );
        assert_eq!(of("cpuset.cpus", "", "0").as_deref(), Some("\n"));
    }
}
