//! The flags of `run` and `create` about networks.
//!
//! What it does: declares them, and turns them into which networks a container is in and what it
//! wishes for there. Interface: [`NetworkFlags`]. Read next: `container_flags.rs`.

use crate::containers::flags;
use crate::containers::model::{Config, EndpointConfig, HostConfig};
use crate::containers::networks;
use crate::error::{Error, Kind, Result};
use crate::network::Mac;
use crate::spec::image::Empty;

/// Flags about networks.
#[derive(clap::Args, Debug, Default)]
pub struct NetworkFlags {
    /// A network: NAME[,ip=…][,alias=…][,mac-address=…], none, host or container:NAME. Repeatable
    #[arg(
        long,
        visible_alias = "net",
        value_name = "NETWORK",
        help_heading = "Network"
    )]
    network: Vec<String>,
    /// Publish a port of its on the host: [[ADDRESS:]HOST:]CONTAINER[/udp], ranges too
    #[arg(short, long, value_name = "PORTS", help_heading = "Network")]
    publish: Vec<String>,
    /// Publish every exposed port, on a free port of the host's
    #[arg(short = 'P', long, help_heading = "Network")]
    publish_all: bool,
    /// A port that it serves: PORT[-PORT][/udp]
    #[arg(long, value_name = "PORTS", help_heading = "Network")]
    expose: Vec<String>,
    /// Its IPv4 address in the first network
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip: Option<String>,
    /// Its IPv6 address in the first network
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    ip6: Option<String>,
    /// Its hardware address in the first network
    #[arg(long, value_name = "MAC", help_heading = "Network")]
    mac_address: Option<String>,
    /// A further name in the first network
    #[arg(
        long,
        visible_alias = "net-alias",
        value_name = "NAME",
        help_heading = "Network"
    )]
    network_alias: Vec<String>,
}

/// Where a container is that neither names a network nor publishes a port: this one, where it is set.
const USUAL: &str = "GLASSBOX_NETWORK";

fn usual_network(host: &mut HostConfig) -> Result<()> {
    let Some(mode) = std::env::var_os(USUAL).filter(|mode| !mode.is_empty()) else {
        return Ok(());
    };
    match mode.to_str() {
        Some(mode @ ("none" | "host" | "bridge")) => host.network_mode = mode.into(),
        _ => {
            return Err(Error::kind(Kind::Usage, format!("{USUAL} is {mode:?}"))
                .hint("none, host or bridge"));
        }
    }
    Ok(())
}

/// What they come to.
#[derive(Debug)]
pub struct Networks {
    /// `HostConfig.NetworkMode`
    pub mode: String,
    /// The networks of ours that it is in.
    pub endpoints: Vec<EndpointConfig>,
}

impl NetworkFlags {
    /// Writes what `-p`, `-P` and `--expose` ask for into a container's configuration.
    pub fn ports(&self, config: &mut Config, host: &mut HostConfig) -> Result<()> {
        for text in &self.publish {
            for (inside, binding) in flags::publish(text)? {
                config.exposed_ports.insert(inside.clone(), Empty {});
                host.port_bindings.entry(inside).or_default().push(binding);
            }
        }
        for text in &self.expose {
            for inside in flags::expose(text)? {
                config.exposed_ports.insert(inside, Empty {});
            }
        }
        host.publish_all_ports = self.publish_all;
        let publishes = self.publish_all || !host.port_bindings.is_empty();
        if self.network.is_empty() && !publishes {
            usual_network(host)?;
        }
        Ok(())
    }
    /// What the flags ask for. Errors: contradictions, in docker's words.
    pub fn wish(&self) -> Result<Networks> {
        let usage = |text: &str| Error::kind(Kind::Usage, text.to_string());
        let mut endpoints = Vec::new();
        for text in &self.network {
            let wish = flags::network(text)?;
            if endpoints
                .iter()
                .any(|e: &EndpointConfig| e.network == wish.network)
            {
                return Err(usage(&format!(
                    "network {:?} is specified multiple times",
                    wish.network
                )));
            }
            endpoints.push(wish);
        }
        let mode = endpoints
            .first()
            .map_or("default", |e| &e.network)
            .to_string();
        let others = endpoints
            .iter()
            .filter(|e| !networks::is_named(&e.network))
            .count();
        if others > 0 && endpoints.len() > 1 {
            return Err(usage(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if others > 0 {
            endpoints.clear();
        }
        let asked = [&self.ip, &self.ip6, &self.mac_address];
        let any = asked.iter().any(|f| f.is_some()) || !self.network_alias.is_empty();
        if any && endpoints.is_empty() && mode != "default" {
            let what = match self.mac_address {
                Some(_) => "mac-address",
                None if self.network_alias.is_empty() => "static IP address",
                None => "network-scoped alias",
            };
            return Err(usage(&format!(
                "conflicting options: {what} and the network mode {mode}"
            )));
        }
        if any && endpoints.is_empty() {
            return Err(usage(
                "--ip, --ip6, --mac-address and --network-alias need a --network",
            ));
        }
        let Some(first) = endpoints.first_mut() else {
            return Ok(Networks { mode, endpoints });
        };
        let twice = |flag: &str| {
            Err(usage(&format!(
                "conflicting options: cannot specify both --{flag} and per-network {flag}"
            )))
        };
        if let Some(ip) = &self.ip {
            if !first.ipv4_address.is_empty() {
                return twice("ip");
            }
            first.ipv4_address = flags::address(ip, true)?;
        }
        if let Some(ip) = &self.ip6 {
            if !first.ipv6_address.is_empty() {
                return twice("ip6");
            }
            first.ipv6_address = flags::address(ip, false)?;
        }
        if let Some(mac) = &self.mac_address {
            if !first.mac_address.is_empty() {
                return twice("mac-address");
            }
            first.mac_address = mac.parse::<Mac>()?.to_string();
        }
        first.aliases.extend(self.network_alias.iter().cloned());
        Ok(Networks { mode, endpoints })
    }
}
