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
//!
//! A controller that is missing or not delegated is an error that names it and says how to get it;
//! so is a limit that v1 does not have. Nothing is passed over in silence.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
//! cgroup-v1/blkio-controller.rst, scheduler/sched-bwc.rst.
//! Interface: [`plan_limits`], [`LimitWrite`]. Read next: `actions.rs`.

use super::group::{Group, GroupDir, how_to_delegate};
use super::limits::{CpuMax, Limit, Limits, parse_list};
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

/// docker's shares (2–262144, 1024 by default) as a v2 weight (1–10000, 100 by default): through
/// (2, 1), (1024, 100) and (262144, 10000), by a quadratic in the logarithms, as current runtimes
/// have it; the older linear formula made 39 of the default.
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// The inverse of [`shares_to_weight`].
pub fn weight_to_shares(weight: u64) -> u64 {
    let w = (weight.clamp(1, 10_000) as f64).log10() + 7.0 / 34.0;
    let l = (-125.0 + (15_625.0 + 4.0 * 612.0 * w).sqrt()) / 2.0;
    (l.exp2().round() as u64).clamp(2, 262_144)
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
            .topic("cgroups"));
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

    fn cpuset(&mut self, limits: &Limits) -> Result<()> {
        let wanted = [
            (
                "cpuset.cpus",
                &limits.cpuset.cpus,
                "runs on these processors only",
            ),
            (
                "cpuset.mems",
                &limits.cpuset.mems,
                "takes memory from these NUMA nodes only",
            ),
        ];
        for (file, list, why) in wanted {
            if let Some(list) = list {
                let dir = self.controller("cpuset", "cpuset")?;
                self.exact(dir, "cpuset", file, parse_list(list)?, why);
            }
        }
        Ok(())
    }

    fn memory(&mut self, limits: &Limits, now: Now) -> Result<()> {
        let m = &limits.memory;
        if *m == Default::default() {
            return Ok(());
        }
        let dir = self.controller("memory", "memory")?;
        const MAX: &str = "above this the kernel reclaims, then kills";
        if let (Some(Limit::Value(both)), Some(Limit::Value(max))) = (m.memory_swap, m.max)
            && both < max
        {
            return Err(Error::kind(
                Kind::Usage,
                format!("memory and swap together ({both}) are less than memory alone ({max})"),
            )
            .hint(
                "--memory-swap counts memory plus swap; the same value as --memory means no swap",
            ));
        }
        if dir.v2 {
            if let Some(limit) = m.min {
                self.bytes(
                    dir,
                    "memory",
                    "memory.min",
                    limit,
                    "never reclaimed below this",
                );
            }
            if let Some(limit) = m.low {
                let why = "reclaimed below this only when nothing unprotected is left";
                self.bytes(dir, "memory", "memory.low", limit, why);
            }
            if let Some(limit) = m.high {
                let why = "above this allocations are slowed down and reclaimed, nobody is killed";
                self.bytes(dir, "memory", "memory.high", limit, why);
            }
            if let Some(both) = m.memory_swap {
                let max = m.max.and_then(Limit::value).or(now.memory_max);
                let swap = match (both, max) {
                    (Limit::Max, _) => Limit::Max,
                    (Limit::Value(both), Some(max)) => Limit::Value(both.saturating_sub(max)),
                    (Limit::Value(_), None) => {
                        return Err(Error::kind(
                            Kind::Usage,
                            "a limit for memory and swap together needs one for memory",
                        )
                        .hint("give --memory too: v2 limits swap alone, which is the difference"));
                    }
                };
                let why = "may be swapped out this much, which is the limit of both less memory's";
                self.bytes(dir, "memory", "memory.swap.max", swap, why);
            }
            if let Some(limit) = m.max {
                self.bytes(dir, "memory", "memory.max", limit, MAX);
            }
            if let Some(on) = m.oom_group {
                let why = "the out-of-memory killer ends all of the group, not one process of it";
                self.exact(dir, "memory", "memory.oom.group", u8::from(on), why);
            }
            if m.swappiness.is_some() {
                return Err(only_v1("memory.swappiness"));
            }
            if m.oom_kill_disable == Some(true) {
                return Err(only_v1(
                    "memory.oom_control (the out-of-memory killer's switch)",
                ));
            }
            return Ok(());
        }
        for (given, name) in [
            (m.high.is_some(), "memory.high"),
            (m.min.is_some(), "memory.min"),
            (m.oom_group.is_some(), "memory.oom.group"),
        ] {
            if given {
                return Err(only_v2(name, "memory"));
            }
        }
        if let Some(limit) = m.low {
            let why = "reclaimed down to this first when the host runs short (v1's soft limit)";
            self.bytes(dir, "memory", "memory.soft_limit_in_bytes", limit, why);
        }
        // memsw counts memory plus swap and must never be below the memory limit, at any moment:
        // the one that makes room goes first.
        const BOTH: &str = "the limit of memory and swap together";
        let both_first = match (m.max, now.memsw) {
            (Some(Limit::Value(max)), Some(memsw)) => max > memsw,
            (Some(Limit::Max), Some(memsw)) => memsw < V1_UNLIMITED,
            _ => false,
        };
        let memsw = "memory.memsw.limit_in_bytes";
        if let (Some(both), true) = (m.memory_swap, both_first) {
            self.bytes(dir, "memory", memsw, both, BOTH);
        }
        if let Some(limit) = m.max {
            self.bytes(dir, "memory", "memory.limit_in_bytes", limit, MAX);
        }
        if let (Some(both), false) = (m.memory_swap, both_first) {
            self.bytes(dir, "memory", memsw, both, BOTH);
        }
        if let Some(n) = m.swappiness {
            let why = "how readily its memory is swapped out rather than its file cache dropped";
            self.exact(dir, "memory", "memory.swappiness", n, why);
        }
        if let Some(off) = m.oom_kill_disable {
            let why = "out of memory, its processes wait in place of being killed";
            self.push(
                dir,
                "memory",
                "memory.oom_control",
                u8::from(off),
                None,
                why,
            );
        }
        Ok(())
    }

    fn cpu(&mut self, limits: &Limits) -> Result<()> {
        let c = &limits.cpu;
        if *c == Default::default() {
            return Ok(());
        }
        let dir = self.controller("cpu", "cpu")?;
        const MAX: &str = "runs this many microseconds in each period, then waits for the next";
        if let Some(CpuMax { quota, period }) = c.max {
            let quota_wrong = matches!(quota, Limit::Value(q) if q < 1000);
            if !(1000..=1_000_000).contains(&period) || quota_wrong {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("a quota of {quota} µs in a period of {period} µs cannot be set"),
                )
                .hint("the kernel takes periods of 1000 to 1000000 µs and quotas from 1000 µs"));
            }
            if dir.v2 {
                self.exact(dir, "cpu", "cpu.max", format!("{quota} {period}"), MAX);
            } else {
                let quota = quota.value().map_or("-1".into(), |q| q.to_string());
                let why = "the length of a period in microseconds";
                self.exact(dir, "cpu", "cpu.cfs_period_us", period, why);
                self.exact(dir, "cpu", "cpu.cfs_quota_us", quota, MAX);
            }
        }
        if let Some(burst) = c.burst {
            let file = if dir.v2 {
                "cpu.max.burst"
            } else {
                "cpu.cfs_burst_us"
            };
            self.exact(
                dir,
                "cpu",
                file,
                burst,
                "unused time that may be kept for a later period",
            );
        }
        const WEIGHT: &str = "its share when others want the processor too";
        if let Some(weight) = c.weight.filter(|w| !(1..=10_000).contains(w)) {
            return Err(
                Error::kind(Kind::Usage, format!("a weight of {weight} cannot be set"))
                    .hint("weights are 1 to 10000, 100 by default"),
            );
        }
        match (dir.v2, c.weight, c.shares.filter(|s| *s != 0)) {
            (true, Some(w), _) => self.exact(dir, "cpu", "cpu.weight", w, WEIGHT),
            (true, None, Some(s)) => {
                self.exact(dir, "cpu", "cpu.weight", shares_to_weight(s), WEIGHT);
            }
            (false, Some(w), _) => {
                self.exact(dir, "cpu", "cpu.shares", weight_to_shares(w), WEIGHT);
            }
            (false, None, Some(s)) => {
                let expected = s.clamp(2, 262_144).to_string();
                self.push(dir, "cpu", "cpu.shares", s, Some(expected), WEIGHT);
            }
            (_, None, None) => {}
        }
        if let Some(idle) = c.idle {
            let why = "runs only when nobody else wants the processor";
            self.exact(dir, "cpu", "cpu.idle", u8::from(idle), why);
        }
        if (c.rt_period.is_some() || c.rt_runtime.is_some()) && dir.v2 {
            return Err(only_v1("cpu.rt_runtime_us (realtime bandwidth)"));
        }
        if let Some(period) = c.rt_period {
            self.exact(
                dir,
                "cpu",
                "cpu.rt_period_us",
                period,
                "the length of a realtime period",
            );
        }
        if let Some(time) = c.rt_runtime {
            self.exact(
                dir,
                "cpu",
                "cpu.rt_runtime_us",
                time,
                "realtime microseconds in a period",
            );
        }
        Ok(())
    }

    fn pids(&mut self, limits: &Limits) -> Result<()> {
        if let Some(limit) = limits.pids {
            let dir = self.controller("pids", "pids")?;
            let why = "fork fails with EAGAIN beyond this many processes and threads";
            self.exact(dir, "pids", "pids.max", limit, why);
        }
        Ok(())
    }

    fn io(&mut self, limits: &Limits) -> Result<()> {
        let io = &limits.io;
        if *io == Default::default() {
            return Ok(());
        }
        let dir = self.controller("io", "blkio")?;
        let name = if dir.v2 { "io" } else { "blkio" };
        const WEIGHT: &str = "its share of a disk when others want it too";
        let weights = io
            .weight
            .iter()
            .chain(io.device_weights.iter().map(|(_, w)| w));
        if let Some(w) = weights.clone().find(|w| !(1..=10_000).contains(*w)) {
            return Err(
                Error::kind(Kind::Usage, format!("a weight of {w} cannot be set"))
                    .hint("weights are 1 to 10000, 100 by default"),
            );
        }
        // io.weight is there with the io.cost model; the BFQ scheduler has its own file, 1–1000.
        let bfq = |w: u64| w.clamp(1, 1000);
        if let Some(w) = io.weight {
            if dir.v2 {
                self.push(dir, name, "io.weight", format!("default {w}"), None, WEIGHT);
                if let Some(last) = self.writes.last_mut() {
                    last.fallback = Some((dir.dir.join("io.bfq.weight"), bfq(w).to_string()));
                }
            } else {
                self.exact(dir, name, "blkio.bfq.weight", bfq(w), WEIGHT);
                if let Some(last) = self.writes.last_mut() {
                    last.fallback =
                        Some((dir.dir.join("blkio.weight"), bfq(w).max(10).to_string()));
                }
            }
        }
        for (device, w) in &io.device_weights {
            let (file, fallback) = if dir.v2 {
                ("io.weight", "io.bfq.weight")
            } else {
                ("blkio.bfq.weight_device", "blkio.weight_device")
            };
            self.push(dir, name, file, format!("{device} {w}"), None, WEIGHT);
            if let Some(last) = self.writes.last_mut() {
                last.fallback = Some((dir.dir.join(fallback), format!("{device} {}", bfq(*w))));
            }
        }
        const MAX: &str = "requests beyond this rate wait";
        for limit in &io.max {
            let keys = [
                ("rbps", limit.rbps, "blkio.throttle.read_bps_device"),
                ("wbps", limit.wbps, "blkio.throttle.write_bps_device"),
                ("riops", limit.riops, "blkio.throttle.read_iops_device"),
                ("wiops", limit.wiops, "blkio.throttle.write_iops_device"),
            ];
            if dir.v2 {
                let text = keys
                    .iter()
                    .filter_map(|(key, limit, _)| limit.map(|l| format!(" {key}={l}")))
                    .collect::<String>();
                self.push(
                    dir,
                    name,
                    "io.max",
                    format!("{}{text}", limit.device),
                    None,
                    MAX,
                );
            } else {
                for (_, value, file) in keys {
                    if let Some(value) = value {
                        // 0 takes a rule away, which is v1's way to say max.
                        let value = value.value().unwrap_or(0);
                        self.push(
                            dir,
                            name,
                            file,
                            format!("{} {value}", limit.device),
                            None,
                            MAX,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn hugetlb(&mut self, limits: &Limits) -> Result<()> {
        for (size, limit) in &limits.hugetlb {
            let dir = self.controller("hugetlb", "hugetlb")?;
            let file = match dir.v2 {
                true => format!("hugetlb.{size}.max"),
                false => format!("hugetlb.{size}.limit_in_bytes"),
            };
            let bytes = super::limits::parse_size(size).ok().and_then(Limit::value);
            let why = "faults on further huge pages fail with SIGBUS";
            self.bytes(dir, "hugetlb", file, *limit, why);
            // Huge pages round down to themselves, not to small pages.
            if let (Some(last), Some(page), Limit::Value(n)) =
                (self.writes.last_mut(), bytes.filter(|b| *b > 0), limit)
            {
                last.expected = Some((n / page * page).to_string());
            }
            if let (Some(last), Limit::Max, false) = (self.writes.last_mut(), limit, dir.v2) {
                last.expected = None;
            }
        }
        Ok(())
    }

    fn unified(&mut self, limits: &Limits) -> Result<()> {
        for (file, value) in &limits.unified {
            let controller = file.split('.').next().unwrap_or_default().to_string();
            if file.contains('/') || !file.contains('.') {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("{file:?} is no name of a cgroup file"),
                ));
            }
            let dir = match controller.as_str() {
                "cgroup" => self.group.unified(),
                name => Some(self.controller(name, name)?),
            };
            match dir {
                Some(dir) if dir.v2 => {
                    let why = "written as it was given";
                    self.push(dir, &controller, file.as_str(), value, None, why);
                }
                _ => return Err(only_v2(file, &controller)),
            }
        }
        Ok(())
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
    .topic("cgroups")
}

fn only_v1(file: &str) -> Error {
    Error::kind(
        Kind::Unsupported,
        format!("{file} exists on cgroup v1 only"),
    )
    .hint("leave it out: cgroup v2 has nothing in its place")
    .topic("cgroups")
}

/// The controller is in no mounted tree: why, as far as the kernel tells.
fn missing(group: &Group, v2: &str, v1: &str) -> Error {
    let known = group.unmounted.iter().find(|(n, _)| n == v2 || n == v1);
    let error = Error::kind(
        Kind::Unsupported,
        format!("the {v2} controller is missing on this host"),
    )
    .topic("cgroups");
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
