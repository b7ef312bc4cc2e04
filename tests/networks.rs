//! Stage 7, networks: what is made, who reaches whom, and that nothing of it stays.
//!
//! Each test that makes links has a network namespace of its own (`common::network`), so the host's
//! is left alone, and what stays is seen.
//!
//! Read next: `network_ports.rs`; `src/containers/networks/mod.rs`.

mod common;

use common::network::{devices, ip, own_network};
use common::{Host, NO_NETWORK, Output, Run};

#[test]
fn networks_are_made_listed_and_removed() {
    let host = Host::new("network-cli");
    let names = |filter: &str| {
        let list = host.ok(&["network", "ls", "--format", "{{.Name}}", "--filter", filter]);
        list.lines().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(names("type=builtin"), ["bridge", "host", "none"]);
    let id = host.ok(&["network", "create", "--label", "tier=db", "back"]);
    assert_eq!(id.len(), 64);
    assert_eq!(
        host.ok(&["network", "ls", "-q", "--filter", "name=back"]),
        id[..12]
    );
    let flags = [
        "network",
        "create",
        "--subnet",
        "10.91.0.0/24",
        "--gateway",
        "10.91.0.254",
    ];
    let more = [
        "--ip-range",
        "10.91.0.128/25",
        "--aux-address",
        "router=10.91.0.129",
        "fixed",
    ];
    host.ok(&[&flags[..], &more].concat());
    assert_eq!(names("type=custom"), ["back", "fixed"]);
    assert_eq!(names("label=tier=db"), ["back"]);
    assert_eq!(names("driver=null"), ["none"]);
    let one = host.go(&["network", "inspect", "fixed"]).json();
    let pool = &one[0]["IPAM"]["Config"][0];
    assert_eq!(
        (&pool["Subnet"], &pool["Gateway"]),
        (&"10.91.0.0/24".into(), &"10.91.0.254".into())
    );
    assert_eq!(pool["IPRange"], "10.91.0.128/25");
    assert_eq!(pool["AuxiliaryAddresses"]["router"], "10.91.0.129");
    assert_eq!(one[0]["Containers"], serde_json::json!({}));
    // Two of docker's pools that overlap nothing.
    let subnet = |name: &str| {
        host.ok(&[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            name,
        ])
    };
    assert_ne!(subnet("back"), subnet("bridge"));
    for (command, words) in [
        (&["back"][..], "network with name back already exists"),
        (
            &["bridge"],
            "operation is not permitted on predefined bridge network",
        ),
        (
            &["--subnet", "10.91.0.0/16", "xx"],
            "Pool overlaps with other one on this address space",
        ),
        (
            &["--subnet", "10.92.0.0/24", "--gateway", "10.9.9.9", "xx"],
            "no matching subnet for gateway 10.9.9.9",
        ),
        (
            &["--driver", "ipvlan", "-o", "ipvlan_mode=l4", "xx"],
            "unknown ipvlan mode: \"l4\"",
        ),
        (&["--driver", "nope", "xx"], "plugin not found"),
        (
            &["--driver", "macvlan", "xx"],
            "a macvlan network needs a parent device",
        ),
        (
            &["-d", "ipvlan", "-o", "ipvlan_mode=l3s", "xx"],
            "a ipvlan network needs a parent device",
        ),
    ] {
        let out = host.fails(1, &[&["network", "create"], command].concat());
        assert!(out.contains(words), "{command:?}: {out}");
    }
    let out = host.fails(1, &["network", "rm", "bridge", "back"]);
    assert!(
        out.contains("bridge is a pre-defined network and cannot be removed"),
        "{out}"
    );
    let out = host.fails(1, &["network", "inspect", "nobody"]);
    assert!(out.contains("network nobody not found"), "{out}");
    let out = host.ok(&["network", "prune"]);
    assert!(out.contains("Deleted Networks:\nfixed"), "{out}");
    assert!(names("type=custom").is_empty());
}

#[test]
fn two_containers_of_a_network_reach_each_other_and_nothing_stays() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("network-two");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "aa",
        "--network",
        "web",
        "lab",
        "sleep",
        "300",
    ]);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "bb",
        "--network",
        "web,ip=10.91.0.77,mac-address=02:00:00:00:00:77",
        "lab",
        "sleep",
        "300",
    ]);
    let shown = |name: &str, key: &str| {
        let template = format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{key}}}}}{{{{end}}}}");
        host.ok(&["inspect", "-f", &template, name])
    };
    assert_eq!(shown("aa", "IPAddress"), "10.91.0.2");
    assert_eq!(shown("bb", "IPAddress"), "10.91.0.77");
    assert_eq!(shown("bb", "MacAddress"), "02:00:00:00:00:77");
    let link = host.ok(&["exec", "bb", "cat", "/sys/class/net/eth0/address"]);
    assert_eq!(link, "02:00:00:00:00:77");
    host.ok(&["exec", "aa", "ping", "-c", "1", "-w", "20", "10.91.0.77"]);
    host.ok(&["exec", "bb", "ping", "-c", "1", "-w", "20", "10.91.0.2"]);
    host.ok(&["exec", "bb", "ping", "-c", "1", "-w", "20", "10.91.0.1"]);
    let out = host.fails(1, &["network", "rm", "web"]);
    assert!(out.contains("has active endpoints (name:\""), "{out}");
    let inside = host.go(&["network", "inspect", "web"]).json();
    assert_eq!(inside[0]["Containers"].as_object().expect("a map").len(), 2);
    let bridge = inside[0]["Device"].as_str().expect("a name").to_string();
    assert!(devices().contains(&bridge), "{:?}", devices());
    host.ok(&["rm", "-f", "aa"]);
    assert!(devices().contains(&bridge), "b is in it still");
    host.ok(&["stop", "-t", "0", "bb"]);
    // A moment later, when nobody waits any more.
    network.check();
    host.ok(&["start", "bb"]);
    assert_eq!(shown("bb", "IPAddress"), "10.91.0.77");
    host.ok(&["rm", "-f", "bb"]);
    host.ok(&["network", "rm", "web"]);
    network.check();
}

