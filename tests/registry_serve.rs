//! Our registry as a program: users, TLS, read-only, log, counters, gc, and what SIGKILL leaves.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: a registry a test, asked by hand; `kill -9` at any moment must lose nothing that was
//! acknowledged and show nothing that was not.
//!
//! Read next: `tests/common/our_registry.rs`, `tests/registry_server.rs`.

mod common;

use common::our_registry::{OurRegistry, Reply};
use common::web::{MANIFEST, tar};
use common::{LeakCheck, TempRoot, run, run_in};
use glassbox::spec::digest::Digest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `name` with the password `secret`, hashed by bcrypt with cost 4.
fn htpasswd(name: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash("secret", 4).unwrap())
}

/// The header of a name and a password.
fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    let text = format!("{name}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    )
}

/// Pushes an image of one layer; its digest.
fn push(registry: &OurRegistry, repository: &str, tag: &str, layer: &[u8]) -> String {
    let manifest = image(registry, repository, layer);
    registry
        .manifest(repository, tag, MANIFEST, &manifest)
        .has(201);
    Digest::sha256(&manifest).to_string()
}

fn image(registry: &OurRegistry, repository: &str, layer: &[u8]) -> Vec<u8> {
    let (config, content) = (
        registry.blob(repository, b"{}"),
        registry.blob(repository, layer),
    );
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": content, "size": layer.len()}],
    });
    manifest.to_string().into_bytes()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

fn gc(registry: &OurRegistry, flags: &[&str]) -> Value {
    let flags = [&["--json"], flags].concat();
    registry.gc(&flags).success().json()
}

#[test]
fn a_password_is_asked_for() {
    let root = TempRoot::new("serve-auth");
    let _leaks = LeakCheck::new(&root);
    let users = root.write("users", htpasswd("ann"));
    let registry = OurRegistry::start(&root, &["--htpasswd", users.to_str().unwrap()]);
    let ask = |method: &str, path: &str, who: &str| {
        registry.ask(method, path, &[("Authorization", who)], b"")
    };
    for path in ["/v2/", "/v2/a/tags/list", "/metrics", "/v2/_catalog"] {
        let refused = registry.get(path).refuses(401, "UNAUTHORIZED");
        refused.says("www-authenticate", "Basic realm=\"glassbox registry\"");
    }
    for wrong in [
        basic("ann", "Secret"),
        basic("bob", "secret"),
        "Bearer x".into(),
        "Basic !".into(),
    ] {
        ask("GET", "/v2/", &wrong).refuses(401, "UNAUTHORIZED");
        ask("POST", "/v2/a/blobs/uploads/", &wrong).refuses(401, "UNAUTHORIZED");
    }
    ask("GET", "/v2/", &basic("ann", "secret")).has(200);
    ask("POST", "/v2/a/blobs/uploads/", &basic("ann", "secret")).has(202);
    // A file that changes counts at once.
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(&users, htpasswd("bob")).unwrap();
    ask("GET", "/v2/", &basic("ann", "secret")).refuses(401, "UNAUTHORIZED");
    ask("GET", "/v2/", &basic("bob", "secret")).has(200);
    let log = registry.log();
    assert!(log.contains(" ann POST /v2/a/blobs/uploads/ 202 "), "{log}");
    assert!(!log.contains("secret"), "{log}");
    // Hashes that are not bcrypt's are refused at the start.
    let weak = root.write("weak", "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    let args = [
        "registry",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        registry.data.to_str().unwrap(),
        "--htpasswd",
        weak.to_str().unwrap(),
    ];
    run(args).fails(1, &["bcrypt", "htpasswd -B"]);
}

#[test]
fn our_client_logs_in_over_tls() {
    let root = TempRoot::new("serve-tls");
    let _leaks = LeakCheck::new(&root);
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::create_dir_all(root.join("certs")).unwrap();
    let certificate = root.write("certs/ca.crt", certified.cert.pem());
    let key = root.write("key.pem", certified.signing_key.serialize_pem());
    let users = root.write("users", htpasswd("ann"));
    let flags = [
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--htpasswd",
        users.to_str().unwrap(),
    ];
    let registry = OurRegistry::start(&root, &flags);
    assert!(registry.log().contains("listening on https://"));
    let plain = registry.get("/v2/").has(400); // who forgot the TLS is told
    assert!(plain.body.starts_with(b"This port speaks HTTPS"));
    let layer = root
        .write("layer.tar", tar(&[("a", b"1")]))
        .display()
        .to_string();
    let name = registry.name("app:1");
    run_in(&root, ["image", "import", &layer, &name]).success();
    let certs = root.join("certs").display().to_string();
    let docker = root.join("docker").display().to_string();
    std::fs::create_dir_all(&docker).unwrap();
    let ours = |args: &[&str]| {
        common::Run::new(args)
            .env("GLASSBOX_ROOT", root.path())
            .env("DOCKER_CONFIG", &docker)
    };
    ours(&["push", "--cert-dir", &certs, &name])
        .go()
        .fails(1, &[]);
    let login = [
        "login",
        "--cert-dir",
        &certs,
        "-u",
        "ann",
        "--password-stdin",
        &registry.address,
    ];
    ours(&login).stdin("wrong").go().fails(1, &[]);
    ours(&login).stdin("secret").go().success();
    ours(&["push", "--cert-dir", &certs, &name]).go().success();
    ours(&["image", "rm", &name]).go().success();
    ours(&["pull", "--cert-dir", &certs, &name]).go().success();
    // A certificate and a key that do not belong together.
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let other = root.write("other.pem", other.signing_key.serialize_pem());
    let args = [
        "registry",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        registry.data.to_str().unwrap(),
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        other.to_str().unwrap(),
    ];
    run(args).fails(1, &["cannot use"]);
}

