//! Docker's flags for what this engine is not: other runtimes, drivers, systems.
//!
//! What it does: takes the values that mean what is done anyway, and refuses the others with the
//! reason, so that a command line of docker's is never half obeyed.
//! Interface: [`ForeignFlags`]. Read next: `container_flags.rs`.

use crate::error::{Error, Kind, Result};

/// Flags that change nothing here.
#[derive(clap::Args, Debug, Default)]
pub struct ForeignFlags {
    /// The runtime: glassbox, which is part of this program
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// The isolation: default
    #[arg(long, value_name = "NAME", hide = true)]
    isolation: Option<String>,
    /// Options of a storage driver: overlayfs here has none
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    storage_opt: Vec<String>,
    /// GPUs: use --device
    #[arg(long, value_name = "GPUS", hide = true)]
    gpus: Option<String>,
    /// The socket of a daemon: there is none
    #[arg(long, hide = true)]
    use_api_socket: bool,
    /// For docker's users: images are always checked by digest
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<bool>,
    /// Windows only
    #[arg(long, hide = true, value_name = "N")]
    cpu_count: Option<i64>,
    /// Windows only
    #[arg(long, hide = true, value_name = "N")]
    cpu_percent: Option<i64>,
    /// Windows only
    #[arg(long, hide = true, value_name = "SIZE")]
    io_maxbandwidth: Option<String>,
    /// Windows only
    #[arg(long, hide = true, value_name = "N")]
    io_maxiops: Option<u64>,
}

impl ForeignFlags {
    /// Errors: something else was asked for than what is done.
    pub fn check(&self) -> Result<()> {
        let refuse = |text: String, hint: &str| {
            Err(Error::kind(Kind::Unsupported, text).hint(hint.to_string()))
        };
        match self.runtime.as_deref() {
            None | Some("" | "glassbox" | "runc" | "io.containerd.runc.v2") => {}
            Some(other) => {
                return refuse(
                    format!("unknown or invalid runtime name: {other}"),
                    "containers are made by this program itself; other engines can use it as theirs: `glassbox runtime --help`",
                );
            }
        }
        match self.isolation.as_deref() {
            None | Some("" | "default") => {}
            Some(other) => {
                return refuse(
                    format!("invalid isolation {other:?}: must be default"),
                    "hyperv and process are of Windows",
                );
            }
        }
        if let Some(option) = self.storage_opt.first() {
            return refuse(
                format!(
                    "--storage-opt {option} is not supported: a container's changes have no size limit of their own"
                ),
                "put the state root on a file system of its own (--root), or mount a --tmpfs with size=",
            );
        }
        if self.gpus.is_some() {
            return refuse(
                "could not select device driver \"\" with capabilities: [[gpu]]".into(),
                "this version knows no vendor's hooks; give the device files: --device /dev/dri, --device /dev/nvidia0",
            );
        }
        if self.use_api_socket {
            return refuse("--use-api-socket needs a daemon".into(), "there is none");
        }
        let windows = [
            ("cpu-count", self.cpu_count.is_some()),
            ("cpu-percent", self.cpu_percent.is_some()),
            ("io-maxbandwidth", self.io_maxbandwidth.is_some()),
            ("io-maxiops", self.io_maxiops.is_some()),
        ];
        match windows.iter().find(|(_, asked)| *asked) {
            Some((flag, _)) => refuse(
                format!("invalid option: --{flag} is of Windows"),
                "--cpus, --device-read-bps and --device-read-iops are Linux's",
            ),
            None => Ok(()),
        }
    }
}
