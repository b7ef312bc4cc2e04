//! The names of a container's networks, answered by its monitor.
//!
//! What it does: holds the sockets of the container's name server ([`crate::network::dns`]) and says
//! what it knows, read from disk when there is a question: the leases of the networks that the
//! container is in name everybody else there. Nobody has to tell the monitors of a network about
//! each other, and a name is known from the moment on when its container has an address.
//!
//! A container is found by its name, its short id, its aliases and its host name, each alone or with
//! the network's name behind a dot; and by the alias of a --link, which only this container knows.
//!
//! Interface: [`NameService`], [`is_wanted`], [`zone`]. Read next: `networks/lease.rs`.

use super::name_files;
use super::names;
use super::networks::{self, Network};
use super::store::{Container, Store};
use crate::error::Result;
use crate::network::dns::{Entry, PORT, Server, Sockets, Zone};
use crate::sys::poll::{Interest, Ready};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// What was read is taken for true this long, if no network has changed meanwhile: a container that
/// is renamed does not touch its networks.
const FRESH: Duration = Duration::from_secs(1);
/// Two changes within this time may leave the same time on a directory.
const GRAIN: Duration = Duration::from_millis(100);

/// A name server and what it knows.
#[derive(Debug)]
pub struct NameService {
    server: Server,
    container: Container,
    known: Option<Known>,
}

#[derive(Debug)]
struct Known {
    zone: Zone,
    read: Instant,
    /// When the networks had changed last; `None` when that was too short a time ago to be told
    /// from the next change.
    changed: Option<SystemTime>,
}

impl NameService {
    /// Serves `container`.
    pub fn new(container: &Container, sockets: Sockets) -> NameService {
        NameService {
            server: Server::new(sockets),
            container: container.clone(),
            known: None,
        }
    }

    /// What poll waits for.
    pub fn interests(&self) -> Vec<Interest<'_>> {
        self.server.interests()
    }

    /// How long poll may wait, in ms; −1 for ever.
    pub fn wait(&self) -> i32 {
        self.server.wait().unwrap_or(-1)
    }

    /// Does what can be done.
    pub fn turn(&mut self, ready: &[Ready]) {
        let (container, known) = (&self.container, &mut self.known);
        self.server.turn(ready, &mut || current(container, known));
    }
}

/// What is true now. A disk that cannot be read leaves what was known last.
fn current(container: &Container, known: &mut Option<Known>) -> Zone {
    let store = Store::of(container);
    let changed = std::fs::metadata(networks::directory(&store)).and_then(|meta| meta.modified());
    let changed = changed.ok();
    if let Some(known) = known
        && known.read.elapsed() < FRESH
        && known.changed.is_some()
        && known.changed == changed
    {
        return known.zone.clone();
    }
    let settled = |time: &SystemTime| time.elapsed().is_ok_and(|age| age > GRAIN);
    if let Ok(zone) = zone(&store, container) {
        *known = Some(Known {
            zone,
            read: Instant::now(),
            changed: changed.filter(settled),
        });
    }
    known.as_ref().map(|k| k.zone.clone()).unwrap_or_default()
}

/// Whether a container that runs is in a network with names.
pub fn is_wanted(container: &Container) -> bool {
    let inside = |n: &Network| !n.is_predefined() && n.leases.contains_key(container.id());
    networks::list(&Store::of(container)).is_ok_and(|all| all.iter().any(inside))
}

/// What `container` shall know.
pub fn zone(store: &Store, container: &Container) -> Result<Zone> {
    let mut zone = Zone::default();
    let mut way_out = false;
    for network in networks::list(store)? {
        if network.is_predefined() || !network.leases.contains_key(container.id()) {
            continue;
        }
        way_out |= !network.internal;
        zone.entries.extend(entries(store, container, &network));
    }
    if way_out {
        let of_host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let resolvers = name_files::resolvers(&of_host, &container.record.host_config);
        zone.upstreams = resolvers
            .iter()
            .map(|a| SocketAddr::new(*a, PORT))
            .collect();
    }
    Ok(zone)
}

/// Everybody in a network, as `asker` knows them.
fn entries(store: &Store, asker: &Container, network: &Network) -> Vec<Entry> {
    let links = asker.record.host_config.links.iter();
    let links: Vec<(&str, &str)> = links.filter_map(|link| link.split_once(':')).collect();
    let mut all = Vec::new();
    for lease in network.leases.values() {
        // One that is being removed is not there any more.
        let Ok(Some(other)) = store.load(&lease.container) else {
            continue;
        };
        let short = names::short(other.id()).to_string();
        let mut called = vec![other.name().to_string(), short];
        called.extend(lease.aliases.iter().cloned());
        let hostname = &other.record.config.hostname;
        if !hostname.is_empty() {
            called.push(hostname.clone());
        }
        let meant = |name: &str| name == other.name() || name == other.id();
        let linked = links.iter().filter(|(name, _)| meant(name));
        called.extend(linked.map(|(_, alias)| alias.to_string()));
        let addresses = lease.endpoint.addresses.iter();
        all.push(Entry {
            network: network.name.clone(),
            names: called,
            addresses: addresses.map(|prefix| prefix.address).collect(),
        });
    }
    all
}
