//! Fills [`model::Process`](super::model::Process) for any process of the host.
//!
//! What it does: reads /proc/PID and asks the kernel, each fact on its own, so that what a user
//! may not read costs only itself. A pidfd is held while reading, and at the end it must still
//! refer to a live process: else the number was reused meanwhile and the answer would be a
//! mixture of two.
//! What it implements: proc(5), namespaces(7), ioctl_nsfs(2), user_namespaces(7), pidfd_open(2).
//! Interface: [`process`], [`process_among`]. Read next: `mounts.rs`, `cgroup.rs`, `seccomp.rs`.

use super::fact::Fact;
use super::model::*;
use super::proc_text::{self, Status};
use super::{capabilities, cgroup, keeper, mounts, tree};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::host::cgroup_layout::parse_proc_cgroup;
use crate::host::process::parse_stat;
use crate::namespaces::{IdMap, Kind, parse_maps};
use crate::sys;

/// All processes of the host, seen once: for whoever looks at many of them.
#[derive(Debug, Default)]
pub struct Processes(std::cell::OnceCell<Vec<tree::Seen>>);

/// A process, completely. Errors: [`ErrorKind::NotFound`] when there is none with this id.
pub fn process(pid: u32) -> Result<Process> {
    process_among(pid, &Processes::default())
}

/// The same; its neighbours are those that were there when the first process was looked at.
pub fn process_among(pid: u32, seen: &Processes) -> Result<Process> {
    let gone = || Error::kind(ErrorKind::NotFound, format!("no process has the id {pid}"));
    let pidfd = sys::process::pidfd_open(pid.cast_signed()).ok();
    let path = |file: &str| format!("/proc/{pid}/{file}");
    let status_path = path("status");
    let status = match std::fs::read_to_string(&status_path) {
        Ok(text) => Status::parse(&text),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Err(gone()),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Err(gone()),
        Err(e) => return Err(Error::new(format!("cannot read {status_path}")).caused_by(e)),
    };
    let of_status = |key: &str| format!("{status_path}: {key}");
    let all = seen.0.get_or_init(tree::all);
    let id_maps = id_maps(pid);
    let uid = Fact::of(of_status("Uid"), status.numbers("Uid"));
    let gid = Fact::of(of_status("Gid"), status.numbers("Gid"));
    let groups = read(&path("cgroup"));
    let found = Process {
        pid,
        name: Fact::of(of_status("Name"), status.get("Name").map(str::to_string)),
        command: Fact::of(path("cmdline"), tree::command_line(pid).map_err(words)),
        executable: link(&path("exe")),
        state: Fact::of(
            of_status("State"),
            status.get("State").map(proc_text::state_word),
        ),
        parent: Fact::of(of_status("PPid"), status.number("PPid")),
        started: started(pid),
        threads: Fact::of(of_status("Threads"), status.number("Threads")),
        user: Credentials {
            uid_inside: inside(&uid, &id_maps.uid),
            gid_inside: inside(&gid, &id_maps.gid),
            uid,
            gid,
            groups: Fact::of(of_status("Groups"), status.numbers("Groups")),
        },
        root: link(&path("root")),
        cwd: link(&path("cwd")),
        umask: Fact::of(of_status("Umask"), status.get("Umask").map(str::to_string)),
        oom: Oom {
            score: number(&path("oom_score")),
            score_adj: number(&path("oom_score_adj")),
        },
        keeper: Fact::of(
            path("cgroup"),
            groups.as_ref().map_err(Clone::clone).map(|text| {
                let memberships = parse_proc_cgroup(text);
                keeper::keeper(memberships.iter().map(|m| m.path.as_str()))
            }),
        ),
        namespaces: namespaces(pid, all),
        id_maps,
        mounts: super::store::resolve(mounts::mounts(pid)),
        cgroup: cgroup::of_process(pid),
        capabilities: capabilities::capabilities(&status, &status_path),
        seccomp: super::seccomp::seccomp(pid, &status, &status_path),
        signals: signals(&status, &status_path),
        no_new_privs: Fact::of(
            of_status("NoNewPrivs"),
            status.number::<u8>("NoNewPrivs").map(|n| n == 1),
        ),
        lsm_label: lsm_label(pid),
        rlimits: Fact::of(
            path("limits"),
            read(&path("limits")).map(|t| proc_text::limits(&t)),
        ),
        devices: cgroup::devices(pid),
        network: network(pid),
        processes: processes(pid, all),
    };
    match pidfd {
        // Signal 0 asks whether the process behind the descriptor is still there.
        Some(fd)
            if sys::process::pidfd_send_signal(&fd, 0)
                .is_err_and(|e| e.errno == sys::Errno::ESRCH) =>
        {
            Err(gone())
        }
        _ => Ok(found),
    }
}

