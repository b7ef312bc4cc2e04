//! `glassbox image`: stage 4, images.
//!
//! What it does: one file a group of sub-subcommands, each an `Args` whose docs are the help and a
//! function. Interface: [`Args`], [`run`]. Read next: `transfer.rs`; the module behind it is
//! [`crate::images`].

pub mod change;
mod list;
mod show;
mod transfer;

use crate::containers::paths::Paths;
use crate::error::Result;
use crate::images::Store;
use std::path::PathBuf;

/// Images: what containers are made from, kept as an OCI image layout that other tools read.
///
/// An image is a manifest that names a configuration (what to run) and layers (what there is),
/// each by the digest of its content. IMAGE is a name (alpine, user/app:1.2), an id, or the
/// beginning of an id.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Load(transfer::LoadArgs),
    Save(transfer::SaveArgs),
    Import(transfer::ImportArgs),
    FromHost(transfer::FromHostArgs),
    #[command(visible_alias = "list")]
    Ls(list::LsArgs),
    History(list::HistoryArgs),
    Inspect(show::InspectArgs),
    Tag(change::TagArgs),
    #[command(visible_alias = "remove")]
    Rm(change::RmArgs),
    Prune(change::PruneArgs),
    Fsck(show::FsckArgs),
}

/// Where the state is.
#[derive(clap::Args, Debug)]
pub struct Root {
    /// Where glassbox keeps its state [default: /var/lib/glassbox, or $XDG_DATA_HOME/glassbox for
    /// an ordinary user; $GLASSBOX_ROOT overrides].
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Root {
    /// The image store there.
    pub fn store(&self) -> Result<Store> {
        Store::open(&Paths::new(self.root.as_deref())?.root)
    }
    /// The containers there.
    pub fn containers(&self) -> Result<crate::containers::store::Store> {
        crate::containers::store::Store::open(self.root.as_deref())
    }
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Load(a) => transfer::load(a),
        Command::Save(a) => transfer::save(a),
        Command::Import(a) => transfer::import(a),
        Command::FromHost(a) => transfer::from_host(a),
        Command::Ls(a) => list::ls(a),
        Command::History(a) => list::history(a),
        Command::Inspect(a) => show::inspect(a),
        Command::Tag(a) => change::tag(a),
        Command::Rm(a) => change::rm(a),
        Command::Prune(a) => change::prune(a),
        Command::Fsck(a) => show::fsck(a),
    }
}
