//! Names in networks: who is found by which name, what others are asked, and the files about it.
//!
//! The questions are asked as the container's program would ask them: from a thread that has entered
//! its network namespace, at 127.0.0.11. Each test has a network namespace of its own
//! (`common::network`), in which a stub of a few lines is the host's resolver.
//!
//! Host only: what it asks of the kernel, networks.rs asks in the machine.
//!
//! Read next: `names_rootless.rs`; `src/network/dns/mod.rs`, `src/containers/name_service.rs`.

mod common;

use common::Host;
use common::network::own_network;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, ResourceRecord, TYPE};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);
/// Far more than an answer takes, also when two busy loops have the machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was answered: the code, whether it was cut, the addresses and names.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    code: RCODE,
    cut: bool,
    data: Vec<String>,
}

fn found(data: &[&str]) -> Answer {
    Answer {
        code: RCODE::NoError,
        cut: false,
        data: data.iter().map(|d| d.to_string()).collect(),
    }
}

fn query(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(4711);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).expect("a name");
    let question = Question::new(name, kind.into(), CLASS::IN.into(), false);
    packet.questions.push(question);
    packet.build_bytes_vec().expect("a message")
}

fn read(bytes: &[u8]) -> Answer {
    let packet = Packet::parse(bytes).expect("a message");
    assert_eq!(packet.id(), 4711);
    let data = packet.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::PTR(p) => p.0.to_string(),
        other => format!("{other:?}"),
    });
    Answer {
        code: packet.rcode(),
        cut: packet.has_flags(PacketFlag::TRUNCATION),
        data: data.collect(),
    }
}

fn over_udp(query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect(SERVER).expect("a way");
    socket.send(query).expect("sent");
    let mut buffer = vec![0; 65535];
    let n = socket.recv(&mut buffer).expect("an answer");
    buffer.truncate(n);
    buffer
}

fn over_tcp(query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SERVER).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    send_whole(&mut stream, query);
    receive_whole(&mut stream).expect("an answer")
}

fn send_whole(stream: &mut TcpStream, message: &[u8]) {
    let length = (message.len() as u16).to_be_bytes();
    stream
        .write_all(&[&length[..], message].concat())
        .expect("sent");
}

fn receive_whole(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Runs `work` in the network of a container.
fn inside<T: Send + 'static>(
    host: &Host,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let pid = host.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
    let enter = move || {
        glassbox::sys::namespace::setns(&namespace, libc::CLONE_NEWNET as u64).expect("setns");
        work()
    };
    std::thread::spawn(enter).join().expect("an answer")
}

fn ask(host: &Host, from: &str, name: &str, kind: TYPE) -> Answer {
    let query = query(name, kind);
    inside(host, from, move || read(&over_udp(&query)))
}

fn ask_over_tcp(host: &Host, from: &str, name: &str) -> Answer {
    let query = query(name, TYPE::A);
    inside(host, from, move || read(&over_tcp(&query)))
}

/// `run -d --name NAME FLAGS lab sleep 1000`
fn start(host: &Host, name: &str, flags: &[&str]) {
    let args = [
        &["run", "-d", "--name", name],
        flags,
        &["lab", "sleep", "1000"],
    ];
    host.ok(&args.concat());
}

fn address(host: &Host, name: &str, network: &str) -> String {
    let template = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    host.ok(&["inspect", "-f", &template, name])
}

/// A resolver on 127.0.0.1, port 53, of this thread's network namespace: it knows every name below
/// `example`, over TCP with one address more, and what begins with `long` only over TCP.
struct Stub {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Stub {
    fn start() -> Stub {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
        let udp = UdpSocket::bind(address).expect("port 53");
        let tcp = TcpListener::bind(address).expect("port 53");
        udp.set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        tcp.set_nonblocking(true).expect("non-blocking");
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (halt, count) = (stop.clone(), asked.clone());
        let datagrams = move || {
            let mut buffer = [0; 4096];
            while !halt.load(Ordering::Relaxed) {
                if let Ok((n, from)) = udp.recv_from(&mut buffer) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = udp.send_to(&stub_answer(&buffer[..n], false), from);
                }
            }
        };
        let (halt, count) = (stop.clone(), asked.clone());
        let connections = move || {
            while !halt.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                stream.set_nonblocking(false).expect("blocking");
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                if let Ok(query) = receive_whole(&mut stream) {
                    count.fetch_add(1, Ordering::Relaxed);
                    send_whole(&mut stream, &stub_answer(&query, true));
                }
            }
        };
        let threads = vec![
            std::thread::spawn(datagrams),
            std::thread::spawn(connections),
        ];
        Stub {
            stop,
            asked,
            threads,
        }
    }
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // what it asserted has failed the test already
        }
    }
}

