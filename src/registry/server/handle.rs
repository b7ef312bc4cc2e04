//! Requests: who asks, what is allowed, and which handler answers.
//!
//! What it does: reads a request's head, asks for a password where there are some, and calls the
//! handler of its endpoint beside the sockets' thread. What a handler returns, and what it refuses,
//! leaves here, with a line in the log once its last byte has left.
//!
//! What it implements: distribution-spec 1.1, "Endpoints". Interface: [`Server`]. Read next:
//! `blobs.rs`.

use super::answer::{Answer, Body, Refusal};
use super::auth::Passwords;
use super::cache::{self, Cache};
use super::limits::Limits;
use super::log::{Log, Request, Watch};
use super::metrics::Metrics;
use super::route::{self, Endpoint, Query, is_name};
use super::storage::{Repository, Storage};
use super::uploads::{Part, Uploads, blocking, blocking_refusal};
use super::{blobs, manifests, referrers, tags};
use crate::error::Result;
use crate::registry::protocol::ErrorCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderMap, HeaderName};
use hyper::http::request::Parts;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// A body that nobody wanted is read up to here, so that the client gets to read the answer.
const UNWANTED: usize = 256 << 10;
/// A manifest must be whole within so many times of what a peer may be idle.
const WHOLE: u32 = 5;
/// The status in the log of a request whose client went away before the answer.
const GONE: u16 = 499;

/// A registry that is being served.
pub struct Server {
    /// Its directory.
    pub storage: Storage,
    /// Its uploads.
    pub uploads: Arc<Uploads>,
    /// Whether nothing may change.
    pub read_only: bool,
    /// Its log.
    pub log: Log,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Its limits.
    pub limits: Limits,
    /// What it is a cache of.
    pub cache: Option<Arc<Cache>>,
    passwords: Option<Passwords>,
    changed: Mutex<BTreeSet<String>>,
}

impl Server {
    /// One on this storage.
    pub fn new(
        storage: Storage,
        passwords: Option<Passwords>,
        read_only: bool,
        log: Log,
        limits: Limits,
    ) -> Server {
        Server {
            uploads: Arc::new(Uploads::new(&storage, limits.idle)),
            limits,
            storage,
            read_only,
            log,
            metrics: Arc::default(),
            cache: None,
            passwords,
            changed: Mutex::default(),
        }
    }

    /// Makes it a cache of another registry.
    pub fn cache_of(&mut self, upstream: &cache::Config) -> Result<()> {
        let cache = Cache::open(upstream, &self.storage, self.metrics.clone(), self.log)?;
        self.cache = Some(Arc::new(cache));
        Ok(())
    }

    /// Whether anybody may change it.
    pub fn is_open(&self) -> bool {
        self.passwords.is_none() && !self.read_only && self.cache.is_none()
    }

    /// The repositories whose tags have changed since this was last asked.
    pub fn take_changed(&self) -> BTreeSet<String> {
        self.changed
            .lock()
            .map(|mut c| std::mem::take(&mut *c))
            .unwrap_or_default()
    }

    fn change(&self, repository: &Repository) {
        if let Ok(mut changed) = self.changed.lock() {
            changed.insert(repository.name().to_string());
        }
    }

