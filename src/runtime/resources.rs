//! `linux.resources` in the words of the cgroups stage.
//!
//! What it does: translates, purely. config.json speaks the language of cgroup v1; the cgroups
//! stage speaks v2's and knows what each host's layout needs.
//! What it implements: runtime-spec "Control groups", with its conversions for v2.
//! Interface: [`limits`], [`device_rules`]. Read next: [`crate::cgroups`].

use crate::cgroups::devices::{Access, DeviceKind, DeviceRule};
use crate::cgroups::limits::{Cpu, CpuMax, Cpuset, Device, Io, IoMax, Memory};
use crate::cgroups::{Limit, Limits};
use crate::error::{Error, Kind, Result};
use crate::spec::runtime::{Resources, ThrottleDevice};

/// The limits. Errors: what this version cannot limit (rdma, network classes).
pub fn limits(resources: Option<&Resources>) -> Result<Limits> {
    let Some(r) = resources else {
        return Ok(Limits::default());
    };
    if !r.rdma.is_empty() || r.network.is_some() {
        return Err(Error::kind(
            Kind::Unsupported,
            "config.json asks for linux.resources.rdma or network, which this version cannot do",
        ));
    }
    let memory = r.memory.as_ref().map_or_else(Memory::default, |m| Memory {
        max: m.limit.filter(|n| *n != 0).map(Limit::from_signed),
        low: m.reservation.filter(|n| *n != 0).map(Limit::from_signed),
        memory_swap: m.swap.filter(|n| *n != 0).map(Limit::from_signed),
        // Docker's clients send -1 (as u64) for "not set".
        swappiness: m.swappiness.filter(|n| *n <= 200),
        oom_kill_disable: m.disable_oom_killer.filter(|on| *on),
        ..Memory::default()
    });
    let (mut cpu, mut cpuset) = (Cpu::default(), Cpuset::default());
    if let Some(c) = &r.cpu {
        let period = c.period.filter(|p| *p != 0);
        let quota = c.quota.filter(|q| *q != 0).map(Limit::from_signed);
        if quota.is_some() || period.is_some() {
            cpu.max = Some(CpuMax {
                quota: quota.unwrap_or(Limit::Max),
                period: period.unwrap_or(CpuMax::PERIOD),
            });
        }
        cpu.shares = c.shares.filter(|s| *s != 0);
        cpu.burst = c.burst;
        cpu.idle = c.idle.map(|i| i != 0);
        cpu.rt_period = c.realtime_period;
        cpu.rt_runtime = c.realtime_runtime;
        let list = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
        (cpuset.cpus, cpuset.mems) = (list(&c.cpus), list(&c.mems));
    }
    Ok(Limits {
        memory,
        cpu,
        cpuset,
        pids: r
            .pids
            .as_ref()
            .and_then(|p| p.limit)
            .filter(|n| *n != 0)
            .map(Limit::from_signed),
        io: io(r)?,
        hugetlb: r
            .hugepage_limits
            .iter()
            .map(|h| (h.page_size.clone(), Limit::Value(h.limit)))
            .collect(),
        unified: r.unified.clone(),
    })
}

fn io(r: &Resources) -> Result<Io> {
    let Some(b) = &r.block_io else {
        return Ok(Io::default());
    };
    let device = |major: i64, minor: i64| -> Result<Device> {
        let number = |n: i64| {
            u32::try_from(n).map_err(|_| {
                Error::kind(Kind::Usage, format!("{major}:{minor} is no device number"))
            })
        };
        Ok(Device {
            major: number(major)?,
            minor: number(minor)?,
        })
    };
    let mut max: Vec<IoMax> = Vec::new();
    let mut add = |list: &[ThrottleDevice], set: fn(&mut IoMax, Limit)| -> Result<()> {
        for t in list {
            let device = device(t.major, t.minor)?;
            let at = match max.iter().position(|m| m.device == device) {
                Some(at) => at,
                None => {
                    max.push(IoMax {
                        device,
                        rbps: None,
                        wbps: None,
                        riops: None,
                        wiops: None,
                    });
                    max.len() - 1
                }
            };
            set(&mut max[at], Limit::Value(t.rate));
        }
        Ok(())
    };
    add(&b.throttle_read_bps_device, |m, l| m.rbps = Some(l))?;
    add(&b.throttle_write_bps_device, |m, l| m.wbps = Some(l))?;
    add(&b.throttle_read_iops_device, |m, l| m.riops = Some(l))?;
    add(&b.throttle_write_iops_device, |m, l| m.wiops = Some(l))?;
    let mut device_weights = Vec::new();
    for w in &b.weight_device {
        if let Some(weight) = w.weight {
            device_weights.push((device(w.major, w.minor)?, weight.into()));
        }
    }
    Ok(Io {
        weight: b.weight.filter(|w| *w != 0).map(Into::into),
        device_weights,
        max,
    })
}

/// The device rules, in order; `None` when the document has none. Errors: a rule that is none.
pub fn device_rules(resources: Option<&Resources>) -> Result<Option<Vec<DeviceRule>>> {
    let Some(r) = resources.filter(|r| !r.devices.is_empty()) else {
        return Ok(None);
    };
    let rule = |d: &crate::spec::runtime::DeviceRule| {
        // Absent and -1 both mean "any".
        let number = |n: Option<i64>| n.filter(|n| *n >= 0).map(|n| n as u32);
        let access = match d.access.as_deref() {
            None => Access::ALL,
            Some(letters) => Access::parse(letters)?,
        };
        let kind = match d.typ.as_deref() {
            None | Some("a") => DeviceKind::All,
            Some("b") => DeviceKind::Block,
            Some(_) => DeviceKind::Char,
        };
        Ok(DeviceRule {
            allow: d.allow,
            kind,
            major: number(d.major),
            minor: number(d.minor),
            access,
        })
    };
    r.devices
        .iter()
        .map(rule)
        .collect::<Result<Vec<_>>>()
        .map(Some)
}
