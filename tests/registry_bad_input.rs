//! What a registry must not be able to do to us: a corpus, one test a case.
//!
//! Any kernel: HTTP and ordinary files.
//!
//! What it does: each case is a server that answers something hostile or broken, or an image that
//! is. The pull must fail with these words, or take what can be taken; either way nothing is written
//! outside the store's own directories, and a pull that failed leaves nothing at all.
//!
//! Read next: `tests/common/web.rs`, `src/layers/apply.rs`.

mod common;

use common::web::{
    Answer, INDEX, Image, MANIFEST, Request, Server, descriptor, entry, honest, image, index,
    layered, plain, tar,
};
use common::{LeakCheck, Output, Run, TempRoot, run_in};
use glassbox::spec::digest::Digest;
use std::path::{Path, PathBuf};

const PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A store so deep in a test's directory that a path which climbs out of it still ends there.
struct Fence {
    _leaks: LeakCheck,
    root: TempRoot,
}

impl Fence {
    fn new(name: &str) -> Fence {
        let root = TempRoot::for_user(name);
        let leaks = LeakCheck::new(&root);
        let fence = Fence {
            _leaks: leaks,
            root,
        };
        std::fs::create_dir_all(fence.store()).unwrap();
        fence
    }
    fn store(&self) -> PathBuf {
        self.root.join("1/2/3/4/5/6/7/8/store")
    }
    fn pull(&self, server: &Server, more: &[&str]) -> Output {
        let name = server.name("x");
        let args = [
            &["pull", "--retries", "1", "--timeout", "5", name.as_str()],
            more,
        ]
        .concat();
        let output = run_in(self.store(), args);
        self.nothing_escaped();
        output
    }
    /// All files are in the store, and nothing called after this test is in the host's root.
    fn nothing_escaped(&self) {
        let store = self.store();
        let mut queue = vec![self.root.path().to_path_buf()];
        while let Some(place) = queue.pop() {
            for found in std::fs::read_dir(&place).unwrap().flatten() {
                let path = found.path();
                if path == store {
                    continue;
                }
                assert!(
                    found.file_type().unwrap().is_dir(),
                    "{path:?} came out of the store"
                );
                queue.push(path);
            }
        }
        let outside = Path::new("/").join(self.root.tag());
        assert!(!outside.exists(), "{outside:?} was made");
    }
    fn nothing_left(&self) {
        let index = std::fs::read_to_string(self.store().join("oci/index.json")).unwrap();
        assert!(index.contains("\"manifests\":[]"), "{index}");
        for place in ["tmp", "layers", "oci/blobs/sha256"] {
            let left: Vec<_> = std::fs::read_dir(self.store().join(place))
                .unwrap()
                .flatten()
                .collect();
            assert!(left.is_empty(), "left in {place}: {left:?}");
        }
    }
}

/// Pulls, which must fail with these words and leave nothing.
#[track_caller]
fn refused(
    name: &str,
    words: &[&str],
    more: &[&str],
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) {
    let fence = Fence::new(name);
    let server = Server::new(answer);
    fence.pull(&server, more).fails(1, words);
    fence.nothing_left();
}

/// The same of an image that is served as it is.
#[track_caller]
fn refused_image(name: &str, words: &[&str], image: Image) {
    refused(name, words, &[], move |r| honest(&image, r));
}

/// Serves a good image, but for what `change` makes of the answer for one of its parts.
fn lying(
    part: fn(&Image) -> &[u8],
    change: impl Fn(Answer) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let image = plain();
    move |request| {
        let answer = honest(&image, request);
        let digest = Digest::sha256(part(&image)).to_string();
        let manifest = part(&image) == image.manifest && request.path.contains("/manifests/");
        match manifest || request.path.contains(&digest) {
            true => change(answer),
            false => answer,
        }
    }
}

fn manifest(image: &Image) -> &[u8] {
    &image.manifest
}
fn config(image: &Image) -> &[u8] {
    &image.config
}
fn layer(image: &Image) -> &[u8] {
    &image.layers[0]
}

fn cut(mut answer: Answer, at: usize) -> Answer {
    answer.cut = at;
    answer
}

