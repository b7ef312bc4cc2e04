//! `cp`, `diff`, `export`, `commit`: for containers that run and that do not, and for hostile ones.
//!
//! Read next: `volumes.rs`; `src/containers/files/mod.rs`.

mod common;

use common::{Host, Output, Run, TempRoot};
use std::os::unix::fs::MetadataExt;

fn read(path: impl AsRef<std::path::Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A container with some files; one that runs goes on until it is removed.
fn made(host: &Host, name: &str, script: &str, runs: bool) {
    let script = format!("{script}; touch /made");
    match runs {
        true => {
            let script = format!("{script}; exec sleep 1000");
            host.ok(&["run", "-d", "--name", name, "lab", "sh", "-c", &script]);
            let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while host.go(&["exec", name, "ls", "/made"]).code() != 0 {
                assert!(std::time::Instant::now() < end, "never made");
            }
        }
        false => drop(host.ok(&["run", "--name", name, "lab", "sh", "-c", &script])),
    }
}

const FILES: &str = "mkdir -p /d/sub; echo one > /d/f; chmod 640 /d/f; chown 12:34 /d/f; \
                     echo two > /d/sub/g; ln -s f /d/link; ln -s /d /dlink; ln /d/f /d/hard";

#[test]
fn out_of_a_container_by_dockers_rules() {
    needs!("root");
    let host = Host::new("cp-out");
    made(&host, "runs", FILES, true);
    made(&host, "ended", FILES, false);
    for name in ["runs", "ended"] {
        let out = TempRoot::new("cp-out-to");
        let to = |path: &str| out.join(path).display().to_string();
        let cp = |args: &[&str]| host.go(&[&["cp", "-q"], args].concat());
        let from = |path: &str| format!("{name}:{path}");
        // A file: to a new name, over a file, into a directory.
        cp(&[&from("/d/f"), &to("new")]).success();
        assert_eq!(read(out.join("new")), "one\n");
        let meta = out.join("new").metadata().expect("stat");
        assert_eq!(
            (meta.uid(), meta.mode() & 0o7777),
            (0, 0o640),
            "the caller's, with its mode"
        );
        out.write("old", "old");
        cp(&["-a", &from("d/f"), &to("old")]).success();
        assert_eq!(read(out.join("old")), "one\n");
        assert_eq!(
            out.join("old").metadata().expect("stat").uid(),
            12,
            "-a keeps owners"
        );
        std::fs::create_dir(out.join("dir")).expect("mkdir");
        cp(&[&from("/d/f"), &to("dir")]).success();
        assert_eq!(read(out.join("dir/f")), "one\n");
        // A directory: made, into one that is there, its content alone.
        cp(&[&from("/d"), &to("fresh")]).success();
        assert_eq!(read(out.join("fresh/sub/g")), "two\n");
        assert_eq!(
            std::fs::read_link(out.join("fresh/link")).expect("a link"),
            std::path::Path::new("f")
        );
        assert_eq!(out.join("fresh/hard").metadata().expect("stat").nlink(), 2);
        cp(&[&from("/d"), &to("dir")]).success();
        assert_eq!(read(out.join("dir/d/f")), "one\n");
        cp(&[&from("/d/."), &to("dir")]).success();
        assert_eq!(read(out.join("dir/sub/g")), "two\n");
        // A link is a link, unless it is to be followed.
        cp(&[&from("/dlink"), &to("l")]).success();
        assert_eq!(
            std::fs::read_link(out.join("l")).expect("a link"),
            std::path::Path::new("/d")
        );
        cp(&["-L", &from("/dlink"), &to("followed")]).success();
        assert_eq!(read(out.join("followed/f")), "one\n");
        // And what cannot be.
        let says = |out: Output, code: i32, what: &str| {
            assert!(
                out.code() == code && out.stderr.contains(what),
                "{what}: {out}"
            );
        };
        says(
            cp(&[&from("/nope"), &to("x")]),
            1,
            "could not find the file /nope in container",
        );
        says(cp(&[&from("/d/f/"), &to("x")]), 1, "ot a directory");
        says(cp(&[&from("/d"), &to("new")]), 1, "which is a file");
        says(
            cp(&[&from("/d/f"), &to("missing/")]),
            1,
            "no such directory",
        );
        says(
            cp(&[&from("/d/f"), &to("no/such/parent")]),
            1,
            "No such file",
        );
        says(cp(&[&from("/d"), "runs:/x"]), 1, "between containers");
        // As a tar.
        let tar = host.go(&["cp", &from("/d"), "-"]);
        let listing = Run::other("tar", ["tf", "-"])
            .stdin(tar.stdout.clone())
            .go()
            .stdout;
        let mut names: Vec<&str> = listing.lines().collect();
        names.sort();
        assert_eq!(
            names,
            ["d/", "d/f", "d/hard", "d/link", "d/sub/", "d/sub/g"]
        );
        host.ok(&["rm", "-f", name]);
    }
}

#[test]
fn into_a_container_and_through_no_link_out_of_it() {
    needs!("root");
    let host = Host::new("cp-in");
    let outside = TempRoot::new("cp-outside");
    outside.write("precious", "the host's");
    let hostile = format!(
        "mkdir -p /srv/x{0}; ln -s {0} /out; ln -s ../../../../../..{0} /up; ln -s {0}/precious /file",
        outside.path().display()
    );
    made(&host, "runs", &hostile, true);
    made(&host, "ended", &hostile, false);
    let source = TempRoot::new("cp-source");
    source.write("tree/a", "a");
    source.write("tree/b/c", "c");
    source.write("precious", "replaced");
    let from = |path: &str| source.join(path).display().to_string();
    for name in ["runs", "ended"] {
        let to = |path: &str| format!("{name}:{path}");
        let inside = |path: &str| {
            let out = TempRoot::new("cp-look");
            let file = out.join("f");
            host.ok(&["cp", "-q", "-L", &to(path), &file.display().to_string()]);
            read(file)
        };
        let out = host.go(&["cp", &from("tree"), &to("/srv")]);
        assert!(
            out.code() == 0 && out.stderr.starts_with("Successfully copied "),
            "{out}"
        );
        assert_eq!(inside("/srv/tree/b/c"), "c");
        host.ok(&["cp", "-q", &from("tree/."), &to("/made-new")]);
        assert_eq!(inside("/made-new/a"), "a");
        host.ok(&["cp", "-q", &from("tree/a"), &to("/srv/renamed")]);
        assert_eq!(inside("/srv/renamed"), "a");
        // What a container's links say is meant in the container.
        for path in ["/out", "/out/", "/up/precious", "/up", "/file"] {
            let out = host.go(&["cp", "-q", &from("precious"), &to(path)]);
            assert!(matches!(out.code(), 0 | 1), "{out}");
        }
        host.go(&["cp", "-q", &from("tree"), &to("/out/new")]);
        let tar = Run::other("tar", ["c", "-C", &from(""), "precious"]).go();
        Run::new(["cp", "-", &to("/up")])
            .env("GLASSBOX_ROOT", host.root.path())
            .stdin(tar.stdout)
            .go();
        assert_eq!(read(outside.join("precious")), "the host's", "{name}");
        assert_eq!(
            std::fs::read_dir(outside.path()).expect("a list").count(),
            1,
            "{name}"
        );
        // Nor does reading.
        let out = host.go(&["cp", "-q", "-L", &to("/file"), "-"]);
        assert!(!out.stdout.contains("the host's"), "{out}");
        // By a tar.
        let file = host.root.join("tree.tar.gz");
        Run::other(
            "tar",
            ["czf", &file.display().to_string(), "-C", &from(""), "tree"],
        )
        .go();
        let tar = std::fs::read(file).expect("an archive");
        let put = |path: &str| {
            let run = Run::new(["cp", "-", &to(path)]).env("GLASSBOX_ROOT", host.root.path());
            run.stdin(tar.clone()).go()
        };
        put("/srv").success();
        assert_eq!(inside("/srv/tree/a"), "a");
        assert!(put("/srv/renamed").stderr.contains("must be a directory"));
        // Directories and files do not take each other's place.
        let out = host.go(&["cp", "-q", &from("tree/a"), &to("/srv/tree/b/c/")]);
        assert_ne!(out.code(), 0, "{out}");
        std::fs::create_dir_all(source.join("clash/tree/a")).expect("mkdir");
        let out = host.go(&["cp", "-q", &from("clash/."), &to("/srv")]);
        assert!(
            out.code() == 1 && out.stderr.contains("cannot overwrite non-directory"),
            "{out}"
        );
        host.ok(&["rm", "-f", name]);
    }
}

#[test]
fn volumes_and_read_only_roots_are_seen() {
    needs!("root");
    let host = Host::new("cp-volumes");
    let file = host.root.write("file", "content");
    let file = file.display().to_string();
    host.ok(&[
        "create",
        "--name",
        "box",
        "-v",
        "vol:/v",
        "--read-only",
        "lab",
        "cat",
        "/v/file",
    ]);
    host.ok(&["cp", "-q", &file, "box:/v"]);
    assert!(
        host.fails(1, &["cp", "-q", &file, "box:/srv"])
            .contains("marked read-only")
    );
    assert_eq!(host.ok(&["start", "-a", "box"]), "content");
    assert_eq!(host.sh(&["-v", "vol:/x"], "cat /x/file"), "content");
}

#[test]
fn what_changed_and_nothing_that_the_engine_did() {
    needs!("root");
    let host = Host::new("diff");
    let script = "rm /etc/group; echo x >> /etc/passwd; mkdir /new; echo y > /new/file; \
                  mkdir /gone; rmdir /gone; rm -rf /root; mkdir /root; touch /root/mine";
    let expected =
        "C /etc\nD /etc/group\nC /etc/passwd\nA /made\nA /new\nA /new/file\nC /root\nA /root/mine";
    made(&host, "runs", script, true);
    made(&host, "ended", script, false);
    made(&host, "quiet", "true", false);
    for name in ["runs", "ended"] {
        let seen = host.ok(&["diff", name]);
        let seen: Vec<&str> = seen.lines().filter(|l| !l.ends_with("/tmp")).collect();
        assert_eq!(seen.join("\n"), expected, "{name}");
    }
    assert_eq!(host.ok(&["diff", "quiet"]), "A /made");
    let json = host.go(&["diff", "--json", "quiet"]).json();
    assert_eq!(json[0]["kind"], "A");
    host.ok(&["create", "--name", "never", "lab"]);
    assert_eq!(host.ok(&["diff", "never"]), "");
}

/// What is written with `-o` takes its name when it is whole, and a device is written to, never
/// replaced: as root, /dev/null is at stake.
#[test]
fn an_output_file_is_replaced_whole_or_not_at_all() {
    needs!("root");
    let host = Host::new("output");
    host.ok(&["create", "--name", "box", "lab"]);
    let node = host.root.join("null");
    let kind = nix::sys::stat::SFlag::S_IFCHR;
    let (mode, number) = (nix::sys::stat::Mode::S_IRWXU, nix::libc::makedev(1, 3));
    nix::sys::stat::mknod(&node, kind, mode, number).unwrap();
    let null = node.display().to_string();
    let tree = host.root.join("tree");
    std::fs::create_dir(&tree).unwrap();
    host.ok(&["export", "-o", &null, "box"]);
    host.ok(&["image", "save", "-o", &null, "lab"]);
    let tree = tree.display().to_string();
    Run::new(["layer", "create", "-o", &null, &tree])
        .go()
        .success();
    host.go(&["cp", "-L", "box:/bin/sh", &null])
        .fails(1, &["must be a directory or a regular file", "stdout"]);
    assert_eq!(std::fs::metadata(&node).unwrap().rdev(), number);

    let file = host.root.join("old.tar");
    let name = file.display().to_string();
    let layers = host.root.path().read_dir().unwrap().flatten();
    let layers: Vec<_> = layers.filter(|e| e.file_name() == "layers").collect();
    assert_eq!(layers.len(), 1, "where layers are");
    std::fs::write(&file, "old").unwrap();
    let away = host.root.join("away");
    std::fs::rename(layers[0].path(), &away).unwrap();
    host.go(&["export", "-o", &name, "box"])
        .fails(1, &["cannot export container box"]);
    std::fs::rename(&away, layers[0].path()).unwrap();
    assert_eq!(read(&file), "old");
    host.ok(&["export", "-o", &name, "box"]);
    assert!(std::fs::metadata(&file).unwrap().len() > 100_000);
    let parts = host.root.path().read_dir().unwrap().flatten();
    let parts = parts.filter(|e| e.file_name().to_string_lossy().contains(".part-"));
    assert_eq!(parts.count(), 0, "something is left behind");
    host.ok(&["rm", "box"]);
}

#[test]
fn an_export_is_the_root_without_what_is_mounted() {
    needs!("root");
    let host = Host::new("export");
    for runs in [true, false] {
        let script = "echo hello > /hello; echo volume > /vol/x; rm /etc/group";
        let words = ["-v", "data:/vol", "--name", "box", "lab", "sh", "-c"];
        let script = if runs {
            format!("{script}; touch /made; sleep 1000")
        } else {
            script.into()
        };
        let run: &[&str] = if runs { &["run", "-d"] } else { &["run"] };
        host.ok(&[run, &words, &[&script]].concat());
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while runs && host.go(&["exec", "box", "ls", "/made"]).code() != 0 {
            assert!(std::time::Instant::now() < end, "never made");
        }
        let file = host.root.join("root.tar").display().to_string();
        host.ok(&["export", "-o", &file, "box"]);
        let list = Run::other("tar", ["tf", &file]).go().stdout;
        let has = |name: &str| list.lines().any(|l| l == name);
        assert!(has("hello") && has("bin/sh") && has("vol/"), "{list}");
        assert!(
            !has("vol/x") && !has("etc/group") && !list.contains("proc/self"),
            "{list}"
        );
        host.ok(&["image", "import", &file, "flat:1"]);
        assert_eq!(
            host.ok(&["run", "--rm", "flat:1", "cat", "/hello"]),
            "hello"
        );
        host.ok(&["rm", "-f", "box"]);
    }
}

/// In a user namespace an ordinary user may mount the layers again.
#[test]
fn an_ordinary_user_reads_what_has_ended() {
    needs!("root", "setpriv");
    let root = common::TempRoot::for_user("reads-ended");
    let _leaks = common::LeakCheck::new(&root);
    let go = |args: &[&str]| {
        let run = Run::new(args).as_user().env("GLASSBOX_ROOT", root.path());
        run.go()
    };
    let file = |name: &str| root.join(name).display().to_string();
    let script = "echo hello > /hello; rm /etc/group; echo ready; cat";
    let out = go(&[
        "run", "-d", "-i", "--name", "box", "lab", "sh", "-c", script,
    ]);
    if out.stderr.contains("cannot create a user namespace") {
        return common::skip("needs userns: user namespaces are forbidden to ordinary users here");
    }
    assert_eq!(out.code(), 0, "{out}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while go(&["logs", "box"]).stdout != "ready\n" {
        assert!(std::time::Instant::now() < end, "never ready");
    }
    for runs in [true, false] {
        if !runs {
            let out = go(&["stop", "-t", "0", "box"]);
            assert_eq!(out.code(), 0, "{out}");
        }
        let (tar, copy) = (file(&format!("{runs}.tar")), file(&format!("{runs}")));
        let out = go(&["export", "-o", &tar, "box"]);
        assert_eq!(out.code(), 0, "runs: {runs}: {out}");
        let list = Run::other("tar", ["tvf", &tar]).go().stdout;
        let line = |name: &str| list.lines().find(|l| l.ends_with(&format!(" {name}")));
        let hello = line("hello").unwrap_or_else(|| panic!("{list}"));
        assert!(
            hello.contains(" 0/0 ") || hello.contains("root/root"),
            "{hello}"
        );
        assert!(
            line("etc/group").is_none() && line("etc/passwd").is_some(),
            "{list}"
        );
        let out = go(&["cp", "box:/hello", &copy]);
        assert_eq!(out.code(), 0, "runs: {runs}: {out}");
        assert_eq!(read(&copy), "hello\n");
    }
    let out = go(&["cp", &file("true"), "box:/etc/more"]);
    assert_eq!(out.code(), 0, "{out}");
    let out = go(&["diff", "box"]);
    assert!(out.stdout.lines().any(|l| l == "A /etc/more"), "{out}");
    let out = go(&["rm", "box"]);
    assert_eq!(out.code(), 0, "{out}");
}

#[test]
fn a_commit_is_an_image_of_what_was_written() {
    needs!("root");
    let host = Host::new("commit");
    for runs in [true, false] {
        let script = "echo mine > /mine; rm /etc/group; rm -rf /root; mkdir /root; echo r > /root/r; chown 5:6 /mine";
        made(&host, "box", script, runs);
        let id = host.ok(&[
            "commit",
            "-m",
            "a remark",
            "-a",
            "somebody",
            "-c",
            "CMD [\"cat\", \"/mine\"]",
            "-c",
            "ENV A=b",
            "-c",
            "LABEL x=y",
            "box",
            "mine:1",
        ]);
        assert!(id.starts_with("sha256:"), "{id}");
        assert_eq!(host.ok(&["run", "--rm", "mine:1"]), "mine");
        let look = "stat -c %u:%g /mine; ls /etc/group 2>/dev/null || echo gone; ls /root; echo $A";
        let seen = host.ok(&["run", "--rm", "mine:1", "sh", "-c", look]);
        assert_eq!(seen, "5:6\ngone\nr\nb");
        let history = host.go(&["image", "history", "--json", "mine:1"]).json();
        assert_eq!(history[0]["Comment"], "a remark");
        assert_eq!(history.as_array().expect("a list").len(), 2);
        let out = host.go(&["image", "fsck"]);
        assert_eq!(out.code(), 0, "{out}");
        if runs {
            assert_eq!(
                host.ok(&["inspect", "-f", "{{.State.Status}}", "box"]),
                "running"
            );
        }
        host.ok(&["rm", "-f", "box"]);
        host.ok(&["image", "rm", "mine:1"]);
    }
    made(&host, "box", "true", false);
    assert!(
        host.fails(1, &["commit", "-c", "FLY away", "box"])
            .contains("FLY")
    );
}

/// An ordinary user whom /etc/subuid gives ids has files of other ids in its containers.
#[test]
fn an_ordinary_user_removes_what_other_ids_made() {
    needs!("root", "setpriv", "unshare", "newuidmap", "newgidmap");
    const AS_USER: &str = r#"
        mount --bind "$1" /etc/subuid; mount --bind "$1" /etc/subgid; shift
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- "$@"
    "#;
    if !["/etc/subuid", "/etc/subgid"]
        .iter()
        .all(|f| std::path::Path::new(f).exists())
    {
        return common::skip("needs subuid: this host has no /etc/subuid and /etc/subgid");
    }
    let root = common::TempRoot::for_user("other-ids");
    let _leaks = common::LeakCheck::new(&root);
    let ids = root
        .write("ids", "nobody:300000:65536\n")
        .display()
        .to_string();
    let program = root.join("glassbox");
    std::fs::copy(common::binary(), &program).expect("our program where the user sees it");
    let go = |args: &[&str]| {
        let program = program.display().to_string();
        let words = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            AS_USER,
            "sh",
            &ids,
        ];
        Run::other("unshare", [&words[..], &[&program], args].concat())
            .env("GLASSBOX_ROOT", root.path())
            .env("HOME", "/nonexistent")
            .go()
    };
    let script = "mkdir -p /tmp/d/e; echo x > /tmp/d/e/f; chown -R 1000 /tmp/d; chmod 700 /tmp/d";
    let out = go(&["run", "--name", "box", "lab", "sh", "-c", script]);
    if out.stderr.contains("cannot create a user namespace") {
        return common::skip("needs userns: user namespaces are forbidden to ordinary users here");
    }
    assert_eq!(out.code(), 0, "{out}");
    let tar = root.join("box.tar").display().to_string();
    let out = go(&["export", "-o", &tar, "box"]);
    assert_eq!(out.code(), 0, "{out}");
    let list = Run::other("tar", ["--numeric-owner", "-tvf", &tar])
        .go()
        .stdout;
    let file = list.lines().find(|l| l.ends_with(" tmp/d/e/f"));
    assert!(file.is_some_and(|l| l.contains(" 1000/0 ")), "{list}");
    // In the image's layer it has the same owner.
    let out = go(&["commit", "box", "mine:1"]);
    assert_eq!(out.code(), 0, "{out}");
    let blobs = std::fs::read_dir(root.join("oci/blobs/sha256")).expect("the store's blobs");
    let owned = |blob: std::fs::DirEntry| {
        let path = blob.path().display().to_string();
        let list = Run::other("tar", ["--numeric-owner", "-tvf", &path]).go();
        let file = |l: &str| l.ends_with(" tmp/d/e/f") && l.contains(" 1000/0 ");
        list.stdout.lines().any(file)
    };
    assert!(blobs.flatten().any(owned), "the layer has the file");
    let out = go(&["run", "--rm", "mine:1", "cat", "/tmp/d/e/f"]);
    assert_eq!(out.stdout, "x\n", "{out}");
    let out = go(&["image", "rm", "mine:1"]);
    assert_eq!(out.code(), 0, "{out}");
    let out = go(&["rm", "box"]);
    assert_eq!(out.code(), 0, "{out}");
    let out = go(&[
        "run",
        "--rm",
        "-v",
        "/srv",
        "lab",
        "sh",
        "-c",
        &script.replace("/tmp", "/srv"),
    ]);
    assert_eq!(out.code(), 0, "{out}");
    for (place, left) in [("containers", "lock"), ("volumes", "")] {
        let names = std::fs::read_dir(root.join(place))
            .into_iter()
            .flatten()
            .flatten();
        let names: Vec<_> = names
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.join(" "), left, "{place}");
    }
}
