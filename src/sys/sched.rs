//! When, where and as what a process runs: its scheduler, I/O priority, processors, memory nodes,
//! execution domain.
//!
//! What it implements: sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2),
//! personality(2). A process id of 0 means the caller.
//! Interface: [`sched_setattr`], [`sched_getattr`], [`ioprio_set`], [`ioprio_get`],
//! [`sched_setaffinity`], [`sched_getaffinity`], [`set_mempolicy`], [`get_mempolicy`],
//! [`personality`], [`current_personality`]. Read next: `runtime/scheduling.rs`, which has the
//! words of config.json for them.

use super::{Errno, SysResult, check, reading, state_changing};

/// The scheduler's settings of one thread (`struct sched_attr` of linux/sched/types.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedAttr {
    /// `SCHED_OTHER` (0), `SCHED_FIFO` (1), `SCHED_RR` (2), `SCHED_BATCH` (3), `SCHED_IDLE` (5) or
    /// `SCHED_DEADLINE` (6).
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For OTHER and BATCH: -20 (first) to 19.
    pub nice: i32,
    /// For FIFO and RR: 1 to 99 (first).
    pub priority: u32,
    /// For DEADLINE: nanoseconds of work in each period.
    pub runtime: u64,
    /// For DEADLINE: nanoseconds from a period's start in which it is done.
    pub deadline: u64,
    /// For DEADLINE: nanoseconds between two starts.
    pub period: u64,
}

/// `int syscall(SYS_sched_setattr, pid_t pid, struct sched_attr *attr, unsigned int flags)`
///
/// Errors: `EPERM` (CAP_SYS_NICE in the initial user namespace is missing; for a realtime policy
/// also: the cpu cgroup has no realtime time), `EINVAL` (a value out of range, or one that the
/// policy has not), `EBUSY` (DEADLINE: the processors are promised to others already). See
/// sched_setattr(2).
pub fn sched_setattr(pid: i32, attr: &SchedAttr) -> SysResult<()> {
    // SAFETY: sched_attr is plain data for which all zeroes is a value.
    let mut raw: libc::sched_attr = unsafe { std::mem::zeroed() };
    raw.size = size_of::<libc::sched_attr>() as u32;
    raw.sched_policy = attr.policy;
    raw.sched_flags = attr.flags;
    raw.sched_nice = attr.nice;
    raw.sched_priority = attr.priority;
    raw.sched_runtime = attr.runtime;
    raw.sched_deadline = attr.deadline;
    raw.sched_period = attr.period;
    state_changing(
        "sched_setattr",
        |a| write!(a, "{pid}, {attr:?}, 0"),
        // SAFETY: `raw` is live for the call, and its first field is its size.
        || check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw, 0) }).map(drop),
    )
}

/// `int syscall(SYS_sched_getattr, pid_t pid, struct sched_attr *attr, unsigned int size, 0)`
///
/// Errors: `ESRCH`. See sched_setattr(2).
pub fn sched_getattr(pid: i32) -> SysResult<SchedAttr> {
    reading(
        "sched_getattr",
        || pid.to_string(),
        || {
            // SAFETY: sched_attr is plain data for which all zeroes is a value.
            let mut raw: libc::sched_attr = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::sched_attr>();
            // SAFETY: `raw` is live for the call, and `size` is its size.
            check(unsafe { libc::syscall(libc::SYS_sched_getattr, pid, &mut raw, size, 0) })?;
            Ok(SchedAttr {
                policy: raw.sched_policy,
                flags: raw.sched_flags,
                nice: raw.sched_nice,
                priority: raw.sched_priority,
                runtime: raw.sched_runtime,
                deadline: raw.sched_deadline,
                period: raw.sched_period,
            })
        },
    )
}

/// `IOPRIO_WHO_PROCESS` of linux/ioprio.h.
const WHO_PROCESS: i32 = 1;

/// `int syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid_t pid, int ioprio)`
///
/// `class` is 1 (realtime), 2 (best effort) or 3 (idle); `level` 0 (first) to 7. Errors: `EPERM`
/// (realtime without CAP_SYS_NICE or CAP_SYS_ADMIN in the initial user namespace), `EINVAL`.
/// See ioprio_set(2).
pub fn ioprio_set(pid: i32, class: u32, level: u32) -> SysResult<()> {
    state_changing(
        "ioprio_set",
        |a| {
            write!(
                a,
                "IOPRIO_WHO_PROCESS, {pid}, IOPRIO_PRIO_VALUE({class}, {level})"
            )
        },
        || {
            let value = (class << 13) | level;
            // SAFETY: takes integers only.
            check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, pid, value) }).map(drop)
        },
    )
}

/// `int syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, pid_t pid)`: class and level.
/// Errors: `ESRCH`. See ioprio_set(2).
pub fn ioprio_get(pid: i32) -> SysResult<(u32, u32)> {
    reading(
        "ioprio_get",
        || format!("IOPRIO_WHO_PROCESS, {pid}"),
        || {
            // SAFETY: takes integers only.
            let n = check(unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, pid) })? as u32;
            Ok((n >> 13, n & 0x1fff))
        },
    )
}

