//! `glassbox image`, on the built binary: what comes in is checked, what goes out is read by
//! others, what is damaged or lies is refused and leaves nothing.

mod common;

use common::{LeakCheck, Output, Run, TempRoot, run, run_in};
use glassbox::layers::tree::Tree;
use serde_json::{Value, json};
use sha2::Digest as _;
use std::path::Path;

fn image<S: AsRef<std::ffi::OsStr>>(root: &TempRoot, args: impl IntoIterator<Item = S>) -> Output {
    let mut command = Run::new(["image"]).command();
    command.args(args).arg("--root").arg(root.join("state"));
    let words: Vec<_> = command.get_args().map(|a| a.to_os_string()).collect();
    run(words)
}

fn digest(bytes: &[u8]) -> String {
    let hash = sha2::Sha256::digest(bytes);
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An image layout of one layer, whose parts can be made to lie.
struct Layout {
    layer: Vec<u8>,
    diff_id: String,
    layer_digest: String,
    layer_size: usize,
}

impl Layout {
    fn new() -> Layout {
        let layer = tar_of(&[("file", b"content")]);
        Layout {
            diff_id: digest(&layer),
            layer_digest: digest(&layer),
            layer_size: layer.len(),
            layer,
        }
    }
    fn tar(&self, name: &str) -> Vec<u8> {
        let config = serde_json::to_vec(&json!({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
            "history": [{"created_by": "by hand"}],
        }))
        .unwrap();
        let blob = |d: &str| format!("blobs/sha256/{}", &d[7..]);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": self.layer_digest, "size": self.layer_size}],
        }))
        .unwrap();
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                           "digest": digest(&manifest), "size": manifest.len(),
                           "annotations": {"org.opencontainers.image.ref.name": name}}],
        }))
        .unwrap();
        tar_of(&[
            (&blob(&self.layer_digest), &self.layer),
            (&blob(&digest(&config)), &config),
            (&blob(&digest(&manifest)), &manifest),
            ("index.json", &index),
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ])
    }
}

/// What a store may hold when nothing was loaded into it.
fn is_empty(root: &TempRoot) {
    for dir in ["oci/blobs/sha256", "layers", "tmp"] {
        let path = root.join("state").join(dir);
        let names: Vec<_> = path
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert!(names.is_empty(), "{dir} holds {names:?}");
    }
    image(root, ["ls", "-q"]).success().out_is("");
}

#[test]
fn lying_and_damaged_images_leave_nothing() {
    let root = TempRoot::new("image-lies");
    let _leaks = LeakCheck::new(&root);
    let other = digest(b"other");
    let lies: [(&str, Layout, &str); 4] = [
        (
            "digest",
            Layout {
                layer_digest: other.clone(),
                ..Layout::new()
            },
            "its digest is",
        ),
        (
            "size",
            Layout {
                layer_size: 1,
                ..Layout::new()
            },
            "longer than 1 bytes",
        ),
        (
            "short",
            Layout {
                layer_size: 1 << 20,
                ..Layout::new()
            },
            "bytes in place of",
        ),
        (
            "diff id",
            Layout {
                diff_id: other,
                ..Layout::new()
            },
            "diff id is",
        ),
    ];
    for (_, layout, why) in lies {
        let file = root.write("lie.tar", layout.tar("liar:1"));
        let out = image(&root, ["load", "-i", file.to_str().unwrap()]);
        out.fails(1, &["cannot load images from", why]);
        is_empty(&root);
    }
    let whole = Layout::new().tar("fine:1");
    let cut = root.write("cut.tar", &whole[..700]);
    image(&root, ["load", "-i", cut.to_str().unwrap()]).fails(1, &["ends in the middle"]);
    let noise = root.write("noise.tar", vec![9u8; 2000]);
    image(&root, ["load", "-i", noise.to_str().unwrap()]).fails(1, &["cannot load images"]);
    let none = root.write("none.tar", tar_of(&[("etc/passwd", b"")]));
    image(&root, ["load", "-i", none.to_str().unwrap()]).fails(1, &["this holds no image"]);
    is_empty(&root);
    let file = root.write("fine.tar", whole);
    image(&root, ["load", "-i", file.to_str().unwrap()])
        .success()
        .out_is("Loaded image: fine:1");
    image(&root, ["fsck"]).success().out_is("");
}

