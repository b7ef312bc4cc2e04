//! `glassbox container`: docker's noun for what are commands of their own here, and `prune`.
//!
//! Interface: [`Args`], [`run`], [`pruned`]. Read next: `words.rs`, which puts `container run` and
//! the like into ours.

use super::filters::{Prune, key_value};
use super::image::Root;
use crate::containers::{Phase, lifecycle, reconcile, store::Store, volumes::size};
use crate::error::{Kind, Result};
use crate::ui;

/// Containers, by docker's longer words: `container run` is `run`, `container ls` is `ps`.
///
/// Every command on containers may have `container` before it.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Prune(PruneArgs),
}

/// Remove all containers that do not run
///
/// Nothing is asked before.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox container prune
  glassbox container prune --filter until=24h --filter label!=keep")]
pub struct PruneArgs {
    /// For docker's users: nothing is asked here
    #[arg(short, long, hide = true)]
    force: bool,
    /// Only some: until=TIME (created before), label=KEY[=VALUE], label!=KEY[=VALUE]. Repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let Command::Prune(args) = args.command;
    let (gone, freed) = pruned(&args.root.containers()?, &Prune::parse(&args.filters, &[])?)?;
    say_deleted(&gone);
    ui::out(format_args!("Total reclaimed space: {}", ui::size(freed)));
    Ok(0)
}

/// Removes what [`PruneArgs`] removes: the ids, and the bytes that they held.
pub fn pruned(store: &Store, filter: &Prune) -> Result<(Vec<String>, u64)> {
    let (mut gone, mut freed) = (Vec::new(), 0);
    for container in store.list()? {
        if !filter.takes(Some(container.record.created), &container.record.config.labels) {
            continue;
        }
        let phase = reconcile::status(&container)?.phase;
        if !matches!(phase, Phase::Created | Phase::Exited) {
            continue;
        }
        let held = size(&container.dir.join("upper"));
        match lifecycle::remove(&container, false, false) {
            // Started or removed meanwhile.
            Err(e) if matches!(e.get_kind(), Kind::Conflict | Kind::NotFound) => continue,
            other => other?,
        }
        gone.push(container.id().to_string());
        freed += held;
    }
    Ok((gone, freed))
}

/// Names what was removed, in docker's words.
pub fn say_deleted(gone: &[String]) {
    if !gone.is_empty() {
        ui::out(format_args!("Deleted Containers:\n{}\n", gone.join("\n")));
    }
}
