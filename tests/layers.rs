//! `glassbox layer`, on the built binary: layers made, applied, compared, mounted, explained.
//!
//! The `tar` crate and tar(1) are oracles for the format; random trees go through `create` and
//! `apply`, and pairs of them through `diff`, and must come out the same.

mod common;

use common::{LeakCheck, TempRoot, run};
use glassbox::layers::apply::{self, Target};
use glassbox::layers::tree::{Node, Tree};
use glassbox::layers::{create, diff};
use glassbox::sys::xattr;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A tree as it can be compared: what a layer says of each file, its content, and which paths are
/// one file.
type Picture = BTreeMap<PathBuf, (Node, Vec<u8>, Vec<PathBuf>)>;

fn picture(directory: &Path) -> Picture {
    let tree = Tree::read(directory).unwrap();
    let same = |inode| {
        let names = tree
            .nodes
            .iter()
            .filter(|(_, n)| n.inode == inode && n.links > 1);
        names.map(|(p, _)| p.clone()).collect::<Vec<_>>()
    };
    let of = |(path, node): (&PathBuf, &Node)| {
        let content = match node.is_file() {
            true => std::fs::read(directory.join(path)).unwrap(),
            false => Vec::new(),
        };
        let names = same(node.inode);
        let mut node = node.clone();
        node.inode = (0, 0);
        (path.clone(), (node, content, names))
    };
    tree.nodes.iter().map(of).collect()
}

#[derive(Debug, Clone)]
enum Kind {
    File(Vec<u8>),
    Dir,
    Link(String),
    Hard(usize),
    Fifo,
}

#[derive(Debug, Clone)]
struct Made {
    path: Vec<u8>,
    kind: Kind,
    mode: u32,
    time: (i64, u32),
    xattr: Option<Vec<u8>>,
}

fn made() -> impl Strategy<Value = Made> {
    let name = prop_oneof![
        8 => "[a-e]".prop_map(String::into_bytes),
        1 => "[a-e]{101,140}".prop_map(String::into_bytes),
        1 => Just("grüße mit leer".as_bytes().to_vec()),
        1 => Just(vec![b'x', 0xff, 0xfe]),
    ];
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join(&b'/'));
    let kind = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..1500).prop_map(Kind::File),
        2 => Just(Kind::Dir),
        1 => "[a-e/.]{1,120}".prop_map(Kind::Link),
        1 => (0usize..8).prop_map(Kind::Hard),
        1 => Just(Kind::Fifo),
    ];
    let mode = prop_oneof![
        Just(0o644),
        Just(0o755),
        Just(0o4711),
        Just(0o1777),
        Just(0o600)
    ];
    // A day before and after the epoch, and now; whole seconds and fractions.
    let time = (
        prop_oneof![-90_000i64..90_000, Just(1_700_000_000)],
        prop_oneof![Just(0u32), Just(123_456_789)],
    );
    let xattr = prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 0..40));
    (path, kind, mode, time, xattr).prop_map(|(path, kind, mode, time, xattr)| Made {
        path,
        kind,
        mode,
        time,
        xattr,
    })
}

fn tree() -> impl Strategy<Value = Vec<Made>> {
    prop::collection::vec(made(), 0..14)
}

