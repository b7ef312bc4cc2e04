//! Manifests: given out byte for byte, checked before they are stored, deleted with their tags.
//!
//! What it does: a manifest is a blob of its repository and a record beside it, which says its media
//! type. It is stored when all that it needs is there, in this order: content, referrer, record,
//! tag. So whoever is killed in between leaves nothing that can be seen by half.
//!
//! What it implements: distribution-spec 1.1 end-3, end-7, end-9. Interface: [`get`], [`put`],
//! [`delete`], [`Record`], [`Needs`]. Read next: `tags.rs`.

use super::answer::{Answer, Content, Refusal};
use super::blobs;
use super::referrers;
use super::route::is_tag;
use super::storage::{self, Repository};
use super::tags;
use crate::error::{Context, Error, Result};
use crate::registry::protocol::{ErrorCode, header};
use crate::spec::Digest;
use crate::spec::image::{Descriptor, media_type};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is known of a stored manifest without reading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What it was pushed as, and is given out as.
    pub media_type: String,
    /// Its length.
    pub size: u64,
    /// What it points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
}

/// What a manifest needs of its repository.
#[derive(Debug, Default, PartialEq)]
pub struct Needs {
    /// Blobs, but for those that may not be distributed.
    pub blobs: Vec<Digest>,
    /// Manifests of an index. They may come later, or never: an index may be sparse.
    pub manifests: Vec<Digest>,
    /// What it points at, which may be missing.
    pub subject: Option<Digest>,
}

impl Needs {
    /// Reads them out of a manifest's or an index's JSON.
    ///
    /// # Errors
    /// A field that is there and is no descriptor.
    pub fn of(manifest: &Value) -> Result<Needs> {
        let mut needs = Needs::default();
        let list = |field: &str| match manifest.get(field) {
            None | Some(Value::Null) => Ok(&[][..]),
            Some(Value::Array(items)) => Ok(items.as_slice()),
            Some(_) => Err(Error::new(format!("{field:?} is no list"))),
        };
        let blobs = manifest.get("config").filter(|c| !c.is_null()).into_iter();
        for descriptor in blobs.chain(list("layers")?).chain(list("blobs")?) {
            let kind = descriptor
                .get("mediaType")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let elsewhere =
                kind.contains("nondistributable") || kind == media_type::DOCKER_LAYER_FOREIGN_GZIP;
            let digest = digest_of(descriptor)?;
            if !elsewhere {
                needs.blobs.push(digest);
            }
        }
        for descriptor in list("manifests")? {
            needs.manifests.push(digest_of(descriptor)?);
        }
        needs.subject = manifest
            .get("subject")
            .filter(|s| !s.is_null())
            .map(digest_of)
            .transpose()?;
        Ok(needs)
    }
}

fn digest_of(descriptor: &Value) -> Result<Digest> {
    let text = descriptor
        .get("digest")
        .and_then(Value::as_str)
        .context("a descriptor has no digest")?;
    text.parse()
}

/// The manifest that a reference names: a tag or a digest.
pub fn resolve(repository: &Repository, reference: &str) -> Result<(Digest, Record), Refusal> {
    let unknown =
        || Refusal::new(ErrorCode::ManifestUnknown).detail(json!({ "reference": reference }));
    let digest = match reference.contains(':') {
        true => blobs::digest(reference)?,
        false => {
            tags::read(repository, reference)?
                .ok_or_else(unknown)?
                .digest
        }
    };
    let record = record(repository, &digest)?.ok_or_else(unknown)?;
    Ok((digest, record))
}

/// The record of a manifest of a repository.
pub fn record(repository: &Repository, digest: &Digest) -> Result<Option<Record>> {
    let path = repository.manifest(digest);
    let Some(bytes) = storage::read(&path)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is damaged", path.display()))
        .map(Some)
}

