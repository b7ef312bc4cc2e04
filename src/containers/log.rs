//! The log: what a container wrote, as JSON lines in files that cannot grow without end.
//!
//! What it does: the monitor writes one line a line of output,
//! `{"log":"text\n","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}`; a line longer
//! than 16 KiB becomes several entries, of which only the last ends in a newline. At `max-size`
//! the file is renamed to `log.1` and so on up to `max-file` files. A monitor killed in the
//! middle of a line leaves a torn one, which readers skip and the next writer ends.
//!
//! What it implements: the format of docker's json-file log driver. Interface: [`Writer`],
//! [`Reader`], [`Entry`]. Read next: `monitor.rs`.

use super::model::Config;
use super::time::Time;
use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest text of one entry, as docker's.
const LONGEST: usize = 16 * 1024;
/// Limits when none are given: 16 MiB a file, three files.
const DEFAULT_LIMITS: Limits = Limits {
    size: 16 << 20,
    files: 3,
};

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Descriptor 1, or the terminal.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text, with its newline if it has one.
    pub log: String,
    /// Where it was written.
    pub stream: Stream,
    /// When the monitor read it.
    pub time: Time,
    /// The labels and variables that `--log-opt labels=…` and `env=…` name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attrs: BTreeMap<String, String>,
}

/// How large the log may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub size: u64,
    /// Files, the current one included.
    pub files: u32,
}

impl Limits {
    /// Reads `--log-opt`: `max-size` (`10m`; `-1` for no limit) and `max-file`. Errors: another
    /// option, or no size.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Limits> {
        let mut limits = DEFAULT_LIMITS;
        for (key, value) in options {
            let bad = || Error::kind(Kind::Usage, format!("invalid log option {key}={value}"));
            match key.as_str() {
                "max-size" if value == "-1" => limits.size = u64::MAX,
                "max-size" => {
                    limits.size = super::flags::bytes(value).map_err(|_| bad())?.max(1) as u64;
                }
                "max-file" => {
                    limits.files = value.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
                }
                "labels" | "env" => {} // which attributes go with each line: `attributes`
                _ => return Err(bad().hint("known options: max-size, max-file, labels, env")),
            }
        }
        Ok(limits)
    }
}

/// The attributes of each line: the labels and environment variables that `--log-opt labels=A,B`
/// and `env=C` name, as far as the container has them.
pub fn attributes(config: &Config, options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let named = |option: &str| {
        let names = options.get(option).map_or("", String::as_str).split(',');
        names.map(String::from).collect::<Vec<_>>()
    };
    let label = |name: String| Some((name.clone(), config.labels.get(&name)?.clone()));
    let variable = |name: String| {
        let mut env = config.env.iter().filter_map(|e| e.split_once('='));
        env.find(|(n, _)| *n == name)
            .map(|(n, value)| (n.into(), value.into()))
    };
    let labels = named("labels").into_iter().filter_map(label);
    labels
        .chain(named("env").into_iter().filter_map(variable))
        .collect()
}

/// The monitor's side.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    limits: Limits,
    /// What goes with each line.
    pub attrs: BTreeMap<String, String>,
    file: OwnedFd,
    size: u64,
    pending: [Vec<u8>; 2],
}

impl Writer {
    /// Opens the log at `path` for appending, and makes it when it does not exist.
    pub fn open(path: &Path, limits: Limits) -> Result<Writer> {
        let (file, size) = open_to_append(path)?;
        let mut writer = Writer {
            path: path.to_path_buf(),
            limits,
            attrs: BTreeMap::new(),
            file,
            size,
            pending: [Vec::new(), Vec::new()],
        };
        if size > 0 && !ends_in_newline(path) {
            writer.put(b"\n")?; // the last monitor was killed in the middle of a line
        }
        Ok(writer)
    }

