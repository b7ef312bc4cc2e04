//! The one model of everything that can be looked at. Text, tree, JSON, `--why` and the labs'
//! checks are views of it.
//!
//! What it does: declares the keys of the JSON, each with its documentation and unit. The same
//! declarations print as `glassbox inspect --schema`, one line a key, and a test holds that no
//! output has a key that is not there. Keys are added, never renamed or given another meaning.
//! How values, sources and reasons relate is told in [`super::fact`].
//!
//! What it implements: proc(5), namespaces(7), cgroups(7), capabilities(7), seccomp(2),
//! statmount(2), getrlimit(2); Docker's `inspect` for the keys in `container` and `image`.
//! Interface: [`Document`]. Read next: `process.rs`, which fills most of it.

use super::fact::{Documented, Fact, Plain, listing, model, plain};
use serde_json::Value;
use std::collections::BTreeMap;

model! {
    /// What `glassbox inspect` prints. Exactly one of the sections after `target` is the target's
    /// own; a container that runs has `process` as well.
    Document {
        /// container, process, image, layer, namespace, cgroup or host.
        kind: String,
        /// The target as it was given.
        target: String,
        /// A container of this engine, with docker's keys (State, Config, HostConfig, Mounts, NetworkSettings); in templates they are at the top as well.
        container: Option<Value>,
        /// An image, with docker's keys (Id, RepoTags, Config, RootFS, Size).
        image: Option<Value>,
        /// An unpacked layer.
        layer: Option<Layer>,
        /// A namespace.
        namespace: Option<Namespace>,
        /// A cgroup.
        cgroup: Option<Cgroup>,
        /// A process, of whatever engine or none: for a container its first process.
        process: Option<Process>,
        /// This host: what its kernel and this user may do.
        host: Option<Host>,
    }

    /// A process, from the kernel.
    Process {
        /// Its id as the reader sees it.
        pid: u32,
        /// The kernel's short name (at most 15 bytes).
        name: Fact<String>,
        /// The command line, one text an argument; empty for a kernel thread.
        command: Fact<Vec<String>>,
        /// The program's file.
        executable: Fact<String>,
        /// running, sleeping, disk sleep, stopped, traced, zombie, dead or idle.
        state: Fact<String>,
        /// The parent's id; 0 when it lies outside of the reader's pid namespace.
        parent: Fact<u32>,
        /// The start, in UTC, to the second.
        started: Fact<String>,
        /// How many threads.
        threads: Fact<u32>,
        /// Ids and groups as the reader's user namespace numbers them.
        user: Credentials,
        /// The directory that it resolves / to, as the reader sees it.
        root: Fact<String>,
        /// The working directory.
        cwd: Fact<String>,
        /// The file mode bits that it does not give, in octal.
        umask: Fact<String>,
        /// How the out-of-memory killer weighs it.
        oom: Oom,
        /// Who keeps it: the engine or service, told by its cgroup's path.
        keeper: Fact<Option<Keeper>>,
        /// Its eight namespaces, compared with the host's.
        namespaces: Vec<ProcessNamespace>,
        /// The id maps of its user namespace.
        id_maps: IdMaps,
        /// The mounts of its mount namespace, each after its parent.
        mounts: Fact<Vec<Mount>>,
        /// Its cgroups: limits, use, and what really applies.
        cgroup: Cgroup,
        /// The five capability sets.
        capabilities: Capabilities,
        /// System call filters.
        seccomp: Seccomp,
        /// True when execve can give it no more privileges (prctl PR_SET_NO_NEW_PRIVS).
        no_new_privs: Fact<bool>,
        /// The security module's label: an AppArmor profile or an SELinux context.
        lsm_label: Fact<String>,
        /// Resource limits.
        rlimits: Fact<Vec<Rlimit>>,
        /// The device nodes that may be opened, told by the cgroup's rules.
        devices: Devices,
        /// Interfaces and listening sockets of its network namespace.
        network: Network,
        /// The processes of its pid namespace as a tree, flattened: each after its parent. In the host's pid namespace, itself and its descendants.
        processes: Fact<Vec<TreeProcess>>,
    }

    /// Who a process is.
    Credentials {
        /// User ids: real, effective, saved, file system.
        uid: Fact<Vec<u32>>,
        /// Group ids: real, effective, saved, file system.
        gid: Fact<Vec<u32>>,
        /// Supplementary groups.
        groups: Fact<Vec<u32>>,
        /// The effective user id as the process itself sees it; null when unmapped.
        uid_inside: Option<u32>,
        /// The effective group id as the process itself sees it; null when unmapped.
        gid_inside: Option<u32>,
    }

    /// The out-of-memory killer's view.
    Oom {
        /// 0 (never) to 2000 (first), as of now.
        score: Fact<i32>,
        /// What was added: −1000 to 1000.
        score_adj: Fact<i32>,
    }

    /// Who keeps a process.
    Keeper {
        /// glassbox, docker, podman, containerd, kubernetes, cri-o, lxc, systemd-nspawn, systemd.
        name: String,
        /// The container's id, or the unit's name.
        id: String,
        /// The cgroup path that says so.
        evidence: String,
    }

    /// A namespace of a process.
    ProcessNamespace {
        /// user, mnt, uts, ipc, pid, net, cgroup or time.
        kind: String,
        /// The inode number in /proc/PID/ns: its id while it lives.
        id: Fact<u64>,
        /// host: the same as the host's (PID 1's); own: another.
        relation: Fact<String>,
        /// What it isolates.
        isolates: String,
        /// How many processes (of those that the reader may see) are in it.
        processes: Fact<u32>,
        /// The id of the user namespace that owns it: who has capabilities there may change it.
        owner: Fact<u64>,
    }

    /// How ids inside a user namespace relate to those outside.
    IdMaps {
        /// User ids.
        uid: Fact<Vec<IdRange>>,
        /// Group ids.
        gid: Fact<Vec<IdRange>>,
        /// allow or deny: whether setgroups(2) may be called inside.
        setgroups: Fact<String>,
    }

    /// A range of ids.
    IdRange {
        /// The first id inside.
        inside: u32,
        /// The first id as the reader sees it.
        outside: u32,
        /// How many.
        count: u32,
        /// The same as a sentence.
        words: String,
    }

    /// A mount.
    Mount {
        /// Its id: as in mountinfo.
        id: u64,
        /// The id of the mount that it is attached to.
        parent: u64,
        /// Where it is, seen from the root of the mount namespace.
        point: String,
        /// The file system's type.
        fs_type: String,
        /// What was mounted: a device, or a name.
        source: Option<String>,
        /// Which directory of that file system; other than / for a bind mount.
        root: String,
        /// Major and minor number of the file system.
        device: String,
        /// Neither the mount nor the file system can be written to.
        read_only: bool,
        /// Flags of this mount: ro, nosuid, nodev, noexec, noatime, relatime, nosymfollow, idmapped.
        flags: Vec<String>,
        /// The file system's own options.
        options: Vec<String>,
        /// private, shared, slave, shared and slave, or unbindable.
        propagation: String,
        /// The peer group that it shares events with; null when not shared.
        peer_group: Option<u64>,
        /// The peer group that it receives events from; null when not a slave.
        master: Option<u64>,
        /// uid map of an id-mapped mount, one text a range: inside outside count.
        uid_map: Vec<String>,
        /// gid map of an id-mapped mount.
        gid_map: Vec<String>,
        /// The layers, for an overlay.
        overlay: Option<Overlay>,
    }

    /// The parts of an overlay mount.
    Overlay {
        /// The read-only layers, topmost first.
        lower: Vec<LowerLayer>,
        /// The directory that takes the changes; null when read-only.
        upper: Option<String>,
        /// The kernel's working directory beside it.
        work: Option<String>,
    }

    /// A layer below an overlay.
    LowerLayer {
        /// Its directory, as it was given to mount(2).
        path: String,
        /// Whose store it lies in: glassbox, docker, podman, containerd; null when unknown.
        store: Option<String>,
        /// The chain id, where the store tells it.
        chain_id: Option<String>,
        /// The images of that store that have this layer.
        images: Vec<String>,
    }

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

    /// The five capability sets of capabilities(7).
    Capabilities {
        /// What the kernel checks.
        effective: Fact<CapabilitySet>,
        /// What may be made effective.
        permitted: Fact<CapabilitySet>,
        /// What may survive the execve of a file that asks for it.
        inheritable: Fact<CapabilitySet>,
        /// What execve can ever give.
        bounding: Fact<CapabilitySet>,
        /// What a program that is not root keeps across execve.
        ambient: Fact<CapabilitySet>,
        /// A sentence on the effective set, compared with Docker's default of 14.
        words: Fact<String>,
        /// Effective here and not in Docker's default.
        beyond_docker: Fact<Vec<String>>,
        /// In Docker's default and not effective here.
        less_than_docker: Fact<Vec<String>>,
    }

    /// A set of capabilities.
    CapabilitySet {
        /// The bits, in hex, as in /proc/PID/status.
        hex: String,
        /// The names, in the order of their numbers.
        names: Vec<String>,
        /// Every capability of this kernel is in it.
        all: bool,
    }

    /// System call filtering.
    Seccomp {
        /// disabled, strict or filter.
        mode: Fact<String>,
        /// How many filters are stacked; the strictest answer of all counts.
        filters: Fact<u32>,
        /// What the filters answer, found by running each over every system call.
        verdicts: Fact<Vec<SeccompVerdict>>,
    }

    /// The calls that get one answer.
    SeccompVerdict {
        /// allow, errno EPERM, kill, log, notify, trace, trap; "depends" when arguments decide.
        action: String,
        /// How many calls.
        count: u32,
        /// Their names; left out (empty) for the most frequent answer.
        calls: Vec<String>,
    }

    /// A resource limit of getrlimit(2).
    Rlimit {
        /// RLIMIT_NOFILE and so on.
        name: String,
        /// What applies; null for no limit.
        soft: Option<u64>,
        /// What the process may raise it to; null for no limit.
        hard: Option<u64>,
        /// bytes, files, processes, …; may be empty.
        unit: String,
    }

    /// Which device nodes may be opened.
    Devices {
        /// cgroup v1's list, or the verdict of the BPF programs on v2 for well-known devices.
        rules: Fact<Vec<String>>,
    }

    /// A network namespace, by what /proc shows of it.
    Network {
        /// The interfaces.
        interfaces: Fact<Vec<Interface>>,
        /// Sockets that wait for connections (TCP) or datagrams (UDP).
        listening: Fact<Vec<Listening>>,
    }

    /// A network interface.
    Interface {
        /// Its name.
        name: String,
        /// Bytes received.
        received: u64,
        /// Bytes sent.
        sent: u64,
    }

    /// A listening socket.
    Listening {
        /// tcp, tcp6, udp or udp6.
        protocol: String,
        /// The address that it is bound to.
        address: String,
        /// The port.
        port: u32,
        /// The socket's inode number, which /proc/PID/fd shows too.
        inode: u64,
    }

    /// A process in a tree.
    TreeProcess {
        /// Its id as the reader sees it.
        pid: u32,
        /// Its id in each pid namespace from the reader's inwards; the last is what it sees itself.
        inside: Vec<u32>,
        /// The parent's id as the reader sees it.
        parent: u32,
        /// How many of its ancestors are in this list.
        depth: u32,
        /// The effective user id as the reader sees it.
        uid: u32,
        /// The kernel's short name.
        name: String,
        /// The command line in one text; empty for kernel threads and zombies.
        command: String,
        /// It is the process that was asked for.
        target: bool,
    }

    /// An unpacked layer of this engine's store.
    Layer {
        /// Its chain id: names this layer on top of those below it.
        chain_id: String,
        /// The digest of its tar, where known.
        diff_id: Option<String>,
        /// The chain id of the layer below; null for the lowest.
        parent: Option<String>,
        /// Where it is unpacked.
        directory: String,
        /// The size of its files, in bytes; null unless asked for with --size.
        size: Option<u64>,
        /// The images that have it.
        images: Vec<String>,
        /// The mounts of running processes that use it: pid and mount point.
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

impl Document {
    /// A document without sections.
    pub fn new(kind: &str, target: &str) -> Self {
        Document {
            kind: kind.into(),
            target: target.into(),
            container: None,
            image: None,
            layer: None,
            namespace: None,
            cgroup: None,
            process: None,
            host: None,
        }
    }

    /// The model as plain values, its unread facts and its sources.
    pub fn plain(&self) -> Plain {
        let mut plain = plain(self);
        if let Value::Object(map) = &mut plain.value {
            let absent: Vec<String> = map
                .iter()
                .filter(|(_, v)| v.is_null())
                .map(|(k, _)| k.clone())
                .collect();
            for key in absent {
                map.remove(&key);
            }
        }
        plain
    }

    /// The JSON that `--json` prints; with `why` also the sources. Sections that do not apply are
    /// left out.
    pub fn to_json(&self, why: bool) -> Value {
        let plain = self.plain();
        let mut value = plain.value;
        value["unread"] = serde_json::to_value(plain.unread).unwrap_or_default();
        if why {
            value["sources"] = serde_json::to_value(plain.sources).unwrap_or_default();
        }
        value
    }

    /// What templates see: the JSON, and for a container or image docker's keys at the top, so
    /// that `{{.State.Pid}}` works.
    pub fn for_templates(&self) -> Value {
        let mut value = self.to_json(true);
        let docker = self.container.as_ref().or(self.image.as_ref());
        if let (Some(Value::Object(keys)), Value::Object(map)) = (docker, &mut value) {
            let mut all = keys.clone();
            all.append(map);
            *map = all;
        }
        value
    }

    /// Every key of the model: path, type, documentation.
    pub fn schema() -> Vec<(String, String, String)> {
        let mut lines = listing(&Self::shape());
        for (path, kind, doc) in [
            ("unread", "list of object", "What could not be read."),
            ("unread[].path", "text", "Which key."),
            ("unread[].source", "text", "Where it would have been read."),
            (
                "unread[].why",
                "text",
                "The errno, or the kernel option that is off.",
            ),
            (
                "sources",
                "map of text",
                "With --why: path of a key → file, ioctl or system call.",
            ),
        ] {
            lines.push((path.into(), kind.into(), doc.into()));
        }
        lines
    }
}
