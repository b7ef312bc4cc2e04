//! The packet filter's table of this root: what the networks and their leases come to.
//!
//! What it does: computes the whole table out of the files each time, and writes it where it differs.
//! So a table that somebody flushed is whole again with the next start, and with the last bridge it
//! goes. Forwarding is switched on where a network has a way out; it stays on, as docker leaves it.
//!
//! What it implements: docker's bridge driver (isolation, masquerading, published ports).
//! Interface: [`sync`], [`WriteRules`], [`Forward`]. Read next: [`crate::network::rules`].

use super::super::names;
use super::super::store::Store;
use super::record::{self, Network};
use crate::error::{Context, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::network::rules::{self, Published, Wall};
use crate::network::{link, nft};
use crate::sys::netlink;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Docker's option that leaves addresses as they are.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

/// Whether what leaves the network gets the host's address.
fn masquerades(network: &Network) -> bool {
    let option = network.options.get(MASQUERADE);
    !network.internal && option.is_none_or(|v| v != "false")
}

/// What is said at the start of a container in networks of these names, which need no rule, on a host
/// that can have none. `None`: it can, or (of `networks`) one needs some, and then says so itself.
pub(super) fn without_rules(networks: &[Network]) -> Option<String> {
    if networks.is_empty() || networks.iter().any(masquerades) {
        return None;
    }
    rules::missing()?;
    let names: Vec<&str> = networks.iter().map(|n| n.name.as_str()).collect();
    Some(format!(
        "the kernel has no nftables: the host's other networks are not kept out of {}, \
         which can have neither masquerading nor published ports",
        names.join(" and ")
    ))
}

/// The table of this root: another root has another.
fn table(store: &Store) -> Result<String> {
    let bridge = record::predefined_bridge(store)?;
    Ok(match bridge.device.as_str() {
        "glassbox0" => "glassbox".into(),
        _ => format!("glassbox-{}", names::short(&bridge.id)),
    })
}

/// Has the table as the leases want it. Call it with the networks' lock held.
pub(super) fn sync(store: &Store) -> Result<()> {
    put(store, &record::stored(store)?).map(drop)
}

/// The same after something has ended, as if the networks were these. Where there is no packet filter
/// there is nothing to take out of it. What is returned may be dropped later.
pub(super) fn write(store: &Store, networks: &[Network]) -> Result<Option<OwnedFd>> {
    match put(store, networks) {
        Err(_) if rules::missing().is_some() => Ok(None),
        other => other,
    }
}

fn put(store: &Store, networks: &[Network]) -> Result<Option<OwnedFd>> {
    let used = |n: &&Network| n.driver == "bridge" && n.is_up();
    let (mut walls, mut published) = (Vec::new(), Vec::new());
    for network in networks.iter().filter(used) {
        walls.push(Wall {
            bridge: network.device.clone(),
            subnets: network.pools.iter().map(|p| p.subnet).collect(),
            internal: network.internal,
            masquerade: masquerades(network),
        });
        for lease in network.leases.values() {
            for port in &lease.ports {
                let mut addresses = lease.endpoint.addresses.iter().map(|a| a.address);
                let Some(to) = addresses.find(|a| a.is_ipv4() == port.host.is_ipv4()) else {
                    continue;
                };
                published.push(Published {
                    protocol: port.protocol,
                    host: port.host,
                    port: port.host_port,
                    to,
                    to_port: port.container_port,
                    bridge: network.device.clone(),
                });
            }
        }
    }
    walls.sort_by(|a, b| a.bridge.cmp(&b.bridge));
    published.sort_by_key(|p| (p.protocol, p.port, p.host));
    let six = rules::loopback_six().is_ok();
    let applied = rules::apply(&table(store)?, &rules::chains(&walls, &published, six));
    match applied {
        // The walls alone are missed; whoever started a container there has been told.
        Err(_)
            if published.is_empty()
                && !walls.iter().any(|w| w.masquerade)
                && rules::missing().is_some() =>
        {
            Ok(None)
        }
        other => other,
    }
}

/// Writes the rules of this root's networks.
#[derive(Debug)]
pub struct WriteRules {
    /// Whose.
    pub store: Store,
    /// The bridge of the container's published ports, if it has some.
    pub publishes: Option<String>,
    /// Some of them are of IPv6, and can answer on `::1`.
    pub six: bool,
}

impl Action for WriteRules {
    fn calls(&self) -> Vec<Planned> {
        let table = table(&self.store).unwrap_or_else(|_| "glassbox".into());
        let mut calls = Vec::new();
        if let Some(bridge) = &self.publishes {
            let path = rules::route_localnet(bridge);
            calls.push(Planned::new("write", format!("{} ← 1", path.display())));
            if self.six {
                let words = format!("NETLINK_ROUTE, RTM_NEWROUTE, local ::1 dev {bridge}");
                calls.push(Planned::new("sendto", words));
            }
        }
        let words =
            format!("NETLINK_NETFILTER, table inet {table} ← the rules of all networks in use");
        calls.push(Planned::new("sendto", words));
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        if let Some(bridge) = &self.publishes {
            rules::switch_on(&rules::route_localnet(bridge))?;
            if self.six {
                let what = || format!("cannot let answers from {bridge} reach ::1");
                let socket = netlink::route_socket().with_context(what)?;
                let found = link::find(&socket, bridge).with_context(what)?;
                let index = found.context("it is not there").with_context(what)?.index;
                link::add_loopback_route(&socket, index, bridge).with_context(what)?;
            }
        }
        let _lock = record::lock(&self.store)?;
        sync(&self.store)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let table = table(&self.store).unwrap_or_else(|_| "glassbox".into());
        let value = match nft::mark(&table) {
            Ok(Some(mark)) => Ok(mark),
            Ok(None) => Ok("does not exist".into()),
            Err(e) => Err(e.to_string()),
        };
        vec![Fact {
            what: format!("table inet {table}"),
            value,
            source: "NFT_MSG_GETTABLE".into(),
        }]
    }
    // Its undo is that of the lease, which writes the table anew.
}

/// Has the host pass packets on between its devices.
#[derive(Debug)]
pub struct Forward {
    /// The kernel's parameter.
    pub path: PathBuf,
}

impl Action for Forward {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "write",
            format!("{} ← 1, unless it is", self.path.display()),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let hint = |e: crate::error::Error| {
            e.hint("without it no packet leaves a container's network: `sysctl net.ipv4.ip_forward=1`, or --network none, or an --internal network")
        };
        if rules::switch_on(&self.path).map_err(hint)? {
            scene.put(self.key(), "yes");
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_file("forwarding", &self.path)]
    }
    fn expected(&self) -> Option<String> {
        Some("1".into())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        if scene.get(&self.key()).is_some() {
            crate::sys::fs::write_file(&self.path, "0")?;
        }
        Ok(())
    }
}

impl Forward {
    fn key(&self) -> String {
        format!("switched-on-{}", self.path.display())
    }
}
