//! Images of a registry in use: `run` and `create` pull what is missing, `explain` draws what came.
//!
//! Read next: `tests/common/memory.rs`.

mod common;

use common::memory::Memory;
use common::web::{self, INDEX, MANIFEST, descriptor};
use common::{LeakCheck, Run, TempRoot, run_in};

/// Pushes the image `lab` to a registry and takes it away here.
fn lab_there(root: &TempRoot, registry: &Memory, name: &str) -> String {
    let name = registry.name(name);
    run_in(root, ["image", "tag", "lab", &name]).success();
    run_in(root, ["push", "-q", &name]).success();
    run_in(root, ["image", "rm", &name, "lab"]).success();
    name
}

#[test]
fn a_missing_image_is_pulled_and_the_program_has_stdout_alone() {
    let root = TempRoot::new("run-pull");
    let _leaks = LeakCheck::new(&root);
    let registry = Memory::new();
    let name = lab_there(&root, &registry, "lab:1");
    run_in(
        &root,
        ["run", "--rm", "--pull", "never", &name, "echo", "hi"],
    )
    .fails(125, &["No such image", "glassbox pull"]);
    let said = run_in(&root, ["run", "--rm", &name, "echo", "hi"]).success();
    said.out_is("hi");
    said.err_has(&format!("Unable to find image '{name}' locally"));
    said.err_has("1: Pulling from lab");
    said.err_has(&format!("Status: Downloaded newer image for {name}"));
    // Now it is here: nobody is asked, unless it is said so.
    let asked = registry.server.seen().len();
    // An ordinary user may have no network, and is told so where none was not asked for.
    let none = ["run", "--rm", "--network", "none"];
    let said = run_in(&root, [&none[..], &[&name, "echo", "hi"]].concat()).success();
    assert_eq!(
        (said.stderr.as_str(), registry.server.seen().len()),
        ("", asked)
    );
    let said = run_in(
        &root,
        ["run", "--rm", "--pull", "always", &name, "echo", "hi"],
    )
    .success();
    said.out_is("hi");
    said.err_has("Status: Image is up to date");
    assert!(registry.server.seen().len() > asked);
    run_in(&root, ["image", "rm", &name]).success();
    let said = run_in(&root, [&none[..], &["-q", &name, "echo", "hi"]].concat()).success();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hi\n", ""));
}

#[test]
fn create_pulls_too_and_a_failure_leaves_no_container() {
    let root = TempRoot::new("create-pull");
    let _leaks = LeakCheck::new(&root);
    let registry = Memory::new();
    let name = lab_there(&root, &registry, "team/lab:1");
    run_in(&root, ["create", "--name", "made", &name]).success();
    run_in(&root, ["rm", "made"]).success();
    let nothing = registry.name("nothing:2");
    run_in(&root, ["create", "--name", "made", &nothing]).fails(
        1,
        &[
            "MANIFEST_UNKNOWN",
            &format!("Unable to find image '{nothing}' locally"),
        ],
    );
    run_in(&root, ["ps", "-aq"]).success().out_is("");
}

#[test]
fn a_platform_that_the_image_lacks_is_refused_before_anything_is_kept() {
    let root = TempRoot::new("run-platform");
    let _leaks = LeakCheck::new(&root);
    let registry = Memory::new();
    let image = web::plain();
    image
        .layers
        .iter()
        .chain([&image.config])
        .for_each(|b| registry.put_blob(b));
    registry.put_manifest("x", "1", MANIFEST, &image.manifest);
    let name = registry.name("x:1");
    let wrong = ["pull", "--platform", "linux/s390x", &name];
    run_in(&root, wrong).fails(1, &["the image is for linux/amd64, not for linux/s390x"]);
    run_in(&root, ["image", "ls", "-q"]).success().out_is("");
    run_in(
        &root,
        ["run", "--rm", "--platform", "linux/s390x", &name, "x"],
    )
    .fails(125, &["not for linux/s390x"]);
    run_in(&root, ["pull", "--platform", "linux/amd64", &name]).success();
}

