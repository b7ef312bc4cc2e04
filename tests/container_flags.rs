//! What `run`'s flags do to the kernel's state, what bad ones say, and what an ordinary user can.
//!
//! Read next: `containers.rs`.

mod common;

use common::{Host, LeakCheck, Run, TempRoot};

#[test]
fn what_cannot_run_says_so_and_leaves_nothing() {
    needs!("root");
    let host = Host::new("bad");
    assert!(
        host.fails(127, &["run", "lab", "nope"])
            .contains("executable file not found in $PATH")
    );
    assert!(
        host.fails(127, &["run", "lab", "/nope"])
            .contains("no such file or directory")
    );
    assert!(
        host.fails(126, &["run", "lab", "/etc"])
            .contains("error: exec")
    );
    for args in [
        &["run", "no-such-image"][..],
        &["run", "-m", "1m", "lab"],
        &["run", "-m", "x", "lab"],
        &["run", "--network", "no-such-network", "lab"],
        &["run", "--network", "container:nobody", "lab"],
        &["run", "-u", "nobody-knows", "lab"],
        &["run", "-v", "a/b:/c", "lab"],
        &[
            "run",
            "--mount",
            "type=bind,source=/nonexistent,target=/x",
            "lab",
        ],
        &["run", "--cap-add", "flying", "lab"],
        &["run", "--device", "/nonexistent", "lab"],
        &["run", "--sysctl", "kernel.panic=1", "lab"],
        &["run", "--security-opt", "seccomp=/nonexistent", "lab"],
        &["run", "--name", "-x", "lab"],
        &["run", "-w", "relative", "lab"],
        &["run", "--no-such-flag", "lab"],
        &["run", "--cpus", "1", "--cpu-quota", "5", "lab"],
        &["run", "--cpus", "100000", "lab"],
        &["run", "--cpus", "0.001", "lab"],
        &["run", "--uts", "host", "--hostname", "x", "lab"],
        &["run", "--uts", "container:x", "lab"],
        &["run", "--restart", "always", "--rm", "lab"],
        &["run", "--cpus", "100000", "lab"],
        &["run", "--cidfile", "/nonexistent/cid", "lab", "true"],
        &["create", "--ulimit", "nofile=2:1", "lab"],
    ] {
        let message = host.fails(125, args);
        assert!(message.contains("error: "), "{args:?}: {message}");
    }
    host.fails(1, &["create", "--cidfile", "/nonexistent/cid", "lab"]);
    // What the errno does not say.
    for (flags, hint) in [
        (
            &["-v", "/tmp:/etc/passwd"][..],
            "/etc/passwd in the container is a file",
        ),
        (
            &["-v", "/etc/passwd:/tmp"],
            "/tmp in the container is a directory",
        ),
        (
            &["--tmpfs", "/etc/passwd"],
            "/etc/passwd in the container is a file",
        ),
        (
            &["--tmpfs", "/x:size=zz"],
            "hint: the kernel says: tmpfs: Bad value",
        ),
        (&["-v", "/a:b"], "\"b\" must be an absolute path"),
    ] {
        let message = host.fails(125, &[&["run"], flags, &["lab", "true"]].concat());
        assert!(message.contains(hint), "{flags:?}: {message}");
        assert!(!message.contains("a system call failed"), "{message}");
    }
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let left = std::fs::read_dir(host.root.join("containers"))
        .unwrap()
        .count();
    assert_eq!(left, 1, "the lock alone");
}

