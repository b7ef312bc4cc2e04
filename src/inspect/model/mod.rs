//! The one model of everything that can be looked at. Text, tree, JSON, `--why` and the labs'
//! checks are views of it.
//!
//! What it does: declares the keys of the JSON, each with its documentation and unit. The same
//! declarations print as `glassbox inspect --schema`, one line a key, and a test holds that no
//! output has a key that is not there. Keys are added, never renamed or given another meaning.
//! How values, sources and reasons relate is told in [`super::fact`].
//!
//! What it implements: proc(5), namespaces(7), cgroups(7), capabilities(7), seccomp(2),
//! statmount(2), getrlimit(2); Docker's `inspect` for the keys in `container` and `image`.
//! Interface: [`Document`]; `process.rs` and `things.rs` beside this file have the sections.
//! Read next: `../process.rs`, which fills most of it.

mod process;
mod things;

pub use process::*;
pub use things::*;

use super::fact::{Documented, Plain, listing, model, plain};
use serde_json::Value;

model! {
    /// What `glassbox inspect` prints. Exactly one of the sections after `target` is the target's
    /// own; a container that runs has `process` as well.
    Document {
        /// container, process, image, layer, namespace, cgroup or host.
        kind: String,
        /// The target as it was given.
        target: String,
        /// A container of this engine, with docker's keys (State, Config, HostConfig, Mounts, NetworkSettings); in templates they are at the top as well.
        container: Option<Value>,
        /// An image, with docker's keys (Id, RepoTags, Config, RootFS, Size).
        image: Option<Value>,
        /// An unpacked layer.
        layer: Option<Layer>,
        /// A namespace.
        namespace: Option<Namespace>,
        /// A cgroup.
        cgroup: Option<Cgroup>,
        /// A process, of whatever engine or none: for a container its first process.
        process: Option<Process>,
        /// This host: what its kernel and this user may do.
        host: Option<Host>,
    }
}

impl Document {
    /// A document without sections.
    pub fn new(kind: &str, target: &str) -> Self {
        Document {
            kind: kind.into(),
            target: target.into(),
            container: None,
            image: None,
            layer: None,
            namespace: None,
            cgroup: None,
            process: None,
            host: None,
        }
    }

    /// The model as plain values, its unread facts and its sources.
    pub fn plain(&self) -> Plain {
        let mut plain = plain(self);
        if let Value::Object(map) = &mut plain.value {
            let absent: Vec<String> = map
                .iter()
                .filter(|(_, v)| v.is_null())
                .map(|(k, _)| k.clone())
                .collect();
            for key in absent {
                // Not `remove`, which moves the last key into the gap.
                map.shift_remove(&key);
            }
        }
        plain
    }

    /// The JSON that `--json` prints; with `why` also the sources. Sections that do not apply are
    /// left out.
    pub fn to_json(&self, why: bool) -> Value {
        let plain = self.plain();
        let mut value = plain.value;
        value["unread"] = serde_json::to_value(plain.unread).unwrap_or_default();
        if why {
            value["sources"] = serde_json::to_value(plain.sources).unwrap_or_default();
        }
        value
    }

    /// What templates see: the JSON, and for a container or image docker's keys at the top, so
    /// that `{{.State.Pid}}` works.
    pub fn for_templates(&self) -> Value {
        let mut value = self.to_json(true);
        let docker = self.container.as_ref().or(self.image.as_ref());
        if let (Some(Value::Object(keys)), Value::Object(map)) = (docker, &mut value) {
            let mut all = keys.clone();
            all.append(map);
            *map = all;
        }
        value
    }

    /// Every key of the model: path, type, documentation.
    pub fn schema() -> Vec<(String, String, String)> {
        let mut lines = listing(&Self::shape());
        for (path, kind, doc) in [
            ("unread", "list of object", "What could not be read."),
            ("unread[].path", "text", "Which key."),
            ("unread[].source", "text", "Where it would have been read."),
            (
                "unread[].why",
                "text",
                "The errno, or the kernel option that is off.",
            ),
            (
                "sources",
                "map of text",
                "With --why: path of a key → file, ioctl or system call.",
            ),
        ] {
            lines.push((path.into(), kind.into(), doc.into()));
        }
        lines
    }
}
