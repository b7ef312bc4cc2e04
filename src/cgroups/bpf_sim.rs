//! Runs a BPF device program here, to tell what it allows.
//!
//! What it does: v2 has no file that lists a group's device rules, only programs, which any tool
//! may have written. `inspect` reads their instructions from the kernel and asks this interpreter
//! about the devices that matter. It knows arithmetic, jumps and loads from the context, which is
//! all that device programs of the known runtimes and of systemd use; another instruction is an
//! error, never a guess.
//! What it implements: RFC 9669 (BPF instruction set), the subset without memory and helpers.
//! Interface: [`run`], [`Verdict`], [`effective`]. Read next: `stat.rs`.

use super::devices::{Access, DeviceKind};
use crate::error::{Context, Result};
use crate::sys::bpf::{self, Insn};
use crate::sys::fs;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where the context would be; no number that a program makes by itself.
const CONTEXT: u64 = 0x10_0000_0000;
/// The verifier lets no program run longer.
const MOST_STEPS: usize = 1_000_000;

/// Runs a program on one access: true when it lets it pass. Errors: the reason why it cannot be
/// told (an instruction that is not known here).
pub fn run(
    program: &[Insn],
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: Access,
) -> std::result::Result<bool, String> {
    let kind = match kind {
        DeviceKind::Block => 1u32,
        DeviceKind::Char => 2,
        DeviceKind::All => return Err("a program is asked about one kind at a time".into()),
    };
    let words = [u32::from(access.0) << 16 | kind, major, minor];
    let context: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let mut r = [0u64; 16];
    r[1] = CONTEXT;
    let mut at = 0usize;
    for _ in 0..MOST_STEPS {
        let insn = program.get(at).ok_or("it jumps out of itself")?;
        at += 1;
        let (dst, src) = (
            usize::from(insn.registers & 15),
            usize::from(insn.registers >> 4),
        );
        let imm = i64::from(insn.imm) as u64;
        let operand = if insn.code & 0x08 != 0 { r[src] } else { imm };
        let unknown = || Err(format!("instruction {:#04x} is not known here", insn.code));
        match insn.code & 0x07 {
            // LDX: a load of 4, 2, 1 or 8 bytes
            1 => {
                let size = match insn.code & 0x18 {
                    0x00 => 4,
                    0x08 => 2,
                    0x10 => 1,
                    _ => 8,
                };
                let from = r[src]
                    .wrapping_sub(CONTEXT)
                    .wrapping_add(insn.offset as i64 as u64);
                let bytes = usize::try_from(from)
                    .ok()
                    .and_then(|f| context.get(f..f.checked_add(size)?))
                    .ok_or("it reads outside of its context")?;
                r[dst] = bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            }
            // LD: only the 64-bit immediate, in two slots
            0 if insn.code == 0x18 => {
                let high = program.get(at).ok_or("half an instruction")?.imm as u32;
                at += 1;
                r[dst] = u64::from(insn.imm as u32) | u64::from(high) << 32;
            }
            class @ (4 | 7) => match alu(insn.code & 0xf0, class == 7, r[dst], operand) {
                Some(value) => r[dst] = value,
                None => return unknown(),
            },
            class @ (5 | 6) => {
                if insn.code == 0x95 {
                    return Ok(r[0] as u32 & 1 != 0);
                }
                match jump(insn.code & 0xf0, class == 5, r[dst], operand) {
                    Some(true) => {
                        at = at
                            .checked_add_signed(insn.offset.into())
                            .ok_or("it jumps out of itself")?;
                    }
                    Some(false) => {}
                    None => return unknown(),
                }
            }
            _ => return unknown(),
        }
    }
    Err("it does not end".into())
}

fn alu(operation: u8, wide: bool, a: u64, b: u64) -> Option<u64> {
    let (a, b) = match wide {
        true => (a, b),
        false => (u64::from(a as u32), u64::from(b as u32)),
    };
    let bits = if wide { 63 } else { 31 };
    let value = match operation {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x30 => a.checked_div(b).unwrap_or(0),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << (b & bits),
        0x70 => a >> (b & bits),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(b).unwrap_or(a),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 if wide => ((a as i64) >> (b & bits)) as u64,
        0xc0 => ((a as i32) >> (b & bits)) as u32 as u64,
        _ => return None,
    };
    Some(if wide { value } else { u64::from(value as u32) })
}

