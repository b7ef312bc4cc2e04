//! Bringing an image in: everything is written, checked and unpacked out of sight, then appears at
//! once.
//!
//! What it does: blobs and unpacked layers are made in a directory of tmp/ that belongs to one
//! process. Each is checked against its digest, size and diff id while it streams. Only
//! [`Staging::commit`] moves them into the store, under the store's lock, blobs before the index
//! entry that names them. Whoever is killed before leaves a directory that nothing looks at; the
//! next writer removes it, since the lock in it is free (a pull first takes from it what it can
//! use). Whoever is killed in the middle of the moves leaves whole, verified blobs that no image
//! names, which `prune` removes.
//!
//! ```text
//!   ROOT/tmp/stage-PID-N/lock          held as long as the process lives
//!                       /blobs/HEX
//!                       /layers/HEX/diff
//! ```
//!
//! What it implements: image-spec "Image Layout"; flock(2). Interface: [`Store::stage`],
//! [`Staging`]. Read next: `load.rs`.

use super::reference::Reference;
use super::store::{Image, Layer, Lock, Store, descriptor, make_dirs};
use super::unpack::{Extent, remove_tree};
use crate::error::{Context, Error, Result};
use crate::layers::apply;
use crate::layers::compression::Decoded;
use crate::spec::digest::{Algorithm, Digest, chain_ids};
use crate::spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use crate::sys::{self, fs::CWD};
use serde::Serialize;
use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What is being brought in.
#[derive(Debug)]
pub struct Staging<'a> {
    store: &'a Store,
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Begins to bring something in.
    pub fn stage(&self) -> Result<Staging<'_>> {
        self.stage_locked(&self.lock()?)
    }

    /// The same by whoever has the store's lock: it cleans tmp/ when it is taken, and this
    /// directory is only protected once its own lock is held.
    pub(super) fn stage_locked(&self, _: &Lock) -> Result<Staging<'_>> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = self
            .tmp()
            .join(format!("stage-{}-{number}", std::process::id()));
        make_dirs(&directory.join("blobs"))?;
        make_dirs(&directory.join("layers"))?;
        let lock = File::create(directory.join("lock")).context("cannot make a lock")?;
        lock.lock().context("cannot lock what is being written")?;
        Ok(Staging {
            store: self,
            directory,
            _lock: lock,
        })
    }

    /// Removes what others left in tmp/ when they were killed.
    pub(super) fn clean(&self, _: &Lock) {
        for entry in std::fs::read_dir(self.tmp())
            .into_iter()
            .flatten()
            .flatten()
        {
            if !is_in_use(&entry.path()) {
                let _ = remove_tree(&entry.path()); // it is only in the way
            }
        }
    }
}

