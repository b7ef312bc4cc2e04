//! `/metrics`: counters in Prometheus' text form.
//!
//! What it does: a few atomic counters and a map of small size: endpoints, methods and statuses are
//! sets that no client can enlarge. Durations count until the last byte has left.
//!
//! What it implements: the Prometheus exposition format 0.0.4. Interface: [`Metrics`].
//! Read next: `gc.rs`.

use super::answer::{Answer, Content};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The upper ends of the buckets of durations, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// The counters of a server.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    connections: AtomicI64,
    /// Blobs and manifests that the cache had.
    pub cache_hits: AtomicU64,
    /// Those that it fetched.
    pub cache_misses: AtomicU64,
    /// Those that it gave out while the upstream did not answer.
    pub cache_stale: AtomicU64,
    /// Questions to which the upstream gave no answer, or a wrong one.
    pub cache_errors: AtomicU64,
}

impl Metrics {
    /// A request has ended.
    pub fn request(&self, endpoint: &'static str, method: &str, status: u16, took: Duration) {
        const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
        let method = METHODS
            .into_iter()
            .find(|m| *m == method)
            .unwrap_or("other");
        if let Ok(mut requests) = self.requests.lock() {
            *requests.entry((endpoint, method, status)).or_default() += 1;
        }
        let bucket = BUCKETS
            .iter()
            .position(|b| took.as_secs_f64() <= *b)
            .unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Relaxed);
    }

    /// Bytes of bodies.
    pub fn bytes(&self, received: u64, sent: u64) {
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
    }

    /// Counts a connection for as long as what it returns is kept.
    pub fn connected(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Relaxed);
        Connected(self.clone())
    }

    /// All of them; `uploads` is counted on the disk.
    pub fn answer(&self, uploads: usize) -> Answer {
        let text = self.text(uploads);
        Answer::new(200)
            .with("content-type", "text/plain; version=0.0.4; charset=utf-8")
            .body(Content::Bytes(text.into()))
    }

    fn text(&self, uploads: usize) -> String {
        let mut out = String::new();
        let family = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(
                out,
                "# HELP glassbox_registry_{name} {help}\n# TYPE glassbox_registry_{name} {kind}"
            );
        };
        family(
            &mut out,
            "requests_total",
            "counter",
            "Requests that were answered.",
        );
        if let Ok(requests) = self.requests.lock() {
            for ((endpoint, method, status), count) in requests.iter() {
                let labels =
                    format!("endpoint=\"{endpoint}\",method=\"{method}\",status=\"{status}\"");
                let _ = writeln!(out, "glassbox_registry_requests_total{{{labels}}} {count}");
            }
        }
        family(
            &mut out,
            "request_duration_seconds",
            "histogram",
            "Until the last byte of the answer has left.",
        );
        let mut count = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let end = BUCKETS
                .get(i)
                .map_or("+Inf".to_string(), ToString::to_string);
            let _ = writeln!(
                out,
                "glassbox_registry_request_duration_seconds_bucket{{le=\"{end}\"}} {count}"
            );
        }
        let sum = self.micros.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "glassbox_registry_request_duration_seconds_sum {sum}");
        let _ = writeln!(
            out,
            "glassbox_registry_request_duration_seconds_count {count}"
        );
        let number = |c: &AtomicU64| c.load(Relaxed) as i64;
        for (name, kind, help, value) in [
            (
                "received_bytes_total",
                "counter",
                "Bytes of bodies that came.",
                number(&self.received),
            ),
            (
                "sent_bytes_total",
                "counter",
                "Bytes of bodies that left.",
                number(&self.sent),
            ),
            (
                "connections",
                "gauge",
                "Open connections.",
                self.connections.load(Relaxed),
            ),
            (
                "uploads",
                "gauge",
                "Uploads that have not ended.",
                uploads as i64,
            ),
            (
                "cache_hits_total",
                "counter",
                "What the cache had.",
                number(&self.cache_hits),
            ),
            (
                "cache_misses_total",
                "counter",
                "What the cache fetched.",
                number(&self.cache_misses),
            ),
            (
                "cache_stale_total",
                "counter",
                "What was given out without the upstream.",
                number(&self.cache_stale),
            ),
            (
                "cache_errors_total",
                "counter",
                "Failures of the upstream.",
                number(&self.cache_errors),
            ),
        ] {
            family(&mut out, name, kind, help);
            let _ = writeln!(out, "glassbox_registry_{name} {value}");
        }
        out
    }
}

/// An open connection.
pub struct Connected(Arc<Metrics>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_type_for_each_family_and_sums_its_buckets() {
        let metrics = Metrics::default();
        metrics.request("blob", "GET", 200, Duration::from_millis(3));
        metrics.request("blob", "BREW", 405, Duration::from_secs(100));
        let text = metrics.text(2);
        for line in [
            "glassbox_registry_requests_total{endpoint=\"blob\",method=\"GET\",status=\"200\"} 1",
            "glassbox_registry_requests_total{endpoint=\"blob\",method=\"other\",status=\"405\"} 1",
            "glassbox_registry_request_duration_seconds_bucket{le=\"0.001\"} 0",
            "glassbox_registry_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "glassbox_registry_request_duration_seconds_bucket{le=\"+Inf\"} 2",
            "glassbox_registry_uploads 2",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
        }
    }
}
