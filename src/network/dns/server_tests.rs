//! The server on unprivileged ports of the loopback, turned by hand: no thread, no waiting.

use super::super::Entry;
use super::*;
use simple_dns::{CLASS, Name, Packet, Question, TYPE};

/// A server, its addresses, and what it knows: `db`, and whom it asks.
struct Case {
    server: Server,
    udp: SocketAddr,
    tcp: SocketAddr,
    zone: Zone,
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Case {
    fn new(upstreams: Vec<SocketAddr>) -> Case {
        let server = Server::new(Sockets {
            udp: sys::inet::bind_udp(anywhere()).unwrap(),
            tcp: sys::inet::listen_tcp(anywhere()).unwrap(),
        });
        let db = Entry {
            network: "back".into(),
            names: vec!["db".into()],
            addresses: vec![Ipv4Addr::new(172, 18, 0, 2).into()],
        };
        Case {
            udp: server.udp.local_addr().unwrap(),
            tcp: server.tcp.local_addr().unwrap(),
            server,
            zone: Zone {
                entries: vec![db],
                upstreams,
            },
        }
    }
    /// Turns until `done` has something.
    fn until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = sys::poll::poll(&self.server.interests(), 20).unwrap();
            let zone = self.zone.clone();
            self.server.turn(&ready, &mut || zone.clone());
            if let Some(found) = done() {
                return found;
            }
            assert!(Instant::now() < end, "nothing came");
        }
    }
    fn over_udp(&mut self, query: &[u8]) -> Vec<u8> {
        let socket = udp_to(self.udp, query).unwrap();
        self.until(|| receive(&socket).map(|(bytes, _)| bytes))
    }
    fn over_tcp(&mut self, queries: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_nonblocking(true).unwrap();
        for query in queries {
            let length = (query.len() as u16).to_be_bytes();
            stream.write_all(&[&length[..], query].concat()).unwrap();
        }
        let (mut input, mut found) = (Vec::new(), Vec::new());
        self.until(|| {
            let mut buffer = [0; 4096];
            if let Ok(n) = stream.read(&mut buffer) {
                input.extend(&buffer[..n]);
            }
            found.extend(message(&mut input));
            (found.len() == queries.len()).then(|| found.clone())
        })
    }
}

fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 4096];
    let (n, from) = socket.recv_from(&mut buffer).ok()?;
    Some((buffer[..n].to_vec(), from))
}

fn query(name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(99);
    let name = Name::new(name).unwrap();
    let question = Question::new(name, TYPE::A.into(), CLASS::IN.into(), false);
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

/// A resolver's answer: no such name.
fn no_such_name(query: &[u8]) -> Vec<u8> {
    answer::failure(query, RCODE::NameError)
}

fn code(reply: &[u8]) -> (u8, usize) {
    let packet = Packet::parse(reply).unwrap();
    assert_eq!(packet.id(), 99);
    (reply[3] & 0xf, packet.answers.len())
}

#[test]
fn a_name_of_ours_is_answered_over_both_and_several_in_one_connection() {
    let mut case = Case::new(Vec::new());
    assert_eq!(code(&case.over_udp(&query("db"))), (0, 1));
    let (one, other) = (query("db"), query("elsewhere"));
    let both = case.over_tcp(&[&one, &other]);
    assert_eq!((code(&both[0]), code(&both[1])), ((0, 1), (2, 0)));
    assert_eq!(code(&case.over_udp(&query("elsewhere"))), (2, 0));
}

#[test]
fn the_next_resolver_is_asked_when_one_refuses_or_fails_and_its_answer_is_passed_on() {
    let silent = UdpSocket::bind(anywhere()).unwrap();
    let nobody = silent.local_addr().unwrap();
    drop(silent); // nobody listens there now
    let failing = UdpSocket::from(sys::inet::bind_udp(anywhere()).unwrap());
    let knowing = UdpSocket::from(sys::inet::bind_udp(anywhere()).unwrap());
    let places = [&failing, &knowing].map(|s| s.local_addr().unwrap());
    let mut case = Case::new(vec![nobody, places[0], places[1]]);
    let socket = udp_to(case.udp, &query("www.example")).unwrap();
    let reply = case.until(|| {
        if let Some((asked, from)) = receive(&failing) {
            let reply = answer::failure(&asked, RCODE::ServerFailure);
            failing.send_to(&reply, from).unwrap();
        }
        if let Some((asked, from)) = receive(&knowing) {
            // Somebody else's answer first: it is not believed.
            let mut forged = no_such_name(&asked);
            forged[0] ^= 0xff;
            knowing.send_to(&forged, from).unwrap();
            knowing.send_to(&no_such_name(&asked), from).unwrap();
        }
        receive(&socket).map(|(bytes, _)| bytes)
    });
    assert_eq!(code(&reply), (3, 0));
    assert!(case.server.asks.is_empty());
}

#[test]
fn a_question_over_tcp_is_passed_on_over_tcp() {
    let resolver = TcpListener::from(sys::inet::listen_tcp(anywhere()).unwrap());
    let mut case = Case::new(vec![resolver.local_addr().unwrap()]);
    let mut stream = TcpStream::connect(case.tcp).unwrap();
    stream.set_nonblocking(true).unwrap();
    let asked = query("www.example");
    let length = (asked.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], &asked].concat()).unwrap();
    let (mut peer, mut input, mut output) = (None, Vec::new(), Vec::new());
    let reply = case.until(|| {
        let mut buffer = [0; 4096];
        if let Ok((accepted, _)) = resolver.accept() {
            accepted.set_nonblocking(true).unwrap();
            peer = Some(accepted);
        }
        if let Some(peer) = &mut peer {
            if let Ok(n) = peer.read(&mut buffer) {
                input.extend(&buffer[..n]);
            }
            if let Some(query) = message(&mut input) {
                let reply = no_such_name(&query);
                let length = (reply.len() as u16).to_be_bytes();
                peer.write_all(&[&length[..], &reply].concat()).unwrap();
            }
        }
        if let Ok(n) = stream.read(&mut buffer) {
            output.extend(&buffer[..n]);
        }
        message(&mut output)
    });
    assert_eq!(code(&reply), (3, 0));
    drop(stream);
    case.until(|| Some(()));
    case.until(|| Some(()));
    assert!(case.server.asks.is_empty());
}
