//! The image store: a valid OCI image layout on disk, and the unpacked layers beside it.
//!
//! What it does: keeps blobs by their digest, finds images by name or id, and gives the
//! directories that an overlay is made of. Other tools read it (`skopeo inspect
//! oci:ROOT/oci:NAME`).
//!
//! ```text
//!   ROOT/oci/oci-layout            the version of the layout
//!   ROOT/oci/index.json            the images: descriptors of manifests, named by an annotation
//!   ROOT/oci/blobs/sha256/HEX      manifests, configurations, layers
//!   ROOT/layers/HEX/diff           a layer unpacked, by the chain id of it and all below it
//!   ROOT/tmp/                      what is being written; nothing here is ever looked at
//!   ROOT/images.lock               held by whoever changes any of this
//! ```
//!
//! Everything becomes visible by a rename, blobs before what names them: a process that is killed
//! leaves at most a file in tmp/, which the next writer removes.
//!
//! What it implements: image-spec "Image Layout", "Image Index", "Image Manifest", "Layer" (chain
//! ids). Interface: [`Store`], [`Image`]. Read next: `unpack.rs`.

use super::REPO_DIGEST;
use super::reference::Reference;
use crate::error::{Context, Error, Kind, Result};
use crate::spec::digest::Digest;
use crate::spec::image::{
    Descriptor, ImageConfig, Index, Manifest, Platform, REF_NAME, media_type,
};
use crate::sys::{self, fs::CWD};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Digest as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// JSON documents above this size are refused: a manifest is read into memory.
const MAX_DOCUMENT: u64 = 16 << 20;

/// The store of one root.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The blob, as it is transferred.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// Its media type, which says how it is compressed.
    pub media_type: String,
    /// The digest of the tar inside.
    pub diff_id: Digest,
    /// What it and all layers below it are called together.
    pub chain_id: Digest,
    /// The command that made it, from the history.
    pub created_by: Option<String>,
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of the configuration: docker's image id.
    pub id: Digest,
    /// The manifest.
    pub manifest: Descriptor,
    /// All its names, sorted; none for a dangling image.
    pub names: Vec<Reference>,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// The id's first twelve digits.
    pub fn short_id(&self) -> &str {
        self.id.short()
    }
    /// The compressed size of all layers.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|l| l.size).sum()
    }
    /// What to call it in messages: a name, or else the short id.
    pub fn display_name(&self) -> String {
        self.names
            .first()
            .map_or_else(|| self.short_id().to_string(), Reference::familiar)
    }
}

/// Held while the store is changed; released when dropped, also by a kill.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

impl Store {
    /// Opens the store below `root`, making it when it is not there.
    pub fn open(root: &Path) -> Result<Store> {
        let store = Store {
            root: root.to_path_buf(),
        };
        if store.oci().join("oci-layout").exists() {
            return Ok(store);
        }
        for directory in [store.blobs(), store.layers_dir(), store.tmp()] {
            make_dirs(&directory)?;
        }
        let lock = store.lock()?;
        if !store.oci().join("index.json").exists() {
            store.write_atomically(
                &store.oci().join("index.json"),
                &to_json(&Index::new(vec![]))?,
            )?;
        }
        store.write_layout(&lock)?;
        Ok(store)
    }

    /// Writes the file that says that this is an image layout.
    pub(super) fn write_layout(&self, _: &Lock) -> Result<()> {
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        self.write_atomically(&self.oci().join("oci-layout"), layout)
    }

    /// The OCI image layout.
    pub fn oci(&self) -> PathBuf {
        self.root.join("oci")
    }
    /// Where layers are unpacked.
    pub fn layers_dir(&self) -> PathBuf {
        self.root.join("layers")
    }
    /// The root that the store was opened with.
    pub fn root(&self) -> &Path {
        &self.root
    }
    fn blobs(&self) -> PathBuf {
        self.oci().join("blobs/sha256")
    }
    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Takes the lock that every change needs, waiting for whoever has it. With the lock comes the
    /// duty of cleaning up: what others left in tmp/ when they were killed is removed.
    pub fn lock(&self) -> Result<Lock> {
        let lock = self.lock_only()?;
        self.clean(&lock);
        Ok(lock)
    }

