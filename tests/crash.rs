//! SIGKILL to any of our processes at any moment: no container, image or log is lost, and the next
//! command sees the truth and cleans up.
//!
//! Read next: `containers.rs`; `src/containers/reconcile.rs`, which is tested here.

mod common;

use common::{LeakCheck, Output, Run, TempRoot, run_in};
use glassbox::journal::{Event, Record};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL); // it may have ended
}

/// Found without a command of ours: each would put things right first.
fn only_container(root: &TempRoot) -> PathBuf {
    let all = std::fs::read_dir(root.join("containers")).expect("containers");
    let mut all = all
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.is_dir());
    all.next().expect("a container")
}

fn run_dir(root: &TempRoot) -> PathBuf {
    let container = only_container(root);
    root.join("run")
        .join(container.file_name().expect("its id"))
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

/// Waits, for a bounded time, until `done`.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills the monitor, and waits until it is gone: its number.
#[track_caller]
fn kill_monitor(root: &TempRoot) -> i32 {
    let monitor = number(root, "Monitor");
    assert!(monitor > 0, "there is a monitor");
    kill(monitor);
    until("the monitor's end", || has_ended(monitor));
    monitor
}

/// `glassbox run -d FLAGS lab sh -c SCRIPT`, named box.
#[track_caller]
fn start(root: &TempRoot, flags: &[&str], script: &str) {
    let words = ["run", "-d", "--name", "box"];
    let program = ["lab", "sh", "-c", script];
    let args = words.iter().chain(flags).chain(&program);
    ok(run_in(root, args));
}

/// Whether somebody reaps what is orphaned here, so that the kernel tells how it ended (6.15).
fn ends_are_told() -> bool {
    let release = nix::sys::utsname::uname().expect("uname");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// A `pause` that is killed after it has frozen the processes, before anybody knows: played by who
/// freezes the group directly.
#[test]
fn what_is_frozen_and_nobody_knows_can_go_on_and_can_be_ended() {
    needs!("root");
    let root = TempRoot::new("frozen");
    let _leaks = LeakCheck::new(&root);
    let frozen = |script: &str| {
        start(&root, &[], script);
        ok(run_in(&root, ["cgroup", "freeze", "box"]));
        let state = run_in(&root, ["inspect", "-f", "{{.State.Status}}", "box"]);
        assert_eq!(state.stdout, "running\n");
    };
    frozen("sleep 1000");
    ok(run_in(&root, ["unpause", "box"]));
    assert_eq!(run_in(&root, ["exec", "box", "echo", "in"]).stdout, "in\n");
    ok(run_in(&root, ["rm", "-f", "box"]));
    for end in [
        &["rm", "-f", "box"][..],
        &["kill", "box"],
        &["stop", "-t", "1", "box"],
    ] {
        frozen("trap 'exit 3' TERM; while :; do sleep 0.1; done");
        ok(run_in(&root, end));
        if end[0] != "rm" {
            ok(run_in(&root, ["wait", "box"]));
            ok(run_in(&root, ["rm", "box"]));
        }
    }
}

/// The command line has the record as well, as long as it stays.
#[test]
fn the_journal_outlives_a_monitor_that_is_killed_before_it_is_written() {
    needs!("root");
    let root = TempRoot::new("journal");
    let _leaks = LeakCheck::new(&root);
    for again in [false, true] {
        let words = match again {
            false => &["run", "--name", "box", "-i", "lab", "cat"][..],
            true => &["start", "-ai", "box"],
        };
        let mut run = Run::new(words).env("GLASSBOX_ROOT", root.path()).command();
        run.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut run = run.spawn().expect("it starts");
        let (mut input, mut output) = (run.stdin.take().unwrap(), run.stdout.take().unwrap());
        std::io::Write::write_all(&mut input, b"x").expect("written");
        std::io::Read::read_exact(&mut output, &mut [0]).expect("it runs");
        let journal = only_container(&root).join("journal");
        kill_monitor(&root);
        until("the journal", || {
            let Ok(records) = glassbox::journal::read(&journal) else {
                return false;
            };
            matches!(&records[..], [Record::Event(Event::Operation { name, .. }), ..] if name == words[0])
        });
        let told = ok(run_in(&root, ["explain", "--depth", "all", "box"]));
        assert!(told.stdout.contains("execve"), "{told}");
        drop(input);
        until("the end of the client", || {
            run.try_wait().expect("a child").is_some()
        });
        ok(run_in(&root, ["wait", "box"]));
    }
    ok(run_in(&root, ["rm", "box"]));
}

#[test]
fn the_program_outlives_its_monitor() {
    needs!("root");
    let root = TempRoot::new("monitor");
    let _leaks = LeakCheck::new(&root);
    let go = root.join("go");
    let flags = format!("{}:/host", root.path().display());
    let script = "echo before; while [ ! -e /host/go ]; do sleep 0.05; done; echo alone; \
                  echo aloud >&2; touch /host/written; while [ ! -e /host/end ]; do sleep 0.05; \
                  done; echo after; exit 7";
    start(&root, &["-v", &flags], script);
    until("output", || {
        run_in(&root, ["logs", "box"]).stdout == "before\n"
    });
    let (init, first) = (number(&root, "Pid"), kill_monitor(&root));
    std::fs::write(&go, "").expect("a file");
    until("output to nobody", || root.join("written").exists());
    assert!(!has_ended(init), "the program goes on");
    // inspect only reads: nobody has taken over after it.
    let state = ok(run_in(
        &root,
        ["inspect", "--format", "{{.State.Status}}", "box"],
    ));
    assert_eq!(state.stdout, "running\n");
    assert_eq!(number(&root, "Monitor"), first);
    assert!(ok(run_in(&root, ["ps"])).stdout.contains("Up "));
    assert_ne!(number(&root, "Monitor"), first, "another has taken over");
    assert_eq!(number(&root, "Pid"), init);
    until("what it wrote alone", || {
        let logs = run_in(&root, ["logs", "box"]);
        logs.stdout == "before\nalone\n" && logs.stderr == "aloud\n"
    });
    assert_eq!(run_in(&root, ["exec", "box", "echo", "in"]).stdout, "in\n");
    ok(run_in(&root, ["pause", "box"]));
    ok(run_in(&root, ["unpause", "box"]));
    std::fs::write(root.join("end"), "").expect("a file");
    let code = if ends_are_told() { "7\n" } else { "255\n" };
    assert_eq!(ok(run_in(&root, ["wait", "box"])).stdout, code);
    assert_eq!(
        run_in(&root, ["logs", "box"]).stdout,
        "before\nalone\nafter\n"
    );
    ok(run_in(&root, ["start", "box"]));
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn what_the_program_had_written_is_saved() {
    needs!("root");
    let root = TempRoot::new("pipes");
    let _leaks = LeakCheck::new(&root);
    // The monitor is stopped, so the output stays in the FIFO; then it is killed.
    start(&root, &[], "sleep 0.5; echo late; exec sleep 1000");
    let pid = nix::unistd::Pid::from_raw(number(&root, "Monitor"));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGSTOP).expect("stop");
    std::thread::sleep(Duration::from_millis(900));
    kill_monitor(&root);
    ok(run_in(&root, ["ps", "-a"]));
    until("the log", || {
        run_in(&root, ["logs", "box"]).stdout == "late\n"
    });
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn more_than_a_fifo_holds_is_not_lost() {
    needs!("root");
    let root = TempRoot::new("much");
    let _leaks = LeakCheck::new(&root);
    let script = "read x; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; \
                  exec sleep 1000";
    // Without anybody to write to it, its input ends with its monitor: that is the beginning.
    start(&root, &["-i"], script);
    kill_monitor(&root);
    std::thread::sleep(Duration::from_millis(500));
    ok(run_in(&root, ["ps"]));
    let last = "line 19999\n";
    until("the last line", || {
        run_in(&root, ["logs", "box"]).stdout.ends_with(last)
    });
    assert_eq!(run_in(&root, ["logs", "box"]).stdout.lines().count(), 20000);
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn stop_and_attach_after_the_monitor_was_killed() {
    needs!("root");
    let root = TempRoot::new("stop");
    let _leaks = LeakCheck::new(&root);
    start(
        &root,
        &[],
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done",
    );
    until("output", || run_in(&root, ["logs", "box"]).stdout == "up\n");
    kill_monitor(&root);
    // Attached to the second monitor, and to the third when that is killed too.
    let run = Run::new(["attach", "--no-stdin", "box"]).env("GLASSBOX_ROOT", root.path());
    let mut command = run.command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let first = number(&root, "Monitor");
    let child = command.spawn().expect("attach");
    until("the second monitor", || number(&root, "Monitor") != first);
    std::thread::sleep(Duration::from_millis(200));
    let second = kill_monitor(&root);
    until("the third monitor", || number(&root, "Monitor") != second);
    std::thread::sleep(Duration::from_millis(200));
    ok(run_in(&root, ["stop", "box"]));
    let attached = child.wait_with_output().expect("its end");
    let code = if ends_are_told() { 3 } else { 255 };
    assert_eq!(attached.status.code(), Some(code), "{attached:?}");
    assert_eq!(attached.stdout, b"bye\n", "{attached:?}");
    assert_eq!(run_in(&root, ["wait", "box"]).stdout, format!("{code}\n"));
    ok(run_in(&root, ["rm", "box"]));
}

#[test]
fn the_program_ends_while_nobody_watches() {
    needs!("root");
    let root = TempRoot::new("unwatched");
    let _leaks = LeakCheck::new(&root);
    start(&root, &[], "exec sleep 1000");
    let init = number(&root, "Pid");
    kill_monitor(&root);
    kill(init);
    until("the program's end", || has_ended(init));
    let out = ok(run_in(&root, ["ps", "-a"]));
    assert!(out.stdout.contains("Exited ("), "{out}");
    let error = run_in(&root, ["inspect", "--format", "{{.State.Error}}", "box"]).stdout;
    assert!(
        error.contains("monitor was killed") || number(&root, "ExitCode") == 137,
        "{error}"
    );
    ok(run_in(&root, ["start", "box"]));
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn a_container_with_rm_is_removed_after_all() {
    needs!("root");
    let root = TempRoot::new("rm");
    let _leaks = LeakCheck::new(&root);
    start(&root, &["--rm"], "exec sleep 1000");
    let init = number(&root, "Pid");
    kill_monitor(&root);
    assert_ne!(ok(run_in(&root, ["ps", "-q"])).stdout, "", "it goes on");
    kill(init);
    until("its removal", || {
        ok(run_in(&root, ["ps", "-aq"])).stdout.is_empty()
    });
    let left = || std::fs::read_dir(root.join("containers")).unwrap().count();
    until("the lock alone", || left() == 1);
}

#[test]
fn the_restart_policy_outlives_the_monitor() {
    needs!("root");
    let root = TempRoot::new("restart");
    let _leaks = LeakCheck::new(&root);
    start(&root, &["--restart", "always"], "echo up; exec sleep 1000");
    for round in 1..3 {
        let init = number(&root, "Pid");
        kill_monitor(&root);
        ok(run_in(&root, ["ps"]));
        kill(init);
        let up = "up\n".repeat(round + 1);
        until("the next start", || {
            run_in(&root, ["logs", "box"]).stdout == up
        });
        until("its number", || ![0, init].contains(&number(&root, "Pid")));
    }
    // And when it is killed in the pause.
    kill(number(&root, "Pid"));
    until("the pause", || number(&root, "Pid") == 0);
    kill_monitor(&root);
    ok(run_in(&root, ["ps"]));
    until("the next start", || number(&root, "Pid") != 0);
    // And when the program ends while nobody watches.
    let init = number(&root, "Pid");
    kill_monitor(&root);
    kill(init);
    until("the program's end", || has_ended(init));
    ok(run_in(&root, ["ps"]));
    until("the next start", || {
        ![0, init].contains(&number(&root, "Pid"))
    });
    ok(run_in(&root, ["stop", "-t", "0", "box"]));
    assert_eq!(run_in(&root, ["ps", "-q"]).stdout, "");
    ok(run_in(&root, ["rm", "box"]));
}

#[test]
fn a_terminal_ends_with_its_monitor() {
    needs!("root");
    let root = TempRoot::new("terminal");
    let _leaks = LeakCheck::new(&root);
    start(&root, &["-t"], "trap '' HUP; exec sleep 1000");
    kill_monitor(&root);
    assert!(ok(run_in(&root, ["ps"])).stdout.contains("Up "));
    let error = run_in(&root, ["inspect", "--format", "{{.State.Error}}", "box"]).stdout;
    assert!(error.contains("its terminal went with it"), "{error}");
    ok(run_in(&root, ["rm", "-f", "box"]));
}

#[test]
fn an_ordinary_users_container_outlives_its_monitor() {
    needs!("root", "setpriv");
    let root = TempRoot::for_user("crash-rootless");
    let go = |args: &[&str]| {
        let root = root.path().display().to_string();
        let args = [&args[..1], &["--root", &root], &args[1..]].concat();
        Run::new(args).as_user().go()
    };
    let script = "echo a; while [ ! -e /go ]; do sleep 0.05; done; echo b; exit 4";
    ok(go(&[
        "run", "-d", "--name", "box", "lab", "sh", "-c", script,
    ]));
    until("output", || go(&["logs", "box"]).stdout == "a\n");
    kill_monitor(&root);
    let told = go(&["exec", "box", "touch", "/go"]);
    // The program may see it and end, and its namespace with it, before `touch` does.
    assert!([0, 137].contains(&told.code()), "{told}");
    let code = if ends_are_told() { "4\n" } else { "255\n" };
    assert_eq!(ok(go(&["wait", "box"])).stdout, code);
    assert_eq!(go(&["logs", "box"]).stdout, "a\nb\n");
    ok(go(&["rm", "box"]));
}

/// The monitor of a program that writes without end is killed again and again, after ever other
/// times: every line is in the log, whole and once.
#[track_caller]
fn written_under_kills(script: &str, least: usize) {
    let root = TempRoot::new("again");
    let _leaks = LeakCheck::new(&root);
    start(&root, &["--log-opt", "max-file=100"], script);
    for step in 0..15 {
        std::thread::sleep(Duration::from_millis(7 * step));
        kill_monitor(&root);
        ok(run_in(&root, ["ps"]));
    }
    ok(run_in(&root, ["stop", "-t", "0", "box"]));
    let lines = run_in(&root, ["logs", "box"]).stdout;
    for (expected, line) in lines.lines().enumerate() {
        assert_eq!(line, expected.to_string(), "the line after {expected}");
    }
    let count = lines.lines().count();
    assert!(count > least, "{count} lines");
    ok(run_in(&root, ["rm", "box"]));
}

#[test]
fn the_log_stays_whole_whenever_the_monitor_is_killed() {
    needs!("root");
    written_under_kills("i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done", 20);
}

#[test]
fn the_log_stays_whole_under_a_flood() {
    needs!("root");
    written_under_kills("i=0; while :; do echo $i; i=$((i+1)); done", 5000);
}

/// Half a line, which waits to be logged until its end comes or nothing comes, and then the program
/// ends while nobody watches.
#[test]
fn what_was_taken_is_logged_after_the_programs_end() {
    needs!("root");
    let root = TempRoot::new("half");
    let _leaks = LeakCheck::new(&root);
    start(&root, &[], "printf half; exec sleep 1000");
    let init = number(&root, "Pid");
    let spooled = || std::fs::read(run_dir(&root).join("spool-stdout-0")).unwrap_or_default();
    until("half a line", || spooled() == b"half");
    kill_monitor(&root);
    kill(init);
    until("the program's end", || has_ended(init));
    ok(run_in(&root, ["ps", "-a"]));
    assert_eq!(run_in(&root, ["logs", "box"]).stdout, "half");
    ok(run_in(&root, ["rm", "-f", "box"]));
}

/// An init of ours is a witness of its program: status and output are there, though nobody else saw
/// its end.
#[test]
fn with_init_nothing_is_lost_when_the_program_ends_unwatched() {
    needs!("root");
    let root = TempRoot::new("init");
    let _leaks = LeakCheck::new(&root);
    for (script, output) in [("exit 7", ""), ("echo late; exit 7", "late\n")] {
        // Without anybody to write to it, its input ends with its monitor: that is the beginning.
        // What goes on in the background does not keep the container.
        let script = format!("(while :; do sleep 1; done) & read x; {script}");
        start(&root, &["--init", "-i"], &script);
        let init = number(&root, "Pid");
        kill_monitor(&root);
        let exit = run_dir(&root).join("exit");
        until("the status", || {
            std::fs::read_to_string(&exit).is_ok_and(|text| text == "7\n")
        });
        if output.is_empty() {
            until("the end", || has_ended(init));
        } else {
            std::thread::sleep(Duration::from_millis(300));
            assert!(!has_ended(init), "its output is not read yet");
        }
        ok(run_in(&root, ["ps", "-a"]));
        assert_eq!(ok(run_in(&root, ["wait", "box"])).stdout, "7\n");
        assert_eq!(ok(run_in(&root, ["logs", "box"])).stdout, output);
        ok(run_in(&root, ["rm", "box"]));
    }
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
    let until = Instant::now() + Duration::from_secs(60);
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
