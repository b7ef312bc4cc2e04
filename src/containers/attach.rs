//! The words between a monitor and its clients, over one socket a client.
//!
//! What it does: the socket keeps message boundaries (`SOCK_SEQPACKET`), so a message is one byte
//! that says what it is, and what belongs to it:
//!
//! ```text
//!   to the monitor                       from the monitor
//!   'A' attach me: flags                 'S' started: pid as text
//!   'I' bytes for stdin                  'E' could not start: the error as JSON
//!   'Z' end of stdin                     '1' bytes of stdout (or of the terminal)
//!   'R' size: rows, columns (u16 BE)     '2' bytes of stderr
//!   'U' a user stops it: no restart      'X' ended: status as text
//!   'P' 'C' paused, continued            '!' could not pass output on: text
//!   'H' how a health check went: JSON
//! ```
//!
//! A client that leaves closes the socket. One that reads slowly slows the container down (as a
//! pipe would) and loses nothing; one that only sent words gets nothing but 'X'.
//! Interface: [`Message`], [`listen`], [`connect`]. Read next: `monitor.rs` and `client.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Largest payload, well below what a socket buffer takes.
pub const LARGEST: usize = 32 * 1024;

/// What a client wants to see, in 'A'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Output.
    pub output: bool,
    /// It may write to stdin, and its leaving may close it.
    pub input: bool,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Attach.
    Attach(Wants),
    /// Bytes for stdin.
    Input(Vec<u8>),
    /// The end of stdin.
    EndOfInput,
    /// The terminal's new size: rows, columns.
    Resize(u16, u16),
    /// A user stops the container: the restart policy does not apply.
    UserStop,
    /// The cgroup was frozen (true) or thawed.
    Paused(bool),
    /// How a health check went, as JSON of a [`super::health::Probe`].
    Health(String),
    /// The program runs, as this process.
    Started(i32),
    /// It could not be started.
    Failed(Box<Failure>),
    /// Bytes of stdout, or of the terminal.
    Stdout(Vec<u8>),
    /// Bytes of stderr.
    Stderr(Vec<u8>),
    /// The program ended with this status and all is cleaned up.
    Ended(i32),
    /// Something that the user should know.
    Trouble(String),
}

/// Tells who waits why there is no monitor: the exit status of this process.
pub fn tell_failure(first: &OwnedFd, error: &Error) -> i32 {
    let failed = Message::Failed(Box::new(Failure::of(error)));
    let _ = sys::socket::send(first, &failed.encode()); // who waited may be gone
    125
}

/// An error on its way through a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    topic: Option<String>,
    status: u8,
}

impl Failure {
    /// What a user would see of the error.
    pub fn of(error: &Error) -> Failure {
        Failure {
            message: error.message().into(),
            causes: error.causes(),
            hint: error.get_hint().map(Into::into),
            topic: error.get_topic().map(Into::into),
            status: error.exit_status(),
        }
    }
    /// The error again.
    pub fn into_error(self) -> Error {
        let kind = match self.status {
            126 => Kind::CannotExecute,
            127 => Kind::CommandNotFound,
            _ => Kind::Failed,
        };
        let mut lines = std::iter::once(self.message).chain(self.causes).rev();
        let mut error = Error::new(lines.next().unwrap_or_default());
        for line in lines {
            error = error.context(line);
        }
        error = error.with_kind(kind);
        if let Some(hint) = self.hint {
            error = error.hint(hint);
        }
        if let Some(topic) = self.topic {
            // Topics are 'static in this process; the one that ends it may stay.
            error = error.topic(Box::leak(topic.into_boxed_str()));
        }
        error
    }
}

impl Message {
    /// As it goes over the socket.
    pub fn encode(&self) -> Vec<u8> {
        let with = |tag: u8, payload: &[u8]| [&[tag], payload].concat();
        match self {
            Message::Attach(w) => vec![b'A', u8::from(w.output) | u8::from(w.input) << 1],
            Message::Input(bytes) => with(b'I', bytes),
            Message::EndOfInput => vec![b'Z'],
            Message::Resize(rows, columns) => {
                with(b'R', &[rows.to_be_bytes(), columns.to_be_bytes()].concat())
            }
            Message::UserStop => vec![b'U'],
            Message::Paused(true) => vec![b'P'],
            Message::Paused(false) => vec![b'C'],
            Message::Health(text) => with(b'H', text.as_bytes()),
            Message::Started(pid) => with(b'S', pid.to_string().as_bytes()),
            Message::Failed(failure) => {
                with(b'E', &serde_json::to_vec(failure).unwrap_or_default())
            }
            Message::Stdout(bytes) => with(b'1', bytes),
            Message::Stderr(bytes) => with(b'2', bytes),
            Message::Ended(status) => with(b'X', status.to_string().as_bytes()),
            Message::Trouble(text) => with(b'!', text.as_bytes()),
        }
    }

