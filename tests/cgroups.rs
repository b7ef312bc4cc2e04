//! Stage 2 on the binary: limits bite, are read back, and nothing is left behind.
//!
//! The tests run on unified, legacy and hybrid hosts alike; what only one of them has is asked for
//! by what the host's layout is. Every group lies below /glassbox-test-…, whose name is the test's.

mod common;

use common::{LeakCheck, Output, Run, TempRoot, run};
use glassbox::cgroups::{CgroupPath, Group, bpf_sim, device_program::DeviceRules, devices};
use glassbox::host::{CgroupLayout, LayoutKind};
use glassbox::journal::{Action, Scene};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A unique group that holds all of one test's, removed at the end whatever happens.
struct Place {
    path: String,
    layout: CgroupLayout,
    // Dropped in this order: the check sees what the group's removal left.
    _leaks: LeakCheck,
    _root: TempRoot,
}

impl Place {
    /// `None` when this caller may make no groups here (the reason was printed).
    fn new(name: &str) -> Option<Place> {
        let layout = CgroupLayout::detect().expect("the layout");
        let root = TempRoot::new(name);
        let place = Place {
            path: format!("/{}", root.tag()),
            _leaks: LeakCheck::new(&root),
            layout,
            _root: root,
        };
        let group = CgroupPath::parse(&place.path)
            .and_then(|p| Group::locate(&place.layout, &p))
            .and_then(|g| g.require_usable());
        if let Err(e) = group {
            common::skip(format!("no cgroup can be made here: {e:#}"));
            return None;
        }
        Some(place)
    }
    /// The path of a group below it.
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
    /// The directories of a group, in all trees that have it.
    fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let path = CgroupPath::parse(path).expect("a path");
        Group::existing(&self.layout, &path)
            .map(|g| g.dirs.into_iter().map(|d| d.dir).collect())
            .unwrap_or_default()
    }
    fn group(&self, path: &str) -> Group {
        let path = CgroupPath::parse(path).expect("a path");
        Group::existing(&self.layout, &path).expect("the group exists")
    }
    fn stat(&self, path: &str) -> Value {
        run(["cgroup", "stat", "--json", path]).success().json()
    }
    fn is_v2(&self) -> bool {
        self.layout.kind == LayoutKind::Unified
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.dirs(&self.path).is_empty() {
            let out = run(["cgroup", "rm", "-rf", &self.path]);
            if !std::thread::panicking() {
                assert_eq!(out.code(), 0, "{out}");
            }
        }
    }
}

/// The limit named `what` in `stat --json`.
fn limit<'a>(stat: &'a Value, what: &str) -> &'a Value {
    let limits = stat["limits"].as_array().expect("limits");
    limits
        .iter()
        .find(|l| l["what"] == what)
        .unwrap_or_else(|| panic!("no {what} in {stat:#}"))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn run_gives_the_command_a_group_and_its_status_back() {
    let Some(place) = Place::new("run") else {
        return;
    };
    let name = place.at("job");
    let args = [
        "cgroup",
        "run",
        "--name",
        &name,
        "--memory",
        "64M",
        "--pids-limit",
        "20",
        "--",
    ];
    let out = run(args
        .iter()
        .chain(&["sh", "-c", "cat /proc/self/cgroup; exit 7"]))
    .exits(7);
    for line in out.stdout.lines() {
        // A controller that is mounted nowhere has no group of ours.
        let controllers = line.split(':').nth(1).unwrap_or_default();
        let mounted = controllers.is_empty() || place.layout.of(controllers).is_some();
        let one = controllers.split(',').any(|c| place.layout.of(c).is_some());
        assert!(
            !(mounted || one) || line.ends_with(&name),
            "outside: {line}\n{out}"
        );
    }
    assert!(place.dirs(&name).is_empty(), "the group was not removed");
    assert!(
        place.dirs(&place.path).is_empty(),
        "nor the group above, made for it"
    );
    run(args.iter().chain(&["sh", "-c", "kill -TERM $$"])).exits(143);
    run(args.iter().chain(&["/nonexistent/program"])).fails(127, &["no such command"]);
    assert!(place.dirs(&place.path).is_empty());
}

