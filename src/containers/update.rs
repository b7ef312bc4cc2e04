//! New limits, or another restart policy, for a container that exists.
//!
//! What it does: changes the container's configuration, checks the result as a whole, and when it
//! runs writes the limits that differ into its cgroup, as steps: when one is refused, those before
//! it are taken back and nothing has changed. Each is read back and compared. What is kept on disk
//! changes last, so it says what holds.
//!
//! What it implements: docker's `update`. Interface: [`update`]. Read next:
//! [`crate::runtime::update`], which does the same for a bundle.

use super::actions::WriteFile;
use super::model::HostConfig;
use super::store::Container;
use super::{abilities, config, events, lifecycle, prepare, reconcile, state};
use crate::cgroups::actions::WriteLimit;
use crate::cgroups::{Limits, Now, limit_id, plan_limits};
use crate::error::{Context, Error, Kind, Result};
use crate::host::Host;
use crate::journal::{self, Event, Plan, Record, Scene, Stage, Step, Watch};
use crate::runtime;
use crate::spec::runtime::Resources;

/// Changes it, and returns warnings. Errors: the new limits contradict each other or the kernel
/// refuses one; nothing has changed then.
pub fn update(
    container: &Container,
    change: &dyn Fn(&mut HostConfig) -> Result<()>,
) -> Result<Vec<String>> {
    let _lock = container.lock()?;
    let status = reconcile::repair(container)?;
    let mut new = container.clone();
    let h = &mut new.record.host_config;
    change(h)?;
    if h.auto_remove && !matches!(h.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::kind(
            Kind::Conflict,
            "restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    prepare::check_cpus(h.nano_cpus)?;
    let host = Host::detect()?;
    let mut warnings = Vec::new();
    let limits = config::limits(h, &host, &abilities::of(h, &host)?, &mut warnings)?;
    let mut plan = Plan::default();
    let stage = Stage::Containers;
    if status.pid > 0 {
        let mut spec = lifecycle::spec(container)?;
        let before = spec
            .linux
            .get_or_insert_default()
            .resources
            .clone()
            .unwrap_or_default();
        let changed = differences(&before, &limits);
        if changed != Resources::default() {
            let group = runtime::group_of(&spec, &host)?.ok_or_else(|| no_group(container))?;
            let limits = Limits::from_oci(&changed)?;
            for write in plan_limits(&limits, &group, Now::read(&group))? {
                let id = limit_id(&write, &plan.steps);
                let action = WriteLimit::new(&write, true);
                plan.push(Step::parent(Stage::Cgroups, id, write.why, action));
            }
            let (all, _) = runtime::update::merged(&before, &changed)?;
            spec.linux.get_or_insert_default().resources = Some(all);
            let why = "A restart of its program begins with the limits that hold now.";
            plan.push(Step::parent(
                stage,
                "write-config",
                why,
                file(container, "config.json", state::to_json(&spec)?),
            ));
        }
    }
    let why = "What is written down of it is what holds: the next start reads it.";
    let write = file(container, "container.json", new.record.text()?);
    plan.push(Step::parent(stage, "write-container", why, write));
    let mut differences = Differences(Vec::new());
    let options = journal::Options {
        observe: true,
        ..journal::Options::default()
    };
    crate::sys::record::install(Some(
        crate::sys::record::Arena::anonymous().context("cannot make the record")?,
    ));
    let done = journal::execute(&plan, &mut Scene::new(), &mut differences, &options);
    crate::sys::record::install(None);
    done.map_err(|e| lifecycle::or_ended(container, &status, e))
        .with_context(|| format!("cannot update container {}", container.name()))?;
    warnings.extend(differences.0);
    events::of(&new, "update", &[]);
    Ok(warnings)
}

fn no_group(container: &Container) -> Error {
    Error::kind(
        Kind::Unsupported,
        format!(
            "container {} has no cgroup, so it has no limits",
            container.name()
        ),
    )
    .topic("cgroups")
}

fn file(container: &Container, name: &str, text: String) -> WriteFile {
    WriteFile {
        path: container.dir.join(name),
        text,
        mode: 0o600,
        durable: name == "container.json",
        own: false,
    }
}

/// The sections of `after` that are not as before, whole: a quota alone would lose its period.
fn differences(before: &Resources, after: &Resources) -> Resources {
    fn changed<T: PartialEq + Clone>(before: &Option<T>, after: &Option<T>) -> Option<T> {
        after.clone().filter(|_| before != after)
    }
    Resources {
        memory: changed(&before.memory, &after.memory),
        cpu: changed(&before.cpu, &after.cpu),
        pids: changed(&before.pids, &after.pids),
        block_io: changed(&before.block_io, &after.block_io),
        ..Resources::default()
    }
}

/// Collects what reads back otherwise than it was written.
struct Differences(Vec<String>);

impl Watch for Differences {
    fn record(&mut self, record: &Record) {
        if let Record::Event(Event::Fact {
            what,
            value,
            as_expected: Some(false),
            ..
        }) = record
        {
            self.0
                .push(format!("{what} was written, and reads back as {value:?}"));
        }
    }
}
