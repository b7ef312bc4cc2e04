//! The listener of a seccomp filter, handed to whoever decides about its calls.
//!
//! What it does: a filter with `SCMP_ACT_NOTIFY` stops calls until another process, the agent,
//! has decided. The descriptor on which it hears of them is made by loading the filter, in init, and
//! from that moment init's own calls may be stopped by it, the one that would send the
//! descriptor included. So a messenger splits off before: a process with the same table of
//! descriptors (`CLONE_FILES`), but without the filter.
//!
//! ```text
//!   parent                init                             messenger
//!   connect(listenerPath)
//!   clone3 ──────────────▶
//!   the state, with
//!   init's id ───────────▶ clone3(CLONE_FILES) ───────────▶
//!                          seccomp → descriptor 7
//!                          write "7" ─────────────────────▶ sendmsg(agent, state, SCM_RIGHTS [7])
//!                          read       ◀──────────────────── "" or the error
//! ```
//!
//! Only `write` must pass the filter, which is why it alone can have no `SCMP_ACT_NOTIFY`.
//!
//! What it implements: runtime-spec `linux.seccomp.listenerPath`, `listenerMetadata`, "The
//! container process state"; seccomp_unotify(2), unix(7).
//! Interface: [`ConnectAgent`], [`SendState`], [`LoadWithListener`]. Read next: `privileges.rs`.

use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::security::seccomp::LoadSeccomp;
use crate::spec::runtime::{ContainerProcessState, Linux, OCI_VERSION, State};
use crate::sys::namespace::Cloned;
use crate::sys::{self, record};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

const AGENT: &str = "seccomp-agent";
/// What init still needs when it has waited to be started.
pub const LATER: &[&str] = &[AGENT, INNER];
const OUTER: &str = "seccomp-state-outer";
const INNER: &str = "seccomp-state-inner";

/// Parent, before the split: connects to the agent, which init inherits.
#[derive(Debug)]
pub struct ConnectAgent {
    /// The agent's socket.
    pub path: PathBuf,
}

impl Action for ConnectAgent {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let agent = sys::socket::connect_stream(&self.path)
            .with_context(|| format!("cannot reach the seccomp agent at {}", self.path.display()))
            .map_err(|e| match e.errno() {
                Some(libc::ENOENT | libc::ECONNREFUSED) => {
                    e.hint("nobody listens there: linux.seccomp.listenerPath is the agent's socket")
                }
                Some(libc::EPROTOTYPE) => e.hint("the agent's socket must be SOCK_STREAM"),
                _ => e,
            })?;
        let (outer, inner) = sys::socket::socketpair().context("cannot make a socket pair")?;
        scene.put_fd(AGENT, agent);
        scene.put_fd(OUTER, outer);
        scene.put_fd(INNER, inner);
        Ok(())
    }
}

/// Parent: tells init what to tell the agent, now that it has an id on the host.
#[derive(Debug)]
pub struct SendState {
    state: ContainerProcessState,
}

impl SendState {
    /// For a filter of `linux`; `container` is the container's state, whose `pid` is 0 where its
    /// first process is the one that is being made.
    pub fn new(linux: &Linux, container: State) -> SendState {
        let seccomp = linux.seccomp.as_ref();
        SendState {
            state: ContainerProcessState {
                oci_version: OCI_VERSION.into(),
                fds: vec!["seccompFd".into()],
                metadata: seccomp.and_then(|s| s.listener_metadata.clone()),
                state: container,
                ..ContainerProcessState::default()
            },
        }
    }
}

impl Action for SendState {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let mut state = self.state.clone();
        state.pid = scene.child_pid()?;
        if state.state.pid == 0 {
            state.state.pid = state.pid;
        }
        let json = serde_json::to_vec(&state).context("cannot write the container's state")?;
        sys::socket::send(scene.fd(OUTER)?, &json).context("init is gone")?;
        for end in [AGENT, OUTER, INNER] {
            drop(scene.take_fd(end)); // init has its own
        }
        Ok(())
    }
}

/// Init: loads the filter, and has the messenger hand its listener over.
#[derive(Debug)]
pub struct LoadWithListener {
    /// The filter.
    pub load: LoadSeccomp,
    /// The agent's socket, for the dry run.
    pub path: PathBuf,
}

impl Action for LoadWithListener {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = vec![
            Planned::new("clone3", "CLONE_FILES: the messenger, which has no filter"),
            Planned::new("prctl", "PR_SET_PDEATHSIG, SIGKILL, by the messenger"),
        ];
        calls.extend(self.load.calls());
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot hand the seccomp listener to the agent at {}",
                self.path.display()
            )
        };
        let agent = scene.take_fd(AGENT).context("the agent was not reached")?;
        let state = scene.take_fd(INNER).context("the state was not sent")?;
        drop(scene.take_fd(OUTER)); // the parent's: with ours open the wait below would be endless
        let state = sys::socket::recv(&state)
            .with_context(what)?
            .with_context(what)?;
        let (ours, theirs) = sys::socket::socketpair().with_context(what)?;
        let files = libc::CLONE_FILES as u64;
        let pidfd = match sys::namespace::clone3(files, None).with_context(what)? {
            Cloned::Child => {
                messenger(theirs.as_fd(), agent.as_fd(), &state);
            }
            Cloned::Parent { pidfd, .. } => pidfd,
        };
        let loaded = self.load.apply(scene);
        let handed = loaded.and_then(|()| {
            let listener = scene.take_fd(LoadSeccomp::LISTENER);
            let listener = listener.context("the kernel gave no listener")?;
            let number = listener.as_raw_fd().to_string();
            sys::socket::write(&ours, number.as_bytes()).with_context(what)?;
            // Until it has sent it, this table of descriptors must hold it.
            let answer = sys::socket::read(&ours).with_context(what)?;
            match answer.as_slice() {
                b"ok" => Ok(()),
                error => {
                    let error = String::from_utf8_lossy(error).into_owned();
                    Err(Error::new(what()).caused_by(Error::new(error)))
                }
            }
        });
        if handed.is_err() {
            let _ = sys::process::pidfd_send_signal(&pidfd, libc::SIGKILL); // it may have ended
        }
        // The filter may forbid it; then the program finds one more ended child than it made.
        let _ = sys::process::waitid(&pidfd, 0);
        handed
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.load.observe(scene)
    }
    fn is_last_word(&self) -> bool {
        self.load.last
    }
}

/// The messenger's life. Who runs here: init's child, on a copy of its memory and with its very
/// table of descriptors, so it must not close anything.
fn messenger(init: BorrowedFd<'_>, agent: BorrowedFd<'_>, state: &[u8]) -> ! {
    record::set_pid(record::outer_pid());
    let name = "PR_SET_PDEATHSIG, SIGKILL";
    let sigkill = libc::SIGKILL as u64;
    // Should init be killed, nobody else would end us: we hold both ends of our channel.
    let _ = sys::process::prctl(name, libc::PR_SET_PDEATHSIG, sigkill, 0);
    let told = sys::socket::read(init)
        .ok()
        .and_then(|text| String::from_utf8(text).ok()?.parse::<i32>().ok());
    // One state a connection, and then its end: an agent that waits for that must not wait for
    // init, which may already be waiting for the agent.
    let hand = |fd| {
        sys::socket::send_with_fd(agent, state, fd)?;
        sys::socket::shutdown_write(agent)
    };
    let answer = match told.map(hand) {
        Some(Ok(())) => "ok".to_string(),
        Some(Err(e)) => e.to_string(),
        None => "init said no number".into(),
    };
    let _ = sys::socket::write(init, answer.as_bytes());
    sys::process::exit_now(0)
}
