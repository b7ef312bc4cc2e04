//! Probes: the cgroup hierarchies, their controllers, delegation, pressure.
//!
//! What it implements: cgroups(7), admin-guide/cgroup-v2.rst ("Delegation"), bpf(2).
//! Read next: `mounts.rs`.

use super::{Ability, Probe, setting, unreadable};
use crate::host::{CgroupLayout, LayoutKind};
use crate::sys::{self, Errno};
use std::path::Path;

macro_rules! controller {
    ($name:literal, $what_for:literal) => {
        Probe {
            group: "cgroups",
            name: concat!($name, " controller"),
            what_for: $what_for,
            source: "/proc/self/mountinfo, /proc/cgroups, cgroup.controllers, access(2)",
            check: || controller($name),
        }
    };
}

pub(super) const PROBES: &[Probe] = &[
    Probe {
        group: "cgroups",
        name: "hierarchy",
        what_for: "grouping processes, to limit and count what they use",
        source: "/proc/self/mountinfo",
        check: hierarchy,
    },
    controller!(
        "memory",
        "memory limits and the out-of-memory killer's boundary"
    ),
    controller!("cpu", "processor time: --cpus, --cpu-shares"),
    controller!("cpuset", "which processors and memory nodes: --cpuset-cpus"),
    controller!("pids", "how many processes: --pids-limit"),
    controller!("io", "bandwidth and weight of block devices"),
    controller!("hugetlb", "limits on huge pages"),
    controller!("devices", "which device nodes may be opened"),
    controller!("freezer", "docker pause"),
    Probe {
        group: "cgroups",
        name: "swap accounting",
        what_for: "a limit on swap: --memory-swap",
        source: "memory.memsw.limit_in_bytes (v1), memory.swap.max (v2)",
        check: swap,
    },
    Probe {
        group: "cgroups",
        name: "CLONE_INTO_CGROUP",
        what_for: "starting a process in its group, with no moment outside it",
        source: "/proc/self/mountinfo, uname(2)",
        check: into_cgroup,
    },
    Probe {
        group: "cgroups",
        name: "cgroup.kill",
        what_for: "killing a whole group in one write",
        source: "cgroup.kill in the v2 tree",
        check: || match own_dir() {
            None => no_v2(),
            // The root group has no such file; any child of the tree does.
            Some(dir) if any_child_has(&dir, "cgroup.kill") => Ability::yes(),
            Some(_) => from_version("cgroup.kill", (5, 14)),
        },
    },
    Probe {
        group: "cgroups",
        name: "pressure (PSI)",
        what_for: "how long processes waited for memory, processor and disk",
        source: "/proc/pressure/memory",
        check: || match std::fs::read_to_string("/proc/pressure/memory") {
            Ok(_) => Ability::yes(),
            Err(e) => unreadable(
                "/proc/pressure/memory",
                &e,
                "a kernel built with CONFIG_PSI, and psi=1 on its command line",
            ),
        },
    },
    Probe {
        group: "cgroups",
        name: "BPF cgroup device program",
        what_for: "device rules on cgroup v2, which has no devices controller",
        source: "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE), closed at once",
        check: || {
            // mov r0, 1; exit: it allows everything, and goes when the descriptor is dropped.
            let program = [(0xb7, 1), (0x95, 0)].map(|(code, imm)| sys::bpf::Insn {
                code,
                registers: 0,
                offset: 0,
                imm,
            });
            Ability::of(sys::bpf::prog_load_device(&program), |errno| match errno {
                Errno::EPERM => "root (CAP_BPF); rootless containers have no device rules and \
                                 need none: mknod is forbidden there"
                    .into(),
                _ => "a kernel built with CONFIG_CGROUP_BPF".into(),
            })
        },
    },
];

fn layout() -> Option<CgroupLayout> {
    CgroupLayout::detect().ok()
}

fn hierarchy() -> Ability {
    let Some(layout) = layout() else {
        return Ability::no("/proc/self/mountinfo cannot be read", "mount /proc");
    };
    match layout.kind {
        LayoutKind::None => Ability::no(
            "no cgroup file system is mounted",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        ),
        kind => {
            let name = match kind {
                LayoutKind::Unified => "unified (v2)",
                LayoutKind::Legacy => "legacy (v1)",
                _ => "hybrid: v1 trees, and a v2 tree beside them",
            };
            let many = match layout.hierarchies.len() {
                1 => "1 tree".into(),
                n => format!("{n} trees"),
            };
            Ability::Yes(format!("{name}; {many}"))
        }
    }
}

