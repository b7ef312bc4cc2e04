//! Words of the narration: arguments, values, times, and how they fit a line.
//!
//! What it does: pure functions over text. Widths are columns, escape sequences not counted.
//! Interface: [`left`], [`call_text`], [`value`], [`duration`], [`utc`], [`wrap`], [`clip`].
//! Read next: `layout.rs`, which puts them together.

use super::layout::INDENT;
use super::story::{from_the_end, short};
use super::told::Made;

/// The call's name in its column and what follows.
pub(super) fn left(name: &str, rest: &str) -> String {
    let width = INDENT - 2;
    if name.chars().count() < width {
        format!("  {name:<width$}{rest}")
    } else {
        format!("  {name} {rest}")
    }
}

/// Arguments for the story: a write as `FILE ← VALUE`, the result where it is worth something.
pub(super) fn call_text(made: &Made) -> String {
    let args = short(&made.args);
    let args = match (made.call.as_str(), args.split_once(", ")) {
        ("write", _) if args.contains(" ← ") => {
            let (file, text) = args.split_once(" ← ").unwrap_or_default();
            format!("{} ← {text}", from_the_end(file, 30))
        }
        ("write", Some((file, text))) => {
            let file = file.trim_matches('"');
            let text = text
                .trim_matches('"')
                .replace("\"... ", "… ")
                .replace("\\n", "")
                .replace("\\t", " ");
            format!("{} ← {text}", from_the_end(file, 30))
        }
        // Of a mount that was prepared as a descriptor only the place says something.
        ("move_mount", _) => match args.split('"').skip(1).step_by(2).find(|s| !s.is_empty()) {
            Some(place) => format!("→ {place}"),
            None => String::new(),
        },
        // A descriptor's number says nothing.
        ("fchdir", None) => String::new(),
        _ => args.replace("CLONE_NEW", "NEW"),
    };
    match (&made.errno, made.returned) {
        (Some(errno), _) => format!("{args} → {errno}"),
        (None, Some(n)) if made.call.starts_with("clone") => format!("{args} → {n}"),
        _ => args,
    }
}

/// A fact's value on one line; `pid:[4026531836]` as its number.
pub(super) fn value(text: &str) -> String {
    if let Some((_, number)) = text.split_once(":[")
        && let Some(number) = number.strip_suffix(']')
        && number.chars().all(|c| c.is_ascii_digit())
    {
        return number.to_string();
    }
    let lines = text
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    let joined = lines.collect::<Vec<_>>().join(", ");
    if joined.is_empty() {
        "(empty)".into()
    } else {
        joined
    }
}

/// A long list of names as its length and its beginning: `14 (CHOWN DAC_OVERRIDE …)`.
pub(super) fn counted(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let names = |w: &&str| w.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    match words.len() > 6 && words.iter().all(names) {
        true => format!("{} ({} {} …)", words.len(), words[0], words[1]),
        false => text.to_string(),
    }
}

/// `1 step`, `2 steps`.
pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `0.02 ms`, `1.20 s`.
pub(super) fn duration(ns: u64) -> String {
    if ns >= 1_000_000_000 {
        format!("{:.2} s", ns as f64 / 1e9)
    } else {
        format!("{:.2} ms", ns as f64 / 1e6)
    }
}

/// Seconds since the epoch as `2026-11-24 01:02:03 UTC` (civil-from-days, proleptic Gregorian).
pub(super) fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC")
}

/// Columns that a text takes, escape sequences not counted.
pub(super) fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for c in text.chars() {
        match (escape, c) {
            (false, '\x1b') => escape = true,
            (true, 'm') => escape = false,
            (true, _) => {}
            (false, _) => count += 1,
        }
    }
    count
}

/// At most `width` columns of a text without escape sequences, with `…` where it was cut.
pub(super) fn clip(text: &str, width: usize) -> String {
    if visible(text) <= width || text.contains('\x1b') {
        return text.to_string();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .collect::<String>()
        + "…"
}

/// Breaks a text at spaces into lines of at most `width` columns.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        match lines.last_mut() {
            Some(line) if visible(line) + 1 + visible(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_dates() {
        assert_eq!(duration(20_000), "0.02 ms");
        assert_eq!(duration(1_200_000_000), "1.20 s");
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_481_100), "2026-11-24 00:45:00 UTC");
    }
}
