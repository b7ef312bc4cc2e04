//! Containers in namespaces that were not made for them: those of others, or the caller's.
//!
//! Read next: `runtime_operations.rs`; `src/runtime/shared.rs`, which is tested.

mod common;

use common::oci::Runtime;
use serde_json::json;
use std::process::Stdio;

const SLEEP: &str = "exec sleep 100";

/// A process with a mount namespace of its own, for a minute at most.
struct Mounts(std::process::Child);

impl Mounts {
    fn new() -> Mounts {
        let words = "-m --propagation private sh -c".split(' ');
        let mut child = std::process::Command::new("unshare")
            .args(words)
            .arg("echo up; exec sleep 60")
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = [0u8; 3];
        let out = child.stdout.as_mut().expect("piped");
        std::io::Read::read_exact(out, &mut line).expect("it is up");
        Mounts(child)
    }
    fn file(&self) -> String {
        format!("/proc/{}/ns/mnt", self.0.id())
    }
    fn all(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/mountinfo", self.0.id())).expect("mounts")
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_namespace_by_path_is_joined() {
    needs!("root", "unshare");
    let others = Mounts::new();
    let theirs = std::fs::read_link(others.file()).unwrap();
    let script = "readlink /proc/self/ns/mnt; ls /";
    let mut box_ = Runtime::new("joined", script);
    box_.bundle.linux()["namespaces"][0] = json!({"type": "mount", "path": others.file()});
    box_.write();
    let bundle = box_.bundle.root.path().display().to_string();
    let said = box_.run(&["run", "--bundle", &bundle]).ok();
    let mut lines = said.out.lines();
    assert_eq!(lines.next(), theirs.to_str());
    let root: Vec<&str> = lines.collect();
    assert!(root.contains(&"dev") && !root.contains(&"home"), "{root:?}");
    box_.nothing_left();
}

/// Mounts in a namespace that others live in stay when its last process has ended: somebody has to
/// take them back, after a failure as after the end, and nothing that is others'.
#[test]
fn mounts_among_those_of_others_are_taken_back() {
    needs!("root", "unshare");
    let others = Mounts::new();
    let mut box_ = Runtime::new("taken-back", SLEEP);
    box_.bundle.linux()["namespaces"][0] = json!({"type": "mount", "path": others.file()});
    box_.bundle.linux()["maskedPaths"] = json!(["/proc/keys", "/proc/interrupts"]);
    box_.bundle.linux()["readonlyPaths"] = json!(["/proc/sys"]);
    let before = others.all();
    box_.up();
    assert!(
        others.all().matches(&box_.id).count() > 4,
        "{}",
        others.all()
    );
    // Who is executed there later sees the container's files, not those of that namespace.
    let words = [
        "exec",
        &box_.id,
        "sh",
        "-c",
        "ls /; readlink /proc/self/ns/mnt",
    ];
    let said = box_.go(box_.command(&words)).ok().out;
    let theirs = std::fs::read_link(others.file()).unwrap();
    assert!(said.ends_with(&format!("{}\n", theirs.display())), "{said}");
    assert!(said.contains("dev\n") && !said.contains("home\n"), "{said}");
    let (steps, _) = box_.steps();
    box_.delete();
    assert_eq!(others.all(), before);
    for step in &steps {
        let said = box_.create_with(&[], &[("GLASSBOX_FAIL_STEP", step)]);
        said.fails("was told to fail");
        box_.nothing_left();
        assert_eq!(others.all(), before, "after {step}");
    }
    // What somebody else has mounted over it since is not ours to take.
    box_.up();
    let rootfs = box_.path("rootfs");
    let mount = |words: &[&str]| {
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--mount={}", others.file()))
            .args(words);
        assert!(command.arg(&rootfs).status().unwrap().success());
    };
    mount(&["mount", "-t", "tmpfs", "theirs"]);
    box_.delete();
    assert!(others.all().contains("theirs"), "{}", others.all());
    mount(&["umount", "-l"]);
    mount(&["umount", "-l"]);
    assert_eq!(others.all(), before);
}

/// A container that has no namespace of its own has a root of its own all the same, and so has what
/// is executed in it.
#[test]
fn exec_without_namespaces_sees_the_containers_root() {
    needs!("root", "busybox");
    let mut box_ = Runtime::new("no-namespaces", "");
    let program = box_.path("rootfs/tmp/busybox");
    std::fs::copy("/bin/busybox", &program).expect("busybox");
    box_.bundle.config.as_object_mut().unwrap().remove("linux");
    box_.bundle.config["mounts"] = json!([]);
    box_.bundle.process()["args"] = json!(["/tmp/busybox", "sleep", "100"]);
    box_.up();
    let words = ["exec", &box_.id, "/tmp/busybox", "ls", "/tmp"];
    let said = box_.go(box_.command(&words)).ok();
    assert_eq!(said.out, "busybox\n");
    box_.delete();
}
