//! The limit that really applies: the strictest over a group and all groups above it.
//!
//! What it does: a group's own `memory.max` may say `max` while a group above it allows 64 MiB;
//! what counts is the smallest on the way to the root, and who set it is what one wants to know.
//! Groups above the mount point (inside a container) cannot be read and are not counted.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst ("Limits": a child can use no more
//! than its ancestors allow).
//! Interface: [`Effective`], [`effective_limits`]. Read next: `io.rs`, then `../stat.rs`.

mod io;

pub use io::own_rates;

use super::group::{Group, GroupDir};
use super::plan::V1_UNLIMITED;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One limit of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// The limit in v2's words: `memory.max`, `pids.max`, `cpu.max`, `cpuset.cpus`.
    pub what: String,
    /// The group's own value; absent when it has no such file (the root, or the controller is not
    /// enabled for it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<String>,
    /// The value that applies: `max` for none.
    pub effective: String,
    /// The group that sets it; absent when nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
    /// The file that says so.
    pub source: String,
}

impl Effective {
    /// True when it limits something.
    pub fn is_limited(&self) -> bool {
        self.set_by.is_some()
    }
}

/// How values are compared.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// Numbers; the smallest wins.
    Number,
    /// `QUOTA PERIOD`; the smallest ratio wins.
    Ratio,
}

/// All limits of a group that its trees have, each with the group that sets it.
pub fn effective_limits(group: &Group) -> Vec<Effective> {
    let mut limits = Vec::new();
    if let Some(dir) = group.dir_of("memory") {
        let files: &[(&str, &str)] = if dir.v2 {
            &[
                ("memory.max", "memory.max"),
                ("memory.high", "memory.high"),
                ("memory.swap.max", "memory.swap.max"),
            ]
        } else {
            &[
                ("memory.max", "memory.limit_in_bytes"),
                ("memory+swap.max", "memory.memsw.limit_in_bytes"),
            ]
        };
        for (what, file) in files {
            limits.extend(strictest(dir, what, Order::Number, |d| read(d, file)));
        }
        limits.extend(protections(dir));
    }
    if let Some(dir) = group.dir_of("pids") {
        limits.extend(strictest(dir, "pids.max", Order::Number, |d| {
            read(d, "pids.max")
        }));
    }
    if let Some(dir) = group.dir_of("cpu") {
        limits.extend(strictest(dir, "cpu.max", Order::Ratio, |d| {
            cpu_max(d, dir.v2)
        }));
        let (file, usual) = match dir.v2 {
            true => ("cpu.weight", "100"),
            false => ("cpu.shares", "1024"),
        };
        limits.extend(own_share(dir, file, file, usual, str::to_string));
    }
    if let Some(dir) = group.dir_of("cpuset") {
        for what in ["cpus", "mems"] {
            limits.extend(cpuset(dir, what));
        }
    }
    if let Some(dir) = group.dir_of("io").or_else(|| group.dir_of("blkio")) {
        limits.extend(io::rates(dir));
        limits.extend(io::weight(dir));
    }
    if let Some(dir) = group.dir_of("hugetlb") {
        for size in hugetlb_sizes(&dir.dir) {
            let file = match dir.v2 {
                true => format!("hugetlb.{size}.max"),
                false => format!("hugetlb.{size}.limit_in_bytes"),
            };
            let what = format!("hugetlb.{size}.max");
            limits.extend(strictest(dir, &what, Order::Number, |d| read(d, &file)));
        }
    }
    limits
}

/// What the kernel leaves to the group when it reclaims. A group above that protects less gives
/// away no more than it has; v1's soft limit knows no levels.
fn protections(dir: &GroupDir) -> Vec<Effective> {
    if !dir.v2 {
        let soft = own_share(
            dir,
            "memory.low",
            "memory.soft_limit_in_bytes",
            "0",
            |text| {
                // No soft limit is the largest counter, and protects nothing.
                let limit = amount(text, Order::Number).map(|_| text.to_string());
                limit.unwrap_or_else(|| "0".into())
            },
        );
        return soft.into_iter().collect();
    }
    let one = |file| {
        let limit = strictest(dir, file, Order::Number, |d| read(d, file))?;
        // Nothing asked for and nothing given; asked for in vain, it is said who has none to give.
        let nothing = limit.effective == "0" && limit.own.as_deref().is_none_or(|v| v == "0");
        Some(Effective {
            set_by: limit.set_by.filter(|_| !nothing),
            ..limit
        })
    };
    ["memory.low", "memory.min"]
        .into_iter()
        .filter_map(one)
        .collect()
}

