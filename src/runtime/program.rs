//! The program: found, diagnosed when it cannot run, and executed.
//!
//! What it does: the last action of every plan. The search for the program happens inside the
//! container's root, as the container's user. When `execve` fails, the errno alone misleads
//! ("no such file" for a file that is there), so the file is read and the real cause is named.
//!
//! What it implements: runtime-spec `process.args`, `cwd`, `env`; execve(2), elf(5); the exit
//! statuses 126 and 127 of POSIX shells.
//! Interface: [`ChangeDirectory`], [`MakeWorkingDirectory`], [`LookUp`], [`Execute`]. Read next: `reaper.rs`.

use super::mount::target;
use crate::error::{Context, Error, Kind, Result};
use crate::host::elf;
use crate::journal::{Action, Planned, Scene};
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Changes to the working directory; makes it when it is missing, as docker does.
#[derive(Debug)]
pub struct ChangeDirectory {
    /// Absolute path in the container.
    pub path: PathBuf,
}

impl Action for ChangeDirectory {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("fchdir", format!("{:?}", self.path))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let what = || {
            format!(
                "cannot change to the working directory {}",
                self.path.display()
            )
        };
        let directory = inside(&self.path).with_context(what)?;
        sys::fs::fchdir(&directory).with_context(what)?;
        // However it came to be: below a directory of the host every `..` leads further out.
        let here = sys::fs::getcwd().with_context(what)?;
        if !here.is_absolute() {
            return Err(Error::new(what())
                .caused_by(Error::new(format!(
                    "it lies outside of the container's root: getcwd(2) says {}",
                    here.display()
                )))
                .hint("a directory of the host was left open, or joined from outside"));
        }
        Ok(())
    }
}

/// Makes the working directory while the root file system can still be written.
#[derive(Debug)]
pub struct MakeWorkingDirectory {
    /// Absolute path in the container.
    pub path: PathBuf,
}

impl Action for MakeWorkingDirectory {
    fn calls(&self) -> Vec<Planned> {
        let args = format!("{:?}, 0755 (where it does not exist)", self.path);
        vec![Planned::new("mkdirat", args)]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        inside(&self.path)
            .map(drop)
            .with_context(|| format!("cannot make the working directory {}", self.path.display()))
    }
}

/// Opens a directory below the root that this process has, making what is missing. No magic link is
/// followed: `/proc/self/fd/7` would lead to whatever that descriptor is, and a directory of the
/// host's is the way out of every wall (CVE-2024-21626).
fn inside(path: &Path) -> Result<OwnedFd> {
    let root = sys::fs::open("/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    target(root.as_fd(), path, true).map_err(|e| match e.errno() {
        Some(libc::ELOOP) => e.hint(
            "it leads through a magic link of /proc (fd, cwd, root), or through a loop of links; \
             a working directory is a path of the container's own",
        ),
        _ => e,
    })
}

/// Looks for the program before the container waits to be started: engines tell "not found" from
/// what `create` says, and `podman run` and `ctr run` clear away only what could not be created.
/// The search is made again, as the container's user, when it is executed.
#[derive(Debug)]
pub struct LookUp {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
}

impl Action for LookUp {
    fn calls(&self) -> Vec<Planned> {
        Vec::new()
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let name = self.args.first().map_or("", String::as_str);
        if name.is_empty() {
            return Err(Error::kind(Kind::CommandNotFound, "no command was given"));
        }
        let path = find(name, &self.env)?;
        // What stat(2) shows is what execve(2) would say; whatever else it says, it says itself.
        let errno = match std::fs::metadata(&path) {
            Ok(meta) if meta.is_dir() || meta.mode() & 0o111 == 0 => libc::EACCES,
            Ok(_) => return Ok(()),
            Err(e) => match e.raw_os_error() {
                Some(errno @ (libc::ENOENT | libc::ENOTDIR)) => errno,
                _ => return Ok(()),
            },
        };
        let error = sys::SysError {
            call: "stat",
            args: format!("{path:?}"),
            errno: Errno::from_raw(errno),
        };
        Err(diagnose(&path, error))
    }
}

/// Becomes the program.
#[derive(Debug)]
pub struct Execute {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// How many descriptors from 3 on were given by the caller for it.
    pub preserve_fds: u32,
}

impl Action for Execute {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("execve", format!("{:?}", self.args))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let Some(name) = self.args.first().filter(|n| !n.is_empty()) else {
            return Err(Error::kind(Kind::CommandNotFound, "no command was given"));
        };
        let path = find(name, &self.env)?;
        sys::process::reset_signals();
        // Nothing of ours may leak into the container: not the journal, not the barrier, not a
        // directory of the host (CVE-2024-21626 was one such descriptor).
        sys::process::close_range_cloexec(3 + self.preserve_fds)
            .context("cannot close our descriptors")?;
        let error = sys::process::execve(&path, &self.args, &self.env);
        Err(diagnose(&path, error))
    }
    fn is_last_word(&self) -> bool {
        true
    }
}