/// The v1 name of a v2 controller.
fn v1_name(name: &str) -> &str {
    if name == "io" { "blkio" } else { name }
}

fn controller(name: &str) -> Ability {
    let Some(layout) = layout() else {
        return Ability::no("/proc/self/mountinfo cannot be read", "mount /proc");
    };
    let found = layout.of(name).or_else(|| {
        layout
            .hierarchies
            .iter()
            .find(|h| !h.v2 && h.has(v1_name(name)))
    });
    let Some(tree) = found else {
        // On v2 these two are not controllers but part of the core, or BPF.
        if layout.unified().is_some() && name == "freezer" {
            return Ability::Yes("cgroup.freeze of v2".into());
        }
        if layout.kind == LayoutKind::Unified && name == "devices" {
            return Ability::Yes("as a BPF program on v2".into());
        }
        return match layout.kernel.get(v1_name(name)) {
            Some(false) => Ability::no(
                "disabled at boot",
                format!("remove cgroup_disable={name} from the kernel's command line"),
            ),
            Some(true) => Ability::no("in the kernel, in no mounted tree", "mount its tree"),
            None => Ability::no("not in this kernel", "a kernel built with it"),
        };
    };
    let place = if tree.v2 { "v2" } else { "v1" };
    let Some(dir) = tree.dir(&tree.own) else {
        return Ability::no(
            format!(
                "{place}: the own group {} is outside what is mounted",
                tree.own
            ),
            "mount the cgroup tree of the host, or use a cgroup namespace",
        );
    };
    if tree.read_only {
        return Ability::no(
            format!("{place}: {} is mounted read-only", tree.mount.display()),
            "run it outside of this container, or mount the tree writable",
        );
    }
    let writable = nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK).is_ok();
    if !writable {
        return Ability::no(
            format!("{place}: {} is not delegated to this user", dir.display()),
            match tree.v2 {
                true => {
                    format!("root; or with systemd: systemctl edit user@.service, Delegate={name}")
                }
                false => "root: v1 trees cannot be delegated safely; v2 can \
                          (systemd.unified_cgroup_hierarchy=1 at boot)"
                    .to_string(),
            },
        );
    }
    Ability::Yes(format!("{place}, {}", dir.display()))
}

fn swap() -> Ability {
    let Some(layout) = layout() else {
        return Ability::no("/proc/self/mountinfo cannot be read", "mount /proc");
    };
    let Some(tree) = layout.of("memory") else {
        return Ability::no("no memory controller", "a kernel built with CONFIG_MEMCG");
    };
    let found = if tree.v2 {
        any_child_has(&tree.mount, "memory.swap.max")
    } else {
        tree.mount.join("memory.memsw.limit_in_bytes").exists()
    };
    if found {
        return Ability::yes();
    }
    Ability::no(
        "the memory controller has no swap files",
        "a kernel built with CONFIG_SWAP, and swapaccount=1 on its command line",
    )
}

fn into_cgroup() -> Ability {
    match own_dir() {
        Some(_) => from_version("CLONE_INTO_CGROUP", (5, 7)),
        None => no_v2(),
    }
}

/// Where trying would leave a trace, the kernel's version has to do.
fn from_version(what: &str, since: (u32, u32)) -> Ability {
    let release = setting("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (major, minor) = since;
    match crate::host::parse_release(&release) >= since {
        true => Ability::Yes(format!("v2; Linux {major}.{minor} brought it")),
        false => Ability::no(
            format!("this is Linux {release}"),
            format!("{what} needs Linux {major}.{minor}"),
        ),
    }
}

fn no_v2() -> Ability {
    Ability::no(
        "no cgroup v2 tree is mounted",
        "boot with cgroup v2, or mount it",
    )
}

fn own_dir() -> Option<std::path::PathBuf> {
    Some(layout()?.unified()?.mount.clone())
}

fn any_child_has(dir: &Path, file: &str) -> bool {
    dir.join(file).exists()
        || std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.path().join(file).exists())
}
