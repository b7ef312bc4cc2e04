//! Id maps: who the ids inside a user namespace are outside.
//!
//! What it does: writes uid_map and gid_map of a new user namespace, once and for ever (the kernel
//! takes one write each), directly or through the set-user-id programs newuidmap and newgidmap.
//!
//! What it implements: user_namespaces(7), newuidmap(1), newgidmap(1). Until the map is written
//! every id in the namespace is the overflow id 65534, so nothing there can become root. A process
//! without CAP_SETGID must first write `deny` to /proc/PID/setgroups: otherwise it could drop a
//! group that a file's mode uses to keep people out ("rwx---rwx").
//!
//! Interface: [`DenySetgroups`], [`WriteIdMap`], [`NewIdMap`], [`Whose`]. Read next: `names.rs`.

use crate::error::{Context, Error, Result};
use crate::host::procfs;
use crate::journal::{Action, Fact, Planned, Scene};
use crate::namespaces::{IdKind, IdMap, refusal::restricted_by_apparmor};
use crate::sys;
use std::path::{Path, PathBuf};

/// Whose user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of init, which an earlier [`super::Clone`] made; the parent writes.
    Child,
    /// The caller's own, after [`super::Unshare`].
    Own,
}

impl Whose {
    fn file(self, scene: &Scene, name: &str) -> Result<PathBuf> {
        Ok(match self {
            Whose::Child => PathBuf::from(format!("/proc/{}/{name}", scene.child_pid()?)),
            Whose::Own => PathBuf::from(format!("/proc/self/{name}")),
        })
    }
    /// Through a procfs of ours: whatever /proc is here, no other process gets the map.
    fn write(self, scene: &Scene, name: &str, text: &str) -> Result<()> {
        match self {
            Whose::Child => procfs::write(&format!("{}/{name}", scene.child_pid()?), text),
            Whose::Own => procfs::write_own(name, text),
        }
    }
    fn planned(self, name: &str) -> String {
        match self {
            Whose::Child => format!("/proc/INIT/{name}"),
            Whose::Own => format!("/proc/self/{name}"),
        }
    }
    fn fact(self, scene: &Scene, name: &str) -> Vec<Fact> {
        match self.file(scene, name) {
            Ok(path) => vec![normalised(Fact::from_file(name.to_string(), path))],
            Err(_) => Vec::new(),
        }
    }
}

/// The kernel pads the columns of a map; a reader compares the numbers.
fn normalised(mut fact: Fact) -> Fact {
    if let Ok(text) = &mut fact.value {
        let lines: Vec<String> = text
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        *text = lines.join("; ");
    }
    fact
}

fn expected_text(maps: &[IdMap]) -> String {
    IdMap::kernel_text(maps).trim_end().replace('\n', "; ")
}

/// Writes `deny` to /proc/PID/setgroups: setgroups(2) is forbidden in the namespace for ever.
#[derive(Debug)]
pub struct DenySetgroups {
    /// Whose.
    pub whose: Whose,
}

impl Action for DenySetgroups {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{} ← deny", self.whose.planned("setgroups")),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        self.whose
            .write(scene, "setgroups", "deny")
            .context("cannot give up setgroups in the user namespace")
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.whose.fact(scene, "setgroups")
    }
    fn expected(&self) -> Option<String> {
        Some("deny".into())
    }
}

/// Writes uid_map or gid_map.
#[derive(Debug)]
pub struct WriteIdMap {
    /// Which of the two.
    pub kind: IdKind,
    /// Whose.
    pub whose: Whose,
    /// The ranges.
    pub maps: Vec<IdMap>,
}

impl Action for WriteIdMap {
    fn calls(&self) -> Vec<Planned> {
        let file = self.whose.planned(self.kind.map_file());
        vec![Planned::new(
            "write",
            format!("{file} ← {}", expected_text(&self.maps)),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        IdMap::check(self.kind, &self.maps)?;
        let text = IdMap::kernel_text(&self.maps);
        let written = self.whose.write(scene, self.kind.map_file(), &text);
        written.map_err(|e| {
            let hint = match e.errno() {
                Some(libc::EPERM) => Some(restricted_by_apparmor().unwrap_or(
                    "without CAP_SETUID and CAP_SETGID the kernel takes a single line that maps \
                     the caller's own id; a group map then needs `deny` in setgroups; mapping \
                     more takes newuidmap and newgidmap, with ranges in /etc/subuid and /etc/subgid",
                )),
                Some(libc::EINVAL) => Some("ranges must not overlap, and at most 340 are taken"),
                _ => None,
            };
            let word = self.kind.word();
            let error = Error::new(format!("cannot write the {word} id map"))
                .caused_by(e)
                .topic("user-namespaces");
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.whose.fact(scene, self.kind.map_file())
    }
    fn expected(&self) -> Option<String> {
        Some(expected_text(&self.maps))
    }
}

/// Has newuidmap or newgidmap write init's map: for users who may not themselves, within the
/// ranges that the administrator gave them in /etc/subuid and /etc/subgid.
#[derive(Debug)]
pub struct NewIdMap {
    /// Which of the two.
    pub kind: IdKind,
    /// The ranges.
    pub maps: Vec<IdMap>,
}

impl NewIdMap {
    fn arguments(&self, pid: &str) -> Vec<String> {
        let numbers = self
            .maps
            .iter()
            .flat_map(|m| [m.inside, m.outside, m.count])
            .map(|n| n.to_string());
        std::iter::once(pid.to_string()).chain(numbers).collect()
    }
}

impl Action for NewIdMap {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            self.kind.program(),
            self.arguments("INIT").join(" "),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        IdMap::check(self.kind, &self.maps)?;
        let pid = scene.child_pid()?.to_string();
        let (program, file) = (self.kind.program(), self.kind.subordinate_file());
        let (status, stderr) = sys::process::run_program(Path::new(program), &self.arguments(&pid))
            .map_err(|e| {
                let missing = e.errno == sys::Errno::ENOENT;
                let error = Error::new(format!("cannot run {program}"))
                    .caused_by(e)
                    .topic("user-namespaces");
                if missing {
                    error.hint(format!(
                        "install it (Debian: the package uidmap), or map only your own {} id with \
                         --map-root-user",
                        self.kind.word()
                    ))
                } else {
                    error
                }
            })?;
        if status.code() == 0 {
            return Ok(());
        }
        let word = self.kind.word();
        Err(Error::new(format!("cannot write the {word} id map"))
            .caused_by(Error::new(format!(
                "{program} ended with status {}: {}",
                status.code(),
                stderr.trim()
            )))
            .hint(format!(
                "it maps your own id and the ranges that {file} gives you; each line there is \
                 USER:FIRST:COUNT (usermod --add-sub{}s FIRST-LAST USER)",
                match self.kind {
                    IdKind::Uid => "uid",
                    IdKind::Gid => "gid",
                }
            ))
            .topic("user-namespaces"))
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        Whose::Child.fact(scene, self.kind.map_file())
    }
    fn expected(&self) -> Option<String> {
        Some(expected_text(&self.maps))
    }
}
