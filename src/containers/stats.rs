//! What containers use now.
//!
//! What it does: reads the counters of a container's cgroup and of its network namespace; two
//! readings give a rate. A container without a cgroup (an ordinary user's, where none is
//! delegated) has no counters, which is shown as such.
//!
//! What it implements: docker's `stats`: memory is what is used without the file cache that has
//! not been used lately; proc_pid_net(5). Interface: [`Reading`], [`read`], [`Use`].
//! Read next: [`crate::cgroups::stat`].

use super::lifecycle;
use super::state::Status;
use super::store::Container;
use crate::cgroups::stat;
use serde::Serialize;
use std::time::Instant;

/// The counters at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    at: Instant,
    /// `None` without a cgroup.
    group: Option<stat::Stat>,
    /// Bytes received and sent.
    net: Option<(u64, u64)>,
}

/// Reads them. Nothing can be read of one that does not run.
pub fn read(container: &Container, status: &Status) -> Reading {
    let group = match status.pid {
        0 => None,
        _ => lifecycle::cgroup(container)
            .ok()
            .map(|group| stat::stat(&group)),
    };
    let net = std::fs::read_to_string(format!("/proc/{}/net/dev", status.pid)).ok();
    Reading {
        at: Instant::now(),
        group,
        net: net.filter(|_| status.pid > 0).map(|text| traffic(&text)),
    }
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Use {
    /// Hundredths of one CPU, all threads together.
    pub cpu_percent: Option<f64>,
    /// Bytes, without file cache that has not been used lately.
    pub memory: Option<u64>,
    /// Bytes that it may have: the strictest limit over it, or the host's memory.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes received since it started, and sent.
    pub net_received: Option<u64>,
    /// See above.
    pub net_sent: Option<u64>,
    /// Bytes read from disks since it started, and written.
    pub block_read: Option<u64>,
    /// See above.
    pub block_written: Option<u64>,
}

impl Reading {
    /// What it uses at this reading, by what has changed since `before`.
    pub fn since(&self, before: Option<&Reading>) -> Use {
        let cpu = |r: &Reading| Some(r.group.as_ref()?.cpu.as_ref()?.usage_usec);
        let percent = before.and_then(|b| {
            let wall = self.at.duration_since(b.at).as_micros() as f64;
            let spent = cpu(self)?.saturating_sub(cpu(b)?) as f64;
            (wall > 0.0).then_some(spent / wall * 100.0)
        });
        let Some(group) = &self.group else {
            return Use {
                net_received: self.net.map(|n| n.0),
                net_sent: self.net.map(|n| n.1),
                ..Use::default()
            };
        };
        let limit = group.limits.iter().find(|l| l.what == "memory.max");
        let limit = limit.and_then(|l| l.effective.parse::<u64>().ok());
        let host = memory_of_host();
        Use {
            cpu_percent: percent.or(cpu(self).map(|_| 0.0)),
            memory: group
                .memory
                .as_ref()
                .map(|m| m.current.saturating_sub(m.inactive_file)),
            memory_limit: match (limit, host) {
                (Some(limit), Some(host)) => Some(limit.min(host)),
                (limit, host) => limit.or(host),
            },
            pids: group.pids.as_ref().map(|p| p.current),
            net_received: self.net.map(|n| n.0),
            net_sent: self.net.map(|n| n.1),
            block_read: Some(group.io.iter().map(|d| d.rbytes).sum()),
            block_written: Some(group.io.iter().map(|d| d.wbytes).sum()),
        }
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn memory_of_host() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .ok()
        .map(|k| k * 1024)
}

/// Received and sent bytes of all interfaces but loopback, out of /proc/net/dev.
fn traffic(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for (name, counters) in text.lines().filter_map(|l| l.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let fields: Vec<u64> = counters
            .split_whitespace()
            .map(|n| n.parse().unwrap_or(0))
            .collect();
        sum.0 += fields.first().unwrap_or(&0);
        sum.1 += fields.get(8).unwrap_or(&0);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_does_not_count() {
        let text = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs\n\
                    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n\
                    eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(text), (15, 27));
        assert_eq!(traffic(""), (0, 0));
    }
}
