//! Published attacks on container runtimes, second part: on groups, on the host's kernel, on what init
//! shows while it waits, on a procfs that is not one, on masks that are raced.
//!
//! As in `runtime_security.rs` each is carried out for real, and each test shows that its attack, or
//! what looks for its success, does work where nothing stops it.

mod common;

use common::oci::Runtime;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the attacker must not read or change.
const NONCE: &str = "nobody has written here";

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    assert_eq!(
        common::bundle::Bundle::new("attacks", "echo here").ok(),
        "here"
    );
}

/// `docker run`'s capabilities: what a container has when nobody asks for anything.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// CVE-2014-8989. A file may be closed to a group and open to everybody else. Who makes a user
/// namespace and lets go of its groups in it is in that group no more.
#[test]
fn no_group_is_let_go_in_an_ordinary_users_namespace() {
    needs!("root", "setpriv");
    const GROUP: u32 = 4242;
    let mut box_ = Runtime::new("setgroups", "");
    let user = common::USER;
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(user), Some(user)).expect("chown");
    own(box_.bundle.root.path());
    own(&box_.path("rootfs"));
    let secret = box_.bundle.root.write("rootfs/tmp/secret", NONCE);
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o604)).expect("chmod");
    std::os::unix::fs::chown(&secret, Some(0), Some(GROUP)).expect("chown");
    let member = |groups: &str, words: &[&str]| {
        let id = user.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, groups, "--inh-caps=-all"]);
        command
            .args(words)
            .env_remove("XDG_RUNTIME_DIR")
            .env("HOME", "/nonexistent");
        command
    };
    // A member is refused; who has let go of the group is not.
    let (groups, file) = (format!("--groups={GROUP}"), secret.display().to_string());
    let reads = |groups: &str| {
        member(groups, &["cat", &file])
            .output()
            .expect("setpriv")
            .status
    };
    assert!(!reads(&groups).success() && reads("--clear-groups").success());

    let bundle = box_.bundle.root.path().display().to_string();
    let program = common::binary().display().to_string();
    let state = box_.state_root().display().to_string();
    let runtime = [program.as_str(), "runtime", "--root", &state];
    let spec = ["spec", "--rootless", "--bundle", &bundle];
    box_.go(member(&groups, &[&runtime[..], &spec].concat()))
        .ok();
    let mut config: serde_json::Value =
        serde_json::from_str(&box_.read("config.json")).expect("JSON");
    std::fs::create_dir(box_.path("rootfs/sys")).expect("a directory");
    config["process"]["terminal"] = false.into();
    let caps = json!(["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"]);
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = caps.clone();
    }
    let script = "cat /proc/self/setgroups; setpriv --clear-groups cat /tmp/secret; \
                  setpriv --groups 0 cat /tmp/secret; unshare -U setpriv --clear-groups cat /tmp/secret; \
                  cat /tmp/secret; echo tried";
    config["process"]["args"] = json!(["sh", "-c", script]);
    let programs = box_.bundle.config["mounts"].as_array().expect("mounts")[2..].to_vec();
    config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .extend(programs);
    std::fs::write(box_.path("config.json"), config.to_string()).expect("config.json");
    let run = [&runtime[..], &["run", "--bundle", &bundle, &box_.id]].concat();
    let said = box_.go(member(&groups, &run)).ok();
    assert_eq!(said.out, "deny\ntried\n", "{}", said.err);
    box_.bundle.config = config;
}

/// CVE-2022-0492. The program that release_agent names is executed by the host's kernel as the
/// host's root. With the capabilities that a container has by default nobody gets there: not by
/// the hierarchies that are mounted for it, not by mounting one, not from a user namespace.
#[test]
fn no_release_agent_is_set_with_default_capabilities() {
    needs!("root");
    if !std::fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.contains("\tcgroup\n")) {
        return common::skip("needs cgroup1: this kernel does not have it");
    }
    let script = r#"
        mkdir /tmp/cg
        for f in $(find /sys/fs/cgroup -name release_agent); do
            (echo /evil > $f) && echo "set $f"
        done 2>/dev/null
        mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo "set rw"
        try='mount -t cgroup -o none,name=glassbox-NAME cgroup /tmp/cg &&
             echo /evil > /tmp/cg/release_agent && echo "set by mount"; umount /tmp/cg'
        (eval "$try"; unshare -UrmC sh -c "$try") 2>/dev/null
        echo tried"#;
    let run = |caps: serde_json::Value| {
        let mut box_ = Runtime::new("agent", "");
        let script = script.replace("NAME", &box_.id);
        box_.bundle.process()["args"] = json!(["sh", "-c", script]);
        box_.bundle.mount(
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["ro"]}),
        );
        box_.bundle
            .mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup",
            "source": "cgroup", "options": ["ro", "nosuid"]}));
        std::fs::create_dir(box_.path("rootfs/sys")).expect("a directory");
        for set in ["bounding", "effective", "permitted"] {
            if !caps.is_null() {
                box_.bundle.process()["capabilities"][set] = caps.clone();
            }
        }
        box_.write();
        let bundle = box_.bundle.root.path().display().to_string();
        box_.run(&["run", "--bundle", &bundle]).ok().out
    };
    assert_eq!(run(json!(DEFAULT)), "tried\n");
    // Who has all capabilities does it, on a hierarchy that goes with its mount.
    let all = run(json!(null));
    assert!(all.contains("set by mount\n"), "{all}");
}

