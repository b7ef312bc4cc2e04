//! Which layer a path comes from: who provides it, who hides it, who copied it up.
//!
//! What it does: looks a path up as overlayfs does, layer by layer from the top: the first layer
//! that has a name provides it, a whiteout deletes it, an opaque directory and anything that is
//! no directory hide what lies below; directories of several layers are merged. Symbolic links on
//! the way are followed in the merged view, the last one is not.
//!
//! What it implements: the kernel's filesystems/overlayfs, "Upper and Lower", "whiteouts and
//! opaque directories", "Non-directories". Interface: [`whence`], [`Whence`]. Read next:
//! [`super::overlay`].

use super::whiteout;
use crate::error::{Error, Kind, Result};
use serde::Serialize;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// What one layer has to do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What the path shows comes from here.
    Provides,
    /// It provides the path, which a layer below has too: it was changed here, or copied up.
    Replaces,
    /// A directory here is merged into the one that is shown.
    Merged,
    /// It has the path, and a layer above hides it.
    Hidden,
    /// It deletes the path: a whiteout.
    Deletes,
    /// It hides what lies below: an opaque directory, on the path or above it.
    Opaque,
    /// It has something that is no directory where the path goes on, so hides what lies below.
    Blocks,
}

/// What one layer has to do with a path, and by which file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The layer's number; 0 is the top.
    pub layer: usize,
    /// What it does.
    pub role: Role,
    /// The file of the layer that does it, from the layer's root.
    pub path: PathBuf,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Whence {
    /// The path with its symbolic links resolved, from the root.
    pub path: PathBuf,
    /// The number of the layer that provides it; `None` when it does not exist in the whole.
    pub provider: Option<usize>,
    /// Every layer that has to do with it, the top one first.
    pub findings: Vec<Finding>,
}

/// Looks `path` up in layers, the top one first. Errors: too many symbolic links. A path that no
/// layer has is no error: nothing is found then.
pub fn whence(layers: &[PathBuf], path: &Path) -> Result<Whence> {
    let path = resolve(layers, path)?;
    let findings = look_up(layers, &path);
    let provider = findings
        .iter()
        .find(|f| matches!(f.role, Role::Provides | Role::Replaces))
        .map(|f| f.layer);
    Ok(Whence {
        path: Path::new("/").join(path),
        provider,
        findings,
    })
}

