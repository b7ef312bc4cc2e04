//! The monitor: one small process a container, its parent and its witness.
//!
//! What it does: launches the container, and then owns what a container leaves behind at every
//! moment: its stdio, its log, its exit status. It is a single-threaded loop over descriptors,
//! which nothing but its container keeps alive; the command line and the daemon are its clients
//! (`attach.rs`) and may come and go.
//!
//! Who runs here: a child of the command line, in a session of its own, with the caller's
//! privileges, holding `monitor.lock` until the end is written down.
//!
//! When it is killed, the container goes on: its streams are FIFOs (`runtime/fifos.rs`), and the
//! next command splits off another monitor, which opens them again and takes over
//! ([`Monitor::adopt`]). That one is not the program's parent, so it asks the kernel for the exit
//! status by pidfd, or reads what an init of ours has written (`runtime/reaper.rs`). A terminal cannot be opened again: it ends with the monitor that held it.
//!
//! What it implements: decision 5 of the design; docker's restart policies (a pause of 100 ms that
//! doubles up to a minute, from the start again after ten seconds of running).
//! Interface: [`Monitor::run`], [`Monitor::adopt`]. Read next: `streams.rs` (the loop),
//! `reconcile.rs` (who adopts), `client.rs` (the other side).

#[path = "streams.rs"]
mod streams;

use super::attach::{self, Message, Wants};
use super::health::{self, Health};
use super::log::Writer;
use super::name_service::{self, NameService};
use super::prepare::Prepared;
use super::start;
use super::state::{self, Phase, Status};
use super::store::{Container, Store};
use super::time::Time;
use super::user_network;
use super::{config, ending, events, lifecycle, name_steps, networks, prepare, reconcile, remove};
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::journal::{self, Event, Plan, Watch};
use crate::network::Endpoint;
use crate::network::slirp::{self, Keeper};
use crate::runtime::{self, Launched, Outer};
use crate::spec::runtime::Spec;
use crate::sys::{self, process::Exit, record::Arena};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streams::{Client, Said, Streams};

/// Running this long proves that a start was good: the next pause is short again.
const GOOD_RUN: u64 = 10;
/// A container under the eyes of who started it gets its journal when it has lived for this long, or
/// when it has ended. Before, the record is in the memory of both.
pub const JOURNAL_AFTER: Duration = Duration::from_millis(200);
/// Why an adopted container has no terminal.
const NO_TERMINAL: &str = "its monitor was killed, and its terminal went with it";
/// Why the exit status of an adopted container is not known.
const NOT_TOLD: &str = "its first monitor was killed, so its exit status is not known: the kernel \
                        tells it to others than the parent from Linux 6.15 on, once it is reaped";

/// The monitor of one container.
pub struct Monitor {
    container: Container,
    spec: Spec,
    host: Host,
    status: Status,
    networks: Vec<Endpoint>,
    /// Sockets on its published ports, so that they are nobody else's.
    held: Vec<OwnedFd>,
    lock: Option<File>,
    /// Its user-mode network, if it has one and this monitor has started it.
    slirp: Option<Keeper>,
    /// What it records next is a start's, which has a journal of its own.
    begins_journal: bool,
    /// The record of the start. An init of ours lives as long as the container, and goes on with it.
    record: Option<Arc<Arena>>,
    /// Where it is saved: also when the next start has another journal already.
    journal: Option<File>,
}

impl Monitor {
    /// The whole life of the monitor; ends the process.
    pub fn run(
        container: Container,
        prepared: Prepared,
        host: Host,
        first: OwnedFd,
        wants: Wants,
        mut watch: Box<dyn Watch>,
        options: &journal::Options,
    ) -> ! {
        sys::record::set_pid(std::process::id() as i32);
        sys::process::close_all_but(&[first.as_fd()]);
        let mut monitor = Monitor {
            status: Status::default(),
            spec: prepared.spec,
            networks: prepared.networks,
            held: Vec::new(),
            container,
            host,
            lock: None,
            slirp: None,
            begins_journal: true,
            record: None,
            journal: None,
        };
        let begun = monitor.begin(prepared.plan, &mut *watch, options);
        drop(watch);
        let begun = begun.and_then(|running| streams::quiet().map(|()| running));
        let code = match begun {
            Ok((launched, streams)) => monitor.live(Some(launched), streams, first, wants),
            Err(error) => {
                // Who waits hears why; the same stands in the status of a container that stays.
                monitor.failed(&error);
                attach::tell_failure(&first, &error)
            }
        };
        sys::process::exit_now(code)
    }

