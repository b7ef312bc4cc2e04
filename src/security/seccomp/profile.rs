//! The default filter: docker's rules, grouped by what the calls are for.
//!
//! What it does: holds the rules as a table in which every group has its reason, and makes of it the
//! rules for one container: which calls are allowed depends on its capabilities, the architecture and
//! the kernel. Everything that is not allowed fails with EPERM (a call newer than the table with
//! ENOSYS, see `compile.rs`).
//! What it implements: the effect of docker's default profile as of 2026: about 370 calls are always
//! allowed; io_uring, keyrings, kexec, swap, userfaultfd, old and rare calls are not.
//! Interface: [`GROUPS`], [`docker_default`]. Read next: `docker_json.rs`, for profiles of users.

use super::names;
use crate::security::capabilities::{CapSet, Capability};
use crate::spec::runtime::{
    Seccomp, SeccompAction, SeccompArch, SeccompOp, SyscallArg, SyscallRule,
};

/// When a group applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// To every container.
    Always,
    /// To one whose bounding set has this capability (without `CAP_`).
    With(&'static str),
    /// To one whose bounding set lacks it.
    Without(&'static str),
    /// On these architectures (docker's names).
    On(&'static [&'static str]),
    /// From this kernel on.
    Since(u32, u32),
}

/// A condition on the first argument: the operator, its value, its second value.
pub type Condition = (SeccompOp, u64, u64);

/// Calls that share a purpose and a rule.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// A short name.
    pub name: &'static str,
    /// Why the rule is what it is: one sentence.
    pub why: &'static str,
    /// The calls, separated by white space. One that an architecture lacks is skipped there.
    pub calls: &'static str,
    /// When it applies.
    pub when: When,
    /// Alternatives for the first argument; empty means any.
    pub first: &'static [Condition],
    /// The errno with which the calls fail; `None` means that they are allowed.
    pub errno: Option<u16>,
}

impl Group {
    /// The calls' names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.calls.split_ascii_whitespace()
    }
    /// Whether it applies.
    pub fn applies(&self, caps: CapSet, arch: SeccompArch, kernel: (u32, u32)) -> bool {
        let has = |name: &str| name.parse::<Capability>().is_ok_and(|c| caps.has(c));
        match self.when {
            When::Always => true,
            When::With(name) => has(name),
            When::Without(name) => !has(name),
            When::On(list) => list.contains(&names::docker_name(arch)),
            When::Since(major, minor) => kernel >= (major, minor),
        }
    }
}

const fn always(name: &'static str, why: &'static str, calls: &'static str) -> Group {
    when(When::Always, name, why, calls)
}

const fn when(when: When, name: &'static str, why: &'static str, calls: &'static str) -> Group {
    Group {
        name,
        why,
        calls,
        when,
        first: &[],
        errno: None,
    }
}

