//! A process as text, from what it runs as to what holds it.
//!
//! Read next: `host.rs`.

use super::super::fact::Fact;
use super::super::model::*;
use super::{Lines, bytes, draw_tree, one_line};

/// Draws every section.
pub(super) fn draw(p: &Process, lines: &mut Lines) {
    let command = match p.command.get() {
        Some(list) if !list.is_empty() => one_line(&list.join(" "), 100),
        _ => format!("[{}]", p.name.get().map_or("?", String::as_str)),
    };
    lines.title(format!("process {}  {command}", p.pid));
    identity(p, lines);
    lines.section("namespaces");
    namespaces(p, lines);
    id_maps(&p.id_maps, lines);
    lines.section("mounts");
    mounts(&p.mounts, lines);
    lines.section("cgroup");
    cgroup(&p.cgroup, lines);
    lines.section("privileges");
    privileges(p, lines);
    lines.section("limits");
    rlimits(&p.rlimits, lines);
    lines.section("network");
    network(&p.network, lines);
    lines.section("processes");
    match p.processes.get() {
        Some(list) => draw_tree(list, lines),
        None => lines.fact("tree", &p.processes, |_| String::new()),
    }
    lines.source(&p.processes);
}

fn identity(p: &Process, lines: &mut Lines) {
    lines.fact("keeper", &p.keeper, |k| match k {
        Some(k) => format!("{} {}  ({})", k.name, k.id, k.evidence),
        None => "no container engine or service that its cgroup would name".into(),
    });
    lines.fact("program", &p.executable, Clone::clone);
    lines.fact("state", &p.state, |state| {
        let threads = p.threads.get().copied().unwrap_or(1);
        match threads {
            1 => state.clone(),
            n => format!("{state}, {n} threads"),
        }
    });
    lines.fact("started", &p.started, Clone::clone);
    lines.fact("parent", &p.parent, u32::to_string);
    let inside = |id: Option<u32>| id.map_or("unmapped".into(), |id| id.to_string());
    let ids = |set: &Vec<u32>, within: Option<u32>| {
        let effective = set.get(1).copied().unwrap_or(0);
        let mut text = effective.to_string();
        if within != Some(effective) {
            text += &format!(" (inside: {})", inside(within));
        }
        if set.iter().any(|id| *id != effective) {
            text += &format!("; real, effective, saved, file system: {set:?}");
        }
        text
    };
    lines.fact("uid", &p.user.uid, |set| ids(set, p.user.uid_inside));
    lines.fact("gid", &p.user.gid, |set| ids(set, p.user.gid_inside));
    lines.fact("groups", &p.user.groups, |g| match g.len() {
        0 => "none".into(),
        _ => g.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
    });
    lines.fact("root", &p.root, Clone::clone);
    lines.fact("cwd", &p.cwd, Clone::clone);
}

fn namespaces(p: &Process, lines: &mut Lines) {
    let show = |n: &ProcessNamespace| {
        let relation = match (n.relation.get().map(String::as_str), n.relation.why()) {
            (Some("host"), _) => "the host's".to_string(),
            (Some("own"), _) => "its own".to_string(),
            (Some("reader"), _) => "the reader's".to_string(),
            (_, why) => format!("not compared: {}", why.unwrap_or("unknown")),
        };
        let id = n.id.get().map_or_else(
            || format!("unread: {}", n.id.why().unwrap_or_default()),
            u64::to_string,
        );
        let of = |f: &Fact<u32>| f.get().map_or("-".to_string(), u32::to_string);
        let owner = n
            .owner
            .get()
            .copied()
            .flatten()
            .map_or("-".to_string(), |id| id.to_string());
        vec![
            n.kind.clone(),
            id,
            relation,
            of(&n.processes),
            owner,
            n.isolates.clone(),
        ]
    };
    let rows = p.namespaces.iter().map(show).collect();
    let headings = ["type", "id", "whose", "processes", "owner", "isolates"];
    lines.table(&headings, rows);
    for n in &p.namespaces {
        lines.source(&n.id);
        if let Some(why) = n.owner.why().filter(|_| n.id.get().is_some()) {
            lines.row(&format!("owner of {}", n.kind), format!("unread: {why}"));
        }
    }
}

fn id_maps(maps: &IdMaps, lines: &mut Lines) {
    let words = |ranges: &Vec<IdRange>| match ranges.len() {
        0 => "none yet: every id is the overflow id".to_string(),
        _ => {
            let list: Vec<&str> = ranges.iter().map(|r| r.words.as_str()).collect();
            list.join("\n")
        }
    };
    lines.fact("uid map", &maps.uid, words);
    lines.fact("gid map", &maps.gid, words);
    lines.fact("setgroups", &maps.setgroups, Clone::clone);
}

