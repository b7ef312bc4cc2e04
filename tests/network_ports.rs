//! Stage 7, networks: published ports, the way out, and the walls between networks.
//!
//! Each test has a network namespace of its own that plays the host, and where one is needed a second
//! one behind a pair of links that plays the rest of the world.
//!
//! Read next: `networks.rs`; `src/network/rules.rs`.

mod common;

use common::Host;
use common::network::{World, devices, ip, own_network, tables};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// What a server says; it may not listen yet, so it is asked again for a while.
fn ask(connect: impl Fn() -> std::io::Result<TcpStream>) -> String {
    let start = Instant::now();
    loop {
        let mut text = String::new();
        let answer = connect().and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"x\n")?;
            stream.read_to_string(&mut text)
        });
        if answer.is_ok() && !text.is_empty() {
            return text.trim().to_string();
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no answer: {answer:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask_at(address: &str) -> String {
    let address = address.parse().expect("an address");
    ask(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))
}

/// A container in the network `web` with these flags, in which port 80 answers with its name.
fn serve(host: &Host, name: &str, flags: &[&str]) {
    serve_at(host, name, "0.0.0.0:80", flags);
}

/// The same at this address, as `[::]:80`, which is all of both families.
fn serve_at(host: &Host, name: &str, address: &str, flags: &[&str]) {
    let args = ["run", "-d", "--name", name, "--network", "web"];
    host.ok(&[&args[..], flags, &["lab", "sleep", "300"]].concat());
    let listener = inside(host, name, || TcpListener::bind(address).expect("port 80"));
    let answer = format!("served-by-{name}\n");
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            // What is not read when it closes would end the connection before the answer.
            let _ = stream.read(&mut [0; 16]);
            let _ = stream.write_all(answer.as_bytes()); // who asked may be gone
        }
    });
}

/// Does something in a container's network namespace: a socket that is made there stays there.
fn inside<T: Send>(host: &Host, name: &str, act: impl FnOnce() -> T + Send) -> T {
    let pid = host.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("its namespace");
    common::network::run_in(&namespace, act)
}

