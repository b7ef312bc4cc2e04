//! Names of hosts: /etc/hosts, then DNS.
//!
//! What it does: looks names up itself. The C library would load the host's name service modules
//! into the program, which a static binary must not do.
//!
//! What it implements: hosts(5), resolv.conf(5) (`nameserver`, `search`), RFC 1035 over UDP and,
//! for long answers, TCP. Interface: [`Names`]. Read next: `mod.rs`.

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long one name server may take; each is asked twice.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks names up.
#[derive(Debug, Default)]
pub struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("http") => 80,
            _ => 443,
        });
        let mut found = self.empty();
        for address in look_up(host)?.into_iter().take(16) {
            found.push(SocketAddr::new(address, port));
        }
        match found.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(found),
        }
    }
}

/// The addresses of a host. Empty: nobody knows it.
fn look_up(host: &str) -> std::io::Result<Vec<IpAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(vec![ip]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = in_hosts(&hosts, bare);
    if !known.is_empty() {
        return Ok(known);
    }
    // RFC 6761: these never leave the machine.
    if bare == "localhost" || bare.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (servers, search) = resolv_conf(&conf);
    let mut names = vec![bare.to_string()];
    if !bare.contains('.') {
        names.splice(0..0, search.iter().map(|s| format!("{bare}.{s}")));
    }
    let mut failure = None;
    for name in names {
        for server in servers.iter().chain(&servers) {
            match ask(*server, &name) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => break,
                Err(e) => failure = Some(e),
            }
        }
    }
    failure.map_or(Ok(vec![]), Err)
}

/// The addresses that a hosts file gives a name.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|w| w.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect()
}

/// Name servers and search domains; without any, the machine's own server.
fn resolv_conf(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
            }
            Some("search" | "domain") => search = words.map(String::from).collect(),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers.truncate(3);
    (servers, search)
}

/// Asks one server for both kinds of addresses, IPv4 first: it works in more places.
fn ask(server: IpAddr, host: &str) -> std::io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for kind in [TYPE::A, TYPE::AAAA] {
        found.extend(question(server, host, kind)?);
    }
    Ok(found)
}

fn question(server: IpAddr, host: &str, kind: TYPE) -> std::io::Result<Vec<IpAddr>> {
    let other = |e: simple_dns::SimpleDnsError| std::io::Error::other(format!("DNS: {e}"));
    // An answer must repeat the number, which others can only guess.
    let number = u16::from_le_bytes(random());
    let mut packet = Packet::new_query(number);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(host).map_err(other)?;
    packet
        .questions
        .push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    let query = packet.build_bytes_vec().map_err(other)?;

    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    socket.send(&query)?;
    let mut buffer = vec![0u8; 4096];
    let n = socket.recv(&mut buffer)?;
    buffer.truncate(n);
    let truncated = Packet::parse(&buffer).is_ok_and(|p| p.has_flags(PacketFlag::TRUNCATION));
    if truncated {
        buffer = over_tcp(server, &query)?;
    }
    let answer = Packet::parse(&buffer).map_err(other)?;
    if answer.id() != number {
        return Err(std::io::Error::other(
            "DNS: the answer is to another question",
        ));
    }
    Ok(answer
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
            RData::AAAA(a) => Some(Ipv6Addr::from(a.address).into()),
            _ => None,
        })
        .collect())
}

fn over_tcp(server: IpAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, 53), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Two bytes that nobody can foresee.
pub(super) fn random() -> [u8; 2] {
    crate::sys::ask::getrandom().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (now.map_or(0, |t| t.subsec_nanos()) as u16).to_le_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_manual_says() {
        let hosts = "127.0.0.1 localhost # me\n10.0.0.7\tregistry.lan Registry\n#1.1.1.1 x\n";
        assert_eq!(
            in_hosts(hosts, "registry"),
            ["10.0.0.7".parse::<IpAddr>().unwrap()]
        );
        assert!(in_hosts(hosts, "x").is_empty());
        let (servers, search) = resolv_conf("search a.example b.example\nnameserver 9.9.9.9\n");
        assert_eq!((servers.len(), search.len()), (1, 2));
        assert_eq!(resolv_conf("").0, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(
            look_up("[::1]").unwrap(),
            ["::1".parse::<IpAddr>().unwrap()]
        );
        assert!(!look_up("localhost").unwrap().is_empty());
    }
}
