//! The standard streams of an engine's container: FIFOs, which outlive whoever reads them.
//!
//! What it does: makes a FIFO a stream in a directory of the caller's and opens both ends, the
//! program's and the caller's. A pipe would die with its only reader, and the program with it, by
//! SIGPIPE. A FIFO has a name, so a successor of the reader can open it again; and the program's
//! end of an output is open for reading too, so that it never is without a reader: while nobody
//! listens, what is written waits, and the program with it when the FIFO (64 KiB) is full.
//!
//! ```text
//!              program            caller                 the caller is killed
//!   stdin      O_RDONLY           O_WRONLY|O_NONBLOCK    the program reads the end
//!   stdout     O_RDWR             O_RDONLY|O_NONBLOCK    what it writes waits in the FIFO
//!   stderr     O_RDWR             O_RDONLY|O_NONBLOCK    likewise
//! ```
//!
//! The caller's end of an output says "end" when the last process of the container has closed it,
//! as a pipe would. Mode 0666, so that any user inside may open `/dev/stdout`; outside, the
//! directory keeps others away.
//!
//! What it implements: fifo(7), pipe(7). Interface: the action [`MakeFifos`]; [`Outer`].
//! Read next: `terminal.rs`, the other kind of streams.

use super::terminal::STREAMS;
use crate::error::{Context, Result};
use crate::journal::{Action, Planned, Scene};
use crate::sys::{self, Errno, fs::CWD};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Permission bits of the FIFOs.
const MODE: u32 = 0o666;
/// The scene's names of the caller's ends.
const OUTER: [&str; 3] = ["outer-stdin", "outer-stdout", "outer-stderr"];

/// The caller's ends of the FIFOs.
#[derive(Debug, Default)]
pub struct Outer {
    /// Where the program's input is written; `None` when it has none.
    pub stdin: Option<OwnedFd>,
    /// Where its output is read.
    pub stdout: Option<OwnedFd>,
    /// Where its messages are read.
    pub stderr: Option<OwnedFd>,
}

impl Outer {
    /// The ends that a [`MakeFifos`] has left in the scene.
    pub(super) fn take(scene: &mut Scene) -> Outer {
        let [stdin, stdout, stderr] = OUTER.map(|name| scene.take_fd(name));
        Outer {
            stdin,
            stdout,
            stderr,
        }
    }

    /// Opens the caller's ends again, in the directory of a container whose first caller is gone.
    /// A stream whose FIFO is not there any more, or that the program does not read, is `None`.
    /// Errors: a FIFO that cannot be opened.
    pub fn reopen(dir: &Path) -> Result<Outer> {
        let open = |name: &str, flags| {
            let path = dir.join(name);
            match sys::fs::open(&path, flags | libc::O_NONBLOCK, 0) {
                Ok(fd) => Ok(Some(fd)),
                // ENXIO: nobody has the reading end open.
                Err(e) if matches!(e.errno, Errno::ENOENT | Errno::ENXIO) => Ok(None),
                Err(e) => Err(e).with_context(|| format!("cannot open {}", path.display())),
            }
        };
        Ok(Outer {
            stdin: open(STREAMS[0], libc::O_WRONLY)?,
            stdout: open(STREAMS[1], libc::O_RDONLY)?,
            stderr: open(STREAMS[2], libc::O_RDONLY)?,
        })
    }
}

/// Parent, before the split: makes the FIFOs anew and opens both ends of each.
#[derive(Debug)]
pub struct MakeFifos {
    /// Where. It exists by then.
    pub dir: PathBuf,
    /// The program may read; else its input is /dev/null.
    pub stdin: bool,
}

impl MakeFifos {
    /// The number and name of each stream that is a FIFO.
    fn names(&self) -> impl Iterator<Item = (usize, &'static str)> {
        STREAMS
            .into_iter()
            .enumerate()
            .skip(usize::from(!self.stdin))
    }
}

impl Action for MakeFifos {
    fn calls(&self) -> Vec<Planned> {
        let both = |(_, name)| {
            let path = self.dir.join(name);
            [
                Planned::new("mknodat", format!("{path:?}, S_IFIFO|{MODE:#05o}")),
                Planned::new("fchmodat", format!("{path:?}, {MODE:#05o}")),
            ]
        };
        self.names().flat_map(both).collect()
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        if !self.stdin {
            let null = sys::fs::open("/dev/null", libc::O_RDONLY, 0);
            scene.put_fd(STREAMS[0], null.context("cannot open /dev/null")?);
        }
        for (number, name) in self.names() {
            let path = self.dir.join(name);
            let what = || format!("cannot make the FIFO {}", path.display());
            // New ones for each start: whoever holds an old one has no say in this container.
            match sys::fs::mknodat(CWD, &path, libc::S_IFIFO | MODE, 0) {
                Err(e) if e.errno == Errno::EEXIST => {
                    sys::fs::unlinkat(CWD, &path, 0).with_context(what)?;
                    sys::fs::mknodat(CWD, &path, libc::S_IFIFO | MODE, 0).with_context(what)?;
                }
                other => other.with_context(what)?,
            }
            sys::fs::fchmodat(CWD, &path, MODE).with_context(what)?; // the umask took from it
            // The reading end first: without one, a writer that does not wait gets ENXIO. And the
            // caller's before the program's last, so that nothing written is ever lost.
            let (inner, outer) = match number {
                0 => (libc::O_RDONLY, libc::O_WRONLY),
                _ => (libc::O_RDWR, libc::O_RDONLY),
            };
            let inner = sys::fs::open(&path, inner | libc::O_NONBLOCK, 0).with_context(what)?;
            let outer = sys::fs::open(&path, outer | libc::O_NONBLOCK, 0).with_context(what)?;
            sys::poll::set_nonblocking(&inner, false).with_context(what)?;
            scene.put_fd(name, inner);
            scene.put_fd(OUTER[number], outer);
        }
        Ok(())
    }

    fn undo(&self, _: &mut Scene) -> Result<()> {
        for (_, name) in self.names() {
            let path = self.dir.join(name);
            match sys::fs::unlinkat(CWD, &path, 0) {
                Err(e) if e.errno != Errno::ENOENT => {
                    return Err(e).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::{read, write_some};

    #[test]
    fn what_is_written_while_nobody_listens_waits() {
        let dir = tempfile::tempdir().unwrap();
        let make = MakeFifos {
            dir: dir.path().into(),
            stdin: true,
        };
        let mut scene = Scene::new();
        make.apply(&mut scene).unwrap();
        make.apply(&mut scene).unwrap(); // and over old ones
        let outer = Outer::take(&mut scene);
        let [stdin, stdout, stderr] = STREAMS.map(|name| scene.take_fd(name).unwrap());
        let mut buffer = [0; 16];
        write_some(outer.stdin.as_ref().unwrap(), b"in").unwrap();
        assert_eq!(read(&stdin, &mut buffer).unwrap(), 2);
        drop(outer);
        assert_eq!(read(&stdin, &mut buffer).unwrap(), 0, "the end of input");
        write_some(&stdout, b"late").unwrap();
        let again = Outer::reopen(dir.path()).unwrap();
        assert_eq!(read(again.stdout.as_ref().unwrap(), &mut buffer), Ok(4));
        drop((stdin, stdout, stderr));
        assert_eq!(read(again.stdout.as_ref().unwrap(), &mut buffer), Ok(0));
        assert!(Outer::reopen(dir.path()).unwrap().stdin.is_none(), "ENXIO");
        make.undo(&mut scene).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Outer::reopen(dir.path()).unwrap().stdout.is_none());
    }
}
