//! A process of ours that is root over what an ordinary user's containers have made.
//!
//! An ordinary user has no power over files of other ids, which programs in its containers may have
//! made. Root of a user namespace with the containers' id maps has: so where files have to be read
//! or removed, a process of ours does it in a new one (`ns run --user … -- glassbox WORD …`).
//!
//! What it implements: user_namespaces(7), subuid(5). Interface: [`run`], [`words`]. Read next: `remove.rs` and
//! `files/commit.rs`, whose words it runs.

use super::prepare;
use crate::error::{Error, Result};
use crate::sys::{self, process::Exit};
use std::path::Path;

/// Our program, and the words by which it runs itself again there with these words.
pub const OURS: &str = "/proc/self/exe";

/// See [`OURS`].
pub fn words(words: &[&str]) -> Vec<String> {
    let own = (nix::unistd::geteuid(), nix::unistd::getegid());
    let (uids, gids) = prepare::own_maps(own.0.as_raw(), own.1.as_raw());
    let mut all: Vec<String> = ["ns", "run", "--user"].map(String::from).into();
    for (flag, maps) in [("--map-user", uids), ("--map-group", gids)] {
        for m in maps {
            let map = format!("{}:{}:{}", m.container_id, m.host_id, m.size);
            all.extend([flag.to_string(), map]);
        }
    }
    all.extend(["--", OURS].map(String::from));
    all.extend(words.iter().map(ToString::to_string));
    all
}

/// Runs our program there with these words, which print nothing, to its end. Errors: what it said.
pub fn run(words: &[&str]) -> Result<()> {
    let what = "a process of ours in a user namespace has failed";
    match sys::process::run_program(Path::new(OURS), &self::words(words))? {
        (Exit::Status(0), _) => Ok(()),
        (_, said) => {
            let said = said.trim().trim_start_matches("error: ");
            Err(Error::new(what).caused_by(Error::new(said.replace('\n', "; "))))
        }
    }
}
