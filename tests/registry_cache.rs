//! Our registry as a pull-through cache: what is fetched, kept and asked again, and who it is.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: the upstream is another registry of ours, or a server in the test that wants to know
//! who asks.
//!
//! Read next: `tests/registry_cache_faults.rs`, `tests/common/cached.rs`.

mod common;

use common::cached::{cache, long, nothing_half, push, upstream, wait_for};
use common::our_registry::OurRegistry;
use common::web::{Answer, MANIFEST, Server, image, tar};
use common::{LeakCheck, TempRoot, run, run_in};
use glassbox::spec::digest::Digest;
use serde_json::json;
use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

#[test]
fn what_was_fetched_once_is_given_out_again() {
    let root = TempRoot::new("cache-hit");
    let _leaks = LeakCheck::new(&root);
    let upstream = OurRegistry::start(&root, &[]);
    let digest = push(&upstream, "a/b", "1", &long(0));
    let blobs = || upstream.counter("requests_total{endpoint=\"blob\",method=\"GET\"");
    let manifests = || upstream.counter("requests_total{endpoint=\"manifest\",method=\"GET\"");
    let cache = cache(&root, &upstream.address, &[]);
    assert!(
        cache
            .log()
            .contains(&format!("a cache of http://{}", upstream.address))
    );
    let name = cache.name("a/b:1");
    for round in 0..3 {
        let said = run_in(&root, ["pull", &name]).success();
        said.out_has(&format!("Digest: {digest}"));
        run_in(&root, ["image", "fsck"]).success();
        run_in(&root, ["image", "rm", &name]).success();
        run_in(&root, ["image", "prune", "-a", "-f"]).success();
        // It counts an answer when its last byte has left.
        wait_for(
            &format!("two blobs and a manifest, in round {round}"),
            || (blobs(), manifests()) == (2, 1),
        );
    }
    assert_eq!(cache.counter("cache_misses_total"), 3);
    assert!(cache.counter("cache_hits_total") >= 6);
    assert_eq!(cache.counter("cache_errors_total"), 0);
    // By digest nothing is asked for at all.
    let questions = || {
        let of = |kind| upstream.counter(&format!("requests_total{{endpoint=\"{kind}\""));
        of("blob") + of("manifest")
    };
    let asked = questions();
    let by_digest = cache.get(&format!("/v2/a/b/manifests/{digest}")).has(200);
    assert_eq!(by_digest.header("age"), None);
    let layer = by_digest.json()["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_string();
    let path = format!("/v2/a/b/blobs/{layer}");
    let part = cache
        .ask("GET", &path, &[("Range", "bytes=-10")], b"")
        .has(206);
    assert_eq!(part.body.len(), 10);
    cache.ask("HEAD", &path, &[], b"").has(200);
    assert_eq!(questions(), asked);
    // gc takes nothing of it, and the layout is one that other tools read.
    cache
        .gc(&["--grace", "0s"])
        .success()
        .out_has("removed 0 tags, 0 manifests, 0 blobs");
    wait_for("its index", || {
        let index = std::fs::read_to_string(cache.data.join("repositories/a/b/index.json"));
        index.is_ok_and(|text| text.contains(&digest.to_string()))
    });
}

#[test]
fn what_the_upstream_lacks_is_not_there() {
    let root = TempRoot::new("cache-miss");
    let _leaks = LeakCheck::new(&root);
    let upstream = OurRegistry::start(&root, &[]);
    push(&upstream, "a", "1", b"one");
    let cache = cache(&root, &upstream.address, &[]);
    let nothing = Digest::sha256(b"nothing");
    cache
        .get("/v2/a/manifests/2")
        .refuses(404, "MANIFEST_UNKNOWN");
    cache
        .get("/v2/b/manifests/1")
        .refuses(404, "MANIFEST_UNKNOWN");
    cache
        .get("/v2/a/manifests/.x")
        .refuses(404, "MANIFEST_UNKNOWN");
    cache
        .get("/v2/a/manifests/sha256:x")
        .refuses(400, "DIGEST_INVALID");
    cache
        .get(&format!("/v2/a/manifests/{nothing}"))
        .refuses(404, "MANIFEST_UNKNOWN");
    cache
        .get(&format!("/v2/a/blobs/{nothing}"))
        .refuses(404, "BLOB_UNKNOWN");
    cache
        .ask("HEAD", &format!("/v2/a/blobs/{nothing}"), &[], b"")
        .has(404);
    cache.get("/v2/b/tags/list").refuses(404, "NAME_UNKNOWN");
    let repositories = std::fs::read_dir(cache.data.join("repositories")).unwrap();
    assert_eq!(repositories.count(), 0, "a question makes no repository");
    nothing_half(&cache);
    assert_eq!(cache.counter("cache_errors_total"), 0);
}

#[test]
fn lists_are_the_upstreams() {
    let root = TempRoot::new("cache-lists");
    let _leaks = LeakCheck::new(&root);
    let mut upstream = OurRegistry::start(&root, &[]);
    let digest = push(&upstream, "a", "1", b"one");
    for tag in ["2", "3"] {
        push(&upstream, "a", tag, b"one");
    }
    let about = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"a/b","config":{},"layers":[],"subject":{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1}}}}"#,
        common::web::descriptor("a/c", b"{}", "")
    );
    upstream.blob("a", b"{}");
    let about = upstream
        .manifest("a", "about", MANIFEST, about.as_bytes())
        .has(201);
    let about = about.header("docker-content-digest").unwrap().to_string();
    let cache = cache(&root, &upstream.address, &[]);
    let all = cache.get("/v2/a/tags/list").has(200).json();
    assert_eq!(
        all,
        serde_json::json!({"name": "a", "tags": ["1", "2", "3", "about"]})
    );
    let page = cache.get("/v2/a/tags/list?n=2").has(200);
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "2"]));
    let page = page.says("link", "</v2/a/tags/list?n=2&last=2>; rel=\"next\"");
    drop(page);
    let path = format!("/v2/a/referrers/{digest}");
    let list = cache
        .get(&path)
        .has(200)
        .says("content-type", common::web::INDEX)
        .json();
    assert_eq!(list["manifests"][0]["digest"], about);
    assert_eq!(list["manifests"][0]["artifactType"], "a/b");
    // Without the upstream the lists are of what is here.
    cache.get("/v2/a/manifests/3").has(200);
    cache.get("/v2/a/manifests/about").has(200);
    upstream.kill();
    let here = cache.get("/v2/a/tags/list").has(200).json();
    assert_eq!(here["tags"], serde_json::json!(["3", "about"]));
    let here = cache.get(&path).has(200).json();
    assert_eq!(here["manifests"][0]["digest"], about);
}

