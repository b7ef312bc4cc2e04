//! `glassbox lab`: exercises whose checks read the kernel.

use crate::containers::paths::Paths;
use crate::error::{Error, Result};
use crate::labs::{self, Attempt, Lab, Report, State};
use crate::ui::{self, Style, styled};
use std::path::PathBuf;
use std::time::Duration;

/// Exercises that are checked by reading the kernel: solve them with any tool.
///
/// A lab is started, which makes values that are yours alone; you build what it asks for; `check`
/// reads from the kernel what is there. Without a subcommand it lists the labs.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox lab                 the labs
  glassbox lab start 3         begin: prints the text with your values
  glassbox lab check 3         what the kernel says, task by task
  glassbox lab hint 3          one hint for what was seen
  glassbox lab watch 3         check again whenever something changes
  glassbox lab reset 3         end and remove everything, and prove it")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the state is kept.
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the labs and how each stands.
    Ls,
    /// Begin a lab: make your values and print the text.
    Start {
        /// Its number or name.
        lab: String,
    },
    /// Print the text of a lab again, with your values.
    Text {
        /// Its number or name.
        lab: String,
    },
    /// Print your values as shell variables, for scripts: eval "$(glassbox lab env 3)".
    Env {
        /// Its number or name.
        lab: String,
    },
    /// Read from the kernel what is there; status 0 when the lab is solved, else 1.
    Check {
        /// Its number or name.
        lab: String,
    },
    /// One hint for the first task that fails, for what was seen.
    Hint {
        /// Its number or name.
        lab: String,
    },
    /// Check again and again, and print when something changes; ends when it is solved.
    Watch {
        /// Its number or name.
        lab: String,
        /// How long to wait between two checks, in milliseconds.
        #[arg(long, default_value_t = 500, value_name = "MS")]
        interval: u64,
    },
    /// Print the solutions. Try first.
    Solution {
        /// Its number or name.
        lab: String,
    },
    /// End your processes of a lab, remove its directory, and prove that nothing is left.
    Reset {
        /// Its number or name.
        lab: String,
    },
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let root = Paths::new(args.root.as_deref())?.root;
    let attempt = |name: &str| -> Result<(&'static Lab, Attempt)> {
        let lab = labs::find(name)?;
        Ok((lab, Attempt::load(&root, lab)?))
    };
    match args.command.unwrap_or(Command::Ls) {
        Command::Ls => list(&root, args.json),
        Command::Start { lab } => {
            let lab = labs::find(&lab)?;
            let attempt = Attempt::start(&root, lab)?;
            show_text(lab, &attempt, args.json);
            Ok(0)
        }
        Command::Text { lab } => {
            let (lab, attempt) = attempt(&lab)?;
            show_text(lab, &attempt, args.json);
            Ok(0)
        }
        Command::Env { lab } => {
            let (_, attempt) = attempt(&lab)?;
            for (name, value) in attempt.environment() {
                ui::out(format_args!("export {name}='{}'", value.replace('\'', r"'\''")));
            }
            Ok(0)
        }
        Command::Check { lab } => {
            let (lab, attempt) = attempt(&lab)?;
            let report = labs::check(lab, &attempt)?;
            match args.json {
                true => ui::print_json(&report),
                false => ui::out(render(&report, ui::colour_stdout())),
            }
            Ok(u8::from(!report.solved))
        }
        Command::Hint { lab } => {
            let (lab, attempt) = attempt(&lab)?;
            let report = labs::check(lab, &attempt)?;
            hint(&report, args.json);
            Ok(0)
        }
        Command::Watch { lab, interval } => {
            let (lab, attempt) = attempt(&lab)?;
            watch(lab, &attempt, Duration::from_millis(interval.max(50)))
        }
        Command::Solution { lab } => {
            let lab = labs::find(&lab)?;
            for (name, text) in lab.solutions {
                ui::out(styled(name, Style::Strong, ui::colour_stdout()));
                ui::out(text);
            }
            Ok(0)
        }
        Command::Reset { lab } => {
            let (lab, attempt) = attempt(&lab)?;
            let left = attempt.reset()?;
            if left.is_empty() {
                ui::note(format_args!(
                    "lab {}: no process, no namespace, no segment and no file of it is left",
                    lab.name
                ));
                return Ok(0);
            }
            Err(Error::new(format!("lab {} is reset, and something is left", lab.name))
                .caused_by(Error::new(left.join("; "))))
        }
    }
}

