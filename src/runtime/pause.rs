//! Between `create` and `start`: init waits on a socket until it is started.
//!
//! What it does: the parent makes a listening socket in the container's state directory before the
//! split; init waits in accept(2). Who connects has said "start", and hears over the same
//! connection whether the program was executed (it closes at `execve`) or why it was not. Nobody
//! else can reach it: the directory is its owner's alone, and it lies outside the container.
//!
//! What it implements: runtime-spec "create", "start"; unix(7).
//! Interface: [`Listen`], [`AwaitStart`], [`connect`], [`SOCKET`]. Read next: `operations.rs`.

use crate::error::{Context, Result};
use crate::journal::{Action, Planned, STARTER, Scene};
use crate::sys;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The socket's name in the state directory: there as long as the container waits.
pub const SOCKET: &str = "start";
const LISTENER: &str = "start-listener";

/// Parent, before the split: makes the socket.
#[derive(Debug)]
pub struct Listen {
    /// The container's state directory.
    pub dir: PathBuf,
}

/// `sun_path` holds 108 bytes, a state directory's path may be longer: through a descriptor.
fn through_descriptor<T>(
    dir: &Path,
    act: impl FnOnce(&Path) -> sys::SysResult<T>,
) -> sys::SysResult<T> {
    let fd = sys::fs::open(dir, libc::O_PATH | libc::O_DIRECTORY, 0)?;
    act(Path::new(&format!(
        "/proc/self/fd/{}/{SOCKET}",
        fd.as_raw_fd()
    )))
}

impl Action for Listen {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "bind",
            format!("AF_UNIX, {:?}", self.dir.join(SOCKET)),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let socket = through_descriptor(&self.dir, sys::socket::listen)
            .context("cannot make the socket on which the container waits to be started")?;
        scene.put_fd(LISTENER, socket);
        Ok(())
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        match sys::fs::unlinkat(sys::fs::CWD, self.dir.join(SOCKET), 0) {
            Err(e) if e.errno != sys::Errno::ENOENT => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// Init: waits to be started. It may be a long time, and nothing is held open for it: not the
/// container's lock, no directory of the host, no cgroup.
#[derive(Debug)]
pub struct AwaitStart {
    /// How many descriptors from 3 on are the caller's, for the program.
    pub preserve_fds: u32,
    /// The descriptors of the scene that later steps need.
    pub keep: &'static [&'static str],
}

impl Action for AwaitStart {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let listener = scene
            .take_fd(LISTENER)
            .context("nobody made the start socket")?;
        let mut keep = scene.keep_only(self.keep);
        keep.push(listener.as_fd());
        sys::process::close_from_but(3 + self.preserve_fds, &keep);
        sys::memory::drop_code();
        loop {
            // None: whoever connected has gone again already; the next one counts.
            if let Some(starter) = sys::socket::accept(&listener)? {
                scene.put_fd(STARTER, starter);
                return Ok(());
            }
        }
    }
    fn is_pause(&self) -> bool {
        true
    }
}

/// Starts what waits in `dir`; the connection tells the rest.
pub fn connect(dir: &Path) -> sys::SysResult<OwnedFd> {
    through_descriptor(dir, sys::socket::connect)
}
