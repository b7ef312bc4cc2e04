//! What a document must not say: refused before anything happens, by the name of its field.
//!
//! What it does: checks what no step would notice, or only when half of the container is made: a
//! field that would be passed over without a word, though its author counts on it.
//!
//! What it implements: the MUSTs of runtime-spec `config.md` and `config-linux.md` about single
//! fields, and the refusals that runc and crun share.
//! Interface: [`check`]. Read next: `plan.rs`.

use super::hooks::Moment;
use super::operations::hooks_of;
use super::options::MountOptions;
use super::scheduling;
use crate::error::{Error, Kind, Result};
use crate::spec::runtime::{Linux, Namespace, NamespaceType, OCI_VERSION, Process, Spec};
use std::borrow::Cow;

fn wrong(what: impl Into<Cow<'static, str>>) -> Error {
    Error::kind(Kind::Usage, what).topic("oci-bundle")
}

/// Errors (kind `Usage`): a field that contradicts another one, or the specification. (Kind
/// `Unsupported`): one that this build cannot do.
pub(super) fn check(spec: &Spec, process: &Process, linux: &Linux) -> Result<()> {
    version(&spec.oci_version)?;
    unsupported(process, linux)?;
    let has = |typ| linux.namespaces.iter().any(|n| n.typ == typ);
    for (name, value) in [
        ("hostname", &spec.hostname),
        ("domainname", &spec.domainname),
    ] {
        if value.as_deref().is_some_and(|v| !v.is_empty()) && !has(NamespaceType::Uts) {
            return Err(wrong(format!(
                "config.json has {name}, and linux.namespaces no uts namespace"
            ))
            .hint("without one it would be the host's name"));
        }
    }
    id_maps(linux)?;
    for clock in linux.time_offsets.keys() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(
                wrong(format!("linux.timeOffsets cannot have the clock {clock:?}"))
                    .hint("a time namespace has monotonic and boottime"),
            );
        }
    }
    mounts(spec)?;
    hooks(spec)?;
    let rules = linux.seccomp.iter().flat_map(|s| &s.syscalls);
    if rules.into_iter().any(|rule| rule.names.is_empty()) {
        return Err(wrong("a rule of linux.seccomp.syscalls has no names"));
    }
    if let Some(n) = swappiness(linux).filter(|n| (201..SIGNED_END).contains(n)) {
        return Err(
            wrong(format!("linux.resources.memory.swappiness cannot be {n}"))
                .hint("it is 0 to 100, and up to 200 on kernels since 5.8"),
        );
    }
    // For exec alone, which would say it late.
    scheduling::affinity(process).map(drop)
}

/// Docker's clients send -1 for "not set", and Go's encoder writes it as an unsigned number.
const SIGNED_END: u64 = 1 << 63;

fn swappiness(linux: &Linux) -> Option<u64> {
    linux.resources.as_ref()?.memory.as_ref()?.swappiness
}

/// Semantic versions of the specification's first major version. An absent one is taken for it.
fn version(text: &str) -> Result<()> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u64>> = core.split('.').map(|n| n.parse().ok()).collect();
    match numbers[..] {
        _ if text.is_empty() => Ok(()),
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(Error::kind(
            Kind::Unsupported,
            format!(
                "ociVersion {text} is a version of the specification that this build does not know"
            ),
        )
        .hint(format!("it knows 1.0.0 to {OCI_VERSION}"))
        .topic("oci-bundle")),
        _ => Err(wrong(format!("ociVersion {text:?} is no version"))
            .hint(format!("write three numbers, such as {OCI_VERSION}"))),
    }
}

/// What this build cannot do.
fn unsupported(process: &Process, linux: &Linux) -> Result<()> {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    let profile = process.apparmor_profile.as_deref();
    let refused = [
        (
            given(&process.apparmor_profile) && profile != Some("unconfined"),
            "process.apparmorProfile",
            "this build has no AppArmor",
        ),
        (
            given(&process.selinux_label),
            "process.selinuxLabel",
            "this build has no SELinux",
        ),
        (
            given(&linux.mount_label),
            "linux.mountLabel",
            "this build has no SELinux",
        ),
        (
            linux.intel_rdt.is_some(),
            "linux.intelRdt",
            "this build does not divide up caches and memory bandwidth",
        ),
    ];
    match refused.iter().find(|(asked, ..)| *asked) {
        Some((_, name, why)) => Err(Error::kind(
            Kind::Unsupported,
            format!("config.json asks for {name}, which this version cannot do"),
        )
        .hint(format!("{why}: leave it out"))),
        None => Ok(()),
    }
}

