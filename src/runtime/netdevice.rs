//! Network devices of the host that move into the container.
//!
//! What it does: takes a device out of the runtime's network namespace and puts it into the
//! container's, under a name of its own, with the addresses that it had, and up. The kernel keeps
//! a device's hardware address and MTU when it moves, but drops its addresses and takes it down.
//!
//! ```text
//!   here                             in the container's namespace
//!   read index, flags, addresses     the name is free?
//!   RTM_NEWLINK, IFLA_NET_NS_FD ───▶ the device, down, without addresses
//!                                    RTM_NEWLINK  its new name
//!                                    RTM_NEWADDR  each address
//!                                    RTM_NEWLINK  IFF_UP
//! ```
//!
//! Who runs here: the parent, as soon as the namespace is there. A socket that it makes inside
//! the namespace stays there when it has come back, and does the second half; should a later step
//! fail, it also sends the device home, before the namespace takes a virtual device along into its
//! end.
//!
//! What it implements: runtime-spec 1.3 "Network Devices"; rtnetlink(7), network_namespaces(7).
//! Interface: the action [`MoveNetDevice`]. Read next: `identity.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::network::link::{self, Link, links, socket_in};
use crate::network::wire::{self, Attributes};
use crate::sys::{self, netlink};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// `struct ifaddrmsg` of linux/if_addr.h.
const IFADDR: usize = 8;

/// Moves one device.
#[derive(Debug)]
pub struct MoveNetDevice {
    /// Its name here.
    pub name: String,
    /// Its name there; `eth%d` has the kernel choose a number.
    pub inside: String,
    /// The namespace to move it to: a file, or init's own.
    pub namespace: Option<PathBuf>,
}

