//! The eight kinds of namespace.
//!
//! What it does: names each kind as the kernel does, in its three vocabularies (the file in
//! /proc/PID/ns, the `CLONE_NEW*` flag, the word on a command line), and says what it isolates.
//! What it implements: the table of namespaces(7).
//! Interface: [`Kind`]. Read next: `idmap.rs`.

use crate::error::{Error, Kind as ErrorKind, Result};
use crate::sys::namespace::CLONE_NEWTIME;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One of the eight kinds of namespace. The order is that in which a process may best enter them
/// with [`Kind::ALL`]: the user namespace first, for it gives the capabilities for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// User and group ids, and capabilities (Linux 3.8).
    User,
    /// Mount points (2.4.19, the first; hence its flag is just `NEWNS`).
    Mnt,
    /// Host name and NIS domain name (2.6.19).
    Uts,
    /// System V IPC and POSIX message queues (2.6.19).
    Ipc,
    /// Process ids (2.6.24).
    Pid,
    /// Network devices, addresses, routes, ports, firewall (2.6.29).
    Net,
    /// The root of the cgroup hierarchy (4.6).
    Cgroup,
    /// The boot and monotonic clocks (5.6).
    Time,
}

impl Kind {
    /// All eight.
    pub const ALL: [Kind; 8] = [
        Kind::User,
        Kind::Mnt,
        Kind::Uts,
        Kind::Ipc,
        Kind::Pid,
        Kind::Net,
        Kind::Cgroup,
        Kind::Time,
    ];

    /// The name of its file in /proc/PID/ns, which is also the word before the colon in
    /// `mnt:[4026531841]`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Mnt => "mnt",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Pid => "pid",
            Kind::Net => "net",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// Its flag for clone(2), unshare(2) and setns(2), which is also what `NS_GET_NSTYPE` answers.
    pub fn flag(self) -> u64 {
        match self {
            Kind::User => libc::CLONE_NEWUSER as u64,
            Kind::Mnt => libc::CLONE_NEWNS as u64,
            Kind::Uts => libc::CLONE_NEWUTS as u64,
            Kind::Ipc => libc::CLONE_NEWIPC as u64,
            Kind::Pid => libc::CLONE_NEWPID as u64,
            Kind::Net => libc::CLONE_NEWNET as u64,
            Kind::Cgroup => libc::CLONE_NEWCGROUP as u64,
            Kind::Time => CLONE_NEWTIME,
        }
    }

    /// What a process in a new one sees of its own.
    pub fn isolates(self) -> &'static str {
        match self {
            Kind::User => "user and group ids, and the capabilities over what it owns",
            Kind::Mnt => "the tree of mounts",
            Kind::Uts => "the host name and the NIS domain name",
            Kind::Ipc => "System V IPC objects and POSIX message queues",
            Kind::Pid => "process ids: the first process in it is PID 1",
            Kind::Net => "network devices, addresses, routes, ports and firewall rules",
            Kind::Cgroup => "the root of the cgroup hierarchy, as /proc and /sys show it",
            Kind::Time => "the boot-time and monotonic clocks, shifted by an offset",
        }
    }

    /// What the kernel's limits call it: /proc/sys/user/max_NAME_namespaces.
    pub fn limit_file(self) -> String {
        format!("/proc/sys/user/max_{}_namespaces", self.name())
    }

    /// True for the two kinds that have a parent apart from their owner: they form trees.
    pub fn is_hierarchical(self) -> bool {
        matches!(self, Kind::User | Kind::Pid)
    }

    /// The `glassbox explain` topic that teaches it.
    pub fn topic(self) -> &'static str {
        match self {
            Kind::User => "user-namespaces",
            Kind::Mnt => "mount-namespaces",
            Kind::Uts => "uts-namespaces",
            Kind::Ipc => "ipc-namespaces",
            Kind::Pid => "pid-namespaces",
            Kind::Net => "network-namespaces",
            Kind::Cgroup => "cgroup-namespaces",
            Kind::Time => "time-namespaces",
        }
    }

    /// The kind whose flag this is.
    pub fn from_flag(flag: u64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.flag() == flag)
    }

    /// The kinds whose flags are set, in the order of [`Kind::ALL`].
    pub fn in_flags(flags: u64) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |k| flags & k.flag() != 0)
    }

    /// Parses `mnt:[4026531841]`, what readlink(2) answers for /proc/PID/ns/mnt: the kind and the
    /// inode number, which is the namespace's id while it lives.
    pub fn parse_link(text: &str) -> Option<(Kind, u64)> {
        let (name, rest) = text.split_once(":[")?;
        // The links pid_for_children and time_for_children read as pid: and time: too.
        Some((name.parse().ok()?, rest.strip_suffix(']')?.parse().ok()?))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;
    /// Accepts the kernel's name, and `mount` and `network` as man pages write them.
    fn from_str(text: &str) -> Result<Kind> {
        Kind::ALL
            .into_iter()
            .find(|k| {
                k.name() == text
                    || matches!((k, text), (Kind::Mnt, "mount") | (Kind::Net, "network"))
            })
            .ok_or_else(|| {
                Error::kind(
                    ErrorKind::Usage,
                    format!("{text:?} is no kind of namespace"),
                )
                .hint("the eight kinds are user, mnt, uts, ipc, pid, net, cgroup and time")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_proc_are_understood() {
        assert_eq!(
            Kind::parse_link("mnt:[4026531841]"),
            Some((Kind::Mnt, 4026531841))
        );
        assert_eq!(Kind::parse_link("net:[x]"), None);
        assert_eq!(Kind::parse_link("socket:[12]"), None);
        assert_eq!(Kind::parse_link("/dev/null"), None);
    }

    #[test]
    fn names_and_flags_go_both_ways() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
            assert_eq!(Kind::from_flag(kind.flag()), Some(kind));
        }
        assert_eq!("mount".parse::<Kind>().unwrap(), Kind::Mnt);
        assert!("mnts".parse::<Kind>().is_err());
    }
}
