//! `glassbox ps`: the containers.
//!
//! Read next: [`crate::containers::store`].

use super::filters::{has_label, key_value, pairs};
use crate::containers::{Container, Phase, Status, store::Store, survey::survey, time::Time};
use crate::error::{Error, Kind, Result};
use crate::layers::tree::Tree;
use crate::ui::{self, Table, template};
use std::path::PathBuf;

/// What `--filter` knows.
const KEYS: &[&str] = &[
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "network", "volume",
    "health",
];

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
    /// Only those for which it holds: id, name, label, status, exited, ancestor, before, since,
    /// network, volume, health
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    filter: Vec<String>,
    /// `json`, `table TEMPLATE` or a template of {{.ID}} {{.Image}} {{.Command}} {{.CreatedAt}}
    /// {{.RunningFor}} {{.State}} {{.Status}} {{.Size}} {{.Names}} {{.Labels}} {{.Mounts}}
    /// {{.Networks}}
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The same as --format json, as one array
    #[arg(long)]
    json: bool,
    /// What each has changed on disk, and with its image
    #[arg(short, long)]
    size: bool,
    /// Do not shorten anything
    #[arg(long)]
    no_trunc: bool,
    /// The last N created, whatever their state (-1: no limit)
    #[arg(short = 'n', long, value_name = "N", allow_hyphen_values = true)]
    last: Option<i64>,
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
    let filters = pairs(&args.filter, KEYS)?;
    let states = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    if let Some((_, bad)) = filters.iter().find(|(k, v)| *k == "status" && !states.contains(v)) {
        return Err(Error::kind(Kind::Usage, format!("invalid filter 'status={bad}'"))
            .hint(format!("one of {}", states.join(", "))));
    }
    let by_state = filters.iter().any(|(key, _)| matches!(*key, "status" | "exited"));
    let last = if args.latest { Some(1) } else { args.last.and_then(|n| usize::try_from(n).ok()) };
    let wants_size = args.size || args.format.as_ref().is_some_and(|f| f.contains(".Size"));
    let created = |key: &str| -> Result<Option<Time>> {
        let named = filters.iter().find(|(k, _)| *k == key);
        named.map(|(_, name)| Ok(store.find(name)?.record.created)).transpose()
    };
    let (before, since) = (created("before")?, created("since")?);
    let every = args.all || by_state || last.is_some();
    let whole = args.no_trunc;
    let as_json = args.json || args.format.is_some();
    let images = if wants_size { crate::images::Store::open(&store.paths().root).ok() } else { None };
    let mut rows = survey(&store, |container, status| {
        let time = container.record.created;
        let in_time = before.is_none_or(|b| time < b) && since.is_none_or(|s| time > s);
        let shown = every || matches!(status.phase, Phase::Running | Phase::Paused | Phase::Restarting);
        if !in_time || !shown || !fits(container, status, &filters) {
            return None;
        }
        Some(match (args.quiet && !args.json, as_json) {
            (true, _) => Row::Id(id(container, whole).into()),
            (false, true) => Row::Json(container.id().into(), json(container, status, whole)),
            (false, false) => Row::Cells(container.id().into(), cells(container, status, whole)),
        })
    })?;
    rows.truncate(last.unwrap_or(usize::MAX));
    // Only of those that are shown: the trees of all that they changed are read for it.
    let size = |id: &str| -> Result<Option<String>> {
        let container = if wants_size { store.load(id)? } else { None };
        Ok(container.map(|c| sizes(&c, images.as_ref())))
    };
    let mut columns = vec!["container id", "image", "command", "created", "status", "ports", "names"];
    columns.extend(wants_size.then_some("size"));
    let mut table = Table::new(&columns);
    let mut values = Vec::new();
    for row in rows {
        match row {
            Row::Id(id) => ui::out(id),
            Row::Cells(id, cells) => table.row(cells.into_iter().chain(size(&id)?)),
            Row::Json(id, mut value) => {
                if let Some(size) = size(&id)? {
                    value["Size"] = size.into();
                }
                values.push(value);
            }
        }
    }
    match args.format.as_deref() {
        _ if args.json => ui::print_json(&values),
        Some(format) if !args.quiet => {
            let headings = [("ID", "CONTAINER ID"), ("RunningFor", "CREATED"), ("CreatedAt", "CREATED AT")];
            let text = template::rows(format, &values, &headings)?;
            if !text.is_empty() {
                ui::out(text);
            }
        }
        _ if !args.quiet => ui::out(&table),
        _ => (),
    }
    // The process ends next: hundreds of rows need not be taken apart before.
    std::mem::forget(table);
    Ok(0)
}

/// What is shown of one, which is all of it that stays in memory.
enum Row {
    Id(String),
    /// Its id, and the table's cells.
    Cells(String, [String; 7]),
    /// Its id, and docker's keys.
    Json(String, serde_json::Value),
}