    /// Logs what was read from `stream` at `time`. An unfinished line waits for its end, see
    /// [`flush`](Self::flush).
    pub fn write(&mut self, stream: Stream, data: &[u8], time: Time) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        pending.extend_from_slice(data);
        let mut lines = Vec::new();
        let mut rest = &pending[..];
        loop {
            let end = match rest.iter().position(|b| *b == b'\n') {
                Some(at) if at < LONGEST => at + 1,
                _ if rest.len() >= LONGEST => boundary(rest, LONGEST),
                _ => break,
            };
            self.entry(&mut lines, &rest[..end], stream, time);
            rest = &rest[end..];
        }
        self.pending[stream as usize] = rest.to_vec();
        self.put(&lines)
    }

    /// True when an unfinished line waits.
    pub fn has_pending(&self) -> bool {
        self.pending.iter().any(|p| !p.is_empty())
    }

    /// Logs the unfinished lines as they are.
    pub fn flush(&mut self, time: Time) -> Result<()> {
        let mut lines = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                self.entry(&mut lines, &pending, stream, time);
            }
        }
        self.put(&lines)
    }

    fn entry(&self, out: &mut Vec<u8>, text: &[u8], stream: Stream, time: Time) {
        let entry = Entry {
            log: String::from_utf8_lossy(text).into_owned(),
            stream,
            time,
            attrs: self.attrs.clone(),
        };
        if serde_json::to_writer(&mut *out, &entry).is_ok() {
            out.push(b'\n');
        }
    }

    /// Appends whole lines, as many to each file as its limit lets (one at least).
    fn put(&mut self, lines: &[u8]) -> Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let room = self.limits.size.saturating_sub(self.size);
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let ends = |b: &u8| *b == b'\n';
            let end = match rest[..fits].iter().rposition(ends) {
                Some(at) => at + 1,
                None => rest.iter().position(ends).map_or(rest.len(), |at| at + 1),
            };
            let (mut now, later) = rest.split_at(end);
            while !now.is_empty() {
                let n = sys::poll::write_some(&self.file, now)
                    .with_context(|| format!("cannot write the log {}", self.path.display()))?;
                self.size += n as u64;
                now = &now[n..];
            }
            rest = later;
            if self.size >= self.limits.size || !rest.is_empty() {
                self.rotate()?;
            }
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        let cwd = sys::fs::CWD;
        for n in (1..self.limits.files).rev() {
            let (from, to) = (rotated(&self.path, n - 1), rotated(&self.path, n));
            match sys::fs::renameat2(cwd, &from, cwd, &to, 0) {
                Err(e) if e.errno != sys::Errno::ENOENT => {
                    return Err(e).context("cannot rotate the log");
                }
                _ => {}
            }
        }
        if self.limits.files == 1 {
            let _ = sys::fs::unlinkat(cwd, &self.path, 0); // begin anew; a reader keeps the old one
        }
        (self.file, self.size) = open_to_append(&self.path)?;
        Ok(())
    }
}

fn open_to_append(path: &Path) -> Result<(OwnedFd, u64)> {
    let what = || format!("cannot open the log {}", path.display());
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
    let file = File::from(sys::fs::open(path, flags, 0o640).with_context(what)?);
    let size = file.metadata().with_context(what)?.len();
    Ok((file.into(), size))
}

fn ends_in_newline(path: &Path) -> bool {
    let mut last = [0u8];
    File::open(path)
        .and_then(|mut f| {
            f.seek(SeekFrom::End(-1))?;
            std::io::Read::read_exact(&mut f, &mut last)
        })
        .is_ok()
        && last[0] == b'\n'
}

/// At most `max`, and not inside a UTF-8 character.
fn boundary(text: &[u8], max: usize) -> usize {
    (max.saturating_sub(3)..=max.min(text.len()))
        .rev()
        .find(|at| *at > 0 && text.get(*at).is_none_or(|b| b & 0xC0 != 0x80))
        .unwrap_or(max.min(text.len()))
}

fn rotated(path: &Path, n: u32) -> PathBuf {
    match n {
        0 => path.to_path_buf(),
        n => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            name.into()
        }
    }
}

/// Every file of the log at `path`, oldest first.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = (0..)
        .map(|n| rotated(path, n))
        .take_while(|p| p.exists())
        .collect();
    files.reverse();
    files
}

