//! config.json, field by field: what the kernel says of a container that was made with it.
//!
//! Each test gives a field a value, and reads its effect back from inside the container, by /proc or
//! by a program that is not ours. What a field may not be is refused before anything is done.

mod common;

use common::bundle::Bundle;
use serde_json::json;

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    let bundle = Bundle::new(
        "bundle",
        "echo $$ >&2; tr '\\0' ' ' < /proc/1/cmdline; exit 7",
    );
    let ran = bundle.run();
    assert_eq!((ran.code, ran.stderr.trim()), (7, "1"));
    assert!(ran.stdout.starts_with("sh -c "), "{}", ran.stdout);
    assert!(ran.unexpected().is_empty());
}

/// A container with this scheduler, which says what `chrt` reads.
fn scheduled(name: &str, scheduler: serde_json::Value) -> Bundle {
    let mut bundle = Bundle::new(name, "chrt -p $$; nice");
    bundle.process()["scheduler"] = scheduler;
    bundle
}

#[test]
fn the_scheduler_of_the_program() {
    needs!("root", "chrt");
    let batch = json!({"policy": "SCHED_BATCH", "nice": 5});
    let said = scheduled("batch", batch).ok();
    assert!(
        said.contains("SCHED_BATCH") && said.ends_with("\n5"),
        "{said}"
    );
    let said = scheduled("other", json!({"policy": "SCHED_OTHER", "nice": -3})).ok();
    assert!(
        said.contains("SCHED_OTHER") && said.ends_with("\n-3"),
        "{said}"
    );
    let said = scheduled("idle", json!({"policy": "SCHED_IDLE"})).ok();
    assert!(said.contains("SCHED_IDLE"), "{said}");
    // Without the flag it could not even fork a shell's child.
    let deadline = json!({"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        "runtime": 1_000_000, "deadline": 8_000_000, "period": 10_000_000});
    let said = scheduled("deadline", deadline).ok();
    assert!(said.contains("SCHED_DEADLINE"), "{said}");
    assert!(said.contains("1000000/8000000/10000000"), "{said}");
}

#[test]
fn a_realtime_scheduler() {
    needs!("root", "chrt");
    let fifo = json!({"policy": "SCHED_FIFO", "priority": 10});
    let round = json!({"policy": "SCHED_RR", "priority": 99});
    let divided = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    for (name, scheduler) in [("fifo", fifo), ("rr", round)] {
        let policy = scheduler["policy"].as_str().unwrap().to_string();
        let priority = scheduler["priority"].to_string();
        let mut bundle = scheduled(name, scheduler);
        bundle.cgroup(json!({}));
        if divided {
            // Where cgroup v1 divides realtime up, a new group has none.
            let refused = bundle.refused();
            assert!(
                refused.contains("EPERM") && refused.contains("realtimeRuntime"),
                "{refused}"
            );
            let cpu = json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 10_000});
            bundle.cgroup(json!({"cpu": cpu}));
        }
        let said = bundle.ok();
        assert!(said.contains(&policy), "{said}");
        assert!(said.contains(&format!("priority: {priority}")), "{said}");
    }
}

#[test]
fn in_a_user_namespace_the_parent_sets_the_priorities() {
    needs!("root", "chrt", "ionice");
    let mut bundle = Bundle::new(
        "sched-user",
        "chrt -p $$; nice; ionice -p $$; cat /proc/self/uid_map",
    );
    bundle.user_namespace();
    bundle.process()["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": -7});
    bundle.process()["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 1});
    let said = bundle.ok();
    assert!(
        said.contains("\n-7\n") && said.contains("realtime: prio 1"),
        "{said}"
    );
    assert!(said.contains("100000"), "{said}");
}

