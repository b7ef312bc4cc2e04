//! The plan of a container: config.json and the host's abilities become a list of steps.
//!
//! What it does: decides, purely, everything that will be done, by whom and in which order. The
//! order is the heart of a container runtime; each group below says what would break if it came
//! elsewhere.
//!
//! ```text
//!   parent  cgroup and limits          before the process exists: it never runs unlimited
//!   parent  id-mapped, shared trees    while they are the host's, to be inherited
//!   parent  clone3                     into new namespaces (and, on cgroup v2, the cgroup)
//!   parent  id maps                    before init is anybody in its user namespace
//!   parent  network devices, links     as soon as there is a namespace to put them into
//!   parent  unit and limits            where systemd makes the cgroup: a unit must not be empty
//!   init    identity, session          root of its namespaces, away from the caller's terminal
//!   init    names, mounts, devices     while the host's files can still be reached as sources
//!   init    terminal                   from the container's own devpts
//!   parent  hooks of the host          when all is mounted, and the host can still be seen
//!   init    pivot_root                 the host's tree is gone from here on
//!   init    sysctl, masks, read-only   last changes of the view
//!   init    (pause)                    `create` ends here, `start` goes on
//!   init    limits, privileges         each drop takes away what later steps would need
//!   init    seccomp, execve            nothing of ours runs after this
//! ```
//!
//! What it implements: runtime-spec `config.md`, `config-linux.md`, "Lifecycle" 1–6.
//! Interface: [`plan`]. Read next: the actions, in the order above: `rootfs.rs`, `mount.rs`, ….

mod filesystem;
mod init;
mod parent;

use super::fifos::MakeFifos;
use super::hooks::{Hooks, Moment};
use super::listener::ConnectAgent;
use super::operations::{WriteRecord, hooks_of};
use super::pause::{AwaitStart, Listen};
use super::program::{ChangeDirectory, LookUp, execute};
use super::reaper::{ExitFile, Reaper};
use super::session::Sysctl;
use super::{
    INIT_ANNOTATION, Request, Stdio, identity, name_server, privileges, resources, scheduling,
    terminal,
};
use crate::cgroups::{self, SetUp, actions::Existing, systemd};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Actor, Plan, Stage, Step};
use crate::namespaces::{self, actions};
use crate::spec::runtime::{Linux, NamespaceType, Process, Spec};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Makes the plan of `request`. Errors: the document asks for what cannot be done here, said
/// before anything was changed.
pub fn plan(request: &Request<'_>) -> Result<Plan> {
    let builder = Builder::new(request)?;
    builder.build()
}

struct Builder<'a> {
    request: &'a Request<'a>,
    spec: &'a Spec,
    process: &'a Process,
    linux: &'a Linux,
    host: &'a Host,
    root: PathBuf,
    plan: Plan,
}

impl<'a> Builder<'a> {
    fn new(request: &'a Request<'a>) -> Result<Self> {
        let bad = |what: &'static str| Error::kind(Kind::Usage, what).topic("oci-bundle");
        let spec = request.spec;
        // What is absent is empty: only `start` needs a process.
        static NO_PROCESS: LazyLock<Process> = LazyLock::new(|| Process {
            cwd: "/".into(),
            ..Process::default()
        });
        static NO_LINUX: LazyLock<Linux> = LazyLock::new(Linux::default);
        let process = spec.process.as_ref().unwrap_or(&NO_PROCESS);
        let linux = spec.linux.as_ref().unwrap_or(&NO_LINUX);
        let root = spec
            .root
            .as_ref()
            .ok_or_else(|| bad("config.json has no root"))?;
        let root = request.bundle.join(&root.path);
        match (&spec.process, &request.wishes.pause) {
            (None, None) => return Err(bad("config.json has no process")),
            (None, Some(_)) => {}
            (Some(p), _) if !p.cwd.is_absolute() => {
                return Err(bad("process.cwd must be an absolute path"));
            }
            (Some(p), _) if p.args.is_empty() => {
                return Err(bad("process.args is empty: there is no command to run"));
            }
            (Some(_), _) => {}
        }
        super::check::check(spec, process, linux)?;
        let builder = Builder {
            request,
            spec,
            process,
            linux,
            host: request.host,
            root,
            plan: Plan::default(),
        };
        for (i, n) in linux.namespaces.iter().enumerate() {
            if linux.namespaces[..i].iter().any(|m| m.typ == n.typ) {
                return Err(bad("linux.namespaces names a type twice"));
            }
        }
        if !linux.time_offsets.is_empty() && !builder.creates(NamespaceType::Time) {
            return Err(bad(
                "linux.timeOffsets needs a new time namespace, and linux.namespaces has none",
            ));
        }
        if !linux
            .namespaces
            .iter()
            .any(|n| n.typ == NamespaceType::Mount)
        {
            builder.check_without_mounts()?;
        }
        Ok(builder)
    }

