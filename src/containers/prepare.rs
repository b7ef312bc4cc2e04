//! Before a start: everything that has to be looked up, and the steps that put files in place.
//!
//! What it does: reads what [`config::build`] needs (users out of the layers, devices, the
//! namespaces of other containers, id maps for an ordinary user), and plans the engine's own steps:
//! the overlay's directories, `hostname`, `hosts`, `resolv.conf`, config.json, missing sources of
//! bind mounts (`volumes.rs`). It changes nothing itself, so a dry run may call it.
//! Interface: [`prepare`], [`Prepared`]. Read next: `start.rs`.

use super::actions::{MakeDirectory, WriteFile};
use super::config::{self, Binding, Input, users};
use super::image::Image;
use super::state::{self, Phase};
use super::store::{Container, Store};
use super::{abilities, lifecycle, name_steps, networks, user_network, volumes};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Plan, Stage, Step};
use crate::network::Endpoint;
use crate::runtime::{self, Stdio};
use crate::spec::runtime as oci;
use crate::sys;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A container that is ready to be launched.
#[derive(Debug)]
pub struct Prepared {
    /// config.json.
    pub spec: oci::Spec,
    /// The engine's own steps, to go before the runtime's.
    pub plan: Plan,
    /// The networks that the runtime connects.
    pub networks: Vec<Endpoint>,
}

/// Prepares a start of `container`. Errors: what the user asked for cannot be had, said before
/// anything has changed.
pub fn prepare(
    store: &Store,
    container: &Container,
    image: &Image,
    host: &Host,
    console: Option<(u16, u16)>,
) -> Result<Prepared> {
    let record = &container.record;
    let h = &record.host_config;
    enough_processors(h.nano_cpus)?;
    let mut plan = Plan::default();
    let mut bindings = volumes::bindings(store, container, &mut plan)?;
    let mut devices = devices(container, host)?;
    if host.rootless {
        // In a user namespace nobody makes device nodes: the host's own are bound in.
        bindings.extend(devices.drain(..).map(|d| d.binding()));
    }
    let mut layers = vec![container.dir.join("upper")];
    layers.extend(image.lowers.iter().rev().cloned());
    let accounts = users::Accounts::read(&layers)?;
    check_cpus(h.nano_cpus)?;
    let names = names(store, container)?;
    let input = Input {
        record,
        host,
        lowers: &image.lowers,
        dir: container.dir.clone(),
        cgroups_path: cgroups_path(container, host),
        known_caps: known_caps(host),
        identity: users::resolve(&accounts, &record.config.user, &h.group_add)?,
        joins: joins(store, container, host.rootless)?,
        bindings,
        devices: devices.into_iter().map(|d| (d.device, d.access)).collect(),
        id_maps: id_maps(container, host)?,
        seccomp: seccomp(container)?,
        host_name: read_trimmed("/proc/sys/kernel/hostname"),
        abilities: abilities::of(h, host)?,
        console,
        names: names.dir.clone(),
        shared_hostname: names.shared,
    };
    let built = config::build(&input)?;
    plan.warnings.extend(built.warnings);
    let spec = built.spec;
    let mut warning = None;
    let slirp = user_network::slirp(container, host.rootless, &mut warning)?;
    let attachment = networks::plan(store, container, host.rootless, slirp.is_some())?;
    plan.warnings.extend(warning);
    let reach = user_network::reach(&h.network_mode, slirp.is_some(), &attachment.endpoints);
    let mut files = Vec::new();
    let mut later = None;
    if names.dir == container.dir {
        let hostname = own_name(&spec);
        files = name_steps::steps(container, &hostname, reach, &mut plan);
        let endpoints = &attachment.endpoints;
        let hosts = name_steps::hosts_step(store, container, &hostname, reach, endpoints)?;
        match endpoints.is_empty() {
            true => files.insert(1, hosts),
            false => later = Some(hosts), // its addresses are taken first
        }
    }
    own_steps(container, &spec, files, &mut plan)?;
    plan.steps.extend(attachment.steps);
    plan.steps.extend(later);
    plan.warnings.extend(attachment.warnings);
    Ok(Prepared {
        spec,
        plan,
        networks: attachment.endpoints,
    })
}

