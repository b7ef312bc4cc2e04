//! `glassbox create`: a container that does not run yet.
//!
//! Read next: `run.rs`.

use super::container_flags::ContainerFlags;
use super::status::of_flags;
use crate::containers::{create, prepare, start, store::Store};
use crate::error::Result;
use crate::host::Host;
use crate::ui;

/// Create a container without starting it, and print its id
#[derive(clap::Args)]
#[command(disable_help_flag = true, after_help = "Examples:
  glassbox create --name web lab sleep 60
  glassbox start -a web")]
pub struct Args {
    #[command(flatten)]
    flags: ContainerFlags,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let flags = &args.flags;
    flags.check_cidfile()?;
    let store = Store::open(flags.root.as_deref())?;
    let wish = of_flags(flags.wish(false))?;
    let image = flags.find_image(&store)?;
    let container = create::draft(&store, wish, &image)?;
    let h = &container.record.host_config;
    let joins = [&h.network_mode, &h.pid_mode, &h.ipc_mode];
    if joins.iter().all(|m| !m.starts_with("container:")) {
        // All that can be wrong is said now; another container may yet have to be started.
        let prepared = prepare::prepare(&store, &container, &image, &Host::detect()?, None)?;
        prepared.plan.warnings.iter().for_each(ui::warn);
    }
    start::begin_recording("create", false)?;
    let made = create::create(&store, &container, &mut (), &super::run::options(false))?;
    if let Err(error) = flags.write_cidfile(container.id()) {
        return Err(match super::run::discard(&container, &made) {
            Ok(()) => error,
            Err(more) => error.hint(format!("and the container could not be removed: {more:#}")),
        });
    }
    ui::out(container.id());
    Ok(0)
}
