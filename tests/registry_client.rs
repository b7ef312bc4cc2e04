//! The registry client against small servers on the loopback that break off, lie and redirect.
//!
//! What it does: each test has a registry of its own, a closure from a request to an answer. Bad
//! answers must be refused, and nothing of them may stay.

mod common;

use common::web::{Answer, INDEX, Image, MANIFEST, Request, Server, honest, image, plain, tar};
use common::{LeakCheck, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::sync::Mutex;

/// Pulls, which must fail with these words, and leave nothing.
fn refused(
    name: &str,
    words: &str,
    more: &[&str],
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) {
    let root = TempRoot::new(name);
    let _leaks = LeakCheck::new(&root);
    let address = Server::new(answer).address;
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

#[test]
fn a_transfer_that_breaks_off_goes_on_by_range() {
    for ranges in [true, false] {
        let root = TempRoot::new("pull-resume");
        let _leaks = LeakCheck::new(&root);
        let big = image(tar(&[("big", &[7u8; 300_000])]), "");
        let served = big.clone();
        let cuts = Mutex::new(0);
        let server = Server::new(move |request| {
            let mut answer = honest(&served, request);
            let layer = &served.layers[0];
            if !request.is("GET", &Digest::sha256(layer).to_string()) {
                return answer;
            }
            if let Some(from) = request.from().filter(|_| ranges) {
                let all = layer.len();
                answer = Answer {
                    status: 206,
                    ..Answer::ok("application/octet-stream", &layer[from..])
                };
                answer = answer.with("Content-Range", &format!("bytes {from}-{}/{all}", all - 1));
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
        let address = &server.address;
        run_in(&root, ["pull", &format!("{address}/x")]).success();
        let digest = Digest::sha256(&big.layers[0]);
        let blob = root.join(format!("oci/blobs/sha256/{}", digest.hex()));
        assert_eq!(std::fs::read(blob).unwrap(), big.layers[0]);
        let asked = server.seen().iter().filter(|r| r.from().is_some()).count();
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
    let address = Server::new(move |r| honest(&served, r)).address;
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
    let lie = |change: fn(&Image, &Request, Answer) -> Answer| {
        let image = plain();
        move |request: &Request| change(&image, request, honest(&image, request))
    };
    refused(
        "lie-digest",
        "its digest is",
        &[],
        lie(|image, request, mut answer| {
            if request
                .path
                .contains(&Digest::sha256(&image.layers[0]).to_string())
            {
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
            match request
                .path
                .contains(&Digest::sha256(&image.layers[0]).to_string())
            {
                true => Answer::ok("x", &[&image.layers[0][..], b"more"].concat()),
                false => answer,
            }
        }),
    );
    refused(
        "lie-config",
        "is not what its descriptor says",
        &[],
        lie(|image, request, mut answer| {
            if request
                .path
                .contains(&Digest::sha256(&image.config).to_string())
            {
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
            |image, request, answer| match request.path.contains("/manifests/") {
                true => Answer::ok(INDEX, &image.manifest),
                false => answer,
            },
        ),
    );
    refused(
        "cut",
        "cannot take the layer",
        &[],
        lie(|image, request, mut answer| {
            if request
                .path
                .contains(&Digest::sha256(&image.layers[0]).to_string())
            {
                answer.cut = 0;
            }
            answer
        }),
    );
    refused("oversized-manifest", "is longer than", &[], |_| {
        Answer::ok(MANIFEST, &vec![b' '; (4 << 20) + 1])
    });
}

#[test]
fn redirects_in_a_circle_and_hostile_layers_are_refused() {
    refused(
        "redirects",
        "was redirected more than 10 times",
        &[],
        |request| Answer::status(307, &[("Location", &request.path)]),
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
    let other = Server::new(move |r| honest(&elsewhere, r));
    let there = other.address.clone();
    let server = Server::new(move |request| {
        if request.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Answer::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]);
        }
        match request.path.contains("/blobs/") {
            true => Answer::status(
                307,
                &[("Location", &format!("http://{there}{}", request.path))],
            ),
            false => honest(&image, request),
        }
    });
    let address = &server.address;
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
    env(&["login", "-u", "me", "--password-stdin", address], "wrong").fails(125, &["401"]);
    assert!(
        !config.join("config.json").exists(),
        "a wrong password was kept"
    );
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.json"), r#"{"unknown":{"x":1}}"#).unwrap();
    env(
        &["login", "-u", "me", "--password-stdin", address],
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
    let there = other.seen();
    assert!(!there.is_empty());
    assert!(
        there.iter().all(|r| r.header("authorization").is_none()),
        "the password went to another server"
    );
    assert!(server.seen().len() > 3);
    env(&["logout", address], "")
        .success()
        .out_has("Removing login credentials");
    env(&["pull", &name], "").fails(125, &["401"]);
}
