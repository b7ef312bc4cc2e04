//! What `-v`, `--mount`, `--volumes-from` and an image's volumes mean on this host.
//!
//! What it does: when a container is created, each becomes a [`MountPoint`] with a name and a
//! source ([`mount_points`]), and volumes that are missing are made ([`missing`]). When it starts,
//! each becomes a path ([`bindings`]), and missing sources of `-v` are planned. A volume that is
//! empty when a container first starts begins with what the image has at its place, unless
//! `nocopy` was said; after that it is the user's, and stays empty when it was emptied.
//!
//! A volume outlives its containers, one without a name as well, unless `rm -v` or `--rm` takes
//! that with its last container.
//!
//! What it implements: docker's "Populate a volume using a container"; `VOLUME` of image-spec's
//! configuration. Interface: [`mount_points`], [`missing`], [`bindings`], [`Volume`].
//! Read next: `record.rs` (a volume on disk), then `prepare.rs`.

mod record;

pub use record::{
    ANONYMOUS, MakeVolume, Volume, create, find, in_use_by, list, remove, remove_unused, size,
    sweep, users,
};

use super::actions::MakeDirectory;
use super::config::Binding;
use super::flags;
use super::model::{BindOptions, Config, HostConfig, MountPoint, VolumeOptions};
use super::names;
use super::store::{Container, Store};
use super::time::Time;
use crate::error::{Context, Error, Kind, Result};
use crate::journal::{Plan, Stage, Step};
use std::path::{Path, PathBuf};

const MISSING: &str = "The source of -v does not exist: docker's rule is to make it, a directory.";
const NAMED: &str = "A named volume outlives its containers.";
const NAMELESS: &str = "A volume without a name is made for this container, and gets a random one.";

/// The user's mounts, with the names of volumes decided: those of other containers first, then
/// `-v` and `--mount`, which replace those, then the places that still need a volume of their own.
/// Touches nothing. Errors: a container of `--volumes-from` is not there.
pub fn mount_points(store: &Store, config: &Config, h: &HostConfig) -> Result<Vec<MountPoint>> {
    let mut own = Vec::new();
    for text in &h.binds {
        own.push(of_bind(flags::bind(text)?)?);
    }
    for m in h.mounts.iter().filter(|m| m.typ != "tmpfs") {
        let bind = m.bind_options.clone().unwrap_or_default();
        let volume = m.volume_options.clone().unwrap_or_default();
        check_driver(&volume)?;
        let is_volume = m.typ == "volume";
        let nameless = is_volume && m.source.is_empty();
        own.push(MountPoint {
            typ: m.typ.clone(),
            name: match (is_volume, nameless) {
                (_, true) => names::new_id()?,
                (true, _) => m.source.clone(),
                _ => String::new(),
            },
            source: if is_volume {
                String::new()
            } else {
                m.source.clone()
            },
            destination: m.target.clone(),
            mode: String::new(),
            read_only: m.read_only,
            bind,
            volume,
        });
    }
    let mut list: Vec<MountPoint> = Vec::new();
    for text in &h.volumes_from {
        let (name, read_only) = flags::volumes_from(text)?;
        let other = store
            .find(name)
            .with_context(|| format!("cannot take the volumes of container {name}"))?;
        for mut point in other.record.mount_points {
            point.read_only |= read_only;
            point.volume.no_copy = true;
            list.retain(|p| !same(&p.destination, &point.destination));
            list.push(point);
        }
    }
    let elsewhere = |place: &str| {
        h.tmpfs.keys().any(|t| same(t, place)) || h.mounts.iter().any(|m| same(&m.target, place))
    };
    list.retain(|p| {
        !elsewhere(&p.destination) && own.iter().all(|o| !same(&o.destination, &p.destination))
    });
    list.extend(own);
    for place in config.volumes.keys().filter(|v| v.starts_with('/')) {
        if !elsewhere(place) && list.iter().all(|p| !same(&p.destination, place)) {
            list.push(nameless(place.clone())?);
        }
    }
    Ok(list)
}

/// Whether two paths name one place.
fn same(a: &str, b: &str) -> bool {
    Path::new(a).components().eq(Path::new(b).components())
}

fn nameless(destination: String) -> Result<MountPoint> {
    Ok(MountPoint {
        typ: "volume".into(),
        name: names::new_id()?,
        destination,
        ..MountPoint::default()
    })
}

fn of_bind(bind: flags::Bind) -> Result<MountPoint> {
    let mut words = Vec::new();
    let mut point = match bind.source {
        None => nameless(bind.destination)?,
        Some(path) if path.starts_with('/') => MountPoint {
            typ: "bind".into(),
            source: path,
            destination: bind.destination,
            bind: BindOptions {
                propagation: bind.propagation,
                non_recursive: bind.non_recursive,
                create_mountpoint: true,
                ..BindOptions::default()
            },
            ..MountPoint::default()
        },
        Some(name) => MountPoint {
            typ: "volume".into(),
            name,
            destination: bind.destination,
            ..MountPoint::default()
        },
    };
    if bind.read_only {
        words.push("ro");
    }
    if bind.no_copy {
        words.push("nocopy");
    }
    point.mode = words.join(",");
    point.read_only = bind.read_only;
    point.volume.no_copy = bind.no_copy;
    Ok(point)
}

