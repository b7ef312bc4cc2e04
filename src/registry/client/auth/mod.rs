//! Who may: basic authentication and the bearer token dance.
//!
//! ```text
//!   client            registry              token server
//!     │  GET manifest    │                       │
//!     │ ───────────────▶ │                       │
//!     │  401: Bearer realm="…",service,scope     │
//!     │ ◀─────────────── │                       │
//!     │  GET realm?service=…&scope=… (Basic), or POST with an identity token
//!     │ ───────────────────────────────────────▶ │
//!     │  { "token": …, "expires_in": 300 }       │
//!     │ ◀─────────────────────────────────────── │
//!     │  GET manifest, Authorization: Bearer …   │
//!     │ ───────────────▶ │                       │
//! ```
//!
//! What it does: remembers what the registry asked for, and tokens by scope until shortly before
//! they expire, so that the dance is danced once and not for each layer.
//!
//! What it implements: distribution's "Token Authentication Specification" and "OAuth2 Token
//! Authentication"; RFC 7617. Interface: [`Auth`], [`Scopes`]. Read next: `challenge.rs`,
//! `credentials.rs`.

pub mod challenge;
pub mod credentials;

use super::transport::{Transport, Wish};
use crate::error::{Context, Error, Kind, Result};
use challenge::Challenge;
use credentials::Credential;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a request needs to be allowed: `repository:NAME:pull,push`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scopes(BTreeMap<String, BTreeSet<String>>);

impl Scopes {
    /// Actions on a repository.
    pub fn repository(name: &str, actions: &str) -> Scopes {
        Scopes::default().and(&format!("repository:{name}:{actions}"))
    }
    /// These and one more, written as it goes over the wire.
    #[must_use]
    pub fn and(mut self, scope: &str) -> Scopes {
        for part in scope.split_whitespace() {
            if let Some((resource, actions)) = part.rsplit_once(':') {
                let known = self.0.entry(resource.into()).or_default();
                known.extend(
                    actions
                        .split(',')
                        .filter(|a| !a.is_empty())
                        .map(String::from),
                );
            }
        }
        self
    }
    fn words(&self) -> Vec<String> {
        let word = |(resource, actions): (&String, &BTreeSet<String>)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            format!("{resource}:{}", actions.join(","))
        };
        self.0.iter().map(word).collect()
    }
}

#[derive(Debug, Clone)]
struct Token {
    value: String,
    until: Instant,
}

/// The state of one registry.
#[derive(Debug, Default)]
pub struct Auth {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    tokens: BTreeMap<Scopes, Token>,
    credential: Option<Option<Credential>>,
    identity: Option<String>,
    /// Whether a token that lasts is wanted.
    login: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

impl Auth {
    /// The state with a credential that no file holds (yet): `login`.
    pub fn with(credential: Credential) -> Auth {
        let state = State {
            credential: Some(Some(credential)),
            login: true,
            ..State::default()
        };
        Auth {
            state: Mutex::new(state),
        }
    }