    /// The whole life of a monitor that takes over from one that was killed; ends the process.
    /// `init` is the container's first process; `None` takes over in the pause before a restart.
    /// `first` hears that it watches, or why not; then the container stays as it is.
    pub fn adopt(container: Container, host: Host, init: Option<OwnedFd>, first: OwnedFd) -> ! {
        sys::record::install(None);
        sys::record::set_pid(std::process::id() as i32);
        let mut keep = vec![first.as_fd()];
        keep.extend(init.iter().map(|fd| fd.as_fd()));
        sys::process::close_all_but(&keep);
        let begun = Monitor::take_over(container, host, init);
        let code = match begun.and_then(|all| streams::quiet().map(|()| all)) {
            Ok((mut monitor, launched, streams)) => {
                monitor.live(launched, streams, first, Wants::default())
            }
            Err(error) => attach::tell_failure(&first, &error),
        };
        sys::process::exit_now(code)
    }

    fn take_over(
        container: Container,
        host: Host,
        init: Option<OwnedFd>,
    ) -> Result<(Monitor, Option<Launched>, Streams)> {
        let mut monitor = Monitor {
            status: Status::default(),
            spec: lifecycle::spec(&container)?,
            networks: Vec::new(), // connected; a restart plans anew
            held: Vec::new(),
            container,
            host,
            lock: None,
            slirp: None,
            begins_journal: false,
            record: None,
            journal: None,
        };
        monitor.settle()?;
        monitor.held = networks::ports::hold_again(&monitor.container);
        start::begin_recording("adopt", false)?;
        monitor.status = Status {
            monitor: std::process::id() as i32,
            ..monitor.container.written_status()?
        };
        let config = &monitor.container.record.config;
        let outer = match (config.tty, &init) {
            (false, Some(_)) => Outer::reopen(&monitor.container.run)?,
            _ => Outer::default(),
        };
        if config.tty && init.is_some() {
            monitor.status.error = NO_TERMINAL.into();
        }
        let mut streams = monitor.streams(outer)?;
        streams.adopted = init.is_some();
        if let Some(pidfd) = &init {
            monitor.adopt_network(pidfd, &mut streams);
        }
        let launched = init.map(|pidfd| Launched {
            pid: monitor.status.pid,
            pidfd,
            terminal: None,
            outer: Outer::default(),
            names: None,
            slirp: None,
            held: Vec::new(),
        });
        monitor.container.write_status(&monitor.status)?;
        Ok((monitor, launched, streams))
    }

    /// What of the container's network its first monitor did: names are answered again. A user-mode
    /// network ends with the container, whoever is killed; where the kernel cannot tell that by a
    /// pidfd, it has ended with its monitor, and another takes its place.
    fn adopt_network(&mut self, init: &OwnedFd, streams: &mut Streams) {
        if name_service::is_wanted(&self.container) {
            match runtime::reopen_name_server(init, self.host.rootless) {
                Ok(sockets) => {
                    streams.service = Some(NameService::new(&self.container, sockets));
                }
                Err(e) => self.status.error = format!("names are not answered any more: {e:#}"),
            }
        }
        if slirp::ends_by_itself() {
            return;
        }
        let network = user_network::slirp(&self.container, self.host.rootless, &mut None);
        let again = network.and_then(|slirp| {
            let start = |slirp: slirp::Slirp| slirp.start(self.status.pid, init);
            slirp.map(start).transpose()
        });
        match again {
            Ok(keeper) => self.slirp = keeper,
            Err(e) => self.status.error = format!("its network went with its monitor: {e:#}"),
        }
    }

    /// Up to the running program.
    fn begin(
        &mut self,
        plan: Plan,
        watch: &mut dyn Watch,
        options: &journal::Options,
    ) -> Result<(Launched, Streams)> {
        self.settle()?;
        self.status = Status {
            phase: Phase::Starting,
            pid: 0,
            monitor: std::process::id() as i32,
            error: String::new(),
            oom_killed: false,
            ended_by: String::new(),
            stopped: false,
            exit_code: 0,
            restart_count: 0,
            ..self.container.written_status()?
        };
        self.container.write_status(&self.status)?;
        self.launch(plan, watch, options)
    }

