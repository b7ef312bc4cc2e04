//! Signals: their names and numbers, as users write them.
//!
//! What it implements: signal(7). glibc keeps the first two real-time signals for itself, so
//! `RTMIN` is 34 for users, as kill(1) has it, and `RTMAX` is 64.
//! Interface: [`parse`], [`name`]. Read next: [`super::actions`].

use crate::error::{Error, Kind, Result};
use nix::sys::signal::Signal;

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Reads a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-1`, in any case.
/// Errors: unknown, or a number outside 1 to 64.
pub fn parse(text: &str) -> Result<i32> {
    let unknown = || {
        Error::kind(Kind::Usage, format!("unknown signal {text:?}"))
            .hint("a name (TERM, SIGTERM, RTMIN+3) or a number from 1 to 64")
    };
    let upper = text.trim().to_ascii_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=RTMAX)
            .contains(&number)
            .then_some(number)
            .ok_or_else(unknown);
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |rest: &str, base: i32| -> Option<i32> {
        let offset = match rest {
            "" => 0,
            _ => rest.parse::<i32>().ok()?,
        };
        base.checked_add(offset)
    };
    let found = match short {
        "IOT" => Some(libc::SIGABRT),
        "CLD" => Some(libc::SIGCHLD),
        "POLL" => Some(libc::SIGIO),
        _ => match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
            (Some(rest), _) => real_time(rest, RTMIN),
            (_, Some(rest)) => real_time(rest, RTMAX),
            _ => {
                return format!("SIG{short}")
                    .parse::<Signal>()
                    .map(|s| s as i32)
                    .map_err(|_| unknown());
            }
        },
    };
    match found {
        Some(n) if !short.starts_with("RT") || (RTMIN..=RTMAX).contains(&n) => Ok(n),
        _ => Err(unknown()),
    }
}

/// `SIGTERM`, `SIGRTMIN+3`, or the number for one that has no name.
pub fn name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().into(),
        Err(_) if number == RTMIN => "SIGRTMIN".into(),
        Err(_) if number == RTMAX => "SIGRTMAX".into(),
        Err(_) if (RTMIN..RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        Err(_) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_in_every_form() {
        for text in ["TERM", "SIGTERM", "sigterm", "15", " term "] {
            assert_eq!(parse(text).unwrap(), 15, "{text}");
        }
        assert_eq!(parse("RTMIN+3").unwrap(), 37);
        assert_eq!(parse("SIGRTMAX-1").unwrap(), 63);
        assert_eq!(parse("CLD").unwrap(), libc::SIGCHLD);
        for text in [
            "", "0", "65", "-1", "NOPE", "RTMIN+31", "RTMAX+1", "RTMINX", "SIG",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_name_reads_back() {
        for number in (1..=31).chain(RTMIN..=RTMAX) {
            assert_eq!(parse(&name(number)).unwrap(), number);
        }
        assert_eq!(name(9), "SIGKILL");
    }
}
