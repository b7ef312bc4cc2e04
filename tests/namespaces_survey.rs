//! Stage 1 on the built binary: what is seen from outside. `ns ls`, `tree`, `pin` and `unpin`.
//!
//! Each way in which the kernel keeps a namespace alive is made here, and `ls` has to name it.

mod common;

use common::namespaces::{Held, KINDS, host, until};
use common::{LeakCheck, Run, TempRoot, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The entry of a namespace in `ns ls --json`.
fn listed(id: u64) -> Option<Value> {
    let all = run(["ns", "ls", "--json"]).success().json();
    let list = all["namespaces"].as_array().expect("an array");
    list.iter().find(|n| n["id"] == id).cloned()
}

/// What keeps it, as the words in `by`.
fn kept_by(namespace: &Value) -> Vec<&str> {
    let keepers = namespace["kept_by"].as_array().expect("an array");
    keepers
        .iter()
        .map(|k| k["by"].as_str().expect("by"))
        .collect()
}

/// One test at a time: a survey opens every namespace that it finds, and for that moment keeps it.
/// Another test's would be seen, and would be in the way of an unmount.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn id_of(link: &str) -> u64 {
    let digits: String = link.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn a_process_is_found_in_all_of_its_namespaces() {
    let _alone = alone();
    needs!("root");
    let held = Held::new(&["--all"]);
    let pid = held.pid.to_string();
    let output = run(["ns", "ls", "--json", &pid]).success();
    let json = output.json();
    let list = json["namespaces"].as_array().expect("an array");
    assert_eq!(list.len(), 8, "{output}");
    let user = held.namespace_id("user");
    for n in list {
        let kind = n["type"].as_str().expect("type");
        assert_eq!(n["id"], held.namespace_id(kind), "{output}");
        assert_eq!(n["processes"], serde_json::json!([held.pid]), "{output}");
        assert_eq!(n["oldest"]["pid"], held.pid, "{output}");
        let command = n["oldest"]["command"].as_str().expect("command");
        assert!(command.starts_with("sh -c"), "{output}");
        let owner = if kind == "user" {
            id_of(&host("user"))
        } else {
            user
        };
        assert_eq!(n["owner"], owner, "{kind}: {output}");
        assert_eq!(n["ours"], false, "{output}");
    }
    let only = run(["ns", "ls", "-q", "--type", "net", "--type", "pid", &pid]).success();
    let mut ids: Vec<u64> = only
        .stdout
        .lines()
        .map(|l| l.parse().expect("id"))
        .collect();
    let mut expected = vec![held.namespace_id("net"), held.namespace_id("pid")];
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let table = run(["ns", "ls", &pid]).success();
    assert_eq!(table.stdout.lines().count(), 9, "{table}");
    table.out_has("WHY IT EXISTS");
    table.out_has("1 process");
    run(["ns", "ls", "2000000000"]).fails(125, &["no process 2000000000"]);
    run(["ns", "ls", "/etc/passwd"]).fails(125, &["not a namespace file"]);
    run(["ns", "ls", "--type", "mounts"]).exits(125);
}

/// What lsns prints. It gives up, with nothing printed, where a process of another
/// test ends under it; then it is asked again.
fn lsns() -> Value {
    let mut said = String::new();
    for _ in 0..20 {
        let lsns = Command::new("lsns")
            .args(["--json", "-o", "NS,TYPE,NPROCS"])
            .output()
            .expect("lsns runs");
        match serde_json::from_slice(&lsns.stdout) {
            Ok(json) => return json,
            Err(error) => {
                said = format!(
                    "{error}; {}; {}",
                    lsns.status,
                    String::from_utf8_lossy(&lsns.stderr)
                );
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("lsns printed no JSON in 20 calls; the last: {said}");
}

#[test]
fn lsns_sees_the_same_and_not_more() {
    let _alone = alone();
    needs!("root", "lsns");
    let held = Held::new(&["--all"]);
    let lsns = lsns();
    let mut compared = 0;
    for row in lsns["namespaces"].as_array().expect("an array") {
        let number = |v: &Value| {
            v.as_u64()
                .or_else(|| v.as_str()?.parse().ok())
                .expect("number")
        };
        let id = number(&row["ns"]);
        let Some(ours) = listed(id) else {
            // Other tests' processes come and go; it must be gone by now, or it is a miss.
            let gone = || {
                let again = Command::new("lsns").args(["-n", "-r", "-o", "NS"]).output();
                let again = again.expect("lsns runs");
                !String::from_utf8_lossy(&again.stdout)
                    .lines()
                    .any(|l| l == id.to_string())
            };
            until(&format!("lsns sees {row}, and we do not"), gone);
            continue;
        };
        let mine = KINDS.iter().any(|(kind, _)| held.namespace_id(kind) == id);
        // Of those that other tests make, the number may mean another one by now.
        if mine {
            assert_eq!(ours["type"], row["type"], "{row}");
            let processes = ours["processes"].as_array().expect("an array").len() as u64;
            assert_eq!(processes, number(&row["nprocs"]), "{row}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8, "lsns did not list what we hold: {lsns}");
}

#[test]
fn what_no_process_is_in_is_found_with_its_keeper() {
    let _alone = alone();
    needs!("root");
    // A descriptor: the file is opened here, in the test, and the processes end.
    let held = Held::new(&["--net", "--uts"]);
    let id = held.namespace_id("net");
    let file = std::fs::File::open(format!("/proc/{}/ns/net", held.pid)).expect("open");
    drop(held);
    let n = listed(id).expect("held by a descriptor");
    assert_eq!(kept_by(&n), ["descriptor"], "{n}");
    assert_eq!(n["kept_by"][0]["pid"], std::process::id(), "{n}");
    assert_eq!(n["processes"], serde_json::json!([]), "{n}");
    assert_eq!(n["owner"], id_of(&host("user")), "{n}");
    let table = run(["ns", "ls", "--unpeopled", "--no-trunc"]).success();
    table.out_has(&format!("descriptor {} of", n["kept_by"][0]["fd"]));
    drop(file);
    assert_eq!(listed(id), None, "its last keeper is gone");
}

#[test]
fn threads_and_sockets_keep_namespaces() {
    let _alone = alone();
    needs!("root");
    let (to_test, from_thread) = std::sync::mpsc::channel();
    let (finish, told) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        glassbox::sys::namespace::unshare(libc::CLONE_NEWNET as u64 | libc::CLONE_NEWUTS as u64)
            .expect("unshare");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
        let link = |kind| std::fs::read_link(format!("/proc/thread-self/ns/{kind}"));
        let ids = ["net", "uts"].map(|k| id_of(&link(k).expect("link").to_string_lossy()));
        to_test.send((ids, socket)).expect("the test listens");
        let _ = told.recv();
    });
    let ([net, uts], socket) = from_thread.recv().expect("the thread speaks");
    let n = listed(uts).expect("a thread is in it");
    assert_eq!(kept_by(&n), ["thread"], "{n}");
    assert_eq!(n["kept_by"][0]["pid"], std::process::id(), "{n}");
    let n = listed(net).expect("a thread is in it");
    assert!(kept_by(&n).contains(&"thread"), "{n}");
    finish.send(()).expect("the thread waits");
    thread.join().expect("no panic");
    assert_eq!(listed(uts), None);
    let n = listed(net).expect("a socket is of it");
    assert_eq!(kept_by(&n), ["socket"], "{n}");
    assert_eq!(n["owner"], id_of(&host("user")), "a socket tells: {n}");
    drop(socket);
    until("the socket's namespace ends", || listed(net).is_none());
}

#[test]
fn a_thread_chooses_for_its_children_alone() {
    let _alone = alone();
    needs!("root");
    let (to_test, from_thread) = std::sync::mpsc::channel();
    let (finish, told) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        glassbox::sys::namespace::unshare(0x80 /* CLONE_NEWTIME */).expect("unshare");
        let link = std::fs::read_link("/proc/thread-self/ns/time_for_children").expect("link");
        to_test
            .send(id_of(&link.to_string_lossy()))
            .expect("the test listens");
        let _ = told.recv();
    });
    let id = from_thread.recv().expect("the thread speaks");
    let n = listed(id).expect("only the thread's children would be in it");
    assert_eq!(kept_by(&n), ["for-children"], "{n}");
    finish.send(()).expect("the thread waits");
    thread.join().expect("no panic");
    // The kernel may have given its number to another one by now.
    until("it ends", || listed(id).is_none_or(|n| n["type"] != "time"));
}

#[test]
fn a_template_draws_the_lines() {
    let _alone = alone();
    let own = id_of(&host("uts"));
    let template = "{{.type}} {{.id}} {{.ours}}";
    let lines = run(["ns", "ls", "--type", "uts", "--format", template]).success();
    lines.out_has(&format!("uts {own} true\n"));
    run(["ns", "ls", "--format", "{{.nosuch}}"]).fails(125, &["there is no field nosuch"]);
}

#[test]
fn the_place_for_children_and_namespaces_below_keep() {
    let _alone = alone();
    needs!("root", "unshare");
    // The shell stays where it was: only its children would be in the new namespaces.
    let script = "echo here; read x";
    let mut child = Command::new("unshare")
        .args(["--time", "--pid", "sh", "-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let mut line = String::new();
    use std::io::{BufRead, BufReader};
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let link = std::fs::read_link(format!("/proc/{}/ns/time_for_children", child.id()));
    let id = id_of(&link.expect("link").to_string_lossy());
    let found = listed(id);
    drop(child.stdin.take());
    child.wait().expect("wait");
    // exec moves into the time namespace that was for children on newer kernels.
    let n = found.expect("it is there");
    assert!(
        ["for-children", "processes"].contains(&kept_by(&n)[0]),
        "{n}"
    );

    // A user namespace whose only process has gone on into one below it.
    let binary = common::binary();
    let binary = binary.to_str().expect("utf-8");
    let inner = [
        "-r",
        "--",
        binary,
        "ns",
        "run",
        "-r",
        "--",
        "sh",
        "-c",
        "echo here; read x",
    ];
    let mut held = Held::command(&inner);
    assert_eq!(held.line(), "here");
    let below = listed(held.namespace_id("user")).expect("the inner one");
    let middle = below["parent"].as_u64().expect("a parent");
    let n = listed(middle).expect("the middle one");
    assert_eq!(kept_by(&n), ["children"], "{n}");
    assert_eq!(
        n["kept_by"][0]["ids"],
        serde_json::json!([held.namespace_id("user")]),
        "{n}"
    );
    assert_eq!(n["owner_uid"], 0, "{n}");
}

#[test]
fn a_pinned_namespace_lives_without_a_process() {
    let _alone = alone();
    needs!("root");
    let root = TempRoot::new("pin");
    let _leaks = LeakCheck::new(&root);
    // Dropped before the root, so that a failing test leaves no mount either.
    struct Unpin(std::path::PathBuf);
    impl Drop for Unpin {
        fn drop(&mut self) {
            let _ = glassbox::namespaces::unpin(&self.0);
        }
    }
    let _unpin = Unpin(root.join("a pin"));
    let held = Held::new(&["--uts", "--hostname", "pinned"]);
    let (id, pid) = (held.namespace_id("uts"), held.pid.to_string());
    let pin = root.join("a pin");
    let file = pin.to_str().expect("utf-8");
    run(["ns", "pin", &pid, file]).fails(125, &["which one?", "--type net"]);
    assert!(!pin.exists());
    run(["ns", "pin", "--type", "uts", &pid, file])
        .success()
        .out_is(file);
    run(["ns", "pin", "--type", "uts", &pid, file]).fails(125, &["pinned there already", "unpin"]);
    drop(held);
    let n = listed(id).expect("pinned");
    // A mount namespace that another test makes meanwhile has a copy of the mount.
    assert!(kept_by(&n).iter().all(|by| *by == "mount"), "{n}");
    assert_eq!(n["kept_by"][0]["path"], file, "{n}");
    run(["ns", "enter", file, "--", "uname", "-n"])
        .success()
        .out_is("pinned");
    run(["ns", "ls", "-q", file])
        .success()
        .out_is(&id.to_string());
    run(["ns", "unpin", file]).success();
    assert!(!pin.exists(), "the file was ours");
    until("it ends", || listed(id).is_none());

    run(["ns", "unpin", file]).fails(125, &["no such file"]);
    let plain = root.write("plain", "kept");
    let plain = plain.to_str().expect("utf-8");
    run(["ns", "unpin", plain]).fails(125, &["no namespace is mounted"]);
    run(["ns", "pin", "/etc/passwd", file]).fails(125, &["not a namespace file"]);
    let missing = root.join("no/such/dir");
    run([
        "ns",
        "pin",
        "/proc/self/ns/uts",
        missing.to_str().expect("utf-8"),
    ])
    .fails(125, &["ENOENT"]);
    let mnt = run(["ns", "pin", "/proc/self/ns/mnt", file]);
    mnt.fails(125, &["EINVAL", "older"]);
    assert!(!pin.exists(), "what was made for a failed pin is removed");
    let user = TempRoot::for_user("pin-user");
    let mine = user.join("pin");
    Run::new([
        "ns",
        "pin",
        "/proc/self/ns/uts",
        mine.to_str().expect("utf-8"),
    ])
    .as_user()
    .go()
    .fails(125, &["EPERM", "CAP_SYS_ADMIN"]);
    assert!(!mine.exists());
}

#[test]
fn a_bind_mount_in_another_mount_namespace_is_found() {
    let _alone = alone();
    needs!("root", "mount");
    let root = TempRoot::new("elsewhere");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("pin", "");
    let file = file.to_str().expect("utf-8");
    let other = Held::new(&["--uts"]);
    let id = other.namespace_id("uts");
    let script = format!(
        "mount --bind /proc/{}/ns/uts '{file}'; echo here; read x",
        other.pid
    );
    let mut held = Held::command(&["--mount", "--", "sh", "-c", &script]);
    assert_eq!(held.line(), "here");
    drop(other);
    let n = listed(id).expect("mounted in another mount namespace");
    assert_eq!(kept_by(&n), ["mount"], "{n}");
    assert_eq!(n["kept_by"][0]["path"], file, "{n}");
    assert_eq!(
        n["kept_by"][0]["mount_namespace"],
        held.namespace_id("mnt"),
        "{n}"
    );
    // The relations are known too, though the path means nothing here.
    assert_eq!(n["owner"], id_of(&host("user")), "{n}");
    drop(held);
    until("it ends", || listed(id).is_none());
}

#[test]
fn a_bind_mount_where_no_process_is_at_all_is_found() {
    let _alone = alone();
    needs!("root", "mount");
    let root = TempRoot::new("nobody");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("pin", "");
    let file = file.to_str().expect("utf-8");
    let other = Held::new(&["--uts"]);
    let (id, other_pid) = (other.namespace_id("uts"), other.pid);
    let script = format!("mount --bind /proc/{other_pid}/ns/uts '{file}'; echo here; read x");
    let mut held = Held::command(&["--mount", "--", "sh", "-c", &script]);
    assert_eq!(held.line(), "here");
    // Only our descriptor holds the mount namespace, and only its mount the UTS namespace.
    let mount_namespace = held.namespace_id("mnt");
    let descriptor = std::fs::File::open(format!("/proc/{}/ns/mnt", held.pid)).expect("open");
    drop((held, other));
    if glassbox::sys::statmount::mnt_ns_id(&descriptor).is_err() {
        // Before Linux 6.11 the kernel does not tell, and the survey says so.
        let all = run(["ns", "ls", "--json"]).success().json();
        let unread = all["unread"].as_array().expect("an array").clone();
        let said = "the mounts of a mount namespace without a process";
        assert!(unread.iter().any(|u| u["what"] == said), "{all}");
        return;
    }
    let n = listed(mount_namespace).expect("held by a descriptor");
    assert_eq!(kept_by(&n), ["descriptor"], "{n}");
    let n = listed(id).expect("mounted in it");
    assert_eq!(kept_by(&n), ["mount"], "{n}");
    assert_eq!(n["kept_by"][0]["path"], file, "{n}");
    assert_eq!(n["kept_by"][0]["mount_namespace"], mount_namespace, "{n}");
    assert_eq!(n["kept_by"][0]["pid"], Value::Null, "{n}");
    drop(descriptor);
    until("it ends", || listed(id).is_none());
}

#[test]
fn the_trees_show_owners_and_nesting() {
    let _alone = alone();
    needs!("root");
    let binary = common::binary();
    let binary = binary.to_str().expect("utf-8");
    let script = ["sh", "-c", "echo here; read x"];
    let inner = [
        "-r", "--pid", "--mount", "--", binary, "ns", "run", "--pid", "--net", "--",
    ];
    let args: Vec<&str> = inner.iter().chain(&script).copied().collect();
    let mut held = Held::command(&args);
    assert_eq!(held.line(), "here");
    let outer = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", held.pid));
    let outer: i32 = outer.expect("children").trim().parse().expect("one child");
    let link = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/{outer}/ns/{kind}")).expect("link");
        id_of(&link.to_string_lossy())
    };
    let (user, pid) = (link("user"), link("pid"));
    let json = run(["ns", "tree", "--json"]).success().json();
    fn find(nodes: &Value, id: u64) -> Option<&Value> {
        nodes.as_array()?.iter().find_map(|n| match n["id"] == id {
            true => Some(n),
            false => find(&n["below"], id),
        })
    }
    let owner = find(&json["owners"], user).expect("the user namespace");
    let owned: Vec<&str> = owner["below"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|n| n["type"].as_str().expect("type"))
        .collect();
    assert_eq!(owned, ["mnt", "pid", "pid", "net"], "{owner}");
    assert_eq!(owner["parent"], id_of(&host("user")));
    let nested = find(&json["pids"], pid).expect("the pid namespace");
    assert_eq!(nested["parent"], id_of(&host("pid")));
    assert_eq!(
        nested["below"].as_array().expect("an array").len(),
        1,
        "{nested}"
    );
    let text = run(["ns", "tree"]).success();
    text.out_has(&format!("user {user}  made by uid 0"));
    text.out_has("(ours)");
    assert!(
        !run(["ns", "tree", "--owner"])
            .success()
            .stdout
            .contains("pid namespaces")
    );
    assert!(
        !run(["ns", "tree", "--pid"])
            .success()
            .stdout
            .contains("user namespaces")
    );
}

#[test]
fn an_ordinary_user_sees_its_own_and_is_told_what_is_missing() {
    let _alone = alone();
    let held = Held::user(&["--all"]);
    let output = Run::new(["ns", "ls"]).as_user().go().success();
    for (kind, _) in KINDS {
        output.out_has(&held.namespace_id(kind).to_string());
    }
    if common::is_root() {
        output.err_has("the namespaces of a process could not be read");
        output.err_has("times: EACCES");
    }
    assert!(Path::new("/proc/self").exists());
}
