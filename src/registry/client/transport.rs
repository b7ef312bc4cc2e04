//! Requests and answers: retries, redirects, and a note of each.
//!
//! What it does: sends one request until there is an answer that counts. A connection that breaks,
//! 429 and 5xx are tried again after a growing, slightly random pause, or after what the server
//! asks for; other answers are the caller's. Redirects are followed ten times, and a request that
//! comes to another origin by one carries no Authorization: whoever the registry names could read
//! it. A peer that says nothing for a while is given up.
//!
//! What it implements: RFC 9110 (redirects, Retry-After). Interface: [`Transport`], [`Wish`],
//! [`Response`]. Read next: `mod.rs`.

use super::endpoint::Endpoint;
use super::exchange::{self, Entry, Exchange, Trace};
use super::secure::Secure;
use super::{resolve, tls};
use crate::error::{Context, Error, Kind, Result};
use crate::registry::protocol::{ErrorBody, ErrorCode};
use crate::spec::time::{Time, parse_http};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{self, Uri};
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector, DefaultConnector, TcpConnector,
};

/// More redirects than this are a loop.
const REDIRECTS: usize = 10;
/// No pause is longer, whatever the server asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How often to try again.
    pub retries: u32,
    /// How long a peer may say nothing.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            retries: 4,
            stall: Duration::from_secs(30),
        }
    }
}

/// A connection pool to one registry.
#[derive(Debug)]
pub struct Transport {
    agent: ureq::Agent,
    plain: bool,
    /// How patient to be.
    pub patience: Patience,
    trace: Arc<Trace>,
}

/// A request's body that can be read again, from any byte on.
pub type Source<'a> = &'a (dyn Fn(u64) -> Result<Box<dyn Read + 'a>> + Sync + 'a);

/// What is asked for.
pub struct Wish<'a> {
    /// `GET`
    pub method: &'static str,
    /// The whole URL.
    pub url: String,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body, when it is short.
    pub bytes: Option<&'a [u8]>,
    /// The body, when it is long: its length, and how to read it.
    pub stream: Option<(u64, Source<'a>)>,
    /// Whether a failure may be tried again as it is.
    pub again: bool,
}

impl<'a> Wish<'a> {
    /// A request without a body.
    pub fn new(method: &'static str, url: &str) -> Wish<'a> {
        Wish {
            method,
            url: url.into(),
            headers: vec![],
            bytes: None,
            stream: None,
            again: true,
        }
    }
}

/// An answer, whose body has not been read.
pub struct Response {
    /// The status.
    pub status: u16,
    /// Where it came from, after redirects.
    pub url: String,
    headers: http::HeaderMap,
    body: Body,
    what: String,
}

/// A body that is read.
pub struct Body {
    reader: Box<dyn Read + Send>,
    noted: Option<Exchange>,
    began: Instant,
    trace: Arc<Trace>,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if let Some(noted) = &mut self.noted {
            noted.received += n as u64;
        }
        Ok(n)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(mut noted) = self.noted.take() {
            noted.milliseconds = self.began.elapsed().as_secs_f64() * 1e3;
            self.trace.note(&Entry::Exchange(noted));
        }
    }
}

