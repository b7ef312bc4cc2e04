//! The runtime's own memory: which containers there are, kept on disk between its commands.
//!
//! What it does: an OCI runtime is called once an operation and ends; what it must remember lies in
//! a directory a container. The kernel stays the judge: whether the container runs is asked of its
//! process and its cgroup, never read from here.
//!
//! ```text
//!   <root>/<id>/
//!     config.json   the document that it was made from, complete; its cgroupsPath is a path
//!     state.json    Record: its process, its bundle, when it was created
//!     start         the socket on which init waits; gone when the program runs (pause.rs)
//!     journal       every step and system call of its life
//!     lock          held by whoever works on it
//! ```
//!
//! A directory is made under the lock and goes under the lock. One without `state.json` is a
//! creation that was cut off: `delete --force` clears it away.
//!
//! What it implements: runtime-spec "State". Interface: [`Root`], [`Container`], [`Record`].
//! Read next: `operations.rs`.

use super::pause;
use crate::cgroups::{CgroupPath, Group, lifecycle, systemd::Unit};
use crate::error::{Context, Error, Kind, Result};
use crate::files;
use crate::host::{Host, process};
use crate::spec::runtime::{OCI_VERSION, Spec, State, Status};
use crate::spec::time::Time;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What is written down about a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its bundle, absolute.
    pub bundle: PathBuf,
    /// Its root file system, absolute.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: Time,
    /// The user who created it.
    pub uid: u32,
    /// Its first process; 0 before there is one.
    pub pid: i32,
    /// That process's start time in clock ticks since boot.
    pub pid_start: u64,
    /// The name of its session keyring, which nobody can know before there is one; none: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// The mount id of its root, in a mount namespace that it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mount: Option<u64>,
    /// The unit that systemd made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Creation has come to its end: it waits to be started, or was.
    pub ready: bool,
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Root {
    dir: PathBuf,
}

/// One container of it.
#[derive(Debug)]
pub struct Container {
    /// Its directory.
    pub dir: PathBuf,
    /// What is written down.
    pub record: Record,
}

impl Root {
    /// `dir`, or the default: `/run/glassbox/runtime`, of an ordinary user
    /// `$XDG_RUNTIME_DIR/glassbox/runtime`. Nothing is made.
    pub fn new(dir: Option<&Path>) -> Result<Root> {
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)
                .with_context(|| format!("cannot resolve {}", dir.display()))?,
            None => default_root(),
        };
        Ok(Root { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The directory of the container with this id. Errors: it cannot be an id.
    pub fn place(&self, id: &str) -> Result<PathBuf> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(allowed) {
            return Err(
                Error::kind(Kind::Usage, format!("invalid container id {id:?}"))
                    .hint("letters, digits, '_', '+', '-' and '.'"),
            );
        }
        Ok(self.dir.join(id))
    }

    /// Makes the directory of a new container, and holds its lock. Errors: [`Kind::Conflict`] when
    /// it exists.
    pub fn reserve(&self, id: &str) -> Result<(PathBuf, File)> {
        let dir = self.place(id)?;
        let what = || format!("cannot make the state directory {}", dir.display());
        std::fs::create_dir_all(&self.dir).with_context(what)?;
        match sys::fs::mkdirat(sys::fs::CWD, &dir, 0o700) {
            Ok(()) => {}
            Err(e) if e.errno == sys::Errno::EEXIST => {
                return Err(Error::kind(
                    Kind::Conflict,
                    format!("container with given ID already exists: {id}"),
                )
                .hint(format!("`glassbox runtime delete --force {id}` removes it")));
            }
            Err(e) => return Err(e).with_context(what),
        }
        let lock = files::lock(&dir.join("lock"))?;
        Ok((dir, lock))
    }

    /// The container with this id. Errors: [`Kind::NotFound`], in the words that engines look for.
    pub fn find(&self, id: &str) -> Result<Container> {
        let dir = self.place(id)?;
        match files::read_json(&dir.join("state.json"))? {
            Some(record) => Ok(Container { dir, record }),
            None => Err(no_such(id)),
        }
    }

    /// All containers, by id. Errors: the directory exists and cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", self.dir.display())),
        };
        let mut all: Vec<Container> = entries
            .flatten()
            .filter_map(|e| self.find(e.file_name().to_str()?).ok())
            .collect();
        all.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        Ok(all)
    }
}

/// The container with this id, or the only one whose id begins so, wherever an engine has put it:
/// in `only` if that is given, else in the default state directory (podman names none) and in those
/// that containerd and dockerd name. Errors: several begin so.
pub fn search(only: Option<&Path>, id: &str) -> Result<Option<Container>> {
    let roots = match only {
        Some(root) => vec![root.to_path_buf()],
        None => {
            let mut roots = vec![default_root()];
            roots.extend(directories(Path::new("/run/containerd/runc"), ""));
            for runtime in directories(Path::new("/run/docker"), "runtime-") {
                roots.extend(directories(&runtime, ""));
            }
            roots
        }
    };
    let mut near = Vec::new();
    for dir in roots {
        let root = Root { dir };
        if let Ok(container) = root.find(id) {
            return Ok(Some(container));
        }
        // One that may not be read is not searched.
        let all = root.list().unwrap_or_default();
        near.extend(
            all.into_iter()
                .filter(|c| !id.is_empty() && c.record.id.starts_with(id)),
        );
    }
    match near.len() {
        0 | 1 => Ok(near.pop()),
        n => {
            let message = format!("{n} containers have ids that begin with {id:?}");
            Err(Error::kind(Kind::Usage, message).hint("give more of the id"))
        }
    }
}

