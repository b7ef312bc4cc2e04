//! Containers whose cgroup systemd makes: the scope, its limits in both places, what a reload, an
//! update and an exec do, and that nothing is left.
//!
//! These need a systemd that runs: `tests/vm/suite --systemd` boots a machine with one.
//!
//! Read next: `src/cgroups/systemd/mod.rs`, which is tested.

mod common;

use common::oci::{Runtime, Said};
use glassbox::journal::{Event, Record};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const SLEEP: &str = "exec sleep 1000";

/// `systemctl ARGS`, which must work: stdout.
#[track_caller]
fn systemctl(args: &[&str]) -> String {
    let out = Command::new("systemctl").args(args).output();
    let out = out.expect("systemctl starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "systemctl {args:?}: {said}");
    String::from_utf8_lossy(&out.stdout).trim().to_string()
}

/// Properties of a unit by name, as systemctl shows them.
#[track_caller]
fn properties(unit: &str, names: &[&str]) -> BTreeMap<String, String> {
    let wanted = names.join(",");
    let shown = systemctl(&["show", unit, "--property", &wanted]);
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').expect("NAME=VALUE");
        (name.to_string(), value.to_string())
    };
    shown.lines().map(pair).collect()
}

/// Asserts what systemd knows of a unit.
#[track_caller]
fn knows(unit: &str, expected: &[(&str, &str)]) {
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let expected = expected
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .collect();
    assert_eq!(properties(unit, &names), expected, "{unit}");
}

/// Waits until systemd has forgotten a unit.
#[track_caller]
fn is_forgotten(unit: &str) {
    common::cgroup::wait_for("the unit is gone", || {
        properties(unit, &["LoadState"])["LoadState"] == "not-found"
    });
}

/// Asserts what the kernel's files of a group hold.
#[track_caller]
fn holds(group: &Path, expected: &[(&str, &str)]) {
    for (file, value) in expected {
        let text = std::fs::read_to_string(group.join(file)).expect(file);
        assert_eq!(text.trim(), *value, "{file}");
    }
}

fn create(box_: &Runtime, options: &[&str]) -> Said {
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let words = [options, &["create", "--bundle", &bundle, &box_.id]].concat();
    box_.end("create", box_.spawn("create", box_.command(&words)))
}

fn group(path: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
}

