//! `glassbox ns`: stage 1, namespaces.
//!
//! What it does: one file a sub-subcommand, each an `Args` whose docs are the help and a `run`.
//! Interface: [`Args`], [`run`]. Read next: `run.rs`; the module behind it is
//! [`crate::namespaces`].

pub(super) mod carry_out;
mod enter;
mod kinds;
mod ls;
mod pin;
mod run;
mod target;
mod tree;

use crate::error::Result;

/// Namespaces: run a command in new ones, enter existing ones, see which there are and why.
///
/// A namespace is one of the kernel's tables (mounts, process ids, network devices, …) of which
/// there can be several; each process points to one of each of eight kinds. It is half of what a
/// container is; the other half is `glassbox cgroup`.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Enter(enter::Args),
    Ls(ls::Args),
    Tree(tree::Args),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Run(args) => run::run(*args),
        Command::Enter(args) => enter::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Tree(args) => tree::run(args),
        Command::Pin(args) => pin::pin(args),
        Command::Unpin(args) => pin::unpin(args),
    }
}
