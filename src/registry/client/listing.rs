//! What a registry has: tags, repositories, referrers; and taking something away.
//!
//! What it does: follows the pages of a list to its end.
//! What it implements: distribution-spec "Listing Tags", "Listing Referrers" (and its fallback tag),
//! "Deleting"; docker's `_catalog`; RFC 8288 (Link). Interface: methods of [`Client`].
//! Read next: `../protocol.rs`.

use super::auth::Scopes;
use super::manifest::ACCEPT;
use super::parallel::{self, Stop};
use super::transport::join;
use super::{Client, Wish};
use crate::error::{Context, Error, Kind, Result};
use crate::registry::protocol::header;
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Index, media_type};
use serde::Deserialize;
use std::sync::Mutex;

/// A page of a list is not longer.
const MAX_PAGE: u64 = 16 << 20;
/// More pages than this are a circle.
const MAX_PAGES: usize = 100_000;

/// A page of a list, of tags or of repositories. `null` is an empty one.
#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
    repositories: Option<Vec<String>>,
}

impl Client {
    /// The tags of a repository, each page passed on when it comes.
    pub fn tags(&self, repository: &str, take: &mut dyn FnMut(Vec<String>)) -> Result<()> {
        let url = self.url(repository, "tags/list?n=1000");
        self.pages(
            repository,
            &Scopes::repository(repository, "pull"),
            url,
            take,
        )
    }

    /// The repositories of the registry, where it tells.
    pub fn catalog(&self, take: &mut dyn FnMut(Vec<String>)) -> Result<()> {
        let url = self.url("_catalog", "").trim_end_matches('/').to_string() + "?n=1000";
        self.pages("", &Scopes::default().and("registry:catalog:*"), url, take)
    }

    fn pages(
        &self,
        repository: &str,
        scopes: &Scopes,
        mut url: String,
        take: &mut dyn FnMut(Vec<String>),
    ) -> Result<()> {
        for _ in 0..MAX_PAGES {
            let response = self.send(repository, scopes, &mut Wish::new("GET", &url))?;
            if response.status != 200 {
                return Err(response.refusal());
            }
            let next = response
                .all("link")
                .iter()
                .find_map(|l| next_page(l))
                .map(|to| join(&url, &to));
            let body = response.bytes(MAX_PAGE)?;
            let page: Page = serde_json::from_slice(&body).context("cannot understand the list")?;
            drop(body);
            take(page.tags.or(page.repositories).unwrap_or_default());
            match next.transpose()? {
                Some(next) if next != url => url = next,
                _ => return Ok(()),
            }
        }
        Err(Error::new("the registry's list has no end"))
    }

    /// What points at a manifest, none where nothing does. A registry that does not keep account of
    /// it has a tag, kept by those who push, in its place.
    pub fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let mut url = self.url(repository, &format!("referrers/{digest}"));
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let scopes = Scopes::repository(repository, "pull");
            let mut wish = Wish::new("GET", &url);
            wish.headers.push(("accept", media_type::INDEX.into()));
            let response = self.send(repository, &scopes, &mut wish)?;
            if page == 0 && matches!(response.status, 400 | 404 | 405) {
                let tag = self.referrers_tag(repository, digest)?;
                return Ok(tag.map_or(vec![], |index| index.manifests));
            }
            if response.status != 200 {
                return Err(response.refusal());
            }
            let next = response.all("link").iter().find_map(|l| next_page(l));
            let body = response.bytes(MAX_PAGE)?;
            let index: Index =
                serde_json::from_slice(&body).context("cannot understand the list of referrers")?;
            found.extend(index.manifests);
            match next.map(|to| join(&url, &to)).transpose()? {
                Some(next) if next != url => url = next,
                _ => return Ok(found),
            }
        }
        Err(Error::new("the registry's list has no end"))
    }

    /// The index behind the tag that stands in for the list of referrers.
    pub(super) fn referrers_tag(&self, repository: &str, digest: &Digest) -> Result<Option<Index>> {
        match self.manifest(repository, &referrers_tag(digest)) {
            Ok(document) => document.index(),
            Err(e) if e.get_kind() == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The digest that a name stands for; `None`: the registry does not know it.
    pub fn digest(&self, repository: &str, name: &str) -> Result<Option<Digest>> {
        let mut wish = Wish::new("HEAD", &self.url(repository, &format!("manifests/{name}")));
        wish.headers.push(("accept", ACCEPT.join(", ")));
        let scopes = Scopes::repository(repository, "pull");
        let response = self.send(repository, &scopes, &mut wish)?;
        let said = response.header(header::CONTENT_DIGEST);
        match (response.status, said.and_then(|d| d.parse().ok())) {
            (200, Some(digest)) => Ok(Some(digest)),
            // It did not say.
            (200, None) => Ok(Some(self.manifest(repository, name)?.descriptor.digest)),
            (404, _) => Ok(None),
            _ => Err(response.refusal()),
        }
    }

    /// The tags that stand for a digest. Every tag is asked for: there is no other way.
    pub fn tags_of(&self, repository: &str, digest: &Digest) -> Result<Vec<String>> {
        let mut all = Vec::new();
        self.tags(repository, &mut |tags| all.extend(tags))?;
        let found = Mutex::new(Vec::new());
        parallel::for_each(&all, 8, &Stop::default(), |tag| {
            if self.digest(repository, tag)?.as_ref() == Some(digest) {
                let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
                found.push(tag.clone());
            }
            Ok(())
        })?;
        let mut found = found.into_inner().unwrap_or_else(|e| e.into_inner());
        found.sort();
        Ok(found)
    }

    /// Takes a tag or, by digest, a manifest with all its tags away.
    pub fn delete(&self, repository: &str, name: &str) -> Result<()> {
        let mut wish = Wish::new(
            "DELETE",
            &self.url(repository, &format!("manifests/{name}")),
        );
        let response = self.send(
            repository,
            &Scopes::repository(repository, "delete,pull"),
            &mut wish,
        )?;
        match response.status {
            200 | 202 | 204 => Ok(()),
            _ => Err(response.refusal()),
        }
    }
}

/// The tag that stands in for a list of referrers: `sha256-HEX`, cut to what a tag may be.
pub(super) fn referrers_tag(digest: &Digest) -> String {
    let hex = &digest.hex()[..digest.hex().len().min(64)];
    format!("{}-{hex}", digest.algorithm().name())
}

/// The target of `<…>; rel="next"`.
pub(crate) fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|one| {
        let (target, parameters) = one.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters
            .split(';')
            .any(|p| matches!(p.trim(), "rel=next" | "rel=\"next\""));
        next.then(|| target.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::next_page;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_page("</v2/_catalog?last=a&n=1>; rel=\"next\"").unwrap(),
            "/v2/_catalog?last=a&n=1"
        );
        assert_eq!(next_page("<a>; rel=prev, <b>; rel=next").unwrap(), "b");
        assert_eq!(next_page("<a>; rel=\"prev\""), None);
    }
}
