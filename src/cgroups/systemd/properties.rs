//! What systemd must know of a container's limits, so that it does not undo them.
//!
//! What it does: at every `daemon-reload` systemd writes the control files of all its units anew, out
//! of their properties, and a file that no property speaks of gets its default. So a limit is written
//! twice: as a property of the unit and, since not every limit has one, into the kernel's file. The
//! table of [`of_writes`] starts from the files that are going to be written, whatever they came from.
//!
//! | file                | property           | since systemd |
//! |---------------------|--------------------|---------------|
//! | memory.max, .high, .low, .min | MemoryMax, MemoryHigh, MemoryLow, MemoryMin | |
//! | memory.swap.max     | MemorySwapMax      | |
//! | memory.zswap.max    | MemoryZSwapMax     | 253 |
//! | pids.max            | TasksMax           | |
//! | cpu.weight          | CPUWeight          | |
//! | cpu.idle            | CPUWeight=idle     | 252 |
//! | cpu.max             | CPUQuotaPerSecUSec, CPUQuotaPeriodUSec | 242 for the period |
//! | cpuset.cpus, .mems  | AllowedCPUs, AllowedMemoryNodes | 244 |
//! | io.weight           | IOWeight           | |
//!
//! A quota is kept by systemd in whole percents of a processor; it is rounded up there, and exact in
//! the file until the next reload.
//!
//! What it implements: systemd.resource-control(5); runc's docs/systemd.md.
//! Interface: [`of_writes`], [`unset`], [`annotated`]. Read next: `actions.rs`.

use super::wire::{Property, Value};
use crate::cgroups::plan::LimitWrite;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// The properties that say what these writes say; each name comes once. Values that are none of the
/// file's are left to the kernel, which refuses them when they are written.
pub fn of_writes(writes: &[LimitWrite], version: u32) -> Vec<Property> {
    let mut all: BTreeMap<&str, Value> = BTreeMap::new();
    for write in writes {
        of_file(&write.file, write.value.trim(), version, &mut all);
    }
    // The weight of one that is idle is no weight.
    if writes
        .iter()
        .any(|w| w.file == "cpu.idle" && w.value == "1")
        && version >= 252
    {
        all.insert("CPUWeight", Value::U64(0));
    }
    all.into_iter().map(|(n, v)| (n.to_string(), v)).collect()
}

fn of_file(file: &str, value: &str, version: u32, all: &mut BTreeMap<&'static str, Value>) {
    let number = match value {
        "max" => Some(u64::MAX),
        value => value.parse().ok(),
    };
    let name = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" if version >= 253 => "MemoryZSwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" | "cpuset.mems" if version >= 244 => {
            let name = match file {
                "cpuset.cpus" => "AllowedCPUs",
                _ => "AllowedMemoryNodes",
            };
            if let Some(bits) = bits(value) {
                all.insert(name, Value::Bytes(bits));
            }
            return;
        }
        "io.weight" => {
            let weight = value.strip_prefix("default ").unwrap_or(value);
            if let Ok(weight) = weight.parse() {
                all.insert("IOWeight", Value::U64(weight));
            }
            return;
        }
        "cpu.max" => {
            cpu_max(value, version, all);
            return;
        }
        _ => return,
    };
    if let Some(number) = number {
        all.insert(name, Value::U64(number));
    }
}

/// `50000 100000`, or `max 100000`; the period may be missing.
fn cpu_max(value: &str, version: u32, all: &mut BTreeMap<&'static str, Value>) {
    /// A percent of a second, in microseconds.
    const PERCENT: u64 = 10_000;
    let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
    let Some(period) = period.trim().parse::<u64>().ok().filter(|p| *p > 0) else {
        return;
    };
    let quota = match quota {
        "max" => u64::MAX,
        quota => match quota.parse::<u64>() {
            Ok(quota) => {
                let of_second = u128::from(quota) * 1_000_000 / u128::from(period);
                u64::try_from(of_second)
                    .unwrap_or(u64::MAX - PERCENT)
                    .next_multiple_of(PERCENT)
            }
            Err(_) => return,
        },
    };
    all.insert("CPUQuotaPerSecUSec", Value::U64(quota));
    if version >= 242 {
        all.insert("CPUQuotaPeriodUSec", Value::U64(period));
    }
}

