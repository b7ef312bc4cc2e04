//! `glassbox system recover` and `halt`: what should run, after a reboot, and before one.
//!
//! Read next: [`crate::containers::recover`], which decides.

use super::Root;
use crate::cli::explain_flag::ExplainFlag;
use crate::containers::attach::Wants;
use crate::containers::{inspect, lifecycle, reconcile, recover, state::Phase};
use crate::error::{Error, Result};
use crate::ui;

/// Bring back what should run: after a reboot, or when monitors or containers were killed
///
/// A container that runs without its monitor gets another one. One that does not run is started
/// where its restart policy says so: `always`, `unless-stopped` when no user stopped it, and
/// `on-failure` when it was cut off or failed. Prints the ids.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox system recover
  glassbox system recover --dry-run

A systemd unit that does it at each boot, /etc/systemd/system/glassbox.service:

  [Unit]
  Description=Containers of glassbox
  After=network-online.target local-fs.target
  Wants=network-online.target

  [Service]
  Type=oneshot
  RemainAfterExit=yes
  ExecStart=/usr/local/bin/glassbox system recover
  ExecStop=/usr/local/bin/glassbox system halt
  TimeoutStopSec=120
  KillMode=process
  Delegate=yes

  [Install]
  WantedBy=multi-user.target

An ordinary user's goes to ~/.config/systemd/user, with WantedBy=default.target; `loginctl
enable-linger` starts it without a login.")]
pub struct RecoverArgs {
    /// Only print which would be started
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    root: Root,
}

/// Runs `recover`: goes on after a failure.
pub fn recover(args: RecoverArgs) -> Result<u8> {
    let store = args.root.containers()?;
    if !args.dry_run && store.paths().containers().is_dir() {
        let _names = store.lock_names()?;
        store.sweep()?;
    }
    let boot = recover::boot_time()?;
    let mut failures = Vec::new();
    // The oldest first: later ones may share its namespaces.
    for container in store.list()?.into_iter().rev() {
        let begin = || -> Result<()> {
            let written = container.written_status()?;
            let abandoned = written.phase.is_live() && !container.monitor_lives()?;
            let status = match args.dry_run {
                true => inspect::current_status(&container)?,
                false => reconcile::settled(&container)?, // another monitor takes over
            };
            let policy = &container.record.host_config.restart_policy;
            let taken_over = abandoned && status.phase.is_live();
            if !taken_over && !recover::should_run(policy, &status, boot) {
                return Ok(());
            }
            if !taken_over && !args.dry_run {
                let (wants, explain) = (Wants::default(), ExplainFlag::default());
                crate::cli::start::begin(&store, &container, wants, explain)?;
            }
            ui::out(container.id());
            Ok(())
        };
        let what = || format!("cannot bring container {} back", container.name());
        failures.extend(begin().err().map(|e| e.context(what())));
    }
    Error::join("not all could be brought back", failures)?;
    Ok(0)
}

/// Stop everything that runs, so that `recover` starts it again: before a reboot
///
/// Each gets its stop signal and its time to end, all at once; unlike `stop`, this does not count
/// as a user's wish that it stay stopped.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox system halt && reboot")]
pub struct HaltArgs {
    /// Seconds to wait before each is killed (its own otherwise)
    #[arg(short, long, value_name = "SECONDS")]
    time: Option<u32>,
    #[command(flatten)]
    root: Root,
}

/// Runs `halt`: goes on after a failure.
pub fn halt(args: HaltArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let mut live = Vec::new();
    for container in store.list()? {
        let status = reconcile::settled(&container)?;
        if status.phase.is_live() && status.phase != Phase::Removing {
            live.push(container);
        }
    }
    let time = args.time.map(i64::from);
    // Threads: none of them forks, they only send signals and wait.
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let stop = |c| scope.spawn(move || lifecycle::halt(c, time));
        let all: Vec<_> = live.iter().map(stop).collect();
        let lost = || Err(Error::new("a thread of ours ended early"));
        all.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut failures = Vec::new();
    for (container, result) in live.iter().zip(results) {
        match result {
            Ok(()) => ui::out(container.id()),
            Err(e) => failures.push(e),
        }
    }
    Error::join("not all could be stopped", failures)?;
    Ok(0)
}
