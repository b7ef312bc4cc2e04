//! Tags: one small file each, listed in order and in pages; and the index that is made out of them.
//!
//! What it does: `_tags/TAG` holds the descriptor of what the tag names. A list reads the
//! directory's names once and keeps no more of them than the page has. `index.json`, which other
//! tools read, is written anew when the directory is younger than it: by the server some time after
//! a change, at its start, and by gc.
//!
//! What it implements: distribution-spec 1.1 end-8a, end-8b; image-spec "index.json File".
//! Interface: [`list`], [`page`], [`read`], [`write`], [`delete`], [`write_index`]. Read next:
//! `referrers.rs`.

use super::answer::{Answer, Refusal};
use super::route::{Query, encoded, is_tag};
use super::storage::{self, Repository, Storage};
use crate::error::{Context, Result};
use crate::registry::protocol::ErrorCode;
use crate::spec::Digest;
use crate::spec::image::{Descriptor, REF_NAME, media_type};
use serde_json::json;
use std::collections::{BinaryHeap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::time::Duration;

/// The longest page, so that no list needs much memory; a client that wants more follows `Link`.
pub const PAGE: usize = 1000;

/// end-8: the names after `last`, `n` of them.
pub fn list(repository: &Repository, query: &Query) -> Result<Answer, Refusal> {
    if !repository.exists() {
        return Err(
            Refusal::new(ErrorCode::NameUnknown).detail(json!({ "name": repository.name() }))
        );
    }
    let limit = limit(query)?;
    let last = query.get("last").unwrap_or_default();
    let names =
        storage::entries(&repository.tags())?.map(|e| e.file_name().to_string_lossy().into_owned());
    let (tags, more) = page(names.filter(|n| is_tag(n)), last, limit);
    let path = format!("/v2/{}/tags/list", repository.name());
    let mut answer = Answer::json(&json!({ "name": repository.name(), "tags": tags }));
    if let Some(link) = next(&path, limit, tags.last(), more) {
        answer = answer.with("link", link);
    }
    Ok(answer)
}

/// The repositories, in the same form: `_catalog`.
pub fn catalog(storage: &Storage, query: &Query) -> Result<Answer, Refusal> {
    let limit = limit(query)?;
    let last = query.get("last").unwrap_or_default();
    let mut page = Page::new(last, limit);
    storage.repositories(&mut |repository| {
        page.add(repository.name().to_string());
        Ok(())
    })?;
    let (names, more) = page.finish();
    let mut answer = Answer::json(&json!({ "repositories": names }));
    if let Some(link) = next("/v2/_catalog", limit, names.last(), more) {
        answer = answer.with("link", link);
    }
    Ok(answer)
}

fn limit(query: &Query) -> Result<usize, Refusal> {
    let Some(n) = query.get("n") else {
        return Ok(PAGE);
    };
    match n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty() {
        true => Ok(n.parse().unwrap_or(PAGE).min(PAGE)),
        false => Err(
            Refusal::because(ErrorCode::Unsupported, format!("n is a number, not {n:?}"))
                .status(400),
        ),
    }
}

fn next(path: &str, n: usize, last: Option<&String>, more: bool) -> Option<String> {
    let last = last.filter(|_| more)?;
    Some(format!(
        "<{path}?n={n}&last={}>; rel=\"next\"",
        encoded(last)
    ))
}

/// The first names after one, in the order of their bytes, whatever order they come in.
struct Page<'a> {
    last: &'a str,
    limit: usize,
    kept: BinaryHeap<String>,
    more: bool,
}

