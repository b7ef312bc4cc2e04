//! Looking at anything from the kernel's side: a process or container of any engine, an image, a
//! layer, a namespace, a cgroup, the host.
//!
//! What it does: fills one documented model ([`model::Document`]); text, tree, JSON and the labs'
//! checks are views of it. It never writes. Every leaf is a [`fact::Fact`]: the value with its
//! source, or the reason why it could not be read.
//! What it implements: see the files; the model's keys are listed by `glassbox inspect --schema`.
//! Interface: [`inspect`], [`Query`], [`model::Document`].
//! Read next: [`fact`], [`model`], then `process.rs`.

pub mod fact;
pub mod model;
pub mod text;

mod capabilities;
mod cgroup;
mod host;
mod keeper;
mod mounts;
mod namespace;
mod overlay;
mod proc_text;
mod process;
mod seccomp;
mod store;
mod target;
mod tree;

pub use cgroup::memory_limit_hit;
pub use host::host;
pub use process::{Processes, process, process_among};
pub use target::{Kind, Query, candidates, inspect};
