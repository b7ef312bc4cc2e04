//! The book and the README: what they quote exists, what they link to exists, and every glassbox
//! command that they show is one that the binary would take.
//!
//! Any kernel: it reads texts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(dir: &Path, extension: &str, into: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, extension, into);
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = std::fs::read_to_string(&path).expect("text");
            into.push((path, text));
        }
    }
}

/// The book's pages, the labs' texts, and the documents at the top.
fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    collect(&top().join("book/src"), "md", &mut pages);
    collect(&top().join("labs"), "md", &mut pages);
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        let path = top().join(name);
        let text = std::fs::read_to_string(&path).expect(name);
        pages.push((path, text));
    }
    pages
}

/// The lines between `ANCHOR: name` and `ANCHOR_END: name`, as mdBook finds them.
fn anchored<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let is = |line: &str, mark: &str| {
        line.split_once(mark)
            .is_some_and(|(_, rest)| rest.trim() == name)
    };
    let mut lines = text.lines().skip_while(|l| !is(l, "ANCHOR:"));
    lines.next()?;
    let mut body = Vec::new();
    for line in lines {
        if is(line, "ANCHOR_END:") {
            return Some(body);
        }
        body.push(line);
    }
    None
}

#[test]
fn every_quotation_of_code_is_found_by_its_name_and_every_name_is_quoted() {
    let mut quoted = BTreeSet::new();
    for (page, text) in pages() {
        for include in text.split("{{#include ").skip(1) {
            let target = include.split("}}").next().expect("closed");
            let (file, anchor) = target.split_once(':').expect("quotes are by name");
            let path = page.parent().expect("in a folder").join(file);
            let code = std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("{}: {}: {e}", page.display(), path.display()));
            let lines = anchored(&code, anchor)
                .unwrap_or_else(|| panic!("{}: no anchor {anchor} in {file}", page.display()));
            assert!(
                (2..60).contains(&lines.len()),
                "{anchor}: {} lines",
                lines.len()
            );
            quoted.insert(anchor.to_string());
        }
    }
    assert!(!quoted.is_empty());
    let mut sources = Vec::new();
    collect(&top().join("src"), "rs", &mut sources);
    for (path, text) in sources {
        for line in text
            .lines()
            .filter(|l| l.trim_start().starts_with("// ANCHOR: "))
        {
            let name = line.trim_start().trim_start_matches("// ANCHOR: ");
            assert!(
                quoted.contains(name),
                "{}: nobody quotes {name}",
                path.display()
            );
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            if target.is_empty() || target.starts_with("http") || target.starts_with('#') {
                continue;
            }
            let file = target.split('#').next().unwrap_or(target);
            let path = page.parent().expect("in a folder").join(file);
            assert!(path.exists(), "{}: {target} leads nowhere", page.display());
        }
    }
}

#[test]
fn the_summary_lists_every_page() {
    let summary = std::fs::read_to_string(top().join("book/src/SUMMARY.md")).expect("SUMMARY.md");
    let mut pages = Vec::new();
    collect(&top().join("book/src"), "md", &mut pages);
    for (path, _) in pages {
        let name = path
            .strip_prefix(top().join("book/src"))
            .expect("below")
            .display()
            .to_string();
        assert!(
            name == "SUMMARY.md" || summary.contains(&format!("({name})")),
            "{name} is in no table of contents"
        );
    }
}

/// The glassbox commands of a line of shell, as argument lists: enough of a shell's grammar to
/// know where a command begins and ends. A line with a here-document or a loop is not looked at.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut end = |words: &mut Vec<String>| {
        if let Some(at) = words.iter().position(|w| w == "glassbox") {
            // A word before it (`time`, `eval "$(`) is not its argument.
            found.push(words.split_off(at));
        }
        words.clear();
    };
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';' | '|' | '&' | '<' | '>' | ')' | '(') => {
                words.extend(word.take());
                end(&mut words);
                if c == '>' || c == '<' {
                    break; // what follows is a file's name
                }
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    end(&mut words);
    found
}

#[test]
fn shell_lines_are_cut_into_commands() {
    let line = "x=1; glassbox run --rm lab sh -c 'a; b' && time glassbox ps | head # glassbox no";
    let expected = [
        vec!["glassbox", "run", "--rm", "lab", "sh", "-c", "a; b"],
        vec!["glassbox", "ps"],
    ];
    assert_eq!(commands(line), expected);
}

#[test]
fn every_command_shown_is_one_that_the_binary_takes() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        let mut in_shell = false;
        for line in text.lines() {
            if line.starts_with("```") {
                in_shell = line == "```sh";
                continue;
            }
            if !in_shell {
                continue;
            }
            let line = line.replace("cargo run --release --", "glassbox");
            for command in commands(&line) {
                seen += 1;
                let refused = match glassbox::cli::whole_tree().try_get_matches_from(&command) {
                    Ok(_) => None,
                    Err(e) if !e.use_stderr() => None, // --help and --version
                    Err(e) => Some(e.to_string()),
                };
                if let Some(why) = refused {
                    let why = why.lines().next().unwrap_or("").to_string();
                    let page = page.strip_prefix(top()).expect("below").display();
                    wrong.push(format!("{page}: {}\n      {why}", command.join(" ")));
                }
            }
        }
    }
    assert!(
        seen > 80,
        "only {seen} commands were found: the reader of shell lines is broken"
    );
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}
