//! The house rules, held by a test: who may import whom, how long a file is, what every file opens
//! with, where `unsafe` lives and who prints.
//!
//! Host only: it reads the source, which is the same anywhere.
//!
//! The rules are data ([`ROWS`] is the table of ARCHITECTURE.md). Where one proves wrong, change it
//! here and there, and say why in the commit.

mod common;

use common::source::{code_only, heads, line_of, module_path, words};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module of the crate, its row, and which modules of lower rows it must not import all the same
/// (`never`) or, in place of everything below, may import (`only`).
struct Module {
    name: &'static str,
    row: u8,
    never: &'static [&'static str],
    only: Option<&'static [&'static str]>,
}

const fn module(name: &'static str, row: u8) -> Module {
    Module {
        name,
        row,
        never: &[],
        only: None,
    }
}

/// The import rule. A module imports only from lower rows; siblings of one row never import each
/// other, but for the two pairs in [`SIBLINGS`].
const ROWS: &[Module] = &[
    Module {
        only: Some(&[]),
        ..module("sys", 0)
    },
    Module {
        only: Some(&["sys"]),
        ..module("error", 0)
    },
    Module {
        only: Some(&["error"]),
        ..module("ui", 0)
    },
    module("files", 1),
    module("journal", 1),
    module("host", 1),
    module("spec", 1),
    module("namespaces", 2),
    module("cgroups", 2),
    module("layers", 2),
    module("network", 2),
    module("security", 2),
    Module {
        never: &["namespaces", "cgroups", "network", "security"],
        ..module("images", 3)
    },
    Module {
        never: &["images"],
        ..module("runtime", 3)
    },
    module("registry", 4),
    module("inspect", 4),
    module("containers", 5),
    module("build", 5),
    module("daemon", 6),
    module("compose", 7),
    module("labs", 7),
    module("explain", 7),
    module("cli", 8),
];

/// Imports inside row 0, which the design allows.
const SIBLINGS: &[(&str, &str)] = &[("error", "sys"), ("ui", "error")];

const LINES_AT_MOST: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository, with its path relative to the top.
fn rust_files() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for top in ["src", "tests", "benches", "labs", "fuzz"] {
        collect(&root().join(top), "rs", &mut files);
    }
    assert!(
        files.len() > 20,
        "the walk over the sources found only {} files",
        files.len()
    );
    files.sort();
    files
}

fn collect(directory: &Path, extension: &str, into: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && name != "snapshots" {
                collect(&path, extension, into);
            }
        } else if path.extension().is_some_and(|e| e == extension)
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let path = path
                .strip_prefix(root())
                .expect("below the top")
                .to_path_buf();
            into.push((path, text));
        }
    }
}

/// Which top modules a file names, with the line.
fn imports(file: &Path, text: &str) -> Vec<(String, usize)> {
    let code = code_only(text);
    let own = module_path(file);
    let tests_from = code.find("#[cfg(test)]\nmod ").unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("crate::") {
        let heads = heads(&code[offset + "crate::".len()..]);
        found.extend(heads.into_iter().map(|h| (h, line_of(&code, offset))));
    }
    for (offset, _) in code.match_indices("super::") {
        if code[..offset].ends_with("super::") {
            continue; // the middle of a chain, which its first link counts
        }
        let mut rest = &code[offset..];
        let mut up = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            up += 1;
        }
        // Inside `mod tests` the first `super` is the file itself.
        let depth = own.len() + usize::from(offset > tests_from);
        if up >= depth && up > 0 {
            found.extend(heads(rest).into_iter().map(|h| (h, line_of(&code, offset))));
        }
    }
    found
}

fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n  {}\n", findings.join("\n  "));
}

