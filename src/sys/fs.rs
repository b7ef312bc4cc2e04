//! File calls that shape a container: directories, devices, links, owners, and writing the
//! kernel's own files.
//!
//! What it implements: openat2(2), mkdirat(2), mknodat(2), symlinkat(2), linkat(2), unlinkat(2),
//! renameat2(2), fchmodat(2), fchownat(2), chdir(2), fchdir(2), write(2), setxattr(2).
//!
//! Files that only hold our own data (images, logs) may be read with std; whatever a set-up
//! *changes* goes through here, so that the journal has it.
//! Interface: [`open`], [`openat2`], [`mkdirat`], [`write_file`], … Read next: [`super::mount`].

use super::{Args, Errno, Flags, Names, SysResult, check, cstr, state_changing, written};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `AT_FDCWD` as a borrowed descriptor: paths are relative to the working directory.
pub const CWD: BorrowedFd<'static> = {
    // SAFETY: AT_FDCWD is no descriptor but a constant that every *at call knows; it is never −1.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
};

pub(super) const O_FLAGS: &[(u64, &str)] = &[
    (libc::O_WRONLY as u64, "O_WRONLY"),
    (libc::O_RDWR as u64, "O_RDWR"),
    (libc::O_CREAT as u64, "O_CREAT"),
    (libc::O_EXCL as u64, "O_EXCL"),
    (libc::O_TRUNC as u64, "O_TRUNC"),
    (libc::O_APPEND as u64, "O_APPEND"),
    (libc::O_NONBLOCK as u64, "O_NONBLOCK"),
    (libc::O_DIRECTORY as u64, "O_DIRECTORY"),
    (libc::O_NOFOLLOW as u64, "O_NOFOLLOW"),
    (libc::O_PATH as u64, "O_PATH"),
    (libc::O_NOCTTY as u64, "O_NOCTTY"),
    (libc::O_CLOEXEC as u64, "O_CLOEXEC"),
];

/// `RESOLVE_*` of openat2(2), with the kernel's names.
pub const RESOLVE_FLAGS: &[(u64, &str)] = &[
    (libc::RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"),
    (libc::RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"),
    (libc::RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"),
    (libc::RESOLVE_BENEATH, "RESOLVE_BENEATH"),
    (libc::RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"),
];

/// `int openat(int dirfd, const char *path, int flags, mode_t mode)` (`O_CLOEXEC` is added)
///
/// Recorded when it may change something (it creates or truncates). Errors: `ENOENT`, `EACCES`,
/// `ELOOP` (`O_NOFOLLOW` on a symbolic link), `ENXIO`. See open(2).
pub fn openat(dir: impl AsFd, path: impl AsRef<Path>, flags: i32, mode: u32) -> SysResult<OwnedFd> {
    let path = path.as_ref();
    let c = cstr("openat", path)?;
    let raw = dir.as_fd().as_raw_fd();
    let flags = flags | libc::O_CLOEXEC;
    let args = |a: &mut Args<'_>| {
        a.at(raw).path(path);
        if flags & (libc::O_ACCMODE | libc::O_PATH) == 0 {
            a.before("O_RDONLY|");
        }
        a.flags(flags as u64, Flags::Open);
        match flags & libc::O_CREAT {
            0 => Ok(()),
            _ => a.octal(mode).done(),
        }
    };
    let call = || {
        // SAFETY: `c` is a live CStr for the call.
        let fd = check(unsafe { libc::openat(raw, c.as_ptr(), flags, mode) })?;
        // SAFETY: a descriptor that the kernel has just made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    if flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
        state_changing("openat", args, call)
    } else {
        super::reading("openat", || written(args), call)
    }
}

/// [`openat`] relative to the working directory.
pub fn open(path: impl AsRef<Path>, flags: i32, mode: u32) -> SysResult<OwnedFd> {
    openat(CWD, path, flags, mode)
}

/// `int openat2(int dirfd, const char *path, struct open_how *how, size_t size)`
///
/// Like [`openat`], with `resolve` out of [`RESOLVE_FLAGS`]. With `RESOLVE_IN_ROOT` the directory
/// behind `dir` is the root for the whole resolution: `..`, absolute paths and symbolic links
/// cannot leave it, whoever changes them meanwhile. Errors: `EXDEV` (would leave), `ELOOP` (a link
/// that is not allowed), `EAGAIN` (a rename raced; retried here). See openat2(2).
pub fn openat2(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> SysResult<OwnedFd> {
    let path = path.as_ref();
    let c = cstr("openat2", path)?;
    let raw = dir.as_fd().as_raw_fd();
    // SAFETY: open_how is plain data for which all zeroes is a value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = if flags & libc::O_CREAT != 0 {
        mode.into()
    } else {
        0
    };
    how.resolve = resolve;
    let args = |a: &mut Args<'_>| {
        a.at(raw).path(path);
        a.before("{").flags(how.flags, Flags::Open);
        write!(a, "{}}}", Names(resolve, RESOLVE_FLAGS))
    };
    let call = || loop {
        // SAFETY: `c` and `how` are live for the call and the size is that of `how`.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_openat2,
                raw,
                c.as_ptr(),
                &how,
                size_of::<libc::open_how>(),
            )
        });
        match fd {
            Err(Errno::EAGAIN) => continue,
            Err(e) => return Err(e),
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        }
    };
    if flags & (libc::O_CREAT | libc::O_TRUNC) != 0 {
        state_changing("openat2", args, call)
    } else {
        super::reading("openat2", || written(args), call)
    }
}

