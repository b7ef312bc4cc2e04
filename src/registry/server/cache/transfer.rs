//! A blob on its way from the upstream: one thread fetches it, everybody who asks reads along.
//!
//! ```text
//!   upstream ──▶ file below tmp/ ──▶ sha256 ──▶ fsync, link ──▶ a blob like any other
//!                     │ as far as it is written
//!                     ├──▶ asker            the last byte leaves when the digest is right
//!                     └──▶ asker
//! ```
//!
//! What it does: whoever asks for a blob that is coming gets the file that is being written, up to
//! where it is, and waits for more. The last byte of an answer is kept back until the whole blob is
//! verified and stored: an upstream that lies or breaks ends as an answer that is too short, which no
//! client takes for the whole. What breaks off goes on by range, as in a pull; what does not is
//! forgotten, and the next asker begins again.
//!
//! Interface: [`Growing`], [`run`], [`Writer`]. Read next: `upstream.rs`.

use super::upstream::Upstream;
use crate::error::{Context, Error, Result};
use crate::registry::server::blobs;
use crate::registry::server::storage::Repository;
use crate::registry::server::uploads::Hasher;
use crate::spec::Digest;
use crate::spec::image::Descriptor;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// How much is read, hashed and written at once.
const PIECE: usize = 256 << 10;

/// How far a transfer is.
#[derive(Debug, Clone, Default)]
struct Progress {
    written: u64,
    end: Option<std::result::Result<(), Arc<str>>>,
}

/// A file that a transfer writes, as those see it who read along.
#[derive(Debug, Clone)]
pub struct Growing {
    file: Arc<File>,
    /// How long it will be.
    pub size: u64,
    progress: watch::Receiver<Progress>,
}

/// The same, as the transfer sees it.
pub struct Writer {
    file: Arc<File>,
    path: PathBuf,
    progress: watch::Sender<Progress>,
}

/// Makes the file of a transfer of a blob that is so long.
pub fn begin(path: PathBuf, size: u64) -> Result<(Writer, Growing)> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let file = Arc::new(file);
    let (sender, progress) = watch::channel(Progress::default());
    let growing = Growing {
        file: file.clone(),
        size,
        progress,
    };
    let writer = Writer {
        file,
        path,
        progress: sender,
    };
    Ok((writer, growing))
}

impl Growing {
    /// The file, to be read as far as [`Growing::ready`] says.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits until bytes from `at` on are there for an answer that lacks `left`; how many.
    ///
    /// # Errors
    /// The transfer failed: its reason.
    pub async fn ready(&self, at: u64, left: u64) -> io::Result<u64> {
        let mut progress = self.progress.clone();
        loop {
            let now = progress.borrow_and_update().clone();
            let there = match now.end {
                Some(Ok(())) => return Ok(left),
                Some(Err(why)) => return Err(io::Error::other(why.to_string())),
                None => now.written.saturating_sub(at).min(left.saturating_sub(1)),
            };
            if there > 0 {
                return Ok(there);
            }
            let ended = |_| io::Error::other("the transfer was given up");
            progress.changed().await.map_err(ended)?;
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The transfer failed: its reason.
    pub async fn whole(&self) -> std::result::Result<(), String> {
        match self.progress.clone().wait_for(|p| p.end.is_some()).await {
            Ok(progress) => match &progress.end {
                Some(Err(why)) => Err(why.to_string()),
                _ => Ok(()),
            },
            Err(_) => Err("the transfer was given up".into()),
        }
    }
}

impl Writer {
    /// Tells how it ended; what was written and is not stored goes.
    pub fn end(self, end: &Result<()>) {
        let _ = std::fs::remove_file(&self.path);
        let end = match end {
            Ok(()) => Ok(()),
            Err(e) => Err(format!("{e:#}").into()),
        };
        self.progress.send_modify(|p| p.end = Some(end));
    }
}

/// Fetches a blob into the file, verifies it, and makes it the repository's.
///
/// # Errors
/// The upstream breaks off for good, or sends other content; the disk is full.
pub fn run(
    upstream: &Upstream,
    repository: &Repository,
    descriptor: &Descriptor,
    writer: &Writer,
) -> Result<()> {
    let digest = &descriptor.digest;
    let found = receive(upstream, repository, descriptor, writer)?;
    if found != *digest {
        let why = format!(
            "the upstream sent {} bytes with the digest {found} for {digest}; nothing of it is kept",
            descriptor.size
        );
        upstream.fails(why.clone());
        return Err(Error::new(why));
    }
    let flushed = writer.file.sync_all();
    flushed.with_context(|| format!("cannot flush {}", writer.path.display()))?;
    blobs::adopt(repository, digest, &writer.path)
}

fn receive(
    upstream: &Upstream,
    repository: &Repository,
    descriptor: &Descriptor,
    writer: &Writer,
) -> Result<Digest> {
    let name = upstream.name(repository.name());
    let mut blob = upstream.client().blob(&name, descriptor);
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    let (mut piece, mut written) = (vec![0; PIECE], 0);
    loop {
        let broken = || {
            let (digest, size) = (&descriptor.digest, descriptor.size);
            format!("the upstream broke off after {written} of {size} bytes of {digest}")
        };
        let n = blob
            .read(&mut piece)
            .with_context(broken)
            .inspect_err(|e| {
                upstream.fails(format!("{e:#}"));
            })?;
        if n == 0 {
            return Ok(hasher.digest());
        }
        let full = || format!("cannot write {}", writer.path.display());
        (&*writer.file).write_all(&piece[..n]).with_context(full)?;
        hasher.update(&piece[..n]);
        written += n as u64;
        writer.progress.send_modify(|p| p.written = written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_byte_waits_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, growing) = begin(dir.path().join("a"), 10).unwrap();
        writer.progress.send_modify(|p| p.written = 4);
        assert_eq!(growing.ready(0, 10).await.unwrap(), 4);
        assert_eq!(growing.ready(1, 3).await.unwrap(), 2);
        writer.progress.send_modify(|p| p.written = 10);
        assert_eq!(growing.ready(4, 6).await.unwrap(), 5);
        let reader = growing.clone();
        let waiting = tokio::spawn(async move { reader.ready(9, 1).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        writer.end(&Ok(()));
        assert_eq!(waiting.await.unwrap().unwrap(), 1);
        growing.whole().await.unwrap();
        assert!(!dir.path().join("a").exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_reads_along_hears_why_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, growing) = begin(dir.path().join("a"), 10).unwrap();
        writer.end(&Err(Error::new("no route")));
        assert_eq!(
            growing.ready(0, 10).await.unwrap_err().to_string(),
            "no route"
        );
        assert_eq!(growing.whole().await, Err("no route".to_string()));
        let (writer, growing) = begin(dir.path().join("b"), 10).unwrap();
        drop(writer);
        assert!(growing.ready(0, 10).await.is_err());
    }
}