#[test]
fn every_form_and_compression_is_loaded_with_the_same_id() {
    let root = TempRoot::new("image-forms");
    let _leaks = LeakCheck::new(&root);
    let plain = Layout::new().tar("fine:1");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    let forms = [
        ("plain", plain.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("zstd", zstd::encode_all(&plain[..], 1).unwrap()),
    ];
    let mut ids = Vec::new();
    for (name, bytes) in forms {
        let args = ["image", "load", "--name", name, "--root"];
        let state = root.join("state");
        let args = args
            .iter()
            .map(std::ffi::OsString::from)
            .chain([state.into()]);
        let out = Run::new(args).stdin(bytes).go().success();
        out.out_is(&format!("Loaded image: {name}:latest"));
        ids.push(
            image(&root, ["inspect", "-f", "{{.Id}}", name])
                .success()
                .stdout,
        );
    }
    // docker save's old form: a configuration, a layer beside it, no digests.
    let layer = tar_of(&[("file", b"content")]);
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created_by": "by hand"}],
    }))
    .unwrap();
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["old:form"], "Layers": ["a/layer.tar"] }]);
    let old = tar_of(&[
        ("a/layer.tar", &layer),
        ("config.json", &config),
        ("manifest.json", manifest.to_string().as_bytes()),
    ]);
    let file = root.write("old.tar", old);
    image(&root, ["load", "-i", file.to_str().unwrap()])
        .success()
        .out_is("Loaded image: old:form");
    ids.push(
        image(&root, ["inspect", "-f", "{{.Id}}", "old:form"])
            .success()
            .stdout,
    );
    assert!(ids.iter().all(|i| *i == ids[0]), "{ids:?}");
    image(&root, ["fsck"]).success();
}

#[test]
fn names_come_and_go_as_in_docker() {
    let root = TempRoot::new("image-names");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("i.tar", Layout::new().tar("app:1"));
    image(&root, ["load", "-q", "-i", file.to_str().unwrap()])
        .success()
        .out_is("app:1");
    image(&root, ["tag", "app:1", "registry.example:5000/team/app:2"]).success();
    let rows = image(&root, ["ls", "--format", "{{.Repository}} {{.Tag}}"]).success();
    rows.out_is("app 1\nregistry.example:5000/team/app 2");
    let id = image(&root, ["ls", "-q", "--no-trunc"])
        .success()
        .stdout
        .trim()
        .to_string();
    image(&root, ["rm", &id]).fails(1, &["2 names (must force)"]);
    image(&root, ["rm", "app:1"])
        .success()
        .out_is("Untagged: app:1");
    image(&root, ["history", "-q", "--no-trunc", &id[7..19]])
        .success()
        .out_is(&id);
    image(&root, ["rm", "registry.example:5000/team/app:2"])
        .success()
        .out_has("Deleted: sha256:");
    is_empty(&root);
    image(&root, ["rm", "app:1"]).fails(1, &["No such image: app:1"]);
    // A name that moves leaves its image dangling, and prune takes it.
    image(&root, ["load", "-i", file.to_str().unwrap()]).success();
    let rootfs = root.write("rootfs.tar", tar_of(&[("other", b"x")]));
    let change = [
        "import",
        "-c",
        "CMD [\"x\"]",
        "-m",
        "note",
        rootfs.to_str().unwrap(),
        "app:1",
    ];
    image(&root, change).success();
    image(
        &root,
        ["inspect", "-f", "{{.Config.Cmd}} {{.Comment}}", "app:1"],
    )
    .success()
    .out_is("[x] note");
    image(
        &root,
        ["ls", "-q", "--no-trunc", "--filter", "dangling=true"],
    )
    .success()
    .out_is(&id);
    image(&root, ["prune"])
        .success()
        .out_has(&format!("deleted: {id}"));
    image(&root, ["fsck"]).success();
    image(&root, ["prune", "-a"]).success();
    is_empty(&root);
}

