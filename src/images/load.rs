//! `image load`: images from OCI image layouts (directories and tars) and from docker save's tars.
//!
//! What it does: a tar comes as a stream in any order, so its members are first put aside in a
//! staging directory; then the documents are followed from the top, and each blob is checked
//! against the descriptor that names it, unpacked and checked again against its diff id. Nothing
//! of an image is visible before all of it is right.
//!
//! docker save's old form has no digests for layers: there the configuration, whose digest is the
//! image's id, vouches for the diff ids, and a manifest is made. The form since Docker 25 holds
//! both documents; then the image layout is followed, with docker's names.
//!
//! What it implements: image-spec "Image Layout"; docker's `manifest.json` ("Image Tarball
//! Format"). Interface: [`load`]. Read next: `save.rs`.

use super::reference::Reference;
use super::staging::Staging;
use super::store::{Image, Store, descriptor};
use crate::error::{Context, Error, Kind, Result};
use crate::layers::archive::{Archive, Kind as EntryKind};
use crate::layers::compression::{self, Compression};
use crate::spec::digest::Digest;
use crate::spec::image::{
    Descriptor, ImageConfig, Index, Manifest, Platform, REF_NAME, media_type,
};
use crate::sys::fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Documents longer than this are refused.
const MAX_DOCUMENT: u64 = 16 << 20;
/// The annotation in which containerd and docker keep an image's full name.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image that was brought in.
#[derive(Debug)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The names that it got by this; none when the archive names it in no way.
    pub names: Vec<Reference>,
}

/// Where the members of an archive or the files of a layout are.
enum Source {
    Directory(OwnedFd),
    Archive(BTreeMap<String, Member>),
}

enum Member {
    File(PathBuf),
    Link(String),
}

impl Source {
    /// A tar's members, put aside in the staging directory.
    fn read_archive(input: impl Read + Send, staging: &Staging<'_>) -> Result<Source> {
        let decoder = compression::decoder(input)?;
        let mut archive = Archive::new(BufReader::with_capacity(256 * 1024, decoder));
        let mut members = BTreeMap::new();
        while let Some(entry) = archive.next_entry()? {
            let path = clean(&String::from_utf8_lossy(&entry.path))?;
            let member = match &entry.kind {
                EntryKind::File => {
                    let place = staging.scratch(&format!("member-{}", members.len()));
                    let what = || format!("cannot put {path} aside");
                    let mut file = File::create(&place).with_context(what)?;
                    while archive
                        .content(u64::MAX, |b| file.write_all(b).with_context(what))?
                        .is_some()
                    {}
                    Member::File(place)
                }
                EntryKind::Symlink(to) => {
                    let base = Path::new(&path).parent().unwrap_or(Path::new(""));
                    let to = base.join(String::from_utf8_lossy(to).as_ref());
                    Member::Link(clean(&to.to_string_lossy())?)
                }
                EntryKind::HardLink(to) => Member::Link(clean(&String::from_utf8_lossy(to))?),
                _ => continue,
            };
            members.insert(path, member);
        }
        Ok(Source::Archive(members))
    }

    /// Opens a member; `None` when there is none of this name.
    fn open(&self, path: &str) -> Result<Option<File>> {
        match self {
            Source::Directory(directory) => {
                let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
                match fs::openat2(directory, path, libc::O_RDONLY, 0, resolve) {
                    Ok(fd) => Ok(Some(File::from(fd))),
                    Err(e) if e.errno == crate::sys::Errno::ENOENT => Ok(None),
                    Err(e) => Err(e).with_context(|| format!("cannot open {path}")),
                }
            }
            Source::Archive(members) => {
                let mut name = path.to_string();
                for _ in 0..10 {
                    match members.get(&name) {
                        Some(Member::File(place)) => {
                            let file = File::open(place);
                            return file
                                .map(Some)
                                .with_context(|| format!("cannot open {path}"));
                        }
                        Some(Member::Link(to)) => name = to.clone(),
                        None => return Ok(None),
                    }
                }
                Err(Error::new(format!("{path} is a link to itself")))
            }
        }
    }

    fn needed(&self, path: &str) -> Result<File> {
        self.open(path)?
            .ok_or_else(|| Error::kind(Kind::NotFound, format!("{path} is missing in the archive")))
    }

    fn json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let Some(file) = self.open(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {path}"))?;
        let value = serde_json::from_slice(&bytes);
        value
            .with_context(|| format!("cannot understand {path}"))
            .map(Some)
    }

