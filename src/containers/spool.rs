//! The spool: output that has left the program's FIFO and is not in the log yet, kept in files.
//!
//! What it does: a monitor may be killed between reading a line and logging it, and between logging
//! it and remembering that it did. The first would lose the line, the second would log it twice. So
//! output goes through files in the container's run directory, each step of which the kernel makes
//! whole or not at all, and a monitor that takes over goes on exactly where the last one was killed.
//!
//! ```text
//!   FIFO ──splice──▶ spool-stdout-0 ──lines──▶ spool: the intent ──▶ log
//!                                              "at 812 of the log come these 95 bytes;
//!                                               with them stdout is logged up to 40"
//! ```
//!
//! | Killed | What the next monitor finds | What it does |
//! |---|---|---|
//! | before `splice` | the bytes in the FIFO | reads them |
//! | after it | a file longer than what is logged of it | logs the rest |
//! | after the intent | a log that ends at or after 812, before 907 | writes what is missing |
//! | after the log | a log that ends at 907 | nothing |
//!
//! A terminal's bytes cannot be spliced: they are read and then written here, and the terminal
//! itself goes with its monitor. When a stream's file has grown, its unlogged rest begins a second
//! one, and the next intent names that.
//!
//! What it implements: splice(2); the file `spool`: a header of 64 bytes, then the text of the
//! intent. Interface: [`Spool`]. Read next: `log.rs`, which writes the log.

use super::log::Stream;
use crate::error::{Context, Result};
use crate::sys;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file with the intent.
const NAME: &str = "spool";
/// The intent's text begins here.
const HEADER: usize = 64;
/// Header and text of this much are written in one piece: a kill does not divide a page.
const PAGE: usize = 4096;
/// A stream's file of this length gets a successor.
const LONG: u64 = 1 << 20;

/// What is about to be written to the log, and what is logged with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Intent {
    /// Where in the log file it begins.
    at: u64,
    /// How long it is.
    length: u64,
    /// How much of each stream's file is logged then.
    logged: [u64; 2],
    /// Which of its two files each stream uses.
    file: [u64; 2],
}

impl Intent {
    fn encode(&self) -> [u8; HEADER] {
        let [a, b] = self.logged;
        let [c, d] = self.file;
        let mut bytes = [0; HEADER];
        for (field, n) in [self.at, self.length, a, b, c, d].into_iter().enumerate() {
            bytes[field * 8..][..8].copy_from_slice(&n.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Intent {
        let mut fields = bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes);
        let mut next = || fields.next().unwrap_or_default();
        Intent {
            at: next(),
            length: next(),
            logged: [next(), next()],
            file: [next() & 1, next() & 1],
        }
    }
}

/// The spool of one container.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    file: File,
    intent: Intent,
    streams: [Kept; 2],
}

/// A stream's file.
#[derive(Debug)]
struct Kept {
    file: File,
    length: u64,
}

impl Kept {
    fn open(dir: &Path, stream: usize, number: u64) -> io::Result<Kept> {
        let name = ["stdout", "stderr"][stream];
        let file = open(&dir.join(format!("{NAME}-{name}-{number}")))?;
        let length = file.metadata()?.len();
        Ok(Kept { file, length })
    }

    fn read(&self, from: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length.saturating_sub(from) as usize];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

impl Spool {
    /// Whether a monitor has left one in this directory.
    pub fn exists(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// The spool in the run directory of a container; makes it when there is none.
    pub fn open(dir: &Path) -> Result<Spool> {
        let what = || format!("cannot open the spool in {}", dir.display());
        let file = open(&dir.join(NAME)).with_context(what)?;
        let mut header = [0; HEADER];
        let intent = match file.read_exact_at(&mut header, 0) {
            Ok(()) => Intent::decode(&header),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Intent::default(), // none yet
            Err(e) => return Err(e).with_context(what),
        };
        let kept = |stream| Kept::open(dir, stream, intent.file[stream]).with_context(what);
        let streams = [kept(0)?, kept(1)?];
        Ok(Spool {
            dir: dir.to_path_buf(),
            file,
            intent,
            streams,
        })
    }

    /// What was intended and is missing in a log that is `length` long.
    pub fn missing(&self, length: u64) -> Result<Vec<u8>> {
        let Intent {
            at, length: all, ..
        } = self.intent;
        let there = length.checked_sub(at).filter(|n| *n < all);
        let mut bytes = vec![0; there.map_or(0, |n| all - n) as usize];
        self.file
            .read_exact_at(&mut bytes, HEADER as u64 + there.unwrap_or(0))
            .context("cannot read the spool")?;
        Ok(bytes)
    }

    /// What is in the spool and not in the log.
    pub fn rest(&self, stream: Stream) -> Result<Vec<u8>> {
        let rest = self.streams[stream as usize].read(self.intent.logged[stream as usize]);
        rest.context("cannot read the spool")
    }

    /// Takes out of a FIFO what it has, `most` bytes at most: empty at its end. Errors: `EAGAIN`
    /// (nothing there), or it cannot be kept here; then the FIFO is as before.
    pub fn splice(&mut self, stream: Stream, fifo: impl AsFd, most: usize) -> io::Result<Vec<u8>> {
        let kept = &mut self.streams[stream as usize];
        let at = kept.length;
        let n = sys::poll::splice_to_file(fifo, &kept.file, at, most);
        kept.length += n.map_err(|e| io::Error::from(e.errno))? as u64;
        kept.read(at)
    }

    /// Keeps what was read elsewhere.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let kept = &mut self.streams[stream as usize];
        kept.file.write_all_at(bytes, kept.length)?;
        kept.length += bytes.len() as u64;
        Ok(())
    }

