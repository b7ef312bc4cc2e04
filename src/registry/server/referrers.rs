//! Referrers: what points at a manifest, by its `subject`.
//!
//! What it does: for each manifest with a subject one small file below the subject's digest, which
//! holds the descriptor that the list shows. The subject need not exist. A list that is large goes
//! out in pages.
//!
//! What it implements: distribution-spec 1.1 end-12a, end-12b, "Listing Referrers", "Pushing
//! Manifests with Subject". Interface: [`list`], [`add`], [`remove`]. Read next: `gc.rs`.

use super::answer::{Answer, Refusal};
use super::route::{Query, encoded};
use super::storage::{self, Repository};
use super::tags;
use crate::error::{Context, Result};
use crate::registry::protocol::header;
use crate::spec::Digest;
use crate::spec::image::{Descriptor, media_type};
use serde_json::json;

/// A page ends when it has so many bytes.
const PAGE: usize = 1 << 20;

/// end-12: an index of them; of none an empty one.
pub fn list(repository: &Repository, subject: &Digest, query: &Query) -> Result<Answer, Refusal> {
    let filter = query.get("artifactType").filter(|f| !f.is_empty());
    let last = query.get("last").unwrap_or_default();
    let dir = repository.referrers(subject);
    let names = storage::entries(&dir)?.map(|e| e.file_name().to_string_lossy().into_owned());
    let (names, mut more) = tags::page(names, last, tags::PAGE);
    let (mut size, mut manifests, mut end) = (0, Vec::new(), None);
    for name in names {
        if size >= PAGE {
            more = true;
            break;
        }
        // A push that was killed may have left the entry without its manifest.
        let stored = name.parse().is_ok_and(|d| repository.manifest(&d).exists());
        if let Some(bytes) = storage::read(&dir.join(&name))?.filter(|_| stored) {
            let descriptor: Descriptor = serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", dir.join(&name).display()))?;
            if filter.is_none_or(|f| descriptor.artifact_type.as_deref() == Some(f)) {
                size += bytes.len();
                manifests.push(descriptor);
            }
        }
        end = Some(name);
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": manifests });
    let mut answer = Answer::json(&index);
    answer.headers = vec![("content-type", media_type::INDEX.to_string())];
    if filter.is_some() {
        answer = answer.with(header::FILTERS_APPLIED, "artifactType");
    }
    if let Some(end) = end.filter(|_| more) {
        let filter = filter
            .map(|f| format!("artifactType={}&", encoded(f)))
            .unwrap_or_default();
        let path = format!("/v2/{}/referrers/{subject}", repository.name());
        answer = answer.with(
            "link",
            format!("<{path}?{filter}last={}>; rel=\"next\"", encoded(&end)),
        );
    }
    Ok(answer)
}

/// Adds one to its subject's list.
pub fn add(repository: &Repository, subject: &Digest, referrer: &Descriptor) -> Result<()> {
    let dir = repository.referrers(subject);
    storage::make_dirs(&dir)?;
    let bytes = serde_json::to_vec(referrer).context("cannot write JSON")?;
    repository
        .storage()
        .write(&dir.join(referrer.digest.to_string()), &bytes)
}

/// Takes one out.
pub fn remove(repository: &Repository, subject: &Digest, referrer: &Digest) -> Result<()> {
    let dir = repository.referrers(subject);
    storage::remove(&dir.join(referrer.to_string()))?;
    let _ = std::fs::remove_dir(&dir); // as long as there are others, it stays
    Ok(())
}
