//! The operations of an OCI runtime: create, start, kill, delete, and what goes with them.
//!
//! What it does: the specification's state machine over `store.rs`. One command is one operation
//! is one process; what two of them do at once to one container is put in a row by its lock.
//!
//! ```text
//!   create ──▶ created ── start ──▶ running ── (ends, or kill) ──▶ stopped ── delete ──▶ gone
//!                 │                  │    ▲                           ▲
//!                 │                pause resume                       │
//!                 └───────────────── kill ────────────────────────────┘
//! ```
//!
//! What it implements: runtime-spec "Operations", "Lifecycle".
//! Interface: [`create`], [`start`], [`kill`], [`delete`], [`pause`], [`resume`].
//! Read next: `plan.rs`.

use super::hooks::{self, Moment};
use super::store::{self, Container, Record, Root, state_of};
use super::{Request, Stdio, Wishes, pause as waiting, shared};
use crate::cgroups::lifecycle;
use crate::cgroups::systemd::{self, Manager, Unit};
use crate::error::{Context, Error, Kind, Result};
use crate::files;
use crate::host::{Host, process};
use crate::journal::{self, Action, Event, Planned, Running, Scene, Watch, execute};
use crate::spec::runtime::{Hooks, NamespaceType, Spec, State, Status};
use crate::spec::time::Time;
use crate::sys::{self, record::Arena};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a killed container is given to end: a process that the kernel holds in an
/// uninterruptible sleep takes its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container to be created.
#[derive(Debug)]
pub struct Create<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its bundle, absolute.
    pub bundle: &'a Path,
    /// Its config.json.
    pub spec: Spec,
    /// What this host allows.
    pub host: &'a Host,
    /// Where its terminal goes: a unix socket that waits for it (`--console-socket`).
    pub console: Option<&'a Path>,
    /// Gets its pidfd (`--pidfd-socket`).
    pub pidfd_socket: Option<&'a Path>,
    /// Gets its process id (`--pid-file`).
    pub pid_file: Option<&'a Path>,
    /// Its cgroup is made by systemd, as a scope; `linux.cgroupsPath` is SLICE:PREFIX:NAME.
    pub systemd: bool,
    /// What else is wanted.
    pub wishes: Wishes,
}

/// What [`create`] made.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// Its first process, a child of this one.
    pub pidfd: OwnedFd,
    /// The outer end of its terminal, when no console socket took it.
    pub terminal: Option<OwnedFd>,
}

/// Writes down the container's first process, as soon as there is one: from here on the container
/// is found, whoever is killed.
#[derive(Debug)]
pub(super) struct WriteRecord {
    pub dir: PathBuf,
    pub record: Record,
}

impl Action for WriteRecord {
    fn calls(&self) -> Vec<Planned> {
        let file = self.dir.join("state.json");
        vec![
            Planned::new("write", format!("{}.new ← its process", file.display())),
            Planned::new("renameat2", format!("→ {:?}", file)),
        ]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let pid = scene.child_pid()?;
        let record = Record {
            pid,
            pid_start: process::start_time(pid).unwrap_or(0),
            root_mount: scene.get(shared::MOUNT_ID).and_then(|id| id.parse().ok()),
            ..self.record.clone()
        };
        store::write(&self.dir, &record)
    }
}

/// Makes a container up to the moment before its program: it waits for [`start`].
///
/// Errors: the reason; nothing of it is left then.
pub fn create(
    root: &Root,
    mut request: Create<'_>,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Created> {
    // Its own group, so that it can be counted, frozen and killed as one.
    let linux = request.spec.linux.get_or_insert_default();
    if request.systemd {
        let asked = linux.cgroups_path.as_deref();
        let manager = Manager::find(request.host)?;
        let unit = Unit::of(asked, request.id, request.host, manager)?;
        // From here on the document has the path, and no operation need know how it came about.
        linux.cgroups_path = Some(unit.group()?.to_string());
        request.wishes.unit = Some(unit);
    }
    linux
        .cgroups_path
        .get_or_insert_with(|| default_group(request.id));
    let (dir, lock) = root.reserve(request.id)?;
    let made = create_in(&dir, &request, watch, options);
    drop(lock);
    if made.is_err() {
        let _ = remove_directory(&dir); // the first error is the one to tell
    }
    made
}

/// Where a container is whose document names no cgroup: directly below the root (or the delegated
/// group), as each level more is one more directory to make and remove in every tree.
pub fn default_group(id: &str) -> String {
    format!("/glassbox-{id}")
}