#[test]
fn a_published_port_answers_the_world_the_host_and_its_loopback() {
    needs!("root", "ip");
    let network = own_network();
    let world = World::new();
    let host = Host::new("ports-answer");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    serve(&host, "web1", &["-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    assert_eq!(ask_at("127.0.0.1:8080"), "served-by-web1");
    assert_eq!(ask_at("127.0.0.1:8081"), "served-by-web1");
    let own = format!("{}:8080", world.host);
    assert_eq!(ask_at(&own), "served-by-web1");
    assert_eq!(world.run(|| ask_at(&own)), "served-by-web1");
    // From a container of the same network, and from itself, by the host's address.
    let args = ["run", "-d", "--name", "other", "--network", "web"];
    host.ok(&[&args[..], &["lab", "sleep", "300"]].concat());
    for from in ["other", "web1"] {
        assert_eq!(inside(&host, from, || ask_at(&own)), "served-by-web1");
    }
    host.ok(&["rm", "-f", "other"]);
    // One that is for the loopback alone is refused to the world.
    let refused = world.run(|| {
        let address = format!("{}:8081", world.host).parse().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err()
    });
    assert!(refused, "127.0.0.1:8081 answered the world");
    let port = host.ok(&["port", "web1"]);
    assert_eq!(port, "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081");
    assert_eq!(
        host.ok(&["port", "web1", "80"]),
        "0.0.0.0:8080\n127.0.0.1:8081"
    );
    let out = host.fails(1, &["port", "web1", "81"]);
    assert!(
        out.contains("no public port '81/tcp' published for web1"),
        "{out}"
    );
    let row = host.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(row, "0.0.0.0:8080->80/tcp, 127.0.0.1:8081->80/tcp");
    let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
    assert_eq!(host.ok(&["inspect", "-f", template, "web1"]), "8080");
    // Taken, by a container and by another program.
    let run = |port: &str| {
        host.fails(
            125,
            &["run", "--rm", "--network", "web", "-p", port, "lab", "true"],
        )
    };
    let out = run("8080:80");
    assert!(
        out.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"),
        "{out}"
    );
    let other = TcpListener::bind("0.0.0.0:8090").expect("a port");
    let out = run("8090:80");
    assert!(
        out.contains("failed to bind host port for 0.0.0.0:8090/tcp: address already in use"),
        "{out}"
    );
    drop(other);
    host.ok(&["rm", "-f", "web1"]);
    drop(host);
    drop(world);
    network.check();
}

/// Whether bridges of this thread's namespace call the packet filter of IPv6: how it is set from now
/// on. Nothing where that cannot be, for it is not so then.
fn bridges_call_ipv6(value: &str) -> bool {
    let path = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
    let is_there = std::path::Path::new(path).exists();
    if is_there {
        std::fs::write(path, value).expect("a kernel parameter");
    }
    is_there
}

#[test]
fn a_published_port_answers_over_ipv6_too() {
    needs!("root", "ip", "ipv6");
    let network = own_network();
    let world = World::new();
    ip(&["addr", "add", "2001:db8::1/64", "dev", "wan0", "nodad"]);
    world.run(|| ip(&["addr", "add", "2001:db8::2/64", "dev", "wan1", "nodad"]));
    bridges_call_ipv6("0");
    let host = Host::new("ports-six");
    let subnets = ["--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64"];
    host.ok(&[&["network", "create"], &subnets[..], &["web"]].concat());
    let flags = ["-p", "8080:80", "-p", "[::1]:8081:80", "-p", "[::]:8082:80"];
    let free = ["-p", "81", "-p", "9000-9009:82"];
    serve_at(&host, "web1", "[::]:80", &[&flags[..], &free].concat());
    let answered = |address: &str| assert_eq!(ask_at(address), "served-by-web1", "{address}");
    for address in [
        "[::1]:8080",
        "127.0.0.1:8080",
        "[::1]:8081",
        "[::1]:8082",
        "[2001:db8::1]:8080",
        "[2001:db8::1]:8082",
    ] {
        answered(address);
    }
    // From the world, and from the container itself by the host's address.
    world.run(|| answered("[2001:db8::1]:8080"));
    inside(&host, "web1", || answered("[2001:db8::1]:8080"));
    let refused = |address: &str| {
        let address = address.parse().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err()
    };
    assert!(
        world.run(|| refused("[2001:db8::1]:8081")),
        "::1 answered the world"
    );
    assert!(
        refused("127.0.0.1:8082"),
        "a port of IPv6 alone answered IPv4"
    );
    // As docker shows them: the same number in both families, also where it was free to choose.
    let ports = host.ok(&["port", "web1", "80"]);
    assert_eq!(ports, "0.0.0.0:8080\n[::]:8080\n[::1]:8081\n[::]:8082");
    let row = host.ok(&["ps", "--format", "{{.Ports}}"]);
    assert!(
        row.contains("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, [::1]:8081->80/tcp"),
        "{row}"
    );
    assert!(
        row.contains("0.0.0.0:9000->82/tcp, [::]:9000->82/tcp"),
        "{row}"
    );
    let chosen = host.ok(&["port", "web1", "81"]);
    let (four, six) = chosen.split_once('\n').expect("one of each family");
    assert_eq!(four.replace("0.0.0.0", "[::]"), six);
    let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 1).HostIp}}";
    assert_eq!(host.ok(&["inspect", "-f", template, "web1"]), "::");
    // Taken, by a container and by another program, in one family alone.
    let run = |network: &str, port: &str| {
        let args = [
            "run",
            "--rm",
            "--network",
            network,
            "-p",
            port,
            "lab",
            "true",
        ];
        host.fails(125, &args)
    };
    let out = run("web", "[::]:8080:80");
    assert!(
        out.contains("Bind for [::]:8080 failed: port is already allocated"),
        "{out}"
    );
    let other = TcpListener::bind("[::1]:8090").expect("a port");
    let out = run("web", "8090:80");
    assert!(
        out.contains("failed to bind host port for [::]:8090/tcp: address already in use"),
        "{out}"
    );
    drop(other);
    // A network of IPv4 alone has no such port; one that is left open is of IPv4 there.
    host.ok(&["network", "create", "--subnet", "10.92.0.0/24", "four"]);
    let out = run("four", "[::]:8091:80");
    assert!(
        out.contains("cannot publish a port on :: for a container of the network four"),
        "{out}"
    );
    assert!(out.contains("network create --ipv6"), "{out}");
    let args = [
        "run",
        "-d",
        "--name",
        "old",
        "--network",
        "four",
        "-p",
        "8091:80",
    ];
    host.ok(&[&args[..], &["lab", "sleep", "300"]].concat());
    assert_eq!(host.ok(&["port", "old"]), "80/tcp -> 0.0.0.0:8091");
    host.ok(&["rm", "-f", "web1", "old"]);
    drop(host);
    drop(world);
    network.check();
}

