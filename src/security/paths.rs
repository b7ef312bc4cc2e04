//! Paths that a container must not read or write, and the devices that it has.
//!
//! What it does: holds docker's lists as data, each entry with its reason. The runtime mounts over
//! the paths and makes the nodes.
//! What it implements: docker's default masked and read-only paths; config-linux.md, "Default
//! Devices"; the kernel's devices document (admin-guide/devices) for the numbers.
//! Interface: [`MASKED`], [`READONLY`], [`DEVICES`], [`LINKS`], [`device_rules`].
//! Read next: [`super::capabilities`].

use crate::spec::runtime::{Device, DeviceRule};

/// A path and why it is kept from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// An absolute path in the container. It may be a file or a directory, or not exist.
    pub path: &'static str,
    /// Why.
    pub why: &'static str,
}

const fn guarded(path: &'static str, why: &'static str) -> Guarded {
    Guarded { path, why }
}

/// Paths that cannot be read: /dev/null lies over a file, an empty tmpfs over a directory.
pub const MASKED: &[Guarded] = &[
    guarded("/proc/asound", "the host's sound devices"),
    guarded("/proc/acpi", "the host's power management"),
    guarded(
        "/proc/interrupts",
        "times of interrupts betray what the host does",
    ),
    guarded("/proc/kcore", "the kernel's memory"),
    guarded(
        "/proc/keys",
        "the keys of the user that this user is on the host",
    ),
    guarded("/proc/latency_stats", "what the host's processes wait for"),
    guarded("/proc/timer_list", "the host's timers"),
    guarded("/proc/timer_stats", "who set the host's timers"),
    guarded("/proc/sched_debug", "the names of the host's processes"),
    guarded("/proc/scsi", "disks could be taken away from the host"),
    guarded("/sys/firmware", "the host's firmware tables"),
    guarded(
        "/sys/devices/virtual/powercap",
        "power readings betray what the host computes",
    ),
];

/// Paths that cannot be written: a read-only bind mount lies over them.
pub const READONLY: &[Guarded] = &[
    guarded("/proc/bus", "configuration of the host's buses"),
    guarded("/proc/fs", "settings of the host's file systems"),
    guarded("/proc/irq", "which CPU serves which interrupt"),
    guarded(
        "/proc/sys",
        "the kernel's parameters; most are the whole host's",
    ),
    guarded(
        "/proc/sysrq-trigger",
        "commands to the kernel: reboot, crash, kill all",
    ),
];

/// Docker also masks each CPU's thermal throttle directory (its counters betray the load).
/// Their number depends on the host, so they are listed from the /sys of now; empty when there are
/// none.
pub fn thermal_throttle() -> Vec<String> {
    let mut found: Vec<String> = (0..)
        .map(|n| format!("/sys/devices/system/cpu/cpu{n}"))
        .take_while(|cpu| std::path::Path::new(cpu).exists())
        .map(|cpu| format!("{cpu}/thermal_throttle"))
        .filter(|path| std::path::Path::new(path).exists())
        .collect();
    found.sort();
    found
}

/// The masked paths as config.json has them, with those of this host.
pub fn masked_paths() -> Vec<String> {
    let fixed = MASKED.iter().map(|g| g.path.to_string());
    fixed.chain(thermal_throttle()).collect()
}

/// The read-only paths as config.json has them.
pub fn readonly_paths() -> Vec<String> {
    READONLY.iter().map(|g| g.path.to_string()).collect()
}

/// A device node of every container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultDevice {
    /// Its path in the container.
    pub path: &'static str,
    /// The major number; all are character devices.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// What it does.
    pub meaning: &'static str,
}

const fn device(
    path: &'static str,
    major: u32,
    minor: u32,
    meaning: &'static str,
) -> DefaultDevice {
    DefaultDevice {
        path,
        major,
        minor,
        meaning,
    }
}

/// The nodes that the specification asks for: character devices of mode 0666, owned by root.
pub const DEVICES: &[DefaultDevice] = &[
    device(
        "/dev/null",
        1,
        3,
        "swallows what is written, reads as empty",
    ),
    device("/dev/zero", 1, 5, "reads as endless zeroes"),
    device(
        "/dev/full",
        1,
        7,
        "reads as zeroes, every write fails with ENOSPC",
    ),
    device(
        "/dev/random",
        1,
        8,
        "random bytes, once the kernel has collected enough",
    ),
    device("/dev/urandom", 1, 9, "random bytes, at once"),
    device(
        "/dev/tty",
        5,
        0,
        "the terminal of the process that opens it",
    ),
];

/// Symbolic links in /dev: (path, target). /dev/ptmx leads to the container's own devpts.
pub const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// [`DEVICES`] as config.json has them.
pub fn default_devices() -> Vec<Device> {
    DEVICES
        .iter()
        .map(|d| Device {
            typ: "c".into(),
            path: d.path.into(),
            major: d.major.into(),
            minor: d.minor.into(),
            file_mode: Some(0o666),
            uid: Some(0),
            gid: Some(0),
            ..Device::default()
        })
        .collect()
}

/// The device rules of a container, in docker's order: nothing; making any node (its use is still
/// ruled); the default devices; terminals of its devpts.
pub fn device_rules() -> Vec<DeviceRule> {
    let rule = |allow, typ: Option<&str>, major, minor, access: &str| DeviceRule {
        allow,
        typ: typ.map(Into::into),
        major,
        minor,
        access: Some(access.into()),
        ..DeviceRule::default()
    };
    let mut rules = vec![
        rule(false, None, None, None, "rwm"),
        rule(true, Some("c"), None, None, "m"),
        rule(true, Some("b"), None, None, "m"),
    ];
    rules.extend(DEVICES.iter().map(|d| {
        let (major, minor) = (Some(d.major.into()), Some(d.minor.into()));
        rule(true, Some("c"), major, minor, "rwm")
    }));
    rules.push(rule(true, Some("c"), Some(136), None, "rwm")); // /dev/pts/N
    rules.push(rule(true, Some("c"), Some(5), Some(2), "rwm")); // /dev/ptmx
    rules
}

/// One rule that allows every device: what `--privileged` gives.
pub fn all_devices_rule() -> DeviceRule {
    DeviceRule {
        allow: true,
        typ: Some("a".into()),
        access: Some("rwm".into()),
        ..DeviceRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    #[test]
    fn the_numbers_are_those_of_this_host() {
        for d in DEVICES {
            let Ok(node) = std::fs::metadata(d.path) else {
                eprintln!(
                    "{} does not exist here, so its numbers are not compared",
                    d.path
                );
                continue;
            };
            assert!(node.file_type().is_char_device(), "{}", d.path);
            assert_eq!(node.rdev(), libc::makedev(d.major, d.minor), "{}", d.path);
        }
    }

    #[test]
    fn rules_start_with_nothing() {
        let rules = device_rules();
        assert!(!rules[0].allow && rules[0].major.is_none());
        assert_eq!(
            rules
                .iter()
                .filter(|r| r.allow && r.major.is_some())
                .count(),
            8
        );
    }
}
