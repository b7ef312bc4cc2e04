//! The plan of `ns enter`: a command in existing namespaces.
//!
//! What it does: finds out which of the target's namespaces differ from ours, and in which order
//! they can be entered.
//!
//! What it implements: setns(2) with a pidfd (Linux 5.8: several namespaces in one call), or with
//! a namespace file. The order of the user namespace matters:
//!
//! - With CAP_SYS_ADMIN it comes last. Our capabilities reach into all user namespaces below ours;
//!   once inside, they reach no further than that one, and namespaces owned by an outer one would
//!   be refused.
//! - Without, it comes first. Whoever made a user namespace gets all capabilities in it by
//!   entering, and with them the right to enter the others that it owns.
//!
//! Entering a pid namespace moves only children, so there the command is a child.
//!
//! Interface: [`EnterRequest`], [`Target`]. Read next: `survey/mod.rs`.

use super::actions::{Chdir, Clone, Exec, Join, SetIds, SetNs, Signals};
use super::{Kind, may_administer, parse_maps};
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::journal::{Action, Actor, Plan, Scene, Stage, Step};
use crate::sys::{self, Errno};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// Whose namespaces, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Those of a process.
    Process(i32),
    /// The one behind a file: /proc/PID/ns/KIND, or what `ns pin` made.
    File(PathBuf),
}

/// What shall be run, and where.
#[derive(Debug, Clone)]
pub struct EnterRequest {
    /// Where.
    pub target: Target,
    /// Which kinds; empty for all that differ from the caller's.
    pub kinds: BTreeSet<Kind>,
    /// The user id inside; root where a user namespace is entered.
    pub setuid: Option<u32>,
    /// The group id inside; root's where a user namespace is entered.
    pub setgid: Option<u32>,
    /// Keep the ids even where a user namespace is entered.
    pub preserve_credentials: bool,
    /// The working directory inside.
    pub workdir: Option<PathBuf>,
    /// The command.
    pub argv: Vec<OsString>,
    /// Its environment.
    pub env: Vec<OsString>,
    /// Its signals.
    pub signals: Signals,
}

/// What was found out about the target.
#[derive(Debug)]
struct Found {
    join: fn(String) -> Join,
    what: String,
    kinds: BTreeSet<Kind>,
    /// Whether id 0 is mapped in the target's user namespace (or nobody can tell).
    has_root: bool,
    /// Whether setgroups(2) is allowed there.
    setgroups: bool,
    warnings: Vec<String>,
}

const TARGET: &str = "target";

impl EnterRequest {
    /// Opens the target (into `scene`), compares, and makes the plan. Errors: no such process, not
    /// a namespace file, one that may not be looked at, or a kind that the file is not.
    pub fn plan(&self, scene: &mut Scene) -> Result<Plan> {
        if self.argv.is_empty() {
            return Err(Error::kind(ErrorKind::Usage, "there is no command to run"));
        }
        let found = match &self.target {
            Target::Process(pid) => self.find_process(*pid, scene)?,
            Target::File(path) => self.find_file(path, scene)?,
        };
        Ok(self.steps(found, may_administer()))
    }