/// Docker's rule: a quota of more processors than there are limits nothing, so it is a mistake.
fn enough_processors(nano_cpus: i64) -> Result<()> {
    let Ok(there) = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN) else {
        return Ok(());
    };
    let there = there.unwrap_or(i64::MAX);
    if nano_cpus > there.saturating_mul(1_000_000_000) {
        return Err(Error::kind(
            Kind::Usage,
            format!(
                "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
            ),
        )
        .topic("cpu"));
    }
    Ok(())
}

/// Where the streams of a container come from: its own terminal, or FIFOs in its run directory.
pub fn stdio(container: &Container) -> Stdio {
    let config = &container.record.config;
    match config.tty {
        true => Stdio::Terminal,
        false => Stdio::Fifos {
            dir: container.run.clone(),
            stdin: config.open_stdin,
        },
    }
}

/// What is wanted of its set-up beyond its document.
pub fn wishes(
    container: &Container,
    host: &Host,
    networks: Vec<Endpoint>,
) -> Result<runtime::Wishes> {
    Ok(runtime::Wishes {
        exit_file: Some(container.exit_file()),
        // Why there is none was said when the plan was made.
        slirp: user_network::slirp(container, host.rootless, &mut None)?,
        name_server: networks.iter().any(user_network::has_names),
        networks,
        ..runtime::Wishes::default()
    })
}

/// The steps that put the container's own files in place.
fn own_steps(
    container: &Container,
    spec: &oci::Spec,
    files: Vec<Step>,
    plan: &mut Plan,
) -> Result<()> {
    let stage = Stage::Containers;
    let dirs = [
        (
            "upper",
            0o755,
            "What the container changes in its root file system goes here.",
        ),
        (
            "work",
            0o700,
            "Overlayfs prepares its changes here before it moves them to upper.",
        ),
        (
            "rootfs",
            0o755,
            "An empty directory: the root will be mounted on it, where only the container sees it.",
        ),
    ];
    let mut steps = Vec::new();
    for (name, mode, why) in dirs {
        let make = MakeDirectory {
            path: container.dir.join(name),
            mode,
            own: true,
        };
        steps.push(Step::parent(stage, format!("make-{name}"), why, make));
    }
    let make = MakeDirectory {
        path: container.run.clone(),
        mode: 0o700,
        own: true,
    };
    steps.push(Step::parent(
        stage,
        "make-run",
        "The socket by which `attach` and `wait` reach the monitor lives here, and the FIFOs.",
        make,
    ));
    steps.extend(files);
    let write = WriteFile {
        path: container.dir.join("config.json"),
        text: state::to_json(spec)?,
        mode: 0o600,
        durable: false,
        own: true,
    };
    let why = "The whole container as one OCI document: the runtime knows nothing else.";
    steps.push(Step::parent(stage, "write-config", why, write));
    steps.append(&mut plan.steps);
    plan.steps = steps;
    Ok(())
}

/// Its host name; the host's own where it shares that.
pub(super) fn own_name(spec: &oci::Spec) -> String {
    let hostname = spec.hostname.clone();
    hostname.unwrap_or_else(|| read_trimmed("/proc/sys/kernel/hostname"))
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_string()
}

/// Where a container's files with names lie, and its host name if it is another's.
struct Names {
    dir: PathBuf,
    shared: Option<String>,
}

/// Who shares a network is known by one name in it: the files are those of the other.
fn names(store: &Store, container: &Container) -> Result<Names> {
    let Some(target) = container
        .record
        .host_config
        .network_mode
        .strip_prefix("container:")
    else {
        let dir = container.dir.clone();
        return Ok(Names { dir, shared: None });
    };
    let other = store
        .find(target)
        .with_context(|| format!("cannot join the net namespace of container {target}"))?;
    // As it was started, for it may share with a third one itself.
    let spec = lifecycle::spec(&other)?;
    let file = spec
        .mounts
        .iter()
        .find(|m| m.destination == Path::new("/etc/hostname"));
    let dir = file.and_then(|m| m.source.as_ref()?.parent().map(Path::to_path_buf));
    Ok(Names {
        dir: dir.unwrap_or_else(|| other.dir.clone()),
        shared: Some(spec.hostname.unwrap_or_default()).filter(|name| !name.is_empty()),
    })
}

