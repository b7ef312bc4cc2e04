//! New limits for a container that exists.
//!
//! What it does: merges what was asked for into the container's `linux.resources`, lets the
//! cgroups stage plan the writes of the sections that change, and carries them out as steps: when
//! one fails, those before it are taken back, so that a container has all of an update or nothing
//! of it. The last step writes the new document, from which later operations know.
//!
//! Of a container that systemd made the cgroup for, the unit's properties change as well.
//!
//! Device rules stay those of the creation: an update has none in any runtime, though engines send
//! the whole of `resources`.
//!
//! What it implements: runc-update(8); config-linux.md "Memory" (`checkBeforeUpdate`).
//! Interface: [`update`], [`merged`]. Read next: [`crate::cgroups::plan_limits`].

use super::operations::{begin_journal, group_or_refuse, wrong_state};
use super::resources;
use super::store::Container;
use crate::cgroups::actions::WriteLimit;
use crate::cgroups::systemd::{self, SetProperties};
use crate::cgroups::{Group, LimitWrite, Now, limit_id, plan_limits, stat};
use crate::error::{Context, Error, Kind, Result};
use crate::files;
use crate::host::Host;
use crate::journal::{self, Action, Plan, Planned, Scene, Stage, Step, Watch};
use crate::spec::runtime::{Resources, Spec, Status};
use serde_json::Value;
use std::path::PathBuf;

/// Gives a container new limits. Errors: [`Kind::Conflict`] when it has stopped; a limit that the
/// host does not have or the kernel does not take, after which nothing has changed.
pub fn update(
    container: &mut Container,
    host: &Host,
    asked: &Resources,
    watch: &mut dyn Watch,
    options: &journal::Options,
) -> Result<()> {
    let _lock = container.lock()?;
    let status = container.status(host)?;
    if !matches!(status, Status::Created | Status::Running | Status::Paused) {
        return Err(wrong_state("update", container, status));
    }
    let group = group_or_refuse(container, host)?;
    let old = container.spec()?;
    let mut new = old.clone();
    let linux = new.linux.get_or_insert_default();
    let before = linux.resources.clone().unwrap_or_default();
    let (after, changed) = merged(&before, asked)?;
    check_before_update(&after, asked, &group)?;
    linux.resources = Some(after);
    let limits = resources::limits(Some(&changed))?;
    let mut plan = Plan::default();
    let writes = plan_limits(&limits, &group, Now::read(&group))?;
    let push = |plan: &mut Plan, write: &LimitWrite, why| {
        let id = limit_id(write, &plan.steps);
        let action = WriteLimit::new(write, true);
        plan.push(Step::parent(Stage::Cgroups, id, why, action));
    };
    for write in &writes {
        push(&mut plan, write, write.why);
    }
    if let Some(unit) = &container.record.unit {
        let version = unit.manager.version;
        let after = systemd::properties::of_writes(&writes, version);
        let were = plan_limits(&resources::limits(Some(&before))?, &group, Now::default())?;
        let before = systemd::properties::of_writes(&were, version);
        if !after.is_empty() {
            plan.push(Step::parent(
                Stage::Cgroups,
                "set-unit-properties",
                "Systemd must know of it, or its next reload would undo it.",
                SetProperties::new(unit, after, &before),
            ));
        }
        // It has just written what it was told, and it keeps whole percents.
        for write in writes.iter().filter(|w| w.file == "cpu.max") {
            push(
                &mut plan,
                write,
                "Systemd has rounded the quota to whole percents.",
            );
        }
    }
    let dir = container.dir.clone();
    plan.push(Step::parent(
        Stage::Runtime,
        "write-config",
        "What later operations know of the container is what holds now.",
        WriteConfig { dir, old, new },
    ));
    begin_journal(&container.dir, "update")?;
    journal::execute(&plan, &mut Scene::new(), watch, options).map(drop)
}

/// The container's resources with the update in them; and of these the sections that the update
/// touches, whole: a quota alone would lose the period that it is measured by.
pub fn merged(before: &Resources, asked: &Resources) -> Result<(Resources, Resources)> {
    let value = |r: &Resources| serde_json::to_value(r).context("cannot merge the resources");
    let (mut all, mut new) = (value(before)?, value(asked)?);
    if let Value::Object(sections) = &mut new {
        sections.remove("devices");
    }
    lay_over(&mut all, &new);
    let mut changed = all.clone();
    if let (Value::Object(all), Value::Object(new)) = (&mut changed, &new) {
        all.retain(|section, _| new.contains_key(section));
    }
    let read = |v: Value| serde_json::from_value(v).context("cannot merge the resources");
    Ok((read(all)?, read(changed)?))
}

fn lay_over(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                match below.get_mut(key) {
                    Some(old) => lay_over(old, value),
                    None => {
                        below.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (below, above) => *below = above.clone(),
    }
}

/// `memory.checkBeforeUpdate`: a limit below what is used would have the kernel kill somebody.
fn check_before_update(after: &Resources, asked: &Resources, group: &Group) -> Result<()> {
    let check = after.memory.as_ref().and_then(|m| m.check_before_update) == Some(true);
    let limit = asked.memory.as_ref().and_then(|m| m.limit);
    let used = stat::stat(group).memory.map(|m| m.current);
    match (check, limit.and_then(|n| u64::try_from(n).ok()), used) {
        (true, Some(limit @ 1..), Some(used)) if used > limit => Err(Error::kind(
            Kind::Conflict,
            format!("the memory limit {limit} is below what is used already, {used}"),
        )
        .hint("config.json sets memory.checkBeforeUpdate; without it the kernel would reclaim and kill")),
        _ => Ok(()),
    }
}

/// Writes the container's document anew.
#[derive(Debug)]
struct WriteConfig {
    dir: PathBuf,
    old: Spec,
    new: Spec,
}

impl WriteConfig {
    fn write(&self, spec: &Spec) -> Result<()> {
        files::write_atomically(
            &self.dir.join("config.json"),
            &files::to_json(spec)?,
            0o600,
            false,
        )
    }
}

impl Action for WriteConfig {
    fn calls(&self) -> Vec<Planned> {
        let file = self.dir.join("config.json");
        vec![
            Planned::new("write", format!("{}.new ← the document", file.display())),
            Planned::new("renameat2", format!("→ {file:?}")),
        ]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        self.write(&self.new)
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        self.write(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let read = |json: &str| -> Resources { serde_json::from_str(json).unwrap() };
        let before = read(
            r#"{"cpu":{"quota":50000,"period":200000},"pids":{"limit":10},
                "devices":[{"allow":false}],"unified":{"memory.high":"1"}}"#,
        );
        let asked =
            read(r#"{"cpu":{"quota":20000},"devices":[{"allow":true}],"memory":{"limit":4096}}"#);
        let (all, changed) = merged(&before, &asked).unwrap();
        let cpu = changed.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(20000), Some(200_000)));
        assert_eq!(changed.memory.unwrap().limit, Some(4096));
        assert!(changed.pids.is_none() && changed.unified.is_empty());
        assert!(changed.devices.is_empty());
        assert_eq!(all.devices, before.devices);
        assert_eq!(all.pids, before.pids);
    }
}