    /// Without a mount namespace the container stays in the caller's, in a directory of it: what
    /// the specification means, as long as that takes no mount.
    fn check_without_mounts(&self) -> Result<()> {
        let asked = [
            (!self.spec.mounts.is_empty(), "mounts"),
            (
                self.spec.root.as_ref().is_some_and(|r| r.readonly),
                "root.readonly",
            ),
            (!self.linux.masked_paths.is_empty(), "linux.maskedPaths"),
            (!self.linux.readonly_paths.is_empty(), "linux.readonlyPaths"),
            (!self.linux.devices.is_empty(), "linux.devices"),
            (
                self.linux.rootfs_propagation.is_some(),
                "linux.rootfsPropagation",
            ),
            (self.process.terminal, "process.terminal"),
        ];
        match asked.iter().find(|(asked, _)| *asked) {
            Some((_, name)) => Err(Error::kind(
                Kind::Usage,
                format!("config.json has {name}, and linux.namespaces no mount namespace"),
            )
            .hint("without one, every mount of the container would be the host's")
            .topic("mount-namespaces")),
            None => Ok(()),
        }
    }

    fn build(mut self) -> Result<Plan> {
        let group = self.cgroup()?;
        self.trees()?;
        self.split(group)?;
        self.identity();
        self.names();
        self.root_and_mounts()?;
        self.devices()?;
        self.terminal();
        self.hooks(Moment::Prestart);
        self.hooks(Moment::CreateRuntime);
        self.hooks(Moment::CreateContainer);
        self.new_root()?;
        self.privileges()?;
        Ok(self.plan)
    }

    fn parent(
        &mut self,
        stage: Stage,
        id: impl Into<String>,
        why: &'static str,
        action: impl crate::journal::Action + 'static,
    ) {
        self.plan.push(Step::parent(stage, id.into(), why, action));
    }

    fn init(
        &mut self,
        stage: Stage,
        id: impl Into<String>,
        why: &'static str,
        action: impl crate::journal::Action + 'static,
    ) {
        self.plan.push(Step::init(stage, id.into(), why, action));
    }

    /// A step id that no step has yet: `mount-/data`, `mount-/data-2`.
    fn unique(&self, id: String) -> String {
        let taken = |id: &str| self.plan.steps.iter().any(|s| s.id == id);
        let mut numbered = (2..).map(|n| format!("{id}-{n}"));
        match taken(&id) {
            false => id,
            true => numbered.find(|id| !taken(id)).unwrap_or_default(),
        }
    }

    /// A new namespace of this type is asked for (not one to join).
    fn creates(&self, typ: NamespaceType) -> bool {
        self.linux
            .namespaces
            .iter()
            .any(|n| n.typ == typ && n.path.is_none())
    }

