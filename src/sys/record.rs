//! The recorder: every state-changing call writes itself down here, in every process of a set-up.
//!
//! What it does: a container is made by two processes (the parent, and the init that `clone3`
//! splits off), and the last call of init is `execve`, after which none of our code runs. So the
//! record is a piece of memory that both share, mapped `MAP_SHARED` before the split: a call
//! appends one line to it and costs no system call. As long as one of its processes lives, none
//! that is killed loses what it had recorded; the last thing one of them does is to append it all
//! to the journal on disk ([`Arena::save`]). Where the processes of one set-up do not live at the
//! same time (an OCI runtime's `create` is gone before `start`), the memory is a mapping of the
//! journal itself ([`Arena::in_file`]), which costs more: every page touched is the file system's
//! business.
//!
//! The format, on disk and in memory:
//!
//! ```text
//! offset 0   8 bytes   "glassbox"
//! offset 8   8 bytes   length used so far (little endian, atomic; starts at 64)
//! offset 16  8 bytes   records that did not fit (atomic)
//! offset 24  40 bytes  zero
//! offset 64  …         JSON lines; a run of NUL bytes is a record whose writer was killed
//! ```
//!
//! A writer reserves its space by an atomic add to the length and then copies, so processes never
//! wait for each other.
//!
//! Interface: [`Arena`], [`install`], [`Call`]. Read next: `line.rs`, then [`crate::journal`].

use super::Errno;
use super::line::Line;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"glassbox";
/// Room for the record of one container's life; pages are only allocated when touched.
pub const CAPACITY: usize = 1 << 20;
/// How much of it the set-up of a usual container takes.
const USUAL: usize = 96 << 10;
/// So much is made sure of at once to have room on the disk.
const CHUNK: usize = 16 << 10;

/// One system call that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Nanoseconds on `CLOCK_MONOTONIC` when it began.
    pub at: u64,
    /// How long it took, in nanoseconds.
    pub ns: u64,
    /// The thread that made it, as seen in the pid namespace where the record began.
    pub pid: i32,
    /// The call's name.
    pub call: String,
    /// Its arguments as text.
    pub args: String,
    /// What it returned; absent for a call that does not return when it succeeds (`execve`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<i64>,
    /// The errno's name, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

/// The shared memory that holds the record.
pub struct Arena {
    base: *mut u8,
    len: usize,
    /// Up to here there is room below the mapping; a page of a file without room is SIGBUS.
    backed: AtomicUsize,
    /// Up to here this process has saved it.
    saved: AtomicUsize,
}

