//! What happens to a group after it was made: enter, freeze, thaw, kill, remove.
//!
//! What it does: v2 has a file for each (`cgroup.freeze`, `cgroup.kill`); v1 has the freezer
//! controller, and killing means: freeze, so that nothing forks away, send SIGKILL to each, thaw,
//! and again until the group is empty.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Core Interface Files"),
//! cgroup-v1/freezer-subsystem.rst; rmdir(2).
//! Interface: [`attach`], [`freeze`], [`thaw`], [`thaw_dying`], [`is_frozen`], [`kill`], [`signal`],
//! [`remove`], [`pids`], [`all_pids`]. Read next: `devices.rs`.

use super::group::Group;
use crate::error::{Context, Error, Kind, Result};
use crate::host::process;
use crate::sys::{self, Errno, fs::CWD};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel is given to let a group go: dead processes leave it when the kernel has
/// torn their memory down, which takes a while for large ones.
const PATIENCE: Duration = Duration::from_secs(10);

/// Calls `done` until it is true, waiting longer each time. False when patience ends.
fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let mut waited = Duration::ZERO;
    let mut pause = Duration::from_micros(200);
    loop {
        if done() {
            return true;
        }
        if waited >= PATIENCE {
            return false;
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The processes in one directory, without those in groups below. Errors: it does not exist.
pub fn pids(dir: &Path) -> Result<Vec<i32>> {
    let text = super::group::read_file(dir, "cgroup.procs")?;
    // 0 stands for a process that is outside the reader's pid namespace.
    Ok(text.lines().filter_map(|l| l.parse().ok()).collect())
}

/// The directory and all groups below it, outermost first.
pub fn tree_of(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_path_buf()];
    let mut i = 0;
    while let Some(next) = all.get(i) {
        // A directory has a link from each one below it: two mean none, which spares reading the
        // many control files of the usual leaf.
        let leaf = std::fs::metadata(next).is_ok_and(|m| m.nlink() == 2);
        if !leaf && let Ok(entries) = std::fs::read_dir(next) {
            let mut below: Vec<PathBuf> = entries
                .flatten()
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path())
                .collect();
            below.sort();
            all.extend(below);
        }
        i += 1;
    }
    all
}

/// All processes of a group and of the groups below it, in all its trees.
pub fn all_pids(group: &Group) -> BTreeSet<i32> {
    group
        .dirs
        .iter()
        .flat_map(|d| tree_of(&d.dir))
        .flat_map(|d| pids(&d).unwrap_or_default())
        .collect()
}

/// Moves a process (0: the caller) into a group, in each tree that the caller may use.
pub fn attach(group: &Group, pid: i32) -> Result<()> {
    for dir in group.usable().filter(|d| d.missing.is_empty()) {
        attach_dir(&dir.dir, pid)?;
    }
    Ok(())
}

/// Moves a process (0: the caller) into one directory.
pub fn attach_dir(dir: &Path, pid: i32) -> Result<()> {
    attach_by(&dir.join("cgroup.procs"), pid)
}

/// The same by one of the two files that take a process id: `cgroup.procs`, or v1's `tasks`, which
/// moves one thread.
pub fn attach_by(file: &Path, pid: i32) -> Result<()> {
    let dir = file.parent().unwrap_or(file);
    sys::fs::write_file(file, &pid.to_string()).map_err(|e| {
        let hint = match e.errno {
            Errno::EBUSY => {
                "a v2 group that passes controllers on to groups below it holds no processes"
            }
            Errno::ENOSPC => "a v1 cpuset group needs cpuset.cpus and cpuset.mems first",
            Errno::EOPNOTSUPP => "it is a threaded group, or above one",
            Errno::ESRCH => "the process has ended",
            Errno::EACCES | Errno::EPERM => {
                "moving a process needs write access to cgroup.procs of the group, and on v2 of \
                 the nearest group above both its old and its new place"
            }
            Errno::EINVAL => "a realtime process needs cpu.rt_runtime_us in its group",
            _ => "see cgroups(7)",
        };
        Error::new(format!("cannot move process {pid} into {}", dir.display()))
            .caused_by(e)
            .hint(hint)
            .topic("cgroups")
    })
}

