//! `glassbox registry`: stage 5, what a registry holds, and one of our own (`serve.rs`).
//!
//! Interface: [`Args`], [`run`], and [`RegistryFlags`], [`Lines`] for `pull` and `push`.
//! Read next: [`crate::registry::client`].

mod lines;

pub use lines::{Lines, To};
mod serve;

use crate::error::{Error, Kind, Result};
use crate::images::Reference;
use crate::registry::client::exchange::Trace;
use crate::registry::client::transport::Patience;
use crate::registry::client::{self, Client, CopyOptions, Options};
use crate::ui::{self, template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Registries: where images are kept for other machines.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the tags of a repository
    Tags(ListArgs),
    /// List the repositories of a registry, where it tells
    Catalog(ListArgs),
    /// Print a manifest or an index, byte for byte
    Manifest(ManifestArgs),
    /// Take a tag away, or by digest a manifest with all its tags
    Rm(RmArgs),
    /// Copy an image to another registry or name, without unpacking
    Copy(CopyArgs),
    Serve(serve::ServeArgs),
    Gc(serve::GcArgs),
}

/// How to speak to a registry.
#[derive(clap::Args, Debug)]
pub struct RegistryFlags {
    /// Without TLS. This machine's own registries are plain anyway.
    #[arg(long)]
    insecure: bool,
    /// A directory with certificates: *.crt are roots, NAME.cert with NAME.key says who we are.
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// How often to try again what fails in passing.
    #[arg(long, value_name = "N", default_value_t = 4)]
    retries: u32,
    /// How long the registry may say nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
    /// Show each HTTP exchange, what was skipped and why, and how bytes became layers, on stderr.
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub explain: Option<Form>,
}

/// How to show exchanges.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For a person.
    Text,
    /// JSON lines.
    Json,
}

/// Who tells of exchanges.
pub fn explain_to_stderr(form: Option<Form>) -> Trace {
    match form {
        None => Trace::default(),
        Some(Form::Text) => Trace::to(|entry| ui::note(entry.to_text())),
        Some(Form::Json) => Trace::to(|entry| {
            if let Ok(text) = serde_json::to_string(entry) {
                ui::note(text);
            }
        }),
    }
}

impl RegistryFlags {
    /// A client of a registry.
    pub fn client(&self, registry: &str, trace: Trace) -> Result<Client> {
        let options = Options {
            insecure: self.insecure,
            cert_dir: self.cert_dir.clone(),
            patience: Patience { retries: self.retries, stall: Duration::from_secs(self.timeout.max(1)) },
        };
        Client::new(registry, &options, Arc::new(trace))
    }
}

/// What to list.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry tags localhost:5000/app
  glassbox registry tags --format '{{.Reference}}' localhost:5000/app
  glassbox registry catalog localhost:5000 --json")]
pub struct ListArgs {
    /// A repository with its registry; for `catalog` a registry.
    name: String,
    /// Print JSON: an array of names.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// Print the names alone, which is what happens anyway.
    #[arg(short, long)]
    quiet: bool,
    /// Print each by a Go template with .Name and .Reference, the name with its registry and
    /// repository.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "quiet")]
    format: Option<String>,
    #[command(flatten)]
    flags: RegistryFlags,
}

/// What to show.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry manifest debian")]
pub struct ManifestArgs {
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    name: Reference,
    #[command(flatten)]
    flags: RegistryFlags,
}

/// What to remove.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry rm localhost:5000/app:1
  glassbox registry rm --force localhost:5000/app:1    also the manifest's other tags")]
pub struct RmArgs {
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    name: Reference,
    /// Where the registry removes manifests only: also when this one has other tags, which go with
    /// it.
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    flags: RegistryFlags,
}

/// What to copy.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry copy --all debian:12 localhost:5000/debian:12")]
pub struct CopyArgs {
    /// From.
    from: Reference,
    /// To.
    to: Reference,
    /// All platforms of an index.
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,
    /// This platform in place of the host's.
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Also what points at it: signatures, bills of materials.
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    flags: RegistryFlags,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Tags(a) => {
            let reference: Reference = a.name.parse()?;
            let client = a.flags.client(&reference.registry, explain_to_stderr(a.flags.explain))?;
            let repository = format!("{}/{}", reference.registry, reference.repository);
            list(&a, |tag| format!("{repository}:{tag}"), |take| client.tags(&reference.repository, take))
        }
        Command::Catalog(a) => {
            let client = a.flags.client(&a.name, explain_to_stderr(a.flags.explain))?;
            list(&a, |name| format!("{}/{name}", a.name), |take| client.catalog(take))
        }
        Command::Manifest(a) => {
            let client = a.flags.client(&a.name.registry, explain_to_stderr(a.flags.explain))?;
            let document = client.manifest(&a.name.repository, &named(&a.name))?;
            ui::out_raw(String::from_utf8_lossy(&document.bytes));
            Ok(0)
        }
        Command::Rm(a) => remove(&a),
        Command::Copy(a) => copy(a),
        Command::Serve(a) => serve::serve(a),
        Command::Gc(a) => serve::gc(a),
    }
}

