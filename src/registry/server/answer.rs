//! Answers and refusals, and how the bytes of an answer leave.
//!
//! What it does: a handler returns an [`Answer`] or a [`Refusal`]; both are data. Here they become
//! hyper's response: a file leaves in pieces of half a MiB, the next one read while the last one is
//! on its way, so that a transfer needs two pieces of memory whatever its size.
//!
//! What it implements: distribution-spec 1.1, "Error Codes"; RFC 9110 section 14 (ranges).
//! Interface: [`Answer`], [`Refusal`], [`Content`], [`Body`], [`range`]. Read next: `storage.rs`.

use super::cache::Growing;
use crate::error::Error;
use crate::registry::protocol::{ErrorBody, ErrorCode, ErrorEntry, header};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// How much of a file is read, and held, at once.
const PIECE: usize = 512 << 10;
/// How many pieces that were sent are kept for the next reads.
const SPARE: usize = 16;

/// What a request was answered with.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, but for those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub content: Content,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Content {
    /// Nothing; with `Some` the length that a GET would have had.
    Empty(Option<u64>),
    /// These bytes.
    Bytes(Bytes),
    /// Part of a file: from where, how much.
    File(Arc<File>, u64, u64),
    /// The same of a file that is still being written.
    Growing(Growing, u64, u64),
}

impl Answer {
    /// This status, no headers, no body.
    pub fn new(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            content: Content::Empty(None),
        }
    }
    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Answer {
        self.headers.push((name, value.to_string()));
        self
    }
    /// With a body.
    #[must_use]
    pub fn body(mut self, content: Content) -> Answer {
        self.content = content;
        self
    }
    /// 200 with a JSON document.
    pub fn json(value: &impl serde::Serialize) -> Answer {
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        Answer::new(200)
            .with("content-type", "application/json")
            .body(Content::Bytes(bytes.into()))
    }

    /// What HEAD answers where GET answers this: the same without the body.
    #[must_use]
    pub fn without_body(mut self) -> Answer {
        self.content = Content::Empty(Some(self.content.length()));
        self
    }

    /// As hyper's response. A header that cannot stand in one (only a stored text can be so odd) is
    /// left out.
    pub fn into_response(self) -> hyper::Response<Body> {
        let mut response = hyper::Response::builder()
            .status(self.status)
            .header(header::API_VERSION, "registry/2.0");
        for (name, value) in self.headers {
            if let Ok(value) = hyper::header::HeaderValue::from_str(&value) {
                response = response.header(name, value);
            }
        }
        // 204 and 304 have no content; everything else says its length, so that a connection can be
        // used again.
        if !matches!(self.status, 204 | 304) {
            response = response.header("content-length", self.content.length());
        }
        response.body(Body::new(self.content)).unwrap_or_default()
    }
}

impl Content {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Content::Empty(length) => length.unwrap_or(0),
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, _, length) | Content::Growing(_, _, length) => *length,
        }
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: ErrorBody,
    /// Headers that go with it.
    pub headers: Vec<(&'static str, String)>,
    /// What the log says besides, of a failure of ours.
    pub cause: Option<String>,
}

impl Refusal {
    /// With the code's own status and message.
    pub fn new(code: ErrorCode) -> Refusal {
        Refusal {
            status: code.status(),
            body: ErrorBody::one(code, None, serde_json::Value::Null),
            headers: Vec::new(),
            cause: None,
        }
    }
    /// With more words than the code's.
    pub fn because(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            body: ErrorBody::one(code, Some(message.into()), serde_json::Value::Null),
            ..Refusal::new(code)
        }
    }
    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Refusal {
        self.status = status;
        self
    }
    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Refusal {
        self.headers.push((name, value.to_string()));
        self
    }
    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Value) -> Refusal {
        if let Some(first) = self.body.errors.first_mut() {
            first.detail = detail;
        }
        self
    }
    /// One reason for each of several things.
    pub fn several(code: ErrorCode, details: Vec<serde_json::Value>) -> Refusal {
        let entry = |detail| ErrorEntry {
            code: code.code().into(),
            message: code.message().into(),
            detail,
        };
        Refusal {
            body: ErrorBody {
                errors: details.into_iter().map(entry).collect(),
            },
            ..Refusal::new(code)
        }
    }
    /// As an answer.
    pub fn into_answer(self) -> Answer {
        let mut answer = Answer::json(&self.body);
        answer.status = self.status;
        answer.headers.extend(self.headers);
        answer
    }
}

