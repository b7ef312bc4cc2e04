//! Capabilities: root's power in 41 pieces.
//!
//! What it does: names every capability and says in a sentence what it allows; reads the names
//! that users write; decides which remain when a container adds and drops some.
//! What it implements: capabilities(7), include/uapi/linux/capability.h; docker's 14 defaults and
//! its `--cap-add`, `--cap-drop`, `--privileged`.
//! Interface: [`Capability`], [`CapSet`], [`DOCKER_DEFAULT`], [`resolve`], [`all_of_kernel`].
//! Read next: `actions.rs`, which applies them.

use crate::error::{Error, Kind, Result};
use crate::spec::runtime as oci;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// One capability: its number in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// Name without `CAP_`, meaning; the index is the number.
const TABLE: [(&str, &str); 41] = [
    ("CHOWN", "give files to another user or group"),
    (
        "DAC_OVERRIDE",
        "read, write and execute any file, whatever its permission bits say",
    ),
    (
        "DAC_READ_SEARCH",
        "read any file and list any directory, and open files by handle",
    ),
    (
        "FOWNER",
        "change modes, times and attributes of files that others own",
    ),
    (
        "FSETID",
        "keep set-user-id and set-group-id bits on files that it changes",
    ),
    ("KILL", "send signals to processes of other users"),
    (
        "SETGID",
        "change its groups, and claim any group on sockets",
    ),
    ("SETUID", "become any user, and claim any user on sockets"),
    (
        "SETPCAP",
        "drop bounding capabilities and gain inheritable ones out of the bounding set",
    ),
    (
        "LINUX_IMMUTABLE",
        "set and clear a file's immutable and append-only flags",
    ),
    ("NET_BIND_SERVICE", "listen on ports below 1024"),
    (
        "NET_BROADCAST",
        "send broadcasts and listen to multicasts (the kernel does not check it)",
    ),
    (
        "NET_ADMIN",
        "configure interfaces, addresses, routes and firewalls of its network namespace",
    ),
    (
        "NET_RAW",
        "send and receive raw packets, as ping does, and fake any address",
    ),
    (
        "IPC_LOCK",
        "lock memory so that it is never swapped out, and use huge pages",
    ),
    (
        "IPC_OWNER",
        "use System V IPC objects of others, whatever their permission bits say",
    ),
    (
        "SYS_MODULE",
        "load and remove kernel modules: code that runs as the kernel",
    ),
    (
        "SYS_RAWIO",
        "reach I/O ports, physical memory and devices directly",
    ),
    (
        "SYS_CHROOT",
        "change its root directory and join mount namespaces",
    ),
    (
        "SYS_PTRACE",
        "trace and read the memory of any process it can see",
    ),
    ("SYS_PACCT", "turn process accounting on and off"),
    (
        "SYS_ADMIN",
        "mount, make namespaces, and do a hundred other things: nearly all of root",
    ),
    ("SYS_BOOT", "reboot the machine or load another kernel"),
    (
        "SYS_NICE",
        "raise priorities, use real-time scheduling, move memory and bind to CPUs",
    ),
    (
        "SYS_RESOURCE",
        "exceed resource limits, quotas and reserved disk space, and lower OOM scores",
    ),
    ("SYS_TIME", "set the system's and the hardware's clock"),
    (
        "SYS_TTY_CONFIG",
        "configure virtual terminals and hang up others' terminals",
    ),
    ("MKNOD", "make device nodes"),
    ("LEASE", "take leases on files of others"),
    ("AUDIT_WRITE", "write records into the kernel's audit log"),
    (
        "AUDIT_CONTROL",
        "turn auditing on and off and change its rules",
    ),
    (
        "SETFCAP",
        "give capabilities to files, and map user 0 in a user namespace",
    ),
    ("MAC_OVERRIDE", "pass the mandatory access control of Smack"),
    ("MAC_ADMIN", "change the mandatory access control of Smack"),
    ("SYSLOG", "read the kernel's log and its addresses"),
    ("WAKE_ALARM", "set timers that wake the machine up"),
    ("BLOCK_SUSPEND", "keep the machine from suspending"),
    ("AUDIT_READ", "read the kernel's audit log"),
    (
        "PERFMON",
        "measure performance: perf events, and the kernel's memory through tracing",
    ),
    ("BPF", "load BPF programs and maps"),
    (
        "CHECKPOINT_RESTORE",
        "restore processes with chosen ids, and read what a checkpoint needs",
    ),
];

