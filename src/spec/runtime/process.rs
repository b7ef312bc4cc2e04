//! `process`: the program, its user, its privileges and limits.
//!
//! What it implements: config.md, "Process" and "POSIX process". Interface: [`Process`].
//! Read next: `linux.rs`; what the privileges mean is in [`crate::security`].

use std::path::PathBuf;

document! {
    /// The container's program.
    #[serde(rename_all = "camelCase")]
    pub struct Process {
        required:
        /// Its working directory, an absolute path.
        cwd: PathBuf,
        /// Who it runs as. Absent: root.
        #[serde(default)]
        user: User;
        optional:
        /// Standard streams are a terminal.
        terminal: bool,
        /// The terminal's size.
        console_size: Option<ConsoleSize>,
        /// The program and its arguments.
        args: Vec<String>,
        /// `KEY=VALUE` entries: its whole environment.
        env: Vec<String>,
        /// Its capability sets. Absent: all sets are empty.
        capabilities: Option<Capabilities>,
        /// Resource limits; a type at most once.
        rlimits: Vec<Rlimit>,
        /// execve gives no further privileges (prctl(2), PR_SET_NO_NEW_PRIVS).
        no_new_privileges: bool,
        /// The AppArmor profile.
        apparmor_profile: Option<String>,
        /// The SELinux label.
        selinux_label: Option<String>,
        /// -1000 to 1000, written to /proc/self/oom_score_adj. Absent: not touched.
        oom_score_adj: Option<i32>,
        /// sched_setattr(2).
        scheduler: Option<Scheduler>,
        /// ioprio_set(2).
        io_priority: Option<IoPriority>,
        /// CPUs of a process that `exec` adds.
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<CpuAffinity>;
    }
}

document! {
    /// A terminal's size in characters.
    pub struct ConsoleSize {
        required:
        /// Rows.
        height: u16,
        /// Columns.
        width: u16;
    }
}

document! {
    /// Who the program runs as. Ids are those inside the container's user namespace.
    #[serde(rename_all = "camelCase")]
    pub struct User {
        required:
        /// The user id.
        #[serde(default)]
        uid: u32,
        /// The group id.
        #[serde(default)]
        gid: u32;
        optional:
        /// The file mode creation mask. Absent: 0022.
        umask: Option<u32>,
        /// Supplementary groups.
        additional_gids: Vec<u32>,
        /// The user's name, for systems that use names.
        username: Option<String>;
    }
}

document! {
    /// The five capability sets, as names (`CAP_CHOWN`). See capabilities(7).
    #[serde(rename_all = "camelCase")]
    pub struct Capabilities {
        optional:
        /// What no process of the container can ever exceed.
        bounding: Vec<String>,
        /// What the kernel checks.
        effective: Vec<String>,
        /// What survives execve of a file that has it inheritable too.
        inheritable: Vec<String>,
        /// What may be made effective.
        permitted: Vec<String>,
        /// What survives execve of any file.
        ambient: Vec<String>;
    }
}

document! {
    /// One resource limit. See getrlimit(2); `u64::MAX` means no limit.
    #[serde(rename_all = "camelCase")]
    pub struct Rlimit {
        required:
        /// Its name: `RLIMIT_NOFILE`, …
        #[serde(rename = "type")]
        typ: String,
        /// What the process may raise its soft limit to.
        hard: u64,
        /// What the kernel enforces.
        soft: u64;
    }
}

document! {
    /// The scheduler's settings. See sched_setattr(2).
    #[serde(rename_all = "camelCase")]
    pub struct Scheduler {
        required:
        /// `SCHED_OTHER`, `SCHED_FIFO`, `SCHED_RR`, `SCHED_BATCH`, `SCHED_ISO`, `SCHED_IDLE` or
        /// `SCHED_DEADLINE`.
        policy: String;
        optional:
        /// For OTHER and BATCH: -20 to 19.
        nice: i32,
        /// For FIFO and RR: 1 to 99.
        priority: i32,
        /// `SCHED_FLAG_…` names.
        flags: Vec<String>,
        /// For DEADLINE, in nanoseconds.
        runtime: u64,
        /// For DEADLINE, in nanoseconds.
        deadline: u64,
        /// For DEADLINE, in nanoseconds.
        period: u64;
    }
}

document! {
    /// The I/O priority. See ioprio_set(2).
    #[serde(rename_all = "camelCase")]
    pub struct IoPriority {
        required:
        /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE` or `IOPRIO_CLASS_IDLE`.
        class: String,
        /// 0 (first) to 7 within the class.
        #[serde(default)]
        priority: i64;
    }
}

document! {
    /// The CPUs of an `exec`ed process, in cpuset's list form (`0-3,7`).
    pub struct CpuAffinity {
        optional:
        /// While the runtime prepares it, before it enters the container's cgroup.
        initial: Option<String>,
        /// After it entered the cgroup.
        #[serde(rename = "final")]
        r#final: Option<String>;
    }
}
