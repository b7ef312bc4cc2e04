//! Fields of config.json that reach into the host: network devices, limits, kernel parameters.
//!
//! The network that a device comes from is one of the test's own, around the maker.

mod common;

use common::bundle::Bundle;
use serde_json::{Value, json};

#[test]
fn a_bundle_becomes_a_container() {
    common::bundle::maker();
    needs!("root");
    assert_eq!(Bundle::new("bundle", "echo here").ok(), "here");
}

/// A network namespace with a device of two addresses, and a look at it after the maker's end.
const NETWORK: &str = "unshare -n sh -ec '
    ip link set lo up
    ip link add host0 address 02:00:00:00:00:07 type veth peer name peer0
    ip link set host0 mtu 1400 up
    ip link set peer0 up
    ip address add 192.0.2.7/24 dev host0
    ip address add 2001:db8::7/64 dev host0 nodad
    \"$@\" >&2 || true
    ip -o address
    ip -o link' sh \"$@\"";

fn with_device(name: &str, device: Value) -> Bundle {
    let mut bundle = Bundle::new(name, "ip -o link; ip -o address");
    bundle.namespace("network");
    bundle.linux()["netDevices"] = device;
    bundle.around = Some(NETWORK.into());
    bundle
}

#[test]
fn a_network_device_moves_in_with_its_addresses() {
    needs!("root", "ip");
    for (inside, name) in [
        (json!({"name": "eth0"}), "eth0"),
        (json!({}), "host0"),
        (json!({"name": "net%d"}), "net0"),
    ] {
        let ran = with_device("net-device", json!({"host0": inside})).run();
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let line = |needle: &str| {
            let found = ran.stdout.lines().find(|l| l.contains(needle));
            found
                .unwrap_or_else(|| panic!("no {needle}: {}", ran.stdout))
                .to_string()
        };
        let link = line("02:00:00:00:00:07");
        assert!(link.contains(&format!(" {name}@")), "{link}");
        assert!(link.contains("mtu 1400") && link.contains(",UP"), "{link}");
        assert!(line("192.0.2.7/24").contains(name));
        assert!(line("2001:db8::7/64").contains(name));
        assert!(ran.unexpected().is_empty(), "{:#?}", ran.unexpected());
        // A virtual device ends with the namespace.
        assert!(!ran.around.contains("host0"), "{}", ran.around);
    }
}

#[test]
fn a_network_device_comes_home_when_the_container_fails() {
    needs!("root", "ip");
    for (step, inside) in [
        ("net-device-host0", "eth0"),
        ("pivot-root", "eth0"),
        ("cwd", "host0"),
    ] {
        let mut bundle = with_device("net-home", json!({"host0": {"name": inside}}));
        bundle.fail_after = Some(step.into());
        let ran = bundle.run();
        assert_eq!(ran.code, 125, "{}", ran.stdout);
        assert!(!ran.stderr.contains("clean-up failed"), "{}", ran.stderr);
        let home = ran.around.lines().find(|l| l.contains("02:00:00:00:00:07"));
        let home = home.unwrap_or_else(|| panic!("{}", ran.around));
        assert!(
            home.contains(" host0@") && home.contains("mtu 1400"),
            "{home}"
        );
        assert!(home.contains(",UP"), "{home}");
        assert!(
            ran.around.contains("host0    inet 192.0.2.7/24"),
            "{}",
            ran.around
        );
        assert!(
            ran.around.contains("host0    inet6 2001:db8::7/64"),
            "{}",
            ran.around
        );
    }
}