fn mounts(fact: &Fact<Vec<Mount>>, lines: &mut Lines) {
    let Some(list) = fact.get() else {
        return lines.fact("mounts", fact, |_| String::new());
    };
    let rows = list
        .iter()
        .map(|m| {
            let mut what = m.source.clone().unwrap_or_default();
            if m.root != "/" {
                what += &format!("[{}]", m.root);
            }
            let peers = match (m.peer_group, m.master) {
                (Some(a), Some(b)) => format!(" {a} of {b}"),
                (Some(n), None) | (None, Some(n)) => format!(" {n}"),
                (None, None) => String::new(),
            };
            let access = if m.read_only { "ro" } else { "rw" };
            let flags: Vec<&str> = [access]
                .into_iter()
                .chain(
                    m.flags
                        .iter()
                        .map(String::as_str)
                        .filter(|f| *f != "ro" && *f != "relatime"),
                )
                .collect();
            vec![
                m.point.clone(),
                m.fs_type.clone(),
                one_line(&what, 40),
                flags.join(","),
                format!("{}{peers}", m.propagation),
            ]
        })
        .collect();
    lines.table(&["point", "type", "what", "flags", "propagation"], rows);
    lines.source(fact);
    for m in list {
        if !m.uid_map.is_empty() {
            lines.row(
                "id-mapped",
                format!("{}: {}", m.point, m.uid_map.join(", ")),
            );
        }
        if let Some(overlay) = &m.overlay {
            overlay_of(&m.point, overlay, lines);
        }
    }
}

fn overlay_of(point: &str, overlay: &Overlay, lines: &mut Lines) {
    lines.row(
        "overlay",
        match overlay.lower.len() {
            1 => format!("{point}, 1 lower layer"),
            n => format!("{point}, {n} lower layers"),
        },
    );
    lines.row(
        "  upper",
        overlay.upper.as_deref().unwrap_or("none: read-only"),
    );
    for layer in &overlay.lower {
        let mut text = layer.path.clone();
        if let Some(store) = &layer.store {
            text += &format!("  ({store})");
        }
        if let Some(chain) = &layer.chain_id {
            text += &format!("\n  chain {chain}");
        }
        if !layer.images.is_empty() {
            text += &format!("\n  in {}", layer.images.join(", "));
        }
        lines.row("  lower", text);
    }
}

/// A cgroup, of a process or alone.
pub(super) fn cgroup(c: &Cgroup, lines: &mut Lines) {
    lines.fact("layout", &c.layout, |l| match l.as_str() {
        "unified" => "unified: one v2 tree".into(),
        "legacy" => "legacy: v1 trees".into(),
        "hybrid" => "hybrid: v1 trees, and a v2 tree beside them".into(),
        other => other.to_string(),
    });
    match c.groups.get() {
        Some(groups) => {
            // One line a path: most hierarchies agree.
            let mut by_path: Vec<(&str, Vec<&str>)> = Vec::new();
            for g in groups {
                match by_path.iter_mut().find(|(path, _)| *path == g.path) {
                    Some((_, names)) => names.push(&g.hierarchy),
                    None => by_path.push((&g.path, vec![&g.hierarchy])),
                }
            }
            for (path, names) in by_path {
                lines.row("group", format!("{path}  ({})", names.join(" ")));
            }
            lines.source(&c.groups);
        }
        None => lines.fact("group", &c.groups, |_| String::new()),
    }
    match c.limits.get() {
        Some(limits) if limits.iter().any(|l| l.limited) => {
            let groups = c.groups.get().map(Vec::as_slice).unwrap_or_default();
            let set: Vec<&CgroupLimit> = limits.iter().filter(|l| l.limited).collect();
            let rows = set.iter().map(|l| limit(l, groups)).collect();
            lines.table(&["limit", "used", "here", "applies", "set by"], rows);
            if lines.look.why {
                for l in set {
                    lines.row(&l.name, &l.file);
                }
            }
            lines.source(&c.limits);
        }
        _ => lines.fact("limits", &c.limits, |_| "none, here or above".into()),
    }
    lines.fact("usage", &c.usage, |u| pairs(u, true));
    lines.fact("events", &c.events, |e| pairs(e, false));
    if c.memory_limit_hit.get().is_none_or(|list| !list.is_empty()) {
        lines.fact("memory limit", &c.memory_limit_hit, |list| {
            let words = list.iter().map(|h| {
                let hit = match (h.hit, h.reached) {
                    (0, false) => String::new(),
                    (0, true) => ", its limit was reached".into(),
                    (1, _) => ", its limit was hit once".into(),
                    (n, _) => format!(", its limit was hit {n} times"),
                };
                match h.killed {
                    0 => format!("{}{hit}", h.group),
                    1 => format!(
                        "{}{hit}, one of its processes was killed for want of memory",
                        h.group
                    ),
                    n => format!(
                        "{}{hit}, {n} of its processes were killed for want of memory",
                        h.group
                    ),
                }
            });
            words.collect::<Vec<_>>().join("\n")
        });
    }
    if c.frozen.get() == Some(&true) {
        lines.fact("frozen", &c.frozen, |_| {
            "yes: its processes do not run".into()
        });
    }
    lines.fact("pressure", &c.pressure, |list| {
        let words: Vec<String> = list
            .iter()
            .map(|p| {
                let some = p.some_avg10.unwrap_or(0.0);
                let full = p.full_avg10.unwrap_or(0.0);
                format!("{} some {some}% full {full}%", p.resource)
            })
            .collect();
        format!("{} (last 10 s)", words.join(", "))
    });
    if let Some(pids) = &c.processes {
        let list: Vec<String> = pids.iter().map(u32::to_string).collect();
        let text = if list.is_empty() {
            "none".into()
        } else {
            list.join(" ")
        };
        lines.row("processes", text);
    }
}

