//! The steps that make namespaces and furnish them.
//!
//! What it does: one small struct an action; its fields are the arguments, so that a plan can be
//! printed and compared without doing it. `ns run`, `ns enter` and the runtime build their plans
//! out of these.
//! What it implements: [`crate::journal::Action`] over the calls of [`crate::sys`].
//!
//! Interface, in the order in which a container needs them:
//!
//! | Action | Calls | Taken by |
//! |---|---|---|
//! | [`Clone`] | clone3 | parent |
//! | [`Unshare`], [`SetNs`] | unshare, setns | either |
//! | [`DenySetgroups`], [`WriteIdMap`], [`NewIdMap`] | write, newuidmap | parent (or itself) |
//! | [`HoldIdMap`] | clone3, write | parent, for an id-mapped mount |
//! | [`TimeOffsets`] | write, setns | the process that called unshare |
//! | [`SetHostname`], [`SetDomainname`], [`LoopbackUp`] | sethostname … | init |
//! | [`Propagate`], [`BindRoot`], [`MountProc`], [`PivotRoot`] | mount, pivot_root | init |
//! | [`SetIds`], [`Chdir`], [`DieWithParent`], [`Exec`] | setresuid, chdir, execve | init |
//!
//! Read next: `clone.rs`.

mod clone;
mod holder;
mod idmaps;
mod mounts;
mod names;
mod program;
mod search;

pub use clone::{Clone, Join, SetNs, Unshare};
pub use holder::HoldIdMap;
pub use idmaps::{DenySetgroups, NewIdMap, Whose, WriteIdMap};
pub use mounts::{BindRoot, MountProc, PivotRoot, Propagate, Propagation, pivot, pivot_calls};
pub use names::{LoopbackUp, SetDomainname, SetHostname, TimeOffset, TimeOffsets};
pub use program::{Chdir, DieWithParent, Exec, SetIds, Signals};
pub use search::{diagnose, find};
