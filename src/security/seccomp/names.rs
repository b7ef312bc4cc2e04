//! System calls by name and number, for the architectures whose programs may run here.
//!
//! What it implements: the kernel's system call tables (by the `syscalls` crate); x32's own numbers
//! out of arch/x86/entry/syscalls/syscall_64.tbl; `AUDIT_ARCH_*` of linux/audit.h.
//! Interface: [`native`], [`audit_arch`], [`number`], [`name`], [`all`]. Read next: `compile.rs`.

use crate::spec::runtime::SeccompArch;
use std::sync::OnceLock;

/// x32 programs use the numbers of x86_64 with this bit (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

/// Calls whose x32 form differs from the one of x86_64, from number 512 on.
const X32: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];
const X32_FIRST: u32 = 512;

/// The architecture of this program.
pub fn native() -> SeccompArch {
    match std::env::consts::ARCH {
        "x86" => SeccompArch::X86,
        "aarch64" => SeccompArch::Aarch64,
        "arm" => SeccompArch::Arm,
        "riscv64" => SeccompArch::Riscv64,
        _ => SeccompArch::X86_64,
    }
}

/// The number that the kernel gives a filter; `None` for one without a table here. x32 has
/// x86_64's and is told apart by [`X32_BIT`].
pub fn audit_arch(arch: SeccompArch) -> Option<u32> {
    Some(match arch {
        SeccompArch::X86_64 | SeccompArch::X32 => 0xc000_003e,
        SeccompArch::X86 => 0x4000_0003,
        SeccompArch::Aarch64 => 0xc000_00b7,
        SeccompArch::Arm => 0x4000_0028,
        SeccompArch::Riscv64 => 0xc000_00f3,
        _ => return None,
    })
}

/// The architecture of a call that a filter sees.
pub fn arch_of(audit: u32, nr: u32) -> Option<SeccompArch> {
    Some(match audit {
        0xc000_003e if nr >= X32_BIT => SeccompArch::X32,
        0xc000_003e => SeccompArch::X86_64,
        0x4000_0003 => SeccompArch::X86,
        0xc000_00b7 => SeccompArch::Aarch64,
        0x4000_0028 => SeccompArch::Arm,
        0xc000_00f3 => SeccompArch::Riscv64,
        _ => return None,
    })
}

/// Whether its arguments have 32 bits.
pub fn is_32_bit(arch: SeccompArch) -> bool {
    matches!(arch, SeccompArch::X86 | SeccompArch::Arm)
}

/// docker's name of an architecture in profiles.
pub fn docker_name(arch: SeccompArch) -> &'static str {
    match arch {
        SeccompArch::X86 => "x86",
        SeccompArch::X86_64 => "amd64",
        SeccompArch::X32 => "x32",
        SeccompArch::Arm => "arm",
        SeccompArch::Aarch64 => "arm64",
        SeccompArch::Riscv64 => "riscv64",
        SeccompArch::Ppc64le => "ppc64le",
        SeccompArch::S390 => "s390",
        SeccompArch::S390x => "s390x",
        other => other.name(),
    }
}

/// The number of a call, with [`X32_BIT`] for x32. `None` when the architecture has no such call.
pub fn number(arch: SeccompArch, name: &str) -> Option<u32> {
    if arch == SeccompArch::X32 {
        if let Some(at) = X32.iter().position(|n| *n == name) {
            return Some(X32_BIT | (X32_FIRST + at as u32));
        }
        return Some(X32_BIT | number(SeccompArch::X86_64, name)?);
    }
    let calls = by_name(arch)?;
    match calls.binary_search_by_key(&name, |(n, _)| n) {
        Ok(at) => Some(calls[at].1),
        // The private calls of arm have numbers far above all others.
        Err(_) if arch == SeccompArch::Arm => {
            u32::try_from(name.parse::<syscalls::arm::Sysno>().ok()?.id()).ok()
        }
        Err(_) => None,
    }
}

/// The calls of an architecture other than x32, sorted by name. A profile asks for each of its
/// hundreds of names several times, so they are sorted once.
fn by_name(arch: SeccompArch) -> Option<&'static [(&'static str, u32)]> {
    static TABLES: [OnceLock<Vec<(&'static str, u32)>>; 5] = [const { OnceLock::new() }; 5];
    let table = match arch {
        SeccompArch::X86_64 => &TABLES[0],
        SeccompArch::X86 => &TABLES[1],
        SeccompArch::Aarch64 => &TABLES[2],
        SeccompArch::Arm => &TABLES[3],
        SeccompArch::Riscv64 => &TABLES[4],
        _ => return None,
    };
    let sorted = || {
        let mut calls: Vec<_> = all(arch).into_iter().map(|(nr, name)| (name, nr)).collect();
        calls.sort_unstable();
        calls
    };
    Some(table.get_or_init(sorted))
}

/// The name of a call by its number (with [`X32_BIT`] for x32).
pub fn name(arch: SeccompArch, number: u32) -> Option<&'static str> {
    let id = number as usize;
    Some(match arch {
        SeccompArch::X86_64 => syscalls::x86_64::Sysno::new(id)?.name(),
        SeccompArch::X32 => {
            let plain = number & !X32_BIT;
            match plain.checked_sub(X32_FIRST) {
                Some(at) => X32.get(at as usize)?,
                None => name(SeccompArch::X86_64, plain)?,
            }
        }
        SeccompArch::X86 => syscalls::x86::Sysno::new(id)?.name(),
        SeccompArch::Aarch64 => syscalls::aarch64::Sysno::new(id)?.name(),
        SeccompArch::Arm => syscalls::arm::Sysno::new(id)?.name(),
        SeccompArch::Riscv64 => syscalls::riscv64::Sysno::new(id)?.name(),
        _ => return None,
    })
}

/// Every call of an architecture, by number.
pub fn all(arch: SeccompArch) -> Vec<(u32, &'static str)> {
    let (base, end) = match arch {
        SeccompArch::X32 => (X32_BIT, X32_FIRST + X32.len() as u32),
        _ => (0, 1024),
    };
    (base..base + end)
        .filter_map(|n| Some((n, name(arch, n)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_together() {
        assert_eq!(number(SeccompArch::X86_64, "openat"), Some(257));
        assert_eq!(number(SeccompArch::X86, "openat"), Some(295));
        assert_eq!(number(SeccompArch::Aarch64, "openat"), Some(56));
        assert_eq!(number(SeccompArch::X32, "openat"), Some(X32_BIT | 257));
        assert_eq!(number(SeccompArch::X32, "execve"), Some(X32_BIT | 520));
        assert_eq!(number(SeccompArch::X32, "pwritev2"), Some(X32_BIT | 547));
        assert_eq!(number(SeccompArch::X86_64, "no_such_call"), None);
        use SeccompArch::*;
        for arch in [X86_64, X32, X86, Aarch64, Arm, Riscv64] {
            let calls = all(arch);
            assert!(calls.len() > 250, "{arch:?}");
            for (n, name) in calls {
                let back = number(arch, name);
                // x32 reaches some calls by two numbers; the own one counts.
                assert!(back == Some(n) || arch == X32, "{arch:?} {name}");
                assert_eq!(arch_of(audit_arch(arch).unwrap(), n), Some(arch));
            }
        }
    }
}
