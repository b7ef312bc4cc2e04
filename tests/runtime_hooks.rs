//! Hooks and `exec` of the OCI runtime: where each runs, what it is told, and what its failure does;
//! and which descriptors reach a container.
//!
//! Read next: `runtime_operations.rs`; `src/runtime/hooks.rs`, `src/runtime/exec.rs`.

mod common;

use common::oci::{Runtime, Said};
use serde_json::{Value, json};
use std::io::Read;

const MOMENTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// A hook that runs a script of sh.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// What the hook of a moment wrote: its state, its mount namespace, its root's /, its directory.
struct Seen {
    state: Value,
    namespace: String,
    uts: String,
    root: String,
}

fn seen(box_: &Runtime, moment: &str) -> Option<Seen> {
    let inside = box_.read(&format!("rootfs/tmp/{moment}"));
    let text = match inside.is_empty() {
        true => box_.read(moment),
        false => inside,
    };
    let mut lines = text.lines();
    Some(Seen {
        state: serde_json::from_str(lines.next()?).expect("the state is JSON"),
        namespace: lines.next()?.to_string(),
        uts: lines.next()?.to_string(),
        root: lines.collect::<Vec<_>>().join(" "),
    })
}

#[test]
fn each_hook_in_its_namespace_with_its_state() {
    needs!("root");
    let mut box_ = Runtime::new("hooks", "exec sleep 100");
    let script = |moment: &str, place: String| {
        // The state has no newline at its end.
        let look = "readlink /proc/self/ns/mnt /proc/self/ns/uts; ls -d /*";
        hook(&format!("{{ cat; echo; {look}; }} > {place}/{moment} 2>&1"))
    };
    let bundle = box_.bundle.root.path().display().to_string();
    for moment in MOMENTS {
        let place = match moment {
            "startContainer" => "/tmp".to_string(),
            _ => bundle.clone(),
        };
        box_.bundle.config["hooks"][moment] = json!([script(moment, place)]);
    }
    box_.bundle.config["annotations"] = json!({"a": "b"});
    box_.create(&[]).ok();
    let pid = box_.pid();
    let of = |ns: &str| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{ns}")).expect("a namespace");
        link.display().to_string()
    };
    let (inner, inner_uts) = (of("mnt"), of("uts"));
    let outer = std::fs::read_link("/proc/self/ns/mnt")
        .unwrap()
        .display()
        .to_string();
    assert!(seen(&box_, "startContainer").is_none(), "before start");
    box_.run(&["start"]).ok();
    assert!(seen(&box_, "poststop").is_none(), "before delete");
    box_.run(&["delete", "--force"]).ok();
    for (moment, status, inside, new_root) in [
        ("prestart", "creating", false, false),
        ("createRuntime", "creating", false, false),
        ("createContainer", "creating", true, false),
        ("startContainer", "created", true, true),
        ("poststart", "running", false, false),
        ("poststop", "stopped", false, false),
    ] {
        let seen = seen(&box_, moment).unwrap_or_else(|| panic!("{moment} did not run"));
        assert_eq!(seen.state["status"], status, "{moment}");
        assert_eq!(seen.state["id"], box_.id.as_str());
        assert_eq!(seen.state["bundle"], bundle.as_str());
        assert_eq!(seen.state["ociVersion"], "1.3.0");
        assert_eq!(seen.state["annotations"]["a"], "b");
        match moment {
            // The pid is that of the host, for whoever is told.
            "poststop" => assert!(seen.state["pid"].as_i64().unwrap_or(0) == 0),
            _ => assert_eq!(seen.state["pid"], pid, "{moment}"),
        }
        let namespace = if inside { &inner } else { &outer };
        assert_eq!(&seen.namespace, namespace, "{moment}");
        assert_eq!(seen.uts == inner_uts, inside, "{moment}");
        assert_eq!(
            !seen.root.contains("/home"),
            new_root,
            "{moment}: {}",
            seen.root
        );
    }
    box_.nothing_left();
}

/// A container with this hook at this moment, run as far as it comes.
fn with_hook(moment: &str, hook: Value) -> (Runtime, Said) {
    let mut box_ = Runtime::new("hook", "exec sleep 100");
    box_.bundle.config["hooks"][moment] = json!([hook]);
    let stop = format!("echo x >> {}", box_.path("stopped").display());
    if moment != "poststop" {
        box_.bundle.config["hooks"]["poststop"] = json!([self::hook(&stop)]);
    }
    let created = box_.create(&[]);
    if created.code != 0 {
        return (box_, created);
    }
    let started = box_.run(&["start"]);
    (box_, started)
}

