//! A pull-through cache whose upstream lies, breaks off, stalls or goes away: nothing false is given out
//! as whole, everybody who waits hears of it, and the next who asks gets it.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! Read next: `tests/common/cached.rs`, `tests/common/web.rs`.

mod common;

use common::cached::{cache, long, nothing_half, upstream, wait_for, whole};
use common::our_registry::Reply;
use common::web::{Answer, Server, image, tar};
use common::{LeakCheck, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

#[test]
fn an_upstream_that_comes_back_is_asked_again() {
    let root = TempRoot::new("cache-back");
    let _leaks = LeakCheck::new(&root);
    let image = Arc::new(Mutex::new(image(tar(&[("a", b"1")]), "")));
    let mode = Arc::new(AtomicU8::new(0));
    let (served, how) = (image.clone(), mode.clone());
    let server = Server::new(move |request| match how.load(Ordering::SeqCst) {
        0 => upstream(&served.lock().unwrap(), request),
        1 => Answer::status(503, &[]),
        2 => Answer::status(429, &[("Retry-After", "0")]),
        3 => Answer::status(403, &[]),
        _ => Answer::hang_up(),
    });
    let cache = cache(&root, &server.address, &[]);
    let digest = |reply: Reply| reply.header("docker-content-digest").unwrap().to_string();
    let first = digest(cache.get("/v2/a/manifests/1").has(200));
    for down in [1, 2, 9] {
        mode.store(down, Ordering::SeqCst);
        assert_eq!(digest(cache.get("/v2/a/manifests/1").has(200)), first);
        let (status, code) = if down == 2 {
            (429, "TOOMANYREQUESTS")
        } else {
            (502, "UNKNOWN")
        };
        cache.get("/v2/a/manifests/other").refuses(status, code);
    }
    *image.lock().unwrap() = common::web::image(tar(&[("a", b"2")]), "");
    mode.store(0, Ordering::SeqCst);
    wait_for("the new one", || {
        digest(cache.get("/v2/a/manifests/1").has(200)) != first
    });
    assert!(
        cache.log().contains("the upstream answers again"),
        "{}",
        cache.log()
    );
    // What it refuses is refused: that is an answer.
    mode.store(3, Ordering::SeqCst);
    cache.get("/v2/a/manifests/1").refuses(403, "DENIED");
}

#[test]
fn an_upstream_that_lies_is_not_believed() {
    let root = TempRoot::new("cache-lies");
    let _leaks = LeakCheck::new(&root);
    let big = image(long(2), "");
    let lies = Arc::new(AtomicBool::new(true));
    let (served, lying) = (big.clone(), lies.clone());
    let server = Server::new(move |request| {
        let mut answer = upstream(&served, request);
        // Of the right length, and wrong in the last byte.
        if lying.load(Ordering::SeqCst)
            && request.method == "GET"
            && let Some(last) = answer.body.last_mut()
        {
            *last ^= 1;
        }
        answer
    });
    let cache = cache(&root, &server.address, &[]);
    let (layer, config) = (Digest::sha256(&big.layers[0]), Digest::sha256(&big.config));
    let manifest = Digest::sha256(&big.manifest);
    for reference in ["1".to_string(), manifest.to_string()] {
        let refused = cache.get(&format!("/v2/a/manifests/{reference}"));
        let why = refused.refuses(502, "UNKNOWN").json()["errors"][0]["message"].to_string();
        assert!(why.contains("digest"), "{why}");
    }
    let refused = cache
        .get(&format!("/v2/a/blobs/{config}"))
        .refuses(502, "UNKNOWN");
    assert!(
        refused.json()["errors"][0]["message"]
            .to_string()
            .contains("with the digest")
    );
    let path = format!("/v2/a/blobs/{layer}");
    let short = cache.get(&path).has(200);
    assert!(!whole(&short), "all {} bytes of a lie", short.body.len());
    let half = cache
        .ask("GET", &path, &[("Range", "bytes=1000-")], b"")
        .has(206);
    assert!(!whole(&half));
    assert!(
        cache
            .log()
            .contains("the answer broke off: the upstream sent"),
        "{}",
        cache.log()
    );
    nothing_half(&cache);
    for digest in [&layer, &config, &manifest] {
        let place = cache.data.join("blobs/sha256").join(digest.hex());
        assert!(!place.exists(), "{digest} was kept");
    }
    let name = cache.name("a:1");
    run_in(&root, ["pull", "--retries", "0", &name]).fails(1, &["502"]);
    // Once it tells the truth, all of it is there.
    lies.store(false, Ordering::SeqCst);
    let honest = cache.get(&path).has(200);
    assert!(honest.body == big.layers[0]);
    cache.get("/v2/a/manifests/1").has(200);
    cache.get(&format!("/v2/a/blobs/{config}")).has(200);
}

#[test]
fn a_length_that_is_not_true_is_not_believed() {
    let root = TempRoot::new("cache-length");
    let _leaks = LeakCheck::new(&root);
    let big = image(long(3), "");
    let served = big.clone();
    let server = Server::new(move |request| {
        let mut answer = upstream(&served, request);
        if request.is("HEAD", "/blobs/") {
            answer.headers = answer
                .headers
                .replace("Content-Length: 3", "Content-Length: 2");
        }
        answer
    });
    let cache = cache(&root, &server.address, &[]);
    let path = format!("/v2/a/blobs/{}", Digest::sha256(&big.layers[0]));
    assert!(!whole(&cache.get(&path).has(200)));
    nothing_half(&cache);
}

#[test]
fn two_who_ask_at_once_share_one_transfer() {
    let root = TempRoot::new("cache-two");
    let _leaks = LeakCheck::new(&root);
    let big = image(long(4), "");
    let go_on = Arc::new(AtomicBool::new(false));
    let (served, held) = (big.clone(), go_on.clone());
    let server = Server::new(move |request| {
        let mut answer = upstream(&served, request);
        if request.is("GET", "/blobs/") {
            answer.until = Some(held.clone());
        }
        answer
    });
    let cache = cache(&root, &server.address, &[]);
    let digest = Digest::sha256(&big.layers[0]);
    // Each reads what is there of it while the upstream has not sent the rest.
    let askers: Vec<_> = (0..4)
        .map(|i| {
            let mut stream = cache.connect();
            let range = if i == 3 {
                "Range: bytes=1000000-\r\n"
            } else {
                ""
            };
            let head = format!(
                "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{range}\r\n"
            );
            std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
            let mut first = vec![0; 400_000];
            stream
                .read_exact(&mut first)
                .expect("the first bytes come at once");
            (stream, first)
        })
        .collect();
    assert_eq!(server.count("GET", "/blobs/"), 1);
    assert_eq!(cache.counter("cache_misses_total"), 1);
    assert_eq!(cache.counter("cache_hits_total"), 3);
    go_on.store(true, Ordering::SeqCst);
    for (i, (stream, first)) in askers.into_iter().enumerate() {
        let reply = Reply::read(&mut first.chain(stream));
        let from = if i == 3 { 1_000_000 } else { 0 };
        assert!(reply.body == big.layers[0][from..], "asker {i}");
    }
    assert_eq!(server.count("GET", "/blobs/"), 1);
    // In another repository it is not fetched again, once the upstream says that it has it there.
    let elsewhere = cache.get(&format!("/v2/b/blobs/{digest}")).has(200);
    assert!(elsewhere.body == big.layers[0]);
    assert_eq!(server.count("GET", "/blobs/"), 1);
    assert_eq!(server.count("HEAD", "/v2/b/blobs/"), 1);
    nothing_half(&cache);
}

#[test]
fn an_upstream_that_breaks_off_is_told_of_and_asked_again_later() {
    let root = TempRoot::new("cache-breaks");
    let _leaks = LeakCheck::new(&root);
    let big = image(long(5), "");
    let broken = Arc::new(AtomicBool::new(true));
    let (served, breaks) = (big.clone(), broken.clone());
    let server = Server::new(move |request| {
        let mut answer = upstream(&served, request);
        if breaks.load(Ordering::SeqCst) && request.is("GET", "/blobs/") {
            if request.header("range").is_some() {
                return Answer::hang_up();
            }
            answer.cut = answer.body.len() / 2;
        }
        answer
    });
    let cache = cache(&root, &server.address, &[]);
    let (layer, config) = (Digest::sha256(&big.layers[0]), Digest::sha256(&big.config));
    let refused = cache
        .get(&format!("/v2/a/blobs/{config}"))
        .refuses(502, "UNKNOWN");
    let why = refused.json()["errors"][0]["message"].to_string();
    assert!(why.contains("the upstream broke off after"), "{why}");
    let path = format!("/v2/a/blobs/{layer}");
    let short = cache.get(&path).has(200);
    assert!(!whole(&short));
    assert!(short.body == big.layers[0][..short.body.len()]);
    wait_for("a line of the log", || {
        let log = cache.log();
        log.contains("error: the answer broke off: the upstream broke off after 1500000 of 3000000")
    });
    nothing_half(&cache);
    broken.store(false, Ordering::SeqCst);
    assert!(cache.get(&path).has(200).body == big.layers[0]);
    cache.get(&format!("/v2/a/blobs/{config}")).has(200);
}

#[test]
fn a_transfer_that_can_be_resumed_is_not_broken() {
    let root = TempRoot::new("cache-resumes");
    let _leaks = LeakCheck::new(&root);
    let big = image(long(6), "");
    let served = big.clone();
    let server = Server::new(move |request| {
        let answer = upstream(&served, request);
        if !request.is("GET", "/blobs/") {
            return answer;
        }
        let (from, size) = (request.from().unwrap_or(0), answer.body.len());
        let rest = answer.body[from..].to_vec();
        let mut part = Answer::ok("application/octet-stream", &rest);
        if from > 0 {
            part.status = 206;
            part = part.with(
                "Content-Range",
                &format!("bytes {from}-{}/{size}", size - 1),
            );
        }
        part.cut = 1_000_000;
        part
    });
    let cache = cache(&root, &server.address, &[]);
    let path = format!("/v2/a/blobs/{}", Digest::sha256(&big.layers[0]));
    assert!(cache.get(&path).has(200).body == big.layers[0]);
    assert!(server.count("GET", "/blobs/") >= 3);
}