impl Response {
    /// A header's value, as far as it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values
            .filter_map(|v| v.to_str().ok())
            .map(String::from)
            .collect()
    }
    /// How long the body is said to be.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }
    /// The body.
    pub fn into_body(self) -> Body {
        self.body
    }
    /// The whole body, which must not be longer than `limit`.
    pub fn bytes(self, limit: u64) -> Result<Vec<u8>> {
        let too_long = || {
            Error::new(format!(
                "the answer to {} is longer than {limit} bytes",
                self.what
            ))
        };
        let length = self.length();
        if length.is_some_and(|n| n > limit) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let mut body = self.body;
        (&mut body)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("the answer to {} broke off", self.what))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(format!(
                "the answer to {} is longer than {limit} bytes",
                self.what
            )));
        }
        Ok(bytes)
    }
    /// What the registry refuses, in its own words.
    pub fn refusal(self) -> Error {
        let (status, what) = (self.status, self.what.clone());
        let body = self.bytes(64 << 10).unwrap_or_default();
        let mut kind = match status {
            404 => Kind::NotFound,
            405 => Kind::Unsupported,
            _ => Kind::Failed,
        };
        let said = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) if !body.errors.is_empty() => {
                let first = &body.errors[0];
                let code = ErrorCode::from(first.code.as_str());
                kind = match code {
                    ErrorCode::Unsupported => Kind::Unsupported,
                    ErrorCode::NameUnknown
                    | ErrorCode::ManifestUnknown
                    | ErrorCode::BlobUnknown => Kind::NotFound,
                    _ => kind,
                };
                let words = if first.message.is_empty() {
                    code.message()
                } else {
                    &first.message
                };
                format!(": {} ({words})", first.code)
            }
            _ => {
                let text = String::from_utf8_lossy(&body);
                let text = text.trim();
                match text.is_empty() || text.len() > 200 || text.contains('<') {
                    true => String::new(),
                    false => format!(": {text}"),
                }
            }
        };
        let error = Error::kind(kind, format!("{what} is answered with {status}{said}"));
        match status {
            401 => error
                .hint("`glassbox login` says who you are; or there is no such repository")
                .topic("registries"),
            403 => error
                .hint("this account may not do that")
                .topic("registries"),
            429 => error.hint("the registry wants fewer requests; try again later, or log in"),
            _ => error,
        }
    }
}

impl Transport {
    /// A pool for one server.
    pub fn new(endpoint: &Endpoint, patience: Patience, trace: Arc<Trace>) -> Result<Transport> {
        let stall = Some(patience.stall);
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(stall.min(Some(Duration::from_secs(30))))
            .timeout_per_read(stall)
            .timeout_per_write(stall)
            .timeout_recv_response(stall.map(|s| s * 4))
            .timeout_await_100(Some(Duration::from_millis(200)))
            .max_idle_connections_per_host(16)
            .input_buffer_size(256 * 1024)
            .user_agent(concat!("glassbox/", env!("CARGO_PKG_VERSION")));
        if super::endpoint::is_loopback(&endpoint.host) {
            config = config.proxy(None);
        }
        let config = config.build();
        let agent = match endpoint.plain {
            true => ureq::Agent::with_parts(config, DefaultConnector::default(), resolve::Names),
            false => {
                let secure = Secure(Arc::new(tls::config(&endpoint.cert_dirs)?));
                let connector =
                    ().chain(ConnectProxyConnector::default())
                        .chain(TcpConnector::default())
                        .chain(secure);
                ureq::Agent::with_parts(config, connector, resolve::Names)
            }
        };
        Ok(Transport {
            agent,
            plain: endpoint.plain,
            patience,
            trace,
        })
    }

    /// Whether the registry is spoken to with TLS.
    pub fn is_secure(&self) -> bool {
        !self.plain
    }

    /// Waits before the attempt after `tried` failed ones; `asked` is what the server wants.
    pub fn pause(&self, tried: u32, asked: Option<Duration>) {
        let grown = Duration::from_millis(100 << tried.min(8));
        // Clients that failed at the same moment must not come back at the same moment.
        let jitter = f64::from(u16::from_le_bytes(resolve::random())) / 65536.0;
        let pause = asked.unwrap_or_else(|| grown.mul_f64(0.75 + jitter / 2.0));
        std::thread::sleep(pause.min(LONGEST_PAUSE));
    }

    /// Sends a request. Errors: no answer, after all attempts.
    pub fn send(&self, wish: &Wish<'_>) -> Result<Response> {
        let mut tried = 0;
        loop {
            let may = wish.again && tried < self.patience.retries;
            match self.follow(wish) {
                Ok(r)
                    if may
                        && (r.status == 429
                            || (500..600).contains(&r.status) && r.status != 501) =>
                {
                    let asked = retry_after(r.header("retry-after"), r.header("date"));
                    drop(r);
                    self.pause(tried, asked);
                }
                Err(e) if may && e.transient => self.pause(tried, None),
                Err(e) => return Err(e.error),
                Ok(response) => return Ok(response),
            }
            tried += 1;
        }
    }

