//! What is done to containers that exist: kill, stop, wait, remove, pause, rename.
//!
//! What it implements: the semantics of docker's commands: `stop` sends the stop signal, waits,
//! and kills; `rm` refuses what runs; a container stopped by a user is not restarted.
//! Interface: one function a command. Read next: [`super::client`].

use super::attach::{self, Message};
use super::client::{self, Attached};
use super::state::{self, Phase, Status};
use super::store::{Container, Store};
use super::{events, flags, names, reconcile, remove};
use crate::cgroups::{CgroupPath, Group, lifecycle as group};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::spec::runtime::Spec;
use crate::sys;
use crate::sys::poll::{self, Interest};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Docker's wait between the stop signal and the kill, in seconds.
const STOP_TIMEOUT: i64 = 10;
/// How long a process may take from giving up its namespaces to its end, in milliseconds.
const EXITING: i32 = 200;

/// The config.json of its last start. Errors: it has never been started.
pub fn spec(container: &Container) -> Result<Spec> {
    state::read_json(&container.dir.join("config.json"))?
        .with_context(|| format!("container {} has never been started", container.name()))
}

/// Sends a word to the monitor; nothing when there is none.
fn tell(container: &Container, word: &Message) -> Result<()> {
    if let Some(socket) = attach::connect(&container.run)? {
        let _ = sys::socket::send(&socket, &word.encode()); // it may be ending right now
    }
    Ok(())
}

/// The first process, by a descriptor that cannot mean another one. Errors: it does not run.
pub fn init(container: &Container, status: &Status) -> Result<OwnedFd> {
    let gone = || not_running(container);
    let pidfd = sys::process::pidfd_open(status.pid).map_err(|_| gone())?;
    match state::process_start(status.pid) {
        Some(start) if start == status.pid_start => Ok(pidfd),
        _ => Err(gone()),
    }
}

/// Whether its first process has ended, or is about to: one that exits has left its namespaces and
/// its root for a moment before it counts as ended. For who has failed at one that seemed to run.
pub fn has_ended(container: &Container, status: &Status) -> bool {
    let Ok(init) = init(container, status) else {
        return true;
    };
    let end = Interest {
        fd: init.as_fd(),
        read: true,
        write: false,
    };
    poll::poll(&[end], EXITING).is_ok_and(|ready| ready.iter().any(|r| r.readable))
}

/// What `error` really was, where the first process has ended while somebody worked on it.
pub fn or_ended(container: &Container, status: &Status, error: Error) -> Error {
    match has_ended(container, status) {
        true => not_running(container),
        false => error,
    }
}

fn not_running(container: &Container) -> Error {
    let what = format!("container {} is not running", container.name());
    Error::kind(Kind::Conflict, what)
}

/// Sends a signal to its first process. A killing one means that it shall stay ended.
pub fn kill(container: &Container, signal: i32) -> Result<()> {
    let status = reconcile::settled(container)?;
    let what = || format!("cannot kill container {}", container.name());
    if !matches!(status.phase, Phase::Running | Phase::Paused) {
        return container.must_run(&status).with_context(what);
    }
    let pidfd = init(container, &status)?;
    events::of(container, "kill", &[("signal", signal.to_string())]);
    if signal == libc::SIGKILL || signal == libc::SIGTERM {
        tell(container, &Message::UserStop)?;
    }
    match sys::process::pidfd_send_signal(&pidfd, signal) {
        Err(e) if e.errno == sys::Errno::ESRCH => Err(not_running(container)),
        other => other.map_err(Error::from),
    }
    .with_context(what)?;
    if signal == libc::SIGKILL {
        thaw_if_frozen(container)?; // v1 delivers even SIGKILL only to what is not frozen
    }
    Ok(())
}

/// Ends it: its stop signal, `timeout` seconds (its own, or ten, when absent; −1 for ever), then
/// SIGKILL. Nothing to do when it does not run.
pub fn stop(container: &Container, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
    match begin_stop(container, timeout, signal)? {
        Some(stopping) => stopping.finish(),
        None => Ok(()),
    }
}

/// A container that has its stop signal, and some time. Whoever stops many sends all signals first,
/// so that they take their time side by side.
#[derive(Debug)]
pub struct Stopping {
    container: Container,
    monitor: OwnedFd,
    /// Its first process; `None` when nothing but its monitor is left.
    init: Option<OwnedFd>,
    /// When it is killed; `None` for never.
    until: Option<Instant>,
}

/// [`stop`] that is no user's wish that it stay stopped: its restart policy applies to it as if
/// the host had gone down under it. One with `--rm` goes as always.
pub fn halt(container: &Container, timeout: Option<i64>) -> Result<()> {
    stop(container, timeout, None)?;
    let Ok(_lock) = container.lock() else {
        return Ok(()); // --rm: its monitor has removed it
    };
    let status = reconcile::repair(container)?;
    if status.phase != Phase::Exited {
        return Ok(()); // somebody has started it again
    }
    container.write_status(&Status {
        stopped: false,
        ..status
    })
}

