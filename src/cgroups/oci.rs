//! From the OCI runtime document's words to ours.
//!
//! What it does: `linux.resources` speaks cgroup v1 (shares, quota, memory plus swap); [`Limits`]
//! keeps such values in their own unit, and the plan converts them once, for the layout at hand.
//! What it implements: config-linux.md of the OCI runtime specification ("Control groups").
//! Interface: [`Limits::from_oci`], [`device_rules`]. Read next: `plan/mod.rs`.

use super::devices::{Access, DeviceKind, DeviceRule};
use super::limits::{
    Cpu, CpuMax, Cpuset, Device, Io, IoMax, IoWeight, Limit, Limits, Memory, Network, Rdma,
};
use crate::error::{Error, Kind, Result};
use crate::spec::runtime::{self as resources, Resources};
use std::collections::BTreeMap;

fn number(what: &str, n: i64) -> Result<u32> {
    u32::try_from(n)
        .map_err(|_| Error::kind(Kind::Usage, format!("{n} is no {what} number of a device")))
}

impl Limits {
    /// The limits in a runtime document. Device rules are apart, in [`device_rules`].
    ///
    /// The deprecated `kernel` and `useHierarchy` have no effect in today's kernels and are passed
    /// over, as the specification allows; so is `checkBeforeUpdate`, which is about a group that
    /// holds something already. Errors (kind `Unsupported`): the weights of leaves, which went with
    /// the CFQ scheduler (Linux 5.0).
    pub fn from_oci(r: &Resources) -> Result<Limits> {
        let mut limits = Limits {
            unified: r.unified.clone(),
            ..Limits::default()
        };
        if let Some(m) = &r.memory {
            let limit = |n: Option<i64>| n.filter(|n| *n != 0).map(Limit::from_signed);
            limits.memory = Memory {
                max: limit(m.limit),
                low: limit(m.reservation),
                memory_swap: limit(m.swap),
                // Docker's clients send -1, as an unsigned number, for "not set".
                swappiness: m.swappiness.filter(|n| *n <= 200),
                oom_kill_disable: m.disable_oom_killer.filter(|off| *off),
                tcp: limit(m.kernel_tcp),
                ..Memory::default()
            };
        }
        if let Some(c) = &r.cpu {
            let period = c.period.filter(|p| *p != 0);
            let quota = c.quota.filter(|q| *q != 0);
            limits.cpu = Cpu {
                max: (period.is_some() || quota.is_some()).then(|| CpuMax {
                    quota: quota.map_or(Limit::Max, Limit::from_signed),
                    period: period.unwrap_or(CpuMax::PERIOD),
                }),
                weight: None,
                shares: c.shares.filter(|s| *s != 0),
                idle: c.idle.map(|i| i != 0),
                burst: c.burst,
                rt_period: c.realtime_period.filter(|p| *p != 0),
                rt_runtime: c.realtime_runtime.filter(|t| *t != 0),
            };
            let list = |l: &Option<String>| l.clone().filter(|l| !l.is_empty());
            limits.cpuset = Cpuset {
                cpus: list(&c.cpus),
                mems: list(&c.mems),
            };
        }
        if let Some(p) = r.pids.as_ref().and_then(|p| p.limit) {
            // 0 is what old documents write for "none".
            let limit = if p == 0 { -1 } else { p };
            limits.pids = Some(Limit::from_signed(limit));
        }
        if let Some(b) = &r.block_io {
            limits.io = io(b)?;
        }
        for h in &r.hugepage_limits {
            limits
                .hugetlb
                .push((h.page_size.clone(), Limit::Value(h.limit)));
        }
        if let Some(n) = &r.network {
            limits.network = Network {
                class_id: n.class_id.filter(|c| *c != 0),
                priorities: n
                    .priorities
                    .iter()
                    .map(|p| (p.name.clone(), p.priority))
                    .collect(),
            };
        }
        for (device, limit) in &r.rdma {
            let limit = Rdma {
                handles: limit.hca_handles,
                objects: limit.hca_objects,
            };
            limits.rdma.insert(device.clone(), limit);
        }
        Ok(limits)
    }
}

