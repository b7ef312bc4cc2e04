//! Steps become lines.
//!
//! What it does: knows the columns (stage and call on the left, arguments, time on the right,
//! reasons and facts indented below), groups by stage, and in the story merges neighbours of one
//! kind into one line. It keeps a pending group, because whether a step stands alone is only known
//! when the next one comes.
//! Interface: [`Layout`]. Read next: [`crate::ui`], which owns the colours.

use super::Depth;
use super::story::{Group, from_the_end, group_of, short};
use super::told::{Item, Made, Reading, Told};
use super::words::{call_text, clip, count, counted, duration, left, utc, value, visible, wrap};
use crate::journal::{Actor, Stage};
use crate::ui::{Style, styled};
use std::collections::BTreeSet;

/// Where arguments, reasons and facts begin.
pub(super) const INDENT: usize = 14;
/// The width of a line. Not the terminal's: what was told is pasted into issues and books.
const WIDTH: usize = 88;
/// So much of a call's arguments is shown; `--explain=json` has them whole.
const ARGS: usize = 400;
/// Where the duration ends.
const TIME_AT: usize = WIDTH;
/// How the new namespaces of a step begin in the story.
const NEW: &str = "new: ";
/// Facts that a step may show in the story.
const FACTS_IN_STORY: usize = 2;
/// Of a group of so many steps the facts are told; of a larger one, how many there are.
const FEW: usize = 6;

#[derive(Debug)]
pub(super) struct Layout {
    depth: Depth,
    colour: bool,
    stage: Option<Stage>,
    introduced: BTreeSet<Stage>,
    actor: Actor,
    pending: Vec<Told>,
    steps: usize,
    calls: usize,
    outside: usize,
    ns: u64,
    failed: bool,
    numbered: bool,
    /// It is the set-up of a whole container, not of one stage.
    whole: bool,
}

impl Layout {
    pub fn new(depth: Depth, colour: bool) -> Layout {
        Layout {
            depth,
            colour,
            stage: None,
            introduced: BTreeSet::new(),
            actor: Actor::Parent,
            pending: Vec::new(),
            steps: 0,
            calls: 0,
            outside: 0,
            ns: 0,
            failed: false,
            numbered: false,
            whole: false,
        }
    }

    /// The lines that can be told now that this has come.
    pub fn item(&mut self, item: Item) -> Vec<String> {
        match item {
            Item::Step(step) => self.step(*step),
            Item::Operation(name, time) => {
                let mut lines = self.flush();
                self.stage = None;
                let title = styled(name, Style::Strong, self.colour);
                lines.push(format!("{title} {}", self.dim(format!("at {}", utc(time)))));
                lines
            }
            Item::Outside(made) => {
                self.calls += 1;
                self.outside += 1;
                self.ns += made.ns.unwrap_or(0);
                if self.depth != Depth::All {
                    return Vec::new();
                }
                let mut lines = self.flush();
                if self.stage.take().is_some() || self.outside == 1 {
                    lines.push(self.dim("- engine      book-keeping outside the plan"));
                }
                lines.push(self.call_line(&made));
                lines
            }
            Item::Undo(step, error) => {
                let mut lines = self.flush();
                let result = match error {
                    None => styled("✓", Style::Good, self.colour),
                    Some(e) => styled(format!("✗ {e}"), Style::Bad, self.colour),
                };
                lines.push(format!("  {:<12}{step} {result}", "taken back"));
                lines
            }
        }
    }

    /// The lines that can be told now that this step has ended.
    pub fn step(&mut self, step: Told) -> Vec<String> {
        self.steps += 1;
        self.calls += step.calls.len();
        self.ns += step.ns.unwrap_or(0);
        self.failed |= step.error.is_some();
        self.whole |= matches!(step.stage, Stage::Containers | Stage::Runtime);
        if self.depth == Depth::All {
            let mut lines = self.heading(&step);
            lines.extend(self.in_full(&step));
            return lines;
        }
        // A step without calls prepares another; the story is about what changes.
        if step.calls.is_empty() && !step.failed() && self.group_of(&step).is_none() {
            return Vec::new();
        }
        let joins = self.pending.last().is_some_and(|last| {
            let same = match self.pending.first().and_then(|s| self.group_of(s)) {
                Some(group) => group.takes(&step),
                None => {
                    self.group_of(&step).is_none()
                        && last.kind() == step.kind()
                        && !last.failed()
                        && !step.failed()
                }
            };
            same && last.actor == step.actor
        });
        let lines = if joins { Vec::new() } else { self.flush() };
        self.pending.push(step);
        lines
    }