/// An address: the message that adds it again, but for the device's index, and its text.
#[derive(Debug, Clone)]
struct Address {
    header: [u8; IFADDR],
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Action for MoveNetDevice {
    fn calls(&self) -> Vec<Planned> {
        let (name, inside) = (&self.name, &self.inside);
        let namespace = match &self.namespace {
            Some(path) => path.display().to_string(),
            None => "/proc/INIT/ns/net".into(),
        };
        let mut calls = vec![
            Planned::new("setns", format!("{namespace}, CLONE_NEWNET")),
            Planned::new("setns", "/proc/self/ns/net, CLONE_NEWNET"),
            Planned::new(
                "sendto",
                format!("NETLINK_ROUTE, RTM_NEWLINK, {name} → {namespace}"),
            ),
        ];
        if name != inside {
            calls.push(Planned::new(
                "sendto",
                format!("NETLINK_ROUTE, RTM_NEWLINK, {name} is called {inside}"),
            ));
        }
        calls.push(Planned::new(
            "sendto",
            format!("NETLINK_ROUTE, RTM_NEWADDR, {inside} (each address that it had)"),
        ));
        calls.push(Planned::new(
            "sendto",
            format!("NETLINK_ROUTE, RTM_NEWLINK, {inside} up"),
        ));
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot move the network device {} into the container",
                self.name
            )
        };
        let here = netlink::route_socket().with_context(what)?;
        let device = links(&here)
            .with_context(what)?
            .into_iter()
            .find(|l| l.name == self.name);
        let device = device.ok_or_else(|| {
            Error::kind(Kind::NotFound, what())
                .caused_by(Error::new(format!("there is no {} here", self.name)))
                .hint("linux.netDevices names devices of the runtime's network namespace: ip link")
        })?;
        let addresses = addresses(&here, device.index).with_context(what)?;
        let path = match &self.namespace {
            Some(path) => path.clone(),
            None => PathBuf::from(format!("/proc/{}/ns/net", scene.child_pid()?)),
        };
        let namespace = sys::namespace::open_ns(&path).with_context(what)?;
        let there = socket_in(&namespace).with_context(what)?;
        let before = links(&there).with_context(what)?;
        // Found after the move, the device would be there already, under a name nobody asked for.
        if let Some(taken) = before.iter().find(|l| l.name == self.inside) {
            return Err(
                Error::kind(Kind::Conflict, what()).caused_by(Error::new(format!(
                    "the container's network namespace has a device {} already",
                    taken.name
                ))),
            );
        }
        let to = format!("{} → {}", self.name, path.display());
        let fd = namespace.as_raw_fd() as u32;
        let attributes = Attributes::new().number(libc::IFLA_NET_NS_FD, fd);
        link::set(&here, device.index, 0, 0, attributes, &to)
            .with_context(what)
            .map_err(|e| match e.errno() {
                Some(libc::EPERM) => e.hint("this needs CAP_NET_ADMIN on the host"),
                Some(libc::EINVAL) => e.hint(
                    "some devices never leave their namespace: `ip -d link` says netns-immutable",
                ),
                Some(libc::EEXIST) => e.hint(format!(
                    "a device called {} is there already, as which this one would arrive",
                    self.name
                )),
                _ => e,
            })?;
        // From here on there is something to take back.
        scene.put_fd(self.key("there"), there);
        scene.put(self.key("up"), if device.up { "up" } else { "down" });
        let there = scene.fd(&self.key("there"))?;
        // Its index may be another: that of a device there, which it would have clashed with.
        let arrived = arrived(there, &before).with_context(what)?;
        scene.put(self.key("index"), arrived.index.to_string());
        let there = scene.fd(&self.key("there"))?;
        if self.inside != self.name {
            let words = format!("{} is called {}", self.name, self.inside);
            let attributes = Attributes::new().text(libc::IFLA_IFNAME, &self.inside);
            link::set(there, arrived.index, 0, 0, attributes, &words).with_context(what)?;
        }
        for address in &addresses {
            address
                .add(there, arrived.index, &self.inside)
                .with_context(what)?;
        }
        let up = libc::IFF_UP as u32;
        let words = format!("{} up", self.inside);
        link::set(there, arrived.index, up, up, Attributes::new(), &words).with_context(what)?;
        for (i, address) in addresses.iter().enumerate() {
            scene.put(self.key(&format!("address-{i}")), address.to_json());
        }
        Ok(())
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let Ok(there) = scene.fd(&self.key("there")) else {
            return Vec::new();
        };
        let index = scene.get(&self.key("index")).map(str::to_string);
        let value = links(there).map_err(|e| e.to_string()).and_then(|all| {
            all.into_iter()
                .find(|l| Some(l.index.to_string()) == index)
                .map(|l| format!("{}, {}", l.name, if l.up { "up" } else { "down" }))
                .ok_or_else(|| "it is not there".into())
        });
        vec![Fact {
            what: format!("{} in the container", self.name),
            value,
            source: "RTM_GETLINK".into(),
        }]
    }

    fn expected(&self) -> Option<String> {
        (!self.inside.contains('%')).then(|| format!("{}, up", self.inside))
    }

    /// Sends it home, with its name, its addresses and its state.
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        let Some(there) = scene.take_fd(&self.key("there")) else {
            return Ok(()); // it never left
        };
        let what = || format!("cannot bring the network device {} back", self.name);
        let index: i32 = scene
            .get(&self.key("index"))
            .and_then(|n| n.parse().ok())
            .with_context(what)?;
        let here = netlink::route_socket().with_context(what)?;
        let own = sys::namespace::open_ns("/proc/self/ns/net").with_context(what)?;
        let before = links(&here).with_context(what)?;
        if self.inside != self.name {
            // Only a device that is down can be renamed.
            let up = libc::IFF_UP as u32;
            let words = format!("{} down", self.inside);
            link::set(&there, index, 0, up, Attributes::new(), &words).with_context(what)?;
            let words = format!("{} is called {}", self.inside, self.name);
            let attributes = Attributes::new().text(libc::IFLA_IFNAME, &self.name);
            link::set(&there, index, 0, 0, attributes, &words).with_context(what)?;
        }
        let fd = own.as_raw_fd() as u32;
        let attributes = Attributes::new().number(libc::IFLA_NET_NS_FD, fd);
        let words = format!("{} → back", self.name);
        link::set(&there, index, 0, 0, attributes, &words).with_context(what)?;
        let home = arrived(&here, &before).with_context(what)?;
        let mut number = 0;
        while let Some(json) = scene.get(&self.key(&format!("address-{number}"))) {
            let address = Address::from_json(json).with_context(what)?;
            address
                .add(&here, home.index, &self.name)
                .with_context(what)?;
            number += 1;
        }
        if scene.get(&self.key("up")) == Some("up") {
            let up = libc::IFF_UP as u32;
            let words = format!("{} up", self.name);
            link::set(&here, home.index, up, up, Attributes::new(), &words).with_context(what)?;
        }
        Ok(())
    }
}

