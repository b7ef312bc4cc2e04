//! The terminal: a pseudo terminal of the container's own devpts, its outer end handed out.
//!
//! What it does: init opens `ptmx` of the container's devpts, so that `tty` inside names a device
//! that exists there, sends the master out over a socket, and makes the other end its controlling
//! terminal and its three standard streams.
//!
//! ```text
//!   parent                        init
//!   socketpair ── (inherited) ──▶ open pts/ptmx → master, slave
//!   recvmsg    ◀── SCM_RIGHTS ──── send master
//!   keeps the master              TIOCSCTTY, dup2 slave → 0, 1, 2
//! ```
//!
//! What it implements: runtime-spec `process.terminal`, `consoleSize`, "/dev/console"; pty(7).
//! Interface: [`CHANNEL`]; the actions [`OpenTerminal`], [`ReceiveTerminal`], [`Streams`].
//! Read next: `process.rs`.

use super::channel::Channel;
use super::mount::{ROOT, plain_target};
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, mount as m};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

const OUTER: &str = "terminal-outer";
const INNER: &str = "terminal-inner";
/// The scene's name for the master, in the parent, after [`ReceiveTerminal`].
pub const MASTER: &str = "terminal";

/// What will carry the master.
pub const CHANNEL: Channel = Channel {
    outer: OUTER,
    inner: INNER,
};

/// Init: opens the terminal, sends the master out, and takes the other end as its own.
#[derive(Debug)]
pub struct OpenTerminal {
    /// Rows and columns to begin with.
    pub size: Option<(u16, u16)>,
    /// Also show it as /dev/console (a bind mount); not for exec.
    pub console: bool,
    /// Whose it is: the process's user id, as the container has it.
    pub owner: u32,
}

impl Action for OpenTerminal {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = vec![Planned::new(
            "open",
            "\"/dev/pts/ptmx\"; TIOCSPTLCK; TIOCGPTN",
        )];
        if let Some((rows, columns)) = self.size {
            calls.push(Planned::new(
                "ioctl",
                format!("TIOCSWINSZ, {{{rows}, {columns}}}"),
            ));
        }
        if self.owner != 0 {
            calls.push(Planned::new("fchown", format!("slave, {}, -1", self.owner)));
        }
        if self.console {
            calls.push(Planned::new("open_tree", "slave, OPEN_TREE_CLONE"));
            calls.push(Planned::new("move_mount", "→ /dev/console"));
        }
        calls.push(Planned::new("ioctl", "TIOCSCTTY"));
        calls
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = "cannot open a terminal in the container";
        let root = scene.fd(ROOT)?;
        // Below the pinned root: "/" is still the host's, and so were a link's way through it.
        let master = open_ptmx(root)
            .context(what)
            .map_err(|e| e.hint("a terminal needs a devpts mounted on /dev/pts"))?;
        let slave = sys::tty::open_peer(&master).context(what)?;
        if let Some((rows, columns)) = self.size {
            sys::tty::set_window_size(&slave, rows, columns).context(what)?;
        }
        if self.owner != 0 {
            // devpts gives it to who opened ptmx, root here. Its user must be able to open it again
            // (/dev/tty, /proc/self/fd/0, tty(1)); the group stays devpts's.
            sys::xattr::fchown(&slave, self.owner, u32::MAX).context(what)?;
        }
        if self.console {
            let flags = m::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32;
            // The terminal that is open, and not what /dev/pts/N is by now; and where /dev/console
            // is a link, it may lead to a file that must stay covered (CVE-2025-52565).
            let copy = m::open_tree(&slave, Path::new(""), flags).context(what)?;
            let place = plain_target(root, Path::new("/dev/console"), false).context(what)?;
            let both = m::MOVE_MOUNT_F_EMPTY_PATH | m::MOVE_MOUNT_T_EMPTY_PATH;
            m::move_mount(&copy, Path::new(""), &place, Path::new(""), both).context(what)?;
        }
        sys::socket::send_fd(scene.fd(INNER)?, &master).context("cannot hand the terminal out")?;
        sys::tty::set_controlling(&slave).context(what)?;
        for stream in 0..=2 {
            sys::process::dup2_stdio(&slave, stream).context(what)?;
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact::from_link("standard input", "/proc/self/fd/0")]
    }
}

/// The multiplexer of the container's devpts, unlocked.
fn open_ptmx(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    let ptmx = sys::fs::openat2(root, "dev/pts/ptmx", flags, 0, resolve)?;
    let system = nix::sys::statfs::fstatfs(&ptmx).map_err(|errno| sys::SysError {
        call: "fstatfs",
        args: "/dev/pts/ptmx".into(),
        errno,
    })?;
    if system.filesystem_type().0 != nix::libc::DEVPTS_SUPER_MAGIC {
        return Err(Error::new(
            "/dev/pts/ptmx of the container is not on a devpts",
        ));
    }
    sys::tty::unlock(&ptmx)?;
    Ok(ptmx)
}

/// Parent: takes the master in.
#[derive(Debug)]
pub struct ReceiveTerminal;

impl Action for ReceiveTerminal {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        drop(scene.take_fd(INNER)); // only init writes there now
        let master = sys::socket::recv_fd(scene.fd(OUTER)?)
            .context("cannot receive the terminal")?
            .ok_or_else(|| Error::new("init went away without sending its terminal"))?;
        scene.put_fd(MASTER, master);
        drop(scene.take_fd(OUTER));
        Ok(())
    }
}

/// Init: takes the descriptors "stdin", "stdout", "stderr" of the scene as its streams.
/// They are never chowned: a stream may be a device of the host.
#[derive(Debug)]
pub struct Streams;

/// The scene's names of the three streams.
pub const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

impl Action for Streams {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        for (i, name) in STREAMS.iter().enumerate() {
            sys::process::dup2_stdio(scene.fd(name)?, i as i32)
                .with_context(|| format!("cannot set {name}"))?;
        }
        Ok(())
    }
}
