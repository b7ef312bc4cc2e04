//! Who we are to a registry: docker's and podman's files, and the programs that keep secrets.
//!
//! ```text
//!   $DOCKER_CONFIG/config.json, ~/.docker/config.json
//!       auths        { "HOST": { "auth": base64(user:password), "identitytoken": … } }
//!       credHelpers  { "HOST": "X" }     ask docker-credential-X for this registry
//!       credsStore   "X"                 ask it for every registry
//!   $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json    the same, also for HOST/REPOSITORY
//! ```
//!
//! What is found first counts, in this order. Only docker's file is written: replaced whole, mode
//! 0600, with all that we do not know kept.
//!
//! What it implements: docker's config.json and the credential helpers' protocol (`get`, `store`,
//! `erase`: the server's name or a JSON document on stdin, JSON on stdout); containers-auth.json(5).
//! Interface: [`find`], [`store`], [`erase`]. Read next: `../mod.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::files;
use crate::registry::client::endpoint::DOCKER_IO;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What docker calls its own registry in its files.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
/// The user under which helpers keep an identity token.
const TOKEN_USER: &str = "<token>";

/// What proves who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password, or an access token in its place.
        password: String,
    },
    /// A token that buys others (OAuth 2's refresh token).
    IdentityToken(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

impl Credential {
    /// `user:password` in base64, as HTTP's basic scheme wants it.
    pub fn basic(&self) -> Option<String> {
        match self {
            Credential::Password { user, password } => {
                Some(STANDARD.encode(format!("{user}:{password}")))
            }
            Credential::IdentityToken(_) => None,
        }
    }
}

fn key(registry: &str) -> &str {
    if registry == DOCKER_IO {
        DOCKER_KEY
    } else {
        registry
    }
}

/// Docker's file.
pub fn docker_file() -> Result<PathBuf> {
    let directory = match std::env::var_os("DOCKER_CONFIG").filter(|d| !d.is_empty()) {
        Some(directory) => PathBuf::from(directory),
        None => {
            let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
            let home = home.context("neither DOCKER_CONFIG nor HOME says where config.json is")?;
            PathBuf::from(home).join(".docker")
        }
    };
    Ok(directory.join("config.json"))
}

fn podman_files() -> Vec<PathBuf> {
    let var = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(file) = var("REGISTRY_AUTH_FILE") {
        return vec![file];
    }
    let mut files: Vec<PathBuf> = var("XDG_RUNTIME_DIR")
        .map(|d| d.join("containers/auth.json"))
        .into_iter()
        .collect();
    if nix::unistd::geteuid().is_root() {
        files.push("/run/containers/0/auth.json".into());
    }
    files.extend(var("HOME").map(|h| h.join(".config/containers/auth.json")));
    files
}

fn read(path: &std::path::Path) -> Result<Map<String, Value>> {
    Ok(files::read_json(path)?.unwrap_or_default())
}

/// What is known for a registry; `None`: go without. Errors: a damaged file, a helper that fails.
pub fn find(registry: &str, repository: &str) -> Result<Option<Credential>> {
    let docker = docker_file().ok();
    let every = docker.into_iter().chain(podman_files());
    for path in every {
        let config = read(&path)?;
        if let Some(found) = in_config(&config, registry, repository)
            .with_context(|| format!("cannot use the credentials of {}", path.display()))?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn in_config(
    config: &Map<String, Value>,
    registry: &str,
    repository: &str,
) -> Result<Option<Credential>> {
    let wanted = key(registry);
    if let Some(helper) = helper_for(config, wanted) {
        return ask(&helper, wanted);
    }
    let Some(auths) = config.get("auths").and_then(Value::as_object) else {
        return Ok(None);
    };
    // The longest name that is ours: HOST/a/b, HOST/a, HOST.
    let mut name = format!("{registry}/{repository}");
    loop {
        let entry = auths
            .iter()
            .find(|(k, _)| plain_name(k) == name || (k.as_str() == wanted && name == registry));
        if let Some((_, entry)) = entry {
            return of_entry(entry);
        }
        match name.rsplit_once('/') {
            Some((shorter, _)) => name = shorter.to_string(),
            None => return Ok(None),
        }
    }
}

/// Old clients wrote URLs: `https://HOST/v1/`.
fn plain_name(key: &str) -> &str {
    let name = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let name = name.trim_end_matches('/');
    name.trim_end_matches("/v1").trim_end_matches("/v2")
}

fn of_entry(entry: &Value) -> Result<Option<Credential>> {
    let text = |name: &str| {
        entry
            .get(name)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(token.into())));
    }
    if let Some(auth) = text("auth") {
        let bytes = STANDARD.decode(auth.trim());
        let decoded = bytes.ok().and_then(|b| String::from_utf8(b).ok());
        let (user, password) = decoded
            .as_deref()
            .and_then(|d| d.split_once(':'))
            .context("an entry's \"auth\" is no base64 of USER:PASSWORD")?;
        let password = password.trim_end_matches('\0').to_string();
        return Ok(Some(Credential::Password {
            user: user.into(),
            password,
        }));
    }
    Ok(text("username")
        .zip(text("password"))
        .map(|(user, password)| Credential::Password {
            user: user.into(),
            password: password.into(),
        }))
}

fn helper_for(config: &Map<String, Value>, key: &str) -> Option<String> {
    let of_registry = config
        .get("credHelpers")
        .and_then(|h| h.get(key))
        .and_then(Value::as_str);
    let of_all = config.get("credsStore").and_then(Value::as_str);
    of_registry
        .or(of_all)
        .filter(|h| !h.is_empty())
        .map(String::from)
}

/// Runs `docker-credential-HELPER VERB`. Errors: there is none, or it fails, with what it says.
fn call(helper: &str, verb: &str, input: &str) -> Result<String> {
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        return Err(Error::kind(
            Kind::Usage,
            format!("the credential helper {helper:?} is no plain name"),
        ));
    }
    let what = || format!("cannot run {program}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(what)
        .map_err(|e| {
            e.hint("config.json names it in credsStore or credHelpers; it must be in PATH")
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes()); // one that does not listen says so by its status
    }
    let output = child.wait_with_output().with_context(what)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
    match output.status.success() {
        true => Ok(said),
        false => Err(Error::new(format!("{program} {verb} failed: {said}"))),
    }
}

fn ask(helper: &str, key: &str) -> Result<Option<Credential>> {
    let said = match call(helper, "get", key) {
        Err(e) if e.message().contains("credentials not found") => return Ok(None),
        other => other?,
    };
    let value: Value = serde_json::from_str(&said)
        .with_context(|| format!("docker-credential-{helper} answers no JSON"))?;
    let text = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    Ok(match (text("Username"), text("Secret")) {
        (_, secret) if secret.is_empty() => None,
        (user, token) if user == TOKEN_USER => Some(Credential::IdentityToken(token)),
        (user, password) => Some(Credential::Password { user, password }),
    })
}

/// Keeps a credential where docker's file says: with a helper, or in the file itself. Returns where.
pub fn store(registry: &str, credential: &Credential) -> Result<String> {
    let path = docker_file()?;
    let mut config = read(&path)?;
    let wanted = key(registry);
    if let Some(helper) = helper_for(&config, wanted) {
        let (user, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
        };
        let document = json!({ "ServerURL": wanted, "Username": user, "Secret": secret });
        call(&helper, "store", &document.to_string())?;
        return Ok(format!("docker-credential-{helper}"));
    }
    let entry = match credential {
        Credential::Password { .. } => json!({ "auth": credential.basic() }),
        Credential::IdentityToken(token) => json!({ "auth": "", "identitytoken": token }),
    };
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let auths = auths
        .as_object_mut()
        .context("\"auths\" in config.json is no object")?;
    auths.insert(wanted.into(), entry);
    write(&path, &config)?;
    Ok(path.display().to_string())
}

/// Forgets what is kept for a registry. Returns whether there was anything.
pub fn erase(registry: &str) -> Result<bool> {
    let path = docker_file()?;
    let mut config = read(&path)?;
    let wanted = key(registry);
    let mut had = false;
    if let Some(helper) = helper_for(&config, wanted) {
        had = ask(&helper, wanted)?.is_some();
        if had {
            call(&helper, "erase", wanted)?;
        }
    }
    if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
        let before = auths.len();
        auths.retain(|k, _| k != wanted && plain_name(k) != registry);
        if auths.len() != before {
            had = true;
            write(&path, &config)?;
        }
    }
    Ok(had)
}

