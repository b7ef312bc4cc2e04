//! The life of a container as others see it: waiting for it, bringing it back, all of them together.
//!
//! Read next: `lifecycle.rs`; `src/containers/wait.rs`, `recover.rs`, `src/cli/system/`.

mod common;

use common::{Host, Run};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A command in the background; its end is waited for with a bound.
struct Job(Child);

fn job(host: &Host, args: &[&str]) -> Job {
    let run = Run::new(args).env("GLASSBOX_ROOT", host.root.path());
    let mut command = run.command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Job(command.spawn().expect("it starts"))
}

impl Job {
    fn runs(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }
    /// Stdout and status.
    #[track_caller]
    fn end(mut self) -> (String, i32) {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.runs() {
            if Instant::now() > limit {
                let _ = self.0.kill(); // it may end right now
                panic!("it waits in vain");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let out = self.0.wait_with_output().expect("its output");
        let text = String::from_utf8_lossy(&out.stdout).trim().to_string();
        (text, out.status.code().unwrap_or(-1))
    }
}

fn settle() {
    std::thread::sleep(Duration::from_millis(400));
}

#[test]
fn each_condition_is_waited_for() {
    needs!("root");
    let host = Host::new("wait");
    let wait = |condition: &str| job(&host, &["wait", "--condition", condition, "box"]);
    host.ok(&[
        "create",
        "--name",
        "box",
        "lab",
        "sh",
        "-c",
        "sleep 1; exit 3",
    ]);
    assert_eq!(wait("not-running").end(), ("0".into(), 0), "it never ran");
    let (mut next, mut running, mut removed) =
        (wait("next-exit"), wait("running"), wait("removed"));
    settle();
    assert!(next.runs() && running.runs() && removed.runs());
    host.ok(&["start", "box"]);
    assert_eq!(running.end(), ("-1".into(), 0));
    assert_eq!(next.end(), ("3".into(), 0));
    assert_eq!(wait("not-running").end(), ("3".into(), 0));
    assert_eq!(wait("exited").end(), ("3".into(), 0), "podman's word");
    let mut next = wait("next-exit");
    settle();
    assert!(
        removed.runs() && next.runs(),
        "an end in the past is not the next"
    );
    host.ok(&["rm", "box"]);
    assert_eq!(removed.end(), ("3".into(), 0));
    assert_eq!(next.end().1, 1, "it will never run");
    // One with --rm is removed by its end.
    host.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "box",
        "lab",
        "sh",
        "-c",
        "sleep 1; exit 4",
    ]);
    let removed = wait("removed");
    assert_eq!(removed.end(), ("4".into(), 0));
    host.fails(1, &["wait", "--condition", "removed", "box"]);
    host.fails(125, &["wait", "--condition", "blue", "box"]);
}

#[test]
fn health_and_pauses_are_waited_for() {
    needs!("root");
    let host = Host::new("wait-health");
    let wait = |condition: &str| job(&host, &["wait", "--condition", condition, "box"]);
    let check = [
        "--health-cmd",
        "test -e /good",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
    ];
    let flags = ["run", "-d", "--name", "box"];
    host.ok(&[&flags[..], &check, &["lab", "sleep", "1000"]].concat());
    assert_eq!(wait("unhealthy").end(), ("-1".into(), 0));
    let (mut healthy, mut paused) = (wait("healthy"), wait("paused"));
    settle();
    assert!(healthy.runs() && paused.runs());
    host.ok(&["exec", "box", "touch", "/good"]);
    assert_eq!(healthy.end(), ("-1".into(), 0));
    host.ok(&["pause", "box"]);
    assert_eq!(paused.end(), ("-1".into(), 0));
    host.ok(&["unpause", "box"]);
    host.ok(&["exec", "box", "rm", "/good"]);
    assert_eq!(wait("unhealthy").end(), ("-1".into(), 0));
    let healthy = wait("healthy");
    settle();
    host.ok(&["rm", "-f", "box"]);
    assert_eq!(healthy.end().1, 1, "it has ended");
    host.ok(&["create", "--name", "box", "lab", "true"]);
    assert!(
        host.fails(1, &["wait", "--condition", "healthy", "box"])
            .contains("no health check")
    );
}

