//! `glassbox layer mount` and `glassbox layer umount`: overlayfs by hand.
//!
//! Read next: `whence.rs`; the work is done by [`crate::layers::overlay`].

use crate::cli::explain_flag::ExplainFlag;
use crate::cli::image::Root;
use crate::error::{Context, Result};
use crate::explain::render_plan;
use crate::journal::{Options, Plan, Scene, Stage, Step, execute};
use crate::layers::overlay::{self, MountOverlay, Unmount};
use crate::sys::record::{self, Arena};
use crate::ui;
use std::path::PathBuf;

/// Mount a stack of directories as one tree.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox layer mount --lower top --lower below --upper changes --work scratch /mnt
  glassbox layer mount --image lab /mnt            an image, read-only
  glassbox layer mount --image debian --upper u --work w --explain=all /mnt")]
pub struct MountArgs {
    /// A read-only directory; the first is on top. Repeatable, up to the kernel's 500.
    #[arg(long = "lower", value_name = "DIR", required_unless_present = "image")]
    lowers: Vec<PathBuf>,
    /// Below these, the layers of this image.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// A directory that takes the changes; without it the mount is read-only.
    #[arg(long, value_name = "DIR", requires = "work")]
    upper: Option<PathBuf>,
    /// An empty directory for the kernel's own use, on the file system of --upper.
    #[arg(long, value_name = "DIR", requires = "upper")]
    work: Option<PathBuf>,
    /// Mount read-only although there is an upper directory.
    #[arg(long)]
    read_only: bool,
    /// Further options: volatile, index=off, nosuid, nodev, noexec… Separated by commas.
    #[arg(short, long, value_delimiter = ',', value_name = "OPTION")]
    options: Vec<String>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    explain: ExplainFlag,
    /// Where to mount; made if it is missing.
    target: PathBuf,
    #[command(flatten)]
    root: Root,
}

fn absolute(path: &PathBuf) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot resolve {}", path.display()))
}

/// Runs `mount`.
pub fn mount(args: MountArgs) -> Result<u8> {
    let mut lowers: Vec<PathBuf> = args.lowers.iter().map(absolute).collect::<Result<_>>()?;
    if let Some(name) = &args.image {
        let store = args.root.store()?;
        lowers.extend(store.lowers(&store.find(name)?)?);
    }
    let action = MountOverlay {
        lowers,
        upper: args.upper.as_ref().map(absolute).transpose()?,
        work: args.work.as_ref().map(absolute).transpose()?,
        target: absolute(&args.target)?,
        read_only: args.read_only,
        options: args.options,
    };
    let target = action.target.clone();
    let why = "several directories become one tree: the top one wins, changes go to the upper one";
    let mut plan = Plan::default();
    plan.steps.push(Step::parent(Stage::Layers, "overlay", why, action));
    let made = !args.dry_run && !target.exists();
    let before = || overlay::ensure_directory(&target);
    carry_out(plan, &args.explain, args.dry_run, before).inspect_err(|_e| {
        if made {
            let _ = std::fs::remove_dir(&target); // the first failure says more
        }
    })
}

fn carry_out(
    plan: Plan,
    explain: &ExplainFlag,
    dry_run: bool,
    before: impl FnOnce() -> Result<()>,
) -> Result<u8> {
    if dry_run {
        ui::out(render_plan(&plan, explain.depth(), ui::colour_stdout()));
        return Ok(0);
    }
    before()?;
    if explain.is_on() {
        record::install(Some(Arena::anonymous().context("cannot make the record")?));
    }
    let options = Options {
        observe: explain.is_on(),
        ..Options::default()
    };
    let mut watch = explain.watch();
    let mut scene = Scene::default();
    execute(&plan, &mut scene, &mut *watch, &options)?.finish(&mut scene, &mut *watch)?;
    Ok(0)
}

/// Unmount what is on top at a directory.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  glassbox layer umount /mnt")]
pub struct UmountArgs {
    #[command(flatten)]
    explain: ExplainFlag,
    /// The mount points.
    #[arg(required = true, value_name = "TARGET")]
    targets: Vec<PathBuf>,
}

/// Runs `umount`.
pub fn umount(args: UmountArgs) -> Result<u8> {
    let mut plan = Plan::default();
    for target in &args.targets {
        let target = absolute(target)?;
        let id = format!("umount {}", target.display());
        let why = "what was seen through the mount is no more; the directories below it stay";
        plan.steps.push(Step::parent(Stage::Layers, id, why, Unmount { target }));
    }
    carry_out(plan, &args.explain, false, || Ok(()))
}