/// The first half of [`stop`]: the signal is sent. `None` when there is nothing to do.
pub fn begin_stop(
    container: &Container,
    timeout: Option<i64>,
    signal: Option<i32>,
) -> Result<Option<Stopping>> {
    let status = reconcile::settled(container)?;
    if !status.phase.is_live() {
        return Ok(None);
    }
    let config = &container.record.config;
    let signal = match (signal, config.stop_signal.as_str()) {
        (Some(signal), _) => signal,
        (None, "") => libc::SIGTERM,
        (None, name) => flags::signal(name)?,
    };
    let timeout = timeout.or(config.stop_timeout).unwrap_or(STOP_TIMEOUT);
    let Some(monitor) = reach(container)? else {
        return Ok(None);
    };
    let _ = sys::socket::send(&monitor, &Message::UserStop.encode()); // seen as its end, later
    let running = status.phase != Phase::Restarting;
    let mut stopping = Stopping {
        container: container.clone(),
        monitor,
        init: running.then(|| init(container, &status).ok()).flatten(),
        until: None,
    };
    stopping.send(signal)?;
    thaw_if_frozen(container)?;
    // What the strongest signal does not end, a second one does not either.
    if let Ok(seconds) = u64::try_from(timeout)
        && signal != libc::SIGKILL
    {
        stopping.until = Instant::now().checked_add(Duration::from_secs(seconds));
    }
    Ok(Some(stopping))
}

impl Stopping {
    fn send(&self, signal: i32) -> Result<()> {
        let Some(init) = &self.init else {
            return Ok(());
        };
        events::of(&self.container, "kill", &[("signal", signal.to_string())]);
        match sys::process::pidfd_send_signal(init, signal) {
            Err(e) if e.errno != sys::Errno::ESRCH => {
                Err(e).with_context(|| format!("cannot stop container {}", self.container.name()))
            }
            _ => Ok(()),
        }
    }

    /// The second half: waits for its end, and kills it when its time is over.
    pub fn finish(mut self) -> Result<()> {
        let ms = match (&self.init, self.until) {
            (Some(_), Some(until)) => {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                i32::try_from(left).unwrap_or(i32::MAX)
            }
            _ => -1,
        };
        if !ended(&self.container, &mut self.monitor, ms)? {
            self.send(libc::SIGKILL)?;
            thaw_if_frozen(&self.container)?;
            ended(&self.container, &mut self.monitor, -1)?;
        }
        events::of(&self.container, "stop", &[]);
        Ok(())
    }
}

/// The wire to its monitor, or to the one that takes over from it. `None` when it has ended.
/// Errors: nobody answers.
pub fn reach(container: &Container) -> Result<Option<OwnedFd>> {
    for _ in 0..200 {
        if let Some(socket) = attach::connect(&container.run)? {
            return Ok(Some(socket));
        }
        if !reconcile::status(container)?.phase.is_live() {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5)); // one that has just begun listens soon
    }
    Err(Error::new(format!(
        "the monitor of container {} does not answer",
        container.name()
    )))
}

/// Waits at most so long for the monitor's last word, or for that of the one that takes over when
/// it is killed. True when the container has ended.
fn ended(container: &Container, socket: &mut OwnedFd, timeout_ms: i32) -> Result<bool> {
    let begin = Instant::now();
    loop {
        let left = match timeout_ms {
            -1 => -1,
            ms => ms.saturating_sub(begin.elapsed().as_millis() as i32).max(0),
        };
        let asked = [Interest {
            fd: socket.as_fd(),
            read: true,
            write: false,
        }];
        if !poll::poll(&asked, left).context("cannot wait")?[0].readable {
            return Ok(false);
        }
        if client::wait(socket)? != Attached::MonitorGone {
            return Ok(true);
        }
        match reach(container)? {
            Some(next) => *socket = next,
            None => return Ok(true),
        }
        let _ = sys::socket::send(&*socket, &Message::UserStop.encode()); // seen as its end
    }
}

/// Waits for its end and returns its exit status. One that has ended (or never ran) answers at
/// once.
pub fn wait(container: &Container) -> Result<i32> {
    loop {
        let status = reconcile::settled(container)?;
        if !status.phase.is_live() {
            return Ok(status.exit_code);
        }
        if let Some(socket) = reach(container)?
            && let Attached::Ended(code) = client::wait(&socket)?
        {
            return Ok(code);
        }
    }
}

