//! Links, addresses and routes: one function a change, one a look.
//!
//! What it does: each function is one request over a socket of the network namespace that is meant;
//! [`socket_in`] makes one for a namespace that this process is not in.
//!
//! What it implements: rtnetlink(7): `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE` and
//! their dumps; linux/if_link.h, linux/veth.h. All errors are the kernel's: `EPERM` (no
//! CAP_NET_ADMIN over the namespace), `EEXIST`, `ENODEV`, `EOPNOTSUPP` (a kind of link that this
//! kernel does not have).
//! Interface: below. Read next: `actions.rs`.

use super::wire::{self, Attributes};
use super::{Mac, Prefix};
use crate::error::Result;
use crate::sys::{self, Errno, SysResult, netlink};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

/// `struct ifinfomsg` of linux/rtnetlink.h.
const IFINFO: usize = 16;
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const UP: u32 = libc::IFF_UP as u32;
/// linux/if_link.h, linux/veth.h: attributes that libc does not name.
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
/// Of what a link is a port, and what that knows of it (linux/if_link.h).
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const MACVLAN_MODE_BRIDGE: u32 = 4;
/// Of the route by which answers find `::1`: any but that of the loopback's own, which is 0.
const LOOPBACK_METRIC: u32 = 4096;

/// A device as a namespace lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: i32,
    /// Its name in this namespace.
    pub name: String,
    /// `IFF_UP`
    pub up: bool,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
}

/// A socket of another namespace: made there, used from here.
pub fn socket_in(namespace: &OwnedFd) -> Result<OwnedFd> {
    const NETNS: u64 = libc::CLONE_NEWNET as u64;
    let own = sys::namespace::open_ns("/proc/thread-self/ns/net")?;
    sys::namespace::setns(namespace, NETNS)?;
    let socket = netlink::route_socket();
    // Whatever became of the socket, this process has to come back.
    sys::namespace::setns(&own, NETNS)?;
    Ok(socket?)
}

/// All devices of the socket's namespace.
pub fn links(socket: impl AsFd) -> SysResult<Vec<Link>> {
    let all = netlink::dump(socket, libc::RTM_GETLINK, &[0; IFINFO], "RTM_GETLINK")?;
    Ok(all.iter().filter_map(|(_, body)| parse(body)).collect())
}

