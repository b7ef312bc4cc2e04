//! The steps that concern units: start one around init, change its properties, stop it.
//!
//! What it implements: [`Action`] over StartTransientUnit, SetUnitProperties, StopUnit and
//! ResetFailedUnit of org.freedesktop.systemd1(5).
//! Interface: [`set_up`], [`StartUnit`], [`SetProperties`], [`stop`]. Read next: `properties.rs`.

use super::connection::{Connection, Refusal};
use super::wire::{Property, Value};
use super::{Unit, properties};
use crate::cgroups::actions::{CreateGroup, Existing, WriteLimit};
use crate::cgroups::device_program::DeviceRules;
use crate::cgroups::devices::DeviceRule;
use crate::cgroups::group::{CgroupPath, Group};
use crate::cgroups::limits::Limits;
use crate::cgroups::plan::{self, Now, plan_limits};
use crate::cgroups::{SetUp, limit_id};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Action, Fact, Planned, Scene, Stage, Step};

/// Controllers that systemd passes on to a delegated unit by itself.
const SYSTEMDS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Plans a unit for a container, as [`crate::cgroups::set_up`] plans a group; `group` is the group of
/// `unit`. All of it comes after the clone step, since a scope must not be empty, and init waits for it.
/// `further` properties come from the container's annotations.
pub fn set_up(
    host: &Host,
    group: &Group,
    unit: &Unit,
    limits: &Limits,
    devices: Option<&[DeviceRule]>,
    further: Vec<Property>,
) -> Result<SetUp> {
    group.require_usable()?;
    let writes = plan_limits(limits, group, Now::default())?;
    let mut list = own_properties(unit);
    list.extend(properties::of_writes(&writes, unit.manager.version));
    list.extend(further);
    let mut steps = vec![Step::parent(
        Stage::Cgroups,
        "start-unit",
        "the tree of groups is systemd's: it makes a unit around init, hands its group over, and will \
         not touch what is below",
        StartUnit {
            unit: unit.clone(),
            group: unit.group()?,
            properties: list,
        },
    )];
    let needed = plan::controllers_needed(&writes);
    let further: Vec<String> = needed
        .into_iter()
        .filter(|c| !SYSTEMDS.contains(&c.as_str()))
        .collect();
    if !further.is_empty() {
        let mut create = CreateGroup {
            existing: Existing::Use,
            ..CreateGroup::new(group, further)
        };
        for dir in &mut create.dirs {
            dir.available.retain(|c| create.required.contains(c));
        }
        steps.push(Step::parent(
            Stage::Cgroups,
            "pass-controllers",
            "a limit needs a controller that systemd knows nothing of, so we pass it on from the root \
             down",
            PassControllers(create),
        ));
    }
    for write in &writes {
        steps.push(Step::parent(
            Stage::Cgroups,
            limit_id(write, &steps),
            write.why,
            WriteLimit::new(write, false),
        ));
    }
    if let (Some(rules), false) = (devices, host.rootless) {
        let action = DeviceRules::new(group, rules);
        if action.is_possible() {
            steps.push(Step::parent(
                Stage::Cgroups,
                "device-rules",
                "opens and mknods of devices that are not on the list fail, whatever the file modes say",
                action,
            ));
        }
    }
    Ok(SetUp {
        after_clone: steps,
        ..SetUp::default()
    })
}

/// What every container's scope has. All controllers count from the start: what is used before one is
/// switched on is counted by nobody.
fn own_properties(unit: &Unit) -> Vec<Property> {
    let text = |t: &str| Value::Text(t.into());
    let container = unit.name.trim_end_matches(".scope");
    let description = format!("glassbox container {container}");
    let mut list: Vec<Property> = vec![
        ("Description".into(), text(&description)),
        ("Slice".into(), text(&unit.slice)),
        ("Delegate".into(), Value::Bool(true)),
        // It has no business with the boot or the shutdown of the host.
        ("DefaultDependencies".into(), Value::Bool(false)),
    ];
    if unit.manager.version >= 236 {
        // One that failed is forgotten like any other, and its name is free again.
        list.push(("CollectMode".into(), text("inactive-or-failed")));
    }
    for accounting in ["CPU", "IO", "Memory", "Tasks"].map(|of| format!("{of}Accounting")) {
        list.push((accounting, Value::Bool(true)));
    }
    list
}

