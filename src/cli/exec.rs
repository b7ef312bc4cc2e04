//! `glassbox exec`: a further program in a running container.
//!
//! Read next: [`crate::containers::exec`].

use super::status::of_flags;
use crate::containers::exec::{self, Finished, Wish};
use crate::containers::{client, flags, store::Store};
use crate::error::{Error, Kind, Result};
use std::io::IsTerminal;
use std::path::PathBuf;

/// Run a command in a running container
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox exec web ps
  glassbox exec -it web sh
  glassbox exec -u nobody -w /tmp -e A=1 web env")]
pub struct Args {
    /// Keep stdin open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// User: NAME or UID, optionally with :GROUP
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// All capabilities
    #[arg(long)]
    privileged: bool,
    /// Keys that leave it running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: String,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The container, then the command
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    target: Vec<String>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    if args.tty && args.interactive && !args.detach && !std::io::stdin().is_terminal() {
        return Err(Error::kind(Kind::Usage, "the input device is not a TTY")
            .hint("leave -t out when stdin is a pipe"));
    }
    let store = Store::open(args.root.as_deref())?;
    let container = store.find(&args.target[0])?;
    let lookup = |name: &str| std::env::var(name).ok();
    let mut env = Vec::new();
    for file in &args.env_file {
        env.extend(flags::lines_of_file(file)?);
    }
    env.extend(args.env);
    let env: Vec<Option<String>> = of_flags(env.iter().map(|e| flags::env(e, &lookup)).collect())?;
    let wish = Wish {
        args: args.target[1..].to_vec(),
        env: env.into_iter().flatten().collect(),
        user: args.user.unwrap_or_default(),
        working_dir: args.workdir.unwrap_or_default(),
        tty: args.tty,
        input: args.interactive,
        detach: args.detach,
        privileged: args.privileged,
        keys: client::parse_keys(&args.detach_keys)?,
    };
    Ok(match exec::exec(&store, &container, &wish, &super::run::options(false))? {
        Finished::Ended(code) => code as u8,
        Finished::Detached => 0,
        // Docker's word and status: its caller never learns what became of the program.
        Finished::Escaped => {
            crate::ui::note("read escape sequence");
            1
        }
    })
}
