//! Processes as a tree, with their ids inside and outside.
//!
//! What it does: one pass over /proc collects every process that the reader may see; from that
//! come the tree of a pid namespace (its processes, and those of namespaces below it, which are
//! their descendants), and how many processes are in each namespace.
//! What it implements: proc_pid_status(5) (`NSpid`), pid_namespaces(7).
//! Interface: [`Seen`], [`tree_of_namespace`], [`subtree`]. Read next: `process.rs`.

use super::model::TreeProcess;
use super::proc_text::Status;
use crate::namespaces::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// A process of the pass.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its id as the reader sees it.
    pub pid: u32,
    /// The parent's.
    pub parent: u32,
    /// `NSpid`: its ids from the reader's pid namespace inwards.
    pub inside: Vec<u32>,
    /// Effective user id.
    pub uid: u32,
    /// The kernel's short name.
    pub name: String,
    /// The ids of its namespaces, where they may be read.
    pub namespaces: BTreeMap<&'static str, u64>,
}

/// Every process that the reader may see. Processes that end meanwhile are left out.
pub fn all() -> Vec<Seen> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let mut list: Vec<Seen> = pids.filter_map(one).collect();
    list.sort_by_key(|s| s.pid);
    list
}

fn one(pid: u32) -> Option<Seen> {
    let status = Status::parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
    let mut namespaces = BTreeMap::new();
    for kind in Kind::ALL {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{}", kind.name()));
        if let Some((_, id)) = link.ok().and_then(|l| Kind::parse_link(l.to_str()?)) {
            namespaces.insert(kind.name(), id);
        }
    }
    Some(Seen {
        pid,
        parent: status.number("PPid").ok()?,
        inside: status.numbers("NSpid").unwrap_or_else(|_| vec![pid]),
        uid: status.numbers("Uid").ok()?.get(1).copied()?,
        name: status.get("Name").ok()?.to_string(),
        namespaces,
    })
}

/// How many processes are in this namespace.
pub fn count_in(all: &[Seen], kind: &str, id: u64) -> u32 {
    let inside = all.iter().filter(|s| s.namespaces.get(kind) == Some(&id));
    u32::try_from(inside.count()).unwrap_or(u32::MAX)
}

/// The processes that are in a namespace; for a pid namespace those below it too.
pub fn tree_of_namespace(all: &[Seen], kind: &str, id: u64, target: u32) -> Vec<TreeProcess> {
    let mut members: BTreeSet<u32> = all
        .iter()
        .filter(|s| s.namespaces.get(kind) == Some(&id))
        .map(|s| s.pid)
        .collect();
    if kind == "pid" {
        add_descendants(all, &mut members);
    }
    flatten(all, &members, target)
}

/// A process and its descendants.
pub fn subtree(all: &[Seen], pid: u32) -> Vec<TreeProcess> {
    let mut members = BTreeSet::from([pid]);
    add_descendants(all, &mut members);
    flatten(all, &members, pid)
}

fn add_descendants(all: &[Seen], members: &mut BTreeSet<u32>) {
    loop {
        let before = members.len();
        for seen in all {
            if members.contains(&seen.parent) {
                members.insert(seen.pid);
            }
        }
        if members.len() == before {
            return;
        }
    }
}

fn flatten(all: &[Seen], members: &BTreeSet<u32>, target: u32) -> Vec<TreeProcess> {
    let mut children: BTreeMap<u32, Vec<&Seen>> = BTreeMap::new();
    let mut roots = Vec::new();
    for seen in all.iter().filter(|s| members.contains(&s.pid)) {
        match members.contains(&seen.parent) && seen.parent != seen.pid {
            true => children.entry(seen.parent).or_default().push(seen),
            false => roots.push(seen),
        }
    }
    // PID 1 of the namespace before what entered it from outside.
    roots.sort_by_key(|s| (s.inside.last().copied(), s.pid));
    let mut list = Vec::new();
    let mut stack: Vec<(&Seen, u32)> = roots.into_iter().rev().map(|s| (s, 0)).collect();
    while let Some((seen, depth)) = stack.pop() {
        list.push(TreeProcess {
            pid: seen.pid,
            inside: seen.inside.clone(),
            parent: seen.parent,
            depth,
            uid: seen.uid,
            name: seen.name.clone(),
            command: command_line(seen.pid).unwrap_or_default().join(" "),
            target: seen.pid == target,
        });
        let below = children.get(&seen.pid).into_iter().flatten().rev();
        stack.extend(below.map(|s| (*s, depth + 1)));
    }
    list
}

/// /proc/PID/cmdline: the arguments, each ended by a NUL byte.
pub fn command_line(pid: u32) -> std::io::Result<Vec<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\0');
    Ok(match text.is_empty() {
        true => Vec::new(),
        false => text.split('\0').map(str::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: u32, parent: u32, inside: &[u32], ns: u64) -> Seen {
        Seen {
            pid,
            parent,
            inside: inside.to_vec(),
            uid: 0,
            name: format!("p{pid}"),
            namespaces: BTreeMap::from([("pid", ns)]),
        }
    }

    #[test]
    fn a_container_with_an_exec_and_a_nested_one() {
        // 10 is PID 1, 11 its child, 12 the PID 1 of a namespace below, 20 entered by exec.
        let all = [
            seen(1, 0, &[1], 100),
            seen(9, 1, &[9], 100),
            seen(10, 9, &[10, 1], 200),
            seen(11, 10, &[11, 2], 200),
            seen(12, 11, &[12, 3, 1], 300),
            seen(20, 9, &[20, 4], 200),
        ];
        let tree = tree_of_namespace(&all, "pid", 200, 11);
        let shape: Vec<(u32, u32, u32)> = tree
            .iter()
            .map(|p| (p.depth, p.pid, *p.inside.last().unwrap()))
            .collect();
        assert_eq!(shape, [(0, 10, 1), (1, 11, 2), (2, 12, 1), (0, 20, 4)]);
        assert!(tree[1].target && !tree[0].target);
        assert_eq!(count_in(&all, "pid", 200), 3);
        assert_eq!(subtree(&all, 10).len(), 3);
    }

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert!(all().iter().any(|s| s.pid == own));
        assert!(!command_line(own).unwrap().is_empty());
    }
}
