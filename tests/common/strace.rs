//! What an independent observer saw: the output of `strace -f -y` as calls, and which of them
//! change something.
//!
//! Interface: [`parse`], [`Call`], [`Call::changes_state`]. Read next: `../journal.rs`, which
//! compares it with a container's journal.

use std::collections::HashMap;

/// The options that [`parse`] understands the output of: all processes, descriptors with their
/// paths, long strings, no messages of strace's own.
pub const OPTIONS: &[&str] = &["-f", "-y", "-s", "4096", "-qq", "-e", "signal=none"];

/// One system call as strace printed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who made it, on the host.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// Everything between the parentheses.
    pub args: String,
    /// What it returned; `None` for one that never did.
    pub returned: Option<i64>,
    /// The errno's name, if it failed.
    pub errno: Option<String>,
}

/// Reads strace's output. A call that another process interrupted is put together again, at the
/// place where it ended; one that never ended stands last.
pub fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<i32, String> = HashMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.trim_start().split_once(char::is_whitespace) else {
            continue;
        };
        let (Ok(pid), rest) = (pid.parse::<i32>(), rest.trim_start()) else {
            continue;
        };
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(start) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(pid, start.trim_end().to_string());
        } else if rest.starts_with("<... ") {
            let end = rest.split_once("resumed>").map_or("", |(_, end)| end);
            let start = unfinished.remove(&pid).unwrap_or_default();
            calls.extend(call(pid, &format!("{start}{end}")));
        } else {
            calls.extend(call(pid, rest));
        }
    }
    for (pid, start) in unfinished {
        calls.extend(call(pid, &format!("{start}) = ?")));
    }
    calls
}

fn call(pid: i32, text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    // The last ")" before "= " ends the arguments, with spaces between to align the results.
    let (args, result) = rest.rmatch_indices("= ").find_map(|(at, _)| {
        let args = rest[..at].trim_end_matches(' ').strip_suffix(')')?;
        Some((args, &rest[at + 2..]))
    })?;
    let result = result.trim();
    let number = result
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .next()
        .unwrap_or("");
    let returned = match number.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    };
    let errno = (returned == Some(-1))
        .then(|| result.split_whitespace().nth(1))
        .flatten()
        .map(str::to_string);
    // A call that this strace is too old to know.
    let name = match name.strip_prefix("syscall_0x") {
        Some(hex) => u32::from_str_radix(hex, 16)
            .ok()
            .and_then(|n| {
                use glassbox::security::seccomp::names;
                names::name(names::native(), n)
            })
            .unwrap_or(name),
        None => name,
    };
    Some(Call {
        pid,
        name: name.to_string(),
        args: args.trim_end().to_string(),
        returned,
        errno,
    })
}

/// Calls that change the state of the kernel or of a file system whatever their arguments.
const CHANGING: &str = "mount umount2 pivot_root chroot move_mount mount_setattr fsopen fsconfig \
    fsmount unshare setns clone clone3 fork vfork execve execveat mkdir mkdirat rmdir mknod mknodat \
    link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 chmod fchmod fchmodat \
    fchmodat2 chown lchown fchown fchownat truncate ftruncate fallocate utime utimes utimensat \
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat removexattrat \
    creat sethostname setdomainname setuid setgid setreuid setregid setresuid setresgid setgroups \
    setfsuid setfsgid capset keyctl add_key request_key setrlimit umask setsid setpgid chdir fchdir \
    bind kill tkill tgkill pidfd_send_signal bpf setpriority sched_setattr sched_setscheduler \
    sched_setaffinity ioprio_set set_mempolicy settimeofday clock_settime reboot swapon swapoff acct \
    quotactl init_module finit_module delete_module perf_event_open fanotify_init landlock_restrict_self";

/// The type of a netlink message, where strace printed a number: of a socket of another network
/// namespace it does not know that it is one of rtnetlink(7)'s.
fn netlink_number(args: &str) -> Option<u16> {
    let kind = args.split("nlmsg_type=0x").nth(1)?;
    u16::from_str_radix(kind.split([',', ' ']).next()?, 16).ok()
}

/// Whether it is a batch for netfilter: its first message is a header and four bytes, which no
/// request about a link is, though its type has the same number.
fn is_batch(args: &str) -> bool {
    args.contains("NFNL_MSG_BATCH_BEGIN") || args.contains("{nlmsg_len=20, nlmsg_type=0x10 ")
}