fn stub_answer(query: &[u8], tcp: bool) -> Vec<u8> {
    let query = Packet::parse(query).expect("a question");
    let mut reply = Packet::new_reply(query.id());
    reply.questions = query.questions.clone();
    let name = query.questions[0].qname.clone();
    let text = name.to_string();
    if !text.ends_with("example") {
        *reply.rcode_mut() = RCODE::NameError;
    } else if text.starts_with("long") && !tcp {
        reply.set_flags(PacketFlag::TRUNCATION);
    } else {
        for last in 1..=1 + u8::from(tcp) {
            let address = Ipv4Addr::new(192, 0, 2, last).into();
            let data = RData::A(A { address });
            let record = ResourceRecord::new(name.clone(), CLASS::IN, 60, data);
            reply.answers.push(record);
        }
    }
    reply.build_bytes_vec().expect("a message")
}

#[test]
fn a_container_is_found_by_name_id_alias_and_host_name() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names");
    host.ok(&["network", "create", "back"]);
    let flags = [
        "--network",
        "back",
        "--network-alias",
        "store",
        "-h",
        "dbhost",
    ];
    start(&host, "db", &flags);
    start(&host, "web", &["--network", "back", "--link", "db:mydb"]);
    let address = address(&host, "db", "back");
    let id = host.ok(&["inspect", "-f", "{{.Id}}", "db"]);
    for name in [
        "db",
        "DB",
        "store",
        "dbhost",
        &id[..12],
        "db.back",
        "store.back",
        "mydb",
    ] {
        assert_eq!(
            ask(&host, "web", name, TYPE::A),
            found(&[&address]),
            "{name}"
        );
    }
    assert_eq!(ask_over_tcp(&host, "web", "db"), found(&[&address]));
    // It has no IPv6 address, and nobody else is asked for one.
    assert_eq!(ask(&host, "web", "db", TYPE::AAAA), found(&[]));
    // Its own name too; and the link is the other's alone.
    assert_eq!(ask(&host, "db", "db", TYPE::A), found(&[&address]));
    assert_ne!(ask(&host, "db", "mydb", TYPE::A), found(&[&address]));
    let octets: Vec<&str> = address.split('.').rev().collect();
    let reverse = format!("{}.in-addr.arpa", octets.join("."));
    assert_eq!(ask(&host, "web", &reverse, TYPE::PTR), found(&["db.back"]));
    // Names go with their containers, and follow a rename.
    host.ok(&["rename", "db", "base"]);
    let end = Instant::now() + PATIENCE;
    while ask(&host, "web", "base", TYPE::A) != found(&[&address]) {
        assert!(Instant::now() < end, "the new name is not known");
        std::thread::sleep(Duration::from_millis(50));
    }
    host.ok(&["rm", "-f", "base"]);
    assert_ne!(ask(&host, "web", "store", TYPE::A).data, [address]);
    host.ok(&["rm", "-f", "web"]);
    host.ok(&["network", "rm", "back"]);
}

#[test]
fn those_who_share_an_alias_take_turns() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-turns");
    host.ok(&["network", "create", "net1"]);
    let flags = ["--network", "net1", "--network-alias", "api"];
    start(&host, "one", &flags);
    start(&host, "two", &flags);
    let both = [address(&host, "one", "net1"), address(&host, "two", "net1")];
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let mut data = ask(&host, "one", "api", TYPE::A).data;
        first.insert(data[0].clone());
        data.sort();
        assert_eq!(data, both);
    }
    assert_eq!(first.len(), 2, "each of them comes first");
    host.ok(&["rm", "-f", "one", "two"]);
}

