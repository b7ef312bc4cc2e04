//! `glassbox network`: what connects containers.
//!
//! What it does: one file a group of sub-subcommands, as `volume`. Interface: [`Args`], [`run`].
//! Read next: `change.rs`; the module behind it is [`crate::containers::networks`].

mod change;
mod connect;
mod show;

use crate::error::Result;

/// Networks: bridges of this host's that connect containers with each other and the world.
///
/// `run --network NAME` puts a container into one. The bridge exists while a container of the network
/// runs. `bridge`, `host` and `none` are always there.
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
    Connect(connect::ConnectArgs),
    Disconnect(connect::DisconnectArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Create(a) => change::create(a),
        Command::Ls(a) => show::ls(a),
        Command::Inspect(a) => show::inspect(a),
        Command::Rm(a) => change::rm(a),
        Command::Prune(a) => change::prune(a),
        Command::Connect(a) => connect::connect(a),
        Command::Disconnect(a) => connect::disconnect(a),
    }
}
