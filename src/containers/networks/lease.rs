//! Leases: which running container has which address in which network.
//!
//! What it does: a start takes an address ([`TakeAddress`], under the networks' lock) and writes it
//! into the network's file; the end of the container gives it back ([`release`]). A lease also says
//! which link on the host is the container's, so whoever clears up after a killed monitor finds it;
//! it becomes one of the network's traces at the end, as the bridge after the last lease (`traces.rs`).
//!
//! Who runs here: the monitor, in the plan of a start and at the end; and any command that finds a
//! container whose monitor was killed.
//!
//! What it implements: docker's address management (the lowest free address first).
//! Interface: [`Lease`], [`choose`], [`TakeAddress`], [`release`], [`clear`]. Read next:
//! `traces.rs`, [`crate::network::actions`].

use super::super::model::EndpointConfig;
use super::super::names;
use super::super::store::{Container, Store};
use super::ports::{self, Port};
use super::record::{self, Network};
use super::{traces, walls};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::network::actions::MakeBridge;
use crate::network::{self, Driver, Endpoint, Mac, Prefix, link, pool};
use crate::sys::netlink;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::net::IpAddr;

/// A container's place in a network, while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lease {
    /// The container's id.
    pub container: String,
    /// Its name, as it was when it started.
    pub name: String,
    /// The id of this place.
    pub endpoint_id: String,
    /// Other names by which containers of the network find it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Addresses and links.
    pub endpoint: Endpoint,
    /// The ports of the host's that lead to it.
    #[serde(default)]
    pub ports: Vec<Port>,
}

/// Which place in the container an endpoint takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The device's name inside: `eth0`.
    pub inside: String,
    /// The container's way to the rest of the world leads through it.
    pub way_out: bool,
}

/// Whether a container runs, or is about to: what is written down, which a killed monitor cannot
/// keep true; then the next command that looks at the container takes its lease away.
pub(super) fn is_alive(store: &Store, id: &str) -> bool {
    match store.load(id) {
        Ok(Some(container)) => container
            .written_status()
            .is_ok_and(|status| status.phase.is_live()),
        _ => false,
    }
}

/// The place that a container would get. Errors: in docker's words, what cannot be had.
pub fn choose(
    network: &Network,
    container: &Container,
    wish: &EndpointConfig,
    seat: &Seat,
) -> Result<Endpoint> {
    let refuse = |text: String| Error::kind(Kind::Usage, text);
    let driver = match network.driver.as_str() {
        "bridge" => Driver::Bridge,
        "macvlan" => Driver::Macvlan,
        "ipvlan" => Driver::Ipvlan(network.ipvlan()?),
        _ => {
            return Err(refuse(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes".into(),
            )
            .hint(format!("{} is no network that others could be joined with", network.name)));
        }
    };
    let asked = [&wish.ipv4_address, &wish.ipv6_address];
    let asked = asked.into_iter().filter(|text| !text.is_empty());
    let mut fixed: Vec<IpAddr> = Vec::new();
    for text in asked {
        let address = text
            .parse()
            .map_err(|_| refuse(format!("invalid IP address: {text}")))?;
        if network.is_predefined() {
            return Err(refuse(format!(
                "invalid config for network {}: user specified IP address is supported on user defined networks only",
                network.name
            ))
            .hint("`glassbox network create --subnet …` makes one"));
        }
        if !network.pools.iter().any(|p| p.subnet.contains(address)) {
            return Err(refuse(format!(
                "invalid config for network {}: invalid endpoint settings: no configured subnet contains IP address {address}",
                network.name
            )));
        }
        fixed.push(address);
    }
    if network.pools.is_empty() {
        return Err(Error::kind(
            Kind::Conflict,
            "all predefined address pools have been fully subnetted",
        )
        .hint(
            "`glassbox network create --subnet …` makes a network with addresses of your choice",
        ));
    }
    let own = network.leases.get(container.id());
    let mut addresses = Vec::new();
    let mut gateways = Vec::new();
    for pool in &network.pools {
        let of_others = |a: IpAddr| {
            let mut others = network
                .leases
                .values()
                .filter(|l| l.container != container.id());
            others.any(|l| l.endpoint.addresses.iter().any(|p| p.address == a))
        };
        let is_taken = |a: IpAddr| {
            a == pool.gateway || pool.auxiliary.values().any(|x| *x == a) || of_others(a)
        };
        let before = own.and_then(|l| {
            let mut all = l.endpoint.addresses.iter().map(|p| p.address);
            all.find(|a| pool.subnet.contains(*a))
        });
        let address = match fixed.iter().find(|a| pool.subnet.contains(**a)) {
            Some(a) if is_taken(*a) => {
                return Err(Error::kind(Kind::Conflict, "Address already in use")
                    .caused_by(Error::new(format!("{a} is taken in the network {}", network.name))));
            }
            Some(a) => *a,
            None => before.or_else(|| pool::free_address(&pool.subnet, pool.range.as_ref(), is_taken))
                .ok_or_else(|| {
                    let family = if pool.subnet.address.is_ipv4() { 4 } else { 6 };
                    Error::kind(Kind::Conflict, format!(
                        "no available IPv{family} addresses on this network's address pools: {} ({})",
                        network.name, network.id
                    ))
                    .hint(format!("every address of {} has a running container: stop one, or make a larger network", pool.range.unwrap_or(pool.subnet)))
                })?,
        };
        addresses.push(Prefix {
            address,
            length: pool.subnet.length,
        });
        if seat.way_out && !network.internal {
            gateways.push(network.way_out(pool));
        }
    }
    let mac = match wish.mac_address.as_str() {
        _ if network.driver == "ipvlan" => shared_mac(network, wish)?,
        "" => Mac::of(
            addresses
                .first()
                .context("a network without a subnet")?
                .address,
        ),
        text => text.parse()?,
    };
    Ok(Endpoint {
        network: network.name.clone(),
        driver,
        bridge: network.device.clone(),
        // 15 bytes are the longest: whose, and where.
        link: format!("gb{}-{}", &container.id()[..8], &network.id[..4]),
        inside: seat.inside.clone(),
        mac,
        addresses,
        gateways,
        mtu: network.mtu(),
        hairpin: seat.way_out && !network.internal && !ports::asked(container)?.is_empty(),
    })
}

