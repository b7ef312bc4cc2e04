//! Classic BPF as seccomp knows it: the instructions, an assembler, a simulator.
//!
//! What it implements: linux/bpf_common.h, linux/seccomp.h, the kernel's checks in
//! kernel/seccomp.c (which instructions a filter may have) and net/core/filter.c (what they do).
//!
//! A program looks at one structure and returns one number:
//!
//! ```text
//!   offset  0   nr                    the call's number
//!           4   arch                  which table the number is of
//!           8   instruction pointer   64 bits
//!          16   args[0]               64 bits: on little-endian machines the low half first
//!          …    args[5]
//! ```
//!
//! Interface: [`Data`], [`Verdict`], [`run`], [`Assembler`]. Read next: `compile.rs`.

use crate::spec::runtime::SeccompAction;
pub use crate::sys::seccomp::Instruction;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::fmt;

/// The most instructions of a program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Instruction codes: class, size or operation, source.
pub mod code {
    #![allow(missing_docs)]
    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const MISC: u16 = 0x07;
    pub const ABS: u16 = 0x20;
    pub const LD_ABS: u16 = LD | ABS;
    pub const AND_K: u16 = ALU | 0x50;
    pub const JA: u16 = JMP;
    pub const JEQ: u16 = JMP | 0x10;
    pub const JGT: u16 = JMP | 0x20;
    pub const JGE: u16 = JMP | 0x30;
    pub const JSET: u16 = JMP | 0x40;
    pub const RET_K: u16 = RET;
    pub const RET_A: u16 = RET | 0x10;
}

/// The offset of the call's number.
pub const OFFSET_NR: u32 = 0;
/// The offset of the architecture.
pub const OFFSET_ARCH: u32 = 4;

/// The offset of one half of an argument.
pub fn offset_of_arg(index: u32, high: bool) -> u32 {
    16 + 8 * index
        + if high == cfg!(target_endian = "little") {
            4
        } else {
            0
        }
}

/// What a filter sees of a call (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Data {
    /// The call's number.
    pub nr: u32,
    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub arch: u32,
    /// Where the program made it.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> Option<u32> {
        let (value, shift) = match offset {
            OFFSET_NR => return Some(self.nr),
            OFFSET_ARCH => return Some(self.arch),
            8 | 12 => (
                self.instruction_pointer,
                offset == offset_of_arg(0, true) - 8,
            ),
            16..64 if offset.is_multiple_of(4) => {
                let index = (offset - 16) / 8;
                (
                    self.args[index as usize],
                    offset == offset_of_arg(index, true),
                )
            }
            _ => return None,
        };
        Some((value >> if shift { 32 } else { 0 }) as u32)
    }
}

/// The number that a filter returns: an action in the upper half, its data in the lower.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict(pub u32);

impl Verdict {
    /// The call is made.
    pub const ALLOW: Verdict = Verdict(0x7fff_0000);
    /// The call is made and logged.
    pub const LOG: Verdict = Verdict(0x7ffc_0000);
    /// The thread ends.
    pub const KILL_THREAD: Verdict = Verdict(0);
    /// The process ends.
    pub const KILL_PROCESS: Verdict = Verdict(0x8000_0000);
    /// A listener decides.
    pub const NOTIFY: Verdict = Verdict(0x7fc0_0000);

    /// The call fails with this errno.
    pub const fn errno(errno: u16) -> Verdict {
        Verdict(0x0005_0000 | errno as u32)
    }
    /// What an action of a document means; `data` is its errno or its data for the tracer.
    pub fn of(action: SeccompAction, data: u16) -> Verdict {
        match action {
            SeccompAction::Kill | SeccompAction::KillThread => Verdict::KILL_THREAD,
            SeccompAction::KillProcess => Verdict::KILL_PROCESS,
            SeccompAction::Trap => Verdict(0x0003_0000),
            SeccompAction::Errno => Verdict::errno(data),
            SeccompAction::Trace => Verdict(0x7ff0_0000 | u32::from(data)),
            SeccompAction::Allow => Verdict::ALLOW,
            SeccompAction::Log => Verdict::LOG,
            SeccompAction::Notify => Verdict::NOTIFY,
        }
    }
    /// The action without its data.
    pub fn action(self) -> u32 {
        self.0 & 0xffff_0000
    }
    /// Its data.
    pub fn data(self) -> u16 {
        self.0 as u16
    }
    /// Whether the call is made (or its fate left to a tracer or listener).
    pub fn permits(self) -> bool {
        matches!(
            self.action(),
            0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000 | 0x7fc0_0000
        )
    }
    /// What holds when several filters were loaded: the strictest action (the kernel compares the
    /// numbers as signed ones); of equals, the one of the filter that was loaded last, which is the
    /// last here too.
    pub fn strictest(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
        verdicts
            .into_iter()
            .fold(None, |strictest: Option<Verdict>, v| match strictest {
                Some(s) if (s.action() as i32) < v.action() as i32 => Some(s),
                _ => Some(v),
            })
            .unwrap_or(Verdict::ALLOW)
    }
}

