//! A process's system call filters: mode, how many, and what they answer.
//!
//! What it does: reads the mode and the number of filters, and, where there are any and the reader
//! may, the filters themselves, of whatever engine; each is walked for every system call, and of
//! several answers the strictest counts, as in the kernel.
//! What it implements: seccomp(2), proc_pid_status(5), ptrace(2) (`PTRACE_SECCOMP_GET_FILTER`).
//! Interface: [`seccomp`]. Read next: [`crate::security::seccomp`].

use super::fact::Fact;
use super::model::{Seccomp, SeccompVerdict};
use super::proc_text::Status;
use crate::security::seccomp::bpf::Verdict;
use crate::security::seccomp::describe::Description;
use crate::security::seccomp::{describe, dump, names};
use std::collections::BTreeMap;

/// The answer of calls whose arguments decide.
const DEPENDS: &str = "depends on the arguments";

/// Reads it. Reading the filters stops the process for some microseconds, so it is done only when
/// there are filters.
pub fn seccomp(pid: u32, status: &Status, path: &str) -> Seccomp {
    let mode = status.get("Seccomp").map(|m| {
        match m {
            "0" => "disabled",
            "1" => "strict",
            "2" => "filter",
            other => other,
        }
        .to_string()
    });
    let verdicts = match mode.as_deref() {
        Ok("filter") => Fact::of(
            "ptrace(PTRACE_SECCOMP_GET_FILTER), every call walked through every filter",
            verdicts(pid),
        ),
        Ok("strict") => Fact::new("seccomp(2): strict mode", strict()),
        Ok(_) => Fact::new("no filter, so every call is allowed", Vec::new()),
        Err(why) => Fact::unread(format!("{path}: Seccomp"), why),
    };
    Seccomp {
        mode: Fact::of(format!("{path}: Seccomp"), mode),
        filters: Fact::of(
            format!("{path}: Seccomp_filters"),
            status.number("Seccomp_filters"),
        ),
        verdicts,
    }
}

/// What the kernel allows in strict mode.
fn strict() -> Vec<SeccompVerdict> {
    let calls = ["read", "write", "exit", "rt_sigreturn"].map(str::to_string);
    vec![SeccompVerdict {
        action: Verdict::ALLOW.to_string(),
        count: 4,
        calls: calls.into(),
    }]
}

fn verdicts(pid: u32) -> Result<Vec<SeccompVerdict>, String> {
    let programs = dump::dump(pid.cast_signed()).map_err(|e| format!("{e:#}"))?;
    let described = programs
        .iter()
        .map(|p| describe(p, names::native()).map_err(|e| format!("{e:?}")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(combine(&described))
}

/// Of several filters the strictest answer counts; where a filter looks at arguments, the call's
/// answer depends on them, unless another filter forbids the call whatever they are.
fn combine(filters: &[Description]) -> Vec<SeccompVerdict> {
    let mut by_action: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let calls = filters
        .first()
        .map(|f| f.calls.as_slice())
        .unwrap_or_default();
    for (at, call) in calls.iter().enumerate() {
        let answers: Vec<_> = filters.iter().filter_map(|f| f.calls.get(at)).collect();
        let certain = answers
            .iter()
            .filter(|a| a.exceptions.is_empty())
            .map(|a| a.verdict);
        let strictest = Verdict::strictest(certain);
        let open = answers.iter().any(|a| !a.exceptions.is_empty());
        let action = match open && strictest.permits() {
            true => DEPENDS.to_string(),
            false => strictest.to_string(),
        };
        by_action
            .entry(action)
            .or_default()
            .push(call.name.to_string());
    }
    let mut all: Vec<SeccompVerdict> = by_action
        .into_iter()
        .map(|(action, calls)| SeccompVerdict {
            action,
            count: u32::try_from(calls.len()).unwrap_or(u32::MAX),
            calls,
        })
        .collect();
    all.sort_by_key(|v| std::cmp::Reverse(v.count));
    if let Some(most) = all.first_mut() {
        most.calls.clear();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::seccomp::describe::{CallVerdict, Exception};

    fn filter(list: &[(&'static str, Verdict, bool)]) -> Description {
        let calls = list
            .iter()
            .enumerate()
            .map(|(number, (name, verdict, open))| CallVerdict {
                number: number as u32,
                name,
                verdict: *verdict,
                exceptions: open
                    .then(|| Exception {
                        when: "args[0] == 0x1".into(),
                        verdict: Verdict::ALLOW,
                    })
                    .into_iter()
                    .collect(),
            });
        Description {
            architecture: names::native(),
            calls: calls.collect(),
        }
    }

    #[test]
    fn the_strictest_of_several_filters() {
        let eperm = Verdict::errno(1);
        let first = filter(&[
            ("read", Verdict::ALLOW, false),
            ("write", Verdict::ALLOW, false),
            ("mount", eperm, false),
            ("clone", eperm, true),
            ("bpf", eperm, true),
        ]);
        let second = filter(&[
            ("read", Verdict::ALLOW, false),
            ("write", Verdict::ALLOW, false),
            ("mount", Verdict::KILL_PROCESS, false),
            ("clone", Verdict::ALLOW, false),
            ("bpf", eperm, false),
        ]);
        let all = combine(&[first, second]);
        let of = |action: &str| all.iter().find(|v| v.action == action).unwrap();
        assert_eq!(
            (all[0].action.as_str(), all[0].count, all[0].calls.len()),
            ("allow", 2, 0)
        );
        assert_eq!(of("kill process").calls, ["mount"]);
        assert_eq!(of(DEPENDS).calls, ["clone"]);
        assert_eq!(of("errno EPERM").calls, ["bpf"]);
        assert!(combine(&[]).is_empty());
    }
}
