//! `glassbox ns run`. What it does is in its help. The plan is
//! [`crate::namespaces::RunRequest`]'s. Read next: `carry_out.rs`.

use super::kinds::KindFlags;
use super::carry_out::{PlanFlags, carry_out, command_or_shell, environment, signals};
use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::journal::Scene;
use crate::namespaces::actions::{Propagation, TimeOffset};
use crate::namespaces::{Caller, IdKind, IdMap, Kind, RunRequest, subordinate_ranges};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a command in new namespaces.
///
/// Without a new pid namespace glassbox unshares and becomes the command. With one the command is
/// a second process, PID 1 inside; glassbox waits, forwards signals and exits with its status
/// (128 + n for signal n).
///
/// An ordinary user needs --user --map-root-user (or --all) with any of the others. --all maps the
/// caller to root inside where no other map is given.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  glassbox ns run --pid --mount -- ps ax            only itself is seen
  glassbox ns run --all -- sh                       everything new, also as an ordinary user
  glassbox ns run --uts --hostname blue -- hostname
  glassbox ns run --time --boottime 2d -- uptime    it has been up for two days longer
  glassbox ns run --user --map-auto -- cat /proc/self/uid_map
  glassbox ns run --pid --mount --uts --root ./rootfs --explain -- sh
  glassbox cgroup run --memory 64M -- glassbox ns run --pid --mount --uts --root ./rootfs -- sh

Exit status: the command's; 128+n when signal n ended it; 127 no such command; 126 it cannot be
executed; 125 glassbox itself failed.")]
pub struct Args {
    #[command(flatten)]
    kinds: KindFlags,

    /// Map the caller to root inside. Implies --user.
    #[arg(short = 'r', long, help_heading = "Ids")]
    map_root_user: bool,
    /// Map a range of user ids. Repeatable; implies --user. More than the caller's own id needs
    /// root, or newuidmap and a range in /etc/subuid.
    #[arg(long, value_name = "INSIDE:OUTSIDE[:COUNT]", help_heading = "Ids")]
    map_user: Vec<IdMap>,
    /// Map a range of group ids. Repeatable; implies --user.
    #[arg(long, value_name = "INSIDE:OUTSIDE[:COUNT]", help_heading = "Ids")]
    map_group: Vec<IdMap>,
    /// Map the caller to root and the ids from 1 on to its first range in /etc/subuid and
    /// /etc/subgid.
    #[arg(long, conflicts_with_all = ["map_root_user", "map_user", "map_group"], help_heading = "Ids")]
    map_auto: bool,
    /// Run the command as this user id of the namespace. [default: the mapped caller, else root]
    #[arg(short = 'S', long, value_name = "UID", help_heading = "Ids")]
    setuid: Option<u32>,
    /// Run the command as this group id of the namespace.
    #[arg(short = 'G', long, value_name = "GID", help_heading = "Ids")]
    setgid: Option<u32>,

    /// Set the host name. Implies --uts.
    #[arg(long, value_name = "NAME", help_heading = "Inside")]
    hostname: Option<String>,
    /// Set the NIS domain name. Implies --uts.
    #[arg(long, value_name = "NAME", help_heading = "Inside")]
    domainname: Option<String>,
    /// Shift the monotonic clock by seconds (or 5m, 2h, -1d). Implies --time.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, help_heading = "Inside")]
    monotonic: Option<TimeOffset>,
    /// Shift the boot-time clock, which is the uptime. Implies --time.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, help_heading = "Inside")]
    boottime: Option<TimeOffset>,
    /// Mount a fresh /proc. Implies --mount; is implied by --pid with --mount.
    #[arg(long, overrides_with = "no_mount_proc", help_heading = "Inside")]
    mount_proc: bool,
    /// Leave /proc as it is even with --pid and --mount.
    #[arg(long, help_heading = "Inside")]
    no_mount_proc: bool,
    /// Make this directory the root, by pivot_root. Implies --mount.
    #[arg(short = 'R', long, value_name = "DIR", help_heading = "Inside")]
    root: Option<PathBuf>,
    /// Start the command in this directory, as named inside.
    #[arg(short, long, value_name = "DIR", help_heading = "Inside")]
    workdir: Option<PathBuf>,
    /// How mounts made here and on the host follow each other: private, slave, shared, unchanged.
    #[arg(long, value_name = "MODE", default_value = "private", help_heading = "Inside")]
    propagation: Propagation,