    fn joins(&self, typ: NamespaceType) -> Option<&'a Path> {
        let linux: &'a Linux = self.linux;
        linux
            .namespaces
            .iter()
            .find(|n| n.typ == typ)?
            .path
            .as_deref()
    }

    /// The type of namespace that a kernel parameter belongs to. Errors: the container has none.
    fn namespace_of(&self, key: &str) -> Result<u64> {
        let has = |flag| self.linux.namespaces.iter().any(|n| flag_of(n.typ) == flag);
        Sysctl::check(key, has)
    }

    fn in_user_namespace(&self) -> bool {
        self.creates(NamespaceType::User) || self.joins(NamespaceType::User).is_some()
    }

    /// The group's steps before and after the split, and whether the split goes into it.
    fn cgroup(&mut self) -> Result<SetUp> {
        let unit = self.request.wishes.unit.as_ref();
        let Some(group) = &self.request.group else {
            return match unit {
                None => Ok(SetUp::default()),
                Some(unit) => Err(Error::kind(
                    Kind::Unsupported,
                    format!("the group of the unit {} cannot be used", unit.name),
                )
                .topic("cgroups")),
            };
        };
        let resources = self.linux.resources.as_ref();
        let limits = resources::limits(resources)?;
        let rules = resources::device_rules(resources)?;
        if let Some(unit) = unit {
            let further = systemd::properties::annotated(&self.spec.annotations)?;
            let rules = rules.as_deref();
            return systemd::set_up(self.host, group, unit, &limits, rules, further);
        }
        // An engine may have made it.
        let existing = Existing::AdoptEmpty;
        let mut set_up = cgroups::set_up(self.host, group, &limits, rules.as_deref(), existing)?;
        self.plan.steps.append(&mut set_up.before_clone);
        Ok(set_up)
    }

    /// Whether a PID 1 of ours stays in front of the program.
    fn has_init(&self) -> bool {
        let wanted = self.spec.annotations.get(INIT_ANNOTATION);
        wanted.is_some_and(|v| v == "true")
    }

    fn split(&mut self, group: SetUp) -> Result<()> {
        if self.process.terminal {
            self.parent(
                Stage::Runtime,
                "terminal-channel",
                "A socket will carry the container's terminal out to us.",
                terminal::CHANNEL,
            );
        } else if let Stdio::Fifos { dir, stdin } = &self.request.stdio {
            let (dir, stdin) = (dir.clone(), *stdin);
            self.parent(
                Stage::Runtime,
                "make-streams",
                "FIFOs outlive their reader: the program goes on even when we are killed.",
                MakeFifos { dir, stdin },
            );
        }
        if let Some(path) = self.request.wishes.exit_file.clone()
            && self.has_init()
        {
            self.parent(
                Stage::Runtime,
                "exit-file",
                "PID 1 writes the program's status here, should we be killed before its end.",
                ExitFile { path },
            );
        }
        if self.request.wishes.name_server && self.creates(NamespaceType::Network) {
            self.parent(
                Stage::Runtime,
                "names-channel",
                "A socket will carry the sockets of the container's name server out to us.",
                name_server::CHANNEL,
            );
        }
        let agent = privileges::agent(self.linux)?;
        if let Some(path) = agent.clone() {
            self.parent(
                Stage::Runtime,
                "seccomp-agent",
                "The agent that decides about some of its calls is on this side of the walls.",
                ConnectAgent { path },
            );
        }
        // An ordinary user may make and enter namespaces only where it is root: in the user
        // namespace of the container whose others it joins. So init is born there.
        if let Some(path) = self
            .joins(NamespaceType::User)
            .filter(|_| self.host.rootless)
        {
            let join = joining(NamespaceType::User, path);
            self.parent(
                Stage::Namespaces,
                "join-user",
                "The user namespace comes first: it owns the others.",
                join,
            );
        }
        if let Some(pause) = &self.request.wishes.pause {
            let dir = pause.dir.clone();
            self.parent(
                Stage::Runtime,
                "start-socket",
                "Init will wait on this socket until it is started; nobody but its owner reaches it.",
                Listen { dir },
            );
        }
        // A pid namespace is only ever entered by children, so the parent joins it before the
        // split; all others init joins itself.
        if let Some(path) = self.joins(NamespaceType::Pid) {
            let join = joining(NamespaceType::Pid, path);
            self.parent(
                Stage::Namespaces,
                "join-pid",
                "The new process shall be born in that pid namespace.",
                join,
            );
        }
        self.shared_root()?;
        let mut flags = 0;
        for typ in &self.linux.namespaces {
            // Two come later: the cgroup namespace when init is in its cgroup, the time namespace
            // because its clocks are set while nobody is in it.
            let later = matches!(typ.typ, NamespaceType::Cgroup | NamespaceType::Time);
            if typ.path.is_none() && !later {
                flags |= flag_of(typ.typ);
            }
        }
        self.parent(
            Stage::Namespaces,
            "clone",
            "The process that will become the container splits off, into namespaces of its own.",
            actions::Clone {
                flags,
                into_cgroup: group.clone_into_cgroup.then_some("cgroup"),
            },
        );
        if self.creates(NamespaceType::User) {
            let steps = identity::map_steps(self.linux, self.host)?;
            self.plan.steps.extend(steps);
        }
        if let Some(pause) = &self.request.wishes.pause {
            let action = WriteRecord {
                dir: pause.dir.clone(),
                record: pause.record.clone(),
            };
            self.parent(
                Stage::Runtime,
                "write-record",
                "From here on the container is found, whoever is killed.",
                action,
            );
        }
        self.net_devices()?;
        self.connect();
        if let Some(slirp) = self.request.wishes.slirp.clone()
            && self.creates(NamespaceType::Network)
        {
            self.parent(
                Stage::Containers,
                "user-network",
                "A process of the user's own speaks for a tap device inside: a network without root.",
                slirp,
            );
        }
        self.agent_state(agent.is_some());
        // First of all that init does: nothing of it escapes the limits.
        self.plan.steps.extend(group.after_clone);
        Ok(())
    }

    /// The hooks of a moment, if there are any.
    fn hooks(&mut self, moment: Moment) {
        let all = hooks_of(self.spec);
        // Once one of these has begun, a failure calls the poststop hooks: the parent's first
        // step with hooks remembers them.
        let any = [&all.prestart, &all.create_runtime, &all.create_container];
        let first = match all.prestart.is_empty() {
            false => Moment::Prestart,
            true => Moment::CreateRuntime,
        };
        let poststop = match moment == first && any.iter().any(|list| !list.is_empty()) {
            true => all.poststop,
            false => Vec::new(),
        };
        let hooks = match moment {
            Moment::Prestart => all.prestart,
            Moment::CreateRuntime => all.create_runtime,
            Moment::CreateContainer => all.create_container,
            Moment::StartContainer => all.start_container,
            // The start and the end of a container are no part of its set-up.
            Moment::Poststart | Moment::Poststop => return,
        };
        if hooks.is_empty() && poststop.is_empty() {
            return;
        }
        let action = Hooks {
            moment,
            hooks,
            state: super::store::state_of(self.spec, self.request.id, self.request.bundle),
            poststop,
        };
        let id = format!("hooks-{}", moment.name());
        let why = "Programs of the caller's choice have their say about this container.";
        match moment {
            Moment::Prestart | Moment::CreateRuntime => {
                self.parent(Stage::Runtime, id, why, action);
            }
            _ => self.init(Stage::Runtime, id, why, action),
        }
    }

    fn privileges(&mut self) -> Result<()> {
        let p = self.process;
        let (limits, last) = privileges::rlimits(&p.rlimits)?;
        self.plan.steps.extend(limits);
        // In a user namespace init has no power over the host's processors; the parent has.
        let actor = match self.in_user_namespace() {
            true => Actor::Parent,
            false => Actor::Init,
        };
        let (theirs, own): (Vec<Step>, Vec<Step>) = scheduling::steps(p, self.linux, actor)?
            .into_iter()
            .partition(|s| s.actor == Actor::Parent);
        self.plan.steps.extend(theirs);
        let cwd = ChangeDirectory {
            path: p.cwd.clone(),
            make: true,
        };
        self.init(Stage::Runtime, "cwd", "Where the program starts.", cwd);
        if self.request.wishes.pause.is_some() {
            let (args, env) = (p.args.clone(), p.env.clone());
            // Without a process the container can be created, and only that.
            if !args.is_empty() {
                let why = "A program that is not there is told now, not when it shall start.";
                self.init(Stage::Runtime, "look-up", why, LookUp { args, env });
            }
            self.init(
                Stage::Runtime,
                "await-start",
                "The container is made. Its program begins when somebody says so.",
                AwaitStart {
                    preserve_fds: self.request.wishes.preserve_fds,
                    keep: super::listener::LATER,
                },
            );
        }
        self.hooks(Moment::StartContainer);
        if self.has_init() {
            self.init(
                Stage::Runtime,
                "init",
                "PID 1 stays with us to reap orphans and pass signals on; the program is PID 2.",
                Reaper {
                    terminal: p.terminal,
                },
            );
        }
        // In the process that becomes the program, not in the init that stays: a process with a
        // deadline cannot be forked.
        self.plan.steps.extend(own);
        self.plan.steps.extend(last);
        self.plan
            .steps
            .extend(privileges::steps(p, self.linux, self.host)?);
        self.init(
            Stage::Runtime,
            "execute",
            "Our program is replaced by the container's: only what the kernel holds remains of us.",
            execute(p, self.request.wishes.preserve_fds),
        );
        Ok(())
    }
}

fn joining(typ: NamespaceType, path: &Path) -> actions::SetNs {
    actions::SetNs {
        join: actions::Join::Path(path.to_path_buf()),
        flags: flag_of(typ),
    }
}

/// The namespaces stage's word for a type of the specification.
pub(super) fn kind_of(typ: NamespaceType) -> namespaces::Kind {
    match typ {
        NamespaceType::Pid => namespaces::Kind::Pid,
        NamespaceType::Network => namespaces::Kind::Net,
        NamespaceType::Mount => namespaces::Kind::Mnt,
        NamespaceType::Ipc => namespaces::Kind::Ipc,
        NamespaceType::Uts => namespaces::Kind::Uts,
        NamespaceType::User => namespaces::Kind::User,
        NamespaceType::Cgroup => namespaces::Kind::Cgroup,
        NamespaceType::Time => namespaces::Kind::Time,
    }
}

/// The `CLONE_NEW*` flag of a type.
pub(super) fn flag_of(typ: NamespaceType) -> u64 {
    kind_of(typ).flag()
}
