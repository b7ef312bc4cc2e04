//! Where the cgroup hierarchies are: unified (v2), legacy (v1) or hybrid.
//!
//! What it does: cgroup v2 is one tree for all controllers. cgroup v1 has any number of trees,
//! each with some controllers, or with none and a name (`name=systemd`). A hybrid host has v1
//! trees and a v2 tree beside them; a controller is in one tree only. What is where is read from
//! three texts, by pure parsers:
//!
//! ```text
//! /proc/self/mountinfo  41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
//!                       35 31 0:32 / /sys/fs/cgroup/memory  rw - cgroup  cgroup  rw,memory
//! /proc/self/cgroup     4:memory:/some/group      (hierarchy:controllers:path of this process)
//!                       0::/                      (the v2 tree)
//! /proc/cgroups         memory 4 15 1             (controller, hierarchy, groups, enabled)
//! ```
//!
//! What it implements: cgroups(7), proc_pid_mountinfo(5), the kernel's
//! admin-guide/cgroup-v2.rst ("Mounting") and cgroup-v1/cgroups.rst.
//! Interface: [`CgroupLayout`], [`Hierarchy`]. Read next: [`crate::cgroups`].

use super::text::read_text;
use crate::error::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which of the three kinds of host this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutKind {
    /// One v2 tree and nothing else.
    Unified,
    /// v1 trees only.
    Legacy,
    /// v1 trees, and a v2 tree beside them.
    Hybrid,
    /// No cgroup file system is mounted.
    None,
}

/// One mounted tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// True for the v2 tree.
    pub v2: bool,
    /// Its controllers; a v1 tree without controllers has its name here (`name=systemd`).
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which group stands at the mount point: `/`, or a deeper one in a container without a cgroup
    /// namespace.
    pub root: String,
    /// The group of the calling process in this tree.
    pub own: String,
    /// The mount is read-only, as inside most containers.
    pub read_only: bool,
}

impl Hierarchy {
    /// True when the controller (or `name=…`) is in this tree.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// The directory of the group with this path (as /proc/PID/cgroup shows it), or nothing when
    /// the group lies outside what is mounted.
    pub fn dir(&self, path: &str) -> Option<PathBuf> {
        let below = match self.root.as_str() {
            "/" => path,
            root => match path.strip_prefix(root)? {
                rest if rest.is_empty() || rest.starts_with('/') => rest,
                _ => return None,
            },
        };
        Some(match below.trim_start_matches('/') {
            "" => self.mount.clone(),
            below => self.mount.join(below),
        })
    }

    /// Where a group lies that somebody names: its path as the kernel has it, and its directory. What
    /// is mounted is all that can be reached, so in a container that has its own group mounted, and no
    /// cgroup namespace, a path that is not below that group begins there, as if it were the root.
    pub fn place(&self, wished: &str) -> (String, PathBuf) {
        if let Some(dir) = self.dir(wished) {
            return (wished.to_string(), dir);
        }
        match wished.trim_start_matches('/') {
            "" => (self.root.clone(), self.mount.clone()),
            below => (format!("{}/{below}", self.root), self.mount.join(below)),
        }
    }

    /// A short name: `memory`, `cpu,cpuacct`, `name=systemd`, or `cgroup2` for the v2 tree.
    pub fn name(&self) -> String {
        if self.v2 {
            "cgroup2".into()
        } else {
            self.controllers.join(",")
        }
    }
}

/// All mounted trees of this host, and what the kernel says of each controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLayout {
    /// Which kind of host.
    pub kind: LayoutKind,
    /// The trees, v1 first, in the order of their mounts.
    pub hierarchies: Vec<Hierarchy>,
    /// Controllers that the kernel was built with, and whether each is enabled (the boot parameter
    /// `cgroup_disable=` turns one off). Newer kernels leave out those without a v1 side.
    pub kernel: BTreeMap<String, bool>,
}

