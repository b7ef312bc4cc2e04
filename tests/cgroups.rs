//! Stage 2 on the binary: limits bite, are read back, and nothing is left behind.
//!
//! The tests run on unified, legacy and hybrid hosts alike; what only one of them has is asked for
//! by what the host's layout is. Every group lies below /glassbox-test-…, whose name is the test's.
//! Read next: `cgroup_use.rs` (who may, on what, with what), `cgroup_plans.rs` (without a kernel).

mod common;

use common::cgroup::{Place, limit, wait_for};
use common::{Output, Run, run};
use std::time::Duration;

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
    run(args.iter().chain(&["/nonexistent/program"])).fails(127, &["no such file or directory"]);
    assert!(place.dirs(&place.path).is_empty());
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
    let mut looping = Run::new([
        "cgroup",
        "run",
        "--name",
        &name,
        "--keep",
        "--cpus",
        "0.1",
        "--",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .command()
    .stdin(std::process::Stdio::null())
    .spawn()
    .expect("glassbox starts");
    let throttled = || {
        let cpu = place.stat(&name)["cpu"].clone();
        cpu["nr_throttled"].as_u64() >= Some(1) && cpu["throttled_usec"].as_u64() > Some(0)
    };
    wait_for("it to be throttled", || {
        !place.dirs(&name).is_empty() && throttled()
    });
    let stat = place.stat(&name);
    run(["cgroup", "kill", &name]).success();
    assert_eq!(looping.wait().expect("our child").code(), Some(137));
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
        run(["cgroup", "create", &name].iter().chain(flags)).fails(125, parts);
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
    fails(
        &["--file", "nosuch=1"],
        &["no name of a cgroup file", "CONTROLLER.FILE"],
    );
    if place.layout.of("hugetlb").is_some() {
        fails(
            &["--hugetlb", "3MB=3M"],
            &["ENOENT", "the sizes of huge pages here are"],
        );
    }
    run(["cgroup", "create", "a/../b"]).fails(125, &["no path of a cgroup"]);
    run(["cgroup", "stat", &name]).fails(125, &["there is no cgroup"]);
    run(["cgroup", "create", &name]).success();
    run(["cgroup", "create", &name]).fails(125, &["exists already", "EEXIST"]);
}

/// SIGCONT does no harm, should the refusal ever be missing.
#[test]
fn the_root_group_is_left_alone() {
    for args in [
        &["rm", "/"][..],
        &["rm", "-r", "/"],
        &["kill", "-s", "CONT", "/"],
    ] {
        run([&["cgroup"], args].concat()).fails(125, &["will not", "the root group"]);
    }
}

/// `MAJOR:MINOR` of a whole disk of this host.
fn a_disk() -> Option<String> {
    let entries = std::fs::read_dir("/sys/block").ok()?;
    let disk = entries.flatten().find(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        ["vd", "sd", "nvme", "xvd"]
            .iter()
            .any(|kind| name.starts_with(kind))
    })?;
    let numbers = std::fs::read_to_string(disk.path().join("dev")).ok()?;
    Some(numbers.trim().to_string())
}

#[test]
fn what_is_set_is_shown() {
    let Some(place) = Place::new("shown") else {
        return;
    };
    let name = place.at("g");
    let mut flags = Vec::new();
    let mut expected = Vec::new();
    let memory = place.layout.of("memory");
    if memory.is_some() {
        flags.extend(["--memory-low", "1M"]);
    }
    if place.layout.of("cpu").is_some() {
        flags.extend(["--cpu-weight", "50"]);
    }
    let device = a_disk();
    let io = device
        .as_ref()
        .map(|d| (format!("{d}:riops=100000"), format!("io.max {d} riops")));
    let has_io = place.layout.of("io").or(place.layout.of("blkio")).is_some();
    if let Some((limit, what)) = io.as_ref().filter(|_| has_io) {
        flags.extend(["--io-max", limit]);
        expected.push((what, "100000"));
    }
    run(["cgroup", "create", &name].iter().chain(&flags)).success();
    let stat = place.stat(&name);
    for (what, value) in &expected {
        let limit = limit(&stat, what);
        assert_eq!(limit["effective"], *value, "{limit}");
        assert_eq!(limit["set_by"], name.as_str(), "{limit}");
    }
    let weight = stat["limits"].as_array().expect("limits").iter();
    for w in
        weight.filter(|l| ["cpu.weight", "cpu.shares"].contains(&l["what"].as_str().unwrap_or("")))
    {
        assert_eq!(w["set_by"], name.as_str(), "not the usual weight: {w}");
    }
    let list = run(["cgroup", "ls", &name]).success();
    if let Some(tree) = memory {
        let low = limit(&stat, "memory.low");
        assert_eq!(low["own"], "1048576", "{low}");
        // On v2 some group above, which protects nothing, has nothing to give.
        let set_by = low["set_by"].as_str().unwrap_or_default();
        let effective = match tree.v2 {
            true => "0",
            false => "1048576",
        };
        assert_eq!(low["effective"], effective, "{low}");
        assert!(name.starts_with(set_by) && !set_by.is_empty(), "{low}");
        assert_eq!(set_by == name, !tree.v2, "{low}");
        list.out_has("memory.low=1 MiB");
    }
    for (what, _) in &expected {
        list.out_has(what.split(' ').next().expect("a word"));
    }
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