#[test]
fn flags_reach_the_kernel() {
    needs!("root");
    let host = Host::new("flags");
    let data = host.root.write("data/file", "content");
    let dir = data.parent().unwrap().display().to_string();
    let env_file = host.root.write("env", "# comment\nFROM=file\n");
    let env_file = env_file.display().to_string();
    assert_eq!(
        host.sh(&["-e", "A=b", "--env-file", &env_file], "echo $A $FROM"),
        "b file"
    );
    assert_eq!(host.sh(&["-w", "/made/up"], "pwd"), "/made/up");
    assert_eq!(
        host.sh(&["-u", "12:34", "--group-add", "56"], "id -u; id -g; id -G"),
        "12\n34\n34 56"
    );
    assert_eq!(
        host.sh(
            &["-h", "name", "--add-host", "db:10.9.8.7"],
            "hostname; grep db /etc/hosts"
        ),
        "name\n10.9.8.7\tdb"
    );
    assert_eq!(
        host.sh(
            &["-v", &format!("{dir}:/d:ro")],
            "cat /d/file; touch /d/x 2>/dev/null || echo refused"
        ),
        "contentrefused"
    );
    assert_eq!(
        host.sh(
            &["--mount", &format!("type=bind,source={dir},target=/d")],
            "cat /d/file"
        ),
        "content"
    );
    assert_eq!(
        host.sh(
            &["--tmpfs", "/t:size=1m"],
            "grep ' /t ' /proc/mounts | grep -o size=1024k"
        ),
        "size=1024k"
    );
    assert_eq!(
        host.sh(
            &["--read-only=false", "--init=0"],
            "touch /x; cat /proc/1/comm; true"
        ),
        "sh"
    );
    assert_eq!(
        host.sh(
            &["--read-only=true"],
            "touch /x 2>/dev/null || echo refused"
        ),
        "refused"
    );
    assert_eq!(
        host.sh(&["--read-only"], "touch /x 2>/dev/null || echo refused"),
        "refused"
    );
    assert_eq!(
        host.sh(
            &["--shm-size", "1m"],
            "grep ' /dev/shm ' /proc/mounts | grep -o size=1024k"
        ),
        "size=1024k"
    );
    assert_eq!(
        host.sh(&["--ulimit", "nofile=50:60"], "ulimit -Sn; ulimit -Hn"),
        "50\n60"
    );
    assert_eq!(
        host.sh(
            &["--sysctl", "net.core.somaxconn=99"],
            "cat /proc/sys/net/core/somaxconn"
        ),
        "99"
    );
    assert_eq!(
        host.sh(
            &["--device", "/dev/null:/dev/none"],
            "test -c /dev/none && echo there"
        ),
        "there"
    );
    assert_eq!(
        host.sh(&["--oom-score-adj", "7"], "cat /proc/self/oom_score_adj"),
        "7"
    );
    assert_eq!(host.sh(&["--entrypoint", "echo"], "x").trim(), "sh -c x");
    assert_eq!(
        host.sh(&["--init"], "echo $$; cat /proc/1/comm")
            .lines()
            .next(),
        Some("2")
    );
    let status = |flags: &[&str], field: &str| {
        host.sh(
            flags,
            &format!("grep ^{field}: /proc/self/status | cut -f2"),
        )
    };
    assert_eq!(status(&[], "CapEff"), "00000000a80425fb");
    assert_eq!(
        status(&["--cap-drop", "ALL", "--cap-add", "net_admin"], "CapEff"),
        "0000000000001000"
    );
    assert_eq!(status(&[], "Seccomp"), "2");
    assert_eq!(
        status(&["--security-opt", "seccomp=unconfined"], "Seccomp"),
        "0"
    );
    assert_eq!(
        status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"),
        "1"
    );
    assert_eq!(status(&["--privileged"], "Seccomp"), "0");
}

#[test]
fn limits_reach_the_cgroup() {
    needs!("root", "cgroup1");
    let host = Host::new("limits");
    let flags = [
        "-m",
        "64m",
        "--pids-limit",
        "33",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--cpuset-cpus",
        "0",
    ];
    let script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.shares cpuset/cpuset.cpus";
    assert_eq!(host.sh(&flags, script), "67108864\n33\n50000\n512\n0");
    let out = host.go(&[
        "run",
        "--name",
        "hungry",
        "-m",
        "16m",
        "lab",
        "tail",
        "-c",
        "200000000",
        "/dev/zero",
    ]);
    assert_eq!(out.code(), 137, "{out}");
    let status = std::fs::read_to_string(
        host.root
            .join("containers")
            .join(host.ok(&["ps", "-aq", "--no-trunc"]))
            .join("status.json"),
    );
    assert!(status.unwrap().contains("\"OOMKilled\": true"));
}