/// "EACCES (Permission denied)".
pub(super) fn words(e: std::io::Error) -> String {
    match e.raw_os_error() {
        Some(raw) => sys::describe_errno(sys::Errno::from_raw(raw)),
        None => e.to_string(),
    }
}

/// A whole file as text.
pub(super) fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(words)
}

fn number(path: &str) -> Fact<i32> {
    let parse = |t: String| t.trim().parse::<i32>().map_err(|e| e.to_string());
    Fact::of(path.to_string(), read(path).and_then(parse))
}

fn link(path: &str) -> Fact<String> {
    let target = std::fs::read_link(path).map_err(words);
    let source = format!("readlink({path})");
    Fact::of(source, target.map(|t| t.to_string_lossy().into_owned()))
}

fn started(pid: u32) -> Fact<String> {
    let source = format!("/proc/{pid}/stat: starttime, /proc/stat: btime");
    let time = || {
        let stat = read(&format!("/proc/{pid}/stat"))?;
        let ticks = parse_stat(&stat).map(|s| s.starttime);
        let boot = proc_text::boot_time(&read("/proc/stat")?);
        let per_second = sys::ask::ticks_per_second();
        let (ticks, boot) = ticks
            .zip(boot)
            .ok_or("the kernel's text was not understood")?;
        Ok::<_, String>(proc_text::utc(boot + ticks / per_second))
    };
    Fact::of(source, time())
}

/// The effective id as the process sees it, through its user namespace's map.
fn inside(ids: &Fact<Vec<u32>>, map: &Fact<Vec<IdRange>>) -> Option<u32> {
    let id = *ids.get()?.get(1)?;
    map.get()?.iter().find_map(|r| {
        let distance = id.checked_sub(r.outside)?;
        (distance < r.count).then(|| r.inside + distance)
    })
}

fn id_maps(pid: u32) -> IdMaps {
    let map = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        let ranges = read(&path).map(|text| parse_maps(&text).iter().map(range).collect());
        Fact::of(path, ranges)
    };
    let setgroups = format!("/proc/{pid}/setgroups");
    IdMaps {
        uid: map("uid_map"),
        gid: map("gid_map"),
        setgroups: Fact::of(
            setgroups.clone(),
            read(&setgroups).map(|t| t.trim().to_string()),
        ),
    }
}

fn range(map: &IdMap) -> IdRange {
    let IdMap {
        inside,
        outside,
        count,
    } = *map;
    let last = |first: u32| u64::from(first) + u64::from(count) - 1;
    let words = match (count, inside == outside) {
        (u32::MAX, true) => "every id is the same inside and outside".to_string(),
        (1, _) => format!("{inside} inside is {outside} outside"),
        _ => format!(
            "{inside} to {} inside are {outside} to {} outside",
            last(inside),
            last(outside)
        ),
    };
    IdRange {
        inside,
        outside,
        count,
        words,
    }
}