#[test]
fn a_container_in_two_networks_knows_both_and_others_their_own() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-two");
    host.ok(&["network", "create", "front"]);
    host.ok(&["network", "create", "--internal", "back"]);
    start(&host, "web", &["--network", "front"]);
    start(&host, "db", &["--network", "back"]);
    start(&host, "app", &["--network", "front", "--network", "back"]);
    let (web, db) = (address(&host, "web", "front"), address(&host, "db", "back"));
    let app = address(&host, "app", "front");
    assert_eq!(ask(&host, "app", "web", TYPE::A), found(&[&web]));
    assert_eq!(ask(&host, "app", "db", TYPE::A), found(&[&db]));
    assert_eq!(ask(&host, "web", "app", TYPE::A), found(&[&app]));
    assert!(ask(&host, "web", "db", TYPE::A).data.is_empty());
    assert!(ask(&host, "db", "web", TYPE::A).data.is_empty());
    host.ok(&["rm", "-f", "web", "db", "app"]);
}

#[test]
fn other_names_are_asked_of_the_resolvers_and_not_from_internal_networks() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-forward");
    let stub = Stub::start();
    host.ok(&["network", "create", "net1"]);
    host.ok(&["network", "create", "--internal", "inner"]);
    start(&host, "box", &["--network", "net1", "--dns", "127.0.0.1"]);
    let one = found(&["192.0.2.1"]);
    assert_eq!(ask(&host, "box", "www.example", TYPE::A), one);
    let nobody = ask(&host, "box", "nobody.test", TYPE::A);
    assert_eq!((nobody.code, nobody.data.len()), (RCODE::NameError, 0));
    // What is too long for a datagram comes back cut, and whole over TCP.
    assert!(ask(&host, "box", "long.example", TYPE::A).cut);
    let two = found(&["192.0.2.1", "192.0.2.2"]);
    assert_eq!(ask_over_tcp(&host, "box", "long.example"), two);
    // A resolver that is not there is passed over.
    let flags = [
        "--network",
        "net1",
        "--dns",
        "127.0.0.9",
        "--dns",
        "127.0.0.1",
    ];
    start(&host, "second", &flags);
    assert_eq!(ask(&host, "second", "www.example", TYPE::A), one);
    assert_eq!(ask_over_tcp(&host, "second", "www.example"), two);
    let before = stub.asked();
    start(
        &host,
        "inner",
        &["--network", "inner", "--dns", "127.0.0.1"],
    );
    let refused = ask(&host, "inner", "www.example", TYPE::A);
    assert_eq!(refused.code, RCODE::ServerFailure);
    assert_eq!(stub.asked(), before, "nobody was asked");
    host.ok(&["rm", "-f", "box", "second", "inner"]);
}

