//! From a container's record to config.json: purely, with defaults as safe as docker's.
//!
//! What it does: [`merge`] puts the command line over the image's configuration when a container
//! is created; [`build`] turns the result into the OCI document each time it starts. Everything
//! that had to be looked up (users, devices, the namespaces of other containers) comes in through
//! [`Input`], so the same input always gives the same document and snapshots need no root.
//!
//! What it implements: runtime-spec `config.md`; the defaults of docker's engine: 14
//! capabilities, a seccomp filter, masked and read-only paths, a deny-all device list.
//! Interface: [`merge`], [`Input`], [`build`], [`Built`].
//! Read next: `mounts.rs`, `resources.rs`, `privileges.rs`, `users.rs`.

mod mounts;
mod privileges;
mod resources;
pub mod users;

pub(super) use mounts::SHM;
pub use mounts::{Binding, rejoin, volumes_are_filled};
pub use privileges::parse_security_opts;
pub use resources::{Abilities, limits};

use super::flags::set_env;
use super::model::Config;
use super::networks;
use super::state::Record;
use crate::error::{Error, Kind, Result};
use crate::host::{Host, LayoutKind};
use crate::spec::image::{self, Healthcheck};
use crate::spec::runtime as oci;
use crate::spec::runtime::NamespaceType;
use std::collections::BTreeMap;
use std::path::PathBuf;
use users::Identity;

/// The search path of an image that says none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What [`build`] needs to know, all of it looked up before.
#[derive(Debug)]
pub struct Input<'a> {
    /// The container.
    pub record: &'a Record,
    /// This host.
    pub host: &'a Host,
    /// The image's layers, lowest first.
    pub lowers: &'a [PathBuf],
    /// The container's directory.
    pub dir: PathBuf,
    /// Where its cgroup shall be, or nothing when it can have none.
    pub cgroups_path: Option<String>,
    /// The capabilities that this kernel knows and that can be given away here.
    pub known_caps: Vec<String>,
    /// Who the program runs as.
    pub identity: Identity,
    /// Namespaces of other containers: type → file.
    pub joins: BTreeMap<&'static str, PathBuf>,
    /// The user's mounts with their sources resolved.
    pub bindings: Vec<Binding>,
    /// Devices of the host, as they were found.
    pub devices: Vec<(oci::Device, String)>,
    /// Id maps of a user namespace (user ids, group ids), or none for no such namespace.
    pub id_maps: Option<(Vec<oci::IdMapping>, Vec<oci::IdMapping>)>,
    /// The text of a seccomp profile that was named by a path.
    pub seccomp: Option<String>,
    /// The host's own name, which `--network host` shows.
    pub host_name: String,
    /// What this host can limit.
    pub abilities: Abilities,
    /// Rows and columns of the terminal at the start.
    pub console: Option<(u16, u16)>,
    /// Where its `hostname`, `hosts` and `resolv.conf` lie.
    pub names: PathBuf,
    /// The host name of the container whose network it shares.
    pub shared_hostname: Option<String>,
}

/// The document, and what the user should know although nothing is wrong.
#[derive(Debug)]
pub struct Built {
    /// config.json.
    pub spec: oci::Spec,
    /// Warnings, one sentence each.
    pub warnings: Vec<String>,
}