/// end-3: GET and, without its body, HEAD.
pub fn get(
    repository: &Repository,
    reference: &str,
    if_none_match: Option<&str>,
) -> Result<Answer, Refusal> {
    let (digest, record) = resolve(repository, reference)?;
    let etag = format!("\"{digest}\"");
    if if_none_match.is_some_and(|wanted| wanted.split(',').any(|w| w.trim() == etag)) {
        return Ok(Answer::new(304)
            .with("etag", etag)
            .with(header::CONTENT_DIGEST, &digest));
    }
    let (file, length) = blobs::open(repository, &digest)?.ok_or_else(|| {
        Error::new(format!(
            "the content of {digest} is missing in {}",
            repository.path().display()
        ))
    })?;
    Ok(Answer::new(200)
        .with("content-type", record.media_type)
        .with(header::CONTENT_DIGEST, &digest)
        .with("etag", etag)
        .body(Content::File(Arc::new(file), 0, length)))
}

/// A manifest that was read and makes sense.
pub struct Parsed {
    needs: Needs,
    media_type: String,
    /// For a list of referrers.
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

/// Reads what was pushed as this media type.
pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Parsed, Refusal> {
    let invalid = |why: String| Refusal::because(ErrorCode::ManifestInvalid, why);
    let manifest: Value =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("this is no JSON: {e}")))?;
    if !manifest.is_object() {
        return Err(invalid("a manifest is a JSON object".into()));
    }
    let text = |field: &str| {
        manifest
            .get(field)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    let announced = content_type
        .map(|t| t.split(';').next().unwrap_or(t).trim())
        .filter(|t| !t.is_empty());
    if let (Some(announced), Some(own)) = (announced, text("mediaType"))
        && announced != own
    {
        return Err(invalid(format!(
            "it was sent as {announced} and says {own}"
        )));
    }
    if manifest
        .get("schemaVersion")
        .and_then(Value::as_u64)
        .is_some_and(|v| v != 2)
    {
        return Err(invalid("only schema version 2 is supported".into()));
    }
    let guess = if manifest.get("manifests").is_some() {
        media_type::INDEX
    } else {
        media_type::MANIFEST
    };
    let needs = Needs::of(&manifest).map_err(|e| invalid(format!("{e:#}")))?;
    let config = || {
        manifest
            .get("config")
            .and_then(|c| c.get("mediaType"))
            .and_then(Value::as_str)
    };
    let artifact_type = text("artifactType").or_else(config).map(String::from);
    let annotations = manifest
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Ok(Parsed {
        needs,
        media_type: announced.or(text("mediaType")).unwrap_or(guess).to_string(),
        artifact_type,
        annotations: annotations
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())))
            .collect(),
    })
}

/// end-7.
pub fn put(
    repository: &Repository,
    reference: &str,
    bytes: &Bytes,
    content_type: Option<&str>,
) -> Result<Answer, Refusal> {
    let (digest, tag) = match reference.contains(':') {
        true => (blobs::digest(reference)?, None),
        false if is_tag(reference) => (Digest::sha256(bytes), Some(reference)),
        false => {
            return Err(Refusal::because(
                ErrorCode::ManifestInvalid,
                format!("{reference:?} cannot be a tag"),
            ));
        }
    };
    if tag.is_none() && !digest.matches(bytes) {
        let found = Digest::of(digest.algorithm(), bytes);
        return Err(Refusal::because(
            ErrorCode::DigestInvalid,
            format!("the manifest has the digest {found}"),
        ));
    }
    let parsed = parse(bytes, content_type)?;
    repository.create()?;
    let _lock = repository.share()?;
    let missing: Vec<Value> = parsed
        .needs
        .blobs
        .iter()
        .filter(|d| !repository.blob(d).exists())
        .map(|d| json!({ "digest": d }))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal::several(ErrorCode::ManifestBlobUnknown, missing));
    }
    let subject = parsed.needs.subject.clone();
    store(repository, &digest, bytes, parsed, tag)?;
    let mut answer = Answer::new(201)
        .with(
            "location",
            format!("/v2/{}/manifests/{reference}", repository.name()),
        )
        .with(header::CONTENT_DIGEST, &digest);
    if let Some(subject) = subject {
        answer = answer.with(header::SUBJECT, subject);
    }
    Ok(answer)
}