/// How many capabilities are known here.
pub const COUNT: u8 = TABLE.len() as u8;

impl Capability {
    /// By number. `None` above the last known one.
    pub fn from_number(number: u8) -> Option<Capability> {
        (number < COUNT).then_some(Capability(number))
    }
    /// All known ones, by number.
    pub fn all() -> impl Iterator<Item = Capability> {
        (0..COUNT).map(Capability)
    }
    /// Its number in the kernel.
    pub fn number(self) -> u8 {
        self.0
    }
    /// Its bit in a [`CapSet`].
    pub fn bit(self) -> u64 {
        1 << self.0
    }
    /// `CHOWN`
    pub fn short_name(self) -> &'static str {
        TABLE[usize::from(self.0)].0
    }
    /// `CAP_CHOWN`
    pub fn name(self) -> String {
        format!("CAP_{}", self.short_name())
    }
    /// What it allows: the end of a sentence "with it, a process may …".
    pub fn meaning(self) -> &'static str {
        TABLE[usize::from(self.0)].1
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAP_{}", self.short_name())
    }
}

impl FromStr for Capability {
    type Err = Error;
    /// With or without `CAP_`, in any case. The error suggests the nearest name.
    fn from_str(text: &str) -> Result<Capability> {
        let upper = text.trim().to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if let Some(n) = TABLE.iter().position(|(name, _)| *name == short) {
            return Ok(Capability(n as u8));
        }
        let error =
            Error::kind(Kind::Usage, format!("unknown capability {text:?}")).topic("capabilities");
        let near = TABLE
            .iter()
            .map(|(name, _)| (distance(name, short), name))
            .min();
        Err(match near {
            Some((d, name)) if d <= 3 => error.hint(format!("did you mean CAP_{name}?")),
            _ => error.hint("`glassbox explain capabilities` lists them; ALL means every one"),
        })
    }
}

/// The number of letters to insert, remove or change between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// A set of capabilities: bit n is capability number n, as in /proc/PID/status. Bits of
/// capabilities newer than this table are kept. Serialises as a list of names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// None.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability that this table knows.
    pub const ALL_KNOWN: CapSet = CapSet((1 << COUNT) - 1);

    /// Every capability up to number `last`.
    pub fn up_to(last: u8) -> CapSet {
        CapSet(u64::MAX >> (63 - last.min(63)))
    }
    /// Those of a list of names, as OCI documents and command lines have them; `ALL` is every one
    /// known. Errors: an unknown name.
    pub fn parse(names: &[impl AsRef<str>]) -> Result<CapSet> {
        names.iter().try_fold(CapSet::EMPTY, |set, name| {
            let name = name.as_ref();
            if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("cap_all") {
                return Ok(CapSet::ALL_KNOWN);
            }
            Ok(set.with(name.parse()?))
        })
    }
    /// Whether it is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }
    /// The set and one more.
    #[must_use]
    pub fn with(self, capability: Capability) -> CapSet {
        CapSet(self.0 | capability.bit())
    }
    /// What is in either.
    #[must_use]
    pub fn union(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }
    /// What is in this one and not in the other.
    #[must_use]
    pub fn minus(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }
    /// What is in both.
    #[must_use]
    pub fn intersect(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }
    /// No capability.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// How many.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    /// The known members, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::all().filter(move |c| self.has(*c))
    }
    /// The members' names (`CAP_CHOWN`), by number; one that is newer than the table as `CAP_41`.
    pub fn names(self) -> Vec<String> {
        (0..64u8)
            .filter(|n| self.0 & (1 << n) != 0)
            .map(|n| match Capability::from_number(n) {
                Some(capability) => capability.name(),
                None => format!("CAP_{n}"),
            })
            .collect()
    }
    /// In words: `none`, `all 41`, `all 41 but SYS_TIME`, or the short names, by what is shortest.
    pub fn words(self) -> String {
        let missing = CapSet::ALL_KNOWN.minus(self);
        let short = |set: CapSet| {
            let names = set.names();
            let names: Vec<&str> = names.iter().map(|n| &n[4..]).collect();
            names.join(" ")
        };
        match (self.len(), missing.len()) {
            (0, _) => "none".into(),
            (n, 0) => format!("all {n}"),
            (_, m) if m <= 5 => format!("all {COUNT} but {}", short(missing)),
            _ => short(self),
        }
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CapSet({:#x}: {})", self.0, self.words())
    }
}

impl FromIterator<Capability> for CapSet {
    fn from_iter<I: IntoIterator<Item = Capability>>(iter: I) -> CapSet {
        iter.into_iter().fold(CapSet::EMPTY, CapSet::with)
    }
}

impl Serialize for CapSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        self.names().serialize(s)
    }
}

