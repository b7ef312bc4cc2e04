//! The registry on disk: repositories that are OCI image layouts, over shared blobs.
//!
//! ```text
//!   DATA/serve.lock                       held by the one server that writes
//!   DATA/blobs/sha256/HEX                 every blob once; its link count says how many hold it
//!   DATA/uploads/ID/                      uploads that have not ended (uploads.rs)
//!   DATA/tmp/                             files on their way to a rename; emptied at the start
//!   DATA/repositories/NAME/               a repository: an OCI image layout, and beside it
//!       oci-layout, index.json            what other tools read; index.json is made out of _tags
//!       blobs/sha256/HEX                  hard links to the shared blobs: what the repository has
//!       _manifests/sha256/HEX             which of these are manifests, and their media types
//!       _tags/TAG                         what a tag names: a descriptor, one file a tag
//!       _referrers/sha256/HEX/sha256:HEX  by subject: the descriptors of what points at it
//!       _lock                             shared by writers of manifests, alone for deletion and gc
//! ```
//!
//! Why hard links: a link is made at once or not at all, is the membership of a blob in a repository
//! and makes the repository a whole layout, and the kernel counts them: a shared blob with one link
//! is in no repository. Who loses a race only loses the sharing, never a blob.
//!
//! Why one file a tag: a push writes one small file however many tags there are. `index.json` is
//! derived, and follows within seconds (tags.rs); a server that was killed makes it again.
//!
//! Everything becomes visible by rename(2) or link(2) after fsync(2) of its content, and what is
//! named is there before what names it. Names that the layout takes itself (`blobs`, `index.json`,
//! `oci-layout`) are stored with a `_` at the end, with which no component of a name can end.
//!
//! What it implements: image-spec "Image Layout". Interface: [`Storage`], [`Repository`].
//! Read next: `blobs.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::files;
use crate::spec::Digest;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The directory of a registry's data.
#[derive(Debug, Clone)]
pub struct Storage {
    root: PathBuf,
}

/// One repository of it, which need not exist.
#[derive(Debug, Clone)]
pub struct Repository {
    storage: Storage,
    name: String,
    path: PathBuf,
}

/// Both algorithms, as directories.
pub const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const RESERVED: [&str; 3] = ["blobs", "index.json", "oci-layout"];

impl Storage {
    /// Makes the directories that are not there.
    pub fn create(root: &Path) -> Result<Storage> {
        let storage = Storage {
            root: root.to_path_buf(),
        };
        for algorithm in ALGORITHMS {
            make_dirs(&root.join("blobs").join(algorithm))?;
        }
        for directory in ["uploads", "tmp", "repositories"] {
            make_dirs(&root.join(directory))?;
        }
        Ok(storage)
    }

    /// Takes what is there.
    pub fn open(root: &Path) -> Result<Storage> {
        if !root.join("repositories").is_dir() {
            let what = format!("{} holds no registry", root.display());
            return Err(Error::kind(Kind::NotFound, what)
                .hint("--data is the directory that `glassbox registry serve` was started with"));
        }
        Ok(Storage {
            root: root.to_path_buf(),
        })
    }

    /// Becomes the one server that writes here, and clears what one before left half-written.
    pub fn own(&self) -> Result<File> {
        let path = self.root.join("serve.lock");
        let lock = files::open_lock(&path)?;
        if lock.try_lock().is_err() {
            let what = format!("another server writes to {}", self.root.display());
            return Err(Error::kind(Kind::Conflict, what)
                .hint("one server at a time may write; others can serve it with --read-only"));
        }
        for entry in entries(&self.root.join("tmp"))? {
            let _ = fs::remove_file(entry.path());
        }
        Ok(lock)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Where uploads are.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }
    /// A shared blob's place.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }
    /// A new name for a file that is being written.
    pub fn temporary(&self) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.root
            .join("tmp")
            .join(format!("{}-{number}", std::process::id()))
    }

    /// A repository by its name, which [`super::route::is_name`] has found good.
    pub fn repository(&self, name: &str) -> Repository {
        let mut path = self.root.join("repositories");
        for part in name.split('/') {
            match RESERVED.contains(&part) {
                true => path.push(format!("{part}_")),
                false => path.push(part),
            }
        }
        Repository {
            storage: self.clone(),
            name: name.to_string(),
            path,
        }
    }

    /// Calls `each` for every repository, in no order.
    pub fn repositories(&self, each: &mut dyn FnMut(Repository) -> Result<()>) -> Result<()> {
        self.walk(&self.root.join("repositories"), "", each)
    }

    fn walk(
        &self,
        dir: &Path,
        above: &str,
        each: &mut dyn FnMut(Repository) -> Result<()>,
    ) -> Result<()> {
        for entry in entries(dir)? {
            let file_name = entry.file_name();
            let part = file_name.to_string_lossy();
            let ours = part.starts_with('_') || RESERVED.contains(&part.as_ref());
            if ours || !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            let part = part.strip_suffix('_').unwrap_or(&part);
            let name = if above.is_empty() {
                part.to_string()
            } else {
                format!("{above}/{part}")
            };
            let repository = self.repository(&name);
            if repository.exists() {
                each(repository)?;
            }
            self.walk(&entry.path(), &name, each)?;
        }
        Ok(())
    }

    /// Writes a file that appears whole and is on the disk when this returns.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temporary = self.temporary();
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        };
        write()
            .inspect_err(|_| {
                let _ = fs::remove_file(&temporary);
            })
            .with_context(|| format!("cannot write {}", path.display()))?;
        sync_parent(path)
    }
}