    /// The state of who has this credential, or none, whatever the files say.
    pub fn known(credential: Option<Credential>) -> Auth {
        let state = State {
            credential: Some(credential),
            ..State::default()
        };
        Auth {
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The identity token that the token server gave at a login.
    pub fn identity_token(&self) -> Option<String> {
        self.state().identity.clone()
    }

    /// The header for a request, as far as it is known what the registry wants.
    pub(super) fn header(
        &self,
        transport: &Transport,
        registry: &str,
        repository: &str,
        scopes: &Scopes,
    ) -> Result<Option<String>> {
        // Held while a token is fetched: the layers that start at once need only one.
        let mut state = self.state();
        let Some(challenge) = state.challenge.clone() else {
            return Ok(None);
        };
        let credential = match &state.credential {
            Some(known) => known.clone(),
            None => {
                let found = credentials::find(registry, repository)?;
                state.credential = Some(found.clone());
                found
            }
        };
        if challenge.scheme == "basic" {
            return Ok(credential
                .and_then(|c| c.basic())
                .map(|b| format!("Basic {b}")));
        }
        let scopes = match challenge.get("scope").filter(|_| scopes.0.is_empty()) {
            Some(scope) => scopes.clone().and(scope),
            None => scopes.clone(),
        };
        if let Some(token) = state
            .tokens
            .get(&scopes)
            .filter(|t| t.until > Instant::now())
        {
            return Ok(Some(format!("Bearer {}", token.value)));
        }
        let answer = fetch(
            transport,
            &challenge,
            &scopes,
            credential.as_ref(),
            state.login,
        );
        let token = answer.and_then(|answer| {
            let value = answer.token.as_ref().or(answer.access_token.as_ref());
            let value = value.filter(|t| !t.is_empty()).cloned();
            let value = value.context("the token server's answer holds no token")?;
            Ok((value, answer))
        });
        let (value, answer) =
            token.with_context(|| format!("cannot get a token for {registry}"))?;
        state.identity = answer.refresh_token.or(state.identity.take());
        // The specification's default is 60; some time passes on the way.
        let life = answer.expires_in.unwrap_or(60).clamp(1, 86_400);
        let until = Instant::now() + Duration::from_millis(life * 900);
        // A cache asks for many repositories in its life.
        state.tokens.retain(|_, t| t.until > Instant::now());
        state.tokens.insert(
            scopes,
            Token {
                value: value.clone(),
                until,
            },
        );
        Ok(Some(format!("Bearer {value}")))
    }

    /// Learns from a 401 what is wanted. False: nothing that we could still try. Tokens are
    /// forgotten: the server did not like one.
    pub(super) fn learn(&self, headers: &[String], refused: bool) -> bool {
        let offered: Vec<Challenge> = headers.iter().flat_map(|h| challenge::parse(h)).collect();
        let named = |scheme: &str| {
            let fits = |c: &&Challenge| {
                c.scheme == scheme && (scheme == "basic" || c.get("realm").is_some())
            };
            offered.iter().find(fits).cloned()
        };
        let Some(challenge) = named("bearer").or_else(|| named("basic")) else {
            return false;
        };
        let mut state = self.state();
        if refused {
            state.tokens.clear();
        }
        state.challenge = Some(challenge);
        true
    }
}

fn fetch(
    transport: &Transport,
    challenge: &Challenge,
    scopes: &Scopes,
    credential: Option<&Credential>,
    login: bool,
) -> Result<Answer> {
    let realm = challenge
        .get("realm")
        .context("the registry names no token server")?;
    if credential.is_some() && transport.is_secure() && !realm.starts_with("https://") {
        return Err(Error::kind(
            Kind::Unsupported,
            format!("the registry would have the password sent in clear, to {realm}"),
        )
        .hint("a registry with TLS must name a token server with TLS; nothing was sent"));
    }
    let service = challenge.get("service").unwrap_or_default();
    if let Some(Credential::IdentityToken(token)) = credential {
        let mut form = vec![
            ("grant_type", "refresh_token".to_string()),
            ("service", service.to_string()),
            ("client_id", "glassbox".to_string()),
            ("refresh_token", token.clone()),
        ];
        form.push(("scope", scopes.words().join(" ")));
        let body: Vec<String> = form
            .iter()
            .map(|(k, v)| format!("{k}={}", escape(v)))
            .collect();
        let body = body.join("&");
        let mut wish = Wish::new("POST", realm);
        wish.headers
            .push(("content-type", "application/x-www-form-urlencoded".into()));
        wish.bytes = Some(body.as_bytes());
        return answer(transport, &wish);
    }
    let mut query = vec![format!("service={}", escape(service))];
    query.extend(
        scopes
            .words()
            .iter()
            .map(|s| format!("scope={}", escape(s))),
    );
    if let Some(Credential::Password { user, .. }) = credential {
        query.push(format!("account={}", escape(user)));
        query.push("client_id=glassbox".into());
        if login {
            query.push("offline_token=true".into());
        }
    }
    let join = if realm.contains('?') { '&' } else { '?' };
    let url = format!("{realm}{join}{}", query.join("&"));
    let mut wish = Wish::new("GET", &url);
    if let Some(basic) = credential.and_then(Credential::basic) {
        wish.headers
            .push(("authorization", format!("Basic {basic}")));
    }
    answer(transport, &wish)
}

fn answer(transport: &Transport, wish: &Wish<'_>) -> Result<Answer> {
    let response = transport.send(wish)?;
    if response.status != 200 {
        let status = response.status;
        let why = response.refusal();
        let error = Error::new(format!("the token server answers {status}")).caused_by(why);
        return Err(match status {
            401 | 403 => error.hint("the user or password is wrong, or `glassbox login` is needed"),
            _ => error,
        });
    }
    let bytes = response.bytes(1 << 20)?;
    serde_json::from_slice(&bytes).context("cannot understand the token server's answer")
}

/// What may not stand in a query as it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b':'
            | b'/'
            | b',' => {
                out.push(char::from(byte));
            }
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_joined_by_resource() {
        let scopes = Scopes::repository("a/b", "pull").and("repository:a/b:push repository:c:pull");
        assert_eq!(
            scopes.words(),
            ["repository:a/b:pull,push", "repository:c:pull"]
        );
        assert_eq!(escape("repository:a b"), "repository:a%20b");
    }
}
