//! The operations of the OCI runtime: what each does in each state, alone and at the same time as
//! others, and that nothing is left when one fails or is killed.
//!
//! Read next: `runtime_hooks.rs`, `runtime_exec.rs`; `src/runtime/operations.rs`, which is tested.

mod common;

use common::oci::Runtime;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;

const SLEEP: &str = "exec sleep 100";

#[test]
fn each_operation_in_each_state() {
    needs!("root");
    let mut box_ = Runtime::new("states", SLEEP);
    box_.bundle.process()["args"] = json!(["sleep", "100"]);
    let bundle = box_.bundle.root.path().display().to_string();
    let refuses = |box_: &Runtime, operations: &[(&[&str], &str)]| {
        for (operation, why) in operations {
            let before = box_.run(&["state"]);
            box_.run(operation).fails(why);
            let after = box_.run(&["state"]);
            assert_eq!(before.out, after.out, "{operation:?} changed it");
        }
    };
    let exec = |box_: &Runtime, why: &str| {
        let said = box_.go(box_.command(&["exec", &box_.id, "true"]));
        assert!(said.code != 0 && said.err.contains(why), "{said:?}");
    };
    let update: &[&str] = &["update", "--pids-limit", "9"];
    // There is none.
    let none = "does not exist";
    refuses(
        &box_,
        &[
            (&["start"], none),
            (&["state"], none),
            (&["kill"], none),
            (&["delete"], none),
            (&["pause"], none),
            (&["resume"], none),
            (&["events", "--stats"], none),
            (update, none),
        ],
    );
    box_.run(&["delete", "--force"]).ok();
    let create: &[&str] = &["create", "--bundle", &bundle];
    let exists = "already exists";
    box_.create(&[]).ok();
    assert_eq!(box_.status(), "created");
    assert!(box_.pid() > 0);
    refuses(&box_, &[(create, exists), (&["resume"], "it is created")]);
    box_.run(&["start"]).ok();
    assert_eq!(box_.status(), "running");
    let running: &[(&[&str], &str)] = &[
        (create, exists),
        (&["start"], "already running"),
        (&["delete"], "not stopped: running"),
        (&["resume"], "it is running"),
    ];
    refuses(&box_, running);
    box_.run(&["pause"]).ok();
    assert_eq!(box_.status(), "paused");
    exec(&box_, "paused");
    refuses(
        &box_,
        &[
            (create, exists),
            (&["start"], "already running"),
            (&["delete"], "not stopped: paused"),
            (&["pause"], "it is paused"),
        ],
    );
    box_.run(&["resume"]).ok();
    let killed = box_.go(box_.command(&["kill", &box_.id, "KILL"]));
    killed.ok();
    box_.wait_for("stopped");
    assert!(box_.state()["pid"].as_i64().is_none_or(|pid| pid == 0));
    exec(&box_, "not running");
    refuses(
        &box_,
        &[
            (create, exists),
            (&["start"], "has stopped"),
            (&["kill"], "not running"),
            (&["pause"], "it is stopped"),
            (&["resume"], "it is stopped"),
            (&["events", "--stats"], "not running"),
            (update, "it is stopped"),
        ],
    );
    box_.run(&["delete"]).ok();
    box_.nothing_left();
}

#[test]
fn a_paused_container_ends_when_it_is_killed_or_deleted() {
    needs!("root");
    let mut box_ = Runtime::new("frozen", SLEEP);
    // A second process, which the freezer holds as well.
    box_.bundle.process()["args"] = json!(["sh", "-c", "sleep 100 & exec sleep 100"]);
    box_.up();
    box_.run(&["pause"]).ok();
    assert_eq!(box_.status(), "paused");
    box_.run(&["delete", "--force"]).ok();
    box_.nothing_left();
    box_.up();
    box_.run(&["pause"]).ok();
    box_.go(box_.command(&["kill", &box_.id, "KILL"])).ok();
    box_.wait_for("stopped");
    box_.run(&["delete"]).ok();
    box_.nothing_left();
}