    /// Answers a request.
    pub async fn handle(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        peer: String,
    ) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        let endpoint = route::endpoint(head.uri.path());
        let mut watch = Watch {
            sent: 0,
            status: GONE,
            cause: None,
            request: Request {
                peer,
                method: head.method.to_string(),
                target: head
                    .uri
                    .path_and_query()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                endpoint: endpoint.kind(),
                user: None,
                agent: text(&head.headers, hyper::header::USER_AGENT).map(String::from),
                received: body.size_hint().exact().unwrap_or(0),
                begun: Instant::now(),
            },
            log: self.log,
            metrics: self.metrics.clone(),
        };
        let done = match self.allowed(&head, &endpoint).await {
            Ok(user) => {
                watch.request.user = user;
                self.dispatch(&head, endpoint, &mut body).await
            }
            Err(refusal) => Err(refusal),
        };
        // A client that waits for "100 Continue" has sent nothing yet, and will not.
        if !head.headers.contains_key(hyper::header::EXPECT) {
            drain(body).await;
        }
        let mut answer = done.unwrap_or_else(|mut refusal| {
            watch.cause = refusal.cause.take();
            refusal.into_answer()
        });
        if head.method == hyper::Method::HEAD {
            answer = answer.without_body();
        }
        watch.status = answer.status;
        let mut response = answer.into_response();
        response.body_mut().watch = Some(watch);
        response
    }

    /// Who asks, if it has to say; whether the endpoint has such a method, and it may be used.
    async fn allowed(&self, head: &Parts, endpoint: &Endpoint) -> Result<Option<String>, Refusal> {
        let user = match &self.passwords {
            Some(passwords) => Some(
                passwords
                    .check(text(&head.headers, hyper::header::AUTHORIZATION))
                    .await?,
            ),
            None => None,
        };
        match endpoint {
            Endpoint::BadName(name) => {
                let detail = serde_json::json!({ "name": name });
                return Err(Refusal::new(ErrorCode::NameInvalid).detail(detail));
            }
            Endpoint::Unknown => {
                return Err(
                    Refusal::because(ErrorCode::Unsupported, "there is no such endpoint")
                        .status(404),
                );
            }
            _ => {}
        }
        let method = head.method.as_str();
        if !endpoint.methods().contains(&method) {
            let allow = endpoint.methods().join(", ");
            let why = format!("this endpoint has no {method}; it has {allow}");
            return Err(Refusal::because(ErrorCode::Unsupported, why).with("allow", allow));
        }
        if self.read_only && !matches!(method, "GET" | "HEAD") {
            let why = "this registry is read-only: nothing is pushed or deleted";
            return Err(Refusal::because(ErrorCode::Unsupported, why).with("allow", "GET, HEAD"));
        }
        if let Some(cache) = &self.cache
            && !matches!(method, "GET" | "HEAD")
        {
            let why = format!("this is a cache: push to {} itself", cache.of());
            return Err(Refusal::because(ErrorCode::Unsupported, why).with("allow", "GET, HEAD"));
        }
        Ok(user)
    }

    async fn dispatch(
        self: &Arc<Self>,
        head: &Parts,
        endpoint: Endpoint,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let query = Query::new(head.uri.query().unwrap_or_default());
        let header = |name: HeaderName| text(&head.headers, name).map(String::from);
        let method = head.method.as_str();
        let storage = self.storage.clone();
        if let Some(cache) = &self.cache
            && let Some(answer) = self.cached(cache, head, &endpoint).await
        {
            return answer;
        }
        match endpoint {
            Endpoint::Base => Ok(Answer::json(&serde_json::json!({}))),
            Endpoint::Metrics => {
                let server = self.clone();
                blocking(move || Ok(server.metrics.answer(server.uploads.count()))).await
            }
            Endpoint::Catalog => blocking_refusal(move || tags::catalog(&storage, &query)).await,
            Endpoint::Tags(name) => {
                blocking_refusal(move || tags::list(&storage.repository(&name), &query)).await
            }
            Endpoint::Referrers(name, digest) => {
                let digest = blobs::digest(&digest)?;
                let list = move || referrers::list(&storage.repository(&name), &digest, &query);
                blocking_refusal(list).await
            }
            Endpoint::Manifest(name, reference) => {
                let repository = storage.repository(&name);
                match method {
                    "PUT" => self.put_manifest(head, repository, reference, body).await,
                    "DELETE" => {
                        let server = self.clone();
                        let delete = move || {
                            let answer = manifests::delete(&repository, &reference)?;
                            server.change(&repository);
                            Ok(answer)
                        };
                        blocking_refusal(delete).await
                    }
                    _ => {
                        let known = header(hyper::header::IF_NONE_MATCH);
                        blocking_refusal(move || {
                            manifests::get(&repository, &reference, known.as_deref())
                        })
                        .await
                    }
                }
            }
            Endpoint::Blob(name, digest) => {
                let (repository, digest) = (storage.repository(&name), blobs::digest(&digest)?);
                match method {
                    "DELETE" => blocking_refusal(move || blobs::delete(&repository, &digest)).await,
                    _ => {
                        let (ranges, keep) = (
                            header(hyper::header::RANGE),
                            method == "HEAD" && !self.read_only,
                        );
                        blocking_refusal(move || {
                            blobs::get(&repository, &digest, ranges.as_deref(), keep)
                        })
                        .await
                    }
                }
            }
            Endpoint::Uploads(name) => {
                self.begin(head, storage.repository(&name), &query, body)
                    .await
            }
            Endpoint::Upload(name, id) => {
                let repository = storage.repository(&name);
                let uploads = self.uploads.clone();
                match method {
                    "PATCH" => {
                        self.uploads
                            .receive(&repository, &id, part(head, body), body, None)
                            .await
                    }
                    "PUT" => {
                        let digest = query.get("digest").ok_or_else(|| {
                            Refusal::because(
                                ErrorCode::DigestInvalid,
                                "the end of an upload names its ?digest=",
                            )
                        })?;
                        let digest = blobs::digest(digest)?;
                        self.uploads
                            .receive(&repository, &id, part(head, body), body, Some(digest))
                            .await
                    }
                    "DELETE" => blocking_refusal(move || uploads.cancel(&repository, &id)).await,
                    _ => blocking_refusal(move || uploads.status(&repository, &id)).await,
                }
            }
            Endpoint::BadName(_) | Endpoint::Unknown => {
                Err(Refusal::new(ErrorCode::Unsupported).status(404))
            }
        }
    }

    /// What a cache answers itself. `None`: the endpoint is as on any registry.
    async fn cached(
        &self,
        cache: &Arc<Cache>,
        head: &Parts,
        endpoint: &Endpoint,
    ) -> Option<Result<Answer, Refusal>> {
        let header = |name: HeaderName| text(&head.headers, name).map(String::from);
        let query = || head.uri.query().unwrap_or_default().to_string();
        let repository = |name: &str| self.storage.repository(name);
        Some(match endpoint {
            Endpoint::Manifest(name, reference) => {
                let (of, known) = (repository(name), header(hyper::header::IF_NONE_MATCH));
                let got = cache.manifest(of.clone(), reference.clone(), known).await;
                got.map(|(answer, changed)| {
                    if changed {
                        self.change(&of);
                    }
                    answer
                })
            }
            Endpoint::Blob(name, digest) => match blobs::digest(digest) {
                Ok(digest) => {
                    let (ranges, only) = (header(hyper::header::RANGE), head.method == "HEAD");
                    cache.blob(repository(name), digest, ranges, only).await
                }
                Err(refusal) => Err(refusal),
            },
            Endpoint::Tags(name) => cache.tags(repository(name), query()).await,
            Endpoint::Referrers(name, subject) => match blobs::digest(subject) {
                Ok(subject) => cache.referrers(repository(name), subject, query()).await,
                Err(refusal) => Err(refusal),
            },
            _ => return None,
        })
    }

    /// end-4: an upload that only begins, one that is whole, or a mount.
    async fn begin(
        &self,
        head: &Parts,
        repository: Repository,
        query: &Query,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        if let Some(digest) = query.get("digest") {
            let digest = blobs::digest(digest)?;
            let (uploads, of) = (self.uploads.clone(), repository.clone());
            let id = blocking(move || uploads.begin(&of)).await?;
            let taken = self
                .uploads
                .receive(&repository, &id, part(head, body), body, Some(digest))
                .await;
            if taken.is_err() {
                // Nobody was told of this upload, so nobody can go on with it.
                let uploads = self.uploads.clone();
                let _ = blocking_refusal(move || uploads.cancel(&repository, &id)).await;
            }
            return taken;
        }
        let from = query
            .get("from")
            .filter(|n| is_name(n))
            .map(|n| self.storage.repository(n));
        // A source that cannot be a name is one that is not there.
        let mounted = match query.get("from") {
            Some(name) if !is_name(name) => None,
            _ => query.get("mount").map(String::from),
        };
        let uploads = self.uploads.clone();
        blocking_refusal(move || blobs::begin(&uploads, &repository, mounted.as_deref(), from))
            .await
    }

    async fn put_manifest(
        self: &Arc<Self>,
        head: &Parts,
        repository: Repository,
        reference: String,
        body: &mut Incoming,
    ) -> Result<Answer, Refusal> {
        let limits = self.limits;
        let slow = |_| late("the manifest did not come to its end");
        let bytes = timeout(limits.idle * WHOLE, whole(body, limits)).await;
        let bytes = bytes.map_err(slow)??;
        let kind = text(&head.headers, hyper::header::CONTENT_TYPE).map(String::from);
        let server = self.clone();
        let put = move || {
            let answer = manifests::put(&repository, &reference, &bytes, kind.as_deref())?;
            server.change(&repository);
            Ok(answer)
        };
        blocking_refusal(put).await
    }
}