    /// What makes a process that was split off a monitor: away from its caller, and the only one.
    fn settle(&mut self) -> Result<()> {
        sys::process::setsid().context("cannot begin a session")?;
        // The caller's mask is about its own files; the container's must be readable in there.
        sys::process::umask(0o022);
        // Orphans of a container without a pid namespace of its own come here to be reaped.
        let operation = libc::PR_SET_CHILD_SUBREAPER;
        sys::process::prctl("PR_SET_CHILD_SUBREAPER, 1", operation, 1, 0)
            .context("cannot become a subreaper")?;
        sys::fs::chdir("/").context("cannot leave the working directory")?;
        self.lock = Some(self.container.lock_monitor()?);
        if !self.container.dir.join("container.json").exists() {
            // Who started us was killed, and somebody has removed the container since.
            return Err(Error::new("the container has been removed"));
        }
        Ok(())
    }

    /// The streams of a container, with its log.
    fn streams(&self, outer: Outer) -> Result<Streams> {
        let config = &self.container.record.config;
        let mut streams = Streams::new(outer, config.tty, &self.container.run);
        streams.once = config.stdin_once;
        streams.log = Writer::of(&self.container)?;
        Ok(streams)
    }

    fn launch(
        &mut self,
        plan: Plan,
        watch: &mut dyn Watch,
        options: &journal::Options,
    ) -> Result<(Launched, Streams)> {
        let mut streams = self.streams(Outer::default())?;
        let config = &self.container.record.config;
        let request = runtime::Request {
            id: self.container.id(),
            spec: &self.spec,
            bundle: &self.container.dir,
            host: &self.host,
            group: runtime::group_of(&self.spec, &self.host)?,
            stdio: prepare::stdio(&self.container),
            wishes: prepare::wishes(&self.container, &self.host, self.networks.clone())?,
        };
        let mut launched = runtime::launch(request, plan, watch, options)?;
        self.slirp = launched.slirp.take();
        let serve = |sockets| NameService::new(&self.container, sockets);
        streams.service = launched.names.take().map(serve);
        self.held = std::mem::take(&mut launched.held);
        match launched.terminal.take() {
            Some(terminal) => streams.set_terminal(terminal, config.open_stdin)?,
            None => streams.set_fifos(std::mem::take(&mut launched.outer)),
        }
        self.status.phase = Phase::Running;
        self.status.pid = launched.pid;
        self.status.pid_start = state::process_start(launched.pid).unwrap_or(0);
        self.status.started_at = Time::now();
        self.status.health = health::check(&self.container).map(|_| Health::starting());
        self.container.write_status(&self.status)?;
        events::of(&self.container, "start", &[]);
        Ok((launched, streams))
    }

    /// From the running program (or the pause before it runs again) to its end, and through its
    /// restarts.
    fn live(
        &mut self,
        mut running: Option<Launched>,
        mut streams: Streams,
        first: OwnedFd,
        wants: Wants,
    ) -> i32 {
        // Listen first: who hears that it runs may connect at once.
        let listener = attach::listen(&self.container.run).ok();
        // What follows is no set-up any more; nothing is recorded until the end. Who does not stay
        // may look at once, so the journal is there before. Who stays has the record as well, and
        // saves it should this monitor be killed: so it need not be written while he waits, and one
        // that goes with its container in a moment not at all.
        self.record = sys::record::current();
        sys::record::install(None);
        let stays = wants.output;
        if !stays {
            self.save_journal();
        }
        let mut first = Client::new(first, wants);
        first.say(&Message::Started(self.status.pid));
        streams.due = stays.then(|| Instant::now() + JOURNAL_AFTER);
        let mut clients = vec![first];
        let mut pause = 100;
        loop {
            if let Some(launched) = running.take() {
                if listener.is_some() {
                    self.watch_health();
                }
                let tell = &mut |said: Said<'_>| self.hear(said);
                let exit = streams.serve(&launched, listener.as_ref(), &mut clients, tell);
                if let Some(record) = self.record.take() {
                    sys::record::install(Some(record));
                    Event::operation("stop").record();
                } else if let Err(e) = start::begin_recording("stop", false) {
                    self.status.error = format!("{e:#}");
                }
                if !self.ended(exit, &mut streams, &mut clients) {
                    break;
                }
                self.save_journal();
                for client in &mut clients {
                    client.say(&Message::Ended(self.status.exit_code));
                }
            }
            if self.seconds() >= GOOD_RUN {
                pause = 100;
            }
            streams.pause(pause, listener.as_ref(), &mut clients, &mut |s| {
                self.hear(s)
            });
            pause = (pause * 2).min(60_000);
            if self.status.stopped {
                self.status.phase = Phase::Exited;
                self.finish();
                break;
            }
            self.status.restart_count += 1;
            match self.relaunch() {
                Ok((next, its)) => {
                    self.save_journal();
                    (running, streams) = (Some(next), its);
                }
                Err(error) => {
                    self.failed(&error);
                    break;
                }
            }
        }
        drop(listener);
        for client in &mut clients {
            client.say(&Message::Ended(self.status.exit_code));
        }
        // Nobody waits for what follows; should it fail, the next command that looks does it. A client
        // that does not read holds nothing else up.
        self.let_go();
        streams::drain(&mut clients);
        drop(clients);
        sys::record::install(self.record.take());
        let _ = networks::settle(&Store::of(&self.container));
        // The status is not this monitor's any more, so it cannot say that this failed.
        let _ = start::save_journal(&self.container, &mut self.journal, false);
        0
    }

