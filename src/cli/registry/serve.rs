//! `glassbox registry serve` and `gc`: a registry of our own.
//!
//! Interface: [`ServeArgs`], [`serve`], [`GcArgs`], [`gc()`]. Read next:
//! [`crate::registry::server`].

use crate::cli::status::of_flags;
use crate::error::{Error, Kind, Result};
use crate::registry::server::gc::{Options, collect};
use crate::cgroups::limits::{Limit, parse_size};
use crate::registry::server::limits::Limits;
use crate::registry::server::log::Format;
use crate::registry::server::storage::Storage;
use crate::registry::server::{self, Config, Upstream};
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
  glassbox registry serve --data /srv/mirror --upstream docker.io
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
    /// Be a cache of this registry: what is asked for is fetched from there once, and kept. Pushes are
    /// refused. As https://HOST[:PORT], http://HOST[:PORT] or docker.io.
    #[arg(long, value_name = "URL", conflicts_with = "read_only")]
    upstream: Option<String>,
    /// Who the cache is to the upstream, which without it is asked as anybody.
    #[arg(long, value_name = "NAME", requires_all = ["upstream", "upstream_password_file"])]
    upstream_user: Option<String>,
    /// A file with that user's password.
    #[arg(long, value_name = "FILE", requires = "upstream_user")]
    upstream_password_file: Option<PathBuf>,
    /// A directory with certificates for the upstream, as `pull --cert-dir` has.
    #[arg(long, value_name = "DIR", requires = "upstream")]
    upstream_cert_dir: Option<PathBuf>,
    /// How long the cache gives out a tag before it asks the upstream again what it names.
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "upstream")]
    upstream_ttl: String,
    /// How many connections are served at once; whoever comes then waits.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// How long a client may send nothing of what it began to send, or read nothing of its answer.
    #[arg(long, value_name = "TIME", default_value = "1m")]
    idle_timeout: String,
    /// The largest manifest that is taken.
    #[arg(long, value_name = "SIZE", default_value = "4M")]
    max_manifest: String,
    /// The form of the log of requests, which goes to stderr.
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

/// Remove what no manifest of a registry needs, while it is being served
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  glassbox registry gc --data /srv/registry --dry-run
  glassbox registry gc --data /srv/registry --untagged --grace 24h
  glassbox registry gc --data /srv/mirror --unused-for 7d")]
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
    /// Of a cache (`serve --upstream`): also forget tags that nobody has asked for this long, and what
    /// then nothing leads to. Whoever asks for it later makes it come again.
    #[arg(long, value_name = "TIME")]
    unused_for: Option<String>,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `serve`.
pub fn serve(a: ServeArgs) -> Result<u8> {
    let ttl = duration(&a.upstream_ttl)?;
    let upstream = a.upstream.map(|url| Upstream {
        url,
        login: a.upstream_user.zip(a.upstream_password_file),
        cert_dir: a.upstream_cert_dir,
        ttl,
    });
    server::serve(&Config {
        listen: a.listen,
        data: a.data,
        tls: a.tls_cert.zip(a.tls_key),
        htpasswd: a.htpasswd,
        read_only: a.read_only,
        upstream,
        limits: Limits {
            connections: a.max_connections as usize,
            idle: duration(&a.idle_timeout)?.max(Duration::from_secs(1)),
            manifest: match of_flags(parse_size(&a.max_manifest))? {
                Limit::Value(bytes) => bytes,
                // It is held in memory.
                Limit::Max => 1 << 30,
            },
        },
        log: a.log_format,
    })?;
    Ok(0)
}

fn duration(text: &str) -> Result<Duration> {
    let wrong = || {
        let what = format!("{text:?} is no length of time");
        Error::kind(Kind::BadFlag, what).hint("write it as 90s, 15m, 24h or 7d")
    };
    if let Some(days) = text.strip_suffix('d').and_then(|n| n.parse::<u32>().ok()) {
        return Ok(Duration::from_secs(u64::from(days) * 24 * 3600));
    }
    time::parse_duration(text).map(Duration::from_nanos).ok_or_else(wrong)
}

/// Runs `gc`.
pub fn gc(a: GcArgs) -> Result<u8> {
    let options = Options {
        grace: duration(&a.grace)?,
        untagged: a.untagged,
        unused_for: a.unused_for.as_deref().map(duration).transpose()?,
        dry_run: a.dry_run,
    };
    let report = collect(&Storage::open(&a.data)?, &options)?;
    if a.json {
        ui::print_json(&report);
        return Ok(0);
    }
    let done = if a.dry_run { "would remove" } else { "removed" };
    ui::out(format_args!(
        "{done} {} tags, {} manifests, {} blobs of {} repositories, {} uploads; {} files with {} bytes freed",
        report.tags,
        report.manifests,
        report.blobs,
        report.repositories,
        report.uploads,
        report.files,
        report.bytes
    ));
    Ok(0)
}
