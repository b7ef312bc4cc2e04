//! Running a further program in a container.
//!
//! What it does: the caller of `exec` is the program's parent and passes its streams on itself;
//! the monitor has no part in it. The program gets the container's environment, user and
//! privileges, changed by what was asked for.
//! Interface: [`Wish`], [`exec`], [`Finished`]. Read next: [`crate::runtime`].

use super::client::{self, KeyWatch, Terminal};
use super::config::users;
use super::flags::set_env;
use super::image;
use super::store::{Container, Store};
use super::{events, lifecycle, names};
use super::{prepare, reconcile};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal;
use crate::runtime::{self, ExecRequest, Launched, Stdio};
use crate::spec::runtime as oci;
use crate::sys::poll::{self, Interest};
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, OwnedFd};

/// What a user asks for.
#[derive(Debug, Default)]
pub struct Wish {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables over the container's.
    pub env: Vec<String>,
    /// `-u`; the container's user when empty.
    pub user: String,
    /// `-w`; the container's when empty.
    pub working_dir: String,
    /// `-t`
    pub tty: bool,
    /// `-i`
    pub input: bool,
    /// `-d`
    pub detach: bool,
    /// `--privileged`
    pub privileged: bool,
    /// The keys that detach.
    pub keys: Vec<u8>,
}

/// How an exec ended for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// The program ended with this status.
    Ended(i32),
    /// It goes on without us.
    Detached,
    /// The user pressed the detach keys; the program goes on.
    Escaped,
}

/// Runs it and passes the streams on until it ends. Errors: the container does not run; the
/// program cannot be found or executed. As for docker, no user of that name and no such working
/// directory are reasons why it cannot be executed.
pub fn exec(
    store: &Store,
    container: &Container,
    wish: &Wish,
    options: &journal::Options,
) -> Result<Finished> {
    let status = reconcile::status(container)?;
    container.must_run(&status)?;
    drop(lifecycle::init(container, &status)?);
    let host = Host::detect()?;
    let spec = lifecycle::spec(container)?;
    let process = process(store, container, &spec, wish).map_err(not_executed)?;
    let (stdio, ours) = streams(wish)?;
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
    let command = wish.args.join(" ");
    let exec_id = names::new_id()?;
    let with_id = |action: &str, more: &[(&str, String)]| {
        let mut attributes = vec![("execID", exec_id.clone())];
        attributes.extend_from_slice(more);
        events::of(container, action, &attributes);
    };
    with_id(&format!("exec_create: {command}"), &[]);
    let launched = runtime::exec(request, &mut (), options)
        .map_err(|e| lifecycle::or_ended(container, &status, not_executed(e)))?;
    with_id(&format!("exec_start: {command}"), &[]);
    if wish.detach {
        return Ok(Finished::Detached);
    }
    let finished = relay(launched, ours, wish)?;
    if let Finished::Ended(code) = finished {
        with_id("exec_die", &[("exitCode", code.to_string())]);
    }
    Ok(finished)
}

/// What kept the program from its start is told by the status, unless that says more already.
fn not_executed(error: Error) -> Error {
    match error.get_kind() {
        Kind::CommandNotFound | Kind::BadFlag => error,
        _ => error.with_kind(Kind::CannotExecute),
    }
}

