//! `glassbox cgroup run`: a command in a group of its own. Also how the plans of this stage are
//! shown and carried out.
//!
//! The command is a second process, started inside the group (`CLONE_INTO_CGROUP` on v2, moved
//! before its first instruction on v1), while this one waits outside to remove the group.
//! Read next: [`crate::cgroups::set_up`], which makes the plan.

use super::limits::LimitFlags;
use crate::cgroups::actions::Existing;
use crate::cgroups::{CgroupPath, Group, group, lifecycle, set_up};
use crate::cli::explain_flag::ExplainFlag;
use crate::cli::ns::carry_out::{environment, signals};
use crate::error::{Context, Error, Result};
use crate::explain::{Depth, render_plan};
use crate::host::Host;
use crate::journal::{self, Options, Plan, Scene, Stage, Step};
use crate::namespaces::actions::{Clone, Exec};
use crate::namespaces::Foreground;
use crate::sys::record::{self, Arena};
use crate::ui;
use std::ffi::OsString;

/// The group that holds the groups of commands without a name.
const PARENT: &str = "glassbox";

/// Run a command in a group of its own.
///
/// The group is removed when the command ends, and with it every process that the command left
/// behind. The exit status is the command's.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cgroup run --memory 64M --pids-limit 20 -- sh
  glassbox cgroup run --cpus 0.5 --explain -- make
  glassbox cgroup run --memory 64M -- glassbox ns run --pid --mount --root DIR -- sh")]
pub struct RunArgs {
    /// The group's name, or its path from the root with a leading slash
    #[arg(long)]
    name: Option<String>,
    /// Keep the group, and what runs in it, when the command has ended
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    explain: ExplainFlag,
    /// Show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print the dry run as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) fn run(args: RunArgs) -> Result<u8> {
    let host = Host::detect()?;
    let (path, shared) = match &args.name {
        Some(name) => (super::new_path(&host, name)?, None),
        None => {
            let parent = group::base(&host.cgroups)?.join(PARENT)?;
            let own = parent.join(&format!("run-{}", std::process::id()))?;
            (own, Some(parent))
        }
    };
    let group = Group::locate(&host.cgroups, &path)?;
    let mut steps = set_up(&host, &group, &args.limits.limits()?, None, Existing::Refuse)?;
    let mut plan = Plan::default();
    plan.steps.append(&mut steps.before_clone);
    plan.push(Step::parent(
        Stage::Cgroups,
        "clone",
        "A second process becomes the command; this one stays outside to remove the group.",
        Clone {
            flags: 0,
            into_cgroup: steps.clone_into_cgroup.then_some("cgroup"),
        },
    ));
    plan.steps.append(&mut steps.after_clone);
    plan.push(Step::init(
        Stage::Cgroups,
        "exec",
        "The process becomes the command, in the group; what it starts is born there too.",
        Exec {
            argv: args.command.clone(),
            env: environment(),
            signals: signals(),
close_from: None,
        },
    ));
    if args.dry_run {
        return show_plan(&plan, args.explain, args.json);
    }
    if let Some(parent) = &shared {
        sweep(&host, parent);
    }
    let foreground = Foreground::prepare()?;
    let mut scene = Scene::new();
    let result = start(&plan, &mut scene, args.explain).and_then(|()| match &scene.child {
        Some(child) => foreground.wait(child),
        None => Err(Error::new("the plan made no process (a fault in the plan)")),
    });
    if args.keep && result.is_ok() {
        return result;
    }
    // After a failure the plan has been taken back already.
    let removed = match Group::existing(&host.cgroups, &path) {
        Ok(existing) if result.is_ok() => lifecycle::kill(&existing)
            .and_then(|()| journal::execute::undo(&plan, &mut scene)),
        _ => Ok(()),
    };
    if shared.is_some() {
        lifecycle::prune(&group, PARENT);
    }
    match (result, removed) {
        (Ok(status), Err(e)) => {
            // The command's status is the more important one; the failure is told all the same.
            ui::warn(format!("{e:#}"));
            Ok(status)
        }
        (result, _) => result,
    }
}

/// Carries the plan out until the command runs; takes all back when something fails.
fn start(plan: &Plan, scene: &mut Scene, explain: ExplainFlag) -> Result<()> {
    let mut watch = explain.watch();
    let options = prepare(plan, explain)?;
    let mut running = journal::execute(plan, scene, &mut *watch, &options)?;
    running.finish(scene, &mut *watch).map_err(|e| {
        match journal::execute::undo(plan, scene) {
            Ok(()) => e,
            Err(undo) => e.hint(format!("and the clean-up failed too: {undo:#}")),
        }
    })
}

/// Warnings, the record, and how the plan is carried out.
fn prepare(plan: &Plan, explain: ExplainFlag) -> Result<Options> {
    if explain.explain != Some(Depth::Json) {
        plan.warnings.iter().for_each(ui::warn);
    }
    if explain.is_on() {
        record::install(Some(Arena::anonymous().context("cannot make the record")?));
    }
    Ok(Options {
        observe: explain.is_on(),
        fail_after: std::env::var("GLASSBOX_FAIL_STEP").ok(),
    })
}

/// Carries out a plan that starts no process.
pub(super) fn carry_out(plan: &Plan, explain: ExplainFlag) -> Result<()> {
    let mut watch = explain.watch();
    let options = prepare(plan, explain)?;
    journal::execute(plan, &mut Scene::new(), &mut *watch, &options).map(drop)
}

/// Prints a plan: what would be done, and why.
pub(super) fn show_plan(plan: &Plan, explain: ExplainFlag, json: bool) -> Result<u8> {
    if json {
        ui::print_json(plan);
    } else {
        ui::out(render_plan(plan, explain.depth(), ui::colour_stdout()));
    }
    Ok(0)
}

/// Removes what a killed `cgroup run` left behind: empty groups named after a process that is gone.
fn sweep(host: &Host, parent: &CgroupPath) {
    let Ok(group) = Group::existing(&host.cgroups, parent) else {
        return;
    };
    let names: std::collections::BTreeSet<String> = group
        .dirs
        .iter()
        .flat_map(|d| std::fs::read_dir(&d.dir).into_iter().flatten().flatten())
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| {
            let pid = name.strip_prefix("run-").and_then(|p| p.parse::<u32>().ok());
            pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
        })
        .collect();
    for name in names {
        if let Ok(old) = parent.join(&name)
            && let Ok(old) = Group::existing(&host.cgroups, &old)
        {
            // One that still has processes is refused, and stays.
            let _ = lifecycle::remove(&old, false);
        }
    }
}

