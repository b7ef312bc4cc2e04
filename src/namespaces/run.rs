//! The plan of `ns run`: a command in new namespaces.
//!
//! What it does: turns what was asked for into a list of steps, purely: the caller's ids and
//! capabilities come in as data. It decides what is implied, whether a second process is needed,
//! and who writes the id maps.
//!
//! ```text
//!   with --pid, or an id map that only somebody outside may write       without
//!   parent  clone3 into the new namespaces, write the id maps           unshare, write the id map
//!   init    clocks, names, lo, mounts, /proc, pivot_root, ids           the same steps in place
//!           execve; the parent waits and forwards signals               execve
//! ```
//!
//! What it implements: unshare(1)'s model of a command in new namespaces; the orders of
//! namespaces(7) that [`super::actions`] explains one by one.
//! Interface: [`RunRequest`], [`RunRequest::plan`]. Read next: `foreground.rs`, then `enter.rs`.

use super::actions::{
    BindRoot, Chdir, Clone, DenySetgroups, DieWithParent, Exec, LoopbackUp, MountProc, NewIdMap,
    PivotRoot, Propagate, Propagation, SetDomainname, SetHostname, SetIds, Signals, TimeOffset,
    TimeOffsets, Unshare, Whose, WriteIdMap,
};
use super::{Caller, IdKind, IdMap, Kind, MapWriter, map_writer};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::journal::{Action, Actor, Plan, Stage, Step};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// What shall be run, and in what.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The kinds that shall be new.
    pub kinds: BTreeSet<Kind>,
    /// The user id map; empty for none.
    pub uid_map: Vec<IdMap>,
    /// The group id map; empty for none.
    pub gid_map: Vec<IdMap>,
    /// The host name; implies a UTS namespace.
    pub hostname: Option<String>,
    /// The NIS domain name; implies a UTS namespace.
    pub domainname: Option<String>,
    /// The offset of the monotonic clock; implies a time namespace.
    pub monotonic: Option<TimeOffset>,
    /// The offset of the boot-time clock; implies a time namespace.
    pub boottime: Option<TimeOffset>,
    /// Mount a fresh /proc; `None` where a new pid and a new mount namespace come together.
    pub mount_proc: Option<bool>,
    /// The directory that becomes the root; implies a mount namespace.
    pub root: Option<PathBuf>,
    /// The working directory inside; the new root's `/` otherwise, or where the caller is.
    pub workdir: Option<PathBuf>,
    /// The user id inside.
    pub setuid: Option<u32>,
    /// The group id inside.
    pub setgid: Option<u32>,
    /// The propagation of the mounts in a new mount namespace.
    pub propagation: Propagation,
    /// The command.
    pub argv: Vec<OsString>,
    /// Its environment.
    pub env: Vec<OsString>,
    /// Its signals.
    pub signals: Signals,
}

impl RunRequest {
    /// A request that asks for no namespace at all.
    pub fn new(argv: Vec<OsString>, env: Vec<OsString>, signals: Signals) -> RunRequest {
        RunRequest {
            kinds: BTreeSet::new(),
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            hostname: None,
            domainname: None,
            monotonic: None,
            boottime: None,
            mount_proc: None,
            root: None,
            workdir: None,
            setuid: None,
            setgid: None,
            propagation: Propagation::default(),
            argv,
            env,
            signals,
        }
    }

    /// The kinds asked for together with those that other options imply.
    pub fn all_kinds(&self) -> BTreeSet<Kind> {
        let mut kinds = self.kinds.clone();
        let mut imply = |condition: bool, kind: Kind| {
            if condition {
                kinds.insert(kind);
            }
        };
        imply(
            !self.uid_map.is_empty() || !self.gid_map.is_empty(),
            Kind::User,
        );
        imply(
            self.hostname.is_some() || self.domainname.is_some(),
            Kind::Uts,
        );
        imply(
            self.monotonic.is_some() || self.boottime.is_some(),
            Kind::Time,
        );
        imply(
            self.root.is_some() || self.mount_proc == Some(true),
            Kind::Mnt,
        );
        kinds
    }

    /// Whether a fresh /proc is mounted.
    fn fresh_proc(&self, kinds: &BTreeSet<Kind>) -> bool {
        self.mount_proc
            .unwrap_or(kinds.contains(&Kind::Pid) && kinds.contains(&Kind::Mnt))
    }

    /// Whether a second process is needed: only the child of a process can be in a new pid
    /// namespace, and only somebody outside can write more than the caller's own id.
    // ANCHOR: fork-or-not
    pub fn forks(&self, caller: &Caller) -> bool {
        let own = |maps: &[IdMap], id: u32| match maps {
            [] => true,
            [one] => one.count == 1 && one.outside == id,
            _ => false,
        };
        self.all_kinds().contains(&Kind::Pid)
            || !own(&self.uid_map, caller.uid)
            || !own(&self.gid_map, caller.gid)
    }
    // ANCHOR_END: fork-or-not