#[test]
fn a_read_only_registry_changes_nothing() {
    let root = TempRoot::new("serve-readonly");
    let _leaks = LeakCheck::new(&root);
    let writer = OurRegistry::start(&root, &[]);
    let digest = push(&writer, "a", "v1", b"layer");
    let data = writer.data.display().to_string();
    // Only one may write; another one may read meanwhile.
    run([
        "registry",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        &data,
    ])
    .fails(1, &["another server writes", "--read-only"]);
    let mut reader = OurRegistry::start(&root, &["--read-only"]);
    reader.get("/v2/a/manifests/v1").has(200);
    let manifest = reader
        .get(&format!("/v2/a/manifests/{digest}"))
        .has(200)
        .body;
    reader
        .manifest("a", "v2", MANIFEST, &manifest)
        .refuses(405, "UNSUPPORTED");
    reader
        .ask("POST", "/v2/a/blobs/uploads/", &[], b"")
        .refuses(405, "UNSUPPORTED");
    let layer = Digest::sha256(b"layer");
    for path in [
        "manifests/v1".to_string(),
        format!("manifests/{digest}"),
        format!("blobs/{layer}"),
    ] {
        reader
            .ask("DELETE", &format!("/v2/a/{path}"), &[], b"")
            .refuses(405, "UNSUPPORTED");
    }
    push(&writer, "a", "v2", b"second");
    reader.get("/v2/a/manifests/v2").has(200);
    assert_eq!(reader.end(), Some(0));
    run([
        "registry",
        "serve",
        "--read-only",
        "--data",
        root.join("nothing").to_str().unwrap(),
    ])
    .fails(1, &["holds no registry"]);
}

#[test]
fn the_log_and_the_counters_tell_what_happened() {
    let root = TempRoot::new("serve-log");
    let _leaks = LeakCheck::new(&root);
    let mut registry = OurRegistry::start(&root, &["--log-format", "json"]);
    let digest = registry.blob("a", b"content");
    registry
        .ask(
            "GET",
            &format!("/v2/a/blobs/{digest}?%0a"),
            &[("User-Agent", "test/1")],
            b"",
        )
        .has(200);
    registry.get("/v2/a/manifests/none").has(404);
    registry.begin("a");
    let metrics = registry.get("/metrics").has(200);
    let text = String::from_utf8(metrics.body).unwrap();
    for line in [
        "glassbox_registry_requests_total{endpoint=\"blob\",method=\"GET\",status=\"200\"} 1",
        "glassbox_registry_requests_total{endpoint=\"manifest\",method=\"GET\",status=\"404\"} 1",
        "glassbox_registry_received_bytes_total 7",
        "glassbox_registry_uploads 1",
        "glassbox_registry_connections 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
    }
    assert_eq!(registry.end(), Some(0));
    let log = registry.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let line = lines
        .iter()
        .find(|l| l["agent"] == "test/1")
        .expect("a line");
    assert_eq!(line["path"], format!("/v2/a/blobs/{digest}?%0a"));
    assert_eq!(
        (&line["method"], &line["status"], &line["sent"]),
        (&json!("GET"), &json!(200), &json!(7))
    );
    assert_eq!(lines.last().unwrap()["message"], "asked to end");
}

