//! Groups that systemd makes: a container as a scope, a unit of systemd like any other.
//!
//! What it does: where systemd runs, the cgroup tree is its own, and only below a group that it has
//! delegated may others work. So it is asked for a *scope*, a unit for processes that somebody else
//! has started, and hands it over (`Delegate=yes`). The unit's name and place follow from what
//! engines write into `linux.cgroupsPath` in place of a path:
//!
//! ```text
//!   SLICE:PREFIX:NAME       kubepods-burstable.slice:cri-containerd:1b2c
//!   the unit                cri-containerd-1b2c.scope
//!   its group               /kubepods.slice/kubepods-burstable.slice/cri-containerd-1b2c.scope
//! ```
//!
//! A scope must have a process from the start, so init is born first and moved by systemd, before it
//! takes a step. The limits go into the group's files as ever, and into the unit's properties, or
//! systemd would undo them (`properties.rs`).
//!
//! What it implements: systemd.scope(5), systemd.slice(5), org.freedesktop.systemd1(5), systemd's
//! "Control Group APIs and Delegation"; the naming of runc's docs/systemd.md.
//! Interface: [`Unit`], [`set_up`], [`SetProperties`], [`stop`]. Read next: `actions.rs`, then
//! `connection.rs` and `wire.rs` for how one talks to it.

mod actions;
mod connection;
pub mod properties;
mod wire;

pub use actions::{SetProperties, StartUnit, set_up, stop};
pub use wire::{Property, Value};

use super::group::CgroupPath;
use crate::error::{Context, Error, Kind, Result};
use crate::host::{Host, LayoutKind};
use connection::Connection;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A systemd that makes scopes: the system's, or a user's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// The socket on which it listens.
    pub socket: PathBuf,
    /// Its version: 252.
    pub version: u32,
    /// The group that it lives in and below which it makes groups: `/` for the system's.
    pub root: String,
}

/// A scope: its name, and who makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `docker-1b2c.scope`
    pub name: String,
    /// `system.slice`
    pub slice: String,
    /// Who makes it.
    pub manager: Manager,
}

impl Manager {
    /// The one that makes groups for this caller. Errors (kind `Unsupported`): none runs; the host
    /// has no pure cgroup v2 tree. (Others): it does not answer.
    pub fn find(host: &Host) -> Result<Manager> {
        let none = || {
            Error::kind(Kind::Unsupported, "cgroups cannot be made through systemd")
                .topic("cgroups")
        };
        if !Path::new("/run/systemd/system").exists() {
            return Err(none().hint(
                "systemd does not run here (there is no /run/systemd/system); leave --systemd-cgroup \
                 out, or set the engine's cgroup driver to cgroupfs",
            ));
        }
        if host.cgroups.kind != LayoutKind::Unified {
            return Err(none().hint(
                "controllers are in cgroup v1 trees here: boot with systemd.unified_cgroup_hierarchy=1, \
                 or set the engine's cgroup driver to cgroupfs",
            ));
        }
        let socket = match host.rootless {
            false => PathBuf::from("/run/systemd/private"),
            true => {
                let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty());
                let directory = directory.map_or_else(
                    || PathBuf::from(format!("/run/user/{}", host.euid)),
                    PathBuf::from,
                );
                directory.join("systemd/private")
            }
        };
        if host.rootless && !socket.exists() {
            return Err(none().hint(format!(
                "there is no {}: no systemd of this user's runs, or $XDG_RUNTIME_DIR is not its; a \
                 login starts one, and `loginctl enable-linger` keeps it",
                socket.display()
            )));
        }
        Manager::ask(&socket)
    }

    /// What the manager behind this socket says of itself.
    pub fn ask(socket: &Path) -> Result<Manager> {
        let mut connection = Connection::open(socket)?;
        let mut text = |name: &str| match connection.of_manager(name) {
            Ok(Value::Text(text)) => Ok(text),
            Ok(_) => Err(Error::new(format!("systemd's {name} is no text"))),
            Err(e) => Err(e.context(format!("cannot ask systemd for its {name}"))),
        };
        let root = match text("ControlGroup")? {
            empty if empty.is_empty() => "/".to_string(),
            root => root,
        };
        Ok(Manager {
            socket: socket.into(),
            version: version(&text("Version")?),
            root,
        })
    }
}

/// `252.39-1~deb12u2`, `v255`: the first number, 0 where there is none.
fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit());
    digits[..end.unwrap_or(digits.len())].parse().unwrap_or(0)
}

