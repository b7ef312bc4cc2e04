//! Digests: the names of content, and the chain of a stack of layers.
//!
//! What it implements: descriptor.md ("Digests": `algorithm:hex`, sha256 and sha512 registered)
//! and config.md ("Layer ChainID") of the image specification.
//! Interface: [`Digest`], [`Algorithm`], [`chain_id`], [`chain_ids`].
//! Read next: [`super::image`].

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// A registered hash algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hex digits.
    Sha256,
    /// SHA-512: 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// Its name in a digest.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
    /// How many hex digits its digests have.
    pub fn hex_digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// The name of some content: `sha256:` and 64 lower-case hex digits (or sha512 and 128).
///
/// Always well-formed, so it is safe as two path components ([`algorithm`](Digest::algorithm) and
/// [`hex`](Digest::hex)).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The SHA-256 digest of these bytes.
    pub fn sha256(bytes: &[u8]) -> Digest {
        Digest::from_hash(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
    }
    /// The digest of these bytes by this algorithm.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
        match algorithm {
            Algorithm::Sha256 => Digest::sha256(bytes),
            Algorithm::Sha512 => Digest::from_hash(algorithm, &sha2::Sha512::digest(bytes)),
        }
    }
    /// Makes one from the hash's bytes (32 or 64), as a streaming hasher returns them.
    ///
    /// # Panics
    /// When the length is not the algorithm's.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Digest {
        assert_eq!(hash.len() * 2, algorithm.hex_digits(), "length of the hash");
        let mut hex = String::with_capacity(hash.len() * 2);
        for byte in hash {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Digest {
            algorithm,
            hex: hex.into(),
        }
    }
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
    /// The first twelve hex digits, as listings show them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
    /// Whether this is the digest of these bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        *self == Digest::of(self.algorithm, bytes)
    }
}

impl FromStr for Digest {
    type Err = Error;
    /// Errors say what is wrong with the text: no colon, an algorithm that is not registered, a
    /// wrong number of digits, a character that is not lower-case hex.
    fn from_str(text: &str) -> Result<Digest> {
        let bad = |why: String| Error::kind(Kind::Usage, format!("bad digest {text:?}: {why}"));
        let (name, hex) = text
            .split_once(':')
            .ok_or_else(|| bad("it has the form ALGORITHM:HEX".into()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(bad(format!("the algorithm {name:?} is not supported"))),
        };
        let want = algorithm.hex_digits();
        if hex.len() != want {
            return Err(bad(format!("{name} has {want} digits, not {}", hex.len())));
        }
        if let Some(c) = hex.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(bad(format!("{c:?} is no lower-case hex digit")));
        }
        Ok(Digest {
            algorithm,
            hex: hex.into(),
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Digest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Default for Digest {
    /// The SHA-256 digest of nothing.
    fn default() -> Self {
        Digest::sha256(b"")
    }
}

/// The chain id of every prefix of a stack of layers, lowest layer first:
/// the first is the layer's diff id, each further one SHA-256 of `PREVIOUS " " DIFFID`.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

/// The chain id of the whole stack; `None` for no layer.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    chain_ids(diff_ids).pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_OBJECT: &str =
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn the_empty_object_has_the_digest_that_the_specification_prints() {
        let digest: Digest = EMPTY_OBJECT.parse().unwrap();
        assert_eq!(Digest::sha256(b"{}"), digest);
        assert!(digest.matches(b"{}"));
        assert!(!digest.matches(b"{ }"));
        assert_eq!(digest.to_string(), EMPTY_OBJECT);
        assert_eq!(digest.short(), "44136fa355b3");
        let long = Digest::of(Algorithm::Sha512, b"{}").to_string();
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
    }

    #[test]
    fn a_malformed_digest_says_what_is_wrong() {
        for (text, why) in [
            ("", "ALGORITHM:HEX"),
            ("sha256", "ALGORITHM:HEX"),
            ("sha256:baddigeststring", "64 digits"),
            ("md5:0123", "not supported"),
            (
                "sha256:44136FA355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "'F'",
            ),
            (
                "sha256:../../55b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a00",
                "'.'",
            ),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_chain_hashes_what_lies_below() {
        assert_eq!(chain_id(&[]), None);
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(chain_id(std::slice::from_ref(&a)), Some(a.clone()));
        let want = Digest::sha256(format!("{a} {b}").as_bytes());
        assert_eq!(chain_ids(&[a.clone(), b]), [a, want]);
    }
}
