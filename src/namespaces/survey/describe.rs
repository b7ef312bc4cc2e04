//! Keepers in words.
//! Interface: `Display` of [`Keeper`], [`Namespace::why_alive`]. Read next: `tree.rs`.

use super::{Keeper, Namespace};
use std::fmt;

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |n: usize| if n == 1 { "" } else { "s" };
        match self {
            Keeper::Processes { count } => {
                write!(f, "{count} process{}", if *count == 1 { "" } else { "es" })
            }
            Keeper::Thread { pid, tid, command } => {
                write!(f, "thread {tid} of {pid} ({})", short(command))
            }
            Keeper::ForChildren { pid, command } => {
                write!(f, "for the next children of {pid} ({})", short(command))
            }
            Keeper::Descriptor { pid, fd, command } => {
                write!(f, "descriptor {fd} of {pid} ({})", short(command))
            }
            Keeper::Mount {
                path,
                mount_namespace,
                pid: None,
            } => write!(f, "mounted on {path} in mnt {mount_namespace}"),
            Keeper::Mount { path, .. } => write!(f, "mounted on {path}"),
            Keeper::Socket { pid, fd, command } => {
                write!(f, "socket {fd} of {pid} ({})", short(command))
            }
            Keeper::Children { ids } => write!(f, "{} below it", ids.len()),
            Keeper::Owned { count } => write!(f, "owns {count} namespace{}", s(*count)),
        }
    }
}

/// The program's name alone.
fn short(command: &str) -> &str {
    let word = command.split(' ').next().unwrap_or(command);
    word.rsplit('/')
        .next()
        .filter(|w| !w.is_empty())
        .unwrap_or(word)
}

impl Namespace {
    /// Why it exists, in one line: the first three keepers.
    pub fn why_alive(&self) -> String {
        if self.kept_by.is_empty() {
            return "unknown: nothing that can be seen holds it".into();
        }
        let mut words: Vec<String> = self.kept_by.iter().take(3).map(Keeper::to_string).collect();
        if self.kept_by.len() > 3 {
            words.push(format!("{} more", self.kept_by.len() - 3));
        }
        words.join(", ")
    }

    /// True when no process is in it: what lsns and ps do not show.
    pub fn is_unpeopled(&self) -> bool {
        self.processes.is_empty()
    }
}
