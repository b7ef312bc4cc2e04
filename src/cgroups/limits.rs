//! What a group may use, typed: one struct for all layouts.
//!
//! What it does: holds limits in the words of cgroup v2, whose names and units are the clearer
//! ones, and parses what people type (`64M`, `1.5`, `0-3`, `8:0:rbps=1M`). Which kernel file each
//! becomes is the business of `plan.rs`.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Controllers"); the units of
//! docker's flags.
//! Interface: [`Limits`], [`Limit`], [`parse_size`]. Read next: `plan.rs`.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A number, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// This much: bytes, processes or microseconds.
    Value(u64),
    /// No limit (`max`; `-1` where docker and OCI say it so).
    Max,
}

impl Limit {
    /// OCI's and docker's convention: a negative number means no limit.
    pub fn from_signed(n: i64) -> Limit {
        u64::try_from(n).map_or(Limit::Max, Limit::Value)
    }
    /// Parses a kernel file's content (`max` or a number); nothing when it is neither.
    pub fn parse(text: &str) -> Option<Limit> {
        match text.trim() {
            "max" | "-1" => Some(Limit::Max),
            n => n.parse().ok().map(Limit::Value),
        }
    }
    /// The number, if there is a limit.
    pub fn value(self) -> Option<u64> {
        match self {
            Limit::Value(n) => Some(n),
            Limit::Max => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Value(n) => n.fmt(f),
            Limit::Max => f.pad("max"),
        }
    }
}

impl Serialize for Limit {
    /// A number, or the string `max`.
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Limit::Value(n) => s.serialize_u64(*n),
            Limit::Max => s.serialize_str("max"),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(d)? {
            Either::Number(n) => Ok(Limit::Value(n)),
            Either::Text(t) => {
                Limit::parse(&t).ok_or_else(|| serde::de::Error::custom("neither number nor max"))
            }
        }
    }
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The hard limit: reclaim, then the out-of-memory killer.
    pub max: Option<Limit>,
    /// The throttling limit: above it allocations are slowed down and reclaimed (v2 only).
    pub high: Option<Limit>,
    /// Protection when possible (v2 `memory.low`; v1 has the soft limit in its place).
    pub low: Option<Limit>,
    /// Protection always (v2 only).
    pub min: Option<Limit>,
    /// Memory and swap together, as docker and v1 count it. v2 is given the difference to `max`.
    pub memory_swap: Option<Limit>,
    /// The out-of-memory killer ends the whole group (v2 only).
    pub oom_group: Option<bool>,
    /// 0 to 100 (v1 only).
    pub swappiness: Option<u64>,
    /// Processes wait in place of being killed when memory runs out (v1 only).
    pub oom_kill_disable: Option<bool>,
    /// Buffers of TCP connections (v1 only; v2 counts them into `max`).
    pub tcp: Option<Limit>,
}

/// How much processor time in each period, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuMax {
    /// Time to use in one period.
    pub quota: Limit,
    /// The period's length; the kernel takes 1000 to 1000000.
    pub period: u64,
}

impl CpuMax {
    /// The kernel's default period.
    pub const PERIOD: u64 = 100_000;
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// The bandwidth limit.
    pub max: Option<CpuMax>,
    /// The share under competition, 1 to 10000, 100 by default.
    pub weight: Option<u64>,
    /// The same in the units of v1: 2 to 262144, 1024 by default. Used when `weight` is absent.
    pub shares: Option<u64>,
    /// Runs only when nobody else wants the processor.
    pub idle: Option<bool>,
    /// Unused quota that may be kept for later, in microseconds.
    pub burst: Option<u64>,
    /// Realtime period in microseconds (v1 only).
    pub rt_period: Option<u64>,
    /// Realtime time in one period in microseconds (v1 only).
    pub rt_runtime: Option<i64>,
}

/// Which processors and memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpuset {
    /// A list such as `0-2,7`.
    pub cpus: Option<String>,
    /// A list of NUMA nodes.
    pub mems: Option<String>,
}

/// A block device by number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub struct Device {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Limits for one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IoMax {
    /// Which.
    pub device: Device,
    /// Bytes read a second.
    pub rbps: Option<Limit>,
    /// Bytes written a second.
    pub wbps: Option<Limit>,
    /// Reads a second.
    pub riops: Option<Limit>,
    /// Writes a second.
    pub wiops: Option<Limit>,
}

/// A share of a disk, in the unit that it was given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoWeight {
    /// v2's io.weight: 1 to 10000, 100 by default.
    Io(u64),
    /// v1's blkio weight, which BFQ, OCI and docker use: 10 to 1000.
    Blkio(u64),
}

