//! Id maps: which user or group id outside is meant by an id inside a user namespace.
//!
//! What it does: parses and prints the lines of /proc/PID/uid_map and gid_map, checks a map as
//! the kernel would, decides who is able to write it, and reads the subordinate ranges that an
//! administrator gave to a user.
//!
//! What it implements: "User and group ID mappings: uid_map and gid_map" of user_namespaces(7);
//! subuid(5), subgid(5). The file's format, a line a range, at most 340 of them:
//!
//! ```text
//!  INSIDE  OUTSIDE  COUNT
//!       0     1000      1      root inside is user 1000 outside
//!       1   100000  65535      and 1…65535 inside are 100000…165534 outside
//! ```
//!
//! Interface: [`IdMap`], [`parse_maps`], [`map_writer`], [`subordinate_ranges`].
//! Read next: `actions/idmaps.rs`, which writes them.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The most lines that the kernel takes in one map.
pub const MAX_LINES: usize = 340;

/// User ids or group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// User ids.
    Uid,
    /// Group ids.
    Gid,
}

impl IdKind {
    /// The file in /proc/PID that holds the map.
    pub fn map_file(self) -> &'static str {
        match self {
            IdKind::Uid => "uid_map",
            IdKind::Gid => "gid_map",
        }
    }
    /// The set-user-id program that writes a map for users who may not.
    pub fn program(self) -> &'static str {
        match self {
            IdKind::Uid => "newuidmap",
            IdKind::Gid => "newgidmap",
        }
    }
    /// The file that says which ids a user may have mapped.
    pub fn subordinate_file(self) -> &'static str {
        match self {
            IdKind::Uid => "/etc/subuid",
            IdKind::Gid => "/etc/subgid",
        }
    }
    /// `user` or `group`.
    pub fn word(self) -> &'static str {
        match self {
            IdKind::Uid => "user",
            IdKind::Gid => "group",
        }
    }
}

