//! Networks without root: slirp4netns and pasta, their ports, and that they end with their container.
//!
//! Each test has a network namespace of its own (`common::network`): what such a program opens on the
//! host, it opens there. What an ordinary user may do with /dev/net/tun differs from host to host, so
//! those tests have a device of their own in a mount namespace of their own.
//!
//! Host only: the machine has neither.
//!
//! Read next: `names.rs`; `src/network/slirp.rs`, `src/network/pasta.rs`,
//! `src/containers/user_network.rs`.

mod common;

use common::network::{World, ip, own_network};
use common::{Host, LeakCheck, Run, TempRoot};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// Far more than anything takes, also when two busy loops have the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A web server on 127.0.0.1 of this thread's network namespace that says "hello" to everybody: its
/// port. It ends with the test program.
fn web() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request); // whatever it is, the answer is the same
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    port
}

/// A command that asks the host's server, as far as the container reaches it. (busybox's wget wants
/// the C library to look names up, which a static one cannot.)
fn get(port: u16) -> String {
    format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 10.0.2.2 {port}")
}

fn end(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal); // it may have ended
}

/// Waits, for a bounded time, until `done`.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The slirp4netns of the container whose first process is `pid`.
fn slirp_of(pid: &str) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|process| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        words[0].ends_with(b"slirp4netns") && words.contains(&pid.as_bytes())
    })
}

#[test]
fn the_hosts_loopback_is_reached_only_when_that_was_asked_for() {
    needs!("root", "ip", "slirp4netns");
    let _network = own_network();
    let host = Host::new("slirp");
    let ask = get(web());
    let fetch = format!("{ask}; ip -4 addr show tap0; cat /etc/resolv.conf /etc/hosts");
    let allowed = [
        "--network",
        "slirp4netns:allow_host_loopback=true",
        "-h",
        "box",
    ];
    let text = host.sh(&allowed, &fetch);
    assert!(text.contains("hello"), "{text}");
    assert!(text.contains("inet 10.0.2.100/24"), "{text}");
    assert!(text.contains("nameserver 10.0.2.3"), "{text}");
    assert!(text.lines().any(|l| l == "10.0.2.100\tbox"), "{text}");
    let script = format!("{ask} || echo refused");
    assert_eq!(host.sh(&["--network", "slirp4netns"], &script), "refused");
    let wrong = [
        "run",
        "--rm",
        "--network",
        "slirp4netns:mtu=9",
        "lab",
        "true",
    ];
    assert!(host.fails(125, &wrong).contains("mtu=9"));
}

#[test]
fn it_outlives_the_monitor_and_ends_with_the_container() {
    needs!("root", "ip", "slirp4netns");
    let _network = own_network();
    let host = Host::new("slirp-ends");
    let port = web();
    let mode = "slirp4netns:allow_host_loopback=true";
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        mode,
        "lab",
        "sh",
        "-c",
        script,
    ]);
    let inspect = |field: &str| host.ok(&["inspect", "-f", field, "box"]);
    let (id, pid) = (inspect("{{.Id}}"), inspect("{{.State.Pid}}"));
    let slirp = slirp_of(&pid).expect("slirp4netns runs");
    let text = std::fs::read_to_string(host.root.join(format!("containers/{id}/status.json")));
    let status: serde_json::Value = serde_json::from_str(&text.expect("a status")).expect("JSON");
    end(
        status["Monitor"].as_i64().expect("a number") as i32,
        nix::sys::signal::SIGKILL,
    );
    host.ok(&["ps"]); // another monitor takes over
    // Where pidfds do not tell of an end, it has gone with the monitor, and there is another one.
    if glassbox::network::slirp::ends_by_itself() {
        assert_eq!(slirp_of(&pid), Some(slirp), "the same goes on");
    }
    let said = host.ok(&["exec", "box", "sh", "-c", &get(port)]);
    assert!(said.contains("hello"), "{said}");
    host.ok(&["stop", "box"]);
    until("the end of slirp4netns", || slirp_of(&pid).is_none());
    host.ok(&["rm", "box"]);
}

