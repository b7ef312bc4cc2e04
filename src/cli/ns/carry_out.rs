//! Carrying out the plan of `ns run` and `ns enter`: dry run, narration, waiting.
//!
//! What it does: prints a plan, or executes it and waits for the command. A plan without a second
//! process ends in this process becoming the command, so then nothing returns.
//! Interface: [`PlanFlags`], [`carry_out`]. Read next: [`crate::journal::execute`].

use crate::cli::explain_flag::ExplainFlag;
use crate::error::{Context, Error, Kind, Result};
use crate::explain::{Depth, render_plan};
use crate::journal::{Actor, Options, Plan, Scene, execute};
use crate::namespaces::{Foreground, actions::Signals};
use crate::sys::record::{self, Arena};
use crate::sys::signal::Inherited;
use crate::ui;
use std::ffi::OsString;

/// The flags that every command with a plan has.
#[derive(clap::Args, Debug)]
pub struct PlanFlags {
    #[command(flatten)]
    explain: ExplainFlag,
    /// Print what would be done, by whom and why, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: print the plan as JSON.
    #[arg(long, requires = "dry_run")]
    json: bool,
}

/// The caller's environment, `NAME=value` each.
pub fn environment() -> Vec<OsString> {
    std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            entry
        })
        .collect()
}

/// The command, or the caller's shell where none was given.
pub fn command_or_shell(command: Vec<OsString>) -> Vec<OsString> {
    if !command.is_empty() {
        return command;
    }
    let shell = std::env::var_os("SHELL").filter(|s| !s.is_empty());
    vec![shell.unwrap_or_else(|| "/bin/sh".into())]
}

/// The signals as this process found them; read before anything is blocked.
pub fn signals() -> Signals {
    Signals::Inherited(Inherited::read())
}

/// Does what `flags` say with the plan, and returns the command's exit status.
pub fn carry_out(plan: &Plan, scene: &mut Scene, flags: &PlanFlags) -> Result<u8> {
    if flags.dry_run {
        if flags.json {
            ui::print_json(plan);
        } else {
            ui::out(render_plan(plan, flags.explain.depth(), ui::colour_stdout()));
        }
        return Ok(0);
    }
    if flags.explain.explain != Some(Depth::Json) {
        for warning in &plan.warnings {
            ui::warn(warning);
        }
    }
    if flags.explain.is_on() {
        record::install(Some(Arena::anonymous().context("cannot make the record")?));
    }
    let forks = plan.steps.iter().any(|s| s.actor == Actor::Init);
    let foreground = forks.then(Foreground::prepare).transpose()?;
    let options = Options {
        observe: flags.explain.is_on(),
        fail_after: std::env::var("GLASSBOX_FAIL_STEP").ok(),
    };
    let mut watch = flags.explain.watch();
    let mut running = execute(plan, scene, &mut *watch, &options)?;
    running.finish(scene, &mut *watch)?;
    drop(watch);
    match (foreground, &scene.child) {
        (Some(foreground), Some(child)) => foreground.wait(child),
        _ => Err(Error::kind(
            Kind::Failed,
            "the plan ended without a command (a fault in the plan)",
        )),
    }
}
