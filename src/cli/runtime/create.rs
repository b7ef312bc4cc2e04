//! `glassbox runtime create` and `run`: a bundle becomes a container.
//!
//! Read next: [`crate::runtime::operations::create`].

use super::streams::{DetachArgs, ProgramArgs};
use super::{CgroupManager, Common};
use crate::cli::run::options;
use crate::error::{Context, Result};
use crate::host::Host;
use crate::runtime::{self, Launched, Wishes, operations};
use crate::spec::runtime::{ConsoleSize, Spec};
use crate::{containers, files, sys};
use std::path::{Path, PathBuf};

// What `create` and `run` share. (As a doc comment it would be the help of both.)
#[derive(clap::Args)]
pub(super) struct BundleArgs {
    /// The bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    #[command(flatten)]
    program: ProgramArgs,
    /// Move the root instead of pivot_root: weaker, for a host whose root is a ramfs
    #[arg(long)]
    no_pivot: bool,
    /// Keep the session keyring of this process
    #[arg(long)]
    no_new_keyring: bool,
    /// Its id, unique in the state directory
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(clap::Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    bundle: BundleArgs,
}

#[derive(clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    waiting: DetachArgs,
    /// Do not delete the container when it ends
    #[arg(long)]
    keep: bool,
    /// Leave orphans of the container to the caller
    #[arg(long)]
    no_subreaper: bool,
}

pub(super) fn create(args: CreateArgs, common: &Common) -> Result<u8> {
    let detached = true;
    make(&args.bundle, common, detached, &Host::detect()?).map(|_| 0)
}

pub(super) fn run(args: RunArgs, common: &Common) -> Result<u8> {
    if !args.no_subreaper {
        let name = "PR_SET_CHILD_SUBREAPER, 1";
        sys::process::prctl(name, libc::PR_SET_CHILD_SUBREAPER, 1, 0)
            .context("cannot become a subreaper")?;
    }
    let host = Host::detect()?;
    let mut created = make(&args.bundle, common, args.waiting.detach, &host)?;
    let id = args.bundle.id.as_str();
    let clear = || operations::delete(&common.root, id, true, &host);
    if let Err(error) = operations::start(&mut created.container, &mut *common.explain.watch()) {
        return Err(match clear() {
            Ok(_) => error,
            Err(more) => error.hint(format!("and the clean-up failed too: {more:#}")),
        });
    }
    if args.waiting.detach {
        return Ok(0);
    }
    let tty = created.terminal.is_some();
    let status = containers::exec::foreground(
        Launched {
            pid: created.container.record.pid,
            pidfd: created.pidfd,
            terminal: created.terminal,
            outer: Default::default(),
            names: None,
            slirp: None,
            held: Vec::new(),
        },
        tty,
    )?;
    if !args.keep {
        for warning in clear()? {
            common.log.warn(&format!("{warning:#}"));
        }
    }
    Ok(status as u8)
}

fn make(args: &BundleArgs, common: &Common, detached: bool, host: &Host) -> Result<operations::Created> {
    let bundle = std::fs::canonicalize(&args.bundle)
        .with_context(|| format!("cannot find the bundle {}", args.bundle.display()))?;
    let mut spec = read_config(&bundle)?;
    if common.cgroups == CgroupManager::Disabled {
        spec.linux.get_or_insert_default().cgroups_path = Some(String::new());
    }
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    args.program.check_terminal(terminal, detached, "process.terminal")?;
    if let (Some(process), true, None) = (&mut spec.process, terminal, &args.program.console_socket)
        && process.console_size.is_none()
    {
        process.console_size = containers::client::window_size().map(|(height, width)| ConsoleSize {
            height,
            width,
            ..ConsoleSize::default()
        });
    }
    warn_of_ungrantable(&mut spec, common)?;
    let preserve_fds = args.program.preserved(&mut spec)?;
    let request = operations::Create {
        id: &args.id,
        bundle: &bundle,
        spec,
        host,
        console: args.program.console_socket.as_deref(),
        pidfd_socket: args.program.pidfd_socket.as_deref(),
        pid_file: args.program.pid_file.as_deref(),
        systemd: common.cgroups == CgroupManager::Systemd,
        wishes: Wishes {
            preserve_fds,
            no_pivot: args.no_pivot,
            no_new_keyring: args.no_new_keyring,
            ..Wishes::default()
        },
    };
    let mut watch = common.explain.watch();
    operations::create(&common.root, request, &mut *watch, &options(common.explain.is_on()))
}

/// Reads a bundle's config.json. Errors: it is missing, no JSON, or lacks what it must have.
pub(super) fn read_config(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path)
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|e| e.hint("`glassbox runtime spec` writes one to begin with").topic("oci-bundle"))?;
    files::from_json(&bytes)
        .with_context(|| format!("{} is no runtime configuration", path.display()))
        .map_err(|e| e.topic("oci-bundle"))
}

/// What cannot be granted is left out; the specification wants that said, and no failure.
pub(super) fn warn_of_ungrantable(spec: &mut Spec, common: &Common) -> Result<()> {
    let Some(process) = &mut spec.process else {
        return Ok(());
    };
    let names = runtime::take_ungrantable(process, spec.linux.as_ref())?;
    if !names.is_empty() {
        common.log.warn(&format!(
            "{} cannot be granted and is left out: this kernel does not know it, or the caller does not have it",
            names.join(", ")
        ));
    }
    Ok(())
}