    /// The lock without that duty, which the caller does.
    pub(super) fn lock_only(&self) -> Result<Lock> {
        let path = self.root.join("images.lock");
        let file = sys::fs::open(&path, libc::O_CREAT | libc::O_RDWR, 0o600)
            .map(File::from)
            .with_context(|| format!("cannot open the lock {}", path.display()))?;
        file.lock().context("cannot lock the image store")?;
        Ok(Lock(file))
    }

    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let what = || format!("cannot write {}", path.display());
        let temporary = self.tmp().join(format!("file-{}", std::process::id()));
        let mut file = File::create(&temporary).with_context(what)?;
        file.write_all(bytes).with_context(what)?;
        // The rename may reach the disk before the content does: then a power cut would leave an
        // empty index.
        file.sync_all().with_context(what)?;
        sys::fs::renameat2(CWD, &temporary, CWD, path, 0).with_context(what)
    }

    /// The file of a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.oci()
            .join("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Opens a blob for reading. Errors: it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.blob_path(digest))
            .with_context(|| format!("the blob {digest} is not in the store"))
            .map_err(|e| {
                e.with_kind(Kind::NotFound)
                    .hint("`glassbox image fsck` checks the whole store")
            })
    }

    /// Reads a JSON document, checking that it is what its digest says. Errors: it is not there, it
    /// was changed on disk, or it is no such document.
    pub fn read_json<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read the blob {digest}"))?;
        if !digest.matches(&bytes) {
            return Err(Error::new(format!(
                "the blob {digest} has other content than its digest says"
            ))
            .hint("`glassbox image fsck` checks the whole store"));
        }
        serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand the blob {digest}"))
    }

    /// Puts bytes into the store. The caller holds the lock.
    pub fn put_bytes(&self, _: &Lock, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::sha256(bytes);
        if !self.has_blob(&digest) {
            self.write_atomically(&self.blob_path(&digest), bytes)?;
        }
        Ok(descriptor(media_type, digest, bytes.len() as u64))
    }

    /// Puts a document into the store.
    pub fn put_json(
        &self,
        lock: &Lock,
        media_type: &str,
        document: &impl Serialize,
    ) -> Result<Descriptor> {
        self.put_bytes(lock, media_type, &to_json(document)?)
    }

    /// Puts a stream into the store, hashing it on the way. With `expected`, other content is
    /// refused, and nothing of it becomes visible.
    pub fn put_stream(
        &self,
        lock: &Lock,
        media_type: &str,
        mut input: impl Read,
        expected: Option<(&Digest, u64)>,
    ) -> Result<Descriptor> {
        let _ = lock;
        let temporary = self.tmp().join(format!("blob-{}", std::process::id()));
        let what = || format!("cannot write {}", temporary.display());
        let mut file = File::create(&temporary).with_context(what)?;
        let (mut hash, mut size, mut buffer) = (sha2::Sha256::new(), 0u64, vec![0u8; 256 * 1024]);
        loop {
            let n = input.read(&mut buffer).context("cannot read the blob")?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if expected.is_some_and(|(_, limit)| size > limit) {
                let _ = std::fs::remove_file(&temporary);
                return Err(Error::new("the blob is longer than its descriptor says"));
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).with_context(what)?;
        }
        let digest = Digest::from_hash(crate::spec::digest::Algorithm::Sha256, &hash.finalize());
        if let Some((wanted, wanted_size)) = expected
            && (wanted, wanted_size) != (&digest, size)
        {
            let _ = std::fs::remove_file(&temporary);
            return Err(Error::new(format!(
                "the blob is not what its descriptor says: {digest}, {size} bytes, in place of {wanted}, {wanted_size} bytes"
            )));
        }
        file.sync_all().with_context(what)?;
        sys::fs::renameat2(CWD, &temporary, CWD, self.blob_path(&digest), 0).with_context(what)?;
        Ok(descriptor(media_type, digest, size))
    }

    /// The index as it is now.
    pub fn index(&self) -> Result<Index> {
        let path = self.oci().join("index.json");
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        let index = bytes.and_then(|bytes| {
            serde_json::from_slice(&bytes)
                .with_context(|| format!("cannot understand {}", path.display()))
        });
        index.map_err(|e| e.hint("`glassbox image fsck --repair` makes it anew out of the blobs"))
    }

    pub(super) fn write_index(&self, _: &Lock, index: &Index) -> Result<()> {
        self.write_atomically(&self.oci().join("index.json"), &to_json(index)?)
    }

    /// All images, those with names first, sorted by name; each once, with all its names. One that
    /// cannot be read is left out here; `fsck` tells.
    pub fn list(&self) -> Result<Vec<Image>> {
        let index = self.index()?;
        let mut images: Vec<Image> = Vec::new();
        for entry in &index.manifests {
            let name = name_of(entry);
            if let Some(known) = images
                .iter_mut()
                .find(|i| i.manifest.digest == entry.digest)
            {
                known.names.extend(name);
                known.names.sort();
                continue;
            }
            if let Ok(mut image) = self.read_image(entry) {
                image.names = name.into_iter().collect();
                images.push(image);
            }
        }
        images.sort_by(|a, b| (a.names.is_empty(), &a.names).cmp(&(b.names.is_empty(), &b.names)));
        Ok(images)
    }

    fn read_image(&self, entry: &Descriptor) -> Result<Image> {
        let entry = self.choose_platform(entry)?;
        let manifest: Manifest = self.read_json(&entry.digest)?;
        let config: ImageConfig = self.read_json(&manifest.config.digest)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(Error::new(format!(
                "the image {} has {} layers but {} diff ids",
                manifest.config.digest.short(),
                manifest.layers.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let layers = super::unpack::layers(&manifest, &config);
        Ok(Image {
            id: manifest.config.digest.clone(),
            manifest: entry,
            names: vec![],
            config,
            layers,
        })
    }

    /// Follows indexes down to the manifest for this host. Errors: none fits; says what there is.
    fn choose_platform(&self, entry: &Descriptor) -> Result<Descriptor> {
        let mut entry = entry.clone();
        let host = Platform::host();
        for _ in 0..4 {
            if !media_type::is_index(&entry.media_type) {
                return Ok(entry);
            }
            let index: Index = self.read_json(&entry.digest)?;
            let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.runs_on(&host));
            entry = index.manifests.iter().find(fits).cloned().ok_or_else(|| {
                let all: Vec<String> = index
                    .manifests
                    .iter()
                    .filter_map(|d| d.platform.as_ref())
                    .map(|p| format!("{}/{}", p.os, p.architecture))
                    .collect();
                Error::kind(Kind::NotFound, "the image has no manifest for this machine")
                    .hint(format!("it is there for {}", all.join(", ")))
            })?;
        }
        Err(Error::new(
            "an image index inside an index inside an index: no image is made like that",
        ))
    }

    /// Finds an image by name, full id, or the beginning of an id. Errors: there is none, or the
    /// beginning fits several.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let index = self.index()?;
        let reference = name.parse::<Reference>();
        let with_names = |entry: &Descriptor| -> Result<Image> {
            let mut image = self.read_image(entry)?;
            let same = index.manifests.iter().filter(|d| d.digest == entry.digest);
            image.names = same.filter_map(name_of).collect();
            image.names.sort();
            Ok(image)
        };
        if let Ok(reference) = &reference {
            let by_name = |d: &&Descriptor| match &reference.digest {
                Some(digest) => d.digest.to_string() == *digest || repo_digest(d) == Some(digest),
                None => name_of(d).as_ref() == Some(reference),
            };
            if let Some(entry) = index.manifests.iter().find(by_name) {
                return with_names(entry);
            }
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if !prefix.is_empty() && prefix.chars().all(|c| c.is_ascii_hexdigit()) {
            let mut found: Vec<Image> = self.list()?;
            found.retain(|i| {
                i.id.hex().starts_with(prefix) || i.manifest.digest.hex().starts_with(prefix)
            });
            match found.len() {
                0 => {}
                1 => return Ok(found.remove(0)),
                n => {
                    return Err(Error::kind(
                        Kind::Usage,
                        format!("the id {prefix} begins {n} images"),
                    )
                    .hint("write more of its digits"));
                }
            }
        }
        reference?;
        Err(Error::kind(Kind::NotFound, format!("No such image: {name}")).hint(
            "`glassbox pull` brings it from a registry, `glassbox image load` from a file; `lab` is always there",
        ))
    }

    /// Makes an image visible under names (none: dangling). A name that another image had moves.
    /// All its blobs are in the store already.
    pub fn add(&self, lock: &Lock, manifest: &Descriptor, names: &[Reference]) -> Result<()> {
        let mut index = self.index()?;
        for name in names {
            let text = name.to_string();
            // The image that loses its last name stays, without one.
            let holders: Vec<Descriptor> = index
                .manifests
                .iter()
                .filter(|d| name_of(d).as_ref() == Some(name))
                .cloned()
                .collect();
            index
                .manifests
                .retain(|d| name_of(d).as_ref() != Some(name));
            for mut old in holders {
                let kept = index.manifests.iter().any(|d| d.digest == old.digest);
                if !kept && old.digest != manifest.digest {
                    old.annotations.remove(REF_NAME);
                    index.manifests.push(old);
                }
            }
            let mut entry = manifest.clone();
            entry.annotations.insert(REF_NAME.into(), text);
            index.manifests.push(entry);
        }
        let named = index
            .manifests
            .iter()
            .any(|d| d.digest == manifest.digest && name_of(d).is_some());
        if named {
            index
                .manifests
                .retain(|d| d.digest != manifest.digest || name_of(d).is_some());
        } else if !index.manifests.iter().any(|d| d.digest == manifest.digest) {
            let mut entry = manifest.clone();
            entry.annotations.remove(REF_NAME);
            index.manifests.push(entry);
        }
        self.write_index(lock, &index)
    }

    /// Takes a name away, or with `None` the image with all its names. Blobs stay until
    /// [`Store::collect`].
    pub fn remove(&self, lock: &Lock, image: &Image, name: Option<&Reference>) -> Result<()> {
        let mut index = self.index()?;
        let of_image = |d: &Descriptor| d.digest == image.manifest.digest;
        match name {
            Some(name) => index
                .manifests
                .retain(|d| name_of(d).as_ref() != Some(name)),
            None => index.manifests.retain(|d| !of_image(d)),
        }
        self.write_index(lock, &index)
    }

    /// Removes every blob and unpacked layer that no image of the index needs. Returns the bytes
    /// freed by blobs.
    pub fn collect(&self, lock: &Lock) -> Result<u64> {
        super::collect::collect(self, lock)
    }
}

/// The name that an entry of the index has.
pub fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}

