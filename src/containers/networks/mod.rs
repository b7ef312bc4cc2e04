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
//! ([`plan`]). The bridge of a network is there from its first lease until a moment after its last
//! ([`settle`]).
//!
//! `bridge`, `host` and `none` are always there. `bridge` gets its subnet when it is first used.
//!
//! What it implements: docker's networks, in docker's words; [`crate::network`] does the work.
//! Interface: [`Network`], [`plan`], [`release`]. Read in this order: `record.rs`, `lease.rs`,
//! `traces.rs`, `ports.rs`, `walls.rs`, `live.rs`.

pub mod lease;
pub mod live;
mod obstacle;
pub mod ports;
mod record;
pub mod show;
mod traces;
mod walls;

pub use lease::{Lease, clear, release};
pub use obstacle::obstacle;
pub use record::{
    Network, Pool, Wish, create, directory, find, list, lock, predefined_bridge, prune, remove,
    save,
};
pub use traces::settle;

use super::model::EndpointConfig;
use super::store::{Container, Store};
use crate::error::{Error, Kind, Result};
use crate::journal::{Stage, Step};
use crate::network::{Driver, Endpoint, actions::MakeBridge, rules::loopback_six};

/// What a start needs for its networks.
#[derive(Debug, Default)]
pub struct Attachment {
    /// The engine's steps, before the network namespace exists.
    pub steps: Vec<Step>,
    /// What the runtime connects then, with the addresses that are free now.
    pub endpoints: Vec<Endpoint>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

const FORWARD_6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Whether a network mode names a network of ours, and not the host's, another container's or none.
pub fn is_named(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "none" | "host" | "private")
        && !mode.starts_with("container:")
        && !super::user_network::is_user_mode(mode)
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
/// `user_mode`: it has a user-mode network, which publishes its ports.
pub fn plan(
    store: &Store,
    container: &Container,
    rootless: bool,
    user_mode: bool,
) -> Result<Attachment> {
    let mut all = Attachment::default();
    let wanted = wanted(container);
    let asked = ports::asked(container)?;
    if wanted.is_empty() {
        let mode = container.record.host_config.network_mode.as_str();
        if matches!(mode, "" | "default") && !rootless {
            all.warnings.push(obstacle::warning(store));
        }
        if !asked.is_empty() && !user_mode {
            all.warnings.push(match mode {
                "host" => "published ports are discarded when using host network mode".into(),
                _ => "published ports are discarded: the container is in no network".into(),
            });
        }
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
    let publishes = way_out.is_some() && !asked.is_empty();
    let mut six = false;
    if publishes {
        let network = &wanted[way_out.unwrap_or_default()].network;
        six = ports::has_six(&find(store, network)?, &asked)?;
        all.steps.push(Step::parent(
            Stage::Containers,
            "hold-ports",
            "The published ports are ours as long as the container runs: a socket holds each.",
            ports::HoldPorts {
                store: store.clone(),
                asked: asked.clone(),
                six,
            },
        ));
    } else if !asked.is_empty() {
        all.warnings.push(
            "published ports are discarded: all networks of the container are internal".into(),
        );
    }
    let (mut bridges, mut port_bridge) = (Vec::new(), None);
    let mut forwarded: Vec<&str> = Vec::new();
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
            if publishes && way_out == Some(number) {
                port_bridge = Some(endpoint.bridge.clone());
            }
            let families = [("/proc/sys/net/ipv4/ip_forward", true), (FORWARD_6, false)];
            for (path, four) in families.into_iter().filter(|_| !network.internal) {
                let has = network
                    .pools
                    .iter()
                    .any(|p| p.subnet.address.is_ipv4() == four);
                if has && !forwarded.contains(&path) {
                    forwarded.push(path);
                }
            }
            all.steps.push(Step::parent(
                Stage::Containers,
                format!("bridge-{name}"),
                "A switch inside the kernel: what is plugged into it can talk.",
                MakeBridge {
                    network: name.clone(),
                    name: endpoint.bridge.clone(),
                    addresses: network.own_addresses(),
                    mtu: network.mtu(),
                },
            ));
            bridges.push(network);
        }
        all.endpoints.push(endpoint);
    }
    for path in forwarded {
        let version = if path == FORWARD_6 { "6" } else { "4" };
        all.steps.push(Step::parent(
            Stage::Containers,
            format!("forward-ipv{version}"),
            "A host passes packets on between its devices only when it is told to.",
            walls::Forward { path: path.into() },
        ));
    }
    let without = match port_bridge {
        None => walls::without_rules(&bridges),
        Some(_) => None,
    };
    if let Some(warning) = without {
        all.warnings.push(warning);
    } else if !bridges.is_empty() {
        all.steps.push(Step::parent(
            Stage::Containers,
            "rules",
            "The packet filter translates addresses on the way out and in, and keeps networks apart.",
            walls::WriteRules {
                store: store.clone(),
                publishes: port_bridge,
                six: six && loopback_six().is_ok(),
            },
        ));
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
