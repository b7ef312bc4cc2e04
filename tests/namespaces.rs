//! Stage 1 on the built binary: `ns run`, as root and as an ordinary user.
//!
//! Each test says what the kernel shows, never what glassbox says that it did. What is seen from
//! outside (`ns ls`, `tree`, `pin`) is in `namespaces_survey.rs`; entering is in `namespaces_enter.rs`.

mod common;

use common::namespaces::{Held, KINDS, entries, host, ns_run, rootfs};
use common::{LeakCheck, Run, TempRoot, run};

const ALL_LINKS: &str =
    "for k in user mnt uts ipc pid net cgroup time; do readlink /proc/self/ns/$k; done";

#[test]
fn each_flag_makes_its_kind_new_and_no_other() {
    needs!("root");
    for (kind, flag) in KINDS {
        let output = run(["ns", "run", flag, "--", "sh", "-c", ALL_LINKS]).success();
        for (line, (other, _)) in output.stdout.lines().zip(KINDS) {
            let is_new = line != host(other);
            // The shell's /proc is the old one, but `self` is a link, so it is true all the same.
            assert_eq!(is_new, other == kind, "{flag}: {other} is {line}\n{output}");
        }
        assert_eq!(output.stdout.lines().count(), 8, "{output}");
    }
}

#[test]
fn an_ordinary_user_gets_all_eight() {
    let script = format!("{ALL_LINKS}; id -u; id -g; cat /proc/self/setgroups; echo $$");
    let output = Run::new(["ns", "run", "--all", "--", "sh", "-c", &script])
        .as_user()
        .go()
        .success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 12, "{output}");
    for (line, (kind, _)) in lines.iter().zip(KINDS) {
        assert_ne!(*line, host(kind), "{kind} is the host's\n{output}");
    }
    assert_eq!(&lines[8..], ["0", "0", "deny", "1"], "{output}");
}

#[test]
fn a_fresh_proc_shows_only_what_is_inside() {
    needs!("ps");
    let output = ns_run(&["--pid", "--mount", "--", "ps", "ax", "-o", "pid=,comm="]);
    output.success().out_is("1 ps");
    let output = ns_run(&["--pid", "--", "sh", "-c", "echo $$; readlink /proc/self"]);
    let output = output.success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "1", "{output}");
    assert_ne!(lines[1], "1", "the old /proc was expected: {output}");
    output.err_has("--mount-proc");
    let explicit = ns_run(&["--pid", "--mount-proc", "--", "readlink", "/proc/self"]);
    explicit.success().out_is("1");
    let without = ns_run(&[
        "--pid",
        "--mount",
        "--no-mount-proc",
        "--",
        "readlink",
        "/proc/self",
    ]);
    assert_ne!(without.success().stdout.trim(), "1");
}

#[test]
fn names_are_set_inside_alone() {
    let before = nix::sys::utsname::uname().expect("uname");
    let script = "uname -n; cat /proc/sys/kernel/domainname";
    let output = ns_run(&[
        "--hostname",
        "blue",
        "--domainname",
        "sky",
        "--",
        "sh",
        "-c",
        script,
    ]);
    output.success().out_is("blue\nsky");
    let after = nix::sys::utsname::uname().expect("uname");
    assert_eq!(before.nodename(), after.nodename());
    assert_eq!(before.domainname(), after.domainname());
    let long = "x".repeat(65);
    ns_run(&["--hostname", &long, "--", "true"]).fails(125, &["EINVAL", "64 bytes"]);
}

#[test]
fn clocks_are_shifted_in_place_and_in_a_new_pid_namespace() {
    let uptime = |text: &str| -> f64 {
        let first = text.split_whitespace().next().expect("a number");
        first.parse().expect("a number")
    };
    let ours = || uptime(&std::fs::read_to_string("/proc/uptime").expect("uptime"));
    for extra in ["--uts", "--pid", "--all"] {
        let before = ours();
        let args = [extra, "--boottime", "2d", "--monotonic", "-1.5"];
        let command = ["--", "cat", "/proc/uptime", "/proc/self/timens_offsets"];
        let output = ns_run(&[&args[..], &command[..]].concat()).success();
        let shifted = uptime(&output.stdout) - before;
        assert!(
            (172_800.0..172_860.0).contains(&shifted),
            "{shifted}: {output}"
        );
        let words: Vec<&str> = output.stdout.split_whitespace().skip(2).collect();
        let expected = ["monotonic", "-2", "500000000", "boottime", "172800", "0"];
        assert_eq!(words, expected, "{output}");
    }
    ns_run(&["--boottime", "-9000000d", "--", "true"])
        .fails(125, &["ERANGE", "below zero", "time-namespaces"]);
    ns_run(&["--boottime", "soon", "--", "true"]).exits(125);
}

