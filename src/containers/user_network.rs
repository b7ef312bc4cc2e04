//! The network of an ordinary user's container, and whoever else asks for it: pasta or slirp4netns.
//!
//! What it does: reads `--network pasta[:OPTION,…]` and `--network slirp4netns[:OPTION,…]`, and decides
//! for a container whose network was left open. Where the host has one of them (pasta is preferred)
//! and lets the user have a tap device, an ordinary user's container gets a network of that kind;
//! elsewhere it has its loopback, and one line says why.
//!
//! What it implements: the words of podman's `--network pasta` and `slirp4netns`.
//! Interface: [`slirp`], [`is_user_mode`], [`reach`]. Read next: [`crate::network::slirp`],
//! [`crate::network::pasta`].

use super::name_files::Reach;
use super::networks::ports;
use super::store::Container;
use crate::error::{Error, Kind, Result};
use crate::network::Endpoint;
use crate::network::pasta;
use crate::network::slirp::{self, Forward, Program, Slirp};
use std::path::PathBuf;

/// Whether a network mode asks for it by name.
pub fn is_user_mode(mode: &str) -> bool {
    named(mode).is_some()
}

/// Which of them.
fn named(mode: &str) -> Option<Program> {
    match mode.split(':').next() {
        Some(slirp::PROGRAM) => Some(Program::Slirp4netns),
        Some(pasta::PROGRAM) => Some(Program::Pasta),
        _ => None,
    }
}

/// The program that a container gets: the one that was asked for, else pasta before slirp4netns.
/// Errors: there is none, and why.
fn choose(asked: Option<Program>) -> Result<(Program, PathBuf)> {
    let slirp4netns = || Ok((Program::Slirp4netns, slirp::usable()?));
    let pasta = || Ok((Program::Pasta, pasta::usable()?));
    match asked {
        Some(Program::Slirp4netns) => slirp4netns(),
        Some(Program::Pasta) => pasta(),
        None => pasta().or_else(|why: Error| {
            slirp4netns().map_err(|other| match slirp::is_installed() {
                true => other,
                false => why,
            })
        }),
    }
}

/// The options of `slirp4netns:allow_host_loopback=true` and `pasta:--map-gw`: whether 10.0.2.2 leads
/// to the host's loopback. Errors: another option.
pub fn host_loopback(mode: &str) -> Result<bool> {
    let (name, how) = match named(mode) {
        Some(Program::Pasta) => (pasta::PROGRAM, "--map-gw"),
        _ => (slirp::PROGRAM, "allow_host_loopback=true"),
    };
    let options = mode.split_once(':').map_or("", |(_, options)| options);
    let mut allowed = false;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        allowed = match (name, option) {
            (_, yes) if yes == how => true,
            (slirp::PROGRAM, "allow_host_loopback=false") | (pasta::PROGRAM, "--no-map-gw") => {
                false
            }
            (_, other) => {
                let text = format!("invalid option for {name}: {other:?}");
                return Err(Error::kind(Kind::Usage, text).hint(format!(
                    "{how} lets 10.0.2.2 reach what listens on the host's loopback"
                )));
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
    let asked = named(mode);
    let open = matches!(mode, "" | "default") && rootless;
    if asked.is_none() && !open {
        return Ok(None);
    }
    let host_loopback = asked.is_some() && host_loopback(mode)?;
    let (how, program) = match choose(asked) {
        Ok(chosen) => chosen,
        Err(e) if asked.is_some() => return Err(e),
        Err(e) => {
            *warning = Some(format!(
                "the container has no network but its loopback: {e:#} (--network none says that this is meant)"
            ));
            return Ok(None);
        }
    };
    Ok(Some(Slirp {
        how,
        program,
        host_loopback,
        forwards: forwards(container, how)?,
        dir: container.run.clone(),
    }))
}

/// Published ports, by number: nobody would learn which one was chosen. Errors: others.
fn forwards(container: &Container, how: Program) -> Result<Vec<Forward>> {
    let unsupported = |text: String| Error::kind(Kind::Unsupported, text).topic("rootless");
    let one = |asked: ports::Asked| {
        if asked.host.is_ipv6() && how == Program::Slirp4netns {
            let text = format!("slirp4netns publishes no port on {}", asked.host);
            let hint = "it listens on addresses of IPv4 alone; --network pasta has both, where the host has";
            return Err(unsupported(text).hint(hint));
        }
        let (port, last) = asked.host_ports;
        if port == 0 || port != last {
            let text = "a user-mode network publishes a port by its number".to_string();
            return Err(unsupported(text).hint("-p HOST:CONTAINER, as -p 8080:80"));
        }
        Ok(Forward {
            protocol: asked.protocol.name().into(),
            address: asked.host,
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
        assert!(
            is_user_mode("slirp4netns") && is_user_mode("slirp4netns:allow_host_loopback=true")
        );
        assert!(!is_user_mode("slirp4netns2") && !is_user_mode("default"));
        assert!(!host_loopback("slirp4netns").unwrap());
        assert!(host_loopback("slirp4netns:allow_host_loopback=true").unwrap());
        assert!(!host_loopback("slirp4netns:allow_host_loopback=false").unwrap());
        let text = format!("{:#}", host_loopback("slirp4netns:mtu=1").unwrap_err());
        assert!(text.contains("mtu=1"), "{text}");
        assert!(is_user_mode("pasta") && is_user_mode("pasta:--map-gw"));
        assert!(host_loopback("pasta:--map-gw").unwrap());
        assert!(!host_loopback("pasta").unwrap() && !host_loopback("pasta:--no-map-gw").unwrap());
        let text = format!(
            "{:#}",
            host_loopback("pasta:allow_host_loopback=true").unwrap_err()
        );
        assert!(text.contains("invalid option for pasta"), "{text}");
    }
}
