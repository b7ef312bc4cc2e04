//! podman makes its containers with our runtime: run, exec, logs, pause, health, pods.
//!
//! Host only: the virtual machine has no podman.
//!
//! Read next: `tests/common/peers.rs`.

mod common;

use common::Output;
use common::peers::{Peers, documented};

struct Podman(Peers);

impl Podman {
    fn new(name: &str) -> Podman {
        let podman = Podman(Peers::new(name));
        podman
            .run(&["load", "-q", "-i", &podman.0.path("box.tar")])
            .success();
        podman
    }
    fn words<'a>(&self, args: &[&'a str]) -> Vec<std::borrow::Cow<'a, str>> {
        let mut words: Vec<std::borrow::Cow<str>> = vec!["podman".into()];
        for (option, value) in [
            ("--root", self.0.path("storage")),
            ("--runroot", self.0.path("runroot")),
            ("--tmpdir", self.0.path("libpod")),
            ("--runtime", self.0.runtime()),
        ] {
            words.extend([option.into(), value.into()]);
        }
        words.extend(["--cgroup-manager=cgroupfs", "--events-backend=file"].map(Into::into));
        words.extend(args.iter().map(|a| (*a).into()));
        words
    }
    fn run(&self, args: &[&str]) -> Output {
        self.0.run(self.words(args).iter().map(|w| w.as_ref()))
    }
    fn on_terminal(&self, args: &[&str]) -> Output {
        let words = self.words(args);
        self.0
            .on_terminal(&words.iter().map(|w| w.as_ref()).collect::<Vec<_>>())
    }
    /// `podman run` without a network, below the test's cgroup.
    fn make<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        // Lives as long as the test program: a few bytes a call.
        let parent: &'static str = format!("--cgroup-parent={}", self.0.group).leak();
        let mut words = vec!["run", "--network=none", parent];
        words.extend(args);
        words
    }
    fn container(&self, args: &[&str]) -> Output {
        self.run(&self.make(args))
    }
    fn state(&self, name: &str) -> String {
        let out = self.run(&[
            "inspect",
            name,
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
        ]);
        out.success().stdout.trim().to_string()
    }
}

