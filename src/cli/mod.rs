//! The command line: one file a subcommand, whose doc comment is its help.
//!
//! What it does: looks at the first word and builds only that subcommand's parser, so that the
//! binary starts in about a millisecond however many subcommands there are. What is not a
//! subcommand meets their names alone; the whole tree is built for help, completions and man pages.
//! Interface: [`run`]. Read next: any file beside this one; they have one shape: an `Args` struct
//! whose docs are the help, and `fn run(Args) -> Result<u8>`, where the number is the exit status.

use crate::containers::files::commit as commit_layer;
use crate::containers::{health, remove};
use crate::error::{Error, Kind, Result};
use crate::runtime::own_binary;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, FromArgMatches};
use std::ffi::OsString;

pub mod container_flags;
mod explain_flag;
mod filters;
mod foreign_flags;
mod health_flags;
mod limit_flags;
mod name_flags;
mod network_flags;
mod own_namespace;
mod status;
mod switches;
mod targets;
mod words;

/// One subcommand: its name, how to build its parser, how to run it.
struct Entry {
    name: &'static str,
    group: &'static str,
    build: fn() -> clap::Command,
    run: fn(clap::ArgMatches) -> Result<u8>,
}

macro_rules! commands {
    ($($group:literal: $($module:ident $name:literal),+ $(,)?;)+) => {
        $($(pub mod $module;)+)+
        const COMMANDS: &[Entry] = &[$($(Entry {
            name: $name,
            group: $group,
            build: || $module::Args::augment_args(clap::Command::new($name)),
            run: |m| $module::run($module::Args::from_arg_matches(&m).map_err(usage)?),
        }),+),+];
    };
}

// One a line, so that two branches that add one do not meet.
commands! {
    "Containers":
        run "run",
        create "create",
        start "start",
        stop "stop",
        restart "restart",
        kill "kill",
        rm "rm",
        ps "ps",
        exec "exec",
        logs "logs",
        attach "attach",
        cp "cp",
        diff "diff",
        export "export",
        commit "commit",
        wait "wait",
        top "top",
        stats "stats",
        port "port",
        events "events",
        update "update",
        rename "rename",
        pause "pause",
        unpause "unpause",
    ;
    "Stages":
        ns "ns",
        cgroup "cgroup",
        layer "layer",
        image "image",
        volume "volume",
        network "network",
        container "container",
        pull "pull",
        push "push",
        login "login",
        logout "logout",
        registry "registry",
        runtime "runtime",
    ;
    "Seeing it":
        inspect "inspect",
        explain "explain",
        lab "lab",
    ;
    "Setting up":
        system "system",
        version "version",
        completions "completions",
        man "man",
    ;
}

/// The commands that go into a container, or make the process that does, and of a command with
/// commands of its own those that do (none named: it does itself). A container must not get at our
/// program's file through them, so they run from a copy of it ([`own_binary`]).
const INTO_CONTAINERS: &[(&str, &[&str])] = &[
    ("run", &[]),
    ("start", &[]),
    ("restart", &[]),
    ("exec", &[]),
    ("ns", &["enter"]),
    ("runtime", &["create", "run", "exec"]),
    ("system", &["recover"]),
];

fn goes_into_containers(name: &str, matches: &clap::ArgMatches) -> bool {
    let of_its_own = matches.subcommand_name();
    INTO_CONTAINERS.iter().any(|(command, below)| {
        *command == name && (below.is_empty() || of_its_own.is_some_and(|c| below.contains(&c)))
    })
}

/// Whether a command line looks like one of them, flags unread. Who is wrong here starts twice for
/// nothing.
fn may_go_into_containers(name: &str, rest: &[OsString]) -> bool {
    INTO_CONTAINERS.iter().any(|(command, below)| {
        let one_of = |word: &OsString| below.iter().any(|c| word == c);
        *command == name && (below.is_empty() || rest.iter().any(one_of))
    })
}

fn usage(e: clap::Error) -> Error {
    Error::kind(Kind::Usage, e.to_string())
}

/// Containers with glass walls: run them, and see how each is made and what holds it.
#[derive(clap::Parser)]
#[command(name = "glassbox", version)]
struct Top {}