#[test]
fn what_the_command_leaves_behind_ends_with_the_group() {
    let Some(place) = Place::new("left") else {
        return;
    };
    let name = place.at("job");
    let out = run(["cgroup", "run", "--name", &name, "--", "sh", "-c"]
        .iter()
        .chain(&["sleep 1000 >/dev/null 2>&1 & echo $!"]))
    .success();
    let pid = out.stdout.trim().to_string();
    assert!(
        !PathBuf::from(format!("/proc/{pid}/cgroup")).exists(),
        "{pid} lives on"
    );
}

#[test]
fn a_memory_limit_kills_and_counts() {
    let Some(place) = Place::new("oom") else {
        return;
    };
    let name = place.at("job");
    let mut args = vec![
        "cgroup", "run", "--name", &name, "--keep", "--memory", "24M",
    ];
    let swap = std::fs::read_to_string("/proc/swaps").is_ok_and(|t| t.lines().count() > 1);
    if swap {
        args.extend(["--memory-swap", "24M"]);
    }
    args.extend([
        "--",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=200M",
        "count=1",
    ]);
    run(&args).exits(137);
    let stat = place.stat(&name);
    assert!(
        stat["memory"]["events"]["oom_kill"].as_u64() >= Some(1),
        "{stat:#}"
    );
    assert!(
        stat["memory"]["events"]["max"].as_u64() >= Some(1),
        "the limit was hit: {stat:#}"
    );
    assert_eq!(
        limit(&stat, "memory.max")["effective"],
        (24 << 20).to_string()
    );
    assert_eq!(limit(&stat, "memory.max")["set_by"], name);
    run(["cgroup", "stat", &name])
        .success()
        .out_has("processes killed: 1");
}

#[test]
fn a_pids_limit_refuses_forks_and_counts() {
    let Some(place) = Place::new("pids") else {
        return;
    };
    let name = place.at("job");
    let script = "for i in 1 2 3 4 5 6; do sleep 1000 >/dev/null 2>&1 & done; exit 0";
    let out = run([
        "cgroup",
        "run",
        "--name",
        &name,
        "--keep",
        "--pids-limit",
        "3",
        "--",
        "sh",
    ]
    .iter()
    .chain(&["-c", script]));
    let stat = place.stat(&name);
    assert!(
        stat["pids"]["refused"].as_u64() >= Some(1),
        "{stat:#}\n{out}"
    );
    assert!(stat["pids"]["current"].as_u64() <= Some(3), "{stat:#}");
    run(["cgroup", "rm", &name]).fails(125, &["holds processes", "rm --force"]);
    run(["cgroup", "kill", &name]).success();
    assert_eq!(place.stat(&name)["processes"], serde_json::json!([]));
    run(["cgroup", "rm", &name]).success();
}

#[test]
fn a_cpu_limit_throttles() {
    let Some(place) = Place::new("cpu") else {
        return;
    };
    let name = place.at("job");
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    run([
        "cgroup", "run", "--name", &name, "--keep", "--cpus", "0.1", "--", "sh", "-c", script,
    ])
    .success();
    let stat = place.stat(&name);
    assert!(stat["cpu"]["nr_throttled"].as_u64() >= Some(1), "{stat:#}");
    assert!(stat["cpu"]["throttled_usec"].as_u64() > Some(0), "{stat:#}");
    assert_eq!(limit(&stat, "cpu.max")["effective"], "10000 100000");
}

