//! The mounts of config.json: id-mapped, recursive, shared, in order, filled; and device nodes.
//!
//! What a test mounts on the host's side it mounts in a mount namespace of its own, around the maker.

mod common;

use common::bundle::Bundle;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, chown};

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    assert_eq!(Bundle::new("bundle", "echo here").ok(), "here");
}

/// A bundle with a directory `data` that holds a file of root's, and what is mounted at /data.
fn with_data(name: &str, script: &str, mount: Value) -> Bundle {
    let mut bundle = Bundle::new(name, script);
    let data = bundle.root.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "content").unwrap();
    let mut all = json!({"destination": "/data", "type": "bind", "source": "data"});
    for (key, value) in mount.as_object().unwrap() {
        all[key] = value.clone();
    }
    bundle.mount(all);
    bundle
}

/// `around` for a mount namespace of its own, with some commands in it first.
fn own_mounts(commands: &str) -> Option<String> {
    Some(format!(
        "unshare -m --propagation private sh -ec '{commands}\n\"$@\"' sh \"$@\""
    ))
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{"containerID": inside, "hostID": outside, "size": size}])
}

#[test]
fn an_id_mapped_mount_shows_other_owners() {
    needs!("root");
    let script = "stat -c %u:%g /data/file; touch /data/new 2>&1; stat -c %u:%g /data";
    let maps = json!({"uidMappings": map(0, 1000, 10), "gidMappings": map(0, 2000, 10),
        "options": ["bind", "idmap"]});
    let bundle = with_data("idmap", script, maps);
    let said = bundle.ok();
    assert!(
        said.starts_with("1000:2000\n") && said.ends_with("\n1000:2000"),
        "{said}"
    );
    // Root of the container is nobody there.
    assert!(said.contains("Value too large"), "{said}");
    let on_disk = std::fs::metadata(bundle.root.join("data/file")).unwrap();
    assert_eq!((on_disk.uid(), on_disk.gid()), (0, 0));
    // And the other way: what user 1000 makes is root's on the disk.
    let script = "setpriv --reuid 1000 --regid 2000 --clear-groups touch /data/theirs";
    let maps = json!({"uidMappings": map(0, 1000, 10), "gidMappings": map(0, 2000, 10)});
    let bundle = with_data("idmap-write", script, maps);
    bundle.ok();
    let made = std::fs::metadata(bundle.root.join("data/theirs")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0));
}

#[test]
fn without_a_map_of_its_own_a_mount_has_the_containers() {
    needs!("root");
    let script = "stat -c %u:%g /data/file";
    let mut bundle = with_data("idmap-user", script, json!({"options": ["bind"]}));
    bundle.user_namespace();
    assert_eq!(
        bundle.ok(),
        "65534:65534",
        "root of the host is nobody in there"
    );
    let mut bundle = with_data("idmap-user", script, json!({"options": ["bind", "idmap"]}));
    bundle.user_namespace();
    assert_eq!(bundle.ok(), "0:0");
}

