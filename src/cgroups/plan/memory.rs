//! The memory controller's files, on both versions.
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Memory"), cgroup-v1/memory.rst
//! (sections 2 to 7). The one trap is v1's pair of limits: memory alone, and memory plus swap,
//! which the kernel keeps in order at every single write.
//! Interface: part of [`super::plan_limits`]. Read next: `cpu.rs`.

use super::{Builder, Now, V1_UNLIMITED, only_v1, only_v2};
use crate::cgroups::limits::{Limit, Limits};
use crate::error::{Error, Kind, Result};

impl Builder<'_> {
    pub(super) fn memory(&mut self, limits: &Limits, now: Now) -> Result<()> {
        let m = &limits.memory;
        if *m == Default::default() {
            return Ok(());
        }
        let dir = self.controller("memory", "memory")?;
        const MAX: &str = "above this the kernel reclaims, then kills";
        if let (Some(Limit::Value(both)), Some(Limit::Value(max))) = (m.memory_swap, m.max)
            && both < max
        {
            return Err(Error::kind(
                Kind::Usage,
                format!("memory and swap together ({both}) are less than memory alone ({max})"),
            )
            .hint(
                "--memory-swap counts memory plus swap; the same value as --memory means no swap",
            ));
        }
        if dir.v2 {
            if let Some(limit) = m.min {
                self.bytes(
                    dir,
                    "memory",
                    "memory.min",
                    limit,
                    "never reclaimed below this",
                );
            }
            if let Some(limit) = m.low {
                let why = "reclaimed below this only when nothing unprotected is left";
                self.bytes(dir, "memory", "memory.low", limit, why);
            }
            if let Some(limit) = m.high {
                let why = "above this allocations are slowed down and reclaimed, nobody is killed";
                self.bytes(dir, "memory", "memory.high", limit, why);
            }
            if let Some(both) = m.memory_swap {
                let max = m.max.and_then(Limit::value).or(now.memory_max);
                let swap = match (both, max) {
                    (Limit::Max, _) => Limit::Max,
                    (Limit::Value(both), Some(max)) => Limit::Value(both.saturating_sub(max)),
                    (Limit::Value(_), None) => {
                        return Err(Error::kind(
                            Kind::Usage,
                            "a limit for memory and swap together needs one for memory",
                        )
                        .hint("give --memory too: v2 limits swap alone, which is the difference"));
                    }
                };
                let why = "may be swapped out this much, which is the limit of both less memory's";
                self.bytes(dir, "memory", "memory.swap.max", swap, why);
            }
            if let Some(limit) = m.max {
                self.bytes(dir, "memory", "memory.max", limit, MAX);
            }
            if let Some(on) = m.oom_group {
                let why = "the out-of-memory killer ends all of the group, not one process of it";
                self.exact(dir, "memory", "memory.oom.group", u8::from(on), why);
            }
            if m.swappiness.is_some() {
                return Err(only_v1("memory.swappiness"));
            }
            if m.tcp.is_some() {
                return Err(only_v1("memory.kmem.tcp.limit_in_bytes"));
            }
            if m.oom_kill_disable == Some(true) {
                return Err(only_v1(
                    "memory.oom_control (the out-of-memory killer's switch)",
                ));
            }
            return Ok(());
        }
        for (given, name) in [
            (m.high.is_some(), "memory.high"),
            (m.min.is_some(), "memory.min"),
            (m.oom_group.is_some(), "memory.oom.group"),
        ] {
            if given {
                return Err(only_v2(name, "memory"));
            }
        }
        if let Some(limit) = m.low {
            let why = "reclaimed down to this first when the host runs short (v1's soft limit)";
            self.bytes(dir, "memory", "memory.soft_limit_in_bytes", limit, why);
        }
        // memsw counts memory plus swap and must never be below the memory limit, at any moment:
        // the one that makes room goes first.
        const BOTH: &str = "the limit of memory and swap together";
        let both_first = match (m.max, now.memsw) {
            (Some(Limit::Value(max)), Some(memsw)) => max > memsw,
            (Some(Limit::Max), Some(memsw)) => memsw < V1_UNLIMITED,
            _ => false,
        };
        let memsw = "memory.memsw.limit_in_bytes";
        if let (Some(both), true) = (m.memory_swap, both_first) {
            self.bytes(dir, "memory", memsw, both, BOTH);
        }
        if let Some(limit) = m.max {
            self.bytes(dir, "memory", "memory.limit_in_bytes", limit, MAX);
        }
        if let (Some(both), false) = (m.memory_swap, both_first) {
            self.bytes(dir, "memory", memsw, both, BOTH);
        }
        if let Some(limit) = m.tcp {
            let why = "the buffers of its TCP connections grow no further than this";
            self.bytes(dir, "memory", "memory.kmem.tcp.limit_in_bytes", limit, why);
        }
        if let Some(n) = m.swappiness {
            let why = "how readily its memory is swapped out rather than its file cache dropped";
            self.exact(dir, "memory", "memory.swappiness", n, why);
        }
        if let Some(off) = m.oom_kill_disable {
            let why = "out of memory, its processes wait in place of being killed";
            self.push(
                dir,
                "memory",
                "memory.oom_control",
                u8::from(off),
                None,
                why,
            );
        }
        Ok(())
    }
}
