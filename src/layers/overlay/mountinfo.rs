//! What is mounted where, as far as an overlay's read-back needs it.
//!
//! What it implements: proc_pid_mountinfo(5). Interface: [`mounted_at`], [`find_mount`].
//! Read next: the folder's `mod.rs`.

use crate::journal::Fact;
use std::path::{Path, PathBuf};

/// The mount on top at `target`, as /proc/self/mountinfo shows it: "overlay rw,relatime - rw,…".
pub fn mounted_at(target: &Path) -> Fact {
    const SOURCE: &str = "/proc/self/mountinfo";
    let absolute = std::path::absolute(target).unwrap_or_else(|_| target.to_path_buf());
    let value = match std::fs::read_to_string(SOURCE) {
        Ok(text) => match find_mount(&text, &absolute) {
            Some(m) => Ok(format!("{} {} - {}", m.fstype, m.options, m.super_options)),
            None => Ok("not a mount point".to_string()),
        },
        Err(e) => Err(e.to_string()),
    };
    Fact {
        what: format!("mount at {}", target.display()),
        value,
        source: SOURCE.into(),
    }
}

/// One line of mountinfo, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// The mount point, unescaped.
    pub point: PathBuf,
    /// The file system's type.
    pub fstype: String,
    /// The mount's options.
    pub options: String,
    /// The superblock's options: here are `lowerdir=` and `upperdir=`.
    pub super_options: String,
}

/// The last mount at exactly `target` in the text of a mountinfo file (the last is on top).
/// See proc_pid_mountinfo(5).
pub fn find_mount(mountinfo: &str, target: &Path) -> Option<MountLine> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let mut right = right.split(' ');
            let point = PathBuf::from(unescape_octal(left.get(4)?));
            Some(MountLine {
                point,
                options: (*left.get(5)?).into(),
                fstype: right.next()?.into(),
                super_options: right.nth(1)?.into(),
            })
        })
        .rfind(|m| m.point == target)
}

/// `\040` and its like, as the kernel writes spaces in mountinfo.
fn unescape_octal(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes.get(i + 1..i + 4).and_then(|d| {
            let d = std::str::from_utf8(d).ok()?;
            u8::from_str_radix(d, 8).ok()
        });
        match (bytes[i], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                i += 4;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_path_is_the_one_on_top() {
        let text = "30 1 0:26 / /a rw - tmpfs t rw\n\
                    31 1 0:27 / /a\\040b ro,relatime shared:1 - overlay overlay ro,lowerdir=/x\n\
                    32 1 0:28 / /a rw - overlay o rw,lowerdir=/y\n";
        assert_eq!(
            find_mount(text, Path::new("/a")).unwrap().super_options,
            "rw,lowerdir=/y"
        );
        assert_eq!(
            find_mount(text, Path::new("/a b")).unwrap().options,
            "ro,relatime"
        );
        assert!(find_mount(text, Path::new("/b")).is_none());
    }
}
