//! `glassbox ps`: the containers.
//!
//! Read next: [`crate::containers::store`].

use crate::containers::{Container, Phase, Status, names, reconcile, store::Store};
use crate::error::{Error, Kind, Result};
use crate::ui::{self, Table};
use std::path::PathBuf;

/// List containers
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox ps -a
  glassbox ps -q --filter status=running --filter label=tier=web
  glassbox ps --format '{{.Names}}: {{.Status}}'")]
pub struct Args {
    /// All, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
    /// Only those for which it holds: id, name, label, status, exited, ancestor, network, volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// `json`, `table TEMPLATE` or a template of {{.ID}} {{.Image}} {{.Command}} {{.CreatedAt}}
    /// {{.RunningFor}} {{.State}} {{.Status}} {{.Names}} {{.Labels}} {{.Mounts}} {{.Networks}}
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The same as --format json, as one array
    #[arg(long)]
    json: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// The last N created, whatever their state
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// The last one created
    #[arg(short, long)]
    latest: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let filters: Vec<(&str, &str)> = args
        .filter
        .iter()
        .map(|f| {
            let pair = f.split_once('=').filter(|(key, _)| {
                ["id", "name", "label", "status", "exited", "ancestor", "network", "volume"].contains(key)
            });
            pair.ok_or_else(|| Error::kind(Kind::Usage, format!("invalid filter '{f}'")))
        })
        .collect::<Result<_>>()?;
    let by_state = filters.iter().any(|(key, _)| matches!(*key, "status" | "exited"));
    let last = if args.latest { Some(1) } else { args.last };
    let every = args.all || by_state || last.is_some();
    let mut rows = Vec::new();
    for container in store.list()? {
        // One that vanishes meanwhile is no error.
        let Ok(status) = reconcile::status(&container) else { continue };
        if !container.dir.join("container.json").exists() {
            continue;
        }
        let shown = every || matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting);
        if shown && fits(&container, &status, &filters)? {
            rows.push((container, status));
        }
    }
    rows.truncate(last.unwrap_or(usize::MAX));
    if args.json {
        let all: Vec<_> = rows.iter().map(|(c, s)| json(c, s, args.no_trunc)).collect();
        ui::print_json(&all);
        return Ok(0);
    }
    if args.quiet {
        rows.iter().for_each(|(c, _)| ui::out(id(c, args.no_trunc)));
        return Ok(0);
    }
    match args.format.as_deref() {
        Some("json") => rows.iter().for_each(|(c, s)| ui::out(json(c, s, args.no_trunc))),
        Some(template) => {
            let (heading, template) = match template.strip_prefix("table ") {
                Some(template) => (true, template),
                None => (false, template),
            };
            let template = template.replace("\\t", "\t");
            let fill = |row: &serde_json::Value| fill(&template, row);
            let lines: Vec<String> =
                rows.iter().map(|(c, s)| fill(&json(c, s, args.no_trunc))).collect::<Result<_>>()?;
            if heading {
                let names = template_names(&template);
                let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
                lines.iter().for_each(|l| table.row(l.split('\t').map(String::from)));
                ui::out(table);
            } else {
                lines.iter().for_each(ui::out);
            }
        }
        None => {
            let mut table =
                Table::new(&["container id", "image", "command", "created", "status", "ports", "names"]);
            for (c, s) in &rows {
                let row = json(c, s, args.no_trunc);
                let cell = |key: &str| row[key].as_str().unwrap_or_default().to_string();
                table.row(["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"].map(cell));
            }
            ui::out(table);
        }
    }
    Ok(0)
}

fn id(container: &Container, whole: bool) -> &str {
    if whole { container.id() } else { container.short_id() }
}

