//! The kernel's small text files, those of /proc and /sys, read in as few calls as can be.
//!
//! What it does: such a file has no size that tells how much there is to read, so a reader that trusts
//! the size asks for it in vain and then begins with a few bytes. This one offers a page or two at once.
//! Interface: [`read_text`]. Read next: `cgroup_layout.rs`.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The file's text: as `std::fs::read_to_string`, in two reads for most. Errors: those of open(2) and
/// read(2); `InvalidData` for what is no text.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let mut file = File::open(path)?;
    let mut first = [0; 8192];
    let mut filled = 0;
    while filled < first.len() {
        match file.read(&mut first[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut bytes = first[..filled].to_vec();
    if filled == first.len() {
        file.read_to_end(&mut bytes)?;
    }
    String::from_utf8(bytes).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_texts_are_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 1, 8191, 8192, 8193, 50_000] {
            let text = "é".repeat(length / 2) + if length % 2 == 1 { "." } else { "" };
            std::fs::write(file.path(), &text).unwrap();
            assert_eq!(read_text(file.path()).unwrap(), text);
        }
        std::fs::write(file.path(), [0xff]).unwrap();
        let kind = |path: &Path| read_text(path).unwrap_err().kind();
        assert_eq!(kind(file.path()), ErrorKind::InvalidData);
        assert_eq!(kind(Path::new("/nonexistent")), ErrorKind::NotFound);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(read_text("/proc/self/mountinfo").unwrap(), mounts);
    }
}