impl From<Error> for Refusal {
    /// A failure of ours: a full disk is 507, anything else 500. The causes go to the log, not to
    /// the client.
    fn from(error: Error) -> Refusal {
        let full = matches!(error.errno(), Some(libc::ENOSPC | libc::EDQUOT));
        let (status, message) = match full {
            true => (507, "the registry's disk is full"),
            false => (500, "the registry failed; its log says why"),
        };
        let mut refusal = Refusal::because(ErrorCode::Unknown, message).status(status);
        refusal.cause = Some(format!("{error:#}"));
        refusal
    }
}

/// The part of a content of this length that a `Range` header asks for: the first byte and how many.
/// `None`: all of it (no range, one of another unit, several, or none that is well-formed).
///
/// # Errors
/// The range lies outside: 416 with the length.
pub fn range(header: Option<&str>, length: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let outside = || {
        Refusal::because(
            ErrorCode::SizeInvalid,
            format!("the range lies outside the {length} bytes"),
        )
        .status(416)
        .with("content-range", format!("bytes */{length}"))
    };
    let Some((from, to)) = header
        .and_then(|h| h.trim().strip_prefix("bytes="))
        .and_then(|r| r.split_once('-'))
    else {
        return Ok(None);
    };
    let (from, to) = (from.trim(), to.trim());
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let (Some(_), Some(_)) = (number(from), number(to)) else {
        return Ok(None);
    };
    let (first, last) = match (from, to) {
        ("", "") => return Ok(None),
        ("", suffix) => (
            length.saturating_sub(number(suffix).unwrap_or(0)),
            length.saturating_sub(1),
        ),
        (from, "") => (number(from).unwrap_or(u64::MAX), length.saturating_sub(1)),
        (from, to) => (
            number(from).unwrap_or(u64::MAX),
            number(to).unwrap_or(0).min(length.saturating_sub(1)),
        ),
    };
    if first >= length || last < first {
        return Err(outside());
    }
    Ok(Some((first, last - first + 1)))
}

/// The body of a response, and how much of it has left.
#[derive(Default)]
pub struct Body {
    source: Source,
    left: u64,
    /// Told when the body has ended or was given up.
    pub watch: Option<super::log::Watch>,
}

#[derive(Default)]
enum Source {
    #[default]
    Nothing,
    Bytes(Bytes),
    File {
        file: Input,
        at: u64,
        next: Option<JoinHandle<io::Result<Bytes>>>,
    },
}

impl Source {
    fn file(file: Input, at: u64) -> Source {
        let next = None;
        Source::File { file, at, next }
    }
}

/// What is read from.
enum Input {
    Whole(Arc<File>),
    Growing(Growing),
}

impl Input {
    /// Begins to read the next piece of what is left of an answer.
    fn start(&self, at: u64, left: u64) -> JoinHandle<io::Result<Bytes>> {
        let size = left.min(PIECE as u64) as usize;
        match self {
            Input::Whole(file) => {
                let file = file.clone();
                tokio::task::spawn_blocking(move || read_piece(&file, at, size))
            }
            Input::Growing(growing) => {
                let growing = growing.clone();
                tokio::spawn(async move {
                    let size = growing.ready(at, left).await?.min(PIECE as u64) as usize;
                    let read = move || read_piece(growing.file(), at, size);
                    let read = tokio::task::spawn_blocking(read).await;
                    read.unwrap_or_else(|e| Err(io::Error::other(e)))
                })
            }
        }
    }
}