/// More CPUs than there are is a slip of the pen, and docker says so.
pub(super) fn check_cpus(nano_cpus: i64) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot count the CPUs")?;
    let there = cpus_allowed(&status);
    if nano_cpus == 0 || (10_000_000..=there * 1_000_000_000).contains(&nano_cpus) {
        return Ok(());
    }
    Err(Error::kind(
        Kind::Usage,
        format!(
            "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        ),
    ))
}

/// The CPUs that a process may run on, by its `status`: `Cpus_allowed: ff,ffffffff` is a mask.
fn cpus_allowed(status: &str) -> i64 {
    let mask = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed:"))
        .unwrap_or("");
    mask.chars()
        .filter_map(|c| c.to_digit(16))
        .map(|d| i64::from(d.count_ones()))
        .sum()
}

/// The namespaces of `container:NAME`, as files of that container's init. With an IPC namespace
/// comes the mount namespace that holds its shared memory; an ordinary user's are reached through
/// the user namespace that owns them.
pub(super) fn joins(
    store: &Store,
    container: &Container,
    rootless: bool,
) -> Result<BTreeMap<&'static str, PathBuf>> {
    let h = &container.record.host_config;
    let mut joins = BTreeMap::new();
    for (name, mode) in [
        ("net", &h.network_mode),
        ("pid", &h.pid_mode),
        ("ipc", &h.ipc_mode),
    ] {
        let Some(target) = mode.strip_prefix("container:") else {
            continue;
        };
        let what = || format!("cannot join the {name} namespace of container {target}");
        let other = store.find(target).with_context(what)?;
        let status = super::reconcile::status(&other)?;
        if status.phase != Phase::Running {
            other.must_run(&status).with_context(what)?;
        }
        let file = |name: &str| PathBuf::from(format!("/proc/{}/ns/{name}", status.pid));
        joins.insert(name, file(name));
        if name == "ipc" && other.record.host_config.ipc_mode != "none" {
            joins.insert("mnt", file("mnt"));
        }
        if rootless {
            let owner = std::fs::read_link(file("user")).ok();
            let first = joins.entry("user").or_insert_with(|| file("user"));
            if std::fs::read_link(&*first).ok() != owner {
                return Err(
                    Error::kind(Kind::Unsupported, "its user namespace is another one")
                        .hint(
                            "an ordinary user's container can only join containers that share one",
                        )
                        .topic("user-namespaces"),
                )
                .with_context(what);
            }
        }
    }
    Ok(joins)
}

/// A device node of the host's for the container.
struct Found {
    node: PathBuf,
    device: oci::Device,
    access: String,
}

impl Found {
    fn binding(self) -> Binding {
        Binding {
            source: self.node,
            destination: self.device.path.display().to_string(),
            non_recursive: true,
            ..Binding::default()
        }
    }
}

/// The device nodes behind `--device`, and every one of the host's for a privileged container.
fn devices(container: &Container, host: &Host) -> Result<Vec<Found>> {
    let h = &container.record.host_config;
    let mut list = Vec::new();
    for mapping in &h.devices {
        let what = || {
            format!(
                "error gathering device information while adding custom device \"{}\"",
                mapping.path_on_host
            )
        };
        let meta = std::fs::metadata(&mapping.path_on_host).with_context(what)?;
        if meta.is_dir() {
            let mut found = Vec::new();
            nodes_below(Path::new(&mapping.path_on_host), &mut found);
            for node in found {
                let below = node.strip_prefix(&mapping.path_on_host).unwrap_or(&node);
                let inside = Path::new(&mapping.path_in_container).join(below);
                if let Some(device) = device(&node, &inside) {
                    list.push(Found {
                        node,
                        device,
                        access: mapping.cgroup_permissions.clone(),
                    });
                }
            }
            continue;
        }
        let device = device(
            Path::new(&mapping.path_on_host),
            Path::new(&mapping.path_in_container),
        )
        .ok_or_else(|| Error::kind(Kind::Usage, "not a device node").context(what()))?;
        list.push(Found {
            node: PathBuf::from(&mapping.path_on_host),
            device,
            access: mapping.cgroup_permissions.clone(),
        });
    }
    if h.privileged && !host.rootless {
        let mut found = Vec::new();
        nodes_below(Path::new("/dev"), &mut found);
        for node in found {
            if let Some(device) = device(&node, &node) {
                list.push(Found {
                    node,
                    device,
                    access: "rwm".into(),
                });
            }
        }
    }
    Ok(list)
}

