//! Terminal calls: a pseudo terminal pair, its size, its controlling session.
//!
//! What it implements: pty(7), ioctl_tty(2), devpts of the kernel's filesystems documents.
//! Interface: [`unlock`], [`open_peer`], [`window_size`], [`set_window_size`], [`set_controlling`], [`Raw`].
//! Read next: `containers::terminal`, which uses them.

use super::{SysResult, check, reading, state_changing};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `int ioctl(int fd, TIOCSPTLCK, const int *zero)`: unlocks the other end of a master, which
/// opening a devpts's `ptmx` gives. Errors: `ENOTTY` (it is none). See ioctl_tty(2).
pub fn unlock(master: impl AsFd) -> SysResult<()> {
    let raw = master.as_fd().as_raw_fd();
    state_changing(
        "ioctl",
        |a| write!(a, "{raw}, TIOCSPTLCK, [0]"),
        || {
            let unlock: libc::c_int = 0;
            // SAFETY: the request reads an int through the pointer, live for the call.
            check(unsafe { libc::ioctl(raw, libc::TIOCSPTLCK, &unlock) }).map(drop)
        },
    )
}

/// `int ioctl(int fd, TIOCGPTPEER, int flags)`: the other end of a master, without a path that
/// could be swapped. Errors: `EIO` (still locked), `EINVAL`. See ioctl_tty(2).
pub fn open_peer(master: impl AsFd) -> SysResult<OwnedFd> {
    let raw = master.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, TIOCGPTPEER"),
        || {
            let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
            // SAFETY: takes an integer and returns a new descriptor.
            let fd = check(unsafe { libc::ioctl(raw, libc::TIOCGPTPEER, flags) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `int ioctl(int fd, TIOCGWINSZ, struct winsize *)`: (rows, columns). Errors: `ENOTTY`.
pub fn window_size(fd: impl AsFd) -> SysResult<(u16, u16)> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, TIOCGWINSZ"),
        || {
            let mut size = libc::winsize {
                ws_row: 0,
                ws_col: 0,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // SAFETY: `size` is live and of the type that the request writes.
            check(unsafe { libc::ioctl(raw, libc::TIOCGWINSZ, &mut size) })?;
            Ok((size.ws_row, size.ws_col))
        },
    )
}

/// `int ioctl(int fd, TIOCSWINSZ, const struct winsize *)`: sends SIGWINCH to the foreground group.
pub fn set_window_size(fd: impl AsFd, rows: u16, columns: u16) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "ioctl",
        |a| write!(a, "{raw}, TIOCSWINSZ, {{{rows}, {columns}}}"),
        || {
            let size = libc::winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // SAFETY: `size` is live for the call.
            check(unsafe { libc::ioctl(raw, libc::TIOCSWINSZ, &size) }).map(drop)
        },
    )
}

/// `int ioctl(int fd, TIOCSCTTY, 0)`: the terminal becomes this session's. Errors: `EPERM` (not a
/// session leader, or it belongs to another session). See ioctl_tty(2).
pub fn set_controlling(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "ioctl",
        |a| write!(a, "{raw}, TIOCSCTTY, 0"),
        // SAFETY: takes an integer.
        || check(unsafe { libc::ioctl(raw, libc::TIOCSCTTY, 0) }).map(drop),
    )
}

/// A terminal in raw mode: every key goes to the program unseen. Dropping it restores the
/// settings. See termios(3), `cfmakeraw`.
#[derive(Debug)]
pub struct Raw {
    fd: OwnedFd,
    before: nix::sys::termios::Termios,
}

impl Raw {
    /// Puts the terminal into raw mode. Errors: `ENOTTY`.
    pub fn enter(fd: impl AsFd) -> SysResult<Raw> {
        use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
        let fd = fd.as_fd();
        let own = reading(
            "dup",
            || fd.as_raw_fd().to_string(),
            || nix::unistd::dup(fd),
        )?;
        let before = reading("tcgetattr", || fd.as_raw_fd().to_string(), || tcgetattr(fd))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        reading(
            "tcsetattr",
            || format!("{}, TCSADRAIN, raw", fd.as_raw_fd()),
            || tcsetattr(fd, SetArg::TCSADRAIN, &raw),
        )?;
        Ok(Raw { fd: own, before })
    }

    /// Raw again, after something else (a shell, when this process was stopped) had changed it.
    pub fn again(&self) {
        use nix::sys::termios::{SetArg, cfmakeraw, tcsetattr};
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        let _ = tcsetattr(&self.fd, SetArg::TCSADRAIN, &raw); // fails only if the terminal is gone
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        let _ = tcsetattr(&self.fd, SetArg::TCSADRAIN, &self.before); // as above
    }
}

/// `int setpgid(0, 0)`, then `int ioctl(0, TIOCSPGRP, …)`: this process leads a group of its own,
/// which is the terminal's foreground group, so that Ctrl-C reaches it alone. See
/// tcsetpgrp(3), setpgid(2).
pub fn become_foreground() -> SysResult<()> {
    state_changing(
        "setpgid",
        |a| a.write_str("0, 0"),
        // SAFETY: takes integers.
        || check(unsafe { libc::setpgid(0, 0) }).map(drop),
    )?;
    state_changing(
        "ioctl",
        |a| a.write_str("0, TIOCSPGRP, [own group]"),
        || {
            // A background group that sets the foreground one is stopped by SIGTTOU unless it is
            // blocked.
            let mut ttou = nix::sys::signal::SigSet::empty();
            ttou.add(nix::sys::signal::Signal::SIGTTOU);
            let _ = ttou.thread_block();
            // SAFETY: getpid has no arguments; tcsetpgrp takes integers.
            let result = check(unsafe { libc::tcsetpgrp(0, libc::getpid()) }).map(drop);
            let _ = ttou.thread_unblock();
            result
        },
    )
}
