//! The little languages of networks: `--network`.
//!
//! What it implements: the formats of docker's command line reference for `docker run`.
//! Interface: [`network`]. Read next: `containers/networks/mod.rs`, which decides what they mean.

use super::bad;
use crate::containers::model::EndpointConfig;
use crate::containers::user_network::{host_loopback, is_user_mode};
use crate::error::Result;
use crate::network::Mac;

/// `--network NAME`, or `--network name=NAME,alias=…,ip=…`.
pub fn network(text: &str) -> Result<EndpointConfig> {
    let mut wish = EndpointConfig::default();
    if is_user_mode(text) {
        // No network that others are in: what follows are options of its own.
        host_loopback(text)?;
        wish.network = text.into();
        return Ok(wish);
    }
    for (number, part) in text.split(',').enumerate() {
        let Some((key, value)) = part.split_once('=') else {
            if number > 0 || part.is_empty() {
                return Err(bad(format!("invalid field {part:?} in --network {text:?}"))
                    .hint("NAME, or name=NAME,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=N"));
            }
            wish.network = part.into();
            continue;
        };
        match key.trim() {
            "name" => wish.network = value.into(),
            "alias" => wish.aliases.push(value.into()),
            "ip" => wish.ipv4_address = address(value, true)?,
            "ip6" => wish.ipv6_address = address(value, false)?,
            "mac-address" | "mac" => wish.mac_address = value.parse::<Mac>()?.to_string(),
            "gw-priority" => {
                wish.gw_priority = value
                    .parse()
                    .map_err(|_| bad(format!("invalid gw-priority: {value:?} is no number")))?;
            }
            // Options of a driver that ours do not have.
            "driver-opt" => {}
            other => return Err(bad(format!("invalid field key {other}"))),
        }
    }
    match wish.network.is_empty() {
        true => Err(bad(format!(
            "network name is missing in --network {text:?}"
        ))),
        false => Ok(wish),
    }
}

/// An address of the family that is meant.
pub fn address(text: &str, four: bool) -> Result<String> {
    let parsed = text.parse::<std::net::IpAddr>();
    match parsed {
        Ok(address) if address.is_ipv4() == four => Ok(address.to_string()),
        _ => Err(bad(format!(
            "invalid IPv{} address: {text}",
            if four { 4 } else { 6 }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_by_name_and_by_fields() {
        assert_eq!(network("web").unwrap().network, "web");
        let all =
            "name=web,alias=a,alias=b,ip=10.0.0.5,mac-address=02:42:0a:00:00:05,gw-priority=2";
        let wish = network(all).unwrap();
        assert_eq!((wish.network.as_str(), wish.aliases.len()), ("web", 2));
        assert_eq!(
            (wish.ipv4_address.as_str(), wish.gw_priority),
            ("10.0.0.5", 2)
        );
        assert_eq!(network("web,ip=10.0.0.5").unwrap().ipv4_address, "10.0.0.5");
        for wrong in [
            "",
            "alias=a",
            "web,x",
            "web,color=1",
            "web,ip=x",
            "web,ip=fd00::1",
            "web,mac=1",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
