//! Deleting what a layer says is gone, and what its entries take the place of.
//!
//! A layer's deletions are about what lay below it, never about what it brings itself, and its
//! entries may come in any order: so what it made is remembered, and stays.
//!
//! What it implements: image-spec "Whiteouts", "Opaque Whiteout". Interface: `delete`, `opaque`,
//! `remove` of the applier. Read next: `../whiteout.rs`.

use super::{Applier, Target};
use crate::error::{Context, Result};
use crate::layers::whiteout;
use crate::sys::{Errno, fs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

impl Applier<'_> {
    /// Removes what is at `name` in the current directory, with all below it.
    pub(super) fn remove(&mut self, name: &Path, path: &Path) -> Result<()> {
        match fs::unlinkat(self.dir(), name, 0) {
            Ok(()) => return Ok(()),
            Err(e) if e.errno == Errno::ENOENT => return Ok(()),
            Err(e) if e.errno != Errno::EISDIR && e.errno != Errno::EPERM => return Err(e.into()),
            Err(_) => {}
        }
        self.remove_tree(name, path)
    }

    fn remove_tree(&mut self, name: &Path, path: &Path) -> Result<()> {
        // std removes trees by descriptors, not following links, also those swapped in meanwhile.
        let place = format!("/proc/self/fd/{}", self.dir().as_raw_fd());
        std::fs::remove_dir_all(Path::new(&place).join(name))
            .with_context(|| format!("cannot remove {}", path.display()))?;
        self.parent = self
            .parent
            .take()
            .filter(|(parent, _)| !parent.starts_with(path));
        self.directories.retain(|d, _| !d.starts_with(path));
        self.made.retain(|m| !m.starts_with(path));
        Ok(())
    }

    /// True when this layer made the path or something below it.
    fn has_made(&self, path: &Path) -> bool {
        let next = self.made.range(path.to_path_buf()..).next();
        next.is_some_and(|made| made.starts_with(path))
    }

    /// `.wh.NAME`: what lay below is deleted; what this layer made itself stays.
    pub(super) fn delete(&mut self, path: &Path) -> Result<()> {
        let name = Path::new(path.file_name().unwrap_or_default());
        if self.has_made(path) {
            return match self.child(name) {
                Ok(directory) => self.hide_below(&directory, path),
                Err(_) => Ok(()), // no directory: what lay below is replaced already
            };
        }
        self.remove(name, path)?;
        if self.target == Target::Overlay {
            whiteout::make(self.dir(), name)?;
        }
        Ok(())
    }

    /// `.wh..wh..opq`: nothing of what lay below in this directory shows.
    pub(super) fn opaque(&mut self, path: &Path) -> Result<()> {
        let directory = self.open_directory(path)?;
        self.hide_below(&directory, path)
    }

    fn hide_below(&mut self, directory: &OwnedFd, path: &Path) -> Result<()> {
        match self.target {
            Target::Overlay => Ok(whiteout::set_opaque(directory)?),
            Target::Plain => self.clear(path),
        }
    }

    /// Removes all below a directory but what this layer made.
    fn clear(&mut self, path: &Path) -> Result<()> {
        let what = || format!("cannot list {}", path.display());
        self.enter(path)?;
        let place = format!("/proc/self/fd/{}", self.dir().as_raw_fd());
        let mut names: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(&place).with_context(what)? {
            names.push(entry.with_context(what)?.file_name().into());
        }
        for name in names {
            self.enter(path)?;
            let inside = path.join(&name);
            if !self.has_made(&inside) {
                self.remove(&name, &inside)?;
            } else if self.child(&name).is_ok() {
                self.clear(&inside)?;
            }
        }
        Ok(())
    }
}
