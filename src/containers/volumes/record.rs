//! A volume on disk: a directory of data, and a small file that says what it is.
//!
//! ```text
//!   <root>/volumes/
//!     <name>/
//!       volume.json     its labels and options, when it was made
//!       _data/          what containers see
//!     .going-<name>     one whose removal was cut off; the next command removes the rest
//! ```
//!
//! What it does: makes, lists, finds and removes volumes, and tells which containers use one.
//! Whoever makes or removes one holds the names' lock ([`Store::lock_names`]), under which
//! containers are created too: so no volume goes while a container that wants it comes.
//!
//! What it implements: docker's `local` volume driver, of whose options `type=none,o=bind` alone:
//! the volume is then a directory of the host.
//! Interface: [`Volume`], [`MakeVolume`], and one function an operation. Read next:
//! `cli/volume/mod.rs`.

use super::super::actions::make_all;
use super::super::events;
use super::super::names;
use super::super::remove::remove_tree;
use super::super::state;
use super::super::store::{Container, Store};
use super::super::time::Time;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::layers::tree::Tree;
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The label of a volume that nobody has named, as docker has it.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
const GOING: &str = ".going-";

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name: the user's, or 64 hex digits.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
    /// Notes.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `volume create -o`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// A volume that is made now.
    pub fn new(name: &str, labels: BTreeMap<String, String>) -> Volume {
        Volume {
            name: name.into(),
            created_at: Time::now(),
            labels,
            options: BTreeMap::new(),
        }
    }
    /// Nobody has named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
    /// The directory of the host that stands in for its own.
    fn device(&self) -> Option<PathBuf> {
        self.options.get("device").map(PathBuf::from)
    }
    /// Errors: a name that cannot be, or options of the driver that this version does not have.
    pub fn check(&self) -> Result<()> {
        if self.name.len() == 1 {
            return Err(Error::kind(
                Kind::Usage,
                format!(
                    "create {0}: volume name is too short, two characters at least",
                    self.name
                ),
            ));
        }
        names::check(&self.name).map_err(|_| {
            Error::kind(
                Kind::Usage,
                format!(
                    "create {0}: {0:?} includes invalid characters for a local volume name, only \
                     \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
                    self.name
                ),
            )
            .hint("to mount a directory of the host, use an absolute path")
        })?;
        let option = |key: &str| self.options.get(key).map_or("", String::as_str);
        if let Some(other) = self
            .options
            .keys()
            .find(|k| !["type", "o", "device"].contains(&k.as_str()))
        {
            return Err(
                Error::kind(Kind::Usage, format!("invalid option: {other:?}"))
                    .hint("the local driver knows type, o and device"),
            );
        }
        if self.options.is_empty() {
            return Ok(());
        }
        let binds = option("o").split(',').any(|o| o == "bind" || o == "rbind");
        if !matches!(option("type"), "" | "none") || !binds || !option("device").starts_with('/') {
            return Err(Error::kind(
                Kind::Unsupported,
                "this version's local volumes are directories: of its options it has type=none, \
                 o=bind and device=/PATH",
            )
            .hint("mount the file system on the host, and use its place as the device; --tmpfs has no volume"));
        }
        Ok(())
    }
}

pub(super) fn no_driver(name: &str) -> Error {
    Error::kind(
        Kind::NotFound,
        format!("error looking up volume plugin {name}: plugin not found"),
    )
    .hint("the driver local is the only one")
}

/// Where a volume's data is: a directory of its own, or the host's that it stands for.
pub(super) fn source(store: &Store, name: &str) -> Result<PathBuf> {
    let own = store.paths().volumes().join(name).join("_data");
    Ok(read(store, name)?.and_then(|v| v.device()).unwrap_or(own))
}

/// What is written down of a volume; one that was made without a record gets an empty one.
fn read(store: &Store, name: &str) -> Result<Option<Volume>> {
    let place = store.paths().volumes().join(name);
    let Ok(meta) = std::fs::symlink_metadata(&place) else {
        return Ok(None);
    };
    let written: Option<Volume> = state::read_json(&place.join("volume.json"))?;
    Ok(Some(written.unwrap_or_else(|| {
        use std::os::unix::fs::MetadataExt;
        let made = u64::try_from(meta.ctime()).unwrap_or(0);
        Volume {
            created_at: Time(made.saturating_mul(1_000_000_000)),
            ..Volume::new(name, BTreeMap::new())
        }
    })))
}

