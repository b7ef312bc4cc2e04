//! Certificates of a test's own: an authority, a server, a client.
//!
//! Interface: [`Authority`]. Read next: `tests/registry_tls.rs`.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;

/// An authority that nobody knows but who has its certificate.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        Authority::named(&[], |_| {})
    }
    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }
    /// A certificate for these names or addresses.
    pub fn issue(&self, names: &[&str]) -> Pair {
        let (cert, key) = self.signed(names);
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
    fn signed(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_string()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        (params.signed_by(&key, &self.0).expect("signed"), key)
    }

    /// What `openssl req -x509` makes: an authority whose certificate has a server's names.
    pub fn with_names(names: &[&str]) -> Authority {
        Authority::named(names, |_| {})
    }

    /// The same, and its time is over.
    pub fn expired(names: &[&str]) -> Authority {
        Authority::named(names, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    fn named(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let names: Vec<String> = names.iter().map(|n| (*n).to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A server's side of TLS that shows the authority's certificate itself.
    pub fn itself(&self) -> Arc<rustls::ServerConfig> {
        let chain = vec![CertificateDer::from(self.0.der().to_vec())];
        let key = PrivateKeyDer::try_from(self.0.key().serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth();
        Arc::new(config.with_single_cert(chain, key).expect("a certificate"))
    }

    /// A server's side of TLS, for these names. `clients`: only who has a certificate of this
    /// authority is let in.
    pub fn server(&self, names: &[&str], clients: Option<&Authority>) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (cert, key) = self.signed(names);
        let chain = vec![CertificateDer::from(cert.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                let der = CertificateDer::from(authority.0.der().to_vec());
                roots.add(der).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                config.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        Arc::new(config.with_single_cert(chain, key).expect("a certificate"))
    }
}
