//! Probes: what bridged networks need, and programs that the engine can use.
//!
//! Links are made in a network namespace of the child's own; they go with it.
//!
//! What it implements: rtnetlink(7), netlink(7), packet(7).
//! Read next: [`super`], the table's other halves, or [`crate::inspect`].

use super::{Ability, Probe, find_program, has_capability, in_child, setting, unreadable};
use crate::sys::{self, Errno, SysResult};

const NEWNET: u64 = libc::CLONE_NEWNET as u64;
const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "network",
        name: "veth",
        what_for: "a pair of interfaces: one in the container, one on the host",
        source: "RTM_NEWLINK (veth) in a child's network namespace",
        check: || link("veth", "CONFIG_VETH"),
    },
    Probe {
        group: "network",
        name: "bridge",
        what_for: "a switch that joins containers' interfaces",
        source: "RTM_NEWLINK (bridge) in a child's network namespace",
        check: || link("bridge", "CONFIG_BRIDGE"),
    },
    Probe {
        group: "network",
        name: "nftables",
        what_for: "address translation and published ports",
        source: "socket(AF_NETLINK, NETLINK_NETFILTER), nf_tables in /proc/modules",
        check: || {
            let opens = sys::ask::socket_opens(libc::AF_NETLINK, libc::NETLINK_NETFILTER);
            Ability::of(opens, |_| {
                "a kernel built with CONFIG_NETFILTER_NETLINK".into()
            })
        },
    },
    Probe {
        group: "network",
        name: "tun",
        what_for: "networks of rootless containers (slirp4netns, pasta)",
        source: "/dev/net/tun",
        check: || match std::fs::File::open("/dev/net/tun") {
            Ok(_) => Ability::yes(),
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => unreadable(
                "/dev/net/tun",
                &e,
                "as root: chmod 666 /dev/net/tun, which is safe",
            ),
            Err(e) => unreadable("/dev/net/tun", &e, "modprobe tun"),
        },
    },
    Probe {
        group: "network",
        name: "forwarding",
        what_for: "packets between containers and the rest of the world",
        source: "/proc/sys/net/ipv4/ip_forward",
        check: || match setting("/proc/sys/net/ipv4/ip_forward").as_deref() {
            Some("1") => Ability::yes(),
            Some(_) => Ability::no("net.ipv4.ip_forward is 0", "sysctl net.ipv4.ip_forward=1"),
            None => Ability::no("no IPv4 in this kernel", "a kernel with CONFIG_INET"),
        },
    },
    Probe {
        group: "network",
        name: "low ports for ordinary users",
        what_for: "publishing ports below 1024 without root",
        source: "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        check: || {
            let start = setting("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let start: u32 = start.and_then(|s| s.parse().ok()).unwrap_or(1024);
            match (has_capability(10), start) {
                (true, _) => Ability::Yes("this user has CAP_NET_BIND_SERVICE".into()),
                (_, 0) => Ability::yes(),
                (_, n) => Ability::no(
                    format!("ports below {n} need CAP_NET_BIND_SERVICE"),
                    "sysctl net.ipv4.ip_unprivileged_port_start=0",
                ),
            }
        },
    },
    Probe {
        group: "programs",
        name: "static busybox",
        what_for: "the smallest lab image: one file with all the usual tools",
        source: "busybox in PATH, its ELF header",
        check: busybox,
    },
    Probe {
        group: "programs",
        name: "newuidmap and newgidmap",
        what_for: "mapping a range of subordinate ids without root",
        source: "PATH",
        check: || match (find_program("newuidmap"), find_program("newgidmap")) {
            (Some(a), Some(_)) => Ability::Yes(a.display().to_string()),
            _ => Ability::no("not in PATH", "the package uidmap"),
        },
    },
];

fn link(kind: &'static str, option: &'static str) -> Ability {
    let flags = if has_capability(21) {
        NEWNET
    } else {
        NEWNET | NEWUSER
    };
    let result = in_child(flags, || new_link(kind).map(|()| String::new()));
    Ability::of(result, |errno| match errno {
        Errno::EOPNOTSUPP => format!("modprobe {kind}, or a kernel built with {option}"),
        Errno::EPERM => "root, or user namespaces for ordinary users".into(),
        _ => String::new(),
    })
}

/// Makes one link of this kind, named `probe0`.
fn new_link(kind: &str) -> SysResult<()> {
    sys::ask::netlink_route(&new_link_message(kind))
}

/// `RTM_NEWLINK` with IFLA_IFNAME and IFLA_LINKINFO { IFLA_INFO_KIND } (rtnetlink(7)).
fn new_link_message(kind: &str) -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x200; // REQUEST, ACK, CREATE, EXCL
    let attribute = |number: u16, value: &[u8]| {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(number.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let mut body = vec![0u8; 16]; // struct ifinfomsg
    body.extend(attribute(3, b"probe0\0"));
    body.extend(attribute(18, &attribute(1, kind.as_bytes())));
    let mut message = ((body.len() + 16) as u32).to_ne_bytes().to_vec();
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    message.extend([0u8; 8]); // sequence number and port
    message.extend(body);
    message
}

/// A static program names no interpreter: its ELF file has no PT_INTERP header (elf(5)).
fn busybox() -> Ability {
    let Some(path) = find_program("busybox") else {
        return Ability::no("busybox is not installed", "the package busybox-static");
    };
    match std::fs::read(&path).map(|bytes| is_static(&bytes)) {
        Ok(true) => Ability::Yes(path.display().to_string()),
        Ok(false) => Ability::no(
            format!("{} needs shared libraries", path.display()),
            "the package busybox-static; until then the lab image carries the libraries",
        ),
        Err(e) => Ability::no(format!("{}: {e}", path.display()), ""),
    }
}

fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| {
        elf.get(at..at + 2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
    };
    let Some(&[0x7f, b'E', b'L', b'F', 2, 1]) = elf.get(..6) else {
        return false;
    };
    let start = elf
        .get(32..40)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes) as usize;
    let (size, count) = (
        u16_at(54).unwrap_or(0) as usize,
        u16_at(56).unwrap_or(0) as usize,
    );
    count > 0
        && (0..count).all(|i| {
            let at = start + i * size;
            elf.get(at..at + 4) != Some(&PT_INTERP.to_le_bytes())
        })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_test_is_a_dynamic_program() {
        // Tests are never built with +crt-static: procedural macros would not load.
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(!super::is_static(&own));
        assert!(!super::is_static(b"#!/bin/sh"));
    }

    #[test]
    fn the_message_says_its_length() {
        let message = super::new_link_message("veth");
        let length = u32::from_ne_bytes(message[..4].try_into().unwrap());
        assert_eq!(length as usize, message.len());
        assert_eq!(message.len() % 4, 0);
    }
}
