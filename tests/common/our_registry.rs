//! Our registry, started for one test, and a client that says exactly what the test wants.
//!
//! What it does: starts `glassbox registry serve` on a port that the kernel chooses and reads the
//! port from its log. It ends when it is dropped. Requests are written by hand, one a connection.
//!
//! Interface: [`OurRegistry`], [`Reply`]. Read next: `tests/registry_server.rs`.

use super::peers::Peers;
use super::{Output, TempRoot, binary, run};
use glassbox::spec::digest::Digest;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry that runs.
pub struct OurRegistry {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    /// Its data.
    pub data: PathBuf,
    log: PathBuf,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl OurRegistry {
    /// One whose data is `root/data`, with flags of the test's own.
    pub fn start(root: &TempRoot, flags: &[&str]) -> OurRegistry {
        OurRegistry::start_at(root, "data", flags)
    }

    /// One with its data in this directory below `root`.
    pub fn start_at(root: &TempRoot, data: &str, flags: &[&str]) -> OurRegistry {
        OurRegistry::start_by(root, data, &[], flags)
    }

    /// The same, started by another program that becomes ours: `prlimit --nofile=…`.
    pub fn start_by(root: &TempRoot, data: &str, by: &[&str], flags: &[&str]) -> OurRegistry {
        let log = root.join(format!("{data}.log"));
        let data = root.join(data);
        let program = binary().into_os_string();
        let mut words: Vec<&std::ffi::OsStr> = by.iter().map(std::ffi::OsStr::new).collect();
        words.push(&program);
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(["registry", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("our binary starts");
        OurRegistry::listening(child, data, log)
    }

    /// What `registry gc` with these flags does beside it.
    pub fn gc(&self, flags: &[&str]) -> Output {
        let data = self.data.display().to_string();
        run([&["registry", "gc", "--data", &data], flags].concat())
    }

    /// One in the place of other engines, whose loopback is not this host's: it cannot be asked from
    /// here.
    pub fn start_in(peers: &Peers, data: &str, flags: &[&str]) -> OurRegistry {
        let (program, place) = (binary().display().to_string(), peers.path(data));
        let serve = [
            "registry",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data",
            &place,
        ];
        let log = format!("{data}.log");
        let child = peers.spawn(&log, &[&[program.as_str()], &serve[..], flags].concat());
        OurRegistry::listening(child, peers.root.join(data), peers.root.join(log))
    }

    fn listening(child: Child, data: PathBuf, log: PathBuf) -> OurRegistry {
        let mut registry = OurRegistry {
            child,
            address: String::new(),
            data,
            log,
        };
        let until = Instant::now() + Duration::from_secs(30);
        while registry.address.is_empty() {
            let text = registry.log();
            let found = text
                .split("listening on http")
                .nth(1)
                .and_then(|t| t.split("://").nth(1));
            if let Some(line) = found.and_then(|t| t.split_once(['\n', '"'])) {
                registry.address = line.0.trim().into();
            }
            let ended = registry.child.try_wait().expect("our child");
            assert!(ended.is_none(), "the registry ended: {text}");
            assert!(
                Instant::now() < until,
                "the registry does not listen: {text}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        registry
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// One of its counters, by its name without the prefix; several of a family are added up.
    pub fn counter(&self, name: &str) -> u64 {
        let text = self.get("/metrics").has(200).body;
        let text = String::from_utf8(text).expect("text");
        let name = format!("glassbox_registry_{name}");
        let values = text
            .lines()
            .filter(|l| l.starts_with(&name))
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; its exit status.
    pub fn end(&mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the registry does not end: {}", self.log());
    }

    /// The name of a repository here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// A connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the registry listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time limit");
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .expect("a time limit");
        stream
    }

    /// Asks, with these headers beside Host, Content-Length and Connection.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        if !matches!(method, "GET" | "HEAD" | "DELETE") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream
            .write_all(format!("{head}\r\n").as_bytes())
            .expect("it reads");
        // A registry that refuses may stop to read.
        let _ = stream.write_all(body);
        Reply::read(&mut stream)
    }

    /// GET without headers.
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    /// Pushes a blob in one request, and says its digest.
    pub fn blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.ask("POST", &path, &[], content).has(201);
        digest
    }

    /// Begins an upload; its path.
    pub fn begin(&self, repository: &str) -> String {
        let reply = self
            .ask(
                "POST",
                &format!("/v2/{repository}/blobs/uploads/"),
                &[],
                b"",
            )
            .has(202);
        reply.header("location").expect("a location").to_string()
    }

    /// Pushes a manifest.
    pub fn manifest(&self, repository: &str, reference: &str, kind: &str, content: &[u8]) -> Reply {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.ask("PUT", &path, &[("Content-Type", kind)], content)
    }
}

impl Drop for OurRegistry {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Reply {
    /// Reads one to the connection's end.
    pub fn read(stream: &mut impl Read) -> Reply {
        let mut all = Vec::new();
        // What breaks off is seen by its length.
        let _ = stream.read_to_end(&mut all);
        let end = all
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("a whole head");
        let head = String::from_utf8_lossy(&all[..end]).to_string();
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|l| l.split(' ').nth(1))
            .and_then(|s| s.parse().ok());
        let headers = lines.filter_map(|l| l.split_once(':'));
        Reply {
            status: status.expect("a status"),
            headers: headers
                .map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_string()))
                .collect(),
            body: all[end + 4..].to_vec(),
        }
    }
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
    /// Asserts the status.
    #[track_caller]
    pub fn has(self, status: u16) -> Reply {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(600)]).to_string();
        assert_eq!(self.status, status, "{:?} {text}", self.headers);
        self
    }
    /// Asserts the status and the code of the specification.
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Reply {
        let reply = self.has(status);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.json()["errors"][0]["code"], code, "{}", reply.json());
        reply
    }
    /// Asserts a header.
    #[track_caller]
    pub fn says(self, name: &str, value: &str) -> Reply {
        assert_eq!(
            self.header(name),
            Some(value),
            "{name} of {:?}",
            self.headers
        );
        self
    }
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}
