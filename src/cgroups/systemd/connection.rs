//! A conversation with systemd: a socket, who we are, calls and what they set off.
//!
//! What it does: systemd listens on a private socket beside its place on the message bus, where it
//! answers root, or the user whose manager it is, without a bus in between. A call that starts or
//! stops a unit makes a job; its end is told to all who are connected.
//!
//! ```text
//!   us    \0 AUTH EXTERNAL 30 BEGIN        who we are: the user id's digits, each in hexadecimal
//!   them  OK ID                            the kernel has told them the same (SO_PEERCRED)
//!   us    StartTransientUnit(…)            wire.rs
//!   them  reply: /org/…/job/7
//!   them  signal JobRemoved(7, …, done)
//! ```
//!
//! What it implements: the D-Bus specification, "Authentication Protocol"; org.freedesktop.systemd1(5).
//! Interface: [`Connection`]. Read next: `actions.rs`.

use super::wire::{self, Message, Property, Value, Writer};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{self, poll::Interest};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long systemd is given for an answer or a job.
const PATIENCE: Duration = Duration::from_secs(30);
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A connection to a manager.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    came: Vec<u8>,
    serial: u32,
    /// Jobs that have ended, and how: (path, result).
    ended: Vec<(String, String)>,
}

/// Why systemd did not do it.
#[derive(Debug)]
pub enum Refusal {
    /// It said so: the last part of the error's name, and its words.
    Said(String, String),
    /// It could not be asked.
    Lost(Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Said(name, words) => Error::new(format!("systemd says {name}: {words}")),
            Refusal::Lost(error) => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Lost(error)
    }
}

type Answer = std::result::Result<Message, Refusal>;

impl Connection {
    /// Connects and says who we are. Errors: nobody listens there; it does not believe us.
    pub fn open(path: &Path) -> Result<Connection> {
        let what = || format!("cannot talk to systemd over {}", path.display());
        let socket = sys::socket::connect_stream(path).with_context(what)?;
        let mut connection = Connection {
            socket,
            came: Vec::new(),
            serial: 0,
            ended: Vec::new(),
        };
        connection.authenticate().with_context(what)?;
        Ok(connection)
    }

