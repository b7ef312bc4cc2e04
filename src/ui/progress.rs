//! Progress of long work, on a terminal only, and sizes for people.
//!
//! What it does: one line on stderr that says what is being done and how much of the input has
//! been read; it disappears when it is dropped. Where stderr is no terminal nothing is drawn.
//! Interface: [`Progress`], [`size`]. Read next: any user in [`crate::cli`].

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Read};
use std::time::Duration;

/// The line of one task.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Begins; `total` is the length of the input in bytes where it is known.
    pub fn new(total: Option<u64>) -> Progress {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let form = match total {
            Some(_) => "{spinner} {msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec}",
            None => "{spinner} {msg} {bytes} {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(150));
        }
        Progress { bar }
    }
    /// Says what is being done now.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_string());
    }
    /// Counts what is read through it.
    pub fn wrap<R: Read>(&self, input: R) -> impl Read + use<R> {
        self.bar.wrap_read(input)
    }
    /// Takes the line away before other output.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes as docker's listings write them: three digits, powers of 1000: `7.8MB`, `0B`, `1.24GB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v >= 99.95 || unit == 0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [
            0,
            999,
            1000,
            7_830_000,
            124_000_000,
            1_240_000_000,
            12_345,
            99_960,
        ]
        .map(size);
        assert_eq!(
            sizes.join(" "),
            "0B 999B 1kB 7.83MB 124MB 1.24GB 12.3kB 100kB"
        );
    }
}