#[test]
fn a_map_for_one_mount_or_for_all_below() {
    needs!("root");
    // Of the same file system, which can be id-mapped; not every kernel's tmpfs can.
    let below = "cd $GLASSBOX_TEST_BUNDLE; mkdir other; mount --bind other data/below";
    let script = "stat -c %u /data/file /data/below";
    for (option, owners) in [("idmap", "1000\n0"), ("ridmap", "1000\n1000")] {
        let maps = json!({"uidMappings": map(0, 1000, 10), "gidMappings": map(0, 1000, 10),
            "options": ["rbind", option]});
        let mut bundle = with_data("ridmap", script, maps);
        std::fs::create_dir(bundle.root.join("data/below")).unwrap();
        bundle.around = own_mounts(below);
        let ran = bundle.run();
        assert_eq!(
            (ran.code, ran.stdout.trim()),
            (0, owners),
            "{option}: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_map_that_cannot_be_is_refused() {
    needs!("root");
    let refused = |mount| with_data("idmap-wrong", "true", mount).refused();
    let none = refused(json!({"options": ["bind", "idmap"]}));
    assert!(none.contains("there is no map"), "{none}");
    let half = refused(json!({"uidMappings": map(0, 1, 1)}));
    assert!(half.contains("needs both"), "{half}");
    let fresh = json!({"type": "tmpfs", "source": "tmpfs", "options": ["idmap"]});
    let fresh = refused(fresh);
    assert!(fresh.contains("no bind mount"), "{fresh}");
    let proc = json!({"source": "/proc", "uidMappings": map(0, 1, 1), "gidMappings": map(0, 1, 1)});
    let proc = refused(proc);
    assert!(
        proc.contains("EINVAL") && proc.contains("cannot be id-mapped"),
        "{proc}"
    );
}

#[test]
fn attributes_of_one_mount_or_of_all_below() {
    needs!("root");
    let below = "mount -t tmpfs tmpfs $GLASSBOX_TEST_BUNDLE/data/below";
    let script = "for d in /data /data/below; do touch $d/x 2>/dev/null && echo rw || echo ro; done; \
        grep ' /data/below ' /proc/self/mountinfo | cut -d' ' -f6";
    for (options, writable, attribute) in [
        (json!(["rbind", "ro"]), "ro\nrw", "rw"),
        (json!(["rbind", "rro"]), "ro\nro", "ro"),
        (
            json!(["rbind", "rro", "rnoexec", "rnosymfollow"]),
            "ro\nro",
            "noexec",
        ),
        (
            json!(["rbind", "rnosuid", "rnodev", "rnoatime"]),
            "rw\nrw",
            "nosuid,nodev,noatime",
        ),
        (
            json!(["rbind", "rnosuid", "rsuid"]),
            "rw\nrw",
            "rw,relatime",
        ),
    ] {
        let mut bundle = with_data("rro", script, json!({"options": options}));
        std::fs::create_dir(bundle.root.join("data/below")).unwrap();
        bundle.around = own_mounts(below);
        let ran = bundle.run();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.starts_with(writable),
            "{options}: {}",
            ran.stdout
        );
        assert!(ran.stdout.contains(attribute), "{options}: {}", ran.stdout);
    }
}

/// Each on a mount of its own; what needs a source is tested by itself.
#[test]
fn every_option_that_is_announced_is_taken() {
    needs!("root");
    let host = glassbox::host::Host::detect().expect("this host");
    let announced = glassbox::runtime::features(&host).mount_options;
    let mut announced = announced.expect("options");
    // What a fresh tmpfs cannot have.
    let others = ["bind", "rbind", "remount", "copyup", "idmap", "ridmap"];
    announced.retain(|o| !others.contains(&o.as_str()));
    let script = "cut -d' ' -f5 /proc/self/mountinfo | grep -c ^/tmp/; grep ' /tmp/sync ' /proc/self/mountinfo";
    let mut bundle = Bundle::new("announced", script);
    for option in &announced {
        bundle.mount(
            json!({"destination": format!("/tmp/{option}"), "type": "tmpfs",
            "source": "tmpfs", "options": [option]}),
        );
    }
    let ran = bundle.run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (count, sync) = ran.stdout.split_once('\n').expect("two lines");
    assert_eq!(count, announced.len().to_string());
    assert!(sync.contains("rw,sync"), "{sync}");
}

/// The optional fields of a mount in mountinfo: `shared:1 master:2`.
const PROPAGATION: &str =
    "grep ' /data ' /proc/self/mountinfo | sed -e 's/ - .*//' -e 's/:[0-9]*//g' | cut -d' ' -f7-";

#[test]
fn each_propagation_of_a_mount() {
    needs!("root");
    let share = "mount --bind $GLASSBOX_TEST_BUNDLE/data $GLASSBOX_TEST_BUNDLE/data; \
        mount --make-shared $GLASSBOX_TEST_BUNDLE/data";
    for (option, fields) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
        // Shared in there, and still the host's slave: see the next test for more.
        ("shared", "shared master"),
    ] {
        let options = json!({"options": ["rbind", option]});
        let mut bundle = with_data("propagation", PROPAGATION, options);
        bundle.around = own_mounts(share);
        let ran = bundle.run();
        assert_eq!(
            (ran.code, ran.stdout.trim()),
            (0, fields),
            "{option}: {}",
            ran.stderr
        );
    }
}

