//! Stage 1 on the built binary: a command in the foreground. Exit status, signals, job control.

mod common;

use common::TempRoot;
use common::namespaces::{Held, ns_run};

#[test]
fn the_exit_status_is_the_commands() {
    for kind in ["--uts", "--pid"] {
        let sh = |script: &str| ns_run(&[kind, "--", "sh", "-c", script]);
        sh("exit 7").exits(7);
        sh("exit 0").exits(0);
        ns_run(&[kind, "--", "no-such-command"])
            .fails(127, &["executable file not found in $PATH", "PATH inside"]);
        ns_run(&[kind, "--", "/etc/passwd"])
            .fails(126, &["permission denied", "EACCES", "chmod +x"]);
        ns_run(&[kind, "--", "/etc"]).fails(126, &["it is a directory"]);
        let root = TempRoot::new("script");
        let script = root.write("script", "#!/no/such/interpreter\n");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        ns_run(&[kind, "--", script.to_str().expect("utf-8")]).fails(127, &["interpreter"]);
    }
    // In place the signal ends the very process; as PID 1 the parent reports 128 + n.
    ns_run(&["--uts", "--", "sh", "-c", "kill -TERM $$"]).exits(128 + 15);
    let mut held = Held::new(&["--pid"]);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(held.pid),
        nix::sys::signal::SIGKILL,
    )
    .expect("kill");
    assert_eq!(held.wait().code(), Some(128 + 9));
}

#[test]
fn signals_go_on_to_the_command() {
    let script = "trap 'echo got TERM; exit 3' TERM; trap 'echo got USR1' USR1; echo ready; \
                  while :; do sleep 0.05; done";
    let mut held = Held::command(&["--pid", "--mount", "--", "sh", "-c", script]);
    assert_eq!(held.line(), "ready");
    held.signal(nix::sys::signal::SIGUSR1);
    assert_eq!(held.line(), "got USR1");
    held.signal(nix::sys::signal::SIGTERM);
    assert_eq!(held.line(), "got TERM");
    assert_eq!(held.wait().code(), Some(3));
}

#[test]
fn stopping_and_continuing_go_both_ways() {
    let held = Held::new(&["--pid"]);
    held.signal(nix::sys::signal::SIGTSTP);
    held.until_state(held.pid, 'T');
    held.until_state(held.parent(), 'T');
    held.signal(nix::sys::signal::SIGCONT);
    held.until_state(held.pid, 'S');
    held.until_state(held.parent(), 'S');
}

#[test]
fn a_killed_parent_leaves_no_command_behind() {
    let mut held = Held::new(&["--pid", "--mount"]);
    let pid = held.pid;
    held.signal(nix::sys::signal::SIGKILL);
    let _ = held.wait();
    common::namespaces::until("the command ends", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}
