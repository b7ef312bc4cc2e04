//! The plan's parent part: what takes the host's power, or the host's view.
//!
//! What it does: plans what has to be done for init from outside: the copies of mounts that need a
//! map of ids or are shared with the host (`runtime/tree.rs` says why), the network devices that
//! move in, and the word to the agent of a seccomp filter.
//!
//! What it implements: runtime-spec "Mounts" (`uidMappings`, `gidMappings`, `idmap`, `ridmap`),
//! "Rootfs Mount Propagation", "Network Devices", "The container process state".
//! Interface: the methods that `plan.rs` calls. Read next: `filesystem.rs`.

use super::{Builder, identity::id_maps};
use crate::error::{Error, Kind, Result};
use crate::journal::Stage;
use crate::namespaces::actions::HoldIdMap;
use crate::network::actions::Connect;
use crate::runtime::listener::SendState;
use crate::runtime::netdevice::MoveNetDevice;
use crate::runtime::options::MountOptions;
use crate::runtime::store::state_of;
use crate::runtime::tree::{CopyTree, OpenUserNamespace};
use crate::spec::runtime::{Mount, NamespaceType};
use std::path::Path;

impl Builder<'_> {
    /// The copies, and the user namespaces that they get their maps from; before the split, so
    /// that init inherits them.
    pub(super) fn trees(&mut self) -> Result<()> {
        let mounts: &[Mount] = &self.spec.mounts;
        for (i, mount) in mounts.iter().enumerate() {
            let options = MountOptions::parse(&mount.options)?;
            if options.remount {
                continue;
            }
            let bind = options.bind || mount.typ.as_deref() == Some("bind");
            let idmap = match wants_idmap(mount, &options) {
                false => None,
                true if !bind => {
                    let place = mount.destination.display();
                    return Err(Error::kind(
                        Kind::Unsupported,
                        format!("the mount at {place} cannot be id-mapped: it is no bind mount"),
                    )
                    .hint("a file system that is mounted anew has the container's ids already"));
                }
                true => Some((self.id_map(i, mount)?, options.idmap == Some(true))),
            };
            let shared = bind && options.propagation == libc::MS_SHARED && self.shares_mounts();
            let Some(source) = mount.source.as_ref().filter(|_| idmap.is_some() || shared) else {
                continue;
            };
            let place = mount.destination.display().to_string();
            let why = match idmap {
                Some(_) => "Its files' owners are mapped to others, which takes power over them.",
                None => "It stays shared with the host, as long as nobody has cut it off.",
            };
            let copy = CopyTree {
                name: tree_name(i),
                source: self.request.bundle.join(source),
                recursive: options.recursive,
                idmap,
            };
            let id = self.unique(format!("copy-{place}"));
            self.parent(Stage::Runtime, id, why, copy);
        }
        Ok(())
    }

    /// The scene's name of mount `i`'s copy, where [`Self::trees`] makes one.
    pub(super) fn tree_of(
        &self,
        i: usize,
        mount: &Mount,
        options: &MountOptions,
    ) -> Option<String> {
        let shared = options.propagation == libc::MS_SHARED && self.shares_mounts();
        let copied = options.bind && (wants_idmap(mount, options) || shared);
        copied.then(|| tree_name(i))
    }

    fn shares_mounts(&self) -> bool {
        let word = self.linux.rootfs_propagation.as_deref();
        matches!(word, Some("shared" | "rshared"))
    }

    /// Plans the user namespace with the map of mount `i`; the scene's name for it.
    fn id_map(&mut self, i: usize, mount: &Mount) -> Result<String> {
        let name = format!("id-map-{i}");
        let place = mount.destination.display().to_string();
        let why = "A user namespace that nobody is in holds the map of the mount's ids.";
        let given = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        let wrong = |what: String| Err(Error::kind(Kind::Usage, what).topic("oci-bundle"));
        if given && (mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty()) {
            return wrong(format!(
                "the mount at {place} has one of uidMappings and gidMappings: it needs both"
            ));
        }
        let id = self.unique(format!("id-map-{place}"));
        if !given && let Some(path) = self.joins(NamespaceType::User) {
            let path = path.to_path_buf();
            let open = OpenUserNamespace {
                name: name.clone(),
                path,
            };
            self.parent(Stage::Namespaces, id, why, open);
            return Ok(name);
        }
        let (uids, gids) = match given {
            true => (&mount.uid_mappings, &mount.gid_mappings),
            false if self.creates(NamespaceType::User) => {
                (&self.linux.uid_mappings, &self.linux.gid_mappings)
            }
            false => {
                return wrong(format!(
                    "the mount at {place} shall be id-mapped, but there is no map: neither \
                     uidMappings and gidMappings nor a user namespace of the container's"
                ));
            }
        };
        let hold = HoldIdMap {
            name: name.clone(),
            uids: id_maps(uids),
            gids: id_maps(gids),
        };
        self.parent(Stage::Namespaces, id, why, hold);
        Ok(name)
    }

    /// Devices go into the network namespace while the parent waits with nobody inside yet.
    pub(super) fn net_devices(&mut self) -> Result<()> {
        let joined = self.joins(NamespaceType::Network);
        if !self.linux.net_devices.is_empty()
            && joined.is_none()
            && !self.creates(NamespaceType::Network)
        {
            return Err(Error::kind(
                Kind::Usage,
                "linux.netDevices needs a network namespace of the container's own",
            )
            .hint("linux.namespaces has none: the devices are there already")
            .topic("oci-bundle"));
        }
        for (name, device) in &self.linux.net_devices {
            let inside = match device.name.as_deref() {
                None | Some("") => name,
                Some(inside) => inside,
            };
            if let Some(wrong) = [name, inside].into_iter().find(|n| !is_device_name(n)) {
                return Err(Error::kind(
                    Kind::Usage,
                    format!("{wrong:?} is no name of a network device"),
                )
                .hint("it has 1 to 15 bytes, none of them a slash, a colon or a space"));
            }
            let action = MoveNetDevice {
                name: name.clone(),
                inside: inside.to_string(),
                namespace: joined.map(Path::to_path_buf),
            };
            self.parent(
                Stage::Namespaces,
                format!("net-device-{name}"),
                "A device of the host's becomes the container's; it goes home with the namespace.",
                action,
            );
        }
        Ok(())
    }

    /// The links into its networks, as soon as there is a namespace for their inner ends.
    pub(super) fn connect(&mut self) {
        for endpoint in &self.request.wishes.networks {
            self.parent(
                Stage::Containers,
                format!("connect-{}", endpoint.network),
                "Two network devices like a cable: one end here, one where the container will be.",
                Connect {
                    endpoint: endpoint.clone(),
                },
            );
        }
    }

    /// What the agent of a seccomp filter is told, once init has an id.
    pub(super) fn agent_state(&mut self, wanted: bool) {
        if !wanted {
            return;
        }
        let state = state_of(self.spec, self.request.id, self.request.bundle);
        self.parent(
            Stage::Runtime,
            "seccomp-state",
            "The agent shall know whose calls it decides about: the process has an id now.",
            SendState::new(self.linux, state),
        );
    }
}

fn wants_idmap(mount: &Mount, options: &MountOptions) -> bool {
    options.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty()
}

fn tree_name(i: usize) -> String {
    format!("tree-{i}")
}

/// As the kernel's `dev_valid_name` has it.
fn is_device_name(name: &str) -> bool {
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..16).contains(&name.len()) && name != "." && name != ".." && !name.contains(wrong)
}
