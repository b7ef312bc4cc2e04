//! Probes: each namespace type, id maps, and what limits them.
//!
//! What it implements: namespaces(7), user_namespaces(7), time_namespaces(7), subuid(5),
//! listns(2), kcmp(2).
//! Read next: `cgroups.rs`.

use super::{Ability, Probe, find_program, has_capability, in_child, setting, since, unreadable};
use crate::sys::{self, Errno};

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

macro_rules! namespace {
    ($name:literal, $flag:expr, $limit:literal, $what_for:literal) => {
        Probe {
            group: "namespaces",
            name: concat!($name, " namespace"),
            what_for: $what_for,
            source: concat!("clone3(CLONE_NEW…) in a child; /proc/sys/user/", $limit),
            check: || namespace($flag, $limit),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "namespaces",
        name: "user namespace",
        what_for: "root inside without being root outside; all of rootless operation",
        source: "clone3(CLONE_NEWUSER) and writing uid_map in a child",
        check: user,
    },
    namespace!(
        "mount",
        libc::CLONE_NEWNS as u64,
        "max_mnt_namespaces",
        "a root file system and mounts of its own"
    ),
    namespace!(
        "pid",
        libc::CLONE_NEWPID as u64,
        "max_pid_namespaces",
        "process ids of its own: the first process is PID 1"
    ),
    namespace!(
        "net",
        libc::CLONE_NEWNET as u64,
        "max_net_namespaces",
        "interfaces, routes, ports and a firewall of its own"
    ),
    namespace!(
        "uts",
        libc::CLONE_NEWUTS as u64,
        "max_uts_namespaces",
        "a host name of its own"
    ),
    namespace!(
        "ipc",
        libc::CLONE_NEWIPC as u64,
        "max_ipc_namespaces",
        "System V shared memory and POSIX message queues of its own"
    ),
    namespace!(
        "cgroup",
        libc::CLONE_NEWCGROUP as u64,
        "max_cgroup_namespaces",
        "a view of the cgroup tree that starts at its own group"
    ),
    namespace!(
        "time",
        sys::namespace::CLONE_NEWTIME,
        "max_time_namespaces",
        "offsets of the monotonic and boot clocks of its own"
    ),
    Probe {
        group: "namespaces",
        name: "subordinate ids",
        what_for: "a whole range of uids and gids in a rootless container, not one alone",
        source: "/etc/subuid, /etc/subgid, newuidmap and newgidmap in PATH",
        check: subordinate_ids,
    },
    Probe {
        group: "namespaces",
        name: "listns",
        what_for: "listing namespaces without searching all of /proc",
        source: "listns(2)",
        check: || Ability::of(sys::ask::listns(), since("6.19")),
    },
    Probe {
        group: "namespaces",
        name: "kcmp",
        what_for: "telling whether two processes share a file, memory or file system state",
        source: "kcmp(2)",
        check: || {
            let pid = std::process::id() as i32;
            Ability::of(sys::ask::kcmp_memory(pid, pid), |errno| match errno {
                Errno::ENOSYS => "a kernel built with CONFIG_KCMP".into(),
                _ => "CAP_SYS_PTRACE".into(),
            })
        },
    },
    Probe {
        group: "namespaces",
        name: "foreign namespaces",
        what_for: "reading /proc/PID/ns of every process, so that inspect and ns ls see all",
        source: "readlink(/proc/1/ns/mnt)",
        check: || match std::fs::read_link("/proc/1/ns/mnt") {
            Ok(_) => Ability::yes(),
            Err(e) => unreadable(
                "/proc/1/ns/mnt",
                &e,
                match nix::unistd::geteuid().is_root() {
                    true => {
                        "a security module or sandbox keeps PID 1 from this root; other processes are not concerned"
                    }
                    false => "root; other users see their own processes",
                },
            ),
        },
    },
];

fn namespace(flag: u64, limit: &str) -> Ability {
    let made = in_child(flag, || Ok(String::new()));
    let Err(error) = made else {
        return Ability::yes();
    };
    if error.errno == Errno::EPERM && in_child(flag | NEWUSER, || Ok(String::new())).is_ok() {
        return Ability::Yes("inside a user namespace of one's own".into());
    }
    let path = format!("/proc/sys/user/{limit}");
    let how = match error.errno {
        Errno::EINVAL => "a kernel built with this namespace type".into(),
        Errno::ENOSPC => format!("{path} is {}: raise it", setting(&path).unwrap_or_default()),
        Errno::EPERM => "root (CAP_SYS_ADMIN), or user namespaces for ordinary users".into(),
        _ => String::new(),
    };
    Ability::no(error.to_string(), how)
}

fn user() -> Ability {
    let outcome = in_child(NEWUSER, || Ok(String::new()));
    let Err(error) = outcome else {
        let limit = setting("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        return Ability::Yes(match userns_switches().first() {
            Some(switch) if has_capability(21) => format!("for root; ordinary users: {switch}"),
            _ => format!("at most {limit} a user"),
        });
    };
    let reasons = userns_switches();
    let how = match (error.errno, reasons.first()) {
        (_, Some(reason)) => reason.clone(),
        (Errno::EINVAL, _) => "a kernel built with CONFIG_USER_NS".into(),
        (Errno::EPERM, _) => {
            "a seccomp filter, a chroot or an unmapped uid forbids it; see `glassbox inspect \
             self`"
                .into()
        }
        _ => String::new(),
    };
    Ability::no(error.to_string(), how)
}