/// The directories in one, whose names begin with `prefix`.
fn directories(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let wanted = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
    wanted.map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

fn default_root() -> PathBuf {
    let uid = nix::unistd::geteuid().as_raw();
    match (
        uid,
        std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()),
    ) {
        (0, _) => "/run/glassbox/runtime".into(),
        (_, Some(dir)) => Path::new(&dir).join("glassbox/runtime"),
        (uid, None) => format!("/tmp/glassbox-{uid}/runtime").into(),
    }
}

/// No such container, in the words that podman and containerd look for.
pub(super) fn no_such(id: &str) -> Error {
    Error::kind(Kind::NotFound, format!("container does not exist: {id}"))
        .hint("`glassbox runtime list` lists those of this state directory; --root names another")
}

impl Record {
    /// The name of its session keyring.
    pub fn keyring(&self) -> &str {
        self.keyring.as_deref().unwrap_or(&self.id)
    }
}

impl Container {
    /// Takes the lock under which it changes, and reads what is true then. Errors: it has been
    /// deleted meanwhile.
    pub fn lock(&mut self) -> Result<File> {
        let gone = || no_such(&self.record.id);
        let path = self.dir.join("lock");
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
            Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
        };
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        let record = files::read_json(&self.dir.join("state.json"))?.ok_or_else(gone)?;
        self.record = record;
        Ok(file)
    }

    /// config.json as it was when it was created.
    pub fn spec(&self) -> Result<Spec> {
        files::read_json(&self.dir.join("config.json"))?
            .with_context(|| format!("config.json of container {} is missing", self.record.id))
    }

    /// Whether its first process lives: the same process, and no zombie.
    pub fn is_alive(&self) -> bool {
        self.record.pid > 0 && process::start_time(self.record.pid) == Some(self.record.pid_start)
    }

    /// Where it stands, as far as that is known without asking its cgroup: `None` when its program
    /// runs or is paused.
    fn before_running(&self) -> Option<Status> {
        match (self.is_alive(), self.record.ready) {
            (false, _) => Some(Status::Stopped),
            (_, false) => Some(Status::Creating),
            _ if self.dir.join(pause::SOCKET).exists() => Some(Status::Created),
            _ => None,
        }
    }

    /// Whether it is created, and waits for `start`.
    pub fn waits(&self) -> bool {
        self.before_running() == Some(Status::Created)
    }

    /// Where it stands, asked of the kernel.
    pub fn status(&self, host: &Host) -> Result<Status> {
        if let Some(status) = self.before_running() {
            return Ok(status);
        }
        let frozen = self.group(host)?.and_then(|g| lifecycle::is_frozen(&g));
        Ok(match frozen {
            Some(true) => Status::Paused,
            _ => Status::Running,
        })
    }

    /// Its cgroup, if it has one that exists.
    pub fn group(&self, host: &Host) -> Result<Option<Group>> {
        let spec = self.spec()?;
        let Some(path) = super::cgroup_path(&spec) else {
            return Ok(None);
        };
        match Group::existing(&host.cgroups, &CgroupPath::parse(path)?) {
            Ok(group) => Ok(Some(group)),
            Err(e) if e.get_kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The specification's state document.
    pub fn state(&self, host: &Host) -> Result<State> {
        let status = self.status(host)?;
        let spec = self.spec()?;
        Ok(State {
            status,
            pid: if status == Status::Stopped {
                0
            } else {
                self.record.pid
            },
            ..state_of(&spec, &self.record.id, &self.record.bundle)
        })
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }
}

/// What can be said of a container before it exists.
pub(super) fn state_of(spec: &Spec, id: &str, bundle: &Path) -> State {
    let oci_version = match spec.oci_version.as_str() {
        "" => OCI_VERSION.to_string(),
        version => version.to_string(),
    };
    State {
        oci_version,
        id: id.into(),
        status: Status::Creating,
        bundle: bundle.into(),
        annotations: spec.annotations.clone(),
        ..State::default()
    }
}

/// Writes the record of a container.
pub(super) fn write(dir: &Path, record: &Record) -> Result<()> {
    files::write_atomically(
        &dir.join("state.json"),
        &files::to_json(record)?,
        0o600,
        false,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_the_state_directory() {
        let root = Root::new(Some(Path::new("/nonexistent"))).unwrap();
        for id in ["", ".", "..", "a/b", "a\0b", "ä", "a b"] {
            assert_eq!(
                root.place(id).unwrap_err().get_kind(),
                Kind::Usage,
                "{id:?}"
            );
        }
        for id in ["a", "libpod-1_2+3.x", "..a"] {
            assert!(root.place(id).is_ok(), "{id:?}");
        }
        assert!(root.list().unwrap().is_empty());
        assert!(format!("{:#}", root.find("x").unwrap_err()).contains("does not exist"));
    }

    #[test]
    fn an_id_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(Some(dir.path())).unwrap();
        let (place, lock) = root.reserve("one").unwrap();
        assert_eq!(root.reserve("one").unwrap_err().get_kind(), Kind::Conflict);
        write(
            &place,
            &Record {
                id: "one".into(),
                ..Record::default()
            },
        )
        .unwrap();
        drop(lock);
        let begun = search(Some(dir.path()), "on").unwrap();
        assert_eq!(begun.unwrap().record.id, "one");
        assert!(search(Some(dir.path()), "two").unwrap().is_none());
        let found = root.list().unwrap();
        assert_eq!(found.len(), 1);
        assert!(!found[0].is_alive());
    }
}