fn create_in(
    dir: &Path,
    request: &Create<'_>,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Created> {
    begin_journal(dir, "create")?;
    let spec = &request.spec;
    files::write_atomically(
        &dir.join("config.json"),
        &files::to_json(spec)?,
        0o600,
        false,
    )?;
    let rootfs = spec
        .root
        .as_ref()
        .map_or_else(PathBuf::new, |r| request.bundle.join(&r.path));
    let record = Record {
        id: request.id.into(),
        bundle: request.bundle.into(),
        rootfs,
        created: Time::now(),
        uid: nix::unistd::geteuid().as_raw(),
        keyring: Some(keyring_name(request.id)?),
        unit: request.wishes.unit.clone(),
        ..Record::default()
    };
    let plan = super::plan(&Request {
        id: request.id,
        spec,
        bundle: request.bundle,
        host: request.host,
        group: super::group_of(spec, request.host)?,
        stdio: if spec.process.as_ref().is_some_and(|p| p.terminal) {
            Stdio::Terminal
        } else {
            Stdio::Inherit
        },
        wishes: Wishes {
            pause: Some(super::Pause {
                dir: dir.into(),
                record,
            }),
            ..request.wishes.clone()
        },
    })?;
    let mut scene = Scene::new();
    let mut running = journal::execute(&plan, &mut scene, watch, options)?;
    let ready = running
        .finish(&mut scene, watch)
        .and_then(|()| hand_over(dir, request, &mut scene));
    match ready {
        Ok(created) => Ok(created),
        Err(error) => Err(match execute::undo(&plan, &mut scene) {
            Ok(()) => error,
            Err(more) => error.hint(format!("and the clean-up failed too: {more:#}")),
        }),
    }
}

/// A name that no keyring has: the kernel would join the one that has it, and an id may be known to
/// a container of the same user, or be used a second time in another state directory.
fn keyring_name(id: &str) -> Result<String> {
    let number = u64::from_ne_bytes(sys::ask::getrandom()?);
    // The kernel takes names of 255 bytes at most.
    let id = &id[..id.len().min(200)];
    Ok(format!("{id}.{number:016x}"))
}

/// Init waits to be started: its terminal, its process id and its readiness go to who wants them.
fn hand_over(dir: &Path, request: &Create<'_>, scene: &mut Scene) -> Result<Created> {
    let mut terminal = scene.take_fd(super::terminal::MASTER);
    if let (Some(socket), Some(master)) = (request.console, &terminal) {
        send_terminal(socket, master)?;
        terminal = None;
    }
    if let (Some(socket), Some(child)) = (request.pidfd_socket, &scene.child) {
        send_pidfd(socket, &child.pidfd)?;
    }
    let mut record: Record =
        files::read_json(&dir.join("state.json"))?.context("the container's record has gone")?;
    record.ready = true;
    store::write(dir, &record)?;
    if let Some(file) = request.pid_file {
        write_pid(file, record.pid)?;
    }
    let child = scene.child.take().context("the plan has no clone step")?;
    Ok(Created {
        container: Container {
            dir: dir.into(),
            record,
        },
        pidfd: child.pidfd,
        terminal,
    })
}

/// Gives the outer end of a terminal to who listens on a unix socket, as every OCI runtime does.
pub fn send_terminal(socket: &Path, master: &OwnedFd) -> Result<()> {
    send(socket, master, "the terminal to the console socket")
}

/// Gives a process's pidfd to who listens on a unix socket, as runc does since 1.2.
pub fn send_pidfd(socket: &Path, pidfd: &OwnedFd) -> Result<()> {
    send(socket, pidfd, "the pidfd to the socket")
}

fn send(socket: &Path, fd: &OwnedFd, what: &str) -> Result<()> {
    let what = || format!("cannot hand {what} {}", socket.display());
    let connection = sys::socket::connect_stream(socket).with_context(what)?;
    sys::socket::send_fd(&connection, fd).with_context(what)
}

/// Writes a process id for the caller; whoever reads the file sees a whole number.
pub fn write_pid(file: &Path, pid: i32) -> Result<()> {
    files::output::write(file, &pid.to_string(), 0o644)
}

/// Records what follows in the container's journal. `GLASSBOX_JOURNAL=off` leaves it off.
pub fn begin_journal(dir: &Path, operation: &str) -> Result<()> {
    if std::env::var_os("GLASSBOX_JOURNAL").is_some_and(|v| v == "off") {
        return Ok(());
    }
    let what = || "cannot open the journal";
    let file = sys::fs::open(dir.join("journal"), libc::O_RDWR | libc::O_CREAT, 0o600)
        .with_context(what)?;
    sys::record::install(Some(Arena::in_file(&File::from(file)).with_context(what)?));
    Event::operation(operation).record();
    Ok(())
}

