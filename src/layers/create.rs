//! Writing layers: a directory as a reproducible tar.
//!
//! What it does: the same files give the same bytes: entries stand in the order of their paths,
//! headers hold nothing but what the files are. What ustar cannot say (long names, extended
//! attributes, fractions of a second) stands in pax records, and only where it is needed. Further
//! names of a file are hard links to its first.
//!
//! The upper directory of an overlay says "deleted" in the kernel's form; with
//! [`Target::Overlay`] that becomes the layer's form.
//!
//! What it implements: image-spec "Image Layer Filesystem Changeset"; POSIX.1-2008 pax (ustar and
//! extended headers); the `SCHILY.xattr` records of star. Interface: [`create`], [`Writer`].
//! Read next: `diff.rs`.

use super::apply::Target;
use super::tree::{Node, Tree};
use super::whiteout;
use crate::error::{Context, Error, Result};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Writes the whole tree below `directory` as a layer, uncompressed. Returns the paths of sockets,
/// which a tar cannot hold and a socket's server makes anew.
pub fn create(directory: &Path, target: Target, out: impl Write) -> Result<Vec<PathBuf>> {
    let tree = Tree::read(directory)?;
    let mut writer = Writer::new(out);
    for (path, node) in &tree.nodes {
        match target {
            Target::Overlay if node.is_whiteout() => writer.whiteout(path)?,
            _ => writer.node(&tree, path, node)?,
        }
        if target == Target::Overlay && node.opaque {
            writer.opaque(path)?;
        }
    }
    writer.finish()
}

/// Writes the entries of one layer.
pub struct Writer<W: Write> {
    out: W,
    moved: Option<(PathBuf, PathBuf)>,
    links: HashMap<(u64, u64), PathBuf>,
    sockets: Vec<PathBuf>,
}

impl<W: Write> Writer<W> {
    /// Begins a layer.
    pub fn new(out: W) -> Self {
        Writer {
            out,
            moved: None,
            links: HashMap::new(),
            sockets: Vec::new(),
        }
    }

    /// Begins an archive in which what the tree has at and below `from` stands at `to`.
    pub fn moved(out: W, from: PathBuf, to: PathBuf) -> Self {
        Writer {
            moved: Some((from, to)),
            ..Writer::new(out)
        }
    }

    /// Where the archive has a path of the tree.
    fn place(&self, path: &Path) -> PathBuf {
        let Some((from, to)) = &self.moved else {
            return path.to_path_buf();
        };
        match path.strip_prefix(from) {
            Ok(below) if below.as_os_str().is_empty() => to.clone(),
            Ok(below) => to.join(below),
            Err(_) => path.to_path_buf(),
        }
    }

    /// Writes a file of the tree. Errors: its name is a whiteout's, or it changed while it was
    /// read.
    pub fn node(&mut self, tree: &Tree, path: &Path, node: &Node) -> Result<()> {
        let what = || format!("cannot write {} into the layer", path.display());
        self.write_node(tree, path, node).with_context(what)
    }