fn cells(container: &Container, status: &Status, whole: bool) -> [String; 7] {
    let record = &container.record;
    [
        id(container, whole).to_string(),
        record.config.image.clone(),
        command(&record.config.args(), whole),
        running_for(container),
        status.describe(),
        ports(container, status),
        record.name.clone(),
    ]
}

fn id(container: &Container, whole: bool) -> &str {
    if whole { container.id() } else { container.short_id() }
}

/// How long ago it was created.
fn running_for(container: &Container) -> String {
    format!("{} ago", crate::containers::time::human(container.record.created.age()))
}

/// Program and arguments, those with a space in quotes; 20 characters of it unless `whole`.
fn command(args: &[String], whole: bool) -> String {
    let quoted = args.iter().enumerate().map(|(i, arg)| match i > 0 && arg.contains(' ') {
        true => format!("'{arg}'"),
        false => arg.clone(),
    });
    let mut text = quoted.collect::<Vec<_>>().join(" ");
    if !whole && text.chars().count() > 20 {
        text = text.chars().take(19).chain(['…']).collect();
    }
    format!("{text:?}")
}

/// What it changed, and that with its image: `12kB (virtual 2.13MB)`.
fn sizes(container: &Container, images: Option<&crate::images::Store>) -> String {
    let own = Tree::read(&container.dir.join("upper"))
        .map_or(0, |tree| tree.nodes.values().filter(|n| n.is_file()).map(|n| n.size).sum());
    let image = images.and_then(|store| Some(store.size(&store.find(&container.record.image_id).ok()?)));
    format!("{} (virtual {})", ui::size(own), ui::size(own + image.unwrap_or(0)))
}

/// Its ports: `0.0.0.0:8080->80/tcp, 443/tcp`, the published first.
fn ports(container: &Container, status: &Status) -> String {
    if !matches!(status.phase, Phase::Running | Phase::Paused) {
        return String::new();
    }
    let published = match container.record.host_config.network_mode.as_str() {
        // These publish nothing, and the networks' files need not be looked at.
        "none" | "host" if container.record.networks.is_empty() => Vec::new(),
        _ => crate::containers::networks::ports::of(container).unwrap_or_default(),
    };
    let mut all: Vec<String> =
        published.iter().map(|p| format!("{}->{}", p.outside(), p.inside())).collect();
    let exposed = container.record.config.exposed_ports.keys();
    all.extend(exposed.filter(|e| published.iter().all(|p| p.inside() != **e)).cloned());
    all.join(", ")
}

/// One row with docker's keys.
fn json(container: &Container, status: &Status, whole: bool) -> serde_json::Value {
    let record = &container.record;
    let labels: Vec<String> = record.config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts: Vec<String> = record
        .mount_points
        .iter()
        .map(|p| match (p.typ.as_str(), whole) {
            ("volume", false) if p.name.len() == 64 => format!("{}…", &p.name[..14]),
            ("volume", _) => p.name.clone(),
            _ => p.source.clone(),
        })
        .collect();
    serde_json::json!({
        "Command": command(&record.config.args(), whole),
        "CreatedAt": format!("{:#}", record.created),
        "ID": id(container, whole),
        "Image": record.config.image,
        "Labels": labels.join(","),
        "LocalVolumes": record.mount_points.iter().filter(|p| p.typ == "volume").count().to_string(),
        "Mounts": mounts.join(","),
        "Names": record.name,
        "Networks": record.host_config.network_mode,
        "Ports": ports(container, status),
        "RunningFor": running_for(container),
        "Size": "0B",
        "State": status.phase.name(),
        "Status": status.describe(),
    })
}

fn fits(container: &Container, status: &Status, filters: &[(&str, &str)]) -> bool {
    let record = &container.record;
    // Values of one key are alternatives, except labels, which must all fit.
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        let mut values = filters.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).peekable();
        values.peek().is_none() || values.any(test)
    };
    let sources = || {
        let points = record.mount_points.iter();
        points.flat_map(|p| [p.name.as_str(), p.source.as_str(), p.destination.as_str()])
    };
    any("id", &|v| container.id().starts_with(v))
        && any("name", &|v| record.name.contains(v.trim_start_matches('/')))
        && any("status", &|v| status.phase.name() == v)
        && any("exited", &|v| status.phase == Phase::Exited && v == status.exit_code.to_string())
        && any("ancestor", &|v| {
            record.config.image == v
                || (v.len() >= 6 && record.image_id.trim_start_matches("sha256:").starts_with(v))
        })
        && any("health", &|v| status.health.as_ref().map_or("none", |h| &h.status) == v)
        && any("network", &|v| record.host_config.network_mode == v)
        && any("volume", &|v| sources().any(|s| s == v))
        && filters.iter().filter(|(k, _)| *k == "label").all(|(_, v)| has_label(&record.config.labels, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_as_dockers() {
        let args = ["sh", "-c", "echo a"].map(String::from);
        assert_eq!(command(&args, true), "\"sh -c 'echo a'\"");
        assert_eq!(command(&["x".repeat(30)], false), format!("\"{}…\"", "x".repeat(19)));
    }
}
