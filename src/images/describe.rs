//! Images in docker's words: the rows of `image ls`, `image history` and the document of
//! `image inspect`.
//!
//! What it implements: the keys that docker's listings and Engine API 1.50 (`ImageInspect`,
//! `GET /images/{name}/history`) use. Interface: [`rows`], [`history`], [`inspect`].
//! Read next: the command line's `image` folder.

use super::REPO_DIGEST;
use super::reference::Reference;
use super::store::{Image, Store, name_of};
use crate::error::Result;
use serde_json::{Value, json};

/// One row of a listing: an image under one of its names, or without one.
#[derive(Debug, Clone)]
pub struct Row {
    /// `alpine`, or `<none>`.
    pub repository: String,
    /// `latest`, or `<none>`.
    pub tag: String,
    /// The image.
    pub image: Image,
    /// Its unpacked size in bytes.
    pub size: u64,
    /// What the name stands for in its registry.
    pub digest: String,
}

const NONE: &str = "<none>";

/// The rows of a listing, as docker sorts them: newest image first, names in order.
pub fn rows(store: &Store) -> Result<Vec<Row>> {
    let mut images = store.list()?;
    images.sort_by(|a, b| {
        b.config
            .created
            .cmp(&a.config.created)
            .then(a.names.cmp(&b.names))
    });
    let mut rows = Vec::new();
    for image in images {
        let size = store.size(&image);
        let mut row = |repository: String, tag: String, digest: String| {
            rows.push(Row {
                repository,
                tag,
                image: image.clone(),
                size,
                digest,
            });
        };
        for name in &image.names {
            let tag = name.tag.clone().unwrap_or_else(|| NONE.into());
            row(
                name.familiar_repository(),
                tag,
                digest_of(store, &image, name),
            );
        }
        if image.names.is_empty() {
            row(NONE.into(), NONE.into(), image.manifest.digest.to_string());
        }
    }
    Ok(rows)
}

/// One step of how an image was made, newest first.
#[derive(Debug, Clone)]
pub struct Step {
    /// The image's id at the top, else `<missing>`: layers below have no id of their own.
    pub id: String,
    /// RFC 3339, where known.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// The unpacked size of the layer that it made; 0 for none.
    pub size: u64,
    /// A remark.
    pub comment: String,
    /// The digest of the layer that it made.
    pub layer: Option<String>,
}

/// How an image was made, newest step first. Layers that the history does not mention come first.
pub fn history(store: &Store, image: &Image) -> Vec<Step> {
    let mut layers = image.layers.iter();
    let size = |l: &super::Layer| store.unpacked_size(l).unwrap_or(l.size);
    let mut steps: Vec<Step> = Vec::new();
    for h in &image.config.history {
        let layer = (!h.empty_layer).then(|| layers.next()).flatten();
        steps.push(Step {
            id: "<missing>".into(),
            created: h.created.clone(),
            created_by: h.created_by.clone().unwrap_or_default(),
            size: layer.map_or(0, size),
            comment: h.comment.clone().unwrap_or_default(),
            layer: layer.map(|l| l.digest.to_string()),
        });
    }
    steps.extend(layers.map(|l| Step {
        id: "<missing>".into(),
        created: image.config.created.clone(),
        created_by: String::new(),
        size: size(l),
        comment: String::new(),
        layer: Some(l.digest.to_string()),
    }));
    if let Some(last) = steps.last_mut() {
        last.id = image.id.to_string();
    }
    steps.reverse();
    steps
}

/// `REPOSITORY@DIGEST` for each name: by what it stands for in the registry that it came from, else
/// by the manifest here.
fn repo_digests(store: &Store, image: &Image) -> Vec<String> {
    image
        .names
        .iter()
        .map(|n| format!("{}@{}", n.familiar_repository(), digest_of(store, image, n)))
        .collect()
}

fn digest_of(store: &Store, image: &Image, name: &Reference) -> String {
    let index = store.index().unwrap_or_default();
    let entry = index
        .manifests
        .iter()
        .find(|d| name_of(d).as_ref() == Some(name));
    let whole = entry.and_then(|d| d.annotations.get(REPO_DIGEST));
    let of_this = |whole: &&String| {
        whole.split('@').next() == Some(&format!("{}/{}", name.registry, name.repository))
    };
    match whole.filter(of_this).and_then(|w| w.split_once('@')) {
        Some((_, digest)) => digest.to_string(),
        None => image.manifest.digest.to_string(),
    }
}

/// The document of `inspect`: docker's keys, and `Layers` with each layer's digests.
pub fn inspect(store: &Store, image: &Image) -> Value {
    let config = &image.config;
    let mut digests = repo_digests(store, image);
    digests.dedup();
    let directories: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|l| store.layer_dir(l).display().to_string())
        .collect();
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|l| {
            json!({
                "Digest": l.digest, "Size": l.size, "MediaType": l.media_type,
                "DiffID": l.diff_id, "ChainID": l.chain_id,
                "UnpackedSize": store.unpacked_size(l), "CreatedBy": l.created_by,
            })
        })
        .collect();
    json!({
        "Id": image.id,
        "RepoTags": image.names.iter().filter(|n| n.tag.is_some()).map(|n| n.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": store.size(image),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": { "LowerDir": directories.join(":") },
        },
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Descriptor": {
            "mediaType": image.manifest.media_type,
            "digest": image.manifest.digest,
            "size": image.manifest.size,
        },
        "Layers": layers,
    })
}
