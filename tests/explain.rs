//! Explained: the narration of records, plans and journals, and the topics.

mod common;

use glassbox::explain::{Depth, render_journal, render_plan, topics};
use glassbox::journal::{
    Action, Actor, Event, Fact, Phase, Plan, Planned, Record, Scene, Stage, Step,
};
use glassbox::sys::record::Call;

/// A step's records as the executor writes them.
struct Script(Vec<Record>);

impl Script {
    fn step(
        &mut self,
        (stage, actor, id): (Stage, Actor, &str),
        why: &str,
        calls: &[(&str, &str, i64)],
        facts: &[(&str, &str, &str, Option<bool>)],
    ) -> &mut Script {
        let pid = if actor == Actor::Parent { 100 } else { 200 };
        let at = self.0.len() as u64 * 1000;
        self.event(Event::Begin {
            step: id.into(),
            stage,
            actor,
            why: why.into(),
            pid,
            at,
        });
        for (what, before, _, _) in facts.iter().filter(|f| !f.1.is_empty()) {
            self.fact(pid, Phase::Before, what, before, None);
        }
        for (call, args, returned) in calls {
            self.0.push(Record::Call(Call {
                at,
                ns: 21_000,
                pid,
                call: (*call).into(),
                args: (*args).into(),
                returned: Some(*returned),
                errno: None,
            }));
        }
        for (what, _, after, ok) in facts {
            self.fact(pid, Phase::After, what, after, *ok);
        }
        let ns = 21_000 * calls.len() as u64;
        self.event(Event::End {
            step: id.into(),
            pid,
            ns,
            error: None,
        });
        self
    }
    fn fact(&mut self, pid: i32, phase: Phase, what: &str, value: &str, ok: Option<bool>) {
        self.event(Event::Fact {
            pid,
            phase,
            what: what.into(),
            value: Some(value.into()),
            unread: None,
            source: format!("/example/{}", what.replace(' ', "/")),
            as_expected: ok,
        });
    }
    fn event(&mut self, event: Event) {
        self.0.push(Record::Event(event));
    }
}

/// A small container, as the issue tells one.
fn container() -> Script {
    use Actor::{Init, Parent};
    let mut s = Script(Vec::new());
    s.event(Event::Operation {
        name: "create".into(),
        time: 1_795_481_100,
        at: 0,
        pid: 100,
    });
    s.step(
        (Stage::Cgroups, Parent, "limit-memory"),
        "above this the kernel reclaims, then kills",
        &[
            (
                "openat",
                "AT_FDCWD, \"/sys/fs/cgroup/glassbox/0a1b/memory.max\", O_WRONLY",
                7,
            ),
            (
                "write",
                "\"/sys/fs/cgroup/glassbox/0a1b/memory.max\", \"67108864\"",
                8,
            ),
        ],
        &[("memory.max", "max", "67108864", Some(true))],
    );
    s.step(
        (Stage::Namespaces, Parent, "clone-init"),
        "inside it will be PID 1",
        &[("clone3", "CLONE_NEWNS|CLONE_NEWPID|CLONE_NEWUTS", 4211)],
        &[("pid", "pid:[4026531836]", "pid:[4026532277]", None)],
    );
    for (id, why) in [
        ("mount-/proc", "ps and the C library read it"),
        ("mount-/dev", "a device tree of its own"),
        ("mount-/sys", "read-only, for what looks there"),
    ] {
        let target = id.trim_start_matches("mount-").to_string();
        let fsmount = ("fsmount", "5, FSMOUNT_CLOEXEC, 0", 6);
        let moved = format!("6, \"\", AT_FDCWD, {target:?}, MOVE_MOUNT_F_EMPTY_PATH");
        s.step(
            (Stage::Runtime, Init, id),
            why,
            &[
                ("fsopen", "\"proc\", FSOPEN_CLOEXEC", 5),
                fsmount,
                ("move_mount", &moved, 0),
            ],
            &[],
        );
    }
    s.step(
        (Stage::Namespaces, Init, "hostname"),
        "so that the prompt and the logs say where they are",
        &[("sethostname", "\"box\"", 0)],
        &[("host name", "debian", "debian", Some(false))],
    );
    s.event(Event::Begin {
        step: "execute".into(),
        stage: Stage::Runtime,
        actor: Init,
        why: "from here on this process is the program".into(),
        pid: 200,
        at: 9000,
    });
    s.0.push(Record::Call(Call {
        at: 9000,
        ns: 0,
        pid: 200,
        call: "execve".into(),
        args: "\"/bin/sh\", [\"sh\"], 3 variables".into(),
        returned: None,
        errno: None,
    }));
    s
}

