//! Images go to Debian's docker-registry and come back, ours and others': digests are the same
//! everywhere.
//!
//! What it does: our push, read by skopeo and podman; their push, pulled by us; manifest lists; what
//! only another registry can show: mounts, paging, deletes.
//!
//! Host only: the virtual machine has no docker-registry.
//!
//! Read next: `tests/common/docker_registry.rs`.

mod common;

use common::docker_registry::DockerRegistry;
use common::peers::Peers;
use common::web::tar;
use common::{LeakCheck, Output, Run, TempRoot, binary, run_in};
use serde_json::{Value, json};

/// An image of two layers in a store of our own, under this name, written as an OCI layout would
/// be loaded: by `image import` and a change.
fn image(root: &TempRoot, name: &str) {
    let layer = root.write("layer.tar", tar(&[("etc/who", b"glassbox\n"), ("a", b"1")]));
    let layer = layer.display().to_string();
    run_in(root, ["image", "import", &layer, name]).success();
}

/// What `image inspect` says, the first of its list.
fn inspect(root: &TempRoot, name: &str) -> Value {
    let all = run_in(root, ["image", "inspect", name]).success().json();
    all[0].clone()
}

fn skopeo(args: &[&str]) -> Output {
    Run::other("skopeo", args).go().success()
}

/// The digest that skopeo computes over what the registry answers.
fn skopeo_digest(name: &str) -> String {
    let raw = skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{name}"),
    ]);
    glassbox::spec::digest::Digest::sha256(raw.stdout.as_bytes()).to_string()
}

#[test]
fn skopeo_reads_what_we_push_and_we_pull_what_it_pushes() {
    needs!("docker-registry", "skopeo");
    let root = TempRoot::new("peers-skopeo");
    let _leaks = LeakCheck::new(&root);
    let registry = DockerRegistry::start(&root, "");
    let ours = registry.name("ours/app:1");
    image(&root, &ours);
    let said = run_in(&root, ["push", &ours]).success();
    let here = inspect(&root, &ours);
    let digest = here["Descriptor"]["digest"].as_str().unwrap();
    said.out_has(&format!("1: digest: {digest} size: "));
    assert_eq!(skopeo_digest(&ours), digest);
    let seen = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{ours}")]).json();
    assert_eq!(seen["Digest"], digest);
    assert_eq!(seen["Layers"][0], here["Layers"][0]["Digest"]);

    // And back, through a directory of skopeo's.
    let theirs = registry.name("theirs:2");
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &format!("docker://{ours}"),
        &format!("docker://{theirs}"),
    ]);
    run_in(&root, ["pull", &theirs])
        .success()
        .out_has(&format!("Digest: {digest}"));
    assert_eq!(inspect(&root, &theirs)["Id"], here["Id"]);
    let of_digest = format!("{}@{digest}", registry.name("theirs"));
    run_in(&root, ["pull", &of_digest])
        .success()
        .out_has("Status: ");
    run_in(&root, ["image", "fsck"]).success();
}

