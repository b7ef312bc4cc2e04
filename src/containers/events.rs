//! What happened to containers, volumes and images: a log that every command writes to.
//!
//! What it does: there is no daemon that could tell, so whoever makes a change appends one line to a
//! file of the state root, and `events` reads it. The file is limited: a full one becomes
//! `log.1` in place of the one before it. A line is one write(2) to a file opened with `O_APPEND`,
//! so lines of several processes do not mix. That an event cannot be written (the disk is full) is
//! no reason for the change itself to fail.
//!
//! ```text
//!   <root>/events/log   {"Type":"container","Action":"start","Actor":{"ID":…,"Attributes":{…}},…}
//!   <root>/events/log.1 the file before
//!   <root>/events/lock  held by who exchanges them
//! ```
//!
//! What it implements: docker's events: names, attributes, the schema `EventMessage` of the Engine
//! API 1.50. Interface: [`of`], [`emit`], [`Event`], [`Filters`], [`path`]. Read next: `log.rs`,
//! whose reader follows the file.

use super::actions::make_all;
use super::names::short;
use super::store::{Container, Store};
use super::time::Time;
use crate::error::{Error, Kind, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of one of the two files.
const LARGEST: u64 = 1 << 20;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The action again, the id and the image: what docker's API had before `Actor`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// See [`status`](Self::status).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// See [`status`](Self::status).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `volume`, `image`, `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub nanoseconds: u64,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A container's id, a volume's name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its labels, and what the action adds.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// The log below a state root.
pub fn path(root: &Path) -> PathBuf {
    root.join("events/log")
}

/// Something happened to a container.
pub fn of(container: &Container, action: &str, attributes: &[(&str, String)]) {
    let record = &container.record;
    let mut all = record.config.labels.clone();
    all.insert("image".into(), record.config.image.clone());
    all.insert("name".into(), record.name.clone());
    all.extend(attributes.iter().map(|(k, v)| (k.to_string(), v.clone())));
    let event = Event {
        status: action.into(),
        id: record.id.clone(),
        from: record.config.image.clone(),
        ..event("container", action, &record.id, all)
    };
    append(&Store::of(container).paths().root, &event);
}

/// Something happened to something else.
pub fn emit(root: &Path, kind: &str, action: &str, id: &str, attributes: &[(&str, String)]) {
    let all = attributes.iter().map(|(k, v)| (k.to_string(), v.clone()));
    append(root, &event(kind, action, id, all.collect()));
}

fn event(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Event {
    let now = Time::now();
    Event {
        status: String::new(),
        id: String::new(),
        from: String::new(),
        kind: kind.into(),
        action: action.into(),
        actor: Actor {
            id: id.into(),
            attributes,
        },
        scope: "local".into(),
        time: now.seconds(),
        nanoseconds: now.0,
    }
}

fn append(root: &Path, event: &Event) {
    let Ok(mut line) = serde_json::to_string(event) else {
        return;
    };
    line.push('\n');
    let _ = write(&path(root), &line); // see above: the change itself has been made
}

fn write(path: &Path, line: &str) -> Result<()> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
    let file = match sys::fs::open(path, flags, 0o640) {
        Err(e) if e.errno == sys::Errno::ENOENT => {
            make_all(path.parent().unwrap_or(path), 0o711)?;
            sys::fs::open(path, flags, 0o640)?
        }
        other => other?,
    };
    sys::fs::write(&file, path, line)?;
    let size = std::fs::File::from(file).metadata().map_or(0, |m| m.len());
    if size < LARGEST {
        return Ok(());
    }
    let _lock = crate::files::lock(&path.with_file_name("lock"))?;
    // Another process may have been faster.
    if std::fs::metadata(path).is_ok_and(|m| m.len() >= LARGEST) {
        let cwd = sys::fs::CWD;
        sys::fs::renameat2(cwd, path, cwd, path.with_file_name("log.1"), 0)?;
    }
    Ok(())
}

impl Event {
    /// When.
    pub fn time(&self) -> Time {
        Time(self.nanoseconds)
    }

    /// Docker's line: `TIME TYPE ACTION ID (KEY=VALUE, …)`.
    pub fn line(&self) -> String {
        let attributes = self
            .actor
            .attributes
            .iter()
            .map(|(k, v)| format!("{k}={v}"));
        let attributes = attributes.collect::<Vec<_>>().join(", ");
        let (kind, action, id) = (&self.kind, &self.action, &self.actor.id);
        let mut line = format!("{} {kind} {action} {id}", self.time());
        if !attributes.is_empty() {
            line += &format!(" ({attributes})");
        }
        line
    }
}

/// What `events --filter` asks for.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<(String, String)>);

/// The keys that a filter may have.
pub const KEYS: &[&str] = &[
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "scope",
    "type",
    "volume",
];

impl Filters {
    /// Reads `KEY=VALUE` of each. Errors: a key that is none.
    pub fn parse(list: &[String]) -> Result<Filters> {
        let pair = |text: &String| {
            let pair = text.split_once('=').filter(|(key, _)| KEYS.contains(key));
            let pair = pair.map(|(k, v)| (k.to_string(), v.to_string()));
            pair.ok_or_else(|| {
                Error::kind(Kind::Usage, format!("invalid filter '{text}'"))
                    .hint(format!("known keys: {}", KEYS.join(", ")))
            })
        };
        list.iter().map(pair).collect::<Result<_>>().map(Filters)
    }

    /// Values of one key are alternatives, except labels, which must all fit.
    pub fn fit(&self, event: &Event) -> bool {
        let attributes = &event.actor.attributes;
        let attribute = |key: &str| attributes.get(key).map_or("", String::as_str);
        let of = |kind: &str, value: &str| {
            let id = &event.actor.id;
            let named = attribute("name") == value || id == value || short(id) == value;
            event.kind == kind && (named || (value.len() > 2 && id.starts_with(value)))
        };
        let one = |key: &str, value: &str| match key {
            "type" => event.kind == value,
            "scope" => event.scope == value,
            "event" => event.action == value || event.action.split(':').next() == Some(value),
            "image" => {
                [attribute("image"), attribute("name"), &event.actor.id]
                    .iter()
                    .any(|image| {
                        !image.is_empty()
                            && (*image == value || image.split(':').next() == Some(value))
                    })
                    && (event.kind == "image" || !attribute("image").is_empty())
            }
            "container" | "volume" | "network" => of(key, value),
            _ => false,
        };
        let label = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => attributes.get(key).is_some_and(|v| v == value),
            None => attributes.contains_key(wanted),
        };
        KEYS.iter().all(|key| {
            let mut values = self
                .0
                .iter()
                .filter(|(k, _)| k == key)
                .map(|(_, v)| v.as_str());
            match *key {
                "label" => values.all(label),
                key => {
                    let mut values = values.peekable();
                    values.peek().is_none() || values.any(|value| one(key, value))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::log::Lines;

    #[test]
    fn filters_and_lines_as_dockers() {
        let attributes = [("image", "lab:1"), ("name", "web"), ("tier", "db")];
        let attributes = attributes.map(|(k, v)| (k.to_string(), v.to_string()));
        let mut event = event(
            "container",
            "exec_start: ls",
            "0123456789abcdef",
            attributes.into(),
        );
        event.nanoseconds = 1_000_000_000;
        assert_eq!(
            event.line(),
            "1970-01-01T00:00:01.000000000Z container exec_start: ls 0123456789abcdef \
             (image=lab:1, name=web, tier=db)"
        );
        let fits = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|s| s.to_string()).collect();
            Filters::parse(&list).unwrap().fit(&event)
        };
        assert!(fits(&[]) && fits(&["container=web", "event=exec_start", "image=lab"]));
        assert!(fits(&[
            "container=0123456789ab",
            "label=tier",
            "label=tier=db"
        ]));
        assert!(fits(&["event=die", "event=exec_start"]), "alternatives");
        assert!(!fits(&["label=tier=db", "label=other"]) && !fits(&["type=volume"]));
        assert!(!fits(&["container=db"]) && !fits(&["image=other"]) && !fits(&["volume=web"]));
        assert!(Filters::parse(&["colour=red".to_string()]).is_err());
    }

    #[test]
    fn the_log_is_limited_and_can_be_followed() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Lines::open(&path(dir.path()));
        assert!(lines.next_json::<Event>().unwrap().is_none());
        let long = "x".repeat(20_000);
        for n in 0..150 {
            emit(
                dir.path(),
                "volume",
                "create",
                &n.to_string(),
                &[("long", long.clone())],
            );
            let event: Event = lines.next_json().unwrap().unwrap();
            assert_eq!(event.actor.id, n.to_string());
        }
        let size = |name: &str| {
            dir.path()
                .join("events")
                .join(name)
                .metadata()
                .unwrap()
                .len()
        };
        assert!(size("log") <= LARGEST && size("log.1") < LARGEST + 30_000);
        assert!(!dir.path().join("events/log.2").exists());
    }
}