/// The digest of what an entry's name stands for in its registry, an index maybe.
pub fn repo_digest(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations
        .get(REPO_DIGEST)?
        .split_once('@')
        .map(|(_, digest)| digest)
}

/// A descriptor of content in the store.
pub fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest,
        size,
        ..Descriptor::default()
    }
}

fn to_json(document: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).context("cannot write a document")
}

/// `mkdir -p` with mode 0700 for the root's own directories.
pub(super) fn make_dirs(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent)?;
    }
    match sys::fs::mkdirat(CWD, path, 0o711) {
        Err(e) if e.errno == sys::Errno::EEXIST => Ok(()),
        other => other.with_context(|| format!("cannot make {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lab_is_made_once_and_found_by_name_and_id() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lab = store.find("lab").unwrap();
        assert_eq!(lab.names[0].familiar(), "lab:latest");
        assert_eq!(store.find("lab").unwrap().id, lab.id);
        assert_eq!(store.resolve(lab.short_id()).unwrap().id, lab.id);
        let lowers = store.lowers(&lab).unwrap();
        assert_eq!(lowers.len(), 1);
        assert!(lowers[0].join("etc/passwd").is_file());
        assert_eq!(
            std::fs::read_dir(store.tmp()).unwrap().count(),
            0,
            "nothing is left in tmp/"
        );
    }

    #[test]
    fn an_unknown_image_is_not_found() {
        let root = tempfile::tempdir().unwrap();
        let e = Store::open(root.path())
            .unwrap()
            .resolve("nothing")
            .unwrap_err();
        assert_eq!(e.get_kind(), Kind::NotFound);
        assert_eq!(e.message(), "No such image: nothing");
    }

    #[test]
    fn names_move_and_the_image_that_lost_its_last_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let name: Reference = "a:1".parse().unwrap();
        let image = |text: &'static str| {
            let write = move |out: &mut dyn Write| {
                let mut tar = tar::Builder::new(out);
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                tar.append_data(&mut header, "file", text.as_bytes())
                    .unwrap();
                tar.finish().context("tar")
            };
            store
                .create(
                    std::slice::from_ref(&name),
                    Default::default(),
                    "test",
                    write,
                )
                .unwrap()
        };
        let (first, second) = (image("one"), image("two"));
        assert_eq!(store.resolve("a:1").unwrap().id, second.id);
        let list = store.list().unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[1].id, first.id);
        assert!(list[1].names.is_empty());
        let lock = store.lock().unwrap();
        store.remove(&lock, &first, None).unwrap();
        assert!(store.collect(&lock).unwrap() > 0);
        assert!(store.resolve(first.short_id()).is_err());
        drop(lock);
        assert!(store.lowers(&second).unwrap()[0].join("file").is_file());
    }
}
