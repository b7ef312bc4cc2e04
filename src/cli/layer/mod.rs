//! `glassbox layer`: stage 3, layers.
//!
//! What it does: one file a group of sub-subcommands, each an `Args` whose docs are the help and a
//! function. Interface: [`Args`], [`run`]. Read next: `archive.rs`; the module behind it is
//! [`crate::layers`].

mod archive;
mod mount;
mod whence;

use crate::error::Result;

/// Layers: trees as archives of changes, stacked to one tree.
///
/// A layer is a tar of what changed: files that are new or different, and whiteouts (.wh.NAME) for
/// those that are gone. Unpacked, overlayfs stacks them: the top one wins.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Create(archive::CreateArgs),
    Apply(archive::ApplyArgs),
    Diff(archive::DiffArgs),
    Mount(mount::MountArgs),
    #[command(visible_alias = "unmount")]
    Umount(mount::UmountArgs),
    Whence(whence::WhenceArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Create(a) => archive::create(a),
        Command::Apply(a) => archive::apply(a),
        Command::Diff(a) => archive::diff(a),
        Command::Mount(a) => mount::mount(a),
        Command::Umount(a) => mount::umount(a),
        Command::Whence(a) => whence::run(a),
    }
}
