//! `glassbox cgroup`: what a process may use.
//!
//! Read next: `run.rs`, then [`crate::cgroups`].

mod create;
mod lifecycle;
mod limits;
mod list;
mod run;
mod stat;

pub use limits::LimitFlags;

use crate::cgroups::{CgroupPath, Group, group, survey};
use crate::containers::store::Store;
use crate::error::{Kind, Result};
use crate::host::Host;

/// Cgroups: limit, count, freeze and kill what processes use.
///
/// TARGET is a group's path from the root (/glassbox/web), a directory under /sys/fs/cgroup, a
/// process id (its group), a name given to `create`, or a container.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup run --memory 64M --pids-limit 20 -- sh
  glassbox cgroup run --explain --cpus 0.5 -- make -j8
  glassbox cgroup create web --memory 1G && glassbox cgroup set web --memory 2G
  glassbox cgroup stat $$              what limits this shell, and which group says so
  glassbox cgroup tree")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Create(create::CreateArgs),
    Set(create::SetArgs),
    Run(run::RunArgs),
    Stat(stat::StatArgs),
    Ls(list::LsArgs),
    Tree(list::TreeArgs),
    Freeze(lifecycle::FreezeArgs),
    Thaw(lifecycle::ThawArgs),
    Kill(lifecycle::KillArgs),
    Rm(lifecycle::RmArgs),
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    match args.command {
        Command::Create(a) => create::create(a),
        Command::Set(a) => create::set(a),
        Command::Run(a) => run::run(a),
        Command::Stat(a) => stat::stat(a),
        Command::Ls(a) => list::ls(a),
        Command::Tree(a) => list::tree(a),
        Command::Freeze(a) => lifecycle::freeze(a),
        Command::Thaw(a) => lifecycle::thaw(a),
        Command::Kill(a) => lifecycle::kill(a),
        Command::Rm(a) => lifecycle::rm(a),
    }
}

/// The group that a word on the command line means.
fn target(host: &Host, word: &str) -> Result<Group> {
    let found = survey::resolve(&host.cgroups, &group::base(&host.cgroups)?, word);
    match &found {
        Err(e) if e.get_kind() == Kind::NotFound && !word.starts_with('/') => {
            match Store::open(None).and_then(|s| s.find(word)) {
                Ok(container) => {
                    let path = CgroupPath::parse(&container.cgroups_path())?;
                    Group::existing(&host.cgroups, &path)
                }
                // Neither a group nor a container: the first answer is the one to give.
                Err(_) => found,
            }
        }
        _ => found,
    }
}

/// The path of a group to be made: from the root with a leading slash, else below the group in
/// which this user may work.
fn new_path(host: &Host, name: &str) -> Result<CgroupPath> {
    let path = match name.starts_with('/') {
        true => CgroupPath::parse(name)?,
        false => group::base(&host.cgroups)?.join(name)?,
    };
    if path.is_root() {
        return Err(crate::error::Error::kind(
            Kind::Usage,
            "a group needs a name",
        ));
    }
    Ok(path)
}

/// Bytes for people: `64 MiB`, `1.5 GiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.fract() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A limit's value for people, by its name: bytes for memory and huge pages.
fn human_limit(what: &str, value: &str) -> String {
    match value.parse::<u64>() {
        Ok(n) if what.starts_with("memory") || what.starts_with("hugetlb") => human(n),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(human(512), "512 B");
        assert_eq!(human(64 << 20), "64 MiB");
        assert_eq!(human(3 << 29), "1.5 GiB");
        assert_eq!(human_limit("memory.max", "max"), "max");
        assert_eq!(human_limit("pids.max", "2048"), "2048");
    }
}