/// Reads a log from its beginning, and then what is appended.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    waiting: VecDeque<PathBuf>,
    current: Option<BufReader<File>>,
    inode: u64,
    partial: Vec<u8>,
}

impl Reader {
    /// A reader at the beginning of the oldest file.
    pub fn open(path: &Path) -> Reader {
        Reader {
            path: path.to_path_buf(),
            waiting: files(path).into(),
            current: None,
            inode: 0,
            partial: Vec::new(),
        }
    }

    /// The next entry; `None` at the (present) end. Call it again later to follow the log.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(reader) = &mut self.current else {
                if !self.open_next()? {
                    return Ok(None);
                }
                continue;
            };
            let n = reader
                .read_until(b'\n', &mut self.partial)
                .with_context(|| format!("cannot read the log {}", self.path.display()))?;
            if self.partial.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                match serde_json::from_slice(&line) {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(_) => continue, // torn by a kill
                }
            }
            if n == 0 && !self.open_next()? {
                return Ok(None);
            }
        }
    }

    /// Goes on to the next file, or to the one that took this one's name.
    fn open_next(&mut self) -> Result<bool> {
        let next = match self.waiting.pop_front() {
            Some(next) => next,
            None => match std::fs::metadata(&self.path) {
                Ok(m) if m.ino() != self.inode => self.path.clone(),
                _ => return Ok(false),
            },
        };
        match File::open(&next) {
            Ok(file) => {
                self.inode = file.metadata().map_or(0, |m| m.ino());
                self.current = Some(BufReader::new(file));
                self.partial.clear();
                Ok(true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e).with_context(|| format!("cannot open the log {}", next.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(path: &Path) -> String {
        let mut reader = Reader::open(path);
        let mut text = String::new();
        while let Some(e) = reader.next_entry().unwrap() {
            text += &e.log;
        }
        text
    }

    #[test]
    fn lines_come_back_whatever_their_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut w = Writer::open(&path, DEFAULT_LIMITS).unwrap();
        let long = "é".repeat(LONGEST) + "x";
        w.write(Stream::Stdout, b"one\ntw", Time(1)).unwrap();
        w.write(Stream::Stderr, b"err\n", Time(2)).unwrap();
        w.write(Stream::Stdout, b"o\n", Time(3)).unwrap();
        w.write(Stream::Stdout, long.as_bytes(), Time(4)).unwrap();
        assert!(w.has_pending());
        w.flush(Time(5)).unwrap();
        assert_eq!(all(&path), format!("one\nerr\ntwo\n{long}"));
        let first = Reader::open(&path).next_entry().unwrap().unwrap();
        assert_eq!((first.stream, first.time), (Stream::Stdout, Time(1)));
    }

    #[test]
    fn the_log_is_limited_and_followed_over_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = [("max-size", "1k"), ("max-file", "2")]
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .into();
        let mut w = Writer::open(&path, Limits::parse(&options).unwrap()).unwrap();
        w.write(Stream::Stdout, b"first\n", Time(1)).unwrap();
        let mut reader = Reader::open(&path);
        assert_eq!(reader.next_entry().unwrap().unwrap().log, "first\n");
        assert!(reader.next_entry().unwrap().is_none());
        for n in 0..200 {
            w.write(Stream::Stdout, format!("{n}\n").as_bytes(), Time(1))
                .unwrap();
            assert_eq!(reader.next_entry().unwrap().unwrap().log, format!("{n}\n"));
        }
        assert_eq!(files(&path).len(), 2);
        let total: u64 = files(&path)
            .iter()
            .map(|f| f.metadata().unwrap().len())
            .sum();
        assert!(total < 2200, "{total}");
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let write = |text: &[u8]| {
            let mut w = Writer::open(&path, DEFAULT_LIMITS).unwrap();
            w.write(Stream::Stdout, text, Time(1)).unwrap();
        };
        write(b"a\nb\n");
        let len = path.metadata().unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len - 5)
            .unwrap();
        write(b"c\n");
        assert_eq!(all(&path), "a\nc\n");
    }
}
