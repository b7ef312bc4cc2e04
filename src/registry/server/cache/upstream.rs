//! The registry behind a cache: where it is, who we are to it, and what it answers.
//!
//! What it does: asks with our own client, which knows tokens, basic authentication, redirects and
//! retries, and sorts what does not work into what the cache must tell apart: it is not there, it is
//! not allowed, or nobody knows. A failure is remembered for a few seconds, so that what the cache
//! has is given out at once and not after each asker has found the upstream dead.
//!
//! Everything here blocks, and runs beside the sockets' thread.
//!
//! What it implements: distribution-spec "Pulling manifests", "Pulling blobs", the client's side.
//! Interface: [`Config`], [`Upstream`], [`Trouble`]. Read next: `../../client/mod.rs`.

use super::super::answer::Refusal;
use super::super::log::Log;
use super::super::metrics::Metrics;
use crate::error::{Context, Error, Kind, Result};
use crate::registry::client::auth::Auth;
use crate::registry::client::auth::{Scopes, credentials::Credential};
use crate::registry::client::endpoint::{DOCKER_IO, Endpoint};
use crate::registry::client::exchange::Trace;
use crate::registry::client::transport::{Patience, Response, Wish};
use crate::registry::client::{ACCEPT, Client, Document};
use crate::registry::protocol::{ErrorCode, header};
use crate::spec::Digest;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a failure is remembered.
const DOWN: Duration = Duration::from_secs(5);
/// Somebody waits: fewer attempts than a pull makes.
const PATIENCE: Patience = Patience {
    retries: 2,
    stall: Duration::from_secs(20),
};

/// What to cache.
#[derive(Debug, Clone)]
pub struct Config {
    /// `https://registry.example:5000`, or as in an image's name: `docker.io`.
    pub url: String,
    /// Who we are to it: a user and a file with the password.
    pub login: Option<(String, PathBuf)>,
    /// A directory with certificates for it.
    pub cert_dir: Option<PathBuf>,
    /// How long a tag is given out before the upstream is asked again.
    pub ttl: Duration,
}

/// The registry behind the cache.
pub struct Upstream {
    client: Client,
    /// As it is called in messages and in the data directory: `https://registry-1.docker.io`.
    pub base: String,
    is_docker: bool,
    failed: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
    log: Log,
}

/// Why the upstream did not give something.
#[derive(Debug)]
pub enum Trouble {
    /// It is not there.
    Missing,
    /// It is not for us.
    Denied(String),
    /// Too many requests; when to ask again, as it was said.
    Limited(Option<String>),
    /// No answer, or one that makes no sense.
    Down(String),
    /// A failure of our own.
    Ours(Error),
}

impl Trouble {
    /// What the asker hears. `missing`: what is not there.
    pub fn refusal(self, upstream: &str, missing: ErrorCode) -> Refusal {
        match self {
            Trouble::Missing => Refusal::new(missing),
            Trouble::Denied(why) => {
                let why = format!("{upstream} does not let this cache have it: {why}");
                Refusal::because(ErrorCode::Denied, why)
            }
            Trouble::Limited(until) => {
                let why = format!("{upstream} wants fewer requests from this cache");
                let refusal = Refusal::because(ErrorCode::TooManyRequests, why);
                match until {
                    Some(until) => refusal.with("retry-after", until),
                    None => refusal,
                }
            }
            Trouble::Down(why) => {
                let said = format!("the cache does not have it, and {upstream} fails: {why}");
                let mut refusal = Refusal::because(ErrorCode::Unknown, said).status(502);
                refusal.cause = Some(why);
                refusal
            }
            Trouble::Ours(error) => Refusal::from(error),
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Ours(error)
    }
}

impl Upstream {
    /// One that was not asked anything yet.
    ///
    /// # Errors
    /// The URL is none; the password or a certificate cannot be read.
    pub fn new(config: &Config, metrics: Arc<Metrics>, log: Log) -> Result<Upstream> {
        let endpoint = endpoint(&config.url, config.cert_dir.clone())?;
        let login = config.login.as_ref().map(|(user, file)| {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Ok::<_, Error>(Credential::Password {
                user: user.clone(),
                password: text.trim_end_matches(['\n', '\r']).to_string(),
            })
        });
        let auth = Auth::known(login.transpose()?);
        let base = endpoint.base();
        Ok(Upstream {
            is_docker: endpoint.registry == DOCKER_IO,
            client: Client::at(endpoint, PATIENCE, auth, Arc::new(Trace::default()))?,
            base,
            failed: Mutex::default(),
            metrics,
            log,
        })
    }

    /// What the upstream calls a repository: Docker's own images stand below `library/`.
    pub fn name(&self, repository: &str) -> String {
        match self.is_docker && !repository.contains('/') {
            true => format!("library/{repository}"),
            false => repository.to_string(),
        }
    }

