//! `glassbox system df`: how much images, containers and volumes take, and how much of it nobody
//! needs.
//!
//! Read next: `prune.rs`.

use super::Root;
use crate::containers::{Container, reconcile, volumes};
use crate::error::Result;
use crate::images::{Image, Store as Images};
use crate::ui::{self, Table, template};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show how much disk images, containers and volumes take
///
/// An image takes its blobs and its unpacked layers; what several share is counted once.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox system df
  glassbox system df -v
  glassbox system df --json | jq '.[0].Size'")]
pub struct DfArgs {
    /// Each image, container and volume
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    /// `json`, `table TEMPLATE` or a template of {{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}
    /// {{.Reclaimable}}
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// An array, with plain numbers of bytes
    #[arg(long, conflicts_with_all = ["format", "verbose"])]
    json: bool,
    #[command(flatten)]
    root: Root,
}

/// One line of the overview.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// Bytes that each part of images takes, by digest: parts are shared.
fn parts(store: &Images, images: &[&Image]) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    for image in images {
        for layer in &image.layers {
            parts.insert(layer.digest.to_string(), layer.size);
            let unpacked = store.unpacked_size(layer).unwrap_or(0);
            parts.insert(format!("unpacked {}", layer.chain_id), unpacked);
        }
        let blob = |digest| std::fs::metadata(store.blob_path(digest)).map_or(0, |m| m.len());
        parts.insert(image.id.to_string(), blob(&image.id));
        parts.insert(image.manifest.digest.to_string(), image.manifest.size);
    }
    parts
}

/// Runs `df`.
pub fn df(args: DfArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let images = args.root.store()?;
    let containers = store.list()?;
    let mut boxes = Vec::new();
    for c in &containers {
        boxes.push((c, reconcile::status(c)?, volumes::size(&c.dir.join("upper"))));
    }
    let all = images.list()?;
    let is_used = |i: &Image| uses(&containers, i) > 0;
    let used: Vec<&Image> = all.iter().filter(|i| is_used(i)).collect();
    let sum = |of: &[&Image]| parts(&images, of).values().sum::<u64>();
    let size = sum(&all.iter().collect::<Vec<_>>());
    let live = |b: &&(&Container, _, u64)| {
        let status: &crate::containers::Status = &b.1;
        status.phase.is_live()
    };
    let mut kept = Vec::new();
    for volume in volumes::list(&store)? {
        let (_, data) = volumes::find(&store, &volume.name)?;
        let links = containers.iter().filter(|c| volumes::in_use_by(c, &volume.name)).count();
        kept.push((volume.name, links, volumes::size(&data)));
    }
    if args.verbose {
        verbose(&all, &images, &boxes, &kept, &containers);
        return Ok(0);
    }
    let kinds = [
        Kind {
            name: "Images",
            total: all.len(),
            active: used.len(),
            size,
            reclaimable: size.saturating_sub(sum(&used)),
        },
        Kind {
            name: "Containers",
            total: boxes.len(),
            active: boxes.iter().filter(live).count(),
            size: boxes.iter().map(|b| b.2).sum(),
            reclaimable: boxes.iter().filter(|b| !live(b)).map(|b| b.2).sum(),
        },
        Kind {
            name: "Local Volumes",
            total: kept.len(),
            active: kept.iter().filter(|v| v.1 > 0).count(),
            size: kept.iter().map(|v| v.2).sum(),
            reclaimable: kept.iter().filter(|v| v.1 == 0).map(|v| v.2).sum(),
        },
    ];
    if args.json {
        let rows: Vec<Value> = kinds
            .iter()
            .map(|k| {
                json!({"Type": k.name, "TotalCount": k.total, "Active": k.active, "Size": k.size,
                    "Reclaimable": k.reclaimable})
            })
            .collect();
        ui::print_json(&rows);
        return Ok(0);
    }
    let rows: Vec<Value> = kinds.iter().map(row).collect();
    let table = "table {{.Type}}\\t{{.TotalCount}}\\t{{.Active}}\\t{{.Size}}\\t{{.Reclaimable}}";
    let format = args.format.as_deref().filter(|f| *f != "table").unwrap_or(table);
    ui::out(template::rows(format, &rows, &[("TotalCount", "TOTAL")])?);
    Ok(0)
}

fn row(kind: &Kind) -> Value {
    let percent = match kind.size {
        0 => String::new(),
        size => format!(" ({}%)", kind.reclaimable * 100 / size),
    };
    json!({
        "Type": kind.name,
        "TotalCount": kind.total.to_string(),
        "Active": kind.active.to_string(),
        "Size": ui::size(kind.size),
        "Reclaimable": format!("{}{percent}", ui::size(kind.reclaimable)),
    })
}

/// How many containers are made of an image.
fn uses(containers: &[Container], image: &Image) -> usize {
    let id = image.id.to_string();
    let of = |c: &&Container| c.record.rootfs.is_none() && c.record.image_id == id;
    containers.iter().filter(of).count()
}

fn verbose(
    all: &[Image],
    images: &Images,
    boxes: &[(&Container, crate::containers::Status, u64)],
    kept: &[(String, usize, u64)],
    containers: &[Container],
) {
    let mut table = Table::new(&["image", "id", "size", "shared", "unique", "containers"]);
    for image in all {
        let own = parts(images, &[image]);
        let others: Vec<&Image> = all.iter().filter(|other| other.id != image.id).collect();
        let others = parts(images, &others);
        let shared = own.iter().filter(|(part, _)| others.contains_key(*part));
        let shared: u64 = shared.map(|(_, size)| size).sum();
        let size: u64 = own.values().sum();
        table.row([
            image.display_name(),
            image.short_id().to_string(),
            ui::size(size),
            ui::size(shared),
            ui::size(size - shared),
            uses(containers, image).to_string(),
        ]);
    }
    ui::out(table);
    let mut table = Table::new(&["container id", "image", "local volumes", "size", "status", "names"]);
    for (container, status, size) in boxes {
        let points = container.record.mount_points.iter();
        table.row([
            container.short_id().to_string(),
            container.record.config.image.clone(),
            points.filter(|p| p.typ == "volume").count().to_string(),
            ui::size(*size),
            status.describe(),
            container.name().to_string(),
        ]);
    }
    ui::out(format_args!("\n{table}"));
    let mut table = Table::new(&["volume name", "links", "size"]);
    for (name, links, size) in kept {
        table.row([name.clone(), links.to_string(), ui::size(*size)]);
    }
    ui::out(format_args!("\n{table}"));
}
