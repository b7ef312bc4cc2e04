//! Device rules as a step, and as a BPF program for cgroup v2.
//!
//! What it does: cgroup v2 has no files for devices; the kernel asks a BPF program at every open
//! and mknod of one. The program is assembled here, instruction by instruction:
//!
//! ```text
//! the kernel calls it with               it answers in r0
//!   u32 access_type  access << 16 | type   1 go on (the other programs are asked)
//!   u32 major                              0 EPERM
//!   u32 minor
//! ```
//!
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Device controller"), RFC 9669.
//! Interface: [`assemble`], [`DeviceRules`]. Read next: `bpf_sim.rs`, which runs such programs.

use super::devices::{Access, DeviceKind, DeviceRule, v1_writes};
use super::group::Group;
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::bpf::{self, Insn};
use crate::sys::{self, Errno};
use std::path::PathBuf;

// Registers: what the program keeps where.
const R0: u8 = 0; // the answer
const R1: u8 = 1; // the context
const TYPE: u8 = 2;
const WANTED: u8 = 3; // accesses that no rule has allowed yet
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const LDX_W: u8 = 0x61; // dst = *(u32 *)(src + offset)
const MOV64_K: u8 = 0xb7;
const MOV64_X: u8 = 0xbf;
const AND64_K: u8 = 0x57;
const RSH64_K: u8 = 0x77;
const JNE_K: u8 = 0x55;
const JEQ_K: u8 = 0x15;
const EXIT: u8 = 0x95;

fn insn(code: u8, dst: u8, src: u8, offset: i16, imm: i32) -> Insn {
    Insn {
        code,
        registers: src << 4 | dst,
        offset,
        imm,
    }
}

/// Assembles the program that answers as [`allows`] does: the rules backwards, so that the first
/// match is the last rule.
pub fn assemble(rules: &[DeviceRule]) -> Vec<Insn> {
    let answer = |value| [insn(MOV64_K, R0, 0, 0, value), insn(EXIT, 0, 0, 0, 0)];
    let mut program = vec![
        insn(LDX_W, TYPE, R1, 0, 0),
        insn(MOV64_X, WANTED, TYPE, 0, 0),
        insn(AND64_K, TYPE, 0, 0, 0xffff),
        insn(RSH64_K, WANTED, 0, 0, 16),
        insn(LDX_W, MAJOR, R1, 4, 0),
        insn(LDX_W, MINOR, R1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        // Each test jumps past the rule's end; the distance is known when the rule is complete.
        let mut block = Vec::new();
        if rule.kind != DeviceKind::All {
            let kind = if rule.kind == DeviceKind::Block { 1 } else { 2 };
            block.push(insn(JNE_K, TYPE, 0, 0, kind));
        }
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(n) = number {
                block.push(insn(JNE_K, register, 0, 0, n as i32));
            }
        }
        let bits = i32::from(rule.access.0);
        if rule.access != Access::ALL && rule.allow {
            block.push(insn(AND64_K, WANTED, 0, 0, !bits));
            block.push(insn(JNE_K, WANTED, 0, 0, 0));
        } else if rule.access != Access::ALL {
            block.push(insn(MOV64_X, SCRATCH, WANTED, 0, 0));
            block.push(insn(AND64_K, SCRATCH, 0, 0, bits));
            block.push(insn(JEQ_K, SCRATCH, 0, 0, 0));
        }
        block.extend(answer(rule.allow.into()));
        let len = block.len();
        for (i, insn) in block.iter_mut().enumerate() {
            if insn.code == JNE_K || insn.code == JEQ_K {
                insn.offset = (len - i - 1) as i16;
            }
        }
        program.extend(block);
        if rule.is_total() {
            // Nothing passes this rule, and the verifier refuses instructions that nobody reaches.
            return program;
        }
    }
    program.extend(answer(0));
    program
}

/// Gives the rules to the group: v1's devices controller where it is mounted, else a BPF program
/// on the v2 directory.
#[derive(Debug, Clone)]
pub struct DeviceRules {
    /// The rules, in OCI's order.
    pub rules: Vec<DeviceRule>,
    /// The v1 directory.
    pub v1: Option<PathBuf>,
    /// The v2 directory, when there is no v1 one.
    pub v2: Option<PathBuf>,
}

