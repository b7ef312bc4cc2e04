//! From what the user typed to what is looked at.
//!
//! What it does: a target is told by its form where that is plain (`host`, `net:[4026531840]`, a
//! path), else looked for in each kind in turn. What fits several kinds is an error that names
//! them, never a guess; `--type` decides. Containers are looked up by the caller, because the
//! engine stands above this module.
//! What it implements: the targets of docker's `inspect --type`, and the kernel's own names.
//! Interface: [`Query`], [`Kind`], [`inspect`]. Read next: `process.rs`.

use super::model::Document;
use super::{cgroup, host, namespace, process};
use crate::error::{Error, Kind as ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The kinds of target, as `--type` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container of this engine.
    Container,
    /// An image of this engine's store.
    Image,
    /// A process of the host.
    Pid,
    /// A namespace.
    Namespace,
    /// A cgroup.
    Cgroup,
    /// An unpacked layer.
    Layer,
    /// This host.
    Host,
}

impl Kind {
    /// All of them, with the words of `--type`.
    pub const ALL: [(Kind, &'static str); 7] = [
        (Kind::Container, "container"),
        (Kind::Image, "image"),
        (Kind::Pid, "pid"),
        (Kind::Namespace, "namespace"),
        (Kind::Cgroup, "cgroup"),
        (Kind::Layer, "layer"),
        (Kind::Host, "host"),
    ];
    /// The word.
    pub fn word(self) -> &'static str {
        Kind::ALL
            .iter()
            .find(|(k, _)| *k == self)
            .map_or("", |(_, w)| w)
    }
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct Query {
    /// As typed.
    pub target: String,
    /// `--type`.
    pub kind: Option<Kind>,
    /// The engine's state directory, for images and layers; nothing when there is none.
    pub root: Option<PathBuf>,
    /// Count the sizes of layers.
    pub size: bool,
}

/// Looks at a process, namespace, cgroup, image, layer or the host.
///
/// Errors: [`ErrorKind::NotFound`] names every kind that was tried; [`ErrorKind::Usage`] when
/// several kinds fit; others when the target exists and cannot be read at all.
pub fn inspect(query: &Query) -> Result<Document> {
    let fits = candidates(query)?;
    match fits.as_slice() {
        [one] => look(query, *one),
        [] => Err(not_found(query)),
        several => {
            let words: Vec<&str> = several.iter().map(|k| k.word()).collect();
            Err(Error::kind(
                ErrorKind::Usage,
                format!("{:?} could be a {}", query.target, words.join(" or a ")),
            )
            .hint(format!("say which: --type {}", words[0])))
        }
    }
}

/// Every kind that the target could be. Containers are left out: the caller knows them.
pub fn candidates(query: &Query) -> Result<Vec<Kind>> {
    let target = query.target.as_str();
    if let Some(kind) = query.kind {
        return Ok(vec![kind]);
    }
    if target == "host" {
        return Ok(vec![Kind::Host]);
    }
    if target == "self" {
        return Ok(vec![Kind::Pid]);
    }
    if crate::namespaces::Kind::parse_link(target).is_some() {
        return Ok(vec![Kind::Namespace]);
    }
    let mut fits = Vec::new();
    if let Ok(number) = target.parse::<u64>() {
        if Path::new("/proc").join(target).is_dir() {
            fits.push(Kind::Pid);
        }
        if number > u64::from(u32::MAX) / 2 {
            fits.push(Kind::Namespace);
        }
    }
    if target.starts_with(['/', '.']) {
        if namespace::is_namespace_file(Path::new(target)) {
            return Ok(vec![Kind::Namespace]);
        }
        if cgroup::find(target).is_ok() {
            fits.push(Kind::Cgroup);
        }
    }
    if super::store::has_image(query) {
        fits.push(Kind::Image);
    }
    if super::store::has_layer(query) {
        fits.push(Kind::Layer);
    }
    Ok(fits)
}

fn look(query: &Query, kind: Kind) -> Result<Document> {
    let target = query.target.as_str();
    let mut document = Document::new(
        match kind {
            Kind::Pid => "process",
            other => other.word(),
        },
        target,
    );
    match kind {
        Kind::Host => document.host = Some(host::host()),
        Kind::Pid => {
            let pid = match target {
                "self" => std::process::id(),
                text => text.parse().map_err(|_| {
                    Error::kind(ErrorKind::Usage, format!("{text:?} is no process id"))
                })?,
            };
            document.process = Some(process::process(pid)?);
        }
        Kind::Namespace => document.namespace = Some(namespace::namespace(target)?),
        Kind::Cgroup => document.cgroup = Some(cgroup::of_path(target)?),
        Kind::Image => document.image = Some(super::store::image(query)?),
        Kind::Layer => document.layer = Some(super::store::layer(query)?),
        Kind::Container => return Err(not_found(query)),
    }
    Ok(document)
}

fn not_found(query: &Query) -> Error {
    let tried = match query.kind {
        Some(kind) => kind.word().to_string(),
        None => "container, image, layer, process, namespace or cgroup".into(),
    };
    let error = Error::kind(
        ErrorKind::NotFound,
        format!("no {tried} is named {:?}", query.target),
    );
    let error = match why_not(&query.target) {
        Some(why) => error.caused_by(why),
        None => error,
    };
    error.hint(
        "a target is a pid, a container, an image, a layer (sha256:…, or its directory), a namespace \
         (/proc/PID/ns/net, net:[4026531840]), a cgroup path, or host",
    )
}

/// What the kernel says of a target that has the form of a path or a pid, and is nothing.
fn why_not(target: &str) -> Option<Error> {
    if target.parse::<u32>().is_ok() {
        let gone = std::fs::metadata(Path::new("/proc").join(target)).err()?;
        return Some(Error::new(format!("no process {target}")).caused_by(gone));
    }
    if !target.starts_with(['/', '.']) {
        return None;
    }
    let unreadable = |e: std::io::Error| Error::new(format!("cannot read {target}")).caused_by(e);
    match std::fs::metadata(target) {
        Err(e) => Some(unreadable(e)),
        // What is there and is no cgroup was taken for a namespace's file.
        Ok(m) if m.is_file() => crate::sys::namespace::open_ns(target)
            .err()
            .map(Error::from),
        Ok(_) => Some(Error::new(format!(
            "{target} is a directory, and no cgroup or layer"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(target: &str) -> Vec<&'static str> {
        let query = Query {
            target: target.into(),
            kind: None,
            root: None,
            size: false,
        };
        candidates(&query)
            .unwrap()
            .into_iter()
            .map(Kind::word)
            .collect()
    }

    #[test]
    fn forms_tell_the_kind() {
        assert_eq!(kinds("host"), ["host"]);
        assert_eq!(kinds("self"), ["pid"]);
        assert_eq!(kinds(&std::process::id().to_string()), ["pid"]);
        assert_eq!(kinds("net:[4026531840]"), ["namespace"]);
        assert_eq!(kinds("4026531840"), ["namespace"]);
        assert_eq!(kinds("/proc/self/ns/net"), ["namespace"]);
        assert!(kinds("/no/such/thing").is_empty());
        assert!(kinds("../..").is_empty());
    }

    #[test]
    fn what_is_not_there_says_what_was_tried() {
        let query = Query {
            target: "nothing-of-that-name".into(),
            kind: None,
            root: None,
            size: false,
        };
        let e = inspect(&query).unwrap_err();
        assert_eq!(e.get_kind(), ErrorKind::NotFound);
        assert!(e.get_hint().unwrap().contains("cgroup path"));
    }
}
