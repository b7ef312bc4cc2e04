//! The flags that `run` and `create` share: docker's, by kernel feature.
//!
//! What it does: declares them once, and turns them into what the engine takes
//! ([`crate::containers::create::Wish`]). Values are parsed by
//! [`crate::containers::flags`], so an error has the form of all others.
//! Interface: [`ContainerFlags`]. Read next: `run.rs`.

use super::foreign_flags::ForeignFlags;
use super::health_flags::HealthFlags;
use super::limit_flags::{DiskFlags, LimitFlags};
use super::name_flags::NameFlags;
use super::network_flags::NetworkFlags;
use super::pull::{self, When};
use crate::containers::create::Wish;
use crate::containers::flags;
use crate::containers::image::{self, Image};
use crate::containers::model::{Config, HostConfig, LogConfig};
use crate::containers::store::Store;
use crate::error::{Error, Kind, Result};
use crate::images::{self, Reference};
use crate::registry::client::parse_platform;
use crate::spec::image::Platform;
use crate::ui;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The flags of `run` and `create`.
#[derive(clap::Args, Debug)]
pub struct ContainerFlags {
    /// Name of the container (a generated one otherwise)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Attach these alone: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Keep stdin open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Set an environment variable (NAME alone takes this shell's value)
    #[arg(short, long, value_name = "NAME=VALUE", help_heading = "Program")]
    pub env: Vec<String>,
    /// Read environment variables from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Program")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside (made when it is missing)
    #[arg(short, long, value_name = "DIR", help_heading = "Program")]
    pub workdir: Option<String>,
    /// User: NAME or UID, optionally with :GROUP, by the image's own passwd
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Program")]
    pub user: Option<String>,
    /// A further group, by name or number
    #[arg(long, value_name = "GROUP", help_heading = "Program")]
    pub group_add: Vec<String>,
    /// Program in place of the image's entrypoint ("" for none)
    #[arg(long, value_name = "PROGRAM", help_heading = "Program")]
    pub entrypoint: Option<String>,
    /// Run a small init as PID 1, which reaps orphans and passes signals on
    #[arg(long, help_heading = "Program")]
    pub init: bool,
    /// Signal that `stop` sends
    #[arg(long, value_name = "SIGNAL", help_heading = "Program")]
    pub stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills
    #[arg(
        long,
        value_name = "SECONDS",
        help_heading = "Program",
        allow_hyphen_values = true
    )]
    pub stop_timeout: Option<i64>,
    #[command(flatten)]
    health: HealthFlags,
    /// When to start it again: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", help_heading = "Program")]
    pub restart: Option<String>,
    /// Mount a directory of the host, or a named volume
    #[arg(
        short,
        long,
        value_name = "[SOURCE:]TARGET[:ro]",
        help_heading = "Files"
    )]
    pub volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = "Files")]
    pub mount: Vec<String>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro]", help_heading = "Files")]
    pub volumes_from: Vec<String>,
    /// Driver of volumes that are made: local
    #[arg(long, value_name = "DRIVER", help_heading = "Files")]
    pub volume_driver: Option<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "TARGET[:OPTIONS]", help_heading = "Files")]
    pub tmpfs: Vec<String>,
    /// The root file system cannot be written to
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE", help_heading = "Files")]
    pub shm_size: Option<String>,
    /// Take IMAGE for a directory that holds a root file system
    #[arg(long, help_heading = "Files")]
    pub rootfs: bool,
    /// What `update` can change later.
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    disks: DiskFlags,
    /// Resource limit of each process, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub ulimit: Vec<String>,
    /// How readily the kernel kills it when memory runs out (-1000 to 1000)
    #[arg(
        long,
        value_name = "N",
        help_heading = "Limits",
        allow_hyphen_values = true
    )]
    pub oom_score_adj: Option<i32>,
    /// Make its cgroup below this one
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub cgroup_parent: Option<String>,
    /// Give it a capability that it does not have by default
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing masked
    #[arg(long, help_heading = "Privileges")]
    pub privileged: bool,
    /// no-new-privileges, seccomp=unconfined|FILE, systempaths=unconfined…
    #[arg(long, value_name = "OPTION", help_heading = "Privileges")]
    pub security_opt: Vec<String>,
    /// Give it a device of the host
    #[arg(long, value_name = "PATH[:INSIDE][:rwm]", help_heading = "Privileges")]
    pub device: Vec<String>,
    /// A rule for the device cgroup, as 'c 1:3 rwm'
    #[arg(long, value_name = "RULE", help_heading = "Privileges")]
    pub device_cgroup_rule: Vec<String>,
    /// Set a kernel parameter of its namespaces
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Namespaces")]
    pub sysctl: Vec<String>,
    #[command(flatten)]
    networks: NetworkFlags,
    /// Process ids: host or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub pid: Option<String>,
    /// System V IPC and message queues: private, host, none or container:NAME
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub ipc: Option<String>,
    /// Host name: host
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub uts: Option<String>,
    /// User ids: host
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub userns: Option<String>,
    /// View of the cgroups: private or host
    #[arg(long, value_name = "MODE", help_heading = "Namespaces")]
    pub cgroupns: Option<String>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Namespaces")]
    pub hostname: Option<String>,
    /// NIS domain name inside
    #[arg(long, value_name = "NAME", help_heading = "Namespaces")]
    pub domainname: Option<String>,
    #[command(flatten)]
    names: NameFlags,
    /// A label
    #[arg(short, long, value_name = "KEY=VALUE", help_heading = "Notes")]
    pub label: Vec<String>,
    /// Read labels from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Notes")]
    pub label_file: Vec<PathBuf>,
    /// A note for config.json
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Notes")]
    pub annotation: Vec<String>,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE", help_heading = "Notes")]
    pub cidfile: Option<PathBuf>,
    /// Where output is kept: json-file or none
    #[arg(long, value_name = "DRIVER", help_heading = "Notes")]
    pub log_driver: Option<String>,
    /// max-size=SIZE, max-file=N, labels=NAME,… and env=NAME,… for `logs --details`
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Notes")]
    pub log_opt: Vec<String>,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", value_enum, default_value = "missing")]
    pub pull: When,
    /// Say nothing while the image is pulled
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    foreign: ForeignFlags,
    /// Insist on a platform, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
    /// The image, then a command in place of the image's own
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub image: Vec<String>,
}

