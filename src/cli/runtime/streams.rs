//! The flags that `create`, `run` and `exec` share: what a program is connected with, and who is told.
//!
//! What it does: the terminal's outer end, the process id and further descriptors, each taken the
//! same way for a container's first program and for one that `exec` adds.
//! What it implements: those options of runc-create(8), runc-run(8), runc-exec(8).
//! Interface: [`ProgramArgs`], [`DetachArgs`]. Read next: `create.rs`.

use crate::error::{Error, Kind, Result};
use crate::spec::runtime::Spec;
use std::path::{Path, PathBuf};

// What `create`, `run` and `exec` share. (As a doc comment it would be the help of all three.)
#[derive(clap::Args)]
pub(super) struct ProgramArgs {
    /// A unix socket that takes the terminal's outer end
    #[arg(long, value_name = "SOCKET")]
    pub(super) console_socket: Option<PathBuf>,
    /// A unix socket that takes a descriptor of the process: its pidfd
    #[arg(long, value_name = "SOCKET")]
    pub(super) pidfd_socket: Option<PathBuf>,
    /// Write the process id there
    #[arg(long, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,
    /// Give the program the descriptors 3 … N+2 of this process
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

// What `run` and `exec` share, those that wait unless they are told not to. (Not their help.)
#[derive(clap::Args)]
pub(super) struct DetachArgs {
    /// Do not wait for its end
    #[arg(short, long)]
    pub(super) detach: bool,
}

impl ProgramArgs {
    /// A terminal has somebody at its outer end, and a socket has a terminal to take. `asked` is
    /// where a terminal is asked for, as the errors name it.
    pub(super) fn check_terminal(&self, terminal: bool, detached: bool, asked: &str) -> Result<()> {
        match (terminal, detached, &self.console_socket) {
            (true, true, None) => {
                let what = format!("{asked} asks for a terminal, and nobody takes it");
                Err(Error::kind(Kind::Usage, what)
                    .hint("give --console-socket, a unix socket that waits for it"))
            }
            (false, _, Some(_)) => {
                let what = format!("a console socket was given, and {asked} asks for no terminal");
                Err(Error::kind(Kind::Usage, what))
            }
            _ => Ok(()),
        }
    }

    /// Descriptors that the program gets: those of systemd's socket activation (`LISTEN_FDS`) and
    /// N more. Each must be open now, or one that we open later would take its number and leak.
    pub(super) fn preserved(&self, spec: &mut Spec) -> Result<u32> {
        let passed = std::env::var("LISTEN_FDS").ok();
        let passed = passed.and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
        if passed > 0
            && let Some(process) = &mut spec.process
        {
            process.env.push(format!("LISTEN_FDS={passed}"));
            process.env.push("LISTEN_PID=1".into());
        }
        let count = passed + self.preserve_fds;
        for fd in 3..3 + count {
            if !Path::new(&format!("/proc/self/fd/{fd}")).exists() {
                let what = format!("descriptor {fd} was to be preserved, and is not open");
                return Err(Error::kind(Kind::Usage, what));
            }
        }
        Ok(count)
    }
}