#[test]
fn a_tag_that_moves_is_followed() {
    let root = TempRoot::new("cache-moves");
    let _leaks = LeakCheck::new(&root);
    let upstream = OurRegistry::start(&root, &[]);
    let first = push(&upstream, "a", "latest", b"first");
    let cache = cache(&root, &upstream.address, &[]);
    let url = format!("http://{}", upstream.address);
    let patient = ["--upstream", &url, "--upstream-ttl", "24h"];
    let patient = OurRegistry::start_at(&root, "patient", &patient);
    let latest = |of: &OurRegistry| {
        let reply = of.get("/v2/a/manifests/latest").has(200);
        let age: u64 = reply.header("age").expect("an age").parse().unwrap();
        assert!(age < 600);
        reply.header("docker-content-digest").unwrap().to_string()
    };
    assert_eq!(latest(&cache), first.to_string());
    assert_eq!(latest(&patient), first.to_string());
    let second = push(&upstream, "a", "latest", b"second");
    assert_eq!(latest(&cache), second.to_string());
    assert_eq!(
        latest(&patient),
        first.to_string(),
        "it is younger than a day"
    );
    // The one before is still there by its digest, and when the tag goes back nothing is fetched.
    cache.get(&format!("/v2/a/manifests/{first}")).has(200);
    push(&upstream, "a", "latest", b"first");
    let fetched = cache.counter("cache_misses_total");
    assert_eq!(latest(&cache), first.to_string());
    assert_eq!(cache.counter("cache_misses_total"), fetched);
    // A tag that the upstream takes away goes here, too.
    upstream
        .ask("DELETE", "/v2/a/manifests/latest", &[], b"")
        .has(202);
    for _ in 0..2 {
        cache
            .get("/v2/a/manifests/latest")
            .refuses(404, "MANIFEST_UNKNOWN");
    }
    cache.get(&format!("/v2/a/manifests/{second}")).has(200);
}

