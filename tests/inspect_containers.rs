//! `glassbox inspect` on what the other stages make: a container, its image and layer, cgroups.
//!
//! Read next: `inspect.rs`, whose walls are made by others.

mod common;

use common::{LeakCheck, TempRoot, run};

#[test]
fn a_container_of_this_engine() {
    needs!("root");
    let root = TempRoot::new("inspect-container");
    let leak = LeakCheck::new(&root);
    let glassbox = |args: &[&str]| common::run_in(root.path(), args.iter().copied());
    glassbox(&[
        "run", "-d", "--name", "web", "-m", "64M", "lab", "sleep", "300",
    ])
    .success();
    let short = glassbox(&[
        "inspect",
        "-f",
        "{{.State.Pid}} {{.State.Status}} {{.Name}}",
        "web",
    ]);
    let value = glassbox(&["inspect", "--json", "web"]).success().json();
    let process = &value["process"];
    let pid = process["pid"].to_string();
    short.success().out_is(&format!("{pid} running /web"));
    assert_eq!(value["kind"], "container");
    assert_eq!(value["container"]["State"]["Pid"], process["pid"]);
    let id = value["container"]["Id"].as_str().unwrap();
    assert_eq!(process["keeper"]["name"], "glassbox");
    assert_eq!(process["keeper"]["id"], id);
    for kind in ["mnt", "uts", "ipc", "pid", "net"] {
        let namespaces = process["namespaces"].as_array().unwrap();
        let one = namespaces.iter().find(|n| n["kind"] == kind).unwrap();
        assert_eq!(one["relation"], "own", "{one}");
    }
    assert_eq!(process["capabilities"]["words"], "exactly Docker's default");
    // Read back from the kernel and walked, not remembered.
    assert_eq!(process["seccomp"]["filters"], 1);
    let verdicts = process["seccomp"]["verdicts"].as_array().unwrap();
    let refused = verdicts
        .iter()
        .find(|v| v["action"] == "errno EPERM")
        .unwrap();
    let calls = refused["calls"].as_array().unwrap();
    assert!(
        calls.contains(&"mount".into()) && !calls.contains(&"read".into()),
        "{calls:?}"
    );
    let limits = process["cgroup"]["limits"].as_array().unwrap();
    let memory = limits.iter().find(|l| l["name"] == "memory.max").unwrap();
    assert_eq!(memory["effective"], "67108864");
    assert!(memory["set_by"].as_str().unwrap().ends_with(id), "{memory}");
    assert!(memory["used"].as_u64().is_some_and(|n| n > 0), "{memory}");
    // The overlay's layer is the image's, the image is named, and the layer knows its user.
    let mounts = process["mounts"].as_array().unwrap();
    let lower = &mounts[0]["overlay"]["lower"][0];
    assert_eq!(lower["store"], "glassbox", "{lower}");
    assert_eq!(lower["images"], serde_json::json!(["lab:latest"]));
    let chain = lower["chain_id"].as_str().unwrap();
    let layer = glassbox(&["inspect", "--json", "--size", chain])
        .success()
        .json();
    assert_eq!(layer["kind"], "layer");
    // By its directory as well, in the form that mountinfo shows.
    let directory = layer["layer"]["directory"].as_str().unwrap();
    for path in [directory, directory.trim_end_matches("/diff")] {
        let same = glassbox(&["inspect", "--json", path]).success().json();
        assert_eq!(same["layer"]["chain_id"], layer["layer"]["chain_id"]);
    }
    assert!(layer["layer"]["size"].as_u64().unwrap() > 0);
    let users = layer["layer"]["used_by"].to_string();
    assert!(users.contains(&format!("pid {pid} ")), "{users}");
    let image = glassbox(&[
        "inspect",
        "--type",
        "image",
        "-f",
        "{{index .RootFS.Layers 0}}",
        "lab",
    ]);
    image.success().out_has("sha256:");
    // By the beginning of its id too; and as text.
    glassbox(&["inspect", &id[..12]])
        .success()
        .out_has("in lab:latest");
    let tree = glassbox(&["inspect", "--tree", "web"]).success();
    tree.out_has("sleep 300");
    // Stopped, there is no process to look at.
    glassbox(&["kill", "web"]).success();
    glassbox(&["wait", "web"]).success();
    let value = glassbox(&["inspect", "--json", "web"]).success().json();
    assert_eq!(value["container"]["State"]["Status"], "exited");
    assert_eq!(value["container"]["State"]["ExitCode"], 137);
    assert_eq!(value.get("process"), None);
    glassbox(&["inspect", "--tree", "web"]).fails(1, &["has no processes"]);
    glassbox(&["rm", "web"]).success();
    glassbox(&["inspect", "web"]).fails(1, &["web"]);
    leak.check();
}

