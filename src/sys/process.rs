//! Process calls: `execve`, `waitid`, pidfds, signals, `prctl`, resource limits.
//!
//! What it implements: execve(2), execveat(2), waitid(2), pidfd_open(2), pidfd_send_signal(2),
//! prctl(2), prlimit(2), setsid(2), kill(2), `linux/pidfd.h`.
//! Interface: [`execve`], [`execveat`], [`waitid`], [`pidfd_open`], [`pidfd_exit`],
//! [`pidfd_send_signal`], [`prctl`],
//! [`setrlimit`], [`setsid`], [`run_program`], [`exit_now`].
//! Read next: [`super::cred`].

use super::{Args, Errno, SysResult, check, cstr, reading, state_changing, written};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It called exit with this status.
    Status(i32),
    /// This signal ended it; the flag says whether it dumped core.
    Signal(i32, bool),
}

impl Exit {
    /// The status as shells and docker report it: 128 + the signal's number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Status(n) => n,
            Exit::Signal(n, _) => 128 + n,
        }
    }
    /// Out of the status that wait(2) gives: the program's in bits 8–15, or a signal in bits 0–6,
    /// and in bit 7 whether it dumped core.
    pub fn of_wait(status: i32) -> Exit {
        match status & 0x7F {
            0 => Exit::Status(status >> 8 & 0xFF),
            signal => Exit::Signal(signal, status & 0x80 != 0),
        }
    }
}

/// `int execve(const char *path, char *const argv[], char *const envp[])`
///
/// Becomes another program; returns only on failure. Errors: `ENOENT` (the program, its `#!`
/// interpreter or its ELF loader does not exist), `EACCES` (not executable, or on a noexec mount),
/// `ENOEXEC` (neither ELF nor `#!`; or another architecture), `E2BIG`. See execve(2).
pub fn execve(
    path: &Path,
    argv: &[impl AsRef<OsStr>],
    env: &[impl AsRef<OsStr>],
) -> super::SysError {
    let args = |a: &mut Args<'_>| {
        let argv: Vec<_> = argv.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        a.path(path);
        write!(a, "{argv:?}, {} variables", env.len())
    };
    let build = || -> SysResult<(CString, Vec<CString>, Vec<CString>)> {
        Ok((
            cstr("execve", path)?,
            argv.iter()
                .map(|a| cstr("execve", a))
                .collect::<SysResult<_>>()?,
            env.iter()
                .map(|e| cstr("execve", e))
                .collect::<SysResult<_>>()?,
        ))
    };
    let (path, argv, env) = match build() {
        Ok(all) => all,
        Err(e) => return e,
    };
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|c| c.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<_>>()
    };
    let (argv, env) = (pointers(&argv), pointers(&env));
    super::record::announce("execve", &args);
    let start = super::record::start();
    // SAFETY: both arrays end with a null pointer and their strings live in `argv` and `env`'s
    // CStrings, which outlive the call; on success nothing of this process is left to be unsound.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    let errno = Errno::last();
    if let Some(start) = start {
        super::record::finish(start, "execve", &args, Err(errno));
    }
    super::SysError {
        call: "execve",
        args: written(args),
        errno,
    }
}

