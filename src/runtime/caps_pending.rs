//! Temporary stand-in until security::capabilities lands.
#![allow(missing_docs)]
use crate::error::{Error, Kind, Result};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(u64);
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
impl CapSet {
    pub fn bits(self) -> u64 {
        self.0
    }
    pub fn has(self, n: u8) -> bool {
        self.0 >> n & 1 == 1
    }
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |n| self.has(*n))
    }
}
pub fn name_of(n: u8) -> String {
    NAMES
        .get(n as usize)
        .map_or(format!("{n}"), |s| format!("CAP_{s}"))
}
pub fn last_cap() -> u8 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|s| s.trim().parse().ok())
        .unwrap_or(40)
}
pub fn parse_names(names: &[String]) -> Result<CapSet> {
    let mut set = 0;
    for n in names {
        let i = NAMES
            .iter()
            .position(|x| *x == n.trim_start_matches("CAP_"))
            .ok_or_else(|| Error::kind(Kind::Usage, format!("unknown capability {n:?}")))?;
        set |= 1 << i;
    }
    Ok(CapSet(set))
}