    #[command(flatten)]
    plan: PlanFlags,

    /// The command and its arguments. [default: $SHELL]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let caller = Caller::current()?;
    let request = request(&args, &caller)?;
    let plan = request.plan(&caller)?;
    carry_out(&plan, &mut Scene::new(), &args.plan)
}

fn request(args: &Args, caller: &Caller) -> Result<RunRequest> {
    let command = command_or_shell(args.command.clone());
    let mut request = RunRequest::new(command, environment(), signals());
    request.kinds = kinds(args);
    request.uid_map = args.map_user.clone();
    request.gid_map = args.map_group.clone();
    if args.map_auto {
        request.uid_map = automatic(IdKind::Uid, caller.uid)?;
        request.gid_map = automatic(IdKind::Gid, caller.gid)?;
    }
    if args.map_root_user || (args.kinds.all && request.uid_map.is_empty()) {
        let clash = request.uid_map.iter().any(|m| m.inside == 0);
        if !clash {
            request.uid_map.insert(0, IdMap::one(0, caller.uid));
        }
        if !request.gid_map.iter().any(|m| m.inside == 0) {
            request.gid_map.insert(0, IdMap::one(0, caller.gid));
        }
    }
    request.hostname = args.hostname.clone();
    request.domainname = args.domainname.clone();
    request.monotonic = args.monotonic;
    request.boottime = args.boottime;
    request.mount_proc = match (args.mount_proc, args.no_mount_proc) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    request.root = args.root.as_deref().map(real_directory).transpose()?;
    request.workdir = args.workdir.clone();
    request.setuid = args.setuid;
    request.setgid = args.setgid;
    request.propagation = args.propagation;
    Ok(request)
}

fn kinds(args: &Args) -> BTreeSet<Kind> {
    if args.kinds.all {
        return BTreeSet::from(Kind::ALL);
    }
    let mut kinds = args.kinds.named();
    kinds.extend((args.map_root_user || args.map_auto).then_some(Kind::User));
    kinds
}

/// The new root as an absolute path: it is used from several working directories.
fn real_directory(path: &std::path::Path) -> Result<PathBuf> {
    let real = std::fs::canonicalize(path)
        .with_context(|| format!("cannot use {} as the root", path.display()))
        .map_err(|e| e.topic("pivot_root"))?;
    if !real.is_dir() {
        let message = format!("cannot use {} as the root", path.display());
        return Err(Error::kind(ErrorKind::Usage, message)
            .caused_by(Error::new("it is not a directory"))
            .hint("a root file system is a directory tree; `glassbox image` makes one from an image"));
    }
    Ok(real)
}

/// Root inside is the caller, and the rest is the first range that the administrator gave it.
fn automatic(kind: IdKind, own: u32) -> Result<Vec<IdMap>> {
    let file = kind.subordinate_file();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {file}"))
        .map_err(|e| e.topic("user-namespaces"))?;
    let uid = nix::unistd::getuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|u| u.name);
    let number = uid.to_string();
    let names: Vec<&str> = name.as_deref().into_iter().chain([number.as_str()]).collect();
    let ranges = subordinate_ranges(&text, &names);
    let Some((outside, count)) = ranges.first().copied() else {
        let who = name.as_deref().unwrap_or(&number);
        return Err(Error::new(format!("{file} gives no range to {who}"))
            .hint(format!(
                "as root: usermod --add-sub{}s 100000-165535 {who}; or map yourself alone with \
                 --map-root-user",
                match kind {
                    IdKind::Uid => "uid",
                    IdKind::Gid => "gid",
                }
            ))
            .topic("user-namespaces"));
    };
    let rest = IdMap {
        inside: 1,
        outside,
        count,
    };
    Ok(vec![IdMap::one(0, own), rest])
}
