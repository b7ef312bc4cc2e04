//! Health checks: a command that runs in the container now and then, and what follows from it.
//!
//! What it does: the monitor of a container that has a check starts one more process, the watch,
//! which is a client of the monitor's as any other. It runs the check when it is time, ends it when
//! it takes too long, and tells the monitor how it went; the monitor counts, keeps the last five
//! results in the status and writes the event when the verdict changes. A container that is
//! unhealthy goes on running.
//!
//! Why a process of its own: the monitor's loop must never wait for anything. And whoever enters a
//! container must run from a copy of our program's file ([`crate::runtime::own_binary`]), which a
//! monitor that took over from another does not.
//!
//! What it implements: docker's health checks: 30 s between two, 30 s for one, three failures in a
//! row, no start period, 5 s between two in it; 4096 bytes of output are kept.
//! Interface: [`Health`], [`Probe`], [`begin`], [`watch`], [`COMMAND`]. Read next: `monitor.rs`.

use super::attach::{self, Message};
use super::state::Phase;
use super::store::{Container, Store};
use super::time::Time;
use super::{exec, lifecycle};
use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::journal;
use crate::runtime::{self, ExecRequest, Stdio};
use crate::spec::image::Healthcheck;
use crate::sys::poll::{self, Interest};
use crate::sys::{self, process::Exit};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The word by which this program is the watch.
pub const COMMAND: &str = "watch-health";
/// Results that are kept.
const KEPT: usize = 5;
/// Bytes of output that are kept.
const OUTPUT: usize = 4096;
/// The exit status of a check that could not be run or took too long, as docker's.
const FAILED: i32 = -1;

/// How a container does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last results, oldest first.
    pub log: Vec<Probe>,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probe {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// 0 is healthy.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

/// The check of a container, if it has one.
pub fn check(container: &Container) -> Option<&Healthcheck> {
    let check = container.record.config.healthcheck.as_ref()?;
    matches!(check.test.first()?.as_str(), "CMD" | "CMD-SHELL").then_some(check)
}

fn or(value: i64, default: Duration) -> Duration {
    match u64::try_from(value) {
        Ok(n @ 1..) => Duration::from_nanos(n),
        _ => default,
    }
}

impl Health {
    /// Before the first result.
    pub fn starting() -> Health {
        Health {
            status: "starting".into(),
            ..Health::default()
        }
    }

    /// Counts a result in. True when the verdict has changed. `started_at`: failures within the
    /// start period after it do not count, until the check has once succeeded.
    pub fn take(&mut self, probe: Probe, check: &Healthcheck, started_at: Time) -> bool {
        let before = self.status.clone();
        let period = or(check.start_period, Duration::ZERO).as_nanos() as u64;
        let starts_up = before == "starting" && probe.start.0 < started_at.0.saturating_add(period);
        match probe.exit_code {
            0 => {
                self.failing_streak = 0;
                self.status = "healthy".into();
            }
            _ if starts_up => {}
            _ => {
                self.failing_streak += 1;
                let retries = if check.retries > 0 { check.retries } else { 3 };
                if self.failing_streak >= retries {
                    self.status = "unhealthy".into();
                }
            }
        }
        self.log.push(probe);
        let surplus = self.log.len().saturating_sub(KEPT);
        self.log.drain(..surplus);
        self.status != before
    }
}

/// Starts the watch of a container that has a check, as a child of the monitor.
pub fn begin(container: &Container) -> Result<()> {
    if check(container).is_none() {
        return Ok(());
    }
    let store = Store::of(container);
    let mut command = std::process::Command::new("/proc/self/exe");
    command
        .arg(COMMAND)
        .arg(&store.paths().root)
        .arg(&store.paths().run)
        .arg(container.id())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    sys::process::spawn(&mut command)
        .map(drop) // it ends with the monitor's socket, and the monitor reaps it
        .context("cannot start the watch over the container's health")
}

/// The whole life of the watch: `ROOT RUN ID`. Ends with the container, or with its monitor.
pub fn watch(args: &[OsString]) -> Result<u8> {
    let [root, run, id] = args else {
        return Err(Error::new(
            "the watch over a container's health is started by its monitor",
        ));
    };
    let store = Store::at(Path::new(root), Path::new(run));
    let id = id.to_string_lossy();
    let container = store.load(&id)?.context("the container is gone")?;
    let (Some(check), Some(socket)) = (check(&container), attach::connect(&container.run)?) else {
        return Ok(0);
    };
    let status = container.written_status()?;
    let started = Time::now().0.saturating_sub(status.started_at.0);
    let begin = Instant::now()
        .checked_sub(Duration::from_nanos(started))
        .unwrap_or_else(Instant::now);
    let interval = or(check.interval, Duration::from_secs(30));
    let start_period = or(check.start_period, Duration::ZERO);
    let start_interval = or(check.start_interval, Duration::from_secs(5));
    let mut healthy = false;
    loop {
        let starts_up = !healthy && begin.elapsed() < start_period;
        let pause = if starts_up { start_interval } else { interval };
        if !wait(&socket, pause)? {
            return Ok(0);
        }
        let status = container.written_status()?;
        if status.phase == Phase::Paused {
            continue; // nothing runs in there
        }
        let Some(probe) = probe(&store, &container, check, &socket)? else {
            return Ok(0);
        };
        healthy |= probe.exit_code == 0;
        let text = serde_json::to_string(&probe).context("cannot tell the result")?;
        sys::socket::send(&socket, &Message::Health(text).encode())
            .context("the monitor is gone")?;
    }
}

/// Waits. False when the container or its monitor has ended.
fn wait(socket: &OwnedFd, pause: Duration) -> Result<bool> {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let asked = [Interest {
            fd: socket.as_fd(),
            read: true,
            write: false,
        }];
        let ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let ready = poll::poll(&asked, ms).context("cannot wait")?;
        if (ready[0].readable || ready[0].hangup) && !goes_on(socket) {
            return Ok(false);
        }
        if left.is_zero() {
            return Ok(true);
        }
    }
}

