//! A user namespace that holds an id map and nothing else.
//!
//! What it does: an id-mapped mount takes its map from a user namespace, so one is made for it: a
//! child splits off into it, its maps are written, the namespace is opened, and the child is
//! ended. The descriptor keeps the namespace for as long as somebody needs its map; a mount then
//! does so by itself.
//!
//! What it implements: user_namespaces(7), mount_setattr(2) "ID-mapped mounts".
//! Interface: [`HoldIdMap`]. Read next: `idmaps.rs`.

use crate::error::{Context, Result};
use crate::host::procfs;
use crate::journal::{Action, Fact, Planned, Scene};
use crate::namespaces::{IdKind, IdMap, refusal::refused};
use crate::sys::{self, namespace::Cloned};

const NEWUSER: u64 = libc::CLONE_NEWUSER as u64;

/// Makes a user namespace with these maps and puts it into the scene.
#[derive(Debug)]
pub struct HoldIdMap {
    /// The scene's name for it.
    pub name: String,
    /// Its users.
    pub uids: Vec<IdMap>,
    /// Its groups.
    pub gids: Vec<IdMap>,
}

impl HoldIdMap {
    fn maps(&self) -> [(IdKind, &Vec<IdMap>); 2] {
        [(IdKind::Uid, &self.uids), (IdKind::Gid, &self.gids)]
    }
    fn write(&self, pid: i32, scene: &mut Scene) -> Result<()> {
        for (kind, maps) in self.maps() {
            let path = format!("{pid}/{}", kind.map_file());
            procfs::write(&path, &IdMap::kernel_text(maps))
                .with_context(|| format!("cannot write the {} id map of the mount", kind.word()))
                .map_err(|e| match e.errno() {
                    Some(libc::EPERM) => e.hint("this needs CAP_SETUID and CAP_SETGID on the host"),
                    _ => e,
                })?;
        }
        let file = sys::namespace::open_ns(format!("/proc/{pid}/ns/user"))
            .context("cannot open the user namespace of the mount's ids")?;
        scene.put_fd(self.name.clone(), file);
        Ok(())
    }
}

impl Action for HoldIdMap {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = vec![Planned::new("clone3", "CLONE_NEWUSER|CLONE_PIDFD")];
        for (kind, maps) in self.maps() {
            let text = IdMap::kernel_text(maps).trim_end().replace('\n', "; ");
            let file = kind.map_file();
            calls.push(Planned::new(
                "write",
                format!("/proc/CHILD/{file} ← {text}"),
            ));
        }
        calls.push(Planned::new("pidfd_send_signal", "CHILD, SIGKILL"));
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        for (kind, maps) in self.maps() {
            IdMap::check(kind, maps)?;
        }
        let (ours, childs) = sys::socket::socketpair().context("cannot make a socket pair")?;
        match sys::namespace::clone3(NEWUSER, None).map_err(|e| refused("create", NEWUSER, e))? {
            Cloned::Child => {
                // The child is there to be looked at. It ends with its parent, at the latest.
                drop(ours);
                let _ = sys::socket::recv(&childs);
                sys::process::exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => {
                let written = self.write(pid, scene);
                let ended = sys::process::pidfd_send_signal(&pidfd, libc::SIGKILL)
                    .and_then(|()| sys::process::waitid(&pidfd, 0));
                written?;
                ended
                    .context("cannot end the process that held the id map")
                    .map(drop)
            }
        }
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        use std::os::fd::AsRawFd;
        match scene.fd(&self.name) {
            Ok(fd) => vec![Fact::from_link(
                "user namespace of the mount's ids",
                format!("/proc/self/fd/{}", fd.as_raw_fd()),
            )],
            Err(_) => Vec::new(),
        }
    }
}