#[test]
fn a_published_port_is_answered_on_the_host_and_ends_with_the_container() {
    needs!("root", "ip", "slirp4netns");
    let _network = own_network();
    let host = Host::new("slirp-ports");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = free.local_addr().expect("an address").port();
    let publish = format!("127.0.0.1:{port}:80");
    let start = |name: &str| {
        let script = "while :; do echo hello | nc -l -p 80; done";
        let args = [
            "run",
            "-d",
            "--name",
            name,
            "--network",
            "slirp4netns",
            "-p",
        ];
        host.go(&[&args[..], &[&publish, "lab", "sh", "-c", script]].concat())
    };
    let taken = start("taken").fails(125, &["cannot publish port 127.0.0.1:", "/tcp"]);
    assert!(
        taken.stderr.contains("another process has this port"),
        "{taken}"
    );
    drop(free);
    start("box").success();
    let ask = || {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let _ = stream.read_to_string(&mut text); // nothing, where the program is between two
        }
        text
    };
    until("an answer of the container", || ask().contains("hello"));
    let told = host.ok(&["port", "box"]);
    assert_eq!(told, format!("80/tcp -> 127.0.0.1:{port}"));
    host.ok(&["rm", "-f", "box"]);
    until("the port to be free", || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    let any = [
        "run",
        "--rm",
        "--network",
        "slirp4netns",
        "-p",
        "80",
        "lab",
        "true",
    ];
    assert!(
        host.fails(125, &any)
            .contains("publishes a port by its number")
    );
}

fn fails_at_each_step(host: &Host, mode: &str) {
    for step in ["user-network", "hostname", "cwd"] {
        let args = ["run", "--rm", "--network", mode, "lab", "true"];
        let out = Run::new(args)
            .env("GLASSBOX_ROOT", host.root.path())
            .env("GLASSBOX_FAIL_STEP", step)
            .go();
        assert_eq!(out.code(), 125, "{step}: {out}");
    }
    // The leak check looks for processes whose environment names this root.
}

#[test]
fn a_failed_start_leaves_no_process_behind() {
    needs!("root", "ip", "slirp4netns");
    let _network = own_network();
    let host = Host::new("slirp-rollback");
    fails_at_each_step(&host, "slirp4netns");
}

/// The pasta of the container whose run directory has this link, by its command line.
fn pasta_of(id: &str) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|process| {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        text.contains("pasta.netns") && text.contains(id)
    })
}

/// The rest of the world, in both families: pasta takes its way there from the host's routes.
fn world() -> World {
    let world = World::new();
    ip(&["addr", "add", "2001:db8::1/64", "dev", "wan0", "nodad"]);
    ip(&["-6", "route", "add", "default", "via", "2001:db8::2"]);
    world
}

/// Whether the host's server says "hello" to a program in the container's network namespace. (Asked
/// by nc, it would say so too, but this pasta does not always pass on that it has ended then.)
fn says_hello(host: &Host, name: &str, port: u16) -> bool {
    let pid = host.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("its namespace");
    common::network::run_in(&namespace, || {
        let address = (Ipv4Addr::new(10, 0, 2, 2), port).into();
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(10)) else {
            return false;
        };
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("a timeout");
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n"); // it may have been refused
        let (mut text, mut some) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"hello") {
            match stream.read(&mut some) {
                Ok(0) | Err(_) => return false,
                Ok(length) => text.extend(&some[..length]),
            }
        }
        true
    })
}