/// What is not zero, as words; memory in bytes, processor time in seconds.
fn pairs(map: &std::collections::BTreeMap<String, u64>, units: bool) -> String {
    let list: Vec<String> = map
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(key, n)| match key.strip_suffix("_usec") {
            Some(key) => format!("{key} {:.3} s", *n as f64 / 1e6),
            None if units && !key.starts_with("pids") => format!("{key} {}", bytes(*n as f64)),
            None => format!("{key} {n}"),
        })
        .collect();
    match list.len() {
        0 => "none".to_string(),
        _ => list.join(", "),
    }
}

fn limit(l: &CgroupLimit, groups: &[CgroupMembership]) -> Vec<String> {
    let show = |text: &str| match (l.name.as_str(), text.parse::<u64>()) {
        (name, Ok(n)) if name.starts_with("memory") || name.starts_with("hugetlb") => {
            bytes(n as f64)
        }
        ("cpu.max", _) => processors(text),
        _ => text.to_string(),
    };
    vec![
        l.name.clone(),
        l.used.map_or("-".into(), |n| show(&n.to_string())),
        l.own.as_deref().map_or("-".into(), show),
        show(&l.effective),
        match &l.set_by {
            Some(group) if groups.iter().any(|g| g.path == *group) => "this group".into(),
            Some(group) => group.clone(),
            None => "-".into(),
        },
    ]
}

/// `50000 100000` (microseconds in each period) as `0.5 processors`.
fn processors(text: &str) -> String {
    let mut words = text.split(' ').map(str::parse::<f64>);
    match (words.next(), words.next()) {
        (Some(Ok(quota)), Some(Ok(period))) if period > 0.0 => {
            format!("{} processors", quota / period)
        }
        _ => "max".into(),
    }
}

