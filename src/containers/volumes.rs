//! What `-v`, `--mount` and an image's volumes mean on this host.
//!
//! What it does: resolves each to a path, and plans the directories that are missing. A named
//! volume outlives its containers; one without a name belongs to its container, and so does one
//! that only the image asks for. A volume that is empty when a container first starts begins with
//! what the image has at its place, unless `nocopy` was said; after that it is the user's, and
//! stays empty when it was emptied.
//!
//! What it implements: docker's "Populate a volume using a container"; `VOLUME` of image-spec's
//! configuration. Interface: [`bindings`]. Read next: `prepare.rs`.

use super::actions::MakeDirectory;
use super::config::Binding;
use super::flags;
use super::image::Image;
use super::store::{Container, Store};
use super::time::Time;
use crate::error::{Error, Kind, Result};
use crate::journal::{Plan, Stage, Step};
use std::path::{Path, PathBuf};

const NAMED: &str = "A named volume outlives its containers.";
const NAMELESS: &str = "A volume without a name belongs to its container.";
const MISSING: &str = "The source of -v does not exist: docker's rule is to make it, a directory.";

/// The user's mounts with their sources resolved. Errors: the source of a `--mount` is not there.
pub fn bindings(
    store: &Store,
    container: &Container,
    image: &Image,
    plan: &mut Plan,
) -> Result<Vec<Binding>> {
    let h = &container.record.host_config;
    let mut finder = Finder {
        volumes: store.paths().volumes(),
        own: container.dir.join("volumes"),
        first: container.written_status()?.started_at == Time(0),
        plan,
    };
    let mut list = Vec::new();
    for text in &h.binds {
        let bind = flags::bind(text)?;
        let (source, copy_up) = match &bind.source {
            Some(path) if path.starts_with('/') => (finder.make(path.into(), MISSING), false),
            Some(name) => finder.named(name, bind.no_copy),
            None => finder.nameless(&bind.destination, bind.no_copy),
        };
        list.push(Binding {
            source,
            destination: bind.destination,
            read_only: bind.read_only,
            propagation: bind.propagation,
            non_recursive: bind.non_recursive,
            copy_up,
        });
    }
    for m in h.mounts.iter().filter(|m| m.typ != "tmpfs") {
        let (source, copy_up) = match (m.typ.as_str(), m.source.as_str()) {
            ("bind", source) if !Path::new(source).exists() => {
                return Err(Error::kind(
                    Kind::NotFound,
                    format!("invalid mount config for type \"bind\": bind source path does not exist: {source}"),
                )
                .hint("make it first, or use -v, which makes a missing directory"));
            }
            ("bind", source) => (source.into(), false),
            (_, "") => finder.nameless(&m.target, m.no_copy),
            (_, name) => finder.named(name, m.no_copy),
        };
        list.push(Binding {
            source,
            destination: m.target.clone(),
            read_only: m.read_only,
            propagation: m.propagation.clone(),
            non_recursive: m.non_recursive,
            copy_up,
        });
    }
    let asked = |place: &str| {
        let same = |other: &str| {
            Path::new(other)
                .components()
                .eq(Path::new(place).components())
        };
        list.iter().any(|b| same(&b.destination))
            || h.tmpfs.keys().any(|t| same(t))
            || h.mounts.iter().any(|m| same(&m.target))
    };
    let volumes = image.config.iter().flat_map(|c| c.volumes.keys());
    let unasked: Vec<&String> = volumes
        .filter(|v| v.starts_with('/') && !asked(v))
        .collect();
    for place in unasked {
        let (source, copy_up) = finder.nameless(place, false);
        list.push(Binding {
            source,
            destination: place.clone(),
            read_only: false,
            propagation: "rprivate".into(),
            non_recursive: false,
            copy_up,
        });
    }
    Ok(list)
}

struct Finder<'a> {
    volumes: PathBuf,
    own: PathBuf,
    first: bool,
    plan: &'a mut Plan,
}

impl Finder<'_> {
    fn make(&mut self, path: PathBuf, why: &'static str) -> PathBuf {
        if !path.exists() {
            let make = MakeDirectory {
                path: path.clone(),
                mode: 0o755,
                own: false,
            };
            let id = format!("make-{}", path.display());
            self.plan
                .push(Step::parent(Stage::Containers, id, why, make));
        }
        path
    }

    fn named(&mut self, name: &str, no_copy: bool) -> (PathBuf, bool) {
        let path = self.volumes.join(name).join("_data");
        let copy_up = self.begins_with_content(&path, no_copy);
        (self.make(path, NAMED), copy_up)
    }

    fn nameless(&mut self, place: &str, no_copy: bool) -> (PathBuf, bool) {
        let path = self.own.join(file_name(place));
        let copy_up = self.begins_with_content(&path, no_copy);
        (self.make(path, NAMELESS), copy_up)
    }

    fn begins_with_content(&self, path: &Path, no_copy: bool) -> bool {
        let empty = || std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        self.first && !no_copy && empty()
    }
}

/// A path as one file name; no two paths have the same.
fn file_name(place: &str) -> String {
    let names = Path::new(place).components().filter_map(|c| match c {
        std::path::Component::Normal(name) => Some(name.to_string_lossy().replace('-', "--")),
        _ => None,
    });
    names.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn places_have_names_of_their_own() {
        let all = ["/a/b", "/a-b", "/a--b", "/a/-b"].map(file_name);
        assert_eq!(all, ["a-b", "a--b", "a----b", "a---b"]);
        assert_eq!(file_name("/a//b/"), "a-b");
    }
}
