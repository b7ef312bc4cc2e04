//! The layer between two trees: what has to be done to OLD to make it NEW.
//!
//! What it does: writes every file of NEW that is not in OLD just so (kind, mode, owner, time,
//! attributes, content, hard links), with the directories that lead to it, and a whiteout for
//! every file of OLD that is gone. A file that changed in any way is written whole: a layer knows
//! no smaller change.
//!
//! Names of one file go together: an overlay's layer can only link to what it holds itself, so a
//! change of one name writes all of them.
//!
//! What it implements: image-spec "Creating" and "Representing Changes". Interface: [`diff`],
//! [`differences`].
//! Read next: `whence.rs`.

use super::create::Writer;
use super::tree::{Node, Tree};
use crate::error::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What a difference consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Paths that OLD lacks.
    pub added: Vec<PathBuf>,
    /// Paths that are different.
    pub changed: Vec<PathBuf>,
    /// Paths that NEW lacks; what lay below them is not listed.
    pub deleted: Vec<PathBuf>,
}

/// Compares two directories and writes the layer, uncompressed. Nothing is written to either.
pub fn diff(old: &Path, new: &Path, out: impl Write) -> Result<Difference> {
    let (old, new) = (Tree::read(old)?, Tree::read(new)?);
    let found = compare(&old, &new)?;
    let mut entries: BTreeMap<&Path, bool> = BTreeMap::new();
    for path in found.added.iter().chain(&found.changed) {
        entries.insert(path, true);
    }
    entries.extend(found.deleted.iter().map(|p| (p.as_path(), false)));
    let mut parents: BTreeSet<&Path> = BTreeSet::new();
    for path in entries.keys() {
        parents.extend(path.ancestors().skip(1));
    }
    // Making a file changes its directory's time, so the directory's entry sets it right.
    for parent in parents {
        entries.entry(parent).or_insert(true);
    }
    let mut writer = Writer::new(out);
    for (path, present) in entries {
        match present {
            true => writer.node(&new, path, &new.nodes[path])?,
            false => writer.whiteout(path)?,
        }
    }
    writer.finish()?;
    Ok(found)
}

/// What is different between two layers unpacked for an overlay, without writing a layer. Of a
/// whiteout nothing counts but that it is there: its time is that of its making.
pub fn differences(old: &Path, new: &Path) -> Result<Difference> {
    let (old, new) = (Tree::read(old)?, Tree::read(new)?);
    let mut found = compare(&old, &new)?;
    found
        .changed
        .retain(|path| !(old.nodes[path].is_whiteout() && new.nodes[path].is_whiteout()));
    Ok(found)
}

fn compare(old: &Tree, new: &Tree) -> Result<Difference> {
    let mut found = Difference::default();
    let (old_names, new_names) = (names(old), names(new));
    let mut different: BTreeSet<&Path> = BTreeSet::new();
    for (path, node) in &new.nodes {
        if node.format() == libc::S_IFSOCK {
            continue;
        }
        let same = match old.nodes.get(path) {
            None => false,
            Some(before) => {
                old_names.get(&before.inode).filter(|n| n.len() > 1)
                    == new_names.get(&node.inode).filter(|n| n.len() > 1)
                    && same(old, before, new, node, path)?
            }
        };
        if !same {
            different.insert(path);
        }
    }
    for group in new_names.values().filter(|g| g.len() > 1) {
        if group.iter().any(|p| different.contains(p)) {
            different.extend(group);
        }
    }
    for path in different {
        match old.nodes.contains_key(path) {
            true => found.changed.push(path.to_path_buf()),
            false => found.added.push(path.to_path_buf()),
        }
    }
    for path in old.nodes.keys() {
        let gone = !new.nodes.contains_key(path);
        // Deleted with its directory, or hidden by what took the directory's place.
        let with_parent = path
            .parent()
            .is_some_and(|p| !new.nodes.get(p).is_some_and(Node::is_directory));
        if gone && !with_parent {
            found.deleted.push(path.clone());
        }
    }
    Ok(found)
}

/// The names of each file that has several.
fn names(tree: &Tree) -> BTreeMap<(u64, u64), Vec<&Path>> {
    let mut names: BTreeMap<(u64, u64), Vec<&Path>> = BTreeMap::new();
    for (path, node) in tree.nodes.iter().filter(|(_, n)| n.links > 1) {
        names.entry(node.inode).or_default().push(path);
    }
    names
}

fn same(old: &Tree, before: &Node, new: &Tree, node: &Node, path: &Path) -> Result<bool> {
    let attributes = |n: &Node| (n.mode, n.uid, n.gid, n.mtime, n.size, n.rdev, n.opaque);
    if attributes(before) != attributes(node)
        || before.target != node.target
        || before.xattrs != node.xattrs
    {
        return Ok(false);
    }
    if !node.is_file() || before.inode == node.inode {
        return Ok(true);
    }
    // Equal times prove nothing: a build may set them.
    same_content(old.open(path)?, new.open(path)?)
        .with_context(|| format!("cannot compare {}", path.display()))
}

fn same_content(mut a: impl Read, mut b: impl Read) -> Result<bool> {
    let (mut left, mut right) = (vec![0u8; 64 * 1024], vec![0u8; 64 * 1024]);
    loop {
        let n = fill(&mut a, &mut left)?;
        let m = fill(&mut b, &mut right)?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("cannot read"),
        }
    }
    Ok(filled)
}