    /// Reads a document, checked against its descriptor.
    fn document<T: DeserializeOwned>(&self, blob: &Descriptor) -> Result<T> {
        let short = blob.digest.short();
        let mut bytes = Vec::new();
        self.needed(&blob_path(blob))?
            .take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read the document {short}"))?;
        if bytes.len() as u64 != blob.size || !blob.digest.matches(&bytes) {
            return Err(Error::new(format!(
                "the document {short} is not what its descriptor says: {}, {} bytes",
                Digest::of(blob.digest.algorithm(), &bytes),
                bytes.len()
            ))
            .hint("the archive was damaged, or lies: nothing of it was kept")
            .topic("images"));
        }
        serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand the document {short}"))
    }

    fn take_blob(&self, staging: &Staging<'_>, blob: &Descriptor) -> Result<()> {
        let file = self.needed(&blob_path(blob))?;
        staging
            .put_stream(&blob.media_type, file, Some(blob))
            .map(drop)
    }
}

fn blob_path(blob: &Descriptor) -> String {
    format!(
        "blobs/{}/{}",
        blob.digest.algorithm().name(),
        blob.digest.hex()
    )
}

/// `./a/../b//c` → `b/c`. Errors: it leads out.
fn clean(path: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            ".." => {
                return Err(Error::new(format!(
                    "the path {path} leads out of the archive"
                )));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// One image of docker's manifest.json.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub config: String,
    #[serde(default, deserialize_with = "crate::spec::null_is_default")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "crate::spec::null_is_default")]
    pub layers: Vec<String>,
}

/// Brings in all images of `input`, a tar stream or (`Err`) the directory of an image layout.
///
/// `name` is given to the image in place of what the archive calls it; then there must be only
/// one. `report` hears what is being done. Errors: nothing of the archive is visible then.
pub fn load(
    store: &Store,
    input: std::result::Result<Box<dyn Read + Send + '_>, &Path>,
    name: Option<&Reference>,
    report: &mut dyn FnMut(&str),
) -> Result<Vec<Loaded>> {
    let staging = store.stage()?;
    let source = match input {
        Ok(stream) => Source::read_archive(stream, &staging)?,
        Err(directory) => {
            let fd = fs::open(directory, libc::O_PATH | libc::O_DIRECTORY, 0)
                .with_context(|| format!("cannot open {}", directory.display()))?;
            Source::Directory(fd)
        }
    };
    let docker: Option<Vec<DockerEntry>> = source.json("manifest.json")?;
    let index: Option<Index> = source.json("index.json")?;
    let mut found = match (index, docker) {
        (Some(index), docker) if source.open("oci-layout")?.is_some() => from_layout(
            &source,
            &staging,
            &index,
            &docker.unwrap_or_default(),
            report,
        )?,
        (_, Some(docker)) => from_docker(&source, &staging, docker, report)?,
        _ if source.open("repositories")?.is_some() => {
            return Err(
                Error::kind(Kind::Unsupported, "the archive is of docker before 1.10")
                    .hint("load it into docker and save it again"),
            );
        }
        _ => {
            return Err(
                Error::kind(Kind::Usage, "this holds no image: neither an OCI image layout (oci-layout, index.json) nor docker save's manifest.json")
                    .hint("a root file system without an image's documents is for `glassbox image import`")
                    .topic("images"),
            );
        }
    };
    if let Some(name) = name {
        if found.len() != 1 {
            return Err(Error::kind(
                Kind::Usage,
                format!("a name is for one image, but there are {}", found.len()),
            ));
        }
        found[0].1 = vec![name.clone()];
    }
    if found.is_empty() {
        return Err(Error::kind(
            Kind::NotFound,
            "the archive holds no image for this machine",
        ));
    }
    let names: Vec<(Descriptor, Vec<Reference>)> = found;
    let images = staging.commit_many(&names)?;
    let loaded = images.into_iter().zip(names);
    Ok(loaded
        .map(|(image, (_, names))| Loaded { image, names })
        .collect())
}

/// Follows an image layout's index.
fn from_layout(
    source: &Source,
    staging: &Staging<'_>,
    index: &Index,
    docker: &[DockerEntry],
    report: &mut dyn FnMut(&str),
) -> Result<Vec<(Descriptor, Vec<Reference>)>> {
    let mut found: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
    for entry in &index.manifests {
        let Some(manifest) = choose(source, entry)? else {
            continue;
        };
        let document: Manifest = source.document(&manifest)?;
        if !media_type::is_config(&document.config.media_type) {
            continue; // an artifact: a signature, an attestation
        }
        let config: ImageConfig = source.document(&document.config)?;
        source.take_blob(staging, &manifest)?;
        source.take_blob(staging, &document.config)?;
        for (i, layer) in document.layers.iter().enumerate() {
            report(&format!(
                "checking layer {} of {}: {}",
                i + 1,
                document.layers.len(),
                layer.digest.short()
            ));
            source.take_blob(staging, layer)?;
        }
        staging.unpack_all(&document, &config, report)?;
        let path = format!("blobs/sha256/{}", document.config.digest.hex());
        let mut names: BTreeSet<Reference> = docker
            .iter()
            .filter(|d| d.config == path)
            .flat_map(|d| &d.repo_tags)
            .filter_map(|t| t.parse().ok())
            .collect();
        if names.is_empty() {
            names.extend(name_in(entry));
        }
        let clean = descriptor(&manifest.media_type, manifest.digest.clone(), manifest.size);
        match found.iter_mut().find(|(d, _)| d.digest == clean.digest) {
            Some((_, known)) => {
                names.retain(|n| !known.contains(n));
                known.extend(names);
            }
            None => found.push((clean, names.into_iter().collect())),
        }
    }
    Ok(found)
}

/// The manifest of an entry that runs on this machine. An archive of one platform alone is taken
/// whatever it is for; of an index, `None` when nothing fits.
fn choose(source: &Source, entry: &Descriptor) -> Result<Option<Descriptor>> {
    let mut entry = entry.clone();
    for _ in 0..4 {
        if media_type::is_manifest(&entry.media_type) {
            return Ok(Some(entry));
        }
        if !media_type::is_index(&entry.media_type) {
            return Ok(None); // image-spec: what is not known is passed over
        }
        let index: Index = source.document(&entry)?;
        let host = Platform::host();
        let fits = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.runs_on(&host));
        let Some(next) = index.manifests.iter().find(fits) else {
            return Ok(None);
        };
        entry = next.clone();
    }
    Err(Error::new("image indexes are nested more than three deep"))
}