#[test]
fn a_failed_create_leaves_nothing() {
    needs!("root");
    let mut box_ = Runtime::new("rollback", SLEEP);
    let hook = |name: &str| {
        let script = format!("echo x >> {}", box_.path(name).display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    let hooks = json!({"prestart": hook("pre"), "createRuntime": hook("runtime"),
        "createContainer": hook("container"), "poststop": hook("stop")});
    box_.bundle.config["hooks"] = hooks;
    box_.bundle.process()["terminal"] = false.into();
    box_.bundle.linux()["resources"] =
        json!({"pids": {"limit": 50}, "memory": {"limit": 64 << 20}});
    box_.bundle.linux()["maskedPaths"] = json!(["/proc/keys"]);
    box_.up();
    let (steps, later) = box_.steps();
    assert!(steps.len() > 20, "{steps:?}");
    box_.delete();
    let begun = steps.iter().position(|s| s == "hooks-prestart");
    let begun = begun.expect("a step with hooks");
    for (at, step) in steps.iter().enumerate() {
        let _ = std::fs::remove_file(box_.path("stop"));
        let env = [("GLASSBOX_FAIL_STEP", step.as_str())];
        let pid_file = box_.path("pid").display().to_string();
        let said = box_.create_with(&["--pid-file", &pid_file], &env);
        said.fails(&format!("step {step:?} was told to fail"));
        box_.nothing_left();
        assert!(!box_.path("pid").exists(), "{step} left the pid file");
        let stopped = if at >= begun { "x\n" } else { "" };
        assert_eq!(
            box_.read("stop"),
            stopped,
            "the poststop hooks after {step}"
        );
    }
    // And what a start meets: its program never began, so the container has stopped.
    assert!(later.last().is_some_and(|s| s == "execute"), "{later:?}");
    for step in later.iter().filter(|s| *s != "execute") {
        box_.create_with(&[], &[("GLASSBOX_FAIL_STEP", step)]).ok();
        box_.run(&["start"]).fails("was told to fail");
        box_.wait_for("stopped");
        box_.run(&["delete"]).ok();
        box_.nothing_left();
    }
    box_.up();
    box_.delete();
}

#[test]
fn a_create_that_is_killed_is_deleted_by_force() {
    needs!("root");
    let box_ = Runtime::new("killed", SLEEP);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let command = || box_.command(&["create", "--bundle", &bundle, &box_.id]);
    for moment in 0..30 {
        let mut child = box_.spawn("create", command());
        std::thread::sleep(Duration::from_micros(1500 * moment));
        let _ = child.kill();
        child.wait().expect("wait");
        box_.run(&["delete", "--force"]).ok();
        box_.nothing_left();
    }
    box_.up();
    box_.delete();
}

#[test]
fn two_at_once_are_one_after_the_other() {
    needs!("root");
    let box_ = Runtime::new("race", SLEEP);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let both = |first: &[&str], second: &[&str]| {
        let one = box_.spawn("one", box_.command(first));
        let two = box_.spawn("two", box_.command(second));
        (box_.end("one", one), box_.end("two", two))
    };
    let id = box_.id.as_str();
    for _ in 0..5 {
        let create = ["create", "--bundle", &bundle, id];
        let (one, two) = both(&create, &create);
        assert_eq!(one.code + two.code, 1, "{one:?} {two:?}");
        assert!((one.err + &two.err).contains("already exists"));
        let (one, two) = both(&["start", id], &["start", id]);
        assert_eq!(one.code + two.code, 1, "{one:?} {two:?}");
        assert!((one.err + &two.err).contains("already running"));
        assert_eq!(box_.status(), "running");
        let (_, two) = both(&["kill", id, "KILL"], &["delete", "--force", id]);
        assert_eq!(two.code, 0, "{two:?}");
        box_.nothing_left();
    }
}

#[test]
fn twenty_at_once() {
    needs!("root");
    let box_ = Runtime::new("twenty", SLEEP);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let all = |operation: &[&str], more: &[&str]| {
        let name = |n: usize| format!("{}-{n}", box_.id);
        let children: Vec<_> = (0..20)
            .map(|n| {
                let id = name(n);
                let words = [operation, &[id.as_str()], more].concat();
                box_.spawn(&id, box_.command(&words))
            })
            .collect();
        for (n, child) in children.into_iter().enumerate() {
            box_.end(&name(n), child).ok();
        }
    };
    all(&["create", "--bundle", &bundle], &[]);
    all(&["start"], &[]);
    let listed = box_
        .go(box_.command(&["list", "--format", "json"]))
        .ok()
        .out;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let running = listed.as_array().expect("a list");
    assert_eq!(running.len(), 20);
    assert!(running.iter().all(|c| c["status"] == "running"), "{listed}");
    all(&["delete", "--force"], &[]);
    box_.nothing_left();
}

#[test]
fn list_ps_and_state() {
    needs!("root");
    let mut box_ = Runtime::new("list", "sleep 100 & sleep 100");
    box_.bundle.config["annotations"] = json!({"org.example.a": "b"});
    box_.up();
    let state = box_.state();
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], box_.id.as_str());
    assert_eq!(state["annotations"]["org.example.a"], "b");
    assert_eq!(state["bundle"], box_.bundle.root.path().to_str().unwrap());
    let (id, pid) = (box_.id.as_str(), box_.pid());
    common::cgroup::wait_for("three processes", || {
        let said = box_.go(box_.command(&["ps", "--format", "json", id])).ok();
        let pids: Vec<i64> = serde_json::from_str(&said.out).expect("JSON");
        pids.len() == 3 && pids.contains(&pid)
    });
    let quiet = box_.go(box_.command(&["list", "--quiet"])).ok();
    assert_eq!(quiet.out.trim(), id);
    let table = box_.go(box_.command(&["list"])).ok().out;
    assert!(
        table.starts_with("ID") && table.contains("running"),
        "{table}"
    );
    // All of them, not the first alone.
    box_.go(box_.command(&["kill", "--all", id, "KILL"])).ok();
    box_.wait_for("stopped");
    box_.run(&["delete"]).ok();
    box_.nothing_left();
}

