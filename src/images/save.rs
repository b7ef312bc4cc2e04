//! `image save`: images as an OCI image layout, in a tar or a directory, with docker's documents
//! beside it where wanted.
//!
//! What it does: writes the blobs of the chosen images, each once, checked against its digest on
//! the way, then the documents that name them. The bytes are the same for the same images: entries
//! sorted, times zero.
//!
//! What it implements: image-spec "Image Layout"; docker's `manifest.json` as docker save has
//! written it since version 25. Interface: [`save`], [`save_directory`], [`Format`].
//! Read next: `fsck.rs`.

use super::load::{CONTAINERD_NAME, DockerEntry};
use super::reference::Reference;
use super::store::{Image, Store};
use crate::error::{Context, Error, Result};
use crate::spec::digest::Digest;
use crate::spec::image::{Index, Manifest, REF_NAME};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

/// Which documents the archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An OCI image layout and docker's manifest.json: every tool reads it.
    #[default]
    Docker,
    /// An OCI image layout alone.
    Oci,
}

/// Where the archive goes: a tar or a directory.
trait Sink {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()>;
}

struct TarSink<W: Write>(tar::Builder<W>);

impl<W: Write> Sink for TarSink<W> {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.0
            .append_data(&mut header, path, content)
            .with_context(|| format!("cannot write {path}"))
    }
}

struct DirectorySink<'a>(&'a Path);

impl Sink for DirectorySink<'_> {
    fn file(&mut self, path: &str, _: u64, content: &mut dyn Read) -> Result<()> {
        let place = self.0.join(path);
        let what = || format!("cannot write {}", place.display());
        std::fs::create_dir_all(place.parent().unwrap_or(self.0)).with_context(what)?;
        let mut file = std::fs::File::create(&place).with_context(what)?;
        std::io::copy(content, &mut file).with_context(what)?;
        file.sync_all().with_context(what)
    }
}

/// An image to save, with the names under which it is saved.
pub type Chosen = (Image, Vec<Reference>);

/// Writes a tar of these images. Errors: a blob is missing or damaged; the output.
pub fn save(store: &Store, images: &[Chosen], format: Format, out: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.sparse(false);
    let mut sink = TarSink(builder);
    write(store, images, format, &mut sink)?;
    let mut out = sink.0.into_inner().context("cannot end the archive")?;
    out.flush().context("cannot write the archive")
}

/// Writes an image layout into a directory that exists and is empty.
pub fn save_directory(
    store: &Store,
    images: &[Chosen],
    format: Format,
    directory: &Path,
) -> Result<()> {
    write(store, images, format, &mut DirectorySink(directory))
}

fn write(store: &Store, images: &[Chosen], format: Format, sink: &mut dyn Sink) -> Result<()> {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut index = Index::new(Vec::new());
    let mut docker = Vec::new();
    for (image, names) in images {
        let manifest: Manifest = store.read_json(&image.manifest.digest)?;
        let parts = [&image.manifest, &manifest.config];
        for blob in parts.into_iter().chain(&manifest.layers) {
            blobs.insert(blob.digest.clone(), blob.size);
        }
        let mut entry = image.manifest.clone();
        entry.annotations.clear();
        for name in names {
            let tag = name.tag.clone().unwrap_or_else(|| "latest".into());
            entry.annotations = [
                (CONTAINERD_NAME.to_string(), name.to_string()),
                (REF_NAME.to_string(), tag),
            ]
            .into();
            index.manifests.push(entry.clone());
        }
        if names.is_empty() {
            index.manifests.push(entry);
        }
        let path = |d: &Digest| format!("blobs/sha256/{}", d.hex());
        docker.push(DockerEntry {
            config: path(&manifest.config.digest),
            repo_tags: names.iter().map(Reference::familiar).collect(),
            layers: manifest.layers.iter().map(|l| path(&l.digest)).collect(),
        });
    }
    for (digest, size) in &blobs {
        let file = store.open_blob(digest)?;
        let mut checked = Checked {
            input: file.take(*size),
            hash: sha2::Sha256::new(),
            size: 0,
        };
        sink.file(
            &format!("blobs/sha256/{}", digest.hex()),
            *size,
            &mut checked,
        )?;
        let is = Digest::from_hash(digest.algorithm(), &checked.hash.finalize());
        if is != *digest || checked.size != *size {
            return Err(
                Error::new(format!("the blob {digest} is damaged in the store"))
                    .hint("`glassbox image fsck` checks the whole store"),
            );
        }
    }
    let mut document =
        |path: &str, bytes: Vec<u8>| sink.file(path, bytes.len() as u64, &mut &bytes[..]);
    let json = "cannot write a document";
    document("index.json", serde_json::to_vec(&index).context(json)?)?;
    if format == Format::Docker {
        document("manifest.json", serde_json::to_vec(&docker).context(json)?)?;
    }
    document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())
}

struct Checked<R> {
    input: R,
    hash: sha2::Sha256,
    size: u64,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.hash.update(&buffer[..n]);
        self.size += n as u64;
        Ok(n)
    }
}
