//! Sockets: who connects, with TLS or without, and how it ends.
//!
//! What it does: listens, gives each connection a task of the one thread, and keeps the indexes of
//! repositories up to date meanwhile. SIGTERM and SIGINT end it: no connection is taken any more,
//! requests that have begun have ten seconds. SIGKILL ends it as well, and loses nothing: what was
//! acknowledged is on the disk (storage.rs).
//!
//! Interface: [`serve`], [`Config`]. Read next: `handle.rs`.

use super::auth::Passwords;
use super::handle::Server;
use super::limits::{self, Limits, Patient};
use super::log::{Format, Log};
use super::storage::Storage;
use super::{tags, uploads};
use crate::error::{Context, Error, Kind, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client that is turned away has to read why.
const PARTING: Duration = Duration::from_secs(1);
/// How long requests may go on after the end was asked for.
const LAST: Duration = Duration::from_secs(10);
/// How often it is told that all connections are in use.
const FULL: Duration = Duration::from_secs(60);
/// How often indexes are written, at most.
const INDEXES: Duration = Duration::from_secs(1);
/// Threads that may wait for the disk at once.
const WORKERS: usize = 64;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address, as it was given: `127.0.0.1:5000`, `:5000`, `localhost:0`.
    pub listen: String,
    /// The directory of the data, made when it is not there.
    pub data: PathBuf,
    /// A certificate chain and its key, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// An htpasswd file.
    pub htpasswd: Option<PathBuf>,
    /// Whether nothing may be pushed or deleted.
    pub read_only: bool,
    /// A registry to be a cache of; then nothing may be pushed or deleted either.
    pub upstream: Option<super::Upstream>,
    /// How much it puts up with.
    pub limits: Limits,
    /// The form of the request log.
    pub log: Format,
}