    /// Starts it again. Whose namespaces it shares may have others by now.
    fn relaunch(&mut self) -> Result<(Launched, Streams)> {
        self.begins_journal = true;
        start::begin_recording("restart", false)?;
        self.spec = lifecycle::spec(&self.container)?; // `update` may have changed its limits
        config::volumes_are_filled(&mut self.spec);
        let store = Store::of(&self.container);
        let joins = prepare::joins(&store, &self.container, self.host.rootless)?;
        if config::rejoin(&mut self.spec, &joins) {
            let text = state::to_json(&self.spec)?;
            let path = self.container.dir.join("config.json");
            state::write_atomically(&path, &text, 0o600, false)?;
        }
        let attachment = networks::plan(&store, &self.container, self.host.rootless, false)?;
        let mut plan = Plan {
            steps: attachment.steps,
            ..Plan::default()
        };
        self.networks = attachment.endpoints;
        if !self.networks.is_empty() {
            let mode = &self.container.record.host_config.network_mode;
            let reach = user_network::reach(mode, false, &self.networks);
            let name = prepare::own_name(&self.spec);
            let (container, networks) = (&self.container, &self.networks);
            let hosts = name_steps::hosts_step(&store, container, &name, reach, networks)?;
            plan.push(hosts);
        }
        self.launch(plan, &mut (), &journal::Options::default())
    }

    /// Its health is watched from now on. A container that cannot be watched runs all the same.
    fn watch_health(&mut self) {
        if let Err(e) = health::begin(&self.container) {
            self.status.error = format!("{e:#}");
            let _ = self.container.write_status(&self.status); // the next write tells the same
        }
    }

    /// A check was made.
    fn take_health(&mut self, text: &str) {
        let Some(check) = self.container.record.config.healthcheck.clone() else {
            return;
        };
        let (Ok(probe), Some(health)) = (serde_json::from_str(text), &mut self.status.health)
        else {
            return;
        };
        let changed = health.take(probe, &check, self.status.started_at);
        let action = format!("health_status: {}", health.status);
        let _ = self.container.write_status(&self.status); // the next write tells the same
        if changed {
            events::of(&self.container, &action, &[]);
        }
    }

    /// A client's word to the monitor itself, or that the journal is due.
    fn hear(&mut self, said: Said<'_>) {
        let Said::Word(word) = said else {
            return self.save_journal();
        };
        let phase = match word {
            Message::Health(text) => return self.take_health(text),
            Message::UserStop => {
                self.status.stopped = true;
                // Who takes over, should this monitor be killed before the end, must know.
                let _ = self.container.write_status(&self.status); // the next write tells the same
                return;
            }
            Message::Paused(true) => Phase::Paused,
            Message::Paused(false) => Phase::Running,
            _ => return,
        };
        if self.status.phase != Phase::Restarting {
            self.status.phase = phase;
            let _ = self.container.write_status(&self.status); // the next write tells the same
        }
    }

