//! `glassbox events`: what happens to containers, volumes and images.
//!
//! Read next: [`crate::containers::events`].

use super::filters::key_value;
use crate::containers::events::{self, Event, Filters};
use crate::containers::log::Lines;
use crate::containers::store::Store;
use crate::containers::time::Time;
use crate::error::{Context, Result};
use crate::ui::{self, template};
use std::path::PathBuf;
use std::time::Duration;

/// Show what happens to containers, volumes and images, as it happens
///
/// The last thousands of events are kept, so that --since can look back. With --until it ends.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox events
  glassbox events --since 1h --until 0s --filter event=die
  glassbox events --format '{{.Time}} {{.Action}} {{.Actor.Attributes.name}}'")]
pub struct Args {
    /// From this time on (2026-01-31T12:00:00Z, or 10m for ten minutes ago)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only those for which it holds: container, event, image, label, network, scope, type, volume
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    filter: Vec<String>,
    /// `json` or a template of {{.Time}} {{.TimeNano}} {{.Type}} {{.Action}} {{.Actor.ID}}
    /// {{.Actor.Attributes}} {{.Scope}}
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let time = |flag: &Option<String>| flag.as_deref().map(Time::parse_flag).transpose();
    let until = time(&args.until)?;
    let since = time(&args.since)?.unwrap_or_else(Time::now);
    let filters = Filters::parse(&args.filter)?;
    let format = match args.json {
        true => Some("json"),
        false => args.format.as_deref(),
    };
    if let Some(template) = format.filter(|f| *f != "json") {
        template::rows(template, &[], &[])?; // a bad one is said at once
    }
    let mut lines = Lines::open(&events::path(&store.paths().root));
    loop {
        // Asked before reading: what was written before the end is shown.
        let last = until.is_some_and(|u| Time::now() >= u);
        while let Some(event) = lines.next_json::<Event>()? {
            if event.time() < since || until.is_some_and(|u| event.time() > u) {
                continue;
            }
            if filters.fit(&event) {
                print(&event, format)?;
            }
        }
        if last {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn print(event: &Event, format: Option<&str>) -> Result<()> {
    let value = || serde_json::to_value(event).context("cannot show an event");
    match format {
        None => ui::out(event.line()),
        Some("json") => ui::out(value()?),
        Some(template) => {
            let mut value = value()?;
            // The template's fields are those of docker's struct, not of its JSON.
            for (field, key) in [("Time", "time"), ("TimeNano", "timeNano"), ("Scope", "scope"), ("Status", "status"), ("ID", "id"), ("From", "from")] {
                value[field] = value.get(key).cloned().unwrap_or_else(|| "".into());
            }
            ui::out(template::rows(template, &[value], &[])?);
        }
    }
    Ok(())
}
