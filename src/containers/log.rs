//! The log: what a container wrote, as JSON lines in files that cannot grow without end.
//!
//! What it does: the monitor writes one line a line of output,
//! `{"log":"text\n","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}`; a line longer
//! than 16 KiB becomes several entries, of which only the last ends in a newline. At `max-size`
//! the file is renamed to `log.1` and so on up to `max-file` files. What a monitor has taken and
//! not logged when it is killed is in the spool (`spool.rs`), and the next one logs it, each line
//! once. A torn line, should there be one all the same, is skipped by readers and ended by the next
//! writer.
//!
//! What it implements: the format of docker's json-file log driver. Interface: [`Writer`],
//! [`Reader`], [`Entry`]. Read next: `spool.rs`, then `monitor.rs`.

use super::model::Config;
use super::spool::Spool;
use super::store::Container;
use super::time::Time;
use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
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
    attrs: BTreeMap<String, String>,
    file: OwnedFd,
    size: u64,
    /// Unfinished lines. The spool has them as well.
    pending: [Vec<u8>; 2],
    /// Where output is kept until it is logged; without one, what is pending may be lost.
    dir: Option<PathBuf>,
    spool: Option<Spool>,
}

/// Entries that are to be written: their lines, and of each its end in them, its stream, and how
/// many bytes of the program's it holds.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    ends: Vec<(usize, Stream, usize)>,
}

impl Writer {
    /// The log of a container, with what its last monitor has left in the spool; `None` when it has
    /// no log. Errors: it cannot be opened or written.
    pub fn of(container: &Container) -> Result<Option<Writer>> {
        let log = &container.record.host_config.log_config;
        if log.typ == "none" {
            return Ok(None);
        }
        let attrs = attributes(&container.record.config, &log.config);
        let limits = Limits::parse(&log.config)?;
        Writer::open(&container.log(), limits, attrs, Some(&container.run)).map(Some)
    }

    /// Opens the log at `path` for appending, and makes it when it does not exist. Output is kept
    /// in `dir` until it is logged; what is there already is logged first.
    pub fn open(
        path: &Path,
        limits: Limits,
        attrs: BTreeMap<String, String>,
        dir: Option<&Path>,
    ) -> Result<Writer> {
        let (file, size) = open_to_append(path)?;
        let mut writer = Writer {
            path: path.to_path_buf(),
            limits,
            attrs,
            file,
            size,
            pending: [Vec::new(), Vec::new()],
            dir: dir.map(Path::to_path_buf),
            spool: None,
        };
        if let Some(spool) = dir.filter(|d| Spool::exists(d)).map(Spool::open) {
            let spool = spool?;
            writer.append(&spool.missing(size)?)?;
            writer.pending = [spool.rest(Stream::Stdout)?, spool.rest(Stream::Stderr)?];
            (writer.spool, writer.dir) = (Some(spool), None);
        }
        if writer.size > 0 && !ends_in_newline(path) {
            writer.append(b"\n")?;
        }
        writer.write(Stream::Stdout, &[], Time::now())?;
        writer.write(Stream::Stderr, &[], Time::now())?;
        Ok(writer)
    }

    /// Takes what the program has written to `fd`, `most` bytes at most, out of it: empty at its
    /// end. From here on it is not lost; [`write`](Self::write) logs it. Errors: `EAGAIN` (nothing
    /// there), `EIO` (a terminal whose other end nobody has open).
    pub fn take(&mut self, stream: Stream, fd: impl AsFd, most: usize) -> std::io::Result<Vec<u8>> {
        // A program that writes nothing needs no spool.
        if self.spool.is_none() && sys::poll::unread_of_fifo(&fd).is_ok_and(|n| n > 0) {
            self.begin_spool();
        }
        if let Some(spool) = &mut self.spool {
            match spool.splice(stream, &fd, most) {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => {} // a terminal, or no room
                done => return done,
            }
        }
        let mut buffer = vec![0; most];
        let n = sys::poll::read(fd, &mut buffer).map_err(|e| std::io::Error::from(e.errno))?;
        buffer.truncate(n);
        if n > 0 {
            self.begin_spool();
            self.spool(|spool| spool.keep(stream, &buffer));
        }
        Ok(buffer)
    }

    /// Opens the spool, once. Without one it works as well, with less safety.
    fn begin_spool(&mut self) {
        if let Some(dir) = self.dir.take() {
            self.spool = Spool::open(&dir).ok();
        }
    }

    /// Does something to the spool, if there is one. Where that fails it is given up: what the log
    /// is made of is in memory too.
    fn spool(&mut self, act: impl FnOnce(&mut Spool) -> std::io::Result<()>) {
        if let Some(mut spool) = self.spool.take() {
            match act(&mut spool) {
                Ok(()) => self.spool = Some(spool),
                Err(_) => spool.give_up(),
            }
        }
    }

