//! Our registry, asked by hand: each requirement of the distribution specification.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: a registry a test, requests byte for byte. `distribution_musts.md` names the test
//! of each MUST.
//!
//! Read next: `tests/registry_uploads.rs`, `tests/registry_serve.rs`.

mod common;

use common::our_registry::OurRegistry;
use common::web::{INDEX, MANIFEST};
use common::{LeakCheck, TempRoot};
use glassbox::spec::digest::{Algorithm, Digest};
use serde_json::{Value, json};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": Digest::sha256(content), "size": content.len() })
}

/// A manifest of a configuration and a layer, both pushed.
fn image(registry: &OurRegistry, repository: &str, layer: &[u8]) -> Vec<u8> {
    registry.blob(repository, b"{}");
    registry.blob(repository, layer);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, b"{}"), "layers": [descriptor(LAYER, layer)],
    });
    manifest.to_string().into_bytes()
}

fn tags(registry: &OurRegistry, query: &str) -> (Vec<String>, Option<String>) {
    let reply = registry
        .get(&format!("/v2/a/tags/list{query}"))
        .has(200)
        .says("content-type", "application/json");
    assert_eq!(reply.json()["name"], "a");
    let tags = reply.json()["tags"].as_array().expect("a list").clone();
    let link = reply.header("link").map(|l| {
        let (path, rest) = l
            .strip_prefix('<')
            .and_then(|l| l.split_once('>'))
            .expect("a link");
        assert_eq!(rest, "; rel=\"next\"");
        path.split_once('?').expect("a query").1.to_string()
    });
    (
        tags.iter()
            .map(|t| t.as_str().expect("text").to_string())
            .collect(),
        link,
    )
}

#[test]
fn every_row_names_a_test_or_says_why_not() {
    common::musts::table("distribution_musts.md", 55);
}

#[test]
fn the_base_says_that_it_is_a_registry() {
    let root = TempRoot::new("serve-base");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    for path in ["/v2/", "/v2"] {
        registry
            .get(path)
            .has(200)
            .says("docker-distribution-api-version", "registry/2.0");
    }
    assert_eq!(registry.ask("HEAD", "/v2/", &[], b"").has(200).body, b"");
    registry.get("/").refuses(404, "UNSUPPORTED");
    registry.get("/v1/search").refuses(404, "UNSUPPORTED");
    registry
        .ask("POST", "/v2/", &[], b"")
        .refuses(405, "UNSUPPORTED")
        .says("allow", "GET, HEAD");
    registry
        .ask("BREW", "/v2/a/blobs/x", &[], b"")
        .refuses(405, "UNSUPPORTED");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let root = TempRoot::new("serve-names");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    for name in [
        "A",
        "a//b",
        "..",
        "a/../b",
        "a/%2e%2e/b",
        "a..b",
        "-a",
        "a_",
        &"a".repeat(256),
    ] {
        registry
            .get(&format!("/v2/{name}/tags/list"))
            .refuses(400, "NAME_INVALID");
        registry
            .ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"")
            .refuses(400, "NAME_INVALID");
    }
    registry
        .get("/v2/nobody/tags/list")
        .refuses(404, "NAME_UNKNOWN");
    let manifest = image(&registry, "a", b"layer");
    for tag in [".a", "-a", "a%20b", &"a".repeat(129)] {
        registry
            .manifest("a", tag, MANIFEST, &manifest)
            .refuses(400, "MANIFEST_INVALID");
    }
    for tag in ["_", "A.b-c_d", &"a".repeat(128)] {
        registry.manifest("a", tag, MANIFEST, &manifest).has(201);
        registry.get(&format!("/v2/a/manifests/{tag}")).has(200);
    }
}

