//! Who the program of config.json is and what it may: ids, limits, capabilities, the filter of system
//! calls and the agent that some of them are left to.

mod common;

use common::bundle::Bundle;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    assert_eq!(Bundle::new("bundle", "echo here").ok(), "here");
}

/// Lines of /proc/self/status.
fn status(names: &str) -> String {
    format!("grep -E '^({names})' /proc/self/status | tr '\\t' ' ' | tr -s ' ' | sed 's/ $//'")
}

#[test]
fn user_groups_and_mask() {
    needs!("root");
    let script = format!(
        "{}; touch /tmp/made; mkdir /tmp/dir; stat -c '%a %u:%g' /tmp/made /tmp/dir",
        status("Uid|Gid|Groups|Umask")
    );
    let mut bundle = Bundle::new("user", &script);
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}));
    bundle.process()["user"] =
        json!({"uid": 1000, "gid": 2000, "umask": 0o027, "additionalGids": [5, 7, 2001]});
    assert_eq!(
        bundle.ok(),
        "Umask: 0027\nUid: 1000 1000 1000 1000\nGid: 2000 2000 2000 2000\nGroups: 5 7 2001\n\
         640 1000:2000\n750 1000:2000"
    );
    bundle.process()["user"] = json!({"uid": 0, "gid": 0});
    assert!(
        bundle.ok().starts_with("Umask: 0022\n"),
        "whatever the caller's is"
    );
}

#[test]
fn resource_limits() {
    needs!("root");
    let script = "ulimit -n; ulimit -Hn; ulimit -c; ulimit -u; ulimit -s";
    let limit =
        |name: &str, soft: u64, hard: u64| json!({"type": name, "soft": soft, "hard": hard});
    let mut bundle = Bundle::new("rlimits", script);
    bundle.process()["args"] = json!(["bash", "-c", script]);
    bundle.process()["rlimits"] = json!([
        limit("RLIMIT_NOFILE", 100, 200),
        limit("RLIMIT_CORE", 0, 0),
        limit("RLIMIT_NPROC", 77, 88),
        limit("RLIMIT_STACK", 4 << 20, 8 << 20)
    ]);
    assert_eq!(bundle.ok(), "100\n200\n0\n77\n4096");
    for (limits, why) in [
        (
            json!([limit("RLIMIT_NOFILE", 1, 1), limit("RLIMIT_NOFILE", 2, 2)]),
            "twice",
        ),
        (json!([limit("RLIMIT_X", 1, 1)]), "RLIMIT_X"),
        (
            json!([limit("RLIMIT_NOFILE", 2, 1)]),
            "soft limit may not be above",
        ),
    ] {
        bundle.process()["rlimits"] = limits;
        let refused = bundle.refused();
        assert!(refused.contains(why), "{why}: {refused}");
    }
    // Fewer than init itself has open.
    for (soft, hard) in [(5, 6), (5, 600)] {
        bundle.process()["args"] = json!(["bash", "-c", "ulimit -n; ulimit -Hn"]);
        bundle.process()["rlimits"] = json!([limit("RLIMIT_NOFILE", soft, hard)]);
        let ran = bundle.run();
        assert_eq!(ran.stdout, format!("{soft}\n{hard}\n"), "{}", ran.stderr);
    }
}

#[test]
fn five_sets_of_capabilities() {
    needs!("root");
    let script = status("Cap|NoNewPrivs");
    let mut bundle = Bundle::new("capabilities", &script);
    bundle.process()["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.process()["noNewPrivileges"] = json!(true);
    // Of an ordinary user only what is ambient outlives execve, and it must be inheritable.
    bundle.process()["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_KILL"], "ambient": ["CAP_KILL"]});
    assert_eq!(
        bundle.ok(),
        "CapInh: 0000000000000021\nCapPrm: 0000000000000020\nCapEff: 0000000000000020\n\
         CapBnd: 0000000000002021\nCapAmb: 0000000000000020\nNoNewPrivs: 1"
    );
    bundle.process()["capabilities"]["ambient"] = json!(["CAP_NET_RAW"]);
    let refused = bundle.refused();
    assert!(
        refused.contains("CAP_NET_RAW") || refused.contains("ambient"),
        "{refused}"
    );
    bundle.process()["capabilities"] = json!({"bounding": ["CAP_FLY"]});
    assert!(bundle.refused().contains("CAP_FLY"));
}