#[test]
fn without_the_upstream_what_is_cached_is_given_out() {
    let root = TempRoot::new("cache-down");
    let _leaks = LeakCheck::new(&root);
    let mut upstream = OurRegistry::start(&root, &[]);
    let digest = push(&upstream, "a", "1", &long(1));
    push(&upstream, "a", "2", b"two");
    let mut one = cache(&root, &upstream.address, &[]);
    let name = one.name("a:1");
    run_in(&root, ["pull", &name]).success();
    let address = upstream.address.clone();
    upstream.kill();
    let check = |cache: &OurRegistry| {
        let name = cache.name("a:1");
        run_in(&root, ["image", "rm", "-f", &digest.to_string()]);
        run_in(&root, ["image", "prune", "-a", "-f"]).success();
        run_in(&root, ["pull", &name])
            .success()
            .out_has(&format!("Digest: {digest}"));
        assert!(cache.counter("cache_stale_total") >= 1);
        assert!(cache.counter("cache_errors_total") >= 1);
        assert!(
            cache.log().contains("what is cached is served"),
            "{}",
            cache.log()
        );
        let refused = cache.get("/v2/a/manifests/2").refuses(502, "UNKNOWN");
        let why = refused.json()["errors"][0]["message"].to_string();
        assert!(
            why.contains(&address) && why.contains("ECONNREFUSED"),
            "{why}"
        );
        let blob = Digest::sha256(b"two");
        cache
            .get(&format!("/v2/a/blobs/{blob}"))
            .refuses(502, "UNKNOWN");
    };
    check(&one);
    assert_eq!(one.end(), Some(0));
    // A cache that starts meanwhile has the same.
    check(&cache(&root, &address, &[]));
}

#[test]
fn nothing_is_pushed_to_a_cache() {
    let root = TempRoot::new("cache-push");
    let _leaks = LeakCheck::new(&root);
    let upstream = OurRegistry::start(&root, &[]);
    push(&upstream, "a", "1", b"one");
    let cache = cache(&root, &upstream.address, &[]);
    cache.get("/v2/a/manifests/1").has(200);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PUT", "/v2/a/manifests/1"),
        ("DELETE", "/v2/a/manifests/1"),
        ("PATCH", "/v2/a/blobs/uploads/1"),
    ] {
        let refused = cache
            .ask(method, path, &[], b"")
            .refuses(405, "UNSUPPORTED");
        let refused = refused.says("allow", "GET, HEAD");
        assert!(
            refused.json()["errors"][0]["message"]
                .to_string()
                .contains(&upstream.address)
        );
    }
    cache.get("/v2/a/manifests/1").has(200);
    // Nor does a directory of something else become one.
    let serve = |data: &str, url: &str| {
        let data = root.join(data).display().to_string();
        run([
            "registry",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            &data,
            "--upstream",
            url,
        ])
    };
    let (data, url) = ("data", format!("http://{}", cache.address));
    drop(upstream);
    serve(data, &url).fails(1, &["is a registry of its own", "a directory of its own"]);
    drop(cache);
    serve("cache", "docker.io").fails(1, &["is a cache of http://127.0.0.1"]);
    serve("new", "http://a/b").fails(1, &["is no registry to cache"]);
}

/// Base64 of `me:secret`.
const BASIC: &str = "Basic bWU6c2VjcmV0";