impl Body {
    fn new(content: Content) -> Body {
        let (source, left) = match content {
            Content::Empty(_) => (Source::Nothing, 0),
            Content::Bytes(bytes) => {
                let left = bytes.len() as u64;
                (Source::Bytes(bytes), left)
            }
            Content::File(file, at, length) => (Source::file(Input::Whole(file), at), length),
            Content::Growing(growing, at, length) => {
                (Source::file(Input::Growing(growing), at), length)
            }
        };
        Body {
            source,
            left,
            watch: None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        let piece = match &mut body.source {
            Source::Nothing => return Poll::Ready(None),
            Source::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Source::File { file, at, next } => {
                let reading = next.get_or_insert_with(|| file.start(*at, body.left));
                let read =
                    ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|e| Err(io::Error::other(e)));
                *next = None;
                if let Ok(piece) = &read {
                    *at += piece.len() as u64;
                    let rest = body.left - piece.len() as u64;
                    if rest > 0 {
                        *next = Some(file.start(*at, rest));
                    }
                }
                read
            }
        };
        let piece = piece.inspect_err(|e| {
            body.left = 0;
            // All that the client sees is a connection that breaks; the log says why.
            if let Some(watch) = &mut body.watch {
                watch.cause = Some(format!("the answer broke off: {e}"));
            }
        })?;
        body.left -= piece.len() as u64;
        if let Some(watch) = &mut body.watch {
            watch.sent += piece.len() as u64;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Memory of pieces that were sent: fresh memory from the kernel costs as much as reading into it.
static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

struct Piece(Vec<u8>, usize);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Ok(mut pool) = POOL.lock()
            && pool.len() < SPARE
        {
            pool.push(std::mem::take(&mut self.0));
        }
    }
}

/// So many bytes of a file, wholly: a file that has become shorter is an error.
pub(super) fn read_piece(file: &File, at: u64, size: usize) -> io::Result<Bytes> {
    let size = size.min(PIECE);
    let mut memory = POOL
        .lock()
        .ok()
        .and_then(|mut p| p.pop())
        .unwrap_or_default();
    if memory.len() < size {
        memory.resize(if size > PIECE / 8 { PIECE } else { size }, 0);
    }
    file.read_exact_at(&mut memory[..size], at)?;
    Ok(Bytes::from_owner(Piece(memory, size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let of = |text: &str, length| range(Some(text), length).map_err(|r| r.status);
        assert_eq!(range(None, 10).map_err(|r| r.status), Ok(None));
        for (text, want) in [
            ("bytes=2-4", Ok(Some((2, 3)))),
            ("bytes=2-", Ok(Some((2, 8)))),
            ("bytes=-3", Ok(Some((7, 3)))),
            ("bytes=-30", Ok(Some((0, 10)))),
            ("bytes=0-100", Ok(Some((0, 10)))),
            ("bytes=9-99999999999999999999999", Ok(Some((9, 1)))),
            ("bytes=10-", Err(416)),
            ("bytes=5-0", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=99999999999999999999999-", Err(416)),
            ("bytes=-", Ok(None)),
            ("bytes=a-b", Ok(None)),
            ("bytes=1-2,4-5", Ok(None)),
            ("lines=1-2", Ok(None)),
        ] {
            assert_eq!(of(text, 10), want, "{text}");
        }
        assert_eq!(of("bytes=0-", 0), Err(416));
    }

    #[test]
    fn a_full_disk_has_a_status_of_its_own() {
        let error = |errno| Error::new("x").caused_by(io::Error::from_raw_os_error(errno));
        assert_eq!(Refusal::from(error(libc::ENOSPC)).status, 507);
        assert_eq!(Refusal::from(error(libc::EIO)).status, 500);
    }
}
