//! File attributes beyond the mode: extended attributes, times, owners, by descriptor.
//!
//! What it implements: xattr(7), setxattr(2), removexattr(2), getxattr(2), listxattr(2),
//! utimensat(2), fchmod(2), fchown(2), statvfs(3).
//!
//! There is no `lsetxattrat` before Linux 6.13, so an attribute of a symbolic link is reached by
//! `/proc/self/fd/DIR/NAME`: the directory is a descriptor that cannot be swapped, and the `l`
//! calls do not follow the last name.
//! Interface: [`fsetxattr`], [`lsetxattr`], [`fremovexattr`], [`lgetxattr`], [`llistxattr`], [`utimensat`],
//! [`fchmod`], [`fchown`], [`free_bytes`]. Read next: [`crate::layers::apply`].

use super::{At, Errno, SysResult, check, cstr, reading, state_changing};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `int fsetxattr(int fd, const char *name, const void *value, size_t size, 0)`
///
/// Errors: `EPERM` (trusted.* and security.* need privileges in the first user namespace; user.*
/// only on files and directories), `ENOTSUP` (the file system has none), `ENOSPC`. See
/// setxattr(2).
pub fn fsetxattr(fd: impl AsFd, name: &[u8], value: &[u8]) -> SysResult<()> {
    let c = name_of("fsetxattr", name)?;
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsetxattr",
        |a| write!(a, "{raw}, {c:?}, {} bytes, 0", value.len()),
        || {
            // SAFETY: name and value are live for the call, the length is the value's.
            check(unsafe {
                libc::fsetxattr(raw, c.as_ptr(), value.as_ptr().cast(), value.len(), 0)
            })
            .map(drop)
        },
    )
}

/// `int lsetxattr(const char *path, …)` of `name` in the directory `dir`; a symbolic link is not
/// followed. Errors as [`fsetxattr`].
pub fn lsetxattr(dir: impl AsFd, file: &Path, name: &[u8], value: &[u8]) -> SysResult<()> {
    let path = beside(dir, file);
    let (p, c) = (cstr("lsetxattr", &path)?, name_of("lsetxattr", name)?);
    state_changing(
        "lsetxattr",
        |a| write!(a, "{path:?}, {c:?}, {} bytes, 0", value.len()),
        || {
            // SAFETY: path, name and value are live for the call, the length is the value's.
            check(unsafe {
                libc::lsetxattr(
                    p.as_ptr(),
                    c.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                    0,
                )
            })
            .map(drop)
        },
    )
}

/// `int fremovexattr(int fd, const char *name)`
///
/// Errors: `ENODATA` (there is no such attribute), `EPERM` as [`fsetxattr`]. See removexattr(2).
pub fn fremovexattr(fd: impl AsFd, name: &[u8]) -> SysResult<()> {
    let c = name_of("fremovexattr", name)?;
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fremovexattr",
        |a| write!(a, "{raw}, {c:?}"),
        || {
            // SAFETY: the name is a live CStr for the whole call.
            check(unsafe { libc::fremovexattr(raw, c.as_ptr()) }).map(drop)
        },
    )
}

