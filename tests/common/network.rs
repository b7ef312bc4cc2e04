//! A network namespace of a test's own.
//!
//! What it does: [`own_network`] moves the calling thread, and so every program that it starts from
//! then on, into a new network namespace with a loopback that is up. What a test makes there (bridges,
//! links, rules) is in nobody's way, and ends with the thread. [`OwnNetwork`] looks there for what was
//! left: when it is dropped there must be no device but those that were there before, and no table.
//!
//! Interface: [`own_network`], [`OwnNetwork`]. Read next: `leak.rs`.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

/// The namespace of this thread, and what it had at first.
#[derive(Debug)]
pub struct OwnNetwork {
    devices: BTreeSet<String>,
}

/// Moves this thread into a network namespace of its own. Needs root.
pub fn own_network() -> OwnNetwork {
    glassbox::sys::namespace::unshare(libc::CLONE_NEWNET as u64).expect("a network namespace");
    ip(&["link", "set", "lo", "up"]);
    OwnNetwork { devices: devices() }
}

/// `ip ARGS` in this thread's network namespace: its output.
#[track_caller]
pub fn ip(args: &[&str]) -> String {
    let out = Command::new("ip").args(args).output().expect("ip runs");
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "ip {args:?}: {error}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The names of the devices.
pub fn devices() -> BTreeSet<String> {
    let names = ip(&["-brief", "link"]);
    let names = names.lines().filter_map(|l| l.split([' ', '@']).next());
    names.map(str::to_string).collect()
}

/// The tables of nftables, where the program is there to list them.
pub fn tables() -> String {
    match Command::new("nft").args(["list", "tables"]).output() {
        Ok(out) => String::from_utf8_lossy(&out.stdout).into_owned(),
        Err(_) => String::new(),
    }
}

impl OwnNetwork {
    /// Fails when a device or a table is left; what is just going gets ten seconds.
    #[track_caller]
    pub fn check(&self) {
        let start = Instant::now();
        loop {
            let (devices, tables) = (devices(), tables());
            if devices == self.devices && tables.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the test left behind: {devices:?} {tables}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for OwnNetwork {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// The rest of the world: a network namespace behind a pair of links, which knows no way to anything
/// but this thread's namespace.
#[derive(Debug)]
pub struct World {
    namespace: std::fs::File,
    /// Its address.
    pub address: String,
    /// This side's.
    pub host: String,
}

impl World {
    /// Makes it, and the way there; this side's way out leads through it.
    pub fn new() -> World {
        let make = || {
            let flags = libc::CLONE_NEWNET as u64;
            glassbox::sys::namespace::unshare(flags).expect("a network namespace");
            ip(&["link", "set", "lo", "up"]);
            std::fs::File::open("/proc/thread-self/ns/net").expect("its file")
        };
        let namespace = std::thread::scope(|s| s.spawn(make).join().expect("made"));
        let world = World {
            namespace,
            address: "198.51.100.2".into(),
            host: "198.51.100.1".into(),
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&world.namespace);
        let path = format!("/proc/{}/fd/{fd}", std::process::id());
        let peer = ["peer", "name", "wan1", "netns", &path];
        ip(&[&["link", "add", "wan0", "type", "veth"][..], &peer].concat());
        ip(&["address", "add", "198.51.100.1/24", "dev", "wan0"]);
        ip(&["link", "set", "wan0", "up"]);
        ip(&["route", "add", "default", "via", "198.51.100.2"]);
        world.run(|| {
            ip(&["address", "add", "198.51.100.2/24", "dev", "wan1"]);
            ip(&["link", "set", "wan1", "up"]);
        });
        world
    }

    /// Does something out there, in a thread of its own.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        run_in(&self.namespace, act)
    }
}

/// Does something in another network namespace, in a thread of its own.
pub fn run_in<T: Send>(namespace: &std::fs::File, act: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        let flags = libc::CLONE_NEWNET as u64;
        glassbox::sys::namespace::setns(namespace, flags).expect("setns");
        act()
    };
    std::thread::scope(|s| s.spawn(inside).join().expect("it did not panic"))
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", "wan0"]).output();
    }
}
