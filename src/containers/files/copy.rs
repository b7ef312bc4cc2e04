//! `cp`: files between the host and a container.
//!
//! What it does: finds out what both paths are, decides by docker's rules what goes where, and
//! streams an archive from one side to the other. Both sides are directories that stand for a
//! root: the host's `/`, and the container's. Every path is resolved below them by the kernel, so
//! whatever links a container has put in the way, they end in the container.
//!
//! | source | destination | what happens |
//! |---|---|---|
//! | file | missing | it gets that name; a name that ends in `/` is an error |
//! | file | file | replaced |
//! | file | directory | it goes into it |
//! | directory | missing | made, with the source's content |
//! | directory | directory | it goes into it; only its content when the source ends in `/.` |
//! | directory | file | an error |
//!
//! What it implements: docker's `cp`; openat2(2) with `RESOLVE_IN_ROOT`.
//! Interface: [`Side`], [`copy`], [`pack`], [`unpack`]. Read next: [`crate::layers::create`].

use crate::error::{Context, Error, Kind, Result};
use crate::layers::apply::{self, Target};
use crate::layers::create::Writer;
use crate::layers::tree::Tree;
use crate::sys;
use std::ffi::OsStr;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most that an archive from stdin may unpack to: no limit but the disk.
const UNLIMITED: u64 = u64::MAX;

/// One end of a copy: a root, and what to call it.
#[derive(Debug)]
pub struct Side {
    root: OwnedFd,
    /// In messages; `None` for the host.
    container: Option<String>,
}

/// What a path is.
#[derive(Debug, Clone)]
struct Place {
    /// From the root, without links but perhaps the last part.
    path: PathBuf,
    /// `st_mode`; `None` when nothing is there.
    mode: Option<u32>,
    /// The path ended in a slash: it means a directory.
    slash: bool,
    /// It ended in `/.`: the content is meant.
    content: bool,
}

impl Place {
    fn is_directory(&self) -> bool {
        self.mode.is_some_and(|m| m & libc::S_IFMT == libc::S_IFDIR)
    }
    /// Something is there that is neither a directory nor a regular file.
    fn is_special(&self) -> bool {
        self.mode
            .is_some_and(|m| !matches!(m & libc::S_IFMT, libc::S_IFDIR | libc::S_IFREG))
    }
    fn name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }
}