// SAFETY: the mapping lives as long as the Arena; all writes go through atomics that reserve
// disjoint ranges, so any number of threads may append.
unsafe impl Send for Arena {}
// SAFETY: as above; readers only see bytes below the published length.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena that lives only as long as its processes.
    pub fn anonymous() -> super::SysResult<Arc<Arena>> {
        Self::map(None, CAPACITY, CAPACITY)
    }

    /// An arena in a file opened read-write: a new file is given its header, an old one is
    /// appended to.
    pub fn in_file(file: &File) -> super::SysResult<Arc<Arena>> {
        let len = file.metadata().map_or(0, |m| m.len() as usize);
        let mut backed = 0;
        if len == 0 {
            // One write is cheaper than the page faults that it saves: the kernel gets all pages of
            // it at once, and maps them so. Without it all works as well, with more faults.
            let zeros = vec![0u8; USUAL];
            let written = super::reading(
                "pwrite64",
                || format!("journal, {USUAL} zeros"),
                || nix::sys::uio::pwrite(file, &zeros, 0),
            );
            backed = if written == Ok(USUAL) { USUAL } else { 0 };
        }
        if len < CAPACITY {
            super::reading(
                "ftruncate",
                || format!("journal, {CAPACITY}"),
                || {
                    // SAFETY: plain call on an open descriptor.
                    super::check(unsafe { libc::ftruncate(file.as_raw_fd(), CAPACITY as i64) })
                },
            )?;
        }
        Self::map(Some(file), CAPACITY.max(len), backed)
    }

    fn map(file: Option<&File>, len: usize, backed: usize) -> super::SysResult<Arc<Arena>> {
        let (flags, fd) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
        };
        let base = super::reading(
            "mmap",
            || format!("journal, {len}"),
            || {
                // SAFETY: asks for a fresh range chosen by the kernel; nothing is replaced.
                let p = unsafe {
                    libc::mmap(
                        std::ptr::null_mut(),
                        len,
                        libc::PROT_READ | libc::PROT_WRITE,
                        flags,
                        fd,
                        0,
                    )
                };
                if p == libc::MAP_FAILED {
                    Err(Errno::last())
                } else {
                    Ok(p as usize)
                }
            },
        )?;
        // A file's mapping is read ahead at the first touch, here a megabyte of nothing, page by
        // page; ours is written from one end to the other.
        // SAFETY: exactly the range that was mapped above; advice changes no content.
        unsafe { libc::madvise(base as *mut libc::c_void, len, libc::MADV_RANDOM) };
        let arena = Arena {
            base: base as *mut u8,
            len,
            backed: AtomicUsize::new(backed),
            saved: AtomicUsize::new(0),
        };
        if !arena.back(HEADER) {
            return Err(super::SysError {
                call: "mmap",
                args: format!("journal, {len}"),
                errno: Errno::ENOSPC,
            });
        }
        if arena.header(1).load(Ordering::Acquire) == 0 {
            // SAFETY: the mapping is at least HEADER long and nobody else knows of it yet.
            unsafe { std::ptr::copy_nonoverlapping(MAGIC.as_ptr(), arena.base, MAGIC.len()) };
            arena.header(1).store(HEADER as u64, Ordering::Release);
        }
        Ok(Arc::new(arena))
    }

    fn header(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < HEADER / 8);
        // SAFETY: the mapping is page-aligned and longer than the header; the reference lives no
        // longer than self, which owns the mapping.
        unsafe { &*self.base.add(word * 8).cast::<AtomicU64>() }
    }

    /// Makes sure that there is room for the first `end` bytes. False when the disk is full. A
    /// kernel before 5.14 does not know the question; there a full disk ends who writes.
    fn back(&self, end: usize) -> bool {
        let from = self.backed.load(Ordering::Relaxed);
        if end <= from {
            return true;
        }
        let to = end.next_multiple_of(CHUNK).min(self.len);
        // SAFETY: [from, to) lies within the mapping and begins at a page, as CHUNK is a multiple
        // of one; populating changes no content.
        let done = unsafe {
            libc::madvise(
                self.base.add(from).cast(),
                to - from,
                libc::MADV_POPULATE_WRITE,
            )
        };
        if done != 0 && Errno::last() != Errno::EINVAL {
            return false;
        }
        self.backed.store(to, Ordering::Relaxed);
        true
    }

    /// Appends one line (without its newline). A full arena counts what it had to leave out, as one
    /// on a full disk does.
    pub fn append(&self, line: impl AsRef<[u8]>) {
        let line = line.as_ref();
        let need = line.len() + 1;
        let at = self.header(1).fetch_add(need as u64, Ordering::AcqRel) as usize;
        if at + need > self.len {
            self.header(1).fetch_sub(need as u64, Ordering::AcqRel);
            self.header(2).fetch_add(1, Ordering::Relaxed);
            return;
        }
        if !self.back(at + need) {
            let header = self.header(1);
            let (end, order) = ((at + need) as u64, Ordering::AcqRel);
            // Given back, unless another has reserved behind it: then it stays a run of NUL bytes.
            let _ = header.compare_exchange(end, at as u64, order, Ordering::Relaxed);
            self.header(2).fetch_add(1, Ordering::Relaxed);
            return;
        }
        // SAFETY: [at, at+need) was reserved for this writer alone and lies within the mapping.
        unsafe {
            std::ptr::copy_nonoverlapping(line.as_ptr(), self.base.add(at), line.len());
            *self.base.add(at + line.len()) = b'\n';
        }
    }

    /// Appends `value` as a line of JSON.
    pub fn append_json(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_vec(value) {
            self.append(line);
        }
    }

    /// Appends a line of JSON whose fields `fill` gives.
    pub fn append_line(&self, fill: impl FnOnce(&mut Line<'_>)) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|buffer| {
            let mut line = Line::begin(buffer);
            fill(&mut line);
            line.end();
            self.append(buffer);
        });
    }

    /// The complete lines from `from` on (start with 0), and where to go on. Lines torn by a
    /// killed writer are left out.
    pub fn lines(&self, from: usize) -> (Vec<String>, usize) {
        let end = self.end();
        let from = from.max(HEADER).min(end);
        // SAFETY: bytes below the published length are mapped; a byte still being written by
        // another process may read as NUL, which the parser below treats as not there.
        let bytes = unsafe { std::slice::from_raw_parts(self.base.add(from), end - from) };
        (lines_of(bytes), end)
    }

    /// Where the record ends now: [`lines`](Self::lines) from here on are the ones to come.
    pub fn end(&self) -> usize {
        (self.header(1).load(Ordering::Acquire) as usize).min(self.len)
    }

    /// Appends all that it has to the journal in `file`, opened read-write, and begins it if it is
    /// empty; the next time, what has come since. Errors: those of read(2) and write(2).
    pub fn save(&self, file: &File) -> super::SysResult<()> {
        let end = self.end();
        let saved = self.saved.load(Ordering::Relaxed);
        // SAFETY: bytes below the published length are mapped and not written again; where another
        // process is at it still, the reader of this copy skips the torn line.
        let all = unsafe { std::slice::from_raw_parts(self.base, end) };
        let mut header = [0u8; HEADER];
        let known = super::reading(
            "pread64",
            || "journal, its header".into(),
            || nix::sys::uio::pread(file, &mut header, 0),
        )?;
        let new = &all[saved.max(HEADER).min(end)..];
        if known < HEADER && saved == 0 {
            put(file, all, 0)?; // whole, header included
        } else {
            let mut used = HEADER as u64;
            if known < HEADER {
                header = [0; HEADER];
                header[..8].copy_from_slice(MAGIC);
                put(file, &header, 0)?;
            } else {
                used = used.max(u64::from_le_bytes(
                    header[8..16].try_into().unwrap_or_default(),
                ));
            }
            put(file, new, used)?;
            // The length last: what is not counted is not there.
            put(file, &(used + new.len() as u64).to_le_bytes(), 8)?;
        }
        self.saved.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// How many records did not fit.
    pub fn dropped(&self) -> u64 {
        self.header(2).load(Ordering::Relaxed)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: base and len are exactly what mmap returned; no reference outlives self.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Writes all of `bytes` at an offset.
fn put(file: &File, mut bytes: &[u8], mut at: u64) -> super::SysResult<()> {
    while !bytes.is_empty() {
        let written = super::reading(
            "pwrite64",
            || format!("journal, {} bytes at {at}", bytes.len()),
            || nix::sys::uio::pwrite(file, bytes, at as i64),
        )?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// The lines of a journal file's whole content, header included.
pub fn read_file(content: &[u8]) -> Vec<String> {
    if content.len() < HEADER || &content[..8] != MAGIC {
        return Vec::new();
    }
    let mut word = [0u8; 8];
    word.copy_from_slice(&content[8..16]);
    let end = (u64::from_le_bytes(word) as usize).clamp(HEADER, content.len());
    lines_of(&content[HEADER..end])
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|b| *b == b'\n')
        .map(|line| {
            line.iter()
                .copied()
                .filter(|b| *b != 0)
                .collect::<Vec<u8>>()
        })
        .filter(|line| !line.is_empty())
        .filter_map(|line| String::from_utf8(line).ok())
        .collect()
}

/// Four bytes that this process and those split off from it share.
pub(super) struct SharedWord(*mut i32);

impl SharedWord {
    pub(super) fn new() -> super::SysResult<SharedWord> {
        let base = super::reading(
            "mmap",
            || "one shared page".into(),
            || {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
                // SAFETY: asks for a fresh range chosen by the kernel; nothing is replaced.
                let p = unsafe { libc::mmap(std::ptr::null_mut(), 4, protection, flags, -1, 0) };
                if p == libc::MAP_FAILED {
                    Err(Errno::last())
                } else {
                    Ok(p as usize)
                }
            },
        )?;
        Ok(SharedWord(base as *mut i32))
    }
    pub(super) fn address(&self) -> u64 {
        self.0 as u64
    }
    pub(super) fn get(&self) -> i32 {
        // SAFETY: the mapping lives as long as self and is aligned to a page; the kernel stored
        // the word before this process began to run.
        unsafe { self.0.read_volatile() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned (lengths are rounded to pages); each of the two
        // processes unmaps its own view.
        unsafe { libc::munmap(self.0.cast(), 4) };
    }
}

struct Recorder {
    arena: Arc<Arena>,
    pid: i32,
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Turns the recorder of this thread on (or off with `None`). A process split off by `clone3`
/// inherits it, and must say its own id with [`set_pid`].
pub fn install(arena: Option<Arc<Arena>>) {
    let pid = std::process::id() as i32;
    RECORDER.with(|r| *r.borrow_mut() = arena.map(|arena| Recorder { arena, pid }));
}

/// The arena that this thread records into.
pub fn current() -> Option<Arc<Arena>> {
    RECORDER.with(|r| r.borrow().as_ref().map(|r| r.arena.clone()))
}

/// Says under which process id this thread's calls are recorded from now on. Inside a new pid
/// namespace `getpid` answers 1, so the id comes from the parent.
pub fn set_pid(pid: i32) {
    RECORDER.with(|r| {
        if let Some(recorder) = r.borrow_mut().as_mut() {
            recorder.pid = pid;
        }
    });
}

/// The process id under which this thread's calls are recorded.
pub fn pid() -> i32 {
    RECORDER.with(|r| r.borrow().as_ref().map_or(0, |r| r.pid))
}

/// This process's id as the pid namespace of the mounted /proc knows it: after a clone into a new
/// pid namespace, and before a fresh /proc is mounted, that is the outer one.
pub fn outer_pid() -> i32 {
    std::fs::read_link("/proc/self")
        .ok()
        .and_then(|p| p.to_str().and_then(|s| s.parse().ok()))
        .unwrap_or_else(|| std::process::id() as i32)
}

/// Nanoseconds on `CLOCK_MONOTONIC` (read in the vDSO, without a system call).
pub fn now() -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `t` is a live timespec; clock_gettime writes only to it.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

pub(super) fn start() -> Option<u64> {
    RECORDER.with(|r| r.borrow().is_some()).then(now)
}

pub(super) fn finish(start: u64, call: &str, args: &str, result: Result<i64, Errno>) {
    let ns = now().saturating_sub(start);
    write_down(start, ns, call, args, result.ok(), result.err());
}

/// Records a call that will not return when it succeeds (`execve`), before it is made.
pub(super) fn announce(call: &str, args: &str) {
    write_down(now(), 0, call, args, None, None);
}

fn write_down(
    at: u64,
    ns: u64,
    call: &str,
    args: &str,
    returned: Option<i64>,
    errno: Option<Errno>,
) {
    RECORDER.with(|r| {
        if let Some(recorder) = r.borrow().as_ref() {
            let pid = recorder.pid.into();
            recorder.arena.append_line(|line| {
                line.number("at", at).number("ns", ns).signed("pid", pid);
                line.text("call", call).text("args", args);
                if let Some(returned) = returned {
                    line.signed("returned", returned);
                }
                if let Some(errno) = errno {
                    line.text("errno", &format!("{errno:?}"));
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_in_order_and_torn_ones_do_not() {
        let arena = Arena::anonymous().unwrap();
        arena.append("one");
        let (lines, next) = arena.lines(0);
        assert_eq!(lines, ["one"]);
        arena.header(1).fetch_add(10, Ordering::AcqRel); // a writer killed after reserving
        arena.append("two");
        assert_eq!(arena.lines(next).0, ["two"]);
    }

    #[test]
    fn a_full_arena_counts_what_it_leaves_out() {
        let arena = Arena::anonymous().unwrap();
        let long = "x".repeat(CAPACITY / 2);
        arena.append(&long);
        arena.append(&long);
        arena.append("fits");
        assert_eq!(arena.dropped(), 1);
        assert_eq!(arena.lines(0).0.last().map(String::as_str), Some("fits"));
    }

    #[test]
    fn a_file_is_the_journal_on_disk() {
        let file = tempfile::tempfile().unwrap();
        let arena = Arena::in_file(&file).unwrap();
        arena.append("kept");
        drop(arena);
        let again = Arena::in_file(&file).unwrap();
        again.append("appended");
        assert_eq!(again.lines(0).0, ["kept", "appended"]);
    }

    #[test]
    fn memory_is_saved_to_a_new_journal_and_to_one_that_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for line in ["first", "second"] {
            let arena = Arena::anonymous().unwrap();
            arena.append(line);
            arena.save(file.as_file()).unwrap();
            arena.append("later");
            arena.save(file.as_file()).unwrap();
        }
        let content = std::fs::read(file.path()).unwrap();
        let all = ["first", "later", "second", "later"];
        assert_eq!(read_file(&content), all);
        let mapped = Arena::in_file(file.as_file()).unwrap();
        mapped.append("third");
        assert_eq!(mapped.lines(0).0, [&all[..], &["third"]].concat());
        // A file that was taken away meanwhile begins anew.
        let (other, arena) = (
            tempfile::NamedTempFile::new().unwrap(),
            Arena::anonymous().unwrap(),
        );
        arena.append("gone with the file");
        arena.save(file.as_file()).unwrap();
        arena.append("kept");
        arena.save(other.as_file()).unwrap();
        assert_eq!(read_file(&std::fs::read(other.path()).unwrap()), ["kept"]);
    }
}
