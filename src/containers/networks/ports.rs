//! Published ports: held on the host as long as the container runs.
//!
//! What it does: the rules of the packet filter take a port's packets before any socket of the host's
//! sees them, so two programs could have one port and neither would hear of it. Therefore the monitor
//! holds a socket on each port that it publishes: a port that is taken is refused at once, and one
//! that is ours is refused to others. Nothing is ever read from it. A port for which no address was
//! named is held, and published, in each family of which the network has addresses.
//!
//! Who runs here: the monitor, in the first step of a start; the sockets go with it, or with the end
//! of the container. One that takes over from a killed monitor holds them again.
//!
//! What it implements: docker's port publishing: words, ephemeral ports, free ports of a range.
//! Interface: [`Port`], [`asked`], [`HoldPorts`], [`of`]. Read next: `walls.rs`.

use super::super::flags;
use super::super::store::{Container, Store};
use super::{lease::Lease, record, record::Network};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::network::rules::{self, Protocol};
use crate::network::{pasta, slirp};
use crate::sys::{self, Errno, SysError};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// The scene's names: what the ports are, and each socket that holds one.
const PORTS: &str = "ports";
const HELD: &str = "held-port-"; // as runtime::HELD begins
/// How often the kernel may choose a number before one is free in both families.
const FREE_TRIES: u32 = 20;

/// A port that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; 0.0.0.0 for all.
    pub host: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

impl Port {
    /// `80/tcp`
    pub fn inside(&self) -> String {
        format!("{}/{}", self.container_port, self.protocol.name())
    }
    /// `0.0.0.0:8080`
    pub fn outside(&self) -> String {
        SocketAddr::new(self.host, self.host_port).to_string()
    }
}

/// A port as it was asked for: any of the host's between two; 0 for one that the kernel chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address.
    pub host: IpAddr,
    /// No address was named: all of the host's will do, of IPv6 too where the network has it.
    pub open: bool,
    /// The host's ports that would do.
    pub host_ports: (u16, u16),
    /// The container's port.
    pub container_port: u16,
}

impl Asked {
    /// The port, where nothing is left open.
    fn into_port(self) -> Port {
        Port {
            protocol: self.protocol,
            host: self.host,
            host_port: self.host_ports.0,
            container_port: self.container_port,
        }
    }
}

/// What a container asks for: `-p`, and with `-P` each port that is exposed.
pub fn asked(container: &Container) -> Result<Vec<Asked>> {
    let record = &container.record;
    let h = &record.host_config;
    let mut all = Vec::new();
    for (inside, bindings) in &h.port_bindings {
        let (container_port, protocol) = flags::container_port(inside)?;
        for binding in bindings {
            let wrong = || Error::kind(Kind::Usage, format!("invalid port binding of {inside}"));
            let text = binding.host_port.as_str();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| match text {
                "" => Ok(0),
                text => text.parse().map_err(|_| wrong()),
            };
            let open = binding.host_ip.is_empty();
            let host = match binding.host_ip.as_str() {
                "" => Ipv4Addr::UNSPECIFIED.into(),
                text => text.parse().map_err(|_| wrong())?,
            };
            all.push(Asked {
                protocol,
                host,
                open,
                host_ports: (number(first)?, number(last)?),
                container_port,
            });
        }
    }
    if h.publish_all_ports {
        for inside in record.config.exposed_ports.keys() {
            let (container_port, protocol) = flags::container_port(inside)?;
            if !h.port_bindings.contains_key(inside) {
                all.push(Asked {
                    protocol,
                    host: Ipv4Addr::UNSPECIFIED.into(),
                    open: true,
                    host_ports: (0, 0),
                    container_port,
                });
            }
        }
    }
    Ok(all)
}

/// Whether ports for which no address was named are published in IPv6 too, through this network.
/// Errors: a port of an address that leads nowhere in it.
pub(super) fn has_six(network: &Network, asked: &[Asked]) -> Result<bool> {
    let pool = network.pools.iter().any(|p| p.subnet.address.is_ipv6());
    for host in asked.iter().map(|a| a.host).filter(IpAddr::is_ipv6) {
        let what = || {
            let name = &network.name;
            format!("cannot publish a port on {host} for a container of the network {name}")
        };
        if !pool {
            let error = Error::kind(Kind::Unsupported, what())
                .caused_by(Error::new("the network has addresses of IPv4 alone"));
            return Err(error.hint("`glassbox network create --ipv6` makes one that has both"));
        }
        if host == Ipv6Addr::LOCALHOST {
            rules::loopback_six().with_context(what)?;
        }
    }
    Ok(pool && std::path::Path::new("/proc/net/if_inet6").exists())
}

/// Holds the ports of a container.
#[derive(Debug)]
pub struct HoldPorts {
    /// Whose networks.
    pub store: Store,
    /// Which ports.
    pub asked: Vec<Asked>,
    /// Those for which no address was named are of IPv6 too.
    pub six: bool,
}

