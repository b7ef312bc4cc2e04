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

/// The whole table. Nothing when there is no network.
pub fn chains(walls: &[Wall], published: &[Published]) -> Vec<Chain> {
    if walls.is_empty() {
        return Vec::new();
    }
    let port = |p: &Published| {
        let rule = match p.host.is_unspecified() {
            true => Rule::new().at_the_host(p.to),
            false => Rule::new().to(&Prefix {
                address: p.host,
                length: if p.host.is_ipv4() { 32 } else { 128 },
            }),
        };
        rule.at_port(p.protocol.number(), p.protocol.name(), p.port)
            .destination(p.to, p.to_port)
    };
    let ports: Vec<Rule> = published.iter().map(port).collect();
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
        if published.iter().any(|p| p.bridge == wall.bridge) {
            // From the host's own loopback, and from the container to itself by the host's port.
            post.push(
                Rule::new()
                    .from(&loopback)
                    .oifname(bridge, true)
                    .masquerade(),
            );
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
             or a kernel that has them",
        ),
        _ => error,
    }
}

/// The kernel parameter that has a bridge take addresses of the loopback.
pub fn route_localnet(bridge: &str) -> PathBuf {
    format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet").into()
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
        let all = chains(&walls, &published);
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
        assert!(chains(&[], &[]).is_empty());
        assert_ne!(fingerprint(&all), fingerprint(&chains(&walls, &[])));
    }
}
