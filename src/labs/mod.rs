//! The labs: tasks whose checks read the kernel.
//!
//! What it does: a lab is a folder `labs/NN-name/` with its text (`README.md`), its checks
//! (`lab.toml`), its solutions and its wrong answers. A learner starts it, builds what it asks for
//! with any tool, and the checker, outside the learner's process, reads from the kernel whether it
//! is there. Values made fresh for each learner (the nonce) go into names and sizes, so an answer
//! cannot be copied.
//!
//! The form of `lab.toml`:
//!
//! ```text
//! number, title, goal, topics
//! [values]          NAME = "text with {nonce} or {number:LOW:HIGH:STEP}"
//! [[task]]          id, say, after = [tasks that must pass before]
//! [[task.check]]    fact, and one of is, differs, contains, lacks (texts with {placeholders});
//!                   hints = [{ saw = "…", say = "…" }]: the first whose `saw` is what was seen,
//!                   or that has none; stuck = "why only a reset helps"
//! ```
//!
//! Placeholders are the lab's values, `{dir}`, `{nonce}`, `{saw}`, the facts of `facts.rs` by name
//! (`{host.ns.uts}`, `{process.ns.user}`), and `{start.FACT}`: a fact as it was when the lab was
//! started.
//!
//! Interface: [`all`], [`find`], [`Lab`], [`Attempt`], [`check()`].
//! Read next: `facts.rs`, `check.rs`, `attempt.rs`, then `labs/03-uts-and-ipc/`.

mod attempt;
mod check;
mod facts;
mod text;

pub use attempt::{Attempt, Leftover};
pub use check::{Report, Seen, State, TaskReport, check};

use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A lab as it is embedded in the binary.
#[derive(Debug)]
pub struct Lab {
    /// Its folder's name: `03-uts-and-ipc`.
    pub name: &'static str,
    readme: &'static str,
    toml: &'static str,
    /// Its solutions: file name and content.
    pub solutions: &'static [(&'static str, &'static str)],
}

macro_rules! labs {
    ($($name:literal: [$($solution:literal),+]);+ $(;)?) => {
        const LABS: &[Lab] = &[$(Lab {
            name: $name,
            readme: include_str!(concat!("../../labs/", $name, "/README.md")),
            toml: include_str!(concat!("../../labs/", $name, "/lab.toml")),
            solutions: &[$((
                $solution,
                include_str!(concat!("../../labs/", $name, "/solutions/", $solution)),
            )),+],
        }),+];
    };
}

labs! {
    "03-uts-and-ipc": ["unshare.sh", "glassbox.sh", "syscalls.py"];
}

/// The content of `lab.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its number in the curriculum.
    pub number: u32,
    /// Its title.
    pub title: String,
    /// What will be there in the end, in one sentence.
    pub goal: String,
    /// The topics to read before.
    pub topics: Vec<String>,
    /// Values made fresh for each learner.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// The tasks, in order.
    pub task: Vec<Task>,
}

/// One task of a lab.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name.
    pub id: String,
    /// What must be so, in words.
    pub say: String,
    /// The tasks without which it makes no sense to look.
    #[serde(default)]
    pub after: Vec<String>,
    /// What is read and what it must be.
    pub check: Vec<Check>,
}

/// One comparison of a fact. Exactly one of `is`, `differs`, `contains` and `lacks` is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The fact's name.
    pub fact: String,
    /// It must be this.
    pub is: Option<String>,
    /// It must be something else than this.
    pub differs: Option<String>,
    /// Its words must include this.
    pub contains: Option<String>,
    /// Its words must not include this.
    pub lacks: Option<String>,
    /// What to say when it is not so.
    #[serde(default)]
    pub hints: Vec<Hint>,
    /// Why nothing but a reset helps, when it is not so.
    pub stuck: Option<String>,
}

/// Advice that depends on what was seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// For this value alone; without it for any.
    pub saw: Option<String>,
    /// The advice.
    pub say: String,
}

/// All labs in order.
pub fn all() -> &'static [Lab] {
    LABS
}

/// The lab with this number or name (`3`, `03`, `uts-and-ipc`, `03-uts-and-ipc`).
/// Errors: there is none; the hint lists what there is.
pub fn find(name: &str) -> Result<&'static Lab> {
    let number = name.parse::<u32>().ok();
    LABS.iter()
        .find(|lab| {
            let (digits, rest) = lab.name.split_once('-').unwrap_or((lab.name, ""));
            lab.name == name || rest == name || (number.is_some() && digits.parse().ok() == number)
        })
        .ok_or_else(|| {
            let names: Vec<&str> = LABS.iter().map(|l| l.name).collect();
            Error::kind(Kind::NotFound, format!("there is no lab {name:?}"))
                .hint(format!("the labs of this version: {}", names.join(", ")))
        })
}

impl Lab {
    /// Its checks. Errors: the embedded text is wrong, which a test excludes.
    pub fn definition(&self) -> Result<Definition> {
        toml::from_str(self.toml).map_err(|e| {
            Error::new(format!("the checks of lab {} cannot be read", self.name)).caused_by(e)
        })
    }
    /// Its text, with the learner's values in place.
    pub fn text(&self, attempt: &Attempt) -> String {
        text::fill(self.readme, |name| attempt.value(name))
    }
}
