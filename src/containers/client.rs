//! The other side of the monitor: a terminal or a pipe that is attached to a container.
//!
//! What it does: passes bytes between this process's streams and a socket until the container
//! ends, the user detaches, or the monitor is gone. With a terminal it goes into raw mode, so that
//! Ctrl-C, Ctrl-Z and the rest reach the program inside; it tells the size, at first and at every
//! change, and takes the terminal back when it was stopped and continued. Without one it passes
//! signals on.
//!
//! What it implements: docker's `run`, `start -a`, `attach`: `--detach-keys` (ctrl-p ctrl-q),
//! `--sig-proxy`, half-closed stdin; termios(3), signal(7).
//! Interface: [`Terminal`], [`Attached`], [`attach`], [`wait`], [`parse_keys`].
//! Read next: `streams.rs`.

use super::attach::{LARGEST, Message};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::poll::{self, Interest, Signals};
use crate::sys::{self, Errno};
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// The container ended with this status.
    Ended(i32),
    /// The user pressed the detach keys.
    Detached,
    /// This signal told this process to leave; the container goes on.
    Left(i32),
    /// Nobody reads this process's output any more.
    OutputClosed,
    /// The monitor went away without a word: it was killed.
    MonitorGone,
}

/// How to attach.
#[derive(Debug, Clone)]
pub struct Options {
    /// The container has a terminal.
    pub tty: bool,
    /// Pass this process's stdin on.
    pub input: bool,
    /// Print what it writes to stdout, and to stderr.
    pub outputs: (bool, bool),
    /// Pass signals on to this process (the container's first).
    pub proxy: Option<i32>,
    /// The keys that detach.
    pub keys: Vec<u8>,
}

/// Docker's keys: Ctrl-P Ctrl-Q.
pub const DEFAULT_KEYS: &[u8] = &[16, 17];

/// Reads `--detach-keys`: `ctrl-p,ctrl-q`, `a`, `ctrl-[`… Errors: a key that has no code.
pub fn parse_keys(text: &str) -> Result<Vec<u8>> {
    text.split(',')
        .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([c @ b'a'..=b'z']) => Some(c - b'a' + 1),
            Some(b"@") => Some(0),
            Some(b"[") => Some(27),
            Some(b"\\") => Some(28),
            Some(b"]") => Some(29),
            Some(b"^") => Some(30),
            Some(b"_") => Some(31),
            Some(_) => None,
            None => (key.len() == 1 && key.is_ascii()).then(|| key.as_bytes()[0]),
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| {
            Error::kind(Kind::Usage, format!("invalid detach keys ({text})"))
                .hint("a letter, or ctrl- and one of a-z, @, [, \\, ], ^, _; several with commas")
        })
}

/// Watches for the detach keys in what is typed.
#[derive(Debug, Default)]
pub struct KeyWatch {
    seen: usize,
}

impl KeyWatch {
    /// What may be passed on, and whether the keys are complete. Keys that might be the beginning
    /// are held back until the next one decides.
    pub fn filter(&mut self, keys: &[u8], typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(typed.len());
        if keys.is_empty() {
            return (typed.to_vec(), false);
        }
        for byte in typed {
            if *byte == keys[self.seen] {
                self.seen += 1;
                if self.seen == keys.len() {
                    return (pass, true);
                }
                continue;
            }
            pass.extend_from_slice(&keys[..self.seen]);
            self.seen = 0;
            if *byte == keys[0] {
                self.seen = 1;
            } else {
                pass.push(*byte);
            }
        }
        (pass, false)
    }
}

/// This process's terminal, in raw mode while a container has it.
#[derive(Debug)]
pub struct Terminal {
    raw: Option<sys::tty::Raw>,
}

impl Terminal {
    /// Raw mode when stdin is a terminal and wanted.
    pub fn take(wanted: bool) -> Result<Terminal> {
        let raw = match wanted && std::io::stdin().is_terminal() {
            true => Some(
                sys::tty::Raw::enter(std::io::stdin())
                    .context("cannot set the terminal to raw mode")?,
            ),
            false => None,
        };
        Ok(Terminal { raw })
    }
    /// Takes it back after this process was stopped.
    pub fn again(&self) {
        if let Some(raw) = &self.raw {
            raw.again();
        }
    }
}

