//! Which endpoint a path means.
//!
//! What it does: names of repositories have slashes, and what follows them looks like more name; so
//! a path is read from its end. Pure functions over text.
//!
//! What it implements: distribution-spec 1.1, "Endpoints", "Pulling manifests" (the grammar of
//! names and tags). Interface: [`endpoint`], [`Endpoint`], [`Query`], [`is_name`], [`is_tag`].
//! Read next: `answer.rs`.

/// The last component of a path below /v2/, by the kind of thing it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v2/`: is this a registry?
    Base,
    /// `/v2/_catalog`: the repositories.
    Catalog,
    /// `/metrics`, for Prometheus.
    Metrics,
    /// `/v2/NAME/tags/list`
    Tags(String),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(String, String),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(String, String),
    /// `/v2/NAME/blobs/uploads/`: where uploads begin.
    Uploads(String),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(String, String),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(String, String),
    /// An endpoint's form, with what cannot be a repository's name.
    BadName(String),
    /// None of these.
    Unknown,
}

impl Endpoint {
    /// What the request log and the metrics call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Endpoint::Base => "base",
            Endpoint::Catalog => "catalog",
            Endpoint::Metrics => "metrics",
            Endpoint::Tags(_) => "tags",
            Endpoint::Manifest(..) => "manifest",
            Endpoint::Blob(..) => "blob",
            Endpoint::Uploads(_) | Endpoint::Upload(..) => "upload",
            Endpoint::Referrers(..) => "referrers",
            Endpoint::BadName(_) | Endpoint::Unknown => "other",
        }
    }

    /// The methods it has, as the `Allow` header lists them.
    pub fn methods(&self) -> &'static [&'static str] {
        match self {
            Endpoint::Manifest(..) => &["GET", "HEAD", "PUT", "DELETE"],
            Endpoint::Blob(..) => &["GET", "HEAD", "DELETE"],
            Endpoint::Uploads(_) => &["POST"],
            Endpoint::Upload(..) => &["GET", "HEAD", "PATCH", "PUT", "DELETE"],
            _ => &["GET", "HEAD"],
        }
    }
}

/// What a name and a path's last component make.
type Found = fn(String, String) -> Endpoint;

/// Reads a path. `/v2` is as good as `/v2/`, and `uploads` as `uploads/`.
pub fn endpoint(path: &str) -> Endpoint {
    let Some(path) = decoded(path) else {
        return Endpoint::Unknown;
    };
    match path.as_str() {
        "/v2/" | "/v2" => return Endpoint::Base,
        "/v2/_catalog" => return Endpoint::Catalog,
        "/metrics" => return Endpoint::Metrics,
        _ => {}
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return Endpoint::Unknown;
    };
    let parts: Vec<&str> = rest.split('/').collect();
    // The longest forms first: a repository may be called a/blobs, but `a/blobs/uploads/ID` is no
    // manifest or blob of it, since none has the word before the last.
    let (name, found): (&[&str], Found) = match parts.as_slice() {
        [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
            (name, |name, _| Endpoint::Uploads(name))
        }
        [name @ .., "blobs", "uploads", _] => (name, Endpoint::Upload),
        [name @ .., "tags", "list"] => (name, |name, _| Endpoint::Tags(name)),
        [name @ .., "manifests", _] => (name, Endpoint::Manifest),
        [name @ .., "blobs", _] => (name, Endpoint::Blob),
        [name @ .., "referrers", _] => (name, Endpoint::Referrers),
        _ => return Endpoint::Unknown,
    };
    let name = name.join("/");
    if !is_name(&name) {
        return Endpoint::BadName(name);
    }
    found(name, parts.last().copied().unwrap_or_default().to_string())
}

/// Whether it can name a repository: components of lower-case letters and digits, separated inside
/// by one of `.`, `_`, `__` or dashes; 255 bytes at most.
pub fn is_name(name: &str) -> bool {
    let component = |part: &str| {
        let bytes = part.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
            return false;
        }
        bytes.split(alphanumeric).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|b| *b == b'-')
        })
    };
    !name.is_empty() && name.len() <= 255 && name.split('/').all(component)
}

