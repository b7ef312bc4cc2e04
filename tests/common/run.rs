//! Running the binary and asserting on what it did.
//!
//! Interface: [`run`] for the usual case, [`Run`] to set the user, stdin, environment and time
//! limit; [`Output`] with assertions whose messages show the whole command, status and both
//! streams. Read next: `leak.rs`.

use super::{USER, is_root};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What root's containers are in that name no network, in tests: none. Tests run side by side, each
/// with a state root of its own, in one network namespace: bridges that they do not look at would
/// cost time, and meet. `networks.rs` tests what is the default without it.
pub const NO_NETWORK: (&str, &str) = ("GLASSBOX_NETWORK", "none");

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("GLASSBOX_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_glassbox")),
        PathBuf::from,
    )
}

/// Runs `glassbox ARGS` to its end.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Run::new(args).go()
}

/// Runs `glassbox ARGS` with its state below `root`.
#[track_caller]
pub fn run_in<S: AsRef<OsStr>>(
    root: impl AsRef<Path>,
    args: impl IntoIterator<Item = S>,
) -> Output {
    Run::new(args).env("GLASSBOX_ROOT", root.as_ref()).go()
}

/// The command `program` made to run as an ordinary user. As root it goes through setpriv to
/// [`USER`], with no capability left; as an ordinary user it is the command itself.
///
/// A program that the user cannot reach by path (a target directory below a private home) is
/// handed over as an open descriptor and executed through /proc/self/fd.
pub fn as_user(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let id = USER.to_string();
    command
        .args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--inh-caps=-all",
        ])
        .arg("--");
    if reachable(program) {
        command.arg(program);
    } else {
        let file = std::fs::File::open(program).expect("the program can be opened");
        let fd = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(100)).expect("F_DUPFD");
        command.arg(format!("/proc/self/fd/{fd}"));
    }
    command
        .env("HOME", "/nonexistent")
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("XDG_DATA_HOME");
    command
}

fn reachable(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    program.is_absolute()
        && program
            .ancestors()
            .all(|part| std::fs::metadata(part).is_ok_and(|m| m.permissions().mode() & 0o001 != 0))
}

/// A run of the binary being described.
#[derive(Debug)]
pub struct Run {
    /// Another program than the binary under test.
    program: Option<&'static str>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    user: bool,
    directory: Option<PathBuf>,
    limit: Duration,
}

impl Run {
    /// `glassbox ARGS`, as the user of the tests, with an empty stdin, for at most three minutes.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
        Run {
            program: None,
            args: args.into_iter().map(|a| a.as_ref().to_owned()).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            user: false,
            directory: None,
            limit: Duration::from_secs(180),
        }
    }
    /// Another program with its arguments: what a test has to do with one besides ours.
    pub fn other<S: AsRef<OsStr>>(program: &'static str, args: impl IntoIterator<Item = S>) -> Run {
        Run {
            program: Some(program),
            ..Run::new(args)
        }
    }
    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }
    /// Gives it this on stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = bytes.into();
        self
    }
    /// Runs it in a directory.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Run {
        self.directory = Some(directory.into());
        self
    }
    /// Runs it as an ordinary user (see [`as_user`]).
    #[allow(clippy::wrong_self_convention)] // "run … as user" is how it reads
    pub fn as_user(mut self) -> Run {
        self.user = true;
        self
    }
    /// Ends it after this long: a hang is a failure that says so, not a test run that never ends.
    pub fn limit(mut self, limit: Duration) -> Run {
        self.limit = limit;
        self
    }

    /// The command, for tests that drive it themselves.
    pub fn command(&self) -> Command {
        let program = self.program.map_or_else(binary, PathBuf::from);
        let mut command = if self.user {
            as_user(program)
        } else {
            Command::new(program)
        };
        if !self.user {
            command.env(NO_NETWORK.0, NO_NETWORK.1);
        }
        command
            .args(&self.args)
            .env("NO_COLOR", "1")
            .env_remove("GLASSBOX_FAIL_STEP");
        command
            .env_remove("COLUMNS")
            .envs(self.env.iter().map(|(k, v)| (k, v)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn go(self) -> Output {
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0);
        let shown = format!(
            "{} {}",
            self.program.unwrap_or("glassbox"),
            shell_words(&self.args)
        );
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {shown}: {e}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.stdin;
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(&input); // a program that does not read closes early
        });
        let pid = child.id() as i32;
        let (done, ended) = std::sync::mpsc::channel::<()>();
        let limit = self.limit;
        let guard = std::thread::spawn(move || {
            let timed_out = ended.recv_timeout(limit).is_err();
            if timed_out {
                let group = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::killpg(group, nix::sys::signal::SIGKILL);
            }
            timed_out
        });
        let output = child.wait_with_output().expect("wait");
        let _ = done.send(());
        let _ = writer.join();
        let timed_out = guard.join().expect("the guard does not panic");
        let output = Output {
            shown,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!timed_out, "did not end within {limit:?}:\n{output}");
        output
    }
}

fn shell_words(args: &[OsString]) -> String {
    let quoted = args.iter().map(|a| {
        let a = a.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:@%+".contains(c);
        if !a.is_empty() && a.chars().all(plain) {
            a.into_owned()
        } else {
            format!("'{}'", a.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What a run of the binary gave.
#[derive(Debug, Clone)]
pub struct Output {
    shown: String,
    /// Its exit status.
    pub status: std::process::ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "$ {}\n[{}]\n--- stdout\n{}--- stderr\n{}---",
            self.shown, self.status, self.stdout, self.stderr
        )
    }
}

impl Output {
    /// The exit status as a shell shows it: 128+n for signal n.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
    /// Asserts status 0.
    #[track_caller]
    pub fn success(self) -> Output {
        self.exits(0)
    }
    /// Asserts a status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Output {
        assert!(
            self.code() == code,
            "expected status {code}, got {}:\n{self}",
            self.code()
        );
        self
    }
    /// Asserts that it failed in the design's form: this status, `error:` first, and each of
    /// `parts` somewhere on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Output {
        let output = self.exits(code);
        assert!(
            output.stderr.contains("error: "),
            "no error line:\n{output}"
        );
        parts.iter().for_each(|part| output.err_has(part));
        output
    }
    /// Asserts that stdout holds `part`.
    #[track_caller]
    pub fn out_has(&self, part: &str) {
        assert!(self.stdout.contains(part), "stdout lacks {part:?}:\n{self}");
    }
    /// Asserts that stderr holds `part`.
    #[track_caller]
    pub fn err_has(&self, part: &str) {
        assert!(self.stderr.contains(part), "stderr lacks {part:?}:\n{self}");
    }
    /// Asserts what stdout is, whitespace around it aside.
    #[track_caller]
    pub fn out_is(&self, expected: &str) {
        assert!(
            self.stdout.trim() == expected.trim(),
            "stdout is not {expected:?}:\n{self}"
        );
    }
    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}:\n{self}"))
    }
}
