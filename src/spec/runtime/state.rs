//! The state of a container: what `state` prints and hooks get on stdin.
//!
//! What it implements: runtime.md, "State", and config-linux.md, "The container process state".
//! Interface: [`State`], [`Status`], [`ContainerProcessState`]. Read next: [`crate::runtime`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a container stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    #[default]
    Creating,
    /// Made; the program has not started.
    Created,
    /// The program runs.
    Running,
    /// The program ended.
    Stopped,
    /// The program is frozen (runc's addition).
    Paused,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Paused => "paused",
        })
    }
}

document! {
    /// A container's state.
    #[serde(rename_all = "camelCase")]
    pub struct State {
        required:
        /// The version of the specification.
        oci_version: String,
        /// Its id, unique on this host.
        id: String,
        /// Where it stands.
        status: Status,
        /// The absolute path of its bundle.
        bundle: PathBuf;
        optional:
        /// The process id on the host, when created or running.
        pid: i32,
        /// The annotations of its config.json.
        annotations: BTreeMap<String, String>;
    }
}

document! {
    /// What a seccomp listener gets together with the descriptor.
    #[serde(rename_all = "camelCase")]
    pub struct ContainerProcessState {
        required:
        /// The version of the specification.
        oci_version: String,
        /// What the descriptors are, in their order: `seccompFd`.
        fds: Vec<String>,
        /// The process that is filtered.
        pid: i32,
        /// The container's state.
        state: State;
        optional:
        /// `listenerMetadata` of the filter.
        metadata: Option<String>;
    }
}
