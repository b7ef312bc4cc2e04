//! Trees for bind mounts that the parent has to copy.
//!
//! What it does: init copies the source of a bind mount itself, inside its mount namespace. Two
//! kinds of mounts cannot come about that way, so the parent makes their copy, attached to nothing,
//! before init exists, which inherits the descriptor:
//!
//! - an id-mapped one: to give a mount another map takes power over its file system, which is the
//!   host's;
//! - one that is shared with the host (`rootfsPropagation: shared`, and `shared` on the mount): in
//!   init's mount namespace every mount is cut off from the host's already.
//!
//! What it implements: runtime-spec `mounts[].uidMappings`, `idmap`, `ridmap`; open_tree(2),
//! mount_setattr(2) "ID-mapped mounts".
//! Interface: [`CopyTree`], [`OpenUserNamespace`]. Read next: `mount.rs`, which attaches it.

use crate::error::{Context, Result};
use crate::journal::{Action, Planned, Scene};
use crate::sys::{self, fs::CWD, mount as m};
use std::path::{Path, PathBuf};

/// Copies a tree and puts it into the scene.
#[derive(Debug)]
pub struct CopyTree {
    /// The scene's name for it.
    pub name: String,
    /// What is copied.
    pub source: PathBuf,
    /// With all that is mounted below.
    pub recursive: bool,
    /// The scene's name of the user namespace whose map it gets, and whether all mounts below get
    /// it too.
    pub idmap: Option<(String, bool)>,
}

impl Action for CopyTree {
    fn calls(&self) -> Vec<Planned> {
        let recursive = if self.recursive { "|AT_RECURSIVE" } else { "" };
        let source = &self.source;
        let mut calls = vec![Planned::new(
            "open_tree",
            format!("{source:?}, OPEN_TREE_CLONE{recursive}"),
        )];
        if let Some((_, below)) = &self.idmap {
            let below = if *below { ", AT_RECURSIVE" } else { "" };
            calls.push(Planned::new(
                "mount_setattr",
                format!("set MOUNT_ATTR_IDMAP{below}"),
            ));
        }
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot copy the mount {}", self.source.display());
        let recursive = if self.recursive {
            libc::AT_RECURSIVE as u32
        } else {
            0
        };
        let flags = m::OPEN_TREE_CLONE | recursive;
        let tree = m::open_tree(CWD, &self.source, flags)
            .with_context(what)
            .map_err(|e| match e.errno() {
                Some(libc::ENOENT) => e.hint("the source of a bind mount must exist on the host"),
                Some(libc::EPERM) => {
                    e.hint("an id-mapped or shared mount needs CAP_SYS_ADMIN on the host")
                }
                _ => e,
            })?;
        if let Some((name, below)) = &self.idmap {
            let namespace = scene.fd(name)?.try_clone_to_owned();
            let namespace = namespace.context("cannot copy the user namespace's descriptor")?;
            let set = libc::MOUNT_ATTR_IDMAP;
            let nowhere = Path::new("");
            m::mount_setattr(&tree, nowhere, *below, set, 0, 0, Some(&namespace))
                .with_context(|| format!("cannot map the ids of {}", self.source.display()))
                .map_err(|e| match e.errno() {
                    Some(libc::EINVAL) => {
                        e.hint("its file system cannot be id-mapped, or it has a map already")
                    }
                    Some(libc::EPERM) => {
                        e.hint("this needs CAP_SYS_ADMIN over the file system and the map")
                    }
                    _ => e,
                })?;
        }
        scene.put_fd(self.name.clone(), tree);
        Ok(())
    }
}

/// Opens a user namespace that exists, for its map.
#[derive(Debug)]
pub struct OpenUserNamespace {
    /// The scene's name for it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

impl Action for OpenUserNamespace {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let file = sys::namespace::open_ns(&self.path)
            .with_context(|| format!("cannot open the user namespace {}", self.path.display()))?;
        scene.put_fd(self.name.clone(), file);
        Ok(())
    }
}
