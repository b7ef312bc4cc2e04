//! Where the program begins: what Rust's own start does that is needed here, and no more.
//!
//! What it does: Rust's runtime also prepares a message for a stack overflow, for which it reads
//! /proc/self/maps and sets handlers and a stack for them up: fifteen system calls, a tenth of a
//! millisecond. A container costs four starts of this program, so they are left out (an overflow
//! still ends the program, by a plain SIGSEGV). Two things stay:
//!
//! - standard streams that the caller has closed are opened on /dev/null, or the next file opened
//!   would be taken for one of them;
//! - SIGPIPE is ignored, so that a write to who has gone is an error like any other.
//!
//! What it implements: poll(2), open(2), signal(2); `main` as the C library calls it, which has
//! given the arguments to Rust's library by then.
//! Interface: [`crate::entry`] (the macro), [`begin`], [`end`]. Read next: `main.rs`.

use std::io::Write;

/// Makes a function from nothing to the exit status the program's `main`, in a file that says
/// `#![no_main]`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        /// What the C library calls.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            _count: ::std::ffi::c_int,
            _arguments: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            $crate::sys::entry::begin();
            $crate::sys::entry::end(::std::panic::catch_unwind($run))
        }
    };
}

/// What comes before anything else.
pub fn begin() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: `streams` is live and has as many entries as are said.
    let asked = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for stream in streams {
        if asked > 0 && stream.revents & libc::POLLNVAL != 0 {
            // The lowest free number is given, which is this one.
            // SAFETY: a C string, and flags that need no mode.
            if unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) } != stream.fd {
                // SAFETY: ends the process; nothing was set up yet.
                unsafe { libc::abort() };
            }
        }
    }
    // SAFETY: SIG_IGN installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// What comes last: what was printed leaves the program. Returns the exit status, which is Rust's
/// for a panic that was told already.
pub fn end(status: std::thread::Result<u8>) -> i32 {
    let _ = std::io::stdout().flush(); // who has gone reads nothing
    status.map_or(101, i32::from)
}