#[test]
fn a_story_fits_a_screen_and_says_why() {
    insta::assert_snapshot!(render_journal(&container().0, Depth::Story, false));
}

#[test]
fn all_has_every_call_and_every_fact_with_its_source() {
    insta::assert_snapshot!(render_journal(&container().0, Depth::All, false));
}

#[test]
fn json_is_the_record_itself() {
    let records = container().0;
    let text = render_journal(&records, Depth::Json, false);
    let lines: Vec<String> = text.lines().map(str::to_string).collect();
    assert_eq!(glassbox::journal::parse(&lines), records);
}

#[test]
fn a_failure_is_told_with_what_was_taken_back() {
    let mut s = container();
    s.0.truncate(8); // the operation, the first step, and the beginning of the clone
    s.event(Event::End {
        step: "clone-init".into(),
        pid: 100,
        ns: 1000,
        error: Some("cannot make init: clone3(CLONE_NEWPID): ENOSPC".into()),
    });
    s.event(Event::Undo {
        step: "limit-memory".into(),
        pid: 100,
        error: None,
    });
    insta::assert_snapshot!(render_journal(&s.0, Depth::Story, false));
}

/// Sets a host name in a plan that is only shown.
#[derive(Debug)]
struct Name(&'static str);

impl Action for Name {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("sethostname", format!("{:?}", self.0))]
    }
    fn apply(&self, _: &mut Scene) -> glassbox::Result<()> {
        unreachable!("a dry run applies nothing")
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        unreachable!("a dry run reads nothing")
    }
}

#[test]
fn a_dry_run_shows_the_same_without_doing_it() {
    let mut plan = Plan::default();
    plan.push(Step::init(
        Stage::Namespaces,
        "hostname",
        "so that the prompt and the logs say where they are",
        Name("box"),
    ));
    plan.warnings.push("nothing to warn of".into());
    insta::assert_snapshot!(render_plan(&plan, Depth::Story, false));
}

#[test]
fn every_topic_has_the_form_and_known_live_values() {
    for topic in topics::all() {
        let name = topic.name;
        assert!(topic.text.starts_with("# "), "{name}: no title");
        let sections: Vec<&str> = topic
            .text
            .lines()
            .filter_map(|l| l.strip_prefix("## "))
            .collect();
        assert_eq!(sections, topics::SECTIONS, "{name}");
        let summary = topic.summary();
        assert!(
            summary.ends_with('.') && summary.len() < 140,
            "{name}: {summary:?}"
        );
        assert_eq!(topic.unknown_live_values(), [] as [String; 0], "{name}");
        assert!(
            !topic.live(std::path::Path::new("/nonexistent")).is_empty(),
            "{name} shows nothing of this host"
        );
        for (line, next) in topic.text.lines().zip(topic.text.lines().skip(1)) {
            if line.starts_with("<!-- live ") {
                assert_eq!(
                    next, "```text",
                    "{name}: a live value without an example for the book"
                );
            }
        }
        // What links lead to must exist.
        for target in topic
            .text
            .split("](")
            .skip(1)
            .filter_map(|t| t.split(')').next())
        {
            let linked = target.strip_suffix(".md").and_then(topics::find);
            assert!(
                linked.is_some_and(|t| t.name == target.trim_end_matches(".md")),
                "{name}: {target}"
            );
        }
    }
}

#[test]
fn names_are_unique_and_near_misses_are_suggested() {
    let mut names: Vec<&str> = topics::all()
        .iter()
        .flat_map(|t| t.aliases.iter().chain([&t.name]))
        .copied()
        .collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "two topics answer to one name");
    assert_eq!(
        topics::find("UID_MAP").map(|t| t.name),
        Some("user-namespaces")
    );
    for (wrong, right) in [
        ("memroy", "memory"),
        ("name-spaces", "namespaces"),
        ("secomp", "seccomp"),
        ("capabilty", "capabilities"),
    ] {
        assert_eq!(topics::near(wrong).first(), Some(&right), "{wrong}");
    }
    assert!(topics::near("qqqq").is_empty());
}