#[test]
fn a_network_without_a_free_address_says_so() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("network-full");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/30", "small"]);
    host.ok(&[
        "run",
        "-d",
        "--name",
        "aa",
        "--network",
        "small",
        "lab",
        "sleep",
        "300",
    ]);
    let run = ["run", "--rm", "--network", "small", "lab", "true"];
    let out = host.fails(125, &run);
    assert!(
        out.contains("no available IPv4 addresses on this network's address pools: small"),
        "{out}"
    );
    let out = host.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "small",
            "--ip",
            "10.91.0.2",
            "lab",
            "true",
        ],
    );
    assert!(out.contains("Address already in use"), "{out}");
    let out = host.fails(
        125,
        &[
            "run",
            "--rm",
            "--network",
            "small",
            "--ip",
            "10.0.0.2",
            "lab",
            "true",
        ],
    );
    assert!(
        out.contains("no configured subnet contains IP address 10.0.0.2"),
        "{out}"
    );
    host.ok(&["rm", "-f", "aa"]);
    host.ok(&run);
    network.check();
}

#[test]
fn new_networks_go_around_the_hosts_routes() {
    needs!("root", "ip");
    let _network = own_network();
    ip(&["link", "add", "name", "uplink", "type", "bridge"]);
    ip(&["link", "set", "uplink", "up"]);
    ip(&["address", "add", "172.17.5.1/24", "dev", "uplink"]);
    ip(&["route", "add", "172.19.0.0/16", "via", "172.17.5.2"]);
    let host = Host::new("network-routes");
    let subnet = |name: &str| {
        host.ok(&[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            name,
        ])
    };
    assert_eq!(subnet("bridge"), "172.18.0.0/16");
    host.ok(&["network", "create", "one"]);
    assert_eq!(
        subnet("one"),
        "172.20.0.0/16",
        "the first is kept for the bridge"
    );
    assert_eq!(subnet("bridge"), "172.18.0.0/16");
    // Where scripts look for the address.
    let run = "run -d --network bridge --name aa lab sleep 300";
    host.ok(&run.split(' ').collect::<Vec<_>>());
    let short = "{{with .NetworkSettings}}{{.IPAddress}}/{{.IPPrefixLen}} {{.Gateway}}{{end}}";
    let told = host.ok(&["inspect", "-f", short, "aa"]);
    assert_eq!(told, "172.18.0.2/16 172.18.0.1");
    host.ok(&["rm", "-f", "aa"]);
    ip(&["link", "del", "uplink"]);
}