#[test]
fn a_container_is_a_scope_and_keeps_its_limits() {
    needs!("systemd", "root", "cgroup2");
    let mut box_ = Runtime::new("scope", SLEEP);
    let unit = format!("gb-{}.scope", box_.id);
    let path = format!("/system.slice/{unit}");
    let group = group(&path);
    box_.bundle.linux()["cgroupsPath"] = format!("system.slice:gb:{}", box_.id).into();
    box_.bundle.linux()["resources"] = json!({
        "memory": {"limit": 64 << 20, "reservation": 16 << 20, "swap": 96 << 20},
        "cpu": {"shares": 512, "quota": 12500, "period": 50000, "cpus": "0"},
        "pids": {"limit": 100},
        "unified": {"memory.high": "50331648"}
    });
    box_.bundle.config["annotations"] =
        json!({"org.systemd.property.TimeoutStopUSec": "uint64 5000000"});
    create(&box_, &["--explain", "--systemd-cgroup"]).ok();
    let limits: &[(&str, &str)] = &[
        ("memory.max", "67108864"),
        ("memory.low", "16777216"),
        ("memory.high", "50331648"),
        ("memory.swap.max", "33554432"),
        ("cpu.max", "12500 50000"),
        ("cpu.weight", "59"),
        ("cpuset.cpus", "0"),
        ("pids.max", "100"),
    ];
    let known: &[(&str, &str)] = &[
        ("ActiveState", "active"),
        ("ControlGroup", &path),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Transient", "yes"),
        ("DefaultDependencies", "no"),
        ("CollectMode", "inactive-or-failed"),
        ("TimeoutStopUSec", "5s"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "16777216"),
        ("MemoryHigh", "50331648"),
        ("MemorySwapMax", "33554432"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUWeight", "59"),
        ("AllowedCPUs", "0"),
        ("TasksMax", "100"),
    ];
    knows(&unit, known);
    holds(&group, limits);
    // The journal has the step, and systemd's answer is what the plan expected.
    let journal = glassbox::journal::read(&box_.state_root().join(&box_.id).join("journal"));
    let journal = journal.expect("a journal");
    let facts = |wanted: bool| {
        let is = |r: &&Record| match r {
            Record::Event(Event::Fact {
                what, as_expected, ..
            }) => what.starts_with("ControlGroup") && *as_expected == Some(wanted),
            _ => false,
        };
        journal.iter().filter(is).count()
    };
    assert_eq!((facts(true), facts(false)), (1, 0), "{journal:?}");
    let called = |what: &str| {
        journal
            .iter()
            .any(|r| matches!(r, Record::Call(c) if c.call == "sendto" && c.args.contains(what)))
    };
    assert!(called(&format!("StartTransientUnit({unit}")), "{journal:?}");

    box_.run(&["start"]).ok();
    systemctl(&["daemon-reload"]);
    knows(&unit, known);
    holds(&group, limits);

    // A further program is where the container is.
    let said = box_.go(box_.command(&["exec", &box_.id, "cat", "/proc/self/cgroup"]));
    assert_eq!(said.ok().out.trim(), format!("0::{path}"));

    let update = [
        "--memory",
        "80M",
        "--pids-limit",
        "50",
        "--cpu-quota",
        "12345",
    ];
    box_.run(&[&["update"][..], &update].concat()).ok();
    let known: &[(&str, &str)] = &[
        ("MemoryMax", "83886080"),
        ("MemoryLow", "16777216"),
        ("TasksMax", "50"),
        // 24.69 percent, rounded up.
        ("CPUQuotaPerSecUSec", "250ms"),
        ("AllowedCPUs", "0"),
    ];
    let limits: &[(&str, &str)] = &[
        ("memory.max", "83886080"),
        ("memory.low", "16777216"),
        ("pids.max", "50"),
    ];
    holds(&group, &[("cpu.max", "12345 50000")]);
    knows(&unit, known);
    holds(&group, limits);
    systemctl(&["daemon-reload"]);
    knows(&unit, known);
    holds(&group, limits);
    holds(&group, &[("cpu.max", "12500 50000")]);

    // One that is refused changes neither side.
    let refused = ["update", "--pids-limit", "60", "--cpuset-cpus", "99"];
    let said = box_.run(&refused);
    assert_ne!(said.code, 0, "{said:?}");
    knows(&unit, known);
    holds(&group, limits);

    box_.run(&["pause"]).ok();
    assert_eq!(box_.status(), "paused");
    box_.run(&["resume"]).ok();
    box_.go(box_.command(&["kill", &box_.id, "KILL"])).ok();
    box_.wait_for("stopped");
    box_.run(&["delete"]).ok();
    box_.nothing_left();
    assert!(!group.exists());
    is_forgotten(&unit);
}

#[test]
fn the_forms_that_engines_write() {
    needs!("systemd", "root", "cgroup2");
    let mut box_ = Runtime::new("forms", SLEEP);
    let id = box_.id.clone();
    let nested = format!("gbt-deep-er.slice:cri-containerd:{id}");
    let forms = [
        (
            nested.as_str(),
            format!("gbt.slice/gbt-deep.slice/gbt-deep-er.slice/cri-containerd-{id}.scope"),
        ),
        ("", format!("system.slice/glassbox-{id}.scope")),
    ];
    for (path, place) in forms {
        box_.bundle.linux()["cgroupsPath"] = path.into();
        // A controller that systemd does not manage.
        box_.bundle.linux()["resources"] =
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]});
        create(&box_, &["--cgroup-manager", "systemd"]).ok();
        let group = group(&place);
        holds(&group, &[("hugetlb.2MB.max", "4194304")]);
        let unit = place.rsplit('/').next().expect("a name");
        knows(
            unit,
            &[
                ("ActiveState", "active"),
                ("ControlGroup", &format!("/{place}")),
            ],
        );
        // Deleted before it was started, with and without the engine's flag.
        box_.go(box_.command(&["--systemd-cgroup", "delete", &id]))
            .ok();
        box_.nothing_left();
        assert!(!group.exists());
        is_forgotten(unit);
    }
    systemctl(&["stop", "gbt.slice"]);
    // A path is the other driver's.
    box_.bundle.linux()["cgroupsPath"] = "/kubepods/pod1/x".into();
    create(&box_, &["--systemd-cgroup"]).fails("no linux.cgroupsPath for cgroups made by systemd");
    box_.nothing_left();
    box_.bundle.linux()["cgroupsPath"] = format!("system.slice:gb:{id}").into();
    box_.bundle.config["annotations"] = json!({"org.systemd.property.NoSuchThing": "true"});
    create(&box_, &["--systemd-cgroup"]).fails("NoSuchThing");
    box_.nothing_left();
    is_forgotten(&format!("gb-{id}.scope"));
}