/// `int execveat(int fd, "", char *const argv[], char *const envp[], AT_EMPTY_PATH)`
///
/// Becomes the program that is open as `fd`, whatever its path leads to by now; returns only on
/// failure. The descriptor closes with it, for a program that is no script. Errors: those of
/// [`execve`]. See execveat(2).
pub fn execveat(
    fd: impl AsFd,
    argv: &[impl AsRef<OsStr>],
    env: &[impl AsRef<OsStr>],
) -> super::SysError {
    let raw = fd.as_fd().as_raw_fd();
    let (arguments, variables) = (argv.len(), env.len());
    let args = |a: &mut Args<'_>| {
        write!(
            a,
            "{raw}, \"\", {arguments} arguments, {variables} variables"
        )
    };
    let strings = |list: Vec<&OsStr>| -> SysResult<Vec<CString>> {
        list.into_iter().map(|s| cstr("execveat", s)).collect()
    };
    let argv = strings(argv.iter().map(AsRef::as_ref).collect());
    let env = strings(env.iter().map(AsRef::as_ref).collect());
    let (argv, env) = match (argv, env) {
        (Ok(argv), Ok(env)) => (argv, env),
        (Err(e), _) | (_, Err(e)) => return e,
    };
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        let strings = list.iter().map(|c| c.as_ptr());
        strings.chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(&argv), pointers(&env));
    let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    let call = || {
        // SAFETY: both arrays end with a null pointer and their strings live in CStrings that
        // outlive the call; on success nothing of this process is left to be unsound.
        check(unsafe {
            libc::syscall(
                libc::SYS_execveat,
                raw,
                path,
                argv.as_ptr(),
                env.as_ptr(),
                flags,
            )
        })
    };
    match state_changing("execveat", args, call) {
        Err(e) => e,
        Ok(_) => super::SysError {
            call: "execveat",
            args: written(args),
            errno: Errno::UnknownErrno,
        },
    }
}

/// `int prctl(PR_SET_NAME, const char *name)`: what ps(1) calls this process; the kernel keeps 15
/// bytes. See prctl(2).
pub fn set_name(name: &OsStr) -> SysResult<()> {
    let c = cstr("prctl", name)?;
    state_changing(
        "prctl",
        |a| write!(a, "PR_SET_NAME, {name:?}"),
        // SAFETY: `c` is live for the call, and the kernel copies at most 16 bytes of it, no further
        // than its end.
        || check(unsafe { libc::prctl(libc::PR_SET_NAME, c.as_ptr()) }).map(drop),
    )
}

/// `int waitid(P_PIDFD, pidfd, siginfo_t *, WEXITED | options)`
///
/// Reaps a child; `None` when `WNOHANG` was given and it still runs. Errors: `ECHILD` (not a child
/// of this process). See waitid(2).
pub fn waitid(pidfd: impl AsFd, options: i32) -> SysResult<Option<Exit>> {
    let raw = pidfd.as_fd().as_raw_fd();
    reading(
        "waitid",
        || format!("P_PIDFD, {raw}"),
        || {
            // SAFETY: siginfo_t is plain data for which all zeroes is a value.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is live for the call.
            check(unsafe {
                libc::waitid(
                    libc::P_PIDFD,
                    raw as u32,
                    &mut info,
                    libc::WEXITED | options,
                )
            })?;
            Ok(exit_of(&info))
        },
    )
}

/// `int waitid(P_ALL, 0, siginfo_t *, WEXITED | WNOHANG)`
///
/// Reaps any child that has ended, among them orphans that a subreaper inherited: its process id
/// and how it ended; `None` when none has. Errors: `ECHILD` (no children). See waitid(2).
pub fn waitid_any() -> SysResult<Option<(i32, Exit)>> {
    reading(
        "waitid",
        || "P_ALL, WNOHANG".into(),
        || {
            // SAFETY: siginfo_t is plain data for which all zeroes is a value.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is live for the call.
            check(unsafe {
                libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOHANG)
            })?;
            // SAFETY: waitid succeeded, so the SIGCHLD member of the union is the one filled in
            // (or zero when nothing had ended).
            Ok(exit_of(&info).map(|exit| (unsafe { info.si_pid() }, exit)))
        },
    )
}

fn exit_of(info: &libc::siginfo_t) -> Option<Exit> {
    // SAFETY: called after a successful waitid, which fills the SIGCHLD member (or leaves zero).
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    (pid != 0).then_some(match info.si_code {
        libc::CLD_EXITED => Exit::Status(status),
        code => Exit::Signal(status, code == libc::CLD_DUMPED),
    })
}

