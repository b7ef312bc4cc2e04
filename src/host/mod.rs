//! What this host allows: the kernel's version, the caller's powers, and where the cgroup
//! hierarchies are.
//!
//! What it does: reads once, at the start of a command, what plans depend on, so that the plans
//! themselves are pure: the same `Host` value always gives the same plan, and a test can ask for
//! the plan of a host that it does not run on.
//! What it implements: uname(2), capabilities(7), user_namespaces(7); cgroups(7) in
//! [`cgroup_layout`].
//! Interface: [`Host`], [`Host::detect`], [`Host::example_v2`], [`Host::example_hybrid`].
//! Read next: [`cgroup_layout`].

pub mod cgroup_layout;
pub mod elf;
pub mod locks;
pub mod probe;
pub mod process;
pub mod procfs;
mod text;

pub use cgroup_layout::{CgroupLayout, Hierarchy, LayoutKind};
pub use text::read_text;

use crate::error::{Context, Result};
use crate::sys;
use serde::{Deserialize, Serialize};

/// The number of the initial user namespace's inode (`PROC_USER_INIT_INO` of the kernel).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// The number of `CAP_SYS_ADMIN` in capabilities(7).
const CAP_SYS_ADMIN: u64 = 21;

/// What plans depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The caller's effective user id.
    pub euid: u32,
    /// The caller's effective group id.
    pub egid: u32,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Its major and minor number.
    pub version: (u32, u32),
    /// Where the cgroup hierarchies are mounted, and which controllers each has.
    pub cgroups: CgroupLayout,
    /// The caller has no CAP_SYS_ADMIN in the initial user namespace.
    pub rootless: bool,
}

impl Host {
    /// Reads this host. Errors: /proc is not mounted.
    pub fn detect() -> Result<Host> {
        let name = nix::sys::utsname::uname()
            .map_err(std::io::Error::from)
            .context("cannot ask for the kernel's version")?;
        let kernel = name.release().to_string_lossy().into_owned();
        Ok(Host {
            euid: nix::unistd::geteuid().as_raw(),
            egid: nix::unistd::getegid().as_raw(),
            version: parse_release(&kernel),
            kernel,
            cgroups: CgroupLayout::detect()?,
            rootless: !is_privileged(),
        })
    }

    /// True when the kernel is at least this version.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// A host with a pure cgroup v2 hierarchy, as Debian 12 and its peers boot, and root as the
    /// caller. For tests of plans.
    pub fn example_v2() -> Host {
        Host {
            euid: 0,
            egid: 0,
            kernel: "6.18.0".into(),
            version: (6, 18),
            cgroups: CgroupLayout::example_v2(),
            rootless: false,
        }
    }

    /// A host with one v1 hierarchy a controller and a cgroup2 that has hugetlb alone, and root as
    /// the caller. For tests of plans.
    pub fn example_hybrid() -> Host {
        Host {
            cgroups: CgroupLayout::example_hybrid(),
            ..Host::example_v2()
        }
    }

    /// The same host for an ordinary user.
    #[must_use]
    pub fn for_user(mut self, uid: u32) -> Host {
        (self.euid, self.egid, self.rootless) = (uid, uid, true);
        self
    }
}

/// CAP_SYS_ADMIN is effective, and over the initial user namespace: being uid 0 inside another
/// one gives power over that one only.
pub fn is_privileged() -> bool {
    use std::os::unix::fs::MetadataExt;
    let initial =
        std::fs::metadata("/proc/self/ns/user").is_ok_and(|m| m.ino() == INITIAL_USER_NAMESPACE);
    initial && sys::cred::capget().is_ok_and(|c| c.effective & (1 << CAP_SYS_ADMIN) != 0)
}

/// `6.1.0-13-amd64` → (6, 1). What is no number counts as 0.
pub fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(parse_release("6.18.44-fc-v657"), (6, 18));
        assert_eq!(parse_release("5.4"), (5, 4));
        assert_eq!(parse_release("7"), (7, 0));
        assert!(Host::example_v2().at_least(6, 9));
        assert!(!Host::example_v2().at_least(6, 19));
    }

    #[test]
    fn this_host_is_read() {
        let host = Host::detect().unwrap();
        assert!(host.version.0 >= 4, "{host:?}");
        assert_eq!(host.euid, nix::unistd::geteuid().as_raw());
    }
}