fn check_driver(volume: &VolumeOptions) -> Result<()> {
    match volume.driver_config.as_ref().map_or("", |d| &d.name) {
        "" | "local" => Ok(()),
        other => Err(record::no_driver(other)),
    }
}

/// The volumes of a container that do not exist yet, as steps that make them. Touches nothing.
pub fn missing(store: &Store, container: &Container, plan: &mut Plan) -> Result<()> {
    for point in container
        .record
        .mount_points
        .iter()
        .filter(|p| p.typ == "volume")
    {
        let place = store.paths().volumes().join(&point.name);
        let id = format!("make-volume-{}", names::short(&point.name));
        if place.exists() || plan.steps.iter().any(|s| s.id == id) {
            continue;
        }
        let is_nameless = point.name.len() == 64;
        let mut volume = Volume::new(&point.name, point.volume.labels.clone());
        if let Some(driver) = &point.volume.driver_config {
            volume.options = driver.options.clone();
            volume.check()?;
        }
        if is_nameless {
            volume.labels.insert(ANONYMOUS.into(), String::new());
        }
        let why = if is_nameless { NAMELESS } else { NAMED };
        plan.push(Step::parent(
            Stage::Containers,
            id,
            why,
            MakeVolume { place, volume },
        ));
    }
    Ok(())
}

/// The user's mounts with their sources resolved; what is missing on the host is planned. Errors:
/// the source of a `--mount` is not there.
pub fn bindings(store: &Store, container: &Container, plan: &mut Plan) -> Result<Vec<Binding>> {
    if container.dir.join("container.json").exists() {
        // Made with the container; somebody may have taken one away by hand.
        missing(store, container, plan)?;
    }
    let first = container.written_status()?.started_at == Time(0);
    let mut list = Vec::new();
    for point in &container.record.mount_points {
        let is_volume = point.typ == "volume";
        let source = match is_volume {
            true => record::source(store, &point.name)?,
            false => PathBuf::from(&point.source),
        };
        if !is_volume && !source.exists() {
            if !point.bind.create_mountpoint {
                return Err(Error::kind(
                    Kind::NotFound,
                    format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        source.display()
                    ),
                )
                .hint("make it first, or use -v, which makes a missing directory"));
            }
            let make = MakeDirectory {
                path: source.clone(),
                mode: 0o755,
                own: false,
            };
            let id = format!("make-{}", source.display());
            plan.push(Step::parent(Stage::Containers, id, MISSING, make));
        }
        let empty =
            || std::fs::read_dir(&source).map_or(true, |mut entries| entries.next().is_none());
        let copies = is_volume && first && !point.volume.no_copy && point.volume.subpath.is_empty();
        list.push(Binding {
            copy_up: copies && empty(),
            source,
            subpath: Some(point.volume.subpath.clone()).filter(|s| !s.is_empty()),
            destination: point.destination.clone(),
            read_only: point.read_only,
            read_only_below: !point.bind.read_only_non_recursive,
            propagation: point.bind.propagation.clone(),
            non_recursive: point.bind.non_recursive,
        });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::model::Mount;
    use crate::spec::image::Empty;

    #[test]
    fn every_mount_is_decided_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Some(dir.path())).unwrap();
        let mount = |source: &str, target: &str| Mount {
            typ: "volume".into(),
            source: source.into(),
            target: target.into(),
            ..Mount::default()
        };
        let h = HostConfig {
            binds: vec!["/a:/b:ro".into(), "vol:/v:nocopy".into(), "/own".into()],
            mounts: vec![mount("ww", "/w"), mount("", "/x")],
            tmpfs: [("/t/".to_string(), String::new())].into(),
            ..HostConfig::default()
        };
        let volumes = ["/t", "/v", "/image"].map(|v| (v.to_string(), Empty {}));
        let config = Config {
            volumes: volumes.into(),
            ..Config::default()
        };
        let list = mount_points(&store, &config, &h).unwrap();
        let of = |d: &str| list.iter().find(|p| p.destination == d).unwrap();
        assert_eq!(list.len(), 6, "/t and /v are taken: {list:#?}");
        assert!(of("/b").read_only && of("/b").bind.create_mountpoint);
        assert_eq!(
            (of("/b").typ.as_str(), of("/b").mode.as_str()),
            ("bind", "ro")
        );
        assert!(of("/v").name == "vol" && of("/v").volume.no_copy);
        assert_eq!(of("/w").name, "ww");
        for place in ["/own", "/x", "/image"] {
            assert_eq!(of(place).name.len(), 64, "{place}");
        }
        let h = HostConfig {
            volumes_from: vec!["nobody".into()],
            ..HostConfig::default()
        };
        assert!(mount_points(&store, &config, &h).is_err());
    }
}