#[test]
fn a_failure_leaves_no_unit_and_takes_no_other() {
    needs!("systemd", "root", "cgroup2");
    let mut box_ = Runtime::new("undo", SLEEP);
    let unit = format!("gb-{}.scope", box_.id);
    box_.bundle.linux()["cgroupsPath"] = format!("system.slice:gb:{}", box_.id).into();
    box_.bundle.linux()["resources"] = json!({"memory": {"limit": 64 << 20}});
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    for step in ["start-unit", "limit-memory.max", "look-up"] {
        let words = ["--systemd-cgroup", "create", "--bundle", &bundle, &box_.id];
        let mut command = box_.command(&words);
        command.env("GLASSBOX_FAIL_STEP", step);
        let said = box_.go(command);
        assert_ne!(said.code, 0, "{step}: {said:?}");
        box_.nothing_left();
        assert!(!group(&format!("system.slice/{unit}")).exists(), "{step}");
        is_forgotten(&unit);
    }
    // The name is another's.
    systemctl(&["reset-failed"]);
    let mut holder = Command::new("systemd-run")
        .args([
            "--scope",
            "--quiet",
            &format!("--unit={unit}"),
            "sleep",
            "1000",
        ])
        .spawn()
        .expect("systemd-run starts");
    common::cgroup::wait_for("the other unit is active", || {
        properties(&unit, &["ActiveState"])["ActiveState"] == "active"
    });
    create(&box_, &["--systemd-cgroup"]).fails("exists already");
    box_.nothing_left();
    knows(&unit, &[("ActiveState", "active")]);
    holder.kill().expect("it runs");
    holder.wait().expect("our child");
    is_forgotten(&unit);
    create(&box_, &["--systemd-cgroup"]).ok();
    box_.delete();
    is_forgotten(&unit);
}

/// A systemd of an ordinary user's, as a login starts one, and a group below it like a session's.
struct UsersManager {
    unit: String,
    runtime: PathBuf,
    session: PathBuf,
}

impl UsersManager {
    fn start(box_: &Runtime) -> UsersManager {
        let unit = format!("gb-manager-{}.service", box_.id);
        let runtime = box_.path("xdg");
        std::fs::create_dir(&runtime).expect("a directory");
        std::os::unix::fs::chown(&runtime, Some(common::USER), Some(common::USER)).expect("chown");
        let out = Command::new("systemd-run")
            .args([
                "--quiet",
                &format!("--unit={unit}"),
                "--property=Type=notify",
            ])
            .args(["--property=Delegate=yes", "--property=TimeoutStartSec=120"])
            // Nothing of the machine's boot, such as a fresh /tmp.
            .arg("--property=DefaultDependencies=no")
            .arg(format!("--uid={}", common::USER))
            .arg(format!("--gid={}", common::USER))
            .arg(format!("--setenv=XDG_RUNTIME_DIR={}", runtime.display()))
            .args(["/lib/systemd/systemd", "--user", "--unit=basic.target"])
            .output()
            .expect("systemd-run starts");
        let group = group(&properties(&unit, &["ControlGroup"])["ControlGroup"]);
        let manager = UsersManager {
            unit,
            runtime,
            session: group.join("session"),
        };
        assert!(out.status.success(), "{out:?}");
        std::fs::create_dir(&manager.session).expect("a group");
        manager
    }

