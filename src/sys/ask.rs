//! Calls that only ask the kernel what it can do, or what a process is.
//!
//! What it implements: `PIDFD_GET_INFO` (linux/pidfd.h, Linux 6.13), seccomp(2)'s
//! `SECCOMP_GET_ACTION_AVAIL`, listns(2) (6.19), landlock_create_ruleset(2), fanotify_init(2), kcmp(2), socket(2),
//! getrandom(2).
//! Nothing here changes anything that outlives the call, so nothing is recorded.
//! Interface: one function a question. Read next: [`crate::host::probe`].

use super::{Errno, SysResult, check, reading};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `ssize_t getrandom(void *buf, size_t buflen, unsigned int flags)`: bytes that nobody can foresee,
/// 256 at most, which the kernel gives whole.
///
/// Errors: `ENOSYS` (before Linux 3.17). See getrandom(2).
pub fn getrandom<const N: usize>() -> SysResult<[u8; N]> {
    const { assert!(N <= 256) };
    reading(
        "getrandom",
        || format!("{N}, 0"),
        || {
            let mut bytes = [0u8; N];
            // SAFETY: the kernel writes at most N bytes to `bytes`, which is live and that long.
            let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
            match usize::try_from(got) {
                Ok(all) if all == N => Ok(bytes),
                Ok(_) => Err(Errno::EINTR), // before the kernel's pool is ready: again
                Err(_) => Err(Errno::last()),
            }
        },
    )
}

/// What `PIDFD_GET_INFO` says of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PidfdInfo {
    /// Which of the fields below are filled: 1 ids, 2 credentials, 4 cgroup, 8 exit status.
    pub mask: u64,
    /// The inode number of the cgroup v2 directory.
    pub cgroup_id: u64,
    /// The thread's id in the caller's pid namespace.
    pub pid: u32,
    /// The process's id.
    pub tgid: u32,
    /// The parent's id.
    pub ppid: u32,
    /// uid and gid: real, effective, saved, file system, each uid before its gid.
    pub ids: [u32; 8],
    /// The wait status, once it has ended.
    pub exit_code: i32,
}

/// `int ioctl(int pidfd, PIDFD_GET_INFO, struct pidfd_info *info)`
///
/// Errors: `ENOTTY` (before Linux 6.13), `ESRCH` (ended and reaped). See linux/pidfd.h.
pub fn pidfd_get_info(pidfd: impl AsFd) -> SysResult<PidfdInfo> {
    /// `_IOWR(0xFF, 11, struct pidfd_info)` with the first published size, 64 bytes.
    const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
    const _: () = assert!(size_of::<PidfdInfo>() == 64);
    let raw = pidfd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, PIDFD_GET_INFO"),
        || {
            let mut info = PidfdInfo {
                mask: 7,
                ..PidfdInfo::default()
            };
            // SAFETY: `info` is live and has the size that the request's number carries.
            check(unsafe { libc::ioctl(raw, PIDFD_GET_INFO, &mut info) })?;
            Ok(info)
        },
    )
}

/// `int seccomp(SECCOMP_GET_ACTION_AVAIL, 0, const uint32_t *action)`
///
/// Whether a filter may return `action`. Errors: `EOPNOTSUPP` (not in this kernel), `EINVAL`
/// (before Linux 4.14), `ENOSYS` (no seccomp). See seccomp(2).
pub fn seccomp_action_available(action: u32) -> SysResult<()> {
    reading(
        "seccomp",
        || format!("SECCOMP_GET_ACTION_AVAIL, {action:#x}"),
        // SAFETY: `action` is live for the call, which reads 4 bytes.
        || check(unsafe { libc::syscall(libc::SYS_seccomp, 2, 0, &raw const action) }).map(drop),
    )
}

