//! The little languages of docker's flags: sizes, mounts, limits, devices, environment.
//!
//! What it does: parses the values of `run` and `create` flags, purely; an error names the flag's
//! value and says what would be right.
//!
//! What it implements: the formats of docker's command line reference for `docker run`.
//! Interface: one function a format. Read next: `config.rs`, which turns the result into
//! config.json.

use super::model::{DeviceMapping, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use crate::error::{Context, Error, Kind, Result};
use std::path::Path;

mod mounts;
mod networks;
mod ports;
pub use mounts::{Bind, bind, mount, volumes_from};
pub use networks::{address, network};
pub use ports::{container_port, expose, publish};

fn bad(what: impl Into<String>) -> Error {
    Error::kind(Kind::Usage, what.into())
}

/// `64m`, `1.5G`, `512`, `10MiB`: bytes, with binary units whatever their spelling.
pub fn bytes(text: &str) -> Result<i64> {
    let wrong = || {
        bad(format!("invalid size: '{text}'"))
            .hint("a number with an optional unit b, k, m, g, t or p, as 64m")
    };
    let lower = text.trim().to_ascii_lowercase();
    let split = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let number: f64 = lower[..split].parse().map_err(|_| wrong())?;
    let power = match lower[split..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(wrong()),
    };
    let value = number * 1024f64.powi(power);
    (value.is_finite() && value < i64::MAX as f64)
        .then_some(value as i64)
        .ok_or_else(wrong)
}

/// `--cpus 1.5` in billionths of a CPU.
pub fn nano_cpus(text: &str) -> Result<i64> {
    text.parse::<f64>()
        .ok()
        .filter(|n| n.is_finite() && *n >= 0.0 && *n < 1e6)
        .map(|n| (n * 1e9).round() as i64)
        .ok_or_else(|| bad(format!("invalid number of CPUs: {text:?}")).hint("as 1.5"))
}

/// `--ulimit NAME=SOFT[:HARD]`; `unlimited` or −1.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    let wrong = || {
        bad(format!("invalid ulimit argument: {text}"))
            .hint("NAME=SOFT[:HARD], as nofile=1024:2048")
    };
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let number = |t: &str| match t {
        "unlimited" | "-1" => Ok(-1),
        t => t.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(wrong),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if !RLIMITS.contains(&name) {
        return Err(bad(format!("invalid ulimit type: {name}"))
            .hint(format!("one of {}", RLIMITS.join(", "))));
    }
    if hard >= 0 && (soft > hard || soft < 0) {
        return Err(bad(format!(
            "ulimit soft limit must be less than or equal to hard limit: {text}"
        )));
    }
    Ok(Ulimit {
        name: name.into(),
        soft,
        hard,
    })
}

const RLIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `--restart no|always|unless-stopped|on-failure[:N]`.
pub fn restart(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text
        .split_once(':')
        .map_or((text, None), |(n, c)| (n, Some(c)));
    let maximum_retry_count = match (name, count) {
        ("on-failure", Some(count)) => count.parse().map_err(|_| {
            bad(format!(
                "invalid restart policy: maximum retry count must be a number: {text}"
            ))
        })?,
        ("no" | "always" | "unless-stopped" | "on-failure", None) => 0,
        _ => {
            return Err(bad(format!("invalid restart policy: {text}"))
                .hint("no, always, unless-stopped, on-failure or on-failure:N"));
        }
    };
    Ok(RestartPolicy {
        name: name.into(),
        maximum_retry_count,
    })
}

/// `--blkio-weight-device PATH:WEIGHT`.
pub fn weight_device(text: &str) -> Result<WeightDevice> {
    let wrong = || bad(format!("bad format: {text}")).hint("PATH:WEIGHT, as /dev/sda:200");
    let (path, weight) = text.split_once(':').ok_or_else(wrong)?;
    if !path.starts_with("/dev/") {
        return Err(bad(format!(
            "bad format for device path: {path}. It must begin with /dev/"
        )));
    }
    let weight: u16 = weight.parse().map_err(|_| wrong())?;
    if weight != 0 && !(10..=1000).contains(&weight) {
        return Err(bad(format!("invalid weight for device: {text}")).hint("10 to 1000"));
    }
    Ok(WeightDevice {
        path: path.into(),
        weight,
    })
}

/// `--device-read-bps PATH:RATE`: bytes a second with a unit, or (`sizes` false) a plain number of
/// operations.
pub fn throttle_device(text: &str, sizes: bool) -> Result<ThrottleDevice> {
    let wrong = || match sizes {
        true => bad(format!("invalid rate for device: {text}"))
            .hint("PATH:RATE with a unit of bytes, as /dev/sda:1mb"),
        false => bad(format!("invalid rate for device: {text}"))
            .hint("PATH:NUMBER, a positive integer, as /dev/sda:100"),
    };
    let (path, rate) = text.split_once(':').ok_or_else(wrong)?;
    if !path.starts_with("/dev/") {
        return Err(bad(format!(
            "bad format for device path: {path}. It must begin with /dev/"
        )));
    }
    let rate = match sizes {
        true => bytes(rate).map_err(|_| wrong())? as u64,
        false => rate.parse().map_err(|_| wrong())?,
    };
    Ok(ThrottleDevice {
        path: path.into(),
        rate,
    })
}