/// Hears what the monitor has said: whether that was not its last word.
fn goes_on(socket: &OwnedFd) -> bool {
    match sys::socket::recv(socket) {
        Ok(Some(bytes)) => !matches!(Message::decode(&bytes), Some(Message::Ended(_))),
        _ => false,
    }
}

/// Runs the check once. `None` when the container ended meanwhile.
fn probe(
    store: &Store,
    container: &Container,
    check: &Healthcheck,
    socket: &OwnedFd,
) -> Result<Option<Probe>> {
    let start = Time::now();
    let done = |exit_code: i32, output: Vec<u8>| {
        let output = String::from_utf8_lossy(&output[..output.len().min(OUTPUT)]).into_owned();
        Some(Probe {
            start,
            end: Time::now(),
            exit_code,
            output,
        })
    };
    let (launched, output) = match launch(store, container, check) {
        Ok(launched) => launched,
        Err(_) if !container.written_status()?.phase.is_live() => return Ok(None),
        Err(e) => return Ok(done(FAILED, format!("{e:#}").into_bytes())),
    };
    let timeout = or(check.timeout, Duration::from_secs(30));
    let end = Instant::now() + timeout;
    let mut text = Vec::new();
    let mut open = true;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let interest = |fd| Interest {
            fd,
            read: true,
            write: false,
        };
        let mut asked = vec![interest(launched.pidfd.as_fd()), interest(socket.as_fd())];
        if open {
            asked.push(interest(output.as_fd()));
        }
        let ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let ready = poll::poll(&asked, ms).context("cannot wait for the check")?;
        if ready.get(2).is_some_and(|r| r.readable || r.hangup) {
            open = take(&output, &mut text);
        }
        if ready[0].readable {
            while open && poll::poll(&[interest(output.as_fd())], 0).is_ok_and(|r| r[0].readable) {
                open = take(&output, &mut text);
            }
            let exit =
                sys::process::waitid(&launched.pidfd, 0).context("cannot wait for the check")?;
            return Ok(done(exit.map_or(FAILED, Exit::code), text));
        }
        let over = left.is_zero();
        if over || ((ready[1].readable || ready[1].hangup) && !goes_on(socket)) {
            let _ = sys::process::pidfd_send_signal(&launched.pidfd, libc::SIGKILL); // gone is as good
            // Frozen meanwhile, it does not even hear that: it is reaped by who comes after us.
            let dead = poll::poll(&[interest(launched.pidfd.as_fd())], 5_000);
            if dead.is_ok_and(|r| r[0].readable) {
                let _ = sys::process::waitid(&launched.pidfd, 0); // its status is of no interest
            }
            if !over {
                return Ok(None);
            }
            let words = format!("Health check exceeded timeout ({})", seconds(timeout));
            text.extend(words.into_bytes());
            return Ok(done(FAILED, text));
        }
    }
}

