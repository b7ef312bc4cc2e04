//! `glassbox network create`, `rm`, `prune`.
//!
//! Read next: `show.rs`; the work is done by [`crate::containers::networks`].

use crate::cli::image::Root;
use crate::cli::volume::{filters, has_label};
use crate::containers::networks::{self, Wish};
use crate::error::{Error, Kind, Result};
use crate::network::Prefix;
use crate::spec::time::Time;
use crate::ui;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Make a network, and print its id.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network create web
  glassbox network create --subnet 10.5.0.0/24 --gateway 10.5.0.254 web
  glassbox network create --internal --label tier=db back
  glassbox network create --driver macvlan --subnet 192.0.2.0/24 --opt parent=eth0 lan
  glassbox network create -d ipvlan -o parent=eth0 -o ipvlan_mode=l3 --subnet 198.51.100.0/24 far")]
pub struct CreateArgs {
    /// How its containers are connected: bridge, macvlan or ipvlan.
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// Its addresses, as 10.5.0.0/24; else free ones are found. One for IPv4, one for IPv6.
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<Prefix>,
    /// The host's own address in the subnet, which is the containers' way out.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<IpAddr>,
    /// The part of the subnet that containers get.
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<Prefix>,
    /// An address that somebody else has.
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// No way out of it.
    #[arg(long)]
    internal: bool,
    /// With an IPv6 subnet.
    #[arg(long)]
    ipv6: bool,
    /// A label.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// An option of the driver: com.docker.network.bridge.name, com.docker.network.driver.mtu, parent.
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// For docker's users: every network is attachable.
    #[arg(long, hide = true)]
    attachable: bool,
    /// For docker's users: the only one there is.
    #[arg(long, hide = true, value_name = "DRIVER")]
    ipam_driver: Option<String>,
    /// For docker's users: local alone.
    #[arg(long, hide = true, value_name = "SCOPE")]
    scope: Option<String>,
    /// Its name.
    name: String,
    #[command(flatten)]
    root: Root,
}

fn pairs(list: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_string(), value.to_string())
    };
    list.iter().map(pair).collect()
}

/// Runs `create`.
pub fn create(args: CreateArgs) -> Result<u8> {
    let usage = |text: String| Err(Error::kind(Kind::Usage, text));
    if let Some(driver) = args.ipam_driver.as_deref().filter(|d| *d != "default") {
        return usage(format!(
            "plugin \"{driver}\" not found: addresses are managed by glassbox itself"
        ));
    }
    if let Some(scope) = args.scope.as_deref().filter(|s| *s != "local") {
        return usage(format!("--scope {scope} needs a swarm, which this is not"));
    }
    let mut auxiliary = BTreeMap::new();
    for (name, text) in pairs(&args.aux_address) {
        let Ok(address) = text.parse() else {
            return usage(format!("invalid aux-address {name}={text}: NAME=ADDRESS"));
        };
        auxiliary.insert(name, address);
    }
    let wish = Wish {
        name: args.name,
        driver: args.driver,
        internal: args.internal,
        ipv6: args.ipv6,
        subnets: args.subnet,
        gateways: args.gateway,
        ranges: args.ip_range,
        auxiliary,
        labels: pairs(&args.label),
        options: pairs(&args.opt),
    };
    let network = networks::create(&args.root.containers()?, &wish)?;
    ui::out(network.id);
    Ok(0)
}

/// Remove networks in which no container runs.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network rm web
  glassbox network rm $(glassbox network ls -q --filter type=custom)")]
pub struct RmArgs {
    /// One that does not exist is no error.
    #[arg(short, long)]
    force: bool,
    /// The networks.
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `rm`: goes on after a failure.
pub fn rm(args: RmArgs) -> Result<u8> {
    let store = args.root.containers()?;
    crate::cli::each(&args.networks, |name| {
        match networks::remove(&store, name) {
            Err(e) if args.force && e.get_kind() == Kind::NotFound => {}
            other => drop(other?),
        }
        ui::out(name);
        Ok(())
    })
}

/// Remove all networks in which no container runs.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network prune
  glassbox network prune --filter label!=keep --filter until=24h")]
pub struct PruneArgs {
    /// For docker's users: nothing is asked here.
    #[arg(short, long, hide = true)]
    force: bool,
    /// Only some: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME. Repeatable.
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `prune`.
pub fn prune(args: PruneArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let filters = filters(&args.filters, &["label", "label!", "until"])?;
    let mut until = None;
    for (_, value) in filters.iter().filter(|(key, _)| *key == "until") {
        until = Some(Time::parse_flag(value)?);
    }
    let deleted = networks::prune(&store, |network| {
        until.is_none_or(|moment| network.created < moment)
            && filters.iter().all(|(key, value)| match *key {
                "label" => has_label(&network.labels, value),
                "label!" => !has_label(&network.labels, value),
                _ => true,
            })
    })?;
    if !deleted.is_empty() {
        ui::out(format_args!("Deleted Networks:\n{}\n", deleted.join("\n")));
    }
    Ok(0)
}
