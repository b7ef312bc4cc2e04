//! Tables of a specification's MUSTs (`tests/*_musts.md`): each row names a test that exists.
//!
//! Interface: [`table`]. Read next: `tests/runtime_musts.md`, `tests/distribution_musts.md`.

use std::path::Path;

/// Asserts that every row of a table has a test, or says why not; and that there are this many.
#[track_caller]
pub fn table(name: &str, least: usize) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |name: &str| std::fs::read_to_string(tests.join(name)).unwrap_or_default();
    let mut wrong = Vec::new();
    let table = read(name);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|l| l.starts_with('|') && !l.starts_with("|--"))
        .skip(1)
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= least, "the table is whole");
    for row in &rows {
        let [place, what, by] = row[..] else {
            wrong.push(format!("three columns: {row:?}"));
            continue;
        };
        if by.starts_with("not shown") {
            continue;
        }
        let exists = by.split_once("::").is_some_and(|(file, function)| {
            let test = format!("#[test]\nfn {function}()");
            read(&format!("{file}.rs")).contains(&test)
        });
        if !exists {
            wrong.push(format!("{place}, {what}: there is no test {by:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
