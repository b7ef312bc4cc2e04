//! Which namespaces: the eight switches that `ns run` and `ns enter` share.
//!
//! What it implements: the letters of unshare(1) and nsenter(1); namespaces(7).
//! Interface: [`KindFlags`]. Read next: `run.rs`, `enter.rs`.

use crate::namespaces::Kind;
use std::collections::BTreeSet;

/// One switch a kind of namespace, and one for all.
#[derive(clap::Args, Debug)]
pub struct KindFlags {
    /// The user namespace: ids and capabilities.
    #[arg(short = 'U', long, help_heading = "Namespaces")]
    user: bool,
    /// The mount namespace: which file systems are where.
    #[arg(short, long, alias = "mnt", help_heading = "Namespaces")]
    mount: bool,
    /// The pid namespace: process ids. A new one begins with the command as PID 1.
    #[arg(short, long, help_heading = "Namespaces")]
    pid: bool,
    /// The network namespace: devices, addresses, ports. In a new one the loopback device is up.
    #[arg(short, long, alias = "network", help_heading = "Namespaces")]
    net: bool,
    /// The IPC namespace: System V objects, POSIX message queues.
    #[arg(short, long, help_heading = "Namespaces")]
    ipc: bool,
    /// The UTS namespace: host name and domain name.
    #[arg(short, long, help_heading = "Namespaces")]
    uts: bool,
    /// The cgroup namespace: which cgroup looks like the root.
    #[arg(short = 'C', long, help_heading = "Namespaces")]
    cgroup: bool,
    /// The time namespace: offsets of the monotonic and the boot-time clock.
    #[arg(short = 'T', long, help_heading = "Namespaces")]
    time: bool,
    /// All of them.
    #[arg(short, long, help_heading = "Namespaces")]
    pub all: bool,
}

impl KindFlags {
    /// Those that were named, whether or not `--all` was given as well.
    pub fn named(&self) -> BTreeSet<Kind> {
        [
            (self.user, Kind::User),
            (self.mount, Kind::Mnt),
            (self.uts, Kind::Uts),
            (self.ipc, Kind::Ipc),
            (self.pid, Kind::Pid),
            (self.net, Kind::Net),
            (self.cgroup, Kind::Cgroup),
            (self.time, Kind::Time),
        ]
        .into_iter()
        .filter_map(|(wanted, kind)| wanted.then_some(kind))
        .collect()
    }
}
