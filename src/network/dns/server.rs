//! The server's sockets: questions in, answers out, other people's questions to the resolvers.
//!
//! What it does: everything without waiting. A question for a resolver becomes an [`Ask`] with a
//! socket of its own (a port that nobody can foresee, as RFC 5452 wants) and a deadline; its answer
//! goes back to whoever asked. A question that came over UDP is passed on over UDP: an answer that is
//! too long comes back cut, and the program asks again over TCP, which is passed on over TCP.
//!
//! What it implements: RFC 1035 4.2 (transport), RFC 7766 (several questions in one connection).
//! Interface: [`open`], [`Sockets`], [`Server`]. Read next: `containers/name_service.rs`, its caller.

use super::answer::{self, Verdict};
use super::{ADDRESS, PORT, Zone};
use crate::error::{Context, Result};
use crate::sys;
use crate::sys::poll::{Interest, Ready};
use simple_dns::RCODE;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long one resolver may take. The C library gives up after five seconds, and asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(20);
/// Questions that wait for resolvers: each has a descriptor.
const MOST_ASKS: usize = 128;
/// Connections at one time.
const MOST_CLIENTS: usize = 32;
/// Messages that are taken in one turn.
const BURST: usize = 32;

/// The two sockets of a name server, of whatever namespace they were made in.
#[derive(Debug)]
pub struct Sockets {
    /// UDP.
    pub udp: OwnedFd,
    /// TCP, listening.
    pub tcp: OwnedFd,
}

/// Makes the sockets, in the network namespace of the caller, whose loopback is up. Errors: the
/// port is taken, or may not be bound.
pub fn open() -> Result<Sockets> {
    let what = || format!("cannot open a name server on {ADDRESS}:{PORT}");
    let address = SocketAddr::from((ADDRESS, PORT));
    Ok(Sockets {
        udp: sys::inet::bind_udp(address).with_context(what)?,
        tcp: sys::inet::listen_tcp(address).with_context(what)?,
    })
}

/// Who asked.
#[derive(Debug, Clone, Copy)]
enum From {
    Udp(SocketAddr),
    Tcp(u64),
}

/// One connection.
#[derive(Debug)]
struct Client {
    number: u64,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// It will send no more.
    ended: bool,
    broken: bool,
    until: Instant,
}

/// One question that a resolver was asked.
#[derive(Debug)]
struct Ask {
    from: From,
    query: Vec<u8>,
    number: u16,
    /// Those that are asked when this one does not answer.
    others: VecDeque<SocketAddr>,
    wire: Wire,
    until: Instant,
}

#[derive(Debug)]
enum Wire {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        output: Vec<u8>,
        input: Vec<u8>,
    },
    /// None could be reached.
    None,
}

/// A name server between polls.
#[derive(Debug)]
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    clients: Vec<Client>,
    asks: Vec<Ask>,
    turn: usize,
    connections: u64,
}

impl Server {
    /// Serves these sockets.
    pub fn new(sockets: Sockets) -> Server {
        Server {
            udp: sockets.udp.into(),
            tcp: sockets.tcp.into(),
            clients: Vec::new(),
            asks: Vec::new(),
            turn: 0,
            connections: 0,
        }
    }

