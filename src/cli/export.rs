//! `glassbox export`: a container's root file system as a tar.
//!
//! Read next: [`crate::containers::files::view`].

use super::own_namespace::{When, command_again};
use crate::containers::files::view::View;
use crate::containers::store::Store;
use crate::error::{Context, Error, Kind, Result};
use crate::files::output::Output;
use crate::layers::{apply::Target, create};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

/// Write a container's root file system as a tar, without what is mounted in it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox export -o web.tar web
  glassbox export web | glassbox image import - web:flat")]
pub struct Args {
    /// A file in place of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let container = store.find(&args.container)?;
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Error::kind(Kind::Usage, "will not write an archive to a terminal")
            .hint("name a file with -o, or redirect stdout"));
    }
    let what = || format!("cannot export container {}", container.name());
    command_again(&store, &container, When::Always).with_context(what)?;
    // Opened first: the view may leave this mount namespace.
    let mut file = match &args.output {
        Some(path) => Some(Output::create(path, 0o666)?),
        None => None,
    };
    let view = View::open(&store, &container, false).with_context(what)?;
    let out: &mut dyn Write = match &mut file {
        Some(file) => file,
        None => &mut std::io::stdout().lock(),
    };
    let mut out = BufWriter::with_capacity(256 << 10, out);
    create::create(&view.path(), Target::Plain, &mut out).with_context(what)?;
    out.flush().context("cannot write the archive").with_context(what)?;
    drop(out);
    file.map_or(Ok(()), Output::finish)?;
    Ok(0)
}
