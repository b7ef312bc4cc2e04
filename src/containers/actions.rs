//! The engine's own steps: a place on disk for the container, and the files it starts from.
//!
//! What it does: what the engine changes on disk to start a container stands in the same plan as
//! what the runtime changes in the kernel, so that the journal is complete and a failure takes
//! all of it back.
//! Interface: the actions [`MakeDirectory`], [`WriteFile`]. Read next: `prepare.rs`.

use super::{remove, state};
use crate::error::{Context, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, Errno};
use std::path::{Path, PathBuf};

/// Makes a directory and the ones above it that are missing.
#[derive(Debug)]
pub struct MakeDirectory {
    /// Which.
    pub path: PathBuf,
    /// Permission bits of the last one; those above it get 0755.
    pub mode: u32,
    /// On undo, remove all that is in it too: it is the container's own.
    pub own: bool,
}

impl MakeDirectory {
    fn made(&self) -> String {
        format!("made {}", self.path.display())
    }
}

impl Action for MakeDirectory {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "mkdirat",
            format!("{}, {:#05o}", self.path.display(), self.mode),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        if let Some(first) = make_all(&self.path, self.mode)? {
            scene.put(self.made(), first.display().to_string());
        }
        Ok(())
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: self.path.display().to_string(),
            value: match self.path.is_dir() {
                true => Ok("directory".into()),
                false => Ok("does not exist".into()),
            },
            source: "stat(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("directory".into())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        let Some(first) = scene.get(&self.made()).map(PathBuf::from) else {
            return Ok(()); // it was there before
        };
        if self.own {
            return remove::remove_tree(&first);
        }
        let mut path = self.path.as_path();
        loop {
            match sys::fs::unlinkat(sys::fs::CWD, path, libc::AT_REMOVEDIR) {
                Err(e) if !matches!(e.errno, Errno::ENOENT | Errno::ENOTEMPTY) => {
                    return Err(e).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
            match path.parent() {
                Some(parent) if path != first => path = parent,
                _ => return Ok(()),
            }
        }
    }
}

/// `mkdir -p`: returns the topmost directory that was made, or nothing when all were there.
pub fn make_all(path: &Path, mode: u32) -> Result<Option<PathBuf>> {
    let what = || format!("cannot create the directory {}", path.display());
    match sys::fs::mkdirat(sys::fs::CWD, path, mode) {
        Ok(()) => return Ok(Some(path.to_path_buf())),
        Err(e) if e.errno == Errno::EEXIST => return Ok(None),
        Err(e) if e.errno == Errno::ENOENT && path.parent().is_some() => {}
        Err(e) => return Err(e).with_context(what),
    }
    let above = match path.parent() {
        Some(parent) => make_all(parent, 0o755)?,
        None => None,
    };
    match sys::fs::mkdirat(sys::fs::CWD, path, mode) {
        Err(e) if e.errno != Errno::EEXIST => Err(e).with_context(what),
        _ => Ok(above.or_else(|| Some(path.to_path_buf()))),
    }
}

/// Writes a file whole, or leaves the old one.
#[derive(Debug)]
pub struct WriteFile {
    /// Which.
    pub path: PathBuf,
    /// What stands in it.
    pub text: String,
    /// Permission bits.
    pub mode: u32,
    /// Flush it, because losing it would lose the container.
    pub durable: bool,
    /// Remove it on undo.
    pub own: bool,
}

impl Action for WriteFile {
    fn calls(&self) -> Vec<Planned> {
        let name = self.path.display();
        vec![
            Planned::new(
                "openat",
                format!("{name}.new, O_WRONLY|O_CREAT|O_TRUNC, {:#05o}", self.mode),
            ),
            Planned::new("write", format!("{name}.new ← {} bytes", self.text.len())),
            Planned::new("renameat2", format!("{name}.new → {name}")),
        ]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        state::write_atomically(&self.path, &self.text, self.mode, self.durable)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: self.path.display().to_string(),
            value: Ok(match self.path.metadata() {
                Ok(m) => format!("{} bytes", m.len()),
                Err(_) => "does not exist".into(),
            }),
            source: "stat(2)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some(format!("{} bytes", self.text.len()))
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        if !self.own {
            return Ok(());
        }
        match sys::fs::unlinkat(sys::fs::CWD, &self.path, 0) {
            Err(e) if e.errno != Errno::ENOENT => {
                Err(e).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_taken_back_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::new();
        let make = |path: &str, own| MakeDirectory {
            path: dir.path().join(path),
            mode: 0o700,
            own,
        };
        let (deep, there) = (make("a/b/c", false), make("a", true));
        deep.apply(&mut scene).unwrap();
        there.apply(&mut scene).unwrap();
        assert!(dir.path().join("a/b/c").is_dir());
        there.undo(&mut scene).unwrap();
        assert!(
            dir.path().join("a").exists(),
            "it was there before this step"
        );
        deep.undo(&mut scene).unwrap();
        assert!(!dir.path().join("a").exists());
        let own = make("x/y", true);
        own.apply(&mut scene).unwrap();
        std::fs::write(dir.path().join("x/y/file"), "").unwrap();
        own.undo(&mut scene).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
