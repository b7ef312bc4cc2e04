//! The truth about a container, whatever was killed.
//!
//! What it does: what is written in `status.json` about a running container is true while its
//! monitor lives. When the monitor was killed, nobody drains the program's output or will ever
//! write its end down. So the next command that looks puts that right:
//!
//! | What is left | What is done |
//! |---|---|
//! | a program that runs, or is paused | a new monitor takes over, and all goes on |
//! | nothing, in the pause before a restart | a new monitor takes over, and restarts it |
//! | a start that was cut off | what was made of it is removed |
//! | nothing, and the policy restarts what has ended | a new monitor takes over, and restarts it |
//! | nothing else: the program has ended as well | its end is written down; its status is known where `--init` wrote it |
//!
//! A container with `--rm` that has ended is removed, as its monitor would have done.
//! Interface: [`status`], [`known`], [`repair`]. Read next: `monitor.rs`.

use super::lifecycle;
use super::log::Writer;
use super::spool::Spool;
use super::start;
use super::state::{self, Phase, Status};
use super::store::Container;
use super::time::Time;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::sys;
use std::os::fd::OwnedFd;

/// Why the end of a container is not known.
const UNKNOWN: &str = "its monitor was killed, so its exit status is not known";

/// What is true about a container now; puts it right first when its monitor is gone. Errors: its
/// files cannot be read, or the clearing up failed.
pub fn status(container: &Container) -> Result<Status> {
    if let Some(status) = known(container)? {
        return Ok(status);
    }
    let status = container.written_status()?;
    let _lock = match container.lock() {
        Ok(lock) => lock,
        Err(e) if e.get_kind() == crate::error::Kind::NotFound => return Ok(status),
        Err(e) => return Err(e),
    };
    repair(container)
}

/// What is written down about a container, if it is true: it does not run, or its monitor lives.
/// Only reads.
pub fn known(container: &Container) -> Result<Option<Status>> {
    let status = container.written_status()?;
    let known = !status.phase.is_live() || container.monitor_lives()?;
    Ok(known.then_some(status))
}

/// [`status`], after a start that is under way has come to its end.
pub fn settled(container: &Container) -> Result<Status> {
    loop {
        let status = status(container)?;
        if status.phase != Phase::Starting {
            return Ok(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// [`settled`], after a process has been seen to be gone that `seen` calls alive: its monitor writes
/// that down in a moment. Errors: it does not.
pub fn after(container: &Container, seen: &Status) -> Result<Status> {
    for _ in 0..400 {
        let status = settled(container)?;
        if (status.phase, status.pid) != (seen.phase, seen.pid) {
            return Ok(status);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let what = format!("the monitor of container {} does not say", container.name());
    Err(Error::new(what).hint("its program has ended, and its status is still that of before"))
}

/// [`status`] for a caller that holds the container's lock.
pub fn repair(container: &Container) -> Result<Status> {
    let mut status = container.written_status()?;
    if !status.phase.is_live() || container.monitor_lives()? {
        return Ok(status); // somebody else was faster
    }
    let init = find_init(container, &status);
    let ran = matches!(status.phase, Phase::Running | Phase::Paused);
    if init.is_some() && ran {
        return adopt(container, init, status);
    }
    if let Some(pidfd) = &init {
        let _ = sys::process::pidfd_send_signal(pidfd, libc::SIGKILL); // gone is as good
    }
    // Of a start or restart that was cut off, or of a program that has ended.
    clear(container)?;
    if status.phase == Phase::Restarting {
        return adopt(container, None, status);
    }
    let (exit_code, error) = match crate::runtime::ended(&container.exit_file()) {
        Some(exit) if ran => (exit.code(), String::new()),
        _ if init.is_some() => (137, UNKNOWN.into()),
        _ => (255, UNKNOWN.into()),
    };
    status = Status {
        phase: Phase::Exited,
        pid: 0,
        monitor: 0,
        exit_code,
        error,
        finished_at: Time::now(),
        ..status
    };
    // After a reboot, which takes the run directory, nothing starts by itself.
    let policy = &container.record.host_config.restart_policy;
    let again = ran && !status.stopped && container.run.exists();
    if again && policy.restarts(status.exit_code, status.restart_count) {
        status.phase = Phase::Restarting;
        container.write_status(&status)?;
        return adopt(container, None, status);
    }
    // What its monitor had taken and not logged yet.
    if Spool::exists(&container.run)
        && let Some(mut log) = Writer::of(container)?
    {
        // On a full disk it stays where it is; the end is written down all the same, or it could not
        // be removed.
        if let Err(e) = log.flush(Time::now()) {
            status.error = format!("{e:#}");
        }
    }
    container.write_status(&status)?;
    if container.record.host_config.auto_remove {
        super::remove::remove_directories(container, true)?;
    }
    Ok(status)
}

/// Has another monitor take over.
fn adopt(container: &Container, init: Option<OwnedFd>, status: Status) -> Result<Status> {
    match start::adopt(container, init) {
        Ok(()) => container.written_status(),
        // It is as it was, and the next command tries again.
        Err(e) => Ok(Status {
            error: format!("its monitor was killed, and no other could take over: {e:#}"),
            ..status
        }),
    }
}

/// Kills what is left of a container, and removes its cgroup, its links and its leases.
pub fn clear(container: &Container) -> Result<()> {
    // One that never came as far as a cgroup has no document.
    let group = match state::read_json(&container.dir.join("config.json"))? {
        Some(spec) => crate::runtime::remove(&spec, &Host::detect()?),
        None => Ok(()),
    };
    // Both are tried, whatever became of the other.
    group.and(super::networks::clear(container))
}

/// The container's first process, if it still runs: the written one, or (when the monitor was
/// killed before it could write) the one that is in the container's cgroup.
pub fn find_init(container: &Container, status: &Status) -> Option<OwnedFd> {
    let (pid, start) = match status.pid {
        0 => (first_of_group(container)?, None),
        pid => (pid, Some(status.pid_start)),
    };
    let pidfd = sys::process::pidfd_open(pid).ok()?;
    let now = state::process_start(pid)?;
    start.is_none_or(|s| s == now).then_some(pidfd)
}

fn first_of_group(container: &Container) -> Option<i32> {
    let spec = lifecycle::spec(container).ok()?;
    let group = crate::runtime::group_of(&spec, &Host::detect().ok()?).ok()??;
    crate::cgroups::lifecycle::all_pids(&group)
        .into_iter()
        .next()
}