/// The process of the exec: the container's, changed by the wish.
pub(super) fn process(
    store: &Store,
    container: &Container,
    spec: &oci::Spec,
    wish: &Wish,
) -> Result<oci::Process> {
    let mut process = spec.process.clone().context("config.json has no process")?;
    let h = &container.record.host_config;
    process.args = wish.args.clone();
    process.terminal = wish.tty;
    process.console_size = None;
    if let Some((height, width)) = client::window_size().filter(|_| wish.tty) {
        process.console_size = Some(oci::ConsoleSize {
            height,
            width,
            ..oci::ConsoleSize::default()
        });
    }
    if wish.tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
        process.env.push("TERM=xterm".into());
    }
    if !wish.user.is_empty() {
        let image = image::of_record(store.paths(), &container.record)?;
        let mut layers = vec![container.dir.join("upper")];
        layers.extend(image.lowers.iter().rev().cloned());
        let accounts = users::Accounts::read(&layers)?;
        let identity = users::resolve(&accounts, &wish.user, &h.group_add)?;
        process.user = oci::User {
            uid: identity.uid,
            gid: identity.gid,
            additional_gids: identity.additional_gids.clone(),
            ..oci::User::default()
        };
        if !container
            .record
            .config
            .env
            .iter()
            .any(|e| e.starts_with("HOME="))
        {
            set_env(&mut process.env, format!("HOME={}", identity.home));
        }
    }
    for entry in &wish.env {
        set_env(&mut process.env, entry.clone());
    }
    if !wish.working_dir.is_empty() {
        if !wish.working_dir.starts_with('/') {
            return Err(Error::kind(
                Kind::Usage,
                format!(
                    "the working directory '{}' is invalid, it needs to be an absolute path",
                    wish.working_dir
                ),
            ));
        }
        process.cwd = wish.working_dir.clone().into();
    }
    let caps = process.capabilities.take().unwrap_or_default();
    let set = if wish.privileged {
        prepare::known_caps(&Host::detect()?)
    } else {
        caps.bounding
    };
    // The container's user and this one may differ: root has its set, others the bound alone.
    let root = process.user.uid == 0;
    let of_root = if root { set.clone() } else { Vec::new() };
    process.capabilities = Some(oci::Capabilities {
        bounding: set,
        effective: of_root.clone(),
        permitted: of_root,
        ..oci::Capabilities::default()
    });
    Ok(process)
}

/// This process's ends of the program's pipes.
struct Ours {
    stdin: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, i32)>,
}

fn streams(wish: &Wish) -> Result<(Stdio, Ours)> {
    let mut ours = Ours {
        stdin: None,
        outputs: Vec::new(),
    };
    if wish.tty {
        return Ok((Stdio::Terminal, ours));
    }
    let what = "cannot make the program's pipes";
    let null = |flags| sys::fs::open("/dev/null", flags, 0).context("cannot open /dev/null");
    let stdin = if wish.input && !wish.detach {
        let (inner, outer) = poll::pipe().context(what)?;
        poll::set_nonblocking(&outer, true).context(what)?;
        ours.stdin = Some(outer);
        inner
    } else {
        null(libc::O_RDONLY)?
    };
    let mut output = |to| -> Result<OwnedFd> {
        if wish.detach {
            return null(libc::O_WRONLY);
        }
        let (outer, inner) = poll::pipe().context(what)?;
        poll::set_nonblocking(&outer, true).context(what)?;
        ours.outputs.push((outer, to));
        Ok(inner)
    };
    let (stdout, stderr) = (output(1)?, output(2)?);
    Ok((
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        },
        ours,
    ))
}

/// Waits in the foreground for a program that has this process's own streams, or a terminal that
/// is passed on: its exit status. Signals go to the program.
pub fn foreground(launched: Launched, tty: bool) -> Result<i32> {
    let ours = Ours {
        stdin: None,
        outputs: Vec::new(),
    };
    let wish = Wish {
        tty,
        input: tty,
        ..Wish::default()
    };
    match relay(launched, ours, &wish)? {
        Finished::Ended(status) => Ok(status),
        Finished::Detached | Finished::Escaped => Ok(0),
    }
}