/// The hardware address that all on the wire of a device have. Errors: another one was asked for.
fn shared_mac(network: &Network, wish: &EndpointConfig) -> Result<Mac> {
    let device = &network.device;
    if !wish.mac_address.is_empty() {
        let name = &network.name;
        let text = format!(
            "containers of the ipvlan network {name} have the hardware address of {device}"
        );
        return Err(Error::kind(Kind::Usage, text)
            .hint("a macvlan network gives each one of its own: `--mac-address` works there"));
    }
    // Where the device is gone, or has none, the step that makes the link says so.
    let found = link::find(netlink::route_socket()?, device)?;
    Ok(found.and_then(|l| l.mac).unwrap_or(Mac([0; 6])))
}

/// Takes an address for a container.
#[derive(Debug)]
pub struct TakeAddress {
    /// Whose networks.
    pub store: Store,
    /// For whom.
    pub container: Container,
    /// In which network, and what is wanted there.
    pub wish: EndpointConfig,
    /// Which device inside it becomes.
    pub seat: Seat,
    /// What was free when the plan was made.
    pub planned: Endpoint,
}

impl Action for TakeAddress {
    fn calls(&self) -> Vec<Planned> {
        let addresses = self.planned.addresses.iter();
        let addresses: Vec<String> = addresses.map(|a| a.address.to_string()).collect();
        let name = &self.planned.network;
        vec![
            Planned::new(
                "write",
                format!("the leases of network {name} ← {}", addresses.join(", ")),
            ),
            Planned::new("renameat2", "in place of the old file"),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot take an address in the network {}",
                self.planned.network
            )
        };
        // The published ports lead to where its way out is.
        let ports = match self.seat.way_out {
            true => ports::held(scene),
            false => Vec::new(),
        };
        let (store, container) = (&self.store, &self.container);
        let (endpoint, network, lock) =
            take(store, container, &self.wish, &self.seat, ports).with_context(what)?;
        if let Some(lock) = lock {
            scene.put_fd(MakeBridge::LOCK, lock.into());
        }
        MakeBridge::put(&network.name, &network.own_addresses(), scene)?;
        endpoint.put(scene)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let found = record::find(&self.store, &self.planned.network);
        let value = found.map(|network| match network.leases.get(self.container.id()) {
            Some(lease) => {
                let all = lease.endpoint.addresses.iter();
                all.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            None => "none".into(),
        });
        vec![Fact {
            what: format!("its address in {}", self.planned.network),
            value: value.map_err(|e| e.to_string()),
            source: "networks/*.json".into(),
        }]
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        drop(scene.take_fd(MakeBridge::LOCK));
        let name = Some(self.planned.network.as_str());
        give_back(&self.store, self.container.id(), name)?;
        traces::settle(&self.store)
    }
}

