//! The processes of a container, read from /proc.
//!
//! What it does: finds them by their cgroup, or (where an ordinary user's container has none) by
//! the pid namespace of its first process, and reads what `ps` would show.
//! What it implements: proc_pid_stat(5), proc_pid_status(5) (`NSpid`); docker's `top` with options
//! of the host's ps. Interface: [`of`], [`by_ps`], [`Process`]. Read next: [`crate::inspect`].

use super::lifecycle;
use super::state::Status;
use super::store::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::host::process;
use serde::Serialize;
use std::collections::BTreeSet;

/// Clock ticks a second in /proc: the kernel's `USER_HZ`, 100 on every architecture we build for.
const TICKS: u64 = 100;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// User id as the host sees it.
    pub user: String,
    /// The host's number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its number in its own pid namespace.
    pub inside: Option<i32>,
    /// `R`, `S`, `D`, `Z`, `T`…
    pub state: String,
    /// Resident memory.
    pub rss_kib: u64,
    /// CPU time.
    pub cpu_seconds: u64,
    /// Command line, or the name in brackets.
    pub command: String,
}

/// The processes of a container that runs, by number.
pub fn of(container: &Container, status: &Status) -> Result<Vec<Process>> {
    let pids: BTreeSet<i32> = match lifecycle::cgroup(container) {
        Ok(group) => crate::cgroups::lifecycle::all_pids(&group),
        Err(_) => in_pid_namespace(status.pid),
    };
    // One that ends while we read is left out.
    Ok(pids.into_iter().filter_map(read).collect())
}

/// What the host's `ps OPTIONS` says about these processes, its heading first. Errors: there is no
/// ps, it refuses the options, or they leave the column PID out.
pub fn by_ps(list: &[Process], options: &[String]) -> Result<String> {
    let out = std::process::Command::new("ps").args(options).output();
    let out = out
        .context("cannot run the host's ps")
        .map_err(|e| e.hint("without options, `glassbox top` needs no ps"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let said = said.trim().lines().next().unwrap_or_default(); // its usage follows
        return Err(Error::kind(
            Kind::Usage,
            format!("ps refused its options: {said}"),
        ));
    }
    of_ps(list, &String::from_utf8_lossy(&out.stdout))
}

fn of_ps(list: &[Process], text: &str) -> Result<String> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| {
        Error::kind(Kind::Usage, "couldn't find the PID field in ps output")
            .hint("name pid among the columns, as in -o pid,comm")
    })?;
    let ours = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|p| p.parse().ok());
        pid.is_some_and(|pid: i32| list.iter().any(|p| p.pid == pid))
    };
    let kept: Vec<&str> = std::iter::once(heading).chain(lines.filter(ours)).collect();
    Ok(kept.join("\n"))
}

fn in_pid_namespace(of: i32) -> BTreeSet<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(of) else {
        return BTreeSet::new();
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .collect()
}

fn read(pid: i32) -> Option<Process> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let status = file("status")?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .map(|v| v.trim().to_string())
    };
    let stat = process::stat(pid)?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = arguments.split(|b| *b == 0).filter(|a| !a.is_empty());
    let command: Vec<String> = arguments
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect();
    Some(Process {
        user: field("Uid:")?.split_whitespace().next()?.to_string(),
        pid,
        parent: field("PPid:")?.parse().ok()?,
        inside: field("NSpid:").and_then(|n| n.split_whitespace().last()?.parse().ok()),
        state: stat.state.to_string(),
        rss_kib: field("VmRSS:")
            .and_then(|v| v.split_whitespace().next()?.parse().ok())
            .unwrap_or(0),
        cpu_seconds: (stat.utime + stat.stime) / TICKS,
        command: match command.is_empty() {
            true => format!("[{}]", field("Name:").unwrap_or_default()),
            false => command.join(" "),
        },
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_of_ps_are_chosen_by_their_pid() {
        let list = [super::read(std::process::id() as i32).unwrap()];
        let own = list[0].pid;
        let text = format!("UID    PID CMD\n  0      0 x {own}\n  7 {own} y z\n");
        assert_eq!(
            super::of_ps(&list, &text).unwrap(),
            format!("UID    PID CMD\n  7 {own} y z")
        );
        assert!(super::of_ps(&list, "CMD\nx\n").is_err());
    }

    #[test]
    fn this_process_is_read() {
        let p = super::read(std::process::id() as i32).unwrap();
        assert!(
            p.rss_kib > 0 && p.inside.is_some() && p.command.contains("glassbox"),
            "{p:?}"
        );
        assert!(super::in_pid_namespace(p.pid).contains(&p.pid));
    }
}
