//! `glassbox ns enter`. What it does is in its help. The plan is
//! [`crate::namespaces::EnterRequest`]'s. Read next: `carry_out.rs`.

use super::kinds::KindFlags;
use super::carry_out::{PlanFlags, carry_out, command_or_shell, environment, signals};
use super::target::resolve;
use crate::error::Result;
use crate::journal::Scene;
use crate::namespaces::EnterRequest;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a command in existing namespaces.
///
/// TARGET is a process id, a container's name or id, or a namespace file (/proc/PID/ns/KIND, or
/// one that `ns pin` made). Without a choice of kinds, all that differ from the caller's are
/// entered. The target's cgroup is not joined.
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Examples:
  glassbox ns enter 4211 -- ps ax                   see what process 4211 sees
  glassbox ns enter --net web -- ip addr            only the network of container web
  glassbox ns enter /run/blue.net -- ip addr        a pinned namespace
  glassbox ns enter --explain 4211 -- true          show in which order, and why")]
pub struct Args {
    #[command(flatten)]
    kinds: KindFlags,

    /// Run the command as this user id of the namespace. [default: 0 in another user namespace]
    #[arg(short = 'S', long, value_name = "UID")]
    setuid: Option<u32>,
    /// Run the command as this group id of the namespace.
    #[arg(short = 'G', long, value_name = "GID")]
    setgid: Option<u32>,
    /// Keep the ids also in another user namespace.
    #[arg(long, conflicts_with_all = ["setuid", "setgid"])]
    preserve_credentials: bool,
    /// Start the command in this directory, as named inside.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Where glassbox keeps its state, to find a container by.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(flatten)]
    plan: PlanFlags,

    /// A process id, a container, or a namespace file.
    #[arg(value_name = "TARGET")]
    target: String,
    /// The command and its arguments. [default: $SHELL]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let kinds = match args.kinds.all {
        true => BTreeSet::new(), // all that differ
        false => args.kinds.named(),
    };
    let request = EnterRequest {
        target: resolve(&args.target, args.root.as_deref())?,
        kinds,
        setuid: args.setuid,
        setgid: args.setgid,
        preserve_credentials: args.preserve_credentials,
        workdir: args.workdir,
        argv: command_or_shell(args.command),
        env: environment(),
        signals: signals(),
    };
    let mut scene = Scene::new();
    let plan = request.plan(&mut scene)?;
    carry_out(&plan, &mut scene, &args.plan)
}