#[test]
fn restarts_pause_ever_longer_and_are_counted() {
    needs!("root");
    let host = Host::new("backoff");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--restart",
        "on-failure:4",
        "lab",
        "sh",
        "-c",
        "exit 5",
    ]);
    let of = |t: &str| host.ok(&["inspect", "-f", t, "box"]);
    let limit = Instant::now() + Duration::from_secs(60);
    while of("{{.State.Status}}") != "exited" {
        assert!(
            Instant::now() < limit,
            "{}",
            of("{{.State.Status}} {{.RestartCount}}")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(of("{{.RestartCount}} {{.State.ExitCode}}"), "4 5");
    let args = ["events", "--since", "1h", "--until", "0s", "--json"];
    let events = host.ok(&args);
    let times = |action: &str| -> Vec<u64> {
        let events = events
            .lines()
            .map(|l| serde_json::from_str(l).expect("JSON"));
        let of = events.filter(|e: &serde_json::Value| e["Action"] == action);
        of.map(|e| e["timeNano"].as_u64().expect("a time") / 1_000_000)
            .collect()
    };
    let starts = times("start");
    let pauses = times("die").into_iter().zip(starts.into_iter().skip(1));
    let pauses: Vec<u64> = pauses.map(|(end, start)| start - end).collect();
    for (pause, least) in pauses.iter().zip([100, 200, 400, 800]) {
        assert!(*pause >= least && *pause < least + 1000, "{pauses:?}");
    }
    assert_eq!(pauses.len(), 4);
    // A success ends on-failure, and a user's stop ends always.
    host.ok(&[
        "run",
        "-d",
        "--name",
        "good",
        "--restart",
        "on-failure",
        "lab",
        "true",
    ]);
    assert_eq!(host.ok(&["wait", "good"]), "0");
    assert_eq!(
        host.ok(&["inspect", "-f", "{{.RestartCount}}", "good"]),
        "0"
    );
    host.ok(&[
        "run",
        "-d",
        "--name",
        "on",
        "--restart",
        "always",
        "lab",
        "sleep",
        "1000",
    ]);
    host.ok(&["stop", "-t", "0", "on"]);
    settle();
    assert_eq!(
        host.ok(&["inspect", "-f", "{{.State.Status}}", "on"]),
        "exited"
    );
    host.fails(125, &["run", "--rm", "--restart", "always", "lab", "true"]);
    host.fails(125, &["create", "--restart", "sometimes", "lab", "true"]);
}

#[test]
fn what_should_run_is_brought_back() {
    needs!("root");
    let host = Host::new("recover");
    let run = |name: &str, policy: &str| {
        host.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            policy,
            "lab",
            "sleep",
            "1000",
        ]);
    };
    for (name, policy) in [
        ("always", "always"),
        ("wanted", "unless-stopped"),
        ("stopped", "unless-stopped"),
        ("failing", "on-failure"),
        ("none", "no"),
        ("alone", "always"),
    ] {
        run(name, policy);
    }
    host.ok(&[
        "create",
        "--name",
        "never",
        "--restart",
        "always",
        "lab",
        "true",
    ]);
    host.ok(&["stop", "-t", "0", "stopped"]);
    // A power cut: everything is gone at once, the run directory too, and nobody wrote it down.
    // `alone` keeps its program.
    let status = |name: &str| -> serde_json::Value {
        let id = host.ok(&["inspect", "-f", "{{.Id}}", name]);
        let path = host.root.join("containers").join(id).join("status.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("a status")).expect("JSON")
    };
    let mut doomed = Vec::new();
    for name in ["always", "wanted", "failing", "none", "alone"] {
        let status = status(name);
        doomed.push(status["Monitor"].as_i64().expect("a pid"));
        if name != "alone" {
            doomed.push(status["Pid"].as_i64().expect("a pid"));
        }
    }
    for pid in doomed {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("kill");
    }
    for name in ["always", "wanted", "failing", "none"] {
        let id = host.ok(&["inspect", "-f", "{{.Id}}", name]);
        std::fs::remove_dir_all(host.root.join("run").join(id)).expect("it is there");
    }
    settle();
    let names = |text: String| {
        let mut names: Vec<String> = text
            .lines()
            .map(|id| {
                host.ok(&["inspect", "-f", "{{.Name}}", id])
                    .trim_start_matches('/')
                    .into()
            })
            .collect();
        names.sort();
        names
    };
    for flags in [
        &["system", "recover", "--dry-run"][..],
        &["system", "recover"],
    ] {
        assert_eq!(
            names(host.ok(flags)),
            ["alone", "always", "failing", "wanted"],
            "{flags:?}"
        );
    }
    let running = || {
        let text = host.ok(&["ps", "--format", "{{.Names}}"]);
        let mut names: Vec<String> = text.lines().map(String::from).collect();
        names.sort();
        names
    };
    assert_eq!(running(), ["alone", "always", "failing", "wanted"]);
    assert!(
        status("alone")["Monitor"].as_i64() > Some(0),
        "it has another monitor"
    );
    assert_eq!(host.ok(&["system", "recover"]), "", "nothing more to do");
    // Before a reboot: an end that no user wished.
    assert_eq!(
        names(host.ok(&["system", "halt", "-t", "0"])),
        ["alone", "always", "failing", "wanted"]
    );
    assert_eq!(running().len(), 0);
    assert_eq!(
        names(host.ok(&["system", "recover"])),
        ["alone", "always", "failing", "wanted"]
    );
    host.ok(&["stop", "-t", "0", "wanted", "always"]);
    assert_eq!(host.ok(&["system", "recover"]), "", "a user stopped them");
}

