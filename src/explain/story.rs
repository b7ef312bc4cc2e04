//! What the story tells in one line: steps that a newcomer may take together.
//!
//! What it does: a container's plan has seventy steps and more, and a story of one screen has room
//! for twenty. [`GROUPS`] names the steps that belong together and the one reason that covers them.
//! Steps that no group names are told one by one, or merged with neighbours of the same first
//! word. `--explain=all` knows no groups.
//! Interface: [`group_of`], [`short`]. Read next: `layout.rs`.

use super::told::Told;

/// Neighbouring steps told together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// What stands in the place of the call.
    pub name: &'static str,
    /// Ids, or beginnings of ids that end in `-`. They may be of several stages: the first one's
    /// tells them.
    ids: &'static [&'static str],
    /// Ids that are told with the group when they come right after it.
    also: &'static [&'static str],
    /// Why they are there.
    pub why: &'static str,
    /// Told so in the set-up of a whole container alone: that of one stage has room for each.
    pub of_whole: bool,
}

/// The groups, in the order in which a container's plan comes to them.
const GROUPS: &[Group] = &[
    Group {
        name: "files",
        ids: &["make-", "write-"],
        also: &[],
        why: "a container is a directory: configuration, writable layer, later its log",
        of_whole: false,
    },
    Group {
        name: "network",
        ids: &[
            "hold-ports",
            "take-address-",
            "bridge-",
            "forward-",
            "rules",
        ],
        also: &["write-hosts"],
        why: "an address that is free, a switch to plug it into, and a host that passes its \
              packets on",
        of_whole: true,
    },
    Group {
        name: "group",
        ids: &["create-cgroup", "device-rules", "open-cgroup"],
        also: &["make-streams"],
        why: "counted, limited and kept from the host's devices, apart from all else",
        of_whole: true,
    },
    Group {
        name: "apart",
        ids: &[
            "enter-cgroup",
            "not-dumpable",
            "session",
            "keyring",
            "reset-signals",
            "umask",
        ],
        also: &[],
        why: "out of reach of the caller's terminal, keys and tracing",
        of_whole: false,
    },
    Group {
        name: "own",
        ids: &[
            "hostname",
            "domainname",
            "loopback",
            "address-",
            "propagation",
        ],
        also: &[],
        why: "its own name, loopback, address; mounts made in here stay in here",
        of_whole: true,
    },
    Group {
        name: "mount",
        ids: &["open-root", "mount-", "read-only-/"],
        also: &[],
        why: "what a program expects to find, each a mount that only this namespace has",
        of_whole: false,
    },
    Group {
        name: "device",
        ids: &["device-", "dev-links", "streams"],
        also: &[],
        why: "the few devices that a program may rely on, and no other",
        of_whole: false,
    },
    Group {
        name: "kernel",
        ids: &["sysctl-", "read-only-paths", "masked-paths"],
        also: &[],
        why: "what steers the whole kernel cannot be written, what shows the host not read",
        of_whole: true,
    },
    Group {
        name: "rlimit",
        ids: &["rlimit-", "rlimits"],
        also: &[],
        why: "the older limits, one process at a time",
        of_whole: false,
    },
    Group {
        name: "powers",
        ids: &[
            "cwd",
            "seccomp",
            "bounding-set",
            "user",
            "capabilities",
            "no-new-privileges",
        ],
        also: &[],
        why: "few system calls, few of root's powers, one user",
        of_whole: true,
    },
];

impl Group {
    /// Whether a step that comes right behind one of the group is told with it.
    pub fn takes(&self, next: &Told) -> bool {
        !next.failed() && (group_of(next) == Some(self) || self.also.contains(&next.id.as_str()))
    }
}

/// The group that a step is told in.
pub(super) fn group_of(step: &Told) -> Option<&'static Group> {
    // What fails is told alone.
    if step.failed() {
        return None;
    }
    GROUPS.iter().find(|g| {
        g.ids.iter().any(|id| match id.ends_with(['-', '/']) {
            true => step.id.starts_with(id),
            false => step.id == *id,
        })
    })
}

/// Arguments as a story tells them: 64-digit ids by their first twelve, long paths by their end,
/// without the directory descriptor that says "from here".
pub(super) fn short(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        out += if run.len() >= 40 { &run[..12] } else { &run };
        run.clear();
        out.push(c);
    }
    out.pop();
    let out = out.replace("AT_FDCWD, ", "").replace("|CLONE_PIDFD", "");
    let mut parts = Vec::new();
    for (i, part) in out.split('"').enumerate() {
        let path = i % 2 == 1 && part.starts_with('/');
        parts.push(if path {
            from_the_end(part, 36)
        } else {
            part.to_string()
        });
    }
    parts.join("\"")
}

/// A path's last components: in a story the file's name matters most.
pub(super) fn from_the_end(path: &str, width: usize) -> String {
    if path.chars().count() <= width {
        return path.to_string();
    }
    let mut tail = String::new();
    for part in path.rsplit('/') {
        if tail.chars().count() + part.chars().count() + 2 > width && !tail.is_empty() {
            break;
        }
        tail = match tail.is_empty() {
            true => part.to_string(),
            false => format!("{part}/{tail}"),
        };
    }
    format!("…/{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_keep_their_end_and_ids_their_beginning() {
        assert_eq!(from_the_end("memory.max", 20), "memory.max");
        assert_eq!(
            from_the_end("/sys/fs/cgroup/glassbox/abc/memory.max", 20),
            "…/abc/memory.max"
        );
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            short(&format!("AT_FDCWD, \"/x/{id}\"")),
            "\"/x/0123456789ab\""
        );
        assert_eq!(short("12, \"cafe\""), "12, \"cafe\"");
    }
}
