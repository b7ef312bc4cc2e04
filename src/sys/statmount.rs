//! The mounts of a namespace without entering it: `listmount`, `statmount`.
//!
//! What it implements: statmount(2), listmount(2), `struct statmount` of linux/mount.h (Linux 6.8;
//! option arrays 6.13, id maps 6.15), and `NS_GET_MNTNS_ID` of ioctl_nsfs(2).
//! Interface: [`mnt_ns_id`], [`listmount`], [`statmount`], [`StatMount`].
//! Read next: [`crate::inspect`], which falls back to mountinfo.

use super::{Errno, SysResult, check, reading};
use std::os::fd::{AsFd, AsRawFd};

/// `NS_GET_MNTNS_ID` = `_IOR(0xb7, 0x5, __u64)`.
const NS_GET_MNTNS_ID: libc::c_ulong = 0x8008_b705;
/// The number of statmount(2) on every architecture but alpha.
const SYS_STATMOUNT: libc::c_long = 457;
/// The number of listmount(2).
const SYS_LISTMOUNT: libc::c_long = 458;
/// `LSMT_ROOT`: list from the namespace's root mount on.
const LSMT_ROOT: u64 = u64::MAX;
/// Everything of `STATMOUNT_*` that this module understands; a kernel ignores what it lacks.
const WANTED: u64 = 0x7fff & !OPT_SEC_ARRAY & !SUPPORTED_MASK;
const MNT_ROOT: u64 = 8;
const MNT_POINT: u64 = 0x10;
const FS_TYPE: u64 = 0x20;
const MNT_OPTS: u64 = 0x80;
const SB_SOURCE: u64 = 0x200;
const OPT_ARRAY: u64 = 0x400;
const OPT_SEC_ARRAY: u64 = 0x800;
const SUPPORTED_MASK: u64 = 0x1000;
const MNT_UIDMAP: u64 = 0x2000;
const MNT_GIDMAP: u64 = 0x4000;

/// `struct mnt_id_req`, version 1 (32 bytes).
#[repr(C)]
struct MntIdReq {
    size: u32,
    spare: u32,
    mnt_id: u64,
    param: u64,
    mnt_ns_id: u64,
}

