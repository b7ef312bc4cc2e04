//! Rules and profiles of filters: on random rules and calls the compiled program, the description
//! and the definition agree; profiles of docker's format are decided or refused, never a crash.
//!
//! Any kernel: the compiler and the simulator are ours.

use glassbox::security::capabilities::{CapSet, DOCKER_DEFAULT};
use glassbox::security::seccomp::bpf::{Data, Instruction, run};
use glassbox::security::seccomp::docker_json::{self, Environment};
use glassbox::security::seccomp::profile::{self, docker_default};
use glassbox::security::seccomp::{compile, describe, disassemble, interpret, names};
use glassbox::spec::runtime::{
    Seccomp, SeccompAction, SeccompArch, SeccompOp, SyscallArg, SyscallRule,
};
use proptest::prelude::*;

const CALLS: &[&str] = &[
    "read",
    "openat",
    "clone",
    "socket",
    "accept4",
    "semop",
    "socketcall",
    "ipc",
    "personality",
    "getpid",
    "rt_sigaction",
    "file_setattr",
    "no_such_call",
];
const ARCHES: &[SeccompArch] = &[
    SeccompArch::X86_64,
    SeccompArch::X86,
    SeccompArch::X32,
    SeccompArch::Aarch64,
    SeccompArch::Mips,
];

/// Numbers at which comparisons of halves go wrong, and others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            8,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            0xffff_ffff_0000_0000,
            u64::MAX - 1,
            u64::MAX,
        ]),
        0..20u64,
        any::<u64>(),
    ]
}

fn action() -> impl Strategy<Value = (SeccompAction, Option<u32>)> {
    use SeccompAction::*;
    prop_oneof![
        prop::sample::select(vec![Kill, KillProcess, KillThread, Trap, Allow, Log])
            .prop_map(|a| (a, None)),
        (
            prop::sample::select(vec![Errno, Trace]),
            prop::option::of(0..100u32)
        ),
    ]
}

fn argument() -> impl Strategy<Value = SyscallArg> {
    use SeccompOp::*;
    let op = prop::sample::select(vec![
        NotEqual,
        Less,
        LessOrEqual,
        Equal,
        GreaterOrEqual,
        Greater,
        MaskedEqual,
    ]);
    (0..6u32, number(), number(), op).prop_map(|(index, value, value_two, op)| SyscallArg {
        index,
        value,
        value_two,
        op,
        ..SyscallArg::default()
    })
}

fn rules() -> impl Strategy<Value = Seccomp> {
    let names = prop::collection::vec(prop::sample::select(CALLS), 1..4);
    let args = prop::collection::vec(argument(), 0..3);
    let rule = (names, action(), args).prop_map(|(names, (action, errno_ret), args)| SyscallRule {
        names: names.into_iter().map(Into::into).collect(),
        action,
        errno_ret,
        args,
        ..SyscallRule::default()
    });
    (
        action(),
        prop::collection::vec(prop::sample::select(ARCHES), 0..4),
        prop::collection::vec(rule, 0..7),
    )
        .prop_map(
            |((default_action, default_errno_ret), architectures, syscalls)| Seccomp {
                default_action,
                default_errno_ret,
                architectures,
                syscalls,
                ..Seccomp::default()
            },
        )
}

