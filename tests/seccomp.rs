//! Filters of system calls: what docker's default decides, how programs read, and that the kernel
//! obeys them. (Random rules are in `seccomp_rules.rs`.)
//!
//! A filter belongs to a thread, so every test loads one in a thread of its own and lets it end.
//! What ends a process happens in this program started again as a child.

mod common;

use glassbox::journal::{Action, Scene};
use glassbox::security::actions::NoNewPrivs;
use glassbox::security::capabilities::{CapSet, DOCKER_DEFAULT};
use glassbox::security::seccomp::bpf::{Data, Verdict, run};
use glassbox::security::seccomp::profile::{GROUPS, docker_default};
use glassbox::security::seccomp::{LoadSeccomp, compile, describe, disassemble, dump, names};
use glassbox::security::status::{Privileges, SeccompMode};
use glassbox::spec::runtime::{Seccomp, SeccompAction, SeccompArch, SyscallRule};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

fn docker() -> Seccomp {
    docker_default(DOCKER_DEFAULT, SeccompArch::X86_64, (6, 18))
}

/// Runs a filter on one call by name.
fn ask(rules: &Seccomp, arch: SeccompArch, call: &str, args: [u64; 6]) -> String {
    let nr = names::number(arch, call).unwrap_or_else(|| panic!("{call}"));
    ask_number(rules, names::audit_arch(arch).unwrap(), nr, args)
}

fn ask_number(rules: &Seccomp, arch: u32, nr: u32, args: [u64; 6]) -> String {
    let program = compile(rules).unwrap().program;
    let call = Data {
        nr,
        arch,
        args,
        ..Data::default()
    };
    run(&program, &call).unwrap().to_string()
}

#[test]
fn dockers_default_decides_as_docker_does() {
    if names::native() != SeccompArch::X86_64 {
        return common::skip("the expected numbers are those of x86_64");
    }
    let rules = docker();
    let first = |n: u64| [n, 0, 0, 0, 0, 0];
    use SeccompArch::{X32, X86, X86_64};
    for (arch, call, arg, verdict) in [
        (X86_64, "read", 0, "allow"),
        (X86_64, "execve", 0, "allow"),
        (X86_64, "mount", 0, "errno EPERM"),
        (X86_64, "unshare", 0, "errno EPERM"),
        (X86_64, "io_uring_setup", 0, "errno EPERM"),
        (X86_64, "keyctl", 0, "errno EPERM"),
        (X86_64, "clone3", 0, "errno ENOSYS"),
        (X86_64, "clone", 0x1200011, "allow"),
        (X86_64, "clone", 0x1000_0000, "errno EPERM"),
        (X86_64, "clone", 0x2000_0000 | 0x100, "errno EPERM"),
        (X86_64, "socket", 2, "allow"),
        (X86_64, "socket", 38, "errno EPERM"),
        (X86_64, "socket", 39, "allow"),
        (X86_64, "socket", 40, "errno EPERM"),
        (X86_64, "socket", 41, "allow"),
        (X86_64, "personality", 8, "allow"),
        (X86_64, "personality", 0x4_0000, "errno EPERM"),
        (X86_64, "personality", 0xffff_ffff, "allow"),
        (X86_64, "chroot", 0, "allow"),
        (X86_64, "reboot", 0, "errno EPERM"),
        (X86_64, "ptrace", 0, "allow"),
        (X86_64, "arch_prctl", 0, "allow"),
        (X86, "socketcall", 1, "allow"),
        (X86, "mount", 0, "errno EPERM"),
        (X86, "clone", 0x1000_0000, "errno EPERM"),
        (X32, "execve", 0, "allow"),
        (X32, "mount", 0, "errno EPERM"),
    ] {
        assert_eq!(
            ask(&rules, arch, call, first(arg)),
            verdict,
            "{arch:?} {call} {arg:#x}"
        );
    }
    // Newer than the table; another architecture; a call that a tracer has cancelled.
    let call = |arch, nr| ask_number(&rules, arch, nr, [0; 6]);
    assert_eq!(call(crate::X86_64, 900), "errno ENOSYS");
    assert_eq!(call(crate::X86, 900), "errno ENOSYS");
    assert_eq!(call(0xc000_00b7, 63), "kill process");
    assert_eq!(call(crate::X86_64, u32::MAX), "errno EPERM");
    // Capabilities and the kernel change the rules.
    let with = |caps: &[&str], kernel| docker_default(CapSet::parse(caps).unwrap(), X86_64, kernel);
    let admin = with(&["SYS_ADMIN"], (6, 1));
    for call in ["mount", "clone3", "setns", "bpf"] {
        assert_eq!(ask(&admin, X86_64, call, [0; 6]), "allow", "{call}");
    }
    assert_eq!(ask(&admin, X86_64, "clone", first(0x1000_0000)), "allow");
    assert_eq!(
        ask(&with(&[], (6, 1)), X86_64, "chroot", [0; 6]),
        "errno EPERM"
    );
    assert_eq!(
        ask(
            &with(&["SYS_TIME"], (6, 1)),
            X86_64,
            "clock_settime",
            [0; 6]
        ),
        "allow"
    );
    assert_eq!(
        ask(&with(&[], (4, 7)), X86_64, "ptrace", [0; 6]),
        "errno EPERM"
    );
    assert_eq!(
        ask(&with(&["SYS_PTRACE"], (4, 7)), X86_64, "ptrace", [0; 6]),
        "allow"
    );
}