/// Finds the program as execvp(3) does: a name with a slash is a path, another is searched for in
/// the PATH of the *container's* environment.
fn find(name: &str, env: &[String]) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let path = env
        .iter()
        .rev()
        .find_map(|e| e.strip_prefix("PATH="))
        .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let mut denied = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        let Ok(meta) = std::fs::metadata(&candidate) else {
            continue;
        };
        if meta.is_dir() {
            continue;
        }
        if meta.mode() & 0o111 != 0 {
            return Ok(candidate);
        }
        denied = Some(candidate);
    }
    match denied {
        Some(path) => Err(Error::kind(
            Kind::CannotExecute,
            format!("exec: {:?}: permission denied", path.display()),
        )
        .hint("the file is there, but nobody may execute it: chmod +x")),
        None => Err(Error::kind(
            Kind::CommandNotFound,
            format!("exec: {name:?}: executable file not found in $PATH"),
        )
        .hint(format!("PATH in the container is {path}"))),
    }
}

/// Says why `execve` really failed.
fn diagnose(path: &Path, error: sys::SysError) -> Error {
    let errno = error.errno;
    let base = |kind, message: String| Error::kind(kind, message).caused_by(error.clone());
    let name = path.display();
    match errno {
        Errno::ENOENT => {
            let e = |m: &str| base(Kind::CommandNotFound, format!("exec: \"{name}\": {m}"));
            match missing_interpreter(path) {
                Some(Interpreter::Script(line)) if line.ends_with('\r') => e(
                    "no such file or directory",
                )
                .hint("its first line ends in a carriage return (a file written on Windows): the kernel looks for an interpreter with that byte in its name; convert it with `sed -i 's/\\r$//'`"),
                Some(Interpreter::Script(line)) => e("no such file or directory").hint(format!(
                    "the file is there; the interpreter in its first line, {line:?}, is not in this image"
                )),
                Some(Interpreter::Elf(loader)) => e("no such file or directory").hint(format!(
                    "the file is there; its ELF loader, {loader}, is not in this image: \
                     use a static build, or an image with that C library"
                )),
                None => e("no such file or directory"),
            }
        }
        Errno::ENOEXEC => {
            let e = base(
                Kind::CannotExecute,
                format!("exec: \"{name}\": exec format error"),
            );
            match elf_machine(path) {
                Some(machine) => e.hint(format!(
                    "it is a program for {machine}; this machine is {}",
                    std::env::consts::ARCH
                )),
                None => e.hint("it is neither an ELF program nor a script with a #! line"),
            }
        }
        Errno::EACCES => {
            let e = base(
                Kind::CannotExecute,
                format!("exec: \"{name}\": permission denied"),
            );
            match std::fs::metadata(path) {
                Ok(m) if m.is_dir() => e.hint("it is a directory"),
                Ok(m) if m.file_type().is_char_device() || m.file_type().is_block_device() => {
                    e.hint("it is a device")
                }
                Ok(m) if m.mode() & 0o111 == 0 => {
                    e.hint("the file is there, but nobody may execute it: chmod +x")
                }
                Ok(_) => {
                    e.hint("the mount that it lies on is noexec, or this user may not execute it")
                }
                Err(_) => e,
            }
        }
        Errno::ENOTDIR => base(
            Kind::CommandNotFound,
            format!("exec: \"{name}\": not a directory"),
        ),
        _ => base(
            Kind::CannotExecute,
            format!("exec: \"{name}\": cannot be executed"),
        ),
    }
}

enum Interpreter {
    Script(String),
    Elf(String),
}

/// The interpreter that a file asks for, when that does not exist.
fn missing_interpreter(path: &Path) -> Option<Interpreter> {
    let bytes = std::fs::read(path).ok()?;
    if let Some(rest) = bytes.strip_prefix(b"#!") {
        let line = rest.split(|b| *b == b'\n').next()?;
        let line = String::from_utf8_lossy(line).trim_start().to_string();
        return Some(Interpreter::Script(
            line.split([' ', '\t']).next()?.to_string(),
        ));
    }
    let loader = elf::read(&bytes)?.loader?;
    (!loader.exists()).then(|| Interpreter::Elf(loader.display().to_string()))
}

/// `e_machine` of an ELF file, in words.
fn elf_machine(path: &Path) -> Option<String> {
    Some(match elf::read(&std::fs::read(path).ok()?)?.machine {
        3 => "x86 (32 bit)".into(),
        40 => "arm (32 bit)".into(),
        62 => "x86_64".into(),
        183 => "aarch64".into(),
        243 => "riscv".into(),
        n => format!("ELF machine {n}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_searched_in_the_given_path_only() {
        let env = ["PATH=/nonexistent:/bin".to_string()];
        assert_eq!(find("sh", &env).unwrap(), Path::new("/bin/sh"));
        let e = find("sh", &["PATH=/nonexistent".into()]).unwrap_err();
        assert_eq!(e.exit_status(), 127);
        assert_eq!(find("./x", &env).unwrap(), Path::new("./x"));
    }

    #[test]
    fn a_missing_interpreter_is_the_cause_that_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/bin/bash\r\necho\n").unwrap();
        let error = sys::SysError {
            call: "execve",
            args: String::new(),
            errno: Errno::ENOENT,
        };
        let e = diagnose(&script, error);
        assert_eq!(e.exit_status(), 127);
        assert!(e.get_hint().unwrap().contains("carriage return"));
    }
}
