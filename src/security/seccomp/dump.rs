//! Reading the filters of a live process.
//!
//! What it does: stops one thread for a moment, asks the kernel for the programs that were loaded,
//! and lets it run on. The thread that traces is one of its own: a tracer's end frees its tracee, so
//! even a failure half-way leaves no process stopped.
//! What it implements: ptrace(2), `PTRACE_SECCOMP_GET_FILTER`. Needs CAP_SYS_ADMIN in the initial
//! user namespace, and a caller that is not filtered itself.
//! Interface: [`dump`]. Read next: `describe.rs`.

use super::bpf::Instruction;
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{Errno, seccomp as sys};
use std::time::{Duration, Instant};

/// How long a thread in an uninterruptible sleep is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The filters of a thread (a process id is its main thread's), in the order in which they
/// were loaded; none when it is not filtered.
///
/// Errors: no such thread, not permitted, traced by somebody else, asleep in the kernel for more
/// than two seconds.
pub fn dump(pid: i32) -> Result<Vec<Vec<Instruction>>> {
    std::thread::scope(|scope| scope.spawn(|| read(pid)).join())
        .unwrap_or_else(|_| Err(Error::new("the tracing thread failed")))
        .with_context(|| format!("cannot read the seccomp filters of process {pid}"))
        .map_err(|e| explain(e, pid))
}

fn read(pid: i32) -> Result<Vec<Vec<Instruction>>> {
    sys::seize(pid)?;
    sys::interrupt(pid)?;
    let start = Instant::now();
    let signal = loop {
        match sys::wait_stop(pid)? {
            Some(signal) => break signal,
            None if start.elapsed() > PATIENCE => {
                return Err(Error::new("the process does not stop"));
            }
            None => std::thread::sleep(Duration::from_micros(200)),
        }
    };
    let filters = all(pid);
    let detached = sys::detach(pid, signal);
    let filters = filters?;
    detached?;
    Ok(filters)
}

fn all(pid: i32) -> Result<Vec<Vec<Instruction>>> {
    let mut filters = Vec::new();
    loop {
        match sys::get_filter(pid, filters.len() as u64) {
            Ok(filter) => filters.push(filter),
            Err(e) if e.errno == Errno::ENOENT => return Ok(filters),
            // The thread is not in filter mode.
            Err(e) if e.errno == Errno::EINVAL && filters.is_empty() => return Ok(filters),
            Err(e) => return Err(e.into()),
        }
    }
}

fn explain(e: Error, pid: i32) -> Error {
    let e = e.topic("seccomp");
    match e.errno() {
        Some(libc::ESRCH) => e.with_kind(Kind::NotFound),
        Some(libc::EPERM) => e.hint(format!(
            "another tracer holds it (see TracerPid in /proc/{pid}/status), or this user may not \
             trace it"
        )),
        Some(libc::EACCES) => {
            e.hint("this needs CAP_SYS_ADMIN on the host, and a caller without a filter of its own")
        }
        Some(libc::EIO) => e.hint("this kernel was built without CONFIG_CHECKPOINT_RESTORE"),
        _ => e,
    }
}
