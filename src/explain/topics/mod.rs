//! The topics: each concept taught once, in `book/src/topics/*.md`, read by the book and by
//! `glassbox explain TOPIC`.
//!
//! What it does: embeds the texts, finds one by name or alias, suggests near misses, and renders a
//! text for the terminal with the values of this host in place of the book's examples.
//!
//! A text has a fixed form, which a test holds: a title, one sentence that says what it is, then
//! the sections of [`SECTIONS`] in order. A live value is a comment before an example block:
//!
//! ```text
//! <!-- live file:/proc/self/uid_map -->
//! (a fenced block with an example, which the book shows and `explain` replaces)
//! ```
//!
//! Interface: [`all`], [`find`], [`near`], [`Topic`]. Read next: `live.rs` for what can be read,
//! `render.rs` for the look.

mod live;
mod render;

pub use live::Reading;
pub use render::render;

use std::path::Path;

/// The sections of a topic, in order.
pub const SECTIONS: &[&str] = &[
    "What it is",
    "Why containers need it",
    "See it now",
    "Try it",
    "What goes wrong",
    "Go deeper",
];

/// One concept.
#[derive(Debug)]
pub struct Topic {
    /// Its name on the command line and its file's name.
    pub name: &'static str,
    /// Other names that find it.
    pub aliases: &'static [&'static str],
    /// The group that it is listed in.
    pub group: &'static str,
    /// The text, in Markdown.
    pub text: &'static str,
}

macro_rules! topics {
    ($($group:literal: $($name:literal $([$($alias:literal),+])?),+;)+) => {
        const TOPICS: &[Topic] = &[$($(Topic {
            name: $name,
            aliases: &[$($($alias),+)?],
            group: $group,
            text: include_str!(concat!("../../../book/src/topics/", $name, ".md")),
        }),+),+];
    };
}

topics! {
    "Stages":
        "namespaces" ["namespace", "ns"],
        "cgroups" ["cgroup", "control-groups"],
        "layers" ["layer"],
        "images" ["image", "oci-image"],
        "registries" ["registry", "pull", "push"],
        "runtime" ["oci-runtime", "runc", "crun"],
        "containers" ["container", "docker"],
        "daemon" ["dockerd", "engine-api"],
        "compose" ["docker-compose"];
    "Namespaces":
        "mount-namespaces" ["mount-namespace", "mount", "mnt"],
        "pid-namespaces" ["pid-namespace", "pid"],
        "user-namespaces" ["user-namespace", "user", "userns", "id-maps", "uid_map", "gid_map",
            "subuid"],
        "network-namespaces" ["network-namespace", "network", "net", "netns"],
        "ipc-namespaces" ["ipc-namespace", "ipc"],
        "uts-namespaces" ["uts-namespace", "uts", "hostname"],
        "cgroup-namespaces" ["cgroup-namespace", "cgroupns"],
        "time-namespaces" ["time-namespace", "time"];
    "Networks":
        "bridges" ["bridge", "networks", "ports", "publish", "nftables", "nat", "masquerading"],
        "names" ["name", "dns", "resolv.conf", "hosts", "slirp4netns"];
    "Controllers":
        "memory" ["oom", "oom-killer", "memory.max"],
        "cpu" ["cpu.max", "cpu.weight", "throttling"],
        "cpuset" ["cpus"],
        "pids" ["pids.max", "fork-bomb"],
        "io" ["blkio", "io.max"],
        "hugetlb" ["huge-pages"],
        "devices" ["device", "mknod"],
        "freezer" ["freeze", "pause"],
        "cgroup-versions" ["cgroup-v1", "cgroup-v2", "hybrid", "delegation"];
    "Privilege":
        "capabilities" ["capability", "caps", "cap-add"],
        "no-new-privs" ["no_new_privs", "no-new-privileges", "setuid"],
        "seccomp" ["syscall-filter"],
        "rlimits" ["rlimit", "ulimit"],
        "rootless" ["ordinary-user"];
    "File systems":
        "overlay" ["overlayfs", "whiteouts", "whiteout", "copy-up", "opaque"],
        "pivot_root" ["pivot-root", "chroot", "rootfs"],
        "propagation" ["shared-mounts", "mount-propagation"],
        "masked-paths" ["masked", "readonly-paths"],
        "volumes" ["volume", "bind-mounts"],
        "proc-and-sys" ["proc", "sys", "procfs", "sysfs", "dev"];
    "Processes":
        "pid-1" ["init", "pid1", "zombies"],
        "signals" ["stop", "kill"],
        "exit-codes" ["exit-code", "exit-status", "125", "126", "127", "137"],
        "restart-policies" ["restart-policy", "restart", "unless-stopped"],
        "health-checks" ["health-check", "healthcheck", "health"],
        "events" ["event"];
    "Standards":
        "oci-bundle" ["bundle", "config.json", "oci"],
        "hooks" ["hook"],
        "digests" ["digest", "chain-id", "diff-id", "content-addressing"];
    "glassbox":
        "journal" ["explain", "dry-run", "plan"];
}

