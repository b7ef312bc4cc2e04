//! Processes whose walls are known, made by util-linux's tools, so that nothing of ours is its own
//! oracle.
//!
//! Interface: [`Held`], [`WALLS`], [`no_walls`], [`inode`].

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A process that lives as long as this value: it prints a line when it is ready, and ends when
/// its stdin is closed or it is killed.
pub struct Held {
    child: Child,
    /// The process of interest: the one that sleeps.
    pub pid: u32,
}

impl Held {
    /// Runs `wrapper… sh -c "SETUP; echo ready; read x"`, and finds the shell.
    pub fn new(wrapper: &[&str], setup: &str) -> Held {
        let script = format!("{setup}\necho ready\nread x");
        let mut command = match wrapper {
            [] => Command::new("sh"),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg("sh");
                command
            }
        };
        let mut child = command
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the wrapper starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "{wrapper:?} with {setup:?}");
        let pid = innermost(child.id());
        Held { child, pid }
    }
    /// `inspect --json` of it, with further arguments.
    pub fn inspect(&self, extra: &[&str]) -> Value {
        let pid = self.pid.to_string();
        let args = ["inspect", "--json"]
            .iter()
            .chain(extra)
            .copied()
            .chain([pid.as_str()]);
        super::run(args).success().json()
    }

    /// The process that is PID 1 of its namespace, above or at the one that [`innermost`] found.
    pub fn init(&self) -> u32 {
        let mut pid = self.pid;
        loop {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let value = |key: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(key));
                line.and_then(|l| l.split_whitespace().last()?.parse::<u32>().ok())
                    .unwrap()
            };
            if value("NSpid:") == 1 {
                return pid;
            }
            pid = value("PPid:");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // With its stdin closed the shell's `read` ends, and unshare after it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The only child of a process, and so on down.
fn innermost(pid: u32) -> u32 {
    let parent_is = |entry: &std::fs::DirEntry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        (parent.trim().parse() == Ok(pid)).then_some(())
    };
    let child = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find_map(|entry| {
            let child = entry.file_name().to_str()?.parse().ok()?;
            parent_is(&entry).map(|()| child)
        });
    child.map_or(pid, innermost)
}

/// The number of a namespace, by readlink(2).
pub fn inode(pid: u32, kind: &str) -> u64 {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let text = link.to_str().unwrap();
    let (_, number) = text.split_once(":[").unwrap();
    number.trim_end_matches(']').parse().unwrap()
}

/// user, pid, mnt, net and uts of its own; ipc, cgroup and time are the caller's.
pub const WALLS: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount",
    "--net",
    "--uts",
    "--mount-proc",
    "--",
];

/// Whether this machine lets the tests make such a process.
pub fn no_walls() -> Option<String> {
    let made = Command::new("unshare")
        .args(&WALLS[1..])
        .arg("true")
        .output();
    match made {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Err(e) => Some(format!("unshare: {e}")),
    }
}
