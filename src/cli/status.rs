//! Exit statuses: which of our failures is 125, and which is 1.
//!
//! What it does: keeps docker's rule in one place. A container's own status passes through, 126 and
//! 127 say that its program could not be executed or is not there. Of what is left,
//!
//! | Failure | Status |
//! |---|---|
//! | a flag that does not exist, or whose value cannot be understood | 125 |
//! | of a command that puts a program into its place ([`RUNS_PROGRAMS`]), before that | 125 |
//! | of a stage alone ([`STAGES`]) | 125 |
//! | anything else: no such container, a word too many, a name that is none | 1 |
//!
//! What it implements: the statuses of docker's command line 28 (`cli.StatusError`): its parser of
//! flags ends with 125 and `run` turns what the daemon says into 125; all else is 1.
//! Interface: [`of`], [`of_parse`], [`of_flags`]. Read next: `mod.rs`.

use crate::error::{Error, Kind, Result};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands whose status is a program's: 125 says that it was not the program that failed.
const RUNS_PROGRAMS: &[&str] = &["run"];

/// The stages alone, which stand between an engine and a program, or next to one.
const STAGES: &[&str] = &["ns", "cgroup", "layer", "runtime", "lab", "explain"];

/// The status of a command that failed.
pub fn of(command: &str, error: &Error) -> u8 {
    let status = error.exit_status();
    let ours = RUNS_PROGRAMS.contains(&command) || STAGES.contains(&command);
    match status == 125 && !ours && error.get_kind() != Kind::BadFlag {
        true => 1,
        false => status,
    }
}

/// The status of a command line that the parser refuses: a wrong flag, or a wrong word. The runtime's
/// are runc's: 3 for an operation that there is not, else 1.
pub fn of_parse(command: &str, error: &clap::Error) -> u8 {
    if command == "runtime" {
        return if error.kind() == ErrorKind::InvalidSubcommand {
            3
        } else {
            1
        };
    }
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.starts_with('-'),
        Some(ContextValue::Strings(all)) => all.iter().any(|text| text.starts_with('-')),
        _ => false,
    };
    match error.kind() {
        // A word too few, too many or unknown.
        ErrorKind::MissingSubcommand | ErrorKind::InvalidSubcommand => 1,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => 1,
        _ if flag => 125,
        _ => 1,
    }
}

/// What the values of flags say, when the command understands them only after the parser.
pub fn of_flags<T>(understood: Result<T>) -> Result<T> {
    understood.map_err(|error| match error.get_kind() {
        Kind::Usage => error.with_kind(Kind::BadFlag),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_flag_is_125_and_a_wrong_word_1() {
        let command = || {
            let size = clap::Arg::new("size")
                .long("size")
                .value_parser(clap::value_parser!(u8));
            clap::Command::new("x")
                .arg(size)
                .arg(clap::Arg::new("NAME").required(true))
        };
        let status = |words: &[&str]| {
            let all = std::iter::once(&"x").chain(words);
            of_parse("x", &command().try_get_matches_from(all).unwrap_err())
        };
        assert_eq!(status(&["--nope", "a"]), 125);
        assert_eq!(status(&["--size", "x", "a"]), 125);
        assert_eq!(status(&["--size"]), 125);
        assert_eq!(status(&[]), 1);
        assert_eq!(status(&["a", "b"]), 1);
        let group = clap::Command::new("runtime").subcommand(clap::Command::new("create"));
        let unknown = group
            .try_get_matches_from(["runtime", "bogus"])
            .unwrap_err();
        assert_eq!(
            (of_parse("runtime", &unknown), of_parse("image", &unknown)),
            (3, 1)
        );
    }

    #[test]
    fn docker_s_own_words_end_as_docker_s() {
        let failed = || Error::kind(Kind::NotFound, "no such repository");
        for word in [
            "pull", "push", "login", "logout", "network", "volume", "registry",
        ] {
            assert_eq!(of(word, &failed()), 1, "{word}");
        }
        for word in ["run", "ns", "cgroup", "layer"] {
            assert_eq!(of(word, &failed()), 125, "{word}");
        }
    }

    #[test]
    fn only_what_runs_a_program_keeps_125() {
        let missing = || Error::kind(Kind::NotFound, "no such image");
        assert_eq!((of("run", &missing()), of("kill", &missing())), (125, 1));
        let bad = of_flags::<()>(Err(Error::kind(Kind::Usage, "bad"))).unwrap_err();
        assert_eq!(of("create", &bad), 125);
        assert_eq!(of("exec", &Error::kind(Kind::CommandNotFound, "x")), 127);
    }
}
