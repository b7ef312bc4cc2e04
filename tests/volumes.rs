//! Volumes: made, listed, removed; what each kind of mount shows inside; who takes what with it.
//!
//! Read next: `container_flags.rs` (copy-up); `src/containers/volumes/mod.rs`.

mod common;

use common::{Host, TempRoot};
use std::os::unix::fs::symlink;

#[test]
fn volumes_are_made_listed_and_removed() {
    let host = Host::new("volume-cli");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
    assert_eq!(
        host.ok(&["volume", "create", "--label", "tier=db", "data"]),
        "data"
    );
    assert_eq!(
        host.ok(&["volume", "create", "data"]),
        "data",
        "a second time is no error"
    );
    let random = host.ok(&["volume", "create"]);
    assert_eq!(random.len(), 64);
    host.ok(&["volume", "create", "other"]);
    let ls = |filter: &str| {
        let list = host.ok(&["volume", "ls", "-q", "--filter", filter]);
        list.lines().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(ls("label=tier=db"), ["data"]);
    assert_eq!(ls("label=tier=web"), [""; 0]);
    assert_eq!(ls("name=oth"), ["other"]);
    assert_eq!(ls("dangling=true").len(), 3);
    assert!(ls("dangling=false").is_empty());
    let table = host.ok(&["volume", "ls"]);
    assert!(
        table.starts_with("DRIVER") && table.contains("local"),
        "{table}"
    );
    let row = host.ok(&[
        "volume",
        "ls",
        "--filter",
        "name=data",
        "--format",
        "{{.Name}} {{.Labels}} {{.Scope}}",
    ]);
    assert_eq!(row, "data tier=db local");
    let one = host.go(&["volume", "inspect", "data"]).json();
    assert_eq!(one[0]["Labels"]["tier"], "db");
    let place = one[0]["Mountpoint"].as_str().expect("a path");
    assert!(std::path::Path::new(place).is_dir(), "{place}");
    host.fails(1, &["volume", "inspect", "nobody"]);
    for bad in [
        &["volume", "create", "a/b"][..],
        &["volume", "create", "-d", "nfs", "x"],
        &["volume", "create", "-o", "type=tmpfs", "x"],
        &["volume", "ls", "--filter", "colour=red"],
    ] {
        assert!(host.fails(1, bad).contains("error: "));
    }
    // Those without a name go first, and others only when asked for, and not those to be kept.
    let text = host.ok(&["volume", "prune", "-f"]);
    assert!(text.contains(&random) && !text.contains("data"), "{text}");
    assert!(text.ends_with("Total reclaimed space: 0B"), "{text}");
    host.ok(&["volume", "prune", "--all", "--filter", "label!=tier"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data");
    assert_eq!(host.ok(&["volume", "rm", "data"]), "data");
    assert!(
        host.fails(1, &["volume", "rm", "data"])
            .contains("no such volume: data")
    );
    host.ok(&["volume", "rm", "-f", "data"]);
}

#[test]
fn a_volume_in_use_stays_and_says_who_uses_it() {
    needs!("root");
    let host = Host::new("volume-users");
    host.ok(&[
        "create",
        "--name",
        "one",
        "-v",
        "shared:/a:ro",
        "lab",
        "true",
    ]);
    assert_eq!(
        host.ok(&["volume", "ls", "-q"]),
        "shared",
        "made with the container"
    );
    let message = host.fails(1, &["volume", "rm", "shared"]);
    assert!(
        message.contains("volume is in use") && message.contains("one"),
        "{message}"
    );
    assert!(
        host.ok(&["volume", "prune", "--all"])
            .ends_with("space: 0B")
    );
    let who = "{{range .UsedBy}}{{.Name}}:{{.Destination}}:{{.RW}}{{end}}";
    assert_eq!(
        host.ok(&["volume", "inspect", "-f", who, "shared"]),
        "one:/a:false"
    );
    let seen = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Mode}} {{.RW}}{{end}}";
    assert_eq!(
        host.ok(&["inspect", "-f", seen, "one"]),
        "volume shared /a ro false"
    );
    assert_eq!(
        host.ok(&[
            "ps",
            "-a",
            "--filter",
            "volume=shared",
            "--format",
            "{{.Names}} {{.Mounts}}"
        ]),
        "one shared"
    );
    host.ok(&["rm", "-v", "one"]);
    assert_eq!(
        host.ok(&["volume", "ls", "-q"]),
        "shared",
        "rm -v takes only those without a name"
    );
    host.ok(&["volume", "rm", "shared"]);
}

#[test]
fn volumes_without_a_name_go_with_rm_v_and_run_rm() {
    needs!("root");
    let host = Host::new("volume-anonymous");
    let count = || host.ok(&["volume", "ls", "-q"]).lines().count();
    host.ok(&[
        "run",
        "--name",
        "stays",
        "-v",
        "/data",
        "lab",
        "sh",
        "-c",
        "echo kept > /data/x",
    ]);
    assert_eq!(count(), 1);
    let place = host.ok(&[
        "inspect",
        "-f",
        "{{range .Mounts}}{{.Source}}{{end}}",
        "stays",
    ]);
    assert_eq!(
        std::fs::read_to_string(format!("{place}/x")).expect("a file"),
        "kept\n"
    );
    // The same volume in a second container, by its first.
    let script = "cat /data/x; echo more > /data/y 2>/dev/null || echo refused";
    assert_eq!(
        host.sh(&["--volumes-from", "stays:ro"], script),
        "kept\nrefused"
    );
    assert_eq!(host.sh(&["--volumes-from", "stays"], script), "kept");
    assert!(
        host.fails(125, &["run", "--volumes-from", "nobody", "lab"])
            .contains("no such container")
    );
    host.ok(&[
        "create",
        "--name",
        "heir",
        "--volumes-from",
        "stays",
        "lab",
        "true",
    ]);
    host.ok(&["rm", "-v", "stays"]);
    assert_eq!(count(), 1, "the heir has it");
    host.ok(&["rm", "-v", "heir"]);
    assert_eq!(count(), 0);
    host.sh(&["-v", "/data"], "true");
    assert_eq!(count(), 0, "--rm");
    host.ok(&[
        "run", "-d", "--rm", "--name", "brief", "-v", "/data", "lab", "true",
    ]);
    host.go(&["wait", "brief"]);
    for _ in 0..200 {
        if count() == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(count(), 0, "--rm in the background");
    host.ok(&["run", "--name", "leaves", "-v", "/data", "lab", "true"]);
    host.ok(&["rm", "leaves"]);
    assert_eq!(count(), 1, "rm alone leaves it");
    host.ok(&["volume", "prune"]);
    assert_eq!(count(), 0);
    // What could not start leaves neither container nor volume.
    host.fails(
        127,
        &["run", "-v", "/data", "-v", "named:/n", "lab", "nope"],
    );
    assert_eq!(count(), 0);
}

#[test]
fn a_part_of_a_volume_leads_nowhere_else() {
    needs!("root");
    let host = Host::new("volume-subpath");
    let outside = TempRoot::new("outside");
    outside.write("secret", "the host's");
    host.sh(
        &["-v", "vol:/v"],
        "mkdir -p /v/a/b; echo inner > /v/a/b/f; echo outer > /v/f",
    );
    let place = host.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]);
    symlink(outside.path(), format!("{place}/out")).expect("a link");
    symlink("../../../../../../../../../../etc", format!("{place}/up")).expect("a link");
    symlink("/a/b", format!("{place}/in")).expect("a link");
    let at = |path: &str| format!("type=volume,source=vol,target=/m,volume-subpath={path}");
    let run = |path: &str| {
        host.go(&[
            "run",
            "--rm",
            "--mount",
            &at(path),
            "lab",
            "sh",
            "-c",
            "ls /m",
        ])
    };
    assert_eq!(run("a/b").stdout, "f\n");
    assert_eq!(
        run("in").stdout,
        "f\n",
        "an absolute link is one within the volume"
    );
    for path in ["out", "up", "../..", "missing"] {
        let out = run(path);
        let escaped = out.stdout.contains("secret") || out.stdout.contains("passwd");
        assert!(!escaped, "{path}: {out}");
        assert!(
            path == "../.." || (out.code() == 125 && out.stderr.contains("subpath must exist")),
            "{path}: {out}"
        );
    }
}

