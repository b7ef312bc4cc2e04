//! Making a layer's entries real, inside one directory and nowhere else.
//!
//! What it does: unpacks a layer. Whoever made the archive may be hostile: every path is resolved
//! by the kernel with the directory as its root (`openat2`, `RESOLVE_IN_ROOT`), so `..`, absolute
//! paths and symbolic links, made by this archive or another process meanwhile, cannot lead out.
//! Files are made with `O_EXCL` by name in their opened parent, never through a link.
//!
//! "Deleted" is written in one of two ways: for a layer that overlayfs will stack, as a whiteout
//! (a 0/0 device) and the opaque attribute; for a plain directory, by deleting.
//!
//! An ordinary user's files are the user's own; devices, and attributes that need privileges, are
//! left out and counted.
//!
//! What it implements: image-spec "Applying Changesets"; openat2(2); overlayfs's on-disk format.
//! Interface: [`apply_layer`], [`apply`], [`Target`]. Read next: `create.rs`.

mod deletions;
mod inherit;

pub use inherit::{Inherited, apply_apart, inherit_from};

use super::archive::{Archive, Entry, Kind};
use super::compression::{self, Decoded};
use super::tree::belongs_to_host;
use super::whiteout::{self, Class};
use crate::error::{Context, Error, Result};
use crate::sys::{self, Errno, fs, xattr};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What the directory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One layer of an overlay: deletions are kept as whiteouts.
    Overlay,
    /// A tree of its own: deletions delete.
    Plain,
}

/// What was left out because this user may not make it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Device nodes; for an overlay also the device 0/0, which would be a whiteout there.
    pub devices: usize,
    /// Extended attributes.
    pub xattrs: usize,
}

/// Decompresses, checks and applies a layer that comes as `input`. Bytes beyond `limit` are an
/// error. Errors: a damaged stream, an entry that leads out of the directory, a full disk.
pub fn apply_layer(
    input: impl std::io::Read + Send,
    limit: u64,
    directory: &Path,
    target: Target,
) -> Result<Decoded> {
    apply_counting(input, limit, directory, target).map(|(_, decoded)| decoded)
}

/// The same, and says what was left out.
pub fn apply_counting(
    input: impl std::io::Read + Send,
    limit: u64,
    directory: &Path,
    target: Target,
) -> Result<(LeftOut, Decoded)> {
    compression::decode(input, limit, |stream| run(stream, directory, target, None))
}

/// Applies a layer for an overlay over the layers `below` (top first). Directories that the layer
/// passes through without an entry of their own get the attributes of the nearest one below, since
/// in the overlay they will stand for it: else `/tmp` would lose its sticky bit to a layer that
/// only adds a file to it.
pub fn apply_over(
    input: impl std::io::Read + Send,
    limit: u64,
    directory: &Path,
    below: &[PathBuf],
) -> Result<Decoded> {
    let run = |stream: &mut _| run(stream, directory, Target::Overlay, Some(below));
    compression::decode(input, limit, run).map(|(_, decoded)| decoded)
}

/// Applies an uncompressed layer.
pub fn apply(input: impl BufRead, directory: &Path, target: Target) -> Result<LeftOut> {
    run(input, directory, target, None)
}

fn run(
    input: impl BufRead,
    directory: &Path,
    target: Target,
    below: Option<&[PathBuf]>,
) -> Result<LeftOut> {
    run_noting(input, directory, target, below).map(|(left_out, _)| left_out)
}

/// The same, and says which directories have no entry of their own.
fn run_noting(
    input: impl BufRead,
    directory: &Path,
    target: Target,
    below: Option<&[PathBuf]>,
) -> Result<(LeftOut, BTreeSet<PathBuf>)> {
    let root = fs::open(directory, libc::O_PATH | libc::O_DIRECTORY, 0)
        .with_context(|| format!("cannot open {}", directory.display()))?;
    let mut applier = Applier {
        root,
        target,
        privileged: nix::unistd::geteuid().is_root(),
        parent: None,
        directories: BTreeMap::new(),
        made: BTreeSet::new(),
        bookkeeping: BTreeSet::new(),
        left_out: LeftOut::default(),
        below,
        inherited: BTreeSet::new(),
    };
    if below.is_some() {
        applier.inherit(Path::new(""), false)?;
    }
    let mut archive = Archive::new(input);
    while let Some(entry) = archive.next_entry()? {
        applier
            .entry(&entry, &mut archive)
            .with_context(|| format!("cannot apply {}", show(&entry.path)))?;
    }
    applier.finish()?;
    Ok((applier.left_out, applier.inherited))
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// `./a//b/` → `a/b`; the root itself is empty. Errors: `..`, which no layer needs.
fn normalise(path: &[u8]) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                return Err(Error::new(format!(
                    "the path {} leads out of the layer",
                    show(path)
                )));
            }
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    Ok(clean)
}

