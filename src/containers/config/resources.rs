//! The limits of a container: its cgroup's, its devices, its processes' own.
//!
//! What it implements: runtime-spec "Control groups", "Allowed Device list", "POSIX rlimits";
//! docker's rules: swap is as much again as memory unless said, `--cpus` is a quota a tenth of a
//! second, all devices are denied but the harmless ones.
//! Interface: [`resources`], [`limits`], [`Abilities`], [`rlimits`]. Read next: `privileges.rs`.

use super::super::model::{HostConfig, Ulimit};
use super::Input;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::spec::runtime as oci;
use std::collections::BTreeMap;

/// The least memory that a container can start in.
const LEAST_MEMORY: i64 = 6 << 20;
/// Length of the period behind `--cpus`, in µs.
const PERIOD: u64 = 100_000;

/// What the host can limit, as far as that must be known to say what has no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abilities {
    /// It accounts swap, so that memory and swap can be limited together.
    pub swap: bool,
    /// It has weights of disks.
    pub io_weight: bool,
    /// The disks that flags name: path → major and minor number.
    pub disks: BTreeMap<String, (i64, i64)>,
}

/// `linux.resources`.
pub fn resources(input: &Input<'_>, warnings: &mut Vec<String>) -> Result<oci::Resources> {
    let h = &input.record.host_config;
    let resources = limits(h, input.host, &input.abilities, warnings)?;
    if input.cgroups_path.is_none() {
        if let Some(flag) = limit_flag(h) {
            return Err(Error::kind(
                Kind::Unsupported,
                format!("--{flag} needs a cgroup, and an ordinary user has none here"),
            )
            .hint("cgroup v2 can delegate one: `systemd-run --user --scope -p Delegate=yes`, or run it as root")
            .topic("cgroups"));
        }
        return Ok(oci::Resources::default());
    }
    Ok(oci::Resources {
        devices: devices(input)?,
        ..resources
    })
}

/// The limits alone, without devices. Errors: limits that contradict each other, or that are out of
/// range.
pub fn limits(
    h: &HostConfig,
    host: &Host,
    abilities: &Abilities,
    warnings: &mut Vec<String>,
) -> Result<oci::Resources> {
    Ok(oci::Resources {
        memory: memory(h, host, abilities.swap, warnings)?,
        cpu: cpu(h)?,
        pids: (h.pids_limit != 0).then(|| oci::Pids {
            limit: Some(h.pids_limit.max(-1)),
            ..oci::Pids::default()
        }),
        block_io: block_io(h, abilities, warnings)?,
        ..oci::Resources::default()
    })
}

/// The first flag that asks for a limit.
fn limit_flag(h: &HostConfig) -> Option<&'static str> {
    [
        ("memory", h.memory != 0),
        ("memory-swap", h.memory_swap != 0),
        ("memory-reservation", h.memory_reservation != 0),
        ("cpus", h.nano_cpus != 0),
        ("cpu-shares", h.cpu_shares != 0),
        ("cpu-quota", h.cpu_quota != 0 || h.cpu_period != 0),
        ("cpuset-cpus", !h.cpuset_cpus.is_empty()),
        ("cpuset-mems", !h.cpuset_mems.is_empty()),
        ("pids-limit", h.pids_limit > 0),
        (
            "blkio-weight",
            h.blkio_weight != 0 || !h.blkio_weight_device.is_empty(),
        ),
        ("device-read-bps", !h.blkio_device_read_bps.is_empty()),
        ("device-write-bps", !h.blkio_device_write_bps.is_empty()),
        ("device-read-iops", !h.blkio_device_read_iops.is_empty()),
        ("device-write-iops", !h.blkio_device_write_iops.is_empty()),
        (
            "cpu-rt-runtime",
            h.cpu_realtime_runtime != 0 || h.cpu_realtime_period != 0,
        ),
        (
            "memory-swappiness",
            h.memory_swappiness.is_some_and(|n| n >= 0),
        ),
        ("oom-kill-disable", h.oom_kill_disable),
    ]
    .into_iter()
    .find_map(|(flag, asked)| asked.then_some(flag))
}

