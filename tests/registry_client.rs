//! The registry client against small servers on the loopback: what comes is whole, exact, and its
//! password goes nowhere else.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! Read next: `tests/registry_bad_input.rs` (what must be refused), `tests/registry_faults.rs`.

mod common;

use common::web::{Answer, Server, honest, image, plain, tar};
use common::{LeakCheck, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::sync::Mutex;

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
    env(&["pull", &name], "").fails(1, &["401"]);
    env(&["login", "-u", "me", "--password-stdin", address], "wrong").fails(1, &["401"]);
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
    env(&["pull", &name], "").fails(1, &["401"]);
}