/// One range: `count` ids from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// The first id as the processes in the namespace see it.
    pub inside: u32,
    /// The first id as the parent user namespace sees it (in /proc, as its reader sees it).
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// A range of one.
    pub fn one(inside: u32, outside: u32) -> IdMap {
        IdMap {
            inside,
            outside,
            count: 1,
        }
    }
    /// What `id` inside is outside.
    pub fn outside_of(&self, id: u32) -> Option<u32> {
        let distance = id.checked_sub(self.inside)?;
        (distance < self.count).then(|| self.outside + distance)
    }
    /// What `id` outside is inside.
    pub fn inside_of(&self, id: u32) -> Option<u32> {
        let distance = id.checked_sub(self.outside)?;
        (distance < self.count).then(|| self.inside + distance)
    }
    /// The text that the kernel's file takes: a line a range.
    pub fn kernel_text(maps: &[IdMap]) -> String {
        maps.iter()
            .map(|m| format!("{} {} {}\n", m.inside, m.outside, m.count))
            .collect()
    }
    /// A map in words for a narration: `0→1000`, `1…65535→100000…165534`.
    pub fn in_words(maps: &[IdMap]) -> String {
        let range = |first: u32, count: u32| match count {
            1 => first.to_string(),
            n => format!("{first}…{}", u64::from(first) + u64::from(n) - 1),
        };
        let words: Vec<String> = maps
            .iter()
            .map(|m| format!("{}→{}", range(m.inside, m.count), range(m.outside, m.count)))
            .collect();
        words.join(", ")
    }
    /// Checks a whole map as the kernel does, so that the error can name the range.
    ///
    /// Errors: no range, more than [`MAX_LINES`], a range of none, one past the largest id, or two
    /// that overlap inside or outside.
    pub fn check(kind: IdKind, maps: &[IdMap]) -> Result<()> {
        let bad = |what: String| {
            Err(
                Error::kind(Kind::Usage, format!("bad {} id map: {what}", kind.word()))
                    .topic("user-namespaces"),
            )
        };
        if maps.is_empty() || maps.len() > MAX_LINES {
            return bad(format!(
                "{} ranges, and the kernel takes 1 to {MAX_LINES}",
                maps.len()
            ));
        }
        for (i, map) in maps.iter().enumerate() {
            if map.count == 0 {
                return bad(format!("the range {map} is empty"));
            }
            // 4294967295 is (uid_t)−1, "no change" in setresuid(2): it can never be mapped.
            if map.inside.checked_add(map.count).is_none()
                || map.outside.checked_add(map.count).is_none()
            {
                return bad(format!(
                    "the range {map} goes past the largest id, 4294967294"
                ));
            }
            let overlap = |a: u32, an: u32, b: u32, bn: u32| {
                a < b.saturating_add(bn) && b < a.saturating_add(an)
            };
            for other in &maps[..i] {
                if overlap(map.inside, map.count, other.inside, other.count) {
                    return bad(format!("the ranges {other} and {map} overlap inside"));
                }
                if overlap(map.outside, map.count, other.outside, other.count) {
                    return bad(format!("the ranges {other} and {map} overlap outside"));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for IdMap {
    /// `INSIDE:OUTSIDE:COUNT`, as the command line takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.outside, self.count)
    }
}

impl FromStr for IdMap {
    type Err = Error;
    /// Parses `INSIDE:OUTSIDE` or `INSIDE:OUTSIDE:COUNT`.
    fn from_str(text: &str) -> Result<IdMap> {
        let number = |s: &str| {
            s.parse::<u32>().map_err(|_| {
                Error::kind(
                    Kind::Usage,
                    format!("bad id map {text:?}: {s:?} is no id (0 to 4294967294)"),
                )
            })
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            [inside, outside] => Ok(IdMap::one(number(inside)?, number(outside)?)),
            [inside, outside, count] => Ok(IdMap {
                inside: number(inside)?,
                outside: number(outside)?,
                count: number(count)?,
            }),
            _ => Err(Error::kind(Kind::Usage, format!("bad id map {text:?}"))
                .hint("write INSIDE:OUTSIDE:COUNT, such as 0:100000:65536")),
        }
    }
}

/// Parses the text of /proc/PID/uid_map or gid_map. Lines that are no range are left out.
pub fn parse_maps(text: &str) -> Vec<IdMap> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().map(|w| w.parse::<u32>().ok());
            Some(IdMap {
                inside: words.next()??,
                outside: words.next()??,
                count: words.next()??,
            })
        })
        .collect()
}

/// The ranges that /etc/subuid or /etc/subgid gives to a user: (first id, how many). `names` are
/// the user's name and its id as text, for the file may hold either. See subuid(5).
pub fn subordinate_ranges(text: &str, names: &[&str]) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let first = fields.next()?.parse().ok()?;
            let count = fields.next()?.parse().ok()?;
            names.contains(&owner).then_some((first, count))
        })
        .collect()
}

/// What decides who can write a map: the caller's effective ids, and whether it has CAP_SETUID and
/// CAP_SETGID in its own user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
    /// CAP_SETUID is effective.
    pub setuid: bool,
    /// CAP_SETGID is effective.
    pub setgid: bool,
}

impl Caller {
    /// Reads the ids and capabilities of this process.
    pub fn current() -> Result<Caller> {
        let caps = crate::sys::cred::capget()?.effective;
        // Capability numbers of capabilities(7).
        const CAP_SETGID: u32 = 6;
        const CAP_SETUID: u32 = 7;
        Ok(Caller {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            setuid: caps & (1 << CAP_SETUID) != 0,
            setgid: caps & (1 << CAP_SETGID) != 0,
        })
    }
}

/// Who writes a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapWriter {
    /// The parent, with its capability: any map.
    Privileged,
    /// The one who made the namespace, without a capability: its own id alone. A group map then
    /// needs `deny` in /proc/PID/setgroups first.
    Own,
    /// newuidmap or newgidmap, which check /etc/subuid or /etc/subgid.
    Program,
}

