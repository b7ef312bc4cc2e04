//! Walking /proc: every place where a namespace can be seen.
//!
//! What it does: collects namespaces with their keepers, and for each a path by which it can be
//! opened, which the relations need. A process that ends while it is looked at is no error.
//! What it implements: proc_pid_ns(5), proc_pid_fd(5), proc_pid_mountinfo(5).
//! Interface: [`Scan`] (of this folder only). Read next: `relations.rs`.

use super::{Keeper, Namespace, Process, Survey, Unread, parse};
use crate::error::{Context, Result};
use crate::namespaces::Kind;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A namespace being found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub processes: BTreeSet<i32>,
    pub oldest: Option<(u64, Process)>,
    pub keepers: Vec<Keeper>,
    /// A path that opens it.
    pub path: Option<PathBuf>,
    /// A process and its socket, which gives the namespace where no path does.
    pub socket: Option<(i32, i32)>,
    pub owner: Option<u64>,
    pub owner_unread: Option<String>,
    pub parent: Option<u64>,
    pub owner_uid: Option<u32>,
}

/// A survey under way.
#[derive(Debug)]
pub(super) struct Scan {
    pub found: BTreeMap<(Kind, u64), Seen>,
    ours: BTreeSet<(Kind, u64)>,
    unread: BTreeMap<(&'static str, String), usize>,
    /// One process of each mount namespace.
    mount_namespaces: BTreeMap<u64, i32>,
}

impl Scan {
    pub fn new() -> Result<Scan> {
        let mut ours = BTreeSet::new();
        for kind in Kind::ALL {
            match std::fs::read_link(format!("/proc/self/ns/{kind}")) {
                Ok(link) => ours.extend(link.to_str().and_then(Kind::parse_link)),
                Err(e) if e.kind() == ErrorKind::NotFound && Path::new("/proc/self").exists() => {}
                Err(e) => {
                    return Err(e)
                        .context("cannot read our own namespaces in /proc/self/ns")
                        .map_err(|e| e.hint("is a procfs mounted on /proc?").topic("namespaces"));
                }
            }
        }
        Ok(Scan {
            found: BTreeMap::new(),
            ours,
            unread: BTreeMap::new(),
            mount_namespaces: BTreeMap::new(),
        })
    }

    /// Looks at every process.
    pub fn processes(&mut self) -> Result<()> {
        let entries = std::fs::read_dir("/proc").context("cannot list /proc")?;
        let mut pids: Vec<i32> = entries
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        for pid in pids {
            self.process(pid);
        }
        Ok(())
    }

    fn process(&mut self, pid: i32) {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let Some(stat) = std::fs::read_to_string(directory.join("stat"))
            .ok()
            .and_then(|t| parse::stat(&t))
        else {
            return; // it has ended
        };
        if stat.state == 'Z' || stat.state == 'X' {
            return; // its namespaces are gone already, but for what its parent will reap
        }
        let cmdline = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let process = Process {
            pid,
            command: parse::command_line(&cmdline, &stat.comm),
            uid: std::fs::metadata(&directory).map_or(0, |m| m.uid()),
        };
        let mut own = BTreeMap::new();
        for kind in Kind::ALL {
            let path = directory.join("ns").join(kind.name());
            match read_namespace(&path) {
                Ok(Some((_, id))) => {
                    own.insert(kind, id);
                    self.member(kind, id, &process, stat.start, path);
                }
                Ok(None) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => {
                    // One refusal stands for all kinds: the kernel asks the same question each time.
                    self.not_read("the namespaces of a process", &e);
                    return;
                }
            }
        }
        if let Some(id) = own.get(&Kind::Mnt) {
            self.mount_namespaces.entry(*id).or_insert(pid);
        }
        self.for_children(&directory, &process, &own);
        if stat.threads > 1 {
            self.threads(&directory, &process, &own);
        }
        self.descriptors(&directory, &process, &own);
    }