/// Whether it is a batch for netfilter, or a request of rtnetlink(7) for anything but a list: of the
/// four types for each kind of thing (NEW, DEL, GET, SET), the third only reads.
fn changes_the_network(args: &str) -> bool {
    match netlink_number(args) {
        _ if is_batch(args) => true,
        Some(number) => (16..256).contains(&number) && number % 4 != 2,
        None => args
            .split("nlmsg_type=RTM_")
            .nth(1)
            .is_some_and(|kind| !kind.starts_with("GET")),
    }
}

impl Call {
    /// Whether it changes something that others can see: mounts, namespaces, processes, files,
    /// identity, limits, kernel settings.
    ///
    /// Left out, because they change nothing outside the caller, or nothing but the talk between our
    /// own processes: its memory, its signal handlers, its table of descriptors (close, dup, fcntl),
    /// its threads; pipes, sockets, terminals that are written to; locks and syncs.
    pub fn changes_state(&self) -> bool {
        let args = self.args.as_str();
        match self.name.as_str() {
            "open" | "openat" | "openat2" => args.contains("O_CREAT") || args.contains("O_TRUNC"),
            "open_tree" | "open_tree_attr" => args.contains("OPEN_TREE_CLONE"),
            "write" | "pwrite64" | "writev" | "pwritev" | "copy_file_range" | "sendfile" => {
                self.writes_a_file()
            }
            "prctl" => {
                !args.starts_with("PR_GET")
                    && !args.starts_with("PR_CAPBSET_READ")
                    && !args.contains("PR_CAP_AMBIENT_IS_SET")
                    && !args.starts_with("PR_SET_NAME")
                    && !args.starts_with("PR_SET_VMA")
            }
            "personality" => !args.starts_with("0xffffffff"),
            "sendto" | "sendmsg" => changes_the_network(args),
            "prlimit64" => args.split(", ").nth(2).is_some_and(|new| new != "NULL"),
            "seccomp" => args.starts_with("SECCOMP_SET_MODE"),
            "ioctl" => [
                "SIOCS",
                "SIOCBR",
                "TIOCSCTTY",
                "TIOCSWINSZ",
                "TIOCSPTLCK",
                "FICLONE",
                "FS_IOC_SET",
                "TCSETS",
                "TUNSET",
            ]
            .iter()
            .any(|request| args.contains(request)),
            name => CHANGING.split_ascii_whitespace().any(|c| c == name),
        }
    }

    /// Whether the descriptor is a file's, by the path that `-y` printed.
    fn writes_a_file(&self) -> bool {
        let target = self.args.split_once('<').map_or("", |(_, rest)| rest);
        target.starts_with('/')
            && !target.starts_with("/dev/null")
            && !target.starts_with("/dev/pts/")
            && !target.starts_with("/dev/tty")
    }

    /// What a netlink message that strace could not read asks for, as the journal says it: what it is,
    /// and the first name in it.
    pub fn asks_for(&self) -> Option<(&'static str, String)> {
        if self.name != "sendto" {
            return None;
        }
        if is_batch(&self.args) {
            return Some(("NETLINK_NETFILTER, ", String::new()));
        }
        let kind = match netlink_number(&self.args)? {
            16 => "NETLINK_ROUTE, RTM_NEWLINK, ",
            17 => "NETLINK_ROUTE, RTM_DELLINK, ",
            19 => "NETLINK_ROUTE, RTM_SETLINK, ",
            20 => return Some(("NETLINK_ROUTE, RTM_NEWADDR, ", String::new())),
            24 => return Some(("NETLINK_ROUTE, RTM_NEWROUTE, ", String::new())),
            _ => return None,
        };
        let text = self.strings().concat();
        let bytes = text.split("\\x").map(|n| u8::from_str_radix(n, 16));
        let text: String = bytes.map(|b| char::from(b.unwrap_or(0))).collect();
        let mut words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let name = words.find(|word| word.len() > 3).unwrap_or_default();
        Some((kind, name.to_string()))
    }

    /// The strings among its arguments, as they stand between quotation marks; of a string that
    /// strace cut short, what is left.
    pub fn strings(&self) -> Vec<String> {
        let (mut strings, mut current, mut escaped) = (Vec::new(), None::<String>, false);
        for c in self.args.chars() {
            match (&mut current, c) {
                (Some(text), '"') if !escaped => {
                    strings.push(std::mem::take(text));
                    current = None;
                }
                (Some(text), c) => {
                    text.push(c);
                    escaped = c == '\\' && !escaped;
                }
                (None, '"') => current = Some(String::new()),
                (None, _) => {}
            }
        }
        strings
    }
}
