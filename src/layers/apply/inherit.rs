//! Directories that a layer passes through without an entry of their own.
//!
//! What it does: in the overlay such a directory stands for the nearest one below, so it gets that
//! one's owner, mode, time and attributes: else `/tmp` would lose its sticky bit to a layer that
//! only adds a file to it. This is all that unpacking a layer needs from the layers below. So a
//! layer can be unpacked before they are there ([`apply_apart`]), and get it afterwards
//! ([`inherit_from`]), lowest layer first: whoever pulls several unpacks them side by side.
//!
//! What it implements: image-spec "Applying Changesets"; overlayfs's merged directories.
//! Interface: [`apply_apart`], [`inherit_from`]. Read next: `../apply.rs`.

use super::{Applier, Entry, Kind, LeftOut, Target, run_noting};
use crate::error::{Context, Result};
use crate::layers::compression::{self, Decoded};
use crate::layers::whiteout;
use crate::sys::xattr;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directories of an unpacked layer that have no entry of their own yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited(BTreeSet<PathBuf>);

/// Applies a layer for an overlay whose layers below may not be there yet. Bytes beyond `limit`
/// are an error. What is returned is for [`inherit_from`].
pub fn apply_apart(
    input: impl std::io::Read + Send,
    limit: u64,
    directory: &Path,
) -> Result<(Inherited, LeftOut, Decoded)> {
    let run = |stream: &mut _| run_noting(stream, directory, Target::Overlay, Some(&[]));
    let ((left_out, inherited), decoded) = compression::decode(input, limit, run)?;
    Ok((Inherited(inherited), left_out, decoded))
}

/// Gives the directories of a layer that was applied apart what they have below (top first).
pub fn inherit_from(directory: &Path, inherited: &Inherited, below: &[PathBuf]) -> Result<()> {
    let root = crate::sys::fs::open(directory, libc::O_PATH | libc::O_DIRECTORY, 0)
        .with_context(|| format!("cannot open {}", directory.display()))?;
    let mut applier = Applier {
        root,
        target: Target::Overlay,
        privileged: nix::unistd::geteuid().is_root(),
        parent: None,
        directories: BTreeMap::new(),
        made: BTreeSet::new(),
        bookkeeping: BTreeSet::new(),
        left_out: LeftOut::default(),
        below: Some(below),
        inherited: BTreeSet::new(),
    };
    for path in &inherited.0 {
        // A later entry of the layer may have put something else in its place.
        if std::fs::symlink_metadata(directory.join(path)).is_ok_and(|m| m.is_dir()) {
            applier.inherit(path, false)?;
        }
    }
    applier.finish()
}

impl Applier<'_> {
    /// Gives a directory that has no entry of its own what the nearest one below has; where none is
    /// known or it was deleted and came `again`, what is usual.
    pub(super) fn inherit(&mut self, path: &Path, again: bool) -> Result<()> {
        let directory = self.open_directory(path)?;
        if again {
            whiteout::set_opaque(&directory)?;
        }
        let Some(below) = self.below.filter(|_| !again) else {
            return Ok(xattr::fchmod(&directory, 0o755)?); // whatever this process's umask is
        };
        let entry = nearest(path, below)?;
        self.own(&directory, &entry)?;
        self.pend(path.to_path_buf(), &entry);
        self.inherited.insert(path.to_path_buf());
        Ok(())
    }
}

/// What a directory has in the nearest of the layers below that has it; else what is usual.
fn nearest(path: &Path, below: &[PathBuf]) -> Result<Entry> {
    let found = below.iter().find_map(|layer| {
        let place = layer.join(path);
        let meta = std::fs::symlink_metadata(&place).ok()?;
        Some((place, meta))
    });
    let mut entry = Entry {
        path: path.as_os_str().as_bytes().to_vec(),
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: xattr::Time::default(),
        size: 0,
        sparse: None,
        xattrs: Vec::new(),
    };
    if let Some((place, meta)) = found.filter(|(_, meta)| meta.is_dir()) {
        entry.mode = meta.mode() & 0o7777;
        (entry.uid, entry.gid) = (meta.uid(), meta.gid());
        entry.mtime = xattr::Time {
            seconds: meta.mtime(),
            nanoseconds: meta.mtime_nsec() as u32,
        };
        for name in xattr::llistxattr(&place)? {
            if let Some(value) = xattr::lgetxattr(&place, &name)? {
                entry.xattrs.push((name, value));
            }
        }
    }
    Ok(entry)
}
