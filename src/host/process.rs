//! What the kernel says of one process in a line: its state, its parent, when it started.
//!
//! What it does: reads /proc/PID/stat. A process id may be given to somebody else once its process
//! has ended; an id together with the start time means one process for ever, so that pair is what
//! this crate writes down.
//!
//! What it implements: proc_pid_stat(5), by the crate procfs. Interface: [`stat`], [`parse_stat`],
//! [`is_dead`], [`start_time`], [`is_filtered`]. Read next: `elf.rs`.

use procfs::FromRead;
pub use procfs::process::Stat;

/// The line of a process; `None` when there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&super::read_text(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses the line; `None` for any other text. The name in it may hold spaces and parentheses.
pub fn parse_stat(text: &str) -> Option<Stat> {
    // procfs cuts at fixed distances from the parentheses, which is right for the kernel's text
    // and panics on other text: so the frame is looked at first.
    let (head, tail) = text.trim().rsplit_once(')')?;
    let (pid, _) = head.split_once(" (")?;
    if pid.parse::<i32>().is_err() || !tail.starts_with(' ') || !tail.is_ascii() {
        return None;
    }
    Stat::from_read(text.as_bytes()).ok()
}

/// Ended, and only its parent's wait is missing.
pub fn is_dead(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X')
}

/// Whether a seccomp filter holds this process, as in a container: then ENOSYS and EPERM may be its
/// answer, and not the kernel's. See seccomp(2), `Seccomp` in proc_pid_status(5).
pub fn is_filtered() -> bool {
    let status = super::read_text("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

/// The start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); `None`
/// when it does not exist or is a zombie. See proc_pid_stat(5).
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = stat(pid)?;
    (!is_dead(&stat)).then_some(stat.starttime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_pid_and_start() {
        assert!(start_time(std::process::id() as i32).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn this_process_is_alive_and_has_a_parent() {
        let me = stat(std::process::id() as i32).unwrap();
        assert!(!is_dead(&me) && me.ppid > 0 && me.starttime > 0);
        assert!(stat(i32::MAX).is_none());
    }

    #[test]
    fn a_name_may_hold_parentheses() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (head, tail) = (
            text.split_once('(').unwrap().0,
            text.rsplit_once(')').unwrap().1,
        );
        let odd = parse_stat(&format!("{head}(a) (b c){tail}")).unwrap();
        assert_eq!(odd.comm, "a) (b c");
    }
}