/// Makes what it can of the tree: a path through a file is passed over.
fn build(directory: &Path, tree: &[Made]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(directory).unwrap();
    let mut files = Vec::new();
    for one in tree {
        let path = directory.join(OsStr::from_bytes(&one.path));
        if std::fs::create_dir_all(path.parent().unwrap()).is_err()
            || path.symlink_metadata().is_ok()
        {
            continue;
        }
        match &one.kind {
            Kind::File(content) => std::fs::write(&path, content).unwrap(),
            Kind::Dir => std::fs::create_dir(&path).unwrap(),
            Kind::Link(to) => std::os::unix::fs::symlink(to, &path).unwrap(),
            Kind::Fifo => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            Kind::Hard(_) if files.is_empty() => continue,
            Kind::Hard(n) => {
                let to: &PathBuf = &files[n % files.len()];
                std::fs::hard_link(to, &path).unwrap();
                continue;
            }
        }
        if matches!(one.kind, Kind::Link(_)) {
            continue;
        }
        // What the owner could not search would stop an ordinary user from making the rest.
        let own = if matches!(one.kind, Kind::Dir) {
            0o700
        } else {
            0o600
        };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(one.mode | own)).unwrap();
        if let (Kind::File(_), Some(value)) = (&one.kind, &one.xattr) {
            let file = std::fs::File::open(&path).unwrap();
            let _ = xattr::fsetxattr(&file, b"user.test", value); // tmpfs of old kernels has none
        }
        if matches!(one.kind, Kind::File(_)) {
            files.push(path);
        }
    }
    // Times last and deepest first: making a file changes its directory's.
    let all = Tree::read(directory).unwrap();
    for (path, _) in all.nodes.iter().rev() {
        let wanted = tree
            .iter()
            .find(|m| OsStr::from_bytes(&m.path) == path.as_os_str());
        let (seconds, nanoseconds) = wanted.map_or((1_000_000_000, 0), |m| m.time);
        let time = xattr::Time {
            seconds,
            nanoseconds,
        };
        let root = std::fs::File::open(directory).unwrap();
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        xattr::utimensat(&root, path, time).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_created_applies_to_the_same(made in tree()) {
        let root = TempRoot::new("layer-roundtrip");
        let (from, to) = (root.join("from"), root.join("to"));
        build(&from, &made);
        let mut bytes = Vec::new();
        create::create(&from, Target::Plain, &mut bytes).unwrap();
        // The oracle reads the same names from the archive. For it a record ends at the first
        // newline, even inside of an attribute's value, so it is not asked about such.
        let newline = |m: &Made| m.xattr.as_ref().is_some_and(|value| value.contains(&b'\n'));
        if !made.iter().any(newline) {
            let mut archive = tar::Archive::new(&bytes[..]);
            let names: Vec<PathBuf> = archive.entries().unwrap()
                .map(|e| e.unwrap().path().unwrap().components().collect()).collect();
            let expected: Vec<PathBuf> = picture(&from).into_keys()
                .map(|p| if p.as_os_str().is_empty() { ".".into() } else { p }).collect();
            prop_assert_eq!(names, expected);
        }
        std::fs::create_dir(&to).unwrap();
        apply::apply(&bytes[..], &to, Target::Plain).unwrap();
        prop_assert_eq!(picture(&from), picture(&to));
    }

    #[test]
    fn a_difference_applied_to_old_is_new(old in tree(), new in tree()) {
        let root = TempRoot::new("layer-diff");
        let (a, b) = (root.join("old"), root.join("new"));
        build(&a, &old);
        build(&b, &new);
        let mut bytes = Vec::new();
        diff::diff(&a, &b, &mut bytes).unwrap();
        apply::apply(&bytes[..], &a, Target::Plain).unwrap();
        prop_assert_eq!(picture(&a), picture(&b));
        let mut nothing = Vec::new();
        let found = diff::diff(&a, &b, &mut nothing).unwrap();
        prop_assert_eq!(found, diff::Difference::default());
    }

    #[test]
    fn any_bytes_are_an_error_or_a_layer_but_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let root = TempRoot::new("layer-noise");
        std::fs::create_dir(root.join("d")).unwrap();
        let _ = apply::apply_layer(&bytes[..], 1 << 20, &root.join("d"), Target::Plain);
        prop_assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}

