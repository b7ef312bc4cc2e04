//! The only way to the kernel: thin, safe wrappers with the kernel's own names.
//!
//! What it does: each function is one system call. It retries `EINTR`, turns the result into
//! `Result<_, SysError>` (which names the call, its arguments and the errno), takes and returns
//! owned or borrowed file descriptors, and, while a recorder is on, writes itself down
//! ([`record`]). It imports nothing from the rest of the crate and composes nothing: what is
//! built out of several calls belongs to a stage.
//!
//! What it implements: the man pages of section 2, and the kernel's own documents for the calls
//! that have no page yet. Each function's doc opens with the C signature, then the errnos that a
//! learner meets, then the page.
//!
//! The rule that makes the walls glass: **a call that changes something goes through
//! [`state_changing`]**, so the journal cannot miss it. A call that only reads goes through
//! [`reading`].
//!
//! This is the only module with `unsafe`. Read next: [`record`], then [`namespace`] and
//! [`mount`], then [`crate::journal`], which gives the calls their reasons.

#![allow(unsafe_code)]

mod args;
pub mod ask;
pub mod bpf;
pub mod cred;
pub mod entry;
pub mod fs;
pub mod inet;
pub mod line;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod poll;
pub mod process;
pub mod record;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod statmount;
pub mod tty;
pub mod xattr;

use std::fmt;

pub(crate) use args::flag_names;
use args::{Args, At, Flags, Names, written};
pub use nix::errno::Errno;

/// A system call that failed: which, on what, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysError {
    /// The call's name as in its man page.
    pub call: &'static str,
    /// Its arguments, as they would be written in C, shortened where they are long.
    pub args: String,
    /// The kernel's answer.
    pub errno: Errno,
}

impl fmt::Display for SysError {
    /// `unshare(CLONE_NEWUSER): EPERM (Operation not permitted)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({}): {}",
            self.call,
            self.args,
            describe_errno(self.errno)
        )
    }
}

impl std::error::Error for SysError {}

/// `EPERM (Operation not permitted)`
pub fn describe_errno(errno: Errno) -> String {
    format!("{errno:?} ({})", errno.desc())
}

/// The result of one system call.
pub type SysResult<T> = std::result::Result<T, SysError>;

/// What a successful call returned, as the number that the kernel gave (for the record).
pub trait Returned {
    /// The return value as strace would print it.
    fn as_number(&self) -> i64;
}

macro_rules! returned {
    ($($t:ty),*) => {$(impl Returned for $t { fn as_number(&self) -> i64 { *self as i64 } })*};
}
returned!(i32, i64, u32, u64, usize, isize);
impl Returned for () {
    fn as_number(&self) -> i64 {
        0
    }
}
impl Returned for std::os::fd::OwnedFd {
    fn as_number(&self) -> i64 {
        use std::os::fd::AsRawFd;
        self.as_raw_fd().into()
    }
}
impl<A, B> Returned for (A, B) {
    fn as_number(&self) -> i64 {
        0
    }
}
impl<T: Returned> Returned for Option<T> {
    fn as_number(&self) -> i64 {
        self.as_ref().map_or(0, T::as_number)
    }
}
impl Returned for Vec<u8> {
    fn as_number(&self) -> i64 {
        self.len() as i64
    }
}

/// Runs a call that changes the state of the kernel or of a file system: retries `EINTR`, and
/// records it when a recorder is on. `args` is only asked when it is needed.
pub(crate) fn state_changing<T: Returned>(
    call: &'static str,
    args: impl Fn(&mut Args<'_>) -> fmt::Result,
    mut raw: impl FnMut() -> Result<T, Errno>,
) -> SysResult<T> {
    let start = record::start();
    let result = loop {
        match raw() {
            Err(Errno::EINTR) => continue,
            other => break other,
        }
    };
    if let Some(start) = start {
        record::finish(
            start,
            call,
            &args,
            result.as_ref().map(T::as_number).map_err(|e| *e),
        );
    }
    result.map_err(|errno| SysError {
        call,
        args: written(args),
        errno,
    })
}

/// Runs a call that only reads: retries `EINTR`; never recorded.
pub(crate) fn reading<T>(
    call: &'static str,
    args: impl Fn() -> String,
    mut raw: impl FnMut() -> Result<T, Errno>,
) -> SysResult<T> {
    loop {
        match raw() {
            Err(Errno::EINTR) => continue,
            result => {
                return result.map_err(|errno| SysError {
                    call,
                    args: args(),
                    errno,
                });
            }
        }
    }
}

/// Turns the C convention (−1 and errno) into a `Result`.
pub(crate) fn check(result: impl Into<i64>) -> Result<i64, Errno> {
    match result.into() {
        -1 => Err(Errno::last()),
        n => Ok(n),
    }
}

/// A path or name for the kernel. A NUL byte inside is the caller's `EINVAL`.
pub(crate) fn cstr(
    call: &'static str,
    text: impl AsRef<std::ffi::OsStr>,
) -> SysResult<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    let text = text.as_ref();
    std::ffi::CString::new(text.as_bytes()).map_err(|_| SysError {
        call,
        args: format!("{text:?}: holds a NUL byte"),
        errno: Errno::EINVAL,
    })
}
