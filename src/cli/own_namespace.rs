//! An ordinary user's command line, once more where it can read all of a container's files.
//!
//! What it does: the root file system of a container is layers, which have to be mounted to be read
//! as one, and has files of ids that its user has no power over. Both an ordinary user may do in a
//! user namespace: in the container's own while it runs, else in a new one with the same maps. So
//! this process becomes another of our commands, which runs the same words there:
//!
//! ```text
//!   it has ended   glassbox ns run --user --mount --map-user … -- glassbox export web
//!   it runs        glassbox ns enter --user PID -- glassbox ns run --mount -- glassbox export web
//! ```
//!
//! What it implements: user_namespaces(7), subuid(5). Interface: [`command_again`].
//! Read next: [`crate::containers::files::view`], which mounts; `ns/run.rs`.

use crate::containers::{Container, Store, prepare, reconcile};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::spec::runtime::IdMapping;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Which containers' files need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Those of one that runs can be reached from here.
    Ended,
    /// All.
    Always,
}

/// Runs this command line again where the container's files can be read; returns only where that is
/// here. Errors: the container has just ended or begun, or our program is not there any more.
pub fn command_again(store: &Store, container: &Container, when: When) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let status = reconcile::settled(container)?;
    let runs = status.phase.is_live();
    if runs && (when == When::Ended || status.pid == 0) {
        return Ok(());
    }
    let Some((uids, gids)) = prepare::id_maps(container, &Host::detect()?)? else {
        return Ok(());
    };
    let program = OsString::from("/proc/self/exe");
    let mut words: Vec<OsString> = Vec::new();
    let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
    if runs {
        add(&format!("ns enter --user {} --", status.pid));
        add("/proc/self/exe ns run --mount");
    } else {
        add("ns run --user --mount");
        let map = |m: &IdMapping| format!("{}:{}:{}", m.container_id, m.host_id, m.size);
        uids.iter()
            .for_each(|m| add(&format!("--map-user {}", map(m))));
        gids.iter()
            .for_each(|m| add(&format!("--map-group {}", map(m))));
    }
    add("--");
    words.push(program.clone());
    words.extend(std::env::args_os().skip(1));
    let paths = store.paths();
    let failed = Command::new(program)
        .args(words)
        .env("GLASSBOX_ROOT", &paths.root)
        .env("GLASSBOX_RUN", &paths.run)
        .exec();
    Err(Error::new("cannot run this command in a user namespace").caused_by(failed))
}