/// A set of numbers as the kernel's bit masks have it: bit N of word N/64.
fn mask_of(numbers: &[u32]) -> Vec<u64> {
    let mut mask = vec![0u64; 1];
    for n in numbers {
        let word = *n as usize / 64;
        mask.resize(mask.len().max(word + 1), 0);
        mask[word] |= 1 << (n % 64);
    }
    mask
}

/// The numbers of a bit mask.
fn numbers_of(mask: &[u64]) -> Vec<u32> {
    let bits = 0..mask.len() as u32 * 64;
    bits.filter(|n| mask[*n as usize / 64] & (1 << (n % 64)) != 0)
        .collect()
}

/// `int sched_setaffinity(pid_t pid, size_t cpusetsize, const cpu_set_t *mask)`
///
/// Errors: `EINVAL` (none of `cpus` exists and is in the process's cpuset), `EPERM`.
/// See sched_setaffinity(2).
pub fn sched_setaffinity(pid: i32, cpus: &[u32]) -> SysResult<()> {
    let mask = mask_of(cpus);
    state_changing(
        "sched_setaffinity",
        |a| write!(a, "{pid}, {}, {cpus:?}", mask.len() * 8),
        || {
            let bytes = mask.len() * 8;
            // SAFETY: `mask` is live for the call and has `bytes` bytes.
            check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, bytes, mask.as_ptr()) })
                .map(drop)
        },
    )
}

/// `int sched_getaffinity(pid_t pid, size_t cpusetsize, cpu_set_t *mask)`: the processors that it
/// may run on. Errors: `ESRCH`. See sched_setaffinity(2).
pub fn sched_getaffinity(pid: i32) -> SysResult<Vec<u32>> {
    reading(
        "sched_getaffinity",
        || pid.to_string(),
        || {
            let mut mask = vec![0u64; 128]; // 8192 processors, the most that Linux is built for
            let bytes = mask.len() * 8;
            // SAFETY: `mask` is live for the call and has `bytes` bytes.
            check(unsafe {
                libc::syscall(libc::SYS_sched_getaffinity, pid, bytes, mask.as_mut_ptr())
            })?;
            Ok(numbers_of(&mask))
        },
    )
}

/// `long set_mempolicy(int mode, const unsigned long *nodemask, unsigned long maxnode)`
///
/// `mode` is `MPOL_*` with `MPOL_F_*` flags in it. Errors: `EINVAL` (an unknown mode or flag; nodes
/// given to a mode without any, or missing; none of them is allowed by the cpuset), `EPERM`,
/// `ENOSYS` (a kernel without NUMA). See set_mempolicy(2).
pub fn set_mempolicy(mode: u32, nodes: &[u32]) -> SysResult<()> {
    let mask = mask_of(nodes);
    state_changing(
        "set_mempolicy",
        |a| write!(a, "{mode:#x}, {nodes:?}, {}", mask.len() * 64 + 1),
        || {
            // The kernel reads one bit less than it is told (set_mempolicy(2), "BUGS").
            let (pointer, bits) = match nodes {
                [] => (std::ptr::null(), 0),
                _ => (mask.as_ptr(), mask.len() * 64 + 1),
            };
            // SAFETY: `pointer` is null with no bits, or the live `mask` of that many bits.
            check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) }).map(drop)
        },
    )
}

/// `long get_mempolicy(int *mode, unsigned long *nodemask, unsigned long maxnode, NULL, 0)`: the
/// caller's mode (with its flags) and nodes. Errors: `ENOSYS`. See get_mempolicy(2).
pub fn get_mempolicy() -> SysResult<(u32, Vec<u32>)> {
    reading("get_mempolicy", String::new, || {
        let (mut mode, mut mask) = (0i32, vec![0u64; 16]); // MAX_NUMNODES is 1024
        let (bits, null) = (mask.len() * 64, std::ptr::null::<u8>());
        // SAFETY: `mode` and the mask of `bits` bits are live for the call; no address is asked of.
        check(unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &mut mode,
                mask.as_mut_ptr(),
                bits,
                null,
                0,
            )
        })?;
        Ok((mode as u32, numbers_of(&mask)))
    })
}

/// `int personality(unsigned long persona)`: sets the execution domain; the one before.
///
/// Errors: `EINVAL`; `EPERM` from a seccomp filter. See personality(2).
pub fn personality(persona: u32) -> SysResult<u32> {
    state_changing(
        "personality",
        |a| write!(a, "{persona:#x}"),
        // SAFETY: takes an integer.
        || check(unsafe { libc::personality(persona.into()) }).map(|n| n as u32),
    )
}

/// `int personality(0xffffffff)`: the present execution domain, unchanged. See personality(2).
pub fn current_personality() -> SysResult<u32> {
    const ASK: libc::c_ulong = 0xffff_ffff;
    reading(
        "personality",
        || "0xffffffff".into(),
        // SAFETY: takes an integer; this one changes nothing.
        || match unsafe { libc::personality(ASK) } {
            -1 => Err(Errno::last()),
            n => Ok(n as u32),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_and_numbers() {
        assert_eq!(mask_of(&[]), [0]);
        assert_eq!(mask_of(&[0, 63, 64]), [1 | 1 << 63, 1]);
        assert_eq!(numbers_of(&[1 | 1 << 63, 1]), [0, 63, 64]);
    }
}