/// The file that freezes a group, what freezes and what thaws: v1's freezer where there is one
/// (on a hybrid host it has all the processes), else v2's.
pub fn freezer(group: &Group) -> Option<(PathBuf, &'static str, &'static str)> {
    if let Some(dir) = group.dir_of("freezer").filter(|d| d.denied.is_none()) {
        return Some((dir.dir.join("freezer.state"), "FROZEN", "THAWED"));
    }
    let dir = group.usable().find(|d| d.v2)?;
    Some((dir.dir.join("cgroup.freeze"), "1", "0"))
}

fn no_freezer(group: &Group) -> Error {
    Error::kind(
        Kind::Unsupported,
        format!("the cgroup {} cannot be frozen", group.path),
    )
    .hint("that needs cgroup v2, or the freezer controller of v1, with write access")
    .topic("cgroups")
}

/// True when the group, or one above it, is frozen and all its processes have stopped; nothing
/// when the group has no freezer.
pub fn is_frozen(group: &Group) -> Option<bool> {
    if let Some(dir) = group.dir_of("freezer") {
        let state = std::fs::read_to_string(dir.dir.join("freezer.state")).ok()?;
        return Some(state.trim() == "FROZEN");
    }
    let events = std::fs::read_to_string(group.unified()?.dir.join("cgroup.events")).ok()?;
    Some(events.lines().any(|l| l == "frozen 1"))
}

/// Stops all processes of the group and of the groups below, and waits until they have stopped.
pub fn freeze(group: &Group) -> Result<()> {
    let (path, freeze, thaw) = freezer(group).ok_or_else(|| no_freezer(group))?;
    sys::fs::write_file(&path, freeze).map_err(|e| not_written(group, "freeze", e))?;
    if wait_until(|| is_frozen(group) != Some(false)) {
        return Ok(());
    }
    let _ = sys::fs::write_file(&path, thaw);
    Err(
        Error::new(format!("the cgroup {} does not freeze", group.path))
            .hint("a process in uninterruptible sleep (state D) cannot stop; the group was thawed"),
    )
}

/// Lets them go on. A group above that is frozen keeps them stopped.
pub fn thaw(group: &Group) -> Result<()> {
    let (path, _, thaw) = freezer(group).ok_or_else(|| no_freezer(group))?;
    sys::fs::write_file(&path, thaw).map_err(|e| not_written(group, "thaw", e))
}

