//! The mounts of a container: its root, the kernel's file systems, and what the user asked for.
//!
//! What it implements: docker's default mounts; runtime-spec "Mounts" (applied in order, so a
//! parent stands before what is mounted below it); overlayfs's options.
//! Interface: [`all`], [`Binding`], [`volumes_are_filled`], [`rejoin`]. Read next: `resources.rs`.

use super::Input;
use crate::error::{Error, Kind, Result};
use crate::spec::runtime as oci;
use crate::spec::runtime::NamespaceType;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A mount of the user's, its source resolved to a path on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: String,
    /// Only this path below the source, which leads nowhere else.
    pub subpath: Option<String>,
    /// Cannot be written to.
    pub read_only: bool,
    /// Neither can what is mounted below it.
    pub read_only_below: bool,
    /// `rprivate`, `rslave`, `shared`…
    pub propagation: String,
    /// Without what is mounted below the source.
    pub non_recursive: bool,
    /// A new volume: it begins with the image's content of its place.
    pub copy_up: bool,
}

/// The runtime's option for a mount that begins with the image's content of its place.
const COPY_UP: &str = "copyup";
/// The runtime's option for a source in another mount namespace.
const FOREIGN: &str = "mntns=";
/// The runtime's option for a path below the source.
const SUBPATH: &str = "subpath=";
/// Size of /dev/shm when none is asked for.
pub(in crate::containers) const SHM: i64 = 64 << 20;

/// Every mount in order.
pub fn all(input: &Input<'_>) -> Result<Vec<oci::Mount>> {
    let h = &input.record.host_config;
    let mut list = vec![root(input)];
    list.push(match h.pid_mode != "host" || input.id_maps.is_none() {
        true => mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        // Only the owner of a pid namespace may mount its proc; a copy of the host's works.
        false => mount(
            "/proc",
            "bind",
            "/proc",
            &["rbind", "nosuid", "noexec", "nodev"],
        ),
    });
    list.push(mount(
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ));
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    if maps_group(input, 5) {
        pts.push("gid=5"); // the group `tty` of every distribution
    }
    list.push(mount("/dev/pts", "devpts", "devpts", &pts));
    let access = if h.privileged { "rw" } else { "ro" };
    list.push(mount(
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", access],
    ));
    list.push(mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", access],
    ));
    let size = format!("size={}", if h.shm_size > 0 { h.shm_size } else { SHM });
    match h.ipc_mode.as_str() {
        "host" => {
            // In the host's IPC namespace a mount of mqueue shows the host's queues; only its
            // owner may make one.
            if input.id_maps.is_none() {
                let options = ["nosuid", "noexec", "nodev"];
                list.push(mount("/dev/mqueue", "mqueue", "mqueue", &options));
            }
            let options = ["rbind", "nosuid", "noexec", "nodev"];
            list.push(mount("/dev/shm", "bind", "/dev/shm", &options));
        }
        mode => {
            list.push(mount(
                "/dev/mqueue",
                "mqueue",
                "mqueue",
                &["nosuid", "noexec", "nodev"],
            ));
            if let Some(namespace) = input.joins.get("mnt") {
                // The memory that processes of one IPC namespace share by name is shared as well.
                let place = format!("{FOREIGN}{}", namespace.display());
                let options = ["rbind", "nosuid", "noexec", "nodev", place.as_str()];
                list.push(mount("/dev/shm", "bind", "/dev/shm", &options));
            } else if mode != "none" {
                let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
                list.push(mount("/dev/shm", "tmpfs", "shm", &options));
            }
        }
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        let source = input.names.join(name);
        let destination = format!("/etc/{name}");
        let options: &[&str] = match h.readonly_rootfs {
            true => &["rbind", "rprivate", "ro"],
            false => &["rbind", "rprivate"],
        };
        list.push(bind(&source, &destination, options));
    }
    let users = users(input)?;
    // What the user mounts at a default place replaces the default.
    list.retain(|m| {
        m.destination == Path::new("/") || users.iter().all(|u| u.destination != m.destination)
    });
    for user in users {
        // A parent stands before what is mounted below it: /etc before /etc/hosts. Not if places
        // for them could not be made in it.
        let read_only = user.options.iter().any(|o| o == "ro");
        let below = |m: &oci::Mount| !read_only && m.destination.starts_with(&user.destination);
        let at = list.iter().position(below).unwrap_or(list.len());
        list.insert(at, user);
    }
    Ok(list)
}

/// For a start after the first: a volume that was emptied stays empty.
pub fn volumes_are_filled(spec: &mut oci::Spec) {
    for mount in &mut spec.mounts {
        mount.options.retain(|option| option != COPY_UP);
    }
}

/// For a start after the first: the namespaces that are shared with other containers, as files of
/// those containers' first processes of now. True when something has changed.
pub fn rejoin(spec: &mut oci::Spec, joins: &BTreeMap<&'static str, PathBuf>) -> bool {
    let mut changed = false;
    for namespace in spec.linux.iter_mut().flat_map(|l| &mut l.namespaces) {
        let name = match namespace.typ {
            NamespaceType::Network => "net",
            NamespaceType::Pid => "pid",
            NamespaceType::Ipc => "ipc",
            NamespaceType::User => "user",
            _ => continue,
        };
        if let Some(path) = joins.get(name).filter(|_| namespace.path.is_some()) {
            changed |= namespace.path.replace(path.clone()).as_ref() != Some(path);
        }
    }
    let options = spec.mounts.iter_mut().flat_map(|m| &mut m.options);
    for option in options.filter(|o| o.starts_with(FOREIGN)) {
        if let Some(path) = joins.get("mnt") {
            let now = format!("{FOREIGN}{}", path.display());
            changed |= *option != now;
            *option = now;
        }
    }
    changed
}

