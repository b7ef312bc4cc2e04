//! `linux.seccomp`: which system calls the container may make.
//!
//! What it implements: config-linux.md, "Seccomp". The words are libseccomp's.
//! Interface: [`Seccomp`]. Read next: `security::seccomp`, which compiles it to BPF.

use serde::{Deserialize, Serialize};

document! {
    /// The filter.
    #[serde(rename_all = "camelCase")]
    pub struct Seccomp {
        required:
        /// What happens to a call that no rule names.
        default_action: SeccompAction;
        optional:
        /// The errno of a default action `SCMP_ACT_ERRNO` (or the data of `SCMP_ACT_TRACE`).
        /// Absent: EPERM.
        default_errno_ret: Option<u32>,
        /// Architectures beside the native one.
        architectures: Vec<SeccompArch>,
        /// Flags of seccomp(2).
        flags: Vec<SeccompFlag>,
        /// A unix socket that gets the listener's descriptor (for `SCMP_ACT_NOTIFY`).
        listener_path: Option<String>,
        /// Data for whoever listens there.
        listener_metadata: Option<String>,
        /// The rules.
        syscalls: Vec<SyscallRule>;
    }
}

document! {
    /// A rule for some calls. All its arguments must match.
    #[serde(rename_all = "camelCase")]
    pub struct SyscallRule {
        required:
        /// The calls' names. One that this system does not know is skipped.
        names: Vec<String>,
        /// What happens.
        action: SeccompAction;
        optional:
        /// The errno of `SCMP_ACT_ERRNO`, or the data of `SCMP_ACT_TRACE`. Absent: EPERM.
        errno_ret: Option<u32>,
        /// Conditions on arguments.
        args: Vec<SyscallArg>;
    }
}

document! {
    /// A condition on one argument, a 64-bit unsigned comparison.
    #[serde(rename_all = "camelCase")]
    pub struct SyscallArg {
        required:
        /// Which argument, 0 to 5.
        index: u32,
        /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the mask.
        value: u64,
        /// How.
        op: SeccompOp;
        optional:
        /// For `SCMP_CMP_MASKED_EQ`: what the masked argument must equal.
        value_two: u64;
    }
}

/// What happens to a call. See seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Ends the thread (libseccomp's old name for `KillThread`).
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Ends the process with SIGSYS.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Ends the thread with SIGSYS.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends SIGSYS, which the program may catch.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// The call fails with an errno.
    #[default]
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Stops for a tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// The call is made.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// The call is made, and logged.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// A listener decides.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SeccompOp {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[default]
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// Flags of seccomp(2), SECCOMP_SET_MODE_FILTER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SeccompFlag {
    /// All threads get the filter.
    #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
    Tsync,
    /// Everything but "allow" is logged.
    #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
    Log,
    /// No mitigation of speculative store bypass for it.
    #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    SpecAllow,
    /// While a listener decides, only a fatal signal interrupts.
    #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    WaitKillableRecv,
}

macro_rules! architectures {
    ($($variant:ident $name:literal)+) => {
        /// An architecture's system call interface, in libseccomp's words.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(missing_docs)]
        pub enum SeccompArch { $(#[serde(rename = $name)] $variant,)+ }
        impl SeccompArch {
            /// The name in documents: `SCMP_ARCH_X86_64`.
            pub fn name(self) -> &'static str {
                match self { $(SeccompArch::$variant => $name,)+ }
            }
        }
    };
}
architectures! {
    X86 "SCMP_ARCH_X86"
    X86_64 "SCMP_ARCH_X86_64"
    X32 "SCMP_ARCH_X32"
    Arm "SCMP_ARCH_ARM"
    Aarch64 "SCMP_ARCH_AARCH64"
    Mips "SCMP_ARCH_MIPS"
    Mips64 "SCMP_ARCH_MIPS64"
    Mips64N32 "SCMP_ARCH_MIPS64N32"
    Mipsel "SCMP_ARCH_MIPSEL"
    Mipsel64 "SCMP_ARCH_MIPSEL64"
    Mipsel64N32 "SCMP_ARCH_MIPSEL64N32"
    Ppc "SCMP_ARCH_PPC"
    Ppc64 "SCMP_ARCH_PPC64"
    Ppc64le "SCMP_ARCH_PPC64LE"
    S390 "SCMP_ARCH_S390"
    S390x "SCMP_ARCH_S390X"
    Parisc "SCMP_ARCH_PARISC"
    Parisc64 "SCMP_ARCH_PARISC64"
    Riscv64 "SCMP_ARCH_RISCV64"
    Loongarch64 "SCMP_ARCH_LOONGARCH64"
    M68k "SCMP_ARCH_M68K"
    Sh "SCMP_ARCH_SH"
    Sheb "SCMP_ARCH_SHEB"
}
