//! Checking: the tasks of a lab against the facts of this moment.
//!
//! What it does: walks the tasks in order. A task whose predecessors have not passed waits; else
//! its checks are read one by one up to the first that fails, and that one's hint fits what was
//! seen. A fact that cannot be read is a failed check which says why.
//! Interface: [`check()`], [`Report`]. Read next: the `lab` subcommand.

use super::{Attempt, Check, Lab, text};
use crate::error::{Error, Result};
use serde::Serialize;

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every check of it holds.
    Passed,
    /// One does not.
    Failed,
    /// A task before it has not passed.
    Waiting,
}

/// The check that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The fact's name.
    pub fact: String,
    /// Its value, or why it could not be read.
    pub saw: String,
    /// What it should have been, in words.
    pub wanted: String,
    /// Advice for what was seen.
    pub hint: Option<String>,
    /// Why only a reset helps.
    pub stuck: Option<String>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub id: String,
    /// What must be so.
    pub say: String,
    /// How it stands.
    pub state: State,
    /// The first check that failed.
    pub seen: Option<Seen>,
}

/// The whole lab at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The lab's name.
    pub lab: String,
    /// Whether every task has passed.
    pub solved: bool,
    /// The tasks in order.
    pub tasks: Vec<TaskReport>,
}

impl Report {
    /// The first task that failed, with what was seen.
    pub fn first_failure(&self) -> Option<(&TaskReport, &Seen)> {
        self.tasks.iter().find_map(|t| Some((t, t.seen.as_ref()?)))
    }
}

/// Checks an attempt. Errors: the lab's own definition is wrong.
pub fn check(lab: &Lab, attempt: &Attempt) -> Result<Report> {
    let definition = lab.definition()?;
    let facts = attempt.facts();
    let mut tasks: Vec<TaskReport> = Vec::new();
    for task in &definition.task {
        let passed = |id: &String| {
            tasks
                .iter()
                .any(|t| t.id == *id && t.state == State::Passed)
        };
        let waits = !task.after.iter().all(passed);
        let mut seen = None;
        if !waits {
            for check in &task.check {
                seen = evaluate(check, attempt, &facts)?;
                if seen.is_some() {
                    break;
                }
            }
        }
        tasks.push(TaskReport {
            id: task.id.clone(),
            say: text::fill(&task.say, |n| attempt.value(n)),
            state: match (waits, &seen) {
                (true, _) => State::Waiting,
                (false, None) => State::Passed,
                (false, Some(_)) => State::Failed,
            },
            seen,
        });
    }
    Ok(Report {
        lab: lab.name.into(),
        solved: tasks.iter().all(|t| t.state == State::Passed),
        tasks,
    })
}

/// `None` when the check holds.
fn evaluate(check: &Check, attempt: &Attempt, facts: &super::facts::Facts) -> Result<Option<Seen>> {
    let (word, form) = match (&check.is, &check.differs, &check.contains, &check.lacks) {
        (Some(f), None, None, None) => ("is", f),
        (None, Some(f), None, None) => ("differs", f),
        (None, None, Some(f), None) => ("contains", f),
        (None, None, None, Some(f)) => ("lacks", f),
        _ => {
            let message = format!("a check of {} needs one comparison", check.fact);
            return Err(Error::new(message));
        }
    };
    let read = facts.read(&check.fact);
    // A fact in the comparison that cannot be read stays as its name, and then nothing equals it.
    let now = |name: &str| attempt.value(name).or_else(|| facts.read(name).ok());
    let wanted = text::fill(form, now);
    let has = |saw: &str| saw.split_whitespace().any(|w| w == wanted);
    let holds = read.as_ref().is_ok_and(|saw| match word {
        "is" => *saw == wanted,
        "differs" => *saw != wanted && !wanted.starts_with('{'),
        "contains" => has(saw),
        _ => !has(saw),
    });
    if holds {
        return Ok(None);
    }
    let (saw, readable) = match read {
        Ok(value) => (value, true),
        Err(e) => (format!("not readable ({e:#})"), false),
    };
    let value = |name: &str| {
        if name == "saw" {
            Some(saw.clone())
        } else {
            now(name)
        }
    };
    let hint = check.hints.iter().find(|h| match &h.saw {
        Some(only) => text::fill(only, value) == saw,
        None => true,
    });
    let hint = match readable {
        true => hint.map(|h| text::fill(&h.say, value)),
        false => Some("it could not be read: is the process yours, and does it still run?".into()),
    };
    let wanted = match word {
        "is" => wanted.clone(),
        "differs" => format!("anything but {wanted}"),
        "contains" => format!("{wanted} among them"),
        _ => format!("no {wanted} among them"),
    };
    Ok(Some(Seen {
        fact: check.fact.clone(),
        saw,
        wanted,
        hint,
        stuck: check.stuck.clone(),
    }))
}
