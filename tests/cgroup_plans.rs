//! The plans of stage 2, purely: what each limit becomes on each kind of host, without root.
//!
//! Any kernel: plans are pure.
//!
//! The hosts are examples (`Host::example_*`), so these tests give the same result everywhere.

mod common;

use glassbox::cgroups::actions::Existing;
use glassbox::cgroups::device_program::assemble;
use glassbox::cgroups::devices::DeviceRule;
use glassbox::cgroups::limits::{
    CpuMax, Device, IoMax, IoWeight, Limit, parse_cpus, parse_hugetlb,
};
use glassbox::cgroups::plan::{shares_to_weight, weight_to_shares};
use glassbox::cgroups::{CgroupPath, Group, Limits, Now, plan_limits, set_up};
use glassbox::error::Error;
use glassbox::host::{CgroupLayout, Host, LayoutKind};
use std::fmt::Write;

fn group(host: &Host) -> Group {
    Group::imagine(host, &CgroupPath::parse("glassbox/web").expect("a path"))
}

/// One v1 tree a controller, `hugetlb` included, and no v2 tree.
fn legacy() -> Host {
    let mut host = Host::example_hybrid();
    let trees = &mut host.cgroups.hierarchies;
    trees.retain(|h| !h.v2);
    let mut hugetlb = trees[0].clone();
    hugetlb.controllers = vec!["hugetlb".into()];
    hugetlb.mount = "/sys/fs/cgroup/hugetlb".into();
    trees.push(hugetlb);
    host.cgroups.kind = LayoutKind::Legacy;
    host
}

/// All limits that every layout has.
fn common_limits() -> Limits {
    let mut limits = Limits::default();
    limits.memory.max = Some(Limit::Value(64 << 20));
    limits.memory.low = Some(Limit::Value(16 << 20));
    limits.memory.memory_swap = Some(Limit::Value(128 << 20));
    limits.cpu.max = Some(parse_cpus("1.5").expect("a number"));
    limits.cpu.shares = Some(512);
    limits.cpuset.cpus = Some("3,0-1".into());
    limits.cpuset.mems = Some("0".into());
    limits.pids = Some(Limit::Value(100));
    limits.io.weight = Some(IoWeight::Blkio(500));
    limits.io.max.push(IoMax {
        device: Device { major: 8, minor: 0 },
        rbps: Some(Limit::Value(1 << 20)),
        wiops: Some(Limit::Max),
        ..IoMax::default()
    });
    limits
        .hugetlb
        .push(parse_hugetlb("2MB=5M").expect("a limit"));
    limits
}

/// The whole set-up as text: each step with its calls, what must read back, and why.
fn shown(host: &Host, limits: &Limits) -> String {
    let rules = [
        DeviceRule::DENY_ALL,
        DeviceRule::parse("c 1:3 rwm").expect("a rule"),
        DeviceRule::parse("b *:* m").expect("a rule"),
    ];
    let plan = set_up(host, &group(host), limits, Some(&rules), Existing::Refuse).expect("a plan");
    let mut text = String::new();
    let parts = [
        ("before clone3", &plan.before_clone),
        ("after", &plan.after_clone),
    ];
    for (part, steps) in parts {
        let _ = writeln!(text, "== {part}");
        for step in steps {
            let _ = writeln!(text, "{}: {}", step.id, step.why);
            for call in step.action.calls() {
                let _ = writeln!(text, "    {} {}", call.call, call.args);
            }
            if let Some(expected) = step.action.expected() {
                let _ = writeln!(text, "    = {expected}");
            }
        }
    }
    let _ = writeln!(text, "clone into the cgroup: {}", plan.clone_into_cgroup);
    text
}