#[test]
fn where_bridges_call_the_packet_filter_the_loopback_of_ipv6_refuses() {
    needs!("root", "ip", "ipv6");
    let network = own_network();
    if !bridges_call_ipv6("1") {
        return common::skip("needs br_netfilter: the module is not loaded");
    }
    let host = Host::new("ports-called");
    let subnets = ["--subnet", "10.91.0.0/24", "--subnet", "fd00:91::/64"];
    host.ok(&[&["network", "create"], &subnets[..], &["web"]].concat());
    serve_at(&host, "web1", "[::]:80", &["-p", "8080:80"]);
    // At once, so a program that tries `localhost` in both families gets to the other.
    let refused = TcpStream::connect("[::1]:8080").expect_err("::1 answered");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(ask_at("127.0.0.1:8080"), "served-by-web1");
    assert_eq!(ask_at("[fd00:91::1]:8080"), "served-by-web1");
    let args = [
        "run",
        "--rm",
        "--network",
        "web",
        "-p",
        "[::1]:8081:80",
        "lab",
        "true",
    ];
    let out = host.fails(125, &args);
    assert!(out.contains("cannot publish a port on ::1"), "{out}");
    assert!(
        out.contains("sysctl net.bridge.bridge-nf-call-ip6tables=0"),
        "{out}"
    );
    host.ok(&["rm", "-f", "web1"]);
    drop(host);
    network.check();
}

#[test]
fn udp_ranges_and_free_ports() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("ports-udp");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    let args = [
        "run",
        "-d",
        "--name",
        "dns",
        "--network",
        "web",
        "-p",
        "5353:5300/udp",
    ];
    let more = [
        "-p",
        "9000-9001:90-91",
        "-P",
        "--expose",
        "7000",
        "lab",
        "sleep",
        "300",
    ];
    host.ok(&[&args[..], &more].concat());
    let server = inside(&host, "dns", || {
        UdpSocket::bind("0.0.0.0:5300").expect("port 5300")
    });
    std::thread::spawn(move || {
        let mut question = [0; 16];
        while let Ok((_, from)) = server.recv_from(&mut question) {
            let _ = server.send_to(b"pong\n", from); // asked again where it is lost
        }
    });
    let start = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a limit");
    let mut answer = [0; 16];
    let length = loop {
        socket.send_to(b"ping\n", "127.0.0.1:5353").expect("sent");
        if let Ok(length) = socket.recv(&mut answer) {
            break length;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no answer over udp"
        );
    };
    assert_eq!(&answer[..length], b"pong\n");
    let ports = host.ok(&["port", "dns"]);
    assert!(
        ports.contains("90/tcp -> 0.0.0.0:9000\n91/tcp -> 0.0.0.0:9001"),
        "{ports}"
    );
    let chosen = host.ok(&["port", "dns", "7000/tcp"]);
    let number: u16 = chosen
        .trim_start_matches("0.0.0.0:")
        .parse()
        .expect("a port");
    assert!(number > 1023, "{chosen}");
    // Of a range, the first that is free.
    host.ok(&[
        "run",
        "-d",
        "--name",
        "second",
        "--network",
        "web",
        "-p",
        "9000-9005:80",
        "lab",
        "sleep",
        "300",
    ]);
    assert_eq!(host.ok(&["port", "second"]), "80/tcp -> 0.0.0.0:9002");
    host.ok(&["rm", "-f", "dns", "second"]);
    network.check();
}

#[test]
fn networks_do_not_see_each_other_and_an_internal_one_sees_nothing() {
    needs!("root", "ip");
    let network = own_network();
    let world = World::new();
    let host = Host::new("ports-walls");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    host.ok(&["network", "create", "--subnet", "10.92.0.0/24", "other"]);
    host.ok(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.93.0.0/24",
        "inner",
    ]);
    serve(&host, "web1", &[]);
    let sleep = |name: &str, net: &str| {
        host.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--network",
            net,
            "lab",
            "sleep",
            "300",
        ]);
    };
    sleep("other1", "other");
    sleep("inner1", "inner");
    sleep("inner2", "inner");
    let ping = |from: &str, to: &str, limit: &str| {
        host.go(&["exec", from, "ping", "-c", "1", "-w", limit, to])
            .code()
            == 0
    };
    // Out to the world, with the host's address: the world has no route back to the container's.
    assert!(
        ping("web1", &world.address, "20"),
        "web1 does not reach the world"
    );
    assert!(ping("other1", &world.address, "20"));
    assert!(
        ping("inner1", "10.93.0.3", "20"),
        "within an internal network"
    );
    assert!(
        !ping("inner1", &world.address, "2"),
        "an internal network reaches the world"
    );
    assert!(!ping("other1", "10.91.0.2", "2"), "other1 reaches web1");
    assert!(!ping("web1", "10.92.0.2", "2"), "web1 reaches other1");
    // Nor does the world reach what is not published, although it knows the way.
    world.run(|| {
        common::network::ip(&["route", "add", "10.91.0.0/24", "via", &world.host]);
        let address = "10.91.0.2:80".parse().expect("an address");
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err());
    });
    host.ok(&["rm", "-f", "web1", "other1", "inner1", "inner2"]);
    drop(host);
    drop(world);
    network.check();
}

