//! The monitor's loop: bytes between a container and whoever is attached.
//!
//! What it does: waits on everything at once (the container's outputs, its end, the socket where
//! clients come in, each client) and passes bytes on. Output goes to the log first, then to the
//! clients; while a client has not taken its last bytes, no more output is read, so a slow reader
//! slows the container down as a pipe would, and nothing is lost.
//! Interface: [`Streams`], [`Said`], [`Client`], [`drain`]. Read next: `client.rs`.

use super::super::attach::{LARGEST, Message, Wants};
use super::super::log::{Stream, Writer};
use super::super::name_service::NameService;
use super::super::time::Time;
use crate::error::{Context, Result};
use crate::host::process;
use crate::runtime::{Launched, Outer};
use crate::sys::poll::{self, Interest, Ready};
use crate::sys::process::Exit;
use crate::sys::{self, Errno};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes for stdin that may wait until the program reads.
const INPUT_ROOM: usize = 64 * 1024;
/// An unfinished line is logged after this long.
const LINE_WAIT_MS: i32 = 100;
/// A monitor that has had nothing to do for this long gives back the pages of its code.
const REST_AFTER_MS: i32 = 1000;

/// What the loop tells the monitor.
#[derive(Debug)]
pub enum Said<'a> {
    /// A client has said this.
    Word(&'a Message),
    /// The moment that [`Streams::due`] named has come.
    Due,
}

/// One process that talks to the monitor.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    wants: Wants,
    queue: VecDeque<Vec<u8>>,
    gone: bool,
}

impl Client {
    /// A client on this socket.
    pub fn new(socket: OwnedFd, wants: Wants) -> Client {
        let gone = poll::set_nonblocking(&socket, true).is_err();
        Client {
            socket,
            wants,
            queue: VecDeque::new(),
            gone,
        }
    }

    /// Sends a message, now or when the client takes it.
    pub fn say(&mut self, message: &Message) {
        self.queue.push_back(message.encode());
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(message) = self.queue.front() {
            match sys::socket::send(&self.socket, message) {
                Ok(()) => drop(self.queue.pop_front()),
                Err(e) if e.errno == Errno::EAGAIN => return,
                Err(_) => {
                    self.gone = true;
                    self.queue.clear();
                }
            }
        }
    }

    /// The messages that have arrived.
    fn take(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match sys::socket::recv(&self.socket) {
                Ok(Some(bytes)) => messages.extend(Message::decode(&bytes)),
                Ok(None) => {
                    self.gone = true;
                    return messages;
                }
                Err(e) if e.errno == Errno::EAGAIN => return messages,
                Err(_) => {
                    self.gone = true;
                    return messages;
                }
            }
        }
    }
}

/// The monitor's ends of a container's streams.
#[derive(Debug)]
pub struct Streams {
    /// Where output is kept.
    pub log: Option<Writer>,
    /// Stdin closes when its first client leaves.
    pub once: bool,
    /// The name server of its networks, if it is in some.
    pub service: Option<NameService>,
    /// The container's first process is no child of this monitor, which took over from one that
    /// was its parent.
    pub adopted: bool,
    /// When the monitor wants to be told, should the container live so long.
    pub due: Option<Instant>,
    names: PathBuf,
    input: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    close_input: bool,
    outputs: Vec<(OwnedFd, Stream)>,
    terminal: bool,
    /// Nothing has happened for [`REST_AFTER_MS`], and what memory could be given back was.
    at_rest: bool,
}

impl Streams {
    /// The outer ends of FIFOs; none yet for a terminal, which the container makes itself. `names`
    /// is the directory where they have names.
    pub fn new(outer: Outer, tty: bool, names: &Path) -> Streams {
        let mut streams = Streams {
            log: None,
            once: false,
            service: None,
            adopted: false,
            due: None,
            names: names.to_path_buf(),
            input: None,
            waiting: VecDeque::new(),
            close_input: false,
            outputs: Vec::new(),
            terminal: tty,
            at_rest: false,
        };
        streams.set_fifos(outer);
        streams
    }

