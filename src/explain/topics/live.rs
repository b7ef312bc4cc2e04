//! Live values: what a topic shows of this host, read from the kernel now, with its source.
//!
//! What it does: a marker in a topic's text lists items, separated by blanks, of these forms:
//!
//! ```text
//! file:PATH                    a whole file, its first dozen lines
//! lines:PATH:PREFIX[:PREFIX…]  the lines of a file that begin so
//! link:PATH                    where a symbolic link points
//! exists:PATH                  whether there is such a file
//! ns:TYPE                      the namespace of this process, compared with PID 1's
//! cgroup:CONTROLLER:V2:V1      a file of this process's own group, under its v2 or v1 name
//! layout                       which cgroup hierarchies are mounted, with their controllers
//! mounts:WORD                  the lines of mountinfo that hold the word
//! at:PATH                      the mounts at a place
//! type:NAME                    the mounts of a file system type
//! v2:FILE                      a file of the root of the cgroup v2 tree, wherever that is mounted
//! disks                        the block devices with their numbers
//! state:PATH                   a file or directory of glassbox's own state directory
//! host                         kernel release and user
//! ```
//!
//! `\x20` in an item is a blank. What cannot be read says why. Nothing is cached and nothing is changed.
//! Interface: [`read_all`], [`Reading`]. Read next: `render.rs`.

use crate::host::{Host, cgroup_layout::CgroupLayout};
use serde::Serialize;
use std::path::Path;

/// At most so many lines of one file.
const LINES: usize = 12;
/// At most so much of one line.
const WIDTH: usize = 400;

/// A value that was read just now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// The item as the text asked for it.
    pub what: String,
    /// Where it was read.
    pub source: String,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

impl Reading {
    fn new(what: &str, source: impl Into<String>, result: Result<String, String>) -> Reading {
        let (value, unread) = match result {
            Ok(value) => (Some(value), None),
            Err(why) => (None, Some(why)),
        };
        Reading {
            what: what.into(),
            source: source.into(),
            value,
            unread,
        }
    }
}

/// The items of a marker line.
pub(super) fn marker(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- live ")?.strip_suffix(" -->")
}

/// Whether an item has one of the forms at the top of this file.
pub(super) fn is_known(item: &str) -> bool {
    let mut parts = item.splitn(2, ':');
    let (form, rest) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match form {
        "host" | "layout" | "disks" => rest.is_empty(),
        "file" | "link" | "exists" | "at" => rest.starts_with('/'),
        "lines" => rest.starts_with('/') && rest.contains(':'),
        "ns" => Path::new("/proc/self/ns")
            .join(rest)
            .symlink_metadata()
            .is_ok(),
        "cgroup" => rest.split(':').count() == 3,
        "mounts" | "type" | "v2" | "state" => !rest.is_empty(),
        _ => false,
    }
}

/// Reads the items of a marker; `state` is where glassbox keeps its own.
pub(super) fn read_all(items: &str, state: &Path) -> Vec<Reading> {
    items.split_whitespace().map(|i| read(i, state)).collect()
}

fn read(item: &str, state: &Path) -> Reading {
    let spaced = item.replace("\\x20", " ");
    let (form, rest) = spaced.split_once(':').unwrap_or((&spaced, ""));
    match form {
        "file" => Reading::new(item, rest, content(rest).map(|t| head(t.lines()))),
        "lines" => lines(item, rest),
        "link" => {
            let target = std::fs::read_link(rest).map(|t| t.display().to_string());
            Reading::new(item, rest, target.map_err(|e| reason(&e)))
        }
        "exists" => {
            let there = Path::new(rest).exists();
            Reading::new(
                item,
                rest,
                Ok(if there { "there" } else { "not there" }.into()),
            )
        }
        "ns" => namespace(item, rest),
        "cgroup" => cgroup(item, rest),
        "layout" => Reading::new(item, "/proc/self/mountinfo, /proc/self/cgroup", layout()),
        "mounts" => mounts(item, &format!("{rest:?} in its line"), |l| l.contains(rest)),
        "at" => mounts(item, &format!("the place {rest}"), |l| {
            l.split(' ').nth(4) == Some(rest)
        }),
        "type" => mounts(item, &format!("the type {rest}"), |l| {
            let after = l.split_once(" - ").map(|(_, tail)| tail.split(' ').next());
            after == Some(Some(rest))
        }),
        "v2" => match CgroupLayout::detect().map(|l| l.unified().map(|t| t.mount.join(rest))) {
            Ok(Some(path)) => {
                let text = content(&path.display().to_string()).map(|t| head(t.lines()));
                Reading::new(item, path.display().to_string(), text)
            }
            Ok(None) => Reading::new(item, rest, Err("no cgroup v2 tree is mounted".into())),
            Err(e) => Reading::new(item, rest, Err(format!("{e:#}"))),
        },
        "disks" => disks(item),
        "state" => own_state(item, &state.join(rest)),
        "host" => {
            let host = Host::detect().map_err(|e| format!("{e:#}"));
            let text = host.map(|h| {
                let user = if h.euid == 0 {
                    "root"
                } else {
                    "an ordinary user"
                };
                format!("Linux {}, effective user id {} ({user})", h.kernel, h.euid)
            });
            Reading::new(item, "uname(2), geteuid(2)", text)
        }
        _ => Reading::new(item, "", Err("no such live value".into())),
    }
}

fn mounts(item: &str, what: &str, fits: impl Fn(&str) -> bool) -> Reading {
    let file = "/proc/self/mountinfo";
    let found = content(file).map(|text| match text.lines().any(&fits) {
        true => head(text.lines().filter(|l| fits(l))),
        false => format!("no mount of this namespace has {what}"),
    });
    Reading::new(item, file, found)
}