#[test]
fn the_cache_says_who_it_is() {
    let root = TempRoot::new("cache-who");
    let _leaks = LeakCheck::new(&root);
    let good = image(tar(&[("a", b"1")]), "");
    let tokens = Server::new(|request| match request.header("authorization") {
        Some(BASIC) => Answer::ok("application/json", br#"{"token":"good","expires_in":300}"#),
        None => Answer::ok("application/json", br#"{"token":"anonymous"}"#),
        Some(_) => Answer::status(401, &[]),
    });
    let (served, realm) = (good.clone(), tokens.address.clone());
    let bearer = Server::new(move |request| match request.header("authorization") {
        Some("Bearer good") => upstream(&served, request),
        _ => {
            let wants = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
            Answer::status(401, &[("WWW-Authenticate", &wants)])
        }
    });
    let served = good.clone();
    let basic = Server::new(move |request| match request.header("authorization") {
        Some(BASIC) => upstream(&served, request),
        _ => Answer::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
    });
    let right = root.write("right", "secret\n").display().to_string();
    let wrong = root.write("wrong", "Secret\n").display().to_string();
    for (i, server) in [&bearer, &basic].into_iter().enumerate() {
        let url = format!("http://{}", server.address);
        let start = |data: &str, login: &[&str]| {
            let flags = [&["--upstream", &url], login].concat();
            OurRegistry::start_at(&root, &format!("{data}{i}"), &flags)
        };
        let known = start(
            "known",
            &["--upstream-user", "me", "--upstream-password-file", &right],
        );
        known.get("/v2/a/manifests/1").has(200);
        let config = format!("/v2/a/blobs/{}", Digest::sha256(&good.config));
        assert!(known.get(&config).has(200).body == good.config);
        assert!(!known.log().contains("secret"), "{}", known.log());
        let other = start(
            "other",
            &["--upstream-user", "me", "--upstream-password-file", &wrong],
        );
        let status = other.get("/v2/a/manifests/1").status;
        assert!([403, 502].contains(&status), "{status}");
        start("nobody", &[])
            .get("/v2/a/manifests/1")
            .refuses(403, "DENIED");
    }
    // One token for all of it.
    let asked = tokens.seen();
    let good = asked
        .iter()
        .filter(|r| r.header("authorization") == Some(BASIC));
    assert_eq!(good.count(), 1);
    let missing = root.join("missing").display().to_string();
    let data = root.join("x").display().to_string();
    let flags = [
        "--upstream-user",
        "me",
        "--upstream-password-file",
        &missing,
    ];
    let serve = [
        "registry",
        "serve",
        "--data",
        &data,
        "--upstream",
        "docker.io",
    ];
    run([&serve[..], &flags].concat()).fails(1, &["cannot read", "missing"]);
}

#[test]
fn a_cache_over_tls_with_users_of_its_own() {
    let root = TempRoot::new("cache-tls");
    let _leaks = LeakCheck::new(&root);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::create_dir_all(root.join("certs")).unwrap();
    let certificate = root
        .write("certs/ca.crt", made.cert.pem())
        .display()
        .to_string();
    let key = root
        .write("key.pem", made.signing_key.serialize_pem())
        .display()
        .to_string();
    let upstream = OurRegistry::start(&root, &["--tls-cert", &certificate, "--tls-key", &key]);
    assert!(upstream.log().contains("listening on https://"));
    let url = format!("https://{}", upstream.address);
    let certs = root.join("certs").display().to_string();
    let flags = ["--upstream", &url, "--upstream-cert-dir", &certs];
    let cache = OurRegistry::start_at(&root, "cache", &flags);
    cache
        .get("/v2/a/manifests/1")
        .refuses(404, "MANIFEST_UNKNOWN");
    let stranger = OurRegistry::start_at(&root, "stranger", &["--upstream", &url]);
    let refused = stranger.get("/v2/a/manifests/1").refuses(502, "UNKNOWN");
    assert!(
        refused.json().to_string().contains("certificate"),
        "{}",
        refused.json()
    );
}

#[test]
fn gc_forgets_what_a_cache_is_not_asked_for_and_it_comes_again() {
    let root = TempRoot::new("cache-unused");
    let _leaks = LeakCheck::new(&root);
    let upstream = OurRegistry::start(&root, &[]);
    push(&upstream, "a", "old", b"one");
    push(&upstream, "a", "new", b"two");
    let cache = cache(&root, &upstream.address, &[]);
    let fetch = |tag: &str| {
        let manifest = cache.get(&format!("/v2/a/manifests/{tag}")).has(200).json();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        cache.get(&format!("/v2/a/blobs/{layer}")).has(200);
    };
    fetch("old");
    fetch("new");
    let tag = |name: &str| cache.data.join("repositories/a/_tags").join(name);
    let week = Duration::from_secs(8 * 24 * 3600);
    let then = FileTimes::new().set_modified(SystemTime::now() - week);
    File::open(tag("old")).unwrap().set_times(then).unwrap();
    let gc = |registry: &OurRegistry, more: &[&str]| {
        let flags = ["--json", "--grace", "0s", "--unused-for", "7d"];
        registry.gc(&[&flags[..], more].concat())
    };
    // Two manifests with a layer each; a manifest is a blob as well.
    let blobs =
        || std::fs::read_dir(cache.data.join("repositories/a/blobs/sha256")).map(|d| d.count());
    let before = blobs().unwrap();
    let counted = gc(&cache, &["--dry-run"]).success().json();
    assert_eq!(
        (&counted["tags"], &counted["manifests"]),
        (&json!(1), &json!(1))
    );
    assert!(tag("old").exists() && blobs().unwrap() == before);
    let went = gc(&cache, &[]).success().json();
    assert_eq!((&went["tags"], &went["manifests"]), (&json!(1), &json!(1)));
    assert!(!tag("old").exists() && tag("new").exists());
    assert!(blobs().unwrap() < before);
    fetch("new");
    fetch("old");
    assert!(tag("old").exists() && blobs().unwrap() == before);
    assert_eq!(gc(&cache, &[]).success().json()["tags"], 0);
    // What was pushed is nowhere else.
    gc(&upstream, &[]).fails(1, &["is no cache of another registry", "registry rm"]);
}