/// Puts what the user asked for over the image's configuration. `entrypoint` is `None` when the
/// user gave none; then the image's stays, and its command too when the user gave no arguments.
/// Errors: there is no command at all.
pub fn merge(
    image: Option<&image::Config>,
    mut user: Config,
    entrypoint: Option<Vec<String>>,
) -> Result<Config> {
    let default = image::Config::default();
    let image = image.unwrap_or(&default);
    match entrypoint {
        Some(entrypoint) => user.entrypoint = entrypoint,
        None => {
            user.entrypoint = image.entrypoint.clone();
            if user.cmd.is_empty() {
                user.cmd = image.cmd.clone();
            }
        }
    }
    if user.args().is_empty() || user.args()[0].is_empty() {
        return Err(Error::kind(Kind::Usage, "no command specified")
            .hint("the image names no program; write one after the image"));
    }
    let mut env = image.env.clone();
    for entry in std::mem::take(&mut user.env) {
        set_env(&mut env, entry);
    }
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    user.env = env;
    for (key, value) in &image.labels {
        user.labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    let or = |mine: &mut String, theirs: &str| {
        if mine.is_empty() {
            *mine = theirs.to_string();
        }
    };
    or(&mut user.user, &image.user);
    or(&mut user.working_dir, &image.working_dir);
    or(
        &mut user.stop_signal,
        image.stop_signal.as_deref().unwrap_or(""),
    );
    user.stop_timeout = user.stop_timeout.or(image.stop_timeout);
    user.volumes.extend(image.volumes.clone());
    user.exposed_ports.extend(image.exposed_ports.clone());
    user.healthcheck = healthcheck(user.healthcheck, image.healthcheck.as_ref());
    Ok(user)
}

/// What the user says of the check goes over what the image says.
fn healthcheck(user: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let Some(mut check) = user else {
        return image.cloned();
    };
    if let Some(image) = image {
        if check.test.is_empty() {
            check.test = image.test.clone();
        }
        for (mine, theirs) in [
            (&mut check.interval, image.interval),
            (&mut check.timeout, image.timeout),
            (&mut check.start_period, image.start_period),
            (&mut check.start_interval, image.start_interval),
            (&mut check.retries, image.retries),
        ] {
            if *mine == 0 {
                *mine = theirs;
            }
        }
    }
    Some(check)
}

/// Makes config.json. Errors: what was asked for contradicts itself or this host, in one sentence
/// that names the flag.
pub fn build(input: &Input<'_>) -> Result<Built> {
    let config = &input.record.config;
    let host_config = &input.record.host_config;
    let mut warnings = Vec::new();
    let namespaces = namespaces(input)?;
    let own = |t: NamespaceType| namespaces.iter().any(|n| n.typ == t && n.path.is_none());
    let has = |t: NamespaceType| namespaces.iter().any(|n| n.typ == t);
    let hostname =
        has(NamespaceType::Uts).then(
            || match (config.hostname.as_str(), &input.shared_hostname) {
                (_, Some(shared)) => shared.clone(),
                ("", _) if !has(NamespaceType::Network) => input.host_name.clone(),
                ("", _) => super::names::short(&input.record.id).to_string(),
                (name, _) => name.to_string(),
            },
        );
    let domainname =
        Some(config.domainname.clone()).filter(|d| !d.is_empty() && has(NamespaceType::Uts));
    let security = parse_security_opts(&host_config.security_opt)?;
    let unmasked = host_config.privileged || security.systempaths_unconfined;
    let process = process(input, hostname.as_deref(), &security, &mut warnings)?;
    let cwd_mounts = mounts::all(input)?;
    let maps = input.id_maps.as_ref(); // they hold in a user namespace that is joined, too
    let linux = oci::Linux {
        sysctl: sysctls(input, own(NamespaceType::Network), &mut warnings),
        uid_mappings: maps.map(|m| m.0.clone()).unwrap_or_default(),
        gid_mappings: maps.map(|m| m.1.clone()).unwrap_or_default(),
        resources: Some(resources::resources(input, &mut warnings)?),
        cgroups_path: input.cgroups_path.clone(),
        devices: input.devices.iter().map(|(d, _)| d.clone()).collect(),
        seccomp: privileges::seccomp(input, &security, process.capabilities.as_ref())?,
        masked_paths: if unmasked { Vec::new() } else { paths(MASKED) },
        readonly_paths: if unmasked {
            Vec::new()
        } else {
            paths(READ_ONLY)
        },
        rootfs_propagation: mounts::root_propagation(input),
        namespaces,
        ..oci::Linux::default()
    };
    let mut annotations = host_config.annotations.clone();
    if host_config.init {
        annotations.insert(crate::runtime::INIT_ANNOTATION.into(), "true".into());
    }
    let spec = oci::Spec {
        oci_version: oci::OCI_VERSION.into(),
        root: Some(oci::Root {
            path: "rootfs".into(),
            readonly: host_config.readonly_rootfs,
            ..oci::Root::default()
        }),
        mounts: cwd_mounts,
        process: Some(process),
        hostname,
        domainname,
        linux: Some(linux),
        annotations,
        ..oci::Spec::default()
    };
    Ok(Built { spec, warnings })
}

/// Which namespaces are new, which are joined, and which stay the host's.
fn namespaces(input: &Input<'_>) -> Result<Vec<oci::Namespace>> {
    let h = &input.record.host_config;
    let mut list = vec![namespace(NamespaceType::Mount, None)];
    let network = match h.network_mode.as_str() {
        // Of its own; what connects it is no part of this document.
        mode if networks::is_named(mode) => "private",
        mode => mode,
    };
    let mut add = |typ: NamespaceType, flag: &str, name: &'static str, mode: &str| -> Result<()> {
        match mode {
            "host" => {}
            mode if mode.starts_with("container:") && name != "uts" => {
                let path = input.joins.get(name).cloned().ok_or_else(|| {
                    Error::new(format!("the {name} namespace of {mode:?} is not known"))
                })?;
                list.push(namespace(typ, Some(path)));
            }
            "" | "default" | "none" | "private" | "shareable" => list.push(namespace(typ, None)),
            mode if name == "net" && super::user_network::is_user_mode(mode) => {
                list.push(namespace(typ, None));
            }
            other => {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("invalid value for --{flag}: {other:?}"),
                )
                .hint(match flag {
                    "uts" | "userns" => "host, or leave it out",
                    _ => "host, private or container:NAME",
                }));
            }
        }
        Ok(())
    };
    add(NamespaceType::Network, "network", "net", network)?;
    add(NamespaceType::Pid, "pid", "pid", &h.pid_mode)?;
    add(NamespaceType::Ipc, "ipc", "ipc", &h.ipc_mode)?;
    add(NamespaceType::Uts, "uts", "uts", &h.uts_mode)?;
    let unified = input.host.cgroups.kind == LayoutKind::Unified;
    match h.cgroupns_mode.as_str() {
        // Of a privileged one as well: an engine or systemd in it takes its own group for the root.
        "" if unified => list.push(namespace(NamespaceType::Cgroup, None)),
        "private" => list.push(namespace(NamespaceType::Cgroup, None)),
        "" | "host" => {}
        other => {
            return Err(Error::kind(
                Kind::Usage,
                format!("invalid value for --cgroupns: {other:?}"),
            )
            .hint("host or private"));
        }
    }
    match h.userns_mode.as_str() {
        "" | "host" => {}
        other => {
            return Err(Error::kind(
                Kind::Usage,
                format!("invalid value for --userns: {other:?}"),
            )
            .hint("host, or leave it out"));
        }
    }
    if input.id_maps.is_some() {
        // Namespaces belong to the user namespace that they were made in: who shares one of an
        // ordinary user's container lives in its user namespace.
        list.push(namespace(
            NamespaceType::User,
            input.joins.get("user").cloned(),
        ));
    }
    if h.init
        && list
            .iter()
            .all(|n| n.typ != NamespaceType::Pid || n.path.is_some())
    {
        return Err(Error::kind(
            Kind::Usage,
            "--init needs a pid namespace of the container's own",
        )
        .hint("leave --pid out"));
    }
    Ok(list)
}

