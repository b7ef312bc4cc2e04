//! The steps that put a container's `hostname`, `hosts` and `resolv.conf` in place.
//!
//! What it does: looks up what [`name_files`] needs to know and plans the writing. In a network the
//! container's address is only known when it has been taken, which is a step of its own, so `hosts`
//! is written after that one.
//! Interface: [`steps`], [`hosts_step`]. Read next: `prepare.rs`.

use super::actions::WriteFile;
use super::flags::HOST_GATEWAY;
use super::name_files::{self, Hosts, Reach};
use super::store::{Container, Store};
use super::{names, networks};
use crate::error::{Error, Kind, Result};
use crate::journal::{Action, Fact, Plan, Planned, Scene, Stage, Step};
use crate::network::{Endpoint, slirp};
use std::net::IpAddr;
use std::path::PathBuf;

/// Plans `hostname` and `resolv.conf`; warnings go to the plan.
pub fn steps(container: &Container, hostname: &str, reach: Reach, plan: &mut Plan) -> Vec<Step> {
    let of_host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let wish = &container.record.host_config;
    let (resolv_conf, warning) = name_files::resolv_conf(&of_host, reach, wish);
    plan.warnings.extend(warning);
    let step = |name: &str, text: String, why: &'static str| {
        let file = file(container.dir.join(name), text);
        Step::parent(Stage::Containers, format!("write-{name}"), why, file)
    };
    vec![
        step(
            "hostname",
            format!("{hostname}\n"),
            "The name of the container, for programs that read the file.",
        ),
        step("resolv.conf", resolv_conf, "Where names are asked for."),
    ]
}

/// Plans `hosts`, to be written when the addresses of `endpoints` have been taken. Errors: a --link
/// to a container that does not run.
pub fn hosts_step(
    store: &Store,
    container: &Container,
    hostname: &str,
    reach: Reach,
    endpoints: &[Endpoint],
) -> Result<Step> {
    let record = &container.record;
    let action = WriteHosts {
        path: container.dir.join("hosts"),
        reach,
        hostname: hostname.to_string(),
        domainname: record.config.domainname.clone(),
        extra: record.host_config.extra_hosts.clone(),
        links: match reach {
            Reach::Bridge => links(store, container)?,
            _ => Vec::new(), // in a network of the user's own the name server knows them
        },
        endpoints: endpoints.to_vec(),
    };
    Ok(Step::parent(
        Stage::Containers,
        "write-hosts",
        "Names that need no name server: its own, and those of --add-host.",
        action,
    ))
}

fn file(path: PathBuf, text: String) -> WriteFile {
    WriteFile {
        path,
        text,
        mode: 0o644,
        durable: false,
        own: true,
    }
}

/// The containers of --link, by their addresses on the default bridge.
fn links(store: &Store, container: &Container) -> Result<Vec<(IpAddr, String)>> {
    let mut all = Vec::new();
    let wanted = &container.record.host_config.links;
    for (name, alias) in wanted.iter().filter_map(|link| link.split_once(':')) {
        let other = store.find(name)?;
        let bridge = networks::find(store, "bridge")?;
        let lease = bridge.leases.get(other.id()).ok_or_else(|| {
            Error::kind(
                Kind::Conflict,
                format!(
                    "Cannot link to a non running container: /{} AS /{}/{alias}",
                    other.name(),
                    container.name()
                ),
            )
            .hint("on the default bridge a link is an address in a file: start the other one first")
        })?;
        let short = names::short(other.id());
        let mut called = vec![alias, short, other.name()];
        called.dedup();
        let called = called.join(" ");
        let addresses = lease.endpoint.addresses.iter();
        all.extend(addresses.map(|prefix| (prefix.address, called.clone())));
    }
    Ok(all)
}

/// Writes `hosts` with the addresses that earlier steps have taken.
#[derive(Debug)]
struct WriteHosts {
    path: PathBuf,
    reach: Reach,
    hostname: String,
    domainname: String,
    extra: Vec<String>,
    links: Vec<(IpAddr, String)>,
    /// As they were planned.
    endpoints: Vec<Endpoint>,
}

impl WriteHosts {
    fn file(&self, scene: Option<&Scene>) -> WriteFile {
        let decided = |planned: &Endpoint| {
            let text = scene.and_then(|s| s.get(&Endpoint::key(&planned.network)));
            let decided = text.and_then(|t| serde_json::from_str(t).ok());
            decided.unwrap_or_else(|| planned.clone())
        };
        let endpoints: Vec<Endpoint> = self.endpoints.iter().map(decided).collect();
        let prefixes = endpoints.iter().flat_map(|e| &e.addresses);
        let addresses: Vec<IpAddr> = prefixes.map(|prefix| prefix.address).collect();
        let gateway = match self.reach {
            Reach::UserMode => Some(slirp::GATEWAY.into()),
            Reach::Bridge | Reach::Named => {
                let mut gateways = endpoints.iter().filter_map(|e| e.gateways.first());
                gateways.find(|g| !g.is_unspecified()).copied()
            }
            // In its own network the host is on loopback; with no network nobody is anywhere else.
            Reach::Host | Reach::Loopback => Some(std::net::Ipv4Addr::LOCALHOST.into()),
        };
        let extra = self.extra.iter();
        let extra: Vec<String> = extra.filter_map(|e| with_gateway(e, gateway)).collect();
        let of_host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let text = name_files::hosts(&Hosts {
            reach: self.reach,
            hostname: &self.hostname,
            domainname: &self.domainname,
            extra: &extra,
            addresses: &addresses,
            links: &self.links,
            of_host: &of_host,
        });
        file(self.path.clone(), text)
    }
}

/// An entry of --add-host, with the host's address in place of the word for it; nothing where no way
/// leads to the host (an internal network).
fn with_gateway(entry: &str, gateway: Option<IpAddr>) -> Option<String> {
    match (entry.strip_suffix(HOST_GATEWAY), gateway) {
        (Some(name), Some(gateway)) => Some(format!("{name}{gateway}")),
        (Some(_), None) => None,
        (None, _) => Some(entry.to_string()),
    }
}

impl Action for WriteHosts {
    fn calls(&self) -> Vec<Planned> {
        self.file(None).calls()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        self.file(Some(scene)).apply(scene)
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.file(Some(scene)).observe(scene)
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        self.file(Some(scene)).undo(scene)
    }
}