/// `NAME=value NAME=value`
fn words(list: &[Property]) -> String {
    let words: Vec<String> = list.iter().map(|(n, v)| format!("{n}={v}")).collect();
    words.join(" ")
}

/// Starts a scope with the child in it, and checks where its group is.
#[derive(Debug, Clone)]
pub struct StartUnit {
    /// The unit.
    pub unit: Unit,
    /// The group that it must get.
    pub group: CgroupPath,
    /// Its properties, but for the processes in it.
    pub properties: Vec<Property>,
}

impl StartUnit {
    fn words(&self, pid: &str) -> String {
        let (name, list) = (&self.unit.name, words(&self.properties));
        format!("systemd, StartTransientUnit({name}, {list} PIDs=[{pid}])")
    }

    fn start(&self, connection: &mut Connection, pid: i32) -> Result<()> {
        let name = &self.unit.name;
        let words = self.words(&pid.to_string());
        let mut list = self.properties.clone();
        list.push(("PIDs".into(), Value::U32s(vec![pid as u32])));
        let what = || format!("cannot start the unit {name}");
        let mut refused = match connection.start_transient_unit(name, &list, &words) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        if matches!(&refused, Refusal::Said(name, _) if name == "UnitExists") {
            // It may be one that failed long ago and was never cleared away.
            connection.reset_failed_unit(name)?;
            match connection.start_transient_unit(name, &list, &words) {
                Ok(()) => return Ok(()),
                Err(again) => refused = again,
            }
        }
        match refused {
            Refusal::Said(ref error, _) if error == "UnitExists" => {
                let error = Error::kind(Kind::Conflict, format!("the unit {name} exists already"));
                Err(error
                    .caused_by(Error::from(refused))
                    .hint(format!("`systemctl status {name}` shows whose it is")))
            }
            Refusal::Said(..) => Err(Error::from(refused).context(what())),
            Refusal::Lost(error) => {
                let _ = connection.stop_unit(name); // half of one must not stay
                Err(error.context(what()))
            }
        }
    }

    fn control_group(&self) -> Result<String> {
        let mut connection = Connection::open(&self.unit.manager.socket)?;
        match connection.of_scope(&self.unit.name, "ControlGroup")? {
            Value::Text(group) => Ok(group),
            _ => Err(Error::new("systemd's ControlGroup is no text")),
        }
    }
}

impl Action for StartUnit {
    fn calls(&self) -> Vec<Planned> {
        vec![Planned::new(
            "sendto",
            format!("AF_UNIX, {}", self.words("init's pid")),
        )]
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        let pid = scene.child_pid()?;
        let mut connection = Connection::open(&self.unit.manager.socket)?;
        self.start(&mut connection, pid)?;
        scene.put("systemd.started", self.unit.name.as_str());
        let name = &self.unit.name;
        match connection.of_scope(name, "ControlGroup")? {
            Value::Text(group) if group == self.group.as_str() => Ok(()),
            other => Err(Error::new(format!(
                "systemd has put the unit {name} into {other}, and not into {}",
                self.group
            ))),
        }
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        let group = self.control_group();
        let mut facts = vec![Fact {
            what: format!("ControlGroup of {}", self.unit.name),
            value: group.map_err(|e| e.to_string()),
            source: self.unit.manager.socket.display().to_string(),
        }];
        if let Ok(pid) = scene.child_pid() {
            let file = format!("/proc/{pid}/cgroup");
            facts.push(Fact::from_file("group of init", file));
        }
        facts
    }
    fn expected(&self) -> Option<String> {
        Some(self.group.to_string())
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        // When the start itself failed, there is nothing of ours: another's unit may have the name.
        match scene.get("systemd.started") {
            Some(name) if name == self.unit.name => stop(&self.unit),
            _ => Ok(()),
        }
    }
}

