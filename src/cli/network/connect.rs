//! `glassbox network connect`, `disconnect`.
//!
//! Read next: `show.rs`; the work is done by [`crate::containers::networks`].

use crate::cli::image::Root;
use crate::containers::flags;
use crate::containers::model::EndpointConfig;
use crate::containers::networks::live;
use crate::error::{Kind, Result};

/// Connect a container to a network, running or not.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network connect back web
  glassbox network connect --ip 10.5.0.9 --alias db back postgres")]
pub struct ConnectArgs {
    /// Its IPv4 address there.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address there.
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// A further name by which containers of the network find it.
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// The network with the highest is its way to the rest of the world.
    #[arg(long, value_name = "N", default_value_t = 0)]
    gw_priority: i64,
    /// The network.
    network: String,
    /// The container.
    container: String,
    #[command(flatten)]
    root: Root,
}

/// Runs `connect`.
pub fn connect(args: ConnectArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let container = store.find(&args.container)?;
    let address = |text: &Option<String>, four| match text {
        Some(text) => flags::address(text, four),
        None => Ok(String::new()),
    };
    let wish = EndpointConfig {
        network: args.network,
        aliases: args.alias,
        ipv4_address: address(&args.ip, true)?,
        ipv6_address: address(&args.ip6, false)?,
        gw_priority: args.gw_priority,
        ..EndpointConfig::default()
    };
    live::connect(&store, &container, &wish)?;
    Ok(0)
}

/// Take a container out of a network, running or not.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox network disconnect back web")]
pub struct DisconnectArgs {
    /// One that is not connected, or does not exist, is no error.
    #[arg(short, long)]
    force: bool,
    /// The network.
    network: String,
    /// The container.
    container: String,
    #[command(flatten)]
    root: Root,
}

/// Runs `disconnect`.
pub fn disconnect(args: DisconnectArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let done = store
        .find(&args.container)
        .and_then(|container| live::disconnect(&store, &container, &args.network));
    match done {
        Err(e) if args.force && matches!(e.get_kind(), Kind::NotFound | Kind::Conflict) => Ok(0),
        other => other.map(|()| 0),
    }
}