/// The device with this name, if there is one.
pub fn find(socket: impl AsFd, name: &str) -> SysResult<Option<Link>> {
    let body = Attributes::new()
        .text(libc::IFLA_IFNAME, name)
        .after(&[0; IFINFO]);
    match netlink::get(socket, libc::RTM_GETLINK, &body, "RTM_GETLINK") {
        Ok(answer) => Ok(answer.and_then(|(_, body)| parse(&body))),
        Err(e) if e.errno == Errno::ENODEV => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse(body: &[u8]) -> Option<Link> {
    let number = |at: usize| Some(i32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let attributes = wire::read(body.get(IFINFO..)?);
    let find = |wanted: u16| attributes.iter().find(|(kind, _)| *kind == wanted);
    let (_, name) = find(libc::IFLA_IFNAME)?;
    let mac = find(libc::IFLA_ADDRESS).and_then(|(_, bytes)| bytes.as_slice().try_into().ok());
    Some(Link {
        index: number(4)?,
        name: String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned(),
        up: number(8)? & libc::IFF_UP != 0,
        mac: mac.map(Mac),
    })
}

/// Whether a bridge has a port.
pub fn has_ports(socket: impl AsFd, bridge: i32) -> SysResult<bool> {
    let all = netlink::dump(socket, libc::RTM_GETLINK, &[0; IFINFO], "RTM_GETLINK")?;
    let wanted = (libc::IFLA_MASTER, bridge.to_ne_bytes().to_vec());
    let mut attributes = all
        .iter()
        .map(|(_, body)| wire::read(body.get(IFINFO..).unwrap_or_default()));
    Ok(attributes.any(|a| a.contains(&wanted)))
}

/// The header of a message about a link: its number (0 for a new one, or one that is named), flags,
/// and which of the flags count.
fn header(index: i32, flags: u32, mask: u32) -> [u8; IFINFO] {
    let mut header = [0; IFINFO]; // family AF_UNSPEC, padding, type
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&mask.to_ne_bytes());
    header
}

/// Brings a device up.
pub fn up(socket: impl AsFd, index: i32, device: &str) -> SysResult<()> {
    let words = format!("{device} up");
    set(socket, index, UP, UP, Attributes::new(), &words)
}

/// `RTM_NEWLINK` for an existing device: flags (those of `mask`) and attributes.
pub fn set(
    socket: impl AsFd,
    index: i32,
    flags: u32,
    mask: u32,
    attributes: Attributes,
    words: &str,
) -> SysResult<()> {
    let body = attributes.after(&header(index, flags, mask));
    netlink::request(socket, libc::RTM_NEWLINK, 0, &body, "RTM_NEWLINK", words)
}

/// Makes a bridge, up: a switch in the kernel. It gets a hardware address of its own, or it would
/// take that of its first port and lose it with that.
pub fn make_bridge(socket: impl AsFd, name: &str, mac: Mac, mtu: Option<u32>) -> SysResult<()> {
    let kind = Attributes::new().text(libc::IFLA_INFO_KIND, "bridge");
    let mut attributes = Attributes::new()
        .text(libc::IFLA_IFNAME, name)
        .bytes(libc::IFLA_ADDRESS, &mac.0);
    if let Some(mtu) = mtu {
        attributes = attributes.number(libc::IFLA_MTU, mtu);
    }
    let body = attributes
        .nested(libc::IFLA_LINKINFO, kind)
        .after(&header(0, UP, UP));
    let words = format!("{name} (bridge, {mac}), up");
    netlink::request(socket, libc::RTM_NEWLINK, NEW, &body, "RTM_NEWLINK", &words)
}

/// Where the inner end of a link goes.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// A process in the network namespace that is meant.
    pub pid: i32,
    /// The name there.
    pub name: &'a str,
    /// The hardware address there.
    pub mac: Mac,
    /// The largest packet; the kernel's default when absent.
    pub mtu: Option<u32>,
}

impl Inside<'_> {
    /// All but the hardware address, which not every kind of link has for itself.
    pub(super) fn attributes(&self) -> Attributes {
        let all = Attributes::new()
            .text(libc::IFLA_IFNAME, self.name)
            .number(libc::IFLA_NET_NS_PID, self.pid as u32);
        match self.mtu {
            Some(mtu) => all.number(libc::IFLA_MTU, mtu),
            None => all,
        }
    }
    fn with_mac(&self) -> Attributes {
        self.attributes().bytes(libc::IFLA_ADDRESS, &self.mac.0)
    }
}

/// Makes a link of this kind on the device with number `parent`, up, where its attributes say.
pub(super) fn make_on(
    socket: impl AsFd,
    parent: i32,
    attributes: Attributes,
    kind: Attributes,
    words: &str,
) -> SysResult<()> {
    let body = attributes
        .number(libc::IFLA_LINK, parent as u32)
        .nested(libc::IFLA_LINKINFO, kind)
        .after(&header(0, UP, UP));
    netlink::request(socket, libc::RTM_NEWLINK, NEW, &body, "RTM_NEWLINK", words)
}

/// Makes a pair of links: `outside` here, up, a port of the bridge with number `bridge`, and
/// its peer in the namespace of `inside`, made there directly.
pub fn make_veth(
    socket: impl AsFd,
    outside: &str,
    bridge: i32,
    inside: Inside<'_>,
) -> SysResult<()> {
    // Not up yet: the kernel opens neither end of a pair before both are there.
    let peer = inside.with_mac().after(&header(0, 0, 0));
    let kind = Attributes::new().text(libc::IFLA_INFO_KIND, "veth").nested(
        libc::IFLA_INFO_DATA,
        Attributes::new().bytes(VETH_INFO_PEER, &peer),
    );
    let mut attributes = Attributes::new()
        .text(libc::IFLA_IFNAME, outside)
        .number(libc::IFLA_MASTER, bridge as u32);
    if let Some(mtu) = inside.mtu {
        attributes = attributes.number(libc::IFLA_MTU, mtu);
    }
    let body = attributes
        .nested(libc::IFLA_LINKINFO, kind)
        .after(&header(0, UP, UP));
    let Inside { pid, name, mac, .. } = inside;
    let words = format!("{outside} (veth), up; its peer {name} ({mac}) beside process {pid}");
    netlink::request(socket, libc::RTM_NEWLINK, NEW, &body, "RTM_NEWLINK", &words)
}

