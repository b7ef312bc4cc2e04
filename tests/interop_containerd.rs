//! containerd runs containers with our runtime: `ctr run` through its runc shim, and a pod as a kubelet
//! asks for one.
//!
//! Host only: the virtual machine has no containerd.
//!
//! Read next: `tests/common/peers.rs`.

mod common;
#[path = "common/cri.rs"]
mod cri;

use common::Output;
use common::peers::{Peers, box_image, documented};
use cri::Cri;
use std::process::Child;

struct Containerd {
    daemon: Child,
    peers: Peers,
}

/// What the plugin makes below /etc and /opt stays in the test's namespace.
const WITH_CRI: &str = "mkdir -p /run/etc && mount -t tmpfs tmpfs /run/etc
    mkdir /run/etc/upper /run/etc/work
    mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
    [ ! -d /opt ] || mount -t tmpfs tmpfs /opt
    exec containerd -c \"$1\" --root \"$2\" --state /run/c/state --address /run/c.sock";

impl Containerd {
    /// One with the plugin that a kubelet talks to.
    fn with_cri(peers: Peers, config: &std::path::Path) -> Containerd {
        let (root, config) = (peers.path("containerd"), config.display().to_string());
        let daemon = peers.spawn("log", &["sh", "-euc", WITH_CRI, "sh", &config, &root]);
        let mut containerd = Containerd { daemon, peers };
        containerd.wait_for_its_answer();
        containerd
    }
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
    // It starts with it, and with the plugin that a kubelet talks to.
    let containerd = Containerd::with_cri(peers, &config);
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

/// The pod's network: a bridge, as the plugins that every node has make it.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local",
     "ranges": [[{"subnet": "10.99.0.0/24"}]], "dataDir": "/run/cni/pods"}}]}"#;

#[test]
fn a_pod_runs_on_it() {
    needs!(
        "root",
        "containerd",
        "ctr",
        "containerd-shim-runc-v2",
        "nsenter",
        "busybox",
        "/usr/lib/cni/bridge",
    );
    let peers = Peers::new("containerd-pod");
    let pause = "localhost/pause:latest";
    box_image(&peers.root.join("pause.tar"), pause, &["sleep", "1000"]);
    std::fs::create_dir(peers.root.join("net.d")).expect("a directory");
    peers.root.write("net.d/10.conflist", NETWORK);
    // Not every host lets a process ask for the oom score that a node gives a pod's sandbox.
    let plugin = format!(
        "\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {pause:?}\n\
         restrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = {:?}\n",
        peers.path("net.d")
    );
    let config = documented("BinaryName", &peers.runtime()) + &plugin;
    let config = peers.root.write("config.toml", config);
    let containerd = Containerd::with_cri(peers, &config);
    let peers = &containerd.peers;
    for image in ["pause.tar", "box.tar"] {
        let import = ["-n", "k8s.io", "image", "import", &peers.path(image)];
        containerd.ctr(&import).success();
    }
    let cri = Cri {
        socket: peers.inside("/run/c.sock"),
    };

    let namespaces = Some(cri::Namespaces {
        network: 0,
        pid: 1,
        ipc: 0,
    });
    let pod = cri::PodConfig {
        metadata: Some(cri::Metadata {
            name: "hello".into(),
            uid: "1".into(),
            namespace: "default".into(),
        }),
        hostname: "hello-pod".into(),
        log_directory: peers.path("logs"),
        linux: Some(cri::LinuxPod {
            cgroup_parent: format!("{}/pod", peers.group),
            security_context: Some(cri::PodSecurity {
                namespace_options: namespaces.clone(),
            }),
        }),
    };
    let run = cri::RunPod {
        config: Some(pod.clone()),
        runtime_handler: "glassbox".into(), // what a RuntimeClass names
    };
    let sandbox: cri::Id = cri.call("RunPodSandbox", &run);
    let make = |name: &str, script: &str| {
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerName { name: name.into() }),
            image: Some(cri::Image {
                image: peers.image.into(),
            }),
            command: ["sh", "-c", script].map(String::from).to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(cri::LinuxContainer {
                resources: Some(cri::Resources {
                    memory_limit_in_bytes: 64 << 20,
                    oom_score_adj: 900,
                }),
                security_context: Some(cri::Security {
                    namespace_options: namespaces.clone(),
                    run_as_user: Some(cri::Number { value: 1000 }),
                    readonly_rootfs: true,
                    no_new_privs: true,
                }),
            }),
        };
        let create = cri::Create {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.clone()),
        };
        let made: cri::Id = cri.call("CreateContainer", &create);
        let _: cri::Nothing = cri.call("StartContainer", &made);
        made
    };
    let status = |of: &cri::Id| {
        let answer: cri::StatusAnswer = cri.call("ContainerStatus", of);
        answer.status.expect("a status")
    };
    let web = make("web", "id -u; hostname; exec sleep 1000");
    let script =
        "id -u; cat /proc/self/oom_score_adj; ls /sys/class/net; grep NoNewPrivs /proc/self/status
        touch /new; cat /proc/self/cgroup; exit 3";
    let exec = cri::ExecSync {
        container_id: web.id.clone(),
        cmd: ["sh", "-c", script].map(String::from).to_vec(),
        timeout: 30,
    };
    let said: cri::Executed = cri.call("ExecSync", &exec);
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        out.starts_with("1000\n900\neth0\nlo\nNoNewPrivs:\t1\n"),
        "{out}"
    );
    assert!(out.contains(&format!("/pod/{}", web.id)), "{out}");
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(errors.contains("Read-only file system"), "{errors}");
    assert_eq!(said.exit_code, 3);
    let log = std::fs::read_to_string(peers.root.join("logs/web.log")).expect("a log");
    let lines: Vec<&str> = log.lines().filter_map(|l| l.rsplit(' ').next()).collect();
    assert_eq!(lines, ["1000", "hello-pod"]);
    // It was made by us: its journal tells of the network namespace that it shares with the sandbox.
    let glassbox = common::binary().display().to_string();
    let told = peers.run([&glassbox, "explain", "--container", &web.id]);
    told.success().out_has("in /run/containerd/runc/k8s.io/");
    let greedy = make("greedy", "x=a; while :; do x=$x$x; done");
    common::cgroup::wait_for("the limit's effect", || status(&greedy).state == 2);
    let ended = status(&greedy);
    assert_eq!(
        (ended.exit_code, &ended.reason[..]),
        (137, "OOMKilled"),
        "{ended:?}"
    );

    assert_eq!(status(&web).state, 1);
    let stop = cri::Stop {
        container_id: web.id.clone(),
        timeout: 0,
    };
    let _: cri::Nothing = cri.call("StopContainer", &stop);
    assert_eq!(status(&web).exit_code, 137);
    let _: cri::Nothing = cri.call("StopPodSandbox", &sandbox);
    let _: cri::Nothing = cri.call("RemovePodSandbox", &sandbox);
    let root = "/run/containerd/runc/k8s.io";
    peers.run(["ls", root]).success().out_is("");
}
