//! Layers that come over a network, several at once.
//!
//! What it does: a layer's bytes are written, hashed, decompressed, hashed again and unpacked in
//! one pass, while other layers do the same beside it. What a layer takes from those below it, the
//! attributes of directories that it only passes through, is given to it when all are there
//! ([`Staging::settle`]). As with everything in a staging directory, nobody sees any of it before
//! the commit. What came before a pull was killed, the next one goes on with.
//!
//! What it implements: image-spec "Layer", "DiffID". Interface: [`Staging::receive`],
//! [`Staging::unpack_apart`], [`Staging::settle`], [`super::Store::stage_again`]. Read next: `staging.rs`.

use super::staging::{Staging, is_in_use, wrong};
use super::store::{Layer, descriptor, make_dirs};
use super::unpack::{Extent, remove_tree, verify};
use crate::error::{Context, Error, Kind, Result};
use crate::layers::apply::{self, Inherited};
use crate::layers::compression::{self, Decoded};
use crate::spec::digest::{Algorithm, Digest};
use crate::spec::image::{Descriptor, Manifest};
use crate::sys::{self, fs::CWD};
use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Before the digest in the name of a blob's file, until all of it is there.
const RECEIVING: &str = "receiving-";

/// A layer that came.
#[derive(Debug)]
pub struct Received {
    chain_id: Digest,
    inherited: Option<Inherited>,
    /// The size of the tar.
    pub unpacked: u64,
    /// Device nodes and attributes that this user may not make, left out.
    pub left_out: apply::LeftOut,
}

/// What is read through it is written to a file.
struct Tee<R> {
    input: R,
    file: File,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.file.write_all(&buffer[..n])?;
        Ok(n)
    }
}

impl super::Store {
    /// Begins to bring something in, and takes over the blobs, whole or in part, of those that were
    /// killed while they did: [`Staging::kept`].
    pub fn stage_again(&self) -> Result<Staging<'_>> {
        let lock = self.lock_only()?;
        let staging = self.stage_locked(&lock)?;
        let places = std::fs::read_dir(self.tmp()).into_iter().flatten();
        for place in places.flatten().map(|entry| entry.path()) {
            if is_in_use(&place) {
                continue;
            }
            for directory in [place.join("blobs"), place.join("kept"), place] {
                staging.keep(&directory)?;
            }
        }
        self.clean(&lock);
        Ok(staging)
    }
}

