//! Containers through docker's commands: their life, their flags, their exit statuses.
//!
//! Each test has a state root of its own and looks at what the command line says, as a user would.
//! Read next: `terminal.rs` (a real pty), `crash.rs` (SIGKILL).

mod common;

use common::{LeakCheck, Output, Run, TempRoot, run_in};

/// A state root; its leak check is dropped before it.
struct Host {
    _leaks: LeakCheck,
    root: TempRoot,
}

impl Host {
    fn new(name: &str) -> Host {
        let root = TempRoot::new(name);
        Host {
            _leaks: LeakCheck::new(&root),
            root,
        }
    }
    #[track_caller]
    fn go(&self, args: &[&str]) -> Output {
        run_in(&self.root, args)
    }
    /// Stdout of a command that succeeds, trimmed.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let out = self.go(args);
        assert_eq!(out.code(), 0, "{out}");
        out.stdout.trim_end().to_string()
    }
    /// `run --rm lab sh -c SCRIPT` with further flags.
    #[track_caller]
    fn sh(&self, flags: &[&str], script: &str) -> String {
        let args = [&["run", "--rm"], flags, &["lab", "sh", "-c", script]].concat();
        self.ok(&args)
    }
    #[track_caller]
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let out = self.go(args);
        assert_eq!(out.code(), code, "{out}");
        out.stderr
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let left = run_in(&self.root, ["ps", "-aq"]).stdout;
        let ids: Vec<&str> = left.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = run_in(&self.root, [&["rm", "-f"][..], &ids].concat());
        }
    }
}

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
fn what_cannot_run_says_so_and_leaves_nothing() {
    needs!("root");
    let host = Host::new("bad");
    assert!(
        host.fails(127, &["run", "lab", "nope"])
            .contains("executable file not found in $PATH")
    );
    assert!(
        host.fails(127, &["run", "lab", "/nope"])
            .contains("no such file or directory")
    );
    assert!(
        host.fails(126, &["run", "lab", "/etc"])
            .contains("error: exec")
    );
    for args in [
        &["run", "no-such-image"][..],
        &["run", "-m", "1m", "lab"],
        &["run", "-m", "x", "lab"],
        &["run", "--network", "bridge", "lab"],
        &["run", "--network", "container:nobody", "lab"],
        &["run", "-u", "nobody-knows", "lab"],
        &["run", "-v", "a/b:/c", "lab"],
        &[
            "run",
            "--mount",
            "type=bind,source=/nonexistent,target=/x",
            "lab",
        ],
        &["run", "--cap-add", "flying", "lab"],
        &["run", "--device", "/nonexistent", "lab"],
        &["run", "--sysctl", "kernel.panic=1", "lab"],
        &["run", "--security-opt", "seccomp=/nonexistent", "lab"],
        &["run", "--name", "-x", "lab"],
        &["run", "-w", "relative", "lab"],
        &["run", "--no-such-flag", "lab"],
        &["run", "--cpus", "1", "--cpu-quota", "5", "lab"],
        &["run", "--restart", "always", "--rm", "lab"],
        &["create", "--ulimit", "nofile=2:1", "lab"],
        &["run"],
    ] {
        let message = host.fails(125, args);
        assert!(message.contains("error: "), "{args:?}: {message}");
    }
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let left = std::fs::read_dir(host.root.join("containers"))
        .unwrap()
        .count();
    assert_eq!(left, 1, "the lock alone");
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
        host.fails(125, &["create", "--name", "web", "lab"])
            .contains("already in use")
    );
    assert_eq!(host.ok(&["pause", "web"]), "web");
    assert!(host.ok(&["ps"]).contains("(Paused)"));
    assert!(host.fails(1, &["pause", "web"]).contains("already paused"));
    assert!(
        host.fails(125, &["exec", "web", "true"])
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
        host.fails(125, &["exec", "www", "true"])
            .contains("is not running")
    );
    assert!(
        host.fails(125, &["attach", "www"])
            .contains("stopped container")
    );
    assert_eq!(host.ok(&["restart", "www"]), "www");
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
    assert_eq!(
        sh(&["--privileged"], "grep CapEff /proc/self/status")
            .stdout
            .contains("a80425fb"),
        false
    );
    assert_eq!(sh(&[], "echo e >&2").stderr, "e\n");
    assert_eq!(
        host.fails(127, &["exec", "box", "nope"])
            .contains("not found"),
        true
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
fn flags_reach_the_kernel() {
    needs!("root");
    let host = Host::new("flags");
    let data = host.root.write("data/file", "content");
    let dir = data.parent().unwrap().display().to_string();
    let env_file = host.root.write("env", "# comment\nFROM=file\n");
    let env_file = env_file.display().to_string();
    assert_eq!(
        host.sh(&["-e", "A=b", "--env-file", &env_file], "echo $A $FROM"),
        "b file"
    );
    assert_eq!(host.sh(&["-w", "/made/up"], "pwd"), "/made/up");
    assert_eq!(
        host.sh(&["-u", "12:34", "--group-add", "56"], "id -u; id -g; id -G"),
        "12\n34\n34 56"
    );
    assert_eq!(
        host.sh(
            &["-h", "name", "--add-host", "db:10.9.8.7"],
            "hostname; grep db /etc/hosts"
        ),
        "name\n10.9.8.7\tdb"
    );
    assert_eq!(
        host.sh(
            &["-v", &format!("{dir}:/d:ro")],
            "cat /d/file; touch /d/x 2>/dev/null || echo refused"
        ),
        "contentrefused"
    );
    assert_eq!(
        host.sh(
            &["--mount", &format!("type=bind,source={dir},target=/d")],
            "cat /d/file"
        ),
        "content"
    );
    assert_eq!(
        host.sh(
            &["--tmpfs", "/t:size=1m"],
            "grep ' /t ' /proc/mounts | grep -o size=1024k"
        ),
        "size=1024k"
    );
    assert_eq!(
        host.sh(&["--read-only"], "touch /x 2>/dev/null || echo refused"),
        "refused"
    );
    assert_eq!(
        host.sh(
            &["--shm-size", "1m"],
            "grep ' /dev/shm ' /proc/mounts | grep -o size=1024k"
        ),
        "size=1024k"
    );
    assert_eq!(
        host.sh(&["--ulimit", "nofile=50:60"], "ulimit -Sn; ulimit -Hn"),
        "50\n60"
    );
    assert_eq!(
        host.sh(
            &["--sysctl", "net.core.somaxconn=99"],
            "cat /proc/sys/net/core/somaxconn"
        ),
        "99"
    );
    assert_eq!(
        host.sh(
            &["--device", "/dev/null:/dev/none"],
            "test -c /dev/none && echo there"
        ),
        "there"
    );
    assert_eq!(
        host.sh(&["--oom-score-adj", "7"], "cat /proc/self/oom_score_adj"),
        "7"
    );
    assert_eq!(host.sh(&["--entrypoint", "echo"], "x").trim(), "sh -c x");
    assert_eq!(
        host.sh(&["--init"], "echo $$; cat /proc/1/comm")
            .lines()
            .next(),
        Some("2")
    );
    let status = |flags: &[&str], field: &str| {
        host.sh(
            flags,
            &format!("grep ^{field}: /proc/self/status | cut -f2"),
        )
    };
    assert_eq!(status(&[], "CapEff"), "00000000a80425fb");
    assert_eq!(
        status(&["--cap-drop", "ALL", "--cap-add", "net_admin"], "CapEff"),
        "0000000000001000"
    );
    assert_eq!(status(&[], "Seccomp"), "2");
    assert_eq!(
        status(&["--security-opt", "seccomp=unconfined"], "Seccomp"),
        "0"
    );
    assert_eq!(
        status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"),
        "1"
    );
    assert_eq!(status(&["--privileged"], "Seccomp"), "0");
}

#[test]
fn limits_reach_the_cgroup() {
    needs!("root", "cgroup1");
    let host = Host::new("limits");
    let flags = [
        "-m",
        "64m",
        "--pids-limit",
        "33",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
    ];
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
    assert_eq!(host.sh(&flags, script), "67108864\n33\n50000\n512\n0");
    let out = host.go(&[
        "run",
        "--name",
        "hungry",
        "-m",
        "16m",
        "lab",
        "tail",
        "-c",
        "200000000",
        "/dev/zero",
    ]);
    assert_eq!(out.code(), 137, "{out}");
    let status = std::fs::read_to_string(
        host.root
            .join("containers")
            .join(host.ok(&["ps", "-aq", "--no-trunc"]))
            .join("status.json"),
    );
    assert!(status.unwrap().contains("\"OOMKilled\": true"));
}

#[test]
fn namespaces_are_own_or_shared() {
    needs!("root");
    let host = Host::new("namespaces");
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    let inside =
        |flags: &[&str], name: &str| host.sh(flags, &format!("readlink /proc/self/ns/{name}"));
    for name in ["mnt", "pid", "net", "ipc", "uts"] {
        assert_ne!(inside(&[], name), own(name), "{name}");
    }
    assert_eq!(inside(&["--network", "host"], "net"), own("net"));
    assert_eq!(inside(&["--pid", "host"], "pid"), own("pid"));
    assert_eq!(inside(&["--ipc", "host"], "ipc"), own("ipc"));
    assert_eq!(inside(&["--uts", "host"], "uts"), own("uts"));
    host.ok(&["run", "-d", "--name", "other", "lab", "sleep", "100"]);
    for (flag, name) in [("--network", "net"), ("--pid", "pid"), ("--ipc", "ipc")] {
        let theirs = host.ok(&["exec", "other", "readlink", &format!("/proc/1/ns/{name}")]);
        assert_eq!(inside(&[flag, "container:other"], name), theirs);
    }
    assert_eq!(
        host.sh(&[], "cat /sys/class/net/lo/operstate; ls /sys/class/net"),
        "unknown\nlo"
    );
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
    host.fails(125, &["logs", "--tail", "x", "talker"]);
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
        host.fails(125, &["logs", "mute"])
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
fn notes_and_files() {
    needs!("root");
    let host = Host::new("notes");
    let cid = host.root.join("cid").display().to_string();
    let id = host.ok(&["create", "--cidfile", &cid, "lab"]);
    assert_eq!(std::fs::read_to_string(&cid).unwrap(), id);
    assert!(
        host.fails(125, &["create", "--cidfile", &cid, "lab"])
            .contains("container ID file found")
    );
    host.ok(&[
        "run",
        "-v",
        "data:/data",
        "lab",
        "sh",
        "-c",
        "echo kept > /data/x",
    ]);
    assert_eq!(host.sh(&["-v", "data:/data"], "cat /data/x"), "kept");
    let missing = host.root.join("made/by/us").display().to_string();
    host.sh(&["-v", &format!("{missing}:/m")], "true");
    assert!(std::path::Path::new(&missing).is_dir());
    assert_eq!(host.sh(&["--name", "once"], "echo ran"), "ran");
    assert_eq!(
        host.sh(&["--name", "once"], "echo again"),
        "again",
        "--rm freed the name"
    );
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

#[test]
fn an_ordinary_user_runs_containers() {
    let root = TempRoot::for_user("rootless");
    let _leaks = LeakCheck::new(&root);
    let go = |args: &[&str]| {
        Run::new(args)
            .as_user()
            .env("GLASSBOX_ROOT", root.path())
            .go()
    };
    let out = go(&[
        "run",
        "--rm",
        "lab",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; exit 3",
    ]);
    if out.stderr.contains("cannot create a user namespace") {
        return common::skip("needs userns: user namespaces are forbidden to ordinary users here");
    }
    assert_eq!(out.code(), 3, "{out}");
    assert!(out.stdout.starts_with("0\n"), "root inside: {out}");
    let out = go(&["run", "-d", "--name", "mine", "lab", "sleep", "100"]);
    assert_eq!(out.code(), 0, "{out}");
    assert_eq!(go(&["exec", "mine", "id", "-u"]).stdout, "0\n");
    assert!(go(&["top", "mine"]).stdout.contains("sleep 100"));
    assert_eq!(go(&["rm", "-f", "mine"]).code(), 0);
    let out = go(&["run", "--rm", "--userns", "host", "lab", "true"]);
    assert!(
        out.code() == 125 && out.stderr.contains("needs root"),
        "{out}"
    );
}
