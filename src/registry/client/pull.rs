//! Pull: an image comes into the store, or nothing does.
//!
//! ```text
//!   name ─▶ index ─▶ manifest ─▶ configuration
//!                        │
//!          ┌─────────────┼─────────────┐        each layer once, side by side:
//!        layer         layer         layer      network ▸ file ▸ digest ▸ decompress ▸ diff id ▸ files
//!          └─────────────┼─────────────┘
//!                     settle ─▶ commit          all of it becomes visible at once
//! ```
//!
//! What it does: follows the documents from the top, takes what the store lacks, and commits. The
//! index that the name led through is kept with the image, since its digest is what docker calls the
//! image's.
//!
//! What it implements: distribution-spec "Pull"; image-spec. Interface: [`pull`].
//! Read next: `push.rs`.

use super::exchange::Entry;
use super::manifest::{Document, choose, name};
use super::parallel::{self, Stop};
use super::transfer::inline;
use super::{Client, Event, Watch};
use crate::error::{Context, Error, Kind, Result};
use crate::images::{
    Image, Layer, REPO_DIGEST, Received, Reference, Staging, Store, layers, name_of,
};
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, ImageConfig, Manifest, Platform, media_type};
use std::io::Read;
use std::sync::Mutex;

/// A configuration longer than this is none.
const MAX_CONFIG: u64 = 8 << 20;

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// For this platform in place of the host's.
    pub platform: Option<Platform>,
    /// How many layers at once.
    pub at_once: usize,
    /// The largest layer, unpacked, in bytes.
    pub max_layer: u64,
}

impl Default for PullOptions {
    fn default() -> Self {
        PullOptions {
            platform: None,
            at_once: 3,
            max_layer: 64 << 30,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest of what the name stands for: an index or a manifest.
    pub digest: Digest,
    /// Whether the name stood for something else before, or for nothing.
    pub newer: bool,
}

/// Pulls the image of a reference.
pub fn pull(
    store: &Store,
    client: &Client,
    reference: &Reference,
    options: &PullOptions,
    watch: &dyn Watch,
) -> Result<Pulled> {
    let repository = &reference.repository;
    let staging = store.stage_again()?;
    let top = client.manifest(repository, &name(reference))?;
    let (document, indexes) = descend(client, repository, top.clone(), options.platform.as_ref())?;
    let manifest = document.manifest()?;
    let config = configuration(&staging, client, repository, &manifest)?;
    if let (Some(wanted), true) = (&options.platform, indexes.is_empty()) {
        check_platform(&config, wanted)?;
    }
    let layers = layers(&manifest, &config);
    let received = transfer(
        &staging, store, client, repository, &manifest, &layers, options, watch,
    )?;
    staging.settle(&layers, &received)?;
    for document in indexes.iter().chain([&document]) {
        staging.put_stream(
            &document.descriptor.media_type,
            &document.bytes[..],
            Some(&document.descriptor),
        )?;
    }

    let mut entry = document.descriptor.clone();
    let top = top.descriptor;
    let whole = format!("{}/{repository}@{}", reference.registry, top.digest);
    entry.annotations.insert(REPO_DIGEST.into(), whole);
    let name = Reference {
        tag: reference.tag.clone().filter(|_| reference.digest.is_none()),
        ..reference.clone()
    };
    let same = |d: &Descriptor| {
        d.digest == entry.digest
            && name_of(d).as_ref() == Some(&name)
            && d.annotations.get(REPO_DIGEST) == entry.annotations.get(REPO_DIGEST)
    };
    let newer = !store.index()?.manifests.iter().any(same);
    let image = staging.commit(&entry, std::slice::from_ref(&name))?;
    Ok(Pulled {
        image,
        digest: top.digest,
        newer,
    })
}

/// Follows indexes down to the manifest for a platform; the indexes that it went through.
pub(super) fn descend(
    client: &Client,
    repository: &str,
    top: Document,
    platform: Option<&Platform>,
) -> Result<(Document, Vec<Document>)> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let (mut document, mut indexes) = (top, Vec::new());
    while let Some(index) = document.index()? {
        if indexes.len() == 3 {
            return Err(Error::new("image indexes are nested more than three deep"));
        }
        let entry = choose(&index, &wanted)?;
        indexes.push(document);
        document = client.child(repository, &entry)?;
    }
    Ok((document, indexes))
}

/// The configuration, put aside with the manifest's other blobs. Errors: an artifact; a
/// configuration that contradicts the manifest.
fn configuration(
    staging: &Staging<'_>,
    client: &Client,
    repository: &str,
    manifest: &Manifest,
) -> Result<ImageConfig> {
    let blob = &manifest.config;
    if !media_type::is_config(&blob.media_type) {
        return Err(
            Error::kind(Kind::Unsupported, "this is no image but an artifact")
                .caused_by(Error::new(format!(
                    "its configuration is of type {}",
                    blob.media_type
                )))
                .hint("`glassbox registry copy` takes artifacts to another registry"),
        );
    }
    if let Some(unknown) = manifest
        .layers
        .iter()
        .find(|l| !media_type::is_layer(&l.media_type))
    {
        return Err(Error::kind(
            Kind::Unsupported,
            format!(
                "the layer {} is of an unknown type, {}",
                unknown.digest.short(),
                unknown.media_type
            ),
        ));
    }
    let bytes = client
        .small_blob(repository, blob, MAX_CONFIG)
        .context("cannot get the configuration")?;
    let config: ImageConfig =
        serde_json::from_slice(&bytes).context("cannot understand the configuration")?;
    let (ids, blobs) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if ids != blobs {
        return Err(Error::new(format!(
            "the manifest has {blobs} layers, but the configuration has {ids} diff ids"
        ))
        .topic("images"));
    }
    staging.put_stream(&blob.media_type, &bytes[..], Some(blob))?;
    Ok(config)
}

/// Where no index was there to choose from, the image itself says where it runs.
fn check_platform(config: &ImageConfig, wanted: &Platform) -> Result<()> {
    let own = Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
        ..Platform::default()
    };
    match own.runs_on(wanted) {
        true => Ok(()),
        false => Err(Error::kind(
            Kind::NotFound,
            format!("the image is for {own}, not for {wanted}"),
        )
        .hint("its name stands for one image, not for an index of several")
        .topic("images")),
    }
}

