//! `glassbox login`: prove to a registry who you are, and keep the proof.
//!
//! Read next: `logout.rs`, [`crate::registry::client::auth`].

use super::registry::RegistryFlags;
use crate::error::{Context, Error, Kind, Result};
use crate::registry::client::auth::credentials::{self, Credential};
use crate::registry::client::endpoint::DOCKER_IO;
use crate::registry::client::exchange::Trace;
use crate::ui;
use crate::sys::tty::Raw;
use std::io::{IsTerminal, Read};

/// Log in to a registry
///
/// The registry is asked first; what it accepts is kept in docker's config.json or by the credential
/// helper that this names.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox login registry.example             asks for user and password
  glassbox login -u me --password-stdin localhost:5000 < secret")]
pub struct Args {
    /// The user.
    #[arg(short, long)]
    username: Option<String>,
    /// The password. Others on this machine can read it while the command runs.
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from stdin.
    #[arg(long)]
    password_stdin: bool,
    /// The registry [default: docker.io].
    server: Option<String>,
    #[command(flatten)]
    flags: RegistryFlags,
}

/// The name of a registry out of what a user writes, maybe a URL.
pub fn registry(server: Option<&str>) -> String {
    let name = server.unwrap_or(DOCKER_IO);
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    match name.split('/').next().unwrap_or_default() {
        "" | "index.docker.io" | "registry-1.docker.io" => DOCKER_IO.into(),
        host => host.into(),
    }
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let registry = registry(args.server.as_deref());
    let needs = |what: &str, flag: &str| Error::kind(Kind::Usage, format!("{what} is needed: {flag}"));
    let terminal = std::io::stdin().is_terminal();
    let user = match args.username {
        Some(user) => user,
        None if terminal && !args.password_stdin => ask("Username: ")?,
        None => return Err(needs("a user", "--username")),
    };
    if user.is_empty() {
        return Err(needs("a user", "--username"));
    }
    let password = match args.password {
        Some(password) => {
            ui::warn("a password on the command line can be read by others; --password-stdin is safe");
            password
        }
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the password")?;
            text.trim_end_matches(['\r', '\n']).to_string()
        }
        None if terminal => ask_hidden("Password: ")?,
        None => return Err(needs("a password", "--password-stdin")),
    };
    if password.is_empty() {
        return Err(needs("a password", "--password-stdin"));
    }
    let client = args.flags.client(&registry, Trace::default())?;
    let kept = client.login(Credential::Password { user, password })?;
    let place = credentials::store(&registry, &kept)?;
    ui::note(format_args!("the credential is kept in {place}"));
    ui::out("Login Succeeded");
    Ok(0)
}

fn ask(what: &str) -> Result<String> {
    ui::prompt(what);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read the answer")?;
    Ok(line.trim().to_string())
}

/// The terminal shows nothing of the answer. In raw mode the interrupt key is a byte like others: so
/// the terminal is put back before it ends us.
fn ask_hidden(what: &str) -> Result<String> {
    // Before the question: who answers at once, as programs do, is not shown either.
    let raw = Raw::enter(std::io::stdin()).context("cannot switch the terminal's echo off")?;
    ui::prompt(what);
    let (mut answer, mut byte) = (Vec::new(), [0u8]);
    let interrupted = loop {
        if std::io::stdin().lock().read(&mut byte).context("cannot read the password")? == 0 {
            break false;
        }
        match byte[0] {
            b'\r' | b'\n' | 4 => break false,        // Enter, ctrl-d
            3 => break true,                         // ctrl-c
            8 | 127 => drop(answer.pop()),           // a character back
            21 => answer.clear(),                    // ctrl-u
            other => answer.push(other),
        }
    };
    drop(raw);
    ui::note("");
    if interrupted {
        return Err(Error::new("the login was interrupted"));
    }
    String::from_utf8(answer).context("the password is no UTF-8")
}