#[test]
fn the_loopback_device_is_up() {
    needs!("ip");
    let output = ns_run(&["--net", "--", "ip", "-o", "link"]).success();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    output.out_has("lo: <LOOPBACK,UP");
}

#[test]
fn explicit_maps_are_what_the_kernel_has() {
    needs!("root");
    let held = Held::new(&[
        "--map-user",
        "0:100000:1000",
        "--map-user",
        "5000:300000:1",
        "--map-group",
        "0:200000:10",
        "--mount",
    ]);
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/{name}", held.pid)).expect(name);
        text.split_whitespace()
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        read("uid_map"),
        ["0", "100000", "1000", "5000", "300000", "1"]
    );
    assert_eq!(read("gid_map"), ["0", "200000", "10"]);
    // Nobody inside maps to the caller, so the command became root inside, seen outside as 100000.
    let status = std::fs::read_to_string(format!("/proc/{}/status", held.pid)).expect("status");
    assert!(
        status.contains("Uid:\t100000\t100000\t100000\t100000"),
        "{status}"
    );
    assert!(
        status.contains("Gid:\t200000\t200000\t200000\t200000"),
        "{status}"
    );
    assert!(
        status.contains("Groups:\t \n"),
        "groups were kept: {status}"
    );
}

#[test]
fn ids_are_chosen_inside() {
    needs!("root");
    let maps = ["--map-user", "0:100000:100", "--map-group", "0:100000:100"];
    let id = [
        "--setuid",
        "7",
        "--setgid",
        "9",
        "--",
        "sh",
        "-c",
        "id -u; id -g",
    ];
    let output = run(["ns", "run"].iter().chain(&maps).chain(&id));
    output.success().out_is("7\n9");
    let id = ["--setuid", "700", "--", "true"];
    run(["ns", "run"].iter().chain(&maps).chain(&id)).fails(
        125,
        &["cannot become user 700", "EINVAL", "--map-user 700:"],
    );
    let nobody = run(["ns", "run", "--user", "--", "id", "-u"]).success();
    nobody.out_is("65534");
    nobody.err_has("without an id map");
}

#[test]
fn subordinate_ids_come_through_newuidmap() {
    needs!("root", "newuidmap", "setpriv");
    // The host's /etc/subuid stays as it is: ours covers it in a mount namespace of the test's.
    let root = TempRoot::new("subuid");
    let _leaks = LeakCheck::new(&root);
    let ranges = root.write("ranges", "nobody:700000:65536\n");
    let script = format!(
        "mount --bind {0} /etc/subuid && mount --bind {0} /etc/subgid && exec setpriv \
         --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- \"$@\"",
        ranges.display()
    );
    let binary = common::binary();
    let inside = "cat /proc/self/uid_map /proc/self/gid_map; id -u";
    for automatic in [true, false] {
        let mut args = vec!["ns", "run", "--mount", "--", "sh", "-c", &script, "sh"];
        args.extend([binary.to_str().expect("utf-8"), "ns", "run"]);
        args.extend(match automatic {
            true => vec!["--map-auto"],
            false => vec![
                "--map-user",
                "0:65534",
                "--map-user",
                "1:700000:65536",
                "--map-group",
                "0:65534",
                "--map-group",
                "1:700000:65536",
            ],
        });
        args.extend(["--", "sh", "-c", inside]);
        let output = run(&args).success();
        let words: Vec<&str> = output.stdout.split_whitespace().collect();
        let map = ["0", "65534", "1", "1", "700000", "65536"];
        let expected: Vec<&str> = map.into_iter().chain(map).chain(["0"]).collect();
        assert_eq!(words, expected, "{output}");
    }
    let args = [
        "ns",
        "run",
        "--map-user",
        "0:1:1",
        "--map-group",
        "0:65534",
        "--",
        "true",
    ];
    Run::new(args)
        .as_user()
        .go()
        .fails(125, &["newuidmap ended with status 1", "/etc/subuid"]);
    let auto = Run::new(["ns", "run", "--map-auto", "--", "true"])
        .as_user()
        .go();
    auto.fails(125, &["gives no range to", "usermod --add-subuids"]);
}

