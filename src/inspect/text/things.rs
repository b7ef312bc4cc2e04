//! Containers, images, layers and namespaces as text.

use super::super::model::{Layer, Namespace};
use super::{Lines, bytes, draw_tree};
use serde_json::Value;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn words(value: &Value, pointer: &str) -> String {
    let list = value.pointer(pointer).and_then(Value::as_array);
    let items: Vec<String> = list
        .into_iter()
        .flatten()
        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_string))
        .collect();
    items.join(" ")
}

fn row(lines: &mut Lines, key: &str, value: &str) {
    if !value.is_empty() {
        lines.row(key, value);
    }
}

/// The part of a container that the kernel does not know: name, image, configuration.
pub(super) fn container(c: &Value, lines: &mut Lines) {
    let name = text(c, "/Name").trim_start_matches('/');
    lines.title(format!("container {name}"));
    row(lines, "id", text(c, "/Id"));
    row(lines, "image", text(c, "/Config/Image"));
    row(lines, "image id", text(c, "/Image"));
    let path = text(c, "/Path");
    row(
        lines,
        "command",
        format!("{path} {}", words(c, "/Args")).trim(),
    );
    let status = text(c, "/State/Status");
    let state = match status {
        "exited" | "dead" => {
            let code = c
                .pointer("/State/ExitCode")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            let error = text(c, "/State/Error");
            match error.is_empty() {
                true => format!("{status} with status {code}"),
                false => format!("{status} with status {code}: {error}"),
            }
        }
        other => other.to_string(),
    };
    row(lines, "state", &state);
    row(lines, "ended by", text(c, "/State/EndedBy"));
    row(lines, "created", text(c, "/Created"));
    row(lines, "started", text(c, "/State/StartedAt"));
    if !matches!(status, "running" | "paused") {
        row(lines, "finished", text(c, "/State/FinishedAt"));
    }
    row(lines, "restart", text(c, "/HostConfig/RestartPolicy/Name"));
    row(lines, "network", text(c, "/HostConfig/NetworkMode"));
    row(lines, "binds", &words(c, "/HostConfig/Binds"));
    row(lines, "log", text(c, "/LogPath"));
}

/// An image.
pub(super) fn image(i: &Value, lines: &mut Lines) {
    lines.title(format!("image {}", words(i, "/RepoTags")).trim_end());
    row(lines, "id", text(i, "/Id"));
    row(lines, "digests", &words(i, "/RepoDigests"));
    row(lines, "created", text(i, "/Created"));
    let platform = format!("{}/{}", text(i, "/Os"), text(i, "/Architecture"));
    row(lines, "platform", platform.trim_matches('/'));
    if let Some(size) = i.pointer("/Size").and_then(Value::as_f64) {
        lines.row("size", bytes(size));
    }
    row(lines, "entrypoint", &words(i, "/Config/Entrypoint"));
    row(lines, "command", &words(i, "/Config/Cmd"));
    row(lines, "user", text(i, "/Config/User"));
    row(lines, "directory", text(i, "/Config/WorkingDir"));
    row(
        lines,
        "environment",
        &words(i, "/Config/Env").replace(' ', "\n"),
    );
    let layers = words(i, "/RootFS/Layers").replace(' ', "\n");
    row(lines, "layers", &layers);
}

/// A layer.
pub(super) fn layer(l: &Layer, lines: &mut Lines) {
    lines.title(format!("layer {}", l.chain_id));
    row(lines, "diff id", l.diff_id.as_deref().unwrap_or(""));
    row(
        lines,
        "below it",
        l.parent.as_deref().unwrap_or("nothing: it is the lowest"),
    );
    let place = match l.unpacked {
        true => l.directory.clone(),
        false => "not unpacked: no container has needed it yet".into(),
    };
    row(lines, "directory", &place);
    if let Some(size) = l.size {
        lines.row("size", bytes(size as f64));
    }
    let or_none = |list: &[String]| match list.len() {
        0 => "none".to_string(),
        _ => list.join("\n"),
    };
    lines.row("images", or_none(&l.images));
    lines.row("mounted by", or_none(&l.used_by));
}

/// A namespace.
pub(super) fn namespace(n: &Namespace, lines: &mut Lines) {
    lines.title(format!("{} namespace {}", n.kind, n.id));
    lines.row("isolates", &n.isolates);
    lines.fact("whose", &n.is_host, |host| match host {
        true => "the host's".into(),
        false => "not the host's".into(),
    });
    lines.fact("owner", &n.owner, |id| format!("user:[{id}]"));
    if n.parent.get().is_some_and(Option::is_some) || n.parent.why().is_some() {
        lines.fact("parent", &n.parent, |p| {
            p.map_or("none: it is the first".into(), |id| {
                format!("{}:[{id}]", n.kind)
            })
        });
    }
    if n.owner_uid.get().is_some_and(Option::is_some) || n.owner_uid.why().is_some() {
        lines.fact("made by uid", &n.owner_uid, |u| {
            u.map_or(String::new(), |u| u.to_string())
        });
    }
    lines.fact("kept by", &n.kept_by, |list| match list.len() {
        0 => "nothing that was found".into(),
        _ => list.join("\n"),
    });
    match n.processes.get() {
        Some(list) if !list.is_empty() => {
            lines.section("processes");
            draw_tree(list, lines);
            lines.source(&n.processes);
        }
        _ => lines.fact("processes", &n.processes, |_| "none".into()),
    }
}