#[test]
fn the_limit_of_a_group_above_is_found() {
    let Some(place) = Place::new("above") else {
        return;
    };
    let (outer, inner) = (place.at("outer"), place.at("outer/inner"));
    run([
        "cgroup",
        "create",
        &outer,
        "--memory",
        "64M",
        "--pids-limit",
        "100",
        "--cpus",
        "0.5",
    ])
    .success()
    .out_is(&outer);
    run([
        "cgroup",
        "create",
        &inner,
        "--memory",
        "128M",
        "--pids-limit",
        "10",
    ])
    .success();
    let stat = place.stat(&inner);
    let memory = limit(&stat, "memory.max");
    assert_eq!(memory["own"], (128 << 20).to_string());
    assert_eq!(memory["effective"], (64 << 20).to_string());
    assert_eq!(memory["set_by"], outer);
    assert_eq!(limit(&stat, "pids.max")["set_by"], inner);
    assert_eq!(limit(&stat, "cpu.max")["set_by"], outer);
    assert_eq!(limit(&stat, "cpu.max")["effective"], "50000 100000");
    let text = run(["cgroup", "stat", &inner]).success();
    text.out_has("64 MiB");
    text.out_has(&outer);
}

#[test]
fn set_changes_limits_and_takes_them_back_on_failure() {
    let Some(place) = Place::new("set") else {
        return;
    };
    let name = place.at("g");
    run([
        "cgroup",
        "create",
        &name,
        "--memory",
        "64M",
        "--memory-swap",
        "64M",
    ])
    .success();
    // Raising both is only possible in the right order on v1, lowering in the other.
    for size in ["256M", "32M", "max"] {
        run([
            "cgroup",
            "set",
            &name,
            "--memory",
            size,
            "--memory-swap",
            size,
        ])
        .success();
    }
    run([
        "cgroup",
        "set",
        &name,
        "--pids-limit",
        "50",
        "--cpu-weight",
        "200",
    ])
    .success();
    let stat = place.stat(&name);
    assert_eq!(limit(&stat, "pids.max")["effective"], "50");
    assert_eq!(limit(&stat, "memory.max")["effective"], "max");
    let plan = run([
        "cgroup",
        "set",
        &name,
        "--pids-limit",
        "9",
        "--dry-run",
        "--json",
    ]);
    let steps = plan.json()["steps"].clone();
    let last = steps.as_array().and_then(|s| s.last()).expect("a step")["id"].clone();
    Run::new(["cgroup", "set", &name, "--pids-limit", "9"])
        .env("GLASSBOX_FAIL_STEP", last.as_str().expect("an id"))
        .go()
        .fails(125, &["told to fail"]);
    assert_eq!(
        limit(&place.stat(&name), "pids.max")["effective"],
        "50",
        "not taken back"
    );
    run(["cgroup", "set", &name]).fails(125, &["no limit to set"]);
}

#[test]
fn what_cannot_be_limited_is_said_and_leaves_nothing() {
    let Some(place) = Place::new("missing") else {
        return;
    };
    let name = place.at("g");
    let fails = |flags: &[&str], parts: &[&str]| {
        let args = ["cgroup", "create", &name].iter().chain(flags);
        run(args).fails(125, parts);
        assert!(
            place.dirs(&place.path).is_empty(),
            "left behind after {flags:?}"
        );
    };
    fails(
        &["--file", "nosuch.max=1"],
        &["nosuch controller is missing", "this host has:"],
    );
    fails(&["--memory", "1X"], &["--memory", "no size"]);
    fails(
        &["--memory", "64M", "--memory-swap", "32M"],
        &["less than memory"],
    );
    fails(&["--cpus", "0"], &["--cpus"]);
    fails(&["--cpu-weight", "0"], &["1 to 10000"]);
    fails(&["--cpuset-cpus", "4000"], &["cpuset.cpus", "group above"]);
    fails(&["--io-max", "/dev/null:rbps=1"], &["no block device"]);
    fails(
        &["--io-max", "4095:1:rbps=1048576"],
        &["no such block device"],
    );
    let memory_is_v1 = place.layout.of("memory").is_some_and(|h| !h.v2);
    if memory_is_v1 {
        fails(
            &["--memory-high", "1M"],
            &["memory.high exists on cgroup v2 only", "v1 tree"],
        );
        fails(&["--file", "memory.oom.group=1"], &["v2 only"]);
    }
    run(["cgroup", "create", "a/../b"]).fails(125, &["no path of a cgroup"]);
    run(["cgroup", "stat", &name]).fails(125, &["there is no cgroup"]);
    run(["cgroup", "create", &name]).success();
    run(["cgroup", "create", &name]).fails(125, &["exists already", "EEXIST"]);
}

