//! A topic for the terminal: the Markdown that the texts use, and live values in their place.
//!
//! What it does: headings, paragraphs, lists, tables and fenced blocks; `code` and **strong** in
//! paragraphs. It is no Markdown renderer for any text, only for ours, whose form a test holds.
//! Interface: [`render`]. Read next: the texts, in `book/src/topics`.

use super::{Topic, live};
use crate::explain::words::wrap;
use crate::ui::{Style, styled};
use std::path::Path;

const WIDTH: usize = 84;

/// The topic as text, with this host's values in place of the examples; `state` is glassbox's state
/// directory.
pub fn render(topic: &Topic, state: &Path, colour: bool) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = topic.text.lines().peekable();
    let mut paragraph: Vec<&str> = Vec::new();
    while let Some(line) = lines.next() {
        let starts_block = line.is_empty()
            || line.starts_with('#')
            || line.starts_with("```")
            || line.starts_with("- ")
            || line.starts_with('|')
            || line.starts_with("<!-- ");
        if !starts_block {
            paragraph.push(line.trim());
            continue;
        }
        flush(&mut paragraph, &mut out, colour);
        if let Some(items) = live::marker(line) {
            for reading in live::read_all(items, state) {
                out.extend(live_value(&reading, colour));
            }
            // The example that follows is the book's.
            if lines.peek().is_some_and(|l| l.starts_with("```")) {
                lines.next();
                for skipped in lines.by_ref() {
                    if skipped.starts_with("```") {
                        break;
                    }
                }
            }
        } else if let Some(title) = line.strip_prefix("# ") {
            out.push(styled(title.to_uppercase(), Style::Strong, colour));
        } else if let Some(title) = line.trim_start_matches('#').strip_prefix(' ')
            && line.starts_with('#')
        {
            out.push(styled(title, Style::Strong, colour));
        } else if line.starts_with("```") {
            for code in lines.by_ref() {
                if code.starts_with("```") {
                    break;
                }
                out.push(
                    format!("    {}", styled(code, Style::Name, colour))
                        .trim_end()
                        .into(),
                );
            }
        } else if line.starts_with("- ") {
            let mut item = vec![line];
            while lines.peek().is_some_and(|l| l.starts_with("  ")) {
                item.extend(lines.next().map(str::trim));
            }
            for (i, row) in wrap(&inline(&links(&item.join(" ")), colour), WIDTH - 4)
                .iter()
                .enumerate()
            {
                let indent = if i == 0 { "  " } else { "    " };
                out.push(format!("{indent}{row}"));
            }
        } else if line.starts_with('|') {
            let mut rows = vec![line];
            while lines.peek().is_some_and(|l| l.starts_with('|')) {
                rows.extend(lines.next());
            }
            out.extend(table(&rows, colour));
        } else if line.is_empty() && out.last().is_some_and(|l| !l.is_empty()) {
            out.push(String::new());
        }
    }
    flush(&mut paragraph, &mut out, colour);
    out.join("\n").trim_end().to_string()
}

fn flush(paragraph: &mut Vec<&str>, out: &mut Vec<String>, colour: bool) {
    if paragraph.is_empty() {
        return;
    }
    let text = inline(&links(&std::mem::take(paragraph).join(" ")), colour);
    out.extend(wrap(&text, WIDTH - 2).iter().map(|l| format!("  {l}")));
}

fn live_value(reading: &live::Reading, colour: bool) -> Vec<String> {
    let source = styled(format!("    {}", reading.source), Style::Dim, colour);
    match (&reading.value, &reading.unread) {
        (Some(value), _) if !value.contains('\n') && value.len() < 60 => {
            let shown = if value.is_empty() { "(empty)" } else { value };
            vec![format!("{source}  {}", styled(shown, Style::Good, colour))]
        }
        (Some(value), _) => std::iter::once(source)
            .chain(
                value
                    .lines()
                    .map(|l| format!("      {}", styled(l, Style::Good, colour))),
            )
            .collect(),
        (None, why) => {
            let why = why.as_deref().unwrap_or("no value");
            vec![format!(
                "{source}  {}",
                styled(format!("not read: {why}"), Style::Notice, colour)
            )]
        }
    }
}

/// `[text](target)` as `text`: a terminal cannot follow it.
fn links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let after = &rest[open + 1..];
        let link = after.split_once("](").and_then(|(label, tail)| {
            let end = tail.find(')')?;
            (!label.contains('[')).then(|| (label, &tail[end + 1..]))
        });
        match link {
            Some((label, tail)) => {
                out += &rest[..open];
                out += label;
                rest = tail;
            }
            None => {
                out += &rest[..=open];
                rest = after;
            }
        }
    }
    out + rest
}

/// `code`, **strong** and *stressed*. Without colour, code keeps its backquotes.
fn inline(text: &str, colour: bool) -> String {
    let plain = |part: &str| {
        let mut out = String::new();
        for (i, piece) in part.split("**").enumerate() {
            let piece = piece.replace('*', "");
            out += &if i % 2 == 1 {
                styled(piece, Style::Strong, colour)
            } else {
                piece
            };
        }
        out
    };
    let mut out = String::new();
    for (i, piece) in text.split('`').enumerate() {
        out += &match (i % 2 == 1, colour) {
            (true, true) => styled(piece, Style::Name, true),
            (true, false) => format!("`{piece}`"),
            (false, _) => plain(piece),
        };
    }
    out
}

fn table(rows: &[&str], colour: bool) -> Vec<String> {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .filter(|row| !row.contains("---"))
        .map(|row| {
            row.trim_matches('|')
                .split('|')
                .map(|c| links(c.trim()))
                .collect()
        })
        .collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        let widths = cells
            .iter()
            .filter_map(|row| row.get(n))
            .map(|c| c.chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = Vec::new();
    for (i, row) in cells.iter().enumerate() {
        let first: usize = widths
            .iter()
            .take(columns - 1)
            .map(|w| w + 2)
            .sum::<usize>()
            + 4;
        let mut line = String::from("    ");
        for (n, cell) in row.iter().enumerate().take(columns - 1) {
            line += &format!("{cell:<width$}", width = widths[n] + 2);
        }
        let last = row.get(columns - 1).map_or("", String::as_str);
        for (k, part) in wrap(last, (WIDTH + 8).saturating_sub(first).max(24))
            .iter()
            .enumerate()
        {
            let whole = if k == 0 {
                format!("{line}{part}")
            } else {
                format!("{:first$}{part}", "")
            };
            out.push(match i {
                0 => styled(whole, Style::Dim, colour),
                _ => inline(&whole, colour),
            });
        }
    }
    out
}
