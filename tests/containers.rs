//! Containers through docker's commands: their life, their streams, their logs.
//!
//! Each test has a state root of its own and looks at what the command line says, as a user would.
//! Read next: `container_flags.rs`, `terminal.rs` (a real pty), `crash.rs` (SIGKILL).

mod common;

use common::{Host, Run};

#[test]
fn output_input_and_exit_status() {
    needs!("root");
    let host = Host::new("streams");
    let out = host.go(&[
        "run",
        "--rm",
        "lab",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    assert_eq!(
        (out.code(), out.stdout.as_str(), out.stderr.as_str()),
        (7, "out\n", "err\n"),
        "{out}"
    );
    let out = Run::new(["run", "--rm", "-i", "lab", "cat"])
        .env("GLASSBOX_ROOT", host.root.path())
        .stdin("a\nb")
        .go();
    assert_eq!(out.stdout, "a\nb", "{out}");
    // Without -i stdin is empty, however much there is.
    let out = Run::new(["run", "--rm", "lab", "cat"])
        .env("GLASSBOX_ROOT", host.root.path())
        .stdin("x")
        .go();
    assert_eq!(out.stdout, "", "{out}");
    // Nothing is lost at the end, however much was written at once.
    let text = host.sh(
        &[],
        "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done",
    );
    assert_eq!(text.lines().count(), 20000);
    assert_eq!(
        host.go(&["run", "--rm", "lab", "sh", "-c", "kill -9 $$; sleep 1"])
            .code(),
        0,
        "PID 1 ignores it"
    );
}

#[test]
fn a_life() {
    needs!("root");
    let host = Host::new("life");
    let id = host.ok(&[
        "create",
        "--name",
        "web",
        "-l",
        "tier=front",
        "lab",
        "sh",
        "-c",
        "echo hi; exec sleep 100",
    ]);
    assert_eq!(id.len(), 64);
    assert_eq!(host.ok(&["ps", "-q"]), "");
    assert_eq!(
        host.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Image}}"]),
        "web created lab"
    );
    assert_eq!(host.ok(&["start", "web"]), "web");
    assert_eq!(host.ok(&["start", &id[..5]]), id[..5], "running already");
    assert_eq!(
        host.ok(&["ps", "-q", "--no-trunc", "--filter", "label=tier=front"]),
        id
    );
    assert!(
        host.ok(&["ps", "--json"])
            .contains("\"State\": \"running\"")
    );
    assert!(
        host.fails(1, &["rm", "web"])
            .contains("container is running")
    );
    assert!(
        host.fails(1, &["create", "--name", "web", "lab"])
            .contains("already in use")
    );
    assert_eq!(host.ok(&["pause", "web"]), "web");
    assert!(host.ok(&["ps"]).contains("(Paused)"));
    assert!(host.fails(1, &["pause", "web"]).contains("already paused"));
    assert!(
        host.fails(1, &["exec", "web", "true"])
            .contains("is paused")
    );
    assert_eq!(host.ok(&["unpause", "web"]), "web");
    assert!(host.ok(&["top", "web"]).contains("sleep 100"));
    assert_eq!(host.ok(&["rename", "web", "www"]), "");
    assert!(
        host.fails(1, &["stop", "web"])
            .contains("no such container: web")
    );
    assert_eq!(host.ok(&["stop", "-t", "0", "www"]), "www");
    assert_eq!(host.ok(&["stop", "www"]), "www", "nothing to do");
    assert_eq!(host.ok(&["wait", "www"]), "137");
    assert!(
        host.ok(&["ps", "-a", "--filter", "exited=137"])
            .contains("Exited (137)")
    );
    assert!(
        host.fails(1, &["exec", "www", "true"])
            .contains("is not running")
    );
    assert!(
        host.fails(1, &["attach", "www"])
            .contains("stopped container")
    );
    assert_eq!(host.ok(&["restart", "www"]), "www");
    for _ in 0..200 {
        if host.ok(&["logs", "www"]) == "hi\nhi" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(host.ok(&["kill", "-s", "KILL", "www"]), "www");
    assert_eq!(host.ok(&["wait", "www"]), "137");
    assert_eq!(host.ok(&["logs", "www"]), "hi\nhi");
    assert_eq!(host.ok(&["rm", "www"]), "www");
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    assert!(host.fails(1, &["rm", "www"]).contains("no such container"));
    assert_eq!(host.go(&["rm", "-f", "www"]).code(), 0);
}

#[test]
fn the_stop_signal_and_its_timeout() {
    needs!("root");
    let host = Host::new("stop");
    let script = "trap 'echo got; exit 3' INT; while :; do sleep 0.05; done";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "polite",
        "--stop-signal",
        "INT",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    host.ok(&["stop", "-t", "30", "polite"]);
    assert_eq!(host.ok(&["wait", "polite"]), "3");
    assert_eq!(host.ok(&["logs", "polite"]), "got");
    host.ok(&["run", "-d", "--rm", "--name", "gone", "lab", "sleep", "100"]);
    host.ok(&["rm", "-f", "gone"]);
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Names}}"]), "polite");
}

