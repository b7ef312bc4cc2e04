//! The containers of one state root: found by id, by the beginning of an id, by name.
//!
//! What it does: a container is a directory.
//!
//! ```text
//!   <root>/containers/
//!     lock                 held while a name is given or taken away
//!     <id>/
//!       container.json     what it is           status.json   what became of it
//!       config.json        the OCI document of its last start
//!       lock               held by whoever starts, stops, renames or removes it
//!       monitor.lock       held by its monitor, as long as that lives
//!       journal            every step and system call of its last start
//!       log, log.1 …       what it wrote, JSON lines
//!       upper/ work/       what it changed in its root file system
//!       rootfs/            empty; where its root is mounted, in its own mount namespace
//!       hostname hosts resolv.conf
//!   <run>/<id>/attach      the monitor's socket
//!   <run>/<id>/stdin stdout stderr   FIFOs: its streams, where it has no terminal
//! ```
//!
//! A directory without `container.json` is one whose creation was cut off: the next command that
//! takes the names' lock removes it. Locks are flock(2), so a killed process holds none.
//! Interface: [`Store`], [`Finder`], [`Container`]. Read next: `reconcile.rs`.

use super::names;
use super::paths::Paths;
use super::state::{self, Phase, Record, Status};
use crate::error::{Context, Error, Kind, Result};
use crate::files::{lock, open_lock, read_json_at};
use crate::sys;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// More containers than these are read by several threads.
const MANY: usize = 100;
/// How many.
const READERS: usize = 4;

/// The containers under one state root.
#[derive(Debug, Clone)]
pub struct Store {
    paths: Paths,
}

/// One container: its record and where it lives.
#[derive(Debug, Clone)]
pub struct Container {
    /// What it is.
    pub record: Record,
    /// Its directory.
    pub dir: PathBuf,
    /// The directory of its socket.
    pub run: PathBuf,
}

impl Store {
    /// Opens the state root `root` (or the default one). Touches nothing.
    pub fn open(root: Option<&Path>) -> Result<Store> {
        Ok(Store {
            paths: Paths::new(root)?,
        })
    }

    /// The store in these two directories.
    pub fn at(root: &Path, run: &Path) -> Store {
        Store {
            paths: Paths {
                root: root.into(),
                run: run.into(),
            },
        }
    }

    /// The store that holds a container.
    pub fn of(container: &Container) -> Store {
        let above = |path: &Path| path.parent().unwrap_or(path).to_path_buf();
        Store {
            paths: Paths {
                root: above(&above(&container.dir)),
                run: above(&container.run),
            },
        }
    }

    /// Where things are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Where the container with this id lives, whether it exists or not.
    pub fn place(&self, id: &str) -> (PathBuf, PathBuf) {
        (self.paths.containers().join(id), self.paths.run.join(id))
    }