fn seconds(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{:?}", time),
    }
}

/// Reads what is there. False at the end.
fn take(output: &OwnedFd, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; OUTPUT];
    match poll::read(output, &mut buffer) {
        Ok(0) => false,
        Ok(n) => {
            let room = OUTPUT.saturating_sub(text.len());
            text.extend_from_slice(&buffer[..n.min(room)]);
            true
        }
        Err(e) => e.errno == sys::Errno::EAGAIN,
    }
}

fn launch(
    store: &Store,
    container: &Container,
    check: &Healthcheck,
) -> Result<(runtime::Launched, OwnedFd)> {
    let status = container.written_status()?;
    container.must_run(&status)?;
    drop(lifecycle::init(container, &status)?);
    let spec = lifecycle::spec(container)?;
    let args = match check.test.split_first() {
        Some((first, line)) if first == "CMD-SHELL" => ["/bin/sh".to_string(), "-c".into()]
            .into_iter()
            .chain(line.iter().cloned())
            .collect(),
        Some((_, args)) => args.to_vec(),
        None => Vec::new(),
    };
    let wish = exec::Wish {
        args,
        ..exec::Wish::default()
    };
    let process = exec::process(store, container, &spec, &wish)?;
    let what = "cannot make the check's pipe";
    let (outer, inner) = poll::pipe().context(what)?;
    poll::set_nonblocking(&outer, true).context(what)?;
    let stdio = Stdio::Fds {
        stdin: sys::fs::open("/dev/null", libc::O_RDONLY, 0).context("cannot open /dev/null")?,
        stderr: inner.try_clone().context(what)?,
        stdout: inner,
    };
    let host = Host::detect()?;
    let request = ExecRequest {
        id: container.id(),
        keyring: container.id(),
        bundle: &container.dir,
        init: status.pid,
        spec: &spec,
        process: &process,
        host: &host,
        stdio,
        preserve_fds: 0,
        groups: &[],
    };
    let launched = runtime::exec(request, &mut (), &journal::Options::default())?;
    Ok((launched, outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_dockers_rules() {
        let check = Healthcheck {
            retries: 2,
            start_period: 10,
            ..Healthcheck::default()
        };
        let mut health = Health::starting();
        let mut take = |at: u64, code: i32| {
            let probe = Probe {
                start: Time(at),
                end: Time(at),
                exit_code: code,
                output: String::new(),
            };
            let changed = health.take(probe, &check, Time(100));
            (changed, health.status.clone(), health.failing_streak)
        };
        assert_eq!(
            take(105, 1),
            (false, "starting".into(), 0),
            "within the start period"
        );
        assert_eq!(take(111, 1), (false, "starting".into(), 1));
        assert_eq!(take(112, 0), (true, "healthy".into(), 0));
        assert_eq!(take(113, 3), (false, "healthy".into(), 1));
        assert_eq!(take(114, -1), (true, "unhealthy".into(), 2));
        assert_eq!(take(115, -1), (false, "unhealthy".into(), 3));
        assert_eq!(take(116, 0), (true, "healthy".into(), 0));
        assert_eq!(health.log.len(), KEPT);
        assert_eq!(health.log[0].start, Time(112));
    }
}
