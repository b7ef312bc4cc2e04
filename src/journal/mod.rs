//! A container's set-up is data before it is action, and a record after it.
//!
//! What it does: a [`Plan`] is an ordered list of [`Step`]s. A step knows its stage, its system
//! calls, who takes it and why it is there; its [`Action`] knows how to apply it, how to read the
//! result back from the kernel, and how to undo it. [`execute()`] walks the list in the two
//! processes that make a container, undoes what was done when one fails, and writes down what
//! happened as [`Event`]s. Dry run, narration, rollback, timing and root-less snapshot tests are
//! this one list seen differently.
//!
//! What it implements: decisions 2 and 3 of the design. The calls themselves are recorded below
//! this module, in [`crate::sys::record`], so none can be forgotten.
//!
//! Interface: [`Plan`], [`Step`], [`Action`], [`Scene`], [`execute()`], [`read`].
//! Read next: `step.rs`, then `execute.rs` (the protocol between the two processes).

mod event;
pub mod execute;
mod scene;
mod step;

pub use event::{Event, Phase, Record, parse, read};
pub use execute::{Options, Running, STARTER, Watch, execute};
pub use scene::{Child, Scene};
pub use step::{Action, Actor, Fact, Plan, Planned, Stage, Step};
