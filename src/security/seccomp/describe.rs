//! What a program does to each call, found by walking all its paths.
//!
//! What it does: takes any filter (also one of another engine, dumped from a live process), fixes
//! the architecture and the number, leaves the arguments open, and follows every branch that can
//! still be taken. So nothing about how the filter was made has to be known.
//! Interface: [`describe`], [`Description`]. Read next: `dump.rs`.

use super::bpf::{self, Fault, Instruction, Verdict, code};
use super::disassemble::field;
use super::names;
use crate::spec::runtime::SeccompArch;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a filter does to the calls of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The architecture.
    pub architecture: SeccompArch,
    /// Every call that it has, by number.
    pub calls: Vec<CallVerdict>,
}

/// What happens to one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallVerdict {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What happens, unless an exception holds.
    pub verdict: Verdict,
    /// Arguments for which something else happens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
}

/// Arguments for which something else happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// `args[0] == 0x8`; several conditions are joined by "and".
    pub when: String,
    /// What happens then.
    pub verdict: Verdict,
}

impl Description {
    /// The calls with one verdict whatever their arguments, by verdict: as words, most calls first.
    pub fn by_verdict(&self) -> Vec<(Verdict, Vec<&'static str>)> {
        let mut groups: Vec<(Verdict, Vec<&'static str>)> = Vec::new();
        for call in self.calls.iter().filter(|c| c.exceptions.is_empty()) {
            match groups.iter_mut().find(|(v, _)| *v == call.verdict) {
                Some((_, names)) => names.push(call.name),
                None => groups.push((call.verdict, vec![call.name])),
            }
        }
        groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        groups
    }
    /// The calls whose verdict depends on their arguments.
    pub fn conditional(&self) -> impl Iterator<Item = &CallVerdict> {
        self.calls.iter().filter(|c| !c.exceptions.is_empty())
    }
    /// One call.
    pub fn call(&self, name: &str) -> Option<&CallVerdict> {
        self.calls.iter().find(|c| c.name == name)
    }
}

/// Describes a program for an architecture. Errors: the program is not valid.
pub fn describe(program: &[Instruction], architecture: SeccompArch) -> Result<Description, Fault> {
    let audit = names::audit_arch(architecture).unwrap_or_default();
    let calls = names::all(architecture)
        .into_iter()
        .map(|(number, name)| {
            let mut walk = Walk {
                program,
                number,
                audit,
                paths: Vec::new(),
            };
            walk.from(0, &Machine::default())?;
            let (verdict, exceptions) = summarise(&walk.paths);
            Ok(CallVerdict {
                number,
                name,
                verdict,
                exceptions,
            })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    Ok(Description {
        architecture,
        calls,
    })
}

/// The most paths of one call that are told apart.
const MAX_PATHS: usize = 1024;

/// A register's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Known(u32),
    /// A word of the call, masked.
    Field {
        offset: u32,
        mask: u32,
    },
    /// Something that is not followed.
    Open,
}

/// What is known of a field on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Knowledge {
    min: u32,
    max: u32,
    not: Vec<u32>,
    /// Bits were tested, which ranges cannot say: (mask, any set).
    bits: Vec<(u32, bool)>,
}

impl Default for Knowledge {
    fn default() -> Self {
        Knowledge {
            min: 0,
            max: u32::MAX,
            not: Vec::new(),
            bits: Vec::new(),
        }
    }
}

impl Knowledge {
    fn is_possible(&self) -> bool {
        self.min <= self.max && !(self.min == self.max && self.not.contains(&self.min))
    }
    /// Learns the outcome of a jump; false when that contradicts what is known.
    fn learn(&mut self, jump: u16, k: u32, taken: bool) -> bool {
        match (jump, taken) {
            (code::JEQ, true) => {
                if self.not.contains(&k) {
                    return false;
                }
                (self.min, self.max) = (self.min.max(k), self.max.min(k));
            }
            (code::JEQ, false) => self.not.push(k),
            (code::JGT, true) => match k.checked_add(1) {
                Some(k) => self.min = self.min.max(k),
                None => return false,
            },
            (code::JGT, false) => self.max = self.max.min(k),
            (code::JGE, true) => self.min = self.min.max(k),
            (code::JGE, false) => match k.checked_sub(1) {
                Some(k) => self.max = self.max.min(k),
                None => return false,
            },
            _ => {
                if self.bits.contains(&(k, !taken)) {
                    return false;
                }
                self.bits.push((k, taken));
            }
        }
        self.is_possible()
    }
}

type Known = BTreeMap<(u32, u32), Knowledge>;

#[derive(Debug, Clone)]
struct Machine {
    a: Value,
    x: Value,
    memory: [Value; 16],
    known: Known,
}

impl Default for Machine {
    fn default() -> Self {
        Machine {
            a: Value::Known(0),
            x: Value::Known(0),
            memory: [Value::Known(0); 16],
            known: Known::new(),
        }
    }
}

struct Walk<'a> {
    program: &'a [Instruction],
    number: u32,
    audit: u32,
    paths: Vec<(Known, Verdict)>,
}

