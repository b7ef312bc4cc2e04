//! `glassbox start`: run containers that exist.
//!
//! Read next: `run.rs`, [`crate::containers::start`].

use super::explain_flag::ExplainFlag;
use crate::containers::attach::Wants;
use crate::containers::{Container, client, image, prepare, start, store::Store};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::ui;
use std::path::PathBuf;

/// Start one or more stopped containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox start web
  glassbox start -ai shell")]
pub struct Args {
    /// Attach stdout and stderr and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Attach stdin
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: String,
    /// For docker's users: there are none
    #[arg(long, value_name = "NAME", hide = true)]
    checkpoint: Option<String>,
    #[command(flatten)]
    explain: ExplainFlag,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    if args.checkpoint.is_some() {
        return Err(super::no_checkpoint());
    }
    let attached = args.attach || args.interactive;
    if attached && args.containers.len() > 1 {
        return Err(Error::kind(Kind::Usage, "you cannot start and attach multiple containers at once"));
    }
    if attached {
        return attach(&args, &store);
    }
    super::each(&args.containers, |name| {
        let container = store.find(name)?;
        begin(&store, &container, Wants::default(), args.explain)?;
        ui::out(name);
        Ok(())
    })
}

fn attach(args: &Args, store: &Store) -> Result<u8> {
    let keys = client::parse_keys(&args.detach_keys)?;
    let container = store.find(&args.containers[0])?;
    let config = &container.record.config;
    let input = args.interactive && config.open_stdin;
    let wants = Wants { output: true, input };
    match begin(store, &container, wants, args.explain)? {
        Some(started) => {
            let proxy = Some(started.pid).filter(|_| !(config.tty && input));
            let options = client::Options { tty: config.tty, input, outputs: (true, true), proxy, keys };
            super::run::follow(&container, started.socket, &started.record, &options)
        }
        None => super::attach::to(&container, input, true, keys),
    }
}

/// Starts a container; `None` when it runs already.
pub fn begin(
    store: &Store,
    container: &Container,
    wants: Wants,
    explain: ExplainFlag,
) -> Result<Option<start::Started>> {
    let lock = container.lock()?;
    if !start::may_start(container)? {
        return Ok(None);
    }
    let host = Host::detect()?;
    let image = image::of_record(store.paths(), &container.record)?;
    let prepared = prepare::prepare(store, container, &image, &host, client::window_size())?;
    prepared.plan.warnings.iter().for_each(ui::warn);
    start::begin_recording("start", explain.is_on())?;
    let options = super::run::options(explain.is_on());
    start::start(container, prepared, &host, wants, explain.watch(), &options, lock).map(Some)
}
