//! Reading a layer's tar, entry by entry.
//!
//! What it does: turns a stream into entries with everything that a layer can say about a file:
//! long names, extended attributes, times below the second, sparse files in GNU's old form and in
//! the three pax forms. The format's headers are tar-core's to parse, which does no input of its own;
//! here is the input, and the pax records that it leaves to its caller.
//!
//! An archive that just stops between two entries is whole: docker's client sends such ones, and
//! image-spec does not ask for the end blocks.
//!
//! What it implements: image-spec "Layer"; pax of POSIX.1-2008; GNU tar's sparse formats 0.0, 0.1, 1.0.
//! Interface: [`Archive`], [`Entry`]. Read next: `apply.rs`.

use crate::error::{Context, Error, Result};
use crate::sys::xattr::Time;
use std::io::BufRead;
use tar_core::EntryType;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};

/// What kind of file an entry makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, whose content follows.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// Another name for the file at this path of the layer.
    HardLink(Vec<u8>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A FIFO.
    Fifo,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Time,
    /// How many bytes of content follow in the archive.
    pub size: u64,
    /// For a sparse file: its whole size, and where the pieces of content lie (offset, length).
    pub sparse: Option<(u64, Vec<(u64, u64)>)>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads entries from a stream.
pub struct Archive<R> {
    input: R,
    parser: Parser,
    header: Vec<u8>,
    remaining: u64,
    padding: u64,
}

impl<R: BufRead> Archive<R> {
    /// Begins to read; `input` is uncompressed.
    pub fn new(input: R) -> Self {
        let limits = Limits {
            max_sparse_entries: 1 << 20, // a database's file has more pieces than the default
            ..Limits::default()
        };
        let mut parser = Parser::new(limits);
        // One vendor's broken record must not make a whole image unreadable.
        parser.set_ignore_pax_errors(true);
        Archive {
            input,
            parser,
            header: Vec::new(),
            remaining: 0,
            padding: 0,
        }
    }

    /// The next entry, or `None` at the end. What is left of the last one's content is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let skip = self.remaining + self.padding;
        self.skip(skip)?;
        (self.remaining, self.padding) = (0, 0);
        self.header.clear();
        loop {
            let event = self
                .parser
                .parse(&self.header)
                .map_err(|e| Error::new("the layer is no valid tar").caused_by(e))?;
            let (entry, padding) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    if self.read_header(min_bytes)? {
                        continue;
                    }
                    return Ok(None);
                }
                // pax-global records hold comments (git's commit id) in what is in use.
                ParseEvent::GlobalExtensions { consumed, .. } => {
                    self.header.drain(..consumed);
                    continue;
                }
                ParseEvent::End { .. } => return Ok(None),
                ParseEvent::Entry { entry, .. } => {
                    let padded = entry.padded_size();
                    let padding = padded.saturating_sub(entry.size);
                    (convert(&entry, None)?, padding)
                }
                ParseEvent::SparseEntry {
                    entry,
                    sparse_map,
                    real_size,
                    ..
                } => {
                    let padding = entry.padded_size().saturating_sub(entry.size);
                    let map = sparse_map.iter().map(|s| (s.offset, s.length)).collect();
                    (convert(&entry, Some((real_size, map)))?, padding)
                }
            };
            (self.remaining, self.padding) = (entry.size, padding);
            return Ok(Some(entry));
        }
    }

    /// Reads until the header has `wanted` bytes. False when the stream ends before its first.
    fn read_header(&mut self, wanted: usize) -> Result<bool> {
        let have = self.header.len();
        self.header.resize(wanted.max(have), 0);
        let mut filled = have;
        while filled < self.header.len() {
            match self.input.read(&mut self.header[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(truncated()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).context("cannot read the layer"),
            }
        }
        Ok(true)
    }

    fn skip(&mut self, mut n: u64) -> Result<()> {
        let content = self.remaining;
        let mut skipped = 0;
        while n > 0 {
            let available = self
                .input
                .fill_buf()
                .context("cannot read the layer")?
                .len();
            if available == 0 {
                // Only the padding after the last content may be missing.
                return if skipped >= content {
                    Ok(())
                } else {
                    Err(truncated())
                };
            }
            let step = (available as u64).min(n);
            self.input.consume(step as usize);
            n -= step;
            skipped += step;
        }
        Ok(())
    }

    /// Passes the next piece of the entry's content to `take`; `None` at its end.
    pub fn content<T>(
        &mut self,
        limit: u64,
        take: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<(T, u64)>> {
        if self.remaining == 0 || limit == 0 {
            return Ok(None);
        }
        let available = self.input.fill_buf().context("cannot read the layer")?;
        if available.is_empty() {
            return Err(truncated());
        }
        let n = (available.len() as u64).min(self.remaining).min(limit);
        let value = take(&available[..n as usize])?;
        self.input.consume(n as usize);
        self.remaining -= n;
        Ok(Some((value, n)))
    }
}

fn truncated() -> Error {
    Error::new("the layer ends in the middle of an entry")
        .hint("the transfer or the file was cut short")
}

/// The records of a pax header: `LENGTH KEY=VALUE\n`, where the value may hold any byte.
fn pax_records(mut data: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut records = Vec::new();
    while let Some(space) = data.iter().position(|b| *b == b' ') {
        let length = std::str::from_utf8(&data[..space])
            .ok()
            .and_then(|s| s.parse::<usize>().ok());
        let Some(record) = length.and_then(|n| data.get(space + 1..n)) else {
            break;
        };
        if let Some(equals) = record.iter().position(|b| *b == b'=') {
            let value = record[equals + 1..]
                .strip_suffix(b"\n")
                .unwrap_or(&record[equals + 1..]);
            records.push((&record[..equals], value));
        }
        data = &data[length.unwrap_or(data.len())..];
    }
    records
}

/// `1700000000.123456789`, maybe negative.
fn pax_time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().take(9).collect();
    let nanoseconds: u32 = format!("{digits:0<9}").parse().ok()?;
    Some(match whole.starts_with('-') && nanoseconds > 0 {
        true => Time {
            seconds: seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
        false => Time {
            seconds,
            nanoseconds,
        },
    })
}

fn convert(entry: &ParsedEntry<'_>, sparse: Option<(u64, Vec<(u64, u64)>)>) -> Result<Entry> {
    let link = || {
        entry
            .link_target
            .as_ref()
            .map(|t| t.to_vec())
            .unwrap_or_default()
    };
    let device = || (entry.dev_major.unwrap_or(0), entry.dev_minor.unwrap_or(0));
    let kind = match entry.entry_type {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link()),
        EntryType::Link => Kind::HardLink(link()),
        EntryType::Char => Kind::Char(device().0, device().1),
        EntryType::Block => Kind::Block(device().0, device().1),
        EntryType::Fifo => Kind::Fifo,
        // POSIX: a kind that is not known is a regular file.
        _ => Kind::File,
    };
    let id = |n: u64, what: &str| {
        u32::try_from(n).map_err(|_| Error::new(format!("the {what} {n} of an entry is too large")))
    };
    // In base 256 a time before 1970 is a negative number in two's complement.
    let seconds = entry.mtime.cast_signed();
    let mut made = Entry {
        path: entry.path.to_vec(),
        kind,
        mode: entry.mode & 0o7777,
        uid: id(entry.uid, "owner")?,
        gid: id(entry.gid, "group")?,
        mtime: Time {
            seconds,
            nanoseconds: 0,
        },
        size: entry.size,
        sparse,
        xattrs: Vec::new(),
    };
    if made.path.ends_with(b"/") && made.kind == Kind::File && made.size == 0 {
        made.kind = Kind::Directory; // as written before POSIX had a type for it
    }
    pax(entry.pax.unwrap_or_default(), &mut made);
    Ok(made)
}