#[test]
fn a_manifest_list_keeps_its_digest_and_gives_one_platform() {
    needs!("docker-registry", "skopeo");
    let root = TempRoot::new("peers-list");
    let _leaks = LeakCheck::new(&root);
    let registry = DockerRegistry::start(&root, "");
    // A layout with an image for each of two platforms, put there by skopeo.
    let mut entries = Vec::new();
    let layout = root.join("layout");
    let blob = |bytes: &[u8], typ: &str| {
        let digest = glassbox::spec::digest::Digest::sha256(bytes);
        root.write(format!("layout/blobs/sha256/{}", digest.hex()), bytes);
        json!({ "mediaType": typ, "digest": digest.to_string(), "size": bytes.len() })
    };
    for architecture in ["amd64", "riscv64"] {
        let layer = tar(&[("architecture", architecture.as_bytes())]);
        let layer = blob(&layer, "application/vnd.oci.image.layer.v1.tar");
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let config = blob(
            config.to_string().as_bytes(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest = json!({
            "schemaVersion": 2, "mediaType": common::web::MANIFEST,
            "config": config, "layers": [layer],
        });
        let mut entry = blob(manifest.to_string().as_bytes(), common::web::MANIFEST);
        entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
        entries.push(entry);
    }
    let index =
        json!({ "schemaVersion": 2, "mediaType": common::web::INDEX, "manifests": entries });
    let top = blob(index.to_string().as_bytes(), common::web::INDEX);
    root.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    let whole = json!({ "schemaVersion": 2, "manifests": [top] });
    root.write("layout/index.json", whole.to_string());
    let name = registry.name("both:1");
    skopeo(&[
        "copy",
        "--all",
        "--preserve-digests",
        "--dest-tls-verify=false",
        &format!("oci:{}", layout.display()),
        &format!("docker://{name}"),
    ]);

    let digest = top["digest"].as_str().unwrap();
    run_in(&root, ["pull", "--platform", "linux/riscv64", &name])
        .success()
        .out_has(&format!("Digest: {digest}"));
    assert_eq!(inspect(&root, &name)["Architecture"], "riscv64");
    run_in(&root, ["pull", "--platform", "linux/s390x", &name]).fails(
        1,
        &["not there for linux/s390x", "linux/amd64, linux/riscv64"],
    );

    // The copy of all of it has all of it, and the same digest.
    let copy = registry.name("copies/both:2");
    run_in(&root, ["registry", "copy", "--all", &name, &copy])
        .success()
        .out_has(&format!("Digest: {digest}"));
    assert_eq!(skopeo_digest(&copy), digest);
    for entry in &entries {
        let part = format!(
            "{}@{}",
            registry.name("copies/both"),
            entry["digest"].as_str().unwrap()
        );
        assert_eq!(skopeo_digest(&part), entry["digest"].as_str().unwrap());
    }
    // A copy of one platform is that platform's manifest.
    let one = registry.name("copies/one:2");
    run_in(
        &root,
        [
            "registry",
            "copy",
            "--platform",
            "linux/riscv64",
            &name,
            &one,
        ],
    )
    .success();
    assert_eq!(skopeo_digest(&one), entries[1]["digest"].as_str().unwrap());
}

#[test]
fn blobs_are_mounted_and_tags_listed_and_removed() {
    needs!("docker-registry");
    let root = TempRoot::new("peers-tags");
    let _leaks = LeakCheck::new(&root);
    let registry = DockerRegistry::start(&root, "");
    let first = registry.name("a:1");
    image(&root, &first);
    run_in(&root, ["push", &first])
        .success()
        .out_has(": Pushed");
    run_in(&root, ["push", &first])
        .success()
        .out_has(": Layer already exists");
    let other = registry.name("b/c:2");
    run_in(&root, ["image", "tag", &first, &other]).success();
    run_in(&root, ["push", &other])
        .success()
        .out_has(": Mounted from a");
    for tag in ["3", "10"] {
        let name = registry.name(&format!("b/c:{tag}"));
        run_in(&root, ["image", "tag", &first, &name]).success();
        run_in(&root, ["push", &name]).success();
    }
    // docker-registry has no order for them.
    let said = run_in(&root, ["registry", "tags", &registry.name("b/c")]).success();
    let mut tags: Vec<&str> = said.stdout.lines().collect();
    tags.sort();
    assert_eq!(tags, ["10", "2", "3"]);
    run_in(&root, ["registry", "catalog", &registry.address])
        .success()
        .out_is("a\nb/c");
    // docker-registry removes manifests only, and all of these are one.
    let one = registry.name("b/c:3");
    run_in(&root, ["registry", "rm", &one]).fails(1, &["has other tags: 10, 2", "--force"]);
    run_in(&root, ["registry", "rm", "--force", &one])
        .success()
        .out_has(&format!("Untagged: {one}"));
    run_in(&root, ["registry", "rm", &one]).fails(1, &["there is no"]);
    run_in(&root, ["registry", "tags", &registry.name("nothing")]).fails(1, &["NAME_UNKNOWN"]);
}

#[test]
fn podman_and_buildah_run_what_we_push_and_push_what_we_run() {
    needs!("root", "docker-registry", "skopeo", "podman", "buildah");
    let mut peers = Peers::new("peers-podman");
    let registry = DockerRegistry::start_in(&peers, "");
    let state = peers.path("ours");
    peers.set("GLASSBOX_ROOT", &state);
    let program = binary().display().to_string();
    let ours = |args: &[&str]| peers.run([&[program.as_str()], args].concat()).success();
    let (storage, runroot) = (peers.path("storage"), peers.path("runroot"));
    let podman = |tool: &str, args: &[&str]| {
        let words = [&[tool, "--root", &storage, "--runroot", &runroot], args].concat();
        peers.run(words).success()
    };
    let id = |name: &str| {
        let all = ours(&["image", "inspect", name]).json();
        all[0]["Id"].as_str().unwrap().to_string()
    };

    let name = registry.name("box:1");
    ours(&["image", "load", "-i", &peers.path("box.tar")]);
    ours(&["image", "tag", peers.image, &name]);
    ours(&["push", &name]);
    podman("podman", &["pull", "-q", "--tls-verify=false", &name]);
    let there = podman(
        "podman",
        &["image", "inspect", "--format", "{{.Id}} {{.Digest}}", &name],
    );
    let digest = skopeo_in(&peers, &name);
    there.out_is(&format!(
        "{} {digest}",
        id(&name).trim_start_matches("sha256:")
    ));

    // podman compresses anew and may write another manifest: what it says is what we must get.
    for tool in ["podman", "buildah"] {
        let back = registry.name(&format!("{tool}:2"));
        podman(tool, &["push", "-q", "--tls-verify=false", &name, &back]);
        let digest = skopeo_in(&peers, &back);
        ours(&["pull", &back]).out_has(&format!("Digest: {digest}"));
        assert_eq!(id(&back), id(&name), "{tool} changed the configuration");
        ours(&["run", "--rm", &back, "cat", "/etc/passwd"]).out_has("root:x:0:0");
    }
    let again = registry.name("buildah:3");
    ours(&["image", "tag", &name, &again]);
    ours(&["push", &again]);
    podman("buildah", &["pull", "-q", "--tls-verify=false", &again])
        .out_has(id(&name).trim_start_matches("sha256:"));
}

/// The digest of what the registry answers for a name, computed by skopeo.
fn skopeo_in(peers: &Peers, name: &str) -> String {
    let name = format!("docker://{name}");
    let seen = peers.run([
        "skopeo",
        "inspect",
        "--tls-verify=false",
        "--format",
        "{{.Digest}}",
        &name,
    ]);
    seen.success().stdout.trim().to_string()
}
