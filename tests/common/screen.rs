//! A terminal as a user at a keyboard has it: a pty pair, whose slave is the binary's controlling
//! terminal and whose master the test types at and reads.
//!
//! What is typed is echoed, so a test waits for what only the output has (`echo x=$((6*7))` is
//! done when `x=42` appears). Interface: [`Screen`]. Read next: `terminal.rs`, `debian.rs`.

use super::{TempRoot, binary};
use nix::pty::{Winsize, openpty};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A terminal with a program on it.
#[derive(Debug)]
pub struct Screen {
    master: std::fs::File,
    child: Child,
    limit: Duration,
    /// What came and was not waited for yet.
    pub seen: String,
}

impl Screen {
    /// Runs `glassbox ARGS` with its state below `root`, at a terminal of 33 rows and 99 columns.
    pub fn open(root: &TempRoot, args: &[&str]) -> Screen {
        Screen::open_with(root, args, &[])
    }
    /// The same with variables in the environment.
    pub fn open_with(root: &TempRoot, args: &[&str], env: &[(&str, &str)]) -> Screen {
        let size = Winsize {
            ws_row: 33,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).expect("a pty");
        // A program that inherited the outer end would keep its own terminal alive for ever.
        for fd in [&pair.master, &pair.slave] {
            let close = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            nix::fcntl::fcntl(fd, close).expect("fcntl");
        }
        let slave = |fd: &std::os::fd::OwnedFd| fd.try_clone().expect("dup");
        let mut command = Command::new("setsid");
        // setsid --ctty makes the terminal the session's own, as a login does.
        command.args(["--ctty", "--wait"]).arg(binary()).args(args);
        command
            .env("GLASSBOX_ROOT", root.path())
            .env("NO_COLOR", "1")
            .env(super::NO_NETWORK.0, super::NO_NETWORK.1)
            .envs(env.iter().copied());
        command
            .stdin(slave(&pair.slave))
            .stdout(slave(&pair.slave))
            .stderr(slave(&pair.slave));
        command.process_group(0);
        let child = command.spawn().expect("setsid");
        nix::fcntl::fcntl(
            &pair.master,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .expect("fcntl");
        Screen {
            master: pair.master.into(),
            child,
            limit: Duration::from_secs(60),
            seen: String::new(),
        }
    }
    /// Waits this long for what shall appear, instead of a minute.
    pub fn limit(mut self, limit: Duration) -> Screen {
        self.limit = limit;
        self
    }
    /// Types; control keys are their bytes, `\x03` is Ctrl-C.
    pub fn types(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("write to the terminal");
    }
    /// Gives the terminal another size, as a user does who drags the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        glassbox::sys::tty::set_window_size(&self.master, rows, columns).expect("TIOCSWINSZ");
    }
    /// Takes what there is, waiting 50 ms for something.
    pub fn read(&mut self) {
        let mut buffer = [0u8; 4096];
        let mut fds = [nix::poll::PollFd::new(
            self.master.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        let _ = nix::poll::poll(&mut fds, 50u16);
        if let Ok(n) = self.master.read(&mut buffer) {
            self.seen += &String::from_utf8_lossy(&buffer[..n]);
        }
    }
    /// Waits until `text` is on the screen, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let until = Instant::now() + self.limit;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(
                Instant::now() < until,
                "no {text:?} on the screen, only {:?}; the program: {:?}",
                self.seen,
                self.child.try_wait()
            );
            self.read();
        }
    }
    /// Waits until the program has put the terminal into raw mode: from now on what is typed is
    /// the program's alone.
    #[track_caller]
    pub fn wait_for_raw(&mut self) {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let until = Instant::now() + self.limit;
        // A terminal's two ends share their settings.
        while tcgetattr(&self.master).is_ok_and(|t| t.local_flags.contains(LocalFlags::ICANON)) {
            assert!(
                Instant::now() < until,
                "never in raw mode; the screen says {:?}; the program: {:?}",
                self.seen,
                self.child.try_wait()
            );
            self.read();
        }
    }
    /// Types a line that starts a program which waits, and waits until it does. It says `back`
    /// when it is continued.
    #[track_caller]
    pub fn starts(&mut self, end: &str) {
        // One that forks would not do: a child of vfork(2) that is stopped before its execve(2)
        // keeps its parent, which is then neither stopped nor going on.
        let script = r#"trap "echo back >&2" CONT; sleep 1000 > /dev/null 2>&1 & echo up >&2; while :; do wait; done"#;
        self.types(&format!("sh -c '{script}'{end}\n"));
        self.wait_for("up\r\n");
    }
    /// Types the line that continues it, and waits until it is: by then a shell that has put it in
    /// front has given it the terminal.
    #[track_caller]
    pub fn continues(&mut self, line: &str) {
        self.types(&format!("{line}\n"));
        self.wait_for("back\r\n");
    }
    /// Types Ctrl-C or Ctrl-Z, and an empty line once the terminal shows it. The kernel flushes
    /// the terminal after it has sent the signal, and with it what a quick program has printed by
    /// then (a prompt, a word about the job): what to wait for next is the answer to a new line.
    #[track_caller]
    pub fn signals(&mut self, key: char) {
        self.types(&(((key as u8) & 0x1f) as char).to_string());
        self.wait_for(&format!("^{key}"));
        self.types("\n");
    }
    /// Waits for the program's end; its exit status.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let until = Instant::now() + self.limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                self.read();
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < until,
                "it does not end; the screen says {:?}",
                self.seen
            );
            self.read();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill(); // ended already in a test that passes
        let _ = self.child.wait();
    }
}
