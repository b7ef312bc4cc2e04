//! What a process may do: the steps do exactly the calls that they plan, and the kernel agrees with
//! what they say. (Filters of system calls have their own file, `seccomp.rs`.)
//!
//! Capabilities and ids belong to threads, so every test changes a thread of its own and lets it
//! end.

mod common;

use glassbox::Error;
use glassbox::journal::{Action, Planned, Record, Scene, parse};
use glassbox::security::actions::*;
use glassbox::security::capabilities::{
    CapSet, CapabilitySets, DOCKER_DEFAULT, all_of_kernel, last,
};
use glassbox::security::status::Privileges;
use glassbox::sys::record;

/// Runs a test's body in a thread that may give up its power.
fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|s| s.spawn(body).join().unwrap())
}

/// Applies a step with the recorder on and returns what was recorded.
fn recorded(action: &dyn Action) -> (Result<(), Error>, Vec<Planned>) {
    let arena = record::Arena::anonymous().unwrap();
    record::install(Some(arena.clone()));
    let result = action.apply(&mut Scene::new());
    record::install(None);
    let calls = parse(&arena.lines(0).0)
        .into_iter()
        .map(|line| match line {
            Record::Call(call) => Planned::new(call.call, call.args),
            other => panic!("{other:?}"),
        })
        .collect();
    (result, calls)
}

/// Applies a step; what it did is what it said it would do, and reads back as expected.
fn apply(action: &dyn Action) {
    let (result, calls) = recorded(action);
    result.unwrap();
    let written = |p: &Planned| p.call == "write";
    let plain = |list: &[Planned]| -> Vec<Planned> {
        let shorten = |p: &Planned| match written(p) {
            true => Planned::new("write", ""),
            false => p.clone(),
        };
        // How a procfs is reached is the host's affair: the journal has it, the plan does not.
        let reaching =
            |p: &&Planned| !matches!(&*p.call, "fsopen" | "fsconfig" | "fsmount" | "open_tree");
        list.iter().filter(reaching).map(shorten).collect()
    };
    assert_eq!(plain(&calls), plain(&action.calls()), "{action:?}");
    if let Some(expected) = action.expected() {
        let facts = action.observe(&Scene::new());
        assert_eq!(
            facts[0].value.as_deref(),
            Ok(expected.as_str()),
            "{facts:?}"
        );
    }
}

fn set(names: &[&str]) -> CapSet {
    CapSet::parse(names).unwrap()
}

#[test]
fn power_is_given_up_step_by_step_and_the_kernel_agrees() {
    needs!("root");
    in_thread(|| {
        let before = Privileges::of_self().unwrap().0.capabilities;
        let sets = CapabilitySets {
            bounding: set(&["NET_RAW", "CHOWN"]),
            effective: set(&["CHOWN"]),
            permitted: set(&["CHOWN", "NET_RAW"]),
            inheritable: set(&["CHOWN"]),
            ambient: set(&["CHOWN"]),
        };
        apply(&DropBounding {
            keep: sets.bounding,
            last: last(),
        });
        apply(&SetIds {
            uid: common::USER,
            gid: common::USER,
            groups: Some(vec![5, 6]),
            umask: Some(0o027),
            keep_capabilities: true,
        });
        apply(&SetCapabilities { sets });
        apply(&NoNewPrivs);
        let (now, source) = Privileges::of_self().unwrap();
        assert_eq!(now.capabilities, sets, "before: {before:?}");
        assert_eq!(now.no_new_privs, Some(true));
        assert_eq!(source, "/proc/self/status");
        // What was given up does not come back.
        let (result, _) = recorded(&SetCapabilities {
            sets: CapabilitySets::docker(DOCKER_DEFAULT, 0),
        });
        let error = result.unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPERM));
        assert!(
            error
                .get_hint()
                .unwrap()
                .contains("not permitted now: CAP_DAC_OVERRIDE")
        );
        let (result, _) = recorded(&SetIds {
            groups: Some(vec![0]),
            ..SetIds::default()
        });
        assert_eq!(result.unwrap_err().errno(), Some(libc::EPERM));
    });
    // The other threads have not changed.
    assert!(nix::unistd::geteuid().is_root());
}

#[test]
fn dockers_sets_are_applied_for_root_and_for_a_user() {
    needs!("root");
    for uid in [0, common::USER] {
        in_thread(|| {
            let have = Privileges::of_self().unwrap().0.capabilities.permitted;
            let sets = CapabilitySets::docker(DOCKER_DEFAULT.intersect(have), uid);
            apply(&DropBounding {
                keep: sets.bounding,
                last: last(),
            });
            apply(&SetIds {
                uid,
                gid: uid,
                keep_capabilities: true,
                ..SetIds::default()
            });
            apply(&SetCapabilities { sets });
            let now = Privileges::of_self().unwrap().0.capabilities;
            assert_eq!(now, sets);
        });
    }
    assert!(DOCKER_DEFAULT.minus(all_of_kernel()).is_empty());
}

#[test]
fn limits_that_cannot_be_raised_say_so() {
    in_thread(|| {
        apply(&SetRlimit {
            name: "RLIMIT_CORE".into(),
            soft: 0,
            hard: 4096,
        });
        apply(&OomScoreAdj { value: oom_score() });
        let mut sets = Privileges::of_self().unwrap().0.capabilities;
        sets.permitted = sets.permitted.minus(set(&["SYS_RESOURCE"]));
        sets.effective = sets.permitted;
        sets.inheritable = CapSet::EMPTY;
        sets.ambient = CapSet::EMPTY;
        apply(&SetCapabilities { sets });
        let (result, _) = recorded(&SetRlimit {
            name: "RLIMIT_CORE".into(),
            soft: 0,
            hard: 8192,
        });
        let error = result.unwrap_err();
        assert_eq!(error.message(), "cannot set RLIMIT_CORE");
        assert_eq!(
            error.get_hint(),
            Some(
                "the hard limit here is 4096; raising it to 8192 needs CAP_SYS_RESOURCE on the \
                 host, which this user lacks"
            )
        );
        let (result, _) = recorded(&SetRlimit {
            name: "RLIMIT_CORE".into(),
            soft: 2,
            hard: 1,
        });
        assert_eq!(result.unwrap_err().errno(), Some(libc::EINVAL));
        if oom_score() > -1000 {
            let (result, _) = recorded(&OomScoreAdj { value: -1000 });
            let error = result.unwrap_err();
            assert!(
                error.get_hint().unwrap().contains("CAP_SYS_RESOURCE"),
                "{error:?}"
            );
        }
    });
}

fn oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    text.trim().parse().unwrap()
}

#[test]
fn a_session_keyring_is_joined() {
    in_thread(|| {
        let action = NewKeyring {
            name: format!("glassbox-test-{}", std::process::id()),
        };
        let (result, calls) = recorded(&action);
        match result {
            // The keyring's number is only known when it is there.
            Ok(()) => {
                let planned = action.calls();
                assert_eq!((calls.len(), &calls[0]), (2, &planned[0]));
                assert!(calls[1].args.starts_with("KEYCTL_SETPERM, "), "{calls:?}");
                assert!(calls[1].args.ends_with(", 0x3f0b0000"), "{calls:?}");
                assert!(planned[1].args.ends_with(", 0x3f0b0000"), "{planned:?}");
            }
            Err(e) => assert!(
                matches!(e.errno(), Some(libc::EPERM | libc::EDQUOT)),
                "refused for another reason than a filter or a quota: {e:?}"
            ),
        }
    });
}