impl Walk<'_> {
    fn load(&self, i: &Instruction, machine: &Machine) -> Value {
        match i.code & 0xe0 {
            0x00 => Value::Known(i.k),
            0x20 if i.k == bpf::OFFSET_NR => Value::Known(self.number),
            0x20 if i.k == bpf::OFFSET_ARCH => Value::Known(self.audit),
            0x20 => Value::Field {
                offset: i.k,
                mask: u32::MAX,
            },
            0x60 => machine.memory[(i.k & 15) as usize],
            _ => Value::Known(64),
        }
    }

    fn from(&mut self, start: usize, machine: &Machine) -> Result<(), Fault> {
        let mut machine = machine.clone();
        let mut at = start;
        loop {
            let fault = move |what| Fault { at, what };
            if self.paths.len() >= MAX_PATHS {
                return Err(fault("too many paths"));
            }
            let i = *self.program.get(at).ok_or(fault("beyond the end"))?;
            at += 1;
            let operand = match i.code & 0x08 {
                0 => Value::Known(i.k),
                _ => machine.x,
            };
            match i.code & 0x07 {
                code::LD => machine.a = self.load(&i, &machine),
                code::LDX => machine.x = self.load(&i, &machine),
                code::ST => machine.memory[(i.k & 15) as usize] = machine.a,
                code::STX => machine.memory[(i.k & 15) as usize] = machine.x,
                code::ALU => machine.a = compute(i.code, machine.a, operand),
                code::MISC if i.code & 0xf8 == 0 => machine.x = machine.a,
                code::MISC => machine.a = machine.x,
                code::RET => {
                    let verdict = match (i.code & 0x18, machine.a) {
                        (0x10, Value::Known(a)) => Verdict(a),
                        (0x10, _) => return Err(fault("returns what is not known")),
                        _ => Verdict(i.k),
                    };
                    self.paths.push((machine.known, verdict));
                    return Ok(());
                }
                _ if i.code & 0xf0 == 0 => at = at.saturating_add(i.k as usize),
                _ => {
                    let jump = i.code & !0x08;
                    let (yes, no) = (at + usize::from(i.jt), at + usize::from(i.jf));
                    match (machine.a, operand) {
                        (Value::Known(a), Value::Known(k)) => {
                            at = if holds(jump, a, k) { yes } else { no };
                        }
                        (Value::Field { offset, mask }, Value::Known(k)) => {
                            for (to, taken) in [(yes, true), (no, false)] {
                                let mut next = machine.clone();
                                let knowledge = next.known.entry((offset, mask)).or_default();
                                if knowledge.learn(jump, k, taken) {
                                    self.from(to, &next)?;
                                }
                            }
                            return Ok(());
                        }
                        _ => {
                            self.from(yes, &machine)?;
                            at = no;
                        }
                    }
                }
            }
        }
    }
}

fn holds(jump: u16, a: u32, k: u32) -> bool {
    match jump {
        code::JEQ => a == k,
        code::JGT => a > k,
        code::JGE => a >= k,
        _ => a & k != 0,
    }
}