/// Whether a directory of tmp/ belongs to a process that lives.
pub(super) fn is_in_use(directory: &Path) -> bool {
    File::open(directory.join("lock"))
        .is_ok_and(|f| matches!(f.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let _ = remove_tree(&self.directory); // if it stays, the next writer removes it
    }
}

impl Staging<'_> {
    /// A new file's place for parts that are no blobs yet.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.hex())
    }

    /// Opens a blob that was put here or is in the store.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        match File::open(self.blob(digest)) {
            Ok(file) => Ok(file),
            Err(_) => self.store.open_blob(digest),
        }
    }

    /// Takes a stream in, hashing it on the way. With `expected`, other content is refused.
    pub fn put_stream(
        &self,
        media_type: &str,
        mut input: impl Read,
        expected: Option<&Descriptor>,
    ) -> Result<Descriptor> {
        let name = format!("part-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let temporary = self.scratch(&name);
        let what = || format!("cannot write {}", temporary.display());
        let algorithm = expected.map_or(Algorithm::Sha256, |e| e.digest.algorithm());
        if algorithm != Algorithm::Sha256 {
            return Err(Error::new(
                "blobs named by sha512 are not kept by this store",
            ));
        }
        let mut file = File::create(&temporary).with_context(what)?;
        let (mut hash, mut size, mut buffer) = (sha2::Sha256::new(), 0u64, vec![0u8; 256 * 1024]);
        loop {
            let n = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e).context("cannot read the blob"),
            };
            size += n as u64;
            if let Some(e) = expected
                && size > e.size
            {
                return Err(wrong(e, format!("it is longer than {} bytes", e.size)));
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).with_context(what)?;
        }
        let digest = Digest::from_hash(Algorithm::Sha256, &hash.finalize());
        if let Some(e) = expected {
            if size != e.size {
                return Err(wrong(
                    e,
                    format!("it has {size} bytes in place of {}", e.size),
                ));
            }
            if digest != e.digest {
                return Err(wrong(e, format!("its digest is {digest}")));
            }
        }
        file.sync_all().with_context(what)?;
        sys::fs::renameat2(CWD, &temporary, CWD, self.blob(&digest), 0).with_context(what)?;
        Ok(descriptor(media_type, digest, size))
    }

    /// Takes a document in.
    pub fn put_json(&self, media_type: &str, document: &impl Serialize) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(document).context("cannot write a document")?;
        self.put_stream(media_type, &bytes[..], None)
    }

    /// Unpacks a layer, checking digest and diff id on the way. What the store has unpacked
    /// already is left alone, after the blob itself was checked by [`Staging::put_stream`].
    /// `below` are the layers under it, top first.
    pub fn unpack(&self, layer: &Layer, below: &[PathBuf]) -> Result<()> {
        let done = self.directory.join("layers").join(layer.chain_id.hex());
        if self.store.layer_dir(layer).is_dir() || done.is_dir() {
            return Ok(());
        }
        let temporary = self.scratch("unpacking");
        remove_tree(&temporary)?;
        make_dirs(&temporary.join("diff"))?;
        let decoded = self.unpack_blob(&layer.digest, &temporary.join("diff"), below)?;
        super::unpack::verify(&decoded, layer)?;
        Extent::write(&temporary, &decoded)?;
        sys::fs::renameat2(CWD, &temporary, CWD, &done, 0).context("cannot put the layer in place")
    }

    /// Unpacks a layer whose diff id is not known yet, and returns it as the first of a chain.
    pub fn unpack_first(&self, blob: &Descriptor) -> Result<Layer> {
        let temporary = self.scratch("unpacking");
        remove_tree(&temporary)?;
        make_dirs(&temporary.join("diff"))?;
        let decoded = self.unpack_blob(&blob.digest, &temporary.join("diff"), &[])?;
        Extent::write(&temporary, &decoded)?;
        let diff_id: Digest = decoded.diff_id.parse()?;
        let done = self.directory.join("layers").join(diff_id.hex());
        sys::fs::renameat2(CWD, &temporary, CWD, &done, 0)
            .context("cannot put the layer in place")?;
        Ok(Layer {
            digest: blob.digest.clone(),
            size: blob.size,
            media_type: blob.media_type.clone(),
            chain_id: diff_id.clone(),
            diff_id,
            created_by: None,
        })
    }

    fn unpack_blob(&self, digest: &Digest, to: &Path, below: &[PathBuf]) -> Result<Decoded> {
        let blob = self.open_blob(digest)?;
        apply::apply_over(blob, super::unpack::MAX_UNPACKED, to, below)
    }

    /// Where a layer is put that is unpacked here.
    pub(super) fn layer_place(&self, layer: &Layer) -> PathBuf {
        self.directory.join("layers").join(layer.chain_id.hex())
    }

    /// Where a layer is that was unpacked here or in the store before.
    pub(super) fn unpacked(&self, layer: &Layer) -> PathBuf {
        let here = self.layer_place(layer);
        match here.is_dir() {
            true => here.join("diff"),
            false => self.store.layer_dir(layer),
        }
    }

    /// Unpacks all layers of an image whose manifest and configuration are known, telling `report`
    /// about each. Errors: they contradict each other, or a layer is not what they say.
    pub fn unpack_all(
        &self,
        manifest: &Manifest,
        config: &ImageConfig,
        report: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let ids = &config.rootfs.diff_ids;
        if ids.len() != manifest.layers.len() {
            return Err(Error::new(format!(
                "the manifest has {} layers, but the configuration has {} diff ids",
                manifest.layers.len(),
                ids.len()
            ))
            .topic("images"));
        }
        let count = ids.len();
        let chains = chain_ids(ids);
        let mut below = Vec::new();
        for (i, (blob, chain_id)) in manifest.layers.iter().zip(chains).enumerate() {
            report(&format!(
                "unpacking layer {} of {count}: {}",
                i + 1,
                blob.digest.short()
            ));
            let layer = Layer {
                digest: blob.digest.clone(),
                size: blob.size,
                media_type: blob.media_type.clone(),
                diff_id: ids[i].clone(),
                chain_id,
                created_by: None,
            };
            self.unpack(&layer, &below).with_context(|| {
                format!(
                    "cannot unpack layer {} of {count}, {}",
                    i + 1,
                    blob.digest.short()
                )
            })?;
            below.insert(0, self.unpacked(&layer));
        }
        Ok(())
    }

    /// Makes it all visible: moves blobs and layers into the store, then names the image.
    pub fn commit(self, manifest: &Descriptor, names: &[Reference]) -> Result<Image> {
        let mut images = self.commit_many(&[(manifest.clone(), names.to_vec())])?;
        images.pop().context("the image is not in the store")
    }

    /// The same for several images, in this order.
    pub fn commit_many(self, images: &[(Descriptor, Vec<Reference>)]) -> Result<Vec<Image>> {
        let lock = self.store.lock()?;
        for (from, to) in [
            ("blobs", self.store.oci().join("blobs/sha256")),
            ("layers", self.store.layers_dir()),
        ] {
            let from = self.directory.join(from);
            let entries = std::fs::read_dir(&from)
                .with_context(|| format!("cannot read {}", from.display()))?;
            for entry in entries {
                let entry = entry.context("cannot list what was written")?;
                let place = to.join(entry.file_name());
                // A layer that is there may be in use, and has the same content. A blob is just
                // checked, which heals a damaged one.
                if !place.is_dir() {
                    sys::fs::renameat2(CWD, entry.path(), CWD, &place, 0)
                        .with_context(|| format!("cannot put {} in place", place.display()))?;
                }
            }
        }
        for (manifest, names) in images {
            self.store.check_whole(manifest)?;
            self.store.add(&lock, manifest, names)?;
        }
        drop(lock);
        images
            .iter()
            .map(|(manifest, _)| self.store.resolve(&manifest.digest.to_string()))
            .collect()
    }

    /// Makes an image of one layer out of a tar, compressed or not: `import`.
    pub fn commit_single(
        self,
        input: impl Read,
        mut config: ImageConfig,
        names: &[Reference],
    ) -> Result<Image> {
        let blob = self.put_stream(media_type::LAYER, input, None)?;
        let mut start = [0u8; 6];
        let n = self.open_blob(&blob.digest)?.read(&mut start).unwrap_or(0);
        let kind = crate::layers::compression::Compression::detect(&start[..n]);
        let blob = descriptor(kind.media_type(), blob.digest, blob.size);
        let layer = self
            .unpack_first(&blob)
            .context("cannot unpack the archive")?;
        config.rootfs.typ = "layers".into();
        config.rootfs.diff_ids = vec![layer.diff_id];
        let config = self.put_json(media_type::CONFIG, &config)?;
        let manifest = self.put_json(media_type::MANIFEST, &Manifest::new(config, vec![blob]))?;
        self.commit(&manifest, names)
    }
}

pub(super) fn wrong(expected: &Descriptor, how: String) -> Error {
    Error::new(format!(
        "the blob {} is not what its descriptor says: {how}",
        expected.digest.short()
    ))
    .hint("the transfer was damaged, or the image lies about it: nothing of it was kept")
    .topic("images")
}