#[test]
fn the_log_is_what_engines_parse() {
    needs!("root");
    let box_ = Runtime::new("log", SLEEP);
    let log = box_.path("log").display().to_string();
    let options = ["--log", &log, "--log-format", "json"];
    let words = [&options[..], &["state", "nobody"]].concat();
    box_.go(box_.command(&words)).fails("does not exist");
    let line: serde_json::Value = serde_json::from_str(box_.read("log").trim()).expect("JSON");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("does not exist"));
    assert!(line["time"].is_string());
}

#[test]
fn without_cgroups_and_without_systemd() {
    needs!("root");
    let box_ = Runtime::new("no-cgroup", SLEEP);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let id = box_.id.as_str();
    let create = ["create", "--bundle", &bundle, id];
    for option in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"]] {
        let words = [option, &create].concat();
        box_.go(box_.command(&words)).fails("through systemd");
        box_.nothing_left();
    }
    let words = [&["--cgroup-manager", "disabled"], &create[..]].concat();
    let child = box_.spawn("create", box_.command(&words));
    box_.end("create", child).ok();
    box_.run(&["start"]).ok();
    assert!(box_.groups().is_empty());
    box_.run(&["pause"]).fails("has no cgroup");
    box_.delete();
}

#[test]
fn an_ordinary_user_creates_starts_execs_and_deletes() {
    needs!("root", "setpriv");
    let mut box_ = Runtime::new("rootless", "echo up; exec sleep 100");
    let user = common::USER;
    let own =
        |path: &std::path::Path| std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    let bundle = box_.bundle.root.path().display().to_string();
    own(box_.bundle.root.path());
    own(&box_.path("rootfs"));
    let host_programs = box_.bundle.config["mounts"].as_array().unwrap()[2..].to_vec();
    let as_user = |args: &[&str]| {
        let mut command = common::as_user(common::binary());
        command
            .args(["runtime", "--root"])
            .arg(box_.state_root())
            .args(args)
            .env("NO_COLOR", "1");
        command
    };
    box_.go(as_user(&["spec", "--rootless", "--bundle", &bundle]))
        .ok();
    let mut config: serde_json::Value = serde_json::from_str(&box_.read("config.json")).unwrap();
    std::fs::create_dir(box_.path("rootfs/sys")).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sh", "-c", "echo up; exec sleep 100"]);
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .extend(host_programs);
    std::fs::write(box_.path("config.json"), config.to_string()).unwrap();
    let id = box_.id.as_str();
    let child = box_.spawn("create", as_user(&["create", "--bundle", &bundle, id]));
    box_.end("create", child).ok();
    box_.go(as_user(&["start", id])).ok();
    common::cgroup::wait_for("up", || box_.read("create.out") == "up\n");
    let said = box_.go(as_user(&[
        "exec",
        id,
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; exit 3",
    ]));
    assert_eq!(said.code, 3, "{said:?}");
    let words: Vec<&str> = said.out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", &user.to_string(), "1"]);
    box_.go(as_user(&["delete", "--force", id])).ok();
    box_.nothing_left();
    box_.bundle.config = config;
}