/// Follows the links on the way, in the merged view.
fn resolve(layers: &[PathBuf], path: &Path) -> Result<PathBuf> {
    let parts = |p: &Path| -> Vec<OsString> {
        p.components()
            .filter_map(|c| match c {
                Component::Normal(name) => Some(name.to_os_string()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect()
    };
    let mut left: VecDeque<OsString> = parts(path).into();
    let (mut walked, mut links) = (PathBuf::new(), 0);
    while let Some(part) = left.pop_front() {
        if part == ".." {
            walked.pop();
            continue;
        }
        walked.push(part);
        if left.is_empty() {
            break;
        }
        let provider = look_up(layers, &walked)
            .into_iter()
            .find(|f| matches!(f.role, Role::Provides | Role::Replaces));
        let Some(target) =
            provider.and_then(|f| std::fs::read_link(layers[f.layer].join(&walked)).ok())
        else {
            continue;
        };
        links += 1;
        if links > 40 {
            return Err(Error::kind(
                Kind::Usage,
                format!("too many symbolic links at {}", path.display()),
            ));
        }
        walked.pop();
        if target.is_absolute() {
            walked = PathBuf::new();
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(walked)
}

/// `path` has no links on the way any more, and no leading slash.
fn look_up(layers: &[PathBuf], path: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let mut hidden = false; // by a layer above
    let mut provider: Option<(usize, bool)> = None; // where in `findings`; whether a directory
    for (number, layer) in layers.iter().enumerate() {
        let seen = look_in(layer, path);
        let finding = |role, path: &Path| Finding {
            layer: number,
            role,
            path: Path::new("/").join(path),
        };
        match seen {
            Seen::Nothing => {}
            Seen::Whiteout(at) => {
                if !hidden && provider.is_none() {
                    findings.push(finding(Role::Deletes, &at));
                }
                hidden = true;
            }
            Seen::Blocked(at) => {
                if !hidden && provider.is_none() {
                    findings.push(finding(Role::Blocks, &at));
                }
                hidden = true;
            }
            Seen::Here {
                is_directory,
                opaque_at,
            } => {
                let was_hidden = hidden;
                match provider {
                    _ if hidden => findings.push(finding(Role::Hidden, path)),
                    None => {
                        provider = Some((findings.len(), is_directory));
                        findings.push(finding(Role::Provides, path));
                        hidden = !is_directory;
                    }
                    Some((_, true)) if is_directory => findings.push(finding(Role::Merged, path)),
                    Some((at, _)) => {
                        findings[at].role = Role::Replaces;
                        findings.push(finding(Role::Hidden, path));
                        hidden = true;
                    }
                }
                if let Some(at) = opaque_at
                    && !was_hidden
                {
                    findings.push(finding(Role::Opaque, &at));
                    hidden = true;
                }
            }
            Seen::OpaqueAbove(at) => {
                if !hidden {
                    findings.push(finding(Role::Opaque, &at));
                }
                hidden = true;
            }
        }
    }
    // A file that is hidden by the provider itself was replaced by it.
    if let Some((at, _)) = provider
        && findings[at + 1..].iter().any(|f| f.role == Role::Hidden)
        && !findings
            .iter()
            .any(|f| matches!(f.role, Role::Opaque | Role::Deletes | Role::Blocks))
    {
        findings[at].role = Role::Replaces;
    }
    findings
}

/// What one layer has at a path.
enum Seen {
    Nothing,
    /// The path or a directory on the way is deleted, by this file.
    Whiteout(PathBuf),
    /// Something on the way is no directory.
    Blocked(PathBuf),
    /// The path itself; with the deepest opaque directory on the way or at it.
    Here {
        is_directory: bool,
        opaque_at: Option<PathBuf>,
    },
    /// It has not the path, but a directory on the way that hides all below.
    OpaqueAbove(PathBuf),
}

fn look_in(layer: &Path, path: &Path) -> Seen {
    let mut opaque_at = None;
    let mut walked = PathBuf::new();
    let mut components = path.components().peekable();
    if components.peek().is_none() {
        return Seen::Here {
            is_directory: true,
            opaque_at: None,
        };
    }
    while let Some(component) = components.next() {
        walked.push(component);
        let place = layer.join(&walked);
        let Ok(meta) = std::fs::symlink_metadata(&place) else {
            return opaque_at.map_or(Seen::Nothing, Seen::OpaqueAbove);
        };
        if whiteout::is_whiteout(&meta) {
            return Seen::Whiteout(walked);
        }
        if meta.is_dir() && whiteout::is_opaque(&place) {
            opaque_at = Some(walked.clone());
        }
        if components.peek().is_none() {
            return Seen::Here {
                is_directory: meta.is_dir(),
                opaque_at,
            };
        }
        if !meta.is_dir() {
            return Seen::Blocked(walked);
        }
    }
    Seen::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::*;

    fn layers() -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("2/etc/a", "low");
        put("2/etc/b", "low");
        put("2/old/x", "low");
        put("2/gone", "low");
        put("2/only", "low");
        put("1/etc/a", "middle");
        put("1/old/y", "middle");
        put("0/was-dir", "file");
        put("2/was-dir/inner", "low");
        std::os::unix::fs::symlink("etc", root.path().join("1/conf")).unwrap();
        let middle = std::fs::File::open(root.path().join("1")).unwrap();
        whiteout::make(&middle, Path::new("gone")).unwrap();
        let old = std::fs::File::open(root.path().join("1/old")).unwrap();
        let marked = whiteout::set_opaque(&old).is_ok();
        assert!(marked, "this file system keeps no extended attributes");
        let layers = ["0", "1", "2"].map(|l| root.path().join(l)).into();
        (root, layers)
    }

    #[test]
    fn every_role_is_found() {
        let (_root, layers) = layers();
        let roles = |path: &str| -> Vec<(usize, Role)> {
            let found = whence(&layers, Path::new(path)).unwrap();
            found.findings.iter().map(|f| (f.layer, f.role)).collect()
        };
        assert_eq!(roles("/only"), [(2, Provides)]);
        assert_eq!(roles("/etc/a"), [(1, Replaces), (2, Hidden)]);
        assert_eq!(roles("/conf/a"), [(1, Replaces), (2, Hidden)]);
        assert_eq!(roles("/gone"), [(1, Deletes), (2, Hidden)]);
        assert_eq!(roles("/etc"), [(1, Provides), (2, Merged)]);
        assert_eq!(roles("/old/x"), [(1, Opaque), (2, Hidden)]);
        assert_eq!(roles("/was-dir/inner"), [(0, Blocks), (2, Hidden)]);
        assert_eq!(roles("/nothing"), []);
        assert_eq!(whence(&layers, Path::new("/gone")).unwrap().provider, None);
        assert_eq!(
            whence(&layers, Path::new("/conf/b")).unwrap().path,
            Path::new("/etc/b")
        );
    }
}
