//! The only code that prints.
//!
//! What it does: stdout is data and stderr is messages; colour only on a terminal, `NO_COLOR`
//! honoured; a closed pipe ends the program quietly, as Unix tools do.
//! What it implements: "Output" and "Errors" of the design.
//! Interface: [`out`], [`note`], [`warn`], [`print_error`], [`print_json`], [`Table`],
//! [`Style`], [`Progress`], [`Bars`], [`size`], [`template`]. Read next: [`crate::cli`].

mod bars;
mod progress;
mod table;
pub mod template;

pub use bars::Bars;
pub use progress::{Progress, size};
pub use table::Table;

use crate::error::Error;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Whether what goes to stdout may have colour.
pub fn colour_stdout() -> bool {
    std::io::stdout().is_terminal() && no_color_unset()
}
/// Whether what goes to stderr may have colour.
pub fn colour_stderr() -> bool {
    std::io::stderr().is_terminal() && no_color_unset()
}
fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// The few styles that output uses, so that all of it looks alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading or a key: bold.
    Strong,
    /// A reason or a source: dim.
    Dim,
    /// Something is as it should be: green.
    Good,
    /// Something is not: red.
    Bad,
    /// Look here: yellow.
    Notice,
    /// A name or an id: cyan.
    Name,
}

/// `text` in a style when `colour` is on, else as it is.
pub fn styled(text: impl Display, style: Style, colour: bool) -> String {
    use anstyle::{AnsiColor, Style as Ansi};
    if !colour {
        return text.to_string();
    }
    let ansi = match style {
        Style::Strong => Ansi::new().bold(),
        Style::Dim => Ansi::new().dimmed(),
        Style::Good => AnsiColor::Green.on_default(),
        Style::Bad => AnsiColor::Red.on_default().bold(),
        Style::Notice => AnsiColor::Yellow.on_default(),
        Style::Name => AnsiColor::Cyan.on_default(),
    };
    format!("{}{text}{}", ansi.render(), ansi.render_reset())
}

/// Prints data to stdout, with a newline. A reader that has gone away ends the program with
/// status 0, as in `glassbox ps | head -1`.
pub fn out(text: impl Display) {
    write_out(format_args!("{text}\n"));
}

/// Prints data to stdout as it is.
pub fn out_raw(text: impl Display) {
    write_out(format_args!("{text}"));
}

fn write_out(args: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    if let Err(e) = stdout.write_fmt(args).and_then(|()| stdout.flush()) {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format_args!("error: cannot write to stdout: {e}"));
        std::process::exit(125);
    }
}

/// Prints a message to stderr. Nothing can be done if that fails.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a question to stderr, without a newline.
pub fn prompt(text: impl Display) {
    let _ = write!(std::io::stderr().lock(), "{text}").and_then(|()| std::io::stderr().flush());
}

/// Prints a warning to stderr.
pub fn warn(text: impl Display) {
    note(format_args!(
        "{} {text}",
        styled("warning:", Style::Notice, colour_stderr())
    ));
}

/// Prints a value as JSON, indented, to stdout.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => out(text),
        Err(e) => note(format_args!("error: cannot write JSON: {e}")),
    }
}

/// A JSON array printed element by element, as [`print_json`] prints a whole one. One that is not
/// finished has no end: whoever reads it sees that something is missing.
#[derive(Debug, Default)]
pub struct JsonArray {
    begun: bool,
}

impl JsonArray {
    /// Prints an element, on one line.
    pub fn push(&mut self, value: &impl serde::Serialize) {
        let before = if self.begun { "," } else { "[" };
        self.begun = true;
        match serde_json::to_string(value) {
            Ok(text) => out_raw(format_args!("{before}\n  {text}")),
            Err(e) => note(format_args!("error: cannot write JSON: {e}")),
        }
    }
    /// Prints the end.
    pub fn finish(self) {
        out(if self.begun { "\n]" } else { "[]" });
    }
}

/// The error form of the design, on stderr. Called once, by `main`.
pub fn print_error(error: &Error) {
    note(format_error(error, colour_stderr()));
}

/// [`print_error`]'s text, without the last newline.
pub fn format_error(error: &Error, colour: bool) -> String {
    let mut text = format!(
        "{} {}",
        styled("error:", Style::Bad, colour),
        error.message()
    );
    for cause in error.causes() {
        text += &format!(
            "\n  {} {cause}",
            styled("caused by:", Style::Strong, colour)
        );
    }
    if let Some(hint) = error.get_hint() {
        text += &format!("\n  {} {hint}", styled("hint:", Style::Good, colour));
    }
    if let Some(topic) = error.get_topic() {
        text += &format!(
            "\n  {} glassbox explain {topic}",
            styled("learn more:", Style::Name, colour)
        );
    }
    text
}