/// What of this process leads to a directory outside: descriptors, and the working directory.
fn leads_out(pid: i64) -> Vec<String> {
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let own = std::fs::metadata(of("root")).expect("its root");
    let inside = |m: &std::fs::Metadata| (m.dev(), m.ino()) == (own.dev(), own.ino());
    let names = std::fs::read_dir(of("fd"))
        .expect("its descriptors")
        .flatten();
    let mut ways: Vec<String> = names.map(|n| n.path().display().to_string()).collect();
    ways.push(of("cwd"));
    ways.retain(|way| std::fs::metadata(way).is_ok_and(|m| m.is_dir() && !inside(&m)));
    ways
}

/// CVE-2024-21626, on the process that waits in `created`: a container that sees it (it shares the
/// pid namespace) walks out by its descriptors and its working directory.
#[test]
fn who_waits_to_be_started_shows_no_way_out() {
    needs!("root");
    let box_ = Runtime::new("waits", "exec sleep 100");
    box_.bundle.root.write("nonce", NONCE);
    box_.write();
    let (bundle, id) = (box_.bundle.root.path().display().to_string(), &box_.id);
    let leaky = "cd \"$0\"; exec 3<. 4</ 7<. 9</; exec \"$@\"";
    let runtime = box_.command(&["create", "--bundle", &bundle, id]);
    let mut words = vec!["-c".into(), leaky.into(), (&bundle).into()];
    words.push(runtime.get_program().to_owned());
    words.extend(runtime.get_args().map(|a| a.to_owned()));
    let mut command = Command::new("sh");
    command.args(&words);
    box_.end("create", box_.spawn("create", command)).ok();
    let init = box_.pid();
    assert_eq!(leads_out(init), Vec::<String>::new());
    // That would be seen: a process that was not rid of them.
    let mut other = Command::new("sh");
    other.args(["-c", leaky, &bundle, "sleep", "100"]);
    let mut other = other.stdout(Stdio::null()).spawn().expect("sh");
    let seen = || leads_out(other.id().into());
    // The root itself is no way out of that root.
    common::cgroup::wait_for("three ways", || seen().len() == 3);
    let _ = other.kill();
    let _ = other.wait();

    // And by a container that sees it and has all capabilities.
    let script = "for p in /proc/[0-9]*; do for way in $p/cwd $p/fd/*; do \
                  cat $way/nonce $way/../nonce $way/../../nonce $way/etc/hostname; done; done 2>/dev/null; \
                  ls /proc | grep -c '^[0-9]'";
    let mut guest = Runtime::new("guest", script);
    let namespaces = guest.bundle.linux()["namespaces"]
        .as_array_mut()
        .expect("a list");
    let pid = namespaces
        .iter_mut()
        .find(|n| n["type"] == "pid")
        .expect("pid");
    pid["path"] = json!(format!("/proc/{init}/ns/pid"));
    guest.write();
    let bundle = guest.bundle.root.path().display().to_string();
    let said = guest.run(&["run", "--bundle", &bundle]).ok().out;
    let seen: u32 = said.trim().parse().expect("only a number");
    assert!(seen > 2, "it sees init: {said}");
    box_.delete();
}

