//! Mount calls: the classic mount(2), and the newer API of file descriptors.
//!
//! What it implements: mount(2), umount(2), pivot_root(2), chroot(2), open_tree(2), move_mount(2),
//! mount_setattr(2), fsopen(2), fspick(2), fsconfig(2), fsmount(2).
//! Interface: [`mount`], [`umount2`], [`pivot_root`], [`open_tree`], [`move_mount`],
//! [`mount_setattr`], [`fsopen`], [`fspick`], [`fsconfig_set_string`], [`fsconfig_create`],
//! [`fsconfig_reconfigure`], [`fsmount`].
//! Read next: [`super::fs`]; what the calls are for is in [`crate::namespaces`].

use super::{Flags, Names, SysResult, check, cstr, reading, state_changing};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The flags of mount(2), with the kernel's names.
pub const MS_FLAGS: &[(u64, &str)] = &[
    (libc::MS_RDONLY, "MS_RDONLY"),
    (libc::MS_NOSUID, "MS_NOSUID"),
    (libc::MS_NODEV, "MS_NODEV"),
    (libc::MS_NOEXEC, "MS_NOEXEC"),
    (libc::MS_SYNCHRONOUS, "MS_SYNCHRONOUS"),
    (libc::MS_REMOUNT, "MS_REMOUNT"),
    (libc::MS_MANDLOCK, "MS_MANDLOCK"),
    (libc::MS_DIRSYNC, "MS_DIRSYNC"),
    (libc::MS_NOATIME, "MS_NOATIME"),
    (libc::MS_NODIRATIME, "MS_NODIRATIME"),
    (libc::MS_BIND, "MS_BIND"),
    (libc::MS_MOVE, "MS_MOVE"),
    (libc::MS_REC, "MS_REC"),
    (libc::MS_SILENT, "MS_SILENT"),
    (libc::MS_UNBINDABLE, "MS_UNBINDABLE"),
    (libc::MS_PRIVATE, "MS_PRIVATE"),
    (libc::MS_SLAVE, "MS_SLAVE"),
    (libc::MS_SHARED, "MS_SHARED"),
    (libc::MS_RELATIME, "MS_RELATIME"),
    (libc::MS_STRICTATIME, "MS_STRICTATIME"),
];
const UMOUNT_FLAGS: &[(u64, &str)] = &[
    (libc::MNT_FORCE as u64, "MNT_FORCE"),
    (libc::MNT_DETACH as u64, "MNT_DETACH"),
    (libc::UMOUNT_NOFOLLOW as u64, "UMOUNT_NOFOLLOW"),
];

/// `int mount(const char *source, const char *target, const char *type, unsigned long flags,
/// const void *data)`
///
/// Errors: `EPERM` (no CAP_SYS_ADMIN in the mount namespace's owner, or a flag that the owner of
/// an inherited mount locked), `EBUSY`, `EINVAL` (bad superblock or option; the kernel log says
/// which), `ENODEV` (file system not in this kernel), `ENOENT`, `ENOTDIR` (a directory onto a file
/// or the reverse), `ENOSPC` (/proc/sys/fs/mount-max). See mount(2).
pub fn mount(
    source: Option<&Path>,
    target: &Path,
    fstype: Option<&str>,
    flags: u64,
    data: Option<&str>,
) -> SysResult<()> {
    let c_source = source.map(|s| cstr("mount", s)).transpose()?;
    let c_target = cstr("mount", target)?;
    let c_type = fstype.map(|s| cstr("mount", s)).transpose()?;
    let c_data = data.map(|s| cstr("mount", s)).transpose()?;
    let pointer =
        |c: &Option<std::ffi::CString>| c.as_ref().map_or(std::ptr::null(), |c| c.as_ptr());
    state_changing(
        "mount",
        |a| {
            a.maybe(source).path(target).maybe(fstype);
            a.flags(flags, Flags::Mount).maybe(data).done()
        },
        || {
            // SAFETY: every pointer is null or a live CString for the whole call; mount(2) copies
            // its strings.
            check(unsafe {
                libc::mount(
                    pointer(&c_source),
                    c_target.as_ptr(),
                    pointer(&c_type),
                    flags,
                    pointer(&c_data).cast(),
                )
            })
            .map(drop)
        },
    )
}

