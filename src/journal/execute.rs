//! One list, two readers: how a plan is carried out by the two processes that make a container.
//!
//! What it does: both processes walk the same list of steps. Each takes its own steps and lets
//! the other take theirs; where the actor changes, the one who has finished sends a token:
//!
//! ```text
//!   Parent                                     Init
//!   create the cgroup, write limits
//!   clone3 ───────────────────────────────────▶ (begins to exist, waits for a token)
//!   write uid_map, gid_map
//!   'T' ──────────────────────────────────────▶ mounts, pivot_root, hostname …
//!   (waits)                    ◀─────────────── 'T'
//!   record the state
//!   'T' ──────────────────────────────────────▶ drop capabilities
//!   (waits)                    ◀─────────────── 'X': "my last word: next are seccomp and execve"
//!                              ◀─────────────── the socket closes at execve: it worked
//!                              ◀─────────────── or 'E' + error, from any step
//! ```
//!
//! A plan may hold a pause ([`Action::is_pause`]), at which init waits to be started. Its maker is
//! told so and goes; who starts it takes the maker's place for the rest:
//!
//! ```text
//!   Parent                     Init                                  Starter
//!   (waits)     ◀───────────── 'W' "I wait to be started"
//!   (may end)                  accept ◀───────────────────────────── connect
//!                              hooks, capabilities, 'X' ───────────▶ (waits)
//!                              execve: the socket closes ──────────▶ it worked; or 'E' + error
//! ```
//!
//! When a step fails, init is killed, and the parent undoes its own steps in reverse order, going
//! on after a failure and reporting all of them. What init did lives in namespaces that die with
//! it.
//!
//! Interface: [`execute`], [`Running::finish`], [`Running::over`], [`Options`], [`Watch`].
//! Read next: `namespaces::actions` for the clone step.

use super::{Action, Actor, Event, Fact, Phase, Plan, Record, Scene, Step, event};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{self, record};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// Sees each record as soon as the parent knows of it: the narration of `--explain`.
pub trait Watch {
    /// A new record, in order.
    fn record(&mut self, record: &Record);
    /// Whether there is anybody: for nobody no record is read back.
    fn is_watching(&self) -> bool {
        true
    }
    /// This process becomes the program next: what is to be told must be told now.
    fn last_word(&mut self) {}
}

/// Watches nothing.
impl Watch for () {
    fn record(&mut self, _: &Record) {}
    fn is_watching(&self) -> bool {
        false
    }
}

/// The scene's name for the socket to whoever let init go on after a pause.
pub const STARTER: &str = "starter";

/// How to carry out a plan.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Read each step's kernel state before and after it.
    pub observe: bool,
    /// Fail on purpose right after the step with this id: the tests of rollback. Set by
    /// `GLASSBOX_FAIL_STEP` on the command line.
    pub fail_after: Option<String>,
}

/// What init says on the socket.
#[derive(Serialize, Deserialize)]
struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    topic: Option<String>,
    status: u8,
}

/// A set-up whose parent's part is done.
#[derive(Debug)]
pub struct Running {
    socket: Option<OwnedFd>,
    seen: usize,
}

