//! Garbage: what no image needs any more.
//!
//! What it does: marks everything that the index leads to, and removes the rest of the blobs and
//! unpacked layers. The lock is held, so nobody can be adding what is being removed.
//! What it implements: reachability over image-spec "Image Layout". Interface: [`collect`].
//! Read next: `create.rs`.

use super::store::{Lock, Store, repo_digest};
use super::unpack::remove_tree;
use crate::error::{Context, Error, Result};
use crate::spec::digest::{Digest, chain_ids};
use crate::spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use std::collections::BTreeSet;

/// What the index leads to.
#[derive(Debug, Default)]
pub struct Reachable {
    /// Blobs, by their hex digits.
    pub blobs: BTreeSet<String>,
    /// Chain ids of unpacked layers, by their hex digits.
    pub chains: BTreeSet<String>,
}

/// Everything that the index leads to. What cannot be read leads no further.
pub fn reachable(store: &Store) -> Result<Reachable> {
    let mut found = Reachable::default();
    for entry in store.index()?.manifests {
        mark(store, &entry, &mut found);
        // The indexes that it came through, which are all that is here of the other platforms.
        if let Some(top) = repo_digest(&entry).and_then(|d| d.parse::<Digest>().ok()) {
            mark_indexes(store, &top, &mut found);
        }
    }
    Ok(found)
}

fn mark(store: &Store, entry: &Descriptor, found: &mut Reachable) {
    if !found.blobs.insert(entry.digest.hex().to_string()) {
        return;
    }
    if media_type::is_index(&entry.media_type) {
        if let Ok(index) = store.read_json::<Index>(&entry.digest) {
            index.manifests.iter().for_each(|d| mark(store, d, found));
        }
        return;
    }
    let Ok(manifest) = store.read_json::<Manifest>(&entry.digest) else {
        return;
    };
    found.blobs.insert(manifest.config.digest.hex().to_string());
    found
        .blobs
        .extend(manifest.layers.iter().map(|l| l.digest.hex().to_string()));
    if let Ok(config) = store.read_json::<ImageConfig>(&manifest.config.digest) {
        let chains = chain_ids(&config.rootfs.diff_ids);
        found
            .chains
            .extend(chains.iter().map(|c: &Digest| c.hex().to_string()));
    }
}

fn mark_indexes(store: &Store, digest: &Digest, found: &mut Reachable) {
    found.blobs.insert(digest.hex().to_string());
    let Ok(index) = store.read_json::<Index>(digest) else {
        return;
    };
    for entry in &index.manifests {
        let new = !found.blobs.contains(entry.digest.hex());
        if new && media_type::is_index(&entry.media_type) && store.has_blob(&entry.digest) {
            mark_indexes(store, &entry.digest, found);
        }
    }
}

/// Removes the rest; returns the bytes of the blobs that went.
pub fn collect(store: &Store, _: &Lock) -> Result<u64> {
    let found = reachable(store)?;
    let (mut freed, mut failures) = (0, Vec::new());
    let blobs = store.oci().join("blobs/sha256");
    let entries =
        std::fs::read_dir(&blobs).with_context(|| format!("cannot read {}", blobs.display()))?;
    for entry in entries.flatten() {
        if found.blobs.contains(&*entry.file_name().to_string_lossy()) {
            continue;
        }
        let size = entry.metadata().map_or(0, |m| m.len());
        match remove_tree(&entry.path()) {
            Ok(()) => freed += size,
            Err(e) => failures.push(e.context("cannot remove a blob")),
        }
    }
    for entry in std::fs::read_dir(store.layers_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        if !found.chains.contains(&*entry.file_name().to_string_lossy()) {
            failures.extend(remove_tree(&entry.path()).err());
        }
    }
    Error::join("could not remove everything that no image needs", failures)?;
    Ok(freed)
}
