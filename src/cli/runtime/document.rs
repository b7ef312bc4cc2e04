//! `glassbox runtime spec` and `features`: the documents that the runtime writes itself.
//!
//! Read next: [`crate::runtime::template`], [`crate::runtime::features`].

use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::{files, runtime, ui};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct SpecArgs {
    /// Where to write config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// One that an ordinary user can run
    #[arg(long)]
    rootless: bool,
}

pub(super) fn spec(args: &SpecArgs) -> Result<u8> {
    let mut spec = runtime::template(&Host::detect()?);
    if args.rootless {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        runtime::rootless(&mut spec, uid.as_raw(), gid.as_raw());
    }
    let path = args.bundle.join("config.json");
    let text = files::to_json(&spec)?;
    let mut file = match std::fs::File::options().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let what = format!("{} exists already", path.display());
            return Err(Error::kind(Kind::Conflict, what).hint("remove it first, or name another --bundle"));
        }
        Err(e) => return Err(e).with_context(|| format!("cannot make {}", path.display())),
    };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(0)
}

pub(super) fn features() -> Result<u8> {
    ui::print_json(&runtime::features(&Host::detect()?));
    Ok(0)
}
