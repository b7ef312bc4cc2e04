//! `glassbox push`: an image from the store into a registry.
//!
//! Read next: `pull.rs`.

use super::image::Root;
use super::registry::{Lines, RegistryFlags, To, explain_to_stderr};
use crate::error::{Error, Kind, Result};
use crate::images::Reference;
use crate::registry::client;
use crate::ui;

/// Push an image to a registry
///
/// What the repository has is skipped, what another repository of the registry has is mounted, and
/// the manifest goes last. The image's name says where: `glassbox image tag` gives it one.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image tag lab localhost:5000/lab && glassbox push localhost:5000/lab
  glassbox push --explain localhost:5000/lab")]
pub struct Args {
    /// Print only the image's full name.
    #[arg(short, long)]
    quiet: bool,
    /// All tags that the repository has here.
    #[arg(short, long)]
    all_tags: bool,
    /// How many blobs go at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_concurrent_uploads: usize,
    /// The image: [REGISTRY/]REPOSITORY[:TAG].
    name: Reference,
    #[command(flatten)]
    flags: RegistryFlags,
    #[command(flatten)]
    root: Root,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = args.root.store()?;
    if args.name.digest.is_some() {
        return Err(Error::kind(Kind::Usage, "cannot push a digest reference: a tag is needed"));
    }
    let mut references = vec![args.name.clone()];
    if args.all_tags {
        let all = store.list()?.into_iter().flat_map(|i| i.names);
        let same = |n: &Reference| n.registry == args.name.registry && n.repository == args.name.repository;
        references = all.filter(|n| same(n) && n.tag.is_some()).collect();
        if references.is_empty() {
            return Err(Error::kind(Kind::NotFound, format!("no image here is called {}", args.name.familiar_repository())));
        }
    }
    let client = args.flags.client(&args.name.registry, explain_to_stderr(args.flags.explain))?;
    let to = if args.quiet { To::Nowhere } else { To::Stdout };
    let lines = Lines::new(to, "Pushing", args.flags.explain.is_some());
    lines.say(&format!("The push refers to repository [{}/{}]", args.name.registry, args.name.repository));
    for reference in &references {
        let image = store.resolve(&reference.to_string())?;
        let pushed = client::push(&store, &client, &image, reference, args.max_concurrent_uploads.max(1), &lines)?;
        lines.settle();
        let tag = reference.tag.as_deref().unwrap_or_default();
        lines.say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
        if args.quiet {
            ui::out(reference);
        }
    }
    Ok(0)
}
