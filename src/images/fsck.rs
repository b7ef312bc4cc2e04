//! `image fsck`: is everything in the store what its name says?
//!
//! What it does: computes every blob's digest again, decompresses every layer and compares its
//! diff id, follows every image to its last blob, compares what is unpacked with its layer, and
//! finds what no image needs. With repair, what is wrong goes: damaged blobs and the images that
//! need them; layers that are missing or were changed are unpacked again. Nothing is invented: an
//! image that lost a blob must be loaded again. An index that cannot be read is made anew out of
//! the images that the blobs hold; only their names are lost.
//!
//! What it implements: image-spec "Image Layout", "Layer DiffID". Interface: [`fsck`],
//! [`Problem`]. Read next: `fsck/unpacked.rs`.

mod unpacked;

use super::collect::reachable;
use super::store::{Lock, Store, descriptor, name_of};
use super::unpack::remove_tree;
use crate::error::{Context, Result};
use crate::layers::compression;
use crate::spec::digest::{Algorithm, Digest, chain_ids};
use crate::spec::image::{Descriptor, ImageConfig, Index, Layout, Manifest, media_type};
use serde::Serialize;
use sha2::Digest as _;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A word for programs: `layout`, `index`, `blob`, `image`, `diff-id`, `layer`, `unused`.
    pub kind: &'static str,
    /// What it is about: an image's name, a digest, a file.
    pub subject: String,
    /// What is wrong, as a sentence.
    pub what: String,
    /// What was done about it, when repair was asked for and it could be.
    pub repaired: Option<&'static str>,
}

impl Problem {
    fn new(kind: &'static str, subject: impl ToString, what: impl Into<String>) -> Problem {
        Problem {
            kind,
            subject: subject.to_string(),
            what: what.into(),
            repaired: None,
        }
    }
}

/// Checks the whole store, telling `report` what is being looked at. Holds the store's lock.
/// Errors: the store cannot be read at all.
pub fn fsck(store: &Store, repair: bool, report: &mut dyn FnMut(&str)) -> Result<Vec<Problem>> {
    let lock = store.lock()?;
    let mut problems = Vec::new();
    layout(store, &lock, repair, &mut problems)?;
    let damaged = blobs(store, repair, &mut problems, report)?;
    if let Err(e) = store.index() {
        let mut problem = Problem::new("index", "index.json", format!("{e:#}"));
        if !repair {
            problems.push(problem);
            return Ok(problems); // without it, nothing can be said about the rest
        }
        store.write_index(&lock, &Index::new(whole_images(store)?))?;
        problem.repaired = Some("made anew; the images lost their names");
        problems.push(problem);
    }
    let broken = images(store, &damaged, &mut problems, report)?;
    if repair {
        let mut index = store.index()?;
        index.manifests.retain(|d| !broken.contains(&d.digest));
        store.write_index(&lock, &index)?;
        let gone = problems
            .iter_mut()
            .filter(|p| p.kind == "image" || p.kind == "diff-id");
        gone.for_each(|p| p.repaired = Some("the image was removed; load it again"));
    }
    unpacked(store, &lock, &broken, repair, &mut problems, report)?;
    unused(store, &lock, repair, &mut problems)?;
    if repair {
        drop(lock);
        unpack_again(store, &mut problems)?;
    }
    Ok(problems)
}

fn layout(store: &Store, lock: &Lock, repair: bool, problems: &mut Vec<Problem>) -> Result<()> {
    let path = store.oci().join("oci-layout");
    let version = std::fs::read(&path)
        .ok()
        .and_then(|b| serde_json::from_slice::<Layout>(&b).ok())
        .map(|l| l.image_layout_version);
    if version.as_deref() == Some("1.0.0") {
        return Ok(());
    }
    let what = match version {
        Some(version) => format!("says version {version}, not 1.0.0"),
        None => "does not say which version of the image layout this is".into(),
    };
    let mut problem = Problem::new("layout", path.display(), what);
    if repair {
        store.write_layout(lock)?;
        problem.repaired = Some("written anew");
    }
    problems.push(problem);
    Ok(())
}