/// `0-2,8` as bits, the first byte for the first eight.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        for n in first..=last.min(65_535) {
            if bits.len() <= n / 8 {
                bits.resize(n / 8 + 1, 0);
            }
            bits[n / 8] |= 1 << (n % 8);
        }
    }
    Some(bits)
}

/// The value of a property that nothing was said of.
pub fn unset(name: &str) -> Value {
    match name {
        "MemoryLow" | "MemoryMin" => Value::U64(0),
        "AllowedCPUs" | "AllowedMemoryNodes" => Value::Bytes(Vec::new()),
        _ => Value::U64(u64::MAX),
    }
}

/// The annotations that are properties begin so.
pub const ANNOTATION: &str = "org.systemd.property.";

/// The properties among a document's annotations. A time in seconds, `…Sec`, becomes the one in
/// microseconds that systemd has. Errors (kind `Usage`): a name or a value that is none.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        let wrong = |why: &'static str| {
            Error::kind(
                Kind::Usage,
                format!("the annotation {key}={text} is no property of a unit"),
            )
            .hint(why)
        };
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(wrong(
                "after org.systemd.property. comes a name of letters and digits",
            ));
        }
        let value = gvariant(text.trim()).ok_or_else(|| {
            wrong("a value is true, 5, uint64 5, 'text' or ['one', 'two'], as GVariant's text format has it")
        })?;
        match name.strip_suffix("Sec").filter(|n| !n.ends_with('U')) {
            None => all.push((name.to_string(), value)),
            Some(stem) => {
                let seconds =
                    seconds(&value).ok_or_else(|| wrong("a time in seconds is a number"))?;
                let value = Value::U64((seconds * 1_000_000.0) as u64);
                all.push((format!("{stem}USec"), value));
            }
        }
    }
    Ok(all)
}

fn seconds(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Byte(n) => f64::from(*n),
        Value::I16(n) => f64::from(*n),
        Value::U16(n) => f64::from(*n),
        Value::I32(n) => f64::from(*n),
        Value::U32(n) => f64::from(*n),
        Value::I64(n) => *n as f64,
        Value::U64(n) => *n as f64,
        Value::Double(n) => *n,
        _ => return None,
    };
    (seconds >= 0.0).then_some(seconds)
}

/// A value in GVariant's text format, of the types that properties have.
fn gvariant(text: &str) -> Option<Value> {
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let mut all = Vec::new();
        let mut rest = list.trim();
        while !rest.is_empty() {
            let (one, after) = quoted(rest)?;
            all.push(one);
            let after = after.trim();
            rest = match after.strip_prefix(',') {
                Some(more) => more.trim(),
                None if after.is_empty() => after,
                None => return None,
            };
        }
        return Some(Value::Texts(all));
    }
    if text.starts_with(['\'', '"']) {
        let (text, rest) = quoted(text)?;
        return rest.is_empty().then_some(Value::Text(text));
    }
    let (word, rest) = text.split_once(' ').unwrap_or(("", text));
    let rest = rest.trim();
    Some(match word {
        "" if rest == "true" || rest == "false" => Value::Bool(rest == "true"),
        "" if rest.contains('.') => Value::Double(rest.parse().ok()?),
        "" | "int32" | "handle" => Value::I32(rest.parse().ok()?),
        "boolean" => Value::Bool(rest.parse().ok()?),
        "byte" => Value::Byte(rest.parse().ok()?),
        "int16" => Value::I16(rest.parse().ok()?),
        "uint16" => Value::U16(rest.parse().ok()?),
        "uint32" => Value::U32(rest.parse().ok()?),
        "int64" => Value::I64(rest.parse().ok()?),
        "uint64" => Value::U64(rest.parse().ok()?),
        "double" => Value::Double(rest.parse().ok()?),
        "string" => Value::Text(quoted(rest).filter(|(_, r)| r.is_empty())?.0),
        _ => return None,
    })
}