#[test]
fn an_image_that_a_container_uses_stays() {
    let root = TempRoot::new("image-used");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("i.tar", Layout::new().tar("app:1"));
    image(&root, ["load", "-i", file.to_str().unwrap()]).success();
    let created = run_in(
        root.join("state"),
        ["create", "--name", "user", "app:1", "sh"],
    );
    created.success();
    image(&root, ["rm", "app:1"]).fails(1, &["must force", "is made of it"]);
    image(&root, ["prune", "-a"]).success();
    image(&root, ["rm", "-f", "app:1"])
        .success()
        .out_is("Untagged: app:1");
    let id = image(&root, ["ls", "-q"])
        .success()
        .stdout
        .trim()
        .to_string();
    assert_eq!(id.len(), 12, "its content stays");
    image(&root, ["rm", "-f", &id]).fails(1, &["cannot be forced"]);
    run_in(root.join("state"), ["rm", "user"]).success();
    image(&root, ["rm", &id]).success().out_has("Deleted:");
    is_empty(&root);
}

#[test]
fn fsck_finds_what_is_damaged_and_repairs_what_can_be() {
    let root = TempRoot::new("image-fsck");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("i.tar", Layout::new().tar("app:1"));
    let load = || image(&root, ["load", "-i", file.to_str().unwrap()]).success();
    load();
    let state = root.join("state");
    let blobs = state.join("oci/blobs/sha256");
    let kinds = |out: Output| -> Vec<String> {
        let list = out.json();
        let list = list.as_array().unwrap().iter();
        list.map(|p: &Value| p["kind"].as_str().unwrap().to_string())
            .collect()
    };
    let layer = blobs.join(&digest(&Layout::new().layer)[7..]);
    std::fs::write(&layer, "damaged").unwrap();
    std::fs::write(blobs.join("0".repeat(64)), "stray").unwrap();
    assert_eq!(
        kinds(image(&root, ["fsck", "--json"]).exits(1)),
        ["blob", "blob", "image"]
    );
    image(
        &root,
        ["save", "-o", root.join("x.tar").to_str().unwrap(), "app:1"],
    )
    .fails(1, &["fsck"]);
    assert!(!root.join("x.tar").exists());
    image(&root, ["fsck", "--repair"]).exits(0);
    image(&root, ["fsck"]).success().out_is("");
    image(&root, ["ls", "-q"]).success().out_is("");
    load();
    let unpacked = state.join("layers").join(layer.file_name().unwrap());
    std::fs::remove_dir_all(unpacked.join("diff")).unwrap();
    assert_eq!(kinds(image(&root, ["fsck", "--json"]).exits(1)), ["layer"]);
    image(&root, ["fsck", "--repair"]).exits(0);
    let lowers = image(&root, ["inspect", "app:1"]).success().json();
    assert_eq!(lowers[0]["Id"].as_str().unwrap().len(), 71);
    image(&root, ["fsck"]).success();
}

