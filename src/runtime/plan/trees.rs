//! The plan's parent part of the mounts: trees that are copied before init exists.
//!
//! What it does: finds the bind mounts that need a map of ids, or that are shared with the host,
//! and plans their copies (see `runtime/tree.rs` for why they are the parent's).
//!
//! What it implements: runtime-spec "Mounts" (`uidMappings`, `gidMappings`, `idmap`, `ridmap`),
//! "Rootfs Mount Propagation". Interface: the methods that `plan.rs` calls.
//! Read next: `filesystem.rs`.

use super::{Builder, identity::id_maps};
use crate::error::{Error, Kind, Result};
use crate::journal::Stage;
use crate::namespaces::actions::HoldIdMap;
use crate::runtime::options::MountOptions;
use crate::runtime::tree::{CopyTree, OpenUserNamespace};
use crate::spec::runtime::{Mount, NamespaceType};

impl Builder<'_> {
    /// The copies, and the user namespaces that they get their maps from; before the split, so
    /// that init inherits them.
    pub(super) fn trees(&mut self) -> Result<()> {
        let mounts: &[Mount] = &self.spec.mounts;
        for (i, mount) in mounts.iter().enumerate() {
            let options = MountOptions::parse(&mount.options)?;
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
    pub(super) fn tree_of(&self, i: usize, mount: &Mount, options: &MountOptions) -> Option<String> {
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
}

fn wants_idmap(mount: &Mount, options: &MountOptions) -> bool {
    options.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty()
}

fn tree_name(i: usize) -> String {
    format!("tree-{i}")
}
