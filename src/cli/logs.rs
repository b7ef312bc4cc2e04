//! `glassbox logs`: what a container wrote.
//!
//! Read next: [`crate::containers::log`].

use crate::containers::log::{Entry, Reader, Stream};
use crate::containers::time::Time;
use crate::containers::{client, reconcile, store::Store};
use crate::error::{Error, Kind, Result};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Print what a container wrote to stdout and stderr
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox logs -f web
  glassbox logs --tail 20 -t web
  glassbox logs --since 10m web")]
pub struct Args {
    /// Go on as the container writes, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end
    #[arg(short = 'n', long, value_name = "N", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// The time before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Before each line the attributes that --log-opt labels=… and env=… named
    #[arg(long)]
    details: bool,
    /// Only from this time on (2026-01-31T12:00:00Z, or 10m for ten minutes ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Name, id or beginning of an id
    container: String,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let container = Store::open(args.root.as_deref())?.find(&args.container)?;
    if container.record.host_config.log_config.typ == "none" {
        return Err(Error::kind(
            Kind::Unsupported,
            "configured logging driver does not support reading",
        )
        .hint("the container was created with --log-driver none"));
    }
    let time = |flag: &Option<String>| flag.as_deref().map(Time::parse_flag).transpose();
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let tail = match args.tail.as_str() {
        "all" => usize::MAX,
        n if n.parse::<i64>().is_ok_and(|n| n < 0) => usize::MAX,
        n => n.parse().map_err(|_| {
            Error::kind(Kind::Usage, format!("invalid value for --tail: {n:?}")).hint("a number, or all")
        })?,
    };
    // Asked before reading, so that nothing written before the end is missed.
    let mut lives = reconcile::status(&container)?.phase.is_live();
    let mut reader = Reader::open(&container.log());
    let mut last = VecDeque::new();
    while let Some(entry) = reader.next_entry()? {
        if since.is_some_and(|s| entry.time < s) {
            continue;
        }
        if until.is_some_and(|u| entry.time > u) {
            lives = false;
            break;
        }
        if tail == usize::MAX {
            if !print(&entry, &args) {
                return Ok(0);
            }
            continue;
        }
        last.push_back(entry);
        // Parts of a long line count as one line.
        while last.iter().filter(|e| e.log.ends_with('\n')).count()
            + usize::from(last.back().is_some_and(|e| !e.log.ends_with('\n')))
            > tail
        {
            last.pop_front();
        }
    }
    if tail > 0 && last.iter().any(|entry| !print(entry, &args)) {
        return Ok(0);
    }
    while args.follow && lives {
        lives = reconcile::status(&container).is_ok_and(|s| s.phase.is_live());
        while let Some(entry) = reader.next_entry()? {
            if since.is_some_and(|s| entry.time < s) {
                continue;
            }
            if until.is_some_and(|u| entry.time > u) || !print(&entry, &args) {
                return Ok(0);
            }
        }
        if until.is_some_and(|u| Time::now() > u) {
            break;
        }
        if lives {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(0)
}

/// Each stream to its own. False when nobody reads any more.
fn print(entry: &Entry, args: &Args) -> bool {
    let mut text = match args.timestamps {
        true => format!("{} ", entry.time),
        false => String::new(),
    };
    if args.details {
        let pairs: Vec<String> = entry.attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        text += &format!("{} ", pairs.join(","));
    }
    text += &entry.log;
    match entry.stream {
        Stream::Stdout => client::write_all(std::io::stdout().as_fd(), text.as_bytes()),
        Stream::Stderr => client::write_all(std::io::stderr().as_fd(), text.as_bytes()),
    }
}