/// Removes it, and with `volumes` those of its volumes that nobody has named and nobody else uses.
/// Errors: it runs and `force` was not given.
pub fn remove(container: &Container, force: bool, volumes: bool) -> Result<()> {
    let _lock = loop {
        let status = reconcile::settled(container)?;
        if status.phase.is_live() {
            if !force {
                let what = if status.phase == Phase::Paused {
                    "paused"
                } else {
                    "running"
                };
                return Err(Error::kind(
                    Kind::Conflict,
                    format!(
                        "cannot remove container \"{}\": container is {what}",
                        container.name()
                    ),
                )
                .hint("stop the container before removing or force remove"));
            }
            stop(container, Some(0), Some(libc::SIGKILL))?;
        }
        // With --rm its monitor may have been faster.
        let Ok(lock) = container.lock() else {
            return Ok(());
        };
        let status = reconcile::repair(container)?;
        if !container.dir.join("container.json").exists() {
            return Ok(()); // --rm, and its monitor was killed: that has cleared it away
        }
        if !status.phase.is_live() {
            break lock;
        }
        // Somebody has started it between its end and the lock: once more from the beginning.
    };
    // Held until the directory is gone, so that no monitor begins meanwhile.
    let _monitor = container.lock_monitor()?;
    reconcile::clear(container)?;
    remove::remove_directories(container, volumes)
}

/// Gives it another name. Errors: the name is bad or taken.
pub fn rename(store: &Store, container: &Container, name: &str) -> Result<()> {
    let name = name.strip_prefix('/').unwrap_or(name); // docker's inspect shows it so
    names::check(name)?;
    // In this order, as in a removal.
    let _lock = container.lock()?;
    let _names = store.lock_names()?;
    if let Some(id) = store.id_of_name(name)? {
        return Err(Error::kind(
            Kind::Conflict,
            format!(
                "conflict: the container name \"{name}\" is already in use by container {}",
                names::short(&id)
            ),
        ));
    }
    let mut renamed = container.clone();
    renamed.record.name = name.to_string();
    let text = renamed.record.text()?;
    state::write_atomically(&container.dir.join("container.json"), &text, 0o600, true)?;
    let old = format!("/{}", container.name());
    events::of(&renamed, "rename", &[("oldName", old)]);
    Ok(())
}

/// The cgroup of a container that runs.
pub fn cgroup(container: &Container) -> Result<Group> {
    let host = Host::detect()?;
    let path = spec(container)?
        .linux
        .and_then(|l| l.cgroups_path)
        .ok_or_else(|| {
            Error::kind(
                Kind::Unsupported,
                format!("container {} has no cgroup", container.name()),
            )
            .hint("an ordinary user's container has one only where cgroup v2 delegates it")
            .topic("cgroups")
        })?;
    Group::existing(&host.cgroups, &CgroupPath::parse(&path)?)
}

/// Freezes every process of it.
pub fn pause(container: &Container) -> Result<()> {
    let status = reconcile::status(container)?;
    if status.phase == Phase::Paused {
        return Err(Error::kind(
            Kind::Conflict,
            format!("container {} is already paused", container.name()),
        ));
    }
    container.must_run(&status)?;
    cgroup(container)
        .and_then(|group| group::freeze(&group))
        .map_err(|e| or_ended(container, &status, e))?;
    settle(container, true).inspect_err(|_e| {
        let _ = thaw_if_frozen(container); // the first error is the one to tell
    })?;
    events::of(container, "pause", &[]);
    Ok(())
}

/// Lets them go on.
pub fn unpause(container: &Container) -> Result<()> {
    let status = reconcile::status(container)?;
    // A `pause` that was killed has frozen what nobody knows to be paused.
    if status.phase != Phase::Paused && !is_frozen(container) {
        return Err(Error::kind(
            Kind::Conflict,
            format!("container {} is not paused", container.name()),
        ));
    }
    cgroup(container)
        .and_then(|group| group::thaw(&group))
        .map_err(|e| or_ended(container, &status, e))?;
    settle(container, false)?;
    events::of(container, "unpause", &[]);
    Ok(())
}

/// Whether its processes are frozen, whatever its status says.
fn is_frozen(container: &Container) -> bool {
    cgroup(container).is_ok_and(|group| group::is_frozen(&group) == Some(true))
}

/// After a signal, which may have ended it: a frozen process of cgroup v2 dies at once, and its
/// monitor may have removed the group between any two looks at it. A group that is gone has nobody
/// in it who waits.
fn thaw_if_frozen(container: &Container) -> Result<()> {
    match cgroup(container) {
        Ok(group) if group::is_frozen(&group) == Some(true) => group::thaw_dying(&group),
        _ => Ok(()),
    }
}

/// Tells the monitor, and waits until it has written it down. It is told again now and then: one that
/// was just being killed has taken the word along, and another takes over.
fn settle(container: &Container, paused: bool) -> Result<()> {
    let wanted = if paused {
        Phase::Paused
    } else {
        Phase::Running
    };
    for round in 0..6000 {
        if round % 50 == 0 {
            let Some(socket) = reach(container)? else {
                return Ok(()); // it has ended
            };
            let _ = sys::socket::send(&socket, &Message::Paused(paused).encode()); // or the next one
        }
        let phase = container.written_status()?.phase;
        if phase == wanted || !phase.is_live() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Error::new(format!(
        "the monitor of container {} does not answer",
        container.name()
    )))
}