    /// What is waited for; [`turn`](Self::turn) takes the answers in the same order.
    pub fn interests(&self) -> Vec<Interest<'_>> {
        let interest = |fd, read, write| Interest { fd, read, write };
        let mut all = vec![
            interest(self.udp.as_fd(), true, false),
            interest(self.tcp.as_fd(), self.clients.len() < MOST_CLIENTS, false),
        ];
        for client in &self.clients {
            // Who does not take its answers is not asked for more.
            let read = !client.ended && client.output.is_empty();
            let write = !client.output.is_empty();
            all.push(interest(client.stream.as_fd(), read, write));
        }
        for ask in &self.asks {
            match &ask.wire {
                Wire::Udp(socket) => all.push(interest(socket.as_fd(), true, false)),
                Wire::Tcp { stream, output, .. } => all.push(interest(
                    stream.as_fd(),
                    output.is_empty(),
                    !output.is_empty(),
                )),
                Wire::None => {}
            }
        }
        all
    }

    /// How long poll may wait, in ms: until somebody's time is over; `None` when nobody's runs.
    pub fn wait(&self) -> Option<i32> {
        let asks = self.asks.iter().map(|a| a.until);
        let next = asks.chain(self.clients.iter().map(|c| c.until)).min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(left.as_millis() as i32 + 1)
    }

    /// Does what can be done. `ready` answers [`interests`](Self::interests); `zone` is asked once
    /// where there is a question.
    pub fn turn(&mut self, ready: &[Ready], zone: &mut dyn FnMut() -> Zone) {
        let mut ready = ready.iter().copied();
        let mut next = || ready.next().unwrap_or_default();
        let (udp, tcp) = (next(), next());
        let clients: Vec<Ready> = self.clients.iter().map(|_| next()).collect();
        let asks: Vec<Ready> = self.asks.iter().map(|_| next()).collect();
        let mut known = None;
        let mut zone = || known.get_or_insert_with(&mut *zone).clone();

        self.hear_resolvers(&asks);
        for (i, state) in clients.iter().enumerate() {
            self.hear_client(i, *state, &mut zone);
        }
        if udp.readable {
            self.hear_udp(&mut zone);
        }
        if tcp.readable {
            self.welcome();
        }
        let now = Instant::now();
        let waiting = |number| {
            let asked = |a: &Ask| matches!(a.from, From::Tcp(n) if n == number);
            self.asks.iter().any(asked)
        };
        let keep: Vec<bool> = self
            .clients
            .iter()
            .map(|c| {
                let busy = !c.output.is_empty() || waiting(c.number);
                !c.broken && now < c.until && (!c.ended || busy)
            })
            .collect();
        let mut keep = keep.into_iter();
        self.clients.retain(|_| keep.next().unwrap_or(true));
    }

    fn hear_udp(&mut self, zone: &mut dyn FnMut() -> Zone) {
        let mut buffer = [0u8; 4096];
        for _ in 0..BURST {
            match self.udp.recv_from(&mut buffer) {
                Ok((n, from)) => self.question(From::Udp(from), &buffer[..n], zone),
                // Somebody did not wait for an earlier answer, or there is nothing more.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self) {
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = self.tcp.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.connections += 1;
            self.clients.push(Client {
                number: self.connections,
                stream,
                input: Vec::new(),
                output: Vec::new(),
                ended: false,
                broken: false,
                until: Instant::now() + IDLE,
            });
        }
    }

    fn hear_client(&mut self, index: usize, state: Ready, zone: &mut dyn FnMut() -> Zone) {
        let client = &mut self.clients[index];
        if state.writable {
            client.flush();
        }
        if !state.readable && !state.hangup {
            return;
        }
        let mut buffer = [0u8; 4096];
        match client.stream.read(&mut buffer) {
            Ok(0) => client.ended = true,
            Ok(n) => {
                client.input.extend(&buffer[..n]);
                client.until = Instant::now() + IDLE;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => client.broken = true,
        }
        let number = client.number;
        while let Some(query) = message(&mut self.clients[index].input) {
            self.question(From::Tcp(number), &query, zone);
        }
    }

    fn question(&mut self, from: From, query: &[u8], zone: &mut dyn FnMut() -> Zone) {
        let zone = zone();
        let over_udp = matches!(from, From::Udp(_));
        match answer::answer(query, &zone, over_udp, &mut self.turn) {
            Verdict::Reply(reply) => self.reply(from, &reply),
            Verdict::Drop => {}
            Verdict::Forward if self.asks.len() >= MOST_ASKS => self.fail(from, query),
            Verdict::Forward => {
                let mut ask = Ask {
                    from,
                    query: query.to_vec(),
                    number: 0,
                    others: zone.upstreams.into(),
                    wire: Wire::None,
                    until: Instant::now(),
                };
                match ask.go_on() {
                    true => self.asks.push(ask),
                    false => self.fail(from, query),
                }
            }
        }
    }

    /// Nobody answers: the C library takes that for a reason to ask again later.
    fn fail(&mut self, from: From, query: &[u8]) {
        self.reply(from, &answer::failure(query, RCODE::ServerFailure));
    }

    fn reply(&mut self, from: From, reply: &[u8]) {
        match from {
            From::Udp(address) => {
                let _ = self.udp.send_to(reply, address); // lost like any datagram; it asks again
            }
            From::Tcp(number) => {
                let asked = |c: &&mut Client| c.number == number;
                if let Some(client) = self.clients.iter_mut().find(asked) {
                    let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
                    client.output.extend(length.to_be_bytes());
                    client.output.extend(&reply[..length.into()]);
                    client.flush();
                }
            }
        }
    }

    fn hear_resolvers(&mut self, ready: &[Ready]) {
        let now = Instant::now();
        let mut kept = Vec::new();
        for (i, mut ask) in std::mem::take(&mut self.asks).into_iter().enumerate() {
            let state = ready.get(i).copied().unwrap_or_default();
            let heard = match state == Ready::default() {
                true => Heard::Nothing,
                false => ask.hear(),
            };
            match heard {
                Heard::Answer(reply) => {
                    self.reply(ask.from, &reply);
                    continue;
                }
                Heard::Nothing if now < ask.until => {}
                Heard::Nothing | Heard::Failure if ask.go_on() => {}
                Heard::Nothing | Heard::Failure => {
                    self.fail(ask.from, &ask.query);
                    continue;
                }
            }
            kept.push(ask);
        }
        self.asks = kept;
    }
}

impl Client {
    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => self.broken = true,
                Ok(n) => {
                    self.output.drain(..n);
                    self.until = Instant::now() + IDLE;
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.broken = true,
            }
            return;
        }
    }
}