#[test]
fn freeze_stops_and_thaw_continues() {
    let Some(place) = Place::new("freeze") else {
        return;
    };
    let name = place.at("g");
    let mut child = Run::new(
        ["cgroup", "run", "--name", &name, "--", "sh", "-c"]
            .iter()
            .chain(&["while :; do :; done"]),
    )
    .command()
    .spawn()
    .expect("it starts");
    let usage = || place.stat(&name)["cpu"]["usage_usec"].as_u64().unwrap_or(0);
    wait_for("the command runs", || {
        !place.dirs(&name).is_empty() && usage() > 0
    });
    run(["cgroup", "freeze", &name]).success();
    assert_eq!(place.stat(&name)["frozen"], true);
    run(["cgroup", "ls", &name]).success().out_has("frozen");
    let before = usage();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(usage(), before, "it ran while frozen");
    run(["cgroup", "thaw", &name]).success();
    wait_for("it runs again", || usage() > before);
    // Frozen again, it is killed all the same.
    run(["cgroup", "freeze", &name]).success();
    run(["cgroup", "kill", "--json", &name])
        .success()
        .out_has(&name);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(137));
    assert!(place.dirs(&name).is_empty());
}

#[test]
fn signals_reach_the_command() {
    let Some(place) = Place::new("signal") else {
        return;
    };
    let name = place.at("g");
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = Run::new(["cgroup", "run", "--name", &name, "--", "sh", "-c", script])
        .command()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
    assert!(place.dirs(&name).is_empty());
}

#[test]
fn every_step_that_fails_leaves_the_host_as_it_was() {
    let Some(place) = Place::new("fail") else {
        return;
    };
    let name = place.at("g");
    let args = [
        "cgroup", "run", "--name", &name, "--memory", "64M", "--cpus", "1",
    ];
    let rest = ["--pids-limit", "20", "--cpuset-cpus", "0", "--", "true"];
    let plan = run(args.iter().chain(&["--dry-run", "--json"]).chain(&rest)).success();
    let steps = plan.json()["steps"].as_array().expect("steps").clone();
    assert!(steps.len() >= 7, "{plan}");
    assert!(
        place.dirs(&place.path).is_empty(),
        "the dry run did something"
    );
    for step in &steps {
        let id = step["id"].as_str().expect("an id");
        if id == "exec" {
            continue; // after it there is nobody of ours to fail
        }
        let out: Output = Run::new(args.iter().chain(&rest))
            .env("GLASSBOX_FAIL_STEP", id)
            .go();
        out.fails(125, &["told to fail", id]);
        assert!(place.dirs(&place.path).is_empty(), "left behind after {id}");
    }
    run(args.iter().chain(&rest)).success();
}

#[test]
fn explain_tells_and_leaves_stdout_alone() {
    let Some(place) = Place::new("explain") else {
        return;
    };
    let name = place.at("g");
    let args = [
        "cgroup",
        "run",
        "--name",
        &name,
        "--explain",
        "--memory",
        "64M",
        "--",
    ];
    let out = run(args.iter().chain(&["echo", "hello"])).success();
    out.out_is("hello");
    out.err_has("above this the kernel reclaims, then kills");
    out.err_has("67108864 ✓");
    out.err_has("clone3");
}

