//! The container runtime: an OCI bundle becomes a running program inside its walls.
//!
//! What it does: takes a config.json and nothing else (it knows no images), makes the plan of the
//! set-up, carries it out, and hands back the process. [`launch`] creates and starts in one go,
//! for a caller that stays; [`operations`] are those of the specification, for callers that go
//! between one and the next. [`exec()`] runs a further program in a container, [`remove`] clears
//! away what the kernel still holds of one.
//!
//! What it implements: OCI runtime-spec 1.2 and 1.3, for Linux.
//! Interface: [`Request`], [`plan()`], [`launch`], [`exec()`], [`remove`], [`operations`],
//! [`store`], [`own_binary`]. Read next: `plan.rs`, the order of everything; then `operations.rs`.

pub mod abroad;
mod channel;
mod check;
mod copy_up;
mod devices;
pub mod events;
mod exec;
mod exec_group;
mod features;
mod fifos;
mod hooks;
mod identity;
mod listener;
pub mod mount;
mod name_server;
mod netdevice;
pub mod operations;
pub mod options;
pub mod own_binary;
mod pause;
mod plan;
mod privileges;
mod program;
mod reaper;
mod remount;
mod resources;
mod rootfs;
mod scheduling;
mod session;
mod shared;
pub mod store;
mod template;
mod terminal;
mod tree;
pub mod update;

pub use exec::{ExecRequest, exec, plan_exec};
pub use exec_group::SubGroup;
pub use features::features;
pub use fifos::Outer;
pub use name_server::reopen as reopen_name_server;
pub use plan::plan;
pub use privileges::take_ungrantable;
pub use reaper::ended;
pub use template::{rootless, template};

use crate::cgroups::{self, CgroupPath, Group};
use crate::error::{Context, Result};
use crate::host::Host;
use crate::journal::{self, Plan, Scene, Watch, execute};
use crate::network::dns::Sockets;
use crate::network::slirp::{self, Keeper, Slirp};
use crate::spec::runtime::Spec;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The annotation that asks for a small init as PID 1 (`docker run --init`), value `true`.
pub const INIT_ANNOTATION: &str = "glassbox.init";

/// Where the standard streams of the program come from.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These.
    Fds {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// FIFOs that are made for it; [`Launched::outer`] has the caller's ends.
    Fifos {
        /// The directory in which they are made.
        dir: PathBuf,
        /// It may read from its standard input; else that is /dev/null.
        stdin: bool,
    },
    /// A new terminal; [`Launched::terminal`] is its outer end. `process.terminal` must be true.
    Terminal,
}

/// A container to be made.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its id: names the cgroup when the document does not.
    pub id: &'a str,
    /// config.json.
    pub spec: &'a Spec,
    /// The directory that relative paths in it begin at.
    pub bundle: &'a Path,
    /// What this host allows.
    pub host: &'a Host,
    /// Where its cgroup lies, as [`group_of`] finds it; `None` runs it without one.
    pub group: Option<Group>,
    /// The program's streams.
    pub stdio: Stdio,
    /// What else is wanted.
    pub wishes: Wishes,
}

/// What a caller may want beyond the bundle. The default is what an engine wants.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Stop right before the program, until it is started.
    pub pause: Option<Pause>,
    /// How many of the caller's descriptors from 3 on the program gets (`--preserve-fds`).
    pub preserve_fds: u32,
    /// Move the root instead of pivoting (`--no-pivot`: for a host whose root is a ramfs).
    pub no_pivot: bool,
    /// Keep the caller's session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// The sockets of a name server inside, for the caller to serve ([`Launched::names`]).
    pub name_server: bool,
    /// A user-mode network ([`Launched::slirp`]).
    pub slirp: Option<Slirp>,
    /// Where an init of ours writes how the program ended; [`reaper::ended`] reads it.
    pub exit_file: Option<PathBuf>,
    /// The scope of systemd's that it becomes; the document's cgroup path is then the scope's.
    pub unit: Option<cgroups::systemd::Unit>,
    /// The networks that it is connected to, if it gets a network namespace of its own.
    pub networks: Vec<crate::network::Endpoint>,
}

/// A container that waits to be started, and where it is remembered meanwhile.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Its state directory.
    pub dir: PathBuf,
    /// What is written down there.
    pub record: store::Record,
}

