//! Stage 7, networks: several state roots on one host.
//!
//! Read next: `networks.rs`; `lock_host` in `src/containers/networks/record.rs`.

mod common;

use common::Host;
use common::network::{ip, own_network};

/// Roots know nothing of each other: the host is what they agree by, even in the same instant, and also
/// when one comes back to a subnet that the other has taken meanwhile.
#[test]
fn two_roots_that_start_at_once_have_different_subnets() {
    needs!("root", "ip");
    let network = own_network();
    let roots = [Host::new("subnets-a"), Host::new("subnets-b")];
    for host in &roots {
        host.ok(&["run", "--rm", "--network", "none", "lab", "true"]); // makes the image
    }
    let start = |host: &Host| {
        let words = ["run", "-d", "--name", "box", "--network", "bridge"];
        host.ok(&[&words[..], &["lab", "sleep", "1000"]].concat());
        host.ok(&["network", "inspect", "-f", SUBNET, "bridge"])
    };
    for round in 0..10 {
        let both = std::thread::scope(|s| {
            let threads = roots.each_ref().map(|host| s.spawn(|| start(host)));
            threads.map(|t| t.join().expect("it starts"))
        });
        assert_ne!(both[0], both[1], "round {round}");
        for host in &roots {
            host.ok(&["rm", "-f", "box"]);
            if round % 2 == 0 {
                // As if it had never had a network.
                std::fs::remove_dir_all(host.root.join("networks")).expect("its networks");
            }
        }
    }
    // Its subnet is free now, and somebody else takes it.
    let theirs = start(&roots[0]);
    roots[0].ok(&["rm", "-f", "box"]);
    network.check();
    ip(&["link", "add", "theirs", "type", "bridge"]);
    ip(&["link", "set", "theirs", "up"]);
    ip(&["route", "add", &theirs, "dev", "theirs"]);
    assert_ne!(start(&roots[0]), theirs);
    roots[0].ok(&["rm", "-f", "box"]);
    ip(&["link", "del", "theirs"]);
    network.check();
}

/// A template of `network inspect`.
const SUBNET: &str = "{{range .IPAM.Config}}{{.Subnet}}{{end}}";