impl Unit {
    /// The unit of the container `id` whose document has this `linux.cgroupsPath`. Errors (kind
    /// `Usage`): it is not of the form SLICE:PREFIX:NAME.
    pub fn of(cgroups_path: Option<&str>, id: &str, host: &Host, manager: Manager) -> Result<Unit> {
        let text = cgroups_path.unwrap_or_default();
        let own = format!(":glassbox:{id}");
        let text = if text.is_empty() { &own } else { text };
        let wrong = |why: String| {
            Error::kind(
                Kind::Usage,
                format!("{text:?} is no linux.cgroupsPath for cgroups made by systemd"),
            )
            .hint(why)
            .topic("cgroups")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return Err(wrong(
                "it is SLICE:PREFIX:NAME, as in system.slice:docker:1b2c; a path is for the cgroupfs \
                 driver: the engine's and the runtime's must be the same"
                    .into(),
            ));
        };
        if name.is_empty() || [prefix, name].iter().any(|part| part.contains('/')) {
            return Err(wrong(
                "PREFIX and NAME make the unit PREFIX-NAME.scope".into(),
            ));
        }
        if name.ends_with(".slice") {
            return Err(wrong(
                "a slice holds units and no processes: a container is a scope".into(),
            ));
        }
        let slice = match (slice, host.rootless) {
            ("", true) => "user.slice",
            ("", false) => "system.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        if expanded(slice).is_none() {
            return Err(wrong(format!(
                "{slice:?} is no slice: its name ends in .slice, and each dash in it leads one deeper"
            )));
        }
        let name = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        Ok(Unit {
            name,
            slice: slice.into(),
            manager,
        })
    }

    /// The group that it gets.
    pub fn group(&self) -> Result<CgroupPath> {
        let slices = expanded(&self.slice).context("the unit has no slice")?;
        let root = self.manager.root.trim_end_matches('/');
        CgroupPath::parse(&format!("{root}{slices}/{}", self.name))
    }
}

/// `a-b.slice` lies in `/a.slice/a-b.slice`; `-.slice` is the root. `None`: it is no slice.
fn expanded(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path += &format!("/{}.slice", &stem[..end]);
    }
    let wrong = stem.contains('/') || stem.split('-').any(str::is_empty);
    (!wrong).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> Manager {
        Manager {
            socket: "/nonexistent".into(),
            version: 252,
            root: "/".into(),
        }
    }

    #[test]
    fn slices_lie_in_slices() {
        let of = |slice| expanded(slice).unwrap_or_else(|| "none".into());
        assert_eq!(of("system.slice"), "/system.slice");
        assert_eq!(of("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
        assert_eq!(of("-.slice"), "");
        for wrong in [
            "",
            ".slice",
            "a",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "a/b.slice",
        ] {
            assert_eq!(of(wrong), "none", "{wrong:?}");
        }
    }

    #[test]
    fn engines_forms_name_units() {
        let root = Host::example_v2();
        let of = |path: Option<&str>, host: &Host| {
            let unit = Unit::of(path, "box", host, manager()).unwrap();
            (unit.slice.clone(), unit.group().unwrap().to_string())
        };
        let pair = |slice: &str, group: &str| (slice.to_string(), group.to_string());
        assert_eq!(
            of(Some("system.slice:docker:1b"), &root),
            pair("system.slice", "/system.slice/docker-1b.scope")
        );
        let kubernetes = "kubepods-besteffort-pod1_2.slice:cri-containerd:1b";
        assert_eq!(
            of(Some(kubernetes), &root).1,
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/\
             cri-containerd-1b.scope"
        );
        let own = pair("system.slice", "/system.slice/glassbox-box.scope");
        assert_eq!(of(None, &root), own);
        assert_eq!(of(Some(""), &root), own);
        let user = root.clone().for_user(1000);
        assert_eq!(
            of(Some(":libpod:1b"), &user),
            pair("user.slice", "/user.slice/libpod-1b.scope")
        );
        assert_eq!(of(Some("-::1b"), &root), pair("-.slice", "/1b.scope"));
        let deeper = Manager {
            root: "/user.slice/user-1000.slice/user@1000.service".into(),
            ..manager()
        };
        let unit = Unit::of(Some(":libpod:1b"), "box", &user, deeper).unwrap();
        assert_eq!(
            unit.group().unwrap().as_str(),
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-1b.scope"
        );
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        let host = Host::example_v2();
        for wrong in [
            "/kubepods/pod1/x",
            "a:b",
            "a.slice:b:c:d",
            "user.slice/a.slice:b:c",
            "system.slice:a/b:c",
            "system.slice:a:",
            "system:a:b",
            "system.slice:a:b.slice",
        ] {
            let error = Unit::of(Some(wrong), "box", &host, manager()).unwrap_err();
            assert_eq!(error.get_kind(), Kind::Usage, "{wrong}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        let all = ["252.39-1~deb12u2", "v255", "\"v245.4\"", "rubbish"].map(version);
        assert_eq!(all, [252, 255, 245, 0]);
    }
}
