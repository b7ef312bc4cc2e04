//! Who init is, in a user namespace of its own.
//!
//! What it does: the steps that map the container's ids onto the host's, and the one by which
//! init becomes root inside. Until the maps are written every id in the namespace reads 65534, and
//! init may do nothing that needs an id.
//! What it implements: user_namespaces(7), runtime-spec "User namespace mappings".
//! Interface: [`map_steps`], [`BecomeRoot`]. Read next: `session.rs`.

use crate::error::{Context, Result};
use crate::host::Host;
use crate::journal::{Action, Actor, Fact, Planned, Scene, Stage, Step};
use crate::namespaces::{Caller, IdKind, IdMap, MapWriter, actions, map_writer};
use crate::spec::runtime::{IdMapping, Linux, NamespaceType};
use crate::sys;

/// Whether setgroups(2) is denied for good in the container's own user namespace: its maker had no
/// power over groups outside, and mapped its own group alone.
pub fn denies_setgroups(linux: &Linux, host: &Host) -> bool {
    let own = linux
        .namespaces
        .iter()
        .any(|n| n.typ == NamespaceType::User);
    own && map_writer(IdKind::Gid, &id_maps(&linux.gid_mappings), &caller(host)) == MapWriter::Own
}

/// The namespaces stage's form of a document's map.
pub fn id_maps(list: &[IdMapping]) -> Vec<IdMap> {
    list.iter()
        .map(|m| IdMap {
            inside: m.container_id,
            outside: m.host_id,
            count: m.size,
        })
        .collect()
}

fn caller(host: &Host) -> Caller {
    let privileged = !host.rootless;
    Caller {
        uid: host.euid,
        gid: host.egid,
        setuid: privileged,
        setgid: privileged,
    }
}

/// The parent's steps that write the maps of the child. Errors: a bad map.
pub fn map_steps(linux: &Linux, host: &Host) -> Result<Vec<Step>> {
    let (uids, gids) = (id_maps(&linux.uid_mappings), id_maps(&linux.gid_mappings));
    IdMap::check(IdKind::Uid, &uids)?;
    IdMap::check(IdKind::Gid, &gids)?;
    let caller = caller(host);
    let mut steps = Vec::new();
    let mut push = |id, why: &'static str, action: Box<dyn Action>| {
        steps.push(Step {
            id: std::borrow::Cow::Borrowed(id),
            stage: Stage::Namespaces,
            actor: Actor::Parent,
            why: why.into(),
            action,
        });
    };
    let writer = |kind, maps: &Vec<IdMap>| -> Box<dyn Action> {
        match map_writer(kind, maps, &caller) {
            MapWriter::Program => Box::new(actions::NewIdMap {
                kind,
                maps: maps.clone(),
            }),
            _ => Box::new(actions::WriteIdMap {
                kind,
                whose: actions::Whose::Child,
                maps: maps.clone(),
            }),
        }
    };
    push(
        "uid-map",
        "Who the container's users are outside: its root is an ordinary user there.",
        writer(IdKind::Uid, &uids),
    );
    if map_writer(IdKind::Gid, &gids, &caller) == MapWriter::Own {
        push(
            "setgroups",
            "Without power over groups outside, dropping one inside could open a file that keeps it out.",
            Box::new(actions::DenySetgroups {
                whose: actions::Whose::Child,
            }),
        );
    }
    push(
        "gid-map",
        "The same for its groups.",
        writer(IdKind::Gid, &gids),
    );
    Ok(steps)
}

/// Init: uid 0 and gid 0 of its user namespace.
#[derive(Debug)]
pub struct BecomeRoot;

impl Action for BecomeRoot {
    fn calls(&self) -> Vec<Planned> {
        vec![
            Planned::new("setresgid", "0, 0, 0"),
            Planned::new("setresuid", "0, 0, 0"),
        ]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let what = "cannot become root in the user namespace";
        sys::cred::setresgid(0).context(what)?;
        sys::cred::setresuid(0).context(what)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: "uid inside".into(),
            value: Ok(nix::unistd::geteuid().to_string()),
            source: "geteuid(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("0".into())
    }
}
