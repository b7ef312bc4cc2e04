//! Which server a registry's name means, and how it is spoken to.
//!
//! What it does: `docker.io` is served by registry-1.docker.io; every other name is a host with
//! maybe a port. TLS is the rule. This machine's own registries (localhost, 127.0.0.0/8, ::1) are
//! plain unless a certificate for them was put where docker looks for it; others are plain only
//! with `--insecure`.
//!
//! What it implements: docker's rules for names and insecure registries.
//! Interface: [`Endpoint`]. Read next: `tls.rs`.

use super::tls;
use std::net::IpAddr;
use std::path::PathBuf;

/// Docker's own registry.
pub const DOCKER_IO: &str = "docker.io";

/// Where a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The registry's name, as it stands in references: `docker.io`.
    pub registry: String,
    /// `registry-1.docker.io`, `localhost:5000`.
    pub host: String,
    /// Whether it is spoken to without TLS.
    pub plain: bool,
    /// Directories with certificates for it.
    pub cert_dirs: Vec<PathBuf>,
}

impl Endpoint {
    /// The server of a registry. `insecure`: without TLS. `cert_dir`: certificates for it are here
    /// as well.
    pub fn new(registry: &str, insecure: bool, cert_dir: Option<PathBuf>) -> Endpoint {
        let host = match registry {
            DOCKER_IO => "registry-1.docker.io",
            other => other,
        };
        let mut cert_dirs: Vec<PathBuf> = tls::usual_directories(host)
            .into_iter()
            .filter(|d| d.is_dir())
            .collect();
        cert_dirs.extend(cert_dir);
        let plain = insecure || (is_loopback(host) && cert_dirs.is_empty());
        Endpoint {
            registry: registry.into(),
            host: host.into(),
            plain,
            cert_dirs,
        }
    }

    /// `https://registry-1.docker.io`
    pub fn base(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }
}

/// Whether a host, maybe with a port, is this machine.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_plain_and_others_are_not() {
        let base = |name, insecure| Endpoint::new(name, insecure, None).base();
        assert_eq!(base("docker.io", false), "https://registry-1.docker.io");
        assert_eq!(base("localhost:5000", false), "http://localhost:5000");
        assert_eq!(base("127.3.2.1:1", false), "http://127.3.2.1:1");
        assert_eq!(base("[::1]:5000", false), "http://[::1]:5000");
        assert_eq!(base("registry.example", false), "https://registry.example");
        assert_eq!(base("registry.example", true), "http://registry.example");
        assert_eq!(
            base("localhost.example", false),
            "https://localhost.example"
        );
        let with = Endpoint::new("localhost:5000", false, Some("/certs".into()));
        assert_eq!(with.base(), "https://localhost:5000");
    }
}
