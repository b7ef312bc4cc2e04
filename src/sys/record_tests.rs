//! Tests of the recorder: `record.rs`.

use super::*;

#[test]
fn lines_come_back_in_order_and_torn_ones_do_not() {
    let arena = Arena::anonymous().unwrap();
    arena.append("one");
    let (lines, next) = arena.lines(0);
    assert_eq!(lines, ["one"]);
    arena.header(1).fetch_add(12, Ordering::AcqRel); // a writer killed after reserving
    let at = arena.reserve(12).unwrap();
    arena.head(at).store(7 << 2 | JSON, Ordering::Release);
    arena.fill(at + 4, b"tor"); // and one killed while it copied
    assert!(arena.reserve_word().is_some());
    arena.append("two");
    assert_eq!(arena.lines(next).0, ["two"]);
}

#[test]
fn a_full_arena_counts_what_it_leaves_out() {
    let arena = Arena::anonymous().unwrap();
    let long = "x".repeat(CAPACITY / 2);
    arena.append(&long);
    arena.append(&long);
    arena.append("fits");
    assert_eq!(arena.dropped(), 1);
    assert_eq!(arena.lines(0).0.last().map(String::as_str), Some("fits"));
    // Saved at the moment when another has reserved what does not fit, and will give it back.
    let file = tempfile::tempfile().unwrap();
    let end = arena.header(1).fetch_add(CAPACITY as u64, Ordering::AcqRel);
    arena.save(&file).unwrap();
    arena.header(1).store(end, Ordering::Release);
    arena.save(&file).unwrap();
}

#[test]
fn a_file_is_the_journal_on_disk() {
    let file = tempfile::tempfile().unwrap();
    let arena = Arena::in_file(&file).unwrap();
    arena.append("kept");
    drop(arena);
    let again = Arena::in_file(&file).unwrap();
    again.append("appended");
    assert_eq!(again.lines(0).0, ["kept", "appended"]);
}

#[test]
fn memory_is_saved_to_a_new_journal_and_to_one_that_goes_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for line in ["first", "second"] {
        let arena = Arena::anonymous().unwrap();
        arena.append(line);
        arena.save(file.as_file()).unwrap();
        arena.append("later");
        arena.save(file.as_file()).unwrap();
    }
    let content = std::fs::read(file.path()).unwrap();
    let all = ["first", "later", "second", "later"];
    assert_eq!(read_file(&content), all);
    let mapped = Arena::in_file(file.as_file()).unwrap();
    mapped.append("third");
    assert_eq!(mapped.lines(0).0, [&all[..], &["third"]].concat());
    // A file that was taken away meanwhile begins anew.
    let (other, arena) = (
        tempfile::NamedTempFile::new().unwrap(),
        Arena::anonymous().unwrap(),
    );
    arena.append("gone with the file");
    arena.save(file.as_file()).unwrap();
    arena.append("kept");
    arena.save(other.as_file()).unwrap();
    assert_eq!(read_file(&std::fs::read(other.path()).unwrap()), ["kept"]);
}
