//! The narrator: a set-up told while it happens, before it happens, or long after.
//!
//! What it does: three depths. [`Depth::Story`] is about one screen that a newcomer can follow:
//! stages with their purpose, one line and one reason a step, steps of one kind merged.
//! [`Depth::All`] has every call with its arguments, result and time, and every fact with its
//! source. [`Depth::Json`] is the record itself, one line each.
//!
//! ```text
//! 2 cgroups     limit what it may use
//!   write       memory.max ← 67108864                              0.02 ms
//!               above this the kernel reclaims, then kills; read back 67108864 ✓
//! ```
//!
//! The narration goes to stderr, so the container's stdout stays clean.
//! Interface: [`Narrator`] (a [`Watch`]; finishes when dropped), [`render_plan`],
//! [`render_journal`]. Read next: `layout.rs` for the lines.

use super::layout::Layout;
use super::told::{Assembler, planned};
use crate::journal::{Plan, Record, Watch};
use crate::ui;

/// How much to tell. On the command line: `--explain`, `--explain=all`, `--explain=json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Depth {
    /// About one screen: each stage, its steps, their reasons.
    #[default]
    Story,
    /// Every call with its arguments, result and time; every fact with its source.
    All,
    /// The record, one JSON line each.
    Json,
}

/// Tells a set-up on stderr while it happens. Dropping it tells the rest and the sum.
#[derive(Debug)]
pub struct Narrator {
    depth: Depth,
    assembler: Assembler,
    layout: Layout,
    finished: bool,
}

impl Narrator {
    /// A narrator on stderr, in colour where stderr is a terminal.
    pub fn new(depth: Depth) -> Narrator {
        Narrator {
            depth,
            assembler: Assembler::default(),
            layout: Layout::new(depth, ui::colour_stderr()),
            finished: false,
        }
    }

    /// Tells what is still open and the sum. Called by drop; call it earlier to be sure that all
    /// is told before something else (the container's own output) begins.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) || self.depth == Depth::Json {
            return;
        }
        let mut lines = Vec::new();
        for item in self.assembler.rest() {
            lines.extend(self.layout.item(item));
        }
        lines.extend(self.layout.end());
        print_all(&lines);
    }
}

fn print_all(lines: &[String]) {
    if !lines.is_empty() {
        ui::note(lines.join("\n")); // one write: lines of two processes do not mix
    }
}

impl Watch for Narrator {
    fn record(&mut self, record: &Record) {
        if self.depth == Depth::Json {
            if let Ok(line) = serde_json::to_string(record) {
                ui::note(line);
            }
            return;
        }
        let items = self.assembler.feed(record);
        let lines: Vec<String> = items
            .into_iter()
            .flat_map(|i| self.layout.item(i))
            .collect();
        print_all(&lines);
    }

    fn last_word(&mut self) {
        self.finish();
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A plan as text: what would be done, by whom, and why. `Depth::Json` is the plan's own JSON.
pub fn render_plan(plan: &Plan, depth: Depth, colour: bool) -> String {
    if depth == Depth::Json {
        return serde_json::to_string_pretty(plan).unwrap_or_default();
    }
    let mut layout = Layout::new(depth, colour);
    let mut lines: Vec<String> = planned(plan).flat_map(|step| layout.step(step)).collect();
    lines.extend(layout.end_of_plan());
    lines.extend(
        plan.warnings
            .iter()
            .map(|w| format!("{} {w}", ui::styled("warning:", ui::Style::Notice, colour))),
    );
    lines.join("\n")
}

/// A journal as text. `Depth::Json` is its records, one a line.
pub fn render_journal(records: &[Record], depth: Depth, colour: bool) -> String {
    if depth == Depth::Json {
        let lines = records.iter().filter_map(|r| serde_json::to_string(r).ok());
        return lines.collect::<Vec<_>>().join("\n");
    }
    let mut assembler = Assembler::default();
    let mut layout = Layout::new(depth, colour);
    let mut lines = Vec::new();
    for record in records {
        for item in assembler.feed(record) {
            lines.extend(layout.item(item));
        }
    }
    for item in assembler.rest() {
        lines.extend(layout.item(item));
    }
    lines.extend(layout.end());
    lines.join("\n")
}