#[test]
fn every_name_of_the_default_rules_is_a_call_somewhere() {
    use SeccompArch::*;
    let arches = [X86_64, X86, Aarch64, Arm, Riscv64];
    // Calls of architectures without a table here.
    let elsewhere = [
        "swapcontext",
        "s390_pci_mmio_read",
        "s390_pci_mmio_write",
        "s390_runtime_instr",
        "sync_file_range2",
        "breakpoint",
        "cacheflush",
        "set_tls",
        "arm_sync_file_range",
        "utimensat_time64",
        "riscv_flush_icache",
    ];
    for group in GROUPS {
        for name in group.names() {
            let known = arches.iter().any(|a| names::number(*a, name).is_some());
            assert!(
                known || elsewhere.contains(&name),
                "{name} in {:?}",
                group.name
            );
        }
    }
}

#[test]
fn a_program_is_described_without_its_rules() {
    let rules = docker_default(DOCKER_DEFAULT, SeccompArch::X86_64, (6, 18));
    let program = compile(&rules).unwrap().program;
    let description = describe(&program, SeccompArch::X86_64).unwrap();
    let verdict = |name: &str| {
        let call = description.call(name).unwrap();
        assert!(call.exceptions.is_empty(), "{call:?}");
        call.verdict
    };
    assert_eq!(verdict("read"), Verdict::ALLOW);
    assert_eq!(verdict("mount"), Verdict::errno(libc::EPERM as u16));
    assert_eq!(verdict("clone3"), Verdict::errno(libc::ENOSYS as u16));
    let conditional: Vec<String> = description
        .conditional()
        .map(|c| {
            let parts: Vec<String> = c
                .exceptions
                .iter()
                .map(|e| format!("{} if {}", e.verdict, e.when))
                .collect();
            format!("{}: {} else {}", c.name, parts.join(", "), c.verdict)
        })
        .collect();
    insta::assert_snapshot!("described_conditions", conditional.join("\n"));
    let groups = description.by_verdict();
    assert_eq!(groups[0].0, Verdict::ALLOW);
    assert!(groups[0].1.len() > 250);
    assert!(
        serde_json::to_string(&description)
            .unwrap()
            .contains("\"errno EPERM\"")
    );
}

#[test]
fn a_small_filter_reads_well() {
    if names::native() != SeccompArch::X86_64 {
        return common::skip("the snapshot is of x86_64");
    }
    let rules = Seccomp {
        default_action: SeccompAction::Allow,
        syscalls: vec![
            SyscallRule {
                names: vec!["mkdir".into(), "no_such_call".into()],
                action: SeccompAction::Errno,
                errno_ret: Some(libc::EROFS as u32),
                ..SyscallRule::default()
            },
            serde_json::from_value(serde_json::json!({
                "names": ["socket"], "action": "SCMP_ACT_KILL_PROCESS",
                "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 40},
                         {"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 15, "valueTwo": 1}]
            }))
            .unwrap(),
        ],
        ..Seccomp::default()
    };
    let compiled = compile(&rules).unwrap();
    assert_eq!(compiled.unknown_calls, ["no_such_call"]);
    insta::assert_snapshot!("disassembly", disassemble(&compiled.program));
}

#[test]
fn the_default_filter_is_small_and_fast() {
    let program = compile(&docker()).unwrap().program;
    assert!(program.len() < 900, "{} instructions", program.len());
    // No call of the native table takes more than a handful of comparisons.
    let text = disassemble(&program);
    assert_eq!(text.lines().count(), program.len());
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    let rule = |json: serde_json::Value| -> Seccomp { serde_json::from_value(json).unwrap() };
    use serde_json::json;
    for (rules, why) in [
        (
            rule(json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
            "cannot be the default",
        ),
        (
            rule(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
                [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]})),
            "cannot be used for write",
        ),
        (
            rule(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000})),
            "above 4095",
        ),
        (
            rule(json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})),
            "takes none",
        ),
        (
            rule(
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 0,
                "op": "SCMP_CMP_EQ"}]}]}),
            ),
            "argument 6",
        ),
    ] {
        let error = compile(&rules).unwrap_err();
        assert!(error.message().contains(why), "{error:?}");
        assert_eq!(error.get_topic(), Some("seccomp"));
    }
}

