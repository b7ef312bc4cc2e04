//! The networks of one state root: what they are, who is in them, and how a container gets in.
//!
//! ```text
//!   <root>/networks/
//!     lock          held by whoever makes, removes or gives away
//!     <id>.json     a network: its subnets, its options, and its leases: which running container
//!                   has which address
//! ```
//!
//! What it does: makes, lists, finds and removes networks ([`record`]), gives addresses to
//! containers that start and takes them back at their end ([`lease`]), and plans the steps of that
//! ([`plan`]). The bridge of a network exists while a lease does.
//!
//! `bridge`, `host` and `none` are always there. `bridge` gets its subnet when it is first used.
//!
//! What it implements: docker's networks, in docker's words; [`crate::network`] does the work.
//! Interface: [`Network`], [`plan`], [`release`]. Read in this order: `record.rs`, `lease.rs`.

pub mod lease;
mod record;
pub mod show;

pub use lease::{Lease, release};
pub use record::{
    Network, Pool, Wish, create, directory, find, list, lock, predefined_bridge, prune, remove,
    save,
};

use super::model::EndpointConfig;
use super::store::{Container, Store};
use crate::error::{Error, Kind, Result};
use crate::journal::{Stage, Step};
use crate::network::{Driver, Endpoint, actions::MakeBridge};

/// What a start needs for its networks.
#[derive(Debug, Default)]
pub struct Attachment {
    /// The engine's steps, before the network namespace exists.
    pub steps: Vec<Step>,
    /// What the runtime connects then, with the addresses that are free now.
    pub endpoints: Vec<Endpoint>,
}

/// Whether a network mode names a network of ours, and not the host's, another container's or none.
pub fn is_named(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "none" | "host" | "private")
        && !mode.starts_with("container:")
        && !super::user_network::is_slirp(mode)
}

/// The networks that a container is to be in, in order.
pub fn wanted(container: &Container) -> Vec<EndpointConfig> {
    let record = &container.record;
    let mode = &record.host_config.network_mode;
    if !record.networks.is_empty() {
        return record.networks.clone();
    }
    if !is_named(mode) {
        return Vec::new();
    }
    vec![EndpointConfig {
        network: mode.clone(),
        ..EndpointConfig::default()
    }]
}

/// Plans a start: addresses, bridges, links. Touches nothing. Errors: a network is not there, or
/// has no free address.
pub fn plan(store: &Store, container: &Container, rootless: bool) -> Result<Attachment> {
    let mut all = Attachment::default();
    let wanted = wanted(container);
    if wanted.is_empty() {
        return Ok(all);
    }
    if rootless {
        return Err(Error::kind(
            Kind::Unsupported,
            format!(
                "network {} needs root: an ordinary user cannot make links on the host",
                wanted[0].network
            ),
        )
        .hint("--network none, host and container:NAME need no root")
        .topic("rootless"));
    }
    let way_out = way_out(store, &wanted)?;
    for (number, wish) in wanted.iter().enumerate() {
        let network = find(store, &wish.network)?;
        let seat = lease::Seat {
            inside: format!("eth{number}"),
            way_out: way_out == Some(number),
        };
        let endpoint = lease::choose(&network, container, wish, &seat)?;
        let name = &network.name;
        all.steps.push(Step::parent(
            Stage::Containers,
            format!("take-address-{name}"),
            "An address of the network's own that no other container has, written down as taken.",
            lease::TakeAddress {
                store: store.clone(),
                container: container.clone(),
                wish: wish.clone(),
                seat,
                planned: endpoint.clone(),
            },
        ));
        if endpoint.driver == Driver::Bridge {
            all.steps.push(Step::parent(
                Stage::Containers,
                format!("bridge-{name}"),
                "A switch inside the kernel: what is plugged into it can talk.",
                MakeBridge {
                    name: endpoint.bridge.clone(),
                    addresses: network.own_addresses(),
                    mtu: network.mtu(),
                },
            ));
        }
        all.endpoints.push(endpoint);
    }
    Ok(all)
}

/// Through which of its networks a container reaches the rest of the world: the one with the highest
/// priority, of equal ones the first, that is not internal.
fn way_out(store: &Store, wanted: &[EndpointConfig]) -> Result<Option<usize>> {
    let mut best: Option<(usize, i64)> = None;
    for (number, wish) in wanted.iter().enumerate() {
        let network = find(store, &wish.network)?;
        let better = best.is_none_or(|(_, priority)| wish.gw_priority > priority);
        if !network.internal && better {
            best = Some((number, wish.gw_priority));
        }
    }
    Ok(best.map(|(number, _)| number))
}