#[test]
fn a_blob_is_given_out_whole_or_by_range() {
    let root = TempRoot::new("serve-blobs");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let digest = registry.blob("a/b", &content);
    let path = format!("/v2/a/b/blobs/{digest}");
    let whole = registry
        .get(&path)
        .has(200)
        .says("docker-content-digest", &digest.to_string());
    assert!(whole.body == content);
    let head = registry
        .ask("HEAD", &path, &[], b"")
        .has(200)
        .says("content-length", "3000000");
    assert!(head.body.is_empty());
    for (range, from, to) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, content.len()),
        ("bytes=-500", content.len() - 500, content.len()),
        ("bytes=2999000-5000000", 2_999_000, content.len()),
    ] {
        let part = registry
            .ask("GET", &path, &[("Range", range)], b"")
            .has(206);
        assert!(part.body == content[from..to], "{range}");
        part.says("content-range", &format!("bytes {from}-{}/3000000", to - 1));
    }
    for range in ["bytes=500-0", "bytes=3000000-", "bytes=9999999-99999999"] {
        let reply = registry.ask("GET", &path, &[("Range", range)], b"");
        reply.has(416).says("content-range", "bytes */3000000");
    }
    for (repository, digest, code) in [
        (
            "a/b",
            Digest::sha256(b"not there").to_string(),
            "BLOB_UNKNOWN",
        ),
        // What one repository has, another one has not.
        ("a/c", digest.to_string(), "BLOB_UNKNOWN"),
    ] {
        let path = format!("/v2/{repository}/blobs/{digest}");
        registry.get(&path).refuses(404, code);
        assert_eq!(registry.ask("HEAD", &path, &[], b"").has(404).body, b"");
    }
    registry
        .get("/v2/a/b/blobs/sha256:baddigeststring")
        .refuses(400, "DIGEST_INVALID");
    for small in [&b""[..], b"{}"] {
        let digest = registry.blob("a/b", small);
        assert_eq!(
            registry
                .get(&format!("/v2/a/b/blobs/{digest}"))
                .has(200)
                .body,
            small
        );
    }
}

#[test]
fn a_manifest_is_kept_byte_for_byte() {
    let root = TempRoot::new("serve-manifests");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let plain = image(&registry, "a", b"layer");
    // Odd spaces, unknown fields: what came is what goes.
    let odd = String::from_utf8(plain).unwrap().replacen(
        '{',
        "{ \n\t\"x-unknown\": {\"deep\": [1, 2.50]},",
        1,
    );
    let digest = Digest::sha256(odd.as_bytes()).to_string();
    let put = registry
        .manifest("a", "v1", MANIFEST, odd.as_bytes())
        .has(201)
        .says("docker-content-digest", &digest);
    assert!(put.header("oci-subject").is_none());
    let place = put.header("location").expect("a location").to_string();
    for path in [
        place,
        "/v2/a/manifests/v1".into(),
        format!("/v2/a/manifests/{digest}"),
    ] {
        let got = registry
            .get(&path)
            .has(200)
            .says("content-type", MANIFEST)
            .says("docker-content-digest", &digest);
        assert_eq!(got.body, odd.as_bytes());
        let head = registry
            .ask("HEAD", &path, &[], b"")
            .has(200)
            .says("content-type", MANIFEST);
        assert!(head.body.is_empty());
        head.says("content-length", &odd.len().to_string())
            .says("docker-content-digest", &digest);
        let known = [("If-None-Match", &*format!("\"{digest}\""))];
        registry.ask("GET", &path, &known, b"").has(304);
    }
    for path in ["/v2/a/manifests/nothing", "/v2/nobody/manifests/v1"] {
        registry.get(path).refuses(404, "MANIFEST_UNKNOWN");
        registry.ask("HEAD", path, &[], b"").has(404);
    }
    registry
        .get(&format!("/v2/a/manifests/{}", Digest::sha256(b"x")))
        .refuses(404, "MANIFEST_UNKNOWN");
    registry
        .get("/v2/a/manifests/sha256:baddigeststring")
        .refuses(400, "DIGEST_INVALID");
    // A blob is no manifest, though it may be read as one.
    let blob = registry.blob("a", odd.replace("2.50", "3").as_bytes());
    registry
        .get(&format!("/v2/a/manifests/{blob}"))
        .refuses(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_manifest_is_checked() {
    let root = TempRoot::new("serve-checks");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let good = image(&registry, "a", b"layer");
    let wrong = Digest::sha256(b"wrong").to_string();
    registry
        .manifest("a", &wrong, MANIFEST, &good)
        .refuses(400, "DIGEST_INVALID");
    for bad in [
        "",
        "no JSON",
        "[]",
        "{\"schemaVersion\":1}",
        "{\"layers\":[{}]}",
        "{\"config\":{\"digest\":\"x\"}}",
    ] {
        registry
            .manifest("a", "v1", MANIFEST, bad.as_bytes())
            .refuses(400, "MANIFEST_INVALID");
    }
    registry
        .manifest("a", "v1", INDEX, &good)
        .refuses(400, "MANIFEST_INVALID");
    // All blobs that are not there are named.
    let lacking = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"none"),
        "layers": [descriptor(LAYER, b"layer"), descriptor(LAYER, b"neither")],
    });
    let refused = registry.manifest("a", "v1", MANIFEST, lacking.to_string().as_bytes());
    let errors = refused.refuses(404, "MANIFEST_BLOB_UNKNOWN").json()["errors"]
        .as_array()
        .unwrap()
        .clone();
    let digests: Vec<&str> = errors
        .iter()
        .map(|e| e["detail"]["digest"].as_str().unwrap())
        .collect();
    assert_eq!(
        digests,
        [
            Digest::sha256(b"none").to_string(),
            Digest::sha256(b"neither").to_string()
        ]
    );
    registry.get("/v2/a/manifests/v1").has(404);
    // Layers that may not be distributed need not be there; there may be none.
    let elsewhere = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    for layers in [json!([descriptor(elsewhere, b"far away")]), json!([])] {
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"{}"), "layers": layers });
        registry
            .manifest("a", "v2", MANIFEST, manifest.to_string().as_bytes())
            .has(201);
    }
    // Four megabytes pass, more do not.
    let padded = |size: usize| {
        let text = String::from_utf8(good.clone()).unwrap();
        let padding = "x".repeat(size - text.len() - 9);
        text.replacen('{', &format!("{{\"pad\":\"{padding}\","), 1)
    };
    let large = padded(3_900_000);
    registry
        .manifest("a", "large", MANIFEST, large.as_bytes())
        .has(201);
    assert!(registry.get("/v2/a/manifests/large").has(200).body == large.as_bytes());
    registry
        .manifest("a", "larger", MANIFEST, padded(5_000_000).as_bytes())
        .refuses(413, "MANIFEST_INVALID");
    registry.get("/v2/a/manifests/larger").has(404);
    // An index may name what is not there yet.
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, b"later")] });
    registry
        .manifest("a", "index", INDEX, index.to_string().as_bytes())
        .has(201);
    registry
        .get("/v2/a/manifests/index")
        .has(200)
        .says("content-type", INDEX);
}

