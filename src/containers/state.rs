//! A container on disk: two small files, written whole or not at all.
//!
//! What it does: `container.json` ([`Record`]) is written when the container is created and
//! changes only by `rename`; `status.json` ([`Status`]) says what became of it. Both are replaced
//! atomically: written beside, flushed where a loss would lose a container, renamed over. So a
//! process killed at any moment leaves the old file or the new one.
//!
//! What the status says about a *running* container is only a hint: it is true while the monitor
//! that wrote it holds its lock, which the kernel releases whatever kills it; `reconcile.rs` puts
//! the two together.
//! Interface: [`Record`], [`Status`], [`Phase`]. Read next: `store.rs`.

use super::health::Health;
use super::model::{Config, EndpointConfig, HostConfig, MountPoint};
use super::time::Time;
use crate::error::{Context, Result};
pub use crate::files::{read_json, sync_directory, to_json, write_atomically, write_even_if_full};
pub use crate::host::process::start_time as process_start;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a container is, from its creation on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Without a slash before it.
    pub name: String,
    /// When it was created.
    pub created: Time,
    /// The image's id (`sha256:…`): the digest of its configuration.
    pub image_id: String,
    /// A directory that stands in for an image (`--rootfs`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<std::path::PathBuf>,
    /// `linux/amd64`
    #[serde(default)]
    pub platform: String,
    /// What it runs: image and command line merged.
    pub config: Config,
    /// How it is tied to this host.
    pub host_config: HostConfig,
    /// The user's mounts, with names and sources decided.
    #[serde(default)]
    pub mount_points: Vec<MountPoint>,
    /// The networks that it is in, the first of `--network` first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<EndpointConfig>,
}

impl Record {
    /// It as the text of `container.json`. What nobody asked for is left out, as reading it back
    /// puts it there again: most of it is that, and whoever lists many reads it of each.
    pub fn text(&self) -> Result<String> {
        let what = "cannot write JSON";
        let mut all = serde_json::to_value(self).context(what)?;
        let config = serde_json::to_value(Config::default()).context(what)?;
        let host_config = serde_json::to_value(HostConfig::default()).context(what)?;
        leave_out(&mut all["Config"], &config);
        leave_out(&mut all["HostConfig"], &host_config);
        to_json(&all)
    }
}

/// Takes out of an object what is the same in `default`.
fn leave_out(object: &mut Value, default: &Value) {
    if let Value::Object(fields) = object {
        fields.retain(|name, value| default.get(name) != Some(value));
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It has never run.
    #[default]
    Created,
    /// A monitor is setting it up.
    Starting,
    /// Its program runs.
    Running,
    /// It runs, and every process of it is frozen.
    Paused,
    /// It ended, and its restart policy will start it again.
    Restarting,
    /// Its program has ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl Phase {
    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Created | Phase::Starting => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
        }
    }
    /// A monitor takes care of it.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Phase::Starting | Phase::Running | Phase::Paused | Phase::Restarting
        )
    }
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Status {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its first process, as this host numbers it; 0 when it does not run.
    pub pid: i32,
    /// That process's start time in clock ticks since boot: with the pid it names one process for
    /// ever.
    pub pid_start: u64,
    /// The monitor's process id; 0 when there is none.
    pub monitor: i32,
    /// The status that the program ended with; 128 + n for signal n.
    pub exit_code: i32,
    /// The out-of-memory killer ended one of its processes.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// What ended it, where the status alone does not say: a signal and whence it came, as far as
    /// the cgroup's counters tell.
    pub ended_by: String,
    /// Why it could not start, or why its end is not known.
    pub error: String,
    /// When its program was started last.
    pub started_at: Time,
    /// When it ended last.
    pub finished_at: Time,
    /// How often the restart policy started it again.
    pub restart_count: u32,
    /// A user stopped it, so `unless-stopped` leaves it alone.
    pub stopped: bool,
    /// What its health checks say, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl Status {
    /// Docker's STATUS column: `Up 3 minutes (Paused)`, `Exited (0) 2 hours ago`, `Created`.
    pub fn describe(&self) -> String {
        let human = super::time::human;
        match self.phase {
            Phase::Created | Phase::Starting => "Created".into(),
            Phase::Running => {
                let health = match self.health.as_ref().map(|h| h.status.as_str()) {
                    None => String::new(),
                    Some("starting") => " (health: starting)".into(),
                    Some(status) => format!(" ({status})"),
                };
                format!("Up {}{health}", human(self.started_at.age()))
            }
            Phase::Paused => format!("Up {} (Paused)", human(self.started_at.age())),
            Phase::Restarting => format!(
                "Restarting ({}) {} ago",
                self.exit_code,
                human(self.finished_at.age())
            ),
            Phase::Exited => format!(
                "Exited ({}) {} ago",
                self.exit_code,
                human(self.finished_at.age())
            ),
            Phase::Removing => "Removal In Progress".into(),
        }
    }
}
