//! A small init: reaps orphans and passes signals on (`--init`).
//!
//! What it does: PID 1 has two duties that few programs know of. Orphans of its namespace become
//! its children and stay zombies until it waits for them; and a signal without a handler is
//! ignored by PID 1, so `docker stop` of such a program takes ten seconds. With `--init` the
//! process that set the container up stays as PID 1 and does both, and the program runs as PID 2.
//!
//! It is a witness too. Its caller may be killed, and the kernel tells nobody but a parent, or who
//! holds a pidfd at that moment, how a process ended. So it writes the program's status into a file of
//! the caller's, and stays until the caller, or who takes over from it, has read what the program
//! left in its FIFOs: they are gone when nobody has them open.
//!
//! What it implements: pid_namespaces(7) "The namespace init process", wait(2), signal(7).
//! Interface: the actions [`ExitFile`] and [`Reaper`]; [`ended`]. Read next: `plan.rs`.

use crate::error::{Context, Result};
use crate::journal::{Action, Planned, Scene};
use crate::namespaces::split_off;
use crate::sys::process::Exit;
use crate::sys::{self, Errno, fs::CWD, record};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The scene's name of the file for the status.
const EXIT: &str = "exit";
/// The longest pause between two looks at FIFOs that nobody reads.
const PAUSE_MS: u64 = 200;

/// Parent, before the split: opens the file into which PID 1 writes how the program has ended.
#[derive(Debug)]
pub struct ExitFile {
    /// Where. Its directory exists by then.
    pub path: PathBuf,
}

impl Action for ExitFile {
    fn calls(&self) -> Vec<Planned> {
        let flags = "O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0600";
        let args = format!("AT_FDCWD, {:?}, {flags}", self.path);
        vec![Planned::new("openat", args)]
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        let file = sys::fs::open(&self.path, flags, 0o600)
            .with_context(|| format!("cannot make {}", self.path.display()))?;
        scene.put_fd(EXIT, file);
        Ok(())
    }

    fn undo(&self, _: &mut Scene) -> Result<()> {
        match sys::fs::unlinkat(CWD, &self.path, 0) {
            Err(e) if e.errno != Errno::ENOENT => {
                Err(e).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// How the program ended, as PID 1 has written it into this file; `None` when it has not.
pub fn ended(path: &Path) -> Option<Exit> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(Exit::Status(text.strip_suffix('\n')?.parse().ok()?))
}

/// Splits the program off: this process becomes the init that waits, the new one goes on with the
/// plan.
#[derive(Debug)]
pub struct Reaper {
    /// The container has a terminal, whose foreground group the program must become.
    pub terminal: bool,
}

impl Action for Reaper {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "clone3",
            "0: this process stays as PID 1 and reaps",
        )]
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let exit = scene.take_fd(EXIT);
        match split_off("the init")? {
            sys::namespace::Cloned::Child => {
                record::set_pid(record::outer_pid());
                if self.terminal {
                    sys::tty::become_foreground().context("cannot take the terminal")?;
                }
                Ok(())
            }
            sys::namespace::Cloned::Parent { pid, pidfd } => reap_until(pid, &pidfd, exit.as_ref()),
        }
    }
}

/// PID 1 from here on: waits for everybody, passes signals to the program, ends as it ends.
fn reap_until(program: i32, pidfd: &OwnedFd, exit_file: Option<&OwnedFd>) -> ! {
    // This end of the barrier must close, or the parent would never see that execve worked.
    let mut keep = vec![pidfd.as_fd()];
    keep.extend(exit_file.map(|fd| fd.as_fd()));
    sys::process::close_all_but(&keep);
    // What is open here is not for those inside, whatever they may: /proc/1/fd shows it to nobody.
    let _ = sys::process::prctl("PR_SET_DUMPABLE, 0", libc::PR_SET_DUMPABLE, 0, 0); // cannot fail
    let signals = sys::process::block_all_signals();
    loop {
        let signal = sys::process::next_signal(&signals);
        if signal != libc::SIGCHLD {
            let _ = sys::process::pidfd_send_signal(pidfd, signal); // gone: SIGCHLD is on its way
            continue;
        }
        // One SIGCHLD may stand for several children.
        loop {
            match sys::process::waitid_any() {
                Ok(Some((pid, exit))) if pid == program => {
                    if let Some(file) = exit_file {
                        let text = format!("{}\n", exit.code());
                        let _ = sys::fs::write(file, Path::new(EXIT), &text); // a second witness only
                        outlast_output();
                    }
                    sys::process::exit_now(exit.code())
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => sys::process::exit_now(255),
            }
        }
    }
}

/// Stays until what is in the program's FIFOs has been read. Everybody else in this pid namespace
/// ends now and not with PID 1, or one that writes without end would keep it here for ever.
fn outlast_output() {
    let unread = || {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        sys::poll::unread_of_fifo(out).unwrap_or(0) + sys::poll::unread_of_fifo(err).unwrap_or(0)
    };
    let mut pause = 1;
    while unread() > 0 {
        if std::process::id() != 1 {
            return; // others may live here whom we have no business with
        }
        let _ = sys::process::kill(-1, libc::SIGKILL); // ESRCH: nobody else is here
        while let Ok(Some(_)) = sys::process::waitid_any() {}
        std::thread::sleep(Duration::from_millis(pause));
        pause = (pause * 2).min(PAUSE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_whole_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit");
        assert_eq!(ended(&path), None);
        for (text, status) in [
            ("", None),
            ("13", None),
            ("137\n", Some(137)),
            ("x\n", None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(ended(&path).map(Exit::code), status, "{text:?}");
        }
    }
}
