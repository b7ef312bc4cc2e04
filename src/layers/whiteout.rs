//! Whiteouts: how a layer says "this is gone".
//!
//! What it implements, twice, because the two forms say the same:
//!
//! ```text
//!                      in a layer's archive       on disk, for overlayfs
//!   NAME is deleted    empty file .wh.NAME        NAME, a character device 0/0
//!   DIR hides all      empty file in DIR named    DIR has the attribute
//!   that lies below    .wh..wh..opq               trusted.overlay.opaque = y
//! ```
//!
//! The archive's form is in the OCI image specification ("Whiteouts"), the other in the kernel's
//! filesystems/overlayfs document. Inside a user namespace overlayfs reads `user.overlay.opaque`;
//! as root we set both, so that one unpacked layer serves both kinds of mount.
//! Interface: [`classify`], [`make`], [`is_whiteout`], [`set_opaque`], [`is_opaque`].
//! Read next: [`super::apply`].

use crate::error::{Error, Result};
use crate::sys::{Errno, SysResult, fs, xattr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What a deleted name's entry starts with.
pub const PREFIX: &[u8] = b".wh.";
/// The name of the entry that makes its directory opaque.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// What the entries of aufs's own bookkeeping start with; they mean nothing to others.
const META: &[u8] = b".wh..wh.";

const OPAQUE_ATTRIBUTES: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// What an entry's last name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class<'a> {
    /// An ordinary entry.
    Ordinary,
    /// This name is deleted.
    Deleted(&'a [u8]),
    /// The directory that holds the entry hides what lies below.
    Opaque,
    /// Another storage driver's bookkeeping: passed over.
    Bookkeeping,
}

/// Reads an entry's last name. Errors: `.wh.` without a name, which the specification forbids.
pub fn classify(name: &[u8]) -> Result<Class<'_>> {
    if name == OPAQUE {
        return Ok(Class::Opaque);
    }
    if name.starts_with(META) {
        return Ok(Class::Bookkeeping);
    }
    match name.strip_prefix(PREFIX) {
        None => Ok(Class::Ordinary),
        Some(b"" | b"." | b"..") => Err(Error::new(format!(
            "the whiteout {:?} deletes nothing",
            String::from_utf8_lossy(name)
        ))
        .topic("layers")),
        Some(deleted) => Ok(Class::Deleted(deleted)),
    }
}

/// Makes the device 0/0; needs no privilege since Linux 5.8. Errors as mknod(2).
pub fn make(dir: impl AsFd, name: &Path) -> SysResult<()> {
    fs::mknodat(dir, name, libc::S_IFCHR, fs::makedev(0, 0))
}

/// True for overlayfs's "deleted".
pub fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Marks a directory opaque in every form that this user may write. Errors: in none.
pub fn set_opaque(directory: impl AsFd) -> SysResult<()> {
    let mut last = Ok(());
    let mut done = false;
    for name in OPAQUE_ATTRIBUTES {
        match xattr::fsetxattr(&directory, name, b"y") {
            Ok(()) => done = true,
            Err(e) if matches!(e.errno, Errno::EPERM | Errno::ENOTSUP) => last = Err(e),
            Err(e) => return Err(e),
        }
    }
    if done { Ok(()) } else { last }
}

/// True when a directory hides what lies below it.
pub fn is_opaque(directory: &Path) -> bool {
    OPAQUE_ATTRIBUTES
        .iter()
        .any(|name| xattr::lgetxattr(directory, name).is_ok_and(|v| v.as_deref() == Some(b"y")))
}

/// True for the attributes in which overlayfs keeps its marks; they are no part of a layer.
pub fn is_mark(attribute: &[u8]) -> bool {
    attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified() {
        assert_eq!(classify(b"file").unwrap(), Class::Ordinary);
        assert_eq!(classify(b".wh.file").unwrap(), Class::Deleted(b"file"));
        assert_eq!(classify(b".wh..wh..opq").unwrap(), Class::Opaque);
        assert_eq!(classify(b".wh..wh.plnk").unwrap(), Class::Bookkeeping);
        assert_eq!(
            classify(b".wh..hidden").unwrap(),
            Class::Deleted(b".hidden")
        );
        assert!(classify(b".wh.").is_err());
        assert!(classify(b".wh..").is_err());
        assert!(classify(b".wh...").is_err());
    }
}
