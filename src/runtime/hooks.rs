//! Hooks: programs that config.json asks to be called at set moments.
//!
//! What it does: runs the hooks of one moment, in their order, each with the container's state as
//! JSON on its standard input. Where a hook runs, and with what right, is its moment's:
//!
//! ```text
//!   moment            process   root and namespaces      a failure
//!   prestart          parent    the host's               stops the creation
//!   createRuntime     parent    the host's               stops the creation
//!   createContainer   init      the container's, but     stops the creation
//!                               still the host's root
//!   startContainer    init      the container's          stops the start
//!   poststart         starter   the host's               is an error of `start`
//!   poststop          deleter   the host's               is a warning
//! ```
//!
//! What it implements: runtime-spec "POSIX-platform Hooks" and "Lifecycle" 3 to 13.
//! Interface: [`Moment`], [`Hooks`] (the action), [`run`]. Read next: `operations.rs`.

use crate::error::{Context, Error, Result};
use crate::journal::{Action, Actor, Planned, Scene};
use crate::spec::runtime::{Hook, State, Status};
use crate::sys::{self, process::Exit, record};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;
use std::time::{Duration, Instant};

/// When hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Deprecated; where createRuntime is.
    Prestart,
    /// The namespaces exist, the root is not changed yet.
    CreateRuntime,
    /// The same moment, inside.
    CreateContainer,
    /// Right before the program.
    StartContainer,
    /// The program runs.
    Poststart,
    /// The container is gone.
    Poststop,
}

impl Moment {
    /// All, in their order.
    pub const ALL: [Moment; 6] = [
        Moment::Prestart,
        Moment::CreateRuntime,
        Moment::CreateContainer,
        Moment::StartContainer,
        Moment::Poststart,
        Moment::Poststop,
    ];

    /// Its name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Moment::Prestart => "prestart",
            Moment::CreateRuntime => "createRuntime",
            Moment::CreateContainer => "createContainer",
            Moment::StartContainer => "startContainer",
            Moment::Poststart => "poststart",
            Moment::Poststop => "poststop",
        }
    }
    /// What the state says then.
    fn status(self) -> Status {
        match self {
            Moment::Prestart | Moment::CreateRuntime | Moment::CreateContainer => Status::Creating,
            Moment::StartContainer => Status::Created,
            Moment::Poststart => Status::Running,
            Moment::Poststop => Status::Stopped,
        }
    }
}

/// Calls the hooks of a moment.
#[derive(Debug)]
pub struct Hooks {
    /// When.
    pub moment: Moment,
    /// Which.
    pub hooks: Vec<Hook>,
    /// What they are told; status and pid are filled in.
    pub state: State,
    /// Called when the set-up is taken back after these had begun: what they made must go.
    pub poststop: Vec<Hook>,
}

impl Action for Hooks {
    fn calls(&self) -> Vec<Planned> {
        self.hooks
            .iter()
            .map(|h| {
                let rest = h.args.get(1..).unwrap_or_default();
                Planned::new("execve", format!("{:?}, {rest:?}, in a child", h.path))
            })
            .collect()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let pid = match scene.role {
            Actor::Parent => scene.child_pid()?,
            Actor::Init => init_pid(scene),
        };
        run(
            self.moment,
            &self.hooks,
            &State {
                pid,
                ..self.state.clone()
            },
        )
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        run(Moment::Poststop, &self.poststop, &self.state)
    }
}

const PID: &str = "init's pid";

/// Init's own id, as the host knows it. Asked for the first time while /proc is still the host's.
pub fn init_pid(scene: &mut Scene) -> i32 {
    if let Some(known) = scene.get(PID).and_then(|p| p.parse().ok()) {
        return known;
    }
    let pid = match record::pid() {
        0 => record::outer_pid(),
        recorded => recorded,
    };
    scene.put(PID, pid.to_string());
    pid
}

/// Runs the hooks of a moment. Errors: the first that cannot run, fails or takes too long; those
/// after it are not run (but after a container's end, when every one gets its chance and all
/// failures are reported).
pub fn run(moment: Moment, hooks: &[Hook], state: &State) -> Result<()> {
    let state = State {
        status: moment.status(),
        ..state.clone()
    };
    let state = serde_json::to_vec(&state).context("cannot write the state")?;
    let mut failures = Vec::new();
    for hook in hooks {
        let result = call(hook, &state)
            .with_context(|| format!("the {} hook {} failed", moment.name(), hook.path.display()))
            .map_err(|e| e.topic("oci-bundle"));
        match result {
            Err(e) if moment == Moment::Poststop => failures.push(e),
            other => other?,
        }
    }
    Error::join("not all poststop hooks succeeded", failures)
}