impl Staging<'_> {
    /// Takes over the blobs in a directory of somebody who was killed.
    fn keep(&self, directory: &Path) -> Result<()> {
        let kept = self.scratch("kept");
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let hex = name.strip_prefix(RECEIVING).unwrap_or(&name);
            let is_blob = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
            if is_blob && entry.file_type().is_ok_and(|t| t.is_file()) {
                make_dirs(&kept)?;
                sys::fs::renameat2(CWD, entry.path(), CWD, kept.join(hex), 0)
                    .context("cannot take over what another pull had received")?;
            }
        }
        Ok(())
    }

    /// The first bytes of a layer's blob that somebody who was killed had received, and how many
    /// they are. They are given out once. Whether they are right shows the digest of the whole.
    pub fn kept(&self, layer: &Layer) -> Option<(File, u64)> {
        let path = self.scratch("kept").join(layer.digest.hex());
        let file = File::open(&path).ok()?;
        let _ = std::fs::remove_file(&path); // it goes with the directory otherwise
        let size = file.metadata().ok()?.len();
        (1..=layer.size).contains(&size).then_some((file, size))
    }

    /// Takes a layer's blob in, and unpacks it unless that was done before. A layer of more than
    /// `limit` bytes is refused. Errors: it is not what its digest and diff id say.
    pub fn receive(&self, layer: &Layer, input: impl Read + Send, limit: u64) -> Result<Received> {
        let part = self.scratch(&format!("{RECEIVING}{}", layer.digest.hex()));
        let what = || format!("cannot write {}", part.display());
        if layer.digest.algorithm() != Algorithm::Sha256 {
            return Err(Error::kind(
                Kind::Unsupported,
                "blobs named by sha512 are not kept by this store",
            ));
        }
        let file = File::create(&part).with_context(what)?;
        let mut tee = Tee {
            input,
            file: file.try_clone().with_context(what)?,
        };
        let received = self
            .decode(layer, &mut tee, limit)
            .map_err(|e| explained(&part, layer, e))?;
        file.sync_all().with_context(what)?;
        sys::fs::renameat2(CWD, &part, CWD, self.blob(&layer.digest), 0).with_context(what)?;
        Ok(received)
    }

    /// Unpacks a layer whose blob is here already, unless that was done before.
    pub fn unpack_apart(&self, layer: &Layer, limit: u64) -> Result<Received> {
        self.decode(layer, &mut self.open_blob(&layer.digest)?, limit)
    }

    /// Whether a layer lies unpacked, here or in the store.
    pub fn is_unpacked(&self, layer: &Layer) -> bool {
        self.unpacked(layer).is_dir()
    }

    fn decode(
        &self,
        layer: &Layer,
        input: &mut (impl Read + Send),
        limit: u64,
    ) -> Result<Received> {
        let mut received = Received {
            chain_id: layer.chain_id.clone(),
            inherited: None,
            unpacked: 0,
            left_out: apply::LeftOut::default(),
        };
        let decoded: Decoded;
        if self.is_unpacked(layer) {
            // Read all the same: the blob must be what it is called.
            decoded = compression::decode(input, limit, |_| Ok(()))?.1;
            verify(&decoded, layer)?;
        } else {
            let place = self.scratch(&format!("unpacking-{}", layer.chain_id.hex()));
            remove_tree(&place)?; // of an attempt that failed
            make_dirs(&place.join("diff"))?;
            let (inherited, left_out, all) = apply::apply_apart(input, limit, &place.join("diff"))?;
            verify(&all, layer)?;
            decoded = all;
            Extent::write(&place, &decoded)?;
            let done = self.layer_place(layer);
            match sys::fs::renameat2(CWD, &place, CWD, &done, 0) {
                // The same layer over the same layers, twice: one is enough.
                Err(e) if matches!(e.errno, sys::Errno::EEXIST | sys::Errno::ENOTEMPTY) => {
                    remove_tree(&place)?
                }
                other => other.context("cannot put the layer in place")?,
            }
            received.inherited = Some(inherited);
            received.left_out = left_out;
        }
        received.unpacked = decoded.unpacked;
        Ok(received)
    }

    /// Gives the layers that were unpacked apart what they have from those below. `layers` are all
    /// of an image, lowest first.
    pub fn settle(&self, layers: &[Layer], received: &[Received]) -> Result<()> {
        let mut below: Vec<PathBuf> = Vec::new();
        for layer in layers {
            let directory = self.unpacked(layer);
            let apart = received.iter().filter(|r| r.chain_id == layer.chain_id);
            for inherited in apart.filter_map(|r| r.inherited.as_ref()) {
                apply::inherit_from(&directory, inherited, &below)
                    .with_context(|| format!("cannot finish the layer {}", layer.digest.short()))?;
            }
            below.insert(0, directory);
        }
        Ok(())
    }
}

/// A stream that cannot be decompressed may be right in itself or another one altogether: that is
/// the better reason.
fn explained(part: &Path, layer: &Layer, error: Error) -> Error {
    let hash = || -> std::io::Result<Option<Digest>> {
        let mut file = File::open(part)?;
        if file.metadata()?.len() != layer.size {
            return Ok(None);
        }
        let (mut hash, mut buffer) = (sha2::Sha256::new(), vec![0; 256 * 1024]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Some(Digest::from_hash(Algorithm::Sha256, &hash.finalize()))),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    match hash() {
        Ok(Some(digest)) if digest != layer.digest => {
            let blob = descriptor(&layer.media_type, layer.digest.clone(), layer.size);
            wrong(&blob, format!("its digest is {digest}")).caused_by(error)
        }
        _ => error,
    }
}

impl super::Store {
    /// Whether all blobs of a manifest are there. What was there when a transfer began may have
    /// been pruned meanwhile: then its image must not appear. The caller holds the lock.
    pub(super) fn check_whole(&self, manifest: &Descriptor) -> Result<()> {
        let document: Manifest = self.read_json(&manifest.digest)?;
        for blob in document.layers.iter().chain([&document.config]) {
            if !self.has_blob(&blob.digest) {
                return Err(Error::new(format!(
                    "the blob {} was removed meanwhile",
                    blob.digest.short()
                ))
                .hint("another command pruned the store; try again"));
            }
        }
        Ok(())
    }
}