fn namespace(typ: NamespaceType, path: Option<PathBuf>) -> oci::Namespace {
    oci::Namespace {
        typ,
        path,
        ..oci::Namespace::default()
    }
}

fn process(
    input: &Input<'_>,
    hostname: Option<&str>,
    security: &privileges::SecurityOptions,
    warnings: &mut Vec<String>,
) -> Result<oci::Process> {
    let config = &input.record.config;
    let host_config = &input.record.host_config;
    let id = &input.identity;
    let mut env = Vec::new();
    set_env(&mut env, format!("PATH={DEFAULT_PATH}"));
    if let Some(name) = hostname {
        set_env(&mut env, format!("HOSTNAME={name}"));
    }
    if config.tty {
        set_env(&mut env, "TERM=xterm".into());
    }
    for entry in &config.env {
        set_env(&mut env, entry.clone());
    }
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", id.home));
    }
    let cwd = match config.working_dir.as_str() {
        "" => "/",
        dir if !dir.starts_with('/') => {
            return Err(Error::kind(
                Kind::Usage,
                format!(
                    "the working directory '{dir}' is invalid, it needs to be an absolute path"
                ),
            ));
        }
        dir => dir,
    };
    Ok(oci::Process {
        cwd: cwd.into(),
        terminal: config.tty,
        console_size: input.console.filter(|_| config.tty).map(|(height, width)| {
            oci::ConsoleSize {
                height,
                width,
                ..oci::ConsoleSize::default()
            }
        }),
        user: oci::User {
            uid: id.uid,
            gid: id.gid,
            additional_gids: id.additional_gids.clone(),
            ..oci::User::default()
        },
        args: config.args(),
        env,
        capabilities: Some(privileges::capabilities(input, warnings)?),
        rlimits: resources::rlimits(&host_config.ulimits),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor.clone(),
        oom_score_adj: Some(host_config.oom_score_adj).filter(|n| *n != 0),
        ..oci::Process::default()
    })
}

/// The user's kernel parameters, and docker's two: any user may open low ports and ping.
fn sysctls(
    input: &Input<'_>,
    own_network: bool,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if own_network {
        all.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        if input.id_maps.is_none() {
            all.insert("net.ipv4.ping_group_range".into(), "0\t2147483647".into());
        }
    }
    for (key, value) in &input.record.host_config.sysctls {
        if key.starts_with("net.") && !own_network {
            warnings.push(format!(
                "--sysctl {key} has no effect in a network that is not the container's own"
            ));
            continue;
        }
        all.insert(key.clone(), value.clone());
    }
    all
}

fn paths(list: &[&str]) -> Vec<String> {
    list.iter().map(|p| p.to_string()).collect()
}

/// Hidden: they tell about the host, or reach its hardware.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only: writing there changes the host.
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