    fn find_process(&self, pid: i32, scene: &mut Scene) -> Result<Found> {
        // The pidfd first: whatever happens to the id later, this is the process that we mean.
        let pidfd = sys::process::pidfd_open(pid).map_err(|e| {
            let missing = e.errno == Errno::ESRCH;
            let error = Error::new(format!("cannot enter the namespaces of process {pid}"));
            if missing {
                error.with_kind(ErrorKind::NotFound).caused_by(e)
            } else {
                error.caused_by(e)
            }
        })?;
        let mut warnings = Vec::new();
        let mut kinds = BTreeSet::new();
        let asked: Vec<Kind> = match self.kinds.is_empty() {
            true => Kind::ALL.to_vec(),
            false => self.kinds.iter().copied().collect(),
        };
        for kind in asked {
            let Ok(ours) = std::fs::read_link(format!("/proc/self/ns/{kind}")) else {
                continue; // a kernel without this kind
            };
            let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))
                .with_context(|| format!("cannot read which {kind} namespace process {pid} is in"))
                .map_err(|e| {
                    e.hint(
                        "this needs the right to trace the process (ptrace(2)): the same user and \
                         no more capabilities than ours, or CAP_SYS_PTRACE in its user namespace",
                    )
                    .topic(kind.topic())
                })?;
            if ours != theirs {
                kinds.insert(kind);
            } else if !self.kinds.is_empty() {
                warnings.push(format!(
                    "process {pid} is in the same {kind} namespace as we are: nothing to enter"
                ));
            }
        }
        scene.put_fd(TARGET, pidfd);
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let has_root = read("uid_map").map_or(true, |text| {
            parse_maps(&text).iter().any(|m| m.outside_of(0).is_some())
        });
        let setgroups = read("setgroups").is_ok_and(|text| text.trim() == "allow");
        Ok(Found {
            join: |what| Join::Fd { name: TARGET, what },
            what: format!("pidfd of {pid}"),
            kinds,
            has_root,
            setgroups,
            warnings,
        })
    }

    fn find_file(&self, path: &std::path::Path, scene: &mut Scene) -> Result<Found> {
        let show = path.display().to_string();
        let file = sys::namespace::open_ns(path).map_err(|e| {
            let missing = e.errno == Errno::ENOENT;
            let error = Error::new(format!("cannot open {show}")).caused_by(e);
            if missing {
                error.with_kind(ErrorKind::NotFound)
            } else {
                error
            }
        })?;
        let flag = sys::namespace::ns_get_nstype(&file).map_err(|e| {
            Error::kind(ErrorKind::Usage, format!("{show} is not a namespace file"))
                .caused_by(e)
                .hint("a namespace file is /proc/PID/ns/KIND, or one that `glassbox ns pin` made")
                .topic("namespaces")
        })?;
        let kind = Kind::from_flag(flag).with_context(|| {
            format!("{show} is a namespace of a kind that is not known here ({flag:#x})")
        })?;
        if !self.kinds.is_empty() && !self.kinds.contains(&kind) {
            return Err(Error::kind(
                ErrorKind::Usage,
                format!("{show} is a {kind} namespace, which is not among those to enter"),
            ));
        }
        let mut warnings = Vec::new();
        let mut kinds = BTreeSet::from([kind]);
        use std::os::unix::fs::MetadataExt;
        let id = |p: &std::path::Path| std::fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
        if id(path) == id(format!("/proc/self/ns/{kind}").as_ref()) {
            warnings.push(format!(
                "{show} is the {kind} namespace that we are in already"
            ));
            kinds.clear();
        }
        scene.put_fd(TARGET, file);
        Ok(Found {
            join: |what| Join::Fd { name: TARGET, what },
            what: show,
            kinds,
            has_root: true,
            setgroups: false,
            warnings,
        })
    }

    /// The steps, purely.
    fn steps(&self, found: Found, capable: bool) -> Plan {
        let mut plan = Plan {
            warnings: found.warnings,
            ..Plan::default()
        };
        let mut push = |actor, id: &'static str, why: &'static str, action: Box<dyn Action>| {
            plan.push(Step {
                id: id.into(),
                stage: Stage::Namespaces,
                actor,
                why: why.into(),
                action,
            });
        };
        let user = found.kinds.contains(&Kind::User);
        let others = found
            .kinds
            .iter()
            .filter(|k| **k != Kind::User)
            .fold(0, |flags, k| flags | k.flag());
        let mut join = |flags, id, why| {
            let join = (found.join)(found.what.clone());
            push(Actor::Parent, id, why, Box::new(SetNs { join, flags }));
        };
        match (user, capable) {
            (true, false) => {
                let why =
                    "The user namespace first: it gives the capabilities to enter the others.";
                join(Kind::User.flag(), "enter-user", why);
                if others != 0 {
                    join(others, "enter", "Then the others, in one call.");
                }
            }
            (user, _) => {
                if others != 0 {
                    let why = "See what the target sees: all at once, so that no half-entered state can be seen.";
                    join(others, "enter", why);
                }
                if user {
                    let why = "The user namespace last: inside, our capabilities reach no further than it.";
                    join(Kind::User.flag(), "enter-user", why);
                }
            }
        }
        let mut actor = Actor::Parent;
        if found.kinds.contains(&Kind::Pid) {
            let why = "A process never changes its own pid namespace: a child is born into it.";
            let (flags, into_cgroup) = (0, None);
            push(
                Actor::Parent,
                "fork",
                why,
                Box::new(Clone { flags, into_cgroup }),
            );
            actor = Actor::Init;
        }
        let root = (user && found.has_root && !self.preserve_credentials).then_some(0);
        let (uid, gid) = (self.setuid.or(root), self.setgid.or(root));
        if uid.is_some() || gid.is_some() {
            let why = match self.setuid.or(self.setgid) {
                Some(_) => "The command runs as this user of the namespace.",
                None => "The command becomes root of the user namespace.",
            };
            // Forbidden for ever where the namespace's maker had to give setgroups up.
            let clear_groups = gid.is_some() && if user { found.setgroups } else { capable };
            push(
                actor,
                "ids",
                why,
                Box::new(SetIds {
                    uid,
                    gid,
                    clear_groups,
                }),
            );
        }
        if let Some(path) = self.workdir.clone() {
            push(
                actor,
                "workdir",
                "The command starts here.",
                Box::new(Chdir { path }),
            );
        }
        let exec = Exec {
            argv: self.argv.clone(),
            env: self.env.clone(),
            signals: self.signals.clone(),
            close_from: None,
        };
        push(
            actor,
            "execute",
            "Inside: this process becomes the command.",
            Box::new(exec),
        );
        plan
    }
}
