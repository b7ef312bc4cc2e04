//! The step that loads a filter.
//!
//! What it implements: seccomp(2), `SECCOMP_SET_MODE_FILTER`.
//! Interface: [`LoadSeccomp`]. Read next: [`crate::security::actions`] for its place in the order.

use super::bpf::Instruction;
use super::compile::Compiled;
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::security::status::{Privileges, SeccompMode};
use crate::sys::{flag_names, seccomp as sys};

/// Loads a filter for this process and all its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadSeccomp {
    /// The program.
    pub program: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
    /// Nothing of ours follows but execve: it need not let pass what a report needs. A filter that
    /// is loaded earlier (see [`crate::runtime`]) must let the calls of the later steps pass.
    pub last: bool,
}

impl LoadSeccomp {
    /// The name under which the scene keeps the listener, when the filter has one.
    pub const LISTENER: &'static str = "seccomp-listener";

    /// The step for a compiled filter; `last` as in the field.
    pub fn new(compiled: Compiled, last: bool) -> LoadSeccomp {
        LoadSeccomp {
            program: compiled.program,
            flags: compiled.flags,
            last,
        }
    }
}

impl Action for LoadSeccomp {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "seccomp",
            format!(
                "SECCOMP_SET_MODE_FILTER, {}, {{{} instructions}}",
                flag_names(self.flags, sys::FLAGS),
                self.program.len()
            ),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let listener = sys::set_mode_filter(self.flags, &self.program)
            .context("cannot load the seccomp filter")
            .map_err(|e| self.explain(e))?;
        if let Some(listener) = listener {
            scene.put_fd(LoadSeccomp::LISTENER, listener);
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let value = Privileges::of_self()
            .map_err(|e| format!("{e:#}"))
            .map(|(p, _)| match (p.seccomp, p.seccomp_filters) {
                (Some(SeccompMode::Filter), Some(n)) => format!("filter ({n})"),
                (Some(SeccompMode::Filter), None) => "filter".into(),
                (Some(SeccompMode::Strict), _) => "strict".into(),
                (Some(SeccompMode::Disabled), _) => "none".into(),
                (None, _) => "unknown".into(),
            });
        vec![Fact {
            what: "seccomp".into(),
            value,
            source: "/proc/self/status".into(),
        }]
    }
    fn is_last_word(&self) -> bool {
        self.last
    }
}

impl LoadSeccomp {
    fn explain(&self, e: Error) -> Error {
        let e = e.topic("seccomp");
        match e.errno() {
            Some(libc::EACCES) => {
                e.hint("without CAP_SYS_ADMIN a filter needs no_new_privs (--security-opt no-new-privileges)")
            }
            Some(libc::EINVAL) if self.flags != 0 => e.hint(format!(
                "this kernel may not know {}",
                flag_names(self.flags, sys::FLAGS)
            )),
            Some(libc::ENOMEM) => e.hint("all filters of a process together have at most 32768 instructions"),
            _ => e,
        }
    }
}