#[test]
fn on_a_unified_host() {
    let mut limits = common_limits();
    limits.memory.high = Some(Limit::Value((48 << 20) + 1));
    limits.memory.min = Some(Limit::Value(1 << 20));
    limits.memory.oom_group = Some(true);
    limits.cpu.idle = Some(false);
    limits.cpu.burst = Some(1000);
    limits.unified.insert("memory.zswap.max".into(), "0".into());
    let text = shown(&Host::example_v2(), &limits);
    common::filters(&[]).bind(|| insta::assert_snapshot!("cgroups__on_a_unified_host", text));
}

#[test]
fn on_a_legacy_host() {
    let mut limits = common_limits();
    limits.memory.swappiness = Some(10);
    limits.memory.oom_kill_disable = Some(true);
    let text = shown(&legacy(), &limits);
    common::filters(&[]).bind(|| insta::assert_snapshot!("cgroups__on_a_legacy_host", text));
}

#[test]
fn on_a_hybrid_host() {
    let text = shown(&Host::example_hybrid(), &common_limits());
    common::filters(&[]).bind(|| insta::assert_snapshot!("cgroups__on_a_hybrid_host", text));
}

#[test]
fn an_old_kernel_moves_init_into_the_v2_tree_too() {
    let host = Host {
        version: (5, 4),
        ..Host::example_v2()
    };
    let plan = set_up(
        &host,
        &group(&host),
        &Limits::default(),
        None,
        Existing::Refuse,
    )
    .expect("a plan");
    assert!(!plan.clone_into_cgroup);
    let calls = plan.after_clone[0].action.calls();
    assert_eq!(
        calls[0].args,
        "/sys/fs/cgroup/glassbox/web/cgroup.procs ← 0"
    );
}

fn refused(host: &Host, limits: &Limits, change: impl Fn(&mut Group)) -> String {
    let mut group = group(host);
    change(&mut group);
    let error: Error = plan_limits(limits, &group, Now::default()).expect_err("an error");
    glassbox::ui::format_error(&error, false)
}

#[test]
fn what_is_missing_is_named_with_the_way_to_get_it() {
    let (v2, hybrid) = (Host::example_v2(), Host::example_hybrid());
    let mut text = String::new();
    let mut show = |what: &str, error: String| {
        let _ = writeln!(text, "-- {what}\n{error}");
    };
    let memory = {
        let mut limits = Limits::default();
        limits.memory.max = Some(Limit::Value(1 << 20));
        limits
    };
    show(
        "not delegated",
        refused(&v2, &memory, |g| {
            let dir = &mut g.dirs[0];
            dir.available = vec!["cpu".into(), "pids".into()];
            let by = "/sys/fs/cgroup/user.slice".to_string();
            dir.withheld = Some((vec!["memory".into()], by));
        }),
    );
    show(
        "somebody else's",
        refused(&v2, &memory, |g| {
            g.dirs[0].denied = Some("/sys/fs/cgroup belongs to another user (uid 0)".into());
        }),
    );
    show(
        "somebody else's, on v1",
        refused(&hybrid, &memory, |g| {
            for dir in &mut g.dirs {
                dir.denied = Some(format!(
                    "{} belongs to another user (uid 0)",
                    dir.mount.display()
                ));
            }
        }),
    );
    show(
        "disabled at boot",
        refused(&v2, &memory, |g| {
            g.dirs[0].available.retain(|c| c != "memory");
            g.unmounted = vec![("memory".into(), false)];
        }),
    );
    show(
        "mounted nowhere",
        refused(&v2, &memory, |g| {
            g.dirs[0].available.retain(|c| c != "memory");
            g.unmounted = vec![("memory".into(), true)];
        }),
    );
    let mut high = Limits::default();
    high.memory.high = Some(Limit::Max);
    show("v2 only", refused(&hybrid, &high, |_| {}));
    let mut raw = Limits::default();
    raw.unified.insert("cpu.weight".into(), "5".into());
    show(
        "a v2 file of a controller that is in v1",
        refused(&hybrid, &raw, |_| {}),
    );
    let mut swappiness = Limits::default();
    swappiness.memory.swappiness = Some(5);
    show("v1 only", refused(&v2, &swappiness, |_| {}));
    let mut swap = Limits::default();
    swap.memory.memory_swap = Some(Limit::Value(1 << 20));
    show("swap without memory", refused(&v2, &swap, |_| {}));
    let mut period = Limits::default();
    period.cpu.max = Some(CpuMax {
        quota: Limit::Value(10),
        period: 5,
    });
    show("out of range", refused(&v2, &period, |_| {}));
    common::filters(&[]).bind(|| {
        insta::assert_snapshot!(
            "cgroups__what_is_missing_is_named_with_the_way_to_get_it",
            text
        )
    });
}