#[test]
fn a_container_in_several_networks_leaves_by_the_first() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("network-several");
    host.ok(&[
        "network",
        "create",
        "--internal",
        "--subnet",
        "10.91.0.0/24",
        "inner",
    ]);
    host.ok(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.92.0.0/24",
        "--subnet",
        "fd00:92::/64",
        "outer",
    ]);
    let script = "ip -4 route; ip -6 route; ip -6 addr show dev eth1";
    let out = host.ok(&[
        "run",
        "--rm",
        "--network",
        "inner",
        "--network",
        "outer",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.contains("default via 10.92.0.1 dev eth1"), "{out}");
    assert!(!out.contains("default via 10.91.0.1"), "{out}");
    assert!(out.contains("default via fd00:92::1 dev eth1"), "{out}");
    assert!(out.contains("fd00:92::2/64"), "{out}");
    network.check();
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    needs!("root", "ip");
    let network = own_network();
    let host = Host::new("network-connect");
    host.ok(&["network", "create", "--subnet", "10.91.0.0/24", "web"]);
    host.ok(&["network", "create", "--subnet", "10.92.0.0/24", "back"]);
    let sleep = ["lab", "sleep", "300"];
    host.ok(&[
        &["run", "-d", "--name", "web1", "--network", "web"][..],
        &sleep,
    ]
    .concat());
    host.ok(&[
        &["run", "-d", "--name", "back1", "--network", "back"][..],
        &sleep,
    ]
    .concat());
    host.ok(&["network", "connect", "--ip", "10.92.0.9", "back", "web1"]);
    host.ok(&["exec", "web1", "ping", "-c", "1", "-w", "20", "10.92.0.2"]);
    let route = || host.ok(&["exec", "web1", "ip", "-4", "route"]);
    assert!(
        route().contains("default via 10.91.0.1 dev eth0"),
        "{}",
        route()
    );
    let out = host.fails(1, &["network", "connect", "back", "web1"]);
    assert!(
        out.contains("endpoint with name web1 already exists in network back"),
        "{out}"
    );
    host.ok(&["network", "disconnect", "web", "web1"]);
    assert!(
        route().contains("default via 10.92.0.1 dev eth1"),
        "{}",
        route()
    );
    let out = host.fails(1, &["network", "disconnect", "web", "web1"]);
    assert!(
        out.contains("container web1 is not connected to network web"),
        "{out}"
    );
    // It comes back as it went.
    host.ok(&["restart", "-t", "0", "web1"]);
    let address = host.ok(&[
        "exec", "web1", "ip", "-4", "-o", "addr", "show", "dev", "eth0",
    ]);
    assert!(address.contains("10.92.0.9/24"), "{address}");
    let events = host.ok(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "type=network",
    ]);
    assert!(
        events.contains("network connect") && events.contains("network disconnect"),
        "{events}"
    );
    host.ok(&["rm", "-f", "web1", "back1"]);
    network.check();
}

/// A command as users run it, for whom nothing is set.
fn as_it_comes(host: &Host, args: &[&str]) -> Output {
    let run = Run::new(args).env("GLASSBOX_ROOT", host.root.path());
    run.env(NO_NETWORK.0, "").go()
}

#[test]
fn root_is_in_the_bridge_by_default_and_two_roots_do_not_meet() {
    needs!("root", "ip");
    let network = own_network();
    let (one, two) = (Host::new("default-one"), Host::new("default-two"));
    for (host, subnet) in [(&one, "172.17.0"), (&two, "172.18.0")] {
        let run = ["run", "-d", "--name", "box", "lab", "sleep", "300"];
        let out = as_it_comes(host, &run).success();
        assert_eq!(out.stderr, "", "{out}");
        let mode = host.ok(&["inspect", "-f", "{{.HostConfig.NetworkMode}}", "box"]);
        assert_eq!(mode, "bridge");
        let shown = host.ok(&["exec", "box", "ip", "-4", "addr", "show", "eth0"]);
        assert!(shown.contains(&format!("{subnet}.2/16")), "{shown}");
        let gateway = format!("{subnet}.1");
        host.ok(&["exec", "box", "ping", "-c", "1", "-w", "20", &gateway]);
    }
    one.ok(&["rm", "-f", "box"]);
    two.ok(&["exec", "box", "ping", "-c", "1", "-w", "20", "172.18.0.1"]);
    two.ok(&["rm", "-f", "box"]);
    network.check();
    // What the environment says goes for those that ask for nothing.
    let links = |value: &str, flags: &[&str]| {
        let args = [&["run", "--rm"], flags, &["lab", "ls", "/sys/class/net"]].concat();
        let run = Run::new(args).env("GLASSBOX_ROOT", one.root.path());
        run.env(NO_NETWORK.0, value).go()
    };
    links("none", &[]).success().out_is("lo");
    links("none", &["-p", "127.0.0.1::80"])
        .success()
        .out_is("eth0\nlo");
    links("none", &["--network", "bridge"])
        .success()
        .out_is("eth0\nlo");
    links("bridge", &[]).success().out_is("eth0\nlo");
    links("web", &[]).fails(
        125,
        &["GLASSBOX_NETWORK is \"web\"", "none, host or bridge"],
    );
}