#[test]
fn a_network_device_that_cannot_move_is_refused() {
    needs!("root", "ip");
    let ran = with_device("net-taken", json!({"host0": {"name": "lo"}})).run();
    assert!(
        ran.stderr.contains("has a device lo already"),
        "{}",
        ran.stderr
    );
    assert!(ran.around.contains(" host0@"), "it stayed: {}", ran.around);
    let missing = with_device("net-missing", json!({"nowhere0": {}})).refused();
    assert!(missing.contains("there is no nowhere0"), "{missing}");
    let long = with_device("net-name", json!({"host0": {"name": "a/b"}})).refused();
    assert!(long.contains("no name of a network device"), "{long}");
    let mut bundle = Bundle::new("net-none", "true");
    bundle.linux()["netDevices"] = json!({"lo": {}});
    assert!(
        bundle
            .refused()
            .contains("netDevices needs a network namespace")
    );
}

/// Where a controller's files of the container's own group lie, seen by a script in the container.
fn with_limits(name: &str, resources: Value, script: &str) -> Bundle {
    let mut bundle = Bundle::new(name, script);
    bundle.namespace("cgroup");
    bundle.mount(json!({"destination": "/sys", "type": "tmpfs", "source": "tmpfs"}));
    bundle.mount(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["ro"]}),
    );
    bundle.cgroup(resources);
    bundle
}

#[test]
fn limits_on_cgroup_v1() {
    needs!("root", "cgroup1");
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes \
        memory/memory.swappiness memory/memory.kmem.tcp.limit_in_bytes; \
        grep oom_kill_disable memory/memory.oom_control; cat cpu/cpu.shares cpu/cpu.cfs_quota_us \
        cpu/cpu.cfs_period_us cpu/cpu.cfs_burst_us cpu/cpu.rt_runtime_us cpu/cpu.idle cpuset/cpuset.cpus \
        pids/pids.max";
    let resources = json!({
        "memory": {"limit": 67108864, "reservation": 33554432, "swappiness": 10,
            "kernelTCP": 8388608, "disableOOMKiller": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 10000,
            "realtimeRuntime": 5000, "realtimePeriod": 1000000, "cpus": "0"},
        "pids": {"limit": 64}
    });
    assert_eq!(
        with_limits("limits", resources, script)
            .ok()
            .split_whitespace()
            .collect::<Vec<_>>(),
        "67108864 33554432 10 8388608 oom_kill_disable 1 512 50000 100000 10000 5000 0 0 64"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let idle = with_limits(
        "idle",
        json!({"cpu": {"idle": 1}}),
        "cat /sys/fs/cgroup/cpu/cpu.idle",
    );
    assert_eq!(idle.ok(), "1");
    let unified = json!({"unified": {"memory.high": "1000000"}});
    let refused = with_limits("unified", unified, "true").refused();
    assert!(refused.contains("cgroup v2 only"), "{refused}");
}

#[test]
fn limits_on_cgroup_v2() {
    needs!("root", "cgroup2");
    let script = "cd /sys/fs/cgroup; cat memory.max memory.low memory.swap.max memory.high cpu.max \
        cpu.weight cpu.max.burst cpuset.cpus pids.max";
    let resources = json!({
        "memory": {"limit": 67108864, "reservation": 33554432, "swap": 100663296},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 10000, "cpus": "0"},
        "pids": {"limit": 64},
        "unified": {"memory.high": "60000000"}
    });
    assert_eq!(
        with_limits("limits", resources, script)
            .ok()
            .split_whitespace()
            .collect::<Vec<_>>(),
        "67108864 33554432 33554432 59998208 50000 100000 100 10000 0 64"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let idle = with_limits(
        "idle",
        json!({"cpu": {"idle": 1}}),
        "cat /sys/fs/cgroup/cpu.idle",
    );
    assert_eq!(idle.ok(), "1");
    for (resources, why) in [
        (
            json!({"memory": {"swappiness": 10}}),
            "memory.swappiness exists on cgroup v1 only",
        ),
        (json!({"memory": {"kernelTCP": 1000000}}), "cgroup v1 only"),
        (
            json!({"memory": {"disableOOMKiller": true}}),
            "cgroup v1 only",
        ),
        (json!({"cpu": {"realtimeRuntime": 1000}}), "cgroup v1 only"),
        (json!({"network": {"classID": 1}}), "cgroup v1 only"),
        (
            json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
            "cgroup v1 only",
        ),
        (json!({"blockIO": {"leafWeight": 100}}), "leafWeight"),
    ] {
        let refused = with_limits("v1-only", resources, "true").refused();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn marks_on_network_packets() {
    needs!("root", "cgroup1");
    let marks = json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]});
    let script =
        "cat /sys/fs/cgroup/*/net_cls.classid; grep lo /sys/fs/cgroup/*/net_prio.ifpriomap";
    let mut bundle = with_limits("marks", json!({"network": marks}), script);
    // A tree of its own for the two, in a mount namespace that ends with the test.
    bundle.around = Some(
        "unshare -m --propagation private sh -ec 'mkdir $GLASSBOX_TEST_BUNDLE/net_cls
        mount -t cgroup -o net_cls,net_prio cgroup $GLASSBOX_TEST_BUNDLE/net_cls
        \"$@\"' sh \"$@\""
            .into(),
    );
    assert_eq!(bundle.ok(), "1048577\nlo 5");
    if !std::fs::read_to_string("/proc/mounts")
        .unwrap()
        .contains("net_cls")
    {
        bundle.around = None;
        let refused = bundle.refused();
        assert!(refused.contains("no mounted tree does"), "{refused}");
    }
    let rdma = json!({"rdma": {"mlx5_0": {"hcaHandles": 1}}});
    if !std::fs::read_to_string("/proc/cgroups")
        .unwrap()
        .contains("rdma")
    {
        let refused = with_limits("rdma", rdma, "true").refused();
        assert!(refused.contains("rdma controller is missing"), "{refused}");
    }
}

