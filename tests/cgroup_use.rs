//! Stage 2 on the binary: who may make groups, what a target is, what processes see.
//!
//! Limits themselves are in `cgroups.rs`.

mod common;

use common::cgroup::{Place, wait_for};
use common::{Run, run};
use glassbox::cgroups::{CgroupPath, Group, bpf_sim, device_program::DeviceRules, devices};
use glassbox::journal::{Action, Scene};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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
    // It may wait as a zombie for the host's init.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "{pid} lives on: {stat}"
    );
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
    if common::is_root() && !common::has_program("setpriv") {
        return common::skip("needs the program setpriv to become another user");
    }
    // Right below the root, where no group is delegated to anybody.
    let name = format!("/glassbox-test-refused-{}", std::process::id());
    let args = [
        "cgroup", "run", "--name", &name, "--memory", "64M", "--", "true",
    ];
    let out = Run::new(args).as_user().go();
    let hint = "systemd-run --user --scope";
    out.fails(125, &["another user", hint, "chown"]);
}

/// On a hybrid host the v2 tree alone is delegated, with the controllers that it has there.
#[test]
fn a_delegated_group_is_enough_for_an_ordinary_user() {
    let Some(place) = Place::new("delegate") else {
        return;
    };
    let Some(tree) = place.layout.unified() else {
        return common::skip("needs a cgroup v2 tree: v1 has no delegation");
    };
    if !common::is_root() || !common::has_program("setpriv") {
        return common::skip("needs root and setpriv to become another user");
    }
    let (flag, value, file) = match tree.has("memory") {
        true => ("--memory", "32M", "memory.max"),
        false => ("--hugetlb", "2M=32M", "hugetlb.2MB.max"),
    };
    // What systemd's Delegate=yes does: a group that belongs to the user, with the user in it.
    run(["cgroup", "create", &place.path]).success();
    let dir = tree.dir(&place.path).expect("a directory");
    for file in [
        "",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.threads",
    ] {
        let path = match file {
            "" => dir.clone(),
            file => dir.join(file),
        };
        std::os::unix::fs::chown(path, Some(common::USER), Some(common::USER)).expect("chown");
    }
    // The user's shell enters the group, as a session of theirs would be in it.
    let enter = |args: &[&str]| {
        let command = Run::new(args).as_user().command();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]);
        shell
            .arg(&dir)
            .arg(command.get_program())
            .args(command.get_args());
        shell.env("NO_COLOR", "1").output().expect("it runs")
    };
    let script = format!(
        "g=$(grep ^0:: /proc/self/cgroup | cut -d: -f3); echo $g; cat {}$g/{file}",
        tree.mount.display()
    );
    let out = enter(&["cgroup", "run", flag, value, "--", "sh", "-c", &script]);
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}{errors}");
    let group = format!("{}/glassbox/run-", place.path);
    assert!(text.starts_with(&group), "{text}{errors}");
    assert!(text.ends_with("\n33554432\n"), "{text}{errors}");
    for left in ["glassbox", "glassbox-leaf"] {
        assert!(
            place.dirs(&place.at(left)).is_empty(),
            "left behind: {left}"
        );
    }
    // A controller that the group above does not pass on is named, with the one who does not.
    let own = place.at("inner");
    run(["cgroup", "create", &own]).success();
    let inner = tree.dir(&own).expect("a directory");
    std::os::unix::fs::chown(&inner, Some(common::USER), Some(common::USER)).expect("chown");
    let controller = file.split('.').next().expect("a controller");
    let control = dir.join("cgroup.subtree_control");
    std::fs::write(&control, format!("-{controller}")).expect("it can be disabled");
    std::os::unix::fs::chown(&control, Some(0), Some(0)).expect("chown");
    let name = place.at("inner/g");
    let out = Run::new(["cgroup", "create", &name, flag, value])
        .as_user()
        .go();
    let said = format!("{}/cgroup.subtree_control", dir.display());
    out.fails(
        125,
        &["not delegated", controller, &said, "as root: echo +"],
    );
}

#[test]
fn what_a_killed_run_left_behind_is_cleaned_up_by_the_next() {
    let Some(_place) = Place::new("killed") else {
        return;
    };
    let script = "cut -d: -f3 /proc/self/cgroup | grep run- | head -1; exec sleep 1000";
    let mut child = Run::new(["cgroup", "run", "--", "sh", "-c", script])
        .command()
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut path = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut path).expect("a line");
    let path = path.trim();
    child.kill().expect("SIGKILL to glassbox");
    child.wait().expect("it ends");
    // The command lives on in its group, limited as before; its end leaves an empty group.
    let stat = run(["cgroup", "stat", "--json", path]).success().json();
    assert_ne!(
        stat["processes"].as_array().map(Vec::len),
        Some(0),
        "{stat:#}"
    );
    run(["cgroup", "kill", path]).success();
    wait_for("the next run removes the empty group", || {
        run(["cgroup", "run", "--", "true"]).success();
        run(["cgroup", "stat", path]).code() == 125
    });
}

/// Containers share a group above them, which goes with the last of them. A tree where that
/// happens in the middle of a look must not count as one that this caller may not use: its limits
/// would be left out.
#[test]
fn a_group_above_that_comes_and_goes() {
    let Some(place) = Place::new("above") else {
        return;
    };
    run(["cgroup", "create", &place.path]).success();
    let path = CgroupPath::parse(&place.at("above/g")).expect("a path");
    let locate = || Group::locate(&place.layout, &path).expect("a group");
    let usable: Vec<_> = locate().usable().map(|d| d.dir.clone()).collect();
    let above = usable[0].parent().expect("a group above");
    let (stop, turns) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::create_dir(above).expect("the group above is made");
                std::fs::remove_dir(above).expect("and removed, empty");
                turns.fetch_add(1, Ordering::Relaxed);
            }
        });
        let looks = (0..1000).map(|_| locate());
        let missed = looks.filter(|g| g.usable().count() != usable.len()).count();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(missed, 0, "of 1000 looks");
    });
    assert!(turns.into_inner() > 100, "it hardly came and went");
}
