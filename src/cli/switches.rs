//! `--rm=false`: docker's switches take a value after an equals sign.
//!
//! What it does: rewrites `--switch=true` to `--switch` and drops `--switch=false`, before the
//! parser sees them, for every switch of a command. What stands after the first word that is no
//! option belongs to the container's program and is left alone where the command says so; where it
//! names a subcommand, what follows are that one's arguments.
//! What it implements: the boolean flags of pflag, which docker's command line is made with.
//! Interface: [`rewrite`]. Read next: `mod.rs`.

use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// The arguments of `command` (its name first) with the values of switches taken off.
pub fn rewrite(command: &Command, args: &[OsString]) -> Vec<OsString> {
    if args
        .iter()
        .all(|arg| !arg.as_encoded_bytes().contains(&b'='))
    {
        return args.to_vec(); // no value is taken off
    }
    let mut kept = Vec::new();
    let ends_at_word = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let mut rest = args.iter();
    kept.extend(rest.next().cloned());
    while let Some(arg) = rest.next() {
        let text = arg.to_str().unwrap_or("");
        if text == "--" || (ends_at_word && (!text.starts_with('-') || text == "-")) {
            kept.push(arg.clone());
            break;
        }
        if let Some(below) = command.find_subcommand(text) {
            let words: Vec<OsString> = std::iter::once(arg).chain(rest).cloned().collect();
            // A parser of a subcommand is empty until it is built.
            let mut below = below.clone();
            below.build();
            kept.extend(rewrite(&below, &words));
            return kept;
        }
        match option(command, text) {
            Some((found, Some(value))) if is_switch(found) => match value {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => {
                    kept.push(text.split('=').next().unwrap_or(text).into());
                }
                "false" | "0" | "f" | "F" | "FALSE" | "False" => {}
                _ => kept.push(arg.clone()),
            },
            Some((found, None)) if !is_switch(found) && found.get_action().takes_values() => {
                kept.push(arg.clone());
                let optional = found.get_num_args().is_some_and(|n| n.min_values() == 0);
                if !optional {
                    kept.extend(rest.next().cloned());
                }
            }
            _ => kept.push(arg.clone()),
        }
    }
    kept.extend(rest.cloned());
    kept
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The option that `text` names, and the value in the same word if there is one. Of several short
/// ones (`-dit`) it is the one that can have a value: the first that takes one, or the last.
fn option<'a>(command: &'a Command, text: &'a str) -> Option<(&'a Arg, Option<&'a str>)> {
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let named = |a: &&Arg| {
            a.get_long() == Some(name) || a.get_all_aliases().is_some_and(|all| all.contains(&name))
        };
        return command.get_arguments().find(named).map(|a| (a, value));
    }
    let letters = text.strip_prefix('-')?;
    for (at, letter) in letters.char_indices() {
        let arg = command
            .get_arguments()
            .find(|a| a.get_short() == Some(letter))?;
        let after = &letters[at + letter.len_utf8()..];
        if !is_switch(arg) || after.is_empty() {
            return Some((arg, Some(after).filter(|a| !a.is_empty())));
        }
        if let Some(value) = after.strip_prefix('=') {
            return Some((arg, Some(value)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(words: &str) -> String {
        rewritten(&run(), words)
    }

    fn rewritten(command: &Command, words: &str) -> String {
        let args: Vec<OsString> = words.split(' ').map(Into::into).collect();
        let all: Vec<_> = rewrite(command, &args)
            .iter()
            .map(|a| a.to_str().unwrap().to_string())
            .collect();
        all.join(" ")
    }

    fn run() -> Command {
        Command::new("run")
            .arg(Arg::new("rm").long("rm").action(ArgAction::SetTrue))
            .arg(
                Arg::new("tty")
                    .short('t')
                    .long("tty")
                    .action(ArgAction::SetTrue),
            )
            .arg(Arg::new("in").short('i').action(ArgAction::SetTrue))
            .arg(Arg::new("env").short('e').long("env"))
            .arg(Arg::new("image").num_args(1..).trailing_var_arg(true))
    }

    #[test]
    fn switches_take_values_and_nothing_else_changes() {
        assert_eq!(after("run --rm=true -t=false img"), "run --rm img");
        assert_eq!(after("run --tty=1 --rm=0 -i img"), "run --tty -i img");
        assert_eq!(after("run -it=true img"), "run -it img");
        assert_eq!(
            after("run -e a --rm=false img --rm=false"),
            "run -e a img --rm=false"
        );
        assert_eq!(
            after("run -e=a --env=b --env c --rm=maybe img"),
            "run -e=a --env=b --env c --rm=maybe img"
        );
        assert_eq!(after("run -- --rm=true"), "run -- --rm=true");
    }

    #[test]
    fn a_subcommand_has_switches_of_its_own() {
        let spec = Command::new("spec")
            .arg(
                Arg::new("rootless")
                    .long("rootless")
                    .action(ArgAction::SetTrue),
            )
            .arg(Arg::new("bundle").long("bundle"));
        let top = Command::new("runtime")
            .arg(Arg::new("rootless").long("rootless"))
            .subcommand(spec)
            .subcommand(run())
            .subcommand(Command::new("late").defer(|_| run()));
        for (words, wanted) in [
            (
                "runtime --rootless run spec --rootless=true --bundle=x",
                "runtime --rootless run spec --rootless --bundle=x",
            ),
            (
                "runtime spec --rootless --bundle run --rootless=false",
                "runtime spec --rootless --bundle run",
            ),
            (
                "runtime run --rm=false -it=true id --rm=false",
                "runtime run -it id --rm=false",
            ),
            ("runtime late --rm=true -t=0 id", "runtime late --rm id"),
        ] {
            assert_eq!(rewritten(&top, words), wanted);
        }
    }
}
