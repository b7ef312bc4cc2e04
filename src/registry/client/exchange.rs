//! One exchange with a registry, as data: what `--explain` shows.
//!
//! What it does: every request is noted with its answer, the headers that matter, how many bytes
//! went which way, and the time. What was *not* asked for, because it was there already, is an
//! entry as well. Secrets are never part of it: of an Authorization header only the scheme is kept,
//! of a URL's query only what the protocol itself puts there (a storage's signed URL is as good as
//! a password).
//!
//! Interface: [`Trace`], [`Entry`], [`Exchange`]. Read next: `mod.rs`.

use serde::Serialize;
use std::sync::Mutex;

/// What happened, in order.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// A request and its answer.
    Exchange(Exchange),
    /// Something that was not needed.
    Skipped {
        /// What: `layer 1a2b3c…`.
        what: String,
        /// Why not.
        why: String,
    },
    /// Bytes became a layer.
    Layer {
        /// The blob.
        digest: String,
        /// Its media type.
        media_type: String,
        /// Its size.
        size: u64,
        /// The digest of the tar inside.
        diff_id: String,
        /// The tar's size.
        unpacked: u64,
        /// Where it lies: the name of it and all below.
        chain_id: String,
    },
}

/// One request and its answer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Exchange {
    /// `GET`
    pub method: String,
    /// Where, without secrets.
    pub url: String,
    /// The answer's status; none when there was no answer.
    pub status: Option<u16>,
    /// The request's headers that matter.
    pub request: Vec<(String, String)>,
    /// The answer's headers that matter.
    pub response: Vec<(String, String)>,
    /// Bytes of the request's body.
    pub sent: u64,
    /// Bytes of the answer's body.
    pub received: u64,
    /// Milliseconds from the request until the body was read.
    pub milliseconds: f64,
    /// What went wrong, where there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Entry {
    /// For a person: one line, and one for each header.
    pub fn to_text(&self) -> String {
        match self {
            Entry::Skipped { what, why } => format!("skipped {what}: {why}"),
            Entry::Layer {
                digest,
                media_type,
                size,
                diff_id,
                unpacked,
                chain_id,
            } => format!(
                "layer {digest}\n  {size} bytes of {media_type}\n  → {unpacked} bytes of tar, diff id {diff_id}\n  → unpacked as chain id {chain_id}"
            ),
            Entry::Exchange(e) => {
                let answer = match (&e.status, &e.error) {
                    (Some(status), _) => status.to_string(),
                    (None, Some(error)) => format!("no answer: {error}"),
                    (None, None) => "no answer".into(),
                };
                let bytes = match (e.sent, e.received) {
                    (0, received) => format!("{received} bytes"),
                    (sent, received) => format!("{sent} bytes sent, {received} bytes"),
                };
                let mut text = format!(
                    "{} {} → {answer}, {bytes}, {:.1} ms",
                    e.method, e.url, e.milliseconds
                );
                for (mark, headers) in [('>', &e.request), ('<', &e.response)] {
                    for (name, value) in headers {
                        text += &format!("\n  {mark} {name}: {value}");
                    }
                }
                text
            }
        }
    }
}

type Listener = Box<dyn Fn(&Entry) + Send + Sync>;

/// Hears each entry when it is complete. Without a listener nothing is noted.
#[derive(Default)]
pub struct Trace(Option<Mutex<Listener>>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Trace(on)"
        } else {
            "Trace(off)"
        })
    }
}

impl Trace {
    /// Passes each entry on.
    pub fn to(listener: impl Fn(&Entry) + Send + Sync + 'static) -> Trace {
        Trace(Some(Mutex::new(Box::new(listener))))
    }
    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }
    /// Notes an entry.
    pub fn note(&self, entry: &Entry) {
        if let Some(listener) = &self.0 {
            // A listener that panicked has told why; the transfer goes on.
            let listener = listener.lock().unwrap_or_else(|e| e.into_inner());
            listener(entry);
        }
    }
    /// Notes what was not needed.
    pub fn skipped(&self, what: impl Into<String>, why: impl Into<String>) {
        if self.is_on() {
            self.note(&Entry::Skipped {
                what: what.into(),
                why: why.into(),
            });
        }
    }
}

/// The headers that say something about the protocol.
const THAT_MATTER: &[&str] = &[
    "accept",
    "content-type",
    "content-length",
    "content-range",
    "range",
    "if-range",
    "etag",
    "docker-content-digest",
    "location",
    "www-authenticate",
    "retry-after",
    "link",
    "oci-subject",
    "oci-filters-applied",
    "oci-chunk-min-length",
    "docker-upload-uuid",
    "transfer-encoding",
];

/// A header as it may be shown; `None` for one that does not matter.
pub(super) fn header(name: &str, value: &str) -> Option<(String, String)> {
    if name == "authorization" {
        let scheme = value.split(' ').next().unwrap_or_default();
        return Some((name.into(), format!("{scheme} (hidden)")));
    }
    if !THAT_MATTER.contains(&name) {
        return None;
    }
    let value = if name == "location" {
        url(value)
    } else {
        value.to_string()
    };
    Some((name.into(), value))
}

/// A URL without what may be a secret in its query.
pub(super) fn url(text: &str) -> String {
    const OPEN: &[&str] = &[
        "digest",
        "mount",
        "from",
        "n",
        "last",
        "scope",
        "service",
        "account",
        "artifactType",
    ];
    // Whoever writes user:password@ into a URL does not want to read it here.
    let text = match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            format!(
                "{scheme}://{}{path}",
                authority.rsplit('@').next().unwrap_or(authority)
            )
        }
        None => text.to_string(),
    };
    let Some((path, query)) = text.split_once('?') else {
        return text;
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((key, _)) if !OPEN.contains(&key) => format!("{key}=…"),
            _ => part.to_string(),
        })
        .collect();
    format!("{path}?{}", shown.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        assert_eq!(
            header("authorization", "Bearer abc").unwrap().1,
            "Bearer (hidden)"
        );
        assert_eq!(header("cookie", "a=b"), None);
        assert_eq!(
            url("https://u:p@cdn.example/x?X-Sig=abc&digest=sha256:1"),
            "https://cdn.example/x?X-Sig=…&digest=sha256:1"
        );
    }
}