fn memory(
    h: &HostConfig,
    host: &Host,
    swap_limit: bool,
    warnings: &mut Vec<String>,
) -> Result<Option<oci::Memory>> {
    let usage = |text: String| Err(Error::kind(Kind::Usage, text));
    // Docker discards on v2 what only v1 has.
    let v1 = host.cgroups.of("memory").is_some_and(|tree| !tree.v2);
    let swappiness = match h.memory_swappiness {
        None | Some(-1) => None,
        Some(n @ 0..=100) => Some(n as u64),
        Some(n) => {
            return usage(format!(
                "invalid value: {n}, valid memory swappiness range is 0-100"
            ));
        }
    };
    for (flag, asked) in [
        ("memory-swappiness", swappiness.is_some()),
        ("oom-kill-disable", h.oom_kill_disable),
    ] {
        if asked && !v1 {
            warnings.push(format!(
                "--{flag} is of cgroup v1 alone: it has no effect here"
            ));
        }
    }
    if h.oom_kill_disable && v1 && h.memory == 0 {
        warnings.push(
            "--oom-kill-disable without --memory may be dangerous: the host's memory is the limit"
                .into(),
        );
    }
    let (swappiness, oom) = (swappiness.filter(|_| v1), h.oom_kill_disable && v1);
    let none = h.memory == 0 && h.memory_reservation == 0 && h.memory_swap == 0;
    if none && swappiness.is_none() && !oom {
        return Ok(None);
    }
    if h.memory != 0 && h.memory < LEAST_MEMORY {
        return usage("minimum memory limit allowed is 6MB".into());
    }
    if h.memory_swap > 0 && h.memory == 0 {
        return usage(
            "you should always set the memory limit when using the memory-swap limit".into(),
        );
    }
    if h.memory_swap > 0 && h.memory_swap < h.memory {
        return usage("minimum memory-swap limit should be larger than memory limit".into());
    }
    if h.memory != 0 && h.memory_reservation > h.memory {
        return usage("minimum memory limit can not be less than memory reservation limit".into());
    }
    let mut swap = match h.memory_swap {
        0 if h.memory > 0 => Some(h.memory.saturating_mul(2)),
        0 => None,
        n => Some(n),
    };
    if swap.is_some() && !swap_limit {
        if h.memory_swap > 0 {
            warnings.push("this kernel does not account swap: --memory-swap has no effect".into());
        }
        swap = None;
    }
    Ok(Some(oci::Memory {
        limit: Some(h.memory).filter(|n| *n != 0),
        reservation: Some(h.memory_reservation).filter(|n| *n != 0),
        swap,
        swappiness,
        disable_oom_killer: oom.then_some(true),
        ..oci::Memory::default()
    }))
}

fn cpu(h: &HostConfig) -> Result<Option<oci::Cpu>> {
    if h.nano_cpus != 0 && (h.cpu_quota != 0 || h.cpu_period != 0) {
        return Err(Error::kind(
            Kind::Usage,
            "conflicting options: --cpus cannot be used with --cpu-period or --cpu-quota",
        ));
    }
    let cpu = oci::Cpu {
        shares: Some(h.cpu_shares).filter(|n| *n != 0),
        quota: match h.nano_cpus {
            0 => Some(h.cpu_quota).filter(|n| *n != 0),
            nano => Some((nano as i128 * i128::from(PERIOD) / 1_000_000_000) as i64),
        },
        period: match h.nano_cpus {
            0 => Some(h.cpu_period).filter(|n| *n != 0),
            _ => Some(PERIOD),
        },
        cpus: Some(h.cpuset_cpus.clone()).filter(|s| !s.is_empty()),
        mems: Some(h.cpuset_mems.clone()).filter(|s| !s.is_empty()),
        realtime_period: Some(h.cpu_realtime_period).filter(|n| *n != 0),
        realtime_runtime: Some(h.cpu_realtime_runtime).filter(|n| *n != 0),
        ..oci::Cpu::default()
    };
    Ok((cpu != oci::Cpu::default()).then_some(cpu))
}

