//! Signals of a process that waits for another: which are blocked, and taking them as data.
//!
//! What it implements: sigprocmask(2), sigaction(2), signalfd(2), poll(2).
//! Interface: [`Inherited`], [`SignalFd`], [`Taken`], [`Waited`], [`wait_child`].
//! Read next: [`crate::namespaces`]' `foreground.rs`, which forwards signals by it.

use super::{Errno, SysResult, check, reading};
use nix::sys::signal::{SigSet, SigmaskHow};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// What this process found when it began: its signal mask. (The program ignores SIGPIPE from its
/// beginning on, as all of Rust's do; [`Inherited::restore`] takes that back.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    mask: SigSet,
}

impl Inherited {
    /// Reads the mask: `sigprocmask(SIG_BLOCK, NULL, &old)`.
    pub fn read() -> Inherited {
        let mut mask = SigSet::empty();
        // Fails only for a wrong `how`, and there is none here.
        let _ = nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask));
        Inherited { mask }
    }
    /// Puts the mask back, and SIGPIPE to its default action, for the program that comes next.
    pub fn restore(&self) {
        // SAFETY: SIG_DFL installs no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let _ = self.mask.thread_set_mask(); // fails only for a wrong `how`
    }
}

/// A signal that was taken from a [`SignalFd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Its number.
    pub signal: i32,
    /// The kernel raised it (a terminal's Ctrl-C, which goes to the whole foreground group)
    /// rather than a process that called kill(2).
    pub from_kernel: bool,
}

/// `int signalfd(-1, const sigset_t *mask, SFD_CLOEXEC)`: blocked signals as data to read.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` in this thread and opens the descriptor. Errors: `EMFILE`.
    pub fn block(signals: &[i32]) -> SysResult<SignalFd> {
        reading(
            "signalfd",
            || format!("-1, {signals:?}, SFD_CLOEXEC"),
            || {
                // SAFETY: sigset_t is plain data, initialised by sigemptyset; sigaddset of a wrong
                // number changes nothing.
                let set = unsafe {
                    let mut set: libc::sigset_t = std::mem::zeroed();
                    libc::sigemptyset(&mut set);
                    for signal in signals {
                        libc::sigaddset(&mut set, *signal);
                    }
                    libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                    set
                };
                // SAFETY: `set` is live for the call.
                let fd = check(unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) })?;
                // SAFETY: a descriptor that the kernel has just made for us.
                Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
            },
        )
    }

    /// Waits for a signal and takes it.
    pub fn take(&self) -> SysResult<Taken> {
        let raw = self.0.as_raw_fd();
        reading(
            "read",
            || format!("{raw}, signalfd_siginfo"),
            || {
                // SAFETY: plain data for which all zeroes is a value.
                let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
                let size = size_of::<libc::signalfd_siginfo>();
                // SAFETY: pointer and length describe `info`, live for the call.
                let n = check(unsafe { libc::read(raw, (&raw mut info).cast(), size) } as i64)?;
                if n as usize != size {
                    return Err(Errno::EIO);
                }
                Ok(Taken {
                    signal: info.ssi_signo as i32,
                    from_kernel: info.ssi_code == libc::SI_KERNEL,
                })
            },
        )
    }
}

/// What a child did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// It ended, and is reaped.
    Ended(super::process::Exit),
    /// It was stopped by this signal.
    Stopped(i32),
}

/// `int waitid(P_PIDFD, pidfd, siginfo_t *, WEXITED | WSTOPPED | WNOHANG)`: what the child did
/// since the last call; `None` when nothing. Errors: `ECHILD`. See waitid(2).
pub fn wait_child(pidfd: impl AsFd) -> SysResult<Option<Waited>> {
    let raw = pidfd.as_fd().as_raw_fd();
    reading(
        "waitid",
        || format!("P_PIDFD, {raw}, WEXITED|WSTOPPED|WNOHANG"),
        || {
            // SAFETY: siginfo_t is plain data for which all zeroes is a value.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let options = libc::WEXITED | libc::WSTOPPED | libc::WNOHANG;
            // SAFETY: `info` is live for the call.
            check(unsafe { libc::waitid(libc::P_PIDFD, raw as u32, &mut info, options) })?;
            // SAFETY: waitid succeeded, so the SIGCHLD member is the one that is filled (or zero).
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            use super::process::Exit;
            Ok(match (pid, info.si_code) {
                (0, _) => None,
                (_, libc::CLD_EXITED) => Some(Waited::Ended(Exit::Status(status))),
                (_, libc::CLD_STOPPED) => Some(Waited::Stopped(status)),
                (_, code) => {
                    let dumped = code == libc::CLD_DUMPED;
                    Some(Waited::Ended(Exit::Signal(status, dumped)))
                }
            })
        },
    )
}
