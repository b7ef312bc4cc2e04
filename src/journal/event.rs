//! Events: the record of what happened.
//!
//! What it does: defines the lines of a journal. A line is either a system call
//! ([`crate::sys::record::Call`], written by the wrapper itself) or an event of the executor: a
//! step began, a fact was read, a step ended. Lines of both processes stand in one sequence, in
//! the order of time; `pid` tells whose they are.
//! Interface: [`Event`], [`Record`], [`read`]. Read next: [`crate::sys::record`] for the file's
//! format.

use super::{Actor, Stage, Step};
use crate::error::{Context, Error, Kind, Result};
use crate::sys::{line::Name, record};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// When a fact was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the step was applied.
    Before,
    /// After it.
    After,
}

/// A line that the executor writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// An operation on the container begins: `create`, `start`, `exec`, `kill`, `delete`…
    Operation {
        /// Its name.
        name: String,
        /// Seconds since the epoch, as the wall clock had it.
        time: u64,
        /// Nanoseconds on `CLOCK_MONOTONIC`, to place the other lines on the wall clock.
        at: u64,
        /// Who does it.
        pid: i32,
    },
    /// A step begins.
    Begin {
        /// The step's id.
        step: String,
        /// Its stage.
        stage: Stage,
        /// Who takes it.
        actor: Actor,
        /// Why.
        why: String,
        /// The process.
        pid: i32,
        /// Nanoseconds on `CLOCK_MONOTONIC`.
        at: u64,
    },
    /// A fact was read from the kernel for the step that this process is in.
    Fact {
        /// The process.
        pid: i32,
        /// Before or after.
        phase: Phase,
        /// What it is.
        what: String,
        /// Its value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// Why there is no value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unread: Option<String>,
        /// Where it was read.
        source: String,
        /// After: whether it is what was asked for; absent where that cannot be known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        as_expected: Option<bool>,
    },
    /// The step that this process is in ended.
    End {
        /// The step's id.
        step: String,
        /// The process.
        pid: i32,
        /// How long it took, facts not included, in nanoseconds.
        ns: u64,
        /// What went wrong, if something did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A step was taken back.
    Undo {
        /// The step's id.
        step: String,
        /// The process.
        pid: i32,
        /// What went wrong in undoing it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// A line of the executor's.
    Event(Event),
    /// A state-changing system call.
    Call(record::Call),
}

impl Record {
    /// The process that wrote the line.
    pub fn pid(&self) -> i32 {
        match self {
            Record::Call(c) => c.pid,
            Record::Event(
                Event::Operation { pid, .. }
                | Event::Begin { pid, .. }
                | Event::Fact { pid, .. }
                | Event::End { pid, .. }
                | Event::Undo { pid, .. },
            ) => *pid,
        }
    }
}

impl Event {
    /// Writes the event into the recorder of this thread, if one is on.
    pub fn record(&self) {
        if let Some(arena) = record::current() {
            arena.append_json(self);
        }
    }

    /// Writes an [`Event::Begin`] of this moment: it and the end are what every step has, so they
    /// are written from what is there, without a copy.
    pub fn record_begin(step: &Step) {
        if let Some(arena) = record::current() {
            arena.append_line(|line| {
                line.text(Name::Event, "begin").text(Name::Step, &step.id);
                line.text(Name::Stage, step.stage.name());
                line.text(Name::Actor, step.actor.name())
                    .text(Name::Why, &step.why);
                line.signed(Name::Pid, record::pid().into());
                line.number(Name::At, record::now());
            });
        }
    }

    /// Writes an [`Event::End`] of a step that took `ns`.
    pub fn record_end(step: &Step, ns: u64, error: Option<&str>) {
        if let Some(arena) = record::current() {
            arena.append_line(|line| {
                line.text(Name::Event, "end").text(Name::Step, &step.id);
                line.signed(Name::Pid, record::pid().into())
                    .number(Name::Ns, ns);
                line.maybe_text(Name::Error, error);
            });
        }
    }

    /// The event that opens an operation, with both clocks read now.
    pub fn operation(name: &str) -> Event {
        Event::Operation {
            name: name.into(),
            time: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            at: record::now(),
            pid: record::pid(),
        }
    }
}

/// Parses lines as an arena returns them; a line that is no record is left out.
pub fn parse(lines: &[String]) -> Vec<Record> {
    lines
        .iter()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect()
}

/// Reads a journal file. Errors: it does not exist, or is no journal.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let content =
        std::fs::read(path).with_context(|| format!("cannot read the journal {path:?}"))?;
    if !content.starts_with(b"glassbox") {
        return Err(Error::kind(
            Kind::Usage,
            format!("{} is not a journal", path.display()),
        ));
    }
    Ok(parse(&record::read_file(&content)))
}

#[cfg(test)]
mod tests {
    use super::super::Action;
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl Action for Nothing {
        fn calls(&self) -> Vec<super::super::Planned> {
            Vec::new()
        }
        fn apply(&self, _: &mut super::super::Scene) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_by_hand_reads_as_the_event() {
        let arena = record::Arena::anonymous().unwrap();
        record::install(Some(arena.clone()));
        let step = Step::parent(Stage::Cgroups, "a-step", "why \"not\"", Nothing);
        Event::record_begin(&step);
        Event::record_end(&step, 7, Some("it broke"));
        record::install(None);
        let read = parse(&arena.lines(0).0);
        let pid = std::process::id() as i32;
        let [Record::Event(Event::Begin { at, .. }), end] = &read[..] else {
            panic!("{read:?}");
        };
        let begin = Event::Begin {
            step: "a-step".into(),
            stage: Stage::Cgroups,
            actor: Actor::Parent,
            why: "why \"not\"".into(),
            pid,
            at: *at,
        };
        assert_eq!(read[0], Record::Event(begin));
        let ended = Event::End {
            step: "a-step".into(),
            pid,
            ns: 7,
            error: Some("it broke".into()),
        };
        assert_eq!(*end, Record::Event(ended));
    }
}
