//! System call filters: loading one, asking what the kernel knows, reading those of a live process.
//!
//! What it implements: seccomp(2), ptrace(2) (`PTRACE_SEIZE`, `PTRACE_INTERRUPT`, `PTRACE_DETACH`,
//! and `PTRACE_SECCOMP_GET_FILTER` of linux/ptrace.h).
//! Interface: [`Instruction`], [`set_mode_filter`], [`action_available`], [`seize`], [`interrupt`],
//! [`wait_stop`], [`get_filter`], [`detach`]. Read next: `security::seccomp`, which makes the
//! programs.

use super::{Errno, Names, SysResult, check, flag_names, reading, state_changing};
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF (`struct sock_filter` of linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions a jump skips when its condition holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// `struct sock_fprog`
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// `SECCOMP_FILTER_FLAG_*` of linux/seccomp.h and their names.
pub const FLAGS: &[(u64, &str)] = &[
    (1, "SECCOMP_FILTER_FLAG_TSYNC"),
    (2, "SECCOMP_FILTER_FLAG_LOG"),
    (4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
    (16, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
    (32, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];
/// The call returns a descriptor on which the filter's notifications arrive.
pub const NEW_LISTENER: u64 = 8;

const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;

/// `int seccomp(SECCOMP_SET_MODE_FILTER, unsigned int flags, struct sock_fprog *)`
///
/// The filter holds for this thread and all its children, for ever. Returns the listener when the
/// flags ask for one. Errors: `EACCES` (neither no_new_privs nor CAP_SYS_ADMIN), `EINVAL` (a bad
/// program, or a flag that this kernel does not know), `ENOMEM` (too many instructions),
/// `EBUSY` (there is a listener already). See seccomp(2).
pub fn set_mode_filter(flags: u64, program: &[Instruction]) -> SysResult<Option<OwnedFd>> {
    state_changing(
        "seccomp",
        |a| {
            write!(
                a,
                "SECCOMP_SET_MODE_FILTER, {}, {{{} instructions}}",
                Names(flags, FLAGS),
                program.len()
            )
        },
        || {
            let program = Program {
                len: program.len().try_into().map_err(|_| Errno::EINVAL)?,
                filter: program.as_ptr(),
            };
            // SAFETY: `program` and the instructions that it points to are live for the call, and
            // its length is theirs; the kernel copies them.
            let fd = check(unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    SET_MODE_FILTER,
                    flags,
                    &raw const program,
                )
            })?;
            // SAFETY: with this flag a result is a descriptor that the kernel has just made for us.
            Ok((flags & NEW_LISTENER != 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) }))
        },
    )
}

/// `int seccomp(SECCOMP_SET_MODE_FILTER, unsigned int flags, NULL)`: whether this kernel takes the
/// flags. No filter can come of it: one that takes them goes on to read the program and fails with
/// `EFAULT`, and `EINVAL` means that it does not.
pub fn flag_available(flags: u64) -> bool {
    let result = reading(
        "seccomp",
        || {
            let flags = flag_names(flags, FLAGS);
            format!("SECCOMP_SET_MODE_FILTER, {flags}, NULL")
        },
        || {
            // SAFETY: the program is NULL, which the kernel may try to read and cannot.
            check(unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    SET_MODE_FILTER,
                    flags,
                    std::ptr::null::<Program>(),
                )
            })
        },
    );
    matches!(result, Err(e) if e.errno == Errno::EFAULT)
}

/// `int seccomp(SECCOMP_GET_ACTION_AVAIL, 0, uint32_t *action)`: whether a filter may return it.
/// False too before Linux 4.14, which cannot say.
pub fn action_available(action: u32) -> bool {
    reading(
        "seccomp",
        || format!("SECCOMP_GET_ACTION_AVAIL, {action:#x}"),
        || {
            // SAFETY: the kernel reads one u32, which is live for the call.
            check(unsafe {
                libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action)
            })
        },
    )
    .is_ok()
}

/// `PTRACE_EVENT_STOP`: the stop that an interrupt causes.
const EVENT_STOP: i32 = 128;

fn ptrace(name: &'static str, request: i64, pid: i32, addr: u64, data: u64) -> SysResult<i64> {
    reading(
        "ptrace",
        || format!("{name}, {pid}, {addr}, {data:#x}"),
        // SAFETY: callers pass requests whose `data` is a number or null, or points to live memory
        // of the size that the request writes.
        || check(unsafe { libc::syscall(libc::SYS_ptrace, request, i64::from(pid), addr, data) }),
    )
}

/// `PTRACE_SEIZE`: becomes the tracer of a thread without stopping it. It ends when this thread
/// ends. Errors: `EPERM` (traced already, not permitted), `ESRCH`. See ptrace(2).
pub fn seize(pid: i32) -> SysResult<()> {
    ptrace("PTRACE_SEIZE", 0x4206, pid, 0, 0).map(drop)
}

/// `PTRACE_INTERRUPT`: stops a seized thread at the next chance.
pub fn interrupt(pid: i32) -> SysResult<()> {
    ptrace("PTRACE_INTERRUPT", 0x4207, pid, 0, 0).map(drop)
}

/// `PTRACE_DETACH`: lets it run on, with a signal that it was about to get (0 for none).
pub fn detach(pid: i32, signal: i32) -> SysResult<()> {
    ptrace("PTRACE_DETACH", 17, pid, 0, signal as u64).map(drop)
}

/// `pid_t waitpid(pid_t pid, int *status, WNOHANG | __WALL)` of a seized thread: the signal that it
/// stopped for (0 when it was our interrupt), `None` while it has not stopped.
/// Errors: `ECHILD`; `ESRCH` when it ended instead.
pub fn wait_stop(pid: i32) -> SysResult<Option<i32>> {
    reading(
        "waitpid",
        || format!("{pid}, WNOHANG|__WALL"),
        || {
            let mut status = 0;
            // SAFETY: `status` is live for the call.
            match check(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG | libc::__WALL) })? {
                0 => Ok(None),
                _ if !libc::WIFSTOPPED(status) => Err(Errno::ESRCH),
                _ if status >> 16 == EVENT_STOP => Ok(Some(0)),
                _ => Ok(Some(libc::WSTOPSIG(status))),
            }
        },
    )
}

/// `PTRACE_SECCOMP_GET_FILTER`: the instructions of one filter of a stopped tracee; 0 is the one
/// that was loaded first.
///
/// Errors: `ENOENT` (no such index), `EINVAL` (it has no filter), `EACCES` (no CAP_SYS_ADMIN in the
/// initial user namespace, or the caller is filtered itself), `EMEDIUMTYPE` (not made of classic
/// BPF), `EIO` (a kernel without CONFIG_CHECKPOINT_RESTORE).
pub fn get_filter(pid: i32, index: u64) -> SysResult<Vec<Instruction>> {
    const GET_FILTER: i64 = 0x420c;
    let name = "PTRACE_SECCOMP_GET_FILTER";
    let length = ptrace(name, GET_FILTER, pid, index, 0)?;
    let mut program = vec![Instruction::default(); length as usize];
    // The kernel writes exactly `length` instructions: a filter never changes once it is loaded.
    ptrace(name, GET_FILTER, pid, index, program.as_mut_ptr() as u64)?;
    Ok(program)
}