#[test]
fn a_device_as_stdio_keeps_its_owner() {
    needs!("root", "mknod");
    use std::os::unix::fs::MetadataExt;
    let mut box_ = Runtime::new("chown", "id -u > /tmp/who");
    box_.bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    let tmp = box_.path("rootfs/tmp");
    std::os::unix::fs::chown(&tmp, Some(1000), Some(1000)).unwrap();
    let node = box_.path("null");
    let made = std::process::Command::new("mknod")
        .arg(&node)
        .args(["c", "1", "3"])
        .status();
    assert!(made.unwrap().success());
    let open = || {
        let file = std::fs::File::options().read(true).write(true).open(&node);
        Stdio::from(file.expect("the tests' directory allows devices"))
    };
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let mut command = box_.command(&["run", "--bundle", &bundle, &box_.id]);
    let status = command.stdin(open()).stdout(open()).stderr(open()).status();
    assert!(status.unwrap().success());
    assert_eq!(box_.read("rootfs/tmp/who"), "1000\n");
    let meta = std::fs::metadata(&node).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
    let _ = &mut box_;
}

#[test]
fn what_is_absent_is_inherited_or_empty() {
    needs!("root");
    // No process: it can be created, and only that.
    let mut box_ = Runtime::new("absent", SLEEP);
    box_.bundle
        .config
        .as_object_mut()
        .unwrap()
        .remove("process");
    box_.create(&[]).ok();
    box_.run(&["start"]).fails("has no process");
    assert_eq!(box_.status(), "created");
    box_.delete();
    // No linux section: every namespace is the caller's, and so nothing may be mounted.
    let mut box_ = Runtime::new("no-linux", SLEEP);
    box_.bundle.config.as_object_mut().unwrap().remove("linux");
    box_.create(&[]).fails("no mount namespace");
    box_.nothing_left();
    box_.bundle.config["mounts"] = json!([]);
    box_.bundle.config["root"]["path"] = "/".into();
    let script = "readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/uts";
    box_.bundle.process()["args"] = json!(["sh", "-c", script]);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let said = box_.run(&["run", "--bundle", &bundle]).ok();
    let own =
        ["mnt", "pid", "uts"].map(|n| std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap());
    let own: Vec<_> = own.iter().map(|p| p.to_str().unwrap()).collect();
    assert_eq!(said.out.lines().collect::<Vec<_>>(), own);
    box_.nothing_left();
}

/// An engine may have made the container's cgroup; one in which somebody is, or that is frozen, is
/// another's. What a failed create has not made it does not take away.
#[test]
fn an_empty_cgroup_is_adopted_and_no_other() {
    needs!("root");
    let box_ = Runtime::new("adopted", SLEEP);
    let layout = glassbox::host::CgroupLayout::detect().expect("a layout");
    let path = glassbox::runtime::operations::default_group(&box_.id);
    let trees = layout.hierarchies.iter().filter(|h| !h.read_only);
    let dirs: Vec<_> = trees.filter_map(|h| h.dir(&path)).collect();
    let dir = dirs.last().expect("a tree");
    std::fs::create_dir_all(dir).expect("a cgroup");
    let env = [("GLASSBOX_FAIL_STEP", "open-root")];
    box_.create_with(&[], &env).fails("was told to fail");
    assert_eq!(box_.groups(), std::slice::from_ref(dir), "ours alone went");
    box_.up();
    assert_eq!(box_.groups().len(), dirs.len());
    box_.delete();

    // Processes in a group below count too.
    let below = dir.join("below");
    std::fs::create_dir_all(&below).expect("a cgroup");
    let mut guest = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .expect("sleep");
    std::fs::write(below.join("cgroup.procs"), guest.id().to_string()).expect("it enters");
    let said = box_.create(&[]);
    let alive = guest.try_wait().expect("wait").is_none();
    let _ = guest.kill();
    let _ = guest.wait();
    said.fails("holds processes");
    assert!(alive, "the other's process was killed");
    assert_eq!(box_.groups(), std::slice::from_ref(dir));
    for group in [&below, dir] {
        common::cgroup::wait_for("an empty group", || std::fs::remove_dir(group).is_ok());
    }

    // A frozen one would keep init from ever beginning.
    let freezes = |d: &std::path::Path| {
        std::fs::create_dir_all(d).expect("a cgroup");
        let words = [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")];
        let mut words = words.iter().filter(|(file, _)| d.join(file).exists());
        let frozen = words.any(|(file, word)| std::fs::write(d.join(file), word).is_ok());
        if !frozen {
            std::fs::remove_dir(d).expect("it goes");
        }
        frozen
    };
    let frozen = dirs.iter().find(|d| freezes(d)).expect("a freezer");
    let said = box_.create(&[]);
    std::fs::remove_dir(frozen).expect("it is still there");
    said.fails("is frozen");
    box_.nothing_left();
}
