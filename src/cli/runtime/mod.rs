//! `glassbox runtime`: an OCI runtime with runc's command line.
//!
//! What it does: reads the options that stand before the operation (`--root`, `--log` …), runs the
//! operation, and tells an error where the caller looks for it: on stderr, and in the log file, in
//! the form that podman, containerd and dockerd parse. Called by the name `glassbox-runtime` the
//! binary is this subcommand alone.
//!
//! What it implements: runc(8) and its subcommands' pages; the options of crun(1) that engines use.
//! Interface: [`run`]. Read next: `create.rs`, then [`crate::runtime::operations`].

mod act;
mod create;
mod document;
mod exec;
mod list;
mod streams;
mod update;

use super::explain_flag::ExplainFlag;
use crate::error::{Context, Error, Kind, Result};
use crate::runtime::store::Root;
use crate::spec::time::Time;
use crate::ui;
use std::io::Write;
use std::path::PathBuf;

/// The name under which the binary is this subcommand.
pub const CALLED_AS: &str = "glassbox-runtime";

/// Run OCI bundles, with runc's command line: what podman, containerd and dockerd call
///
/// A bundle is a directory with config.json and a root file system. Engines make them; `glassbox
/// runtime spec` writes a config.json to begin with.
#[derive(clap::Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:
  mkdir -p b/rootfs && cp /bin/busybox b/rootfs && cd b && glassbox runtime spec
  glassbox runtime run --bundle b c1
  glassbox runtime --explain create --bundle b c2 && glassbox runtime start c2
  podman --runtime /usr/local/bin/glassbox-runtime run …"
)]
pub struct Args {
    /// Where the runtime remembers its containers (not images: those belong to engines)
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write errors and warnings there too
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Taken for runc's sake: only warnings and errors are logged
    #[arg(long, value_name = "LEVEL", hide = true)]
    log_level: Option<String>,
    /// Taken for runc's sake; --explain tells everything
    #[arg(long, hide = true)]
    debug: bool,
    /// Have systemd make the cgroup: a scope, named by linux.cgroupsPath as SLICE:PREFIX:NAME
    #[arg(long)]
    systemd_cgroup: bool,
    /// Who makes cgroups: `cgroupfs`, this runtime; `systemd`, as with --systemd-cgroup; `disabled`, nobody
    #[arg(long, value_enum, default_value = "cgroupfs")]
    cgroup_manager: CgroupManager,
    /// Taken for runc's sake: what an ordinary user may do is found out
    #[arg(long, value_name = "BOOL", hide = true)]
    rootless: Option<String>,
    /// Print the version of the runtime and of the specification
    #[arg(short, long)]
    version: bool,
    #[command(flatten)]
    explain: ExplainFlag,
    #[command(subcommand)]
    operation: Option<Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(clap::Subcommand)]
#[command(defer = true)] // the parser of the one that is called is built, and no other
enum Operation {
    /// Make a container out of a bundle; its program waits for `start`
    Create(create::CreateArgs),
    /// Start the program of a created container
    Start(act::IdArgs),
    /// Create and start a container and wait for its end
    Run(create::RunArgs),
    /// Print a container's state as JSON
    State(act::IdArgs),
    /// Send a signal to a container's first process
    Kill(act::KillArgs),
    /// Clear away a container that has stopped
    ///
    /// Of linux.cgroupsPath the last group goes. Those above it stay, as with runc and crun, also where
    /// this runtime has made them: others may use them.
    Delete(act::DeleteArgs),
    /// Run a further program in a running container
    Exec(Box<exec::ExecArgs>),
    /// List the processes of a container
    Ps(list::PsArgs),
    /// List containers
    List(list::ListArgs),
    /// Freeze all processes of a container
    Pause(act::IdArgs),
    /// Let the processes of a paused container go on
    Resume(act::IdArgs),
    /// Change the limits of a container
    Update(Box<update::UpdateArgs>),
    /// Tell what a container uses, and when it runs out of memory, as JSON
    Events(update::EventsArgs),
    /// Print what this runtime can do here, as JSON
    Features,
    /// Write a config.json to begin with
    Spec(document::SpecArgs),
}

/// What every operation gets.
struct Common {
    root: Root,
    cgroups: CgroupManager,
    explain: ExplainFlag,
    log: Log,
}

/// Runs it. The exit status of a failure is 1, as runc's; 126 and 127 for a program that cannot be
/// executed or found.
pub fn run(args: Args) -> Result<u8> {
    if args.version {
        ui::out(format!(
            "{CALLED_AS} version {}\nspec: {}",
            env!("CARGO_PKG_VERSION"),
            crate::spec::runtime::OCI_VERSION
        ));
        return Ok(0);
    }
    let log = Log { file: args.log, format: args.log_format };
    let cgroups = match args.systemd_cgroup {
        true => CgroupManager::Systemd,
        false => args.cgroup_manager,
    };
    let done = match args.operation {
        None => Err(Error::kind(Kind::Usage, "an operation is needed")
            .hint("`glassbox runtime --help` lists them")),
        Some(operation) => Root::new(args.root.as_deref()).and_then(|root| {
            let common = Common {
                root,
                cgroups,
                explain: args.explain,
                log: log.clone(),
            };
            operate(operation, &common)
        }),
    };
    done.or_else(|error| {
        log.write("error", &format!("{error:#}"))?;
        ui::print_error(&error);
        Ok(match error.get_kind() {
            Kind::CannotExecute | Kind::CommandNotFound => error.exit_status(),
            _ => 1,
        })
    })
}

fn operate(operation: Operation, common: &Common) -> Result<u8> {
    match operation {
        Operation::Create(args) => create::create(args, common),
        Operation::Start(args) => act::start(&args, common),
        Operation::Run(args) => create::run(args, common),
        Operation::State(args) => act::state(&args, common),
        Operation::Kill(args) => act::kill(&args, common),
        Operation::Delete(args) => act::delete(&args, common),
        Operation::Exec(args) => exec::exec(*args, common),
        Operation::Ps(args) => list::ps(&args, common),
        Operation::List(args) => list::list(&args, common),
        Operation::Pause(args) => act::pause(&args, common),
        Operation::Resume(args) => act::resume(&args, common),
        Operation::Update(args) => update::update(&args, common),
        Operation::Events(args) => update::events(&args, common),
        Operation::Features => document::features(),
        Operation::Spec(args) => document::spec(&args),
    }
}

/// The log file that engines read errors from.
#[derive(Debug, Clone)]
struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
}

impl Log {
    /// Appends a line as runc's logger writes it.
    fn write(&self, level: &str, message: &str) -> Result<()> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let time = Time::now();
        let line = match self.format {
            LogFormat::Json => serde_json::json!({"level": level, "msg": message, "time": time}).to_string(),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let what = || format!("cannot write the log {}", path.display());
        let mut file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path)
            .with_context(what)?;
        writeln!(file, "{line}").with_context(what)
    }

    /// Warns on stderr and in the log.
    fn warn(&self, message: &str) {
        ui::warn(message);
        let _ = self.write("warning", message); // it was said on stderr
    }
}
