//! `--filter KEY=VALUE`, as listings and `prune` take it.
//!
//! What it does: splits the values, knows the keys, and for the commands that clear up decides what
//! a filter leaves alone: docker has `until`, `label` and `label!` for all of them.
//! Interface: [`key_value`], [`pairs`], [`has_label`], [`Prune`]. Read next: `container.rs`.

use crate::containers::time::Time;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

/// `KEY=VALUE` of one `--filter`; text without an equals sign is refused by the parser.
pub type KeyValue = String;

/// The parser of one.
pub fn key_value(text: &str) -> Result<KeyValue> {
    match text.contains('=') {
        true => Ok(text.to_string()),
        false => {
            Err(Error::kind(Kind::Usage, format!("invalid filter '{text}'")).hint("KEY=VALUE"))
        }
    }
}

/// Key and value of each, out of the keys that are known; `KEY!` stands for `KEY!=VALUE`.
pub fn pairs<'a>(list: &'a [KeyValue], keys: &[&str]) -> Result<Vec<(&'a str, &'a str)>> {
    let pair = |f: &'a KeyValue| {
        let pair = match f.split_once("!=") {
            Some((key, value)) if keys.contains(&format!("{key}!").as_str()) => {
                Some((&f[..=key.len()], value))
            }
            _ => f.split_once('=').filter(|(key, _)| keys.contains(key)),
        };
        pair.ok_or_else(|| {
            Error::kind(Kind::Usage, format!("invalid filter '{f}'"))
                .hint(format!("known keys: {}", keys.join(", ")))
        })
    };
    list.iter().map(pair).collect()
}

/// Whether labels have KEY, or KEY=VALUE.
pub fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    }
}

/// What a `prune` with filters takes.
pub struct Prune<'a> {
    until: Option<Time>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Prune<'a> {
    /// Understands `until=TIME`, `label=KEY[=VALUE]` and `label!=KEY[=VALUE]`, and `more` keys.
    pub fn parse(list: &'a [KeyValue], more: &[&str]) -> Result<Prune<'a>> {
        let pairs = pairs(list, &[&["until", "label", "label!"], more].concat())?;
        let until = pairs.iter().filter(|(key, _)| *key == "until");
        let until: Vec<Time> = until
            .map(|(_, time)| Time::parse_flag(time))
            .collect::<Result<_>>()?;
        Ok(Prune {
            until: until.into_iter().min(),
            pairs,
        })
    }

    /// The values of a key.
    pub fn values(&self, wanted: &str) -> impl Iterator<Item = &'a str> {
        let wanted = self.pairs.iter().filter(move |(key, _)| *key == wanted);
        wanted.map(|(_, value)| *value)
    }

    /// Whether something with these labels, made then, is taken. What does not say when it was made
    /// is older than all that do.
    pub fn takes(&self, created: Option<Time>, labels: &BTreeMap<String, String>) -> bool {
        self.until
            .is_none_or(|until| created.is_none_or(|time| time < until))
            && self.labels(labels)
    }

    /// Whether something with these labels is taken, whenever it was made.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").all(|wanted| has_label(labels, wanted))
            && self
                .values("label!")
                .all(|wanted| !has_label(labels, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_and_labels_together() {
        let list = ["until=2020-01-01T00:00:00Z", "label=a=1", "label!=keep"].map(String::from);
        let prune = Prune::parse(&list, &[]).unwrap();
        let labels = |text: &[(&str, &str)]| {
            text.iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        let old = Time::parse_flag("2019-01-01T00:00:00Z").ok();
        assert!(prune.takes(old, &labels(&[("a", "1")])));
        assert!(prune.takes(None, &labels(&[("a", "1")])));
        assert!(!prune.takes(Some(Time::now()), &labels(&[("a", "1")])));
        assert!(!prune.takes(old, &labels(&[("a", "2")])));
        assert!(!prune.takes(old, &labels(&[("a", "1"), ("keep", "")])));
        assert!(pairs(&["colour=red".into()], &["label"]).is_err());
        assert!(key_value("label").is_err());
    }
}