/// `int pidfd_open(pid_t pid, unsigned int flags)`
///
/// A descriptor that means this process for ever, even when its id is reused. Errors: `ESRCH` (no
/// such process), `EINVAL` (a thread's id). See pidfd_open(2).
pub fn pidfd_open(pid: i32) -> SysResult<OwnedFd> {
    reading(
        "pidfd_open",
        || pid.to_string(),
        || {
            // SAFETY: takes integers only.
            let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `struct pidfd_info` of `linux/pidfd.h`, its first published size (64 bytes). The kernel fills in
/// what `mask` asks for and says in `mask` what it has filled in.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    /// `PIDFD_INFO_*`
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    /// Real, effective, saved and file system ids: user, group of each.
    ids: [u32; 8],
    /// As wait(2) gives it.
    exit_code: i32,
}

/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
/// `exit_code` is wanted, or there.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `int ioctl(int pidfd, PIDFD_GET_INFO, struct pidfd_info *)` with `PIDFD_INFO_EXIT`
///
/// How a process ended that is not a child of the caller, asked of a pidfd that was opened while it
/// lived. `None` before its parent has reaped it. Errors: `EINVAL`, `ENOTTY` (Linux before 6.15
/// and 6.13: it does not tell). See `linux/pidfd.h`, pidfd_open(2).
pub fn pidfd_exit(pidfd: impl AsFd) -> SysResult<Option<Exit>> {
    let raw = pidfd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, PIDFD_GET_INFO, PIDFD_INFO_EXIT"),
        || {
            let mut info = PidfdInfo {
                mask: PIDFD_INFO_EXIT,
                ..PidfdInfo::default()
            };
            // SAFETY: `info` is live and has the size that is encoded in the request's number.
            check(unsafe { libc::ioctl(raw, PIDFD_GET_INFO as _, &mut info) })?;
            let there = info.mask & PIDFD_INFO_EXIT != 0;
            Ok(there.then_some(Exit::of_wait(info.exit_code)))
        },
    )
}

/// `int pidfd_send_signal(int pidfd, int sig, siginfo_t *info, unsigned int flags)`
///
/// Errors: `ESRCH` (it has ended), `EPERM`, `EINVAL` (no such signal). See pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> SysResult<()> {
    let raw = pidfd.as_fd().as_raw_fd();
    state_changing(
        "pidfd_send_signal",
        |a| write!(a, "{raw}, {signal}, NULL, 0"),
        || {
            let null = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: a null siginfo asks for the default one.
            check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, signal, null, 0) })
                .map(drop)
        },
    )
}

/// `int kill(pid_t pid, int sig)`: see kill(2). Signal 0 only asks. Errors: `ESRCH`, `EPERM`.
pub fn kill(pid: i32, signal: i32) -> SysResult<()> {
    state_changing(
        "kill",
        |a| write!(a, "{pid}, {signal}"),
        // SAFETY: takes integers only.
        || check(unsafe { libc::kill(pid, signal) }).map(drop),
    )
}

/// `int prctl(int op, unsigned long arg2, …)` for the operations that take numbers.
///
/// `name` is the operation's name for the record ("PR_SET_NO_NEW_PRIVS, 1"). Errors: `EINVAL`,
/// `EPERM`. See prctl(2).
pub fn prctl(name: &str, op: i32, arg2: u64, arg3: u64) -> SysResult<i64> {
    state_changing(
        "prctl",
        |a| a.write_str(name),
        // SAFETY: callers pass operations whose arguments are numbers, never pointers.
        || check(unsafe { libc::prctl(op, arg2, arg3, 0, 0) }),
    )
}

/// `int prctl(PR_GET_*, arg2)`: the reading operations. See prctl(2).
pub fn prctl_get(name: &str, op: i32, arg2: u64) -> SysResult<i64> {
    reading(
        "prctl",
        || name.to_string(),
        // SAFETY: callers pass operations whose arguments are numbers, never pointers.
        || check(unsafe { libc::prctl(op, arg2, 0, 0, 0) }),
    )
}

