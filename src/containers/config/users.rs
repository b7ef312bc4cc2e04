//! Who the program runs as: `-u` and the image's USER, by the container's own passwd and group.
//!
//! What it does: finds `/etc/passwd` and `/etc/group` in the layers as overlayfs would show them
//! (the topmost layer that has the file wins; a whiteout hides it), reading each inside its layer
//! alone, so that a symbolic link in an image cannot lead to the host's file. Then resolves names
//! and numbers as docker does.
//!
//! What it implements: passwd(5), group(5); docker's `--user` and `--group-add`.
//! Interface: [`Accounts`], [`resolve`]. Read next: `mod.rs`.

use crate::error::{Context, Error, Kind, Result};
use crate::sys;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// The container's accounts, as text.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// `/etc/passwd`; empty when there is none.
    pub passwd: String,
    /// `/etc/group`; empty when there is none.
    pub group: String,
}

/// Who the program runs as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its home directory.
    pub home: String,
}

impl Accounts {
    /// Reads them out of a container's layers, topmost first (the upper directory, then the
    /// lowers). Errors: a file exists and cannot be read, or is larger than 16 MiB.
    pub fn read(layers: &[PathBuf]) -> Result<Accounts> {
        Ok(Accounts {
            passwd: read_topmost(layers, "etc/passwd")?,
            group: read_topmost(layers, "etc/group")?,
        })
    }

    fn users(&self) -> impl Iterator<Item = Vec<&str>> {
        fields(&self.passwd, 6)
    }
    fn groups(&self) -> impl Iterator<Item = Vec<&str>> {
        fields(&self.group, 3)
    }
    /// The id of a group: a name of this file, or a number.
    fn group_id(&self, text: &str) -> Result<u32> {
        self.groups()
            .find(|g| g[0] == text)
            .and_then(|g| g[2].parse().ok())
            .or_else(|| text.parse().ok())
            .ok_or_else(|| unknown("group", text))
    }
}

fn unknown(what: &str, name: &str) -> Error {
    Error::kind(
        Kind::NotFound,
        format!(
            "unable to find {what} {name}: no matching entries in {} file",
            if what == "user" { "passwd" } else { "group" }
        ),
    )
    .hint("names are looked up in the image's own /etc/passwd and /etc/group; numbers always work")
}

fn fields(text: &str, at_least: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(|line| line.trim().split(':').collect::<Vec<_>>())
        .filter(move |f| f.len() >= at_least && !f[0].is_empty() && !f[0].starts_with('#'))
}

/// Resolves `USER[:GROUP]` and additional groups. Empty means root. A number that no account has
/// gets group 0 and home `/`, as in docker. Errors: a name that the container does not know.
pub fn resolve(accounts: &Accounts, user: &str, group_add: &[String]) -> Result<Identity> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let found = accounts
        .users()
        .find(|u| u[0] == user)
        .or_else(|| accounts.users().find(|u| u[2] == user));
    let mut identity = match &found {
        Some(u) => Identity {
            uid: u[2].parse().map_err(|_| unknown("user", user))?,
            gid: u[3].parse().map_err(|_| unknown("user", user))?,
            name: Some(u[0].into()),
            home: u[5].into(),
            ..Identity::default()
        },
        None => Identity {
            uid: user.parse().map_err(|_| unknown("user", user))?,
            ..Identity::default()
        },
    };
    if identity.home.is_empty() {
        identity.home = if identity.uid == 0 && found.is_none() {
            "/root"
        } else {
            "/"
        }
        .into();
    }
    match group {
        Some(group) => identity.gid = accounts.group_id(group)?,
        None => {
            // Only without an explicit group does the group file add the user's others.
            if let Some(name) = &identity.name {
                let member =
                    |g: &Vec<&str>| g.get(3).is_some_and(|m| m.split(',').any(|m| m == name));
                identity.additional_gids = accounts
                    .groups()
                    .filter(member)
                    .filter_map(|g| g[2].parse().ok())
                    .collect();
            }
        }
    }
    for group in group_add {
        identity.additional_gids.push(accounts.group_id(group)?);
    }
    // The primary group is among them: a process that changes its group could otherwise leave it, and
    // with it what a file forbids to that group (CVE-2022-36109).
    identity.additional_gids.insert(0, identity.gid);
    let mut seen = std::collections::BTreeSet::new();
    identity.additional_gids.retain(|gid| seen.insert(*gid));
    Ok(identity)
}

