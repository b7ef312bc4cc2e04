//! Push: blobs first, the manifest that names them last.
//!
//! ```text
//!   HEAD …/blobs/DIGEST                          200: it is there
//!   POST …/blobs/uploads/?mount=DIGEST&from=R    201: taken from another repository, without a byte
//!                                                202: Location, where an upload begins
//!   PUT  LOCATION?digest=DIGEST                  201: there, whole
//!          ✂  GET LOCATION                       204: Range: 0-n, so many bytes came
//!             PATCH LOCATION, Content-Range      202: the rest, then PUT without a body
//! ```
//!
//! What it implements: distribution-spec "Push" (monolithic, chunked to resume, mounts).
//! Interface: [`push`], [`Client::put_blob`], [`Client::put_manifest`]. Read next: `copy.rs`.

use super::auth::{Scopes, escape};
use super::exchange;
use super::listing::referrers_tag;
use super::manifest::Document;
use super::parallel::{self, Stop};
use super::transport::{Response, Source, join};
use super::{Client, Event, Watch, Wish};
use crate::error::{Context, Error, Kind, Result};
use crate::images::{Image, Reference, Store};
use crate::registry::protocol::header;
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Index, Manifest, media_type};
use std::io::{Read, Seek, SeekFrom};

/// What became of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The repository has it.
    WasThere,
    /// It came from another repository of the registry.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// What was pushed.
#[derive(Debug)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
}

/// Pushes an image of the store under a name. `at_once` blobs go at the same time.
pub fn push(
    store: &Store,
    client: &Client,
    image: &Image,
    reference: &Reference,
    at_once: usize,
    watch: &dyn Watch,
) -> Result<Pushed> {
    let repository = &reference.repository;
    let mut bytes = Vec::new();
    store
        .open_blob(&image.manifest.digest)?
        .read_to_end(&mut bytes)
        .context("cannot read the manifest")?;
    let document = Document::new(bytes, &image.manifest.media_type)?;
    let manifest = document.manifest()?;
    let mut blobs: Vec<&Descriptor> = Vec::new();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if may_not_be_pushed(blob) {
            client.trace().skipped(
                format!("layer {}", blob.digest.short()),
                "it may not be distributed",
            );
            watch.layer(
                blob.digest.short(),
                Event::Done("Skipped foreign layer".into()),
            );
        } else if !blobs.iter().any(|b| b.digest == blob.digest) {
            blobs.push(blob);
        }
    }
    let sources = known_sources(store, reference)?;
    blobs
        .iter()
        .for_each(|b| watch.layer(b.digest.short(), Event::Waiting(b.size)));
    parallel::for_each(&blobs, at_once, &Stop::default(), |blob| {
        let short = blob.digest.short();
        let open = |from: u64| -> Result<Box<dyn Read + '_>> {
            let mut file = store.open_blob(&blob.digest)?;
            file.seek(SeekFrom::Start(from))
                .context("cannot read the blob")?;
            watch.layer(short, Event::Begins(blob.size));
            Ok(Box::new(Counted {
                input: file,
                watch,
                short,
            }))
        };
        let from: Vec<&str> = sources
            .iter()
            .filter(|(_, has)| has.contains(&blob.digest))
            .map(|(r, _)| r.as_str())
            .collect();
        let done = client
            .put_blob(repository, blob, &from, &open)
            .with_context(|| format!("cannot push the blob {short}"))?;
        watch.layer(
            short,
            Event::Done(match done {
                Put::WasThere => "Layer already exists".into(),
                Put::Mounted(from) => format!("Mounted from {from}"),
                Put::Sent => "Pushed".into(),
            }),
        );
        Ok(())
    })?;
    client.put_manifest(repository, &super::manifest::name(reference), &document)?;
    Ok(Pushed {
        digest: document.descriptor.digest,
        size: document.descriptor.size,
    })
}

struct Counted<'a, R> {
    input: R,
    watch: &'a dyn Watch,
    short: &'a str,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.watch.layer(self.short, Event::Bytes(n as u64));
        Ok(n)
    }
}

/// Other repositories of the registry that should have some of our blobs: those that an image here
/// is named after. It may be wrong, a mount that fails only begins an upload.
fn known_sources(store: &Store, to: &Reference) -> Result<Vec<(String, Vec<Digest>)>> {
    let mut sources: Vec<(String, Vec<Digest>)> = Vec::new();
    for image in store.list()? {
        for name in image
            .names
            .iter()
            .filter(|n| n.registry == to.registry && n.repository != to.repository)
        {
            let digests = image
                .layers
                .iter()
                .map(|l| l.digest.clone())
                .chain([image.id.clone()]);
            sources.push((name.repository.clone(), digests.collect()));
        }
    }
    Ok(sources)
}