/// A value that counts among siblings alone: the group's own, set by it where it is not the usual.
fn own_share(
    dir: &GroupDir,
    what: &str,
    file: &str,
    usual: &str,
    value_of: impl Fn(&str) -> String,
) -> Option<Effective> {
    let (text, source) = read(&dir.dir, file)?;
    let value = value_of(&text);
    Some(Effective {
        what: what.into(),
        own: Some(value.clone()),
        set_by: (value != usual).then(|| dir.path.to_string()),
        effective: value,
        source,
    })
}

/// The sizes for which a group has hugetlb files.
pub fn hugetlb_sizes(dir: &Path) -> Vec<String> {
    let mut sizes: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?;
            let size = size
                .strip_suffix(".max")
                .or_else(|| size.strip_suffix(".limit_in_bytes"))?;
            (!size.contains('.')).then(|| size.to_string())
        })
        .collect();
    sizes.sort();
    sizes
}

fn read(dir: &Path, file: &str) -> Option<(String, String)> {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).ok()?;
    Some((text.trim().to_string(), path.display().to_string()))
}

/// `cpu.max`, or v1's pair in the same form.
fn cpu_max(dir: &Path, v2: bool) -> Option<(String, String)> {
    if v2 {
        return read(dir, "cpu.max");
    }
    let (quota, source) = read(dir, "cpu.cfs_quota_us")?;
    let (period, _) = read(dir, "cpu.cfs_period_us")?;
    let quota = if quota.starts_with('-') {
        "max"
    } else {
        &quota
    };
    Some((format!("{quota} {period}"), source))
}

/// No limit as the kernel writes it: `max`, or on v1 the largest page counter.
fn amount(value: &str, order: Order) -> Option<f64> {
    let mut words = value.split(' ');
    let number: u64 = words.next()?.parse().ok()?;
    match order {
        // Huge pages round the largest counter down to themselves, hence the margin.
        Order::Number if number >= V1_UNLIMITED - (1 << 31) => None,
        Order::Number => Some(number as f64),
        Order::Ratio => Some(number as f64 / words.next()?.parse::<f64>().ok()?),
    }
}

/// The group's path in its tree, for each directory from the group up to the mount point.
fn upwards(dir: &GroupDir) -> impl Iterator<Item = (&Path, String)> {
    let levels = dir
        .dir
        .strip_prefix(&dir.mount)
        .map_or(0, |p| p.components().count());
    let mut path = Path::new(&dir.path);
    dir.dir.ancestors().take(levels + 1).map(move |d| {
        let shown = path.display().to_string();
        path = path.parent().unwrap_or(Path::new("/"));
        (d, shown)
    })
}

fn strictest(
    dir: &GroupDir,
    what: &str,
    order: Order,
    value_of: impl Fn(&Path) -> Option<(String, String)>,
) -> Option<Effective> {
    let mut own = None;
    let mut best: Option<(f64, Effective)> = None;
    let mut any = None;
    for (i, (level, path)) in upwards(dir).enumerate() {
        let Some((value, source)) = value_of(level) else {
            continue;
        };
        let limit = amount(&value, order);
        let shown = match (limit, order) {
            (None, Order::Number) => "max".to_string(),
            _ => value,
        };
        if i == 0 {
            own = Some(shown.clone());
        }
        any.get_or_insert_with(|| source.clone());
        // Of equal ones the highest counts: it holds whatever the lower ones say.
        if let Some(n) = limit
            && best.as_ref().is_none_or(|(b, _)| n <= *b)
        {
            let effective = Effective {
                what: what.into(),
                own: None,
                effective: shown,
                set_by: Some(path),
                source,
            };
            best = Some((n, effective));
        }
    }
    let nobody = any.map(|source| Effective {
        what: what.into(),
        own: None,
        effective: "max".into(),
        set_by: None,
        source,
    });
    let mut effective = best.map(|(_, e)| e).or(nobody)?;
    effective.own = own;
    Some(effective)
}