/// Carries out `plan`: returns in the parent, when its last step is done and init has been told to
/// go on (without a clone step: when all steps are done). Init never returns from here: it becomes
/// the program, or reports and exits.
///
/// Errors: the first step that failed, after everything was undone.
pub fn execute(
    plan: &Plan,
    scene: &mut Scene,
    watch: &mut dyn Watch,
    options: &Options,
) -> Result<Running> {
    let mut running = Running {
        socket: None,
        seen: record::current().map_or(0, |a| a.end()),
    };
    let mut init_end = None;
    if plan.steps.iter().any(|s| s.actor == Actor::Init) {
        let (ours, inits) = sys::socket::socketpair().context("cannot make the barrier")?;
        running.socket = Some(ours);
        init_end = Some(inits);
    }
    let mut applied: Vec<&Step> = Vec::new();
    let mut turn = Actor::Parent;
    for step in &plan.steps {
        if step.actor == Actor::Init {
            if turn == Actor::Parent {
                if scene.child.is_none() {
                    return Err(Error::new("a step of init's before the clone step")
                        .context(format!("the plan is out of order at {:?}", step.id)));
                }
                init_end = None; // so that init's end of the pair is only init's
                turn = Actor::Init;
                if let Err(e) = running.send(b"T") {
                    return Err(roll_back(e, &applied, scene, &mut running, watch));
                }
            }
            continue;
        }
        if turn == Actor::Init {
            if let Err(e) = running.wait_for_turn(scene, watch) {
                return Err(roll_back(e, &applied, scene, &mut running, watch));
            }
            turn = Actor::Parent;
        }
        Event::record_begin(step);
        if step.action.is_last_word() {
            running.show_new(watch);
            tell_before(step, watch);
        }
        let result = take(step, scene, options);
        if scene.role == Actor::Init {
            // The clone step has just made us: from here on this is the other process.
            drop(running.socket.take());
            match init_end.take() {
                Some(socket) => init(plan, step, scene, socket, options),
                None => sys::process::exit_now(125),
            }
        }
        // A step that failed halfway may have done something: it is undone like the others.
        applied.push(step);
        if let Err(e) = result {
            running.show_new(watch);
            return Err(roll_back(e, &applied, scene, &mut running, watch));
        }
        running.show_new(watch);
    }
    Ok(running)
}

impl Running {
    /// What is left of a set-up that paused, for who started it over `socket`: nothing but to
    /// [`finish`](Self::finish) it.
    pub fn over(socket: OwnedFd) -> Running {
        Running {
            socket: Some(socket),
            seen: record::current().map_or(0, |a| a.end()),
        }
    }

    /// Waits until init has become the program, or until it pauses. Errors: init's own, or that it ended before; then
    /// the caller undoes what it made with [`undo`].
    pub fn finish(&mut self, scene: &mut Scene, watch: &mut dyn Watch) -> Result<()> {
        if self.socket.is_none() {
            return Ok(());
        }
        let mut said_last_word = false;
        loop {
            let message = self.receive();
            self.show_new(watch);
            match message?.as_deref() {
                Some(b"X") => said_last_word = true,
                Some(b"W") => break, // it waits for somebody else now
                Some([b'E', rest @ ..]) => return Err(self.failed(rest)),
                Some(_) => {}
                None if said_last_word => break,
                None => return Err(died(scene)),
            }
        }
        self.socket = None;
        Ok(())
    }

    /// The barrier's descriptor, for a caller that polls several things.
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        match &self.socket {
            Some(socket) => sys::socket::send(socket, message).context("init is gone"),
            None => Ok(()),
        }
    }

    fn receive(&self) -> Result<Option<Vec<u8>>> {
        match &self.socket {
            Some(socket) => sys::socket::recv(socket).context("cannot hear init"),
            None => Ok(None),
        }
    }

    fn wait_for_turn(&mut self, scene: &mut Scene, watch: &mut dyn Watch) -> Result<()> {
        let message = self.receive()?;
        self.show_new(watch);
        match message.as_deref() {
            Some(b"T") => Ok(()),
            Some([b'E', rest @ ..]) => Err(self.failed(rest)),
            _ => Err(died(scene)),
        }
    }

    fn failed(&self, json: &[u8]) -> Error {
        let Ok(failure) = serde_json::from_slice::<Failure>(json) else {
            return Error::new("init failed and its report could not be read");
        };
        let mut cause: Option<Error> = None;
        for line in failure.causes.into_iter().rev() {
            cause = Some(match cause {
                None => Error::new(line),
                Some(inner) => inner.context(line),
            });
        }
        let kind = match failure.status {
            126 => Kind::CannotExecute,
            127 => Kind::CommandNotFound,
            _ => Kind::Failed,
        };
        let mut error = Error::kind(kind, failure.message);
        if let Some(cause) = cause {
            error = error.caused_by(cause);
        }
        if let Some(hint) = failure.hint {
            error = error.hint(hint);
        }
        if let Some(topic) = failure.topic {
            // Topics are 'static in this process; the few that a failure carries may stay.
            error = error.topic(Box::leak(topic.into_boxed_str()));
        }
        error
    }

    fn show_new(&mut self, watch: &mut dyn Watch) {
        if let Some(arena) = record::current().filter(|_| watch.is_watching()) {
            let (lines, next) = arena.lines(self.seen);
            self.seen = next;
            for record in event::parse(&lines) {
                watch.record(&record);
            }
        }
    }
}