#[test]
fn rates_of_block_devices() {
    needs!("root");
    // A whole disk: partitions have no rates of their own.
    let disk = std::fs::read_dir("/sys/block")
        .unwrap()
        .flatten()
        .filter(|d| !d.file_name().to_string_lossy().starts_with("loop"))
        .find_map(|d| std::fs::read_to_string(d.path().join("dev")).ok());
    let Some(disk) = disk else {
        return common::skip("there is no disk");
    };
    let (major, minor) = disk.trim().split_once(':').unwrap();
    let number = |text: &str| text.parse::<i64>().unwrap();
    let rate = |rate: u64| json!([{"major": number(major), "minor": number(minor), "rate": rate}]);
    let io = json!({"blockIO": {"throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
        "throttleReadIOPSDevice": rate(100), "throttleWriteIOPSDevice": rate(200)}});
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let script = match v2 {
        true => "cat /sys/fs/cgroup/io.max",
        false => {
            "cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device \
            blkio.throttle.write_bps_device blkio.throttle.read_iops_device blkio.throttle.write_iops_device"
        }
    };
    let disk = disk.trim();
    let expected = match v2 {
        true => format!("{disk} rbps=1048576 wbps=2097152 riops=100 wiops=200"),
        false => format!("{disk} 1048576\n{disk} 2097152\n{disk} 100\n{disk} 200"),
    };
    assert_eq!(with_limits("io", io, script).ok(), expected);
}

