//! The journal is complete: every call that changes something, seen by an independent `strace -f` of
//! a whole run, stands in the container's journal, and nothing else does: the same calls, by the same
//! process, in the same order, with the same strings and the same result.

mod common;

use common::strace::{self, Call};
use common::{LeakCheck, TempRoot, binary, run_in};
use glassbox::journal::{Record, read};
use glassbox::sys::record;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Runs `glassbox run FLAGS lab COMMAND` under strace; what strace saw, and the journal.
fn both(root: &TempRoot, flags: &[&str], command: &[&str]) -> (Vec<Call>, Vec<record::Call>) {
    let trace = root.join("strace.txt");
    let out = Command::new("strace")
        .args(strace::OPTIONS)
        .arg("-o")
        .arg(&trace)
        .arg(binary())
        .args(["run", "--name", "traced"])
        .args(flags)
        .arg("lab")
        .args(command)
        .env("GLASSBOX_ROOT", root.path())
        .env(common::NO_NETWORK.0, common::NO_NETWORK.1)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("strace starts");
    assert!(out.status.success(), "{out:?}");
    let seen = strace::parse(&String::from_utf8_lossy(&std::fs::read(&trace).unwrap()));
    let journal = read(&journal_of(root)).unwrap();
    let calls = journal.into_iter().filter_map(|r| match r {
        Record::Call(call) => Some(call),
        Record::Event(_) => None,
    });
    (seen, calls.collect())
}

fn journal_of(root: &TempRoot) -> PathBuf {
    let containers = std::fs::read_dir(root.join("containers")).unwrap();
    let mut journals: Vec<PathBuf> = containers
        .map(|entry| entry.unwrap().path().join("journal"))
        .filter(|path| path.exists())
        .collect();
    assert_eq!(journals.len(), 1, "{journals:?}");
    journals.remove(0)
}

/// strace's calls that change something, by process, without what is not ours: strace's own execve
/// of the binary, and what the container's program did after it was executed.
fn ours(seen: &[Call], journal: &[record::Call], commands: &[i32]) -> BTreeMap<i32, Vec<Call>> {
    let mut by_pid: BTreeMap<i32, Vec<Call>> = BTreeMap::new();
    for call in seen {
        by_pid.entry(call.pid).or_default().push(call.clone());
    }
    // The program starts at the last execve that the journal announces for its process.
    let programs: Vec<i32> = journal
        .iter()
        .filter(|c| c.call == "execve")
        .map(|c| c.pid)
        .collect();
    by_pid.retain(|pid, _| journal.iter().any(|c| c.pid == *pid) || commands.contains(pid));
    for (pid, calls) in &mut by_pid {
        if commands.contains(pid) {
            assert_eq!(calls[0].name, "execve");
            // Before it began again from a copy of its file there was neither container nor journal.
            let again = calls
                .iter()
                .position(|c| c.name == "execveat" && c.errno.is_none());
            calls.drain(..=again.unwrap_or(0));
        }
        if programs.contains(pid)
            && let Some(at) = calls
                .iter()
                .position(|c| c.name == "execve" && c.errno.is_none())
        {
            calls.truncate(at + 1);
        }
        // The journal's own file is made long enough before the first line is in it; and what the
        // program prints goes by way of the spool into its log, which is not the story of how it was
        // made.
        let apart = |c: &Call| {
            ["ftruncate", "pwritev", "pwrite64"].contains(&c.name.as_str())
                && c.args.contains("/journal>")
                || c.name == "write" && c.args.contains("/log>") && !c.args.contains("/events/log>")
                || ["openat", "pwrite64"].contains(&c.name.as_str()) && c.args.contains("/spool")
        };
        calls.retain(|c| c.changes_state() && !apart(c));
    }
    by_pid.retain(|_, calls| !calls.is_empty());
    by_pid
}