impl Side {
    /// The host.
    pub fn host() -> Result<Side> {
        let root =
            sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0).context("cannot open /")?;
        Ok(Side {
            root,
            container: None,
        })
    }
    /// A container, whose root is this.
    pub fn container(name: &str, root: BorrowedFd<'_>) -> Result<Side> {
        let root = root
            .try_clone_to_owned()
            .context("cannot keep the container's root")?;
        Ok(Side {
            root,
            container: Some(name.into()),
        })
    }

    fn describe(&self, path: &Path) -> String {
        match &self.container {
            Some(name) => format!("{name}:{}", path.display()),
            None => path.display().to_string(),
        }
    }

    fn open(&self, path: &Path, flags: i32) -> sys::SysResult<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        // On the host, /dev/stdin and the like are the caller's own.
        let magic = if self.container.is_some() {
            libc::RESOLVE_NO_MAGICLINKS
        } else {
            0
        };
        sys::fs::openat2(
            &self.root,
            relative,
            flags,
            0,
            libc::RESOLVE_IN_ROOT | magic,
        )
    }

    /// The path from the root of what is open, with no link in it.
    fn real(&self, fd: &OwnedFd) -> Result<PathBuf> {
        let link = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let what = "cannot ask for a path";
        let (whole, root) = (
            link(fd.as_raw_fd()).context(what)?,
            link(self.root.as_raw_fd()).context(what)?,
        );
        whole
            .strip_prefix(&root)
            .map(|below| Path::new("/").join(below))
            .map_err(|_| Error::new(format!("{} does not lie below the root", whole.display())))
    }

    /// What `path` is; a last part that is a link is followed when that is wanted or a slash says
    /// so. Errors: the directory that it would lie in is not there.
    fn locate(&self, path: &Path, follow: bool) -> Result<Place> {
        let bytes = path.as_os_str().as_bytes();
        let content = bytes == b"." || bytes.ends_with(b"/.");
        let slash = content || bytes.ends_with(b"/");
        let flags = libc::O_PATH | if follow || slash { 0 } else { libc::O_NOFOLLOW };
        // A relative path of a container's is meant from its root.
        let path = Path::new("/").join(path);
        let what = || format!("cannot look at {}", self.describe(&path));
        match self.open(&path, flags) {
            Ok(fd) => {
                let mode = std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()));
                // A link that is not followed is open itself; behind /proc/self/fd stat follows on.
                let mode = match std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
                    Ok(_) if flags & libc::O_NOFOLLOW != 0 => nix::sys::stat::fstat(&fd)
                        .map(|s| s.st_mode)
                        .map_err(std::io::Error::from),
                    _ => mode.map(|m| m.mode()),
                };
                let place = Place {
                    path: self.real(&fd).with_context(what)?,
                    mode: Some(mode.with_context(what)?),
                    slash,
                    content,
                };
                match place.slash && !place.is_directory() {
                    true => Err(Error::new(format!(
                        "{}: not a directory",
                        self.describe(&path)
                    ))),
                    false => Ok(place),
                }
            }
            Err(e) if e.errno == sys::Errno::ENOENT => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    return Err(e).with_context(what);
                };
                let parent = self
                    .open(parent, libc::O_PATH | libc::O_DIRECTORY)
                    .with_context(what)?;
                Ok(Place {
                    path: self.real(&parent).with_context(what)?.join(name),
                    mode: None,
                    slash,
                    content,
                })
            }
            Err(e) => Err(e).with_context(what),
        }
    }

    /// As [`Self::locate`], but it must be there.
    fn source(&self, path: &Path, follow: bool) -> Result<Place> {
        let missing = || {
            let text = match &self.container {
                Some(name) => format!(
                    "could not find the file {} in container {name}",
                    path.display()
                ),
                None => format!("{}: no such file or directory", path.display()),
            };
            Error::kind(Kind::NotFound, text)
        };
        match self.locate(path, follow) {
            Ok(place) if place.mode.is_none() => Err(missing()),
            Err(e) if e.errno() == Some(libc::ENOENT) => Err(missing()),
            other => other,
        }
    }

    /// The tree at a place, and the path that it has in it.
    fn tree(&self, place: &Place) -> Result<(Tree, PathBuf)> {
        let by_descriptor =
            |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        match (place.name(), place.path.parent()) {
            (Some(name), Some(parent)) => {
                let parent = self
                    .open(parent, libc::O_PATH | libc::O_DIRECTORY)
                    .with_context(|| format!("cannot open {}", self.describe(parent)))?;
                let name = PathBuf::from(name);
                Ok((Tree::read_one(&by_descriptor(&parent), &name)?, name))
            }
            _ => Ok((Tree::read(&by_descriptor(&self.root))?, PathBuf::new())),
        }
    }
}

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Owners stay as they are; else files belong to root in a container, to the caller outside.
    pub archive: bool,
    /// A source that is a link is followed.
    pub follow: bool,
}

