//! What every test file shares: running the binary, skipping with a reason, checking for leaks.
//!
//! What it does: a test names what it needs (`needs_root`, `needs`), makes a [`TempRoot`], puts a
//! [`LeakCheck`] over it, runs the binary with [`run`] or [`Run`], and asserts on the [`Output`].
//! The binary is `$GLASSBOX_BIN` where that is set (the virtual machine's tests), else the one
//! that cargo built. Everything a test makes carries the tag of its `TempRoot`, so that tests of
//! several people on one machine do not see each other.
//!
//! Root's containers are in the network `bridge` by default; the tests' are in none where they name
//! none ([`NO_NETWORK`]), so that what a test makes on the host is what it is about.
//!
//! Rules: a test that cannot run here says why through [`skip`] and counts as skipped;
//! `GLASSBOX_REQUIRE_ALL=1` turns that into a failure (see [`skip`]). No test leaves a mount, cgroup, process or
//! file behind.
//!
//! Read next: `leak.rs`, `run.rs`, then any test file beside this folder.

#![allow(dead_code, unused_imports)] // each test crate uses its own part of this

pub mod bundle;
pub mod cached;
pub mod certificates;
pub mod cgroup;
pub mod docker_registry;
pub mod dockerd;
mod held;
mod host;
mod leak;
pub mod memory;
pub mod musts;
pub mod namespaces;
pub mod network;
pub mod oci;
pub mod our_registry;
pub mod peers;
mod run;
mod screen;
pub mod source;
pub mod strace;
pub mod web;

use std::io::Write;

pub use held::{Held, WALLS, inode, no_walls};
pub use host::Host;
pub use leak::{LeakCheck, TempRoot};
pub use run::{NO_NETWORK, Output, Run, as_user, binary, run, run_in};
pub use screen::Screen;

/// The user that tests become when they run as root: `nobody`.
pub const USER: u32 = 65534;

/// Says that a test cannot run here, and why. Use as `return skip("…")`.
///
/// `GLASSBOX_REQUIRE_ALL=1` makes it a failure. Only what `GLASSBOX_MAY_LACK=root,cgroup1` names is
/// excused: what this run cannot have by its nature (an ordinary user is not root, a host has one
/// cgroup layout), while another run has it. A reason that begins with `needs root`, or `needs` and
/// another word of that list, is one of those.
#[track_caller]
pub fn skip(reason: impl std::fmt::Display) {
    let reason = reason.to_string();
    // Straight to stderr: what `eprintln!` prints in a test that passes is never seen.
    let test = std::thread::current().name().unwrap_or("?").to_string();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    let lacks = std::env::var("GLASSBOX_MAY_LACK").unwrap_or_default();
    let need = reason.strip_prefix("needs ").unwrap_or_default();
    let need = need.strip_prefix("the program ").unwrap_or(need);
    let need = need.split([' ', ':', ',', ';']).next().unwrap_or_default();
    let excused = !need.is_empty() && lacks.split(',').any(|lack| lack == need);
    if std::env::var_os("GLASSBOX_REQUIRE_ALL").is_some_and(|v| v == "1") && !excused {
        panic!("GLASSBOX_REQUIRE_ALL=1 and this test cannot run here: {reason}");
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a program is on the PATH.
pub fn has_program(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// What a test needs and does not have, as a reason to skip; `None` when all is there.
///
/// Words: `root`, `cgroup2` (a hierarchy with the memory controller), `cgroup1`, `systemd` (as PID 1),
/// `ipv6`, else a program's name.
pub fn missing(needs: &[&str]) -> Option<String> {
    needs.iter().find_map(|need| match *need {
        "root" => (!is_root()).then(|| "needs root".to_string()),
        "cgroup2" => (!std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|c| c.contains("memory")))
        .then(|| "needs cgroup2: a unified hierarchy with the memory controller".to_string()),
        "cgroup1" => (!std::path::Path::new("/sys/fs/cgroup/memory").is_dir())
            .then(|| "needs cgroup1: the v1 memory hierarchy".to_string()),
        "ipv6" => (!std::path::Path::new("/proc/net/if_inet6").exists())
            .then(|| "needs ipv6: a kernel that has it".to_string()),
        "systemd" => (!std::path::Path::new("/run/systemd/system").is_dir())
            .then(|| "needs systemd: it does not run here".to_string()),
        program => (!has_program(program)).then(|| format!("needs the program {program}")),
    })
}

/// Skips the test when one of the listed things is missing: `needs!("root", "strace");`
#[macro_export]
macro_rules! needs {
    ($($what:literal),+ $(,)?) => {
        if let Some(reason) = common::missing(&[$($what),+]) {
            return common::skip(reason);
        }
    };
}

/// The `insta` filters that take out what differs from run to run: ids, times, paths, pids, inode
/// numbers. `extra` goes first: pairs of a regular expression and its replacement.
///
/// `common::filters(&[]).bind(|| insta::assert_snapshot!(text));`
pub fn filters(extra: &[(&str, &str)]) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    for (pattern, replacement) in extra {
        settings.add_filter(pattern, *replacement);
    }
    for (pattern, replacement) in [
        (r"\b[0-9a-f]{64}\b", "[ID]"),
        (r"\b[0-9a-f]{12}\b", "[SHORT-ID]"),
        (
            r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
            "[TIME]",
        ),
        (r"\b(\d+(\.\d+)?) ?(ns|µs|ms|s)\b( *)", "[DURATION] "),
        (
            r"(mnt|pid|user|net|ipc|uts|cgroup|time|pid_for_children|time_for_children):\[\d+\]",
            "$1:[INODE]",
        ),
        (r"\b40265\d{5}\b", "[INODE]"),
        (r"/tmp/glassbox-test-[A-Za-z0-9._-]+", "[ROOT]"),
        (r"\bpid \d+", "pid [PID]"),
        (r"/proc/\d+/", "/proc/[PID]/"),
        (r#""(at|ns|time)": ?\d+"#, "\"$1\": 0"),
        (r#""pid": ?\d+"#, "\"pid\": 0"),
    ] {
        settings.add_filter(pattern, replacement);
    }
    settings
}
