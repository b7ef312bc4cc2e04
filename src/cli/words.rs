//! Docker's other words: `images` for `image ls`, `container run` for `run`.
//!
//! What it does: docker has most commands twice, as it grew: `rmi` and `image rm`. Here each is
//! written once; the other word is put into its place before anything is parsed, so that help and
//! messages name the one that there is.
//! Interface: [`translate`], [`listing`]. Read next: `mod.rs`.

use std::ffi::OsString;

/// One word for two.
const SHORT: &[(&str, [&str; 2])] = &[
    ("history", ["image", "history"]),
    ("images", ["image", "ls"]),
    ("import", ["image", "import"]),
    ("info", ["system", "info"]),
    ("load", ["image", "load"]),
    ("rmi", ["image", "rm"]),
    ("save", ["image", "save"]),
    ("tag", ["image", "tag"]),
];

/// Two words for one or more.
const LONG: &[([&str; 2], &[&str])] = &[
    (["container", "ls"], &["ps"]),
    (["container", "list"], &["ps"]),
    (
        ["container", "inspect"],
        &["inspect", "--type", "container"],
    ),
    (["image", "pull"], &["pull"]),
    (["image", "push"], &["push"]),
    (["system", "events"], &["events"]),
];

/// What `container` leaves to the commands of that name.
const OF_CONTAINERS: &[&str] = &[
    "attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port",
    "ps", "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update",
    "wait",
];

/// Puts our words into the place of docker's, at the beginning of a command line.
pub fn translate(args: &mut Vec<OsString>) {
    let word = |at: usize| args.get(at).and_then(|a| a.to_str()).unwrap_or("");
    let (first, second) = (word(1), word(2));
    let (taken, ours): (usize, &[&str]) = match first {
        "container" if OF_CONTAINERS.contains(&second) => (1, &[]),
        _ => {
            let long = LONG.iter().find(|(theirs, _)| *theirs == [first, second]);
            let short = SHORT.iter().find(|(theirs, _)| *theirs == first);
            match (long, short) {
                (Some((_, ours)), _) => (2, *ours),
                (None, Some((_, ours))) => (1, ours.as_slice()),
                (None, None) => return,
            }
        }
    };
    args.splice(1..1 + taken, ours.iter().map(OsString::from));
}

/// What help says of them.
pub fn listing() -> String {
    let short: Vec<&str> = SHORT.iter().map(|(word, _)| *word).collect();
    format!("{}, `container COMMAND`", short.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_alone_are_translated() {
        let ours = |line: &str| {
            let mut args: Vec<OsString> = line.split(' ').map(Into::into).collect();
            translate(&mut args);
            let args: Vec<_> = args.iter().map(|a| a.to_str().unwrap_or("?")).collect();
            args.join(" ")
        };
        assert_eq!(ours("glassbox rmi -f a"), "glassbox image rm -f a");
        assert_eq!(ours("glassbox container ls -a"), "glassbox ps -a");
        assert_eq!(
            ours("glassbox container run lab images"),
            "glassbox run lab images"
        );
        assert_eq!(ours("glassbox container prune"), "glassbox container prune");
        assert_eq!(ours("glassbox run images"), "glassbox run images");
        assert_eq!(ours("glassbox image pull a"), "glassbox pull a");
    }
}
