//! The command line as a whole: the help reference is a snapshot, every subcommand has examples,
//! completions and manual pages cover all of it, and wrong words end in the error form.
//!
//! Any kernel: it reads texts.

mod common;

use common::{LeakCheck, Run, TempRoot};

/// The help of a command and of all below it.
fn reference(command: &clap::Command, name: &str, out: &mut String) {
    let mut shown = command.clone().term_width(100).bin_name(name);
    out.push_str(&format!("======== {name}\n{}\n", shown.render_long_help()));
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        reference(sub, &format!("{name} {}", sub.get_name()), out);
    }
}

/// A change of any flag or help text shows in the diff of this snapshot.
#[test]
fn the_whole_help_reference() {
    let mut text = String::new();
    reference(&glassbox::cli::whole_tree(), "glassbox", &mut text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_subcommand_has_examples() {
    fn walk(command: &clap::Command, name: &str, missing: &mut Vec<String>) {
        let subs: Vec<_> = command
            .get_subcommands()
            .filter(|s| s.get_name() != "help")
            .collect();
        let after = |c: &clap::Command| {
            let text = c
                .get_after_help()
                .or(c.get_after_long_help())
                .map(ToString::to_string);
            text.unwrap_or_default().contains("glassbox ")
        };
        // Examples of a command may stand with its group.
        if !after(command) && subs.is_empty() {
            missing.push(name.to_string());
        }
        if !after(command) {
            for sub in subs {
                walk(sub, &format!("{name} {}", sub.get_name()), missing);
            }
        }
    }
    let mut missing = Vec::new();
    walk(&glassbox::cli::whole_tree(), "glassbox", &mut missing);
    assert!(
        missing.is_empty(),
        "no example in the help of: {}",
        missing.join(", ")
    );
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let script = common::run(["completions", shell]).success();
        for sub in glassbox::cli::whole_tree().get_subcommands() {
            script.out_has(sub.get_name());
        }
    }
    common::run(["completions", "cmd.exe"])
        .exits(125)
        .err_has("invalid value");
}

#[test]
fn a_manual_page_for_every_subcommand() {
    let root = TempRoot::new("man");
    let _leak = LeakCheck::new(&root);
    let dir = root.join("man1");
    common::run([std::ffi::OsStr::new("man"), dir.as_os_str()])
        .success()
        .err_has("pages written");
    fn walk(command: &clap::Command, name: &str, dir: &std::path::Path) {
        let path = dir.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        assert!(page.contains(".SH SYNOPSIS"), "{path:?} is no manual page");
        for sub in command
            .get_subcommands()
            .filter(|s| s.get_name() != "help" && !s.is_hide_set())
        {
            walk(sub, &format!("{name}-{}", sub.get_name()), dir);
        }
    }
    walk(&glassbox::cli::whole_tree(), "glassbox", &dir);
    let file = root.write("file", "");
    common::run([std::ffi::OsStr::new("man"), file.as_os_str()])
        .fails(125, &["cannot make the directory"]);
}

#[test]
fn wrong_words_are_refused_and_near_ones_suggested() {
    common::run(["explian"]).exits(125).err_has("explain");
    common::run(["run", "--no-such-flag"])
        .exits(125)
        .err_has("--no-such-flag");
    common::run([] as [&str; 0])
        .exits(125)
        .err_has("subcommand");
    let help = common::run(["--help"]).success();
    help.out_has("Containers:");
    help.out_has("Stages:");
    assert_eq!(help.stderr, "");
    common::run(["--version"])
        .success()
        .out_is(concat!("glassbox ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Run::new(["explain"])
        .command()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success(), "{}", output.status);
}
