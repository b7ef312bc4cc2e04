//! What a container may do: capabilities, the seccomp filter, `--security-opt`.
//!
//! What it implements: docker's 14 default capabilities and its `--cap-add`, `--cap-drop`,
//! `--privileged`, `--security-opt`; capabilities(7).
//! Interface: [`capabilities`], [`seccomp`], [`parse_security_opts`]. Read next:
//! [`crate::security`], which applies them.

use super::super::flags;
use super::Input;
use crate::error::{Context, Error, Kind, Result};
use crate::security::capabilities::CapSet;
use crate::security::seccomp::docker_json::{self, Environment};
use crate::security::seccomp::names::native;
use crate::security::seccomp::profile::docker_default;
use crate::spec::runtime as oci;

/// The capabilities of every container that asks for nothing else: enough for a distribution's
/// packages to install and for servers to start, nothing that reaches the host.
const DEFAULT: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What `--security-opt` asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecurityOptions {
    /// No program may gain privileges over its parent's.
    pub no_new_privileges: bool,
    /// `unconfined` or the path of a profile; `None` for the default filter.
    pub seccomp: Option<String>,
    /// An AppArmor profile.
    pub apparmor: Option<String>,
    /// Nothing is masked or read-only.
    pub systempaths_unconfined: bool,
}

/// Reads `--security-opt` values. Errors: an option that is not known.
pub fn parse_security_opts(options: &[String]) -> Result<SecurityOptions> {
    let mut all = SecurityOptions::default();
    for option in options {
        let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => all.no_new_privileges = true,
            ("no-new-privileges", "false") => all.no_new_privileges = false,
            ("seccomp", value) if !value.is_empty() => {
                all.seccomp = Some(value.to_string()).filter(|v| v != "builtin");
            }
            ("apparmor", "unconfined") => all.apparmor = None,
            ("apparmor", value) if !value.is_empty() => all.apparmor = Some(value.to_string()),
            // Without SELinux there is no label to set or to disable.
            ("label", value) if !value.is_empty() => {}
            ("systempaths", "unconfined") => all.systempaths_unconfined = true,
            _ => {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("invalid --security-opt: {option:?}"),
                )
                .hint(
                    "no-new-privileges, seccomp=unconfined, seccomp=PROFILE.json, apparmor=NAME, \
                     systempaths=unconfined",
                ));
            }
        }
    }
    Ok(all)
}

/// `process.capabilities`: root gets its set as permitted and effective, any other user only as
/// the bounding set, for there is no ambient one. Errors: a name that is no capability.
pub fn capabilities(input: &Input<'_>, warnings: &mut Vec<String>) -> Result<oci::Capabilities> {
    let h = &input.record.host_config;
    let known = CapSet::ALL_KNOWN.names();
    let every = || input.known_caps.clone();
    let mut set: Vec<String> = if h.privileged {
        every()
    } else {
        let names = DEFAULT.iter().map(|n| n.to_string());
        names.filter(|n| input.known_caps.contains(n)).collect()
    };
    let names = |list: &[String]| -> Result<Vec<String>> {
        list.iter()
            .map(|text| {
                let name = flags::capability(text);
                let fits = name == "ALL" || known.contains(&name);
                fits.then_some(name).ok_or_else(|| {
                    Error::kind(Kind::Usage, format!("unknown capability: {text:?}"))
                        .hint("capabilities(7) lists them; ALL means every one")
                        .topic("capabilities")
                })
            })
            .collect()
    };
    let (add, drop) = (names(&h.cap_add)?, names(&h.cap_drop)?);
    // As docker: ALL on one side is the start, and the names on the other side are exceptions.
    if add.iter().any(|n| n == "ALL") {
        set = every();
    } else if drop.iter().any(|n| n == "ALL") {
        set.clear();
    }
    set.extend(add.iter().filter(|n| *n != "ALL").cloned());
    if !h.privileged {
        set.retain(|n| !drop.contains(n) || (drop.iter().any(|d| d == "ALL") && add.contains(n)));
    }
    let order = |n: &String| known.iter().position(|k| k == n);
    set.sort_by_key(order);
    set.dedup();
    if input.identity.uid == 0 {
        return Ok(oci::Capabilities {
            bounding: set.clone(),
            effective: set.clone(),
            permitted: set,
            ..oci::Capabilities::default()
        });
    }
    if !add.is_empty() {
        warnings.push(format!(
            "--cap-add has no effect at first for user {}: capabilities of a user other than root come only from a program's file",
            input.identity.uid
        ));
    }
    Ok(oci::Capabilities {
        bounding: set,
        ..oci::Capabilities::default()
    })
}

/// `linux.seccomp`: the default filter, the user's, or none.
pub fn seccomp(
    input: &Input<'_>,
    options: &SecurityOptions,
    capabilities: Option<&oci::Capabilities>,
) -> Result<Option<oci::Seccomp>> {
    let granted = capabilities.map(|c| c.bounding.clone()).unwrap_or_default();
    let environment = Environment {
        caps: CapSet::parse(&granted)?,
        arch: native(),
        kernel: input.host.version,
    };
    match options.seccomp.as_deref() {
        Some("unconfined") => Ok(None),
        Some(path) => match &input.seccomp {
            Some(text) => docker_json::parse(text, &environment)
                .with_context(|| format!("cannot use the seccomp profile {path}")),
            None => Err(Error::new(format!(
                "the seccomp profile {path} was not read"
            ))),
        },
        None if input.record.host_config.privileged => Ok(None),
        None => {
            let Environment { caps, arch, kernel } = environment;
            Ok(Some(docker_default(caps, arch, kernel)))
        }
    }
}
