//! The host as text: one line an ability, with its reason and remedy where it is missing.

use super::super::model::{Host, HostAbility};
use super::{Lines, bytes};
use crate::ui::Style;

/// Draws it.
pub(super) fn draw(h: &Host, lines: &mut Lines) {
    lines.title("host");
    lines.fact("kernel", &h.kernel, |k| {
        format!("Linux {k}, {}", h.architecture)
    });
    lines.fact("distribution", &h.distribution, Clone::clone);
    lines.fact("processors", &h.processors, u32::to_string);
    lines.fact("memory", &h.memory, |n| match h.swap.get() {
        Some(0) => format!("{}, no swap", bytes(*n as f64)),
        Some(swap) => format!("{}, swap {}", bytes(*n as f64), bytes(*swap as f64)),
        None => bytes(*n as f64),
    });
    lines.fact("LSM", &h.lsm, |l| l.join(" "));
    let within = match h.user.in_user_namespace.get() {
        Some(true) => ", inside a user namespace",
        _ => "",
    };
    lines.row(
        "user",
        format!("uid {}, gid {}{within}", h.user.uid, h.user.gid),
    );
    lines.fact("capabilities", &h.user.capabilities, |have| {
        match h.user.missing_capabilities.get().map(Vec::as_slice) {
            Some([]) => format!("all {}", have.len()),
            Some(missing) if missing.len() <= 6 => {
                format!("{}; missing: {}", have.len(), missing.join(" "))
            }
            _ if have.is_empty() => "none".into(),
            _ => format!("{}: {}", have.len(), have.join(" ")),
        }
    });
    if let Some(trees) = h.cgroups.get() {
        lines.section("cgroup trees");
        let rows = trees
            .iter()
            .map(|t| {
                let controllers = match t.controllers.is_empty() {
                    true => "-".to_string(),
                    false => t.controllers.join(" "),
                };
                let delegated = if t.delegated { "yes" } else { "no" };
                vec![
                    format!("v{}", t.version),
                    controllers,
                    t.mount.clone(),
                    t.own.clone(),
                    delegated.into(),
                ]
            })
            .collect();
        lines.table(&["", "controllers", "mount", "own group", "writable"], rows);
        lines.source(&h.cgroups);
    }
    let mut group = "";
    for ability in &h.abilities {
        if ability.group != group {
            group = &ability.group;
            lines.section(group);
        }
        let of_group = h.abilities.iter().filter(|a| a.group == group);
        let width = of_group.map(|a| a.name.chars().count()).max().unwrap_or(0);
        draw_ability(ability, width, lines);
    }
    let count = |works| {
        h.abilities
            .iter()
            .filter(|a| a.works.get() == Some(&works))
            .count()
    };
    lines.line("");
    lines.line(format!(
        "{} abilities, {} missing",
        count(true),
        count(false)
    ));
}

fn draw_ability(a: &HostAbility, width: usize, lines: &mut Lines) {
    let works = a.works.get() == Some(&true);
    let mark = match works {
        true => lines.style("yes", Style::Good),
        false => lines.style("no ", Style::Bad),
    };
    let mut text = a.detail.clone().unwrap_or_else(|| match works {
        true => lines.style(&a.what_for, Style::Dim),
        false => a.what_for.clone(),
    });
    if lines.look.why {
        let source = format!("← {}", a.works.source());
        text = format!("{text}  {}", lines.style(source, Style::Dim));
    }
    lines.line(format!("  {mark}  {:<width$}   {text}", a.name).trim_end());
    let indent = " ".repeat(7);
    if let Some(why) = &a.why_not {
        lines.line(format!("{indent}why   {why}"));
    }
    if let Some(how) = &a.how_to_get_it {
        lines.line(format!("{indent}get   {how}"));
    }
}
