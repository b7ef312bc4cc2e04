//! `glassbox runtime exec`: a further program in a running container.
//!
//! Read next: [`crate::runtime::exec()`].

use super::Common;
use super::create::warn_of_ungrantable;
use super::streams::{DetachArgs, ProgramArgs};
use crate::cli::run::options;
use crate::{containers, files, sys};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::runtime::{self, ExecRequest, Launched, Stdio, SubGroup, operations};
use crate::spec::runtime::{Capabilities, ConsoleSize, Process, Spec, Status};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct ExecArgs {
    /// The process as a file of the specification's JSON; the other options and COMMAND are then left out
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// UID[:GID]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Additional groups
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Where it starts
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// NAME=VALUE, over the container's environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A further capability
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// No program can gain privileges by being executed
    #[arg(long)]
    no_new_privs: bool,
    /// A cgroup below the container's to run in, of some controllers or of all: [CONTROLLER,...:]PATH
    #[arg(long, value_name = "CGROUP")]
    cgroup: Vec<SubGroup>,
    #[command(flatten)]
    waiting: DetachArgs,
    #[command(flatten)]
    program: ProgramArgs,
    /// Not supported: this build has no AppArmor
    #[arg(long, value_name = "PROFILE", hide = true)]
    apparmor: Option<String>,
    /// Not supported: this build has no SELinux
    #[arg(long, value_name = "LABEL", hide = true)]
    process_label: Option<String>,
    /// Taken for runc's sake: a paused container refuses unless this is given
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) fn exec(args: ExecArgs, common: &Common) -> Result<u8> {
    let container = common.root.find(&args.id)?;
    let host = Host::detect()?;
    match container.status(&host)? {
        Status::Running | Status::Created => {}
        Status::Paused if args.ignore_paused => {}
        status => {
            return Err(Error::kind(
                Kind::Conflict,
                format!("cannot exec in container {} that is not running: {status}", args.id),
            ));
        }
    }
    let mut spec = container.spec()?;
    let process = process(&args, &spec)?;
    spec.process = Some(process);
    warn_of_ungrantable(&mut spec, common)?;
    let preserve_fds = args.program.preserved(&mut spec)?;
    let process = spec.process.clone().unwrap_or_default();
    let asked = if args.process.is_some() { "the process document" } else { "--tty" };
    args.program.check_terminal(process.terminal, args.waiting.detach, asked)?;
    let stdio = if process.terminal { Stdio::Terminal } else { Stdio::Inherit };
    operations::begin_journal(&container.dir, "exec")?;
    let request = ExecRequest {
        id: &args.id,
        keyring: container.record.keyring(),
        bundle: &container.record.bundle,
        init: container.record.pid,
        spec: &spec,
        process: &process,
        host: &host,
        stdio,
        preserve_fds,
        groups: &args.cgroup,
    };
    let mut watch = common.explain.watch();
    let mut launched = runtime::exec(request, &mut *watch, &options(common.explain.is_on()))?;
    drop(watch);
    if let Err(error) = hand_over(&args.program, &mut launched) {
        // Nobody knows of it. Should it have ended by itself, that is as well.
        let _ = sys::process::pidfd_send_signal(&launched.pidfd, libc::SIGKILL);
        let _ = sys::process::waitid(&launched.pidfd, 0);
        return Err(error);
    }
    if args.waiting.detach {
        return Ok(0);
    }
    let tty = launched.terminal.is_some();
    Ok(containers::exec::foreground(launched, tty)? as u8)
}

/// The program's terminal, pidfd and process id go to who wants them.
fn hand_over(to: &ProgramArgs, launched: &mut Launched) -> Result<()> {
    if let (Some(socket), Some(master)) = (&to.console_socket, &launched.terminal) {
        operations::send_terminal(socket, master)?;
        launched.terminal = None;
    }
    if let Some(socket) = &to.pidfd_socket {
        operations::send_pidfd(socket, &launched.pidfd)?;
    }
    if let Some(file) = &to.pid_file {
        operations::write_pid(file, launched.pid)?;
    }
    Ok(())
}

/// What to run: a document, or the container's own process changed by the options.
fn process(args: &ExecArgs, spec: &Spec) -> Result<Process> {
    if args.apparmor.is_some() || args.process_label.is_some() {
        return Err(Error::kind(Kind::Unsupported, "this build has neither AppArmor nor SELinux"));
    }
    if let Some(path) = &args.process {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return files::from_json(&bytes)
            .with_context(|| format!("{} is no process of the specification", path.display()));
    }
    if args.command.is_empty() {
        return Err(Error::kind(Kind::Usage, "no command was given"));
    }
    let mut process = spec.process.clone().unwrap_or_default();
    process.args = args.command.clone();
    process.terminal = args.tty;
    process.console_size = containers::client::window_size()
        .filter(|_| args.tty)
        .map(|(height, width)| ConsoleSize { height, width, ..ConsoleSize::default() });
    for variable in &args.env {
        let name = variable.split('=').next().unwrap_or_default();
        process.env.retain(|e| e.split('=').next() != Some(name));
        process.env.push(variable.clone());
    }
    if let Some(cwd) = &args.cwd {
        process.cwd = cwd.clone();
    }
    if let Some(user) = &args.user {
        let bad = || Error::kind(Kind::Usage, format!("{user:?} is no UID[:GID]"));
        let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
        process.user.uid = uid.parse().map_err(|_| bad())?;
        if !gid.is_empty() {
            process.user.gid = gid.parse().map_err(|_| bad())?;
        }
    }
    process.user.additional_gids.extend(&args.additional_gids);
    process.no_new_privileges |= args.no_new_privs;
    if !args.cap.is_empty() {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        for cap in &args.cap {
            let upper = cap.to_ascii_uppercase();
            let name = format!("CAP_{}", upper.trim_start_matches("CAP_"));
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                if !set.contains(&name) {
                    set.push(name.clone());
                }
            }
        }
    }
    Ok(process)
}
