//! Manifests and indexes: fetched, checked, and the one that runs here chosen.
//!
//! What it does: gets a document by tag or digest. Its bytes are kept as they came, since its name
//! is their digest. A registry that says one media type and a document that says another is
//! refused: the same bytes must not mean two things.
//!
//! What it implements: distribution-spec "Pulling manifests"; image-spec "Image Index" (the first
//! that fits; unknown media types are passed over). Interface: [`Document`], [`choose`].
//! Read next: `transfer.rs`.

use super::auth::Scopes;
use super::{Client, Wish};
use crate::error::{Context, Error, Kind, Result};
use crate::images::{Reference, descriptor};
use crate::registry::protocol::{MAX_MANIFEST, header};
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Index, Manifest, Platform, media_type};
use serde_json::Value;

/// What we can read, in the order of preference.
pub(crate) const ACCEPT: &[&str] = &[
    media_type::INDEX,
    media_type::MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// A manifest or an index, as it came.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

impl Document {
    /// Checks what came against itself: `said` is the media type of the answer.
    pub fn new(bytes: Vec<u8>, said: &str) -> Result<Document> {
        let value: Value = serde_json::from_slice(&bytes).context("the manifest is no JSON")?;
        let said = said.split(';').next().unwrap_or_default().trim();
        let own = value.get("mediaType").and_then(Value::as_str);
        if said.contains("docker.distribution.manifest.v1+")
            || value.get("schemaVersion") == Some(&1.into())
        {
            return Err(Error::kind(Kind::Unsupported, "the image has a manifest of schema 1")
                .hint("docker deprecated that form in 2019: pull and push the image again with a docker before 28, which converts it"));
        }
        let known = |t: &str| media_type::is_index(t) || media_type::is_manifest(t);
        let typ = match own {
            Some(own) if known(said) && own != said => {
                return Err(Error::new(format!(
                    "the registry calls the manifest {said}, and the manifest itself {own}"
                ))
                .hint("the same bytes must not mean two things: nothing of it was kept"));
            }
            Some(own) => own,
            None if known(said) => said,
            // Old registries call everything application/json.
            None if value.get("manifests").is_some() && value.get("layers").is_none() => {
                media_type::INDEX
            }
            None => media_type::MANIFEST,
        };
        let other = if media_type::is_index(typ) {
            "layers"
        } else {
            "manifests"
        };
        if known(typ) && value.get(other).is_some() {
            return Err(
                Error::new(format!("the manifest is called {typ}, but has {other}"))
                    .hint("the same bytes must not mean two things: nothing of it was kept"),
            );
        }
        let digest = Digest::sha256(&bytes);
        Ok(Document {
            descriptor: descriptor(typ, digest, bytes.len() as u64),
            bytes,
        })
    }

    /// As an index; `None` when it is none.
    pub fn index(&self) -> Result<Option<Index>> {
        match media_type::is_index(&self.descriptor.media_type) {
            true => serde_json::from_slice(&self.bytes)
                .context("cannot understand the index")
                .map(Some),
            false => Ok(None),
        }
    }
    /// As a manifest. Errors: it is an index or something else.
    pub fn manifest(&self) -> Result<Manifest> {
        if !media_type::is_manifest(&self.descriptor.media_type) {
            return Err(Error::kind(
                Kind::Unsupported,
                format!(
                    "a document of type {} is no image",
                    self.descriptor.media_type
                ),
            ));
        }
        serde_json::from_slice(&self.bytes).context("cannot understand the manifest")
    }
}

impl Document {
    /// The manifest that this one is about.
    pub fn subject(&self) -> Result<Option<Descriptor>> {
        match self.index()? {
            Some(index) => Ok(index.subject),
            None => Ok(self.manifest()?.subject),
        }
    }

    /// As it stands in a list of referrers: with the kind of artifact that it is, and its notes.
    pub fn as_referrer(&self) -> Result<Descriptor> {
        let (artifact_type, annotations) = match self.index()? {
            Some(index) => (index.artifact_type, index.annotations),
            None => {
                let manifest = self.manifest()?;
                let config = manifest.config.media_type;
                let typ = manifest.artifact_type.filter(|t| !t.is_empty());
                (typ.or(Some(config)), manifest.annotations)
            }
        };
        Ok(Descriptor {
            artifact_type,
            annotations,
            ..self.descriptor.clone()
        })
    }
}

/// What a reference is called in a URL: its digest, or else its tag.
pub fn name(reference: &Reference) -> String {
    reference
        .digest
        .clone()
        .or(reference.tag.clone())
        .unwrap_or_else(|| "latest".into())
}

impl Client {
    /// Gets a manifest or an index by tag or digest. Errors: there is none; it is not what it is
    /// called.
    pub fn manifest(&self, repository: &str, name: &str) -> Result<Document> {
        let mut wish = Wish::new("GET", &self.url(repository, &format!("manifests/{name}")));
        wish.headers.push(("accept", ACCEPT.join(", ")));
        let mut tried = 0;
        let document = loop {
            let response = self.send(
                repository,
                &Scopes::repository(repository, "pull"),
                &mut wish,
            )?;
            if response.status != 200 {
                let refused = response.refusal();
                return Err(match refused.get_kind() {
                    Kind::NotFound if !name.contains(':') => refused.hint(format!(
                        "`glassbox registry tags {}/{repository}` lists the tags that there are",
                        self.registry()
                    )),
                    _ => refused,
                });
            }
            let typ = response
                .header("content-type")
                .unwrap_or_default()
                .to_string();
            let said = response
                .header(header::CONTENT_DIGEST)
                .and_then(|d| d.parse::<Digest>().ok());
            match response.bytes(MAX_MANIFEST) {
                Ok(bytes) => {
                    let wanted = name.parse::<Digest>().ok();
                    // By whatever algorithm it was asked for or is vouched for.
                    for digest in wanted.iter().chain(&said) {
                        if !digest.matches(&bytes) {
                            return Err(Error::new(format!(
                                "the manifest has the digest {}, not {digest}",
                                Digest::of(digest.algorithm(), &bytes)
                            ))
                            .hint("the transfer was damaged, or the registry lies: nothing of it was kept")
                            .topic("digests"));
                        }
                    }
                    break Document::new(bytes, &typ)?;
                }
                // A body that broke off is asked for again; one that is too long is not.
                Err(e)
                    if e.message().contains("broke off")
                        && tried < self.transport.patience.retries =>
                {
                    self.transport.pause(tried, None);
                    tried += 1;
                }
                Err(e) => return Err(e),
            }
        };
        Ok(document)
    }

    /// Gets the document that an index's entry names.
    pub(super) fn child(&self, repository: &str, entry: &Descriptor) -> Result<Document> {
        let document = self.manifest(repository, &entry.digest.to_string())?;
        if document.descriptor.size != entry.size {
            return Err(Error::new(format!(
                "the manifest {} has {} bytes, but the index says {}",
                entry.digest.short(),
                document.descriptor.size,
                entry.size
            )));
        }
        if document.descriptor.media_type != entry.media_type {
            return Err(Error::new(format!(
                "the index calls {} {}, and itself it says {}",
                entry.digest.short(),
                entry.media_type,
                document.descriptor.media_type
            )));
        }
        Ok(document)
    }
}

/// `linux/arm/v7`, `arm64`, `linux` as docker's `--platform`.
pub fn parse_platform(text: &str) -> Result<Platform> {
    let bad = || {
        Error::kind(Kind::Usage, format!("{text:?} is no platform"))
            .hint("a platform is OS/ARCHITECTURE[/VARIANT]: linux/amd64, linux/arm/v7")
    };
    let host = Platform::host();
    let parts: Vec<&str> = text.split('/').collect();
    if parts.len() > 3 || parts.iter().any(|p| p.is_empty()) {
        return Err(bad());
    }
    let (os, architecture, variant) = match parts[..] {
        ["linux"] => ("linux", host.architecture.as_str(), host.variant.as_deref()),
        [architecture] => ("linux", architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return Err(bad()),
    };
    let (architecture, implied) = match architecture {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" => ("386", None),
        other => (other, None),
    };
    Ok(Platform {
        os: os.to_lowercase(),
        architecture: architecture.to_lowercase(),
        variant: variant.or(implied).map(str::to_lowercase),
        ..Platform::default()
    })
}

/// The entry of an index for a platform: the newest variant that runs there, of several the first.
/// Errors: none does; the hint says what there is.
pub fn choose(index: &Index, wanted: &Platform) -> Result<Descriptor> {
    let fits = |d: &&Descriptor| {
        (media_type::is_manifest(&d.media_type) || media_type::is_index(&d.media_type))
            && d.platform.as_ref().is_none_or(|p| p.runs_on(wanted))
    };
    let variant = |d: &Descriptor| -> (bool, u32) {
        let platform = d.platform.as_ref();
        let variant = platform.and_then(|p| p.variant.clone());
        let number = variant
            .as_deref()
            .and_then(|v| v.strip_prefix('v')?.parse().ok());
        (
            variant.is_some() && variant == wanted.variant,
            number.unwrap_or(0),
        )
    };
    let mut best: Option<&Descriptor> = None;
    for entry in index.manifests.iter().filter(fits) {
        if best.is_none_or(|b| variant(entry) > variant(b)) {
            best = Some(entry);
        }
    }
    best.cloned().ok_or_else(|| {
        // Attestations stand there as unknown/unknown.
        let platforms = index.manifests.iter().filter_map(|d| d.platform.as_ref());
        let mut all: Vec<String> = platforms
            .filter(|p| p.os != "unknown")
            .map(ToString::to_string)
            .collect();
        all.dedup();
        let hint = match all.is_empty() {
            true => "the index names no platform at all".to_string(),
            false => format!(
                "it is there for {}; --platform asks for one of them",
                all.join(", ")
            ),
        };
        Error::kind(
            Kind::NotFound,
            format!("the image is not there for {wanted}"),
        )
        .hint(hint)
        .topic("images")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let entry = |(i, text): (usize, &&str)| Descriptor {
            platform: Some(parse_platform(text).unwrap()),
            ..descriptor(media_type::MANIFEST, Digest::sha256(&[i as u8]), 1)
        };
        Index::new(platforms.iter().enumerate().map(entry).collect())
    }

    #[test]
    fn the_newest_variant_that_runs_is_chosen() {
        let index = index(&[
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm/v6",
            "linux/arm64/v8",
        ]);
        let chosen = |text: &str| {
            let wanted = parse_platform(text).unwrap();
            choose(&index, &wanted).map(|d| d.platform.unwrap().to_string())
        };
        assert_eq!(chosen("linux/arm/v7").unwrap(), "linux/arm/v7");
        assert_eq!(chosen("linux/arm/v6").unwrap(), "linux/arm/v6");
        assert_eq!(chosen("arm64").unwrap(), "linux/arm64/v8");
        let e = chosen("linux/riscv64").unwrap_err();
        assert!(
            e.get_hint().unwrap().contains("linux/arm/v5, linux/arm/v7"),
            "{e:?}"
        );
    }

    #[test]
    fn two_meanings_are_refused() {
        let text = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(Document::new(text.to_vec(), media_type::INDEX).is_ok());
        assert!(Document::new(text.to_vec(), media_type::MANIFEST).is_err());
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(Document::new(both.to_vec(), media_type::INDEX).is_err());
        let old = br#"{"schemaVersion":1}"#;
        let e = Document::new(old.to_vec(), "application/json").unwrap_err();
        assert!(e.message().contains("schema 1"));
    }
}