/// Applies the records that tar-core leaves alone.
fn pax(data: &[u8], entry: &mut Entry) {
    for (key, value) in pax_records(data) {
        if key == b"mtime" {
            let text = std::str::from_utf8(value).unwrap_or_default();
            entry.mtime = pax_time(text).unwrap_or(entry.mtime);
        } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            entry.xattrs.push((name.to_vec(), value.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_values_may_hold_any_byte() {
        let data = [&b"21 SCHILY.xattr.a=\n\0\n"[..], b"12 path=abc\n"].concat();
        let records = pax_records(&data);
        assert_eq!(records[0], (&b"SCHILY.xattr.a"[..], &b"\n\0"[..]));
        assert_eq!(records[1], (&b"path"[..], &b"abc"[..]));
    }

    #[test]
    fn times_before_the_epoch_have_their_fraction_counted_forward() {
        let time = |t| pax_time(t).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("7"), Some((7, 0)));
        assert_eq!(time("x"), None);
    }

    #[test]
    fn an_archive_that_stops_after_an_entry_is_whole() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        for (length, whole) in [
            (bytes.len(), true),
            (1024, true),
            (515, true),
            (514, false),
            (100, false),
        ] {
            let mut archive = Archive::new(&bytes[..length]);
            let all = (|| {
                while archive.next_entry()?.is_some() {}
                Ok::<_, Error>(())
            })();
            assert_eq!(all.is_ok(), whole, "{length} bytes: {all:?}");
        }
    }
}
