//! Parsers of the kernel's cgroup files: pure, over text.
//!
//! What it implements: the formats of the kernel's admin-guide/cgroup-v2.rst ("Interface Files",
//! "Format": flat keyed and nested keyed), accounting/psi.rst, cgroup-v1/blkio-controller.rst.
//! Interface: [`flat`], [`nested`], [`pressure`], [`blkio`]. Read next: `stat.rs`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `KEY VALUE` lines (`memory.stat`, `cpu.stat`, `cgroup.events`). A line of another form is left
/// out; a value of another form too.
pub fn flat(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_string(), value.trim().parse().ok()?))
        })
        .collect()
}

/// `KEY SUB=VALUE SUB=VALUE` lines (`io.stat`, `io.max`), in the file's order.
pub fn nested(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let key = words.next()?.to_string();
            let pairs = words
                .filter_map(|w| w.split_once('='))
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            Some((key, pairs))
        })
        .collect()
}

/// One line of a pressure file: how much of the time tasks stood still for want of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PressureLine {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds altogether.
    pub total: u64,
}

/// A pressure file: the `some` line (at least one task waited) and the `full` line (all did).
pub fn pressure(text: &str) -> (Option<PressureLine>, Option<PressureLine>) {
    let line = |name: &str| {
        let (_, pairs) = nested(text).into_iter().find(|(key, _)| key == name)?;
        let number = |key: &str| pairs.get(key).and_then(|v| v.parse().ok());
        Some(PressureLine {
            avg10: number("avg10")?,
            avg60: number("avg60")?,
            avg300: number("avg300")?,
            total: pairs.get("total").and_then(|v| v.parse().ok())?,
        })
    };
    (line("some"), line("full"))
}

/// v1's `MAJOR:MINOR Operation N` lines (`blkio.throttle.io_service_bytes`): device → operation →
/// number. The `Total` line without a device is left out.
pub fn blkio(text: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [device, operation, n] = words[..]
            && let Ok(n) = n.parse()
        {
            all.entry(device.to_string())
                .or_default()
                .insert(operation.to_ascii_lowercase(), n);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_nested_files() {
        let events = flat("low 0\nhigh 3\nmax 12\noom 1\noom_kill 1\nbroken\nx y\n");
        assert_eq!(events["max"], 12);
        assert_eq!(events.len(), 5);
        let io = nested("8:0 rbytes=1 wbytes=2 rios=3\n254:0 rbytes=9\n\n");
        assert_eq!(io.len(), 2);
        assert_eq!(io[0].1["wbytes"], "2");
        let max = nested("8:16 rbps=2097152 wbps=max riops=max wiops=120\n");
        assert_eq!(max[0].1["wbps"], "max");
    }

    #[test]
    fn pressure_files() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let (some, full) = pressure(text);
        assert_eq!(some.unwrap().avg10, 1.5);
        assert_eq!(full.unwrap().total, 7);
        assert_eq!(pressure("some avg10=x"), (None, None));
    }

    #[test]
    fn blkio_files() {
        let all = blkio("8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n");
        assert_eq!(all["8:0"]["read"], 4096);
        assert_eq!(all.len(), 1);
    }
}
