//! Tests of config.json's making: the defaults as a snapshot, the flags one by one.
//! Read next: `mod.rs`.

use super::super::model::{HostConfig, Mount, Ulimit};
use super::super::time::Time;
use super::*;

fn record(config: Config, host_config: HostConfig) -> Record {
    Record {
        id: "0123456789abcdef".repeat(4),
        name: "calm_otter".into(),
        created: Time(0),
        image_id: "sha256:00".into(),
        rootfs: None,
        platform: "linux/amd64".into(),
        config,
        host_config,
        mount_points: Vec::new(),
        networks: Vec::new(),
    }
}

fn plain() -> Config {
    Config {
        cmd: vec!["sh".into()],
        env: vec![format!("PATH={DEFAULT_PATH}")],
        ..Config::default()
    }
}

fn with(
    config: Config,
    host_config: HostConfig,
    change: impl FnOnce(&mut Input<'_>),
) -> Result<Built> {
    let record = record(config, host_config);
    let host = Host::example_v2();
    let lowers = [PathBuf::from("/layers/base"), PathBuf::from("/layers/a:b")];
    let mut input = Input {
        record: &record,
        host: &host,
        lowers: &lowers,
        known_caps: crate::security::capabilities::CapSet::ALL_KNOWN.names(),
        dir: "/c".into(),
        cgroups_path: Some("/glassbox/x".into()),
        identity: Identity {
            home: "/root".into(),
            ..Identity::default()
        },
        joins: BTreeMap::new(),
        bindings: Vec::new(),
        devices: Vec::new(),
        id_maps: None,
        seccomp: None,
        host_name: "host".into(),
        abilities: Abilities {
            swap: true,
            io_weight: true,
            disks: [("/dev/sda".to_string(), (8, 0))].into(),
        },
        console: None,
        names: "/c".into(),
        shared_hostname: None,
    };
    change(&mut input);
    build(&input)
}

fn built(host_config: HostConfig) -> Built {
    with(plain(), host_config, |_| {}).unwrap()
}

fn error(host_config: HostConfig) -> String {
    with(plain(), host_config, |_| {})
        .unwrap_err()
        .message()
        .to_string()
}

#[test]
fn the_default_document() {
    let mut spec = built(HostConfig::default()).spec;
    // The filter has its own tests and its own snapshot.
    let filter = spec.linux.as_mut().unwrap().seccomp.take();
    assert!(filter.is_some_and(|f| f.syscalls.len() > 3));
    insta::assert_json_snapshot!("default", spec);
}

#[test]
fn command_line_over_image() {
    let image: image::Config = serde_json::from_str(
        r#"{"Env":["PATH=/bin","A=1"],"Entrypoint":["/entry"],"Cmd":["serve"],"User":"anna",
            "WorkingDir":"/srv","Labels":{"a":"image","b":"image"},"StopSignal":"SIGINT"}"#,
    )
    .unwrap();
    let user = || Config {
        env: vec!["A=2".into(), "B=3".into()],
        labels: [("a".to_string(), "user".to_string())].into(),
        ..Config::default()
    };
    let merged = merge(Some(&image), user(), None).unwrap();
    assert_eq!(merged.args(), ["/entry", "serve"]);
    assert_eq!(merged.env, ["PATH=/bin", "A=2", "B=3"]);
    assert_eq!(
        (merged.user.as_str(), merged.working_dir.as_str()),
        ("anna", "/srv")
    );
    assert_eq!(
        (merged.labels["a"].as_str(), merged.labels["b"].as_str()),
        ("user", "image")
    );
    assert_eq!(merged.stop_signal, "SIGINT");

    let args = |cmd: &[&str], entry: Option<&[&str]>| {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<String>>();
        merge(
            Some(&image),
            Config {
                cmd: list(cmd),
                ..user()
            },
            entry.map(list),
        )
        .map(|c| c.args())
    };
    assert_eq!(args(&["x"], None).unwrap(), ["/entry", "x"]);
    assert_eq!(
        args(&[], Some(&["/e"])).unwrap(),
        ["/e"],
        "a new entrypoint resets the command"
    );
    assert_eq!(args(&["x"], Some(&[])).unwrap(), ["x"]);
    assert_eq!(
        args(&[], Some(&[])).unwrap_err().message(),
        "no command specified"
    );
}

