//! Whom to trust: Mozilla's roots, the host's, and those put down for one registry.
//!
//! What it does: a server's certificate must lead to a root. Mozilla's are compiled in, so that a
//! static binary in an empty root can speak to anyone; the host's administrator may have added
//! some; and docker and podman keep a private registry's in a directory of its name:
//!
//! ```text
//!   /etc/docker/certs.d/HOST:PORT/*.crt               roots
//!                                /*.cert and *.key    who we are
//!   /etc/containers/certs.d/…, ~/.config/containers/certs.d/…, ~/.docker/certs.d/…
//! ```
//!
//! What it implements: docker's "certs.d", containers-certs.d(5). Interface: [`config`].
//! Read next: `secure.rs`.

use super::secure::{self, Own};
use crate::error::{Context, Error, Result};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

/// Bundles of the usual distributions; the first that is there counts.
const HOSTS_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where a registry's certificates may be.
pub fn usual_directories(host: &str) -> Vec<PathBuf> {
    let mut directories = vec![
        Path::new("/etc/containers/certs.d").join(host),
        Path::new("/etc/docker/certs.d").join(host),
    ];
    if let Some(home) = std::env::var_os("HOME").filter(|h| !h.is_empty()) {
        for place in [".config/containers/certs.d", ".docker/certs.d"] {
            directories.push(Path::new(&home).join(place).join(host));
        }
    }
    directories
}

/// How to speak TLS to this registry: the roots, and our own certificate. Errors: a file that cannot
/// be read or holds no certificate; a certificate without its key.
pub fn config(directories: &[PathBuf]) -> Result<ClientConfig> {
    let mut put_down = Vec::new();
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = named
        .into_iter()
        .chain(HOSTS_ROOTS.iter().map(PathBuf::from))
        .find(|p| p.is_file());
    if let Some(bundle) = bundle {
        put_down.extend(certificates(&bundle)?);
    }
    let mut client = None;
    for directory in directories {
        let what = || format!("cannot read the certificates in {}", directory.display());
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .with_context(what)?
            .flatten()
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|e| e.to_str()) {
                Some("crt") => put_down.extend(needed(&file)?),
                Some("cert") => client = Some(own(&file)?),
                _ => {}
            }
        }
    }
    secure::client(TLS_SERVER_ROOT_CERTS, put_down, client)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The certificates of a file; others' broken ones are passed over.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(file)?;
    Ok(CertificateDer::pem_slice_iter(&text).flatten().collect())
}

fn needed(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = certificates(file)?;
    match found.is_empty() {
        true => Err(
            Error::new(format!("{} holds no certificate", file.display()))
                .hint("it must be PEM: -----BEGIN CERTIFICATE-----"),
        ),
        false => Ok(found),
    }
}

/// `client.cert` with `client.key` beside it.
fn own(file: &Path) -> Result<Own> {
    let key = file.with_extension("key");
    let text = read(&key).map_err(|e| {
        e.hint(format!(
            "a client's certificate {} needs its key beside it",
            file.display()
        ))
    })?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|e| Error::new(format!("{} holds no key", key.display())).caused_by(e))?;
    Ok((needed(file)?, key))
}
