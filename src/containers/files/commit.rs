//! `commit`: an image out of what a container has written.
//!
//! What it does: writes the upper directory as one more layer over those of the container's image,
//! and a configuration in which the container's own stands for the image's. What is mounted in the
//! container is no part of it. It is all or nothing: until the image has its name, nobody sees any
//! of it.
//!
//! Who runs here: an ordinary user cannot read what programs of other ids have made; then the layer is
//! written by a process of ours that is root of the container's user namespace ([`COMMAND`]).
//!
//! What it implements: docker's `commit`; image-spec "Image Configuration", "Layer".
//! Interface: [`Wish`], [`commit`], [`COMMAND`]. Read next: [`crate::images::Staging`].

use super::super::state::{Phase, Status};
use super::super::store::{Container, Store};
use super::super::{events, inside, lifecycle, reconcile, time::Time};
use super::changes;
use crate::error::{Context, Error, Kind, Result};
use crate::images::{self, Image, Reference, apply_change, descriptor};
use crate::layers::compression::Compression;
use crate::layers::create::Writer;
use crate::spec::image::{Config, History, ImageConfig, Manifest, RootFs, media_type};
use std::ffi::OsString;
use std::io::{BufReader, BufWriter, Seek};
use std::path::PathBuf;

/// What a user asks for.
#[derive(Debug, Default)]
pub struct Wish {
    /// The name it gets.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A remark.
    pub message: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Freeze the container while its files are read.
    pub pause: bool,
}

/// Makes the image. Errors: a change that is none; a file that vanishes while it is read (not when
/// it is paused); a container whose root is a directory of the host's.
pub fn commit(store: &Store, container: &Container, wish: &Wish) -> Result<Image> {
    if container.record.rootfs.is_some() {
        return Err(Error::kind(
            Kind::Unsupported,
            "a container that was made with --rootfs has no image to add a layer to",
        )
        .hint("`glassbox export` and `glassbox image import` make an image of all of it"));
    }
    let mut config = configuration(container);
    for change in &wish.changes {
        apply_change(&mut config, change)?;
    }
    let paused = match wish.pause {
        true => pause_what_runs(container)?,
        false => None,
    };
    let made = write(store, container, wish, config);
    if let Some(status) = paused
        && let Err(e) = lifecycle::unpause(container)
        && !lifecycle::has_ended(container, &status)
    {
        return Err(e); // of one that has ended, it changes nothing
    }
    let made = made.with_context(|| format!("cannot commit container {}", container.name()))?;
    let name = wish
        .name
        .as_ref()
        .map(Reference::familiar)
        .unwrap_or_default();
    let attributes = [("imageID", made.id.to_string()), ("imageRef", name)];
    events::of(container, "commit", &attributes);
    Ok(made)
}

/// Pauses it when it runs: as what it ran. `None` when nothing has to be paused.
fn pause_what_runs(container: &Container) -> Result<Option<Status>> {
    let status = reconcile::settled(container)?;
    if status.phase != Phase::Running {
        return Ok(None);
    }
    match lifecycle::pause(container) {
        Ok(()) => Ok(Some(status)),
        // It has ended meanwhile, and its group may be gone: nobody writes any more.
        Err(_) if lifecycle::has_ended(container, &status) => Ok(None),
        Err(e) => {
            Err(e.hint("without a cgroup nothing can be paused: --no-pause commits while it runs"))
        }
    }
}

