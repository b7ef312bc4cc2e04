//! Fills [`model::Host`](super::model::Host): what this kernel and this user may do.
//!
//! What it implements: the table of [`crate::host::probe`], and uname(2), proc_meminfo(5),
//! os-release(5), user_namespaces(7).
//! Interface: [`host`]. Read next: [`crate::host::probe`].

use super::fact::Fact;
use super::model::{Host, HostAbility, HostHierarchy, HostUser};
use super::process::{namespace_id, read};
use crate::host::probe::{self, Ability};
use crate::host::{CgroupLayout, Hierarchy};
use crate::security::capabilities::{CapSet, all_of_kernel};
use crate::sys;

/// The inode number of the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Reads and probes. The calling process must have one thread: some probes fork.
pub fn host() -> Host {
    let text = |path: &'static str| Fact::of(path, read(path).map(|t| t.trim().to_string()));
    let lsm = text("/sys/kernel/security/lsm");
    Host {
        kernel: text("/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH.to_string(),
        distribution: Fact::of(
            "/etc/os-release: PRETTY_NAME",
            read("/etc/os-release")
                .and_then(|t| pretty_name(&t).ok_or_else(|| "no PRETTY_NAME in it".to_string())),
        ),
        processors: Fact::of(
            "sched_getaffinity(2)",
            std::thread::available_parallelism()
                .map(|n| u32::try_from(n.get()).unwrap_or(u32::MAX))
                .map_err(super::process::words),
        ),
        memory: meminfo("MemTotal"),
        swap: meminfo("SwapTotal"),
        lsm: lsm.map(|t| t.split(',').map(str::to_string).collect()),
        user: user(),
        cgroups: Fact::of(
            "/proc/self/mountinfo, /proc/self/cgroup, /proc/cgroups",
            CgroupLayout::detect().map(|l| l.hierarchies.iter().map(hierarchy).collect()),
        ),
        abilities: probe::all().map(ability).collect(),
    }
}

fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_string())
}

/// /proc/meminfo counts in KiB.
fn meminfo(key: &'static str) -> Fact<u64> {
    let value = read("/proc/meminfo").and_then(|text| {
        text.lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
            .and_then(|v| v.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| "no such line".to_string())
    });
    Fact::of(format!("/proc/meminfo: {key}"), value)
}

fn user() -> HostUser {
    let effective = Fact::of("capget(2)", sys::cred::capget()).map(|c| CapSet(c.effective));
    HostUser {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        in_user_namespace: Fact::of(
            "readlink(/proc/self/ns/user)",
            namespace_id("/proc/self/ns/user").map(|id| id != INITIAL_USER_NAMESPACE),
        ),
        capabilities: effective.map(|c| c.names()),
        missing_capabilities: effective.map(|c| all_of_kernel().minus(*c).names()),
    }
}

fn hierarchy(h: &Hierarchy) -> HostHierarchy {
    let writable =
        |dir: std::path::PathBuf| nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK).is_ok();
    HostHierarchy {
        name: h.name(),
        version: if h.v2 { 2 } else { 1 },
        controllers: h.controllers.clone(),
        mount: h.mount.to_string_lossy().into_owned(),
        own: h.own.clone(),
        delegated: !h.read_only && h.dir(&h.own).is_some_and(writable),
    }
}

fn ability(probe: &probe::Probe) -> HostAbility {
    let (mut detail, mut why_not, mut how_to_get_it) = (None, None, None);
    let some = |text: String| (!text.is_empty()).then_some(text);
    let answer = (probe.check)();
    let works = answer.works();
    match answer {
        Ability::Yes(text) => detail = some(text),
        Ability::No {
            why,
            how_to_get_it: how,
        } => (why_not, how_to_get_it) = (Some(why), some(how)),
    }
    HostAbility {
        group: probe.group.into(),
        name: probe.name.into(),
        what_for: probe.what_for.into(),
        works: Fact::new(probe.source, works),
        detail,
        why_not,
        how_to_get_it,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn os_release() {
        let text = "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(
            super::pretty_name(text).unwrap(),
            "Debian GNU/Linux 12 (bookworm)"
        );
        assert_eq!(super::pretty_name(""), None);
    }
}