#[test]
fn a_mount_that_is_shared_with_the_host() {
    needs!("root");
    let script = "mount -t tmpfs -o size=64k tmpfs /data/sub && echo mounted";
    let share = "cd $GLASSBOX_TEST_BUNDLE; mount --bind data data; mount --make-shared data";
    let seen = "grep -c /data/sub /proc/self/mountinfo || true; grep -c rootfs /proc/self/mountinfo || true";
    // Twice: the bind mount and what it was bound from are one group.
    for (whole, count) in [("shared", "2\n0"), ("slave", "0\n0"), ("rshared", "2\n0")] {
        let options = json!({"options": ["rbind", "rshared"]});
        let mut bundle = with_data("shared", script, options);
        std::fs::create_dir(bundle.root.join("data/sub")).unwrap();
        bundle.linux()["rootfsPropagation"] = json!(whole);
        // The whole host is shared, as under systemd: nothing else may appear there.
        bundle.around = Some(format!(
            "unshare -m --propagation private sh -ec 'mount --make-rshared /\n{share}\n\"$@\" >&2\n{seen}' sh \"$@\""
        ));
        let ran = bundle.run();
        assert_eq!(
            (ran.code, ran.stdout.trim()),
            (0, "mounted"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.around.trim(), count, "{whole}");
    }
}

#[test]
fn the_propagation_of_the_root() {
    needs!("root");
    let script = "grep ' / rw' /proc/self/mountinfo | sed -e 's/ - .*//' -e 's/:[0-9]*//g' | cut -d' ' -f7-; \
        mkdir /tmp/copy && mount --bind / /tmp/copy 2>/dev/null && echo bound || echo unbindable";
    let share = "cd $GLASSBOX_TEST_BUNDLE; mount --bind . .; mount --make-shared .";
    for (word, fields) in [
        ("private", "\nbound"),
        ("slave", "master\nbound"),
        ("shared", "shared\nbound"),
        ("rshared", "shared\nbound"),
        ("unbindable", "unbindable\nunbindable"),
    ] {
        let mut bundle = Bundle::new("root-propagation", script);
        bundle.linux()["rootfsPropagation"] = json!(word);
        bundle.around = own_mounts(share);
        let ran = bundle.run();
        assert_eq!(
            (ran.code, ran.stdout.trim_end()),
            (0, fields),
            "{word}: {}",
            ran.stderr
        );
    }
    let mut bundle = Bundle::new("root-propagation", "true");
    bundle.linux()["rootfsPropagation"] = json!("odd");
    assert!(bundle.refused().contains("rootfsPropagation"));
}

#[test]
fn mounts_are_made_in_their_order() {
    needs!("root");
    let tmpfs = |place: &str, mode: &str| {
        json!({"destination": place, "type": "tmpfs", "source": "tmpfs",
            "options": [format!("mode={mode}"), "size=64k"]})
    };
    // A later mount lies below an earlier one, or over it; /b is made inside what covers /a.
    let script = "stat -c %a /a /a/b /a/b/c /over; cat /over/file 2>&1; grep -c ' /over ' /proc/self/mountinfo";
    let mut bundle = Bundle::new("order", script);
    for mount in [
        tmpfs("/a", "700"),
        tmpfs("/a/b", "710"),
        tmpfs("/a/b/c", "711"),
        json!({"destination": "/over", "type": "bind", "source": "data", "options": ["bind"]}),
        tmpfs("/over", "701"),
    ] {
        bundle.mount(mount);
    }
    std::fs::create_dir(bundle.root.join("data")).unwrap();
    std::fs::write(bundle.root.join("data/file"), "covered").unwrap();
    let said = bundle.ok();
    assert!(said.starts_with("700\n710\n711\n701\n"), "{said}");
    assert!(
        said.contains("No such file") && said.ends_with("\n2"),
        "{said}"
    );
}

#[test]
fn a_remount_gives_other_options_to_what_is_mounted() {
    needs!("root");
    // What `cut` takes: the mount's own options, and those of its file system.
    let script =
        "grep ' /there ' /proc/self/mountinfo | cut -d' ' -f6,10- | sed 's/[a-z]* - [a-z]* //'";
    let there = |name: &str, remount: Value| {
        let mut bundle = Bundle::new(name, script);
        bundle.mount(
            json!({"destination": "/there", "type": "tmpfs", "source": "first",
            "options": ["nosuid", "noatime", "size=2m"]}),
        );
        let mut all = json!({"destination": "/there", "type": "tmpfs", "source": "second"});
        for (key, value) in remount.as_object().unwrap() {
            all[key] = value.clone();
        }
        bundle.mount(all);
        bundle
    };
    // All attributes are those of the second entry, but the access times, of which it says nothing.
    let said = there("remount", json!({"options": ["remount", "ro", "size=1m"]})).ok();
    assert!(
        said.starts_with("ro,noatime ") && said.contains("size=1024k"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "one mount: {said}");
    // A bind has no options of a file system.
    let bind = json!({"type": "bind", "source": "/tmp", "options": ["bind", "remount", "noexec", "relatime"]});
    let said = there("remount-bind", bind).ok();
    assert!(
        said.starts_with("rw,noexec,relatime ") && said.contains("size=2048k"),
        "{said}"
    );
    // Nor is a type needed.
    let said = there(
        "remount-type",
        json!({"type": "", "options": ["remount", "nodev"]}),
    )
    .ok();
    assert!(said.starts_with("rw,nodev,noatime "), "{said}");
}

#[test]
fn a_remount_of_what_is_no_mount_is_refused() {
    needs!("root");
    let refused = |destination: &str, options: Value| {
        let mut bundle = Bundle::new("remount-wrong", "true");
        let mount = json!({"destination": destination, "type": "tmpfs", "source": "tmpfs"});
        bundle.mount(mount.clone());
        let mut again = mount;
        again["options"] = options;
        (again["destination"], again["type"]) = (json!("/tmp"), json!("tmpfs"));
        bundle.mount(again);
        bundle.refused()
    };
    for options in [json!(["remount", "ro"]), json!(["remount", "size=1m"])] {
        let said = refused("/other", options);
        let named = said.contains("cannot remount /tmp") && said.contains("EINVAL");
        assert!(named && said.contains("an entry before this one"), "{said}");
    }
    let said = refused("/tmp", json!(["remount", "mode=banana"]));
    assert!(
        said.contains("cannot remount /tmp") && said.contains("mode"),
        "{said}"
    );
    let said = refused("/tmp", json!(["remount", "tmpcopyup"]));
    assert!(said.contains("contradict each other"), "{said}");
}

#[test]
fn a_tmpfs_that_begins_with_what_lay_there() {
    needs!("root");
    let script = "cd /etc; stat -c '%a %u:%g %n' file tool dir dir/below; readlink link; cat file; \
        stat -c %F pipe; touch new";
    let mut bundle = Bundle::new("copy-up", script);
    let etc = bundle.root.join("rootfs/etc");
    std::fs::create_dir_all(etc.join("dir")).unwrap();
    for (name, mode) in [
        ("file", 0o646),
        ("tool", 0o4755),
        ("dir/below", 0o600),
        ("dir", 0o1777),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let path = etc.join(name);
        if name != "dir" {
            std::fs::write(&path, name).unwrap();
        }
        chown(&path, Some(5), Some(6)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink("file", etc.join("link")).unwrap();
    nix::unistd::mkfifo(&etc.join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    bundle.mount(
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
        "options": ["tmpcopyup", "size=1m"]}),
    );
    assert_eq!(
        bundle.ok(),
        "646 5:6 file\n4755 5:6 tool\n1777 5:6 dir\n600 5:6 dir/below\nfile\nfilefifo"
    );
    assert!(!etc.join("new").exists(), "the image stays as it was");
}

#[test]
fn devices_of_every_type() {
    needs!("root");
    let script = "stat -c '%F %t:%T %a %u:%g' /dev/full2 /dev/u /dev/loop9 /run/pipe /dev/null";
    let mut bundle = Bundle::new("devices", script);
    bundle.linux()["devices"] = json!([
        {"type": "c", "path": "/dev/full2", "major": 1, "minor": 7, "fileMode": 0o640,
            "uid": 3, "gid": 4},
        {"type": "u", "path": "/dev/u", "major": 1, "minor": 5},
        {"type": "b", "path": "/dev/loop9", "major": 7, "minor": 9, "fileMode": 0o600},
        {"type": "p", "path": "/run/pipe", "fileMode": 0o622, "uid": 1, "gid": 1},
        {"type": "c", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 0o600},
    ]);
    assert_eq!(
        bundle.ok(),
        "character special file 1:7 640 3:4\ncharacter special file 1:5 666 0:0\n\
         block special file 7:9 600 0:0\nfifo 0:0 622 1:1\ncharacter special file 1:3 600 0:0"
    );
    for (device, why) in [
        (
            json!({"type": "x", "path": "/dev/x"}),
            "no type of a device",
        ),
        (
            json!({"type": "c", "path": "dev/x", "major": 1, "minor": 1}),
            "not absolute",
        ),
        // There is a directory already.
        (
            json!({"type": "c", "path": "/tmp", "major": 1, "minor": 1}),
            "something else",
        ),
    ] {
        bundle.linux()["devices"] = json!([device]);
        let refused = bundle.refused();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn in_a_user_namespace_a_device_is_the_hosts_node() {
    needs!("root");
    let mut bundle = Bundle::new(
        "device-user",
        "stat -c '%t:%T' /dev/null /dev/zero; echo x > /dev/null",
    );
    bundle.user_namespace();
    assert_eq!(bundle.ok(), "1:3\n1:5");
    bundle.linux()["devices"] = json!([{"type": "c", "path": "/dev/zero", "major": 1, "minor": 8}]);
    let refused = bundle.refused();
    assert!(refused.contains("is not c 1:8"), "{refused}");
}