    /// Says that `text` is about to be written at `at` of the log, and that so much more of each
    /// stream is logged with it.
    pub fn intend(&mut self, at: u64, text: &[u8], taken: [u64; 2]) -> io::Result<()> {
        let [out, err] = self.intent.logged;
        let logged = [out + taken[0], err + taken[1]];
        let length = text.len() as u64;
        let file = self.intent.file;
        self.write(
            Intent {
                at,
                length,
                logged,
                file,
            },
            text,
        )
    }

    /// The intent before this one is done, so its text may go; the header makes the new one true.
    fn write(&mut self, intent: Intent, text: &[u8]) -> io::Result<()> {
        let mut bytes = intent.encode().to_vec();
        if HEADER + text.len() <= PAGE {
            bytes.extend_from_slice(text);
        } else {
            self.file.write_all_at(text, HEADER as u64)?;
        }
        self.file.write_all_at(&bytes, 0)?;
        self.intent = intent;
        Ok(())
    }

    /// Begins the stream's other file with what is not logged yet, when this one is long. Between
    /// two intents.
    pub fn renew(&mut self, stream: Stream) -> io::Result<()> {
        let n = stream as usize;
        if self.streams[n].length < LONG {
            return Ok(());
        }
        let rest = self.streams[n].read(self.intent.logged[n])?;
        let mut next = self.intent;
        (next.at, next.length) = (0, 0);
        (next.logged[n], next.file[n]) = (0, 1 - self.intent.file[n]);
        let mut kept = Kept::open(&self.dir, n, next.file[n])?;
        kept.file.set_len(0)?; // from the time before last
        kept.file.write_all_at(&rest, 0)?;
        kept.length = rest.len() as u64;
        self.write(next, &[])?;
        let old = std::mem::replace(&mut self.streams[n], kept);
        old.file.set_len(0)
    }

    /// Gives it up, for it cannot be written any more: nobody shall take it for the truth.
    pub fn give_up(self) {
        let _ = sys::fs::unlinkat(sys::fs::CWD, self.dir.join(NAME), 0); // goes with its directory
        for stream in &self.streams {
            let _ = stream.file.set_len(0); // likewise; the room may be what was missing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_of_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, writer) = sys::poll::pipe().unwrap();
        sys::poll::write_some(&writer, b"one\ntwo").unwrap();
        let out = Stream::Stdout;
        let mut spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.splice(out, &reader, 1000).unwrap(), b"one\ntwo");
        let e = spool.splice(out, &reader, 1000).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::WouldBlock);

        let mut spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.rest(out).unwrap(), b"one\ntwo");
        spool.intend(100, b"LINE 1\n", [4, 0]).unwrap();

        let mut spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.rest(out).unwrap(), b"two");
        for (length, missing) in [
            (99, ""),
            (100, "LINE 1\n"),
            (102, "NE 1\n"),
            (107, ""),
            (900, ""),
        ] {
            assert_eq!(spool.missing(length).unwrap(), missing.as_bytes());
        }
        let much = "x".repeat(PAGE);
        spool.intend(107, much.as_bytes(), [3, 0]).unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        assert_eq!(spool.missing(107).unwrap(), much.as_bytes());
        assert_eq!(spool.rest(out).unwrap(), b"");
        drop(writer);
        let mut spool = spool;
        assert_eq!(spool.splice(out, &reader, 10).unwrap(), b"", "the end");
    }

    #[test]
    fn a_long_file_has_a_successor() {
        let dir = tempfile::tempdir().unwrap();
        let err = Stream::Stderr;
        let mut spool = Spool::open(dir.path()).unwrap();
        for round in 0..3u8 {
            let much = vec![round; LONG as usize];
            spool.keep(err, &much).unwrap();
            spool.keep(err, b"rest").unwrap();
            let before = spool.rest(err).unwrap().len() as u64;
            spool.intend(0, b"", [0, before - 4]).unwrap();
            spool.renew(err).unwrap();
            assert_eq!(spool.rest(err).unwrap(), b"rest");
            spool = Spool::open(dir.path()).unwrap();
            assert_eq!(spool.rest(err).unwrap(), b"rest");
            let files = std::fs::read_dir(dir.path()).unwrap();
            let room: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
            assert!(room < 1000, "{room}");
        }
        spool.give_up();
        assert!(!Spool::exists(dir.path()));
    }
}
