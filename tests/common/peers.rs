//! Other engines on our runtime: a place of their own to run in, an image for them, their output.
//!
//! What it does: [`Peers`] starts a process that holds a mount, a pid and a network namespace, and
//! runs commands in them. There /run is empty, so that no engine meets the host's; /dev/null is a
//! fresh node, because runc, crun and conmon change the owner of what they get as stdin; and on a
//! host with cgroup v1 the v1 hierarchies alone are mounted, because these engines take a host with
//! both for a broken v2 one. When the holder is killed, the kernel kills what is left in there.
//!
//! Interface: [`Peers`], [`documented`]. Read next: `tests/interop_podman.rs`.

use super::{LeakCheck, Output, Run, TempRoot, binary};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Makes the place; `$1` is the directory of the test.
const SET_UP: &str = r#"
mknod "$1/null" c 1 3 && chmod 666 "$1/null" && mount --bind "$1/null" /dev/null
mount -t tmpfs -o mode=755 tmpfs /run
[ ! -d /var/lib/containers ] || mount -t tmpfs tmpfs /var/lib/containers
ip link set lo up
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    # containerd reads metrics of all hierarchies that /proc/self/cgroup names, mounted or not.
    ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    mkdir "$1/cgroup"
    mount -t tmpfs cgroup "$1/cgroup"
    for place in /sys/fs/cgroup/*; do
        mountpoint -q "$place" || continue
        mkdir "$1/cgroup/${place##*/}"
        mount --bind "$place" "$1/cgroup/${place##*/}"
    done
    for set in $(cut -d : -f 2 /proc/self/cgroup); do
        case $set in *=*) continue ;; esac
        mountpoint -q "$1/cgroup/$set" && continue
        mkdir "$1/cgroup/$set" && mount -t cgroup -o "$set" cgroup "$1/cgroup/$set"
    done
    mount --rbind "$1/cgroup" /sys/fs/cgroup
fi
: > "$1/ready"
exec sleep 600
"#;

/// Namespaces in which engines run, and what they share.
pub struct Peers {
    holder: Child,
    inside: i32,
    /// The name of the image, as engines know it.
    pub image: &'static str,
    /// A cgroup that holds all of this test's.
    pub group: String,
    variables: Vec<(String, String)>,
    // Dropped in this order: the check sees what the holder's end left.
    _leaks: LeakCheck,
    /// The test's directory.
    pub root: TempRoot,
}

