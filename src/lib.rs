//! glassbox: a container engine with glass walls.
//!
//! What it does: runs complete containers, and shows from the kernel itself how each one is made
//! and what holds it. Every concept behind Docker is one module here, one subcommand, one chapter
//! of the book and one lab.
//!
//! The modules below stand in reading order. Each imports only from the rows above it (the table
//! is in `ARCHITECTURE.md`; `tests/tidy.rs` holds it), so a reader never needs what comes later.
//!
//! Start with [`sys`] (the only way to the kernel), then [`journal`] (a container's set-up is a
//! list of steps before it is action), then any stage.

// Row 0: the kernel's calls, the one error type, the only code that prints.
pub mod error;
pub mod sys;
pub mod ui;

// Row 1: files of ours, steps and their record, what this host allows, the OCI documents.
pub mod files;
pub mod host;
pub mod journal;
pub mod spec;

// Row 2: the kernel features, one stage each. They never import each other.
pub mod cgroups;
pub mod layers;
pub mod namespaces;
pub mod network;
pub mod security;

// Row 3: images (from layers) and the runtime (from namespaces, cgroups and security).
pub mod images;
pub mod runtime;

// Row 4: registries (from images), and the read side.
pub mod inspect;
pub mod registry;

// Row 5: the engine.
pub mod containers;

// Row 7: teaching.
pub mod explain;
pub mod labs;

// Row 8: the command line. Nothing imports it.
pub mod cli;

pub use error::{Error, Result};
