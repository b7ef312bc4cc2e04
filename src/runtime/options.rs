//! Mount options: from the words of config.json to the kernel's flags.
//!
//! What it does: sorts the option strings of a mount into attributes of the mount itself, the
//! propagation, flags about how to bind, and what is left, which is data for the file system.
//! Pure. What it implements: runtime-spec "Mounts" (Linux), mount(8), mount_setattr(2).
//! Interface: [`MountOptions::parse`]. Read next: `mount.rs`.

use crate::error::{Error, Kind, Result};
use crate::sys::mount::MOUNT_ATTRS;
use std::path::PathBuf;

/// What the options of one mount mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `bind` or `rbind` was given: no file system is made, `source` appears a second time.
    pub bind: bool,
    /// `rbind`: with everything mounted below the source.
    pub recursive: bool,
    /// `MOUNT_ATTR_*` to set on the mount itself.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear on the mount itself.
    pub clear: u64,
    /// `MOUNT_ATTR_*` to set on all mounts below as well (`rro`, `rnosuid`, …).
    pub set_below: u64,
    /// `MOUNT_ATTR_*` to clear on all mounts below as well (`rrw`, …).
    pub clear_below: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0.
    pub propagation: u64,
    /// Whether the propagation is for all mounts below as well (`rprivate`, …).
    pub propagation_below: bool,
    /// `tmpcopyup` for a tmpfs, `copyup` for a bind (our own word): what is mounted starts with
    /// what lies at its place, if it is empty.
    pub copy_up: bool,
    /// `mntns=FILE` (our own word): the source of a bind is a path in that mount namespace.
    pub namespace: Option<PathBuf>,
    /// `subpath=PATH` (our own word): of the source of a bind only this path, which is resolved
    /// with the source as its root.
    pub subpath: Option<PathBuf>,
    /// `remount`: nothing is mounted, what an earlier entry has mounted there gets these options.
    pub remount: bool,
    /// `idmap` (false) or `ridmap` (true): the bind mount gets an id map.
    pub idmap: Option<bool>,
    /// The rest, in order: options of the file system.
    pub data: Vec<String>,
}

const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
/// The field of the access times.
pub const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;

/// (option, attributes to set, attributes to clear); with an `r` in front it goes for all below.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", libc::MOUNT_ATTR_RDONLY, 0),
    ("rw", 0, libc::MOUNT_ATTR_RDONLY),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, 0),
    ("suid", 0, libc::MOUNT_ATTR_NOSUID),
    ("nodev", libc::MOUNT_ATTR_NODEV, 0),
    ("dev", 0, libc::MOUNT_ATTR_NODEV),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, 0),
    ("exec", 0, libc::MOUNT_ATTR_NOEXEC),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, 0),
    ("diratime", 0, libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, libc::MOUNT_ATTR_NOSYMFOLLOW),
    // The access times are one field of three values: setting one means clearing the field.
    ("relatime", 0, ATIME),
    ("norelatime", STRICTATIME, ATIME),
    ("noatime", NOATIME, ATIME),
    ("atime", 0, ATIME),
    ("strictatime", STRICTATIME, ATIME),
    ("nostrictatime", 0, ATIME),
];

/// The options that [`MountOptions::add`] takes by name.
const WORDS: &[&str] = &[
    "bind",
    "copyup",
    "defaults",
    "idmap",
    "rbind",
    "remount",
    "ridmap",
    "tmpcopyup",
];

/// Options that are passed on, and that the kernel itself takes for every file system.
const OF_ALL: &[&str] = &[
    "async",
    "dirsync",
    "lazytime",
    "mand",
    "nolazytime",
    "nomand",
    "sync",
];

/// Options that once were flags of mount(2), and that a mount made by fsopen(2) cannot have: it
/// tells its failures through a descriptor, and file systems count versions by their own rule.
const OF_OLD: &[&str] = &["iversion", "loud", "noiversion", "silent"];

