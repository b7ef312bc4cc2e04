//! A file on the web as a stream: `image import URL`.
//!
//! What it does: asks for the file and hands back its bytes as they come; redirects are followed,
//! up to ten. A body shorter than its announced length is an error, not a short file. TLS
//! certificates are checked against the roots of Mozilla.
//!
//! What it implements: RFC 9110 (GET), by the crate ureq. Interface: [`is_url`], [`open`].
//! Read next: `staging.rs`.

use crate::error::{Error, Kind, Result};
use std::io::Read;

/// Whether a user's word for a file means one on the web.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Opens it: the stream, and its length where the server says it. Errors: no such host, no
/// connection, a certificate that does not fit, a status other than 200.
pub fn open(url: &str) -> Result<(Box<dyn Read + Send>, Option<u64>)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(10)
        .timeout_connect(Some(std::time::Duration::from_secs(30)))
        .user_agent(concat!("glassbox/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let failed = || Error::new(format!("cannot get {url}"));
    let response = agent.get(url).call().map_err(|e| failed().caused_by(e))?;
    let status = response.status();
    if status != 200 {
        let kind = if status == 404 {
            Kind::NotFound
        } else {
            Kind::Failed
        };
        return Err(failed()
            .with_kind(kind)
            .caused_by(Error::new(format!("the server answers {status}"))));
    }
    let body = response.into_body();
    let length = body.content_length();
    // The limit of a layer is the unpacker's to hold; ureq's own is for text.
    let reader = body.into_with_config().limit(u64::MAX).reader();
    Ok((Box::new(reader), length))
}