/// The streams of a container that somebody attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

fn usage(text: String) -> Error {
    Error::kind(Kind::Usage, text)
}

fn all<T>(list: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    list.iter().map(|text| parse(text)).collect()
}

/// `KEY=VALUE`; a key alone has an empty value.
fn pairs(list: impl IntoIterator<Item = String>) -> Result<BTreeMap<String, String>> {
    list.into_iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            match key.is_empty() {
                true => Err(usage(format!(
                    "invalid argument {text:?}: the name is empty"
                ))),
                false => Ok((key.to_string(), value.to_string())),
            }
        })
        .collect()
}

impl ContainerFlags {
    /// The image that was named, for the platform that was; pulled where `--pull` says so.
    pub fn find_image(&self, store: &Store) -> Result<Image> {
        let name = &self.image[0];
        if self.rootfs {
            return image::of_directory(name.as_ref());
        }
        let wanted = self.platform.as_deref().map(parse_platform).transpose()?;
        let runs_on = |image: &Image, wanted: &Platform| {
            parse_platform(&image.platform).is_ok_and(|own| own.runs_on(wanted))
        };
        let fits = |image: &Image| wanted.as_ref().is_none_or(|w| runs_on(image, w));
        let here = match image::find(store.paths(), name) {
            Ok(image) => (self.pull != When::Always).then_some(image),
            // A digest alone is an id, which no registry knows.
            Err(e) if e.get_kind() != Kind::NotFound || name.starts_with("sha256:") => {
                return Err(e);
            }
            Err(e) if self.pull == When::Never => return Err(e),
            Err(_) => None,
        };
        let image = match here {
            Some(image) if fits(&image) || self.pull == When::Never => image,
            _ => {
                self.bring(store, &name.parse()?)?;
                image::find(store.paths(), name)?
            }
        };
        match &self.platform {
            Some(wanted) if !fits(&image) => Err(Error::kind(
                Kind::NotFound,
                format!("image {name} is for {}, not for {wanted}", image.platform),
            )),
            None if !runs_on(&image, &Platform::host()) => {
                ui::warn(format_args!(
                    "the image is for {}, and this machine is {}",
                    image.platform,
                    Platform::host()
                ));
                Ok(image)
            }
            _ => Ok(image),
        }
    }