#[test]
fn kernel_parameters_of_its_own_namespaces_only() {
    needs!("root");
    let script = "cat /proc/sys/kernel/msgmax /proc/sys/kernel/shm_rmid_forced \
        /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ping_group_range /proc/sys/fs/mqueue/msg_max";
    let mut bundle = Bundle::new("sysctl", script);
    bundle.namespace("network");
    bundle.linux()["sysctl"] = json!({"kernel.msgmax": "4096", "kernel.shm_rmid_forced": "1",
        "net.ipv4.ip_forward": "1", "net/ipv4/ping_group_range": "0 5", "fs.mqueue.msg_max": "17"});
    assert_eq!(bundle.ok(), "4096\n1\n1\n0\t5\n17");
    for (key, why) in [
        ("kernel.panic", "would change the host"),
        ("vm.swappiness", "would change the host"),
        ("kernel.core_pattern", "would change the host"),
        ("net/../kernel/panic", "no name of a kernel parameter"),
        ("net...kernel.panic", "no name of a kernel parameter"),
    ] {
        bundle.linux()["sysctl"] = json!({key: "1"});
        let refused = bundle.refused();
        assert!(refused.contains(why), "{key}: {refused}");
    }
    // The host's network, and a key of its.
    let mut bundle = Bundle::new("sysctl-host", "true");
    bundle.linux()["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    assert!(
        bundle
            .refused()
            .contains("the network namespace is not the container's own")
    );
    // The host's network namespace by its path is not the container's own either.
    let list = bundle.linux()["namespaces"].as_array_mut().unwrap();
    list.push(json!({"type": "network", "path": "/proc/self/ns/net"}));
    let refused = bundle.refused();
    assert!(refused.contains("is the host's"), "{refused}");
}

/// Calls of these fields; a test program makes others of its own, so the rest is not compared (nor is
/// what tmpcopyup writes into the nameless file by which it copies).
const OURS: &[&str] = &[
    "sched_setattr",
    "ioprio_set",
    "set_mempolicy",
    "personality",
    "sendto",
    "setns",
    "open_tree",
    "mount_setattr",
    "move_mount",
    "mount",
    "pivot_root",
    "fsopen",
    "fsmount",
    "mknodat",
    "seccomp",
    "capset",
    "setgroups",
    "setresuid",
    "setresgid",
    "umask",
    "pidfd_send_signal",
    "symlinkat",
    "mkdirat",
    "fchownat",
    "fchmodat",
];

#[test]
fn the_journal_has_what_strace_sees_of_these_fields() {
    needs!("root", "strace", "ip");
    let mut bundle = with_device("strace", json!({"host0": {"name": "eth0"}}));
    bundle.process()["args"] = json!(["true"]);
    bundle.process()["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
    bundle.process()["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE"});
    bundle.process()["noNewPrivileges"] = json!(true);
    bundle.linux()["personality"] = json!({"domain": "LINUX32"});
    bundle.linux()["memoryPolicy"] = json!({"mode": "MPOL_PREFERRED", "nodes": "0"});
    bundle.linux()["rootfsPropagation"] = json!("shared");
    bundle.linux()["devices"] = json!([{"type": "p", "path": "/run/pipe"}]);
    let etc = bundle.root.join("rootfs/etc");
    std::fs::create_dir(&etc).unwrap();
    std::fs::write(etc.join("file"), "content").unwrap();
    std::fs::create_dir(bundle.root.join("data")).unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    bundle.mount(
        json!({"destination": "/data", "type": "bind", "source": "data",
        "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map}),
    );
    bundle.mount(
        json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
        "options": ["tmpcopyup"]}),
    );
    let options = common::strace::OPTIONS.join(" ");
    let traced = format!("strace {options} -o $GLASSBOX_TEST_BUNDLE/strace \"$@\"");
    bundle.around = Some(NETWORK.replacen("\"$@\"", &traced, 1));
    let ran = bundle.run();
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let strace = std::fs::read(bundle.root.join("strace")).unwrap();
    let all = common::strace::parse(&String::from_utf8_lossy(&strace));
    let count = |names: Vec<&str>| {
        let mut counts = std::collections::BTreeMap::new();
        for name in names.into_iter().filter(|n| OURS.contains(n)) {
            *counts.entry(name.to_string()).or_insert(0) += 1;
        }
        counts
    };
    let seen = all
        .iter()
        .filter(|c| c.changes_state())
        .map(|c| c.name.as_str());
    let told = ran.journal.iter().filter_map(|r| match r {
        glassbox::journal::Record::Call(c) => Some(c.call.as_str()),
        glassbox::journal::Record::Event(_) => None,
    });
    assert_eq!(
        count(seen.collect()),
        count(told.collect()),
        "strace, journal"
    );
}
