//! What is told of a container while it lives: events, statistics, health; and what can be changed
//! of it: limits, restart policy.
//!
//! Read next: `containers.rs`; `src/containers/health.rs`, `events.rs`, `update.rs`.

mod common;

use common::{Host, run_in};
use std::time::{Duration, Instant};

/// Waits, for a bounded time, until `done`.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that was told so far.
fn told(host: &Host, flags: &[&str]) -> Vec<String> {
    let args = [&["events", "--since", "1h", "--until", "0s"], flags].concat();
    host.ok(&args).lines().map(String::from).collect()
}

fn state(host: &Host, template: &str) -> String {
    host.ok(&["inspect", "-f", template, "box"])
}

#[test]
fn events_tell_a_life_in_dockers_words() {
    needs!("root");
    let host = Host::new("events");
    let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let flags = ["--label", "tier=web", "-v", "data:/d", "--name", "box"];
    host.ok(&[&["run", "-d"][..], &flags, &["lab", "sh", "-c", script]].concat());
    host.ok(&["exec", "box", "true"]);
    host.ok(&["pause", "box"]);
    host.ok(&["unpause", "box"]);
    host.ok(&["rename", "box", "crate"]);
    host.ok(&["stop", "crate"]);
    host.ok(&["rm", "crate"]);
    host.ok(&["volume", "rm", "data"]);
    let names = told(&host, &["--format", "{{.Type}} {{.Action}}"]);
    let expected = [
        "volume create",
        "container create",
        "container start",
        "container exec_create: true",
        "container exec_start: true",
        "container exec_die",
        "container pause",
        "container unpause",
        "container rename",
        "container kill",
        "container die",
        "container stop",
        "container destroy",
        "volume destroy",
    ];
    assert_eq!(names, expected);
    let of = |flags: &[&str]| told(&host, flags);
    let die = of(&[
        "--filter",
        "event=die",
        "--format",
        "{{.Actor.Attributes.exitCode}} {{.Actor.Attributes.name}} {{.Actor.Attributes.tier}}",
    ]);
    assert_eq!(die, ["3 crate web"]);
    let kill = of(&[
        "--filter",
        "event=kill",
        "--format",
        "{{.Actor.Attributes.signal}}",
    ]);
    assert_eq!(kill, ["15"]);
    assert_eq!(of(&["--filter", "type=volume"]).len(), 2);
    assert_eq!(of(&["--filter", "label=tier=db"]).len(), 0);
    let line = of(&["--filter", "event=rename"]).remove(0);
    assert!(
        line.contains(" container rename ")
            && line.contains("name=crate")
            && line.contains("oldName=/box"),
        "{line}"
    );
    let json = of(&["--json", "--filter", "event=start"]).remove(0);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(
        json["status"] == "start" && json["Actor"]["Attributes"]["image"] == "lab",
        "{json}"
    );
    host.fails(1, &["events", "--filter", "colour=red", "--until", "0s"]);
    host.fails(1, &["events", "--since", "x"]);
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("a time").as_secs_f64()
}

#[test]
fn events_are_followed_until_a_time() {
    needs!("root");
    let host = Host::new("events-follow");
    host.ok(&["run", "--rm", "lab", "true"]); // makes the image
    // On a busy machine a container takes longer than it is followed for; then once more, longer.
    for seconds in [12.0, 40.0, 120.0] {
        let since = now().to_string();
        let end = now() + seconds;
        let until = end.to_string();
        let root = host.root.path().to_path_buf();
        let follow = std::thread::spawn(move || {
            let span = ["--since", &since, "--until", &until];
            run_in(
                &root,
                [&["events"][..], &span, &["--format", "{{.Action}}"]].concat(),
            )
        });
        std::thread::sleep(Duration::from_millis(700));
        host.sh(&[], "true");
        let in_time = now() < end - 1.0;
        let out = follow.join().expect("it ends");
        if in_time {
            assert_eq!(out.stdout, "create\nstart\ndie\ndestroy\n", "{out}");
            return;
        }
    }
    panic!("no container ran within two minutes");
}

