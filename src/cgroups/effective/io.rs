//! What applies to disks: the strictest rate for each device, and the share.
//!
//! What it does: `io.max` holds a line a device with up to four rates, so each device and rate is
//! a limit of its own here: `io.max 254:0 rbps`.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("IO Interface Files"),
//! cgroup-v1/blkio-controller.rst. On v2 a rate holds for all groups below; v1's throttling knows
//! no levels, there only the group's own rules count.
//! Interface: [`own_rates`]; [`rates`], [`weight`] (of this folder only). Read next: `../stat.rs`.

use super::{Effective, Order, own_share, read, strictest};
use crate::cgroups::group::GroupDir;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const KEYS: [(&str, &str); 4] = [
    ("rbps", "blkio.throttle.read_bps_device"),
    ("wbps", "blkio.throttle.write_bps_device"),
    ("riops", "blkio.throttle.read_iops_device"),
    ("wiops", "blkio.throttle.write_iops_device"),
];

/// The rates that are set for any device, by the group or by one above it.
pub(super) fn rates(dir: &GroupDir) -> Vec<Effective> {
    let files: &[&str] = match dir.v2 {
        true => &["io.max"],
        false => &KEYS.map(|(_, file)| file),
    };
    let devices: BTreeSet<String> = levels(dir)
        .flat_map(|level| files.iter().filter_map(move |file| read(level, file)))
        .flat_map(|(text, _)| devices(&text))
        .collect();
    let mut limits = Vec::new();
    for device in devices {
        for (key, file) in KEYS {
            let what = format!("io.max {device} {key}");
            let value = |level: &Path| match dir.v2 {
                true => read(level, "io.max")
                    .map(|(text, source)| (v2_rate(&text, &device, key), source)),
                false if level == dir.dir => {
                    read(level, file).map(|(text, source)| (v1_rate(&text, &device), source))
                }
                false => None,
            };
            let limit = strictest(dir, &what, Order::Number, value);
            limits.extend(limit.filter(Effective::is_limited));
        }
    }
    limits
}

/// The rates that a group itself sets, as v2 writes them: `254:0 rbps=1048576 riops=100`, with a
/// semicolon between devices. None when it sets none.
pub fn own_rates(dir: &Path, v2: bool) -> Option<String> {
    let text = match v2 {
        true => read(dir, "io.max")?.0,
        false => {
            let mut lines = BTreeMap::<String, String>::new();
            for (key, file) in KEYS {
                let (text, _) = read(dir, file).unwrap_or_default();
                for device in devices(&text) {
                    let rate = v1_rate(&text, &device);
                    let line = lines.entry(device.clone()).or_insert(device);
                    *line += &format!(" {key}={rate}");
                }
            }
            lines.into_values().collect::<Vec<_>>().join("\n")
        }
    };
    let set = |line: &str| -> String {
        let words = line.split(' ').filter(|w| !w.ends_with("=max"));
        words.collect::<Vec<_>>().join(" ")
    };
    let lines: Vec<String> = text.lines().map(set).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// The group's share of a disk; none where the kernel shares by no weight.
pub(super) fn weight(dir: &GroupDir) -> Option<Effective> {
    let files: &[(&str, &str)] = match dir.v2 {
        true => &[("io.weight", "100"), ("io.bfq.weight", "100")],
        false => &[("blkio.bfq.weight", "100"), ("blkio.weight", "500")],
    };
    files.iter().find_map(|(file, usual)| {
        // The first line is the group's, those after it are for single devices.
        own_share(dir, file, file, usual, |text| {
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("default ").to_string()
        })
    })
}

/// The directories whose rules can count: on v1 its own alone.
fn levels(dir: &GroupDir) -> impl Iterator<Item = &Path> {
    let all = if dir.v2 { usize::MAX } else { 1 };
    super::upwards(dir).map(|(level, _)| level).take(all)
}

/// The devices that a file names, a line each.
fn devices(text: &str) -> impl Iterator<Item = String> + use<> {
    let names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| name.contains(':'))
        .map(str::to_string)
        .collect();
    names.into_iter()
}

/// Out of `254:0 rbps=1048576 wbps=max riops=100 wiops=max`.
fn v2_rate(text: &str, device: &str, key: &str) -> String {
    line_of(text, device)
        .and_then(|rest| {
            rest.split(' ')
                .find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
        })
        .unwrap_or("max")
        .to_string()
}

/// Out of `254:0 1048576`.
fn v1_rate(text: &str, device: &str) -> String {
    line_of(text, device).unwrap_or("max").to_string()
}

fn line_of<'a>(text: &'a str, device: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(device)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::super::effective_limits;
    use super::super::tests::{find, tree};

    #[test]
    fn a_rate_holds_for_all_below_on_v2() {
        let (_root, group) = tree(
            &[
                (
                    "a/io.max",
                    "254:0 rbps=1048576 wbps=max riops=100 wiops=max\n",
                ),
                ("a/b/io.max", "254:0 rbps=max wbps=max riops=50 wiops=max\n"),
                ("a/b/io.weight", "default 50\n254:0 200\n"),
            ],
            true,
        );
        let limits = effective_limits(&group);
        let reads = find(&limits, "io.max 254:0 rbps");
        assert_eq!(reads.effective, "1048576");
        assert_eq!(reads.own.as_deref(), Some("max"));
        assert_eq!(reads.set_by.as_deref(), Some("/a"));
        let requests = find(&limits, "io.max 254:0 riops");
        assert_eq!(requests.effective, "50");
        assert_eq!(requests.set_by.as_deref(), Some("/a/b"));
        assert!(!limits.iter().any(|l| l.what.ends_with("wbps")), "not set");
        let weight = find(&limits, "io.weight");
        assert_eq!(weight.effective, "50");
        assert_eq!(weight.set_by.as_deref(), Some("/a/b"));
    }

    #[test]
    fn v1_throttling_knows_no_levels() {
        let (_root, group) = tree(
            &[
                ("a/blkio.throttle.read_bps_device", "254:0 1048576\n"),
                ("a/b/blkio.throttle.read_bps_device", ""),
                ("a/b/blkio.throttle.write_bps_device", "254:0 2097152\n"),
                ("a/b/blkio.weight", "500\n"),
            ],
            false,
        );
        let limits = effective_limits(&group);
        assert!(!limits.iter().any(|l| l.what == "io.max 254:0 rbps"));
        let writes = find(&limits, "io.max 254:0 wbps");
        assert_eq!(writes.effective, "2097152");
        assert_eq!(writes.set_by.as_deref(), Some("/a/b"));
        assert!(!find(&limits, "blkio.weight").is_limited(), "as ever");
    }
}
