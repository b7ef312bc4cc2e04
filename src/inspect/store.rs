//! Images and layers of this engine's store, and which of them the lower directories of an overlay
//! are; for Docker's store too.
//!
//! What it does: a lower directory `ROOT/layers/HEX/diff` belongs to the store at ROOT, whatever
//! `--root` says, so a container of any root is resolved. Docker's `overlay2/CACHE/diff` is looked
//! up in its layerdb. A store is only ever read: one that is not there is not made.
//! What it implements: image-spec ("Image Layout", chain ids); docker's keys of an image.
//! Interface: [`resolve`], [`image`], [`layer`]. Read next: [`crate::images`].

use super::fact::Fact;
use super::model::{Layer, LowerLayer, Mount};
use super::target::Query;
use super::{mounts, tree};
use crate::error::{Error, Kind, Result};
use crate::images::{Image, Reference, Store};
use crate::spec::digest::{Digest, chain_ids};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Opens a store that exists.
fn open(root: &Path) -> Option<Store> {
    let exists = root.join("oci/oci-layout").exists();
    exists.then(|| Store::open(root).ok()).flatten()
}

/// Adds store, chain id and images to the lower layers of overlays.
pub fn resolve(fact: Fact<Vec<Mount>>) -> Fact<Vec<Mount>> {
    let mut known = Known::default();
    fact.map(|list| {
        let mut list = list.clone();
        for overlay in list.iter_mut().filter_map(|m| m.overlay.as_mut()) {
            overlay.lower.iter_mut().for_each(|l| known.resolve(l));
        }
        list
    })
}

/// Images of the stores that were met, by the store's root: each is read once.
#[derive(Default)]
struct Known {
    own: BTreeMap<PathBuf, Vec<Image>>,
    docker: BTreeMap<PathBuf, Vec<(String, Vec<String>)>>,
}

impl Known {
    fn resolve(&mut self, layer: &mut LowerLayer) {
        let path = PathBuf::from(&layer.path);
        if let Some((root, hex)) = own_layer(&path)
            && root.join("oci/oci-layout").exists()
        {
            let images = self
                .own
                .entry(root.clone())
                .or_insert_with(|| open(&root).and_then(|s| s.list().ok()).unwrap_or_default());
            layer.store = Some("glassbox".into());
            layer.chain_id = Some(format!("sha256:{hex}"));
            layer.images = names_with(images, &hex);
        } else if layer.store.as_deref() == Some("docker")
            && let Some((base, cache)) = docker_layer(&path)
        {
            layer.chain_id = docker_chain_id(&base, &cache);
            let images = self
                .docker
                .entry(base.clone())
                .or_insert_with(|| docker_images(&base));
            if let Some(chain) = &layer.chain_id {
                let with = images.iter().filter(|(_, chains)| chains.contains(chain));
                layer.images = with.map(|(name, _)| name.clone()).collect();
            }
        }
    }
}

fn names_with(images: &[Image], chain_hex: &str) -> Vec<String> {
    images
        .iter()
        .filter(|i| i.layers.iter().any(|l| l.chain_id.hex() == chain_hex))
        .map(Image::display_name)
        .collect()
}

/// `ROOT/layers/HEX/diff` → ROOT and HEX.
fn own_layer(path: &Path) -> Option<(PathBuf, String)> {
    let place = path.parent().filter(|_| path.ends_with("diff"))?;
    let hex = place.file_name()?.to_str()?;
    let layers = place.parent().filter(|p| p.ends_with("layers"))?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| Some((layers.parent()?.to_path_buf(), hex.to_string())))?
}

/// `BASE/overlay2/CACHE/diff` → BASE and CACHE.
fn docker_layer(path: &Path) -> Option<(PathBuf, String)> {
    let place = path.parent()?;
    let cache = place
        .file_name()?
        .to_str()?
        .trim_end_matches("-init")
        .to_string();
    Some((place.parent()?.parent()?.to_path_buf(), cache))
}

/// `BASE/image/overlay2/layerdb/sha256/CHAIN/cache-id` holds the name of the directory.
fn docker_chain_id(base: &Path, cache: &str) -> Option<String> {
    let database = base.join("image/overlay2/layerdb/sha256");
    std::fs::read_dir(database)
        .ok()?
        .flatten()
        .find_map(|entry| {
            let id = std::fs::read_to_string(entry.path().join("cache-id")).ok()?;
            (id.trim() == cache).then(|| format!("sha256:{}", entry.file_name().display()))
        })
}

