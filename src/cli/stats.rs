//! `glassbox stats`: what containers use, live.
//!
//! Read next: [`crate::containers::stats`].

use crate::containers::stats::{self, Reading, Use};
use crate::containers::{Container, Phase, Status, reconcile, store::Store};
use crate::error::{Kind, Result};
use crate::ui::{self, template};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// Show what containers use: CPU, memory, network, disks, processes
///
/// CPU % is of one CPU: 200% are two busy ones. Memory is without the file cache that has not been
/// used lately. `inspect` has the limits above a container, and who sets them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox stats
  glassbox stats --no-stream --format '{{.Name}}: {{.MemUsage}}'
  glassbox stats --json web | jq '.[0].use.memory'")]
pub struct Args {
    /// All, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// `json`, `table TEMPLATE` or a template of {{.Container}} {{.ID}} {{.Name}} {{.CPUPerc}}
    /// {{.MemUsage}} {{.MemPerc}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Once, as a JSON array with plain numbers as well
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Names, ids or beginnings of ids (those that run otherwise)
    containers: Vec<String>,
}

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
const TABLE: &str = "table {{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDs}}";

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    for name in &args.containers {
        store.find(name)?; // one that is not there is said before anything is shown
    }
    let once = args.no_stream || args.json;
    let template = match args.format.as_deref() {
        None | Some("table") => TABLE,
        Some(other) => other,
    };
    let live = !once && std::io::stdout().is_terminal();
    let mut before: BTreeMap<String, Reading> = read(&args, &store)?.into_iter().map(|(c, _, r)| (c.record.id, r)).collect();
    loop {
        // A rate needs time; what is asked for once should not take long.
        std::thread::sleep(Duration::from_millis(if once { 500 } else { 1000 }));
        let now = read(&args, &store)?;
        let rows: Vec<Value> = now.iter().map(|(c, _, reading)| {
            row(c, reading.since(before.get(c.id())), args.no_trunc)
        }).collect();
        if args.json {
            ui::print_json(&rows);
            return Ok(0);
        }
        let values: Vec<Value> = rows.into_iter().map(plain).collect();
        let text = template::rows(template, &values, HEADINGS)?;
        if live {
            // Home, the text with each line's rest wiped, and what was below it.
            ui::out_raw(format_args!("\x1b[H{}\x1b[K\n\x1b[J", text.replace('\n', "\x1b[K\n")));
        } else if !text.is_empty() {
            ui::out(text);
        }
        if once {
            return Ok(0);
        }
        before = now.into_iter().map(|(c, _, r)| (c.record.id, r)).collect();
    }
}

/// All that are asked for; one that vanishes meanwhile is no error.
fn read(args: &Args, store: &Store) -> Result<Vec<(Container, Status, Reading)>> {
    let mut all = Vec::new();
    if args.containers.is_empty() {
        all = store.list()?;
    }
    for name in &args.containers {
        match store.find(name) {
            Err(e) if e.get_kind() == Kind::NotFound => {}
            found => all.push(found?),
        }
    }
    let mut readings = Vec::new();
    for container in all {
        let Ok(status) = reconcile::status(&container) else { continue };
        let runs = matches!(status.phase, Phase::Running | Phase::Paused);
        if runs || args.all || !args.containers.is_empty() {
            let reading = stats::read(&container, &status);
            readings.push((container, status, reading));
        }
    }
    Ok(readings)
}

/// Docker's form of memory: four digits, powers of 1024.
fn memory(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = match value {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

fn row(container: &Container, used: Use, whole: bool) -> Value {
    let two = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => format!("{} / {}", ui::size(a), ui::size(b)),
        _ => "--".into(),
    };
    let percent = |p: Option<f64>| p.map_or("--".into(), |p| format!("{p:.2}%"));
    let share = match (used.memory, used.memory_limit) {
        (Some(used), Some(limit)) if limit > 0 => Some(used as f64 / limit as f64 * 100.0),
        _ => None,
    };
    json!({
        "BlockIO": two(used.block_read, used.block_written),
        "CPUPerc": percent(used.cpu_percent),
        "Container": if whole { container.id() } else { container.short_id() },
        "ID": if whole { container.id() } else { container.short_id() },
        "MemPerc": percent(share),
        "MemUsage": match (used.memory, used.memory_limit) {
            (Some(used), Some(limit)) => format!("{} / {}", memory(used), memory(limit)),
            _ => "-- / --".into(),
        },
        "Name": container.name(),
        "NetIO": two(used.net_received, used.net_sent),
        "PIDs": used.pids.map_or("--".into(), |n| n.to_string()),
        "use": used,
    })
}

/// Without the plain numbers, which docker's rows do not have.
fn plain(mut row: Value) -> Value {
    if let Value::Object(fields) = &mut row {
        fields.remove("use");
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_four_digits() {
        let all = [0, 512, 1536, 1 << 20, 64 << 20, (1.953 * 1073741824.0) as u64].map(memory);
        assert_eq!(all, ["0B", "512B", "1.5KiB", "1MiB", "64MiB", "1.953GiB"]);
    }
}