/// `pid_t setsid(void)`: a new session without a controlling terminal. Errors: `EPERM` (already
/// a group leader). See setsid(2).
pub fn setsid() -> SysResult<i32> {
    state_changing(
        "setsid",
        |_| Ok(()),
        // SAFETY: no arguments.
        || check(unsafe { libc::setsid() }).map(|n| n as i32),
    )
}

/// `int setrlimit(int resource, const struct rlimit *)`
///
/// Errors: `EPERM` (raising the hard limit without CAP_SYS_RESOURCE), `EINVAL` (soft above hard).
/// See getrlimit(2).
pub fn setrlimit(name: &str, resource: u32, soft: u64, hard: u64) -> SysResult<()> {
    state_changing(
        "prlimit64",
        |a| write!(a, "0, {name}, {{rlim_cur={soft}, rlim_max={hard}}}"),
        || {
            let limit = libc::rlimit {
                rlim_cur: soft,
                rlim_max: hard,
            };
            // SAFETY: `limit` is live for the call; no old limit is asked for. The syscall itself
            // takes any process; 0 is the caller.
            check(unsafe { libc::prlimit(0, resource, &limit, std::ptr::null_mut()) }).map(drop)
        },
    )
}

/// `int getrlimit(int resource, struct rlimit *)`: (soft, hard). See getrlimit(2).
pub fn getrlimit(resource: u32) -> SysResult<(u64, u64)> {
    reading(
        "prlimit64",
        || format!("0, {resource}"),
        || {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: `limit` is live for the call.
            check(unsafe { libc::prlimit(0, resource, std::ptr::null(), &mut limit) })?;
            Ok((limit.rlim_cur, limit.rlim_max))
        },
    )
}

/// Runs another program to its end, with no input: how it ended, and what it wrote to stderr.
///
/// `program` without a slash is looked up in PATH. Recorded as the `execve` that it is; what the
/// program itself calls is its own business. Errors: `ENOENT`, `EACCES`, as [`execve`].
/// See posix_spawn(3).
pub fn run_program(program: &Path, args: &[String]) -> SysResult<(Exit, String)> {
    use std::os::unix::process::ExitStatusExt;
    let output = std::cell::RefCell::new(None);
    state_changing(
        "execve",
        |a| write!(a, "{program:?}, {args:?}, in a child"),
        || {
            let result = std::process::Command::new(program)
                .args(args)
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .output();
            match result {
                Ok(done) => {
                    *output.borrow_mut() = Some(done);
                    Ok(())
                }
                Err(e) => Err(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))),
            }
        },
    )?;
    let Some(done) = output.into_inner() else {
        unreachable!("the call above succeeded, so it stored its output")
    };
    let exit = match (done.status.code(), done.status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0), done.status.core_dumped()),
    };
    Ok((exit, String::from_utf8_lossy(&done.stderr).into_owned()))
}

/// Begins another program as a child, as `command` says. Recorded as the `execve` that it is.
///
/// Errors: `ENOENT`, `EACCES`, as [`execve`]. See posix_spawn(3).
pub fn spawn(command: &mut std::process::Command) -> SysResult<std::process::Child> {
    let args = {
        let argv: Vec<_> = command
            .get_args()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        format!("{:?}, {argv:?}, in a child", command.get_program())
    };
    let mut child = None;
    state_changing(
        "execve",
        |a| a.write_str(&args),
        || match command.spawn() {
            Ok(spawned) => {
                child = Some(spawned);
                Ok(())
            }
            Err(e) => Err(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))),
        },
    )?;
    match child {
        Some(child) => Ok(child),
        None => unreachable!("the call above succeeded, so it stored its child"),
    }
}

/// `int fcntl(int fd, F_DUPFD, 3)`: a copy that stays open at execve, for a program that is told its
/// number. Close it when that program has been started. Errors: `EMFILE`. See fcntl(2).
pub fn inheritable(fd: impl AsFd) -> SysResult<OwnedFd> {
    let fd = fd.as_fd();
    reading(
        "fcntl",
        || format!("{}, F_DUPFD, 3", fd.as_raw_fd()),
        || {
            let copy = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(3))?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(copy) })
        },
    )
}