fn call(hook: &Hook, state: &[u8]) -> Result<()> {
    // Files in memory instead of pipes: nobody has to read and write at once, and a hook that does
    // not read its state is not killed by SIGPIPE, nor are we.
    let memory = || {
        nix::sys::memfd::memfd_create("hook", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
            .map(File::from)
            .map_err(|errno| sys::SysError {
                call: "memfd_create",
                args: "\"hook\", MFD_CLOEXEC".into(),
                errno,
            })
            .context("cannot make a file in memory")
    };
    let (mut input, mut output) = (memory()?, memory()?);
    input.write_all(state).context("cannot write the state")?;
    input
        .seek(SeekFrom::Start(0))
        .context("cannot write the state")?;
    let copy = || output.try_clone().context("cannot copy a descriptor");
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .env_clear()
        .envs(hook.env.iter().filter_map(|e| e.split_once('=')))
        .stdin(input)
        .stdout(copy()?)
        .stderr(copy()?);
    let mut child = sys::process::spawn(&mut command)?;
    let pidfd = sys::process::pidfd_open(child.id() as i32)?;
    let limit = hook.timeout.map(|s| Duration::from_secs(s.max(0) as u64)); // `check.rs`: above 0
    let in_time = ends_within(&pidfd, limit)?;
    if !in_time {
        let _ = sys::process::pidfd_send_signal(&pidfd, libc::SIGKILL); // it may just have ended
    }
    let status = child.wait().context("cannot wait for it")?;
    let exit = match status.code() {
        Some(code) => Exit::Status(code),
        None => Exit::Signal(status.signal().unwrap_or(0), status.core_dumped()),
    };
    let why = match (in_time, exit) {
        (true, Exit::Status(0)) => return Ok(()),
        (true, Exit::Status(n)) => format!("it exited with status {n}"),
        (true, Exit::Signal(n, _)) => format!("it was ended by signal {n}"),
        (false, _) => format!(
            "it took longer than {} s and was killed",
            hook.timeout.unwrap_or(0)
        ),
    };
    let mut said = Vec::new();
    let read = output
        .seek(SeekFrom::Start(0))
        .and_then(|_| output.take(4096).read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    Err(match (read, said.trim()) {
        (Ok(_), said) if !said.is_empty() => Error::new(format!("{why}; it said: {said}")),
        _ => Error::new(why),
    })
}

fn ends_within(pidfd: &std::os::fd::OwnedFd, limit: Option<Duration>) -> Result<bool> {
    let Some(limit) = limit else {
        return Ok(true); // the wait that follows takes as long as it takes
    };
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let interest = [sys::poll::Interest {
            fd: pidfd.as_fd(),
            read: true,
            write: false,
        }];
        let ready = sys::poll::poll(&interest, left.as_millis().min(i32::MAX as u128) as i32)?;
        if ready.iter().any(|r| r.readable) {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["hook".into(), "-c".into(), script.into()],
            env: vec!["PATH=/usr/bin:/bin".into(), "A=b".into()],
            timeout,
            ..Hook::default()
        }
    }

    #[test]
    fn a_hook_gets_the_state_and_only_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seen");
        let state = State {
            id: "c1".into(),
            pid: 7,
            ..State::default()
        };
        let script = format!("cat > {0}; env >> {0}; echo $0 >> {0}", file.display());
        run(Moment::CreateRuntime, &[hook(&script, None)], &state).unwrap();
        let seen = std::fs::read_to_string(&file).unwrap();
        assert!(
            seen.contains("\"id\":\"c1\"") && seen.contains("\"pid\":7"),
            "{seen}"
        );
        assert!(
            seen.contains("\"status\":\"creating\"") && seen.contains("A=b"),
            "{seen}"
        );
        assert!(
            !seen.contains("HOME=") && seen.ends_with("hook\n"),
            "{seen}"
        );
    }

    #[test]
    fn failures_name_the_hook_and_what_it_said() {
        let state = State::default();
        let e = run(
            Moment::Prestart,
            &[hook("echo no luck >&2; exit 3", None)],
            &state,
        )
        .unwrap_err();
        let text = format!("{e:#}");
        assert!(
            text.contains("prestart") && text.contains("status 3") && text.contains("no luck"),
            "{text}"
        );
        let late = run(Moment::Prestart, &[hook("sleep 10", Some(1))], &state).unwrap_err();
        assert!(format!("{late:#}").contains("longer than 1 s"), "{late:#}");
        let absent = Hook {
            path: "/nonexistent/hook".into(),
            ..Hook::default()
        };
        let e = run(Moment::Poststop, &[absent.clone(), absent], &state).unwrap_err();
        assert!(format!("{e:#}").contains("ENOENT"), "{e:#}");
    }
}
