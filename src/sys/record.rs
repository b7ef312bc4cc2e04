//! The recorder: every state-changing call writes itself down here, in every process of a set-up.
//!
//! What it does: a container is made by two processes (the parent, and the init that `clone3`
//! splits off), and the last call of init is `execve`, after which none of our code runs. So the
//! record is a piece of memory that both share, mapped `MAP_SHARED` before the split: a call
//! appends its fields to it, as plain bytes, and costs no system call. As long as one of its
//! processes lives, none that is killed loses what it had recorded; the last thing one of them does
//! is to append it to the journal on disk ([`Arena::save`]). Where the processes of one set-up do
//! not live at the same time (an OCI runtime's `create` is gone before `start`), the memory is a
//! mapping of the journal itself ([`Arena::in_file`]), which costs more: every page touched is the
//! file system's business. Nobody puts a record into words but who reads it.
//!
//! The format, in memory and on disk, in the machine's byte order:
//!
//! ```text
//! offset 0   8 bytes   "glassbox"
//! offset 8   8 bytes   length used so far (atomic; starts at 64)
//! offset 16  8 bytes   records that did not fit (atomic)
//! offset 24  8 bytes   in memory: up to here it has been saved (atomic)
//! offset 32  32 bytes  zero
//! offset 64  …         records
//!
//! a record:  length << 2 | is JSON << 1 | is whole (4 bytes); its fields (`line.rs`), or JSON;
//!            filled up to 4 bytes
//! ```
//!
//! A writer reserves its space by an atomic add to the length and then copies, so processes never
//! wait for each other.
//!
//! Interface: [`Arena`], [`install`], [`Call`]. Read next: `line.rs`, then [`crate::journal`].

use super::Errno;
use super::args::Writes;
use super::line::{Line, Name, to_json};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const HEADER: usize = 64;
const MAGIC: &[u8; 8] = b"glassbox";
/// Room for the record of one container's life; pages are only allocated when touched.
pub const CAPACITY: usize = 1 << 20;
/// How much of it the set-up of a usual container takes.
const USUAL: usize = 48 << 10;
/// So much is mapped at once: each page that a process meets by a fault of its own costs it more. Of
/// a file it is also how much is made sure of to have room on the disk.
const CHUNK: usize = 16 << 10;
/// In the head of a record: it is all there.
const WHOLE: u32 = 1;
/// It is JSON already.
const JSON: u32 = 2;

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
    /// Up to here this process has mapped it, and there is room below the mapping; a page of a file
    /// without room is SIGBUS.
    backed: AtomicUsize,
}

