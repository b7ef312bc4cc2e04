//! The text view of the model: sections of `key  value` lines, reasons where a value is missing,
//! with `--why` the source behind each fact.
//!
//! What it does: returns text and prints nothing. All views take the model alone, so a snapshot
//! needs no kernel.
//! Interface: [`render`], [`tree`]. Read next: `process.rs`, `host.rs`.

mod host;
mod process;
mod things;

use super::fact::Fact;
use super::model::{Document, TreeProcess};
use crate::ui::{Style, styled};
use std::fmt::Display;

/// How to draw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Colours are on.
    pub colour: bool,
    /// Sources are shown.
    pub why: bool,
}

/// The whole document as text, without the last newline.
pub fn render(document: &Document, look: Look) -> String {
    let mut lines = Lines::new(look);
    if let Some(host) = &document.host {
        host::draw(host, &mut lines);
    }
    if let Some(container) = &document.container {
        things::container(container, &mut lines);
    }
    if let Some(image) = &document.image {
        things::image(image, &mut lines);
    }
    if let Some(layer) = &document.layer {
        things::layer(layer, &mut lines);
    }
    if let Some(namespace) = &document.namespace {
        things::namespace(namespace, &mut lines);
    }
    if let Some(cgroup) = &document.cgroup {
        lines.title(format!("cgroup {}", document.target));
        process::cgroup(cgroup, &mut lines);
    }
    if let Some(process) = &document.process {
        process::draw(process, &mut lines);
    }
    lines.finish()
}

/// Only the process tree, as `--tree` prints it; nothing when the target has no processes.
pub fn tree(document: &Document, look: Look) -> Option<String> {
    let processes = match (&document.process, &document.namespace) {
        (Some(p), _) => &p.processes,
        (None, Some(n)) => &n.processes,
        (None, None) => return None,
    };
    let mut lines = Lines::new(look);
    match processes.get() {
        Some(list) => draw_tree(list, &mut lines),
        None => lines.fact("processes", processes, |_| String::new()),
    }
    Some(lines.finish())
}

/// Lines under construction.
struct Lines {
    text: Vec<String>,
    look: Look,
}

/// Where values begin.
const INDENT: usize = 18;

impl Lines {
    fn new(look: Look) -> Self {
        Lines {
            text: Vec::new(),
            look,
        }
    }
    fn style(&self, text: impl Display, style: Style) -> String {
        styled(text, style, self.look.colour)
    }
    /// The first line of a thing.
    fn title(&mut self, text: impl Display) {
        if !self.text.is_empty() {
            self.text.push(String::new());
        }
        let line = self.style(text, Style::Strong);
        self.text.push(line);
    }
    /// The heading of a group of lines.
    fn section(&mut self, text: impl Display) {
        let line = self.style(text, Style::Strong);
        self.text.push(String::new());
        self.text.push(line);
    }
    /// A value with its key; further lines of the value are indented under the first.
    fn row(&mut self, key: &str, value: impl Display) {
        let value = value.to_string();
        let padded = format!("  {key:<width$}", width = INDENT - 2);
        let gap = if padded.chars().count() > INDENT {
            " "
        } else {
            ""
        };
        let mut rows = value.lines();
        let first = format!(
            "{}{gap}{}",
            self.style(padded, Style::Name),
            rows.next().unwrap_or_default()
        );
        self.text.push(first.trim_end().to_string());
        for row in rows {
            self.text.push(format!("{}{row}", " ".repeat(INDENT)));
        }
    }
    /// A fact: its value as `show` words it, or why there is none; with `--why` its source.
    fn fact<T>(&mut self, key: &str, fact: &Fact<T>, show: impl FnOnce(&T) -> String) {
        let mut text = match (fact.get(), fact.why()) {
            (Some(value), _) => show(value),
            (None, why) => {
                let reason = format!("unread: {}", why.unwrap_or_default());
                self.style(reason, Style::Notice)
            }
        };
        if self.look.why {
            let source = format!("← {}", fact.source());
            text = format!("{text}  {}", self.style(source, Style::Dim));
        }
        self.row(key, text);
    }
    /// The source of a whole list, on a line of its own.
    fn source<T>(&mut self, fact: &Fact<T>) {
        if self.look.why {
            let line = format!("  ← {}", fact.source());
            let line = self.style(line, Style::Dim);
            self.text.push(line);
        }
    }
    /// Any line.
    fn line(&mut self, text: impl Display) {
        self.text.push(text.to_string());
    }
    /// A small table, indented, whose columns line up.
    fn table(&mut self, headings: &[&str], rows: Vec<Vec<String>>) {
        let mut table = crate::ui::Table::new(headings);
        for row in rows {
            table.row(row);
        }
        for line in table.to_string().lines() {
            self.text.push(format!("  {line}"));
        }
    }
    fn finish(self) -> String {
        self.text.join("\n")
    }
}

/// A process tree with pids outside and inside.
fn draw_tree(list: &[TreeProcess], lines: &mut Lines) {
    let rows: Vec<Vec<String>> = list
        .iter()
        .enumerate()
        .map(|(at, p)| {
            let inside = match p.inside.as_slice() {
                [] | [_] => "-".to_string(),
                [_, below @ ..] => {
                    let ids: Vec<String> = below.iter().map(u32::to_string).collect();
                    ids.join(" → ")
                }
            };
            let command = if p.command.is_empty() {
                format!("[{}]", p.name)
            } else {
                one_line(&p.command, 72)
            };
            let mark = if p.target { "  ◂" } else { "" };
            vec![
                p.pid.to_string(),
                inside,
                p.uid.to_string(),
                format!("{}{command}{mark}", branch(list, at)),
            ]
        })
        .collect();
    lines.table(&["pid", "inside", "uid", "command"], rows);
}

/// The lines that lead to a process: `│  └─ `.
fn branch(list: &[TreeProcess], at: usize) -> String {
    let depth = list[at].depth;
    // Whether another process at this depth follows before the branch closes.
    let goes_on = |level: u32| {
        list[at + 1..]
            .iter()
            .take_while(|p| p.depth >= level)
            .any(|p| p.depth == level)
    };
    let mut text = String::new();
    for level in 1..=depth {
        text += match (level == depth, goes_on(level)) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        };
    }
    text
}

/// Text on one line, without control characters, cut at a width.
fn one_line(text: &str, width: usize) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match clean.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// `67108864` as `64 MiB`; exact, or with one decimal.
pub fn bytes(n: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (n, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value.fract() == 0.0 {
        true => format!("{value:.0} {}", units[unit]),
        false => format!("{value:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(67_108_864.0), "64 MiB");
        assert_eq!(bytes(1536.0), "1.5 KiB");
    }

    #[test]
    fn a_tree_is_drawn() {
        let one = |pid, depth, inside: &[u32]| TreeProcess {
            pid,
            inside: inside.to_vec(),
            parent: 0,
            depth,
            uid: 0,
            name: "sh".into(),
            command: format!("p{pid}\nx"),
            target: pid == 11,
        };
        let list = [
            one(10, 0, &[10, 1]),
            one(11, 1, &[11, 2]),
            one(12, 2, &[12, 3, 1]),
            one(13, 1, &[13, 4]),
            one(20, 0, &[20]),
        ];
        let mut lines = Lines::new(Look::default());
        draw_tree(&list, &mut lines);
        insta::assert_snapshot!(lines.finish());
    }
}