#[test]
fn the_score_of_the_out_of_memory_killer() {
    needs!("root");
    let mut bundle = Bundle::new("oom", "cat /proc/self/oom_score_adj");
    bundle.process()["oomScoreAdj"] = json!(321);
    assert_eq!(bundle.ok(), "321");
    bundle.process()["oomScoreAdj"] = json!(1001);
    assert!(bundle.refused().contains("between -1000 and 1000"));
    // Lower than the caller's needs a capability that a user's container has only in its namespace.
    bundle.process()["oomScoreAdj"] = json!(-500);
    bundle.around = Some("exec setpriv --bounding-set=-sys_resource \"$@\"".into());
    let list = bundle.process()["capabilities"].as_object_mut().unwrap();
    for set in list.values_mut() {
        set.as_array_mut()
            .unwrap()
            .retain(|c| c != "CAP_SYS_RESOURCE");
    }
    let refused = bundle.refused();
    assert!(refused.contains("CAP_SYS_RESOURCE"), "{refused}");
}

#[test]
fn what_a_default_says_and_what_a_rule_says() {
    needs!("root", "python3");
    // Everything is allowed but for three calls; errno 0 is a call that succeeds without being made.
    let script = "import os
for call, args in [(os.getppid, ()), (os.sync, ()), (os.mkdir, ('/tmp/x',)), (os.nice, (0,)), (os.setsid, ())]:
    try: print(call.__name__, call(*args))
    except OSError as e: print(call.__name__, e.errno)";
    let mut bundle = Bundle::new("errno", "");
    bundle.process()["args"] = json!(["python3", "-Sc", script]);
    let rule = |names: Value, action: &str, errno: Value| json!({"names": names, "action": action, "errnoRet": errno});
    bundle.linux()["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule(json!(["mkdir", "mkdirat"]), "SCMP_ACT_ERRNO", json!(122)),
        rule(json!(["setsid"]), "SCMP_ACT_ERRNO", json!(null)),
    ]});
    assert_eq!(
        bundle.ok(),
        "getppid 0\nsync None\nmkdir 122\nnice 0\nsetsid 1"
    );
    // A default with an errno of its own, for all that is not listed: the usual calls are.
    let profile = glassbox::security::seccomp::profile::docker_default(
        glassbox::security::capabilities::DOCKER_DEFAULT,
        glassbox::spec::runtime::SeccompArch::X86_64,
        (6, 18),
    );
    let mut profile = serde_json::to_value(profile).unwrap();
    profile["defaultErrnoRet"] = json!(95);
    bundle.linux()["seccomp"] = profile;
    bundle.process()["noNewPrivileges"] = json!(true);
    let script = "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x4000000), ctypes.get_errno())";
    bundle.process()["args"] = json!(["python3", "-c", script]);
    assert_eq!(bundle.ok(), "-1 95");
}

#[test]
fn flags_of_the_filter_reach_the_kernel() {
    needs!("root", "strace");
    for no_new_privileges in [false, true] {
        let mut bundle = Bundle::new("flags", &status("Seccomp"));
        bundle.process()["noNewPrivileges"] = json!(no_new_privileges);
        bundle.linux()["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_KILL_PROCESS"}]});
        bundle.around = Some(
            "exec strace -f -qq -e trace=seccomp -o $GLASSBOX_TEST_BUNDLE/strace \"$@\"".into(),
        );
        let said = bundle.ok();
        assert!(said.starts_with("Seccomp: 2\nSeccomp_filters: "), "{said}");
        let strace = std::fs::read_to_string(bundle.root.join("strace")).unwrap();
        let call = strace
            .lines()
            .find(|l| l.contains("SET_MODE_FILTER"))
            .expect("seccomp(2)");
        for flag in ["TSYNC", "LOG", "SPEC_ALLOW"] {
            assert!(
                call.contains(&format!("SECCOMP_FILTER_FLAG_{flag}")),
                "{call}"
            );
        }
        // About listeners, of which there is none.
        assert!(
            !call.contains("WAIT_KILLABLE") && call.ends_with("= 0"),
            "{call}"
        );
    }
}

