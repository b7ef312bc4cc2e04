//! Commands that stay inside namespaces while a test looks at them from outside.
//!
//! Interface: [`Held`], [`ns_run`], [`host`], [`KINDS`], [`rootfs`], [`entries`], [`until`].

use super::{Run, TempRoot};
use glassbox::host::elf;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Each kind as /proc names it, with its flag of `ns run` and `ns enter`.
pub const KINDS: [(&str, &str); 8] = [
    ("user", "--user"),
    ("mnt", "--mount"),
    ("uts", "--uts"),
    ("ipc", "--ipc"),
    ("pid", "--pid"),
    ("net", "--net"),
    ("cgroup", "--cgroup"),
    ("time", "--time"),
];

/// `ns run`, with the flags that an ordinary user needs to do what root may do as it is.
pub fn ns_run_words() -> Vec<&'static str> {
    match super::is_root() {
        true => vec!["ns", "run"],
        false => vec!["ns", "run", "--map-root-user"],
    }
}

/// Runs `ns run ARGS` to its end, with a user namespace where the tests do not run as root.
#[track_caller]
pub fn ns_run(args: &[&str]) -> super::Output {
    super::run(ns_run_words().iter().chain(args))
}

/// The namespace of a kind that the test itself is in: `uts:[4026531838]`.
pub fn host(kind: &str) -> String {
    link("self", kind)
}

fn link(pid: &str, kind: &str) -> String {
    let target = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("readlink");
    target.to_string_lossy().into_owned()
}

/// Waits until something is so; a test's patience is a minute.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A `glassbox ns run` that runs; ended when dropped.
#[derive(Debug)]
pub struct Held {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The command's process id: that of glassbox itself where it ran in place.
    pub pid: i32,
}

impl Held {
    /// `ns run FLAGS -- sh`, which says that it is there and then sleeps.
    pub fn new(flags: &[&str]) -> Held {
        Held::start(Run::new(Held::sleep(flags)))
    }
    /// The same as the ordinary user.
    pub fn user(flags: &[&str]) -> Held {
        Held::start(Run::new(Held::sleep(flags)).as_user())
    }
    /// `ns run ARGS` as given; its first line of output is not read.
    pub fn command(args: &[&str]) -> Held {
        Held::spawn(Run::new(ns_run_words().iter().chain(args)))
    }

    fn sleep(flags: &[&str]) -> Vec<String> {
        let script = ["--", "sh", "-c", "echo here; read x"];
        let words = ns_run_words();
        let all = words.iter().chain(flags).chain(&script);
        all.map(|s| s.to_string()).collect()
    }

    fn start(run: Run) -> Held {
        let mut held = Held::spawn(run);
        assert_eq!(held.line(), "here");
        let parent = held.child.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let text = std::fs::read_to_string(children).expect("children");
        held.pid = match text.split_whitespace().next() {
            Some(pid) => pid.parse().expect("a number"),
            None => parent as i32,
        };
        held
    }

    fn spawn(run: Run) -> Held {
        let mut command = run.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("glassbox starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let pid = child.id() as i32;
        Held { child, output, pid }
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }
    /// glassbox's own process id.
    pub fn parent(&self) -> i32 {
        self.child.id() as i32
    }
    /// Signals glassbox.
    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.parent()), signal).expect("kill");
    }
    /// Waits for glassbox.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("wait")
    }
    /// The command's namespace of a kind.
    pub fn namespace(&self, kind: &str) -> String {
        link(&self.pid.to_string(), kind)
    }
    /// Its inode number alone.
    pub fn namespace_id(&self, kind: &str) -> u64 {
        let link = self.namespace(kind);
        let digits: String = link.chars().filter(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    }
    /// Waits until a process is in this state.
    #[track_caller]
    pub fn until_state(&self, pid: i32, state: char) {
        until(&format!("process {pid} is in state {state}"), || {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|t| t.rsplit(") ").next().is_some_and(|s| s.starts_with(state)))
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // its `read` ends, and so does it
        let _ = nix::sys::signal::kill(Pid::from_raw(self.parent()), Signal::SIGCONT);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A small root file system below `root`: a shell and its libraries, /proc and /tmp.
pub fn rootfs(root: &TempRoot) -> PathBuf {
    let tree = root.join("rootfs");
    for dir in ["bin", "proc", "tmp"] {
        std::fs::create_dir_all(tree.join(dir)).expect("mkdir");
    }
    let shell = Path::new("/bin/sh");
    std::fs::copy(shell, tree.join("bin/sh")).expect("copy the shell");
    let needs = elf::read(&std::fs::read(shell).expect("read the shell")).unwrap_or_default();
    let search = elf::SearchPath::of_this_host();
    let find = |name: &String| {
        search
            .find(name, &needs, shell)
            .expect("a library of the shell")
    };
    let libraries = needs.libraries.iter().map(find);
    for file in needs.loader.clone().into_iter().chain(libraries) {
        let place = tree.join(file.strip_prefix("/").expect("an absolute path"));
        std::fs::create_dir_all(place.parent().expect("not the root")).expect("mkdir");
        std::fs::copy(&file, &place).expect("copy a library");
    }
    tree
}

/// What `echo *` prints in a directory.
pub fn entries(directory: impl AsRef<Path>) -> String {
    let list = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = list
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names.join(" ")
}
