//! Ids and names of containers.
//!
//! What it does: makes random ids (64 hex digits, shown as the first 12) and readable names
//! (`adjective_noun`), and says which names a user may choose.
//! Interface: [`new_id`], [`short`], [`generate`], [`check`]. Read next: `store.rs`.

use crate::error::{Error, Kind, Result};
use crate::sys::ask::getrandom;

const ADJECTIVES: &[&str] = &[
    "airy", "amber", "ample", "bold", "brief", "bright", "brisk", "calm", "clear", "clever",
    "cosy", "crisp", "curious", "deft", "eager", "early", "fair", "fleet", "fond", "frank",
    "fresh", "gentle", "glad", "golden", "honest", "humble", "keen", "kind", "lively", "loyal",
    "lucid", "mellow", "merry", "mild", "neat", "nimble", "noble", "open", "patient", "plain",
    "polite", "proud", "quick", "quiet", "rapid", "ready", "robust", "serene", "sharp", "silver",
    "smooth", "snug", "sober", "solid", "steady", "sturdy", "subtle", "sunny", "tidy", "vivid",
    "warm", "wise", "witty", "zesty",
];
const NOUNS: &[&str] = &[
    "acorn", "anchor", "apple", "arch", "aspen", "badger", "barn", "beacon", "birch", "brook",
    "canal", "canoe", "cedar", "clover", "cobalt", "comet", "coral", "crane", "dune", "ember",
    "falcon", "fern", "fjord", "flint", "gable", "garnet", "glade", "harbor", "hazel", "heron",
    "iris", "island", "juniper", "kelp", "kestrel", "lagoon", "lantern", "larch", "linnet",
    "maple", "marble", "meadow", "mesa", "mirror", "moss", "oasis", "opal", "otter", "pane",
    "pebble", "pine", "prism", "quartz", "raven", "reed", "ridge", "robin", "sparrow", "spruce",
    "tern", "thistle", "valley", "willow", "wren",
];

/// A fresh id. The first 12 digits are never all decimal, so that the short id, which is the
/// default host name, cannot be taken for a number.
pub fn new_id() -> Result<String> {
    loop {
        let bytes: [u8; 32] = getrandom()?;
        let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        if id[..12].bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// The first 12 characters, as listings show an id.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A readable name that `taken` does not hold.
pub fn generate(taken: impl Fn(&str) -> bool) -> Result<String> {
    for attempt in 0.. {
        let [a, b, c]: [u8; 3] = getrandom()?;
        let mut name = format!(
            "{}_{}",
            ADJECTIVES[usize::from(a) % ADJECTIVES.len()],
            NOUNS[usize::from(b) % NOUNS.len()]
        );
        if attempt > 8 {
            name += &c.to_string();
        }
        if !taken(&name) {
            return Ok(name);
        }
    }
    unreachable!("the range has no end")
}

/// Whether a user may give a container this name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, as in docker.
pub fn check(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let fits = bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
    if fits && bytes.len() <= 128 {
        return Ok(());
    }
    Err(Error::kind(
        Kind::Usage,
        format!("invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    )
    .hint("two characters at least, 128 at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names() {
        let id = new_id().unwrap();
        assert_eq!((id.len(), short(&id).len()), (64, 12));
        assert_ne!(id, new_id().unwrap());
        let name = generate(|_| false).unwrap();
        check(&name).unwrap();
        let mut calls = std::cell::Cell::new(0);
        let other = generate(|_| calls.replace(calls.get() + 1) < 20).unwrap();
        assert!(*calls.get_mut() == 21 && other.ends_with(|c: char| c.is_ascii_digit()));
        for bad in ["", "a", "-ab", "a b", "a/b", "ü1"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