#[test]
fn read_only_reaches_what_is_mounted_below() {
    needs!("root", "unshare");
    let host = Host::new("volume-recursive");
    let place = TempRoot::new("recursive");
    std::fs::create_dir(place.join("below")).expect("a directory");
    let binary = common::binary();
    let run = |mount: &str| {
        let script = format!(
            "mount -t tmpfs tmpfs {0}/below && {1} --version >/dev/null && \
             GLASSBOX_ROOT={2} {1} run --rm --network none {mount} lab sh -c 'touch /m/x 2>/dev/null && echo top; \
             touch /m/below/x 2>/dev/null && echo below; echo end'",
            place.path().display(),
            binary.display(),
            host.root.path().display()
        );
        let out = std::process::Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-ec", &script])
            .output()
            .expect("unshare");
        assert!(out.status.success(), "{out:?}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let source = place.path().display();
    let bind = format!("--mount type=bind,source={source},target=/m");
    assert_eq!(run(&format!("-v {source}:/m")), "top\nbelow\nend\n");
    assert_eq!(run(&format!("-v {source}:/m:ro")), "end\n");
    assert_eq!(run(&format!("{bind},readonly")), "end\n");
    assert_eq!(
        run(&format!("{bind},readonly,bind-recursive=writable")),
        "below\nend\n"
    );
    let force = "readonly,bind-recursive=readonly,bind-propagation=rprivate";
    assert_eq!(run(&format!("{bind},{force}")), "end\n");
    // Without what is mounted below there is the directory that it covered.
    assert_eq!(
        run(&format!("{bind},readonly,bind-recursive=disabled")),
        "end\n"
    );
    assert_eq!(
        run(&format!("{bind},bind-recursive=disabled")),
        "top\nbelow\nend\n"
    );
    assert!(
        place.join("below/x").exists(),
        "written to what the tmpfs covered"
    );
}

#[test]
fn a_volume_may_stand_for_a_directory_of_the_host() {
    needs!("root");
    let host = Host::new("volume-bind");
    let place = TempRoot::new("stands");
    place.write("f", "host");
    let device = format!("device={}", place.path().display());
    host.ok(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        &device,
        "vol",
    ]);
    assert_eq!(
        host.sh(&["-v", "vol:/v"], "cat /v/f; echo new > /v/g"),
        "host"
    );
    assert!(place.join("g").exists());
    assert!(
        host.fails(
            1,
            &[
                "volume",
                "create",
                "-o",
                "type=none",
                "-o",
                "o=bind",
                "-o",
                "device=/x",
                "vol"
            ]
        )
        .contains("other options")
    );
    host.ok(&["volume", "rm", "vol"]);
    assert!(place.join("f").exists(), "the host's stays");
}