impl fmt::Display for Verdict {
    /// `allow`, `errno EPERM`, `kill process`, …
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action() {
            0x7fff_0000 => f.write_str("allow"),
            0x7ffc_0000 => f.write_str("allow and log"),
            0x7ff0_0000 => write!(f, "trace {}", self.data()),
            0x7fc0_0000 => f.write_str("ask the listener"),
            0x0005_0000 => {
                // The kernel takes any higher number for its highest.
                let errno = nix::errno::Errno::from_raw(i32::from(self.data().min(4095)));
                match errno {
                    nix::errno::Errno::UnknownErrno => write!(f, "errno {}", self.data()),
                    known => write!(f, "errno {known:?}"),
                }
            }
            0x0003_0000 => f.write_str("trap"),
            0 => f.write_str("kill thread"),
            // Also for actions that the kernel does not know.
            _ => f.write_str("kill process"),
        }
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verdict({:#010x}: {self})", self.0)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Why a program cannot be run: the kernel would not have loaded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The number of the instruction.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Runs a program on a call, as the kernel does. Errors: an instruction that a filter may not have,
/// a load outside the structure, a jump or a fall beyond the end.
pub fn run(program: &[Instruction], data: &Data) -> Result<Verdict, Fault> {
    use code::*;
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0usize;
    loop {
        let fault = move |what| Fault { at, what };
        let i = program.get(at).ok_or(fault("beyond the end"))?;
        let slot = || -> Result<usize, Fault> {
            (i.k < 16)
                .then_some(i.k as usize)
                .ok_or(fault("no such memory word"))
        };
        at += 1;
        let operand = if i.code & 0x08 != 0 { x } else { i.k };
        match i.code & 0x07 {
            LD | LDX => {
                let value = match i.code & 0xe0 {
                    0x00 => i.k,
                    0x20 if i.code == LD_ABS => data.word(i.k).ok_or(fault("bad offset"))?,
                    0x60 => memory[slot()?],
                    0x80 => 64, // the length of the structure
                    _ => return Err(fault("this load is not allowed")),
                };
                *(if i.code & 0x07 == LD { &mut a } else { &mut x }) = value;
            }
            ST => memory[slot()?] = a,
            STX => memory[slot()?] = x,
            ALU => {
                a = match i.code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 if operand == 0 => return Ok(Verdict::KILL_THREAD),
                    0x30 => a / operand,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => return Err(fault("this operation is not allowed")),
                }
            }
            JMP => {
                let taken = match i.code & 0xf0 {
                    0x00 => {
                        at = at.saturating_add(i.k as usize);
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return Err(fault("no such jump")),
                };
                at += usize::from(if taken { i.jt } else { i.jf });
            }
            RET => return Ok(Verdict(if i.code & 0x18 == 0x10 { a } else { i.k })),
            _ => match i.code & 0xf8 {
                0x00 => x = a,
                _ => a = x,
            },
        }
    }
}

/// A place in a program under construction: how far from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// Builds a program from its end to its start, so that every jump's target exists already (BPF only
/// jumps forward). A conditional jump reaches 255 instructions; farther targets get a `ja` of their
/// own.
#[derive(Debug, Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }
    /// Puts an instruction before everything so far.
    pub fn push(&mut self, code: u16, k: u32) -> Label {
        self.reversed.push(Instruction {
            code,
            jt: 0,
            jf: 0,
            k,
        });
        Label(self.reversed.len() - 1)
    }
    /// How many instructions lie between the next one and a label.
    fn gap(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }
    /// A return; one that is near is used again.
    pub fn ret(&mut self, verdict: Verdict) -> Label {
        match self.returns.get(&verdict.0) {
            Some(label) if self.gap(*label) < 200 => *label,
            _ => {
                let label = self.push(code::RET_K, verdict.0);
                self.returns.insert(verdict.0, label);
                label
            }
        }
    }
    /// Goes on at a label that may not be the next instruction.
    pub fn goto(&mut self, label: Label) -> Label {
        match self.gap(label) {
            0 => label,
            gap => self.push(code::JA, gap as u32),
        }
    }
    /// A conditional jump with constant operand.
    pub fn jump(&mut self, code: u16, k: u32, when: Label, otherwise: Label) -> Label {
        // A trampoline for one target may push the other out of reach: take care of both until
        // they fit.
        let (mut when, mut otherwise) = (when, otherwise);
        loop {
            if self.gap(when) > 255 {
                when = self.push(code::JA, self.gap(when) as u32);
            } else if self.gap(otherwise) > 255 {
                otherwise = self.push(code::JA, self.gap(otherwise) as u32);
            } else {
                break;
            }
        }
        let (jt, jf) = (self.gap(when) as u8, self.gap(otherwise) as u8);
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }
    /// The program, first instruction first.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}