#[test]
fn modules_import_only_downwards() {
    let rows: BTreeMap<&str, &Module> = ROWS.iter().map(|m| (m.name, m)).collect();
    let mut findings = Vec::new();
    let mut seen = 0;
    for (file, text) in rust_files() {
        if !file.starts_with("src") {
            continue;
        }
        let path = module_path(&file);
        let Some(own) = path.first() else { continue }; // lib.rs and main.rs see everything
        let Some(importer) = rows.get(own.as_str()) else {
            findings.push(format!("{}: module {own} has no row", file.display()));
            continue;
        };
        for (name, line) in imports(&file, &text) {
            let Some(imported) = rows.get(name.as_str()) else {
                continue;
            };
            seen += 1;
            if imported.name == importer.name {
                continue;
            }
            let sibling = SIBLINGS.contains(&(importer.name, imported.name));
            let allowed = match importer.only {
                Some(only) => only.contains(&imported.name),
                None => imported.row < importer.row && !importer.never.contains(&imported.name),
            };
            if !allowed && !sibling {
                findings.push(format!(
                    "{}:{line}: {} (row {}) must not import {} (row {})",
                    file.display(),
                    importer.name,
                    importer.row,
                    imported.name,
                    imported.row
                ));
            }
        }
    }
    assert!(
        seen > 20,
        "the parser of imports found only {seen}: it is broken"
    );
    report(findings);
}

#[test]
fn the_import_parser_sees_every_form() {
    let text = "use crate::ui;\nuse crate::{sys::{fs, tty}, error::Result};\n\
                use super::super::cli;\nlet x = \"crate::labs\"; // crate::labs\n\
                #[cfg(test)]\nmod tests {\n use super::super::super::host;\n use super::super::y;\n}";
    let names: Vec<String> = imports(Path::new("src/explain/topics.rs"), text)
        .into_iter()
        .map(|i| i.0)
        .collect();
    assert_eq!(names, ["ui", "sys", "error", "cli", "host"]);
}

#[test]
fn every_file_opens_with_what_it_does() {
    let findings = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(file, _)| format!("{}: the first line is no `//!` doc", file.display()))
        .collect();
    report(findings);
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let findings = rust_files()
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_AT_MOST)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    report(findings);
}

