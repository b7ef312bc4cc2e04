//! `linux`: namespaces, id maps, devices, and everything else that only Linux has.
//!
//! What it implements: config-linux.md. Interface: [`Linux`].
//! Read next: `resources.rs` (cgroups), `seccomp.rs`.

use super::{Resources, Seccomp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

document! {
    /// What only Linux has.
    #[serde(rename_all = "camelCase")]
    pub struct Linux {
        optional:
        /// Namespaces to make or join; what is absent is inherited; a duplicate is an error.
        namespaces: Vec<Namespace>,
        /// User ids of a new user namespace.
        uid_mappings: Vec<IdMapping>,
        /// Group ids of a new user namespace.
        gid_mappings: Vec<IdMapping>,
        /// Clocks of a new time namespace: keys `monotonic` and `boottime`.
        time_offsets: BTreeMap<String, TimeOffset>,
        /// Device nodes, beside the default ones.
        devices: Vec<Device>,
        /// Network devices of the host that move into the container, by their name there.
        net_devices: BTreeMap<String, NetDevice>,
        /// The cgroup: absolute means below the hierarchy's root, else wherever the runtime wants.
        /// What is missing on the way to it is made, and stays when the container is deleted.
        cgroups_path: Option<String>,
        /// Its limits.
        resources: Option<Resources>,
        /// Kernel parameters (`net.ipv4.ip_forward`) of the container's namespaces.
        sysctl: BTreeMap<String, String>,
        /// The filter of system calls.
        seccomp: Option<Seccomp>,
        /// `shared`, `slave`, `private` or `unbindable`.
        rootfs_propagation: Option<String>,
        /// Paths in the container that cannot be read.
        masked_paths: Vec<String>,
        /// Paths in the container that cannot be written.
        readonly_paths: Vec<String>,
        /// The SELinux context of the mounts.
        mount_label: Option<String>,
        /// Cache and memory bandwidth of Intel's resource director.
        intel_rdt: Option<IntelRdt>,
        /// personality(2).
        personality: Option<Personality>,
        /// set_mempolicy(2).
        memory_policy: Option<MemoryPolicy>;
    }
}

/// The eight types of namespaces, in the specification's words.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum NamespaceType {
    #[default]
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

document! {
    /// A namespace to make, or to join when it has a path.
    #[serde(rename_all = "camelCase")]
    pub struct Namespace {
        required:
        /// Which type.
        #[serde(rename = "type")]
        typ: NamespaceType;
        optional:
        /// A namespace file in the runtime's mount namespace, absolute.
        path: Option<PathBuf>;
    }
}

document! {
    /// One range of an id map. See user_namespaces(7).
    pub struct IdMapping {
        required:
        /// The first id inside.
        #[serde(rename = "containerID")]
        container_id: u32,
        /// The first id outside.
        #[serde(rename = "hostID")]
        host_id: u32,
        /// How many ids.
        size: u32;
    }
}

document! {
    /// How far a clock of a time namespace is from the host's. See time_namespaces(7).
    pub struct TimeOffset {
        optional:
        /// Whole seconds.
        secs: i64,
        /// Nanoseconds on top of them.
        nanosecs: u32;
    }
}

document! {
    /// A device node (or FIFO) in the container.
    #[serde(rename_all = "camelCase")]
    pub struct Device {
        required:
        /// `c` or `u` (character), `b` (block), `p` (FIFO).
        #[serde(rename = "type")]
        typ: String,
        /// Its path in the container.
        path: PathBuf;
        optional:
        /// The major number.
        major: i64,
        /// The minor number.
        minor: i64,
        /// Its permission bits. Absent: 0666.
        file_mode: Option<u32>,
        /// Its owner in the container. Absent: 0.
        uid: Option<u32>,
        /// Its group in the container. Absent: 0.
        gid: Option<u32>;
    }
}

document! {
    /// A network device that moves into the container.
    pub struct NetDevice {
        optional:
        /// Its name inside. Absent: as outside.
        name: Option<String>;
    }
}

document! {
    /// Intel's resource director: one closid of the resctrl file system.
    #[serde(rename_all = "camelCase")]
    pub struct IntelRdt {
        optional:
        /// The class of service.
        #[serde(rename = "closID")]
        clos_id: Option<String>,
        /// Lines for the class's `schemata` file.
        schemata: Vec<String>,
        /// The L3 cache line of it.
        l3_cache_schema: Option<String>,
        /// The memory bandwidth line of it.
        mem_bw_schema: Option<String>,
        /// Deprecated: monitor the cache.
        #[serde(rename = "enableCMT")]
        enable_cmt: bool,
        /// Deprecated: monitor the bandwidth.
        #[serde(rename = "enableMBM")]
        enable_mbm: bool,
        /// A monitoring group of the container's own.
        enable_monitoring: bool;
    }
}

document! {
    /// The execution domain. See personality(2).
    pub struct Personality {
        required:
        /// `LINUX` or `LINUX32`.
        domain: String;
        optional:
        /// None is defined yet.
        flags: Vec<String>;
    }
}

document! {
    /// The NUMA policy. See set_mempolicy(2).
    pub struct MemoryPolicy {
        required:
        /// `MPOL_DEFAULT`, `MPOL_BIND`, `MPOL_INTERLEAVE`, …
        mode: String;
        optional:
        /// Nodes in cpuset's list form.
        nodes: Option<String>,
        /// `MPOL_F_…` names.
        flags: Vec<String>;
    }
}