    /// Our client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it failed a moment ago.
    pub fn is_down(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        failed.is_some_and(|at| at.elapsed() < DOWN)
    }

    /// Asks; `accept` as the header says it. An answer other than 200 is a trouble.
    pub fn ask(
        &self,
        method: &'static str,
        repository: &str,
        rest: &str,
        accept: Option<String>,
    ) -> Result<Response, Trouble> {
        let mut wish = Wish::new(method, &self.client.url(repository, rest));
        wish.headers.extend(accept.map(|a| ("accept", a)));
        let scopes = Scopes::repository(repository, "pull");
        let response = match self.client.send(repository, &scopes, &mut wish) {
            Ok(response) => response,
            // A token server's refusal comes as an error, too: as little can be known of it.
            Err(e) => return Err(self.fails(format!("{e:#}"))),
        };
        match response.status {
            200 => {
                self.answers();
                Ok(response)
            }
            404 => {
                self.answers();
                Err(Trouble::Missing)
            }
            401 | 403 => {
                self.answers();
                Err(Trouble::Denied(response.refusal().message().to_string()))
            }
            429 => {
                let until = response.header("retry-after").map(String::from);
                self.fails("it wants fewer requests".into());
                Err(Trouble::Limited(until))
            }
            _ => Err(self.fails(response.refusal().message().to_string())),
        }
    }

    /// The digest that a name stands for; `None` where the upstream does not say it.
    pub fn digest(&self, repository: &str, name: &str) -> Result<Option<Digest>, Trouble> {
        let path = format!("manifests/{name}");
        let head = self.ask("HEAD", repository, &path, Some(ACCEPT.join(", ")))?;
        let said = head.header(header::CONTENT_DIGEST);
        Ok(said.and_then(|d| d.parse().ok()))
    }

    /// A manifest that is what it is called.
    pub fn manifest(&self, repository: &str, name: &str) -> Result<Document, Trouble> {
        let got = self.client.manifest(repository, name);
        got.map_err(|e| match e.get_kind() {
            Kind::NotFound => Trouble::Missing,
            _ => self.fails(format!("{e:#}")),
        })
    }

    /// How long a blob is.
    pub fn size(&self, repository: &str, digest: &Digest) -> Result<u64, Trouble> {
        let head = self.ask("HEAD", repository, &format!("blobs/{digest}"), None)?;
        let unknown = || self.fails(format!("it does not say how long the blob {digest} is"));
        head.length().ok_or_else(unknown)
    }

    /// Notes that it failed.
    pub fn fails(&self, why: String) -> Trouble {
        self.metrics.cache_errors.fetch_add(1, Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        if failed.is_none() {
            let what = format!("the upstream fails; what is cached is served: {why}");
            self.log.event(&what);
        }
        *failed = Some(Instant::now());
        Trouble::Down(why)
    }

    /// Notes that it works.
    pub fn answers(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        if failed.take().is_some() {
            self.log.event("the upstream answers again");
        }
    }
}

/// Where a URL leads, or a registry's name.
fn endpoint(url: &str, cert_dir: Option<PathBuf>) -> Result<Endpoint> {
    let (plain, host) = match url.split_once("://") {
        Some(("https", host)) => (Some(false), host),
        Some(("http", host)) => (Some(true), host),
        Some(_) => return Err(no_registry(url)),
        None => (None, url),
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    let odd = |b: u8| !b.is_ascii_alphanumeric() && !b".-_:[]".contains(&b);
    if host.is_empty() || host.bytes().any(odd) {
        return Err(no_registry(url));
    }
    let name = match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_IO,
        host => host,
    };
    let mut endpoint = Endpoint::new(name, false, cert_dir);
    endpoint.plain = plain.unwrap_or(endpoint.plain);
    Ok(endpoint)
}

fn no_registry(url: &str) -> Error {
    Error::kind(Kind::Usage, format!("{url:?} is no registry to cache"))
        .hint("write https://HOST[:PORT], http://HOST[:PORT], or docker.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_or_a_name_leads_to_a_registry() {
        let base = |url: &str| endpoint(url, None).map(|e| e.base());
        for (url, want) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("https://index.docker.io/", "https://registry-1.docker.io"),
            (
                "https://registry.example:5000",
                "https://registry.example:5000",
            ),
            ("http://registry.example", "http://registry.example"),
            ("https://localhost:1", "https://localhost:1"),
            ("localhost:1", "http://localhost:1"),
        ] {
            assert_eq!(base(url).unwrap(), want, "{url}");
        }
        for bad in [
            "",
            "ftp://a",
            "https://",
            "https://a/b",
            "a b",
            "https://u:p@a",
        ] {
            assert!(base(bad).unwrap_err().get_hint().is_some(), "{bad}");
        }
    }
}
