//! `glassbox cp`: files between a container and the host.
//!
//! Read next: [`crate::containers::files::copy`].

use super::own_namespace::{When, command_again};
use crate::containers::files::copy::{self, Options, Side};
use crate::containers::files::view::View;
use crate::containers::store::Store;
use crate::error::{Context, Error, Kind, Result};
use crate::ui;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Copy files between a container and the host, or as a tar by stdin or stdout
///
/// The container may run or not. Its links lead nowhere but in it. A directory whose path ends in
/// `/.` stands for its content.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox cp web:/etc/nginx/nginx.conf .
  glassbox cp ./site/. web:/srv/www
  glassbox cp web:/var/log - | tar tf -
  tar c site | glassbox cp - web:/srv")]
pub struct Args {
    /// Keep owners (else files belong to root in the container, to you outside)
    #[arg(short, long)]
    archive: bool,
    /// Follow a link in SOURCE
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Where the state is kept
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// CONTAINER:PATH, a path, or - for a tar on stdin
    source: String,
    /// CONTAINER:PATH, a path, or - for a tar on stdout
    destination: String,
}

/// `CONTAINER:PATH`; a path that begins with `/` or `.` is the host's, whatever colons it has.
fn split(text: &str) -> Option<(&str, &Path)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    let (name, path) = text.split_once(':')?;
    (!name.is_empty()).then_some((name, Path::new(path)))
}

fn of_host(text: &str) -> Result<PathBuf> {
    let path = std::path::absolute(text).with_context(|| format!("cannot resolve {text}"))?;
    // What `absolute` takes away says what is meant.
    let end = if text == "." || text.ends_with("/.") { "/." } else { "" };
    let mut whole = path.into_os_string();
    whole.push(end);
    Ok(whole.into())
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let store = Store::open(args.root.as_deref())?;
    let options = Options { archive: args.archive, follow: args.follow_link };
    if let (Some((name, _)), None) | (None, Some((name, _))) = (split(&args.source), split(&args.destination)) {
        command_again(&store, &store.find(name)?, When::Ended)?;
    }
    let open = |name: &str, path: &Path| -> Result<(View, Side)> {
        let container = store.find(name)?;
        // The whole root is copied without what is mounted in it: nobody means /proc.
        let whole = path.components().all(|c| c == std::path::Component::RootDir);
        let view = View::open(&store, &container, !whole)?;
        let side = Side::container(container.name(), view.root())?;
        Ok((view, side))
    };
    let size = match (split(&args.source), split(&args.destination)) {
        (Some(_), Some(_)) => {
            return Err(Error::kind(Kind::Usage, "copying between containers is not supported")
                .hint("glassbox cp ONE:PATH - | glassbox cp - OTHER:PATH"));
        }
        (None, None) => {
            return Err(Error::kind(Kind::Usage, "must specify at least one container source")
                .hint("CONTAINER:PATH on one side; ./NAME for a file of the host's with a colon"));
        }
        (Some((name, path)), None) => {
            let (_view, side) = open(name, path)?;
            if args.destination == "-" {
                let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
                copy::pack(&side, path, options, &mut out)?;
                out.flush().context("cannot write to stdout")?;
                return Ok(0);
            }
            copy::copy(&side, path, &Side::host()?, &of_host(&args.destination)?, options)?
        }
        (None, Some((name, path))) => {
            // Before the root of a stopped one is mounted: then this process is elsewhere.
            let host = Side::host()?;
            let source = of_host(&args.source)?;
            refuse_read_only(&store, name, path)?;
            let (_view, side) = open(name, Path::new("x"))?;
            if args.source == "-" {
                copy::unpack(std::io::stdin(), &side, path)?;
                return Ok(0);
            }
            copy::copy(&host, &source, &side, path, options)?
        }
    };
    if !args.quiet {
        ui::note(format!("Successfully copied {} to {}", ui::size(size), args.destination));
    }
    Ok(0)
}

/// The root of one that does not run is mounted for us, and would take what it must not.
fn refuse_read_only(store: &Store, name: &str, path: &Path) -> Result<()> {
    let container = store.find(name)?;
    let place = Path::new("/").join(path);
    let mut points = container.record.mount_points.iter();
    let own = points.any(|p| place.starts_with(&p.destination));
    match container.record.host_config.readonly_rootfs && !own {
        true => Err(Error::kind(Kind::Conflict, "container rootfs is marked read-only")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths_are_told_apart() {
        assert_eq!(split("web:/etc"), Some(("web", Path::new("/etc"))));
        assert_eq!(split("web:etc"), Some(("web", Path::new("etc"))));
        for host in ["/a:b", "./a:b", "../a:b", "plain", "-", ":x"] {
            assert_eq!(split(host), None, "{host}");
        }
        assert!(of_host("x/.").unwrap().as_os_str().to_string_lossy().ends_with("/x/."));
    }
}