#[test]
fn a_host_that_cannot_forward_gives_a_loopback_and_says_so() {
    needs!("root", "ip", "unshare", "mount");
    let network = own_network();
    let host = Host::new("default-refused");
    let script = r#"f=/proc/sys/net/ipv4/ip_forward; echo 0 > $f
        mount --bind $f $f && mount -o remount,bind,ro $f && exec "$@""#;
    let binary = common::binary();
    let binary = binary.to_str().expect("UTF-8");
    let with = |flags: &[&str]| {
        let unshare = [
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ];
        let run = [binary, "run", "--rm"];
        let args = [&unshare[..], &run, flags, &["lab", "ls", "/sys/class/net"]].concat();
        let run = Run::other("unshare", args).env("GLASSBOX_ROOT", host.root.path());
        run.env(NO_NETWORK.0, "").go()
    };
    let out = with(&[]).success();
    out.out_is("lo");
    out.err_has(
        "the container has no network but its loopback: net.ipv4.ip_forward is 0 and cannot be set",
    );
    assert_eq!(out.stderr.lines().count(), 1, "{out}");
    assert_eq!(with(&["--network", "none"]).success().stderr, "");
    // Who asks for it by name is refused.
    with(&["--network", "bridge"]).fails(125, &["ip_forward"]);
    network.check();
}

#[test]
fn a_bridge_that_the_host_had_before_stays() {
    needs!("root", "ip");
    let network = own_network();
    ip(&["link", "add", "host0", "type", "bridge"]);
    let host = Host::new("network-host-bridge");
    let name = "com.docker.network.bridge.name=host0";
    let args = ["network", "create", "--subnet", "10.94.0.0/24", "-o", name];
    host.ok(&[&args[..], &["old"]].concat());
    let out = host.ok(&["run", "--rm", "--network", "old", "lab", "ip", "-4", "addr"]);
    assert!(out.contains("10.94.0.2/24"), "{out}");
    host.ok(&["network", "rm", "old"]);
    assert!(devices().contains("host0"), "{:?}", devices());
    ip(&["link", "del", "host0"]);
    network.check();
}

#[test]
fn macvlan_puts_containers_on_the_wire_of_a_device() {
    needs!("root", "ip");
    let network = own_network();
    wire();
    let host = Host::new("network-macvlan");
    let args = ["network", "create", "-d", "macvlan", "-o", "parent=wire0"];
    host.ok(&[&args[..], &["--subnet", "10.93.0.0/24", "wire"]].concat());
    let args = ["run", "-d", "--name", "one", "--network", "wire"];
    host.ok(&[&args[..], &["lab", "sleep", "300"]].concat());
    let script = "ip -4 addr show dev eth0; ping -c 1 -W 20 10.93.0.2";
    let out = host.ok(&[
        "run",
        "--rm",
        "--network",
        "wire",
        "lab",
        "sh",
        "-c",
        script,
    ]);
    assert!(out.contains("10.93.0.3/24"), "{out}");
    assert!(out.contains("1 packets received"), "{out}");
    host.ok(&["rm", "-f", "one"]);
    host.ok(&["network", "rm", "wire"]);
    ip(&["link", "del", "wire0"]);
    network.check();
    // Gone, it is missed by its name.
    let args = ["network", "create", "-d", "macvlan", "-o", "parent=wire0"];
    let out = host.fails(
        1,
        &[&args[..], &["--subnet", "10.93.0.0/24", "gone"]].concat(),
    );
    assert!(out.contains("there is no device wire0"), "{out}");
}

