//! The mounts of a process's mount namespace, without entering it.
//!
//! What it does: asks listmount(2) and statmount(2), which name a foreign namespace by its id and
//! give options whole and id maps of mounts; where the kernel or the user may not, it parses
//! /proc/PID/mountinfo, and the source of the fact says which it was.
//! What it implements: statmount(2), proc_pid_mountinfo(5), mount_namespaces(7) (propagation),
//! the kernel's filesystems/overlayfs.rst.
//! Interface: [`mounts`], [`parse_mountinfo`]. Read next: `overlay.rs`.

use super::fact::Fact;
use super::model::Mount;
use crate::sys::statmount::{StatMount, listmount, mnt_ns_id, statmount};
use crate::sys::{SysResult, namespace::open_ns};

/// `MOUNT_ATTR_*` of mount_setattr(2), by the words of /proc/PID/mountinfo.
const ATTRIBUTES: &[(u64, &str)] = &[
    (libc::MOUNT_ATTR_RDONLY, "ro"),
    (libc::MOUNT_ATTR_NOSUID, "nosuid"),
    (libc::MOUNT_ATTR_NODEV, "nodev"),
    (libc::MOUNT_ATTR_NOEXEC, "noexec"),
    (libc::MOUNT_ATTR_NOATIME, "noatime"),
    (libc::MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (libc::MOUNT_ATTR_IDMAP, "idmapped"),
    (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
];

/// All mounts of the process's namespace, each after its parent.
pub fn mounts(pid: u32) -> Fact<Vec<Mount>> {
    let mut fact = match by_statmount(pid) {
        Ok(list) => Fact::new(
            "listmount(2), statmount(2), ioctl(NS_GET_MNTNS_ID)",
            list.iter().map(from_statmount).collect(),
        ),
        Err(statmount_failed) => {
            let path = format!("/proc/{pid}/mountinfo");
            match std::fs::read_to_string(&path) {
                Ok(text) => Fact::new(path, parse_mountinfo(&text)),
                Err(e) => Fact::unread(path, format!("{}; {statmount_failed}", words(&e))),
            }
        }
    };
    fact = fact.map(|list: &Vec<Mount>| in_order(list.clone()));
    fact
}

fn words(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(raw) => crate::sys::describe_errno(crate::sys::Errno::from_raw(raw)),
        None => e.to_string(),
    }
}

fn by_statmount(pid: u32) -> SysResult<Vec<StatMount>> {
    let namespace = mnt_ns_id(open_ns(format!("/proc/{pid}/ns/mnt"))?)?;
    let ids = listmount(namespace)?;
    // A mount that goes away in between is no error.
    let all = ids.into_iter().map(|id| statmount(namespace, id));
    Ok(all.filter_map(Result::ok).collect())
}

fn from_statmount(m: &StatMount) -> Mount {
    let mut flags: Vec<String> = ATTRIBUTES
        .iter()
        .filter(|(bit, _)| m.attributes & bit != 0)
        .map(|(_, name)| (*name).to_string())
        .collect();
    let explicit = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;
    if m.attributes & explicit == 0 {
        flags.push("relatime".into());
    }
    let shared = (m.propagation & libc::MS_SHARED != 0).then_some(m.peer_group);
    let master = (m.propagation & libc::MS_SLAVE != 0).then_some(m.master);
    let unbindable = m.propagation & libc::MS_UNBINDABLE != 0;
    Mount {
        id: m.old_id.into(),
        parent: m.old_parent.into(),
        point: m.point.clone(),
        fs_type: m.fs_type.clone(),
        source: m.source.clone(),
        root: m.root.clone(),
        device: format!("{}:{}", m.device.0, m.device.1),
        read_only: m.attributes & libc::MOUNT_ATTR_RDONLY != 0 || m.sb_flags & 1 != 0,
        flags,
        propagation: propagation(shared, master, unbindable),
        peer_group: shared,
        master,
        overlay: (m.fs_type == "overlay").then(|| super::overlay::overlay(&m.options)),
        options: m.options.clone(),
        uid_map: m.uid_map.clone(),
        gid_map: m.gid_map.clone(),
    }
}

fn propagation(shared: Option<u64>, master: Option<u64>, unbindable: bool) -> String {
    match (shared, master) {
        (Some(_), Some(_)) => "shared and slave",
        (Some(_), None) => "shared",
        (None, Some(_)) => "slave",
        (None, None) if unbindable => "unbindable",
        (None, None) => "private",
    }
    .to_string()
}

/// /proc/PID/mountinfo: `id parent major:minor root point flags [optional…] - type source options`.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let mut next = || fields.next();
    let (id, parent) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let (device, root, point) = (next()?.to_string(), unescape(next()?), unescape(next()?));
    let flags: Vec<String> = next()?.split(',').map(str::to_string).collect();
    let optional: Vec<&str> = fields.collect();
    let number = |key: &str| {
        optional
            .iter()
            .find_map(|o| o.strip_prefix(key)?.parse().ok())
    };
    let (shared, master) = (number("shared:"), number("master:"));
    let mut after = after.split(' ');
    let (fs_type, source) = (after.next()?.to_string(), unescape(after.next()?));
    let options: Vec<String> = after
        .next()
        .map(|o| split_options(o).iter().map(|o| unescape(o)).collect())
        .unwrap_or_default();
    Some(Mount {
        id,
        parent,
        point,
        source: Some(source),
        root,
        device,
        read_only: flags.iter().chain(&options).any(|f| f == "ro"),
        propagation: propagation(shared, master, optional.contains(&"unbindable")),
        peer_group: shared,
        master,
        overlay: (fs_type == "overlay").then(|| super::overlay::overlay(&options)),
        fs_type,
        flags: flags.into_iter().filter(|f| f != "rw").collect(),
        options: options.into_iter().filter(|o| o != "rw").collect(),
        uid_map: Vec::new(),
        gid_map: Vec::new(),
    })
}