/// Runs the command line and returns the exit status.
pub fn run(mut args: Vec<OsString>) -> Result<u8> {
    // An engine calls its runtime by one name, without a first word.
    let name = args
        .first()
        .map(std::path::Path::new)
        .and_then(|p| p.file_name());
    if name.is_some_and(|n| n == runtime::CALLED_AS) {
        args.insert(1, "runtime".into());
    }
    let first = args.get(1).and_then(|a| a.to_str()).unwrap_or("");
    if first == health::COMMAND {
        own_binary::protect()?;
        return health::watch(&args[2..]);
    }
    if first == remove::COMMAND {
        return remove::remove_named(&args[2..]);
    }
    if first == commit_layer::COMMAND {
        return commit_layer::write_named(&args[2..]);
    }
    words::translate(&mut args);
    let first = args.get(1).and_then(|a| a.to_str()).unwrap_or("");
    if let Some(entry) = COMMANDS.iter().find(|c| c.name == first) {
        // Before the flags are read, as the copy would read them again. Who cannot be protected may
        // still read the help, or hear what is wrong with the flags.
        let protected =
            may_go_into_containers(entry.name, &args[2..]) && own_binary::protect().is_ok();
        let command = (entry.build)()
            .bin_name(format!("glassbox {}", entry.name))
            .version(env!("CARGO_PKG_VERSION"));
        let args = switches::rewrite(&command, &args[1..]);
        return match command.try_get_matches_from(args) {
            Ok(matches) => {
                if !protected && goes_into_containers(entry.name, &matches) {
                    own_binary::protect()?;
                }
                (entry.run)(matches).or_else(|error| refused(entry.name, error))
            }
            Err(e) => parse_failure(entry.name, e),
        };
    }
    if matches!(first, "checkpoint" | "restore") {
        return Err(no_checkpoint());
    }
    use clap::error::ErrorKind::{DisplayHelp, MissingSubcommand};
    let top = || {
        COMMANDS.iter().fold(Top::command(), |top, c| {
            top.subcommand(clap::Command::new(c.name))
        })
    };
    match top().try_get_matches_from(&args) {
        // Only help tells what the subcommands can do.
        Err(e) if e.kind() == DisplayHelp => match whole_tree().try_get_matches_from(&args) {
            Err(help) => parse_failure("", help),
            Ok(_) => parse_failure("", e),
        },
        Err(e) => parse_failure("", e),
        Ok(_) => parse_failure(
            "",
            top().error(
                MissingSubcommand,
                "a subcommand is needed; `glassbox --help` lists them",
            ),
        ),
    }
}

/// What is out of scope says so, in place of being an unknown word.
pub fn no_checkpoint() -> Error {
    Error::kind(
        Kind::Unsupported,
        "checkpoint and restore are out of scope: glassbox does not write running processes to disk",
    )
    .hint("`pause` freezes a container in memory; podman with CRIU has checkpoints")
}

/// The whole command tree, for help, completions, man pages and the snapshot of the reference.
pub fn whole_tree() -> clap::Command {
    let mut top = Top::command();
    let mut listing = String::new();
    let mut group = "";
    for entry in COMMANDS {
        let command = (entry.build)();
        if entry.group != group {
            group = entry.group;
            listing += &format!("\n{group}:\n");
        }
        let about = command.get_about().map(ToString::to_string);
        listing += &format!("  {:<12} {}\n", entry.name, about.unwrap_or_default());
        top = top.subcommand(command);
    }
    top.help_template(format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{listing}\nOptions:\n{{options}}\n\n\
         `glassbox COMMAND --help` has examples; `glassbox explain` teaches the concepts. Docker's\n\
         other words work as well: {}.\n", words::listing()
    ))
}

/// Does `act` for every name; a failure is printed and the others go on, as docker does. Exit
/// status 1 when one failed.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut status = 0;
    for name in names {
        if let Err(error) = act(name) {
            crate::ui::print_error(&error);
            status = 1;
        }
    }
    Ok(status)
}

/// Prints what a command failed with, where its status is not the one that `main` would give.
fn refused(command: &str, error: Error) -> Result<u8> {
    let status = status::of(command, &error);
    if status == error.exit_status() {
        return Err(error);
    }
    crate::ui::print_error(&error);
    Ok(status)
}

/// A value that one of our own types refused: clap would print its message alone, without the hint.
fn value_refused(e: &clap::Error) -> Option<Error> {
    let ours = std::error::Error::source(e)?.downcast_ref::<Error>()?;
    let word = |kind| match e.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (
        word(ContextKind::InvalidArg),
        word(ContextKind::InvalidValue),
    );
    let mut error = Error::kind(
        Kind::Usage,
        format!("the value {value:?} of {argument} is wrong"),
    )
    .caused_by(Error::new(ours.message().to_string()));
    if let Some(hint) = ours.get_hint() {
        error = error.hint(hint.to_string());
    }
    match ours.get_topic() {
        Some(topic) => Some(error.topic(topic)),
        None => Some(error),
    }
}

/// Help and version go to stdout with status 0; a wrong command line to stderr with that of
/// `status.rs`.
fn parse_failure(command: &str, e: clap::Error) -> Result<u8> {
    if let Some(refused) = value_refused(&e) {
        crate::ui::print_error(&refused);
        return Ok(status::of_parse(command, &e));
    }
    if e.use_stderr() {
        let _ = e.print();
        return Ok(status::of_parse(command, &e));
    }
    crate::ui::out_raw(e.render());
    Ok(0)
}