#[test]
fn the_failure_of_each_hook() {
    needs!("root");
    for moment in MOMENTS {
        let slow = {
            let mut slow = hook("sleep 20");
            slow["timeout"] = 1.into();
            slow
        };
        let bad = [
            (hook("echo no luck >&2; exit 3"), "no luck"),
            (slow, "longer than 1 s"),
            (json!({"path": "/nonexistent"}), "ENOENT"),
        ];
        for (hook, why) in bad {
            let (box_, said) = with_hook(moment, hook);
            match moment {
                "prestart" | "createRuntime" | "createContainer" => {
                    said.fails(why);
                    box_.nothing_left();
                    assert_eq!(box_.read("stopped"), "x\n", "{moment}: poststop hooks");
                }
                "startContainer" | "poststart" => {
                    said.fails(why);
                    box_.wait_for("stopped");
                    box_.run(&["delete"]).ok();
                    assert_eq!(box_.read("stopped"), "x\n", "{moment}: poststop hooks");
                }
                _ => {
                    said.ok();
                    let deleted = box_.run(&["delete", "--force"]).ok();
                    assert!(deleted.err.contains(why), "a warning: {deleted:?}");
                }
            }
            box_.nothing_left();
        }
    }
}

#[test]
fn exec_is_where_the_container_is() {
    needs!("root");
    let mut box_ = Runtime::new("exec", "exec sleep 100");
    for typ in ["network", "cgroup", "time"] {
        box_.bundle.namespace(typ);
    }
    box_.up();
    let (id, pid) = (box_.id.as_str(), box_.pid());
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let files = names.map(|n| format!("/proc/self/ns/{n}")).join(" ");
    let script = format!("readlink {files}");
    let said = box_
        .go(box_.command(&["exec", id, "sh", "-c", &script]))
        .ok();
    let theirs = names.map(|n| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{n}")).expect("a namespace");
        link.display().to_string()
    });
    assert_eq!(said.out.lines().collect::<Vec<_>>(), theirs);
    // And its cgroup, by the host's view.
    let file = box_.path("exec.pid").display().to_string();
    let detached = ["exec", "--detach", "--pid-file", &file, id, "sleep", "50"];
    box_.go(box_.command(&detached)).ok();
    let groups = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(&box_.read("exec.pid")), groups(&pid.to_string()));
    box_.delete();
}

#[test]
fn the_options_of_exec() {
    needs!("root");
    let mut box_ = Runtime::new("exec-options", "exec sleep 100");
    box_.bundle.process()["capabilities"] = json!({});
    box_.up();
    let id = box_.id.as_str();
    let exec = |options: &[&str], script: &str| {
        let words = [&["exec"], options, &[id, "sh", "-c", script]].concat();
        box_.go(box_.command(&words))
    };
    let said = exec(
        &[
            "--user",
            "1000:1001",
            "-g",
            "7",
            "--cwd",
            "/tmp",
            "--env",
            "A=b",
        ],
        "id -u; id -g; id -G; pwd; echo $A; exit 9",
    );
    assert_eq!(said.code, 9, "{said:?}");
    assert_eq!(said.out, "1000\n1001\n1001 7\n/tmp\nb\n");
    let caps = "grep -E 'CapEff|NoNew' /proc/self/status";
    let said = exec(&[], caps).ok().out;
    assert!(
        said.contains("CapEff:\t0000000000000000") && said.contains("NoNewPrivs:\t0"),
        "{said}"
    );
    let said = exec(
        &["--cap", "CAP_CHOWN", "--cap", "kill", "--no-new-privs"],
        caps,
    )
    .ok()
    .out;
    assert!(
        said.contains("CapEff:\t0000000000000021") && said.contains("NoNewPrivs:\t1"),
        "{said}"
    );
    let process = json!({"cwd": "/tmp", "args": ["sh", "-c", "pwd; id -u"], "user": {"uid": 5, "gid": 5},
        "env": ["PATH=/usr/bin:/bin"]});
    std::fs::write(box_.path("p.json"), process.to_string()).unwrap();
    let file = box_.path("p.json").display().to_string();
    let said = box_
        .go(box_.command(&["exec", "--process", &file, id]))
        .ok();
    assert_eq!(said.out, "/tmp\n5\n");
    let absent = box_.go(box_.command(&["exec", id, "no-such-program"]));
    assert_eq!(absent.code, 127, "{absent:?}");
    let said = exec(&[], "kill -TERM $$");
    assert_eq!(said.code, 143, "{said:?}");
    let refused = exec(&["--tty", "--detach"], "true");
    refused.fails("nobody takes it");
    box_.delete();
}

/// Takes the terminal that is handed over on a console socket.
fn terminal(socket: &std::os::unix::net::UnixListener) -> std::fs::File {
    let (connection, _) = socket.accept().expect("a connection");
    let fd = glassbox::sys::socket::recv_fd(&connection).expect("recvmsg");
    fd.expect("a descriptor came").into()
}