    /// Reads a message. `None` for one that this version does not know.
    pub fn decode(bytes: &[u8]) -> Option<Message> {
        let (tag, rest) = bytes.split_first()?;
        let number = || std::str::from_utf8(rest).ok()?.parse::<i32>().ok();
        Some(match tag {
            b'A' => Message::Attach(Wants {
                output: rest.first()? & 1 != 0,
                input: rest.first()? & 2 != 0,
            }),
            b'I' => Message::Input(rest.to_vec()),
            b'Z' => Message::EndOfInput,
            b'R' => {
                let [a, b, c, d] = rest.try_into().ok()?;
                Message::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            b'U' => Message::UserStop,
            b'P' => Message::Paused(true),
            b'C' => Message::Paused(false),
            b'H' => Message::Health(String::from_utf8_lossy(rest).into_owned()),
            b'S' => Message::Started(number()?),
            b'E' => Message::Failed(Box::new(serde_json::from_slice(rest).ok()?)),
            b'1' => Message::Stdout(rest.to_vec()),
            b'2' => Message::Stderr(rest.to_vec()),
            b'X' => Message::Ended(number()?),
            b'!' => Message::Trouble(String::from_utf8_lossy(rest).into_owned()),
            _ => return None,
        })
    }
}

/// Makes the socket `attach` in the run directory `dir`, which may have any length.
pub fn listen(dir: &Path) -> Result<OwnedFd> {
    let what = || format!("cannot listen in {}", dir.display());
    let fd = open_dir(dir)?;
    match sys::fs::unlinkat(&fd, "attach", 0) {
        Err(e) if e.errno != sys::Errno::ENOENT => return Err(e).with_context(what),
        _ => {}
    }
    let path = format!("/proc/self/fd/{}/attach", fd.as_raw_fd());
    let socket = sys::socket::listen(Path::new(&path)).with_context(what)?;
    sys::poll::set_nonblocking(&socket, true).with_context(what)?;
    Ok(socket)
}

/// Connects to the monitor that listens in `dir`. `None` when there is none.
pub fn connect(dir: &Path) -> Result<Option<OwnedFd>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let fd = open_dir(dir)?;
    let path = format!("/proc/self/fd/{}/attach", fd.as_raw_fd());
    match sys::socket::connect(Path::new(&path)) {
        Ok(socket) => Ok(Some(socket)),
        Err(e) if matches!(e.errno, sys::Errno::ENOENT | sys::Errno::ECONNREFUSED) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot reach the monitor in {}", dir.display())),
    }
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    sys::fs::open(dir, libc::O_PATH | libc::O_DIRECTORY, 0)
        .with_context(|| format!("cannot open {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_there_and_back() {
        let error = Error::kind(Kind::CommandNotFound, "b")
            .context("a")
            .hint("h");
        for message in [
            Message::Attach(Wants {
                output: true,
                input: false,
            }),
            Message::Input(b"x\0y".to_vec()),
            Message::EndOfInput,
            Message::Resize(24, 300),
            Message::UserStop,
            Message::Paused(true),
            Message::Paused(false),
            Message::Health("{}".into()),
            Message::Started(12),
            Message::Failed(Box::new(Failure::of(&error))),
            Message::Stdout(vec![]),
            Message::Stderr(b"e".to_vec()),
            Message::Ended(-1),
            Message::Trouble("t".into()),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        for junk in [&b""[..], b"R\0", b"X?", b"~", b"A", b"E{"] {
            assert_eq!(Message::decode(junk), None);
        }
        let again = Failure::of(&error).into_error();
        assert_eq!((again.exit_status(), again.get_hint()), (127, Some("h")));
        assert_eq!(
            (again.message(), again.causes()),
            ("a", vec!["b".to_string()])
        );
    }

    #[test]
    fn a_socket_in_a_long_path() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        assert!(connect(&deep).unwrap().is_none());
        std::fs::create_dir(&deep).unwrap();
        let listener = listen(&deep).unwrap();
        let client = connect(&deep).unwrap().unwrap();
        let server = sys::socket::accept(&listener).unwrap().unwrap();
        sys::socket::send(&client, &Message::EndOfInput.encode()).unwrap();
        assert_eq!(sys::socket::recv(&server).unwrap().unwrap(), b"Z");
        drop((listener, server));
        assert!(connect(&deep).unwrap().is_none(), "nobody listens any more");
    }
}