    fn bring(&self, store: &Store, reference: &Reference) -> Result<()> {
        if self.pull == When::Missing && !self.quiet {
            ui::note(format_args!(
                "Unable to find image '{}' locally",
                reference.familiar()
            ));
        }
        let images = images::Store::open(&store.paths().root)?;
        pull::for_container(&images, reference, self.platform.as_deref(), self.quiet)
    }

    /// What the flags ask for. `detached` says that nobody will be attached.
    pub fn wish(&self, detached: bool) -> Result<Wish> {
        let size = |value: &Option<String>| value.as_deref().map_or(Ok(0), flags::bytes);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let restart_policy = flags::restart(self.restart.as_deref().unwrap_or("no"))?;
        if let Some(signal) = &self.stop_signal {
            flags::signal(signal)?;
        }
        for bind in &self.volume {
            flags::bind(bind)?;
        }
        self.foreign.check()?;
        for other in &self.volumes_from {
            flags::volumes_from(other)?;
        }
        if let Some(driver) = self.volume_driver.as_deref().filter(|d| *d != "local") {
            return Err(usage(format!("volume plugin {driver} not found"))
                .hint("the driver local is the only one"));
        }
        let log = LogConfig {
            typ: match self.log_driver.as_deref() {
                None => "json-file".into(),
                Some(driver @ ("json-file" | "local" | "none")) => driver.into(),
                Some(other) => {
                    return Err(
                        usage(format!("unknown log driver: {other}")).hint("json-file or none")
                    );
                }
            },
            config: pairs(self.log_opt.clone())?,
        };
        crate::containers::log::Limits::parse(&log.config)?;
        let networks = self.networks.wish()?;
        let host_config = HostConfig {
            binds: self.volume.clone(),
            mounts: all(&self.mount, flags::mount)?,
            volumes_from: self.volumes_from.clone(),
            tmpfs: self.tmpfs()?,
            network_mode: networks.mode,
            ipc_mode: self.ipc.clone().unwrap_or_else(|| "private".into()),
            pid_mode: text(&self.pid),
            uts_mode: text(&self.uts),
            userns_mode: text(&self.userns),
            cgroupns_mode: text(&self.cgroupns),
            cgroup_parent: text(&self.cgroup_parent),
            auto_remove: self.rm,
            restart_policy,
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            privileged: self.privileged,
            readonly_rootfs: self.read_only,
            security_opt: self.security_opt.clone(),
            group_add: self.group_add.clone(),
            sysctls: pairs(self.sysctl.clone())?,
            shm_size: size(&self.shm_size)?,
            oom_score_adj: self.oom_score_adj.unwrap_or(0),
            init: self.init,
            annotations: pairs(self.annotation.clone())?,
            ulimits: all(&self.ulimit, flags::ulimit)?,
            devices: all(&self.device, flags::device)?,
            device_cgroup_rules: self.device_cgroup_rule.clone(),
            log_config: log,
            container_id_file: self
                .cidfile
                .as_ref()
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            ..HostConfig::default()
        };
        let mut host_config = host_config;
        self.limits.apply(&mut host_config)?;
        self.disks.apply(&mut host_config)?;
        self.names.apply(&mut host_config)?;
        let attached = self.streams(detached)?;
        let mut config = Config {
            hostname: text(&self.hostname),
            domainname: text(&self.domainname),
            user: text(&self.user),
            attach_stdin: attached.stdin,
            attach_stdout: attached.stdout,
            attach_stderr: attached.stderr,
            tty: self.tty,
            open_stdin: self.interactive,
            stdin_once: self.interactive && attached.stdin,
            env: self.environment()?,
            cmd: self.image[1..].to_vec(),
            image: self.image[0].clone(),
            working_dir: text(&self.workdir),
            entrypoint: Vec::new(),
            labels: self.labels()?,
            stop_signal: text(&self.stop_signal),
            stop_timeout: self.stop_timeout,
            healthcheck: self.health.check()?,
            ..Config::default()
        };
        self.networks.ports(&mut config, &mut host_config)?;
        Ok(Wish {
            name: self.name.clone(),
            config,
            entrypoint: self.entrypoint.as_ref().map(|e| match e.as_str() {
                "" => Vec::new(),
                program => vec![program.to_string()],
            }),
            host_config,
            networks: networks.endpoints,
            rootfs: self.rootfs.then(|| PathBuf::from(&self.image[0])),
        })
    }

