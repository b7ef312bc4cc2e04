//! Files that a user names for output: replaced whole or not at all.
//!
//! What it does: the content is written beside, as `.NAME.part-PID`, and takes the name when all of it
//! is there; what stood under the name stays until then, and stays for good when something fails.
//! What is no file (a device, a FIFO, a terminal) is nobody's to replace: it is written to, as by
//! the shell's `>`. Behind a symbolic link it is the file that is replaced, not the link.
//!
//! The directory is held open, for who writes may be in another mount namespace by the end.
//!
//! What it implements: rename(2). Interface: [`Output`], [`write`]. Read next: `cli/export.rs`.

use crate::error::{Context, Error, Result};
use crate::sys::{self, fs::CWD};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: File,
    beside: Option<Beside>,
}

/// Where the content is until all of it is there.
#[derive(Debug)]
struct Beside {
    dir: OwnedFd,
    part: OsString,
    name: OsString,
}

impl Output {
    /// Begins to write what `path` shall hold; a new file has this mode, less the umask. Errors: it
    /// is a directory; its directory does not exist or may not be written.
    pub fn create(path: &Path, mode: u32) -> Result<Output> {
        let what = || format!("cannot write {}", path.display());
        let there = match std::fs::metadata(path) {
            Ok(there) => Some(there),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(what),
        };
        if there.as_ref().is_some_and(|t| !t.is_file() && !t.is_dir()) {
            let file = sys::fs::open(path, libc::O_WRONLY, 0).with_context(what)?;
            return Ok(Output {
                path: path.into(),
                file: file.into(),
                beside: None,
            });
        }
        Self::begin(path, there.as_ref(), mode).with_context(what)
    }

    fn begin(path: &Path, there: Option<&Metadata>, mode: u32) -> Result<Output> {
        if there.is_some_and(Metadata::is_dir) {
            return Err(Error::new("it is a directory").hint("name a file in it"));
        }
        let real = match there {
            Some(_) => path.canonicalize().context("cannot resolve it")?,
            None => path.to_path_buf(),
        };
        let name = real.file_name().context("it has no name")?.to_os_string();
        let dir = match real.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let dir = sys::fs::openat(CWD, dir, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        let mut part = OsString::from(".");
        part.push(&name);
        part.push(format!(".part-{}", std::process::id()));
        // What is left of one that was killed, or what somebody has put there in a directory of all.
        let _ = sys::fs::unlinkat(&dir, &part, 0);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let file = File::from(sys::fs::openat(&dir, &part, flags, mode)?);
        let output = Output {
            path: path.into(),
            file,
            beside: Some(Beside { dir, part, name }),
        };
        if let Some(there) = there {
            // Root's output into somebody's file stays his; others can give nothing away.
            let _ = fchown(&output.file, Some(there.uid()), Some(there.gid()));
            let as_before = std::fs::Permissions::from_mode(there.permissions().mode() & 0o777);
            let set = output.file.set_permissions(as_before);
            set.context("cannot give it the mode of the old one")?;
        }
        Ok(output)
    }

    /// All of it is there: it gets its name.
    pub fn finish(mut self) -> Result<()> {
        let Some(Beside { dir, part, name }) = &self.beside else {
            return Ok(());
        };
        sys::fs::renameat2(dir, part, dir, name, 0)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.beside = None;
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(Beside { dir, part, .. }) = &self.beside {
            let _ = sys::fs::unlinkat(dir, part, 0); // the failure that brought us here says more
        }
    }
}

/// Writes a short text to where a user wants it.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut output = Output::create(path, mode)?;
    output
        .write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let names = dir.read_dir().unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_stays_until_all_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mine = nix::unistd::geteuid().as_raw();
        let owner = if mine == 0 { 1234 } else { mine };
        fchown(File::open(&path).unwrap(), Some(owner), None).unwrap();
        let mut output = Output::create(&path, 0o666).unwrap();
        output.write_all(b"half").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["out"]);
        write(&path, "new", 0o666).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let there = std::fs::metadata(&path).unwrap();
        assert_eq!((there.mode() & 0o777, there.uid()), (0o640, owner));
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn behind_a_link_the_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("below")).unwrap();
        std::fs::write(path("below/file"), "old").unwrap();
        symlink("below/file", path("link")).unwrap();
        write(&path("link"), "new", 0o666).unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(std::fs::read(path("below/file")).unwrap(), b"new");
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || std::fs::read(fifo).unwrap())
        };
        write(&fifo, "text", 0o666).unwrap();
        assert_eq!(reader.join().unwrap(), b"text");
        assert!(std::fs::metadata(&fifo).unwrap().file_type().is_fifo());
        assert_eq!(names(dir.path()), ["fifo"]);
        let refused = write(dir.path(), "text", 0o666).unwrap_err();
        assert!(
            format!("{refused:#}").contains("it is a directory"),
            "{refused:#}"
        );
    }
}
