//! Facts that labs check: read from the kernel, from outside the learner's process.
//!
//! ```text
//! process.state         "running", "ended", "no pid file", "not a number"
//! process.uid           its effective user id
//! process.ns.TYPE, ns.TYPE   its namespace, as /proc/PID/ns names it
//! owner.TYPE            the user namespace that owns it (NS_GET_USERNS)
//! hostname              the host name in its UTS namespace
//! shm.sizes             the sizes of the segments in its IPC namespace, or "none"
//! host.ns.TYPE, host.hostname, host.shm.sizes      the same of the checker
//! uid                   the checker's own user id
//! ```
//!
//! What is inside a namespace can only be read by a process in it, so a child of the checker joins
//! (setns) and reads `/proc/sys/kernel/hostname` and `/proc/sysvipc/shm` there. Nothing of the
//! learner's runs.
//! Interface: [`Facts`]. Read next: `check.rs`.

use crate::error::{Context, Error, Result};
use crate::namespaces::split_off;
use crate::sys;
use std::path::PathBuf;

/// Facts of a process and of the host; each is read when it is asked for.
#[derive(Debug)]
pub(super) struct Facts {
    pid_file: PathBuf,
}

impl Facts {
    /// Facts of the process that the file names.
    pub fn new(pid_file: PathBuf) -> Facts {
        Facts { pid_file }
    }

    /// The learner's process id. Errors: there is no number in the file; the message is the state.
    pub fn pid(&self) -> Result<i32, &'static str> {
        let text = std::fs::read_to_string(&self.pid_file).map_err(|_| "no pid file")?;
        let pid: i32 = text.trim().parse().map_err(|_| "not a number")?;
        if pid > 0 {
            Ok(pid)
        } else {
            Err("not a number")
        }
    }

    /// The value of a fact. Errors: it cannot be read (no such process, not permitted), or there is
    /// no such fact.
    pub fn read(&self, name: &str) -> Result<String> {
        if let Some(kind) = name.strip_prefix("host.ns.") {
            return link(&format!("/proc/self/ns/{kind}"));
        }
        match name {
            "uid" => return Ok(nix::unistd::geteuid().to_string()),
            "host.hostname" => return hostname(),
            "host.shm.sizes" => return segments(),
            "process.state" => {
                return Ok(match self.pid() {
                    Err(why) => why.into(),
                    Ok(pid) if is_running(pid) => "running".into(),
                    Ok(_) => "ended".into(),
                });
            }
            _ => {}
        }
        let pid = self
            .pid()
            .map_err(|why| Error::new(format!("there is no process: {why}")))?;
        if let Some(kind) = name
            .strip_prefix("process.ns.")
            .or(name.strip_prefix("ns."))
        {
            return link(&format!("/proc/{pid}/ns/{kind}"));
        }
        if let Some(kind) = name.strip_prefix("owner.") {
            let path = format!("/proc/{pid}/ns/{kind}");
            let file =
                sys::namespace::open_ns(&path).with_context(|| format!("cannot open {path}"))?;
            let owner = sys::namespace::ns_get_fd(&file, sys::namespace::NS_GET_USERNS)
                .with_context(|| format!("cannot ask who owns {path}"))?;
            use std::os::fd::AsRawFd;
            return link(&format!("/proc/self/fd/{}", owner.as_raw_fd()));
        }
        match name {
            "process.uid" => status_field(pid, "Uid:", 1),
            "hostname" => read_inside(pid, "uts", libc::CLONE_NEWUTS, hostname),
            "shm.sizes" => read_inside(pid, "ipc", libc::CLONE_NEWIPC, segments),
            _ => Err(Error::new(format!("no fact is called {name:?}"))),
        }
    }
}

/// Whether the process exists and is no zombie.
pub(super) fn is_running(pid: i32) -> bool {
    status_field(pid, "State:", 0).is_ok_and(|state| state != "Z" && state != "X")
}

/// A field of /proc/PID/status.
pub(super) fn status_field(pid: i32, key: &str, index: usize) -> Result<String> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().nth(index).map(str::to_string))
        .with_context(|| format!("{path} has no {key}"))
}

pub(super) fn link(path: &str) -> Result<String> {
    let target = std::fs::read_link(path).with_context(|| format!("cannot read {path}"))?;
    Ok(target.display().to_string())
}

fn hostname() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().into())
}

fn segments() -> Result<String> {
    let path = "/proc/sysvipc/shm";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(sizes(&text))
}

/// The sizes in /proc/sysvipc/shm, which names its columns in the first line; see
/// proc_sysvipc(5). Sorted, joined by blanks; "none" when there are none.
fn sizes(text: &str) -> String {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or("");
    let Some(column) = heading.split_whitespace().position(|w| w == "size") else {
        return "none".into();
    };
    let values = lines.filter_map(|l| l.split_whitespace().nth(column)?.parse().ok());
    let mut sizes: Vec<u64> = values.collect();
    sizes.sort_unstable();
    if sizes.is_empty() {
        return "none".into();
    }
    sizes
        .iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Enters one namespace of the process in a child and reads there.
fn read_inside(pid: i32, kind: &str, flag: i32, read: fn() -> Result<String>) -> Result<String> {
    let (ours, childs) = sys::socket::socketpair().context("cannot make a socket")?;
    let cloned = split_off("a reader")?;
    let sys::namespace::Cloned::Parent { pidfd, .. } = cloned else {
        // Here runs the child, with the checker's own privileges. It only reads, says what it
        // found and ends; it must not return into the caller's code.
        let answer = enter(pid, kind, flag).and_then(|()| read());
        let answer = answer.map_err(|e| format!("{e:#}"));
        let message = serde_json::to_vec(&answer).unwrap_or_default();
        let sent = sys::socket::send(&childs, &message);
        sys::process::exit_now(i32::from(sent.is_err()));
    };
    drop(childs);
    let message = sys::socket::recv(&ours).context("cannot hear the reader")?;
    sys::process::waitid(&pidfd, 0).context("cannot wait for the reader")?;
    let message = message.context("the reader ended without an answer")?;
    let answer: Result<String, String> =
        serde_json::from_slice(&message).context("the reader's answer is no JSON")?;
    answer.map_err(|why| {
        Error::new(format!(
            "cannot look into the {kind} namespace of process {pid}: {why}"
        ))
    })
}

/// Enters a namespace of the process, unless it is ours already. Who has no power over it gets it
/// by entering the user namespace that owns it first.
fn enter(pid: i32, kind: &str, flag: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/{kind}");
    if link(&path)? == link(&format!("/proc/self/ns/{kind}"))? {
        return Ok(());
    }
    let file = sys::namespace::open_ns(&path)?;
    match sys::namespace::setns(&file, flag as u64) {
        Err(e) if e.errno == sys::Errno::EPERM => {}
        result => return Ok(result?),
    }
    let owner = sys::namespace::ns_get_fd(&file, sys::namespace::NS_GET_USERNS)?;
    sys::namespace::setns(&owner, libc::CLONE_NEWUSER as u64)?;
    Ok(sys::namespace::setns(&file, flag as u64)?)
}

#[cfg(test)]
mod tests {
    use super::sizes;

    #[test]
    fn the_column_is_found_by_its_name() {
        let text = "       key      shmid perms                  size  cpid\n\
                    0          0   644                  8192   100\n\
                    0          1   644                  4096   100\n";
        assert_eq!(sizes(text), "4096 8192");
        assert_eq!(sizes("       key      shmid perms size\n"), "none");
    }
}
