//! A registry in the test's memory, which can be told to misbehave.
//!
//! What it does: as much of the distribution specification as a client needs: blobs, uploads that
//! stop in the middle and go on, manifests, tags, referrers. A closure sees each request first and
//! may answer in its place; a request whose body stops early is kept as far as it came, and the
//! connection is closed.
//!
//! Interface: [`Memory`]. Read next: `tests/registry_faults.rs`.

use super::web::{Answer, INDEX, Request, Server};
use glassbox::spec::digest::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What the registry holds.
#[derive(Debug, Default)]
pub struct Content {
    /// By digest, for all repositories.
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// By `REPOSITORY TAG` and `REPOSITORY DIGEST`: media type and bytes.
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// By number.
    uploads: BTreeMap<usize, Vec<u8>>,
    /// Whether `referrers/` is there; otherwise the tag stands in for it.
    pub referrers: bool,
    began: usize,
}

/// A registry that runs.
#[derive(Clone)]
pub struct Memory {
    /// Its server.
    pub server: Server,
    /// What it holds.
    pub content: Arc<Mutex<Content>>,
}

impl Memory {
    /// An empty one that behaves.
    pub fn new() -> Memory {
        Memory::with(|_| usize::MAX, |_| None)
    }

    /// One that takes only so much of a body, and whose answers `first` may give.
    pub fn with(
        taken: impl Fn(&Request) -> usize + Send + Sync + 'static,
        first: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static,
    ) -> Memory {
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = content.clone();
        let server = Server::taking(taken, move |request| {
            first(request).unwrap_or_else(|| shared.lock().expect("no panic").answer(request))
        });
        Memory { server, content }
    }

    /// The name of a repository here.
    pub fn name(&self, rest: &str) -> String {
        self.server.name(rest)
    }
    /// Puts a blob there.
    pub fn put_blob(&self, bytes: &[u8]) {
        let mut content = self.content.lock().expect("no panic");
        content
            .blobs
            .insert(Digest::sha256(bytes).to_string(), bytes.to_vec());
    }
    /// Puts a manifest there, under a tag and its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, typ: &str, bytes: &[u8]) {
        let mut content = self.content.lock().expect("no panic");
        for name in [tag, &Digest::sha256(bytes).to_string()] {
            let key = format!("{repository} {name}");
            content.manifests.insert(key, (typ.into(), bytes.to_vec()));
        }
    }
    /// A manifest's bytes.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<Vec<u8>> {
        let content = self.content.lock().expect("no panic");
        content
            .manifests
            .get(&format!("{repository} {name}"))
            .map(|(_, bytes)| bytes.clone())
    }
    /// How many blobs it holds.
    pub fn blobs(&self) -> usize {
        self.content.lock().expect("no panic").blobs.len()
    }
}

impl Content {
    fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
            pairs
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.replace("%3A", ":"))
        };
        let path = path.trim_start_matches("/v2/");
        if let Some((repository, rest)) = path.split_once("/blobs/uploads/") {
            return self.upload(request, repository, rest, parameter("digest"));
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return match self.blobs.get(digest) {
                Some(bytes) => Answer::ok("application/octet-stream", bytes),
                None => missing("BLOB_UNKNOWN"),
            };
        }
        if let Some((repository, name)) = path.split_once("/manifests/") {
            return self.manifest(request, repository, name);
        }
        if let Some((repository, digest)) = path.split_once("/referrers/") {
            return match self.referrers {
                true => Answer::ok(INDEX, &self.pointing(repository, digest)),
                false => missing("UNSUPPORTED"),
            };
        }
        if let Some((repository, _)) = path.split_once("/tags/list") {
            let own = format!("{repository} ");
            let names = self.manifests.keys().filter_map(|k| k.strip_prefix(&own));
            let tags: Vec<&str> = names.filter(|n| !n.contains(':')).collect();
            let body = serde_json::json!({ "name": repository, "tags": tags });
            return Answer::ok("application/json", body.to_string().as_bytes());
        }
        Answer::ok("application/json", b"{}")
    }

    fn upload(
        &mut self,
        request: &Request,
        repository: &str,
        rest: &str,
        digest: Option<String>,
    ) -> Answer {
        let whole = request
            .header("content-length")
            .and_then(|l| l.parse().ok())
            == Some(request.body.len());
        if request.method == "POST" {
            self.began += 1;
            self.uploads.insert(self.began, vec![]);
            return at(202, repository, self.began);
        }
        let number = rest.parse().unwrap_or(0);
        let Some(so_far) = self.uploads.get_mut(&number) else {
            return missing("BLOB_UPLOAD_UNKNOWN");
        };
        if request.method == "GET" {
            let last = so_far.len().saturating_sub(1);
            return at(204, repository, number).with("Range", &format!("0-{last}"));
        }
        if let Some(range) = request.header("content-range")
            && range.split('-').next() != Some(&so_far.len().to_string())
        {
            return Answer::status(416, &[]);
        }
        so_far.extend(&request.body);
        if !whole {
            return Answer::hang_up();
        }
        let Some(digest) = digest else {
            return at(202, repository, number);
        };
        if Digest::sha256(so_far).to_string() != digest {
            return Answer::status(400, &[]);
        }
        let bytes = self.uploads.remove(&number).unwrap_or_default();
        self.blobs.insert(digest, bytes);
        Answer::status(201, &[])
    }

    fn manifest(&mut self, request: &Request, repository: &str, name: &str) -> Answer {
        let key = format!("{repository} {name}");
        match request.method.as_str() {
            "PUT" => {
                let typ = request
                    .header("content-type")
                    .unwrap_or_default()
                    .to_string();
                let digest = Digest::sha256(&request.body).to_string();
                for key in [key, format!("{repository} {digest}")] {
                    self.manifests
                        .insert(key, (typ.clone(), request.body.clone()));
                }
                Answer::status(201, &[("Docker-Content-Digest", &digest)])
            }
            "DELETE" => match self.manifests.remove(&key) {
                Some(gone) if name.contains(':') => {
                    let own = format!("{repository} ");
                    self.manifests
                        .retain(|k, m| !k.starts_with(&own) || *m != gone);
                    Answer::status(202, &[])
                }
                Some(_) => Answer::status(202, &[]),
                None => missing("MANIFEST_UNKNOWN"),
            },
            _ => match self.manifests.get(&key) {
                Some((typ, bytes)) => Answer::ok(typ, bytes)
                    .with("Docker-Content-Digest", &Digest::sha256(bytes).to_string()),
                None => missing("MANIFEST_UNKNOWN"),
            },
        }
    }

    /// What points at a digest, as an index.
    fn pointing(&self, repository: &str, digest: &str) -> Vec<u8> {
        let own = self
            .manifests
            .iter()
            .filter(|(k, _)| k.starts_with(&format!("{repository} sha256:")));
        let pointing = own.filter(|(_, (_, bytes))| {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            value["subject"]["digest"] == digest
        });
        let entries: Vec<String> = pointing
            .map(|(_, (typ, bytes))| super::web::descriptor(typ, bytes, ""))
            .collect();
        super::web::index(&entries)
    }
}

fn at(status: u16, repository: &str, number: usize) -> Answer {
    Answer::status(
        status,
        &[(
            "Location",
            &format!("/v2/{repository}/blobs/uploads/{number}"),
        )],
    )
}

fn missing(code: &str) -> Answer {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"not here"}}]}}"#);
    Answer {
        status: 404,
        ..Answer::ok("application/json", body.as_bytes())
    }
}
