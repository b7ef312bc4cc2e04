//! The compiler: the rules of config.json become one BPF program.
//!
//! What it implements: config-linux.md, "Seccomp"; what runc and libseccomp do where it is silent:
//!
//! - a name that an architecture does not have is skipped, and so is a rule that only says what the
//!   default action says;
//! - a rule without arguments wins over rules with arguments; of these the first that matches;
//! - a rule that names one argument twice is several rules, one a condition: a range cannot be
//!   written, but a list of values can;
//! - a call that is newer than every call of the rules fails with ENOSYS in place of the default, so
//!   that programs fall back to an older call (unless the default lets calls pass);
//! - a call by an architecture that is not listed ends the process;
//! - 32-bit programs of x86 may reach socket and IPC calls through `socketcall` and `ipc`: a rule
//!   without arguments covers that way too.
//!
//! How: all calls of one architecture are ranges of numbers with one verdict each, found by a binary
//! search; a call whose verdict depends on its arguments has a chain of comparisons.
//!
//! Interface: [`compile`], [`Compiled`], [`interpret`] (the same rules without a program, to test
//! against). Read next: `disassemble.rs`.

use super::bpf::{self, Assembler, Data, Instruction, Label, Verdict, code};
use super::names;
use crate::error::{Error, Kind, Result};
use crate::spec::runtime::{
    Seccomp, SeccompAction, SeccompArch, SeccompFlag, SeccompOp, SyscallArg, SyscallRule,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A filter that is ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The program.
    pub program: Vec<Instruction>,
    /// Flags of seccomp(2) (`SECCOMP_FILTER_FLAG_*`).
    pub flags: u64,
    /// Names that no listed architecture has.
    pub unknown_calls: Vec<String>,
    /// Listed architectures whose programs cannot run here.
    pub unknown_architectures: Vec<SeccompArch>,
}

/// Which way calls of an unlisted architecture go.
const BAD_ARCHITECTURE: Verdict = Verdict::KILL_PROCESS;
const ENOSYS: Verdict = Verdict::errno(libc::ENOSYS as u16);
/// The number of a call that a tracer has cancelled.
const CANCELLED: u32 = u32::MAX;

/// Compiles rules. Errors: an argument's index above 5, an errno above 4095 or for an action that
/// has none, `SCMP_ACT_NOTIFY` as the default or for write, more than 4096 instructions.
pub fn compile(rules: &Seccomp) -> Result<Compiled> {
    check(rules)?;
    let (known, unknown_architectures) = architectures(rules);
    let mut compiler = Compiler {
        assembler: Assembler::new(),
        chains: HashMap::new(),
    };
    // One block for each number that the kernel gives an architecture; x86_64 and x32 share theirs.
    let audits: BTreeSet<u32> = known.iter().filter_map(|a| names::audit_arch(*a)).collect();
    let mut blocks = Vec::new();
    for audit in audits {
        let segments = segments(rules, &known, audit);
        let search = compiler.search(&segments);
        compiler.assembler.goto(search);
        blocks.push((audit, compiler.assembler.push(code::LD_ABS, bpf::OFFSET_NR)));
    }
    let mut next = compiler.assembler.ret(BAD_ARCHITECTURE);
    for (audit, block) in blocks {
        next = compiler.assembler.jump(code::JEQ, audit, block, next);
    }
    compiler.assembler.goto(next);
    compiler.assembler.push(code::LD_ABS, bpf::OFFSET_ARCH);
    let program = compiler.assembler.finish();
    if program.len() > bpf::MAX_INSTRUCTIONS {
        return Err(Error::new(format!(
            "the seccomp rules need {} instructions, and the kernel takes {}",
            program.len(),
            bpf::MAX_INSTRUCTIONS
        ))
        .topic("seccomp"));
    }
    let unknown_calls: BTreeSet<String> = rules
        .syscalls
        .iter()
        .flat_map(|r| &r.names)
        .filter(|n| known.iter().all(|a| names::number(*a, n).is_none()))
        .cloned()
        .collect();
    Ok(Compiled {
        program,
        flags: flags(rules),
        unknown_calls: unknown_calls.into_iter().collect(),
        unknown_architectures,
    })
}