#[test]
fn namespaces_are_own_or_shared() {
    needs!("root");
    let host = Host::new("namespaces");
    let own = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .unwrap()
            .display()
            .to_string()
    };
    let inside =
        |flags: &[&str], name: &str| host.sh(flags, &format!("readlink /proc/self/ns/{name}"));
    for name in ["mnt", "pid", "net", "ipc", "uts"] {
        assert_ne!(inside(&[], name), own(name), "{name}");
    }
    assert_eq!(inside(&["--network", "host"], "net"), own("net"));
    assert_eq!(inside(&["--pid", "host"], "pid"), own("pid"));
    assert_eq!(inside(&["--ipc", "host"], "ipc"), own("ipc"));
    assert_eq!(inside(&["--uts", "host"], "uts"), own("uts"));
    let script = "echo theirs > /dev/shm/x; sleep 100";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "other",
        "--shm-size",
        "1m",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    for (flag, name) in [("--network", "net"), ("--pid", "pid"), ("--ipc", "ipc")] {
        let theirs = host.ok(&["exec", "other", "readlink", &format!("/proc/1/ns/{name}")]);
        assert_eq!(inside(&[flag, "container:other"], name), theirs);
    }
    // Shared memory by name belongs to the IPC namespace, and names to the network.
    let ipc = ["--ipc", "container:other"];
    assert_eq!(
        host.sh(&ipc, "cat /dev/shm/x; echo back > /dev/shm/y; pwd"),
        "theirs\n/"
    );
    assert_eq!(host.ok(&["exec", "other", "cat", "/dev/shm/y"]), "back");
    let net = ["--network", "container:other"];
    let name = host.ok(&["exec", "other", "hostname"]);
    assert_eq!(
        host.sh(&net, "hostname; cat /etc/hostname"),
        format!("{name}\n{name}")
    );
    for more in ["--hostname=x", "--add-host=x:1.2.3.4"] {
        let said = host.fails(125, &["run", net[0], net[1], more, "lab", "true"]);
        assert!(said.contains("conflicting options"), "{said}");
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert_eq!(
        host.sh(&["--network", "host"], "cat /etc/hosts"),
        hosts.trim_end()
    );
    assert_eq!(
        host.sh(&[], "cat /sys/class/net/lo/operstate; ls /sys/class/net"),
        "unknown\nlo"
    );
}

#[test]
fn notes_and_files() {
    needs!("root");
    let host = Host::new("notes");
    let cid = host.root.join("cid").display().to_string();
    let id = host.ok(&["create", "--cidfile", &cid, "lab"]);
    assert_eq!(std::fs::read_to_string(&cid).unwrap(), id);
    assert!(
        host.fails(1, &["create", "--cidfile", &cid, "lab"])
            .contains("container ID file found")
    );
    host.ok(&[
        "run",
        "-v",
        "data:/data",
        "lab",
        "sh",
        "-c",
        "echo kept > /data/x",
    ]);
    assert_eq!(host.sh(&["-v", "data:/data"], "cat /data/x"), "kept");
    let missing = host.root.join("made/by/us").display().to_string();
    host.sh(&["-v", &format!("{missing}:/m")], "true");
    assert!(std::path::Path::new(&missing).is_dir());
    assert_eq!(host.sh(&["--name", "once"], "echo ran"), "ran");
    assert_eq!(
        host.sh(&["--name", "once"], "echo again"),
        "again",
        "--rm freed the name"
    );
}

#[test]
fn a_new_volume_begins_with_the_images_content() {
    needs!("root");
    let host = Host::new("volumes");
    let make = "mkdir -p /a/rootfs/data/sub /a/rootfs/bin; cp /bin/* /a/rootfs/bin; cd /a/rootfs/data; \
                echo content > f; ln f hard; ln -s f soft; chown 12:34 sub; chmod 4751 f; \
                chmod 1777 .; touch -d '2001-02-03 04:05:06' sub; tar -C /a/rootfs -cf /out/image.tar .";
    let out = host.root.join("out").display().to_string();
    host.sh(&["-v", &format!("{out}:/out")], make);
    let tar = format!("{out}/image.tar");
    host.ok(&["image", "import", "-c", "VOLUME /data", &tar, "filled"]);
    let sh = |flags: &[&str], script: &str| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend(["filled", "sh", "-c", script]);
        host.ok(&args)
    };
    let look = "cd /data; cat soft; stat -c '%n %a %u:%g %h' . f sub; stat -c %Y sub";
    let seen = "content\n. 1777 0:0 3\nf 4751 0:0 2\nsub 755 12:34 2\n981173106";
    assert_eq!(sh(&["-v", "named:/data"], look), seen);
    assert_eq!(sh(&["-v", "/data"], look), seen);
    assert_eq!(
        sh(
            &["--mount", "type=volume,source=other,target=/data,readonly"],
            look
        ),
        seen
    );
    assert_eq!(
        sh(
            &[],
            &format!("grep -q ' /data ' /proc/mounts && {{ {look}; }}")
        ),
        seen,
        "VOLUME"
    );
    // It is the user's from then on.
    assert_eq!(
        sh(
            &["-v", "named:/data"],
            "rm /data/*; echo mine > /data/own; ls /data"
        ),
        "own\nsub"
    );
    assert_eq!(sh(&["-v", "named:/data"], "ls /data"), "own\nsub");
    assert_eq!(sh(&["-v", "empty:/data:nocopy"], "ls /data"), "");
    let mount = "type=volume,source=empty,target=/data,volume-nocopy";
    assert_eq!(sh(&["--mount", mount], "ls /data"), "");
    // Not even a second start fills what was emptied.
    let script = "ls /data; rm -rf /data/*; exit 1";
    let flags = [
        "--name",
        "again",
        "--restart",
        "on-failure:1",
        "-v",
        "emptied:/data",
    ];
    let args = [&["run"][..], &flags, &["filled", "sh", "-c", script]].concat();
    assert_eq!(host.go(&args).code(), 1);
    host.go(&["start", "-a", "again"]);
    assert_eq!(host.ok(&["logs", "again"]), "f\nhard\nsoft\nsub");
    // A volume above the files that every container has does not hide them.
    assert_eq!(
        host.sh(
            &["-v", "etc:/etc", "-h", "me"],
            "cat /etc/hostname; ls /etc/passwd"
        ),
        "me\n/etc/passwd"
    );
}

