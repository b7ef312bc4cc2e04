//! SIGKILL at each step of start, stop and rm: nothing leaks, and the next command sees the truth.
//!
//! Host only: it runs a few hundred commands under strace, which takes minutes in an emulated machine
//!
//! Read next: `crash.rs`, where the moments are those of a clock; `src/containers/reconcile.rs`.

mod common;

use common::network::own_network;
use common::{LeakCheck, Output, Run, TempRoot, run_in};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[track_caller]
fn ok(out: Output) -> Output {
    assert_eq!(out.code(), 0, "{out}");
    out
}

/// The calls that change something: the steps at which a process is killed.
const STEPS: &[&str] = &[
    "execve",
    "clone3",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mknod",
    "mknodat",
    "symlinkat",
    "mount",
    "move_mount",
    "pivot_root",
    "setns",
    "write",
    "pwrite64",
    "pwritev",
    "ftruncate",
    "flock",
    "bind",
    "listen",
    "connect",
    "sendto",
    "sendmsg",
    "pidfd_send_signal",
    "kill",
    "setsid",
    "prctl",
    "seccomp",
];

/// Each process of a command, and of the monitor that it starts, is killed at its nth call that
/// changes something, for each call and every n: the next commands see the truth, and nothing leaks.
fn killed_at_each_step(name: &str, before: &[&str], command: &[&str]) {
    killed_at_each(STEPS, name, before, command, &|| {});
}

/// The same for these calls alone; `check` looks for more that must not be left.
fn killed_at_each(calls: &[&str], name: &str, before: &[&str], command: &[&str], check: &dyn Fn()) {
    let root = TempRoot::new(name);
    let _leaks = LeakCheck::new(&root);
    ok(run_in(&root, ["run", "--rm", "lab", "true"])); // makes the image
    let mut steps = 0;
    for call in calls {
        let mut nth = 1;
        while killed_at(&root, call, nth, before, command) {
            check();
            nth += 1;
            assert!(nth < 200, "{call}: there is no end");
        }
        steps += nth - 1;
    }
    assert!(steps > 5, "hardly anything was killed");
    eprintln!("{command:?}: killed at each of {steps} steps");
}

/// False when there is no nth call.
fn killed_at(root: &TempRoot, call: &str, nth: u32, before: &[&str], command: &[&str]) -> bool {
    ok(run_in(root, before));
    let run = Run::new(command).env("GLASSBOX_ROOT", root.path());
    let (plain, trace) = (run.command(), root.join("trace"));
    let mut strace = std::process::Command::new("timeout");
    strace.args(["-k", "1", "20", "strace", "-f", "-qq", "-e"]);
    strace.arg(format!("trace={call}")).arg("-e");
    strace.arg(format!("inject={call}:signal=SIGKILL:when={nth}"));
    strace
        .arg("-o")
        .arg(&trace)
        .arg(plain.get_program())
        .args(plain.get_args());
    let set = plain.get_envs().filter_map(|(k, v)| Some((k, v?)));
    strace.envs(set);
    strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    strace.status().expect("strace");
    let told = std::fs::read_to_string(&trace).unwrap_or_default();
    let at = format!("{call} {nth}: {told}");
    let seen = ok(run_in(
        root,
        ["ps", "-a", "--format", "{{.Names}} {{.State}}"],
    ));
    let states = ["", "box created\n", "box exited\n", "box running\n"];
    assert!(states.contains(&seen.stdout.as_str()), "{seen}\nafter {at}");
    ok(run_in(root, ["system", "recover"])); // sweeps what a removal that was cut off has left
    ok(run_in(root, ["rm", "-f", "box"]));
    let count = |dir: &str| std::fs::read_dir(root.join(dir)).map_or(0, Iterator::count);
    let end = Instant::now() + Duration::from_secs(60);
    while count("containers") > 1 || count("run") > 0 {
        assert!(Instant::now() < end, "something is left after {at}");
        std::thread::sleep(Duration::from_millis(5));
    }
    told.contains("killed by SIGKILL") // the program inside ends by itself
}

const LONG: &[&str] = &["run", "-d", "--name", "box", "lab", "sleep", "1000"];
const SHORT: &[&str] = &["create", "--name", "box", "lab", "sleep", "0.05"];

#[test]
fn start_is_killed_at_each_step() {
    needs!("root", "strace", "timeout");
    killed_at_each_step("start-steps", SHORT, &["start", "box"]);
}

#[test]
fn stop_is_killed_at_each_step() {
    needs!("root", "strace", "timeout");
    killed_at_each_step("stop-steps", LONG, &["stop", "-t", "0", "box"]);
}

