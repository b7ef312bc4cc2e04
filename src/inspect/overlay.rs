//! An overlay's layers, and whose store each lies in.
//!
//! What it does: reads `lowerdir`, `lowerdir+`, `upperdir`, `workdir` out of the options, and
//! recognises the stores of docker, podman and containerd by their directories; Docker's
//! short links (`l/ABC`, relative to its overlay2 directory) are made absolute with the help of
//! `upperdir`.
//! What it implements: the kernel's filesystems/overlayfs.rst; the on-disk layouts of the stores.
//! Interface: [`overlay`]. Read next: `store.rs`, which knows our own store,
//! chain ids and images.

use super::model::{LowerLayer, Overlay};
use std::path::{Path, PathBuf};

/// The parts of an overlay mount, out of its options (one text each).
pub fn overlay(options: &[String]) -> Overlay {
    let value = |key: &str| {
        options
            .iter()
            .find_map(|o| o.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_string)
    };
    let upper = value("upperdir");
    let mut lower: Vec<String> = options
        .iter()
        .filter_map(|o| o.strip_prefix("lowerdir+="))
        .map(str::to_string)
        .collect();
    if let Some(list) = value("lowerdir") {
        lower.extend(split_lower(&list));
    }
    Overlay {
        lower: lower
            .into_iter()
            .map(|path| layer(path, upper.as_deref()))
            .collect(),
        upper,
        work: value("workdir"),
    }
}

/// Splits at colons that no backslash escapes, and takes the escapes away.
fn split_lower(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        let Some(last) = parts.last_mut() else { break };
        match c {
            '\\' => last.extend(chars.next()),
            // "::" starts the data-only layers; the empty part between is dropped below.
            ':' => parts.push(String::new()),
            c => last.push(c),
        }
    }
    parts.retain(|p| !p.is_empty());
    parts
}

fn layer(path: String, upper: Option<&str>) -> LowerLayer {
    let full = absolute(&path, upper).unwrap_or_else(|| PathBuf::from(&path));
    LowerLayer {
        store: store_of(&full).map(str::to_string),
        path: full.to_string_lossy().into_owned(),
        chain_id: None,
        images: Vec::new(),
    }
}

/// Docker mounts with its overlay2 directory as the working directory: upper is
/// `BASE/ID/diff` and a lower is `l/SHORT`, a link to `../ID/diff`.
fn absolute(path: &str, upper: Option<&str>) -> Option<PathBuf> {
    if path.starts_with('/') {
        return None;
    }
    let base = Path::new(upper?).parent()?.parent()?;
    let link = base.join(path);
    let target = std::fs::read_link(&link).unwrap_or_default();
    Some(match target.strip_prefix("..") {
        Ok(below) => base.join(below),
        Err(_) => link,
    })
}

fn store_of(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    [
        ("/overlay2/", "docker"),
        ("/containers/storage/overlay/", "podman"),
        ("/io.containerd.snapshotter.v1.overlayfs/", "containerd"),
    ]
    .into_iter()
    .find(|(mark, _)| text.contains(mark))
    .map(|(_, store)| store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_string()).collect()
    }

    #[test]
    fn lower_layers_of_both_spellings() {
        let one = overlay(&strings(&[r"lowerdir=/a\:b:/c::/d", "upperdir=/u"]));
        let paths: Vec<&str> = one.lower.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(paths, ["/a:b", "/c", "/d"]);
        let two = overlay(&strings(&["lowerdir+=/x", "lowerdir+=/y", "datadir+=/z"]));
        assert_eq!(two.lower.len(), 2);
        assert_eq!(two.upper, None);
    }

    #[test]
    fn stores_by_their_directories() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("overlay2");
        std::fs::create_dir_all(base.join("l")).unwrap();
        std::os::unix::fs::symlink("../longid/diff", base.join("l/SHORT")).unwrap();
        let upper = format!("upperdir={}/top/diff", base.display());
        let docker = overlay(&strings(&["lowerdir=l/SHORT", &upper]));
        assert_eq!(docker.lower[0].store.as_deref(), Some("docker"));
        assert!(docker.lower[0].path.ends_with("overlay2/longid/diff"));
    }
}
