//! Which containers should run that do not: after a reboot, or when processes were killed.
//!
//! What it does: decides, purely, from what was asked for when the container was created (its
//! restart policy) and from what is written down of its end. Starting it is the command line's.
//!
//! What it implements: what docker's daemon does with restart policies when it starts. The daemon
//! starts with the host, we are asked at any time: so a container under `always` that a user has
//! stopped counts as wanted only when it was stopped before this boot.
//! Interface: [`should_run`], [`boot_time`]. Read next: `reconcile.rs`.

use super::model::RestartPolicy;
use super::state::{Phase, Status};
use super::time::Time;
use crate::error::{Context, Result};

/// Whether a container that has this status should run. `boot` is when this host started.
pub fn should_run(policy: &RestartPolicy, status: &Status, boot: Time) -> bool {
    // One that never ran was never asked to.
    if status.phase != Phase::Exited || status.started_at == Time(0) {
        return false;
    }
    match policy.name.as_str() {
        "always" => !status.stopped || status.finished_at < boot,
        "unless-stopped" => !status.stopped,
        "on-failure" => {
            let tries = policy.maximum_retry_count;
            let given_up = tries > 0 && status.restart_count >= tries && !cut_off(status);
            !status.stopped && status.exit_code != 0 && !given_up
        }
        _ => false,
    }
}

/// Nobody saw its end.
fn cut_off(status: &Status) -> bool {
    status.exit_code == 255 && !status.error.is_empty()
}

/// When this host was started. See proc(5), `/proc/uptime`.
pub fn boot_time() -> Result<Time> {
    let text = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let up = text
        .split_whitespace()
        .next()
        .and_then(|s| s.parse::<f64>().ok());
    let up = up.context("/proc/uptime has no number")?;
    Ok(Time(Time::now().0.saturating_sub((up * 1e9) as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_as_dockers_daemon_reads_them_when_it_starts() {
        let boot = Time(1000);
        let of = |policy: &str, code, stopped, end: u64| {
            let (name, tries) = policy.split_once(':').unwrap_or((policy, "0"));
            let policy = RestartPolicy {
                name: name.into(),
                maximum_retry_count: tries.parse().unwrap(),
            };
            let status = Status {
                phase: Phase::Exited,
                exit_code: code,
                stopped,
                started_at: Time(1),
                finished_at: Time(end),
                restart_count: 3,
                error: if code == 255 {
                    "lost".into()
                } else {
                    String::new()
                },
                ..Status::default()
            };
            should_run(&policy, &status, boot)
        };
        assert!(of("always", 0, false, 2000));
        assert!(of("always", 0, true, 500), "stopped before this boot");
        assert!(!of("always", 0, true, 2000), "stopped since");
        assert!(of("unless-stopped", 143, false, 500));
        assert!(!of("unless-stopped", 143, true, 500));
        assert!(of("on-failure", 1, false, 500));
        assert!(!of("on-failure", 0, false, 500));
        assert!(!of("on-failure:3", 1, false, 500), "it has given up");
        assert!(of("on-failure:3", 255, false, 500), "it was cut off");
        assert!(!of("no", 255, false, 500) && !of("", 255, false, 500));
        let created = Status::default();
        let policy = RestartPolicy {
            name: "always".into(),
            ..RestartPolicy::default()
        };
        assert!(!should_run(&policy, &created, boot), "it was never started");
    }

    #[test]
    fn this_host_was_started_before_now() {
        let boot = boot_time().unwrap();
        assert!(boot > Time(0) && boot < Time::now());
    }
}