    /// All containers, newest first. One whose record cannot be read is left out; `fsck` is for
    /// those. Errors: the root exists and cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        let Some((dir, ids)) = self.open_all()? else {
            return Ok(Vec::new());
        };
        let mut all = each(&ids, |id| self.load_at(&dir, id).ok().flatten());
        all.sort_by_key(|c| std::cmp::Reverse(c.record.created));
        Ok(all)
    }

    /// Finds one container: by its whole id, then by name, then by a beginning of its id that no
    /// other shares. Errors: [`Kind::NotFound`] in docker's words; [`Kind::Conflict`] for a
    /// beginning that fits several.
    pub fn find(&self, target: &str) -> Result<Container> {
        let wanted = target.strip_prefix('/').unwrap_or(target);
        let ids = self.ids()?;
        if ids.iter().any(|id| id == wanted)
            && let Some(container) = self.load(wanted)?
        {
            return Ok(container);
        }
        if let Some(id) = self.id_of_name(wanted)?
            && let Some(container) = self.load(&id)?
        {
            return Ok(container);
        }
        let mut fitting = ids
            .iter()
            .filter(|id| !wanted.is_empty() && id.starts_with(wanted));
        match (fitting.next(), fitting.next()) {
            (Some(id), None) => self.load(id)?.with_context(|| no_such(target)),
            (Some(_), Some(_)) => Err(Error::kind(
                Kind::Conflict,
                format!("multiple containers have an id that begins with {target:?}"),
            )),
            _ => Err(Error::kind(Kind::NotFound, no_such(target))
                .hint("`glassbox ps -a` lists the containers")),
        }
    }

    /// Finds as many as are named, with one look at all of them.
    pub fn finder(&self, targets: usize) -> Result<Finder<'_>> {
        let mut names = BTreeMap::new();
        // For one it would be no gain.
        if targets > 1 {
            names.extend(self.names()?);
        }
        Ok(Finder { store: self, names })
    }

    /// Reads the container with exactly this id. `None` when it does not exist.
    pub fn load(&self, id: &str) -> Result<Option<Container>> {
        let (dir, run) = self.place(id);
        let record = state::read_json(&dir.join("container.json"))?;
        Ok(record.map(|record| Container { record, dir, run }))
    }

    /// [`load`](Self::load) for who reads many, by the open directory of all containers.
    pub(super) fn load_at(&self, all: impl AsFd, id: &str) -> Result<Option<Container>> {
        let record = read_json_at(all, &Path::new(id).join("container.json"))?;
        let (dir, run) = self.place(id);
        Ok(record.map(|record| Container { record, dir, run }))
    }

    /// Takes the lock under which names are given: no two containers get one name.
    pub fn lock_names(&self) -> Result<File> {
        lock(&self.paths.containers().join("lock"))
    }

    /// The id of the container that has this name.
    pub fn id_of_name(&self, name: &str) -> Result<Option<String>> {
        let named = self.names()?.into_iter().find(|(taken, _)| taken == name);
        Ok(named.map(|(_, id)| id))
    }

    /// The names that are taken, each with the id of its container.
    pub fn names(&self) -> Result<Vec<(String, String)>> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Named {
            name: String,
        }
        let Some((dir, ids)) = self.open_all()? else {
            return Ok(Vec::new());
        };
        Ok(each(&ids, |id| {
            let record = Path::new(id).join("container.json");
            let record: Option<Named> = read_json_at(&dir, &record).ok()?;
            Some((record?.name, id.to_string()))
        }))
    }

    /// Removes directories whose creation or removal was cut off. Call it with the names' lock
    /// held: creation holds it until `container.json` is there.
    pub fn sweep(&self) -> Result<()> {
        for id in self.ids()? {
            let (dir, run) = self.place(&id);
            if !dir.join("container.json").exists() {
                super::remove::sweep(self, &dir, &run)?;
            }
        }
        super::volumes::sweep(self)
    }

    /// The directory of all containers, open, and the ids in it. `None` where there are none.
    pub(super) fn open_all(&self) -> Result<Option<(OwnedFd, Vec<String>)>> {
        let ids = self.ids()?;
        if ids.is_empty() {
            return Ok(None);
        }
        let path = self.paths.containers();
        let dir = sys::fs::open(&path, libc::O_PATH | libc::O_DIRECTORY, 0)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Some((dir, ids)))
    }

    /// Every directory that looks like a container's, whole or not.
    fn ids(&self) -> Result<Vec<String>> {
        let dir = self.paths.containers();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(e)
                    .with_context(|| format!("cannot read {}", dir.display()))
                    .map_err(|e| {
                        e.hint(
                            "the state of another user? --root or GLASSBOX_ROOT says where to look",
                        )
                    });
            }
        };
        Ok(entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n.len() == 64 && n.bytes().all(|b| b.is_ascii_hexdigit()))
            .collect())
    }
}

/// What `read` makes of each container's id, without what it makes nothing of. It only reads.
pub(super) fn each<T: Send>(ids: &[String], read: impl Fn(&str) -> Option<T> + Sync) -> Vec<T> {
    let read = &read;
    let all = |ids: &[String]| -> Vec<T> { ids.iter().filter_map(|id| read(id)).collect() };
    match ids.len() {
        0..=MANY => all(ids),
        // The threads have ended when this returns.
        many => std::thread::scope(|scope| {
            let parts = ids.chunks(many.div_ceil(READERS));
            let readers: Vec<_> = parts.map(|ids| scope.spawn(move || all(ids))).collect();
            let join = |r: std::thread::ScopedJoinHandle<'_, _>| {
                r.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            readers.into_iter().flat_map(join).collect()
        }),
    }
}

/// [`Store::find`] for commands that are told many containers: who looks for a name among hundreds
/// reads the record of each, so they are read once. What has changed since is seen all the same.
#[derive(Debug)]
pub struct Finder<'a> {
    store: &'a Store,
    /// Ids by name.
    names: BTreeMap<String, String>,
}

