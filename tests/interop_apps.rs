//! Real server programs, as their packages leave them, used as somebody would who has a service to
//! run: a web server behind a published port, a data base whose container is replaced, a cache that
//! its client finds by name.
//!
//! The image comes from `tests/fixtures/apps-image`; `GLASSBOX_APPS_IMAGES` names a ready one, as
//! `.ci/run` makes it. Each test has a network namespace of its own (`common::network`).
//!
//! Host only: real servers take minutes on an emulated processor.
//!
//! Read next: `tests/fixtures/apps-image`, `names.rs`.

mod common;

use common::network::own_network;
use common::{LeakCheck, Output, Run, TempRoot};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// A data base writes itself anew on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A state root with the image loaded. Tests that run at the same time share it; the last one
/// removes it, and checks for leaks first.
struct Apps {
    _leaks: LeakCheck,
    root: TempRoot,
}

impl Apps {
    /// Says why, and is none, where there is no image.
    #[track_caller]
    fn loaded() -> Option<Arc<Apps>> {
        static SHARED: Mutex<Weak<Apps>> = Mutex::new(Weak::new());
        let Some(tar) = std::env::var_os("GLASSBOX_APPS_IMAGES") else {
            common::skip("needs apps: GLASSBOX_APPS_IMAGES, made by tests/fixtures/apps-image");
            return None;
        };
        let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(apps) = shared.upgrade() {
            return Some(apps);
        }
        let root = TempRoot::new("apps");
        let leaks = LeakCheck::new(&root);
        let apps = Arc::new(Apps {
            _leaks: leaks,
            root,
        });
        apps.ok(&["image", "load", "-i", &tar.to_string_lossy()]);
        *shared = Arc::downgrade(&apps);
        Some(apps)
    }
    /// One test at a time: the packet filter's table of a state root goes with its last network, and
    /// here each test has a network namespace of its own.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(|e| e.into_inner())
    }
    fn go(&self, args: &[&str]) -> Output {
        Run::new(args)
            .env("GLASSBOX_ROOT", self.root.path())
            .limit(PATIENCE)
            .go()
    }
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        self.go(args).success().stdout.trim_end().to_string()
    }
    /// Repeats a command until it succeeds and prints `expected`: a server takes its time to begin.
    #[track_caller]
    fn until(&self, expected: &str, args: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let out = self.go(args);
            if out.code() == 0 && out.stdout.contains(expected) {
                return;
            }
            assert!(Instant::now() < end, "never {expected:?}: {out}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Apps {
    /// What a failed test left running, so that it does not stay on the machine.
    fn drop(&mut self) {
        let left = self.go(&["ps", "-aq"]).stdout;
        let ids: Vec<&str> = left.split_whitespace().collect();
        if !ids.is_empty() {
            self.go(&[&["rm", "-f"][..], &ids].concat());
        }
    }
}

#[test]
fn a_data_base_keeps_its_data_when_its_container_is_replaced() {
    needs!("root", "ip");
    let Some(apps) = Apps::loaded() else { return };
    let _turn = Apps::turn();
    let network = own_network();
    apps.ok(&["network", "create", "data"]);
    // The cluster that the package has made, on a volume that begins with it.
    let bin = |name: &str| format!("/usr/lib/postgresql/15/bin/{name}");
    let place = "/var/lib/postgresql/15/main";
    let volume = format!("pg:{place}");
    let (postgres, psql, pg_isready) = (bin("postgres"), bin("psql"), bin("pg_isready"));
    let begin = || {
        let flags = [
            "run",
            "-d",
            "--name",
            "db",
            "--network",
            "data",
            "-u",
            "postgres",
        ];
        let more = [
            "-v",
            &volume,
            "--shm-size",
            "128m",
            "apps-test",
            &postgres,
            "-D",
            place,
        ];
        let config = "config_file=/etc/postgresql/15/main/postgresql.conf";
        let settings = [
            "-c",
            config,
            "-c",
            "unix_socket_directories=/tmp",
            "-c",
            "ssl=off",
        ];
        apps.ok(&[&flags[..], &more, &settings].concat());
        let ready = ["exec", "db", &pg_isready, "-h", "/tmp"];
        apps.until("accepting connections", &ready);
    };
    let sql = |text: &str| apps.ok(&["exec", "db", &psql, "-h", "/tmp", "-tAc", text]);
    begin();
    sql("create table stars (name text); insert into stars values ('Vega'), ('Deneb')");
    let first = apps.ok(&["inspect", "-f", "{{.Id}}", "db"]);
    apps.ok(&["stop", "-t", "60", "db"]);
    apps.ok(&["rm", "db"]);
    begin();
    assert_ne!(apps.ok(&["inspect", "-f", "{{.Id}}", "db"]), first);
    assert_eq!(
        sql("select string_agg(name, ',' order by name) from stars"),
        "Deneb,Vega"
    );
    apps.ok(&["rm", "-f", "db"]);
    apps.ok(&["volume", "rm", "pg"]);
    apps.ok(&["network", "rm", "data"]);
    drop(network);
}

#[test]
fn a_web_server_answers_on_its_published_port() {
    needs!("root", "ip");
    let Some(apps) = Apps::loaded() else { return };
    let _turn = Apps::turn();
    let network = own_network();
    apps.ok(&["network", "create", "web"]);
    let flags = [
        "run",
        "-d",
        "--name",
        "nginx",
        "--network",
        "web",
        "-p",
        "8080:80",
    ];
    apps.ok(&[&flags[..], &["apps-test", "nginx", "-g", "daemon off;"]].concat());
    let end = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        if let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, 8080)) {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n"); // an answer says how it went
            let _ = stream.read_to_string(&mut text);
        }
        if text.starts_with("HTTP/1.1 200 OK") {
            assert!(text.contains("Welcome to nginx"), "{text}");
            break;
        }
        assert!(Instant::now() < end, "never an answer: {text:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    apps.until(
        "GET / HTTP/1.0",
        &["exec", "nginx", "cat", "/var/log/nginx/access.log"],
    );
    apps.ok(&["rm", "-f", "nginx"]);
    apps.ok(&["network", "rm", "web"]);
    drop(network);
}

#[test]
fn a_cache_is_found_by_its_name() {
    needs!("root", "ip");
    let Some(apps) = Apps::loaded() else { return };
    let _turn = Apps::turn();
    let network = own_network();
    apps.ok(&["network", "create", "cache"]);
    let server = ["redis-server", "--save", "", "--protected-mode", "no"];
    let flags = [
        "run",
        "-d",
        "--name",
        "redis",
        "--network",
        "cache",
        "--network-alias",
        "store",
    ];
    apps.ok(&[&flags[..], &["apps-test"], &server].concat());
    let client = [
        "run",
        "--rm",
        "--network",
        "cache",
        "apps-test",
        "redis-cli",
        "-h",
    ];
    apps.until("PONG", &[&client[..], &["redis", "ping"]].concat());
    let set = [&client[..], &["store", "set", "star", "Vega"]].concat();
    assert_eq!(apps.ok(&set), "OK");
    let get = [&client[..], &["redis.cache", "get", "star"]].concat();
    assert_eq!(apps.ok(&get), "Vega");
    apps.ok(&["rm", "-f", "redis"]);
    apps.ok(&["network", "rm", "cache"]);
    drop(network);
}