/// The manifests among the blobs whose images hold together.
fn whole_images(store: &Store) -> Result<Vec<Descriptor>> {
    let directory = store.oci().join("blobs/sha256");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&directory)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = format!("sha256:{}", entry.file_name().to_string_lossy());
        let Ok(digest) = name.parse::<Digest>() else {
            continue;
        };
        let Ok(manifest) = store.read_json::<Manifest>(&digest) else {
            continue; // most blobs are none
        };
        if !media_type::is_config(&manifest.config.media_type) {
            continue;
        }
        let kind = manifest
            .media_type
            .as_deref()
            .unwrap_or(media_type::MANIFEST);
        let size = entry.metadata().context("cannot look at a manifest")?.len();
        let image = descriptor(kind, digest, size);
        if self::image(store, &image, &name, &BTreeSet::new()).is_empty() {
            found.push(image);
        }
    }
    Ok(found)
}

/// Recomputes every blob's digest; returns those that are wrong.
fn blobs(
    store: &Store,
    repair: bool,
    problems: &mut Vec<Problem>,
    report: &mut dyn FnMut(&str),
) -> Result<BTreeSet<Digest>> {
    let mut damaged = BTreeSet::new();
    let directory = store.oci().join("blobs/sha256");
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        report(&format!(
            "checking the blob {}",
            name.get(..12).unwrap_or(&name)
        ));
        let mut problem = match format!("sha256:{name}").parse::<Digest>() {
            Err(_) => Problem::new("blob", &name, "its name is no digest"),
            Ok(digest) => match hash(&entry.path()) {
                Ok(is) if is == digest => continue,
                Ok(is) => {
                    damaged.insert(digest.clone());
                    Problem::new("blob", digest, format!("its content has the digest {is}"))
                }
                Err(e) => {
                    damaged.insert(digest.clone());
                    Problem::new("blob", digest, format!("{e:#}"))
                }
            },
        };
        if repair && remove_tree(&entry.path()).is_ok() {
            problem.repaired = Some("removed");
        }
        problems.push(problem);
    }
    Ok(damaged)
}