impl CgroupLayout {
    /// Reads this host. Errors: /proc is not mounted.
    pub fn detect() -> Result<CgroupLayout> {
        let read = |path: &str| read_text(path).with_context(|| format!("cannot read {path}"));
        let mounts = read("/proc/self/mountinfo")?;
        // A kernel without CONFIG_CGROUPS has neither of the other two; that is no error here.
        let own = read("/proc/self/cgroup").unwrap_or_default();
        let kernel = read("/proc/cgroups").unwrap_or_default();
        Ok(Self::from_text(&mounts, &own, &kernel, |dir| {
            read_text(dir.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    /// The layout out of the three texts; `controllers_of` returns the content of
    /// `cgroup.controllers` in a directory of the v2 tree.
    pub fn from_text(
        mountinfo: &str,
        proc_self_cgroup: &str,
        proc_cgroups: &str,
        controllers_of: impl Fn(&Path) -> String,
    ) -> CgroupLayout {
        let own = parse_proc_cgroup(proc_self_cgroup);
        let own_in = |controllers: &[String]| {
            own.iter()
                .find(|m| m.controllers == controllers)
                .map_or_else(|| "/".to_string(), |m| m.path.clone())
        };
        let mut trees: Vec<Hierarchy> = Vec::new();
        for mount in parse_cgroup_mounts(mountinfo) {
            let (controllers, own) = if mount.v2 {
                let names = controllers_of(&mount.point);
                let names = names.split_whitespace().map(str::to_string).collect();
                (names, own_in(&[]))
            } else {
                // The options hold flags as well; the process's memberships name the tree.
                let membership = own.iter().find(|m| {
                    !m.controllers.is_empty()
                        && m.controllers.iter().all(|c| mount.options.contains(c))
                });
                match membership {
                    Some(m) => (m.controllers.clone(), m.path.clone()),
                    None => continue,
                }
            };
            // The same tree may be mounted at several places: the first whole one counts.
            let known = trees
                .iter_mut()
                .find(|t| t.v2 == mount.v2 && t.controllers == controllers);
            let tree = Hierarchy {
                v2: mount.v2,
                controllers,
                mount: mount.point,
                root: mount.root,
                own,
                read_only: mount.read_only,
            };
            match known {
                Some(known) if known.root.len() > tree.root.len() => *known = tree,
                Some(_) => {}
                None => trees.push(tree),
            }
        }
        trees.sort_by_key(|t| t.v2);
        let kind = match (trees.iter().any(|t| !t.v2), trees.iter().any(|t| t.v2)) {
            (false, true) => LayoutKind::Unified,
            (true, false) => LayoutKind::Legacy,
            (true, true) => LayoutKind::Hybrid,
            (false, false) => LayoutKind::None,
        };
        CgroupLayout {
            kind,
            hierarchies: trees,
            kernel: parse_proc_cgroups(proc_cgroups),
        }
    }

    /// The v2 tree, if there is one.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.v2)
    }

    /// The tree that a controller is in.
    pub fn of(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.has(controller))
    }

    /// The pure v2 layout of [`super::Host::example_v2`].
    pub fn example_v2() -> CgroupLayout {
        Self::from_text(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice/session-1.scope\n",
            "cpuset 0 60 1\ncpu 0 60 1\nio 0 60 1\nmemory 0 60 1\nhugetlb 0 60 1\npids 0 60 1\n",
            |_| "cpuset cpu io memory hugetlb pids".into(),
        )
    }

    /// The hybrid layout of [`super::Host::example_hybrid`].
    pub fn example_hybrid() -> CgroupLayout {
        let v1 = "cpu cpuacct cpuset memory devices freezer blkio pids name=systemd";
        let (mut mounts, mut own, mut kernel) = (String::new(), String::new(), String::new());
        for (n, name) in v1.split(' ').enumerate() {
            let dir = name.trim_start_matches("name=");
            mounts += &format!(
                "{n} 31 0:{n} / /sys/fs/cgroup/{dir} rw,relatime - cgroup cgroup rw,{name}\n"
            );
            own += &format!("{}:{name}:/\n", n + 1);
            if name == dir {
                kernel += &format!("{name} {} 1 1\n", n + 1);
            }
        }
        mounts += "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        Self::from_text(
            &mounts,
            &(own + "0::/\n"),
            &(kernel + "hugetlb 0 1 1\nnet_cls 0 1 1\n"),
            |_| "hugetlb".into(),
        )
    }
}

/// One line of /proc/PID/cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The tree's controllers or its `name=…`; empty for the v2 tree.
    pub controllers: Vec<String>,
    /// The group's path in it, seen from the reader's cgroup namespace. A group that has been
    /// removed meanwhile ends in ` (deleted)`.
    pub path: String,
}

/// Parses /proc/PID/cgroup: `hierarchy-ID:controller-list:cgroup-path` a line. See cgroups(7).
pub fn parse_proc_cgroup(text: &str) -> Vec<Membership> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Membership {
                controllers: controllers
                    .split(',')
                    .filter(|c| !c.is_empty())
                    .map(str::to_string)
                    .collect(),
                path: path.to_string(),
            })
        })
        .collect()
}