/// Device nodes of a tree, without what a container has of its own (terminals, shm, mqueue).
fn nodes_below(dir: &Path, found: &mut Vec<PathBuf>) {
    const OWN: &[&str] = &[
        "pts", "shm", "mqueue", "console", "fd", "stdin", "stdout", "stderr", "ptmx", "null",
        "zero", "full", "random", "urandom", "tty",
    ];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if dir == Path::new("/dev") && OWN.iter().any(|o| name == *o) {
            continue;
        }
        match entry.file_type() {
            Ok(t) if t.is_dir() => nodes_below(&entry.path(), found),
            Ok(t) if t.is_char_device() || t.is_block_device() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn device(node: &Path, inside: &Path) -> Option<oci::Device> {
    let meta = std::fs::metadata(node).ok()?;
    let typ = match meta.file_type() {
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        _ => return None,
    };
    Some(oci::Device {
        typ: typ.into(),
        path: inside.to_path_buf(),
        major: libc::major(meta.rdev()).into(),
        minor: libc::minor(meta.rdev()).into(),
        file_mode: Some(meta.mode() & 0o777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
        ..oci::Device::default()
    })
}

/// Where the container's cgroup shall be: nothing for an ordinary user to whom none is delegated.
fn cgroups_path(container: &Container, host: &Host) -> Option<String> {
    let below_root = container.cgroups_path();
    if !host.rootless {
        return Some(below_root);
    }
    let base = crate::cgroups::group::base(&host.cgroups).ok()?;
    let path = base.join(below_root.trim_start_matches('/')).ok()?;
    let group = crate::cgroups::Group::locate(&host.cgroups, &path).ok()?;
    group.require_usable().ok()?;
    Some(path.as_str().to_string())
}

/// The capabilities that can be given away here: what the kernel knows and the caller has.
pub(super) fn known_caps(host: &Host) -> Vec<String> {
    use crate::security::capabilities::{CapSet, all_of_kernel};
    let known = all_of_kernel();
    if host.rootless {
        return known.names(); // over its own user namespace an ordinary user has them all
    }
    let had = sys::cred::capget().map_or(known, |sets| CapSet(sets.permitted));
    known.intersect(had).names()
}

fn seccomp(container: &Container) -> Result<Option<String>> {
    let options = config::parse_security_opts(&container.record.host_config.security_opt)?;
    match options.seccomp.as_deref() {
        None | Some("unconfined") => Ok(None),
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the seccomp profile {path}"))
            .map(Some),
    }
}

/// The id maps of an ordinary user's container: root inside is the user; where /etc/subuid and
/// /etc/subgid give ranges and the programs that check them are there, further ids follow.
#[allow(clippy::type_complexity)]
pub fn id_maps(
    container: &Container,
    host: &Host,
) -> Result<Option<(Vec<oci::IdMapping>, Vec<oci::IdMapping>)>> {
    if !host.rootless {
        return Ok(None);
    }
    if container.record.host_config.userns_mode == "host" {
        return Err(Error::kind(Kind::Unsupported, "--userns host needs root")
            .hint("an ordinary user's containers live in a user namespace")
            .topic("user-namespaces"));
    }
    Ok(Some(own_maps(host.euid, host.egid)))
}

/// The maps that this user may have.
pub fn own_maps(euid: u32, egid: u32) -> (Vec<oci::IdMapping>, Vec<oci::IdMapping>) {
    let name = account_name(euid);
    let names = [name.as_str(), &euid.to_string()];
    let ranges = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        crate::namespaces::subordinate_ranges(&text, &names)
    };
    let (uids, gids) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
    let both = !uids.is_empty() && !gids.is_empty() && in_path("newuidmap") && in_path("newgidmap");
    let map = |own: u32, ranges: &[(u32, u32)]| {
        let entry = |container_id, host_id, size| oci::IdMapping {
            container_id,
            host_id,
            size,
            ..oci::IdMapping::default()
        };
        let mut list = vec![entry(0, own, 1)];
        let mut next = 1;
        for (first, count) in ranges.iter().filter(|_| both) {
            list.push(entry(next, *first, *count));
            next += count;
        }
        list
    };
    (map(euid, &uids), map(egid, &gids))
}

fn account_name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    text.lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.get(2).is_some_and(|u| *u == wanted))
        .map(|f| f[0].to_string())
        .unwrap_or_default()
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
