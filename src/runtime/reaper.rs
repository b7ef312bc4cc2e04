//! A small init: reaps orphans and passes signals on (`--init`).
//!
//! What it does: PID 1 has two duties that few programs know of. Orphans of its namespace become
//! its children and stay zombies until it waits for them; and a signal without a handler is
//! ignored by PID 1, so `docker stop` of such a program takes ten seconds. With `--init` the
//! process that set the container up stays as PID 1 and does both, and the program runs as PID 2.
//!
//! What it implements: pid_namespaces(7) "The namespace init process", wait(2), signal(7).
//! Interface: the action [`Reaper`]. Read next: `plan.rs`.

use crate::error::{Context, Result};
use crate::journal::{Action, Planned, Scene};
use crate::sys::{self, record};

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

    fn apply(&self, _: &mut Scene) -> Result<()> {
        match sys::namespace::clone3(0, None).context("cannot split the init off")? {
            sys::namespace::Cloned::Child => {
                record::set_pid(record::outer_pid());
                if self.terminal {
                    sys::tty::become_foreground().context("cannot take the terminal")?;
                }
                Ok(())
            }
            sys::namespace::Cloned::Parent { pid, pidfd } => reap_until(pid, &pidfd),
        }
    }
}

/// PID 1 from here on: waits for everybody, passes signals to the program, ends as it ends.
fn reap_until(program: i32, pidfd: &std::os::fd::OwnedFd) -> ! {
    // This end of the barrier must close, or the parent would never see that execve worked; the
    // pidfd is kept.
    let keep = sys::process::keep_only(pidfd);
    let signals = sys::process::block_all_signals();
    loop {
        let signal = sys::process::next_signal(&signals);
        if signal != libc::SIGCHLD {
            let _ = sys::process::pidfd_send_signal(&keep, signal); // gone: SIGCHLD is on its way
            continue;
        }
        // One SIGCHLD may stand for several children.
        loop {
            match sys::process::waitid_any() {
                Ok(Some((pid, exit))) if pid == program => sys::process::exit_now(exit.code()),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => sys::process::exit_now(255),
            }
        }
    }
}