#[test]
fn exec_runs_inside() {
    needs!("root");
    let host = Host::new("exec");
    host.ok(&[
        "run", "-d", "--name", "box", "-e", "A=1", "-h", "inside", "lab", "sleep", "100",
    ]);
    let sh = |flags: &[&str], script: &str| {
        host.go(&[&["exec"], flags, &["box", "sh", "-c", script]].concat())
    };
    assert_eq!(sh(&[], "hostname; echo $A; exit 4").stdout, "inside\n1\n");
    assert_eq!(sh(&[], "exit 4").code(), 4);
    assert_eq!(
        sh(&["-e", "A=2", "-w", "/tmp"], "echo $A; pwd").stdout,
        "2\n/tmp\n"
    );
    assert_eq!(
        sh(
            &["-u", "7:8"],
            "id -u; id -g; grep CapEff /proc/self/status | cut -f2"
        )
        .stdout,
        "7\n8\n0000000000000000\n"
    );
    assert!(
        !sh(&["--privileged"], "grep CapEff /proc/self/status")
            .stdout
            .contains("a80425fb")
    );
    assert_eq!(sh(&[], "echo e >&2").stderr, "e\n");
    assert!(
        host.fails(127, &["exec", "box", "nope"])
            .contains("not found")
    );
    let out = Run::new(["exec", "-i", "box", "cat"])
        .env("GLASSBOX_ROOT", host.root.path())
        .stdin("typed")
        .go();
    assert_eq!(out.stdout, "typed");
    let same = |name: &str| {
        let inside = sh(
            &[],
            &format!("readlink /proc/self/ns/{name}; readlink /proc/1/ns/{name}"),
        )
        .stdout;
        let lines: Vec<&str> = inside.lines().collect();
        lines[0] == lines[1]
    };
    assert!(["mnt", "pid", "net", "ipc", "uts"].into_iter().all(same));
    // It shares the limits: the same groups.
    let out = sh(
        &[],
        "cat /proc/self/cgroup > /tmp/a; cat /proc/1/cgroup | cmp - /tmp/a && echo same",
    );
    assert_eq!(out.stdout, "same\n", "{out}");
}