#[test]
fn rm_is_killed_at_each_step() {
    needs!("root", "strace", "timeout");
    killed_at_each_step("rm-steps", SHORT, &["rm", "box"]);
    killed_at_each_step("rm-f-steps", LONG, &["rm", "-f", "box"]);
}

/// Where the network's parts are made and taken away: links, rules and questions about them
/// (`sendto`), ports (`bind`), leases (`renameat2`), forwarding (`write`).
const NETWORK_STEPS: &[&str] = &["sendto", "bind", "renameat2", "write"];

/// A start, and the end of the container's program: each time its links and the bridge are gone
/// afterwards, and the table.
#[test]
fn a_life_with_a_network_is_killed_at_each_step() {
    needs!("root", "strace", "timeout", "ip", "nft");
    let network = own_network();
    let create = ["create", "--name", "box", "--network", "bridge"];
    let rest = ["-p", "127.0.0.1::80", "lab", "sleep", "0.05"];
    let (before, start) = ([&create[..], &rest].concat(), ["start", "box"]);
    killed_at_each(NETWORK_STEPS, "net-steps", &before, &start, &|| {
        network.check();
    });
}

/// A container that runs in a network, with a port of the host's.
const LONG_IN_NETWORK: &[&str] = &[
    "run",
    "-d",
    "--name",
    "box",
    "--network",
    "bridge",
    "-p",
    "127.0.0.1::80",
    "lab",
    "sleep",
    "1000",
];

/// `rm -f` of a container that runs in a network: the command is killed at each of its steps.
#[test]
fn rm_in_a_network_is_killed_at_each_step() {
    needs!("root", "strace", "timeout", "ip", "nft");
    let network = own_network();
    let steps = [NETWORK_STEPS, &["unlinkat", "pidfd_send_signal"]].concat();
    let rm = ["rm", "-f", "box"];
    killed_at_each(&steps, "net-rm-steps", LONG_IN_NETWORK, &rm, &|| {
        network.check();
    });
}

/// The same while the monitor is killed at each of its steps, which are those of the container's end:
/// the command finishes what it had begun, and whoever looks next finds nothing left.
#[test]
fn the_monitor_is_killed_at_each_step_of_rm_in_a_network() {
    needs!("root", "strace", "timeout", "ip", "nft");
    let network = own_network();
    let root = TempRoot::new("net-rm-monitor");
    let _leaks = LeakCheck::new(&root);
    ok(run_in(
        &root,
        ["run", "--rm", "--network", "none", "lab", "true"],
    ));
    let mut steps = 0;
    for call in NETWORK_STEPS {
        let mut nth = 1;
        while monitor_killed_at(&root, call, nth) {
            // Before anything else has looked at the container.
            ok(run_in(&root, ["network", "ls"]));
            ok(run_in(&root, ["ps", "-a"]));
            ok(run_in(&root, ["rm", "-f", "box"]));
            network.check();
            nth += 1;
            assert!(nth < 200, "{call}: there is no end");
        }
        network.check();
        steps += nth - 1;
    }
    assert!(steps > 5, "hardly anything was killed");
}

/// `rm -f` of a container whose monitor is killed at its nth call of this kind from now on. False when
/// there was no such call.
fn monitor_killed_at(root: &TempRoot, call: &str, nth: u32) -> bool {
    ok(run_in(root, LONG_IN_NETWORK));
    let shown = ok(run_in(root, ["ps", "-q", "--no-trunc"]));
    let status = format!("containers/{}/status.json", shown.stdout.trim());
    let status = std::fs::read_to_string(root.join(status)).expect("a status");
    let status: serde_json::Value = serde_json::from_str(&status).expect("whole JSON");
    let monitor = status["Monitor"].as_i64().expect("a number");
    let trace = root.join("trace");
    let mut strace = std::process::Command::new("strace")
        .args(["-qq", "-p", &monitor.to_string(), "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=SIGKILL:when={nth}"))
        .arg("-o")
        .arg(&trace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let tracer = format!("TracerPid:\t{}\n", strace.id());
    let of_monitor = format!("/proc/{monitor}/status");
    let end = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&of_monitor).is_ok_and(|s| s.contains(&tracer)) {
        assert!(Instant::now() < end, "strace has not attached");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Whether it removes the container or says that the monitor was killed in the middle.
    let done = run_in(root, ["rm", "-f", "box"]);
    strace.wait().expect("it ends with the monitor");
    let told = std::fs::read_to_string(&trace).unwrap_or_default();
    let killed = told.contains("killed by SIGKILL");
    assert!(done.code() == 0 || killed, "{done}\n{told}");
    killed
}
