//! Several transfers at once, a line each, on a terminal only.
//!
//! What it does: each thing that is transferred has a line with its state and, while bytes come or
//! go, a bar. Lines stay in the order in which they were named. Where stderr is no terminal nothing
//! is drawn, and [`Bars::are_drawn`] says so: the caller prints plain lines then.
//!
//! Interface: [`Bars`]. Read next: `progress.rs`.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;

/// A line in one of its states.
const STATE: &str = "{prefix}: {msg}";
/// A line whose bytes are under way.
const MOVING: &str = "{prefix}: {msg:15} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";

/// The lines.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    lines: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    /// No lines yet.
    pub fn new() -> Bars {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        Bars {
            all: MultiProgress::with_draw_target(target),
            lines: Mutex::default(),
        }
    }

    /// Whether anybody sees them.
    pub fn are_drawn(&self) -> bool {
        !self.all.is_hidden()
    }

    fn line(&self, id: &str) -> ProgressBar {
        let mut lines = self.lines.lock().unwrap_or_else(|e| e.into_inner());
        let new = || {
            let bar = ProgressBar::new(0).with_prefix(id.to_string());
            style(&bar, STATE);
            self.all.add(bar)
        };
        lines.entry(id.into()).or_insert_with(new).clone()
    }

    /// Says what a line's state is, in a word or two.
    pub fn say(&self, id: &str, state: &str) {
        let line = self.line(id);
        style(&line, STATE);
        line.set_message(state.to_string());
    }

    /// Bytes begin to move, `total` in all.
    pub fn begin(&self, id: &str, what: &str, total: u64) {
        let line = self.line(id);
        line.set_length(total);
        line.set_position(0);
        line.set_message(what.to_string());
        style(&line, MOVING);
    }

    /// So many bytes more. After the last one the line says `then`.
    pub fn moved(&self, id: &str, bytes: u64, then: &str) {
        let line = self.line(id);
        line.inc(bytes);
        if Some(line.position()) == line.length() {
            self.say(id, then);
        }
    }

    /// Runs something that prints, with the lines out of its way.
    pub fn beside(&self, print: impl FnOnce()) {
        self.all.suspend(print);
    }

    /// The lines stay as they are; what is printed from now on comes below them.
    pub fn finish(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(|e| e.into_inner());
        let any = !lines.is_empty() && self.are_drawn();
        for line in std::mem::take(&mut *lines).into_values() {
            line.abandon();
        }
        if any {
            super::note(""); // the last line has no end yet
        }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Bars::new()
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(line: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        line.set_style(style);
    }
}