/// The agent of `tests/fixtures/seccomp-agent.py`, listening.
struct Agent(Child, BufReader<std::process::ChildStdout>);

impl Agent {
    fn new(socket: &Path, message: &Path) -> Agent {
        Agent::of(socket, message, "1")
    }
    /// For as many processes.
    fn of(socket: &Path, message: &Path, connections: &str) -> Agent {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/seccomp-agent.py"
        );
        let mut child = Command::new("python3")
            .args([Path::new(program), socket, message])
            .arg(connections)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        assert_eq!(line, "listening\n");
        Agent(child, out)
    }
    /// What it decided about, when its container has ended.
    fn end(mut self) -> Vec<String> {
        let decided = self.1.by_ref().lines().map(|l| l.unwrap()).collect();
        assert!(self.0.wait().expect("our child").success());
        decided
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

fn with_agent(name: &str, calls: &[&str]) -> Bundle {
    let script = "mkdir /tmp/a 2>&1; ls /tmp; grep -E '^(Pid|Seccomp):' /proc/self/status";
    let mut bundle = Bundle::new(name, script);
    bundle.linux()["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": bundle.root.join("agent"), "listenerMetadata": "for the agent",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{"names": calls, "action": "SCMP_ACT_NOTIFY"}]});
    bundle.config["annotations"] = json!({"org.example.note": "kept"});
    bundle
}

#[test]
fn an_agent_decides_about_calls() {
    needs!("root", "python3");
    // The last: also those by which a descriptor could be handed over, and the program itself.
    for (early, calls) in [
        (false, &["mkdir", "mkdirat"][..]),
        (true, &["mkdir", "mkdirat"]),
        (
            true,
            &[
                "mkdir", "mkdirat", "sendmsg", "sendto", "recvfrom", "read", "execve",
            ],
        ),
        (
            false,
            &[
                "mkdir", "mkdirat", "sendmsg", "sendto", "recvfrom", "read", "execve",
            ],
        ),
    ] {
        let mut bundle = with_agent("agent", calls);
        bundle.process()["noNewPrivileges"] = json!(!early);
        let message = bundle.root.join("message");
        let agent = Agent::new(&bundle.root.join("agent"), &message);
        let ran = bundle.run();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        // EDQUOT is the agent's answer.
        assert!(ran.stdout.contains("Disk quota exceeded"), "{}", ran.stdout);
        assert!(ran.unexpected().is_empty(), "{:#?}", ran.unexpected());
        let decided = agent.end();
        assert!(
            decided.iter().any(|l| l.starts_with("mkdir")),
            "{decided:?}"
        );
        let state: Value = serde_json::from_slice(&std::fs::read(message).unwrap()).unwrap();
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the agent");
        assert_eq!(state["ociVersion"], "1.3.0");
        assert_eq!(state["state"]["id"], "box");
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["bundle"], json!(bundle.root.path()));
        assert_eq!(state["state"]["annotations"]["org.example.note"], "kept");
        let pid = state["pid"].as_i64().unwrap();
        assert_eq!(state["state"]["pid"], pid);
        let clone = ran.journal.iter().find_map(|r| match r {
            glassbox::journal::Record::Call(c) if c.call == "clone3" => c.returned,
            _ => None,
        });
        assert_eq!(clone, Some(pid), "init's id on the host");
        if calls.contains(&"execve") {
            assert!(decided.contains(&format!("execve {pid}")), "{decided:?}");
        }
    }
}

