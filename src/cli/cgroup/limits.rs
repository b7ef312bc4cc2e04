//! The limit flags, which `create`, `set` and `run` share.
//!
//! Interface: [`LimitFlags`]. Read next: [`crate::cgroups::limits`], whose parsers these are.

use crate::cgroups::Limits;
use crate::cgroups::limits::{
    CpuMax, Device, IoWeight, Limit, parse_count, parse_cpus, parse_hugetlb, parse_io_max,
    parse_list, parse_size,
};
use crate::error::{Context, Error, Kind, Result};

/// What the group may use. Sizes take a unit (64M, 1.5G); `max` means no limit.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// The most memory: above it the kernel reclaims, then kills (memory.max)
    #[arg(short = 'm', long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Above this allocations are slowed down and reclaimed; nobody is killed (memory.high, v2)
    #[arg(long, value_name = "SIZE")]
    pub memory_high: Option<String>,
    /// Reclaimed below this only when nothing unprotected is left (memory.low; v1's soft limit)
    #[arg(long, value_name = "SIZE")]
    pub memory_low: Option<String>,
    /// Never reclaimed below this (memory.min, v2)
    #[arg(long, value_name = "SIZE")]
    pub memory_min: Option<String>,
    /// Memory and swap together, as docker counts it; the same as --memory means no swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// The out-of-memory killer ends the whole group, not one process of it (v2)
    #[arg(long)]
    pub oom_group: bool,
    /// The most processor time, in processors: 1.5 (cpu.max)
    #[arg(long, value_name = "NUMBER", conflicts_with = "cpu_quota")]
    pub cpus: Option<String>,
    /// The same by hand: microseconds in each period
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,
    /// The length of a period in microseconds
    #[arg(long, value_name = "USEC", requires = "cpu_quota")]
    pub cpu_period: Option<u64>,
    /// The share when others want the processor too, 1 to 10000 (cpu.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_weight: Option<u64>,
    /// Runs only when nobody else wants the processor (cpu.idle)
    #[arg(long)]
    pub cpu_idle: bool,
    /// Processors it may run on: 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// NUMA nodes it may take memory from
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// The most processes and threads
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// The share of disks when others want them too, 1 to 10000 (io.weight)
    #[arg(long, value_name = "WEIGHT")]
    pub io_weight: Option<u64>,
    /// A rate for one disk: /dev/sda:rbps=1M,wbps=max,riops=100 (any of rbps wbps riops wiops)
    #[arg(long, value_name = "DEVICE:KEY=N")]
    pub io_max: Vec<String>,
    /// The most huge pages of one size: 2MB=64M
    #[arg(long, value_name = "SIZE=BYTES")]
    pub hugetlb: Vec<String>,
    /// Any file of cgroup v2 by name: memory.zswap.max=0
    #[arg(long = "file", value_name = "FILE=VALUE")]
    pub files: Vec<String>,
}

impl LimitFlags {
    /// The limits. Errors: the flag whose value is wrong.
    pub fn limits(&self) -> Result<Limits> {
        let size = |flag: &str, text: &Option<String>| -> Result<Option<Limit>> {
            text.as_deref()
                .map(parse_size)
                .transpose()
                .map_err(|e| e.context(wrong(flag)))
        };
        let mut limits = Limits::default();
        limits.memory.max = size("memory", &self.memory)?;
        limits.memory.high = size("memory-high", &self.memory_high)?;
        limits.memory.low = size("memory-low", &self.memory_low)?;
        limits.memory.min = size("memory-min", &self.memory_min)?;
        limits.memory.memory_swap = size("memory-swap", &self.memory_swap)?;
        limits.memory.oom_group = self.oom_group.then_some(true);
        if let Some(n) = &self.cpus {
            limits.cpu.max = Some(parse_cpus(n).with_context(|| wrong("cpus"))?);
        }
        if let Some(quota) = &self.cpu_quota {
            limits.cpu.max = Some(CpuMax {
                quota: parse_count(quota).with_context(|| wrong("cpu-quota"))?,
                period: self.cpu_period.unwrap_or(CpuMax::PERIOD),
            });
        }
        limits.cpu.weight = self.cpu_weight;
        limits.cpu.idle = self.cpu_idle.then_some(true);
        let list = |flag: &str, text: &Option<String>| {
            text.as_deref()
                .map(parse_list)
                .transpose()
                .map_err(|e| e.context(wrong(flag)))
        };
        limits.cpuset.cpus = list("cpuset-cpus", &self.cpuset_cpus)?;
        limits.cpuset.mems = list("cpuset-mems", &self.cpuset_mems)?;
        if let Some(n) = &self.pids_limit {
            limits.pids = Some(parse_count(n).with_context(|| wrong("pids-limit"))?);
        }
        limits.io.weight = self.io_weight.map(IoWeight::Io);
        for text in &self.io_max {
            let limit = parse_io_max(text, number_of).with_context(|| wrong("io-max"))?;
            limits.io.max.push(limit);
        }
        for text in &self.hugetlb {
            limits.hugetlb.push(parse_hugetlb(text).with_context(|| wrong("hugetlb"))?);
        }
        for text in &self.files {
            let (file, value) = text.split_once('=').ok_or_else(|| {
                Error::kind(Kind::Usage, format!("--file {text:?} has no value"))
                    .hint("write FILE=VALUE, such as memory.zswap.max=0")
            })?;
            limits.unified.insert(file.into(), value.into());
        }
        Ok(limits)
    }
}

fn wrong(flag: &str) -> String {
    format!("the value of --{flag} is wrong")
}

/// The number of the block device at a path.
fn number_of(path: &str) -> Option<Device> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let metadata = std::fs::metadata(path).ok()?;
    let rdev = metadata.rdev();
    metadata.file_type().is_block_device().then(|| Device {
        major: nix::sys::stat::major(rdev) as u32,
        minor: nix::sys::stat::minor(rdev) as u32,
    })
}