impl<'de> Deserialize<'de> for CapSet {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<CapSet, D::Error> {
        let names = Vec::<String>::deserialize(d)?;
        CapSet::parse(&names).map_err(serde::de::Error::custom)
    }
}

/// What docker gives a container: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID,
/// SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub const DOCKER_DEFAULT: CapSet = CapSet(0xa804_25fb);

/// The kernel's last capability (/proc/sys/kernel/cap_last_cap); the last known one when that
/// cannot be read.
pub fn last() -> u8 {
    static LAST: LazyLock<u8> = LazyLock::new(|| {
        crate::host::read_text("/proc/sys/kernel/cap_last_cap")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(COUNT - 1)
    });
    *LAST
}

/// Every capability of this kernel: what `--privileged` gives.
pub fn all_of_kernel() -> CapSet {
    CapSet::up_to(last())
}

/// Takes the names out of a document that cannot be granted: unknown ones, and those that neither
/// this kernel has nor, where `held` is given, its caller. Returns them, each once: the
/// specification wants a warning, and no failure.
pub fn take_ungrantable(spec: &mut oci::Capabilities, held: Option<CapSet>) -> Vec<String> {
    let kernel = all_of_kernel();
    let mut taken: Vec<String> = Vec::new();
    let mut take = |names: &mut Vec<String>, granted: CapSet| {
        names.retain(|name| {
            let set = CapSet::parse(&[name]);
            let good = set.is_ok_and(|s| s == CapSet::ALL_KNOWN || s.minus(granted).is_empty());
            if !good && !taken.contains(name) {
                taken.push(name.clone());
            }
            good
        });
    };
    take(&mut spec.bounding, kernel);
    for names in [
        &mut spec.effective,
        &mut spec.permitted,
        &mut spec.inheritable,
        &mut spec.ambient,
    ] {
        take(names, held.unwrap_or(kernel).intersect(kernel));
    }
    taken
}

/// Which capabilities remain of `defaults` when some are added and some dropped, as docker decides
/// it: adding `ALL` leaves every one but the dropped; dropping `ALL` leaves the added alone; else
/// the dropped go first and the added come after. `kernel` is what `ALL` means.
///
/// Errors: an unknown name, or one that this kernel does not have.
pub fn resolve(
    defaults: CapSet,
    add: &[impl AsRef<str>],
    drop: &[impl AsRef<str>],
    kernel: CapSet,
) -> Result<CapSet> {
    let (add_all, add) = split_all(add)?;
    let (drop_all, drop) = split_all(drop)?;
    let unknown = add.minus(kernel);
    if !unknown.is_empty() {
        return Err(Error::kind(
            Kind::Unsupported,
            format!("this kernel has no {}", unknown.names().join(", ")),
        )
        .topic("capabilities"));
    }
    Ok(match (add_all, drop_all) {
        (true, _) => kernel.minus(drop),
        (false, true) => add,
        (false, false) => defaults.minus(drop).union(add),
    })
}

/// Separates `ALL` from the names.
fn split_all(names: &[impl AsRef<str>]) -> Result<(bool, CapSet)> {
    let is_all = |n: &str| n.eq_ignore_ascii_case("all") || n.eq_ignore_ascii_case("cap_all");
    let rest: Vec<&str> = names
        .iter()
        .map(AsRef::as_ref)
        .filter(|n| !is_all(n))
        .collect();
    Ok((rest.len() < names.len(), CapSet::parse(&rest)?))
}

/// The five sets of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// What no process of the container can ever exceed.
    pub bounding: CapSet,
    /// What the kernel checks.
    pub effective: CapSet,
    /// What may be made effective.
    pub permitted: CapSet,
    /// What survives execve of a file that has it inheritable too.
    pub inheritable: CapSet,
    /// What survives execve of any file.
    pub ambient: CapSet,
}

