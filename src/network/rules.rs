//! Which rules networks need, out of what they are.
//!
//! ```text
//!   prerouting, output   a published port of the host's   → the container's address and port
//!   forward              what belongs to a connection, or goes to a published port, gets in;
//!                        what stays in a network too; nothing else does: networks do not see
//!                        each other, and an internal one sees nothing
//!   postrouting          what leaves a network            → with the host's address
//!   raw                  a container does not reach the host's own loopback
//! ```
//!
//! A port that is asked for on 127.0.0.1 goes the same way: its packets leave for the bridge with the
//! bridge's address (masqueraded), for which the bridge must take addresses of the loopback
//! (`route_localnet`).
//!
//! What it does: decides, purely ([`chains`]), and has it so ([`apply`]).
//! What it implements: the semantics of docker's bridge driver. Interface: [`Wall`], [`Published`],
//! [`chains`], [`apply`]. Read next: `containers/networks/lease.rs`.

use super::Prefix;
use super::nft::{self, Chain, Rule, Verdict};
use crate::error::{Context, Error, Result};
use crate::spec::Digest;
use crate::sys::{self, Errno, SysError};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A network as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wall {
    /// Its bridge.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<Prefix>,
    /// There is no way out.
    pub internal: bool,
    /// What leaves it gets the host's address.
    pub masquerade: bool,
}

/// The host's own address of IPv6.
const ONE: Prefix = Prefix {
    address: IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    length: 128,
};

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Single packets.
    Udp,
}

impl Protocol {
    /// `tcp`
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// A port of the host's that is a container's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address of the host's; 0.0.0.0 for all.
    pub host: IpAddr,
    /// The port there.
    pub port: u16,
    /// The container's address.
    pub to: IpAddr,
    /// The port there.
    pub to_port: u16,
    /// The bridge of its network.
    pub bridge: String,
}