/// What comes out of a terminal up to a word.
fn read_until(terminal: &mut std::fs::File, word: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0u8; 256];
    while !text.contains(word) {
        match terminal.read(&mut buffer) {
            Ok(n) if n > 0 => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            _ => panic!("the terminal closed after {text:?}"),
        }
    }
    text
}

#[test]
fn a_console_socket_takes_the_terminal() {
    needs!("root");
    let script = "tty; stty size; echo end; exec sleep 100";
    let mut box_ = Runtime::new("console", script);
    box_.bundle.process()["terminal"] = true.into();
    box_.bundle.process()["consoleSize"] = json!({"height": 31, "width": 77});
    std::fs::create_dir(box_.path("rootfs/dev/pts")).unwrap();
    box_.bundle.mount(
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["newinstance", "ptmxmode=0666", "mode=0620"]}),
    );
    box_.create(&[]).fails("nobody takes it");
    box_.nothing_left();
    let path = box_.path("console.sock").display().to_string();
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    box_.create(&["--console-socket", &path]).ok();
    let mut outer = terminal(&socket);
    box_.run(&["start"]).ok();
    let said = read_until(&mut outer, "end");
    assert!(said.contains("/dev/") && said.contains("31 77"), "{said}");
    let id = box_.id.as_str();
    let words = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        &path,
        id,
        "sh",
        "-c",
        "tty; echo end; sleep 50",
    ];
    box_.go(box_.command(&words)).ok();
    let said = read_until(&mut terminal(&socket), "end");
    assert!(said.contains("/dev/pts/"), "{said}");
    box_.delete();
}

#[test]
fn the_descriptors_that_are_preserved_and_no_others() {
    needs!("root");
    let list = "ls -l /proc/self/fd; echo $LISTEN_FDS $LISTEN_PID; cat <&3";
    let mut box_ = Runtime::new("fds", list);
    std::fs::write(box_.path("given"), "given\n").unwrap();
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let binary = common::binary().display().to_string();
    let state = box_.state_root().display().to_string();
    // 3 is given, 4 is open and not given. `ls` itself opens the directory as the next one.
    let shell = |options: &str, env: &str, operation: &str| {
        let script = format!(
            "{env} exec {binary} runtime --root {state} {operation} {options} 3<{bundle}/given 4</etc/passwd"
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]);
        box_.go(command).ok()
    };
    let id = box_.id.clone();
    let run = format!("run --bundle {bundle} {id}");
    let said = shell("--preserve-fds 1", "", &run);
    assert!(
        said.out.contains("/given") && said.out.ends_with("given\n"),
        "{said:?}"
    );
    assert!(
        !said.out.contains("passwd") && !said.out.contains("state"),
        "{said:?}"
    );
    let said = shell("", "LISTEN_FDS=1", &run);
    assert!(said.out.contains("\n1 1\ngiven"), "{said:?}");
    assert!(!said.out.contains("passwd"), "{said:?}");
    let none = box_.bundle.config["process"]["args"].clone();
    box_.bundle.config["process"]["args"] = json!(["sleep", "100"]);
    box_.up();
    let words = ["exec", "--preserve-fds", "1", &id, "sh", "-c", "true"];
    box_.go(box_.command(&words)).fails("is not open");
    let listed = format!("ls /proc/{}/fd", box_.pid());
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &listed]);
    assert_eq!(box_.go(command).ok().out, "0\n1\n2\n");
    box_.bundle.config["process"]["args"] = none;
    box_.delete();
}

#[test]
fn a_pid_file_and_the_weaker_root_and_keyring() {
    needs!("root");
    let box_ = Runtime::new("files", "exec sleep 100");
    let file = box_.path("pid").display().to_string();
    box_.create(&["--pid-file", &file, "--no-pivot", "--no-new-keyring"])
        .ok();
    assert_eq!(box_.read("pid"), box_.pid().to_string());
    let journal = box_.state_root().join(&box_.id).join("journal");
    let records = glassbox::journal::read(&journal).expect("a journal");
    let taken = |id: &str| {
        records.iter().any(|r| {
            matches!(r, glassbox::journal::Record::Event(
                glassbox::journal::Event::Begin { step, .. }) if step == id)
        })
    };
    assert!(taken("move-root") && !taken("pivot-root") && !taken("keyring"));
    box_.run(&["start"]).ok();
    let words = [
        "exec",
        &box_.id,
        "sh",
        "-c",
        "ls -d /home /rootfs 2>/dev/null; ls -d /tmp",
    ];
    assert_eq!(box_.go(box_.command(&words)).ok().out, "/tmp\n");
    box_.delete();
}

/// The process of a pidfd that is handed over on a socket.
fn pid_of_handed_over(socket: &std::os::unix::net::UnixListener) -> String {
    use std::os::fd::AsRawFd;
    let pidfd = terminal(socket);
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let info = info.expect("fdinfo");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:\t"));
    pid.expect("it is a pidfd").to_string()
}

