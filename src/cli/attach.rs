//! `glassbox attach`: this terminal becomes a running container's.
//!
//! Read next: [`crate::containers::client`].

use crate::containers::attach::{Message, Wants};
use crate::containers::{Container, client, events, lifecycle, reconcile, store::Store};
use crate::error::{Context, Result};
use crate::sys;
use std::path::PathBuf;

/// Attach this terminal to a running container
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox attach web
  glassbox attach --detach-keys ctrl-a,d shell")]
pub struct Args {
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: String,
    /// Do not attach stdin
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let keys = client::parse_keys(&args.detach_keys)?;
    let container = Store::open(args.root.as_deref())?.find(&args.container)?;
    let input = !args.no_stdin && container.record.config.open_stdin;
    to(&container, input, args.sig_proxy, keys)
}

/// Attaches to a container that runs.
pub fn to(container: &Container, input: bool, proxy: bool, keys: Vec<u8>) -> Result<u8> {
    let status = reconcile::status(container)?;
    container
        .must_run(&status)
        .context("you cannot attach to a stopped container, start it first")?;
    let socket = lifecycle::reach(container)?
        .with_context(|| format!("the monitor of container {} does not answer", container.name()))?;
    let wants = Wants { output: true, input };
    sys::socket::send(&socket, &Message::Attach(wants).encode()).context("the monitor is gone")?;
    events::of(container, "attach", &[]);
    let tty = container.record.config.tty;
    let proxy = Some(status.pid).filter(|_| proxy && !(tty && input));
    super::run::follow(container, socket, &Default::default(), &client::Options { tty, input, outputs: (true, true), proxy, keys })
}