/// `CLONE_NEW*` of sched.h except time: mount, cgroup, uts, ipc, user, pid, network.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// The execution domains that change nothing dangerous: default, 32-bit kernel name, 32 bits.
const UNAME26: u64 = 0x20000;
const PER_LINUX32: u64 = 8;
/// `AF_ALG`, `AF_NFC`, `AF_VSOCK` of socket.h stand in a row.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The rules.
pub const GROUPS: &[Group] = &[
    always(
        "reading and writing",
        "work on descriptors that the program has already",
        "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek \
         sendfile sendfile64 copy_file_range splice tee vmsplice readahead fadvise64 fadvise64_64 \
         fallocate ftruncate ftruncate64 fsync fdatasync sync_file_range sync syncfs close \
         close_range dup dup2 dup3 fcntl fcntl64 flock ioctl pipe pipe2 cachestat",
    ),
    always(
        "files by name",
        "the mount namespace and file permissions decide what can be reached",
        "open openat openat2 creat access faccessat faccessat2 stat stat64 lstat lstat64 fstat \
         fstat64 fstatat64 newfstatat statx readlink readlinkat getdents getdents64 getcwd chdir \
         fchdir mkdir mkdirat rmdir link linkat symlink symlinkat unlink unlinkat rename renameat \
         renameat2 truncate truncate64 mknod mknodat umask name_to_handle_at utime utimes \
         futimesat utimensat utimensat_time64 chmod fchmod fchmodat fchmodat2 chown chown32 lchown \
         lchown32 fchown fchown32 fchownat",
    ),
    always(
        "extended attributes",
        "the kernel checks the capability that each attribute needs",
        "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr \
         llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat",
    ),
    always(
        "file systems",
        "tells about mounts of the own namespace, changes nothing",
        "statfs statfs64 fstatfs fstatfs64 statmount listmount",
    ),
    always(
        "watching",
        "waits for events on descriptors and files",
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create \
         epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 \
         eventfd eventfd2 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch \
         fanotify_mark signalfd signalfd4 timerfd_create timerfd_settime timerfd_settime64 \
         timerfd_gettime timerfd_gettime64",
    ),
    always(
        "asynchronous input and output",
        "the old interface; io_uring is left out, for it has been the way of many break-outs",
        "io_setup io_submit io_getevents io_pgetevents io_pgetevents_time64 io_cancel io_destroy",
    ),
    always(
        "memory",
        "changes the own address space only",
        "brk mmap mmap2 munmap mremap mprotect msync madvise mincore mlock mlock2 munlock mlockall \
         munlockall remap_file_pages membarrier memfd_create memfd_secret mseal pkey_alloc \
         pkey_free pkey_mprotect map_shadow_stack process_mrelease",
    ),
    always(
        "processes",
        "starts, ends and waits for processes of the own pid namespace",
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid pidfd_open getpid getppid \
         gettid getpgid getpgrp setpgid getsid setsid prctl restart_syscall rseq set_tid_address \
         set_thread_area get_thread_area set_robust_list get_robust_list uretprobe riscv_hwprobe",
    ),
    always(
        "signals",
        "the pid namespace bounds whom a signal can reach",
        "kill tkill tgkill pidfd_send_signal pause rt_sigaction rt_sigpending rt_sigprocmask \
         rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
         rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn",
    ),
    always(
        "users and groups",
        "the kernel asks for CAP_SETUID and CAP_SETGID",
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 \
         getresgid getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid \
         setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid \
         setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset",
    ),
    always(
        "scheduling and limits",
        "the kernel lets nobody raise what CAP_SYS_NICE or CAP_SYS_RESOURCE guard",
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr \
         sched_getparam sched_setparam sched_getscheduler sched_setscheduler \
         sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
         sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getrlimit \
         ugetrlimit setrlimit prlimit64 getrusage getcpu times",
    ),
    always(
        "locks between threads",
        "what every thread library is made of",
        "futex futex_time64 futex_wait futex_wake futex_waitv futex_requeue",
    ),
    always(
        "time",
        "reads clocks and sleeps; the kernel asks for CAP_SYS_TIME to adjust",
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 \
         clock_nanosleep clock_nanosleep_time64 nanosleep alarm getitimer setitimer timer_create \
         timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
         adjtimex clock_adjtime clock_adjtime64",
    ),
    always(
        "sockets",
        "the network namespace bounds what they reach; making one has its own rule",
        "bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt shutdown \
         send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 socketpair \
         socketcall",
    ),
    always(
        "messages and shared memory",
        "the ipc namespace bounds what they reach",
        "ipc semget semctl semop semtimedop semtimedop_time64 msgget msgctl msgsnd msgrcv shmget \
         shmctl shmat shmdt mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive \
         mq_timedreceive_time64 mq_notify mq_getsetattr",
    ),
    always(
        "giving up power",
        "a program may always bind itself further",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    always(
        "the system",
        "tells its name, load and randomness",
        "uname sysinfo getrandom",
    ),
    Group {
        first: &[
            (SeccompOp::Less, AF_ALG, 0),
            (SeccompOp::Equal, AF_ALG + 1, 0),
            (SeccompOp::Greater, AF_VSOCK, 0),
        ],
        ..always(
            "making sockets",
            "not AF_VSOCK, which reaches virtual machines past the network namespace, and not \
             AF_ALG, the kernel's cryptography, which containers hardly need",
            "socket",
        )
    },
    Group {
        first: &[
            (SeccompOp::Equal, 0, 0),
            (SeccompOp::Equal, PER_LINUX32, 0),
            (SeccompOp::Equal, UNAME26, 0),
            (SeccompOp::Equal, UNAME26 | PER_LINUX32, 0),
            (SeccompOp::Equal, 0xffff_ffff, 0), // asks without changing
        ],
        ..always(
            "execution domain",
            "only values that leave the protections of memory as they are",
            "personality",
        )
    },
    when(
        When::Since(4, 8),
        "tracing",
        "before Linux 4.8 a tracer could pass a filter by changing the call",
        "ptrace process_vm_readv process_vm_writev",
    ),
    Group {
        first: &[(SeccompOp::MaskedEqual, NEW_NAMESPACES, 0)],
        ..when(
            When::Without("SYS_ADMIN"),
            "threads and processes",
            "everything that clone can do but making namespaces",
            "clone",
        )
    },
    Group {
        errno: Some(libc::ENOSYS as u16),
        ..when(
            When::Without("SYS_ADMIN"),
            "clone3",
            "its flags lie in memory, where a filter cannot look; ENOSYS makes libraries use clone",
            "clone3",
        )
    },
    when(
        When::With("SYS_ADMIN"),
        "administration",
        "mounts and namespaces, for a container that was given CAP_SYS_ADMIN",
        "mount umount umount2 mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick \
         clone clone3 setns unshare sethostname setdomainname quotactl quotactl_fd fanotify_init \
         lookup_dcookie bpf perf_event_open syslog lsm_get_self_attr lsm_set_self_attr \
         lsm_list_modules",
    ),
    when(
        When::With("DAC_READ_SEARCH"),
        "files by handle",
        "reaches files past every directory",
        "open_by_handle_at",
    ),
    when(
        When::With("SYS_BOOT"),
        "reboot",
        "stops the machine",
        "reboot",
    ),
    when(
        When::With("SYS_CHROOT"),
        "root directory",
        "changes what / means",
        "chroot",
    ),
    when(
        When::With("SYS_MODULE"),
        "kernel modules",
        "code that runs as the kernel",
        "init_module finit_module delete_module",
    ),
    when(
        When::With("SYS_PACCT"),
        "accounting",
        "records of the whole host's processes",
        "acct",
    ),
    when(
        When::With("SYS_PTRACE"),
        "other processes",
        "looks into and takes from other processes",
        "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp",
    ),
    when(
        When::With("SYS_RAWIO"),
        "ports",
        "drives hardware directly",
        "iopl ioperm",
    ),
    when(
        When::With("SYS_TIME"),
        "setting the clock",
        "time is the whole host's",
        "settimeofday stime clock_settime clock_settime64",
    ),
    when(
        When::With("SYS_TTY_CONFIG"),
        "hanging up",
        "takes the terminal from everybody",
        "vhangup",
    ),
    when(
        When::With("SYS_NICE"),
        "memory nodes",
        "says where memory lies",
        "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    ),
    when(
        When::With("SYSLOG"),
        "kernel log",
        "the whole host's messages",
        "syslog",
    ),
    when(When::With("BPF"), "bpf", "programs in the kernel", "bpf"),
    when(
        When::With("PERFMON"),
        "measuring",
        "performance counters",
        "perf_event_open",
    ),
    when(
        When::On(&["amd64", "x32"]),
        "x86_64",
        "registers that hold the thread's data",
        "arch_prctl",
    ),
    when(
        When::On(&["amd64", "x32", "x86"]),
        "x86",
        "segments of old programs",
        "modify_ldt",
    ),
    when(
        When::On(&["arm", "arm64"]),
        "arm",
        "calls that only arm has",
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    when(
        When::On(&["ppc64le"]),
        "ppc64le",
        "calls that only ppc has",
        "sync_file_range2 swapcontext",
    ),
    when(
        When::On(&["riscv64"]),
        "riscv64",
        "the instruction cache",
        "riscv_flush_icache",
    ),
    when(
        When::On(&["s390", "s390x"]),
        "s390x",
        "calls that only s390 has",
        "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ),
];

/// The architectures whose programs run on one, itself first.
pub fn family(arch: SeccompArch) -> Vec<SeccompArch> {
    match arch {
        SeccompArch::X86_64 => vec![SeccompArch::X86_64, SeccompArch::X86, SeccompArch::X32],
        SeccompArch::Aarch64 => vec![SeccompArch::Aarch64, SeccompArch::Arm],
        other => vec![other],
    }
}

/// The default rules for a container with this bounding set, on an architecture and a kernel
/// (major, minor). Pure.
pub fn docker_default(caps: CapSet, arch: SeccompArch, kernel: (u32, u32)) -> Seccomp {
    let rules = GROUPS
        .iter()
        .filter(|g| g.applies(caps, arch, kernel))
        .flat_map(|group| {
            let rule = |args: Vec<SyscallArg>| SyscallRule {
                names: group.names().map(Into::into).collect(),
                action: match group.errno {
                    None => SeccompAction::Allow,
                    Some(_) => SeccompAction::Errno,
                },
                errno_ret: group.errno.map(Into::into),
                args,
                ..SyscallRule::default()
            };
            let argument = |(op, value, value_two): &Condition| SyscallArg {
                op: *op,
                value: *value,
                value_two: *value_two,
                ..SyscallArg::default()
            };
            match group.first {
                [] => vec![rule(Vec::new())],
                list => list.iter().map(|c| rule(vec![argument(c)])).collect(),
            }
        })
        .collect();
    Seccomp {
        default_action: SeccompAction::Errno,
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: family(arch),
        syscalls: rules,
        ..Seccomp::default()
    }
}

/// The group that rules a call for a container, for explanations: the first that names it and
/// applies. `None`: the call is forbidden.
pub fn group_of(
    call: &str,
    caps: CapSet,
    arch: SeccompArch,
    kernel: (u32, u32),
) -> Option<&'static Group> {
    GROUPS
        .iter()
        .find(|g| g.applies(caps, arch, kernel) && g.names().any(|n| n == call))
}