/// What statmount(2) says of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatMount {
    /// The mount's id, never used twice while the machine runs.
    pub id: u64,
    /// The id of the mount that it is attached to (its own for a root).
    pub parent: u64,
    /// The id as mountinfo prints it.
    pub old_id: u32,
    /// The parent's id as mountinfo prints it.
    pub old_parent: u32,
    /// The device of the file system: major and minor number.
    pub device: (u32, u32),
    /// `SB_*` flags of the file system; bit 0 is read-only.
    pub sb_flags: u32,
    /// `MOUNT_ATTR_*` of this mount.
    pub attributes: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`.
    pub propagation: u64,
    /// The peer group, when shared; else 0.
    pub peer_group: u64,
    /// The peer group that it receives from, when a slave; else 0.
    pub master: u64,
    /// The file system's type.
    pub fs_type: String,
    /// Which directory of the file system is at the mount point.
    pub root: String,
    /// Where it is mounted, seen from the namespace's root.
    pub point: String,
    /// The source as it was given to mount(2), where the kernel says it.
    pub source: Option<String>,
    /// The file system's options, one each.
    pub options: Vec<String>,
    /// The uid map of an id-mapped mount ("inside outside count"); nothing when not mapped or the
    /// kernel does not say.
    pub uid_map: Vec<String>,
    /// The gid map.
    pub gid_map: Vec<String>,
}

/// `int ioctl(int fd, NS_GET_MNTNS_ID, __u64 *id)`: a mount namespace's 64-bit id, for
/// [`listmount`]. Errors: `ENOTTY` (before Linux 6.11), `EINVAL` (another type). See ioctl_nsfs(2).
pub fn mnt_ns_id(fd: impl AsFd) -> SysResult<u64> {
    let raw = fd.as_fd().as_raw_fd();
    reading(
        "ioctl",
        || format!("{raw}, NS_GET_MNTNS_ID"),
        || {
            let mut id: u64 = 0;
            // SAFETY: `id` is live and of the type that the request writes.
            check(unsafe { libc::ioctl(raw, NS_GET_MNTNS_ID, &mut id) })?;
            Ok(id)
        },
    )
}

/// `ssize_t listmount(const struct mnt_id_req *req, uint64_t *mnt_ids, size_t nr, unsigned flags)`
///
/// The ids of all mounts of a namespace (0: the caller's own), parents first. Errors: `ENOSYS`
/// (before Linux 6.8), `EPERM` (no CAP_SYS_ADMIN over a foreign namespace), `ENOENT` (no such
/// namespace). See listmount(2).
pub fn listmount(mnt_ns_id: u64) -> SysResult<Vec<u64>> {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let last = all.last().copied().unwrap_or(0);
        let mut page = [0u64; 512];
        let n = reading(
            "listmount",
            || format!("LSMT_ROOT, after {last}, namespace {mnt_ns_id}"),
            || {
                let req = MntIdReq {
                    size: size_of::<MntIdReq>() as u32,
                    spare: 0,
                    mnt_id: LSMT_ROOT,
                    param: last,
                    mnt_ns_id,
                };
                // SAFETY: `req` says its own size; `page` is live and its length is passed.
                check(unsafe {
                    libc::syscall(SYS_LISTMOUNT, &req, page.as_mut_ptr(), page.len(), 0)
                })
            },
        )? as usize;
        all.extend_from_slice(&page[..n.min(page.len())]);
        if n < page.len() {
            return Ok(all);
        }
    }
}

/// `int statmount(const struct mnt_id_req *req, struct statmount *buf, size_t size, unsigned flags)`
///
/// Everything about one mount of a namespace (0: the caller's own). Errors: as [`listmount`];
/// `ENOENT` also when the mount has gone. See statmount(2).
pub fn statmount(mnt_ns_id: u64, id: u64) -> SysResult<StatMount> {
    let mut size = 4096usize;
    loop {
        // Eight-byte words, so that the buffer is aligned as the kernel's struct is.
        let mut words = vec![0u64; size / 8];
        let result = reading(
            "statmount",
            || format!("mount {id}, namespace {mnt_ns_id}"),
            || {
                let req = MntIdReq {
                    size: size_of::<MntIdReq>() as u32,
                    spare: 0,
                    mnt_id: id,
                    param: WANTED,
                    mnt_ns_id,
                };
                // SAFETY: `words` is live, zeroed, and its size in bytes is passed; the kernel
                // writes no more than that.
                check(unsafe { libc::syscall(SYS_STATMOUNT, &req, words.as_mut_ptr(), size, 0) })
            },
        );
        match result {
            Err(e) if e.errno == Errno::EOVERFLOW && size < 1 << 24 => size *= 4,
            Err(e) => return Err(e),
            Ok(_) => {
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
                return Ok(parse(&bytes));
            }
        }
    }
}

/// Reads `struct statmount` (fixed part of 512 bytes, then strings at offsets from its end).
fn parse(bytes: &[u8]) -> StatMount {
    const STRINGS: usize = 512;
    let u32_at = |at: usize| {
        bytes
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_ne_bytes)
    };
    let u64_at = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_ne_bytes)
    };
    let mask = u64_at(8);
    let strings = |offset: u32, count: usize| -> Vec<String> {
        bytes
            .get(STRINGS + offset as usize..)
            .unwrap_or_default()
            .split(|b| *b == 0)
            .take(count)
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect()
    };
    let text = |bit: u64, at: usize| {
        let found = mask & bit != 0;
        found.then(|| strings(u32_at(at), 1).pop().unwrap_or_default())
    };
    let list = |bit: u64, at: usize| match mask & bit != 0 {
        true => strings(u32_at(at + 4), u32_at(at) as usize),
        false => Vec::new(),
    };
    let options = match mask & OPT_ARRAY != 0 {
        true => list(OPT_ARRAY, 128),
        false => text(MNT_OPTS, 4)
            .unwrap_or_default()
            .split(',')
            .filter(|o| !o.is_empty())
            .map(str::to_string)
            .collect(),
    };
    StatMount {
        id: u64_at(40),
        parent: u64_at(48),
        old_id: u32_at(56),
        old_parent: u32_at(60),
        device: (u32_at(16), u32_at(20)),
        sb_flags: u32_at(32),
        attributes: u64_at(64),
        propagation: u64_at(72),
        peer_group: u64_at(80),
        master: u64_at(88),
        fs_type: text(FS_TYPE, 36).unwrap_or_default(),
        root: text(MNT_ROOT, 104).unwrap_or_default(),
        point: text(MNT_POINT, 108).unwrap_or_default(),
        source: text(SB_SOURCE, 124),
        options,
        uid_map: list(MNT_UIDMAP, 152),
        gid_map: list(MNT_GIDMAP, 160),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_this_namespace_is_found() {
        let ids = match listmount(0) {
            Ok(ids) => ids,
            Err(e) if e.errno == Errno::ENOSYS => return println!("SKIPPED: no listmount"),
            Err(e) => panic!("{e}"),
        };
        let mounts: Vec<StatMount> = ids.iter().filter_map(|id| statmount(0, *id).ok()).collect();
        let proc = mounts.iter().find(|m| m.point == "/proc").expect("a /proc");
        assert_eq!(proc.fs_type, "proc");
        assert_eq!(proc.root, "/");
    }
}
