//! A network without root, the other way: pasta.
//!
//! What it does: the same as slirp4netns (`slirp.rs`, whose words and addresses it has), by another
//! program. pasta has no TCP/IP stack between the two sides: it takes connections apart into bytes and
//! puts them into sockets of the host's, which is faster, and it knows IPv6.
//!
//! ```text
//!   run directory/pasta.netns ─▶ the network namespace     how long it lives
//!                 pasta.pid                                who it is
//!                 pasta.log                                what it said
//! ```
//!
//! It goes into the background when the network is there and the ports are held. It ends when the name
//! `pasta.netns` is removed, which whoever clears up after the container does ([`let_go`]): the
//! monitor, or the next command where that was killed. Until then it goes on, whoever was killed.
//! The name leads to the namespace through a descriptor that pasta inherits, since it gives up
//! early what it would need to look into another process.
//!
//! What it implements: passt(1) (`--config-net`, `--netns`, `-t`, `-u`); network_namespaces(7).
//! Interface: [`start`], [`adopt`], [`let_go`], [`usable`], [`runs_for`]. Read next: `slirp.rs`.

use super::slirp::{self, Keeper, PATIENCE_MS, Slirp};
use crate::error::{Context, Error, Kind, Result};
use crate::journal::Planned;
use crate::sys::poll::Interest;
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program.
pub const PROGRAM: &str = "pasta";
/// Its files in the run directory.
const LIFE: &str = "pasta.netns";
const PID: &str = "pasta.pid";
const LOG: &str = "pasta.log";

/// Whether an ordinary user's container can use it: its file. Errors: why it cannot, with what would
/// help.
pub fn usable() -> Result<PathBuf> {
    let unsupported =
        |text: &str| Error::kind(Kind::Unsupported, text.to_string()).topic("rootless");
    let program = slirp::find(std::env::var_os("PATH").as_deref(), PROGRAM).ok_or_else(|| {
        unsupported("pasta is not installed")
            .hint("it gives an ordinary user's containers a network; it is in the package passt")
    })?;
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    if !leads_out(&routes) {
        return Err(
            unsupported("the host has no default route, and pasta needs one")
                .hint("`ip route add default via …`, or --network slirp4netns"),
        );
    }
    slirp::may_have_a_tap()?;
    Ok(program)
}

/// Whether one of the kernel's routes of IPv4 is a default route.
fn leads_out(routes: &str) -> bool {
    let mut lines = routes.lines().skip(1).map(|line| line.split_whitespace());
    lines.any(|mut words| words.nth(1) == Some("00000000"))
}

/// Its words. `userns` where the container has a user namespace of its own.
fn arguments(slirp: &Slirp, userns: Option<&str>) -> Vec<String> {
    let mut all: Vec<String> = ["--config-net", "--quiet", "--ns-ifname", slirp::DEVICE]
        .map(String::from)
        .into();
    let mut put = |name: &str, value: String| all.extend([name.to_string(), value]);
    put("--address", slirp::ADDRESS.to_string());
    put("--netmask", "24".into());
    put("--gateway", slirp::GATEWAY.to_string());
    put("--dns-forward", slirp::RESOLVER.to_string());
    for (flag, protocol) in [("--tcp-ports", "tcp"), ("--udp-ports", "udp")] {
        let mut some = false;
        for f in slirp.forwards.iter().filter(|f| f.protocol == protocol) {
            put(flag, format!("{}/{}:{}", f.address, f.port, f.inner));
            some = true;
        }
        if !some {
            put(flag, "none".into());
        }
    }
    // Nothing of the host's loopback appears on the container's.
    put("--tcp-ns", "none".into());
    put("--udp-ns", "none".into());
    put("--pid", slirp.dir.join(PID).display().to_string());
    if nix::unistd::geteuid().is_root() {
        // Else it would become nobody, who may not enter the namespace.
        put("--runas", "0".into());
    }
    if let Some(path) = userns {
        put("--userns", path.into());
    }
    put("--netns", slirp.dir.join(LIFE).display().to_string());
    if !slirp.host_loopback {
        all.push("--no-map-gw".into());
    }
    all
}

