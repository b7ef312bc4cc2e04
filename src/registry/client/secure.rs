//! TLS under HTTP, and which certificate of a server is good.
//!
//! What it does: wraps a connection in TLS. A server's certificate must lead to a root, be for the
//! name that was asked, and be within its dates; webpki says so. One kind it refuses on principle,
//! and everybody has it: what `openssl req -x509` makes, a certificate that signs itself and may sign
//! others (CA:TRUE), shown by the server as its own. docker, podman, skopeo and curl take it where it
//! is itself what was put down as trusted, and so does [`Trust`]: byte for byte one of those, with
//! its dates and its name looked at. That the server has its key, the handshake proves as always.
//!
//! What it implements: RFC 5280 §6.1 by webpki, RFC 9525 (names), and OpenSSL's and Go's rule that a
//! chain may be one trusted certificate. Interface: [`Secure`], [`client`]. Read next: `tls.rs`.

use crate::error::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::io::{Read, Write};
use std::sync::Arc;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Our own certificates, and their key.
pub type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How to speak TLS: `common` roots and those `put_down` by this host's administrator or user, and
/// what we show when we are asked who we are. Roots that make no sense are passed over. Errors: our
/// key does not fit our certificate, or there is no root at all.
pub fn client(
    common: &[CertificateDer<'static>],
    put_down: Vec<CertificateDer<'static>>,
    own: Option<Own>,
) -> Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(common.iter().chain(&put_down).cloned());
    let chains = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .map_err(|e| Error::new("cannot use the roots of trust").caused_by(e))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new("cannot speak TLS").caused_by(e))?
        // Nothing is less looked at than without this: `Trust` asks webpki first.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust { chains, put_down }));
    match own {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| Error::new("our certificate and its key do not fit").caused_by(e)),
    }
}

/// webpki's judgement, and the exception.
#[derive(Debug)]
struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    put_down: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let judged = self
            .chains
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        match judged {
            // webpki looks at the dates before it comes to this.
            Err(e) if signs_others(&e) && self.put_down.iter().any(|c| c == end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether all that is wrong with a server's certificate so far is that it may sign others.
fn signs_others(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

/// Puts TLS around what the connectors before it have connected, where the URL wants it.
#[derive(Debug)]
pub struct Secure(pub Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Secure {
    type Out = Either<In, Stream>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> std::result::Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        // An IPv6 address stands in brackets in a URL, and without them in a certificate.
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_string())
            .map_err(|_| ureq::Error::Tls("a certificate cannot be for this host's name"))?;
        let mut session = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut wire = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        wire.set_timeout(details.timeout);
        session.complete_io(&mut wire)?;
        let (input, output) = (
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        Ok(Some(Either::B(Stream {
            buffers: LazyBuffers::new(input, output),
            inner: StreamOwned::new(session, wire),
        })))
    }
}

/// A connection inside TLS.
pub struct Stream {
    buffers: LazyBuffers,
    inner: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Transport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(
        &mut self,
        amount: usize,
        timeout: NextTimeout,
    ) -> std::result::Result<(), ureq::Error> {
        self.inner.get_mut().set_timeout(timeout);
        Ok(self.inner.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> std::result::Result<bool, ureq::Error> {
        self.inner.get_mut().set_timeout(timeout);
        let amount = self.inner.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.inner.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
