//! `bpf(2)`, as far as device rules on cgroup v2 need it: load, attach, ask, read back.
//!
//! What it implements: bpf(2), the kernel's bpf/instruction-set (RFC 9669) for the encoding of
//! [`Insn`], `BPF_PROG_TYPE_CGROUP_DEVICE` of include/uapi/linux/bpf.h.
//! Interface: [`Insn`], [`prog_load_device`], [`prog_attach_device`], [`prog_query_device`],
//! [`prog_get_fd_by_id`], [`prog_instructions`].
//! Read next: `cgroups::devices`, which assembles the programs.

use super::{Errno, SysResult, check, reading, state_changing};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_ATTACH: i64 = 8;
const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_PROG_QUERY: i64 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;

/// One instruction, as the kernel lays it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Insn {
    /// Class, operation and source.
    pub code: u8,
    /// Destination register in the low half, source register in the high one.
    pub registers: u8,
    /// Signed offset: of a jump in instructions, of a load in bytes.
    pub offset: i16,
    /// Immediate value.
    pub imm: i32,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachArgs {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoArgs {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The first fields of `struct bpf_prog_info`; the kernel fills as much as it is given room for.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
}

fn bpf<T>(command: i64, attr: &mut T) -> Result<i64, Errno> {
    // SAFETY: `attr` is the union's member for this command, live and writable for the call, and
    // the size is its own; pointers in it are to buffers that the caller keeps alive meanwhile.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) })
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: only called with a descriptor that the kernel has just made for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// `int bpf(BPF_PROG_LOAD, union bpf_attr *attr, unsigned size)` of a device program.
///
/// The verifier proves that the program ends and reads nothing but its context. Errors: `EPERM`
/// (no CAP_BPF, or no CAP_NET_ADMIN in old kernels), `EINVAL` and `EACCES` (the verifier refused
/// it), `E2BIG` (too many instructions). See bpf(2).
pub fn prog_load_device(insns: &[Insn]) -> SysResult<OwnedFd> {
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        prog_name: *b"glassbox_device\0",
        expected_attach_type: BPF_CGROUP_DEVICE,
        ..Load::default()
    };
    state_changing(
        "bpf",
        |a| {
            write!(
                a,
                "BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions, \"Dual MIT/GPL\", \
                 \"glassbox_device\"",
                insns.len()
            )
        },
        || bpf(BPF_PROG_LOAD, &mut attr).map(owned),
    )
}

/// `int bpf(BPF_PROG_ATTACH, …)` of a device program to a cgroup v2 directory, beside any that is
/// there (`BPF_F_ALLOW_MULTI`): a device must please all, those of the groups above too.
///
/// Errors: `EPERM` (no CAP_BPF, or a group above has a program that allows no others), `EBADF`
/// (no cgroup v2 directory). See bpf(2).
pub fn prog_attach_device(cgroup: impl AsFd, prog: impl AsFd) -> SysResult<()> {
    let mut attr = AttachArgs {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: prog.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    state_changing(
        "bpf",
        |a| a.write_str("BPF_PROG_ATTACH, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI"),
        || bpf(BPF_PROG_ATTACH, &mut attr).map(drop),
    )
}

/// `int bpf(BPF_PROG_QUERY, …)`: the ids of the device programs on a cgroup v2 directory; with
/// `effective` those of the groups above as well.
///
/// Errors: `EPERM` (no CAP_NET_ADMIN), `EBADF`. See bpf(2).
pub fn prog_query_device(cgroup: impl AsFd, effective: bool) -> SysResult<Vec<u32>> {
    let mut ids = vec![0u32; 128];
    let mut attr = Query {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: if effective { BPF_F_QUERY_EFFECTIVE } else { 0 },
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    reading(
        "bpf",
        || "BPF_PROG_QUERY, BPF_CGROUP_DEVICE".into(),
        || bpf(BPF_PROG_QUERY, &mut attr),
    )?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// `int bpf(BPF_PROG_GET_FD_BY_ID, …)`. Errors: `ENOENT` (gone), `EPERM` (no CAP_SYS_ADMIN).
pub fn prog_get_fd_by_id(id: u32) -> SysResult<OwnedFd> {
    reading(
        "bpf",
        || format!("BPF_PROG_GET_FD_BY_ID, {id}"),
        || {
            let mut attr = [id, 0, 0, 0];
            bpf(BPF_PROG_GET_FD_BY_ID, &mut attr).map(owned)
        },
    )
}

/// `int bpf(BPF_OBJ_GET_INFO_BY_FD, …)`: a program's instructions as the kernel runs them.
///
/// Errors: `EPERM`; `ENODATA` when the kernel keeps them to itself (no CAP_BPF, or
/// net.core.bpf_jit_harden). See bpf(2).
pub fn prog_instructions(prog: impl AsFd) -> SysResult<Vec<Insn>> {
    let fd = prog.as_fd().as_raw_fd() as u32;
    let ask = |info: &mut ProgInfo| {
        let mut attr = InfoArgs {
            bpf_fd: fd,
            info_len: size_of::<ProgInfo>() as u32,
            info: info as *mut ProgInfo as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)
    };
    reading(
        "bpf",
        || format!("BPF_OBJ_GET_INFO_BY_FD, {fd}"),
        || {
            let mut info = ProgInfo::default();
            ask(&mut info)?;
            let mut insns = vec![Insn::default(); info.xlated_len as usize / size_of::<Insn>()];
            info = ProgInfo {
                xlated_len: (insns.len() * size_of::<Insn>()) as u32,
                xlated: insns.as_mut_ptr() as u64,
                ..ProgInfo::default()
            };
            ask(&mut info)?;
            if insns.is_empty() || info.xlated == 0 {
                return Err(Errno::ENODATA);
            }
            Ok(insns)
        },
    )
}