fn named(reference: &Reference) -> String {
    reference.digest.clone().or(reference.tag.clone()).unwrap_or_default()
}

/// A tag is taken away; where the registry knows that of digests only, the manifest is.
fn remove(a: &RmArgs) -> Result<u8> {
    let client = a.flags.client(&a.name.registry, explain_to_stderr(a.flags.explain))?;
    let repository = &a.name.repository;
    let by_tag = match (&a.name.digest, &a.name.tag) {
        (None, Some(tag)) => client.delete(repository, tag),
        _ => client.delete(repository, &named(&a.name)),
    };
    let refused = match (by_tag, &a.name.tag) {
        (Ok(()), _) => {
            ui::out(format_args!("Deleted: {}", a.name));
            return Ok(0);
        }
        // Not there, or not allowed: by digest it would be the same.
        (Err(e), Some(_)) if a.name.digest.is_none() && e.get_kind() != Kind::NotFound => e,
        (Err(e), _) => return Err(e),
    };
    let tag = a.name.tag.clone().unwrap_or_default();
    let Some(digest) = client.digest(repository, &tag)? else {
        return Err(Error::kind(Kind::NotFound, format!("there is no {}", a.name)).caused_by(refused));
    };
    let others: Vec<String> = client.tags_of(repository, &digest)?.into_iter().filter(|t| *t != tag).collect();
    if !others.is_empty() && !a.force {
        return Err(Error::kind(
            Kind::Conflict,
            format!("this registry removes manifests only, and {} has other tags: {}", a.name, others.join(", ")),
        )
        .hint("--force removes the manifest with all of them"));
    }
    // Where deletes are off altogether, the first refusal says no less than this one.
    client.delete(repository, &digest.to_string())?;
    for tag in [tag].iter().chain(&others) {
        ui::out(format_args!("Untagged: {}/{repository}:{tag}", a.name.registry));
    }
    ui::out(format_args!("Deleted: {}/{repository}@{digest}", a.name.registry));
    Ok(0)
}

type Take<'a> = &'a mut dyn FnMut(Vec<String>);

/// Each page is printed when it comes, and forgotten: a list may be longer than memory is large.
fn list(
    args: &ListArgs,
    reference: impl Fn(&str) -> String,
    fetch: impl FnOnce(Take<'_>) -> Result<()>,
) -> Result<u8> {
    let (mut array, mut failure) = (ui::JsonArray::default(), None);
    fetch(&mut |names| match &args.format {
        _ if args.json => names.iter().for_each(|n| array.push(n)),
        None => names.iter().for_each(ui::out),
        Some(format) => {
            for name in &names {
                let row = serde_json::json!({ "Name": name, "Reference": reference(name) });
                match template::render(format, &row) {
                    Ok(line) => ui::out(line),
                    Err(e) => failure = Some(e),
                }
            }
        }
    })?;
    if args.json {
        array.finish();
    }
    failure.map_or(Ok(0), Err)
}

fn copy(a: CopyArgs) -> Result<u8> {
    if a.to.digest.is_some() {
        return Err(Error::kind(Kind::Usage, "the copy's name needs a tag, not a digest"));
    }
    let from = a.flags.client(&a.from.registry, explain_to_stderr(a.flags.explain))?;
    let to = a.flags.client(&a.to.registry, explain_to_stderr(a.flags.explain))?;
    let options = CopyOptions {
        all: a.all,
        platform: a.platform.as_deref().map(client::parse_platform).transpose()?,
        referrers: a.referrers,
        at_once: 3,
    };
    let lines = Lines::new(To::Stdout, "Copying", a.flags.explain.is_some());
    let digest = client::copy((&from, &a.from), (&to, &a.to), &options, &lines)?;
    ui::out(format_args!("Digest: {digest}"));
    Ok(0)
}
