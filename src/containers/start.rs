//! Starting a container: this process splits a monitor off and hears from it.
//!
//! What it does: the monitor, not the command line, is the container's parent, so it must be the
//! one that launches it. The command line waits until the program runs or the reason why not has
//! arrived; its socket is then the first client's, attached before the program could write a byte.
//!
//! ```text
//!   command line                    monitor                       container
//!   lock, journal, plan
//!   clone3 ───────────────────────▶ setsid, monitor.lock
//!                                   runtime::launch ────────────▶ execve
//!   ◀────────────────────── 'S' pid (or 'E' error)
//!   unlock
//!   ◀── output ── 'X' status ────── poll loop
//! ```
//!
//! Interface: [`start`], [`adopt`], [`Started`], [`begin_recording`]. Read next: `monitor.rs`.

use super::attach::{self, Message, Wants};
use super::monitor::Monitor;
use super::prepare::Prepared;
use super::reconcile;
use super::state::Phase;
use super::store::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal::{self, Event, Watch};
use crate::namespaces::split_off;
use crate::sys::{self, Errno, namespace::Cloned, record::Arena};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A container that runs, and the wire to its monitor.
pub struct Started {
    /// Its first process.
    pub pid: i32,
    /// A client's socket, attached as was wanted.
    pub socket: OwnedFd,
    /// The monitor, a child of this process.
    pub monitor: OwnedFd,
    /// What both have recorded.
    pub record: Shared,
}

/// The record of a start, which its monitor saves, and the command line should the monitor be
/// killed before. The default has none.
#[derive(Default)]
pub struct Shared(Option<Arc<Arena>>);

impl Shared {
    /// Puts on disk what the monitor, which was killed, has not.
    pub fn save(&self, container: &Container) {
        let Some(record) = &self.0 else { return };
        let anew = record.saved() == 0;
        sys::record::install(Some(record.clone()));
        let _ = save_journal(container, &mut None, anew); // that it was killed is told as well
    }
}

/// Turns the recorder on, into memory: until the container has a directory for its journal.
/// `GLASSBOX_JOURNAL=off` leaves it off unless `needed`.
pub fn begin_recording(operation: &str, needed: bool) -> Result<()> {
    if journal_is_off() && !needed {
        return Ok(());
    }
    sys::record::install(Some(Arena::anonymous().context("cannot make the journal")?));
    Event::operation(operation).record();
    Ok(())
}

fn journal_is_off() -> bool {
    std::env::var_os("GLASSBOX_JOURNAL").is_some_and(|v| v == "off")
}

/// Appends what was recorded to the container's journal, and ends the recording. `journal` is the
/// file, opened when it is first needed; a start's begins `anew`. Errors: it cannot be made or
/// written, and has what it had before.
pub(super) fn save_journal(
    container: &Container,
    journal: &mut Option<File>,
    anew: bool,
) -> Result<()> {
    let record = sys::record::current().filter(|_| !journal_is_off());
    if anew {
        *journal = None;
    }
    // Recorded as any other call; what puts the record itself on disk is not.
    let opened = match journal {
        None if record.is_some() => open_journal(container, anew).map(|file| *journal = Some(file)),
        _ => Ok(()),
    };
    sys::record::install(None);
    let (Some(record), Some(file)) = (record, journal) else {
        return opened;
    };
    let what = || format!("cannot write the journal of container {}", container.name());
    record.save(file).with_context(what)
}

fn open_journal(container: &Container, anew: bool) -> Result<File> {
    let path = container.journal();
    let open = |flags| sys::fs::open(&path, libc::O_RDWR | libc::O_CREAT | flags, 0o600);
    let file = match anew {
        false => open(0),
        // Another file: the monitor of its last life may still be writing to the old one.
        true => open(libc::O_EXCL).or_else(|e| match e.errno {
            Errno::EEXIST => {
                sys::fs::unlinkat(sys::fs::CWD, &path, 0)?;
                open(libc::O_EXCL)
            }
            _ => Err(e),
        }),
    };
    let what = || format!("cannot make the journal of container {}", container.name());
    file.map(File::from).with_context(what)
}

