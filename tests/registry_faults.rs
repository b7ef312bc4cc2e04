//! Registries that falter: uploads that stop in the middle, answers that come late or ask for
//! patience; and what is in the specification but not in every registry.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! Read next: `tests/common/memory.rs`, `tests/registry_client.rs` (what comes here).

mod common;

use common::memory::Memory;
use common::web::{self, Answer, INDEX, MANIFEST, Request, Server, descriptor, honest, plain, tar};
use common::{LeakCheck, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Imports an image of one large layer under a name of the registry.
fn large(root: &TempRoot, name: &str) -> Vec<u8> {
    let content: Vec<u8> = (0..400_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let layer = tar(&[("large", &content)]);
    let file = root.write("layer.tar", &layer);
    run_in(root, ["image", "import", &file.display().to_string(), name]).success();
    layer
}

#[test]
fn an_upload_that_stops_goes_on_where_the_registry_says() {
    let root = TempRoot::new("push-resume");
    let _leaks = LeakCheck::new(&root);
    let puts = AtomicUsize::new(0);
    // Twice a body of more than a megabyte stops after 300,000 bytes.
    let taken = move |request: &Request| match request.method.as_str() {
        "PUT" | "PATCH" if request.head.contains("octet-stream") => {
            let long = request
                .header("content-length")
                .is_some_and(|l| l.len() > 6);
            match long && puts.fetch_add(1, Ordering::SeqCst) < 2 {
                true => 300_000,
                false => usize::MAX,
            }
        }
        _ => usize::MAX,
    };
    let registry = Memory::with(taken, |_| None);
    let name = registry.name("x:1");
    let layer = large(&root, &name);
    let said = run_in(&root, ["push", "--explain", &name]).success();
    said.err_has("bytes of blob");
    said.err_has("they had arrived before the connection broke");
    let ranges: Vec<String> = registry
        .server
        .seen()
        .iter()
        .filter_map(|r| Some(r.header("content-range")?.to_string()))
        .collect();
    let last = layer.len() - 1;
    assert_eq!(ranges, [format!("300000-{last}"), format!("600000-{last}")]);
    let content = registry.content.lock().unwrap();
    assert_eq!(content.blobs[&Digest::sha256(&layer).to_string()], layer);
}

#[test]
fn an_upload_that_is_forgotten_begins_anew() {
    let root = TempRoot::new("push-again");
    let _leaks = LeakCheck::new(&root);
    let (puts, gone) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let taken = move |request: &Request| {
        let long = request
            .header("content-length")
            .is_some_and(|l| l.len() > 6);
        match request.method == "PUT" && long && puts.fetch_add(1, Ordering::SeqCst) == 0 {
            true => 300_000,
            false => usize::MAX,
        }
    };
    let first = move |request: &Request| {
        let about = request.is("GET", "/blobs/uploads/");
        (about && gone.fetch_add(1, Ordering::SeqCst) == 0).then(|| Answer::status(404, &[]))
    };
    let registry = Memory::with(taken, first);
    let name = registry.name("x:1");
    let layer = large(&root, &name);
    run_in(&root, ["push", &name]).success();
    let content = registry.content.lock().unwrap();
    assert_eq!(content.blobs[&Digest::sha256(&layer).to_string()], layer);
}

#[test]
fn what_is_asked_for_in_passing_is_waited_for() {
    let root = TempRoot::new("retry-after");
    let _leaks = LeakCheck::new(&root);
    let (image, count) = (plain(), AtomicUsize::new(0));
    let server = Server::new(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(429, &[("Retry-After", "1")]),
        1 => Answer::status(503, &[]),
        2 => Answer::hang_up(),
        _ => honest(&image, request),
    });
    let began = Instant::now();
    run_in(&root, ["pull", &server.name("x")]).success();
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After was not obeyed"
    );
    // A date is meant by the clock of the server that says it.
    let (image, count) = (plain(), AtomicUsize::new(0));
    let server = Server::new(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(503, &[("Retry-After", "Wed, 21 Oct 2015 07:28:02 GMT")])
            .with("Date", "Wed, 21 Oct 2015 07:28:00 GMT"),
        _ => honest(&image, request),
    });
    let began = Instant::now();
    run_in(&root, ["pull", &server.name("x")]).success();
    assert!(began.elapsed() >= Duration::from_secs(2), "too early");
    // Not for ever.
    let never = Server::new(|_| Answer::status(503, &[]));
    run_in(&root, ["pull", "--retries", "2", &never.name("x")]).fails(1, &["is answered with 503"]);
    assert_eq!(never.seen().len(), 3);
    let never = Server::new(|_| Answer::status(429, &[("Retry-After", "0")]));
    run_in(&root, ["pull", "--retries", "1", &never.name("x")])
        .fails(1, &["429", "fewer requests"]);
    // What is no failure in passing is not tried again.
    let never = Server::new(|_| Answer::status(403, &[]));
    run_in(&root, ["pull", &never.name("x")]).fails(1, &["403"]);
    assert_eq!(never.seen().len(), 1);
}

