//! `glassbox completions`: a completion script for a shell.

use crate::error::{Context, Result};
use crate::ui;

/// Print a completion script for a shell.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox completions bash > /etc/bash_completion.d/glassbox
  source <(glassbox completions zsh)")]
pub struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let mut script = Vec::new();
    let mut tree = super::whole_tree();
    clap_complete::generate(args.shell, &mut tree, "glassbox", &mut script);
    ui::out_raw(String::from_utf8(script).context("the script is not UTF-8")?);
    Ok(0)
}