    /// A command of the user's, in his session.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let inner = common::as_user(program);
        let mut command = Command::new("sh");
        let enter = format!(
            "echo $$ > {}/cgroup.procs; exec \"$@\"",
            self.session.display()
        );
        command
            .args(["-ec", &enter, "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("NO_COLOR", "1");
        command
    }

    fn systemctl(&self, args: &[&str]) -> String {
        let mut command = self.command("/bin/systemctl");
        let out = command.arg("--user").args(args).output();
        let out = out.expect("systemctl starts");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stdout).trim().to_string()
    }
}

impl Drop for UsersManager {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.session);
        let _ = Command::new("systemctl")
            .args(["stop", &self.unit])
            .status();
    }
}

#[test]
fn an_ordinary_users_containers_are_scopes_of_his_own_systemd() {
    needs!("systemd", "root", "cgroup2", "setpriv");
    let box_ = Runtime::new("users", SLEEP);
    let user = Some(common::USER);
    for path in [box_.bundle.root.path().to_path_buf(), box_.path("rootfs")] {
        std::os::unix::fs::chown(path, user, user).expect("chown");
    }
    let bundle = box_.bundle.root.path().display().to_string();
    let as_user = |args: &[&str], manager: Option<&UsersManager>| {
        let mut command = match manager {
            Some(manager) => manager.command(common::binary()),
            None => common::as_user(common::binary()),
        };
        command.args(["runtime", "--root"]).arg(box_.state_root());
        command.args(args);
        command
    };
    box_.go(as_user(&["spec", "--rootless", "--bundle", &bundle], None))
        .ok();
    let mut config: serde_json::Value =
        serde_json::from_str(&box_.read("config.json")).expect("JSON");
    std::fs::create_dir(box_.path("rootfs/sys")).expect("a directory");
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sh", "-c", SLEEP]);
    config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    let programs = box_.bundle.config["mounts"].as_array().expect("a list")[2..].to_vec();
    let mounts = config["mounts"].as_array_mut().expect("a list");
    mounts.extend(programs);
    std::fs::write(box_.path("config.json"), config.to_string()).expect("config.json");
    let create = ["--systemd-cgroup", "create", "--bundle", &bundle, &box_.id];
    let mut without = as_user(&create, None);
    without.env("XDG_RUNTIME_DIR", box_.path("nobody"));
    box_.go(without).fails("through systemd");

    let manager = UsersManager::start(&box_);
    let go = |args: &[&str]| box_.go(as_user(args, Some(&manager)));
    let child = box_.spawn("create", as_user(&create, Some(&manager)));
    box_.end("create", child).ok();
    let unit = format!("glassbox-{}.scope", box_.id);
    let shown = manager.systemctl(&["show", &unit, "--property=ControlGroup", "--value"]);
    assert!(shown.ends_with(&format!("/user.slice/{unit}")), "{shown}");
    let group = group(&shown);
    holds(&group, &[("memory.max", "67108864"), ("pids.max", "50")]);
    go(&["start", &box_.id]).ok();
    manager.systemctl(&["daemon-reload"]);
    holds(&group, &[("memory.max", "67108864"), ("pids.max", "50")]);
    go(&["update", "--pids-limit", "40", &box_.id]).ok();
    holds(&group, &[("pids.max", "40")]);
    let limit = manager.systemctl(&["show", &unit, "--property=TasksMax", "--value"]);
    assert_eq!(limit, "40");
    let said = go(&["exec", &box_.id, "sh", "-c", "exit 3"]);
    assert_eq!(said.code, 3, "{said:?}");
    go(&["delete", "--force", &box_.id]).ok();
    assert!(!group.exists());
    common::cgroup::wait_for("the unit is gone", || {
        manager.systemctl(&["show", &unit, "--property=LoadState", "--value"]) == "not-found"
    });
    drop(manager);
    box_.nothing_left();
}
