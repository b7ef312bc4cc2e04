//! `glassbox runtime update` and `events`: what a container may use, and what it uses.
//!
//! Read next: [`crate::runtime::update`], [`crate::runtime::events`].

use super::Common;
use crate::cgroups::limits::{Limit, parse_size};
use crate::cli::run::options;
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::runtime::events::{self, OomCount};
use crate::runtime::update;
use crate::spec::runtime::{BlockIo, Cpu, Memory, Pids, Resources, Status};
use crate::{files, sys, ui};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct UpdateArgs {
    /// The limits as the specification's JSON (linux.resources), `-` for standard input; the options
    /// below are then left out
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// The share of disks, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The period of the processor quota, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Processor time that may be saved up, in microseconds
    #[arg(long, value_name = "USEC")]
    cpu_burst: Option<u64>,
    /// The share of the processors, 2 to 262144
    #[arg(long, value_name = "SHARES", visible_alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// The period of realtime scheduling, in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC")]
    cpu_rt_period: Option<u64>,
    /// Realtime in each of its periods, in microseconds (cgroup v1)
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1: only when nobody else wants the processor
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Processors: 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The most memory: bytes, or with a unit (64M); -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// The memory that it is reclaimed down to when memory is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Taken for runc's sake: no kernel counts it any more
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    kernel_memory: Option<String>,
    /// Memory of TCP buffers (cgroup v1)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,
    /// The most processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Not supported: this build has no intelRdt
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// Not supported: this build has no intelRdt
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(clap::Args)]
pub(super) struct EventsArgs {
    /// How often: 5s, 500ms
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// Print what it uses once, and end
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn update(args: &UpdateArgs, common: &Common) -> Result<u8> {
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        return Err(Error::kind(Kind::Unsupported, "this build has no intelRdt"));
    }
    let asked = match &args.resources {
        Some(path) => read_resources(path)?,
        None => from_options(args)?,
    };
    if asked == Resources::default() {
        return Err(Error::kind(Kind::Usage, "no limit to set was given")
            .hint("`glassbox runtime update --help` lists them"));
    }
    let mut container = common.root.find(&args.id)?;
    let host = Host::detect()?;
    let mut watch = common.explain.watch();
    let options = options(common.explain.is_on());
    update::update(&mut container, &host, &asked, &mut *watch, &options)?;
    Ok(0)
}

fn read_resources(path: &PathBuf) -> Result<Resources> {
    let mut bytes = Vec::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_end(&mut bytes).map(drop),
        false => std::fs::read(path).map(|b| bytes = b),
    }
    .with_context(|| format!("cannot read {}", path.display()))?;
    files::from_json(&bytes)
        .with_context(|| format!("{} holds no resources of the specification", path.display()))
}

fn from_options(args: &UpdateArgs) -> Result<Resources> {
    let size = |text: &Option<String>| -> Result<Option<i64>> {
        let limit = text.as_deref().map(parse_size).transpose()?;
        Ok(limit.map(|limit| match limit {
            Limit::Value(n) => n as i64, // parse_size takes none that is larger
            Limit::Max => -1,
        }))
    };
    let memory = Memory {
        limit: size(&args.memory)?,
        reservation: size(&args.memory_reservation)?,
        swap: size(&args.memory_swap)?,
        kernel: size(&args.kernel_memory)?,
        kernel_tcp: size(&args.kernel_memory_tcp)?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: args.cpu_share,
        quota: args.cpu_quota,
        burst: args.cpu_burst,
        period: args.cpu_period,
        realtime_runtime: args.cpu_rt_runtime,
        realtime_period: args.cpu_rt_period,
        cpus: args.cpuset_cpus.clone(),
        mems: args.cpuset_mems.clone(),
        idle: args.cpu_idle,
        ..Cpu::default()
    };
    let pids = args.pids_limit.map(|n| Pids { limit: Some(n), ..Pids::default() });
    let weight = args.blkio_weight;
    Ok(Resources {
        memory: Some(memory).filter(|m| *m != Memory::default()),
        cpu: Some(cpu).filter(|c| *c != Cpu::default()),
        pids,
        block_io: weight.map(|w| BlockIo { weight: Some(w), ..BlockIo::default() }),
        ..Resources::default()
    })
}

/// Go's durations: `5s`, `500ms`, `1m30s`.
fn interval(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 5s, 500ms or 1m");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..unit].parse().map_err(|_| wrong())?;
        rest = &rest[unit..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        rest = &rest[end..];
    }
    match total.is_zero() {
        true => Err(wrong()),
        false => Ok(total),
    }
}

/// How long a container may have run out of memory before it is told.
const GLANCE: Duration = Duration::from_millis(100);

pub(super) fn events(args: &EventsArgs, common: &Common) -> Result<u8> {
    let container = common.root.find(&args.id)?;
    let host = Host::detect()?;
    if container.status(&host)? == Status::Stopped {
        let what = format!("container {} is not running", args.id);
        return Err(Error::kind(Kind::Conflict, what));
    }
    let group = container.group(&host)?.ok_or_else(|| {
        Error::kind(Kind::Unsupported, format!("container {} has no cgroup", args.id))
            .hint("what a container uses is counted by its cgroup")
    })?;
    let print = |what: &str, data: Option<serde_json::Value>| {
        let mut event = serde_json::json!({"type": what, "id": args.id});
        if let Some(data) = data {
            event["data"] = data;
        }
        ui::out(event);
    };
    if args.stats {
        print("stats", Some(events::stats(&group)));
        return Ok(0);
    }
    let Ok(pidfd) = sys::process::pidfd_open(container.record.pid) else {
        return Ok(0); // it has ended this very moment
    };
    let mut before = OomCount::read(&group);
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            print("stats", Some(events::stats(&group)));
            next += args.interval;
        }
        let left = next.saturating_duration_since(Instant::now()).min(GLANCE);
        let interest = [sys::poll::Interest { fd: pidfd.as_fd(), read: true, write: false }];
        let ready = sys::poll::poll(&interest, left.as_millis() as i32 + 1)?;
        let now = OomCount::read(&group);
        if now.has_grown(before) {
            print("oom", None);
        }
        before = now;
        if ready.iter().any(|r| r.readable) {
            return Ok(0);
        }
    }
}