/// `ssize_t write(int fd, const void *buf, size_t count)` of the whole text in one call, to one
/// of the kernel's files: it takes effect as a whole or fails as a whole.
///
/// `path` names the file in the record. Errors are the file's own: `EPERM`, `EINVAL`, `EBUSY`…
/// See write(2).
pub fn write(fd: impl AsFd, path: &Path, text: &str) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "write",
        |a| a.path(path).text(text).done(),
        || {
            // SAFETY: pointer and length describe `text`, live for the call.
            let n = check(unsafe { libc::write(raw, text.as_ptr().cast(), text.len()) } as i64)?;
            if n as usize == text.len() {
                Ok(n)
            } else {
                Err(Errno::EIO)
            }
        },
    )
    .map(drop)
}

/// Opens one of the kernel's files and writes `text` in one call: `open(path, O_WRONLY)`,
/// [`write`], close.
pub fn write_file(path: impl AsRef<Path>, text: &str) -> SysResult<()> {
    let path = path.as_ref();
    let fd = openat(CWD, path, libc::O_WRONLY, 0).map_err(|e| super::SysError {
        args: written(|a| a.path(path).before("O_WRONLY, to write ").text(text).done()),
        ..e
    })?;
    write(&fd, path, text)
}

macro_rules! path_call {
    ($(#[$doc:meta])* $name:ident, $syscall:expr, ($($arg:ident: $t:ty),*), $args:expr) => {
        $(#[$doc])*
        pub fn $name(dir: impl AsFd, path: impl AsRef<Path>, $($arg: $t),*) -> SysResult<()> {
            let path = path.as_ref();
            let c = cstr(stringify!($name), path)?;
            let raw = dir.as_fd().as_raw_fd();
            state_changing(
                stringify!($name),
                |a| {
                    let rest: fn(&mut Args<'_>, $($t),*) -> std::fmt::Result = $args;
                    rest(a.at(raw).path(path), $($arg),*)
                },
                // SAFETY: `c` is a live CStr for the call; the rest are integers.
                || check(unsafe { libc::syscall($syscall, raw, c.as_ptr(), $($arg),*) }).map(drop),
            )
        }
    };
}

path_call!(
    /// `int mkdirat(int dirfd, const char *path, mode_t mode)`
    ///
    /// Errors: `EEXIST`, `ENOENT` (a parent is missing), `EACCES`, `EROFS`. See mkdir(2).
    mkdirat, libc::SYS_mkdirat, (mode: u32), |a, mode| a.octal(mode).done()
);
path_call!(
    /// `int unlinkat(int dirfd, const char *path, int flags)`; flags: `AT_REMOVEDIR` (0x200) or 0.
    ///
    /// Errors: `ENOENT`, `EBUSY` (a mount point, or a cgroup with processes), `ENOTEMPTY`.
    /// See unlink(2), rmdir(2).
    unlinkat, libc::SYS_unlinkat, (flags: i32), |a, flags| a.hex(flags as u64).done()
);
path_call!(
    /// `int fchmodat(int dirfd, const char *path, mode_t mode)`: follows symbolic links.
    ///
    /// Errors: `EPERM` (not the owner), `EROFS`. See chmod(2).
    fchmodat, libc::SYS_fchmodat, (mode: u32), |a, mode| a.octal(mode).done()
);
path_call!(
    /// `int fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags)`
    ///
    /// Errors: `EPERM` (no CAP_CHOWN), `EINVAL` (the id is not mapped). See chown(2).
    fchownat, libc::SYS_fchownat, (uid: u32, gid: u32, flags: i32),
    |a, uid, gid, flags| write!(a, "{uid}, {gid}, {flags:#x}")
);
path_call!(
    /// `int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)`
    ///
    /// `dev` from [`makedev`]. Errors: `EPERM` (no CAP_MKNOD, or not the initial user namespace),
    /// `EEXIST`. See mknod(2).
    mknodat, libc::SYS_mknodat, (mode: u32, dev: u64), |a, mode, dev| write!(a, "{mode:#o}, {dev:#x}")
);

/// The device number out of major and minor. See makedev(3).
pub fn makedev(major: u32, minor: u32) -> u64 {
    libc::makedev(major, minor)
}

/// `int symlinkat(const char *target, int dirfd, const char *path)`
///
/// Errors: `EEXIST`, `EACCES`. See symlink(2).
pub fn symlinkat(target: &Path, dir: impl AsFd, path: impl AsRef<Path>) -> SysResult<()> {
    let path = path.as_ref();
    let (t, c) = (cstr("symlinkat", target)?, cstr("symlinkat", path)?);
    let raw = dir.as_fd().as_raw_fd();
    state_changing(
        "symlinkat",
        |a| a.path(target).at(raw).path(path).done(),
        // SAFETY: both strings are live for the call.
        || check(unsafe { libc::symlinkat(t.as_ptr(), raw, c.as_ptr()) }).map(drop),
    )
}

/// `int renameat2(int olddirfd, const char *old, int newdirfd, const char *new, unsigned flags)`
///
/// Replaces `new` atomically; flags: `RENAME_NOREPLACE` (1), `RENAME_EXCHANGE` (2). Errors:
/// `EXDEV` (another file system), `EEXIST`, `ENOTEMPTY`. See rename(2).
pub fn renameat2(
    old_dir: impl AsFd,
    old: impl AsRef<Path>,
    new_dir: impl AsFd,
    new: impl AsRef<Path>,
    flags: u32,
) -> SysResult<()> {
    let (old, new) = (old.as_ref(), new.as_ref());
    let (o, n) = (cstr("renameat2", old)?, cstr("renameat2", new)?);
    let (od, nd) = (old_dir.as_fd().as_raw_fd(), new_dir.as_fd().as_raw_fd());
    state_changing(
        "renameat2",
        |a| a.at(od).path(old).at(nd).path(new).hex(flags as u64).done(),
        || {
            // SAFETY: both strings are live for the call.
            check(unsafe {
                libc::syscall(libc::SYS_renameat2, od, o.as_ptr(), nd, n.as_ptr(), flags)
            })
            .map(drop)
        },
    )
}

/// `int linkat(int olddirfd, const char *old, int newdirfd, const char *new, int flags)`
///
/// Errors: `EXDEV`, `EEXIST`, `EPERM` (a directory, or protected_hardlinks). See link(2).
pub fn linkat(
    old_dir: impl AsFd,
    old: impl AsRef<Path>,
    new_dir: impl AsFd,
    new: impl AsRef<Path>,
    flags: i32,
) -> SysResult<()> {
    let (old, new) = (old.as_ref(), new.as_ref());
    let (o, n) = (cstr("linkat", old)?, cstr("linkat", new)?);
    let (od, nd) = (old_dir.as_fd().as_raw_fd(), new_dir.as_fd().as_raw_fd());
    state_changing(
        "linkat",
        |a| a.at(od).path(old).at(nd).path(new).hex(flags as u64).done(),
        // SAFETY: both strings are live for the call.
        || check(unsafe { libc::linkat(od, o.as_ptr(), nd, n.as_ptr(), flags) }).map(drop),
    )
}

/// `int chdir(const char *path)`. Errors: `ENOENT`, `ENOTDIR`, `EACCES`. See chdir(2).
pub fn chdir(path: impl AsRef<Path>) -> SysResult<()> {
    let path = path.as_ref();
    let c = cstr("chdir", path)?;
    state_changing(
        "chdir",
        |a| a.path(path).done(),
        // SAFETY: `c` is a live CStr for the call.
        || check(unsafe { libc::chdir(c.as_ptr()) }).map(drop),
    )
}

/// `long getcwd(char *buf, unsigned long size)`, the kernel's own: a directory that the root of this
/// process does not lead to comes back as `(unreachable)/…`, which the C library hides.
///
/// Errors: `ENOENT` (it was removed), `ERANGE` (longer than 4096 bytes). See getcwd(3).
pub fn getcwd() -> SysResult<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut buffer = vec![0u8; 4096];
    let size = buffer.len();
    // SAFETY: the buffer is live for the call and `size` is its length.
    let call = || check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), size) });
    let length = super::reading("getcwd", String::new, call)? as usize;
    buffer.truncate(length.saturating_sub(1)); // it ends with a NUL byte
    Ok(std::ffi::OsString::from_vec(buffer).into())
}

/// `int fchdir(int fd)`. Errors: `ENOTDIR`, `EACCES`. See chdir(2).
pub fn fchdir(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fchdir",
        |a| write!(a, "{raw}"),
        // SAFETY: the descriptor is borrowed for the call.
        || check(unsafe { libc::fchdir(raw) }).map(drop),
    )
}

/// `ssize_t sendfile(int out_fd, int in_fd, NULL, size_t count)`: copies from one file's position to
/// the other's, at most 1 GiB; how many bytes, 0 at the end. `path` is what is copied, for the record.
///
/// Errors: `EINVAL` (a file that cannot be mapped), `ENOSPC`. See sendfile(2).
pub fn sendfile(to: impl AsFd, from: impl AsFd, path: &Path) -> SysResult<usize> {
    let (to, from) = (to.as_fd().as_raw_fd(), from.as_fd().as_raw_fd());
    state_changing(
        "sendfile",
        |a| write!(a, "{to}, {from} ({path:?}), NULL, 1<<30"),
        || {
            let whole = std::ptr::null_mut();
            // SAFETY: a null offset means the file's own position; no other memory is involved.
            check(unsafe { libc::sendfile(to, from, whole, 1 << 30) } as i64).map(|n| n as usize)
        },
    )
}
