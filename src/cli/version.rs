//! `glassbox version`: which one this is, in docker's keys.
//!
//! Read next: `system/info.rs`, which says more of the host.

use crate::error::Result;
use crate::host::Host;
use crate::ui::{self, template};
use serde_json::json;

/// Show which version this is, and of what kernel
///
/// Docker has two programs with a version each; here Client and Server are one.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glassbox version
  glassbox version --format '{{.Server.Version}}'")]
pub struct Args {
    /// A template of docker's keys, or `json`
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The whole as JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Runs it.
pub fn run(args: Args) -> Result<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let client = json!({
        "Platform": {"Name": "glassbox"},
        "Version": env!("CARGO_PKG_VERSION"),
        "Os": "linux",
        "Arch": architecture,
    });
    let mut server = client.clone();
    server["KernelVersion"] = Host::detect()?.kernel.clone().into();
    let facts = json!({"Client": client, "Server": server});
    match args.format.as_deref() {
        _ if args.json => ui::print_json(&facts),
        Some("json") => ui::out(&facts),
        Some(format) => ui::out(template::render(format, &facts)?),
        None => {
            for (key, value) in facts["Server"].as_object().into_iter().flatten() {
                let text = value.as_str().or(value["Name"].as_str()).unwrap_or_default();
                ui::out(format_args!("{key:<15}{text}"));
            }
        }
    }
    Ok(0)
}
