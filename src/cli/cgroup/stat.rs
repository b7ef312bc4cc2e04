//! `glassbox cgroup stat`: what a group uses, what happened to it, and what limits it.
//!
//! Read next: [`crate::cgroups::stat`], the model behind it.

use super::{human, human_limit};
use crate::cgroups::stat::{self, MemoryUse, Pressure, Stat};
use crate::error::Result;
use crate::host::Host;
use crate::ui::{self, Style, Table, styled};
use std::fmt::Write;

/// What a group uses, what happened to it, and the limits that really apply.
///
/// A limit that applies is the strictest over the group and all groups above it; SET BY names the
/// group whose value it is.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup stat web
  glassbox cgroup stat $$
  glassbox cgroup stat --json web | jq .memory.events")]
pub struct StatArgs {
    /// The groups; this process's own when none is named
    targets: Vec<String>,
    /// Print it as JSON: one object, or a list when several groups are named
    #[arg(long)]
    json: bool,
}

pub(super) fn stat(args: StatArgs) -> Result<u8> {
    let host = Host::detect()?;
    let targets = match args.targets.is_empty() {
        true => vec![std::process::id().to_string()],
        false => args.targets,
    };
    let mut stats = Vec::new();
    for word in &targets {
        stats.push(stat::stat(&super::target(&host, word)?));
    }
    match (args.json, &stats[..]) {
        (true, [one]) => ui::print_json(one),
        (true, many) => ui::print_json(&many),
        (false, many) => {
            let texts: Vec<String> = many
                .iter()
                .map(|s| text(s, ui::colour_stdout()))
                .collect();
            ui::out(texts.join("\n\n"));
        }
    }
    Ok(0)
}

fn text(s: &Stat, colour: bool) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        let key = styled(format!("{key:<10}"), Style::Strong, colour);
        let _ = write!(out, "\n{key} {value}");
    };
    let mut elsewhere: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
    for place in s.places.iter().filter(|p| p.path != s.path) {
        let trees = elsewhere.entry(&place.path).or_default();
        trees.push(&place.hierarchy);
    }
    let differing: Vec<String> = elsewhere
        .iter()
        .map(|(path, trees)| format!("{path} in {}", trees.join(" ")))
        .collect();
    let here = s.places.iter().filter(|p| p.path == s.path);
    let trees: Vec<&str> = here.map(|p| p.hierarchy.as_str()).collect();
    line("trees", trees.join(" "));
    if !differing.is_empty() {
        line("elsewhere", differing.join("; "));
    }
    let mut processes = format!("{} here", s.processes.len());
    if s.processes.len() <= 12 && !s.processes.is_empty() {
        let pids: Vec<String> = s.processes.iter().map(i32::to_string).collect();
        processes += &format!(" ({})", pids.join(" "));
    }
    processes += &format!(", {} in groups below", s.processes_below);
    if s.frozen == Some(true) {
        processes += ", frozen";
    }
    line("processes", processes);
    if let Some(m) = &s.memory {
        line("memory", memory(m));
        if let Some(events) = memory_events(m) {
            line("", events);
        }
    }
    if let Some(c) = &s.cpu {
        let seconds = |usec: u64| format!("{:.3} s", usec as f64 / 1e6);
        let mut text = format!(
            "{} (programs {}, kernel {})",
            seconds(c.usage_usec),
            seconds(c.user_usec),
            seconds(c.system_usec)
        );
        if c.nr_periods > 0 {
            let _ = write!(
                text,
                "; throttled in {} of {} periods, waited {}",
                c.nr_throttled,
                c.nr_periods,
                seconds(c.throttled_usec)
            );
        }
        line("cpu", text);
    }
    if let Some(p) = &s.pids {
        let peak = p.peak.map_or(String::new(), |n| format!(", {n} at most"));
        line(
            "pids",
            format!("{} now{peak}; {} forks refused", p.current, p.refused),
        );
    }
    for io in &s.io {
        let text = format!(
            "{}: read {} in {}, wrote {} in {}",
            io.device,
            human(io.rbytes),
            io.rios,
            human(io.wbytes),
            io.wios
        );
        line("io", text);
    }
    for h in s.hugetlb.iter().filter(|h| h.current > 0 || h.refused > 0) {
        line(
            "hugetlb",
            format!("{}: {}; {} refused", h.size, human(h.current), h.refused),
        );
    }
    for text in pressure(&s.pressure) {
        line("pressure", text);
    }
    let mut table = Table::new(&["limit", "own", "applies", "set by"]);
    for l in &s.limits {
        table.row([
            l.what.clone(),
            l.own.as_deref().map_or("-".into(), |v| human_limit(&l.what, v)),
            human_limit(&l.what, &l.effective),
            match &l.set_by {
                Some(group) if *group == s.path => "this group".into(),
                Some(group) => group.clone(),
                None => "-".into(),
            },
        ]);
    }
    let head = styled(&s.path, Style::Name, colour);
    format!("{head}{out}\n\n{table}")
}

fn memory(m: &MemoryUse) -> String {
    let mut text = format!("{} now", human(m.current));
    if let Some(peak) = m.peak {
        let _ = write!(text, ", {} at most", human(peak));
    }
    let _ = write!(text, "; programs {}, file cache {}", human(m.anon), human(m.file));
    if let Some(kernel) = m.kernel {
        let _ = write!(text, ", kernel {}", human(kernel));
    }
    if let Some(swap) = m.swap {
        let _ = write!(text, "; {} swapped out", human(swap));
    }
    text
}

fn memory_events(m: &MemoryUse) -> Option<String> {
    let words = [
        ("high", "throttled"),
        ("max", "limit hit"),
        ("oom", "out of memory"),
        ("oom_kill", "processes killed"),
    ];
    let parts: Vec<String> = words
        .iter()
        .filter_map(|(key, word)| {
            let n = m.events.get(*key).filter(|n| **n > 0)?;
            Some(format!("{word}: {n}"))
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// One line a resource; the same reason for all is said once.
fn pressure(all: &[Pressure]) -> Vec<String> {
    let reasons: std::collections::BTreeSet<&str> =
        all.iter().filter_map(|p| p.unread.as_deref()).collect();
    if let (1, true) = (reasons.len(), all.iter().all(|p| p.unread.is_some())) {
        return reasons.iter().map(|r| format!("unknown: {r}")).collect();
    }
    let line = |p: &Pressure| match (&p.some, &p.unread) {
        (Some(some), _) => {
            let full = p.full.map_or(0.0, |f| f.avg10);
            format!(
                "{}: {:.2} % of the last 10 s some waited, {full:.2} % all; {:.3} s altogether",
                p.resource,
                some.avg10,
                some.total as f64 / 1e6
            )
        }
        (None, Some(why)) => format!("{}: unknown: {why}", p.resource),
        (None, None) => format!("{}: the file is empty", p.resource),
    };
    all.iter().map(line).collect()
}