/// `int umount2(const char *target, int flags)`
///
/// Errors: `EBUSY` (in use; `MNT_DETACH` unmounts lazily), `EINVAL` (not a mount point, or locked),
/// `EPERM`. See umount(2).
pub fn umount2(target: &Path, flags: i32) -> SysResult<()> {
    let c = cstr("umount2", target)?;
    state_changing(
        "umount2",
        |a| {
            a.path(target);
            write!(a, "{}", Names(flags as u64, UMOUNT_FLAGS))
        },
        // SAFETY: `c` is a live CStr for the whole call.
        || check(unsafe { libc::umount2(c.as_ptr(), flags) }).map(drop),
    )
}

/// `int pivot_root(const char *new_root, const char *put_old)`
///
/// Makes `new_root` the root of the mount namespace and moves the old root to `put_old`.
/// Errors: `EINVAL` (`new_root` is not a mount point, its parent mount is shared, or the current
/// root is the initramfs), `EBUSY` (`new_root` is on the current root's mount), `EPERM`.
/// See pivot_root(2).
pub fn pivot_root(new_root: &Path, put_old: &Path) -> SysResult<()> {
    let new = cstr("pivot_root", new_root)?;
    let old = cstr("pivot_root", put_old)?;
    state_changing(
        "pivot_root",
        |a| a.path(new_root).path(put_old).done(),
        || {
            // SAFETY: both are live CStrs for the whole call.
            check(unsafe { libc::syscall(libc::SYS_pivot_root, new.as_ptr(), old.as_ptr()) })
                .map(drop)
        },
    )
}

/// `int chroot(const char *path)`
///
/// Changes what this process resolves `/` to; no wall by itself. Errors: `EPERM` (no
/// CAP_SYS_CHROOT), `ENOENT`, `ENOTDIR`. See chroot(2).
pub fn chroot(path: &Path) -> SysResult<()> {
    let c = cstr("chroot", path)?;
    state_changing(
        "chroot",
        |a| a.path(path).done(),
        // SAFETY: `c` is a live CStr for the whole call.
        || check(unsafe { libc::chroot(c.as_ptr()) }).map(drop),
    )
}

/// `OPEN_TREE_CLONE` of open_tree(2).
pub const OPEN_TREE_CLONE: u32 = 1;
/// `MOVE_MOUNT_F_EMPTY_PATH` of move_mount(2).
pub const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
/// `MOVE_MOUNT_T_EMPTY_PATH` of move_mount(2).
pub const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

pub(super) const OPEN_TREE_FLAGS: &[(u64, &str)] = &[
    (OPEN_TREE_CLONE as u64, "OPEN_TREE_CLONE"),
    (libc::O_CLOEXEC as u64, "OPEN_TREE_CLOEXEC"),
    (libc::AT_RECURSIVE as u64, "AT_RECURSIVE"),
    (libc::AT_EMPTY_PATH as u64, "AT_EMPTY_PATH"),
    (libc::AT_SYMLINK_NOFOLLOW as u64, "AT_SYMLINK_NOFOLLOW"),
];

