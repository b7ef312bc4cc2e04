//! `glassbox cgroup create` and `set`: a group and its limits, without a process.
//!
//! Both are plans like everything else: `--dry-run` shows them, `--explain` tells them, and when a
//! step fails the earlier ones are taken back.
//! Read next: `run.rs`.

use super::limits::LimitFlags;
use crate::cgroups::actions::{CreateGroup, Existing, WriteLimit};
use crate::cgroups::plan::controllers_needed;
use crate::cgroups::{Group, LimitWrite, Now, limit_id, plan_limits, set_up, stat};
use crate::cli::explain_flag::ExplainFlag;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Plan, Stage, Step};
use crate::ui;

/// Make a group, with limits.
///
/// Prints its path. On v2 the controllers are enabled in the groups above; on v1 the group is made
/// in every tree.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup create web --memory 1G --cpus 2
  glassbox cgroup create web/db --pids-limit 100 --dry-run")]
pub struct CreateArgs {
    /// Its name, or its path from the root with a leading slash
    name: String,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    explain: ExplainFlag,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the new group, as `stat --json` does
    #[arg(long)]
    json: bool,
}

/// Change the limits of a group.
///
/// What is not named stays as it is. When one write fails, those before it are taken back.
#[derive(clap::Args)]
#[command(after_help = "Example:
  glassbox cgroup set web --memory 2G --cpus max")]
pub struct SetArgs {
    /// The group: see `glassbox cgroup --help`
    target: String,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    explain: ExplainFlag,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the group afterwards, as `stat --json` does
    #[arg(long)]
    json: bool,
}

pub(super) fn create(args: CreateArgs) -> Result<u8> {
    let host = Host::detect()?;
    let path = super::new_path(&host, &args.name)?;
    let group = Group::locate(&host.cgroups, &path)?;
    let steps = set_up(&host, &group, &args.limits.limits()?, None, Existing::Refuse)?;
    // The directory is only opened for a process that is going to start in it.
    let kept = steps.before_clone.into_iter();
    let plan = Plan {
        steps: kept.filter(|s| s.id != "open-cgroup").collect(),
        ..Plan::default()
    };
    if args.dry_run {
        return super::run::show_plan(&plan, args.explain, args.json);
    }
    super::run::carry_out(&plan, args.explain)?;
    if args.json {
        ui::print_json(&stat::stat(&Group::existing(&host.cgroups, &path)?));
    } else {
        ui::out(path);
    }
    Ok(0)
}

pub(super) fn set(args: SetArgs) -> Result<u8> {
    let host = Host::detect()?;
    let group = super::target(&host, &args.target)?;
    let limits = args.limits.limits()?;
    if limits.is_empty() {
        return Err(Error::kind(Kind::Usage, "no limit to set was given")
            .hint("`glassbox cgroup set --help` lists the limits"));
    }
    if let Some(dir) = group.dirs.iter().find(|d| d.dir == d.mount) {
        return Err(Error::kind(
            Kind::Usage,
            format!("the root group at {} has no limits", dir.mount.display()),
        )
        .hint("make a group for the processes that shall be limited"));
    }
    let writes = plan_limits(&limits, &group, Now::read(&group))?;
    let mut plan = Plan::default();
    let enable = CreateGroup {
        existing: Existing::Use,
        ..CreateGroup::new(&group, controllers_needed(&writes))
    };
    let on_v2 = |w: &LimitWrite| enable.dirs.iter().any(|d| d.v2 && w.path.starts_with(&d.dir));
    if writes.iter().any(on_v2) {
        plan.push(Step::parent(
            Stage::Cgroups,
            "enable-controllers",
            "on v2 a group has a controller's files only when every group above passes it on",
            enable,
        ));
    }
    for write in &writes {
        plan.push(Step::parent(
            Stage::Cgroups,
            limit_id(write, &plan.steps),
            write.why,
            WriteLimit::new(write, true),
        ));
    }
    if args.dry_run {
        return super::run::show_plan(&plan, args.explain, args.json);
    }
    super::run::carry_out(&plan, args.explain)?;
    if args.json {
        ui::print_json(&stat::stat(&group));
    }
    Ok(0)
}