#[test]
fn tags_come_in_order_and_in_pages() {
    let root = TempRoot::new("serve-tags");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let manifest = image(&registry, "a", b"layer");
    assert_eq!(tags(&registry, "").0, [""; 0]);
    for tag in ["b", "a", "B", "10", "9", "a.1", "_x"] {
        registry.manifest("a", tag, MANIFEST, &manifest).has(201);
    }
    let all = ["10", "9", "B", "_x", "a", "a.1", "b"];
    assert_eq!(tags(&registry, ""), (all.map(String::from).to_vec(), None));
    assert_eq!(tags(&registry, "?n=0"), (vec![], None));
    assert_eq!(tags(&registry, "?n=100").1, None);
    assert_eq!(tags(&registry, "?n=7").1, None);
    assert_eq!(tags(&registry, "?last=_x").0, ["a", "a.1", "b"]);
    assert_eq!(tags(&registry, "?last=A").0, ["B", "_x", "a", "a.1", "b"]);
    let (mut found, mut query) = (Vec::new(), Some("n=3".to_string()));
    while let Some(next) = query {
        let (page, link) = tags(&registry, &format!("?{next}"));
        assert!(page.len() <= 3);
        found.extend(page);
        query = link;
    }
    assert_eq!(found, all);
    registry
        .get("/v2/a/tags/list?n=x")
        .refuses(400, "UNSUPPORTED");
    // A tag moves.
    let second = image(&registry, "a", b"another layer");
    registry.manifest("a", "b", MANIFEST, &second).has(201);
    assert_eq!(registry.get("/v2/a/manifests/b").has(200).body, second);
}

