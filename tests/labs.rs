//! The labs: each is unsolved at its start, passes with each of its solutions, refuses each of its
//! wrong answers, and leaves nothing behind.
//!
//! A wrong answer says in its first lines at which task it must be refused (`# refused: uts`) and
//! what it needs (`# needs: root`). Those that damage "the host" run, with the whole lab, in
//! namespaces that play the host.

mod common;

use common::{LeakCheck, Run, TempRoot};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The labs' folders.
fn folders() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
    let mut found: Vec<PathBuf> = std::fs::read_dir(top)
        .expect("labs")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect();
    found.sort();
    found
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join(name)).expect(name).flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder:?} has no {name}");
    files
}

fn lab(root: &TempRoot, args: &[&str]) -> common::Output {
    Run::new(["lab"].iter().chain(args))
        .env("GLASSBOX_ROOT", root)
        .go()
}

/// Why ordinary users' namespaces cannot be made here, if they cannot.
fn no_user_namespaces() -> Option<String> {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => None,
        Ok(_) => Some("this host refuses user namespaces".into()),
        Err(e) => Some(format!("needs the program unshare: {e}")),
    }
}

/// Runs an answer with the learner's values, waits until it has written its pid, and gives it a
/// moment to become what it wants to be: until the check's report stays the same.
fn answer(root: &TempRoot, number: &str, file: &Path) {
    let env = lab(root, &["env", number]).success().stdout;
    let program = match file.extension().and_then(|e| e.to_str()) {
        Some("py") => "python3",
        _ => "sh",
    };
    let bin = common::binary();
    let path = format!(
        "{}:{}",
        bin.parent().expect("a folder").display(),
        std::env::var("PATH").expect("PATH")
    );
    let mut command = Command::new(program);
    command
        .arg(file)
        .env("PATH", path)
        .stdin(Stdio::null())
        .env(common::NO_NETWORK.0, common::NO_NETWORK.1)
        .env("GLASSBOX_ROOT", root);
    for line in env.lines() {
        let (name, value) = line
            .trim_start_matches("export ")
            .split_once('=')
            .expect("NAME='…'");
        command.env(name, value.trim_matches('\''));
    }
    let output = command.output().expect("the answer runs");
    assert!(
        output.status.success(),
        "{file:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Checks until the report is what `wanted` says or does not change any more.
fn settled(
    root: &TempRoot,
    number: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let mut report = serde_json::Value::Null;
    for _ in 0..100 {
        report = lab(root, &["check", number, "--json"]).json();
        if wanted(&report) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    report
}

fn state<'a>(report: &'a serde_json::Value, task: &str) -> &'a str {
    let tasks = report["tasks"].as_array().expect("tasks");
    let found = tasks
        .iter()
        .find(|t| t["id"] == task)
        .unwrap_or_else(|| panic!("no task {task}"));
    found["state"].as_str().expect("a state")
}

fn end_leftover_process(root: &TempRoot, folder: &Path) {
    // A wrong answer may be a plain process of the host's, which a reset rightly leaves alone.
    let name = folder.file_name().expect("a name");
    let file = root.path().join("labs").join(name).join("work/pid");
    if let Ok(text) = std::fs::read_to_string(file)
        && let Ok(pid) = text.trim().parse::<i32>()
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

fn number(folder: &Path) -> String {
    let name = folder.file_name().expect("a name").to_string_lossy();
    name.split('-')
        .next()
        .expect("NN-name")
        .trim_start_matches('0')
        .to_string()
}

#[test]
fn a_lab_is_unsolved_at_its_start() {
    let root = TempRoot::new("lab");
    let _leak = LeakCheck::new(&root);
    for folder in folders() {
        let number = number(&folder);
        lab(&root, &["check", &number]).fails(125, &["is not started", "lab start"]);
        let text = lab(&root, &["start", &number]).success();
        assert!(
            !text.stdout.contains("{dir}"),
            "a placeholder is left:\n{text}"
        );
        lab(&root, &["start", &number]).fails(125, &["started already"]);
        let report = lab(&root, &["check", &number, "--json"]).exits(1).json();
        assert_eq!(report["solved"], false);
        let hint = lab(&root, &["hint", &number]).success();
        assert!(hint.stdout.len() > 20, "no hint at the start:\n{hint}");
        lab(&root, &["reset", &number]).success();
        assert!(!root.join("labs").exists(), "the reset left files");
    }
}

#[test]
fn every_solution_passes_and_leaves_nothing() {
    if let Some(reason) = no_user_namespaces() {
        return common::skip(reason);
    }
    for folder in folders() {
        for file in files(&folder, "solutions") {
            if file.extension().is_some_and(|e| e == "py") && !common::has_program("python3") {
                common::skip(format!("needs python3 for {file:?}"));
                continue;
            }
            let root = TempRoot::new("lab-solution");
            let _leak = LeakCheck::new(&root);
            let number = number(&folder);
            lab(&root, &["start", &number]).success();
            answer(&root, &number, &file);
            let report = settled(&root, &number, |r| r["solved"] == true);
            assert_eq!(report["solved"], true, "{file:?}: {report:#}");
            lab(&root, &["watch", &number]).success().out_has("solved");
            lab(&root, &["reset", &number])
                .success()
                .err_has("no process, no namespace");
        }
    }
}

#[test]
fn every_wrong_answer_is_refused_at_its_task() {
    if let Some(reason) = no_user_namespaces() {
        return common::skip(reason);
    }
    for folder in folders() {
        for file in files(&folder, "wrong") {
            let text = std::fs::read_to_string(&file).expect("text");
            let refused = text.lines().find_map(|l| l.strip_prefix("# refused: "));
            let refused = refused.unwrap_or_else(|| panic!("{file:?} does not say where"));
            if refused == "host" {
                continue; // the next test
            }
            let root = TempRoot::new("lab-wrong");
            let _leak = LeakCheck::new(&root);
            let number = number(&folder);
            lab(&root, &["start", &number]).success();
            answer(&root, &number, &file);
            let report = settled(&root, &number, |r| state(r, refused) == "failed");
            assert_eq!(state(&report, refused), "failed", "{file:?}: {report:#}");
            // It must stay so: a check that was only early proves nothing.
            std::thread::sleep(std::time::Duration::from_millis(300));
            let report = lab(&root, &["check", &number, "--json"]).exits(1).json();
            assert_eq!(state(&report, refused), "failed", "{file:?}: {report:#}");
            let tasks = report["tasks"].as_array().expect("tasks");
            let seen = &tasks.iter().find(|t| t["id"] == refused).expect("task")["seen"];
            assert!(seen["hint"].is_string(), "{file:?}: no hint for {seen}");
            end_leftover_process(&root, &folder);
            // The process may be ending just now, or be gone: both are a clean reset.
            settled(&root, &number, |_| true);
            lab(&root, &["reset", &number]);
            assert!(!root.join("labs").exists());
        }
    }
}

/// What this file itself does as a child in namespaces that play the host: start, wrong answer,
/// check, and a reset that must complain.
#[test]
fn damage_to_the_host_is_seen_and_a_reset_says_so() {
    needs!("root", "unshare", "ipcmk");
    for folder in folders() {
        for file in files(&folder, "wrong") {
            let text = std::fs::read_to_string(&file).expect("text");
            if !text.lines().any(|l| l == "# refused: host") {
                continue;
            }
            let root = TempRoot::new("lab-host");
            let _leak = LeakCheck::new(&root);
            let script = r#"set -e
                glassbox lab start "$1" >/dev/null
                eval "$(glassbox lab env "$1")"
                sh "$2"
                for i in 1 2 3 4 5 6 7 8 9 10; do
                    glassbox lab check "$1" --json > "$3" || true
                    grep -q '"failed"' "$3" && sleep 0.3 && break
                    sleep 0.1
                done
                glassbox lab check "$1" --json > "$3" || true
                glassbox lab reset "$1" || echo "reset: $?"
            "#;
            let path = format!(
                "{}:{}",
                common::binary().parent().expect("a folder").display(),
                std::env::var("PATH").expect("PATH")
            );
            let report = root.join("report");
            let output = Command::new("unshare")
                .args(["--uts", "--ipc", "sh", "-c", script, "sh", &number(&folder)])
                .args([&file, &report])
                .env("PATH", path)
                .env(common::NO_NETWORK.0, common::NO_NETWORK.1)
                .env("GLASSBOX_ROOT", root.path())
                .output()
                .expect("unshare runs");
            let err = String::from_utf8_lossy(&output.stderr).into_owned();
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{file:?}: {err}");
            let report: serde_json::Value =
                serde_json::from_slice(&std::fs::read(report).expect("the report")).expect("JSON");
            assert_eq!(state(&report, "host"), "failed", "{file:?}: {report:#}");
            assert!(
                out.contains("reset: 125"),
                "the reset did not complain: {out}{err}"
            );
            assert!(err.contains("something is left"), "{err}");
        }
    }
}

#[test]
fn the_listing_and_the_misses() {
    let root = TempRoot::new("lab-ls");
    let _leak = LeakCheck::new(&root);
    let rows = lab(&root, &["ls", "--json"]).success().json();
    assert_eq!(
        rows.as_array().expect("rows").len(),
        folders().len(),
        "a lab is not embedded"
    );
    for row in rows.as_array().expect("rows") {
        assert_eq!(row["status"], "not started");
        for topic in row["topics"].as_array().expect("topics") {
            let topic = topic.as_str().expect("a name");
            assert!(
                glassbox::explain::topics::find(topic).is_some(),
                "no topic {topic}"
            );
        }
    }
    lab(&root, &["start", "99"]).fails(125, &["no lab", "03-uts-and-ipc"]);
    lab(&root, &["solution", "3"]).success().out_has("unshare");
}
