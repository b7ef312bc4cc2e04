//! Which devices a group's processes may open or make.
//!
//! What it does: takes rules in OCI's order, of which a later one overrides an earlier one, and
//! gives them to the kernel: on v1 as lines in `devices.deny` and `devices.allow`; on v2 as a BPF
//! program that the kernel asks at every open and mknod of a device. The program is assembled
//! here, instruction by instruction; `bpf_sim.rs` runs such programs, so that `inspect` can tell
//! what any group's programs allow, whoever wrote them.
//!
//! ```text
//! the kernel calls the program with      the program answers in r0
//!   u32 access_type  access << 16 | type   1 go on (the other programs are asked)
//!   u32 major                              0 EPERM
//!   u32 minor
//! ```
//!
//! What it implements: config-linux.md of the OCI runtime specification ("Allowed Device List"),
//! the kernel's cgroup-v1/devices.rst, admin-guide/cgroup-v2.rst ("Device controller").
//! Interface: [`DeviceRule`], [`allows`], [`assemble`], [`v1_writes`], [`DeviceRules`].
//! Read next: `bpf_sim.rs`.

use super::group::Group;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::bpf::{self, Insn};
use crate::sys::{self, Errno};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What kind of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Both kinds.
    #[serde(rename = "a")]
    All,
    /// A block device.
    #[serde(rename = "b")]
    Block,
    /// A character device.
    #[serde(rename = "c")]
    Char,
}

/// A set of: mknod, read, write (the kernel's `BPF_DEVCG_ACC_*` bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Access(pub u8);

