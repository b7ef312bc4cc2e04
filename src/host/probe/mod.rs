//! What this kernel and this user may do: each ability is tried, and is either yes or the reason
//! why not.
//!
//! What it does: a table of [`Probe`]s, one a question. A probe really tries the thing wherever
//! that is harmless. What would change something is tried in a forked child in new namespaces
//! ([`in_child`]), which end with it; so nothing is left behind and the host is never touched.
//! Reading a setting in /proc is only the second choice, for the reason why something failed.
//!
//! What it implements: the man pages named at each probe.
//! Interface: [`PROBES`], [`Probe`], [`Ability`]. The process that runs them must have one thread,
//! because some fork. Read next: `namespaces.rs`, then [`crate::inspect`], which shows them.

mod cgroups;
mod isolation;
mod mounts;
mod namespaces;
mod network;
mod process;

use super::process::is_filtered;
use crate::sys::{self, Errno, SysError};

/// One question to the kernel.
pub struct Probe {
    /// Which part of a container it belongs to.
    pub group: &'static str,
    /// The field's name for the ability, in words or as the kernel's name.
    pub name: &'static str,
    /// What a container engine needs it for, in one line.
    pub what_for: &'static str,
    /// The call or file that is tried: the source of the answer.
    pub source: &'static str,
    /// Tries it.
    pub check: fn() -> Ability,
}

/// The answer to a [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ability {
    /// It works here, for this user; with what is worth knowing.
    Yes(String),
    /// It does not.
    No {
        /// The errno or the setting that says so.
        why: String,
        /// What the reader can do about it.
        how_to_get_it: String,
    },
}

impl Ability {
    /// A yes with nothing to add.
    pub fn yes() -> Self {
        Ability::Yes(String::new())
    }
    /// A no.
    pub fn no(why: impl Into<String>, how: impl Into<String>) -> Self {
        Ability::No {
            why: why.into(),
            how_to_get_it: how.into(),
        }
    }
    /// True when it works.
    pub fn works(&self) -> bool {
        matches!(self, Ability::Yes(_))
    }
    /// The outcome of a call; `how` makes the advice out of the errno.
    fn of<T>(result: Result<T, SysError>, how: impl FnOnce(Errno) -> String) -> Self {
        match result {
            Ok(_) => Ability::yes(),
            Err(e) => {
                let mut how = how(e.errno);
                if matches!(e.errno, Errno::ENOSYS | Errno::EPERM) && is_filtered() {
                    let or = if how.is_empty() { "" } else { "; or " };
                    how += or;
                    how += "a process without the seccomp filter that holds this one, as in a container";
                }
                Ability::no(e.to_string(), how)
            }
        }
    }
}

/// All probes, in the order in which a container needs the abilities.
pub fn all() -> impl Iterator<Item = &'static Probe> {
    [
        namespaces::PROBES,
        cgroups::PROBES,
        mounts::PROBES,
        process::PROBES,
        isolation::PROBES,
        network::PROBES,
    ]
    .into_iter()
    .flatten()
}

/// Advice for a call that came with a certain Linux version.
fn since(version: &'static str) -> impl FnOnce(Errno) -> String {
    move |errno| match errno {
        Errno::ENOSYS | Errno::EINVAL | Errno::ENOTTY => format!("Linux {version} or later"),
        Errno::EPERM | Errno::EACCES => "root; or a seccomp filter of the caller forbids it".into(),
        _ => String::new(),
    }
}

