//! Profiles of users: docker's JSON, for `--security-opt seccomp=FILE`.
//!
//! What it does: reads a profile whose rules may depend on capabilities, architecture and kernel,
//! and decides them for one container. A plain `linux.seccomp` section of the runtime specification
//! is such a profile too.
//! What it implements: docker's seccomp profile format (`archMap`, `includes`, `excludes`,
//! `minKernel`, the old single `name`).
//! Interface: [`parse`], [`Environment`]. Read next: `compile.rs`.

use super::names;
use crate::error::{Error, Kind, Result};
use crate::security::capabilities::CapSet;
use crate::spec::runtime::{
    Seccomp, SeccompAction, SeccompArch, SeccompFlag, SyscallArg, SyscallRule,
};
use serde::Deserialize;

/// What the rules of a profile may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment {
    /// The container's bounding set.
    pub caps: CapSet,
    /// The architecture of the host.
    pub arch: SeccompArch,
    /// The kernel's major and minor number.
    pub kernel: (u32, u32),
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: Option<SeccompAction>,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<SeccompArch>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<SeccompFlag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: SeccompArch,
    #[serde(default)]
    sub_architectures: Option<Vec<SeccompArch>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: SeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Option<SyscallArg>>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile and decides its rules. `None` when it has neither a default action nor rules,
/// which turns filtering off. Pure.
///
/// Errors: not JSON, an unknown action, operator, architecture or flag, both `architectures` and
/// `archMap`, both `name` and `names`, a malformed `minKernel`, rules without a default action.
pub fn parse(text: &str, environment: &Environment) -> Result<Option<Seccomp>> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Error::kind(Kind::Usage, "the seccomp profile cannot be read")
            .caused_by(why.to_string())
            .hint("it is docker's JSON format, or a linux.seccomp section of config.json")
            .topic("seccomp")
    };
    // serde would take a list for the fields in their order.
    if !text.trim_start().starts_with('{') {
        return Err(unreadable(&"it is no JSON object"));
    }
    let profile: Profile = serde_json::from_str(text).map_err(|e| unreadable(&e))?;
    let bad = |what: &str| Err(Error::kind(Kind::Usage, what.to_string()).topic("seccomp"));
    let rules = profile.syscalls.unwrap_or_default();
    let Some(default_action) = profile.default_action else {
        return match rules.is_empty() {
            true => Ok(None),
            false => bad("the seccomp profile has rules and no defaultAction"),
        };
    };
    let listed = profile.architectures.unwrap_or_default();
    let map = profile.arch_map.unwrap_or_default();
    if !listed.is_empty() && !map.is_empty() {
        return bad("the seccomp profile has both architectures and archMap");
    }
    let mapped = map.into_iter().find(|m| m.architecture == environment.arch);
    let architectures = match mapped {
        Some(m) => [
            vec![m.architecture],
            m.sub_architectures.unwrap_or_default(),
        ]
        .concat(),
        None => listed,
    };
    let mut syscalls = Vec::new();
    for rule in rules {
        let mut names = rule.names.unwrap_or_default();
        match rule.name {
            Some(name) if !name.is_empty() && !names.is_empty() => {
                return bad(&format!(
                    "a rule of the seccomp profile has both a name ({name}) and names"
                ));
            }
            Some(name) if !name.is_empty() => names.push(name),
            _ => {}
        }
        let included = match &rule.includes {
            Some(filter) => filter.all(environment)?,
            None => true,
        };
        let excluded = match &rule.excludes {
            Some(filter) => filter.any(environment)?,
            None => false,
        };
        if included && !excluded {
            syscalls.push(SyscallRule {
                names,
                action: rule.action,
                errno_ret: rule.errno_ret,
                args: rule.args.into_iter().flatten().flatten().collect(),
                ..SyscallRule::default()
            });
        }
    }
    Ok(Some(Seccomp {
        default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
        ..Seccomp::default()
    }))
}

impl Filter {
    /// `includes`: every condition must hold, and every capability must be there.
    fn all(&self, on: &Environment) -> Result<bool> {
        let caps = self.caps.iter().flatten().all(|c| has(on.caps, c));
        let arches = self.arches.as_deref().unwrap_or_default();
        let arch = arches.is_empty() || names_arch(arches, on.arch);
        let kernel = match &self.min_kernel {
            Some(version) => on.kernel >= parse_version(version)?,
            None => true,
        };
        Ok(caps && arch && kernel)
    }
    /// `excludes`: one condition is enough, and one capability.
    fn any(&self, on: &Environment) -> Result<bool> {
        let caps = self.caps.iter().flatten().any(|c| has(on.caps, c));
        let arch = names_arch(self.arches.as_deref().unwrap_or_default(), on.arch);
        let kernel = match &self.min_kernel {
            Some(version) => on.kernel >= parse_version(version)?,
            None => false,
        };
        Ok(caps || arch || kernel)
    }
}

/// A capability that this table does not know is not in any set.
fn has(caps: CapSet, name: &str) -> bool {
    name.parse().is_ok_and(|c| caps.has(c))
}

fn names_arch(list: &[String], arch: SeccompArch) -> bool {
    list.iter().any(|name| name == names::docker_name(arch))
}

/// `4.8` → (4, 8).
fn parse_version(text: &str) -> Result<(u32, u32)> {
    let numbers = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.ok_or_else(|| {
        Error::kind(
            Kind::Usage,
            format!("bad minKernel {text:?} in the seccomp profile"),
        )
        .hint("it has the form MAJOR.MINOR, as in 4.8")
        .topic("seccomp")
    })
}
