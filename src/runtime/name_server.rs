//! The sockets of a container's name server, made inside and served outside.
//!
//! What it does: init opens them as soon as its loopback is up, long before the program could ask,
//! and hands them out over a socket pair. A socket stays in the network namespace that it was made
//! in; who holds it answers in there without being there.
//!
//! ```text
//!   parent                        init
//!   socketpair ── (inherited) ──▶ bind 127.0.0.11:53, udp and tcp
//!   recvmsg    ◀── SCM_RIGHTS ──── send both
//! ```
//!
//! A monitor that takes over from one that was killed has no init to ask: it splits a child off that
//! enters the namespaces and does the same ([`reopen`]).
//!
//! What it implements: unix(7) (`SCM_RIGHTS`), network_namespaces(7), setns(2).
//! Interface: [`CHANNEL`]; the actions [`OpenSockets`]; [`take`], [`reopen`].
//! Read next: [`crate::network::dns`].

use super::channel::Channel;
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::namespaces::split_off;
use crate::network::dns::{self, Sockets};
use crate::sys::{self, namespace::Cloned};
use std::os::fd::{AsFd, BorrowedFd};

const OUTER: &str = "names-outer";
const INNER: &str = "names-inner";

/// What will carry the server's sockets.
pub const CHANNEL: Channel = Channel {
    outer: OUTER,
    inner: INNER,
};

/// Init, when its loopback is up: opens the sockets and hands them out.
#[derive(Debug)]
pub struct OpenSockets;

impl Action for OpenSockets {
    fn calls(&self) -> Vec<Planned> {
        let address = format!("{}:{}", dns::ADDRESS, dns::PORT);
        vec![
            Planned::new("bind", format!("SOCK_DGRAM, {address}")),
            Planned::new("bind", format!("SOCK_STREAM, {address}; listen")),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        hand_out(scene.fd(INNER)?)?;
        drop(scene.take_fd(INNER));
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        // 127.0.0.11, port 53, as the kernel's table has them: in hexadecimal, the address as a
        // number of this machine.
        let address = format!(
            "{:08X}:{:04X}",
            u32::from_ne_bytes(dns::ADDRESS.octets()),
            dns::PORT
        );
        let open = std::fs::read_to_string("/proc/self/net/udp").map(|text| {
            match text.contains(&address) {
                true => format!("open on {}", dns::ADDRESS),
                false => "none".into(),
            }
        });
        vec![Fact {
            what: "name server".into(),
            value: open.map_err(|e| e.to_string()),
            source: "/proc/self/net/udp".into(),
        }]
    }
}

fn hand_out(channel: BorrowedFd<'_>) -> Result<()> {
    let sockets = dns::open()?;
    let what = "cannot hand the name server's sockets out";
    sys::socket::send_fd(channel, &sockets.udp).context(what)?;
    sys::socket::send_fd(channel, &sockets.tcp).context(what)
}

/// Parent, when init has come to its end: what it handed out. `None`: the plan had no such step.
pub fn take(scene: &mut Scene) -> Result<Option<Sockets>> {
    drop(scene.take_fd(INNER)); // or reading would wait for ever for an init that sent nothing
    match scene.take_fd(OUTER) {
        Some(outer) => receive(outer.as_fd()).map(Some),
        None => Ok(None),
    }
}

fn receive(channel: BorrowedFd<'_>) -> Result<Sockets> {
    let one = || {
        sys::socket::recv_fd(channel)
            .context("cannot receive the name server's sockets")?
            .ok_or_else(|| Error::new("the name server's sockets did not arrive"))
    };
    Ok(Sockets {
        udp: one()?,
        tcp: one()?,
    })
}

/// Opens the sockets of a container that runs already, whose first process is `pidfd`; the earlier
/// ones must be closed. `rootless`: its namespaces belong to a user namespace. The caller has one
/// thread. Errors: it has ended, or its namespaces cannot be entered.
pub fn reopen(pidfd: impl AsFd, rootless: bool) -> Result<Sockets> {
    let (outer, inner) = sys::socket::socketpair().context("cannot make a socket pair")?;
    match split_off("a process")? {
        Cloned::Child => {
            // A process of its own: it must never return into the caller's code.
            drop(outer);
            let mut kinds = libc::CLONE_NEWNET;
            if rootless {
                kinds |= libc::CLONE_NEWUSER;
            }
            let entered = sys::namespace::setns(pidfd.as_fd(), kinds as u64);
            let done = entered.is_ok() && hand_out(inner.as_fd()).is_ok();
            sys::process::exit_now(i32::from(!done))
        }
        Cloned::Parent { pidfd: child, .. } => {
            drop(inner);
            let sockets = receive(outer.as_fd());
            let _ = sys::process::waitid(&child, 0); // its status says nothing more
            sockets
        }
    }
}
