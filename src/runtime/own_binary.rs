//! Our own program file, out of the reach of the containers that we enter.
//!
//! A process that is about to become a container's program is still us: `/proc/PID/exe` of it, seen
//! from inside, leads to the runtime's own file on the host. A container that executes that link
//! (its program is `/proc/self/exe`, or a script that begins with `#!/proc/self/exe`) holds it open,
//! and when nobody executes it any more, writes its own code there: the host's root runs that next
//! time (CVE-2019-5736).
//!
//! What it does: before a command goes near a container it executes itself again, from a copy that
//! cannot be written:
//!
//! ```text
//!   on a read-only mount already        nothing to do
//!   root                                a private copy of the mount, read-only, attached nowhere:
//!                                       open_tree, mount_setattr, execveat; 0.5 ms
//!   a user who cannot write the file    nothing to do: nor can any container of his
//!   a user who can (his own build)      a sealed copy in memory: memfd_create, execveat
//! ```
//!
//! Nothing of it is left afterwards: the descriptor closes at execveat, and the mount goes with the
//! last process that was executed from it.
//!
//! What it implements: open_tree(2), mount_setattr(2), execveat(2), memfd_create(2).
//! Interface: [`protect`]. Read next: `program.rs`.

use crate::error::{Context, Error, Result};
use crate::sys::{self, Errno, fs::CWD, mount as m, process};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const EXE: &str = "/proc/self/exe";

/// Sees to it that this process runs from a file that no container can write. Returns when it does;
/// otherwise the process begins again, with the same arguments, environment and descriptors. To be
/// called before anything else has been done.
///
/// Errors: /proc is not mounted; no copy can be made.
pub fn protect() -> Result<()> {
    let what = "cannot keep this program's file out of the container's reach";
    let own = sys::fs::open(EXE, libc::O_RDONLY, 0)
        .context(what)
        .map_err(|e| e.hint("/proc must be mounted: containers are made and seen through it"))?;
    if is_sealed(&own) || is_read_only(&own).context(what)? {
        keep_name();
        return Ok(());
    }
    let copy = match read_only_mount() {
        Ok(copy) => copy,
        // An ordinary user may make no mount, nor can one before Linux 5.12.
        Err(e) if matches!(e.errno, Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => {
            let file = File::from(own);
            if !may_write(&file).context(what)? {
                return Ok(());
            }
            sealed_copy(file).context(what)?
        }
        Err(e) => return Err(e).context(what),
    };
    Err(execute(&copy)).context(what)
}

/// Whether it lies on a read-only mount.
fn is_read_only(file: &OwnedFd) -> sys::SysResult<bool> {
    let stat = fstatvfs(file).map_err(|errno| sys::SysError {
        call: "fstatvfs",
        args: EXE.into(),
        errno,
    })?;
    Ok(stat.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether it is a file in memory that can never be written again.
fn is_sealed(file: &OwnedFd) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE))
}

/// Whether who executes it may write it, or may make himself able to.
fn may_write(file: &File) -> Result<bool> {
    let meta = file.metadata().context("cannot read who may write it")?;
    let euid = nix::unistd::geteuid();
    let how = nix::unistd::AccessFlags::W_OK;
    let writable = nix::unistd::faccessat(CWD, EXE, how, nix::fcntl::AtFlags::AT_EACCESS);
    // ETXTBSY is not among the answers: access(2) does not ask whether it is being executed.
    Ok(euid.is_root() || meta.uid() == euid.as_raw() || writable.is_ok())
}

/// The file on a read-only copy of its mount, which is attached nowhere.
fn read_only_mount() -> sys::SysResult<OwnedFd> {
    let copy = m::open_tree(CWD, Path::new(EXE), m::OPEN_TREE_CLONE)?;
    let set = libc::MOUNT_ATTR_RDONLY;
    m::mount_setattr(&copy, Path::new(""), false, set, 0, 0, None)?;
    Ok(copy)
}

/// A copy of the file in memory, which nobody can write any more.
fn sealed_copy(mut file: File) -> Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let failed = |call, errno| sys::SysError {
        call,
        args: "a copy of this program's file".into(),
        errno,
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create("glassbox", flags).map_err(|e| failed("memfd_create", e))?;
    let mut copy = File::from(copy);
    std::io::copy(&mut file, &mut copy).context("cannot copy it into memory")?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| failed("fcntl", e))?;
    Ok(copy.into())
}

/// Becomes the copy; comes back only with an error.
fn execute(copy: impl AsFd) -> Error {
    let args: Vec<_> = std::env::args_os().collect();
    let env: Vec<_> = std::env::vars_os()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            variable
        })
        .collect();
    // What the caller has given us stays: its signal mask, and SIGPIPE, which Rust has ignored.
    sys::signal::Inherited::read().restore();
    process::execveat(copy, &args, &env).into()
}

/// A process that was executed by a descriptor is called by its number in ps(1).
fn keep_name() {
    let by_number = std::fs::read("/proc/self/comm")
        .is_ok_and(|name| name.trim_ascii_end().iter().all(u8::is_ascii_digit));
    let called = std::env::args_os().next();
    let called = called.as_deref().map(Path::new).and_then(Path::file_name);
    if let (true, Some(name)) = (by_number, called) {
        let _ = process::set_name(name); // a name is worth no failure
    }
}
