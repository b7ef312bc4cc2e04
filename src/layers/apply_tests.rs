//! Tests of `apply.rs`: nothing leads out, deletions, replacements.

use super::*;

type Build<'a> = &'a dyn Fn(&mut tar::Builder<Vec<u8>>);

fn layer(build: Build<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn put(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, path: &str, text: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    // Written raw: the crate itself refuses hostile paths.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    let content = if kind.is_file() { text } else { "" };
    if !kind.is_file() && !text.is_empty() {
        header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
    }
    header.set_size(content.len() as u64);
    header.set_cksum();
    builder.append(&header, content.as_bytes()).unwrap();
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;
const HARD: tar::EntryType = tar::EntryType::Link;

#[test]
fn nothing_is_written_outside() {
    let around = tempfile::tempdir().unwrap();
    let inside = around.path().join("inside");
    let hostile: [(&str, Build<'_>); 6] = [
        ("dot dot", &|b| put(b, FILE, "../escaped", "x")),
        ("deep dot dot", &|b| put(b, FILE, "a/../../escaped", "x")),
        ("absolute", &|b| put(b, FILE, "/../escaped", "x")),
        ("through a link", &|b| {
            put(b, LINK, "out", "..");
            put(b, FILE, "out/escaped", "x");
        }),
        ("through an absolute link", &|b| {
            put(b, LINK, "out", "/tmp");
            put(b, FILE, "out/escaped-by-link", "x");
        }),
        ("a hard link", &|b| put(b, HARD, "mine", "../secret")),
    ];
    std::fs::write(around.path().join("secret"), "s").unwrap();
    for (name, build) in hostile {
        std::fs::create_dir(&inside).unwrap();
        let _ = apply(&layer(build)[..], &inside, Target::Plain);
        let mut names: Vec<_> = std::fs::read_dir(around.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["inside", "secret"], "{name}");
        assert!(!Path::new("/tmp/escaped-by-link").exists(), "{name}");
        std::fs::remove_dir_all(&inside).unwrap();
    }
}

#[test]
fn deletions_delete_in_a_plain_tree_and_are_kept_for_an_overlay() {
    let lower = layer(&|b| {
        put(b, DIR, "d", "");
        put(b, FILE, "d/old", "1");
        put(b, FILE, "gone", "1");
    });
    let upper = layer(&|b| {
        put(b, FILE, ".wh.gone", "");
        put(b, FILE, "d/new", "2");
        put(b, FILE, "d/.wh..wh..opq", "");
    });
    let plain = tempfile::tempdir().unwrap();
    apply(&lower[..], plain.path(), Target::Plain).unwrap();
    apply(&upper[..], plain.path(), Target::Plain).unwrap();
    assert!(!plain.path().join("gone").exists());
    assert!(!plain.path().join("d/old").exists());
    assert!(
        plain.path().join("d/new").exists(),
        "a layer's own files stay"
    );
    let overlay = tempfile::tempdir().unwrap();
    apply(&upper[..], overlay.path(), Target::Overlay).unwrap();
    let gone = std::fs::symlink_metadata(overlay.path().join("gone")).unwrap();
    assert!(whiteout::is_whiteout(&gone));
    assert!(whiteout::is_opaque(&overlay.path().join("d")));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = layer(&|b| {
        put(b, FILE, "a", "first");
        put(b, FILE, "a", "second");
        put(b, DIR, "b", "");
        put(b, FILE, "b/inner", "x");
        put(b, LINK, "b", "a");
        put(b, HARD, "c", "a");
    });
    apply(&bytes[..], dir.path(), Target::Plain).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("a")).unwrap(),
        "second"
    );
    assert_eq!(
        std::fs::read_link(dir.path().join("b")).unwrap(),
        Path::new("a")
    );
    use std::os::unix::fs::MetadataExt;
    let meta = |n: &str| std::fs::symlink_metadata(dir.path().join(n)).unwrap();
    assert_eq!(meta("a").ino(), meta("c").ino());
    assert_eq!(meta("a").mtime(), 1_000_000_000);
    assert_eq!(meta("a").mode() & 0o7777, 0o640);
}

#[test]
fn a_directory_without_an_entry_is_as_the_one_below() {
    use std::os::unix::fs::MetadataExt;
    let base = layer(&|b| put(b, DIR, "tmp", ""));
    let top = layer(&|b| put(b, FILE, "tmp/sub/file", "x"));
    let (below, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    apply_over(&base[..], u64::MAX, below.path(), &[]).unwrap();
    std::fs::set_permissions(
        below.path().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    let stack = [below.path().to_path_buf()];
    apply_over(&top[..], u64::MAX, above.path(), &stack).unwrap();
    let of = |path: &str| {
        let meta = above.path().join(path).metadata().unwrap();
        (meta.mode() & 0o7777, meta.mtime())
    };
    assert_eq!(of("tmp"), (0o1777, 1_000_000_000));
    assert_eq!(of("tmp/sub"), (0o755, 0));
    assert_eq!(of(""), (0o755, 0), "the root, too");
}

#[test]
fn a_layers_deletions_spare_what_it_made_in_whatever_order() {
    let lower = layer(&|b| {
        put(b, FILE, "d/old", "1");
        put(b, FILE, "d/sub/old", "1");
    });
    let orders: [(&str, Build<'_>); 5] = [
        ("opaque last", &|b| {
            put(b, DIR, "d", "");
            put(b, DIR, "d/sub", "");
            put(b, FILE, "d/sub/new", "2");
            put(b, FILE, "d/.wh..wh..opq", "");
        }),
        ("opaque last, no entries for directories", &|b| {
            put(b, FILE, "d/sub/new", "2");
            put(b, FILE, "d/.wh..wh..opq", "");
        }),
        ("deleted last", &|b| {
            put(b, DIR, "d", "");
            put(b, FILE, "d/sub/new", "2");
            put(b, FILE, ".wh.d", "");
        }),
        ("deleted last, no entries for directories", &|b| {
            put(b, FILE, "d/sub/new", "2");
            put(b, FILE, ".wh.d", "");
        }),
        ("deleted first, no entries for directories", &|b| {
            put(b, FILE, ".wh.d", "");
            put(b, FILE, "d/sub/new", "2");
        }),
    ];
    for (name, build) in orders {
        let bytes = layer(build);
        let plain = tempfile::tempdir().unwrap();
        apply(&lower[..], plain.path(), Target::Plain).unwrap();
        apply(&bytes[..], plain.path(), Target::Plain).expect(name);
        let there = |path: &str| plain.path().join(path).exists();
        assert!(there("d/sub/new"), "{name}: its own file is gone");
        assert!(
            !there("d/old") && !there("d/sub/old"),
            "{name}: the old is still there"
        );
        let overlay = tempfile::tempdir().unwrap();
        apply(&bytes[..], overlay.path(), Target::Overlay).expect(name);
        assert!(overlay.path().join("d/sub/new").is_file(), "{name}");
        assert!(whiteout::is_opaque(&overlay.path().join("d")), "{name}");
    }
}

#[test]
fn a_directorys_entry_says_all_of_its_attributes() {
    let dir = tempfile::tempdir().unwrap();
    let with = |attributes: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for path in ["./", "d/"] {
            builder
                .append_pax_extensions(attributes.iter().copied())
                .unwrap();
            put(&mut builder, DIR, path, "");
        }
        put(&mut builder, FILE, "d/f", "x");
        builder.into_inner().unwrap()
    };
    // user::rwx user:1000:rwx group::r-x mask::rwx other::r-x, as acl(5) and the kernel have it.
    let entries: [(u16, u16, u32); 5] = [
        (1, 7, u32::MAX),
        (2, 7, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 5, u32::MAX),
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    const DEFAULT_ACL: &str = "system.posix_acl_default";
    let key = format!("SCHILY.xattr.{DEFAULT_ACL}");
    let first = with(&[("SCHILY.xattr.user.a", b"1"), (&key, &list)]);
    let left_out = apply(&first[..], dir.path(), Target::Plain).unwrap();
    if left_out.xattrs > 0 {
        return; // a file system without them, where the rest says nothing
    }
    let names = |path: &str| xattr::llistxattr(&dir.path().join(path)).unwrap();
    for path in ["", "d"] {
        assert!(names(path).contains(&b"user.a".to_vec()), "{path:?}");
        assert!(
            names(path).contains(&DEFAULT_ACL.as_bytes().to_vec()),
            "{path:?}"
        );
    }
    assert!(
        names("d/f").is_empty(),
        "inherited what its entry does not have"
    );
    let second = with(&[("SCHILY.xattr.user.b", b"2")]);
    apply(&second[..], dir.path(), Target::Plain).unwrap();
    for path in ["", "d"] {
        assert_eq!(names(path), [b"user.b".to_vec()], "{path:?}");
    }
}

#[test]
fn what_tar_and_aufs_write_into_layers_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = layer(&|b| {
        put(b, FILE, "a", "1");
        put(b, HARD, "a", "a");
        put(b, DIR, ".wh..wh.plnk", "");
        put(b, FILE, ".wh..wh.plnk/12.34", "shared");
        put(b, HARD, "b", ".wh..wh.plnk/12.34");
    });
    apply(&bytes[..], dir.path(), Target::Plain).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("a"), "1", "a link to itself");
    assert_eq!(read("b"), "shared");
    assert!(!dir.path().join(".wh..wh.plnk").exists());
}
