//! The cpu, cpuset and pids controllers' files, on both versions.
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("CPU", "Cpuset", "PID"),
//! scheduler/sched-bwc.rst, cgroup-v1/cpusets.rst.
//! Interface: [`shares_to_weight`], [`weight_to_shares`]; part of [`super::plan_limits`].
//! Read next: `io.rs`.

use super::{Builder, only_v1};
use crate::cgroups::limits::{CpuMax, Limit, Limits, parse_list};
use crate::error::{Error, Kind, Result};

/// docker's shares (2–262144, 1024 by default) as a v2 weight (1–10000, 100 by default): through
/// (2, 1), (1024, 100) and (262144, 10000), by a quadratic in the logarithms, as current runtimes
/// have it; the older linear formula made 39 of the default.
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// The inverse of [`shares_to_weight`].
pub fn weight_to_shares(weight: u64) -> u64 {
    let w = (weight.clamp(1, 10_000) as f64).log10() + 7.0 / 34.0;
    let l = (-125.0 + (15_625.0 + 4.0 * 612.0 * w).sqrt()) / 2.0;
    (l.exp2().round() as u64).clamp(2, 262_144)
}

impl Builder<'_> {
    pub(super) fn cpuset(&mut self, limits: &Limits) -> Result<()> {
        let wanted = [
            (
                "cpuset.cpus",
                &limits.cpuset.cpus,
                "runs on these processors only",
            ),
            (
                "cpuset.mems",
                &limits.cpuset.mems,
                "takes memory from these NUMA nodes only",
            ),
        ];
        for (file, list, why) in wanted {
            if let Some(list) = list {
                let dir = self.controller("cpuset", "cpuset")?;
                self.exact(dir, "cpuset", file, parse_list(list)?, why);
            }
        }
        Ok(())
    }

    pub(super) fn cpu(&mut self, limits: &Limits) -> Result<()> {
        let c = &limits.cpu;
        if *c == Default::default() {
            return Ok(());
        }
        let dir = self.controller("cpu", "cpu")?;
        const MAX: &str = "runs this many microseconds in each period, then waits for the next";
        if let Some(CpuMax { quota, period }) = c.max {
            let quota_wrong = matches!(quota, Limit::Value(q) if q < 1000);
            if !(1000..=1_000_000).contains(&period) || quota_wrong {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("a quota of {quota} µs in a period of {period} µs cannot be set"),
                )
                .hint("the kernel takes periods of 1000 to 1000000 µs and quotas from 1000 µs"));
            }
            if dir.v2 {
                self.exact(dir, "cpu", "cpu.max", format!("{quota} {period}"), MAX);
            } else {
                let quota = quota.value().map_or("-1".into(), |q| q.to_string());
                let why = "the length of a period in microseconds";
                self.exact(dir, "cpu", "cpu.cfs_period_us", period, why);
                self.exact(dir, "cpu", "cpu.cfs_quota_us", quota, MAX);
            }
        }
        if let Some(burst) = c.burst {
            let file = if dir.v2 {
                "cpu.max.burst"
            } else {
                "cpu.cfs_burst_us"
            };
            self.exact(
                dir,
                "cpu",
                file,
                burst,
                "unused time that may be kept for a later period",
            );
        }
        const WEIGHT: &str = "its share when others want the processor too";
        if let Some(weight) = c.weight.filter(|w| !(1..=10_000).contains(w)) {
            return Err(
                Error::kind(Kind::Usage, format!("a weight of {weight} cannot be set"))
                    .hint("weights are 1 to 10000, 100 by default"),
            );
        }
        match (dir.v2, c.weight, c.shares.filter(|s| *s != 0)) {
            (true, Some(w), _) => self.exact(dir, "cpu", "cpu.weight", w, WEIGHT),
            (true, None, Some(s)) => {
                self.exact(dir, "cpu", "cpu.weight", shares_to_weight(s), WEIGHT);
            }
            (false, Some(w), _) => {
                self.exact(dir, "cpu", "cpu.shares", weight_to_shares(w), WEIGHT);
            }
            (false, None, Some(s)) => {
                let expected = s.clamp(2, 262_144).to_string();
                self.push(dir, "cpu", "cpu.shares", s, Some(expected), WEIGHT);
            }
            (_, None, None) => {}
        }
        if let Some(idle) = c.idle {
            let why = "runs only when nobody else wants the processor";
            self.exact(dir, "cpu", "cpu.idle", u8::from(idle), why);
        }
        if (c.rt_period.is_some() || c.rt_runtime.is_some()) && dir.v2 {
            return Err(only_v1("cpu.rt_runtime_us (realtime bandwidth)"));
        }
        if let Some(period) = c.rt_period {
            self.exact(
                dir,
                "cpu",
                "cpu.rt_period_us",
                period,
                "the length of a realtime period",
            );
        }
        if let Some(time) = c.rt_runtime {
            self.exact(
                dir,
                "cpu",
                "cpu.rt_runtime_us",
                time,
                "realtime microseconds in a period",
            );
        }
        Ok(())
    }

    pub(super) fn pids(&mut self, limits: &Limits) -> Result<()> {
        if let Some(limit) = limits.pids {
            let dir = self.controller("pids", "pids")?;
            let why = "fork fails with EAGAIN beyond this many processes and threads";
            self.exact(dir, "pids", "pids.max", limit, why);
        }
        Ok(())
    }
}
