//! Records become steps: what one process did between a step's beginning and its end.
//!
//! What it does: a journal is one sequence of lines from two processes. [`Assembler`] sorts them
//! by process, collects each step's calls and facts, and hands the step on when it has ended. A
//! call outside every step (book-keeping of the engine) is handed on alone.
//! Interface: [`Assembler::feed`], [`Assembler::rest`], [`Item`], [`Told`].
//! Read next: `layout.rs`.

use crate::journal::{Actor, Event, Phase, Plan, Record, Stage};
use crate::sys::record::Call;
use std::collections::BTreeMap;

/// A piece of kernel state around a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub what: String,
    pub before: Option<String>,
    /// The value, or why it could not be read.
    pub after: Option<Result<String, String>>,
    pub source: String,
    pub as_expected: Option<bool>,
}

/// One call of a step. `ns` is absent in a plan, where nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    pub call: String,
    pub args: String,
    pub returned: Option<i64>,
    pub errno: Option<String>,
    pub ns: Option<u64>,
}

impl From<&Call> for Made {
    fn from(call: &Call) -> Made {
        Made {
            call: call.call.clone(),
            args: call.args.clone(),
            returned: call.returned,
            errno: call.errno.clone(),
            ns: Some(call.ns),
        }
    }
}

/// A step with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub id: String,
    pub stage: Stage,
    pub actor: Actor,
    pub pid: i32,
    pub why: String,
    pub calls: Vec<Made>,
    pub readings: Vec<Reading>,
    pub ns: Option<u64>,
    pub error: Option<String>,
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// An operation on the container begins; the time is seconds since the epoch.
    Operation(String, u64),
    /// A step has ended (or is all that will be seen of it, as with `execve`).
    Step(Box<Told>),
    /// A call outside every step.
    Outside(Made),
    /// A step was taken back, and perhaps what went wrong.
    Undo(String, Option<String>),
}

/// Collects records until a step is complete.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    open: BTreeMap<i32, Told>,
}

impl Assembler {
    /// Takes the next record; returns what has become complete by it, in order.
    pub fn feed(&mut self, record: &Record) -> Vec<Item> {
        match record {
            Record::Call(call) => match self.open.get_mut(&call.pid) {
                Some(step) => {
                    step.calls.push(call.into());
                    Vec::new()
                }
                None => vec![Item::Outside(call.into())],
            },
            Record::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: &Event) -> Vec<Item> {
        match event {
            Event::Operation { name, time, .. } => {
                let mut items = self.rest();
                items.push(Item::Operation(name.clone(), *time));
                items
            }
            Event::Begin {
                step,
                stage,
                actor,
                why,
                pid,
                ..
            } => {
                let told = Told {
                    id: step.clone(),
                    stage: *stage,
                    actor: *actor,
                    pid: *pid,
                    why: why.clone(),
                    calls: Vec::new(),
                    readings: Vec::new(),
                    ns: None,
                    error: None,
                };
                let unfinished = self.open.insert(*pid, told);
                unfinished
                    .map(|s| Item::Step(Box::new(s)))
                    .into_iter()
                    .collect()
            }
            Event::Fact {
                pid,
                phase,
                what,
                value,
                unread,
                source,
                as_expected,
            } => {
                if let Some(step) = self.open.get_mut(pid) {
                    let reading = match step.readings.iter_mut().find(|r| r.what == *what) {
                        Some(reading) => reading,
                        None => {
                            step.readings.push(Reading {
                                what: what.clone(),
                                before: None,
                                after: None,
                                source: source.clone(),
                                as_expected: None,
                            });
                            step.readings.last_mut().expect("just pushed")
                        }
                    };
                    match phase {
                        Phase::Before => reading.before.clone_from(value),
                        Phase::After => {
                            let why = || unread.clone().unwrap_or_else(|| "no value".into());
                            reading.after = Some(value.clone().ok_or_else(why));
                            reading.as_expected = *as_expected;
                        }
                    }
                }
                Vec::new()
            }
            Event::End { pid, ns, error, .. } => {
                let Some(mut step) = self.open.remove(pid) else {
                    return Vec::new();
                };
                step.ns = Some(*ns);
                step.error.clone_from(error);
                vec![Item::Step(Box::new(step))]
            }
            Event::Undo { step, error, pid } => {
                // A failed init says nothing more: what it was in comes out before the undoing.
                let mut items: Vec<Item> = self
                    .open
                    .remove(pid)
                    .map(|s| Item::Step(Box::new(s)))
                    .into_iter()
                    .collect();
                items.push(Item::Undo(step.clone(), error.clone()));
                items
            }
        }
    }

    /// The steps that have begun and will not be heard of again.
    pub fn rest(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.open)
            .into_values()
            .map(|s| Item::Step(Box::new(s)))
            .collect()
    }
}

/// A plan's steps, as they would be told after the fact, without times and readings.
pub(super) fn planned(plan: &Plan) -> impl Iterator<Item = Told> + '_ {
    plan.steps.iter().map(|step| Told {
        id: step.id.to_string(),
        stage: step.stage,
        actor: step.actor,
        pid: 0,
        why: step.why.to_string(),
        calls: step
            .action
            .calls()
            .into_iter()
            .map(|p| Made {
                call: p.call.into_owned(),
                args: p.args,
                returned: None,
                errno: None,
                ns: None,
            })
            .collect(),
        readings: Vec::new(),
        ns: None,
        error: None,
    })
}

impl Told {
    /// What steps that are told in one line have in common: the stage, and the first word of the
    /// id (`mount-/proc`, `mount-/sys`).
    pub fn kind(&self) -> (Stage, &str) {
        let word = self.id.split(['-', ':', ' ']).next().unwrap_or(&self.id);
        (self.stage, word)
    }

    /// What distinguishes the step from others of its kind: the rest of its id.
    pub fn object(&self) -> &str {
        let word = self.kind().1;
        self.id[word.len()..].trim_start_matches(['-', ':', ' '])
    }

    /// The call that does what the step is for; the others prepare it (opening the file that is
    /// then written, making the directory that is then mounted on).
    pub fn main_call(&self) -> Option<&Made> {
        const PREPARING: &[&str] = &[
            "openat",
            "openat2",
            "open_tree",
            "close",
            "fsopen",
            "fsconfig",
            "fsmount",
            "mount_setattr",
            "fchdir",
            "chdir",
            "fchmodat",
            "fchownat",
            "umask",
            "umount2",
        ];
        const PREPARING_PRCTL: &[&str] = &["PR_SET_KEEPCAPS", "PR_CAP_AMBIENT"];
        let refused = self
            .calls
            .iter()
            .find(|m| m.errno.is_some() && self.error.is_some());
        let done = |m: &&Made| {
            let prepares = PREPARING_PRCTL.iter().any(|p| m.args.starts_with(p));
            let prepares = prepares && m.call == "prctl";
            !prepares && !PREPARING.contains(&m.call.as_str())
        };
        refused
            .or_else(|| self.calls.iter().rev().find(done))
            .or(self.calls.last())
    }

    /// Whether the step is worth a line of its own in the story even among others of its kind.
    pub fn failed(&self) -> bool {
        self.error.is_some() || self.readings.iter().any(|r| r.as_expected == Some(false))
    }
}
