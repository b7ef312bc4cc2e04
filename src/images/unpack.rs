//! Layers, unpacked once: the directories that overlayfs stacks.
//!
//! What it does: turns an image into a list of directories, one a layer, shared by all images that
//! have the same layers in the same order: the chain id names a layer *and all below it*, because
//! the same tar over other layers can mean other content (a whiteout of a file that is not there).
//!
//! A layer is unpacked into tmp/, checked against its diff id while it streams, and renamed: it is
//! there whole or not at all.
//!
//! What it implements: image-spec "Layer ChainID"; the kernel's overlayfs document. Interface:
//! [`Store::lowers`], [`Store::size`], [`remove_tree`]. Read next: `create.rs`.

use super::store::{Image, Layer, Lock, Store};
use crate::error::{Context, Error, Result};
use crate::layers::apply;
use crate::layers::compression::Decoded;
use crate::spec::digest::{Digest, chain_ids};
use crate::spec::image::{ImageConfig, Manifest};
use crate::sys::{self, fs::CWD};
use std::path::{Path, PathBuf};

/// A layer that unpacks to more than this is refused: 1 TiB, beyond any disk that it is meant for.
pub(super) const MAX_UNPACKED: u64 = 1 << 40;

impl Store {
    /// The directory of a layer that is or will be unpacked.
    pub fn layer_dir(&self, layer: &Layer) -> PathBuf {
        self.layers_dir().join(layer.chain_id.hex()).join("diff")
    }

    /// The image's layers as directories, top first, as overlayfs takes them; unpacks those that
    /// are not there yet. Errors: a blob is missing, or is not what its digests say.
    pub fn lowers(&self, image: &Image) -> Result<Vec<PathBuf>> {
        if image.layers.iter().any(|l| !self.layer_dir(l).is_dir()) {
            let lock = self.lock()?;
            for (i, layer) in image.layers.iter().enumerate() {
                if !self.layer_dir(layer).is_dir() {
                    let below = image.layers[..i].iter().rev();
                    let below: Vec<PathBuf> = below.map(|l| self.layer_dir(l)).collect();
                    self.unpack(&lock, layer, &below).with_context(|| {
                        format!(
                            "cannot unpack the layer {} of {}",
                            layer.digest.short(),
                            image.display_name()
                        )
                    })?;
                }
            }
        }
        Ok(image
            .layers
            .iter()
            .rev()
            .map(|l| self.layer_dir(l))
            .collect())
    }

    fn unpack(&self, _: &Lock, layer: &Layer, below: &[PathBuf]) -> Result<()> {
        let temporary = self.tmp().join(format!("layer-{}", layer.chain_id.hex()));
        super::store::make_dirs(&temporary.join("diff"))?;
        let result = self.unpack_into(layer, &temporary, below).and_then(|()| {
            let place = self.layers_dir().join(layer.chain_id.hex());
            sys::fs::renameat2(CWD, &temporary, CWD, &place, 0)
                .context("cannot put the layer in place")
        });
        if result.is_err() {
            let _ = remove_tree(&temporary); // the error that led here says more
        }
        result
    }

    /// Unpacks a layer into the directory `place`, checking it against its digests.
    pub(super) fn unpack_into(&self, layer: &Layer, place: &Path, below: &[PathBuf]) -> Result<()> {
        let blob = self.open_blob(&layer.digest)?;
        let decoded = apply::apply_over(blob, MAX_UNPACKED, &place.join("diff"), below)?;
        verify(&decoded, layer)?;
        Extent::write(place, &decoded)
    }

    /// How many bytes the layer is without compression; known once it was unpacked.
    pub fn unpacked_size(&self, layer: &Layer) -> Option<u64> {
        let path = self.layer_dir(layer).with_file_name("layer.json");
        let extent: Extent = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(extent.unpacked)
    }

    /// The size of the image's root file system where all layers were unpacked once, else that of
    /// what would be transferred.
    pub fn size(&self, image: &Image) -> u64 {
        let sizes: Option<Vec<u64>> = image.layers.iter().map(|l| self.unpacked_size(l)).collect();
        sizes.map_or_else(|| image.size(), |s| s.iter().sum())
    }
}

/// The layers of an image, lowest first: manifest and configuration have the same number.
pub fn layers(manifest: &Manifest, config: &ImageConfig) -> Vec<Layer> {
    // Entries of the history that made no layer are marked, so the others stand in order.
    let mut history = config.history.iter().filter(|h| !h.empty_layer);
    manifest
        .layers
        .iter()
        .zip(
            config
                .rootfs
                .diff_ids
                .iter()
                .zip(chain_ids(&config.rootfs.diff_ids)),
        )
        .map(|(blob, (diff_id, chain_id))| Layer {
            digest: blob.digest.clone(),
            size: blob.size,
            media_type: blob.media_type.clone(),
            diff_id: diff_id.clone(),
            chain_id,
            created_by: history.next().and_then(|h| h.created_by.clone()),
        })
        .collect()
}

/// What is written beside an unpacked layer.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Extent {
    diff_id: Digest,
    unpacked: u64,
}

impl Extent {
    pub(super) fn write(place: &Path, decoded: &Decoded) -> Result<()> {
        let extent = Extent {
            diff_id: decoded.diff_id.parse()?,
            unpacked: decoded.unpacked,
        };
        let text = serde_json::to_vec(&extent).context("cannot write a document")?;
        std::fs::write(place.join("layer.json"), text).context("cannot write layer.json")
    }
}

/// Checks what a layer's stream was against what the image says.
pub(super) fn verify(decoded: &Decoded, layer: &Layer) -> Result<()> {
    for (what, is, wanted) in [
        ("digest", &decoded.digest, &layer.digest),
        ("diff id", &decoded.diff_id, &layer.diff_id),
    ] {
        if *is != wanted.to_string() {
            return Err(
                Error::new(format!("the layer's {what} is {is}, not {wanted}"))
                    .hint("the blob was damaged or the image lies about it: nothing of it was kept")
                    .topic("images"),
            );
        }
    }
    Ok(())
}

/// Removes a directory with all that is in it, not following symbolic links and not crossing into
/// mounts. What is gone already is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    let what = || format!("cannot remove {}", path.display());
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(what),
        Ok(meta) if !meta.is_dir() => return std::fs::remove_file(path).with_context(what),
        Ok(_) => {}
    }
    // A directory of a layer may lack its owner's write bit.
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            open_up(path);
            std::fs::remove_dir_all(path).with_context(what)
        }
        other => other.with_context(what),
    }
}

/// Gives the owner all rights over every directory below `path`.
fn open_up(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}