/// Decides who has to write this map: the rules at the end of "uid_map and gid_map" in
/// user_namespaces(7).
pub fn map_writer(kind: IdKind, maps: &[IdMap], caller: &Caller) -> MapWriter {
    let (own, capable) = match kind {
        IdKind::Uid => (caller.uid, caller.setuid),
        IdKind::Gid => (caller.gid, caller.setgid),
    };
    if capable {
        return MapWriter::Privileged;
    }
    match maps {
        [one] if one.count == 1 && one.outside == own => MapWriter::Own,
        _ => MapWriter::Program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_text_is_parsed() {
        let text = "         0       1000          1\n         1     100000      65535\n";
        let maps = parse_maps(text);
        assert_eq!(maps.len(), 2);
        assert_eq!(maps[1].outside_of(1), Some(100000));
        assert_eq!(maps[1].outside_of(65536), None);
        assert_eq!(maps[1].inside_of(165534), Some(65535));
        assert_eq!(IdMap::in_words(&maps), "0→1000, 1…65535→100000…165534");
        assert_eq!(
            parse_maps("         0          0 4294967295\n")[0].count,
            u32::MAX
        );
    }

    #[test]
    fn bad_maps_name_the_range() {
        let message = |text: &str| {
            let maps: Vec<IdMap> = text.split(' ').map(|m| m.parse().unwrap()).collect();
            IdMap::check(IdKind::Uid, &maps).map_err(|e| e.message().to_string())
        };
        assert_eq!(message("0:1000:1 1:100000:65535"), Ok(()));
        assert_eq!(
            message("0:1000:2 1:100000:5"),
            Err("bad user id map: the ranges 0:1000:2 and 1:100000:5 overlap inside".into())
        );
        assert_eq!(
            message("0:1000:2 5:1001:5"),
            Err("bad user id map: the ranges 0:1000:2 and 5:1001:5 overlap outside".into())
        );
        assert_eq!(
            message("0:1000:0"),
            Err("bad user id map: the range 0:1000:0 is empty".into())
        );
        assert!(
            message("0:4294967295:1")
                .unwrap_err()
                .contains("largest id")
        );
        assert!("0".parse::<IdMap>().is_err());
        assert!("0:-1:1".parse::<IdMap>().is_err());
        assert!("0:1:2:3".parse::<IdMap>().is_err());
    }

    #[test]
    fn who_writes_follows_the_page() {
        let user = Caller {
            uid: 1000,
            gid: 1000,
            setuid: false,
            setgid: false,
        };
        let root = Caller {
            uid: 0,
            gid: 0,
            setuid: true,
            setgid: true,
        };
        let own = [IdMap::one(0, 1000)];
        let other = [IdMap::one(0, 1001)];
        assert_eq!(map_writer(IdKind::Uid, &own, &user), MapWriter::Own);
        assert_eq!(map_writer(IdKind::Uid, &other, &user), MapWriter::Program);
        assert_eq!(
            map_writer(IdKind::Uid, &other, &root),
            MapWriter::Privileged
        );
    }

    #[test]
    fn subordinate_ranges_by_name_or_number() {
        let text = "# none\nann:100000:65536\n1000:300000:10\nbob:1:1\nann:x:1\n";
        assert_eq!(
            subordinate_ranges(text, &["ann", "1000"]),
            [(100000, 65536), (300000, 10)]
        );
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(inside in 0..u32::MAX, outside in 0..u32::MAX, count in 1..u32::MAX) {
            let map = IdMap { inside, outside, count };
            prop_assert_eq!(map.to_string().parse::<IdMap>().unwrap(), map);
            prop_assert_eq!(parse_maps(&IdMap::kernel_text(&[map])), vec![map]);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = parse_maps(&text);
            let _ = text.parse::<IdMap>();
        }
    }
}