/// Shared or slave binds need a root that lets such events in.
pub fn root_propagation(input: &Input<'_>) -> Option<String> {
    let has = |p: &[&str]| {
        input
            .bindings
            .iter()
            .any(|b| p.contains(&b.propagation.as_str()))
    };
    if has(&["shared", "rshared"]) {
        return Some("shared".into());
    }
    has(&["slave", "rslave"]).then(|| "rslave".into())
}

fn users(input: &Input<'_>) -> Result<Vec<oci::Mount>> {
    let h = &input.record.host_config;
    let mut list = Vec::new();
    for b in &input.bindings {
        let recursive = if b.non_recursive { "bind" } else { "rbind" };
        let access = if b.read_only { "ro" } else { "rw" };
        let propagation = if b.propagation.is_empty() {
            "rprivate"
        } else {
            &b.propagation
        };
        let mut options = vec![recursive, access, propagation];
        if b.read_only && b.read_only_below && !b.non_recursive {
            options.push("rro");
        }
        if b.copy_up {
            options.push(COPY_UP);
        }
        let below = b.subpath.as_ref().map(|path| format!("{SUBPATH}{path}"));
        options.extend(below.as_deref());
        list.push(bind(&b.source, &b.destination, &options));
    }
    for (destination, options) in &h.tmpfs {
        let mut all: Vec<&str> = vec!["nosuid", "nodev", "noexec"];
        for option in options.split(',').filter(|o| !o.is_empty()) {
            all.retain(|o| o.strip_prefix("no") != Some(option));
            all.push(option);
        }
        list.push(mount(destination, "tmpfs", "tmpfs", &all));
    }
    for m in h.mounts.iter().filter(|m| m.typ == "tmpfs") {
        let mut options: Vec<String> = ["nosuid", "nodev", "noexec"]
            .iter()
            .map(|o| o.to_string())
            .collect();
        let tmpfs = m.tmpfs_options.clone().unwrap_or_default();
        if tmpfs.size_bytes > 0 {
            options.push(format!("size={}", tmpfs.size_bytes));
        }
        options.push(format!("mode={:o}", tmpfs.mode.unwrap_or(0o1777)));
        options.push(if m.read_only { "ro" } else { "rw" }.into());
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        list.push(mount(&m.target, "tmpfs", "tmpfs", &options));
    }
    list.sort_by_key(|m| m.destination.components().count());
    for (i, m) in list.iter().enumerate() {
        if list[..i]
            .iter()
            .any(|other| other.destination == m.destination)
        {
            return Err(Error::kind(
                Kind::Usage,
                format!("duplicate mount point: {}", m.destination.display()),
            ));
        }
    }
    Ok(list)
}

fn root(input: &Input<'_>) -> oci::Mount {
    // The topmost lower stands first in lowerdir.
    let lowers: Vec<String> = input.lowers.iter().rev().map(|l| escape(l)).collect();
    let lowerdir = format!("lowerdir={}", lowers.join(":"));
    let upper = format!("upperdir={}", input.dir.join("upper").display());
    let work = format!("workdir={}", input.dir.join("work").display());
    mount("/", "overlay", "overlay", &[&lowerdir, &upper, &work])
}

/// Overlayfs splits `lowerdir` at colons; a backslash takes that away.
fn escape(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(':', "\\:")
}

fn maps_group(input: &Input<'_>, gid: u32) -> bool {
    input.id_maps.as_ref().is_none_or(|(_, groups)| {
        groups
            .iter()
            .any(|m| (m.container_id..m.container_id.saturating_add(m.size)).contains(&gid))
    })
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        source: Some(source.to_path_buf()),
        ..mount(destination, "bind", "", options)
    }
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> oci::Mount {
    oci::Mount {
        destination: destination.into(),
        typ: Some(typ.into()),
        source: Some(source.into()),
        options: options.iter().map(|o| o.to_string()).collect(),
        ..oci::Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_namespaces_are_those_of_now() {
        let namespace = |typ, path: Option<&str>| oci::Namespace {
            typ,
            path: path.map(Into::into),
            ..oci::Namespace::default()
        };
        let mut spec = oci::Spec {
            mounts: vec![mount(
                "/dev/shm",
                "bind",
                "/dev/shm",
                &["mntns=/proc/1/ns/mnt"],
            )],
            linux: Some(oci::Linux {
                namespaces: vec![
                    namespace(NamespaceType::Ipc, Some("/proc/1/ns/ipc")),
                    namespace(NamespaceType::Network, None),
                ],
                ..oci::Linux::default()
            }),
            ..oci::Spec::default()
        };
        let joins = ["ipc", "mnt", "net"].map(|n| (n, PathBuf::from(format!("/proc/2/ns/{n}"))));
        let joins = BTreeMap::from(joins);
        assert!(rejoin(&mut spec, &joins));
        assert!(!rejoin(&mut spec, &joins), "nothing is left to change");
        assert_eq!(spec.mounts[0].options, ["mntns=/proc/2/ns/mnt"]);
        let namespaces = spec.linux.unwrap().namespaces;
        assert_eq!(namespaces[0].path, Some("/proc/2/ns/ipc".into()));
        assert_eq!(namespaces[1].path, None, "its own");
    }
}
