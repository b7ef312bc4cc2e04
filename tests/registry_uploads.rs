//! Our registry, asked by hand: how blobs come in.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: in one piece, in chunks, after a break, from another repository; and what is
//! refused. `distribution_musts.md` names the test of each MUST.
//!
//! Read next: `tests/common/our_registry.rs`, `tests/registry_server.rs`.

mod common;

use common::our_registry::{OurRegistry, Reply};
use common::{LeakCheck, TempRoot};
use glassbox::spec::digest::Digest;
use std::io::Write;
use std::time::{Duration, Instant};

#[test]
fn a_blob_comes_in_one_piece() {
    let root = TempRoot::new("serve-monolithic");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let (good, other) = (Digest::sha256(b"content"), Digest::sha256(b"other"));
    // POST, then PUT.
    let upload = registry.begin("a");
    let done = registry
        .ask("PUT", &format!("{upload}?digest={good}"), &[], b"content")
        .has(201);
    let place = done.header("location").expect("a location").to_string();
    assert_eq!(registry.get(&place).has(200).body, b"content");
    // The upload is no more.
    registry.get(&upload).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    // One POST.
    let path = format!("/v2/b/blobs/uploads/?digest={good}");
    let done = registry.ask(
        "POST",
        &path,
        &[("Content-Type", "application/octet-stream")],
        b"content",
    );
    let place = done
        .has(201)
        .header("location")
        .expect("a location")
        .to_string();
    assert_eq!(registry.get(&place).has(200).body, b"content");
    // A digest that is not the content's.
    let upload = registry.begin("a");
    registry
        .ask("PUT", &format!("{upload}?digest={other}"), &[], b"content")
        .refuses(400, "DIGEST_INVALID");
    registry
        .ask(
            "POST",
            &format!("/v2/a/blobs/uploads/?digest={other}"),
            &[],
            b"content",
        )
        .refuses(400, "DIGEST_INVALID");
    registry.get(&format!("/v2/a/blobs/{other}")).has(404);
    // None at all, or none that can be one.
    let upload = registry.begin("a");
    registry
        .ask("PUT", &upload, &[], b"content")
        .refuses(400, "DIGEST_INVALID");
    for bad in ["sha256:1", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"] {
        registry
            .ask("PUT", &format!("{upload}?digest={bad}"), &[], b"content")
            .refuses(400, "DIGEST_INVALID");
    }
    // Nothing of all that is left but the one upload.
    let left = std::fs::read_dir(registry.data.join("uploads"))
        .unwrap()
        .count();
    assert_eq!(left, 1);
}

