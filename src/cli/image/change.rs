//! `glassbox image tag`, `rm`, `prune`: names given and taken, images removed.
//!
//! Read next: `show.rs`; the work is done by [`crate::images::Store`].

use super::Root;
use crate::cli::filters::{Prune, key_value};
use crate::containers::store::Container;
use crate::containers::time::Time;
use crate::error::{Error, Kind, Result};
use crate::images::{Image, Reference};
use crate::ui;
use std::collections::BTreeMap;

/// Give an image a further name.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image tag lab my/tools:1")]
pub struct TagArgs {
    /// The image.
    source: String,
    /// The new name; an image that has it loses it.
    target: Reference,
    #[command(flatten)]
    root: Root,
}

/// Runs `tag`.
pub fn tag(args: TagArgs) -> Result<u8> {
    let store = args.root.store()?;
    if args.target.digest.is_some() {
        return Err(Error::kind(Kind::Usage, "an image cannot be given a digest: it has one"));
    }
    let image = store.find(&args.source)?;
    let lock = store.lock()?;
    store.add(&lock, &image.manifest, &[args.target])?;
    Ok(0)
}

/// Remove images: by name, the name; with its last name, or by id, the image.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image rm app:old
  glassbox image rm -f 3f2a91c04d5e       with all its names")]
pub struct RmArgs {
    /// Remove all names of an image that is given by id, and the names of one that a container
    /// uses: its content then stays as long as the container.
    #[arg(short, long)]
    force: bool,
    /// The images.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `rm`: goes on after a failure and reports all of them.
pub fn rm(args: RmArgs) -> Result<u8> {
    let mut failures = Vec::new();
    for name in &args.images {
        failures.extend(rm_one(&args, name).err());
    }
    let message = format!("could not remove {} of {}", failures.len(), args.images.len());
    if args.images.len() == 1 && !failures.is_empty() {
        return Err(failures.remove(0));
    }
    Error::join(message, failures)?;
    Ok(0)
}

/// The containers that are made of an image.
fn users(root: &Root, image: &Image) -> Result<Vec<Container>> {
    let mut all = root.containers()?.list()?;
    all.retain(|c| c.record.rootfs.is_none() && c.record.image_id == image.id.to_string());
    Ok(all)
}

fn rm_one(args: &RmArgs, name: &str) -> Result<()> {
    let store = args.root.store()?;
    let image = store.resolve(name)?;
    let asked = name.parse::<Reference>().ok().filter(|n| image.names.contains(n));
    let removed: Vec<Reference> = match &asked {
        Some(name) => vec![name.clone()],
        None if image.names.len() > 1 && !args.force => {
            let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
            return Err(Error::kind(
                Kind::Conflict,
                format!("the image {} has {} names (must force)", image.short_id(), names.len()),
            )
            .hint(format!("remove the names one by one ({}), or -f", names.join(", "))));
        }
        None => image.names.clone(),
    };
    let last = removed.len() == image.names.len();
    let users = if last { users(&args.root, &image)? } else { vec![] };
    if let Some(user) = users.first()
        && (!args.force || image.names.is_empty())
    {
        let must = if image.names.is_empty() { "cannot be forced" } else { "must force" };
        return Err(Error::kind(
            Kind::Conflict,
            format!("cannot remove {name} ({must}): container {} is made of it", user.short_id()),
        )
        .hint(format!("`glassbox rm {}` removes the container", user.name())));
    }
    let lock = store.lock()?;
    for name in &removed {
        store.remove(&lock, &image, Some(name))?;
        ui::out(format_args!("Untagged: {}", name.familiar()));
    }
    if !last {
        return Ok(());
    }
    if users.is_empty() {
        store.remove(&lock, &image, None)?;
        store.collect(&lock)?;
        ui::out(format_args!("Deleted: {}", image.id));
    } else {
        store.add(&lock, &image.manifest, &[])?;
    }
    Ok(())
}

/// Remove images without a name, and with --all every image that no container uses.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image prune --all
  glassbox image prune --all --filter until=240h --filter label!=keep")]
pub struct PruneArgs {
    /// Also images with names.
    #[arg(short, long)]
    all: bool,
    /// For docker's users: nothing is asked here.
    #[arg(short, long, hide = true)]
    force: bool,
    /// Only some: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE], dangling=false
    /// (as --all). Repeatable.
    #[arg(long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `prune`.
pub fn prune(args: PruneArgs) -> Result<u8> {
    let filter = Prune::parse(&args.filters, &["dangling"])?;
    let all = args.all || filter.values("dangling").any(|v| matches!(v, "false" | "0"));
    let (deleted, freed) = pruned(&args.root, all, &filter)?;
    say_deleted(&deleted);
    ui::out(format_args!("Total reclaimed space: {}", ui::size(freed)));
    Ok(0)
}

/// Removes what [`prune`] removes: the images, and the bytes that they took.
pub fn pruned(root: &Root, all: bool, filter: &Prune) -> Result<(Vec<Image>, u64)> {
    let store = root.store()?;
    let none = BTreeMap::new();
    let mut deleted = Vec::new();
    let lock = store.lock()?;
    for image in store.list()? {
        let created = image.config.created.as_deref();
        let created = created.and_then(|c| Time::parse_flag(c).ok());
        let labels = image.config.config.as_ref().map_or(&none, |c| &c.labels);
        let candidate = (all || image.names.is_empty()) && filter.takes(created, labels);
        if candidate && users(root, &image)?.is_empty() {
            store.remove(&lock, &image, None)?;
            deleted.push(image);
        }
    }
    Ok((deleted, store.collect(&lock)?))
}

/// Names what was removed, in docker's words.
pub fn say_deleted(deleted: &[Image]) {
    if deleted.is_empty() {
        return;
    }
    ui::out("Deleted Images:");
    for image in deleted {
        for name in &image.names {
            ui::out(format_args!("untagged: {}", name.familiar()));
        }
        ui::out(format_args!("deleted: {}", image.id));
    }
    ui::out("");
}