/// Starts the program of a container that waits. Errors: [`Kind::Conflict`] when it does not wait;
/// why the program could not be executed, or which hook failed.
pub fn start(container: &mut Container, watch: &mut dyn Watch) -> Result<()> {
    let _lock = container.lock()?;
    let id = container.record.id.clone();
    if !container.waits() {
        // Only whether it is paused is asked of the host.
        let what = match container.status(&Host::detect()?)? {
            Status::Stopped => format!("cannot start a container that has stopped: {id}"),
            other => format!("cannot start an already running container: {id} is {other}"),
        };
        return Err(Error::kind(Kind::Conflict, what));
    }
    let spec = container.spec()?;
    if spec.process.is_none() {
        let what = format!("cannot start container {id}: its config.json has no process");
        return Err(Error::kind(Kind::Usage, what).topic("oci-bundle"));
    }
    begin_journal(&container.dir, "start")?;
    let socket = waiting::connect(&container.dir)
        .with_context(|| format!("cannot reach the init of container {id}"))?;
    let result = Running::over(socket).finish(&mut Scene::new(), watch);
    // Started or failed, nobody waits there any more.
    let _ = sys::fs::unlinkat(sys::fs::CWD, container.dir.join(waiting::SOCKET), 0);
    result?;
    let hooks = hooks_of(&spec);
    let state = State {
        pid: container.record.pid,
        ..state_of(&spec, &id, &container.record.bundle)
    };
    let after = hooks::run(Moment::Poststart, &hooks.poststart, &state);
    if after.is_err() {
        // Specification 1.3: the container is stopped, and the error is told.
        let _ = Host::detect().and_then(|host| end(container, &host));
    }
    after
}

/// The hooks of a document, or none.
pub(super) fn hooks_of(spec: &Spec) -> Hooks {
    spec.hooks.clone().unwrap_or_default()
}

/// Sends a signal to the container's first process, or to all of its processes. Errors:
/// [`Kind::Conflict`] when it is neither created nor running.
pub fn kill(container: &Container, host: &Host, signal: i32, all: bool) -> Result<()> {
    let id = &container.record.id;
    let not_running = || Error::kind(Kind::Conflict, format!("container not running: {id}"));
    if all {
        // Without a pid namespace of its own, processes may outlive the first one.
        if let Some(group) = container.group(host)? {
            let sent = match signal {
                libc::SIGKILL => lifecycle::kill(&group).map(|()| 1)?,
                signal => lifecycle::signal(&group, signal)?,
            };
            return if sent == 0 {
                Err(not_running())
            } else {
                Ok(())
            };
        }
    }
    if !container.is_alive() {
        return Err(not_running());
    }
    let pidfd = sys::process::pidfd_open(container.record.pid).map_err(|_| not_running())?;
    if !container.is_alive() {
        return Err(not_running()); // the number was somebody else's by then
    }
    match sys::process::pidfd_send_signal(&pidfd, signal) {
        Err(e) if e.errno == sys::Errno::ESRCH => Err(not_running()),
        other => other.with_context(|| format!("cannot send signal {signal} to container {id}")),
    }?;
    if signal == libc::SIGKILL
        && let Some(group) = container.group(host)?
        && lifecycle::is_frozen(&group) == Some(true)
    {
        // A frozen process dies only when it is thawed (cgroup v1).
        lifecycle::thaw_dying(&group)?;
    }
    Ok(())
}

/// Freezes all processes of a running container.
pub fn pause(container: &mut Container, host: &Host) -> Result<()> {
    let _lock = container.lock()?;
    let status = container.status(host)?;
    if !matches!(status, Status::Running | Status::Created) {
        return Err(wrong_state("pause", container, status));
    }
    lifecycle::freeze(&group_or_refuse(container, host)?)
}

/// Lets the processes of a paused container go on.
pub fn resume(container: &mut Container, host: &Host) -> Result<()> {
    let _lock = container.lock()?;
    let status = container.status(host)?;
    if status != Status::Paused {
        return Err(wrong_state("resume", container, status));
    }
    lifecycle::thaw(&group_or_refuse(container, host)?)
}

pub(super) fn wrong_state(what: &str, container: &Container, status: Status) -> Error {
    let id = &container.record.id;
    Error::kind(
        Kind::Conflict,
        format!("cannot {what} container {id}: it is {status}"),
    )
}