fn hash(path: &Path) -> Result<Digest> {
    let mut file = std::fs::File::open(path).context("cannot open it")?;
    let (mut hash, mut buffer) = (sha2::Sha256::new(), vec![0u8; 256 * 1024]);
    loop {
        match file.read(&mut buffer).context("cannot read it")? {
            0 => return Ok(Digest::from_hash(Algorithm::Sha256, &hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Follows every image; returns the entries of the index that do not hold together.
fn images(
    store: &Store,
    damaged: &BTreeSet<Digest>,
    problems: &mut Vec<Problem>,
    report: &mut dyn FnMut(&str),
) -> Result<BTreeSet<Digest>> {
    let mut broken = BTreeSet::new();
    let mut checked = BTreeSet::new();
    for entry in store.index()?.manifests {
        if media_type::is_index(&entry.media_type) || !checked.insert(entry.digest.clone()) {
            continue;
        }
        let name = name_of(&entry).map_or_else(|| entry.digest.to_string(), |n| n.familiar());
        report(&format!("checking the image {name}"));
        let found = image(store, &entry, &name, damaged);
        if !found.is_empty() {
            broken.insert(entry.digest.clone());
        }
        problems.extend(found);
    }
    Ok(broken)
}

fn image(
    store: &Store,
    entry: &Descriptor,
    name: &str,
    damaged: &BTreeSet<Digest>,
) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut present = |blob: &Descriptor, what: &str| {
        let size = std::fs::metadata(store.blob_path(&blob.digest)).map(|m| m.len());
        let wrong = match size {
            Err(_) => Some("is missing".to_string()),
            Ok(_) if damaged.contains(&blob.digest) => Some("is damaged".into()),
            Ok(n) if n != blob.size => Some(format!("has {n} bytes in place of {}", blob.size)),
            Ok(_) => None,
        };
        let problem = wrong.map(|w| {
            Problem::new(
                "image",
                name,
                format!("its {what} {} {w}", blob.digest.short()),
            )
        });
        let fine = problem.is_none();
        found.extend(problem);
        fine
    };
    if !present(entry, "manifest") {
        return found;
    }
    let manifest: Manifest = match store.read_json(&entry.digest) {
        Ok(manifest) => manifest,
        Err(e) => return vec![Problem::new("image", name, format!("{e:#}"))],
    };
    let config_there = present(&manifest.config, "configuration");
    let whole: Vec<bool> = manifest
        .layers
        .iter()
        .map(|l| present(l, "layer"))
        .collect();
    if !config_there {
        return found;
    }
    let config: ImageConfig = match store.read_json(&manifest.config.digest) {
        Ok(config) => config,
        Err(e) => {
            found.push(Problem::new("image", name, format!("{e:#}")));
            return found;
        }
    };
    let ids = &config.rootfs.diff_ids;
    if ids.len() != manifest.layers.len() {
        let what = format!(
            "{} layers but {} diff ids",
            manifest.layers.len(),
            ids.len()
        );
        found.push(Problem::new("image", name, what));
        return found;
    }
    for ((layer, wanted), whole) in manifest.layers.iter().zip(ids).zip(whole) {
        if !whole {
            continue;
        }
        let is = store.open_blob(&layer.digest).and_then(|blob| {
            let decoded = compression::decode(blob, super::unpack::MAX_UNPACKED, |_| Ok(()))?;
            decoded.1.diff_id.parse::<Digest>()
        });
        let what = match is {
            Ok(is) if is == *wanted => continue,
            Ok(is) => format!(
                "its layer {} unpacks to {is}, not {wanted}",
                layer.digest.short()
            ),
            Err(e) => format!("its layer {}: {e:#}", layer.digest.short()),
        };
        found.push(Problem::new("diff-id", name, what));
    }
    found
}

/// Looks at the directories of unpacked layers.
fn unpacked(
    store: &Store,
    lock: &Lock,
    broken: &BTreeSet<Digest>,
    repair: bool,
    problems: &mut Vec<Problem>,
    report: &mut dyn FnMut(&str),
) -> Result<()> {
    for entry in std::fs::read_dir(store.layers_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let what = match format!("sha256:{name}").parse::<Digest>() {
            Err(_) => "its name is no chain id",
            Ok(_) if !entry.path().join("diff").is_dir() => "it holds no directory diff",
            Ok(_) => continue,
        };
        let mut problem = Problem::new("layer", &name, what);
        if repair && remove_tree(&entry.path()).is_ok() {
            problem.repaired = Some("removed");
        }
        problems.push(problem);
    }
    let mut done = BTreeSet::new();
    for image in store.list()? {
        if broken.contains(&image.manifest.digest) {
            continue; // its blobs cannot tell what its layers should be
        }
        report(&format!(
            "comparing the unpacked layers of {}",
            image.display_name()
        ));
        unpacked::check(store, lock, &image, &mut done, repair, problems)?;
    }
    // A layer that was unpacked once with the layer above it must still be there: containers that
    // run have it mounted.
    for image in store.list()? {
        let there: Vec<bool> = image
            .layers
            .iter()
            .map(|l| store.layer_dir(l).is_dir())
            .collect();
        if !there.contains(&true) {
            continue; // unpacked on first use
        }
        for (layer, _) in image
            .layers
            .iter()
            .zip(&there)
            .filter(|(_, there)| !**there)
        {
            let known = problems.iter().any(|p| p.subject == layer.chain_id.hex());
            if !known {
                let what = format!("the unpacked layer of {} is missing", image.display_name());
                problems.push(Problem::new("layer", layer.chain_id.hex(), what));
            }
        }
    }
    Ok(())
}

fn unused(store: &Store, lock: &Lock, repair: bool, problems: &mut Vec<Problem>) -> Result<()> {
    let reachable = reachable(store)?;
    let mut look = |directory: &Path, needed: &BTreeSet<String>, what: &str| {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let known = problems
                .iter()
                .any(|p| p.subject == name || p.subject == format!("sha256:{name}"));
            if !needed.contains(&name) && !known {
                let mut problem =
                    Problem::new("unused", name, format!("no image needs this {what}"));
                problem.repaired = repair.then_some("removed");
                problems.push(problem);
            }
        }
    };
    look(&store.oci().join("blobs/sha256"), &reachable.blobs, "blob");
    look(&store.layers_dir(), &reachable.chains, "unpacked layer");
    if repair {
        store.collect(lock)?;
    }
    Ok(())
}

/// Unpacks what is missing of images whose other layers are unpacked.
fn unpack_again(store: &Store, problems: &mut [Problem]) -> Result<()> {
    for image in store.list()? {
        let chains = chain_ids(&image.config.rootfs.diff_ids);
        let mut missing = problems
            .iter_mut()
            .filter(|p| p.kind == "layer" && chains.iter().any(|c| c.hex() == p.subject))
            .peekable();
        if missing.peek().is_some() && store.lowers(&image).is_ok() {
            missing.for_each(|p| p.repaired = Some("unpacked again"));
        }
    }
    Ok(())
}
