//! The search for a program, and why one that was found does not run.
//!
//! What it does: looks a program up inside the root that this process has, with this process's
//! rights. When `execve` fails, the errno alone misleads ("no such file" for a file that is there),
//! so the file is read and the real cause is named.
//!
//! What it implements: the search of exec(3); execve(2), elf(5); the exit statuses 126 and 127 of
//! POSIX shells.
//! Interface: [`find`], [`diagnose`]. Read next: `program.rs`, and the runtime's `program.rs`.

use crate::error::{Error, Kind, Result};
use crate::host::elf;
use crate::sys::{self, Errno};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where a program is searched whose environment has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds the program as execvp(3) does: a name with a slash is a path, another is searched for in
/// the PATH of `env`, the program's own environment. Errors: [`Kind::CommandNotFound`],
/// [`Kind::CannotExecute`].
pub fn find(name: &OsStr, env: &[impl AsRef<OsStr>]) -> Result<PathBuf> {
    if name.is_empty() {
        return Err(Error::kind(Kind::CommandNotFound, "no command was given"));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(name.into());
    }
    let mut variables = env.iter().rev().map(|e| e.as_ref().as_bytes());
    let path = variables.find_map(|e| e.strip_prefix(b"PATH="));
    let path = OsStr::from_bytes(path.unwrap_or(PATH.as_bytes()));
    let mut denied = None;
    for directory in std::env::split_paths(path) {
        let here = directory.as_os_str().is_empty();
        let directory = if here { Path::new(".") } else { &directory };
        let candidate = directory.join(name);
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
        .hint(format!("PATH inside is {}", path.display()))),
    }
}

/// Says why `execve` really failed.
pub fn diagnose(path: &Path, error: sys::SysError) -> Error {
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
                    "the file is there; the interpreter in its first line, {line:?}, is not in this root"
                )),
                Some(Interpreter::Elf(loader)) => e("no such file or directory").hint(format!(
                    "the file is there; its ELF loader, {loader}, is not in this root: \
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
        let find = |name: &str, env: &[&str]| find(name.as_ref(), env);
        let env = ["PATH=/nonexistent", "PATH=/nonexistent:/bin"];
        assert_eq!(find("sh", &env).unwrap(), Path::new("/bin/sh"));
        for (name, env) in [
            ("sh", "PATH=/nonexistent"),
            ("sh", "PATH="),
            ("", "PATH=/bin"),
        ] {
            assert_eq!(find(name, &[env]).unwrap_err().exit_status(), 127);
        }
        assert_eq!(find("./x", &env).unwrap(), Path::new("./x"));
        assert_eq!(
            find("Cargo.toml", &["PATH="]).unwrap_err().exit_status(),
            126
        );
        assert!(find("sh", &[]).is_ok());
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
