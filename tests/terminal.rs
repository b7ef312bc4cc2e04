//! Terminals, through a real pty: what a user at a keyboard sees.
//!
//! Each test opens a pty pair, gives one end to the binary as its terminal, and types at the other.
//! Read next: `containers.rs`.

mod common;

use common::{LeakCheck, Screen, TempRoot, run_in};
use std::time::{Duration, Instant};

#[test]
fn a_shell_at_a_terminal() {
    needs!("root", "setsid");
    let root = TempRoot::new("tty");
    let _leaks = LeakCheck::new(&root);
    let mut s = Screen::open(&root, &["run", "--rm", "-it", "-e", "PS1=> ", "lab", "sh"]);
    s.wait_for("> ");
    s.types("tty; stty size; test -t 0 && test -t 2 && echo terminals\n");
    s.wait_for("/dev/pts/0");
    s.wait_for("33 99");
    s.wait_for("terminals");
    s.resize(44, 111);
    let until = Instant::now() + Duration::from_secs(60);
    while !s.seen.contains("44 111") {
        assert!(
            Instant::now() < until,
            "the size did not arrive: {:?}",
            s.seen
        );
        s.types("stty size\n");
        std::thread::sleep(Duration::from_millis(100));
        s.read();
    }
    // Ctrl-C ends the foreground program, not the shell and not the container.
    s.starts("");
    s.signals('C');
    s.types("echo interrupted=$?\n");
    s.wait_for("interrupted=130");
    // Ctrl-Z stops it; the shell inside has job control.
    s.starts("");
    s.signals('Z');
    s.types("jobs\n");
    s.wait_for("Stopped");
    s.continues("fg");
    s.signals('C');
    s.types("echo ended=$?\n");
    s.wait_for("ended=130");
    s.types("exit 5\n");
    assert_eq!(s.ends(), 5);
}

#[test]
fn detach_and_attach_again() {
    needs!("root", "setsid");
    let root = TempRoot::new("detach");
    let _leaks = LeakCheck::new(&root);
    let mut s = Screen::open(
        &root,
        &["run", "--name", "shell", "-it", "-e", "PS1=> ", "lab", "sh"],
    );
    s.wait_for("> ");
    s.types("X=kept\n\x10\x11");
    assert_eq!(s.ends(), 0);
    assert_eq!(
        run_in(&root, ["ps", "--format", "{{.State}}"]).stdout,
        "running\n"
    );
    let mut s = Screen::open(&root, &["attach", "--detach-keys", "ctrl-a,d", "shell"]);
    let mut other = Screen::open(&root, &["attach", "shell"]);
    s.wait_for_raw();
    other.wait_for_raw();
    s.types("echo value=$X\n");
    s.wait_for("value=kept");
    other.wait_for("value=kept");
    s.types("\x01d");
    assert_eq!(s.ends(), 0);
    other.types("exit 3\n");
    assert_eq!(other.ends(), 3);
    assert!(
        run_in(&root, ["logs", "shell"])
            .stdout
            .contains("value=kept")
    );
    let mut s = Screen::open(&root, &["start", "-ai", "shell"]);
    s.types("exit 6\n");
    assert_eq!(s.ends(), 6);
    assert_eq!(run_in(&root, ["rm", "shell"]).code(), 0);
}

#[test]
fn exec_with_a_terminal() {
    needs!("root", "setsid");
    let root = TempRoot::new("exec-tty");
    let _leaks = LeakCheck::new(&root);
    assert_eq!(
        run_in(
            &root,
            ["run", "-d", "--name", "box", "lab", "sleep", "1000"]
        )
        .code(),
        0
    );
    let mut s = Screen::open(&root, &["exec", "-it", "-e", "PS1=> ", "box", "sh"]);
    s.wait_for("> ");
    s.types("tty; stty size\n");
    s.wait_for("/dev/pts/0");
    s.wait_for("33 99");
    s.starts("");
    s.signals('C');
    s.types("exit 9\n");
    assert_eq!(s.ends(), 9);
    // The detach keys leave the program to itself; docker's word and status for it.
    let mut s = Screen::open(&root, &["exec", "-it", "-e", "PS1=> ", "box", "sh"]);
    s.wait_for("> ");
    s.types("\x10\x11");
    s.wait_for("read escape sequence");
    assert_eq!(s.ends(), 1);
    assert_eq!(run_in(&root, ["rm", "-f", "box"]).code(), 0);
}

#[test]
fn signals_without_a_terminal_inside() {
    needs!("root", "setsid");
    let root = TempRoot::new("signals");
    let _leaks = LeakCheck::new(&root);
    let script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let mut s = Screen::open(&root, &["run", "--rm", "lab", "sh", "-c", script]);
    s.wait_for("ready");
    s.types("\x03");
    s.wait_for("caught");
    assert_eq!(s.ends(), 4);
    // Three in vain let the user go; the container stays.
    let mut s = Screen::open(
        &root,
        &[
            "run",
            "--name",
            "deaf",
            "lab",
            "sh",
            "-c",
            "trap '' INT; echo ready; sleep 1000",
        ],
    );
    s.wait_for("ready");
    for _ in 0..3 {
        s.types("\x03");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(s.ends(), 130, "not a status of the program's");
    assert_eq!(run_in(&root, ["rm", "-f", "deaf"]).code(), 0);
}

#[test]
fn a_pipe_is_no_terminal() {
    needs!("root");
    let root = TempRoot::new("pipe");
    let _leaks = LeakCheck::new(&root);
    let out = run_in(&root, ["run", "--rm", "-it", "lab", "true"]);
    assert!(
        out.code() == 125 && out.stderr.contains("the input device is not a TTY"),
        "{out}"
    );
}