/// A process that joins has the container's filter, so the same agent decides about it: it is told
/// the process that has joined, and the container that it belongs to.
#[test]
fn an_agent_decides_about_the_calls_of_exec() {
    needs!("root", "python3");
    for (user_namespace, no_new_privs) in [(false, false), (false, true), (true, true)] {
        let mut bundle = with_agent("agent-exec", &["mkdir", "mkdirat", "sendmsg", "read"]);
        bundle.process()["args"] = json!(["sleep", "300"]);
        if user_namespace {
            bundle.user_namespace();
        }
        bundle.process()["noNewPrivileges"] = json!(no_new_privs);
        let message = bundle.root.join("message");
        let agent = Agent::of(&bundle.root.join("agent"), &message, "2");
        drop(bundle.command());
        let id = bundle.root.tag();
        let out = bundle.root.join("out");
        let runtime = |args: &[&str]| {
            // A file and no pipe: the container keeps it open.
            let file = std::fs::File::create(&out).expect("a file");
            let status = Command::new("timeout")
                .args(["-s", "KILL", "30"])
                .arg(common::binary())
                .args(["runtime", "--root"])
                .arg(bundle.root.join("state"))
                .args(args)
                .stdin(Stdio::null())
                .stdout(file.try_clone().expect("a copy"))
                .stderr(file)
                .status();
            let said = std::fs::read_to_string(&out).expect("it");
            (status.expect("it starts").success(), said)
        };
        let at = bundle.root.path().to_str().expect("UTF-8");
        let created = runtime(&["create", "--bundle", at, &id]);
        let started = runtime(&["start", &id]);
        let exec = runtime(&["exec", &id, "sh", "-c", "mkdir /tmp/b 2>&1; ls /tmp"]);
        runtime(&["delete", "--force", &id]);
        assert!(created.0 && started.0, "{created:?} {started:?}");
        let (ended_well, said) = exec;
        assert!(ended_well, "{said}");
        assert!(
            said.contains("Disk quota exceeded") && !said.ends_with("b\n"),
            "{said}"
        );
        let decided = agent.end();
        assert!(decided.iter().any(|l| l.starts_with("mkdir")));
        let state = |path| -> Value {
            serde_json::from_slice(&std::fs::read(path).expect("a state")).expect("JSON")
        };
        let (init, exec) = (state(message), state(bundle.root.join("message.2")));
        assert_eq!(exec["fds"], json!(["seccompFd"]));
        assert_eq!(exec["metadata"], "for the agent");
        assert_eq!(exec["state"]["id"], json!(id));
        assert_eq!(exec["state"]["status"], "running");
        assert_eq!(exec["state"]["bundle"], json!(bundle.root.path()));
        assert_eq!(exec["state"]["annotations"]["org.example.note"], "kept");
        assert_eq!(exec["state"]["pid"], init["pid"], "the container's");
        let pid = exec["pid"].as_i64().expect("its own");
        assert_ne!(exec["pid"], init["pid"]);
        assert!(
            decided.iter().any(|l| l.ends_with(&format!(" {pid}"))),
            "{decided:?}"
        );
    }
}

#[test]
fn a_filter_without_its_agent_is_refused() {
    needs!("root");
    let mut bundle = with_agent("no-agent", &["mkdir"]);
    let refused = bundle.refused();
    assert!(
        refused.contains("ENOENT") && refused.contains("nobody listens there"),
        "{refused}"
    );
    bundle.linux()["seccomp"]["listenerPath"] = json!("");
    let refused = bundle.refused();
    assert!(refused.contains("listenerPath names no agent"), "{refused}");
    let mut bundle = with_agent("agent-write", &["write"]);
    assert!(
        bundle
            .refused()
            .contains("SCMP_ACT_NOTIFY cannot be used for write")
    );
    // Without a rule for it the socket has no meaning, and nobody need be there.
    bundle.linux()["seccomp"]["syscalls"] = json!([]);
    assert_eq!(bundle.run().code, 0);
}

#[test]
fn what_this_build_cannot_do_is_refused() {
    for (section, field, value) in [
        ("process", "apparmorProfile", json!("docker-default")),
        (
            "process",
            "selinuxLabel",
            json!("system_u:system_r:container_t:s0"),
        ),
        ("linux", "intelRdt", json!({"closID": "guaranteed"})),
        (
            "linux",
            "mountLabel",
            json!("system_u:object_r:container_file_t:s0"),
        ),
    ] {
        let mut bundle = Bundle::new("unsupported", "true");
        bundle.config[section][field] = value;
        let refused = bundle.refused();
        assert!(refused.contains(&format!("{section}.{field}")), "{refused}");
    }
}
