//! Steps of a container's set-up: the bridge, the pair of links, the address, the way out.
//!
//! ```text
//!   parent  (the engine)  a free address is taken, and may differ from the planned one
//!   parent  MakeBridge    if there is none yet
//!   parent  clone3        the network namespace exists
//!   parent  Connect       veth: one end in the bridge, the other in the namespace
//!   init    Configure     the address, the route; from inside, where init is root
//! ```
//!
//! What the engine has decided in its first step is in the scene, under [`Endpoint::key`]; the later
//! steps take it from there. A pair of links goes with either of its ends, so what init did needs no
//! undo; the outer end is removed all the same, for a namespace ends some time after its last process.
//!
//! What it implements: veth(4), rtnetlink(7), network_namespaces(7).
//! Interface: [`Endpoint`], [`MakeBridge`], [`Connect`], [`Configure`]; [`connect`] and
//! [`configure`] for a container that runs already. Read next: `runtime/plan/parent.rs`.

use super::ipvlan::{self, Ipvlan};
use super::{Mac, Prefix, link};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, Errno, netlink};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::AsFd;

/// How containers of a network reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Through a bridge of this host's.
    #[default]
    Bridge,
    /// On the wire of one of the host's devices, with hardware addresses of their own.
    Macvlan,
    /// The same, with the hardware address of that device.
    Ipvlan(Ipvlan),
}

/// A container's place in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// How it is connected.
    pub driver: Driver,
    /// The bridge, or the device whose wire is shared.
    pub bridge: String,
    /// The outer end of the pair of links.
    pub link: String,
    /// The inner end.
    pub inside: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses, with the length of the network's.
    pub addresses: Vec<Prefix>,
    /// Where everything goes that no route knows: at most one a family; [`link::here`] where the
    /// device itself is the way.
    pub gateways: Vec<IpAddr>,
    /// The largest packet.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// It has published ports: what it sends to one of them comes back to it, through the same
    /// port of the bridge, which a switch does not do by itself.
    #[serde(default)]
    pub hairpin: bool,
}

impl Endpoint {
    /// The scene's name for what was decided about this network.
    pub fn key(network: &str) -> String {
        format!("endpoint-{network}")
    }
    /// Leaves what was decided to later steps.
    pub fn put(&self, scene: &mut Scene) -> Result<()> {
        let text = serde_json::to_string(self).context("cannot write JSON")?;
        scene.put(Endpoint::key(&self.network), text);
        Ok(())
    }
    fn has_hairpin(&self) -> bool {
        self.hairpin && self.driver == Driver::Bridge
    }
    /// What an earlier step decided, else what was planned.
    fn decided(&self, scene: &Scene) -> Endpoint {
        let text = scene.get(&Endpoint::key(&self.network));
        let decided = text.and_then(|t| serde_json::from_str(t).ok());
        decided.unwrap_or_else(|| self.clone())
    }
}

/// Makes a network's bridge, unless it is there.
#[derive(Debug)]
pub struct MakeBridge {
    /// The network's name.
    pub network: String,
    /// Its name.
    pub name: String,
    /// The host's own addresses on it, which are the containers' gateways.
    pub addresses: Vec<Prefix>,
    /// The largest packet.
    pub mtu: Option<u32>,
}

/// The hardware address of a bridge that we make: whoever removes it knows it by that.
fn bridge_mac(addresses: &[Prefix]) -> Mac {
    let first = addresses.first().map(|a| a.address);
    Mac::of(first.unwrap_or(IpAddr::from([0, 0, 0, 1])))
}

impl MakeBridge {
    /// The scene's name for a lock of the engine's that is held until the bridge is there.
    pub const LOCK: &str = "bridge-lock";
    /// Leaves the host's addresses to the step that makes the bridge: whoever takes the first address
    /// may choose another subnet than the one that was free when the plan was made.
    pub fn put(network: &str, addresses: &[Prefix], scene: &mut Scene) -> Result<()> {
        let text = serde_json::to_string(addresses).context("cannot write JSON")?;
        scene.put(format!("bridge-{network}"), text);
        Ok(())
    }
    fn decided(&self, scene: &Scene) -> Vec<Prefix> {
        let text = scene.get(&format!("bridge-{}", self.network));
        let decided = text.and_then(|t| serde_json::from_str(t).ok());
        decided.unwrap_or_else(|| self.addresses.clone())
    }
}