fn io(b: &resources::BlockIo) -> Result<Io> {
    let leaves = b.weight_device.iter().map(|d| d.leaf_weight);
    if leaves.chain([b.leaf_weight]).flatten().any(|w| w != 0) {
        return Err(Error::kind(
            Kind::Unsupported,
            "linux.resources.blockIO has a leafWeight, which no kernel since 5.0 knows",
        )
        .hint("it was the CFQ scheduler's; leave it out")
        .topic("cgroups"));
    }
    let weight = |w: Option<u16>| w.filter(|w| *w != 0).map(|w| IoWeight::Blkio(u64::from(w)));
    let mut io = Io {
        weight: weight(b.weight),
        ..Io::default()
    };
    for d in &b.weight_device {
        if let Some(w) = weight(d.weight) {
            let device = Device {
                major: number("major", d.major)?,
                minor: number("minor", d.minor)?,
            };
            io.device_weights.push((device, w));
        }
    }
    let mut max: BTreeMap<Device, IoMax> = BTreeMap::new();
    type Field = fn(&mut IoMax) -> &mut Option<Limit>;
    let fields: [(&Vec<resources::ThrottleDevice>, Field); 4] = [
        (&b.throttle_read_bps_device, |m| &mut m.rbps),
        (&b.throttle_write_bps_device, |m| &mut m.wbps),
        (&b.throttle_read_iops_device, |m| &mut m.riops),
        (&b.throttle_write_iops_device, |m| &mut m.wiops),
    ];
    for (list, field) in fields {
        for d in list {
            let device = Device {
                major: number("major", d.major)?,
                minor: number("minor", d.minor)?,
            };
            let entry = max.entry(device).or_insert_with(|| IoMax {
                device,
                ..IoMax::default()
            });
            // 0 takes a limit away, as v1's files have it.
            *field(entry) = Some(match d.rate {
                0 => Limit::Max,
                rate => Limit::Value(rate),
            });
        }
    }
    io.max = max.into_values().collect();
    Ok(io)
}

/// The device rules in a runtime document, in its order.
pub fn device_rules(r: &Resources) -> Result<Vec<DeviceRule>> {
    let rule = |d: &resources::DeviceRule| {
        let any = |what: &str, n: Option<i64>| match n {
            None | Some(-1) => Ok(None),
            Some(n) => number(what, n).map(Some),
        };
        Ok(DeviceRule {
            allow: d.allow,
            kind: match d.typ.as_deref() {
                None | Some("a" | "") => DeviceKind::All,
                Some("b") => DeviceKind::Block,
                Some("c" | "u") => DeviceKind::Char,
                Some(other) => {
                    return Err(Error::kind(
                        Kind::Usage,
                        format!("{other:?} is no type of a device rule"),
                    )
                    .hint("it is a (all), b (block) or c (character)"));
                }
            },
            major: any("major", d.major)?,
            minor: any("minor", d.minor)?,
            access: match d.access.as_deref() {
                None | Some("") => Access::ALL,
                Some(text) => Access::parse(text)?,
            },
        })
    };
    r.devices.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_documents_words_become_ours() {
        let r = read(
            r#"{"memory":{"limit":67108864,"swap":-1,"reservation":1048576},
                "cpu":{"shares":512,"quota":50000,"cpus":"0-1","period":0},
                "pids":{"limit":0},
                "blockIO":{"weight":500,
                  "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1024}],
                  "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":0}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
                "unified":{"memory.high":"1000000"}}"#,
        );
        let l = Limits::from_oci(&r).unwrap();
        assert_eq!(l.memory.max, Some(Limit::Value(64 << 20)));
        assert_eq!(l.memory.memory_swap, Some(Limit::Max));
        assert_eq!(l.cpu.shares, Some(512));
        let max = l.cpu.max.unwrap();
        assert_eq!((max.quota, max.period), (Limit::Value(50_000), 100_000));
        assert_eq!(l.pids, Some(Limit::Max));
        assert_eq!(l.io.weight, Some(IoWeight::Blkio(500)));
        assert_eq!(l.io.max.len(), 1, "one entry a device");
        assert_eq!(l.io.max[0].wiops, Some(Limit::Max));
        assert_eq!(l.unified["memory.high"], "1000000");
    }

    #[test]
    fn what_is_not_implemented_is_refused() {
        let r = read(r#"{"blockIO":{"leafWeight":100}}"#);
        assert!(Limits::from_oci(&r).is_err());
        let r = read(
            r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]},
                "rdma":{"mlx5_0":{"hcaHandles":3}}}"#,
        );
        let l = Limits::from_oci(&r).unwrap();
        assert_eq!(l.network.class_id, Some(1_048_577));
        assert_eq!(l.network.priorities["eth0"], 5);
        assert_eq!(l.rdma["mlx5_0"].handles, Some(3));
        assert!(Limits::from_oci(&read("{}")).unwrap().is_empty());
    }

    #[test]
    fn device_rules_keep_their_order() {
        let r = read(
            r#"{"devices":[{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}]}"#,
        );
        let rules = device_rules(&r).unwrap();
        assert_eq!(rules[0], DeviceRule::DENY_ALL);
        assert_eq!(rules[1].to_string(), "c 1:3 rw");
        let bad = read(r#"{"devices":[{"allow":true,"type":"x"}]}"#);
        assert!(device_rules(&bad).is_err());
    }
}
