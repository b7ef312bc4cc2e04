//! The registry client against small servers on the loopback that break off, lie and redirect.
//!
//! What it does: each test has a registry of its own, a closure from a request to an answer. Bad
//! answers must be refused, and nothing of them may stay.

mod common;

use common::{LeakCheck, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A tar with these entries, each a path and its content.
fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // Written by hand: the crate refuses the paths that we need.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An image of one plain layer: manifest, configuration, layer.
#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn image(layer: Vec<u8>, more: &str) -> Image {
    let diff = Digest::sha256(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{diff}","size":{}}}]{more}}}"#,
        Digest::sha256(config.as_bytes()),
        config.len(),
        layer.len()
    );
    Image {
        manifest: manifest.into_bytes(),
        config: config.into_bytes(),
        layer,
    }
}

/// What a request's answer is: status, headers, body, and how many bytes of the body really go.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    cut: usize,
}

fn ok(typ: &str, body: &[u8]) -> Answer {
    Answer {
        status: 200,
        headers: format!("Content-Type: {typ}\r\nContent-Length: {}\r\n", body.len()),
        body: body.to_vec(),
        cut: usize::MAX,
    }
}

type Requests = Arc<Mutex<Vec<String>>>;

/// A server; every request that it saw, with its headers, lands in the list. Its thread ends with
/// the test's process.
fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Requests::default();
    let (log, answer) = (seen.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, log, answer) = (stream.unwrap(), log.clone(), answer.clone());
            std::thread::spawn(move || {
                let (mut request, mut byte) = (Vec::new(), [0u8]);
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    request.push(byte[0]);
                }
                let request = String::from_utf8_lossy(&request).to_string();
                if request.is_empty() {
                    return;
                }
                log.lock().unwrap().push(request.clone());
                let a = answer(&request);
                let head = format!(
                    "HTTP/1.1 {} X\r\nConnection: close\r\n{}\r\n",
                    a.status, a.headers
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&a.body[..a.cut.min(a.body.len())]);
            });
        }
    });
    (address, seen)
}

/// Serves an image as it is.
fn honest(image: &Image, request: &str) -> Answer {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (config, layer) = (Digest::sha256(&image.config), Digest::sha256(&image.layer));
    match path.rsplit('/').next().unwrap_or_default() {
        name if name == config.to_string() => ok("application/octet-stream", &image.config),
        name if name == layer.to_string() => ok("application/octet-stream", &image.layer),
        _ => ok(MANIFEST, &image.manifest),
    }
}

/// Pulls, which must fail with these words, and leave nothing.
fn refused(
    name: &str,
    words: &str,
    more: &[&str],
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) {
    let root = TempRoot::new(name);
    let _leaks = LeakCheck::new(&root);
    let (address, _) = serve(answer);
    let image = format!("{address}/x");
    let args = [&["pull", "--retries", "1", image.as_str()], more].concat();
    run_in(&root, args).fails(125, &[words]);
    let index = std::fs::read_to_string(root.join("oci/index.json")).unwrap();
    assert!(index.contains("\"manifests\":[]"), "{index}");
    for place in ["tmp", "layers", "oci/blobs/sha256"] {
        let left = std::fs::read_dir(root.join(place)).unwrap().count();
        assert_eq!(left, 0, "{place} is not empty");
    }
    assert!(
        !root.path().parent().unwrap().join("escaped").exists(),
        "a file came out of its root"
    );
}

fn plain() -> Image {
    image(tar(&[("greeting", b"hello\n")]), "")
}