/// The kernel computes a cpuset's effective value itself; who sets it is the highest group with
/// the same one, unless that is the root.
fn cpuset(dir: &GroupDir, what: &str) -> Option<Effective> {
    let (own_file, file) = match dir.v2 {
        true => (format!("cpuset.{what}"), format!("cpuset.{what}.effective")),
        false => (format!("cpuset.{what}"), format!("cpuset.effective_{what}")),
    };
    let (mut value, mut source, mut set_by) = (None, String::new(), None);
    for (level, path) in upwards(dir) {
        let Some((here, from)) = read(level, &file) else {
            continue;
        };
        let same = value.get_or_insert_with(|| here.clone()) == &here;
        if !same {
            break;
        }
        if source.is_empty() {
            source = from;
        }
        let is_root = level == dir.mount;
        set_by = (!is_root).then_some(path);
    }
    let effective = value?;
    Some(Effective {
        what: own_file.clone(),
        own: read(&dir.dir, &own_file).map(|(v, _)| v),
        effective,
        set_by,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::CgroupPath;
    use crate::host::{CgroupLayout, Host};

    /// A made-up tree of directories with the kernel's files in it.
    pub(super) fn tree(files: &[(&str, &str)], v2: bool) -> (tempfile::TempDir, Group) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let point = root.path().display().to_string();
        let controllers = match v2 {
            true => "memory cpu cpuset pids io hugetlb",
            false => "memory cpu cpuset pids blkio hugetlb",
        };
        let (kind, options) = match v2 {
            true => ("cgroup2", "rw".to_string()),
            false => ("cgroup", format!("rw,{}", controllers.replace(' ', ","))),
        };
        let layout = CgroupLayout::from_text(
            &format!("1 0 0:1 / {point} rw - {kind} {kind} {options}\n"),
            &match v2 {
                true => "0::/\n".to_string(),
                false => format!("1:{}:/\n", controllers.replace(' ', ",")),
            },
            "",
            |_| controllers.into(),
        );
        let host = Host {
            cgroups: layout,
            ..Host::example_v2()
        };
        let group = Group::imagine(&host, &CgroupPath::parse("a/b").unwrap());
        (root, group)
    }

    pub(super) fn find<'a>(limits: &'a [Effective], what: &str) -> &'a Effective {
        limits.iter().find(|l| l.what == what).unwrap()
    }

    #[test]
    fn the_strictest_above_counts() {
        let (_root, group) = tree(
            &[
                ("a/memory.max", "67108864\n"),
                ("a/b/memory.max", "max\n"),
                ("a/pids.max", "100\n"),
                ("a/b/pids.max", "20\n"),
                ("a/cpu.max", "50000 100000\n"),
                ("a/b/cpu.max", "80000 100000\n"),
                ("a/b/memory.high", "max\n"),
                ("a/memory.low", "1048576\n"),
                ("a/b/memory.low", "4194304\n"),
                ("a/memory.min", "0\n"),
                ("a/b/memory.min", "4194304\n"),
                ("a/b/cpu.weight", "50\n"),
                ("cpuset.cpus.effective", "0-3\n"),
                ("a/cpuset.cpus.effective", "0-1\n"),
                ("a/b/cpuset.cpus.effective", "0-1\n"),
                ("a/b/cpuset.cpus", "\n"),
            ],
            true,
        );
        let limits = effective_limits(&group);
        let memory = find(&limits, "memory.max");
        assert_eq!(memory.own.as_deref(), Some("max"));
        assert_eq!(memory.effective, "67108864");
        assert_eq!(memory.set_by.as_deref(), Some("/a"));
        let pids = find(&limits, "pids.max");
        assert_eq!(
            (pids.effective.as_str(), pids.set_by.as_deref()),
            ("20", Some("/a/b"))
        );
        let cpu = find(&limits, "cpu.max");
        assert_eq!(cpu.set_by.as_deref(), Some("/a"));
        assert!(!find(&limits, "memory.high").is_limited());
        let low = find(&limits, "memory.low");
        assert_eq!(
            (low.effective.as_str(), low.set_by.as_deref()),
            ("1048576", Some("/a"))
        );
        let min = find(&limits, "memory.min");
        assert_eq!(
            (min.effective.as_str(), min.set_by.as_deref()),
            ("0", Some("/a")),
            "the group above has none to give"
        );
        assert_eq!(find(&limits, "cpu.weight").set_by.as_deref(), Some("/a/b"));
        let cpus = find(&limits, "cpuset.cpus");
        assert_eq!(
            (cpus.effective.as_str(), cpus.set_by.as_deref()),
            ("0-1", Some("/a"))
        );
    }

    #[test]
    fn v1_files_in_the_words_of_v2() {
        let (_root, group) = tree(
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("a/memory.limit_in_bytes", "9223372036854771712\n"),
                ("a/b/memory.limit_in_bytes", "1048576\n"),
                ("a/b/cpu.cfs_quota_us", "-1\n"),
                ("a/b/cpu.cfs_period_us", "100000\n"),
                ("cpuset.effective_cpus", "0-1\n"),
                ("a/cpuset.effective_cpus", "0-1\n"),
                ("a/b/cpuset.effective_cpus", "0-1\n"),
            ],
            false,
        );
        let limits = effective_limits(&group);
        let memory = find(&limits, "memory.max");
        assert_eq!(memory.set_by.as_deref(), Some("/a/b"));
        assert_eq!(find(&limits, "cpu.max").effective, "max");
        assert!(!find(&limits, "cpu.max").is_limited());
        assert!(
            !find(&limits, "cpuset.cpus").is_limited(),
            "as the root has it"
        );
    }
}