#[test]
fn namespaces_shared_and_own() {
    let types = |h: HostConfig| {
        let spec = built(h).spec;
        spec.linux
            .unwrap()
            .namespaces
            .iter()
            .map(|n| n.typ)
            .collect::<Vec<_>>()
    };
    use NamespaceType::*;
    assert_eq!(
        types(HostConfig::default()),
        [Mount, Network, Pid, Ipc, Uts, Cgroup]
    );
    let all_host = HostConfig {
        network_mode: "host".into(),
        pid_mode: "host".into(),
        ipc_mode: "host".into(),
        uts_mode: "host".into(),
        cgroupns_mode: "host".into(),
        ..HostConfig::default()
    };
    assert_eq!(types(all_host), [Mount]);
    let bridge = HostConfig {
        network_mode: "bridge".into(),
        ..HostConfig::default()
    };
    assert_eq!(types(bridge), types(HostConfig::default()));
    let joined = HostConfig {
        network_mode: "container:x".into(),
        ..HostConfig::default()
    };
    let b = with(plain(), joined, |i| {
        i.joins.insert("net", "/proc/7/ns/net".into());
    });
    let linux = b.unwrap().spec.linux.unwrap();
    let net = linux.namespaces.iter().find(|n| n.typ == Network).unwrap();
    assert_eq!(net.path, Some("/proc/7/ns/net".into()));
    assert!(
        !linux
            .sysctl
            .contains_key("net.ipv4.ip_unprivileged_port_start")
    );
    let init = HostConfig {
        init: true,
        pid_mode: "host".into(),
        ..HostConfig::default()
    };
    assert!(error(init).contains("--init needs a pid namespace"));
}

#[test]
fn privileges() {
    let caps = |h: HostConfig| built(h).spec.process.unwrap().capabilities.unwrap();
    let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect::<Vec<String>>();
    assert_eq!(caps(HostConfig::default()).effective.len(), 14);
    let h = HostConfig {
        cap_add: list(&["net_admin"]),
        cap_drop: list(&["ALL"]),
        ..HostConfig::default()
    };
    assert_eq!(caps(h).permitted, ["CAP_NET_ADMIN"]);
    let h = HostConfig {
        cap_add: list(&["all"]),
        cap_drop: list(&["cap_sys_admin"]),
        ..HostConfig::default()
    };
    assert!(
        !caps(h.clone())
            .bounding
            .contains(&"CAP_SYS_ADMIN".to_string())
            && caps(h).bounding.len() > 30
    );
    let h = HostConfig {
        cap_drop: list(&["chown"]),
        ..HostConfig::default()
    };
    assert_eq!(caps(h).bounding.len(), 13);
    assert!(
        error(HostConfig {
            cap_add: list(&["flying"]),
            ..HostConfig::default()
        })
        .contains("unknown capability")
    );

    let b = with(
        plain(),
        HostConfig {
            cap_add: list(&["net_admin"]),
            ..HostConfig::default()
        },
        |i| i.identity.uid = 7,
    )
    .unwrap();
    let c = b.spec.process.unwrap().capabilities.unwrap();
    assert!(
        c.effective.is_empty()
            && c.permitted.is_empty()
            && c.ambient.is_empty()
            && c.bounding.len() == 15
    );
    assert_eq!(b.warnings.len(), 1);

    let linux = built(HostConfig {
        privileged: true,
        ..HostConfig::default()
    })
    .spec
    .linux
    .unwrap();
    assert!(
        linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()
    );
    assert_eq!(linux.resources.unwrap().devices.len(), 1);

    let h = HostConfig {
        security_opt: list(&["seccomp=unconfined", "no-new-privileges"]),
        ..HostConfig::default()
    };
    let spec = built(h).spec;
    assert!(spec.process.unwrap().no_new_privileges && spec.linux.unwrap().seccomp.is_none());
    assert!(parse_security_opts(&list(&["nope=1"])).is_err());
}

