//! Uploads: blobs on their way in, in one piece or many, and again after a break.
//!
//! ```text
//!   uploads/ID/repository     the name of the repository that it is for
//!   uploads/ID/data           what has come so far; its length is the upload's state
//! ```
//!
//! What it does: bytes are hashed and written while the next ones come in. The length of the file is
//! the truth, so that an upload goes on after the server was killed; the state of the hash is a
//! shortcut that is kept in memory, and made again out of the file where it is not. Only an upload
//! whose digest is right becomes a blob.
//!
//! What is acknowledged in the middle is not flushed: after a power cut the client asks for the
//! length and goes on from there. What is acknowledged at the end is.
//!
//! What it implements: distribution-spec 1.1 end-4a, end-4b, end-5, end-6, end-13, end-14.
//! Interface: [`Uploads`]. Read next: `manifests.rs`.

use super::answer::{Answer, Refusal};
use super::blobs;
use super::handle::late;
use super::storage::{self, Repository, Storage};
use crate::error::{Context, Error, Result};
use crate::registry::protocol::{ErrorCode, header};
use crate::spec::Digest;
use crate::spec::digest::Algorithm;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::Digest as _;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// How much is gathered before it is written.
const BATCH: usize = 256 << 10;
/// How long a request waits for another one on the same upload, which may be a broken connection's.
const BUSY: Duration = Duration::from_secs(10);
/// An upload that nobody has touched for so long is given up.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many states of hashes are kept.
const REMEMBERED: usize = 1024;

/// The uploads of a registry.
pub struct Uploads {
    storage: Storage,
    /// A client that sends nothing for so long has gone.
    silence: Duration,
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Progress>>>>,
}

/// What is remembered of an upload between two requests: the hash of its first bytes.
#[derive(Default)]
pub struct Progress {
    hashed: Option<(Hasher, u64)>,
}

/// The hash of what has come so far.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Box::new(sha2::Sha512::new())),
        }
    }
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }
    pub(super) fn digest(self) -> Digest {
        match self {
            Hasher::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.finalize()),
            Hasher::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.finalize()),
        }
    }
}

/// An upload's file, open at its end and locked: a write of a request that was given up may still
/// be on its way, and who opens the file again waits for it.
struct Sink {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Option<Hasher>,
}

impl Sink {
    fn open(path: &Path, hashed: Option<(Hasher, u64)>, algorithm: Algorithm) -> Result<Sink> {
        let what = || format!("cannot open {}", path.display());
        let file = File::options()
            .read(true)
            .append(true)
            .open(path)
            .with_context(what)?;
        file.lock().with_context(what)?;
        let length = file.metadata().with_context(what)?.len();
        let hasher = match hashed {
            _ if length == 0 => Some(Hasher::new(algorithm)),
            Some((hasher, up_to)) if up_to == length => Some(hasher),
            _ => None,
        };
        Ok(Sink {
            path: path.to_path_buf(),
            file,
            length,
            hasher,
        })
    }
    fn write(&mut self, batch: &[Bytes]) -> Result<()> {
        for bytes in batch {
            self.file
                .write_all(bytes)
                .with_context(|| format!("cannot write {}", self.path.display()))?;
            self.length += bytes.len() as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(bytes);
            }
        }
        Ok(())
    }
    /// The digest of the whole, from memory or by reading it again.
    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        let fits = match &self.hasher {
            Some(Hasher::Sha256(_)) => algorithm == Algorithm::Sha256,
            Some(Hasher::Sha512(_)) => algorithm == Algorithm::Sha512,
            None => false,
        };
        if fits && let Some(hasher) = self.hasher.take() {
            return Ok(hasher.digest());
        }
        digest_of(&self.path, algorithm)
    }
}

/// Hashes a file.
pub fn digest_of(path: &Path, algorithm: Algorithm) -> Result<Digest> {
    let what = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut hasher = Hasher::new(algorithm);
    let mut piece = vec![0; BATCH];
    loop {
        match file.read(&mut piece).with_context(what)? {
            0 => return Ok(hasher.digest()),
            n => hasher.update(&piece[..n]),
        }
    }
}

/// What a request says of the bytes that it brings.
#[derive(Debug, Default, Clone)]
pub struct Part {
    /// `Content-Range`, as it stands there.
    pub range: Option<String>,
    /// `Content-Length`.
    pub length: Option<u64>,
}

impl Part {
    /// The number of bytes it promises, when it begins where the upload ends.
    fn check(&self, length: u64) -> Result<Option<u64>, ()> {
        let Some(range) = &self.range else {
            return Ok(self.length);
        };
        let (first, last) = range.split_once('-').ok_or(())?;
        let number = |t: &str| match t.bytes().all(|b| b.is_ascii_digit()) {
            true => t.parse::<u64>().map_err(|_| ()),
            false => Err(()),
        };
        let (first, last) = (number(first)?, number(last)?);
        let count = last
            .checked_sub(first)
            .and_then(|n| n.checked_add(1))
            .ok_or(())?;
        if first != length {
            return Err(());
        }
        Ok(Some(count))
    }
}

