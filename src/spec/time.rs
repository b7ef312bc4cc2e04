//! Times as the documents write them, and docker: RFC 3339 with nanoseconds, "Up 3 minutes", "2 hours ago".
//!
//! What it implements: RFC 3339, RFC 9110's dates, and the proleptic Gregorian calendar by Howard Hinnant's
//! public-domain day-count algorithms. Times are UTC.
//! Interface: [`Time`], [`parse_http`], [`human`]. Read next: `digest.rs`.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time: nanoseconds since the epoch. Zero means "never" and prints as docker's
/// `0001-01-01T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Now.
    pub fn now() -> Time {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time(since.as_nanos() as u64)
    }
    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
    /// Seconds that have passed since then.
    pub fn age(self) -> u64 {
        Time::now().0.saturating_sub(self.0) / 1_000_000_000
    }
    /// Reads what `logs --since` takes: RFC 3339 (date alone, with or without zone), seconds since
    /// the epoch with a fraction, or a duration before now (`10m`, `1h30m`).
    pub fn parse_flag(text: &str) -> Result<Time> {
        let bad = || {
            Error::kind(Kind::Usage, format!("invalid time {text:?}"))
                .hint("use 2026-01-31T12:00:00Z, seconds since the epoch, or a duration as 10m")
        };
        if let Some(time) = parse_rfc3339(text) {
            return Ok(time);
        }
        if let Ok(seconds) = text.parse::<f64>()
            && seconds >= 0.0
        {
            return Ok(Time((seconds * 1e9) as u64));
        }
        let ago = parse_duration(text).ok_or_else(bad)?;
        Ok(Time(Time::now().0.saturating_sub(ago)))
    }
}

/// A date of HTTP: `Wed, 21 Oct 2015 07:28:00 GMT` (RFC 9110, IMF-fixdate).
pub fn parse_http(text: &str) -> Option<Time> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, clock, "GMT"] = words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    parse_rfc3339(&format!("{year}-{month:02}-{day}T{clock}Z"))
}

/// A duration as Go writes it (`1h30m`, `1.5s`, `250ms`) in nanoseconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(total as u64)
}

fn parse_rfc3339(text: &str) -> Option<Time> {
    if text == "0001-01-01T00:00:00Z" {
        return Some(Time(0));
    }
    let (date, rest) = match text.split_once(['T', 't']) {
        Some((date, rest)) => (date, rest),
        None => (text, "00:00:00Z"),
    };
    let mut parts = date.splitn(3, '-');
    let year: i64 = parts.next().filter(|y| y.len() == 4)?.parse().ok()?;
    let month: u32 = parts.next().filter(|m| m.len() == 2)?.parse().ok()?;
    let day: u32 = parts.next().filter(|d| d.len() == 2)?.parse().ok()?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let (clock, zone) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let offset: i64 = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            if zone.starts_with('-') {
                -seconds
            } else {
                seconds
            }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let hour: u64 = parts.next()?.parse().ok().filter(|h| *h < 24)?;
    let minute: u64 = parts.next()?.parse().ok().filter(|m| *m < 60)?;
    let second: u64 = parts
        .next()
        .unwrap_or("0")
        .parse()
        .ok()
        .filter(|s| *s < 61)?;
    let nanos: u64 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<9}").get(..9)?.parse().ok()?
    };
    let seconds = days_from_civil(year, month, day) * 86400
        + (hour * 3600 + minute * 60 + second) as i64
        - offset;
    Some(Time(u64::try_from(seconds).ok()? * 1_000_000_000 + nanos))
}

/// Days since 1970-01-01 of a civil date.
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year =
        (153 * (i64::from(month) + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The civil date of a count of days since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

impl fmt::Display for Time {
    /// RFC 3339 with nanoseconds in UTC. With `{:#}` as docker's `CreatedAt`:
    /// `2026-01-31 12:00:00 +0000 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (year, month, day) = civil_from_days((seconds / 86400) as i64);
        let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        if f.alternate() {
            return write!(
                f,
                "{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} +0000 UTC"
            );
        }
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z"
        )
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom(format!("bad time {text:?}")))
    }
}

/// A number of seconds in docker's words: `Less than a second`, `5 seconds`, `About a minute`,
/// `3 hours`, `2 days`.
pub fn human(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back() {
        for text in [
            "2026-11-24T01:04:12.123456789Z",
            "2000-02-29T23:59:59.000000000Z",
            "1970-01-01T00:00:01.000000000Z",
        ] {
            assert_eq!(parse_rfc3339(text).unwrap().to_string(), text);
        }
        assert_eq!(Time(0).to_string(), "0001-01-01T00:00:00Z");
        let date = parse_http("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        assert_eq!(date.to_string(), "2015-10-21T07:28:00.000000000Z");
        assert_eq!(parse_http("Wed, 21 Okt 2015 07:28:00 GMT"), None);
        assert_eq!(parse_http("120"), None);
        let zone = parse_rfc3339("2026-01-01T01:00:00+01:00").unwrap();
        assert_eq!(zone.to_string(), "2026-01-01T00:00:00.000000000Z");
        assert_eq!(format!("{zone:#}"), "2026-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn flags_take_three_forms() {
        assert_eq!(Time::parse_flag("1.5").unwrap().0, 1_500_000_000);
        assert_eq!(
            Time::parse_flag("2026-01-01").unwrap().seconds(),
            1_767_225_600
        );
        assert!(Time::parse_flag("1h30m").unwrap() < Time::now());
        assert_eq!(parse_duration("1h30m"), Some(5_400_000_000_000));
        assert!(Time::parse_flag("soon").is_err());
    }

    #[test]
    fn ages_in_words() {
        let words: Vec<String> = [0, 1, 59, 61, 150, 3700, 90_000, 200_000, 5_000_000]
            .map(human)
            .into();
        assert_eq!(
            words.join(", "),
            "Less than a second, 1 second, 59 seconds, About a minute, 2 minutes, \
             About an hour, 25 hours, 2 days, 8 weeks"
        );
    }
}