/// Without a length: the body ends with the connection.
fn unbounded(body: Vec<u8>) -> Answer {
    Answer {
        headers: format!("Content-Type: {MANIFEST}\r\n"),
        body,
        ..Answer::status(200, &[])
    }
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident => $body:expr;)+) => {
        $($(#[$doc])* #[test] fn $name() { $body })+
    };
}

// Truncated.
cases! {
    truncated_manifest => refused("cut-manifest", &["manifest", "broke off"], &[], lying(manifest, |a| cut(a, 100)));
    truncated_config => refused("cut-config", &["cannot get the configuration"], &[], lying(config, |a| cut(a, 10)));
    truncated_layer => refused("cut-layer", &["cannot take the layer"], &[], lying(layer, |a| cut(a, 700)));
    layer_of_no_byte => refused("cut-all", &["cannot take the layer"], &[], lying(layer, |a| cut(a, 0)));
    truncated_without_length => refused("cut-unbounded", &["cannot take the layer"], &[],
        lying(layer, |a| unbounded(a.body[..600].to_vec())));
    hung_up => refused("hung-up", &["no answer to GET"], &[], |_| Answer::hang_up());
    truncated_gzip => {
        let whole = gzip(&tar(&[("f", &[7; 9000])]));
        let short = whole[..whole.len() / 2].to_vec();
        let id = Digest::sha256(&tar(&[("f", &[7; 9000])])).to_string();
        refused_image("cut-gzip", &["cannot take the layer"], layered(&[(GZIP_LAYER, short, id)], ""));
    };
    truncated_tar => {
        let whole = tar(&[("f", &[7; 9000])]);
        refused_image("cut-tar", &["cannot take the layer"], image(whole[..3000].to_vec(), ""));
    };
}

// Oversized.
cases! {
    oversized_manifest => refused("big-manifest", &["is longer than 4194304 bytes"], &[],
        |_| Answer::ok(MANIFEST, &vec![b' '; (4 << 20) + 1]));
    oversized_manifest_without_length => refused("big-unbounded", &["is longer than 4194304 bytes"], &[],
        |_| unbounded(vec![b' '; (4 << 20) + 1]));
    oversized_config => refused("big-config", &["in place of"], &[],
        lying(config, |a| Answer::ok("x", &[&a.body[..], b" "].concat())));
    oversized_layer => refused("big-layer", &["in place of"], &[],
        lying(layer, |a| Answer::ok("x", &[&a.body[..], b"more"].concat())));
    oversized_layer_without_length => refused("big-layer-unbounded", &["is longer than"], &[],
        lying(layer, |a| unbounded([&a.body[..], b"more"].concat())));
    a_config_that_says_it_is_huge => {
        let mut image = plain();
        let said = format!("\"size\":{}", image.config.len());
        image.manifest = replaced(&image.manifest, &said, "\"size\":99999999999");
        refused_image("huge-config", &["bytes, more than"], image);
    };
    a_size_that_no_number_holds => {
        let mut image = plain();
        let said = format!("\"size\":{}", image.config.len());
        image.manifest = replaced(&image.manifest, &said, "\"size\":99999999999999999999999");
        refused_image("size-overflow", &["cannot understand the manifest"], image);
    };
    a_negative_size => {
        let mut image = plain();
        let said = format!("\"size\":{}", image.config.len());
        image.manifest = replaced(&image.manifest, &said, "\"size\":-1");
        refused_image("size-negative", &["cannot understand the manifest"], image);
    };
    headers_without_end => refused("big-headers", &["no answer to GET"], &[],
        |_| Answer::status(200, &[("X-Long", &"y".repeat(1 << 20))]));
    a_page_of_tags_that_is_too_long => {
        let fence = Fence::new("big-page");
        let server = Server::new(|_| unbounded(vec![b' '; (16 << 20) + 1]));
        run_in(fence.store(), ["registry", "tags", &server.name("x")]).fails(1, &["is longer than"]);
    };
}

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

// Lies.
cases! {
    wrong_layer => refused("lie-layer", &["its digest is sha256:", "nothing of it was kept"], &[], lying(layer, |mut a| {
        a.body = tar(&[("greeting", b"HELLO\n")]);
        a
    }));
    wrong_config => refused("lie-config", &["is not what its descriptor says"], &[], lying(config, |mut a| {
        a.body[20] ^= 1;
        a
    }));
    shorter_layer => refused("lie-short", &["in place of"], &[],
        lying(layer, |a| Answer::ok("x", &a.body[..512])));
    wrong_manifest_by_digest => {
        let fence = Fence::new("lie-manifest");
        let image = plain();
        let server = Server::new(move |r| honest(&image, r));
        let other = Digest::sha256(b"another");
        let name = format!("{}@{other}", server.name("x"));
        run_in(fence.store(), ["pull", &name]).fails(1, &["the manifest has the digest", &other.to_string()]);
        fence.nothing_left();
    };
    wrong_digest_in_the_header => refused("lie-header", &["the manifest has the digest"], &[],
        lying(manifest, |a| a.with("Docker-Content-Digest", &Digest::sha256(b"x").to_string())));
    a_manifest_called_an_index => refused("lie-type", &["the registry calls the manifest", "two things"], &[],
        lying(manifest, |a| Answer::ok(INDEX, &a.body)));
    a_manifest_that_is_an_index_as_well => {
        let mut image = plain();
        image.manifest = replaced(&image.manifest, "\"layers\":", "\"manifests\":[],\"layers\":");
        refused_image("lie-both", &["but has manifests"], image);
    };
    wrong_diff_id => {
        let layer = tar(&[("f", b"x")]);
        let id = Digest::sha256(b"something else").to_string();
        refused_image("lie-diff-id", &["cannot take the layer", "diff id"], layered(&[(PLAIN_LAYER, layer, id)], ""));
    };
    more_layers_than_diff_ids => {
        let mut image = plain();
        let (was, now) = (image.config.clone(), replaced(&image.config, "[\"sha256", "[\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"sha256"));
        let line = |c: &[u8]| format!("\"digest\":\"{}\",\"size\":{}", Digest::sha256(c), c.len());
        image.manifest = replaced(&image.manifest, &line(&was), &line(&now));
        image.config = now;
        refused_image("lie-count", &["1 layers", "2 diff ids"], image);
    };
    a_layer_that_is_called_gzip_and_is_not => {
        // What it is called does not count: its bytes say what it is, and its digests hold.
        let layer = tar(&[("f", b"x")]);
        let id = Digest::sha256(&layer).to_string();
        let fence = Fence::new("lie-gzip");
        let image = layered(&[(GZIP_LAYER, layer, id)], "");
        let server = Server::new(move |r| honest(&image, r));
        fence.pull(&server, &[]).success();
    };
    a_range_that_was_not_asked_for => refused("lie-range", &["206"], &[],
        lying(layer, |a| Answer { status: 206, ..a }));
    another_range_than_asked_for => {
        let image = image(tar(&[("big", &[7; 90_000])]), "");
        refused("lie-range-start", &["was asked for the bytes from"], &[], move |r| {
            let answer = honest(&image, r);
            match (r.from(), r.path.contains(&Digest::sha256(&image.layers[0]).to_string())) {
                (Some(from), true) => Answer {
                    status: 206,
                    ..Answer::ok("x", &image.layers[0][from..])
                }.with("Content-Range", &format!("bytes {}-90000/90001", from - 1)),
                (None, true) => cut(answer, 5000),
                _ => answer,
            }
        });
    };
    an_index_that_lies_about_its_entry => {
        for (name, size, typ) in [("lie-entry-size", 1, MANIFEST), ("lie-entry-type", 0, INDEX)] {
            let image = plain();
            let size = image.manifest.len() + size;
            let entry = format!(r#"{{"mediaType":"{typ}","digest":"{}","size":{size}}}"#, Digest::sha256(&image.manifest));
            let top = index(&[entry]);
            refused(name, &["index"], &[], move |r| match r.path.ends_with("/latest") {
                true => Answer::ok(INDEX, &top),
                false => honest(&image, r),
            });
        }
    };
}

// Documents that are none.
cases! {
    no_json => refused("no-json", &["the manifest is no JSON"], &[], |_| Answer::ok(MANIFEST, b"<html>"));
    an_empty_answer => refused("empty", &["the manifest is no JSON"], &[], |_| Answer::ok(MANIFEST, b""));
    no_object => refused("no-object", &["cannot understand the manifest"], &[], |_| Answer::ok(MANIFEST, b"[1]"));
    deeply_nested => refused("deep-json", &["the manifest is no JSON"], &[],
        |_| Answer::ok(MANIFEST, "[".repeat(100_000).as_bytes()));
    a_page_for_people => refused("html", &["is answered with 502"], &[], |_| Answer {
        status: 502,
        ..Answer::ok("text/html", b"<html>Bad gateway</html>")
    });
    no_content => refused("no-content", &["is answered with 204"], &[], |_| Answer::status(204, &[]));
    schema_one => refused("schema-1", &["schema 1", "deprecated"], &[],
        |_| Answer::ok("application/vnd.docker.distribution.manifest.v1+prettyjws", br#"{"schemaVersion":1}"#));
    an_artifact => {
        let mut image = plain();
        image.manifest = replaced(&image.manifest, "image.config.v1", "other.config.v1");
        refused_image("artifact", &["no image but an artifact", "registry copy"], image);
    };
    a_layer_of_an_unknown_type => {
        let layer = tar(&[("f", b"x")]);
        let id = Digest::sha256(&layer).to_string();
        refused_image("layer-type", &["is of an unknown type"], layered(&[("application/x-encrypted", layer, id)], ""));
    };
    digests_that_are_paths => {
        for (name, digest) in [
            ("digest-path", "sha256:../../../../../../../../escaped"),
            ("digest-absolute", "sha256:/escaped0000000000000000000000000000000000000000000000000000000"),
            ("digest-short", "sha256:abc"),
            ("digest-unknown", "md5:0123456789abcdef0123456789abcdef"),
            ("digest-upper", "sha256:ABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCDEFABCD"),
        ] {
            let mut image = plain();
            let own = Digest::sha256(&image.layers[0]).to_string();
            image.manifest = replaced(&image.manifest, &own, digest);
            refused_image(name, &["cannot understand the manifest"], image);
        }
    };
    indexes_without_end => {
        // Each leads to the next; a circle cannot be made of digests.
        let mut chain = vec![plain().manifest];
        for _ in 0..6 {
            let typ = if chain.len() == 1 { MANIFEST } else { INDEX };
            let below = chain.last().unwrap();
            chain.push(index(&[descriptor(typ, below, "")]));
        }
        refused("deep-index", &["nested more than three deep"], &[], move |r| {
            let found = chain.iter().find(|d| r.path.contains(&Digest::sha256(d).to_string()));
            Answer::ok(INDEX, found.unwrap_or(chain.last().unwrap()))
        });
    };
    an_index_of_nothing => refused("empty-index", &["is not there for"], &[], |_| Answer::ok(INDEX, &index(&[])));
}

// Redirects.
cases! {
    redirects_in_a_circle => refused("circle", &["was redirected more than 10 times"], &[],
        |r| Answer::status(307, &[("Location", &r.path)]));
    redirects_that_grow => refused("growing", &["was redirected more than 10 times"], &[],
        |r| Answer::status(302, &[("Location", &format!("{}x", r.path))]));
    redirect_to_a_file => refused("to-file", &["is not HTTP"], &[],
        |_| Answer::status(307, &[("Location", "file:///etc/passwd")]));
    redirect_to_nonsense => refused("to-nonsense", &["GET"], &[],
        |_| Answer::status(307, &[("Location", "http://[::/")]));
    redirect_to_nowhere => refused("to-nowhere", &["is answered with 307"], &[], |_| Answer::status(307, &[]));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

// Bombs.
cases! {
    a_bomb_of_each_kind_is_bounded => {
        let layer = tar(&[("zeros", &vec![0; 30_000_000])]);
        let id = Digest::sha256(&layer).to_string();
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        for (name, typ, blob) in [
            ("bomb-plain", PLAIN_LAYER, layer.clone()),
            ("bomb-gzip", GZIP_LAYER, gzip(&layer)),
            ("bomb-zstd", zstd, zstd::encode_all(&layer[..], 3).unwrap()),
        ] {
            let image = layered(&[(typ, blob, id.clone())], "");
            refused(name, &["more than 1000000 bytes", "decompression bomb", "--max-layer-size"],
                &["--max-layer-size", "1000000"], move |r| honest(&image, r));
        }
    };
    a_gzip_of_many_members_is_bounded => {
        let member = gzip(&vec![0; 1_000_000]);
        let blob = member.repeat(10);
        let id = Digest::sha256(&vec![0; 10_000_000]).to_string();
        let image = layered(&[(GZIP_LAYER, blob, id)], "");
        refused("bomb-members", &["more than 1000000 bytes"], &["--max-layer-size", "1000000"],
            move |r| honest(&image, r));
    };
}

/// Pulls an image of these entries, which must work, and returns where its only layer lies.
#[track_caller]
fn taken(fence: &Fence, layers: Vec<Vec<u8>>) -> Vec<PathBuf> {
    let layers: Vec<_> = layers
        .into_iter()
        .map(|l| {
            let id = Digest::sha256(&l).to_string();
            (PLAIN_LAYER, l, id)
        })
        .collect();
    let ids: Vec<Digest> = layers
        .iter()
        .map(|(_, _, id)| id.parse().unwrap())
        .collect();
    let image = layered(&layers, "");
    let server = Server::new(move |r| honest(&image, r));
    fence.pull(&server, &[]).success();
    run_in(fence.store(), ["image", "fsck"]).success();
    let chains = glassbox::spec::digest::chain_ids(&ids);
    let place = |c: &Digest| fence.store().join(format!("layers/{}/diff", c.hex()));
    chains.iter().map(place).collect()
}

/// A tar that `build` makes.
fn built(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn link(header: &mut tar::Header, kind: tar::EntryType, to: &str) {
    header.set_entry_type(kind);
    header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
}

// Tars.
cases! {
    a_path_that_climbs_out => refused_image("climb", &["leads out of the layer"],
        image(tar(&[("../../../../../../escaped", b"x")]), ""));
    a_path_that_climbs_out_in_the_middle => refused_image("climb-middle", &["leads out of the layer"],
        image(tar(&[("a/../../../../../../../escaped", b"x")]), ""));
    a_deletion_that_climbs_out => refused_image("climb-whiteout", &["leads out of the layer"],
        image(tar(&[("../../../.wh.oci", b"")]), ""));
    a_deletion_of_nothing => refused_image("bare-whiteout", &["cannot take the layer"],
        image(tar(&[("a/.wh.", b"")]), ""));
    a_deletion_of_the_parent => refused_image("whiteout-dots", &["cannot take the layer"],
        image(tar(&[("a/.wh...", b"")]), ""));
    an_absolute_path => {
        let fence = Fence::new("absolute");
        let path = format!("/{}", fence.root.tag());
        let layer = taken(&fence, vec![tar(&[(&path, b"inside")])]).remove(0);
        assert_eq!(std::fs::read(layer.join(&path[1..])).unwrap(), b"inside");
    };
    a_link_out_and_a_file_through_it => {
        let fence = Fence::new("through-link");
        let outside = fence.root.join("1/2/outside");
        std::fs::create_dir(&outside).unwrap();
        let target = outside.display().to_string();
        let layer = built(|b| {
            entry(b, "way", b"", |h| link(h, tar::EntryType::Symlink, &target));
            entry(b, "way/escaped", b"x", |_| {});
        });
        let image = image(layer, "");
        let server = Server::new(move |r| honest(&image, r));
        fence.pull(&server, &[]).fails(1, &["cannot apply way/escaped", "ENOENT"]);
        fence.nothing_left();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    };
    a_link_in_one_layer_and_a_file_through_it_in_the_next => {
        let fence = Fence::new("through-layers");
        let outside = fence.root.join("1/2/outside");
        std::fs::create_dir(&outside).unwrap();
        let target = outside.display().to_string();
        let first = built(|b| entry(b, "way", b"", |h| link(h, tar::EntryType::Symlink, &target)));
        let second = tar(&[("way/escaped", b"x"), ("way/.wh.gone", b"")]);
        let before = std::fs::metadata(&outside).unwrap();
        taken(&fence, vec![first, second]);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        use std::os::unix::fs::MetadataExt;
        let after = std::fs::metadata(&outside).unwrap();
        assert_eq!((before.mode(), before.mtime(), before.uid()), (after.mode(), after.mtime(), after.uid()));
    };
    a_hard_link_to_a_file_outside => {
        let layer = built(|b| entry(b, "stolen", b"", |h| link(h, tar::EntryType::Link, "../../../../../../../etc/passwd")));
        refused_image("hard-link", &["cannot take the layer"], image(layer, ""));
        let layer = built(|b| entry(b, "stolen", b"", |h| link(h, tar::EntryType::Link, "/etc/passwd")));
        refused_image("hard-link-absolute", &["cannot take the layer"], image(layer, ""));
    };
    a_hard_link_through_a_link_out => {
        let layer = built(|b| {
            entry(b, "etc", b"", |h| link(h, tar::EntryType::Symlink, "/etc"));
            entry(b, "stolen", b"", |h| link(h, tar::EntryType::Link, "etc/passwd"));
        });
        refused_image("hard-link-through", &["cannot take the layer"], image(layer, ""));
    };
    duplicate_entries => {
        let fence = Fence::new("duplicates");
        let layer = built(|b| {
            entry(b, "twice", b"first", |_| {});
            entry(b, "twice", b"second", |_| {});
            entry(b, "kind", b"file", |_| {});
            entry(b, "kind", b"", |h| link(h, tar::EntryType::Symlink, "twice"));
            entry(b, "kind", b"third", |_| {});
        });
        let layer = taken(&fence, vec![layer]).remove(0);
        assert_eq!(std::fs::read(layer.join("twice")).unwrap(), b"second");
        // The link was replaced, not followed.
        assert_eq!(std::fs::read(layer.join("kind")).unwrap(), b"third");
        assert!(!layer.join("kind").is_symlink());
    };
    a_file_where_a_directory_must_be => refused_image("file-directory", &["cannot apply a/b", "ENOTDIR"],
        image(tar(&[("a", b"file"), ("a/b", b"below")]), ""));
    an_entry_without_a_name => refused_image("no-name", &["the layer is no valid tar"],
        image(tar(&[("", b"x"), ("f", b"y")]), ""));
    a_checksum_that_is_wrong => {
        let mut layer = tar(&[("f", b"x")]);
        layer[0] = b'g';
        refused_image("checksum", &["cannot take the layer"], image(layer, ""));
    };
    an_entry_that_says_it_is_huge => {
        let layer = built(|b| {
            entry(b, "f", b"x", |h| h.set_size(1 << 40));
        });
        refused_image("huge-entry", &["cannot take the layer"], image(layer, ""));
    };
}

#[test]
fn a_device_node_of_an_ordinary_user_is_left_out_and_told_of() {
    let fence = Fence::new("device");
    let layer = built(|b| {
        entry(b, "null", b"", |h| {
            h.set_entry_type(tar::EntryType::Char);
            h.set_device_major(1).unwrap();
            h.set_device_minor(3).unwrap();
        });
        entry(b, "disk", b"", |h| {
            h.set_entry_type(tar::EntryType::Block);
            h.set_device_major(8).unwrap();
            h.set_device_minor(0).unwrap();
        });
        entry(b, "f", b"x", |_| {});
    });
    let image = image(layer, "");
    let server = Server::new(move |r| honest(&image, r));
    let store = fence.root.join("store");
    let said = Run::new(["pull", &server.name("x")])
        .as_user()
        .env("GLASSBOX_ROOT", &store)
        .env("DOCKER_CONFIG", fence.root.join("docker"))
        .go()
        .success();
    said.out_has("left out what an ordinary user may not make: 2 device nodes");
    let layers = std::fs::read_dir(store.join("layers")).unwrap().flatten();
    let layer = layers.map(|l| l.path().join("diff")).next().unwrap();
    assert!(layer.join("f").exists());
    assert!(!layer.join("null").exists() && !layer.join("disk").exists());
}

#[test]
fn a_manifest_of_almost_four_megabytes_with_unknown_fields_is_kept_byte_for_byte() {
    let fence = Fence::new("large-manifest");
    let more = format!(
        r#","x-unknown":{{"a": [1,2]}},  "annotations":{{"pad":"{}"}}"#,
        "p".repeat(3_900_000)
    );
    let large = image(tar(&[("f", b"x")]), &more);
    let served = large.clone();
    let server = Server::new(move |r| honest(&served, r));
    fence
        .pull(&server, &[])
        .success()
        .out_has("Downloaded newer image");
    let digest = Digest::sha256(&large.manifest);
    let kept = fence
        .store()
        .join(format!("oci/blobs/sha256/{}", digest.hex()));
    assert_eq!(std::fs::read(kept).unwrap(), large.manifest);
    fence
        .pull(&server, &[])
        .success()
        .out_has("Image is up to date");
}

#[test]
fn unknown_fields_are_passed_over_and_kept() {
    let fence = Fence::new("unknown-fields");
    let mut odd = image(
        tar(&[("f", b"x")]),
        r#","x-new":[{"a":null}],"layerz":"no list""#,
    );
    odd.manifest = replaced(&odd.manifest, r#"{"mediaType""#, r#"{"x":[],"mediaType""#);
    let (served, digest) = (odd.clone(), Digest::sha256(&odd.manifest));
    let server = Server::new(move |r| honest(&served, r));
    fence.pull(&server, &[]).success();
    let kept = fence.store().join("oci/blobs/sha256").join(digest.hex());
    assert_eq!(std::fs::read(kept).unwrap(), odd.manifest);
}
