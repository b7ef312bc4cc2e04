//! SIGKILL to any of our processes at any moment: no container, image or log is lost, and the next
//! command sees the truth and cleans up.
//!
//! Read next: `containers.rs`; `src/containers/reconcile.rs`, which is tested here.

mod common;

use common::{LeakCheck, Output, Run, TempRoot, run_in};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL); // it may have ended
}

fn only_container(root: &TempRoot) -> PathBuf {
    let id = run_in(root, ["ps", "-aq", "--no-trunc"]).stdout;
    root.join("containers").join(id.trim())
}

fn number(root: &TempRoot, key: &str) -> i32 {
    let text = std::fs::read_to_string(only_container(root).join("status.json")).expect("a status");
    let status: serde_json::Value = serde_json::from_str(&text).expect("whole JSON");
    status[key].as_i64().expect("a number") as i32
}

/// A process that is gone or a zombie.
fn has_ended(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
}

#[track_caller]
fn ok(out: Output) -> Output {
    assert_eq!(out.code(), 0, "{out}");
    out
}

#[test]
fn the_monitor_is_killed() {
    needs!("root");
    let root = TempRoot::new("monitor");
    let _leaks = LeakCheck::new(&root);
    let script = "echo before; exec sleep 1000";
    ok(run_in(
        &root,
        ["run", "-d", "--name", "box", "lab", "sh", "-c", script],
    ));
    let until = Instant::now() + Duration::from_secs(10);
    while run_in(&root, ["logs", "box"]).stdout != "before\n" {
        assert!(Instant::now() < until, "no output");
    }
    let (monitor, init) = (number(&root, "Monitor"), number(&root, "Pid"));
    kill(monitor);
    while !has_ended(monitor) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let out = ok(run_in(&root, ["ps", "-a"]));
    assert!(out.stdout.contains("Exited (137)"), "{out}");
    while !has_ended(init) {
        assert!(Instant::now() < until, "its program still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(run_in(&root, ["logs", "box"]).stdout, "before\n");
    assert_eq!(run_in(&root, ["wait", "box"]).stdout, "137\n");
    ok(run_in(&root, ["start", "box"]));
    assert!(ok(run_in(&root, ["ps"])).stdout.contains("Up "));
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn what_the_program_had_written_is_saved() {
    needs!("root");
    let root = TempRoot::new("pipes");
    let _leaks = LeakCheck::new(&root);
    // The monitor is stopped, so the output stays in the pipe; then it is killed.
    let script = "sleep 0.5; echo late; exec sleep 1000";
    ok(run_in(
        &root,
        ["run", "-d", "--name", "box", "lab", "sh", "-c", script],
    ));
    let monitor = number(&root, "Monitor");
    let pid = nix::unistd::Pid::from_raw(monitor);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).expect("stop");
    std::thread::sleep(Duration::from_millis(900));
    kill(monitor);
    while !has_ended(monitor) {
        std::thread::sleep(Duration::from_millis(10));
    }
    ok(run_in(&root, ["ps", "-a"]));
    assert_eq!(run_in(&root, ["logs", "box"]).stdout, "late\n");
    ok(run_in(&root, ["rm", "box"]));
}

#[test]
fn a_container_with_rm_is_removed_after_all() {
    needs!("root");
    let root = TempRoot::new("rm");
    let _leaks = LeakCheck::new(&root);
    ok(run_in(&root, ["run", "-d", "--rm", "lab", "sleep", "1000"]));
    let monitor = number(&root, "Monitor");
    kill(monitor);
    while !has_ended(monitor) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ok(run_in(&root, ["ps", "-aq"])).stdout, "");
    assert_eq!(
        std::fs::read_dir(root.join("containers")).unwrap().count(),
        1,
        "the lock alone"
    );
}

#[test]
fn the_foreground_client_is_killed() {
    needs!("root");
    let root = TempRoot::new("client");
    let _leaks = LeakCheck::new(&root);
    let run = Run::new([
        "run",
        "--name",
        "box",
        "lab",
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ])
    .env("GLASSBOX_ROOT", root.path());
    let mut command = run.command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("run");
    let until = Instant::now() + Duration::from_secs(20);
    while run_in(&root, ["logs", "box"]).stdout != "up\n" {
        assert!(Instant::now() < until, "it did not start");
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(
        ok(run_in(&root, ["ps"])).stdout.contains("Up "),
        "the container goes on"
    );
    ok(run_in(&root, ["rm", "-f", "box"]));
}

/// `run` is killed, with everybody it has started, after ever longer times: whatever it had done
/// by then, the next commands see a whole container or none, and can remove it.
#[test]
fn run_is_killed_at_any_moment() {
    needs!("root");
    let root = TempRoot::new("moments");
    let _leaks = LeakCheck::new(&root);
    ok(run_in(&root, ["run", "--rm", "lab", "true"])); // makes the image
    for step in 0..40 {
        let run = Run::new(["run", "-d", "--name", "box", "lab", "sleep", "1000"])
            .env("GLASSBOX_ROOT", root.path());
        let mut command = run.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.process_group(0);
        let mut child = command.spawn().expect("run");
        std::thread::sleep(Duration::from_millis(2 * step));
        // Both of ours: the command line, and the monitor if it is there already.
        kill(child.id() as i32);
        let monitors = children_of(child.id() as i32);
        monitors.iter().copied().for_each(kill);
        child.wait().expect("wait");
        if let Ok(text) = std::fs::read_dir(root.join("containers")).map(|d| {
            d.flatten()
                .filter_map(|e| std::fs::read_to_string(e.path().join("status.json")).ok())
                .collect::<String>()
        }) && let Ok(status) = serde_json::from_str::<serde_json::Value>(&text)
        {
            kill_if_set(&status["Monitor"]);
        }
        let out = ok(run_in(
            &root,
            ["ps", "-a", "--format", "{{.Names}} {{.State}}"],
        ));
        let states = ["", "box created\n", "box exited\n", "box running\n"];
        assert!(
            states.contains(&out.stdout.as_str()),
            "after {} ms: {out}",
            2 * step
        );
        ok(run_in(&root, ["rm", "-f", "box"]));
        ok(run_in(
            &root,
            ["run", "--rm", "--name", "box", "lab", "true"],
        ));
        let left = std::fs::read_dir(root.join("containers")).unwrap().count();
        assert_eq!(left, 1, "after {} ms", 2 * step);
    }
}

fn kill_if_set(pid: &serde_json::Value) {
    if let Some(pid @ 1..) = pid.as_i64() {
        kill(pid as i32);
    }
}

fn children_of(pid: i32) -> Vec<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect()
}
