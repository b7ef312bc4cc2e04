//! The limits of a container: its cgroup's, its devices, its processes' own.
//!
//! What it implements: runtime-spec "Control groups", "Allowed Device list", "POSIX rlimits";
//! docker's rules: swap is as much again as memory unless said, `--cpus` is a quota a tenth of a
//! second, all devices are denied but the harmless ones.
//! Interface: [`resources`], [`rlimits`]. Read next: `privileges.rs`.

use super::super::model::{HostConfig, Ulimit};
use super::Input;
use crate::error::{Error, Kind, Result};
use crate::spec::runtime as oci;

/// The least memory that a container can start in.
const LEAST_MEMORY: i64 = 6 << 20;
/// Length of the period behind `--cpus`, in µs.
const PERIOD: u64 = 100_000;

/// `linux.resources`.
pub fn resources(input: &Input<'_>, warnings: &mut Vec<String>) -> Result<oci::Resources> {
    let h = &input.record.host_config;
    let resources = oci::Resources {
        memory: memory(h, input.swap_limit, warnings)?,
        cpu: cpu(h)?,
        pids: (h.pids_limit != 0).then(|| oci::Pids {
            limit: Some(h.pids_limit.max(-1)),
            ..oci::Pids::default()
        }),
        ..oci::Resources::default()
    };
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
    ]
    .into_iter()
    .find_map(|(flag, asked)| asked.then_some(flag))
}

fn memory(
    h: &HostConfig,
    swap_limit: bool,
    warnings: &mut Vec<String>,
) -> Result<Option<oci::Memory>> {
    let usage = |text: String| Err(Error::kind(Kind::Usage, text));
    if h.memory == 0 && h.memory_reservation == 0 && h.memory_swap == 0 {
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
        ..oci::Cpu::default()
    };
    Ok((cpu != oci::Cpu::default()).then_some(cpu))
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