fn disks(item: &str) -> Reading {
    let dir = "/sys/block";
    let found = std::fs::read_dir(dir)
        .map_err(|e| reason(&e))
        .map(|entries| {
            let mut names: Vec<String> = entries
                .flatten()
                .filter_map(|e| {
                    let number = std::fs::read_to_string(e.path().join("dev")).ok()?;
                    Some(format!("{}  {}", e.file_name().display(), number.trim()))
                })
                .collect();
            names.sort();
            match names.is_empty() {
                true => "no block device".into(),
                false => head(names.iter().map(String::as_str)),
            }
        });
    Reading::new(item, "/sys/block/*/dev", found)
}

/// A file's text; of a directory, how much is in it. Before the first container nothing is there.
fn own_state(item: &str, path: &Path) -> Reading {
    let source = path.display().to_string();
    let result = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok("not there yet".into()),
        Err(e) => Err(reason(&e)),
        Ok(m) if m.is_dir() => std::fs::read_dir(path)
            .map_err(|e| reason(&e))
            .map(|entries| {
                match entries
                    .flatten()
                    .filter(|e| e.file_name() != "lock")
                    .count()
                {
                    1 => "1 entry".to_string(),
                    n => format!("{n} entries"),
                }
            }),
        Ok(_) => content(&source).map(|t| head(t.lines())),
    };
    Reading::new(item, source, result)
}

fn content(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| reason(&e))
}

fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(raw) => crate::sys::describe_errno(crate::sys::Errno::from_raw(raw)),
        None => error.to_string(),
    }
}

fn head<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut more = 0;
    for line in lines {
        if kept.len() < LINES {
            let end = line
                .char_indices()
                .nth(WIDTH)
                .map_or(line.len(), |(at, _)| at);
            kept.push(line[..end].trim_end());
        } else {
            more += 1;
        }
    }
    let mut text = kept.join("\n");
    if more > 0 {
        let lines = if more == 1 { "line" } else { "lines" };
        text += &format!("\n… and {more} {lines} more");
    }
    text
}

fn lines(item: &str, rest: &str) -> Reading {
    let mut parts = rest.split(':');
    let path = parts.next().unwrap_or("");
    let prefixes: Vec<&str> = parts.collect();
    let found = content(path).and_then(|text| {
        let hits: Vec<&str> = text
            .lines()
            .filter(|l| prefixes.iter().any(|p| l.starts_with(p)))
            .collect();
        if hits.is_empty() {
            return Err(format!("no line begins with {}", prefixes.join(" or ")));
        }
        Ok(head(hits.into_iter()))
    });
    Reading::new(item, path, found)
}

fn namespace(item: &str, name: &str) -> Reading {
    let own = format!("/proc/self/ns/{name}");
    let result = std::fs::read_link(&own)
        .map_err(|e| reason(&e))
        .map(|mine| {
            let comparison = match std::fs::read_link(format!("/proc/1/ns/{name}")) {
                Ok(theirs) if theirs == mine => "the same as PID 1's".to_string(),
                Ok(theirs) => format!("PID 1 is in {}", theirs.display()),
                Err(e) => format!("PID 1's cannot be read: {}", reason(&e)),
            };
            format!("{} ({comparison})", mine.display())
        });
    Reading::new(item, own, result)
}

fn cgroup(item: &str, rest: &str) -> Reading {
    let mut parts = rest.split(':');
    let controller = parts.next().unwrap_or("");
    let (v2, v1) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let layout = match CgroupLayout::detect() {
        Ok(layout) => layout,
        Err(e) => return Reading::new(item, "/proc/self/mountinfo", Err(format!("{e:#}"))),
    };
    // `freezer` is no controller in v2, where every group has those files, and what `devices` does
    // is done by a program. v1 calls `io` blkio. Of any other controller the v2 tree has nothing
    // when it is not there, as on a hybrid host.
    let tree = match controller {
        "freezer" | "devices" => layout.of(controller).or_else(|| layout.unified()),
        "io" => layout.of("io").or_else(|| layout.of("blkio")),
        _ => layout.of(controller),
    };
    let Some(tree) = tree else {
        let why = format!("no mounted hierarchy has the controller {controller}");
        return Reading::new(item, controller, Err(why));
    };
    let file = if tree.v2 { v2 } else { v1 };
    if file == "-" {
        let version = if tree.v2 { "v2" } else { "v1" };
        return Reading::new(
            item,
            tree.name(),
            Err(format!("cgroup {version} has no such file")),
        );
    }
    let Some(dir) = tree.dir(&tree.own) else {
        let why = format!(
            "this process's group {} lies outside what is mounted",
            tree.own
        );
        return Reading::new(item, tree.mount.display().to_string(), Err(why));
    };
    let path = dir.join(file).display().to_string();
    let mut result = content(&path).map(|t| head(t.lines()));
    if result.is_err() && tree.own == "/" && dir.join("cgroup.procs").exists() {
        result = Err("the root group has no such file: nothing limits or freezes the root".into());
    }
    Reading::new(item, path, result)
}

fn layout() -> Result<String, String> {
    let layout = CgroupLayout::detect().map_err(|e| format!("{e:#}"))?;
    if layout.hierarchies.is_empty() {
        return Err("no cgroup file system is mounted".into());
    }
    let lines: Vec<String> = layout
        .hierarchies
        .iter()
        .map(|h| {
            let version = if h.v2 { "v2" } else { "v1" };
            let what = if h.controllers.is_empty() {
                "no controller".to_string()
            } else {
                h.controllers.join(" ")
            };
            format!(
                "{version}  {:<32} {what}; this process: {}",
                h.mount.display(),
                h.own
            )
        })
        .collect();
    Ok(lines.join("\n"))
}