#[test]
fn a_blob_comes_in_chunks_and_goes_on_after_a_break() {
    let root = TempRoot::new("serve-chunks");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let mut upload = registry.begin("a");
    // The first one is out of order.
    registry
        .ask("PATCH", &upload, &[("Content-Range", "5-9")], b"fghij")
        .refuses(416, "BLOB_UPLOAD_INVALID");
    let mut chunk = |range: &str, content: &[u8], status: u16, end: &str| {
        let reply = registry.ask("PATCH", &upload, &[("Content-Range", range)], content);
        let reply = reply.has(status).says("range", end);
        upload = reply.header("location").expect("a location").to_string();
    };
    chunk("0-4", b"abcde", 202, "0-4");
    chunk("0-4", b"abcde", 416, "0-4");
    chunk("6-9", b"ghij", 416, "0-4");
    for bad in ["x", "bytes 5-9", "5", "9-5", "-1-4"] {
        chunk(bad, b"fghij", 416, "0-4");
    }
    chunk("5-9", b"fghij", 202, "0-9");
    // A range that is not as long as what comes.
    registry
        .ask("PATCH", &upload, &[("Content-Range", "10-19")], b"kl")
        .refuses(400, "SIZE_INVALID");
    let status = registry.get(&upload).has(204).says("range", "0-9");
    assert_eq!(status.header("location"), Some(upload.as_str()));
    // Without a range it is a stream, which may have no length.
    let mut stream = registry.connect();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
        .write_all(b"2\r\nkl\r\n3\r\nmno\r\n0\r\n\r\n")
        .unwrap();
    Reply::read(&mut stream).has(202).says("range", "0-14");
    // A connection that breaks: what came is there.
    let mut stream = registry.connect();
    stream
        .write_all(
            format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\npqr")
                .as_bytes(),
        )
        .unwrap();
    drop(stream);
    let until = Instant::now() + Duration::from_secs(10);
    while registry.get(&upload).has(204).header("range") != Some("0-17") {
        assert!(Instant::now() < until, "what came before the break is lost");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The last chunk comes with the digest, in order.
    let digest = Digest::sha256(b"abcdefghijklmnopqrst");
    let end = format!("{upload}?digest={digest}");
    registry
        .ask("PUT", &end, &[("Content-Range", "17-19")], b"rst")
        .refuses(416, "BLOB_UPLOAD_INVALID")
        .says("range", "0-17");
    registry
        .ask("PUT", &end, &[("Content-Range", "18-19")], b"st")
        .has(201);
    assert_eq!(
        registry.get(&format!("/v2/a/blobs/{digest}")).has(200).body,
        b"abcdefghijklmnopqrst"
    );
}

#[test]
fn an_upload_is_one_repositorys_and_can_be_cancelled() {
    let root = TempRoot::new("serve-cancel");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let upload = registry.begin("a");
    let foreign = upload.replace("/v2/a/", "/v2/b/");
    registry.get(&foreign).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry
        .ask("PATCH", &foreign, &[], b"x")
        .refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry
        .ask("DELETE", &foreign, &[], b"")
        .refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry.ask("DELETE", &upload, &[], b"").has(204);
    registry.get(&upload).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    registry
        .ask("PATCH", &upload, &[], b"x")
        .refuses(404, "BLOB_UPLOAD_UNKNOWN");
    let digest = Digest::sha256(b"x");
    registry
        .ask("PUT", &format!("{upload}?digest={digest}"), &[], b"x")
        .refuses(404, "BLOB_UPLOAD_UNKNOWN");
    for odd in [
        "..",
        "%2e%2e%2f%2e%2e",
        "x",
        "00000000-0000-0000-0000-000000000000",
    ] {
        registry.get(&format!("/v2/a/blobs/uploads/{odd}")).has(404);
    }
    assert_eq!(
        std::fs::read_dir(registry.data.join("uploads"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    let root = TempRoot::new("serve-mount");
    let _leaks = LeakCheck::new(&root);
    let registry = OurRegistry::start(&root, &[]);
    let digest = registry.blob("from/here", b"content");
    let mount = |to: &str, query: &str| {
        registry.ask(
            "POST",
            &format!("/v2/{to}/blobs/uploads/?{query}"),
            &[],
            b"",
        )
    };
    let done = mount("to", &format!("mount={digest}&from=from/here")).has(201);
    let place = done.header("location").expect("a location").to_string();
    assert_eq!(registry.get(&place).has(200).body, b"content");
    mount("anyone", &format!("mount={digest}")).has(201);
    registry.get(&format!("/v2/anyone/blobs/{digest}")).has(200);
    // What is not there becomes an upload.
    let absent = Digest::sha256(b"absent");
    for query in [
        format!("mount={absent}&from=from/here"),
        format!("mount={digest}&from=nobody"),
        format!("mount={digest}&from=../../etc"),
        "mount=sha256:x&from=from/here".to_string(),
    ] {
        let reply = mount("elsewhere", &query).has(202);
        let upload = reply.header("location").expect("a location").to_string();
        registry
            .ask("PUT", &format!("{upload}?digest={digest}"), &[], b"content")
            .has(201);
        registry
            .ask("DELETE", &format!("/v2/elsewhere/blobs/{digest}"), &[], b"")
            .has(202);
    }
    // One file for all.
    let hex = digest.hex();
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(registry.data.join(path)).unwrap().ino()
    };
    let shared = inode(&format!("blobs/sha256/{hex}"));
    assert_eq!(
        inode(&format!("repositories/to/blobs/sha256/{hex}")),
        shared
    );
}