/// `ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)`: `None` when
/// the file has no such attribute, or its file system has none at all. See getxattr(2).
pub fn lgetxattr(path: &Path, name: &[u8]) -> SysResult<Option<Vec<u8>>> {
    let (p, c) = (cstr("lgetxattr", path)?, name_of("lgetxattr", name)?);
    let result = reading(
        "lgetxattr",
        || format!("{path:?}, {c:?}"),
        || {
            sized(|buffer| {
                // SAFETY: path and name are live; the buffer's own length is passed, and 0 asks
                // only for the size.
                unsafe {
                    libc::lgetxattr(
                        p.as_ptr(),
                        c.as_ptr(),
                        buffer.as_mut_ptr().cast(),
                        buffer.len(),
                    )
                }
            })
        },
    );
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.errno, Errno::ENODATA | Errno::ENOTSUP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `ssize_t llistxattr(const char *path, char *list, size_t size)`: the names of all attributes
/// that this process may see, empty where the file system has none. See listxattr(2).
pub fn llistxattr(path: &Path) -> SysResult<Vec<Vec<u8>>> {
    let p = cstr("llistxattr", path)?;
    let list = reading(
        "llistxattr",
        || format!("{path:?}"),
        || {
            // SAFETY: the path is live; the buffer's own length is passed.
            sized(|buffer| unsafe {
                libc::llistxattr(p.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
            })
        },
    );
    let list = match list {
        Err(e) if e.errno == Errno::ENOTSUP => Vec::new(),
        other => other?,
    };
    let names = list.split(|b| *b == 0).filter(|n| !n.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// Asks with a small buffer, then for the size, then with a buffer of it.
fn sized(mut call: impl FnMut(&mut [u8]) -> isize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 256];
    loop {
        match check(call(&mut buffer) as i64) {
            Ok(n) => {
                buffer.truncate(n as usize);
                return Ok(buffer);
            }
            Err(Errno::ERANGE) => {
                let n = check(call(&mut []) as i64)?;
                buffer.resize(n as usize + 64, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Seconds and nanoseconds since 1970; seconds may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// 0 to 999 999 999, added to the seconds.
    pub nanoseconds: u32,
}

/// `int utimensat(int dirfd, const char *path, const struct timespec times[2],
/// AT_SYMLINK_NOFOLLOW)`: sets the times of access and of modification to the same moment; an
/// empty path means `dir` itself. Errors: `EPERM` (not the owner). See utimensat(2).
pub fn utimensat(dir: impl AsFd, path: impl AsRef<Path>, time: Time) -> SysResult<()> {
    let path = path.as_ref();
    let c = cstr("utimensat", path)?;
    let raw = dir.as_fd().as_raw_fd();
    let spec = libc::timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds.into(),
    };
    let times = [spec, spec];
    state_changing(
        "utimensat",
        |a| write!(a, "{}, {path:?}, {}", At(raw), time.seconds),
        || {
            let (pointer, flags) = match path.as_os_str().is_empty() {
                true => (std::ptr::null(), 0),
                false => (c.as_ptr(), libc::AT_SYMLINK_NOFOLLOW),
            };
            // SAFETY: the path is null (the descriptor itself) or live; `times` holds two entries.
            check(unsafe {
                libc::syscall(
                    libc::SYS_utimensat,
                    raw,
                    pointer,
                    std::ptr::addr_of!(times),
                    flags,
                )
            })
            .map(drop)
        },
    )
}

/// `int fchmod(int fd, mode_t mode)`. Errors: `EPERM`. See chmod(2).
pub fn fchmod(fd: impl AsFd, mode: u32) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fchmod",
        |a| write!(a, "{raw}, {mode:#05o}"),
        // SAFETY: takes integers.
        || check(unsafe { libc::fchmod(raw, mode) }).map(drop),
    )
}

/// `int fchown(int fd, uid_t owner, gid_t group)`: clears set-user-id bits and file capabilities,
/// so it comes before them. Errors: `EPERM`, `EINVAL` (not mapped). See chown(2).
pub fn fchown(fd: impl AsFd, uid: u32, gid: u32) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fchown",
        |a| write!(a, "{raw}, {uid}, {gid}"),
        // SAFETY: takes integers.
        || check(unsafe { libc::fchown(raw, uid, gid) }).map(drop),
    )
}

/// `int statvfs(const char *path, struct statvfs *buf)`: the bytes that this user may still write
/// on the file system of `path`. See statvfs(3).
pub fn free_bytes(path: &Path) -> SysResult<u64> {
    let c = cstr("statvfs", path)?;
    reading(
        "statvfs",
        || format!("{path:?}"),
        || {
            // SAFETY: statvfs is plain data for which all zeroes is a value.
            let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers are live for the call.
            check(unsafe { libc::statvfs(c.as_ptr(), &mut stat) })?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        },
    )
}

fn name_of(call: &'static str, name: &[u8]) -> SysResult<CString> {
    cstr(call, std::ffi::OsStr::from_bytes(name))
}

fn beside(dir: impl AsFd, name: &Path) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(dir.as_fd().as_raw_fd().to_string())
        .join(name)
}