impl<'a> Page<'a> {
    fn new(last: &'a str, limit: usize) -> Page<'a> {
        Page {
            last,
            limit,
            kept: BinaryHeap::new(),
            more: false,
        }
    }
    fn add(&mut self, name: String) {
        if name.as_str() <= self.last {
            return;
        }
        if self.kept.len() < self.limit {
            self.kept.push(name);
            return;
        }
        self.more = true;
        if let Some(mut largest) = self.kept.peek_mut()
            && name < *largest
        {
            *largest = name;
        }
    }
    fn finish(self) -> (Vec<String>, bool) {
        let more = self.more && self.limit > 0;
        (self.kept.into_sorted_vec(), more)
    }
}

/// The first `limit` names after `last`, sorted, and whether there are more.
pub fn page(names: impl Iterator<Item = String>, last: &str, limit: usize) -> (Vec<String>, bool) {
    let mut page = Page::new(last, limit);
    names.for_each(|n| page.add(n));
    page.finish()
}

/// What a tag names.
pub fn read(repository: &Repository, tag: &str) -> Result<Option<Descriptor>> {
    if !is_tag(tag) {
        return Ok(None);
    }
    let path = repository.tag(tag);
    let Some(bytes) = storage::read(&path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged", path.display()))
        .map(Some)
}

/// Lets a tag name a manifest.
pub fn write(repository: &Repository, tag: &str, manifest: &Descriptor) -> Result<()> {
    let bytes = serde_json::to_vec(manifest).context("cannot write JSON")?;
    repository.storage().write(&repository.tag(tag), &bytes)
}

/// Removes a tag; whether it was there.
pub fn delete(repository: &Repository, tag: &str) -> Result<bool> {
    match is_tag(tag) {
        true => storage::remove(&repository.tag(tag)),
        false => Ok(false),
    }
}

/// All tags and what they name, one at a time, in no order.
pub fn each(
    repository: &Repository,
    mut each: impl FnMut(String, Descriptor) -> Result<()>,
) -> Result<()> {
    for entry in storage::entries(&repository.tags())? {
        let tag = entry.file_name().to_string_lossy().into_owned();
        if let Some(descriptor) = read(repository, &tag)? {
            each(tag, descriptor)?;
        }
    }
    Ok(())
}

/// The tags that nobody has written or, in a cache, asked the upstream about for this long.
pub fn unused(repository: &Repository, since: Duration) -> Result<HashSet<String>> {
    let mut those = HashSet::new();
    for entry in storage::entries(&repository.tags())? {
        let age = entry.metadata().and_then(|m| m.modified());
        // A clock that was set back makes things young: they stay.
        if age.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= since)) {
            those.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(those)
}

/// Removes all tags that name this manifest.
pub fn delete_all(repository: &Repository, digest: &Digest) -> Result<()> {
    let mut those = Vec::new();
    each(repository, |tag, descriptor| {
        if descriptor.digest == *digest {
            those.push(tag);
        }
        Ok(())
    })?;
    those
        .iter()
        .try_for_each(|tag| delete(repository, tag).map(drop))
}

/// Whether the index is older than the tags.
pub fn index_is_old(repository: &Repository) -> bool {
    let changed = |path| fs::metadata(path).and_then(|m| m.modified()).ok();
    // The clock of files is coarse: what is equal may be older.
    changed(repository.path().join("index.json")) <= changed(repository.tags())
}

/// Makes `index.json` out of the tags. Its time is that of before the tags were read, so that a tag
/// which comes meanwhile is seen to be younger.
pub fn write_index(repository: &Repository) -> Result<()> {
    let path = repository.path().join("index.json");
    let temporary = repository.storage().temporary();
    let build = || -> Result<()> {
        let what = || format!("cannot write {}", temporary.display());
        let file = File::create_new(&temporary).with_context(what)?;
        // The file system's clock, not ours, which is finer: it is compared with a directory's time.
        let begun = file
            .metadata()
            .and_then(|m| m.modified())
            .with_context(what)?;
        let mut out = BufWriter::new(file);
        write!(
            out,
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":["#,
            media_type::INDEX
        )
        .with_context(what)?;
        let names = storage::entries(&repository.tags())?
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let (names, _) = page(names, "", usize::MAX);
        let mut comma = "";
        for tag in names {
            let Some(mut descriptor) = read(repository, &tag)? else {
                continue;
            };
            descriptor.annotations.insert(REF_NAME.into(), tag);
            out.write_all(comma.as_bytes()).with_context(what)?;
            serde_json::to_writer(&mut out, &descriptor).context("cannot write JSON")?;
            comma = ",";
        }
        out.write_all(b"]}").with_context(what)?;
        let file = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .with_context(what)?;
        file.sync_all()
            .and_then(|()| file.set_modified(begun))
            .with_context(what)?;
        fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))
    };
    build().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_the_order_of_bytes() {
        let names = || {
            ["b", "A", "a", "10", "9", "c"]
                .iter()
                .map(ToString::to_string)
        };
        assert_eq!(
            page(names(), "", 10),
            (
                vec!["10", "9", "A", "a", "b", "c"]
                    .into_iter()
                    .map(String::from)
                    .collect(),
                false
            )
        );
        assert_eq!(
            page(names(), "A", 2),
            (vec!["a".to_string(), "b".to_string()], true)
        );
        assert_eq!(
            page(names(), "a", 2),
            (vec!["b".to_string(), "c".to_string()], false)
        );
        assert_eq!(page(names(), "", 0), (vec![], false));
        assert_eq!(page(names(), "zzz", 5), (vec![], false));
    }

    #[test]
    fn the_index_follows_the_tags() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::create(dir.path()).unwrap();
        let repository = storage.repository("a/b");
        repository.create().unwrap();
        let one = Descriptor {
            media_type: media_type::MANIFEST.into(),
            size: 3,
            ..Descriptor::default()
        };
        write(&repository, "v2", &one).unwrap();
        write(&repository, "v1", &one).unwrap();
        assert!(index_is_old(&repository));
        std::thread::sleep(std::time::Duration::from_millis(20));
        write_index(&repository).unwrap();
        assert!(!index_is_old(&repository));
        let index: crate::spec::image::Index =
            serde_json::from_slice(&fs::read(repository.path().join("index.json")).unwrap())
                .unwrap();
        let names: Vec<&str> = index
            .manifests
            .iter()
            .map(|m| m.annotations[REF_NAME].as_str())
            .collect();
        assert_eq!(names, ["v1", "v2"]);
        delete_all(&repository, &one.digest).unwrap();
        assert!(read(&repository, "v1").unwrap().is_none());
        assert!(index_is_old(&repository));
    }
}