impl Client {
    fn writing(repository: &str) -> Scopes {
        Scopes::repository(repository, "pull,push")
    }

    /// Whether the repository has a blob.
    pub fn has_blob(&self, repository: &str, blob: &Descriptor) -> Result<bool> {
        let mut wish = Wish::new(
            "HEAD",
            &self.url(repository, &format!("blobs/{}", blob.digest)),
        );
        let response = self.send(repository, &Self::writing(repository), &mut wish)?;
        match response.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(response.refusal()),
        }
    }

    /// Sees to it that the repository has a blob. `from`: repositories that may have it; `open`: its
    /// bytes, from any one on.
    pub(super) fn put_blob(
        &self,
        repository: &str,
        blob: &Descriptor,
        from: &[&str],
        open: Source<'_>,
    ) -> Result<Put> {
        let short = blob.digest.short();
        if self.has_blob(repository, blob)? {
            self.trace().skipped(
                format!("the transfer of blob {short}"),
                "the repository has it",
            );
            return Ok(Put::WasThere);
        }
        let mut tried = 0;
        loop {
            let mount = from.first().filter(|_| tried == 0);
            let location = match self.begin(repository, blob, mount.copied())? {
                Begun::Mounted => {
                    let from = mount.map(ToString::to_string).unwrap_or_default();
                    self.trace().skipped(
                        format!("the transfer of blob {short}"),
                        format!("mounted from {from}"),
                    );
                    return Ok(Put::Mounted(from));
                }
                Begun::At(location) => location,
            };
            match self.upload(repository, blob, &location, open) {
                Ok(()) => return Ok(Put::Sent),
                // The upload is gone, or nobody knows where it stands: from the start.
                Err((e, true)) if tried < self.transport.patience.retries => {
                    self.trace()
                        .skipped(format!("the rest of upload {short}"), format!("{e:#}"));
                    self.transport.pause(tried, None);
                    tried += 1;
                }
                Err((e, _)) => return Err(e),
            }
        }
    }

    fn begin(&self, repository: &str, blob: &Descriptor, mount: Option<&str>) -> Result<Begun> {
        let mut scopes = Self::writing(repository);
        let mut query = String::new();
        if let Some(from) = mount {
            scopes = scopes.and(&format!("repository:{from}:pull"));
            query = format!("?mount={}&from={}", blob.digest, escape(from));
        }
        let mut wish = Wish::new(
            "POST",
            &self.url(repository, &format!("blobs/uploads/{query}")),
        );
        let response = self.send(repository, &scopes, &mut wish)?;
        match response.status {
            201 if mount.is_some() => Ok(Begun::Mounted),
            202 => location(&response).map(Begun::At),
            // A mount that is not allowed must not be the end.
            _ if mount.is_some() => self.begin(repository, blob, None),
            _ => Err(response.refusal()),
        }
    }

    /// Sends a blob to where its upload began, whole; what breaks off goes on where the registry
    /// says. Errors with `true` may pass.
    fn upload(
        &self,
        repository: &str,
        blob: &Descriptor,
        location: &str,
        open: Source<'_>,
    ) -> std::result::Result<(), (Error, bool)> {
        let scopes = Self::writing(repository);
        let finish = |location: &str| {
            let join = if location.contains('?') { '&' } else { '?' };
            format!("{location}{join}digest={}", blob.digest)
        };
        let mut wish = Wish {
            stream: Some((blob.size, open)),
            again: false,
            ..Wish::new("PUT", &finish(location))
        };
        wish.headers
            .push(("content-type", "application/octet-stream".into()));
        let mut failure = match self.send(repository, &scopes, &mut wish) {
            Ok(r) if r.status == 201 => return Ok(()),
            Ok(r) if transient(r.status) => r.refusal(),
            Ok(r) => return Err((r.refusal(), false)),
            Err(e) => e,
        };
        let mut location = location.to_string();
        for tried in 0..self.transport.patience.retries {
            self.transport.pause(tried, None);
            let mut wish = Wish::new("GET", &location);
            let Ok(response) = self.send(repository, &scopes, &mut wish) else {
                continue;
            };
            let range = response
                .header("range")
                .map(|r| r.trim_start_matches("bytes=").to_string());
            let arrived = range
                .and_then(|r| r.split_once('-')?.1.parse::<u64>().ok())
                .map(|last| last + 1);
            if response.status == 404 && self.has_blob(repository, blob).unwrap_or(false) {
                return Ok(()); // all of it came, and only the answer was lost
            }
            // `0-0` stands for one byte and for none.
            let Some(arrived) =
                arrived.filter(|n| response.status == 204 && *n > 1 && *n <= blob.size)
            else {
                return Err((failure, true));
            };
            location = self::location(&response).unwrap_or(location);
            self.trace().skipped(
                format!("{arrived} bytes of blob {}", blob.digest.short()),
                "they had arrived before the connection broke",
            );
            if arrived < blob.size {
                let rest = |from: u64| open(arrived + from);
                let mut wish = Wish {
                    stream: Some((blob.size - arrived, &rest)),
                    again: false,
                    ..Wish::new("PATCH", &location)
                };
                wish.headers
                    .push(("content-type", "application/octet-stream".into()));
                wish.headers
                    .push(("content-range", format!("{arrived}-{}", blob.size - 1)));
                match self.send(repository, &scopes, &mut wish) {
                    Ok(r) if r.status == 202 => location = self::location(&r).unwrap_or(location),
                    Ok(r) if transient(r.status) => {
                        failure = r.refusal();
                        continue;
                    }
                    Ok(r) => return Err((r.refusal(), true)),
                    Err(e) => {
                        failure = e;
                        continue;
                    }
                }
            }
            let response = self.send(
                repository,
                &scopes,
                &mut Wish::new("PUT", &finish(&location)),
            );
            return match response {
                Ok(r) if r.status == 201 => Ok(()),
                Ok(r) => Err((r.refusal(), true)),
                Err(e) => Err((e, true)),
            };
        }
        Err((failure, true))
    }

    /// Puts a manifest or an index under a tag or its digest. Errors: the registry calls it by
    /// another digest.
    pub(super) fn put_manifest(
        &self,
        repository: &str,
        name: &str,
        document: &Document,
    ) -> Result<()> {
        let mut wish = Wish::new("PUT", &self.url(repository, &format!("manifests/{name}")));
        wish.headers
            .push(("content-type", document.descriptor.media_type.clone()));
        wish.bytes = Some(&document.bytes);
        let response = self.send(repository, &Self::writing(repository), &mut wish)?;
        if response.status != 201 {
            return Err(response.refusal());
        }
        let (said, own) = (
            response.header(header::CONTENT_DIGEST),
            document.descriptor.digest.to_string(),
        );
        if let Some(said) = said.filter(|said| *said != own && said.starts_with("sha256:")) {
            return Err(Error::new(format!(
                "the registry keeps the manifest {own} as {said}"
            )));
        }
        let understood = response.header(header::SUBJECT).is_some();
        match document.subject()? {
            // "If the OCI-Subject header is not set, … the client MUST …" keep the list itself.
            Some(subject) if !understood => self.list_referrer(repository, &subject, document),
            _ => Ok(()),
        }
    }

    /// Adds a manifest to the tag that stands in for its subject's list of referrers.
    fn list_referrer(
        &self,
        repository: &str,
        subject: &Descriptor,
        document: &Document,
    ) -> Result<()> {
        let known = self.referrers_tag(repository, &subject.digest)?;
        let mut index = known.unwrap_or_else(|| Index::new(vec![]));
        let digest = &document.descriptor.digest;
        if index.manifests.iter().any(|d| d.digest == *digest) {
            return Ok(());
        }
        self.trace().skipped(
            "the registry's own list of referrers",
            "it does not keep one: a tag does",
        );
        index.manifests.push(document.as_referrer()?);
        let bytes = serde_json::to_vec(&index).context("cannot write the list of referrers")?;
        let list = Document::new(bytes, media_type::INDEX)?;
        self.put_manifest(repository, &referrers_tag(&subject.digest), &list)
    }
}

enum Begun {
    Mounted,
    At(String),
}

fn transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504)
}

/// Where an upload goes on.
fn location(response: &Response) -> Result<String> {
    let to = response
        .header("location")
        .context("the registry began an upload and does not say where")?;
    let whole = join(&response.url, to)?;
    if response.url.starts_with("https://") && !whole.starts_with("https://") {
        return Err(Error::kind(
            Kind::Unsupported,
            format!(
                "the registry would have the upload sent in clear, to {}",
                exchange::url(&whole)
            ),
        ));
    }
    Ok(whole)
}

/// Whoever may not distribute a layer must not: others get it where we did.
fn may_not_be_pushed(blob: &Descriptor) -> bool {
    let typ = &blob.media_type;
    !blob.urls.is_empty() && (typ.contains("nondistributable") || typ.contains(".foreign."))
}

/// What of a manifest is to be copied, whatever it is: the configuration and the layers.
pub(super) fn blobs_of(manifest: &Manifest) -> Vec<Descriptor> {
    let mut blobs: Vec<Descriptor> = Vec::new();
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        if !may_not_be_pushed(blob) && !blobs.iter().any(|b| b.digest == blob.digest) {
            blobs.push(blob.clone());
        }
    }
    blobs
}