    /// The program has ended. True when it shall be started again.
    fn ended(&mut self, exit: Option<Exit>, streams: &mut Streams, clients: &mut [Client]) -> bool {
        // The kernel's word first; then that of an init of ours.
        let exit = exit.or_else(|| runtime::ended(&self.container.exit_file()));
        // Read before the cgroup goes.
        let group = runtime::group_of(&self.spec, &self.host).ok().flatten();
        let memory = group.as_ref().and_then(ending::out_of_memory);
        self.status.oom_killed = memory.as_ref().is_some_and(|m| m.killed > 0);
        let stopped = self.status.stopped;
        let words = |exit| ending::words(exit, memory.as_ref(), stopped);
        self.status.ended_by = exit.map(words).unwrap_or_default();
        let code = exit.map_or(255, Exit::code);
        if exit.is_none() {
            self.status.error = NOT_TOLD.into();
        }
        // What it left in its cgroup holds its pipes open; with it gone, the rest can be read.
        if let Err(e) = runtime::remove(&self.spec, &self.host) {
            self.status.error = format!("{e:#}");
        }
        // Its sockets would keep the network namespace, and all that is in it.
        streams.service = None;
        if let Some(slirp) = self.slirp.take() {
            slirp.end();
        }
        self.held.clear();
        if let Err(e) = networks::release(&self.container) {
            self.status.error = format!("{e:#}");
        }
        streams.read_rest(clients);
        self.status.exit_code = code;
        self.status.pid = 0;
        self.status.finished_at = Time::now();
        self.reload();
        let seconds = self.seconds();
        if self.status.oom_killed {
            events::of(&self.container, "oom", &[]);
        }
        let how = [
            ("exitCode", code.to_string()),
            ("execDuration", seconds.to_string()),
        ];
        events::of(&self.container, "die", &how);
        let policy = &self.container.record.host_config.restart_policy;
        let again = !self.status.stopped && policy.restarts(code, self.status.restart_count);
        if again {
            self.status.phase = Phase::Restarting;
            let _ = self.container.write_status(&self.status); // written again in a moment
        } else {
            self.status.phase = Phase::Exited;
            self.finish();
        }
        again
    }

    /// How long it ran.
    fn seconds(&self) -> u64 {
        let (from, to) = (self.status.started_at.0, self.status.finished_at.0);
        to.saturating_sub(from) / 1_000_000_000
    }

    /// `update` and `rename` change the record of a container that runs.
    fn reload(&mut self) {
        if let Ok(Some(now)) = Store::of(&self.container).load(self.container.id()) {
            self.container.record = now.record;
        }
    }

    /// Writes the end down, or removes the container.
    fn finish(&mut self) {
        self.status.monitor = 0;
        // Should this fail, the lock still goes: the next command then finds a live status without
        // a monitor and repairs it.
        let _ = self.container.write_status(&self.status);
        let _ = remove::remove_tree(&self.container.run);
        if !self.container.record.host_config.auto_remove {
            return;
        }
        // Who changes a container holds its lock and may wait for ours: never the other way round.
        self.lock = None;
        if let Ok(_lock) = self.container.lock()
            && let Ok(status) = self.container.written_status()
            && !status.phase.is_live() // or somebody has started it meanwhile
            && let Ok(_monitor) = self.container.lock_monitor()
        {
            let _ = remove::remove_directories(&self.container, true); // the next command sweeps
        }
        sys::record::install(None); // with it goes its journal, which a new start writes anew
        self.record = None;
    }

    /// The last of it: its journal is whole, and another monitor may come.
    fn let_go(&mut self) {
        self.save_journal();
        self.lock = None;
    }

    /// Puts what was recorded on disk. Where that cannot be, its status says so.
    fn save_journal(&mut self) {
        match sys::record::current() {
            Some(record) => self.record = Some(record),
            None => sys::record::install(self.record.clone()),
        }
        if let Err(e) = start::save_journal(&self.container, &mut self.journal, self.begins_journal)
        {
            self.status.error = format!("{e:#}");
            let _ = self.container.write_status(&self.status); // the error is that of a full disk
        }
        self.begins_journal = false;
    }

    /// It could not be started: whatever exists of it goes, and the reason is written down.
    fn failed(&mut self, error: &Error) {
        if self.lock.is_none() {
            return; // not ours, or not there any more
        }
        let _ = reconcile::clear(&self.container); // undone already by the plan; this is idempotent
        self.status.phase = match self.status.started_at {
            Time(0) => Phase::Created,
            _ => Phase::Exited,
        };
        self.status.pid = 0;
        self.status.exit_code = error.exit_status().into();
        self.status.error = format!("{error:#}");
        let keep = std::mem::take(&mut self.container.record.host_config.auto_remove);
        self.finish();
        self.let_go();
        self.container.record.host_config.auto_remove = keep;
    }
}