impl IoWeight {
    /// As io.weight. The ends of the scales meet, as runtimes have it.
    pub fn io(self) -> u64 {
        match self {
            IoWeight::Io(w) => w,
            IoWeight::Blkio(w) => 1 + (w.clamp(10, 1000) - 10) * 9999 / 990,
        }
    }
    /// As BFQ's weight, 1 to 1000, 100 by default: the same default, cut off at its end.
    pub fn bfq(self) -> u64 {
        match self {
            IoWeight::Io(w) => w.clamp(1, 1000),
            IoWeight::Blkio(w) => w,
        }
    }
    /// True for a weight within its scale.
    pub fn is_valid(self) -> bool {
        match self {
            IoWeight::Io(w) => (1..=10_000).contains(&w),
            IoWeight::Blkio(w) => (10..=1000).contains(&w),
        }
    }
}

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Io {
    /// The share under competition.
    pub weight: Option<IoWeight>,
    /// The same for single devices.
    pub device_weights: Vec<(Device, IoWeight)>,
    /// Bandwidth limits.
    pub max: Vec<IoMax>,
}

/// Marks on the packets that a group sends (v1 only).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The class for tc's cgroup filter: 0xAAAABBBB is AAAA:BBBB.
    pub class_id: Option<u32>,
    /// Priorities by network interface.
    pub priorities: BTreeMap<String, u32>,
}

/// What a group may hold of one RDMA device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdma {
    /// Handles of the host channel adapter.
    pub handles: Option<u32>,
    /// Its objects.
    pub objects: Option<u32>,
}

/// Everything that a group can be limited in. What is absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory.
    pub memory: Memory,
    /// Processor time.
    pub cpu: Cpu,
    /// Processors.
    pub cpuset: Cpuset,
    /// Number of processes and threads.
    pub pids: Option<Limit>,
    /// Block devices.
    pub io: Io,
    /// Huge pages: (page size as in the kernel's file names: `2MB`, `1GB`; bytes).
    pub hugetlb: Vec<(String, Limit)>,
    /// Marks on network packets.
    pub network: Network,
    /// RDMA devices by name.
    pub rdma: BTreeMap<String, Rdma>,
    /// Any cgroup v2 file by name, written as it is.
    pub unified: BTreeMap<String, String>,
}

impl Limits {
    /// True when nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

fn bad(what: &str, text: &str, want: &str) -> Error {
    Error::kind(Kind::Usage, format!("{text:?} is no {what}")).hint(want.to_string())
}

/// Parses a size: digits with an optional fraction and a unit out of `b k m g t p` (powers of
/// 1024, upper or lower case, `KB` and `KiB` mean the same); `max`, `unlimited` and `-1` mean no
/// limit.
pub fn parse_size(text: &str) -> Result<Limit> {
    let want = "write bytes, or a number with a unit such as 64M, 1.5G, or max";
    let lower = text.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "max" | "-1" | "unlimited") {
        return Ok(Limit::Max);
    }
    let split = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(bad("size", text, want)),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole
            .checked_mul(1 << shift)
            .filter(|n| *n <= i64::MAX as u64)
            .map(Limit::Value)
            .ok_or_else(|| bad("size", text, "it is larger than the kernel can count"));
    }
    match number.parse::<f64>() {
        Ok(n) if number.contains('.') && n * (1u64 << shift) as f64 <= i64::MAX as f64 => {
            Ok(Limit::Value((n * (1u64 << shift) as f64) as u64))
        }
        _ => Err(bad("size", text, want)),
    }
}

/// Parses a count: a number, or `max`, `unlimited`, `-1`.
pub fn parse_count(text: &str) -> Result<Limit> {
    match text.trim() {
        "max" | "unlimited" | "-1" => Ok(Limit::Max),
        n => n
            .parse()
            .map(Limit::Value)
            .map_err(|_| bad("number", text, "write a number, or max")),
    }
}

/// Parses a number of processors (`1.5`) into a quota for the default period. Docker's rule: at
/// least a hundredth.
pub fn parse_cpus(text: &str) -> Result<CpuMax> {
    if text == "max" {
        return Ok(CpuMax {
            quota: Limit::Max,
            period: CpuMax::PERIOD,
        });
    }
    match text.trim().parse::<f64>() {
        Ok(n) if n.is_finite() && (0.01..1e6).contains(&n) => Ok(CpuMax {
            quota: Limit::Value((n * CpuMax::PERIOD as f64).round() as u64),
            period: CpuMax::PERIOD,
        }),
        _ => Err(bad(
            "number of processors",
            text,
            "write a number of at least 0.01, such as 1.5, or max",
        )),
    }
}

/// Parses a list such as `0-2,7` and writes it as the kernel does (sorted, joined).
pub fn parse_list(text: &str) -> Result<String> {
    let wrong = || bad("list", text, "write numbers and ranges, such as 0-2,7");
    let mut set = std::collections::BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.trim().parse().map_err(|_| wrong())?;
        let last: u32 = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last > 65535 {
            return Err(wrong());
        }
        set.extend(first..=last);
    }
    Ok(format_list(set))
}

