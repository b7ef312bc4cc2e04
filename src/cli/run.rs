//! `glassbox run`: create a container, start it, and stay attached until it ends.
//!
//! Read next: `container_flags.rs` (the flags), [`crate::containers::start`].

use super::container_flags::ContainerFlags;
use super::explain_flag::ExplainFlag;
use crate::containers::attach::{Message, Wants};
use crate::containers::client::{self, Attached};
use crate::containers::{create, lifecycle, prepare, reconcile, remove, start, store::Store, volumes};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::journal::{Options, Plan};
use crate::{runtime, ui};
use std::io::IsTerminal;
use std::os::fd::OwnedFd;

/// Create a container and run a command in it
///
/// Root's container is in the network `bridge` unless --network says otherwise, or $GLASSBOX_NETWORK
/// does (none, host); an ordinary user's has a network where pasta or slirp4netns is
/// installed.
#[derive(clap::Args)]
#[command(disable_help_flag = true, after_help = "Examples:
  glassbox run -it lab sh                       a shell in a container
  glassbox run --rm --explain lab uname -a      run it and tell how it is made
  glassbox run --dry-run lab sh                 show the plan without doing it
  glassbox run -d --name web -m 64m lab sleep 60
  glassbox run --rm --rootfs ./debian bash -c 'cat /etc/os-release'")]
pub struct Args {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: String,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Show the plan and do nothing
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: the plan as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
    #[command(flatten)]
    explain: ExplainFlag,
    #[command(flatten)]
    flags: ContainerFlags,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let flags = &args.flags;
    let keys = client::parse_keys(&args.detach_keys)?;
    if args.detach && flags.rm && flags.restart.as_deref().is_some_and(|r| r != "no") {
        return Err(Error::kind(Kind::Usage, "conflicting options: cannot specify both --restart and --rm"));
    }
    if flags.tty && flags.interactive && !args.detach && !args.dry_run && !std::io::stdin().is_terminal() {
        return Err(Error::kind(Kind::Usage, "the input device is not a TTY")
            .hint("leave -t out when stdin is a pipe"));
    }
    let streams = flags.streams(args.detach)?;
    flags.check_cidfile()?;
    let store = Store::open(flags.root.as_deref())?;
    let wish = flags.wish(args.detach)?;
    let image = flags.find_image(&store)?;
    let container = create::draft(&store, wish, &image)?;
    let host = Host::detect()?;
    let prepared = prepare::prepare(&store, &container, &image, &host, client::window_size())?;
    if args.dry_run {
        return dry_run(&args, &store, &container, prepared, &host);
    }
    prepared.plan.warnings.iter().for_each(ui::warn);

    let options = options(args.explain.is_on());
    start::begin_recording("run", args.explain.is_on())?;
    let mut watch = args.explain.watch();
    let made = create::create(&store, &container, &mut *watch, &options)?;
    // From here on a failure must take the container away again: this command made it.
    let wants = Wants { output: !args.detach, input: flags.interactive && streams.stdin };
    let started = flags
        .write_cidfile(container.id())
        .and_then(|()| container.lock())
        .and_then(|lock| start::start(&container, prepared, &host, wants, watch, &options, lock));
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            return Err(match discard(&container, &made).and_then(|()| flags.remove_cidfile()) {
                Ok(()) => error,
                Err(more) => error.hint(format!("and the container could not be removed: {more:#}")),
            });
        }
    };
    if args.detach {
        ui::out(container.id());
        return Ok(0);
    }
    let attach = client::Options {
        tty: flags.tty,
        input: flags.interactive && streams.stdin,
        outputs: (streams.stdout, streams.stderr),
        proxy: args.sig_proxy.then_some(started.pid).filter(|_| !(flags.tty && flags.interactive)),
        keys,
    };
    let status = follow(&container, started.socket, &started.record, &attach);
    // The process ends next, and its end is the cheaper way to unmap.
    std::mem::forget(started.record);
    status
}

/// Stays attached to a container until it ends or the user leaves: the command's exit status. When
/// its monitor is killed, another takes over, and we attach to that.
pub fn follow(
    container: &crate::containers::Container,
    mut socket: OwnedFd,
    record: &start::Shared,
    options: &client::Options,
) -> Result<u8> {
    loop {
        match client::attach(&socket, options)? {
            Attached::Ended(code) => return Ok(code as u8),
            Attached::Detached | Attached::OutputClosed => return Ok(0),
            Attached::Left(signal) => return Ok(128 + signal as u8), // as if it had killed us
            Attached::MonitorGone => record.save(container),
        }
        // A dying process closes its socket before its lock, so this may take more than one look.
        let Some(next) = lifecycle::reach(container)? else {
            let status = reconcile::status(container)?;
            if status.error.is_empty() {
                return Ok(status.exit_code as u8); // it had come to its end before it heard of us
            }
            return Err(Error::new(format!("the monitor of container {} was killed", container.name()))
                .caused_by(Error::new(status.error)));
        };
        ui::warn("the container's monitor was killed, and another took over; what was written meanwhile is in its log");
        let wants = Wants { output: true, input: options.input };
        // Should that one be gone already, reading says so.
        let _ = crate::sys::socket::send(&next, &Message::Attach(wants).encode());
        socket = next;
    }
}

/// `GLASSBOX_FAIL_STEP` makes a step fail on purpose, for the tests of rollback.
pub fn options(observe: bool) -> Options {
    Options {
        observe,
        fail_after: std::env::var("GLASSBOX_FAIL_STEP").ok().filter(|s| !s.is_empty()),
    }
}

/// Takes a container away that this command made and could not finish, and the volumes that it made
/// for it.
pub fn discard(container: &crate::containers::Container, made: &[String]) -> Result<()> {
    reconcile::clear(container)?;
    remove::remove_directories(container, true)?;
    let store = Store::of(container);
    let _names = store.lock_names()?;
    volumes::remove_unused(&store, made)
}

fn dry_run(
    args: &Args,
    store: &Store,
    container: &crate::containers::Container,
    prepared: prepare::Prepared,
    host: &Host,
) -> Result<u8> {
    let request = runtime::Request {
        id: container.id(),
        spec: &prepared.spec,
        bundle: &container.dir,
        host,
        group: runtime::group_of(&prepared.spec, host)?,
        stdio: prepare::stdio(container),
        wishes: prepare::wishes(container, host, prepared.networks.clone())?,
    };
    let mut plan: Plan = create::plan(store, container)?;
    for part in [prepared.plan, runtime::plan(&request)?] {
        plan.steps.extend(part.steps);
        plan.warnings.extend(part.warnings);
    }
    if args.json {
        ui::print_json(&plan);
    } else {
        ui::out(crate::explain::render_plan(&plan, args.explain.depth(), ui::colour_stdout()));
    }
    Ok(0)
}
