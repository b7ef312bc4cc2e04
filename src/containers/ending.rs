//! Why a container ended, when its status alone does not say.
//!
//! What it does: status 137 has two common reasons that look alike: the out-of-memory killer, and
//! somebody's `kill -9`. While the container's cgroup is still there, its counters tell them
//! apart, and tell whose limit it was: the container's, that of a group above it, or none, when
//! the whole host ran out. The words are written down with the status; `inspect` and `explain`
//! show them.
//!
//! Who runs here: the monitor, between the end of the program and the removal of the cgroup.
//!
//! What it implements: `memory.events` and `memory.events.local` of cgroup v2 (admin-guide:
//! cgroup-v2.rst), `memory.oom_control` and the `failcnt` files of v1 (cgroup-v1/memory.rst).
//! Interface: [`out_of_memory`], [`words`]. Read next: `monitor.rs`, which asks.

use crate::cgroups::Group;
use crate::cgroups::effective::effective_limits;
use crate::inspect::{memory_limit_hit, model::MemoryLimitHit, text::bytes};
use crate::security::signals;
use crate::sys::process::Exit;

/// What the out-of-memory killer did to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfMemory {
    /// How many of its processes it ended.
    pub killed: u64,
    /// Whose limit it was.
    pub whose: String,
}

/// Reads the counters of the container's group. `None`: no hierarchy with memory knows it, so
/// nothing is known. `killed` is 0 when the killer left it alone.
pub fn out_of_memory(group: &Group) -> Option<OutOfMemory> {
    let dir = group.dir_of("memory")?;
    let file = if dir.v2 {
        "memory.events"
    } else {
        "memory.oom_control"
    };
    let text = std::fs::read_to_string(dir.dir.join(file)).ok()?;
    let killed = text.lines().find_map(|l| l.strip_prefix("oom_kill "))?;
    let killed = killed.trim().parse().ok()?;
    let whose = match killed {
        0 => String::new(),
        _ => {
            let limits = effective_limits(group).into_iter().filter_map(|limit| {
                let value = limit.effective.parse().ok()?;
                limit
                    .what
                    .starts_with("memory")
                    .then(|| (limit.set_by.unwrap_or_default(), value))
            });
            let hits = memory_limit_hit(group);
            let own = dir.dir.strip_prefix(&dir.mount).unwrap_or(&dir.dir);
            let own = format!("/{}", own.display());
            whose(
                &own,
                &limits.collect::<Vec<_>>(),
                hits.get().map_or(&[], Vec::as_slice),
            )
        }
    };
    Some(OutOfMemory { killed, whose })
}

/// Whose limit fired: the nearest group that sets one and was hit. `limits` are the limits that
/// apply with the group that sets each.
fn whose(own: &str, limits: &[(String, u64)], hits: &[MemoryLimitHit]) -> String {
    for hit in hits.iter().filter(|h| h.hit > 0 || h.reached) {
        let Some((_, limit)) = limits.iter().find(|(by, _)| *by == hit.group) else {
            continue;
        };
        return match hit.group == own {
            true => format!("at its own limit of {}", bytes(*limit as f64)),
            false => format!(
                "at the limit of {} that the group {} above it sets",
                bytes(*limit as f64),
                hit.group
            ),
        };
    }
    "and no memory limit of it or above it was hit: the whole host ran out".into()
}

/// The end in words; empty when the status says all. `asked`: a user of this engine stopped or
/// killed it.
pub fn words(exit: Exit, memory: Option<&OutOfMemory>, asked: bool) -> String {
    let killed = match memory {
        Some(m) if m.killed > 0 => {
            let count = match m.killed {
                1 => "one of its processes".to_string(),
                n => format!("{n} of its processes"),
            };
            format!("the out-of-memory killer ended {count}, {}", m.whose)
        }
        _ => String::new(),
    };
    let Exit::Signal(number, _) = exit else {
        return killed;
    };
    let signal = signals::name(number);
    if !killed.is_empty() {
        return format!("{signal}: {killed}");
    }
    match (asked, number, memory) {
        (true, ..) => format!("{signal}, sent by `stop`, `kill` or `rm -f`"),
        (_, libc::SIGKILL, Some(_)) => {
            format!("{signal} from another process: the out-of-memory killer took nothing of it")
        }
        (_, libc::SIGKILL, None) => format!(
            "{signal}; without a memory cgroup nobody counted whether by the out-of-memory killer"
        ),
        _ => signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_that_was_hit() {
        let hit = |group: &str, hit| MemoryLimitHit {
            group: group.into(),
            hit,
            killed: 1,
            reached: false,
        };
        let limits = [("/a".to_string(), 1 << 20), ("/a/c".to_string(), 2 << 20)];
        let of = |hits: &[MemoryLimitHit]| whose("/a/c", &limits, hits);
        assert_eq!(
            of(&[hit("/a/c", 3), hit("/a", 9)]),
            "at its own limit of 2 MiB"
        );
        assert!(of(&[hit("/a/c", 0), hit("/a", 9)]).contains("the group /a above it"));
        assert!(of(&[hit("/a/c", 0)]).contains("the whole host"));
        // v1 counts no failure at the limit of memory and swap.
        let full = MemoryLimitHit {
            reached: true,
            ..hit("/a/c", 0)
        };
        assert!(of(&[full]).contains("its own limit"));
    }

    #[test]
    fn two_reasons_for_137() {
        let kill = Exit::Signal(libc::SIGKILL, false);
        let none = OutOfMemory {
            killed: 0,
            whose: String::new(),
        };
        let some = OutOfMemory {
            killed: 1,
            whose: "at its own limit of 16 MiB".into(),
        };
        assert_eq!(
            words(kill, Some(&some), false),
            "SIGKILL: the out-of-memory killer ended one of its processes, at its own limit of 16 MiB"
        );
        assert!(words(kill, Some(&none), false).contains("from another process"));
        assert!(words(kill, Some(&none), true).contains("`stop`"));
        assert!(words(kill, None, false).contains("nobody counted"));
        assert_eq!(words(Exit::Status(137), Some(&none), false), "");
        assert!(words(Exit::Status(0), Some(&some), false).contains("ended one"));
    }
}
