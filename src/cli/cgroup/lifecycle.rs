//! `glassbox cgroup freeze`, `thaw`, `kill`, `rm`.
//!
//! Read next: [`crate::cgroups::lifecycle`].

use crate::cgroups::{Group, lifecycle};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::ui;

/// Stop all processes of a group where they are.
///
/// They use no processor time until `thaw`; they cannot notice. Waits until all have stopped.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup freeze web
  glassbox cgroup stat web             says that it is frozen")]
pub struct FreezeArgs {
    /// The groups
    #[arg(required = true)]
    targets: Vec<String>,
    /// Print what was done
    #[arg(long)]
    json: bool,
}

/// Let the processes of a frozen group go on.
#[derive(clap::Args)]
#[command(after_help = "Example:
  glassbox cgroup thaw web")]
pub struct ThawArgs {
    /// The groups
    #[arg(required = true)]
    targets: Vec<String>,
    /// Print what was done
    #[arg(long)]
    json: bool,
}

/// Kill all processes of a group and of the groups below it.
///
/// Nothing escapes by forking: cgroup.kill is atomic, and on v1 the group is frozen first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup kill web
  glassbox cgroup kill --signal TERM web")]
pub struct KillArgs {
    /// The groups
    #[arg(required = true)]
    targets: Vec<String>,
    /// Another signal than KILL, by name or number; it is sent once to each process
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Print what was done
    #[arg(long)]
    json: bool,
}

/// Remove a group.
///
/// A group with processes, or with groups below it, is refused unless told otherwise.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup rm web
  glassbox cgroup rm --recursive --force web")]
pub struct RmArgs {
    /// The groups
    #[arg(required = true)]
    targets: Vec<String>,
    /// The groups below it too
    #[arg(short, long)]
    recursive: bool,
    /// Kill the processes in it first
    #[arg(short, long)]
    force: bool,
    /// Print what was done
    #[arg(long)]
    json: bool,
}

/// Does it for each target; goes on after a failure and reports all of them.
fn for_each(
    targets: &[String],
    json: bool,
    what: &str,
    act: impl Fn(&Group) -> Result<()>,
) -> Result<u8> {
    let host = Host::detect()?;
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for word in targets {
        match super::target(&host, word).and_then(|g| act(&g).map(|()| g.path.to_string())) {
            Ok(path) => done.push(path),
            Err(e) => failures.push(e),
        }
    }
    if json {
        ui::print_json(&serde_json::json!({ what: done }));
    }
    match (failures.len(), targets.len()) {
        // A single failure speaks for itself.
        (1, 1) => Err(failures.remove(0)),
        (_, n) => Error::join(format!("not all of the {n} groups were {what}"), failures).map(|()| 0),
    }
}

pub(super) fn freeze(args: FreezeArgs) -> Result<u8> {
    for_each(&args.targets, args.json, "frozen", lifecycle::freeze)
}

pub(super) fn thaw(args: ThawArgs) -> Result<u8> {
    for_each(&args.targets, args.json, "thawed", lifecycle::thaw)
}

pub(super) fn kill(args: KillArgs) -> Result<u8> {
    let signal = args.signal.as_deref().map(parse_signal).transpose()?;
    for_each(&args.targets, args.json, "killed", |group| match signal {
        None | Some(libc::SIGKILL) => lifecycle::kill(group),
        Some(signal) => lifecycle::signal(group, signal).map(drop),
    })
}

/// `TERM`, `sigterm`, `15`.
fn parse_signal(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = format!("SIG{}", upper.trim_start_matches("SIG"));
    let number = match text.parse::<i32>() {
        Ok(n) => nix::sys::signal::Signal::try_from(n),
        Err(_) => name.parse(),
    };
    number.map(|s| s as i32).map_err(|_| {
        Error::kind(Kind::Usage, format!("{text:?} is no signal"))
            .hint("write a name such as TERM or HUP, or a number")
    })
}

pub(super) fn rm(args: RmArgs) -> Result<u8> {
    for_each(&args.targets, args.json, "removed", |group| {
        lifecycle::require_not_root(group, "remove")?;
        let below = group
            .dirs
            .iter()
            .flat_map(|d| lifecycle::tree_of(&d.dir).into_iter().skip(1))
            .next();
        if let (Some(below), false) = (below, args.recursive) {
            return Err(Error::kind(
                Kind::Conflict,
                format!("the cgroup {} has groups below it", group.path),
            )
            .caused_by(Error::new(format!("{} exists", below.display())))
            .hint(format!("`glassbox cgroup rm -r {}` removes them too", group.path)));
        }
        lifecycle::remove(group, args.force)
    })
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["TERM", "term", "SIGTERM", "15"] {
            assert_eq!(parse_signal(text).unwrap(), libc::SIGTERM);
        }
        for text in ["", "FOO", "0", "999", "-1"] {
            assert!(parse_signal(text).is_err(), "{text:?}");
        }
    }
}
