//! Waiting for what becomes of a container.
//!
//! What it does: the end of a program is heard from the monitor, at once; what the monitor does not
//! tell its clients (health, pauses, removal, the next start) is looked up in short turns.
//!
//! What it implements: the conditions of docker's `ContainerWait` (`not-running`, `next-exit`,
//! `removed`) and those of `podman wait --condition` that a container of ours can meet.
//! Interface: [`Condition`], [`wait`]. Read next: `lifecycle.rs`.

use super::health;
use super::lifecycle;
use super::state::{Phase, Status};
use super::store::{Container, Store};
use super::{client, client::Attached, reconcile};
use crate::error::{Error, Kind, Result};
use std::time::Duration;

/// Between two looks.
const TURN: Duration = Duration::from_millis(50);
/// What is told for a container that has not ended, as podman does.
const NOT_ENDED: i32 = -1;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Condition {
    /// Its program does not run (one that never ran meets this)
    #[value(alias = "stopped", alias = "exited")]
    NotRunning,
    /// Its program ends, after a start that may be still to come
    NextExit,
    /// It is removed
    Removed,
    /// Its program runs
    Running,
    /// It is paused
    Paused,
    /// Its health check has succeeded
    Healthy,
    /// Its health check has failed too often
    Unhealthy,
}

/// Waits, and returns the exit status, or −1 of a container that has not ended. Errors: it can
/// never be so any more.
pub fn wait(container: &Container, condition: Condition) -> Result<i32> {
    match condition {
        Condition::NotRunning => lifecycle::wait(container),
        Condition::NextExit => next_exit(container),
        Condition::Removed => removed(container),
        Condition::Running => until(container, |s| s.phase == Phase::Running),
        Condition::Paused => until(container, |s| s.phase == Phase::Paused),
        Condition::Healthy => healthy(container, "healthy"),
        Condition::Unhealthy => healthy(container, "unhealthy"),
    }
}

/// Its end, when it runs: heard from the monitor.
fn end_of(container: &Container) -> Result<Option<i32>> {
    let Some(socket) = lifecycle::reach(container)? else {
        return Ok(None);
    };
    Ok(match client::wait(&socket)? {
        Attached::Ended(code) => Some(code),
        _ => None, // its monitor was killed; the next look starts another
    })
}

fn next_exit(container: &Container) -> Result<i32> {
    let before = reconcile::settled(container)?.finished_at;
    loop {
        let status = reconcile::settled(container)?;
        // While it is removed it looks as if it had never run.
        if status.finished_at != before && status.phase != Phase::Created {
            return Ok(status.exit_code); // it was short
        }
        if status.phase.is_live() && status.phase != Phase::Restarting {
            if let Some(code) = end_of(container)? {
                return Ok(code);
            }
        } else if is_gone(container)? {
            return Err(gone(container, "it was removed before it ran"));
        }
        std::thread::sleep(TURN);
    }
}

fn removed(container: &Container) -> Result<i32> {
    let mut code = 0;
    while !is_gone(container)? {
        // A removal takes the files one by one: one without a status looks as if it had never run.
        if let Ok(status) = reconcile::status(container)
            && status.phase != Phase::Created
        {
            code = status.exit_code;
            if matches!(status.phase, Phase::Running | Phase::Paused) {
                code = end_of(container)?.unwrap_or(code);
            }
        }
        std::thread::sleep(TURN);
    }
    Ok(code)
}

fn until(container: &Container, is_so: impl Fn(&Status) -> bool) -> Result<i32> {
    loop {
        let status = reconcile::status(container)?;
        if is_so(&status) {
            return Ok(NOT_ENDED);
        }
        if is_gone(container)? {
            return Err(gone(container, "it was removed"));
        }
        std::thread::sleep(TURN);
    }
}

fn healthy(container: &Container, wanted: &str) -> Result<i32> {
    if health::check(container).is_none() {
        return Err(Error::kind(
            Kind::Conflict,
            format!("container {} has no health check", container.name()),
        )
        .hint("`run --health-cmd` gives one; waiting would never end"));
    }
    loop {
        let status = reconcile::settled(container)?;
        let says = |h: &health::Health| h.status == wanted;
        if status.phase == Phase::Running && status.health.as_ref().is_some_and(says) {
            return Ok(NOT_ENDED);
        }
        if status.phase == Phase::Exited || is_gone(container)? {
            let why = format!("it ended with status {}", status.exit_code);
            return Err(gone(container, why));
        }
        std::thread::sleep(TURN);
    }
}

fn is_gone(container: &Container) -> Result<bool> {
    Ok(Store::of(container).load(container.id())?.is_none())
}

fn gone(container: &Container, why: impl Into<String>) -> Error {
    let what = format!("waiting for container {} is in vain", container.name());
    Error::kind(Kind::Conflict, why.into()).context(what)
}