/// The settings of this host that take user namespaces from ordinary users, each with its remedy.
fn userns_switches() -> Vec<String> {
    let zero = [
        (
            "/proc/sys/user/max_user_namespaces",
            "user.max_user_namespaces",
        ),
        // Debian's and Ubuntu's own switch.
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "kernel.unprivileged_userns_clone",
        ),
    ];
    let mut reasons: Vec<String> = zero
        .iter()
        .filter(|(path, _)| setting(path).as_deref() == Some("0"))
        .map(|(_, name)| format!("{name} is 0: raise it with sysctl"))
        .collect();
    let apparmor = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if setting(apparmor).as_deref() == Some("1") {
        reasons.push(
            "kernel.apparmor_restrict_unprivileged_userns is 1: set it to 0, or give the program \
             an AppArmor profile with the userns rule"
                .into(),
        );
    }
    reasons
}

/// `name:first:count` lines of subuid(5) that belong to a user, by name or number.
pub(super) fn ranges(text: &str, name: &str, id: u32) -> Vec<(u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let numbers = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            (owner == name || owner.parse() == Ok(id)).then_some(numbers)
        })
        .collect()
}

fn subordinate_ids() -> Ability {
    let uid = nix::unistd::getuid().as_raw();
    let passwd = setting("/etc/passwd").unwrap_or_default();
    let name = passwd
        .lines()
        .find(|l| l.split(':').nth(2) == Some(&uid.to_string()))
        .and_then(|l| l.split(':').next())
        .unwrap_or("")
        .to_string();
    let of = |path: &str| ranges(&setting(path).unwrap_or_default(), &name, uid);
    let (uids, gids) = (of("/etc/subuid"), of("/etc/subgid"));
    let words = |ranges: &[(u64, u64)]| {
        let list: Vec<String> = ranges.iter().map(|(a, n)| format!("{a}+{n}")).collect();
        list.join(" ")
    };
    // CAP_SETUID over the initial user namespace: may map any range without a program's help.
    if has_capability(7) && has_capability(6) {
        return Ability::Yes("any range: this user has CAP_SETUID and CAP_SETGID".into());
    }
    let user = if name.is_empty() {
        uid.to_string()
    } else {
        name
    };
    if uids.is_empty() || gids.is_empty() {
        return Ability::no(
            format!("no range for {user} in /etc/subuid and /etc/subgid"),
            format!(
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            ),
        );
    }
    for program in ["newuidmap", "newgidmap"] {
        if find_program(program).is_none() {
            return Ability::no(format!("{program} is not installed"), "the package uidmap");
        }
    }
    Ability::Yes(format!("uids {}, gids {}", words(&uids), words(&gids)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ranges_of_a_user_by_name_or_number() {
        let text = "ann:100000:65536\n1000:200000:10\nbob:1:2\nbroken\n";
        assert_eq!(
            super::ranges(text, "ann", 1000),
            [(100_000, 65536), (200_000, 10)]
        );
        assert!(super::ranges(text, "", 7).is_empty());
    }
}