    /// The plan. Errors: no command, a bad map, or options that contradict each other.
    pub fn plan(&self, caller: &Caller) -> Result<Plan> {
        if self.argv.is_empty() {
            return Err(Error::kind(ErrorKind::Usage, "there is no command to run"));
        }
        for (kind, maps) in [(IdKind::Uid, &self.uid_map), (IdKind::Gid, &self.gid_map)] {
            if !maps.is_empty() {
                IdMap::check(kind, maps)?;
            }
        }
        let kinds = self.all_kinds();
        let forks = self.forks(caller);
        let mut plan = Plan::default();
        self.warn(&kinds, caller, &mut plan);
        let flags = kinds
            .iter()
            .filter(|k| **k != Kind::Time)
            .fold(0, |flags, k| flags | k.flag());
        if forks {
            plan.push(step(
                Actor::Parent,
                "clone",
                "A new process begins inside new namespaces; it will become the command.",
                Clone {
                    flags,
                    into_cgroup: None,
                },
            ));
            self.maps_from_outside(caller, &mut plan);
        } else {
            if flags != 0 {
                plan.push(step(
                    Actor::Parent,
                    "unshare",
                    "This process itself moves into new namespaces; it will become the command.",
                    Unshare { flags },
                ));
            }
            self.maps_in_place(&mut plan);
        }
        self.inside(
            if forks { Actor::Init } else { Actor::Parent },
            &kinds,
            caller,
            &mut plan,
        );
        Ok(plan)
    }

    fn warn(&self, kinds: &BTreeSet<Kind>, caller: &Caller, plan: &mut Plan) {
        if kinds.is_empty() {
            let warning =
                "no namespace was asked for, so the command sees what you see (add --all)";
            plan.warnings.push(warning.into());
        }
        if kinds.contains(&Kind::User) && self.uid_map.is_empty() {
            plan.warnings.push(
                "a user namespace without an id map: everybody in it is the overflow id 65534 \
                 (add --map-root-user)"
                    .into(),
            );
        }
        if kinds.contains(&Kind::Pid) && !self.fresh_proc(kinds) {
            plan.warnings.push(
                "/proc still shows the old pid namespace, so ps sees the host's processes (add \
                 --mount-proc)"
                    .into(),
            );
        }
        let unchanged =
            self.propagation == Propagation::Unchanged || self.propagation == Propagation::Shared;
        if self.root.is_some() && unchanged {
            plan.warnings.push(format!(
                "pivot_root refuses a root whose mounts are shared, as they are on most hosts: \
                 --propagation {} may fail",
                self.propagation.name()
            ));
        }
        let own_group_only = map_writer(IdKind::Gid, &self.gid_map, caller) == MapWriter::Own;
        if own_group_only && self.setgid.is_some_and(|g| !mapped(&self.gid_map, g)) {
            plan.warnings
                .push("--setgid names a group that is not mapped".into());
        }
    }

    /// The maps of init's user namespace, written by the parent while init waits.
    fn maps_from_outside(&self, caller: &Caller, plan: &mut Plan) {
        for (kind, maps) in [(IdKind::Uid, &self.uid_map), (IdKind::Gid, &self.gid_map)] {
            if maps.is_empty() {
                continue;
            }
            let id = match kind {
                IdKind::Uid => "map-users",
                IdKind::Gid => "map-groups",
            };
            let why = why_map(kind);
            let maps = maps.clone();
            match map_writer(kind, &maps, caller) {
                MapWriter::Program => plan.push(step(
                    Actor::Parent,
                    id,
                    match kind {
                        IdKind::Uid => "More users than the caller itself: newuidmap may map those of /etc/subuid.",
                        IdKind::Gid => "More groups than the caller's own: newgidmap may map those of /etc/subgid.",
                    },
                    NewIdMap { kind, maps },
                )),
                writer => {
                    if kind == IdKind::Gid && writer == MapWriter::Own {
                        plan.push(deny(Whose::Child));
                    }
                    let whose = Whose::Child;
                    plan.push(step(Actor::Parent, id, why, WriteIdMap { kind, whose, maps }));
                }
            }
        }
    }

    /// The map of the caller's own new user namespace: its own id alone.
    fn maps_in_place(&self, plan: &mut Plan) {
        let whose = Whose::Own;
        if !self.uid_map.is_empty() {
            let (kind, maps) = (IdKind::Uid, self.uid_map.clone());
            let action = WriteIdMap { kind, whose, maps };
            plan.push(step(Actor::Parent, "map-users", why_map(kind), action));
        }
        if !self.gid_map.is_empty() {
            // After unshare no capability over the outer namespace is left, not even root's.
            plan.push(deny(whose));
            let (kind, maps) = (IdKind::Gid, self.gid_map.clone());
            let action = WriteIdMap { kind, whose, maps };
            plan.push(step(Actor::Parent, "map-groups", why_map(kind), action));
        }
    }

