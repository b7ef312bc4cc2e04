//! A process's cgroups, or one cgroup: where it is in each hierarchy, use, events, pressure, the
//! limits that really apply, and the device rules.
//!
//! What it does: words what [`crate::cgroups::stat`] reads in the model's keys.
//! What it implements: cgroups(7), the kernel's admin-guide/cgroup-v2.rst; device rules of
//! cgroup-v1/devices.rst, or the verdicts of the BPF programs on v2.
//! Interface: [`of_process`], [`of_path`], [`devices`]. Read next: [`crate::cgroups`].

use super::fact::Fact;
use super::model::{Cgroup, CgroupLimit, CgroupMembership, Devices, MemoryLimitHit, Pressure};
use crate::cgroups::devices::{Access, DeviceKind, parse_devices_list};
use crate::cgroups::effective::Effective;
use crate::cgroups::parse::flat;
use crate::cgroups::stat::{Stat, stat};
use crate::cgroups::survey::resolve;
use crate::cgroups::{CgroupPath, Group, bpf_sim};
use crate::error::Result;
use crate::host::cgroup_layout::{CgroupLayout, LayoutKind};
use std::collections::BTreeMap;

/// The groups of a process.
pub fn of_process(pid: u32) -> Cgroup {
    let source = format!("/proc/{pid}/cgroup, /proc/self/mountinfo");
    let layout = CgroupLayout::detect();
    let group = match &layout {
        Ok(layout) => Group::of_pid(layout, pid.cast_signed()).map_err(|e| format!("{e:#}")),
        Err(e) => Err(format!("{e:#}")),
    };
    match group {
        Ok(group) => describe(&group, source, false),
        Err(why) => unread(&source, &why),
    }
}

/// One group, by its directory or its path from the root of the hierarchy.
/// Errors: there is none in any hierarchy.
pub fn of_path(target: &str) -> Result<Cgroup> {
    let group = find(target)?;
    Ok(describe(&group, "/proc/self/mountinfo".into(), true))
}

/// Looks a group up. Errors: there is none.
pub fn find(target: &str) -> Result<Group> {
    resolve(&CgroupLayout::detect()?, &CgroupPath::root(), target)
}

/// A cgroup of which nothing could be read.
fn unread(source: &str, why: &str) -> Cgroup {
    Cgroup {
        layout: Fact::unread(source.to_string(), why),
        groups: Fact::unread(source.to_string(), why),
        limits: Fact::unread(source.to_string(), why),
        usage: Fact::unread(source.to_string(), why),
        events: Fact::unread(source.to_string(), why),
        memory_limit_hit: Fact::unread(source.to_string(), why),
        pressure: Fact::unread(source.to_string(), why),
        frozen: Fact::unread(source.to_string(), why),
        processes: None,
    }
}

fn describe(group: &Group, source: String, alone: bool) -> Cgroup {
    let s = &stat(group);
    let dirs: Vec<&str> = s.places.iter().map(|p| p.dir.as_str()).collect();
    let files = |names: &str| format!("{names} in {}", dirs.join(", "));
    let groups = s.places.iter().map(|p| CgroupMembership {
        hierarchy: p.hierarchy.clone(),
        path: p.path.clone(),
        directory: p.dir.clone(),
    });
    let usage = usage(s);
    let layout = match s.layout {
        LayoutKind::Unified => "unified",
        LayoutKind::Legacy => "legacy",
        LayoutKind::Hybrid => "hybrid",
        LayoutKind::None => "none",
    };
    let limits = s.limits.iter().map(|l| limit(l, &usage)).collect();
    Cgroup {
        layout: Fact::new("/proc/self/mountinfo", layout.into()),
        groups: Fact::new(source, groups.collect()),
        limits: Fact::new(
            "each limit's file in the group and every group above it",
            limits,
        ),
        usage: Fact::new(files("memory.*, cpu*, pids.current, io*, hugetlb.*"), usage),
        events: Fact::new(
            files("memory.events, memory.oom_control, cpu.stat, pids.events"),
            events(s),
        ),
        memory_limit_hit: memory_limit_hit(group),
        pressure: pressure(s),
        frozen: match s.frozen {
            Some(frozen) => Fact::new("cgroup.events or freezer.state", frozen),
            None => Fact::unread("cgroup.events or freezer.state", "the group has neither"),
        },
        processes: alone.then(|| s.processes.iter().map(|p| p.cast_unsigned()).collect()),
    }
}

