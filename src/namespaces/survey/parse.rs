//! Parsers of the kernel's text about processes and mounts, as pure functions.
//!
//! What it implements: proc_pid_stat(5), proc_pid_mountinfo(5), proc_pid_cmdline(5).
//! Interface: [`stat`], [`nsfs_mounts`], [`command_line`]. Read next: `scan.rs`.

use crate::host::process::parse_stat;
use crate::namespaces::Kind;

/// The few fields of /proc/PID/stat that the survey needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The name of the program, at most 15 bytes.
    pub comm: String,
    /// One letter: `R`, `S`, `Z`…
    pub state: char,
    /// How many threads.
    pub threads: usize,
    /// When it started, in clock ticks after boot.
    pub start: u64,
}

/// Parses /proc/PID/stat.
pub fn stat(text: &str) -> Option<Stat> {
    let stat = parse_stat(text)?;
    Some(Stat {
        state: stat.state,
        threads: usize::try_from(stat.num_threads).ok()?,
        start: stat.starttime,
        comm: stat.comm,
    })
}

/// The namespaces that are bind-mounted, out of /proc/PID/mountinfo: kind, id, mount point.
pub fn nsfs_mounts(mountinfo: &str) -> Vec<(Kind, u64, String)> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            if right.split(' ').next() != Some("nsfs") {
                return None;
            }
            let mut fields = left.split(' ').skip(3);
            let (kind, id) = Kind::parse_link(fields.next()?)?;
            Some((kind, id, unescape(fields.next()?)))
        })
        .collect()
}

/// Undoes the kernel's octal escapes (`\040` for a space) in a path of mountinfo.
pub fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// /proc/PID/cmdline as one line; `[comm]` where it is empty, as for kernel threads.
pub fn command_line(cmdline: &[u8], comm: &str) -> String {
    let words: Vec<String> = cmdline
        .split(|b| *b == 0)
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    let line = words.join(" ");
    let line: String = line
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.is_empty() {
        format!("[{comm}]")
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_may_look_like_the_end_of_itself() {
        let text = "42 (a) S (b) R 1 42 42 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 3 0 777 1 2 3 \
                    4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27\n";
        let stat = stat(text).unwrap();
        assert_eq!(stat.comm, "a) S (b");
        assert_eq!((stat.state, stat.threads, stat.start), ('R', 3, 777));
    }

    #[test]
    fn only_namespace_mounts_are_taken() {
        let text = "\
36 25 0:4 net:[4026532277] /run/net\\040ns/blue rw shared:5 - nsfs nsfs rw
37 25 0:4 mnt:[4026532278] /run/mnt rw - nsfs nsfs rw
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
short line
";
        assert_eq!(
            nsfs_mounts(text),
            [
                (Kind::Net, 4026532277, "/run/net ns/blue".to_string()),
                (Kind::Mnt, 4026532278, "/run/mnt".to_string()),
            ]
        );
    }

    #[test]
    fn command_lines_become_one_line() {
        assert_eq!(command_line(b"sleep\x00100\x00", "sleep"), "sleep 100");
        assert_eq!(command_line(b"", "kthreadd"), "[kthreadd]");
        assert_eq!(command_line(b"sh\0-c\0a\nb\0", "sh"), "sh -c a b");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".*") {
            let _ = stat(&text);
            let _ = nsfs_mounts(&text);
            let _ = unescape(&text);
            let _ = command_line(text.as_bytes(), &text);
        }
    }
}