#[test]
fn each_repository_is_an_image_layout() {
    let root = TempRoot::new("serve-layout");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let digest = push(&registry, "a/b", "v1", b"layer");
    push(&registry, "a/b", "v2", b"layer");
    let layout = registry.data.join("repositories/a/b");
    let until = Instant::now() + Duration::from_secs(10);
    let index = loop {
        let text = std::fs::read(layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&text).unwrap();
        if index["manifests"].as_array().unwrap().len() == 2 {
            break index;
        }
        assert!(Instant::now() < until, "the index does not follow");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(index["manifests"][0]["digest"], digest);
    assert_eq!(
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
        "v1"
    );
    let layout: Value =
        serde_json::from_slice(&std::fs::read(layout.join("oci-layout")).unwrap()).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
}

#[test]
fn gc_takes_what_nothing_needs() {
    let root = TempRoot::new("serve-gc");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    push(&registry, "a", "keep", b"kept");
    let second = push(&registry, "a", "gone", b"goes");
    let orphan = registry.blob("a", b"orphan");
    registry
        .ask("DELETE", &format!("/v2/a/manifests/{second}"), &[], b"")
        .has(202);
    // Young things stay.
    assert_eq!(gc(&registry, &[])["blobs"], 0);
    let would = gc(&registry, &["--grace", "0s", "--dry-run"]);
    assert_eq!(would["blobs"], 3);
    registry.get(&format!("/v2/a/blobs/{orphan}")).has(200);
    let did = gc(&registry, &["--grace", "0s"]);
    // The orphan, the layer and the manifest.
    assert_eq!((&did["blobs"], &did["files"]), (&json!(3), &json!(3)));
    registry.get(&format!("/v2/a/blobs/{orphan}")).has(404);
    assert_eq!(files(&registry.data.join("blobs/sha256")), 3);
    let kept = Digest::sha256(b"kept");
    registry.get("/v2/a/manifests/keep").has(200);
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{kept}")).has(200).body,
        b"kept"
    );
    // Manifests without a tag only when asked for.
    registry
        .ask("DELETE", "/v2/a/manifests/keep", &[], b"")
        .has(202);
    assert_eq!(gc(&registry, &["--grace", "0s"])["blobs"], 0);
    let last = gc(&registry, &["--grace", "0s", "--untagged"]);
    assert_eq!((&last["manifests"], &last["files"]), (&json!(1), &json!(3)));
    assert_eq!(files(&registry.data.join("blobs/sha256")), 0);
}

#[test]
fn gc_beside_pushes_breaks_none() {
    let root = TempRoot::new("serve-gc-traffic");
    let _leaks = LeakCheck::new(&root);
    let registry = Arc::new(OurRegistry::start(&root, &[]));
    let pushing: Vec<_> = (0..3)
        .map(|worker| {
            let registry = registry.clone();
            std::thread::spawn(move || {
                for turn in 0..15 {
                    let layer = format!("layer {worker} {turn}");
                    let digest = push(&registry, "a", &format!("t{worker}"), layer.as_bytes());
                    if turn % 3 == 0 {
                        registry
                            .ask("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b"")
                            .has(202);
                    }
                }
            })
        })
        .collect();
    while pushing.iter().any(|p| !p.is_finished()) {
        gc(&registry, &["--grace", "2s", "--untagged"]);
    }
    pushing
        .into_iter()
        .for_each(|p| p.join().expect("every push was taken"));
    for worker in 0..3 {
        let manifest = registry
            .get(&format!("/v2/a/manifests/t{worker}"))
            .has(200)
            .json();
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        registry.get(&format!("/v2/a/blobs/{layer}")).has(200);
    }
}

/// Everything that the registry shows is whole: each tag's manifest, each blob of it, byte for byte.
fn all_is_whole(registry: &OurRegistry) -> Vec<String> {
    let reply = registry.get("/v2/a/tags/list");
    if reply.status == 404 {
        return vec![];
    }
    let tags: Vec<String> = serde_json::from_value(reply.json()["tags"].clone()).unwrap();
    for tag in &tags {
        let manifest = registry.get(&format!("/v2/a/manifests/{tag}")).has(200);
        let digest = Digest::sha256(&manifest.body).to_string();
        assert_eq!(
            manifest.header("docker-content-digest"),
            Some(digest.as_str())
        );
        let layer = manifest.json()["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .to_string();
        let blob = registry.get(&format!("/v2/a/blobs/{layer}")).has(200);
        assert_eq!(Digest::sha256(&blob.body).to_string(), layer);
    }
    tags
}

#[test]
fn sigkill_loses_nothing_that_was_acknowledged() {
    let root = TempRoot::new("serve-kill");
    let _leaks = LeakCheck::new(&root);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..8u64 {
        let registry = Arc::new(std::sync::Mutex::new(OurRegistry::start(&root, &[])));
        let address = registry.lock().unwrap().address.clone();
        // Killed at a moment that moves through the push.
        let killer = {
            let registry = registry.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30 + 37 * round));
                registry.lock().unwrap().kill();
            })
        };
        for turn in 0..1000 {
            let tag = format!("r{round}-{turn}");
            if try_push(&address, &tag).is_none() {
                break;
            }
            acknowledged.push(tag);
        }
        killer.join().unwrap();
        drop(registry);
        let after = OurRegistry::start(&root, &[]);
        let tags = all_is_whole(&after);
        for tag in &acknowledged {
            assert!(tags.contains(tag), "{tag} was acknowledged and is lost");
        }
        // An index on its way to its name is there for a moment.
        let until = Instant::now() + Duration::from_secs(60);
        while files(&after.data.join("tmp")) > 0 {
            assert!(Instant::now() < until, "something stays in tmp/");
            std::thread::sleep(Duration::from_millis(5));
        }
        // What is left over is no harm, and gc takes it.
        gc(&after, &["--grace", "0s"]);
        assert_eq!(all_is_whole(&after), tags);
    }
    assert!(!acknowledged.is_empty(), "no push came to its end");
}

