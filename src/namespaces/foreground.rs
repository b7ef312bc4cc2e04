//! Waiting for a command in the foreground: signals, job control, exit status.
//!
//! What it does: the parent of a command that had to be a second process behaves as if it *were*
//! the command. Signals sent to it go on to the command; when the command stops, so does it; when
//! the command ends, its status is the parent's.
//!
//! What it implements: signal(7), signalfd(2), waitid(2), credentials(7) ("Process group ID").
//! A terminal's Ctrl-C, Ctrl-\ and Ctrl-Z go to the whole foreground group, so the command has
//! them already; only what a process sends to the parent alone is forwarded (the kernel says who
//! sent it). Ctrl-Z is special: PID 1 of a pid namespace ignores stop signals without a handler,
//! but SIGSTOP from outside its namespace works on it.
//!
//! Interface: [`Foreground`]. Read next: `enter.rs`.

use crate::error::{Context, Result};
use crate::journal::Child;
use crate::sys::process::{self, pidfd_send_signal};
use crate::sys::signal::{SignalFd, Taken, Waited, wait_child};

/// The signals that mean the command.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
    libc::SIGCONT,
    libc::SIGTSTP,
];

/// A parent that has blocked its signals, to take them one by one.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Blocks the signals. Called before the command exists, so that none is lost; the command
    /// gets the old mask back at execve ([`super::actions::Signals::Inherited`]).
    pub fn prepare() -> Result<Foreground> {
        let mut wanted = FORWARDED.to_vec();
        wanted.push(libc::SIGCHLD);
        let signals = SignalFd::block(&wanted).context("cannot wait for signals")?;
        Ok(Foreground { signals })
    }

    /// Waits until the command has ended: the status to exit with, 128 + n for signal n.
    pub fn wait(&self, child: &Child) -> Result<u8> {
        loop {
            while let Some(event) =
                wait_child(&child.pidfd).context("cannot wait for the command")?
            {
                match event {
                    Waited::Ended(exit) => return Ok(exit.code() as u8),
                    Waited::Stopped(_) => self.stop_with(child, false)?,
                }
            }
            let taken = self.signals.take().context("cannot wait for signals")?;
            self.forward(child, taken)?;
        }
    }

    fn forward(&self, child: &Child, taken: Taken) -> Result<()> {
        match taken.signal {
            libc::SIGCHLD => Ok(()),
            libc::SIGTSTP => self.stop_with(child, true),
            _ if taken.from_kernel => Ok(()), // it went to the whole group
            // The command may end in this moment: nobody is left to want the signal then.
            signal => match pidfd_send_signal(&child.pidfd, signal) {
                Err(e) if e.errno != crate::sys::Errno::ESRCH => {
                    Err(e).context("cannot forward a signal")
                }
                _ => Ok(()),
            },
        }
    }

    /// Stops this process like the command, and lets the command go on when it is continued.
    fn stop_with(&self, child: &Child, stop_child: bool) -> Result<()> {
        if stop_child {
            let _ = pidfd_send_signal(&child.pidfd, libc::SIGSTOP); // it may have just ended
        }
        process::kill(std::process::id() as i32, libc::SIGSTOP).context("cannot stop")?;
        // Here we have been continued.
        let _ = pidfd_send_signal(&child.pidfd, libc::SIGCONT);
        Ok(())
    }
}
