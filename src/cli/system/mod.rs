//! `glassbox system`: the whole of one state root: how much it takes, what it is, what nobody needs,
//! and what should run.
//!
//! What it does: one file a sub-subcommand. Interface: [`Args`], [`run`]. Read next: `recover.rs`.

mod df;
mod info;
mod prune;
mod recover;

use crate::cli::image::Root;
use crate::error::Result;

/// All of it together: disk use, facts, clearing up, and what should run after a reboot.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Df(df::DfArgs),
    Info(info::InfoArgs),
    Prune(prune::PruneArgs),
    Recover(recover::RecoverArgs),
    Halt(recover::HaltArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Df(a) => df::df(a),
        Command::Info(a) => info::info(a),
        Command::Prune(a) => prune::prune(a),
        Command::Recover(a) => recover::recover(a),
        Command::Halt(a) => recover::halt(a),
    }
}