#[test]
fn ls_and_tree_show_groups_processes_and_limits() {
    let Some(place) = Place::new("list") else {
        return;
    };
    let (a, b) = (place.at("a"), place.at("a/b"));
    run(["cgroup", "create", &a, "--memory", "64M"]).success();
    let json = run(["cgroup", "create", &b, "--json"]).success().json();
    assert_eq!(json["path"], b);
    let list = run(["cgroup", "ls", "-q", &place.path]).success();
    list.out_is(&format!("{}\n{a}\n{b}", place.path));
    let json = run(["cgroup", "ls", "--json", &a]).success().json();
    assert_eq!(json[0]["limits"]["memory.max"], (64 << 20).to_string());
    let format = run(["cgroup", "ls", "--format", "{{.path}}", &b]).success();
    format.out_is(&b);
    let script = format!("\"$0\" cgroup tree {a}");
    let binary = common::binary();
    let out = Run::new(["cgroup", "run", "--name", &place.at("a/run"), "--"])
        .command()
        .args(["sh", "-c", &script])
        .arg(binary)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        text.starts_with(&format!("{a}  [memory.max=64 MiB]")),
        "{text}"
    );
    assert!(text.contains("├─ b") && text.contains("└─ run"), "{text}");
    assert!(text.contains("glassbox"), "the process in it: {text}");
    run(["cgroup", "rm", &a]).fails(125, &["groups below it", "rm -r"]);
    run(["cgroup", "rm", "-r", &a]).success();
    assert!(place.dirs(&a).is_empty());
}

#[test]
fn a_target_is_a_path_a_directory_or_a_process() {
    let Some(place) = Place::new("target") else {
        return;
    };
    let name = place.at("g");
    run(["cgroup", "create", &name]).success();
    let path = |word: &str| place.stat(word)["path"].clone();
    assert_eq!(path(&name), name);
    let dir = place.dirs(&name)[0].display().to_string();
    assert_eq!(path(&dir), name);
    let out = run(
        ["cgroup", "run", "--name", &place.at("p"), "--", "sh", "-c"]
            .iter()
            .map(|s| s.to_string())
            .chain([format!(
                "{} cgroup stat --json $$",
                common::binary().display()
            )]),
    )
    .success();
    assert_eq!(out.json()["path"], place.at("p"));
    run(["cgroup", "stat", "4194303"]).fails(125, &["no process 4194303"]);
    run(["cgroup", "rm", "/"]).fails(125, &[]);
    run(["cgroup", "kill", "/"]).fails(125, &["root group"]);
}

#[test]
fn groups_nest_with_namespaces() {
    let Some(place) = Place::new("nest") else {
        return;
    };
    if !common::is_root() {
        return common::skip("needs root");
    }
    let name = place.at("g");
    let binary = common::binary().display().to_string();
    let out = run([
        "cgroup", "run", "--name", &name, "--memory", "64M", "--", &binary,
    ]
    .iter()
    .chain(&["ns", "run", "--pid", "--mount", "--", "sh", "-c"])
    .chain(&["echo $$; cat /proc/self/cgroup"]))
    .success();
    assert!(out.stdout.starts_with("1\n"), "not PID 1: {out}");
    out.out_has(&name);
}