/// All topics, group by group in reading order.
pub fn all() -> &'static [Topic] {
    TOPICS
}

/// The topic with this name or alias; case does not matter.
pub fn find(name: &str) -> Option<&'static Topic> {
    let name = name.to_lowercase();
    TOPICS
        .iter()
        .find(|t| t.name == name)
        .or_else(|| TOPICS.iter().find(|t| t.aliases.contains(&name.as_str())))
}

/// Up to three topics whose name or alias is nearly this, the nearest first.
pub fn near(name: &str) -> Vec<&'static str> {
    let name = name.to_lowercase();
    let score = |topic: &Topic| {
        std::iter::once(&topic.name)
            .chain(topic.aliases)
            .map(|n| {
                let part = n.len() > 3 && name.len() > 3 && (n.contains(&name) || name.contains(n));
                strsim::jaro_winkler(n, &name).max(if part { 0.9 } else { 0.0 })
            })
            .fold(0.0, f64::max)
    };
    let mut scored: Vec<(f64, &str)> = TOPICS.iter().map(|t| (score(t), t.name)).collect();
    scored.retain(|(score, _)| *score > 0.82);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

impl Topic {
    /// The title.
    pub fn title(&self) -> &'static str {
        self.text
            .lines()
            .next()
            .unwrap_or("")
            .trim_start_matches("# ")
    }
    /// What it is, in one sentence.
    pub fn summary(&self) -> String {
        let body = self
            .text
            .split_once('\n')
            .map_or("", |(_, rest)| rest)
            .trim_start();
        let paragraph = body.split("\n\n").next().unwrap_or("");
        paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
    }
    /// The text without the markers of live values: what the book shows.
    pub fn plain(&self) -> String {
        let lines = self.text.lines().filter(|l| !l.starts_with("<!-- live "));
        lines.collect::<Vec<_>>().join("\n")
    }
    /// The live values, read from this host now; `state` is glassbox's state directory.
    pub fn live(&self, state: &Path) -> Vec<Reading> {
        self.text
            .lines()
            .filter_map(live::marker)
            .flat_map(|items| live::read_all(items, state))
            .collect()
    }
    /// The live values that the text asks for and `live.rs` does not know: none, by a test.
    pub fn unknown_live_values(&self) -> Vec<String> {
        self.text
            .lines()
            .filter_map(live::marker)
            .flat_map(str::split_whitespace)
            .filter(|item| !live::is_known(item))
            .map(str::to_string)
            .collect()
    }
    /// `{"name", "title", "group", "aliases", "summary", "text", "live": [{"what", "source",
    /// "value" | "unread"}]}`; `text` is Markdown, `live` was read now.
    pub fn to_json(&self, state: &Path) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "title": self.title(),
            "group": self.group,
            "aliases": self.aliases,
            "summary": self.summary(),
            "text": self.plain(),
            "live": self.live(state),
        })
    }
}