#[test]
fn tar_reads_what_create_writes_in_every_compression() {
    needs!("tar");
    let root = TempRoot::new("layer-tar");
    let _leaks = LeakCheck::new(&root);
    let from = root.join("from");
    std::fs::create_dir_all(from.join("a/b")).unwrap();
    std::fs::write(from.join("a/b/file"), "content").unwrap();
    std::fs::hard_link(from.join("a/b/file"), from.join("a/link")).unwrap();
    let mut ids = Vec::new();
    for (kind, flag) in [("none", ""), ("gzip", "-z"), ("zstd", "--zstd")] {
        let layer = root.join(format!("layer-{kind}"));
        let out = run([
            "layer",
            "create",
            "--json",
            "--compression",
            kind,
            "-o",
            layer.to_str().unwrap(),
            from.to_str().unwrap(),
        ])
        .success();
        ids.push(out.json()["diff_id"].as_str().unwrap().to_string());
        if kind == "zstd" && !common::has_program("zstd") {
            continue; // tar(1) needs it; apply below reads it all the same
        }
        let to = root.join(format!("tar-{kind}"));
        std::fs::create_dir(&to).unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.arg("-x")
            .args((!flag.is_empty()).then_some(flag))
            .arg("-f")
            .arg(&layer);
        let status = tar.arg("-C").arg(&to).status().unwrap();
        assert!(status.success());
        assert_eq!(picture(&from), picture(&to), "{kind}");
    }
    assert!(ids.iter().all(|i| *i == ids[0]), "one diff id: {ids:?}");
    for kind in ["none", "gzip", "zstd"] {
        let (layer, to) = (
            root.join(format!("layer-{kind}")),
            root.join(format!("ours-{kind}")),
        );
        run([
            "layer",
            "apply",
            layer.to_str().unwrap(),
            to.to_str().unwrap(),
        ])
        .success();
        assert_eq!(picture(&from), picture(&to), "{kind}");
    }
}

#[test]
fn a_bad_layer_leaves_nothing() {
    let root = TempRoot::new("layer-bad");
    let _leaks = LeakCheck::new(&root);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(10_000);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut entry = |name: &str| {
        // Written raw: the crate itself refuses hostile paths.
        header.as_old_mut().name.fill(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, &vec![7u8; 10_000][..]).unwrap();
    };
    entry("fine");
    entry("../escaped");
    let bytes = builder.into_inner().unwrap();
    let hostile = root.write("hostile.tar", &bytes);
    let cut = root.write("cut.tar", &bytes[..5000]);
    let to = root.join("to");
    for (layer, why) in [(hostile, "leads out"), (cut, "ends in the middle")] {
        run([
            "layer",
            "apply",
            layer.to_str().unwrap(),
            to.to_str().unwrap(),
        ])
        .fails(125, &["cannot apply", why]);
        assert!(!to.exists(), "{why}");
        assert!(!root.join("escaped").exists());
    }
    let out = root.join("x.tar");
    run([
        "layer",
        "create",
        "-o",
        out.to_str().unwrap(),
        "/nonexistent-directory",
    ])
    .fails(125, &["cannot open /nonexistent-directory", "ENOENT"]);
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        2,
        "no part is left"
    );
}

