//! `glassbox layer whence`: which layer a path comes from.
//!
//! Read next: [`crate::layers::whence`], which does the work.

use crate::cli::image::Root;
use crate::error::{Error, Kind, Result};
use crate::images::Image;
use crate::layers::whence::{Role, whence};
use crate::ui::{self, Style, Table};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which layer provides, hides or copied up a path, and the instruction that made that layer.
///
/// Exit status 0 when the path exists in the whole, 1 when it does not.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox layer whence --image debian /etc/motd
  glassbox layer whence --container web /etc/passwd      copied up if the container changed it
  glassbox layer whence --lower top --lower below etc/passwd --json")]
pub struct WhenceArgs {
    /// In this image.
    #[arg(long, value_name = "IMAGE", group = "of")]
    image: Option<String>,
    /// In this container: its own changes over its image.
    #[arg(long, value_name = "CONTAINER", group = "of")]
    container: Option<String>,
    /// In these directories, the first on top. Repeatable.
    #[arg(long = "lower", value_name = "DIR", group = "of", required = true)]
    lowers: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Do not shorten instructions.
    #[arg(long)]
    no_trunc: bool,
    /// The path, from the root of the whole.
    path: PathBuf,
    #[command(flatten)]
    root: Root,
}

/// A layer with what is known of it.
struct Origin {
    directory: PathBuf,
    label: String,
    made_by: String,
    writable: bool,
}

fn of_image(args: &WhenceArgs, image: &Image) -> Result<Vec<Origin>> {
    let directories = args.root.store()?.lowers(image)?;
    let count = image.layers.len();
    let layers = image.layers.iter().rev().zip(directories).enumerate();
    Ok(layers
        .map(|(i, (layer, directory))| Origin {
            directory,
            label: format!("{} of {count}  {}", count - i, layer.digest.short()),
            made_by: layer.created_by.clone().unwrap_or_default(),
            writable: false,
        })
        .collect())
}

fn origins(args: &WhenceArgs) -> Result<Vec<Origin>> {
    if let Some(name) = &args.image {
        return of_image(args, &args.root.store()?.find(name)?);
    }
    if let Some(name) = &args.container {
        let container = args.root.containers()?.find(name)?;
        let mut all = vec![Origin {
            directory: container.dir.join("upper"),
            label: format!("container {}", container.name()),
            made_by: "the container's own changes".into(),
            writable: true,
        }];
        match &container.record.rootfs {
            Some(directory) => all.push(Origin {
                directory: directory.clone(),
                label: "root directory".into(),
                made_by: directory.display().to_string(),
                writable: false,
            }),
            None => {
                let image = args.root.store()?.find(&container.record.image_id)?;
                all.extend(of_image(args, &image)?);
            }
        }
        return Ok(all);
    }
    let of_directory = |(i, d): (usize, &PathBuf)| match d.is_dir() {
        true => Ok(Origin {
            directory: d.clone(),
            label: i.to_string(),
            made_by: d.display().to_string(),
            writable: false,
        }),
        false => Err(Error::kind(Kind::NotFound, format!("{} is no directory", d.display()))),
    };
    args.lowers.iter().enumerate().map(of_directory).collect()
}

/// What a role means, in words. `merged`: a layer below has the directory, too.
fn words(role: Role, writable: bool, merged: bool) -> &'static str {
    match role {
        Role::Provides if writable && merged => {
            "provides it: copied up when the container changed something in it"
        }
        Role::Provides if writable => "provides it: made in the container",
        Role::Replaces if writable => "provides it: copied up when the container changed it",
        Role::Provides => "provides it",
        Role::Replaces => "provides it, in place of a layer below",
        Role::Merged => "merged into it: the directory is shown with this one's entries",
        Role::Hidden => "has it too, hidden by a layer above",
        Role::Deletes => "deletes it (whiteout)",
        Role::Opaque => "hides what lies below (opaque directory)",
        Role::Blocks => "hides what lies below (no directory here)",
    }
}

/// Runs it.
pub fn run(args: WhenceArgs) -> Result<u8> {
    let origins = origins(&args)?;
    let directories: Vec<PathBuf> = origins.iter().map(|o| o.directory.clone()).collect();
    let found = whence(&directories, &args.path)?;
    let status = u8::from(found.provider.is_none());
    if args.json {
        let findings: Vec<Value> = found
            .findings
            .iter()
            .map(|f| {
                let origin = &origins[f.layer];
                json!({
                    "layer": f.layer, "role": f.role, "path": f.path, "label": origin.label,
                    "directory": origin.directory, "created_by": origin.made_by,
                    "writable": origin.writable,
                })
            })
            .collect();
        ui::print_json(&json!({
            "path": found.path, "exists": found.provider.is_some(),
            "provider": found.provider, "findings": findings,
        }));
        return Ok(status);
    }
    if found.findings.is_empty() {
        ui::note(format_args!("no layer has {}", found.path.display()));
        return Ok(status);
    }
    let colour = ui::colour_stdout();
    ui::out(ui::styled(found.path.display(), Style::Strong, colour));
    let mut table = Table::new(&["layer", "what it does", "by", "made by"]);
    let merged = found.findings.iter().any(|f| f.role == Role::Merged);
    for f in &found.findings {
        let origin = &origins[f.layer];
        let by = if f.path == found.path { String::new() } else { f.path.display().to_string() };
        let mut made_by = origin.made_by.replace(['\n', '\t'], " ");
        if !args.no_trunc && made_by.chars().count() > 60 {
            made_by = made_by.chars().take(59).chain(['…']).collect();
        }
        table.row([origin.label.clone(), words(f.role, origin.writable, merged).into(), by, made_by]);
    }
    ui::out(table);
    if found.provider.is_none() {
        ui::note("so it does not exist in the whole");
    }
    Ok(status)
}