/// Lets a port of a bridge send back what came in through it (`IFLA_BRPORT_MODE`).
pub fn set_hairpin(socket: impl AsFd, port: &str) -> SysResult<()> {
    let data = Attributes::new().bytes(IFLA_BRPORT_MODE, &[1]);
    let kind = Attributes::new()
        .text(IFLA_INFO_SLAVE_KIND, "bridge")
        .nested(IFLA_INFO_SLAVE_DATA, data);
    let attributes = Attributes::new()
        .text(libc::IFLA_IFNAME, port)
        .nested(libc::IFLA_LINKINFO, kind);
    set(socket, 0, 0, 0, attributes, &format!("{port} hairpin on"))
}

/// Makes a link with an address of its own on the wire of the device with number `parent`, in the
/// namespace of `inside`, up.
pub fn make_macvlan(socket: impl AsFd, parent: i32, inside: Inside<'_>) -> SysResult<()> {
    let data = Attributes::new().number(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
    let kind = Attributes::new()
        .text(libc::IFLA_INFO_KIND, "macvlan")
        .nested(libc::IFLA_INFO_DATA, data);
    let Inside { pid, name, mac, .. } = inside;
    let words = format!("{name} (macvlan, {mac}), up, beside process {pid}");
    make_on(socket, parent, inside.with_mac(), kind, &words)
}

/// Removes a link, and of a pair its peer. One that is not there is no error.
pub fn delete(socket: impl AsFd, name: &str) -> SysResult<()> {
    let body = Attributes::new()
        .text(libc::IFLA_IFNAME, name)
        .after(&[0; IFINFO]);
    match netlink::request(socket, libc::RTM_DELLINK, 0, &body, "RTM_DELLINK", name) {
        Err(e) if e.errno == Errno::ENODEV => Ok(()),
        other => other,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Gives a device an address; the network that it lies in is then reached through the device.
/// An IPv6 address counts at once: nobody else can have it.
pub fn add_address(socket: impl AsFd, index: i32, device: &str, address: &Prefix) -> SysResult<()> {
    let flags = match address.address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => libc::IFA_F_NODAD as u8,
    };
    // struct ifaddrmsg: family, prefix length, flags, scope (the universe), the device's number.
    let mut header = vec![family(address.address), address.length, flags, 0];
    header.extend((index as u32).to_ne_bytes());
    let octets = octets(address.address);
    let mut attributes = Attributes::new()
        .bytes(libc::IFA_LOCAL, &octets)
        .bytes(libc::IFA_ADDRESS, &octets);
    if let Some(IpAddr::V4(all)) = address.broadcast() {
        attributes = attributes.bytes(libc::IFA_BROADCAST, &all.octets());
    }
    let body = attributes.after(&header);
    let mut words = format!("{device} {address}");
    if let Some(all) = address.broadcast() {
        words += &format!(" broadcast {all}");
    }
    netlink::request(socket, libc::RTM_NEWADDR, NEW, &body, "RTM_NEWADDR", &words)
}

/// `struct rtmsg` of a route to everywhere (or the frame of a dump): the main table, by an
/// administrator, as far as it goes, to one receiver.
fn route_header(family: u8) -> Vec<u8> {
    let (table, protocol, scope, kind) = (
        libc::RT_TABLE_MAIN,
        libc::RTPROT_BOOT,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
    );
    let mut header = vec![family, 0, 0, 0, table, protocol, scope, kind];
    header.extend([0; 4]); // flags
    header
}

/// Sends everything that no other route knows to a gateway behind a device; to the device itself
/// where the gateway is [`here`], an address that nobody has.
pub fn add_default_route(
    socket: impl AsFd,
    index: i32,
    device: &str,
    gateway: IpAddr,
) -> SysResult<()> {
    let mut header = route_header(family(gateway));
    let mut attributes = Attributes::new().number(libc::RTA_OIF, index as u32);
    let mut words = format!("default dev {device}");
    match gateway.is_unspecified() {
        true => header[6] = libc::RT_SCOPE_LINK,
        false => {
            attributes = attributes.bytes(libc::RTA_GATEWAY, &octets(gateway));
            words = format!("default via {gateway} dev {device}");
        }
    }
    let body = attributes.after(&header);
    netlink::request(
        socket,
        libc::RTM_NEWROUTE,
        NEW,
        &body,
        "RTM_NEWROUTE",
        &words,
    )
}

/// Lets what comes back through a device reach the host's own `::1`: IPv6 knows no `route_localnet`,
/// and asks for a local route of the very device that the packet came in by. This one comes after
/// the loopback's own, so nothing else changes; a packet that has `::1` in it on the wire is thrown
/// away before any route is asked for (RFC 4291, 2.5.3). It goes with the device. One that is there
/// already is no error.
pub fn add_loopback_route(socket: impl AsFd, index: i32, device: &str) -> SysResult<()> {
    let one = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    let mut header = route_header(family(one));
    (header[1], header[4], header[7]) = (128, libc::RT_TABLE_LOCAL, libc::RTN_LOCAL);
    let body = Attributes::new()
        .bytes(libc::RTA_DST, &octets(one))
        .number(libc::RTA_OIF, index as u32)
        .number(libc::RTA_PRIORITY, LOOPBACK_METRIC)
        .after(&header);
    // Without NLM_F_EXCL, or one device could have such a route.
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    let words = format!("local ::1 dev {device} metric {LOOPBACK_METRIC}");
    match netlink::request(
        socket,
        libc::RTM_NEWROUTE,
        flags,
        &body,
        "RTM_NEWROUTE",
        &words,
    ) {
        Err(e) if e.errno == Errno::EEXIST => Ok(()),
        other => other,
    }
}

/// The gateway of a default route that leads through a device and names none.
pub fn here(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Removes the route to everywhere through a gateway; one that is not there is no error.
pub fn delete_default_route(socket: impl AsFd, gateway: IpAddr) -> SysResult<()> {
    let body = Attributes::new()
        .bytes(libc::RTA_GATEWAY, &octets(gateway))
        .after(&route_header(family(gateway)));
    let words = format!("default via {gateway}");
    match netlink::request(socket, libc::RTM_DELROUTE, 0, &body, "RTM_DELROUTE", &words) {
        Err(e) if e.errno == Errno::ESRCH => Ok(()),
        other => other,
    }
}

/// The networks that the host has routes to, but for the way to everywhere: what a new network must
/// not overlap.
pub fn routed(socket: impl AsFd) -> SysResult<Vec<Prefix>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let header = route_header(family);
        let dump = netlink::dump(&socket, libc::RTM_GETROUTE, &header, "RTM_GETROUTE")?;
        all.extend(dump.iter().filter_map(|(_, body)| destination(body)));
    }
    Ok(all)
}

/// Where a route of a dump leads; nothing for one to everywhere, to this host's own addresses, or
/// to a group of receivers.
fn destination(body: &[u8]) -> Option<Prefix> {
    let header: &[u8; 12] = body.first_chunk()?;
    let (length, table, kind) = (header[1], header[4], header[7]);
    if length == 0 || table == libc::RT_TABLE_LOCAL || kind != libc::RTN_UNICAST {
        return None;
    }
    let attributes = wire::read(&body[12..]);
    let (_, octets) = attributes.iter().find(|(k, _)| *k == libc::RTA_DST)?;
    let address = match octets.as_slice() {
        four if four.len() == 4 => IpAddr::from(<[u8; 4]>::try_from(four).ok()?),
        all => IpAddr::from(<[u8; 16]>::try_from(all).ok()?),
    };
    // fe80::/64 is every device's own.
    let own = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    (!own).then_some(Prefix { address, length })
}
