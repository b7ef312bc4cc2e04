//! `glassbox registry serve` and `gc`: a registry of our own.
//!
//! Interface: [`ServeArgs`], [`serve`], [`GcArgs`], [`gc()`]. Read next:
//! [`crate::registry::server`].

use crate::error::{Error, Kind, Result};
use crate::registry::server::gc::{Options, collect};
use crate::registry::server::log::Format;
use crate::registry::server::storage::Storage;
use crate::registry::server::{self, Config};
use crate::spec::time;
use crate::ui;
use std::path::PathBuf;
use std::time::Duration;

/// Serve a registry out of a directory, until SIGTERM
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry serve --data /srv/registry
  glassbox registry serve --listen :5000 --data /srv/registry --htpasswd users --tls-cert c.pem --tls-key k.pem
  glassbox push localhost:5000/app:1")]
pub struct ServeArgs {
    /// Where: ADDRESS:PORT, or :PORT for all addresses; port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: String,
    /// The directory of its data. Each repository in it is an OCI image layout.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Who may use it: a file of `htpasswd -B`. It is read again when it changes.
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// A certificate and its chain (PEM): speak TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let nobody push or delete. Several such servers may share a directory with one that writes.
    #[arg(long)]
    read_only: bool,
    /// The form of the log of requests, which goes to stderr.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// Remove what no manifest of a registry needs, while it is being served
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry gc --data /srv/registry --dry-run
  glassbox registry gc --data /srv/registry --untagged --grace 24h")]
pub struct GcArgs {
    /// The directory that `serve` has.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Keep what was pushed or asked for within this time: its manifest may be on its way.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    grace: String,
    /// Also remove manifests that no tag leads to, directly, through an index or as a subject.
    #[arg(long)]
    untagged: bool,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `serve`.
pub fn serve(a: ServeArgs) -> Result<u8> {
    server::serve(&Config {
        listen: a.listen,
        data: a.data,
        tls: a.tls_cert.zip(a.tls_key),
        htpasswd: a.htpasswd,
        read_only: a.read_only,
        log: a.log_format,
    })?;
    Ok(0)
}

/// Runs `gc`.
pub fn gc(a: GcArgs) -> Result<u8> {
    let nanoseconds = time::parse_duration(&a.grace).ok_or_else(|| {
        let what = format!("{:?} is no length of time", a.grace);
        Error::kind(Kind::Usage, what).hint("write it as 90s, 15m or 24h")
    })?;
    let options = Options {
        grace: Duration::from_nanos(nanoseconds),
        untagged: a.untagged,
        dry_run: a.dry_run,
    };
    let report = collect(&Storage::open(&a.data)?, &options)?;
    if a.json {
        ui::print_json(&report);
        return Ok(0);
    }
    let done = if a.dry_run { "would remove" } else { "removed" };
    ui::out(format_args!(
        "{done} {} manifests, {} blobs of {} repositories, {} uploads; {} files with {} bytes freed",
        report.manifests, report.blobs, report.repositories, report.uploads, report.files, report.bytes
    ));
    Ok(0)
}
