//! The plan's middle: the root file system, its mounts, devices and terminal, and the change of
//! roots.
//!
//! What it does: the part of the plan that builds what the container will see as `/`. All of it is
//! init's, in its own mount namespace: on the host nothing of it ever appears.
//!
//! What it implements: runtime-spec "Root", "Mounts", "Devices", "Default Filesystems".
//! Interface: the methods that `plan.rs` calls, in this order. Read next: `mount.rs`.

use super::Builder;
use crate::cgroups;
use crate::error::{Context, Error, Kind, Result};
use crate::host::LayoutKind;
use crate::journal::Stage;
use crate::layers::overlay::MountOverlay;
use crate::namespaces::actions::{BindRoot, Propagate, Propagation};
use crate::runtime::Stdio;
use crate::runtime::devices::{Link, MakeNode, Node};
use crate::runtime::mount::Mount;
use crate::runtime::options::MountOptions;
use crate::runtime::program::MakeWorkingDirectory;
use crate::runtime::remount::Remount;
use crate::runtime::rootfs::{
    ChangeRoot, Mask, MoveRoot, OpenRoot, Pivot, ReadOnly, ReadOnlyMount, RootPropagation,
};
use crate::runtime::session::Sysctl;
use crate::runtime::shared::{AttachRoot, CopyRoot};
use crate::runtime::terminal::{OpenTerminal, ReceiveTerminal, Streams};
use crate::security::paths::{DEVICES, LINKS};
use crate::spec::runtime::NamespaceType;
use std::path::{Path, PathBuf};

