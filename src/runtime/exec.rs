//! A further program in a running container.
//!
//! What it does: `exec` is a set-up too, with the same list of steps: instead of making
//! namespaces it joins those of the container's init, all in one `setns` on a pidfd, so that init
//! cannot be replaced by another process in between.
//!
//! What it implements: docker's and runc's `exec`; setns(2) with a pidfd (Linux 5.8).
//! Interface: [`ExecRequest`], [`exec()`], [`plan_exec`]. Read next: `exec_group.rs`, `program.rs`.

use super::exec_group::{self, SubGroup};
use super::identity::BecomeRoot;
use super::listener::{ConnectAgent, SendState};
use super::plan::flag_of;
use super::program::{ChangeDirectory, execute};
use super::rootfs::OpenRoot;
use super::scheduling::{self, RestoreAffinity, SetAffinity};
use super::session::{Dumpable, NewSession, NotDumpable};
use super::shared::{EnterRootOf, OpenRootOf};
use super::store::state_of;
use super::terminal::{self, OpenTerminal, ReceiveTerminal, Streams};
use super::{Launched, Stdio, group_of, privileges, put_streams, run};
use crate::cgroups::{
    self,
    actions::{Attach, Who},
};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal::{self, Action, Actor, Plan, Planned, Scene, Stage, Step, Watch};
use crate::namespaces::actions::{Clone, Join, SetNs};
use crate::security::actions::{LendOomScoreAdj, NewKeyring, OomScoreAdj, RestoreOomScoreAdj};
use crate::spec::runtime::{NamespaceType, Process, Spec, State, Status};
use crate::sys;
use std::path::{Path, PathBuf};

/// A program to run in a container that runs.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The name of its session keyring.
    pub keyring: &'a str,
    /// Its bundle, which the agent of a seccomp filter is told.
    pub bundle: &'a Path,
    /// The process id of the container's init.
    pub init: i32,
    /// The container's config.json.
    pub spec: &'a Spec,
    /// The program, its user, its privileges.
    pub process: &'a Process,
    /// What this host allows.
    pub host: &'a Host,
    /// The program's streams.
    pub stdio: Stdio,
    /// How many of the caller's descriptors from 3 on it gets.
    pub preserve_fds: u32,
    /// Groups below the container's that it shall run in; none: the container's, or its init's.
    pub groups: &'a [SubGroup],
}

/// Runs it; the program is running when this returns. The caller is its parent.
pub fn exec(
    mut request: ExecRequest<'_>,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<Launched> {
    let plan = plan_exec(&request)?;
    let mut scene = Scene::new();
    put_streams(
        &mut scene,
        std::mem::replace(&mut request.stdio, Stdio::Inherit),
    );
    run(&plan, scene, watch, options)
}