/// The journal's calls by process. An execve is announced, for it does not come back; when it does,
/// the announcement is dropped.
fn told(journal: &[record::Call]) -> BTreeMap<i32, Vec<record::Call>> {
    let mut by_pid: BTreeMap<i32, Vec<record::Call>> = BTreeMap::new();
    for call in journal {
        let calls = by_pid.entry(call.pid).or_default();
        let announced = calls
            .last()
            .is_some_and(|c| c.call == "execve" && c.returned.is_none() && c.errno.is_none());
        if call.call == "execve" && announced {
            calls.pop();
        }
        calls.push(call.clone());
    }
    for calls in by_pid.values_mut() {
        // Marks on the own descriptors are outside the comparison on both sides.
        calls.retain(|c| c.call != "close_range");
    }
    by_pid.retain(|_, calls| !calls.is_empty());
    by_pid
}

/// A process that was made inside the container (`--init`'s child) knows only its id in there; it is
/// the one that strace saw after all the others.
fn name_as_outside(journal: &mut [record::Call], seen: &[Call]) {
    let mut outside: Vec<i32> = Vec::new();
    for call in seen {
        let known = outside.contains(&call.pid) || journal.iter().any(|c| c.pid == call.pid);
        if !known {
            outside.push(call.pid);
        }
    }
    let mut outside = outside.into_iter();
    let mut names: BTreeMap<i32, i32> = BTreeMap::new();
    for call in journal {
        if seen.iter().all(|c| c.pid != call.pid) {
            let name = names.entry(call.pid).or_insert_with(|| {
                outside
                    .next()
                    .expect("a process that strace saw and the journal does not name")
            });
            call.pid = *name;
        }
    }
}

/// What is wrong with a pair, if something is.
fn difference(seen: &Call, told: &record::Call) -> Option<String> {
    if seen.name != told.call {
        return Some("another call".into());
    }
    // The journal's result of a netlink message is the kernel's answer, which comes by another call.
    if seen.errno != told.errno && seen.name != "sendto" {
        return Some("another result".into());
    }
    if seen.name == "clone3" && seen.returned != told.returned {
        return Some("another process".into());
    }
    if let Some((what, name)) = seen.asks_for() {
        let same = told.args.starts_with(what) && told.args.contains(&name);
        return (!same).then(|| format!("it asks for {what}{name}"));
    }
    let strings = seen.strings();
    let missing = strings.iter().find(|s| {
        // Of a long text the journal keeps the beginning and the length, which strace returned.
        let shortened = || {
            let bytes = format!("\"... {} bytes", seen.returned.unwrap_or(-1));
            let begin: String = s.chars().take(100).collect();
            seen.name == "write" && told.args.ends_with(&bytes) && told.args.contains(&begin)
        };
        // What strace could not read of a netlink message is no text, and of what a link is a port goes
        // without saying.
        let bytes = seen.name == "sendto"
            && (s.contains("\\x00") || seen.args.contains(&format!("SLAVE_KIND}}, \"{s}\"")));
        !(bytes || told.args.contains(*s) || s.len() > 256 && shortened())
    });
    if let Some(string) = missing {
        return Some(format!("the string {string:?} is missing"));
    }
    if matches!(seen.name.as_str(), "setresuid" | "setresgid") && seen.args != told.args {
        return Some("other ids".into());
    }
    None
}

/// Every process's first difference.
fn faults(ours: &BTreeMap<i32, Vec<Call>>, told: &BTreeMap<i32, Vec<record::Call>>) -> Vec<String> {
    let mut faults = Vec::new();
    for pid in ours
        .keys()
        .chain(told.keys().filter(|p| !ours.contains_key(p)))
    {
        let (none, nothing) = (Vec::new(), Vec::new());
        let seen = ours.get(pid).unwrap_or(&none);
        let told = told.get(pid).unwrap_or(&nothing);
        for (i, pair) in zip_longest(seen, told).enumerate() {
            let fault = match pair {
                (Some(s), Some(t)) => match difference(s, t) {
                    None => continue,
                    Some(why) => format!(
                        "{why}:\n    strace   {}({})\n    journal  {}({})",
                        s.name, s.args, t.call, t.args
                    ),
                },
                (Some(s), None) => format!("not in the journal: {}({})", s.name, s.args),
                (None, Some(t)) => format!("strace did not see: {}({})", t.call, t.args),
                (None, None) => continue,
            };
            faults.push(format!("process {pid}, call {i}: {fault}"));
            break; // what follows is only shifted
        }
    }
    faults
}