#[test]
fn v1_keeps_memory_below_memory_and_swap_at_every_write() {
    let host = Host::example_hybrid();
    let order = |max: u64, both: u64, now: u64| {
        let mut limits = Limits::default();
        limits.memory.max = Some(Limit::Value(max));
        limits.memory.memory_swap = Some(Limit::Value(both));
        let now = Now {
            memsw: Some(now),
            memory_max: None,
        };
        let plan = plan_limits(&limits, &group(&host), now).expect("a plan");
        plan.into_iter().map(|w| w.file).collect::<Vec<_>>()
    };
    let (memory, both) = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes");
    assert_eq!(
        order(8192, 16384, 4096),
        [both, memory],
        "raised: room first"
    );
    assert_eq!(
        order(4096, 8192, 1 << 20),
        [memory, both],
        "lowered: memory first"
    );
}

#[test]
fn swap_alone_is_the_difference_on_v2() {
    let host = Host::example_v2();
    let swap_of = |max: Option<u64>, both: Limit, present: Option<u64>| {
        let mut limits = Limits::default();
        limits.memory.max = max.map(Limit::Value);
        limits.memory.memory_swap = Some(both);
        let now = Now {
            memsw: None,
            memory_max: present,
        };
        let plan = plan_limits(&limits, &group(&host), now).expect("a plan");
        let write = plan
            .iter()
            .find(|w| w.file == "memory.swap.max")
            .expect("a write");
        write.value.clone()
    };
    assert_eq!(swap_of(Some(4096), Limit::Value(12288), None), "8192");
    assert_eq!(
        swap_of(Some(4096), Limit::Value(4096), None),
        "0",
        "no swap"
    );
    assert_eq!(swap_of(Some(4096), Limit::Max, None), "max");
    assert_eq!(
        swap_of(None, Limit::Value(12288), Some(8192)),
        "4096",
        "the present limit"
    );
}

#[test]
fn shares_and_weights_meet_at_the_defaults_and_the_ends() {
    for (shares, weight) in [
        (0, 1),
        (2, 1),
        (1024, 100),
        (262_144, 10_000),
        (1 << 30, 10_000),
    ] {
        assert_eq!(shares_to_weight(shares), weight, "{shares} shares");
    }
    for (weight, shares) in [(1, 2), (100, 1024), (10_000, 262_144)] {
        assert_eq!(weight_to_shares(weight), shares, "weight {weight}");
    }
    let mut last = 0;
    for shares in 2..5000 {
        let weight = shares_to_weight(shares);
        assert!((1..=10_000).contains(&weight) && weight >= last, "{shares}");
        last = weight;
    }
}

#[test]
fn a_device_program_ends_where_nothing_passes() {
    let all = assemble(&[DeviceRule::DENY_ALL, DeviceRule::ALLOW_ALL]);
    assert_eq!(
        all.len(),
        6 + 2,
        "what the last rule hides is unreachable and left out"
    );
    assert_eq!(assemble(&[]).len(), 6 + 2);
}

#[test]
fn a_host_without_cgroups_says_so() {
    let layout = CgroupLayout::from_text("", "", "memory 0 1 1\n", |_| String::new());
    let path = CgroupPath::parse("a").expect("a path");
    let error = Group::locate(&layout, &path).expect_err("an error");
    assert!(
        format!("{error:?}").contains("mount -t cgroup2"),
        "{error:?}"
    );
}
