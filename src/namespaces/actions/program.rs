//! The last steps: who the process is inside, where it stands, and the program that it becomes.
//!
//! What it does: takes on the ids inside, changes directory, binds its life to the parent's where
//! that is wanted, and executes the command.
//! What it implements: setresuid(2), setgroups(2), chdir(2), `PR_SET_PDEATHSIG` of prctl(2),
//! execve(2), and the search over PATH of exec(3).
//! Interface: [`SetIds`], [`Chdir`], [`DieWithParent`], [`Exec`]. Read next: `../run.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, cred, fs, process};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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
    /// The command and its arguments; never empty.
    pub argv: Vec<OsString>,
    /// The environment, `NAME=value` each; its PATH is the one searched.
    pub env: Vec<OsString>,
    /// What becomes of the signals.
    pub signals: Signals,
}

impl Action for Exec {
    fn calls(&self) -> Vec<Planned> {
        let argv: Vec<_> = self.argv.iter().map(|a| a.to_string_lossy()).collect();
        let program = argv.first().map(|a| a.to_string()).unwrap_or_default();
        vec![Planned::new("execve", format!("{program:?}, {argv:?}"))]
    }

    /// Never returns when it succeeds. Errors: [`Kind::CommandNotFound`] (status 127),
    /// [`Kind::CannotExecute`] (126).
    fn apply(&self, _: &mut Scene) -> Result<()> {
        match &self.signals {
            Signals::Reset => process::reset_signals(),
            Signals::Inherited(state) => state.restore(),
        }
        let Some(name) = self.argv.first() else {
            return Err(Error::kind(Kind::Usage, "there is no command to execute"));
        };
        let mut denied = None;
        for candidate in candidates(name, self.path()) {
            // Looked for before it is tried, so that the record has one execve and not one for
            // each directory of PATH.
            if !candidate.exists() && !name.as_bytes().contains(&b'/') {
                continue;
            }
            let error = process::execve(&candidate, &self.argv, &self.env);
            match error.errno {
                sys::Errno::ENOENT | sys::Errno::ENOTDIR if !candidate.exists() => {}
                sys::Errno::EACCES => denied = denied.or(Some((candidate, error))),
                _ => return Err(cannot_execute(name, &candidate, error)),
            }
        }
        Err(match denied {
            Some((file, error)) => cannot_execute(name, &file, error),
            None => not_found(name, self.path()),
        })
    }

    fn is_last_word(&self) -> bool {
        true
    }
}

impl Exec {
    fn path(&self) -> Option<&OsStr> {
        self.env
            .iter()
            .find_map(|e| e.as_bytes().strip_prefix(b"PATH="))
            .map(OsStr::from_bytes)
    }
}

/// The files to try for a command: itself when it has a slash, else one in each directory of PATH
/// (an empty one is the working directory; without PATH, exec(3)'s default).
fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(name)];
    }
    if name.is_empty() {
        return Vec::new();
    }
    path.unwrap_or(OsStr::new("/bin:/usr/bin"))
        .as_bytes()
        .split(|b| *b == b':')
        .map(|dir| match dir {
            b"" => Path::new(".").join(name),
            dir => Path::new(OsStr::from_bytes(dir)).join(name),
        })
        .collect()
}

fn not_found(name: &OsStr, path: Option<&OsStr>) -> Error {
    let name = name.to_string_lossy();
    let error = Error::kind(Kind::CommandNotFound, format!("{name:?}: no such command"));
    if name.contains('/') {
        return error.hint("the path is looked up inside the container's root");
    }
    let path = path.map_or("/bin:/usr/bin".into(), |p| p.to_string_lossy());
    error.hint(format!(
        "it is in none of the directories of PATH inside: {path}"
    ))
}

fn cannot_execute(name: &OsStr, file: &Path, e: sys::SysError) -> Error {
    let hint = match e.errno {
        sys::Errno::ENOENT => {
            "the file is there, but not the interpreter that it names: the program after #!, or \
             the ELF loader (a dynamic program in a root without its libraries)"
        }
        sys::Errno::ENOEXEC => {
            "it is neither an ELF program for this machine nor a script that starts with #!"
        }
        sys::Errno::EACCES if file.is_dir() => "it is a directory",
        sys::Errno::EACCES => {
            "it is not executable for this user, or is on a file system mounted noexec"
        }
        _ => "see execve(2)",
    };
    Error::kind(
        Kind::CannotExecute,
        format!("cannot execute {:?}", name.to_string_lossy()),
    )
    .caused_by(e)
    .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_is_that_of_exec() {
        let find = |name: &str, path: Option<&str>| candidates(name.as_ref(), path.map(OsStr::new));
        assert_eq!(find("./x", Some("/bin")), [Path::new("./x")]);
        assert_eq!(
            find("sh", Some("/a::/b")),
            [Path::new("/a/sh"), Path::new("./sh"), Path::new("/b/sh")]
        );
        assert_eq!(
            find("sh", None),
            [Path::new("/bin/sh"), Path::new("/usr/bin/sh")]
        );
        assert!(find("", Some("/bin")).is_empty());
    }
}
