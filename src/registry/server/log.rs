//! The request log: one line a request, when its answer has left or was given up.
//!
//! ```text
//!   2026-11-25T07:00:00Z 127.0.0.1 - GET /v2/a/blobs/sha256:… 200 in=0 out=1234 3ms
//! ```
//!
//! What it does: a [`Watch`] travels with the body of an answer; dropped, it writes the line and
//! counts. `--log-format json` writes an object with the same fields. Passwords are in no field, and
//! a path is written as it came, its control characters escaped.
//!
//! Interface: [`Log`], [`Watch`], [`Request`]. Read next: `metrics.rs`.

use super::metrics::Metrics;
use crate::spec::time::Time;
use crate::ui;
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// An object a line.
    Json,
    /// Nothing but failures of the server itself.
    None,
}

/// Where lines go: stderr, in one form.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log(pub Format);

/// What is known of a request before its answer.
#[derive(Debug)]
pub struct Request {
    /// Who asks: an address, or `unix`.
    pub peer: String,
    /// The method.
    pub method: String,
    /// The path and the query, as they came.
    pub target: String,
    /// The endpoint's kind.
    pub endpoint: &'static str,
    /// Who it says it is, once that was checked.
    pub user: Option<String>,
    /// The program that asks.
    pub agent: Option<String>,
    /// The bytes of its body, as announced.
    pub received: u64,
    /// When it came.
    pub begun: Instant,
}

/// A request whose answer is on its way.
pub struct Watch {
    /// Bytes of the body that have left.
    pub sent: u64,
    /// The status.
    pub status: u16,
    /// Why the server failed, if it did.
    pub cause: Option<String>,
    /// What was asked.
    pub request: Request,
    /// Where it is written.
    pub log: Log,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = self.request.begun.elapsed();
        self.metrics.request(
            self.request.endpoint,
            &self.request.method,
            self.status,
            took,
        );
        self.metrics.bytes(self.request.received, self.sent);
        self.log.request(self);
    }
}

impl Log {
    fn request(self, watch: &Watch) {
        let request = &watch.request;
        let took = request.begun.elapsed().as_millis();
        let (at, user) = (Time::now(), request.user.as_deref());
        match self.0 {
            Format::Text => {
                let mut line = format!(
                    "{at} {} {} {} {} {} in={} out={} {took}ms",
                    request.peer,
                    user.unwrap_or("-"),
                    request.method,
                    request.target.escape_default(),
                    watch.status,
                    request.received,
                    watch.sent
                );
                if let Some(cause) = &watch.cause {
                    line += &format!(" error: {cause}");
                }
                ui::note(line);
            }
            Format::Json => ui::note(json!({
                "time": at.to_string(), "peer": request.peer, "user": user, "method": request.method,
                "path": request.target, "status": watch.status, "received": request.received,
                "sent": watch.sent, "milliseconds": took as u64, "agent": request.agent,
                "error": watch.cause,
            })),
            Format::None => {
                if let Some(cause) = &watch.cause {
                    self.event(&format!(
                        "{} {}: {cause}",
                        request.method,
                        request.target.escape_default()
                    ));
                }
            }
        }
    }

    /// Something that no request asked for.
    pub fn event(self, text: &str) {
        match self.0 {
            Format::Json => ui::note(json!({ "time": Time::now().to_string(), "message": text })),
            _ => ui::note(format_args!("{} {text}", Time::now())),
        }
    }
}