#[test]
fn a_transfer_that_breaks_off_goes_on_by_range() {
    for ranges in [true, false] {
        let root = TempRoot::new("pull-resume");
        let _leaks = LeakCheck::new(&root);
        let big = image(tar(&[("big", &[7u8; 300_000])]), "");
        let served = big.clone();
        let cuts = Mutex::new(0);
        let (address, seen) = serve(move |request| {
            let mut answer = honest(&served, request);
            if !request.contains(&Digest::sha256(&served.layer).to_string()) {
                return answer;
            }
            let from = request.lines().find_map(|l| {
                l.strip_prefix("range: bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            });
            if let Some(from) = from.filter(|_| ranges) {
                let rest: Vec<u8> = served.layer[from..].to_vec();
                let all = served.layer.len();
                answer = Answer {
                    status: 206,
                    ..ok("application/octet-stream", &rest)
                };
                answer.headers += &format!("Content-Range: bytes {from}-{}/{all}\r\n", all - 1);
            }
            let mut cuts = cuts.lock().unwrap();
            *cuts += 1;
            answer.cut = if *cuts <= 2 {
                100_000 * *cuts
            } else {
                usize::MAX
            };
            answer
        });
        run_in(&root, ["pull", &format!("{address}/x")]).success();
        let digest = Digest::sha256(&big.layer);
        let blob = root.join(format!("oci/blobs/sha256/{}", digest.hex()));
        assert_eq!(std::fs::read(blob).unwrap(), big.layer);
        let asked = seen
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.contains("range: bytes="))
            .count();
        assert!(asked >= 1, "no range was asked for");
        run_in(&root, ["image", "fsck"]).success();
    }
}

#[test]
fn a_manifest_is_kept_byte_for_byte_and_a_large_one_passes() {
    let root = TempRoot::new("pull-large-manifest");
    let _leaks = LeakCheck::new(&root);
    let more = format!(
        r#","x-unknown":{{"a": [1,2]}},  "annotations":{{"pad":"{}"}}"#,
        "p".repeat(3_900_000)
    );
    let large = image(tar(&[("f", b"x")]), &more);
    let served = large.clone();
    let (address, _) = serve(move |r| honest(&served, r));
    run_in(&root, ["pull", &format!("{address}/x:1")])
        .success()
        .out_has("Downloaded newer image");
    let digest = Digest::sha256(&large.manifest);
    let kept = std::fs::read(root.join(format!("oci/blobs/sha256/{}", digest.hex()))).unwrap();
    assert_eq!(kept, large.manifest);
    run_in(&root, ["pull", &format!("{address}/x:1")])
        .success()
        .out_has("Image is up to date");
}

#[test]
fn a_wrong_digest_size_or_media_type_is_refused() {
    let lie = |change: fn(&Image, &str, Answer) -> Answer| {
        let image = plain();
        move |request: &str| change(&image, request, honest(&image, request))
    };
    refused(
        "lie-digest",
        "its digest is",
        &[],
        lie(|image, request, mut answer| {
            if request.contains(&Digest::sha256(&image.layer).to_string()) {
                answer.body = tar(&[("greeting", b"HELLO\n")]);
            }
            answer
        }),
    );
    refused(
        "lie-longer",
        "in place of",
        &[],
        lie(|image, request, answer| {
            match request.contains(&Digest::sha256(&image.layer).to_string()) {
                true => ok("x", &[&image.layer[..], b"more"].concat()),
                false => answer,
            }
        }),
    );
    refused(
        "lie-config",
        "is not what its descriptor says",
        &[],
        lie(|image, request, mut answer| {
            if request.contains(&Digest::sha256(&image.config).to_string()) {
                answer.body[20] ^= 1;
            }
            answer
        }),
    );
    refused(
        "lie-type",
        "the registry calls the manifest",
        &[],
        lie(
            |image, request, answer| match request.contains("/manifests/") {
                true => ok("application/vnd.oci.image.index.v1+json", &image.manifest),
                false => answer,
            },
        ),
    );
    refused(
        "cut",
        "cannot take the layer",
        &[],
        lie(|image, request, mut answer| {
            if request.contains(&Digest::sha256(&image.layer).to_string()) {
                answer.cut = 0;
            }
            answer
        }),
    );
    refused("oversized-manifest", "is longer than", &[], |_| {
        ok(MANIFEST, &vec![b' '; (4 << 20) + 1])
    });
}

#[test]
fn redirects_in_a_circle_and_hostile_layers_are_refused() {
    refused(
        "redirects",
        "was redirected more than 10 times",
        &[],
        |request| Answer {
            status: 307,
            headers: format!(
                "Location: {}\r\nContent-Length: 0\r\n",
                request.split(' ').nth(1).unwrap()
            ),
            body: vec![],
            cut: 0,
        },
    );
    let traversal = image(tar(&[("../../../../escaped", b"x")]), "");
    refused("traversal", "leads out of the layer", &[], move |r| {
        honest(&traversal, r)
    });
    let bomb = image(tar(&[("zeros", &[0; 3_000_000])]), "");
    refused(
        "bomb",
        "more than 1000000 bytes",
        &["--max-layer-size", "1000000"],
        move |r| honest(&bomb, r),
    );
}

#[test]
fn a_password_stays_with_its_registry() {
    let root = TempRoot::new("pull-auth");
    let _leaks = LeakCheck::new(&root);
    let image = plain();
    let elsewhere = image.clone();
    let (other, seen_there) = serve(move |r| honest(&elsewhere, r));
    let (address, seen) = serve(move |request| {
        if !request.contains("authorization: Basic bWU6c2VjcmV0") {
            return Answer {
                status: 401,
                headers: "WWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n".into(),
                body: vec![],
                cut: 0,
            };
        }
        match request.contains("/blobs/") {
            true => Answer {
                status: 307,
                headers: format!(
                    "Location: http://{other}{}\r\nContent-Length: 0\r\n",
                    request.split(' ').nth(1).unwrap()
                ),
                body: vec![],
                cut: 0,
            },
            false => honest(&image, request),
        }
    });
    let config = root.join("docker");
    let env = |args: &[&str], stdin: &str| {
        common::Run::new(args)
            .env("GLASSBOX_ROOT", root.path())
            .env("DOCKER_CONFIG", &config)
            .env("REGISTRY_AUTH_FILE", root.join("none"))
            .stdin(stdin)
            .go()
    };
    let name = format!("{address}/x");
    env(&["pull", &name], "").fails(125, &["401"]);
    env(
        &["login", "-u", "me", "--password-stdin", &address],
        "wrong",
    )
    .fails(125, &["401"]);
    assert!(
        !config.join("config.json").exists(),
        "a wrong password was kept"
    );
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.json"), r#"{"unknown":{"x":1}}"#).unwrap();
    env(
        &["login", "-u", "me", "--password-stdin", &address],
        "secret\n",
    )
    .success();
    let kept = std::fs::read_to_string(config.join("config.json")).unwrap();
    assert!(
        kept.contains("unknown") && kept.contains("bWU6c2VjcmV0"),
        "{kept}"
    );
    let out = env(&["pull", "--explain", &name], "").success();
    out.err_has("> authorization: Basic (hidden)");
    assert!(!seen_there.lock().unwrap().is_empty());
    let leaked = seen_there
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.to_lowercase().contains("authorization"));
    assert!(!leaked, "the password went to another server");
    assert!(seen.lock().unwrap().len() > 3);
    env(&["logout", &address], "")
        .success()
        .out_has("Removing login credentials");
    env(&["pull", &name], "").fails(125, &["401"]);
}