fn namespaces(pid: u32, all: &[tree::Seen]) -> Vec<ProcessNamespace> {
    Kind::ALL
        .into_iter()
        .map(|kind| namespace(pid, kind, all))
        .collect()
}

/// The inode number behind a namespace link.
pub(super) fn namespace_id(path: &str) -> Result<u64, String> {
    let target = std::fs::read_link(path).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT) => "this kernel has no such namespace".to_string(),
        _ => words(e),
    })?;
    let parsed = target.to_str().and_then(Kind::parse_link);
    parsed
        .map(|(_, id)| id)
        .ok_or_else(|| format!("{target:?} was not understood"))
}

fn namespace(pid: u32, kind: Kind, all: &[tree::Seen]) -> ProcessNamespace {
    let path = format!("/proc/{pid}/ns/{}", kind.name());
    let id = Fact::of(format!("readlink({path})"), namespace_id(&path));
    let relation = relation(kind, id.get().copied());
    let processes = match id.get() {
        Some(id) => Fact::new("/proc/*/ns", tree::count_in(all, kind.name(), *id)),
        None => Fact::unread("/proc/*/ns", id.why().unwrap_or_default()),
    };
    let first = kind == Kind::User && relation.get().is_some_and(|r| r == "host");
    let owner = Fact::of(
        format!("ioctl({path}, NS_GET_USERNS)"),
        match (first, owner(&path)) {
            (true, Err(_)) => Ok(None),
            (_, found) => found.map(Some).map_err(|e| explain_owner(&e)),
        },
    );
    ProcessNamespace {
        kind: kind.name().into(),
        id,
        relation,
        isolates: kind.isolates().into(),
        processes,
        owner,
    }
}

/// EPERM of these ioctls means one thing only: the answer lies above the reader's own namespace.
pub(super) fn explain_owner(e: &sys::SysError) -> String {
    match e.errno {
        sys::Errno::EPERM => "it lies outside of the reader's own user namespace".into(),
        _ => e.to_string(),
    }
}

/// Compared with the namespace of PID 1; a reader who may not see that compares with the kernel's
/// fixed numbers of the initial namespaces, then with its own.
pub(super) fn relation(kind: Kind, id: Option<u64>) -> Fact<String> {
    let host = format!("/proc/1/ns/{}", kind.name());
    let own = format!("/proc/self/ns/{}", kind.name());
    let Some(id) = id else {
        return Fact::unread(host, "the process's own could not be read");
    };
    let word = |same: bool| if same { "host" } else { "own" }.to_string();
    match namespace_id(&host) {
        Ok(of_host) => Fact::new(format!("readlink({host})"), word(id == of_host)),
        Err(why) => match (initial_id(kind), namespace_id(&own)) {
            (Some(first), _) => Fact::new(
                "the kernel's number of the initial namespace",
                word(id == first),
            ),
            (None, Ok(mine)) if mine == id => Fact::new(
                format!("readlink({own}): the reader's own"),
                "reader".to_string(),
            ),
            _ => Fact::unread(format!("readlink({host})"), why),
        },
    }
}

/// The inode numbers that the kernel gives its initial namespaces (include/linux/proc_ns.h).
fn initial_id(kind: Kind) -> Option<u64> {
    let own = |n: u64| {
        let path = format!("/proc/self/ns/{}", kind.name());
        (namespace_id(&path) == Ok(n)).then_some(n)
    };
    Some(match kind {
        Kind::Ipc => 0xEFFF_FFFF,
        Kind::Uts => 0xEFFF_FFFE,
        Kind::User => 0xEFFF_FFFD,
        Kind::Pid => 0xEFFF_FFFC,
        Kind::Cgroup => 0xEFFF_FFFB,
        Kind::Time => 0xEFFF_FFFA,
        // Before Linux 6.17 these two got the next free number at boot; that the reader's own has
        // the new fixed one shows that this kernel uses them.
        Kind::Net => own(0xEFFF_FFF9)?,
        Kind::Mnt => own(0xEFFF_FFF8)?,
    })
}