impl Peers {
    /// The place, made.
    pub fn new(name: &str) -> Peers {
        let root = TempRoot::new(name);
        let leaks = LeakCheck::new(&root);
        std::os::unix::fs::symlink(binary(), root.join("glassbox-runtime")).expect("symlink");
        let command = [
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ];
        let holder = Command::new("unshare")
            .args(command)
            .args(["--propagation", "private", "sh", "-eu", "-c", SET_UP, "sh"])
            .arg(root.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare starts");
        let mut peers = Peers {
            inside: 0,
            image: "localhost/box:latest",
            group: format!("/{}", root.tag()),
            variables: Vec::new(),
            _leaks: leaks,
            holder,
            root,
        };
        peers.wait_for("the namespaces", |p| {
            assert!(
                p.holder.try_wait().expect("our child").is_none(),
                "the set-up failed"
            );
            p.root.join("ready").exists()
        });
        let pid = peers.holder.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        peers.inside = children
            .expect("its children")
            .trim()
            .parse()
            .expect("one child");
        box_image(&peers.root.join("box.tar"), peers.image, &["sh"]);
        peers
    }

    /// Our binary, by the name by which it is a runtime.
    pub fn runtime(&self) -> String {
        self.path("glassbox-runtime")
    }
    /// A path of that place, as seen from outside.
    pub fn inside(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.inside).into()
    }
    /// A path in the test's directory, as a word.
    pub fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }
    /// Sets an environment variable for all commands.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        seconds: u32,
        words: impl IntoIterator<Item = S>,
    ) -> Vec<std::ffi::OsString> {
        let mut all: Vec<std::ffi::OsString> =
            vec!["-k".into(), "5".into(), seconds.to_string().into()];
        all.extend(["nsenter", "-m", "-n", "-p", "-t"].map(Into::into));
        all.push(self.inside.to_string().into());
        all.extend(words.into_iter().map(|w| w.as_ref().into()));
        all
    }

    /// Runs a command there, for a minute at most.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        let mut run = Run::other("timeout", self.command(60, words)).limit(Duration::from_secs(70));
        for (name, value) in &self.variables {
            run = run.env(name, value);
        }
        run.go()
    }

    /// Runs a command there on a terminal; stdout is what the terminal showed.
    pub fn on_terminal(&self, words: &[&str]) -> Output {
        let quoted: Vec<String> = words
            .iter()
            .map(|w| format!("'{}'", w.replace('\'', r"'\''")))
            .collect();
        self.run(["script", "-qec", &quoted.join(" "), "/dev/null"])
    }

    /// Starts a daemon there, its output in a file of this name.
    pub fn spawn(&self, log: &str, words: &[&str]) -> Child {
        let file = std::fs::File::create(self.root.join(log)).expect("a log");
        Command::new("timeout")
            .args(self.command(300, words))
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("dup"))
            .stderr(file)
            .spawn()
            .expect("it starts")
    }

    /// Waits up to 30 seconds.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Peers) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !done(self) {
            assert!(Instant::now() < until, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a file of the test's cgroups says, in any hierarchy, where it is as expected.
    pub fn limits(&self, file: &str) -> Vec<String> {
        let groups = self.groups();
        let texts = groups
            .iter()
            .filter_map(|g| std::fs::read_to_string(g.join(file)).ok());
        texts.map(|t| t.trim().to_string()).collect()
    }

    /// The test's cgroups on the host, deepest last.
    fn groups(&self) -> Vec<PathBuf> {
        let mut places = vec![PathBuf::from("/sys/fs/cgroup")];
        places.extend(below(Path::new("/sys/fs/cgroup")));
        let mut found: Vec<PathBuf> = places
            .iter()
            .map(|p| p.join(&self.group[1..]))
            .filter(|p| p.is_dir())
            .collect();
        let mut at = 0;
        while at < found.len() {
            let more = below(&found[at]);
            found.extend(more);
            at += 1;
        }
        found
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.holder.kill(); // --kill-child ends the rest
        let _ = self.holder.wait();
        // The engines leave the parent group that they were given; it empties as its processes die.
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let groups = self.groups();
            if groups.is_empty() {
                break;
            }
            for group in groups.iter().rev() {
                let _ = std::fs::remove_dir(group);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The block of the README that holds `marker`, which is what users copy, with our binary for the
/// installed one.
pub fn documented(marker: &str, runtime: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let mut blocks = readme.split("\n```").skip(1).step_by(2);
    let block = blocks.find(|b| b.contains(marker));
    let block = block.unwrap_or_else(|| panic!("README.md has no block with {marker}"));
    let (_, text) = block.split_once('\n').expect("lines");
    text.replace("/usr/local/bin/glassbox-runtime", runtime)
}

/// Writes an image of a static busybox, as `docker save` did it: every engine loads it.
pub fn box_image(to: &Path, name: &str, command: &[&str]) {
    const APPLETS: [&str; 14] = [
        "cat", "echo", "false", "head", "hostname", "id", "kill", "ls", "sh", "sleep", "test",
        "touch", "tr", "tty",
    ];
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    let mut layer = tar::Builder::new(Vec::new());
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        put(&mut layer, directory, tar::EntryType::Directory, &[]);
    }
    let program = std::fs::read(busybox.expect("busybox")).expect("busybox");
    put(&mut layer, "bin/busybox", tar::EntryType::Regular, &program);
    for applet in APPLETS {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("a link");
    }
    put(
        &mut layer,
        "etc/passwd",
        tar::EntryType::Regular,
        b"root:x:0:0::/:/bin/sh\n",
    );
    let layer = layer.into_inner().expect("the layer");
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": command},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    let file = format!("{}.json", digest(config.as_bytes()));
    let manifest =
        serde_json::json!([{"Config": file, "RepoTags": [name], "Layers": ["layer/layer.tar"]}]);
    let mut image = tar::Builder::new(std::fs::File::create(to).expect("the image"));
    put(
        &mut image,
        &file,
        tar::EntryType::Regular,
        config.as_bytes(),
    );
    put(
        &mut image,
        "layer/layer.tar",
        tar::EntryType::Regular,
        &layer,
    );
    put(
        &mut image,
        "manifest.json",
        tar::EntryType::Regular,
        manifest.to_string().as_bytes(),
    );
    image.finish().expect("the image");
}

fn put(
    archive: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    kind: tar::EntryType,
    content: &[u8],
) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, path, content)
        .expect("an entry");
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