    /// The outer ends of the container's FIFOs.
    pub fn set_fifos(&mut self, outer: Outer) {
        self.input = outer.stdin;
        let stdout = outer.stdout.map(|fd| (fd, Stream::Stdout));
        let stderr = outer.stderr.map(|fd| (fd, Stream::Stderr));
        self.outputs = stdout.into_iter().chain(stderr).collect();
    }

    /// The outer end of the container's terminal is both directions.
    pub fn set_terminal(&mut self, master: OwnedFd, open_stdin: bool) -> Result<()> {
        let what = "cannot use the terminal";
        poll::set_nonblocking(&master, true).context(what)?;
        if open_stdin {
            self.input = Some(master.try_clone().context(what)?);
        }
        self.outputs = vec![(master, Stream::Stdout)];
        Ok(())
    }

    /// Passes bytes until the program has ended: how it ended, or `None` when the kernel does not
    /// tell, because this monitor is not its parent and took over from one that was. `tell` gets what is
    /// meant for the monitor.
    pub fn serve(
        &mut self,
        launched: &Launched,
        listener: Option<&OwnedFd>,
        clients: &mut Vec<Client>,
        tell: &mut dyn FnMut(Said<'_>),
    ) -> Option<Exit> {
        loop {
            let mut wait = match &self.log {
                Some(log) if log.has_pending() => LINE_WAIT_MS,
                _ if self.at_rest => -1,
                _ => REST_AFTER_MS,
            };
            if let Some(due) = self.due {
                let left = due.saturating_duration_since(Instant::now()).as_millis();
                match i32::try_from(left) {
                    Ok(0) => {
                        self.due = None;
                        tell(Said::Due);
                    }
                    Ok(left) if wait < 0 || left < wait => wait = left,
                    _ => {}
                }
            }
            let word = &mut |word: &Message| tell(Said::Word(word));
            let ended = self.turn(Some(&launched.pidfd), listener, clients, word, wait);
            if !ended {
                continue;
            }
            // What a client said before the end counts: `stop` announces itself, then kills.
            self.turn(None, listener, clients, word, 0);
            loop {
                match sys::process::waitid_any() {
                    Ok(Some((pid, exit))) if pid == launched.pid => return Some(exit),
                    Ok(Some(_)) => {}
                    // Other children there may be: the watch over its health is one.
                    Ok(None) | Err(_) if self.adopted => return end_of_stranger(launched),
                    Ok(None) => break, // stopped or traced: its end comes later
                    Err(_) => return end_of_stranger(launched),
                }
            }
        }
    }

    /// Serves clients for a while without a container: the pause before a restart.
    pub fn pause(
        &mut self,
        ms: u64,
        listener: Option<&OwnedFd>,
        clients: &mut Vec<Client>,
        tell: &mut dyn FnMut(Said<'_>),
    ) {
        let until = Instant::now() + Duration::from_millis(ms);
        let mut stop = false;
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|_| !stop)
        {
            let mut hear = |message: &Message| {
                stop |= *message == Message::UserStop;
                tell(Said::Word(message));
            };
            self.turn(
                None,
                listener,
                clients,
                &mut hear,
                left.as_millis() as i32 + 1,
            );
        }
    }

    /// One round: waits, then does all that can be done. True when the program has ended.
    fn turn(
        &mut self,
        pidfd: Option<&OwnedFd>,
        listener: Option<&OwnedFd>,
        clients: &mut Vec<Client>,
        word: &mut dyn FnMut(&Message),
        wait: i32,
    ) -> bool {
        let slow = clients
            .iter()
            .any(|c| c.wants.output && !c.queue.is_empty());
        let full = self.waiting.len() >= INPUT_ROOM;
        let interest = |fd, read, write| Interest { fd, read, write };
        let mut asked = Vec::new();
        // Index by kind, in the order below: pidfd, listener, names, input, outputs, clients.
        asked.extend(pidfd.map(|fd| interest(fd.as_fd(), true, false)));
        asked.extend(listener.map(|fd| interest(fd.as_fd(), true, false)));
        let questions = self.service.as_ref().map(|n| n.interests());
        let questions = questions.unwrap_or_default();
        let server = questions.len();
        asked.extend(questions);
        asked.extend(
            self.input
                .iter()
                .map(|fd| interest(fd.as_fd(), false, !self.waiting.is_empty())),
        );
        asked.extend(
            self.outputs
                .iter()
                .filter(|_| !slow)
                .map(|(fd, _)| interest(fd.as_fd(), true, false)),
        );
        asked.extend(clients.iter().map(|c| {
            let hold = full && c.wants.input;
            interest(c.socket.as_fd(), !hold, !c.queue.is_empty())
        }));
        let wait = match self.service.as_ref().map_or(-1, NameService::wait) {
            -1 => wait,
            others if wait < 0 => others,
            others => wait.min(others),
        };
        let ready = match poll::poll(&asked, wait) {
            Ok(ready) => ready,
            Err(_) => return pidfd.is_some(), // out of memory: look at everything again
        };
        drop(asked);
        let quiet = ready.iter().all(|r| *r == Ready::default());
        if quiet && let Some(log) = &mut self.log {
            let _ = log.flush(Time::now()); // reported at the next write
        }
        if quiet && wait == REST_AFTER_MS {
            sys::memory::drop_code();
        }
        self.at_rest = quiet && wait == REST_AFTER_MS;
        let mut ready = ready.into_iter();
        let ended = pidfd.is_some() && ready.next().is_some_and(|r| r.readable);
        let incoming = listener.is_some() && ready.next().is_some_and(|r| r.readable);
        let questions: Vec<Ready> = ready.by_ref().take(server).collect();
        let input = if self.input.is_some() {
            ready.next()
        } else {
            None
        };
        if input.is_some_and(|r| r.writable || r.hangup) {
            self.write_input(input.is_some_and(|r| r.hangup));
        }
        if !slow {
            let states: Vec<Ready> = self
                .outputs
                .iter()
                .map(|_| ready.next().unwrap_or_default())
                .collect();
            // Stdout before stderr: what was printed before the error stands before it.
            let mut i = 0;
            for state in states {
                match (state.readable || state.hangup) && !self.pass_output(i, clients) {
                    true => drop(self.outputs.remove(i)),
                    false => i += 1,
                }
            }
        }
        for (client, state) in clients.iter_mut().zip(ready) {
            if state.writable {
                client.flush();
            }
            if state.readable || state.hangup {
                self.hear(client, word);
            }
        }
        if let Some(service) = &mut self.service {
            service.turn(&questions);
        }
        if incoming {
            while let Some(Ok(Some(socket))) = listener.map(sys::socket::accept) {
                let mut client = Client::new(socket, Wants::default());
                self.hear(&mut client, word); // its first words may have come with it
                clients.push(client);
            }
        }
        let leaving = clients.iter().any(|c| c.gone && c.wants.input);
        if leaving && self.once && !self.terminal {
            self.close_input = true;
        }
        clients.retain(|c| !c.gone);
        self.write_input(false);
        ended
    }

    fn hear(&mut self, client: &mut Client, word: &mut dyn FnMut(&Message)) {
        for message in client.take() {
            match message {
                Message::Attach(wants) => client.wants = wants,
                Message::Input(bytes) if client.wants.input => self.waiting.extend(bytes),
                Message::EndOfInput if client.wants.input && !self.terminal => {
                    self.close_input = true
                }
                Message::Resize(rows, columns) => {
                    if let Some((master, _)) = self.outputs.first().filter(|_| self.terminal) {
                        let _ = sys::tty::set_window_size(master, rows, columns); // it may be gone
                    }
                }
                other => word(&other),
            }
        }
    }

    fn write_input(&mut self, broken: bool) {
        let Some(fd) = &self.input else {
            self.waiting.clear();
            return;
        };
        let mut broken = broken && !self.terminal;
        while !self.waiting.is_empty() && !broken {
            let (front, _) = self.waiting.as_slices();
            match poll::write_some(fd, front) {
                Ok(n) => drop(self.waiting.drain(..n)),
                Err(e) if e.errno == Errno::EAGAIN => break,
                Err(_) => broken = true, // nobody will read it any more
            }
        }
        if broken || (self.close_input && self.waiting.is_empty()) {
            self.input = None;
            self.waiting.clear();
            if self.close_input {
                // Without a name, nobody who takes over opens it again: the end stays the end.
                let name = self.names.join("stdin");
                let _ = sys::fs::unlinkat(sys::fs::CWD, &name, 0); // may be gone; it is only a name
            }
        }
    }

    /// Reads one output once. False when it has ended.
    fn pass_output(&mut self, index: usize, clients: &mut [Client]) -> bool {
        let (fd, stream) = &self.outputs[index];
        let taken = match &mut self.log {
            Some(log) => log.take(*stream, fd, LARGEST),
            None => {
                let mut buffer = vec![0u8; LARGEST];
                let read = poll::read(fd, &mut buffer).map_err(|e| e.errno.into());
                read.map(|n| buffer[..n].to_vec())
            }
        };
        match taken {
            // A terminal whose other end nobody has open says EIO.
            Ok(data) if data.is_empty() => false,
            Ok(data) => {
                if let Some(log) = &mut self.log
                    && let Err(e) = log.write(*stream, &data, Time::now())
                {
                    self.log = None;
                    let text = format!("the log cannot be written any more: {e:#}");
                    clients
                        .iter_mut()
                        .for_each(|c| c.say(&Message::Trouble(text.clone())));
                }
                let message = match stream {
                    Stream::Stdout => Message::Stdout(data),
                    Stream::Stderr => Message::Stderr(data),
                };
                clients
                    .iter_mut()
                    .filter(|c| c.wants.output)
                    .for_each(|c| c.say(&message));
                true
            }
            Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    /// Reads what is still in the pipes after the end.
    pub fn read_rest(&mut self, clients: &mut [Client]) {
        for i in (0..self.outputs.len()).rev() {
            loop {
                let (fd, _) = &self.outputs[i];
                let asked = [Interest {
                    fd: fd.as_fd(),
                    read: true,
                    write: false,
                }];
                let more = poll::poll(&asked, 0).is_ok_and(|r| r[0].readable);
                if !more || !self.pass_output(i, clients) {
                    break;
                }
            }
        }
        self.outputs.clear();
        if let Some(log) = &mut self.log {
            let _ = log.flush(Time::now()); // the container has ended; nobody is left to tell
        }
    }
}

/// How a process has ended that is not our child: its new parent reaps it, then the kernel tells
/// whoever holds a pidfd (Linux 6.15). A parent that takes its time is not waited for where /proc
/// tells of the zombie; there 0 may also mean that we may not know, unless we are root.
fn end_of_stranger(launched: &Launched) -> Option<Exit> {
    let root = nix::unistd::geteuid().is_root();
    for _ in 0..2000 {
        match sys::process::pidfd_exit(&launched.pidfd) {
            Ok(None) => {}
            told => return told.ok().flatten(),
        }
        // Not reaped at the moment of the call above, so the number was still its own.
        let zombie = process::stat(launched.pid).filter(process::is_dead);
        match zombie.and_then(|stat| stat.exit_code) {
            Some(status) if root || status != 0 => return Some(Exit::of_wait(status)),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    None
}

/// Waits until the clients have taken everything; one that takes nothing for a minute is left.
pub fn drain(clients: &mut Vec<Client>) {
    loop {
        clients.iter_mut().for_each(Client::flush);
        clients.retain(|c| !c.gone && !c.queue.is_empty());
        if clients.is_empty() {
            return;
        }
        let asked: Vec<Interest<'_>> = clients
            .iter()
            .map(|c| Interest {
                fd: c.socket.as_fd(),
                read: false,
                write: true,
            })
            .collect();
        match poll::poll(&asked, 60_000) {
            Ok(ready) if ready.iter().any(|r| r.writable || r.hangup) => {}
            _ => return,
        }
    }
}

/// From here on nothing of the caller's terminal or pipes is held open.
pub fn quiet() -> Result<()> {
    let null = sys::fs::open("/dev/null", libc::O_RDWR, 0).context("cannot open /dev/null")?;
    for stream in 0..=2 {
        sys::process::dup2_stdio(&null, stream).context("cannot let the caller's streams go")?;
    }
    Ok(())
}
