//! dockerd runs containers with our runtime: the README's daemon.json.
//!
//! Host only: the virtual machine has no Docker.
//!
//! Read next: `tests/common/dockerd.rs`, `tests/common/peers.rs`.

mod common;

use common::dockerd::Docker;
use common::peers::{Peers, documented};

/// dockerd with our runtime as its default, by the README's configuration.
fn docker(name: &str) -> Docker {
    let peers = Peers::new(name);
    let config = documented("\"runtimes\"", &peers.runtime());
    let config = peers
        .root
        .write("daemon.json", config)
        .display()
        .to_string();
    let more = ["--config-file", &config, "--default-runtime=glassbox"];
    Docker::start(peers, &more)
}

#[test]
fn docker_runs_containers_on_it() {
    needs!(
        "root",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox",
        "script"
    );
    let docker = docker("dockerd-run");
    let image = docker.peers.image;
    docker
        .container(&["--rm", image, "echo", "hello"])
        .success()
        .out_is("hello");
    docker
        .container(&["--rm", image, "sh", "-c", "exit 7"])
        .exits(7);
    docker
        .container(&["--rm", image, "nosuch"])
        .exits(127)
        .err_has("executable file not found in $PATH");
    docker
        .container(&["--rm", image, "/bin/nosuch"])
        .exits(127)
        .err_has("no such file or directory");
    docker
        .container(&["--rm", image, "/etc"])
        .exits(126)
        .err_has("permission denied");
    let terminal = [
        "run",
        "-it",
        "--rm",
        "--network=none",
        image,
        "sh",
        "-c",
        "tty; exit 4",
    ];
    docker.on_terminal(&terminal).exits(4).out_has("/dev/pts/0");
    let small = ["--name=small", "--memory=8m", "--memory-swap=8m", image];
    let eat = ["sh", "-c", "x=$(head -c 30000000 /dev/zero | tr '\\0' a)"];
    // containerd tells of the end and of the lack of memory in two events, in either order, and dockerd
    // takes no word of the second that comes after the first: so once in a few times is enough.
    let known = (0..5).any(|_| {
        docker.container(&[&small[..], &eat].concat()).exits(137);
        let known = docker.inspect("small", "{{.State.OOMKilled}}") == "true";
        docker.run(&["rm", "small"]).success();
        known
    });
    assert!(known, "dockerd does not hear that memory ran out");
    docker
        .container(&["-d", "--name=again", "--restart=always", image, "false"])
        .success();
    common::cgroup::wait_for("a restart", || {
        docker.inspect("again", "{{.RestartCount}}") != "0"
    });
    docker.run(&["rm", "-f", "again"]).success();
    docker.run(&["ps", "-aq"]).success().out_is("");
}

#[test]
fn a_container_of_docker_lives_in_the_background() {
    needs!(
        "root",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox",
        "script"
    );
    let docker = docker("dockerd-live");
    let image = docker.peers.image;
    let health = [
        "--health-cmd=test -f /tmp/ok",
        "--health-interval=0.3s",
        "--health-retries=1",
    ];
    let script = "trap 'exit 3' TERM; echo started; while :; do sleep 0.1; done";
    let options = ["-d", "--name=web", "--memory=64m", "--memory-swap=64m"];
    let started = docker.container(&[&options[..], &health, &[image, "sh", "-c", script]].concat());
    let id = started.success().stdout.trim().to_string();
    docker
        .run(&["exec", "web", "echo", "inside"])
        .success()
        .out_is("inside");
    docker.run(&["exec", "web", "sh", "-c", "exit 9"]).exits(9);
    let missing = docker.run(&["exec", "web", "nosuch"]).exits(126);
    missing.out_has("executable file not found in $PATH");
    docker
        .on_terminal(&["exec", "-it", "web", "sh", "-c", "tty; exit 5"])
        .exits(5)
        .out_has("/dev/pts/");
    docker.run(&["logs", "web"]).success().out_is("started");
    docker.run(&["top", "web"]).success().out_has("sleep 0.1");
    docker
        .run(&["stats", "--no-stream", "--format={{.MemUsage}}", "web"])
        .success()
        .out_has("/ 64MiB");
    let is = |what: &str| {
        common::cgroup::wait_for(what, || {
            docker.inspect("web", "{{.State.Health.Status}}") == what
        })
    };
    is("unhealthy");
    docker.run(&["exec", "web", "touch", "/tmp/ok"]).success();
    is("healthy");
    docker.run(&["pause", "web"]).success();
    assert_eq!(docker.inspect("web", "{{.State.Status}}"), "paused");
    docker.run(&["unpause", "web"]).success();
    assert_eq!(docker.inspect("web", "{{.State.Status}}"), "running");

    let glassbox = common::binary().display().to_string();
    let told = docker
        .peers
        .run([glassbox.as_str(), "explain", &id[..12]])
        .success();
    told.out_has("made by another engine, in /run/docker/runtime-");

    docker.run(&["restart", "-t", "10", "web"]).success();
    docker.run(&["stop", "-t", "10", "web"]).success();
    assert_eq!(
        docker.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 3"
    );
    docker.run(&["start", "web"]).success();
    docker.run(&["kill", "web"]).success();
    docker.run(&["wait", "web"]).success().out_is("137");
    docker.run(&["rm", "web"]).success();
}

#[test]
fn docker_update_changes_a_limit() {
    needs!(
        "root",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox",
        "script"
    );
    if common::run(["runtime", "update", "--help"]).code() != 0 {
        return common::skip("needs `glassbox runtime update`, which this build has not");
    }
    let docker = docker("dockerd-update");
    let options = [
        "-d",
        "--name=web",
        "--memory=64m",
        "--memory-swap=64m",
        docker.peers.image,
    ];
    docker
        .container(&[&options[..], &["sleep", "1000"]].concat())
        .success();
    docker
        .run(&["update", "--memory=128m", "--memory-swap=128m", "web"])
        .success();
    let limits = [
        docker.peers.limits("memory.limit_in_bytes"),
        docker.peers.limits("memory.max"),
    ]
    .concat();
    assert!(limits.contains(&"134217728".to_string()), "{limits:?}");
    docker.run(&["rm", "-f", "web"]).success();
}