fn privileges(p: &Process, lines: &mut Lines) {
    let c = &p.capabilities;
    let own_user = p
        .namespaces
        .iter()
        .any(|n| n.kind == "user" && n.relation.get().is_some_and(|r| r == "own"));
    lines.fact("capabilities", &c.words, |words| {
        match own_user && !words.starts_with("none") {
            true => format!("{words}; over its own user namespace only"),
            false => words.clone(),
        }
    });
    let set = |s: &CapabilitySet| match (s.all, s.names.len()) {
        (true, n) => format!("all {n}"),
        (false, 0) => "none".into(),
        (false, n) if n > 24 => format!("{n} ({})", s.hex),
        (false, n) => {
            let short: Vec<&str> = s
                .names
                .iter()
                .map(|name| name.trim_start_matches("CAP_"))
                .collect();
            format!("{n}: {}", short.join(" "))
        }
    };
    for (key, fact) in [
        ("  effective", &c.effective),
        ("  permitted", &c.permitted),
        ("  inheritable", &c.inheritable),
        ("  bounding", &c.bounding),
        ("  ambient", &c.ambient),
    ] {
        lines.fact(key, fact, set);
    }
    let none = |fact: &Fact<CapabilitySet>| fact.get().is_some_and(|s| s.names.is_empty());
    if none(&c.permitted) && !none(&c.bounding) && none(&c.ambient) {
        lines.row(
            "",
            "the bounding set gives a user who is not root nothing without ambient capabilities: \
             --cap-add has no effect for it",
        );
    }
    lines.fact("no_new_privs", &p.no_new_privs, |set| match set {
        true => "yes: execve gives no more privileges".into(),
        false => "no: set-user-id programs work".into(),
    });
    let filters = p.seccomp.filters.get().copied();
    lines.fact("seccomp", &p.seccomp.mode, |mode| {
        match (mode.as_str(), filters) {
            ("filter", Some(1)) => "1 filter".into(),
            ("filter", Some(n)) => format!("{n} filters, the strictest answer counts"),
            ("disabled", _) => "disabled: every system call is allowed".into(),
            (other, _) => other.to_string(),
        }
    });
    match p.seccomp.verdicts.get() {
        Some(list) => {
            for v in list {
                let names = match v.calls.is_empty() {
                    true => String::new(),
                    false => format!(": {}", one_line(&v.calls.join(" "), 100)),
                };
                lines.row(
                    &format!("  {}", v.action),
                    format!("{} calls{names}", v.count),
                );
            }
        }
        None => lines.fact("  answers", &p.seccomp.verdicts, |_| String::new()),
    }
    lines.fact("SIGTERM", &p.signals.answers_sigterm, |answers| {
        let is_init = p.processes.get().is_some_and(|list| {
            list.iter()
                .any(|t| t.target && t.inside.len() > 1 && t.inside.last() == Some(&1))
        });
        match (answers, is_init) {
            (true, _) => "ends it, or reaches its handler".into(),
            (false, true) => "does nothing: PID 1 without a handler. Stopping it takes the whole \
                              timeout; --init or an exec form that handles it helps"
                .into(),
            (false, false) => "does nothing: ignored or blocked".into(),
        }
    });
    lines.fact("LSM label", &p.lsm_label, Clone::clone);
    match p.devices.rules.get() {
        Some(rules) => lines.fact("devices", &p.devices.rules, |_| rules.join("\n")),
        None => lines.fact("devices", &p.devices.rules, |_| String::new()),
    }
    lines.fact("oom score", &p.oom.score, |n| match p.oom.score_adj.get() {
        Some(adj) => format!("{n}, of which {adj} were set"),
        None => n.to_string(),
    });
}

fn rlimits(fact: &Fact<Vec<Rlimit>>, lines: &mut Lines) {
    let Some(list) = fact.get() else {
        return lines.fact("rlimits", fact, |_| String::new());
    };
    let show = |n: Option<u64>, unit: &str| match (n, unit) {
        (None, _) => "no limit".to_string(),
        (Some(n), "bytes") => bytes(n as f64),
        (Some(n), _) => n.to_string(),
    };
    let (set, free): (Vec<&Rlimit>, Vec<&Rlimit>) = list
        .iter()
        .partition(|l| l.soft.is_some() || l.hard.is_some());
    let rows = set
        .iter()
        .map(|l| vec![l.name.clone(), show(l.soft, &l.unit), show(l.hard, &l.unit)])
        .collect();
    lines.table(&["resource", "soft", "hard"], rows);
    let names: Vec<&str> = free
        .iter()
        .map(|l| l.name.trim_start_matches("RLIMIT_"))
        .collect();
    lines.row("no limit on", names.join(" "));
    lines.source(fact);
}

fn network(n: &Network, lines: &mut Lines) {
    lines.fact("interfaces", &n.interfaces, |list| {
        let names: Vec<String> = list
            .iter()
            .map(|i| {
                format!(
                    "{} ({} in, {} out)",
                    i.name,
                    bytes(i.received as f64),
                    bytes(i.sent as f64)
                )
            })
            .collect();
        match names.len() {
            0 => "none".into(),
            _ => names.join(", "),
        }
    });
    lines.fact("listening", &n.listening, |list| {
        let sockets: Vec<String> = list
            .iter()
            .map(|l| match l.protocol.ends_with('6') {
                true => format!("{} [{}]:{}", l.protocol, l.address, l.port),
                false => format!("{} {}:{}", l.protocol, l.address, l.port),
            })
            .collect();
        match sockets.len() {
            0 => "nothing".into(),
            _ => sockets.join("\n"),
        }
    });
}