/// CVE-2019-16884 and CVE-2025-52881: what is mounted at /proc is no procfs, but a tmpfs or a
/// directory of the attacker's whose files have the right names. Settings of the process would be
/// written there, and nobody would notice that they do not hold.
#[test]
fn settings_are_written_to_no_lookalike_of_proc() {
    needs!("root");
    let real = |pid: &str| format!("mkdir /tmp/p; mount -t proc proc /tmp/p; cat /tmp/p/{pid}");
    for kind in ["tmpfs", "bind"] {
        let script = format!(
            "{}/oom_score_adj /tmp/p/sys/kernel/msgmax; exec sleep 100",
            real("self")
        );
        let mut box_ = Runtime::new("lookalike", &script);
        let fake = box_.path("fake");
        let files = [
            "self/oom_score_adj",
            "1/oom_score_adj",
            "sys/kernel/msgmax",
            "self/status",
        ];
        for file in files {
            let file = fake.join(file);
            std::fs::create_dir_all(file.parent().expect("a parent")).expect("directories");
            std::fs::write(&file, NONCE).expect("a file");
        }
        symlink("self", fake.join("thread-self")).expect("a link");
        let mounts = box_.bundle.config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|m| m["destination"] != "/proc");
        let source = match kind {
            "tmpfs" => json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}),
            _ => {
                json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["bind"]})
            }
        };
        mounts.insert(0, source);
        box_.bundle.linux()["sysctl"] = json!({"kernel.msgmax": "12345"});
        box_.bundle.process()["oomScoreAdj"] = json!(123);
        box_.up();
        common::cgroup::wait_for("its values", || box_.read("create.out") == "123\n12345\n");
        // And who is executed there, when the lookalike is all that it sees.
        let process = json!({"args": ["sh", "-c", "cat /tmp/p/self/oom_score_adj"], "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 321});
        let file = box_.bundle.root.write("process.json", process.to_string());
        let file = file.display().to_string();
        let said = box_
            .go(box_.command(&["exec", "--process", &file, &box_.id]))
            .ok();
        assert_eq!(said.out, "321\n", "{kind}");
        for file in files {
            assert_eq!(std::fs::read_to_string(fake.join(file)).expect("it"), NONCE);
        }
        box_.delete();
    }
}

/// CVE-2023-27561 and CVE-2025-31133, raced by another container that has the same volume: it is
/// /dev of the one that is made, and its null becomes a link; a directory below which paths are
/// masked becomes a link into /proc.
#[test]
fn masks_that_another_container_races() {
    needs!("root", "python3");
    let mut thief = Runtime::new("thief", "");
    let volume = thief.path("volume");
    std::fs::create_dir_all(volume.join("place")).expect("a volume");
    thief.bundle.root.write("volume/place/interrupts", NONCE);
    symlink("/proc", volume.join("link")).expect("a link");
    thief.bundle.root.write("volume/null", "");
    symlink("/proc/sys/kernel/core_pattern", volume.join("evil")).expect("a link");
    // RENAME_EXCHANGE is 2.
    let swap = "import ctypes, os; c = ctypes.CDLL(None).renameat2; os.chdir('/volume'); n = 0\n\
                while not os.path.exists('stop'):\n  \
                for a, b in ((b'null', b'evil'), (b'place', b'link')):\n    \
                n += c(-100, a, -100, b, 2) == 0\n\
                open('swaps', 'w').write(str(n))";
    thief.bundle.process()["args"] = json!(["python3", "-c", swap]);
    let shared = |at: &str| json!({"destination": at, "type": "bind", "source": volume, "options": ["rbind"]});
    thief.bundle.mount(shared("/volume"));
    thief.up();

    let pattern = || std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("it");
    let (before, mounts) = (pattern(), || {
        std::fs::read_to_string("/proc/self/mountinfo").expect("mounts")
    });
    let mut made = 0;
    let until = Instant::now() + Duration::from_secs(20); // a slow machine tries less often
    for _ in (0..40).take_while(|n| *n < 3 || Instant::now() < until) {
        // What must be masked is read, and the host's parameter written through what masks it.
        let script = "cat /proc/interrupts /proc/timer_list /proc/keys; \
                      stat -Lc %t:%T /proc/interrupts /proc/timer_list /proc/keys; \
                      echo /evil > /proc/interrupts; true";
        let mut box_ = Runtime::new("raced", script);
        let list = box_.bundle.config["mounts"].as_array_mut().expect("mounts");
        list.retain(|m| m["destination"] != "/dev");
        box_.bundle.mount(shared("/dev"));
        box_.bundle.linux()["maskedPaths"] = json!([
            "/proc/interrupts",
            "/proc/timer_list",
            "/dev/place/interrupts",
            "/proc/keys"
        ]);
        box_.bundle.linux()["readonlyPaths"] = json!(["/dev/place"]);
        box_.write();
        let bundle = box_.bundle.root.path().display().to_string();
        let said = box_.run(&["run", "--bundle", &bundle]);
        // Made, with every mask where it belongs; or refused. Both are good.
        if said.code == 0 {
            made += 1;
            assert_eq!(said.out, "1:3\n1:3\n1:3\n", "{}", said.err);
        }
        assert_eq!(pattern(), before);
    }
    std::fs::write(volume.join("stop"), "").expect("a file");
    common::cgroup::wait_for("the count", || volume.join("swaps").exists());
    common::cgroup::wait_for("its number", || {
        std::fs::read_to_string(volume.join("swaps"))
            .is_ok_and(|n| n.parse().is_ok_and(|n: u64| n > 100))
    });
    assert!(made > 0, "none was made: nothing was raced");
    assert!(!mounts().contains(&thief.bundle.root.tag()), "{}", mounts());
    thief.delete();
}
