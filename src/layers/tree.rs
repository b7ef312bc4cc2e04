//! A directory tree as data: what a layer would have to say about each file.
//!
//! What it does: walks a directory by descriptors (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`), so a link swapped in meanwhile leads nowhere, and keeps kind, mode,
//! owner, time, device numbers and extended attributes of each file, in the order of their paths.
//!
//! What it implements: lstat(2), llistxattr(2), openat2(2). Interface: [`Tree`], [`Node`].
//! Read next: `create.rs`.

use super::whiteout;
use crate::error::{Context, Result};
use crate::sys::{fs, xattr};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: xattr::Time,
    /// Length of a regular file.
    pub size: u64,
    /// Device number of a device.
    pub rdev: u64,
    /// Text of a symbolic link.
    pub target: Option<PathBuf>,
    /// Extended attributes by name, without overlayfs's marks and those that the host's security
    /// modules keep.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Which file it is on its file system: two paths with the same are hard links.
    pub inode: (u64, u64),
    /// How many names the file has, here or elsewhere.
    pub links: u64,
    /// overlayfs: the directory hides what lies below.
    pub opaque: bool,
}

impl Node {
    /// The type bits of the mode.
    pub fn format(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
    /// True for a directory.
    pub fn is_directory(&self) -> bool {
        self.format() == libc::S_IFDIR
    }
    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.format() == libc::S_IFREG
    }
    /// True for overlayfs's "deleted".
    pub fn is_whiteout(&self) -> bool {
        self.format() == libc::S_IFCHR && self.rdev == 0
    }
}

/// A tree, read once.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// The files by their path from the root; the root's own path is empty.
    pub nodes: BTreeMap<PathBuf, Node>,
}

const INSIDE: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;

impl Tree {
    /// Reads the tree below `directory`. Errors: a directory cannot be read; all of them would be
    /// missing in a layer, so nothing is passed over.
    pub fn read(directory: &Path) -> Result<Tree> {
        let root = fs::open(directory, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .with_context(|| format!("cannot open {}", directory.display()))?;
        let mut tree = Tree {
            root,
            nodes: BTreeMap::new(),
        };
        let place = format!("/proc/self/fd/{}/.", tree.root.as_raw_fd());
        let node = read_node(Path::new(&place))
            .with_context(|| format!("cannot look at {}", directory.display()))?;
        tree.nodes.insert(PathBuf::new(), node);
        tree.walk(Path::new(""))
            .with_context(|| format!("cannot read the tree {}", directory.display()))?;
        Ok(tree)
    }

    /// Reads the one file `name` of `directory`, with all below it when it is a directory.
    pub fn read_one(directory: &Path, name: &Path) -> Result<Tree> {
        let root = fs::open(directory, libc::O_RDONLY | libc::O_DIRECTORY, 0)
            .with_context(|| format!("cannot open {}", directory.display()))?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
        let node = read_node(&place.join(name))
            .with_context(|| format!("cannot look at {}", name.display()))?;
        let mut tree = Tree {
            root,
            nodes: BTreeMap::new(),
        };
        let below = node.is_directory();
        tree.nodes.insert(name.to_path_buf(), node);
        if below {
            tree.walk(name)
                .with_context(|| format!("cannot read the tree {}", name.display()))?;
        }
        Ok(tree)
    }

    fn walk(&mut self, directory: &Path) -> Result<()> {
        let what = || format!("cannot list {}", directory.display());
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let at = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        let fd = fs::openat2(&self.root, at, flags, 0, INSIDE).with_context(what)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let mut names: Vec<OsString> = Vec::new();
        for entry in std::fs::read_dir(&place).with_context(what)? {
            names.push(entry.with_context(what)?.file_name());
        }
        let mut below = Vec::new();
        for name in names {
            let path = directory.join(&name);
            let node = read_node(&place.join(&name))
                .with_context(|| format!("cannot look at {}", path.display()))?;
            if node.is_directory() {
                below.push(path.clone());
            }
            self.nodes.insert(path, node);
        }
        drop(fd); // before going deeper: a deep tree must not use up the descriptors
        below.iter().try_for_each(|path| self.walk(path))
    }

    /// Opens a regular file of the tree for reading.
    pub fn open(&self, path: &Path) -> Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOFOLLOW;
        fs::openat2(&self.root, path, flags, 0, INSIDE)
            .map(File::from)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

fn read_node(path: &Path) -> Result<Node> {
    let meta = std::fs::symlink_metadata(path).context("cannot lstat")?;
    let target = match meta.is_symlink() {
        true => Some(std::fs::read_link(path).context("cannot read the link")?),
        false => None,
    };
    let mut xattrs = BTreeMap::new();
    let mut opaque = false;
    for name in xattr::llistxattr(path)? {
        if whiteout::is_mark(&name) {
            opaque |= name.ends_with(b".opaque") && whiteout::is_opaque(path);
            continue;
        }
        if belongs_to_host(&name) {
            continue;
        }
        if let Some(value) = xattr::lgetxattr(path, &name)? {
            xattrs.insert(name, value);
        }
    }
    Ok(Node {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: xattr::Time {
            seconds: meta.mtime(),
            nanoseconds: meta.mtime_nsec() as u32,
        },
        size: if meta.is_file() { meta.len() } else { 0 },
        rdev: match meta.mode() & libc::S_IFMT {
            libc::S_IFCHR | libc::S_IFBLK => meta.rdev(),
            _ => 0,
        },
        target,
        xattrs,
        inode: (meta.dev(), meta.ino()),
        links: if meta.is_dir() { 1 } else { meta.nlink() },
        opaque,
    })
}

/// Attributes that this host's security modules keep; on another host they would be wrong.
pub(super) fn belongs_to_host(name: &[u8]) -> bool {
    name == b"security.selinux" || name == b"security.ima" || name == b"security.evm"
}