    fn write_node(&mut self, tree: &Tree, path: &Path, node: &Node) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(whiteout::PREFIX) {
            return Err(
                Error::new("its name begins with .wh., which says \"deleted\" in a layer")
                    .topic("layers"),
            );
        }
        let mut link = None;
        let kind = match node.format() {
            libc::S_IFDIR => tar::EntryType::Directory,
            libc::S_IFLNK => tar::EntryType::Symlink,
            libc::S_IFCHR => tar::EntryType::Char,
            libc::S_IFBLK => tar::EntryType::Block,
            libc::S_IFIFO => tar::EntryType::Fifo,
            libc::S_IFREG => tar::EntryType::Regular,
            _ => {
                self.sockets.push(path.to_path_buf());
                return Ok(());
            }
        };
        let kind = match self.links.get(&node.inode) {
            Some(first) if node.links > 1 => {
                link = Some(first.as_os_str().as_bytes().to_vec());
                tar::EntryType::Link
            }
            _ => kind,
        };
        if node.links > 1 && link.is_none() {
            self.links.insert(node.inode, self.place(path));
        }
        if kind == tar::EntryType::Symlink {
            link = node
                .target
                .as_ref()
                .map(|t| t.as_os_str().as_bytes().to_vec());
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(node.mode & 0o7777);
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        let size = if kind == tar::EntryType::Regular {
            node.size
        } else {
            0
        };
        header.set_size(size);
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            let (major, minor) = (libc::major(node.rdev), libc::minor(node.rdev));
            header.set_device_major(major).context("its major number")?;
            header.set_device_minor(minor).context("its minor number")?;
        }
        let place = self.place(path);
        let mut name = match place.as_os_str().is_empty() {
            true => b"./".to_vec(),
            false => place.into_os_string().into_vec(),
        };
        if kind == tar::EntryType::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if let Some(ustar) = header.as_ustar_mut() {
            put(&mut ustar.name, &name, b"path", &mut records);
            if let Some(link) = &link {
                put(&mut ustar.linkname, link, b"linkpath", &mut records);
            }
        }
        let time = node.mtime;
        match u64::try_from(time.seconds) {
            Ok(seconds) if seconds < 1 << 33 => header.set_mtime(seconds),
            _ => header.set_mtime(0),
        }
        if time.nanoseconds != 0 || !(0..1 << 33).contains(&time.seconds) {
            records.push((b"mtime".to_vec(), pax_time(time).into_bytes()));
        }
        if link.is_none() || kind == tar::EntryType::Symlink {
            for (key, value) in &node.xattrs {
                records.push(([b"SCHILY.xattr.", &key[..]].concat(), value.clone()));
            }
        }
        self.records(&name, &records)?;
        self.header(header)?;
        if size > 0 {
            let file = tree.open(path)?;
            let copied =
                std::io::copy(&mut file.take(size), &mut self.out).context("cannot copy it")?;
            if copied != size {
                return Err(Error::new("it became shorter while it was read"));
            }
            self.pad(size)?;
        }
        Ok(())
    }

    /// Says that `path` is deleted.
    pub fn whiteout(&mut self, path: &Path) -> Result<()> {
        let mut name = whiteout::PREFIX.to_vec();
        name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        self.empty(path.parent().unwrap_or(Path::new("")), &name)
    }

    /// Says that the directory `path` hides what lies below.
    pub fn opaque(&mut self, path: &Path) -> Result<()> {
        self.empty(path, whiteout::OPAQUE)
    }

    fn empty(&mut self, directory: &Path, name: &[u8]) -> Result<()> {
        let path = directory.join(std::ffi::OsStr::from_bytes(name));
        let name = path.as_os_str().as_bytes();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let mut records = Vec::new();
        if let Some(ustar) = header.as_ustar_mut() {
            put(&mut ustar.name, name, b"path", &mut records);
        }
        self.records(name, &records)?;
        self.header(header)
    }

    fn header(&mut self, mut header: tar::Header) -> Result<()> {
        header.set_cksum();
        self.out
            .write_all(header.as_bytes())
            .context("cannot write the layer")
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let rest = (512 - size % 512) % 512;
        let zeroes = [0u8; 512];
        self.out
            .write_all(&zeroes[..rest as usize])
            .context("cannot write the layer")
    }

    /// The extended header in front of an entry.
    fn records(&mut self, name: &[u8], records: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut sorted: Vec<_> = records.iter().collect();
        sorted.sort();
        let body: Vec<u8> = sorted.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        let base = name.strip_suffix(b"/").unwrap_or(name);
        let base = base.rsplit(|b| *b == b'/').next().unwrap_or(base);
        if let Some(ustar) = header.as_ustar_mut() {
            let place = [b"PaxHeaders/", &base[..base.len().min(80)]].concat();
            ustar.name[..place.len()].copy_from_slice(&place);
        }
        self.header(header)?;
        self.out
            .write_all(&body)
            .context("cannot write the layer")?;
        self.pad(body.len() as u64)
    }

    /// Ends the archive; returns the sockets that were left out.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.out
            .write_all(&[0; 1024])
            .context("cannot end the layer")?;
        self.out.flush().context("cannot end the layer")?;
        Ok(self.sockets)
    }
}

/// Puts a name into a field of 100 bytes, and into a record when it does not fit.
fn put(field: &mut [u8; 100], name: &[u8], key: &[u8], records: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    let n = name.len().min(100);
    field[..n].copy_from_slice(&name[..n]);
    if name.len() > 100 {
        records.push((key.to_vec(), name.to_vec()));
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3; // space, equals sign, newline
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Seconds with as many digits as needed: `1700000000.25`, `-0.5`.
fn pax_time(time: crate::sys::xattr::Time) -> String {
    let text = match time.seconds < 0 && time.nanoseconds > 0 {
        true => format!(
            "-{}.{:09}",
            -(time.seconds + 1),
            1_000_000_000 - time.nanoseconds
        ),
        false => format!("{}.{:09}", time.seconds, time.nanoseconds),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::xattr::Time;

    #[test]
    fn a_records_length_counts_itself() {
        assert_eq!(pax_record(b"path", b"abc"), b"12 path=abc\n");
        for n in [80, 87, 88, 89, 90, 985, 990, 995] {
            let record = pax_record(b"k", &vec![b'x'; n]);
            let said = String::from_utf8_lossy(&record);
            assert_eq!(said.split(' ').next().unwrap(), record.len().to_string());
        }
    }

    #[test]
    fn times_before_the_epoch_are_written_as_they_are_read() {
        let text = |seconds, nanoseconds| {
            pax_time(Time {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(text(1, 500_000_000), "1.5");
        assert_eq!(text(-2, 500_000_000), "-1.5");
        assert_eq!(text(-1, 500_000_000), "-0.5");
        assert_eq!(text(-7, 0), "-7");
        assert_eq!(text(10, 0), "10");
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_in_order() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            for name in ["b", "a", "c"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
                std::fs::write(dir.path().join(name).join("f"), name).unwrap();
            }
            for name in ["a/f", "b/f", "c/f", "a", "b", "c", ""] {
                let fd = std::fs::File::open(dir.path().join(name)).unwrap();
                crate::sys::xattr::utimensat(&fd, "", Time::default()).unwrap();
            }
            let mut bytes = Vec::new();
            create(dir.path(), Target::Plain, &mut bytes).unwrap();
            bytes
        };
        let bytes = make();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["./", "a/", "a/f", "b/", "b/f", "c/", "c/f"]);
        assert_eq!(bytes, make());
    }
}
