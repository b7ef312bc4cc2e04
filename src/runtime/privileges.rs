//! Privileges, dropped in the only order that works.
//!
//! What it does: lists the steps that take away what init no longer needs. Each needs a power that
//! a later one removes; [`crate::security::actions`] says which. The place of the seccomp filter
//! depends on one bit:
//!
//! ```text
//!   without no_new_privs   loading a filter needs CAP_SYS_ADMIN: it comes first, and must let
//!                          the calls of the later steps pass (docker's profile does)
//!   with no_new_privs      it needs no privilege: it comes last, and filters least of ours
//! ```
//!
//! What it implements: runtime-spec `process.user`, `capabilities`, `noNewPrivileges`,
//! `linux.seccomp`; seccomp(2). Interface: [`steps`]. Read next: `program.rs`.

use super::identity;
use super::listener::LoadWithListener;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Stage, Step};
use crate::security::actions::{DropBounding, NoNewPrivs, SetCapabilities, SetIds, SetRlimit};
use crate::security::capabilities::{self, CapSet, CapabilitySets};
use crate::security::rlimits;
use crate::security::seccomp::{self, LoadSeccomp};
use crate::spec::runtime::{Linux, NamespaceType, Process, Rlimit};
use crate::sys::cred;
use std::path::PathBuf;

/// The steps, in order. Errors: a capability that does not exist, a filter that cannot be compiled.
pub fn steps(process: &Process, linux: &Linux, host: &Host) -> Result<Vec<Step>> {
    let agent = agent(linux)?;
    let sets = match &process.capabilities {
        // An ambient capability must be inheritable too, or the kernel refuses it. Documents in the
        // wild ask for ambient ones alone (`runc spec` did for years): they get what they got.
        Some(c) => {
            let sets = CapabilitySets::from_oci(c)?;
            let in_vain = sets.permitted.minus(sets.inheritable);
            CapabilitySets {
                ambient: sets.ambient.minus(in_vain),
                ..sets
            }
        }
        None => CapabilitySets::default(),
    };
    let filter = match &linux.seccomp {
        Some(rules) => {
            let load = LoadSeccomp::new(seccomp::compile(rules)?, process.no_new_privileges);
            Some(match agent {
                None => Step::init(
                    Stage::Runtime,
                    "seccomp",
                    "System calls that containers do not need are refused by a filter in the kernel.",
                    load,
                ),
                Some(path) => Step::init(
                    Stage::Runtime,
                    "seccomp",
                    "Some system calls wait for an agent outside to decide, by a filter in the kernel.",
                    LoadWithListener { load, path },
                ),
            })
        }
        None => None,
    };
    let (early, late) = match process.no_new_privileges {
        true => (None, filter),
        false => (filter, None),
    };
    let mut steps = Vec::new();
    if process.no_new_privileges {
        steps.push(Step::init(
            Stage::Runtime,
            "no-new-privileges",
            "No program can gain privileges by being executed: set-user-id bits have no effect.",
            NoNewPrivs,
        ));
    }
    steps.extend(early);
    steps.push(Step::init(
        Stage::Runtime,
        "bounding-set",
        "Whatever it executes, no process in here can ever get more capabilities than these.",
        DropBounding {
            keep: sets.bounding,
            last: capabilities::last(),
        },
    ));
    let user = &process.user;
    let groups = user.additional_gids.clone();
    // Where setgroups is denied for good, the groups stay those of the user; its own is no change.
    let none_but_own = groups.iter().all(|gid| *gid == user.gid);
    let keep_groups = none_but_own && identity::denies_setgroups(linux, host);
    steps.push(Step::init(
        Stage::Runtime,
        "user",
        "It becomes the user that the program runs as.",
        SetIds {
            uid: user.uid,
            gid: user.gid,
            groups: (!keep_groups).then_some(groups),
            // The caller's own mask is none of the container's business.
            umask: Some(user.umask.unwrap_or(0o022)),
            keep_capabilities: true,
        },
    ));
    steps.push(Step::init(
        Stage::Runtime,
        "capabilities",
        "Root's power, cut down to the pieces that were asked for.",
        SetCapabilities { sets },
    ));
    steps.extend(late);
    Ok(steps)
}

/// Takes the capabilities out of a process that cannot be granted here, and returns their names, to be
/// warned of.
pub fn take_ungrantable(process: &mut Process, linux: Option<&Linux>) -> Result<Vec<String>> {
    let Some(asked) = &mut process.capabilities else {
        return Ok(Vec::new());
    };
    let user = |l: &Linux| l.namespaces.iter().any(|n| n.typ == NamespaceType::User);
    // In a user namespace of its own a process has all of them, whatever its maker has.
    let held = match linux.is_some_and(user) {
        true => None,
        false => Some(CapSet(cred::capget()?.permitted)),
    };
    Ok(capabilities::take_ungrantable(asked, held))
}

/// The socket of the agent that decides about calls, if some rule leaves them to one. Without such
/// a rule the socket has no meaning. Errors: a rule without an agent.
pub fn agent(linux: &Linux) -> Result<Option<PathBuf>> {
    let Some(rules) = linux.seccomp.as_ref().filter(|r| seccomp::uses_notify(r)) else {
        return Ok(None);
    };
    match rules.listener_path.as_deref() {
        None | Some("") => Err(Error::kind(
            Kind::Usage,
            "a seccomp rule has SCMP_ACT_NOTIFY, and linux.seccomp.listenerPath names no agent",
        )
        .topic("seccomp")),
        Some(path) => Ok(Some(path.into())),
    }
}

/// How many descriptors init itself may have open until it is the program; a lower limit waits.
const DESCRIPTORS: u64 = 64;

/// The steps for resource limits: those that come while init has the right to raise one, and those
/// that come last, because they take away what init still needs. Errors: a name that does not
/// exist, or is there twice.
pub fn rlimits(limits: &[Rlimit]) -> Result<(Vec<Step>, Vec<Step>)> {
    let (mut steps, mut last) = (Vec::new(), Vec::new());
    let step = |id: String, why, limit: &Rlimit, soft| {
        let (name, hard) = (limit.typ.clone(), limit.hard);
        Step::init(Stage::Runtime, id, why, SetRlimit { name, soft, hard })
    };
    for (i, limit) in limits.iter().enumerate() {
        rlimits::find(&limit.typ)?;
        if limits[..i].iter().any(|l| l.typ == limit.typ) {
            let what = format!("process.rlimits names {} twice", limit.typ);
            return Err(Error::kind(Kind::Usage, what).topic("oci-bundle"));
        }
        let low = limit.typ == "RLIMIT_NOFILE" && limit.soft < DESCRIPTORS;
        let mut soft = limit.soft;
        if low {
            last.push(step(
                format!("rlimit-{}-last", limit.typ),
                "So few descriptors that init itself could not go on: nothing is opened after this.",
                limit,
                soft,
            ));
            soft = limit.hard;
        }
        // A hard limit that low cannot be above the present one, and needs no right later.
        if !low || limit.hard >= DESCRIPTORS {
            steps.push(step(
                format!("rlimit-{}", limit.typ),
                "A limit of the process itself, which its children inherit.",
                limit,
                soft,
            ));
        }
    }
    Ok((steps, last))
}
