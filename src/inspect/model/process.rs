//! The model of a process: ids, namespaces, mounts, privileges, limits, the tree around it.
//!
//! Read next: `things.rs`.

use super::super::fact::{Fact, model};
use super::things::Cgroup;

model! {
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
        /// What it does with signals.
        signals: Signals,
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
        /// The id of the user namespace that owns it: who has capabilities there may change it. The first one has no owner.
        owner: Fact<Option<u64>>,
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
        /// Whose store it lies in: glassbox, docker, podman or containerd; null when unknown.
        store: Option<String>,
        /// The chain id, where the store tells it.
        chain_id: Option<String>,
        /// The images of that store that have this layer.
        images: Vec<String>,
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

    /// What a process does with signals.
    Signals {
        /// It has a handler.
        caught: Fact<Vec<String>>,
        /// It ignores them.
        ignored: Fact<Vec<String>>,
        /// They wait until it unblocks them.
        blocked: Fact<Vec<String>>,
        /// SIGTERM ends it or reaches its handler. False for a PID 1 without one: docker stop then waits for its timeout and kills.
        answers_sigterm: Fact<bool>,
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
}
