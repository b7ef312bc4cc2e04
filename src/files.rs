//! Files of ours: replaced whole or not at all, read as JSON, locked.
//!
//! What it does: what every keeper of state on disk needs. A file is written beside and renamed
//! over, so a process killed at any moment leaves the old file or the new one; a lock is flock(2),
//! so a killed process holds none.
//!
//! What it implements: rename(2), fsync(2), flock(2). Interface: [`write_atomically`],
//! [`write_even_if_full`], [`read_json`], [`read_json_at`], [`from_json`], [`to_json`], [`lock`],
//! [`open_lock`]; [`output`] for files that a user names. Read next: `containers/state.rs` and
//! `runtime/store.rs`, which keep state by it.

pub mod output;

use crate::error::{Context, Error, Result};
use crate::sys;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// Replaces a file by `text`: whoever reads it sees the old content or the new, never a part.
/// With `durable` it is on the disk when this returns, so that a power cut cannot take it back.
pub fn write_atomically(path: &Path, text: &str, mode: u32, durable: bool) -> Result<()> {
    replace(path, text, mode, durable)
        .with_context(|| format!("cannot write {}", path.display()))?;
    if durable && let Some(dir) = path.parent() {
        sync_directory(dir)?;
    }
    Ok(())
}

fn replace(path: &Path, text: &str, mode: u32, durable: bool) -> sys::SysResult<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let write = || -> sys::SysResult<()> {
        let file = sys::fs::open(&beside, flags, mode)?;
        sys::fs::write(&file, &beside, text)?;
        if durable {
            sys::poll::fsync(&file)?;
        }
        sys::fs::renameat2(sys::fs::CWD, &beside, sys::fs::CWD, path, 0)
    };
    write().inspect_err(|_e| {
        let _ = sys::fs::unlinkat(sys::fs::CWD, &beside, 0); // may not exist
    })
}

/// [`write_atomically`] for what must be kept even when the disk is full, because it is how the disk
/// gets room again: JSON is then written over the file that is there, into the room that it has,
/// in one call. A reader at that very moment may see a part of both.
pub fn write_even_if_full(path: &Path, text: &str, mode: u32, durable: bool) -> Result<()> {
    let full = match replace(path, text, mode, durable) {
        Err(e) if matches!(e.errno, sys::Errno::ENOSPC | sys::Errno::EDQUOT) => e,
        Ok(()) if !durable => return Ok(()),
        Ok(()) => return path.parent().map_or(Ok(()), sync_directory),
        Err(e) => return Err(e).with_context(|| format!("cannot write {}", path.display())),
    };
    let what = || format!("cannot write {}", path.display());
    let Ok(old) = std::fs::metadata(path) else {
        return Err(full).with_context(what); // there is none
    };
    let old = usize::try_from(old.len()).unwrap_or(0);
    let file = sys::fs::open(path, libc::O_WRONLY, 0).with_context(what)?;
    sys::fs::write(&file, path, &format!("{text:<old$}")).with_context(what)
}

/// Flushes a directory's entries.
pub fn sync_directory(dir: &Path) -> Result<()> {
    let what = || format!("cannot flush {}", dir.display());
    let fd = sys::fs::open(dir, libc::O_RDONLY | libc::O_DIRECTORY, 0).with_context(what)?;
    sys::poll::fsync(&fd).with_context(what)
}

/// Reads a JSON file. `None` when it does not exist.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    read_json_at(sys::fs::CWD, path)
}

/// [`read_json`] relative to a directory that is open. For who reads hundreds of files beneath one:
/// the kernel walks to the directory once.
pub fn read_json_at<T: serde::de::DeserializeOwned>(
    dir: impl AsFd,
    path: &Path,
) -> Result<Option<T>> {
    match with_content(dir, path, |bytes| serde_json::from_slice(bytes)) {
        Ok(read) => read
            .with_context(|| format!("{} is damaged", path.display()))
            .map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// What `read` makes of a file's content. Most files of ours fit into one read(2), so nobody asks for
/// its size first, and a file of ours that gave less than was asked for has no more.
fn with_content<T>(
    dir: impl AsFd,
    path: &Path,
    read: impl FnOnce(&[u8]) -> T,
) -> std::io::Result<T> {
    let opened = sys::fs::openat(dir, path, libc::O_RDONLY, 0).map_err(|e| e.errno)?;
    let mut file = File::from(opened);
    let mut first = [0; 4096];
    let filled = loop {
        match file.read(&mut first) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            other => break other?,
        }
    };
    if filled < first.len() {
        return Ok(read(&first[..filled]));
    }
    let mut all = first.to_vec();
    file.read_to_end(&mut all)?;
    Ok(read(&all))
}

/// A document out of JSON that somebody else wrote. Errors name the field:
/// `linux.namespaces[6].type: unknown variant …`.
pub fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let plain = match serde_json::from_slice(bytes) {
        Ok(document) => return Ok(document),
        Err(error) => error,
    };
    // Only now: to keep account of the path takes time.
    let mut again = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut again) {
        Err(error) => Err(Error::new(error.to_string())),
        Ok(_) => Err(Error::new(plain.to_string())), // what follows the document
    }
}

/// A value as the JSON that is stored: indented, with a newline at the end.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    Ok(text)
}

/// Opens a lock file and waits until it is ours. Dropping the file releases it.
pub fn lock(path: &Path) -> Result<File> {
    let file = open_lock(path)?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// Opens a lock file without locking it.
pub fn open_lock(path: &Path) -> Result<File> {
    let flags = libc::O_RDWR | libc::O_CREAT;
    sys::fs::open(path, flags, 0o600)
        .with_context(|| format!("cannot open {}", path.display()))
        .map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        assert!(read_json::<u32>(&path).unwrap().is_none());
        for number in [1, 2] {
            write_atomically(&path, &to_json(&number).unwrap(), 0o600, true).unwrap();
            assert_eq!(read_json::<u32>(&path).unwrap().unwrap(), number);
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing lies beside"
        );
        std::fs::write(&path, "{").unwrap();
        let e = read_json::<u32>(&path).unwrap_err();
        assert!(e.message().contains("is damaged"), "{e:?}");
    }
}
