//! All groups of the host, or those below one: for `ls` and `tree`.
//!
//! What it does: walks every tree and joins what has the same path, so that a v1 host's ten trees
//! read as one.
//! Interface: [`survey`], [`Node`]. Read next: `cli/cgroup`, whose listings these are.

use super::effective::{hugetlb_sizes, own_rates};
use super::group::{CgroupPath, Group};
use super::limits::Limit;
use super::plan::V1_UNLIMITED;
use super::{lifecycle, parse};
use crate::host::CgroupLayout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// The trees that have it.
    pub hierarchies: Vec<String>,
    /// Its own processes: (pid, name).
    pub processes: Vec<Process>,
    /// Its own limits that are set, in v2's words: `memory.max` → `67108864`.
    pub limits: BTreeMap<String, String>,
    /// Bytes of memory that it uses, groups below it included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads, groups below it included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Frozen.
    pub frozen: bool,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its name (`comm`).
    pub name: String,
}

/// The groups at and below a path, in order, each before those below it.
pub fn survey(layout: &CgroupLayout, below: &CgroupPath) -> Vec<Node> {
    let mut nodes: BTreeMap<Vec<String>, Node> = BTreeMap::new();
    for h in &layout.hierarchies {
        let (_, top) = h.place(below.as_str());
        if !top.is_dir() {
            continue;
        }
        for dir in lifecycle::tree_of(&top) {
            let Ok(rest) = dir.strip_prefix(&h.mount) else {
                continue;
            };
            let path = match (h.root.as_str(), rest.as_os_str().is_empty()) {
                ("/", _) => format!("/{}", rest.display()),
                (root, true) => root.to_string(),
                (root, false) => format!("{root}/{}", rest.display()),
            };
            let key: Vec<String> = path.split('/').map(str::to_string).collect();
            let node = nodes.entry(key).or_default();
            node.path = path;
            node.hierarchies.push(h.name());
            for pid in lifecycle::pids(&dir).unwrap_or_default() {
                if !node.processes.iter().any(|p| p.pid == pid) {
                    node.processes.push(Process {
                        pid,
                        name: name_of(pid),
                    });
                }
            }
            read(node, &dir, h.v2);
        }
    }
    let mut nodes: Vec<Node> = nodes.into_values().collect();
    for node in &mut nodes {
        node.processes.sort();
    }
    nodes
}

fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map(|t| t.trim_end().to_string())
        .unwrap_or_default()
}

fn read(node: &mut Node, dir: &Path, v2: bool) {
    let text = |file: &str| {
        std::fs::read_to_string(dir.join(file))
            .ok()
            .map(|t| t.trim().to_string())
    };
    let number = |file: &str| text(file).and_then(|t| t.parse::<u64>().ok());
    let mut limit = |what: &str, value: Option<String>| {
        let set = value.filter(|v| match Limit::parse(v) {
            Some(Limit::Value(n)) => n < V1_UNLIMITED,
            _ => false,
        });
        if let Some(value) = set {
            node.limits.insert(what.into(), value);
        }
    };
    if v2 {
        for file in ["memory.max", "memory.high", "memory.swap.max", "pids.max"] {
            limit(file, text(file));
        }
        for file in ["memory.low", "memory.min"] {
            limit(file, text(file).filter(|v| v != "0"));
        }
    } else {
        limit("memory.max", text("memory.limit_in_bytes"));
        limit("memory+swap.max", text("memory.memsw.limit_in_bytes"));
        limit("pids.max", text("pids.max"));
        limit("memory.low", text("memory.soft_limit_in_bytes"));
    }
    let cpu = match v2 {
        true => text("cpu.max"),
        false => text("cpu.cfs_quota_us").map(|quota| {
            let period = text("cpu.cfs_period_us").unwrap_or_default();
            format!("{quota} {period}")
        }),
    };
    if let Some(cpu) = cpu.filter(|c| !c.starts_with("max") && !c.starts_with('-')) {
        node.limits.insert("cpu.max".into(), cpu);
    }
    for size in hugetlb_sizes(dir) {
        let file = match v2 {
            true => format!("hugetlb.{size}.max"),
            false => format!("hugetlb.{size}.limit_in_bytes"),
        };
        // No limit on v1 is the largest counter, rounded down to huge pages.
        let set =
            text(&file).filter(|v| v.parse::<u64>().is_ok_and(|n| n < V1_UNLIMITED - (1 << 31)));
        if let Some(value) = set {
            node.limits.insert(format!("hugetlb.{size}.max"), value);
        }
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        // v2 leaves empty what is not set; v1 copies it, so there it counts where it differs.
        let above = match v2 {
            true => None,
            false => std::fs::read_to_string(dir.join("..").join(file)).ok(),
        };
        let set = text(file)
            .filter(|v| !v.is_empty() && (v2 || above.is_some_and(|above| above.trim() != v)));
        if let Some(value) = set {
            node.limits.insert(file.into(), value);
        }
    }
    if let Some(rates) = own_rates(dir, v2) {
        node.limits.insert("io.max".into(), rates);
    }
    let memory = if v2 {
        "memory.current"
    } else {
        "memory.usage_in_bytes"
    };
    node.memory = number(memory).or(node.memory);
    node.pids = number("pids.current").or(node.pids);
    node.frozen |= match v2 {
        true => text("cgroup.events")
            .is_some_and(|t| parse::flat(&t).get("frozen").is_some_and(|n| *n == 1)),
        false => text("freezer.state").is_some_and(|t| t != "THAWED"),
    };
}

/// The group that a word on the command line means: a path from the root (`/glassbox/web`), a
/// directory of a cgroup file system, a process id (its group), or a name below `base`.
pub fn resolve(
    layout: &CgroupLayout,
    base: &CgroupPath,
    target: &str,
) -> crate::error::Result<Group> {
    for h in &layout.hierarchies {
        if let Ok(rest) = Path::new(target).strip_prefix(&h.mount) {
            let below = CgroupPath::parse(&rest.display().to_string())?;
            let path = match h.root.as_str() {
                "/" => below,
                root => CgroupPath::from_kernel(&format!("{root}{below}")),
            };
            return Group::existing(layout, &path);
        }
    }
    if target.starts_with('/') {
        return Group::existing(layout, &CgroupPath::parse(target)?);
    }
    let named = base.join(target)?;
    match Group::existing(layout, &named) {
        Err(_) if target.parse::<i32>().is_ok_and(|pid| pid > 0) => {
            Group::of_pid(layout, target.parse().unwrap_or(0))
        }
        found => found,
    }
}
