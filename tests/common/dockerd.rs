//! dockerd with docker's command line, in namespaces of a test's own.
//!
//! What it does: starts Debian's dockerd without any network of its own, on a socket that only the
//! test's namespaces have, and loads the test's image. It ends when it is dropped.
//!
//! Interface: [`Docker`]. Read next: `tests/interop_dockerd.rs`, `tests/registry_docker.rs`.

use super::Output;
use super::peers::Peers;
use std::process::Child;

/// A daemon that runs.
pub struct Docker {
    daemon: Child,
    /// Where it runs.
    pub peers: Peers,
}

impl Docker {
    /// Starts one. `more`: words of its command line.
    pub fn start(mut peers: Peers, more: &[&str]) -> Docker {
        peers.set("DOCKER_HOST", "unix:///run/d.sock");
        peers.set("DOCKER_CONFIG", &peers.path("client"));
        let (data, group) = (peers.path("docker"), peers.group.clone());
        let words = [
            "dockerd",
            "--data-root",
            &data,
            "--exec-root",
            "/run/docker",
            "--pidfile",
            "/run/d.pid",
            "--host",
            "unix:///run/d.sock",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--cgroup-parent",
            &group,
        ];
        let daemon = peers.spawn("log", &[&words, more].concat());
        let mut docker = Docker { daemon, peers };
        super::cgroup::wait_for("dockerd's answer", || {
            assert!(
                docker.daemon.try_wait().expect("our child").is_none(),
                "dockerd ended"
            );
            docker.run(&["info"]).code() == 0
        });
        docker
            .run(&["load", "-q", "-i", &docker.peers.path("box.tar")])
            .success();
        docker
    }
    /// `docker ARGS`
    pub fn run(&self, args: &[&str]) -> Output {
        self.peers.run([&["docker"], args].concat())
    }
    /// The same on a terminal.
    pub fn on_terminal(&self, args: &[&str]) -> Output {
        self.peers.on_terminal(&[&["docker"], args].concat())
    }
    /// `docker run ARGS` without a network.
    pub fn container(&self, args: &[&str]) -> Output {
        self.run(&[&["run", "--network=none"], args].concat())
    }
    /// What `docker inspect` says, in a format.
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.run(&["inspect", name, "--format", format])
            .success()
            .stdout
            .trim()
            .to_string()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.daemon.kill(); // the holder's end takes what it leaves
        let _ = self.daemon.wait();
    }
}