/// What a container says that is asked here; nothing, where nobody answers yet.
fn asked(address: &str) -> String {
    let mut text = [0; 5];
    if let Ok(mut stream) = TcpStream::connect(address) {
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).expect("a timeout");
        let _ = stream.read_exact(&mut text); // nothing, where the program is between two
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn pasta_has_the_same_addresses_and_the_hosts_loopback_only_when_asked() {
    needs!("root", "ip", "ipv6", "pasta");
    let _network = own_network();
    let _world = world();
    let host = Host::new("pasta");
    let port = web();
    for (name, mode) in [("open", "pasta:--map-gw"), ("shut", "pasta")] {
        let args = ["run", "-d", "--name", name, "-h", "box", "--network", mode];
        host.ok(&[&args[..], &["lab", "sleep", "300"]].concat());
    }
    until("an answer of the host", || says_hello(&host, "open", port));
    assert!(
        !says_hello(&host, "shut", port),
        "the host's loopback answers"
    );
    let script = "ip addr show tap0; cat /etc/resolv.conf /etc/hosts";
    let text = host.ok(&["exec", "open", "sh", "-c", script]);
    host.ok(&["rm", "-f", "open", "shut"]);
    assert!(text.contains("inet 10.0.2.100/24"), "{text}");
    assert!(text.contains("inet6 2001:db8::1/64"), "{text}");
    assert!(text.contains("nameserver 10.0.2.3"), "{text}");
    assert!(text.lines().any(|l| l == "10.0.2.100\tbox"), "{text}");
    let wrong = ["run", "--rm", "--network", "pasta:--mtu", "lab", "true"];
    assert!(host.fails(125, &wrong).contains("invalid option for pasta"));
    // It takes the host's addresses and routes, so there must be some.
    ip(&["route", "del", "default"]);
    let none = ["run", "--rm", "--network", "pasta", "lab", "true"];
    assert!(
        host.fails(125, &none)
            .contains("the host has no default route")
    );
}

#[test]
fn pasta_outlives_the_monitor_and_ends_with_the_container() {
    needs!("root", "ip", "ipv6", "pasta");
    let _network = own_network();
    let _world = world();
    let host = Host::new("pasta-ends");
    let port = web();
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let args = ["run", "-d", "--name", "box", "--network", "pasta:--map-gw"];
    host.ok(&[&args[..], &["lab", "sh", "-c", script]].concat());
    let id = host.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    let pasta = pasta_of(&id).expect("pasta runs");
    let text = std::fs::read_to_string(host.root.join(format!("containers/{id}/status.json")));
    let status: serde_json::Value = serde_json::from_str(&text.expect("a status")).expect("JSON");
    end(
        status["Monitor"].as_i64().expect("a number") as i32,
        nix::sys::signal::SIGKILL,
    );
    host.ok(&["ps"]); // another monitor takes over
    assert_eq!(pasta_of(&id), Some(pasta), "the same goes on");
    until("an answer of the host", || says_hello(&host, "box", port));
    host.ok(&["stop", "box"]);
    until("the end of pasta", || pasta_of(&id).is_none());
    // Again, and now nobody is left who would know of the end but the next command.
    host.ok(&["start", "box"]);
    assert!(pasta_of(&id).is_some(), "it runs again");
    host.ok(&["rm", "-f", "box"]);
    until("the end of pasta", || pasta_of(&id).is_none());
}

#[test]
fn pasta_publishes_ports_of_both_families() {
    needs!("root", "ip", "ipv6", "pasta");
    let _network = own_network();
    let _world = world();
    let host = Host::new("pasta-ports");
    let taken = TcpListener::bind("127.0.0.1:8080").expect("a port");
    let start = || {
        let script = "while :; do echo hello | nc -l -p 80; done";
        let ports = ["-p", "127.0.0.1:8080:80", "-p", "[::1]:8081:80"];
        let args = ["run", "-d", "--name", "box", "--network", "pasta"];
        host.go(&[&args[..], &ports, &["lab", "sh", "-c", script]].concat())
    };
    let refused = start().fails(125, &["cannot publish a port", "pasta said: "]);
    assert!(
        refused.stderr.contains("another process has this port"),
        "{refused}"
    );
    host.ok(&["rm", "-f", "box"]);
    drop(taken);
    start().success();
    for address in ["127.0.0.1:8080", "[::1]:8081"] {
        until("an answer of the container", || asked(address) == "hello");
    }
    let told = host.ok(&["port", "box"]);
    assert_eq!(told, "80/tcp -> 127.0.0.1:8080\n80/tcp -> [::1]:8081");
    host.ok(&["rm", "-f", "box"]);
    until("the port to be free", || {
        TcpListener::bind("127.0.0.1:8080").is_ok()
    });
    let slirp = [
        "run",
        "--rm",
        "--network",
        "slirp4netns",
        "-p",
        "[::1]:80:80",
    ];
    if common::has_program("slirp4netns") {
        let out = host.fails(125, &[&slirp[..], &["lab", "true"]].concat());
        assert!(
            out.contains("slirp4netns publishes no port on ::1"),
            "{out}"
        );
    }
}

#[test]
fn a_failed_start_leaves_no_pasta_behind() {
    needs!("root", "ip", "ipv6", "pasta");
    let _network = own_network();
    let _world = world();
    let host = Host::new("pasta-rollback");
    fails_at_each_step(&host, "pasta");
}

/// `glassbox ARGS` as an ordinary user, where /dev/net/tun has these permissions.
fn as_user_with_tun(root: &TempRoot, mode: &str, args: &[&str]) -> common::Output {
    let run = Run::new(args).as_user().env("GLASSBOX_ROOT", root.path());
    let command: Command = run.command();
    // The device is made in a tmpfs of that mount namespace, so nothing of it stays.
    let script = "set -e; mount -t tmpfs tun /mnt; mknod /mnt/tun c 10 200; chmod $0 /mnt/tun; \
                  mount --bind /mnt/tun /dev/net/tun; exec \"$@\"";
    let mut words = vec![
        "-m".into(),
        "sh".into(),
        "-c".into(),
        script.into(),
        mode.into(),
    ];
    words.push(command.get_program().to_owned());
    words.extend(command.get_args().map(|a| a.to_owned()));
    let wrapped = Run::other("unshare", words).limit(PATIENCE * 2);
    let mut wrapped = wrapped.env(common::NO_NETWORK.0, "");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped = wrapped.env(name, value);
        }
    }
    wrapped.go()
}

