//! `diff`: what a container has changed in its root file system.
//!
//! What it does: reads the upper directory, which is nothing but the changes, and asks the layers
//! below whether each file was there before. What the engine itself puts there so that something
//! can be mounted on it is left out.
//!
//! What it implements: docker's `diff`; overlayfs's whiteouts and opaque directories.
//! Interface: [`changes`], [`upper`], [`Change`]. Read next: `commit.rs`.

use super::super::image;
use super::super::store::{Container, Store};
use crate::error::Result;
use crate::layers::tree::Tree;
use crate::layers::whiteout;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum How {
    /// It is new.
    #[serde(rename = "A")]
    Added,
    /// It is not what the image has.
    #[serde(rename = "C")]
    Changed,
    /// It is gone.
    #[serde(rename = "D")]
    Deleted,
}

impl How {
    /// Docker's letter.
    pub fn letter(self) -> char {
        match self {
            How::Added => 'A',
            How::Changed => 'C',
            How::Deleted => 'D',
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happened.
    pub kind: How,
    /// The path in the container.
    pub path: PathBuf,
}

/// Places that the engine makes for its own mounts.
const OURS: &[&str] = &[
    "dev",
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "run/.glassbox",
    "sys",
    "sys/fs",
    "sys/fs/cgroup",
];

/// The upper directory, without what the engine has put there. Empty before the first start.
pub fn upper(store: &Store, container: &Container) -> Result<Tree> {
    let image = image::of_record(store.paths(), &container.record)?;
    let dir = container.dir.join("upper");
    if !dir.exists() {
        super::super::actions::make_all(&dir, 0o755)?;
    }
    let mut tree = Tree::read(&dir)?;
    let lowers: Vec<PathBuf> = image.lowers.iter().rev().cloned().collect();
    let nobodys = |path: &Path| {
        let node = &tree.nodes[path];
        let empty = node.is_directory() || (node.is_file() && node.size == 0);
        empty && !exists(&lowers, path)
    };
    // Files first: a directory that was made for them alone is empty then.
    let mut ours: Vec<PathBuf> = Vec::new();
    for place in OURS.iter().rev().map(PathBuf::from) {
        let full = |p: &Path| {
            tree.nodes
                .keys()
                .any(|k| k.parent() == Some(p) && !ours.contains(k))
        };
        if tree.nodes.contains_key(&place) && nobodys(&place) && !full(&place) {
            ours.push(place);
        }
    }
    // Directories of the image's that only changed because of them.
    for place in &ours {
        tree.nodes.remove(place);
    }
    let touched: BTreeSet<PathBuf> = ours
        .iter()
        .filter_map(|p| p.parent())
        .map(PathBuf::from)
        .collect();
    for directory in touched.iter().rev().filter(|d| !d.as_os_str().is_empty()) {
        let same = tree.nodes.get(directory).is_some_and(|node| {
            let below = lowers
                .iter()
                .find_map(|l| std::fs::symlink_metadata(l.join(directory)).ok());
            use std::os::unix::fs::MetadataExt;
            below.is_some_and(|m| (m.mode(), m.uid(), m.gid()) == (node.mode, node.uid, node.gid))
        });
        if same && !tree.nodes.keys().any(|k| k.parent() == Some(directory)) {
            tree.nodes.remove(directory);
        }
    }
    Ok(tree)
}

/// All changes, by path.
pub fn changes(store: &Store, container: &Container) -> Result<Vec<Change>> {
    let image = image::of_record(store.paths(), &container.record)?;
    let lowers: Vec<PathBuf> = image.lowers.iter().rev().cloned().collect();
    let tree = upper(store, container)?;
    let mut list = Vec::new();
    for (path, node) in tree.nodes.iter().filter(|(p, _)| !p.as_os_str().is_empty()) {
        let there = exists(&lowers, path);
        let kind = match (node.is_whiteout(), there) {
            (true, true) => How::Deleted,
            (true, false) => continue, // it came and went
            (false, true) => How::Changed,
            (false, false) => How::Added,
        };
        list.push(Change {
            kind,
            path: Path::new("/").join(path),
        });
        if node.opaque && there {
            // It hides what lies below, as if that had been deleted name by name.
            for name in names(&lowers, path) {
                let below = path.join(name);
                if !tree.nodes.contains_key(&below) && exists(&lowers, &below) {
                    list.push(Change {
                        kind: How::Deleted,
                        path: Path::new("/").join(below),
                    });
                }
            }
        }
    }
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}

fn names(lowers: &[PathBuf], directory: &Path) -> BTreeSet<std::ffi::OsString> {
    let all = lowers
        .iter()
        .flat_map(|l| std::fs::read_dir(l.join(directory)).into_iter().flatten());
    all.flatten().map(|e| e.file_name()).collect()
}

/// Whether the stack (top first) has a file at `path`.
fn exists(lowers: &[PathBuf], path: &Path) -> bool {
    for lower in lowers {
        // A layer decides if it has the file, or says "deleted" of it, or hides what lies below.
        if let Ok(meta) = std::fs::symlink_metadata(lower.join(path)) {
            return !whiteout::is_whiteout(&meta);
        }
        for above in path
            .ancestors()
            .skip(1)
            .filter(|a| !a.as_os_str().is_empty())
        {
            if let Ok(meta) = std::fs::symlink_metadata(lower.join(above))
                && (!meta.is_dir() || whiteout::is_opaque(&lower.join(above)))
            {
                return false;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_where_the_topmost_layer_says() {
        let dir = tempfile::tempdir().unwrap();
        let [top, below] = ["top", "below"].map(|n| dir.path().join(n));
        std::fs::create_dir_all(below.join("a/b")).unwrap();
        std::fs::write(below.join("a/b/c"), "").unwrap();
        std::fs::create_dir_all(top.join("a")).unwrap();
        std::fs::write(top.join("a/b"), "a file now").unwrap();
        let lowers = [top, below];
        let has = |p: &str| exists(&lowers, Path::new(p));
        assert!(has("a") && has("a/b"));
        assert!(!has("a/b/c"), "a file took its directory's place");
        assert!(!has("x"));
        assert!(exists(&lowers[1..], Path::new("a/b/c")));
    }
}
