//! The table of the specification's MUSTs (`runtime_musts.md`) names tests that exist; and those of
//! them that belong to no feature in particular.

mod common;

use common::oci::Runtime;
use serde_json::{Value, json};

#[test]
fn every_row_names_a_test_or_says_why_not() {
    common::musts::table("runtime_musts.md", 51);
}

fn hook(script: String) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// The container is what config.json said when it was created, until it is deleted.
#[test]
fn changes_to_the_document_come_too_late() {
    needs!("root");
    let mut box_ = Runtime::new("document", "echo first; exec sleep 100");
    let note = |word: &str| {
        let file = box_.path("poststop");
        json!({"poststop": [hook(format!("echo {word} >> {}", file.display()))]})
    };
    let (first, second) = (note("first"), note("second"));
    box_.bundle.config["hooks"] = first;
    box_.create(&[]).ok();
    box_.bundle.config["hooks"] = second;
    box_.bundle.config["annotations"] = json!({"second": "yes"});
    box_.bundle.process()["args"] = json!(["sh", "-c", "echo second"]);
    box_.bundle.linux()["cgroupsPath"] = json!("/glassbox/elsewhere");
    box_.write();
    box_.run(&["start"]).ok();
    common::cgroup::wait_for("its word", || !box_.read("create.out").is_empty());
    assert_eq!(box_.read("create.out"), "first\n");
    assert!(box_.state()["annotations"]["second"].is_null());
    let said = box_
        .go(box_.command(&["exec", &box_.id, "cat", "/proc/self/cgroup"]))
        .ok();
    assert!(
        !said.out.contains("elsewhere") && said.out.contains(&box_.id),
        "{}",
        said.out
    );
    box_.delete();
    assert_eq!(box_.read("poststop"), "first\n");
}

#[test]
fn links_and_devices_that_every_container_has() {
    needs!("root");
    let script = "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
                  for d in null zero full random urandom tty; do stat -c '%F %t:%T %a' /dev/$d; done; \
                  ls /dev | sort | tr '\n' ' '";
    let mut box_ = Runtime::new("dev", script);
    box_.bundle.mount(
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666"]}),
    );
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let said = box_.run(&["run", "--bundle", &bundle]).ok().out;
    let mut lines = said.lines();
    for to in [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
    ] {
        assert_eq!(lines.next(), Some(to), "{said}");
    }
    assert!(
        lines.next().is_some_and(|to| to.ends_with("pts/ptmx")),
        "{said}"
    );
    for number in ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"] {
        let line = format!("character special file {number} 666");
        assert_eq!(lines.next(), Some(line.as_str()), "{said}");
    }
    // The console belongs to a terminal, and there is none.
    let all = "core fd full null ptmx pts random stderr stdin stdout tty urandom zero ";
    assert_eq!(lines.next(), Some(all));
}

/// Each is an error, and nothing is left of the container.
#[test]
fn what_the_specification_forbids_is_refused() {
    needs!("root");
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 14] = [
        ("root.path", |c| c["root"]["path"] = json!("missing")),
        ("cwd must be an absolute path", |c| {
            c["process"]["cwd"] = json!("tmp")
        }),
        ("a type twice", |c| {
            let list = c["linux"]["namespaces"].as_array_mut().expect("a list");
            list.push(json!({"type": "uts"}));
        }),
        ("timeOffsets", |c| {
            c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5}})
        }),
        ("/proc/self/ns/net", |c| {
            c["linux"]["namespaces"][2]["path"] = json!("/proc/self/ns/net");
        }),
        ("something else", |c| {
            c["linux"]["devices"] =
                json!([{"path": "/bin/sh", "type": "c", "major": 1, "minor": 3}]);
        }),
        ("..", |c| c["linux"]["cgroupsPath"] = json!("/../glassbox")),
        ("errno", |c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["getcwd"], "action": "SCMP_ACT_ALLOW", "errnoRet": 5}]});
        }),
        ("intelRdt", |c| {
            c["linux"]["intelRdt"] = json!({"closID": "one"})
        }),
        ("linux.namespaces[0].type: unknown variant", |c| {
            c["linux"]["namespaces"][0]["type"] = json!("walls");
        }),
        ("timeout of the poststop hook", |c| {
            c["hooks"] = json!({"poststop": [{"path": "/bin/true", "timeout": 0}]});
        }),
        ("has no names", |c| {
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": [], "action": "SCMP_ACT_ERRNO"}]});
        }),
        ("no destination", |c| {
            c["mounts"][0]["destination"] = json!("")
        }),
        ("RLIMIT_FLY", |c| {
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_FLY", "soft": 1, "hard": 1}]);
        }),
    ];
    for (word, change) in cases {
        let mut box_ = Runtime::new("forbidden", "true");
        change(&mut box_.bundle.config);
        box_.create(&[]).fails(word);
        box_.nothing_left();
    }
}

/// What the specification lets a document have, though it is of no use or not known.
#[test]
fn what_is_unknown_or_in_vain_is_no_error() {
    needs!("root");
    let script = "grep CapEff /proc/self/status; [ -t 0 ] || echo none; ls /old";
    let mut box_ = Runtime::new("lenient", script);
    box_.bundle.root.write("old/file", "");
    let config = &mut box_.bundle.config;
    config["future"] = json!({"a": [1]});
    config["process"]["future"] = json!(true);
    config["linux"]["future"] = json!("b");
    config["linux"]["resources"] = json!({"future": {}});
    config["annotations"] = json!({"org.example.unknown": "c"});
    // Without a terminal a size has no meaning.
    config["process"]["consoleSize"] = json!({"height": 10, "width": 10});
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_FLY"]);
    }
    // Of old a destination may be relative: it begins at the root.
    let old = json!({"destination": "old", "type": "bind", "source": "old", "options": ["bind"]});
    box_.bundle.mount(old);
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let log = box_.path("log").display().to_string();
    let said = box_
        .go(box_.command(&["--log", &log, "run", "--bundle", &bundle, &box_.id]))
        .ok();
    assert_eq!(said.out, "CapEff:\t0000000000000001\nnone\nfile\n");
    assert!(
        said.err.contains("CAP_FLY cannot be granted"),
        "{}",
        said.err
    );
    assert!(box_.read("log").contains("CAP_FLY"));
}

#[test]
fn hooks_of_one_moment_come_in_their_order() {
    needs!("root");
    let mut box_ = Runtime::new("order", "exec sleep 100");
    let file = box_.path("rootfs/tmp/order");
    let moments = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    let mut hooks = json!({});
    for moment in moments {
        // The container's own sees the file by another name.
        let at = match moment {
            "startContainer" => "/tmp/order".to_string(),
            _ => file.display().to_string(),
        };
        let one = |n: u32| hook(format!("sleep 0.0$((3 - {n})); echo {moment}-{n} >> {at}"));
        hooks[moment] = json!([one(1), one(2), one(3)]);
    }
    box_.bundle.config["hooks"] = hooks;
    box_.up();
    box_.delete();
    let wanted: Vec<String> = moments
        .iter()
        .flat_map(|m| (1..4).map(move |n| format!("{m}-{n}")))
        .collect();
    let order = std::fs::read_to_string(&file).expect("the order");
    assert_eq!(order.lines().collect::<Vec<_>>(), wanted);
}
