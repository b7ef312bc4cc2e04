//! containerd runs containers with our runtime: `ctr run` through its runc shim.
//!
//! Host only: the virtual machine has no containerd.
//!
//! Read next: `tests/common/peers.rs`.

mod common;

use common::Output;
use common::peers::{Peers, documented};
use std::process::Child;

struct Containerd {
    daemon: Child,
    peers: Peers,
}

impl Containerd {
    fn new(name: &str) -> Containerd {
        let peers = Peers::new(name);
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"/run/c/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = \"/run/c.sock\"\n",
            peers.path("containerd")
        );
        let config = peers.root.write("config.toml", config);
        let daemon = peers.spawn("log", &["containerd", "-c", &config.display().to_string()]);
        let mut containerd = Containerd { daemon, peers };
        containerd.wait_for_its_answer();
        containerd
            .ctr(&["image", "import", &containerd.peers.path("box.tar")])
            .success();
        containerd
    }
    fn wait_for_its_answer(&mut self) {
        common::cgroup::wait_for("containerd's answer", || {
            let ended = self.daemon.try_wait().expect("our child");
            assert!(ended.is_none(), "containerd ended: {}", self.log());
            self.ctr(&["version"]).code() == 0
        });
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.peers.root.join("log")).unwrap_or_default()
    }
    fn words<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        [&["ctr", "-a", "/run/c.sock"], args].concat()
    }
    fn ctr(&self, args: &[&str]) -> Output {
        self.peers.run(self.words(args))
    }
    /// The options of `ctr run` for a container `id` on our runtime.
    fn on_ours(&self, id: &str) -> [String; 4] {
        let group = format!("{}/{id}", self.peers.group);
        [
            "--runc-binary".into(),
            self.peers.runtime(),
            "--cgroup".into(),
            group,
        ]
    }
    fn run(&self, options: &[&str], id: &str, args: &[&str]) -> Output {
        let ours = self.on_ours(id);
        let ours = ours.each_ref().map(String::as_str);
        self.ctr(&[&["run"], options, &ours, &[self.peers.image, id], args].concat())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.daemon.kill(); // the holder's end takes what it leaves
        let _ = self.daemon.wait();
    }
}

#[test]
fn ctr_runs_containers_on_it() {
    needs!(
        "root",
        "containerd",
        "ctr",
        "containerd-shim-runc-v2",
        "nsenter",
        "busybox",
        "script"
    );
    let containerd = Containerd::new("containerd");
    let image = containerd.peers.image;
    containerd
        .run(&["--rm"], "x", &["echo", "hello"])
        .success()
        .out_is("hello");
    containerd
        .run(&["--rm"], "x", &["sh", "-c", "exit 7"])
        .exits(7);
    // ctr clears away only what could not be created: the same id is free again.
    for _ in 0..2 {
        let missing = containerd.run(&["--rm"], "x", &["nosuch"]).exits(1);
        missing.err_has(
            "OCI runtime create failed: exec: \"nosuch\": executable file not found in $PATH",
        );
    }
    let ours = containerd.on_ours("t");
    let ours = ours.each_ref().map(String::as_str);
    let script = ["sh", "-c", "tty; exit 4"];
    let words =
        containerd.words(&[&["run", "-t", "--rm"][..], &ours, &[image, "t"], &script].concat());
    containerd
        .peers
        .on_terminal(&words)
        .exits(4)
        .out_has("/dev/pts/0");

    containerd
        .run(&["-d", "--memory-limit=67108864"], "y", &["sleep", "1000"])
        .success();
    let limits = [
        containerd.peers.limits("memory.limit_in_bytes"),
        containerd.peers.limits("memory.max"),
    ]
    .concat();
    assert!(limits.contains(&"67108864".to_string()), "{limits:?}");
    let exec = ["task", "exec", "--exec-id"];
    containerd
        .ctr(&[&exec[..], &["e1", "y", "echo", "inside"]].concat())
        .success()
        .out_is("inside");
    containerd
        .ctr(&[&exec[..], &["e2", "y", "sh", "-c", "exit 9"]].concat())
        .exits(9);
    let missing = containerd
        .ctr(&[&exec[..], &["e3", "y", "nosuch"]].concat())
        .exits(1);
    missing.err_has("executable file not found in $PATH");
    let words =
        containerd.words(&[&exec[..], &["e4", "-t", "y", "sh", "-c", "tty; exit 5"]].concat());
    containerd
        .peers
        .on_terminal(&words)
        .exits(5)
        .out_has("/dev/pts/");
    containerd.ctr(&["task", "ps", "y"]).success();
    containerd
        .ctr(&["task", "metrics", "y"])
        .success()
        .out_has("67108864");
    containerd.ctr(&["task", "pause", "y"]).success();
    containerd.ctr(&["task", "ls"]).success().out_has("PAUSED");
    containerd.ctr(&["task", "resume", "y"]).success();
    containerd.ctr(&["task", "ls"]).success().out_has("RUNNING");

    // containerd's state directory for the runtime is searched too.
    let glassbox = common::binary().display().to_string();
    let told = containerd
        .peers
        .run([glassbox.as_str(), "explain", "--container", "y"])
        .success();
    told.out_has("made by another engine, in /run/containerd/runc/default/y");
    let root = "/run/containerd/runc/default";
    let told = containerd
        .peers
        .run([glassbox.as_str(), "explain", "--runtime-root", root, "y"]);
    told.success().out_has("cgroups");

    containerd
        .ctr(&["task", "kill", "-s", "KILL", "y"])
        .success();
    common::cgroup::wait_for("its end", || {
        containerd.ctr(&["task", "ls"]).stdout.contains("STOPPED")
    });
    containerd.ctr(&["task", "rm", "y"]);
    containerd.ctr(&["container", "rm", "y"]).success();
    containerd.peers.run(["ls", root]).success().out_is("");
}

#[test]
fn the_readmes_config_toml_is_one_that_containerd_takes() {
    needs!("root", "containerd", "ctr", "nsenter", "busybox");
    let peers = Peers::new("containerd-conf");
    let config = documented("BinaryName", &peers.runtime());
    let config = peers.root.write("config.toml", config);
    let words = [
        "containerd",
        "-c",
        &config.display().to_string(),
        "config",
        "dump",
    ];
    let out = peers.run(words).success();
    out.out_has("runtimes.glassbox.options]");
    out.out_has(&format!("BinaryName = {:?}", peers.runtime()));
    // It starts with it, and with the plugin that a kubelet talks to. What that makes below /etc and
    // /opt stays in this test's namespace.
    const START: &str = "mkdir -p /run/etc && mount -t tmpfs tmpfs /run/etc
        mkdir /run/etc/upper /run/etc/work
        mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
        [ ! -d /opt ] || mount -t tmpfs tmpfs /opt
        exec containerd -c \"$1\" --root \"$2\" --state /run/c/state --address /run/c.sock";
    let root = peers.path("containerd");
    let config = config.display().to_string();
    let daemon = peers.spawn("log", &["sh", "-euc", START, "sh", &config, &root]);
    let mut containerd = Containerd { daemon, peers };
    containerd.wait_for_its_answer();
    let plugins = containerd.ctr(&["plugins", "ls"]).success().stdout;
    let line = plugins
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let cri = line
        .into_iter()
        .find(|l| l.starts_with(&["io.containerd.grpc.v1", "cri"]));
    let state = cri.as_ref().and_then(|l| l.last().copied());
    assert_eq!(state, Some("ok"), "{plugins}\n{}", containerd.log());
}