impl DeviceRules {
    /// For a group.
    pub fn new(group: &Group, rules: &[DeviceRule]) -> DeviceRules {
        let v1 = group
            .dir_of("devices")
            .filter(|d| d.denied.is_none())
            .map(|d| d.dir.clone());
        let v2 = group
            .usable()
            .find(|d| d.v2 && v1.is_none())
            .map(|d| d.dir.clone());
        DeviceRules {
            rules: rules.to_vec(),
            v1,
            v2,
        }
    }
    /// False when the group is in neither tree.
    pub fn is_possible(&self) -> bool {
        self.v1.is_some() || self.v2.is_some()
    }
}

impl Action for DeviceRules {
    fn calls(&self) -> Vec<Planned> {
        if let Some(dir) = &self.v1 {
            return v1_writes(&self.rules)
                .unwrap_or_default()
                .into_iter()
                .map(|(file, line)| {
                    Planned::new("write", format!("{}/{file} ← {line}", dir.display()))
                })
                .collect();
        }
        let instructions = assemble(&self.rules).len();
        vec![
            Planned::new(
                "bpf",
                format!(
                    "BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {instructions} instructions for \
                     {} rules",
                    self.rules.len()
                ),
            ),
            Planned::new(
                "bpf",
                "BPF_PROG_ATTACH, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI",
            ),
        ]
    }

    fn apply(&self, _: &mut Scene) -> Result<()> {
        if let Some(dir) = &self.v1 {
            for (file, line) in v1_writes(&self.rules)? {
                sys::fs::write_file(dir.join(file), &line).map_err(|e| {
                    let denied = e.errno == Errno::EPERM;
                    let error =
                        Error::new(format!("cannot set the device rule {line}")).caused_by(e);
                    match denied {
                        true => error.hint("a group above does not allow that device itself"),
                        false => error,
                    }
                })?;
            }
            return Ok(());
        }
        let Some(dir) = &self.v2 else {
            return Ok(());
        };
        let program = bpf::prog_load_device(&assemble(&self.rules)).map_err(|e| {
            Error::new("cannot load the device rules as a BPF program")
                .caused_by(e)
                .hint("that needs CAP_BPF, or CAP_SYS_ADMIN, in the initial user namespace")
                .topic("cgroups")
        })?;
        let cgroup = sys::fs::open(dir, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .context("cannot open the cgroup")?;
        bpf::prog_attach_device(&cgroup, &program)
            .context("cannot attach the device rules to the cgroup")
    }

    fn observe(&self, _: &Scene) -> Vec<Fact> {
        if let Some(dir) = &self.v1 {
            let mut fact = Fact::from_file("devices.list", dir.join("devices.list"));
            fact.value = fact.value.map(|v| v.replace('\n', ", "));
            return vec![fact];
        }
        let Some(dir) = &self.v2 else {
            return Vec::new();
        };
        let count = sys::fs::open(dir, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .and_then(|fd| bpf::prog_query_device(&fd, false));
        vec![Fact {
            what: "device programs on the group".into(),
            value: count
                .map(|ids| ids.len().to_string())
                .map_err(|e| e.to_string()),
            source: format!("bpf(BPF_PROG_QUERY) on {}", dir.display()),
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{bpf_sim, devices::allows};
    use super::*;
    use proptest::prelude::*;

    fn any_rule() -> impl Strategy<Value = DeviceRule> {
        let kind = prop_oneof![
            Just(DeviceKind::All),
            Just(DeviceKind::Block),
            Just(DeviceKind::Char)
        ];
        let number = || proptest::option::of(0u32..3);
        (any::<bool>(), kind, number(), number(), 1u8..8).prop_map(
            |(allow, kind, major, minor, access)| DeviceRule {
                allow,
                kind,
                major,
                minor,
                access: Access(access),
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_answers_as_the_rules_do(rules in proptest::collection::vec(any_rule(), 0..6)) {
            let program = assemble(&rules);
            for kind in [DeviceKind::Block, DeviceKind::Char] {
                for (major, minor) in [(0, 0), (1, 2), (2, 1), (7, 7)] {
                    for access in 1..8 {
                        let access = Access(access);
                        prop_assert_eq!(
                            bpf_sim::run(&program, kind, major, minor, access),
                            Ok(allows(&rules, kind, major, minor, access))
                        );
                    }
                }
            }
        }
    }
}