/// A directory whose attributes are set at the end: files made in it would change its time, its
/// mode might forbid making them, and they would inherit its default access control list.
struct Pending {
    mode: u32,
    mtime: xattr::Time,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Applier<'a> {
    root: OwnedFd,
    target: Target,
    privileged: bool,
    /// The last parent that was opened: archives list a directory's files one after the other.
    parent: Option<(PathBuf, OwnedFd)>,
    directories: BTreeMap<PathBuf, Pending>,
    /// What this layer itself made; its whiteouts are only about what was there before.
    made: BTreeSet<PathBuf>,
    /// Directories of another storage driver: files of the layer may be links into them, but they
    /// are no part of the tree.
    bookkeeping: BTreeSet<PathBuf>,
    left_out: LeftOut,
    /// The layers below, top first, where they are known.
    below: Option<&'a [PathBuf]>,
    /// Directories without an entry of their own, which have what the nearest one below has.
    inherited: BTreeSet<PathBuf>,
}

impl Applier<'_> {
    fn entry<R: BufRead>(&mut self, entry: &Entry, archive: &mut Archive<R>) -> Result<()> {
        let path = normalise(&entry.path)?;
        let Some(name) = path.file_name() else {
            if entry.kind == Kind::Directory {
                self.pend(path, entry);
                let root = self.open_directory(Path::new("."))?;
                return self.own(&root, entry);
            }
            return Err(Error::new("an entry without a name"));
        };
        self.enter(path.parent().unwrap_or(Path::new("")))?;
        if let Some(first) = path.iter().next()
            && whiteout::classify(first.as_bytes())? == Class::Bookkeeping
        {
            self.bookkeeping.insert(first.into());
        }
        match whiteout::classify(name.as_bytes())? {
            Class::Ordinary => {}
            Class::Bookkeeping => return Ok(()),
            Class::Opaque => return self.opaque(path.parent().unwrap_or(Path::new(""))),
            Class::Deleted(name) => {
                let hidden = path.with_file_name(OsStr::from_bytes(name));
                return self.delete(&hidden);
            }
        }
        let name = Path::new(name);
        match &entry.kind {
            Kind::File => self.file(name, &path, entry, archive)?,
            Kind::Directory => self.directory(name, &path, entry)?,
            Kind::Symlink(text) => {
                let text = Path::new(OsStr::from_bytes(text));
                self.making(name, &path, |dir| fs::symlinkat(text, dir, name))?;
                self.attributes_by_name(name, entry)?;
            }
            Kind::HardLink(to) => self.hard_link(name, &path, to)?,
            Kind::Fifo => {
                self.making(name, &path, |d| {
                    fs::mknodat(d, name, libc::S_IFIFO | entry.mode, 0)
                })?;
                self.attributes_by_name(name, entry)?;
            }
            Kind::Char(major, minor) => {
                self.device(name, &path, libc::S_IFCHR, *major, *minor, entry)?
            }
            Kind::Block(major, minor) => {
                self.device(name, &path, libc::S_IFBLK, *major, *minor, entry)?
            }
        }
        self.made.insert(path);
        Ok(())
    }

    fn dir(&self) -> &OwnedFd {
        self.parent.as_ref().map_or(&self.root, |(_, fd)| fd)
    }

    /// Makes `parent` the current directory of what follows, making what is missing of it.
    fn enter(&mut self, parent: &Path) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == parent) {
            return Ok(());
        }
        let opened = match self.open_directory(parent) {
            // ENOTDIR: a part of it was deleted by this layer, and comes again.
            Err(e) if matches!(e.errno(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                let mut walked = PathBuf::new();
                for part in parent.components() {
                    let above = self.open_directory(&walked)?;
                    walked.push(part);
                    let part = Path::new(part.as_os_str());
                    let again = self.target == Target::Overlay && is_whiteout(&above, part);
                    if again {
                        fs::unlinkat(&above, part, 0)?;
                    }
                    match fs::mkdirat(&above, part, 0o700) {
                        Err(e) if e.errno == Errno::EEXIST => {}
                        Err(e) => return Err(e.into()),
                        Ok(()) => self.inherit(&walked, again)?,
                    }
                }
                self.open_directory(parent)
            }
            other => other,
        };
        self.parent = Some((parent.to_path_buf(), opened?));
        Ok(())
    }

    /// Opens a directory of the layer, never leaving it.
    fn open_directory(&self, path: &Path) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        Ok(fs::openat2(
            &self.root,
            path,
            libc::O_RDONLY | libc::O_DIRECTORY,
            0,
            resolve,
        )?)
    }

    /// Makes something; what is in its place goes first.
    fn making<T>(
        &mut self,
        name: &Path,
        path: &Path,
        make: impl Fn(&OwnedFd) -> sys::SysResult<T>,
    ) -> Result<T> {
        match make(self.dir()) {
            Err(e) if e.errno == Errno::EEXIST => {
                self.remove(name, path)?;
                Ok(make(self.dir())?)
            }
            other => Ok(other?),
        }
    }

    fn file<R: BufRead>(
        &mut self,
        name: &Path,
        path: &Path,
        entry: &Entry,
        archive: &mut Archive<R>,
    ) -> Result<()> {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
        let file = File::from(self.making(name, path, |dir| fs::openat(dir, name, flags, 0o600))?);
        match &entry.sparse {
            None => {
                let mut at = 0;
                while let Some((_, n)) =
                    archive.content(u64::MAX, |bytes| write_at(&file, bytes, at))?
                {
                    at += n;
                }
            }
            Some((whole, map)) => {
                for (offset, length) in map {
                    if offset.checked_add(*length).is_none_or(|end| end > *whole) {
                        return Err(Error::new("a piece of a sparse file lies beyond its end"));
                    }
                    let (mut at, end) = (*offset, offset + length);
                    while let Some((_, n)) =
                        archive.content(end - at, |bytes| write_at(&file, bytes, at))?
                    {
                        at += n;
                    }
                }
                file.set_len(*whole)
                    .context("cannot set the size of a sparse file")?;
            }
        }
        self.own(&file, entry)?;
        xattr::fchmod(&file, entry.mode)?;
        self.xattrs(&file, &entry.xattrs)?;
        Ok(xattr::utimensat(&file, "", entry.mtime)?)
    }

    fn directory(&mut self, name: &Path, path: &Path, entry: &Entry) -> Result<()> {
        match fs::mkdirat(self.dir(), name, 0o700) {
            Err(e) if e.errno == Errno::EEXIST => {
                let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                match fs::openat2(self.dir(), name, flags, 0, resolve) {
                    // A directory on a directory only changes its attributes.
                    Ok(_) => {}
                    Err(_) => {
                        let whiteout = is_whiteout(self.dir(), name);
                        self.remove(name, path)?;
                        fs::mkdirat(self.dir(), name, 0o700)?;
                        if whiteout {
                            // Deleted below and made anew here: nothing from below shows through.
                            whiteout::set_opaque(self.child(name)?)?;
                        }
                    }
                }
            }
            other => other?,
        }
        let directory = self.child(name)?;
        self.own(&directory, entry)?;
        self.pend(path.to_path_buf(), entry);
        Ok(())
    }

    fn child(&self, name: &Path) -> Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        Ok(fs::openat(self.dir(), name, flags, 0)?)
    }

    fn pend(&mut self, path: PathBuf, entry: &Entry) {
        self.inherited.remove(&path);
        self.directories.insert(
            path,
            Pending {
                mode: entry.mode,
                mtime: entry.mtime,
                xattrs: entry.xattrs.clone(),
            },
        );
    }

    /// Another name for a file of this layer; its path, too, is resolved inside.
    fn hard_link(&mut self, name: &Path, path: &Path, to: &[u8]) -> Result<()> {
        let to = normalise(to)?;
        if to == path {
            return Ok(()); // tar writes this for a file with several names that it is told twice
        }
        let what = || format!("cannot link to {}", to.display());
        let base = to.file_name().map(Path::new).with_context(what)?;
        let parent = self
            .open_directory(to.parent().unwrap_or(Path::new("")))
            .with_context(what)?;
        // Without AT_SYMLINK_FOLLOW the last part is taken as it is, a link too.
        self.making(name, path, |dir| fs::linkat(&parent, base, dir, name, 0))
            .with_context(what)
    }

    fn device(
        &mut self,
        name: &Path,
        path: &Path,
        format: u32,
        major: u32,
        minor: u32,
        entry: &Entry,
    ) -> Result<()> {
        // The 0/0 device would be a whiteout to overlayfs, and anybody may make one.
        let whiteout = (format, major, minor) == (libc::S_IFCHR, 0, 0);
        if (!self.privileged && !whiteout) || (whiteout && self.target == Target::Overlay) {
            self.left_out.devices += 1;
            return Ok(());
        }
        let number = fs::makedev(major, minor);
        self.making(name, path, |dir| {
            fs::mknodat(dir, name, format | entry.mode, number)
        })?;
        self.attributes_by_name(name, entry)
    }

    /// Owner, mode, attributes and time of something that cannot or must not be opened.
    fn attributes_by_name(&mut self, name: &Path, entry: &Entry) -> Result<()> {
        if self.privileged {
            fs::fchownat(
                self.dir(),
                name,
                entry.uid,
                entry.gid,
                libc::AT_SYMLINK_NOFOLLOW,
            )?;
        }
        if !matches!(entry.kind, Kind::Symlink(_)) {
            fs::fchmodat(self.dir(), name, entry.mode)?;
        }
        // Overlay's own marks are no part of a layer, and would deceive it.
        for (key, value) in entry.xattrs.iter().filter(|(k, _)| !whiteout::is_mark(k)) {
            let set = xattr::lsetxattr(self.dir(), name, key, value);
            self.count_refused(set)?;
        }
        Ok(xattr::utimensat(self.dir(), name, entry.mtime)?)
    }

    fn own(&self, file: impl AsFd, entry: &Entry) -> Result<()> {
        if self.privileged {
            xattr::fchown(file, entry.uid, entry.gid)?;
        }
        Ok(())
    }

    fn xattrs(&mut self, file: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        for (key, value) in xattrs.iter().filter(|(k, _)| !whiteout::is_mark(k)) {
            let set = xattr::fsetxattr(&file, key, value);
            self.count_refused(set)?;
        }
        Ok(())
    }

    fn count_refused(&mut self, set: sys::SysResult<()>) -> Result<()> {
        match set {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.errno, Errno::ENOTSUP | Errno::EPERM) => {
                self.left_out.xattrs += 1;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Modes, times and attributes of directories, deepest first.
    fn finish(&mut self) -> Result<()> {
        self.parent = None;
        for place in std::mem::take(&mut self.bookkeeping) {
            self.remove(&place, &place)?;
        }
        for (path, pending) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self
                .open_directory(&path)
                .with_context(|| format!("cannot finish {}", path.display()))?;
            self.only_these(&directory, &pending.xattrs)?;
            self.xattrs(&directory, &pending.xattrs)?;
            xattr::utimensat(&directory, "", pending.mtime)?;
            xattr::fchmod(&directory, pending.mode)?;
        }
        Ok(())
    }

    /// Takes away what a directory that was there before has, and its entry lacks.
    fn only_these(&self, directory: &OwnedFd, wanted: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let place = format!("/proc/self/fd/{}/.", directory.as_raw_fd());
        for name in xattr::llistxattr(Path::new(&place))? {
            let kept = wanted.iter().any(|(key, _)| *key == name);
            if kept || whiteout::is_mark(&name) || belongs_to_host(&name) {
                continue;
            }
            match xattr::fremovexattr(directory, &name) {
                Err(e) if !matches!(e.errno, Errno::EPERM | Errno::ENODATA) => return Err(e.into()),
                _ => {} // one that this user may not remove was not made by this user's layers
            }
        }
        Ok(())
    }
}

fn is_whiteout(directory: &OwnedFd, name: &Path) -> bool {
    let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
    std::fs::symlink_metadata(Path::new(&place).join(name)).is_ok_and(|m| whiteout::is_whiteout(&m))
}

fn write_at(file: &File, bytes: &[u8], at: u64) -> Result<()> {
    file.write_all_at(bytes, at)
        .context("cannot write its content")
        .map_err(|e| match e.errno() {
            Some(libc::ENOSPC) => e.hint("the disk is full"),
            Some(libc::EDQUOT) => e.hint("this user's quota is used up"),
            _ => e,
        })
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
