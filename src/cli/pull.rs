//! `glassbox pull`: an image from a registry into the store.
//!
//! Read next: `registry/mod.rs` (the flags), [`crate::registry::client`].

use super::image::Root;
use super::registry::{Lines, RegistryFlags, To, explain_to_stderr};
use crate::error::{Error, Kind, Result};
use crate::images::{Reference, Store};
use crate::registry::client::{self, Client, PullOptions};
use crate::ui;
use std::sync::Arc;

/// Pull an image from a registry
///
/// Layers come side by side, each streamed once through digest check, decompression and unpacking;
/// what is there is skipped, what breaks off goes on. Nothing is visible before all of it is right.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox pull debian
  glassbox pull --platform linux/arm64 localhost:5000/app:1.2
  glassbox pull --explain alpine            each HTTP exchange, and what became of the bytes")]
pub struct Args {
    /// Print only the image's full name.
    #[arg(short, long)]
    quiet: bool,
    /// All tags of the repository.
    #[arg(short, long)]
    all_tags: bool,
    /// For this platform in place of the host's: OS/ARCHITECTURE[/VARIANT].
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// How many layers come at once.
    #[arg(long, value_name = "N", default_value_t = 3)]
    max_concurrent_downloads: usize,
    /// A layer that unpacks to more is refused, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 30)]
    max_layer_size: u64,
    /// The image: [REGISTRY/]REPOSITORY[:TAG][@DIGEST].
    name: String,
    #[command(flatten)]
    flags: RegistryFlags,
    #[command(flatten)]
    root: Root,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let reference: Reference = args.name.parse()?;
    let platform = args.platform.as_deref().map(client::parse_platform).transpose()?;
    let options = PullOptions {
        platform,
        at_once: args.max_concurrent_downloads.max(1),
        max_layer: args.max_layer_size,
    };
    let store = args.root.store()?;
    let client = args.flags.client(&reference.registry, explain_to_stderr(args.flags.explain))?;
    let mut references = vec![reference.clone()];
    if args.all_tags {
        if args.name.contains('@') || args.name.rsplit('/').next().is_some_and(|n| n.contains(':')) {
            return Err(Error::kind(Kind::Usage, "--all-tags is for a repository, without a tag or digest"));
        }
        references.clear();
        client.tags(&reference.repository, &mut |tags| {
            references.extend(tags.into_iter().map(|t| Reference { tag: Some(t), ..reference.clone() }));
        })?;
    }
    let to = if args.quiet { To::Nowhere } else { To::Stdout };
    let lines = Lines::new(to, "Downloading", args.flags.explain.is_some());
    for reference in &references {
        one(&store, &client, reference, &options, &lines)?;
    }
    for reference in &references {
        ui::out(reference);
    }
    Ok(0)
}

/// Pulls one image, and says so in docker's words.
fn one(
    store: &Store,
    client: &Client,
    reference: &Reference,
    options: &PullOptions,
    lines: &Lines,
) -> Result<()> {
    let tag = reference.tag.clone().or(reference.digest.clone()).unwrap_or_default();
    lines.say(&format!("{tag}: Pulling from {}", reference.repository));
    let pulled = client::pull(store, client, reference, options, lines)?;
    lines.settle();
    lines.say(&format!("Digest: {}", pulled.digest));
    lines.say(&match pulled.newer {
        true => format!("Status: Downloaded newer image for {}", reference.familiar()),
        false => format!("Status: Image is up to date for {}", reference.familiar()),
    });
    Ok(())
}

/// When `run` and `create` pull.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Each time.
    Always,
    /// When the image is not here.
    Missing,
    /// Not at all.
    Never,
}

/// Pulls the image of a container that is to be made: its lines go to stderr, since stdout is the
/// program's. How to speak to the registry is not asked here; `pull` has flags for it.
pub fn for_container(store: &Store, reference: &Reference, platform: Option<&str>, quiet: bool) -> Result<()> {
    let options = PullOptions {
        platform: platform.map(client::parse_platform).transpose()?,
        ..PullOptions::default()
    };
    let client = Client::new(&reference.registry, &client::Options::default(), Arc::default())?;
    let to = if quiet { To::Nowhere } else { To::Stderr };
    one(store, &client, reference, &options, &Lines::new(to, "Downloading", false))
        .map_err(|e| match e.get_hint() {
            None => e.hint(format!("`glassbox pull --explain {}` shows what was asked and answered", reference.familiar())),
            Some(_) => e,
        })
}