const PROPAGATIONS: &[(&str, u64)] = &[
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl MountOptions {
    /// Sorts `options`. Errors: options of which one forbids the other.
    pub fn parse(options: &[String]) -> Result<MountOptions> {
        let mut parsed = MountOptions::default();
        for option in options {
            parsed.add(option);
        }
        let anew = parsed.copy_up || parsed.namespace.is_some() || parsed.subpath.is_some();
        if parsed.remount && (anew || parsed.idmap.is_some()) {
            return Err(Error::kind(
                Kind::Usage,
                format!(
                    "the mount options {:?} contradict each other",
                    options.join(",")
                ),
            )
            .hint(
                "`remount` changes what is mounted already; the others are for what is not yet",
            ));
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "defaults" | "" => {}
            old if OF_OLD.contains(&old) => {}
            "tmpcopyup" | "copyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "remount" => self.remount = true,
            _ => match option.split_once('=') {
                Some(("mntns", file)) => self.namespace = Some(file.into()),
                Some(("subpath", path)) => self.subpath = Some(path.into()),
                _ => self.add_flag(option),
            },
        }
    }

    fn add_flag(&mut self, option: &str) {
        let find = |name: &str| ATTRIBUTES.iter().find(|a| a.0 == name);
        let below = option.strip_prefix('r').and_then(find);
        if let Some((_, set, clear)) = find(option) {
            (self.set, self.clear) = join(self.set, self.clear, *set, *clear);
        } else if let Some((_, set, clear)) = below {
            (self.set_below, self.clear_below) =
                join(self.set_below, self.clear_below, *set, *clear);
        } else if let Some((_, flag)) = PROPAGATIONS.iter().find(|p| p.0 == option) {
            (self.propagation, self.propagation_below) = (*flag, false);
        } else if let Some((_, flag)) = PROPAGATIONS
            .iter()
            .find(|p| option.strip_prefix('r') == Some(p.0))
        {
            (self.propagation, self.propagation_below) = (*flag, true);
        } else {
            self.data.push(option.to_string());
        }
    }

    /// The attributes set on a fresh mount, by name.
    pub fn names(&self) -> String {
        crate::sys::flag_names(self.set, MOUNT_ATTRS)
    }
}

/// Every option that is known for all mounts, sorted; others are the file system's.
pub fn names() -> Vec<String> {
    let words = [WORDS, OF_ALL, OF_OLD].concat();
    let mut names: Vec<String> = words.iter().map(|w| w.to_string()).collect();
    let attributes = ATTRIBUTES.iter().map(|a| a.0);
    for name in attributes.chain(PROPAGATIONS.iter().map(|p| p.0)) {
        names.extend([name.to_string(), format!("r{name}")]);
    }
    names.sort();
    names
}

/// A later option wins over an earlier one about the same attribute.
fn join(set: u64, clear: u64, more_set: u64, more_clear: u64) -> (u64, u64) {
    (
        (set & !more_clear) | more_set,
        (clear & !more_set) | more_clear,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|s| s.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn attributes_propagation_and_data_are_told_apart() {
        let m = parse(&["nosuid", "rro", "rslave", "mode=755", "size=64k", "rbind"]);
        assert_eq!(m.set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(m.set_below, libc::MOUNT_ATTR_RDONLY);
        assert_eq!((m.propagation, m.propagation_below), (libc::MS_SLAVE, true));
        assert_eq!(m.data, ["mode=755", "size=64k"]);
        assert!(m.bind && m.recursive);
    }

    #[test]
    fn what_is_announced_is_understood() {
        for name in names() {
            let m = parse(&[&name]);
            if OF_ALL.contains(&name.as_str()) {
                assert_eq!(m.data, [name]);
                continue;
            }
            assert!(m.data.is_empty(), "{name} is passed on to the file system");
            let vain = name == "defaults" || OF_OLD.contains(&name.as_str());
            assert!(vain || m != MountOptions::default() || clears(&name));
        }
        // These take away what nobody has set.
        fn clears(name: &str) -> bool {
            parse(&[name]).clear != 0 || parse(&[name]).clear_below != 0
        }
    }

    #[test]
    fn the_last_word_counts() {
        let m = parse(&["ro", "rw", "noatime", "relatime"]);
        assert_eq!((m.set, m.clear), (0, libc::MOUNT_ATTR_RDONLY | ATIME));
        let m = parse(&["rw", "ro"]);
        assert_eq!((m.set, m.clear), (libc::MOUNT_ATTR_RDONLY, 0));
    }
}