/// The architectures whose calls are ruled, the native one always among them; and those without a
/// table here.
fn architectures(rules: &Seccomp) -> (Vec<SeccompArch>, Vec<SeccompArch>) {
    let listed: BTreeSet<SeccompArch> = rules
        .architectures
        .iter()
        .copied()
        .chain([names::native()])
        .collect();
    listed
        .into_iter()
        .partition(|a| names::audit_arch(*a).is_some())
}

fn flags(rules: &Seccomp) -> u64 {
    let listener = uses_notify(rules).then_some(crate::sys::seccomp::NEW_LISTENER);
    rules
        .flags
        .iter()
        .map(|flag| match (flag, listener) {
            (SeccompFlag::Tsync, None) => 1,
            // With both, a result must not be a thread's id or a descriptor: TSYNC_ESRCH.
            (SeccompFlag::Tsync, Some(_)) => 1 | 16,
            (SeccompFlag::Log, _) => 2,
            (SeccompFlag::SpecAllow, _) => 4,
            // It is about the listener, and without one the kernel takes it for a mistake.
            (SeccompFlag::WaitKillableRecv, None) => 0,
            (SeccompFlag::WaitKillableRecv, Some(_)) => 32,
        })
        .chain(listener)
        .fold(0, |all, bit| all | bit)
}

/// Whether some rule hands calls to a listener.
pub fn uses_notify(rules: &Seccomp) -> bool {
    rules
        .syscalls
        .iter()
        .any(|r| r.action == SeccompAction::Notify)
}

fn check(rules: &Seccomp) -> Result<()> {
    let bad = |what: String| Error::kind(Kind::Usage, what).topic("seccomp");
    let errno = |action: SeccompAction, value: Option<u32>, of: &str| -> Result<()> {
        match (action, value) {
            (_, None) => Ok(()),
            (SeccompAction::Errno, Some(n)) if n > 4095 => {
                Err(bad(format!("the errno {n} of {of} is above 4095")))
            }
            (SeccompAction::Trace, Some(n)) if n > 0xffff => {
                Err(bad(format!("the data {n} of {of} is above 65535")))
            }
            (SeccompAction::Errno | SeccompAction::Trace, Some(_)) => Ok(()),
            (other, Some(_)) => Err(bad(format!("{of} has an errno, but {other:?} takes none"))),
        }
    };
    errno(rules.default_action, rules.default_errno_ret, "the default")?;
    if rules.default_action == SeccompAction::Notify {
        return Err(bad("SCMP_ACT_NOTIFY cannot be the default action".into()));
    }
    for rule in &rules.syscalls {
        let of = format!("the rule for {}", rule.names.join(", "));
        errno(rule.action, rule.errno_ret, &of)?;
        if rule.action == SeccompAction::Notify && rule.names.iter().any(|n| n == "write") {
            return Err(bad(
                "SCMP_ACT_NOTIFY cannot be used for write: handing over the listener needs it"
                    .into(),
            ));
        }
        if let Some(arg) = rule.args.iter().find(|a| a.index > 5) {
            return Err(bad(format!(
                "{of} names argument {}, the last is 5",
                arg.index
            )));
        }
    }
    Ok(())
}

fn default_verdict(rules: &Seccomp) -> Verdict {
    let data = rules.default_errno_ret.unwrap_or(libc::EPERM as u32);
    Verdict::of(rules.default_action, data as u16)
}

fn rule_verdict(rule: &SyscallRule) -> Verdict {
    let data = rule.errno_ret.unwrap_or(libc::EPERM as u32);
    Verdict::of(rule.action, data as u16)
}

