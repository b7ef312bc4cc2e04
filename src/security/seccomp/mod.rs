//! System call filters: from rules to a program of the kernel's, and back to words.
//!
//! What it does: compiles the rules of config.json into classic BPF, runs such a program on a call
//! that nobody made, prints it, and says of any program, also one dumped from a live process,
//! what happens to each call. Nothing of libseccomp is needed.
//!
//! ```text
//!   rules ──compile──▶ program ──seccomp(2)──▶ the kernel
//!   docker's default     │  ▲                      │
//!   a profile's JSON     │  └────────ptrace(2)─────┘
//!                        ├── run          one call → verdict
//!                        ├── disassemble  program → text
//!                        └── describe     program → every call's verdict
//! ```
//!
//! What it implements: seccomp(2), the kernel's userspace-api/seccomp_filter document, the seccomp
//! section of the runtime specification.
//!
//! Interface: [`compile()`], [`bpf`], [`disassemble()`], [`describe()`], [`profile`], [`docker_json`],
//! [`dump`], [`LoadSeccomp`]. Read next: [`bpf`], then `compile.rs`.

pub mod bpf;
pub mod compile;
pub mod describe;
pub mod disassemble;
pub mod docker_json;
pub mod dump;
mod load;
pub mod names;
pub mod profile;

pub use compile::{Compiled, compile, interpret, uses_notify};
pub use describe::describe;
pub use disassemble::disassemble;
pub use load::LoadSeccomp;
