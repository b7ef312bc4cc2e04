//! The flags of limits: those that `run`, `create` and `update` share, and those of disks.
//!
//! Interface: [`LimitFlags`], [`DiskFlags`]. Read next: `container_flags.rs`, `update.rs`;
//! [`crate::containers::config`] says what contradicts what.

use crate::containers::flags;
use crate::containers::model::HostConfig;
use crate::error::Result;
use crate::ui;

/// Limits that a container may be given at any time.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitFlags {
    /// Memory limit
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Limit of memory and swap together (-1: no limit of swap)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Memory that is left to it when the host runs short
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// For docker's users: no kernel since 5.4 has this limit
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// Number of CPUs, as 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<String>,
    /// Weight against other containers (1024 is usual)
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// CPU time in a period in microseconds
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Length of a realtime period in microseconds (cgroup v1)
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,
    /// Realtime CPU time in a period in microseconds (cgroup v1)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs that it may use, as 0-2,5
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Number of processes and threads (-1: no limit)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Share of the disks, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
}

impl LimitFlags {
    /// Puts what was said over `h`. Errors: a value that is none.
    pub fn apply(&self, h: &mut HostConfig) -> Result<()> {
        fn set<T: Clone>(to: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *to = value.clone();
            }
        }
        let size = |to: &mut i64, value: &Option<String>| -> Result<()> {
            if let Some(value) = value {
                *to = flags::bytes(value)?;
            }
            Ok(())
        };
        size(&mut h.memory, &self.memory)?;
        size(&mut h.memory_reservation, &self.memory_reservation)?;
        match self.memory_swap.as_deref() {
            Some("-1") => h.memory_swap = -1,
            _ => size(&mut h.memory_swap, &self.memory_swap)?,
        }
        if let Some(cpus) = &self.cpus {
            h.nano_cpus = flags::nano_cpus(cpus)?;
        }
        if self.kernel_memory.is_some() {
            ui::warn("--kernel-memory has no effect: the kernel's own memory counts into --memory");
        }
        set(&mut h.cpu_shares, &self.cpu_shares);
        set(&mut h.cpu_period, &self.cpu_period);
        set(&mut h.cpu_quota, &self.cpu_quota);
        set(&mut h.cpu_realtime_period, &self.cpu_rt_period);
        set(&mut h.cpu_realtime_runtime, &self.cpu_rt_runtime);
        set(&mut h.cpuset_cpus, &self.cpuset_cpus);
        set(&mut h.cpuset_mems, &self.cpuset_mems);
        set(&mut h.pids_limit, &self.pids_limit);
        set(&mut h.blkio_weight, &self.blkio_weight);
        Ok(())
    }
}

/// Limits that a container keeps from its creation on.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub struct DiskFlags {
    /// Share of one disk
    #[arg(long, value_name = "DEVICE:N")]
    blkio_weight_device: Vec<String>,
    /// Bytes read a second from a disk
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_read_bps: Vec<String>,
    /// Bytes written a second to a disk
    #[arg(long, value_name = "DEVICE:SIZE")]
    device_write_bps: Vec<String>,
    /// Reads a second from a disk
    #[arg(long, value_name = "DEVICE:N")]
    device_read_iops: Vec<String>,
    /// Writes a second to a disk
    #[arg(long, value_name = "DEVICE:N")]
    device_write_iops: Vec<String>,
    /// How readily its memory is swapped out, 0 to 100 (cgroup v1; -1: the host's)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    memory_swappiness: Option<i64>,
    /// Wait in place of being killed when memory runs out (cgroup v1)
    #[arg(long)]
    oom_kill_disable: bool,
}

impl DiskFlags {
    /// Puts what was said over `h`. Errors: a value that is none.
    pub fn apply(&self, h: &mut HostConfig) -> Result<()> {
        let throttles = |list: &[String], sizes| -> Result<Vec<_>> {
            list.iter()
                .map(|text| flags::throttle_device(text, sizes))
                .collect()
        };
        h.blkio_device_read_bps = throttles(&self.device_read_bps, true)?;
        h.blkio_device_write_bps = throttles(&self.device_write_bps, true)?;
        h.blkio_device_read_iops = throttles(&self.device_read_iops, false)?;
        h.blkio_device_write_iops = throttles(&self.device_write_iops, false)?;
        let weights = self
            .blkio_weight_device
            .iter()
            .map(|text| flags::weight_device(text));
        h.blkio_weight_device = weights.collect::<Result<_>>()?;
        h.memory_swappiness = self.memory_swappiness;
        h.oom_kill_disable = self.oom_kill_disable;
        Ok(())
    }
}
