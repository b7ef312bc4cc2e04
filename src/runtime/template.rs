//! A config.json to begin with: what `runtime spec` writes.
//!
//! What it does: a shell in namespaces of its own, with few privileges, on a read-only root. It is
//! complete, so that everything that can be changed stands there to be changed.
//!
//! What it implements: runc-spec(8), its `--rootless` too. Interface: [`template`], [`rootless`].
//! Read next: [`crate::spec::runtime::Spec`].

use crate::host::{Host, LayoutKind};
use crate::security::paths;
use crate::spec::runtime::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceType, OCI_VERSION,
    Process, Resources, Rlimit, Root, Spec,
};

const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &[]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ),
];

/// The document.
pub fn template(host: &Host) -> Spec {
    let words = |list: &[&str]| list.iter().map(|w| w.to_string()).collect::<Vec<_>>();
    let caps = words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let process = Process {
        terminal: true,
        args: words(&["sh"]),
        env: words(&[
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: caps.clone(),
            effective: caps.clone(),
            permitted: caps,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit {
            typ: "RLIMIT_NOFILE".into(),
            hard: 1024,
            soft: 1024,
            ..Rlimit::default()
        }],
        no_new_privileges: true,
        ..Process::default()
    };
    let mount = |(destination, typ, source, options): &(&str, &str, &str, &[&str])| Mount {
        destination: (*destination).into(),
        typ: Some((*typ).into()),
        source: Some((*source).into()),
        options: words(options),
        ..Mount::default()
    };
    let mut namespaces: Vec<Namespace> = [
        NamespaceType::Pid,
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Mount,
    ]
    .map(new)
    .to_vec();
    if host.cgroups.kind == LayoutKind::Unified {
        namespaces.push(new(NamespaceType::Cgroup));
    }
    let deny_all = DeviceRule {
        access: Some("rwm".into()),
        ..DeviceRule::default()
    };
    Spec {
        oci_version: OCI_VERSION.into(),
        root: Some(Root {
            path: "rootfs".into(),
            readonly: true,
            ..Root::default()
        }),
        hostname: Some("glassbox".into()),
        process: Some(process),
        mounts: MOUNTS.iter().map(mount).collect(),
        linux: Some(Linux {
            namespaces,
            resources: Some(Resources {
                devices: vec![deny_all],
                ..Resources::default()
            }),
            masked_paths: paths::masked_paths(),
            readonly_paths: paths::readonly_paths(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn new(typ: NamespaceType) -> Namespace {
    Namespace {
        typ,
        ..Namespace::default()
    }
}

/// Changes a document so that an ordinary user can run it: a user namespace in which this user is
/// root and the only one there is, the host's network and /sys, no limits.
pub fn rootless(spec: &mut Spec, uid: u32, gid: u32) {
    let linux = spec.linux.get_or_insert_default();
    let foreign = |n: &Namespace| matches!(n.typ, NamespaceType::Network | NamespaceType::User);
    linux.namespaces.retain(|n| !foreign(n));
    linux.namespaces.push(new(NamespaceType::User));
    let only = |host_id| {
        vec![IdMapping {
            host_id,
            size: 1,
            ..IdMapping::default()
        }]
    };
    (linux.uid_mappings, linux.gid_mappings) = (only(uid), only(gid));
    linux.resources = None;
    for mount in &mut spec.mounts {
        // No other id exists in there.
        let other_id = |o: &String| o.starts_with("gid=") || o.starts_with("uid=");
        mount.options.retain(|o| !other_id(o));
        if mount.destination.as_os_str() == "/sys" {
            // A sysfs belongs to the network namespace, and that is the host's.
            mount.typ = Some("none".into());
            mount.source = Some("/sys".into());
            mount.options.insert(0, "rbind".into());
        }
    }
}
