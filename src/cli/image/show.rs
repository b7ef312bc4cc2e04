//! `glassbox image inspect` and `glassbox image fsck`.
//!
//! Read next: `change.rs`; the work is done by [`crate::images::describe`] and
//! [`crate::images::fsck`].

use super::Root;
use crate::error::Result;
use crate::images::{self, describe};
use crate::ui::{self, Progress, Style, template};
use serde_json::Value;

/// Show all that is known of images, as JSON with docker's keys.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image inspect lab
  glassbox image inspect -f '{{.Config.Cmd}} {{len .RootFS.Layers}}' lab")]
pub struct InspectArgs {
    /// Print by a Go template instead.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The images.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `inspect`: what is found is printed, then the first failure.
pub fn inspect(args: InspectArgs) -> Result<u8> {
    let store = args.root.store()?;
    let (mut found, mut failure) = (Vec::<Value>::new(), None);
    for name in &args.images {
        match store.find(name) {
            Ok(image) => found.push(describe::inspect(&store, &image)),
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    match &args.format {
        Some(format) => {
            for value in &found {
                ui::out(template::render(format, value)?);
            }
        }
        None => ui::print_json(&found),
    }
    failure.map_or(Ok(0), Err)
}

/// Check the whole store: every digest, diff id, image and unpacked layer.
///
/// Exit status 0 when all is right, 1 when something is (and stays) wrong.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox image fsck")]
pub struct FsckArgs {
    /// Remove what is damaged or needed by nothing, and unpack again what is missing or was
    /// changed. An image that lost a blob is removed: nothing can bring it back but loading it
    /// again. An index that cannot be read is made anew; then the images have no names.
    #[arg(long)]
    repair: bool,
    /// Print JSON: an array of {kind, subject, what, repaired}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    root: Root,
}

/// Runs `fsck`.
pub fn fsck(args: FsckArgs) -> Result<u8> {
    let store = args.root.store()?;
    let progress = Progress::new(None);
    let problems = images::fsck(&store, args.repair, &mut |s| progress.say(s))?;
    progress.finish();
    let left = problems.iter().filter(|p| p.repaired.is_none()).count();
    if args.json {
        ui::print_json(&problems);
    } else {
        let colour = ui::colour_stdout();
        for p in &problems {
            let done = match p.repaired {
                Some(done) => ui::styled(format!(" ({done})"), Style::Good, colour),
                None => String::new(),
            };
            let kind = ui::styled(p.kind, Style::Bad, colour);
            ui::out(format_args!("{kind} {}: {}{done}", p.subject, p.what));
        }
        if problems.is_empty() {
            ui::note("the store is clean");
        } else if left > 0 && !args.repair {
            ui::note("`glassbox image fsck --repair` repairs what can be, and removes the rest");
        }
    }
    Ok(u8::from(left > 0))
}