/// The inode number of the user namespace that owns the namespace behind a file.
pub(super) fn owner(path: &str) -> sys::SysResult<u64> {
    let fd = sys::namespace::open_ns(path)?;
    let owner = sys::namespace::ns_get_fd(&fd, sys::namespace::NS_GET_USERNS)?;
    sys::ask::inode(&owner)
}

/// The signal sets. PID 1 of a pid namespace is spared every signal that it has no handler for
/// when the sender is in the same namespace, and from outside every one but SIGKILL and SIGSTOP
/// (pid_namespaces(7)): such a container stops only when its timeout is over.
fn signals(status: &Status, path: &str) -> Signals {
    let of = |key: &str| Fact::of(format!("{path}: {key}"), status.bits(key));
    let names = |bits: &u64| -> Vec<String> {
        let set = (1..=64).filter(|n| bits & (1 << (n - 1)) != 0);
        set.map(crate::security::signals::name).collect()
    };
    let bit = 1u64 << (libc::SIGTERM - 1);
    let is_init = status
        .numbers("NSpid")
        .is_ok_and(|ids| ids.len() > 1 && ids.last() == Some(&1));
    let ends = match (
        status.bits("SigCgt"),
        status.bits("SigIgn"),
        status.bits("SigBlk"),
    ) {
        (Ok(caught), Ok(ignored), Ok(blocked)) => {
            Ok(caught & bit != 0 || (!is_init && (ignored | blocked) & bit == 0))
        }
        (caught, ignored, blocked) => Err([caught.err(), ignored.err(), blocked.err()]
            .into_iter()
            .flatten()
            .collect()),
    };
    let ends: Result<bool, String> = ends;
    Signals {
        caught: of("SigCgt").map(names),
        ignored: of("SigIgn").map(names),
        blocked: of("SigBlk").map(names),
        answers_sigterm: Fact::of(format!("{path}: SigCgt, SigIgn, SigBlk, NSpid"), ends),
    }
}

fn lsm_label(pid: u32) -> Fact<String> {
    let path = format!("/proc/{pid}/attr/current");
    let label = read(&path).map(|t| t.trim_end_matches(['\0', '\n']).to_string());
    let label = label.map_err(|e| match e.starts_with("EINVAL") {
        true => "EINVAL: no security module of this kernel labels processes".into(),
        false => e,
    });
    Fact::of(path, label)
}

fn network(pid: u32) -> Network {
    let dev = format!("/proc/{pid}/net/dev");
    let mut all = Vec::new();
    let mut failed = None;
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        match read(&format!("/proc/{pid}/net/{protocol}")) {
            Ok(text) => all.extend(proc_text::listening(protocol, &text)),
            // A kernel without IPv6 has no such file.
            Err(e) if e.starts_with("ENOENT") => {}
            Err(e) => failed = Some(e),
        }
    }
    let source = format!("/proc/{pid}/net/{{tcp,tcp6,udp,udp6}}");
    Network {
        interfaces: Fact::of(dev.clone(), read(&dev).map(|t| proc_text::interfaces(&t))),
        listening: Fact::of(source, failed.map_or(Ok(all), Err)),
    }
}

fn processes(pid: u32, all: &[tree::Seen]) -> Fact<Vec<TreeProcess>> {
    let source = "/proc/*/status: NSpid, PPid; readlink(/proc/*/ns/pid)";
    let own = all
        .iter()
        .find(|s| s.pid == pid)
        .and_then(|s| s.namespaces.get("pid"));
    let host = namespace_id("/proc/1/ns/pid")
        .ok()
        .or(initial_id(Kind::Pid));
    match own {
        Some(id) if Some(*id) != host => {
            Fact::new(source, tree::tree_of_namespace(all, "pid", *id, pid))
        }
        _ => Fact::new(source, tree::subtree(all, pid)),
    }
}
