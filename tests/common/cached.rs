//! What the tests of our pull-through cache share: a cache, upstreams for it, content.
//!
//! Interface: [`cache`], [`upstream`], [`push`], [`long`], [`nothing_half`], [`whole`], [`wait_for`].
//! Read next: `tests/registry_cache.rs`.

use super::TempRoot;
use super::our_registry::{OurRegistry, Reply};
use super::web::{Answer, Image, MANIFEST, Request, image, tar};
use glassbox::spec::digest::Digest;
use std::time::{Duration, Instant};

/// A cache of this upstream, which asks it about a tag each time.
pub fn cache(root: &TempRoot, upstream: &str, more: &[&str]) -> OurRegistry {
    let url = format!("http://{upstream}");
    let flags = ["--upstream", &url, "--upstream-ttl", "0s"];
    OurRegistry::start_at(root, "cache", &[&flags[..], more].concat())
}

/// Content that is too long to be given out only when it is whole.
pub fn long(seed: u8) -> Vec<u8> {
    (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect()
}

/// Pushes an image of one layer to a registry of ours; its digest.
pub fn push(registry: &OurRegistry, repository: &str, tag: &str, content: &[u8]) -> Digest {
    let image = image(tar(&[("content", content)]), "");
    registry.blob(repository, &image.config);
    registry.blob(repository, &image.layers[0]);
    registry
        .manifest(repository, tag, MANIFEST, &image.manifest)
        .has(201);
    Digest::sha256(&image.manifest)
}

/// Serves an image with the headers that registries have; a `HEAD` as well.
pub fn upstream(image: &Image, request: &Request) -> Answer {
    let mut blobs = image.layers.iter().chain([&image.config]);
    if request.path.contains("/blobs/") {
        return match blobs.find(|b| request.path.contains(&Digest::sha256(b).to_string())) {
            Some(blob) => Answer::ok("application/octet-stream", blob),
            None => Answer::status(404, &[]),
        };
    }
    let digest = Digest::sha256(&image.manifest).to_string();
    Answer::ok(MANIFEST, &image.manifest).with("Docker-Content-Digest", &digest)
}

/// Waits up to a minute.
#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That nothing is left of transfers.
pub fn nothing_half(cache: &OurRegistry) {
    wait_for("an empty tmp/", || {
        std::fs::read_dir(cache.data.join("tmp")).is_ok_and(|d| d.count() == 0)
    });
}

/// Whether an answer has all the bytes that it promised.
pub fn whole(reply: &Reply) -> bool {
    let length: usize = reply.header("content-length").unwrap().parse().unwrap();
    reply.body.len() == length
}
