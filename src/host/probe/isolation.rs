//! Probes: seccomp, security modules, capabilities of the caller.
//!
//! What it implements: seccomp(2), seccomp_unotify(2), the kernel's admin-guide/LSM,
//! capabilities(7).
//! Read next: `network.rs`.

use super::{Ability, Probe, has_capability, setting, since};
use crate::sys;

macro_rules! action {
    ($name:literal, $value:literal, $what_for:literal, $since:literal) => {
        Probe {
            group: "isolation",
            name: concat!("SECCOMP_RET_", $name),
            what_for: $what_for,
            source: "seccomp(SECCOMP_GET_ACTION_AVAIL)",
            check: || Ability::of(sys::ask::seccomp_action_available($value), since($since)),
        }
    };
}
macro_rules! flag {
    ($name:literal, $value:literal, $what_for:literal, $since:literal) => {
        Probe {
            group: "isolation",
            name: concat!("SECCOMP_FILTER_FLAG_", $name),
            what_for: $what_for,
            source: "seccomp(SECCOMP_SET_MODE_FILTER, flag, NULL)",
            check: || Ability::of(sys::ask::seccomp_flags_known($value), since($since)),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "isolation",
        name: "seccomp filters",
        what_for: "refusing system calls that containers do not need",
        source: "seccomp(SECCOMP_SET_MODE_FILTER, 0, NULL)",
        check: || {
            Ability::of(sys::ask::seccomp_flags_known(0), |_| {
                "a kernel built with CONFIG_SECCOMP_FILTER".into()
            })
        },
    },
    action!(
        "ERRNO",
        0x0005_0000,
        "answering a refused call with an errno",
        "3.5"
    ),
    action!(
        "KILL_PROCESS",
        0x8000_0000,
        "ending the whole process at a refused call",
        "4.14"
    ),
    action!("LOG", 0x7ffc_0000, "allowing a call and logging it", "4.14"),
    action!(
        "USER_NOTIF",
        0x7fc0_0000,
        "letting a supervisor decide on a call",
        "5.0"
    ),
    flag!("TSYNC", 1, "a filter for all threads at once", "3.17"),
    flag!("LOG", 2, "logging what a filter refuses", "4.14"),
    flag!(
        "SPEC_ALLOW",
        4,
        "filters without the cost of speculation mitigations",
        "4.17"
    ),
    flag!(
        "NEW_LISTENER",
        8,
        "the descriptor on which a supervisor hears of calls",
        "5.0"
    ),
    flag!(
        "WAIT_KILLABLE_RECV",
        0x28,
        "notified calls that signals do not restart (used together with NEW_LISTENER)",
        "5.19"
    ),
    Probe {
        group: "isolation",
        name: "no_new_privs",
        what_for: "set-user-id programs that give nothing; filters without root",
        source: "prctl(PR_GET_NO_NEW_PRIVS)",
        check: || {
            let name = "PR_GET_NO_NEW_PRIVS";
            match sys::process::prctl_get(name, libc::PR_GET_NO_NEW_PRIVS, 0) {
                Ok(1) => Ability::Yes("already set for this process".into()),
                other => Ability::of(other, since("3.5")),
            }
        },
    },
    Probe {
        group: "isolation",
        name: "AppArmor",
        what_for: "--security-opt apparmor=, docker-default",
        source: "/sys/kernel/security/lsm, /sys/module/apparmor/parameters/enabled",
        check: || module("apparmor", "/sys/module/apparmor/parameters/enabled"),
    },
    Probe {
        group: "isolation",
        name: "SELinux",
        what_for: "--security-opt label=",
        source: "/sys/kernel/security/lsm, /sys/fs/selinux",
        check: || module("selinux", "/sys/fs/selinux/enforce"),
    },
    Probe {
        group: "isolation",
        name: "Landlock",
        what_for: "file access rules that a process gives itself",
        source: "landlock_create_ruleset(LANDLOCK_CREATE_RULESET_VERSION)",
        check: || match sys::ask::landlock_version() {
            Ok(version) => Ability::Yes(format!("version {version}")),
            Err(e) => Ability::no(e.to_string(), "Linux 5.13, lsm=…,landlock at boot"),
        },
    },
    Probe {
        group: "isolation",
        name: "all capabilities",
        what_for: "--privileged",
        source: "capget(2), /proc/sys/kernel/cap_last_cap",
        check: || {
            let last = setting("/proc/sys/kernel/cap_last_cap");
            let last: u32 = last.and_then(|s| s.parse().ok()).unwrap_or(40);
            let missing = (0..=last).filter(|n| !has_capability(*n)).count();
            match missing {
                0 => Ability::Yes(format!("all {}", last + 1)),
                n => Ability::no(
                    format!("{n} of {} are missing", last + 1),
                    "root in the initial user namespace; a container inside cannot have more",
                ),
            }
        },
    },
];

fn module(name: &str, sign: &str) -> Ability {
    let active = setting("/sys/kernel/security/lsm");
    if let Some(list) = &active {
        return match list.split(',').any(|m| m == name) {
            true => Ability::yes(),
            false => Ability::no(
                format!("not active; active are {list}"),
                format!("lsm=…,{name} on the kernel's command line"),
            ),
        };
    }
    if std::path::Path::new(sign).exists() {
        return Ability::yes();
    }
    Ability::no(
        format!("/sys/kernel/security is not mounted, and there is no {sign} either"),
        format!("a kernel built with it, and lsm=…,{name} on its command line"),
    )
}