/// `mode_t umask(mode_t mask)`: the old mask. Cannot fail. See umask(2).
pub fn umask(mask: u32) -> u32 {
    state_changing(
        "umask",
        |a| write!(a, "{mask:#05o}"),
        // SAFETY: takes an integer; cannot fail.
        || Ok(unsafe { libc::umask(mask) } as u32),
    )
    .unwrap_or(0)
}

/// `void _exit(int status)`: ends this process at once, without running destructors or flushing
/// anything that was inherited from the parent. See _exit(2).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(status) }
}

/// `int close_range(unsigned first, unsigned last, CLOSE_RANGE_CLOEXEC)`
///
/// Marks all descriptors from `first` on to be closed at execve, so that none leaks into the
/// container. Errors: `ENOSYS` before Linux 5.11. See close_range(2).
pub fn close_range_cloexec(first: u32) -> SysResult<()> {
    state_changing(
        "close_range",
        |a| write!(a, "{first}, ~0, CLOSE_RANGE_CLOEXEC"),
        // SAFETY: only sets a flag on descriptors; none is closed under its owner's feet.
        || check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 4u32) }).map(drop),
    )
}

/// `int dup2(int oldfd, int newfd)` onto 0, 1 or 2, which nobody owns as `OwnedFd`.
/// Errors: `EBADF`. See dup(2).
pub fn dup2_stdio(old: impl AsFd, new: i32) -> SysResult<()> {
    let old = old.as_fd().as_raw_fd();
    assert!(
        (0..=2).contains(&new),
        "only the standard streams may be replaced"
    );
    reading(
        "dup2",
        || format!("{old}, {new}"),
        // SAFETY: the target is a standard stream, which no OwnedFd of ours owns.
        || check(unsafe { libc::dup2(old, new) }).map(drop),
    )
}

/// Resets every signal to its default action and unblocks all: what a fresh program expects.
/// `SIGKILL` and `SIGSTOP` cannot be changed and are skipped. See sigaction(2), sigprocmask(2).
pub fn reset_signals() {
    // SAFETY: sigset_t and sigaction are plain data; the sets are initialised by sigemptyset, and
    // SIG_DFL installs no handler.
    unsafe {
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut empty);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=libc::SIGRTMAX() {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
        libc::sigprocmask(libc::SIG_SETMASK, &empty, std::ptr::null_mut());
    }
}

/// Blocks every signal and returns the set, for a loop around [`next_signal`].
/// See sigprocmask(2).
pub fn block_all_signals() -> nix::sys::signal::SigSet {
    let all = nix::sys::signal::SigSet::all();
    let _ = all.thread_block(); // fails only for a wrong `how`
    all
}

/// `int sigwait(const sigset_t *set, int *sig)`: waits for a blocked signal and takes it.
/// See sigwait(3).
pub fn next_signal(set: &nix::sys::signal::SigSet) -> i32 {
    let mut signal = 0;
    loop {
        // SAFETY: the set and `signal` are live for the call.
        let error = unsafe { libc::sigwait(set.as_ref(), &mut signal) };
        if error == 0 {
            return signal;
        }
    }
}

/// Closes every descriptor from 3 on but `keep`, in a process that was just split off and never
/// returns to the code of its parent: nothing that the caller's shell had open stays open in it.
/// See close_range(2).
pub fn close_all_but(keep: &[std::os::fd::BorrowedFd<'_>]) {
    close_from_but(3, keep);
}

/// The same from the descriptor `first` on: those below it were given by the caller.
pub fn close_from_but(first: u32, keep: &[std::os::fd::BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut from = first;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > from {
            // SAFETY: the owners of the closed descriptors live in stack frames that this process
            // never returns to, so none of them is used or dropped again.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0u32) };
        }
        from = from.max(fd.saturating_add(1));
    }
}
