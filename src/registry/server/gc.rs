//! gc: what no manifest needs goes, while others push and pull.
//!
//! ```text
//!   each repository:   read all manifests, without a lock
//!                      lock it: no manifest comes or goes now
//!                      read those that came meanwhile
//!                      unlink blobs that none names and that nobody has touched for the grace
//!   then:              unlink shared blobs that have one link, and uploads given up
//! ```
//!
//! Why it is safe: a client pushes blobs first and the manifest after them. A blob that was pushed,
//! mounted, or looked for with HEAD has a young change time (`st_ctime`, which link(2) and
//! utimensat(2) renew and nobody can set back), and stays for the time of grace. A manifest comes
//! under the repository's lock, which checks its blobs; gc holds that lock alone while it unlinks.
//! A file that is being sent is open and outlives its name. Of a cache, what went comes again when it
//! is asked for.
//!
//! Interface: [`collect`], [`Options`], [`Report`]. Read next: `cache/mod.rs`.

use super::manifests::{self, Needs, Record};
use super::storage::{self, ALGORITHMS, Repository, Storage};
use super::{cache, tags, uploads};
use crate::error::{Context, Error, Kind, Result};
use crate::spec::Digest;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// What goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a blob that nobody names is kept.
    pub grace: Duration,
    /// Whether manifests go, too, that no tag, index or subject leads to.
    pub untagged: bool,
    /// Of a cache: tags go that nobody has asked for this long, and what then nothing leads to.
    pub unused_for: Option<Duration>,
    /// Whether nothing goes, and it is only counted.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Repositories that were looked at.
    pub repositories: usize,
    /// Tags of a cache that nobody asked for.
    pub tags: usize,
    /// Manifests without a tag.
    pub manifests: usize,
    /// Blobs that left a repository.
    pub blobs: usize,
    /// Shared blobs that were in no repository.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were given up.
    pub uploads: usize,
}

/// Collects. Errors: a registry that is pushed to has no tags that may go by themselves.
pub fn collect(storage: &Storage, options: &Options) -> Result<Report> {
    if options.unused_for.is_some() && cache::upstream_of(storage)?.is_none() {
        let what = format!(
            "{} is no cache of another registry",
            storage.root().display()
        );
        return Err(Error::kind(Kind::Conflict, what)
            .hint("what was pushed is nowhere else; `glassbox registry rm` takes a tag away"));
    }
    let mut report = Report::default();
    let mut repositories = Vec::new();
    storage.repositories(&mut |repository| {
        repositories.push(repository.name().to_string());
        Ok(())
    })?;
    for name in repositories {
        repository(&storage.repository(&name), options, &mut report)
            .with_context(|| format!("cannot collect in the repository {name}"))?;
        report.repositories += 1;
    }
    if !options.dry_run {
        report.uploads =
            uploads::expire(storage, Duration::from_secs(24 * 3600).max(options.grace))?;
    }
    shared(storage, options, &mut report)?;
    Ok(report)
}

/// The manifests of a repository and what they name.
#[derive(Default)]
struct Marks {
    manifests: BTreeMap<Digest, (Record, Needs)>,
}

impl Marks {
    /// Reads the manifests that are not known yet, and forgets those that are gone.
    fn read(&mut self, repository: &Repository) -> Result<()> {
        let mut there = HashSet::new();
        for algorithm in ALGORITHMS {
            for entry in storage::entries(&repository.path().join("_manifests").join(algorithm))? {
                let Ok(digest) = format!("{algorithm}:{}", entry.file_name().to_string_lossy())
                    .parse::<Digest>()
                else {
                    continue;
                };
                there.insert(digest.clone());
                if self.manifests.contains_key(&digest) {
                    continue;
                }
                let Some(record) = manifests::record(repository, &digest)? else {
                    continue;
                };
                let damaged = || format!("the manifest {digest} is damaged");
                let bytes = storage::read(&repository.blob(&digest))?.with_context(damaged)?;
                let value = serde_json::from_slice(&bytes).with_context(damaged)?;
                self.manifests.insert(digest, (record, Needs::of(&value)?));
            }
        }
        self.manifests.retain(|digest, _| there.contains(digest));
        Ok(())
    }

