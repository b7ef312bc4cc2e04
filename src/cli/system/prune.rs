//! `glassbox system prune`: removes what nobody needs.
//!
//! Read next: `df.rs`, which says beforehand how much that is.

use super::Root;
use crate::cli::filters::{Prune, key_value};
use crate::cli::image::change as images;
use crate::cli::volume::change as volumes;
use crate::cli::container;
use crate::containers::networks;
use crate::error::Result;
use crate::ui;

/// Remove containers that do not run, networks that none uses, images without a name, and if asked volumes
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
    /// Only some: until=TIME (made before; not volumes), label=KEY[=VALUE],
    /// label!=KEY[=VALUE]. Repeatable
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `prune`.
pub fn prune(args: PruneArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let filter = Prune::parse(&args.filters, &[])?;
    let (gone, mut freed) = container::pruned(&store, &filter)?;
    container::say_deleted(&gone);
    let unused = networks::prune(&store, |n| filter.takes(Some(n.created), &n.labels))?;
    if !unused.is_empty() {
        ui::out(format_args!("Deleted Networks:\n{}\n", unused.join("\n")));
    }
    if args.volumes {
        let (gone, held) = volumes::volumes_pruned(&store, false, |v| filter.labels(&v.labels))?;
        if !gone.is_empty() {
            ui::out(format_args!("Deleted Volumes:\n{}\n", gone.join("\n")));
        }
        freed += held;
    }
    let (gone, held) = images::pruned(&args.root, args.all, &filter)?;
    images::say_deleted(&gone);
    ui::out(format_args!("Total reclaimed space: {}", ui::size(freed + held)));
    Ok(0)
}