fn write(store: &Store, container: &Container, wish: &Wish, config: Config) -> Result<Image> {
    let images = images::Store::open(&store.paths().root)?;
    let base = images.find(&container.record.image_id)?;
    let stage = images.stage()?;
    let scratch = stage.scratch("layer");
    let what = || format!("cannot write {}", scratch.display());
    let mut file = std::fs::File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&scratch)
        .with_context(what)?;
    match nix::unistd::geteuid().is_root() {
        true => layer(store, container, &mut file)?,
        false => {
            let root = store.paths().root.to_str().context(NO_TEXT)?;
            let path = scratch.to_str().context(NO_TEXT)?;
            inside::run(&[COMMAND, root, container.id(), path])
                .context("cannot read what it has written")?;
        }
    }
    file.rewind().with_context(what)?;
    let plain = Compression::Plain.media_type();
    let blob = stage.put_stream(plain, BufReader::new(&file), None)?;
    drop(file);
    let mut layers = base_layers(&images, &base)?;
    layers.push(descriptor(plain, blob.digest.clone(), blob.size));
    let now = Time::now().to_string();
    let mut diff_ids = base.config.rootfs.diff_ids.clone();
    diff_ids.push(blob.digest);
    let mut history = base.config.history.clone();
    history.push(History {
        created: Some(now.clone()),
        created_by: Some(container.record.config.args().join(" ")),
        author: Some(wish.author.clone()).filter(|a| !a.is_empty()),
        comment: Some(wish.message.clone()).filter(|m| !m.is_empty()),
        ..History::default()
    });
    let document = ImageConfig {
        created: Some(now),
        author: Some(wish.author.clone()).filter(|a| !a.is_empty()),
        config: Some(config),
        rootfs: RootFs {
            diff_ids,
            ..base.config.rootfs.clone()
        },
        history,
        ..base.config.clone()
    };
    let document = stage.put_json(media_type::CONFIG, &document)?;
    let manifest = stage.put_json(media_type::MANIFEST, &Manifest::new(document, layers))?;
    let names: Vec<Reference> = wish.name.iter().cloned().collect();
    stage.commit(&manifest, &names)
}

fn base_layers(
    images: &images::Store,
    base: &Image,
) -> Result<Vec<crate::spec::image::Descriptor>> {
    let manifest: Manifest = images.read_json(&base.manifest.digest)?;
    Ok(manifest.layers)
}

/// The hidden first word that makes our binary write a container's layer and nothing else: the state
/// root, the container's id, the file.
pub const COMMAND: &str = "write-layer";
const NO_TEXT: &str = "the state root's path is no UTF-8";

/// The whole life of that process. Prints nothing.
pub fn write_named(args: &[OsString]) -> Result<u8> {
    let [root, id, path] = args else {
        return Err(Error::new("this word is for our own processes"));
    };
    let store = Store::open(Some(root.as_ref()))?;
    let container = store.find(&id.to_string_lossy())?;
    let what = || format!("cannot write {}", path.display());
    let mut file = std::fs::File::options()
        .write(true)
        .open(path)
        .with_context(what)?;
    layer(&store, &container, &mut file).map(|()| 0)
}

/// The upper directory as a layer, with the ids that are seen here.
fn layer(store: &Store, container: &Container, file: &mut std::fs::File) -> Result<()> {
    let tree = changes::upper(store, container)?;
    let mut writer = Writer::new(BufWriter::with_capacity(256 << 10, file));
    for (path, node) in &tree.nodes {
        match node.is_whiteout() {
            true => writer.whiteout(path)?,
            false => writer.node(&tree, path, node)?,
        }
        if node.opaque && path != &PathBuf::new() {
            writer.opaque(path)?;
        }
    }
    writer.finish().map(drop)
}

/// The container's configuration as an image's.
fn configuration(container: &Container) -> Config {
    let c = &container.record.config;
    Config {
        user: c.user.clone(),
        env: c.env.clone(),
        entrypoint: c.entrypoint.clone(),
        cmd: c.cmd.clone(),
        volumes: c.volumes.clone(),
        working_dir: c.working_dir.clone(),
        labels: c.labels.clone(),
        stop_signal: Some(c.stop_signal.clone()).filter(|s| !s.is_empty()),
        stop_timeout: c.stop_timeout,
        healthcheck: c.healthcheck.clone(),
        ..Config::default()
    }
}