/// Maps belong to a user namespace, and a new one needs both.
fn id_maps(linux: &Linux) -> Result<()> {
    let user: Option<&Namespace> = linux
        .namespaces
        .iter()
        .find(|n| n.typ == NamespaceType::User);
    let maps = [
        ("linux.uidMappings", linux.uid_mappings.is_empty()),
        ("linux.gidMappings", linux.gid_mappings.is_empty()),
    ];
    for (name, empty) in maps {
        match user {
            None if !empty => {
                return Err(wrong(format!(
                    "config.json has {name}, and linux.namespaces no user namespace"
                ))
                .hint("without one, its users would be the host's")
                .topic("user-namespaces"));
            }
            Some(n) if n.path.is_none() && empty => {
                return Err(wrong(format!(
                    "linux.namespaces has a new user namespace, and {name} is empty"
                ))
                .hint("without a map there is no user in it, root neither")
                .topic("user-namespaces"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn mounts(spec: &Spec) -> Result<()> {
    for (i, mount) in spec.mounts.iter().enumerate() {
        let typ = mount.typ.as_deref().unwrap_or_default();
        let options = MountOptions::parse(&mount.options)?;
        if typ.is_empty() && !options.bind && !options.remount {
            let place = mount.destination.display();
            return Err(wrong(format!("mounts[{i}], at {place}, has no type"))
                .hint("name a file system, or give the option bind or rbind"));
        }
    }
    Ok(())
}

fn hooks(spec: &Spec) -> Result<()> {
    let all = hooks_of(spec);
    let lists = [
        (Moment::Prestart, &all.prestart),
        (Moment::CreateRuntime, &all.create_runtime),
        (Moment::CreateContainer, &all.create_container),
        (Moment::StartContainer, &all.start_container),
        (Moment::Poststart, &all.poststart),
        (Moment::Poststop, &all.poststop),
    ];
    for (moment, list) in lists {
        let name = moment.name();
        for hook in list {
            let path = hook.path.display();
            if !hook.path.is_absolute() {
                return Err(wrong(format!(
                    "the path of the {name} hook {path} is not absolute"
                )));
            }
            if let Some(timeout) = hook.timeout.filter(|t| *t <= 0) {
                return Err(wrong(format!(
                    "the timeout of the {name} hook {path} is {timeout}"
                ))
                .hint("it is a number of seconds greater than zero; leave it out for no limit"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::runtime::OCI_VERSION;
    use serde_json::{Value, json};

    fn said(change: impl FnOnce(&mut Value)) -> String {
        let mut document = json!({"ociVersion": OCI_VERSION, "hostname": "a",
            "mounts": [{"destination": "/a", "type": "tmpfs"}],
            "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}]}});
        change(&mut document);
        let spec: Spec = serde_json::from_value(document).unwrap();
        let (process, linux) = (
            spec.process.clone().unwrap_or_default(),
            spec.linux.clone().unwrap_or_default(),
        );
        match check(&spec, &process, &linux) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_refusal_names_the_field() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 18] = [
            ("", |_| {}),
            ("", |c| c["ociVersion"] = json!("1.0.2-dev")),
            ("", |c| {
                c["linux"]["resources"] = json!({"memory": {"swappiness": u64::MAX}})
            }),
            ("ociVersion 2.0.0", |c| c["ociVersion"] = json!("2.0.0")),
            ("ociVersion \"one\"", |c| c["ociVersion"] = json!("one")),
            ("hostname", |c| {
                c["linux"]["namespaces"] = json!([{"type": "mount"}])
            }),
            ("linux.uidMappings", |c| {
                c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
            }),
            ("linux.gidMappings is empty", |c| {
                c["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
                c["linux"]["namespaces"] = json!([{"type": "user"}, {"type": "uts"}]);
            }),
            ("", |c| {
                c["linux"]["namespaces"] = json!([{"type": "user", "path": "/x"}, {"type": "uts"}]);
            }),
            ("the clock \"realtime\"", |c| {
                c["linux"]["timeOffsets"] = json!({"realtime": {"secs": 1}});
            }),
            ("mounts[0], at /a, has no type", |c| {
                c["mounts"] = json!([{"destination": "/a"}]);
            }),
            ("", |c| {
                c["mounts"] = json!([{"destination": "/a", "source": "/b", "options": ["rbind"]}]);
            }),
            ("poststop hook bin/x is not absolute", |c| {
                c["hooks"] = json!({"poststop": [{"path": "bin/x"}]});
            }),
            ("timeout of the prestart hook /x is 0", |c| {
                c["hooks"] = json!({"prestart": [{"path": "/x", "timeout": 0}]});
            }),
            ("linux.seccomp.syscalls has no names", |c| {
                c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]});
            }),
            ("swappiness cannot be 300", |c| {
                c["linux"]["resources"] = json!({"memory": {"swappiness": 300}});
            }),
            ("linux.mountLabel", |c| {
                c["linux"]["mountLabel"] = json!("x")
            }),
            ("process.execCPUAffinity.initial", |c| {
                c["process"] = json!({"cwd": "/", "execCPUAffinity": {"initial": "x"}});
            }),
        ];
        for (word, change) in cases {
            let said = said(change);
            assert!(
                said.contains(word) && said.is_empty() == word.is_empty(),
                "{word:?}: {said}"
            );
        }
    }
}
