//! `glassbox logout`: forget what proves to a registry who you are.
//!
//! Read next: `login.rs`.

use super::login::registry;
use crate::error::Result;
use crate::registry::client::auth::credentials;
use crate::ui;

/// Log out from a registry
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox logout localhost:5000")]
pub struct Args {
    /// The registry [default: docker.io].
    server: Option<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let registry = registry(args.server.as_deref());
    ui::out(match credentials::erase(&registry)? {
        true => format!("Removing login credentials for {registry}"),
        false => format!("Not logged in to {registry}"),
    });
    Ok(0)
}