    /// Which streams are attached. Errors: `-a` names another, or nobody will be there.
    pub fn streams(&self, detached: bool) -> Result<Streams> {
        if detached && !self.attach.is_empty() {
            return Err(usage(
                "conflicting options: cannot specify both --attach and --detach".into(),
            ));
        }
        let has = |name: &str| self.attach.iter().any(|a| a.eq_ignore_ascii_case(name));
        if let Some(other) = self
            .attach
            .iter()
            .find(|a| !["stdin", "stdout", "stderr"].contains(&a.to_ascii_lowercase().as_str()))
        {
            return Err(usage(format!("invalid value for --attach: {other}"))
                .hint("valid streams are stdin, stdout and stderr"));
        }
        Ok(match self.attach.is_empty() {
            true => Streams {
                stdin: self.interactive && !detached,
                stdout: !detached,
                stderr: !detached,
            },
            false => Streams {
                stdin: has("stdin"),
                stdout: has("stdout"),
                stderr: has("stderr"),
            },
        })
    }

    fn environment(&self) -> Result<Vec<String>> {
        let lookup = |name: &str| std::env::var(name).ok();
        let mut entries = Vec::new();
        for file in &self.env_file {
            entries.extend(flags::lines_of_file(file)?);
        }
        entries.extend(self.env.iter().cloned());
        let mut env = Vec::new();
        for entry in &entries {
            if let Some(entry) = flags::env(entry, &lookup)? {
                flags::set_env(&mut env, entry);
            }
        }
        Ok(env)
    }

    fn labels(&self) -> Result<BTreeMap<String, String>> {
        let mut entries = Vec::new();
        for file in &self.label_file {
            entries.extend(flags::lines_of_file(file)?);
        }
        entries.extend(self.label.iter().cloned());
        pairs(entries)
    }

    fn tmpfs(&self) -> Result<BTreeMap<String, String>> {
        self.tmpfs
            .iter()
            .map(|text| {
                let (target, options) = text.split_once(':').unwrap_or((text, ""));
                match target.starts_with('/') {
                    true => Ok((target.to_string(), options.to_string())),
                    false => Err(usage(format!(
                        "invalid tmpfs {text:?}: the target must be an absolute path"
                    ))),
                }
            })
            .collect()
    }

    /// Writes the id to `--cidfile`.
    pub fn write_cidfile(&self, id: &str) -> Result<()> {
        let Some(path) = &self.cidfile else {
            return Ok(());
        };
        crate::files::output::write(path, id, 0o644)
            .map_err(|e| e.hint("--cidfile names a file in a directory that exists"))
    }

    /// Takes the `--cidfile` away again: the container that it names is not there any more.
    pub fn remove_cidfile(&self) -> Result<()> {
        use crate::error::Context;
        match &self.cidfile {
            Some(path) if path.exists() => crate::sys::fs::unlinkat(crate::sys::fs::CWD, path, 0)
                .with_context(|| format!("cannot remove {}", path.display())),
            _ => Ok(()),
        }
    }

    /// Refuses a `--cidfile` that exists, as docker does.
    pub fn check_cidfile(&self) -> Result<()> {
        match &self.cidfile {
            Some(path) if path.exists() => Err(Error::kind(
                Kind::Conflict,
                format!(
                    "container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                ),
            )),
            _ => Ok(()),
        }
    }
}