#[test]
fn a_directory_becomes_the_root() {
    needs!("root");
    let root = TempRoot::new("pivot");
    let _leaks = LeakCheck::new(&root);
    let tree = rootfs(&root);
    let tree = tree.to_str().expect("utf-8");
    let inside = entries(tree);
    let script =
        "echo *; pwd; echo /proc/[0-9]*; while read l; do echo \"$l\"; done </proc/self/mountinfo";
    let args = [
        "ns",
        "run",
        "--pid",
        "--uts",
        "--hostname",
        "small",
        "--root",
        tree,
    ];
    let output = run(args.iter().chain(&["--", "/bin/sh", "-c", script])).success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], inside, "{output}");
    assert_eq!(lines[1], "/", "{output}");
    assert_eq!(lines.len(), 5, "two mounts were expected: {output}");
    assert!(lines[3].contains("/rootfs / rw"), "{output}");
    assert!(lines[4].contains(" / /proc "), "{output}");
    let user = Run::new(
        args.iter()
            .chain(&["--map-root-user", "--", "/bin/sh", "-c", script]),
    );
    let output = user.as_user().go().success();
    output.out_has(&format!("{inside}\n/\n/proc/1\n"));
    let args = [
        "ns",
        "run",
        "--root",
        tree,
        "--workdir",
        "/tmp",
        "--",
        "/bin/sh",
        "-c",
        "pwd",
    ];
    run(args).success().out_is("/tmp");
    run(["ns", "run", "--root", "/nonexistent", "--", "true"])
        .fails(125, &["cannot use /nonexistent as the root", "ENOENT"]);
    run(["ns", "run", "--root", "/etc/passwd", "--", "true"]).fails(125, &["not a directory"]);
    let args = [
        "ns",
        "run",
        "--pid",
        "--root",
        tree,
        "--workdir",
        "/none",
        "--",
        "/bin/sh",
    ];
    run(args).fails(125, &["cannot change to the directory /none", "ENOENT"]);
}

#[test]
fn a_hostile_root_cannot_have_proc_mounted_elsewhere() {
    needs!("root");
    let root = TempRoot::new("hostile");
    let _leaks = LeakCheck::new(&root);
    let tree = rootfs(&root);
    std::fs::remove_dir(tree.join("proc")).expect("rmdir");
    std::os::unix::fs::symlink("../../../../../../tmp", tree.join("proc")).expect("symlink");
    let tree = tree.to_str().expect("utf-8");
    // Resolved inside the root, the link means the root's own /tmp: that is where it is mounted.
    let script = "echo /tmp/self/status; read x </tmp/self/status; echo $x";
    let args = [
        "ns", "run", "--pid", "--root", tree, "--", "/bin/sh", "-c", script,
    ];
    run(args).success().out_is("/tmp/self/status\nName: sh");
    std::fs::remove_file(root.join("rootfs/proc")).expect("rm");
    let args = [
        "ns", "run", "--pid", "--root", tree, "--", "/bin/sh", "-c", script,
    ];
    run(args).fails(125, &["proc", "ENOENT", "mkdir"]);
}

#[test]
fn mounts_made_inside_stay_inside() {
    needs!("root", "mount");
    let root = TempRoot::new("propagation");
    let _leaks = LeakCheck::new(&root);
    let script = "mount -t tmpfs none $0 && touch $0/inside && ls $0";
    let dir = root.path().to_str().expect("utf-8");
    // In the outer namespace every mount is shared, as systemd has it on a host; but with nobody
    // outside, for it is made private before.
    let outer = ["ns", "run", "--mount", "--", "sh", "-c"];
    let binary = common::binary();
    let nested = |mode: &str| {
        format!(
            "mount --make-rshared / && {} ns run --mount --propagation {mode} -- sh -c '{script}' \
             {dir}; ls {dir}",
            binary.display()
        )
    };
    let private = nested("private");
    run(outer.iter().copied().chain([private.as_str()]))
        .success()
        .out_is("inside");
    let slave = nested("slave");
    run(outer.iter().copied().chain([slave.as_str()]))
        .success()
        .out_is("inside");
    let shared = nested("shared");
    run(outer.iter().copied().chain([shared.as_str()]))
        .success()
        .out_is("inside\ninside");
    run(["ns", "run", "--propagation", "public", "--", "true"]).exits(125);
}

