//! Why the kernel refused a namespace, in words that help.
//!
//! What it does: turns the errno of clone3, unshare and setns into advice with this host's values:
//! one errno has several causes, and the files of /proc/sys tell which it is.
//! What it implements: the ERRORS sections of clone(2), unshare(2), setns(2); the sysctls of
//! namespaces(7), Debian's kernel.unprivileged_userns_clone and AppArmor's restriction.
//! Interface: [`refused`], [`split_off`]. Read next: `actions/clone.rs`, which calls it.

use super::Kind;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::host::process::is_filtered;
use crate::sys::namespace::{Cloned, clone3};
use crate::sys::{Errno, SysError, cred};

/// The error for a namespace call that failed: what could not be done, why, and what to do.
pub fn refused(what: &str, flags: u64, error: SysError) -> Error {
    let errno = error.errno;
    let kinds: Vec<Kind> = Kind::in_flags(flags).collect();
    let names: Vec<&str> = kinds.iter().map(|k| k.name()).collect();
    let plural = if kinds.len() == 1 { "" } else { "s" };
    let message = match names[..] {
        [] => format!("cannot {what} a process"),
        _ => format!("cannot {what} the {} namespace{plural}", names.join(", ")),
    };
    let topic = match kinds[..] {
        [] => Kind::Pid.topic(),
        [one] => one.topic(),
        _ if errno == Errno::EPERM => "user-namespaces",
        _ => "namespaces",
    };
    let unsupported = errno == Errno::EINVAL && missing(&kinds).is_some();
    let kind = if unsupported {
        ErrorKind::Unsupported
    } else {
        ErrorKind::Failed
    };
    let mut wrapped = Error::kind(kind, message).caused_by(error).topic(topic);
    if let Some(hint) = advice(errno, &kinds) {
        wrapped = wrapped.hint(hint);
    }
    wrapped
}

/// Splits a process off that stays in all namespaces of this one; `whom` names it: "the monitor".
/// Errors: those of clone(2).
pub fn split_off(whom: &str) -> Result<Cloned> {
    clone3(0, None).map_err(|e| {
        let errno = e.errno;
        let error = Error::new(format!("cannot split {whom} off")).caused_by(e);
        match advice(errno, &[]) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

fn advice(errno: Errno, kinds: &[Kind]) -> Option<String> {
    match errno {
        // Docker's filter answers so, that programs may fall back to clone(2), which it can look into.
        Errno::ENOSYS if is_filtered() => Some(
            "the seccomp filter that holds this process has no clone3, as in a container with \
             docker's defaults: run glassbox outside of it, or give that container --privileged"
                .into(),
        ),
        Errno::ENOSYS => Some("clone3 is there since Linux 5.3".into()),
        Errno::EPERM if kinds.contains(&Kind::User) => Some(user_namespace_refused()),
        Errno::EPERM | Errno::EACCES if !may_administer() => Some(
            "this needs CAP_SYS_ADMIN; an ordinary user gets it by a user namespace of its own: \
             --user --map-root-user"
                .into(),
        ),
        Errno::ENOSPC => Some(exhausted(kinds)),
        Errno::EINVAL => missing(kinds).map(|kind| {
            format!("this kernel has no {kind} namespaces (/proc/self/ns/{kind} does not exist)")
        }),
        Errno::ENOMEM if !kinds.contains(&Kind::Pid) && born_elsewhere() => Some(
            "the pid namespace has no PID 1 any more: with the end of its init it ended too, and \
             no process can be born in it, whatever else keeps it (or memory has run out)"
                .into(),
        ),
        Errno::EAGAIN => Some("the limit of processes is reached (ulimit -u, or pids.max)".into()),
        _ => None,
    }
}

/// Whether this process has CAP_SYS_ADMIN (number 21 of capabilities(7)) in its user namespace.
pub fn may_administer() -> bool {
    cred::capget().is_ok_and(|sets| sets.effective & (1 << 21) != 0)
}

fn missing(kinds: &[Kind]) -> Option<Kind> {
    kinds
        .iter()
        .copied()
        .find(|k| std::fs::symlink_metadata(format!("/proc/self/ns/{k}")).is_err())
}

/// Whether the caller's children would be in another pid namespace than the caller. The link of one
/// without an init cannot be read at all.
fn born_elsewhere() -> bool {
    let link = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    link("pid_for_children") != link("pid")
}

fn sysctl(path: &str) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// EPERM for CLONE_NEWUSER: the switches that distributions put there, and the kernel's own rules.
fn user_namespace_refused() -> String {
    if sysctl("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return "kernel.unprivileged_userns_clone is 0 on this host: the administrator allows \
                user namespaces to root alone (sysctl -w kernel.unprivileged_userns_clone=1)"
            .into();
    }
    if let Some(why) = restricted_by_apparmor() {
        return why.into();
    }
    "a process in a chroot, one whose id is not mapped in its own user namespace, or one under a \
     seccomp filter (as in docker's default) cannot make user namespaces"
        .into()
}

/// Ubuntu's restriction. It lets the namespace be made, and then refuses every capability in it, so
/// the first thing that fails is what comes next: writing the id map, the host name, a mount.
pub(super) fn restricted_by_apparmor() -> Option<&'static str> {
    let restricted = sysctl("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    (restricted && !nix::unistd::getuid().is_root()).then_some(
        "kernel.apparmor_restrict_unprivileged_userns is 1 on this host: AppArmor gives \
         capabilities in user namespaces only to programs with a profile that says `userns`",
    )
}

/// ENOSPC: one of the limits of namespaces(7), or too deep a nest.
fn exhausted(kinds: &[Kind]) -> String {
    for kind in kinds {
        if sysctl(&kind.limit_file()) == Some(0) {
            return format!("user.max_{kind}_namespaces is 0 on this host");
        }
    }
    let limits: Vec<String> = kinds
        .iter()
        .map(|k| match sysctl(&k.limit_file()) {
            Some(n) => format!("user.max_{k}_namespaces = {n}"),
            None => format!("user.max_{k}_namespaces"),
        })
        .collect();
    format!(
        "a limit is reached: {} (counted for each user), or 32 nested user or pid namespaces",
        limits.join(", ")
    )
}
