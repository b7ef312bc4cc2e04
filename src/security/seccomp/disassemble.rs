//! The disassembler: a program as text that can be read.
//!
//! What it implements: the mnemonics of the kernel's networking/filter document (`bpf_dbg`).
//! It follows what the accumulator holds along every path, so that a number compared with the
//! call's number prints as the call's name.
//! Interface: [`disassemble`]. Read next: `describe.rs`.

use super::bpf::{self, Instruction, Verdict, code};
use super::names;
use std::fmt::Write;

/// What the accumulator holds at an instruction, where all paths to it agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Unreached,
    Something,
    Number,
    Architecture,
}

/// Which architecture's numbers are looked at, where all paths agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    holds: Holds,
    audit: Option<u32>,
}

impl State {
    fn join(&mut self, other: State) {
        if self.holds == Holds::Unreached {
            *self = other;
            return;
        }
        if self.holds != other.holds {
            self.holds = Holds::Something;
        }
        if self.audit != other.audit {
            self.audit = None;
        }
    }
}

/// The program as text, one line an instruction: its number, mnemonic, operands, and a remark.
pub fn disassemble(program: &[Instruction]) -> String {
    let unreached = State {
        holds: Holds::Unreached,
        audit: None,
    };
    let mut states = vec![unreached; program.len() + 1];
    if let Some(first) = states.first_mut() {
        first.holds = Holds::Something;
    }
    let mut text = String::new();
    for (at, i) in program.iter().enumerate() {
        let state = states[at];
        let mut go = |to: usize, state: State| {
            if let Some(target) = states.get_mut(to) {
                target.join(state);
            }
        };
        match i.code & 0x07 {
            code::RET => {}
            code::JMP if i.code == code::JA => go((at + 1).saturating_add(i.k as usize), state),
            code::JMP => {
                let mut taken = state;
                if i.code == code::JEQ && state.holds == Holds::Architecture {
                    taken.audit = Some(i.k);
                }
                go(at + 1 + usize::from(i.jt), taken);
                go(at + 1 + usize::from(i.jf), state);
            }
            _ => go(
                at + 1,
                State {
                    holds: after(i, state.holds),
                    ..state
                },
            ),
        }
        let (what, remark) = line(at, i, state);
        match remark.is_empty() {
            true => _ = writeln!(text, "{at:04}  {what}"),
            false => _ = writeln!(text, "{at:04}  {what:<36} ; {remark}"),
        }
    }
    text
}

fn after(i: &Instruction, holds: Holds) -> Holds {
    match (i.code, i.k) {
        (code::LD_ABS, bpf::OFFSET_NR) => Holds::Number,
        (code::LD_ABS, bpf::OFFSET_ARCH) => Holds::Architecture,
        _ if i.code & 7 == code::LDX || i.code & 7 == code::ST || i.code & 7 == code::STX => holds,
        _ => Holds::Something,
    }
}

/// `args[0] low`, `nr`, …
pub(super) fn field(offset: u32) -> String {
    match offset {
        bpf::OFFSET_NR => "nr".into(),
        bpf::OFFSET_ARCH => "arch".into(),
        8 | 12 => "instruction pointer".into(),
        16..64 => {
            let index = (offset - 16) / 8;
            let half = if offset == bpf::offset_of_arg(index, true) {
                "high"
            } else {
                "low"
            };
            format!("args[{index}] {half}")
        }
        _ => String::new(),
    }
}

fn line(at: usize, i: &Instruction, state: State) -> (String, String) {
    let k = i.k;
    let operand = if i.code & 0x08 != 0 {
        "x".to_string()
    } else {
        format!("#{k:#x}")
    };
    let target = |skip: u8| at + 1 + usize::from(skip);
    match i.code & 0x07 {
        code::LD | code::LDX => {
            let name = if i.code & 0x07 == code::LD {
                "ld"
            } else {
                "ldx"
            };
            match i.code & 0xe0 {
                0x00 => (format!("{name} #{k:#x}"), String::new()),
                0x20 => (format!("{name} [{k}]"), field(k)),
                0x60 => (format!("{name} M[{k}]"), String::new()),
                _ => (format!("{name} #len"), String::new()),
            }
        }
        code::ST => (format!("st M[{k}]"), String::new()),
        code::STX => (format!("stx M[{k}]"), String::new()),
        code::ALU => {
            let names = [
                "add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor",
            ];
            let name = names.get(usize::from(i.code >> 4 & 0xf)).unwrap_or(&"?");
            (format!("{name} {operand}"), String::new())
        }
        code::JMP => {
            let name = match i.code & 0xf0 {
                0x00 => {
                    let to = (at + 1).saturating_add(k as usize);
                    return (format!("ja {to:04}"), String::new());
                }
                0x10 => "jeq",
                0x20 => "jgt",
                0x30 => "jge",
                _ => "jset",
            };
            let remark = match state.holds {
                Holds::Architecture => match names::arch_of(k, 0) {
                    Some(arch) => arch.name().to_string(),
                    None => String::new(),
                },
                Holds::Number => state
                    .audit
                    .and_then(|audit| names::name(names::arch_of(audit, k)?, k))
                    .unwrap_or_default()
                    .to_string(),
                _ => String::new(),
            };
            let (jt, jf) = (target(i.jt), target(i.jf));
            (format!("{name} {operand}, {jt:04}, {jf:04}"), remark)
        }
        code::RET if i.code & 0x18 == 0x10 => ("ret a".into(), String::new()),
        code::RET => (format!("ret #{k:#x}"), Verdict(k).to_string()),
        _ if i.code & 0xf8 == 0 => ("tax".into(), String::new()),
        _ => ("txa".into(), String::new()),
    }
}