/// Takes a place in a network for a container, and writes it down: the place, and the network as it
/// is now. Where there is no bridge yet, a lock comes with it, to be held until there is.
pub fn take(
    store: &Store,
    container: &Container,
    wish: &EndpointConfig,
    seat: &Seat,
    ports: Vec<Port>,
) -> Result<(Endpoint, Network, Option<File>)> {
    let _lock = record::lock(store)?;
    let mut network = record::find(store, &wish.network)?;
    let mut host_lock = None;
    if network.driver == "bridge" && !network.is_up() {
        host_lock = record::lock_host();
        record::choose_subnet_again(store, &mut network)?;
    }
    let endpoint = match choose(&network, container, wish, seat) {
        Err(e) if e.get_kind() == Kind::Conflict && drop_dead(store, &mut network)? => {
            choose(&network, container, wish, seat)?
        }
        other => other?,
    };
    let lease = Lease {
        container: container.id().into(),
        name: container.name().into(),
        endpoint_id: names::new_id()?,
        aliases: wish.aliases.clone(),
        endpoint: endpoint.clone(),
        ports,
    };
    if endpoint.driver == Driver::Bridge {
        network.traces.bridge = true;
        network.traces.links.remove(&endpoint.link); // in use again
    }
    network.leases.insert(container.id().into(), lease);
    record::save(store, &network)?;
    let who = [("container", container.id().to_string())];
    record::tell(store, "connect", &network, &who);
    Ok((endpoint, network, host_lock))
}

/// Forgets the leases of containers that do not run any more. False when there were none.
fn drop_dead(store: &Store, network: &mut Network) -> Result<bool> {
    let all = network.leases.keys().cloned();
    let dead: Vec<String> = all.filter(|id| !is_alive(store, id)).collect();
    dead.iter().for_each(|id| network.end_lease(id));
    Ok(!dead.is_empty())
}

/// Gives a container's places in all networks back: its addresses are free, its ports lead nowhere;
/// and ends its user-mode network, which waits for that. What the host still has of them goes with
/// [`traces::settle`]. What is gone already is no error.
pub fn release(container: &Container) -> Result<()> {
    let ended = network::pasta::let_go(&container.run);
    give_back(&Store::of(container), container.id(), None).and(ended)
}

/// [`release`], and at once all that the host has of what nobody uses any more.
pub fn clear(container: &Container) -> Result<()> {
    release(container).and(traces::settle(&Store::of(container)))
}

/// [`release`], in one network alone where one is named.
pub fn give_back(store: &Store, id: &str, only: Option<&str>) -> Result<()> {
    let has = |n: &Network| n.leases.contains_key(id) && only.is_none_or(|name| n.name == name);
    // Most containers have none, and then nothing is written and nobody waits.
    if !record::stored(store)?.iter().any(has) {
        return Ok(());
    }
    let _lock = record::lock(store)?;
    let mut all = record::stored(store)?;
    let mut left = Vec::new();
    for (number, network) in all.iter_mut().enumerate().filter(|(_, n)| has(n)) {
        network.end_lease(id);
        left.push(number);
    }
    // The lease goes last: whoever is killed before leaves what says that there is more to do.
    let rules = walls::write(store, &all);
    let mut failure = None;
    let who = [("container", id.to_string())];
    for network in left.iter().filter_map(|number| all.get(*number)) {
        match record::save(store, network) {
            Ok(()) => record::tell(store, "disconnect", network, &who),
            Err(e) => {
                failure.get_or_insert(e);
            }
        }
    }
    rules.map(drop).and(failure.map_or(Ok(()), Err))
}
