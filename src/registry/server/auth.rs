//! Who may ask: an htpasswd file with bcrypt hashes.
//!
//! What it does: a request brings a name and a password (basic authentication); the file says
//! whether they fit. bcrypt is slow on purpose, and a push has a hundred requests: what was right
//! once is remembered for five minutes by a hash that only this process can make. The file is read
//! again when it has changed.
//!
//! What it implements: RFC 7617 (Basic), Apache's htpasswd form (`name:$2y$…`). Interface:
//! [`Passwords`]. Read next: `serve.rs`.

use super::answer::Refusal;
use crate::error::{Context, Error, Kind, Result};
use crate::registry::protocol::ErrorCode;
use base64::Engine;
use sha2::Digest as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;

/// How long a password that was right is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many of them.
const MOST: usize = 1024;

/// The users of a registry.
pub struct Passwords {
    path: PathBuf,
    state: Mutex<State>,
    key: [u8; 32],
    // Whoever guesses must not take all the processors.
    turns: Semaphore,
}

#[derive(Default)]
struct State {
    changed: Option<SystemTime>,
    hashes: HashMap<String, String>,
    right: HashMap<[u8; 32], Instant>,
}

impl Passwords {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Passwords> {
        let passwords = Passwords {
            path: path.to_path_buf(),
            state: Mutex::default(),
            key: crate::sys::ask::getrandom()?,
            turns: Semaphore::new(2),
        };
        passwords.refresh()?;
        Ok(passwords)
    }

    fn refresh(&self) -> Result<()> {
        let what = || format!("cannot read {}", self.path.display());
        let changed = std::fs::metadata(&self.path)
            .and_then(|m| m.modified())
            .with_context(what)?;
        let Ok(mut state) = self.state.lock() else {
            return Ok(());
        };
        if state.changed == Some(changed) {
            return Ok(());
        }
        let text = std::fs::read_to_string(&self.path).with_context(what)?;
        state.hashes = parse(&text).with_context(what)?;
        state.right.clear();
        state.changed = Some(changed);
        Ok(())
    }

    /// The user that a request's `Authorization` names.
    ///
    /// # Errors
    /// 401, with what asks the client for a name and a password.
    pub async fn check(&self, authorization: Option<&str>) -> Result<String, Refusal> {
        let Some((name, password)) = authorization.and_then(credentials) else {
            return Err(unauthorized("the registry wants a name and a password"));
        };
        let wrong = || unauthorized("the name or the password is wrong");
        // A file that is being replaced keeps its old users a moment longer.
        let _ = self.refresh();
        let mut seal = sha2::Sha256::new();
        seal.update(self.key);
        seal.update(name.as_bytes());
        seal.update([0]);
        seal.update(password.as_bytes());
        let seal: [u8; 32] = seal.finalize().into();
        let hash = {
            let Ok(mut state) = self.state.lock() else {
                return Err(wrong());
            };
            state.right.retain(|_, at| at.elapsed() < REMEMBERED);
            if state.right.contains_key(&seal) {
                return Ok(name);
            }
            state.hashes.get(&name).cloned()
        };
        let known = hash.is_some();
        // A name that is not there takes as long as one that is.
        let hash = hash.unwrap_or_else(|| {
            "$2y$10$abcdefghijklmnopqrstuuK1N4ARnBhbZ3O1Eb7lQ3d1Gp9yE7bJm".into()
        });
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(wrong());
        };
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        if !right || !known {
            return Err(wrong());
        }
        if let Ok(mut state) = self.state.lock()
            && state.right.len() < MOST
        {
            state.right.insert(seal, Instant::now());
        }
        Ok(name)
    }
}

fn unauthorized(why: &'static str) -> Refusal {
    Refusal::because(ErrorCode::Unauthorized, why)
        .with("www-authenticate", "Basic realm=\"glassbox registry\"")
}

/// `Basic BASE64(name:password)`
fn credentials(authorization: &str) -> Option<(String, String)> {
    let (scheme, text) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .ok()?;
    let (name, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((name.to_string(), password.to_string()))
}

fn parse(text: &str) -> Result<HashMap<String, String>> {
    let mut hashes = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = |why: &str| {
            Error::kind(Kind::Usage, format!("line {} {why}", number + 1))
                .hint("make the file with `htpasswd -B -c FILE NAME`")
        };
        let (name, hash) = line
            .split_once(':')
            .ok_or_else(|| bad("is not NAME:HASH"))?;
        if !["$2a$", "$2b$", "$2y$"]
            .iter()
            .any(|kind| hash.starts_with(kind))
        {
            return Err(bad("has a hash that is not bcrypt's"));
        }
        hashes.insert(name.to_string(), hash.to_string());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_and_the_header() {
        let users = parse("# us\n\nann:$2y$05$abc\nbob:$2b$05$x:y\n").unwrap();
        assert_eq!(users["bob"], "$2b$05$x:y");
        for bad in ["ann", "ann:{SHA}x", "ann:$apr1$x"] {
            assert!(parse(bad).unwrap_err().get_hint().is_some(), "{bad}");
        }
        assert_eq!(
            credentials("basic YW5uOmE6Yg=="),
            Some(("ann".into(), "a:b".into()))
        );
        for bad in ["", "Basic", "Basic !", "Bearer YW5uOmE6Yg==", "Basic YW5u"] {
            assert_eq!(credentials(bad), None, "{bad}");
        }
    }
}
