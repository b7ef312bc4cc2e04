//! Pure parsers of what /proc says about a process.
//!
//! What it implements: proc_pid_status(5), proc_pid_stat(5), proc_pid_limits(5),
//! proc_pid_net(5) (`dev`, `tcp`, `udp`).
//! Interface: [`Status`], [`limits`], [`interfaces`], [`listening`], [`utc`].
//! Read next: `process.rs`.

use super::model::{Interface, Listening, Rlimit};
use std::net::{Ipv4Addr, Ipv6Addr};

/// /proc/PID/status: `Key:\tvalue` lines.
#[derive(Debug, Clone, Default)]
pub struct Status(Vec<(String, String)>);

impl Status {
    /// Takes the lines apart. A name with a colon in it is no danger: the first colon counts, and
    /// the kernel escapes newlines in `Name`.
    pub fn parse(text: &str) -> Status {
        let lines = text.lines().filter_map(|l| l.split_once(':'));
        Status(lines.map(|(k, v)| (k.into(), v.trim().into())).collect())
    }
    /// The value of a key, or the reason: this kernel does not print it.
    pub fn get(&self, key: &str) -> Result<&str, String> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .ok_or_else(|| format!("this kernel prints no {key}"))
    }
    /// A number.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.get(key)?;
        text.parse()
            .map_err(|_| format!("{key}: {text:?} is no number"))
    }
    /// Numbers separated by white space.
    pub fn numbers(&self, key: &str) -> Result<Vec<u32>, String> {
        let words = self.get(key)?.split_whitespace();
        words
            .map(|w| w.parse().map_err(|_| format!("{key}: {w:?} is no number")))
            .collect()
    }
    /// A capability set.
    pub fn bits(&self, key: &str) -> Result<u64, String> {
        let text = self.get(key)?;
        u64::from_str_radix(text, 16).map_err(|_| format!("{key}: {text:?} is no bit set"))
    }
}

/// The word for a state letter.
pub fn state_word(text: &str) -> String {
    match text.chars().next() {
        Some('R') => "running",
        Some('S') => "sleeping",
        Some('D') => "disk sleep",
        Some('T') => "stopped",
        Some('t') => "traced",
        Some('Z') => "zombie",
        Some('X' | 'x') => "dead",
        Some('I') => "idle",
        _ => text,
    }
    .to_string()
}

/// `btime` of /proc/stat: the boot, in seconds since 1970.
pub fn boot_time(stat: &str) -> Option<u64> {
    stat.lines()
        .find_map(|l| l.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// Seconds since 1970 as `2026-11-24T01:02:03Z` (days to date by the rules of the Gregorian
/// calendar, counted in years that start in March so that the leap day is the last).
pub fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        time / 3600,
        time / 60 % 60,
        time % 60
    )
}

/// The lines of /proc/PID/limits: its words → getrlimit(2)'s names.
const LIMITS: &[(&str, &str)] = &[
    ("Max cpu time", "RLIMIT_CPU"),
    ("Max file size", "RLIMIT_FSIZE"),
    ("Max data size", "RLIMIT_DATA"),
    ("Max stack size", "RLIMIT_STACK"),
    ("Max core file size", "RLIMIT_CORE"),
    ("Max resident set", "RLIMIT_RSS"),
    ("Max processes", "RLIMIT_NPROC"),
    ("Max open files", "RLIMIT_NOFILE"),
    ("Max locked memory", "RLIMIT_MEMLOCK"),
    ("Max address space", "RLIMIT_AS"),
    ("Max file locks", "RLIMIT_LOCKS"),
    ("Max pending signals", "RLIMIT_SIGPENDING"),
    ("Max msgqueue size", "RLIMIT_MSGQUEUE"),
    ("Max nice priority", "RLIMIT_NICE"),
    ("Max realtime priority", "RLIMIT_RTPRIO"),
    ("Max realtime timeout", "RLIMIT_RTTIME"),
];

/// /proc/PID/limits.
pub fn limits(text: &str) -> Vec<Rlimit> {
    let number = |word: &str| word.parse::<u64>().ok(); // "unlimited" is none
    text.lines()
        .filter_map(|line| {
            let (words, name) = LIMITS.iter().find(|(words, _)| line.starts_with(words))?;
            let mut fields = line[words.len()..].split_whitespace();
            Some(Rlimit {
                name: (*name).to_string(),
                soft: number(fields.next()?),
                hard: number(fields.next()?),
                unit: fields.next().unwrap_or("").to_string(),
            })
        })
        .collect()
}

/// /proc/PID/net/dev.
pub fn interfaces(text: &str) -> Vec<Interface> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.split_once(':')?;
            let mut numbers = numbers.split_whitespace().map(|n| n.parse().ok());
            Some(Interface {
                name: name.trim().to_string(),
                received: numbers.next()??,
                sent: numbers.nth(7)??,
            })
        })
        .collect()
}

/// /proc/PID/net/{tcp,tcp6,udp,udp6}: the sockets that wait. TCP says so by its state, LISTEN
/// (0A); UDP knows no such state, so unconnected ones (07) count.
pub fn listening(protocol: &str, text: &str) -> Vec<Listening> {
    let waiting = if protocol.starts_with("tcp") {
        "0A"
    } else {
        "07"
    };
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = fields.get(1)?.split_once(':')?;
            (*fields.get(3)? == waiting).then_some(Listening {
                protocol: protocol.to_string(),
                address: socket_address(address)?,
                port: u32::from_str_radix(port, 16).ok()?,
                inode: fields.get(9)?.parse().ok()?,
            })
        })
        .collect()
}

/// The kernel prints an address as 32-bit words in the machine's byte order, in hex.
fn socket_address(hex: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(Ipv6Addr::from(sixteen).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let status = Status::parse("Name:\ta:b c\nUid:\t0\t1\t2\t3\nCapEff:\t00000000a80425fb\n");
        assert_eq!(status.get("Name").unwrap(), "a:b c");
        assert_eq!(status.numbers("Uid").unwrap(), [0, 1, 2, 3]);
        assert_eq!(status.bits("CapEff").unwrap(), 0xa804_25fb);
        assert_eq!(
            status.get("NSpid").unwrap_err(),
            "this kernel prints no NSpid"
        );
    }

    #[test]
    fn the_boot_is_read() {
        assert_eq!(boot_time("cpu 1\nbtime 99\n"), Some(99));
    }

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(utc(1_795_481_384), "2026-11-24T00:49:44Z");
    }

    #[test]
    fn limits_by_their_names() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 524288               files     \n\
                    Max nice priority         0                    0                    \n";
        let all = limits(text);
        assert_eq!(all.len(), 3);
        assert_eq!((all[0].soft, all[0].unit.as_str()), (None, "seconds"));
        assert_eq!(
            (all[1].name.as_str(), all[1].hard),
            ("RLIMIT_NOFILE", Some(524_288))
        );
        assert_eq!(all[2].unit, "");
    }

    #[test]
    fn sockets_and_interfaces() {
        let text = "  sl  local_address rem_address st\n\
             0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 777 1\n\
             1: 0100007F:1F91 00000000:0000 01 0:0 0:0 0 0 0 778 1\n";
        let found = listening("tcp", text);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].address.as_str(), found[0].port),
            ("127.0.0.1", 8080)
        );
        assert_eq!(found[0].inode, 777);
        assert_eq!(socket_address(&"0".repeat(32)).unwrap(), "::");
        let dev = "Inter-|\n face |\n    lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n";
        let lo = &interfaces(dev)[0];
        assert_eq!((lo.name.as_str(), lo.received, lo.sent), ("lo", 10, 20));
    }
}