fn list(root: &std::path::Path, json: bool) -> Result<u8> {
    #[derive(serde::Serialize)]
    struct Row {
        number: u32,
        name: &'static str,
        title: String,
        goal: String,
        topics: Vec<String>,
        status: &'static str,
    }
    let mut rows = Vec::new();
    for lab in labs::all() {
        let definition = lab.definition()?;
        let status = match Attempt::load(root, lab) {
            Err(_) => "not started",
            Ok(attempt) if labs::check(lab, &attempt)?.solved => "solved",
            Ok(_) => "started",
        };
        rows.push(Row {
            number: definition.number,
            name: lab.name,
            title: definition.title,
            goal: definition.goal,
            topics: definition.topics,
            status,
        });
    }
    if json {
        ui::print_json(&rows);
        return Ok(0);
    }
    let mut table = ui::Table::new(&["lab", "status", "goal"]);
    for row in rows {
        table.row([row.name.to_string(), row.status.to_string(), row.goal]);
    }
    ui::out(table);
    Ok(0)
}

fn show_text(lab: &Lab, attempt: &Attempt, json: bool) {
    let text = lab.text(attempt);
    if json {
        #[derive(serde::Serialize)]
        struct Out<'a> {
            #[serde(flatten)]
            attempt: &'a Attempt,
            dir: PathBuf,
            text: String,
        }
        ui::print_json(&Out {
            attempt,
            dir: attempt.dir(),
            text,
        });
    } else {
        ui::out(text);
    }
}

/// A report as lines.
fn render(report: &Report, colour: bool) -> String {
    let mut lines = Vec::new();
    for task in &report.tasks {
        let (mark, style) = match task.state {
            State::Passed => ("✓", Style::Good),
            State::Failed => ("✗", Style::Bad),
            State::Waiting => ("·", Style::Dim),
        };
        lines.push(format!("{} {:<9} {}", styled(mark, style, colour), task.id, task.say));
        if let Some(seen) = &task.seen {
            let label = |text: &str| styled(format!("{text:<8}"), Style::Dim, colour);
            lines.push(format!("            {}{} = {}", label("saw"), seen.fact, seen.saw));
            lines.push(format!("            {}{}", label("wanted"), seen.wanted));
            if let Some(stuck) = &seen.stuck {
                lines.push(format!("            {}{stuck}", label("note")));
            }
        }
    }
    let passed = report.tasks.iter().filter(|t| t.state == State::Passed).count();
    let last = match report.solved {
        true => styled("solved", Style::Good, colour),
        false => format!("{passed} of {} tasks; `glassbox lab hint` helps", report.tasks.len()),
    };
    lines.push(last);
    lines.join("\n")
}

fn hint(report: &Report, json: bool) {
    let failure = report.first_failure();
    if json {
        return ui::print_json(&failure.map(|(_, seen)| seen));
    }
    match failure {
        None => ui::out("the lab is solved"),
        Some((task, seen)) => {
            let say = seen.hint.as_deref().unwrap_or("no hint fits what was seen");
            ui::out(format_args!("{}: {say}", task.id));
            if let Some(stuck) = &seen.stuck {
                ui::out(format_args!("{stuck}: mend it, or begin anew with `glassbox lab reset`"));
            }
        }
    }
}

fn watch(lab: &Lab, attempt: &Attempt, interval: Duration) -> Result<u8> {
    let mut last = None;
    loop {
        let report = labs::check(lab, attempt)?;
        if last.as_ref() != Some(&report) {
            if last.is_some() {
                ui::out("");
            }
            ui::out(render(&report, ui::colour_stdout()));
            if let (false, Some((_, seen))) = (report.solved, report.first_failure())
                && let Some(hint) = &seen.hint
            {
                ui::out(format_args!("hint: {hint}"));
            }
        }
        if report.solved {
            return Ok(0);
        }
        last = Some(report);
        std::thread::sleep(interval);
    }
}