/// One row with docker's keys.
fn json(container: &Container, status: &Status, whole: bool) -> serde_json::Value {
    let record = &container.record;
    let mut command = record.config.args().join(" ");
    if !whole && command.chars().count() > 20 {
        command = command.chars().take(19).chain(['…']).collect();
    }
    let labels: Vec<String> = record.config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts: Vec<String> = record
        .host_config
        .binds
        .iter()
        .map(|b| b.split(':').next().unwrap_or("").to_string())
        .chain(record.host_config.mounts.iter().map(|m| m.source.clone()))
        .collect();
    serde_json::json!({
        "Command": format!("{command:?}"),
        "CreatedAt": format!("{:#}", record.created),
        "ID": id(container, whole),
        "Image": record.config.image,
        "Labels": labels.join(","),
        "LocalVolumes": mounts.iter().filter(|m| !m.starts_with('/')).count().to_string(),
        "Mounts": mounts.join(","),
        "Names": record.name,
        "Networks": record.host_config.network_mode,
        "Ports": "",
        "RunningFor": format!("{} ago", crate::containers::time::human(record.created.age())),
        "Size": "0B",
        "State": status.phase.name(),
        "Status": status.describe(),
    })
}

fn fits(container: &Container, status: &Status, filters: &[(&str, &str)]) -> Result<bool> {
    let record = &container.record;
    // Values of one key are alternatives, except labels, which must all fit.
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        let mut values = filters.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).peekable();
        values.peek().is_none() || values.any(test)
    };
    if let Some((_, bad)) = filters.iter().find(|(k, v)| {
        *k == "status"
            && !["created", "restarting", "running", "removing", "paused", "exited", "dead"].contains(v)
    }) {
        return Err(Error::kind(Kind::Usage, format!("invalid filter 'status={bad}'")));
    }
    let label = |wanted: &str| match wanted.split_once('=') {
        Some((key, value)) => record.config.labels.get(key).is_some_and(|v| v == value),
        None => record.config.labels.contains_key(wanted),
    };
    let sources = || {
        record.host_config.binds.iter().flat_map(|b| b.split(':')).chain(
            record.host_config.mounts.iter().flat_map(|m| [m.source.as_str(), m.target.as_str()]),
        )
    };
    Ok(any("id", &|v| container.id().starts_with(v))
        && any("name", &|v| record.name.contains(v.trim_start_matches('/')))
        && any("status", &|v| status.phase.name() == v)
        && any("exited", &|v| status.phase == Phase::Exited && v == status.exit_code.to_string())
        && any("ancestor", &|v| {
            record.config.image == v
                || (v.len() >= 6 && record.image_id.trim_start_matches("sha256:").starts_with(v))
        })
        && any("network", &|v| record.host_config.network_mode == v)
        && any("volume", &|v| sources().any(|s| s == v))
        && filters.iter().filter(|(k, _)| *k == "label").all(|(_, v)| label(v)))
}

/// Fills `{{.Name}}` (and `{{json .}}`) of docker's templates. Errors: a field that does not exist.
fn fill(template: &str, row: &serde_json::Value) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}").ok_or_else(|| {
            Error::kind(Kind::Usage, format!("template parsing error: {template:?}: no closing braces"))
        })?;
        text += before;
        text += &match inside.trim() {
            "json ." => row.to_string(),
            field => {
                let (as_json, name) = match field.strip_prefix("json ") {
                    Some(name) => (true, name.trim()),
                    None => (false, field),
                };
                let value = name.strip_prefix('.').and_then(|n| row.get(n)).ok_or_else(|| {
                    Error::kind(Kind::Usage, format!("template parsing error: no field {field:?}"))
                        .hint("`glassbox ps --format json` shows all of them")
                })?;
                if as_json { value.to_string() } else { value.as_str().unwrap_or_default().to_string() }
            }
        };
        rest = after;
    }
    Ok(text + rest)
}

fn template_names(template: &str) -> Vec<String> {
    template
        .split('\t')
        .map(|cell| {
            let name = cell.trim().trim_start_matches("{{").trim_end_matches("}}").trim_start_matches('.');
            match name {
                "ID" => "container id".to_string(),
                "RunningFor" => "created".into(),
                "CreatedAt" => "created at".into(),
                other => names::spaced(other),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let row = serde_json::json!({"ID": "x", "Names": "y"});
        assert_eq!(fill("{{.ID}}\t{{ .Names }}!", &row).unwrap(), "x\ty!");
        assert_eq!(fill("{{json .Names}}", &row).unwrap(), "\"y\"");
        assert!(fill("{{.Nope}}", &row).is_err() && fill("{{.ID", &row).is_err());
        assert_eq!(template_names("{{.ID}}\t{{.RunningFor}}\t{{.Names}}"), ["container id", "created", "names"]);
    }
}
