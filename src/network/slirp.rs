//! A network without root: slirp4netns, a TCP/IP stack in a process of the user's own.
//!
//! What it does: an ordinary user may not make a link between the host and a network namespace. But
//! in a user namespace of its own it may make a tap device, and a process that holds the other end
//! can speak for it: slirp4netns takes the packets apart, and opens plain sockets on the host in
//! their stead.
//!
//! ```text
//!   container              │ host, as the user
//!   tap0 10.0.2.100 ◀──────┼──▶ slirp4netns ──▶ connect(2), sendto(2) …
//!     gateway  10.0.2.2    │      10.0.2.2 is the host itself
//!     resolver 10.0.2.3    │      listens for published ports (its API socket)
//! ```
//!
//! It ends with the container: among the descriptors that it inherits is a pidfd of the container's
//! first process, which hangs up when that process has been reaped, whoever of us was killed before.
//! Kernels before 6.9 do not tell that by a pidfd; there it is a pipe whose other end the monitor
//! holds, and the one that takes over starts another ([`Keeper`]).
//!
//! [`Slirp`] may be pasta instead (`pasta.rs`), which does the same with the same addresses.
//!
//! What it implements: slirp4netns(1) (`--exit-fd`, `--ready-fd`, `--api-socket`); pidfd_open(2).
//! Interface: [`Slirp`] (an action), [`Forward`], [`Keeper`], [`usable`]. Read next: `pasta.rs`,
//! `runtime/plan/parent.rs`.

use super::pasta;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys;
use crate::sys::poll::Interest;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The program.
pub const PROGRAM: &str = "slirp4netns";
/// The container's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The way out, which is also the host's own loopback where that is allowed.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Who answers names: the host's resolvers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The device inside.
pub const DEVICE: &str = "tap0";

/// The scene's name for the process, after the step.
pub const PROCESS: &str = "slirp4netns";
/// The scene's name for the pipe that keeps it, where that is needed.
pub const PIPE: &str = "slirp4netns-exit";

/// How long it may take until the network is there.
pub(super) const PATIENCE_MS: i32 = 60_000;
/// From this kernel on a pidfd hangs up when its process has been reaped.
const HANGS_UP: (u32, u32) = (6, 9);

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The host's address; 0.0.0.0 for all.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// The container's port.
    pub inner: u16,
}

/// Who speaks for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This file's.
    Slirp4netns,
    /// The one of `pasta.rs`.
    Pasta,
}

/// A user-mode network for one container.
#[derive(Debug, Clone)]
pub struct Slirp {
    /// Which program it is.
    pub how: Program,
    /// The program's file.
    pub program: PathBuf,
    /// 10.0.2.2 leads to what listens on the host's loopback.
    pub host_loopback: bool,
    /// Published ports.
    pub forwards: Vec<Forward>,
    /// Where its API socket and its messages go.
    pub dir: PathBuf,
}

/// The API's socket in that directory, where ports are published.
pub const SOCKET: &str = "slirp4netns.sock";

/// What the monitor holds of a running one.
#[derive(Debug)]
pub struct Keeper {
    /// The process.
    pub process: OwnedFd,
    /// While this is open it goes on, on a kernel whose pidfds do not tell.
    pub pipe: Option<OwnedFd>,
}

/// The program's file where an ordinary user's container can use it. Errors: why it cannot, with
/// what would help.
pub fn usable() -> Result<PathBuf> {
    let unsupported =
        |text: &str| Error::kind(Kind::Unsupported, text.to_string()).topic("rootless");
    let program = find(std::env::var_os("PATH").as_deref(), PROGRAM).ok_or_else(|| {
        unsupported("slirp4netns is not installed").hint(
            "it gives an ordinary user's containers a network, as pasta (of the package passt) does",
        )
    })?;
    may_have_a_tap()?;
    Ok(program)
}

/// Whether the program is there at all.
pub fn is_installed() -> bool {
    find(std::env::var_os("PATH").as_deref(), PROGRAM).is_some()
}

/// Whether this user may have the device that such a program is behind. Errors: why not.
pub(super) fn may_have_a_tap() -> Result<()> {
    match sys::fs::open("/dev/net/tun", libc::O_RDWR, 0) {
        Ok(_) => Ok(()),
        Err(e) => Err(
            Error::kind(Kind::Unsupported, "/dev/net/tun cannot be opened")
                .topic("rootless")
                .caused_by(e)
                .hint("root can allow it: `modprobe tun; chmod 0666 /dev/net/tun`"),
        ),
    }
}

/// A program's file in the search path.
pub(super) fn find(path: Option<&std::ffi::OsStr>, program: &str) -> Option<PathBuf> {
    let mut places = std::env::split_paths(path?).map(|dir| dir.join(program));
    places.find(|file| file.is_file())
}

/// Whether this kernel's pidfds hang up.
fn pidfd_hangs_up(release: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= HANGS_UP
}

/// The same, of the running kernel.
pub fn ends_by_itself() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    pidfd_hangs_up(release.trim())
}