impl Uploads {
    /// Those of this storage, with clients that may be silent for so long.
    pub fn new(storage: &Storage, silence: Duration) -> Uploads {
        Uploads {
            storage: storage.clone(),
            silence,
            known: Mutex::default(),
        }
    }

    /// Begins one; its id.
    pub fn begin(&self, repository: &Repository) -> Result<String> {
        let id = identifier()?;
        let dir = self.storage.uploads().join(&id);
        let make = || {
            fs::create_dir(&dir)?;
            File::create_new(dir.join("data"))?;
            fs::write(dir.join("repository"), repository.name())
        };
        make().with_context(|| format!("cannot begin an upload in {}", dir.display()))?;
        Ok(id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        storage::entries(&self.storage.uploads()).map_or(0, Iterator::count)
    }

    fn dir(&self, repository: &Repository, id: &str) -> Result<PathBuf, Refusal> {
        let unknown = || Refusal::new(ErrorCode::BlobUploadUnknown);
        if id.len() != 36 || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(unknown());
        }
        let dir = self.storage.uploads().join(id);
        match storage::read(&dir.join("repository"))? {
            Some(name) if name == repository.name().as_bytes() => Ok(dir),
            _ => Err(unknown()),
        }
    }

    /// end-13.
    pub fn status(&self, repository: &Repository, id: &str) -> Result<Answer, Refusal> {
        let data = self.dir(repository, id)?.join("data");
        let length = fs::metadata(&data)
            .with_context(|| format!("cannot read {}", data.display()))?
            .len();
        let mut answer = accepted(repository, id, length);
        answer.status = 204;
        Ok(answer)
    }

    /// end-14.
    pub fn cancel(&self, repository: &Repository, id: &str) -> Result<Answer, Refusal> {
        let dir = self.dir(repository, id)?;
        self.forget(id);
        remove(&dir)?;
        Ok(Answer::new(204))
    }

    fn forget(&self, id: &str) {
        if let Ok(mut known) = self.known.lock() {
            known.remove(id);
        }
    }

    fn progress(&self, id: &str) -> Arc<tokio::sync::Mutex<Progress>> {
        let Ok(mut known) = self.known.lock() else {
            return Arc::default();
        };
        if known.len() >= REMEMBERED {
            // Whoever loses a hash reads the file again.
            let idle = known
                .iter()
                .find(|(_, p)| Arc::strong_count(p) == 1)
                .map(|(id, _)| id.clone());
            idle.and_then(|id| known.remove(&id));
        }
        known.entry(id.to_string()).or_default().clone()
    }

    /// end-5 without `digest`, end-6 with one: takes the body in, and closes the upload.
    pub async fn receive(
        self: &Arc<Self>,
        repository: &Repository,
        id: &str,
        part: Part,
        body: &mut Incoming,
        digest: Option<Digest>,
    ) -> Result<Answer, Refusal> {
        let data = self.dir(repository, id)?.join("data");
        let progress = self.progress(id);
        let busy = || {
            Refusal::because(
                ErrorCode::BlobUploadInvalid,
                "another request is writing to this upload",
            )
            .status(409)
        };
        let mut progress = timeout(BUSY, progress.lock_owned())
            .await
            .map_err(|_| busy())?;
        let algorithm = digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let (path, hashed) = (data.clone(), progress.hashed.take());
        let mut sink = blocking(move || Sink::open(&path, hashed, algorithm)).await?;
        let before = sink.length;
        let promised = match part.check(before) {
            Ok(promised) => promised,
            Err(()) => {
                let mut refusal = Refusal::new(ErrorCode::BlobUploadInvalid);
                refusal.headers = accepted(repository, id, before).headers;
                progress.hashed = sink.hasher.map(|h| (h, before));
                return Err(refusal);
            }
        };
        if let (Some(promised), Some(length)) = (promised, part.length)
            && promised != length
        {
            return Err(Refusal::because(
                ErrorCode::SizeInvalid,
                format!("the range has {promised} bytes, the body {length}"),
            ));
        }
        sink = take_in(sink, body, self.silence).await?;
        let came = sink.length - before;
        if promised.is_some_and(|p| p != came) {
            // Without a Content-Length, hyper cannot know: what came is taken back.
            let cut = blocking(move || {
                sink.file
                    .set_len(before)
                    .context("cannot take a chunk back")
            });
            cut.await?;
            return Err(Refusal::because(
                ErrorCode::SizeInvalid,
                format!("the range is longer than the {came} bytes that came"),
            ));
        }
        let Some(digest) = digest else {
            let length = sink.length;
            progress.hashed = sink.hasher.map(|h| (h, length));
            return Ok(accepted(repository, id, length));
        };
        let (repository, uploads, id) = (repository.clone(), self.clone(), id.to_string());
        blocking_refusal(move || uploads.finish(&repository, &id, sink, &digest)).await
    }