/// Rows and columns of the terminal at stdout or stdin; `None` without one.
pub fn window_size() -> Option<(u16, u16)> {
    sys::tty::window_size(std::io::stdout())
        .or_else(|_| sys::tty::window_size(std::io::stdin()))
        .ok()
        .filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// The signals that a client takes as data.
pub fn signals() -> Result<Signals> {
    poll::signal_fd(&[
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGCONT,
    ])
    .context("cannot listen to signals")
}

/// Stays attached until the end. The socket must already want output (and input).
pub fn attach(socket: &OwnedFd, options: &Options) -> Result<Attached> {
    let signals = signals()?;
    let terminal = Terminal::take(options.tty && options.input)?;
    let mut wire = Wire {
        socket,
        waiting: Default::default(),
    };
    poll::set_nonblocking(socket, true).context("cannot use the monitor's socket")?;
    if options.tty
        && let Some((rows, columns)) = window_size()
    {
        wire.say(&Message::Resize(rows, columns));
    }
    let mut keys = KeyWatch::default();
    let mut input_open = options.input;
    let mut interrupts = 0;
    let stdin = std::io::stdin();
    loop {
        let full = wire.waiting.len() > 16;
        let mut asked = vec![
            Interest {
                fd: socket.as_fd(),
                read: true,
                write: !wire.waiting.is_empty(),
            },
            Interest {
                fd: signals.as_fd(),
                read: true,
                write: false,
            },
        ];
        if input_open && !full {
            asked.push(Interest {
                fd: stdin.as_fd(),
                read: true,
                write: false,
            });
        }
        let ready = poll::poll(&asked, -1).context("cannot wait for the container")?;
        if ready[0].writable {
            wire.flush();
        }
        if (ready[0].readable || ready[0].hangup)
            && let Some(end) = take_output(socket, options.outputs)?
        {
            return Ok(end);
        }
        while let Some(signal) = signals.next().context("cannot read signals")? {
            match signal {
                libc::SIGWINCH | libc::SIGCONT => {
                    if signal == libc::SIGCONT {
                        terminal.again();
                    }
                    if options.tty
                        && let Some((rows, columns)) = window_size()
                    {
                        wire.say(&Message::Resize(rows, columns));
                    }
                }
                signal => {
                    interrupts += u32::from(matches!(signal, libc::SIGINT | libc::SIGTERM));
                    match options.proxy {
                        // Three in vain (PID 1 ignores what it has no handler for): let go.
                        Some(_) if interrupts >= 3 => return Ok(Attached::Left(signal)),
                        Some(pid) => drop(sys::process::kill(pid, signal)), // it may be gone
                        None => return Ok(Attached::Left(signal)),
                    }
                }
            }
        }
        if ready.get(2).is_some_and(|r| r.readable || r.hangup) {
            let mut buffer = [0u8; LARGEST / 2];
            match poll::read(&stdin, &mut buffer) {
                Ok(0) => {
                    input_open = false;
                    wire.say(&Message::EndOfInput);
                }
                Ok(n) if options.tty => {
                    let (pass, detach) = keys.filter(&options.keys, &buffer[..n]);
                    if !pass.is_empty() {
                        wire.say(&Message::Input(pass));
                    }
                    if detach {
                        return Ok(Attached::Detached);
                    }
                }
                Ok(n) => wire.say(&Message::Input(buffer[..n].to_vec())),
                Err(e) if e.errno == Errno::EAGAIN => {}
                Err(_) => {
                    input_open = false; // a terminal that hung up
                    wire.say(&Message::EndOfInput);
                }
            }
        }
    }
}

/// Messages on their way to the monitor.
struct Wire<'a> {
    socket: &'a OwnedFd,
    waiting: std::collections::VecDeque<Vec<u8>>,
}

impl Wire<'_> {
    fn say(&mut self, message: &Message) {
        self.waiting.push_back(message.encode());
        self.flush();
    }
    fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match sys::socket::send(self.socket, message) {
                Err(e) if e.errno == Errno::EAGAIN => return,
                _ => drop(self.waiting.pop_front()), // a monitor that is gone shows when we read
            }
        }
    }
}

/// Prints what has arrived. `Some` when that was the end.
fn take_output(socket: &OwnedFd, outputs: (bool, bool)) -> Result<Option<Attached>> {
    loop {
        let bytes = match sys::socket::recv(socket) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Some(Attached::MonitorGone)),
            Err(e) if e.errno == Errno::EAGAIN => return Ok(None),
            Err(e) => return Err(e).context("cannot hear the monitor"),
        };
        let (data, to) = match Message::decode(&bytes) {
            Some(Message::Stdout(_)) if !outputs.0 => continue,
            Some(Message::Stderr(_)) if !outputs.1 => continue,
            Some(Message::Stdout(data)) => (data, std::io::stdout().as_fd().try_clone_to_owned()),
            Some(Message::Stderr(data)) => (data, std::io::stderr().as_fd().try_clone_to_owned()),
            Some(Message::Ended(code)) => return Ok(Some(Attached::Ended(code))),
            Some(Message::Trouble(text)) => {
                crate::ui::warn(text);
                continue;
            }
            _ => continue,
        };
        let to = to.context("cannot use the output")?;
        if !write_all(to.as_fd(), &data) {
            return Ok(Some(Attached::OutputClosed));
        }
    }
}

/// Writes all of it, waiting where the reader is slow. False when nobody reads any more.
pub fn write_all(fd: BorrowedFd<'_>, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match poll::write_some(fd, data) {
            Ok(n) => data = &data[n..],
            Err(e) if e.errno == Errno::EAGAIN => {
                let _ = poll::poll(
                    &[Interest {
                        fd,
                        read: false,
                        write: true,
                    }],
                    -1,
                ); // then again
            }
            Err(_) => return false,
        }
    }
    true
}

/// Waits for the end over a socket that wants nothing else.
pub fn wait(socket: &OwnedFd) -> Result<Attached> {
    loop {
        match sys::socket::recv(socket).context("cannot hear the monitor")? {
            Some(bytes) => {
                if let Some(Message::Ended(code)) = Message::decode(&bytes) {
                    return Ok(Attached::Ended(code));
                }
            }
            None => return Ok(Attached::MonitorGone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_docker_writes_them() {
        assert_eq!(parse_keys("ctrl-p,ctrl-q").unwrap(), DEFAULT_KEYS);
        assert_eq!(parse_keys("a,ctrl-[,ctrl-@").unwrap(), [b'a', 27, 0]);
        for bad in ["", "ctrl-", "ctrl-1", "ab", "ctrl-p,"] {
            assert!(parse_keys(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let mut watch = KeyWatch::default();
        let mut f = |typed: &[u8]| watch.filter(DEFAULT_KEYS, typed);
        assert_eq!(f(b"a\x10"), (b"a".to_vec(), false), "held back");
        assert_eq!(f(b"b"), (b"\x10b".to_vec(), false), "let go");
        assert_eq!(f(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(f(b"\x11c"), (vec![], true));
    }
}