#[test]
fn logs_in_all_ways() {
    needs!("root");
    let host = Host::new("logs");
    let script = "for i in 1 2 3; do echo line $i; done; echo problem >&2; printf unfinished";
    host.ok(&["run", "--name", "talker", "lab", "sh", "-c", script]);
    let out = host.go(&["logs", "talker"]);
    assert_eq!(out.stdout, "line 1\nline 2\nline 3\nunfinished", "{out}");
    assert_eq!(out.stderr, "problem\n");
    let out = host.go(&["logs", "--tail", "1", "talker"]);
    assert_eq!(out.stdout, "unfinished");
    assert_eq!(host.go(&["logs", "--tail", "0", "talker"]).stdout, "");
    assert_eq!(
        host.ok(&["logs", "--since", "1h", "--until", "2000-01-01", "talker"]),
        ""
    );
    assert!(host.ok(&["logs", "-t", "talker"]).starts_with("20"));
    host.fails(1, &["logs", "--tail", "x", "talker"]);
    host.ok(&[
        "run",
        "--name",
        "noted",
        "-l",
        "tier=web",
        "-e",
        "WHO=me",
        "--log-opt",
        "labels=tier,none",
        "--log-opt",
        "env=WHO",
        "lab",
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    let out = host.go(&["logs", "--details", "noted"]);
    assert_eq!(out.stdout, "WHO=me,tier=web out\n", "{out}");
    assert_eq!(out.stderr, "WHO=me,tier=web err\n", "{out}");
    let script = "i=0; while [ $i -lt 5 ]; do echo $i; sleep 0.1; i=$((i+1)); done";
    host.ok(&["run", "-d", "--name", "counter", "lab", "sh", "-c", script]);
    assert_eq!(host.ok(&["logs", "-f", "counter"]), "0\n1\n2\n3\n4");
    host.ok(&[
        "run",
        "--name",
        "mute",
        "--log-driver",
        "none",
        "lab",
        "echo",
        "x",
    ]);
    assert!(
        host.fails(1, &["logs", "mute"])
            .contains("does not support reading")
    );
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done";
    host.ok(&[
        "run",
        "--name",
        "wordy",
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=2",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    let kept = host.ok(&["logs", "wordy"]);
    assert!(
        kept.ends_with("1999") && kept.lines().count() < 500,
        "{}",
        kept.lines().count()
    );
}

#[test]
fn what_was_printed_first_is_logged_first() {
    needs!("root");
    let host = Host::new("order");
    // Both pipes hold something when the monitor looks.
    host.ok(&[
        "run",
        "--name",
        "both",
        "lab",
        "sh",
        "-c",
        "echo out; echo err >&2",
    ]);
    let id = host.ok(&["ps", "-aq", "--no-trunc"]);
    let log = std::fs::read_to_string(host.root.join("containers").join(id).join("log")).unwrap();
    let order: Vec<_> = log.lines().map(|l| l.contains("\"stdout\"")).collect();
    assert_eq!(order, [true, false], "{log}");
}

#[test]
fn listings_and_processes() {
    needs!("root");
    let host = Host::new("listings");
    host.ok(&[
        "run",
        "--name",
        "old",
        "lab",
        "sh",
        "-c",
        "echo 12345 > /file",
    ]);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "/new",
        "lab",
        "sh",
        "-c",
        "sleep 100; true",
    ]);
    let names = |filter: &str| host.ok(&["ps", "-a", "-f", filter, "--format", "{{.Names}}"]);
    assert_eq!(
        (names("since=old"), names("before=new")),
        ("new".into(), "old".into())
    );
    assert_eq!(host.ok(&["ps", "-aq", "-n", "-1"]).lines().count(), 2);
    let row = host.ok(&[
        "ps",
        "-n",
        "1",
        "--no-trunc",
        "--format",
        "{{upper .Names}} {{.Command}}",
    ]);
    assert_eq!(row, "NEW \"sh -c 'sleep 100; true'\"");
    let size = host.ok(&["ps", "-a", "-f", "name=old", "--format", "{{.Size}}"]);
    assert!(
        size.starts_with("6B (virtual ") && size.ends_with("MB)"),
        "{size}"
    );
    assert!(host.ok(&["ps", "-s"]).contains("SIZE"));
    let top = host.ok(&["top", "new", "-o", "pid,args"]);
    assert!(
        top.starts_with("PID COMMAND") || top.trim_start().starts_with("PID COMMAND"),
        "{top}"
    );
    assert!(
        top.contains("sleep 100") && top.lines().count() == 3,
        "{top}"
    );
    assert!(
        host.fails(1, &["top", "new", "-o", "args"])
            .contains("PID field")
    );
    host.ok(&["rename", "new", "/newer"]);
    host.ok(&["rm", "-f", "/newer"]);
}

#[test]
fn restart_policies() {
    needs!("root");
    let host = Host::new("restart");
    let out = host.go(&[
        "run",
        "-d",
        "--name",
        "stubborn",
        "--restart",
        "on-failure:2",
        "lab",
        "sh",
        "-c",
        "echo try; exit 3",
    ]);
    assert_eq!(out.code(), 0, "{out}");
    let ended = |name: &str| {
        host.ok(&[
            "ps",
            "-a",
            "--filter",
            &format!("name={name}"),
            "--format",
            "{{.State}}",
        ]) == "exited"
    };
    for _ in 0..200 {
        if ended("stubborn") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(host.ok(&["logs", "stubborn"]), "try\ntry\ntry");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "always",
        "--restart",
        "always",
        "lab",
        "sleep",
        "100",
    ]);
    host.ok(&["stop", "-t", "0", "always"]);
    assert!(ended("always"), "a user's stop is final");
}

#[test]
fn a_dry_run_changes_nothing() {
    needs!("root");
    let host = Host::new("dry");
    host.sh(&[], "true"); // makes the image
    let plan = host.ok(&["run", "--dry-run", "--json", "-m", "64m", "lab", "true"]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let ids: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["id"].as_str())
        .collect();
    assert!(
        ids.contains(&"make-container") && ids.contains(&"clone") && ids.last() == Some(&"execute"),
        "{ids:?}"
    );
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    assert_eq!(
        std::fs::read_dir(host.root.join("containers"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn the_engine_undoes_its_own_steps() {
    needs!("root");
    let host = Host::new("undo");
    host.sh(&[], "true");
    let source = host.root.join("new/source");
    let volume = format!("{}:/x", source.display());
    for step in [
        "make-container",
        "write-container",
        "make-upper",
        "make-run",
        "write-hosts",
        "write-config",
        "clone",
        "cwd",
    ] {
        let out = Run::new(["run", "--name", "victim", "-v", &volume, "lab", "true"])
            .env("GLASSBOX_ROOT", host.root.path())
            .env("GLASSBOX_FAIL_STEP", step)
            .go();
        assert_eq!(out.code(), 125, "{out}");
        assert!(
            out.stderr.contains("was told to fail") && !out.stderr.contains("clean-up failed"),
            "{out}"
        );
        assert!(
            !host.root.join("new").exists(),
            "{step} left the source of -v"
        );
        assert_eq!(
            std::fs::read_dir(host.root.join("containers"))
                .unwrap()
                .count(),
            1,
            "{step}"
        );
        assert!(
            std::fs::read_dir(host.root.join("run")).map_or(0, Iterator::count) == 0,
            "{step}"
        );
    }
}

/// The events of all containers so far, as `ACTION NAME`.
fn told(host: &Host) -> Vec<String> {
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let text = host.ok(&[
        "events", "--since", "1h", "--until", "0s", "--format", format,
    ]);
    text.lines().map(str::to_string).collect()
}

/// Who stops or removes many sends all signals before it waits for the first end.
#[test]
fn many_are_stopped_and_removed_side_by_side() {
    needs!("root");
    let host = Host::new("many");
    let names = ["one", "two", "three"];
    for name in names {
        host.ok(&["run", "-d", "--name", name, "lab", "sleep", "1000"]);
    }
    // PID 1 has no handler for SIGTERM, so each takes its whole second.
    let out = host.ok(&[&["stop", "-t", "1"][..], &names, &["one"]].concat());
    assert_eq!(out, "one\ntwo\nthree\none");
    let events = told(&host);
    let at = |event: String| events.iter().position(|e| *e == event).expect("it is told");
    let deaths = names.map(|n| at(format!("die {n}")));
    let signals = names.map(|n| at(format!("kill {n}")));
    assert!(signals.iter().max() < deaths.iter().min(), "{events:?}");
    host.ok(&[&["start"][..], &names].concat());
    let before = told(&host).len();
    let ids = host.ok(&["ps", "-q"]);
    let ids: Vec<&str> = ids.lines().collect();
    let out = host.go(&[&["rm", "-f"], &ids[..], &["nobody"]].concat());
    assert_eq!(out.code(), 0, "{out}");
    assert_eq!(out.stdout.lines().collect::<Vec<_>>(), ids);
    let events = told(&host).split_off(before);
    let first = |what: &str| {
        events
            .iter()
            .position(|e| e.starts_with(what))
            .expect("it is told")
    };
    let kills = events
        .iter()
        .rposition(|e| e.starts_with("kill "))
        .expect("it is told");
    assert!(kills < first("destroy "), "{events:?}");
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    // Those that remove themselves may be gone before it is their turn.
    for command in [&["stop", "-t", "0"][..], &["rm", "-f"]] {
        for name in names {
            host.ok(&["run", "-d", "--rm", "--name", name, "lab", "sleep", "1000"]);
        }
        assert_eq!(host.ok(&[command, &names].concat()), "one\ntwo\nthree");
        common::cgroup::wait_for("their removal", || host.ok(&["ps", "-aq"]).is_empty());
    }
}

#[test]
fn exec_makes_no_working_directory() {
    needs!("root");
    let host = Host::new("exec-cwd");
    host.ok(&["run", "-d", "--name", "box", "lab", "sleep", "1000"]);
    let out = host.go(&["exec", "-w", "/none/there", "box", "true"]);
    let what = "cannot change to the working directory /none/there";
    assert!(
        out.code() == 126 && out.stderr.contains(what),
        "docker's status for what could not be executed: {out}"
    );
    let out = host.go(&["exec", "-u", "nobody-at-all", "box", "true"]);
    assert_eq!(out.code(), 126, "{out}");
    assert_ne!(host.go(&["exec", "box", "ls", "/none"]).code(), 0);
    assert_eq!(host.ok(&["exec", "-w", "/etc", "box", "pwd"]), "/etc");
    host.ok(&["rm", "-f", "box"]);
}
