//! A pull-through cache: what another registry has, fetched once and kept.
//!
//! ```text
//!   a tag        younger than the ttl: given out. Else HEAD to the upstream: the same digest, and it
//!                is young again; another one, and its manifest is fetched
//!   a digest     what it names never changes: given out without a question, or fetched
//!   a blob       the same, and all who ask at the same time share one transfer (transfer.rs)
//!   a list       of tags or referrers: the upstream's, as it is now
//! ```
//!
//! What it does: keeps what it fetched in the same storage as a registry that is pushed to, so that
//! gc, read-only servers and other tools find nothing new. When the upstream gives no answer, what is
//! there is given out, stale tags as well. What the upstream says is gone or not ours is believed.
//! Nothing is ever given out as complete whose digest is wrong.
//!
//! A tag's age is the time of its file: a server that starts again goes on with what it has.
//!
//! What it implements: distribution-spec 1.1, the pulling half; RFC 9111 `Age`. Interface: [`Cache`],
//! [`Config`], [`Growing`]. Read next: `transfer.rs`, `upstream.rs`.

mod transfer;
mod upstream;

pub use transfer::Growing;
pub use upstream::Config;

use super::answer::{Answer, Content, Refusal};
use super::blobs;
use super::log::Log;
use super::manifests::{self, Record};
use super::metrics::Metrics;
use super::referrers;
use super::route::{Query, is_tag};
use super::storage::{self, Repository, Storage};
use super::tags;
use super::uploads::{blocking, blocking_refusal};
use crate::error::{Context, Error, Kind, Result};
use crate::registry::client::{Document, next_page};
use crate::registry::protocol::ErrorCode;
use crate::spec::Digest;
use crate::spec::image::{Descriptor, media_type};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{AcquireError, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use upstream::{Trouble, Upstream};

/// How many questions the upstream is asked at once: each holds a thread.
const QUESTIONS: usize = 16;
/// How many blobs come at once.
const TRANSFERS: usize = 32;
/// A blob that is not longer is given out when it is whole: if it fails, the asker can be told why.
const SMALL: u64 = 1 << 20;
/// A page of a list is not longer.
const PAGE: u64 = 16 << 20;

/// The cache of one upstream.
pub struct Cache {
    upstream: Upstream,
    storage: Storage,
    ttl: Duration,
    metrics: Arc<Metrics>,
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    transfers: Mutex<HashMap<(String, Digest), Growing>>,
    questions: Arc<Semaphore>,
    lines: Arc<Semaphore>,
}

/// Where a blob is to be had.
enum Found {
    Here,
    Coming(Growing),
}

impl Cache {
    /// One over this storage, which must not be a registry's that is pushed to, or another upstream's.
    pub fn open(
        config: &Config,
        storage: &Storage,
        metrics: Arc<Metrics>,
        log: Log,
    ) -> Result<Cache> {
        let upstream = Upstream::new(config, metrics.clone(), log)?;
        claim(storage, &upstream.base)?;
        Ok(Cache {
            upstream,
            storage: storage.clone(),
            ttl: config.ttl,
            metrics,
            turns: Mutex::default(),
            transfers: Mutex::default(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            lines: Arc::new(Semaphore::new(TRANSFERS)),
        })
    }

    /// What it is a cache of.
    pub fn of(&self) -> &str {
        &self.upstream.base
    }

    /// Waits until nobody else does the same.
    async fn turn(&self, key: String) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(|e| e.into_inner());
            if turns.len() >= 256 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(key).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Asks the upstream beside the sockets' thread.
    async fn question<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Arc<Cache>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _permit = self.questions.acquire().await;
        let cache = self.clone();
        blocking_refusal(move || ask(&cache)).await
    }

    /// end-3: the answer, and whether a tag is new or names something new.
    pub async fn manifest(
        self: &Arc<Self>,
        repository: Repository,
        reference: String,
        if_none_match: Option<String>,
    ) -> Result<(Answer, bool), Refusal> {
        let began = SystemTime::now();
        if reference.contains(':') {
            blobs::digest(&reference)?;
        } else if !is_tag(&reference) {
            return Err(Refusal::new(ErrorCode::ManifestUnknown));
        }
        let (cache, of, name) = (self.clone(), repository.clone(), reference.clone());
        let fresh = blocking(move || cache.is_fresh(&of, &name, began)).await?;
        let changed = if fresh {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            false
        } else {
            let key = format!("{}:{reference}", repository.name());
            let _turn = self.turn(key).await;
            let (of, name) = (repository.clone(), reference.clone());
            self.question(move |cache| cache.renew(&of, &name, began))
                .await?
        };
        let get = move || {
            let answer = manifests::get(&repository, &reference, if_none_match.as_deref())?;
            let checked = fs::metadata(repository.tag(&reference)).and_then(|m| m.modified());
            let age = checked.ok().and_then(|at| at.elapsed().ok());
            Ok(match age.filter(|_| !reference.contains(':')) {
                Some(age) => answer.with("age", age.as_secs()),
                None => answer,
            })
        };
        Ok((blocking_refusal(get).await?, changed))
    }

    /// Whether a manifest can be given out without a question: by digest when it is there, by tag
    /// when the upstream was asked within the ttl, or since the asker `began` to wait.
    fn is_fresh(
        &self,
        repository: &Repository,
        reference: &str,
        began: SystemTime,
    ) -> Result<bool> {
        let Some((_, checked)) = local(repository, reference)? else {
            return Ok(false);
        };
        let Some(checked) = checked else {
            return Ok(true);
        };
        // A time in the future is a clock's that was set back: it says nothing.
        let age = checked.elapsed();
        Ok(age.is_ok_and(|age| age < self.ttl || checked >= began))
    }

    /// Asks the upstream what a tag names now, or for a manifest that is not here; whether a tag
    /// has changed.
    fn renew(
        &self,
        repository: &Repository,
        reference: &str,
        began: SystemTime,
    ) -> Result<bool, Refusal> {
        if self.is_fresh(repository, reference, began)? {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(false);
        }
        let known = local(repository, reference)?.map(|(digest, _)| digest);
        if known.is_some() && self.upstream.is_down() {
            self.metrics.cache_stale.fetch_add(1, Relaxed);
            return Ok(false);
        }
        match self.fetch(repository, reference, known.as_ref()) {
            Ok(changed) => Ok(changed),
            Err(Trouble::Down(_) | Trouble::Limited(_)) if known.is_some() => {
                self.metrics.cache_stale.fetch_add(1, Relaxed);
                Ok(false)
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::Missing) && known.is_some() {
                    tags::delete(repository, reference)?;
                }
                let refusal = trouble.refusal(self.of(), ErrorCode::ManifestUnknown);
                Err(refusal.detail(json!({ "reference": reference })))
            }
        }
    }

    fn fetch(
        &self,
        repository: &Repository,
        reference: &str,
        known: Option<&Digest>,
    ) -> Result<bool, Trouble> {
        let name = self.upstream.name(repository.name());
        let tag = Some(reference).filter(|r| !r.contains(':'));
        let said = self.upstream.digest(&name, reference)?;
        if said.is_some() && said.as_ref() == known && touch(repository, reference)? {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(false);
        }
        // Another tag's, or one that this tag had before.
        if let (Some(tag), Some(digest)) = (tag, &said)
            && let Some(record) = manifests::record(repository, digest)?
        {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            let descriptor = Descriptor {
                media_type: record.media_type,
                digest: digest.clone(),
                size: record.size,
                ..Descriptor::default()
            };
            let _lock = repository.share()?;
            tags::write(repository, tag, &descriptor)?;
            return Ok(true);
        }
        self.metrics.cache_misses.fetch_add(1, Relaxed);
        // By the digest that was said: the tag may move between two questions.
        let wanted = said.map_or(reference.to_string(), |d| d.to_string());
        let document = self.upstream.manifest(&name, &wanted)?;
        self.keep(repository, &wanted, tag, document)?;
        Ok(tag.is_some())
    }

    fn keep(
        &self,
        repository: &Repository,
        wanted: &str,
        tag: Option<&str>,
        document: Document,
    ) -> Result<(), Trouble> {
        let kind = &document.descriptor.media_type;
        let digest = wanted.parse().unwrap_or(document.descriptor.digest);
        let parsed = manifests::parse(&document.bytes, Some(kind)).map_err(|refusal| {
            let why = refusal.body.errors.first().map(|e| e.message.clone());
            self.upstream.fails(why.unwrap_or_default())
        })?;
        repository.create()?;
        let _lock = repository.share()?;
        manifests::store(repository, &digest, &document.bytes, parsed, tag)?;
        Ok(())
    }

    /// end-2.
    pub async fn blob(
        self: &Arc<Self>,
        repository: Repository,
        digest: Digest,
        ranges: Option<String>,
        head: bool,
    ) -> Result<Answer, Refusal> {
        let (of, wanted, asked) = (repository.clone(), digest.clone(), ranges.clone());
        let here = move || {
            let there = of.blob(&wanted).exists();
            let get = || blobs::get(&of, &wanted, asked.as_deref(), head);
            there.then(get).transpose()
        };
        if let Some(answer) = blocking_refusal(here.clone()).await? {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(answer);
        }
        if head {
            let (of, wanted) = (repository.name().to_string(), digest.clone());
            let size = move |cache: &Arc<Cache>| {
                let size = cache.upstream.size(&cache.upstream.name(&of), &wanted);
                size.map_err(|t| cache.no_blob(t, &wanted))
            };
            let size = self.question(size).await?;
            let empty = |_, count| Content::Empty(Some(count));
            return blobs::part(&digest, ranges.as_deref(), size, empty);
        }
        match self.join(&repository, &digest).await? {
            Found::Coming(growing) if growing.size > SMALL => {
                let size = growing.size;
                return blobs::part(&digest, ranges.as_deref(), size, |first, count| {
                    Content::Growing(growing, first, count)
                });
            }
            Found::Coming(growing) => {
                let failed = |why| self.no_blob(Trouble::Down(why), &digest);
                growing.whole().await.map_err(failed)?;
            }
            Found::Here => {}
        }
        let answer = blocking_refusal(here).await?;
        answer.ok_or_else(|| blobs::unknown(&digest))
    }

    fn no_blob(&self, trouble: Trouble, digest: &Digest) -> Refusal {
        let refusal = trouble.refusal(self.of(), ErrorCode::BlobUnknown);
        refusal.detail(json!({ "digest": digest }))
    }

    /// The transfer of a blob that is not here: the one that runs, or a new one.
    async fn join(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Found, Refusal> {
        let key = (repository.name().to_string(), digest.clone());
        let _turn = self.turn(format!("{}@{digest}", key.0)).await;
        let running = self.transfers().get(&key).cloned();
        if let Some(growing) = running {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(Found::Coming(growing));
        }
        let line = self.lines.clone().acquire_owned().await;
        let repository = repository.clone();
        let started = self.question(move |cache| cache.start(&repository, &key.1, line));
        started.await
    }

    /// Begins a transfer, unless the blob is here or in another repository. Its thread has a place in
    /// the `line` until it ends.
    fn start(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
        line: Result<OwnedSemaphorePermit, AcquireError>,
    ) -> Result<Found, Refusal> {
        // The one before may have ended while we waited.
        if repository.blob(digest).exists() {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(Found::Here);
        }
        let size = self
            .upstream
            .size(&self.upstream.name(repository.name()), digest);
        let size = size.map_err(|t| self.no_blob(t, digest))?;
        // Another repository's: that the upstream has it in this one, too, was just said.
        if blobs::mount(repository, digest, None)?.is_some() {
            self.metrics.cache_hits.fetch_add(1, Relaxed);
            return Ok(Found::Here);
        }
        self.metrics.cache_misses.fetch_add(1, Relaxed);
        let (writer, growing) = transfer::begin(self.storage.temporary(), size)?;
        let key = (repository.name().to_string(), digest.clone());
        self.transfers().insert(key.clone(), growing.clone());
        let (cache, repository, thread_key) = (self.clone(), repository.clone(), key.clone());
        let fetch = move || {
            let _line = line;
            let descriptor = Descriptor {
                digest: thread_key.1.clone(),
                size,
                ..Descriptor::default()
            };
            let done = transfer::run(&cache.upstream, &repository, &descriptor, &writer);
            // First it is here, or forgotten; then those who wait hear of it.
            cache.transfers().remove(&thread_key);
            writer.end(&done);
        };
        let thread = std::thread::Builder::new()
            .name("transfer".into())
            .spawn(fetch);
        if let Err(e) = thread {
            self.transfers().remove(&key);
            return Err(Error::new("cannot start a thread").caused_by(e).into());
        }
        Ok(Found::Coming(growing))
    }

    fn transfers(&self) -> MutexGuard<'_, HashMap<(String, Digest), Growing>> {
        self.transfers.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// end-8: the upstream's tags; while it does not answer, those that are here.
    pub async fn tags(
        self: &Arc<Self>,
        repository: Repository,
        query: String,
    ) -> Result<Answer, Refusal> {
        self.question(move |cache| {
            let path = format!("/v2/{}/tags/list", repository.name());
            match cache.list(&repository, "tags/list", &query) {
                Ok((mut list, link)) => {
                    list["name"] = json!(repository.name());
                    Ok(linked(Answer::json(&list), &path, link))
                }
                Err(Trouble::Down(_) | Trouble::Limited(_)) if repository.exists() => {
                    cache.metrics.cache_stale.fetch_add(1, Relaxed);
                    tags::list(&repository, &Query::new(&query))
                }
                Err(trouble) => {
                    let refusal = trouble.refusal(cache.of(), ErrorCode::NameUnknown);
                    Err(refusal.detail(json!({ "name": repository.name() })))
                }
            }
        })
        .await
    }

    /// end-12: the upstream's referrers, or those that are here. An upstream that does not keep them
    /// says 404, and so do we: the client then looks for the tag that stands in for them.
    pub async fn referrers(
        self: &Arc<Self>,
        repository: Repository,
        subject: Digest,
        query: String,
    ) -> Result<Answer, Refusal> {
        self.question(move |cache| {
            let rest = format!("referrers/{subject}");
            let path = format!("/v2/{}/{rest}", repository.name());
            match cache.list(&repository, &rest, &query) {
                Ok((list, link)) => {
                    let mut answer = linked(Answer::json(&list), &path, link);
                    answer.headers[0].1 = media_type::INDEX.into();
                    Ok(answer)
                }
                Err(Trouble::Down(_) | Trouble::Limited(_)) if repository.exists() => {
                    cache.metrics.cache_stale.fetch_add(1, Relaxed);
                    referrers::list(&repository, &subject, &Query::new(&query))
                }
                Err(trouble) => Err(trouble.refusal(cache.of(), ErrorCode::ManifestUnknown)),
            }
        })
        .await
    }

    /// A list of the upstream's, and the query of the page after it.
    fn list(
        &self,
        repository: &Repository,
        rest: &str,
        query: &str,
    ) -> Result<(Value, Option<String>), Trouble> {
        let name = self.upstream.name(repository.name());
        let mark = if query.is_empty() { "" } else { "?" };
        let response = self
            .upstream
            .ask("GET", &name, &format!("{rest}{mark}{query}"), None)?;
        let link = response.all("link").iter().find_map(|l| next_page(l));
        let next = link.and_then(|l| l.split_once('?').map(|(_, query)| query.to_string()));
        let broken = |why: String| self.upstream.fails(why);
        let bytes = response.bytes(PAGE).map_err(|e| broken(format!("{e:#}")))?;
        let list: Value = serde_json::from_slice(&bytes)
            .map_err(|e| broken(format!("its list is no JSON: {e}")))?;
        match list.is_object() {
            true => Ok((list, next)),
            false => Err(broken("its list is no JSON object".into())),
        }
    }
}

fn linked(answer: Answer, path: &str, query: Option<String>) -> Answer {
    match query {
        Some(query) => answer.with("link", format!("<{path}?{query}>; rel=\"next\"")),
        None => answer,
    }
}

/// A manifest that is here, and for a tag when the upstream was last asked.
fn local(repository: &Repository, reference: &str) -> Result<Option<(Digest, Option<SystemTime>)>> {
    if let Ok(digest) = reference.parse::<Digest>() {
        let record: Option<Record> = manifests::record(repository, &digest)?;
        return Ok(record.map(|_| (digest, None)));
    }
    let Some(descriptor) = tags::read(repository, reference)? else {
        return Ok(None);
    };
    if manifests::record(repository, &descriptor.digest)?.is_none() {
        return Ok(None);
    }
    let checked = fs::metadata(repository.tag(reference)).and_then(|m| m.modified());
    Ok(Some((
        descriptor.digest,
        Some(checked.unwrap_or(SystemTime::UNIX_EPOCH)),
    )))
}

/// Notes that the upstream was asked now; false if gc has just taken the tag away.
fn touch(repository: &Repository, tag: &str) -> Result<bool> {
    let path = repository.tag(tag);
    let now = FileTimes::new().set_modified(SystemTime::now());
    match File::open(&path).and_then(|file| file.set_times(now)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        touched => touched
            .with_context(|| format!("cannot touch {}", path.display()))
            .map(|()| true),
    }
}

/// What a directory is a cache of.
pub fn upstream_of(storage: &Storage) -> Result<Option<String>> {
    let bytes = storage::read(&storage.root().join("upstream"))?;
    Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
}

/// Writes down what a directory is a cache of; one that holds something else is refused, because a
/// tag that the upstream lacks is taken away.
fn claim(storage: &Storage, base: &str) -> Result<()> {
    let path = storage.root().join("upstream");
    let other = match upstream_of(storage)? {
        Some(of) if of == base => return Ok(()),
        Some(of) => format!("is a cache of {of}"),
        None => {
            let mut any = false;
            storage.repositories(&mut |_| {
                any = true;
                Ok(())
            })?;
            if !any {
                return storage.write(&path, base.as_bytes());
            }
            "is a registry of its own, not a cache".into()
        }
    };
    Err(Error::kind(
        Kind::Conflict,
        format!("{} {other}", storage.root().display()),
    )
    .hint("give each cache a directory of its own with --data"))
}