/// Splits at commas that no backslash escapes (overlay escapes commas in paths).
fn split_options(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

/// The kernel writes space, tab, newline and backslash as `\040`, `\011`, `\012`, `\134`.
pub fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parents before children, siblings by id; roots (whose parent is not listed) first.
fn in_order(list: Vec<Mount>) -> Vec<Mount> {
    let mut done: Vec<Mount> = Vec::with_capacity(list.len());
    let known: std::collections::BTreeSet<u64> = list.iter().map(|m| m.id).collect();
    let mut waiting = list;
    waiting.sort_by_key(|m| m.id);
    let is_root = |m: &Mount| m.parent == m.id || !known.contains(&m.parent);
    let roots: Vec<Mount> = waiting.extract_if(.., |m| is_root(m)).collect();
    for root in roots {
        push_below(root, &mut waiting, &mut done);
    }
    done.append(&mut waiting);
    done
}

fn push_below(mount: Mount, waiting: &mut Vec<Mount>, done: &mut Vec<Mount>) {
    let id = mount.id;
    done.push(mount);
    let children: Vec<Mount> = waiting.extract_if(.., |m| m.parent == id).collect();
    for child in children {
        push_below(child, waiting, done);
    }
}

/// A hand-made overlay, for tests of the views.
#[cfg(test)]
pub(super) fn example() -> (Vec<Mount>, super::model::Overlay) {
    let text = "30 29 0:40 / / rw,relatime master:5 - overlay overlay \
                rw,lowerdir=/l/b:/l/a,upperdir=/u,workdir=/w\n\
                31 30 0:41 / /proc rw,nosuid - proc proc rw\n";
    let list = parse_mountinfo(text);
    let overlay = list[0].overlay.clone().expect("an overlay");
    (list, overlay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let (list, overlay) = example();
        assert_eq!(list[0].propagation, "slave");
        assert_eq!(list[0].master, Some(5));
        assert_eq!(list[0].flags, ["relatime"]);
        assert!(!list[0].read_only);
        let lower: Vec<&str> = overlay.lower.iter().map(|l| l.path.as_str()).collect();
        assert_eq!(lower, ["/l/b", "/l/a"]);
        assert_eq!(overlay.upper.as_deref(), Some("/u"));
        let odd = r"1 1 8:1 /a\040b /mnt\134x ro shared:7 master:8 - ext4 /dev/sd\011a rw,errors=continue";
        let odd = &parse_mountinfo(odd)[0];
        assert_eq!((odd.root.as_str(), odd.point.as_str()), ("/a b", r"/mnt\x"));
        assert_eq!(
            (odd.propagation.as_str(), odd.read_only),
            ("shared and slave", true)
        );
        assert_eq!(odd.options, ["errors=continue"]);
        assert!(parse_mountinfo("garbage\n\n").is_empty());
    }

    #[test]
    fn parents_come_first() {
        let text = "5 4 0:1 / /b rw - tmpfs t rw\n4 3 0:1 / /a rw - tmpfs t rw\n3 3 0:1 / / rw - tmpfs t rw\n";
        let ids: Vec<u64> = in_order(parse_mountinfo(text))
            .iter()
            .map(|m| m.id)
            .collect();
        assert_eq!(ids, [3, 4, 5]);
    }

    #[test]
    fn both_sources_agree_on_this_process() {
        let pid = std::process::id();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let slow = in_order(parse_mountinfo(&text));
        let Ok(list) = by_statmount(pid) else {
            return println!("SKIPPED: no statmount for this user on this kernel");
        };
        let quick: Vec<Mount> = list.iter().map(from_statmount).collect();
        for mount in &slow {
            let Some(other) = quick.iter().find(|m| m.id == mount.id) else {
                continue; // made or removed meanwhile by another test
            };
            assert_eq!(other.point, mount.point);
            assert_eq!(other.fs_type, mount.fs_type);
            assert_eq!(other.device, mount.device);
            assert_eq!(other.read_only, mount.read_only, "{mount:?}");
            assert_eq!(other.propagation, mount.propagation);
        }
    }
}
