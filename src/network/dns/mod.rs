//! Names on a network: a small DNS server for one container.
//!
//! What it does: a program in a container asks 127.0.0.11, an address of its own loopback, because
//! its `/etc/resolv.conf` says so. Whoever holds the sockets there answers what it knows itself (the
//! other containers on the same networks, out of a [`Zone`]) and passes everything else on to the
//! resolvers of the host.
//!
//! ```text
//!   container's network namespace │ the host's
//!   getaddrinfo("db")             │
//!     └─▶ 127.0.0.11:53 ──────────┼─▶ Server ── answer() ─▶ in the zone: 172.18.0.3
//!         udp and tcp             │        └─── else ─────▶ a resolver of the host, and back
//! ```
//!
//! A socket belongs to the namespace that it was made in, whoever holds it: [`open`] is called in
//! the container's, and the rest in the host's. The server has no thread: [`Server::interests`] are
//! for the caller's poll(2), [`Server::turn`] does what can be done without waiting.
//!
//! What it implements: RFC 1034 and 1035 as far as a forwarding server needs them, RFC 6891
//! (EDNS(0): the size of an answer), RFC 7766 (DNS over TCP).
//! Interface: [`Zone`], [`Entry`], [`open`], [`Sockets`], [`Server`], [`ADDRESS`].
//! Read next: `answer.rs` (pure), then `server.rs` (sockets).

mod answer;
mod server;

pub use answer::{Verdict, answer};
pub use server::{Server, Sockets, open};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a container asks: an address of its loopback, as docker has it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of name servers.
pub const PORT: u16 = 53;

/// What a server knows at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// The containers that its container can reach by name, one entry for each network that they
    /// share.
    pub entries: Vec<Entry>,
    /// Who is asked about other names, in this order. Without any, other names are not answered:
    /// a container on internal networks alone has nobody to ask.
    pub upstreams: Vec<SocketAddr>,
}

/// One container on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The network's name: `db.backend` is `db` on the network `backend`.
    pub network: String,
    /// What it is called there: its name first, which is also what an address is turned into.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
}

impl Zone {
    /// The addresses of a name, in the order of the entries; `None` when it is none of ours.
    /// Upper and lower case are the same, and a dot at the end says nothing.
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut found: Option<Vec<IpAddr>> = None;
        for entry in self.entries.iter().filter(|e| e.is_called(name)) {
            let found = found.get_or_insert_default();
            for address in &entry.addresses {
                if !found.contains(address) {
                    found.push(*address);
                }
            }
        }
        found
    }

    /// The name of whoever has this address, with its network: `db.backend`.
    pub fn name_of(&self, address: IpAddr) -> Option<String> {
        let entry = self
            .entries
            .iter()
            .find(|e| e.addresses.contains(&address))?;
        Some(format!("{}.{}", entry.names.first()?, entry.network))
    }
}

impl Entry {
    fn is_called(&self, name: &str) -> bool {
        let named = |name: &str| self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        named(name)
            || name
                .rsplit_once('.')
                .is_some_and(|(name, network)| network == self.network && named(name))
    }
}