impl Builder<'_> {
    pub(super) fn root_and_mounts(&mut self) -> Result<()> {
        let keep = propagation(self.linux.rootfs_propagation.as_deref())?;
        // The copies of the host's mounts are never shared with it: what init mounts would appear
        // there. What shall be shared was copied before (`parent.rs`).
        let propagation = match keep {
            Some(Propagation::Private | Propagation::Unbindable) => Propagation::Private,
            _ => Propagation::Slave,
        };
        if self.creates(NamespaceType::Mount) {
            self.init(
                Stage::Namespaces,
                "propagation",
                "Mounts made in here must not appear on the host.",
                Propagate { propagation },
            );
        }
        let mounts = &self.spec.mounts;
        let root = mounts.first().filter(|m| m.destination == Path::new("/"));
        match root {
            Some(_) if self.joins(NamespaceType::Mount).is_some() => {
                return Err(Error::kind(
                    Kind::Unsupported,
                    "a mount at / needs a mount namespace of the container's own",
                ));
            }
            Some(m) if m.typ.as_deref() == Some("overlay") => self.init(
                Stage::Layers,
                "overlay",
                "The image's layers, read-only and shared, under one writable layer of its own.",
                MountOverlay::from_options(&self.root, &m.options)?,
            ),
            Some(_) => {
                return Err(Error::kind(
                    Kind::Unsupported,
                    "a mount at / can only be an overlay: it becomes the root file system",
                ));
            }
            // In the caller's own mount namespace nothing is mounted, nor pivoted.
            None if !self.creates(NamespaceType::Mount)
                && self.joins(NamespaceType::Mount).is_none() => {}
            None if self.joins(NamespaceType::Mount).is_some() => self.init(
                Stage::Runtime,
                "attach-root",
                "All mounts of the container hang below this one, with which they are taken back.",
                AttachRoot {
                    path: self.root.clone(),
                },
            ),
            None => self.init(
                Stage::Runtime,
                "bind-root",
                "pivot_root wants a mount point, so the root is bind-mounted onto itself.",
                BindRoot {
                    path: self.root.clone(),
                    private: keep != Some(Propagation::Slave),
                },
            ),
        }
        let open = OpenRoot {
            path: self.root.clone(),
        };
        self.init(
            Stage::Runtime,
            "open-root",
            "From here on, every path is resolved inside this directory.",
            open,
        );
        for (number, mount) in mounts.iter().enumerate().skip(root.iter().len()) {
            self.mount(number, mount)?;
        }
        Ok(())
    }

    /// The root's copy, for a mount namespace that others live in.
    pub(super) fn shared_root(&mut self) -> Result<()> {
        let Some(namespace) = self.joins(NamespaceType::Mount) else {
            return Ok(());
        };
        let keep = propagation(self.linux.rootfs_propagation.as_deref())?;
        let copy = CopyRoot {
            namespace: namespace.to_path_buf(),
            path: self.root.clone(),
            private: keep != Some(Propagation::Slave),
        };
        self.parent(
            Stage::Runtime,
            "copy-root",
            "What is mounted among the mounts of others has to be found again, and taken back.",
            copy,
        );
        Ok(())
    }

    fn mount(&mut self, number: usize, mount: &crate::spec::runtime::Mount) -> Result<()> {
        let fstype = mount.typ.clone().unwrap_or_default();
        let mut options = MountOptions::parse(&mount.options)?;
        if mount.destination.as_os_str().is_empty() {
            return Err(Error::kind(Kind::Usage, "a mount has no destination").topic("oci-bundle"));
        }
        // Of old a relative one begins at the container's root.
        let destination = &Path::new("/").join(&mount.destination);
        options.bind |= fstype == "bind";
        if options.remount {
            let id = self.unique(format!("remount-{}", destination.display()));
            let why = "What is mounted there already gets these options, and no others.";
            let destination = destination.clone();
            self.init(
                Stage::Runtime,
                id,
                why,
                Remount {
                    destination,
                    options,
                },
            );
            return Ok(());
        }
        let tree = self.tree_of(number, mount, &options);
        if fstype == "cgroup" || fstype == "cgroup2" {
            return self.cgroup_mount(destination, &options);
        }
        let source = match &mount.source {
            Some(s) if options.bind => self.request.bundle.join(s),
            Some(s) => s.clone(),
            None => PathBuf::from(&fstype),
        };
        if fstype == "sysfs" && self.in_user_namespace() && !self.creates(NamespaceType::Network) {
            // sysfs belongs to the network namespace: its owner alone may mount one.
            (options.bind, options.recursive) = (true, true);
            options.data.clear();
            return self.push_mount("/sys".into(), destination, "", options);
        }
        self.push_tree(source, destination, &fstype, options, tree)
    }

    fn push_mount(
        &mut self,
        source: PathBuf,
        destination: &Path,
        fstype: &str,
        options: MountOptions,
    ) -> Result<()> {
        self.push_tree(source, destination, fstype, options, None)
    }

    fn push_tree(
        &mut self,
        source: PathBuf,
        destination: &Path,
        fstype: &str,
        options: MountOptions,
        tree: Option<String>,
    ) -> Result<()> {
        let why = why_mount(fstype, options.bind);
        // A later mount may cover an earlier one at the same place.
        let id = self.unique(format!("mount-{}", destination.display()));
        let mount = Mount {
            destination: destination.into(),
            fstype: fstype.into(),
            source,
            options,
            tree,
        };
        self.init(Stage::Runtime, id, why, mount);
        Ok(())
    }

    /// /sys/fs/cgroup as this host's layout has it: one hierarchy, or a tmpfs full of them.
    fn cgroup_mount(&mut self, destination: &Path, options: &MountOptions) -> Result<()> {
        let own_view = self
            .linux
            .namespaces
            .iter()
            .any(|n| n.typ == NamespaceType::Cgroup);
        let Some(group) = self.request.group.clone() else {
            // Without a cgroup of its own there is nothing to show but the host's, read-only.
            let mut bind = options.clone();
            (bind.bind, bind.recursive) = (true, true);
            bind.set |= libc::MOUNT_ATTR_RDONLY;
            bind.set_below |= libc::MOUNT_ATTR_RDONLY;
            return self.push_mount("/sys/fs/cgroup".into(), destination, "bind", bind);
        };
        let bind = |source: PathBuf| {
            let options = MountOptions {
                bind: true,
                data: Vec::new(),
                ..options.clone()
            };
            (source, "bind".to_string(), options)
        };
        let entry = |h: &crate::host::Hierarchy, data: Vec<String>, fstype: &str| {
            if own_view {
                let options = MountOptions {
                    data,
                    ..options.clone()
                };
                (PathBuf::from("cgroup"), fstype.to_string(), options)
            } else {
                bind(directory_in(&group, h))
            }
        };
        if self.host.cgroups.kind == LayoutKind::Unified {
            let h = &self.host.cgroups.hierarchies[0];
            let (source, fstype, options) = entry(h, Vec::new(), "cgroup2");
            return self.push_mount(source, destination, &fstype, options);
        }
        let tmpfs = MountOptions {
            data: vec!["mode=755".into()],
            set: options.set & !libc::MOUNT_ATTR_RDONLY,
            ..options.clone()
        };
        self.push_mount("tmpfs".into(), destination, "tmpfs", tmpfs)?;
        for h in self.host.cgroups.hierarchies.clone() {
            let Some(name) = h.mount.file_name() else {
                continue;
            };
            let place = destination.join(name);
            let (fstype, data) = if h.v2 {
                ("cgroup2", Vec::new())
            } else {
                ("cgroup", v1_options(&h))
            };
            let (source, fstype, options) = entry(&h, data, fstype);
            self.push_mount(source, &place, &fstype, options)?;
        }
        if options.set & libc::MOUNT_ATTR_RDONLY != 0 {
            let path = destination.to_path_buf();
            self.init(
                Stage::Runtime,
                format!("read-only-{}", destination.display()),
                "The hierarchies hang in a small tmpfs, which nobody needs to write to now.",
                ReadOnlyMount { path },
            );
        }
        Ok(())
    }

    pub(super) fn devices(&mut self) -> Result<()> {
        let is_dev = |path: &Path| Path::new("/").join(path) == Path::new("/dev");
        let fresh_dev = self
            .spec
            .mounts
            .iter()
            .any(|m| is_dev(&m.destination) && m.typ.as_deref() == Some("tmpfs"));
        let bind = self.in_user_namespace();
        if fresh_dev {
            let asked = |path| self.linux.devices.iter().any(|d| d.path == Path::new(path));
            for device in DEVICES.iter().filter(|d| !asked(d.path)) {
                let node = Node {
                    path: device.path.into(),
                    kind: 'c',
                    major: device.major,
                    minor: device.minor,
                    mode: 0o666,
                    uid: 0,
                    gid: 0,
                };
                let id = format!("device-{}", device.path);
                let why = "A program finds the few devices that it may rely on, and no other.";
                self.init(Stage::Runtime, id, why, MakeNode { node, bind });
            }
        }
        for device in &self.linux.devices {
            let kind = match device.typ.as_str() {
                "b" => 'b',
                "p" => 'p',
                "c" | "u" => 'c',
                other => {
                    return Err(Error::kind(
                        Kind::Usage,
                        format!("{other:?} is no type of a device"),
                    )
                    .hint("it is c or u (character), b (block) or p (FIFO)"));
                }
            };
            if !device.path.is_absolute() {
                let path = &device.path;
                return Err(Error::kind(
                    Kind::Usage,
                    format!("the path of the device {path:?} is not absolute"),
                ));
            }
            let node = Node {
                path: device.path.clone(),
                kind,
                major: device.major as u32,
                minor: device.minor as u32,
                mode: device.file_mode.unwrap_or(0o666) & 0o7777,
                uid: device.uid.unwrap_or(0),
                gid: device.gid.unwrap_or(0),
            };
            let id = self.unique(format!("device-{}", device.path.display()));
            self.init(
                Stage::Runtime,
                id,
                "This device was asked for.",
                MakeNode {
                    node,
                    bind: bind && kind != 'p',
                },
            );
        }
        if fresh_dev {
            let devpts = self
                .spec
                .mounts
                .iter()
                .any(|m| m.typ.as_deref() == Some("devpts"));
            let links = LINKS
                .iter()
                .filter(|(path, _)| devpts || *path != "/dev/ptmx")
                .map(|(path, to)| (to.to_string(), path.to_string()))
                .collect();
            self.init(
                Stage::Runtime,
                "dev-links",
                "Programs expect their own streams under /dev.",
                Link { links },
            );
        }
        Ok(())
    }

    pub(super) fn terminal(&mut self) {
        if self.process.terminal {
            let size = self
                .process
                .console_size
                .as_ref()
                .map(|s| (s.height, s.width));
            self.init(
                Stage::Runtime,
                "terminal",
                "A terminal of the container's own devpts becomes its standard streams.",
                OpenTerminal {
                    size,
                    console: true,
                    owner: self.process.user.uid,
                },
            );
        } else if matches!(self.request.stdio, Stdio::Fds { .. } | Stdio::Fifos { .. }) {
            self.init(
                Stage::Runtime,
                "streams",
                "Its standard streams are ours, to log and to pass on.",
                Streams,
            );
        }
    }

    pub(super) fn new_root(&mut self) -> Result<()> {
        match self.request.wishes.no_pivot {
            _ if !self.creates(NamespaceType::Mount) => self.init(
                Stage::Namespaces,
                "change-root",
                "These mounts are others' too: only this process gets another root.",
                ChangeRoot,
            ),
            false => self.init(
                Stage::Namespaces,
                "pivot-root",
                "The new root becomes /, and the host's tree is let go: there is no way back to it.",
                Pivot,
            ),
            true => self.init(
                Stage::Namespaces,
                "move-root",
                "The new root is moved over the old one, which stays below it: weaker than pivot_root.",
                MoveRoot,
            ),
        }
        let word = self.linux.rootfs_propagation.as_deref();
        if let Some(keep @ (Propagation::Shared | Propagation::Unbindable)) = propagation(word)? {
            self.init(
                Stage::Namespaces,
                "root-propagation",
                "pivot_root takes no shared root, so what the root shall be it becomes now.",
                RootPropagation {
                    propagation: keep,
                    recursive: word.is_some_and(|w| w.starts_with('r')),
                },
            );
        }
        if self.process.terminal {
            self.parent(
                Stage::Runtime,
                "receive-terminal",
                "The terminal's outer end arrives: what the container prints comes out here.",
                ReceiveTerminal,
            );
        }
        for (key, value) in &self.linux.sysctl {
            self.namespace_of(key)?;
            let sysctl = Sysctl {
                key: key.clone(),
                value: value.clone(),
            };
            let why = "A kernel parameter of the container's own namespaces.";
            self.init(Stage::Runtime, format!("sysctl-{key}"), why, sysctl);
        }
        if !self.linux.readonly_paths.is_empty() {
            self.init(
                Stage::Runtime,
                "read-only-paths",
                "Parts of /proc that steer the whole kernel can be read, not written.",
                ReadOnly {
                    paths: self.linux.readonly_paths.clone(),
                },
            );
        }
        if !self.linux.masked_paths.is_empty() {
            self.init(
                Stage::Runtime,
                "masked-paths",
                "Parts of /proc and /sys that show the host are covered.",
                Mask {
                    paths: self.linux.masked_paths.clone(),
                },
            );
        }
        if self.spec.root.as_ref().is_some_and(|r| r.readonly) {
            let cwd = self.process.cwd.clone();
            if cwd != Path::new("/") {
                self.init(
                    Stage::Runtime,
                    "make-cwd",
                    "Where the program starts has to exist before nothing can be made any more.",
                    MakeWorkingDirectory { path: cwd },
                );
            }
            self.init(
                Stage::Runtime,
                "read-only-root",
                "Nothing in the root file system can be changed.",
                ReadOnlyMount { path: "/".into() },
            );
        }
        Ok(())
    }
}

