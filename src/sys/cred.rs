//! Identity calls: user and group ids, supplementary groups, capability sets, keyrings.
//!
//! What it implements: credentials(7), capabilities(7), setresuid(2), setgroups(2), capset(2),
//! prctl(2) for the bounding and ambient sets, keyctl(2).
//!
//! glibc's setuid family is a broadcast to all threads; containers' init has one thread, and the
//! record must show the call that the kernel sees, so these are the raw calls.
//! Interface: [`setresuid`], [`setresgid`], [`setgroups`], [`CapSets`], [`capget`], [`capset`].
//! Read next: [`super::process`]; what the capabilities mean is in [`crate::security`].

use super::{SysResult, check, reading, state_changing};

/// `int setresuid(uid_t ruid, uid_t euid, uid_t suid)`
///
/// Errors: `EPERM` (no CAP_SETUID in the user namespace), `EINVAL` (the id is not mapped in this
/// user namespace). See setresuid(2).
pub fn setresuid(uid: u32) -> SysResult<()> {
    state_changing(
        "setresuid",
        |a| write!(a, "{uid}, {uid}, {uid}"),
        // SAFETY: takes integers only; changes this thread, the only one of its process.
        || check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop),
    )
}

/// `int setresgid(gid_t rgid, gid_t egid, gid_t sgid)`: errors as [`setresuid`].
pub fn setresgid(gid: u32) -> SysResult<()> {
    state_changing(
        "setresgid",
        |a| write!(a, "{gid}, {gid}, {gid}"),
        // SAFETY: as setresuid.
        || check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop),
    )
}

/// `int setgroups(size_t size, const gid_t *list)`
///
/// Errors: `EPERM` (no CAP_SETGID, or /proc/PID/setgroups of the user namespace is `deny`),
/// `EINVAL` (too many, or not mapped). See setgroups(2), user_namespaces(7).
pub fn setgroups(groups: &[u32]) -> SysResult<()> {
    state_changing(
        "setgroups",
        |a| write!(a, "{}, {groups:?}", groups.len()),
        || {
            // SAFETY: pointer and length describe `groups`, live for the call.
            check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
                .map(drop)
        },
    )
}

/// A process's three main capability sets, one bit a capability (bit n is capability number n).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSets {
    /// What the kernel checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What may survive execve of a file with inheritable capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// `int capget(cap_user_header_t, cap_user_data_t)` of the caller. See capget(2).
pub fn capget() -> SysResult<CapSets> {
    reading(
        "capget",
        || "0".into(),
        || {
            let mut header = CapHeader {
                version: CAPABILITY_VERSION_3,
                pid: 0,
            };
            let mut data = [CapData::default(); 2];
            // SAFETY: version 3 writes exactly two data structs; both are live.
            check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
            let join =
                |f: fn(&CapData) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
            Ok(CapSets {
                effective: join(|d| d.effective),
                permitted: join(|d| d.permitted),
                inheritable: join(|d| d.inheritable),
            })
        },
    )
}

/// `int capset(cap_user_header_t, const cap_user_data_t)` of the caller.
///
/// Errors: `EPERM` (a capability that is not permitted now). See capset(2).
pub fn capset(sets: CapSets) -> SysResult<()> {
    state_changing(
        "capset",
        |a| {
            write!(
                a,
                "effective={:#x}, permitted={:#x}, inheritable={:#x}",
                sets.effective, sets.permitted, sets.inheritable
            )
        },
        || {
            let header = CapHeader {
                version: CAPABILITY_VERSION_3,
                pid: 0,
            };
            let half = |shift: u32| CapData {
                effective: (sets.effective >> shift) as u32,
                permitted: (sets.permitted >> shift) as u32,
                inheritable: (sets.inheritable >> shift) as u32,
            };
            let data = [half(0), half(32)];
            // SAFETY: version 3 reads exactly two data structs; both are live.
            check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })
                .map(drop)
        },
    )
}

/// `int prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0)`: 1 or 0. `op` is that
/// operation's number. Errors: `EINVAL` (this kernel has no such capability). See prctl(2).
pub fn ambient_is_set(op: u64, capability: u8) -> SysResult<i64> {
    reading(
        "prctl",
        || format!("PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, {capability}"),
        || {
            let capability = u64::from(capability);
            // SAFETY: takes numbers only.
            check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, op, capability, 0, 0) })
        },
    )
}

/// `long keyctl(KEYCTL_SETPERM, key_serial_t key, key_perm_t perm)`
///
/// Who may do what with a key: a byte each for its possessor, user, group and others. Errors:
/// `EACCES`, `ENOKEY`. See keyctl_setperm(3).
pub fn set_key_permissions(key: i64, permissions: u32) -> SysResult<()> {
    state_changing(
        "keyctl",
        |a| write!(a, "KEYCTL_SETPERM, {key}, {permissions:#x}"),
        // SAFETY: takes integers only.
        || check(unsafe { libc::syscall(libc::SYS_keyctl, 5, key, permissions, 0, 0) }).map(drop),
    )
}

/// `long keyctl(KEYCTL_JOIN_SESSION_KEYRING, const char *name)`
///
/// A new session keyring, so that the container cannot read the caller's keys. Errors: `ENOSYS`,
/// `EDQUOT`, `EPERM` (a seccomp filter). See keyctl(2), session-keyring(7).
pub fn join_session_keyring(name: &str) -> SysResult<i64> {
    let c = super::cstr("keyctl", name)?;
    state_changing(
        "keyctl",
        |a| write!(a, "KEYCTL_JOIN_SESSION_KEYRING, {name:?}"),
        // SAFETY: `c` is live for the call.
        || check(unsafe { libc::syscall(libc::SYS_keyctl, 1, c.as_ptr(), 0, 0, 0) }),
    )
}
