//! Stage 7: containers: a name, a place and a life for what the runtime makes.
//!
//! What it does: the engine behind `run`, `ps`, `exec`, `logs` and the others. It needs no daemon:
//! the state is on disk ([`store`]), under locks that the kernel releases whatever happens to
//! their holder, and each running container has one small process (`monitor.rs`) that owns its
//! stdio, its log and its exit status.
//!
//! What it implements: decision 5 of the design; the semantics of docker's commands.
//! Interface: [`Store`] finds containers, [`model`] says what one was created with. Read in this
//! order: `paths.rs`, `model.rs`, `flags.rs`, `state.rs`, `store.rs`, `attach.rs`, `log.rs`.

pub mod abilities;
pub mod actions;
pub mod attach;
pub mod client;
pub mod config;
pub mod create;
pub mod ending;
pub mod events;
pub mod exec;
pub mod files;
pub mod flags;
pub mod health;
pub mod image;
mod inside;
pub mod inspect;
pub mod lifecycle;
pub mod log;
pub mod model;
mod monitor;
pub mod name_files;
mod name_service;
mod name_steps;
pub mod names;
pub mod networks;
pub mod paths;
pub mod prepare;
pub mod processes;
pub mod reconcile;
pub mod recover;
pub mod remove;
mod spool;
pub mod start;
pub mod state;
pub mod stats;
pub mod store;
pub mod survey;
pub mod update;
pub mod user_network;
pub mod volumes;
pub mod wait;

pub use crate::spec::time;
pub use monitor::JOURNAL_AFTER;
pub use paths::Paths;
pub use state::{Phase, Record, Status};
pub use store::{Container, Store};
