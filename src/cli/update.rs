//! `glassbox update`: other limits for containers that exist.
//!
//! Read next: `limit_flags.rs` (the flags), [`crate::containers::update`].

use super::limit_flags::LimitFlags;
use super::status::of_flags;
use super::targets::Targets;
use crate::containers::{flags, update};
use crate::error::Result;
use crate::ui;

/// Change the limits or the restart policy of one or more containers
///
/// A limit that the kernel refuses changes nothing. A container that runs has the new limits at
/// once; each is read back.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox update -m 512m --cpus 1.5 web
  glassbox update --restart unless-stopped web db")]
pub struct Args {
    #[command(flatten)]
    limits: LimitFlags,
    /// When to start it again: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    #[command(flatten)]
    targets: Targets,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let policy = args.restart.as_deref().map(flags::restart).transpose()?;
    of_flags(args.limits.apply(&mut Default::default()))?; // a bad value concerns the whole command
    args.targets.each(|_, container| {
        let warnings = update::update(container, &|h| {
            args.limits.apply(h)?;
            if let Some(policy) = &policy {
                h.restart_policy = policy.clone();
            }
            Ok(())
        })?;
        warnings.iter().for_each(ui::warn);
        Ok(())
    })
}
