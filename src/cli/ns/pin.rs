//! `glassbox ns pin` and `ns unpin`. What they do is in their help. The work is
//! [`crate::namespaces::pin`]'s. Read next: `ls.rs`, which shows what is pinned.

use super::target::resolve;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::namespaces::{self, Kind, Target};
use crate::ui;
use std::path::PathBuf;

/// Keep a namespace alive without a process, by mounting it on a file.
///
/// TARGET is a process id or a container with --type, or a namespace file.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  glassbox ns pin --type net 4211 /run/blue.net     keep the network of process 4211
  glassbox ns pin /proc/4211/ns/uts /run/blue.uts
  glassbox ns enter /run/blue.net -- ip addr
  glassbox ns unpin /run/blue.net")]
pub struct PinArgs {
    /// Which of the target's namespaces: user, mnt, uts, ipc, pid, net, cgroup or time.
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    /// Where glassbox keeps its state, to find a container by.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A process id, a container, or a namespace file.
    target: String,
    /// The file to mount it on; made if it does not exist.
    file: PathBuf,
}

/// Let go of a pinned namespace: unmount it and remove the file.
///
/// The namespace ends with its last keeper; `glassbox ns ls` shows what else holds it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox ns unpin /run/blue.net")]
pub struct UnpinArgs {
    /// The file that it is mounted on.
    file: PathBuf,
}

/// Runs `ns pin`.
pub fn pin(args: PinArgs) -> Result<u8> {
    let source = match (resolve(&args.target, args.root.as_deref())?, args.kind) {
        (Target::File(path), _) => path,
        (Target::Process(pid), Some(kind)) => PathBuf::from(format!("/proc/{pid}/ns/{kind}")),
        (Target::Process(pid), None) => {
            let message = format!("process {pid} has eight namespaces: which one?");
            return Err(Error::kind(ErrorKind::Usage, message)
                .hint(format!("--type net, or give the file /proc/{pid}/ns/net")));
        }
    };
    let kind = namespaces::pin(&source, &args.file)?;
    if args.kind.is_some_and(|wanted| wanted != kind) {
        namespaces::unpin(&args.file)?;
        let wanted = args.kind.map_or_else(String::new, |k| format!(", not a {k} namespace"));
        let message = format!("{} is a {kind} namespace{wanted}", source.display());
        return Err(Error::kind(ErrorKind::Usage, message));
    }
    ui::out(args.file.display());
    Ok(0)
}

/// Runs `ns unpin`.
pub fn unpin(args: UnpinArgs) -> Result<u8> {
    namespaces::unpin(&args.file)?;
    Ok(0)
}
