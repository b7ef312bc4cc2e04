//! `glassbox image fsck` on what digests do not tell: unpacked layers, the index, the layout.
//!
//! Any kernel: a store is ordinary files.
//!
//! What blobs are is in `images.rs`.

mod common;

use common::{LeakCheck, Output, Run, TempRoot};

fn image<const N: usize>(root: &TempRoot, args: [&str; N]) -> Output {
    let state = root.join("state");
    let root = ["--root", state.to_str().unwrap()];
    Run::new([&["image"][..], &args, &root].concat()).go()
}

/// An image of one layer, with a file and a whiteout.
fn import(root: &TempRoot) {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("file", "content"), (".wh.gone", "")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    let file = root.write("i.tar", tar.into_inner().unwrap());
    image(root, ["import", file.to_str().unwrap(), "app:1"]).success();
}

#[test]
fn fsck_compares_what_is_unpacked_with_its_layer() {
    let root = TempRoot::new("image-fsck-unpacked");
    let _leaks = LeakCheck::new(&root);
    import(&root);
    let unpacked = std::fs::read_dir(root.join("state/layers"))
        .unwrap()
        .next()
        .unwrap();
    let unpacked = unpacked.unwrap().path().join("diff");
    let files = || {
        std::fs::read_dir(&unpacked)
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    let victim = files().find(|p| p.is_file()).expect("the layer has a file");
    let before = std::fs::read(&victim).unwrap();
    let damages: [(&str, &dyn Fn()); 4] = [
        ("changed", &|| std::fs::write(&victim, "evil").unwrap()),
        ("missing", &|| std::fs::remove_file(&victim).unwrap()),
        ("added", &|| {
            std::fs::write(unpacked.join("more"), "x").unwrap()
        }),
        ("changed", &|| {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o4777);
            std::fs::set_permissions(&victim, mode).unwrap();
        }),
    ];
    for (word, damage) in damages {
        damage();
        let found = image(&root, ["fsck"]).exits(1);
        found.out_has("was changed");
        found.out_has(word);
        image(&root, ["fsck", "--repair"])
            .exits(0)
            .out_has("unpacked again");
        image(&root, ["fsck"]).success().out_is("");
        assert_eq!(std::fs::read(&victim).unwrap(), before, "{word}");
        assert!(!unpacked.join("more").exists());
    }
    assert_eq!(
        std::fs::read_dir(root.join("state/tmp")).unwrap().count(),
        0
    );
}

#[test]
fn fsck_makes_a_lost_index_and_layout_anew() {
    let root = TempRoot::new("image-fsck-index");
    let _leaks = LeakCheck::new(&root);
    import(&root);
    let id = image(&root, ["ls", "-q", "--no-trunc"]).success().stdout;
    let oci = root.join("state/oci");
    std::fs::write(oci.join("index.json"), "{").unwrap();
    std::fs::write(oci.join("oci-layout"), "{}").unwrap();
    image(&root, ["ls"]).fails(1, &["cannot understand", "index.json", "fsck --repair"]);
    let found = image(&root, ["fsck"]).exits(1);
    found.out_has("index index.json");
    found.out_has("layout ");
    image(&root, ["fsck", "--repair"]).exits(0);
    image(&root, ["fsck"]).success().out_is("");
    assert_eq!(
        image(&root, ["ls", "-q", "--no-trunc"]).success().stdout,
        id
    );
    let layout = std::fs::read_to_string(oci.join("oci-layout")).unwrap();
    assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
}
