//! What a group uses, what happened to it, and what limits it: the read side.
//!
//! What it does: fills one model from the kernel's files of either version, in v2's words and in
//! bytes and microseconds. `inspect` and `glassbox cgroup stat` are views of it. What cannot be
//! read is absent, or says why in `unread`.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst,
//! cgroup-v1/cpuacct.rst, accounting/psi.rst.
//! Interface: [`stat`], [`Stat`]. Read next: `survey.rs`.

use super::effective::{Effective, effective_limits, hugetlb_sizes};
use super::group::{Group, GroupDir};
use super::{lifecycle, parse};
use crate::host::LayoutKind;
use crate::sys::describe_errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A group in one tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The tree: `memory`, `cpu,cpuacct`, `name=systemd`, `cgroup2`.
    pub hierarchy: String,
    /// The group's path in it.
    pub path: String,
    /// Its directory.
    pub dir: String,
}

/// Everything about one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// Its path.
    pub path: String,
    /// The kind of host.
    pub layout: LayoutKind,
    /// Where it is.
    pub places: Vec<Place>,
    /// Its own processes.
    pub processes: Vec<i32>,
    /// Processes in the groups below it.
    pub processes_below: usize,
    /// Frozen; absent when that cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryUse>,
    /// Processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuUse>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<PidsUse>,
    /// Block devices.
    pub io: Vec<IoUse>,
    /// Huge pages, those sizes that are used or limited.
    pub hugetlb: Vec<HugetlbUse>,
    /// How long its processes waited for want of a resource.
    pub pressure: Vec<Pressure>,
    /// The limits that apply, and who sets them.
    pub limits: Vec<Effective>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// All of it, file cache included.
    pub current: u64,
    /// The most that it ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// Swapped out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Anonymous memory: heaps, stacks.
    pub anon: u64,
    /// File cache, which is dropped when memory is short.
    pub file: u64,
    /// File cache that has not been used lately: `current` less this is what docker shows.
    pub inactive_file: u64,
    /// The kernel's own memory for the group; absent on v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<u64>,
    /// Counters: `max` (the limit was hit), `oom` (and nothing could be reclaimed), `oom_kill`
    /// (processes killed), `high`, `low`.
    pub events: BTreeMap<String, u64>,
}

/// Processor time in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUse {
    /// All of it.
    pub usage_usec: u64,
    /// In programs.
    pub user_usec: u64,
    /// In the kernel.
    pub system_usec: u64,
    /// Periods with a limit that passed while something ran.
    pub nr_periods: u64,
    /// Those in which the quota ran out.
    pub nr_throttled: u64,
    /// How long it had to wait therefore.
    pub throttled_usec: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsUse {
    /// Now.
    pub current: u64,
    /// The most there ever were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// How often a fork was refused.
    pub refused: u64,
}

/// One block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoUse {
    /// `MAJOR:MINOR`.
    pub device: String,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Reads.
    pub rios: u64,
    /// Writes.
    pub wios: u64,
}

/// One size of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugetlbUse {
    /// `2MB`
    pub size: String,
    /// Bytes now.
    pub current: u64,
    /// How often the limit was hit.
    pub refused: u64,
}

/// One pressure file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// `cpu`, `memory`, `io`.
    pub resource: String,
    /// At least one task waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub some: Option<parse::PressureLine>,
    /// All tasks waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<parse::PressureLine>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// Reads everything about a group that exists.
pub fn stat(group: &Group) -> Stat {
    let own: std::collections::BTreeSet<i32> = group
        .dirs
        .iter()
        .flat_map(|d| lifecycle::pids(&d.dir).unwrap_or_default())
        .collect();
    let all = lifecycle::all_pids(group);
    Stat {
        path: group.path.to_string(),
        layout: group.kind,
        places: group
            .dirs
            .iter()
            .map(|d| Place {
                hierarchy: d.hierarchy.clone(),
                path: d.path.clone(),
                dir: d.dir.display().to_string(),
            })
            .collect(),
        processes_below: all.difference(&own).count(),
        processes: own.into_iter().collect(),
        frozen: lifecycle::is_frozen(group),
        memory: group.dir_of("memory").and_then(memory),
        cpu: cpu(group),
        pids: group.dir_of("pids").and_then(pids),
        io: io(group),
        hugetlb: group.dir_of("hugetlb").map(hugetlb).unwrap_or_default(),
        pressure: pressure(group),
        limits: effective_limits(group),
    }
}

fn text(dir: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(file)).ok()
}
fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}
fn table(dir: &Path, file: &str) -> BTreeMap<String, u64> {
    text(dir, file).map(|t| parse::flat(&t)).unwrap_or_default()
}

fn memory(dir: &GroupDir) -> Option<MemoryUse> {
    let (v2, dir) = (dir.v2, dir.dir.as_path());
    let stat = table(dir, "memory.stat");
    let of = |key: &str| stat.get(key).copied().unwrap_or(0);
    if v2 {
        return Some(MemoryUse {
            current: number(dir, "memory.current")?,
            peak: number(dir, "memory.peak"),
            swap: number(dir, "memory.swap.current"),
            anon: of("anon"),
            file: of("file"),
            inactive_file: of("inactive_file"),
            kernel: stat.get("kernel").copied(),
            events: table(dir, "memory.events"),
        });
    }
    let current = number(dir, "memory.usage_in_bytes")?;
    let mut events = BTreeMap::new();
    if let Some(n) = number(dir, "memory.failcnt") {
        events.insert("max".to_string(), n);
    }
    let oom = table(dir, "memory.oom_control");
    for key in ["oom_kill", "under_oom"] {
        if let Some(n) = oom.get(key) {
            events.insert(key.into(), *n);
        }
    }
    Some(MemoryUse {
        current,
        peak: number(dir, "memory.max_usage_in_bytes"),
        // Both counters hold memory; their difference is swap.
        swap: number(dir, "memory.memsw.usage_in_bytes").map(|both| both.saturating_sub(current)),
        anon: of("total_rss"),
        file: of("total_cache"),
        inactive_file: of("total_inactive_file"),
        kernel: None,
        events,
    })
}