/// The names of Docker's images with the chain ids of their layers.
fn docker_images(base: &Path) -> Vec<(String, Vec<String>)> {
    let read = |path: PathBuf| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let store = base.join("image/overlay2");
    let names = read(store.join("repositories.json")).unwrap_or_default();
    let tags = names["Repositories"]
        .as_object()
        .into_iter()
        .flat_map(|r| r.values());
    tags.filter_map(Value::as_object)
        .flatten()
        .filter_map(|(name, id)| {
            let hex = id.as_str()?.strip_prefix("sha256:")?;
            let config = read(store.join("imagedb/content/sha256").join(hex))?;
            let diffs: Vec<Digest> =
                serde_json::from_value(config["rootfs"]["diff_ids"].clone()).ok()?;
            let chains = chain_ids(&diffs).iter().map(ToString::to_string).collect();
            Some((name.clone(), chains))
        })
        .collect()
}

fn of_query(query: &Query) -> Option<Store> {
    query.root.as_deref().and_then(open)
}

/// Whether an image of this name or id is in the store.
pub fn has_image(query: &Query) -> bool {
    of_query(query).is_some_and(|s| s.resolve(&query.target).is_ok())
}

/// Whether a layer is in the store by its chain id, diff id or blob.
pub fn has_layer(query: &Query) -> bool {
    of_query(query).is_some_and(|s| find_layer(&s, &query.target).is_some())
}

fn no_store(query: &Query) -> Error {
    let what = query
        .kind
        .map_or("image or layer", super::target::Kind::word);
    Error::kind(
        Kind::NotFound,
        format!("no {what} is named {:?}", query.target),
    )
    .hint("there is no image store here; --root DIR names another")
}

/// An image, with docker's keys. Errors: [`Kind::NotFound`].
pub fn image(query: &Query) -> Result<Value> {
    let store = of_query(query).ok_or_else(|| no_store(query))?;
    Ok(image_keys(&store.resolve(&query.target)?))
}

/// An image in the words of docker's `image inspect`; the layers' chain ids, commands and
/// compressed sizes are added as `Layers`.
pub fn image_keys(image: &Image) -> Value {
    let config = &image.config;
    let diff_ids: Vec<String> = config
        .rootfs
        .diff_ids
        .iter()
        .map(ToString::to_string)
        .collect();
    let digests: Vec<String> = image
        .names
        .iter()
        .map(|n| format!("{}@{}", n.familiar_repository(), image.manifest.digest))
        .collect();
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|l| {
            json!({
                "Digest": l.digest.to_string(), "DiffId": l.diff_id.to_string(),
                "ChainId": l.chain_id.to_string(), "Size": l.size, "MediaType": l.media_type,
                "CreatedBy": l.created_by,
            })
        })
        .collect();
    json!({
        "Id": image.id.to_string(),
        "RepoTags": image.names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Comment": config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.os,
        "Size": image.size(),
        "Config": config.config,
        "RootFS": {"Type": "layers", "Layers": diff_ids},
        "Manifest": image.manifest.digest.to_string(),
        "Layers": layers,
    })
}

/// The chain id, and with it the images' knowledge of the layer.
struct FoundLayer {
    chain_hex: String,
    diff_id: Option<String>,
    parent: Option<String>,
    images: Vec<String>,
}

/// By chain id (an unpacked directory, or an image's), diff id or blob digest; the beginning of an
/// id will do when only one layer has it. Also by its directory, as mountinfo shows it.
fn find_layer(store: &Store, target: &str) -> Option<FoundLayer> {
    if target.starts_with(['/', '.']) {
        let path = std::fs::canonicalize(target).ok()?;
        let layers = std::fs::canonicalize(store.layers_dir()).ok()?;
        let inside = path.strip_prefix(layers).ok()?;
        let whole = inside.components().count() == 1 || inside.ends_with("diff");
        let (_, hex) = own_layer(&path).or_else(|| own_layer(&path.join("diff")))?;
        return find_layer(store, &hex).filter(|_| whole);
    }
    let prefix = target.strip_prefix("sha256:").unwrap_or(target);
    if prefix.len() < 4 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let images = store.list().unwrap_or_default();
    let mut found: BTreeMap<String, FoundLayer> = BTreeMap::new();
    for image in &images {
        let mut parent = None;
        for layer in &image.layers {
            let ids = [&layer.chain_id, &layer.diff_id, &layer.digest];
            if ids.iter().any(|d| d.hex().starts_with(prefix)) {
                let hex = layer.chain_id.hex().to_string();
                found.entry(hex.clone()).or_insert_with(|| FoundLayer {
                    images: names_with(&images, &hex),
                    chain_hex: hex,
                    diff_id: Some(layer.diff_id.to_string()),
                    parent: parent.clone(),
                });
            }
            parent = Some(layer.chain_id.to_string());
        }
    }
    let unpacked = std::fs::read_dir(store.layers_dir())
        .into_iter()
        .flatten()
        .flatten();
    for entry in unpacked {
        let hex = entry.file_name().to_string_lossy().into_owned();
        if hex.starts_with(prefix) {
            found.entry(hex.clone()).or_insert_with(|| FoundLayer {
                chain_hex: hex,
                diff_id: None,
                parent: None,
                images: Vec::new(),
            });
        }
    }
    let one = found.len() == 1;
    found.into_values().next().filter(|_| one)
}

