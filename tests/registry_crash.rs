//! SIGKILL to a pull or a push at any moment: the store stays right, nothing is visible that is not
//! whole, and the next one goes on where that one was.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! Read next: `src/images/staging.rs`, `src/images/receive.rs`; `crash.rs` (the same for containers).

mod common;

use common::memory::Memory;
use common::web::{Answer, Image, MANIFEST, Server, honest, layered, tar};
use common::{LeakCheck, Output, Run, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MOMENTS: u32 = 16;

/// An image of three layers, each of many files and one large one.
fn image() -> Image {
    let large: Vec<u8> = (0..200_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let tars: Vec<Vec<u8>> = (0..3)
        .map(|layer| {
            let names: Vec<String> = (0..100).map(|i| format!("d{layer}/f{i}")).collect();
            let mut files: Vec<(&str, &[u8])> = names.iter().map(|n| (&n[..], &b"x"[..])).collect();
            let large_name = format!("large{layer}");
            files.push((&large_name, &large));
            tar(&files)
        })
        .collect();
    let typ = "application/vnd.oci.image.layer.v1.tar";
    let layers: Vec<(&str, Vec<u8>, String)> = tars
        .into_iter()
        .map(|tar| (typ, tar.clone(), Digest::sha256(&tar).to_string()))
        .collect();
    layered(&layers, "")
}

fn spawn(root: &TempRoot, args: &[&str]) -> Child {
    let run = Run::new(args).env("GLASSBOX_ROOT", root.path());
    let mut command = run.command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().expect("it starts")
}

/// Runs it and kills it after so long. Whether it had ended by itself.
fn killed_after(root: &TempRoot, pause: Duration, args: &[&str]) -> bool {
    let mut child = spawn(root, args);
    std::thread::sleep(pause);
    let ended = child.try_wait().expect("our child").is_some();
    child.kill().expect("kill");
    child.wait().expect("wait");
    ended
}

/// How long it takes when nobody kills it.
fn time(root: &TempRoot, args: &[&str]) -> Duration {
    let began = Instant::now();
    run_in(root, args).success();
    began.elapsed()
}

/// What `fsck` finds besides blobs that no image needs, which a kill may leave and prune removes.
fn problems(root: &TempRoot) -> Vec<String> {
    let found = run_in(root, ["image", "fsck", "--json"]).json();
    let all = found.as_array().expect("a list").iter();
    all.filter(|p| p["kind"] != "unused")
        .map(ToString::to_string)
        .collect()
}

/// The directories of tmp/ that a transfer writes to.
fn stages(root: &TempRoot) -> Vec<PathBuf> {
    let all = std::fs::read_dir(root.join("tmp")).into_iter().flatten();
    all.flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().contains("/stage-"))
        .collect()
}

fn ids(root: &TempRoot) -> String {
    let out: Output = run_in(root, ["image", "ls", "-q", "--no-trunc"]).success();
    out.stdout.trim().to_string()
}

#[test]
fn a_pull_is_killed_at_any_moment() {
    let root = TempRoot::new("pull-killed");
    let _leaks = LeakCheck::new(&root);
    let image = image();
    let id = Digest::sha256(&image.config).to_string();
    let served = image.clone();
    let server = Server::new(move |request| honest(&served, request));
    let name = server.name("x:1");
    let pull = ["pull", &name[..]];
    let whole = time(&root, &pull);
    let forget = || {
        run_in(&root, ["image", "rm", &name]).success();
        run_in(&root, ["image", "prune", "-a", "-f"]).success();
    };
    forget();
    let mut interrupted = 0;
    for moment in 0..MOMENTS {
        let pause = whole * moment / (MOMENTS - 3);
        interrupted += u32::from(!killed_after(&root, pause, &pull));
        // First what can be seen without a command that cleans up.
        let seen = ids(&root);
        assert!(seen.is_empty() || seen == id, "after {pause:?}: {seen}");
        if moment % 2 == 0 {
            assert_eq!(problems(&root), [""; 0], "after {pause:?}");
        }
        run_in(&root, pull).success();
        assert_eq!(ids(&root), id);
        if moment % 2 == 1 {
            let out = run_in(&root, ["image", "fsck"]);
            assert_eq!(out.code(), 0, "after {pause:?}: {out}");
        }
        assert_eq!(stages(&root), Vec::<PathBuf>::new(), "after {pause:?}");
        forget();
    }
    assert!(
        interrupted > 0, // the moment 0 at least comes before any end
        "none was interrupted"
    );
    let blobs = std::fs::read_dir(root.join("oci/blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 0);
}

#[test]
fn the_next_pull_goes_on_where_one_was_killed() {
    let root = TempRoot::new("pull-goes-on");
    let _leaks = LeakCheck::new(&root);
    let image = image();
    let served = image.clone();
    let stalls = std::sync::Arc::new(AtomicBool::new(true));
    let stalling = stalls.clone();
    let last = Digest::sha256(&image.layers[2]).to_string();
    let slow = last.clone();
    let server = Server::new(move |request| {
        let mut answer = honest(&served, request);
        if !request.path.contains(&slow) {
            return answer;
        }
        let layer = &served.layers[2];
        if let Some(from) = request.from() {
            let all = layer.len();
            answer = Answer {
                status: 206,
                ..Answer::ok("application/octet-stream", &layer[from..])
            };
            return answer.with("Content-Range", &format!("bytes {from}-{}/{all}", all - 1));
        }
        if stalling.load(Ordering::SeqCst) {
            answer.stall = Duration::from_secs(15); // after one half
        }
        answer
    });
    let name = server.name("x:1");
    // Two layers are whole and of the third there is a half: then it is killed.
    let half = image.layers[2].len() as u64 / 2;
    let interrupt = || {
        let mut child = spawn(&root, &["pull", &name]);
        let until = Instant::now() + Duration::from_secs(20);
        let hex = |i: usize| Digest::sha256(&image.layers[i]).hex().to_string();
        loop {
            let stage = stages(&root).pop().unwrap_or_default();
            let part = stage.join(format!("receiving-{}", hex(2)));
            let whole = |i| stage.join("blobs").join(hex(i)).exists();
            if whole(0) && whole(1) && part.metadata().is_ok_and(|m| m.len() == half) {
                break;
            }
            assert!(Instant::now() < until, "the pull does not come so far");
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
    };
    interrupt();
    let before = server.seen().len();
    let said = run_in(&root, ["pull", "--explain", &name]).success();
    said.err_has("a pull that was killed had received them");
    let seen = server.seen().split_off(before);
    for layer in &image.layers[..2] {
        let digest = Digest::sha256(layer).to_string();
        let again = seen.iter().any(|r| r.path.contains(&digest));
        assert!(!again, "the layer {digest} was asked for again");
    }
    let asked: Vec<Option<usize>> = seen
        .iter()
        .filter(|r| r.path.contains(&last))
        .map(|r| r.from())
        .collect();
    assert_eq!(asked, [Some(half as usize)]);
    run_in(&root, ["image", "fsck"]).success();

    // What it had is spoiled, as a power cut can do it: all of it comes again.
    run_in(&root, ["image", "rm", &name]).success();
    run_in(&root, ["image", "prune", "-a", "-f"]).success();
    interrupt();
    let stage = stages(&root).pop().expect("it is there");
    for directory in [stage.join("blobs"), stage] {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.metadata().unwrap().len() > 100_000 {
                std::fs::write(entry.path(), vec![0; half as usize]).unwrap();
            }
        }
    }
    stalls.store(false, Ordering::SeqCst);
    run_in(&root, ["pull", &name]).success();
    run_in(&root, ["image", "fsck"]).success();
    assert_eq!(stages(&root), Vec::<PathBuf>::new());
}

#[test]
fn a_push_is_killed_at_any_moment() {
    let root = TempRoot::new("push-killed");
    let _leaks = LeakCheck::new(&root);
    let image = image();
    let source = Memory::new();
    let blobs = image.layers.iter().chain([&image.config]);
    blobs.for_each(|b| source.put_blob(b));
    source.put_manifest("x", "1", MANIFEST, &image.manifest);
    let from = source.name("x:1");
    run_in(&root, ["pull", &from]).success();
    let registry = Memory::new();
    let name = registry.name("y:2");
    run_in(&root, ["image", "tag", &from, &name]).success();
    let push = ["push", &name[..]];
    let whole = time(&root, &push);
    let mut interrupted = 0;
    for moment in 0..MOMENTS {
        *registry.content.lock().unwrap() = Default::default();
        let pause = whole * moment / (MOMENTS - 3);
        interrupted += u32::from(!killed_after(&root, pause, &push));
        // The manifest comes last: with it all is there.
        if registry.manifest("y", "2").is_some() {
            assert_eq!(registry.blobs(), 4, "after {pause:?}");
        }
        run_in(&root, push).success();
        assert_eq!(registry.manifest("y", "2").unwrap(), image.manifest);
        assert_eq!(registry.blobs(), 4, "after {pause:?}");
    }
    assert!(
        interrupted > 0, // the moment 0 at least comes before any end
        "none was interrupted"
    );
    let out = run_in(&root, ["image", "fsck"]);
    assert_eq!(out.code(), 0, "{out}");
}