#[test]
fn limits() {
    let h = HostConfig {
        memory: 64 << 20,
        nano_cpus: 1_500_000_000,
        cpu_shares: 512,
        cpuset_cpus: "0-1".into(),
        pids_limit: 50,
        ulimits: vec![Ulimit {
            name: "nofile".into(),
            soft: 10,
            hard: -1,
        }],
        ..HostConfig::default()
    };
    let spec = built(h.clone()).spec;
    let r = spec.linux.unwrap().resources.unwrap();
    let memory = r.memory.unwrap();
    assert_eq!(
        (memory.limit, memory.swap),
        (Some(64 << 20), Some(128 << 20))
    );
    let cpu = r.cpu.unwrap();
    assert_eq!(
        (cpu.quota, cpu.period, cpu.shares),
        (Some(150_000), Some(100_000), Some(512))
    );
    assert_eq!(r.pids.unwrap().limit, Some(50));
    let limit = &spec.process.unwrap().rlimits[0];
    assert_eq!(
        (limit.typ.as_str(), limit.soft, limit.hard),
        ("RLIMIT_NOFILE", 10, u64::MAX)
    );

    let small = HostConfig {
        memory: 1 << 20,
        ..HostConfig::default()
    };
    assert_eq!(error(small), "minimum memory limit allowed is 6MB");
    let swap = HostConfig {
        memory_swap: 1 << 30,
        ..HostConfig::default()
    };
    assert!(error(swap).contains("always set the memory limit"));
    let both = HostConfig {
        nano_cpus: 1,
        cpu_quota: 1,
        ..HostConfig::default()
    };
    assert!(error(both).contains("conflicting options"));

    let none = with(plain(), h, |i| i.cgroups_path = None).unwrap_err();
    assert!(none.message().starts_with("--memory needs a cgroup") && none.get_hint().is_some());
    let rootless = with(plain(), HostConfig::default(), |i| i.cgroups_path = None).unwrap();
    assert_eq!(
        rootless.spec.linux.unwrap().resources,
        Some(oci::Resources::default())
    );
}

#[test]
fn mounts_of_the_user() {
    let h = HostConfig {
        tmpfs: [("/tmp/x/y".to_string(), "size=1m,exec".to_string())].into(),
        mounts: vec![Mount {
            typ: "tmpfs".into(),
            target: "/dev/shm".into(),
            ..Mount::default()
        }],
        ..HostConfig::default()
    };
    let b = with(plain(), h.clone(), |i| {
        i.bindings.push(Binding {
            source: "/srv".into(),
            destination: "/tmp".into(),
            read_only: true,
            read_only_below: true,
            propagation: "rslave".into(),
            ..Binding::default()
        });
    })
    .unwrap();
    let at = |d: &str| {
        b.spec
            .mounts
            .iter()
            .filter(|m| m.destination.as_os_str() == d)
            .collect::<Vec<_>>()
    };
    assert_eq!(at("/tmp")[0].options, ["rbind", "ro", "rslave", "rro"]);
    assert_eq!(
        at("/tmp/x/y")[0].options,
        ["nosuid", "nodev", "size=1m", "exec"]
    );
    assert_eq!(at("/dev/shm").len(), 1, "the user's replaces the default");
    assert_eq!(
        b.spec.linux.unwrap().rootfs_propagation.as_deref(),
        Some("rslave")
    );
    assert_eq!(
        b.spec.mounts[0].options[0],
        "lowerdir=/layers/a\\:b:/layers/base"
    );
    let twice = HostConfig {
        tmpfs: [("/a".to_string(), String::new())].into(),
        mounts: vec![Mount {
            typ: "tmpfs".into(),
            target: "/a".into(),
            ..Mount::default()
        }],
        ..HostConfig::default()
    };
    assert_eq!(error(twice), "duplicate mount point: /a");
}

#[test]
fn names_environment_and_terminal() {
    let config = Config {
        tty: true,
        hostname: "web".into(),
        working_dir: "/srv".into(),
        env: vec!["TERM=dumb".into(), "HOME=/h".into()],
        ..plain()
    };
    let b = with(config, HostConfig::default(), |i| {
        i.console = Some((24, 80))
    })
    .unwrap();
    let process = b.spec.process.unwrap();
    assert_eq!(process.env[1..], ["HOSTNAME=web", "TERM=dumb", "HOME=/h"]);
    assert_eq!(
        (process.terminal, process.console_size.unwrap().width),
        (true, 80)
    );
    assert_eq!(b.spec.hostname.as_deref(), Some("web"));
    let h = HostConfig {
        network_mode: "host".into(),
        ..HostConfig::default()
    };
    assert_eq!(built(h).spec.hostname.as_deref(), Some("host"));
    let relative = with(
        Config {
            working_dir: "srv".into(),
            ..plain()
        },
        HostConfig::default(),
        |_| {},
    );
    assert!(relative.unwrap_err().message().contains("absolute path"));
    let map = || {
        vec![oci::IdMapping {
            container_id: 0,
            host_id: 1000,
            size: 1,
            ..oci::IdMapping::default()
        }]
    };
    let b = with(plain(), HostConfig::default(), |i| {
        i.id_maps = Some((map(), map()))
    })
    .unwrap();
    let pts = b
        .spec
        .mounts
        .iter()
        .find(|m| m.destination.ends_with("pts"))
        .unwrap();
    assert!(
        !pts.options.contains(&"gid=5".to_string()),
        "group 5 is not mapped"
    );
    assert!(
        b.spec
            .linux
            .unwrap()
            .namespaces
            .iter()
            .any(|n| n.typ == NamespaceType::User)
    );
}