/// A parent that becomes the program itself tells its last step before it takes it, for nobody is
/// left to tell it afterwards.
fn tell_before(step: &Step, watch: &mut dyn Watch) {
    if record::current().is_none() {
        return;
    }
    for planned in step.action.calls() {
        watch.record(&Record::Call(record::Call {
            at: record::now(),
            ns: 0,
            pid: record::pid(),
            call: planned.call.into_owned(),
            args: planned.args,
            returned: None,
            errno: None,
        }));
    }
    watch.last_word();
}

/// Takes one step that has begun: facts before, the action, facts after.
fn take(step: &Step, scene: &mut Scene, options: &Options) -> Result<()> {
    let role = scene.role;
    if record::current().is_none() {
        step.action.apply(scene)?;
        return fail_on_purpose(step, scene, role, options);
    }
    if options.observe {
        record_facts(Phase::Before, step.action.observe(scene), None);
    }
    let start = record::now();
    let result = step.action.apply(scene);
    if scene.role != role {
        // In the new process: the step's end is the parent's to record, which knows our id.
        return result;
    }
    let ns = record::now() - start;
    if result.is_ok() && options.observe {
        record_facts(
            Phase::After,
            step.action.observe(scene),
            step.action.expected(),
        );
    }
    let result = result.and_then(|()| fail_on_purpose(step, scene, role, options));
    let error = result.as_ref().err().map(|e| format!("{e:#}"));
    Event::record_end(step, ns, error.as_deref());
    result
}

fn fail_on_purpose(step: &Step, scene: &Scene, role: Actor, options: &Options) -> Result<()> {
    if scene.role == role && options.fail_after.as_deref() == Some(&*step.id) {
        return Err(Error::new(format!(
            "step {:?} was told to fail (GLASSBOX_FAIL_STEP)",
            step.id
        )));
    }
    Ok(())
}

fn record_facts(phase: Phase, facts: Vec<Fact>, expected: Option<String>) {
    for (i, fact) in facts.into_iter().enumerate() {
        let (value, unread) = match fact.value {
            Ok(v) => (Some(v), None),
            Err(why) => (None, Some(why)),
        };
        let as_expected = match (&expected, i) {
            (Some(expected), 0) => Some(value.as_ref() == Some(expected)),
            _ => None,
        };
        let source = fact.source;
        Event::Fact {
            pid: record::pid(),
            phase,
            what: fact.what,
            value,
            unread,
            source,
            as_expected,
        }
        .record();
    }
}

/// The new process's walk over the list: it begins after the clone step, and never returns.
///
/// Who runs here: the process inside the new namespaces, with all capabilities over them that the
/// caller has, on a copy of the parent's memory. It must not return into the caller's code, nor
/// print: what goes wrong goes over the socket.
fn init(plan: &Plan, clone: &Step, scene: &mut Scene, socket: OwnedFd, options: &Options) -> ! {
    /// Says a word to whoever waits; nobody does during a pause.
    fn say(socket: &Option<OwnedFd>, word: &[u8]) -> sys::SysResult<()> {
        socket
            .as_ref()
            .map_or(Ok(()), |s| sys::socket::send(s, word))
    }
    fn fail(socket: &Option<OwnedFd>, error: &Error) -> ! {
        let failure = Failure {
            message: error.message().to_string(),
            causes: error.causes(),
            hint: error.get_hint().map(str::to_string),
            topic: error.get_topic().map(str::to_string),
            status: error.exit_status(),
        };
        let mut message = vec![b'E'];
        message.extend(serde_json::to_vec(&failure).unwrap_or_default());
        let _ = say(socket, &message); // the parent sees our exit if this fails
        sys::process::exit_now(error.exit_status().into())
    }
    let mut socket = Some(socket);
    let mut turn = Actor::Parent;
    let (mut said_last_word, mut started) = (false, false);
    let ours = plan
        .steps
        .iter()
        .skip_while(|s| !std::ptr::eq(*s, clone))
        .skip(1);
    for step in ours {
        if step.actor == Actor::Parent {
            if turn == Actor::Init {
                turn = Actor::Parent;
                if let Err(e) = say(&socket, b"T") {
                    fail(&socket, &e.into());
                }
            }
            continue;
        }
        if turn == Actor::Parent {
            turn = Actor::Init;
            match socket.as_ref().map_or(Ok(None), sys::socket::recv) {
                Ok(Some(_)) => {}
                // The parent was killed. Nobody can finish this container: end with it.
                Ok(None) => sys::process::exit_now(125),
                Err(e) => fail(&socket, &e.into()),
            }
        }
        if step.action.is_last_word() && !said_last_word {
            said_last_word = true;
            match say(&socket, b"X") {
                // Who started it has gone; but it was started.
                Err(e) if started && e.errno == sys::Errno::EPIPE => {}
                Err(e) => fail(&socket, &e.into()),
                Ok(()) => {}
            }
        }
        Event::record_begin(step);
        if step.action.is_pause() {
            if let Err(e) = say(&socket, b"W") {
                fail(&socket, &e.into()); // its maker was killed: nobody knows of this container
            }
            socket = None;
        }
        if let Err(e) = take(step, scene, options) {
            fail(&socket, &e);
        }
        if step.action.is_pause() {
            (socket, started) = (scene.take_fd(STARTER), true);
        }
    }
    fail(
        &socket,
        &Error::new("the plan ended without a program to execute"),
    )
}

