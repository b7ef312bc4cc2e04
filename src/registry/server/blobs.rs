//! Blobs: given out, mounted, deleted, and taken in once they are whole.
//!
//! What it does: a repository has a blob when it has a link to it. A blob is given out as a file; a
//! client that heard that one is there is promised that it stays for gc's time of grace, by a new
//! change time of the file.
//!
//! What it implements: distribution-spec 1.1 end-2, end-10, end-11. Interface: [`get`],
//! [`delete`], [`mount`], [`adopt`]. Read next: `uploads.rs`.

use super::answer::{Answer, Content, Refusal, range};
use super::storage::{self, Repository, Storage};
use super::uploads;
use crate::error::{Context, Result};
use crate::registry::protocol::{ErrorCode, header};
use crate::spec::Digest;
use std::fs::{self, File, FileTimes};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A change time that is younger than this is not renewed.
const FRESH: Duration = Duration::from_secs(600);

/// A digest of a path; another text cannot name a blob.
pub fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|e: crate::error::Error| {
        Refusal::because(ErrorCode::DigestInvalid, e.message())
            .detail(serde_json::json!({ "digest": text }))
    })
}

/// What says that a blob is not in a repository.
pub fn unknown(digest: &Digest) -> Refusal {
    Refusal::new(ErrorCode::BlobUnknown).detail(serde_json::json!({ "digest": digest }))
}

/// Opens a repository's blob: the file and its length.
pub fn open(repository: &Repository, digest: &Digest) -> Result<Option<(File, u64)>> {
    let path = repository.blob(digest);
    match File::open(&path).and_then(|f| f.metadata().map(|m| (m.len(), f))) {
        Ok((length, file)) => Ok(Some((file, length))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot open {}", path.display())),
    }
}

/// end-2: GET and, without its body, HEAD.
pub fn get(
    repository: &Repository,
    digest: &Digest,
    ranges: Option<&str>,
    keep: bool,
) -> Result<Answer, Refusal> {
    let (file, length) = open(repository, digest)?.ok_or_else(|| unknown(digest))?;
    if keep {
        promise(&file);
    }
    part(digest, ranges, length, |first, count| {
        Content::File(Arc::new(file), first, count)
    })
}

/// The answer that gives a blob of this length, or the part of it that was asked for: `content` makes
/// the body out of the first byte and how many.
pub fn part(
    digest: &Digest,
    ranges: Option<&str>,
    length: u64,
    content: impl FnOnce(u64, u64) -> Content,
) -> Result<Answer, Refusal> {
    let answer = |status| {
        Answer::new(status)
            .with("content-type", "application/octet-stream")
            .with(header::CONTENT_DIGEST, digest)
            .with("etag", format!("\"{digest}\""))
            .with("accept-ranges", "bytes")
            .with("cache-control", "max-age=31536000, immutable")
    };
    Ok(match range(ranges, length)? {
        None => answer(200).body(content(0, length)),
        Some((first, count)) => answer(206)
            .with(
                "content-range",
                format!("bytes {first}-{}/{length}", first + count - 1),
            )
            .body(content(first, count)),
    })
}

/// Renews the change time, by which gc tells what is new (utimensat(2) sets it, to now).
fn promise(file: &File) {
    let Ok(meta) = file.metadata() else { return };
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(meta.ctime().max(0) as u64);
    if changed.elapsed().is_ok_and(|age| age > FRESH) {
        // A data directory that cannot be written has no gc either.
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
    }
}

/// end-10.
pub fn delete(repository: &Repository, digest: &Digest) -> Result<Answer, Refusal> {
    match storage::remove(&repository.blob(digest))? {
        true => Ok(Answer::new(202)),
        false => Err(unknown(digest)),
    }
}

/// end-11: takes a blob over from another repository (or, where none is named, from any). `None`
/// when it is not there: the client has to upload it.
pub fn mount(
    repository: &Repository,
    digest: &Digest,
    from: Option<&Repository>,
) -> Result<Option<Answer>, Refusal> {
    let source = match from {
        Some(from) => from.blob(digest),
        None => repository.storage().blob(digest),
    };
    if !source.exists() {
        return Ok(None);
    }
    repository.create()?;
    match link(&source, &repository.blob(digest)) {
        Ok(()) => {}
        // Deleted meanwhile, or as many links as the file system takes: a new copy helps.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EMLINK)) => return Ok(None),
        Err(e) => {
            return Err(e)
                .context(format!("cannot link {digest}"))
                .map_err(Refusal::from);
        }
    }
    storage::sync_parent(&repository.blob(digest))?;
    Ok(Some(created(repository, digest)))
}

/// The answer to a blob that is now in a repository.
pub fn created(repository: &Repository, digest: &Digest) -> Answer {
    Answer::new(201)
        .with(
            "location",
            format!("/v2/{}/blobs/{digest}", repository.name()),
        )
        .with(header::CONTENT_DIGEST, digest)
}

/// link(2), where the target may be there already.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Makes a file that holds a blob, verified and flushed, the repository's. Who comes second with the
/// same content gets a link to the first one's.
pub fn adopt(repository: &Repository, digest: &Digest, file: &Path) -> Result<()> {
    repository.create()?;
    let (shared, own) = (repository.storage().blob(digest), repository.blob(digest));
    let what = || format!("cannot store {digest}");
    // Twice: gc may take the shared name away between the two links.
    for _ in 0..2 {
        link(file, &shared).with_context(what)?;
        match link(&shared, &own) {
            Ok(()) => break,
            // The old copy has all the links that it can have: this one is the next to be shared.
            Err(e) if e.raw_os_error() == Some(libc::EMLINK) => {
                let beside = repository.storage().temporary();
                fs::hard_link(file, &beside)
                    .and_then(|()| fs::rename(&beside, &shared))
                    .with_context(what)?;
                link(file, &own).with_context(what)?;
                break;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(what),
        }
    }
    if !own.exists() {
        link(file, &own).with_context(what)?;
    }
    storage::sync_parent(&shared)?;
    storage::sync_parent(&own)
}

/// A small blob that is whole in memory: manifests, and what a cache fetched.
pub fn put(repository: &Repository, digest: &Digest, bytes: &[u8]) -> Result<()> {
    if repository.blob(digest).exists() {
        return Ok(());
    }
    let temporary = repository.storage().temporary();
    let write = || -> io::Result<()> {
        fs::write(&temporary, bytes)?;
        File::open(&temporary)?.sync_all()
    };
    let stored = write()
        .with_context(|| format!("cannot write {}", temporary.display()))
        .and_then(|()| adopt(repository, digest, &temporary));
    let _ = fs::remove_file(&temporary);
    stored
}

/// Whether a blob is anywhere in this registry.
pub fn is_shared(storage: &Storage, digest: &Digest) -> bool {
    storage.blob(digest).exists()
}

/// end-4a and end-11: what POST does before it looks at its body.
pub fn begin(
    uploads: &uploads::Uploads,
    repository: &Repository,
    mounted: Option<&str>,
    from: Option<Repository>,
) -> Result<Answer, Refusal> {
    if let Some(Ok(digest)) = mounted.map(digest)
        && let Some(answer) = mount(repository, &digest, from.as_ref())?
    {
        return Ok(answer);
    }
    let id = uploads.begin(repository)?;
    Ok(uploads::accepted(repository, &id, 0))
}