#[test]
fn every_file_of_the_topics_is_a_topic() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("book/src/topics");
    for entry in std::fs::read_dir(dir).expect("the topics").flatten() {
        let name = entry
            .path()
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            topics::find(&name).is_some_and(|t| t.name == name),
            "{name} is not listed"
        );
    }
}

#[test]
fn a_topic_shows_this_hosts_values() {
    let link = std::fs::read_link("/proc/self/ns/uts").expect("a kernel with namespaces");
    let output = common::run(["explain", "uts"]).success();
    output.out_has(&link.display().to_string());
    output.out_has("/proc/self/ns/uts");
    assert!(!output.stdout.contains("<!--"), "a marker shows:\n{output}");
    let json = common::run(["explain", "--json", "uts"]).success().json();
    assert_eq!(json["name"], "uts-namespaces");
    assert_eq!(json["live"][0]["source"], "/proc/self/ns/uts");
    assert!(
        json["live"][0]["value"]
            .as_str()
            .expect("read")
            .starts_with("uts:[")
    );
}

#[test]
fn a_topic_shows_this_users_state_and_the_trees_of_this_host() {
    let live = |topic: &str, root: &str| -> Vec<(String, String)> {
        let json = common::run(["explain", "--json", "--root", root, topic]);
        let json = json.success().json();
        let list = json["live"].as_array().expect("values").clone();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or("").to_string();
        list.iter()
            .map(|r| (text(&r["source"]), text(&r["value"]) + &text(&r["unread"])))
            .collect()
    };
    let root = common::TempRoot::new("explain-state");
    root.write("oci/oci-layout", "{}");
    let place = root.path().display().to_string();
    let images = live("images", &place);
    let layout = &images[0];
    assert_eq!(layout.0, root.join("oci/oci-layout").display().to_string());
    assert_eq!(layout.1, "{}");
    assert!(
        images[1..]
            .iter()
            .all(|(_, value)| value == "not there yet"),
        "{images:?}"
    );
    // What no tree has says so: the v2 tree of a hybrid host has nothing of a v1 controller.
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let v2 = controllers.is_ok_and(|c| c.split_whitespace().any(|c| c == "io"));
    let io = live("io", &place);
    assert_eq!(io[0].0.ends_with("io.max"), v2, "{io:?}");
    assert!(
        io.iter().all(|(_, value)| !value.contains("ENOENT")),
        "{io:?}"
    );
    // The root's mount, and no other.
    let root_mount = &live("pivot_root", &place)[1].1;
    assert_eq!(root_mount.lines().count(), 1, "{root_mount}");
}

#[test]
fn the_list_and_the_misses() {
    let list = common::run(["explain"]).success();
    list.out_has("seccomp");
    list.out_has("Controllers");
    assert!(
        common::run(["explain", "--json"])
            .success()
            .json()
            .as_array()
            .expect("rows")
            .len()
            > 35
    );
    common::run(["explain", "memroy"]).fails(125, &["memroy", "did you mean memory?"]);
    common::run(["explain", "--container", "memory"]).fails(125, &["no container"]);
}

/// The program of the real runs below: it says one word on each stream.
const PROGRAM: [&str; 3] = ["sh", "-c", "echo out; echo err >&2"];

