//! `glassbox commit`: an image out of a container's changes.
//!
//! Read next: [`crate::containers::files::commit`].

use crate::containers::files::commit::{self, Wish};
use crate::containers::store::Store;
use crate::error::{Error, Kind, Result};
use crate::images::Reference;
use crate::ui;
use std::path::PathBuf;

/// Make an image of what a container has changed, and print its id
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox commit web web:patched
  glassbox commit -m 'with curl' -c 'CMD [\"curl\"]' web tools")]
pub struct Args {
    /// Who made it
    #[arg(short, long, value_name = "NAME", default_value = "")]
    author: String,
    /// A Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, WORKDIR…
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,
    /// Freeze it while its files are read
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pause: bool,
    /// Do not freeze it
    #[arg(long, conflicts_with = "pause")]
    no_pause: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
    /// Name of the image
    name: Option<Reference>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    if args.name.as_ref().is_some_and(|n| n.digest.is_some()) {
        return Err(Error::kind(Kind::Usage, "an image cannot be given a digest: it has one"));
    }
    let store = Store::open(args.root.as_deref())?;
    let container = store.find(&args.container)?;
    let wish = Wish {
        name: args.name,
        author: args.author,
        message: args.message,
        changes: args.change,
        pause: args.pause && !args.no_pause,
    };
    ui::out(commit::commit(&store, &container, &wish)?.id);
    Ok(0)
}
