//! Resource limits: their names, their numbers, how users write them.
//!
//! What it implements: getrlimit(2), setrlimit's 16 resources; docker's `--ulimit NAME=SOFT[:HARD]`.
//! Interface: [`RLIMITS`], [`number`], [`parse_ulimit`]. Read next: `actions.rs` (`SetRlimit`).

use crate::error::{Error, Kind, Result};
use crate::spec::runtime::Rlimit;

/// No limit (`RLIM_INFINITY`).
pub const INFINITY: u64 = u64::MAX;

/// One resource that a process may be limited in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// `RLIMIT_NOFILE`
    pub name: &'static str,
    /// Its number in setrlimit(2).
    pub number: u32,
    /// What is limited, with its unit.
    pub meaning: &'static str,
}

const fn resource(name: &'static str, number: u32, meaning: &'static str) -> Resource {
    Resource {
        name,
        number,
        meaning,
    }
}

/// All resources, by name.
pub const RLIMITS: &[Resource] = &[
    resource("RLIMIT_AS", libc::RLIMIT_AS, "bytes of address space"),
    resource("RLIMIT_CORE", libc::RLIMIT_CORE, "bytes of a core dump"),
    resource("RLIMIT_CPU", libc::RLIMIT_CPU, "seconds of processor time"),
    resource("RLIMIT_DATA", libc::RLIMIT_DATA, "bytes of data and heap"),
    resource(
        "RLIMIT_FSIZE",
        libc::RLIMIT_FSIZE,
        "bytes of a file that it writes",
    ),
    resource(
        "RLIMIT_LOCKS",
        libc::RLIMIT_LOCKS,
        "file locks (not enforced any more)",
    ),
    resource(
        "RLIMIT_MEMLOCK",
        libc::RLIMIT_MEMLOCK,
        "bytes of locked memory",
    ),
    resource(
        "RLIMIT_MSGQUEUE",
        libc::RLIMIT_MSGQUEUE,
        "bytes of its user's message queues",
    ),
    resource(
        "RLIMIT_NICE",
        libc::RLIMIT_NICE,
        "how far it may raise its priority (20 - nice)",
    ),
    resource(
        "RLIMIT_NOFILE",
        libc::RLIMIT_NOFILE,
        "open file descriptors",
    ),
    resource(
        "RLIMIT_NPROC",
        libc::RLIMIT_NPROC,
        "processes and threads of its user",
    ),
    resource(
        "RLIMIT_RSS",
        libc::RLIMIT_RSS,
        "bytes of resident memory (not enforced any more)",
    ),
    resource(
        "RLIMIT_RTPRIO",
        libc::RLIMIT_RTPRIO,
        "the highest real-time priority",
    ),
    resource(
        "RLIMIT_RTTIME",
        libc::RLIMIT_RTTIME,
        "microseconds of real-time work without a pause",
    ),
    resource(
        "RLIMIT_SIGPENDING",
        libc::RLIMIT_SIGPENDING,
        "queued signals of its user",
    ),
    resource("RLIMIT_STACK", libc::RLIMIT_STACK, "bytes of stack"),
];

/// A resource by its name, with or without `RLIMIT_`, in any case. Errors: unknown.
pub fn find(name: &str) -> Result<Resource> {
    let upper = name.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
    RLIMITS
        .iter()
        .find(|r| &r.name[7..] == short)
        .copied()
        .ok_or_else(|| {
            let all: Vec<String> = RLIMITS
                .iter()
                .map(|r| r.name[7..].to_ascii_lowercase())
                .collect();
            Error::kind(Kind::Usage, format!("unknown resource limit {name:?}"))
                .hint(format!("the limits are {}", all.join(", ")))
        })
}

/// Reads docker's `--ulimit`: `nofile=1024:2048`, `nofile=1024` (both), `core=unlimited`, `-1`.
/// Errors: no `=`, an unknown name, no number, soft above hard.
pub fn parse_ulimit(text: &str) -> Result<Rlimit> {
    let bad = |why: String| {
        Error::kind(Kind::Usage, format!("bad limit {text:?}: {why}"))
            .hint("the form is NAME=SOFT[:HARD], as in nofile=1024:2048")
    };
    let (name, values) = text
        .split_once('=')
        .ok_or_else(|| bad("there is no '='".into()))?;
    let resource = find(name)?;
    let number = |value: &str| match value {
        "unlimited" | "infinity" | "-1" => Ok(INFINITY),
        _ => value
            .parse::<u64>()
            .map_err(|_| bad(format!("{value:?} is no number"))),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if soft > hard {
        return Err(bad("the soft limit is above the hard limit".into()));
    }
    Ok(Rlimit {
        typ: resource.name.into(),
        soft,
        hard,
        ..Rlimit::default()
    })
}

/// `unlimited` or the number.
pub fn words(value: u64) -> String {
    match value {
        INFINITY => "unlimited".into(),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_read_as_docker_reads_them() {
        let limit = parse_ulimit("nofile=1024:2048").unwrap();
        assert_eq!(
            (limit.typ.as_str(), limit.soft, limit.hard),
            ("RLIMIT_NOFILE", 1024, 2048)
        );
        let limit = parse_ulimit("core=-1").unwrap();
        assert_eq!((limit.soft, limit.hard), (INFINITY, INFINITY));
        for (text, why) in [
            ("nofile", "no '='"),
            ("files=3", "unknown resource limit"),
            ("nofile=x", "no number"),
            ("nofile=5:4", "above the hard limit"),
        ] {
            let error = parse_ulimit(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn every_resource_is_there_once() {
        let mut numbers: Vec<u32> = RLIMITS.iter().map(|r| r.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..16).collect::<Vec<u32>>());
    }
}
