//! The model of what is no process: cgroups, layers, namespaces, the host.
//!
//! Read next: `../text/mod.rs`, which draws it.

use super::super::fact::{Fact, model};
use super::process::TreeProcess;
use std::collections::BTreeMap;

model! {
    /// The cgroups of a process, or one cgroup.
    Cgroup {
        /// unified (v2), legacy (v1), hybrid or none: how this host is laid out.
        layout: Fact<String>,
        /// One entry a hierarchy.
        groups: Fact<Vec<CgroupMembership>>,
        /// The limits that are set here or above, and what applies.
        limits: Fact<Vec<CgroupLimit>>,
        /// What it uses now: v2's file name → value (bytes, microseconds or a count).
        usage: Fact<BTreeMap<String, u64>>,
        /// What happened: memory.oom_kill, pids.max (refused forks), cpu.nr_throttled … → count.
        events: Fact<BTreeMap<String, u64>>,
        /// The groups on the way to the root whose own memory limit was hit, or where the out-of-memory killer chose a process: tells which ancestor's limit fired.
        memory_limit_hit: Fact<Vec<MemoryLimitHit>>,
        /// How long its processes waited.
        pressure: Fact<Vec<Pressure>>,
        /// True when frozen (docker pause).
        frozen: Fact<bool>,
        /// The processes in it (of the first hierarchy that knows it), as the reader numbers them; for a cgroup target only.
        processes: Option<Vec<u32>>,
    }

    /// The place in one hierarchy.
    CgroupMembership {
        /// The controllers of that hierarchy; cgroup2 for the v2 tree.
        hierarchy: String,
        /// The path as the reader's cgroup namespace shows it.
        path: String,
        /// The directory.
        directory: String,
    }

    /// One limit.
    CgroupLimit {
        /// The limit in v2's words: memory.max, pids.max, cpu.max, cpuset.cpus.
        name: String,
        /// The group's own value as the kernel writes it; null when it has no such file.
        own: Option<String>,
        /// The strictest over the group and all above it, as the kernel writes it; max for none.
        effective: String,
        /// True when something sets it.
        limited: bool,
        /// The group that sets what applies; null when none does.
        set_by: Option<String>,
        /// The file that says so.
        file: String,
        /// How much is in use, in the same unit; null where nothing counts it.
        used: Option<u64>,
    }

    /// A group whose memory limit was hit.
    MemoryLimitHit {
        /// The group's path in its hierarchy.
        group: String,
        /// How often its own limit made the kernel reclaim.
        hit: u64,
        /// How many of its own processes the out-of-memory killer ended.
        killed: u64,
        /// True when the most that it ever used came up to its own limit, within a batch of 64 pages. v1 does not count failures at the limit of memory and swap together.
        reached: bool,
    }

    /// How long processes waited for want of a resource (pressure stall information).
    Pressure {
        /// cpu, memory or io.
        resource: String,
        /// Percent of the last 10 seconds in which at least one waited.
        some_avg10: Option<f64>,
        /// Percent of the last 10 seconds in which all waited.
        full_avg10: Option<f64>,
        /// Microseconds altogether in which at least one waited.
        some_total_usec: Option<u64>,
    }

    /// An unpacked layer of this engine's store.
    Layer {
        /// Its chain id: names this layer on top of those below it.
        chain_id: String,
        /// The digest of its tar, where known.
        diff_id: Option<String>,
        /// The chain id of the layer below; null for the lowest.
        parent: Option<String>,
        /// Where it is or will be unpacked.
        directory: String,
        /// True when it is unpacked; it is when a container needed it.
        unpacked: bool,
        /// The size of its files, in bytes; null unless asked for with --size.
        size: Option<u64>,
        /// The images that have it.
        images: Vec<String>,
        /// The mounts that use it, one process for each mount namespace.
        used_by: Vec<String>,
    }

    /// A namespace.
    Namespace {
        /// user, mnt, uts, ipc, pid, net, cgroup or time.
        kind: String,
        /// The inode number.
        id: u64,
        /// True when it is the one that PID 1 is in.
        is_host: Fact<bool>,
        /// What it isolates.
        isolates: String,
        /// The id of the user namespace that owns it.
        owner: Fact<u64>,
        /// The id of the parent, for user and pid namespaces.
        parent: Fact<Option<u64>>,
        /// The user id that made it, for user namespaces.
        owner_uid: Fact<Option<u32>>,
        /// The processes in it.
        processes: Fact<Vec<TreeProcess>>,
        /// What else keeps it alive: bind mounts, descriptors, threads, children.
        kept_by: Fact<Vec<String>>,
    }

    /// This host.
    Host {
        /// The kernel's release.
        kernel: Fact<String>,
        /// The processor's architecture, in Rust's and the kernel's word.
        architecture: String,
        /// The distribution.
        distribution: Fact<String>,
        /// How many processors are online.
        processors: Fact<u32>,
        /// Memory, in bytes.
        memory: Fact<u64>,
        /// Swap, in bytes.
        swap: Fact<u64>,
        /// Active security modules.
        lsm: Fact<Vec<String>>,
        /// The calling user.
        user: HostUser,
        /// How the cgroup trees are laid out.
        cgroups: Fact<Vec<HostHierarchy>>,
        /// What may be done, in the order in which a container needs it.
        abilities: Vec<HostAbility>,
    }

    /// The calling user.
    HostUser {
        /// Effective user id.
        uid: u32,
        /// Effective group id.
        gid: u32,
        /// Inside a user namespace: being uid 0 means less.
        in_user_namespace: Fact<bool>,
        /// Effective capabilities.
        capabilities: Fact<Vec<String>>,
        /// Capabilities of this kernel that are not effective.
        missing_capabilities: Fact<Vec<String>>,
    }

    /// A mounted cgroup tree.
    HostHierarchy {
        /// Its controllers, or name=…; cgroup2 for the v2 tree.
        name: String,
        /// 1 or 2.
        version: u32,
        /// The controllers.
        controllers: Vec<String>,
        /// Where it is mounted.
        mount: String,
        /// The reader's own group.
        own: String,
        /// The own group may be written by this user.
        delegated: bool,
    }

    /// One ability.
    HostAbility {
        /// Which part of a container: namespaces, cgroups, file systems, mount API, processes, isolation, network, programs.
        group: String,
        /// The field's or the kernel's name.
        name: String,
        /// What a container engine needs it for.
        what_for: String,
        /// True when it works here for this user.
        works: Fact<bool>,
        /// What is worth knowing of a yes.
        detail: Option<String>,
        /// The reason of a no.
        why_not: Option<String>,
        /// What can be done about a no.
        how_to_get_it: Option<String>,
    }
}