    /// The steps inside the namespaces, up to the command.
    fn inside(&self, actor: Actor, kinds: &BTreeSet<Kind>, caller: &Caller, plan: &mut Plan) {
        let mut push = |id: &'static str, why: &'static str, action: Box<dyn Action>| {
            plan.push(Step {
                id: id.into(),
                stage: Stage::Namespaces,
                actor,
                why: why.into(),
                action,
            });
        };
        if kinds.contains(&Kind::Time) {
            let (monotonic, boottime) = (self.monotonic, self.boottime);
            push(
                "clocks",
                "Clock offsets can only be set while nobody is in the time namespace: make it, set it, enter it.",
                Box::new(TimeOffsets {
                    monotonic,
                    boottime,
                }),
            );
        }
        if let Some(name) = self.hostname.clone() {
            let why = "The host name belongs to the UTS namespace; the host keeps its own.";
            push("hostname", why, Box::new(SetHostname { name }));
        }
        if let Some(name) = self.domainname.clone() {
            let why = "So does the NIS domain name.";
            push("domainname", why, Box::new(SetDomainname { name }));
        }
        if kinds.contains(&Kind::Net) {
            let why = "A new network namespace has only a loopback device, and it is down.";
            push("loopback", why, Box::new(LoopbackUp));
        }
        let propagation = self.propagation;
        if kinds.contains(&Kind::Mnt) && propagation != Propagation::Unchanged {
            let why = match propagation {
                Propagation::Private => "What is mounted from here on stays here.",
                Propagation::Slave => "New mounts of the host appear here, but not the reverse.",
                _ => "New mounts appear on both sides.",
            };
            push("propagation", why, Box::new(Propagate { propagation }));
        }
        let root = &self.root;
        if let Some(root) = root.clone() {
            let why = "pivot_root wants a mount point, so the directory is mounted onto itself.";
            push(
                "bind-root",
                why,
                Box::new(BindRoot {
                    path: root,
                    private: false,
                }),
            );
        }
        if self.fresh_proc(kinds) {
            let why = "/proc shows the pid namespace of whoever mounts it: ps now sees only these processes.";
            let root = root.clone();
            push("mount-proc", why, Box::new(MountProc { root }));
        }
        if let Some(root) = root.clone() {
            let why = "The directory becomes /, and the old root is let go: nothing of it can be named any more.";
            push("pivot-root", why, Box::new(PivotRoot { root }));
        }
        if let Some(path) = self.workdir.clone() {
            let why = "The command starts here.";
            push("workdir", why, Box::new(Chdir { path }));
        }
        if let Some((ids, why)) = self.ids(caller) {
            push("ids", why, Box::new(ids));
        }
        if actor == Actor::Init {
            let why = "A command in the foreground ends with the process that waits for it.";
            push("die-with-parent", why, Box::new(DieWithParent));
        }
        push(
            "execute",
            "The set-up is complete: this process becomes the command.",
            Box::new(Exec {
                argv: self.argv.clone(),
                env: self.env.clone(),
                signals: self.signals.clone(),
                close_from: None,
            }),
        );
    }

    /// Who the command is: as asked; else root of the namespace, where it has one and the caller
    /// itself is nobody in it.
    fn ids(&self, caller: &Caller) -> Option<(SetIds, &'static str)> {
        let nobody = |maps: &[IdMap], id: u32| {
            !maps.is_empty() && !maps.iter().any(|m| m.inside_of(id).is_some())
        };
        let become_root = nobody(&self.uid_map, caller.uid) && mapped(&self.uid_map, 0);
        let become_root_group = nobody(&self.gid_map, caller.gid) && mapped(&self.gid_map, 0);
        let uid = self.setuid.or(become_root.then_some(0));
        let gid = self.setgid.or(become_root_group.then_some(0));
        if uid.is_none() && gid.is_none() {
            return None;
        }
        // setgroups works with CAP_SETGID, unless it had to be given up for the map's sake.
        let denied = !self.gid_map.is_empty()
            && (!self.forks(caller)
                || map_writer(IdKind::Gid, &self.gid_map, caller) == MapWriter::Own);
        let capable = caller.setgid || !self.gid_map.is_empty();
        let why = if self.setuid.is_some() || self.setgid.is_some() {
            "The command runs as this user of the namespace."
        } else {
            "The caller's own id means nobody in here, so the command becomes the namespace's root."
        };
        let clear_groups = capable && !denied;
        Some((
            SetIds {
                uid,
                gid,
                clear_groups,
            },
            why,
        ))
    }
}

fn mapped(maps: &[IdMap], id: u32) -> bool {
    maps.iter().any(|m| m.outside_of(id).is_some())
}

fn why_map(kind: IdKind) -> &'static str {
    match kind {
        IdKind::Uid => "Says which users outside the ids inside are; until then all are nobody.",
        IdKind::Gid => "The same for groups.",
    }
}

fn deny(whose: Whose) -> Step {
    step(
        Actor::Parent,
        "deny-setgroups",
        "Without CAP_SETGID the kernel takes a group map only from one who gives up setgroups, \
         which could drop a group that keeps him out of a file.",
        DenySetgroups { whose },
    )
}

fn step(actor: Actor, id: &'static str, why: &'static str, action: impl Action + 'static) -> Step {
    Step {
        id: id.into(),
        stage: Stage::Namespaces,
        actor,
        why: why.into(),
        action: Box::new(action),
    }
}
