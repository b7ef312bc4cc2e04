//! Other options for what is mounted already: the mount option `remount` of config.json.
//!
//! What it does: what mount(2) does with `MS_REMOUNT`, and so what runc and crun do: the mount at the
//! destination, made by an earlier entry, has then the attributes that are given here and no others
//! (the access times stay, if none is given); options of the file system go to the file system,
//! wherever else it is mounted, but for a bind, which has none of its own.
//!
//! What it implements: runtime-spec "Mounts" (Linux) `remount`; mount(2) `MS_REMOUNT`, fspick(2),
//! fsconfig(2), mount_setattr(2).
//! Interface: [`Remount`] (an action). Read next: `mount.rs`.

use super::mount::{ROOT, mounted_at, open_in_root};
use super::options::{ATIME, MountOptions};
use crate::error::{Context, Error, Result};
use crate::journal::{Action, Fact, Planned, Scene};
use crate::sys::{self, mount as m};
use std::path::{Path, PathBuf};

/// Gives the mount at `destination` other options.
#[derive(Debug)]
pub struct Remount {
    /// Where it is, as an absolute path inside the container.
    pub destination: PathBuf,
    /// The parsed options.
    pub options: MountOptions,
}

/// The attributes that a mount has or has not.
const SWITCHES: u64 = libc::MOUNT_ATTR_RDONLY
    | libc::MOUNT_ATTR_NOSUID
    | libc::MOUNT_ATTR_NODEV
    | libc::MOUNT_ATTR_NOEXEC
    | libc::MOUNT_ATTR_NODIRATIME
    | libc::MOUNT_ATTR_NOSYMFOLLOW;

impl Remount {
    /// (set, clear, propagation, all below) of each change, in order.
    fn changes(&self) -> Vec<(u64, u64, u64, bool)> {
        let o = &self.options;
        let mut changes = vec![(o.set, (SWITCHES & !o.set) | (o.clear & ATIME), 0, false)];
        if o.set_below != 0 || o.clear_below != 0 {
            changes.push((o.set_below, o.clear_below, 0, true));
        }
        if o.propagation != 0 {
            changes.push((0, 0, o.propagation, o.propagation_below));
        }
        changes
    }

    /// The file system's own options.
    fn data(&self) -> &[String] {
        match self.options.bind {
            true => &[],
            false => &self.options.data,
        }
    }
}

impl Action for Remount {
    fn calls(&self) -> Vec<Planned> {
        let mut calls = Vec::new();
        if !self.data().is_empty() {
            calls.push(Planned::new("fspick", format!("{:?}", self.destination)));
            calls.extend(self.data().iter().map(|o| Planned::new("fsconfig", o)));
            calls.push(Planned::new("fsconfig", "FSCONFIG_CMD_RECONFIGURE"));
        }
        for (set, clear, propagation, _) in self.changes() {
            let change = match propagation {
                0 => format!(
                    "set {}, clear {}",
                    sys::flag_names(set, m::MOUNT_ATTRS),
                    sys::flag_names(clear, m::MOUNT_ATTRS)
                ),
                flag => sys::flag_names(flag, m::MS_FLAGS),
            };
            calls.push(Planned::new("mount_setattr", change));
        }
        calls
    }

    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let what = || format!("cannot remount {}", self.destination.display());
        let place = open_in_root(scene.fd(ROOT)?, &self.destination, libc::O_PATH)
            .with_context(what)
            .map_err(advise)?;
        let reconfigure = || -> sys::SysResult<()> {
            let context = m::fspick(&place)?;
            for option in self.data() {
                match option.split_once('=') {
                    Some((key, value)) => m::fsconfig_set_string(&context, key, value)?,
                    None => m::fsconfig_set_flag(&context, option)?,
                }
            }
            m::fsconfig_reconfigure(&context)
        };
        if !self.data().is_empty() {
            reconfigure().with_context(what).map_err(advise)?;
        }
        for (set, clear, propagation, below) in self.changes() {
            m::mount_setattr(&place, Path::new(""), below, set, clear, propagation, None)
                .with_context(what)
                .map_err(advise)?;
        }
        Ok(())
    }

    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        vec![mounted_at(scene, &self.destination)]
    }
}

/// What errno alone does not say.
fn advise(error: Error) -> Error {
    match error.errno() {
        Some(libc::EINVAL | libc::ENOENT) => error.hint(
            "`remount` changes a mount that an entry before this one has made, at exactly this \
             place; and only options that its file system lets change",
        ),
        Some(libc::EPERM) => error.hint(
            "an attribute of this mount is locked: a user namespace may not loosen what the host set",
        ),
        Some(libc::EBUSY) => error.hint("a file there is open for writing"),
        _ => error,
    }
}
