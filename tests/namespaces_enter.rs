//! Stage 1 on the built binary: `ns enter`, by process, by file, as root and as an ordinary user.

mod common;

use common::namespaces::{Held, KINDS, host};
use common::{Run, TempRoot, run};

const ALL_LINKS: &str =
    "for k in user mnt uts ipc pid net cgroup time; do readlink /proc/self/ns/$k; done";

#[test]
fn entering_a_process_means_seeing_what_it_sees() {
    needs!("root");
    let held = Held::new(&["--all", "--hostname", "inner"]);
    let target = held.pid.to_string();
    let theirs = |kind: &str| held.namespace(kind);
    let output = run(["ns", "enter", &target, "--", "sh", "-c", ALL_LINKS]).success();
    for (line, (kind, _)) in output.stdout.lines().zip(KINDS) {
        assert_eq!(line, theirs(kind), "{output}");
    }
    assert_eq!(output.stdout.lines().count(), 8, "{output}");
    let args = [
        "ns", "enter", "--uts", "--net", &target, "--", "sh", "-c", ALL_LINKS,
    ];
    let output = run(args).success();
    for (line, (kind, _)) in output.stdout.lines().zip(KINDS) {
        let entered = kind == "uts" || kind == "net";
        let expected = if entered { theirs(kind) } else { host(kind) };
        assert_eq!(line, expected, "{output}");
    }
    let args = [
        "ns",
        "enter",
        &target,
        "--",
        "sh",
        "-c",
        "uname -n; id -u; exit 5",
    ];
    run(args).exits(5).out_is("inner\n0");
    run(["ns", "enter", &target, "--", "no-such-command"])
        .fails(127, &["executable file not found in $PATH"]);
    // Capabilities decide which comes first.
    let dry = run(["ns", "enter", "--dry-run", "--json", &target, "--", "true"]).success();
    let ids: Vec<String> = steps(&dry.json());
    assert_eq!(ids, ["enter", "enter-user", "fork", "ids", "execute"]);
}

#[test]
fn an_ordinary_user_enters_what_it_made() {
    let held = Held::user(&["--all", "--hostname", "inner"]);
    let target = held.pid.to_string();
    let go = |args: &[&str]| Run::new(["ns", "enter"].iter().chain(args)).as_user().go();
    let output = go(&[
        &target,
        "--",
        "sh",
        "-c",
        "uname -n; id -u; readlink /proc/self/ns/pid",
    ]);
    let expected = format!("inner\n0\n{}", held.namespace("pid"));
    output.success().out_is(&expected);
    let dry = go(&["--dry-run", "--json", &target, "--", "true"]).success();
    assert_eq!(steps(&dry.json())[..2], ["enter-user", "enter"]);
    if common::is_root() {
        go(&["1", "--", "true"]).fails(125, &["process 1", "EACCES", "ptrace"]);
    }
}

fn steps(plan: &serde_json::Value) -> Vec<String> {
    let steps = plan["steps"].as_array().expect("steps");
    let id = |s: &serde_json::Value| s["id"].as_str().expect("id").to_string();
    steps.iter().map(id).collect()
}

#[test]
fn a_namespace_file_is_a_target_too() {
    needs!("root");
    let held = Held::new(&["--uts", "--pid", "--hostname", "filed"]);
    let file = format!("/proc/{}/ns/uts", held.pid);
    run(["ns", "enter", &file, "--", "uname", "-n"])
        .success()
        .out_is("filed");
    let file = format!("/proc/{}/ns/pid", held.pid);
    let output = run(["ns", "enter", &file, "--", "sh", "-c", "echo $$"]).success();
    assert_ne!(output.stdout.trim(), "1", "PID 1 is taken: {output}");
    run(["ns", "enter", "--net", &file, "--", "true"]).fails(125, &["is a pid namespace"]);
    run(["ns", "enter", "/etc/passwd", "--", "true"]).fails(125, &["not a namespace file"]);
    run(["ns", "enter", "/no/file", "--", "true"]).fails(125, &["ENOENT"]);
    run(["ns", "enter", "2000000000", "--", "true"]).fails(125, &["no process 2000000000"]);
    let own = run(["ns", "enter", "/proc/self/ns/net", "--", "true"]).success();
    own.err_has("in already");
    let root = TempRoot::new("target");
    common::run_in(&root, ["ns", "enter", "no-such-container", "--", "true"]).fails(
        125,
        &["neither a process, a container nor a namespace file"],
    );
}

#[test]
fn nothing_is_born_in_a_pid_namespace_without_its_init() {
    needs!("root");
    let root = TempRoot::new("dead-init");
    let file = root.path().join("pid");
    let file = file.to_str().expect("utf-8");
    let held = Held::new(&["--pid"]);
    run(["ns", "pin", "--type", "pid", &held.pid.to_string(), file]).success();
    drop(held);
    run(["ns", "enter", file, "--", "true"]).fails(
        125,
        &[
            "cannot create a process",
            "ENOMEM",
            "no PID 1 any more",
            "pid-namespaces",
        ],
    );
    run(["ns", "unpin", file]).success();
}

#[test]
fn a_value_that_is_refused_says_what_is_accepted() {
    for (args, parts) in [
        (
            &["run", "--propagation", "bad"][..],
            &["--propagation", "slave"][..],
        ),
        (
            &["run", "--map-user", "foo"],
            &["--map-user", "INSIDE:OUTSIDE:COUNT"],
        ),
        (
            &["run", "--boottime", "abc"],
            &["--boottime", "write seconds"],
        ),
        (&["ls", "--type", "foo"], &["--type", "the eight kinds"]),
    ] {
        run([&["ns"], args].concat()).fails(125, parts);
    }
    let file = format!("/tmp/glassbox-test-no-dir-{}/file", std::process::id());
    run(["ns", "pin", "/proc/self/ns/uts", &file]).fails(125, &["ENOENT", "mkdir -p"]);
}

#[test]
fn a_container_is_a_target_by_name_and_by_id() {
    needs!("root");
    let root = TempRoot::new("container");
    let _leaks = common::LeakCheck::new(&root);
    let name = format!("ns-{}", root.tag());
    let args = [
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        "none",
        "--hostname",
        "boxed",
        "lab",
    ];
    let id = common::run_in(&root, args.iter().chain(&["sleep", "60"])).success();
    let id = id.stdout.trim();
    for target in [name.as_str(), id, &id[..12]] {
        let command = ["ns", "enter", target, "--", "sh", "-c", "hostname; echo $$"];
        let output = common::run_in(&root, command).success();
        output.out_has("boxed\n");
    }
    let listed = common::run_in(&root, ["ns", "ls", "--json", "--type", "uts", &name]).success();
    let oldest = listed.json()["namespaces"][0]["oldest"]["command"].clone();
    assert_eq!(oldest, "sleep 60", "{listed}");
    common::run_in(&root, ["stop", "-t", "0", &name]).success();
    common::run_in(&root, ["ns", "enter", &name, "--", "true"]).fails(125, &["is not running"]);
    common::run_in(&root, ["rm", &name]).success();
}