/// `int open_tree(int dirfd, const char *path, unsigned int flags)`
///
/// With [`OPEN_TREE_CLONE`] a detached copy of the mount at `path` (a bind mount that is nowhere
/// yet). Errors: `EPERM`, `ENOENT`, `EINVAL` (unbindable). See open_tree(2).
pub fn open_tree(dirfd: impl AsFd, path: &Path, flags: u32) -> SysResult<OwnedFd> {
    let c = cstr("open_tree", path)?;
    let flags = flags | libc::O_CLOEXEC as u32;
    let dir = dirfd.as_fd().as_raw_fd();
    state_changing(
        "open_tree",
        |a| {
            a.at(dir)
                .path(path)
                .flags(flags.into(), Flags::OpenTree)
                .done()
        },
        || {
            // SAFETY: `c` is live for the call; the result is a descriptor of our own.
            let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir, c.as_ptr(), flags) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

pub(super) const MOVE_MOUNT_FLAGS: &[(u64, &str)] = &[
    (MOVE_MOUNT_F_EMPTY_PATH as u64, "MOVE_MOUNT_F_EMPTY_PATH"),
    (MOVE_MOUNT_T_EMPTY_PATH as u64, "MOVE_MOUNT_T_EMPTY_PATH"),
];

/// `int move_mount(int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)`
///
/// Attaches a detached mount, or moves one. With `MOVE_MOUNT_T_EMPTY_PATH` and an empty `to` the
/// target is the descriptor itself, so no path can be swapped in between. Errors: `EINVAL`
/// (shared parent), `EPERM`, `ENOTDIR`. See move_mount(2).
pub fn move_mount(
    from: impl AsFd,
    from_path: &Path,
    to: impl AsFd,
    to_path: &Path,
    flags: u32,
) -> SysResult<()> {
    let c_from = cstr("move_mount", from_path)?;
    let c_to = cstr("move_mount", to_path)?;
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    state_changing(
        "move_mount",
        |a| {
            a.at(from).path(from_path).at(to).path(to_path);
            a.flags(flags.into(), Flags::MoveMount).done()
        },
        || {
            // SAFETY: both paths are live for the call, both descriptors borrowed.
            check(unsafe {
                libc::syscall(
                    libc::SYS_move_mount,
                    from,
                    c_from.as_ptr(),
                    to,
                    c_to.as_ptr(),
                    flags,
                )
            })
            .map(drop)
        },
    )
}

/// The attributes of mount_setattr(2), with the kernel's names.
pub const MOUNT_ATTRS: &[(u64, &str)] = &[
    (libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
    (libc::MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
    (libc::MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
    (libc::MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
    (libc::MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
    (libc::MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
    (libc::MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
    (libc::MOUNT_ATTR_IDMAP, "MOUNT_ATTR_IDMAP"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, "MOUNT_ATTR_NOSYMFOLLOW"),
];

/// `int mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *, size_t)`
///
/// Changes attributes (`set`, `clear`: [`MOUNT_ATTRS`]), propagation (an `MS_*` flag or 0) and the
/// id map (`userns`) of a mount, with `recursive` of all below it in one go. Errors: `EINVAL`
/// (the file system cannot be id-mapped), `EPERM`, `EBUSY` (open for writing). See
/// mount_setattr(2).
pub fn mount_setattr(
    dirfd: impl AsFd,
    path: &Path,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
    userns: Option<&OwnedFd>,
) -> SysResult<()> {
    let c = cstr("mount_setattr", path)?;
    let dir = dirfd.as_fd().as_raw_fd();
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 }
        | if path.as_os_str().is_empty() {
            libc::AT_EMPTY_PATH
        } else {
            0
        };
    state_changing(
        "mount_setattr",
        |a| {
            a.at(dir).path(path).flags(flags as u64, Flags::OpenTree);
            a.before("{set=").flags(set, Flags::MountAttributes);
            a.before("clr=").flags(clear, Flags::MountAttributes);
            a.before("propagation=").flags(propagation, Flags::Mount);
            a.after("}").done()
        },
        || {
            // SAFETY: `c` and `attr` are live for the call; the size is that of `attr`.
            check(unsafe {
                libc::syscall(
                    libc::SYS_mount_setattr,
                    dir,
                    c.as_ptr(),
                    flags,
                    &attr,
                    size_of::<libc::mount_attr>(),
                )
            })
            .map(drop)
        },
    )
}

/// `int fsopen(const char *fsname, unsigned int flags)`
///
/// Begins a file system context. Errors: `ENODEV` (not in this kernel), `EPERM`. See fsopen(2).
pub fn fsopen(fstype: &str) -> SysResult<OwnedFd> {
    let c = cstr("fsopen", fstype)?;
    state_changing(
        "fsopen",
        |a| a.path(fstype).word("FSOPEN_CLOEXEC").done(),
        || {
            // SAFETY: `c` is live for the call.
            let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, c.as_ptr(), 1) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `int fspick(int dirfd, const char *path, unsigned int flags)`
///
/// Begins a context for a file system that exists: that of the mount whose root `fd` is. Errors:
/// `EINVAL` (nothing is mounted exactly there), `EPERM`. See fspick(2).
pub fn fspick(fd: impl AsFd) -> SysResult<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fspick",
        |a| write!(a, "{raw}, \"\", FSPICK_CLOEXEC|FSPICK_EMPTY_PATH"),
        || {
            // SAFETY: the string is a literal with its NUL; the kernel copies it.
            let fd = check(unsafe { libc::syscall(libc::SYS_fspick, raw, c"".as_ptr(), 9u32) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// `int fsconfig(int fd, FSCONFIG_SET_STRING, const char *key, const char *value, 0)`
///
/// Sets one option; with `lowerdir+` (Linux 6.5) overlayfs takes its layers one at a time, free of
/// mount(2)'s limit of one page. Errors: `EINVAL` (unknown option; reading `fd` tells the kernel's
/// own message). See fsconfig(2).
pub fn fsconfig_set_string(fd: impl AsFd, key: &str, value: &str) -> SysResult<()> {
    let (k, v) = (cstr("fsconfig", key)?, cstr("fsconfig", value)?);
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsconfig",
        |a| {
            a.at(raw).word("FSCONFIG_SET_STRING").path(key);
            a.text(value).word("0").done()
        },
        || {
            // SAFETY: both strings are live for the call; the kernel copies them.
            check(unsafe {
                libc::syscall(libc::SYS_fsconfig, raw, 1u32, k.as_ptr(), v.as_ptr(), 0)
            })
            .map(drop)
        },
    )
}

/// `int fsconfig(int fd, FSCONFIG_SET_FLAG, const char *key, NULL, 0)`: sets an option without a
/// value, such as `ro`. Errors as [`fsconfig_set_string`]. See fsconfig(2).
pub fn fsconfig_set_flag(fd: impl AsFd, key: &str) -> SysResult<()> {
    let k = cstr("fsconfig", key)?;
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsconfig",
        |a| {
            a.at(raw)
                .word("FSCONFIG_SET_FLAG")
                .path(key)
                .word("NULL, 0")
                .done()
        },
        || {
            // SAFETY: `k` is live for the call; a flag has no value, so NULL is what is asked for.
            check(unsafe {
                libc::syscall(
                    libc::SYS_fsconfig,
                    raw,
                    0u32,
                    k.as_ptr(),
                    std::ptr::null::<libc::c_char>(),
                    0,
                )
            })
            .map(drop)
        },
    )
}

/// `int fsconfig(int fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0)`
///
/// Makes the superblock out of the options given. Errors: as mount(2) for the file system.
/// See fsconfig(2).
pub fn fsconfig_create(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsconfig",
        |a| a.at(raw).word("FSCONFIG_CMD_CREATE, NULL, NULL, 0").done(),
        || {
            let null = std::ptr::null::<libc::c_char>();
            // SAFETY: the command takes neither key nor value.
            check(unsafe { libc::syscall(libc::SYS_fsconfig, raw, 6u32, null, null, 0) }).map(drop)
        },
    )
}

/// `int fsconfig(int fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)`
///
/// Gives the superblock of [`fspick`] the options given. Errors: as mount(2) with `MS_REMOUNT` for
/// the file system. See fsconfig(2).
pub fn fsconfig_reconfigure(fd: impl AsFd) -> SysResult<()> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsconfig",
        |a| write!(a, "{raw}, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0"),
        || {
            let null = std::ptr::null::<libc::c_char>();
            // SAFETY: the command takes neither key nor value.
            check(unsafe { libc::syscall(libc::SYS_fsconfig, raw, 7u32, null, null, 0) }).map(drop)
        },
    )
}

/// `int fsmount(int fsfd, unsigned int flags, unsigned int attr_flags)`
///
/// Turns a context into a detached mount with `attrs` out of [`MOUNT_ATTRS`]. Errors: `EINVAL`,
/// `EPERM`. See fsmount(2).
pub fn fsmount(fd: impl AsFd, attrs: u64) -> SysResult<OwnedFd> {
    let raw = fd.as_fd().as_raw_fd();
    state_changing(
        "fsmount",
        |a| {
            a.at(raw)
                .word("FSMOUNT_CLOEXEC")
                .flags(attrs, Flags::MountAttributes)
                .done()
        },
        || {
            // SAFETY: takes integers only.
            let fd = check(unsafe { libc::syscall(libc::SYS_fsmount, raw, 1u32, attrs as u32) })?;
            // SAFETY: a descriptor that the kernel has just made for us.
            Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
        },
    )
}

/// The kernel's messages about a failed file system context: `read(fsfd)`, one message a read,
/// "e invalid argument…". Empty when there are none. See fsconfig(2).
pub fn fs_messages(fd: impl AsFd) -> Vec<String> {
    let raw = fd.as_fd().as_raw_fd();
    let mut messages = Vec::new();
    loop {
        let mut buffer = [0u8; 512];
        let n = reading(
            "read",
            || format!("{raw}"),
            // SAFETY: the buffer is live and its length is passed.
            || check(unsafe { libc::read(raw, buffer.as_mut_ptr().cast(), buffer.len()) } as i64),
        );
        match n {
            Ok(n) if n > 0 => messages.push(
                String::from_utf8_lossy(&buffer[..n as usize])
                    .trim_end()
                    .to_string(),
            ),
            _ => return messages,
        }
    }
}
