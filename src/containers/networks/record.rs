//! A network on disk.
//!
//! What it does: one JSON file a network, replaced whole under one lock for all of them, with the
//! leases of its containers in it.
//!
//! What it implements: docker's `network create`, `rm`, `prune`; docker's words for what is refused.
//! Interface: [`Network`], [`Wish`], and one function an operation. Read next: `lease.rs`.

use super::super::actions::make_all;
use super::super::store::Store;
use super::super::time::Time;
use super::super::{events, names, state};
use super::lease::{self, Lease};
use super::traces::Traces;
use crate::error::{Context, Error, Kind, Result};
use crate::network::{Prefix, ipvlan::Ipvlan, link, pool};
use crate::spec::Digest;
use crate::sys::{self, netlink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;

/// Docker's options of a bridge network that mean something here.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const MTU: &str = "com.docker.network.driver.mtu";
const PARENT: &str = "parent";

/// The networks that are always there.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pool {
    /// Its addresses.
    pub subnet: Prefix,
    /// The part of them that containers get; all of them when absent.
    #[serde(rename = "IPRange", default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Prefix>,
    /// The host's own address in it.
    pub gateway: IpAddr,
    /// Addresses that somebody else has: name → address.
    #[serde(
        rename = "AuxiliaryAddresses",
        default,
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// When it was made.
    pub created: Time,
    /// `bridge`, `macvlan`, `ipvlan`; `host` and `null` of the predefined.
    pub driver: String,
    /// There is no way out of it.
    #[serde(default)]
    pub internal: bool,
    /// It has an IPv6 subnet.
    #[serde(rename = "EnableIPv6", default)]
    pub ipv6: bool,
    /// Its subnets.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// Notes.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `--opt`
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The bridge, or the device whose wire is shared.
    #[serde(default)]
    pub device: String,
    /// Which container has which address: by container id.
    #[serde(default)]
    pub leases: BTreeMap<String, Lease>,
    /// What the host may have of it.
    #[serde(default)]
    pub traces: Traces,
}

