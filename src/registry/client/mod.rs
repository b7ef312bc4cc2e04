//! The client: what a registry is asked, and by whom.
//!
//! ```text
//!   pull.rs  push.rs  copy.rs        what a user wants
//!       │        │       │
//!   manifest.rs  transfer.rs         documents, blobs
//!       └────────┼───────┘
//!   mod.rs (Client)                  requests of one registry, allowed by auth/
//!       │
//!   transport.rs                     retries, redirects, exchange.rs notes each
//!       │
//!   endpoint.rs  tls.rs  secure.rs  resolve.rs  where it is, whom to trust
//! ```
//!
//! What it does: knows the URLs of one registry, asks for tokens when they are wanted, and turns
//! refusals into errors. Everything is blocking; whoever wants several things at once has threads.
//!
//! What it implements: distribution-spec 1.1, the client's side. Interface: [`Client`], [`pull()`],
//! [`push()`], [`copy()`]. Read next: `exchange.rs`, `transport.rs`, `auth/mod.rs`, `pull.rs`.

pub mod auth;
mod copy;
pub mod endpoint;
pub mod exchange;
mod listing;
mod manifest;
mod parallel;
mod pull;
mod push;
mod resolve;
mod secure;
mod tls;
mod transfer;
pub mod transport;

pub use copy::{CopyOptions, copy};
pub(crate) use listing::next_page;
pub(crate) use manifest::ACCEPT;
pub use manifest::{Document, choose, parse_platform};
pub use pull::{PullOptions, Pulled, pull};
pub use push::{Pushed, push};

use crate::error::{Error, Result};
use auth::credentials::Credential;
use auth::{Auth, Scopes};
use endpoint::Endpoint;
use exchange::Trace;
use std::path::PathBuf;
use std::sync::Arc;
use transport::{Patience, Response, Transport, Wish};

/// How to speak to a registry.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Without TLS.
    pub insecure: bool,
    /// A directory with certificates.
    pub cert_dir: Option<PathBuf>,
    /// How patient to be.
    pub patience: Patience,
}

/// What becomes of one blob, for whoever draws it. Called by several threads.
pub trait Watch: Sync {
    /// Something happened to the blob that is called `id` (twelve digits).
    fn layer(&self, id: &str, event: Event);
    /// A line for a person.
    fn line(&self, text: &str);
}

/// See [`Watch::layer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It will be done; so many bytes.
    Waiting(u64),
    /// Its transfer begins.
    Begins(u64),
    /// So many bytes more.
    Bytes(u64),
    /// It is done, or was there: docker's words.
    Done(String),
}

impl Watch for () {
    fn layer(&self, _: &str, _: Event) {}
    fn line(&self, _: &str) {}
}

/// A client of one registry.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    transport: Transport,
    auth: Auth,
    trace: Arc<Trace>,
}

impl Client {
    /// A client of the registry with this name. Errors: certificates that cannot be read.
    pub fn new(registry: &str, options: &Options, trace: Arc<Trace>) -> Result<Client> {
        let endpoint = Endpoint::new(registry, options.insecure, options.cert_dir.clone());
        Client::at(endpoint, options.patience, Auth::default(), trace)
    }

    /// A client of this server, which is known in this way. Errors: certificates that cannot be read.
    pub fn at(
        endpoint: Endpoint,
        patience: Patience,
        auth: Auth,
        trace: Arc<Trace>,
    ) -> Result<Client> {
        let transport = Transport::new(&endpoint, patience, Arc::clone(&trace))?;
        Ok(Client {
            endpoint,
            transport,
            auth,
            trace,
        })
    }

    /// The registry's name.
    pub fn registry(&self) -> &str {
        &self.endpoint.registry
    }
    /// Who hears of exchanges.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// `https://HOST/v2/REPOSITORY/REST`
    pub(crate) fn url(&self, repository: &str, rest: &str) -> String {
        format!("{}/v2/{repository}/{rest}", self.endpoint.base())
    }

    /// Sends a request with whatever the registry wants to know of us.
    pub(crate) fn send(
        &self,
        repository: &str,
        scopes: &Scopes,
        wish: &mut Wish<'_>,
    ) -> Result<Response> {
        let ours = transport::origin(&wish.url) == transport::origin(&self.endpoint.base());
        let mut learnt = false;
        loop {
            wish.headers.retain(|(name, _)| *name != "authorization");
            let header = match ours {
                true => self
                    .auth
                    .header(&self.transport, self.registry(), repository, scopes)?,
                false => None,
            };
            let had = header.is_some();
            wish.headers.extend(header.map(|h| ("authorization", h)));
            let response = self.transport.send(wish)?;
            // Once: who is refused with what the registry asked for is refused.
            if response.status != 401 || !ours || learnt {
                return Ok(response);
            }
            if !self.auth.learn(&response.all("www-authenticate"), had) {
                return Ok(response);
            }
            learnt = true;
        }
    }

    /// Asks whether the registry is one and lets a user in; what to keep of it. Errors: it is none,
    /// or does not.
    pub fn login(mut self, credential: Credential) -> Result<Credential> {
        self.auth = Auth::with(credential.clone());
        let url = format!("{}/v2/", self.endpoint.base());
        let response = self.send("", &Scopes::default(), &mut Wish::new("GET", &url))?;
        match response.status {
            200 => {}
            404 => {
                return Err(Error::new(format!("{} is no registry", self.registry()))
                    .caused_by(response.refusal()));
            }
            401 => {
                let refused = response.refusal();
                return Err(refused.hint("the user or the password is wrong"));
            }
            _ => return Err(response.refusal()),
        }
        Ok(match self.auth.identity_token() {
            Some(token) => Credential::IdentityToken(token),
            None => credential,
        })
    }
}
