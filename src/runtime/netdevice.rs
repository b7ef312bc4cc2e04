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
use crate::sys::{self, netlink};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

const NETNS: u64 = libc::CLONE_NEWNET as u64;
/// `struct ifinfomsg` and `struct ifaddrmsg` of linux/rtnetlink.h and linux/if_addr.h.
const IFINFO: usize = 16;
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

/// A device as a namespace lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    index: i32,
    name: String,
    up: bool,
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
        let attributes = [(libc::IFLA_NET_NS_FD, fd.to_ne_bytes().to_vec())];
        set_link(&here, device.index, 0, 0, &attributes, &to)
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
            let attributes = [(libc::IFLA_IFNAME, c_string(&self.inside))];
            set_link(there, arrived.index, 0, 0, &attributes, &words).with_context(what)?;
        }
        for address in &addresses {
            address
                .add(there, arrived.index, &self.inside)
                .with_context(what)?;
        }
        let up = libc::IFF_UP as u32;
        let words = format!("{} up", self.inside);
        set_link(there, arrived.index, up, up, &[], &words).with_context(what)?;
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
            set_link(&there, index, 0, up, &[], &words).with_context(what)?;
            let words = format!("{} is called {}", self.inside, self.name);
            let attributes = [(libc::IFLA_IFNAME, c_string(&self.name))];
            set_link(&there, index, 0, 0, &attributes, &words).with_context(what)?;
        }
        let fd = own.as_raw_fd() as u32;
        let attributes = [(libc::IFLA_NET_NS_FD, fd.to_ne_bytes().to_vec())];
        let words = format!("{} → back", self.name);
        set_link(&there, index, 0, 0, &attributes, &words).with_context(what)?;
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
            set_link(&here, home.index, up, up, &[], &words).with_context(what)?;
        }
        Ok(())
    }
}

impl MoveNetDevice {
    fn key(&self, what: &str) -> String {
        format!("net-device-{}-{what}", self.name)
    }
}

/// A socket of another namespace: made there, used from here.
fn socket_in(namespace: &OwnedFd) -> Result<OwnedFd> {
    let own = sys::namespace::open_ns("/proc/self/ns/net")?;
    sys::namespace::setns(namespace, NETNS)?;
    let socket = netlink::route_socket();
    // Whatever became of the socket, this process has to come back.
    sys::namespace::setns(&own, NETNS)?;
    Ok(socket?)
}

/// The device that was not there before.
fn arrived(socket: impl AsFd, before: &[Link]) -> Result<Link> {
    let now = links(&socket)?;
    let new = now
        .into_iter()
        .find(|l| before.iter().all(|b| b.index != l.index));
    new.context("the device moved and cannot be found where it went")
}

fn c_string(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// Attributes, each `length, type, value` and padded to four bytes (`struct rtattr`).
fn put_attributes(body: &mut Vec<u8>, attributes: &[(u16, Vec<u8>)]) {
    for (kind, value) in attributes {
        body.extend(((value.len() + 4) as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
}

/// The attributes behind a message's own header.
fn get_attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let [a, b, c, d, ..] = bytes {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = bytes.get(4..length) else {
            break;
        };
        all.push((u16::from_ne_bytes([*c, *d]), value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// `RTM_NEWLINK` for an existing device: flags (those of `mask`) and attributes.
fn set_link(
    socket: impl AsFd,
    index: i32,
    flags: u32,
    mask: u32,
    attributes: &[(u16, Vec<u8>)],
    words: &str,
) -> sys::SysResult<()> {
    let mut body = vec![0u8; 4]; // family AF_UNSPEC, padding, type
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(mask.to_ne_bytes());
    put_attributes(&mut body, attributes);
    netlink::request(socket, libc::RTM_NEWLINK, 0, &body, "RTM_NEWLINK", words)
}

/// All devices of the socket's namespace.
fn links(socket: impl AsFd) -> sys::SysResult<Vec<Link>> {
    let all = netlink::dump(socket, libc::RTM_GETLINK, &[0; IFINFO], "RTM_GETLINK")?;
    Ok(all.iter().filter_map(|(_, body)| link(body)).collect())
}

fn link(body: &[u8]) -> Option<Link> {
    let number = |at: usize| Some(i32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let attributes = get_attributes(body.get(IFINFO..)?);
    let (_, name) = attributes
        .iter()
        .find(|(kind, _)| *kind == libc::IFLA_IFNAME)?;
    Some(Link {
        index: number(4)?,
        name: String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned(),
        up: number(8)? & libc::IFF_UP != 0,
    })
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
            attributes: get_attributes(&body[IFADDR..])
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
        put_attributes(&mut body, &self.attributes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        let attributes = vec![(3u16, c_string("eth0")), (1, vec![1, 2, 3, 4, 5, 6])];
        let mut body = Vec::new();
        put_attributes(&mut body, &attributes);
        assert_eq!(body.len() % 4, 0);
        assert_eq!(get_attributes(&body), attributes);
        assert!(get_attributes(&[9, 0, 1, 0]).is_empty(), "cut short");
    }
}
