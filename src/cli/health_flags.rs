//! The flags of health checks, of `run` and `create`.
//!
//! Interface: [`HealthFlags`]. Read next: `container_flags.rs`;
//! [`crate::containers::health`] runs the checks.

use crate::containers::flags::health_duration;
use crate::error::{Error, Kind, Result};
use crate::spec::image::Healthcheck;

/// How to see that a container is healthy.
#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Health")]
pub struct HealthFlags {
    /// Command that checks: status 0 is healthy
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two checks [30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_interval: Option<String>,
    /// Time until a check has failed [30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_timeout: Option<String>,
    /// Failures in a row until it is unhealthy [3]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    health_retries: Option<i64>,
    /// Time to start up, in which failures do not count [0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_period: Option<String>,
    /// Time between two checks while it starts up [5s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    health_start_interval: Option<String>,
    /// No check, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// What was said; nothing leaves it to the image. Errors: a value that is none.
    pub fn check(&self) -> Result<Option<Healthcheck>> {
        let time = |flag: &str, value: &Option<String>| match value {
            Some(text) => health_duration(flag, text),
            None => Ok(0),
        };
        let check = Healthcheck {
            test: match &self.health_cmd {
                Some(line) if !line.is_empty() => vec!["CMD-SHELL".into(), line.clone()],
                _ => Vec::new(),
            },
            interval: time("health-interval", &self.health_interval)?,
            timeout: time("health-timeout", &self.health_timeout)?,
            start_period: time("health-start-period", &self.health_start_period)?,
            start_interval: time("health-start-interval", &self.health_start_interval)?,
            retries: self.health_retries.unwrap_or(0),
            ..Healthcheck::default()
        };
        let usage = |text: &'static str| Err(Error::kind(Kind::Usage, text));
        if check.retries < 0 {
            return usage("--health-retries cannot be negative");
        }
        let said = check != Healthcheck::default();
        match (self.no_healthcheck, said) {
            (true, true) => usage("--no-healthcheck conflicts with --health-* options"),
            (true, false) => Ok(Some(Healthcheck {
                test: vec!["NONE".into()],
                ..Healthcheck::default()
            })),
            (false, true) => Ok(Some(check)),
            (false, false) => Ok(None),
        }
    }
}