/// The calls of [`start`].
pub(super) fn calls(slirp: &Slirp) -> Vec<Planned> {
    let (log, life) = (slirp.dir.join(LOG), slirp.dir.join(LIFE));
    let (program, arguments) = (slirp.program.display(), arguments(slirp, None));
    vec![
        Planned::new(
            "openat",
            format!("{}, O_RDWR|O_CREAT|O_TRUNC", log.display()),
        ),
        Planned::new(
            "symlinkat",
            format!("\"/proc/self/fd/FD\", {}", life.display()),
        ),
        Planned::new(
            "execve",
            format!("\"{program}\", {arguments:?}, in a child"),
        ),
    ]
}

/// Starts it for the container whose first process is `pid`, and waits until the network is there and
/// the ports are held. Errors: with what it said; nothing of it is left then.
pub fn start(slirp: &Slirp, pid: i32) -> Result<Keeper> {
    let what = "cannot give the container a user-mode network";
    begin(slirp, pid).map_err(|e| {
        let _ = let_go(&slirp.dir); // the first failure says more
        e.context(what).topic("rootless")
    })
}

fn begin(slirp: &Slirp, pid: i32) -> Result<Keeper> {
    let_go(&slirp.dir)?; // of the life before, when the container is restarted
    let path = slirp.dir.join(LOG);
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    let log = std::fs::File::from(sys::fs::open(&path, flags, 0o600)?);
    let namespace = sys::namespace::open_ns(format!("/proc/{pid}/ns/net"))?;
    let namespace = sys::process::inheritable(&namespace)?;
    let target = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let life = slirp.dir.join(LIFE);
    sys::fs::symlinkat(Path::new(&target), sys::fs::CWD, &life)?;
    let userns = format!("/proc/{pid}/ns/user");
    let is_own = std::fs::read_link(&userns).ok() != std::fs::read_link("/proc/self/ns/user").ok();
    let mut command = Command::new(&slirp.program);
    command
        .args(arguments(slirp, is_own.then_some(&userns)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("cannot copy a descriptor")?)
        .stderr(log);
    let mut child = sys::process::spawn(&mut command)?;
    drop(namespace); // its copy is the only one that stays open at an execve
    // It comes back when its own child has taken over, with everything done.
    let first = sys::process::pidfd_open(child.id() as i32)?;
    let interest = Interest {
        fd: first.as_fd(),
        read: true,
        write: false,
    };
    sys::poll::poll(&[interest], PATIENCE_MS)?;
    match child.try_wait().context("cannot wait for pasta")? {
        Some(status) if status.success() => {}
        Some(_) => return Err(failure(&std::fs::read_to_string(&path).unwrap_or_default())),
        None => {
            let _ = sys::process::pidfd_send_signal(&first, libc::SIGKILL);
            let _ = child.wait(); // it has just been killed
            return Err(Error::new("pasta did not make a network within a minute"));
        }
    }
    adopt(&slirp.dir)?.context("pasta ended as soon as the network was there")
}

/// The error, out of what it said: its last line that is not about its own messages.
fn failure(said: &str) -> Error {
    let mut lines = said.lines().rev().map(str::trim);
    let said = lines.find(|l| !l.is_empty() && !l.ends_with("to syslog"));
    let said = said.unwrap_or("nothing");
    let error = Error::new(format!("pasta said: {said}"));
    if said.contains("Failed to bind") {
        let hint = "another process has this port of the host, only root may have it, or (of IPv6) the host has no default route of IPv6";
        return Error::kind(Kind::Conflict, "cannot publish a port")
            .caused_by(error)
            .hint(hint);
    }
    match said.contains("Overlapping port") {
        true => {
            error.hint("this version of pasta publishes a port of the host on one address only")
        }
        false => error,
    }
}

/// One that runs for the container of this run directory. `Ok(None)`: none does.
pub fn adopt(dir: &Path) -> Result<Option<Keeper>> {
    let text = std::fs::read_to_string(dir.join(PID)).unwrap_or_default();
    let Ok(pid) = text.trim().parse::<i32>() else {
        return Ok(None);
    };
    let process = match sys::process::pidfd_open(pid) {
        Ok(process) => process,
        Err(e) if e.errno == Errno::ESRCH => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    // With the descriptor in hand the number is nobody else's: whose is it?
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let life = dir.join(LIFE);
    let life = life.as_os_str().as_encoded_bytes();
    let is_ours = line.split(|b| *b == 0).any(|word| word == life);
    Ok(is_ours.then_some(Keeper {
        process,
        pipe: None,
    }))
}

/// Whether the container of this run directory has it.
pub fn runs_for(dir: &Path) -> bool {
    dir.join(LIFE).symlink_metadata().is_ok()
}

/// Has it end. One that is not there is no error.
pub fn let_go(dir: &Path) -> Result<()> {
    if !runs_for(dir) {
        return Ok(()); // as for most containers
    }
    match sys::fs::unlinkat(sys::fs::CWD, dir.join(LIFE), 0) {
        Err(e) if e.errno != Errno::ENOENT => Err(e).context("cannot end pasta"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::slirp::{Forward, Program};
    use super::*;

    #[test]
    fn the_host_is_shut_off_and_only_what_was_asked_for_is_published() {
        let mut slirp = Slirp {
            how: Program::Pasta,
            program: "/bin/pasta".into(),
            host_loopback: false,
            forwards: Vec::new(),
            dir: "/run/box".into(),
        };
        let text = arguments(&slirp, None).join(" ");
        assert!(text.contains("--address 10.0.2.100 --netmask 24 --gateway 10.0.2.2"));
        assert!(text.contains("--tcp-ports none --udp-ports none --tcp-ns none --udp-ns none"));
        assert!(
            text.ends_with("--netns /run/box/pasta.netns --no-map-gw"),
            "{text}"
        );
        slirp.host_loopback = true;
        for (protocol, address) in [("tcp", "127.0.0.1"), ("tcp", "::1"), ("udp", "0.0.0.0")] {
            slirp.forwards.push(Forward {
                protocol: protocol.into(),
                address: address.parse().unwrap(),
                port: 8053,
                inner: 53,
            });
        }
        let text = arguments(&slirp, Some("/proc/7/ns/user")).join(" ");
        let ports =
            "--tcp-ports 127.0.0.1/8053:53 --tcp-ports ::1/8053:53 --udp-ports 0.0.0.0/8053:53";
        assert!(text.contains(ports), "{text}");
        assert!(
            text.ends_with("--userns /proc/7/ns/user --netns /run/box/pasta.netns"),
            "{text}"
        );
    }

    #[test]
    fn what_it_says_and_what_the_host_has() {
        let said = "No external routable interface for IPv6\nFailed to bind any port for '-t 80:80', exiting\nFailed to send 9 bytes to syslog\n";
        let text = format!("{:#}", failure(said));
        assert!(
            text.contains("cannot publish a port: pasta said: Failed to bind"),
            "{text}"
        );
        assert!(format!("{:#}", failure("")).contains("pasta said: nothing"));
        let head = "Iface\tDestination\tGateway\n";
        assert!(!leads_out(&format!("{head}eth0\t000200C0\t00000000\n")));
        assert!(leads_out(&format!(
            "{head}eth0\t000200C0\t0\neth0\t00000000\t010200C0\n"
        )));
    }

    #[test]
    fn nobody_is_adopted_by_number_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(adopt(dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join(PID), format!("{}\n", std::process::id())).unwrap();
        assert!(adopt(dir.path()).unwrap().is_none());
        assert!(!runs_for(dir.path()));
        let_go(dir.path()).unwrap();
    }
}
