//! The network of an ordinary user's container, and whoever else asks for it: slirp4netns.
//!
//! What it does: reads `--network slirp4netns[:OPTION,…]`, and decides for a container whose network
//! was left open. Where the host has slirp4netns and lets the user have a tap device, an ordinary
//! user's container gets a network of that kind; elsewhere it has its loopback, and one line says
//! why.
//!
//! What it implements: the words of podman's `--network slirp4netns`.
//! Interface: [`slirp`], [`is_slirp`], [`reach`]. Read next: [`crate::network::slirp`].

use super::name_files::Reach;
use super::networks::ports;
use super::store::Container;
use crate::error::{Error, Kind, Result};
use crate::network::Endpoint;
use crate::network::slirp::{self, Forward, Slirp};
use std::net::IpAddr;

/// Whether a network mode asks for it by name.
pub fn is_slirp(mode: &str) -> bool {
    mode.split(':').next() == Some(slirp::PROGRAM)
}

/// The options of `slirp4netns:allow_host_loopback=true`: whether 10.0.2.2 leads to the host's
/// loopback. Errors: another option.
pub fn host_loopback(mode: &str) -> Result<bool> {
    let options = mode.split_once(':').map_or("", |(_, options)| options);
    let mut allowed = false;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        allowed = match option {
            "allow_host_loopback=true" => true,
            "allow_host_loopback=false" => false,
            other => {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("invalid option for slirp4netns: {other:?}"),
                )
                .hint("allow_host_loopback=true lets 10.0.2.2 reach what listens on the host's loopback"));
            }
        };
    }
    Ok(allowed)
}

/// The user-mode network that a container shall have. `Ok(None)` for one that has another network,
/// or none; `warning` says why an ordinary user's has none. Errors: it was asked for by name, and
/// cannot be had.
pub fn slirp(
    container: &Container,
    rootless: bool,
    warning: &mut Option<String>,
) -> Result<Option<Slirp>> {
    let h = &container.record.host_config;
    let mode = h.network_mode.as_str();
    let asked = is_slirp(mode);
    let open = matches!(mode, "" | "default") && rootless;
    if !asked && !open {
        return Ok(None);
    }
    let host_loopback = host_loopback(mode).or_else(|e| if asked { Err(e) } else { Ok(false) })?;
    let program = match slirp::usable() {
        Ok(program) => program,
        Err(e) if asked => return Err(e),
        Err(e) => {
            *warning = Some(format!(
                "the container has no network but its loopback: {e:#} (--network none says that this is meant)"
            ));
            return Ok(None);
        }
    };
    Ok(Some(Slirp {
        program,
        host_loopback,
        forwards: forwards(container)?,
        dir: container.run.clone(),
    }))
}

/// Published ports, by number: nobody would learn which one was chosen. Errors: others.
fn forwards(container: &Container) -> Result<Vec<Forward>> {
    let unsupported = |text: String| Error::kind(Kind::Unsupported, text).topic("rootless");
    let one = |asked: ports::Asked| {
        let IpAddr::V4(address) = asked.host else {
            let text = format!("a user-mode network publishes no port on {}", asked.host);
            return Err(unsupported(text).hint("it listens on addresses of IPv4 alone"));
        };
        let (port, last) = asked.host_ports;
        if port == 0 || port != last {
            let text = "a user-mode network publishes a port by its number".to_string();
            return Err(unsupported(text).hint("-p HOST:CONTAINER, as -p 8080:80"));
        }
        Ok(Forward {
            protocol: asked.protocol.name().into(),
            address,
            port,
            inner: asked.container_port,
        })
    };
    ports::asked(container)?.into_iter().map(one).collect()
}

/// Where a container's names come from. `slirp`: it has a user-mode network.
pub fn reach(mode: &str, slirp: bool, endpoints: &[Endpoint]) -> Reach {
    match mode {
        _ if slirp => Reach::UserMode,
        "host" => Reach::Host,
        _ if endpoints.iter().any(has_names) => Reach::Named,
        _ if endpoints.is_empty() => Reach::Loopback,
        _ => Reach::Bridge,
    }
}

/// Whether the containers of a network find each other by name: not on the default bridge, as docker
/// has it.
pub fn has_names(endpoint: &Endpoint) -> bool {
    endpoint.network != "bridge"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_podmans_and_the_host_is_shut_off_by_default() {
        assert!(is_slirp("slirp4netns") && is_slirp("slirp4netns:allow_host_loopback=true"));
        assert!(!is_slirp("slirp4netns2") && !is_slirp("default"));
        assert!(!host_loopback("slirp4netns").unwrap());
        assert!(host_loopback("slirp4netns:allow_host_loopback=true").unwrap());
        assert!(!host_loopback("slirp4netns:allow_host_loopback=false").unwrap());
        let text = format!("{:#}", host_loopback("slirp4netns:mtu=1").unwrap_err());
        assert!(text.contains("mtu=1"), "{text}");
    }
}