/// Lets a controller reach a group that systemd has made, from the root down.
#[derive(Debug)]
struct PassControllers(CreateGroup);

impl Action for PassControllers {
    fn calls(&self) -> Vec<Planned> {
        // When its turn comes, all the directories are there.
        let mut calls = self.0.calls();
        calls.retain(|call| call.call == "write");
        calls
    }
    fn apply(&self, scene: &mut Scene) -> Result<()> {
        self.0.apply(scene)
    }
    fn observe(&self, scene: &Scene) -> Vec<Fact> {
        self.0.observe(scene)
    }
    fn expected(&self) -> Option<String> {
        self.0.expected()
    }
    fn undo(&self, scene: &mut Scene) -> Result<()> {
        self.0.undo(scene)
    }
}

/// Stops a unit, with whatever still runs in it, and has systemd forget it. One that is gone already is
/// no error.
pub fn stop(unit: &Unit) -> Result<()> {
    let what = || format!("cannot stop the unit {}", unit.name);
    let mut connection = Connection::open(&unit.manager.socket).with_context(what)?;
    connection.stop_unit(&unit.name).with_context(what)?;
    connection.reset_failed_unit(&unit.name).with_context(what)
}

/// Changes properties of a unit that is active.
#[derive(Debug, Clone)]
pub struct SetProperties {
    /// The unit.
    pub unit: Unit,
    /// What they shall be.
    pub after: Vec<Property>,
    /// What they were, for the way back.
    pub before: Vec<Property>,
}

impl SetProperties {
    /// `before` are all that were set; those among them that change are kept, and what was not set is
    /// unset on the way back.
    pub fn new(unit: &Unit, after: Vec<Property>, before: &[Property]) -> SetProperties {
        let was = |name: &String| {
            let old = before
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone());
            (name.clone(), old.unwrap_or_else(|| properties::unset(name)))
        };
        SetProperties {
            unit: unit.clone(),
            before: after.iter().map(|(name, _)| was(name)).collect(),
            after,
        }
    }

    fn set(&self, list: &[Property]) -> Result<()> {
        let name = &self.unit.name;
        let words = format!("systemd, SetUnitProperties({name}, {})", words(list));
        let mut connection = Connection::open(&self.unit.manager.socket)?;
        connection
            .set_unit_properties(name, list, &words)
            .map_err(Error::from)
            .with_context(|| format!("cannot change the unit {name}"))
    }
}

impl Action for SetProperties {
    fn calls(&self) -> Vec<Planned> {
        let (name, list) = (&self.unit.name, words(&self.after));
        vec![Planned::new(
            "sendto",
            format!("AF_UNIX, systemd, SetUnitProperties({name}, {list})"),
        )]
    }
    fn apply(&self, _: &mut Scene) -> Result<()> {
        self.set(&self.after)
    }
    fn observe(&self, _: &Scene) -> Vec<Fact> {
        let mut connection = Connection::open(&self.unit.manager.socket);
        let read = |(name, _): &Property| Fact {
            what: name.clone(),
            value: match &mut connection {
                Ok(connection) => connection
                    .of_scope(&self.unit.name, name)
                    .map(|value| value.to_string())
                    .map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            },
            source: self.unit.name.clone(),
        };
        self.after.iter().map(read).collect()
    }
    fn expected(&self) -> Option<String> {
        self.after.first().map(|(_, value)| value.to_string())
    }
    fn undo(&self, _: &mut Scene) -> Result<()> {
        self.set(&self.before)
    }
}