#[allow(clippy::too_many_arguments)]
fn transfer(
    staging: &Staging<'_>,
    store: &Store,
    client: &Client,
    repository: &str,
    manifest: &Manifest,
    layers: &[Layer],
    options: &PullOptions,
    watch: &dyn Watch,
) -> Result<Vec<Received>> {
    let trace = client.trace();
    // A blob that stands in several places is transferred once; what else it is, is unpacked then.
    let mut wanted: Vec<(usize, Vec<usize>)> = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        match wanted
            .iter_mut()
            .find(|(first, _)| layers[*first].digest == layer.digest)
        {
            Some((_, more)) => more.push(i),
            None => wanted.push((i, vec![])),
        }
    }
    wanted
        .iter()
        .for_each(|(i, _)| watch.layer(layers[*i].digest.short(), Event::Waiting(layers[*i].size)));
    let (stop, received) = (Stop::default(), Mutex::new(Vec::new()));
    let keep =
        |r: Received, layer: &Layer| {
            if r.left_out.devices + r.left_out.xattrs > 0 {
                watch.line(&format!(
                "{}: left out what an ordinary user may not make: {} device nodes, {} attributes",
                layer.digest.short(), r.left_out.devices, r.left_out.xattrs
            ));
            }
            if trace.is_on() {
                trace.note(&Entry::Layer {
                    digest: layer.digest.to_string(),
                    media_type: layer.media_type.clone(),
                    size: layer.size,
                    diff_id: layer.diff_id.to_string(),
                    unpacked: r.unpacked,
                    chain_id: layer.chain_id.to_string(),
                });
            }
            received.lock().unwrap_or_else(|e| e.into_inner()).push(r);
        };
    parallel::for_each(&wanted, options.at_once, &stop, |(first, more)| {
        let (layer, descriptor) = (&layers[*first], &manifest.layers[*first]);
        let short = layer.digest.short();
        let what = || format!("cannot take the layer {short}");
        let all = || more.iter().chain([first]).map(|i| &layers[*i]);
        if !store.has_blob(&layer.digest) {
            watch.layer(short, Event::Begins(layer.size));
            let take = |input: Box<dyn Read + Send + '_>| {
                staging
                    .receive(layer, input, options.max_layer)
                    .map_err(|e| bounded(e, options))
                    .with_context(what)
            };
            let come = |from| {
                let count = |n| watch.layer(short, Event::Bytes(n));
                let blob = client.blob(repository, descriptor).starting_at(from);
                blob.stopped_by(&stop).counted(count)
            };
            let r = match (inline(descriptor)?, staging.kept(layer)) {
                (Some(bytes), _) => {
                    trace.skipped(
                        format!("layer {short}"),
                        "its content stands in the descriptor",
                    );
                    take(Box::new(std::io::Cursor::new(bytes)))?
                }
                (None, Some((file, size))) => {
                    trace.skipped(
                        format!("{size} bytes of layer {short}"),
                        "a pull that was killed had received them",
                    );
                    watch.layer(short, Event::Bytes(size));
                    match take(Box::new(file.take(size).chain(come(size)))) {
                        // A power cut can have spoiled them: from the start.
                        Err(_) if !stop.is_set() => {
                            watch.layer(short, Event::Begins(layer.size));
                            take(Box::new(come(0)))?
                        }
                        other => other?,
                    }
                }
                (None, None) => take(Box::new(come(0)))?,
            };
            keep(r, layer);
        } else if all().all(|l| staging.is_unpacked(l)) {
            trace.skipped(format!("layer {short}"), "the store has it, unpacked");
            watch.layer(short, Event::Done("Already exists".into()));
            return Ok(());
        } else {
            trace.skipped(
                format!("the transfer of layer {short}"),
                "the store has its blob",
            );
        }
        for layer in all().filter(|l| !staging.is_unpacked(l)) {
            let r = staging
                .unpack_apart(layer, options.max_layer)
                .map_err(|e| bounded(e, options))
                .with_context(what)?;
            keep(r, layer);
        }
        watch.layer(short, Event::Done("Pull complete".into()));
        Ok(())
    })?;
    Ok(received.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn bounded(error: Error, options: &PullOptions) -> Error {
    let bomb = std::iter::once(error.message().to_string()).chain(error.causes());
    match bomb.into_iter().any(|m| m.contains("unpacks to more than")) {
        true => error.hint(format!(
            "it may be a decompression bomb; --max-layer-size allows more than {} bytes",
            options.max_layer
        )),
        false => error,
    }
}
