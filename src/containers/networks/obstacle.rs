//! What keeps this host from having the network `bridge`.
//!
//! Root's containers are in it unless they ask for another. A host on which that cannot work has
//! containers all the same: they have their loopback alone, and one line says why.
//!
//! What it does: looks, in a few calls and without changing anything. Where a container names the
//! network, its start fails with the kernel's own words instead.
//!
//! What it implements: capabilities(7), netlink(7), `net.ipv4.ip_forward` of the kernel's
//! networking/ip-sysctl. Interface: [`obstacle`], [`warning`]. Read next: `walls.rs`.

use super::super::store::Store;
use super::record;
use crate::error::{Context, Error, Result};
use crate::host;
use crate::network::nft;
use crate::sys;

const CAP_NET_ADMIN: u64 = 12;
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Why root's containers cannot be in the network `bridge` here; nothing where they can.
pub fn obstacle(store: &Store) -> Option<Error> {
    look(store).err()
}

fn look(store: &Store) -> Result<()> {
    let effective = sys::cred::capget()?.effective;
    if effective & (1 << CAP_NET_ADMIN) == 0 {
        return Err(Error::new("root lacks CAP_NET_ADMIN here"));
    }
    let forward = std::fs::read_to_string(FORWARD).context("the kernel has no IPv4")?;
    if forward.trim() != "1" {
        sys::fs::open(FORWARD, libc::O_WRONLY, 0)
            .context("net.ipv4.ip_forward is 0 and cannot be set")?;
    }
    nft::mark("").context("the kernel has no nftables")?;
    // A module that is loaded, or one that is built in, has a directory there; else we try.
    let probe = || host::probe::all().find(|p| p.name == "bridge");
    if !std::path::Path::new("/sys/module/bridge").exists()
        && let Some(host::probe::Ability::No { why, .. }) = probe().map(|p| (p.check)())
    {
        return Err(Error::new(format!("there can be no bridge: {why}")));
    }
    if record::predefined_bridge(store)?.pools.is_empty() {
        return Err(Error::new("all predefined address pools are in use"));
    }
    Ok(())
}

/// What is said at the start of a container of root's that has no network for that reason.
pub(super) fn warning(store: &Store) -> String {
    let why = match obstacle(store) {
        Some(e) => format!("{e:#}"),
        None => "when it was made this host could have no bridge".into(),
    };
    format!(
        "the container has no network but its loopback: {why} (--network none says that this is meant)"
    )
}
