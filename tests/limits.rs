//! Every flag of docker's that limits something lands in the right file, on whichever layout this
//! host has, with the value that was said, and shows in `inspect`.
//!
//! Read next: `container_flags.rs`; `src/containers/config/resources.rs`, `src/cgroups/plan/`.

mod common;

use common::Host;
use glassbox::host::CgroupLayout;
use std::path::PathBuf;

/// One row: flags; the controller; file and content on v1 and on v2 (empty: v2 has no such thing);
/// docker's key in `inspect` and its value.
type Row = (
    &'static str,
    &'static str,
    [&'static str; 2],
    [&'static str; 2],
    [&'static str; 2],
);

/// DISK is a whole disk of this host, M:N its numbers.
const TABLE: &[Row] = &[
    (
        "-m 64m",
        "memory",
        ["memory.limit_in_bytes", "67108864"],
        ["memory.max", "67108864"],
        ["Memory", "67108864"],
    ),
    (
        "-m 64m --memory-swap 96m",
        "memory",
        ["memory.memsw.limit_in_bytes", "100663296"],
        ["memory.swap.max", "33554432"],
        ["MemorySwap", "100663296"],
    ),
    (
        "-m 64m --memory-swap -1",
        "memory",
        ["memory.memsw.limit_in_bytes", "9223372036854771712"],
        ["memory.swap.max", "max"],
        ["MemorySwap", "-1"],
    ),
    (
        "--memory-reservation 32m",
        "memory",
        ["memory.soft_limit_in_bytes", "33554432"],
        ["memory.low", "33554432"],
        ["MemoryReservation", "33554432"],
    ),
    (
        "--memory-swappiness 10",
        "memory",
        ["memory.swappiness", "10"],
        ["", ""],
        ["MemorySwappiness", "10"],
    ),
    (
        "-m 64m --oom-kill-disable",
        "memory",
        ["memory.oom_control", "oom_kill_disable 1"],
        ["", ""],
        ["OomKillDisable", "true"],
    ),
    (
        "--cpus 0.5",
        "cpu",
        ["cpu.cfs_quota_us", "50000"],
        ["cpu.max", "50000 100000"],
        ["NanoCpus", "500000000"],
    ),
    (
        "--cpu-quota 20000",
        "cpu",
        ["cpu.cfs_quota_us", "20000"],
        ["cpu.max", "20000 100000"],
        ["CpuQuota", "20000"],
    ),
    (
        "--cpu-quota 20000 --cpu-period 50000",
        "cpu",
        ["cpu.cfs_period_us", "50000"],
        ["cpu.max", "20000 50000"],
        ["CpuPeriod", "50000"],
    ),
    (
        "--cpu-shares 1024",
        "cpu",
        ["cpu.shares", "1024"],
        ["cpu.weight", "100"],
        ["CpuShares", "1024"],
    ),
    (
        "--cpuset-cpus 0",
        "cpuset",
        ["cpuset.cpus", "0"],
        ["cpuset.cpus", "0"],
        ["CpusetCpus", "0"],
    ),
    (
        "--cpuset-mems 0",
        "cpuset",
        ["cpuset.mems", "0"],
        ["cpuset.mems", "0"],
        ["CpusetMems", "0"],
    ),
    (
        "--pids-limit 50",
        "pids",
        ["pids.max", "50"],
        ["pids.max", "50"],
        ["PidsLimit", "50"],
    ),
    (
        "--pids-limit -1",
        "pids",
        ["pids.max", "max"],
        ["pids.max", "max"],
        ["PidsLimit", "-1"],
    ),
    (
        "--device-read-bps DISK:1m",
        "io",
        ["blkio.throttle.read_bps_device", "M:N 1048576"],
        ["io.max", "M:N rbps=1048576 wbps=max riops=max wiops=max"],
        ["", ""],
    ),
    (
        "--device-write-bps DISK:2m",
        "io",
        ["blkio.throttle.write_bps_device", "M:N 2097152"],
        ["io.max", "M:N rbps=max wbps=2097152 riops=max wiops=max"],
        ["", ""],
    ),
    (
        "--device-read-iops DISK:30",
        "io",
        ["blkio.throttle.read_iops_device", "M:N 30"],
        ["io.max", "M:N rbps=max wbps=max riops=30 wiops=max"],
        ["", ""],
    ),
    (
        "--device-write-iops DISK:40",
        "io",
        ["blkio.throttle.write_iops_device", "M:N 40"],
        ["io.max", "M:N rbps=max wbps=max riops=max wiops=40"],
        ["", ""],
    ),
];

/// A whole disk: its device file, major and minor number.
fn disk() -> Option<(String, String)> {
    let all = std::fs::read_dir("/sys/block").ok()?;
    all.flatten().find_map(|entry| {
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
        let node = format!("/dev/{}", entry.file_name().to_string_lossy());
        let holds_something = read("size")?.trim() != "0" && std::path::Path::new(&node).exists();
        holds_something.then_some((node, read("dev")?.trim().to_string()))
    })
}

/// The directory of a container's group in the tree that has the controller, and whether that is v2.
fn group(host: &Host, controller: &str) -> (PathBuf, bool) {
    let layout = CgroupLayout::detect().expect("the layout");
    let v1_name = if controller == "io" {
        "blkio"
    } else {
        controller
    };
    let tree = layout.of(controller).or_else(|| layout.of(v1_name));
    let tree = tree.unwrap_or_else(|| panic!("no tree has {controller}"));
    let id = host.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    (
        tree.dir(&format!("/glassbox/{id}"))
            .expect("below the root"),
        tree.v2,
    )
}

#[test]
fn each_flag_lands_in_its_file() {
    needs!("root");
    let host = Host::new("limits");
    let disk = disk();
    let mut missing = Vec::new();
    for (flags, controller, v1, v2, [key, value]) in TABLE {
        if flags.contains("DISK") && disk.is_none() {
            missing.push(format!("{flags}: this host has no disk"));
            continue;
        }
        let (node, numbers) = disk.clone().unwrap_or_default();
        let flags = flags.replace("DISK", &node);
        let words: Vec<&str> = flags.split(' ').collect();
        let out = host.go(&[
            &["run", "-d", "--name", "box"],
            &words[..],
            &["lab", "sleep", "1000"],
        ]
        .concat());
        assert_eq!(out.code(), 0, "{flags}: {out}");
        let (dir, is_v2) = group(&host, controller);
        let [file, expected] = if is_v2 { v2 } else { v1 };
        if file.is_empty() {
            assert!(out.stderr.contains("no effect"), "{flags}: {out}");
        } else if !dir.join(file).exists() {
            // A kernel without swap accounting has no file for it.
            assert!(
                file.contains("sw") && out.stderr.contains("no effect"),
                "{flags}: {out}"
            );
            missing.push(format!("{flags}: this kernel has no {file}"));
        } else {
            let text = std::fs::read_to_string(dir.join(file)).expect("it can be read");
            let expected = expected.replace("M:N", &numbers);
            assert!(
                text.lines().any(|l| l == expected),
                "{flags}: {file} has {text:?}, not {expected}"
            );
        }
        if !key.is_empty() {
            let shown = host.ok(&[
                "inspect",
                "-f",
                &format!("{{{{.HostConfig.{key}}}}}"),
                "box",
            ]);
            assert_eq!(shown, *value, "{flags}");
        }
        host.ok(&["rm", "-f", "box"]);
    }
    for reason in missing {
        eprintln!("not here: {reason}");
    }
}

#[test]
fn what_holds_is_what_inspect_reads_from_the_kernel() {
    needs!("root");
    let host = Host::new("limits-read");
    let flags = [
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--cpuset-cpus",
        "0",
        "--cpu-shares",
        "512",
    ];
    host.ok(&[
        &["run", "-d", "--name", "box"],
        &flags[..],
        &["lab", "sleep", "1000"],
    ]
    .concat());
    let shown = host.go(&["inspect", "--json", "box"]).json();
    let limits = shown["process"]["cgroup"]["limits"]
        .as_array()
        .expect("limits")
        .clone();
    for (name, value) in [
        ("memory.max", "67108864"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "50"),
    ] {
        let limit = limits.iter().find(|l| l["name"] == name);
        let limit = limit.unwrap_or_else(|| panic!("no {name} in {limits:#?}"));
        assert_eq!(
            (&limit["own"], &limit["effective"]),
            (&value.into(), &value.into()),
            "{name}"
        );
    }
    // The processes' own limits, and what is not a cgroup's.
    let flags = [
        "--ulimit",
        "nofile=100:200",
        "--oom-score-adj",
        "77",
        "--shm-size",
        "32m",
        "--ulimit",
        "core=0",
    ];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -n 1";
    let text = host.sh(&flags, script);
    assert!(
        text.starts_with("100\n200\n0\n77\n") && text.contains(" 32768 "),
        "{text}"
    );
    for (bad, words) in [
        (&["-m", "1m"][..], "6MB"),
        (&["--memory-swap", "64m"], "memory limit"),
        (
            &["-m", "64m", "--memory-swap", "32m"],
            "larger than memory limit",
        ),
        (
            &["-m", "64m", "--memory-reservation", "65m"],
            "less than memory reservation",
        ),
        (&["--cpus", "0.5", "--cpu-quota", "5000"], "--cpu-quota"),
        (&["--cpus", "1000"], "cpu"),
        (&["--cpuset-cpus", "900"], "cpuset"),
        (&["--blkio-weight", "5"], "10 to 1000"),
        (&["--device-write-bps", "/dev/no-disk:1m"], "/dev/no-disk"),
        (&["--memory-swappiness", "101"], "0-100"),
        (&["--ulimit", "nofile=200:100"], "nofile"),
    ] {
        let message = host.fails(125, &[&["run", "--rm"], bad, &["lab", "true"]].concat());
        assert!(
            message.to_lowercase().contains(&words.to_lowercase()),
            "{bad:?}: {message}"
        );
    }
}