#[test]
fn an_ordinary_users_container_has_a_network_where_that_can_be() {
    needs!("root", "ip", "slirp4netns", "setpriv", "unshare");
    if !std::path::Path::new("/dev/net/tun").exists() {
        return common::skip("needs tun: the device /dev/net/tun");
    }
    let _network = own_network();
    let root = TempRoot::for_user("slirp-user");
    let _leaks = LeakCheck::new(&root);
    let show = ["run", "--rm", "lab", "ip", "-4", "addr"];
    let out = as_user_with_tun(&root, "0666", &show).success();
    out.out_has("inet 10.0.2.100/24");
    // Where the device is root's alone there is the loopback, and one line says so.
    let out = as_user_with_tun(&root, "0600", &show).success();
    assert!(
        !out.stdout.contains("tap0") && out.stdout.contains("lo"),
        "{out}"
    );
    out.err_has("the container has no network but its loopback: /dev/net/tun cannot be opened");
    let none = ["run", "--rm", "--network", "none", "lab", "true"];
    let out = as_user_with_tun(&root, "0600", &none).success();
    assert!(!out.stderr.contains("loopback"), "{out}");
    let asked = ["run", "--rm", "--network", "slirp4netns", "lab", "true"];
    let out = as_user_with_tun(&root, "0600", &asked);
    out.fails(
        125,
        &["/dev/net/tun cannot be opened", "chmod 0666 /dev/net/tun"],
    );
}

#[test]
fn an_ordinary_users_container_has_pasta_before_slirp4netns() {
    needs!("root", "ip", "ipv6", "pasta", "setpriv", "unshare");
    if !std::path::Path::new("/dev/net/tun").exists() {
        return common::skip("needs tun: the device /dev/net/tun");
    }
    let _network = own_network();
    let _world = world();
    let root = TempRoot::for_user("pasta-user");
    let _leaks = LeakCheck::new(&root);
    // Of the two programs only this one gives an address of the host's.
    let show = ["run", "--rm", "lab", "ip", "addr"];
    let out = as_user_with_tun(&root, "0666", &show).success();
    out.out_has("inet 10.0.2.100/24");
    out.out_has("inet6 2001:db8::1/64");
    let asked = ["run", "--rm", "--network", "pasta", "lab", "ip", "addr"];
    let out = as_user_with_tun(&root, "0666", &asked).success();
    out.out_has("inet6 2001:db8::1/64");
    let out = as_user_with_tun(&root, "0600", &asked);
    out.fails(125, &["/dev/net/tun cannot be opened", "chmod 0666"]);
}