#[test]
fn a_peer_that_says_nothing_is_given_up() {
    let root = TempRoot::new("stall");
    let _leaks = LeakCheck::new(&root);
    for what in ["/manifests/", "/blobs/"] {
        let image = plain();
        let server = Server::new(move |request| {
            let mut answer = honest(&image, request);
            if request.path.contains(what) {
                answer.stall = Duration::from_secs(40);
            }
            answer
        });
        let began = Instant::now();
        let args = [
            "pull",
            "--timeout",
            "1",
            "--retries",
            "1",
            &server.name("x"),
        ];
        run_in(&root, args).fails(1, &["timeout"]);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn content_in_descriptors_and_layers_of_each_kind_are_taken() {
    let root = TempRoot::new("pull-kinds");
    let _leaks = LeakCheck::new(&root);
    let tars: Vec<Vec<u8>> = (0..4u8)
        .map(|i| tar(&[(&format!("f{i}"), &[i; 5000])]))
        .collect();
    let gzip = |bytes: &[u8]| {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut e, bytes).unwrap();
        e.finish().unwrap()
    };
    let id = |i: usize| Digest::sha256(&tars[i]).to_string();
    let image = web::layered(
        &[
            (
                "application/vnd.oci.image.layer.v1.tar",
                tars[0].clone(),
                id(0),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                gzip(&tars[1]),
                id(1),
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                zstd::encode_all(&tars[2][..], 3).unwrap(),
                id(2),
            ),
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                gzip(&tars[3]),
                id(3),
            ),
        ],
        "",
    );
    // The configuration and the first layer stand in the manifest itself.
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let inline =
        |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    manifest["config"]["data"] = inline(&image.config).into();
    manifest["layers"][0]["data"] = inline(&tars[0]).into();
    let manifest = manifest.to_string().into_bytes();
    let registry = Memory::new();
    image.layers[1..].iter().for_each(|l| registry.put_blob(l));
    registry.put_manifest("x", "1", MANIFEST, &manifest);
    let said = run_in(&root, ["pull", "--explain", &registry.name("x:1")]).success();
    said.err_has("its content stands in the descriptor");
    said.err_has("diff id");
    run_in(&root, ["image", "fsck"]).success();
    let seen = run_in(&root, ["image", "inspect", &registry.name("x:1")])
        .success()
        .json();
    let diffs: Vec<String> = (0..4).map(id).collect();
    assert_eq!(seen[0]["RootFS"]["Layers"], json!(diffs));

    // Content that is not what its digest says.
    let mut lie: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    lie["layers"][0]["data"] = inline(b"something else").into();
    registry.put_manifest("x", "2", MANIFEST, lie.to_string().as_bytes());
    let other = TempRoot::new("pull-data-lie");
    run_in(&other, ["pull", &registry.name("x:2")]).fails(1, &["cannot take the layer"]);
    run_in(&other, ["image", "ls", "-q"]).success().out_is("");
}

