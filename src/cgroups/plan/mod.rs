//! From typed limits to kernel files, for each layout.
//!
//! What it does: translates [`Limits`] into an ordered list of (file, value, why), purely. The
//! same limit has another file, unit or order on v1:
//!
//! | limit        | v2                 | v1                                                     |
//! |--------------|--------------------|--------------------------------------------------------|
//! | memory max   | memory.max         | memory.limit_in_bytes                                  |
//! | memory+swap  | memory.swap.max (swap alone) | memory.memsw.limit_in_bytes (both), never below the line above |
//! | memory low   | memory.low         | memory.soft_limit_in_bytes                             |
//! | cpu max      | cpu.max `Q P`      | cpu.cfs_period_us, cpu.cfs_quota_us                    |
//! | cpu weight   | cpu.weight 1–10000 | cpu.shares 2–262144                                    |
//! | io           | io.weight, io.max  | blkio.bfq.weight, blkio.throttle.*_device              |
//! | hugetlb      | hugetlb.N.max      | hugetlb.N.limit_in_bytes                               |
//! | packet marks | (none)             | net_cls.classid, net_prio.ifpriomap                    |
//! | rdma         | rdma.max           | rdma.max                                               |
//!
//! A controller that is missing or not delegated is an error that names it and says how to get it;
//! so is a limit that v1 does not have. Nothing is passed over in silence.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
//! cgroup-v1/blkio-controller.rst, scheduler/sched-bwc.rst.
//! Interface: [`plan_limits`], [`LimitWrite`], [`shares_to_weight`]. Read next: `memory.rs` and
//! `cpu.rs` beside this file, then `actions/`.

mod cpu;
mod io;
mod memory;

pub use cpu::{shares_to_weight, weight_to_shares};

use super::group::{Group, GroupDir, how_to_delegate};
use super::limits::{Limit, Limits};
use crate::error::{Error, Kind, Result};
use std::path::PathBuf;

/// One write into one kernel file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitWrite {
    /// The controller, or `cgroup` for the core's own files.
    pub controller: String,
    /// The file's name.
    pub file: String,
    /// The file.
    pub path: PathBuf,
    /// What is written.
    pub value: String,
    /// What reads back, where that is one value that can be known before.
    pub expected: Option<String>,
    /// Another file and value for kernels that do not have the first.
    pub fallback: Option<(PathBuf, String)>,
    /// Why: one sentence.
    pub why: &'static str,
}

/// What memory limit reads back as "none" on v1: the largest page counter (`PAGE_COUNTER_MAX`).
pub const V1_UNLIMITED: u64 = (i64::MAX as u64) / PAGE * PAGE;
/// Limits are counted in pages.
const PAGE: u64 = 4096;

/// What the order of writes depends on when a group exists already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// v1: the present memory.memsw.limit_in_bytes, if the group exists.
    pub memsw: Option<u64>,
    /// The present hard memory limit in bytes, if there is one.
    pub memory_max: Option<u64>,
}

impl Now {
    /// Reads it from an existing group.
    pub fn read(group: &Group) -> Now {
        let number = |dir: Option<&GroupDir>, file: &str| -> Option<u64> {
            let text = std::fs::read_to_string(dir?.dir.join(file)).ok()?;
            text.trim().parse().ok()
        };
        let memory = group.dir_of("memory");
        let file = if memory.is_some_and(|d| d.v2) {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        Now {
            memsw: number(memory, "memory.memsw.limit_in_bytes"),
            memory_max: number(memory, file).filter(|n| *n < V1_UNLIMITED),
        }
    }
}

/// The writes that give `group` these limits, in an order that the kernel accepts. Pure: what the
/// host offers is in `group` and `now`.
///
/// Errors (kind `Unsupported`): a controller that is not mounted, disabled, built out, not
/// delegated, or in a tree that belongs to somebody else; a limit that v1 does not have. (Kind
/// `Usage`): a value out of range.
pub fn plan_limits(limits: &Limits, group: &Group, now: Now) -> Result<Vec<LimitWrite>> {
    let mut plan = Builder {
        group,
        writes: Vec::new(),
    };
    plan.cpuset(limits)?;
    plan.memory(limits, now)?;
    plan.cpu(limits)?;
    plan.pids(limits)?;
    plan.io(limits)?;
    plan.hugetlb(limits)?;
    plan.network(limits)?;
    plan.rdma(limits)?;
    plan.unified(limits)?;
    Ok(plan.writes)
}

/// The controllers that `limits` needs (to be enabled on v2).
pub fn controllers_needed(writes: &[LimitWrite]) -> Vec<String> {
    let mut names: Vec<String> = writes
        .iter()
        .map(|w| w.controller.clone())
        .filter(|c| c != "cgroup")
        .collect();
    names.sort();
    names.dedup();
    names
}

struct Builder<'a> {
    group: &'a Group,
    writes: Vec<LimitWrite>,
}

