//! A container's networks in the words of docker's `inspect`.
//!
//! What it does: for each network that a container is in, what it wished for there and, while it
//! runs, what it has. What it implements: the schema `EndpointSettings` of the Docker Engine API
//! 1.50. Interface: [`endpoints`], [`ports`]. Read next: `containers/inspect.rs`.

use super::super::store::{Container, Store};
use super::{record, wanted};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// `NetworkSettings.Ports`: of each port, published or exposed, where it is on the host.
pub fn ports(container: &Container, runs: bool) -> Value {
    let mut shown = Map::new();
    if !runs {
        return Value::Object(shown);
    }
    for inside in container.record.config.exposed_ports.keys() {
        shown.insert(inside.clone(), Value::Null);
    }
    for port in super::ports::of(container).unwrap_or_default() {
        let on_host = json!({ "HostIp": port.host, "HostPort": port.host_port.to_string() });
        match shown.entry(port.inside()).or_insert(Value::Null) {
            Value::Array(list) => list.push(on_host),
            other => *other = json!([on_host]),
        }
    }
    Value::Object(shown)
}

/// `NetworkSettings.Networks`: by the network's name.
pub fn endpoints(container: &Container, runs: bool) -> Value {
    let store = Store::of(container);
    let all = record::list(&store).unwrap_or_default();
    let mut shown = Map::new();
    let mode = container.record.host_config.network_mode.as_str();
    if matches!(mode, "host" | "none") {
        let network = all.iter().find(|n| n.name == mode);
        let id = network.map(|n| n.id.clone()).unwrap_or_default();
        shown.insert(
            mode.into(),
            json!({ "NetworkID": id, "IPAddress": "", "Gateway": "" }),
        );
    }
    let mut wishes = wanted(container);
    for network in all
        .iter()
        .filter(|n| runs && n.leases.contains_key(container.id()))
    {
        // Connected since.
        if wishes
            .iter()
            .all(|w| w.network != network.name && w.network != network.id)
        {
            wishes.push(super::EndpointConfig {
                network: network.name.clone(),
                ..Default::default()
            });
        }
    }
    for wish in wishes {
        let network = all
            .iter()
            .find(|n| n.name == wish.network || n.id.starts_with(&wish.network));
        let lease = network
            .filter(|_| runs)
            .and_then(|n| n.leases.get(container.id()));
        let of = |four: bool| {
            let mut all = lease.iter().flat_map(|l| &l.endpoint.addresses);
            all.find(|a| a.address.is_ipv4() == four).copied()
        };
        let gateway = |four: bool| {
            let mut all = network
                .filter(|_| lease.is_some())
                .into_iter()
                .flat_map(|n| &n.pools);
            let found = all.find(|p| p.gateway.is_ipv4() == four);
            let found = found.and_then(|p| Some(network?.way_out(p)));
            // None where the device itself is the way.
            let found = found.filter(|g| !g.is_unspecified());
            found.map(|g| g.to_string()).unwrap_or_default()
        };
        let address = |four: bool| of(four).map(|a| a.address.to_string()).unwrap_or_default();
        let length = |four: bool| of(four).map_or(0, |a| a.length);
        let own = |text: &str| text.parse::<IpAddr>().map(|a| a.to_string()).ok();
        let config = match (own(&wish.ipv4_address), own(&wish.ipv6_address)) {
            (None, None) => Value::Null,
            (Some(four), None) => json!({ "IPv4Address": four }),
            (None, Some(six)) => json!({ "IPv6Address": six }),
            (Some(four), Some(six)) => json!({ "IPv4Address": four, "IPv6Address": six }),
        };
        let mac = lease.map(|l| l.endpoint.mac.to_string());
        let endpoint = json!({
            "IPAMConfig": config,
            "Links": Value::Null,
            "Aliases": if wish.aliases.is_empty() { Value::Null } else { json!(wish.aliases) },
            "MacAddress": mac.unwrap_or(wish.mac_address),
            "DriverOpts": Value::Null,
            "GwPriority": wish.gw_priority,
            "NetworkID": network.map(|n| n.id.clone()).unwrap_or_default(),
            "EndpointID": lease.map(|l| l.endpoint_id.clone()).unwrap_or_default(),
            "Gateway": gateway(true),
            "IPAddress": address(true),
            "IPPrefixLen": length(true),
            "IPv6Gateway": gateway(false),
            "GlobalIPv6Address": address(false),
            "GlobalIPv6PrefixLen": length(false),
        });
        shown.insert(network.map_or(wish.network, |n| n.name.clone()), endpoint);
    }
    Value::Object(shown)
}