impl Action for MakeBridge {
    fn calls(&self) -> Vec<Planned> {
        let name = &self.name;
        let mut calls = vec![Planned::new(
            "sendto",
            format!(
                "NETLINK_ROUTE, RTM_NEWLINK, {name} (bridge, {}), up",
                bridge_mac(&self.addresses)
            ),
        )];
        calls.extend(
            self.addresses
                .iter()
                .map(|a| Planned::new("sendto", format!("NETLINK_ROUTE, RTM_NEWADDR, {name} {a}"))),
        );
        calls
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot make the bridge {}", self.name);
        let _lock = scene.take_fd(MakeBridge::LOCK);
        let addresses = self.decided(scene);
        let socket = netlink::route_socket().with_context(what)?;
        match link::make_bridge(&socket, &self.name, bridge_mac(&addresses), self.mtu) {
            Err(e) if e.errno != Errno::EEXIST => {
                return Err(refused(e, Driver::Bridge)).with_context(what);
            }
            _ => {} // made, or there already
        }
        let bridge = link::find(&socket, &self.name).with_context(what)?;
        let bridge = bridge.context("it went again").with_context(what)?;
        for address in &addresses {
            match link::add_address(&socket, bridge.index, &self.name, address) {
                Err(e) if e.errno != Errno::EEXIST => return Err(e).with_context(what),
                _ => {} // it has it, from the time when it was made
            }
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![up_fact(&self.name, &self.name)]
    }
    fn expected(&self) -> Option<String> {
        Some("up".into())
    }
    // Its undo is that of the lease: whoever gives the last one back removes the bridge.
}

/// Removes the bridge that [`MakeBridge`] has made with these addresses, once it has no port any
/// more. One with ports is still used, and one that the host had before stays.
pub fn remove_bridge(name: &str, addresses: &[Prefix]) -> Result<()> {
    let what = || format!("cannot remove the bridge {name}");
    let socket = netlink::route_socket().with_context(what)?;
    let Some(bridge) = link::find(&socket, name).with_context(what)? else {
        return Ok(());
    };
    let ours = bridge.mac == Some(bridge_mac(addresses));
    if !ours || link::has_ports(&socket, bridge.index).with_context(what)? {
        return Ok(());
    }
    link::delete(&socket, name).with_context(what)
}

fn up_fact(what: &str, name: &str) -> Fact {
    let look = || link::find(netlink::route_socket()?, name);
    Fact {
        what: what.into(),
        value: match look() {
            Ok(Some(l)) => Ok(if l.up { "up" } else { "down" }.into()),
            Ok(None) => Ok("does not exist".into()),
            Err(e) => Err(e.to_string()),
        },
        source: "RTM_GETLINK".into(),
    }
}

fn refused(e: sys::SysError, driver: Driver) -> Error {
    let modules = match driver {
        Driver::Bridge => "bridge veth",
        Driver::Macvlan => "macvlan",
        Driver::Ipvlan(_) => "ipvlan",
    };
    let errno = e.errno;
    let error = Error::from(e);
    match errno {
        Errno::EPERM => error.hint("networks need root (CAP_NET_ADMIN) on the host; --network none and host do not"),
        Errno::EOPNOTSUPP => error.hint(format!(
            "this kernel lacks that kind of link: `modprobe {modules}`, or a kernel that has it"
        )),
        Errno::EBUSY if driver != Driver::Bridge => error.hint(
            "a device that is a bridge's port takes no such link, and none has both macvlan and ipvlan",
        ),
        _ => error,
    }
}

/// Connects the new network namespace: a pair of links with one end in the bridge.
#[derive(Debug)]
pub struct Connect {
    /// As planned.
    pub endpoint: Endpoint,
}

impl Action for Connect {
    fn calls(&self) -> Vec<Planned> {
        let Endpoint {
            link,
            inside,
            mac,
            bridge,
            ..
        } = &self.endpoint;
        let words = match self.endpoint.driver {
            Driver::Bridge => format!(
                "{link} (veth, a port of {bridge}), up; its peer {inside} ({mac}) beside INIT"
            ),
            Driver::Macvlan => format!("{inside} (macvlan of {bridge}, {mac}), up, beside INIT"),
            Driver::Ipvlan(how) => {
                let how = how.words();
                format!("{inside} (ipvlan of {bridge}, {how}), up, beside INIT")
            }
        };
        let call = |words| Planned::new("sendto", format!("NETLINK_ROUTE, RTM_NEWLINK, {words}"));
        let mut calls = vec![call(words)];
        if self.endpoint.has_hairpin() {
            calls.push(call(format!("{link} hairpin on")));
        }
        calls
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let endpoint = self.endpoint.decided(scene);
        connect(&endpoint, scene.child_pid()?)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        match self.endpoint.driver {
            Driver::Bridge => vec![up_fact(&self.endpoint.link, &self.endpoint.link)],
            _ => Vec::new(), // it has no outer end
        }
    }
    fn expected(&self) -> Option<String> {
        (self.endpoint.driver == Driver::Bridge).then(|| "up".into())
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        disconnect(&self.endpoint)
    }
}

/// Makes the link of an endpoint into the network namespace of a process.
pub fn connect(endpoint: &Endpoint, pid: i32) -> Result<()> {
    let Endpoint {
        network, bridge, ..
    } = endpoint;
    let what = || format!("cannot connect the container to the network {network}");
    let socket = netlink::route_socket().with_context(what)?;
    let found = link::find(&socket, bridge).with_context(what)?;
    let Some(found) = found else {
        return Err(Error::kind(Kind::NotFound, what())
            .caused_by(Error::new(format!("there is no device {bridge}"))));
    };
    let inside = link::Inside {
        pid,
        name: &endpoint.inside,
        mac: endpoint.mac,
        mtu: endpoint.mtu,
    };
    let make = || match endpoint.driver {
        Driver::Bridge => link::make_veth(&socket, &endpoint.link, found.index, inside),
        Driver::Macvlan => link::make_macvlan(&socket, found.index, inside),
        Driver::Ipvlan(how) => ipvlan::make(&socket, found.index, inside, how),
    };
    let made = match make() {
        // Of a life before, whose namespace has not quite ended.
        Err(e) if e.errno == Errno::EEXIST && endpoint.driver == Driver::Bridge => {
            link::delete(&socket, &endpoint.link).with_context(what)?;
            make()
        }
        other => other,
    };
    made.map_err(|e| refused(e, endpoint.driver))
        .with_context(what)?;
    if endpoint.has_hairpin() {
        link::set_hairpin(&socket, &endpoint.link).with_context(what)?;
    }
    Ok(())
}

/// Removes the outer end of an endpoint's pair, and the inner with it.
pub fn disconnect(endpoint: &Endpoint) -> Result<()> {
    match endpoint.driver {
        Driver::Bridge => remove_links([&endpoint.link]),
        _ => Ok(()), // it has no outer end, and goes with the namespace
    }
}

/// Removes outer ends of pairs, and the inner ones with them. One that is not there is no error.
pub fn remove_links<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    for name in names {
        let what = || format!("cannot remove the link {name}");
        let socket = netlink::route_socket().with_context(what)?;
        link::delete(&socket, name).with_context(what)?;
    }
    Ok(())
}