/// The action and errno of one real call under a filter that was loaded in a thread.
fn load_in_this_thread(rules: &Seccomp) {
    NoNewPrivs.apply(&mut Scene::new()).unwrap();
    let action = LoadSeccomp::new(compile(rules).unwrap(), true);
    action.apply(&mut Scene::new()).unwrap();
}

#[test]
fn the_kernel_obeys_the_filter() {
    let rules: Seccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["getppid", "getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42},
            {"names": ["umask"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "op": "SCMP_CMP_GT", "value": 63}]},
        ]
    }))
    .unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let before = Privileges::of_self()
                .unwrap()
                .0
                .seccomp_filters
                .unwrap_or(0);
            load_in_this_thread(&rules);
            let now = Privileges::of_self().unwrap().0;
            assert_eq!(now.seccomp, Some(SeccompMode::Filter));
            assert_eq!(now.seccomp_filters.unwrap_or(1), before + 1);
            let error = nix::unistd::getsid(None).unwrap_err();
            assert_eq!(error as i32, 42, "the filter's errno, not the kernel's");
            assert_eq!(nix::unistd::getpid().as_raw() as u32, std::process::id());
            // umask(0o77) passes; umask(0o700) does not, so the mask stays.
            glassbox::sys::process::umask(0o022);
            glassbox::sys::process::umask(0o700);
            assert_eq!(glassbox::sys::process::umask(0o022), 0o022);
        });
    });
    // Only that thread was filtered.
    assert!(nix::unistd::getsid(None).is_ok());
}

/// This program again, running one test as a child that is filtered.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("GLASSBOX_TEST_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn is_child() -> bool {
    std::env::var_os("GLASSBOX_TEST_CHILD").is_some()
}

#[test]
fn a_forbidden_call_kills() {
    let rules: Seccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getsid"], "action": "SCMP_ACT_KILL_PROCESS"}]
    }))
    .unwrap();
    if is_child() {
        load_in_this_thread(&rules);
        let _ = nix::unistd::getsid(None);
        std::process::exit(7);
    }
    let status = child("a_forbidden_call_kills").status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status:?}");
}

#[test]
fn the_filters_of_a_live_process_are_read_back() {
    if is_child() {
        load_in_this_thread(&docker());
        load_in_this_thread(&small());
        println!("loaded {}", nix::unistd::gettid());
        let _ = std::io::stdout().flush();
        let _ = std::io::stdin().lines().next();
        println!("went on");
        std::process::exit(3);
    }
    needs!("root");
    let mut process = child("the_filters_of_a_live_process_are_read_back")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let loaded = lines
        .find_map(|l| l.unwrap().split("loaded ").nth(1).map(str::to_string))
        .expect("the child has loaded its filters");
    let thread: i32 = loaded.trim().parse().unwrap();
    let filters = match dump::dump(thread) {
        Ok(filters) => filters,
        Err(e) => {
            let _ = process.kill();
            let _ = process.wait();
            match e.errno() {
                Some(libc::EACCES) => return common::skip(format!("{e:#}")),
                _ => panic!("{e:?}"),
            }
        }
    };
    // Its main thread, which has no filter, is not stopped either.
    assert_eq!(
        dump::dump(process.id() as i32).unwrap(),
        Vec::<Vec<_>>::new()
    );
    assert_eq!(
        filters[1],
        compile(&small()).unwrap().program,
        "the last one last"
    );
    assert_eq!(filters[0], compile(&docker()).unwrap().program);
    // The child was let go.
    drop(process.stdin.take());
    assert!(lines.any(|l| l.unwrap().contains("went on")));
    assert_eq!(process.wait().unwrap().code(), Some(3));
    let error = dump::dump(thread).unwrap_err();
    assert_eq!(
        error.get_kind(),
        glassbox::error::Kind::NotFound,
        "{error:?}"
    );
}

fn small() -> Seccomp {
    serde_json::from_value(serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_TRAP"}]
    }))
    .unwrap()
}
