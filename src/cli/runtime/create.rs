//! `glassbox runtime create` and `run`: a bundle becomes a container.
//!
//! Read next: [`crate::runtime::operations::create`].

use super::{CgroupManager, Common};
use crate::cli::run::options;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::runtime::{self, Launched, Wishes, operations};
use crate::spec::runtime::{ConsoleSize, Spec};
use crate::{containers, sys};
use std::path::{Path, PathBuf};

/// What `create` and `run` share.
#[derive(clap::Args)]
pub(super) struct BundleArgs {
    /// The bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// A unix socket that takes the terminal's outer end
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the process id there
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Give the program the descriptors 3 … N+2 of this process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
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
    /// Do not wait for its end
    #[arg(short, long)]
    detach: bool,
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
    let mut created = make(&args.bundle, common, args.detach, &host)?;
    let id = args.bundle.id.as_str();
    let clear = || operations::delete(&common.root, id, true, &host);
    if let Err(error) = operations::start(&mut created.container, &host, &mut *common.explain.watch()) {
        return Err(match clear() {
            Ok(_) => error,
            Err(more) => error.hint(format!("and the clean-up failed too: {more:#}")),
        });
    }
    if args.detach {
        return Ok(0);
    }
    let tty = created.terminal.is_some();
    let status = containers::exec::foreground(
        Launched {
            pid: created.container.record.pid,
            pidfd: created.pidfd,
            terminal: created.terminal,
            outer: Default::default(),
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
    match (terminal, detached, &args.console_socket) {
        (true, true, None) => {
            return Err(Error::kind(
                Kind::Usage,
                "process.terminal is true, and nobody takes the terminal",
            )
            .hint("give --console-socket, a unix socket that waits for it"));
        }
        (false, _, Some(_)) => {
            return Err(Error::kind(Kind::Usage, "a console socket was given, and process.terminal is false"));
        }
        _ => {}
    }
    if let (Some(process), true, None) = (&mut spec.process, terminal, &args.console_socket)
        && process.console_size.is_none()
    {
        process.console_size = containers::client::window_size().map(|(height, width)| ConsoleSize {
            height,
            width,
            ..ConsoleSize::default()
        });
    }
    warn_of_ungrantable(&mut spec, common)?;
    let preserve_fds = preserved(args.preserve_fds, &mut spec)?;
    let request = operations::Create {
        id: &args.id,
        bundle: &bundle,
        spec,
        host,
        console: args.console_socket.as_deref(),
        pid_file: args.pid_file.as_deref(),
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
    serde_json::from_slice(&bytes)
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

/// Descriptors that the program gets: those of systemd's socket activation (`LISTEN_FDS`) and N
/// more. Each must be open now, or one that we open later would take its number and leak.
pub(super) fn preserved(asked: u32, spec: &mut Spec) -> Result<u32> {
    let passed = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    if passed > 0
        && let Some(process) = &mut spec.process
    {
        process.env.push(format!("LISTEN_FDS={passed}"));
        process.env.push("LISTEN_PID=1".into());
    }
    let count = passed + asked;
    for fd in 3..3 + count {
        if !Path::new(&format!("/proc/self/fd/{fd}")).exists() {
            return Err(Error::kind(
                Kind::Usage,
                format!("descriptor {fd} was to be preserved, and is not open"),
            ));
        }
    }
    Ok(count)
}
