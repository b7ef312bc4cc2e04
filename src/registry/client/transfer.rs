//! A blob on its way here, as a stream: what breaks off goes on where it broke.
//!
//! ```text
//!   GET …/blobs/DIGEST                      200, bytes 0…    ✂ at 700
//!   GET …/blobs/DIGEST  Range: bytes=700-   206, bytes 700…
//!                                           200: the server ignores ranges, 700 bytes are skipped
//! ```
//!
//! What it does: reads as many bytes as the descriptor says, not one more. A connection that breaks
//! or says nothing is made again; each byte that comes counts as new hope. It does not hash: whoever
//! reads does, and a range of other content ends as a wrong digest.
//!
//! What it implements: distribution-spec "Pulling blobs"; RFC 9110, section 14 (ranges), If-Range.
//! Interface: [`Client::blob`], [`Blob`]. Read next: `pull.rs`.

use super::auth::Scopes;
use super::parallel::Stop;
use super::transport::Body;
use super::{Client, Wish};
use crate::error::{Context, Error, Result};
use crate::spec::image::Descriptor;
use base64::Engine as _;
use std::io::{self, Read};

/// However many bytes come each time, nobody's connection breaks more often than this.
const RESUMES: u32 = 100;

/// A blob that is being read.
pub struct Blob<'a> {
    client: &'a Client,
    repository: &'a str,
    descriptor: &'a Descriptor,
    urls: Vec<String>,
    at: u64,
    body: Option<Body>,
    etag: Option<String>,
    tried: u32,
    resumed: u32,
    done: bool,
    stop: Option<&'a Stop>,
    on_bytes: Box<dyn Fn(u64) + Send + 'a>,
}

impl Client {
    /// A blob as a stream. Nothing is asked for before the first read. Layers that may not be
    /// distributed come from the URLs that their descriptor has, if the registry lacks them.
    pub fn blob<'a>(&'a self, repository: &'a str, descriptor: &'a Descriptor) -> Blob<'a> {
        let mut urls = vec![self.url(repository, &format!("blobs/{}", descriptor.digest))];
        let elsewhere = descriptor
            .urls
            .iter()
            .filter(|u| u.starts_with("http://") || u.starts_with("https://"));
        urls.extend(elsewhere.cloned());
        Blob {
            client: self,
            repository,
            descriptor,
            urls,
            at: 0,
            body: None,
            etag: None,
            tried: 0,
            resumed: 0,
            done: false,
            stop: None,
            on_bytes: Box::new(|_| {}),
        }
    }

    /// A small blob, whole and checked.
    pub fn small_blob(
        &self,
        repository: &str,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>> {
        let short = descriptor.digest.short();
        if descriptor.size > limit {
            return Err(Error::new(format!(
                "the document {short} has {} bytes, more than {limit}",
                descriptor.size
            )));
        }
        let bytes = match inline(descriptor)? {
            Some(bytes) => {
                self.trace().skipped(
                    format!("blob {short}"),
                    "its content stands in the descriptor",
                );
                bytes
            }
            None => {
                let mut bytes = Vec::new();
                let mut blob = self.blob(repository, descriptor);
                blob.read_to_end(&mut bytes)
                    .with_context(|| format!("cannot get the blob {short}"))?;
                bytes
            }
        };
        match descriptor.digest.matches(&bytes) && bytes.len() as u64 == descriptor.size {
            true => Ok(bytes),
            false => Err(
                Error::new(format!("the blob {short} is not what its descriptor says"))
                    .hint("the transfer was damaged, or the registry lies: nothing of it was kept")
                    .topic("digests"),
            ),
        }
    }
}