/// Starts a prepared container. The caller holds its lock (`lock`), which is released when the
/// program runs. `wants` says how the returned socket is attached. `watch` goes to the monitor and
/// is dropped there before the program's first byte of output is passed on.
///
/// Errors: the reason why it does not run; all of the set-up has been undone then, and the status
/// says why.
pub fn start(
    container: &Container,
    prepared: Prepared,
    host: &Host,
    wants: Wants,
    watch: Box<dyn Watch>,
    options: &journal::Options,
    lock: File,
) -> Result<Started> {
    let (ours, theirs) = sys::socket::socketpair().context("cannot make a socket pair")?;
    match split_off("the monitor")? {
        Cloned::Child => {
            // A process of its own from here on: it must never return into the caller's code.
            drop((ours, lock));
            Monitor::run(
                container.clone(),
                prepared,
                host.clone(),
                theirs,
                wants,
                watch,
                options,
            )
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            std::mem::forget(watch); // the monitor's copy tells the rest, not this one
            // The journal is the monitor's now, unless it is killed before it could write it.
            let record = sys::record::current();
            sys::record::install(None);
            let started = Started {
                pid: 0,
                socket: ours,
                monitor: pidfd,
                record: Shared(record),
            };
            let result = hear(container, started, wants);
            drop(lock);
            result
        }
    }
}

/// Splits a monitor off that takes over from one that was killed, and waits until it watches. Call
/// it with the container's lock held. Errors: it cannot; the container is as before.
pub fn adopt(container: &Container, init: Option<OwnedFd>) -> Result<()> {
    let host = Host::detect()?;
    let (ours, theirs) = sys::socket::socketpair().context("cannot make a socket pair")?;
    match split_off("a monitor")? {
        Cloned::Child => Monitor::adopt(container.clone(), host, init, theirs),
        Cloned::Parent { .. } => {
            drop(theirs);
            match first_word(&ours)? {
                Some(word) => word.map(drop),
                None => Err(Error::new("the new monitor ended before it watched")),
            }
        }
    }
}

/// The monitor's first word: the program's process id, or why there is none; `None` when it ended
/// without one.
fn first_word(socket: &OwnedFd) -> Result<Option<Result<i32>>> {
    loop {
        let message = sys::socket::recv(socket.as_fd()).context("cannot hear the monitor")?;
        match message.as_deref().map(Message::decode) {
            Some(Some(Message::Started(pid))) => return Ok(Some(Ok(pid))),
            Some(Some(Message::Failed(failure))) => return Ok(Some(Err(failure.into_error()))),
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Waits for the first word of the monitor that starts the container, which has the program's
/// process id.
fn hear(container: &Container, mut started: Started, wants: Wants) -> Result<Started> {
    if let Some(word) = first_word(&started.socket)? {
        started.pid = word?;
        return Ok(started);
    }
    started.record.save(container);
    // It was killed in the middle. Where the program runs already, another monitor has it now;
    // else what had been made is taken away.
    let status = reconcile::repair(container)?;
    if status.phase == Phase::Running
        && let Some(next) = attach::connect(&container.run)?
    {
        // Should that one be gone as well, reading says so.
        let _ = sys::socket::send(&next, &Message::Attach(wants).encode());
        (started.pid, started.socket) = (status.pid, next);
        return Ok(started);
    }
    Err(Error::new(format!(
        "the monitor of container {} ended before the container ran",
        container.name()
    ))
    .hint("it was killed, or ran out of memory; the kernel's log may say more"))
}

/// Refuses to start what runs already. Returns false when there is nothing to do. Call it with the
/// lock held.
pub fn may_start(container: &Container) -> Result<bool> {
    let status = reconcile::repair(container)?;
    match status.phase {
        Phase::Created | Phase::Exited => Ok(true),
        Phase::Paused => Err(Error::kind(
            Kind::Conflict,
            "cannot start a paused container, try unpause instead",
        )),
        Phase::Removing => Err(Error::kind(
            Kind::Conflict,
            format!("container {} is being removed", container.name()),
        )),
        _ => Ok(false),
    }
}