// SAFETY: the mapping lives as long as the Arena; all writes go through atomics that reserve
// disjoint ranges, so any number of threads may append.
unsafe impl Send for Arena {}
// SAFETY: as above; readers only see bytes below the published length.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena that lives only as long as its processes.
    pub fn anonymous() -> super::SysResult<Arc<Arena>> {
        Self::map(None, CAPACITY, 0)
    }

    /// An arena in a file opened read-write: a new file is given its header, an old one is
    /// appended to.
    pub fn in_file(file: &File) -> super::SysResult<Arc<Arena>> {
        let len = file.metadata().map_or(0, |m| m.len() as usize);
        let mut backed = 0;
        if len == 0 {
            // One write is cheaper than the page faults that it saves: the kernel gets all pages of
            // it at once, and maps them so. Without it all works as well, with more faults.
            static ZEROS: [u8; 4096] = [0; 4096];
            let zeros = [IoSlice::new(&ZEROS); USUAL / ZEROS.len()];
            let written = super::reading(
                "pwritev",
                || format!("journal, {USUAL} zeros"),
                || nix::sys::uio::pwritev(file, &zeros, 0),
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
        if file.is_some() {
            // A file's mapping is read ahead at the first touch, here a megabyte of nothing, page by
            // page; ours is written from one end to the other.
            // SAFETY: exactly the range that was mapped above; advice changes no content.
            unsafe { libc::madvise(base as *mut libc::c_void, len, libc::MADV_RANDOM) };
        }
        let arena = Arena {
            base: base as *mut u8,
            len,
            backed: AtomicUsize::new(backed),
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

    /// In a process that was split off nothing of what is shared is mapped yet.
    fn nothing_is_mapped(&self) {
        let page = self.end() & !4095;
        self.backed.store(page, Ordering::Relaxed);
    }

    /// Where `need` bytes are from now on this writer's alone. A full arena counts what it had to
    /// leave out, as one on a full disk does.
    fn reserve(&self, need: usize) -> Option<usize> {
        let at = self.header(1).fetch_add(need as u64, Ordering::AcqRel) as usize;
        if at + need > self.len {
            self.header(1).fetch_sub(need as u64, Ordering::AcqRel);
            self.header(2).fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if !self.back(at + need) {
            let header = self.header(1);
            let (end, order) = ((at + need) as u64, Ordering::AcqRel);
            // Given back, unless another has reserved behind it: then it stays a run of NUL bytes.
            let _ = header.compare_exchange(end, at as u64, order, Ordering::Relaxed);
            self.header(2).fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(at)
    }

    /// Copies bytes to a place that was reserved.
    fn fill(&self, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= self.len);
        // SAFETY: the range was reserved for this writer alone and lies within the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(at), bytes.len()) };
    }

    /// The head of a record.
    fn head(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.len);
        // SAFETY: it lies within the mapping, and records begin at multiples of four; the reference
        // lives no longer than self.
        unsafe { &*self.base.add(at).cast::<AtomicU32>() }
    }

    fn append_record(&self, bytes: &[u8], is_json: u32) {
        let Some(at) = self.reserve(4 + bytes.len().next_multiple_of(4)) else {
            return;
        };
        // The length first: whoever reads after this writer was killed can go on behind it.
        let head = (bytes.len() as u32) << 2 | is_json;
        self.head(at).store(head, Ordering::Release);
        self.fill(at + 4, bytes);
        self.head(at).store(head | WHOLE, Ordering::Release);
    }

    /// Appends a record that is JSON already: one line, without its newline.
    pub fn append(&self, line: impl AsRef<[u8]>) {
        self.append_record(line.as_ref(), JSON);
    }

    /// Appends `value` as a line of JSON.
    pub fn append_json(&self, value: &impl Serialize) {
        if let Ok(line) = serde_json::to_vec(value) {
            self.append(line);
        }
    }

    /// Appends a record whose fields `fill` gives.
    pub fn append_line(&self, fill: impl FnOnce(&mut Line<'_>)) {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BUFFER.with_borrow_mut(|fields| {
            fill(&mut Line::begin(fields));
            self.append_record(fields, 0);
        });
    }

    /// Where four bytes are that its processes share, and that are no record. `None` when it is full.
    fn reserve_word(&self) -> Option<usize> {
        let at = self.reserve(8)?;
        self.head(at).store(4 << 2, Ordering::Release);
        Some(at + 4)
    }

    /// The whole records from `from` on (start with 0), a line of JSON each, and where to go on.
    /// Those torn by a killed writer are left out.
    pub fn lines(&self, from: usize) -> (Vec<String>, usize) {
        let bytes = self.bytes();
        let head = |at| Some(self.head(at).load(Ordering::Acquire));
        (words(bytes, from, head), bytes.len())
    }

    /// All of it that is used.
    fn bytes(&self) -> &[u8] {
        // SAFETY: bytes below the published length are mapped as long as self lives; one that another
        // process still writes belongs to a record whose head does not say yet that it is whole.
        unsafe { std::slice::from_raw_parts(self.base, self.end()) }
    }

    /// Where the record ends now: [`lines`](Self::lines) from here on are the ones to come.
    pub fn end(&self) -> usize {
        (self.header(1).load(Ordering::Acquire) as usize).min(self.len)
    }

    /// Appends all that it has to the journal in `file`, opened read-write, and begins it if it is
    /// empty; the next time, what has come since. The bytes go as they are. Errors: those of
    /// read(2) and write(2).
    pub fn save(&self, file: &File) -> super::SysResult<()> {
        let bytes = self.bytes();
        // What another had reserved beyond the end, and given back, may count as saved.
        let new = bytes.get(self.saved().max(HEADER)..).unwrap_or_default();
        if new.is_empty() {
            return Ok(());
        }
        let mut header = [0u8; HEADER];
        let known = super::reading(
            "pread64",
            || "journal, its header".into(),
            || nix::sys::uio::pread(file, &mut header, 0),
        )?;
        if known < HEADER || !header.starts_with(MAGIC) {
            header = [0; HEADER];
            header[..8].copy_from_slice(MAGIC);
        }
        let used = eight(&header[8..]).max(HEADER as u64);
        let dropped = eight(&header[16..]).max(self.dropped());
        put(file, new, used)?;
        // The length last: what is not counted is not there.
        let length = used + new.len() as u64;
        header[8..16].copy_from_slice(&length.to_ne_bytes());
        header[16..24].copy_from_slice(&dropped.to_ne_bytes());
        put(file, &header, 0)?;
        self.header(3).store(bytes.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Up to here one of its processes has saved it; 0 when none has.
    pub fn saved(&self) -> usize {
        self.header(3).load(Ordering::Acquire) as usize
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

/// The records of a journal file's whole content, a line of JSON each.
pub fn read_file(content: &[u8]) -> Vec<String> {
    if content.len() < HEADER || !content.starts_with(MAGIC) {
        return Vec::new();
    }
    let end = (eight(&content[8..]) as usize).clamp(HEADER, content.len());
    let content = &content[..end];
    let head = |at: usize| {
        content
            .get(at..)?
            .first_chunk()
            .map(|c| u32::from_ne_bytes(*c))
    };
    words(content, HEADER, head)
}

/// The whole records from `from` on, a line of JSON each; `head` reads the head at an offset.
fn words(bytes: &[u8], from: usize, head: impl Fn(usize) -> Option<u32>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut at = from.max(HEADER);
    while at + 4 <= bytes.len()
        && let Some(head) = head(at)
    {
        let length = head as usize >> 2;
        let Some(record) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        let mut line = Vec::new();
        match head & (WHOLE | JSON) {
            WHOLE => to_json(record, &mut line),
            0 | JSON => {} // torn; or reserved, and no more
            _ => line.extend_from_slice(record),
        }
        if !line.is_empty() {
            lines.extend(String::from_utf8(line));
        }
        at += 4 + length.next_multiple_of(4);
    }
    lines
}

/// The number at the beginning of some bytes; 0 where they end before.
fn eight(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |c| u64::from_ne_bytes(*c))
}

/// Four bytes that this process and those split off from it share.
pub(super) enum SharedWord {
    /// In the memory of the record, as long as that is held.
    Recorded(Arc<Arena>, usize),
    /// A page of its own.
    Page(*mut i32),
}

impl SharedWord {
    pub(super) fn new() -> Option<SharedWord> {
        if let Some(arena) = current()
            && let Some(at) = arena.reserve_word()
        {
            return Some(SharedWord::Recorded(arena, at));
        }
        let page = super::reading(
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
        );
        page.ok().map(|page| SharedWord::Page(page as *mut i32))
    }
    fn word(&self) -> *mut i32 {
        match self {
            // SAFETY: four bytes at `at` were reserved within the mapping, which is held.
            SharedWord::Recorded(arena, at) => unsafe { arena.base.add(*at).cast() },
            SharedWord::Page(page) => *page,
        }
    }
    pub(super) fn address(&self) -> u64 {
        self.word() as u64
    }
    pub(super) fn get(&self) -> i32 {
        // SAFETY: the word lives as long as self and is aligned to four bytes; the kernel stored it
        // before this process began to run.
        unsafe { self.word().read_volatile() }
    }
}

impl Drop for SharedWord {
    fn drop(&mut self) {
        if let SharedWord::Page(page) = self {
            // SAFETY: exactly what mmap returned (lengths are rounded to pages); each of the two
            // processes unmaps its own view.
            unsafe { libc::munmap(page.cast(), 4) };
        }
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

/// Says under which process id this thread's calls are recorded from now on, which is another than
/// before in a process that was just split off. Inside a new pid namespace `getpid` answers 1, so the
/// id comes from the parent.
pub fn set_pid(pid: i32) {
    RECORDER.with(|r| {
        if let Some(recorder) = r.borrow_mut().as_mut() {
            recorder.pid = pid;
            recorder.arena.nothing_is_mapped();
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

pub(super) fn finish(start: u64, call: &str, args: Writes<'_>, result: Result<i64, Errno>) {
    let ns = now().saturating_sub(start);
    write_down(start, ns, call, args, result.ok(), result.err());
}

/// Records a call that will not return when it succeeds (`execve`), before it is made.
pub(super) fn announce(call: &str, args: Writes<'_>) {
    write_down(now(), 0, call, args, None, None);
}

fn write_down(
    at: u64,
    ns: u64,
    call: &str,
    args: Writes<'_>,
    returned: Option<i64>,
    errno: Option<Errno>,
) {
    RECORDER.with_borrow(|r| {
        let Some(recorder) = r else { return };
        let pid = recorder.pid.into();
        recorder.arena.append_line(|line| {
            line.number(Name::At, at).number(Name::Ns, ns);
            line.signed(Name::Pid, pid);
            line.text(Name::Call, call).args(Name::Args, args);
            if let Some(returned) = returned {
                line.signed(Name::Returned, returned);
            }
            if let Some(errno) = errno {
                line.text(Name::Errno, &format!("{errno:?}"));
            }
        });
    });
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