    /// Logs what was taken from `stream` at `time`. An unfinished line waits for its end, see
    /// [`flush`](Self::flush).
    pub fn write(&mut self, stream: Stream, data: &[u8], time: Time) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending[stream as usize]);
        pending.extend_from_slice(data);
        let mut batch = Batch::default();
        let mut rest = &pending[..];
        loop {
            let end = match rest.iter().position(|b| *b == b'\n') {
                Some(at) if at < LONGEST => at + 1,
                _ if rest.len() >= LONGEST => boundary(rest, LONGEST),
                _ => break,
            };
            self.entry(&mut batch, &rest[..end], stream, time);
            rest = &rest[end..];
        }
        self.pending[stream as usize] = rest.to_vec();
        self.put(&batch)?;
        self.spool(|spool| spool.renew(stream));
        Ok(())
    }

    /// True when an unfinished line waits.
    pub fn has_pending(&self) -> bool {
        self.pending.iter().any(|p| !p.is_empty())
    }

    /// Logs the unfinished lines as they are.
    pub fn flush(&mut self, time: Time) -> Result<()> {
        let mut batch = Batch::default();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let pending = std::mem::take(&mut self.pending[stream as usize]);
            if !pending.is_empty() {
                self.entry(&mut batch, &pending, stream, time);
            }
        }
        self.put(&batch)
    }

    fn entry(&self, batch: &mut Batch, text: &[u8], stream: Stream, time: Time) {
        let entry = Entry {
            log: String::from_utf8_lossy(text).into_owned(),
            stream,
            time,
            attrs: self.attrs.clone(),
        };
        if serde_json::to_writer(&mut batch.lines, &entry).is_ok() {
            batch.lines.push(b'\n');
        }
        batch.ends.push((batch.lines.len(), stream, text.len()));
    }

    /// Appends whole lines, as many to each file as its limit lets (one at least).
    fn put(&mut self, batch: &Batch) -> Result<()> {
        let (mut lines, mut entries) = (0, &batch.ends[..]);
        while !entries.is_empty() {
            let room = self.limits.size.saturating_sub(self.size);
            let fits = |(end, ..): &&(usize, Stream, usize)| (*end - lines) as u64 <= room;
            let (now, later) = entries.split_at(entries.iter().take_while(fits).count().max(1));
            let mut taken = [0; 2];
            for (_, stream, length) in now {
                taken[*stream as usize] += *length as u64;
            }
            let end = now[now.len() - 1].0;
            let (at, text) = (self.size, &batch.lines[lines..end]);
            self.spool(|spool| spool.intend(at, text, taken));
            self.append(text)?;
            (lines, entries) = (end, later);
            if self.size >= self.limits.size || !entries.is_empty() {
                // Done with this file: in the next one nothing is missing.
                self.spool(|spool| spool.intend(0, &[], [0, 0]));
                self.rotate()?;
            }
        }
        Ok(())
    }

    fn append(&mut self, mut text: &[u8]) -> Result<()> {
        while !text.is_empty() {
            let n = sys::poll::write_some(&self.file, text)
                .with_context(|| format!("cannot write the log {}", self.path.display()))?;
            self.size += n as u64;
            text = &text[n..];
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

/// Reads a container's log from its beginning, and then what is appended.
#[derive(Debug)]
pub struct Reader(Lines);

impl Reader {
    /// A reader at the beginning of the oldest file.
    pub fn open(path: &Path) -> Reader {
        Reader(Lines::open(path))
    }
    /// The next entry; `None` at the (present) end. Call it again later to follow the log.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.0.next_json()
    }
}

/// Reads files of JSON lines that replace each other as a log's do, and then what is appended.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    waiting: VecDeque<PathBuf>,
    current: Option<BufReader<File>>,
    inode: u64,
    partial: Vec<u8>,
}

impl Lines {
    /// A reader at the beginning of the oldest file.
    pub fn open(path: &Path) -> Lines {
        Lines {
            path: path.to_path_buf(),
            waiting: files(path).into(),
            current: None,
            inode: 0,
            partial: Vec::new(),
        }
    }

    /// The next line that can be read; `None` at the (present) end. Call it again later to go on.
    pub fn next_json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>> {
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

    fn open(path: &Path, limits: Limits, dir: Option<&Path>) -> Writer {
        Writer::open(path, limits, BTreeMap::new(), dir).unwrap()
    }

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
        let mut w = open(&path, DEFAULT_LIMITS, None);
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
        let mut w = open(&path, Limits::parse(&options).unwrap(), None);
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
            let mut w = open(&path, DEFAULT_LIMITS, None);
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

    /// A writer that is dropped is one whose process was killed between two calls.
    #[test]
    fn each_line_once_whenever_the_writer_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let out = Stream::Stdout;
        let (reader, writer) = sys::poll::pipe().unwrap();
        let say = |text: &str| sys::poll::write_some(&writer, text.as_bytes()).unwrap();
        let again = || open(&path, DEFAULT_LIMITS, Some(dir.path()));
        say("one\ntwo\nthr");
        assert_eq!(again().take(out, &reader, 9).unwrap(), b"one\ntwo\nt");
        assert_eq!(all(&path), "");
        let mut w = again();
        assert_eq!(all(&path), "one\ntwo\n");
        assert!(w.has_pending());
        let data = w.take(out, &reader, 9).unwrap();
        drop(w);
        assert_eq!(data, b"hr");
        let length = path.metadata().unwrap().len();
        for cut in [1, 70, length] {
            // The kill came in the middle of the write to the log.
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(length - cut).unwrap();
            drop(again());
            assert_eq!(all(&path), "one\ntwo\n", "{cut}");
        }
        say("ee\nfour");
        let mut w = again();
        let data = w.take(out, &reader, 100).unwrap();
        w.write(out, &data, Time(1)).unwrap();
        drop(w);
        again().flush(Time(2)).unwrap();
        again().flush(Time(3)).unwrap();
        assert_eq!(all(&path), "one\ntwo\nthree\nfour");
    }

    #[test]
    fn each_line_once_over_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (reader, writer) = sys::poll::pipe().unwrap();
        let limits = Limits {
            size: 300,
            files: 50,
        };
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        for part in text.as_bytes().chunks(37) {
            sys::poll::write_some(&writer, part).unwrap();
            let mut w = open(&path, limits, Some(dir.path()));
            let data = w.take(Stream::Stderr, &reader, 1000).unwrap();
            if part[0] % 2 == 0 {
                w.write(Stream::Stderr, &data, Time(1)).unwrap();
            }
        }
        drop(open(&path, limits, Some(dir.path())));
        assert_eq!(all(&path), text);
        assert!(files(&path).len() > 10);
    }
}
