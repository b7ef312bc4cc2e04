//! Stage 1, namespaces: give a process its own view of the system.
//!
//! What it does: a namespace is one table of the kernel's (mounts, process ids, network devices,
//! names…) of which there may be several; every process points to one of each of eight kinds.
//! This module makes namespaces, enters them, keeps them alive without a process, and finds out
//! which there are, who owns them and what keeps them alive.
//!
//! What it implements: namespaces(7) and the page of each kind; clone(2), unshare(2), setns(2),
//! user_namespaces(7) for the id maps, ioctl_nsfs(2) for the relations.
//!
//! Interface: [`Kind`] (the eight), [`IdMap`] (what an id inside is outside), [`actions`] (the
//! steps out of which `ns run`, and the runtime, build their plans), [`survey`] (the read side).
//! Read next: `kind.rs`, then `idmap.rs`, then `actions/clone.rs`.

pub mod actions;
mod enter;
mod foreground;
mod idmap;
mod kind;
mod pin;
mod refusal;
mod run;
pub mod survey;

pub use enter::{EnterRequest, Target};
pub use foreground::Foreground;
pub use idmap::{Caller, IdKind, IdMap, MapWriter, map_writer, parse_maps, subordinate_ranges};
pub use kind::Kind;
pub use pin::{pin, unpin};
pub use refusal::{may_administer, refused, split_off};
pub use run::RunRequest;