fn cpu(group: &Group) -> Option<CpuUse> {
    let limited = group.dir_of("cpu").filter(|d| !d.v2);
    let throttling = limited
        .map(|d| table(&d.dir, "cpu.stat"))
        .unwrap_or_default();
    if let Some(acct) = group.dir_of("cpuacct") {
        let of = |key: &str| throttling.get(key).copied().unwrap_or(0);
        // Nanoseconds in one file, in the others too where the kernel has them.
        let usec = |file: &str| number(&acct.dir, file).map(|ns| ns / 1000);
        return Some(CpuUse {
            usage_usec: usec("cpuacct.usage")?,
            user_usec: usec("cpuacct.usage_user").unwrap_or(0),
            system_usec: usec("cpuacct.usage_sys").unwrap_or(0),
            nr_periods: of("nr_periods"),
            nr_throttled: of("nr_throttled"),
            throttled_usec: of("throttled_time") / 1000,
        });
    }
    let stat = table(&group.unified()?.dir, "cpu.stat");
    let of = |key: &str| stat.get(key).copied().unwrap_or(0);
    stat.contains_key("usage_usec").then(|| CpuUse {
        usage_usec: of("usage_usec"),
        user_usec: of("user_usec"),
        system_usec: of("system_usec"),
        nr_periods: of("nr_periods"),
        nr_throttled: of("nr_throttled"),
        throttled_usec: of("throttled_usec"),
    })
}

fn pids(dir: &GroupDir) -> Option<PidsUse> {
    let dir = dir.dir.as_path();
    Some(PidsUse {
        current: number(dir, "pids.current")?,
        peak: number(dir, "pids.peak"),
        refused: table(dir, "pids.events").get("max").copied().unwrap_or(0),
    })
}

fn io(group: &Group) -> Vec<IoUse> {
    if let Some(dir) = group.dir_of("io") {
        let rows = parse::nested(&text(&dir.dir, "io.stat").unwrap_or_default());
        return rows
            .into_iter()
            .map(|(device, pairs)| {
                let of = |key: &str| pairs.get(key).and_then(|v| v.parse().ok()).unwrap_or(0);
                IoUse {
                    rbytes: of("rbytes"),
                    wbytes: of("wbytes"),
                    rios: of("rios"),
                    wios: of("wios"),
                    device,
                }
            })
            .collect();
    }
    let Some(dir) = group.dir_of("blkio") else {
        return Vec::new();
    };
    let read = |file: &str| {
        let recursive = text(&dir.dir, &format!("{file}_recursive"));
        parse::blkio(
            &recursive
                .or_else(|| text(&dir.dir, file))
                .unwrap_or_default(),
        )
    };
    let bytes = read("blkio.throttle.io_service_bytes");
    let operations = read("blkio.throttle.io_serviced");
    bytes
        .into_iter()
        .map(|(device, bytes)| {
            let of = |key: &str| bytes.get(key).copied().unwrap_or(0);
            let ios = |key: &str| operations.get(&device).and_then(|o| o.get(key)).copied();
            IoUse {
                rbytes: of("read"),
                wbytes: of("write"),
                rios: ios("read").unwrap_or(0),
                wios: ios("write").unwrap_or(0),
                device,
            }
        })
        .collect()
}

fn hugetlb(dir: &GroupDir) -> Vec<HugetlbUse> {
    let (v2, dir) = (dir.v2, dir.dir.as_path());
    let read = |size: &String| {
        let (current, refused) = match v2 {
            true => (
                number(dir, &format!("hugetlb.{size}.current")),
                table(dir, &format!("hugetlb.{size}.events"))
                    .get("max")
                    .copied(),
            ),
            false => (
                number(dir, &format!("hugetlb.{size}.usage_in_bytes")),
                number(dir, &format!("hugetlb.{size}.failcnt")),
            ),
        };
        HugetlbUse {
            size: size.clone(),
            current: current.unwrap_or(0),
            refused: refused.unwrap_or(0),
        }
    };
    hugetlb_sizes(dir).iter().map(read).collect()
}

fn pressure(group: &Group) -> Vec<Pressure> {
    let read = |resource: &str| -> Result<String, String> {
        let Some(dir) = group.unified() else {
            return Err("pressure of a group needs cgroup v2".into());
        };
        if group.kind == LayoutKind::Hybrid && dir.path == "/" && group.path.as_str() != "/" {
            return Err("the group is not in the v2 tree, where pressure is counted".into());
        }
        let path = dir.dir.join(format!("{resource}.pressure"));
        std::fs::read_to_string(&path).map_err(|e| match e.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                "PSI is off: boot with psi=1 on the kernel's command line".to_string()
            }
            Some(libc::ENOENT) => "this kernel was built without CONFIG_PSI".to_string(),
            Some(n) => describe_errno(crate::sys::Errno::from_raw(n)),
            None => e.to_string(),
        })
    };
    ["cpu", "memory", "io"]
        .iter()
        .map(|resource| {
            let (some, full, unread) = match read(resource) {
                Ok(text) => {
                    let (some, full) = parse::pressure(&text);
                    (some, full, None)
                }
                Err(why) => (None, None, Some(why)),
            };
            Pressure {
                resource: (*resource).to_string(),
                some,
                full,
                unread,
            }
        })
        .collect()
}