#[test]
fn statistics_are_the_kernels_counters() {
    needs!("root");
    let host = Host::new("stats");
    let busy = "sleep 1000 & while :; do :; done";
    host.ok(&[
        "run", "-d", "--name", "busy", "-m", "64m", "lab", "sh", "-c", busy,
    ]);
    host.ok(&["create", "--name", "idle", "lab", "true"]);
    let rows = host.go(&["stats", "--json"]).json();
    assert_eq!(rows.as_array().expect("a list").len(), 1, "{rows}");
    let used = &rows[0]["use"];
    assert!(
        used["cpu_percent"].as_f64().expect("a number") > 5.0,
        "{rows}"
    );
    assert_eq!(used["memory_limit"], 64 << 20);
    let memory = used["memory"].as_u64().expect("a number");
    assert!(memory > 0 && memory < 64 << 20, "{rows}");
    let pids = used["pids"].as_u64().expect("a number");
    assert_eq!(pids, 2, "{rows}");
    let table = host.ok(&["stats", "--no-stream"]);
    assert!(
        table.starts_with("CONTAINER ID") && table.contains("/ 64MiB"),
        "{table}"
    );
    let all = host.ok(&[
        "stats",
        "-a",
        "--no-stream",
        "--format",
        "{{.Name}} {{.PIDs}}",
    ]);
    let mut all: Vec<&str> = all.lines().collect();
    all.sort();
    assert_eq!(all, ["busy 2", "idle --"]);
    assert!(
        host.fails(1, &["stats", "--no-stream", "nobody"])
            .contains("no such container")
    );
}

