//! `glassbox system info`: this installation and its host, in docker's keys.
//!
//! Read next: `inspect host`, which asks the kernel what it may do.

use super::Root;
use crate::containers::{Phase, reconcile};
use crate::error::Result;
use crate::host::{Host, LayoutKind};
use crate::ui::{self, template};
use serde_json::{Value, json};

/// Show how many containers and images there are, where they are, and what this host is
///
/// `inspect host` says what this kernel and user may do.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox system info
  glassbox system info --format '{{.ContainersRunning}} of {{.Containers}}'")]
pub struct InfoArgs {
    /// A template, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The whole as JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    root: Root,
}

/// Runs `info`.
pub fn info(args: InfoArgs) -> Result<u8> {
    let facts = facts(&args.root)?;
    match args.format.as_deref() {
        _ if args.json => ui::print_json(&facts),
        Some("json") => ui::out(&facts),
        Some(format) => ui::out(template::render(format, &facts)?),
        None => {
            for (key, value) in facts.as_object().into_iter().flatten() {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Array(list) => {
                        let words = list.iter().filter_map(Value::as_str);
                        words.collect::<Vec<_>>().join(", ")
                    }
                    Value::Number(bytes) if key == "MemTotal" => {
                        ui::size(bytes.as_u64().unwrap_or(0))
                    }
                    other => other.to_string(),
                };
                ui::out(format_args!("{key:<20}{text}"));
            }
        }
    }
    Ok(0)
}

fn facts(root: &Root) -> Result<Value> {
    let store = root.containers()?;
    let host = Host::detect()?;
    let (mut running, mut paused, mut other) = (0, 0, 0);
    let all = store.list()?;
    for container in &all {
        match reconcile::status(container)?.phase {
            Phase::Running | Phase::Restarting => running += 1,
            Phase::Paused => paused += 1,
            _ => other += 1,
        }
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = text("/etc/os-release");
    let system = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let memory = text("/proc/meminfo");
    let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let layout = match host.cgroups.kind {
        LayoutKind::Unified => "2",
        _ => "1",
    };
    let mut security = vec!["name=seccomp,profile=builtin"];
    if host.rootless {
        security.push("name=rootless");
    }
    Ok(json!({
        "Containers": all.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": other,
        "Images": root.store()?.list()?.len(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Driver": "overlayfs",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": layout,
        "SecurityOptions": security,
        "KernelVersion": host.kernel,
        "OperatingSystem": system.unwrap_or("unknown").trim_matches('"'),
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.unwrap_or(0) * 1024,
        "Name": text("/proc/sys/kernel/hostname").trim(),
        "DockerRootDir": store.paths().root.display().to_string(),
        "RunDir": store.paths().run.display().to_string(),
    }))
}