/// `int seccomp(SECCOMP_SET_MODE_FILTER, flags, NULL)`
///
/// Asks whether filter flags are known: with no filter at all the kernel answers `EFAULT` when it
/// knows the flags (returned as `Ok`) and `EINVAL` when it does not. See seccomp(2).
pub fn seccomp_flags_known(flags: u64) -> SysResult<()> {
    reading(
        "seccomp",
        || format!("SECCOMP_SET_MODE_FILTER, {flags:#x}, NULL"),
        || {
            // SAFETY: a null filter is refused before anything is installed.
            let raw = unsafe {
                libc::syscall(
                    libc::SYS_seccomp,
                    1,
                    flags,
                    std::ptr::null::<libc::c_void>(),
                )
            };
            match check(raw) {
                Err(Errno::EFAULT) => Ok(()),
                Err(e) => Err(e),
                Ok(_) => Err(Errno::EINVAL),
            }
        },
    )
}

/// `ssize_t listns(const struct ns_id_req *req, u64 *ids, size_t nr, unsigned flags)`
///
/// Whether the kernel can list namespaces; the number of those it named in a first page. Errors:
/// `ENOSYS` (before Linux 6.19), `EPERM`. See listns(2).
pub fn listns() -> SysResult<i64> {
    const SYS_LISTNS: libc::c_long = 470;
    /// `struct ns_id_req`.
    #[repr(C)]
    struct NsIdReq {
        size: u32,
        spare: u32,
        ns_id: u64,
        ns_type: u32,
        spare2: u32,
        user_ns_id: u64,
    }
    reading("listns", String::new, || {
        let req = NsIdReq {
            size: size_of::<NsIdReq>() as u32,
            spare: 0,
            ns_id: 0,
            ns_type: 0,
            spare2: 0,
            user_ns_id: 0,
        };
        let mut ids = [0u64; 64];
        // SAFETY: `req` says its own size; `ids` is live and its length is passed.
        check(unsafe { libc::syscall(SYS_LISTNS, &req, ids.as_mut_ptr(), ids.len(), 0) })
    })
}

/// `int fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_MNT, O_RDONLY)`
///
/// Whether mounts and unmounts can be watched. Errors: `EINVAL` (before Linux 6.15), `EPERM` (no
/// CAP_SYS_ADMIN), `ENOSYS`. See fanotify_init(2).
pub fn fanotify_mounts() -> SysResult<()> {
    const FAN_REPORT_MNT: u32 = 0x4000;
    reading(
        "fanotify_init",
        || "FAN_CLASS_NOTIF|FAN_REPORT_MNT".into(),
        || {
            // SAFETY: takes integers only.
            let fd = check(unsafe {
                libc::syscall(libc::SYS_fanotify_init, FAN_REPORT_MNT | 1, libc::O_RDONLY)
            })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
            Ok(())
        },
    )
}

/// `int kcmp(pid_t pid1, pid_t pid2, KCMP_VM, 0, 0)`: whether two processes share their memory.
/// Errors: `ENOSYS` (built without CONFIG_KCMP), `EPERM` (not allowed to ptrace). See kcmp(2).
pub fn kcmp_memory(pid1: i32, pid2: i32) -> SysResult<bool> {
    reading(
        "kcmp",
        || format!("{pid1}, {pid2}, KCMP_VM"),
        // SAFETY: takes integers only.
        || check(unsafe { libc::syscall(libc::SYS_kcmp, pid1, pid2, 1, 0, 0) }).map(|n| n == 0),
    )
}

/// `int clone3(NULL, 0)`: whether the call exists and no filter forbids it. `EINVAL`, the answer
/// to an argument that is too small, is returned as `Ok`. Errors: `ENOSYS`, `EPERM` (a seccomp
/// filter). See clone(2).
pub fn clone3_exists() -> SysResult<()> {
    reading(
        "clone3",
        || "NULL, 0".into(),
        || {
            // SAFETY: a size of 0 is refused before the pointer is looked at.
            let raw =
                unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<libc::c_void>(), 0) };
            match check(raw) {
                Err(Errno::EINVAL) => Ok(()),
                Err(e) => Err(e),
                Ok(_) => Err(Errno::ENOSYS),
            }
        },
    )
}

