//! `glassbox volume create`, `rm`, `prune`.
//!
//! Read next: `show.rs`; the work is done by [`crate::containers::volumes`].

use super::Root;
use crate::cli::filters::{Prune, key_value};
use crate::containers::names;
use crate::containers::volumes::{self, Volume};
use crate::error::{Error, Kind, Result};
use crate::ui;
use std::collections::BTreeMap;

/// Make a volume, and print its name.
///
/// One that exists is left as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox volume create data
  glassbox volume create --label tier=db data
  glassbox volume create -o type=none -o o=bind -o device=/srv/data data")]
pub struct CreateArgs {
    /// The driver: local.
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// A label.
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// An option of the driver: type=none, o=bind, device=/PATH.
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// Its name (a random one otherwise).
    name: Option<String>,
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
    if args.driver != "local" {
        return Err(Error::kind(
            Kind::NotFound,
            format!("error looking up volume plugin {}: plugin not found", args.driver),
        )
        .hint("the driver local is the only one"));
    }
    let mut volume = match &args.name {
        Some(name) => Volume::new(name, pairs(&args.label)),
        None => Volume::new(&names::new_id()?, pairs(&args.label)),
    };
    if args.name.is_none() {
        volume.labels.insert(volumes::ANONYMOUS.into(), String::new());
    }
    volume.options = pairs(&args.opt);
    volumes::create(&args.root.containers()?, &volume)?;
    ui::out(volume.name);
    Ok(0)
}

/// Remove volumes that no container uses.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox volume rm data
  glassbox volume rm $(glassbox volume ls -q --filter dangling=true)")]
pub struct RmArgs {
    /// One that does not exist is no error.
    #[arg(short, long)]
    force: bool,
    /// The volumes.
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `rm`: goes on after a failure.
pub fn rm(args: RmArgs) -> Result<u8> {
    let store = args.root.containers()?;
    crate::cli::each(&args.volumes, |name| {
        match volumes::remove(&store, name) {
            Err(e) if args.force && e.get_kind() == Kind::NotFound => {}
            other => other?,
        }
        ui::out(name);
        Ok(())
    })
}

/// Remove volumes without a name that no container uses, and with --all those with a name too.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox volume prune
  glassbox volume prune --all --filter label!=keep")]
pub struct PruneArgs {
    /// Also volumes with names.
    #[arg(short, long)]
    all: bool,
    /// For docker's users: nothing is asked here.
    #[arg(short, long, hide = true)]
    force: bool,
    /// Only some: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]. Repeatable.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `prune`.
pub fn prune(args: PruneArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let filter = Prune::parse(&args.filters, &["all"])?;
    let all = args.all || filter.values("all").any(|v| matches!(v, "true" | "1"));
    let (deleted, freed) = volumes_pruned(&store, all, |v| {
        filter.takes(Some(v.created_at), &v.labels)
    })?;
    if !deleted.is_empty() {
        ui::out(format_args!("Deleted Volumes:\n{}\n", deleted.join("\n")));
    }
    ui::out(format_args!("Total reclaimed space: {}", ui::size(freed)));
    Ok(0)
}

/// Removes what [`prune`] removes: the names, and the bytes that they held.
pub fn volumes_pruned(
    store: &crate::containers::Store,
    all: bool,
    takes: impl Fn(&Volume) -> bool,
) -> Result<(Vec<String>, u64)> {
    let (mut deleted, mut freed) = (Vec::new(), 0);
    for volume in volumes::list(store)? {
        if !takes(&volume) || !(all || volume.is_anonymous()) {
            continue;
        }
        let (_, data) = volumes::find(store, &volume.name)?;
        let own = store.paths().volumes().join(&volume.name).join("_data");
        let size = if data == own { volumes::size(&data) } else { 0 };
        match volumes::remove(store, &volume.name) {
            // In use, or gone meanwhile.
            Err(e) if matches!(e.get_kind(), Kind::Conflict | Kind::NotFound) => continue,
            other => other?,
        }
        deleted.push(volume.name);
        freed += size;
    }
    Ok((deleted, freed))
}