#[test]
fn lists_are_read_page_by_page_to_their_end() {
    let root = TempRoot::new("paging");
    let _leaks = LeakCheck::new(&root);
    let server = Server::new(|request| {
        let last = request
            .path
            .split("last=")
            .nth(1)
            .and_then(|l| l.split('&').next());
        let from: usize = last.map_or(0, |l| l.parse::<usize>().expect("a number") + 1);
        let names: Vec<String> = (from..(from + 4).min(10)).map(|n| n.to_string()).collect();
        let key = if request.path.contains("_catalog") {
            "repositories"
        } else {
            "tags"
        };
        let body = json!({ "name": "x", key: names }).to_string();
        let answer = Answer::ok("application/json", body.as_bytes());
        match from + 4 < 10 {
            // Once relative, once absolute.
            true if from == 0 => {
                answer.with("Link", &format!("<?last={}&n=4>; rel=\"next\"", from + 3))
            }
            true => {
                let path = request.path.split('?').next().unwrap();
                answer.with("Link", &format!("<{path}?n=4&last={}>; rel=next", from + 3))
            }
            false => answer,
        }
    });
    let all = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9";
    run_in(&root, ["registry", "tags", &server.name("x")])
        .success()
        .out_is(all);
    run_in(&root, ["registry", "catalog", "-q", &server.address])
        .success()
        .out_is(all);
    let one = [
        "registry",
        "tags",
        "--format",
        "{{.Reference}}",
        &server.name("x"),
    ];
    run_in(&root, one)
        .success()
        .out_has(&format!("{}\n", server.name("x:9")));
    let json = run_in(&root, ["registry", "tags", "--json", &server.name("x")])
        .success()
        .json();
    assert_eq!(json.as_array().unwrap().len(), 10);
    // A list that leads to itself ends.
    let circle = Server::new(|request| {
        let body = br#"{"tags":["a"]}"#;
        Answer::ok("application/json", body).with("Link", &format!("<{}>; rel=next", request.path))
    });
    run_in(&root, ["registry", "tags", &circle.name("x")])
        .success()
        .out_is("a");
    // A registry that has no list says so; `null` is an empty one.
    let none = Server::new(|_| Answer::ok("application/json", br#"{"name":"x","tags":null}"#));
    run_in(&root, ["registry", "tags", &none.name("x")])
        .success()
        .out_is("");
}

/// An index of two platforms, a signature of the index and one of an image in it.
fn signed(registry: &Memory) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut images = Vec::new();
    for platform in ["amd64", "arm64"] {
        let image = web::image(tar(&[("platform", platform.as_bytes())]), "");
        image
            .layers
            .iter()
            .chain([&image.config])
            .for_each(|b| registry.put_blob(b));
        registry.put_manifest("x", platform, MANIFEST, &image.manifest);
        images.push(image.manifest);
    }
    let entry = |i: usize, platform: &str| {
        let more = format!(r#","platform":{{"os":"linux","architecture":"{platform}"}}"#);
        descriptor(MANIFEST, &images[i], &more)
    };
    let index = web::index(&[entry(0, "amd64"), entry(1, "arm64")]);
    registry.put_manifest("x", "1", INDEX, &index);
    let mut signatures = Vec::new();
    registry.put_blob(b"{}");
    for (typ, subject) in [(INDEX, &index), (MANIFEST, &images[0])] {
        let about = descriptor(typ, subject, "");
        let signature = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/signature","config":{},"layers":[],"subject":{about}}}"#,
            descriptor("application/vnd.oci.empty.v1+json", b"{}", "")
        );
        registry.put_manifest("x", "unused", MANIFEST, signature.as_bytes());
        signatures.push(signature.into_bytes());
    }
    registry
        .content
        .lock()
        .unwrap()
        .manifests
        .remove("x unused");
    (index, signatures)
}

#[test]
fn a_copy_takes_all_platforms_and_what_points_at_them() {
    let root = TempRoot::new("copy-referrers");
    let _leaks = LeakCheck::new(&root);
    let (from, to) = (Memory::new(), Memory::new());
    let (index, signatures) = signed(&from);
    from.content.lock().unwrap().referrers = true;
    let copy = |more: &[&str], name: &str| {
        let (from, to) = (from.name("x:1"), to.name(name));
        run_in(
            &root,
            [&["registry", "copy", "--all"], more, &[&from, &to]].concat(),
        )
    };
    copy(&[], "plain:2")
        .success()
        .out_has(&format!("Digest: {}", Digest::sha256(&index)));
    assert_eq!(to.manifest("plain", "2").unwrap(), index);
    assert!(
        to.manifest("plain", &Digest::sha256(&signatures[0]).to_string())
            .is_none()
    );
    copy(&["--referrers"], "y:2").success();
    assert_eq!(to.manifest("y", "2").unwrap(), index);
    for signature in &signatures {
        let digest = Digest::sha256(signature).to_string();
        assert_eq!(&to.manifest("y", &digest).unwrap(), signature);
    }
    // The other registry keeps no account of what points where: the tag does.
    let tag = format!("sha256-{}", Digest::sha256(&index).hex());
    let list: serde_json::Value = serde_json::from_slice(&to.manifest("y", &tag).unwrap()).unwrap();
    assert_eq!(
        list["manifests"][0]["digest"],
        Digest::sha256(&signatures[0]).to_string()
    );
    assert_eq!(
        list["manifests"][0]["artifactType"],
        "application/signature"
    );
    // From there it is found again by the tag. Twice changes nothing.
    let third = Memory::new();
    for _ in 0..2 {
        let args = ["registry", "copy", "--all", "--referrers"];
        run_in(
            &root,
            [&args[..], &[&to.name("y:2"), &third.name("z:3")]].concat(),
        )
        .success();
    }
    let list = third.manifest("z", &tag).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
    // Nothing of it needed a store.
    assert!(!root.join("oci").exists());
}

#[test]
fn referrers_on_several_pages_are_all_taken() {
    let root = TempRoot::new("referrers-pages");
    let _leaks = LeakCheck::new(&root);
    let to = Memory::new();
    let pages = std::sync::OnceLock::<(String, Vec<String>)>::new();
    let pages = std::sync::Arc::new(pages);
    let known = pages.clone();
    let from = Memory::with(
        |_| usize::MAX,
        move |request| {
            let (subject, entries) = known.get()?;
            if !request.is("GET", &format!("/referrers/{subject}")) {
                return None;
            }
            let at = request.path.split("page=").nth(1);
            let at: usize = at.map_or(0, |n| n.parse().expect("a number"));
            let page = web::index(&entries[at * 2..(at * 2 + 2).min(entries.len())]);
            let answer = Answer::ok(INDEX, &page);
            let next = format!("</v2/x/referrers/{subject}?page={}>; rel=\"next\"", at + 1);
            Some(match at < 2 {
                true => answer.with("Link", &next),
                false => answer,
            })
        },
    );
    let image = plain();
    let blobs = image.layers.iter().chain([&image.config]);
    blobs.for_each(|b| from.put_blob(b));
    from.put_blob(b"{}");
    from.put_manifest("x", "1", MANIFEST, &image.manifest);
    let about = descriptor(MANIFEST, &image.manifest, "");
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}", "");
    let signatures: Vec<Vec<u8>> = (0..5)
        .map(|i| {
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/s{i}","config":{empty},"layers":[],"subject":{about}}}"#
            )
            .into_bytes()
        })
        .collect();
    for signature in &signatures {
        from.put_manifest("x", "unused", MANIFEST, signature);
    }
    let entries = signatures.iter().map(|s| descriptor(MANIFEST, s, ""));
    let subject = Digest::sha256(&image.manifest).to_string();
    pages.set((subject.clone(), entries.collect())).unwrap();
    let (source, target) = (from.name("x:1"), to.name("y:2"));
    run_in(&root, ["registry", "copy", "--referrers", &source, &target]).success();
    for signature in &signatures {
        let digest = Digest::sha256(signature).to_string();
        assert_eq!(&to.manifest("y", &digest).expect(&digest), signature);
    }
    let asked = from.server.count("GET", &format!("/referrers/{subject}"));
    assert_eq!(asked, 3);
    // And the list that stands in for the account which the other registry does not keep.
    let tag = subject.replace(':', "-");
    let list: serde_json::Value = serde_json::from_slice(&to.manifest("y", &tag).unwrap()).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 5);
}

