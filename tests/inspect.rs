//! `glassbox inspect` on processes in namespaces that the tests make, and on the host.
//!
//! What it does: makes a process whose walls are known (by util-linux's unshare, setpriv and
//! prlimit, so that nothing of ours is its own oracle), looks at it, and compares with what was
//! asked for or with what readlink(2) says. One test holds that every key of the JSON is in
//! `inspect --schema`, another that looking changes nothing.
//! Read next: `common/mod.rs`.

mod common;

use common::{Held, LeakCheck, Run, TempRoot, WALLS, inode, no_walls, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

#[test]
fn a_process_in_known_namespaces() {
    if let Some(reason) = no_walls() {
        return common::skip(reason);
    }
    let held = Held::new(WALLS, "hostname inside; sleep 300 & trap \"kill $!\" EXIT");
    let shell = held.init();
    // It has said that it is ready, and then waits for a line: the snapshot is of a process that sleeps.
    common::cgroup::wait_for("the shell's sleep", || {
        glassbox::host::process::stat(shell as i32).is_some_and(|stat| stat.state == 'S')
    });
    let value = run(["inspect", "--json", "--why", &shell.to_string()])
        .success()
        .json();
    let process = &value["process"];
    let own = ["user", "mnt", "uts", "pid", "net"];
    for namespace in process["namespaces"].as_array().unwrap() {
        let kind = namespace["kind"].as_str().unwrap();
        assert_eq!(namespace["id"], inode(shell, kind), "{kind}");
        if own.contains(&kind) {
            // The host's mount namespace has no fixed number: who may not read PID 1's is not told.
            let untold = std::fs::read_link(format!("/proc/1/ns/{kind}")).is_err();
            if !(untold && namespace["relation"].is_null()) {
                assert_eq!(namespace["relation"], "own", "{namespace}");
            }
            assert_ne!(namespace["id"], inode(std::process::id(), kind));
        } else {
            assert_ne!(namespace["relation"], "own", "{namespace}");
        }
        // The user namespace's own owner is its parent: the tests'.
        let owner = match kind {
            "user" => inode(std::process::id(), "user"),
            kind if own.contains(&kind) => inode(shell, "user"),
            _ => continue,
        };
        assert_eq!(namespace["owner"], owner, "{namespace}");
    }
    let uid = nix::unistd::geteuid().as_raw();
    let map = &process["id_maps"]["uid"][0];
    assert_eq!(
        (&map["inside"], &map["outside"], &map["count"]),
        (&0.into(), &uid.into(), &1.into())
    );
    assert_eq!(process["user"]["uid_inside"], 0);
    assert_eq!(process["id_maps"]["setgroups"], "deny");
    let tree = process["processes"].as_array().unwrap();
    assert_eq!(tree.len(), 2, "{tree:?}");
    assert_eq!(tree[0]["inside"], serde_json::json!([shell, 1]));
    assert_eq!(tree[0]["target"], true);
    assert_eq!(tree[1]["depth"], 1);
    assert!(tree[1]["inside"][1].as_u64().unwrap() > 1, "{tree:?}");
    assert_eq!(process["capabilities"]["effective"]["all"], true);
    assert_eq!(process["network"]["interfaces"][0]["name"], "lo");
    snapshot_of_the_stable_part(&value, shell);
}

/// The JSON without what depends on this host.
fn snapshot_of_the_stable_part(value: &Value, pid: u32) {
    let mut value = value.clone();
    let process = value["process"].as_object_mut().unwrap();
    for key in [
        "mounts",
        "cgroup",
        "rlimits",
        "devices",
        "keeper",
        "lsm_label",
        "seccomp",
        "capabilities",
        "executable",
        "cwd",
        "umask",
        "oom",
        "no_new_privs",
        "signals",
    ] {
        assert!(process.shift_remove(key).is_some(), "{key}");
    }
    for namespace in process["namespaces"].as_array_mut().unwrap() {
        for key in ["processes", "id", "owner", "relation"] {
            namespace[key] = Value::String(format!("[{key}]"));
        }
    }
    process["user"]["groups"] = Value::String("[groups]".into());
    let keys: BTreeSet<String> = process.keys().cloned().collect();
    let kept = |path: &str| keys.contains(path.split(['.', '[']).nth(1).unwrap_or(""));
    let sources = value["sources"].as_object().unwrap();
    let sources: serde_json::Map<_, _> = sources
        .iter()
        // Where a relation was read depends on who may read PID 1's namespaces.
        .filter(|(path, _)| kept(path) && !path.ends_with(".relation"))
        .map(|(path, source)| (path.clone(), source.clone()))
        .collect();
    value["sources"] = sources.into();
    value["unread"] = "[depends on the host]".into();
    let uid = nix::unistd::geteuid().as_raw();
    let text = serde_json::to_string_pretty(&value).unwrap();
    let text = text
        .replace(&format!("is {uid} outside"), "is [UID] outside")
        .replace(&format!("\"outside\": {uid}"), "\"outside\": \"[UID]\"");
    let child = value["process"]["processes"][1]["pid"].to_string();
    let inside = value["process"]["processes"][1]["inside"][1].to_string();
    let parent = value["process"]["parent"].to_string();
    let text = text.replace(&format!("          {inside}\n"), "          [INSIDE]\n");
    let ids = [
        (format!(r"\b{pid}\b"), "[SHELL]"),
        (format!(r"\b{child}\b"), "[CHILD]"),
        (format!(r"\b{parent}\b"), "[PARENT]"),
        (format!(r#"(?m)^(\s+){uid}(,?)$"#), "$1[UID]$2"),
        (format!(r#""uid": {uid}\b"#), "\"uid\": \"[UID]\""),
    ];
    let gid = nix::unistd::getegid().as_raw();
    assert_eq!(
        uid == 0,
        gid == 0,
        "the tests run as root or as a whole ordinary user"
    );
    let ids: Vec<(&str, &str)> = ids.iter().map(|(a, b)| (a.as_str(), *b)).collect();
    common::filters(&ids).bind(|| insta::assert_snapshot!("inspect_process_json", text));
}

/// Every path of a JSON value, with `[]` for elements of lists.
fn paths(value: &Value, at: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let below = match at.is_empty() {
                    true => key.clone(),
                    false => format!("{at}.{key}"),
                };
                all.insert(below.clone());
                paths(value, &below, all);
            }
        }
        Value::Array(list) => {
            let below = format!("{at}[]");
            list.iter().for_each(|v| paths(v, &below, all));
        }
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_is_documented() {
    let schema = run(["inspect", "--schema", "--json"]).success().json();
    let schema = schema.as_array().unwrap();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for entry in schema {
        known.insert(entry["path"].as_str().unwrap());
        assert!(entry["meaning"].as_str().unwrap().len() > 5, "{entry}");
    }
    let held = Held::new(&[], "");
    let pid = held.pid.to_string();
    let namespace = format!("/proc/{pid}/ns/user");
    let mut targets = vec!["host", pid.as_str(), namespace.as_str()];
    if let Some(group) = first_cgroup() {
        targets.push(Box::leak(group.into_boxed_str()));
    }
    for target in targets {
        let value = run(["inspect", "--json", "--why", target]).success().json();
        let mut all = BTreeSet::new();
        paths(&value, "", &mut all);
        for path in all {
            // Below these two the keys are data.
            let data = ["sources.", "cgroup.usage.", "cgroup.events."];
            let documented = known.contains(path.as_str())
                || data.iter().any(|d| {
                    path.strip_prefix("process.")
                        .unwrap_or(&path)
                        .starts_with(d)
                });
            assert!(documented, "{target}: {path} is not in inspect --schema");
        }
    }
    common::filters(&[]).bind(|| {
        insta::assert_snapshot!(
            "inspect_schema",
            run(["inspect", "--schema"]).success().stdout
        );
    });
}

/// A cgroup directory of this host.
fn first_cgroup() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|l| l.contains(" - cgroup"))?;
    line.split(' ').nth(4).map(str::to_string)
}

#[test]
fn privileges_and_limits() {
    needs!("setpriv", "prlimit");
    let held = Held::new(
        &["prlimit", "--nofile=100:200", "setpriv", "--no-new-privs"],
        "",
    );
    let process = &held.inspect(&[])["process"];
    assert_eq!(process["no_new_privs"], true);
    let limits = process["rlimits"].as_array().unwrap();
    let files = limits
        .iter()
        .find(|l| l["name"] == "RLIMIT_NOFILE")
        .unwrap();
    assert_eq!((&files["soft"], &files["hard"]), (&100.into(), &200.into()));
    assert_eq!(limits.len(), 16);
    let text = run(["inspect", &held.pid.to_string()]).success();
    text.out_has("no_new_privs");
    text.out_has("yes: execve gives no more privileges");
}

#[test]
fn a_filter_that_another_tracer_guards_says_so() {
    needs!("strace");
    // strace's own filter sends its calls to strace, which holds the process as its tracer.
    let wrapper = [
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-e",
        "trace=mount",
        "-o",
        "/dev/null",
    ];
    let held = Held::new(&wrapper, "");
    let value = held.inspect(&[]);
    let seccomp = &value["process"]["seccomp"];
    assert_eq!(
        (&seccomp["mode"], &seccomp["filters"]),
        (&"filter".into(), &1.into())
    );
    assert_eq!(seccomp["verdicts"], Value::Null);
    let unread = value["unread"].as_array().unwrap();
    let verdicts = unread
        .iter()
        .find(|u| u["path"] == "process.seccomp.verdicts")
        .unwrap();
    assert!(
        verdicts["why"].as_str().unwrap().contains("EPERM"),
        "{verdicts}"
    );
}

#[test]
fn capabilities_compared_with_dockers() {
    needs!("root", "setpriv");
    let docker = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,\
                  +setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";
    let bounding = format!("--bounding-set={docker}");
    let held = Held::new(&["setpriv", &bounding], "");
    let sets = &held.inspect(&[])["process"]["capabilities"];
    assert_eq!(sets["words"], "exactly Docker's default");
    assert_eq!(sets["effective"]["names"].as_array().unwrap().len(), 14);
    assert_eq!(sets["beyond_docker"], serde_json::json!([]));
    let more = format!("--bounding-set={docker},+sys_admin,-chown");
    let held = Held::new(&["setpriv", &more], "");
    let sets = &held.inspect(&[])["process"]["capabilities"];
    assert_eq!(sets["beyond_docker"], serde_json::json!(["CAP_SYS_ADMIN"]));
    assert_eq!(sets["less_than_docker"], serde_json::json!(["CAP_CHOWN"]));
}

#[test]
fn mounts_of_another_namespace_with_an_overlay() {
    if let Some(reason) = no_walls() {
        return common::skip(reason);
    }
    let setup = "set -e; cd /tmp; mount -t tmpfs -o size=1m scratch /tmp; cd /tmp
        mkdir a b up work merged other; mount -t overlay o -o \
        lowerdir=/tmp/b:/tmp/a,upperdir=/tmp/up,workdir=/tmp/work,userxattr merged
        mount --bind merged other; mount -o remount,bind,ro,nosuid other";
    let wrapper: Vec<&str> = WALLS
        .iter()
        .copied()
        .filter(|w| *w != "--mount-proc")
        .collect();
    let held = Held::new(&wrapper, setup);
    let value = held.inspect(&["--why"]);
    let mounts = value["process"]["mounts"].as_array().unwrap();
    let at = |point: &str| mounts.iter().find(|m| m["point"] == point).unwrap();
    let merged = at("/tmp/merged");
    let lower: Vec<&Value> = merged["overlay"]["lower"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["path"])
        .collect();
    assert_eq!(lower, ["/tmp/b", "/tmp/a"]);
    assert_eq!(merged["overlay"]["upper"], "/tmp/up");
    assert_eq!(merged["read_only"], false);
    let other = at("/tmp/other");
    assert_eq!(other["read_only"], true);
    assert!(
        other["flags"]
            .as_array()
            .unwrap()
            .contains(&"nosuid".into()),
        "{other}"
    );
    assert_eq!(other["propagation"], "private");
    // Each after its parent, and the parent known.
    let mut seen = BTreeSet::new();
    for mount in mounts {
        let (id, parent) = (&mount["id"], &mount["parent"]);
        let is_root = !mounts.iter().any(|m| &m["id"] == parent) || id == parent;
        assert!(is_root || seen.contains(&parent.to_string()), "{mount}");
        seen.insert(id.to_string());
    }
    let source = value["sources"]["process.mounts"].as_str().unwrap();
    assert!(
        source.contains("statmount") || source.contains("mountinfo"),
        "{source}"
    );
}

#[test]
fn what_may_not_be_read_says_why() {
    needs!("root", "setpriv");
    let held = Held::new(&[], "");
    let pid = held.pid.to_string();
    let output = Run::new(["inspect", "--json", pid.as_str()])
        .as_user()
        .go()
        .success();
    let value = output.json();
    assert_eq!(value["process"]["pid"], held.pid);
    let unread = value["unread"].as_array().unwrap();
    for path in [
        "process.executable",
        "process.root",
        "process.namespaces[0].id",
    ] {
        let entry = unread.iter().find(|u| u["path"] == path);
        let entry = entry.unwrap_or_else(|| panic!("{path} is not in {unread:?}"));
        assert!(
            entry["why"].as_str().unwrap().starts_with("EACCES"),
            "{entry}"
        );
        assert!(entry["source"].as_str().unwrap().contains(&pid), "{entry}");
    }
    assert_eq!(value["process"]["executable"], Value::Null);
    // What everybody may read is there.
    assert_eq!(
        value["process"]["user"]["uid"],
        serde_json::json!([0, 0, 0, 0])
    );
    let text = Run::new(["inspect", pid.as_str()]).as_user().go().success();
    text.out_has("unread: EACCES (Permission denied)");
}

#[test]
fn every_fact_has_a_source() {
    let held = Held::new(&[], "");
    let value = held.inspect(&["--why"]);
    let sources = value["sources"].as_object().unwrap();
    assert!(sources.len() > 40, "{}", sources.len());
    for (path, source) in sources {
        assert!(!source.as_str().unwrap().is_empty(), "{path}");
    }
    let without = held.inspect(&[]);
    assert_eq!(without.get("sources"), None);
    let text = run(["inspect", "--why", &held.pid.to_string()]).success();
    text.out_has(&format!("← /proc/{}/status: State", held.pid));
}

#[test]
fn a_namespace_by_its_path_its_link_and_its_number() {
    let held = Held::new(&[], "");
    let id = inode(held.pid, "uts");
    let targets = [
        format!("/proc/{}/ns/uts", held.pid),
        format!("uts:[{id}]"),
        id.to_string(),
    ];
    for target in targets {
        let value = run(["inspect", "--json", &target]).success().json();
        assert_eq!(value["kind"], "namespace", "{target}");
        assert_eq!(value["namespace"]["id"], id);
        assert_eq!(value["namespace"]["kind"], "uts");
        let processes = value["namespace"]["processes"].as_array().unwrap();
        assert!(processes.iter().any(|p| p["pid"] == held.pid), "{target}");
    }
}

#[test]
fn the_host_and_nothing_left_behind() {
    let root = TempRoot::new("inspect-host");
    let leak = LeakCheck::new(&root);
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for user in [false, true] {
        let mut command = Run::new(["inspect", "host", "--json"]);
        if user {
            if !common::is_root() || !common::has_program("setpriv") {
                continue;
            }
            command = command.as_user();
        }
        let value = command.go().success().json();
        let abilities = value["host"]["abilities"].as_array().unwrap();
        assert!(abilities.len() > 40);
        for ability in abilities {
            let why = ability["why_not"].as_str();
            assert_eq!(ability["works"] == false, why.is_some(), "{ability}");
            assert!(why.is_none_or(|w| !w.is_empty()), "{ability}");
        }
        let of = |name: &str| abilities.iter().find(|a| a["name"] == name).unwrap();
        assert_eq!(of("pidfd_open")["works"], true);
        if user {
            assert_eq!(of("all capabilities")["works"], false);
            assert_eq!(value["host"]["user"]["uid"], common::USER);
            assert_eq!(of("foreign namespaces")["works"], false);
        }
    }
    let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(before, after);
    leak.check();
}

#[test]
fn looking_changes_nothing() {
    needs!("strace");
    let held = Held::new(&[], "");
    let pid = held.pid.to_string();
    let dir = TempRoot::new("inspect-strace");
    let trace = dir.join("trace");
    let status = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=%file,%process,%net,mount,umount2,setns,unshare,bpf,kill",
        ])
        .arg("-o")
        .arg(&trace)
        .arg(common::binary())
        .args(["inspect", "--json", pid.as_str()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(
        trace.contains(&format!("/proc/{pid}/status")),
        "strace saw nothing"
    );
    let changing = [
        "O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "unlink", "rename(", "mount(", "umount2(",
        "setns(", "unshare(", "kill(", "chmod", "chown", "link(",
    ];
    for line in trace.lines() {
        let reads = line.contains("readlink") || line.contains("NULL, 0, NULL");
        let changes = changing.iter().find(|c| line.contains(**c));
        assert!(reads || changes.is_none(), "{line}");
    }
}

#[test]
fn a_pid_1_without_a_handler_does_not_stop() {
    if let Some(reason) = no_walls() {
        return common::skip(reason);
    }
    for (setup, answers) in [("", false), ("trap exit TERM", true)] {
        let held = Held::new(WALLS, setup);
        let signals = &held.inspect(&[])["process"]["signals"];
        assert_eq!(signals["answers_sigterm"], answers, "{setup:?}: {signals}");
    }
    // Any other process is ended by it.
    let held = Held::new(&[], "");
    assert_eq!(
        held.inspect(&[])["process"]["signals"]["answers_sigterm"],
        true
    );
}

#[test]
fn templates_and_the_tree() {
    let held = Held::new(&[], "");
    let pid = held.pid.to_string();
    let output = run(["inspect", "-f", "{{.process.pid}} {{.kind}}", &pid]).success();
    output.out_is(&format!("{pid} process"));
    let tree = run(["inspect", "--tree", &pid]).success();
    tree.out_has("◂");
    assert_eq!(tree.stdout.lines().count(), 2, "{}", tree.stdout);
    let both = run(["inspect", "--json", &pid, "self"]).success().json();
    assert_eq!(both.as_array().unwrap().len(), 2);
}

#[test]
fn bad_input() {
    run(["inspect", "no-such-thing"]).fails(1, &["no container, image", "hint:"]);
    run(["inspect", "--type", "pid", "x"]).fails(1, &["no process id"]);
    run(["inspect", "--type", "pid", "999999999"]).fails(1, &["no process has the id"]);
    run(["inspect", "/etc/passwd"]).fails(1, &["/etc/passwd"]);
    run(["inspect", "--type", "namespace", "/etc/passwd"]).fails(1, &["is no namespace"]);
    run(["inspect", "/proc/1/nosuch"]).fails(1, &["cannot read /proc/1/nosuch", "ENOENT"]);
    run(["inspect", "999999999"]).fails(1, &["no process 999999999"]);
    run(["inspect", "/tmp"]).fails(1, &["a directory, and no cgroup"]);
    run(["inspect", "net:[1]"]).fails(1, &["nothing that this user may see"]);
    run(["inspect", "-f", "{{.Nope}}", "self"]).fails(1, &["character 3", "no field Nope"]);
    run(["inspect", "--tree", "host"]).fails(1, &["has no processes"]);
    // What is there is printed even when another is not.
    let output = run(["inspect", "-f", "{{.kind}}", "self", "no-such-thing"]);
    assert_eq!(output.code(), 1);
    output.out_is("process");
}