/// The whole table. Nothing when there is no network. `six`: answers find `::1`
/// ([`loopback_six`]); else what the host sends there is left alone.
pub fn chains(walls: &[Wall], published: &[Published], six: bool) -> Vec<Chain> {
    if walls.is_empty() {
        return Vec::new();
    }
    let port = |p: &Published| {
        let rule = match p.host.is_unspecified() {
            true if p.host.is_ipv6() && !six => Rule::new().at_the_host(p.to).not_to(&ONE),
            true => Rule::new().at_the_host(p.to),
            false => Rule::new().to(&Prefix {
                address: p.host,
                length: if p.host.is_ipv4() { 32 } else { 128 },
            }),
        };
        rule.at_port(p.protocol.number(), p.protocol.name(), p.port)
            .destination(p.to, p.to_port)
    };
    // A port of `::1` alone leads nowhere where answers do not find it.
    let reached = |p: &&Published| six || p.host != ONE.address;
    let ports: Vec<Rule> = published.iter().filter(reached).map(port).collect();
    let loopback = Prefix {
        address: IpAddr::from([127, 0, 0, 0]),
        length: 8,
    };
    let (mut forward, mut post, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for wall in walls {
        let (bridge, subnets) = (wall.bridge.as_str(), &wall.subnets);
        let inside = Rule::new().iifname(bridge, true).oifname(bridge, true);
        forward.push(inside.verdict(Verdict::Accept));
        if wall.internal {
            let out = Rule::new().iifname(bridge, true).oifname(bridge, false);
            forward.push(out.verdict(Verdict::Drop));
        } else {
            let out = || Rule::new().oifname(bridge, true);
            forward.push(out().established().verdict(Verdict::Accept));
            forward.push(out().translated().verdict(Verdict::Accept));
        }
        if wall.masquerade && !wall.internal {
            for subnet in subnets {
                post.push(Rule::new().from(subnet).oifname(bridge, false).masquerade());
            }
        }
        let mut ports = published.iter().filter(|p| p.bridge == wall.bridge);
        if ports.clone().next().is_some() {
            // From the host's own loopback, and from the container to itself by the host's port.
            let own = |prefix| Rule::new().from(prefix).oifname(bridge, true).masquerade();
            post.push(own(&loopback));
            if six && ports.any(|p| p.host.is_ipv6()) {
                post.push(own(&ONE));
            }
            for subnet in subnets {
                let own = Rule::new().from(subnet).oifname(bridge, true);
                post.push(own.translated().masquerade());
            }
            raw.push(
                Rule::new()
                    .iifname(bridge, true)
                    .to(&loopback)
                    .verdict(Verdict::Drop),
            );
        }
    }
    // Behind what lets packets in, of every network: else one network's wall would end the other's
    // connections.
    for wall in walls {
        let rest = Rule::new().oifname(&wall.bridge, true);
        forward.push(rest.verdict(Verdict::Drop));
    }
    let chain = |name, kind, hook, priority, rules| Chain {
        name,
        kind,
        hook,
        priority,
        rules,
    };
    vec![
        chain("raw", "filter", 0, -300, raw),
        chain("prerouting", "nat", 0, -100, ports.clone()),
        chain("output", "nat", 3, -100, ports),
        chain("forward", "filter", 2, 0, forward),
        chain("postrouting", "nat", 4, 100, post),
    ]
}

/// Has the table so: leaves it alone where it is so already, and removes it when nothing is to be in
/// it. What is returned may be dropped later, as [`nft::make`] says. Errors: the kernel has no
/// nftables, or lacks a module.
pub fn apply(table: &str, chains: &[Chain]) -> Result<Option<OwnedFd>> {
    let what = || format!("cannot write the packet filter's table {table}");
    let there = match nft::mark(table) {
        // No netfilter at all: nothing of ours can be in it.
        Err(_) if chains.is_empty() => return Ok(None),
        other => other.map_err(refused).with_context(what)?,
    };
    if chains.is_empty() {
        return match there {
            Some(_) => nft::remove(table)
                .map(Some)
                .map_err(refused)
                .with_context(what),
            None => Ok(None),
        };
    }
    let mark = format!("glassbox {}", fingerprint(chains));
    if there.as_ref() == Some(&mark) {
        return Ok(None);
    }
    nft::make(table, &mark, chains, there.is_some())
        .map(Some)
        .map_err(refused)
        .with_context(what)
}

fn fingerprint(chains: &[Chain]) -> String {
    let mut text = String::new();
    for chain in chains {
        text += &format!("{} {} {}\n", chain.name, chain.hook, chain.priority);
        chain
            .rules
            .iter()
            .for_each(|r| text += &format!("{}\n", r.text));
    }
    Digest::sha256(text.as_bytes()).hex()[..16].to_string()
}

fn refused(e: SysError) -> Error {
    let errno = e.errno;
    let error = Error::from(e);
    match errno {
        Errno::EPERM => error.hint("rules need root (CAP_NET_ADMIN) on the host"),
        Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EINVAL => error.hint(
            "this kernel lacks a part of nftables: `modprobe nf_tables nft_chain_nat nft_masq nft_fib_inet nft_ct`, \
             or a kernel that has them; an --internal network without published ports does without",
        ),
        _ => error,
    }
}

/// Why this kernel filters no packets at all; nothing where it does, for whomever.
pub fn missing() -> Option<Error> {
    let lacks = |e: &SysError| {
        matches!(
            e.errno,
            Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL
        )
    };
    nft::mark("").err().filter(lacks).map(refused)
}

/// The kernel parameter that has a bridge take addresses of the loopback.
pub fn route_localnet(bridge: &str) -> PathBuf {
    format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet").into()
}

/// Says whether bridges show what they pass on to the packet filter of IPv6.
const BRIDGE_CALLS: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// Whether a published port can answer on the host's own `::1`. Errors: why it cannot: where bridges
/// call the packet filter themselves, an answer has `::1` in it when IPv6 first sees it, which then
/// takes it for a forgery.
pub fn loopback_six() -> Result<()> {
    match std::fs::read_to_string(BRIDGE_CALLS) {
        Ok(text) if text.trim() != "0" => Err(Error::new(
            "net.bridge.bridge-nf-call-ip6tables is 1 on this host: answers from a bridge do not find ::1",
        )
        .hint("`sysctl net.bridge.bridge-nf-call-ip6tables=0`, or publish on 127.0.0.1")),
        _ => Ok(()), // without that module there is nothing in the way
    }
}

/// Sets a kernel parameter to 1, unless it is.
pub fn switch_on(path: &std::path::Path) -> Result<bool> {
    let what = || format!("cannot read {}", path.display());
    if std::fs::read_to_string(path).with_context(what)?.trim() == "1" {
        return Ok(false);
    }
    sys::fs::write_file(path, "1").with_context(|| format!("cannot set {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_two_networks() {
        let wall = |bridge: &str, subnet: &str, internal| Wall {
            bridge: bridge.into(),
            subnets: vec![subnet.parse().unwrap()],
            internal,
            masquerade: true,
        };
        let walls = [
            wall("br-a", "10.1.0.0/16", false),
            wall("br-b", "10.2.0.0/20", true),
        ];
        let published = [Published {
            protocol: Protocol::Tcp,
            host: "0.0.0.0".parse().unwrap(),
            port: 8080,
            to: "10.1.0.2".parse().unwrap(),
            to_port: 80,
            bridge: "br-a".into(),
        }];
        let all = chains(&walls, &published, true);
        let texts = |name: &str| {
            let chain = all.iter().find(|c| c.name == name).unwrap();
            chain
                .rules
                .iter()
                .map(|r| r.text.clone())
                .collect::<Vec<_>>()
        };
        let port = "meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 10.1.0.2:80";
        assert_eq!(texts("prerouting"), [port]);
        assert_eq!(texts("output"), [port]);
        assert_eq!(
            texts("forward"),
            [
                "iifname \"br-a\" oifname \"br-a\" accept",
                "oifname \"br-a\" ct state established,related accept",
                "oifname \"br-a\" ct status dnat accept",
                "iifname \"br-b\" oifname \"br-b\" accept",
                "iifname \"br-b\" oifname != \"br-b\" drop",
                "oifname \"br-a\" drop",
                "oifname \"br-b\" drop",
            ]
        );
        assert_eq!(
            texts("postrouting"),
            [
                "ip saddr 10.1.0.0/16 oifname != \"br-a\" masquerade",
                "ip saddr 127.0.0.0/8 oifname \"br-a\" masquerade",
                "ip saddr 10.1.0.0/16 oifname \"br-a\" ct status dnat masquerade",
            ]
        );
        assert_eq!(texts("raw"), ["iifname \"br-a\" ip daddr 127.0.0.0/8 drop"]);
        assert!(chains(&[], &[], true).is_empty());
        let without = chains(&walls, &[], true);
        assert_ne!(fingerprint(&all), fingerprint(&without));
    }

    #[test]
    fn ports_of_ipv6_and_the_loopback_that_answers_may_not_find() {
        let walls = [Wall {
            bridge: "br-a".into(),
            subnets: vec!["fd00:1::/64".parse().unwrap()],
            internal: false,
            masquerade: true,
        }];
        let port = |host: &str, port| Published {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            port,
            to: "fd00:1::2".parse().unwrap(),
            to_port: 80,
            bridge: "br-a".into(),
        };
        let published = [port("::", 8080), port("::1", 8081)];
        let texts = |name: &str, six| {
            let all = chains(&walls, &published, six);
            let chain = all.into_iter().find(|c| c.name == name).unwrap();
            chain.rules.into_iter().map(|r| r.text).collect::<Vec<_>>()
        };
        let any = "meta nfproto ipv6 fib daddr type local";
        let to = "dnat ip6 to [fd00:1::2]:80";
        assert_eq!(
            texts("output", true),
            [
                format!("{any} tcp dport 8080 {to}"),
                format!("ip6 daddr ::1/128 tcp dport 8081 {to}"),
            ]
        );
        assert_eq!(
            texts("output", false),
            [format!("{any} ip6 daddr != ::1/128 tcp dport 8080 {to}")]
        );
        let own = "ip6 saddr ::1/128 oifname \"br-a\" masquerade".to_string();
        assert!(texts("postrouting", true).contains(&own));
        assert!(!texts("postrouting", false).contains(&own));
    }
}
