//! What a new UTS, time or network namespace is given: names, clock offsets, a loopback device.
//!
//! What it does: sets the host name and the NIS domain name, shifts the clocks, brings `lo` up.
//!
//! What it implements: uts_namespaces(7), sethostname(2); time_namespaces(7); network_namespaces(7),
//! netdevice(7). The order in a time namespace matters: the offsets can be written only while no
//! process is in it. unshare(CLONE_NEWTIME) puts nobody in (it is for the next children), so the
//! caller unshares, writes /proc/self/timens_offsets, and then joins the namespace itself by
//! setns on its own time_for_children. That needs no fork, works in any user namespace that the
//! caller owns, and on every kernel with time namespaces.
//!
//! Interface: [`SetHostname`], [`SetDomainname`], [`TimeOffsets`], [`LoopbackUp`].
//! Read next: `mounts.rs`.

use crate::error::{Context, Error, Kind as ErrorKind, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::namespaces::{Kind, refusal::refused};
use crate::sys::{self, namespace as ns};
use std::fmt;
use std::str::FromStr;

/// Sets the host name of the caller's UTS namespace.
#[derive(Debug)]
pub struct SetHostname {
    /// At most 64 bytes.
    pub name: String,
}

impl Action for SetHostname {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("sethostname", format!("{:?}", self.name))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        ns::sethostname(&self.name).map_err(|e| name_refused("host", &self.name, e))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![uname_fact("host name", |u| u.nodename())]
    }
    fn expected(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

/// Sets the NIS domain name of the caller's UTS namespace.
#[derive(Debug)]
pub struct SetDomainname {
    /// At most 64 bytes.
    pub name: String,
}

impl Action for SetDomainname {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new("setdomainname", format!("{:?}", self.name))]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        ns::setdomainname(&self.name).map_err(|e| name_refused("domain", &self.name, e))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![uname_fact("domain name", |u| u.domainname())]
    }
    fn expected(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

/// uname(2) rather than /proc/sys/kernel, for init may have no /proc any more.
fn uname_fact(what: &str, field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr) -> Fact {
    Fact {
        what: what.into(),
        value: nix::sys::utsname::uname()
            .map(|u| field(&u).to_string_lossy().into_owned())
            .map_err(sys::describe_errno),
        source: "uname(2)".into(),
    }
}

fn name_refused(which: &str, name: &str, e: sys::SysError) -> Error {
    let hint = match e.errno {
        sys::Errno::EINVAL => Some(format!(
            "a name has at most 64 bytes; this has {}",
            name.len()
        )),
        sys::Errno::EPERM => Some(
            "the name belongs to the UTS namespace, and setting it needs CAP_SYS_ADMIN in the \
             user namespace that owns it: add --uts, and --user without root"
                .into(),
        ),
        _ => None,
    };
    let error = Error::new(format!("cannot set the {which} name to {name:?}"))
        .caused_by(e)
        .topic("uts-namespaces");
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// A clock's offset: what a time namespace adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeOffset {
    /// Whole seconds, negative for the past.
    pub seconds: i64,
    /// Nanoseconds to add, below 10⁹.
    pub nanoseconds: u32,
}

impl FromStr for TimeOffset {
    type Err = Error;
    /// Parses seconds (`86400`, `-1.5`), or a number with one of the units s, m, h, d.
    fn from_str(text: &str) -> Result<TimeOffset> {
        let bad = || {
            Error::kind(ErrorKind::Usage, format!("bad clock offset {text:?}"))
                .hint("write seconds, such as 3600 or -0.5, or a number with s, m, h or d")
                .topic("time-namespaces")
        };
        let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
            Some(number) => (number, text.as_bytes()[text.len() - 1]),
            None => (text, b's'),
        };
        let scale: i128 = match unit {
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86400,
            _ => 1,
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let empty_fraction = digits.contains('.') && fraction.is_empty();
        if whole.is_empty()
            || empty_fraction
            || !all_digits(whole)
            || !all_digits(fraction)
            || fraction.len() > 9
        {
            return Err(bad());
        }
        let nanos: i128 = format!("{whole}{fraction:0<9}")
            .parse()
            .map_err(|_| bad())?;
        let nanos = nanos.checked_mul(scale).ok_or_else(bad)? * if negative { -1 } else { 1 };
        Ok(TimeOffset {
            seconds: nanos
                .div_euclid(1_000_000_000)
                .try_into()
                .map_err(|_| bad())?,
            nanoseconds: nanos.rem_euclid(1_000_000_000) as u32,
        })
    }
}

impl fmt::Display for TimeOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seconds, self.nanoseconds)
    }
}

