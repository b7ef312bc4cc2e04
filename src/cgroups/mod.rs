//! Stage 2, cgroups: what a process may use.
//!
//! What it does: makes groups, gives them limits, puts processes into them, freezes, kills and
//! removes them, and reads what they use and what really limits them, on unified (v2), legacy (v1)
//! and hybrid hosts. The words are those of v2; `plan.rs` holds the table of what each becomes on
//! v1.
//! What it implements: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/; cgroups(7).
//!
//! Interface, in reading order: [`limits`] (typed limits), [`group`] (where a group lies),
//! [`plan`] (limits → files, pure), [`actions`] (the steps of a set-up), [`lifecycle`] (freeze,
//! kill, remove), [`devices`] (device rules on both versions), [`stat`], [`effective`] and
//! [`survey`] (the read side, for `inspect`). [`set_up`] puts the steps of a
//! group together; [`systemd`] does it where systemd makes the group.
//!
//! Read next: `group.rs`.

pub mod actions;
pub mod bpf_sim;
pub mod device_program;
pub mod devices;
pub mod effective;
pub mod group;
pub mod lifecycle;
pub mod limits;
pub mod oci;
pub mod parse;
pub mod plan;
pub mod stat;
pub mod survey;
pub mod systemd;

pub use group::{CgroupPath, Group, GroupDir};
pub use limits::{Limit, Limits};
pub use plan::{LimitWrite, Now, plan_limits};

use crate::error::Result;
use crate::host::Host;
use crate::journal::{Stage, Step};
use actions::{Attach, CreateGroup, Evacuate, Existing, OpenGroup, Who, WriteLimit};
use device_program::DeviceRules;
use devices::DeviceRule;

/// The steps that make a group and put a container's init into it.
#[derive(Debug, Default)]
pub struct SetUp {
    /// The parent's, before the clone step: create, limit, open. With a v2 tree the directory is
    /// then in the scene as `cgroup`, for `CLONE_INTO_CGROUP`.
    pub before_clone: Vec<Step>,
    /// Init's first: its entry into the v1 trees (and into the v2
    /// tree where the kernel is too old for `CLONE_INTO_CGROUP`).
    pub after_clone: Vec<Step>,
    /// True when the clone step has to use the scene's `cgroup`.
    pub clone_into_cgroup: bool,
}

/// Plans a new group with these limits for a container. `group` comes from [`Group::locate`]; trees
/// that the caller may not use are left out, unless a limit needs them, which is an error.
///
/// `devices` are rules in OCI's order; they are left out when the caller has no power over them
/// (rootless: the user namespace forbids mknod anyway). `existing` says what becomes of a group that is
/// there already.
pub fn set_up(
    host: &Host,
    group: &Group,
    limits: &Limits,
    devices: Option<&[DeviceRule]>,
    existing: Existing,
) -> Result<SetUp> {
    group.require_usable()?;
    let writes = plan_limits(limits, group, Now::default())?;
    let mut plan = SetUp::default();
    let step = |id: String, why: &'static str, action| Step {
        id: id.into(),
        stage: Stage::Cgroups,
        actor: crate::journal::Actor::Parent,
        why: why.into(),
        action,
    };
    if let Some(evacuate) = Evacuate::if_needed(group) {
        plan.before_clone.push(Step::parent(
            Stage::Cgroups,
            "evacuate-group",
            "a group that holds processes cannot pass controllers on, so ours move to a leaf of it",
            evacuate,
        ));
    }
    plan.before_clone.push(Step::parent(
        Stage::Cgroups,
        "create-cgroup",
        "a group of its own, so that what it uses is counted and limited apart from all else",
        CreateGroup {
            existing,
            ..CreateGroup::new(group, plan::controllers_needed(&writes))
        },
    ));
    for write in &writes {
        plan.before_clone.push(step(
            limit_id(write, &plan.before_clone),
            write.why,
            Box::new(WriteLimit::new(write, false)),
        ));
    }
    if let (Some(rules), false) = (devices, host.rootless) {
        let action = DeviceRules::new(group, rules);
        if action.is_possible() {
            plan.before_clone.push(Step::parent(
                Stage::Cgroups,
                "device-rules",
                "opens and mknods of devices that are not on the list fail, whatever the file \
                 modes say",
                action,
            ));
        }
    }
    let unified = group.usable().find(|d| d.v2);
    let into = unified.filter(|_| host.at_least(5, 7));
    if let Some(dir) = into {
        plan.clone_into_cgroup = true;
        plan.before_clone.push(Step::parent(
            Stage::Cgroups,
            "open-cgroup",
            "clone3 starts init inside the group, so that not one page of its is counted elsewhere",
            OpenGroup {
                dir: dir.dir.clone(),
            },
        ));
    }
    let attach = Attach::new(group, Who::Init, into.is_some());
    if !attach.files.is_empty() {
        plan.after_clone.push(Step::init(
            Stage::Cgroups,
            "enter-cgroup",
            "init enters the group before it runs anything, so nothing of it escapes the limits",
            attach,
        ));
    }
    Ok(plan)
}

/// A step id out of a file's name, unique in its plan: `limit-memory.max`, `limit-io.max-2`.
pub fn limit_id(write: &LimitWrite, before: &[Step]) -> String {
    let id = format!("limit-{}", write.file);
    let same = before
        .iter()
        .filter(|s| *s.id == id || s.id.strip_prefix(&format!("{id}-")).is_some())
        .count();
    match same {
        0 => id,
        n => format!("{id}-{}", n + 1),
    }
}