    /// What is pending, and the sum of all.
    pub fn end(&mut self) -> Vec<String> {
        let mut lines = self.flush();
        if self.steps + self.calls == 0 {
            return lines;
        }
        let mut sum = format!(
            "{}, {}, {}",
            count(self.steps, "step"),
            count(self.calls, "system call"),
            duration(self.ns)
        );
        if self.outside > 0 && self.depth == Depth::Story {
            sum += &format!(
                " ({} of the calls are the engine's own book-keeping)",
                self.outside
            );
        }
        if self.failed {
            sum += "; a step failed, so everything was taken back";
        } else if self.depth == Depth::Story {
            sum += "; --explain=all shows every call";
        }
        if self.numbered {
            lines.push(self.dim("(a number before a call is the stage that it belongs to)"));
        }
        lines.push(self.dim(sum));
        lines
    }

    /// The same for a plan, in which nothing has happened.
    pub fn end_of_plan(&mut self) -> Vec<String> {
        let mut lines = self.flush();
        lines.push(self.dim(format!(
            "{}, {}; this is a plan, nothing was done",
            count(self.steps, "step"),
            count(self.calls, "system call")
        )));
        lines
    }

    fn group_of(&self, step: &Told) -> Option<&'static Group> {
        group_of(step).filter(|group| self.whole || !group.of_whole)
    }

    fn heading(&mut self, step: &Told) -> Vec<String> {
        let mut lines = Vec::new();
        // The story introduces a stage once; a step that comes back to it has its number in front.
        let again = self.introduced.contains(&step.stage);
        if self.stage != Some(step.stage) && !(again && self.depth == Depth::Story) {
            self.stage = Some(step.stage);
            self.introduced.insert(step.stage);
            let name = format!("{} {:<11}", step.stage.number(), step.stage.name());
            let name = styled(name, Style::Strong, self.colour);
            let purpose = if again { "again" } else { step.stage.purpose() };
            lines.push(format!("{name} {purpose}"));
        }
        if self.actor != step.actor {
            self.actor = step.actor;
            let who = match step.actor {
                Actor::Parent => "(outside again: the process that makes the container)",
                Actor::Init => {
                    "(from here on inside: the new process, which will become the program)"
                }
            };
            lines.push(format!("  {}", self.dim(who)));
        }
        lines
    }

    fn flush(&mut self) -> Vec<String> {
        let group = std::mem::take(&mut self.pending);
        let Some(first) = group.first() else {
            return Vec::new();
        };
        let mut lines = self.heading(first);
        // What the user asked for by number is worth its line; so are two that go together.
        let one_by_one = match self.group_of(first) {
            Some(_) => group.len() == 1,
            None => group.len() < 3 || (first.kind().1 == "limit" && group.len() < 8),
        };
        let told: Vec<Vec<String>> = match one_by_one {
            true => group.iter().map(|step| self.in_short(step)).collect(),
            false => vec![self.merged(&group)],
        };
        for mut rows in told {
            if self.stage != Some(first.stage)
                && let Some(row) = rows.first_mut()
            {
                let number = styled(first.stage.number(), Style::Strong, self.colour);
                *row = format!("{number}{}", &row[1..]);
                self.numbered = true;
            }
            lines.extend(rows);
        }
        lines
    }

    /// One step of the story: its main call, its reason, what changed.
    fn in_short(&mut self, step: &Told) -> Vec<String> {
        let mut lines = Vec::new();
        match step.main_call() {
            Some(made) => {
                let mut line = left(&made.call, &call_text(made));
                if step.calls.len() > 1 {
                    line = clip(&line, TIME_AT - 24);
                    line += &format!("  (+{})", count(step.calls.len() - 1, "call"));
                }
                lines.push(self.timed(line, step.ns, step.error.is_some()));
            }
            None => lines.push(self.timed(left(step.kind().1, step.object()), step.ns, false)),
        }
        let facts = self.changes(step, FACTS_IN_STORY);
        let alone = facts.is_empty() && step.error.is_none() && step.ns.is_some();
        let why = step.why.trim_end_matches('.');
        if let (true, Some(made)) = (alone, step.main_call()) {
            let both = format!("{}  {}", left(&made.call, &call_text(made)), self.dim(why));
            if step.calls.len() == 1 && visible(&both) + 10 < TIME_AT {
                return vec![self.timed(both, step.ns, false)];
            }
        }
        lines.extend(self.reason(why, facts));
        lines.extend(self.error(step));
        lines
    }

    /// Several steps of one kind: how many, on what, the reason of the first.
    fn merged(&mut self, group: &[Told]) -> Vec<String> {
        let calls: usize = group.iter().map(|s| s.calls.len()).sum();
        let ns = group.iter().map(|s| s.ns).sum::<Option<u64>>();
        let told_as = self.group_of(&group[0]);
        let name = told_as.map_or(group[0].kind().1, |g| g.name);
        let name = format!("{name} ×{}", group.len());
        let objects: Vec<&str> = group
            .iter()
            .map(|step| match told_as {
                // A path or a file speaks for itself; the rest needs its whole name.
                Some(_) if !step.id.contains("-/") && step.kind().1 != "write" => &step.id,
                _ => step.object(),
            })
            .filter(|o| !o.is_empty())
            .collect();
        let mut rows = wrap(&objects.join(", "), WIDTH - INDENT - 12);
        if rows.len() > 1 {
            rows.truncate(1);
            rows[0] += " …";
        }
        let mut lines = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            lines.push(match i {
                0 => self.timed(left(&name, row), ns, false),
                _ => format!("{:INDENT$}{row}", ""),
            });
        }
        if lines.is_empty() {
            lines.push(self.timed(left(&name, &format!("{calls} calls")), ns, false));
        }
        let same = group.iter().all(|s| s.why == group[0].why);
        let checked = group
            .iter()
            .flat_map(|s| s.readings.iter().filter_map(|r| r.as_expected))
            .count();
        let mut tail = Vec::new();
        if group.len() <= FEW {
            tail.extend(group.iter().flat_map(|step| self.changes(step, 1)));
        } else if checked > 0 {
            let ok = styled("✓", Style::Good, self.colour);
            tail.push(format!("{checked} read back {ok}"));
        }
        let why = if let Some(told_as) = told_as {
            told_as.why.to_string()
        } else if same || group[0].object().is_empty() {
            group[0].why.clone()
        } else {
            format!("{}: {}", group[0].object(), group[0].why)
        };
        lines.extend(self.reason(&why, tail));
        lines
    }

    /// A step with everything.
    fn in_full(&mut self, step: &Told) -> Vec<String> {
        let mut lines = vec![self.timed(
            format!("  {}", styled(&step.id, Style::Name, self.colour)),
            step.ns,
            step.error.is_some(),
        )];
        lines.extend(
            wrap(&step.why, WIDTH - 4)
                .into_iter()
                .map(|l| format!("    {}", self.dim(l))),
        );
        lines.extend(step.calls.iter().map(|made| self.call_line(made)));
        for reading in &step.readings {
            let from = self.dim(format!("[{}]", reading.source));
            for line in wrap(&self.change(reading, true), WIDTH - 6) {
                lines.push(format!("      {line}"));
            }
            if let Some(last) = lines.last_mut() {
                *last += &format!(" {from}");
            }
        }
        lines.extend(self.error(step));
        lines
    }

    fn call_line(&self, made: &Made) -> String {
        let result = match (&made.errno, made.returned) {
            (Some(errno), _) => styled(format!(" = {errno}"), Style::Bad, self.colour),
            (None, Some(n)) => format!(" = {n}"),
            (None, None) => String::new(),
        };
        let line = format!("    {}({}){result}", made.call, cut(&made.args));
        match made.ns {
            Some(ns) => self.timed(line, Some(ns), false),
            None => line,
        }
    }

    /// The reason, and of the facts those for which two lines have room. A fact without room still
    /// leaves its mark.
    fn reason(&self, why: &str, facts: Vec<String>) -> Vec<String> {
        let mut text = why.trim_end_matches('.').to_string();
        for fact in facts {
            let longer = format!("{text}; {fact}");
            let mark = fact.chars().rev().find(|c| *c == '✓');
            let always = fact.contains('✗') || fact.starts_with(NEW);
            if wrap(&longer, WIDTH - INDENT).len() <= 2 || always {
                text = longer;
            } else if let Some(mark) = mark
                && !text.contains(mark)
            {
                text += &format!(" {}", styled(mark, Style::Good, self.colour));
            }
        }
        wrap(&text, WIDTH - INDENT)
            .into_iter()
            .map(|line| format!("{:INDENT$}{}", "", self.dim(line)))
            .collect()
    }

    fn error(&self, step: &Told) -> Vec<String> {
        let Some(error) = &step.error else {
            return Vec::new();
        };
        wrap(&format!("✗ {error}"), WIDTH - INDENT)
            .into_iter()
            .map(|l| format!("{:INDENT$}{}", "", styled(l, Style::Bad, self.colour)))
            .collect()
    }

    /// The facts that say something: changed, checked or unreadable.
    fn changes(&self, step: &Told, at_most: usize) -> Vec<String> {
        let telling: Vec<&Reading> = step
            .readings
            .iter()
            .filter(|r| match &r.after {
                Some(Ok(after)) => r.as_expected.is_some() || r.before.as_ref() != Some(after),
                Some(Err(_)) => r.before.is_some(),
                None => false,
            })
            .collect();
        // Namespaces are told together: what matters of each is that its number is new.
        let is_ns = |r: &&Reading| r.what.ends_with(" namespace") && matches!(r.after, Some(Ok(_)));
        let (new, telling): (Vec<&Reading>, Vec<&Reading>) =
            match telling.iter().filter(|r| is_ns(r)).count() {
                0..=2 => (Vec::new(), telling),
                _ => telling.into_iter().partition(is_ns),
            };
        let named = new.iter().filter_map(|r| {
            let id = r.after.as_ref()?.as_ref().ok()?;
            Some(format!(
                "{} {}",
                r.what.trim_end_matches(" namespace"),
                value(id)
            ))
        });
        let named: Vec<String> = named.collect();
        let together = (!named.is_empty()).then(|| format!("{NEW}{}", named.join(", ")));
        let mut parts: Vec<String> = together.into_iter().collect();
        let rest: Vec<String> = telling
            .iter()
            .take(at_most)
            .map(|r| self.change(r, false))
            .collect();
        parts.extend(rest);
        if telling.len() > at_most {
            parts.push(count(telling.len() - at_most, "more fact"));
        }
        parts
    }

    fn change(&self, reading: &Reading, full: bool) -> String {
        let show = |text: &str| match full {
            true => clip(&value(text), 400),
            false => clip(&short(&counted(&value(text))), 40),
        };
        let mark = match reading.as_expected {
            Some(true) => format!(" {}", styled("✓", Style::Good, self.colour)),
            Some(false) => {
                format!(
                    " {}",
                    styled("✗ not what was asked for", Style::Bad, self.colour)
                )
            }
            None => String::new(),
        };
        let what = match full {
            true => reading.what.clone(),
            false => from_the_end(&short(&reading.what), 24),
        };
        let text = match (&reading.before, &reading.after) {
            (Some(b), Some(Ok(a))) if b == a && full => format!("{what}: {}, as before", show(a)),
            (Some(b), Some(Ok(a))) if b != a && (show(b) != show(a)) && !b.is_empty() => {
                format!("{what} {} → {}", show(b), show(a))
            }
            (_, Some(Ok(a))) if reading.as_expected.is_some() && !full => {
                format!("read back {}", show(a))
            }
            (_, Some(Ok(a))) => format!("{what} {}", show(a)),
            (_, Some(Err(why))) => format!("{what} could not be read: {why}"),
            (Some(b), None) => format!("{what} was {}", show(b)),
            (None, None) => what,
        };
        text + &mark
    }

    /// A line with its time at the right edge, and ✗ in place of nothing when it failed.
    fn timed(&self, line: String, ns: Option<u64>, failed: bool) -> String {
        let Some(ns) = ns else {
            return line.trim_end().to_string();
        };
        let time = duration(ns);
        let room = TIME_AT - time.len() - 1;
        let line = if self.depth == Depth::Story {
            clip(&line, room)
        } else {
            line
        };
        let pad = room.saturating_sub(visible(&line)) + 1;
        let mark = if failed {
            styled(" ✗", Style::Bad, self.colour)
        } else {
            String::new()
        };
        format!("{line}{:pad$}{}{mark}", "", self.dim(time))
    }

    fn dim(&self, text: impl std::fmt::Display) -> String {
        styled(text, Style::Dim, self.colour)
    }
}

/// Arguments of a bearable length: of a whole document that is written, the beginning.
fn cut(args: &str) -> String {
    match args.char_indices().nth(ARGS) {
        Some((at, _)) => format!("{}… ({} bytes more)", &args[..at], args.len() - at),
        None => args.into(),
    }
}
