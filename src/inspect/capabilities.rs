//! A process's five capability sets in words, compared with Docker's default.
//!
//! What it implements: capabilities(7); the names and meanings are those of
//! [`crate::security::capabilities`].
//! Interface: [`capabilities`]. Read next: `seccomp.rs`.

use super::fact::Fact;
use super::model::{Capabilities, CapabilitySet};
use super::proc_text::Status;
use crate::security::capabilities::{CapSet, DOCKER_DEFAULT, all_of_kernel};

/// The five sets out of /proc/PID/status.
pub fn capabilities(status: &Status, path: &str) -> Capabilities {
    let all = all_of_kernel();
    let bits = |key: &str| Fact::of(format!("{path}: {key}"), status.bits(key));
    let set = |key: &str| bits(key).map(|b| describe(*b, all));
    let effective = bits("CapEff");
    Capabilities {
        effective: set("CapEff"),
        permitted: set("CapPrm"),
        inheritable: set("CapInh"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
        words: effective.map(|b| compare(CapSet(*b), all)),
        beyond_docker: effective.map(|b| CapSet(*b).minus(DOCKER_DEFAULT).names()),
        less_than_docker: effective.map(|b| DOCKER_DEFAULT.minus(CapSet(*b)).names()),
    }
}

fn describe(bits: u64, all: CapSet) -> CapabilitySet {
    CapabilitySet {
        hex: format!("{bits:016x}"),
        names: CapSet(bits).names(),
        all: all.minus(CapSet(bits)).is_empty(),
    }
}

/// One sentence: none, all, all but a few, Docker's default with more or less.
fn compare(set: CapSet, all: CapSet) -> String {
    let list = |s: CapSet| s.names().join(" ");
    let (more, less) = (set.minus(DOCKER_DEFAULT), DOCKER_DEFAULT.minus(set));
    let missing = all.minus(set);
    if set.is_empty() {
        return "none: an ordinary user's process".into();
    }
    if missing.is_empty() {
        return format!("all {}: root, or --privileged", all.len());
    }
    if more.is_empty() && less.is_empty() {
        return "exactly Docker's default".into();
    }
    if missing.len() <= 4 {
        return format!("all but {}", list(missing));
    }
    match (more.is_empty(), less.is_empty()) {
        (false, true) => format!("Docker's default and {}", list(more)),
        (true, false) if less.len() <= 7 => format!("Docker's default without {}", list(less)),
        (true, false) => format!("of Docker's default only {}", list(set)),
        _ => format!(
            "{} in all; beyond Docker's default {}, without {}",
            set.len(),
            list(more),
            list(less)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_become_sentences() {
        let all = CapSet::up_to(40);
        let say = |bits| compare(CapSet(bits), all);
        assert_eq!(say(0), "none: an ordinary user's process");
        assert_eq!(say(all.0), "all 41: root, or --privileged");
        assert_eq!(say(DOCKER_DEFAULT.0), "exactly Docker's default");
        assert_eq!(
            say(DOCKER_DEFAULT.0 | 1 << 21),
            "Docker's default and CAP_SYS_ADMIN"
        );
        assert_eq!(say(all.0 & !(1 << 24)), "all but CAP_SYS_RESOURCE");
        assert_eq!(
            say(DOCKER_DEFAULT.0 & !1),
            "Docker's default without CAP_CHOWN"
        );
        assert_eq!(say(1), "of Docker's default only CAP_CHOWN");
        assert!(describe(all.0, all).all);
        assert!(!describe(1, all).all);
    }
}
