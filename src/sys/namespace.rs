//! Namespace calls: `clone3`, `unshare`, `setns`, and the ioctls that ask a namespace about itself.
//!
//! What it implements: namespaces(7), clone(2), setns(2), ioctl_nsfs(2).
//! Interface: [`CloneFlags`], [`clone3`], [`unshare`], [`setns`], [`sethostname`],
//! [`setdomainname`].
//! Read next: [`super::mount`]; what the calls are for is in [`crate::namespaces`].

use super::{Errno, Names, SysResult, check, cstr, flag_names, reading, state_changing};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The flags of clone(2) that the crate uses, with the kernel's names.
pub const CLONE_FLAGS: &[(u64, &str)] = &[
    (libc::CLONE_NEWNS as u64, "CLONE_NEWNS"),
    (libc::CLONE_NEWCGROUP as u64, "CLONE_NEWCGROUP"),
    (libc::CLONE_NEWUTS as u64, "CLONE_NEWUTS"),
    (libc::CLONE_NEWIPC as u64, "CLONE_NEWIPC"),
    (libc::CLONE_NEWUSER as u64, "CLONE_NEWUSER"),
    (libc::CLONE_NEWPID as u64, "CLONE_NEWPID"),
    (libc::CLONE_NEWNET as u64, "CLONE_NEWNET"),
    (CLONE_NEWTIME, "CLONE_NEWTIME"),
    (libc::CLONE_PIDFD as u64, "CLONE_PIDFD"),
    (libc::CLONE_PARENT as u64, "CLONE_PARENT"),
    (libc::CLONE_FILES as u64, "CLONE_FILES"),
    (CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"),
];
/// `CLONE_NEWTIME`: with `unshare` the new namespace is for the children (time_namespaces(7)).
pub const CLONE_NEWTIME: u64 = 0x80;
/// `CLONE_INTO_CGROUP` (Linux 5.7): the child starts in the cgroup v2 directory that is given.
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `CLONE_NEWPID|CLONE_NEWNS`, as it is written in the record.
pub fn clone_flag_names(flags: u64) -> String {
    flag_names(flags, CLONE_FLAGS)
}

/// What [`clone3`] returns, in each of the two processes.
pub enum Cloned {
    /// The caller: the child's process id in the caller's pid namespace, and a pidfd to it.
    Parent {
        /// The child's id.
        pid: i32,
        /// Refers to the child for as long as it is held, even when the id is reused.
        pidfd: OwnedFd,
    },
    /// The new process, on a copy of the caller's memory.
    Child,
}

impl super::Returned for Cloned {
    fn as_number(&self) -> i64 {
        match self {
            Cloned::Parent { pid, .. } => (*pid).into(),
            Cloned::Child => 0,
        }
    }
}

/// `long clone3(struct clone_args *args, size_t size)`
///
/// Splits this process like fork(2), with `flags` out of [`CLONE_FLAGS`] (`CLONE_PIDFD` is always
/// added) and, on cgroup v2, straight into the cgroup directory `into_cgroup`. The caller must be
/// single-threaded: the child has only the calling thread, and a lock held by another thread
/// would stay locked in it forever. While a recorder is on, the child's calls are recorded under
/// its id in the caller's pid namespace.
///
/// Errors: `EPERM` (no CAP_SYS_ADMIN and no user namespace asked for, or user namespaces are
/// restricted), `ENOSPC` (a limit in /proc/sys/user/max_*_namespaces, or 32 nested ones), `EAGAIN`
/// (process limit), `EBUSY` (into_cgroup has controllers enabled for its children), `EOPNOTSUPP`
/// (into_cgroup is a threaded domain). See clone(2).
pub fn clone3(flags: u64, into_cgroup: Option<&OwnedFd>) -> SysResult<Cloned> {
    let flags = flags
        | libc::CLONE_PIDFD as u64
        | if into_cgroup.is_some() {
            CLONE_INTO_CGROUP
        } else {
            0
        };
    let mut pidfd: i32 = -1;
    let recording = super::record::start();
    // The child records its calls under the id that the caller sees, which it cannot ask for in a
    // new pid namespace. CLONE_PARENT_SETTID has the kernel store it before the child runs; in
    // memory that both share, the child finds it too.
    let outer_id = recording.and_then(|_| super::record::SharedWord::new());
    let set_id = outer_id
        .as_ref()
        .map_or(0, |_| libc::CLONE_PARENT_SETTID as u64);
    let args = libc::clone_args {
        flags: flags | set_id,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: outer_id.as_ref().map_or(0, |word| word.address()),
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: into_cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args`, `pidfd` and `outer_id` are live for the whole call. Without CLONE_VM the child gets its
    // own copy of memory, so it behaves as after fork(2); the caller is single-threaded.
    let raw = unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) };
    let result = match check(raw) {
        Ok(0) => {
            if let Some(word) = outer_id {
                super::record::set_pid(word.get());
            }
            return Ok(Cloned::Child);
        }
        Ok(pid) => {
            // SAFETY: on success the kernel stored a new descriptor there, owned by nobody else.
            Ok(Cloned::Parent {
                pid: pid as i32,
                // SAFETY: on success the kernel stored a new descriptor there, owned by nobody else.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            })
        }
        Err(e) => Err(e),
    };
    if let Some(start) = recording {
        use super::Returned;
        super::record::finish(
            start,
            "clone3",
            &|a| write!(a, "{}", Names(flags, CLONE_FLAGS)),
            result.as_ref().map(Cloned::as_number).map_err(|e| *e),
        );
    }
    result.map_err(|errno| super::SysError {
        call: "clone3",
        args: clone_flag_names(flags),
        errno,
    })
}

/// `int unshare(int flags)`
///
/// Moves the caller into new namespaces; for pid and time it is the next child that moves.
/// Errors: as [`clone3`]; also `EINVAL` for a user namespace in a multi-threaded process.
/// See unshare(2).
pub fn unshare(flags: u64) -> SysResult<()> {
    state_changing(
        "unshare",
        |a| write!(a, "{}", Names(flags, CLONE_FLAGS)),
        // SAFETY: takes one integer; affects only this thread's namespaces.
        || check(unsafe { libc::unshare(flags as i32) }).map(drop),
    )
}

/// `int setns(int fd, int nstype)`
///
/// Joins the namespace behind `fd` (a file of /proc/PID/ns), or with a pidfd those of a process
/// that `nstype` names. Errors: `EPERM` (no CAP_SYS_ADMIN in the owning user namespace), `EINVAL`
/// (`fd` is of another type; a user namespace that the caller is already in; multi-threaded).
/// See setns(2).
pub fn setns(fd: impl AsFd, nstype: u64) -> SysResult<()> {
    let fd = fd.as_fd().as_raw_fd();
    state_changing(
        "setns",
        |a| write!(a, "{fd}, {}", Names(nstype, CLONE_FLAGS)),
        // SAFETY: the descriptor is borrowed for the call.
        || check(unsafe { libc::setns(fd, nstype as i32) }).map(drop),
    )
}

/// `int sethostname(const char *name, size_t len)`
///
/// Sets the name of the caller's UTS namespace. Errors: `EPERM`, `EINVAL` (over 64 bytes).
/// See sethostname(2).
pub fn sethostname(name: &str) -> SysResult<()> {
    state_changing(
        "sethostname",
        |a| write!(a, "{name:?}"),
        // SAFETY: pointer and length describe `name`, which lives through the call.
        || check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop),
    )
}

/// `int setdomainname(const char *name, size_t len)`
///
/// Sets the NIS domain name of the caller's UTS namespace. Errors as [`sethostname`].
/// See setdomainname(2).
pub fn setdomainname(name: &str) -> SysResult<()> {
    state_changing(
        "setdomainname",
        |a| write!(a, "{name:?}"),
        // SAFETY: pointer and length describe `name`, which lives through the call.
        || check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop),
    )
}

/// `NS_GET_USERNS` of ioctl_nsfs(2).
pub const NS_GET_USERNS: libc::c_ulong = 0xb701;
/// `NS_GET_PARENT` of ioctl_nsfs(2).
pub const NS_GET_PARENT: libc::c_ulong = 0xb702;
/// `NS_GET_NSTYPE` of ioctl_nsfs(2).
pub const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
/// `NS_GET_OWNER_UID` of ioctl_nsfs(2).
pub const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;

/// `int ioctl(int fd, NS_GET_USERNS | NS_GET_PARENT)`
///
/// A descriptor for the owning user namespace, or for the parent (user and pid namespaces only).
/// Errors: `EPERM` (the answer lies outside the caller's own user or pid namespace), `EINVAL` (a
/// parent was asked of a type that has none). See ioctl_nsfs(2).
pub fn ns_get_fd(fd: impl AsFd, request: libc::c_ulong) -> SysResult<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    let name = if request == NS_GET_USERNS {
        "NS_GET_USERNS"
    } else {
        "NS_GET_PARENT"
    };
    reading(
        "ioctl",
        || format!("{raw}, {name}"),
        || {
            // SAFETY: these two requests take no argument and return a new descriptor.
            let fd = check(unsafe { libc::ioctl(raw, request) })?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `int ioctl(int fd, NS_GET_NSTYPE)`: the `CLONE_NEW*` flag of the namespace's type.
/// Errors: `ENOTTY` (not a namespace file). See ioctl_nsfs(2).
pub fn ns_get_nstype(fd: impl AsFd) -> SysResult<u64> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, NS_GET_NSTYPE"),
        // SAFETY: takes no argument.
        || check(unsafe { libc::ioctl(raw, NS_GET_NSTYPE) }).map(|n| n as u64),
    )
}

/// `int ioctl(int fd, NS_GET_OWNER_UID, uid_t *uid)`: the user id that made a user namespace.
/// Errors: `EINVAL` (not a user namespace). See ioctl_nsfs(2).
pub fn ns_get_owner_uid(fd: impl AsFd) -> SysResult<u32> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, NS_GET_OWNER_UID"),
        || {
            let mut uid: libc::uid_t = 0;
            // SAFETY: `uid` is live and of the type that the request writes.
            check(unsafe { libc::ioctl(raw, NS_GET_OWNER_UID, &mut uid) })?;
            Ok(uid)
        },
    )
}

/// `int pidfd_getfd(int pidfd, int targetfd, 0)`, then `int ioctl(sock, SIOCGSKNS)`: the network
/// namespace that another process's socket was made in; `None` when it is not a socket that
/// belongs to one. Errors: `EPERM` (not allowed to trace the process), `EBADF`
/// (it has closed it). See pidfd_getfd(2).
pub fn socket_namespace(pidfd: impl AsFd, target: i32) -> SysResult<Option<OwnedFd>> {
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    let raw = pidfd.as_fd().as_raw_fd();
    let socket = reading(
        "pidfd_getfd",
        || format!("{raw}, {target}, 0"),
        || {
            // SAFETY: takes integers and returns a new descriptor.
            let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, raw, target, 0) })?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )?;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let Ok(fd) = check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) }) else {
        return Ok(None);
    };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// `int kcmp(pid_t pid1, pid_t pid2, KCMP_FILE, fd1, fd2)`: whether two descriptors are one open
/// file. Errors: `EPERM` (not allowed to ptrace), `ENOSYS` (built without CONFIG_KCMP).
/// See kcmp(2).
pub fn kcmp_file(pid1: i32, fd1: i32, pid2: i32, fd2: i32) -> SysResult<bool> {
    reading(
        "kcmp",
        || format!("{pid1}, {pid2}, KCMP_FILE, {fd1}, {fd2}"),
        // SAFETY: takes integers only.
        || check(unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, 0, fd1, fd2) }).map(|n| n == 0),
    )
}

/// Opens a namespace file such as /proc/PID/ns/net: `open(path, O_RDONLY|O_CLOEXEC)`.
/// Errors: `ENOENT` (no such process), `EACCES` (not allowed to ptrace it). See namespaces(7).
pub fn open_ns(path: impl AsRef<std::path::Path>) -> SysResult<OwnedFd> {
    let path = path.as_ref();
    let c = cstr("open", path)?;
    reading(
        "open",
        || format!("{path:?}, O_RDONLY|O_CLOEXEC"),
        || {
            // SAFETY: `c` is a live NUL-terminated string for the call.
            let fd = check(unsafe { libc::open(c.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) })?;
            if fd < 0 {
                return Err(Errno::EBADF);
            }
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}