impl Repository {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The storage that it is part of.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
    /// Whether anything was ever stored in it.
    pub fn exists(&self) -> bool {
        self.path.join("oci-layout").exists()
    }
    /// Where its link to a blob is.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path
            .join("blobs")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }
    /// Where a manifest's record is.
    pub fn manifest(&self, digest: &Digest) -> PathBuf {
        self.path
            .join("_manifests")
            .join(digest.algorithm().name())
            .join(digest.hex())
    }
    /// Where a tag is.
    pub fn tag(&self, tag: &str) -> PathBuf {
        self.tags().join(tag)
    }
    /// The directory of tags.
    pub fn tags(&self) -> PathBuf {
        self.path.join("_tags")
    }
    /// The directory of what points at a manifest.
    pub fn referrers(&self, subject: &Digest) -> PathBuf {
        self.path
            .join("_referrers")
            .join(subject.algorithm().name())
            .join(subject.hex())
    }

    /// Makes it, if it is not there. The layout's own file comes last: it is what makes a directory
    /// a repository.
    pub fn create(&self) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        for algorithm in ALGORITHMS {
            for below in ["blobs", "_manifests", "_referrers"] {
                make_dirs(&self.path.join(below).join(algorithm))?;
            }
        }
        make_dirs(&self.tags())?;
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        self.storage.write(&self.path.join("index.json"), index)?;
        self.storage.write(&self.path.join("oci-layout"), LAYOUT)
    }

    /// Keeps manifests from being deleted while one is added.
    pub fn share(&self) -> Result<File> {
        let lock = files::open_lock(&self.path.join("_lock"))?;
        lock.lock_shared()
            .with_context(|| format!("cannot lock {}", self.path.display()))?;
        Ok(lock)
    }
    /// Keeps manifests from being added or deleted.
    pub fn lock(&self) -> Result<File> {
        files::lock(&self.path.join("_lock"))
    }
}

/// A directory's entries; none where it is not there.
pub fn entries(dir: &Path) -> Result<Box<dyn Iterator<Item = fs::DirEntry>>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(Box::new(entries.flatten())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", dir.display())),
    }
}

/// A file's whole content; `None` where there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Removes a file for good; whether it was there.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Makes a directory and those above it, each of them on the disk.
pub fn make_dirs(dir: &Path) -> Result<()> {
    // What is above `data` is the directory that we are in.
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dirs(above)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => sync_parent(dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot make {}", dir.display())),
    }
}

/// Flushes the directory that holds this entry.
pub fn sync_parent(path: &Path) -> Result<()> {
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => return Ok(()),
    };
    let sync = || File::open(dir)?.sync_all();
    sync().with_context(|| format!("cannot flush {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_layout_takes_is_still_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::create(dir.path()).unwrap();
        let mut names = [
            "a",
            "a/blobs",
            "a/blobs/sha256",
            "a/index.json",
            "blobs",
            "b/c/oci-layout",
        ];
        for name in names {
            storage.repository(name).create().unwrap();
        }
        let mut found = Vec::new();
        storage
            .repositories(&mut |r| {
                found.push(r.name().to_string());
                Ok(())
            })
            .unwrap();
        found.sort();
        names.sort_unstable();
        assert_eq!(found, names);
        assert!(!storage.repository("b/c").exists());
    }

    #[test]
    fn one_server_writes() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::create(dir.path()).unwrap();
        fs::write(storage.temporary(), "half").unwrap();
        let first = storage.own().unwrap();
        assert_eq!(entries(&dir.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(storage.own().unwrap_err().get_kind(), Kind::Conflict);
        drop(first);
        storage.own().unwrap();
    }
}