/// A pair of links whose one end plays a device of the host's: both are up.
fn wire() {
    let pair = ["type", "veth", "peer", "name", "wire1"];
    ip(&[&["link", "add", "wire0"][..], &pair].concat());
    ip(&["link", "set", "wire0", "up"]);
    ip(&["link", "set", "wire1", "up"]);
}

/// What a dry run says of the container's place in this network.
fn planned(host: &Host, network: &str) -> String {
    host.ok(&[
        "run",
        "--dry-run",
        "--json",
        "--network",
        network,
        "lab",
        "true",
    ])
}

#[test]
fn ipvlan_shares_the_hardware_address_of_a_device() {
    needs!("root", "ip");
    let network = own_network();
    wire();
    let host = Host::new("network-ipvlan");
    let make = |name: &str, mode: &str, subnet: &str| {
        let args = ["network", "create", "-d", "ipvlan", "-o", "parent=wire0"];
        host.ok(&[&args[..], &["-o", mode, "--subnet", subnet, name]].concat());
    };
    make("flat", "ipvlan_mode=l2", "10.93.0.0/24");
    make("routed", "ipvlan_mode=l3", "10.94.0.0/24");
    let plan = planned(&host, "flat");
    assert!(
        plan.contains("eth0 (ipvlan of wire0, l2, bridge), up, beside INIT"),
        "{plan}"
    );
    assert!(plan.contains("default via 10.93.0.1 dev eth0"), "{plan}");
    let plan = planned(&host, "routed");
    assert!(
        plan.contains("eth0 (ipvlan of wire0, l3, bridge), up, beside INIT"),
        "{plan}"
    );
    assert!(plan.contains("default dev eth0"), "{plan}");
    let mac = ["--mac-address", "02:00:00:00:00:07", "--network", "flat"];
    let out = host.fails(
        125,
        &[&["run", "--rm"], &mac[..], &["lab", "true"]].concat(),
    );
    assert!(out.contains("have the hardware address of wire0"), "{out}");
    // What the kernel itself says, so that a fault of ours is not taken for one of its own.
    let probe = [
        "link", "add", "link", "wire0", "name", "probe0", "type", "ipvlan",
    ];
    let probe = std::process::Command::new("ip").args(probe).output();
    if !probe.expect("ip runs").status.success() {
        let out = host.fails(125, &["run", "--rm", "--network", "flat", "lab", "true"]);
        assert!(
            out.contains("cannot connect the container to the network flat"),
            "{out}"
        );
        assert!(out.contains("`modprobe ipvlan`"), "{out}");
        ip(&["link", "del", "wire0"]);
        network.check();
        return common::skip("needs ipvlan: this kernel has no links of that kind");
    }
    ip(&["link", "del", "probe0"]);
    for (name, way, other) in [
        ("flat", "default via 10.93.0.1 dev eth0", "10.93.0.2"),
        ("routed", "default dev eth0", "10.94.0.2"),
    ] {
        let args = ["run", "-d", "--name", name, "--network", name];
        host.ok(&[&args[..], &["lab", "sleep", "300"]].concat());
        let script = format!("ip -4 addr show eth0; ip route; ping -c 1 -W 20 {other}");
        let shell = ["lab", "sh", "-c", &script];
        let out = host.ok(&[&["run", "--rm", "--network", name][..], &shell].concat());
        let own = other.replace(".2", ".3/24");
        assert!(out.contains(&own), "{out}");
        assert!(out.contains(way), "{out}");
        assert!(out.contains("1 packets received"), "{out}");
        let path = "/sys/class/net/eth0/address";
        let inside = host.ok(&["exec", name, "cat", path]);
        let outside = ip(&["-brief", "link", "show", "wire0"]);
        assert!(outside.contains(&inside), "{outside}: {inside}");
        let template = "{{range .NetworkSettings.Networks}}{{.MacAddress}} {{.Gateway}}{{end}}";
        let shown = host.ok(&["inspect", "-f", template, name]);
        let gateway = if name == "flat" { "10.93.0.1" } else { "" };
        assert_eq!(shown.trim_end(), format!("{inside} {gateway}").trim_end());
        host.ok(&["rm", "-f", name]);
    }
    host.ok(&["network", "rm", "flat", "routed"]);
    ip(&["link", "del", "wire0"]);
    network.check();
}