/// A text between quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c if c == quote => return Some((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)], version: u32) -> String {
        let writes: Vec<LimitWrite> = files
            .iter()
            .map(|(file, value)| LimitWrite {
                controller: String::new(),
                file: file.to_string(),
                path: file.into(),
                value: value.to_string(),
                expected: None,
                fallback: None,
                why: "",
            })
            .collect();
        let all = of_writes(&writes, version);
        let words: Vec<String> = all.iter().map(|(n, v)| format!("{n}={v}")).collect();
        words.join(" ")
    }

    #[test]
    fn each_limit_has_its_property() {
        let files = [
            ("memory.max", "67108864"),
            ("memory.low", "max"),
            ("pids.max", "max"),
            ("cpu.weight", "39"),
            ("cpuset.cpus", "0-1,9"),
            ("io.weight", "default 50"),
            ("io.weight", "8:0 70"),
            ("hugetlb.2MB.max", "0"),
        ];
        assert_eq!(
            of(&files, 252),
            "AllowedCPUs=0-1,9 CPUWeight=39 IOWeight=50 MemoryLow=infinity \
             MemoryMax=67108864 TasksMax=infinity"
        );
        assert!(!of(&files, 243).contains("AllowedCPUs"));
        assert_eq!(
            of(&[("cpu.idle", "1"), ("cpu.weight", "5")], 252),
            "CPUWeight=0"
        );
        assert_eq!(
            of(&[("cpu.idle", "1"), ("cpu.weight", "5")], 251),
            "CPUWeight=5"
        );
    }

    #[test]
    fn a_quota_is_rounded_up_to_whole_percents() {
        let of_quota = |value| of(&[("cpu.max", value)], 252);
        let half = "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=100000";
        assert_eq!(of_quota("50000 100000"), half);
        assert_eq!(of_quota("50000"), half);
        let eighth = "CPUQuotaPerSecUSec=130000 CPUQuotaPeriodUSec=100000";
        assert_eq!(of_quota("12500 100000"), eighth);
        let none = "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=100000";
        assert_eq!(of_quota("max 100000"), none);
        assert_eq!(
            of(&[("cpu.max", "5000 10000")], 241),
            "CPUQuotaPerSecUSec=500000"
        );
        assert_eq!(of_quota("rubbish 0"), "");
    }

    #[test]
    fn annotations_are_properties() {
        let read = |name: &str, value: &str| {
            let key = format!("{ANNOTATION}{name}");
            annotated(&BTreeMap::from([
                (key, value.to_string()),
                ("other".into(), "x".into()),
            ]))
        };
        let one = |name: &str, value: &str| read(name, value).unwrap().remove(0);
        assert_eq!(
            one("TimeoutStopUSec", "uint64 5"),
            ("TimeoutStopUSec".into(), Value::U64(5))
        );
        assert_eq!(
            one("TimeoutStopSec", "1.5"),
            ("TimeoutStopUSec".into(), Value::U64(1_500_000))
        );
        assert_eq!(one("KillSignal", "15").1, Value::I32(15));
        assert_eq!(
            one("CollectMode", "'inactive'").1,
            Value::Text("inactive".into())
        );
        assert_eq!(one("SendSIGHUP", "true").1, Value::Bool(true));
        let after = one("After", "['a.service', \"b\\'c\"]").1;
        assert_eq!(after, Value::Texts(vec!["a.service".into(), "b'c".into()]));
        assert_eq!(one("After", "[]").1, Value::Texts(Vec::new()));
        for (name, value) in [
            ("a", "1"),
            ("Kill-Signal", "15"),
            ("KillSignal", "fifteen"),
            ("KillSignal", "uint64 -1"),
            ("Description", "'open"),
            ("TimeoutStopSec", "'long'"),
            ("After", "['a' 'b']"),
        ] {
            let refused = read(name, value).unwrap_err();
            assert_eq!(refused.get_kind(), Kind::Usage, "{name}={value}");
        }
        assert!(annotated(&BTreeMap::new()).unwrap().is_empty());
    }
}