fn compare(name: &str, flags: &[&str], command: &[&str]) {
    needs!("root", "strace");
    let root = TempRoot::new(name);
    let leaks = LeakCheck::new(&root).children();
    // Making the image is another command's story.
    run_in(&root, ["run", "--rm", "--network", "none", "lab", "true"]).success();
    let (seen, mut journal) = both(&root, flags, command);
    name_as_outside(&mut journal, &seen);
    let first = seen.first().expect("strace saw something").pid;
    let (ours, told) = (ours(&seen, &journal, &[first]), told(&journal));
    let found = faults(&ours, &told);
    // A comparison that could not fail would prove nothing: it must miss any call that is taken out.
    let all: Vec<(i32, usize)> = told
        .iter()
        .flat_map(|(pid, calls)| (0..calls.len()).map(|i| (*pid, i)))
        .collect();
    for (pid, at) in all.iter().step_by(7) {
        let mut damaged = told.clone();
        damaged.get_mut(pid).unwrap().remove(*at);
        assert!(!faults(&ours, &damaged).is_empty(), "{pid}, call {at}");
    }
    let count: usize = ours.values().map(Vec::len).sum();
    run_in(&root, ["rm", "--force", "traced"]).success();
    assert!(found.is_empty(), "{flags:?}\n{}", found.join("\n"));
    assert!(count > 100, "a container takes more than {count} calls");
    assert!(
        ours.len() >= 3,
        "client, monitor and init: {:?}",
        ours.keys()
    );
    leaks.check();
}

fn zip_longest<'a, A, B>(
    a: &'a [A],
    b: &'a [B],
) -> impl Iterator<Item = (Option<&'a A>, Option<&'a B>)> {
    (0..a.len().max(b.len())).map(|i| (a.get(i), b.get(i)))
}

/// `runtime create` and `start`: two commands, and init that both wait for, one journal.
#[test]
fn the_journal_of_create_and_start_is_complete() {
    needs!("root", "strace");
    let mut traced = common::oci::Runtime::new("journal-runtime", "sleep 0.2");
    traced.bundle.linux()["resources"] =
        serde_json::json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    traced.bundle.linux()["maskedPaths"] = serde_json::json!(["/proc/keys", "/proc/sys"]);
    traced.write();
    let under_strace = |name: &str, words: &[&str]| {
        let command = traced.command(words);
        let mut strace = Command::new("strace");
        strace
            .args(strace::OPTIONS)
            .arg("-o")
            .arg(traced.path(name));
        strace.arg(command.get_program()).args(command.get_args());
        traced.spawn(name, strace)
    };
    let bundle = traced.bundle.root.path().display().to_string();
    // strace stays with init until it has ended.
    let create = under_strace("trace1", &["create", "--bundle", &bundle, &traced.id]);
    let record = traced.state_root().join(&traced.id).join("state.json");
    common::cgroup::wait_for("a container that waits", || {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"ready\": true"))
    });
    let start = under_strace("trace2", &["start", &traced.id]);
    traced.end("trace2", start).ok();
    traced.end("trace1", create).ok();
    let seen = [traced.read("trace1"), traced.read("trace2")];
    let seen = seen.map(|text| strace::parse(&text));
    let commands = [seen[0][0].pid, seen[1][0].pid];
    // What makes the place in which the journal lies comes before it: the state directory.
    let seen = seen.map(|mut calls| {
        let opens = |c: &Call| c.name == "openat" && c.args.contains("/journal\", O_RDWR|O_CREAT");
        let at = calls.iter().position(opens).expect("a journal is opened");
        calls.drain(1..=at);
        calls
    });
    let seen = seen.concat();
    let journal = read(&traced.state_root().join(&traced.id).join("journal")).unwrap();
    let mut journal: Vec<record::Call> = journal
        .into_iter()
        .filter_map(|r| match r {
            Record::Call(call) => Some(call),
            Record::Event(_) => None,
        })
        .collect();
    name_as_outside(&mut journal, &seen);
    let (ours, told) = (ours(&seen, &journal, &commands), told(&journal));
    let found = faults(&ours, &told);
    traced.delete();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(ours.len() >= 3, "two commands and init: {:?}", ours.keys());
    for (pid, calls) in &told {
        for at in (0..calls.len()).step_by(7) {
            let mut damaged = told.clone();
            damaged.get_mut(pid).unwrap().remove(at);
            assert!(!faults(&ours, &damaged).is_empty(), "{pid}, call {at}");
        }
    }
}