/// [`thaw`] after a signal that ends all who are in it. Whoever watches the group, systemd for one,
/// may have removed it by then, which is as good.
pub fn thaw_dying(group: &Group) -> Result<()> {
    match thaw(group) {
        Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

fn not_written(group: &Group, what: &str, e: sys::SysError) -> Error {
    let root = e.errno == Errno::ENOENT || e.errno == Errno::EINVAL;
    let error = Error::new(format!("cannot {what} the cgroup {}", group.path)).caused_by(e);
    if root {
        error.hint("the root group cannot be frozen")
    } else {
        error
    }
}

/// Sends a signal to every process of the group and of the groups below. Returns how many got it.
/// Errors: the root group, whose processes are all of the host's.
pub fn signal(group: &Group, signal: i32) -> Result<usize> {
    require_not_root(group, "signal")?;
    let mut sent = 0;
    for pid in all_pids(group) {
        sent += usize::from(signal_pid(pid, signal)?);
    }
    Ok(sent)
}

/// A process that has ended meanwhile is no failure.
fn signal_pid(pid: i32, signal: i32) -> Result<bool> {
    if pid <= 0 {
        return Ok(false);
    }
    match sys::process::kill(pid, signal) {
        Ok(()) => Ok(true),
        Err(e) if e.errno == Errno::ESRCH => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot send signal {signal} to process {pid}")),
    }
}

/// Kills every process of the group and of the groups below, and waits until they are gone.
pub fn kill(group: &Group) -> Result<()> {
    require_not_root(group, "kill")?;
    let mut v2_done = false;
    if let Some(dir) = group.usable().find(|d| d.v2) {
        // One write, atomic against fork, since Linux 5.14.
        let file = dir.dir.join("cgroup.kill");
        v2_done = file.exists() && sys::fs::write_file(&file, "1").is_ok();
    }
    let others: Vec<&Path> = group
        .dirs
        .iter()
        .filter(|d| !(d.v2 && v2_done))
        .map(|d| d.dir.as_path())
        .collect();
    let left = || -> BTreeSet<i32> {
        others
            .iter()
            .flat_map(|d| tree_of(d))
            .flat_map(|d| pids(&d).unwrap_or_default())
            .collect()
    };
    if !left().is_empty() {
        // Frozen first, so that nothing forks between the listing and the signal.
        let frozen = freeze(group).is_ok();
        for pid in left() {
            signal_pid(pid, libc::SIGKILL)?;
        }
        if frozen {
            thaw_dying(group)?;
        }
    }
    if let Some((path, _, word)) = freezer(group)
        && is_frozen(group) == Some(true)
    {
        // v1: a frozen process dies only after the thaw.
        let _ = sys::fs::write_file(&path, word);
    }
    let empty = wait_until(|| {
        let pids = all_pids(group);
        let alive: Vec<i32> = pids.into_iter().filter(|p| !is_zombie(*p)).collect();
        for pid in &alive {
            let _ = signal_pid(*pid, libc::SIGKILL);
        }
        alive.is_empty()
    });
    if empty {
        return Ok(());
    }
    Err(
        Error::new(format!("processes of the cgroup {} do not die", group.path))
            .hint(format!("still there: {:?}", all_pids(group))),
    )
}

/// Dead already: only its parent's wait is missing. It keeps no group from being removed.
fn is_zombie(pid: i32) -> bool {
    if pid == 0 {
        return false; // a process outside of our pid namespace, of which nothing is known
    }
    process::stat(pid).is_none_or(|stat| process::is_dead(&stat))
}

/// Kills what is in one directory and below it (of a group that is being taken back), and waits
/// until it is dead.
pub fn kill_dir(dir: &Path) -> Result<()> {
    let file = dir.join("cgroup.kill");
    let atomic = file.exists() && sys::fs::write_file(&file, "1").is_ok();
    wait_until(|| {
        let left: Vec<i32> = tree_of(dir)
            .iter()
            .flat_map(|d| pids(d).unwrap_or_default())
            .filter(|p| !is_zombie(*p))
            .collect();
        for pid in left.iter().filter(|_| !atomic) {
            let _ = signal_pid(*pid, libc::SIGKILL);
        }
        left.is_empty()
    });
    Ok(())
}

/// Removes a directory and the groups below it, innermost first; waits while dying processes
/// keep it busy. One that is gone already is no failure.
pub fn remove_dir(dir: &Path) -> Result<()> {
    for group in tree_of(dir).iter().rev() {
        let mut last = None;
        wait_until(|| match sys::fs::unlinkat(CWD, group, libc::AT_REMOVEDIR) {
            Ok(()) => {
                last = None;
                true
            }
            Err(e) if e.errno == Errno::ENOENT => {
                last = None;
                true
            }
            Err(e) => {
                // Only the dying make it worth waiting; or it went this moment, by another's hand.
                let dead = || pids(group).is_ok_and(|p| p.iter().all(|p| is_zombie(*p)));
                let dying = e.errno == Errno::EBUSY && (dead() || !group.exists());
                last = Some(e);
                !dying
            }
        });
        if let Some(e) = last {
            let busy = pids(group).unwrap_or_default();
            let error = Error::new(format!("cannot remove {}", group.display())).caused_by(e);
            return Err(match busy.is_empty() {
                true => error,
                false => error.hint(format!(
                    "it holds processes: {busy:?}; `glassbox cgroup kill` ends them"
                )),
            });
        }
    }
    Ok(())
}

/// Removes the group from every tree where it is, with the groups below it. With `force` its
/// processes are killed first, else they are an error (kind `Conflict`). Goes on after a failure
/// and reports all of them.
pub fn remove(group: &Group, force: bool) -> Result<()> {
    require_not_root(group, "remove")?;
    // The usual group of a container that has ended is empty: trying says so for the least.
    if force && group.dirs.iter().all(|d| is_removed(&d.dir)) {
        return Ok(());
    }
    let mut failures = Vec::new();
    if force {
        failures.extend(kill(group).err());
    } else {
        let pids: Vec<i32> = all_pids(group)
            .into_iter()
            .filter(|p| !is_zombie(*p))
            .collect();
        if !pids.is_empty() {
            return Err(Error::kind(
                Kind::Conflict,
                format!("the cgroup {} holds processes: {pids:?}", group.path),
            )
            .hint(format!(
                "`glassbox cgroup kill {}` ends them; `rm --force` does both",
                group.path
            )));
        }
    }
    for dir in group.dirs.iter().filter(|d| d.dir.is_dir()) {
        failures.extend(remove_dir(&dir.dir).err());
    }
    Error::join(format!("cannot remove the cgroup {}", group.path), failures)
}

/// Removes a directory, if nobody is in it and nothing below it.
fn is_removed(dir: &Path) -> bool {
    match sys::fs::unlinkat(CWD, dir, libc::AT_REMOVEDIR) {
        Ok(()) => true,
        Err(e) => e.errno == Errno::ENOENT,
    }
}

/// Removes the now empty group above, if it is one that only holds ours (`/glassbox`); one that
/// is in use stays, without an error.
pub fn prune(group: &Group, above: &str) {
    for dir in &group.dirs {
        if let Some(parent) = dir.dir.parent()
            && parent.file_name().is_some_and(|n| n == above)
        {
            let _ = sys::fs::unlinkat(CWD, parent, libc::AT_REMOVEDIR);
        }
    }
}

/// Errors: the group is the root of one of its trees, whose processes are all of the host's.
pub fn require_not_root(group: &Group, what: &str) -> Result<()> {
    match group.dirs.iter().find(|d| d.dir == d.mount) {
        Some(d) => Err(Error::kind(
            Kind::Usage,
            format!(
                "will not {what} the root group of the tree at {}",
                d.mount.display()
            ),
        )
        .hint("`glassbox cgroup ls` lists the groups; each below it can be named")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::group::{CgroupPath, GroupDir};
    use crate::host::LayoutKind;

    #[test]
    fn a_group_that_went_with_its_processes_needs_no_thaw() {
        let root = tempfile::tempdir().expect("tempdir");
        let dir = root.path().join("gone.scope");
        let group = Group {
            path: CgroupPath::parse("/gone.scope").expect("a path"),
            dirs: vec![GroupDir {
                hierarchy: "cgroup2".into(),
                v2: true,
                mount: root.path().into(),
                path: "/gone.scope".into(),
                dir: dir.clone(),
                available: Vec::new(),
                withheld: None,
                missing: Vec::new(),
                denied: None,
            }],
            kind: LayoutKind::Unified,
            unmounted: Vec::new(),
        };
        assert_eq!(thaw(&group).unwrap_err().errno(), Some(libc::ENOENT));
        thaw_dying(&group).expect("it is gone, and so are they");
        std::fs::create_dir_all(dir.join("cgroup.freeze")).expect("a directory");
        assert_eq!(thaw_dying(&group).unwrap_err().errno(), Some(libc::EISDIR));
    }
}