    /// Sends a request and follows redirects.
    fn follow(&self, wish: &Wish<'_>) -> std::result::Result<Response, Failure> {
        let mut url = wish.url.clone();
        let mut secret = true;
        for _ in 0..=REDIRECTS {
            let response = self.once(wish, &url, secret)?;
            let moved = match response.status {
                307 | 308 => true,
                301..=303 => matches!(wish.method, "GET" | "HEAD"),
                _ => false,
            };
            let Some(to) = response.header("location").filter(|_| moved) else {
                return Ok(response);
            };
            let next = join(&url, to)?;
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(Failure::from(Error::new(format!(
                    "the registry sends us from TLS to a plain server, {}",
                    exchange::url(&next)
                ))));
            }
            secret &= origin(&url) == origin(&next);
            url = next;
        }
        Err(Failure::from(
            Error::new(format!(
                "{} {} was redirected more than {REDIRECTS} times",
                wish.method,
                exchange::url(&wish.url)
            ))
            .hint("the registry's redirects run in a circle"),
        ))
    }

    fn once(
        &self,
        wish: &Wish<'_>,
        url: &str,
        secret: bool,
    ) -> std::result::Result<Response, Failure> {
        let what = format!("{} {}", wish.method, exchange::url(url));
        let mut noted = Exchange {
            method: wish.method.into(),
            url: exchange::url(url),
            ..Exchange::default()
        };
        let mut request = http::Request::builder().method(wish.method).uri(url);
        for (name, value) in &wish.headers {
            if *name == "authorization" && !secret {
                continue;
            }
            noted.request.extend(exchange::header(name, value));
            request = request.header(*name, value.as_str());
        }
        let began = Instant::now();
        let length = match (wish.bytes, wish.stream) {
            (Some(bytes), _) => Some(bytes.len() as u64),
            (_, Some((length, _))) => Some(length),
            // A body that is not there is said, too: some registries insist.
            _ if matches!(wish.method, "POST" | "PUT" | "PATCH") => Some(0),
            _ => None,
        };
        if let Some(length) = length {
            request = request.header("content-length", length);
            noted.sent = length;
        }
        let mut reader: Box<dyn Read + '_> = match (wish.bytes, wish.stream) {
            (Some(bytes), _) => Box::new(bytes),
            (_, Some((_, open))) => open(0)?,
            _ => Box::new(std::io::empty()),
        };
        let bad = |e: http::Error| Error::new(format!("cannot ask for {what}")).caused_by(e);
        let answer = match length {
            Some(_) => self.agent.run(
                request
                    .body(ureq::SendBody::from_reader(&mut *reader))
                    .map_err(bad)?,
            ),
            None => self.agent.run(request.body(()).map_err(bad)?),
        };
        let answer = answer.map_err(|e| {
            noted.error = Some(e.to_string());
            noted.milliseconds = began.elapsed().as_secs_f64() * 1e3;
            self.trace.note(&Entry::Exchange(noted.clone()));
            self.failure(&what, e)
        })?;
        let status = answer.status().as_u16();
        let (parts, body) = answer.into_parts();
        noted.status = Some(status);
        for (name, value) in &parts.headers {
            noted.response.extend(exchange::header(
                name.as_str(),
                value.to_str().unwrap_or("(no text)"),
            ));
        }
        Ok(Response {
            status,
            url: url.into(),
            headers: parts.headers,
            body: Body {
                reader: Box::new(body.into_with_config().limit(u64::MAX).reader()),
                noted: self.trace.is_on().then_some(noted),
                began,
                trace: Arc::clone(&self.trace),
            },
            what,
        })
    }

    fn failure(&self, what: &str, e: ureq::Error) -> Failure {
        use ureq::Error as E;
        let transient = match &e {
            E::Io(io) => io.kind() != std::io::ErrorKind::InvalidData,
            E::Timeout(_) | E::Protocol(_) | E::ConnectionFailed => true,
            _ => false,
        };
        let text = e.to_string();
        let error = Error::new(format!("no answer to {what}"));
        let error = match e {
            // Without the library's words around it, so that the errno has its name.
            E::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => error
                .caused_by(io)
                .hint("nothing listens there, or a firewall says so"),
            E::Io(io) => error.caused_by(io),
            e => error.caused_by(e),
        };
        let error = match () {
            () if text.contains("CaUsedAsEndEntity") => error
                .hint("the server shows a certificate that may sign others (CA:TRUE) as its own, which is taken if it is itself what lies in /etc/docker/certs.d/HOST:PORT/ca.crt, or a directory for --cert-dir")
                .topic("registries"),
            () if text.contains("not valid for name") => error
                .hint("the server's certificate is for other names; ask it by one of those")
                .topic("registries"),
            () if text.contains("certificate expired") => error
                .hint("the server needs a new certificate, or this host's clock is wrong")
                .topic("registries"),
            () if self.plain && text.contains("http parse fail") => error
                .hint("does it speak TLS? This machine's registries are asked without, unless certificates were put down for them: --cert-dir")
                .topic("registries"),
            () if text.contains("UnknownIssuer") || text.contains("certificate") => error
                .hint("its authority's certificate belongs into /etc/docker/certs.d/HOST:PORT/ca.crt, or a directory for --cert-dir")
                .topic("registries"),
            () if text.contains("InvalidContentType") || text.contains("corrupt message") => error
                .hint("the server does not speak TLS; --insecure asks it without"),
            () if text.contains("host") && text.contains("not") => {
                error.hint("neither /etc/hosts nor DNS knows this name")
            }
            () => error,
        };
        Failure { error, transient }
    }
}

