//! Waiting calls: pipes, `poll`, signals as a descriptor, non-blocking reads and writes.
//!
//! What it implements: pipe2(2), poll(2), signalfd(2), read(2), write(2), splice(2), fsync(2),
//! `O_NONBLOCK` of fcntl(2). They move bytes and change nothing that the journal tells about.
//! Interface: [`pipe`], [`poll`], [`Interest`], [`signal_fd`], [`read`], [`write_some`],
//! [`splice_to_file`], [`unread_of_fifo`].
//! Read next: `containers::monitor`, whose loop is made of these.

use super::{Errno, SysResult, check, reading};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `int pipe2(int fd[2], O_CLOEXEC)`: (reading end, writing end). Errors: `EMFILE`. See pipe(2).
pub fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    reading(
        "pipe2",
        || "O_CLOEXEC".into(),
        || nix::unistd::pipe2(OFlag::O_CLOEXEC),
    )
}

/// Sets or clears `O_NONBLOCK` on the open file behind `fd` (shared by all its duplicates).
/// See fcntl(2).
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> SysResult<()> {
    let fd = fd.as_fd();
    reading(
        "fcntl",
        || format!("{}, F_SETFL, O_NONBLOCK={on}", fd.as_raw_fd()),
        || {
            let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
            flags.set(OFlag::O_NONBLOCK, on);
            fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
        },
    )
}

/// `ssize_t read(int fd, void *buf, size_t count)`: how much was read, 0 at the end. Errors:
/// `EAGAIN` (non-blocking and nothing there), `EIO` (a terminal whose other end is closed).
/// See read(2).
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> SysResult<usize> {
    let fd = fd.as_fd();
    let len = buffer.len();
    reading(
        "read",
        || format!("{}, {len} bytes", fd.as_raw_fd()),
        || nix::unistd::read(fd, buffer),
    )
}

/// `ssize_t write(int fd, const void *buf, size_t count)` of plain data (not to a kernel file):
/// how much was written. Errors: `EAGAIN`, `EPIPE`, `ENOSPC`. See write(2).
pub fn write_some(fd: impl AsFd, data: &[u8]) -> SysResult<usize> {
    let fd = fd.as_fd();
    reading(
        "write",
        || format!("{}, {} bytes", fd.as_raw_fd(), data.len()),
        || nix::unistd::write(fd, data),
    )
}

/// `ssize_t splice(int pipe, NULL, int file, off_t *at, size_t len, SPLICE_F_NONBLOCK)`
///
/// Moves bytes out of a pipe or FIFO to the place `at` of a file: how many, 0 at the end. A signal,
/// SIGKILL as well, finds each byte in the one or in the other: the kernel looks for signals only
/// after it has taken out of the pipe what it has written. Errors: `EAGAIN` (nothing there),
/// `EINVAL` (no pipe, a file open for appending, a file system that cannot), `ENOSPC`.
/// See splice(2).
pub fn splice_to_file(pipe: impl AsFd, file: impl AsFd, at: u64, len: usize) -> SysResult<usize> {
    let (pipe, file) = (pipe.as_fd().as_raw_fd(), file.as_fd().as_raw_fd());
    reading(
        "splice",
        || format!("{pipe}, NULL, {file}, {at}, {len}, SPLICE_F_NONBLOCK"),
        || {
            let mut at = at as libc::loff_t;
            let none = std::ptr::null_mut();
            // SAFETY: `at` is live and exclusive for the call; a null offset is right for a pipe.
            check(unsafe {
                libc::splice(pipe, none, file, &mut at, len, libc::SPLICE_F_NONBLOCK) as i64
            })
        },
    )
    .map(|n| n as usize)
}

/// `int ioctl(int fifo, FIONREAD, int *n)` after `fstat`: how many bytes wait in a pipe or FIFO; 0
/// for what is neither. Errors: `EBADF`. See fifo(7), ioctl(2).
pub fn unread_of_fifo(fd: impl AsFd) -> SysResult<usize> {
    let fd = fd.as_fd();
    let raw = fd.as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, FIONREAD"),
        || {
            if nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT != libc::S_IFIFO {
                return Ok(0);
            }
            let mut n: libc::c_int = 0;
            // SAFETY: `n` is live and exclusive for the call, which stores one int.
            check(unsafe { libc::ioctl(raw, libc::FIONREAD, &mut n) })?;
            Ok(n as usize)
        },
    )
}

/// `int fsync(int fd)`: what was written survives a power cut. Errors: `EIO`, `EINVAL` (a special
/// file). See fsync(2).
pub fn fsync(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: takes an integer; the descriptor is borrowed for the call.
    reading(
        "fsync",
        || raw.to_string(),
        || check(unsafe { libc::fsync(raw) }).map(drop),
    )
}

/// What is waited for on one descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Interest<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Wait until it can be read.
    pub read: bool,
    /// Wait until it can be written.
    pub write: bool,
}

/// What [`poll`] found on one descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or the end.
    pub readable: bool,
    /// It can take more.
    pub writable: bool,
    /// The other side is gone (`POLLHUP`, `POLLERR`).
    pub hangup: bool,
}

/// `int poll(struct pollfd *fds, nfds_t n, int timeout)`: one answer for each interest, in order;
/// all are false when `timeout_ms` (−1: none) has passed. See poll(2).
pub fn poll(interests: &[Interest<'_>], timeout_ms: i32) -> SysResult<Vec<Ready>> {
    let mut fds: Vec<libc::pollfd> = interests
        .iter()
        .map(|i| libc::pollfd {
            fd: i.fd.as_raw_fd(),
            events: if i.read { libc::POLLIN } else { 0 } | if i.write { libc::POLLOUT } else { 0 },
            revents: 0,
        })
        .collect();
    reading(
        "poll",
        || format!("{} descriptors, {timeout_ms}", interests.len()),
        || {
            // SAFETY: pointer and length describe `fds`, live and exclusive for the call.
            check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) })
        },
    )?;
    Ok(fds
        .iter()
        .map(|f| Ready {
            readable: f.revents & libc::POLLIN != 0,
            writable: f.revents & libc::POLLOUT != 0,
            hangup: f.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0,
        })
        .collect())
}

/// Signals that arrive as data instead of interrupting.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `sigprocmask(SIG_BLOCK, set)` and `int signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK)`: from now
/// on the signals with these numbers are read from the result. See signalfd(2).
pub fn signal_fd(signals: &[i32]) -> SysResult<Signals> {
    reading(
        "signalfd4",
        || format!("-1, {signals:?}"),
        || {
            let mut set = SigSet::empty();
            for number in signals {
                set.add(Signal::try_from(*number)?);
            }
            nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Signals)
        },
    )
}

impl Signals {
    /// The next signal's number; `None` when there is none now.
    pub fn next(&self) -> SysResult<Option<i32>> {
        reading(
            "read",
            || "signalfd".into(),
            || match self.0.read_signal() {
                Ok(info) => Ok(info.map(|i| i.ssi_signo as i32)),
                Err(Errno::EAGAIN) => Ok(None),
                Err(e) => Err(e),
            },
        )
    }
}

/// `sigprocmask(SIG_UNBLOCK, all)`: undoes the blocking of [`signal_fd`]. See sigprocmask(2).
pub fn unblock_signals() -> SysResult<()> {
    reading(
        "sigprocmask",
        || "SIG_SETMASK, []".into(),
        || nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None),
    )
}