fn compute(code: u16, a: Value, operand: Value) -> Value {
    match (a, operand) {
        (Value::Known(a), Value::Known(k)) => {
            // One instruction and a return compute it as the kernel does.
            let program = [
                Instruction {
                    code: code::LD,
                    k: a,
                    ..Instruction::default()
                },
                Instruction {
                    code: code & !0x08,
                    k,
                    ..Instruction::default()
                },
                Instruction {
                    code: code::RET_A,
                    ..Instruction::default()
                },
            ];
            match bpf::run(&program, &bpf::Data::default()) {
                Ok(Verdict(value)) => Value::Known(value),
                Err(_) => Value::Open,
            }
        }
        (Value::Field { offset, mask }, Value::Known(k)) if code & 0xf0 == 0x50 => Value::Field {
            offset,
            mask: mask & k,
        },
        _ => Value::Open,
    }
}

/// The verdict of most freedom to the arguments (the path that was walked last: every test failed),
/// and the exceptions to it.
fn summarise(paths: &[(Known, Verdict)]) -> (Verdict, Vec<Exception>) {
    let Some((_, last)) = paths.last() else {
        return (Verdict::KILL_PROCESS, Vec::new());
    };
    if paths.iter().all(|(_, v)| v == last) {
        return (*last, Vec::new());
    }
    let mut exceptions: Vec<Exception> = Vec::new();
    for (known, verdict) in paths.iter().filter(|(_, v)| v != last) {
        let when = words(known);
        let exception = Exception {
            when,
            verdict: *verdict,
        };
        if !exceptions.contains(&exception) {
            exceptions.push(exception);
        }
    }
    (*last, exceptions)
}

/// The conditions of a path in words. The two halves of an argument become one where the high half
/// has one value.
fn words(known: &Known) -> String {
    let mut parts = Vec::new();
    for ((offset, mask), knowledge) in known {
        let index = offset.saturating_sub(16) / 8;
        let is_arg = *offset >= 16;
        let high_key = (bpf::offset_of_arg(index, true), *mask);
        let is_high = is_arg && *offset == high_key.0;
        let whole_high = known
            .iter()
            .find(|((o, _), k)| is_arg && *o == high_key.0 && k.min == k.max)
            .map(|((_, m), k)| (*m, k.min));
        let low_is_tested = known
            .keys()
            .any(|(o, _)| *o == bpf::offset_of_arg(index, false));
        if is_high && whole_high.is_some() && low_is_tested {
            continue; // said together with the low half
        }
        let (name, high, high_mask) = match whole_high {
            Some((m, high)) if is_arg && !is_high => (
                format!("args[{index}]"),
                u64::from(high) << 32,
                u64::from(m) << 32,
            ),
            _ => (field(*offset), 0, 0),
        };
        let full_mask = match *mask {
            u32::MAX => u64::MAX,
            m => {
                u64::from(m)
                    | if high_mask == u64::MAX << 32 {
                        0
                    } else {
                        high_mask
                    }
            }
        };
        let name = match full_mask {
            u64::MAX => name,
            m => format!("{name} & {m:#x}"),
        };
        let value = |low: u32| high | u64::from(low);
        let mut say = |op: &str, low: u32| parts.push(format!("{name} {op} {:#x}", value(low)));
        if knowledge.min == knowledge.max {
            say("==", knowledge.min);
            continue;
        }
        if knowledge.min > 0 {
            say(">=", knowledge.min);
        }
        if knowledge.max < u32::MAX {
            say("<=", knowledge.max);
        }
        for not in &knowledge.not {
            if (knowledge.min..=knowledge.max).contains(not) {
                say("!=", *not);
            }
        }
        for (bits, set) in &knowledge.bits {
            let op = if *set { "!= 0" } else { "== 0" };
            parts.push(format!("{name} & {bits:#x} {op}"));
        }
    }
    if parts.is_empty() {
        return "some other arguments".into();
    }
    parts.join(" and ")
}