#[test]
fn a_scheduler_that_is_none_is_refused() {
    for (scheduler, why) in [
        (json!({"policy": "SCHED_FAST"}), "SCHED_FAST"),
        (json!({"policy": "SCHED_ISO"}), "never had"),
        (json!({"policy": "SCHED_FIFO"}), "priority is 0"),
        (
            json!({"policy": "SCHED_OTHER", "priority": 1}),
            "priority is 1",
        ),
        (
            json!({"policy": "SCHED_RR", "priority": 1, "nice": 1}),
            "nice is 1",
        ),
        (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice is 20"),
        (json!({"policy": "SCHED_BATCH", "runtime": 1}), "has none"),
        (
            json!({"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_X"]}),
            "SCHED_FLAG_X",
        ),
    ] {
        let refused = scheduled("sched-wrong", scheduler).refused();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn the_io_priority() {
    needs!("root", "ionice");
    for (class, priority, said) in [
        ("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"),
        ("IOPRIO_CLASS_RT", 0, "realtime: prio 0"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
    ] {
        let mut bundle = Bundle::new("ioprio", "ionice -p $$");
        bundle.process()["ioPriority"] = json!({"class": class, "priority": priority});
        assert_eq!(bundle.ok(), said);
    }
    let mut bundle = Bundle::new("ioprio", "true");
    bundle.process()["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    assert!(bundle.refused().contains("priority is 8"));
    bundle.process()["ioPriority"] = json!({"class": "IOPRIO_CLASS_NONE"});
    assert!(bundle.refused().contains("IOPRIO_CLASS_NONE"));
}

/// Runs `grep Cpus_allowed_list /proc/self/status` by exec, with this affinity.
fn exec_on(affinity: serde_json::Value) -> (String, common::bundle::Ran) {
    let mut bundle = Bundle::new("affinity", "sleep 60");
    bundle.cgroup(json!({}));
    let mut process = bundle.process().clone();
    let script = "grep Cpus_allowed_list /proc/self/status";
    process["args"] = json!(["sh", "-c", script]);
    process["execCPUAffinity"] = affinity;
    std::fs::write(bundle.root.join("exec.json"), process.to_string()).unwrap();
    let ran = bundle.run();
    let said = std::fs::read_to_string(bundle.root.join("exec-stdout")).unwrap_or_default();
    let list = said.split_whitespace().nth(1).unwrap_or_default();
    (list.to_string(), ran)
}

#[test]
fn the_processors_of_a_program_that_exec_adds() {
    needs!("root");
    if std::thread::available_parallelism().map_or(1, |n| n.get()) < 2 {
        return common::skip("one processor is no choice");
    }
    let (list, ran) = exec_on(json!({"final": "1"}));
    assert_eq!(list, "1", "{}", ran.stderr);
    assert!(ran.unexpected().is_empty());
    let (list, ran) = exec_on(json!({"initial": "0", "final": "1"}));
    assert_eq!(list, "1", "{}", ran.stderr);
    let calls: Vec<&str> = ran
        .journal
        .iter()
        .filter_map(|r| match r {
            glassbox::journal::Record::Call(c) if c.call == "sched_setaffinity" => Some(&*c.args),
            _ => None,
        })
        .collect();
    // The parent's own, the parent's back, the program's.
    let [first, back, last] = calls[..] else {
        panic!("{calls:?}");
    };
    assert!(first.ends_with("[0]") && last.ends_with("[1]"), "{calls:?}");
    assert!(back.contains("0, 1"), "{calls:?}");
    let (_, ran) = exec_on(json!({"final": "4095"}));
    assert_eq!(ran.code, 125);
    assert!(ran.stderr.contains("EINVAL"), "{}", ran.stderr);
    let (_, ran) = exec_on(json!({"initial": "x"}));
    assert!(
        ran.stderr.contains("execCPUAffinity.initial"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_execution_domain() {
    needs!("root");
    let mut bundle = Bundle::new("personality", "uname -m; cat /proc/self/personality");
    let native = bundle.ok();
    bundle.linux()["personality"] = json!({"domain": "LINUX32"});
    let said = bundle.ok();
    assert!(said.ends_with("00000008"), "{said}");
    assert_ne!(said.lines().next(), native.lines().next());
    bundle.linux()["personality"] = json!({"domain": "LINUX"});
    assert_eq!(bundle.ok(), native);
    bundle.linux()["personality"] = json!({"domain": "BSD"});
    assert!(bundle.refused().contains("BSD"));
    bundle.linux()["personality"] = json!({"domain": "LINUX", "flags": ["x"]});
    assert!(bundle.refused().contains("no flag yet"));
}

#[test]
fn the_memory_policy() {
    needs!("root");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return common::skip("this kernel has no NUMA");
    }
    // Of the stack, which is the program's own.
    let script = "grep stack /proc/self/numa_maps | cut -d' ' -f2";
    for (policy, said) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}),
            "interleave:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (
            json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}),
            "prefer (many):0",
        ),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "bind=static:0",
        ),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
    ] {
        let mut bundle = Bundle::new("mempolicy", script);
        let many = said.contains("many");
        if many {
            bundle = Bundle::new(
                "mempolicy",
                "grep stack /proc/self/numa_maps | cut -d' ' -f2-3",
            );
        }
        bundle.linux()["memoryPolicy"] = policy;
        assert_eq!(bundle.ok(), said);
    }
    let mut bundle = Bundle::new("mempolicy", "true");
    for (policy, why) in [
        (json!({"mode": "MPOL_BEST"}), "MPOL_BEST"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "zero"}),
            "memoryPolicy.nodes",
        ),
        (
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}),
            "MPOL_F_X",
        ),
        (json!({"mode": "MPOL_BIND"}), "EINVAL"),
        (json!({"mode": "MPOL_BIND", "nodes": "999"}), "EINVAL"),
    ] {
        bundle.linux()["memoryPolicy"] = policy;
        let refused = bundle.refused();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}