/// The group's directory in a hierarchy.
fn directory_in(group: &cgroups::Group, hierarchy: &crate::host::Hierarchy) -> PathBuf {
    group
        .dirs
        .iter()
        .find(|d| d.mount == hierarchy.mount)
        .map_or_else(|| hierarchy.mount.clone(), |d| d.dir.clone())
}

/// What the root's propagation shall be. Absent: its mounts are slaves, so that an unmount on the
/// host still reaches us and a container does not keep a disk busy that was unmounted there; the
/// root itself is private.
fn propagation(word: Option<&str>) -> Result<Option<Propagation>> {
    match word {
        None | Some("") => Ok(None),
        Some(word) => word
            .parse::<Propagation>()
            .context("linux.rootfsPropagation is wrong")
            .map(Some),
    }
}

/// The options that mount a v1 hierarchy: its controllers, or its name where it has none.
fn v1_options(hierarchy: &crate::host::Hierarchy) -> Vec<String> {
    let named = hierarchy.controllers.iter().any(|c| c.starts_with("name="));
    named
        .then(|| "none".to_string())
        .into_iter()
        .chain(hierarchy.controllers.clone())
        .collect()
}

fn why_mount(fstype: &str, bind: bool) -> &'static str {
    match fstype {
        "proc" => "A fresh /proc shows the processes of this pid namespace and no others.",
        "sysfs" => "/sys shows the devices of this network namespace.",
        "tmpfs" => "A file system in memory, empty at the start and gone at the end.",
        "devpts" => "Terminals of its own, invisible outside.",
        "mqueue" => "The message queues of its own IPC namespace.",
        "cgroup" | "cgroup2" => "Its own cgroup, so that it can read its limits.",
        _ if bind => "A part of the host's tree, seen at a second place.",
        _ => "A file system that was asked for.",
    }
}
