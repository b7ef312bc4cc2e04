//! The flag `--explain[=story|all|json]`, shared by every subcommand that carries out a plan.
//!
//! What it does: `--explain` alone tells the story; a depth needs `=`, so that the word after
//! `--explain` stays the next argument. Use: `#[command(flatten)] explain: ExplainFlag`, then
//! `let mut watch = args.explain.watch();` and pass `&mut *watch` to `journal::execute`. Drop the
//! watch before the container's own output begins.
//! Interface: [`ExplainFlag`]. Read next: [`crate::explain::Narrator`].

use crate::explain::{Depth, Narrator};
use crate::journal::Watch;

/// How to tell what is done.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub struct ExplainFlag {
    /// Tell on stderr what is done while it happens, and why: each system call with its reason,
    /// result, time and the kernel's state before and after. `all` shows every call, `json` prints
    /// the record.
    #[arg(
        long,
        value_name = "DEPTH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "story",
        value_enum
    )]
    pub explain: Option<Depth>,
}

impl ExplainFlag {
    /// The narrator, or nothing that watches.
    pub fn watch(&self) -> Box<dyn Watch> {
        match self.explain {
            Some(depth) => Box::new(Narrator::new(depth)),
            None => Box::new(()),
        }
    }
    /// The depth for a dry run: the story unless another was asked for.
    pub fn depth(&self) -> Depth {
        self.explain.unwrap_or_default()
    }
    /// Whether the facts around each step should be read.
    pub fn is_on(&self) -> bool {
        self.explain.is_some()
    }
}
