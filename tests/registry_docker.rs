//! Docker's own command line and we, over Debian's docker-registry: what one pushes the other pulls,
//! under the same digests.
//!
//! Host only: the virtual machine has no Docker.
//!
//! Read next: `tests/registry_peers.rs` (skopeo, podman, buildah), `tests/common/dockerd.rs`.

mod common;

use common::docker_registry::DockerRegistry;
use common::dockerd::Docker;
use common::peers::Peers;
use common::{Output, binary};
use serde_json::Value;

/// Both engines and a registry, in one place that has only a loopback.
struct Place {
    docker: Docker,
    registry: DockerRegistry,
}

impl Place {
    fn new(name: &str) -> Place {
        let mut peers = Peers::new(name);
        let state = peers.path("ours");
        peers.set("GLASSBOX_ROOT", &state);
        let registry = DockerRegistry::start_in(&peers, "");
        let docker = Docker::start(peers, &[]);
        Place { docker, registry }
    }
    fn ours(&self, args: &[&str]) -> Output {
        let program = binary().display().to_string();
        self.docker
            .peers
            .run([&[program.as_str()], args].concat())
            .success()
    }
    fn theirs(&self, args: &[&str]) -> Output {
        self.docker.run(args).success()
    }
    /// The image as each of the two calls it: id and repository digests.
    fn seen(&self, name: &str) -> [Value; 2] {
        let words = ["image", "inspect", name];
        [self.ours(&words), self.theirs(&words)].map(|out| {
            let image = out.json()[0].clone();
            serde_json::json!([image["Id"], image["RepoDigests"]])
        })
    }
}

/// `sha256:…` after a word, as docker's push and pull end.
fn digest(said: &Output, word: &str) -> String {
    let rest = said.stdout.split(word).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no {word:?}: {said}"));
    rest.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_string()
}

#[test]
fn docker_pulls_what_we_push() {
    needs!(
        "root",
        "docker-registry",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox"
    );
    let place = Place::new("registry-docker-pull");
    let name = place.registry.name("ours/box:1");
    let image = place.docker.peers.image;
    place.ours(&["image", "load", "-i", &place.docker.peers.path("box.tar")]);
    place.ours(&["image", "tag", image, &name]);
    let pushed = digest(&place.ours(&["push", &name]), "digest: ");
    // docker has the same layers already, under another name: it shall ask for them.
    place.ours(&["image", "rm", image]);
    place.theirs(&["rmi", image]);
    let pulled = digest(&place.theirs(&["pull", &name]), "Digest: ");
    assert_eq!(pulled, pushed);
    let by_digest = format!("{}@{pushed}", place.registry.name("ours/box"));
    place.theirs(&["pull", &by_digest]).out_has("up to date");
    place.ours(&["pull", &name]).out_has(&pushed);
    let [ours, theirs] = place.seen(&name);
    assert_eq!(ours, theirs);
    assert_eq!(ours[1], serde_json::json!([by_digest]));
    place
        .docker
        .container(&["--rm", &name, "cat", "/etc/passwd"])
        .success()
        .out_has("root:x:0:0");
}

#[test]
fn we_pull_what_docker_pushes() {
    needs!(
        "root",
        "docker-registry",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox"
    );
    let place = Place::new("registry-docker-push");
    let name = place.registry.name("theirs:2");
    let image = place.docker.peers.image;
    // A layer of docker's own making, over the image's.
    place.theirs(&[
        "run",
        "--network=none",
        "--name=made",
        image,
        "sh",
        "-c",
        "echo new > /tmp/made; chmod 600 /tmp/made",
    ]);
    place.theirs(&["commit", "made", &name]);
    let pushed = digest(&place.theirs(&["push", &name]), "digest: ");
    let pulled = digest(&place.ours(&["pull", &name]), "Digest: ");
    assert_eq!(pulled, pushed);
    let [ours, theirs] = place.seen(&name);
    assert_eq!(ours, theirs);
    place.ours(&["image", "fsck"]);
    place
        .ours(&["run", "--rm", "--network=none", &name, "cat", "/tmp/made"])
        .out_is("new");
    // Pushed again by us, nothing is sent, and the digest stays.
    let again = place.registry.name("theirs:3");
    place.ours(&["image", "tag", &name, &again]);
    let said = place.ours(&["push", &again]);
    assert_eq!(digest(&said, "digest: "), pushed);
    said.out_has("Layer already exists");
    place
        .theirs(&["pull", &again])
        .out_has(&format!("Digest: {pushed}"));
    place.theirs(&["rm", "made"]);
}