#[test]
fn refusals_say_why_and_what_to_do() {
    let as_user = |args: &[&str]| {
        Run::new(["ns", "run"].iter().chain(args).chain(&["--", "true"]))
            .as_user()
            .go()
    };
    as_user(&["--pid", "--mount"]).fails(
        125,
        &[
            "clone3(CLONE_NEWNS|CLONE_NEWPID",
            "EPERM",
            "--user --map-root-user",
        ],
    );
    as_user(&["--net"]).fails(125, &["unshare(CLONE_NEWNET): EPERM", "CAP_SYS_ADMIN"]);
    as_user(&["--map-user", "0:0:1", "--map-user", "0:5:1"]).fails(125, &["overlap inside"]);
    run(["ns", "run", "--map-user", "0", "--", "true"]).exits(125);
    run(["ns", "run", "--nonsense"]).exits(125);
    // A limit of the user namespace itself: nothing of the host changes.
    let script = format!(
        "echo 0 > /proc/sys/user/max_uts_namespaces; exec {} ns run --uts -- true",
        common::binary().display()
    );
    if common::is_root() {
        run([
            "ns",
            "run",
            "--map-root-user",
            "--pid",
            "--mount",
            "--",
            "sh",
            "-c",
            &script,
        ])
        .fails(
            125,
            &["ENOSPC", "user.max_uts_namespaces is 0 on this host"],
        );
    }
}

#[test]
fn every_step_may_fail_and_nothing_stays() {
    needs!("root");
    let root = TempRoot::new("failing");
    let _leaks = LeakCheck::new(&root);
    let tree = rootfs(&root);
    let tree = tree.to_str().expect("utf-8");
    let base = [
        "ns",
        "run",
        "--hostname",
        "x",
        "--domainname",
        "y",
        "--boottime",
        "1h",
    ];
    let base = base
        .iter()
        .copied()
        .chain(["--net", "--root", tree, "--workdir", "/tmp"]);
    for more in [
        &["--pid", "--map-user", "0:1000:5", "--map-group", "0:1000:5"][..],
        &["-r"],
    ] {
        let all: Vec<&str> = base.clone().chain(more.iter().copied()).collect();
        let dry = run(all.iter().chain(&["--dry-run", "--json", "--", "/bin/sh"])).success();
        let steps = dry.json()["steps"].as_array().expect("steps").clone();
        assert!(steps.len() > 9, "{dry}");
        for step in steps.iter().filter(|s| s["id"] != "execute") {
            let id = step["id"].as_str().expect("id");
            Run::new(all.iter().chain(&["--", "/bin/sh", "-c", "echo ran"]))
                .env("GLASSBOX_FAIL_STEP", id)
                .go()
                .fails(125, &[&format!("step {id:?} was told to fail")])
                .out_is("");
        }
    }
}

#[test]
fn a_limited_group_with_namespaces_is_a_small_container() {
    needs!("root");
    let root = TempRoot::new("small");
    let _leaks = LeakCheck::new(&root);
    let tree = rootfs(&root);
    let binary = common::binary();
    let args = [
        "cgroup",
        "run",
        "--memory",
        "64M",
        "--",
        binary.to_str().expect("utf-8"),
        "ns",
        "run",
        "--pid",
        "--mount",
        "--uts",
        "--hostname",
        "small",
        "--root",
        tree.to_str().expect("utf-8"),
        "--",
        "/bin/sh",
        "-c",
        "echo $$ *; read name </proc/sys/kernel/hostname; echo $name; \
         while read line; do echo $line; done </proc/self/cgroup; exit 9",
    ];
    let output = run(args).exits(9);
    let lines: Vec<&str> = output.stdout.lines().collect();
    let expected = [format!("1 {}", entries(&tree)), "small".into()];
    assert_eq!(lines[..2], expected, "{output}");
    let ours = std::fs::read_to_string("/proc/self/cgroup").expect("our cgroups");
    let new = lines[2..]
        .iter()
        .filter(|l| !ours.lines().any(|o| o == **l));
    assert!(new.count() > 0, "it is in no cgroup of its own: {output}");
}

#[test]
fn stages_nest() {
    let binary = common::binary();
    let binary = binary.to_str().expect("utf-8");
    let outer = [
        "--net", "--ipc", "--", binary, "ns", "run", "--pid", "--mount",
    ];
    let script = "echo $$; uname -n; readlink /proc/self/ns/net";
    let inner = ["--uts", "--hostname", "in", "--", "sh", "-c", script];
    let output = ns_run(&[&outer[..], &inner[..]].concat()).success();
    output.out_has("1\nin\nnet:[");
    assert!(!output.stdout.contains(&host("net")), "{output}");
}
