//! `glassbox port`: which ports of the host's are a container's.
//!
//! Read next: [`crate::containers::networks::ports`].

use crate::containers::networks::ports;
use crate::containers::{flags, store::Store};
use crate::error::{Error, Kind, Result};
use crate::ui;
use std::path::PathBuf;

/// List the published ports of a container
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox port web
  glassbox port web 80/tcp
  glassbox port --json web")]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
    /// Only this port of the container's
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let container = Store::open(args.root.as_deref())?.find(&args.container)?;
    let mut list = ports::of(&container)?;
    list.sort_by_key(|p| (p.container_port, p.protocol, p.host_port, p.host));
    if let Some(wanted) = &args.port {
        let (port, protocol) = flags::container_port(wanted)?;
        list.retain(|p| p.container_port == port && p.protocol == protocol);
        if list.is_empty() {
            return Err(Error::kind(
                Kind::NotFound,
                format!(
                    "no public port '{port}/{}' published for {}",
                    protocol.name(),
                    container.name()
                ),
            ));
        }
    }
    if args.json {
        ui::print_json(&list);
        return Ok(0);
    }
    for port in list {
        match args.port {
            Some(_) => ui::out(port.outside()),
            None => ui::out(format_args!("{} -> {}", port.inside(), port.outside())),
        }
    }
    Ok(0)
}
