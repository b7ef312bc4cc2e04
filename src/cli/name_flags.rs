//! The flags of `run` and `create` that say what a container calls others.
//!
//! Interface: [`NameFlags`]. Read next: `container_flags.rs`, `containers/name_files.rs`.

use crate::containers::flags;
use crate::containers::model::HostConfig;
use crate::error::Result;

/// Names and resolvers.
#[derive(clap::Args, Debug, Default)]
pub struct NameFlags {
    /// A line for /etc/hosts; the address host-gateway is the host's
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "Names")]
    add_host: Vec<String>,
    /// Ask this resolver in place of the host's
    #[arg(long, value_name = "ADDRESS", help_heading = "Names")]
    dns: Vec<String>,
    /// Look for short names in this domain ("." for none)
    #[arg(long, value_name = "DOMAIN", help_heading = "Names")]
    dns_search: Vec<String>,
    /// An option for resolv.conf, as ndots:2
    #[arg(
        long,
        visible_alias = "dns-option",
        value_name = "OPTION",
        help_heading = "Names"
    )]
    dns_opt: Vec<String>,
    /// Know another container by this name
    #[arg(long, value_name = "CONTAINER[:ALIAS]", help_heading = "Names")]
    link: Vec<String>,
}

impl NameFlags {
    /// Puts them in. Errors: one that is malformed.
    pub fn apply(&self, host_config: &mut HostConfig) -> Result<()> {
        let all = |list: &[String], parse: fn(&str) -> Result<String>| {
            list.iter().map(|text| parse(text)).collect::<Result<_>>()
        };
        host_config.extra_hosts = all(&self.add_host, flags::host_entry)?;
        host_config.dns = all(&self.dns, flags::resolver)?;
        host_config.dns_search = all(&self.dns_search, flags::search_domain)?;
        host_config.dns_options = all(&self.dns_opt, flags::resolver_option)?;
        host_config.links = all(&self.link, flags::link)?;
        Ok(())
    }
}