/// Copies `source` of one side to `destination` of the other: how many bytes of archive it took.
/// Errors: docker's, see the table above; what was written before a failure stays.
pub fn copy(
    from: &Side,
    source: &Path,
    to: &Side,
    destination: &Path,
    options: Options,
) -> Result<u64> {
    let source = from.source(source, options.follow)?;
    let target = to.locate(destination, true)?;
    let described = || to.describe(destination);
    let directory = source.is_directory();
    // What is unpacked replaces what is there: a device, /dev/null among them, would be gone.
    if target.is_special() {
        let what = format!(
            "destination {} must be a directory or a regular file",
            described()
        );
        return Err(Error::new(what).hint("`-` in its place is an archive on stdout"));
    }
    let place = match (directory, target.mode.is_some(), target.is_directory()) {
        (true, true, false) => {
            return Err(Error::new(format!(
                "cannot copy a directory to {}, which is a file",
                described()
            )));
        }
        (false, false, _) if target.slash => {
            return Err(Error::kind(
                Kind::NotFound,
                format!("no such directory: {}", described()),
            ));
        }
        (_, true, true) if !source.content => match source.name() {
            Some(name) => target.path.join(name),
            None => target.path.clone(),
        },
        _ => target.path.clone(),
    };
    let (mut tree, name) = from.tree(&source)?;
    // The directory whose content alone goes keeps its attributes where it goes to.
    if directory && target.is_directory() && place == target.path {
        tree.nodes.remove(&name);
    }
    if !options.archive {
        let (uid, gid) = match to.container {
            Some(_) => (0, 0),
            None => (
                nix::unistd::geteuid().as_raw(),
                nix::unistd::getegid().as_raw(),
            ),
        };
        for node in tree.nodes.values_mut() {
            (node.uid, node.gid) = (uid, gid);
        }
    }
    let place = place.strip_prefix("/").unwrap_or(&place).to_path_buf();
    for (path, node) in &tree.nodes {
        let below = path.strip_prefix(&name).unwrap_or(path);
        let path = if below.as_os_str().is_empty() {
            place.clone()
        } else {
            place.join(below)
        };
        if let Ok(fd) = to.open(&path, libc::O_PATH | libc::O_NOFOLLOW) {
            let there =
                nix::sys::stat::fstat(&fd).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
            if there != node.is_directory() {
                let (a, b) = if there {
                    ("directory", "non-directory")
                } else {
                    ("non-directory", "directory")
                };
                return Err(Error::new(format!(
                    "cannot overwrite {a} {:?} with {b}",
                    Path::new("/").join(path)
                )));
            }
        }
    }
    stream(tree, name, place, &to.root)
}

/// Writes the tree into a pipe, and unpacks what comes out of it below `root`.
fn stream(tree: Tree, name: PathBuf, place: PathBuf, root: &OwnedFd) -> Result<u64> {
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let at = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    std::thread::scope(|scope| {
        let write = scope.spawn(move || {
            let mut out = Counting {
                out: BufWriter::with_capacity(64 << 10, writer),
                count: 0,
            };
            archive(&tree, name, place, &mut out).map(|()| out.count)
        });
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        let applied = apply::apply(&mut reader, &at, Target::Plain);
        // After a failure here the writer would wait for a reader for ever.
        if applied.is_ok() {
            let _ = std::io::copy(&mut reader, &mut std::io::sink()); // the padding, if it is left
        }
        drop(reader);
        let written = write
            .join()
            .unwrap_or_else(|_| Err(Error::new("the writing thread ended")));
        match (applied, written) {
            // The end that failed first says why; the other only saw a broken pipe.
            (_, Err(e)) if e.errno() != Some(libc::EPIPE) => Err(e),
            (Err(e), _) => Err(e),
            (Ok(_), written) => written,
        }
    })
}

fn archive(tree: &Tree, from: PathBuf, to: PathBuf, out: impl Write) -> Result<()> {
    let mut writer = Writer::moved(out, from, to);
    for (path, node) in &tree.nodes {
        writer.node(tree, path, node)?;
    }
    writer.finish().map(drop)
}

/// Writes `source` as a tar, under its own name: `cp CONTAINER:PATH -`.
pub fn pack(from: &Side, source: &Path, options: Options, out: impl Write) -> Result<()> {
    let source = from.source(source, options.follow)?;
    let (tree, name) = from.tree(&source)?;
    let to = if source.content {
        PathBuf::new()
    } else {
        name.clone()
    };
    archive(&tree, name, to, out)
}

/// Unpacks a tar, compressed or not, into a directory: `cp - CONTAINER:PATH`.
pub fn unpack(input: impl Read + Send, to: &Side, destination: &Path) -> Result<()> {
    let target = to.locate(destination, true)?;
    if !target.is_directory() {
        return Err(Error::new(format!(
            "destination \"{}\" must be a directory",
            to.describe(destination)
        )));
    }
    let place = to
        .open(&target.path, libc::O_PATH | libc::O_DIRECTORY)
        .with_context(|| format!("cannot open {}", to.describe(destination)))?;
    let at = PathBuf::from(format!("/proc/self/fd/{}", place.as_fd().as_raw_fd()));
    apply::apply_layer(input, UNLIMITED, &at, Target::Plain).map(drop)
}

struct Counting<W> {
    out: W,
    count: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(data)?;
        self.count += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
