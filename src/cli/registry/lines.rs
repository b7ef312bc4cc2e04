//! What becomes of layers while they are transferred: bars on a terminal, docker's lines elsewhere.
//!
//! Interface: [`Lines`], [`To`]. Read next: [`crate::ui::Bars`].

use crate::registry::client::{Event, Watch};
use crate::ui::{self, Bars};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the lines of a transfer go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// They are what the command is asked for.
    Stdout,
    /// stdout belongs to something else: the container.
    Stderr,
    /// Nobody wants them.
    Nowhere,
}

/// Who is told of a transfer.
pub struct Lines {
    to: To,
    /// What is being done with a blob whose bytes move: `Downloading`.
    verb: &'static str,
    bars: Option<Bars>,
    settled: AtomicBool,
}

impl Lines {
    /// `busy`: stderr has something else to show, so there are no bars.
    pub fn new(to: To, verb: &'static str, busy: bool) -> Lines {
        let bars = (to != To::Nowhere && !busy).then(Bars::new);
        Lines { to, verb, bars: bars.filter(Bars::are_drawn), settled: AtomicBool::new(false) }
    }

    /// A line of the command itself.
    pub fn say(&self, text: &str) {
        let print = || match self.to {
            To::Stdout => ui::out(text),
            To::Stderr => ui::note(text),
            To::Nowhere => {}
        };
        match &self.bars {
            Some(bars) if !self.settled.load(Ordering::Relaxed) => bars.beside(print),
            _ => print(),
        }
    }

    /// All is done: the bars stay, and lines come below them.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
        self.bars.iter().for_each(Bars::finish);
    }
}

impl Watch for Lines {
    fn layer(&self, id: &str, event: Event) {
        self.settled.store(false, Ordering::Relaxed);
        let waiting = match self.verb {
            "Downloading" => "Pulling fs layer",
            "Pushing" => "Preparing",
            _ => "Waiting",
        };
        let Some(bars) = &self.bars else {
            match event {
                Event::Waiting(_) => self.say(&format!("{id}: {waiting}")),
                Event::Done(how) => self.say(&format!("{id}: {how}")),
                Event::Begins(_) | Event::Bytes(_) => {}
            }
            return;
        };
        match event {
            Event::Waiting(_) => bars.say(id, waiting),
            Event::Begins(size) => bars.begin(id, self.verb, size),
            Event::Bytes(n) => bars.moved(id, n, "Checking"),
            Event::Done(how) => bars.say(id, &how),
        }
    }
    fn line(&self, text: &str) {
        self.say(text);
    }
}