#[test]
fn a_socket_takes_the_pidfd() {
    needs!("root");
    let box_ = Runtime::new("pidfd", "exec sleep 100");
    let path = box_.path("pidfd.sock").display().to_string();
    box_.create(&["--pidfd-socket", &path])
        .fails("cannot hand the pidfd");
    box_.nothing_left();
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    box_.create(&["--pidfd-socket", &path]).ok();
    assert_eq!(pid_of_handed_over(&socket), box_.pid().to_string());
    box_.run(&["start"]).ok();
    let file = box_.path("exec.pid").display().to_string();
    let exec = |socket: &str| {
        let words = ["exec", "--detach", "--pid-file", &file, "--pidfd-socket"];
        let more = [socket, &box_.id, "sleep", "50"];
        box_.go(box_.command(&[&words[..], &more].concat()))
    };
    exec(&path).ok();
    assert_eq!(pid_of_handed_over(&socket), box_.read("exec.pid"));
    std::fs::remove_file(&file).unwrap();
    exec("/nowhere/at-all").fails("cannot hand the pidfd");
    let sleepers = box_.run(&["ps", "--format", "json"]).ok().out;
    let all: Vec<i64> = serde_json::from_str(&sleepers).expect("process ids");
    assert_eq!(all.len(), 2, "what nobody took is not left: {sleepers}");
    box_.delete();
}

/// The directory of a process's group: of the unified tree, or of the one with this controller.
fn group_directory(pid: i64, controller: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its groups");
    let path = |head: &str| {
        let line = text.lines().find_map(|l| l.split_once(head));
        line.map(|(_, path)| path.trim_start_matches('/').to_string())
    };
    let (tree, path) = match path(&format!(":{controller}:")) {
        Some(path) => (format!("/sys/fs/cgroup/{controller}"), path),
        None => ("/sys/fs/cgroup".into(), path("0::").expect("a v2 tree")),
    };
    std::path::Path::new(&tree).join(path)
}

#[test]
fn exec_in_a_group_below_the_containers() {
    needs!("root");
    let mut box_ = Runtime::new("exec-below", "exec sleep 100");
    box_.bundle.cgroup(json!({"pids": {"limit": 50}}));
    box_.up();
    let own = group_directory(box_.pid(), "pids");
    let unified = own.join("cgroup.controllers").exists();
    std::fs::create_dir(own.join("jobs")).unwrap();
    let exec = |options: &[&str]| {
        let words = [&["exec"], options, &[&box_.id, "cat", "/proc/self/cgroup"]].concat();
        box_.go(box_.command(&words))
    };
    let (one, other) = match unified {
        true => ("/jobs", "pids:/jobs"),
        false => ("pids:jobs", "jobs"), // there is none in the other trees
    };
    let said = exec(&["--cgroup", one]).ok().out;
    let ends = |name: &str| said.lines().filter(|l| l.ends_with(name)).count();
    assert_eq!(ends("/jobs"), 1, "{said}");
    assert!(unified || ends(&box_.bundle.root.tag()) > 3, "{said}");
    let why = ["has no cgroup \"jobs\"", "has one tree"];
    exec(&["--cgroup", other]).fails(why[usize::from(unified)]);
    exec(&["--cgroup", "nothing/at/all"]).fails("has no cgroup");
    assert_eq!(exec(&["--cgroup", "../.."]).code, 1);
    let said = exec(&[]).ok().out;
    assert!(!said.contains("jobs"), "{said}");
    box_.delete();
}

/// What systemd in a container does, or an engine: it hands its controllers on.
#[test]
fn exec_follows_init_out_of_a_group_that_may_hold_nobody() {
    needs!("root", "cgroup2");
    let mut box_ = Runtime::new("exec-follows", "exec sleep 100");
    box_.bundle.cgroup(json!({"pids": {"limit": 50}}));
    box_.up();
    let own = group_directory(box_.pid(), "pids");
    let below = own.join("init.scope");
    std::fs::create_dir(&below).unwrap();
    std::fs::write(below.join("cgroup.procs"), box_.pid().to_string()).unwrap();
    std::fs::write(own.join("cgroup.subtree_control"), "+pids").unwrap();
    let exec = |options: &[&str]| {
        let words = [&["exec"], options, &[&box_.id, "cat", "/proc/self/cgroup"]].concat();
        box_.go(box_.command(&words))
    };
    let said = exec(&[]).ok().out;
    assert!(said.trim_end().ends_with("/init.scope"), "{said}");
    // Who asks for the container's own gets what the kernel says of it.
    exec(&["--cgroup", "/"]).fails("EBUSY");
    box_.delete();
}