impl CapabilitySets {
    /// What docker asks for: root holds them; another user has only the bound, and gains them by
    /// set-user-id programs. Nothing is inheritable or ambient.
    pub fn docker(set: CapSet, uid: u32) -> CapabilitySets {
        let held = if uid == 0 { set } else { CapSet::EMPTY };
        CapabilitySets {
            bounding: set,
            effective: held,
            permitted: held,
            ..CapabilitySets::default()
        }
    }
    /// Reads the sets of config.json. Errors: an unknown name.
    pub fn from_oci(spec: &oci::Capabilities) -> Result<CapabilitySets> {
        let parse = |what: &str, names: &[String]| {
            CapSet::parse(names)
                .map_err(|e| e.context(format!("bad process.capabilities.{what} in config.json")))
        };
        Ok(CapabilitySets {
            bounding: parse("bounding", &spec.bounding)?,
            effective: parse("effective", &spec.effective)?,
            permitted: parse("permitted", &spec.permitted)?,
            inheritable: parse("inheritable", &spec.inheritable)?,
            ambient: parse("ambient", &spec.ambient)?,
        })
    }
    /// Writes them for config.json.
    pub fn to_oci(self) -> oci::Capabilities {
        oci::Capabilities {
            bounding: self.bounding.names(),
            effective: self.effective.names(),
            permitted: self.permitted.names(),
            inheritable: self.inheritable.names(),
            ambient: self.ambient.names(),
            ..oci::Capabilities::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in [("CHOWN", 0), ("SYS_ADMIN", 21), ("SYSLOG", 34), ("BPF", 39)] {
            assert_eq!(name.parse::<Capability>().unwrap().number(), number);
        }
        assert_eq!(COUNT, 41);
        assert_eq!(DOCKER_DEFAULT.len(), 14);
        assert_eq!(
            DOCKER_DEFAULT.words(),
            "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW \
             SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP"
        );
    }

    #[test]
    fn names_are_read_in_every_form_and_errors_suggest() {
        for text in ["net_admin", "CAP_NET_ADMIN", "cap_net_admin", "NET_ADMIN"] {
            assert_eq!(text.parse::<Capability>().unwrap().name(), "CAP_NET_ADMIN");
        }
        let error = "NET_ADMN".parse::<Capability>().unwrap_err();
        assert_eq!(error.get_hint(), Some("did you mean CAP_NET_ADMIN?"));
        let error = "xyzzyxyzzy".parse::<Capability>().unwrap_err();
        assert!(error.get_hint().unwrap().contains("explain"));
    }

    #[test]
    fn adding_and_dropping_is_dockers() {
        let kernel = CapSet::ALL_KNOWN;
        let set = |add: &[&str], drop: &[&str]| resolve(DOCKER_DEFAULT, add, drop, kernel).unwrap();
        assert_eq!(set(&[], &[]), DOCKER_DEFAULT);
        assert_eq!(set(&["ALL"], &[]), kernel);
        assert_eq!(set(&[], &["all"]), CapSet::EMPTY);
        assert_eq!(set(&["NET_ADMIN"], &["ALL"]).words(), "NET_ADMIN");
        assert_eq!(set(&["ALL"], &["SYS_TIME"]).words(), "all 41 but SYS_TIME");
        assert!(!set(&[], &["NET_RAW"]).has("NET_RAW".parse().unwrap()));
        assert_eq!(set(&["KILL"], &["KILL"]), DOCKER_DEFAULT);
        assert_eq!(set(&["ALL"], &["ALL"]), kernel);
        let old = CapSet::up_to(37);
        let error = resolve(DOCKER_DEFAULT, &["BPF"], &[] as &[&str], old).unwrap_err();
        assert_eq!(error.message(), "this kernel has no CAP_BPF");
        assert_eq!(CapSet::up_to(40), kernel);
    }

    #[test]
    fn sets_go_through_config_json() {
        let root = CapabilitySets::docker(DOCKER_DEFAULT, 0);
        assert_eq!(CapabilitySets::from_oci(&root.to_oci()).unwrap(), root);
        assert_eq!(
            CapabilitySets::docker(DOCKER_DEFAULT, 1).effective,
            CapSet::EMPTY
        );
        let json = serde_json::to_string(&CapSet(1 << 21)).unwrap();
        assert_eq!(json, r#"["CAP_SYS_ADMIN"]"#);
        assert_eq!(
            serde_json::from_str::<CapSet>(&json).unwrap(),
            CapSet(1 << 21)
        );
        assert_eq!(CapSet(1 << 50).words(), "50");
    }
}