#[test]
fn a_killed_load_leaves_nothing() {
    let root = TempRoot::new("image-killed");
    let _leaks = LeakCheck::new(&root);
    let whole = Layout::new().tar("app:1");
    image(&root, ["ls", "-q"]).success();
    let mut command = Run::new(["image", "load", "--root"]).command();
    command
        .arg(root.join("state"))
        .stdin(std::process::Stdio::piped());
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &whole[..3000]).unwrap();
    let tmp = root.join("state/tmp");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while tmp.read_dir().unwrap().next().is_none() {
        assert!(std::time::Instant::now() < deadline, "it never began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // While it lives, other writers leave its part alone.
    let file = root.write("i.tar", &whole);
    image(&root, ["load", "-i", file.to_str().unwrap()]).success();
    assert!(
        tmp.read_dir().unwrap().next().is_some(),
        "the living one's part is gone"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    image(&root, ["rm", "app:1"]).success();
    is_empty(&root);
}

#[test]
fn others_read_the_store_and_what_is_saved() {
    needs!("skopeo");
    let root = TempRoot::new("image-peers");
    let _leaks = LeakCheck::new(&root);
    let file = root.write("i.tar", Layout::new().tar("app:1"));
    image(&root, ["load", "-i", file.to_str().unwrap()]).success();
    let skopeo = |source: String| -> Value {
        let out = std::process::Command::new("skopeo")
            .args(["inspect", &source])
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{source}: {err}");
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let at = |p: &str| root.join(p).display().to_string();
    let layers = json!([digest(&Layout::new().layer)]);
    let store = skopeo(format!("oci:{}:docker.io/library/app:1", at("state/oci")));
    assert_eq!(store["Layers"], layers);
    image(&root, ["save", "-o", &at("docker.tar"), "app:1"]).success();
    image(
        &root,
        ["save", "--format", "oci", "-o", &at("oci.tar"), "app:1"],
    )
    .success();
    image(&root, ["save", "-o", &at("layout/"), "app:1"]).success();
    for source in [
        "docker-archive:docker.tar",
        "oci-archive:oci.tar",
        "oci:layout",
    ] {
        let (kind, path) = source.split_once(':').unwrap();
        // skopeo unpacks such an archive with its owners, root, which only root may.
        if kind == "oci-archive" && !common::is_root() {
            continue;
        }
        assert_eq!(
            skopeo(format!("{kind}:{}", at(path)))["Os"],
            "linux",
            "{source}"
        );
    }
    // What was saved comes back as what it was.
    let id = image(&root, ["ls", "-q", "--no-trunc"]).success().stdout;
    for saved in ["docker.tar", "oci.tar", "layout"] {
        image(&root, ["rm", "app:1"]).success();
        image(&root, ["load", "-i", &at(saved)])
            .success()
            .out_is("Loaded image: app:1");
        image(&root, ["ls", "-q", "--no-trunc"])
            .success()
            .out_is(&id);
    }
}

#[test]
fn a_real_debian_of_several_layers_is_as_umoci_unpacks_it() {
    needs!("root", "umoci", "skopeo");
    let root = TempRoot::new("image-debian");
    let _leaks = LeakCheck::new(&root);
    let at = |p: &str| root.join(p).display().to_string();
    let tar = match std::env::var("GLASSBOX_DEBIAN_IMAGE") {
        Ok(path) if Path::new(&path).is_file() => path,
        _ if common::has_program("mmdebstrap") => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/debian-image");
            let status = std::process::Command::new(script)
                .arg(at("debian.tar"))
                .status()
                .unwrap();
            assert!(status.success());
            at("debian.tar")
        }
        _ => return common::skip("needs GLASSBOX_DEBIAN_IMAGE or the program mmdebstrap"),
    };
    let long = |args: &[&str]| {
        let state = at("state");
        let root = ["--root", state.as_str()];
        let words: Vec<&str> = [&["image"], args, &root].concat();
        Run::new(words)
            .limit(std::time::Duration::from_secs(300))
            .go()
    };
    long(&["load", "-i", &tar])
        .success()
        .out_is("Loaded image: debian-test:latest");
    long(&["fsck"]).success().out_is("");
    let peer = |program: &str, args: &[&str]| {
        let out = std::process::Command::new(program)
            .args(args)
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{program} {args:?}: {err}");
    };
    peer(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("oci-archive:{tar}"),
            &format!("oci:{}:x", at("lay")),
        ],
    );
    peer(
        "umoci",
        &[
            "unpack",
            "--image",
            &format!("{}:x", at("lay")),
            &at("bundle"),
        ],
    );
    let (state, merged) = (at("state"), at("m"));
    run([
        "layer",
        "mount",
        "--root",
        &state,
        "--image",
        "debian-test",
        &merged,
    ])
    .success();
    let read = |directory: &str| {
        let tree = Tree::read(Path::new(directory)).unwrap();
        let sum = |path: &Path| digest(&std::fs::read(Path::new(directory).join(path)).unwrap());
        let files = tree.nodes.iter().map(|(path, node)| {
            let content = if node.is_file() {
                sum(path)
            } else {
                String::new()
            };
            let mut node = node.clone();
            // Which inode it is, and overlayfs's own mark, are no part of the tree.
            (node.inode, node.opaque) = ((0, 0), false);
            (path.clone(), (node, content))
        });
        files.collect::<std::collections::BTreeMap<_, _>>()
    };
    let ours = read(&merged);
    run(["layer", "umount", &merged]).success();
    let theirs = read(&format!("{}/rootfs", at("bundle")));
    assert_eq!(
        ours.keys().collect::<Vec<_>>(),
        theirs.keys().collect::<Vec<_>>()
    );
    assert!(ours.len() > 5000, "only {} files", ours.len());
    let different: Vec<_> = ours
        .iter()
        .filter(|(path, file)| theirs[*path] != **file)
        .collect();
    let shown: Vec<_> = different
        .iter()
        .map(|(p, f)| (p, &f.0, &theirs[*p].0))
        .take(5)
        .collect();
    assert!(
        different.is_empty(),
        "{} differ: {shown:#?}",
        different.len()
    );
}

#[test]
fn listings_are_filtered_as_docker_does() {
    let root = TempRoot::new("image-filters");
    let _leaks = LeakCheck::new(&root);
    let tar = root.write("fs.tar", tar_of(&[("file", b"content")]));
    for name in ["one", "user/two:2", "user/three"] {
        image(
            &root,
            ["import", "-c", "LABEL n=x", tar.to_str().unwrap(), name],
        )
        .success();
    }
    let names = |args: &[&str]| {
        let format = ["ls", "--format", "{{.Repository}}"];
        let out = image(&root, format.iter().chain(args)).success().stdout;
        let mut names: Vec<String> = out.lines().map(String::from).collect();
        names.sort();
        names.join(" ")
    };
    for (args, expected) in [
        (&["-f", "before=user/two:2"][..], "one"),
        (&["-f", "since=user/two:2"], "user/three"),
        (&["-f", "since=one", "-f", "before=user/three"], "user/two"),
        (&["-f", "reference=*"], "one"),
        (&["-f", "reference=user/t*"], "user/three user/two"),
        (&["user/*"], "user/three user/two"),
        (&["user/*:2"], "user/two"),
        (&["user/two"], "user/two"),
        (&["-f", "label=n=x", "*"], "one"),
        (&["-f", "dangling=true"], ""),
    ] {
        assert_eq!(names(args), expected, "{args:?}");
    }
    image(&root, ["ls", "-f", "since=nothing"]).fails(1, &["No such image: nothing"]);
    image(&root, ["ls", "-f", "colour=red"]).fails(1, &["invalid filter 'colour=red'", "before="]);
}

#[test]
fn what_is_no_tar_is_named() {
    let root = TempRoot::new("image-no-tar");
    let _leaks = LeakCheck::new(&root);
    let xz = root.write("fs.tar.xz", b"\xfd7zXZ\0\0\x04more");
    let bzip2 = root.write("fs.tar.bz2", b"BZh91AY&SY");
    let import = |path: &std::path::Path| image(&root, ["import", path.to_str().unwrap()]);
    import(&xz).fails(1, &["compressed with xz", "xz -dc"]);
    import(&bzip2).fails(1, &["compressed with bzip2", "bzip2 -dc"]);
    import(root.path()).fails(1, &["is a directory", "tar -C"]);
    is_empty(&root);
}
