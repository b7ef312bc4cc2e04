//! `glassbox system prune`: removes what nobody needs.
//!
//! Read next: `df.rs`, which says beforehand how much that is.

use super::Root;
use crate::cli::image::change as images;
use crate::cli::volume::{change as volumes, filters, has_label};
use crate::containers::time::Time;
use crate::containers::{Container, Phase, lifecycle, reconcile, volumes::size};
use crate::error::{Kind, Result};
use crate::ui;

/// Remove containers that do not run, images without a name, and if asked volumes
///
/// Nothing is asked before. Volumes with a name are left, whatever is said; `volume prune --all`
/// removes those.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox system prune
  glassbox system prune --all --volumes --filter until=24h")]
pub struct PruneArgs {
    /// Every image that no container uses
    #[arg(short, long)]
    all: bool,
    /// Volumes without a name that no container uses, too
    #[arg(long)]
    volumes: bool,
    /// For docker's users: nothing is asked here
    #[arg(short, long, hide = true)]
    force: bool,
    /// Only some containers and volumes: until=TIME (created before; containers alone),
    /// label=KEY[=VALUE], label!=KEY[=VALUE]. Repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `prune`.
pub fn prune(args: PruneArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let filters = filters(&args.filters, &["until", "label", "label!"])?;
    let until = filters.iter().find(|(key, _)| *key == "until");
    let until = until.map(|(_, time)| Time::parse_flag(time)).transpose()?;
    let fits = |c: &Container| {
        let labels = &c.record.config.labels;
        until.is_none_or(|time| c.record.created < time)
            && filters.iter().all(|(key, value)| match *key {
                "label" => has_label(labels, value),
                "label!" => !has_label(labels, value),
                _ => true,
            })
    };
    let (mut gone, mut freed) = (Vec::new(), 0);
    for container in store.list()?.iter().filter(|c| fits(c)) {
        let phase = reconcile::status(container)?.phase;
        if !matches!(phase, Phase::Created | Phase::Exited) {
            continue;
        }
        let held = size(&container.dir.join("upper"));
        match lifecycle::remove(container, false, false) {
            // Started or removed meanwhile.
            Err(e) if matches!(e.get_kind(), Kind::Conflict | Kind::NotFound) => continue,
            other => other?,
        }
        gone.push(container.id().to_string());
        freed += held;
    }
    if !gone.is_empty() {
        ui::out(format_args!("Deleted Containers:\n{}\n", gone.join("\n")));
    }
    if args.volumes {
        let labels: Vec<_> = filters.iter().copied().filter(|(key, _)| *key != "until").collect();
        let (gone, held) = volumes::volumes_pruned(&store, false, &labels)?;
        if !gone.is_empty() {
            ui::out(format_args!("Deleted Volumes:\n{}\n", gone.join("\n")));
        }
        freed += held;
    }
    let (gone, held) = images::pruned(&args.root, args.all)?;
    images::say_deleted(&gone);
    ui::out(format_args!("Total reclaimed space: {}", ui::size(freed + held)));
    Ok(0)
}