    /// Checks the digest, makes the blob, and only then forgets the upload: whoever is killed in
    /// between leaves an upload that can be finished again.
    fn finish(
        &self,
        repository: &Repository,
        id: &str,
        mut sink: Sink,
        digest: &Digest,
    ) -> Result<Answer, Refusal> {
        let found = sink.digest(digest.algorithm())?;
        if found != *digest {
            self.forget(id);
            remove(&self.storage.uploads().join(id))?;
            return Err(Refusal::because(
                ErrorCode::DigestInvalid,
                format!("what came has the digest {found}"),
            )
            .detail(serde_json::json!({ "digest": digest })));
        }
        if !repository.blob(digest).exists() {
            if !blobs::is_shared(&self.storage, digest) {
                sink.file
                    .sync_all()
                    .with_context(|| format!("cannot flush {}", sink.path.display()))?;
            }
            // What is shared was flushed before it was; only with no such blob is ours taken.
            blobs::adopt(repository, digest, &sink.path)?;
        }
        self.forget(id);
        remove(&self.storage.uploads().join(id))?;
        Ok(blobs::created(repository, digest))
    }

    /// Removes uploads that nobody has touched for a week.
    pub fn expire(&self) -> Result<()> {
        expire(&self.storage, ABANDONED).map(drop)
    }
}

/// Removes uploads that nobody has touched for so long; how many.
pub fn expire(storage: &Storage, age: Duration) -> Result<usize> {
    let mut removed = 0;
    for entry in storage::entries(&storage.uploads())? {
        let data = entry.path().join("data");
        let touched = fs::metadata(&data)
            .or_else(|_| entry.metadata())
            .and_then(|m| m.modified());
        if touched.is_ok_and(|t| t.elapsed().is_ok_and(|e| e >= age)) {
            remove(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The answer to bytes that were taken, and the headers of every answer about an upload.
pub fn accepted(repository: &Repository, id: &str, length: u64) -> Answer {
    Answer::new(202)
        .with(
            "location",
            format!("/v2/{}/blobs/uploads/{id}", repository.name()),
        )
        .with("range", format!("0-{}", length.saturating_sub(1)))
        .with(header::UPLOAD_UUID, id)
}

/// Writes a body into a sink: while one batch is hashed and written, the next one comes in.
async fn take_in(sink: Sink, body: &mut Incoming, silence: Duration) -> Result<Sink, Refusal> {
    let broken = |why| Refusal::because(ErrorCode::SizeInvalid, why).status(400);
    let mut idle = Some(sink);
    let mut writing = None;
    loop {
        let (mut batch, mut size, mut end) = (Vec::new(), 0, None);
        while size < BATCH && end.is_none() {
            match timeout(silence, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        size += bytes.len();
                        batch.push(bytes);
                    }
                }
                Ok(None) => end = Some(Ok(())),
                Ok(Some(Err(e))) => end = Some(Err(broken(format!("the body broke off: {e}")))),
                Err(_) => {
                    let why = format!("nothing came for {} seconds", silence.as_secs());
                    end = Some(Err(late(why)));
                }
            }
        }
        let mut sink = match (writing.take(), idle.take()) {
            (Some(task), _) => joined(task).await?,
            (None, Some(sink)) => sink,
            (None, None) => return Err(Error::new("an upload lost its file").into()),
        };
        let task = tokio::task::spawn_blocking(move || sink.write(&batch).map(|()| sink));
        match end {
            None => writing = Some(task),
            // What came before the break is kept: the client may go on from there.
            Some(ended) => {
                let sink = joined(task).await?;
                return ended.map(|()| sink);
            }
        }
    }
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T, Refusal> {
    task.await
        .map_err(|e| Refusal::from(Error::new("a task of the server ended").caused_by(e)))?
        .map_err(Refusal::from)
}

/// Runs what blocks beside the thread that serves the sockets.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    joined(tokio::task::spawn_blocking(work)).await
}

/// The same for what can refuse.
pub async fn blocking_refusal<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|e| Err(Error::new("a task of the server ended").caused_by(e).into()))
}

/// A random UUID.
fn identifier() -> Result<String> {
    let mut random: [u8; 16] = crate::sys::ask::getrandom()?;
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let hex: String = random.iter().map(|b| format!("{b:02x}")).collect();
    Ok([
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_continues_or_not() {
        let part = |range: &str| Part {
            range: Some(range.into()),
            length: None,
        };
        for (range, length, want) in [
            ("0-9", 0, Ok(Some(10))),
            ("10-10", 10, Ok(Some(1))),
            ("1-9", 0, Err(())),
            ("0-9", 10, Err(())),
            ("9-0", 9, Err(())),
            ("bytes 0-9", 0, Err(())),
            ("0-18446744073709551615", 0, Err(())),
            ("-5", 0, Err(())),
            ("", 0, Err(())),
        ] {
            assert_eq!(part(range).check(length), want, "{range}");
        }
    }

    #[test]
    fn an_identifier_is_a_uuid() {
        let id = identifier().unwrap();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert_ne!(id, identifier().unwrap());
    }
}