/// Serves until a signal says that it is enough.
///
/// # Errors
/// The address is taken, a file cannot be read, or another server writes to the directory.
pub fn serve(config: &Config) -> Result<()> {
    let address = address(&config.listen)?;
    let acceptor = config
        .tls
        .as_ref()
        .map(|(chain, key)| acceptor(chain, key))
        .transpose()?;
    let passwords = config
        .htpasswd
        .as_deref()
        .map(Passwords::open)
        .transpose()?;
    let storage = match config.read_only {
        true => Storage::open(&config.data)?,
        false => Storage::create(&config.data)?,
    };
    // Held until the end: the one who writes.
    let _lock = (!config.read_only).then(|| storage.own()).transpose()?;
    let log = Log(config.log);
    let mut limits = config.limits;
    limits.connections = limits::files_for(limits.connections)?;
    if limits.connections < config.limits.connections {
        log.event(&format!(
            "{} connections at once, not {}: the limit of open files (`ulimit -Hn`) allows no more",
            limits.connections, config.limits.connections
        ));
    }
    let mut server = Server::new(storage, passwords, config.read_only, log, limits);
    if let Some(upstream) = &config.upstream {
        server.cache_of(upstream)?;
    }
    let server = Arc::new(server);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context("cannot start the server's thread")?;
    let ended = runtime.block_on(run(server, address, acceptor));
    // What still waits for a disk is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn run(
    server: Arc<Server>,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        let taken = e.raw_os_error() == Some(libc::EADDRINUSE);
        let error = Error::new(format!("cannot listen on {address}")).caused_by(e);
        match taken {
            true => error.hint(
                "another program has this port; choose one with --listen, 0 for any that is free",
            ),
            false => error,
        }
    })?;
    let address = listener
        .local_addr()
        .context("cannot read the address of a socket")?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    server
        .log
        .event(&format!("listening on {scheme}://{address}"));
    if let Some(cache) = &server.cache {
        server.log.event(&format!("a cache of {}", cache.of()));
    }
    if !address.ip().is_loopback() && server.is_open() {
        server.log.event("whoever reaches this address may push and delete; --htpasswd and --read-only limit that");
    }
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
        signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
    );
    if !server.read_only {
        tokio::spawn(upkeep(server.clone()));
    }
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(server.limits.connections));
    let mut full: Option<Instant> = None;
    loop {
        if places.available_permits() == 0 && full.is_none_or(|at| at.elapsed() > FULL) {
            full = Some(Instant::now());
            let all = server.limits.connections;
            server.log.event(&format!(
                "all {all} connections are in use; others wait (--max-connections)"
            ));
        }
        let next = async {
            let place = places.clone().acquire_owned().await;
            listener.accept().await.map(|accepted| (accepted, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let ((stream, peer), place) = match accepted {
            Ok(accepted) => accepted,
            // Too many open files pass when connections end; a broken connection concerns itself.
            Err(e) => {
                server.log.event(&format!("cannot take a connection: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (server, acceptor, watcher) = (server.clone(), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            let peer = peer.ip().to_canonical().to_string();
            let _open = (server.metrics.connected(), place);
            match acceptor {
                None => connection(server, stream, peer, watcher).await,
                // Scanners, and clients that do not trust the certificate, are not told of.
                Some(acceptor) => {
                    let handshake = async {
                        match speaks_plainly(&stream).await {
                            true => {
                                tell_of_tls(stream).await;
                                None
                            }
                            false => acceptor.accept(stream).await.ok(),
                        }
                    };
                    let secured = tokio::time::timeout(HANDSHAKE, handshake).await;
                    if let Ok(Some(stream)) = secured {
                        connection(server, stream, peer, watcher).await;
                    }
                }
            }
        });
    }
    drop(listener);
    server.log.event("asked to end");
    let _ = tokio::time::timeout(LAST, graceful.shutdown()).await;
    let last = server.clone();
    let _ = tokio::task::spawn_blocking(move || write_indexes(&last)).await;
    Ok(())
}

/// Whether a client that shall speak TLS speaks HTTP: a request begins with a letter, and TLS with
/// the number of its record (22).
async fn speaks_plainly(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_alphabetic()
}

/// Tells such a client what it did, and waits a moment until it has read that: what is closed
/// before its request was read is reset, and the answer with it.
async fn tell_of_tls(mut stream: TcpStream) {
    let why = "This port speaks HTTPS, and the request came as plain HTTP.\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{why}",
        why.len()
    );
    let _ = tokio::time::timeout(PARTING, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    })
    .await; // who has gone already needs no answer
}

async fn connection(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: String,
    watcher: Watcher,
) {
    let (stream, told) = (Patient::new(stream, server.limits.idle), peer.clone());
    let service = service_fn(|request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(server.handle(request, peer).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.limits.idle)
        .max_buf_size(512 << 10)
        .serve_connection(TokioIo::new(stream), service);
    // Who breaks off is in the log as a request without an answer, and needs no other line.
    if let Err(error) = watcher.watch(connection).await
        && let Some(why) = timed_out(&error)
    {
        server
            .log
            .event(&format!("{told}: the connection is closed: {why}"));
    }
}

/// What a connection's end says, where the peer had its time.
fn timed_out(error: &hyper::Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(one) = cause {
        if let Some(io) = one.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::TimedOut
        {
            return Some(io.to_string());
        }
        cause = one.source();
    }
    None
}

/// Writes the indexes of repositories whose tags changed, and forgets uploads that were given up.
async fn upkeep(server: Arc<Server>) {
    let first = server.clone();
    let all = move || {
        first
            .storage
            .repositories(&mut |r| match tags::index_is_old(&r) {
                true => tags::write_index(&r),
                false => Ok(()),
            })
    };
    if let Err(refusal) = uploads::blocking(all).await {
        server.log.event(&refusal.cause.unwrap_or_default());
    }
    let mut expired: Option<Instant> = None;
    loop {
        let begun = Instant::now();
        let now = server.clone();
        let expire = expired.is_none_or(|at| at.elapsed() > Duration::from_secs(3600));
        if expire {
            expired = Some(begun);
        }
        let work = move || {
            write_indexes(&now);
            if expire && let Err(error) = now.uploads.expire() {
                now.log.event(&format!("cannot clear uploads: {error:#}"));
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
        // A repository of many tags takes a while: no more than a tenth of the time goes into it.
        tokio::time::sleep(INDEXES.max(begun.elapsed() * 9)).await;
    }
}

fn write_indexes(server: &Server) {
    for name in server.take_changed() {
        if let Err(error) = tags::write_index(&server.storage.repository(&name)) {
            server
                .log
                .event(&format!("cannot write the index of {name}: {error:#}"));
        }
    }
}

/// Reads an address to listen on.
pub fn address(text: &str) -> Result<SocketAddr> {
    let wrong = || {
        Error::kind(Kind::Usage, format!("{text:?} is no address to listen on")).hint(
            "write ADDRESS:PORT, as in 127.0.0.1:5000, [::1]:5000, or :5000 for all addresses",
        )
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    match host {
        "" => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        _ => Err(wrong()),
    }
}

fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor> {
    let unreadable = |path: &Path, e: rustls::pki_types::pem::Error| {
        Error::new(format!("cannot read {}", path.display()))
            .caused_by(e)
            .hint("--tls-cert and --tls-key are PEM files: the certificate with its chain, and its key")
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(chain, e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| {
            b.with_no_client_auth()
                .with_single_cert(certificates, secret)
        })
        .map_err(|e| {
            Error::new(format!(
                "cannot use {} with {}",
                chain.display(),
                key.display()
            ))
            .caused_by(e)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:0", "[::1]:0"),
            (":80", "[::]:80"),
            ("localhost:5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), want);
        }
        for bad in ["", "5000", "127.0.0.1", "host:5000", ":70000"] {
            assert!(address(bad).unwrap_err().get_hint().is_some(), "{bad}");
        }
    }
}