#[test]
fn names_are_answered_again_after_the_monitor_was_killed() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-killed");
    host.ok(&["network", "create", "net1"]);
    start(&host, "box", &["--network", "net1"]);
    let address = address(&host, "box", "net1");
    assert_eq!(ask(&host, "box", "box", TYPE::A), found(&[&address]));
    let id = host.ok(&["inspect", "-f", "{{.Id}}", "box"]);
    let monitor = || {
        let path = host.root.join(format!("containers/{id}/status.json"));
        let text = std::fs::read_to_string(path).expect("a status");
        let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        status["Monitor"].as_i64().expect("a number") as i32
    };
    let first = monitor();
    let pid = nix::unistd::Pid::from_raw(first);
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("it lives");
    let end = Instant::now() + PATIENCE;
    let ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{first}/stat"));
        stat.map_or(true, |s| s.contains(") Z "))
    };
    while !ended() {
        assert!(Instant::now() < end, "the monitor does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Any command puts that right; another monitor takes over.
    host.ok(&["ps"]);
    assert_ne!(monitor(), first);
    assert_eq!(ask(&host, "box", "box", TYPE::A), found(&[&address]));
    assert_eq!(ask_over_tcp(&host, "box", "box"), found(&[&address]));
    host.ok(&["rm", "-f", "box"]);
}

#[test]
fn a_restarted_program_has_its_names_again() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-restart");
    host.ok(&["network", "create", "net1"]);
    start(&host, "box", &["--network", "net1", "--restart", "always"]);
    let first = host.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let pid = nix::unistd::Pid::from_raw(first.parse().expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("it lives");
    let end = Instant::now() + PATIENCE;
    loop {
        let state = host.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "box"]);
        if state.starts_with("running ") && !state.ends_with(&format!(" {first}")) {
            break;
        }
        assert!(Instant::now() < end, "not restarted: {state}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let address = address(&host, "box", "net1");
    assert_eq!(ask(&host, "box", "box", TYPE::A), found(&[&address]));
    let hosts = host.ok(&["exec", "box", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{address}\t")), "{hosts}");
    host.ok(&["rm", "-f", "box"]);
}

#[test]
fn the_files_say_whom_to_ask_and_what_is_known() {
    needs!("root", "ip");
    let _network = own_network();
    let host = Host::new("names-files");
    let file = |flags: &[&str], file: &str| host.sh(flags, &format!("cat /etc/{file}"));
    host.ok(&["network", "create", "net1"]);
    let own = [
        "--network",
        "net1",
        "--dns-search",
        "corp",
        "--dns-opt",
        "rotate",
    ];
    let conf = file(&own, "resolv.conf");
    for line in ["nameserver 127.0.0.11", "search corp"] {
        assert!(conf.lines().any(|l| l == line), "{line:?} in {conf}");
    }
    assert!(
        conf.contains("rotate") && conf.contains("ndots:0"),
        "{conf}"
    );
    let conf = file(
        &["--network", "bridge", "--dns", "192.0.2.9"],
        "resolv.conf",
    );
    assert!(
        conf.contains("nameserver 192.0.2.9") && !conf.contains("127.0.0.11"),
        "{conf}"
    );
    let none = file(&["--network", "none"], "resolv.conf");
    let of_host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(none.trim_end(), of_host.trim_end());

    let flags = ["--network", "net1", "-h", "box", "--domainname", "lan"];
    let more = [
        "--add-host",
        "db:10.0.0.9",
        "--add-host",
        "outside:host-gateway",
    ];
    let script = "cat /etc/hosts; cat /etc/hostname; hostname -i 2>/dev/null; ip -4 addr show eth0; ip route";
    let text = host.sh(&[&flags[..], &more].concat(), script);
    let has = |line: &str| text.lines().any(|l| l == line);
    assert!(
        has("10.0.0.9\tdb") && has("box") && has("127.0.0.1\tlocalhost"),
        "{text}"
    );
    let own = text.lines().find_map(|l| l.strip_suffix("\tbox.lan box"));
    let own = own.unwrap_or_else(|| panic!("no line for its own name: {text}"));
    assert!(text.contains(&format!("inet {own}/")), "{text}");
    let gateway = text.lines().find_map(|l| l.strip_suffix("\toutside"));
    let gateway = gateway.unwrap_or_else(|| panic!("no host-gateway: {text}"));
    assert!(text.contains(&format!("default via {gateway} ")), "{text}");
    // On the default bridge, --link is a line of the file.
    start(&host, "cache", &["--network", "bridge"]);
    let linked = address(&host, "cache", "bridge");
    let hosts = file(&["--network", "bridge", "--link", "cache:redis"], "hosts");
    let line = hosts
        .lines()
        .find(|l| l.starts_with(&format!("{linked}\t")));
    let line = line.unwrap_or_else(|| panic!("no line for {linked}: {hosts}"));
    assert!(line.contains("redis") && line.contains("cache"), "{line}");
    host.ok(&["rm", "-f", "cache"]);
    for (flags, words) in [
        (["--dns", "here"], "here is not an ip address"),
        (["--dns-opt", ""], "invalid value for --dns-opt"),
        (["--dns-search", "a b"], "a b is not a valid domain"),
        (["--add-host", "db"], "bad format for add-host"),
        (["--link", "a:b:c"], "bad format for links: a:b:c"),
    ] {
        let error = host.fails(
            125,
            &[&["run", "--rm"][..], &flags, &["lab", "true"]].concat(),
        );
        assert!(error.contains(words), "{flags:?}: {error}");
    }
}