    fn authenticate(&mut self) -> Result<()> {
        let id = outer_uid().to_string();
        let digits: String = id.bytes().map(|b| format!("{b:02x}")).collect();
        // All of it at once, and what comes next only after the answer: a message that systemd reads
        // together with BEGIN lies there until more comes.
        let hello = format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n");
        sys::socket::send(&self.socket, hello.as_bytes())?;
        let until = Instant::now() + PATIENCE;
        let line = loop {
            if let Some(end) = self.came.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.came.drain(..end + 2).collect();
                break String::from_utf8_lossy(&line[..end]).into_owned();
            }
            self.receive(until)?;
        };
        if !line.starts_with("OK") {
            return Err(Error::new(format!("it does not know user {id}: {line}")));
        }
        Ok(())
    }

    /// Waits for more bytes.
    fn receive(&mut self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let interest = Interest {
            fd: self.socket.as_fd(),
            read: true,
            write: false,
        };
        let ready = sys::poll::poll(&[interest], left.as_millis() as i32)?;
        if !ready.iter().any(|r| r.readable || r.hangup) {
            return Err(Error::new(format!(
                "systemd has not answered for {} seconds",
                PATIENCE.as_secs()
            )));
        }
        match sys::socket::recv(&self.socket)? {
            Some(bytes) => self.came.extend(bytes),
            None => return Err(Error::new("systemd has closed the connection")),
        }
        Ok(())
    }

    /// The next message that came. The end of a job is noted on the way.
    fn next(&mut self, until: Instant) -> Result<Message> {
        loop {
            if let Some((message, length)) = Message::first(&self.came)? {
                self.came.drain(..length);
                if message.kind == wire::SIGNAL && message.member == "JobRemoved" {
                    let mut body = message.body();
                    body.u32()?;
                    let (job, _, result) = (body.text()?, body.text()?, body.text()?);
                    self.ended.push((job, result));
                }
                return Ok(message);
            }
            self.receive(until)?;
        }
    }

    /// Calls a method and waits for its answer. With `words` the call changes something, and they
    /// say in the record what.
    fn call(
        &mut self,
        object: &str,
        interface: &str,
        member: &str,
        (signature, body): (&str, Writer),
        words: Option<&str>,
    ) -> Answer {
        self.serial += 1;
        let serial = self.serial;
        let message = wire::call(serial, object, interface, member, signature, body);
        match words {
            Some(words) => sys::socket::request(&self.socket, &message, words),
            None => sys::socket::send(&self.socket, &message),
        }
        .map_err(Error::from)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let message = self.next(until)?;
            match message.kind {
                wire::REPLY if message.answers == serial => return Ok(message),
                wire::ERROR if message.answers == serial => {
                    let name = message.error.rsplit('.').next().unwrap_or_default();
                    let text = message.body().text().unwrap_or_default();
                    return Err(Refusal::Said(name.into(), text));
                }
                _ => {}
            }
        }
    }

    /// Calls a method of the manager itself.
    fn manage(&mut self, member: &str, arguments: (&str, Writer), words: Option<&str>) -> Answer {
        self.call(OBJECT, MANAGER, member, arguments, words)
    }

    /// Waits until a job has ended, as it must: `done`. Errors: it ended otherwise.
    fn wait_for(&mut self, job: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| path == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Error::new(format!("the job of systemd ended as {other:?}"))),
                };
            }
            self.next(until)?;
        }
    }

    /// `StartTransientUnit`: makes a unit and waits until it is active.
    pub fn start_transient_unit(
        &mut self,
        name: &str,
        properties: &[Property],
        words: &str,
    ) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        body.text("replace");
        body.properties(properties);
        body.no_structs(); // auxiliary units
        let arguments = ("ssa(sv)a(sa(sv))", body);
        let reply = self.manage("StartTransientUnit", arguments, Some(words))?;
        let job = reply.body().text()?;
        Ok(self.wait_for(&job)?)
    }

    /// `SetUnitProperties`, until the next boot.
    pub fn set_unit_properties(
        &mut self,
        name: &str,
        properties: &[Property],
        words: &str,
    ) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        body.bool(true);
        body.properties(properties);
        let arguments = ("sba(sv)", body);
        self.manage("SetUnitProperties", arguments, Some(words))
            .map(drop)
    }

    /// `StopUnit`: ends what runs in a unit and waits until it is gone. One that does not exist is no
    /// error.
    pub fn stop_unit(&mut self, name: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(name);
        body.text("replace");
        let words = format!("systemd, StopUnit({name})");
        match self.manage("StopUnit", ("ss", body), Some(&words)) {
            Ok(reply) => {
                let job = reply.body().text()?;
                self.wait_for(&job)
            }
            Err(Refusal::Said(name, _)) if name == "NoSuchUnit" => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// `ResetFailedUnit`: systemd forgets a unit that has failed. One that is not there is no error.
    pub fn reset_failed_unit(&mut self, name: &str) -> Result<()> {
        let mut body = Writer::default();
        body.text(name);
        let words = format!("systemd, ResetFailedUnit({name})");
        match self.manage("ResetFailedUnit", ("s", body), Some(&words)) {
            Err(Refusal::Lost(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn property(&mut self, object: &str, interface: &str, name: &str) -> Result<Value> {
        let mut body = Writer::default();
        body.text(interface);
        body.text(name);
        let properties = "org.freedesktop.DBus.Properties";
        let reply = self.call(object, properties, "Get", ("ss", body), None);
        reply.map_err(Error::from)?.body().variant()
    }

    /// A property of the manager itself.
    pub fn of_manager(&mut self, name: &str) -> Result<Value> {
        self.property(OBJECT, MANAGER, name)
    }

    /// A property of a scope. Errors: kind [`Kind::NotFound`] when there is no such unit.
    pub fn of_scope(&mut self, unit: &str, name: &str) -> Result<Value> {
        // Asking for the property of a unit by its path would make systemd look for the unit.
        let mut body = Writer::default();
        body.text(unit);
        let object = match self.manage("GetUnit", ("s", body), None) {
            Ok(reply) => reply.body().text()?,
            Err(Refusal::Said(..)) => {
                return Err(Error::kind(
                    Kind::NotFound,
                    format!("there is no unit {unit}"),
                ));
            }
            Err(Refusal::Lost(error)) => return Err(error),
        };
        self.property(&object, "org.freedesktop.systemd1.Scope", name)
    }
}

/// Our user id as processes outside of our user namespace see it, which systemd is one of: an engine
/// that an ordinary user runs is root in a namespace of its own.
fn outer_uid() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    mapped(own, &map)
}

fn mapped(own: u32, map: &str) -> u32 {
    let outer = |line: &str| {
        let numbers: Option<Vec<u32>> = line.split_whitespace().map(|n| n.parse().ok()).collect();
        match numbers?[..] {
            [inside, outside, count] if own >= inside && own - inside < count => {
                Some(outside + (own - inside))
            }
            _ => None,
        }
    };
    map.lines().find_map(outer).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::super::wire::{ERROR, REPLY, SIGNAL, answer};
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    const JOB: &str = "/org/freedesktop/systemd1/job/7";

    fn text(text: &str) -> Writer {
        let mut body = Writer::default();
        body.text(text);
        body
    }

    fn removed(job: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.u32(7);
        [job, "x.scope", result].iter().for_each(|t| body.text(t));
        answer(SIGNAL, 0, "JobRemoved", "uoss", body)
    }

    /// Reads the next call: its name.
    fn called(stream: &mut UnixStream, came: &mut Vec<u8>) -> Option<String> {
        loop {
            if let Some((message, length)) = Message::first(came).expect("a message") {
                came.drain(..length);
                return Some(message.member);
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).expect("the socket") {
                0 => return None,
                n => came.extend(&buffer[..n]),
            }
        }
    }

    /// One who listens where systemd would, takes everybody at his word and answers each call with
    /// the next of these.
    fn imitate(answers: Vec<(&'static str, Vec<u8>)>) -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("private");
        let listener = UnixListener::bind(&path).expect("a socket");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut hello = Vec::new();
            while !hello.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a greeting");
                hello.push(byte[0]);
            }
            assert!(hello.starts_with(b"\0AUTH EXTERNAL "), "{hello:?}");
            stream.write_all(b"OK 0123\r\n").expect("an answer");
            let mut begin = [0; 7];
            stream.read_exact(&mut begin).expect("the beginning");
            assert_eq!(&begin, b"BEGIN\r\n");
            let mut came = Vec::new();
            for (name, answer) in answers {
                assert_eq!(called(&mut stream, &mut came).as_deref(), Some(name));
                // In pieces: a stream keeps no boundaries.
                for piece in answer.chunks(13) {
                    let _ = stream.write_all(piece);
                }
            }
        });
        let connection = Connection::open(&path).expect("a conversation");
        (dir, connection)
    }

    #[test]
    fn a_unit_is_started_when_its_job_is_done() {
        let started = [
            answer(SIGNAL, 0, "UnitNew", "s", text("x.scope")),
            // Even before the call is answered.
            removed("/org/freedesktop/systemd1/job/6", "failed"),
            answer(REPLY, 1, "", "o", text(JOB)),
            removed(JOB, "done"),
        ];
        let (_dir, mut systemd) = imitate(vec![
            ("StartTransientUnit", started.concat()),
            (
                "StopUnit",
                [answer(REPLY, 2, "", "o", text(JOB)), removed(JOB, "done")].concat(),
            ),
        ]);
        let properties = [("Slice".to_string(), Value::Text("system.slice".into()))];
        systemd
            .start_transient_unit("x.scope", &properties, "x")
            .unwrap();
        systemd.stop_unit("x.scope").unwrap();
    }

    #[test]
    fn refusals_are_told_and_what_is_gone_is_stopped() {
        let (_dir, mut systemd) = imitate(vec![
            (
                "StartTransientUnit",
                answer(ERROR, 1, "UnitExists", "s", text("it is there")),
            ),
            (
                "StopUnit",
                answer(ERROR, 2, "NoSuchUnit", "s", text("it is not")),
            ),
            (
                "GetUnit",
                answer(ERROR, 3, "NoSuchUnit", "s", text("it is not")),
            ),
            (
                "StartTransientUnit",
                [
                    answer(REPLY, 4, "", "o", text(JOB)),
                    removed(JOB, "timeout"),
                ]
                .concat(),
            ),
        ]);
        match systemd.start_transient_unit("x.scope", &[], "x") {
            Err(Refusal::Said(name, words)) => {
                assert_eq!(
                    (name.as_str(), words.as_str()),
                    ("UnitExists", "it is there")
                );
            }
            other => panic!("{other:?}"),
        }
        systemd.stop_unit("x.scope").unwrap();
        let none = systemd.of_scope("x.scope", "Slice").unwrap_err();
        assert_eq!(none.get_kind(), Kind::NotFound);
        let failed = systemd.start_transient_unit("x.scope", &[], "x");
        let failed = Error::from(failed.unwrap_err()).to_string();
        assert!(failed.contains("timeout"), "{failed}");
        // Now it has gone away.
        let lost = systemd.of_manager("Version").unwrap_err();
        assert!(!format!("{lost:#}").is_empty());
    }

    #[test]
    fn the_user_is_named_as_seen_from_outside() {
        let all = "         0          0 4294967295\n";
        assert_eq!(mapped(0, all), 0);
        assert_eq!(mapped(1000, all), 1000);
        let podmans = "0 1000 1\n1 100000 65536\n";
        assert_eq!(mapped(0, podmans), 1000);
        assert_eq!(mapped(3, podmans), 100_002);
    }
}