/// Flat, so that a reader needs no knowledge of which controller is where: v2's file names.
fn usage(s: &Stat) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let mut put = |key: &str, value: Option<u64>| {
        if let Some(value) = value {
            all.insert(key.to_string(), value);
        }
    };
    if let Some(m) = &s.memory {
        put("memory.current", Some(m.current));
        put("memory.peak", m.peak);
        put("memory.swap.current", m.swap);
        put("memory.anon", Some(m.anon));
        put("memory.file", Some(m.file));
        put("memory.inactive_file", Some(m.inactive_file));
        put("memory.kernel", m.kernel);
    }
    if let Some(c) = &s.cpu {
        put("cpu.usage_usec", Some(c.usage_usec));
        put("cpu.user_usec", Some(c.user_usec));
        put("cpu.system_usec", Some(c.system_usec));
    }
    if let Some(p) = &s.pids {
        put("pids.current", Some(p.current));
        put("pids.peak", p.peak);
    }
    for io in &s.io {
        put(&format!("io.{}.rbytes", io.device), Some(io.rbytes));
        put(&format!("io.{}.wbytes", io.device), Some(io.wbytes));
    }
    for h in &s.hugetlb {
        put(&format!("hugetlb.{}.current", h.size), Some(h.current));
    }
    all
}

fn events(s: &Stat) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (key, n) in s.memory.iter().flat_map(|m| &m.events) {
        all.insert(format!("memory.{key}"), *n);
    }
    if let Some(c) = &s.cpu {
        all.insert("cpu.nr_throttled".into(), c.nr_throttled);
        all.insert("cpu.throttled_usec".into(), c.throttled_usec);
    }
    if let Some(p) = &s.pids {
        all.insert("pids.max".into(), p.refused);
    }
    for h in &s.hugetlb {
        all.insert(format!("hugetlb.{}.max", h.size), h.refused);
    }
    all
}

/// The groups from this one to the root whose own memory limit was hit, or of whose own processes
/// the out-of-memory killer took one, the nearest first.
///
/// The counts are a group's own: v2 has them in memory.events.local, v1 counts nothing else.
pub fn memory_limit_hit(group: &Group) -> Fact<Vec<MemoryLimitHit>> {
    let Some(dir) = group.dir_of("memory") else {
        return Fact::unread(
            "memory.events.local",
            "no hierarchy has the memory controller",
        );
    };
    let source = match dir.v2 {
        true => "memory.events.local, memory.peak of the group and every group above it",
        false => {
            "memory.failcnt, memory.oom_control, memory.max_usage_in_bytes, \
             memory.memsw.max_usage_in_bytes of the group and every group above it"
        }
    };
    let mut hits = Vec::new();
    for place in dir
        .dir
        .ancestors()
        .take_while(|p| p.starts_with(&dir.mount))
    {
        let read = |file: &str| std::fs::read_to_string(place.join(file)).unwrap_or_default();
        let number = |file: &str| read(file).trim().parse::<u64>().ok();
        let full = |limit, peak| {
            let (limit, peak) = (number(limit), number(peak));
            matches!((limit, peak), (Some(l), Some(p)) if p.saturating_add(CHARGED_AT_ONCE) >= l)
        };
        let (hit, killed, reached) = match dir.v2 {
            true => {
                let events = flat(&read("memory.events.local"));
                let of = |key| events.get(key).copied().unwrap_or(0);
                (of("max"), of("oom_kill"), full("memory.max", "memory.peak"))
            }
            false => {
                let killed = flat(&read("memory.oom_control")).get("oom_kill").copied();
                let both = (
                    "memory.memsw.limit_in_bytes",
                    "memory.memsw.max_usage_in_bytes",
                );
                (
                    number("memory.failcnt").unwrap_or(0),
                    killed.unwrap_or(0),
                    full("memory.limit_in_bytes", "memory.max_usage_in_bytes")
                        || full(both.0, both.1),
                )
            }
        };
        if hit > 0 || killed > 0 || reached {
            let below = place.strip_prefix(&dir.mount).unwrap_or(place);
            hits.push(MemoryLimitHit {
                group: format!("/{}", below.display()),
                hit,
                killed,
                reached,
            });
        }
    }
    Fact::new(source, hits)
}

/// The kernel charges 64 pages at once (MEMCG_CHARGE_BATCH), and a limit that is nearer than that
/// is met page by page.
const CHARGED_AT_ONCE: u64 = 64 * 4096;

fn pressure(s: &Stat) -> Fact<Vec<Pressure>> {
    let source = "cpu.pressure, memory.pressure, io.pressure";
    let read: Vec<Pressure> = s
        .pressure
        .iter()
        .filter(|p| p.unread.is_none())
        .map(|p| Pressure {
            resource: p.resource.clone(),
            some_avg10: p.some.as_ref().map(|l| l.avg10),
            full_avg10: p.full.as_ref().map(|l| l.avg10),
            some_total_usec: p.some.as_ref().map(|l| l.total),
        })
        .collect();
    match s.pressure.iter().find_map(|p| p.unread.clone()) {
        Some(why) if read.is_empty() => Fact::unread(source, why),
        None if read.is_empty() => Fact::unread(
            source,
            "cgroup v1 has no pressure files, and the v2 root none either",
        ),
        _ => Fact::new(source, read),
    }
}