impl<'a> Builder<'a> {
    /// The directory in whose tree the controller is, or the error that says why it cannot be had.
    /// `v1` is the controller's name in v1 where that differs (blkio for io).
    fn controller(&self, v2: &str, v1: &str) -> Result<&'a GroupDir> {
        let group = self.group;
        let Some(dir) = group.dir_of(v2).or_else(|| group.dir_of(v1)) else {
            return Err(missing(group, v2, v1));
        };
        if dir.denied.is_some() {
            return Err(group
                .denied_error(Some(dir))
                .context(format!("the {v2} controller cannot be used")));
        }
        if let Some((names, by)) = &dir.withheld
            && names.iter().any(|n| n == v2)
        {
            return Err(Error::kind(
                Kind::Unsupported,
                format!("the {v2} controller is not delegated to {}", group.path),
            )
            .caused_by(Error::new(format!(
                "{by}/cgroup.subtree_control does not pass it on; it can be given: {}",
                if dir.available.is_empty() {
                    "nothing".into()
                } else {
                    dir.available.join(" ")
                }
            )))
            .hint(format!(
                "as root: echo +{v2} > {by}/cgroup.subtree_control; under systemd: \
                 systemctl edit user@.service with [Service] Delegate=cpu cpuset io memory pids"
            ))
            .topic("cgroup-versions"));
        }
        Ok(dir)
    }

    fn push(
        &mut self,
        dir: &GroupDir,
        controller: &str,
        file: impl Into<String>,
        value: impl ToString,
        expected: Option<String>,
        why: &'static str,
    ) {
        let file = file.into();
        self.writes.push(LimitWrite {
            controller: controller.into(),
            path: dir.dir.join(&file),
            file,
            value: value.to_string(),
            expected,
            fallback: None,
            why,
        });
    }

    /// Gives the last write a second choice, for kernels that do not have its file.
    fn or_else(&mut self, dir: &GroupDir, file: &str, value: String) {
        if let Some(last) = self.writes.last_mut() {
            last.fallback = Some((dir.dir.join(file), value));
        }
    }

    /// A write whose value reads back as it was written.
    fn exact(
        &mut self,
        dir: &GroupDir,
        controller: &str,
        file: &str,
        value: impl ToString,
        why: &'static str,
    ) {
        let value = value.to_string();
        self.push(dir, controller, file, value.clone(), Some(value), why);
    }

    /// A number of bytes: `max` is -1 on v1, and what is read back is whole pages.
    fn bytes(
        &mut self,
        dir: &GroupDir,
        controller: &str,
        file: impl Into<String>,
        limit: Limit,
        why: &'static str,
    ) {
        let (value, expected) = match (limit, dir.v2) {
            (Limit::Max, true) => ("max".into(), "max".to_string()),
            (Limit::Max, false) => ("-1".into(), V1_UNLIMITED.to_string()),
            (Limit::Value(n), v2) => {
                let pages = n / PAGE * PAGE;
                let expected = match v2 {
                    true if pages >= V1_UNLIMITED => "max".to_string(),
                    _ => pages.min(V1_UNLIMITED).to_string(),
                };
                (n.to_string(), expected)
            }
        };
        self.push(dir, controller, file, value, Some(expected), why);
    }
}

fn only_v2(file: &str, controller: &str) -> Error {
    Error::kind(
        Kind::Unsupported,
        format!("{file} exists on cgroup v2 only"),
    )
    .caused_by(Error::new(format!(
        "on this host the {controller} controller is in a v1 tree, which has no such limit"
    )))
    .hint("boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all, to have v2")
    .topic("cgroup-versions")
}

fn only_v1(file: &str) -> Error {
    Error::kind(
        Kind::Unsupported,
        format!("{file} exists on cgroup v1 only"),
    )
    .hint("leave it out: cgroup v2 has nothing in its place")
    .topic("cgroup-versions")
}

/// The controller is in no mounted tree: why, as far as the kernel tells.
fn missing(group: &Group, v2: &str, v1: &str) -> Error {
    let known = group.unmounted.iter().find(|(n, _)| n == v2 || n == v1);
    let error = Error::kind(
        Kind::Unsupported,
        format!("the {v2} controller is missing on this host"),
    )
    .topic("cgroup-versions");
    match known {
        Some((name, false)) => error
            .caused_by(Error::new("/proc/cgroups says that it is disabled"))
            .hint(format!("boot without cgroup_disable={name}")),
        Some((name, true)) => error
            .caused_by(Error::new("the kernel has it, but no mounted tree does"))
            .hint(format!(
                "as root: mkdir -p /sys/fs/cgroup/{name} && mount -t cgroup -o {name} none \
                 /sys/fs/cgroup/{name}"
            )),
        None => error
            .caused_by(Error::new("this kernel was built without it"))
            .hint(match group.dirs.first() {
                Some(_) => format!(
                    "this host has: {}",
                    group
                        .dirs
                        .iter()
                        .flat_map(|d| d.available.iter())
                        .filter(|c| !c.starts_with("name="))
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
                None => how_to_delegate(group.kind, None),
            }),
    }
}