#[test]
fn unsafe_lives_in_sys_alone() {
    let mut findings = Vec::new();
    for (file, text) in rust_files() {
        if file.starts_with("src/sys") || !file.starts_with("src") {
            continue;
        }
        let code = code_only(&text);
        for (offset, word) in words(&code) {
            if word == "unsafe" || word == "unsafe_code" {
                findings.push(format!(
                    "{}:{}: {word}",
                    file.display(),
                    line_of(&code, offset)
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn only_ui_prints() {
    let mut findings = Vec::new();
    for (file, text) in rust_files() {
        if file.starts_with("src/ui") || !file.starts_with("src") {
            continue;
        }
        // Tests inside a file may say why they are skipped.
        let code = code_only(&text);
        let code = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (offset, word) in words(code) {
            let printing = ["println", "eprintln", "print", "eprint", "dbg"].contains(&word);
            if printing && code[offset + word.len()..].starts_with('!') {
                findings.push(format!(
                    "{}:{}: {word}!",
                    file.display(),
                    line_of(code, offset)
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn nothing_is_left_to_do_and_no_test_is_ignored() {
    let mut findings = Vec::new();
    for (file, text) in rust_files() {
        let code = code_only(&text);
        for (offset, word) in words(&code) {
            let next = &code[offset + word.len()..];
            let bad = (["todo", "unimplemented"].contains(&word) && next.starts_with('!'))
                || (word == "ignore" && code[..offset].ends_with("#["));
            if bad {
                findings.push(format!(
                    "{}:{}: {word}",
                    file.display(),
                    line_of(&code, offset)
                ));
            }
        }
        for (number, line) in text.lines().enumerate() {
            // Spelt in two halves, or this file would find itself.
            for mark in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("XX", "X"),
            ] {
                if words(line).any(|(_, word)| word == mark) {
                    findings.push(format!("{}:{}: {mark}", file.display(), number + 1));
                }
            }
        }
    }
    report(findings);
}

#[test]
fn names_are_the_fields() {
    let mut findings = Vec::new();
    for (file, _) in rust_files() {
        for part in file.iter() {
            let part = part.to_string_lossy().to_lowercase();
            if ["manager", "helper", "util"]
                .iter()
                .any(|bad| part.contains(bad))
            {
                findings.push(format!(
                    "{}: say what it holds, not that it helps",
                    file.display()
                ));
            }
        }
    }
    report(findings);
}

#[test]
fn every_file_belongs_to_the_build() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    assert!(
        !manifest.contains("autotests = false"),
        "tests would be forgotten silently"
    );
    let files = rust_files();
    let mut declared: BTreeSet<PathBuf> = BTreeSet::new();
    for (file, text) in &files {
        let code = code_only(text);
        let directory = match file.file_stem().and_then(|s| s.to_str()) {
            Some("mod" | "lib" | "main") => file.parent().expect("in a folder").to_path_buf(),
            // The root of a test crate looks for its modules beside itself.
            _ if file.parent() == Some(Path::new("tests")) => PathBuf::from("tests"),
            _ => file.with_extension(""),
        };
        let mut previous = "";
        for (offset, word) in words(&code) {
            let after = code[offset + word.len()..].trim_start();
            if previous == "mod" && after.starts_with(';') {
                declared.insert(directory.join(word).with_extension("rs"));
                declared.insert(directory.join(word).join("mod.rs"));
            }
            previous = word;
        }
        for path in text.split("#[path = \"").skip(1) {
            let name = path.split('"').next().unwrap_or_default();
            declared.insert(file.parent().expect("in a folder").join(name));
        }
        // cli/mod.rs declares its modules through a macro's table: `ns "ns"`.
        if file == Path::new("src/cli/mod.rs") {
            let table = text
                .split("commands! {")
                .nth(1)
                .and_then(|t| t.split("\n}").next());
            for (_, word) in words(table.expect("the table of subcommands")) {
                declared.insert(directory.join(word).with_extension("rs"));
                declared.insert(directory.join(word).join("mod.rs"));
            }
        }
    }
    let findings = files
        .iter()
        .map(|(file, _)| file)
        .filter(|file| {
            let top = file
                .parent()
                .is_some_and(|p| p == Path::new("tests") || p == Path::new("benches"));
            let is_root = ["src/lib.rs", "src/main.rs"]
                .iter()
                .any(|r| file == &Path::new(r));
            let test_crate = file.starts_with("tests") && file.ends_with("main.rs");
            (file.starts_with("src") || file.starts_with("tests"))
                && !top
                && !is_root
                && !test_crate
                && !declared.contains(*file)
        })
        .map(|file| format!("{}: no `mod` names it", file.display()))
        .collect();
    report(findings);
}

#[test]
fn every_topic_that_an_error_names_exists() {
    let mut findings = Vec::new();
    for (file, text) in rust_files() {
        if !file.starts_with("src") || file == Path::new("src/error.rs") {
            continue;
        }
        for (offset, _) in text.match_indices(".topic(\"") {
            let name = text[offset + 8..].split('"').next().unwrap_or("");
            if glassbox::explain::topics::find(name).is_none() {
                let line = line_of(&text, offset);
                findings.push(format!("{}:{line}: no topic {name:?}", file.display()));
            }
        }
    }
    report(findings);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let mut files = rust_files();
    for (top, extension) in [
        ("book", "md"),
        ("labs", "md"),
        ("labs", "toml"),
        ("labs", "sh"),
    ] {
        collect(&root().join(top), extension, &mut files);
    }
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "Cargo.toml",
        ".ci/run",
    ] {
        if let Ok(text) = std::fs::read_to_string(root().join(name)) {
            files.push((name.into(), text));
        }
    }
    let mut findings = Vec::new();
    for (file, text) in files {
        for place in [
            concat!("/wo", "rk/gb"),
            concat!("/wo", "rk/main"),
            concat!("/wo", "rk/shared"),
        ] {
            if let Some(offset) = text.find(place) {
                findings.push(format!(
                    "{}:{}: {place}",
                    file.display(),
                    line_of(&text, offset)
                ));
            }
        }
    }
    report(findings);
}