fn jump(operation: u8, wide: bool, a: u64, b: u64) -> Option<bool> {
    let (a, b) = match wide {
        true => (a, b),
        false => (u64::from(a as u32), u64::from(b as u32)),
    };
    let (sa, sb) = match wide {
        true => (a as i64, b as i64),
        false => (i64::from(a as i32), i64::from(b as i32)),
    };
    Some(match operation {
        0x00 => true,
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => sa > sb,
        0x70 => sa >= sb,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => sa < sb,
        0xd0 => sa <= sb,
        _ => return None,
    })
}

/// What a v2 group's programs say of one access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All programs, those of the groups above too, let it pass (or there is none).
    Allowed,
    /// A program refuses it.
    Denied,
    /// It cannot be told: why.
    Unknown(String),
}

/// The device programs in force for a cgroup v2 directory, those of the groups above included.
/// Errors: `EPERM` without CAP_NET_ADMIN and CAP_BPF.
pub fn effective(dir: &Path) -> Result<Vec<Vec<Insn>>> {
    let fd = fs::open(dir, libc::O_RDONLY | libc::O_DIRECTORY, 0)
        .with_context(|| format!("cannot open {}", dir.display()))?;
    let ids = bpf::prog_query_device(&fd, true)
        .with_context(|| format!("cannot ask for the device programs of {}", dir.display()))?;
    ids.into_iter()
        .map(|id| {
            let prog = bpf::prog_get_fd_by_id(id)?;
            Ok(bpf::prog_instructions(&prog)?)
        })
        .collect::<Result<_>>()
        .context("cannot read a device program")
}

/// What programs say of one access: all of them have to let it pass.
pub fn verdict(
    programs: &[Vec<Insn>],
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: Access,
) -> Verdict {
    let mut unknown = None;
    for program in programs {
        match run(program, kind, major, minor, access) {
            Ok(true) => {}
            Ok(false) => return Verdict::Denied,
            Err(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Verdict::Allowed, Verdict::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(insns: &[(u8, u8, i16, i32)]) -> Vec<Insn> {
        let insn = |&(code, registers, offset, imm): &(u8, u8, i16, i32)| Insn {
            code,
            registers,
            offset,
            imm,
        };
        insns.iter().map(insn).collect()
    }

    #[test]
    fn programs_of_others_run_too() {
        // 32-bit operations and JMP32, as compilers write them: allow block devices only
        let others = program(&[
            (0x69, 0x12, 0, 0), // r2 = *(u16 *)(r1 + 0)
            (0xb4, 0x00, 0, 1), // w0 = 1
            (0x16, 0x02, 1, 1), // if w2 == 1 goto +1
            (0xb4, 0x00, 0, 0), // w0 = 0
            (0x95, 0, 0, 0),
        ]);
        let ask = |kind| run(&others, kind, 8, 0, Access::READ);
        assert_eq!(ask(DeviceKind::Block), Ok(true));
        assert_eq!(ask(DeviceKind::Char), Ok(false));
    }

    #[test]
    fn what_is_not_known_is_said() {
        let call = program(&[(0x85, 0, 0, 5), (0x95, 0, 0, 0)]);
        let ask = |p: &[Insn]| run(p, DeviceKind::Char, 1, 3, Access::READ);
        assert!(ask(&call).is_err());
        let endless = program(&[(0x05, 0, -1, 0)]);
        assert!(ask(&endless).unwrap_err().contains("does not end"));
        let outside = program(&[(0x61, 0x10, 12, 0), (0x95, 0, 0, 0)]);
        assert!(ask(&outside).is_err());
        assert!(ask(&[]).is_err());
        let all = [call, program(&[(0xb7, 0, 0, 0), (0x95, 0, 0, 0)])];
        let says = verdict(&all, DeviceKind::Char, 1, 3, Access::READ);
        assert_eq!(says, Verdict::Denied, "one that denies is enough");
    }
}