#[test]
fn an_ordinary_user_runs_containers() {
    let root = TempRoot::for_user("rootless");
    let _leaks = LeakCheck::new(&root);
    let go = |args: &[&str]| {
        Run::new(args)
            .as_user()
            .env("GLASSBOX_ROOT", root.path())
            .go()
    };
    let out = go(&[
        "run",
        "--rm",
        "lab",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; exit 3",
    ]);
    if out.stderr.contains("cannot create a user namespace") {
        return common::skip("needs userns: user namespaces are forbidden to ordinary users here");
    }
    assert_eq!(out.code(), 3, "{out}");
    assert!(out.stdout.starts_with("0\n"), "root inside: {out}");
    let out = go(&["run", "-d", "--name", "mine", "lab", "sleep", "100"]);
    assert_eq!(out.code(), 0, "{out}");
    assert_eq!(go(&["exec", "mine", "id", "-u"]).stdout, "0\n");
    assert!(go(&["top", "mine"]).stdout.contains("sleep 100"));
    // Sharing a namespace means to live in the user namespace that owns it.
    let write = [
        "exec",
        "mine",
        "sh",
        "-c",
        "echo theirs > /dev/shm/x; readlink /proc/self/ns/user",
    ];
    let owner = go(&write).stdout;
    for (kind, script) in [
        ("network", "true"),
        ("ipc", "cat /dev/shm/x"),
        ("pid", "ps | grep -c 'sleep [1]00'"),
    ] {
        let flag = format!("--{kind}=container:mine");
        let script = format!("{script}; readlink /proc/self/ns/user");
        let out = go(&["run", "--rm", &flag, "lab", "sh", "-c", &script]);
        assert!(out.code() == 0 && out.stdout.ends_with(&owner), "{out}");
        let first = out.stdout.lines().next().unwrap_or_default();
        assert!(
            kind == "network" || ["theirs", "1"].contains(&first),
            "{out}"
        );
    }
    assert_eq!(
        go(&["run", "--rm", "-v", "mine:/etc", "lab", "ls", "/etc/passwd"]).stdout,
        "/etc/passwd\n"
    );
    assert_eq!(go(&["rm", "-f", "mine"]).code(), 0);
    let out = go(&["run", "--rm", "--userns", "host", "lab", "true"]);
    assert!(
        out.code() == 125 && out.stderr.contains("needs root"),
        "{out}"
    );
}

/// Held against docker's own answers.
#[test]
fn groups_and_files_and_parameters_are_as_dockers() {
    needs!("root");
    let host = Host::new("as-dockers");
    let sh = |flags: &[&str], script: &str| {
        let words = [&["run", "--rm"], flags, &["lab", "sh", "-c", script]].concat();
        host.ok(&words)
    };
    let groups = "grep ^Groups: /proc/self/status";
    assert_eq!(sh(&[], groups).trim(), "Groups:\t0");
    let flags = ["-u", "1000:1001", "--group-add", "7"];
    assert_eq!(sh(&flags, groups).trim(), "Groups:\t7 1001");
    let write = "for f in hosts hostname resolv.conf; do (echo >> /etc/$f) 2>&1; done; true";
    let said = sh(&["--read-only"], write);
    assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
    assert_eq!(sh(&[], write), "");
    let low = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(sh(&["--privileged"], low), "0");
    host.ok(&["create", "--name", "looked-at", "lab", "true"]);
    let format = "{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{.HostConfig.ShmSize}}";
    let told = host.ok(&["inspect", "-f", format, "looked-at"]);
    assert_eq!(told, "null [\"true\"] 67108864");
    host.ok(&["commit", "-m", "a word", "looked-at", "made"]);
    assert_eq!(
        host.ok(&["inspect", "-f", "{{.Comment}}", "made"]),
        "a word"
    );
}