fn limit(l: &Effective, usage: &BTreeMap<String, u64>) -> CgroupLimit {
    let used = match l.what.as_str() {
        "memory.max" | "memory.high" => usage.get("memory.current"),
        "memory.swap.max" => usage.get("memory.swap.current"),
        "pids.max" => usage.get("pids.current"),
        what => what
            .strip_suffix(".max")
            .and_then(|size| usage.get(&format!("{size}.current"))),
    };
    CgroupLimit {
        name: l.what.clone(),
        own: l.own.clone(),
        effective: l.effective.clone(),
        limited: l.is_limited(),
        set_by: l.set_by.clone(),
        file: l.source.clone(),
        used: used.copied(),
    }
}

/// Devices that people ask about: the default ones, and those that are dangerous.
const KNOWN: &[(&str, DeviceKind, u32, u32)] = &[
    ("/dev/mem", DeviceKind::Char, 1, 1),
    ("/dev/null", DeviceKind::Char, 1, 3),
    ("/dev/zero", DeviceKind::Char, 1, 5),
    ("/dev/full", DeviceKind::Char, 1, 7),
    ("/dev/random", DeviceKind::Char, 1, 8),
    ("/dev/urandom", DeviceKind::Char, 1, 9),
    ("/dev/kmsg", DeviceKind::Char, 1, 11),
    ("/dev/tty", DeviceKind::Char, 5, 0),
    ("/dev/console", DeviceKind::Char, 5, 1),
    ("/dev/ptmx", DeviceKind::Char, 5, 2),
    ("/dev/fuse", DeviceKind::Char, 10, 229),
    ("/dev/net/tun", DeviceKind::Char, 10, 200),
    ("/dev/kvm", DeviceKind::Char, 10, 232),
    ("/dev/pts/0", DeviceKind::Char, 136, 0),
    ("/dev/loop0", DeviceKind::Block, 7, 0),
    ("/dev/sda", DeviceKind::Block, 8, 0),
    ("/dev/vda", DeviceKind::Block, 254, 0),
];

/// The device rules of a process: v1's list, or on v2 what the BPF programs say of known devices.
pub fn devices(pid: u32) -> Devices {
    let layout = CgroupLayout::detect();
    let group = layout.and_then(|l| Group::of_pid(&l, pid.cast_signed()));
    let rules = match group {
        Err(e) => Fact::unread("/proc/self/mountinfo", format!("{e:#}")),
        Ok(group) => match (group.dir_of("devices"), group.unified()) {
            (Some(dir), _) if !dir.v2 => by_list(&dir.dir.join("devices.list")),
            (_, Some(dir)) => by_programs(&dir.dir),
            _ => Fact::unread("/proc/self/mountinfo", "no hierarchy has device rules"),
        },
    };
    Devices { rules }
}

fn by_list(path: &std::path::Path) -> Fact<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(super::process::words);
    let words = |text: String| {
        let rules = parse_devices_list(&text);
        match text.trim() {
            "a *:* rwm" => vec!["every device".to_string()],
            "" => vec!["none".to_string()],
            _ => rules
                .iter()
                .map(|r| {
                    let known = KNOWN.iter().find(|(_, kind, major, minor)| {
                        (*kind, Some(*major), Some(*minor)) == (r.kind, r.major, r.minor)
                    });
                    match known {
                        Some((name, ..)) => format!("{r}  {name}"),
                        None => r.to_string(),
                    }
                })
                .collect(),
        }
    };
    Fact::of(path.display().to_string(), text.map(words))
}

fn by_programs(dir: &std::path::Path) -> Fact<Vec<String>> {
    let source = format!("bpf(BPF_PROG_QUERY, effective) of {}", dir.display());
    match bpf_sim::effective(dir) {
        Err(e) => Fact::unread(source, format!("{e:#}")),
        Ok(programs) if programs.is_empty() => {
            Fact::new(source, vec!["every device: there is no program".into()])
        }
        Ok(programs) => {
            let lines = KNOWN.iter().map(|(name, kind, major, minor)| {
                let says = |access| bpf_sim::verdict(&programs, *kind, *major, *minor, access);
                let accesses = [Access::READ, Access::WRITE, Access::MKNOD];
                let allowed: String = accesses
                    .into_iter()
                    .filter(|a| says(*a) == bpf_sim::Verdict::Allowed)
                    .map(|a| a.to_string())
                    .collect();
                let letter = if *kind == DeviceKind::Block { 'b' } else { 'c' };
                let allowed = if allowed.is_empty() {
                    "-".into()
                } else {
                    allowed
                };
                format!("{letter} {major}:{minor} {allowed}  {name}")
            });
            Fact::new(source, lines.collect())
        }
    }
}
