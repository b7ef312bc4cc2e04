//! Debian's docker-registry, started for one test: a registry that is not ours.
//!
//! What it does: writes a configuration, starts the program on a port that the kernel chooses, and
//! reads the port from its log. It ends when it is dropped.
//!
//! Interface: [`DockerRegistry`]. Read next: `tests/registry_peers.rs`.

use super::TempRoot;
use super::peers::Peers;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry that runs.
pub struct DockerRegistry {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl DockerRegistry {
    /// One on this host, its data below `root`. `more` is added to its configuration.
    pub fn start(root: &TempRoot, more: &str) -> DockerRegistry {
        let config = configuration(root, "", more);
        let log = std::fs::File::create(root.join("registry.log")).expect("a log");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("docker-registry starts");
        DockerRegistry::listening(child, root, "registry.log")
    }

    /// One in the place of other engines, whose loopback is not this host's. `name` tells several
    /// apart.
    pub fn start_in(peers: &Peers, name: &str) -> DockerRegistry {
        let config = configuration(&peers.root, name, "").display().to_string();
        let log = format!("registry{name}.log");
        let child = peers.spawn(&log, &["docker-registry", "serve", &config]);
        DockerRegistry::listening(child, &peers.root, &log)
    }

    fn listening(child: Child, root: &TempRoot, log: &str) -> DockerRegistry {
        let mut registry = DockerRegistry {
            child,
            address: String::new(),
        };
        let until = Instant::now() + Duration::from_secs(30);
        while registry.address.is_empty() {
            let text = std::fs::read_to_string(root.join(log)).unwrap_or_default();
            let found = text.split("listening on ").nth(1);
            if let Some(address) = found.and_then(|rest| rest.split([',', '"', ' ']).next()) {
                registry.address = address.into();
            }
            let ended = registry.child.try_wait().expect("our child");
            assert!(ended.is_none(), "docker-registry ended: {text}");
            assert!(
                Instant::now() < until,
                "docker-registry does not listen: {text}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// The name of a repository here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(root: &TempRoot, name: &str, more: &str) -> std::path::PathBuf {
    let data = root.join(format!("registry{name}"));
    std::fs::create_dir_all(&data).expect("mkdir");
    let text = text(&data, more);
    root.write(format!("registry{name}.yml"), text)
}

fn text(data: &Path, more: &str) -> String {
    let data = data.display();
    format!(
        "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {data}}}\n  \
         delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: none\n{more}"
    )
}
