//! Tests of the flags' formats. Read next: `flags.rs`.

use super::*;

#[test]
fn sizes() {
    for (text, value) in [
        ("64m", 64 << 20),
        ("1.5G", 3 << 29),
        ("512", 512),
        ("10MiB", 10 << 20),
        ("2kb", 2048),
        ("0", 0),
    ] {
        assert_eq!(bytes(text).unwrap(), value, "{text}");
    }
    for text in ["", "m", "64x", "-1", "1e400", "9999999999p", "6 4m"] {
        assert!(bytes(text).is_err(), "{text:?}");
    }
}

#[test]
fn limits_and_policies() {
    let u = ulimit("nofile=10:20").unwrap();
    assert_eq!((u.soft, u.hard), (10, 20));
    assert_eq!(ulimit("core=unlimited").unwrap().hard, -1);
    for text in ["nofile", "nofile=a", "files=1", "nofile=3:2", "nofile=-5"] {
        assert!(ulimit(text).is_err(), "{text}");
    }
    assert_eq!(restart("on-failure:3").unwrap().maximum_retry_count, 3);
    assert_eq!(restart("always").unwrap().name, "always");
    for text in ["", "sometimes", "always:3", "on-failure:x"] {
        assert!(restart(text).is_err(), "{text}");
    }
    assert_eq!(nano_cpus("0.5").unwrap(), 500_000_000);
    assert!(nano_cpus("-1").is_err() && nano_cpus("nan").is_err() && nano_cpus("x").is_err());
}

#[test]
fn disks_and_checks() {
    let d = throttle_device("/dev/sda:1mb", true).unwrap();
    assert_eq!((d.path.as_str(), d.rate), ("/dev/sda", 1 << 20));
    assert_eq!(throttle_device("/dev/sda:100", false).unwrap().rate, 100);
    assert_eq!(weight_device("/dev/sda:200").unwrap().weight, 200);
    for text in ["/dev/sda", "sda:1", "/dev/sda:x", "/dev/sda:-1"] {
        assert!(throttle_device(text, true).is_err(), "{text}");
        assert!(throttle_device(text, false).is_err(), "{text}");
        assert!(weight_device(text).is_err(), "{text}");
    }
    assert!(weight_device("/dev/sda:5").is_err());
    let ns = |text: &str| health_duration("health-interval", text);
    assert_eq!(ns("1m30s").unwrap(), 90_000_000_000);
    assert_eq!((ns("0").unwrap(), ns("1ms").unwrap()), (0, 1_000_000));
    for text in ["", "5", "1us", "-1s"] {
        assert!(ns(text).is_err(), "{text}");
    }
}

#[test]
fn volumes() {
    let b = bind("/a:/b:ro,rslave").unwrap();
    assert_eq!(b.source.as_deref(), Some("/a"));
    assert!(b.read_only && b.propagation == "rslave");
    assert_eq!(bind("/data").unwrap().source, None);
    assert_eq!(bind("data:/data").unwrap().source.as_deref(), Some("data"));
    assert_eq!(
        bind("/data:ro").unwrap(),
        Bind {
            read_only: true,
            ..bind("/data").unwrap()
        }
    );
    for text in [
        "",
        "a",
        "/a:/",
        "/a:b",
        ":/b",
        "/a:/b:xx",
        "/a:/b:ro:z",
        "./a:/b",
        "a/b:/c",
    ] {
        assert!(bind(text).is_err(), "{text}");
    }
}