/// The content that a descriptor carries itself.
pub fn inline(descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
    let Some(data) = &descriptor.data else {
        return Ok(None);
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(data);
    let bytes =
        bytes.map_err(|e| Error::new("the data of a descriptor is no base64").caused_by(e))?;
    Ok(Some(bytes))
}

impl<'a> Blob<'a> {
    /// Begins at a byte other than the first.
    pub fn starting_at(mut self, at: u64) -> Self {
        self.at = at;
        self
    }
    /// Stops soon after this is set.
    pub fn stopped_by(mut self, stop: &'a Stop) -> Self {
        self.stop = Some(stop);
        self
    }
    /// Tells how many bytes came.
    pub fn counted(mut self, on_bytes: impl Fn(u64) + Send + 'a) -> Self {
        self.on_bytes = Box::new(on_bytes);
        self
    }

    fn wrong(&self, how: String) -> Error {
        Error::new(format!(
            "the blob {} is not what its descriptor says: {how}",
            self.descriptor.digest.short()
        ))
        .hint("the registry lies about it, or the image does: nothing of it was kept")
        .topic("digests")
    }

    /// Opens a connection for the bytes from `at` on. Errors with `true` may pass.
    fn open(&mut self) -> std::result::Result<Body, (Error, bool)> {
        let once = |e: Error| (e, false);
        loop {
            let url = self.urls.first().cloned().unwrap_or_default();
            let mut wish = Wish::new("GET", &url);
            if self.at > 0 {
                wish.headers.push(("range", format!("bytes={}-", self.at)));
                // Only a strong tag says that the bytes are the same.
                let strong = self.etag.iter().filter(|t| !t.starts_with("W/"));
                wish.headers.extend(strong.map(|t| ("if-range", t.clone())));
            }
            let scopes = Scopes::repository(self.repository, "pull");
            let response = self
                .client
                .send(self.repository, &scopes, &mut wish)
                .map_err(once)?;
            let rest = self.descriptor.size - self.at;
            match response.status {
                200 => {
                    if let Some(length) = response.length().filter(|n| *n != self.descriptor.size) {
                        return Err(once(self.wrong(format!(
                            "it has {length} bytes in place of {}",
                            self.descriptor.size
                        ))));
                    }
                    self.etag = response.header("etag").map(String::from);
                    let mut body = response.into_body();
                    let skipped = io::copy(&mut (&mut body).take(self.at), &mut io::sink());
                    return match skipped {
                        Ok(n) if n == self.at => Ok(body),
                        Ok(_) => Err((Error::new("the blob broke off"), true)),
                        Err(e) => Err((Error::new("the blob broke off").caused_by(e), true)),
                    };
                }
                206 if self.at > 0 => {
                    let range = response.header("content-range").unwrap_or_default();
                    let begins = range
                        .strip_prefix("bytes ")
                        .and_then(|r| r.split('-').next()?.parse().ok());
                    if begins != Some(self.at) {
                        return Err(once(self.wrong(format!(
                            "the registry was asked for the bytes from {} on and sends {range:?}",
                            self.at
                        ))));
                    }
                    if let Some(length) = response.length().filter(|n| *n != rest) {
                        return Err(once(
                            self.wrong(format!("{length} bytes follow in place of {rest}")),
                        ));
                    }
                    return Ok(response.into_body());
                }
                _ if self.urls.len() > 1 => {
                    self.urls.remove(0);
                }
                _ => return Err(once(response.refusal())),
            }
        }
    }

    fn again(&mut self, error: io::Error) -> io::Result<()> {
        self.body = None;
        self.resumed += 1;
        if self.tried >= self.client.transport.patience.retries || self.resumed > RESUMES {
            return Err(error);
        }
        let why = format!(
            "its transfer broke off after {} of {} bytes: {error}",
            self.at, self.descriptor.size
        );
        self.client.trace().skipped(
            format!("the rest of blob {}", self.descriptor.digest.short()),
            why,
        );
        self.client.transport.pause(self.tried, None);
        self.tried += 1;
        Ok(())
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.done {
            return Ok(0);
        }
        loop {
            if self.stop.is_some_and(Stop::is_set) {
                return Err(io::Error::other("another layer failed"));
            }
            let size = self.descriptor.size;
            let mut body = match self.body.take() {
                Some(body) => body,
                // It broke right after the last byte: nothing is missing.
                None if self.at >= size && size > 0 => {
                    self.done = true;
                    return Ok(0);
                }
                None => match self.open() {
                    Ok(body) => body,
                    Err((error, passing)) if passing => {
                        self.again(io::Error::other(error))?;
                        continue;
                    }
                    Err((error, _)) => return Err(io::Error::other(error)),
                },
            };
            if self.at >= size {
                // Whatever follows was not announced.
                let mut more = [0; 1];
                return match body.read(&mut more) {
                    Ok(n) if n > 0 => Err(io::Error::other(
                        self.wrong(format!("it is longer than {size} bytes")),
                    )),
                    _ => {
                        self.done = true;
                        Ok(0)
                    }
                };
            }
            let room = buffer
                .len()
                .min(usize::try_from(size - self.at).unwrap_or(usize::MAX));
            match body.read(&mut buffer[..room]) {
                Ok(0) => self.again(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed",
                ))?,
                Ok(n) => {
                    self.at += n as u64;
                    self.tried = 0;
                    self.body = Some(body);
                    (self.on_bytes)(n as u64);
                    return Ok(n);
                }
                Err(e) => self.again(e)?,
            }
        }
    }
}
