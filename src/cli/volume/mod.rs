//! `glassbox volume`: what outlives containers.
//!
//! What it does: one file a group of sub-subcommands, as `image`. Interface: [`Args`], [`run`].
//! Read next: `show.rs`; the module behind it is [`crate::containers::volumes`].

pub mod change;
mod show;

use crate::cli::image::Root;
use crate::error::Result;

pub use crate::cli::filters::{has_label, pairs as filters};

/// Volumes: directories that outlive the containers they are mounted in.
///
/// `run -v NAME:/data` makes one that is missing and fills it with what the image has at its place.
/// One without a name (`-v /data`, an image's VOLUME) is removed by `rm -v` and `run --rm`.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Create(change::CreateArgs),
    #[command(visible_alias = "list")]
    Ls(show::LsArgs),
    Inspect(show::InspectArgs),
    #[command(visible_alias = "remove")]
    Rm(change::RmArgs),
    Prune(change::PruneArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Create(a) => change::create(a),
        Command::Ls(a) => show::ls(a),
        Command::Inspect(a) => show::inspect(a),
        Command::Rm(a) => change::rm(a),
        Command::Prune(a) => change::prune(a),
    }
}
