//! The features document: what a runtime can do, for its callers to ask.
//!
//! What it implements: features.md and features-linux.md. `None` means unknown, an empty list
//! means that nothing of the kind is supported. Interface: [`Features`].
//! Read next: [`crate::runtime`].

use super::{SeccompAction, SeccompArch, SeccompOp};
use std::collections::BTreeMap;

document! {
    /// What a runtime can do.
    #[serde(rename_all = "camelCase")]
    pub struct Features {
        required:
        /// The oldest version of the specification that is accepted.
        oci_version_min: String,
        /// The newest.
        oci_version_max: String;
        optional:
        /// Known kinds of hooks.
        hooks: Option<Vec<String>>,
        /// Known mount options.
        mount_options: Option<Vec<String>>,
        /// What only Linux has.
        linux: Option<LinuxFeatures>,
        /// Free-form notes.
        annotations: BTreeMap<String, String>,
        /// Annotations of config.json that change behaviour in ways a caller should not pass on.
        potentially_unsafe_config_annotations: Vec<String>;
    }
}

document! {
    /// Features of Linux.
    #[serde(rename_all = "camelCase")]
    pub struct LinuxFeatures {
        optional:
        /// Namespace types.
        namespaces: Option<Vec<String>>,
        /// Capabilities.
        capabilities: Option<Vec<String>>,
        /// Control groups.
        cgroup: Option<CgroupFeatures>,
        /// The filter of system calls.
        seccomp: Option<SeccompFeatures>,
        /// AppArmor.
        apparmor: Option<Enabled>,
        /// SELinux.
        selinux: Option<Enabled>,
        /// Intel's resource director.
        intel_rdt: Option<IntelRdtFeatures>,
        /// NUMA policies.
        memory_policy: Option<MemoryPolicyFeatures>,
        /// Mounts beyond flags.
        mount_extensions: Option<MountExtensions>,
        /// Network devices that move into the container.
        net_devices: Option<Enabled>;
    }
}

document! {
    /// Supported or not. Absent: unknown.
    pub struct Enabled {
        optional:
        /// Compiled in.
        enabled: Option<bool>;
    }
}

document! {
    /// Control groups.
    #[serde(rename_all = "camelCase")]
    pub struct CgroupFeatures {
        optional:
        /// cgroup v1.
        v1: Option<bool>,
        /// cgroup v2.
        v2: Option<bool>,
        /// Through systemd.
        systemd: Option<bool>,
        /// Through systemd's user manager.
        systemd_user: Option<bool>,
        /// RDMA limits.
        rdma: Option<bool>;
    }
}

document! {
    /// The filter of system calls.
    #[serde(rename_all = "camelCase")]
    pub struct SeccompFeatures {
        optional:
        /// Compiled in.
        enabled: Option<bool>,
        /// Known actions.
        actions: Option<Vec<SeccompAction>>,
        /// Known operators.
        operators: Option<Vec<SeccompOp>>,
        /// Known architectures.
        archs: Option<Vec<SeccompArch>>,
        /// Flags that are understood.
        known_flags: Option<Vec<String>>,
        /// Flags that this kernel takes too.
        supported_flags: Option<Vec<String>>;
    }
}

document! {
    /// Intel's resource director.
    #[serde(rename_all = "camelCase")]
    pub struct IntelRdtFeatures {
        optional:
        /// Compiled in.
        enabled: Option<bool>,
        /// `schemata` is understood.
        schemata: Option<bool>,
        /// `enableMonitoring` is understood.
        monitoring: Option<bool>;
    }
}

document! {
    /// NUMA policies.
    pub struct MemoryPolicyFeatures {
        optional:
        /// Known modes.
        modes: Option<Vec<String>>,
        /// Known flags.
        flags: Option<Vec<String>>;
    }
}

document! {
    /// Mounts beyond flags.
    pub struct MountExtensions {
        optional:
        /// Id-mapped mounts.
        idmap: Option<Enabled>;
    }
}