/// A header, where it is text.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn part(head: &Parts, body: &Incoming) -> Part {
    Part {
        range: text(&head.headers, hyper::header::CONTENT_RANGE).map(String::from),
        length: body.size_hint().exact(),
    }
}

/// What says that a client was too slow, to it and in the log.
pub(super) fn late(why: impl Into<String>) -> Refusal {
    let why = why.into();
    let mut refusal = Refusal::because(ErrorCode::SizeInvalid, why.clone()).status(408);
    refusal.cause = Some(why);
    refusal
}

/// A manifest's bytes.
async fn whole(body: &mut Incoming, limits: Limits) -> Result<Bytes, Refusal> {
    let large = || {
        let why = format!("a manifest has at most {} bytes", limits.manifest);
        Refusal::because(ErrorCode::ManifestInvalid, why).status(413)
    };
    if body.size_hint().lower() > limits.manifest {
        return Err(large());
    }
    let mut bytes = BytesMut::new();
    let silent = |_| {
        late(format!(
            "nothing came for {} seconds",
            limits.idle.as_secs()
        ))
    };
    while let Some(frame) = timeout(limits.idle, body.frame()).await.map_err(silent)? {
        let frame = frame.map_err(|e| {
            Refusal::because(
                ErrorCode::ManifestInvalid,
                format!("the body broke off: {e}"),
            )
        })?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() as u64 > limits.manifest {
            return Err(large());
        }
    }
    Ok(bytes.freeze())
}

/// Reads away a little that was not wanted.
async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read < UNWANTED && !body.is_end_stream() {
        match timeout(Duration::from_secs(2), body.frame()).await {
            Ok(Some(Ok(frame))) => read += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}