impl Slirp {
    fn arguments(&self, pid: &str, exit: &str, ready: &str) -> Vec<String> {
        let mut all = vec![
            "--configure".to_string(),
            "--mtu=65520".into(),
            // It is the user's process on the host, and reads what the container sends: it goes
            // into an empty mount namespace, without capabilities, behind a filter.
            "--enable-sandbox".into(),
            "--enable-seccomp".into(),
            format!("--exit-fd={exit}"),
            format!("--ready-fd={ready}"),
        ];
        if !self.host_loopback {
            all.push("--disable-host-loopback".into());
        }
        if !self.forwards.is_empty() {
            // Where it works is the run directory: a socket's path has 107 bytes at most.
            all.push(format!("--api-socket={SOCKET}"));
        }
        all.extend([pid.to_string(), DEVICE.to_string()]);
        all
    }

    /// Starts it for the container whose first process is `pid`, and waits until the network is
    /// there and the ports are published; pasta, which outlives the monitor that has started it, is
    /// found again where it runs. Errors: with what it said; it has been ended then.
    pub fn start(&self, pid: i32, pidfd: impl AsFd) -> Result<Keeper> {
        if self.how == Program::Pasta {
            return match pasta::adopt(&self.dir)? {
                Some(keeper) => Ok(keeper),
                None => pasta::start(self, pid),
            };
        }
        let what = "cannot give the container a user-mode network";
        let log_path = self.dir.join("slirp4netns.log");
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        let log = std::fs::File::from(sys::fs::open(&log_path, flags, 0o600).context(what)?);
        let socket = self.dir.join(SOCKET);
        if socket.exists() {
            // Of the life before, when the container is restarted.
            sys::fs::unlinkat(sys::fs::CWD, &socket, 0).context(what)?;
        }
        let (ready, ready_end) = sys::poll::pipe().context(what)?;
        let (exit_end, pipe) = match ends_by_itself() {
            true => (pidfd.as_fd().try_clone_to_owned().context(what)?, None),
            false => {
                let (inner, outer) = sys::poll::pipe().context(what)?;
                (inner, Some(outer))
            }
        };
        let exit = sys::process::inheritable(&exit_end).context(what)?;
        let told = sys::process::inheritable(&ready_end).context(what)?;
        drop((exit_end, ready_end));
        let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        let mut command = Command::new(&self.program);
        command
            .args(self.arguments(&pid.to_string(), &number(&exit), &number(&told)))
            .current_dir(match self.forwards.is_empty() {
                true => Path::new("/"),
                false => &self.dir,
            })
            .stdin(Stdio::null())
            .stdout(log.try_clone().context(what)?)
            .stderr(log);
        let child = sys::process::spawn(&mut command).context(what)?;
        drop((exit, told)); // its copies are the only ones that stay open at an execve
        let process = sys::process::pidfd_open(child.id() as i32).context(what)?;
        let keeper = Keeper { process, pipe };
        let result = self.ready(&ready).and_then(|()| self.publish());
        match result {
            Ok(()) => Ok(keeper),
            Err(e) => {
                keeper.end();
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                let said = said.lines().rev().find(|l| !l.trim().is_empty());
                let error = match said {
                    Some(said) => {
                        e.caused_by(Error::new(format!("{PROGRAM} said: {}", said.trim())))
                    }
                    None => e,
                };
                Err(error.context(what).topic("rootless"))
            }
        }
    }

    fn ready(&self, ready: &OwnedFd) -> Result<()> {
        let interest = Interest {
            fd: ready.as_fd(),
            read: true,
            write: false,
        };
        sys::poll::poll(&[interest], PATIENCE_MS)?;
        sys::poll::set_nonblocking(ready, true)?;
        let mut byte = [0u8];
        match sys::poll::read(ready, &mut byte) {
            Ok(1) => Ok(()),
            Ok(_) => Err(Error::new(format!(
                "{PROGRAM} ended before the network was there"
            ))),
            Err(_) => Err(Error::new(format!(
                "{PROGRAM} did not make a network within a minute"
            ))),
        }
    }

    fn publish(&self) -> Result<()> {
        for forward in &self.forwards {
            let what = || {
                format!(
                    "cannot publish port {}:{}/{}",
                    forward.address, forward.port, forward.protocol
                )
            };
            let answer = ask(&self.dir, &forward.request()).with_context(what)?;
            if let Some(error) = answer.get("error") {
                let text = error["desc"].as_str().unwrap_or("refused").to_string();
                let busy = text.contains("add_hostfwd");
                let error = Error::kind(Kind::Conflict, text).context(what());
                return Err(match busy {
                    true => error.hint(
                        "another process has this port of the host, or only root may have it",
                    ),
                    false => error,
                });
            }
        }
        Ok(())
    }
}

impl Forward {
    fn request(&self) -> serde_json::Value {
        serde_json::json!({
            "execute": "add_hostfwd",
            "arguments": {
                "proto": self.protocol,
                "host_addr": self.address.to_string(),
                "host_port": self.port,
                "guest_addr": ADDRESS.to_string(),
                "guest_port": self.inner,
            }
        })
    }
}