/// The plan of an exec.
pub fn plan_exec(request: &ExecRequest<'_>) -> Result<Plan> {
    let (spec, process) = (request.spec, request.process);
    let linux = spec
        .linux
        .as_ref()
        .context("config.json has no linux section")?;
    let mut plan = Plan::default();
    let runtime = Stage::Runtime;
    let has = |t: NamespaceType| linux.namespaces.iter().any(|n| n.typ == t);
    plan.push(Step::parent(
        runtime,
        "pidfd",
        "A descriptor of the container's init: whatever happens to its number, this stays it.",
        OpenInit { pid: request.init },
    ));
    // In a mount namespace that was not made for the container, the root is somebody else's.
    let mounts = linux
        .namespaces
        .iter()
        .find(|n| n.typ == NamespaceType::Mount);
    let shares_mounts = mounts.is_none_or(|n| n.path.is_some());
    if shares_mounts {
        plan.push(Step::parent(
            runtime,
            "inits-root",
            "Its mount namespace is others' too, so its root is its init's alone.",
            OpenRootOf {
                pid: request.init,
                pidfd: INIT_FD,
            },
        ));
    }
    let agent = privileges::agent(linux)?;
    let notifies = agent.is_some();
    if let Some(path) = agent {
        plan.push(Step::parent(
            runtime,
            "seccomp-agent",
            "The agent that decides about some of its calls is on this side of the walls.",
            ConnectAgent { path },
        ));
    }
    if process.terminal {
        plan.push(Step::parent(
            runtime,
            "terminal-channel",
            "A socket will carry the terminal out to us.",
            terminal::CHANNEL,
        ));
    }
    // Only a child is ever born into another pid namespace, so the parent joins it before the
    // split. As an ordinary user it needs the power over it, which the user namespace gives.
    let mut before = 0;
    if has(NamespaceType::User) {
        before |= flag_of(NamespaceType::User);
    }
    if has(NamespaceType::Pid) {
        before |= flag_of(NamespaceType::Pid);
    }
    // The group's directories exist already; what may be done there is the kernel's to say.
    let placed = |g| exec_group::place(g, request.init, &request.host.cgroups, request.groups);
    let group = group_of(spec, request.host)?.map(placed).transpose()?;
    let v2 = group
        .as_ref()
        .and_then(|g| g.unified())
        .map(|d| d.dir.clone());
    let into = v2.filter(|_| request.host.at_least(5, 7));
    if let Some(dir) = &into {
        plan.push(Step::parent(
            Stage::Cgroups,
            "open-cgroup",
            "The new process shall be born in the container's cgroup.",
            cgroups::actions::OpenGroup { dir: dir.clone() },
        ));
    }
    if let Some(value) = process.oom_score_adj {
        plan.push(Step::parent(
            runtime,
            "oom-score",
            "How readily the kernel picks the new process when memory runs out: it inherits ours.",
            LendOomScoreAdj(OomScoreAdj { value }),
        ));
    }
    // What is born into the container's pid namespace can be seen there at once.
    plan.push(Step::parent(
        runtime,
        "born-undumpable",
        "The new process must be out of the container's reach from its first moment on.",
        NotDumpable,
    ));
    if before != 0 {
        plan.push(Step::parent(
            Stage::Namespaces,
            "join-pid",
            "The new process shall be born in the container's pid namespace.",
            join_init(request.init, before),
        ));
    }
    // A new process has its parent's processors, so before it is in the container's cgroup the
    // parent's are what it has.
    let (initial, after) = scheduling::affinity(process)?;
    let passing = initial.is_some();
    if let Some(cpus) = initial {
        plan.push(Step::parent(
            runtime,
            "initial-affinity",
            "The processors that it begins on, outside the container's cgroup.",
            SetAffinity {
                cpus,
                passing: true,
            },
        ));
    }
    plan.push(Step::parent(
        Stage::Namespaces,
        "clone",
        "The process that will become the program splits off.",
        Clone {
            flags: 0,
            into_cgroup: into.is_some().then_some("cgroup"),
        },
    ));
    if notifies {
        let state = State {
            status: Status::Running,
            pid: request.init,
            ..state_of(spec, request.id, request.bundle)
        };
        plan.push(Step::parent(
            runtime,
            "seccomp-state",
            "The agent shall know whose calls it decides about: the process has an id now.",
            SendState::new(linux, state),
        ));
    }
    // In the container's user namespace its root has power over us too: there we stay as we are.
    if !has(NamespaceType::User) {
        plan.push(Step::parent(
            runtime,
            "dumpable",
            "The child has inherited that; we stay outside, and read our own /proc.",
            Dumpable,
        ));
    }
    if process.oom_score_adj.is_some() {
        plan.push(Step::parent(
            runtime,
            "restore-oom-score",
            "The child has inherited it; we go back to our own.",
            RestoreOomScoreAdj,
        ));
    }
    if passing {
        plan.push(Step::parent(
            runtime,
            "restore-affinity",
            "The child has inherited them; we go back to our own.",
            RestoreAffinity,
        ));
    }
    if let Some(group) = &group {
        let attach = Attach::new(group, Who::Init, into.is_some());
        if !attach.files.is_empty() {
            plan.push(Step::init(
                Stage::Cgroups,
                "attach",
                "It shares the container's limits.",
                attach,
            ));
        }
    }
    if let Some(cpus) = after {
        plan.push(Step::init(
            runtime,
            "affinity",
            "The processors that it runs on, now that it is in the container's cgroup.",
            SetAffinity {
                cpus,
                passing: false,
            },
        ));
    }
    plan.push(Step::init(
        runtime,
        "not-dumpable",
        "It must not be opened or traced by the container's processes before it is the program.",
        NotDumpable,
    ));
    let flags = linux
        .namespaces
        .iter()
        .filter(|n| !matches!(n.typ, NamespaceType::User | NamespaceType::Pid))
        .fold(0, |flags, n| flags | flag_of(n.typ));
    if flags != 0 {
        plan.push(Step::init(
            Stage::Namespaces,
            "join",
            "It sees what the container sees: all its namespaces in one call.",
            join_init(request.init, flags),
        ));
    }
    if shares_mounts {
        plan.push(Step::init(
            Stage::Namespaces,
            "change-root",
            "It sees the files that the container sees, and no others.",
            EnterRootOf,
        ));
    }
    if has(NamespaceType::User) {
        plan.push(Step::init(
            Stage::Namespaces,
            "become-root",
            "Root inside the user namespace.",
            BecomeRoot,
        ));
    }
    plan.push(Step::init(
        runtime,
        "session",
        "A session of its own.",
        NewSession,
    ));
    plan.push(Step::init(
        runtime,
        "keyring",
        "The container's keyring: the caller's keys stay the caller's.",
        NewKeyring {
            name: request.keyring.to_string(),
        },
    ));
    if process.terminal {
        plan.push(Step::init(
            runtime,
            "open-root",
            "Paths are resolved in the container's root.",
            OpenRoot {
                path: PathBuf::from("/"),
            },
        ));
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        plan.push(Step::init(
            runtime,
            "terminal",
            "A terminal of the container's own devpts becomes its standard streams.",
            OpenTerminal {
                size,
                console: false,
                owner: process.user.uid,
            },
        ));
        plan.push(Step::parent(
            runtime,
            "receive-terminal",
            "The terminal's outer end arrives.",
            ReceiveTerminal,
        ));
    } else if matches!(request.stdio, Stdio::Fds { .. }) {
        plan.push(Step::init(
            runtime,
            "streams",
            "Its standard streams are ours to pass on.",
            Streams,
        ));
    }
    let (limits, last) = privileges::rlimits(&process.rlimits)?;
    plan.steps.extend(limits);
    let cwd = ChangeDirectory {
        path: process.cwd.clone(),
        make: false,
    };
    plan.push(Step::init(runtime, "cwd", "Where the program starts.", cwd));
    plan.steps
        .extend(scheduling::steps(process, linux, Actor::Init)?);
    plan.steps.extend(last);
    plan.steps
        .extend(privileges::steps(process, linux, request.host)?);
    plan.push(Step::init(
        runtime,
        "execute",
        "Our program is replaced by the one that was asked for.",
        execute(process, request.preserve_fds),
    ));
    Ok(plan)
}

const INIT_FD: &str = "init";

/// Joins namespaces of the container's init, by the pidfd.
fn join_init(init: i32, flags: u64) -> SetNs {
    SetNs {
        join: Join::Fd {
            name: INIT_FD,
            what: format!("pidfd of {init}"),
        },
        flags,
    }
}

/// Opens the container's init as a pidfd.
#[derive(Debug)]
struct OpenInit {
    pid: i32,
}

impl Action for OpenInit {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("pidfd_open", self.pid.to_string())]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let fd = sys::process::pidfd_open(self.pid).map_err(|e| {
            Error::kind(Kind::Conflict, "the container is not running").caused_by(e)
        })?;
        scene.put_fd(INIT_FD, fd);
        Ok(())
    }
}