/// Parses /proc/cgroups: controller → enabled. See cgroups(7).
pub fn parse_proc_cgroups(text: &str) -> BTreeMap<String, bool> {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_string(), words.nth(2)? == "1"))
        })
        .collect()
}

struct CgroupMount {
    v2: bool,
    root: String,
    point: PathBuf,
    read_only: bool,
    options: Vec<String>,
}

/// The cgroup lines of mountinfo. See proc_pid_mountinfo(5): the optional fields end with `-`,
/// and blanks in paths are written as octal escapes.
fn parse_cgroup_mounts(text: &str) -> Vec<CgroupMount> {
    text.lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(3);
            let (root, point, flags) = (front.next()?, front.next()?, front.next()?);
            let mut back = back.split(' ');
            let (kind, _, options) = (back.next()?, back.next()?, back.next()?);
            let v2 = match kind {
                "cgroup2" => true,
                "cgroup" => false,
                _ => return None,
            };
            Some(CgroupMount {
                v2,
                root: unescape(root),
                point: unescape(point).into(),
                read_only: flags.split(',').any(|f| f == "ro"),
                options: options.split(',').map(str::to_string).collect(),
            })
        })
        .collect()
}

/// `\040` → a blank, as the kernel's `mangle_path` escapes it.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes
            .get(i + 1..i + 4)
            .filter(|_| bytes[i] == b'\\')
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unified_host_has_one_tree() {
        let layout = CgroupLayout::example_v2();
        assert_eq!(layout.kind, LayoutKind::Unified);
        let tree = layout.unified().unwrap();
        assert!(tree.has("memory") && layout.of("io").is_some());
        assert_eq!(tree.own, "/user.slice/user-1000.slice/session-1.scope");
        assert_eq!(tree.dir("/a/b").unwrap(), Path::new("/sys/fs/cgroup/a/b"));
        assert_eq!(tree.dir("/").unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn a_hybrid_host_finds_each_controller_in_its_tree() {
        let layout = CgroupLayout::example_hybrid();
        assert_eq!(layout.kind, LayoutKind::Hybrid);
        assert_eq!(layout.hierarchies.len(), 10);
        assert!(!layout.of("memory").unwrap().v2);
        assert!(layout.of("hugetlb").unwrap().v2);
        assert!(
            layout.of("net_cls").is_none(),
            "the kernel has it, nothing mounts it"
        );
        assert_eq!(layout.kernel.get("net_cls"), Some(&true));
        assert!(layout.of("name=systemd").is_some());
    }

    #[test]
    fn joined_controllers_and_a_group_at_the_mount_point() {
        let layout = CgroupLayout::from_text(
            "1 0 0:1 /docker/x /sys/fs/cgroup/cpu\\040acct ro - cgroup cgroup rw,xattr,cpu,cpuacct\n",
            "3:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n",
            "cpu 3 5 1\nmemory 0 1 0\n",
            |_| String::new(),
        );
        assert_eq!(layout.kind, LayoutKind::Legacy);
        let tree = layout.of("cpuacct").unwrap();
        assert_eq!(tree.name(), "cpu,cpuacct");
        assert!(tree.read_only);
        assert_eq!(
            tree.dir("/docker/x/y").unwrap(),
            Path::new("/sys/fs/cgroup/cpu acct/y")
        );
        assert_eq!(tree.dir("/docker/xy"), None);
        let place = |path: &str, dir: &str| (path.to_string(), PathBuf::from(dir));
        let mount = "/sys/fs/cgroup/cpu acct";
        assert_eq!(tree.place("/"), place("/docker/x", mount));
        let inner = place("/docker/x/docker/xy", &format!("{mount}/docker/xy"));
        assert_eq!(tree.place("/docker/xy"), inner);
        assert_eq!(tree.place("/docker/x/docker/xy"), inner);
        assert_eq!(layout.kernel.get("memory"), Some(&false));
    }

    #[test]
    fn no_cgroups_at_all() {
        let layout = CgroupLayout::from_text("", "", "", |_| String::new());
        assert_eq!(layout.kind, LayoutKind::None);
    }
}
