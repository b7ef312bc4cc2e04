//! The little languages of mounts: `-v`, `--mount`, `--volumes-from`.
//!
//! What it implements: the formats of docker's command line reference for `docker run`.
//! Interface: [`bind`], [`mount`], [`volumes_from`]. Read next: `containers/volumes.rs`, which
//! decides what they mean on this host.

use super::{bad, bytes};
use crate::containers::model::{BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions};
use crate::containers::names;
use crate::error::Result;

/// One `-v`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A path on the host, the name of a volume, or nothing for an anonymous volume.
    pub source: Option<String>,
    /// Absolute path in the container.
    pub destination: String,
    /// Cannot be written to.
    pub read_only: bool,
    /// `rprivate` when not given.
    pub propagation: String,
    /// Without what is mounted below the source.
    pub non_recursive: bool,
    /// A new volume does not begin with the image's content of its place.
    pub no_copy: bool,
}

/// `-v [SOURCE:]DESTINATION[:OPTIONS]`.
pub fn bind(text: &str) -> Result<Bind> {
    let wrong = |why: &str| {
        bad(format!("invalid volume specification: '{text}': {why}"))
            .hint("[SOURCE:]DESTINATION[:OPTIONS] with absolute paths, as /srv/www:/data:ro")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] if destination.starts_with('/') => (Some(source), destination, ""),
        [destination, options] => (None, destination, options),
        [source, destination, options] => (Some(source), destination, options),
        _ => return Err(wrong("too many colons")),
    };
    if !destination.starts_with('/') {
        return Err(wrong("the destination must be an absolute path"));
    }
    if destination.trim_end_matches('/').is_empty() {
        return Err(wrong("the destination can't be '/'"));
    }
    let mut bind = Bind {
        source: source.map(Into::into),
        destination: destination.into(),
        read_only: false,
        propagation: "rprivate".into(),
        non_recursive: false,
        no_copy: false,
    };
    match bind.source.as_deref() {
        Some("") => return Err(wrong("the source is empty")),
        Some(s) if !s.starts_with('/') && names::check(s).is_err() => {
            return Err(wrong(
                "the source is neither an absolute path nor the name of a volume",
            ));
        }
        _ => {}
    }
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" | "readonly" => bind.read_only = true,
            "nocopy" => bind.no_copy = true,
            "rw" | "z" | "Z" | "cached" | "consistent" | "delegated" | "rbind" => {}
            "bind" => bind.non_recursive = true,
            "shared" | "slave" | "private" | "rshared" | "rslave" | "rprivate" => {
                bind.propagation = option.into();
            }
            _ if parts.len() == 2 => {
                return Err(wrong(&format!(
                    "the destination {option:?} must be an absolute path"
                )));
            }
            _ => return Err(wrong(&format!("unknown option {option}"))),
        }
    }
    Ok(bind)
}