/// What `network create` asks for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`.
    pub driver: String,
    /// `--internal`
    pub internal: bool,
    /// `--ipv6`
    pub ipv6: bool,
    /// `--subnet`
    pub subnets: Vec<Prefix>,
    /// `--gateway`
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`
    pub ranges: Vec<Prefix>,
    /// `--aux-address`
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// One of those that are always there.
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.iter().any(|(name, _)| *name == self.name)
    }
    /// The host's own addresses on its bridge.
    pub fn own_addresses(&self) -> Vec<Prefix> {
        let of = |p: &Pool| Prefix {
            address: p.gateway,
            length: p.subnet.length,
        };
        self.pools.iter().map(of).collect()
    }
    /// Somebody uses it, or its bridge is there still.
    pub fn is_up(&self) -> bool {
        self.traces.bridge || !self.leases.is_empty()
    }
    /// The largest packet that was asked for.
    pub fn mtu(&self) -> Option<u32> {
        self.options.get(MTU)?.parse().ok()
    }
    /// What it is like, of an ipvlan network.
    pub fn ipvlan(&self) -> Result<Ipvlan> {
        ipvlan(&self.options)
    }
    /// What a container's default route leads to: the gateway, or ([`link::here`]) the device itself
    /// where nobody can be asked for a gateway.
    pub fn way_out(&self, pool: &Pool) -> IpAddr {
        let is_routed = self.driver == "ipvlan" && self.ipvlan().is_ok_and(Ipvlan::is_routed);
        match is_routed {
            true => link::here(pool.gateway),
            false => pool.gateway,
        }
    }
    /// Its leases of containers that run, or are about to. A lease of one that was killed together
    /// with its monitor stays in the file until somebody looks.
    pub fn active(&self, store: &Store) -> Vec<&Lease> {
        let lives = |l: &&Lease| lease::is_alive(store, &l.container);
        self.leases.values().filter(lives).collect()
    }
}

/// Where the networks' files are; replacing one changes its time.
pub fn directory(store: &Store) -> PathBuf {
    store.paths().root.join("networks")
}

/// Takes the lock of all networks of this root, and makes their directory.
pub fn lock(store: &Store) -> Result<File> {
    make_all(&directory(store), 0o700)?;
    crate::files::lock(&directory(store).join("lock"))
}

/// What all roots of this host agree by: who holds it may choose a subnet and make the bridge that
/// shows it to the others. Take it behind [`lock`], and never the other way round. `None` where
/// there can be no such file; then two roots that start at the same moment may meet.
pub(super) fn lock_host() -> Option<File> {
    crate::files::lock("/run/glassbox-subnets.lock".as_ref()).ok()
}

/// Gives the network `bridge` another subnet where that is somebody else's on this host now: another
/// root may have taken it. Call it with [`lock_host`], before there is a bridge.
pub(super) fn choose_subnet_again(store: &Store, network: &mut Network) -> Result<()> {
    let socket = netlink::route_socket()?;
    if !network.is_predefined() || link::find(&socket, &network.device)?.is_some() {
        return Ok(());
    }
    let routed = link::routed(&socket)?;
    let is_free = |p: &Pool| !routed.iter().any(|r| r.overlaps(&p.subnet));
    if !network.pools.iter().all(is_free) {
        let mut others = stored(store)?;
        others.retain(|n| n.id != network.id);
        network.pools = pools(&Wish::default(), &network.id, &others)?;
    }
    Ok(())
}

/// Writes a network down. Call it with the lock held.
pub fn save(store: &Store, network: &Network) -> Result<()> {
    let path = directory(store).join(format!("{}.json", network.id));
    state::write_even_if_full(&path, &state::to_json(network)?, 0o600, false)
}

/// What is written down, without the predefined that never were.
pub(super) fn stored(store: &Store) -> Result<Vec<Network>> {
    let dir = directory(store);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", dir.display())),
    };
    let mut all: Vec<Network> = Vec::new();
    for path in entries.flatten().map(|e| e.path()) {
        if path.extension().is_some_and(|e| e == "json")
            && let Some(network) = state::read_json(&path)?
        {
            all.push(network);
        }
    }
    Ok(all)
}

/// All networks, by name. Errors: the directory cannot be read.
pub fn list(store: &Store) -> Result<Vec<Network>> {
    let mut all = stored(store)?;
    for (name, driver) in PREDEFINED {
        if all.iter().all(|n| n.name != name) {
            all.push(predefined(store, name, driver, &all)?);
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// A network that is always there, as it is before anybody has used it. Its id is made from its
/// name and the root, so it is the same each time.
fn predefined(store: &Store, name: &str, driver: &str, others: &[Network]) -> Result<Network> {
    let root = &store.paths().root;
    let text = format!("glassbox network {name} {}", root.display());
    let id = Digest::sha256(text.as_bytes()).hex().to_string();
    let mut network = Network {
        name: name.into(),
        created: Time(0),
        driver: driver.into(),
        internal: false,
        ipv6: false,
        pools: Vec::new(),
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        device: String::new(),
        leases: BTreeMap::new(),
        traces: Traces::default(),
        id,
    };
    if name == "bridge" {
        network.device = match root.as_os_str() == "/var/lib/glassbox" {
            true => "glassbox0".into(),
            // Another root has a bridge of its own.
            false => format!("br-{}", names::short(&network.id)),
        };
        // A host without a free subnet has networks all the same, just not this one.
        network.pools = pools(&Wish::default(), &network.id, others).unwrap_or_default();
    }
    Ok(network)
}

/// The network `bridge`.
pub fn predefined_bridge(store: &Store) -> Result<Network> {
    find(store, "bridge")
}

/// One network: by name, by id, by the beginning of an id that no other shares. Errors:
/// [`Kind::NotFound`] in docker's words.
pub fn find(store: &Store, target: &str) -> Result<Network> {
    let all = list(store)?;
    if let Some(exact) = all.iter().find(|n| n.name == target || n.id == target) {
        return Ok(exact.clone());
    }
    let mut fitting = all
        .iter()
        .filter(|n| !target.is_empty() && n.id.starts_with(target));
    match (fitting.next(), fitting.next()) {
        (Some(network), None) => Ok(network.clone()),
        (Some(_), Some(_)) => Err(Error::kind(
            Kind::Conflict,
            format!("network {target} is ambiguous (2 matches found based on ID prefix)"),
        )),
        _ => Err(
            Error::kind(Kind::NotFound, format!("network {target} not found"))
                .hint("`glassbox network ls` lists them, `glassbox network create` makes one"),
        ),
    }
}

/// Makes a network. Errors: what is asked for cannot be had, in docker's words.
pub fn create(store: &Store, wish: &Wish) -> Result<Network> {
    let refuse = |kind, text: String| Err(Error::kind(kind, text));
    names::check(&wish.name).map_err(|_| {
        Error::kind(
            Kind::Usage,
            format!(
                "{:?} is not a valid network name: [a-zA-Z0-9][a-zA-Z0-9_.-]",
                wish.name
            ),
        )
    })?;
    if PREDEFINED.iter().any(|(name, _)| *name == wish.name) || wish.name == "default" {
        let text = format!(
            "operation is not permitted on predefined {} network",
            wish.name
        );
        return refuse(Kind::Conflict, text);
    }
    let id = names::new_id()?;
    let device = match wish.driver.as_str() {
        "bridge" => match wish.options.get(BRIDGE_NAME) {
            Some(name) => name.clone(),
            None => format!("br-{}", names::short(&id)),
        },
        "macvlan" => parent_of(wish)?,
        "ipvlan" => {
            ipvlan(&wish.options)?;
            parent_of(wish)?
        }
        "host" | "null" | "none" => {
            let text = format!(
                "only one instance of \"{}\" network is allowed",
                wish.driver
            );
            return refuse(Kind::Conflict, text);
        }
        other => {
            return Err(Error::kind(
                Kind::NotFound,
                format!("could not find plugin {other} in v1 plugin registry: plugin not found"),
            )
            .hint("drivers are bridge, macvlan and ipvlan"));
        }
    };
    if device.is_empty() || device.len() > 15 || device.contains(['/', ':', ' ']) {
        return refuse(
            Kind::Usage,
            format!("{device:?} is no name of a network device"),
        );
    }
    let _lock = lock(store)?;
    let others = list(store)?;
    if others.iter().any(|n| n.name == wish.name) {
        return refuse(
            Kind::Conflict,
            format!("network with name {} already exists", wish.name),
        );
    }
    if let Some(other) = others
        .iter()
        .find(|n| n.device == device && n.driver == "bridge")
    {
        let text = format!(
            "bridge device {device} belongs to the network {}",
            other.name
        );
        return refuse(Kind::Conflict, text);
    }
    let network = Network {
        name: wish.name.clone(),
        created: Time::now(),
        driver: wish.driver.clone(),
        internal: wish.internal,
        ipv6: wish.ipv6 || wish.subnets.iter().any(|s| s.address.is_ipv6()),
        pools: pools(wish, &id, &others)?,
        labels: wish.labels.clone(),
        options: wish.options.clone(),
        device,
        leases: BTreeMap::new(),
        traces: Traces::default(),
        id,
    };
    save(store, &network)?;
    tell(store, "create", &network, &[]);
    Ok(network)
}

/// What docker's options say of an ipvlan network. Errors: a word that is none of theirs.
fn ipvlan(options: &BTreeMap<String, String>) -> Result<Ipvlan> {
    let of = |name: &str| options.get(name).map(String::as_str);
    Ipvlan::parse(of("ipvlan_mode"), of("ipvlan_flag"))
}

/// The device of the host's whose wire a network shares. Errors: there is none like that.
fn parent_of(wish: &Wish) -> Result<String> {
    let Some(parent) = wish.options.get(PARENT) else {
        return Err(Error::kind(
            Kind::Usage,
            format!("a {} network needs a parent device", wish.driver),
        )
        .hint("--opt parent=eth0: its containers are then on the wire of eth0"));
    };
    let socket = netlink::route_socket()?;
    match link::find(&socket, parent)? {
        Some(_) => Ok(parent.clone()),
        None => Err(Error::kind(
            Kind::NotFound,
            format!("invalid parent: there is no device {parent}"),
        )),
    }
}

/// An event of a network.
pub fn tell(store: &Store, action: &str, network: &Network, more: &[(&str, String)]) {
    let mut all = vec![
        ("name", network.name.clone()),
        ("type", network.driver.clone()),
    ];
    all.extend(more.iter().cloned());
    events::emit(&store.paths().root, "network", action, &network.id, &all);
}

/// The subnets of a new network: those that were asked for, else one of docker's pools, and for IPv6
/// one made from its id. None overlaps another network's or a route of the host's.
fn pools(wish: &Wish, id: &str, others: &[Network]) -> Result<Vec<Pool>> {
    let used: Vec<Prefix> = others
        .iter()
        .flat_map(|n| n.pools.iter().map(|p| p.subnet))
        .collect();
    let mut subnets = wish.subnets.clone();
    for subnet in &subnets {
        let again = subnets.iter().filter(|s| s.overlaps(subnet)).count() > 1;
        if again || used.iter().any(|u| u.overlaps(subnet)) {
            return Err(Error::kind(
                Kind::Conflict,
                "invalid pool request: Pool overlaps with other one on this address space",
            )
            .hint(format!(
                "{subnet} shares addresses with another network: `glassbox network inspect`"
            )));
        }
    }
    if subnets.iter().all(|s| s.address.is_ipv6()) {
        let mut taken = used.clone();
        if let Ok(socket) = netlink::route_socket() {
            taken.extend(link::routed(&socket)?);
        }
        let free = pool::next_subnet(&taken).ok_or_else(|| {
            Error::kind(
                Kind::Conflict,
                "all predefined address pools have been fully subnetted",
            )
            .hint(
                "`glassbox network prune` frees those of unused networks; --subnet chooses another",
            )
        })?;
        subnets.insert(0, free);
    }
    if wish.ipv6 && subnets.iter().all(|s| s.address.is_ipv4()) {
        subnets.push(pool::unique_local(id));
    }
    let mut pools = Vec::new();
    for subnet in &subnets {
        let fits = |a: &IpAddr| subnet.contains(*a);
        let gateway = wish.gateways.iter().find(|a| fits(a)).copied();
        // The first address behind the network's own.
        let first = subnet.nth(1).or(subnet.nth(0));
        let auxiliary = wish.auxiliary.iter().filter(|(_, a)| fits(a));
        pools.push(Pool {
            subnet: subnet.network(),
            range: wish.ranges.iter().find(|r| fits(&r.address)).copied(),
            gateway: gateway.or(first).context("a subnet without an address")?,
            auxiliary: auxiliary.map(|(k, v)| (k.clone(), *v)).collect(),
        });
    }
    let nowhere = |a: &IpAddr| !subnets.iter().any(|s| s.contains(*a));
    let lost = |what: &str, text: String| {
        Err(Error::kind(
            Kind::Usage,
            format!("no matching subnet for {what} {text}"),
        ))
    };
    if let Some(gateway) = wish.gateways.iter().find(|a| nowhere(a)) {
        return lost("gateway", gateway.to_string());
    }
    if let Some(range) = wish.ranges.iter().find(|r| nowhere(&r.address)) {
        return lost("range", range.to_string());
    }
    if let Some(other) = wish.auxiliary.values().find(|a| nowhere(a)) {
        return lost("aux-address", other.to_string());
    }
    Ok(pools)
}

/// Removes a network. Errors: [`Kind::NotFound`]; [`Kind::Conflict`] for one that is predefined, or
/// in which a container runs.
pub fn remove(store: &Store, target: &str) -> Result<Network> {
    let network = find(store, target)?;
    if network.is_predefined() {
        return Err(Error::kind(
            Kind::Conflict,
            format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            ),
        ));
    }
    let _lock = lock(store)?;
    let mut network = find(store, &network.id)?;
    let active = network.active(store);
    if let Some(first) = active.first() {
        let short = names::short(&first.container);
        return Err(Error::kind(
            Kind::Conflict,
            format!(
                "error while removing network: network {} id {} has active endpoints (name:\"{}\" id:\"{short}\")",
                network.name, network.id, first.name,
            ),
        )
        .hint(format!("stop container {} or `glassbox network disconnect` it", first.name)));
    }
    // The file goes last: whoever is killed before leaves what says that there is more to do.
    network.end_leases();
    let mut others = stored(store)?;
    others.retain(|n| n.id != network.id);
    let _closing = super::walls::write(store, &others)?;
    network.take_traces_away()?;
    let path = directory(store).join(format!("{}.json", network.id));
    match sys::fs::unlinkat(sys::fs::CWD, &path, 0) {
        Err(e) if e.errno != sys::Errno::ENOENT => {
            return Err(e).context("cannot remove the network");
        }
        _ => {}
    }
    tell(store, "destroy", &network, &[]);
    Ok(network)
}

/// Removes the networks in which no container runs and that `fits` says yes to: their names.
pub fn prune(store: &Store, fits: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    for network in stored(store)? {
        if network.is_predefined() || !fits(&network) || !network.active(store).is_empty() {
            continue;
        }
        match remove(store, &network.id) {
            // Used, or gone meanwhile.
            Err(e) if matches!(e.get_kind(), Kind::Conflict | Kind::NotFound) => {}
            other => gone.push(other?.name),
        }
    }
    gone.sort();
    Ok(gone)
}