#[test]
fn a_real_run_is_told_on_stderr_in_about_a_screen_and_its_stdout_stays_clean() {
    let root = common::TempRoot::new("explain");
    let _leak = common::LeakCheck::new(&root);
    let words = [
        "run",
        "--name",
        "told",
        "--network",
        "none",
        "--explain",
        "lab",
    ];
    let output = common::run_in(&root, words.iter().chain(&PROGRAM)).success();
    output.out_is("out");
    for part in [
        "7 containers",
        "1 namespaces",
        "6 runtime",
        "clone3",
        "pivot_root",
        "execve",
        "✓",
    ] {
        output.err_has(part);
    }
    let lines = output.stderr.lines().count();
    // An ordinary user's has the id maps too, and who root is.
    let limit = if common::is_root() { 48 } else { 60 };
    assert!(
        lines <= limit,
        "a story of {lines} lines is no story:\n{output}"
    );
    assert!(
        output.stderr.lines().all(|l| l.chars().count() <= 100),
        "a line is too long:\n{output}"
    );

    // Later the journal tells the same.
    let story = common::run_in(&root, ["explain", "--container", "told"]).success();
    for part in ["clone3", "pivot_root", "execve"] {
        story.out_has(part);
    }
    let all = common::run_in(&root, ["explain", "--depth", "all", "told"]).success();
    assert!(
        all.stdout.lines().count() > 3 * story.stdout.lines().count(),
        "{all}"
    );
    let json = common::run_in(&root, ["explain", "--json", "told"])
        .success()
        .json();
    let records = json["records"].as_array().expect("records");
    assert!(
        records.iter().any(|r| r["call"] == "pivot_root"),
        "{json:#}"
    );
    assert_eq!(json["container"].as_str().expect("an id").len(), 64);
    common::run_in(&root, ["rm", "told"]).success();
    common::run_in(&root, ["explain", "--container", "told"]).fails(125, &["no container"]);
}

/// The journal of one that goes with its container is saved only when it has lived for a moment: who
/// asks before that waits for it, and who asks again finds it on disk.
#[test]
fn one_that_is_removed_when_it_ends_is_explained_while_it_lives() {
    let root = common::TempRoot::new("explain-rm");
    let _leak = common::LeakCheck::new(&root);
    let words = [
        "run",
        "--rm",
        "-i",
        "--name",
        "brief",
        "--network",
        "none",
        "lab",
        "cat",
    ];
    let mut run = std::process::Command::new(common::binary())
        .args(words)
        .env("GLASSBOX_ROOT", root.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut input, mut output) = (run.stdin.take().unwrap(), run.stdout.take().unwrap());
    std::io::Write::write_all(&mut input, b"x").unwrap();
    std::io::Read::read_exact(&mut output, &mut [0]).unwrap(); // it runs
    for _ in 0..2 {
        let told = common::run_in(&root, ["explain", "--depth", "all", "brief"]).success();
        told.out_has("pivot_root");
        told.out_has("execve");
    }
    drop(input);
    assert!(run.wait().unwrap().success());
    common::run_in(&root, ["explain", "--container", "brief"]).fails(125, &["no container"]);
}

/// The network's steps are told together, and so are the others that a newcomer may take as one.
#[test]
fn a_run_in_a_network_is_told_in_a_screen() {
    needs!("root", "ip");
    let network = common::network::own_network();
    let root = common::TempRoot::new("explain-bridge");
    let _leak = common::LeakCheck::new(&root);
    let words = ["run", "--rm", "--network", "bridge", "--explain", "lab"];
    let output = common::run_in(&root, words.iter().chain(&PROGRAM)).success();
    for part in ["take-address-bridge", "veth", "eth0 down → up ✓", "execve"] {
        output.err_has(part);
    }
    let lines = output.stderr.lines().count();
    // On cgroup v2 one step more stands alone: the cgroup namespace.
    assert!(
        lines <= 56,
        "a story of {lines} lines is no story:\n{output}"
    );
    network.check();
}

#[test]
fn json_narration_is_one_record_a_line() {
    let root = common::TempRoot::new("explain-json");
    let _leak = common::LeakCheck::new(&root);
    let words = [
        "run",
        "--rm",
        "--network",
        "none",
        "--explain=json",
        "lab",
        "true",
    ];
    let output = common::run_in(&root, words).success();
    let lines: Vec<String> = output.stderr.lines().map(str::to_string).collect();
    let records = glassbox::journal::parse(&lines);
    assert_eq!(records.len(), lines.len(), "a line is no record:\n{output}");
    assert!(records.len() > 100, "{output}");
}

#[test]
fn a_dry_run_leaves_nothing() {
    let root = common::TempRoot::new("explain-dry");
    let _leak = common::LeakCheck::new(&root);
    let output =
        common::run_in(&root, ["run", "--dry-run", "--name", "no", "lab", "true"]).success();
    output.out_has("nothing was done");
    output.out_has("pivot_root");
    assert_eq!(common::run_in(&root, ["ps", "-aq"]).success().stdout, "");
}
