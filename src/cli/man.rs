//! `glassbox man`: the manual pages, written into a directory.

use crate::error::{Context, Error, Result};
use crate::ui;
use std::path::{Path, PathBuf};

/// Write the manual pages into a directory, one a subcommand.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox man /usr/local/share/man/man1
  glassbox man /tmp/man && man -l /tmp/man/glassbox-run.1")]
pub struct Args {
    /// The directory; it is made if it does not exist.
    dir: PathBuf,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make the directory {}", args.dir.display()))?;
    let mut tree = super::whole_tree();
    tree.build();
    let count = write(&tree, "glassbox", &args.dir)?;
    ui::note(format_args!("{count} pages written to {}", args.dir.display()));
    Ok(0)
}

/// The page of a command and those of its subcommands: `glassbox-ns-run.1`.
fn write(command: &clap::Command, name: &str, dir: &Path) -> Result<usize> {
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    // clap wants a name that lives as long as the program; the few dozen of them may.
    let title: &'static str = Box::leak(name.to_string().into_boxed_str());
    clap_mangen::Man::new(command.clone().name(title))
        .render(&mut page)
        .context("cannot render a manual page")?;
    std::fs::write(&path, page)
        .map_err(|e| Error::new(format!("cannot write {}", path.display())).caused_by(e))?;
    let mut count = 1;
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help" && !s.is_hide_set()) {
        count += write(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(count)
}