impl Access {
    /// Making a node.
    pub const MKNOD: Access = Access(1);
    /// Opening for reading.
    pub const READ: Access = Access(2);
    /// Opening for writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Parses a set of the letters `r`, `w`, `m`. Errors: another letter, or none.
    pub fn parse(text: &str) -> Result<Access> {
        let bit = |c| match c {
            'm' => Some(1),
            'r' => Some(2),
            'w' => Some(4),
            _ => None,
        };
        text.chars()
            .try_fold(0, |all, c| Some(all | bit(c)?))
            .filter(|bits| *bits != 0)
            .map(Access)
            .ok_or_else(|| {
                Error::kind(Kind::Usage, format!("{text:?} is no access to a device"))
                    .hint("write letters out of r (read), w (write), m (mknod)")
            })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(2, "r"), (4, "w"), (1, "m")] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Access {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Access {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Access::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// One rule. Where numbers are absent, any number matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allows, or denies.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Which accesses.
    pub access: Access,
}

impl DeviceRule {
    /// Denies everything: the first rule of most lists.
    pub const DENY_ALL: DeviceRule = DeviceRule {
        allow: false,
        kind: DeviceKind::All,
        major: None,
        minor: None,
        access: Access::ALL,
    };
    /// Allows everything: what `--privileged` means here.
    pub const ALLOW_ALL: DeviceRule = DeviceRule {
        allow: true,
        ..DeviceRule::DENY_ALL
    };

    /// Allows one kind of access to character devices.
    pub const fn allow_char(major: u32, minor: Option<u32>, access: Access) -> DeviceRule {
        DeviceRule {
            allow: true,
            kind: DeviceKind::Char,
            major: Some(major),
            minor,
            access,
        }
    }

    /// Parses docker's `--device-cgroup-rule` (`c 1:3 rwm`, `b *:* m`, `a`), which allows.
    pub fn parse(text: &str) -> Result<DeviceRule> {
        let wrong = || {
            Error::kind(Kind::Usage, format!("{text:?} is no device rule"))
                .hint("write KIND MAJOR:MINOR ACCESS, such as c 1:3 rwm or b *:* m")
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let kind = match words.first() {
            Some(&"a") => DeviceKind::All,
            Some(&"b") => DeviceKind::Block,
            Some(&"c") => DeviceKind::Char,
            _ => return Err(wrong()),
        };
        if kind == DeviceKind::All && words.len() == 1 {
            return Ok(DeviceRule::ALLOW_ALL);
        }
        let [_, numbers, access] = words[..] else {
            return Err(wrong());
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
        let number = |t: &str| match t {
            "*" => Ok(None),
            n => n.parse().map(Some).map_err(|_| wrong()),
        };
        Ok(DeviceRule {
            allow: true,
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: Access::parse(access)?,
        })
    }

    fn matches(&self, kind: DeviceKind, major: u32, minor: u32) -> bool {
        (self.kind == DeviceKind::All || self.kind == kind)
            && self.major.is_none_or(|n| n == major)
            && self.minor.is_none_or(|n| n == minor)
    }

    /// Matches every device and every access.
    fn is_total(&self) -> bool {
        *self == DeviceRule::DENY_ALL || *self == DeviceRule::ALLOW_ALL
    }
}

impl fmt::Display for DeviceRule {
    /// As v1's files write it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let number = |n: Option<u32>| n.map_or("*".to_string(), |n| n.to_string());
        let (major, minor) = (number(self.major), number(self.minor));
        write!(f, "{kind} {major}:{minor} {}", self.access)
    }
}

/// What the rules say of one access: the last rule that matches decides, for each of the letters
/// alone; what no rule matches is denied.
pub fn allows(
    rules: &[DeviceRule],
    kind: DeviceKind,
    major: u32,
    minor: u32,
    access: Access,
) -> bool {
    [Access::MKNOD, Access::READ, Access::WRITE]
        .iter()
        .filter(|bit| access.0 & bit.0 != 0)
        .all(|bit| {
            rules
                .iter()
                .rev()
                .find(|r| r.access.0 & bit.0 != 0 && r.matches(kind, major, minor))
                .is_some_and(|r| r.allow)
        })
}

/// Parses v1's devices.list. A group that allows by default shows `a *:* rwm` and hides what it
/// denies; that is the kernel's, and cannot be read otherwise.
pub fn parse_devices_list(text: &str) -> Vec<DeviceRule> {
    text.lines()
        .filter_map(|l| DeviceRule::parse(l).ok())
        .collect()
}

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

/// The writes that make a v1 group follow the rules: (`devices.deny` or `devices.allow`, line).
///
/// v1 keeps a default and a list of exceptions, and ignores in silence a line that denies a part
/// of a wider exception; such a rule is an error here.
pub fn v1_writes(rules: &[DeviceRule]) -> Result<Vec<(&'static str, String)>> {
    let mut writes = Vec::new();
    let (mut default_allow, mut exceptions) = (true, Vec::<DeviceRule>::new());
    for rule in rules {
        let file = if rule.allow {
            "devices.allow"
        } else {
            "devices.deny"
        };
        if rule.is_total() {
            (default_allow, exceptions) = (rule.allow, Vec::new());
            writes.push((file, "a".into()));
            continue;
        }
        // `a` resets everything whatever else the line says, so other rules name the kinds.
        let kinds = match rule.kind {
            DeviceKind::All => vec![DeviceKind::Block, DeviceKind::Char],
            kind => vec![kind],
        };
        for kind in kinds {
            let rule = DeviceRule { kind, ..*rule };
            let same =
                |e: &DeviceRule| (e.kind, e.major, e.minor) == (rule.kind, rule.major, rule.minor);
            let overlaps = |e: &DeviceRule| {
                let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
                e.kind == rule.kind
                    && meet(e.major, rule.major)
                    && meet(e.minor, rule.minor)
                    && e.access.0 & rule.access.0 != 0
            };
            if rule.allow == default_allow {
                if let Some(wider) = exceptions.iter().find(|e| !same(e) && overlaps(e)) {
                    let word = if rule.allow { "allow" } else { "deny" };
                    return Err(Error::kind(
                        Kind::Unsupported,
                        format!("cgroup v1 cannot {word} the devices {rule}"),
                    )
                    .caused_by(Error::new(format!(
                        "an earlier rule ({wider}) has other bounds, and v1 would ignore this one"
                    )))
                    .hint("split the earlier rule, or use a host with cgroup v2")
                    .topic("cgroups"));
                }
                for e in exceptions.iter_mut().filter(|e| same(e)) {
                    e.access.0 &= !rule.access.0;
                }
                exceptions.retain(|e| e.access.0 != 0);
            } else if let Some(e) = exceptions.iter_mut().find(|e| same(e)) {
                e.access.0 |= rule.access.0;
            } else {
                exceptions.push(rule);
            }
            writes.push((file, rule.to_string()));
        }
    }
    Ok(writes)
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
                        Error::from(e).context(format!("cannot set the device rule {line}"));
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
    use super::super::bpf_sim;
    use super::*;
    use proptest::prelude::*;

    fn list() -> Vec<DeviceRule> {
        let mut rules = vec![DeviceRule::DENY_ALL];
        for text in [
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 136:* rwm",
            "c 10:200 rw",
        ] {
            rules.push(DeviceRule::parse(text).unwrap());
        }
        rules
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = list();
        let ask = |kind, major, minor, access: &str| {
            allows(&rules, kind, major, minor, Access::parse(access).unwrap())
        };
        assert!(ask(DeviceKind::Char, 1, 3, "rw"));
        assert!(
            ask(DeviceKind::Char, 10, 200, "rwm"),
            "m from one rule, rw from another"
        );
        assert!(ask(DeviceKind::Block, 8, 0, "m"));
        assert!(!ask(DeviceKind::Block, 8, 0, "r"));
        assert!(!ask(DeviceKind::Char, 1, 1, "r"));
        assert!(
            !allows(&[], DeviceKind::Char, 1, 3, Access::READ),
            "no rule allows nothing"
        );
    }

    #[test]
    fn v1_lines_name_the_kinds() {
        let writes = v1_writes(&list()).unwrap();
        assert_eq!(writes[0], ("devices.deny", "a".to_string()));
        assert_eq!(writes[1], ("devices.allow", "c *:* m".to_string()));
        let some = DeviceRule {
            access: Access::MKNOD,
            ..DeviceRule::ALLOW_ALL
        };
        let writes = v1_writes(&[DeviceRule::DENY_ALL, some]).unwrap();
        assert_eq!(
            writes[1..],
            [
                ("devices.allow", "b *:* m".to_string()),
                ("devices.allow", "c *:* m".to_string()),
            ]
        );
    }

    #[test]
    fn v1_does_not_ignore_in_silence() {
        let deny = DeviceRule {
            allow: false,
            ..DeviceRule::parse("c 136:0 w").unwrap()
        };
        let mut rules = list();
        rules.push(deny);
        assert!(v1_writes(&rules).is_err());
    }

    #[test]
    fn rules_are_parsed_and_printed() {
        for text in ["c 1:3 rwm", "b *:* m", "c 5:* r"] {
            assert_eq!(DeviceRule::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "x 1:3 r",
            "c 1 r",
            "c 1:3",
            "c 1:3 x",
            "c a:b r",
            "c 1:3 r r",
        ] {
            assert!(DeviceRule::parse(text).is_err(), "{text:?}");
        }
    }

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
