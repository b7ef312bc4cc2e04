//! An engine in a container: glassbox in a privileged container of its own, as docker is run in docker.
//!
//! What is below the outer container's group is all that the inner engine may use: on cgroup v1 its
//! mounts begin there, on v2 its cgroup namespace does, and the group that it finds itself in cannot
//! hold processes and hand controllers on at the same time.
//!
//! Read next: `cgroups.rs`; `src/host/cgroup_layout.rs` (`place`), `src/runtime/exec_group.rs`.

mod common;

use common::Host;

/// The engine and what it needs to make an image `lab` of, as an image; its name.
fn image(host: &Host) -> &'static str {
    let binary = common::binary().display().to_string();
    host.ok(&[
        "image",
        "from-host",
        "-t",
        "engine",
        &binary,
        "sh",
        "cat",
        "sleep",
        "grep",
        "mkdir",
    ]);
    "engine"
}

#[test]
fn an_engine_in_a_container_runs_containers_with_limits() {
    needs!("root");
    let host = Host::new("nested");
    let image = image(&host);
    let binary = common::binary().display().to_string();
    // The inner state is on a volume: overlayfs takes no overlay as an upper directory.
    let run = [
        "run",
        "-d",
        "--privileged",
        "--name",
        "outer",
        "-v",
        "/inner",
        "-e",
        "GLASSBOX_ROOT=/inner",
        image,
        "sleep",
        "1000",
    ];
    host.ok(&run);
    let inside = |args: &[&str]| host.ok(&[&["exec", "outer", &binary], args].concat());
    inside(&[
        "image",
        "from-host",
        "-t",
        "small",
        "sh",
        "cat",
        "sleep",
        "grep",
    ]);
    let begin = ["run", "-d", "--network", "none", "--name", "inner"];
    let limits = ["-m", "48m", "--pids-limit", "77", "small", "sleep", "1000"];
    inside(&[&begin[..], &limits].concat());
    // What the kernel says of the inner group, by the paths that the outer container sees, and that
    // it lies within the outer one's, by the host's view.
    let stat = inside(&["cgroup", "stat", "--json", "inner"]);
    assert!(stat.contains("50331648") && stat.contains("77"), "{stat}");
    let id_of = |said: String| said.trim().to_string();
    let outer = id_of(host.ok(&["inspect", "-f", "{{.Id}}", "outer"]));
    let inner = id_of(inside(&["inspect", "-f", "{{.Id}}", "inner"]));
    let group = format!("{outer}/glassbox/{inner}");
    let tree = host.ok(&["cgroup", "ls", "--json"]);
    assert!(tree.contains(&group), "{group} is not in {tree}");
    // Both engines' exec, though the outer container's init had to make room on v2.
    let said = inside(&["exec", "inner", "cat", "/proc/self/cgroup"]);
    assert!(said.contains(&inner) || said.trim() == "0::/", "{said}");
    let said = host.ok(&["exec", "outer", "cat", "/proc/self/cgroup"]);
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    // On v2 the outer container has a cgroup namespace, and init is in a leaf of its root.
    let expected = if unified { "0::/glassbox-leaf" } else { &outer };
    assert!(said.contains(expected), "{said}");
    assert_eq!(
        inside(&["run", "--rm", "small", "sh", "-c", "echo $((6*7))"]),
        "42"
    );
    inside(&["rm", "-f", "inner"]);
    let left = inside(&["ps", "-aq"]);
    assert_eq!(left, "");
    host.ok(&["rm", "-fv", "outer"]);
}

#[test]
fn in_a_container_of_dockers_defaults_it_says_what_holds_it() {
    needs!("root");
    let host = Host::new("nested-filtered");
    let image = image(&host);
    let binary = common::binary().display().to_string();
    let within = [
        "run",
        "--rm",
        "-e",
        "GLASSBOX_ROOT=/tmp/inner",
        image,
        &binary,
    ];
    let run = ["run", "--network", "none", "lab", "true"];
    let said = host.fails(125, &[&within[..], &run].concat());
    for words in [
        "cannot split the monitor off",
        "ENOSYS",
        "seccomp filter",
        "--privileged",
    ] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    let told = host.ok(&[&within[..], &["inspect", "host"]].concat());
    assert!(
        told.contains("the seccomp filter that holds this one"),
        "{told}"
    );
}