#[test]
fn referrers_are_listed_with_their_types() {
    let root = TempRoot::new("serve-referrers");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let list = |repository: &str, subject: &str, query: &str| {
        let reply = registry
            .get(&format!("/v2/{repository}/referrers/{subject}{query}"))
            .has(200);
        let reply = reply.says("content-type", INDEX);
        assert_eq!(reply.json()["schemaVersion"], 2);
        assert_eq!(reply.json()["mediaType"], INDEX);
        (
            reply.json()["manifests"]
                .as_array()
                .expect("a list")
                .clone(),
            reply,
        )
    };
    let subject = image(&registry, "a", b"layer");
    let of = Digest::sha256(&subject).to_string();
    assert!(list("nobody", &of, "").0.is_empty());
    assert!(list("a", &of, "").0.is_empty());
    registry
        .get("/v2/a/referrers/sha256:bad")
        .refuses(400, "DIGEST_INVALID");
    // What points at it may come first.
    let pointing = |more: Value| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"{}"), "layers": [],
            "subject": descriptor(MANIFEST, &subject),
        });
        manifest
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        manifest.to_string().into_bytes()
    };
    let typed = pointing(json!({ "artifactType": "a/signature", "annotations": {"k": "v"} }));
    let untyped = pointing(json!({}));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": descriptor(MANIFEST, &subject) }).to_string().into_bytes();
    for (content, kind) in [(&typed, MANIFEST), (&untyped, MANIFEST), (&index, INDEX)] {
        let reference = Digest::sha256(content).to_string();
        registry
            .manifest("a", &reference, kind, content)
            .has(201)
            .says("oci-subject", &of);
    }
    let (found, reply) = list("a", &of, "");
    assert_eq!(reply.header("oci-filters-applied"), None);
    let entry = |content: &[u8]| {
        let digest = Digest::sha256(content).to_string();
        found
            .iter()
            .find(|d| d["digest"] == *digest)
            .expect("it is listed")
            .clone()
    };
    assert_eq!(found.len(), 3);
    assert_eq!(entry(&typed)["artifactType"], "a/signature");
    assert_eq!(entry(&typed)["annotations"], json!({"k": "v"}));
    assert_eq!(entry(&typed)["size"], typed.len());
    assert_eq!(entry(&typed)["mediaType"], MANIFEST);
    assert_eq!(entry(&untyped)["artifactType"], CONFIG);
    assert_eq!(entry(&index).get("artifactType"), None);
    registry.manifest("a", "v1", MANIFEST, &subject).has(201);
    let (found, reply) = list("a", &of, "?artifactType=a/signature");
    assert_eq!(found.len(), 1);
    reply.says("oci-filters-applied", "artifactType");
    assert!(list("a", &of, "?artifactType=none/such").0.is_empty());
    // The tag by which older clients find them is a tag like others.
    let fallback = of.replace(':', "-");
    let listed = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(MANIFEST, &typed)] });
    registry
        .manifest("a", &fallback, INDEX, listed.to_string().as_bytes())
        .has(201);
    registry
        .get(&format!("/v2/a/manifests/{fallback}"))
        .has(200);
    // What is deleted points at nothing.
    registry
        .ask(
            "DELETE",
            &format!("/v2/a/manifests/{}", Digest::sha256(&typed)),
            &[],
            b"",
        )
        .has(202);
    assert_eq!(list("a", &of, "").0.len(), 2);
}

#[test]
fn what_is_deleted_is_gone() {
    let root = TempRoot::new("serve-delete");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let manifest = image(&registry, "a", b"layer");
    let digest = Digest::sha256(&manifest).to_string();
    for tag in ["v1", "v2", "v3"] {
        registry.manifest("a", tag, MANIFEST, &manifest).has(201);
    }
    let delete = |path: &str| registry.ask("DELETE", &format!("/v2/a/{path}"), &[], b"");
    // A tag alone.
    delete("manifests/v1").has(202);
    delete("manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    registry.get("/v2/a/manifests/v1").has(404);
    registry.get("/v2/a/manifests/v2").has(200);
    // A manifest, with its tags.
    delete(&format!("manifests/{digest}")).has(202);
    delete(&format!("manifests/{digest}")).refuses(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/a/manifests/{digest}")).has(404);
    assert!(tags(&registry, "").0.is_empty());
    // A blob, of this repository only.
    registry.blob("b", b"layer");
    let layer = Digest::sha256(b"layer");
    delete(&format!("blobs/{layer}")).has(202);
    delete(&format!("blobs/{layer}")).refuses(404, "BLOB_UNKNOWN");
    registry.get(&format!("/v2/a/blobs/{layer}")).has(404);
    registry.get(&format!("/v2/b/blobs/{layer}")).has(200);
    // And all can come again.
    registry.blob("a", b"layer");
    registry.manifest("a", "v1", MANIFEST, &manifest).has(201);
    registry.get("/v2/a/manifests/v1").has(200);
}

#[test]
fn sha512_is_as_good() {
    let root = TempRoot::new("serve-sha512");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let digest = Digest::of(Algorithm::Sha512, b"content");
    let upload = registry.begin("a");
    registry.ask("PATCH", &upload, &[], b"cont").has(202);
    registry
        .ask("PUT", &format!("{upload}?digest={digest}"), &[], b"ent")
        .has(201);
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{digest}")).has(200).body,
        b"content"
    );
    registry
        .ask(
            "POST",
            &format!("/v2/b/blobs/uploads/?digest={digest}"),
            &[],
            b"content",
        )
        .has(201);
    registry
        .ask(
            "POST",
            &format!("/v2/b/blobs/uploads/?digest={digest}"),
            &[],
            b"other",
        )
        .refuses(400, "DIGEST_INVALID");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": CONFIG, "digest": digest, "size": 7},
    });
    let manifest = manifest.to_string();
    let of = Digest::of(Algorithm::Sha512, manifest.as_bytes()).to_string();
    registry
        .manifest("a", &of, MANIFEST, manifest.as_bytes())
        .has(201)
        .says("docker-content-digest", &of);
    assert_eq!(
        registry.get(&format!("/v2/a/manifests/{of}")).has(200).body,
        manifest.as_bytes()
    );
}
