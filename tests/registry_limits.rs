//! What our registry puts up with: silent clients, slow ones, too many of them, large manifests.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: a registry a test with small limits, asked by hand. Times are waited for, not
//! measured.
//!
//! Read next: `src/registry/server/limits.rs`.

mod common;

use common::our_registry::{OurRegistry, Reply};
use common::web::MANIFEST;
use common::{LeakCheck, TempRoot, run};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A limit that a busy machine keeps to where the test means to.
const SHORT: [&str; 2] = ["--idle-timeout", "3s"];

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends this much of a request.
fn begin(registry: &OurRegistry, text: &str) -> TcpStream {
    let mut stream = registry.connect();
    stream.write_all(text.as_bytes()).expect("it is sent");
    stream
}

/// A manifest with so many bytes.
fn manifest(size: usize) -> Vec<u8> {
    let head = r#"{"schemaVersion":2,"layers":[],"annotations":{"a":""#;
    let tail = r#""}}"#;
    let fill = "x".repeat(size - head.len() - tail.len());
    format!("{head}{fill}{tail}").into_bytes()
}

#[test]
fn who_sends_nothing_is_given_up() {
    let root = TempRoot::new("limits-silent");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &SHORT);
    let upload = registry.begin("a");
    let request = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\n"
        )
    };
    let mut nothing = begin(&registry, "");
    let mut half = begin(&registry, "GET /v2/ HTTP/1.1\r\nHo");
    let mut chunk = begin(&registry, &(request("PATCH", &upload) + "0123456789"));
    let mut put = begin(&registry, &(request("PUT", "/v2/a/manifests/1") + "{"));
    for (stream, what) in [(&mut chunk, "upload"), (&mut put, "manifest")] {
        let reply = Reply::read(stream).refuses(408, "SIZE_INVALID");
        let why = reply.json()["errors"][0]["message"].to_string();
        assert!(why.contains("nothing came for 3 seconds"), "{what}: {why}");
    }
    for stream in [&mut nothing, &mut half] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(
            !String::from_utf8_lossy(&rest).contains(" 200 "),
            "{rest:?}"
        );
    }
    wait_for("its lines", || {
        let log = registry.log();
        let lines = log
            .lines()
            .filter(|l| l.contains("error: nothing came for 3 seconds"));
        lines.count() == 2
    });
    // What had come of the upload is kept.
    let status = registry.get(&upload).has(204);
    assert_eq!(status.header("range"), Some("0-9"));
    wait_for("no other connection than the one that asks", || {
        registry.counter("connections ") == 1
    });
}

#[test]
fn who_reads_nothing_is_given_up() {
    let root = TempRoot::new("limits-slow");
    let _leaks = LeakCheck::new(&root);
    let digest = {
        let patient = OurRegistry::start(&root, &[]);
        patient.blob("a", &vec![7; 48 << 20])
    };
    let registry = OurRegistry::start(&root, &SHORT);
    let path = format!("/v2/a/blobs/{digest}");
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = begin(&registry, &head);
    wait_for("a line about it", || {
        registry
            .log()
            .contains("the connection is closed: the peer read nothing for 3 seconds")
    });
    wait_for("the request's own line", || {
        registry.log().contains(&format!("GET {path} 200 in=0"))
    });
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() < 48 << 20, "all {} bytes came", got.len());
    wait_for("no other connection than the one that asks", || {
        registry.counter("connections ") == 1
    });
}

#[test]
fn more_than_fit_wait_for_their_turn() {
    let root = TempRoot::new("limits-many");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &["--max-connections", "2"]);
    let idle = [begin(&registry, ""), begin(&registry, "")];
    wait_for("a line about it", || {
        registry.log().contains("all 2 connections are in use")
    });
    let mut third = begin(
        &registry,
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(!registry.log().contains("GET /v2/"), "{}", registry.log());
    drop(idle);
    Reply::read(&mut third).has(200);
}

#[test]
fn there_are_as_many_files_as_connections_need() {
    needs!("prlimit");
    let root = TempRoot::new("limits-files");
    let _leaks = LeakCheck::new(&root);
    let files = |registry: &OurRegistry| -> (u64, u64) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", registry.pid())).unwrap();
        let line = limits
            .lines()
            .find(|l| l.starts_with("Max open files"))
            .unwrap();
        let mut numbers = line.split_whitespace().filter_map(|w| w.parse().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    };
    let low = ["prlimit", "--nofile=64:512"];
    let few = OurRegistry::start_by(&root, "few", &low, &["--max-connections", "100"]);
    assert_eq!(files(&few), (428, 512));
    assert!(!few.log().contains("open files"), "{}", few.log());
    let many = OurRegistry::start_by(&root, "many", &low, &[]);
    assert_eq!(files(&many), (512, 512));
    let said = "128 connections at once, not 1000: the limit of open files (`ulimit -Hn`)";
    assert!(many.log().contains(said), "{}", many.log());
    many.get("/v2/").has(200);
}

#[test]
fn a_manifest_is_as_large_as_it_may_be() {
    let root = TempRoot::new("limits-manifest");
    let _leaks = LeakCheck::new(&root);
    let put = |registry: &OurRegistry, size: usize| {
        registry.manifest("a", "1", MANIFEST, &manifest(size))
    };
    let registry = OurRegistry::start(&root, &[]);
    put(&registry, 4 << 20).has(201);
    put(&registry, (4 << 20) + 1).refuses(413, "MANIFEST_INVALID");
    drop(registry);
    let large = OurRegistry::start(&root, &["--max-manifest", "6M"]);
    put(&large, 5 << 20).has(201);
    assert_eq!(
        large.get("/v2/a/manifests/1").has(200).body,
        manifest(5 << 20)
    );
    drop(large);
    let small = OurRegistry::start(&root, &["--max-manifest", "1k"]);
    put(&small, 1024).has(201);
    let refused = put(&small, 1025).refuses(413, "MANIFEST_INVALID");
    assert!(refused.json().to_string().contains("at most 1024 bytes"));
    let data = root.join("x").display().to_string();
    for wrong in [["--max-manifest", "much"], ["--idle-timeout", "long"]] {
        let serve = ["registry", "serve", "--data", &data];
        run([&serve[..], &wrong].concat()).fails(125, &[wrong[1]]);
    }
}

#[test]
fn a_long_list_comes_in_pages_whoever_asks() {
    let root = TempRoot::new("long-list");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let kind = "application/vnd.oci.image.index.v1+json";
    registry.manifest("a", "0000", kind, index).has(201);
    let tags = registry.data.join("repositories/a/_tags");
    for number in 1..2500 {
        std::fs::copy(tags.join("0000"), tags.join(format!("{number:04}"))).unwrap();
    }
    for query in ["", "?n=1000000"] {
        let page = registry.get(&format!("/v2/a/tags/list{query}")).has(200);
        let names = page.json()["tags"].as_array().unwrap().clone();
        assert_eq!((names.len(), &names[999]), (1000, &"0999".into()));
        let link = page.header("link").unwrap();
        assert_eq!(link, "</v2/a/tags/list?n=1000&last=0999>; rel=\"next\"");
    }
    let all = run(["registry", "tags", &format!("{}/a", registry.address)]).success();
    let expected: String = (0..2500).map(|n| format!("{n:04}\n")).collect();
    all.out_is(&expected);
}
