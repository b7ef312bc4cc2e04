//! Where things are on this host.
//!
//! What it does: finds the state root (images, layers, containers, volumes: what must survive a
//! reboot) and the run directory (sockets: what must not).
//!
//! ```text
//!                 root                              an ordinary user
//!   state root    /var/lib/glassbox                 $XDG_DATA_HOME/glassbox (~/.local/share/…)
//!   run dir       /run/glassbox                     $XDG_RUNTIME_DIR/glassbox (/tmp/glassbox-UID)
//! ```
//!
//! `--root DIR`, else `$GLASSBOX_ROOT`, moves all of it; the run directory is then `DIR/run`, or
//! `$GLASSBOX_RUN`, which one of our processes tells another that has the user's ids no more.
//! What it implements: the XDG base directory specification. Interface: [`Paths`].
//! Read next: `store.rs`.

use crate::error::{Context, Result};
use std::path::{Path, PathBuf};

/// The directories of one installation. None needs to exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The state root.
    pub root: PathBuf,
    /// The run directory.
    pub run: PathBuf,
}

impl Paths {
    /// The paths of this user: `--root` if it was given, else `$GLASSBOX_ROOT`, else the defaults.
    /// Errors: a relative root and no working directory to resolve it against.
    pub fn new(root: Option<&Path>) -> Result<Paths> {
        let env = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        Self::resolve(root, nix::unistd::geteuid().as_raw(), &env)
    }

    /// The decision itself, over a user id and an environment.
    fn resolve(
        root: Option<&Path>,
        uid: u32,
        env: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<Paths> {
        if let Some(root) = root.map(Path::to_path_buf).or_else(|| env("GLASSBOX_ROOT")) {
            let root = std::path::absolute(&root)
                .with_context(|| format!("cannot resolve the state root {}", root.display()))?;
            let run = env("GLASSBOX_RUN").unwrap_or_else(|| root.join("run"));
            return Ok(Paths { root, run });
        }
        if uid == 0 {
            return Ok(Paths {
                root: "/var/lib/glassbox".into(),
                run: "/run/glassbox".into(),
            });
        }
        let data = env("XDG_DATA_HOME")
            .or_else(|| env("HOME").map(|home| home.join(".local/share")))
            .context("neither XDG_DATA_HOME nor HOME is set, so there is no place for the state")
            .map_err(|e| e.hint("say where with --root DIR or GLASSBOX_ROOT"))?;
        let run = env("XDG_RUNTIME_DIR")
            .map(|dir| dir.join("glassbox"))
            .unwrap_or_else(|| format!("/tmp/glassbox-{uid}").into());
        Ok(Paths {
            root: data.join("glassbox"),
            run,
        })
    }

    /// One directory a container.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }
    /// One directory a named volume.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_user_and_flag() {
        let none = |_: &str| None;
        let home = |n: &str| (n == "HOME").then(|| PathBuf::from("/home/a"));
        let set = |n: &str| (n == "GLASSBOX_ROOT").then(|| PathBuf::from("/x"));
        let show = |p: Paths| format!("{} {}", p.root.display(), p.run.display());
        let of = |root: Option<&str>, uid, env: &dyn Fn(&str) -> Option<PathBuf>| {
            Paths::resolve(root.map(Path::new), uid, env).map(show)
        };
        assert_eq!(
            of(None, 0, &none).unwrap(),
            "/var/lib/glassbox /run/glassbox"
        );
        assert_eq!(
            of(None, 1000, &home).unwrap(),
            "/home/a/.local/share/glassbox /tmp/glassbox-1000"
        );
        assert_eq!(of(None, 0, &set).unwrap(), "/x /x/run");
        assert_eq!(of(Some("/y"), 1000, &set).unwrap(), "/y /y/run");
        assert!(of(None, 1000, &none).unwrap_err().get_hint().is_some());
    }
}