fn write(path: &std::path::Path, config: &Map<String, Value>) -> Result<()> {
    // A file that is a link into the user's dotfiles stays one.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    if let Some(directory) = real.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    files::write_atomically(&real, &files::to_json(config)?, 0o600, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: Value, registry: &str, repository: &str) -> Option<Credential> {
        in_config(config.as_object().unwrap(), registry, repository).unwrap()
    }

    #[test]
    fn the_longest_name_counts_and_old_names_are_understood() {
        let auth = |user: &str| json!({ "auth": STANDARD.encode(format!("{user}:p:q")) });
        let config = json!({ "auths": {
            "https://index.docker.io/v1/": auth("d"), "http://old.example/v1/": auth("o"),
            "a.example": auth("short"), "a.example/team": auth("long"),
            "t.example": { "identitytoken": "T" },
        }});
        let user = |registry, repository| match of(config.clone(), registry, repository) {
            Some(Credential::Password { user, password }) => format!("{user} {password}"),
            Some(Credential::IdentityToken(t)) => t,
            None => String::new(),
        };
        assert_eq!(user("docker.io", "library/x"), "d p:q");
        assert_eq!(user("old.example", "x"), "o p:q");
        assert_eq!(user("a.example", "x"), "short p:q");
        assert_eq!(user("a.example", "team/x/y"), "long p:q");
        assert_eq!(user("t.example", "x"), "T");
        assert_eq!(user("other.example", "x"), "");
    }
}
