//! Into a network and out of it, while the container exists, running or not.
//!
//! What it does: for a container that runs, what the steps of a start do, one after the other, with a
//! socket that was made in its network namespace; what was done is taken back when a part fails. The
//! container's record says then that it is in the network, so the next start connects it too.
//!
//! Who runs here: the command line, with the container's lock held.
//!
//! What it implements: docker's `network connect` and `disconnect`. Interface: [`connect`],
//! [`disconnect`]. Read next: `lease.rs`.

use super::super::model::EndpointConfig;
use super::super::state::{self, Phase, Status};
use super::super::store::{Container, Store};
use super::super::{lifecycle, names, reconcile};
use super::lease::{self, Seat};
use super::record::{self, Network};
use super::{traces, walls, wanted};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Scene};
use crate::network::{Driver, actions, link};
use crate::sys;
use std::fs::File;
use std::os::fd::OwnedFd;

/// A container, locked and as it is now.
fn open(store: &Store, container: &Container) -> Result<(File, Container, Status)> {
    let lock = container.lock()?;
    let status = reconcile::repair(container)?;
    let now = store.load(container.id())?;
    Ok((lock, now.context("it has been removed")?, status))
}

fn runs(status: &Status) -> bool {
    matches!(status.phase, Phase::Running | Phase::Paused)
}

/// A socket in a running container's network namespace.
fn socket_of(status: &Status) -> Result<OwnedFd> {
    let namespace = sys::namespace::open_ns(format!("/proc/{}/ns/net", status.pid))?;
    link::socket_in(&namespace)
}

/// Writes down which networks a container is in.
fn keep(container: &Container, networks: Vec<EndpointConfig>) -> Result<()> {
    let mut record = container.record.clone();
    if networks.is_empty() && super::is_named(&record.host_config.network_mode) {
        record.host_config.network_mode = "none".into();
    }
    record.networks = networks;
    let text = record.text()?;
    state::write_atomically(&container.dir.join("container.json"), &text, 0o600, true)
}

fn is_same(wish: &EndpointConfig, network: &Network) -> bool {
    wish.network == network.name
        || wish.network == network.id
        || names::short(&network.id) == wish.network
}

/// Connects a container to a network. Errors: in docker's words, what cannot be.
pub fn connect(store: &Store, container: &Container, wish: &EndpointConfig) -> Result<()> {
    let network = record::find(store, &wish.network)?;
    let (_lock, container, status) = open(store, container)?;
    let refuse = |text: String| Err(Error::kind(Kind::Conflict, text));
    let mode = container.record.host_config.network_mode.as_str();
    if mode == "host" || mode.starts_with("container:") {
        return refuse(
            "container sharing network namespace with another container or host cannot be connected to any other network".into(),
        );
    }
    if mode == "none" && container.record.networks.is_empty() {
        return refuse(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        );
    }
    let mut all = wanted(&container);
    if all.iter().any(|w| is_same(w, &network)) {
        let (name, network) = (container.name(), &network.name);
        return refuse(format!(
            "endpoint with name {name} already exists in network {network}"
        ));
    }
    let (inside, has_way_out) = seats(store, &container)?;
    let seat = Seat {
        inside,
        way_out: !network.internal && !has_way_out,
    };
    if runs(&status) {
        let joined = join(store, &container, &status, wish, &seat);
        if let Err(e) = joined {
            let undone = lease::give_back(store, container.id(), Some(&network.name));
            let undone = undone.and(traces::settle(store));
            let e = lifecycle::or_ended(&container, &status, e);
            return Err(match undone {
                Ok(()) => e,
                Err(more) => e.hint(format!("and the clean-up failed too: {more:#}")),
            });
        }
    } else {
        // What a start could not do is refused now.
        lease::choose(&network, &container, wish, &seat)?;
    }
    all.push(EndpointConfig {
        network: network.name.clone(),
        ..wish.clone()
    });
    keep(&container, all)
}

fn join(
    store: &Store,
    container: &Container,
    status: &Status,
    wish: &EndpointConfig,
    seat: &Seat,
) -> Result<()> {
    let (endpoint, network, host_lock) = lease::take(store, container, wish, seat, Vec::new())?;
    if endpoint.driver == Driver::Bridge {
        actions::MakeBridge {
            network: network.name.clone(),
            name: endpoint.bridge.clone(),
            addresses: network.own_addresses(),
            mtu: network.mtu(),
        }
        .apply(&mut Scene::new())?;
        drop(host_lock);
        let _lock = record::lock(store)?;
        walls::sync(store)?;
    }
    let socket = socket_of(status)?;
    actions::connect(&endpoint, status.pid)?;
    actions::configure(&socket, &endpoint)
}

/// The next free `ethN` of a container, and whether it has a way out already.
fn seats(store: &Store, container: &Container) -> Result<(String, bool)> {
    let networks = record::stored(store)?;
    let leases: Vec<_> = networks
        .iter()
        .filter_map(|n| n.leases.get(container.id()))
        .collect();
    let is_free = |name: &String| leases.iter().all(|l| l.endpoint.inside != *name);
    let inside = (0..).map(|n| format!("eth{n}")).find(is_free);
    let has_way_out = leases.iter().any(|l| !l.endpoint.gateways.is_empty());
    Ok((inside.unwrap_or_default(), has_way_out))
}

/// Takes a container out of a network. Errors: it is not in it.
pub fn disconnect(store: &Store, container: &Container, target: &str) -> Result<()> {
    let network = record::find(store, target)?;
    let (_lock, container, status) = open(store, container)?;
    let mut all = wanted(&container);
    let before = all.len();
    all.retain(|w| !is_same(w, &network));
    let lease = network.leases.get(container.id());
    if all.len() == before && lease.is_none() {
        let text = format!(
            "container {} is not connected to network {}",
            container.name(),
            network.name
        );
        return Err(Error::kind(Kind::Conflict, text));
    }
    if let Some(lease) = lease.filter(|_| runs(&status)) {
        let unplug = || {
            let socket = socket_of(&status)?;
            link::delete(&socket, &lease.endpoint.inside)?;
            Ok(socket)
        };
        match unplug() {
            Ok(socket) => {
                lease::give_back(store, container.id(), Some(&network.name))?;
                traces::settle(store)?;
                if !lease.endpoint.gateways.is_empty() {
                    another_way_out(store, &container, &socket)?;
                }
            }
            // Its namespace is going, and its monitor takes back what is outside.
            Err(_) if lifecycle::has_ended(&container, &status) => {}
            Err(e) => return Err(e),
        }
    }
    keep(&container, all)
}

/// The way out led through the network that went: now through another, if there is one.
fn another_way_out(store: &Store, container: &Container, socket: &OwnedFd) -> Result<()> {
    for network in record::stored(store)?.iter().filter(|n| !n.internal) {
        let Some(lease) = network.leases.get(container.id()) else {
            continue;
        };
        let inside = &lease.endpoint.inside;
        let Some(device) = link::find(socket, inside)? else {
            continue;
        };
        for pool in &network.pools {
            let gateway = network.way_out(pool);
            link::add_default_route(socket, device.index, inside, gateway)?;
        }
        return Ok(());
    }
    Ok(())
}