/// Makes a time namespace, sets its offsets, and enters it. See this file's opening for why it is
/// three calls in this order.
#[derive(Debug)]
pub struct TimeOffsets {
    /// Added to `CLOCK_MONOTONIC`, if given.
    pub monotonic: Option<TimeOffset>,
    /// Added to `CLOCK_BOOTTIME` (what uptime(1) shows), if given.
    pub boottime: Option<TimeOffset>,
}

impl TimeOffsets {
    fn lines(&self) -> Vec<String> {
        let line = |clock: &str, offset: Option<TimeOffset>| offset.map(|o| format!("{clock} {o}"));
        [
            line("monotonic", self.monotonic),
            line("boottime", self.boottime),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

const OFFSETS: &str = "/proc/self/timens_offsets";
const FOR_CHILDREN: &str = "/proc/self/ns/time_for_children";

impl Action for TimeOffsets {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = vec![Planned::new("unshare", "CLONE_NEWTIME")];
        let lines = self.lines();
        if !lines.is_empty() {
            calls.push(Planned::new(
                "write",
                format!("{OFFSETS} ← {}", lines.join("; ")),
            ));
        }
        calls.push(Planned::new(
            "setns",
            format!("{FOR_CHILDREN}, CLONE_NEWTIME"),
        ));
        calls
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        let flag = Kind::Time.flag();
        ns::unshare(flag).map_err(|e| refused("create", flag, e))?;
        let lines = self.lines();
        if !lines.is_empty() {
            sys::fs::write_file(OFFSETS, &format!("{}\n", lines.join("\n"))).map_err(|e| {
                let range = e.errno == sys::Errno::ERANGE;
                let error = Error::new("cannot set the clocks of the time namespace")
                    .caused_by(e)
                    .topic("time-namespaces");
                if range {
                    error.hint(
                        "no clock may read below zero: an offset cannot go back further than this \
                         host has been up, nor forward more than 146 years",
                    )
                } else {
                    error
                }
            })?;
        }
        let file = ns::open_ns(FOR_CHILDREN).context("cannot open the new time namespace")?;
        ns::setns(file, flag).map_err(|e| refused("enter", flag, e))
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let mut offsets = Fact::from_file("clock offsets", OFFSETS);
        if let Ok(text) = &mut offsets.value {
            let lines: Vec<String> = text
                .lines()
                .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            *text = lines.join("; ");
        }
        vec![
            Fact::from_link("time namespace", "/proc/self/ns/time"),
            offsets,
        ]
    }
}

/// Brings the loopback device of the caller's network namespace up. A new network namespace has
/// nothing but a loopback device, and that is down: not even 127.0.0.1 answers.
#[derive(Debug)]
pub struct LoopbackUp;

impl Action for LoopbackUp {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "ioctl",
            "SIOCSIFFLAGS, lo, IFF_UP|IFF_RUNNING",
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        sys::socket::set_interface_up("lo").context("cannot bring the loopback device up")
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        vec![Fact {
            what: "lo".into(),
            value: sys::socket::interface_is_up("lo")
                .map(|up| if up { "up" } else { "down" }.to_string())
                .map_err(|e| e.to_string()),
            source: "ioctl(SIOCGIFFLAGS)".into(),
        }]
    }
    fn expected(&self) -> Option<String> {
        Some("up".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_parsed_exactly() {
        let parse = |s: &str| {
            s.parse::<TimeOffset>()
                .map(|o| (o.seconds, o.nanoseconds))
                .ok()
        };
        assert_eq!(parse("86400"), Some((86400, 0)));
        assert_eq!(parse("1.5"), Some((1, 500_000_000)));
        // −0.5 s is −1 s and +0.5 s: the kernel's nanoseconds are never negative.
        assert_eq!(parse("-0.5"), Some((-1, 500_000_000)));
        assert_eq!(parse("2d"), Some((172_800, 0)));
        assert_eq!(parse("1.5h"), Some((5400, 0)));
        assert_eq!(parse("+7m"), Some((420, 0)));
        for bad in [
            "",
            "-",
            "x",
            "1.",
            "1.0000000001",
            "1 d",
            ".5",
            "99999999999999999999d",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