/// Writes numbers as the kernel's lists: `0-2,7`.
pub fn format_list(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let write = |(a, b): &(u32, u32)| {
        if a == b {
            a.to_string()
        } else {
            format!("{a}-{b}")
        }
    };
    parts.iter().map(write).collect::<Vec<_>>().join(",")
}

/// Parses `DEV:rbps=1M,wbps=max,riops=100`; DEV is `MAJOR:MINOR` or, where `resolve` can tell its
/// number, a path such as /dev/sda.
pub fn parse_io_max(text: &str, resolve: impl Fn(&str) -> Option<Device>) -> Result<IoMax> {
    let want = "write DEVICE:rbps=BYTES,wbps=BYTES,riops=N,wiops=N (any of them); \
                DEVICE is MAJOR:MINOR or a path such as /dev/sda";
    let wrong = || bad("limit for a block device", text, want);
    let (device, keys) = text.rsplit_once(':').ok_or_else(wrong)?;
    let mut limit = IoMax {
        device: parse_device(device, resolve)?,
        ..IoMax::default()
    };
    for pair in keys.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        match key {
            "rbps" => limit.rbps = Some(parse_size(value)?),
            "wbps" => limit.wbps = Some(parse_size(value)?),
            "riops" => limit.riops = Some(parse_count(value)?),
            "wiops" => limit.wiops = Some(parse_count(value)?),
            _ => return Err(wrong()),
        }
    }
    Ok(limit)
}

/// Parses `MAJOR:MINOR`, or asks `resolve` for the number of a path.
pub fn parse_device(text: &str, resolve: impl Fn(&str) -> Option<Device>) -> Result<Device> {
    if let Some((major, minor)) = text.split_once(':')
        && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
    {
        return Ok(Device { major, minor });
    }
    resolve(text).ok_or_else(|| {
        bad(
            "block device",
            text,
            "write MAJOR:MINOR as in /proc/partitions, or the path of a block device",
        )
    })
}

/// Parses `2MB=64M`: a page size as the kernel names it, and bytes.
pub fn parse_hugetlb(text: &str) -> Result<(String, Limit)> {
    let wrong = || bad("huge page limit", text, "write SIZE=BYTES, such as 2MB=64M");
    let (size, bytes) = text.split_once('=').ok_or_else(wrong)?;
    let bytes = parse_size(bytes)?;
    let Limit::Value(size) = parse_size(size)? else {
        return Err(wrong());
    };
    Ok((hugetlb_name(size), bytes))
}

/// The kernel's name for a huge page size: `64KB`, `2MB`, `1GB`.
pub fn hugetlb_name(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_type_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5G", 3 << 29),
            ("2k", 2048),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse_size(text).unwrap(), Limit::Value(bytes), "{text}");
        }
        for text in ["max", "-1", "unlimited", "MAX"] {
            assert_eq!(parse_size(text).unwrap(), Limit::Max, "{text}");
        }
        for text in [
            "",
            "M",
            "64X",
            "-2",
            "1e3",
            "1..5G",
            "9999999999G",
            "6 4M",
            "1.5.5M",
        ] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn processors_and_lists() {
        assert_eq!(parse_cpus("1.5").unwrap().quota, Limit::Value(150_000));
        assert_eq!(parse_cpus("max").unwrap().quota, Limit::Max);
        for text in ["0", "-1", "nan", "inf", "x", "0.001"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
        assert_eq!(parse_list("7,0-1,2").unwrap(), "0-2,7");
        for text in ["", "a", "3-1", "1,,2", "99999"] {
            assert!(parse_list(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices_and_huge_pages() {
        let no = |_: &str| None;
        let limit = parse_io_max("8:16:rbps=1M,wiops=max", no).unwrap();
        assert_eq!(
            limit.device,
            Device {
                major: 8,
                minor: 16
            }
        );
        assert_eq!(limit.rbps, Some(Limit::Value(1 << 20)));
        assert_eq!(limit.wiops, Some(Limit::Max));
        assert_eq!(limit.wbps, None);
        for text in ["8:0", "/dev/none:rbps=1", "8:0:speed=1", "8:0:rbps"] {
            assert!(parse_io_max(text, no).is_err(), "{text}");
        }
        let sda = |p: &str| (p == "/dev/sda").then_some(Device { major: 8, minor: 0 });
        assert_eq!(
            parse_io_max("/dev/sda:rbps=5", sda).unwrap().device.major,
            8
        );
        assert_eq!(
            parse_hugetlb("2M=64M").unwrap(),
            ("2MB".to_string(), Limit::Value(64 << 20))
        );
        assert_eq!(parse_hugetlb("1GB=max").unwrap().0, "1GB");
        assert!(parse_hugetlb("2MB").is_err());
    }
}