/// Whether it can be a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    bytes.first().is_some_and(word)
        && bytes.len() <= 128
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// The parameters after the question mark.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them. What is no well-formed escape stays as it is.
    pub fn new(text: &str) -> Query {
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |t: &str| {
                let spaced = t.replace('+', " ");
                decoded(&spaced).unwrap_or(spaced)
            };
            (plain(key), plain(value))
        });
        Query(pairs.collect())
    }
    /// The first parameter of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }
}

/// `%41` becomes `A`. `None` for a broken escape and for what is then no text.
pub fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_string());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then_some(text)
}

/// For a query: everything but letters, digits and `-._~` escaped.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_slashes_in_the_middle() {
        let s = |t: &str| t.to_string();
        for (path, want) in [
            ("/v2/", Endpoint::Base),
            ("/v2", Endpoint::Base),
            ("/v2/_catalog", Endpoint::Catalog),
            ("/metrics", Endpoint::Metrics),
            ("/", Endpoint::Unknown),
            ("/v1/a/tags/list", Endpoint::Unknown),
            ("/v2/a/b/c/tags/list", Endpoint::Tags(s("a/b/c"))),
            ("/v2/tags/list/tags/list", Endpoint::Tags(s("tags/list"))),
            (
                "/v2/a/manifests/latest",
                Endpoint::Manifest(s("a"), s("latest")),
            ),
            (
                "/v2/manifests/manifests/manifests",
                Endpoint::Manifest(s("manifests"), s("manifests")),
            ),
            (
                "/v2/a/manifests/sha256%3Aab",
                Endpoint::Manifest(s("a"), s("sha256:ab")),
            ),
            (
                "/v2/a/blobs/blobs/sha256:ab",
                Endpoint::Blob(s("a/blobs"), s("sha256:ab")),
            ),
            ("/v2/a/blobs/uploads/", Endpoint::Uploads(s("a"))),
            ("/v2/a/blobs/uploads", Endpoint::Uploads(s("a"))),
            (
                "/v2/a/blobs/uploads/12-34",
                Endpoint::Upload(s("a"), s("12-34")),
            ),
            (
                "/v2/a/blobs/uploads/manifests/x",
                Endpoint::Manifest(s("a/blobs/uploads"), s("x")),
            ),
            (
                "/v2/a/referrers/sha256:ab",
                Endpoint::Referrers(s("a"), s("sha256:ab")),
            ),
            ("/v2/A/tags/list", Endpoint::BadName(s("A"))),
            ("/v2//tags/list", Endpoint::BadName(s(""))),
            ("/v2/tags/list", Endpoint::BadName(s(""))),
            ("/v2/a/../b/tags/list", Endpoint::BadName(s("a/../b"))),
            ("/v2/a%2f..%2fb/tags/list", Endpoint::BadName(s("a/../b"))),
            ("/v2/a/tags", Endpoint::Unknown),
            ("/v2/a/manifests/%zz", Endpoint::Unknown),
            ("/v2/a/manifests/a%00", Endpoint::Unknown),
        ] {
            assert_eq!(endpoint(path), want, "{path}");
        }
    }

    #[test]
    fn names_and_tags() {
        for name in ["a", "a/b", "0", "a.b", "a_b", "a__b", "a---b", "a/b/c/d"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", ".", "a._b", "é", &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
        let long = "a".repeat(129);
        for (tag, good) in [
            ("latest", true),
            ("_", true),
            ("V1.0-x_y", true),
            (&long[..128], true),
            (&long, false),
            ("", false),
            (".a", false),
            ("-a", false),
            ("a/b", false),
            ("a:b", false),
        ] {
            assert_eq!(is_tag(tag), good, "{tag}");
        }
    }

    #[test]
    fn queries() {
        let query = Query::new("mount=sha256%3aab&from=a/b&n=10&n=2&x&y=%zz");
        assert_eq!(query.get("mount"), Some("sha256:ab"));
        assert_eq!(query.get("from"), Some("a/b"));
        assert_eq!(query.get("n"), Some("10"));
        assert_eq!(
            (query.get("x"), query.get("y"), query.get("z")),
            (Some(""), Some("%zz"), None)
        );
        assert_eq!(
            Query::new(&format!("a={}", encoded("a b&c=d/é"))).get("a"),
            Some("a b&c=d/é")
        );
    }
}