#[test]
fn all_of_it_is_counted_and_cleared_up() {
    needs!("root");
    let host = Host::new("system");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "up",
        "-v",
        "data:/d",
        "lab",
        "sh",
        "-c",
        "head -c 100000 /dev/zero >/d/x; exec sleep 1000",
    ]);
    host.ok(&[
        "run",
        "--name",
        "done",
        "-v",
        "/anonymous",
        "lab",
        "sh",
        "-c",
        "head -c 50000 /dev/zero >/x",
    ]);
    host.ok(&[
        "create", "--name", "kept", "--label", "keep=yes", "lab", "true",
    ]);
    host.ok(&["image", "tag", "lab", "other:1"]);
    let limit = Instant::now() + Duration::from_secs(60);
    let df =
        |kind: usize, key: &str| host.go(&["system", "df", "--json"]).json()[kind][key].as_u64();
    while df(2, "Size") != Some(100000) {
        assert!(
            Instant::now() < limit,
            "{}",
            host.ok(&["system", "df", "--json"])
        );
    }
    assert_eq!((df(1, "TotalCount"), df(1, "Active")), (Some(3), Some(1)));
    assert_eq!(
        (df(1, "Reclaimable"), df(2, "Reclaimable")),
        (Some(50000), Some(0))
    );
    assert_eq!(
        (df(0, "TotalCount"), df(0, "Active"), df(0, "Reclaimable")),
        (Some(1), Some(1), Some(0))
    );
    assert!(df(0, "Size") > Some(1 << 20));
    let table = host.ok(&["system", "df"]);
    assert!(
        table.starts_with("TYPE") && table.contains("Local Volumes"),
        "{table}"
    );
    let all = host.ok(&["system", "df", "-v"]);
    assert!(
        all.contains("data") && all.contains("50kB") && all.contains("lab"),
        "{all}"
    );
    let info = host.go(&["system", "info", "--json"]).json();
    assert_eq!(
        (&info["Containers"], &info["ContainersRunning"]),
        (&3.into(), &1.into())
    );
    assert_eq!(
        host.ok(&["system", "info", "-f", "{{.Driver}}"]),
        "overlayfs"
    );
    host.ok(&["network", "create", "unused"]);
    host.ok(&["network", "create", "--label", "keep", "kept"]);
    let out = host.ok(&["system", "prune", "-f", "--filter", "label!=keep"]);
    assert!(out.contains("Deleted Networks:\nunused\n\n"), "{out}");
    assert!(
        out.contains("Deleted Containers:") && out.ends_with("50kB"),
        "{out}"
    );
    let left = host.ok(&["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(left, "kept\nup");
    host.ok(&["system", "prune", "--filter", "until=1h"]);
    assert_eq!(host.ok(&["ps", "-aq"]).lines().count(), 2, "none is so old");
    let out = host.ok(&["system", "prune", "--volumes"]);
    assert!(out.contains("Deleted Volumes:"), "{out}");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data");
    host.ok(&["rm", "-f", "up"]);
    let out = host.ok(&["system", "prune", "-a", "--volumes"]);
    assert!(
        out.contains("untagged: lab:latest") && out.contains("untagged: other:1"),
        "{out}"
    );
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data", "it has a name");
    assert!(
        host.fails(125, &["checkpoint", "create", "up", "one"])
            .contains("out of scope")
    );
}

#[test]
fn the_log_is_read_from_and_up_to_a_time() {
    needs!("root");
    let host = Host::new("logs");
    let script = "echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three; sleep 0.5; echo four";
    host.ok(&["run", "--name", "box", "lab", "sh", "-c", script]);
    let logs = |flags: &[&str]| host.go(&[&["logs"], flags, &["box"]].concat());
    let stamped = logs(&["-t"]);
    let times: Vec<&str> = stamped
        .stdout
        .lines()
        .map(|l| l.split_once(' ').expect("a time").0)
        .collect();
    assert_eq!(times.len(), 3, "{stamped}");
    let out = |flags: &[&str]| {
        let out = logs(flags);
        format!("{}{}", out.stdout, out.stderr)
    };
    assert_eq!(out(&["--since", times[1]]), "three\nfour\n");
    assert_eq!(out(&["--until", times[0]]), "one\n");
    assert_eq!(
        out(&["--since", times[0], "--until", times[1]]),
        "one\nthree\ntwo\n"
    );
    assert_eq!(out(&["--tail", "2"]), "three\nfour\n");
    assert_eq!(out(&["--tail", "0"]), "");
    assert_eq!(
        out(&["-f", "-n", "1"]),
        "four\n",
        "it has ended: nothing to follow"
    );
    host.fails(1, &["logs", "--tail", "x", "box"]);
    host.fails(1, &["logs", "--since", "x", "box"]);
    // Followed over a restart, up to the end.
    let script = "echo line; sleep 0.3; exit 1";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "on-failure:2",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    let follow = job(&host, &["logs", "-f", "again"]);
    let (text, code) = follow.end();
    assert_eq!((text.lines().count(), code), (3, 0), "{text}");
}
