//! Names of images, as docker's users write them.
//!
//! What it does: parses `alpine`, `user/app:1.2`, `localhost:5000/a/b@sha256:…`, fills in what is
//! left out (docker.io, library/, latest), and shortens a full name again for listings.
//! What it implements: the reference grammar of distribution (`reference/regexp.go`'s public
//! documentation), distribution-spec "Pulling manifests" for names and tags.
//! Interface: [`Reference`]. Read next: `store.rs`.

use crate::error::{Error, Kind, Result};
use crate::spec::Digest;
use std::fmt;
use std::str::FromStr;

/// A full name: registry, repository, and a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`.
    pub registry: String,
    /// `library/alpine`.
    pub repository: String,
    /// `latest`; absent when only a digest was given.
    pub tag: Option<String>,
    /// The content itself.
    pub digest: Option<String>,
}

impl Reference {
    /// `alpine:latest` for `docker.io/library/alpine:latest`: as docker's listings show it.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_repository(), self.suffix())
    }

    /// `alpine` for `docker.io/library/alpine:latest`.
    pub fn familiar_repository(&self) -> String {
        if self.registry == "docker.io" {
            self.repository
                .strip_prefix("library/")
                .unwrap_or(&self.repository)
                .to_string()
        } else {
            format!("{}/{}", self.registry, self.repository)
        }
    }

    fn suffix(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map(|t| format!(":{t}"))
            .unwrap_or_default();
        let digest = self
            .digest
            .as_ref()
            .map(|d| format!("@{d}"))
            .unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    /// The full name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let bad = |why: &str| {
            Error::kind(Kind::Usage, format!("invalid reference format: {text:?} {why}"))
                .hint("a name is [REGISTRY[:PORT]/]REPOSITORY[:TAG][@DIGEST], the repository in lower case")
        };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                digest.parse::<Digest>()?;
                (name, Some(digest.to_string()))
            }
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it a port.
        let (name, tag) = match name.rsplit_once(':') {
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag.to_string())),
            _ => (name, None),
        };
        if let Some(tag) = &tag {
            let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            let first = tag
                .chars()
                .next()
                .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            if !first || tag.len() > 128 || !tag.chars().all(legal) {
                return Err(bad("has a bad tag"));
            }
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first != first.to_lowercase() =>
            {
                (first.to_string(), rest.to_string())
            }
            Some(_) => ("docker.io".to_string(), name.to_string()),
            None => ("docker.io".to_string(), format!("library/{name}")),
        };
        if !is_host(&registry) {
            return Err(bad("has a bad registry name"));
        }
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" => "docker.io".to_string(),
            _ => registry,
        };
        let part = |p: &str| {
            let edge =
                |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            edge(p.chars().next())
                && edge(p.chars().last())
                && p.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        if !repository.split('/').all(part) {
            let why = if repository.chars().any(|c| c.is_ascii_uppercase()) {
                "must be lower case"
            } else {
                "has a bad repository name"
            };
            return Err(bad(why));
        }
        if registry.len() + repository.len() > 255 {
            return Err(bad("is longer than 255 characters"));
        }
        let tag = match (&tag, &digest) {
            (None, None) => Some("latest".to_string()),
            _ => tag,
        };
        Ok(Reference {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// `HOST` or `HOST:PORT`, where the host may be an IPv6 address in brackets.
fn is_host(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').map(|r| r.split_once(']')) {
        Some(Some((address, port))) if address.parse::<std::net::Ipv6Addr>().is_ok() => (
            None,
            port.strip_prefix(':').or(port.is_empty().then_some("0")),
        ),
        Some(_) => return false,
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), Some("0")),
        },
    };
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let legal = |h: &str| {
        edge(h.chars().next())
            && edge(h.chars().last())
            && h.chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
    };
    host.is_none_or(legal) && port.is_some_and(|p| p.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().unwrap().to_string()
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
        assert_eq!(full("user/app:1.2"), "docker.io/user/app:1.2");
        assert_eq!(full("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(full("localhost/a"), "localhost/a:latest");
        assert_eq!(full("[::1]:5000/a:1"), "[::1]:5000/a:1");
        assert_eq!(full("[2001:db8::7]/a"), "[2001:db8::7]/a:latest");
        let digest = Digest::sha256(b"x");
        assert_eq!(
            full(&format!("a@{digest}")),
            format!("docker.io/library/a@{digest}")
        );
    }

    #[test]
    fn names_are_shown_short_again() {
        let familiar = |t: &str| t.parse::<Reference>().unwrap().familiar();
        assert_eq!(familiar("docker.io/library/alpine"), "alpine:latest");
        assert_eq!(familiar("docker.io/user/app:1"), "user/app:1");
        assert_eq!(familiar("quay.io/a/b:2"), "quay.io/a/b:2");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in [
            "",
            "Alpine",
            "a:",
            "a:b:c",
            "a@sha256:12",
            "-a",
            "a//b",
            "a:-x",
            "../x",
            "[::1]",
            "[::1:5000/a",
            "[x]:5000/a",
            "[::1]5000/a",
            "localhost:99999/a",
            "a.b:port/a",
            "a.b?/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was taken");
        }
    }
}
