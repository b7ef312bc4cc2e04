//! Probes: pidfds, clone3, ptrace, checkpointing, resource limits.
//!
//! What it implements: pidfd_open(2), linux/pidfd.h, clone(2), prctl(2), setrlimit(2), proc(5).
//! Read next: `isolation.rs`.

use super::{Ability, Probe, has_capability, in_child, setting, since, unreadable};
use crate::sys;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "processes",
        name: "clone3",
        what_for: "creating a process in new namespaces with a pidfd, in one call",
        source: "clone3(NULL, 0)",
        check: || Ability::of(sys::ask::clone3_exists(), since("5.3")),
    },
    Probe {
        group: "processes",
        name: "pidfd_open",
        what_for: "naming a process without the danger that its number is reused",
        source: "pidfd_open(2)",
        check: || {
            Ability::of(
                sys::process::pidfd_open(std::process::id() as i32),
                since("5.3"),
            )
        },
    },
    Probe {
        group: "processes",
        name: "PIDFD_GET_INFO",
        what_for: "a process's ids, cgroup and exit status by pidfd, without /proc",
        source: "ioctl(pidfd, PIDFD_GET_INFO)",
        check: || {
            let info = sys::process::pidfd_open(std::process::id() as i32)
                .and_then(sys::ask::pidfd_get_info);
            Ability::of(info, since("6.13"))
        },
    },
    Probe {
        group: "processes",
        name: "PR_SET_CHILD_SUBREAPER",
        what_for: "a monitor that inherits what its container leaves behind",
        source: "prctl(PR_GET_CHILD_SUBREAPER)",
        check: || {
            let result = in_child(0, || {
                let name = "PR_SET_CHILD_SUBREAPER";
                sys::process::prctl(name, libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
                Ok(String::new())
            });
            Ability::of(result, since("3.4"))
        },
    },
    Probe {
        group: "processes",
        name: "ptrace of other users' processes",
        what_for: "reading a container's seccomp filters and system calls",
        source: "capget(2), /proc/sys/kernel/yama/ptrace_scope",
        check: || {
            let scope = setting("/proc/sys/kernel/yama/ptrace_scope");
            match (has_capability(19), scope.as_deref()) {
                (_, Some("3")) => Ability::no("kernel.yama.ptrace_scope is 3", "a reboot"),
                (true, _) => Ability::yes(),
                (false, _) => Ability::no("no CAP_SYS_PTRACE", "root; one's own processes work"),
            }
        },
    },
    Probe {
        group: "processes",
        name: "checkpoint/restore interfaces",
        what_for: "reading back seccomp filters (PTRACE_SECCOMP_GET_FILTER) and /proc/PID/map_files",
        source: "/proc/self/map_files",
        check: || match std::fs::read_dir("/proc/self/map_files") {
            Ok(_) => Ability::yes(),
            Err(e) => unreadable(
                "/proc/self/map_files",
                &e,
                "a kernel built with CONFIG_CHECKPOINT_RESTORE",
            ),
        },
    },
    Probe {
        group: "processes",
        name: "raising resource limits",
        what_for: "--ulimit above what the caller has",
        source: "setrlimit(RLIMIT_NOFILE, hard + 1) in a child; CAP_SYS_RESOURCE",
        check: || {
            let result = in_child(0, || {
                let resource = libc::RLIMIT_CORE;
                // Lowered first, so that there is something to raise and the limit of the kernel
                // itself (fs.nr_open) cannot be in the way.
                sys::process::setrlimit("RLIMIT_CORE", resource, 0, 0)?;
                sys::process::setrlimit("RLIMIT_CORE", resource, 0, 1)?;
                Ok(String::new())
            });
            Ability::of(result, |_| {
                "CAP_SYS_RESOURCE, which this user lacks; limits can only be lowered".into()
            })
        },
    },
    Probe {
        group: "processes",
        name: "lowering the OOM score",
        what_for: "--oom-score-adj below what the caller has",
        source: "write(/proc/self/oom_score_adj) in a child; CAP_SYS_RESOURCE",
        check: || {
            let result = in_child(0, || {
                let path = "/proc/self/oom_score_adj";
                let now: i32 = setting(path).and_then(|s| s.parse().ok()).unwrap_or(0);
                sys::fs::write_file(path, &(now - 1).max(-1000).to_string())?;
                Ok(String::new())
            });
            Ability::of(result, |_| {
                "CAP_SYS_RESOURCE; the score can only be raised".into()
            })
        },
    },
];