    fn member(&mut self, kind: Kind, id: u64, process: &Process, start: u64, path: PathBuf) {
        let seen = self.found.entry((kind, id)).or_default();
        seen.processes.insert(process.pid);
        seen.path.get_or_insert(path);
        if seen.oldest.as_ref().is_none_or(|(first, _)| start < *first) {
            seen.oldest = Some((start, process.clone()));
        }
    }

    fn keeper(&mut self, kind: Kind, id: u64, path: PathBuf, keeper: Keeper) {
        let seen = self.found.entry((kind, id)).or_default();
        seen.path.get_or_insert(path);
        seen.keepers.push(keeper);
    }

    /// The namespaces in which the next children of a process, or of one of its threads, will be:
    /// each thread has its own choice.
    fn for_children(&mut self, directory: &Path, process: &Process, own: &BTreeMap<Kind, u64>) {
        for (kind, file) in [
            (Kind::Pid, "pid_for_children"),
            (Kind::Time, "time_for_children"),
        ] {
            let path = directory.join("ns").join(file);
            if let Ok(Some((_, id))) = read_namespace(&path)
                && own.get(&kind) != Some(&id)
            {
                let keeper = Keeper::ForChildren {
                    pid: process.pid,
                    command: process.command.clone(),
                };
                // The threads of a process mostly agree: said once.
                let seen = self.found.get(&(kind, id));
                if !seen.is_some_and(|s| s.keepers.contains(&keeper)) {
                    self.keeper(kind, id, path, keeper);
                }
            }
        }
    }

