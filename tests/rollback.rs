//! Every step of the plan fails in turn, and the host is as before.
//!
//! `GLASSBOX_FAIL_STEP=ID` makes a run fail right after that step was applied: everything up to it
//! was done and has to be undone. Nothing of it may be left: no mount, no cgroup, no process, no
//! container, no file.

mod common;

use common::{LeakCheck, Run, TempRoot, is_root, missing, run_in, skip};

/// The ids of the steps that a run with these flags takes, from its own dry run.
fn steps(root: &TempRoot, flags: &[&str]) -> Vec<String> {
    let mut args = vec!["run", "--dry-run", "--json"];
    args.extend(flags);
    args.extend(["lab", "true"]);
    let out = run_in(root, &args).success();
    let plan: serde_json::Value = serde_json::from_str(&out.stdout).expect("the plan as JSON");
    plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|s| s["id"].as_str().expect("an id").to_string())
        .collect()
}

fn fail_each(name: &str, flags: &[&str]) {
    let root = TempRoot::new(name);
    let leaks = LeakCheck::new(&root).children();
    let steps = steps(&root, flags);
    assert!(steps.len() > 20, "the plan is whole: {steps:?}");
    for step in &steps {
        // There is no "after" the program was executed; and the test of a plan must not run it.
        if step == "execute" {
            continue;
        }
        let mut args: Vec<String> = vec!["--root".into(), root.path().display().to_string()];
        args.insert(0, "run".into());
        args.extend(flags.iter().map(|f| f.to_string()));
        args.extend(["lab".into(), "true".into()]);
        let out = Run::new(&args).env("GLASSBOX_FAIL_STEP", step).go();
        assert_eq!(out.code(), 125, "step {step}: {}", out.stderr);
        out.err_has(&format!("step {step:?} was told to fail"));
        let left: Vec<_> = std::fs::read_dir(root.join("containers"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name())
            .filter(|n| n.len() == 64)
            .collect();
        assert!(left.is_empty(), "step {step} left containers: {left:?}");
        leaks.check();
    }
    // And the same run without the failure works: nothing was left that is in its way.
    let mut args = vec!["run"];
    args.extend(flags);
    args.extend(["lab", "true"]);
    run_in(&root, &args).success();
    leaks.check();
}

#[test]
fn a_limited_container() {
    if let Some(why) = missing(&["root"]) {
        return skip(why);
    }
    fail_each(
        "rollback-root",
        &[
            "--rm",
            "--network",
            "none",
            "-m",
            "64M",
            "--pids-limit",
            "50",
        ],
    );
}

#[test]
fn a_container_with_a_terminal_and_mounts() {
    if !is_root() {
        return skip("needs root for a bind mount into a container with a cgroup");
    }
    fail_each(
        "rollback-mounts",
        &[
            "--rm",
            "-t",
            "--tmpfs",
            "/x",
            "--read-only",
            "-v",
            "/tmp:/data:ro",
        ],
    );
}