/// The name that an entry of the index carries. `ref.name` may be a mere tag (`latest`, `12.5`),
/// which names no image.
fn name_in(entry: &Descriptor) -> Option<Reference> {
    if let Some(name) = entry.annotations.get(CONTAINERD_NAME) {
        return name.parse().ok();
    }
    let name = entry.annotations.get(REF_NAME)?;
    let tag = name == "latest" || name.starts_with(|c: char| c.is_ascii_digit());
    match tag && !name.contains(['/', ':']) {
        true => None,
        false => name.parse().ok(),
    }
}

/// Follows docker's manifest.json, making the manifest that it lacks.
fn from_docker(
    source: &Source,
    staging: &Staging<'_>,
    entries: Vec<DockerEntry>,
    report: &mut dyn FnMut(&str),
) -> Result<Vec<(Descriptor, Vec<Reference>)>> {
    let mut found = Vec::new();
    for entry in entries {
        let file = source.needed(&clean(&entry.config)?)?;
        let config = staging.put_stream(media_type::CONFIG, file.take(MAX_DOCUMENT), None)?;
        let stem = Path::new(&entry.config).file_stem().unwrap_or_default();
        let claimed = format!("sha256:{}", stem.to_string_lossy()).parse::<Digest>();
        if claimed.is_ok_and(|c| c != config.digest) {
            return Err(Error::new(format!(
                "{} has another digest than its name: {}",
                entry.config, config.digest
            ))
            .hint("the archive was damaged, or lies")
            .topic("images"));
        }
        let mut bytes = Vec::new();
        staging
            .open_blob(&config.digest)?
            .read_to_end(&mut bytes)
            .context("cannot read the configuration")?;
        let document: ImageConfig = serde_json::from_slice(&bytes)
            .with_context(|| format!("cannot understand {}", entry.config))?;
        let mut layers = Vec::new();
        for (i, path) in entry.layers.iter().enumerate() {
            report(&format!(
                "checking layer {} of {}",
                i + 1,
                entry.layers.len()
            ));
            let path = clean(path)?;
            let mut start = [0u8; 6];
            let n = source
                .needed(&path)?
                .read(&mut start)
                .context("cannot read a layer")?;
            let media_type = Compression::detect(&start[..n]).media_type();
            layers.push(staging.put_stream(media_type, source.needed(&path)?, None)?);
        }
        let manifest = Manifest::new(config, layers);
        staging.unpack_all(&manifest, &document, report)?;
        let manifest = staging.put_json(media_type::MANIFEST, &manifest)?;
        let names: Result<Vec<Reference>> = entry.repo_tags.iter().map(|t| t.parse()).collect();
        found.push((manifest, names?));
    }
    Ok(found)
}