fn block_io(
    h: &HostConfig,
    abilities: &Abilities,
    warnings: &mut Vec<String>,
) -> Result<Option<oci::BlockIo>> {
    if h.blkio_weight != 0 && !(10..=1000).contains(&h.blkio_weight) {
        return Err(Error::kind(
            Kind::Usage,
            "range of blkio weight is from 10 to 1000",
        ));
    }
    let number = |path: &str| {
        abilities
            .disks
            .get(path)
            .copied()
            .ok_or_else(|| Error::kind(Kind::NotFound, format!("no such block device: {path}")))
    };
    let mut io = oci::BlockIo::default();
    if h.blkio_weight != 0 || !h.blkio_weight_device.is_empty() {
        match abilities.io_weight {
            true => io.weight = Some(h.blkio_weight).filter(|n| *n != 0),
            false => warnings.push(
                "this kernel has no weights of disks (CONFIG_BFQ_GROUP_IOSCHED, \
                                    CONFIG_BLK_CGROUP_IOCOST): --blkio-weight has no effect"
                    .into(),
            ),
        }
    }
    for device in h.blkio_weight_device.iter().filter(|_| abilities.io_weight) {
        let (major, minor) = number(&device.path)?;
        io.weight_device.push(oci::WeightDevice {
            major,
            minor,
            weight: Some(device.weight),
            ..oci::WeightDevice::default()
        });
    }
    for (asked, list) in [
        (&h.blkio_device_read_bps, &mut io.throttle_read_bps_device),
        (&h.blkio_device_write_bps, &mut io.throttle_write_bps_device),
        (&h.blkio_device_read_iops, &mut io.throttle_read_iops_device),
        (
            &h.blkio_device_write_iops,
            &mut io.throttle_write_iops_device,
        ),
    ] {
        for device in asked {
            let (major, minor) = number(&device.path)?;
            list.push(oci::ThrottleDevice {
                major,
                minor,
                rate: device.rate,
                ..oci::ThrottleDevice::default()
            });
        }
    }
    Ok((io != oci::BlockIo::default()).then_some(io))
}

/// Deny all, then allow what every program may have: making nodes (not opening them), the memory
/// devices, terminals.
fn devices(input: &Input<'_>) -> Result<Vec<oci::DeviceRule>> {
    let rule = |allow, typ: Option<&str>, major, minor, access: &str| oci::DeviceRule {
        allow,
        typ: typ.map(Into::into),
        major,
        minor,
        access: Some(access.into()),
        ..oci::DeviceRule::default()
    };
    let h = &input.record.host_config;
    if h.privileged {
        return Ok(vec![rule(true, Some("a"), None, None, "rwm")]);
    }
    let mut rules = vec![
        rule(false, Some("a"), None, None, "rwm"),
        rule(true, Some("c"), None, None, "m"),
        rule(true, Some("b"), None, None, "m"),
    ];
    for (major, minor) in [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 1),
        (5, 2),
    ] {
        rules.push(rule(true, Some("c"), Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(true, Some("c"), Some(136), None, "rwm"));
    for (device, access) in &input.devices {
        rules.push(rule(
            true,
            Some(&device.typ),
            Some(device.major),
            Some(device.minor),
            access,
        ));
    }
    for text in &h.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// `c 1:3 rwm`, `b *:* m`
fn parse_rule(text: &str) -> Result<oci::DeviceRule> {
    let wrong = || {
        Error::kind(Kind::Usage, format!("invalid device cgroup rule: {text:?}"))
            .hint("as 'c 1:3 rwm'")
    };
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [typ, numbers, access] = parts[..] else {
        return Err(wrong());
    };
    let number = |t: &str| match t {
        "*" => Ok(None),
        t => t
            .parse::<u32>()
            .map(|n| Some(i64::from(n)))
            .map_err(|_| wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let fits = ["a", "b", "c"].contains(&typ)
        && !access.is_empty()
        && access.bytes().all(|b| b"rwm".contains(&b));
    if !fits {
        return Err(wrong());
    }
    Ok(oci::DeviceRule {
        allow: true,
        typ: Some(typ.into()),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.into()),
        ..oci::DeviceRule::default()
    })
}

/// `process.rlimits`.
pub fn rlimits(ulimits: &[Ulimit]) -> Vec<oci::Rlimit> {
    let value = |n: i64| if n < 0 { u64::MAX } else { n as u64 };
    ulimits
        .iter()
        .map(|u| oci::Rlimit {
            typ: format!("RLIMIT_{}", u.name.to_ascii_uppercase()),
            hard: value(u.hard),
            soft: value(u.soft),
            ..oci::Rlimit::default()
        })
        .collect()
}
