//! The plan of a container, without root: what would be done, on three kinds of host.
//!
//! Any kernel: plans are pure.
//!
//! A plan is pure, so the plan of a host that this test does not run on is as good as any. What
//! the snapshots show is the order of steps and their system calls; reading them is the quickest
//! way to see how a container is made.

use glassbox::cgroups::systemd::{Manager, Unit};
use glassbox::cgroups::{CgroupPath, Group};
use glassbox::host::Host;
use glassbox::runtime::{Request, Stdio, Wishes, plan};
use glassbox::spec::runtime::Spec;
use std::path::Path;

/// A config.json as docker would write it, shortened.
fn spec() -> Spec {
    serde_json::from_value(serde_json::json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "terminal": true, "consoleSize": {"height": 24, "width": 80},
            "cwd": "/", "args": ["sh"], "env": ["PATH=/bin"],
            "user": {"uid": 1000, "gid": 1000, "additionalGids": [10]},
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": [], "permitted": [],
                "inheritable": [], "ambient": []
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
            "noNewPrivileges": true
        },
        "mounts": [
            {"destination": "/", "type": "overlay", "source": "overlay",
             "options": ["lowerdir=/l2:/l1", "upperdir=/c/upper", "workdir=/c/work"]},
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/data", "type": "bind", "source": "/srv/data",
             "options": ["rbind", "ro", "rprivate"]}
        ],
        "linux": {
            "cgroupsPath": "/glassbox/box",
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
                {"type": "network"}, {"type": "cgroup"}
            ],
            "resources": {"memory": {"limit": 67108864}, "pids": {"limit": 100}},
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]
        }
    }))
    .unwrap()
}

/// The group as it would lie on that host, as if everything were allowed.
fn group(spec: &Spec, host: &Host) -> Option<Group> {
    let path = spec.linux.as_ref()?.cgroups_path.as_ref()?;
    Some(Group::imagine(host, &CgroupPath::parse(path).unwrap()))
}

fn table(spec: &Spec, host: &Host) -> String {
    table_with(spec, host, Wishes::default())
}

fn table_with(spec: &Spec, host: &Host, wishes: Wishes) -> String {
    let request = Request {
        id: "box",
        spec,
        bundle: Path::new("/bundle"),
        host,
        group: group(spec, host),
        stdio: Stdio::Terminal,
        wishes,
    };
    let plan = plan(&request).unwrap();
    let mut text = String::new();
    for step in &plan.steps {
        text += &format!("{:?} {} {}\n", step.actor, step.stage.name(), step.id);
        for call in step.action.calls() {
            text += &format!("    {}({})\n", call.call, call.args);
        }
    }
    text
}

#[test]
fn a_container_on_cgroup_v2() {
    insta::assert_snapshot!(table(&spec(), &Host::example_v2()));
}

#[test]
fn a_container_on_a_hybrid_host() {
    insta::assert_snapshot!(table(&spec(), &Host::example_hybrid()));
}

#[test]
fn a_container_in_a_scope_of_systemds() {
    let mut spec = spec();
    let host = Host::example_v2();
    let manager = Manager {
        socket: "/run/systemd/private".into(),
        version: 252,
        root: "/".into(),
    };
    let asked = Some("machine-x.slice:libpod:1b2c");
    let unit = Unit::of(asked, "box", &host, manager).unwrap();
    let linux = spec.linux.as_mut().unwrap();
    linux.cgroups_path = Some(unit.group().unwrap().to_string());
    let resources = serde_json::json!({
        "memory": {"limit": 67108864}, "pids": {"limit": 100},
        "cpu": {"quota": 12500, "period": 100000, "cpus": "0-1"},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "devices": [{"allow": false, "access": "rwm"}],
    });
    linux.resources = Some(serde_json::from_value(resources).unwrap());
    let stop = "org.systemd.property.TimeoutStopUSec".to_string();
    spec.annotations.insert(stop, "uint64 10000000".into());
    let wishes = Wishes {
        unit: Some(unit),
        ..Wishes::default()
    };
    let table = table_with(&spec, &host, wishes);
    let own = table.lines().skip_while(|l| !l.contains("clone"));
    let own = own.take_while(|l| !l.starts_with("Init"));
    insta::assert_snapshot!(own.collect::<Vec<_>>().join("\n"));
}

#[test]
fn an_ordinary_users_container() {
    let mut spec = spec();
    let linux = spec.linux.as_mut().unwrap();
    linux.cgroups_path = None;
    linux.resources = None;
    let map = |host: u32| glassbox::spec::runtime::IdMapping {
        container_id: 0,
        host_id: host,
        size: 1,
        ..Default::default()
    };
    linux.uid_mappings = vec![map(1000)];
    linux.gid_mappings = vec![map(1000)];
    linux.namespaces.push(glassbox::spec::runtime::Namespace {
        typ: glassbox::spec::runtime::NamespaceType::User,
        ..Default::default()
    });
    let process = spec.process.as_mut().unwrap();
    process.user = Default::default();
    insta::assert_snapshot!(table(&spec, &Host::example_v2().for_user(1000)));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is() {
    let host = Host::example_v2();
    let refusal = |change: &dyn Fn(&mut Spec)| {
        let mut spec = spec();
        change(&mut spec);
        let request = Request {
            id: "box",
            spec: &spec,
            bundle: Path::new("/bundle"),
            host: &host,
            group: group(&spec, &host),
            stdio: Stdio::Inherit,
            wishes: Default::default(),
        };
        format!("{:#}", plan(&request).unwrap_err())
    };
    let process = |f: fn(&mut glassbox::spec::runtime::Process)| {
        refusal(&move |s: &mut Spec| f(s.process.as_mut().unwrap()))
    };
    insta::assert_snapshot!(
        [
            process(|p| p.args.clear()),
            process(|p| p.cwd = "relative".into()),
            process(|p| p.selinux_label = Some("x:y:z".into())),
            refusal(&|s| s
                .linux
                .as_mut()
                .unwrap()
                .namespaces
                .retain(|n| n.typ != glassbox::spec::runtime::NamespaceType::Mount)),
            refusal(&|s| {
                let linux = s.linux.as_mut().unwrap();
                linux.namespaces.push(linux.namespaces[1].clone());
            }),
            refusal(&|s| {
                s.linux
                    .as_mut()
                    .unwrap()
                    .sysctl
                    .insert("kernel.panic".into(), "1".into());
            }),
            refusal(&|s| s.mounts[1].destination = "".into()),
            refusal(&|s| s.linux.as_mut().unwrap().rootfs_propagation = Some("odd".into())),
        ]
        .join("\n")
    );
}