/// What a call newer than every call of the rules gets.
fn newer_verdict(rules: &Seccomp) -> Verdict {
    match default_verdict(rules) {
        default if default.permits() => default,
        _ => ENOSYS,
    }
}

/// Calls that 32-bit x86 programs also reach through a call with a number as first argument.
const MULTIPLEXED: &[(&str, &[(&str, u64)])] = &[
    (
        "socketcall",
        &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    ),
    (
        "ipc",
        &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    ),
];

fn multiplexed(arch: SeccompArch, name: &str) -> Option<(u32, SyscallArg)> {
    if arch != SeccompArch::X86 {
        return None;
    }
    MULTIPLEXED.iter().find_map(|(door, calls)| {
        let (_, value) = calls.iter().find(|(n, _)| *n == name)?;
        let arg = SyscallArg {
            value: *value,
            op: SeccompOp::Equal,
            ..SyscallArg::default()
        };
        Some((names::number(arch, door)?, arg))
    })
}

/// Conditions that must all hold, and the verdict then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Clause {
    conditions: Vec<Condition>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Condition {
    index: u32,
    op: SeccompOp,
    value: u64,
    value_two: u64,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Fate {
    Always(Verdict),
    /// The first clause that holds, else the last verdict. The flag: arguments have 32 bits.
    Depends(Vec<Clause>, Verdict, bool),
}

/// The conditions of a rule as alternatives: one, or one a condition when an argument is named
/// twice.
fn alternatives(args: &[SyscallArg]) -> Vec<Vec<Condition>> {
    let conditions: Vec<Condition> = args
        .iter()
        .map(|a| Condition {
            index: a.index,
            op: a.op,
            value: a.value,
            value_two: a.value_two,
        })
        .collect();
    let distinct: BTreeSet<u32> = args.iter().map(|a| a.index).collect();
    if distinct.len() == conditions.len() {
        vec![conditions]
    } else {
        conditions.into_iter().map(|c| vec![c]).collect()
    }
}

/// The fates of an architecture's calls that some rule names, and the highest number named.
fn fates(rules: &Seccomp, arch: SeccompArch) -> (BTreeMap<u32, Fate>, Option<u32>) {
    let default = default_verdict(rules);
    let mut clauses: BTreeMap<u32, Vec<Clause>> = BTreeMap::new();
    let mut highest = None;
    for rule in &rules.syscalls {
        let verdict = rule_verdict(rule);
        for name in &rule.names {
            let direct = names::number(arch, name);
            highest = highest.max(direct);
            if verdict == default {
                continue;
            }
            for conditions in direct.iter().flat_map(|_| alternatives(&rule.args)) {
                let list = clauses.entry(direct.unwrap_or_default()).or_default();
                list.push(Clause {
                    conditions,
                    verdict,
                });
            }
            if let Some((door, arg)) = multiplexed(arch, name).filter(|_| rule.args.is_empty()) {
                for conditions in alternatives(&[arg]) {
                    let list = clauses.entry(door).or_default();
                    list.push(Clause {
                        conditions,
                        verdict,
                    });
                }
            }
        }
    }
    let fate = |list: Vec<Clause>| match list.iter().find(|c| c.conditions.is_empty()) {
        Some(always) => Fate::Always(always.verdict),
        None => Fate::Depends(list, default, names::is_32_bit(arch)),
    };
    let fates = clauses.into_iter().map(|(n, list)| (n, fate(list)));
    (fates.collect(), highest)
}

/// Ranges of numbers and their fates: each holds up to the next one's start; the first starts at 0.
fn segments(rules: &Seccomp, known: &[SeccompArch], audit: u32) -> Vec<(u32, Fate)> {
    let default = Fate::Always(default_verdict(rules));
    let mut all: Vec<(u32, Fate)> = Vec::new();
    let mut put = |start: u32, fate: &Fate| match all.last_mut() {
        // A range of length zero is overwritten, one of the same fate goes on.
        Some(last) if last.0 == start => last.1 = fate.clone(),
        Some(last) if last.1 == *fate => {}
        _ => all.push((start, fate.clone())),
    };
    // Within x86_64's numbers, x32's follow at the bit; without rules of their own they are bad.
    let ranges: &[(SeccompArch, u32)] = match audit {
        0xc000_003e => &[(SeccompArch::X86_64, 0), (SeccompArch::X32, names::X32_BIT)],
        _ => match known.iter().find(|a| names::audit_arch(**a) == Some(audit)) {
            Some(arch) => &[(*arch, 0)],
            None => &[],
        },
    };
    for (arch, start) in ranges {
        if !known.contains(arch) {
            put(*start, &Fate::Always(BAD_ARCHITECTURE));
            continue;
        }
        put(*start, &default);
        let (fates, highest) = fates(rules, *arch);
        for (number, fate) in &fates {
            put(*number, fate);
            put(number + 1, &default);
        }
        // The door of multiplexed calls may lie above every named call.
        let door = fates.last_key_value().map(|(n, _)| *n);
        if let Some(highest) = highest.max(door) {
            put(highest + 1, &Fate::Always(newer_verdict(rules)));
        }
    }
    put(CANCELLED, &default);
    // Overwriting may have left neighbours with one fate.
    all.dedup_by(|b, a| a.1 == b.1);
    all
}

struct Compiler {
    assembler: Assembler,
    /// Chains that were written already: architectures share them.
    chains: HashMap<Fate, Label>,
}

impl Compiler {
    /// A binary search over ranges, on the number in the accumulator.
    fn search(&mut self, segments: &[(u32, Fate)]) -> Label {
        match segments {
            [] => self.assembler.ret(BAD_ARCHITECTURE),
            [(_, fate)] => self.fate(fate),
            // One number in a range of another fate needs one comparison, not two.
            [(_, around), (one, inner), (after, same)] if around == same && one + 1 == *after => {
                let around = self.fate(around);
                let inner = self.fate(inner);
                self.assembler.jump(code::JEQ, *one, inner, around)
            }
            _ => {
                let (low, high) = segments.split_at(segments.len() / 2);
                let high_label = self.search(high);
                let low_label = self.search(low);
                self.assembler
                    .jump(code::JGE, high[0].0, high_label, low_label)
            }
        }
    }

    fn fate(&mut self, fate: &Fate) -> Label {
        let (clauses, default, short) = match fate {
            Fate::Always(verdict) => return self.assembler.ret(*verdict),
            Fate::Depends(clauses, default, short) => (clauses, *default, *short),
        };
        if let Some(label) = self.chains.get(fate) {
            return *label;
        }
        let mut next = self.assembler.ret(default);
        for clause in clauses.iter().rev() {
            let mut then = self.assembler.ret(clause.verdict);
            for condition in clause.conditions.iter().rev() {
                then = self.condition(*condition, short, then, next);
            }
            next = then;
        }
        self.chains.insert(fate.clone(), next);
        next
    }

    /// A comparison of 64 bits by an accumulator of 32: the high half decides unless it is equal.
    fn condition(&mut self, c: Condition, short: bool, then: Label, fail: Label) -> Label {
        // Three operators are the opposites of others.
        let (op, then, fail) = match c.op {
            SeccompOp::NotEqual => (SeccompOp::Equal, fail, then),
            SeccompOp::Less => (SeccompOp::GreaterOrEqual, fail, then),
            SeccompOp::LessOrEqual => (SeccompOp::Greater, fail, then),
            op => (op, then, fail),
        };
        let asm = &mut self.assembler;
        let halves = |v: u64| (v as u32, (v >> 32) as u32);
        let (low_offset, high_offset) = (
            bpf::offset_of_arg(c.index, false),
            bpf::offset_of_arg(c.index, true),
        );
        if op == SeccompOp::MaskedEqual {
            let (mask_low, mask_high) = halves(c.value);
            let (low, high) = halves(c.value_two);
            asm.jump(code::JEQ, low, then, fail);
            asm.push(code::AND_K, mask_low);
            let low_test = asm.push(code::LD_ABS, low_offset);
            if short {
                return low_test;
            }
            asm.jump(code::JEQ, high, low_test, fail);
            asm.push(code::AND_K, mask_high);
            return asm.push(code::LD_ABS, high_offset);
        }
        let (low, high) = halves(c.value);
        let compare = match op {
            SeccompOp::Greater => code::JGT,
            SeccompOp::GreaterOrEqual => code::JGE,
            _ => code::JEQ,
        };
        asm.jump(compare, low, then, fail);
        let low_test = asm.push(code::LD_ABS, low_offset);
        if short {
            return low_test;
        }
        let equal = asm.jump(code::JEQ, high, low_test, fail);
        if compare != code::JEQ {
            asm.jump(code::JGT, high, then, equal);
        }
        asm.push(code::LD_ABS, high_offset)
    }
}

/// What the rules say of one call, without a program: the definition that the compiler is tested
/// against.
pub fn interpret(rules: &Seccomp, call: &Data) -> Verdict {
    let default = default_verdict(rules);
    if call.nr == CANCELLED {
        // x86_64 and x32 share a block, so one of them is enough.
        let any = [
            names::arch_of(call.arch, 0),
            names::arch_of(call.arch, names::X32_BIT),
        ];
        return match any.iter().flatten().any(|a| is_listed(rules, *a)) {
            true => default,
            false => BAD_ARCHITECTURE,
        };
    }
    let Some(arch) = names::arch_of(call.arch, call.nr).filter(|a| is_listed(rules, *a)) else {
        return BAD_ARCHITECTURE;
    };
    let holds = |a: &SyscallArg| {
        let cut = |v: u64| {
            if names::is_32_bit(arch) {
                v & 0xffff_ffff
            } else {
                v
            }
        };
        let (arg, value) = (cut(call.args[a.index as usize]), cut(a.value));
        match a.op {
            SeccompOp::NotEqual => arg != value,
            SeccompOp::Less => arg < value,
            SeccompOp::LessOrEqual => arg <= value,
            SeccompOp::Equal => arg == value,
            SeccompOp::GreaterOrEqual => arg >= value,
            SeccompOp::Greater => arg > value,
            SeccompOp::MaskedEqual => arg & value == cut(a.value_two),
        }
    };
    let repeats = |args: &[SyscallArg]| {
        (0..args.len()).any(|i| args[..i].iter().any(|a| a.index == args[i].index))
    };
    let (mut conditional, mut newer, mut any_named) = (None, true, false);
    for rule in &rules.syscalls {
        for name in &rule.names {
            let number = names::number(arch, name);
            let door = multiplexed(arch, name).filter(|_| rule.args.is_empty());
            newer &= number.is_none_or(|n| n < call.nr);
            any_named |= number.is_some();
            if rule_verdict(rule) == default {
                continue;
            }
            newer &= door.as_ref().is_none_or(|(n, _)| *n < call.nr);
            any_named |= door.is_some();
            if number == Some(call.nr) && rule.args.is_empty() {
                return rule_verdict(rule);
            }
            let matches = match repeats(&rule.args) {
                true => rule.args.iter().any(&holds),
                false => rule.args.iter().all(&holds),
            };
            let direct = number == Some(call.nr) && matches;
            let through = door.is_some_and(|(n, arg)| n == call.nr && holds(&arg));
            if (direct || through) && conditional.is_none() {
                conditional = Some(rule_verdict(rule));
            }
        }
    }
    match conditional {
        Some(verdict) => verdict,
        None if newer && any_named => newer_verdict(rules),
        None => default,
    }
}

fn is_listed(rules: &Seccomp, arch: SeccompArch) -> bool {
    rules.architectures.contains(&arch) || arch == names::native()
}
