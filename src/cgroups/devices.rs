//! Which devices a group's processes may open or make.
//!
//! What it does: takes rules in OCI's order, of which a later one overrides an earlier one, tells
//! what they allow, and writes them as v1's lines in `devices.deny` and `devices.allow`. For v2
//! `device_program.rs` makes a BPF program of them.
//!
//! What it implements: config-linux.md of the OCI runtime specification ("Allowed Device List"),
//! the kernel's cgroup-v1/devices.rst.
//! Interface: [`DeviceRule`], [`allows`], [`v1_writes`], [`parse_devices_list`].
//! Read next: `device_program.rs`.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

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
    pub(super) fn is_total(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