impl Action for HoldPorts {
    fn calls(&self) -> Vec<Planned> {
        let call = |a: &Asked| {
            let port = match a.host_ports {
                (0, _) => "a free port".to_string(),
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("a free one of {first}-{last}"),
            };
            let both = if a.open && self.six { " and ::" } else { "" };
            let words = format!("{} {}{both}, {port}", a.protocol.name(), a.host);
            Planned::new("bind", words)
        };
        self.asked.iter().map(call).collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let mut ports = Vec::new();
        for asked in &self.asked {
            for (socket, port) in hold(&self.store, asked, self.six)? {
                scene.put_fd(format!("{HELD}{}", ports.len()), socket);
                ports.push(port);
            }
        }
        let text = serde_json::to_string(&ports).context("cannot write JSON")?;
        scene.put(PORTS, text);
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let ports = held(scene);
        let all: Vec<String> = ports
            .iter()
            .map(|p| format!("{} → {}", p.outside(), p.inside()))
            .collect();
        vec![Fact {
            what: "ports held".into(),
            value: Ok(match all.is_empty() {
                true => "none".into(),
                false => all.join(", "),
            }),
            source: "getsockname(2)".into(),
        }]
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        drop(scene.take_all(HELD));
        Ok(())
    }
}

/// The ports that an earlier step holds.
pub(super) fn held(scene: &Scene) -> Vec<Port> {
    let text = scene.get(PORTS).unwrap_or("[]");
    serde_json::from_str(text).unwrap_or_default()
}

/// A port on each of these addresses, the same number on all; the errors are of the address that
/// refused.
fn bind(
    asked: &Asked,
    hosts: &[IpAddr],
    number: u16,
) -> std::result::Result<Vec<(OwnedFd, Port)>, (SocketAddr, SysError)> {
    let mut all: Vec<(OwnedFd, Port)> = Vec::new();
    for host in hosts {
        // The kernel's choice for the first is everybody's.
        let number = all.first().map_or(number, |(_, port)| port.host_port);
        let address = SocketAddr::new(*host, number);
        let tcp = asked.protocol == Protocol::Tcp;
        let (socket, host_port) = sys::inet::bind_port(tcp, address).map_err(|e| (address, e))?;
        let port = Port {
            protocol: asked.protocol,
            host: *host,
            host_port,
            container_port: asked.container_port,
        };
        all.push((socket, port));
    }
    Ok(all)
}

fn hold(store: &Store, asked: &Asked, six: bool) -> Result<Vec<(OwnedFd, Port)>> {
    let mut hosts = vec![asked.host];
    if asked.open && six {
        hosts.push(Ipv6Addr::UNSPECIFIED.into());
    }
    // A number that the kernel chooses for one family may be taken in the other.
    let (tries, (first, last)) = match asked.host_ports {
        (0, _) => (FREE_TRIES, (0, 0)),
        range => (1, range),
    };
    let mut refused = None;
    for number in (0..tries).flat_map(|_| first..=last) {
        match bind(asked, &hosts, number) {
            Ok(all) => return Ok(all),
            Err((address, e)) if e.errno == Errno::EADDRINUSE => refused = Some((address, e)),
            Err((address, e)) => {
                let what = format!(
                    "failed to bind host port {address}/{}",
                    asked.protocol.name()
                );
                let hint = match e.errno {
                    Errno::EADDRNOTAVAIL => Some("the host does not have this address"),
                    Errno::EAFNOSUPPORT => Some("this kernel has no IPv6"),
                    Errno::EACCES => Some(
                        "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
                    ),
                    _ => None,
                };
                let error = Error::from(e).context(what);
                return Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                });
            }
        }
    }
    let Some((address, e)) = refused else {
        return Err(Error::new("no port was asked for"));
    };
    let ours = record::stored(store)?
        .into_iter()
        .flat_map(|n| n.leases.into_values());
    let ours = ours.flat_map(|l: Lease| l.ports.into_iter().map(move |p| (l.name.clone(), p)));
    let mut ours =
        ours.filter(|(_, p)| p.protocol == asked.protocol && p.host_port == address.port());
    let error = Error::kind(
        Kind::Conflict,
        match ours.next() {
            Some((name, _)) => {
                return Err(Error::kind(
                    Kind::Conflict,
                    format!("Bind for {address} failed: port is already allocated"),
                )
                .caused_by(Error::from(e))
                .hint(format!(
                    "container {name} publishes it: `glassbox port {name}`"
                )));
            }
            None => format!(
                "failed to bind host port for {address}/{}: address already in use",
                asked.protocol.name()
            ),
        },
    );
    Err(error
        .caused_by(Error::from(e))
        .hint("another program of the host has it: `ss -ltunp` says which"))
}

/// The ports that a container publishes now.
pub fn of(container: &Container) -> Result<Vec<Port>> {
    let networks = record::stored(&Store::of(container))?;
    let leases = networks.iter().filter_map(|n| n.leases.get(container.id()));
    let mut all: Vec<Port> = leases.flat_map(|l| l.ports.clone()).collect();
    // A user-mode network has no lease; it publishes what was asked for.
    let run = &container.run;
    if all.is_empty() && (run.join(slirp::SOCKET).exists() || pasta::runs_for(run)) {
        all = asked(container)?
            .into_iter()
            .map(Asked::into_port)
            .collect();
    }
    Ok(all)
}

/// Holds again what a container publishes, for a monitor that takes over. What cannot be held (some
/// program was quick) is published all the same.
pub fn hold_again(container: &Container) -> Vec<OwnedFd> {
    let ports = of(container).unwrap_or_default();
    let again = ports.iter().filter_map(|p| {
        let address = SocketAddr::new(p.host, p.host_port);
        sys::inet::bind_port(p.protocol == Protocol::Tcp, address).ok()
    });
    again.map(|(socket, _)| socket).collect()
}