struct Failure {
    error: Error,
    transient: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            error,
            transient: false,
        }
    }
}

/// How long Retry-After asks for: seconds, or a date, which is meant by the server's clock.
fn retry_after(text: Option<&str>, now: Option<&str>) -> Option<Duration> {
    let text = text?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = parse_http(text)?;
    let now = now.and_then(parse_http).unwrap_or_else(Time::now);
    Some(Duration::from_nanos(then.0.saturating_sub(now.0)))
}

/// Scheme, host and port: who a secret is for.
pub fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_lowercase();
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "http" { 80 } else { 443 });
    Some((scheme, uri.host()?.to_lowercase(), port))
}

/// A Location, which may be relative, against the URL that it came from.
pub fn join(base: &str, to: &str) -> Result<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Ok(to.into());
    }
    let (scheme, rest) = base.split_once("://").context("a URL without a scheme")?;
    if let Some(other) = to.strip_prefix("//") {
        return Ok(format!("{scheme}://{other}"));
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if to.starts_with('/') {
        return Ok(format!("{scheme}://{host}{to}"));
    }
    if to.contains("://") {
        return Err(Error::new(format!(
            "the registry redirects to {to}, which is not HTTP"
        )));
    }
    let path = path.split('?').next().unwrap_or_default();
    if to.starts_with('?') {
        return Ok(format!("{scheme}://{host}{path}{to}"));
    }
    let directory = &path[..path.rfind('/').map_or(0, |n| n + 1)];
    Ok(format!("{scheme}://{host}{directory}{to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_to_wait_for_is_by_the_servers_clock() {
        let then = Some("Wed, 21 Oct 2015 07:28:05 GMT");
        let asked = retry_after(then, Some("Wed, 21 Oct 2015 07:28:00 GMT"));
        assert_eq!(asked, Some(Duration::from_secs(5)));
        assert_eq!(retry_after(then, None), Some(Duration::ZERO));
        assert_eq!(retry_after(Some("7"), None), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(Some("soon"), None), None);
    }

    #[test]
    fn locations_are_joined_and_origins_told_apart() {
        let base = "http://a:5000/v2/x/blobs/uploads/?y";
        for (to, whole) in [
            ("/v2/z", "http://a:5000/v2/z"),
            ("https://b/c", "https://b/c"),
            ("//b/c", "http://b/c"),
            ("d", "http://a:5000/v2/x/blobs/uploads/d"),
            ("?z", "http://a:5000/v2/x/blobs/uploads/?z"),
        ] {
            assert_eq!(join(base, to).unwrap(), whole);
        }
        assert!(join(base, "ftp://x").is_err());
        assert_eq!(origin("https://A/x"), origin("https://a:443/y"));
        assert_ne!(origin("http://a/x"), origin("https://a/x"));
        assert_ne!(origin("http://a:1/x"), origin("http://a/x"));
    }
}