/// Stores a manifest that was checked; the caller keeps deletions away.
pub fn store(
    repository: &Repository,
    digest: &Digest,
    bytes: &[u8],
    parsed: Parsed,
    tag: Option<&str>,
) -> Result<()> {
    blobs::put(repository, digest, bytes)?;
    let size = bytes.len() as u64;
    let record = Record {
        media_type: parsed.media_type.clone(),
        size,
        subject: parsed.needs.subject,
    };
    let descriptor = Descriptor {
        media_type: parsed.media_type,
        digest: digest.clone(),
        size,
        ..Descriptor::default()
    };
    if let Some(subject) = &record.subject {
        let referrer = Descriptor {
            artifact_type: parsed.artifact_type,
            annotations: parsed.annotations,
            ..descriptor.clone()
        };
        referrers::add(repository, subject, &referrer)?;
    }
    if self::record(repository, digest)?.as_ref() != Some(&record) {
        let text = serde_json::to_vec(&record).context("cannot write JSON")?;
        repository
            .storage()
            .write(&repository.manifest(digest), &text)?;
    }
    match tag {
        Some(tag) => tags::write(repository, tag, &descriptor),
        None => Ok(()),
    }
}

/// end-9: of a digest the manifest and all its tags, of a tag the tag alone. The content goes with
/// gc: the same bytes may be a blob of somebody's.
pub fn delete(repository: &Repository, reference: &str) -> Result<Answer, Refusal> {
    let unknown =
        || Refusal::new(ErrorCode::ManifestUnknown).detail(json!({ "reference": reference }));
    if !repository.exists() {
        return Err(unknown());
    }
    if !reference.contains(':') {
        return match tags::delete(repository, reference)? {
            true => Ok(Answer::new(202)),
            false => Err(unknown()),
        };
    }
    let digest = blobs::digest(reference)?;
    let _lock = repository.lock()?;
    let record = record(repository, &digest)?.ok_or_else(unknown)?;
    forget(repository, &digest, &record)?;
    Ok(Answer::new(202))
}

/// Takes a manifest out of its repository, names first; the caller keeps others away.
pub fn forget(repository: &Repository, digest: &Digest, record: &Record) -> Result<()> {
    tags::delete_all(repository, digest)?;
    if let Some(subject) = &record.subject {
        referrers::remove(repository, subject, digest)?;
    }
    storage::remove(&repository.manifest(digest)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_needs() {
        let d = |t: &str| Digest::sha256(t.as_bytes());
        let of = |value: Value| Needs::of(&value);
        let needs = of(json!({
            "config": {"digest": d("c")},
            "layers": [{"digest": d("l"), "mediaType": media_type::LAYER},
                {"digest": d("n"), "mediaType": media_type::LAYER_NONDISTRIBUTABLE_GZIP},
                {"digest": d("f"), "mediaType": media_type::DOCKER_LAYER_FOREIGN_GZIP}],
            "subject": {"digest": d("s")}, "manifests": null,
        }));
        let want = Needs {
            blobs: vec![d("c"), d("l")],
            manifests: vec![],
            subject: Some(d("s")),
        };
        assert_eq!(needs.unwrap(), want);
        let index = of(json!({ "manifests": [{"digest": d("m")}] })).unwrap();
        assert_eq!(index.manifests, [d("m")]);
        assert!(of(json!({ "layers": {} })).is_err());
        assert!(of(json!({ "layers": [{}] })).is_err());
        assert!(of(json!({ "config": {"digest": "sha256:x"} })).is_err());
    }

    #[test]
    fn the_media_type_is_agreed_on() {
        let parsed = |text: &str, kind| {
            parse(text.as_bytes(), kind)
                .map(|p| p.media_type)
                .map_err(|r| r.status)
        };
        let own = format!("{{\"mediaType\":\"{}\"}}", media_type::DOCKER_MANIFEST);
        assert_eq!(parsed(&own, None).unwrap(), media_type::DOCKER_MANIFEST);
        assert_eq!(parsed(&own, Some(media_type::MANIFEST)), Err(400));
        assert_eq!(parsed("{}", Some("a/b; charset=utf-8")).unwrap(), "a/b");
        assert_eq!(
            parsed("{\"manifests\":[]}", None).unwrap(),
            media_type::INDEX
        );
        for bad in ["", "[]", "{", "{\"schemaVersion\":1}"] {
            assert_eq!(parsed(bad, None), Err(400), "{bad}");
        }
    }
}
