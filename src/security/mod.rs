//! What a process may do: capabilities, system call filters, resource limits, hidden paths.
//!
//! What it does: holds the facts (every capability and what it allows, docker's default lists),
//! the pure decisions (which capabilities remain, which filter follows from them), and the steps
//! that apply them. It knows nothing of namespaces, cgroups and layers.
//!
//! What it implements: capabilities(7), seccomp(2), getrlimit(2), signal(7), and docker's defaults.
//!
//! Interface: [`capabilities`] (names, meanings, sets), [`actions`] (the steps), [`seccomp`]
//! (compiler, disassembler, simulator, profiles), [`paths`] (masked and read-only paths, devices),
//! [`rlimits`], [`signals`], [`status`] (what a process has now). Read next: [`capabilities`].

pub mod actions;
pub mod capabilities;
pub mod paths;
pub mod rlimits;
pub mod seccomp;
pub mod signals;
pub mod status;