/// Passes bytes until the program ends.
fn relay(mut launched: Launched, mut ours: Ours, wish: &Wish) -> Result<Finished> {
    let signals = client::signals()?;
    let terminal = Terminal::take(wish.tty && wish.input)?;
    let what = "cannot use the program's streams";
    if let Some(master) = launched.terminal.take() {
        poll::set_nonblocking(&master, true).context(what)?;
        ours.stdin = Some(master.try_clone().context(what)?);
        ours.outputs = vec![(master, 1)];
    }
    let mut typed: Vec<u8> = Vec::new();
    let mut keys = KeyWatch::default();
    let mut reading = wish.input;
    let stdin = std::io::stdin();
    loop {
        let mut asked = vec![
            Interest {
                fd: launched.pidfd.as_fd(),
                read: true,
                write: false,
            },
            Interest {
                fd: signals.as_fd(),
                read: true,
                write: false,
            },
        ];
        asked.extend(ours.outputs.iter().map(|(fd, _)| Interest {
            fd: fd.as_fd(),
            read: true,
            write: false,
        }));
        let after_outputs = asked.len();
        asked.extend(ours.stdin.iter().map(|fd| Interest {
            fd: fd.as_fd(),
            read: false,
            write: !typed.is_empty(),
        }));
        let after_stdin = asked.len();
        if reading && typed.is_empty() {
            asked.push(Interest {
                fd: stdin.as_fd(),
                read: true,
                write: false,
            });
        }
        let ready = poll::poll(&asked, -1).context("cannot wait for the program")?;
        for i in (0..ours.outputs.len()).rev() {
            if (ready[2 + i].readable || ready[2 + i].hangup) && !pass(&ours.outputs[i]) {
                ours.outputs.remove(i);
            }
        }
        if after_stdin > after_outputs
            && (ready[after_outputs].writable || ready[after_outputs].hangup)
            && let Some(fd) = &ours.stdin
        {
            match poll::write_some(fd, &typed) {
                Ok(n) => drop(typed.drain(..n)),
                Err(e) if e.errno == Errno::EAGAIN => {}
                Err(_) => {
                    typed.clear();
                    (ours.stdin, reading) = (None, false);
                }
            }
        }
        while let Some(signal) = signals.next().context("cannot read signals")? {
            match signal {
                libc::SIGCONT | libc::SIGWINCH => {
                    if signal == libc::SIGCONT {
                        terminal.again();
                    }
                    if let (Some((fd, _)), Some((rows, columns))) = (
                        ours.outputs.first().filter(|_| wish.tty),
                        client::window_size(),
                    ) {
                        let _ = sys::tty::set_window_size(fd, rows, columns); // it may be ending
                    }
                }
                signal => drop(sys::process::pidfd_send_signal(&launched.pidfd, signal)),
            }
        }
        if ready
            .get(after_stdin)
            .is_some_and(|r| r.readable || r.hangup)
        {
            let mut buffer = [0u8; 16 * 1024];
            match poll::read(&stdin, &mut buffer) {
                Ok(n @ 1..) if wish.tty => {
                    let (pass, detach) = keys.filter(&wish.keys, &buffer[..n]);
                    typed = pass;
                    if detach {
                        return Ok(Finished::Escaped);
                    }
                }
                Ok(n @ 1..) => typed = buffer[..n].to_vec(),
                Err(e) if e.errno == Errno::EAGAIN => {}
                _ => {
                    reading = false;
                    if !wish.tty {
                        ours.stdin = None; // all of it was passed on: `typed` is empty here
                    }
                }
            }
        }
        if ready[0].readable {
            break;
        }
    }
    let exit = sys::process::waitid(&launched.pidfd, 0).context("cannot wait for the program")?;
    for output in &ours.outputs {
        loop {
            let asked = [Interest {
                fd: output.0.as_fd(),
                read: true,
                write: false,
            }];
            if !poll::poll(&asked, 0).is_ok_and(|r| r[0].readable) || !pass(output) {
                break;
            }
        }
    }
    Ok(Finished::Ended(exit.map_or(255, sys::process::Exit::code)))
}

/// Passes one output on. False when it has ended.
fn pass((fd, to): &(OwnedFd, i32)) -> bool {
    let mut buffer = [0u8; 32 * 1024];
    match poll::read(fd, &mut buffer) {
        Ok(0) => false,
        Ok(n) => match to {
            1 => client::write_all(std::io::stdout().as_fd(), &buffer[..n]),
            _ => client::write_all(std::io::stderr().as_fd(), &buffer[..n]),
        },
        Err(e) => e.errno == Errno::EAGAIN,
    }
}
