//! `glassbox volume ls`, `inspect`.
//!
//! Read next: `change.rs`; the work is done by [`crate::containers::volumes`].

use super::Root;
use crate::cli::filters::{has_label, key_value, pairs};
use crate::containers::volumes::{self, Volume};
use crate::containers::{Container, Store};
use crate::error::{Error, Kind, Result};
use crate::ui::{self, Table, template};
use serde_json::{Value, json};

/// List volumes.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox volume ls
  glassbox volume ls -q --filter dangling=true
  glassbox volume ls --format '{{.Name}}: {{.Mountpoint}}'")]
pub struct LsArgs {
    /// Print the names alone.
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON: an array with an object a volume.
    #[arg(long, conflicts_with_all = ["quiet", "format"])]
    json: bool,
    /// `json`, `table TEMPLATE` or a template of {{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}}
    /// {{.Labels}} {{.Links}} {{.Size}}.
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Only some: dangling=true|false, driver=NAME, label=KEY[=VALUE], name=TEXT. Repeatable.
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = key_value)]
    filters: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `ls`.
pub fn ls(args: LsArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let filters = pairs(&args.filters, &["dangling", "driver", "label", "name"])?;
    let containers = store.list()?;
    let links = |v: &Volume| containers.iter().filter(|c| volumes::in_use_by(c, &v.name)).count();
    let mut rows = Vec::new();
    for volume in volumes::list(&store)? {
        let links = links(&volume);
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            let mut values = filters.iter().filter(|(k, _)| *k == key).peekable();
            values.peek().is_none() || values.any(|(_, v)| test(v))
        };
        let dangling = |v: &str| match v {
            "true" | "1" => Ok(links == 0),
            "false" | "0" => Ok(links > 0),
            _ => Err(Error::kind(Kind::Usage, format!("invalid filter 'dangling={v}'"))),
        };
        let mut fits = any("name", &|v| volume.name.contains(v)) && any("driver", &|v| v == "local");
        for (key, value) in &filters {
            fits &= match *key {
                "dangling" => dangling(value)?,
                "label" => has_label(&volume.labels, value),
                _ => true,
            };
        }
        if fits {
            rows.push((volume, links));
        }
    }
    if args.quiet {
        rows.iter().for_each(|(v, _)| ui::out(&v.name));
        return Ok(0);
    }
    if args.json {
        let list: Result<Vec<Value>> = rows.iter().map(|(v, _)| document(&store, v, &containers)).collect();
        ui::print_json(&list?);
        return Ok(0);
    }
    let Some(format) = args.format.as_deref().filter(|f| *f != "table") else {
        let mut table = Table::new(&["driver", "volume name"]);
        for (volume, _) in &rows {
            table.row(["local", &volume.name]);
        }
        ui::out(table);
        return Ok(0);
    };
    let sized = format.contains(".Size") || format == "json";
    let values: Result<Vec<Value>> = rows.iter().map(|(volume, links)| {
        let (_, data) = volumes::find(&store, &volume.name)?;
        let labels: Vec<String> = volume.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(json!({
            "Driver": "local",
            "Labels": labels.join(","),
            "Links": links.to_string(),
            "Mountpoint": data.display().to_string(),
            "Name": volume.name,
            "Scope": "local",
            "Size": if sized { ui::size(volumes::size(&data)) } else { "N/A".into() },
        }))
    }).collect();
    let text = template::rows(format, &values?, &[("Name", "VOLUME NAME")])?;
    if !text.is_empty() {
        ui::out(text);
    }
    Ok(0)
}

/// Docker's keys, and who uses it.
fn document(store: &Store, volume: &Volume, containers: &[Container]) -> Result<Value> {
    let (_, data) = volumes::find(store, &volume.name)?;
    let users = containers.iter().filter(|c| volumes::in_use_by(c, &volume.name));
    let users = users.flat_map(|c| {
        let points = c.record.mount_points.iter().filter(|p| p.name == volume.name);
        points.map(|p| {
            json!({
                "Container": c.id(),
                "Name": c.name(),
                "Destination": p.destination,
                "RW": !p.read_only,
            })
        })
    });
    let or_null = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    Ok(json!({
        "CreatedAt": volume.created_at,
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": data.display().to_string(),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
        "UsedBy": users.collect::<Vec<_>>(),
    }))
}

/// Show everything about volumes, as JSON: docker's keys, and which containers use each.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox volume inspect data
  glassbox volume inspect -f '{{.Mountpoint}}' data
  glassbox volume inspect -f '{{range .UsedBy}}{{.Name}} {{end}}' data")]
pub struct InspectArgs {
    /// Print with a template of docker's keys.
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// For uniformity: it is JSON without --format.
    #[arg(long, hide = true)]
    json: bool,
    /// The volumes.
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// Runs `inspect`: what is found is printed, and what is not makes the status 1.
pub fn inspect(args: InspectArgs) -> Result<u8> {
    let store = args.root.containers()?;
    let containers = store.list()?;
    let mut found = Vec::new();
    let status = crate::cli::each(&args.volumes, |name| {
        let (volume, _) = volumes::find(&store, name)?;
        found.push(document(&store, &volume, &containers)?);
        Ok(())
    })?;
    match &args.format {
        None => ui::print_json(&found),
        Some(template) => {
            for volume in &found {
                ui::out(template::render(template, volume)?);
            }
        }
    }
    Ok(status)
}