#[test]
fn device_rules_hold_on_either_version() {
    let Some(place) = Place::new("devices") else {
        return;
    };
    if !common::is_root() {
        return common::skip("needs root");
    }
    let name = place.at("g");
    run(["cgroup", "create", &name]).success();
    let group = place.group(&name);
    let rules = [
        devices::DeviceRule::DENY_ALL,
        devices::DeviceRule::parse("c 1:3 rw").expect("a rule"), // null
        devices::DeviceRule::parse("c 1:5 r").expect("a rule"),  // zero
    ];
    let action = DeviceRules::new(&group, &rules);
    assert!(action.is_possible(), "{group:#?}");
    let mut scene = Scene::new();
    action.apply(&mut scene).expect("the rules are taken");
    assert!(action.observe(&scene).iter().all(|f| f.value.is_ok()));
    let dir = action
        .v1
        .as_ref()
        .or(action.v2.as_ref())
        .expect("a directory");
    let script = format!(
        "echo $$ > {}/cgroup.procs
         try() {{ if (eval \"$1\") 2>/dev/null; then echo yes; else echo no; fi; }}
         try ': </dev/null'; try ': >/dev/null'; try ': </dev/zero'; try ': >/dev/zero'
         try ': </dev/full'",
        dir.display()
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("sh runs");
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "yes\nyes\nyes\nno\nno\n"
    );
    if action.v1.is_none() {
        // What the kernel runs says the same when it is read back and run here.
        let programs = bpf_sim::effective(dir).expect("the programs are read");
        let ask = |minor, access| {
            bpf_sim::verdict(&programs, devices::DeviceKind::Char, 1, minor, access)
        };
        assert_eq!(ask(3, devices::Access::WRITE), bpf_sim::Verdict::Allowed);
        assert_eq!(ask(5, devices::Access::READ), bpf_sim::Verdict::Allowed);
        assert_eq!(ask(5, devices::Access::WRITE), bpf_sim::Verdict::Denied);
        assert_eq!(ask(7, devices::Access::READ), bpf_sim::Verdict::Denied);
    }
}

#[test]
fn an_ordinary_user_is_told_why_not_and_how() {
    let Some(place) = Place::new("user") else {
        return;
    };
    if !common::is_root() || !common::has_program("setpriv") {
        return common::skip("needs root and setpriv to become another user");
    }
    let args = [
        "cgroup",
        "run",
        "--name",
        &place.path,
        "--memory",
        "64M",
        "--",
        "true",
    ];
    let hint = "systemd-run --user --scope";
    let out = Run::new(args).as_user().go();
    out.fails(125, &["another user", hint, "chown"]);
}

#[test]
fn a_delegated_group_is_enough_for_an_ordinary_user() {
    let Some(place) = Place::new("delegate") else {
        return;
    };
    if !place.is_v2() {
        return common::skip("needs cgroup v2: v1 has no delegation");
    }
    if !common::is_root() || !common::has_program("setpriv") {
        return common::skip("needs root and setpriv to become another user");
    }
    // What systemd's Delegate=yes does: a group that belongs to the user, with the user in it.
    run(["cgroup", "create", &place.path, "--memory", "256M"]).success();
    let dir = place.dirs(&place.path).remove(0);
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        let path = if file.is_empty() {
            dir.clone()
        } else {
            dir.join(file)
        };
        std::os::unix::fs::chown(path, Some(common::USER), Some(common::USER)).expect("chown");
    }
    let inner = Run::new([
        "cgroup",
        "run",
        "--memory",
        "32M",
        "--pids-limit",
        "20",
        "--",
        "sh",
    ])
    .as_user()
    .command();
    let out = std::process::Command::new("sh")
        .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""])
        .arg(&dir)
        .arg(inner.get_program())
        .args(inner.get_args())
        .args([
            "-c",
            "cat /proc/self/cgroup; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max",
        ])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}{errors}");
    assert!(
        text.contains(&format!("{}/glassbox/run-", place.path)),
        "{text}{errors}"
    );
    assert!(text.ends_with("33554432\n"), "{text}{errors}");
    assert!(place.dirs(&place.at("glassbox")).is_empty(), "left behind");
    assert!(
        place.dirs(&place.at("glassbox-leaf")).is_empty(),
        "left behind"
    );
    // A controller that the group above does not pass on is named.
    let delegated = std::fs::read_to_string(dir.join("cgroup.controllers")).expect("a list");
    assert!(delegated.contains("memory"));
}