#[test]
fn a_check_says_how_a_container_does() {
    needs!("root");
    let host = Host::new("health");
    let flags = [
        "--health-cmd",
        "echo looked; test -e /good",
        "--health-interval",
        "100ms",
        "--health-retries",
        "2",
        "--health-timeout",
        "2s",
    ];
    let run = [
        &["run", "-d", "--name", "box"][..],
        &flags,
        &["lab", "sleep", "1000"],
    ]
    .concat();
    host.ok(&run);
    assert_eq!(state(&host, "{{.State.Health.Status}}"), "starting");
    let status = || host.ok(&["ps", "--format", "{{.Status}}"]);
    until("unhealthy", || status().contains("(unhealthy)"));
    assert_eq!(
        state(&host, "{{.State.Status}} {{.RestartCount}}"),
        "running 0",
        "it goes on"
    );
    host.ok(&["exec", "box", "touch", "/good"]);
    until("healthy", || status().contains("(healthy)"));
    until("five results", || {
        state(&host, "{{len .State.Health.Log}}") == "5"
    });
    let last = state(
        &host,
        "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}{{end}}",
    );
    assert!(last.ends_with("0 looked"), "{last}");
    assert_eq!(
        host.ok(&["ps", "-q", "--filter", "health=healthy"])
            .lines()
            .count(),
        1
    );
    assert_eq!(host.ok(&["ps", "-q", "--filter", "health=unhealthy"]), "");
    let verdicts = told(
        &host,
        &["--filter", "event=health_status", "--format", "{{.Action}}"],
    );
    assert_eq!(
        verdicts,
        ["health_status: unhealthy", "health_status: healthy"]
    );
    // A monitor that is killed takes its watch along, and the next has one of its own.
    let monitor = std::fs::read_dir(host.root.join("containers"))
        .expect("a list")
        .flatten()
        .find_map(|e| std::fs::read_to_string(e.path().join("status.json")).ok())
        .expect("a status");
    let monitor: serde_json::Value = serde_json::from_str(&monitor).expect("JSON");
    let pid = nix::unistd::Pid::from_raw(monitor["Monitor"].as_i64().expect("a pid") as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("kill");
    host.ok(&["exec", "box", "rm", "/good"]);
    until("unhealthy again", || status().contains("(unhealthy)"));
    host.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_check_that_takes_too_long_is_ended() {
    needs!("root");
    let host = Host::new("health-timeout");
    let flags = [
        "--health-cmd",
        "exec sleep 77",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    host.ok(&[
        &["run", "-d", "--name", "box"][..],
        &flags,
        &["lab", "sleep", "1000"],
    ]
    .concat());
    until("unhealthy", || {
        state(&host, "{{.State.Health.Status}}") == "unhealthy"
    });
    let log = state(
        &host,
        "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}};{{end}}",
    );
    assert!(
        log.starts_with("-1 Health check exceeded timeout (200ms);"),
        "{log}"
    );
    assert!(
        host.ok(&["top", "box"]).matches("sleep 77").count() <= 1,
        "they are killed"
    );
    // The start period, and a command that is not there.
    let flags = [
        "--health-cmd",
        "nothing-there",
        "--health-interval",
        "100ms",
        "--health-start-period",
        "1h",
        "--health-start-interval",
        "100ms",
    ];
    host.ok(&[
        &["run", "-d", "--name", "early"][..],
        &flags,
        &["lab", "sleep", "1000"],
    ]
    .concat());
    let early = |t: &str| host.ok(&["inspect", "-f", t, "early"]);
    until("results", || early("{{len .State.Health.Log}}") == "5");
    assert_eq!(
        early("{{.State.Health.Status}} {{.State.Health.FailingStreak}}"),
        "starting 0"
    );
    host.ok(&[
        "run",
        "-d",
        "--name",
        "none",
        "--no-healthcheck",
        "lab",
        "sleep",
        "1000",
    ]);
    assert!(
        !host
            .ok(&["ps", "--filter", "name=none", "--format", "{{.Status}}"])
            .contains('(')
    );
    for bad in [
        &["--no-healthcheck", "--health-cmd", "true"][..],
        &["--health-interval", "1us", "--health-cmd", "true"],
        &["--health-retries", "-1"],
    ] {
        host.fails(125, &[&["run"], bad, &["lab", "true"]].concat());
    }
}

#[test]
fn limits_and_policies_are_changed_while_it_runs() {
    needs!("root");
    let host = Host::new("update");
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "-m",
        "64m",
        "--pids-limit",
        "50",
        "lab",
        "sleep",
        "1000",
    ]);
    let effective = |what: &str| {
        let list = host.go(&["inspect", "--json", "box"]).json();
        let limits = list["process"]["cgroup"]["limits"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("no limits in {:#}", list["process"]["cgroup"]));
        let limit = limits.into_iter().find(|l| l["name"] == what);
        limit
            .map(|l| l["effective"].as_str().unwrap_or("").to_string())
            .unwrap_or_default()
    };
    assert_eq!(effective("memory.max"), (64 << 20).to_string());
    assert_eq!(
        host.ok(&[
            "update",
            "-m",
            "96m",
            "--pids-limit",
            "20",
            "--cpus",
            "0.5",
            "box"
        ]),
        "box"
    );
    assert_eq!(effective("memory.max"), (96 << 20).to_string());
    assert_eq!(effective("pids.max"), "20");
    assert_eq!(effective("cpu.max"), "50000 100000");
    assert_eq!(
        state(&host, "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"),
        format!("{} 500000000", 96 << 20)
    );
    // What contradicts itself changes nothing.
    for bad in [
        &["-m", "1m"][..],
        &["--cpus", "1000"],
        &["--cpu-quota", "5000"],
        &["--blkio-weight", "5"],
    ] {
        let out = host.go(&[&["update"], bad, &["box"]].concat());
        assert!(matches!(out.code(), 1 | 125), "{bad:?}: {out}");
    }
    assert_eq!(effective("memory.max"), (96 << 20).to_string());
    host.fails(125, &["update", "-m", "x", "box"]);
    // The program is started again with what holds now, for the policy is new as well.
    host.ok(&["update", "--restart", "on-failure:1", "box"]);
    let pid = state(&host, "{{.State.Pid}}");
    let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("kill");
    until("the restart", || {
        state(&host, "{{.RestartCount}} {{.State.Status}}") == "1 running"
    });
    assert_eq!(effective("memory.max"), (96 << 20).to_string());
    host.ok(&["rm", "-f", "box"]);
    host.ok(&["create", "--name", "box", "--rm", "lab", "true"]);
    assert!(
        host.fails(1, &["update", "--restart", "always", "box"])
            .contains("AutoRemove")
    );
    host.ok(&["update", "--cpu-shares", "512", "box"]);
    assert_eq!(state(&host, "{{.HostConfig.CpuShares}}"), "512");
}

#[test]
fn streams_are_attached_one_by_one_and_foreign_flags_refused() {
    needs!("root");
    let host = Host::new("attach-flags");
    let script = "echo out; echo err >&2";
    let out = host.go(&["run", "--rm", "-a", "stdout", "lab", "sh", "-c", script]);
    assert_eq!(
        (out.stdout.as_str(), out.stderr.as_str()),
        ("out\n", ""),
        "{out}"
    );
    let out = host.go(&["run", "--rm", "-a", "STDERR", "lab", "sh", "-c", script]);
    assert_eq!(
        (out.stdout.as_str(), out.stderr.as_str()),
        ("", "err\n"),
        "{out}"
    );
    for (flags, words) in [
        (&["-a", "x"][..], "valid streams"),
        (&["-d", "-a", "stdout"], "--attach and --detach"),
        (&["--gpus", "all"], "--device"),
        (&["--runtime", "kata"], "unknown or invalid runtime name"),
        (&["--isolation", "hyperv"], "must be default"),
        (&["--storage-opt", "size=1G"], "--storage-opt"),
        (&["--cpu-count", "2"], "of Windows"),
        (&["--memory-swappiness", "200"], "0-100"),
        (&["--device-read-bps", "/dev/null:1m"], "not a block device"),
        (&["--blkio-weight", "5"], "10 to 1000"),
    ] {
        let message = host.fails(125, &[&["run", "--rm"], flags, &["lab", "true"]].concat());
        assert!(message.contains(words), "{flags:?}: {message}");
    }
    host.sh(
        &[
            "--runtime",
            "runc",
            "--isolation",
            "default",
            "--disable-content-trust",
        ],
        "true",
    );
}