#[test]
fn mounts() {
    let m = mount("type=bind,src=/a,dst=/b,readonly").unwrap();
    assert_eq!(
        (
            m.typ.as_str(),
            m.source.as_str(),
            m.target.as_str(),
            m.read_only
        ),
        ("bind", "/a", "/b", true)
    );
    let m = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
    let tmpfs = m.tmpfs_options.unwrap();
    assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, Some(0o1770)));
    let m =
        mount("source=vol,target=/v,volume-subpath=a/b,volume-label=x=y,volume-nocopy").unwrap();
    let volume = m.volume_options.unwrap();
    assert!(volume.no_copy && volume.subpath == "a/b" && volume.labels["x"] == "y");
    let m = mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable").unwrap();
    assert!(m.bind_options.unwrap().read_only_non_recursive);
    assert_eq!(volumes_from("a:ro").unwrap(), ("a", true));
    assert_eq!(volumes_from("a").unwrap(), ("a", false));
    assert!(volumes_from("a:x").is_err() && volumes_from(":ro").is_err());
    for text in [
        "",
        "type=bind,target=/b",
        "type=x,target=/b",
        "type=bind,source=a,target=/b",
        "source=v",
        "type=tmpfs,source=a,target=/t",
        "type=bind,source=/a,target=/b,nope=1",
        "type=bind,source=/a,target=/",
        "type=bind,source=/a,target=/b,volume-nocopy",
        "type=tmpfs,target=/b,bind-propagation=shared",
        "type=bind,source=/a,target=/b,bind-propagation=sideways",
        "type=bind,source=/a,target=/b,bind-recursive=writable",
        "type=bind,source=/a,target=/b,ro,bind-recursive=readonly",
        "type=bind,source=/a,target=/b,bind-recursive=sometimes",
    ] {
        assert!(mount(text).is_err(), "{text}");
    }
}

#[test]
fn devices_env_hosts_signals() {
    let d = device("/dev/null:/dev/zero:r").unwrap();
    assert_eq!(
        (d.path_in_container.as_str(), d.cgroup_permissions.as_str()),
        ("/dev/zero", "r")
    );
    assert_eq!(
        device("/dev/null:rw").unwrap().path_in_container,
        "/dev/null"
    );
    assert!(device("null").is_err() && device("/a:/b:c").is_err() && device("/a:/b:r:w").is_err());

    let look = |n: &str| (n == "HOME").then(|| "/root".to_string());
    assert_eq!(env("A=b=c", &look).unwrap().as_deref(), Some("A=b=c"));
    assert_eq!(env("HOME", &look).unwrap().as_deref(), Some("HOME=/root"));
    assert_eq!(env("NOPE", &look).unwrap(), None);
    assert!(env("=x", &look).is_err() && env("", &look).is_err());
    let mut list = vec!["A=1".to_string(), "B=2".to_string()];
    set_env(&mut list, "A=3".into());
    set_env(&mut list, "C=4".into());
    assert_eq!(list, ["A=3", "B=2", "C=4"]);

    assert_eq!(host_entry("db:10.0.0.2").unwrap(), "db:10.0.0.2");
    assert_eq!(host_entry("db=[::1]").unwrap(), "db:::1");
    assert!(
        host_entry("db").is_err() && host_entry("db:x").is_err() && host_entry(":1.1.1.1").is_err()
    );

    for (text, number) in [
        ("TERM", 15),
        ("SIGKILL", 9),
        ("hup", 1),
        ("3", 3),
        ("RTMIN+2", 36),
    ] {
        assert_eq!(signal(text).unwrap(), number);
    }
    assert!(signal("0").is_err() && signal("SIGNOPE").is_err() && signal("65").is_err());
    assert_eq!(capability("net_admin"), "CAP_NET_ADMIN");
    assert_eq!(capability("cap_kill"), "CAP_KILL");
    assert_eq!(capability("all"), "ALL");
}

#[test]
fn files_of_variables() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# c\n\nA=1 2\n  B\n").unwrap();
    assert_eq!(lines_of_file(file.path()).unwrap(), ["A=1 2", "B"]);
    std::fs::write(file.path(), "A B=1\n").unwrap();
    assert!(lines_of_file(file.path()).is_err());
    assert!(lines_of_file(Path::new("/nonexistent")).is_err());
}