impl Finder<'_> {
    /// As [`Store::find`].
    pub fn find(&self, target: &str) -> Result<Container> {
        let wanted = target.strip_prefix('/').unwrap_or(target);
        let mut beginning = self.names.values().filter(|id| id.starts_with(wanted));
        let id = match (self.names.get(wanted), beginning.next(), beginning.next()) {
            (Some(id), _, _) => Some(id),
            (None, Some(id), None) if !wanted.is_empty() => Some(id),
            _ => None,
        };
        if let Some(id) = id
            && let Some(container) = self.store.load(id)?
            && (container.record.name == wanted || container.record.id.starts_with(wanted))
        {
            return Ok(container);
        }
        self.store.find(target)
    }
}

fn no_such(target: &str) -> String {
    format!("no such container: {target}")
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }
    /// Its name if the user knows it by that.
    pub fn name(&self) -> &str {
        &self.record.name
    }
    /// The first 12 characters of its id.
    pub fn short_id(&self) -> &str {
        names::short(&self.record.id)
    }
    /// What is written down about it. For what is true, see [`Container::status`].
    pub fn written_status(&self) -> Result<Status> {
        Ok(state::read_json(&self.dir.join("status.json"))?.unwrap_or_default())
    }
    /// Writes its status down. Only the monitor does while it lives; else whoever holds the lock.
    pub fn write_status(&self, status: &Status) -> Result<()> {
        // The end of a container must survive a power cut; that it runs need not.
        let durable = !status.phase.is_live();
        let text = state::to_json(status)?;
        state::write_even_if_full(&self.dir.join("status.json"), &text, 0o600, durable)
    }
    /// The lock of its monitor.
    pub fn monitor_lock(&self) -> PathBuf {
        self.dir.join("monitor.lock")
    }
    /// Whether its monitor lives: it holds a lock that the kernel releases when it dies. Never
    /// creates anything.
    pub fn monitor_lives(&self) -> Result<bool> {
        let path = self.monitor_lock();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e).with_context(|| format!("cannot open {}", path.display())),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(e)) => {
                Err(e).with_context(|| format!("cannot ask for the lock {}", path.display()))
            }
        }
    }
    /// Takes the monitor's lock: there is at most one monitor, and none while it is removed.
    /// Somebody who only asks holds it for a moment, and one that ends has its last words, so it is
    /// tried for ten seconds. Errors:
    /// [`Kind::Conflict`] when a monitor lives.
    pub fn lock_monitor(&self) -> Result<File> {
        let path = self.monitor_lock();
        let file = open_lock(&path)?;
        for _ in 0..10_000 {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::WouldBlock) => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(std::fs::TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        Err(Error::kind(
            Kind::Conflict,
            format!("container {} has a monitor that lives", self.name()),
        ))
    }
    /// Takes the lock under which it changes. Errors: it has been removed meanwhile.
    pub fn lock(&self) -> Result<File> {
        let gone = || Error::kind(Kind::NotFound, no_such(self.name()));
        if !self.dir.is_dir() {
            return Err(gone());
        }
        let file = lock(&self.dir.join("lock"))?;
        if !self.dir.join("container.json").exists() {
            return Err(gone());
        }
        Ok(file)
    }
    /// The cgroup that the runtime makes for it, under the root of the hierarchy.
    pub fn cgroups_path(&self) -> String {
        let parent = self.record.host_config.cgroup_parent.trim_end_matches('/');
        match parent {
            "" => format!("/glassbox/{}", self.record.id),
            parent => format!("{parent}/{}", self.record.id),
        }
    }
    /// The log's file.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
    /// Where an init of ours writes how the program has ended.
    pub fn exit_file(&self) -> PathBuf {
        self.run.join("exit")
    }
    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }
    /// An error when it does not run, in docker's words.
    pub fn must_run(&self, status: &Status) -> Result<()> {
        match status.phase {
            Phase::Running => Ok(()),
            Phase::Paused => Err(Error::kind(
                Kind::Conflict,
                format!("container {} is paused", self.name()),
            )
            .hint(format!("`glassbox unpause {}` lets it go on", self.name()))),
            _ => Err(Error::kind(
                Kind::Conflict,
                format!("container {} is not running", self.name()),
            )),
        }
    }
}