    /// All digests that must stay.
    fn needed(&self) -> HashSet<&Digest> {
        let named = self
            .manifests
            .values()
            .flat_map(|(_, needs)| needs.blobs.iter().chain(&needs.manifests));
        self.manifests.keys().chain(named).collect()
    }

    /// Manifests that neither a tag leads to which stays, nor an index, nor a subject.
    fn unreachable(&self, repository: &Repository, going: &HashSet<String>) -> Result<Vec<Digest>> {
        let mut found: HashSet<Digest> = HashSet::new();
        tags::each(repository, |tag, descriptor| {
            if !going.contains(&tag) {
                found.insert(descriptor.digest);
            }
            Ok(())
        })?;
        let mut next: Vec<Digest> = found.iter().cloned().collect();
        while let Some(digest) = next.pop() {
            let below = self
                .manifests
                .get(&digest)
                .map(|(_, needs)| needs.manifests.clone())
                .unwrap_or_default();
            let pointing = self
                .manifests
                .iter()
                .filter(|(_, (r, _))| r.subject.as_ref() == Some(&digest));
            for more in below.into_iter().chain(pointing.map(|(d, _)| d.clone())) {
                if found.insert(more.clone()) {
                    next.push(more);
                }
            }
        }
        Ok(self
            .manifests
            .keys()
            .filter(|d| !found.contains(*d))
            .cloned()
            .collect())
    }
}

fn repository(repository: &Repository, options: &Options, report: &mut Report) -> Result<()> {
    let mut marks = Marks::default();
    marks.read(repository)?;
    let lock = repository.lock()?;
    marks.read(repository)?;
    let going = match options.unused_for {
        Some(since) => tags::unused(repository, since)?,
        None => HashSet::new(),
    };
    report.tags += going.len();
    if !options.dry_run {
        for tag in &going {
            tags::delete(repository, tag)?;
        }
    }
    if options.untagged || options.unused_for.is_some() {
        for digest in marks.unreachable(repository, &going)? {
            // A manifest is pushed before its index, and by digest before its tag.
            let path = repository.manifest(&digest);
            if !is_old(
                &fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?,
                options.grace,
            ) {
                continue;
            }
            report.manifests += 1;
            if let Some((record, _)) = marks.manifests.remove(&digest)
                && !options.dry_run
            {
                manifests::forget(repository, &digest, &record)?;
            }
        }
    }
    let needed = marks.needed();
    for algorithm in ALGORITHMS {
        for entry in storage::entries(&repository.path().join("blobs").join(algorithm))? {
            let digest =
                format!("{algorithm}:{}", entry.file_name().to_string_lossy()).parse::<Digest>();
            if digest.is_ok_and(|d| needed.contains(&d)) {
                continue;
            }
            if unlink(&entry.path(), options, |_| true)?.is_some() {
                report.blobs += 1;
            }
        }
    }
    drop(lock);
    if !options.dry_run && tags::index_is_old(repository) {
        tags::write_index(repository)?;
    }
    Ok(())
}

/// Shared blobs that no repository has. Who links one at this moment keeps it: the link's file
/// stays, and is only shared no more.
fn shared(storage: &Storage, options: &Options, report: &mut Report) -> Result<()> {
    for algorithm in ALGORITHMS {
        for entry in storage::entries(&storage.root().join("blobs").join(algorithm))? {
            if let Some(size) = unlink(&entry.path(), options, |meta| meta.nlink() == 1)? {
                report.files += 1;
                report.bytes += size;
            }
        }
    }
    Ok(())
}

/// Removes a file that is old enough and, as it is now, may go; its size.
fn unlink(
    path: &std::path::Path,
    options: &Options,
    may_go: impl Fn(&Metadata) -> bool,
) -> Result<Option<u64>> {
    let failed =
        |e: std::io::Error| Error::new(format!("cannot remove {}", path.display())).caused_by(e);
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    if !may_go(&meta) || !is_old(&meta, options.grace) {
        return Ok(None);
    }
    if !options.dry_run {
        match fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(Some(meta.len()))
}

fn is_old(meta: &Metadata, grace: Duration) -> bool {
    let since = Duration::new(meta.ctime().max(0) as u64, meta.ctime_nsec().max(0) as u32);
    // A clock that was set back makes things young: they stay.
    (SystemTime::UNIX_EPOCH + since)
        .elapsed()
        .is_ok_and(|age| age >= grace)
}