/// A push of a layer of 100 KB that may break anywhere; `Some` when it was acknowledged.
fn try_push(address: &str, tag: &str) -> Option<()> {
    let layer = tag.as_bytes().repeat(100_000 / tag.len());
    let ask = |method: &str, path: &str, kind: &str, body: &[u8]| -> Option<u16> {
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut first = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut first).ok()?;
        std::str::from_utf8(&first[9..]).ok()?.parse().ok()
    };
    let digest = Digest::sha256(&layer);
    let config = Digest::sha256(b"{}");
    for (digest, content) in [(&digest, &layer[..]), (&config, b"{}")] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        ask("POST", &path, "application/octet-stream", content).filter(|s| *s == 201)?;
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len()}],
    });
    let path = format!("/v2/a/manifests/{tag}");
    ask("PUT", &path, MANIFEST, manifest.to_string().as_bytes())
        .filter(|s| *s == 201)
        .map(drop)
}

#[test]
fn an_upload_goes_on_after_sigkill() {
    let root = TempRoot::new("serve-kill-upload");
    let _leaks = LeakCheck::new(&root);
    let mut registry = OurRegistry::start(&root, &[]);
    let upload = registry.begin("a");
    registry
        .ask("PATCH", &upload, &[("Content-Range", "0-4")], b"abcde")
        .has(202);
    // In the middle of the next chunk.
    let mut stream = registry.connect();
    stream
        .write_all(
            format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfg")
                .as_bytes(),
        )
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    registry.kill();
    let registry = OurRegistry::start(&root, &[]);
    let status = registry.get(&upload).has(204);
    let end: usize = status
        .header("range")
        .unwrap()
        .split_once('-')
        .unwrap()
        .1
        .parse()
        .unwrap();
    assert!((4..=6).contains(&end), "{end}");
    let (content, digest) = (b"abcdefghij", Digest::sha256(b"abcdefghij"));
    registry.get(&format!("/v2/a/blobs/{digest}")).has(404);
    let range = format!("{}-9", end + 1);
    let path = format!("{upload}?digest={digest}");
    registry
        .ask(
            "PUT",
            &path,
            &[("Content-Range", &range)],
            &content[end + 1..],
        )
        .has(201);
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{digest}")).has(200).body,
        content
    );
}

#[test]
fn sigkill_in_the_middle_of_gc_takes_nothing_that_is_needed() {
    let root = TempRoot::new("serve-kill-gc");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    for turn in 0..20 {
        push(
            &registry,
            "a",
            &format!("t{turn}"),
            format!("layer {turn}").as_bytes(),
        );
        registry.blob("a", format!("orphan {turn}").as_bytes());
    }
    let tags = all_is_whole(&registry);
    for delay in 0..6 {
        let mut child = std::process::Command::new(common::binary())
            .args(["registry", "gc", "--grace", "0s", "--data"])
            .arg(&registry.data)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay * 3));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(all_is_whole(&registry), tags);
    }
    gc(&registry, &["--grace", "0s"]);
    assert_eq!(all_is_whole(&registry), tags);
    assert_eq!(files(&registry.data.join("blobs/sha256")), 20 * 2 + 1);
}

#[test]
fn an_end_that_is_asked_for_waits_for_requests() {
    let root = TempRoot::new("serve-end");
    let _leaks = LeakCheck::new(&root);
    let mut registry = OurRegistry::start(&root, &[]);
    let upload = registry.begin("a");
    let digest = Digest::sha256(b"abcdef");
    let mut stream = registry.connect();
    let head =
        format!("PUT {upload}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let rest = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"def").unwrap();
        Reply::read(&mut stream).status
    });
    assert_eq!(registry.end(), Some(0));
    assert_eq!(rest.join().unwrap(), 201);
}

#[test]
fn the_data_may_be_in_the_directory_that_we_are_in() {
    let root = TempRoot::new("serve-relative");
    let _leaks = LeakCheck::new(&root);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    common::Run::new(["registry", "serve", "--data", "data", "--listen", &port])
        .current_dir(root.path())
        .go()
        .fails(1, &["cannot listen on", "--listen"]);
    assert!(root.join("data/repositories").is_dir());
}
