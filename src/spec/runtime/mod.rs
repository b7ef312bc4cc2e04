//! The runtime's documents: config.json, the state, the features.
//!
//! What it implements: config.md, config-linux.md, runtime.md and features.md of
//! <https://github.com/opencontainers/runtime-spec> 1.3, for Linux. Sections of other systems
//! (`windows`, `solaris`, `vm`, `zos`) are kept in `extra`.
//! Interface: [`Spec`] and what it holds; [`State`]; [`Features`]. Paths inside the container are
//! absolute there; `root.path` is relative to the bundle.
//! Read next: `process.rs`, `linux.rs`, `resources.rs`, `seccomp.rs`.

mod features;
mod linux;
mod process;
mod resources;
mod seccomp;
mod state;

pub use features::*;
pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use state::*;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The version of the runtime specification that we write into new documents.
pub const OCI_VERSION: &str = "1.3.0";

document! {
    /// config.json: everything about one container.
    #[serde(rename_all = "camelCase")]
    pub struct Spec {
        required:
        /// The version of the specification that the document follows, as SemVer.
        oci_version: String;
        optional:
        /// The root file system.
        root: Option<Root>,
        /// What is mounted into it, in this order.
        mounts: Vec<Mount>,
        /// The program. Needed by `start`, not by `create`.
        process: Option<Process>,
        /// The host name in a new UTS namespace.
        hostname: Option<String>,
        /// The NIS domain name in a new UTS namespace.
        domainname: Option<String>,
        /// Programs that the runtime calls at set moments.
        hooks: Option<Hooks>,
        /// What only Linux has.
        linux: Option<Linux>,
        /// Free-form notes; keys are reverse domain names.
        annotations: BTreeMap<String, String>;
    }
}

document! {
    /// The root file system of the container.
    #[serde(rename_all = "camelCase")]
    pub struct Root {
        required:
        /// A directory, absolute or relative to the bundle.
        path: PathBuf;
        optional:
        /// Mounted read-only in the container.
        readonly: bool;
    }
}

document! {
    /// One mount of the container.
    #[serde(rename_all = "camelCase")]
    pub struct Mount {
        required:
        /// Where, as an absolute path in the container.
        destination: PathBuf;
        optional:
        /// The file system's type; absent for a bind mount.
        #[serde(rename = "type")]
        typ: Option<String>,
        /// A device, a directory of the host (absolute, or relative to the bundle), or a dummy.
        source: Option<PathBuf>,
        /// Flags (`ro`, `nosuid`, `rbind`, `rro`, `idmap`, …); what is unknown is the file
        /// system's own data.
        options: Vec<String>,
        /// For an id-mapped mount: user ids on disk (container) to ids seen (host).
        uid_mappings: Vec<IdMapping>,
        /// The same for group ids.
        gid_mappings: Vec<IdMapping>;
    }
}

document! {
    /// Programs that the runtime calls at set moments, with the state's JSON on stdin.
    #[serde(rename_all = "camelCase")]
    pub struct Hooks {
        optional:
        /// Deprecated: in the runtime's namespaces, after the namespaces were made.
        prestart: Vec<Hook>,
        /// In the runtime's namespaces, before pivot_root.
        create_runtime: Vec<Hook>,
        /// In the container's namespaces, before pivot_root.
        create_container: Vec<Hook>,
        /// In the container, right before the program starts.
        start_container: Vec<Hook>,
        /// In the runtime's namespaces, after the program was started.
        poststart: Vec<Hook>,
        /// In the runtime's namespaces, after the container was deleted.
        poststop: Vec<Hook>;
    }
}

document! {
    /// One program of a hook.
    #[serde(rename_all = "camelCase")]
    pub struct Hook {
        required:
        /// An absolute path, in the file system of the hook's namespace.
        path: PathBuf;
        optional:
        /// The arguments, the program's own name first.
        args: Vec<String>,
        /// `KEY=VALUE` entries: its whole environment.
        env: Vec<String>,
        /// Seconds after which the hook is killed; greater than zero.
        timeout: Option<i64>;
    }
}