/// `--mount type=bind,source=/a,target=/b,readonly`.
pub fn mount(text: &str) -> Result<Mount> {
    let wrong = |why: String| bad(format!("invalid argument {text:?} for --mount: {why}"));
    let mut mount = Mount {
        typ: "volume".into(),
        ..Mount::default()
    };
    let (mut bind, mut volume, mut tmpfs) = (
        BindOptions::default(),
        VolumeOptions::default(),
        TmpfsOptions::default(),
    );
    let mut driver = DriverConfig::default();
    let truth = |v: Option<&str>| match v {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(wrong(format!("invalid value {other:?}"))),
    };
    let mut seen: Vec<String> = Vec::new();
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .map_or((field, None), |(k, v)| (k, Some(v)));
        let needed = || {
            value
                .map(String::from)
                .ok_or_else(|| wrong(format!("{key} needs a value")))
        };
        let key = key.to_ascii_lowercase();
        match key.as_str() {
            "type" => mount.typ = needed()?.to_ascii_lowercase(),
            "source" | "src" => mount.source = needed()?,
            "target" | "dst" | "destination" => mount.target = needed()?,
            "readonly" | "ro" => mount.read_only = truth(value)?,
            "bind-propagation" => bind.propagation = propagation(&needed()?).map_err(wrong)?,
            "bind-nonrecursive" => bind.non_recursive = truth(value)?,
            "bind-recursive" => match needed()?.as_str() {
                "enabled" => {}
                "disabled" => bind.non_recursive = true,
                "writable" => bind.read_only_non_recursive = true,
                "readonly" => bind.read_only_force_recursive = true,
                other => {
                    return Err(wrong(format!(
                        "invalid value for bind-recursive: {other} (must be \"enabled\", \
                         \"disabled\", \"writable\", or \"readonly\")"
                    )));
                }
            },
            "tmpfs-size" => tmpfs.size_bytes = bytes(&needed()?)?,
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(&needed()?, 8);
                tmpfs.mode = Some(mode.map_err(|_| wrong("tmpfs-mode must be octal".into()))?);
            }
            "volume-nocopy" => volume.no_copy = truth(value)?,
            "volume-subpath" => volume.subpath = needed()?,
            "volume-driver" => driver.name = needed()?,
            "volume-opt" | "volume-label" => {
                let pair = needed()?;
                let (k, v) = pair.split_once('=').unwrap_or((&pair, ""));
                let map = match key.as_str() {
                    "volume-opt" => &mut driver.options,
                    _ => &mut volume.labels,
                };
                map.insert(k.into(), v.into());
            }
            "consistency" => {}
            _ => return Err(wrong(format!("unexpected key '{key}'"))),
        }
        seen.push(key);
    }
    if !["bind", "volume", "tmpfs"].contains(&mount.typ.as_str()) {
        return Err(wrong(format!("mount type unknown: {:?}", mount.typ)));
    }
    let of = |key: &str| {
        key.split_once('-')
            .map_or("", |(first, _)| first)
            .to_string()
    };
    if let Some(foreign) = seen
        .iter()
        .find(|k| !of(k).is_empty() && of(k) != mount.typ)
    {
        return Err(wrong(format!(
            "cannot mix '{foreign}' with mount type '{}'",
            mount.typ
        )));
    }
    if !mount.target.starts_with('/') || mount.target.trim_end_matches('/').is_empty() {
        return Err(wrong(
            "the target must be an absolute path other than /".into(),
        ));
    }
    if (bind.read_only_non_recursive || bind.read_only_force_recursive) && !mount.read_only {
        return Err(wrong(
            "bind-recursive=writable and bind-recursive=readonly need 'readonly' as well".into(),
        ));
    }
    if bind.read_only_force_recursive && bind.propagation != "rprivate" {
        return Err(wrong(
            "bind-recursive=readonly needs 'bind-propagation=rprivate' as well".into(),
        ));
    }
    if driver != DriverConfig::default() {
        volume.driver_config = Some(driver);
    }
    let has = |what: &str| seen.iter().any(|k| of(k) == what);
    mount.bind_options = has("bind").then_some(bind);
    mount.volume_options = has("volume").then_some(volume);
    mount.tmpfs_options = has("tmpfs").then_some(tmpfs);
    match mount.typ.as_str() {
        "bind" if !mount.source.starts_with('/') => {
            Err(wrong("a bind needs an absolute source".into()))
        }
        "tmpfs" if !mount.source.is_empty() => Err(wrong("a tmpfs has no source".into())),
        "volume" if !mount.source.is_empty() && names::check(&mount.source).is_err() => {
            Err(wrong("the source is not the name of a volume".into()))
        }
        _ => Ok(mount),
    }
}

fn propagation(word: &str) -> std::result::Result<String, String> {
    match word {
        "shared" | "slave" | "private" | "rshared" | "rslave" | "rprivate" => Ok(word.into()),
        other => Err(format!("invalid propagation {other:?}")),
    }
}

/// `--volumes-from CONTAINER[:ro|rw]`: the container, and whether its mounts are read-only here.
pub fn volumes_from(text: &str) -> Result<(&str, bool)> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let mut read_only = false;
    for word in mode.split(',') {
        match word {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            other => {
                return Err(bad(format!("invalid mode for volumes-from: {other}"))
                    .hint("CONTAINER, CONTAINER:ro or CONTAINER:rw"));
            }
        }
    }
    match name {
        "" => Err(bad("volumes-from names no container")),
        name => Ok((name, read_only)),
    }
}
