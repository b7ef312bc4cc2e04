//! What this build on this kernel can do, for engines to ask.
//!
//! What it does: fills the features document out of the tables that the stages themselves use, so
//! that it cannot promise what they do not know; what depends on the kernel is asked of it.
//!
//! What it implements: features.md, features-linux.md. Interface: [`features`].
//! Read next: [`crate::spec::runtime::Features`].

use super::hooks::Moment;
use super::{INIT_ANNOTATION, options, scheduling};
use crate::cgroups::systemd::properties::ANNOTATION;
use crate::host::Host;
use crate::namespaces::Kind;
use crate::security::capabilities;
use crate::security::seccomp::bpf::Verdict;
use crate::security::seccomp::names;
use crate::spec::runtime::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, NamespaceType, OCI_VERSION, SeccompAction, SeccompArch, SeccompFeatures,
    SeccompOp,
};
use crate::sys;
use std::collections::BTreeMap;
use std::path::Path;

const NAMESPACES: [(NamespaceType, &str); 8] = [
    (NamespaceType::Cgroup, "cgroup"),
    (NamespaceType::Ipc, "ipc"),
    (NamespaceType::Mount, "mount"),
    (NamespaceType::Network, "network"),
    (NamespaceType::Pid, "pid"),
    (NamespaceType::Time, "time"),
    (NamespaceType::User, "user"),
    (NamespaceType::Uts, "uts"),
];

const ACTIONS: [SeccompAction; 9] = [
    SeccompAction::Allow,
    SeccompAction::Errno,
    SeccompAction::Kill,
    SeccompAction::KillProcess,
    SeccompAction::KillThread,
    SeccompAction::Log,
    SeccompAction::Notify,
    SeccompAction::Trace,
    SeccompAction::Trap,
];

const OPERATORS: [SeccompOp; 7] = [
    SeccompOp::Equal,
    SeccompOp::GreaterOrEqual,
    SeccompOp::Greater,
    SeccompOp::LessOrEqual,
    SeccompOp::Less,
    SeccompOp::MaskedEqual,
    SeccompOp::NotEqual,
];

const ARCHITECTURES: [SeccompArch; 6] = [
    SeccompArch::Aarch64,
    SeccompArch::Arm,
    SeccompArch::Riscv64,
    SeccompArch::X32,
    SeccompArch::X86,
    SeccompArch::X86_64,
];

/// The flags of `linux.seccomp.flags`: the kernel has others, which are not a document's to set.
const FILTER_FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", 2),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 4),
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    // The kernel takes it together with a listener only.
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        32 | sys::seccomp::NEW_LISTENER,
    ),
];

/// The document.
pub fn features(host: &Host) -> Features {
    let hooks = Moment::ALL.map(|m| m.name().to_string());
    let words = |list: scheduling::Words| list.iter().map(|(name, _)| name.to_string()).collect();
    let linux = LinuxFeatures {
        namespaces: Some(namespaces()),
        capabilities: Some(capabilities::all_of_kernel().names()),
        cgroup: Some(CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: Some(true),
            ..CgroupFeatures::default()
        }),
        seccomp: Some(seccomp()),
        apparmor: enabled(false),
        selinux: enabled(false),
        intel_rdt: Some(IntelRdtFeatures {
            enabled: Some(false),
            ..IntelRdtFeatures::default()
        }),
        memory_policy: Some(MemoryPolicyFeatures {
            modes: Some(words(scheduling::MEMORY_MODES)),
            flags: Some(words(scheduling::MEMORY_FLAGS)),
            ..MemoryPolicyFeatures::default()
        }),
        mount_extensions: Some(MountExtensions {
            idmap: enabled(host.at_least(5, 12)),
            ..MountExtensions::default()
        }),
        net_devices: enabled(true),
        ..LinuxFeatures::default()
    };
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: OCI_VERSION.into(),
        hooks: Some(hooks.to_vec()),
        mount_options: Some(options::names()),
        linux: Some(linux),
        annotations: BTreeMap::from([(
            "glassbox.version".to_string(),
            env!("CARGO_PKG_VERSION").to_string(),
        )]),
        potentially_unsafe_config_annotations: vec![
            INIT_ANNOTATION.into(),
            // The dot at the end means all that begin so.
            ANNOTATION.into(),
        ],
        ..Features::default()
    }
}

fn enabled(yes: bool) -> Option<Enabled> {
    Some(Enabled {
        enabled: Some(yes),
        ..Enabled::default()
    })
}

/// Those that this kernel was built with.
fn namespaces() -> Vec<String> {
    let there = |typ| {
        let kind: Kind = super::plan::kind_of(typ);
        Path::new("/proc/self/ns").join(kind.name()).exists()
    };
    let known = NAMESPACES.iter().filter(|(typ, _)| there(*typ));
    known.map(|(_, name)| name.to_string()).collect()
}

fn seccomp() -> SeccompFeatures {
    let available =
        |action: &SeccompAction| sys::seccomp::action_available(Verdict::of(*action, 0).action());
    let flags = |all: bool| -> Vec<String> {
        let taken = FILTER_FLAGS
            .iter()
            .filter(|(_, flag)| all || sys::seccomp::flag_available(*flag));
        taken.map(|(name, _)| name.to_string()).collect()
    };
    let built = |arch: &SeccompArch| names::audit_arch(*arch).is_some();
    SeccompFeatures {
        enabled: Some(sys::seccomp::action_available(Verdict::ALLOW.action())),
        actions: Some(ACTIONS.into_iter().filter(available).collect()),
        operators: Some(OPERATORS.to_vec()),
        archs: Some(ARCHITECTURES.into_iter().filter(built).collect()),
        known_flags: Some(flags(true)),
        supported_flags: Some(flags(false)),
        ..SeccompFeatures::default()
    }
}
