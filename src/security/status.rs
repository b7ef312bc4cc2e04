//! What a process may do now, out of /proc/PID/status.
//!
//! What it implements: proc_pid_status(5): the lines `CapInh` to `CapAmb`, `NoNewPrivs`,
//! `Seccomp`, `Seccomp_filters`. The parser is pure.
//! Interface: [`Privileges`], [`Privileges::parse`], [`Privileges::of_self`].
//! Read next: `actions.rs`.

use super::capabilities::{CapSet, CapabilitySets};
use crate::error::{Context, Error, Result};
use crate::sys;
use serde::{Deserialize, Serialize};

/// The filter mode of a process. See seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompMode {
    /// Every call is allowed.
    Disabled,
    /// Only read, write, exit and sigreturn.
    Strict,
    /// BPF programs decide.
    Filter,
}

/// What a process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// Its capability sets.
    pub capabilities: CapabilitySets,
    /// execve gives no further privileges. `None` before Linux 4.10.
    pub no_new_privs: Option<bool>,
    /// `None` when the kernel has no seccomp.
    pub seccomp: Option<SeccompMode>,
    /// How many filters are stacked. `None` before Linux 5.9.
    pub seccomp_filters: Option<u32>,
}

impl Privileges {
    /// Reads the text of a status file. Errors: a capability line is missing or malformed.
    pub fn parse(status: &str) -> Result<Privileges> {
        let line = |key: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
                .map(str::trim)
        };
        let set = |key: &str| -> Result<CapSet> {
            let text = line(key).with_context(|| format!("no line {key} in the status file"))?;
            u64::from_str_radix(text, 16)
                .map(CapSet)
                .with_context(|| format!("bad line {key} in the status file: {text:?}"))
        };
        Ok(Privileges {
            capabilities: CapabilitySets {
                bounding: set("CapBnd")?,
                effective: set("CapEff")?,
                permitted: set("CapPrm")?,
                inheritable: set("CapInh")?,
                // Before Linux 4.3 there was no ambient set.
                ambient: line("CapAmb").map_or(Ok(CapSet::EMPTY), |_| set("CapAmb"))?,
            },
            no_new_privs: line("NoNewPrivs").map(|t| t == "1"),
            seccomp: line("Seccomp").and_then(|t| match t {
                "0" => Some(SeccompMode::Disabled),
                "1" => Some(SeccompMode::Strict),
                "2" => Some(SeccompMode::Filter),
                _ => None,
            }),
            seccomp_filters: line("Seccomp_filters").and_then(|t| t.parse().ok()),
        })
    }

    /// Those of a process. Errors: it does not exist, or /proc hides it.
    pub fn of(pid: i32) -> Result<Privileges> {
        let path = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Privileges::parse(&text).map_err(|e| e.context(format!("cannot understand {path}")))
    }

    /// Those of this thread, with where they were read: /proc where it is mounted, else the calls
    /// that ask for each set (a container's init may stand in a file system without /proc).
    pub fn of_self() -> Result<(Privileges, &'static str)> {
        if let Ok(text) = std::fs::read_to_string("/proc/thread-self/status") {
            return Ok((Privileges::parse(&text)?, "/proc/self/status"));
        }
        let sets = sys::cred::capget().map_err(Error::from)?;
        let collect = |op: i32, arg: Option<u64>| {
            (0..64u8).fold(CapSet::EMPTY, |set, n| {
                let has = match arg {
                    None => sys::process::prctl_get("PR_CAPBSET_READ", op, n.into()),
                    Some(which) => sys::cred::ambient_is_set(which, n),
                };
                CapSet(set.0 | u64::from(has == Ok(1)) << n)
            })
        };
        Ok((
            Privileges {
                capabilities: CapabilitySets {
                    bounding: collect(libc::PR_CAPBSET_READ, None),
                    effective: CapSet(sets.effective),
                    permitted: CapSet(sets.permitted),
                    inheritable: CapSet(sets.inheritable),
                    ambient: collect(
                        libc::PR_CAP_AMBIENT,
                        Some(libc::PR_CAP_AMBIENT_IS_SET as u64),
                    ),
                },
                no_new_privs: sys::process::prctl_get(
                    "PR_GET_NO_NEW_PRIVS",
                    libc::PR_GET_NO_NEW_PRIVS,
                    0,
                )
                .ok()
                .map(|n| n == 1),
                seccomp: None,
                seccomp_filters: None,
            },
            "capget(2), prctl(2)",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
        CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

    #[test]
    fn a_status_file_is_read() {
        let p = Privileges::parse(STATUS).unwrap();
        let docker = super::super::capabilities::DOCKER_DEFAULT;
        assert_eq!(p.capabilities, CapabilitySets::docker(docker, 0));
        assert_eq!(p.no_new_privs, Some(true));
        assert_eq!(p.seccomp, Some(SeccompMode::Filter));
        assert_eq!(p.seccomp_filters, Some(3));
        assert!(Privileges::parse("CapInh:\tzz\n").is_err());
        assert!(Privileges::parse("").is_err());
    }

    #[test]
    fn proc_and_the_calls_agree() {
        let (from_proc, source) = Privileges::of_self().unwrap();
        assert_eq!(source, "/proc/self/status");
        let sets = sys::cred::capget().unwrap();
        assert_eq!(from_proc.capabilities.effective.0, sets.effective);
        assert_eq!(from_proc.capabilities.permitted.0, sets.permitted);
    }
}