pub(super) fn group_or_refuse(container: &Container, host: &Host) -> Result<crate::cgroups::Group> {
    container.group(host)?.ok_or_else(|| {
        Error::kind(
            Kind::Unsupported,
            format!("container {} has no cgroup", container.record.id),
        )
        .hint("processes are frozen through their cgroup; an ordinary user needs a delegated one")
    })
}

/// Clears a container away. It must have stopped, or still wait to be started; with `force` it is
/// killed first, and what a creation that was cut off left behind goes too. Poststop hooks that
/// fail are returned as warnings.
pub fn delete(root: &Root, id: &str, force: bool, host: &Host) -> Result<Vec<Error>> {
    let mut container = match root.find(id) {
        Ok(container) => container,
        Err(e) if e.get_kind() == Kind::NotFound && force => {
            return clear_remains(&root.place(id)?, host).map(|()| Vec::new());
        }
        Err(e) => return Err(e),
    };
    let _lock = match container.lock() {
        Err(e) if e.get_kind() == Kind::NotFound && force => return Ok(Vec::new()),
        other => other?,
    };
    let status = container.status(host)?;
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(Error::kind(
            Kind::Conflict,
            format!("cannot delete container {id} that is not stopped: {status}"),
        )
        .hint("`kill` it first, or delete it with --force"));
    }
    end(&container, host)?;
    let spec = container.spec()?;
    super::remove(&spec, host)?;
    take_back_mounts(&container, &spec, host)?;
    let state = state_of(&spec, id, &container.record.bundle);
    let mut warnings = Vec::new();
    if let Some(unit) = &container.record.unit {
        // Its group is gone, whatever has become of systemd.
        warnings.extend(systemd::stop(unit).err());
    }
    warnings.extend(hooks::run(Moment::Poststop, &hooks_of(&spec).poststop, &state).err());
    remove_directory(&container.dir)?;
    Ok(warnings)
}

/// What it mounted in a mount namespace that others live in.
fn take_back_mounts(container: &Container, spec: &Spec, host: &Host) -> Result<()> {
    let record = &container.record;
    let path_of = |typ| {
        let linux = spec.linux.as_ref()?;
        linux
            .namespaces
            .iter()
            .find(|n| n.typ == typ)?
            .path
            .as_deref()
    };
    match (record.root_mount, path_of(NamespaceType::Mount)) {
        (Some(id), Some(namespace)) => {
            let user = path_of(NamespaceType::User).filter(|_| host.rootless);
            shared::take_back(user, namespace, &record.rootfs, id)
        }
        _ => Ok(()),
    }
}

/// Kills the first process and waits until it has ended. One that is frozen is thawed.
fn end(container: &Container, host: &Host) -> Result<()> {
    if !container.is_alive() {
        return Ok(());
    }
    let Ok(pidfd) = sys::process::pidfd_open(container.record.pid) else {
        return Ok(());
    };
    if container.is_alive() {
        let _ = sys::process::pidfd_send_signal(&pidfd, libc::SIGKILL); // gone is as good
        if let Some(group) = container.group(host)?
            && lifecycle::freezer(&group).is_some()
        {
            // cgroup v1: a frozen process dies only after the thaw, and one that is freezing or
            // being frozen at this moment counts as well. The signal waits for it: it runs no
            // further instruction of its own.
            lifecycle::thaw_dying(&group)?;
        }
    }
    let until = Instant::now() + PATIENCE;
    let mut nap = Duration::from_micros(100);
    while container.is_alive() {
        if Instant::now() > until {
            return Err(Error::new(format!(
                "process {} of container {} does not end",
                container.record.pid, container.record.id
            ))
            .hint("a cgroup above its own may be frozen, or it waits in the kernel: see its state in /proc"));
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

/// What a creation that was cut off left: its cgroup, with whatever waits in it, and its files.
fn clear_remains(dir: &Path, host: &Host) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let _lock = files::lock(&dir.join("lock"))?;
    if let Some(spec) = files::read_json::<Spec>(&dir.join("config.json"))? {
        super::remove(&spec, host)?;
    }
    remove_directory(dir)
}

/// The files of a container; its record goes first, so that half of it is never found.
fn remove_directory(dir: &Path) -> Result<()> {
    for name in [
        "state.json",
        "config.json",
        "journal",
        waiting::SOCKET,
        "lock",
    ] {
        match sys::fs::unlinkat(sys::fs::CWD, dir.join(name), 0) {
            Err(e) if e.errno != sys::Errno::ENOENT => {
                return Err(e).with_context(|| format!("cannot remove {}", dir.display()));
            }
            _ => {}
        }
    }
    std::fs::remove_dir_all(dir).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(e).with_context(|| format!("cannot remove {}", dir.display())),
    })
}
