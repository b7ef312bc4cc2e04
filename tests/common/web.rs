//! A small HTTP server in the test: a closure from a request to an answer, maybe behind TLS.
//!
//! What it does: each connection carries one request, in a thread of its own that ends with it. Every
//! request is kept. An answer can say more or less than is true: lengths are what its headers say,
//! and the connection can be closed in the middle of the body or say nothing for a while.
//!
//! Interface: [`Server`], [`Request`], [`Answer`], [`image`] and [`honest`] for the usual contents.
//! Read next: `tests/registry_client.rs`.

use glassbox::spec::digest::Digest;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`
    pub method: String,
    /// With the query.
    pub path: String,
    /// All lines, as they came.
    pub head: String,
    /// As much of the body as was taken.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|l| l.split_once(':'))
            .find_map(|(n, v)| n.eq_ignore_ascii_case(name).then(|| v.trim()))
    }
    /// Whether it is this method on a path with this in it.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
    /// The first byte of a range that has no end.
    pub fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What comes back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; 0: the connection is closed without a word.
    pub status: u16,
    /// Lines that end in CRLF.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
    /// So many bytes of it go, then the connection is closed.
    pub cut: usize,
    /// So long nothing is said before the rest of the body.
    pub stall: Duration,
    /// Nothing is said before the rest of the body until this is set.
    pub until: Option<Arc<AtomicBool>>,
}

impl Answer {
    /// An answer without a body.
    pub fn status(status: u16, headers: &[(&str, &str)]) -> Answer {
        let headers = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n"));
        Answer {
            status,
            headers: headers.collect::<String>() + "Content-Length: 0\r\n",
            body: vec![],
            cut: usize::MAX,
            stall: Duration::ZERO,
            until: None,
        }
    }
    /// 200 and a body.
    pub fn ok(typ: &str, body: &[u8]) -> Answer {
        Answer {
            headers: format!("Content-Type: {typ}\r\nContent-Length: {}\r\n", body.len()),
            body: body.to_vec(),
            ..Answer::status(200, &[])
        }
    }
    /// The connection is closed.
    pub fn hang_up() -> Answer {
        Answer::status(0, &[])
    }
    /// One header more.
    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }
}

type Closure<T> = Box<dyn Fn(&Request) -> T + Send + Sync>;

struct Inner {
    answer: Closure<Answer>,
    taken: Closure<usize>,
    tls: Option<Arc<rustls::ServerConfig>>,
    seen: Mutex<Vec<Request>>,
}

/// A server on the loopback. Its threads end with the test's process.
#[derive(Clone)]
pub struct Server {
    /// `127.0.0.1:PORT`
    pub address: String,
    inner: Arc<Inner>,
}

impl Server {
    /// A plain server.
    pub fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
        Server::start(Box::new(answer), Box::new(|_| usize::MAX), None)
    }
    /// One that takes only so much of a request's body, which depends on its head.
    pub fn taking(
        taken: impl Fn(&Request) -> usize + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::start(Box::new(answer), Box::new(taken), None)
    }
    /// One behind TLS.
    pub fn secure(
        tls: Arc<rustls::ServerConfig>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::start(Box::new(answer), Box::new(|_| usize::MAX), Some(tls))
    }

    fn start(
        answer: Closure<Answer>,
        taken: Closure<usize>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let seen = Mutex::default();
        let inner = Arc::new(Inner {
            answer,
            taken,
            tls,
            seen,
        });
        let shared = inner.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = shared.clone();
                std::thread::spawn(move || connection(stream, &inner));
            }
        });
        Server { address, inner }
    }

    /// All requests until now.
    pub fn seen(&self) -> Vec<Request> {
        self.inner.seen.lock().expect("no panic").clone()
    }
    /// How many requests were such.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.seen().iter().filter(|r| r.is(method, part)).count()
    }
    /// The name of a repository here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

fn connection(stream: TcpStream, inner: &Inner) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut stream: Box<dyn Both> = match &inner.tls {
        None => Box::new(stream),
        Some(config) => {
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            Box::new(rustls::StreamOwned::new(session, stream))
        }
    };
    let (mut head, mut byte) = (Vec::new(), [0u8]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) != 1 {
            return;
        }
        head.push(byte[0]);
        // As servers do that are spoken to in TLS.
        if !head[0].is_ascii_uppercase() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).to_string();
    let mut words = head.split(' ').map(String::from);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        head: head.clone(),
        body: vec![],
    };
    let length = request.header("content-length").map(str::parse::<usize>);
    let length = length.and_then(Result::ok).unwrap_or(0);
    let length = length.min((inner.taken)(&request)) as u64;
    let _ = (&mut stream).take(length).read_to_end(&mut request.body);
    inner.seen.lock().expect("no panic").push(request.clone());
    let a = (inner.answer)(&request);
    if a.status == 0 {
        return;
    }
    let head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\n{}\r\n",
        a.status, a.headers
    );
    let _ = stream.write_all(head.as_bytes());
    if request.method == "HEAD" {
        return;
    }
    let body = &a.body[..a.cut.min(a.body.len())];
    let (first, rest) = body.split_at(if a.stall.is_zero() && a.until.is_none() {
        body.len()
    } else {
        body.len() / 2
    });
    let _ = stream.write_all(first).and_then(|()| stream.flush());
    std::thread::sleep(a.stall);
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while a.until.as_ref().is_some_and(|u| !u.load(Ordering::SeqCst)) {
        assert!(std::time::Instant::now() < limit, "nobody let it go on");
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = stream.write_all(rest).and_then(|()| stream.flush());
}

/// A tar with these entries, each a path and its content.
pub fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        entry(&mut builder, path, content, |_| {});
    }
    builder.into_inner().expect("a tar")
}

/// Adds one entry, its header changed by `change`. Written by hand: the crate refuses the paths that
/// tests need.
pub fn entry(
    builder: &mut tar::Builder<Vec<u8>>,
    path: &str,
    content: &[u8],
    change: impl FnOnce(&mut tar::Header),
) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    change(&mut header);
    header.set_cksum();
    builder.append(&header, content).expect("an entry");
}

/// An image: manifest, configuration, layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The configuration.
    pub config: Vec<u8>,
    /// The blobs of the layers, lowest first.
    pub layers: Vec<Vec<u8>>,
}

/// An image of one plain layer; `more` is added to the manifest.
pub fn image(layer: Vec<u8>, more: &str) -> Image {
    let tar = format!("{}", Digest::sha256(&layer));
    layered(
        &[("application/vnd.oci.image.layer.v1.tar", layer, tar)],
        more,
    )
}

/// An image of these layers: media type, blob, diff id.
pub fn layered(layers: &[(&str, Vec<u8>, String)], more: &str) -> Image {
    let quoted: Vec<String> = layers
        .iter()
        .map(|(_, _, id)| format!("\"{id}\""))
        .collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        quoted.join(",")
    );
    let entries: Vec<String> = layers
        .iter()
        .map(|(typ, blob, _)| descriptor(typ, blob, ""))
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]{more}}}"#,
        descriptor(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
            ""
        ),
        entries.join(",")
    );
    Image {
        manifest: manifest.into_bytes(),
        config: config.into_bytes(),
        layers: layers.iter().map(|(_, blob, _)| blob.clone()).collect(),
    }
}

/// A descriptor of these bytes as JSON; `more` is added.
pub fn descriptor(typ: &str, bytes: &[u8], more: &str) -> String {
    let (digest, size) = (Digest::sha256(bytes), bytes.len());
    format!(r#"{{"mediaType":"{typ}","digest":"{digest}","size":{size}{more}}}"#)
}

/// An index of these entries.
pub fn index(entries: &[String]) -> Vec<u8> {
    let entries = entries.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}]}}"#).into_bytes()
}

/// An image of one small file.
pub fn plain() -> Image {
    image(tar(&[("greeting", b"hello\n")]), "")
}

/// Serves an image as it is: blobs by digest, the manifest by any other name.
pub fn honest(image: &Image, request: &Request) -> Answer {
    let mut blobs = image.layers.iter().chain([&image.config]);
    match blobs.find(|b| request.path.contains(&Digest::sha256(b).to_string())) {
        Some(blob) => Answer::ok("application/octet-stream", blob),
        None => Answer::ok(MANIFEST, &image.manifest),
    }
}
