//! Limits: how many may be connected, how long a peer may do nothing, how large a manifest may be.
//!
//! What it does: a server on the internet meets clients that connect and say nothing, send a byte a
//! minute, or ask for a layer and never read it. Each holds a socket and maybe a file; so each has its
//! time, and there are only so many. Who comes when all places are taken waits in the kernel's queue
//! and is served as soon as one is free: a pull with many layers needs patience, no error.
//!
//! What it implements: setrlimit(2) (`RLIMIT_NOFILE`). Interface: [`Limits`], [`files_for`],
//! [`Patient`]. Read next: `serve.rs`.

use crate::error::{Context, Result};
use crate::registry::protocol::MAX_MANIFEST;
use crate::sys::process::{getrlimit, setrlimit};
use std::io;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Files that a server needs beside those of its connections.
const OWN_FILES: u64 = 128;
/// A connection needs itself, the file that it gets or brings, and a lock or a connection upstream.
const FILES_EACH: u64 = 3;

/// The limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many connections are served at once.
    pub connections: usize,
    /// How long a peer may send nothing of a request, or read nothing of an answer.
    pub idle: Duration,
    /// The largest manifest that is taken, in bytes.
    pub manifest: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1000,
            idle: Duration::from_secs(60),
            manifest: MAX_MANIFEST,
        }
    }
}

/// Lets the process open as many files as so many connections need, and says for how many
/// connections there are enough: the hard limit is the host's.
///
/// # Errors
/// The kernel does not say or change the limit.
pub fn files_for(connections: usize) -> Result<usize> {
    let wanted = OWN_FILES.saturating_add(FILES_EACH.saturating_mul(connections as u64));
    let what = "cannot raise the number of open files";
    let (soft, hard) = getrlimit(libc::RLIMIT_NOFILE).context(what)?;
    if soft < wanted && soft < hard {
        setrlimit("RLIMIT_NOFILE", libc::RLIMIT_NOFILE, wanted.min(hard), hard).context(what)?;
    }
    Ok(connections.min(enough(hard.max(soft))))
}

/// For how many connections so many files are enough.
fn enough(files: u64) -> usize {
    let each = files.saturating_sub(OWN_FILES) / FILES_EACH;
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

/// A connection whose peer must read: a write that makes no progress for so long is an error of the
/// kind `TimedOut`.
pub struct Patient<S> {
    stream: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Limits a stream.
    pub fn new(stream: S, limit: Duration) -> Patient<S> {
        Patient {
            stream,
            limit,
            waiting: None,
        }
    }

    /// Passes on what a write came to; the time runs while it comes to nothing.
    fn watched<T>(
        &mut self,
        cx: &mut task::Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.waiting = None;
        let why = format!("the peer read nothing for {} seconds", limit.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watched(cx, done)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.watched(cx, done)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_flush(cx);
        this.watched(cx, done)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watched(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn each_connection_has_its_files() {
        assert_eq!(enough(1024), 298);
        assert_eq!(enough(0), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_does_not_read_is_given_up_and_who_reads_is_not() {
        let (mut ours, theirs) = tokio::io::duplex(16);
        let mut writer = Patient::new(theirs, Duration::from_millis(20));
        let stuck = writer.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
        let mut writer = Patient::new(writer.stream, Duration::from_secs(600));
        let reading = async {
            let mut all = [0; 66];
            ours.read_exact(&mut all).await
        };
        let (read, written) = tokio::join!(reading, writer.write_all(&[1; 50]));
        written.unwrap();
        assert_eq!(read.unwrap(), 66);
    }
}
