//! How an overlay's layers are named to the kernel: paths, escaped; or numbers of descriptors
//! where paths do not fit.
//!
//! What it implements: the escapes of overlayfs's `lowerdir=`; the limits of fsconfig(2) and of
//! mount(2)'s option page. Interface: `Names`, `escape`, `split_list`. Read next: the folder's
//! `mod.rs`.

use super::MountOverlay;
use crate::sys::{SysResult, fs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The names by which the layers are given to the kernel: their paths, or, where those do not
/// fit, the numbers of descriptors, looked up in /proc/self/fd as the working directory.
pub(super) struct Names {
    pub(super) lowers: Vec<String>,
    pub(super) upper: Option<String>,
    pub(super) work: Option<String>,
    pub(super) target: Option<OwnedFd>,
    held: Vec<OwnedFd>,
    came_from: Option<OwnedFd>,
}

impl Names {
    pub(super) fn as_they_are(m: &MountOverlay) -> Names {
        let name = |p: &PathBuf| p.display().to_string();
        Names {
            lowers: m.lowers.iter().map(name).collect(),
            upper: m.upper.as_ref().map(name),
            work: m.work.as_ref().map(name),
            target: None,
            held: Vec::new(),
            came_from: None,
        }
    }

    pub(super) fn new(m: &MountOverlay, fits: impl Fn(&[&Path]) -> bool) -> SysResult<Names> {
        let all: Vec<&Path> = m
            .lowers
            .iter()
            .chain(&m.upper)
            .chain(&m.work)
            .map(PathBuf::as_path)
            .collect();
        if fits(&all) {
            return Ok(Names::as_they_are(m));
        }
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        let mut held = Vec::new();
        let mut number = |path: &Path| -> SysResult<String> {
            let fd = fs::open(path, directory, 0)?;
            let name = fd.as_raw_fd().to_string();
            held.push(fd);
            Ok(name)
        };
        let lowers = m
            .lowers
            .iter()
            .map(|p| number(p))
            .collect::<SysResult<Vec<_>>>()?;
        let upper = m.upper.as_deref().map(&mut number).transpose()?;
        let work = m.work.as_deref().map(&mut number).transpose()?;
        let target = fs::open(&m.target, directory, 0)?;
        let came_from = fs::open(".", directory, 0)?;
        fs::chdir("/proc/self/fd")?;
        Ok(Names {
            lowers,
            upper,
            work,
            target: Some(target),
            held,
            came_from: Some(came_from),
        })
    }

    /// Goes back to the working directory.
    pub(super) fn leave(self) -> SysResult<()> {
        drop(self.held);
        match self.came_from {
            Some(fd) => fs::fchdir(&fd),
            None => Ok(()),
        }
    }
}

/// A path that the kernel's option parsers would take apart.
pub(super) fn is_awkward(path: &Path) -> bool {
    path.to_str()
        .is_none_or(|t| t.contains([':', ',', '\\', '"']))
}

pub(super) fn escape(path: &Path) -> String {
    let text = path.display().to_string();
    text.replace('\\', "\\\\").replace(':', "\\:")
}

pub(super) fn unescape(text: &str) -> String {
    split_escaped(text, None).concat()
}

pub(super) fn split_list(text: &str) -> Vec<PathBuf> {
    let parts = split_escaped(text, Some(':'));
    parts
        .into_iter()
        .filter(|p| !p.is_empty())
        .map(PathBuf::from)
        .collect()
}

fn split_escaped(text: &str, at: Option<char>) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '\\' => parts[last].extend(chars.next()),
            c if Some(c) == at => parts.push(String::new()),
            c => parts[last].push(c),
        }
    }
    parts
}