/// Largest account file that is read.
const LARGEST: u64 = 16 << 20;

fn read_topmost(layers: &[PathBuf], path: &str) -> Result<String> {
    for layer in layers {
        let what = || format!("cannot read /{path} in {}", layer.display());
        let root = match sys::fs::open(layer, libc::O_PATH | libc::O_DIRECTORY, 0) {
            Ok(root) => root,
            Err(e) if e.errno == sys::Errno::ENOENT => continue,
            Err(e) => return Err(e).with_context(what),
        };
        // Relative links in an image may cross layers; then the file is looked for further down.
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        let file =
            match sys::fs::openat2(&root, path, libc::O_RDONLY | libc::O_NONBLOCK, 0, resolve) {
                Ok(fd) => File::from(fd),
                // A whiteout is a character device 0:0, which nobody can open (ENXIO).
                Err(e) if e.errno == sys::Errno::ENXIO => return Ok(String::new()),
                Err(e)
                    if matches!(
                        e.errno,
                        sys::Errno::ENOENT | sys::Errno::ENOTDIR | sys::Errno::ELOOP
                    ) =>
                {
                    continue;
                }
                Err(e) => return Err(e).with_context(what),
            };
        let meta = file.metadata().with_context(what)?;
        if meta.file_type().is_char_device() && meta.rdev() == 0 {
            return Ok(String::new());
        }
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(Error::new(format!(
                "/{path} of the image is not a reasonable file"
            )));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST)
            .read_to_end(&mut bytes)
            .with_context(what)?;
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd:
                "root:x:0:0:root:/root:/bin/sh\n# c\nanna:x:1000:100:A:/home/anna:/bin/sh\nbroken\n"
                    .into(),
            group: "root:x:0:\nusers:x:100:\naudio:x:29:anna,bob\nvideo:x:44:anna\n".into(),
        }
    }

    #[test]
    fn names_and_numbers() {
        let of = |user: &str, add: &[&str]| {
            let add: Vec<String> = add.iter().map(|s| s.to_string()).collect();
            resolve(&accounts(), user, &add)
                .map(|i| (i.uid, i.gid, i.additional_gids, i.home))
                .map_err(|e| e.message().to_string())
        };
        let some = |u, g, more: &[u32], home: &str| Ok((u, g, more.to_vec(), home.to_string()));
        assert_eq!(of("", &[]), some(0, 0, &[0], "/root"));
        assert_eq!(
            of("anna", &[]),
            some(1000, 100, &[100, 29, 44], "/home/anna")
        );
        assert_eq!(
            of("1000", &[]),
            some(1000, 100, &[100, 29, 44], "/home/anna")
        );
        assert_eq!(
            of("anna:audio", &["video", "7"]),
            some(1000, 29, &[29, 44, 7], "/home/anna")
        );
        assert_eq!(of("7", &["users", "100"]), some(7, 0, &[0, 100], "/"));
        assert_eq!(of("7:8", &[]), some(7, 8, &[8], "/"));
        assert!(
            of("bob", &[])
                .unwrap_err()
                .contains("unable to find user bob")
        );
        assert!(
            of("anna:nope", &[])
                .unwrap_err()
                .contains("unable to find group nope")
        );
        assert!(of("4294967296", &[]).is_err() && of("-1", &[]).is_err());
    }

    #[test]
    fn an_image_without_accounts_has_root() {
        let i = resolve(&Accounts::default(), "", &[]).unwrap();
        assert_eq!((i.uid, i.home.as_str()), (0, "/root"));
    }

    #[test]
    fn the_topmost_layer_wins_and_links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |n: &str| {
            let path = dir.path().join(n);
            std::fs::create_dir_all(path.join("etc")).unwrap();
            path
        };
        let (top, base) = (layer("top"), layer("base"));
        std::fs::write(base.join("etc/passwd"), "low").unwrap();
        let layers = [top.clone(), base.clone()];
        assert_eq!(Accounts::read(&layers).unwrap().passwd, "low");
        std::os::unix::fs::symlink("/etc/group", top.join("etc/group")).unwrap();
        assert_eq!(
            Accounts::read(&layers).unwrap().group,
            "",
            "a loop inside, never the host's"
        );
        std::fs::write(top.join("etc/passwd"), "high").unwrap();
        assert_eq!(Accounts::read(&layers).unwrap().passwd, "high");
    }
}
