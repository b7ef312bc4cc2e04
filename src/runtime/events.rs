//! What a container uses, and that it ran out of memory, in runc's JSON.
//!
//! What it does: reads the counters of the container's cgroup into the document that callers of
//! `runc events` parse. A counter that this host does not have stays out, or is 0 where the form
//! has it always.
//!
//! What it implements: runc-events(8); runc's `types/events.go` for the names. Times are in
//! nanoseconds. Interface: [`stats`], [`OomCount`]. Read next: [`crate::cgroups::stat`].

use crate::cgroups::limits::Limit;
use crate::cgroups::parse;
use crate::cgroups::{Group, GroupDir, stat};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The `data` of a `stats` event.
pub fn stats(group: &Group) -> Value {
    let now = stat::stat(group);
    let mut data = json!({"cpu": cpu(group, &now), "memory": memory(group, &now)});
    data["pids"] = json!({
        "current": now.pids.as_ref().map_or(0, |p| p.current),
        "limit": limit(group.dir_of("pids"), "pids.max", "pids.max"),
    });
    if let Some(set) = group.dir_of("cpuset") {
        data["cpuset"] = cpuset(set);
    }
    data["blkio"] = blkio(&now);
    let sizes = now.hugetlb.iter().map(|h| {
        let used = json!({"usage": h.current, "failcnt": h.refused});
        (h.size.clone(), used)
    });
    data["hugetlb"] = Value::Object(sizes.collect());
    data["intel_rdt"] = json!({});
    data["network_interfaces"] = Value::Null;
    data
}

fn text(dir: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(file)).ok()
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}

fn table(dir: &Path, file: &str) -> std::collections::BTreeMap<String, u64> {
    text(dir, file).map(|t| parse::flat(&t)).unwrap_or_default()
}

/// 0 where there is no limit, as runc says it of pids; the largest number for memory.
fn limit(dir: Option<&GroupDir>, v2: &str, v1: &str) -> u64 {
    dir.and_then(|d| text(&d.dir, if d.v2 { v2 } else { v1 }))
        .and_then(|t| Limit::parse(&t))
        .and_then(Limit::value)
        .unwrap_or(0)
}

fn cpu(group: &Group, now: &stat::Stat) -> Value {
    let used = now.cpu.clone().unwrap_or_default();
    let mut usage = json!({
        "total": used.usage_usec * 1000,
        "kernel": used.system_usec * 1000,
        "user": used.user_usec * 1000,
    });
    let per_cpu = |file: &str| -> Option<Vec<u64>> {
        let dir = group.dir_of("cpuacct")?;
        let text = text(&dir.dir, file)?;
        text.split_whitespace().map(|n| n.parse().ok()).collect()
    };
    for (key, file) in [
        ("percpu", "cpuacct.usage_percpu"),
        ("percpu_kernel", "cpuacct.usage_percpu_sys"),
        ("percpu_user", "cpuacct.usage_percpu_user"),
    ] {
        if let Some(list) = per_cpu(file) {
            usage[key] = json!(list);
        }
    }
    json!({"usage": usage, "throttling": {
        "periods": used.nr_periods,
        "throttledPeriods": used.nr_throttled,
        "throttledTime": used.throttled_usec * 1000,
    }})
}

fn memory(group: &Group, now: &stat::Stat) -> Value {
    let (Some(used), Some(dir)) = (&now.memory, group.dir_of("memory")) else {
        return json!({"usage": {"limit": 0, "failcnt": 0}});
    };
    let at = dir.dir.as_path();
    let raw = table(at, "memory.stat");
    let entry = |limit: Option<u64>, usage: Option<u64>, max: Option<u64>, failed: u64| {
        let mut entry = json!({"limit": limit.unwrap_or(u64::MAX), "failcnt": failed});
        for (key, value) in [("usage", usage), ("max", max)] {
            if let Some(value) = value {
                entry[key] = value.into();
            }
        }
        entry
    };
    let failed = used.events.get("max").copied().unwrap_or(0);
    if dir.v2 {
        let of = |file: &str| text(at, file).and_then(|t| Limit::parse(&t)?.value());
        let (most, swap) = (of("memory.max"), of("memory.swap.max"));
        return json!({
            "cache": used.file,
            "usage": entry(most, Some(used.current), used.peak, failed),
            "swap": entry(swap, used.swap, number(at, "memory.swap.peak"), 0),
            "raw": raw,
        });
    }
    let of = |prefix: &str| {
        let file = |name: &str| number(at, &format!("memory.{prefix}{name}"));
        entry(
            file("limit_in_bytes"),
            file("usage_in_bytes"),
            file("max_usage_in_bytes"),
            file("failcnt").unwrap_or(0),
        )
    };
    json!({
        "cache": used.file,
        "usage": of(""), "swap": of("memsw."), "kernel": of("kmem."), "kernelTCP": of("kmem.tcp."),
        "raw": raw,
    })
}

fn cpuset(dir: &GroupDir) -> Value {
    let at = dir.dir.as_path();
    let list = |file: &str| -> Vec<u32> {
        let text = text(at, file).unwrap_or_default();
        let ranges = text.trim().split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
        });
        ranges.flatten().collect()
    };
    let effective = |name: &str| {
        let file = format!("cpuset.{name}");
        let own = list(&file);
        match own.is_empty() {
            true => list(&format!("{file}.effective")),
            false => own,
        }
    };
    let mut set = Map::new();
    set.insert("cpus".into(), json!(effective("cpus")));
    set.insert("mems".into(), json!(effective("mems")));
    for flag in [
        "cpu_exclusive",
        "mem_exclusive",
        "mem_hardwall",
        "memory_migrate",
        "memory_pressure",
        "memory_spread_page",
        "memory_spread_slab",
        "sched_load_balance",
    ] {
        if let Some(value) = number(at, &format!("cpuset.{flag}")) {
            set.insert(flag.into(), value.into());
        }
    }
    Value::Object(set)
}

fn blkio(now: &stat::Stat) -> Value {
    let rows = |of: fn(&stat::IoUse) -> [(&'static str, u64); 2]| -> Vec<Value> {
        let each = now.io.iter().filter_map(|device| {
            let (major, minor) = device.device.split_once(':')?;
            let (major, minor) = (major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?);
            let entry = move |(op, value)| json!({"major": major, "minor": minor, "op": op, "value": value});
            Some(of(device).map(entry))
        });
        each.flatten().collect()
    };
    json!({
        "ioServiceBytesRecursive": rows(|d| [("Read", d.rbytes), ("Write", d.wbytes)]),
        "ioServicedRecursive": rows(|d| [("Read", d.rios), ("Write", d.wios)]),
    })
}

/// How often a group ran out of memory, for who compares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OomCount {
    kills: u64,
    waiting: bool,
}

impl OomCount {
    /// Reads it.
    pub fn read(group: &Group) -> OomCount {
        let Some(dir) = group.dir_of("memory") else {
            return OomCount::default();
        };
        let file = if dir.v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let events = table(&dir.dir, file);
        let of = |key: &str| events.get(key).copied().unwrap_or(0);
        OomCount {
            kills: of("oom_kill"),
            waiting: of("under_oom") > 0,
        }
    }

    /// Whether it has happened since `before`: somebody was killed, or (v1 with
    /// `disableOOMKiller`) waits now.
    pub fn has_grown(self, before: OomCount) -> bool {
        self.kills > before.kills || self.waiting && !before.waiting
    }
}