/// A layer. Errors: [`Kind::NotFound`]: no layer, or several, begin with these digits.
pub fn layer(query: &Query) -> Result<Layer> {
    let store = of_query(query).ok_or_else(|| no_store(query))?;
    let found = find_layer(&store, &query.target).ok_or_else(|| {
        let what = format!("no single layer begins with {:?}", query.target);
        Error::kind(Kind::NotFound, what).hint(
            "write more digits of its chain id, diff id or blob; `glassbox image inspect` \
                   lists them",
        )
    })?;
    let directory = store.layers_dir().join(&found.chain_hex).join("diff");
    Ok(Layer {
        chain_id: format!("sha256:{}", found.chain_hex),
        diff_id: found.diff_id,
        parent: found.parent,
        size: query.size.then(|| size_of_tree(&directory)),
        unpacked: directory.is_dir(),
        used_by: users_of(&directory),
        directory: directory.to_string_lossy().into_owned(),
        images: found.images,
    })
}

/// The sum of the sizes of all files, in bytes; hard links count once.
fn size_of_tree(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::BTreeSet::new();
    let mut waiting = vec![directory.to_path_buf()];
    let mut sum = 0;
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.is_file() && seen.insert(metadata.ino()) {
                sum += metadata.len();
            }
        }
    }
    sum
}

/// The overlay mounts that have this directory as a lower layer: one process for each mount
/// namespace, with the mount point.
fn users_of(directory: &Path) -> Vec<String> {
    let wanted = directory.to_string_lossy();
    let mut namespaces = std::collections::BTreeSet::new();
    let mut users = Vec::new();
    for seen in tree::all() {
        let new = seen
            .namespaces
            .get("mnt")
            .is_some_and(|id| namespaces.insert(*id));
        if !new {
            continue;
        }
        for mount in mounts::mounts(seen.pid).get().into_iter().flatten() {
            let lower = mount.overlay.iter().flat_map(|o| &o.lower);
            if lower.into_iter().any(|l| l.path == wanted) {
                users.push(format!(
                    "pid {} ({}) at {}",
                    seen.pid, seen.name, mount.point
                ));
            }
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_tell_their_store() {
        let hex = "ab".repeat(32);
        let path = PathBuf::from(format!("/x/y/layers/{hex}/diff"));
        assert_eq!(own_layer(&path), Some(("/x/y".into(), hex.clone())));
        assert_eq!(own_layer(Path::new("/x/layers/short/diff")), None);
        assert_eq!(own_layer(Path::new("/")), None);
        let docker = Path::new("/var/lib/docker/overlay2/abc-init/diff");
        assert_eq!(
            docker_layer(docker),
            Some(("/var/lib/docker".into(), "abc".into()))
        );
    }

    #[test]
    fn dockers_database_names_chain_id_and_image() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        let diff = Digest::sha256(b"layer");
        let chain = chain_ids(std::slice::from_ref(&diff))[0].clone();
        let write = |path: String, text: String| {
            let path = base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let store = "image/overlay2";
        write(
            format!("{store}/layerdb/sha256/{}/cache-id", chain.hex()),
            "cafe".into(),
        );
        let id = Digest::sha256(b"config");
        let config = json!({"rootfs": {"diff_ids": [diff.to_string()]}});
        write(
            format!("{store}/imagedb/content/sha256/{}", id.hex()),
            config.to_string(),
        );
        let names = json!({"Repositories": {"web": {"web:1": id.to_string()}}});
        write(format!("{store}/repositories.json"), names.to_string());
        let mut lower = LowerLayer {
            path: format!("{}/overlay2/cafe/diff", base.display()),
            store: Some("docker".into()),
            chain_id: None,
            images: Vec::new(),
        };
        Known::default().resolve(&mut lower);
        assert_eq!(lower.chain_id, Some(chain.to_string()));
        assert_eq!(lower.images, ["web:1"]);
    }
}