/// All volumes, by name. Errors: the directory cannot be read.
pub fn list(store: &Store) -> Result<Vec<Volume>> {
    let dir = store.paths().volumes();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut all = Vec::new();
    for name in entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
    {
        if names::check(&name).is_ok()
            && let Some(volume) = read(store, &name)?
        {
            all.push(volume);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// One volume, and where its data is. Errors: [`Kind::NotFound`] in docker's words.
pub fn find(store: &Store, name: &str) -> Result<(Volume, PathBuf)> {
    let found = match names::check(name) {
        Ok(()) => read(store, name)?,
        Err(_) => None,
    };
    match found {
        Some(volume) => Ok((volume, source(store, name)?)),
        None => Err(
            Error::kind(Kind::NotFound, format!("no such volume: {name}"))
                .hint("`glassbox volume ls` lists them"),
        ),
    }
}

/// Makes a volume; one that exists is left as it is, but must have the same options. True when it
/// is new.
pub fn create(store: &Store, volume: &Volume) -> Result<bool> {
    volume.check()?;
    make_all(&store.paths().containers(), 0o711)?;
    let _names = store.lock_names()?;
    sweep(store)?;
    if let Some(old) = read(store, &volume.name)? {
        return match volume.options.is_empty() || volume.options == old.options {
            true => Ok(false),
            false => Err(Error::kind(
                Kind::Conflict,
                format!("a volume named {} exists with other options", volume.name),
            )),
        };
    }
    make(&store.paths().volumes().join(&volume.name), volume)?;
    tell(store, "create", &volume.name);
    Ok(true)
}

fn make(place: &Path, volume: &Volume) -> Result<()> {
    make_all(&place.join("_data"), 0o755)?;
    let text = state::to_json(volume)?;
    state::write_atomically(&place.join("volume.json"), &text, 0o600, false)
}

/// Whether a container has this volume among its mounts, running or not.
pub fn in_use_by(container: &Container, name: &str) -> bool {
    let mut points = container.record.mount_points.iter();
    points.any(|p| p.typ == "volume" && p.name == name)
}

/// The containers that use a volume, newest first.
pub fn users(store: &Store, name: &str) -> Result<Vec<Container>> {
    let mut all = store.list()?;
    all.retain(|c| in_use_by(c, name));
    Ok(all)
}

/// Removes a volume. Errors: [`Kind::NotFound`]; [`Kind::Conflict`] while a container uses it.
pub fn remove(store: &Store, name: &str) -> Result<()> {
    find(store, name)?;
    let names = store.lock_names()?;
    if let Some(user) = users(store, name)?.first() {
        return Err(Error::kind(
            Kind::Conflict,
            format!("remove {name}: volume is in use - [{}]", user.id()),
        )
        .hint(format!(
            "container {} uses it: `glassbox rm {0}` first",
            user.name()
        )));
    }
    let going = take_away(store, name)?;
    drop(names);
    match going {
        Some(going) => finish(store, name, &going),
        None => Ok(()),
    }
}

fn finish(store: &Store, name: &str, going: &Path) -> Result<()> {
    remove_tree(going)?;
    tell(store, "destroy", name);
    Ok(())
}

fn tell(store: &Store, action: &str, name: &str) {
    let attributes = [("driver", "local".to_string())];
    events::emit(&store.paths().root, "volume", action, name, &attributes);
}

/// From here on it is no volume any more, whatever is killed: where the rest of it lies.
fn take_away(store: &Store, name: &str) -> Result<Option<PathBuf>> {
    let dir = store.paths().volumes();
    let going = dir.join(format!("{GOING}{name}-{}", std::process::id()));
    match sys::fs::renameat2(sys::fs::CWD, dir.join(name), sys::fs::CWD, &going, 0) {
        Ok(()) => Ok(Some(going)),
        Err(e) if e.errno == sys::Errno::ENOENT => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot remove volume {name}")),
    }
}

/// Removes those of these volumes that no container uses. Call it with the names' lock held.
pub fn remove_unused(store: &Store, all: &[String]) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    let containers = store.list()?;
    for name in all {
        if containers.iter().any(|c| in_use_by(c, name)) {
            continue;
        }
        if let Some(going) = take_away(store, name)? {
            finish(store, name, &going)?;
        }
    }
    Ok(())
}

/// Removes what removals that were cut off have left. Call it with the names' lock held.
pub fn sweep(store: &Store) -> Result<()> {
    let entries = std::fs::read_dir(store.paths().volumes())
        .into_iter()
        .flatten();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(GOING) {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes in a volume's files.
pub fn size(data: &Path) -> u64 {
    let tree = Tree::read(data).ok();
    tree.map_or(0, |t| {
        t.nodes
            .values()
            .filter(|n| n.is_file())
            .map(|n| n.size)
            .sum()
    })
}

/// Makes a volume for a container.
#[derive(Debug)]
pub struct MakeVolume {
    /// Its directory.
    pub place: PathBuf,
    /// What it is.
    pub volume: Volume,
}

impl MakeVolume {
    fn made(&self) -> String {
        format!("made volume {}", self.volume.name)
    }
}

impl Action for MakeVolume {
    fn calls(&self) -> Vec<Planned> {
        let place = self.place.display();
        vec![
            Planned::new("mkdirat", format!("{place}, 0755")),
            Planned::new("mkdirat", format!("{place}/_data, 0755")),
            Planned::new("renameat2", format!("→ {place}/volume.json")),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        if !self.place.exists() {
            scene.put(self.made(), "");
        }
        make(&self.place, &self.volume)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: self.place.join("_data").display().to_string(),
            value: match self.place.join("_data").is_dir() {
                true => Ok("directory".into()),
                false => Ok("does not exist".into()),
            },
            source: "stat(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("directory".into())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        match scene.get(&self.made()) {
            Some(_) => remove_tree(&self.place),
            None => Ok(()),
        }
    }
}