impl MoveNetDevice {
    fn key(&self, what: &str) -> String {
        format!("net-device-{}-{what}", self.name)
    }
}

/// The device that was not there before.
fn arrived(socket: impl AsFd, before: &[Link]) -> Result<Link> {
    let now = links(&socket)?;
    let new = now
        .into_iter()
        .find(|l| before.iter().all(|b| b.index != l.index));
    new.context("the device moved and cannot be found where it went")
}

/// The addresses of a device that somebody gave it: permanent, and known beyond the link, for
/// the kernel makes those of the link itself.
fn addresses(socket: impl AsFd, index: i32) -> sys::SysResult<Vec<Address>> {
    let all = netlink::dump(socket, libc::RTM_GETADDR, &[0; IFADDR], "RTM_GETADDR")?;
    let of = |body: &Vec<u8>| -> Option<Address> {
        let header: [u8; IFADDR] = *body.first_chunk()?;
        let device = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let (flags, scope) = (u32::from(header[2]), header[3]);
        let kept = device == index as u32
            && flags & libc::IFA_F_PERMANENT != 0
            && scope == libc::RT_SCOPE_UNIVERSE;
        kept.then(|| Address {
            header,
            attributes: wire::read(&body[IFADDR..])
                .into_iter()
                .filter(|(kind, _)| KEPT.contains(kind))
                .collect(),
        })
    };
    Ok(all.iter().filter_map(|(_, body)| of(body)).collect())
}

/// What makes an address what it is. The label is left out: it begins with the device's old name;
/// the rest is what the kernel counts (when it was made, how long it is valid).
const KEPT: &[u16] = &[
    libc::IFA_ADDRESS,
    libc::IFA_LOCAL,
    libc::IFA_BROADCAST,
    libc::IFA_ANYCAST,
];

impl Address {
    fn add(&self, socket: impl AsFd, index: i32, device: &str) -> sys::SysResult<()> {
        let mut body = self.header.to_vec();
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        for (kind, value) in &self.attributes {
            wire::put(&mut body, *kind, value);
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let words = format!("{device} {}", self.text());
        netlink::request(
            socket,
            libc::RTM_NEWADDR,
            flags,
            &body,
            "RTM_NEWADDR",
            &words,
        )
    }
    /// `192.0.2.1/24`
    fn text(&self) -> String {
        let find = |kind| self.attributes.iter().find(|(k, _)| *k == kind);
        let value = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS));
        let ip = value.and_then(|(_, v)| match v.as_slice() {
            v if v.len() == 4 => <[u8; 4]>::try_from(v).ok().map(std::net::IpAddr::from),
            v => <[u8; 16]>::try_from(v).ok().map(std::net::IpAddr::from),
        });
        match ip {
            Some(ip) => format!("{ip}/{}", self.header[1]),
            None => "an address".into(),
        }
    }
    fn to_json(&self) -> String {
        serde_json::to_string(&(&self.header, &self.attributes)).unwrap_or_default()
    }
    fn from_json(json: &str) -> Option<Address> {
        let (header, attributes) = serde_json::from_str(json).ok()?;
        Some(Address { header, attributes })
    }
}
