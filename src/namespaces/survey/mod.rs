//! The survey: which namespaces there are, who is in them, who owns them, what keeps them alive.
//!
//! What it does: nothing in the kernel lists namespaces to an ordinary program, so the survey
//! gathers them from every place that can hold one, and remembers where it saw each: that is at
//! the same time the answer to "why does it still exist?".
//!
//! | Keeper | Seen in |
//! |---|---|
//! | a process in it | /proc/PID/ns/KIND |
//! | a thread that went its own way | /proc/PID/task/TID/ns/KIND |
//! | the place for next children | /proc/PID/task/TID/ns/pid_for_children, time_for_children |
//! | an open descriptor | /proc/PID/fd → `net:[4026532277]` |
//! | a bind mount, in any mount namespace | /proc/PID/mountinfo: type nsfs, root `net:[…]` |
//! | the same, where no process is | listmount(2), statmount(2) by the namespace's id |
//! | a socket made in a network namespace | pidfd_getfd, then `SIOCGSKNS` |
//! | a namespace below it, or one it owns | `NS_GET_PARENT`, `NS_GET_USERNS` |
//!
//! What it implements: "Namespace lifetime" of namespaces(7); proc_pid_ns(5); ioctl_nsfs(2). It
//! writes nothing. What may not be read is counted with the reason, never silently left out.
//!
//! Interface: [`Survey::of_host`], [`Namespace`], [`Keeper`]. Read next: `scan.rs`, then
//! `relations.rs`, then `tree.rs`.

mod describe;
pub mod parse;
mod relations;
mod scan;
mod tree;

pub use tree::{Node, Trees};

use super::Kind;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// All namespaces that this caller can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// By kind, then by id.
    pub namespaces: Vec<Namespace>,
    /// What could not be read, and why.
    pub unread: Vec<Unread>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its inode number in nsfs: its id for as long as it lives.
    pub id: u64,
    /// The surveying process is in it.
    pub ours: bool,
    /// The processes in it, in ascending order.
    pub processes: Vec<i32>,
    /// The one of them that started first.
    pub oldest: Option<Process>,
    /// The user namespace that owns it: capabilities there are capabilities over it. Absent for
    /// the initial user namespace and where it may not be known (`owner_unread` says why).
    pub owner: Option<u64>,
    /// Why the owner is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_unread: Option<String>,
    /// The namespace above it; only user and pid namespaces have one.
    pub parent: Option<u64>,
    /// For a user namespace: the user id that made it, as numbered in ours.
    pub owner_uid: Option<u32>,
    /// What keeps it alive, strongest first. Empty only for one that was gone when looked at
    /// again, or that is held by something that no interface of the kernel shows.
    pub kept_by: Vec<Keeper>,
}

/// A process, briefly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, as the mounted /proc numbers it.
    pub pid: i32,
    /// Its command line; the name in brackets for a kernel thread.
    pub command: String,
    /// The effective user id that its /proc directory belongs to.
    pub uid: u32,
}

/// One reason why a namespace exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Keeper {
    /// Processes are in it.
    Processes {
        /// How many.
        count: usize,
    },
    /// A thread is in it, while its process is in another.
    Thread {
        /// The process.
        pid: i32,
        /// The thread.
        tid: i32,
        /// The process's command.
        command: String,
    },
    /// A process has chosen it for its next children.
    ForChildren {
        /// The process.
        pid: i32,
        /// Its command.
        command: String,
    },
    /// An open file descriptor.
    Descriptor {
        /// Whose.
        pid: i32,
        /// Its number.
        fd: i32,
        /// The process's command.
        command: String,
    },
    /// A bind mount.
    Mount {
        /// Where.
        path: String,
        /// In which mount namespace.
        mount_namespace: u64,
        /// A process there, to find the path through /proc/PID/root; none where that mount
        /// namespace itself is only pinned or held open.
        pid: Option<i32>,
    },
    /// A socket that was made in it is held by a process in another.
    Socket {
        /// Whose.
        pid: i32,
        /// Its number.
        fd: i32,
        /// The process's command.
        command: String,
    },
    /// Namespaces below it.
    Children {
        /// Their ids.
        ids: Vec<u64>,
    },
    /// Namespaces that it owns (user namespaces only).
    Owned {
        /// How many.
        count: usize,
    },
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// What: `the namespaces of a process`, `the open descriptors of a process`…
    pub what: String,
    /// How often: mostly of how many processes.
    pub count: usize,
    /// The kernel's answer.
    pub why: String,
}

impl fmt::Display for Unread {
    /// `the namespaces of a process could not be read, 3 times: EACCES (Permission denied)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = match self.count {
            1 => String::new(),
            n => format!(", {n} times"),
        };
        write!(f, "{} could not be read{times}: {}", self.what, self.why)
    }
}

impl Survey {
    /// Surveys all that this process may see. Errors: /proc is not mounted.
    pub fn of_host() -> Result<Survey> {
        let mut scan = scan::Scan::new()?;
        scan.processes()?;
        scan.mounts();
        relations::follow(&mut scan);
        Ok(scan.finish())
    }

    /// The namespace of a kind with this id.
    pub fn get(&self, kind: Kind, id: u64) -> Option<&Namespace> {
        self.namespaces
            .iter()
            .find(|n| n.kind == kind && n.id == id)
    }

    /// The namespaces that this process is in, by kind.
    pub fn of_process(&self, pid: i32) -> BTreeMap<Kind, &Namespace> {
        self.namespaces
            .iter()
            .filter(|n| n.processes.contains(&pid))
            .map(|n| (n.kind, n))
            .collect()
    }
}