#[test]
fn a_container_runs_to_its_end() {
    needs!("root", "podman", "conmon", "nsenter", "busybox", "script");
    let podman = Podman::new("podman-run");
    let image = podman.0.image;
    podman
        .container(&["--rm", image, "echo", "hello"])
        .success()
        .out_is("hello");
    podman
        .container(&["--rm", image, "sh", "-c", "exit 7"])
        .exits(7);
    // podman takes these from what the runtime says when it creates the container.
    let missing = podman.container(&["--rm", image, "nosuch"]).exits(127);
    missing.err_has("executable file not found in $PATH");
    podman
        .container(&["--rm", image, "/bin/nosuch"])
        .exits(127)
        .err_has("no such file or directory");
    podman
        .container(&["--rm", image, "/etc"])
        .exits(126)
        .err_has("permission denied");
    let limits = [
        "--rm",
        "--memory=64m",
        "--pids-limit=50",
        "--read-only",
        "--hostname=hh",
        "--user=7:8",
        image,
    ];
    let script = "hostname; id -u; id -g; touch /x || echo read-only; cat /proc/self/cgroup";
    let out = podman
        .container(&[&limits[..], &["sh", "-c", script]].concat())
        .success();
    assert!(out.stdout.starts_with("hh\n7\n8\nread-only\n"), "{out}");
    out.out_has(&podman.0.group);
    let maps = [
        "--rm",
        "--uidmap=0:100000:65536",
        "--gidmap=0:100000:65536",
        image,
    ];
    let mapped = podman
        .container(&[&maps[..], &["cat", "/proc/self/uid_map"]].concat())
        .success();
    assert_eq!(
        mapped.stdout.split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    // podman may leave before it has passed on what came at the very end.
    let script = "tty; sleep 1; exit 4";
    let terminal = podman.make(&["-it", "--rm", image, "sh", "-c", script]);
    podman.on_terminal(&terminal).exits(4).out_has("/dev/pts/0");
    podman.run(&["ps", "-aq"]).success().out_is("");
}

#[test]
fn a_container_lives_in_the_background() {
    needs!("root", "podman", "conmon", "nsenter", "busybox", "script");
    let podman = Podman::new("podman-live");
    let image = podman.0.image;
    let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.1; done";
    let health = [
        "--health-cmd=test -f /tmp/ok",
        "--health-interval=disable",
        "--memory=64m",
    ];
    let started = podman.container(
        &[
            &["-d", "--name=web"][..],
            &health,
            &[image, "sh", "-c", script],
        ]
        .concat(),
    );
    let id = started.success().stdout.trim().to_string();
    common::cgroup::wait_for("its log", || {
        podman.run(&["logs", "web"]).success().stdout == "started\n"
    });
    podman
        .run(&["exec", "web", "echo", "inside"])
        .success()
        .out_is("inside");
    podman.run(&["exec", "web", "sh", "-c", "exit 9"]).exits(9);
    podman
        .run(&["exec", "web", "nosuch"])
        .exits(127)
        .err_has("not found");
    podman
        .on_terminal(&["exec", "-it", "web", "sh", "-c", "tty; exit 5"])
        .exits(5)
        .out_has("/dev/pts/");
    podman.run(&["healthcheck", "run", "web"]).exits(1);
    podman.run(&["exec", "web", "touch", "/tmp/ok"]).success();
    podman.run(&["healthcheck", "run", "web"]).success();
    podman.0.root.write("file", "copied\n");
    podman
        .run(&["cp", &podman.0.path("file"), "web:/tmp/file"])
        .success();
    podman
        .run(&["exec", "web", "cat", "/tmp/file"])
        .success()
        .out_is("copied");
    podman.run(&["top", "web"]).success().out_has("sleep 0.1");
    let stats = podman.run(&[
        "stats",
        "--no-stream",
        "--format={{.MemLimit}} {{.PIDs}}",
        "web",
    ]);
    assert!(
        stats.clone().success().stdout.starts_with("67108864") || stats.stdout.contains("67.11MB"),
        "{stats}"
    );

    podman.run(&["pause", "web"]).success();
    assert_eq!(podman.state("web"), "paused 0");
    podman.run(&["exec", "web", "true"]).exits(255);
    podman.run(&["unpause", "web"]).success();
    assert_eq!(podman.state("web"), "running 0");

    // podman names no state directory: it is the default one, and the story is found by the id.
    let glassbox = common::binary();
    let told = podman
        .0
        .run([glassbox.as_os_str(), "explain".as_ref(), id[..12].as_ref()])
        .success();
    told.out_has("namespaces");
    told.out_has("now running; made by another engine");
    let seen = podman.0.run([
        glassbox.as_os_str(),
        "inspect".as_ref(),
        "--json".as_ref(),
        id.as_ref(),
    ]);
    assert_eq!(seen.success().json()["kind"], "container");

    podman.run(&["stop", "-t", "10", "web"]).success();
    assert_eq!(podman.state("web"), "exited 3");
    podman.run(&["start", "web"]).success();
    podman.run(&["restart", "-t", "10", "web"]).success();
    podman.run(&["kill", "web"]).success();
    podman.run(&["wait", "web"]).success().out_is("137");
    podman.run(&["rm", "web"]).success();
    let left = podman.0.run(["ls", "/run/glassbox/runtime"]).success();
    left.out_is("");
}

#[test]
fn a_pod_shares_namespaces() {
    needs!("root", "podman", "conmon", "nsenter", "busybox", "script");
    let podman = Podman::new("podman-pod");
    let image = podman.0.image;
    let parent = format!("--cgroup-parent={}", podman.0.group);
    let infra = [
        "--network=none",
        "--share=ipc,net,uts",
        "--infra-image",
        image,
        "--infra-command=sleep 1000",
    ];
    podman
        .run(&[&["pod", "create", "--name=p", &parent], &infra[..]].concat())
        .success();
    podman
        .run(&["run", "-d", "--pod=p", "--name=one", image, "sleep", "1000"])
        .success();
    let look = [
        "sh",
        "-c",
        "ls -l /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts; hostname",
    ];
    let links = |out: Output| -> Vec<String> {
        let text = out.success().stdout;
        text.lines()
            .map(|l| l.rsplit(' ').next().unwrap_or_default().to_string())
            .collect()
    };
    let one = links(podman.run(&[&["exec", "one"], &look[..]].concat()));
    let two = links(podman.run(&[&["run", "--rm", "--pod=p", image], &look[..]].concat()));
    assert_eq!((one.len(), &one), (4, &two));
    podman.run(&["pod", "pause", "p"]).success();
    podman.run(&["pod", "unpause", "p"]).success();
    podman.run(&["pod", "kill", "p"]).success();
    podman.run(&["pod", "rm", "-f", "-t", "0", "p"]).success();
}

#[test]
fn the_readmes_containers_conf_makes_it_the_runtime() {
    needs!("root", "podman", "conmon", "nsenter", "busybox", "script");
    let mut peers = Peers::new("podman-conf");
    let config = documented("[engine.runtimes]", &peers.runtime());
    let config = peers.root.write("containers.conf", config);
    peers.set("CONTAINERS_CONF", &config.display().to_string());
    let places = [
        ("--root", peers.path("storage")),
        ("--runroot", peers.path("runroot")),
        ("--tmpdir", peers.path("libpod")),
    ];
    let group = format!("--cgroup-parent={}", peers.group);
    let podman = |args: &[&str]| {
        let mut words = vec!["podman", "--events-backend=file"];
        words.extend(places.iter().flat_map(|(option, value)| [*option, value]));
        words.extend(args);
        peers.run(words)
    };
    podman(&["load", "-q", "-i", &peers.path("box.tar")]).success();
    let run = [
        "run",
        "-d",
        "--name=web",
        "--network=none",
        &group,
        peers.image,
    ];
    podman(&[&run[..], &["sleep", "1000"]].concat()).success();
    podman(&["inspect", "web", "--format", "{{.OCIRuntime}}"])
        .success()
        .out_is("glassbox");
    podman(&["rm", "-f", "-t", "0", "web"]).success();
}
