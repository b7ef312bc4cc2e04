//! Reading Rust source as the tidy test needs it: code without comments, words, import heads.
//!
//! What it does: a scanner of a hundred lines, for rules that a regular expression gets wrong (the
//! word `unsafe` in a comment, `crate::` in a string). It is no parser and need not be one.

use std::path::Path;

/// The code without comments, and with the insides of string and character literals blanked. Keeps
/// the lines, so that a finding can name its line.
pub fn code_only(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let at = |i: usize| bytes.get(i).copied().unwrap_or('\0');
    while i < bytes.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < bytes.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < bytes.len() {
                if at(i) == '/' && at(i + 1) == '*' {
                    depth += 1;
                    i += 2;
                } else if at(i) == '*' && at(i + 1) == '/' {
                    depth -= 1;
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    if at(i) == '\n' {
                        out.push('\n');
                    }
                    i += 1;
                }
            }
        } else if c == 'r' && (at(i + 1) == '"' || at(i + 1) == '#') && !at_word(&bytes, i) {
            let mut hashes = 0;
            while at(i + 1 + hashes) == '#' {
                hashes += 1;
            }
            if at(i + 1 + hashes) != '"' {
                out.push(c); // a raw identifier
                i += 1;
                continue;
            }
            i += 2 + hashes;
            out.push('"');
            let closing: Vec<char> = std::iter::once('"')
                .chain(std::iter::repeat_n('#', hashes))
                .collect();
            while i < bytes.len() && !bytes[i..].starts_with(&closing) {
                if at(i) == '\n' {
                    out.push('\n');
                }
                i += 1;
            }
            out.push('"');
            i += closing.len();
        } else if c == '"' {
            out.push('"');
            i += 1;
            while i < bytes.len() && at(i) != '"' {
                if at(i) == '\\' {
                    i += 1;
                }
                if at(i) == '\n' {
                    out.push('\n');
                }
                i += 1;
            }
            out.push('"');
            i += 1;
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            out.push_str("' '");
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < bytes.len() && at(i) != '\'' {
                i += 1;
            }
            i += 1;
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

fn at_word(chars: &[char], i: usize) -> bool {
    i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_')
}

/// The identifiers and numbers of the code, with their offsets.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut start = None;
    let mut found = Vec::new();
    for (i, c) in code.char_indices().chain([(code.len(), ' ')]) {
        match (c.is_alphanumeric() || c == '_', start) {
            (true, None) => start = Some(i),
            (false, Some(s)) => {
                found.push((s, &code[s..i]));
                start = None;
            }
            _ => {}
        }
    }
    found.into_iter()
}

/// The line number of an offset.
pub fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

/// The names that stand after `crate::`, one or a group in braces.
pub fn heads(after: &str) -> Vec<String> {
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else {
        return after
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .next()
            .map(str::to_string)
            .into_iter()
            .collect();
    };
    let mut depth = 0;
    let mut names = vec![String::new()];
    let mut in_head = true;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(String::new());
                in_head = true;
            }
            c if c.is_alphanumeric() || c == '_' => {
                if in_head && depth == 0 {
                    names.last_mut().expect("never empty").push(c);
                }
            }
            c if c.is_whitespace() => {}
            _ => in_head = false,
        }
    }
    names
}

/// The path of the module in a file: `src/sys/mount.rs` is `[sys, mount]`.
pub fn module_path(file: &Path) -> Vec<String> {
    let below = file
        .strip_prefix("src")
        .expect("a file of src")
        .with_extension("");
    let mut path: Vec<String> = below
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib" || last == "main")
    {
        path.pop();
    }
    path
}