/// Runs `f` in a child that is alone in new namespaces (`flags`: `CLONE_NEW*`), and hands back
/// what it says. Mounts that the child makes are private to it and go with it.
///
/// In a new user namespace the child is uid 0 first; the parent writes nothing: the child maps
/// its own id, which every user may do (user_namespaces(7)).
fn in_child(flags: u64, f: impl FnOnce() -> Result<String, SysError>) -> Result<String, SysError> {
    use std::os::fd::AsFd;
    let (ours, theirs) = sys::socket::socketpair()?;
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    match sys::namespace::clone3(flags, None)? {
        sys::namespace::Cloned::Child => {
            // The child, with one thread and a copy of the memory; in the new namespaces.
            drop(ours);
            let result = prepare(flags, uid.as_raw(), gid.as_raw()).and_then(|()| f());
            let message = match result {
                Ok(text) => format!("+{text}"),
                Err(e) => format!("-{}\n{}\n{}", e.errno as i32, e.call, e.args),
            };
            let _ = sys::socket::send(&theirs, message.as_bytes());
            sys::process::exit_now(0)
        }
        sys::namespace::Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let message = sys::socket::recv(&ours);
            // Reaped whatever it said, so that no zombie stays.
            let _ = sys::process::waitid(pidfd.as_fd(), 0);
            decode(message?)
        }
    }
}

fn prepare(flags: u64, uid: u32, gid: u32) -> Result<(), SysError> {
    if flags & libc::CLONE_NEWUSER as u64 != 0 {
        // gid_map of one's own needs setgroups denied first (CVE-2014-8989).
        sys::fs::write_file("/proc/self/setgroups", "deny")?;
        sys::fs::write_file("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
        sys::fs::write_file("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
    }
    if flags & libc::CLONE_NEWNS as u64 != 0 {
        // The copy of the mounts still propagates to the host's until it is made private.
        let private = libc::MS_REC | libc::MS_PRIVATE;
        sys::mount::mount(None, std::path::Path::new("/"), None, private, None)?;
    }
    Ok(())
}

fn decode(message: Option<Vec<u8>>) -> Result<String, SysError> {
    let silent = || SysError {
        call: "probe",
        args: "the child ended without an answer".into(),
        errno: Errno::EIO,
    };
    let message = String::from_utf8(message.ok_or_else(silent)?).map_err(|_| silent())?;
    if let Some(text) = message.strip_prefix('+') {
        return Ok(text.to_string());
    }
    let mut parts = message.trim_start_matches('-').splitn(3, '\n');
    let errno = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let call = parts.next().unwrap_or("probe");
    Err(SysError {
        // One of a handful of names a run, and the process is about to end.
        call: String::leak(call.to_string()),
        args: parts.next().unwrap_or("").to_string(),
        errno: Errno::from_raw(errno),
    })
}

/// The no of a file that cannot be read: "/dev/net/tun: ENOENT (No such file or directory)".
fn unreadable(path: &str, error: &std::io::Error, how: impl Into<String>) -> Ability {
    let words = match error.raw_os_error() {
        Some(raw) => sys::describe_errno(Errno::from_raw(raw)),
        None => error.to_string(),
    };
    Ability::no(format!("{path}: {words}"), how)
}

/// A setting of one number or word, such as /proc/sys/user/max_user_namespaces.
fn setting(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

/// Finds a program in PATH and the directories that ordinary users' PATH lacks.
fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// True when the caller has this capability in effect, by number.
fn has_capability(number: u32) -> bool {
    sys::cred::capget().is_ok_and(|c| c.effective & (1 << number) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_probe_is_named_once_and_says_what_for() {
        let mut names = BTreeSet::new();
        for probe in all() {
            assert!(names.insert(probe.name), "{} twice", probe.name);
            assert!(!probe.what_for.is_empty() && !probe.source.is_empty());
            assert!(!probe.what_for.ends_with('.'), "{}", probe.what_for);
        }
        assert!(names.len() > 40, "{}", names.len());
    }

    #[test]
    fn a_child_hands_back_its_error() {
        let text = b"-1\nmount\ntmpfs on /".to_vec();
        let e = decode(Some(text)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "mount(tmpfs on /): EPERM (Operation not permitted)"
        );
        assert_eq!(decode(Some(b"+fine".to_vec())).unwrap(), "fine");
        assert!(decode(None).is_err());
    }
}
