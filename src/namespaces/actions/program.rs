//! The last steps: who the process is inside, where it stands, and the program that it becomes.
//!
//! What it does: takes on the ids inside, changes directory, binds its life to the parent's where
//! that is wanted, and executes the command.
//! What it implements: setresuid(2), setgroups(2), chdir(2), `PR_SET_PDEATHSIG` of prctl(2),
//! execve(2).
//! Interface: [`SetIds`], [`Chdir`], [`DieWithParent`], [`Exec`]. Read next: `search.rs`.

use super::search::{diagnose, find};
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, cred, fs, process};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Takes on a user and a group id, as numbered inside the user namespace.
#[derive(Debug)]
pub struct SetIds {
    /// The user id, if it shall change.
    pub uid: Option<u32>,
    /// The group id, if it shall change.
    pub gid: Option<u32>,
    /// Drop all supplementary groups. Impossible where setgroups is denied.
    pub clear_groups: bool,
}

impl Action for SetIds {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = Vec::new();
        if self.clear_groups {
            calls.push(Planned::new("setgroups", "0, []"));
        }
        if let Some(gid) = self.gid {
            calls.push(Planned::new("setresgid", format!("{gid}, {gid}, {gid}")));
        }
        if let Some(uid) = self.uid {
            calls.push(Planned::new("setresuid", format!("{uid}, {uid}, {uid}")));
        }
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        // Groups before the user: afterwards the right to change them is gone.
        if self.clear_groups {
            cred::setgroups(&[]).context("cannot drop the supplementary groups")?;
        }
        if let Some(gid) = self.gid {
            cred::setresgid(gid).map_err(|e| id_refused("group", gid, e))?;
        }
        if let Some(uid) = self.uid {
            cred::setresuid(uid).map_err(|e| id_refused("user", uid, e))?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let fact = |what: &str, value: String, source: &str| Fact {
            what: what.into(),
            value: Ok(value),
            source: source.into(),
        };
        let mut facts = Vec::new();
        if self.uid.is_some() {
            let uid = nix::unistd::geteuid().to_string();
            facts.push(fact("user id", uid, "geteuid(2)"));
        }
        if self.gid.is_some() {
            let gid = nix::unistd::getegid().to_string();
            facts.push(fact("group id", gid, "getegid(2)"));
        }
        facts
    }
    fn expected(&self) -> Option<String> {
        self.uid.or(self.gid).map(|id| id.to_string())
    }
}

fn id_refused(word: &str, id: u32, e: sys::SysError) -> Error {
    let unmapped = e.errno == sys::Errno::EINVAL;
    let error = Error::new(format!("cannot become {word} {id}"))
        .caused_by(e)
        .topic("user-namespaces");
    if unmapped {
        error.hint(format!(
            "{word} {id} means nobody in this user namespace: map it, as in --map-{word} \
             {id}:OUTSIDE:1"
        ))
    } else {
        error
    }
}

/// Changes the working directory, as it is named inside.
#[derive(Debug)]
pub struct Chdir {
    /// Where to.
    pub path: PathBuf,
}

impl Action for Chdir {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("chdir", format!("{:?}", self.path))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        fs::chdir(&self.path)
            .with_context(|| format!("cannot change to the directory {}", self.path.display()))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: "working directory".into(),
            value: std::env::current_dir()
                .map(|p| p.display().to_string())
                .map_err(|e| e.to_string()),
            source: "getcwd(2)".into(),
        }]
    }
}

/// Asks for SIGKILL when the parent ends, so that a killed `ns run` leaves nothing running. The
/// kernel forgets it when the ids change, so this comes after [`SetIds`].
#[derive(Debug)]
pub struct DieWithParent;

impl Action for DieWithParent {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("prctl", "PR_SET_PDEATHSIG, SIGKILL")]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let signal = libc::SIGKILL as u64;
        process::prctl(
            "PR_SET_PDEATHSIG, SIGKILL",
            libc::PR_SET_PDEATHSIG,
            signal,
            0,
        )
        .context("cannot bind init's life to the parent's")
        .map(drop)
    }
}

/// What the program's signals are like when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signals {
    /// Every action default, none blocked: a container's first process.
    Reset,
    /// As glassbox itself found them: a program under `ns run` sees what its caller arranged
    /// (nohup's ignored SIGHUP, say).
    Inherited(sys::signal::Inherited),
}

/// Becomes the command.
#[derive(Debug)]
pub struct Exec {
    /// The command and its arguments.
    pub argv: Vec<OsString>,
    /// The environment, `NAME=value` each; its PATH is the one searched.
    pub env: Vec<OsString>,
    /// What becomes of the signals.
    pub signals: Signals,
    /// Descriptors from here on are closed, whoever opened them; `None` leaves what the caller gave.
    pub close_from: Option<u32>,
}

impl Action for Exec {
    fn calls(&self) -> Vec<Planned> {
        let argv: Vec<_> = self.argv.iter().map(|a| a.to_string_lossy()).collect();
        let program = argv.first().map(|a| a.to_string()).unwrap_or_default();
        vec![Planned::new("execve", format!("{program:?}, {argv:?}"))]
    }

    /// Never returns when it succeeds. Errors: `CommandNotFound` (status 127), `CannotExecute`
    /// (126).
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let path = find(self.argv.first().map_or(OsStr::new(""), |n| n), &self.env)?;
        match &self.signals {
            Signals::Reset => process::reset_signals(),
            Signals::Inherited(state) => state.restore(),
        }
        if let Some(first) = self.close_from {
            process::close_range_cloexec(first).context("cannot close our descriptors")?;
        }
        let error = process::execve(&path, &self.argv, &self.env);
        Err(diagnose(&path, error))
    }

    fn is_last_word(&self) -> bool {
        true
    }
}