/// The memory that a list of so many tags takes at its last page, in kB.
fn memory_of_tags(root: &TempRoot, tags: usize, args: &[&str]) -> u64 {
    const PAGE: usize = 1000;
    let pid = std::sync::Arc::new(AtomicUsize::new(0));
    let peak = std::sync::Arc::new(AtomicUsize::new(0));
    let (its, seen) = (pid.clone(), peak.clone());
    let server = Server::new(move |request| {
        let last = request.path.split("last=").nth(1);
        let from: usize = last.map_or(0, |l| l.parse::<usize>().expect("a number") + 1);
        let to = (from + PAGE).min(tags);
        if to == tags {
            let path = format!("/proc/{}/status", its.load(Ordering::SeqCst));
            let status = std::fs::read_to_string(path).expect("it runs");
            let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let peak = peak.expect("a line").trim().trim_end_matches(" kB");
            seen.store(peak.parse().expect("a number"), Ordering::SeqCst);
        }
        let names: Vec<String> = (from..to)
            .map(|n| format!("v1.2.{n:07}-alpine-slim"))
            .collect();
        let body = json!({ "name": "x", "tags": names }).to_string();
        let answer = Answer::ok("application/json", body.as_bytes());
        match to < tags {
            true => answer.with("Link", &format!("<?n=1000&last={}>; rel=next", to - 1)),
            false => answer,
        }
    });
    let name = server.name("x");
    let words = [&["registry", "tags"], args, &[&name]].concat();
    let run = common::Run::new(words).env("GLASSBOX_ROOT", root.path());
    let out = root.join("tags");
    let mut command = run.command();
    command.stdin(std::process::Stdio::null());
    command.stdout(std::fs::File::create(&out).expect("a file"));
    let mut child = command.spawn().expect("it starts");
    pid.store(child.id() as usize, Ordering::SeqCst);
    assert!(child.wait().expect("its end").success());
    let text = std::fs::read_to_string(out).expect("its output");
    let count = match args.contains(&"--json") {
        true => serde_json::from_str::<Vec<String>>(&text)
            .expect("JSON")
            .len(),
        false => text.lines().count(),
    };
    assert_eq!(count, tags);
    peak.load(Ordering::SeqCst) as u64
}