/// From now on this thread, and what it starts, is on a kernel that has no netfilter: there are no
/// sockets for it.
fn without_netfilter() {
    use glassbox::sys::seccomp::{Instruction, set_mode_filter};
    let line = |code, jf, k| Instruction { code, jt: 0, jf, k };
    let (load, equal, end) = (0x20, 0x15, 0x06);
    let refuse = 0x0005_0000 | libc::EPROTONOSUPPORT as u32; // SECCOMP_RET_ERRNO
    let program = [
        line(load, 0, 0), // the call's number
        line(equal, 5, libc::SYS_socket as u32),
        line(load, 0, 16), // its first argument
        line(equal, 3, libc::AF_NETLINK as u32),
        line(load, 0, 32), // its third
        line(equal, 1, libc::NETLINK_NETFILTER as u32),
        line(end, 0, refuse),
        line(end, 0, 0x7fff_0000), // SECCOMP_RET_ALLOW
    ];
    set_mode_filter(0, &program).expect("a filter");
}

#[test]
fn without_nftables_there_are_networks_that_need_no_rule() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("ports-no-nft");
    let create = |flags: &[&str]| host.ok(&[&["network", "create"], flags].concat());
    create(&["--internal", "--subnet", "10.93.0.0/24", "inner"]);
    create(&["--internal", "--subnet", "10.94.0.0/24", "more"]);
    create(&["--subnet", "10.92.0.0/24", "outer"]);
    let option = "com.docker.network.bridge.enable_ip_masquerade=false";
    create(&["--subnet", "10.95.0.0/24", "-o", option, "plain"]);
    without_netfilter();
    let missing = |network: &str| {
        format!(
            "the kernel has no nftables: the host's other networks are not kept out of {network}, which can have neither masquerading nor published ports"
        )
    };
    for name in ["inner1", "inner2"] {
        let args = ["run", "-d", "--name", name, "--network", "inner"];
        let out = host
            .go(&[&args[..], &["lab", "sleep", "300"]].concat())
            .success();
        out.err_has(&missing("inner"));
        assert_eq!(out.stderr.lines().count(), 1, "{out}");
    }
    host.ok(&["exec", "inner1", "ping", "-c", "1", "-w", "20", "10.93.0.3"]);
    host.ok(&["network", "connect", "more", "inner1"]);
    host.ok(&["exec", "inner1", "ping", "-c", "1", "-w", "20", "10.94.0.1"]);
    let out = host
        .go(&["run", "--rm", "--network", "plain", "lab", "true"])
        .success();
    out.err_has(&missing("plain"));
    // What needs rules is refused, by the kernel's own word, and nothing of it stays.
    for flags in [
        &["--network", "outer"][..],
        &["--network", "plain", "-p", "8080:80"],
    ] {
        let out = host.fails(125, &[&["run", "--rm"], flags, &["lab", "true"]].concat());
        assert!(out.contains("EPROTONOSUPPORT"), "{out}");
        assert!(out.contains("modprobe nf_tables"), "{out}");
    }
    let out = host.fails(1, &["network", "connect", "outer", "inner1"]);
    assert!(out.contains("EPROTONOSUPPORT"), "{out}");
    host.ok(&["rm", "-f", "inner1", "inner2"]);
    drop(host);
    network.check();
}

#[test]
fn a_killed_monitor_and_rm_leave_neither_link_nor_table() {
    needs!("root", "ip", "nft");
    let network = own_network();
    let before = devices();
    let host = Host::new("ports-killed");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    serve(&host, "web1", &["-p", "8080:80"]);
    assert!(!tables().is_empty() && devices() != before);
    let status = std::fs::read_to_string(
        host.root
            .join("containers")
            .join(host.ok(&["ps", "-q", "--no-trunc"]))
            .join("status.json"),
    );
    let status: serde_json::Value = serde_json::from_str(&status.expect("a status")).expect("JSON");
    let monitor = status["Monitor"]
        .as_i64()
        .or(status["monitor"].as_i64())
        .expect("a monitor");
    let monitor = nix::unistd::Pid::from_raw(monitor as i32);
    nix::sys::signal::kill(monitor, nix::sys::signal::Signal::SIGKILL).expect("its monitor");
    // The container goes on, and with it its port; another monitor holds the port again.
    assert_eq!(ask_at("127.0.0.1:8080"), "served-by-web1");
    host.ok(&["pause", "web1"]);
    host.ok(&["unpause", "web1"]);
    assert_eq!(ask_at("127.0.0.1:8080"), "served-by-web1");
    let bound = TcpListener::bind("0.0.0.0:8080");
    assert!(bound.is_err(), "the new monitor does not hold the port");
    host.ok(&["rm", "-f", "web1"]);
    network.check();
}