fn call() -> impl Strategy<Value = Data> {
    let named = (
        prop::sample::select(CALLS),
        prop::sample::select(ARCHES),
        0..3u32,
    )
        .prop_map(|(name, arch, near)| {
            let nr = names::number(arch, name).unwrap_or(0);
            (
                names::audit_arch(arch).unwrap_or(8),
                nr.wrapping_add(near).wrapping_sub(1),
            )
        });
    let any_call = (
        prop::sample::select(vec![0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 1]),
        any::<u32>(),
    );
    (
        prop_oneof![4 => named, 1 => any_call],
        prop::array::uniform6(number()),
    )
        .prop_map(|((arch, nr), args)| Data {
            nr,
            arch,
            args,
            ..Data::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_program_says_what_the_rules_say(
        rules in rules(),
        calls in prop::collection::vec(call(), 1..80),
    ) {
        let compiled = compile(&rules).unwrap();
        for call in calls {
            let verdict = run(&compiled.program, &call).unwrap();
            prop_assert_eq!(verdict, interpret(&rules, &call), "{:?}\n{}", call,
                disassemble(&compiled.program));
        }
    }

    #[test]
    fn a_description_holds_for_every_call(rules in rules(), args in prop::array::uniform6(number())) {
        let program = compile(&rules).unwrap().program;
        let arch = names::native();
        let description = describe(&program, arch).unwrap();
        for call in &description.calls {
            let data = Data {
                nr: call.number,
                arch: names::audit_arch(arch).unwrap(),
                args,
                ..Data::default()
            };
            let verdict = run(&program, &data).unwrap();
            let possible = verdict == call.verdict
                || call.exceptions.iter().any(|e| e.verdict == verdict);
            prop_assert!(possible, "{:?} and {:?}", verdict, call);
        }
    }

    #[test]
    fn no_program_makes_the_simulator_fail(
        program in prop::collection::vec(
            (any::<u16>(), any::<u8>(), any::<u8>(), any::<u32>())
                .prop_map(|(code, jt, jf, k)| Instruction { code: code & 0xff, jt, jf, k }),
            0..30,
        ),
        call in call(),
    ) {
        let _ = run(&program, &call);
        let _ = describe(&program, names::native());
        prop_assert_eq!(disassemble(&program).lines().count(), program.len());
    }

    #[test]
    fn no_text_makes_the_profile_parser_fail(text in "\\PC{0,60}") {
        let _ = docker_json::parse(&text, &environment());
    }

    #[test]
    fn a_damaged_profile_is_refused_or_read(at in 0..SAMPLE.len(), with in any::<char>()) {
        let mut text: Vec<char> = SAMPLE.chars().collect();
        text[at.min(SAMPLE.chars().count() - 1)] = with;
        let text: String = text.into_iter().collect();
        if let Err(e) = docker_json::parse(&text, &environment()) {
            prop_assert_eq!(e.get_kind(), glassbox::error::Kind::Usage);
            prop_assert!(!e.message().is_empty());
        }
    }
}

// ---- profiles of users ----

const SAMPLE: &str = include_str!("data/seccomp-profile.json");

fn environment() -> Environment {
    Environment {
        caps: DOCKER_DEFAULT,
        arch: SeccompArch::X86_64,
        kernel: (6, 1),
    }
}

#[test]
fn a_profile_of_dockers_format_is_decided_for_one_container() {
    let with = |caps: &[&str], arch, kernel| {
        let caps = CapSet::parse(caps).unwrap();
        let rules = docker_json::parse(SAMPLE, &Environment { caps, arch, kernel });
        let rules = rules.unwrap().unwrap();
        let names: Vec<String> = rules
            .syscalls
            .iter()
            .flat_map(|r| r.names.clone())
            .collect();
        (rules, names.join(" "))
    };
    let (rules, calls) = with(&[], SeccompArch::X86_64, (6, 1));
    use SeccompArch::{Aarch64, X32, X86, X86_64};
    assert_eq!(rules.architectures, [X86_64, X86, X32]);
    assert_eq!(rules.default_errno_ret, Some(38));
    assert_eq!(calls, "read write ptrace arch_prctl clone personality");
    let (_, calls) = with(&["SYS_ADMIN"], X86_64, (6, 1));
    assert_eq!(
        calls,
        "read write ptrace mount umount2 arch_prctl personality"
    );
    let (_, calls) = with(&[], X86_64, (4, 4));
    assert_eq!(calls, "read write arch_prctl clone personality");
    let (rules, calls) = with(&[], Aarch64, (6, 1));
    assert_eq!(rules.architectures, [Aarch64, SeccompArch::Arm]);
    assert_eq!(calls, "read write ptrace clone personality");
}

#[test]
fn a_profile_that_cannot_be_meant_is_refused() {
    for (text, why) in [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        (r#"{"defaultAction":"SCMP_ACT_NOPE"}"#, "cannot be read"),
        (
            r#"{"syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "no defaultAction",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],
                "archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],
                "action":"SCMP_ACT_ERRNO"}]}"#,
            "both a name",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a",
                "action":"SCMP_ACT_ERRNO","includes":{"minKernel":"six"}}]}"#,
            "bad minKernel",
        ),
    ] {
        let error = docker_json::parse(text, &environment()).unwrap_err();
        assert!(error.message().contains(why), "{text}: {error:?}");
    }
    assert_eq!(docker_json::parse("{}", &environment()).unwrap(), None);
}

#[test]
fn our_default_is_a_profile_too() {
    let rules = docker_default(DOCKER_DEFAULT, SeccompArch::X86_64, (6, 18));
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(
        docker_json::parse(&text, &environment()).unwrap(),
        Some(rules)
    );
    let arch = SeccompArch::X86_64;
    let why = |call| profile::group_of(call, DOCKER_DEFAULT, arch, (6, 1)).map(|g| g.name);
    assert_eq!(why("read"), Some("reading and writing"));
    assert_eq!(why("clone3"), Some("clone3"));
    assert_eq!(why("mount"), None);
}