#[test]
fn mounted_layers_are_one_tree_and_whence_tells_them_apart() {
    needs!("root");
    let root = TempRoot::new("layer-mount");
    let _leaks = LeakCheck::new(&root);
    let at = |p: &str| root.join(p).to_str().unwrap().to_string();
    for dir in ["low/d", "mid/d", "upper", "work"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    root.write("low/d/a", "low");
    root.write("low/d/b", "low");
    root.write("mid/d/b", "mid");
    let (low, mid, upper, work, merged) = (at("low"), at("mid"), at("upper"), at("work"), at("m"));
    let mount = || {
        run([
            "layer", "mount", "--lower", &mid, "--lower", &low, "--upper", &upper, "--work", &work,
            &merged,
        ])
        .success()
    };
    mount();
    let read = |p: &str| std::fs::read_to_string(root.join(p)).unwrap();
    assert_eq!((read("m/d/a"), read("m/d/b")), ("low".into(), "mid".into()));
    std::fs::remove_file(root.join("m/d/b")).unwrap();
    std::fs::write(root.join("m/d/a"), "changed").unwrap();
    let lowers = ["--lower", &upper, "--lower", &mid, "--lower", &low];
    let whence = |path: &str, code| {
        let args = ["layer", "whence", "--json"]
            .iter()
            .chain(&lowers)
            .chain([&path]);
        let json = run(args).exits(code).json();
        let findings = json["findings"].as_array().unwrap().clone();
        let words = findings
            .iter()
            .map(|f| format!("{} {}", f["layer"], f["role"].as_str().unwrap()));
        words.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(whence("/d/a", 0), "0 replaces, 2 hidden");
    assert_eq!(whence("/d/b", 1), "0 deletes, 1 hidden, 2 hidden");
    assert_eq!(whence("/d", 0), "0 provides, 1 merged, 2 merged");
    assert_eq!(whence("/none", 1), "");
    // What the kernel wrote into the upper directory is a layer that does the same to a copy.
    let layer = at("changes.tar");
    run(["layer", "create", "--overlay", "-o", &layer, &upper]).success();
    let copy = root.join("copy");
    std::fs::create_dir_all(copy.join("d")).unwrap();
    root.write("copy/d/a", "low");
    root.write("copy/d/b", "mid");
    run(["layer", "apply", &layer, copy.to_str().unwrap()]).success();
    assert_eq!(read("copy/d/a"), "changed");
    assert!(!copy.join("d/b").exists());
    run(["layer", "umount", &merged]).success();
    run(["layer", "umount", &merged]).fails(125, &["nothing is mounted there"]);
    run(["layer", "mount", "--lower", &at("missing"), &merged])
        .fails(125, &["missing is not a directory"]);
}

#[test]
fn five_hundred_layers_are_stacked_and_one_more_is_refused() {
    needs!("root");
    let root = TempRoot::new("layer-500");
    let _leaks = LeakCheck::new(&root);
    let mut args: Vec<String> = vec!["layer".into(), "mount".into()];
    for i in 0..500 {
        let dir = root.join(format!("a-layer-with-a-long-name-{i}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(format!("file-{i}")), "").unwrap();
        args.extend(["--lower".into(), dir.to_str().unwrap().into()]);
    }
    let merged = root.join("m");
    let with_target = |args: &[String]| [args, &[merged.to_str().unwrap().to_string()]].concat();
    run(with_target(&args)).success();
    let count = std::fs::read_dir(&merged).unwrap().count();
    run(["layer", "umount", merged.to_str().unwrap()]).success();
    assert_eq!(count, 500);
    args.extend(["--lower".into(), root.path().to_str().unwrap().into()]);
    run(with_target(&args)).fails(125, &["501 lower directories"]);
}

#[test]
fn an_ordinary_user_applies_without_what_needs_root() {
    needs!("root");
    let root = TempRoot::for_user("layer-user");
    let _leaks = LeakCheck::new(&root);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("file", tar::EntryType::Regular),
        ("dev", tar::EntryType::Char),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        builder
            .append_data(&mut header, name, std::io::empty())
            .unwrap();
    }
    let layer = root.write("l.tar", builder.into_inner().unwrap());
    let to = root.join("to");
    let out = common::Run::new([
        "layer",
        "apply",
        layer.to_str().unwrap(),
        to.to_str().unwrap(),
    ])
    .as_user()
    .go()
    .success();
    out.err_has("1 device nodes were left out");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        std::fs::metadata(to.join("file")).unwrap().uid(),
        common::USER
    );
    assert!(!to.join("dev").exists());
}

#[test]
fn every_form_in_which_tar_writes_holes_and_old_times_is_read() {
    needs!("tar");
    let root = TempRoot::new("layer-sparse");
    let _leaks = LeakCheck::new(&root);
    let from = root.join("from");
    std::fs::create_dir(&from).unwrap();
    let make = |name: &str, size: u64, pieces: u64| {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(from.join(name)).unwrap();
        file.set_len(size).unwrap();
        for i in 0..pieces {
            file.write_all_at(name.as_bytes(), i * 131_072).unwrap();
        }
    };
    make("all-hole", 5 << 20, 0);
    make("one", 1 << 20, 1);
    make("ends-in-data", 131_072 * 3 + 4, 4);
    make("more-than-a-block-of-map", 16 << 20, 100);
    for (name, seconds) in [("one", -2), ("all-hole", 1 << 34)] {
        let file = std::fs::File::open(from.join(name)).unwrap();
        let time = xattr::Time {
            seconds,
            nanoseconds: 0,
        };
        xattr::utimensat(&file, "", time).unwrap();
    }
    let forms: [&[&str]; 5] = [
        &["--format=gnu"],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for (i, form) in forms.iter().enumerate() {
        let (layer, to) = (root.join(format!("{i}.tar")), root.join(format!("to-{i}")));
        let mut tar = std::process::Command::new("tar");
        let names = [
            "all-hole",
            "one",
            "ends-in-data",
            "more-than-a-block-of-map",
        ];
        tar.arg("--sparse")
            .args(*form)
            .arg("-C")
            .arg(&from)
            .arg("-cf")
            .arg(&layer)
            .args(names);
        assert!(tar.status().unwrap().success());
        run([
            "layer",
            "apply",
            layer.to_str().unwrap(),
            to.to_str().unwrap(),
        ])
        .success();
        for name in names {
            use std::os::unix::fs::MetadataExt;
            let read = |d: &Path| std::fs::read(d.join(name)).unwrap();
            assert!(read(&from) == read(&to), "{name} differs in {form:?}");
            let meta = |d: &Path| std::fs::metadata(d.join(name)).unwrap();
            assert_eq!(meta(&from).mtime(), meta(&to).mtime(), "{name} in {form:?}");
            let blocks = meta(&to).blocks();
            assert!(
                blocks <= meta(&from).blocks() + 64,
                "{name} lost its holes in {form:?}"
            );
        }
    }
}

#[test]
fn a_layer_is_made_and_applied_alike_under_every_umask() {
    needs!("tar");
    let root = TempRoot::new("layer-umask");
    let _leaks = LeakCheck::new(&root);
    std::fs::create_dir_all(root.join("from/a/b")).unwrap();
    root.write("from/a/b/file", "x");
    // Only the file has an entry, its directories have none.
    let script = "cd \"$1\" && tar -C from -cf only.tar a/b/file && umask 077 && \
                  \"$0\" layer apply only.tar to && stat -c %a to/a to/a/b";
    let out = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_glassbox")])
        .arg(root.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "755\n755\n",
        "{out:?}"
    );
}

#[test]
fn a_mount_that_fails_leaves_no_mount_point() {
    let root = TempRoot::new("layer-mount-fails");
    let _leaks = LeakCheck::new(&root);
    let lower = root.join("lower");
    std::fs::create_dir(&lower).unwrap();
    let at = |name: &str| root.join(name).to_str().unwrap().to_string();
    let (lower, nothing, target) = (at("lower"), at("nothing"), at("target"));
    let words = |layers: &[&str]| {
        let layers = layers.iter().flat_map(|l| ["--lower", *l]);
        let words: Vec<&str> = ["layer", "mount"].into_iter().chain(layers).collect();
        [&words[..], &[&target]]
            .concat()
            .iter()
            .map(|w| w.to_string())
            .collect::<Vec<_>>()
    };
    run(words(&[&nothing])).fails(
        125,
        &["cannot mount 1 layer on", "nothing is not a directory"],
    );
    run(words(&[&lower, &nothing])).fails(125, &["cannot mount 2 layers on"]);
    assert!(!root.join("target").exists());
    std::fs::create_dir(root.join("target")).unwrap();
    run(words(&[&nothing])).fails(125, &["cannot mount"]);
    assert!(root.join("target").exists(), "it was there before");
}