#[test]
fn an_image_is_drawn_from_its_index_down_to_the_instructions() {
    let root = TempRoot::new("explain-image");
    let _leaks = LeakCheck::new(&root);
    let registry = Memory::new();
    // An image of two layers and three instructions, in an index inside an index.
    let layers = [web::tar(&[("a", b"one")]), web::tar(&[("b", b"two")])];
    let ids: Vec<String> = layers
        .iter()
        .map(|l| format!("\"{}\"", glassbox::spec::digest::Digest::sha256(l)))
        .collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh","-c","echo hi"],"User":"me"}},
        "rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[
        {{"created_by":"ADD one /"}},{{"created_by":"CMD [\"sh\"]","empty_layer":true}},{{"created_by":"RUN two"}}]}}"#,
        ids.join(",")
    );
    let typ = "application/vnd.oci.image.layer.v1.tar";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{},{}]}}"#,
        descriptor(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
            ""
        ),
        descriptor(typ, &layers[0], ""),
        descriptor(typ, &layers[1], "")
    );
    let platform = |p: &str| format!(r#","platform":{{"os":"linux","architecture":"{p}"}}"#);
    let inner = web::index(&[
        descriptor(MANIFEST, b"{}", &platform("riscv64")),
        descriptor(MANIFEST, manifest.as_bytes(), &platform("amd64")),
    ]);
    let outer = web::index(&[descriptor(INDEX, &inner, "")]);
    layers.iter().for_each(|l| registry.put_blob(l));
    registry.put_blob(config.as_bytes());
    registry.put_manifest("app", "inner", INDEX, &inner);
    registry.put_manifest("app", "1", INDEX, &outer);
    registry.put_manifest("app", "amd64", MANIFEST, manifest.as_bytes());

    let name = registry.name("app:1");
    run_in(&root, ["pull", "--platform", "linux/amd64", &name]).success();
    run_in(&root, ["image", "prune", "-f"]).success();
    run_in(&root, ["image", "fsck"]).success();
    let said = run_in(&root, ["explain", &name]).success();
    let address = regex_of(&registry.server.address);
    let settings = common::filters(&[(&address, "REGISTRY")]);
    settings.bind(|| insta::assert_snapshot!("explain_image", said.stdout));
    let drawn = run_in(&root, ["explain", "--image", "--json", &name])
        .success()
        .json();
    assert_eq!(drawn["index"]["entries"][0]["below"][1]["this"], true);
    assert_eq!(drawn["steps"][1]["by"], "CMD [\"sh\"]");
    assert!(drawn["steps"][1]["layer"].is_null());
    // A name that no image has is none, and no store is made in order to find out.
    let empty = TempRoot::new("explain-nothing");
    run_in(&empty, ["explain", "--image", "x"]).fails(125, &["no image is called \"x\""]);
    assert_eq!(
        std::fs::read_dir(empty.path())
            .expect("a directory")
            .count(),
        0
    );
}

fn regex_of(text: &str) -> String {
    text.replace('.', r"\.")
}

#[test]
fn bars_are_drawn_on_a_terminal_and_lines_elsewhere() {
    needs!("script");
    let root = TempRoot::new("pull-bars");
    let _leaks = LeakCheck::new(&root);
    let registry = Memory::new();
    let name = lab_there(&root, &registry, "lab:1");
    let binary = common::binary().display().to_string();
    let line = format!("{binary} pull {name}");
    let said = Run::other("script", ["-qec", &line, "/dev/null"])
        .env("GLASSBOX_ROOT", root.path())
        .env("TERM", "xterm")
        .go()
        .success();
    said.out_has("Downloading");
    said.out_has("Pull complete");
    said.out_has("\r\nDigest: sha256:");
    run_in(&root, ["image", "rm", &name]).success();
    let said = run_in(&root, ["pull", &name]).success();
    assert_eq!(said.stderr, "");
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
    said.out_has(": Pulling fs layer\n");
    said.out_has(": Pull complete\n");
}