/// Gives the inner end its addresses, and the namespace its way out.
#[derive(Debug)]
pub struct Configure {
    /// As planned.
    pub endpoint: Endpoint,
}

impl Action for Configure {
    fn calls(&self) -> Vec<Planned> {
        let inside = &self.endpoint.inside;
        let route = |words: String| Planned::new("sendto", format!("NETLINK_ROUTE, {words}"));
        let addresses = self.endpoint.addresses.iter();
        let addresses = addresses.map(|a| route(format!("RTM_NEWADDR, {inside} {a}")));
        let gateways = self.endpoint.gateways.iter();
        let gateways = gateways.map(|g| match g.is_unspecified() {
            true => route(format!("RTM_NEWROUTE, default dev {inside}")),
            false => route(format!("RTM_NEWROUTE, default via {g} dev {inside}")),
        });
        let up = route(format!("RTM_NEWLINK, {inside} up"));
        std::iter::once(up)
            .chain(addresses)
            .chain(gateways)
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let endpoint = self.endpoint.decided(scene);
        let socket = netlink::route_socket().context("cannot speak to the kernel's networks")?;
        configure(&socket, &endpoint)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![up_fact(&self.endpoint.inside, &self.endpoint.inside)]
    }
    fn expected(&self) -> Option<String> {
        Some("up".into())
    }
}

/// What [`Configure`] does, over a socket of the container's network namespace.
pub fn configure(socket: impl AsFd, endpoint: &Endpoint) -> Result<()> {
    let inside = &endpoint.inside;
    let what = || {
        format!(
            "cannot configure {inside} for the network {}",
            endpoint.network
        )
    };
    let found = link::find(&socket, inside).with_context(what)?;
    let found = found.context("it is not there").with_context(what)?;
    link::up(&socket, found.index, inside).with_context(what)?;
    for address in &endpoint.addresses {
        link::add_address(&socket, found.index, inside, address).with_context(what)?;
    }
    for gateway in &endpoint.gateways {
        match link::add_default_route(&socket, found.index, inside, *gateway) {
            Err(e) if e.errno != Errno::EEXIST => return Err(e).with_context(what),
            _ => {} // another network's way out was first
        }
    }
    Ok(())
}