/// What came from a resolver.
enum Heard {
    Nothing,
    Answer(Vec<u8>),
    Failure,
}

impl Ask {
    /// Asks the next resolver. False when there is none.
    fn go_on(&mut self) -> bool {
        while let Some(server) = self.others.pop_front() {
            // A number that only who sees the question can know.
            self.number = random();
            let mut query = self.query.clone();
            query[..2].copy_from_slice(&self.number.to_be_bytes());
            let wire = match self.from {
                From::Udp(_) => udp_to(server, &query).map(Wire::Udp),
                From::Tcp(_) => tcp_to(server, &query),
            };
            if let Some(wire) = wire {
                self.wire = wire;
                self.until = Instant::now() + PATIENCE;
                return true;
            }
        }
        self.wire = Wire::None;
        false
    }

    fn hear(&mut self) -> Heard {
        let reply = match &mut self.wire {
            Wire::None => return Heard::Failure,
            Wire::Udp(socket) => {
                let mut buffer = vec![0u8; usize::from(u16::MAX)];
                match socket.recv(&mut buffer) {
                    Ok(n) => buffer[..n].to_vec(),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Heard::Nothing,
                    Err(_) => return Heard::Failure, // refused: nobody listens there
                }
            }
            Wire::Tcp {
                stream,
                output,
                input,
            } => {
                if !output.is_empty() {
                    if sys::inet::take_error(&*stream).is_err() {
                        return Heard::Failure;
                    }
                    match stream.write(output) {
                        Ok(n) => drop(output.drain(..n)),
                        Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => return Heard::Failure,
                    }
                    return Heard::Nothing;
                }
                let mut buffer = [0u8; 4096];
                match stream.read(&mut buffer) {
                    Ok(0) => return Heard::Failure,
                    Ok(n) => input.extend(&buffer[..n]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return Heard::Failure,
                }
                match message(input) {
                    Some(reply) => reply,
                    None => return Heard::Nothing,
                }
            }
        };
        if !answer::answers(&reply, &self.query, self.number) {
            return Heard::Nothing;
        }
        if answer::is_failure(&reply) && !self.others.is_empty() {
            return Heard::Failure;
        }
        let mut reply = reply;
        reply[..2].copy_from_slice(&self.query[..2]);
        Heard::Answer(reply)
    }
}

fn udp_to(server: SocketAddr, query: &[u8]) -> Option<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(server).ok()?;
    socket.send(query).ok()?;
    Some(socket)
}

fn tcp_to(server: SocketAddr, query: &[u8]) -> Option<Wire> {
    let stream = TcpStream::from(sys::inet::connect_tcp(server).ok()?);
    let length = u16::try_from(query.len()).ok()?;
    Some(Wire::Tcp {
        stream,
        output: [&length.to_be_bytes()[..], query].concat(),
        input: Vec::new(),
    })
}

/// Takes one whole message out of what has come over a connection: two bytes say how long it is.
/// One that is shorter than a header is dropped by who reads it.
fn message(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_be_bytes([*input.first()?, *input.get(1)?]));
    if input.len() < 2 + length {
        return None;
    }
    let message = input[2..2 + length].to_vec();
    input.drain(..2 + length);
    Some(message)
}

fn random() -> u16 {
    let mut bytes = [0u8; 2];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    if read.is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        bytes = (now.map_or(0, |t| t.subsec_nanos()) as u16).to_le_bytes();
    }
    u16::from_le_bytes(bytes)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