/// `int socket(domain, SOCK_RAW | SOCK_CLOEXEC, protocol)`, closed at once: whether this protocol
/// is in the kernel. Errors: `EAFNOSUPPORT`, `EPROTONOSUPPORT`. See socket(2).
pub fn socket_opens(domain: i32, protocol: i32) -> SysResult<()> {
    reading(
        "socket",
        || format!("{domain}, SOCK_RAW, {protocol}"),
        || {
            // SAFETY: takes integers only.
            let fd = check(unsafe {
                libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol)
            })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
            Ok(())
        },
    )
}

/// Sends one rtnetlink request on a new `AF_NETLINK` socket and reads the kernel's answer, in the
/// network namespace of the caller (a probe's own). The errno of the answer is the error.
/// See netlink(7), rtnetlink(7).
pub fn netlink_route(message: &[u8]) -> SysResult<()> {
    let socket = reading(
        "socket",
        || "AF_NETLINK, SOCK_RAW, NETLINK_ROUTE".into(),
        || {
            // SAFETY: takes integers only.
            let fd = check(unsafe {
                libc::socket(
                    libc::AF_NETLINK,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                    libc::NETLINK_ROUTE,
                )
            })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )?;
    super::socket::send(&socket, message)?;
    let answer = super::socket::recv(&socket)?.unwrap_or_default();
    // struct nlmsghdr (16 bytes), then the negative errno of NLMSG_ERROR; 0 acknowledges.
    let code = answer
        .get(16..20)
        .and_then(|b| b.try_into().ok())
        .map_or(-libc::EIO, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    Err(super::SysError {
        call: "netlink",
        args: "RTM_NEWLINK".into(),
        errno: Errno::from_raw(-code),
    })
}

/// `int fstat(int fd, struct stat *)`: the inode number, which is what /proc/PID/ns prints of a
/// namespace. See fstat(2), namespaces(7).
pub fn inode(fd: impl AsFd) -> SysResult<u64> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "fstat",
        || raw.to_string(),
        || nix::sys::stat::fstat(fd.as_fd()).map(|s| s.st_ino),
    )
}

/// `int statx(int fd, "", AT_EMPTY_PATH, STATX_MNT_ID, struct statx *)`: the id of the mount that the
/// descriptor was opened through, attached or not; since Linux 6.8 one that is never given again.
/// Errors: `ENOSYS` (before Linux 5.8). See statx(2).
pub fn mount_id(fd: impl AsFd) -> SysResult<u64> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "statx",
        || format!("{raw}, STATX_MNT_ID"),
        || {
            let mask = libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE;
            let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
            // SAFETY: `found` is live and as large as the kernel's struct, the path is an empty
            // string with its end.
            let raw = unsafe {
                let nowhere = c"".as_ptr();
                libc::statx(raw, nowhere, libc::AT_EMPTY_PATH, mask, found.as_mut_ptr())
            };
            check(raw)?;
            // SAFETY: all of it is integers, zero before the call.
            let found = unsafe { found.assume_init() };
            match found.stx_mask & mask {
                0 => Err(Errno::ENOSYS),
                _ => Ok(found.stx_mnt_id),
            }
        },
    )
}

/// `long sysconf(_SC_CLK_TCK)`: how many of the ticks in /proc/PID/stat are a second.
/// See sysconf(3).
pub fn ticks_per_second() -> u64 {
    // SAFETY: takes an integer only.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|n| *n > 0).unwrap_or(100)
}

/// `int landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)`
///
/// The version of Landlock's interface. Errors: `EOPNOTSUPP` (not enabled at boot), `ENOSYS` (not
/// in this kernel). See landlock_create_ruleset(2).
pub fn landlock_version() -> SysResult<i64> {
    const SYS_LANDLOCK_CREATE_RULESET: libc::c_long = 444;
    reading(
        "landlock_create_ruleset",
        || "NULL, 0, LANDLOCK_CREATE_RULESET_VERSION".into(),
        || {
            // SAFETY: with this flag and a size of 0 the kernel wants a null pointer.
            check(unsafe {
                libc::syscall(
                    SYS_LANDLOCK_CREATE_RULESET,
                    std::ptr::null::<libc::c_void>(),
                    0,
                    1,
                )
            })
        },
    )
}