/// A program that runs inside a container. The caller is its parent, and reaps it.
#[derive(Debug)]
pub struct Launched {
    /// Its process id, as the caller sees it.
    pub pid: i32,
    /// Refers to it safely.
    pub pidfd: OwnedFd,
    /// The outer end of its terminal, if it has one.
    pub terminal: Option<OwnedFd>,
    /// The caller's ends of its FIFOs, where it has such ([`Stdio::Fifos`]).
    pub outer: Outer,
    /// The sockets of its name server, where one was wanted.
    pub names: Option<Sockets>,
    /// Its user-mode network, where one was wanted.
    pub slirp: Option<Keeper>,
    /// What steps of the caller's own left in the scene to be held while it runs: descriptors whose
    /// names begin with [`HELD`].
    pub held: Vec<OwnedFd>,
}

/// The beginning of the scene's names of descriptors that outlive the set-up ([`Launched::held`]).
pub const HELD: &str = "held-";

/// Makes the container and starts its program; the program is running when this returns.
///
/// The process must be single-threaded (it is cloned), and the recorder, if any, already
/// installed. `extra` steps go before the container's own: what a caller does for it on disk.
/// Errors: the first step that failed, after everything was undone.
pub fn launch(
    mut request: Request<'_>,
    extra: Plan,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Launched> {
    let mut plan = plan(&request)?;
    plan.steps.splice(0..0, extra.steps);
    let mut scene = Scene::new();
    put_streams(
        &mut scene,
        std::mem::replace(&mut request.stdio, Stdio::Inherit),
    );
    run(&plan, scene, watch, options)
}

/// Carries a plan out to the running program; undoes all of it on failure.
fn run(
    plan: &Plan,
    mut scene: Scene,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Launched> {
    let mut running = journal::execute(plan, &mut scene, watch, options)?;
    let finished = running.finish(&mut scene, watch);
    let names = match finished.and_then(|()| name_server::take(&mut scene)) {
        Ok(names) => names,
        Err(error) => {
            return Err(match execute::undo(plan, &mut scene) {
                Ok(()) => error,
                Err(more) => error.hint(format!("and the clean-up failed too: {more:#}")),
            });
        }
    };
    let terminal = scene.take_fd(terminal::MASTER);
    let outer = Outer::take(&mut scene);
    let slirp = scene.take_fd(slirp::PROCESS).map(|process| Keeper {
        process,
        pipe: scene.take_fd(slirp::PIPE),
    });
    let held = scene.take_all(HELD);
    let child = scene.child.take().context("the plan has no clone step")?;
    Ok(Launched {
        pid: child.pid,
        pidfd: child.pidfd,
        terminal,
        outer,
        names,
        slirp,
        held,
    })
}

fn put_streams(scene: &mut Scene, stdio: Stdio) {
    if let Stdio::Fds {
        stdin,
        stdout,
        stderr,
    } = stdio
    {
        for (name, fd) in terminal::STREAMS.into_iter().zip([stdin, stdout, stderr]) {
            scene.put_fd(name, fd);
        }
    }
}

/// The cgroup of a container, or `None` where it can have none: an ordinary user's on a host that
/// delegates nothing, who asked for no limit either. Errors: a limit was asked for that cannot be
/// had.
pub fn group_of(spec: &Spec, host: &Host) -> Result<Option<Group>> {
    let (Some(linux), Some(path)) = (&spec.linux, cgroup_path(spec)) else {
        return Ok(None);
    };
    let group = Group::locate(&host.cgroups, &CgroupPath::parse(path)?)?;
    let limits = resources::limits(linux.resources.as_ref())?;
    match group.require_usable() {
        Err(_) if host.rootless && limits.is_empty() => Ok(None),
        Err(e) => Err(e),
        Ok(()) => Ok(Some(group)),
    }
}

/// Where the document wants its cgroup; `None` for none.
fn cgroup_path(spec: &Spec) -> Option<&str> {
    let path = spec.linux.as_ref()?.cgroups_path.as_deref()?;
    (!path.is_empty()).then_some(path)
}

/// Clears away what the kernel still holds of a container: kills what runs in its cgroup and
/// removes the cgroup. Idempotent: what is gone already is no error. Its mounts and namespaces
/// went with its last process.
pub fn remove(spec: &Spec, host: &Host) -> Result<()> {
    let Some(path) = cgroup_path(spec) else {
        return Ok(());
    };
    match Group::existing(&host.cgroups, &CgroupPath::parse(path)?) {
        Ok(group) => {
            cgroups::lifecycle::remove(&group, true)?;
            // The group above is ours too; it goes with its last container.
            cgroups::lifecycle::prune(&group, "glassbox");
            Ok(())
        }
        Err(e) if e.get_kind() == crate::error::Kind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