#[test]
fn a_list_of_tags_of_any_length_takes_the_memory_of_a_page() {
    let root = TempRoot::new("many-tags");
    let _leaks = LeakCheck::new(&root);
    for args in [&[][..], &["--json"], &["--format", "{{.Name}}"]] {
        let few = memory_of_tags(&root, 2000, args);
        let many = memory_of_tags(&root, 120_000, args);
        // The names that are not of the last page would take six megabytes in memory; the kernel's
        // count itself is up to a megabyte off.
        assert!(
            many < few + 3000,
            "{args:?}: {few} kB for 2,000 tags and {many} kB for 120,000"
        );
    }
}

#[test]
fn a_copy_of_one_platform_goes_by_manifest() {
    let root = TempRoot::new("copy-one");
    let _leaks = LeakCheck::new(&root);
    let (from, to) = (Memory::new(), Memory::new());
    signed(&from);
    let (source, target) = (from.name("x:1"), to.name("y:2"));
    run_in(
        &root,
        [
            "registry",
            "copy",
            "--platform",
            "linux/arm64",
            &source,
            &target,
        ],
    )
    .success();
    assert_eq!(to.manifest("y", "2"), from.manifest("x", "arm64"));
    assert_eq!(to.blobs(), 2);
    // Again: everything is there.
    let said = run_in(
        &root,
        [
            "registry",
            "copy",
            "--platform",
            "linux/arm64",
            &source,
            &target,
        ],
    );
    said.success().out_has("Already exists");
}

#[test]
fn a_tag_is_removed_by_digest_where_tags_cannot_be_and_its_like_are_told() {
    let root = TempRoot::new("registry-rm");
    let _leaks = LeakCheck::new(&root);
    let make = |by_tag: bool| {
        let registry = Memory::with(
            |_| usize::MAX,
            move |r| {
                let tag = r.is("DELETE", "/manifests/") && !r.path.contains("sha256:");
                (tag && !by_tag).then(|| Answer::status(400, &[]))
            },
        );
        for (tag, content) in [("1", "a"), ("2", "a"), ("3", "b")] {
            let image = web::image(tar(&[("f", content.as_bytes())]), "");
            registry.put_manifest("x", tag, MANIFEST, &image.manifest);
        }
        registry
    };
    let registry = make(true);
    run_in(&root, ["registry", "rm", &registry.name("x:1")])
        .success()
        .out_is(&format!("Deleted: {}", registry.name("x:1")));
    run_in(&root, ["registry", "rm", &registry.name("x:1")]).fails(1, &["MANIFEST_UNKNOWN"]);

    let registry = make(false);
    // Its like goes with it: only when that was said.
    run_in(&root, ["registry", "rm", &registry.name("x:1")]).fails(
        1,
        &["removes manifests only", "has other tags: 2", "--force"],
    );
    assert!(registry.manifest("x", "1").is_some());
    let said = run_in(&root, ["registry", "rm", &registry.name("x:3")]).success();
    said.out_has(&format!("Untagged: {}\nDeleted: ", registry.name("x:3")));
    assert!(registry.manifest("x", "3").is_none());
    let said = run_in(&root, ["registry", "rm", "--force", &registry.name("x:1")]).success();
    said.out_has(&format!("Untagged: {}", registry.name("x:2")));
    assert!(registry.manifest("x", "2").is_none());
    run_in(&root, ["registry", "rm", &registry.name("x:1")]).fails(1, &["there is no"]);
    // Where nothing can be removed at all, the registry's own word is passed on.
    let off = Memory::with(
        |_| usize::MAX,
        |r| (r.method == "DELETE").then(|| Answer::status(405, &[])),
    );
    off.put_manifest("x", "1", MANIFEST, &plain().manifest);
    run_in(&root, ["registry", "rm", &off.name("x:1")]).fails(1, &["405"]);
}
