//! A state root of a test's own, and the commands run in it.
//!
//! Interface: [`Host`]. Read next: `run.rs`.

use super::{LeakCheck, Output, TempRoot, run_in};

/// A state root; its leak check is dropped before it.
pub struct Host {
    _leaks: LeakCheck,
    /// The state root.
    pub root: TempRoot,
}

impl Host {
    /// A fresh one.
    pub fn new(name: &str) -> Host {
        let root = TempRoot::new(name);
        Host {
            _leaks: LeakCheck::new(&root),
            root,
        }
    }
    /// Runs a command to its end.
    #[track_caller]
    pub fn go(&self, args: &[&str]) -> Output {
        run_in(&self.root, args)
    }
    /// Stdout of a command that succeeds, trimmed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.go(args);
        assert_eq!(out.code(), 0, "{out}");
        out.stdout.trim_end().to_string()
    }
    /// `run --rm lab sh -c SCRIPT` with further flags.
    #[track_caller]
    pub fn sh(&self, flags: &[&str], script: &str) -> String {
        let args = [&["run", "--rm"], flags, &["lab", "sh", "-c", script]].concat();
        self.ok(&args)
    }
    /// Stderr of a command that fails with this status.
    #[track_caller]
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let out = self.go(args);
        assert_eq!(out.code(), code, "{out}");
        out.stderr
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let left = run_in(&self.root, ["ps", "-aq"]).stdout;
        let ids: Vec<&str> = left.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = run_in(&self.root, [&["rm", "-f"][..], &ids].concat());
        }
    }
}