fn died(scene: &Scene) -> Error {
    let how = scene.child.as_ref().and_then(|c| {
        sys::process::waitid(&c.pidfd, libc::WNOHANG | libc::WNOWAIT)
            .ok()
            .flatten()
    });
    let error = Error::new("init ended before the container was ready");
    match how {
        Some(sys::process::Exit::Signal(n, _)) => error
            .caused_by(Error::new(format!("it was ended by signal {n}")))
            .hint(
                "signal 9 without anybody having sent it is the out-of-memory killer: \
                 the memory limit may be too small to start in",
            ),
        Some(sys::process::Exit::Status(n)) => {
            error.caused_by(Error::new(format!("it exited with status {n}")))
        }
        None => error,
    }
}

fn roll_back(
    error: Error,
    applied: &[&Step],
    scene: &mut Scene,
    running: &mut Running,
    watch: &mut dyn Watch,
) -> Error {
    let failures = undo_steps(applied.iter().rev().copied(), scene);
    running.socket = None;
    running.show_new(watch);
    with_undo_failures(error, failures)
}

/// Takes a whole plan back after [`execute`] had returned: kills init and undoes the parent's
/// steps in reverse order. Errors: everything that could not be undone.
pub fn undo(plan: &Plan, scene: &mut Scene) -> Result<()> {
    let steps = plan.steps.iter().rev().filter(|s| s.actor == Actor::Parent);
    Error::join("could not undo all of the set-up", undo_steps(steps, scene))
}

fn undo_steps<'a>(steps: impl Iterator<Item = &'a Step>, scene: &mut Scene) -> Vec<Error> {
    if let Some(child) = scene.child.take() {
        // Init first: its mounts and its place in the cgroup go with it.
        let _ = sys::process::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
        let _ = sys::process::waitid(&child.pidfd, 0);
    }
    let mut failures = Vec::new();
    for step in steps {
        let result = step.action.undo(scene);
        Event::Undo {
            step: step.id.to_string(),
            pid: record::pid(),
            error: result.as_ref().err().map(|e| format!("{e:#}")),
        }
        .record();
        if let Err(e) = result {
            failures.push(e.context(format!("cannot undo step {:?}", step.id)));
        }
    }
    failures
}

/// The first failure is the error; what could not be undone is its hint.
fn with_undo_failures(error: Error, failures: Vec<Error>) -> Error {
    if failures.is_empty() {
        return error;
    }
    let lines: Vec<String> = failures.iter().map(|e| format!("{e:#}")).collect();
    error.hint(format!("and the clean-up failed too: {}", lines.join("; ")))
}

/// A step that does something with a closure would hide its arguments from the dry run, so there
/// is none; this keeps the trait object-safe by construction.
const _: fn(&dyn Action) = |_| {};