    fn threads(&mut self, directory: &Path, process: &Process, own: &BTreeMap<Kind, u64>) {
        let Ok(tasks) = std::fs::read_dir(directory.join("task")) else {
            return;
        };
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|t| t.parse().ok()) else {
                continue;
            };
            if tid == process.pid {
                continue;
            }
            self.for_children(&task.path(), process, own);
            for kind in Kind::ALL {
                let path = task.path().join("ns").join(kind.name());
                if let Ok(Some((_, id))) = read_namespace(&path)
                    && own.get(&kind).is_some_and(|o| *o != id)
                {
                    if kind == Kind::Mnt {
                        self.mount_namespaces.entry(id).or_insert(tid);
                    }
                    let keeper = Keeper::Thread {
                        pid: process.pid,
                        tid,
                        command: process.command.clone(),
                    };
                    self.keeper(kind, id, path, keeper);
                }
            }
        }
    }

    fn descriptors(&mut self, directory: &Path, process: &Process, own: &BTreeMap<Kind, u64>) {
        let entries = match std::fs::read_dir(directory.join("fd")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => return self.not_read("the open descriptors of a process", &e),
        };
        let mut pidfd = None;
        for entry in entries.flatten() {
            let Some(fd) = entry.file_name().to_str().and_then(|t| t.parse().ok()) else {
                continue;
            };
            let Ok(link) = std::fs::read_link(entry.path()) else {
                continue;
            };
            let link = link.to_string_lossy();
            let (pid, command) = (process.pid, process.command.clone());
            if let Some((kind, id)) = Kind::parse_link(&link) {
                let keeper = Keeper::Descriptor { pid, fd, command };
                self.keeper(kind, id, entry.path(), keeper);
            } else if link.starts_with("socket:[") && pid != std::process::id() as i32 {
                // A socket belongs for ever to the network namespace in which it was made.
                let pidfd = match &pidfd {
                    Some(pidfd) => pidfd,
                    None => match sys::process::pidfd_open(pid) {
                        Ok(new) => pidfd.insert(new),
                        Err(_) => return, // it has ended
                    },
                };
                match sys::namespace::socket_namespace(pidfd, fd) {
                    Ok(Some(namespace)) => {
                        let other = |id: &u64| own.get(&Kind::Net) != Some(id);
                        if let Some(id) = inode(&namespace).filter(other) {
                            let seen = self.found.entry((Kind::Net, id)).or_default();
                            seen.socket.get_or_insert((pid, fd));
                            seen.keepers.push(Keeper::Socket { pid, fd, command });
                        }
                    }
                    Err(e) if e.errno == sys::Errno::EPERM => {
                        return self.not_read("the sockets of a process", &e.errno.into());
                    }
                    _ => {} // of no network namespace, or closed meanwhile
                }
            }
        }
    }

    /// Looks for bind mounts in every mount namespace that a process or thread is in.
    pub fn mounts(&mut self) {
        for (mount_namespace, pid) in self.mount_namespaces.clone() {
            let text = match std::fs::read_to_string(format!("/proc/{pid}/mountinfo")) {
                Ok(text) => text,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => {
                    self.not_read("the mounts of a mount namespace", &e);
                    continue;
                }
            };
            for (kind, id, path) in parse::nsfs_mounts(&text) {
                let open = PathBuf::from(format!("/proc/{pid}/root{path}"));
                let keeper = Keeper::Mount {
                    path,
                    mount_namespace,
                    pid: Some(pid),
                };
                self.keeper(kind, id, open, keeper);
            }
        }
        self.mounts_without_a_process();
    }

    /// The same for the mount namespaces that are only pinned or held open: /proc shows nothing
    /// of them, but the kernel answers by their id (Linux 6.11).
    fn mounts_without_a_process(&mut self) {
        let lone: Vec<(u64, PathBuf)> = self
            .found
            .iter()
            .filter(|((kind, id), _)| *kind == Kind::Mnt && !self.mount_namespaces.contains_key(id))
            .filter_map(|((_, id), seen)| Some((*id, seen.path.clone()?)))
            .collect();
        for (mount_namespace, path) in lone {
            let mounts = sys::namespace::open_ns(path)
                .and_then(sys::statmount::mnt_ns_id)
                .and_then(|id| {
                    let ids = sys::statmount::listmount(id)?;
                    let one = |mount: &u64| sys::statmount::statmount(id, *mount).ok();
                    Ok(ids.iter().filter_map(one).collect::<Vec<_>>())
                });
            let mounts = match mounts {
                Ok(mounts) => mounts,
                Err(e) => {
                    self.not_read(
                        "the mounts of a mount namespace without a process",
                        &e.errno.into(),
                    );
                    continue;
                }
            };
            for mount in mounts.into_iter().filter(|m| m.fs_type == "nsfs") {
                if let Some((kind, id)) = Kind::parse_link(&mount.root) {
                    let seen = self.found.entry((kind, id)).or_default();
                    seen.keepers.push(Keeper::Mount {
                        path: mount.point,
                        mount_namespace,
                        pid: None,
                    });
                }
            }
        }
    }

    fn not_read(&mut self, what: &'static str, error: &std::io::Error) {
        let why = match error.raw_os_error() {
            Some(errno) => sys::describe_errno(sys::Errno::from_raw(errno)),
            None => error.to_string(),
        };
        *self.unread.entry((what, why)).or_default() += 1;
    }

    pub fn finish(self) -> Survey {
        let namespaces = self
            .found
            .into_iter()
            .map(|((kind, id), seen)| {
                let mut kept_by = Vec::new();
                if !seen.processes.is_empty() {
                    kept_by.push(Keeper::Processes {
                        count: seen.processes.len(),
                    });
                }
                kept_by.extend(seen.keepers);
                Namespace {
                    kind,
                    id,
                    ours: self.ours.contains(&(kind, id)),
                    processes: seen.processes.into_iter().collect(),
                    oldest: seen.oldest.map(|(_, p)| p),
                    owner: seen.owner,
                    owner_unread: seen.owner_unread,
                    parent: seen.parent,
                    owner_uid: seen.owner_uid,
                    kept_by,
                }
            })
            .collect();
        let unread = self
            .unread
            .into_iter()
            .map(|((what, why), count)| Unread {
                what: what.into(),
                count,
                why,
            })
            .collect();
        Survey { namespaces, unread }
    }
}

/// The inode number behind a descriptor.
pub(super) fn inode(fd: &OwnedFd) -> Option<u64> {
    std::fs::metadata(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .ok()
        .map(|m| m.ino())
}

fn read_namespace(path: &Path) -> std::io::Result<Option<(Kind, u64)>> {
    Ok(std::fs::read_link(path)?
        .to_str()
        .and_then(Kind::parse_link))
}
