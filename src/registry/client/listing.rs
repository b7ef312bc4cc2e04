//! What a registry has: tags, repositories, referrers; and taking something away.
//!
//! What it does: follows the pages of a list to its end.
//! What it implements: distribution-spec "Listing Tags", "Listing Referrers" (and its fallback tag),
//! "Deleting"; docker's `_catalog`; RFC 8288 (Link). Interface: methods of [`Client`].
//! Read next: `../protocol.rs`.

use super::auth::Scopes;
use super::transport::join;
use super::{Client, Wish};
use crate::error::{Context, Error, Kind, Result};
use crate::spec::digest::Digest;
use crate::spec::image::{Descriptor, Index};
use serde_json::Value;

/// A page of a list is not longer.
const MAX_PAGE: u64 = 16 << 20;
/// More pages than this are a circle.
const MAX_PAGES: usize = 100_000;

impl Client {
    /// The tags of a repository, each page passed on when it comes.
    pub fn tags(&self, repository: &str, take: &mut dyn FnMut(Vec<String>)) -> Result<()> {
        let url = self.url(repository, "tags/list?n=1000");
        self.pages(
            repository,
            &Scopes::repository(repository, "pull"),
            url,
            "tags",
            take,
        )
    }

    /// The repositories of the registry, where it tells.
    pub fn catalog(&self, take: &mut dyn FnMut(Vec<String>)) -> Result<()> {
        let url = self.url("_catalog", "").trim_end_matches('/').to_string() + "?n=1000";
        self.pages(
            "",
            &Scopes::default().and("registry:catalog:*"),
            url,
            "repositories",
            take,
        )
    }

    fn pages(
        &self,
        repository: &str,
        scopes: &Scopes,
        mut url: String,
        key: &str,
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
            let value: Value =
                serde_json::from_slice(&body).context("cannot understand the list")?;
            let list = value
                .get(key)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            take(
                list.iter()
                    .filter_map(Value::as_str)
                    .map(String::from)
                    .collect(),
            );
            match next.transpose()? {
                Some(next) if next != url => url = next,
                _ => return Ok(()),
            }
        }
        Err(Error::new("the registry's list has no end"))
    }

    /// What points at a manifest, none where the registry does not know.
    pub fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>> {
        let mut wish = Wish::new("GET", &self.url(repository, &format!("referrers/{digest}")));
        let response = self.send(
            repository,
            &Scopes::repository(repository, "pull"),
            &mut wish,
        )?;
        let index = match response.status {
            200 => {
                let body = response.bytes(MAX_PAGE)?;
                serde_json::from_slice::<Index>(&body)
                    .context("cannot understand the list of referrers")?
            }
            404 => {
                let tag = format!("{}-{}", digest.algorithm().name(), digest.hex());
                match self.manifest(repository, &tag) {
                    Ok(document) => document.index()?.unwrap_or_default(),
                    Err(e) if e.get_kind() == Kind::NotFound => return Ok(vec![]),
                    Err(e) => return Err(e),
                }
            }
            _ => return Err(response.refusal()),
        };
        Ok(index.manifests)
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

/// The target of `<…>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
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
