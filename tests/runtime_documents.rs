//! `update`, `events`, `features` and `spec` of the OCI runtime: the operations that read and write
//! documents.
//!
//! Read next: `runtime_operations.rs`.

mod common;

use common::oci::Runtime;
use serde_json::json;

const SLEEP: &str = "exec sleep 100";

#[test]
fn an_update_is_whole_or_nothing() {
    needs!("root");
    let mut box_ = Runtime::new("update", SLEEP);
    let cpu = json!({"quota": 50_000, "period": 200_000});
    box_.bundle.linux()["resources"] =
        json!({"cpu": cpu, "memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    box_.up();
    let id = box_.id.as_str();
    let stats = || {
        let said = box_.go(box_.command(&["events", "--stats", id])).ok();
        serde_json::from_str::<serde_json::Value>(&said.out).expect("JSON")["data"].clone()
    };
    let limits = || {
        let now = stats();
        (
            now["memory"]["usage"]["limit"].clone(),
            now["pids"]["limit"].clone(),
        )
    };
    assert_eq!(limits(), (json!(64 << 20), json!(50)));
    let config = || std::fs::read_to_string(box_.state_root().join(id).join("config.json"));
    let before = config().unwrap();
    let update = [
        "update",
        "--memory",
        "32M",
        "--pids-limit",
        "20",
        "--cpu-quota",
        "20000",
        id,
    ];
    let mut failing = box_.command(&update);
    failing.env("GLASSBOX_FAIL_STEP", "write-config");
    box_.go(failing).fails("told to fail");
    assert_eq!(limits(), (json!(64 << 20), json!(50)));
    assert_eq!(config().unwrap(), before);
    box_.go(box_.command(&update)).ok();
    assert_eq!(limits(), (json!(32 << 20), json!(20)));
    // The period that the quota is measured by has stayed.
    let now: serde_json::Value = serde_json::from_str(&config().unwrap()).unwrap();
    let cpu = &now["linux"]["resources"]["cpu"];
    assert_eq!(
        (&cpu["quota"], &cpu["period"]),
        (&json!(20_000), &json!(200_000))
    );
    let file = |v1: &str, v2: &str| {
        let read = |d: &std::path::PathBuf| {
            [v1, v2]
                .into_iter()
                .find_map(|f| std::fs::read_to_string(d.join(f)).ok())
        };
        box_.groups().iter().find_map(read).expect("a quota")
    };
    let quota = file("cpu.cfs_quota_us", "cpu.max");
    assert!(quota.starts_with("20000"), "{quota}");
    std::fs::write(
        box_.path("r.json"),
        r#"{"pids":{"limit":-1},"devices":[{"allow":true}]}"#,
    )
    .unwrap();
    let resources = box_.path("r.json").display().to_string();
    box_.go(box_.command(&["update", "--resources", &resources, id]))
        .ok();
    assert_eq!(limits(), (json!(32 << 20), json!(0)));
    let check = r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#;
    std::fs::write(box_.path("r.json"), check).unwrap();
    box_.go(box_.command(&["update", "-r", &resources, id]))
        .fails("below what is used already");
    box_.go(box_.command(&["update", id])).fails("no limit");
    box_.delete();
}

#[test]
fn events_tell_of_a_container_out_of_memory() {
    needs!("root");
    let script = "read go < /tmp/go; tail /dev/zero; sleep 100";
    let mut box_ = Runtime::new("oom", script);
    box_.bundle.linux()["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let fifo = box_.path("rootfs/tmp/go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    box_.up();
    let id = box_.id.as_str();
    let mut child = box_.spawn(
        "events",
        box_.command(&["events", "--interval", "200ms", id]),
    );
    let has = |what: &str| box_.read("events.out").contains(what);
    common::cgroup::wait_for("two stats", || box_.read("events.out").lines().count() >= 2);
    std::fs::write(&fifo, "go\n").unwrap();
    common::cgroup::wait_for("oom", || has(r#""type":"oom""#));
    box_.delete();
    // The stream ends with the container.
    common::cgroup::wait_for("its end", || child.try_wait().unwrap().is_some());
    for line in box_.read("events.out").lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("a line of JSON each");
        assert_eq!(event["id"], id);
    }
}

#[test]
fn features_are_true() {
    let said = common::run(["runtime", "features"]).success().json();
    assert_eq!(said["ociVersionMax"], "1.3.0");
    assert_eq!(said["hooks"].as_array().unwrap().len(), 6);
    for word in [
        "rro",
        "idmap",
        "ridmap",
        "rbind",
        "tmpcopyup",
        "nosymfollow",
    ] {
        assert!(
            said["mountOptions"]
                .as_array()
                .unwrap()
                .contains(&json!(word))
        );
    }
    let linux = &said["linux"];
    for (what, on) in [
        ("apparmor", false),
        ("selinux", false),
        ("intelRdt", false),
        ("netDevices", true),
    ] {
        assert_eq!(linux[what]["enabled"], on, "{what}");
    }
    assert_eq!(linux["cgroup"]["systemd"], true);
    assert_eq!(linux["cgroup"]["v2"], true);
    let seccomp = &linux["seccomp"];
    assert_eq!(seccomp["enabled"], true);
    assert!(
        seccomp["supportedFlags"]
            .as_array()
            .unwrap()
            .contains(&json!("SECCOMP_FILTER_FLAG_LOG"))
    );
    let taken = seccomp["supportedFlags"].as_array().unwrap();
    assert!(
        taken
            .iter()
            .all(|f| seccomp["knownFlags"].as_array().unwrap().contains(f))
    );
    assert!(
        linux["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!("time"))
    );
}

#[test]
fn spec_writes_a_bundle_that_runs() {
    needs!("root");
    let mut box_ = Runtime::new("spec", SLEEP);
    let bundle = box_.bundle.root.path().display().to_string();
    let host_programs = box_.bundle.config["mounts"].as_array().unwrap()[2..].to_vec();
    box_.go(box_.command(&["spec", "--bundle", &bundle])).ok();
    let text = box_.read("config.json");
    box_.go(box_.command(&["spec", "--bundle", &bundle]))
        .fails("exists already");
    assert_eq!(box_.read("config.json"), text, "it was overwritten");
    box_.bundle.config = serde_json::from_str(&text).unwrap();
    std::fs::create_dir(box_.path("rootfs/sys")).unwrap();
    box_.bundle.config["process"]["terminal"] = false.into();
    box_.bundle.config["process"]["args"] = json!([
        "sh",
        "-c",
        "id -u; hostname; touch /x; grep NoNew /proc/self/status"
    ]);
    box_.bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .extend(host_programs);
    box_.write();
    let said = box_.run(&["run", "--bundle", &bundle]).ok();
    assert!(said.out.starts_with("0\nglassbox\n"), "{said:?}");
    assert!(
        said.out.contains("1") && said.err.contains("Read-only"),
        "{said:?}"
    );
    box_.nothing_left();
}

#[test]
fn spec_writes_a_bundle_for_an_ordinary_user() {
    let dir = common::TempRoot::new("rootless-spec");
    let place = dir.path().display().to_string();
    // The switch of the same name that stands before the operation takes a value; this one does not.
    let made = common::run(["runtime", "spec", "--rootless", "--bundle", place.as_str()]);
    made.success();
    let text = std::fs::read_to_string(dir.join("config.json")).expect("config.json");
    let spec: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], 1, "{text}");
    let namespaces = spec["linux"]["namespaces"].as_array().expect("a list");
    assert!(namespaces.contains(&json!({"type": "user"})), "{text}");
}