#[test]
fn which_ancestors_limit_killed_it() {
    needs!("root");
    let root = TempRoot::new("inspect-oom");
    let leak = LeakCheck::new(&root);
    let parent = format!("/{}", root.tag());
    let child = format!("{parent}/child");
    run(["cgroup", "create", &parent, "--memory", "8M"]).success();
    let hog = [
        "cgroup", "run", "--name", &child, "--memory", "1G", "--keep", "--", "sh", "-c",
    ];
    let status = run(hog
        .into_iter()
        .chain(["x=$(head -c 64M /dev/zero | tr '\\0' x); :"]));
    let value = run(["inspect", "--json", &child]);
    let text = run(["inspect", &child]);
    run(["cgroup", "rm", "-r", "--force", &parent]).success();
    let value = value.success().json();
    assert_ne!(status.code(), 0, "the parent's limit did not fire");
    let limits = value["cgroup"]["limits"].as_array().unwrap();
    let memory = limits.iter().find(|l| l["name"] == "memory.max").unwrap();
    assert_eq!(
        (&memory["own"], &memory["effective"]),
        (&"1073741824".into(), &"8388608".into())
    );
    assert_eq!(memory["set_by"], parent.as_str());
    let hits = value["cgroup"]["memory_limit_hit"].as_array().unwrap();
    let of = |group: &str| hits.iter().find(|h| h["group"] == group).unwrap();
    assert!(of(&parent)["hit"].as_u64().unwrap() > 0, "{hits:?}");
    assert!(of(&child)["killed"].as_u64().unwrap() > 0, "{hits:?}");
    assert_eq!(of(&child)["hit"], 0, "its own limit was far away");
    text.success().out_has("its limit was hit");
    leak.check();
}

#[test]
fn why_a_container_ended() {
    needs!("root");
    let root = TempRoot::new("inspect-ended");
    let leak = LeakCheck::new(&root);
    let glassbox = |args: &[&str]| common::run_in(root.path(), args.iter().copied());
    let ended = |name: &str| {
        let status = glassbox(&["inspect", "-f", "{{.State.EndedBy}}", name]).success();
        let words = status.stdout.trim().to_string();
        if !words.is_empty() {
            glassbox(&["inspect", name]).success().out_has(&words);
            glassbox(&["explain", name]).success().out_has(&words);
            let story = glassbox(&["explain", "--json", name]).success().json();
            assert_eq!(story["ended_by"], words.as_str());
        }
        words
    };
    // The killer takes the first process: the limit of memory and swap together, which v1 does not
    // count failures at; and a child of it: the container itself ends as it likes.
    let hog = "tail /dev/zero; exit 4";
    for (name, swap, script, code) in [
        ("first", "16m", "exec tail /dev/zero", 137),
        ("child", "32m", hog, 4),
    ] {
        let limits = ["run", "--name", name, "-m", "16m", "--memory-swap", swap];
        let args = [&limits[..], &["lab", "sh", "-c", script]].concat();
        assert_eq!(glassbox(&args).code(), code, "{name}");
        let words = ended(name);
        assert!(
            words.contains("the out-of-memory killer ended one"),
            "{words}"
        );
        assert!(words.contains("at its own limit of 16 MiB"), "{words}");
    }
    // The same status from somebody's kill -9, and from the engine.
    for name in ["theirs", "ours"] {
        glassbox(&["run", "-d", "--name", name, "lab", "sleep", "300"]).success();
    }
    let pid = glassbox(&["inspect", "-f", "{{.State.Pid}}", "theirs"]).success();
    let pid = nix::unistd::Pid::from_raw(pid.stdout.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).unwrap();
    glassbox(&["wait", "theirs"]).success().out_is("137");
    glassbox(&["stop", "-t", "0", "ours"]).success();
    let words = ended("theirs");
    assert!(words.starts_with("SIGKILL from another process"), "{words}");
    assert!(ended("ours").starts_with("SIGKILL, sent by `stop`"));
    // An exit of its own needs no words.
    assert_eq!(
        glassbox(&["run", "--name", "self", "lab", "sh", "-c", "exit 137"]).code(),
        137
    );
    assert_eq!(ended("self"), "");
    glassbox(&["rm", "first", "child", "theirs", "ours", "self"]).success();
    leak.check();
}
