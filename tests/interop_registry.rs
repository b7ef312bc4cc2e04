//! skopeo, podman, buildah, Docker and we push to our registry and pull from it: one digest
//! everywhere, through a cache as well.
//!
//! What it does: all tools in one place that has only a loopback, with a registry of ours and another
//! one that is a cache of it. Each tool pushes the same image in its own way; what it pushed has one
//! digest, whoever asks for it.
//!
//! Host only: the virtual machine has none of them.
//!
//! Read next: `tests/registry_docker.rs`, `tests/common/dockerd.rs`.

mod common;

use common::dockerd::Docker;
use common::our_registry::OurRegistry;
use common::peers::Peers;
use common::{Output, binary};
use glassbox::spec::digest::Digest;

/// All who push and pull.
const TOOLS: [&str; 5] = ["glassbox", "skopeo", "podman", "buildah", "docker"];

struct Place {
    registry: OurRegistry,
    cache: OurRegistry,
    // Last: its namespaces are the others'.
    docker: Docker,
}

impl Place {
    /// Docker takes what it knows as `box:1` from the cache, too.
    fn new(name: &str) -> Place {
        let mut peers = Peers::new(name);
        let (state, authentication) = (peers.path("ours"), peers.path("auth.json"));
        peers.root.write("auth.json", "{}");
        peers.set("GLASSBOX_ROOT", &state);
        peers.set("REGISTRY_AUTH_FILE", &authentication);
        let registry = OurRegistry::start_in(&peers, "data", &[]);
        let url = format!("http://{}", registry.address);
        let cache = OurRegistry::start_in(&peers, "cache", &["--upstream", &url]);
        let mirror = format!("http://{}", cache.address);
        let docker = Docker::start(peers, &["--registry-mirror", &mirror]);
        Place {
            registry,
            cache,
            docker,
        }
    }

    fn run(&self, tool: &str, args: &[&str]) -> Output {
        let (program, image) = (binary().display().to_string(), "--insecure-policy");
        let storage = self.docker.peers.path(&format!("storage-{tool}"));
        // podman wants it short.
        let runroot = format!("/run/{tool}");
        let places = ["--root", &storage, "--runroot", &runroot];
        let words = match tool {
            "glassbox" => vec![program.as_str()],
            "skopeo" => vec!["skopeo", image],
            "podman" => [&["podman"], &places[..], &["--cgroup-manager=cgroupfs"]].concat(),
            "buildah" => [&["buildah"], &places[..]].concat(),
            tool => vec![tool],
        };
        self.docker.peers.run([&words, args].concat())
    }

    /// Puts the test's image under a name, by this tool.
    fn push(&self, tool: &str, name: &str) {
        let (archive, image) = (self.docker.peers.path("box.tar"), self.docker.peers.image);
        let (to, from) = (
            format!("docker://{name}"),
            format!("docker-archive:{archive}"),
        );
        match tool {
            "skopeo" => {
                let copy = ["copy", "-q", "--dest-tls-verify=false", &from, &to];
                self.run(tool, &copy).success();
                return;
            }
            "glassbox" => self.run(tool, &["image", "load", "-i", &archive]).success(),
            "buildah" => self.run(tool, &["pull", "-q", &from]).success(),
            // Docker has it already.
            "docker" => self.run(tool, &["images"]).success(),
            _ => self.run(tool, &["load", "-q", "-i", &archive]).success(),
        };
        let plain = ["push", "-q", "--tls-verify=false", image, &to];
        match tool {
            "podman" | "buildah" => self.run(tool, &plain).success(),
            _ => {
                let words: &[&str] = if tool == "glassbox" { &["image"] } else { &[] };
                self.run(tool, &[words, &["tag", image, name]].concat())
                    .success();
                self.run(tool, &["push", name]).success()
            }
        };
    }

    /// Gets a name by this tool, which has nothing of it; the digest that it says.
    fn pull(&self, tool: &str, name: &str) -> String {
        let plain = ["pull", "-q", "--tls-verify=false", name];
        let said = match tool {
            "skopeo" => {
                let (from, to) = (format!("docker://{name}"), self.docker.peers.path("copied"));
                let _ = std::fs::remove_dir_all(&to);
                let copy = ["copy", "-q", "--preserve-digests", "--src-tls-verify=false"];
                let to = format!("dir:{to}");
                self.run(tool, &[&copy[..], &[&from, &to]].concat())
                    .success();
                let manifest = std::fs::read(self.docker.peers.root.join("copied/manifest.json"));
                return Digest::sha256(&manifest.expect("a manifest")).to_string();
            }
            "podman" | "buildah" => {
                self.run(tool, &["rmi", "-a", "-f"]).success();
                self.run(tool, &plain).success();
                self.run(
                    tool,
                    &["images", "--digests", "--format", "Digest: {{.Digest}}"],
                )
            }
            "glassbox" => {
                self.run(tool, &["image", "prune", "-a", "-f"]).success();
                self.run(tool, &["pull", name])
            }
            tool => {
                let known = self
                    .run(tool, &["images", "-q", "--no-trunc"])
                    .success()
                    .stdout;
                for id in known.split_whitespace() {
                    self.run(tool, &["rmi", "-f", id]);
                }
                self.run(tool, &["pull", name])
            }
        };
        let said = said.success();
        let digest = said.stdout.split("Digest: ").nth(1);
        let digest = digest.and_then(|d| d.split_whitespace().next());
        digest
            .unwrap_or_else(|| panic!("{tool} says no digest: {said}"))
            .to_string()
    }
}

#[test]
fn every_tool_pushes_and_pulls_and_all_see_one_digest() {
    needs!(
        "root",
        "skopeo",
        "podman",
        "buildah",
        "dockerd",
        "docker",
        "containerd",
        "nsenter",
        "busybox"
    );
    let place = Place::new("interop-registry");
    for pusher in TOOLS {
        place.push(pusher, &place.registry.name(&format!("library/{pusher}:1")));
    }
    for pusher in TOOLS {
        let (direct, cached) = (
            place.registry.name(&format!("library/{pusher}:1")),
            place.cache.name(&format!("library/{pusher}:1")),
        );
        let digest = place.pull("skopeo", &direct);
        // What the registry stored is what it gives out.
        let stored = digest.trim_start_matches("sha256:");
        assert!(
            place
                .registry
                .data
                .join("blobs/sha256")
                .join(stored)
                .exists()
        );
        for puller in TOOLS {
            assert_eq!(
                place.pull(puller, &direct),
                digest,
                "{puller} pulls what {pusher} pushed"
            );
        }
        for puller in TOOLS {
            let got = place.pull(puller, &cached);
            assert_eq!(
                got, digest,
                "{puller} pulls what {pusher} pushed from the cache"
            );
        }
        assert!(place.cache.data.join("blobs/sha256").join(stored).exists());
    }
    // As a mirror of Docker's own registry.
    let digest = place.pull("skopeo", &place.registry.name("library/docker:1"));
    assert_eq!(place.pull("docker", "docker:1"), digest);
    let run = [
        "run",
        "--rm",
        "--network=none",
        "docker:1",
        "cat",
        "/etc/passwd",
    ];
    place.run("docker", &run).success().out_has("root:x:0:0");
}
