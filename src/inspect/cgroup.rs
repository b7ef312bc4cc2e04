//! A process's cgroups: where it is in each hierarchy, limits, use, and what really applies.
//!
//! What it implements: cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1.
//! Interface: [`of_process`], [`devices`]. Read next: [`crate::cgroups`].

use super::fact::Fact;
use super::model::{Cgroup, CgroupMembership, Devices};
use super::process::read;
use crate::host::cgroup_layout::{CgroupLayout, LayoutKind, parse_proc_cgroup};

/// The layout in a word.
pub(super) fn layout_word(kind: LayoutKind) -> String {
    match kind {
        LayoutKind::Unified => "unified",
        LayoutKind::Legacy => "legacy",
        LayoutKind::Hybrid => "hybrid",
        LayoutKind::None => "none",
    }
    .to_string()
}

/// The groups of a process.
pub fn of_process(pid: u32) -> Cgroup {
    let path = format!("/proc/{pid}/cgroup");
    let layout = CgroupLayout::detect().map_err(|e| format!("{e:#}"));
    let text = read(&path);
    let groups = text.and_then(|text| {
        let layout = layout.as_ref().map_err(Clone::clone)?;
        Ok::<_, String>(memberships(layout, &text))
    });
    let later = "not read yet";
    Cgroup {
        layout: Fact::of(
            "/proc/self/mountinfo",
            layout
                .as_ref()
                .map(|l| layout_word(l.kind))
                .map_err(Clone::clone),
        ),
        groups: Fact::of(format!("{path}, /proc/self/mountinfo"), groups),
        limits: Fact::unread("", later),
        usage: Fact::unread("", later),
        events: Fact::unread("", later),
        processes: None,
    }
}

fn memberships(layout: &CgroupLayout, text: &str) -> Vec<CgroupMembership> {
    parse_proc_cgroup(text)
        .into_iter()
        .map(|m| {
            let v2 = m.controllers.is_empty();
            let tree = layout
                .hierarchies
                .iter()
                .find(|h| h.v2 == v2 && (v2 || h.controllers == m.controllers));
            CgroupMembership {
                hierarchy: if v2 {
                    "cgroup2".into()
                } else {
                    m.controllers.join(",")
                },
                directory: tree
                    .and_then(|t| t.dir(&m.path))
                    .map(|d| d.to_string_lossy().into_owned()),
                path: m.path,
            }
        })
        .collect()
}

/// The device rules.
pub fn devices(_pid: u32) -> Devices {
    Devices {
        rules: Fact::unread("", "not read yet"),
    }
}

/// Finds a group by its directory, or by its path as /proc/PID/cgroup shows it.
pub fn find(target: &str) -> Option<std::path::PathBuf> {
    let layout = CgroupLayout::detect().ok()?;
    let dir = std::path::Path::new(target);
    let real = dir.canonicalize().ok();
    let below = |d: &std::path::Path| layout.hierarchies.iter().any(|h| d.starts_with(&h.mount));
    if let Some(real) = real
        && below(&real)
        && real.join("cgroup.procs").exists()
    {
        return Some(real);
    }
    layout
        .hierarchies
        .iter()
        .filter_map(|h| h.dir(target))
        .find(|d| d.join("cgroup.procs").exists())
}

/// A cgroup alone.
pub fn of_path(target: &str) -> crate::error::Result<Cgroup> {
    find(target).ok_or_else(|| {
        crate::error::Error::kind(
            crate::error::Kind::NotFound,
            format!("no cgroup has the path {target:?}"),
        )
    })?;
    Ok(of_process(std::process::id()))
}