/// `--health-interval 1m30s`, in nanoseconds; at least a millisecond, or 0 for the image's.
pub fn health_duration(flag: &str, text: &str) -> Result<i64> {
    let wrong = || {
        bad(format!("invalid argument {text:?} for --{flag}"))
            .hint("a number with a unit ms, s, m or h, as 30s")
    };
    let n = match text {
        "0" => 0,
        text => crate::spec::time::parse_duration(text).ok_or_else(wrong)?,
    };
    match i64::try_from(n).map_err(|_| wrong())? {
        n @ 1..1_000_000 => Err(bad(format!("--{flag} {n}ns is less than 1ms"))),
        n => Ok(n),
    }
}

/// `--device HOST[:CONTAINER][:rwm]`.
pub fn device(text: &str) -> Result<DeviceMapping> {
    let parts: Vec<&str> = text.split(':').collect();
    let is_access =
        |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b"rwm".contains(&b));
    let (host, inside, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, access] if is_access(access) => (host, host, access),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, access] if is_access(access) => (host, inside, access),
        _ => {
            return Err(
                bad(format!("invalid device specification: {text}")).hint("HOST[:CONTAINER][:rwm]")
            );
        }
    };
    if !host.starts_with('/') || !inside.starts_with('/') {
        return Err(bad(format!("{text} is not an absolute path")));
    }
    Ok(DeviceMapping {
        path_on_host: host.into(),
        path_in_container: inside.into(),
        cgroup_permissions: access.into(),
    })
}

/// `NAME=value` as it is; `NAME` takes the caller's value, or is left out when it has none.
pub fn env(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>> {
    let name = text.split('=').next().unwrap_or("");
    if name.is_empty() || text.contains('\0') {
        return Err(bad(format!("invalid environment variable: {text}")).hint("NAME=value or NAME"));
    }
    Ok(match text.contains('=') {
        true => Some(text.to_string()),
        false => lookup(text).map(|value| format!("{text}={value}")),
    })
}

/// The lines of an `--env-file` or `--label-file`: blank ones and comments are skipped.
pub fn lines_of_file(path: &Path) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or("");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(bad(format!(
                "poorly formatted line in {}: {line:?}: the name is empty or holds white space",
                path.display()
            )));
        }
        lines.push(line.to_string());
    }
    Ok(lines)
}

/// Puts `NAME=value` over an earlier value of the same name, else at the end.
pub fn set_env(env: &mut Vec<String>, entry: String) {
    let name = |e: &str| e.split('=').next().unwrap_or("").to_string();
    match env.iter_mut().find(|e| name(e) == name(&entry)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// The address in `--add-host` that stands for the host itself.
pub const HOST_GATEWAY: &str = "host-gateway";

/// `--add-host NAME:ADDRESS` (or `NAME=ADDRESS`).
pub fn host_entry(text: &str) -> Result<String> {
    let wrong = || {
        bad(format!("bad format for add-host: {text:?}"))
            .hint("NAME:ADDRESS, as db:10.0.0.2; the address host-gateway is the host's")
    };
    let (name, address) = text.split_once(['=', ':']).ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let fits = !name.is_empty() && !name.contains(char::is_whitespace);
    let known = address == HOST_GATEWAY || address.parse::<std::net::IpAddr>().is_ok();
    if !fits || !known {
        return Err(wrong());
    }
    Ok(format!("{name}:{address}"))
}

/// `--dns`: an address.
pub fn resolver(text: &str) -> Result<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(bad(format!(
            "invalid argument {text:?} for \"--dns\": {text} is not an ip address"
        ))),
    }
}

/// `--dns-search`: a domain, or `.` for none.
pub fn search_domain(text: &str) -> Result<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text == "." || (!text.is_empty() && !text.starts_with('.') && text.chars().all(letter)) {
        true => Ok(text.to_string()),
        false => Err(bad(format!("{text} is not a valid domain"))),
    }
}

/// `--dns-opt`: one word of resolv.conf's line of options.
pub fn resolver_option(text: &str) -> Result<String> {
    match text.is_empty() || text.contains(char::is_whitespace) {
        true => Err(bad(format!("invalid value for --dns-opt: {text:?}"))),
        false => Ok(text.to_string()),
    }
}

/// `--link NAME[:ALIAS]`, always with an alias.
pub fn link(text: &str) -> Result<String> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let fits = |name: &str| !name.is_empty() && !name.contains([':', ' ', '\t']);
    match fits(name) && fits(alias) {
        true => Ok(format!("{name}:{alias}")),
        false => Err(bad(format!("bad format for links: {text}"))),
    }
}

/// A capability as the command line may write it (`net_admin`, `CAP_NET_ADMIN`, `all`) as
/// `CAP_NET_ADMIN` or `ALL`.
pub fn capability(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "ALL" => upper,
        name if name.starts_with("CAP_") => upper,
        name => format!("CAP_{name}"),
    }
}

/// The number of a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub fn signal(text: &str) -> Result<i32> {
    let wrong = || bad(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64)
            .contains(&number)
            .then_some(number)
            .ok_or_else(wrong);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.parse().map_err(|_| wrong())?
        };
        return Ok(34 + offset).and_then(|n| (34..=64).contains(&n).then_some(n).ok_or_else(wrong));
    }
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .map(|s| s as i32)
        .map_err(|_| wrong())
}

#[cfg(test)]
#[path = "flags_tests.rs"]
mod tests;