/// One request of slirp4netns's API, whose socket is in this directory: a connection, a JSON document
/// each way.
fn ask(dir: &Path, request: &serde_json::Value) -> Result<serde_json::Value> {
    let what = "cannot talk to slirp4netns";
    let dir = sys::fs::open(dir, libc::O_PATH | libc::O_DIRECTORY, 0).context(what)?;
    let socket = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    let mut stream = UnixStream::connect(socket).context(what)?;
    let patience = Some(Duration::from_millis(PATIENCE_MS as u64));
    stream.set_read_timeout(patience).context(what)?;
    stream
        .write_all(request.to_string().as_bytes())
        .context(what)?;
    stream.shutdown(Shutdown::Write).context(what)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context(what)?;
    serde_json::from_str(&answer).context(what)
}

impl Keeper {
    /// Ends it and waits for its end, if it is a child of this process. Gone already is as good.
    pub fn end(&self) {
        let _ = sys::process::pidfd_send_signal(&self.process, libc::SIGKILL);
        let _ = sys::process::waitid(&self.process, 0); // another's child is reaped by that one
    }
}

impl Action for Slirp {
    fn calls(&self) -> Vec<Planned> {
        if self.how == Program::Pasta {
            return pasta::calls(self);
        }
        let path = self.dir.join("slirp4netns.log");
        let program = self.program.display();
        let arguments = self.arguments("INIT", "FD", "FD");
        vec![
            Planned::new(
                "openat",
                format!("{}, O_RDWR|O_CREAT|O_TRUNC", path.display()),
            ),
            Planned::new(
                "execve",
                format!("\"{program}\", {arguments:?}, in a child"),
            ),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let child = scene.child.as_ref();
        let child =
            child.context("the step needs init, which does not exist yet (a fault in the plan)")?;
        let keeper = match self.how {
            Program::Pasta => pasta::start(self, child.pid)?,
            Program::Slirp4netns => self.start(child.pid, &child.pidfd)?,
        };
        scene.put_fd(PROCESS, keeper.process);
        if let Some(pipe) = keeper.pipe {
            scene.put_fd(PIPE, pipe);
        }
        Ok(())
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let devices = || -> Result<String> {
            let pid = scene.child_pid()?;
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev"));
            let text = text.context("cannot read the devices")?;
            let names = text.lines().filter_map(|l| l.split_once(':'));
            Ok(names.map(|(n, _)| n.trim()).collect::<Vec<_>>().join(" "))
        };
        vec![Fact {
            what: "network devices".into(),
            value: devices().map_err(|e| format!("{e:#}")),
            source: "/proc/PID/net/dev".into(),
        }]
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        if let Some(process) = scene.take_fd(PROCESS) {
            let pipe = scene.take_fd(PIPE);
            Keeper { process, pipe }.end();
        }
        if self.how == Program::Pasta {
            pasta::let_go(&self.dir)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_shut_off_and_ports_are_published_only_when_asked() {
        let mut slirp = Slirp {
            how: Program::Slirp4netns,
            program: "/bin/slirp4netns".into(),
            host_loopback: false,
            forwards: Vec::new(),
            dir: "/run".into(),
        };
        let text = slirp.arguments("7", "8", "9").join(" ");
        assert!(text.contains("--disable-host-loopback") && !text.contains("--api-socket"));
        assert!(
            text.contains("--exit-fd=8 --ready-fd=9") && text.ends_with(" 7 tap0"),
            "{text}"
        );
        slirp.host_loopback = true;
        slirp.forwards.push(Forward {
            protocol: "udp".into(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 8053,
            inner: 53,
        });
        let text = slirp.arguments("7", "8", "9").join(" ");
        assert!(!text.contains("--disable-host-loopback"));
        assert!(text.contains("--api-socket=slirp4netns.sock "), "{text}");
        let request = slirp.forwards[0].request();
        assert_eq!(request["arguments"]["guest_addr"], "10.0.2.100");
        assert_eq!(request["arguments"]["host_port"], 8053);
    }

    #[test]
    fn kernels_that_tell_of_a_reaped_process_are_known_by_their_number() {
        assert!(pidfd_hangs_up("6.9.0") && pidfd_hangs_up("6.18.3-amd64") && pidfd_hangs_up("7.0"));
        assert!(
            !pidfd_hangs_up("6.1.0-41-amd64") && !pidfd_hangs_up("5.19") && !pidfd_hangs_up("")
        );
    }

    #[test]
    fn the_program_is_looked_for_in_the_search_path() {
        let dir = tempfile::tempdir().unwrap();
        let path =
            std::env::join_paths([std::path::Path::new("/nonexistent"), dir.path()]).unwrap();
        assert_eq!(find(Some(&path), PROGRAM), None);
        std::fs::write(dir.path().join(PROGRAM), "").unwrap();
        assert_eq!(find(Some(&path), PROGRAM), Some(dir.path().join(PROGRAM)));
        assert_eq!(find(None, PROGRAM), None);
    }
}