#[test]
fn the_journal_of_a_plain_run_is_complete() {
    compare("journal-plain", &[], &["true"]);
}

#[test]
fn the_journal_of_a_run_with_many_flags_is_complete() {
    compare(
        "journal-flags",
        &[
            "--memory",
            "64m",
            "--pids-limit",
            "50",
            "--ulimit",
            "core=0",
            "--user",
            "1000:1000",
            "--security-opt",
            "no-new-privileges",
            "--cap-drop",
            "ALL",
            "--hostname",
            "glass",
            "--workdir",
            "/new/place",
            "--tmpfs",
            "/scratch",
            "--read-only",
            "--env",
            "A=b",
            "--label",
            "a=b",
        ],
        &["sh", "-c", "echo out; echo err >&2"],
    );
}

#[test]
fn the_journal_of_a_privileged_run_is_complete() {
    compare(
        "journal-privileged",
        &["--privileged", "--init", "--workdir", "/new/place"],
        &["true"],
    );
}

#[test]
fn the_journal_of_a_run_with_networks_is_complete() {
    needs!("root", "strace", "ip");
    let network = common::network::own_network();
    let flags = [
        "--network",
        "bridge",
        "-p",
        "127.0.0.1:8080:80",
        "-p",
        "90/udp",
    ];
    compare("journal-bridge", &flags, &["true"]);
    network.check();
}

#[test]
fn strace_is_read_right() {
    let text = "\
10 execve(\"/bin/x\", [\"x\"], 0x7ff /* 3 vars */) = 0
10 clone3({flags=CLONE_NEWNS} => {parent_tid=[11]}, 88 <unfinished ...>
11 mkdirat(AT_FDCWD</>, \"/a (b) = c\", 0755) = -1 EEXIST (File exists)
10 <... clone3 resumed>) = 11
10 write(3</sys/fs/cgroup/x>, \"1\\\"\", 2)  = 2
10 write(1<pipe:[5]>, \"1\", 1) = 1
10 setsid()                          = 10
11 chdir(\"/x\")      = -1 ENOENT (No such file or directory)
11 +++ exited with 0 +++
";
    let calls = strace::parse(text);
    let short: Vec<String> = calls
        .iter()
        .map(|c| {
            let result = c.errno.clone().or(c.returned.map(|n| n.to_string()));
            let state = if c.changes_state() {
                "changes"
            } else {
                "reads"
            };
            format!(
                "{} {} {} {state}",
                c.pid,
                c.name,
                result.unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            "10 execve 0 changes",
            "11 mkdirat EEXIST changes",
            "10 clone3 11 changes",
            "10 write 2 changes",
            "10 write 1 reads",
            "10 setsid 10 changes",
            "11 chdir ENOENT changes",
        ]
    );
    let asks = |message: &str| {
        let line = format!("10 sendto(3<socket:[5]>, [{message}], 80, 0, NULL, 0) = 80\n");
        let call = strace::parse(&line).remove(0);
        (call.changes_state(), call.asks_for())
    };
    let link =
        r#"{nlmsg_len=80, nlmsg_type=0x10 /* NLMSG_??? */}, "\x00\x14\x62\x72\x2d\x32\x62\x00""#;
    let name = "br-2b".to_string();
    assert_eq!(
        asks(link),
        (true, Some(("NETLINK_ROUTE, RTM_NEWLINK, ", name)))
    );
    let batch = r#"{nlmsg_len=20, nlmsg_type=0x10 /* NLMSG_??? */}, "\x00\x00\x00\x0a""#;
    assert_eq!(
        asks(batch),
        (true, Some(("NETLINK_NETFILTER, ", String::new())))
    );
    let list = r#"{nlmsg_len=20, nlmsg_type=0xa01 /* NLMSG_??? */}, "\x01\x00\x00\x00""#;
    assert_eq!(asks(list), (false, None));
    assert_eq!(calls[1].strings(), ["/a (b) = c"]);
    assert_eq!(calls[3].strings(), ["1\\\""]);
}
