//! Who keeps a process: told by the path of its cgroup, on which every engine leaves its mark.
//!
//! What it implements: the cgroup paths that the engines use, with the systemd driver
//! (`docker-ID.scope`) and with cgroupfs (`/docker/ID`).
//! Interface: [`keeper`]. Read next: `process.rs`.

use super::model::Keeper;

/// Scope names of the systemd driver: the prefix before the id, and whose it is.
const SCOPES: &[(&str, &str)] = &[
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "kubernetes"),
    ("crio-", "cri-o"),
    ("nerdctl-", "containerd"),
    ("glassbox-", "glassbox"),
    ("machine-", "systemd-nspawn"),
];
/// Parent groups of the cgroupfs drivers.
const PARENTS: &[(&str, &str)] = &[
    ("docker", "docker"),
    ("libpod_parent", "podman"),
    ("glassbox", "glassbox"),
    ("lxc", "lxc"),
    ("default", "containerd"),
    ("k8s.io", "kubernetes"),
    ("moby", "docker"),
];

/// The keeper that the paths of /proc/PID/cgroup show, the most telling path first; nothing when
/// none is known.
pub fn keeper<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> Option<Keeper> {
    let container = paths.clone().find_map(container_of);
    container.or_else(|| paths.clone().find_map(unit_of))
}

fn found(name: &str, id: &str, path: &str) -> Option<Keeper> {
    Some(Keeper {
        name: name.into(),
        id: id.into(),
        evidence: path.into(),
    })
}

fn container_of(path: &str) -> Option<Keeper> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    // The innermost mark counts: a container inside a container belongs to the inner engine.
    for (i, part) in parts.iter().enumerate().rev() {
        if let Some(scope) = part.strip_suffix(".scope") {
            for (prefix, name) in SCOPES {
                if let Some(id) = scope.strip_prefix(prefix)
                    && !id.starts_with("conmon")
                {
                    return found(name, id, path);
                }
            }
        }
        if let Some(id) = part.strip_prefix("lxc.payload.") {
            return found("lxc", id, path);
        }
        if let Some(id) = part.strip_prefix("libpod-")
            && is_id(id)
        {
            return found("podman", id, path);
        }
        let above = i.checked_sub(1).map(|j| parts[j]);
        let by_parent = above.and_then(|a| PARENTS.iter().find(|(parent, _)| *parent == a));
        if let Some((_, name)) = by_parent
            && (is_id(part) || *name == "lxc" || *name == "glassbox" || *name == "containerd")
        {
            return found(name, part, path);
        }
        if is_id(part) && parts[..i].iter().any(|p| p.starts_with("kubepods")) {
            return found("kubernetes", part, path);
        }
    }
    None
}

fn unit_of(path: &str) -> Option<Keeper> {
    let unit = path.split('/').rev().find(|p| {
        [".service", ".scope", ".socket"]
            .iter()
            .any(|s| p.ends_with(s))
    })?;
    found("systemd", unit, path)
}

/// 64 hex digits, as containers' ids are.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_leaves_its_mark() {
        let id = "3fae".repeat(16);
        let cases = [
            (format!("/docker/{id}"), "docker"),
            (format!("/system.slice/docker-{id}.scope"), "docker"),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container"
                ),
                "podman",
            ),
            (format!("/kubepods/burstable/pod1234/{id}"), "kubernetes"),
            (
                format!("/kubepods.slice/kubepods-besteffort.slice/cri-containerd-{id}.scope"),
                "kubernetes",
            ),
            (format!("/glassbox/{id}"), "glassbox"),
            ("/lxc.payload.web/init.scope".into(), "lxc"),
            ("/system.slice/ssh.service".into(), "systemd"),
            (format!("/docker/{id}/docker/{}", "ab".repeat(32)), "docker"),
        ];
        for (path, name) in &cases {
            let keeper = keeper([path.as_str()].into_iter()).unwrap();
            assert_eq!(&keeper.name, name, "{path}");
        }
        let nested = keeper([cases[8].0.as_str()].into_iter()).unwrap();
        assert_eq!(nested.id, "ab".repeat(32));
        assert!(keeper(["/", "/some/group"].into_iter()).is_none());
        assert!(
            keeper([format!("/user.slice/libpod-conmon-{id}.scope").as_str()].into_iter())
                .is_none_or(|k| k.name == "systemd")
        );
    }

    #[test]
    fn a_container_outweighs_a_unit() {
        let paths = ["/system.slice/run.service", "/docker/aaaa"];
        assert_eq!(keeper(paths.into_iter()).unwrap().name, "systemd");
        let id = format!("/docker/{}", "a".repeat(64));
        let both = ["/system.slice/run.service", id.as_str()];
        assert_eq!(keeper(both.into_iter()).unwrap().name, "docker");
    }
}
